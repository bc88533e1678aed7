/* Plan and templates to C. */
#ifndef MESH_PASS_RENDER_H
#define MESH_PASS_RENDER_H

#include "ir/plan.h"
#include "pass/passes.h"

/* The templates, carried in the program; the last has no name. */
struct template_file {
	const char *name, *text;
};
extern const struct template_file template_files[];

/* policy.h with its region rewritten for PLAN: sizes, and each rule as a comment. NULL where the
 * template has no region (a bug). */
const char *render(struct run *run, const struct plan *plan);

/* The whole program as one text, as --emit=c prints it: POLICY_H and the templates in order. */
const char *render_whole(struct run *run, const char *policy_h);

#endif
