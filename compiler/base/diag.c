#include "base/diag.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const severities[] = {"note", "warning", "error"};

static const struct diag_page pages[] = {
#define DIAG(number, name, severity, text, page) {number, DIAG_##severity, text, page},
#include "base/diag_codes.def"
#undef DIAG
};

const char *diag_severity_name(enum diag_severity severity)
{
	return severities[severity];
}

const struct diag_page *diag_next_page(const struct diag_page *page)
{
	const struct diag_page *next = page ? page + 1 : pages;
	return next < pages + sizeof(pages) / sizeof(*pages) ? next : NULL;
}

const struct diag_page *diag_page(unsigned code)
{
	const struct diag_page *page = diag_next_page(NULL);
	while (page && page->code != code)
		page = diag_next_page(page);
	return page;
}

static enum diag_severity severity_of(enum diag_code code)
{
	switch (code) {
#define DIAG(number, name, severity, text, page)                                                                       \
	case DIAG_##name:                                                                                              \
		return DIAG_##severity;
#include "base/diag_codes.def"
#undef DIAG
	}
	return DIAG_ERROR;
}

struct diag *diag_add(struct diags *diags, enum diag_code code, struct span span, const char *format, ...)
{
	va_list args;
	char message[2048];
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	struct diag diag = {
		.code = code,
		.severity = severity_of(code),
		.message = arena_copy(diags->arena, message, strlen(message)),
		.spans = {span},
	};
	diags->errors += diag.severity == DIAG_ERROR;
	diags->warnings += diag.severity == DIAG_WARNING;
	if (diag.severity == DIAG_ERROR && diags->errors > DIAG_ERRORS_KEPT) {
		diags->left_out++;
		diags->spare = diag;
		return &diags->spare;
	}
	vec_push(diags->arena, &diags->all, diag);
	return &diags->all.at[diags->all.len - 1];
}

const char *diags_left_out(const struct diags *diags)
{
	return diags->left_out ? arena_printf(diags->arena, "and %zu more error%s", diags->left_out,
					      diags->left_out == 1 ? "" : "s")
			       : NULL;
}

/* ---- Printing ----------------------------------------------------------------------------------- */

static const char *const colors[] = {"\033[1;36m", "\033[1;35m", "\033[1;31m"};

/* What shows nothing, or turns the text around, is a '?' a byte: the caret stays below its place. */
static void print_line(FILE *out, const char *text, size_t len)
{
	uint32_t code;
	for (size_t i = 0; i < len;) {
		size_t hidden = source_invisible(text, text + i, &code);
		if (hidden)
			fprintf(out, "%.*s", (int)hidden, "????");
		else
			fputc(text[i], out);
		i += hidden ? hidden : 1;
	}
}

static void print_excerpt(const struct diags *diags, struct span span, FILE *out, bool color)
{
	const struct source_file *file = &diags->sources->files.at[span.file];
	uint32_t line, column;
	sources_place(diags->sources, span, &line, &column);
	const char *text = file->text + file->lines.at[line - 1];
	size_t len = strcspn(text, "\n");
	uint32_t width = span.len ? span.len : 1;
	if (column - 1 + width > len)
		width = column - 1 < len ? len - (column - 1) : 1;
	fprintf(out, "%5u | ", line);
	print_line(out, text, len < 200 ? len : 200);
	fputs("\n      | ", out);
	for (uint32_t i = 0; i + 1 < column && i < 200; i++)
		fputc(text[i] == '\t' ? '\t' : ' ', out);
	fputs(color ? "\033[1;32m" : "", out);
	for (uint32_t i = 0; i < width && i < 120; i++)
		fputc('^', out);
	fputs(color ? "\033[0m\n" : "\n", out);
}

static bool has_place(const struct diags *diags, struct span span)
{
	return span.len && span.file < diags->sources->files.len;
}

