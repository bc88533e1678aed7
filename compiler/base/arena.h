/* One arena per run: memory is taken from it and given back all at once. */
#ifndef MESH_BASE_ARENA_H
#define MESH_BASE_ARENA_H

#include <stddef.h>

struct arena;

/* NULL only when memory is out. */
struct arena *arena_create(void);
void arena_destroy(struct arena *arena);

/* Zeroed, aligned for any type. Never NULL: out of memory ends the program (exit 2). */
void *arena_alloc(struct arena *arena, size_t bytes);
char *arena_copy(struct arena *arena, const char *text, size_t bytes);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
