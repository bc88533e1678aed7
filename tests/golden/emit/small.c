/* ---- policy.h ---- */
/* What is one policy's own: its tables in .rodata and its private maps. The region is rewritten by
 * the compiler; as it stands it is a policy of no service that denies everything. */
#ifndef MESH_POLICY_H
#define MESH_POLICY_H

#include "maps.h"
#include "plan.h"

/* The rules, by number:
 * 0 deny no-world: from ledger to world
 * 1 allow office-web: from office to frontend
 * 2 audit pay: from any to stripe
 * 3 allow post: from frontend to ledger port 5432
 */
enum {
	PLAN_RULES = 4, /* behind them: default, self, conflict, unknown, plaintext, mtls */
	PLAN_CLASSES = 9, /* parties: sources first, then externals */
	PLAN_NODES = 27, /* classes x verdicts, audits, routes, and those of verified peers; a second level */
	PLAN_CELLS = 12, /* (protocol, port) intervals of all destinations */
	PLAN_COMB = 10, /* outcomes of single sources, interlocked */
	PLAN_MATRIX = 7, /* outcomes of sets of sources */
	PLAN_OUTCOMES = 7,
	PLAN_BLOCKS = 3, /* disjoint address blocks */
	PLAN_BY_BLOCKS = 3,
	PLAN_INTERVALS = 7, /* of the address line */
	PLAN_INTERVAL_STEPS = 3,
	PLAN_AUDIT_SETS = 2,
	PLAN_ASKS_VERIFIED = 0, /* some rule asks for peer.verified */
	PLAN_ARMS = 2,
	PLAN_SPLITS = 3,
	PLAN_SETS = 3, /* of backends */
	TARGET_SET_RETVAL = 1, /* ECONNREFUSED, not EPERM (5.18) */
};

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

