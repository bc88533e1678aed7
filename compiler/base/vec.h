/* A growing array in an arena: struct { TYPE *at; size_t len, cap; }.
 * Growth copies; the old memory stays in the arena until the run ends. */
#ifndef MESH_BASE_VEC_H
#define MESH_BASE_VEC_H

#include "base/arena.h"

#include <string.h>

#define VEC(type)                                                                                                      \
	struct {                                                                                                       \
		type *at;                                                                                              \
		size_t len, cap;                                                                                       \
	}

static inline void *vec_grown(struct arena *arena, const void *at, size_t len, size_t *cap, size_t size)
{
	*cap = *cap ? *cap * 2 : 8;
	void *grown = arena_alloc(arena, *cap * size);
	if (len)
		memcpy(grown, at, len * size);
	return grown;
}

/* Appends VALUE (an expression of the element type). */
#define vec_push(arena, vec, ...)                                                                                      \
	do {                                                                                                           \
		if ((vec)->len == (vec)->cap)                                                                          \
			(vec)->at = vec_grown(arena, (vec)->at, (vec)->len, &(vec)->cap, sizeof(*(vec)->at));          \
		(vec)->at[(vec)->len++] = (__VA_ARGS__);                                                               \
	} while (0)

#endif
