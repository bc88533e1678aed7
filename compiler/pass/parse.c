/* Text to ast: runs the generated parser over each file, and serves it what a token means. */
#include "pass/parser.h"
#include "pass/passes.h"

#include "mesh.tab.h"

#include "mesh.lex.h"

#include <errno.h>
#include <stdlib.h>

enum { STRING_LIMIT = 4096, NAME_LIMIT = 253, HIDDEN_LIMIT = 10, SHOWN_LIMIT = 80 };

static const struct keyword {
	const char *word;
	int token;
} keywords[] = {
#define KEYWORD(word, token) {word, token},
#include "keywords.def"
};

int parser_text(struct parser *parser, YYSTYPE *value, struct span span, const char *text, int token)
{
	value->text = (struct ast_text){.text = arena_copy(parser->arena, text, span.len), .span = span};
	return token;
}

/* A wrong name is one for all that: the grammar need not stumble over it, too. */
static int bad_name(struct parser *parser, YYSTYPE *value, struct span span, const char *text, const char *message)
{
	struct span begin = {span.file, span.offset, span.len < SHOWN_LIMIT ? span.len : SHOWN_LIMIT};
	diag_add(parser->diags, DIAG_BAD_TOKEN, begin, "%s", message);
	return parser_text(parser, value, span, text, NAME);
}

int parser_unquoted(struct parser *parser, YYSTYPE *value, struct span span, const char *text)
{
	return bad_name(parser, value, span, text, "a name with other letters than a-z and A-Z is quoted");
}

int parser_word(struct parser *parser, YYSTYPE *value, struct span span, const char *text)
{
	if (span.len > NAME_LIMIT)
		return bad_name(parser, value, span, text,
				arena_printf(parser->arena, "a name of %u bytes: more than %d", span.len, NAME_LIMIT));
	int token = NAME;
	for (size_t i = 0; i < sizeof(keywords) / sizeof(*keywords); i++)
		if (keywords[i].word[0] == text[0] && strcmp(keywords[i].word, text) == 0)
			token = keywords[i].token;
	return parser_text(parser, value, span, text, token);
}

int parser_number(struct parser *parser, YYSTYPE *value, struct span span, const char *text)
{
	errno = 0;
	value->number = strtoll(text, NULL, 10);
	if (!errno && value->number <= 1000000000)
		return NUMBER;
	parser_complain(parser, span, "a number above 1000000000: nothing here is counted that far");
	return BAD;
}

/* \" and \\ are one character; any other backslash stays, for patterns. */
int parser_string(struct parser *parser, YYSTYPE *value, struct span span, const char *text)
{
	size_t len = 0;
	if (span.len > STRING_LIMIT) {
		parser_complain(parser, span, "a string of more than 4096 bytes");
		return BAD;
	}
	char *string = arena_alloc(parser->arena, span.len);
	for (size_t i = 1; i + 1 < span.len; i++) {
		if (text[i] == '\\' && (text[i + 1] == '"' || text[i + 1] == '\\'))
			i++;
		string[len++] = text[i];
	}
	value->text = (struct ast_text){.text = string, .span = span, .quoted = true};
	return STRING;
}

void parser_complain(struct parser *parser, struct span span, const char *message)
{
	if (span.len > SHOWN_LIMIT)
		span.len = SHOWN_LIMIT;
	diag_add(parser->diags, DIAG_BAD_TOKEN, span, "%s", message);
	parser->complained = true;
}

void parser_comment(struct parser *parser, struct span span)
{
	vec_push(parser->arena, &parser->ast->comments, span);
}

void *parser_last(struct parser *parser, void *head)
{
	for (size_t i = 0; i < sizeof(parser->lists) / sizeof(*parser->lists); i++)
		if (parser->lists[i].head == head)
			return parser->lists[i].last;
	return head;
}

void parser_remember(struct parser *parser, void *head, void *last)
{
	size_t count = sizeof(parser->lists) / sizeof(*parser->lists), i = 0;
	while (i < count && parser->lists[i].head != head)
		i++;
	if (i == count)
		i = parser->next_list++ % count;
	parser->lists[i].head = head;
	parser->lists[i].last = last;
}

/* What is read must be what is meant: strings and comments included. False: something hides in FILE. */
static bool check_visible(struct run *run, uint32_t file)
{
	const struct source_file *source = &run->sources.files.at[file];
	unsigned count = 0;
	for (size_t i = 0; i < source->len && count < HIDDEN_LIMIT;) {
		uint32_t code, next;
		size_t len = source_invisible(source->text, source->text + i, &code), all = len;
		while (all && (len = source_invisible(source->text, source->text + i + all, &next)))
			all += len;
		if (all) {
			struct span span = {file, i, all};
			diag_add(&run->diags, DIAG_BAD_TOKEN, span,
				 "U+%04X does not show, or changes what does: what is read must be what is meant",
				 code);
			count++;
		}
		i += all ? all : 1;
	}
	return !count;
}

void parse(struct run *run)
{
	run->ast = arena_alloc(run->arena, sizeof(*run->ast));
	run->ast->last = &run->ast->first;
	for (uint32_t i = 0; i < run->sources.files.len; i++) {
		const struct source_file *file = &run->sources.files.at[i];
		struct parser parser = {.arena = run->arena, .diags = &run->diags, .ast = run->ast, .file = i};
		yyscan_t scanner;
		if (!check_visible(run, i))
			continue;
		if (yylex_init_extra(&parser, &scanner))
			abort();
		yy_scan_bytes(file->text, file->len, scanner);
		yyparse(scanner, &parser);
		yylex_destroy(scanner);
	}
}