static void print_one(const struct diags *diags, const struct diag *diag, FILE *out, bool color)
{
	if (has_place(diags, diag->spans[0]))
		fprintf(out, "%s: ", sources_where(diags->arena, diags->sources, diag->spans[0]));
	fprintf(out, "%s%s[M%04d]%s: %s\n", color ? colors[diag->severity] : "", severities[diag->severity], diag->code,
		color ? "\033[0m" : "", diag->message);
	if (has_place(diags, diag->spans[0]))
		print_excerpt(diags, diag->spans[0], out, color);
	for (int i = 1; i < 3; i++)
		if (has_place(diags, diag->spans[i])) {
			fprintf(out, "%s: note: %s\n", sources_where(diags->arena, diags->sources, diag->spans[i]),
				diag->labels[i] ? diag->labels[i] : "here");
			print_excerpt(diags, diag->spans[i], out, color);
		}
	if (diag->note)
		fprintf(out, "note: %s\n", diag->note);
	if (diag->fix)
		fprintf(out, *diag->fix ? "fix (%s): replace with '%s'\n" : "fix (%s): remove it\n",
			diag->fix_sure ? "sure" : "perhaps", diag->fix);
}

static int place_compare(const void *left, const void *right)
{
	const struct diag *const *a = left, *const *b = right;
	const struct span *x = &(*a)->spans[0], *y = &(*b)->spans[0];
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return *a < *b ? -1 : *a > *b;
}

static void print_all(const struct diags *diags, FILE *out, bool color)
{
	const struct diag **order = arena_alloc(diags->arena, (diags->all.len + 1) * sizeof(*order));
	for (size_t i = 0; i < diags->all.len; i++)
		order[i] = &diags->all.at[i];
	qsort(order, diags->all.len, sizeof(*order), place_compare);
	for (size_t i = 0; i < diags->all.len; i++)
		if (!diags->skip_notes || order[i]->severity != DIAG_NOTE)
			print_one(diags, order[i], out, color);
	if (diags->left_out)
		fprintf(out, "%s\n", diags_left_out(diags));
}

void diags_print(const struct diags *diags, FILE *out, bool color)
{
	char *text = NULL;
	size_t len = 0;
	FILE *whole = open_memstream(&text, &len); /* OUT may be unbuffered, as stderr is */
	print_all(diags, whole ? whole : out, color);
	if (whole && !fclose(whole))
		fwrite(text, 1, len, out);
	free(text);
}

/* ---- Did you mean ------------------------------------------------------------------------------- */

enum { NEAR_LIMIT = 64 };

/* Levenshtein distance, at most LIMIT + 1. */
unsigned diag_distance(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b);
	unsigned row[NEAR_LIMIT + 1];
	if (a_len > NEAR_LIMIT || b_len > NEAR_LIMIT)
		return NEAR_LIMIT;
	for (size_t k = 0; k <= b_len; k++)
		row[k] = k;
	for (size_t i = 1; i <= a_len; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (size_t k = 1; k <= b_len; k++) {
			unsigned above = row[k], best = diagonal + (a[i - 1] != b[k - 1]);
			best = above + 1 < best ? above + 1 : best;
			best = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
			diagonal = above;
			row[k] = best;
		}
	}
	return row[b_len];
}

/* Two neighbours in the wrong order: to the hand that is one slip, whatever the distance says. */
static bool is_swapped(const char *a, const char *b)
{
	size_t i = 0;
	while (a[i] && a[i] == b[i])
		i++;
	return a[i] && b[i] && a[i] == b[i + 1] && a[i + 1] == b[i] && strcmp(a + i + 2, b + i + 2) == 0;
}

const char *diag_nearest(const char *word, const char *const *names, size_t count)
{
	const char *best = NULL;
	unsigned limit = strlen(word) < 6 ? 1 : strlen(word) / 3, nearest = limit + 1;
	for (size_t i = 0; i < count; i++) {
		unsigned d = is_swapped(word, names[i]) ? 1 : diag_distance(word, names[i]);
		if (d < nearest) {
			nearest = d;
			best = names[i];
		}
	}
	return best;
}
