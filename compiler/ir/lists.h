/* Lists of numbers, numbered: equal lists have one number. The states of subset and product
 * constructions are such lists. */
#ifndef MESH_IR_LISTS_H
#define MESH_IR_LISTS_H

#include "base/vec.h"

#include <stdint.h>

struct list {
	uint32_t offset, len;
};
struct lists {
	struct arena *arena;
	VEC(uint32_t) pool;
	VEC(struct list) all; /* by number */
	uint32_t *slots;      /* open addressing: number + 1 */
	size_t cap;
};

/* The number of the list AT; a new one is all.len before the call. AT may lie in the pool. */
uint32_t lists_put(struct lists *lists, const uint32_t *at, uint32_t len);

/* Until the next lists_put. */
static inline const uint32_t *lists_get(const struct lists *lists, uint32_t number, uint32_t *ret_len)
{
	*ret_len = lists->all.at[number].len;
	return *ret_len ? lists->pool.at + lists->all.at[number].offset : NULL;
}

#endif
