/* What the files of the kernel's side share: the lists of maps and programs, where they are pinned, and
 * a few helpers. Nobody else includes this. */
#ifndef MESH_RUNTIME_KERNEL_INTERNAL_H
#define MESH_RUNTIME_KERNEL_INTERNAL_H

#include "kernel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

/* MAP(name, who, size): who binds it, and which size of the configuration it has (0: the object's). */
#define KERNEL_MAPS(MAP)                                                                                               \
	MAP(control, SHARED, 0)                                                                                        \
	MAP(peers4, SHARED, peers_buckets(kernel_addresses(config)))                                                   \
	MAP(peers6, SHARED, kernel_addresses(config))                                                                  \
	MAP(netns, SHARED, 0)                                                                                          \
	MAP(exact, SHARED, config->sockets)                                                                            \
	MAP(flows, SHARED, config->sockets)                                                                            \
	MAP(nat, SHARED, config->sockets)                                                                              \
	MAP(stats, SHARED, 0)                                                                                          \
	MAP(buckets, SHARED, 0)                                                                                        \
	MAP(sockets, SHARED, 0)                                                                                        \
	MAP(asked, SHARED, 0)                                                                                          \
	MAP(records, SHARED, 0)                                                                                        \
	MAP(orders, SHARED, 0)                                                                                         \
	MAP(covered, OWN, 0)                                                                                           \
	MAP(adopt_pass, OWN, 0)                                                                                        \
	MAP(listeners, OWN, 0)                                                                                         \
	MAP(steer, OWN, config->endpoints)                                                                             \
	MAP(origins, OWN, config->sockets)                                                                             \
	MAP(remembered, OWN, config->sockets)                                                                          \
	MAP(jump_connect4, OWN, 0)                                                                                     \
	MAP(jump_connect6, OWN, 0)                                                                                     \
	MAP(jump_sendmsg4, OWN, 0)                                                                                     \
	MAP(jump_sendmsg6, OWN, 0)                                                                                     \
	MAP(jump_lookup, SHARED, 0)                                                                                    \
	MAP(jump_ingress, SHARED, 0)                                                                                   \
	MAP(jump_egress, OWN, 0)                                                                                       \
	MAP(jump_tunnel, OWN, 0)

/* Programs of the runtime that are attached to the cgroup. */
#define KERNEL_CGROUP(PROGRAM)                                                                                         \
	PROGRAM(d_connect4, BPF_CGROUP_INET4_CONNECT, "connect4")                                                      \
	PROGRAM(d_connect6, BPF_CGROUP_INET6_CONNECT, "connect6")                                                      \
	PROGRAM(d_sendmsg4, BPF_CGROUP_UDP4_SENDMSG, "sendmsg4")                                                       \
	PROGRAM(d_sendmsg6, BPF_CGROUP_UDP6_SENDMSG, "sendmsg6")                                                       \
	PROGRAM(d_ingress, BPF_CGROUP_INET_INGRESS, "ingress")                                                         \
	PROGRAM(d_egress, BPF_CGROUP_INET_EGRESS, "egress")                                                            \
	PROGRAM(f_recvmsg4, BPF_CGROUP_UDP4_RECVMSG, "recvmsg4")                                                       \
	PROGRAM(f_recvmsg6, BPF_CGROUP_UDP6_RECVMSG, "recvmsg6")                                                       \
	PROGRAM(f_peername4, BPF_CGROUP_INET4_GETPEERNAME, "getpeername4")                                             \
	PROGRAM(f_peername6, BPF_CGROUP_INET6_GETPEERNAME, "getpeername6")                                             \
	PROGRAM(f_sock_create, BPF_CGROUP_INET_SOCK_CREATE, "sock_create")                                             \
	PROGRAM(f_sockops, BPF_CGROUP_SOCK_OPS, "sockops")

/* Programs of a policy, each behind the jump table jump_NAME. */
#define KERNEL_POLICY(PROGRAM)                                                                                         \
	PROGRAM(connect4)                                                                                              \
	PROGRAM(connect6)                                                                                              \
	PROGRAM(sendmsg4)                                                                                              \
	PROGRAM(sendmsg6)                                                                                              \
	PROGRAM(lookup)                                                                                                \
	PROGRAM(ingress)                                                                                               \
	PROGRAM(egress)                                                                                                \
	PROGRAM(tunnel)

enum kernel_map {
#define MAP(name, who, size) KERNEL_MAP_##name,
	KERNEL_MAPS(MAP)
#undef MAP
		KERNEL_MAP_COUNT
};

enum kernel_program {
#define PROGRAM(name, type, hook) KERNEL_PROGRAM_##name,
	KERNEL_CGROUP(PROGRAM)
#undef PROGRAM
		KERNEL_CGROUP_COUNT,
	KERNEL_PROGRAM_d_lookup = KERNEL_CGROUP_COUNT,
	KERNEL_PROGRAM_f_answer,
	KERNEL_PROGRAM_f_ask,
	KERNEL_PROGRAM_i_adopt, /* these two only where CARRIED_ADOPT loads */
	KERNEL_PROGRAM_i_adopt_udp,
	KERNEL_PROGRAM_COUNT
};

enum kernel_policy {
#define PROGRAM(name) KERNEL_POLICY_##name,
	KERNEL_POLICY(PROGRAM)
#undef PROGRAM
		KERNEL_POLICY_COUNT
};

