/* Places in JSON text: the parser keeps none, so the text is walked once more when there is an error
 * to report. The text has been parsed before: it is valid. */
#include "base/inventory_parse.h"

struct walk {
	const char *at, *end;
};

static void skip_space(struct walk *walk)
{
	while (walk->at < walk->end && strchr(" \t\r\n", *walk->at))
		walk->at++;
}

/* Past the punctuation PUNCTUATION (one character) and the space around it. */
static bool skip_mark(struct walk *walk, char mark)
{
	skip_space(walk);
	if (walk->at == walk->end || *walk->at != mark)
		return false;
	walk->at++;
	skip_space(walk);
	return true;
}

static void skip_string(struct walk *walk)
{
	for (walk->at++; walk->at < walk->end && *walk->at != '"'; walk->at++)
		walk->at += *walk->at == '\\';
	walk->at += walk->at < walk->end;
}

static void skip_value(struct walk *walk)
{
	unsigned depth = 0;
	do {
		char c = *walk->at;
		if (c == '"') {
			skip_string(walk);
			continue;
		}
		depth += c == '{' || c == '[';
		depth -= (c == '}' || c == ']') && depth;
		walk->at++;
		if (!depth && (c == '}' || c == ']'))
			return;
	} while (walk->at < walk->end && (depth || !strchr(",]} \t\r\n", *walk->at)));
}

static bool key_is(const struct walk *walk, const char *key)
{
	size_t len = strlen(key);
	return (size_t)(walk->end - walk->at) > len + 1 && memcmp(walk->at + 1, key, len) == 0 &&
	       walk->at[len + 1] == '"';
}

/* From a container's first byte to the value's; false where it is not in it. */
static bool step_into(struct walk *walk, const struct inventory_step *step)
{
	if (!skip_mark(walk, step->key ? '{' : '['))
		return false;
	for (size_t i = 0; walk->at < walk->end && *walk->at != '}' && *walk->at != ']'; i++) {
		bool is_it = step->key ? key_is(walk, step->key) : i == step->index;
		if (step->key) {
			skip_string(walk);
			if (!skip_mark(walk, ':'))
				return false;
		}
		if (is_it)
			return true;
		skip_value(walk);
		if (!skip_mark(walk, ','))
			return false;
	}
	return false;
}

void inventory_place(const char *text, size_t len, const struct inventory_step *steps, unsigned depth,
		     unsigned *ret_line, unsigned *ret_column)
{
	struct walk walk = {text, text + len}, next;
	skip_space(&walk);
	for (unsigned i = 0; i < depth; i++) {
		next = walk;
		if (!step_into(&next, &steps[i]))
			break;
		walk = next;
	}
	*ret_line = *ret_column = 1;
	for (const char *at = text; at < walk.at; at++) {
		*ret_column = *at == '\n' ? 1 : *ret_column + 1;
		*ret_line += *at == '\n';
	}
}
