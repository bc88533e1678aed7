/* A hash table from NUL-terminated strings to pointers, in an arena. Keys are not copied. */
#ifndef MESH_BASE_TABLE_H
#define MESH_BASE_TABLE_H

#include "base/arena.h"

struct table {
	struct arena *arena;
	struct table_entry {
		const char *key;
		void *value;
	} *at;
	size_t len, cap; /* cap is a power of two */
};

/* The value, or NULL. */
void *table_get(const struct table *table, const char *key);

/* Sets KEY to VALUE (not NULL); returns what was there before, or NULL. */
void *table_put(struct table *table, const char *key, void *value);

#endif
