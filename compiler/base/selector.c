#include "base/selector.h"

#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

const char *labels_get(const struct labels *labels, const char *name)
{
	for (size_t i = 0; i < labels->len; i++)
		if (strcmp(labels->at[i].name, name) == 0)
			return labels->at[i].value;
	return NULL;
}

bool selector_matches(const json_t *selector, const struct labels *labels)
{
	const char *op = text_of(selector, "op"), *label = text_of(selector, "label");
	const json_t *args = json_object_get(selector, "args"), *values = json_object_get(selector, "values");
	if (!op)
		return false;
	if (strcmp(op, "and") == 0 || strcmp(op, "or") == 0) {
		bool all = op[0] == 'a';
		for (size_t i = 0; i < json_array_size(args); i++)
			if (selector_matches(json_array_get(args, i), labels) != all)
				return !all;
		return all && json_array_size(args) > 0;
	}
	if (strcmp(op, "not") == 0)
		return json_array_size(args) == 1 && !selector_matches(json_array_get(args, 0), labels);
	const char *have = label ? labels_get(labels, label) : NULL, *value = text_of(selector, "value");
	if (!have)
		return false;
	if (strcmp(op, "has") == 0)
		return true;
	if (strcmp(op, "==") == 0)
		return value && strcmp(have, value) == 0;
	if (strcmp(op, "!=") == 0)
		return value && strcmp(have, value) != 0;
	for (size_t i = 0; strcmp(op, "in") == 0 && i < json_array_size(values); i++) {
		value = json_string_value(json_array_get(values, i));
		if (value && strcmp(have, value) == 0)
			return true;
	}
	return false;
}

bool selector_valid(const json_t *selector, unsigned depth)
{
	const char *op = text_of(selector, "op");
	const json_t *args = json_object_get(selector, "args"), *values = json_object_get(selector, "values");
	if (!op || !depth)
		return false;
	if (strcmp(op, "and") == 0 || strcmp(op, "or") == 0 || strcmp(op, "not") == 0) {
		for (size_t i = 0; i < json_array_size(args); i++)
			if (!selector_valid(json_array_get(args, i), depth - 1))
				return false;
		return op[0] == 'n' ? json_array_size(args) == 1 : json_array_size(args) > 0;
	}
	if (!text_of(selector, "label"))
		return false;
	if (strcmp(op, "in") == 0)
		return json_array_size(values) > 0;
	return strcmp(op, "has") == 0 ||
	       ((strcmp(op, "==") == 0 || strcmp(op, "!=") == 0) && text_of(selector, "value"));
}
