#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Chunks double up to a limit, as in libpcap's code generator: few allocations, little waste. */
enum { CHUNK_FIRST_BYTES = 64 << 10, CHUNK_LIMIT_BYTES = 16 << 20 };

struct chunk {
	struct chunk *next;
	size_t size, used;
	_Alignas(max_align_t) char bytes[];
};

struct arena {
	struct chunk *chunks;
	size_t next_size;
};

struct arena *arena_create(void)
{
	struct arena *arena = calloc(1, sizeof(*arena));
	if (arena)
		arena->next_size = CHUNK_FIRST_BYTES;
	return arena;
}

void arena_destroy(struct arena *arena)
{
	if (!arena)
		return;
	for (struct chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(arena);
}

static struct chunk *chunk_add(struct arena *arena, size_t bytes)
{
	size_t size = bytes > arena->next_size ? bytes : arena->next_size;
	/* calloc: fresh pages are zero already, so large tables cost no second write. */
	struct chunk *chunk = calloc(1, sizeof(*chunk) + size);
	if (!chunk) {
		fprintf(stderr, "out of memory (%zu bytes)\n", size);
		exit(2);
	}
	chunk->size = size;
	/* A large one goes behind the current chunk, whose rest stays in use. */
	if (arena->chunks && bytes > arena->next_size / 2) {
		chunk->next = arena->chunks->next;
		arena->chunks->next = chunk;
	} else {
		chunk->next = arena->chunks;
		arena->chunks = chunk;
		if (arena->next_size < CHUNK_LIMIT_BYTES)
			arena->next_size *= 2;
	}
	return chunk;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
	size_t need = (bytes + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
	if (need < bytes) {
		fprintf(stderr, "out of memory (%zu bytes)\n", bytes);
		exit(2);
	}
	struct chunk *chunk = arena->chunks;
	if (!chunk || chunk->size - chunk->used < need)
		chunk = chunk_add(arena, need);
	void *memory = chunk->bytes + chunk->used;
	chunk->used += need;
	return memory;
}

char *arena_copy(struct arena *arena, const char *text, size_t bytes)
{
	char *copy = arena_alloc(arena, bytes + 1);
	memcpy(copy, text, bytes);
	return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int bytes = vsnprintf(NULL, 0, format, args);
	va_end(args);
	char *text = arena_alloc(arena, (size_t)bytes + 1);
	vsnprintf(text, (size_t)bytes + 1, format, again);
	va_end(again);
	return text;
}
