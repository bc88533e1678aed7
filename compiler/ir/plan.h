/* The plan: the diagram as the tables of bpf-templates/plan.h, sized and filled. */
#ifndef MESH_IR_PLAN_H
#define MESH_IR_PLAN_H

#include "abi.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>
#include <plan.h> /* bpf-templates */

enum { PLAN_LIMIT_BYTES = 64 << 20, PLAN_LIMIT_OUTCOMES = 65535 };

struct plan_range {
	uint32_t first, count; /* cells; the nodes are made of these, and only they are in the object */
};

struct plan {
	uint32_t classes, blocks, rules, sets, audit_sets, columns_count;
	VEC(struct plan_node) nodes; /* by face * classes + class; behind them the second level */
	VEC(struct plan_cell) cells;
	VEC(struct plan_range) ranges; /* of the nodes by face and class: what they lead to */
	VEC(uint32_t) bounds;	       /* the first key of each cell */
	VEC(struct plan_comb) combs;
	VEC(uint16_t) matrix, columns;
	VEC(struct plan_outcome) outcomes;
	VEC(uint16_t) by_block;
	VEC(struct plan_interval) intervals;
	VEC(uint16_t) interval_block, block_dst, class_arm;
	VEC(struct plan_arm) arms;
	VEC(struct plan_split) splits;
	VEC(struct mesh_vector) vectors;
	VEC(struct mesh_address_vector) addresses;
	VEC(struct mesh_packet_vector) packets;
	bool has_set_retval, asks_verified;
};

/* Steps of the branchless search over the address intervals. */
uint32_t plan_interval_steps(const struct plan *plan);
/* Of all tables together. */
size_t plan_bytes(const struct plan *plan);

#endif
