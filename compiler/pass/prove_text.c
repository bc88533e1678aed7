/* Writes both trees down without positions and compares. It shares nothing with what formats (ir/ast.c prints
 * what people read and may leave out what it should not): each part is written with its length or its bounds,
 * so that different trees are different texts. */
#include "pass/prove_text.h"

#include "ir/ast.h"

#include <errno.h>

static void put_string(struct text *out, const char *string)
{
	if (string)
		text_add(out, " %zu:%s", strlen(string), string);
	else
		text_add(out, " -");
}

static void put_texts(struct text *out, const char *what, const struct ast_text *list)
{
	text_add(out, " (%s", what);
	for (; list; list = list->next)
		put_string(out, list->text);
	text_add(out, ")");
}

static void put_ranges(struct text *out, const struct ast_range *list)
{
	text_add(out, " (ranges");
	for (; list; list = list->next)
		text_add(out, " %lld..%lld", list->lo, list->hi);
	text_add(out, ")");
}

static void put_refs(struct text *out, const struct ast_ref *list)
{
	text_add(out, " (refs");
	for (; list; list = list->next) {
		text_add(out, " %d", list->kind);
		put_string(out, list->name.text);
	}
	text_add(out, ")");
}

static void put_party(struct text *out, const char *what, const struct ast_party *party)
{
	if (!party)
		return;
	text_add(out, " (%s", what);
	put_refs(out, party->in);
	put_refs(out, party->out);
	put_ranges(out, party->ports);
	text_add(out, ")");
}

static void put_expr(struct text *out, const struct ast_expr *expr);

/* `a and (b and c)` is `(a and b) and c`. */
static void put_operands(struct text *out, enum expr_kind kind, const struct ast_expr *expr)
{
	if (expr->kind != kind) {
		put_expr(out, expr);
		return;
	}
	put_operands(out, kind, expr->left);
	put_operands(out, kind, expr->right);
}

static void put_expr(struct text *out, const struct ast_expr *expr)
{
	if (!expr)
		return;
	text_add(out, " (expr %d", expr->kind);
	if (expr->kind == EXPR_AND || expr->kind == EXPR_OR) {
		put_operands(out, expr->kind, expr);
	} else if (expr->kind == EXPR_NOT) {
		put_expr(out, expr->left);
	} else {
		/* A field has a dot and no quotes; what is quoted is a label. */
		text_add(out, " %s %d", strchr(expr->name.text, '.') && !expr->name.quoted ? "field" : "label",
			 expr->op);
		put_string(out, expr->name.text);
		put_string(out, expr->key);
		put_texts(out, "values", expr->values);
		put_ranges(out, expr->numbers);
	}
	text_add(out, ")");
}

static void put_items(struct text *out, const struct ast_item *item)
{
	for (; item; item = item->next) {
		text_add(out, " (item %d %d %lld", item->kind, item->effect, item->target);
		put_string(out, item->protocol);
		put_texts(out, "texts", item->texts);
		put_texts(out, "except", item->except);
		put_ranges(out, item->ports);
		put_expr(out, item->expr);
		text_add(out, ")");
	}
}

static void put_arms(struct text *out, const struct ast_arm *arm)
{
	for (; arm; arm = arm->next) {
		text_add(out, " (arm %d %d", arm->per_connection, arm->sticky);
		put_party(out, "from", arm->from);
		put_expr(out, arm->when);
		for (const struct ast_split *split = arm->splits; split; split = split->next) {
			put_string(out, split->subset ? split->subset->text : NULL);
			text_add(out, " %lld", split->weight);
		}
		text_add(out, ")");
	}
}

static void put_expects(struct text *out, const struct ast_expect *expect)
{
	for (; expect; expect = expect->next) {
		text_add(out, " (expect %s", expect->what);
		put_string(out, expect->by.text);
		put_party(out, "from", expect->from);
		put_party(out, "to", expect->to);
		for (const struct ast_with *with = expect->with; with; with = with->next) {
			put_string(out, with->name.text);
			put_string(out, with->key);
			put_string(out, with->value.text);
		}
		text_add(out, ")");
	}
}

