/* Proof vectors: what meshd replays on its own kernel before it switches. */
#ifndef MESH_PASS_PROVE_H
#define MESH_PASS_PROVE_H

#include "ir/plan.h"
#include "pass/passes.h"

enum { PROVE_LIMIT_DECISIONS = 32768, PROVE_LIMIT_ADDRESSES = 8192 };

/* Fills plan->vectors, addresses, packets. The expected verdicts come from the diagram, never from
 * the tables that they test. */
void prove(struct run *run, struct plan *plan);

/* The vector for one point of the L4 space, with what the diagram says of it. */
struct mesh_vector prove_vector(const struct run *run, uint32_t src, uint32_t block, uint32_t dst, bool udp,
				uint32_t port, enum mesh_via via);

#endif
