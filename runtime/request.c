#include "request.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const char *const verbs[] = {"status", "flows", "source", "apply", "rollback", "off", "on"};

static bool is_generation(const json_t *value)
{
	json_int_t number = json_integer_value(value);
	return json_is_integer(value) && number >= 1 && number <= UINT32_MAX;
}

static bool is_switch(const json_t *value)
{
	return json_is_boolean(value);
}

static bool is_verdict(const json_t *value)
{
	const char *text = json_string_value(value);
	return text && (strcmp(text, "allow") == 0 || strcmp(text, "deny") == 0);
}

static bool is_text(const json_t *value)
{
	return json_is_string(value);
}

static bool is_object(const json_t *value)
{
	return json_is_object(value);
}

static const struct parameter {
	const char *of, *name; /* of a verb, or of the filter */
	bool (*is_good)(const json_t *value);
	const char *is; /* what it has to be */
} parameters[] = {
	{"rollback", "generation", is_generation, "a whole number from 1 to 4294967295"},
	{"flows", "follow", is_switch, "true or false"},
	{"flows", "filter", is_object, "an object"},
	{"filter", "verdict", is_verdict, "\"allow\" or \"deny\""},
	{"filter", "from", is_text, "a text"},
	{"filter", "to", is_text, "a text"},
	{"filter", "rule", is_text, "a text"},
};

static int check_parameter(const char *of, const char *name, const json_t *value, struct why *why)
{
	for (size_t i = 0; i < sizeof(parameters) / sizeof(*parameters); i++) {
		const struct parameter *at = &parameters[i];
		if (strcmp(at->of, of) != 0 || strcmp(at->name, name) != 0)
			continue;
		return at->is_good(value) ? 0 : why_set(why, -EINVAL, "'%s' of '%s' is %s", name, of, at->is);
	}
	return why_set(why, -EINVAL, "'%s' has no parameter '%.60s'", of, name);
}

static int check_verb(const json_t *verb, struct why *why)
{
	for (size_t i = 0; json_is_string(verb) && i < sizeof(verbs) / sizeof(*verbs); i++)
		if (strcmp(json_string_value(verb), verbs[i]) == 0)
			return 0;
	return why_set(why, -EINVAL, "unknown verb; known: status, flows, source, apply, rollback, off, on");
}

int request_check(const json_t *body, struct why *why)
{
	const json_t *verb = json_object_get(body, "verb"), *filter = json_object_get(body, "filter");
	const char *key;
	json_t *value;
	int r = check_verb(verb, why);
	if (r)
		return r;
	json_object_foreach ((json_t *)body, key, value)
		if (strcmp(key, "verb") != 0 && (r = check_parameter(json_string_value(verb), key, value, why)))
			return r;
	json_object_foreach ((json_t *)filter, key, value)
		if ((r = check_parameter("filter", key, value, why)))
			return r;
	return 0;
}
