/* Finite automata for the string conditions: which of a set of patterns match a value. */
#ifndef MESH_IR_AUTOMATON_H
#define MESH_IR_AUTOMATON_H

#include "base/arena.h"

#include <stdbool.h>
#include <stdint.h>

/* LIKE: `*` any run without `/`, `**` any run, `\*` a star, `\\` a backslash.
 * RE: RE2 syntax; groups do not capture. A pattern covers the whole value, so `^` and `$` may stand at
 * its ends and say nothing. `.` and negated classes are one byte: outside ASCII a character counts as
 * its bytes, so that no malformed UTF-8 slips past a `.*`. `.` is any byte: no value has a newline. */
enum pattern_kind { PATTERN_EXACT, PATTERN_LIKE, PATTERN_RE };

struct pattern {
	enum pattern_kind kind;
	const char *text;
	bool fold; /* ASCII case folded: hosts */
};

enum {
	AUTOMATON_LIMIT_SINGLE = 8192, /* states of one pattern alone */
	AUTOMATON_LIMIT_STATES = 65535,
	AUTOMATON_LIMIT_BYTES = 4 << 20, /* states * classes cells of two bytes */
};

/* A minimal complete DFA over bytes for a set of patterns: where a value ends in state s, exactly the
 * patterns in sets[accept[s]] match it. Canonical: the same set of patterns in any order gives the
 * same numbers, but for the indices in sets. */
struct automaton {
	uint32_t states, classes, start;
	uint8_t class_of[256];
	uint32_t *next;	  /* [state * classes + class_of[byte]] */
	uint32_t *accept; /* by state: accept class; class 0 matches nothing */
	uint32_t accept_classes;
	const uint32_t **sets; /* by accept class: indices of patterns, ascending */
	uint32_t *set_len;
};

/* 0; -EINVAL: pattern *ret_bad cannot be read, *ret_why says why with the byte offset; -E2BIG: over a
 * bound, *ret_bad the pattern to blame, *ret_why the bound. Work is counted as well as states. */
int automaton_make(struct arena *arena, const struct pattern *patterns, size_t count, struct automaton **ret_automaton,
		   size_t *ret_bad, const char **ret_why);

/* The accept class in which BYTES end. */
uint32_t automaton_run(const struct automaton *automaton, const char *bytes, size_t len);

/* Does some string end in CLASSES[i] of AUTOMATA[i], for every i at the same time? A shortest one in
 * *ret_text, printable where there is one, or NULL. Strings with control characters other than the
 * tab do not count: no field of a request has them. -E2BIG: not found within the bound on work. */
int automaton_witness(struct arena *arena, const struct automaton *const *automata, const uint32_t *classes,
		      size_t count, const char **ret_text);

/* False where the pattern begins with any run (`*`, `**`, `.*`, `.+`): together with anchored ones
 * those would multiply states, so the two kinds go into different automata. */
bool pattern_is_anchored(const struct pattern *pattern);

#endif
