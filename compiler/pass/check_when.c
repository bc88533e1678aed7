/* Conditions and selectors: fields, operators, values. */
#include "pass/check.h"

#include <ctype.h>
#include <strings.h>

static void bad_operator(struct checker *checker, const struct ast_expr *expr, const char *why)
{
	diag_add(checker->diags, DIAG_BAD_OPERATOR, expr->span, "'%s' does not take this: %s", expr->name.text, why);
}

/* ---- Selectors ---------------------------------------------------------------------------------- */

static void check_label(struct checker *checker, const struct ast_expr *expr)
{
	if (expr->name.next || expr->key || (strchr(expr->name.text, '.') && !expr->name.quoted)) {
		struct diag *diag = diag_add(checker->diags, DIAG_UNKNOWN_FIELD, expr->name.span,
					     "a selector asks for labels; '%s' is a field", expr->name.text);
		diag->fix = arena_printf(checker->arena, "\"%s\"", expr->name.text);
		diag->fix_span = expr->name.span;
	} else if (expr->op == AST_LIKE || expr->op == AST_MATCHES || expr->op == AST_RANGE) {
		bad_operator(checker, expr, "labels take ==, !=, in {..} and has");
	} else if (expr->numbers) {
		struct diag *diag = diag_add(checker->diags, DIAG_BAD_VALUE, expr->numbers->span,
					     "a label's value is text: quote it");
		diag->fix = arena_printf(checker->arena, "\"%lld\"", expr->numbers->lo);
		diag->fix_span = expr->numbers->span;
		diag->fix_sure = true;
	}
}

void check_selector(struct checker *checker, const struct ast_expr *expr)
{
	if (!expr)
		return;
	if (expr->kind == EXPR_ATOM) {
		check_label(checker, expr);
		return;
	}
	check_selector(checker, expr->left);
	check_selector(checker, expr->right);
}

/* ---- Conditions --------------------------------------------------------------------------------- */

/* WORD is a slip of the finger away from FIELD, and from no other: `ucp.port` may be either. */
static bool is_only_slip(const char *word, const char *field, const char *const names[FIELDS])
{
	unsigned distance = diag_distance(word, field);
	bool only = distance <= 2;
	for (int i = 0; i < FIELDS; i++)
		only = only && (strcmp(names[i], field) == 0 || diag_distance(word, names[i]) >= distance + 2);
	return only;
}

static void unknown_field(struct checker *checker, const struct ast_expr *expr)
{
	const char *names[FIELDS];
	for (int i = 0; i < FIELDS; i++)
		names[i] = field_text(i);
	struct diag *diag =
		diag_add(checker->diags, DIAG_UNKNOWN_FIELD, expr->name.span, "unknown field '%s'", expr->name.text);
	diag->fix = diag_nearest(expr->name.text, names, FIELDS);
	diag->fix_sure = diag->fix && is_only_slip(expr->name.text, diag->fix, names);
	diag->fix_span = (struct span){expr->name.span.file, expr->name.span.offset, strlen(expr->name.text)};
}

/* Whether a certificate was shown, the receiver knows. */
static void check_receiver(struct checker *checker, const struct ast_expr *expr, const struct speaks *speaks)
{
	if (speaks->is_route)
		diag_add(checker->diags, DIAG_UNKNOWN_FIELD, expr->name.span,
			 "a route cannot ask for '%s': its arm is taken before any certificate is shown",
			 expr->name.text);
	else if (speaks->foreign)
		diag_add(checker->diags, DIAG_UNKNOWN_FIELD, expr->name.span,
			 "'%s' needs a destination that is a workload: not so '%s'", expr->name.text, speaks->foreign);
}

static void check_available(struct checker *checker, const struct ast_expr *expr, enum field field,
			    const struct speaks *speaks)
{
	if (field == FIELD_VERIFIED)
		check_receiver(checker, expr, speaks);
	if (!field_is_l7(field))
		return;
	bool wants_grpc = field == FIELD_GRPC_METHOD;
	if (!speaks->l4 && (speaks->grpc || speaks->http) && !(wants_grpc && speaks->http))
		return;
	struct diag *diag = diag_add(checker->diags, DIAG_UNKNOWN_FIELD, expr->name.span,
				     "'%s' needs a destination whose ports are all %s%s%s%s", field_text(field),
				     wants_grpc ? "grpc" : "http or grpc", speaks->culprit ? ": not so '" : "",
				     speaks->culprit ? speaks->culprit : "", speaks->culprit ? "'" : "");
	diag->note = "name the port that speaks it: `to SERVICE port N`";
}

