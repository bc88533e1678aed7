#include "kernel_internal.h"

#include "registry.h"
#include "view.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Classes ------------------------------------------------------------------------------------- */

/* One store for each: an address means the old or the new, never half of both. Mapped for as long as that takes: the
 * pages count as meshd's own memory, for each generation. */
static int publish_classes(const struct generation *generation, const struct view *view)
{
	static const struct mesh_class nobody;
	size_t bytes = generation->endpoints * sizeof(struct mesh_class);
	uint64_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, generation->classes, 0);
	if (at == MAP_FAILED)
		return -errno;
	for (uint32_t i = 0; i < generation->endpoints; i++) {
		uint64_t wanted;
		memcpy(&wanted, i < view->class_count ? &view->classes[i] : &nobody, sizeof(wanted));
		if (at[i] != wanted)
			__atomic_store_n(&at[i], wanted, __ATOMIC_RELEASE);
	}
	munmap(at, bytes);
	return 0;
}

/* ---- Backends ------------------------------------------------------------------------------------ */

/* Waits until no program is left that read a set before the last publication: it may still look at
 * the half that is written now. (membarrier(2): MEMBARRIER_CMD_GLOBAL is synchronize_rcu().) */
static void wait_for_readers(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

static int publish_backends(const struct generation *generation, const struct view *view, uint32_t offset)
{
	enum { BATCH = 4096 };
	__u32 keys[BATCH];
	for (size_t done = 0; done < view->backends.len;) {
		__u32 count = view->backends.len - done < BATCH ? view->backends.len - done : BATCH;
		for (__u32 i = 0; i < count; i++)
			keys[i] = offset + done + i;
		int r = bpf_map_update_batch(generation->backends, keys, view->backends.at + done, &count, NULL);
		if (r)
			return r;
		done += count;
	}
	return 0;
}

static struct mesh_set set_of(const struct view *view, uint32_t i, uint32_t offset)
{
	if (i >= view->set_count || !view->sets[i].count)
		return (struct mesh_set){0};
	return (struct mesh_set){view->sets[i].first + offset, view->sets[i].count};
}

static void publish_sets(uint64_t *sets, const struct generation *generation, const struct view *view, uint32_t offset)
{
	for (uint32_t i = 0; i < generation->set_max; i++) {
		struct mesh_set set = set_of(view, i, offset);
		uint64_t both;
		memcpy(&both, &set, sizeof(both));
		__atomic_store_n(&sets[i], both, __ATOMIC_RELEASE);
	}
}

/* Whether the half in use says what VIEW says. An inventory changes more often than its backends do. */
static bool subsets_are_current(const uint64_t *sets, const struct generation *generation, const struct view *view)
{
	uint32_t offset = generation->half ? generation->backend_max / 2 : 0;
	for (uint32_t i = 0; i < generation->set_max; i++) {
		struct mesh_set set = set_of(view, i, offset), now;
		memcpy(&now, &sets[i], sizeof(now));
		if (now.first != set.first || now.count != set.count)
			return false;
	}
	for (__u32 i = 0; i < view->backends.len; i++) {
		struct mesh_backend now;
		__u32 key = offset + i;
		if (bpf_map_lookup_elem(generation->backends, &key, &now) ||
		    memcmp(&now, &view->backends.at[i], sizeof(now)) != 0)
			return false;
	}
	return true;
}

static int publish_subsets(struct generation *generation, const struct view *view)
{
	uint32_t half = !generation->half, offset = half ? generation->backend_max / 2 : 0;
	size_t bytes = generation->set_max * sizeof(struct mesh_set);
	uint64_t *sets = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, generation->sets, 0);
	if (sets == MAP_FAILED)
		return -errno;
	int r = 0;
	if (!subsets_are_current(sets, generation, view)) {
		wait_for_readers();
		r = publish_backends(generation, view, offset);
		if (!r) {
			publish_sets(sets, generation, view, offset);
			generation->half = half;
		}
	}
	munmap(sets, bytes);
	return r;
}

/* ---- Hash maps: what is wanted goes in, what is not goes out --------------------------------------- */

struct wanted {
	const void *keys; /* sorted */
	size_t count, key_size;
};

static __thread size_t compare_size;

static int compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, compare_size);
}

/* Collects the keys of MAP that are not wanted, then deletes them: the walk must not see its own
 * deletions. */
