/* What an object asks of the kernel, read from its code: no privilege, no kernel. */
#ifndef MESH_PASS_BUDGET_H
#define MESH_PASS_BUDGET_H

#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>

/* The kernel's (include/linux/filter.h MAX_BPF_STACK, include/linux/bpf_verifier.h), and ir/plan.h's. */
enum { BUDGET_STACK_BYTES = 512, BUDGET_INSTRUCTIONS = 1000000, BUDGET_TABLES_BYTES = 64 << 20 };

struct budget_program {
	const char *name, *hook; /* hook: the section */
	uint64_t instructions;	 /* with all that it calls, each once: what is loaded */
	uint64_t path;		 /* executed at most, from entry to exit; a call of the kernel counts 1 */
	uint32_t open_loops;	 /* whose bound is known only when it runs: one round counts */
	uint32_t stack_bytes;	 /* the deepest chain of calls, each frame rounded up to 32 as the verifier does */
	uint32_t frames;	 /* in that chain */
};

struct budget_map {
	const char *name, *type;
	uint64_t entries, bytes; /* full, with the entries that the object states; of a per-CPU map: for each CPU */
	bool shared;		 /* the node's one, which each policy uses; else each generation has its own */
};

struct budget {
	VEC(struct budget_program) programs; /* in the order of the object */
	VEC(struct budget_map) maps;
};

/* Reads the object; all in ARENA. 0, or -EINVAL with a reason: no BPF object, or code that no verifier would take
 * (a loop without bpf_loop, recursion, a jump to nowhere). */
int budget_read(struct arena *arena, const void *object, size_t len, struct budget *ret_budget, const char **ret_why);

#endif
