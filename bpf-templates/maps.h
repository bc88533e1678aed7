/* The maps that the runtime and every policy object share. meshd creates them with the runtime's
 * object and binds them by name into each policy after comparing type and sizes. */
#ifndef MESH_MAPS_H
#define MESH_MAPS_H

#include "abi.h"

#define MAP(name, map_type, key_type, value_type, entries, flags)                                                      \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__uint(max_entries, entries);                                                                          \
		__uint(map_flags, flags);                                                                              \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} name SEC(".maps")

struct mesh_address {
	__u32 part[4]; /* network order; IPv4 mapped */
};
struct mesh_id {
	__u8 digest[16];
};
struct mesh_bucket {
	__u64 second;
	__u32 used;
	__u32 tick; /* jiffies, the low half */
};

MAP(control, BPF_MAP_TYPE_ARRAY, __u32, struct mesh_control, 1, BPF_F_MMAPABLE);
MAP(peers4, BPF_MAP_TYPE_ARRAY, __u32, struct mesh_peer_bucket, 32768, BPF_F_MMAPABLE);
MAP(peers6, BPF_MAP_TYPE_HASH, struct mesh_address, struct mesh_peer, 65536, BPF_F_NO_PREALLOC);
MAP(netns, BPF_MAP_TYPE_HASH, __u64, struct mesh_netns, 16384, BPF_F_NO_PREALLOC);
MAP(exact, BPF_MAP_TYPE_HASH, struct mesh_tuple, struct mesh_exact, 65536, BPF_F_NO_PREALLOC);
MAP(flows, BPF_MAP_TYPE_LRU_HASH, struct mesh_tuple, struct mesh_flow, 65536, 0);
MAP(nat, BPF_MAP_TYPE_LRU_HASH, struct mesh_nat_key, struct mesh_nat, 65536, 0);
MAP(stats, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, MESH_STATS, 0);
MAP(buckets, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct mesh_bucket, 1, 0);

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct mesh_socket);
} sockets SEC(".maps");

/* What the node proxy asked last on this socket, and the answer. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_ask);
} asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} orders SEC(".maps");

/* Every generation's program for a hook, by slot. A policy calls another's only for a connection that
 * was on its way when the node switched (packet.h). */
#define JUMP(name)                                                                                                     \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                                                 \
		__uint(max_entries, MESH_GENERATIONS);                                                                 \
		__type(key, __u32);                                                                                    \
		__type(value, __u32);                                                                                  \
	} name SEC(".maps")

JUMP(jump_lookup);
JUMP(jump_ingress);

static __always_inline void stat_add_often(__u32 stat)
{
	__u64 *count = bpf_map_lookup_elem(&stats, &stat);
	if (count)
		*count += 1;
}

/* What is rare need not be near. */
static __noinline void stat_add(__u32 stat)
{
	stat_add_often(stat);
}

/* What a decision is stamped with, read before it is taken: what is published meanwhile was perhaps not seen. */
static __always_inline __u32 epoch_before(const struct mesh_control *settings)
{
	return *(const volatile __u32 *)&settings->epoch;
}

/* The slot of ADDRESS in BUCKET, 0: it is not there. */
static __always_inline __u64 peer_slot(__u32 bucket, __be32 address)
{
	struct mesh_peer_bucket *found = bpf_map_lookup_elem(&peers4, &bucket);
	if (!found)
		return 0;
#pragma unroll
	for (int i = 0; i < MESH_PEER_SLOTS; i++) {
		__u64 slot = *(volatile __u64 *)&found->slot[i];
		if (slot >> 32 == address)
			return slot;
	}
	return 0;
}

static __always_inline struct mesh_peer peer_of_v4(__be32 address)
{
	struct mesh_peer none = {};
	__u32 zero = 0;
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	if (!settings || !address)
		return none;
	__u64 hash = mesh_peer_hash(address);
	__u64 slot = peer_slot(hash & settings->peer_mask, address);
	if (!slot)
		slot = peer_slot(hash >> 24 & settings->peer_mask, address);
	return (struct mesh_peer){.endpoint = (__u32)slot >> 8, .flags = slot & 0xff};
}

static __always_inline bool address_is_v4(const struct mesh_address *address)
{
	return !address->part[0] && !address->part[1] && address->part[2] == bpf_htonl(0xffff);
}

/* Who has this address; endpoint 0: nobody of the mesh. */
static __always_inline struct mesh_peer peer_of(const struct mesh_address *address)
{
	if (address_is_v4(address))
		return peer_of_v4(address->part[3]);
	struct mesh_address key = *address;
	struct mesh_peer *peer = bpf_map_lookup_elem(&peers6, &key);
	return peer ? *peer : (struct mesh_peer){};
}

#endif
