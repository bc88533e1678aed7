/* The page of a diagnostic code: text from diag_codes.def, example from tests/errors. */
#include "verb/verb.h"

#include "pass/examples.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>

enum { EXAMPLE_LINES = 30 };

static json_t *page_json(const struct diag_page *page)
{
	char code[16];
	snprintf(code, sizeof(code), "M%04u", page->code);
	return json_pack("{s:s, s:s, s:s, s:s}", "code", code, "severity", diag_severity_name(page->severity), "text",
			 page->text, "page", page->page);
}

/* ALL is given back. */
static void print_json(json_t *all)
{
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static int list_codes(bool json)
{
	json_t *all = json ? json_array() : NULL;
	for (const struct diag_page *page = diag_next_page(NULL); page; page = diag_next_page(page)) {
		if (json)
			json_array_append_new(all, page_json(page));
		else
			printf("M%04u %-7.7s %s\n", page->code, diag_severity_name(page->severity), page->text);
	}
	if (json)
		print_json(all);
	return EXIT_YES;
}

/* Lines of at most 80 columns, indented by nothing. */
static void print_wrapped(const char *text)
{
	size_t column = 0;
	while (*text) {
		size_t word = strcspn(text, " ");
		if (column && column + 1 + word > 80) {
			putchar('\n');
			column = 0;
		}
		column += printf("%s%.*s", column ? " " : "", (int)word, text);
		text += word;
		text += *text == ' ';
	}
	putchar('\n');
}

/* The first example of CODE, without its comments for the tests; a long one is cut. */
static void print_example(unsigned code)
{
	char prefix[16];
	const struct example_file *example = example_files;
	snprintf(prefix, sizeof(prefix), "M%04u_", code);
	while (example->name && strncmp(example->name, prefix, strlen(prefix)) != 0)
		example++;
	if (!example->name)
		return;
	puts("\nAn example:\n");
	const char *line = example->text;
	for (int lines = 0; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		if (line[0] == '#' && line[1] == ' ')
			continue;
		if (++lines > EXAMPLE_LINES) {
			puts("  ...");
			break;
		}
		printf("%s%.*s\n", *line == '\n' ? "" : "  ", (int)strcspn(line, "\n"), line);
	}
}

int verb_explain(const struct options *options, int argc, char **argv)
{
	bool json = strcmp(options->format, "json") == 0;
	if (argc == 1)
		return list_codes(json);
	if (argc > 2)
		return verb_cannot("explain takes one code");
	const char *digits = argv[1];
	digits += toupper((unsigned char)digits[0]) == 'M';
	int64_t code;
	const struct diag_page *page = verb_number(digits, 0, UINT_MAX, &code) ? diag_page((unsigned)code) : NULL;
	if (!page)
		return verb_cannot("no code '%s': `meshc explain` lists them", argv[1]);
	if (json) {
		print_json(page_json(page));
		return EXIT_YES;
	}
	printf("M%04u, %s: %s\n\n", page->code, diag_severity_name(page->severity), page->text);
	print_wrapped(page->page);
	print_example(page->code);
	return EXIT_YES;
}
