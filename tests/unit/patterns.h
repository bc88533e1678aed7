/* Patterns at random, and a matcher that shares no line with the automata. */
#ifndef MESH_TESTS_PATTERNS_H
#define MESH_TESTS_PATTERNS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/automaton.h"

static struct arena *arena;

static inline int prepare(void **state)
{
	(void)state;
	arena = arena_create();
	return arena ? 0 : -1;
}

static inline int finish(void **state)
{
	(void)state;
	arena_destroy(arena);
	return 0;
}

/* xorshift64 (Marsaglia 2003): the same on every machine. */
static uint64_t seed;

static inline uint32_t chance(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 32) % below;
}

static inline struct automaton *make(const struct pattern *patterns, size_t count)
{
	struct automaton *automaton = NULL;
	size_t bad = 0;
	const char *why = "";
	int r = automaton_make(arena, patterns, count, &automaton, &bad, &why);
	if (r)
		fail_msg("%d: '%s': %s", r, patterns[bad].text, why);
	return automaton;
}

static inline struct automaton *make_one(enum pattern_kind kind, const char *text)
{
	return make(&(struct pattern){.kind = kind, .text = text}, 1);
}

static inline bool matches(const struct automaton *automaton, uint32_t pattern, const char *bytes, size_t len)
{
	uint32_t class = automaton_run(automaton, bytes, len);
	for (uint32_t i = 0; i < automaton->set_len[class]; i++)
		if (automaton->sets[class][i] == pattern)
			return true;
	return false;
}

/* ---- The independent matcher -------------------------------------------------------------------- */

/* A regular expression made at random: its text, and the sets of positions it leads to. */
struct re {
	enum { RE_SET, RE_CAT, RE_ALT, RE_REPEAT } kind;
	bool has[256];
	struct re *parts[3];
	int count, min, max; /* max -1: forever */
};

struct writer {
	char text[4096];
	size_t len;
	bool posix;
};

static inline void put(struct writer *writer, const char *text)
{
	size_t len = strlen(text);
	assert_true(writer->len + len < sizeof(writer->text));
	memcpy(writer->text + writer->len, text, len + 1);
	writer->len += len;
}

static const char alphabet[] = "ab/-A";

static inline struct re *random_set(struct writer *writer)
{
	/* Written, and which of the alphabet and of all others it has. */
	static const struct {
		const char *text, *has;
		bool others, posix;
	} sets[] = {
		{"a", "a", false, true},
		{"b", "b", false, true},
		{"/", "/", false, true},
		{"-", "-", false, true},
		{".", alphabet, true, true},
		{"[ab]", "ab", false, true},
		{"[^a]", "b/-A", true, true},
		{"[^/]", "ab-A", true, true},
		{"[[:lower:]]", "ab", false, true},
		{"[[:alpha:]-]", "abA-", false, true},
		{"[a-b]", "ab", false, true},
		{"\\w", "abA", false, false},
		{"\\x61", "a", false, false},
		{"[\\W]", "/-", true, false},
		{"\\W", "/-", true, false},
		{"[^\\w/]", "-", true, false},
		{"\\-", "-", false, false},
		{"\\Qa\\E", "a", false, false},
		{"(?i:a)", "aA", false, false},
		{"[[:^alpha:]]", "/-", true, false},
		{"[]/]", "/", false, true},
		{"\\141", "a", false, false},
		{"[-/]", "-/", false, true},
		{"[^]a]", "b/-A", true, true},
	};
	enum { SETS = sizeof(sets) / sizeof(*sets) };
	struct re *re = arena_alloc(arena, sizeof(*re));
	size_t i = chance(SETS);
	while (writer->posix && !sets[i].posix)
		i = chance(SETS);
	put(writer, sets[i].text);
	re->kind = RE_SET;
	for (const char *c = alphabet; *c; c++)
		re->has[(unsigned char)*c] = strchr(sets[i].has, *c);
	/* One character outside the alphabet, and one byte outside ASCII, stand for all others. */
	re->has['!'] = sets[i].others;
	re->has[0xc3] = sets[i].others;
	return re;
}

static inline struct re *random_re(struct writer *writer, int depth);

