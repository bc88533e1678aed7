/* What a policy's numbers are called, for status and flows: all that stays of a bundle in memory. */
#ifndef MESH_RUNTIME_NAMES_H
#define MESH_RUNTIME_NAMES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct names;

/* Copies from a bundle's manifest and places. NULL: out of memory. */
struct names *names_make(const json_t *manifest, const json_t *where);
void names_release(struct names *names);

uint32_t names_rules(const struct names *names); /* how many */

/* NULL where there is none; the numbers behind the rules are `default`, `self` ... (enum mesh_special). */
const char *names_rule(const struct names *names, uint32_t rule);
bool names_have_rule(const struct names *names, const char *rule);
const char *names_where(const struct names *names, uint32_t rule); /* FILE:LINE:COLUMN; NULL for those */
const char *names_class(const struct names *names, uint32_t class);
const char *names_set(const struct names *names, uint32_t set); /* SERVICE:SUBSET */
/* The rules of audit set AUDIT; *RET_COUNT of them. */
const uint32_t *names_audit(const struct names *names, uint32_t audit, uint32_t *ret_count);

/* The statements of mTLS that let plaintext pass until a day. */
struct names_permissive {
	const char *scope, *until; /* "shop/reviews", "2026-12-31" */
	const char *where;	   /* FILE:LINE:COLUMN, or NULL */
	uint32_t port;		   /* 0: every */
};
/* Whether a statement makes anything strict. */
bool names_strict(const struct names *names);
const struct names_permissive *names_permissive(const struct names *names, uint32_t *ret_count);

#endif
