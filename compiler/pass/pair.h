/* Two policies over one universe, so that their diagrams can be walked side by side: sources and address
 * blocks of one number are the same in both; destinations are paired; a string field of a pair is told
 * apart by the conditions of both. */
#ifndef MESH_PASS_PAIR_H
#define MESH_PASS_PAIR_H

#include "pass/passes.h"

enum side { OLD, NEW, SIDES };

/* A source, whatever it is to either policy. */
struct pair_source {
	const char *name;     /* "shop/frontend", "shop/-", "ci/deployer" */
	enum class_kind kind; /* SERVICE, NAMESPACE; IDENTITY: whoever shows the ID */
	const char *ns, *spiffe;
};

/* A destination: its class in either policy. */
struct pair_target {
	const char *name;
	enum class_kind kind; /* WORLD and EXTERNAL: by the address */
	uint32_t dst[SIDES];
	bool known[SIDES]; /* SERVICE: declared there */
};

/* A cidr, by the blocks that lie in it. */
struct pair_cidr {
	const char *name;
	uint32_t *blocks, count;
};

struct pair {
	struct arena *arena;
	struct run *runs[SIDES];
	VEC(struct pair_source) sources; /* by class */
	VEC(struct pair_target) targets;
	VEC(struct pair_cidr) cidrs[SIDES];
	struct diagram *diagrams[SIDES];
};

/* The runs went through all passes; their policies are made anew. 0, -E2BIG over a bound of both together. */
int pair_make(struct arena *arena, struct run *old, struct run *new, struct pair *ret_pair);

/* pass/lower_pair.c, pass/decide.c: its steps. */
void lower_pair(struct pair *pair);
int decide_pair(struct pair *pair);

#endif