static void check_port_values(struct checker *checker, const struct ast_expr *expr)
{
	if (expr->op == AST_LIKE || expr->op == AST_MATCHES || expr->op == AST_HAS)
		bad_operator(checker, expr, "ports take ==, != and in");
	else if (expr->values)
		diag_add(checker->diags, DIAG_BAD_VALUE, expr->values->span, "a port is a number, without quotes");
	else
		check_ranges(checker, expr->numbers);
}

/* Case counts (RFC 9110 section 9.1): `get` is another method than GET, and none that anybody sends. */
static void check_method(struct checker *checker, const struct ast_text *value)
{
	char *upper = arena_copy(checker->arena, value->text, strlen(value->text));
	for (char *at = upper; *at; at++)
		*at = toupper((unsigned char)*at);
	if (strcmp(upper, value->text) == 0)
		return;
	struct diag *diag = diag_add(checker->diags, DIAG_BAD_VALUE, value->span,
				     "no request matches this: methods are written in capitals");
	diag->fix = arena_printf(checker->arena, "\"%s\"", upper);
	diag->fix_span = value->span;
}

static void check_text_values(struct checker *checker, const struct ast_expr *expr, enum field field)
{
	if (expr->op == AST_RANGE)
		bad_operator(checker, expr, "a range is for ports");
	else if (expr->numbers)
		diag_add(checker->diags, DIAG_BAD_VALUE, expr->numbers->span, "the value of '%s' is text: quote it",
			 field_text(field));
	else if (expr->op == AST_HAS && field_type(field) != FIELD_TYPE_KEYED)
		bad_operator(checker, expr, "every request has one; `has` is for headers");
	for (const struct ast_text *value = expr->values; value; value = value->next) {
		const char *why = NULL;
		if (expr->op == AST_LIKE || expr->op == AST_MATCHES)
			continue; /* the pattern is read by the decide pass */
		if (!literal_normal(checker->arena, field, value->text, &why))
			diag_add(checker->diags, DIAG_BAD_VALUE, value->span, "no request matches this: %s", why);
		else if (field == FIELD_METHOD)
			check_method(checker, value);
	}
}

static void check_yes_no(struct checker *checker, const struct ast_expr *expr)
{
	if (expr->op == AST_IS)
		return;
	const char *value = expr->values && !expr->values->next ? expr->values->text : "";
	bool yes = strcmp(value, "true") == 0, no = strcmp(value, "false") == 0;
	struct diag *diag =
		diag_add(checker->diags, DIAG_BAD_OPERATOR, expr->span,
			 "'%s' is yes or no: write it alone, or `not %s`", expr->name.text, expr->name.text);
	if ((!yes && !no) || (expr->op != AST_EQ && expr->op != AST_NE))
		return;
	diag->fix = arena_printf(checker->arena, "%s%s", yes == (expr->op == AST_EQ) ? "" : "not ", expr->name.text);
	diag->fix_span = expr->span;
	diag->fix_sure = true;
}

static void check_key(struct checker *checker, const struct ast_expr *expr, enum field field)
{
	bool keyed = field_type(field) == FIELD_TYPE_KEYED, bad = expr->key && !expr->key[0];
	for (const char *c = expr->key ? expr->key : ""; *c; c++)
		bad |= !isalnum((unsigned char)*c) && !strchr("!#$%&'*+-.^_`|~", *c);
	if (keyed && !expr->key)
		diag_add(checker->diags, DIAG_BAD_VALUE, expr->name.span, "which one? Write %s[\"name\"]",
			 field_text(field));
	else if (!keyed && expr->key)
		diag_add(checker->diags, DIAG_BAD_VALUE, expr->name.span, "'%s' has no parts", field_text(field));
	else if (bad)
		diag_add(checker->diags, DIAG_BAD_VALUE, expr->name.span, "'%s' is no header's name", expr->key);
	else if (expr->key && strcasecmp(expr->key, "host") == 0)
		diag_add(checker->diags, DIAG_BAD_VALUE, expr->name.span, "the Host header is the field http.host");
}

void check_condition(struct checker *checker, const struct ast_expr *expr, const struct speaks *speaks)
{
	if (!expr)
		return;
	if (expr->kind != EXPR_ATOM) {
		check_condition(checker, expr->left, speaks);
		check_condition(checker, expr->right, speaks);
		return;
	}
	enum field field = field_find(expr->name.text);
	if (field == FIELDS) {
		unknown_field(checker, expr);
		return;
	}
	check_available(checker, expr, field, speaks);
	check_key(checker, expr, field);
	if (field_type(field) == FIELD_TYPE_YES_NO)
		check_yes_no(checker, expr);
	else if (expr->op == AST_IS)
		bad_operator(checker, expr, "it is not yes or no, so compare it");
	else if (field_type(field) == FIELD_TYPE_PORT)
		check_port_values(checker, expr);
	else
		check_text_values(checker, expr, field);
}
