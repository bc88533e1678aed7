/* Prints, compares or writes the canonical text (pass/format.c). */
#include "verb/verb.h"

#include "pass/format.h"

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
	a_end = a_end > a && a_end[-1] == '\n' ? a_end : line_end(a_end);
	b_end = b_end > b && b_end[-1] == '\n' ? b_end : line_end(b_end);
	unsigned before = count_lines(old, a), removed = count_lines(a, a_end), added = count_lines(b, b_end);
	printf("--- %s\n+++ %s\n@@ -%u,%u +%u,%u @@\n", name, name, before + (removed > 0), removed,
	       before + (added > 0), added);
	print_lines('-', a, a_end);
	print_lines('+', b, b_end);
}

int verb_fmt(const struct options *options, int argc, char **argv)
{
	bool write = false, only_check = false, diff = false, differs = false;
	struct run run;
	int paths = 0;
	for (int i = 1; i < argc; i++) {
		write |= strcmp(argv[i], "-w") == 0;
		only_check |= strcmp(argv[i], "--check") == 0;
		diff |= strcmp(argv[i], "--diff") == 0;
		if (argv[i][0] != '-' || !argv[i][1])
			argv[1 + paths++] = argv[i];
	}
	if (write + only_check + diff > 1)
		return verb_cannot("one of -w, --check and --diff");
	int code = verb_read(options, &run, paths, argv + 1);
	if (code)
		return code;
	if (pipeline_parse(&run))
		diags_print(&run.diags, stderr, options->color);
	if (run.diags.errors)
		return EXIT_NO;
	for (uint32_t i = 0; i < run.sources.files.len; i++) {
		const struct source_file *file = &run.sources.files.at[i];
		const char *text = format_file(&run, i);
		bool changes = strcmp(text, file->text) != 0;
		differs |= changes;
		if (only_check && changes)
			printf("%s\n", file->name);
		else if (diff && changes)
			print_diff(file->name, file->text, text);
		else if (write && changes && strcmp(file->name, "-") != 0)
			code |= verb_rewrite(file->name, text);
		else if (!only_check && !diff && (!write || strcmp(file->name, "-") == 0))
			fputs(text, stdout);
	}
	verb_done(&run);
	return code ? EXIT_CANNOT : (only_check || diff) && differs ? EXIT_NO : EXIT_YES;
}
