/* Shared by pass/diff*.c: nodes of both policies, side by side. */
#ifndef MESH_PASS_DIFF_WALK_H
#define MESH_PASS_DIFF_WALK_H

#include "base/table.h"
#include "ir/witness.h"
#include "pass/diff.h"

enum { WALK_VERDICT, WALK_ROUTE = SIDES, WALK_NODES = 2 * SIDES }; /* verdict old, new; route old, new */

struct tuple {
	uint32_t context; /* see struct context */
	node_id at[WALK_NODES];
};
/* From tuples to numbers: open addressing. */
struct tuples {
	struct tuple_slot {
		struct tuple key;
		uint32_t value; /* + 1; 0: free */
	} *at;
	size_t len, cap;
};
bool tuples_get(const struct tuples *tuples, const struct tuple *key, uint32_t *ret_value);
void tuples_put(struct arena *arena, struct tuples *tuples, const struct tuple *key, uint32_t value);

/* What a terminal means depends on the destination. */
struct context {
	bool default_allows[SIDES], default_audits[SIDES];
	bool opaque; /* these ports carry no requests: every string field is absent */
	const struct diagram_fields *fields;
};

/* An outcome, and strings that come to it; by string field. */
struct found {
	uint32_t outcome;
	const char **texts;
};
/* What a leaf of the difference stands for: one outcome of the connection, or several of its requests. */
struct leaf {
	VEC(struct found) found;
};
struct outcome_set {
	uint32_t *at, count;
};

struct walk {
	struct diff *diff;
	const struct diagram *diagrams[WALK_NODES];
	VEC(struct context) contexts;
	VEC(struct leaf) leaves;
	VEC(struct outcome_set) sets;
	VEC(uint32_t) arms[SIDES]; /* by arm: number of its shares */
	struct tuples built, reached, selected;
	struct table outcome_index;
	struct witnesses witnesses;
};

/* True where the four nodes settle it: the number of the outcome, or UINT32_MAX where nothing changes. */
bool walk_outcome(struct walk *walk, const struct tuple *tuple, bool l7, uint32_t *ret_outcome);
uint32_t walk_intern(struct walk *walk, const struct diff_outcome *outcome);
/* Who decides on SIDE, where its verdict is settled. */
uint32_t walk_by(const struct walk *walk, const struct tuple *tuple, enum side side);

/* The level of the highest of the four; UINT32_MAX: all are terminals. */
uint32_t walk_level(const struct walk *walk, const struct tuple *tuple);
/* One stretch after the other of LEVEL's values: the nodes below in *RET_BELOW, its last value in *RET_HI. */
struct stretches {
	const struct diagram_edge *edges[WALK_NODES];
	uint32_t counts[WALK_NODES], next[WALK_NODES];
};
struct stretches walk_stretches(const struct walk *walk, const struct tuple *tuple, uint32_t level);
bool walk_stretch(struct stretches *stretches, const struct tuple *tuple, struct tuple *ret_below, uint32_t *ret_hi);

/* pass/diff_hunt.c: what changes among the requests of a connection whose string fields are still to be read. */
void hunt(struct walk *walk, const struct tuple *tuple, struct leaf *leaf);

#endif
