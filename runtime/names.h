/* What a policy's numbers are called, for status and flows: all that stays of a bundle in memory. */
#ifndef MESH_RUNTIME_NAMES_H
#define MESH_RUNTIME_NAMES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct names;

/* Copies from a bundle's manifest and places. NULL: out of memory. */
struct names *names_make(const json_t *manifest, const json_t *where);
void names_release(struct names *names);

uint32_t names_rules(const struct names *names); /* how many */

/* NULL where there is none; the four numbers behind the rules are `default`, `self`, `conflict`, `unknown`. */
const char *names_rule(const struct names *names, uint32_t rule);
const char *names_where(const struct names *names, uint32_t rule); /* FILE:LINE:COLUMN; NULL for the four */
const char *names_class(const struct names *names, uint32_t class);
const char *names_set(const struct names *names, uint32_t set); /* SERVICE:SUBSET */
/* The rules of audit set AUDIT; *RET_COUNT of them. */
const uint32_t *names_audit(const struct names *names, uint32_t audit, uint32_t *ret_count);

#endif
