/* Fixes that take a declaration away. */
#ifndef MESH_PASS_REMOVAL_H
#define MESH_PASS_REMOVAL_H

#include "pass/passes.h"

/* The declaration that begins at SPAN might go; SURE: nothing would be enforced otherwise, as far as the finding
 * tells. A deny is never taken away for sure: what it guards against may come. */
void removal_offer(struct diag *diag, struct span span, bool sure);

/* Of the diagnostics from number FIRST on: what each such fix takes away, and whether it is sure still. */
void removal_finish(struct run *run, size_t first);

#endif
