/* The one canonical text. Statements stay in their order and keep their comments: one on its own
 * line stays before what follows it, one behind a statement stays behind it, one inside a statement
 * moves before it. One blank line is kept where there was any. */
#include "pass/format.h"

#include "ir/ast.h"

enum { WIDTH = 100 };

struct format {
	struct run *run;
	uint32_t file;
	size_t comment; /* the next one */
	struct text out;
	uint32_t last_line; /* where what was printed last ended; 0: a block begins */
};

/* ---- Comments and blank lines ------------------------------------------------------------------- */

static uint32_t line_of(const struct format *format, uint32_t offset)
{
	uint32_t line, column;
	sources_place(&format->run->sources, (struct span){format->file, offset, 1}, &line, &column);
	return line;
}

static void begin_line(struct format *format, uint32_t offset, int indent)
{
	uint32_t line = line_of(format, offset);
	if (format->last_line && line > format->last_line + 1)
		text_add(&format->out, "\n");
	text_add(&format->out, "%*s", indent, "");
}

static const struct span *next_comment(const struct format *format)
{
	const struct ast *ast = format->run->ast;
	if (format->comment >= ast->comments.len || ast->comments.at[format->comment].file != format->file)
		return NULL;
	return &ast->comments.at[format->comment];
}

static void print_comment(struct format *format, const struct span *comment)
{
	const char *text = format->run->sources.files.at[format->file].text + comment->offset;
	uint32_t len = comment->len;
	while (len && strchr(" \t\r", text[len - 1]))
		len--;
	text_add(&format->out, "%.*s\n", (int)len, text);
	format->last_line = line_of(format, comment->offset);
	format->comment++;
}

static void comments_before(struct format *format, uint32_t offset, int indent)
{
	for (const struct span *comment; (comment = next_comment(format)) && comment->offset < offset;) {
		begin_line(format, comment->offset, indent);
		print_comment(format, comment);
	}
}

/* Ends the line of a statement that ends at END; a comment behind it on its line, before LIMIT, stays. */
static void end_line(struct format *format, uint32_t end, uint32_t limit)
{
	const struct span *comment = next_comment(format);
	format->last_line = line_of(format, end ? end - 1 : 0);
	if (comment && comment->offset < limit && line_of(format, comment->offset) == format->last_line) {
		text_add(&format->out, "  ");
		print_comment(format, comment);
	} else {
		text_add(&format->out, "\n");
	}
}

static struct text *scratch(struct format *format)
{
	struct text *text = arena_alloc(format->run->arena, sizeof(*text));
	text->arena = format->run->arena;
	return text;
}

/* HEAD, and TAIL (may be empty) on the same line where both fit. */
static void statement(struct format *format, struct span span, int indent, struct text *head, struct text *tail,
		      uint32_t limit)
{
	const char *first = text_end(head), *second = text_end(tail);
	comments_before(format, span.offset + span.len, indent);
	begin_line(format, span.offset, indent);
	bool fits = indent + head->bytes.len + tail->bytes.len + 2 <= WIDTH;
	text_add(&format->out, "%s", first);
	if (tail->bytes.len && fits)
		text_add(&format->out, " %s", second);
	else if (tail->bytes.len)
		text_add(&format->out, "\n%*s%s", indent + 2, "", second);
	text_add(&format->out, ";");
	end_line(format, span.offset + span.len, limit);
}

/* ---- Blocks ------------------------------------------------------------------------------------- */

static void print_texts(struct text *text, const struct ast_text *list, void (*print)(struct text *, const char *))
{
	for (; list; list = list->next) {
		if (print)
			print(text, list->text);
		else
			text_add(text, "%s", list->text);
		text_add(text, "%s", list->next ? ", " : "");
	}
}

static void print_addresses(struct text *text, const struct ast_item *item)
{
	print_texts(text, item->texts, NULL);
	if (item->except) {
		text_add(text, " except ");
		print_texts(text, item->except, NULL);
	}
}