struct ring_state {
	struct ring_buffer *rings;
	void (*on_record)(void *context, const struct mesh_record *record);
	void (*on_order)(void *context, const struct mesh_order *order);
	void *context;
};

/* The mapped table of IPv4 addresses (peers.c). */
struct peers {
	struct mesh_peer_bucket *buckets;
	uint32_t mask; /* buckets - 1 */
	size_t bytes;
};

struct kernel {
	const struct config *config;
	int maps[KERNEL_MAP_COUNT];
	int programs[KERNEL_PROGRAM_COUNT];
	int links[KERNEL_CGROUP_COUNT]; /* -1: not attached */
	volatile struct mesh_control *control;
	struct peers peers;
	struct ring_state ring;
};

extern const char *const kernel_policy_names[KERNEL_POLICY_COUNT];
extern const char *const kernel_map_names[KERNEL_MAP_COUNT];
/* Entries that CONFIG wants of map I; 0: as many as the object says. */
uint32_t kernel_map_entries(const struct config *config, enum kernel_map i);
/* jump_NAME of policy program I. */
int kernel_jump(const struct kernel *kernel, enum kernel_policy i);
/* The map NAME that policies share with the runtime; -1: it is not one of those. *RET_SIZED: its size
 * comes from the configuration. */
int kernel_shared_map(const struct kernel *kernel, const char *name, bool *ret_sized);

/* ---- Pins (pins.c) ------------------------------------------------------------------------------ */

/* Below the runtime's folder; cut paths do not exist, and so are refused by the kernel. */
struct pin_path {
	char text[1024];
};
struct pin_path pin_path(const struct config *config, const char *format, ...) __attribute__((format(printf, 2, 3)));
int pin_make_folder(const char *path);
/* Removes FOLDER and what is in it, three levels deep; 0 where it is not there. */
int pin_remove(const char *folder);
bool pin_exists(const char *path);
/* EACH for the names in FOLDER, until it returns non-zero, which is returned. */
int pin_each(const char *folder, int (*each)(void *context, const char *name), void *context);
/* 0, or -ENOTDIR with WHY: not a bpffs that outlives this process's mount namespace. */
int pin_check_bpffs(const struct config *config, struct why *why);

/* ---- libbpf (object.c) -------------------------------------------------------------------------- */

enum { OBJECT_LOG_BYTES = 256 << 10 };
struct object {
	struct bpf_object *bpf;
	char *log; /* the verifier's, of the program that failed */
};
/* 0; -EINVAL: libbpf cannot read it. */
int object_open(const void *elf, size_t len, struct object *ret_object, struct why *why);
/* 0; -ENOEXEC: the verifier refused it; -EPERM; -ENOTSUP; -ENOMEM. */
int object_load(struct object *object, struct why *why);
void object_close(struct object *object);
/* Type, key, value, flags and (where SIZE) max_entries of MAP are those of FD; else -EUCLEAN. */
int object_compare_map(const struct bpf_map *map, int fd, bool size, struct why *why);
int object_map_info(int fd, struct bpf_map_info *ret_info);

/* ---- What meshd carries (carried.c) -------------------------------------------------------------- */

/* The runtime's objects: bpf-templates/runtime.bpf.c, near.bpf.c, adopt.bpf.c. Where a kernel cannot load another
 * than the first it goes without it. A later one's program wins over an earlier one's of the same name. */
enum carried { CARRIED_RUNTIME, CARRIED_NEAR, CARRIED_ADOPT, CARRIED_COUNT };
/* Not loaded yet, with the sizes of CONFIG. */
int carried_open(enum carried which, const struct config *config, struct object *ret_object, struct why *why);
/* Opens and loads WHICH on the maps of RUNTIME, which is loaded. */
int carried_load(enum carried which, const struct object *runtime, const struct config *config,
		 struct object *ret_object, struct why *why);

/* A policy of no service: it denies whatever an enrolled workload opens or takes. */
const void *carried_policy(size_t *ret_len);

/* ---- IPv4 addresses (peers.c) ------------------------------------------------------------------- */

/* How many addresses there is room for. */
uint32_t kernel_addresses(const struct config *config);
/* How many buckets hold ENDPOINTS addresses. */
uint32_t peers_buckets(uint32_t endpoints);
int peers_map(int map, struct peers *ret_peers);
void peers_unmap(struct peers *peers);
/* ADDRESS as in the packet. -E2BIG: both of its buckets are full. */
int peers_put(const struct peers *peers, uint32_t address, uint32_t endpoint, uint32_t flags);
/* Takes out what is not WANTED. */
void peers_keep(const struct peers *peers, bool (*wanted)(const void *context, uint32_t address, uint32_t endpoint),
		const void *context);

/* ---- Namespaces (netns.c) ----------------------------------------------------------------------- */

/* Runs WORK inside NETNS_FD on a thread of its own: this one never leaves its namespace, whatever
 * fails. Returns what WORK does, or the error of going there. */
int netns_run(int netns_fd, int (*work)(void *context), void *context);

/* ---- Rings (rings.c) ---------------------------------------------------------------------------- */

int rings_open(struct kernel *kernel);
void rings_close(struct kernel *kernel);

#endif
