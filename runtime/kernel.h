/* The kernel's side of the node: shared maps, dispatchers, their links, and the generations. All of it
 * is pinned below config->bpffs/config->pins, so that it outlives meshd. */
#ifndef MESH_RUNTIME_KERNEL_H
#define MESH_RUNTIME_KERNEL_H

#include "abi.h"
#include "config.h"

#include <stddef.h>

struct kernel;

/* The right to work on the pins of CONFIG, until the descriptor *RET_LOCK is closed. -EBUSY: another process has it,
 * named in WHY; -ENOTDIR as below. */
int kernel_lock(const struct config *config, int *ret_lock, struct why *why);
/* What the lock lies on: with it held, and nothing left that it is for. */
void kernel_lock_remove(const struct config *config);

/* Opens what is pinned, or makes it anew: loads what meshd carries (carried.c), pins every map, prog_array,
 * dispatcher and fixed program, mmaps `control`. *ret_adopted: true where an earlier run had left it. A folder
 * that was left half-made is removed and made anew only where nothing in it enforces (control->active == 0), else
 * -EUCLEAN. -ENOTDIR: config->bpffs is no bpffs, or is not mounted on the host's; -EPERM: a capability lacks;
 * -ENOTSUP: the kernel lacks a feature; each with what to do in WHY. */
int kernel_open(const struct config *config, struct kernel **ret_kernel, bool *ret_adopted, struct why *why);
/* Lets go of the descriptors; what is pinned stays and enforces. */
void kernel_close(struct kernel *kernel);

/* The cgroup links of the dispatchers and fixed programs: bpf_link, BPF_F_ALLOW_MULTI, last in order;
 * pinned. Links that are pinned already are kept. Programs of others on this cgroup and its ancestors:
 * attached with flags 0 or ALLOW_OVERRIDE: -EBUSY naming them by id and name; others are noted in
 * kernel_neighbours. -EUCLEAN: a link is dead (the cgroup was removed). */
int kernel_attach(struct kernel *kernel, struct why *why);
/* JSON array of {"hook", "id", "name", "order": "before"|"after", "cgroup"}; owned. */
struct json_t *kernel_neighbours(struct kernel *kernel);

/* The programs that answer the node proxy, at the cgroup in which its sockets are born; pinned. */
int kernel_attach_proxy(struct kernel *kernel, const char *cgroup, struct why *why);

/* sk_lookup in the network namespace NETNS_FD (an open /proc/PID/ns/net or /run/netns file): pinned as
 * netns/COOKIE; does nothing where it is there already. *ret_cookie in any case. Entries "netns" and
 * "covered" are the caller's business. */
int kernel_attach_netns(struct kernel *kernel, int netns_fd, uint64_t *ret_cookie, struct why *why);
/* The cookie alone; attaches nothing. */
int kernel_netns_cookie(int netns_fd, uint64_t *ret_cookie);
/* Unpins links of namespaces that are gone; returns how many. Their cookies go out of the map "netns". */
int kernel_sweep(struct kernel *kernel);
/* Programs of others at sk_lookup in that namespace. */
int kernel_netns_neighbours(struct kernel *kernel, int netns_fd);

/* Mapped: ->active is the store that switches the node. */
volatile struct mesh_control *kernel_control(struct kernel *kernel);
/* What was let through under another mode is decided anew. */
void kernel_set_mode(struct kernel *kernel, enum mesh_mode mode);
/* Descriptor of a shared map ("peers4", "netns", "records" ...); -ENOENT. */
int kernel_map(struct kernel *kernel, const char *name);
/* Sums a per-CPU counter. */
uint64_t kernel_stat(struct kernel *kernel, enum mesh_stat stat);

/* ---- Generations ---------------------------------------------------------------------------- */

struct generation {
	uint32_t number, slot;			      /* slot: MESH_GENERATIONS where it has none yet */
	int classes, vips, sets, backends, hits, ids; /* descriptors of its private maps */
	uint32_t endpoints, backend_max, set_max, vip_max, hit_max, id_max;
	bool has_ids;	/* they never change: written once */
	bool is_closed; /* of kernel_load_closed */
	uint32_t half;	/* which half of `backends` is in use */
	uint32_t programs;
	uint64_t bytes;	       /* memory of its maps, as the kernel counts it (fdinfo memlock) */
	uint64_t instructions; /* verified, all programs */
};

