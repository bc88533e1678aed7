/* How a diagram lies in a policy object's .rodata. Written by the compiler (pass/place.c), walked
 * by verdict.h: a flat layout, so that a decision costs the same at ten identities and ten thousand.
 *
 * A face (verdicts, audits, routes) of a destination is a node, number face * classes + destination: the
 * last (protocol, port) of each of its ways leads to a cell; where there are more intervals than ways, to
 * a node of the second level, and by that to a cell. The cell names a row of the comb (sources of their
 * own) and a row of the matrix (sets of sources); what the comb says of a source goes before what the
 * matrix says. */
#ifndef MESH_PLAN_H
#define MESH_PLAN_H

#ifdef __bpf__
#include "bpf.h"
#else
#include <linux/types.h>
#endif

/* VERIFIED: of a peer that showed its certificate. A destination whose rules do not ask for that has the
 * same cells twice; a policy that never asks has no such faces (PLAN_ASKS_VERIFIED). */
enum plan_face { PLAN_VERDICTS, PLAN_AUDITS, PLAN_ROUTES, PLAN_VERIFIED, PLAN_VERIFIED_AUDITS, PLAN_FACES };

/* Two levels hold MESH_PORT_BOUNDS intervals. Half a cache line, never across two: what a key leads to is
 * found by comparisons that do not wait for each other. */
enum { PLAN_WAYS = 8 };
struct plan_node {
	__u32 first;		   /* what its first way leads to, PLAN_NOWHERE: nothing to say; and flags */
	__u32 last[PLAN_WAYS - 1]; /* key of each way but the last; PLAN_NO_KEY where there is no further one */
};
enum {
	PLAN_AUDITED = 1 << 30, /* verdicts: the destination's audits have something to say */
	PLAN_INNER = 1 << 29,	/* it leads to nodes, not to cells */
	PLAN_NOWHERE = PLAN_INNER - 1,
};
#define PLAN_NO_KEY 0xffffffffu
struct plan_cell {
	__u32 comb;   /* comb[comb + src] */
	__u32 owner;  /* is ours where its owner is this; 0: the cell has no row there */
	__u32 matrix; /* matrix[matrix + (column[src] & mask)] */
	__u16 mask;   /* 0: one outcome for every source */
	__u16 pad;
};
struct plan_comb {
	__u32 owner;
	__u16 outcome;
	__u16 pad;
};
/* STRICT, PERMISSIVE: how the connection that is allowed is protected; on the verified face that which is
 * denied, too: a caller learns there whether it would have gone through the tunnel. */
enum { PLAN_ALLOW = 1, PLAN_DEFAULT_AUDIT = 2, PLAN_BY_BLOCK = 4, PLAN_STRICT = 8, PLAN_PERMISSIVE = 16 };
struct plan_outcome {
	__u32 value; /* rule, audit set or arm; PLAN_BY_BLOCK: by_block[value + block] is the outcome */
	__u32 flags;
};
struct plan_interval {
	__u64 high, low; /* first address, host order */
};
struct plan_arm {
	__u16 first, count; /* splits */
	__u16 sticky, pad;
	__u64 total; /* of their weights */
};
struct plan_split {
	__u16 set, pad;
	__u32 weight;
};
enum { PLAN_NO_ARM = 0xffff, PLAN_ARM_TABLE = 0xfffe };

_Static_assert(sizeof(struct plan_node) == 32, "plan");
_Static_assert(sizeof(struct plan_cell) == 16, "plan");
_Static_assert(sizeof(struct plan_comb) == 8, "plan");

#endif
