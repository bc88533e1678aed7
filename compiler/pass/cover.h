/* Which rules decide the requests that a rule matches. */
#ifndef MESH_PASS_COVER_H
#define MESH_PASS_COVER_H

#include "ir/diagram_build.h"

enum { COVER_NAMES = 3 };

struct cover {
	uint32_t ranks[COVER_NAMES]; /* the first that were met, in no order */
	uint32_t count;
	bool allow;   /* a rule allows some of them */
	bool gave_up; /* there are more rules than names, or not all was looked at */
};

/* ROOT: a diagram of verdicts to DST, or what DIAGRAM_SECOND makes of them. RULE: a boolean diagram. What the
 * default decides is left out. Adds to COVER; stops once it has given up and met an allow. */
void cover_add(struct diagram *diagram, node_id root, node_id rule, struct cover *cover);

/* "'a', 'b' and others" */
const char *cover_names(struct arena *arena, const struct policy *policy, const struct cover *cover);

#endif
