#include "ir/lists.h"

#include <stdbool.h>

static uint64_t hash_list(const uint32_t *at, uint32_t len)
{
	uint64_t hash = len;
	for (uint32_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
	return hash;
}

static bool is_list(const struct lists *lists, uint32_t number, const uint32_t *at, uint32_t len)
{
	uint32_t have;
	const uint32_t *list = lists_get(lists, number, &have);
	return have == len && (!len || memcmp(list, at, len * sizeof(*at)) == 0);
}

/* Where the list is, or the free slot for it. */
static size_t slot_of(const struct lists *lists, const uint32_t *at, uint32_t len)
{
	size_t i = hash_list(at, len) & (lists->cap - 1);
	while (lists->slots[i] && !is_list(lists, lists->slots[i] - 1, at, len))
		i = (i + 1) & (lists->cap - 1);
	return i;
}

static void grow(struct lists *lists)
{
	lists->cap = lists->cap ? lists->cap * 2 : 64;
	lists->slots = arena_alloc(lists->arena, lists->cap * sizeof(*lists->slots));
	for (uint32_t i = 0; i < lists->all.len; i++) {
		uint32_t len;
		const uint32_t *at = lists_get(lists, i, &len);
		lists->slots[slot_of(lists, at, len)] = i + 1;
	}
}

uint32_t lists_put(struct lists *lists, const uint32_t *at, uint32_t len)
{
	if (lists->all.len * 2 >= lists->cap)
		grow(lists);
	size_t slot = slot_of(lists, at, len);
	if (lists->slots[slot])
		return lists->slots[slot] - 1;
	struct list list = {lists->pool.len, len};
	/* Growth copies: where AT lies in the pool, the old memory is still there. */
	for (uint32_t i = 0; i < len; i++)
		vec_push(lists->arena, &lists->pool, at[i]);
	vec_push(lists->arena, &lists->all, list);
	lists->slots[slot] = lists->all.len;
	return lists->all.len - 1;
}