static int remove_others(int map, const struct wanted *wanted)
{
	size_t size = wanted->key_size, count = 0, room = 0;
	char *stale = NULL, key[64];
	compare_size = size;
	int r;
	for (void *last = NULL; (r = bpf_map_get_next_key(map, last, key)) == 0; last = key) {
		if (wanted->count && bsearch(key, wanted->keys, wanted->count, size, compare_keys))
			continue;
		if (count == room) {
			room = room ? room * 2 : 64;
			char *grown = realloc(stale, room * size);
			if (!grown) {
				free(stale);
				return -ENOMEM;
			}
			stale = grown;
		}
		memcpy(stale + count++ * size, key, size);
	}
	for (size_t i = 0; r == -ENOENT && i < count; i++) {
		int deleted = bpf_map_delete_elem(map, stale + i * size);
		if (deleted && deleted != -ENOENT)
			r = deleted;
	}
	free(stale);
	return r == -ENOENT ? 0 : r;
}

/* ---- Service addresses ----------------------------------------------------------------------------- */

struct vips {
	struct mesh_vip_key *keys, *sorted;
	struct mesh_vip *values;
	__u32 count;
};

/* One system call: 30,000 cost 40 ms. -E2BIG: the map is full, what stands behind is not there yet. */
static int put_vips(const struct generation *generation, const struct vips *vips)
{
	__u32 count = vips->count;
	return count ? bpf_map_update_batch(generation->vips, vips->keys, vips->values, &count, NULL) : 0;
}

static int replace_vips(const struct generation *generation, const struct vips *vips)
{
	struct mesh_vip_key first;
	struct wanted wanted = {vips->sorted, vips->count, sizeof(first)};
	bool was_empty = bpf_map_get_next_key(generation->vips, NULL, &first) == -ENOENT;
	int put = put_vips(generation, vips);
	if ((put && put != -E2BIG) || was_empty)
		return put;
	int r = remove_others(generation->vips, &wanted);
	/* Old and new together did not fit: now the old ones are gone. */
	return r || !put ? r : put_vips(generation, vips);
}

static int publish_vips(const struct generation *generation, const struct view *view)
{
	struct vips vips = {
		.keys = malloc((view->vips.len + 1) * sizeof(*vips.keys)),
		.sorted = malloc((view->vips.len + 1) * sizeof(*vips.sorted)),
		.values = malloc((view->vips.len + 1) * sizeof(*vips.values)),
		.count = view->vips.len,
	};
	int r = vips.keys && vips.sorted && vips.values ? 0 : -ENOMEM;
	for (__u32 i = 0; !r && i < vips.count; i++) {
		vips.keys[i] = vips.sorted[i] = view->vips.at[i].key;
		vips.values[i] = view->vips.at[i].value;
	}
	if (!r) {
		compare_size = sizeof(*vips.sorted);
		qsort(vips.sorted, vips.count, sizeof(*vips.sorted), compare_keys);
		r = replace_vips(generation, &vips);
	}
	free(vips.keys);
	free(vips.sorted);
	free(vips.values);
	return r;
}

/* What an ID means never changes within a generation. */
static int publish_ids(struct generation *generation, const struct view *view)
{
	for (size_t i = 0; !generation->has_ids && i < view->ids.len; i++) {
		int r = bpf_map_update_elem(generation->ids, view->ids.at[i].digest, &view->ids.at[i].class, BPF_ANY);
		if (r)
			return r;
	}
	generation->has_ids = true;
	return 0;
}

int kernel_publish_view(struct kernel *kernel, struct generation *generation, const struct view *view, struct why *why)
{
	(void)kernel;
	const struct {
		const char *what;
		size_t wanted, room;
	} bounds[] = {
		{"endpoints", view->class_count, generation->endpoints},
		{"backends (half of sizes: backends)", view->backends.len, generation->backend_max / 2},
		{"backend sets", view->set_count, generation->set_max},
		{"service addresses (sizes: services)", view->vips.len, generation->vip_max},
	};
	for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); i++)
		if (bounds[i].wanted > bounds[i].room)
			return why_set(why, -ENOSPC, "generation %u has room for %zu %s, the inventory needs %zu",
				       generation->number, bounds[i].room, bounds[i].what, bounds[i].wanted);
	int r = publish_classes(generation, view);
	if (r)
		return why_set(why, r, "publishing classes: %s", strerror(-r));
	r = publish_ids(generation, view);
	if (r)
		return why_set(why, r, "publishing identities: %s", strerror(-r));
	r = publish_subsets(generation, view);
	if (r)
		return why_set(why, r, "publishing backends: %s", strerror(-r));
	r = publish_vips(generation, view);
	return r ? why_set(why, r == -E2BIG ? -ENOSPC : r, "publishing service addresses: %s", strerror(-r)) : 0;
}

