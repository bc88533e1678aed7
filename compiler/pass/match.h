#ifndef MESH_PASS_MATCH_H
#define MESH_PASS_MATCH_H

#include "base/inventory.h"
#include "pass/passes.h"

/* Selectors against real workloads: labels and values that are nearly one that some workload has, services and
 * subsets without a workload, workloads of two services; and match_addresses. Queues findings; the policy is
 * lowered already. */
void match_inventory(struct run *run, const struct inventory *inventory);

/* pass/match_addresses.c: addresses inside of blocks that the policy names. */
void match_addresses(struct run *run, const struct inventory *inventory);

#endif
