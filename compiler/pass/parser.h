/* Shared by the lexer, the grammar and pass/parse.c alone. */
#ifndef MESH_PASS_PARSER_H
#define MESH_PASS_PARSER_H

#include "ir/ast.h"

enum { PARSER_DEPTH = 200 };

struct parser {
	struct arena *arena;
	struct diags *diags;
	struct ast *ast;
	uint32_t file, offset;
	int depth;
	bool complained; /* of the token at hand: the grammar need not */
	struct {
		void *head, *last;
	} lists[8]; /* ends of the lists that are being built: appending is O(1) */
	unsigned next_list;
};

union YYSTYPE;
int parser_text(struct parser *parser, union YYSTYPE *value, struct span span, const char *text, int token);
int parser_number(struct parser *parser, union YYSTYPE *value, struct span span, const char *text);
int parser_word(struct parser *parser, union YYSTYPE *value, struct span span, const char *text);
/* A word with other letters than ASCII's: a name only in quotes. */
int parser_unquoted(struct parser *parser, union YYSTYPE *value, struct span span, const char *text);
int parser_string(struct parser *parser, union YYSTYPE *value, struct span span, const char *text);
void parser_complain(struct parser *parser, struct span span, const char *message);
void parser_comment(struct parser *parser, struct span span);

/* Allocation of a node with its span. */
#define NODE(type, at, ...)                                                                                            \
	({                                                                                                             \
		struct type *node_ = arena_alloc(parser->arena, sizeof(struct type));                                  \
		*node_ = (struct type){.span = (at), __VA_ARGS__};                                                     \
		node_;                                                                                                 \
	})

void *parser_last(struct parser *parser, void *head); /* a node of HEAD's list, as far behind as is known */
void parser_remember(struct parser *parser, void *head, void *last);

/* Appends NODE to the list FIRST (both may be NULL): NODE's own list goes behind. */
#define ast_append(first, node)                                                                                        \
	({                                                                                                             \
		__typeof__(first) head_ = (first), node_ = (node);                                                     \
		__typeof__(first) last_ = head_ ? parser_last(parser, head_) : node_;                                  \
		while (last_ && last_->next)                                                                           \
			last_ = last_->next;                                                                           \
		if (head_ && node_)                                                                                    \
			last_->next = node_;                                                                           \
		head_ = head_ ? head_ : node_;                                                                         \
		if (head_)                                                                                             \
			parser_remember(parser, head_, node_ ? node_ : last_);                                         \
		head_;                                                                                                 \
	})

#endif
