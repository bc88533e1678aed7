/* Reading RE2's syntax: what pattern_re.c (structure) and pattern_char.c (characters, classes) share. */
#ifndef MESH_IR_PATTERN_READER_H
#define MESH_IR_PATTERN_READER_H

#include "ir/pattern.h"

struct reader {
	struct arena *arena;
	const char *text, *at;
	bool fold;
	bool quoting; /* between \Q and \E */
	unsigned depth;
	const char *why; /* set once, by the first that fails */
};

/* Keeps the first reason, with the byte offset of AT. Returns NULL. */
void *reader_fail(struct reader *reader, const char *at, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* True and behind it where WORD is next. */
bool reader_take(struct reader *reader, const char *word);

/* A character of the text, which is UTF-8. -1: it is not. */
long reader_char(struct reader *reader);
/* Behind a backslash: one character, or -1. */
long reader_escape(struct reader *reader);
/* \d \D \s \S \w \W, added to SET. */
bool reader_short(struct reader *reader, struct byte_set *set);
/* Behind '['. */
struct tree *reader_class(struct reader *reader);
struct tree *reader_char_tree(struct reader *reader, long value);

#endif
