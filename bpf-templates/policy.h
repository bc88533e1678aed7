/* What is one policy's own: its tables in .rodata and its private maps. The region is rewritten by
 * the compiler; as it stands it is a policy of no service that denies everything. */
#ifndef MESH_POLICY_H
#define MESH_POLICY_H

#include "maps.h"
#include "plan.h"

/* MESH REGION plan BEGIN */
enum {
	PLAN_RULES = 0,
	PLAN_CLASSES = 5,
	PLAN_NODES = 25,
	PLAN_CELLS = 1,
	PLAN_COMB = 6,
	PLAN_MATRIX = 1,
	PLAN_OUTCOMES = 1,
	PLAN_BLOCKS = 1,
	PLAN_BY_BLOCKS = 1,
	PLAN_INTERVALS = 1,
	PLAN_INTERVAL_STEPS = 0,
	PLAN_AUDIT_SETS = 1,
	PLAN_ASKS_VERIFIED = 1,
	PLAN_ARMS = 1,
	PLAN_SPLITS = 1,
	PLAN_SETS = 1,
	TARGET_SET_RETVAL = 1,
};
/* MESH REGION plan END */

/* The compiler writes the contents of these into the finished object, byte for byte. */
const volatile struct mesh_config config = {.abi = MESH_ABI};
const volatile struct plan_node plan_nodes[PLAN_NODES] __attribute__((aligned(32))) = {};
const volatile struct plan_cell plan_cells[PLAN_CELLS] = {};
const volatile struct plan_comb plan_combs[PLAN_COMB] = {};
const volatile __u16 plan_matrix[PLAN_MATRIX] = {};
const volatile __u16 plan_columns[PLAN_CLASSES] = {};
const volatile struct plan_outcome plan_outcomes[PLAN_OUTCOMES] = {};
const volatile __u16 plan_by_block[PLAN_BY_BLOCKS] = {};
const volatile struct plan_interval plan_intervals[PLAN_INTERVALS] = {};
const volatile __u16 plan_interval_block[PLAN_INTERVALS] = {};
const volatile __u16 plan_block_dst[PLAN_BLOCKS] = {};
const volatile __u16 plan_class_arm[PLAN_CLASSES] = {};
const volatile struct plan_arm plan_arms[PLAN_ARMS] = {};
const volatile struct plan_split plan_splits[PLAN_SPLITS] = {};

/* meshd sizes classes and backends from its configuration, vectors and answers for a proof. */
MAP(classes, BPF_MAP_TYPE_ARRAY, __u32, struct mesh_class, 65536, BPF_F_MMAPABLE);
MAP(vips, BPF_MAP_TYPE_HASH, struct mesh_vip_key, struct mesh_vip, 65536, BPF_F_NO_PREALLOC);
MAP(sets, BPF_MAP_TYPE_ARRAY, __u32, struct mesh_set, PLAN_SETS * 2, BPF_F_MMAPABLE);
MAP(backends, BPF_MAP_TYPE_ARRAY, __u32, struct mesh_backend, 65536, 0);
MAP(hits, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct mesh_hits, PLAN_RULES + MESH_SPECIALS, 0);
/* Classes by SPIFFE ID, and by that of a whole namespace: the first 16 bytes of SHA-256. */
MAP(ids, BPF_MAP_TYPE_HASH, struct mesh_id, __u32, PLAN_CLASSES, BPF_F_NO_PREALLOC);
MAP(vectors, BPF_MAP_TYPE_ARRAY, __u32, struct mesh_vector, 1, BPF_F_MMAPABLE);
MAP(answers, BPF_MAP_TYPE_ARRAY, __u32, struct mesh_answer, 1, BPF_F_MMAPABLE);

#endif
