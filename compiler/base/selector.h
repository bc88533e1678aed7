/* Label selectors as JSON, the form that the manifest carries and meshd evaluates:
 * {"op":"==","label":"app","value":"x"}, "!=" the same, {"op":"in","label":..,"values":[..]},
 * {"op":"has","label":..}, {"op":"and"|"or","args":[..]}, {"op":"not","args":[one]}. */
#ifndef MESH_BASE_SELECTOR_H
#define MESH_BASE_SELECTOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct label {
	const char *name, *value;
};
struct labels {
	const struct label *at;
	size_t len;
};

/* The value, or NULL. */
const char *labels_get(const struct labels *labels, const char *name);

/* A missing label matches neither == nor !=. NULL or malformed selectors match nothing. */
bool selector_matches(const json_t *selector, const struct labels *labels);

/* True where SELECTOR has only the forms above, at most DEPTH deep. */
bool selector_valid(const json_t *selector, unsigned depth);

#endif