/* ---- Addresses of workloads -------------------------------------------------------------------------- */

static bool address_is_v4(const uint8_t address[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	return memcmp(address, mapped, sizeof(mapped)) == 0;
}

/* An endpoint that lies in REGISTRY with this very address. */
static bool is_wanted(const void *context, uint32_t address, uint32_t endpoint)
{
	const struct registry *registry = context;
	uint32_t now;
	if (endpoint >= registry->len || !registry->at[endpoint].owner)
		return false;
	memcpy(&now, registry->at[endpoint].address + 12, sizeof(now));
	return address_is_v4(registry->at[endpoint].address) && now == address;
}

/* Those that do not fit are counted; *RET_FIRST is one of them. Low numbers last: they win. */
static int put_peers4(const struct kernel *kernel, const struct registry *registry, uint32_t *ret_first)
{
	int missing = 0;
	for (uint32_t i = registry->len; i-- > 1;) {
		uint32_t address;
		memcpy(&address, registry->at[i].address + 12, sizeof(address));
		if (!registry->at[i].owner || !address_is_v4(registry->at[i].address) ||
		    !peers_put(&kernel->peers, address, i, registry->at[i].flags))
			continue;
		missing++;
		*ret_first = i;
	}
	return missing;
}

static int put_peers6(const struct kernel *kernel, const struct registry *registry, uint32_t *ret_first)
{
	int missing = 0;
	for (uint32_t i = registry->len; i-- > 1;) {
		const struct endpoint *endpoint = &registry->at[i];
		struct mesh_peer peer = {.endpoint = i, .flags = endpoint->flags};
		if (!endpoint->owner || address_is_v4(endpoint->address))
			continue;
		int r = bpf_map_update_elem(kernel->maps[KERNEL_MAP_peers6], endpoint->address, &peer, BPF_ANY);
		if (r && r != -E2BIG)
			return r;
		if (!r)
			continue;
		missing++;
		*ret_first = i;
	}
	return missing;
}

static int remove_peers6(const struct kernel *kernel, const struct registry *registry)
{
	struct wanted wanted = {.key_size = 16};
	uint8_t(*keys)[16] = malloc((registry->len + 1) * sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	for (uint32_t i = 1; i < registry->len; i++)
		if (registry->at[i].owner && !address_is_v4(registry->at[i].address))
			memcpy(keys[wanted.count++], registry->at[i].address, sizeof(*keys));
	compare_size = sizeof(*keys);
	qsort(keys, wanted.count, sizeof(*keys), compare_keys);
	wanted.keys = keys;
	int r = remove_others(kernel->maps[KERNEL_MAP_peers6], &wanted);
	free(keys);
	return r;
}

static int full(const struct registry *registry, const char *map, int missing, uint32_t first, struct why *why)
{
	return why_set(why, -ENOSPC,
		       "%s is full: %d addresses did not fit and are strangers to the mesh, one of them %s's; "
		       "raise sizes: endpoints",
		       map, missing, registry->at[first].owner);
}

/* What did not fit beside the old is tried again when the old is gone. */
int kernel_publish_peers(struct kernel *kernel, const struct registry *registry, struct why *why)
{
	uint32_t first4 = 0, first6 = 0;
	int missing4 = put_peers4(kernel, registry, &first4), missing6 = put_peers6(kernel, registry, &first6);
	peers_keep(&kernel->peers, is_wanted, registry);
	int r = missing6 < 0 ? missing6 : remove_peers6(kernel, registry);
	if (!r && missing4)
		missing4 = put_peers4(kernel, registry, &first4);
	if (!r && missing6)
		missing6 = put_peers6(kernel, registry, &first6);
	if (r || missing6 < 0)
		return why_set(why, r ? r : missing6, "publishing addresses: %s", strerror(r ? -r : -missing6));
	if (missing4)
		return full(registry, "peers4", missing4, first4, why);
	return missing6 ? full(registry, "peers6", missing6, first6, why) : 0;
}
