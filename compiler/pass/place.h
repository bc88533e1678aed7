/* Diagram to plan. */
#ifndef MESH_PASS_PLACE_H
#define MESH_PASS_PLACE_H

#include "ir/plan.h"
#include "pass/passes.h"

/* Queues an error for each line that a node cannot enforce yet (L7, mTLS, routes per request).
 * 0 or -ENOTSUP. */
int place_check_enforceable(struct run *run);

/* 0, -ENOTSUP, or -E2BIG with the bound queued. */
int place(struct run *run, struct plan **ret_plan);

#endif
