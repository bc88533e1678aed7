/* The string fields of a destination: which patterns are asked of each, and the automata that tell
 * their values apart. */
#include "ir/diagram_build.h"

#include <errno.h>
#include <stdlib.h>

struct asked {
	enum field field;
	const char *key;
	struct pattern pattern;
	struct span span;
	bool only_has;
};
struct asking {
	struct asked *at;
	size_t len, cap;
};

static void collect(struct arena *arena, struct asking *asking, const struct cond *cond)
{
	if (!cond)
		return;
	if (cond->kind != COND_ATOM) {
		collect(arena, asking, cond->left);
		collect(arena, asking, cond->right);
		return;
	}
	if (!field_is_l7(cond->field))
		return;
	struct asked asked = {.field = cond->field, .key = cond->key, .span = cond->span};
	asked.pattern.kind = cond->op == OP_LIKE ? PATTERN_LIKE : cond->op == OP_MATCHES ? PATTERN_RE : PATTERN_EXACT;
	asked.only_has = cond->op == OP_HAS;
	asked.pattern.fold = cond->field == FIELD_HOST && cond->op == OP_MATCHES;
	if (asked.only_has)
		vec_push(arena, asking, asked);
	for (size_t i = 0; i < cond->values.len && !asked.only_has; i++) {
		asked.pattern.text = cond->values.at[i];
		vec_push(arena, asking, asked);
	}
}

static int text_compare(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) : (a != NULL) - (b != NULL);
}

/* By field, header, whether anchored, then pattern: a function of what is asked, not of its order. */
static int asked_compare(const void *left, const void *right)
{
	const struct asked *a = left, *b = right;
	if (a->field != b->field)
		return (int)a->field - (int)b->field;
	int by = text_compare(a->key, b->key);
	if (by || a->only_has != b->only_has)
		return by ? by : a->only_has - b->only_has;
	if (a->only_has)
		return 0;
	bool x = pattern_is_anchored(&a->pattern), y = pattern_is_anchored(&b->pattern);
	if (x != y)
		return y - x;
	by = strcmp(a->pattern.text, b->pattern.text);
	return by ? by : (int)a->pattern.kind - (int)b->pattern.kind;
}

static bool same_field(const struct asked *a, const struct asked *b)
{
	return a->field == b->field && text_compare(a->key, b->key) == 0;
}

struct making {
	struct diagram *diagram;
	struct diags *diags;
	VEC(struct diagram_field) fields;
	uint32_t automata; /* of the field at hand */
};

static int pattern_fault(struct making *making, const struct asked *asked, const char *why, int r)
{
	struct diag *diag =
		diag_add(making->diags, DIAG_PATTERN, asked->span, "the pattern \"%s\" %s%s", asked->pattern.text,
			 r == -EINVAL ? "cannot be read: " : "", r == -EINVAL ? why : "outgrows a bound");
	if (r == -E2BIG)
		diag->note = "a pattern alone may take 8,192 states, a field 8 automata of 65,535; fewer `**` in the "
			     "middle help";
	return r;
}

/* One automaton for COUNT patterns; halves them while they outgrow it. */
static int make_automata(struct making *making, const struct asked *asked, size_t count)
{
	struct arena *arena = diagram_arena(making->diagram);
	struct diagram_field field = {.field = asked->field, .key = asked->key, .pattern_count = count};
	struct pattern *patterns = arena_alloc(arena, (count + 1) * sizeof(*patterns));
	struct span *spans = arena_alloc(arena, (count + 1) * sizeof(*spans));
	struct automaton *automaton = NULL;
	size_t bad = 0;
	const char *why = "";
	for (size_t i = 0; i < count; i++) {
		patterns[i] = asked[i].pattern;
		spans[i] = asked[i].span;
	}
	int r = automaton_make(arena, patterns, count, &automaton, &bad, &why);
	if (r == -E2BIG && count > 1 && making->automata + 1 < DIAGRAM_LIMIT_AUTOMATA) {
		making->automata++;
		r = make_automata(making, asked, count / 2);
		return r ? r : make_automata(making, asked + count / 2, count - count / 2);
	}
	if (r)
		return pattern_fault(making, &asked[bad < count ? bad : 0], why, r);
	field.patterns = patterns;
	field.spans = spans;
	field.automaton = automaton;
	vec_push(arena, &making->fields, field);
	return 0;
}

/* All that is asked of one field. */
static int make_field(struct making *making, const struct asked *asked, size_t count)
{
	size_t patterns = count, anchored = 0;
	while (patterns && asked[patterns - 1].only_has)
		patterns--;
	while (anchored < patterns && pattern_is_anchored(&asked[anchored].pattern))
		anchored++;
	making->automata = anchored && anchored < patterns ? 2 : 1;
	int r = 0;
	if (anchored || !patterns)
		r = make_automata(making, asked, anchored);
	if (!r && anchored < patterns)
		r = make_automata(making, asked + anchored, patterns - anchored);
	return r;
}

int diagram_fields_make(struct diagram *diagram, const struct cond *const *conds, size_t count, struct diags *diags,
			const struct diagram_fields **ret_fields)
{
	static const struct diagram_fields none = {0};
	struct arena *arena = diagram_arena(diagram);
	struct asking asking = {0};
	struct making making = {.diagram = diagram, .diags = diags};
	*ret_fields = &none;
	for (size_t i = 0; i < count; i++)
		collect(arena, &asking, conds[i]);
	if (!asking.len)
		return 0;
	qsort(asking.at, asking.len, sizeof(*asking.at), asked_compare);
	size_t unique = 1;
	for (size_t i = 1; i < asking.len; i++)
		if (asked_compare(&asking.at[i], &asking.at[unique - 1]) != 0)
			asking.at[unique++] = asking.at[i];
	for (size_t i = 0, end; i < unique; i = end) {
		for (end = i + 1; end < unique && same_field(&asking.at[i], &asking.at[end]);)
			end++;
		int r = make_field(&making, &asking.at[i], end - i);
		if (r)
			return r;
	}
	struct diagram_fields *fields = arena_alloc(arena, sizeof(*fields));
	*fields = (struct diagram_fields){making.fields.at, making.fields.len};
	*ret_fields = fields;
	return 0;
}
