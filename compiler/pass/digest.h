/* The policy digest: what is enforced, not how it was written. */
#ifndef MESH_PASS_DIGEST_H
#define MESH_PASS_DIGEST_H

#include "pass/passes.h"

/* "sha256:..." over the lowered policy (which is the same for every order of the text) and the
 * templates. Positions, comments, tests and `never` are not in it. */
const char *policy_digest(struct run *run);

/* COND (NULL: always) as text that neither the order nor the brackets of a chain of `and` or `or` change. */
const char *digest_condition(struct arena *arena, const struct cond *cond);

#endif
