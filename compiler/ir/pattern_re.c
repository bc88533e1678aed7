/* RE2's syntax (github.com/google/re2/wiki/Syntax) as a tree. What is not regular, or means more than
 * which values match, is refused. */
#include "ir/pattern_reader.h"

enum { DEPTH_LIMIT = 200, REPEAT_LIMIT = 1000 };

/* ---- Structure ---------------------------------------------------------------------------------- */

static struct tree *take_alternatives(struct reader *reader, bool top);

/* n} n,} n,m} behind '{'; anything else is no repetition, and '{' is itself. */
static bool take_bounds(struct reader *reader, uint32_t *ret_min, uint32_t *ret_max)
{
	const char *from = reader->at;
	unsigned long bounds[2] = {0, TREE_FOREVER};
	for (int i = 0; i < 2; i++) {
		size_t digits = strspn(reader->at, "0123456789");
		bool last = reader->at[digits] == '}';
		if (!digits && !(i && last))
			break;
		for (size_t k = 0; k < digits; k++) {
			bounds[i] = (k ? bounds[i] * 10 : 0) + (reader->at[k] - '0');
			bounds[i] = bounds[i] > REPEAT_LIMIT ? REPEAT_LIMIT + 1 : bounds[i];
		}
		reader->at += digits;
		if (last) {
			reader->at++;
			*ret_min = bounds[0];
			*ret_max = i ? bounds[1] : bounds[0];
			return true;
		}
		if (!reader_take(reader, ","))
			break;
	}
	reader->at = from;
	return false;
}

/* * + ? {n,m} at AT. */
static bool take_count(struct reader *reader, uint32_t *ret_min, uint32_t *ret_max)
{
	const char *from = reader->at;
	if (reader_take(reader, "*") || reader_take(reader, "+")) {
		*ret_min = from[0] == '+';
		*ret_max = TREE_FOREVER;
		return true;
	}
	if (reader_take(reader, "?")) {
		*ret_min = 0;
		*ret_max = 1;
		return true;
	}
	if (!reader_take(reader, "{") || !take_bounds(reader, ret_min, ret_max)) {
		reader->at = from;
		return false;
	}
	bool forever = *ret_max == TREE_FOREVER;
	if (*ret_min > REPEAT_LIMIT || (!forever && (*ret_max > REPEAT_LIMIT || *ret_max < *ret_min)))
		reader_fail(reader, from, "a repetition counts up to 1000, the smaller number first");
	return true;
}

static struct tree *take_repeat(struct reader *reader, struct tree *tree)
{
	uint32_t min, max;
	if (!tree || !take_count(reader, &min, &max))
		return tree;
	reader_take(reader, "?"); /* lazy: the same values match */
	const char *again = reader->at;
	struct tree *repeat = tree_make(reader->arena, TREE_REPEAT);
	repeat->min = min;
	repeat->max = max;
	tree_add(reader->arena, repeat, tree);
	if (take_count(reader, &min, &max))
		return reader_fail(reader, again, "a repetition of a repetition: put (?:..) around the first");
	return repeat;
}

/* i, s, U, - up to ')' or ':'; m would move ^ and $ inside. */
static bool take_flags(struct reader *reader, const char *from)
{
	bool on = true;
	for (; *reader->at && *reader->at != ')' && *reader->at != ':'; reader->at++) {
		if (*reader->at == 'i')
			reader->fold = on;
		else if (*reader->at == '-' && on)
			on = false;
		else if (*reader->at != 's' && *reader->at != 'U')
			return reader_fail(reader, from, "of the flags (?..) only i, s and U are supported");
	}
	return *reader->at || reader_fail(reader, from, "this group has no )");
}

/* Behind '('. NULL without a reason: flags alone, for the rest of the enclosing group. */
static struct tree *take_group(struct reader *reader)
{
	const char *from = reader->at - 1;
	bool fold = reader->fold;
	if (strncmp(reader->at, "?=", 2) == 0 || strncmp(reader->at, "?!", 2) == 0 ||
	    strncmp(reader->at, "?<=", 3) == 0 || strncmp(reader->at, "?<!", 3) == 0)
		return reader_fail(reader, from,
				   "lookaround is not supported: write a second condition with `and` or `not`");
	if (strncmp(reader->at, "?P<", 3) == 0 || strncmp(reader->at, "?<", 2) == 0)
		return reader_fail(reader, from, "nothing is captured: write (?:..)");
	if (reader_take(reader, "?")) {
		if (!take_flags(reader, from) || reader_take(reader, ")"))
			return NULL;
		reader->at++;
	}
	if (++reader->depth > DEPTH_LIMIT)
		return reader_fail(reader, from, "groups are nested deeper than %d", DEPTH_LIMIT);
	struct tree *tree = take_alternatives(reader, false);
	reader->depth--;
	reader->fold = fold;
	if (tree && !reader_take(reader, ")"))
		return reader_fail(reader, from, "this group has no )");
	return tree;
}

