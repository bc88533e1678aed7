/* Prints, compares or writes the canonical text (pass/format.c), once it is proved to say the same. */
#include "verb/verb.h"

#include "pass/format.h"
#include "pass/prove_text.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- What to do with it ------------------------------------------------------------------------- */

static const char *line_end(const char *text)
{
	const char *end = strchr(text, '\n');
	return end ? end + 1 : text + strlen(text);
}

/* FROM begins a line. */
static bool is_line_begin(const char *from, const char *at)
{
	return at == from || at[-1] == '\n';
}

static void print_lines(char mark, const char *text, const char *end)
{
	while (text < end) {
		const char *next = line_end(text);
		printf("%c%.*s%s", mark, (int)(next - text), text,
		       next[-1] == '\n' ? "" : "\n\\ No newline at end of file\n");
		text = next;
	}
}

static unsigned count_lines(const char *text, const char *end)
{
	unsigned count = 0;
	for (; text < end; text = line_end(text))
		count++;
	return count;
}

/* One hunk: from the first line that differs to the last. */
static void print_diff(const char *name, const char *old, const char *new)
{
	const char *a = old, *b = new, *a_end = old + strlen(old), *b_end = new + strlen(new);
	while (*a && line_end(a) - a == line_end(b) - b && memcmp(a, b, line_end(a) - a) == 0) {
		a = line_end(a);
		b = line_end(b);
	}
	while (a_end > a && b_end > b && a_end[-1] == b_end[-1])
		a_end--, b_end--;
	/* What is behind both is the same: if a line of either is cut, so is that of the other. */
	if (!is_line_begin(a, a_end) || !is_line_begin(b, b_end)) {
		a_end = line_end(a_end);
		b_end = line_end(b_end);
	}
	unsigned before = count_lines(old, a), removed = count_lines(a, a_end), added = count_lines(b, b_end);
	printf("--- %s\n+++ %s\n@@ -%u,%u +%u,%u @@\n", name, name, before + (removed > 0), removed,
	       before + (added > 0), added);
	print_lines('-', a, a_end);
	print_lines('+', b, b_end);
}

enum mode { MODE_PRINT, MODE_WRITE, MODE_CHECK, MODE_DIFF };

/* The canonical text of every file, each proved to say what the file says: NULL, and told, where one does not. */
static const char **format_all(struct run *run)
{
	const char **texts = arena_alloc(run->arena, (run->sources.files.len + 1) * sizeof(*texts)), *why;
	for (uint32_t i = 0; i < run->sources.files.len; i++) {
		texts[i] = format_file(run, i);
		if (!prove_text(run, i, texts[i], &why))
			continue;
		fprintf(stderr,
			"meshc: a bug of ours: the formatted text of %s does not say the same: %s\n"
			"Nothing was written. Please report it with the policy.\n",
			run->sources.files.at[i].name, why);
		return NULL;
	}
	return texts;
}

/* As the file is, with the byte order mark that the canonical text has not. */
static const char *old_text(const struct run *run, uint32_t file)
{
	const struct source_file *source = &run->sources.files.at[file];
	return source->bom ? arena_printf(run->arena, "\xef\xbb\xbf%s", source->text) : source->text;
}

/* 0 or 2. */
static int show(const struct source_file *file, const char *old, const char *text, enum mode mode)
{
	bool changes = strcmp(text, old) != 0, piped = strcmp(file->name, "-") == 0;
	if (mode == MODE_CHECK && changes)
		printf("%s\n", file->name);
	else if (mode == MODE_DIFF && changes)
		print_diff(file->name, old, text);
	else if (mode == MODE_WRITE && changes && !piped)
		return verb_rewrite(file->name, text);
	else if (mode == MODE_PRINT || (mode == MODE_WRITE && piped))
		fputs(text, stdout);
	return EXIT_YES;
}

static int format_run(const struct options *options, struct run *run, enum mode mode)
{
	bool differs = false;
	int code = EXIT_YES;
	if (pipeline_parse(run))
		diags_print(&run->diags, stderr, options->color);
	if (run->diags.errors)
		return EXIT_NO;
	const char **texts = format_all(run);
	if (!texts)
		return EXIT_BUG;
	for (uint32_t i = 0; i < run->sources.files.len; i++) {
		const char *old = old_text(run, i);
		differs |= strcmp(texts[i], old) != 0;
		code |= show(&run->sources.files.at[i], old, texts[i], mode);
	}
	return code ? EXIT_CANNOT : (mode == MODE_CHECK || mode == MODE_DIFF) && differs ? EXIT_NO : EXIT_YES;
}

int verb_fmt(const struct options *options, int argc, char **argv)
{
	static const char *const flags[] = {[MODE_WRITE] = "-w", [MODE_CHECK] = "--check", [MODE_DIFF] = "--diff"};
	enum mode mode = MODE_PRINT;
	struct run run;
	int paths = 0;
	for (int i = 1; i < argc; i++) {
		enum mode flag = MODE_DIFF;
		while (flag && strcmp(argv[i], flags[flag]) != 0)
			flag--;
		if (flag && mode && mode != flag)
			return verb_cannot("one of -w, --check and --diff");
		mode = flag ? flag : mode;
		if (argv[i][0] != '-' || !argv[i][1])
			argv[1 + paths++] = argv[i];
	}
	if (mode == MODE_WRITE && options->output)
		return verb_cannot("-w writes the files themselves: no -o with it");
	int code = verb_read(options, &run, paths, argv + 1);
	if (code)
		return code;
	code = format_run(options, &run, mode);
	verb_done(&run);
	return code;
}
