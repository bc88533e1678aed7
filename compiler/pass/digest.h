/* The policy digest: what is enforced, not how it was written. */
#ifndef MESH_PASS_DIGEST_H
#define MESH_PASS_DIGEST_H

#include "pass/passes.h"

/* "sha256:..." over the lowered policy (which is the same for every order of the text) and the
 * templates. Positions, comments, tests and `never` are not in it. */
const char *policy_digest(struct run *run);

#endif
