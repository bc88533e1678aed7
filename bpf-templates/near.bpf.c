/* The packet hooks once more, for kernels that describe their structures (CONFIG_DEBUG_INFO_BTF) and let a program
 * read them (bpf_rdonly_cast, Linux 6.2): they find what is kept of a socket without a call, which is most of what the
 * mesh adds to an empty hook. */
#include "runtime.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_local_storage_map {
	__u16 cache_idx;
};
struct bpf_local_storage_data {
	struct bpf_local_storage_map *smap;
	__u8 data[];
};
struct bpf_local_storage {
	struct bpf_local_storage_data *cache[16]; /* BPF_LOCAL_STORAGE_CACHE_SIZE */
};
struct sock {
	struct bpf_local_storage *sk_bpf_storage;
};
#pragma clang attribute pop

extern void *bpf_rdonly_cast(const void *object, __u32 type) SEC(".ksyms");
/* The running kernel's number of TYPE. */
#define KERNEL_TYPE(type) __builtin_btf_type_id(*(type *)0, 1 /* BPF_TYPE_ID_TARGET */)

/* The first step of bpf_local_storage_lookup (include/linux/bpf_local_storage.h): each map has its place among those
 * that a socket remembers; NULL: what is there is not this map's. A load from an address that is none reads 0. */
static __always_inline const struct mesh_socket *socket_remembered(struct bpf_sock *sk)
{
	const struct sock *of_kernel = bpf_rdonly_cast(sk, KERNEL_TYPE(struct sock));
	const void *storage = of_kernel->sk_bpf_storage;
	if (!storage)
		return NULL;
	const struct bpf_local_storage_map *map = (const void *)&sockets;
	/* The verifier wants a pointer into an array to be of its type again. */
	storage += map->cache_idx % 16 * sizeof(void *);
	const struct bpf_local_storage *place = bpf_rdonly_cast(storage, KERNEL_TYPE(struct bpf_local_storage));
	const struct bpf_local_storage_data *kept = place->cache[0];
	return kept && kept->smap == map ? (const void *)kept->data : NULL;
}

/* The helper looks further, and puts what it finds where it is found next time. */
static __always_inline bool is_decided_nearby(const struct __sk_buff *skb, struct bpf_sock *sk,
					      const struct mesh_control *settings, bool leaves)
{
	const struct mesh_socket *remembered = socket_remembered(sk);
	return remembered ? is_decided(skb, sk, remembered, settings, leaves)
			  : is_decided_by_call(skb, sk, settings, leaves);
}

DISPATCH_PACKET(d_ingress, "cgroup_skb/ingress", false, jump_ingress, is_decided_nearby)
DISPATCH_PACKET(d_egress, "cgroup_skb/egress", true, jump_egress, is_decided_nearby)

char LICENSE[] SEC("license") = "GPL";