static struct tree *take_atom(struct reader *reader)
{
	const char *from = reader->at;
	struct byte_set set = {0};
	uint32_t min, max;
	if (reader_take(reader, "["))
		return reader_class(reader);
	if (reader_take(reader, ".")) {
		byte_set_flip(&set);
		return tree_set(reader->arena, set);
	}
	if (reader_short(reader, &set))
		return tree_set(reader->arena, set);
	if (*from == '^' || *from == '$')
		return reader_fail(reader, from, "%c may stand only at %s: a pattern covers the whole value", *from,
				   *from == '^' ? "the beginning" : "the end");
	if (take_count(reader, &min, &max))
		return reader_fail(reader, from, "there is nothing before it to repeat");
	long value =
		reader_take(reader, "\\") ? reader_take(reader, "C") ? -2 : reader_escape(reader) : reader_char(reader);
	if (value == -2) {
		byte_set_flip(&set);
		return tree_set(reader->arena, set);
	}
	return value < 0 ? NULL : reader_char_tree(reader, value);
}

/* ^ \A where nothing came before; $ \z where nothing comes behind. */
static bool take_anchor(struct reader *reader, const struct tree *cat)
{
	if (!cat->parts.len && (reader_take(reader, "^") || reader_take(reader, "\\A")))
		return true;
	const char *c = reader->at;
	while (*c == '$' || strncmp(c, "\\z", 2) == 0)
		c += *c == '$' ? 1 : 2;
	if (c == reader->at || (*c && *c != '|'))
		return false;
	reader->at = c;
	return true;
}

/* One step between \Q and \E. */
static bool take_quoted(struct reader *reader, struct tree *cat)
{
	if (reader_take(reader, "\\E")) {
		reader->quoting = false;
		if (cat->parts.len)
			cat->parts.at[cat->parts.len - 1] = take_repeat(reader, cat->parts.at[cat->parts.len - 1]);
		return !reader->why;
	}
	long value = reader_char(reader);
	if (value >= 0)
		tree_add(reader->arena, cat, reader_char_tree(reader, value));
	return value >= 0;
}

static struct tree *take_sequence(struct reader *reader, bool top)
{
	struct tree *cat = tree_make(reader->arena, TREE_CAT), *part;
	while (*reader->at && (reader->quoting || (*reader->at != '|' && *reader->at != ')'))) {
		if (reader->quoting) {
			if (!take_quoted(reader, cat))
				return NULL;
			continue;
		}
		if (reader_take(reader, "\\Q")) {
			reader->quoting = true;
			continue;
		}
		if (top && take_anchor(reader, cat))
			continue;
		part = reader_take(reader, "(") ? take_group(reader) : take_atom(reader);
		part = take_repeat(reader, part);
		if (reader->why)
			return NULL;
		if (part)
			tree_add(reader->arena, cat, part);
	}
	return cat;
}

static struct tree *take_alternatives(struct reader *reader, bool top)
{
	struct tree *alt = tree_make(reader->arena, TREE_ALT);
	do {
		struct tree *part = take_sequence(reader, top);
		if (!part)
			return NULL;
		tree_add(reader->arena, alt, part);
	} while (reader_take(reader, "|"));
	return alt->parts.len == 1 ? alt->parts.at[0] : alt;
}

struct tree *pattern_read_re(struct arena *arena, const char *text, bool fold, const char **ret_why)
{
	struct reader reader = {.arena = arena, .text = text, .at = text, .fold = fold};
	struct tree *tree = take_alternatives(&reader, true);
	if (tree && *reader.at)
		tree = reader_fail(&reader, reader.at, "a ) that closes nothing");
	if (!tree)
		*ret_why = reader.why;
	return tree;
}
