/* The canonical text of the parts of a declaration, and names. */
#include "ir/ast.h"
#include "ir/field.h"
#include "ir/literal.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

void text_add(struct text *text, const char *format, ...)
{
	va_list args, again;
	va_start(args, format);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	while (text->bytes.cap < text->bytes.len + len + 1)
		text->bytes.at = vec_grown(text->arena, text->bytes.at, text->bytes.len, &text->bytes.cap, 1);
	vsnprintf(text->bytes.at + text->bytes.len, len + 1, format, again);
	va_end(again);
	text->bytes.len += len;
}

const char *text_end(struct text *text)
{
	text_add(text, "%s", "");
	return text->bytes.at;
}

static bool is_plain(const char *name, size_t len)
{
	static const char *const reserved[] = {"from", "to",	  "when", "and",   "or",   "not",	"in",	 "has",
					       "like", "matches", "any",  "world", "node", "namespace", "except"};
	if (!len || len > 253 || (!isalpha((unsigned char)name[0]) && name[0] != '_'))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-')
			return false;
	for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
		if (strlen(reserved[i]) == len && memcmp(reserved[i], name, len) == 0)
			return false;
	return true;
}

/* A backslash needs another only before what it would hide: parser_string. */
static void print_quoted(struct text *text, const char *string, size_t len)
{
	text_add(text, "\"");
	for (size_t i = 0; i < len; i++) {
		char next = i + 1 < len ? string[i + 1] : '"';
		if (string[i] == '"' || (string[i] == '\\' && (next == '\\' || next == '"')))
			text_add(text, "\\");
		text_add(text, "%c", string[i]);
	}
	text_add(text, "\"");
}

void ast_print_string(struct text *text, const char *string)
{
	print_quoted(text, string, strlen(string));
}

static void print_part(struct text *text, const char *name, size_t len)
{
	if (is_plain(name, len))
		text_add(text, "%.*s", (int)len, name);
	else
		print_quoted(text, name, len);
}

void ast_print_word(struct text *text, const char *name)
{
	print_part(text, name, strlen(name));
}

void ast_print_name(struct text *text, const char *name)
{
	const char *slash = strchr(name, '/');
	if (slash) {
		print_part(text, name, slash - name);
		text_add(text, "/");
		name = slash + 1;
	}
	print_part(text, name, strlen(name));
}

void ast_print_ranges(struct text *text, const struct ast_range *ranges)
{
	bool many = ranges && ranges->next;
	text_add(text, "%s", many ? "{" : "");
	for (const struct ast_range *range = ranges; range; range = range->next) {
		text_add(text, "%s%lld", range == ranges ? "" : ", ", range->lo);
		if (range->hi != range->lo)
			text_add(text, "..%lld", range->hi);
	}
	text_add(text, "%s", many ? "}" : "");
}

static void print_ref(struct text *text, const struct ast_ref *ref)
{
	switch (ref->kind) {
	case REF_NAMESPACE:
		text_add(text, "namespace ");
		print_part(text, ref->name.text, strlen(ref->name.text));
		break;
	case REF_NAME:
		ast_print_name(text, ref->name.text);
		break;
	case REF_ADDRESS:
		text_add(text, "%s", ref->name.text);
		break;
	case REF_ANY:
		text_add(text, "any");
		break;
	case REF_WORLD:
		text_add(text, "world");
		break;
	case REF_NODE:
		text_add(text, "node");
		break;
	}
}

void ast_print_party(struct text *text, const struct ast_party *party)
{
	for (const struct ast_ref *ref = party->in; ref; ref = ref->next) {
		print_ref(text, ref);
		text_add(text, "%s", ref->next ? ", " : "");
	}
	for (const struct ast_ref *ref = party->out; ref; ref = ref->next) {
		text_add(text, "%s", ref == party->out ? " except " : ", ");
		print_ref(text, ref);
	}
	if (party->ports) {
		text_add(text, " port ");
		ast_print_ranges(text, party->ports);
	}
}

static void print_label(struct text *text, const struct ast_expr *expr)
{
	if (strchr(expr->name.text, '.') && !expr->name.quoted)
		text_add(text, "%s", expr->name.text);
	else
		print_part(text, expr->name.text, strlen(expr->name.text));
	if (expr->key) {
		text_add(text, "[");
		ast_print_string(text, expr->key);
		text_add(text, "]");
	}
}

