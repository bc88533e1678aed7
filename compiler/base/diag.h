/* Diagnostics: queued values, printed at the edge. */
#ifndef MESH_BASE_DIAG_H
#define MESH_BASE_DIAG_H

#include "base/source.h"

#include <stdio.h>

enum diag_code {
#define DIAG(number, name, severity, text, page) DIAG_##name = number,
#include "base/diag_codes.def"
#undef DIAG
};

enum diag_severity { DIAG_NOTE, DIAG_WARNING, DIAG_ERROR };

struct diag {
	enum diag_code code;
	enum diag_severity severity;
	const char *message;
	struct span spans[3];  /* the first is the place; the others are shown as notes; len 0: unused */
	const char *labels[3]; /* NULL: none */
	const char *note;      /* NULL: none */
	struct span fix_span;
	const char *fix; /* NULL: none; replaces fix_span */
	bool fix_sure;
};

struct diags {
	struct arena *arena;
	const struct sources *sources;
	VEC(struct diag) all;
	size_t errors, warnings;
	size_t left_out;   /* errors that are counted, but not in ALL */
	struct diag spare; /* the last of them */
	bool skip_notes;   /* diags_print leaves out what is neither error nor warning */
};

enum { DIAG_ERRORS_KEPT = 1000 };

/* Queues one, of the errors the first DIAG_ERRORS_KEPT; the severity is that of diag_codes.def. The result may be
 * given spans, a note, a fix until the next call. */
struct diag *diag_add(struct diags *diags, enum diag_code code, struct span span, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Prints all, in order of place, at one blow. Text: GNU head line, excerpt, caret, note, fix. */
void diags_print(const struct diags *diags, FILE *out, bool color);
/* "and 3 more errors", or NULL where none was left out. */
const char *diags_left_out(const struct diags *diags);

/* What is known of a code. NULL: there is none. */
struct diag_page {
	unsigned code;
	enum diag_severity severity;
	const char *text, *page;
};
const char *diag_severity_name(enum diag_severity severity);
const struct diag_page *diag_page(unsigned code);
/* The page after PAGE, from NULL the first; NULL at the end. */
const struct diag_page *diag_next_page(const struct diag_page *page);

/* Levenshtein distance of two words of at most 64 bytes; 64 for longer ones. */
unsigned diag_distance(const char *a, const char *b);

/* The nearest of NAMES to WORD by edit distance (two neighbours swapped are one edit), or NULL where none is
 * near. */
const char *diag_nearest(const char *word, const char *const *names, size_t count);

#endif