static void print_item(struct text *text, const struct ast_item *item)
{
	switch (item->kind) {
	case ITEM_WORKLOAD:
		text_add(text, "workload ");
		ast_print_expr(text, item->expr);
		break;
	case ITEM_ADDRESS:
		text_add(text, "address ");
		print_addresses(text, item);
		break;
	case ITEM_CIDR:
		text_add(text, "cidr ");
		print_addresses(text, item);
		break;
	case ITEM_ACCOUNT:
		text_add(text, "account ");
		ast_print_word(text, item->texts->text);
		break;
	case ITEM_IDENTITY:
		text_add(text, "identity ");
		ast_print_string(text, item->texts->text);
		break;
	case ITEM_PORT:
		text_add(text, "%s ", item->protocol);
		ast_print_ranges(text, item->ports);
		if (item->target >= 0)
			text_add(text, " to %lld", item->target);
		break;
	case ITEM_SUBSET:
		text_add(text, "subset ");
		ast_print_word(text, item->texts->text);
		text_add(text, " = ");
		ast_print_expr(text, item->expr);
		break;
	case ITEM_INGRESS:
	case ITEM_EGRESS:
		text_add(text, "%s %s", item->kind == ITEM_INGRESS ? "ingress" : "egress", effect_name(item->effect));
		break;
	}
}

static void print_arm(struct text *text, const struct ast_arm *arm)
{
	if (arm->sticky) {
		text_add(text, "sticky by source");
		return;
	}
	if (arm->from) {
		text_add(text, "from ");
		ast_print_party(text, arm->from);
		text_add(text, " ");
	}
	if (arm->when) {
		text_add(text, "when ");
		ast_print_expr(text, arm->when);
		text_add(text, " ");
	}
	text_add(text, "split %s", arm->per_connection ? "per connection " : "");
	for (const struct ast_split *split = arm->splits; split; split = split->next) {
		if (split->subset) {
			/* `per` is no name here: quoted, it is. */
			if (strpbrk(split->subset->text, "./\" ") || !split->subset->text[0] || split->subset->quoted)
				ast_print_string(text, split->subset->text);
			else
				ast_print_word(text, split->subset->text);
			text_add(text, " ");
		}
		text_add(text, "%lld%s", split->weight, split->next ? ", " : "");
	}
}

static void print_expect(struct text *head, struct text *tail, const struct ast_expect *expect)
{
	text_add(head, "expect %s", expect->what);
	if (expect->by.text) {
		text_add(head, "%s", strcmp(expect->what, "subset") == 0 ? " " : " by ");
		ast_print_word(head, expect->by.text);
	}
	text_add(head, ": from ");
	ast_print_party(head, expect->from);
	text_add(head, " to ");
	ast_print_party(head, expect->to);
	for (const struct ast_with *with = expect->with; with; with = with->next) {
		text_add(tail, "%s%s", with == expect->with ? "with " : "", with->name.text);
		if (with->key) {
			text_add(tail, "[");
			ast_print_string(tail, with->key);
			text_add(tail, "]");
		}
		text_add(tail, " = ");
		ast_print_string(tail, with->value.text);
		text_add(tail, "%s", with->next ? ", " : "");
	}
}

static void block(struct format *format, const struct ast_decl *decl, struct text *head)
{
	uint32_t end = decl->span.offset + decl->span.len;
	begin_line(format, decl->span.offset, 0);
	text_add(&format->out, "%s {\n", text_end(head));
	format->last_line = 0;
	for (const struct ast_item *item = decl->items; item; item = item->next) {
		struct text *text = scratch(format);
		print_item(text, item);
		statement(format, item->span, 2, text, scratch(format), end);
	}
	for (const struct ast_arm *arm = decl->arms; arm; arm = arm->next) {
		struct text *text = scratch(format);
		print_arm(text, arm);
		statement(format, arm->span, 2, text, scratch(format), end);
	}
	for (const struct ast_expect *expect = decl->expects; expect; expect = expect->next) {
		struct text *text = scratch(format), *tail = scratch(format);
		print_expect(text, tail, expect);
		statement(format, expect->span, 2, text, tail, end);
	}
	comments_before(format, end, 2);
	text_add(&format->out, "}");
	end_line(format, end, UINT32_MAX);
}

/* ---- Declarations ------------------------------------------------------------------------------- */

