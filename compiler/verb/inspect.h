/* What `inspect`, `inspect --diff` and `compile --budget` share. */
#ifndef MESH_VERB_INSPECT_H
#define MESH_VERB_INSPECT_H

#include "base/bundle.h"
#include "pass/budget.h"
#include "verb/verb.h"

struct inspected {
	const char *path;
	char *bytes; /* owned */
	struct arena *arena;
	struct bundle bundle;
	struct budget budget;
};

/* 0; 1: no bundle, said so; 2. */
int inspect_open(const char *path, struct inspected *ret_inspected);
void inspect_close(struct inspected *inspected);

/* The bytes of the maps that are the node's (SHARED) or each generation's. */
uint64_t inspect_map_bytes(const struct budget *budget, bool shared);
/* The string at KEY, "?" where there is none. */
const char *inspect_text(const json_t *object, const char *key);
long long inspect_number(const json_t *object, const char *key);
/* "0123..", or NULL where it is not signed; in its arena. */
const char *inspect_key_id(const struct inspected *inspected);

/* What differs from OLD to NEW: 0 nothing, 1 what was printed. */
int inspect_diff(const struct options *options, struct inspected *old, struct inspected *new);

/* Each of OBJECT's programs within PERCENT of what the kernel takes, and TABLES_BYTES of what a policy may have:
 * 0; 1 with a line for each that is over; 3 where the object cannot be read (a bug of ours). */
int inspect_gate(struct arena *arena, const void *object, size_t len, uint64_t tables_bytes, unsigned percent);

#endif