/* Loads the policy programs of ELF as generation NUMBER (config.generation in .rodata), shared maps
 * bound after comparing type, sizes and flags; private maps sized from the configuration; pins
 * programs and private maps as gen/new/... It has no slot yet, and takes none from another. -ENOEXEC: the verifier
 * refused it, its log's end in WHY. On failure nothing stays behind. */
int kernel_load(struct kernel *kernel, const void *elf, size_t len, uint32_t number, struct generation **ret_generation,
		struct why *why);
/* Into a free slot: pinned as gen/SLOT/..., and in each jump table. Nothing enforces it yet. -EEXIST: SLOT is not free;
 * -EBUSY: it is active. After a failure it can be unloaded. */
int kernel_place(struct kernel *kernel, struct generation *generation, uint32_t slot, struct why *why);
/* Both, for what meshd carries: a generation that denies whatever an enrolled workload opens or takes. */
int kernel_load_closed(struct kernel *kernel, uint32_t number, uint32_t slot, struct generation **ret_generation,
		       struct why *why);
/* What an earlier run had pinned in SLOT. -ENOENT: nothing. */
int kernel_adopt(struct kernel *kernel, uint32_t slot, struct generation **ret_generation, struct why *why);
/* Empties the slot and unpins. Never of the active one: -EBUSY. For each program that leaves a jump table the kernel
 * patches a jump out of running code and waits for whoever is there: some 10 ms each. */
int kernel_unload(struct kernel *kernel, struct generation *generation);
/* The same for a slot that is filled next, without waiting: its programs stay until others take their places. Until
 * then nobody calls them: the slot is not active, and who looks for the generation that was active before does not find
 * it. */
int kernel_retire(struct kernel *kernel, struct generation *generation);
void generation_release(struct generation *generation); /* descriptors only */
/* What was last published of ENDPOINT; all zero, which no program takes for anybody: nothing was. */
struct mesh_class generation_class(const struct generation *generation, uint32_t endpoint);

struct names;
/* Loads ELF a second time with maps of its own and replays what its vectors say; the live maps are
 * untouched. *ret_count: vectors replayed. -EILSEQ: one failed, WHY says the request in the words of
 * NAMES, what was expected and what came. */
int kernel_prove(struct kernel *kernel, const void *elf, size_t len, const struct mesh_vectors *vectors,
		 size_t vectors_len, const struct names *names, uint32_t *ret_count, struct why *why);

/* ---- Publishing ----------------------------------------------------------------------------- */

struct view;
struct registry;
/* Writes VIEW into GENERATION's maps without a moment of mixture: new classes, then backends into the
 * other half and each set by one 8-byte store, then vips (new ones first, then removals). */
int kernel_publish_view(struct kernel *kernel, struct generation *generation, const struct view *view, struct why *why);
/* Writes peers4 and peers6: additions and changes, then removals. -ENOSPC: a map is full (nothing is
 * opened by that: an address that is not there is `world`, and WHY names it). */
int kernel_publish_peers(struct kernel *kernel, const struct registry *registry, struct why *why);

/* ---- From the kernel -------------------------------------------------------------------------- */

/* Ring buffers: EACH for every record or order that waits; returns how many. The epoll descriptor
 * tells when. */
int kernel_rings_fd(struct kernel *kernel);
int kernel_rings_consume(struct kernel *kernel, void (*on_record)(void *context, const struct mesh_record *record),
			 void (*on_order)(void *context, const struct mesh_order *order), void *context);

/* SOCK_DESTROY (inet_diag) of one TCP socket inside NETNS_FD, by its tuple. 0, -ENOENT: gone already. */
int kernel_reset(int netns_fd, const struct mesh_tuple *tuple);

/* Runs iter/tcp inside NETNS_FD twice (who listens, then a role for each older socket), and iter/udp. */
int kernel_adopt_sockets(struct kernel *kernel, int netns_fd, struct why *why);

/* Detaches and unpins everything; 0 where nothing was there. */
int kernel_uninstall(const struct config *config, struct why *why);

#endif
