/* The table of IPv4 addresses, "peers4" (abi.h): written here through its mapping, read by every hook. */
#include "kernel_internal.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* Two slots in eight at the configured number of addresses: hardly a bucket is ever full. */
uint32_t peers_buckets(uint32_t endpoints)
{
	uint32_t buckets = 4;
	while (buckets < endpoints / 2)
		buckets *= 2;
	return buckets;
}

int peers_map(int map, struct peers *ret_peers)
{
	struct bpf_map_info info;
	int r = object_map_info(map, &info);
	if (r)
		return r;
	size_t page = sysconf(_SC_PAGESIZE), bytes = info.max_entries * sizeof(struct mesh_peer_bucket);
	bytes = (bytes + page - 1) / page * page;
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret_peers = (struct peers){at, info.max_entries - 1, bytes};
	return 0;
}

void peers_unmap(struct peers *peers)
{
	if (peers->buckets)
		munmap(peers->buckets, peers->bytes);
	*peers = (struct peers){0};
}

/* Where ADDRESS lies in BUCKET, else a free slot there, else NULL. */
static uint64_t *slot_in(struct mesh_peer_bucket *bucket, uint32_t address, bool *ret_found)
{
	uint64_t *room = NULL;
	*ret_found = false;
	for (int i = 0; i < MESH_PEER_SLOTS; i++) {
		uint64_t *slot = (uint64_t *)&bucket->slot[i];
		*ret_found = *slot && *slot >> 32 == address;
		if (*ret_found)
			return slot;
		room = room || *slot ? room : slot;
	}
	return room;
}

int peers_put(const struct peers *peers, uint32_t address, uint32_t endpoint, uint32_t flags)
{
	uint64_t hash = mesh_peer_hash(address);
	bool in_first, in_second;
	uint64_t *first = slot_in(&peers->buckets[hash & peers->mask], address, &in_first);
	uint64_t *second = slot_in(&peers->buckets[hash >> 24 & peers->mask], address, &in_second);
	uint64_t *slot = in_first || (first && !in_second) ? first : second;
	if (!slot)
		return -E2BIG;
	uint64_t word = mesh_peer_slot(address, endpoint, flags);
	if (*slot != word)
		__atomic_store_n(slot, word, __ATOMIC_RELEASE);
	return 0;
}

void peers_keep(const struct peers *peers, bool (*wanted)(const void *context, uint32_t address, uint32_t endpoint),
		const void *context)
{
	for (uint32_t i = 0; i <= peers->mask; i++)
		for (int k = 0; k < MESH_PEER_SLOTS; k++) {
			uint64_t *slot = (uint64_t *)&peers->buckets[i].slot[k];
			if (*slot && !wanted(context, *slot >> 32, (uint32_t)*slot >> 8))
				__atomic_store_n(slot, 0, __ATOMIC_RELEASE);
		}
}
