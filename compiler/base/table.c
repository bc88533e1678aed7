#include "base/table.h"

#include <stdint.h>
#include <string.h>

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_text(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	return hash;
}

static struct table_entry *slot_of(const struct table *table, const char *key)
{
	size_t i = hash_text(key) & (table->cap - 1);
	while (table->at[i].key && strcmp(table->at[i].key, key) != 0)
		i = (i + 1) & (table->cap - 1);
	return &table->at[i];
}

void *table_get(const struct table *table, const char *key)
{
	return table->cap ? slot_of(table, key)->value : NULL;
}

void *table_put(struct table *table, const char *key, void *value)
{
	if (table->len * 2 >= table->cap) {
		struct table grown = {.arena = table->arena, .cap = table->cap ? table->cap * 2 : 16};
		grown.at = arena_alloc(table->arena, grown.cap * sizeof(*grown.at));
		for (size_t i = 0; i < table->cap; i++)
			if (table->at[i].key)
				*slot_of(&grown, table->at[i].key) = table->at[i];
		grown.len = table->len;
		*table = grown;
	}
	struct table_entry *slot = slot_of(table, key);
	void *before = slot->value;
	if (!slot->key)
		table->len++;
	slot->key = key;
	slot->value = value;
	return before;
}
