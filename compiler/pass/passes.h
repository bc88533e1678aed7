/* The passes, in order. Each is a file with one way in. */
#ifndef MESH_PASS_PASSES_H
#define MESH_PASS_PASSES_H

#include "base/diag.h"
#include "ir/diagram.h"
#include "ir/policy.h"

struct ast;

/* Everything that one run knows. */
struct run {
	struct arena *arena;
	struct sources sources;
	struct diags diags;
	const char *now; /* --now YYYY-MM-DD or NULL */
	struct ast *ast;
	struct policy *policy;
	struct diagram *diagram;
};

/* parse, resolve, check, lower, decide, analyze: stops behind the first pass that reported errors.
 * 0, -EINVAL with diagnostics queued, or a negative errno. */
int pipeline_run(struct run *run);
/* Only as far as the ast (fmt). */
int pipeline_parse(struct run *run);

/* The front end; each queues what is wrong and goes on. Behind an error the next is not called. */
void parse(struct run *run);   /* pass/parse.c: text to ast */
void resolve(struct run *run); /* pass/resolve.c: names bound */
void check(struct run *run);   /* pass/check.c: types and values */
void lower(struct run *run);   /* pass/lower.c: ast to policy */

/* Common to the verbs: options that every verb takes, taken out of argv. */
struct options {
	const char *output; /* -o */
	const char *format; /* --format, default "text" */
	bool color;
	const char *now, *inventory;
	bool fail_warning; /* --fail-level warning */
};

#endif