static void print_defaults(struct text *text, const struct ast_decl *decl)
{
	const char *comma = " ";
	text_add(text, decl->kind == DECL_MESH ? "mesh " : "namespace ");
	ast_print_word(text, decl->name.text);
	text_add(text, ":");
	if (decl->value.text) {
		text_add(text, " trust ");
		ast_print_string(text, decl->value.text);
		comma = ", ";
	}
	if (decl->ingress != EFFECT_NONE) {
		text_add(text, "%singress %s", comma, effect_name(decl->ingress));
		comma = ", ";
	}
	if (decl->egress != EFFECT_NONE)
		text_add(text, "%segress %s", comma, effect_name(decl->egress));
}

static void print_mtls(struct text *text, const struct ast_decl *decl)
{
	text_add(text, "mtls %s", decl->mode);
	if (decl->scope) {
		struct ast_party party = {.in = decl->scope, .ports = decl->scope_port};
		text_add(text, " for ");
		ast_print_party(text, &party);
	} else if (decl->scope_port) {
		text_add(text, " port ");
		ast_print_ranges(text, decl->scope_port);
	}
	if (decl->value.text) {
		text_add(text, decl->mode[0] == 'p' ? " until " : " because ");
		ast_print_string(text, decl->value.text);
	}
}

static void print_rule(struct text *head, struct text *tail, const struct ast_decl *decl)
{
	if (decl->kind == DECL_RULE) {
		text_add(head, "%s ", effect_name(decl->effect));
		ast_print_word(head, decl->name.text);
	} else {
		text_add(head, "never ");
		ast_print_string(head, decl->name.text);
	}
	text_add(head, ": from ");
	ast_print_party(head, decl->from);
	text_add(head, " to ");
	ast_print_party(head, decl->to);
	text_add(head, "%s", decl->through_any ? " through any" : "");
	if (decl->when) {
		text_add(tail, "when ");
		ast_print_expr(tail, decl->when);
	}
}

static void print_simple(struct text *head, struct text *tail, const struct ast_decl *decl)
{
	static const char *const words[] = {[DECL_NAMESPACE] = "namespace ",
					    [DECL_IDENTITY] = "identity ",
					    [DECL_CIDR] = "cidr ",
					    [DECL_GROUP] = "group "};
	if (decl->kind == DECL_MESH || decl->kind == DECL_DEFAULT) {
		print_defaults(head, decl);
	} else if (decl->kind == DECL_MTLS) {
		print_mtls(head, decl);
	} else if (decl->kind == DECL_RULE || decl->kind == DECL_NEVER) {
		print_rule(head, tail, decl);
	} else {
		text_add(head, "%s", words[decl->kind]);
		ast_print_word(head, decl->name.text);
		text_add(head, decl->kind == DECL_NAMESPACE ? "" : " = ");
		if (decl->kind == DECL_IDENTITY)
			ast_print_string(head, decl->value.text);
		else if (decl->kind == DECL_CIDR)
			print_addresses(head, decl->items);
		else if (decl->kind == DECL_GROUP)
			print_texts(head, decl->members, ast_print_name);
	}
}

static void declaration(struct format *format, const struct ast_decl *decl)
{
	struct text *head = scratch(format), *tail = scratch(format);
	const char *word = decl->kind == DECL_SERVICE	 ? "service "
			   : decl->kind == DECL_EXTERNAL ? "external "
			   : decl->kind == DECL_ROUTE	 ? "route "
			   : decl->kind == DECL_TEST	 ? "test "
							 : NULL;
	if (!word) {
		print_simple(head, tail, decl);
		statement(format, decl->span, 0, head, tail, UINT32_MAX);
		return;
	}
	comments_before(format, decl->span.offset, 0);
	text_add(head, "%s", word);
	if (decl->kind == DECL_TEST)
		ast_print_string(head, decl->name.text);
	else
		ast_print_word(head, decl->name.text);
	block(format, decl, head);
}

const char *format_file(struct run *run, uint32_t file)
{
	struct format format = {.run = run, .file = file, .out = {.arena = run->arena}};
	while (format.comment < run->ast->comments.len && run->ast->comments.at[format.comment].file < file)
		format.comment++;
	for (const struct ast_decl *decl = run->ast->first; decl; decl = decl->next)
		if (decl->span.file == file)
			declaration(&format, decl);
	comments_before(&format, UINT32_MAX, 0);
	return text_end(&format.out);
}