static inline struct re *random_repeat(struct writer *writer, int depth)
{
	struct re *re = arena_alloc(arena, sizeof(*re));
	char bounds[16];
	re->kind = RE_REPEAT;
	put(writer, writer->posix || chance(2) ? "(" : "(?:");
	re->parts[re->count++] = random_re(writer, depth - 1);
	re->min = chance(3);
	re->max = chance(2) ? -1 : re->min + (int)chance(3);
	snprintf(bounds, sizeof(bounds),
		 re->max < 0	      ? "){%d,}"
		 : re->max == re->min ? "){%d}"
				      : "){%d,%d}",
		 re->min, re->max);
	put(writer, re->max < 0 && re->min < 2 ? (re->min ? ")+" : ")*") : bounds);
	if (!writer->posix && !chance(4))
		put(writer, "?");
	return re;
}

static inline struct re *random_re(struct writer *writer, int depth)
{
	uint32_t what = depth ? chance(5) : 0;
	if (what < 2)
		return random_set(writer);
	if (what == 2)
		return random_repeat(writer, depth);
	struct re *re = arena_alloc(arena, sizeof(*re));
	re->kind = what == 3 ? RE_CAT : RE_ALT;
	re->count = 2 + (int)chance(2);
	put(writer, writer->posix || chance(2) ? "(" : "(?:");
	for (int i = 0; i < re->count; i++) {
		put(writer, i && re->kind == RE_ALT ? "|" : "");
		re->parts[i] = random_re(writer, depth - 1);
	}
	put(writer, ")");
	return re;
}

/* The positions, as bits, where a match can end that begins at one of STARTS. */
static inline uint32_t ends(const struct re *re, const char *text, size_t len, uint32_t starts)
{
	uint32_t now = starts, all = 0;
	switch (re->kind) {
	case RE_SET:
		for (size_t i = 0; i < len; i++)
			if (starts >> i & 1 && re->has[(unsigned char)text[i]])
				all |= 2u << i;
		return all;
	case RE_CAT:
		for (int i = 0; i < re->count; i++)
			now = ends(re->parts[i], text, len, now);
		return now;
	case RE_ALT:
		for (int i = 0; i < re->count; i++)
			all |= ends(re->parts[i], text, len, starts);
		return all;
	default:
		for (int i = 0; i < re->min; i++)
			now = ends(re->parts[0], text, len, now);
		all = now;
		for (int i = re->min; i < (re->max < 0 ? re->min + 32 : re->max); i++)
			all |= now = ends(re->parts[0], text, len, now);
		return all;
	}
}

static inline bool like_matches(const char *pattern, const char *text)
{
	if (pattern[0] == '*' && pattern[1] == '*') {
		for (size_t i = 0; i <= strlen(text); i++)
			if (like_matches(pattern + 2, text + i))
				return true;
		return false;
	}
	if (pattern[0] == '*') {
		for (size_t i = 0;; i++) {
			if (like_matches(pattern + 1, text + i))
				return true;
			if (!text[i] || text[i] == '/')
				return false;
		}
	}
	if (pattern[0] == '\\')
		pattern++;
	return pattern[0] ? pattern[0] == text[0] && like_matches(pattern + 1, text + 1) : !text[0];
}

static inline size_t random_text(char *text, size_t most)
{
	static const char letters[] = "ab/-A!\xc3";
	size_t len = chance(most + 1);
	for (size_t i = 0; i < len; i++)
		text[i] = chance(3) ? letters[chance(3)] : letters[chance(7)];
	text[len] = 0;
	return len;
}

static inline const char *random_like(void)
{
	static const char *const parts[] = {"a", "b", "/", "-", "*", "**", "\\*", "\\\\", "a/", "A"};
	char text[64] = "";
	for (uint32_t n = chance(7); n--;)
		strcat(text, parts[chance(10)]);
	return arena_copy(arena, text, strlen(text));
}

static inline struct pattern random_pattern(void)
{
	struct pattern pattern = {.kind = chance(3)};
	struct writer writer = {0};
	if (pattern.kind == PATTERN_RE) {
		random_re(&writer, 2);
		pattern.text = arena_copy(arena, writer.text, writer.len);
	} else {
		pattern.text = random_like();
	}
	pattern.fold = !chance(4);
	return pattern;
}

#endif