static const char *tree_of(struct run *run, const struct ast_decl *decl)
{
	struct text out = {.arena = run->arena};
	text_add(&out, "(%d", decl->kind);
	put_string(&out, decl->name.text);
	put_string(&out, decl->value.text);
	put_string(&out, decl->mode);
	text_add(&out, " %d %d %d %d", decl->ingress, decl->egress, decl->effect, decl->through_any);
	put_items(&out, decl->items);
	put_texts(&out, "members", decl->members);
	put_refs(&out, decl->scope);
	put_ranges(&out, decl->scope_port);
	put_party(&out, "from", decl->from);
	put_party(&out, "to", decl->to);
	put_expr(&out, decl->when);
	put_arms(&out, decl->arms);
	put_expects(&out, decl->expects);
	text_add(&out, ")");
	return text_end(&out);
}

/* The declarations of a file that shall be there still. */
struct kept {
	uint32_t file;
	const struct span *gone;
	size_t count;
};

static bool is_kept(const struct kept *kept, struct span span)
{
	for (size_t i = 0; i < kept->count; i++)
		if (span.file == kept->gone[i].file && span.offset >= kept->gone[i].offset &&
		    span.offset + span.len <= kept->gone[i].offset + kept->gone[i].len)
			return false;
	return span.file == kept->file;
}

static const struct ast_decl *first_kept(const struct kept *kept, const struct ast_decl *decl)
{
	while (decl && !is_kept(kept, decl->span))
		decl = decl->next;
	return decl;
}

static const char *why_trees_differ(struct run *run, const struct kept *kept, struct run *again)
{
	const struct ast_decl *old = first_kept(kept, run->ast->first), *new = again->ast->first;
	for (; old && new; old = first_kept(kept, old->next), new = new->next)
		if (strcmp(tree_of(run, old), tree_of(run, new)) != 0)
			return arena_printf(run->arena, "the declaration at %s",
					    sources_where(run->arena, &run->sources, old->span));
	if (!old && !new)
		return NULL;
	return old ? arena_printf(run->arena, "the declaration at %s is lost",
				  sources_where(run->arena, &run->sources, old->span))
		   : "a declaration came into being";
}

/* Blanks at the end of a comment are none of it. */
static const char *comment_text(struct run *run, struct span span)
{
	const char *text = run->sources.files.at[span.file].text + span.offset;
	while (span.len && strchr(" \t\r", text[span.len - 1]))
		span.len--;
	return arena_copy(run->arena, text, span.len);
}

static const char *why_comments_differ(struct run *run, uint32_t file, struct run *again)
{
	size_t next = 0;
	for (size_t i = 0; i < run->ast->comments.len; i++) {
		struct span span = run->ast->comments.at[i];
		if (span.file != file)
			continue;
		if (next == again->ast->comments.len ||
		    strcmp(comment_text(run, span), comment_text(again, again->ast->comments.at[next++])) != 0)
			return arena_printf(run->arena, "the comment at %s",
					    sources_where(run->arena, &run->sources, span));
	}
	return next == again->ast->comments.len ? NULL : "a comment came into being";
}

int prove_removal(struct run *run, uint32_t file, const char *text, const struct span *gone, size_t count,
		  const char **ret_why)
{
	struct kept kept = {file, gone, count};
	struct run again = {.arena = run->arena, .sources.arena = run->arena};
	again.diags.arena = run->arena;
	again.diags.sources = &again.sources;
	sources_add(&again.sources, "the new text", text, strlen(text));
	parse(&again);
	if (again.diags.errors)
		*ret_why = arena_printf(run->arena, "it has errors: %s", again.diags.all.at[0].message);
	else if (!(*ret_why = why_trees_differ(run, &kept, &again)))
		*ret_why = why_comments_differ(run, file, &again);
	return *ret_why ? -EINVAL : 0;
}

int prove_text(struct run *run, uint32_t file, const char *text, const char **ret_why)
{
	return prove_removal(run, file, text, NULL, 0, ret_why);
}