static void print_values(struct text *text, const struct ast_expr *expr, bool set)
{
	text_add(text, "%s", set ? "{" : "");
	for (const struct ast_text *value = expr->values; value; value = value->next) {
		ast_print_string(text, value->text);
		text_add(text, "%s", value->next ? ", " : "");
	}
	for (const struct ast_range *range = expr->numbers; range; range = range->next) {
		text_add(text, range->lo == range->hi ? "%lld" : "%lld..%lld", range->lo, range->hi);
		text_add(text, "%s", range->next ? ", " : "");
	}
	text_add(text, "%s", set ? "}" : "");
}

static void print_atom(struct text *text, const struct ast_expr *expr)
{
	static const char *const ops[] = {" == ", " != ", " in ", " in ", " like ", " matches ", "", ""};
	if (expr->op == AST_HAS)
		text_add(text, "has ");
	print_label(text, expr);
	text_add(text, "%s", ops[expr->op]);
	print_values(text, expr, expr->op == AST_IN);
}

/* LEVEL: 0 takes `or`, 1 takes `and`, 2 takes neither without parentheses. */
static void print_expr(struct text *text, const struct ast_expr *expr, int level)
{
	bool parens = (expr->kind == EXPR_OR && level > 0) || (expr->kind == EXPR_AND && level > 1);
	text_add(text, "%s", parens ? "(" : "");
	if (expr->kind == EXPR_ATOM) {
		print_atom(text, expr);
	} else if (expr->kind == EXPR_NOT) {
		text_add(text, "not ");
		print_expr(text, expr->left, 2);
	} else {
		int inner = expr->kind == EXPR_AND;
		print_expr(text, expr->left, inner);
		text_add(text, "%s", inner ? " and " : " or ");
		print_expr(text, expr->right, inner);
	}
	text_add(text, "%s", parens ? ")" : "");
}

void ast_print_expr(struct text *text, const struct ast_expr *expr)
{
	print_expr(text, expr, 0);
}

const char *effect_name(enum effect effect)
{
	return effect == EFFECT_DENY ? "deny" : effect == EFFECT_ALLOW ? "allow" : "audit";
}

const char *ast_qualified(struct arena *arena, const char *ns, const char *name)
{
	return strchr(name, '/') || !ns ? name : arena_printf(arena, "%s/%s", ns, name);
}

struct ast_decl *ast_lookup(struct arena *arena, const struct ast *ast, const struct ast_decl *decl, const char *name)
{
	return table_get(&ast->names, ast_qualified(arena, decl->ns, name));
}

static void collect(struct arena *arena, struct ast *ast, struct ast_decl *decl, struct ast_decl *root, size_t *cap)
{
	if (decl->stamp == ast->stamp)
		return;
	decl->stamp = ast->stamp;
	if (decl->kind != DECL_GROUP) {
		if (root->leaf_count == *cap)
			root->leaves = vec_grown(arena, root->leaves, root->leaf_count, cap, sizeof(*root->leaves));
		root->leaves[root->leaf_count++] = decl;
		return;
	}
	for (struct ast_text *member = decl->members; member; member = member->next) {
		struct ast_decl *found = ast_lookup(arena, ast, decl, member->text);
		if (found)
			collect(arena, ast, found, root, cap);
	}
}

struct ast_decl **ast_leaves(struct arena *arena, struct ast *ast, struct ast_decl *decl, size_t *ret_count)
{
	size_t cap = 0;
	if (!decl->leaves) {
		ast->stamp++;
		collect(arena, ast, decl, decl, &cap);
	}
	*ret_count = decl->leaf_count;
	return decl->leaves;
}

bool ast_uses_field(const struct ast_expr *expr, enum field field)
{
	if (!expr)
		return false;
	if (expr->kind == EXPR_ATOM)
		return field_find(expr->name.text) == field;
	return ast_uses_field(expr->left, field) || ast_uses_field(expr->right, field);
}

bool ast_uses_l7(const struct ast_expr *expr)
{
	if (!expr)
		return false;
	if (expr->kind == EXPR_ATOM) {
		enum field field = field_find(expr->name.text);
		return field < FIELDS && field_is_l7(field);
	}
	return ast_uses_l7(expr->left) || ast_uses_l7(expr->right);
}

static bool is_in(const struct address_range *address, const struct ast_text *texts)
{
	struct address_range range;
	for (; texts; texts = texts->next)
		if (address_read(texts->text, &range) == ADDRESS_FINE && range.lo <= address->lo &&
		    address->lo <= range.hi)
			return true;
	return false;
}

bool ast_holds(const struct ast_item *item, const struct address_range *address)
{
	return is_in(address, item->texts) && !is_in(address, item->except);
}
