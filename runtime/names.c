#include "names.h"

#include "abi.h"
#include "base/arena.h"

#include <string.h>

struct list {
	const char **at;
	uint32_t len;
};
struct audit {
	const uint32_t *rules;
	uint32_t count;
};
struct names {
	bool strict;
	struct arena *arena;
	struct list rules, where, classes, sets;
	struct audit *audits;
	uint32_t audit_count;
	struct names_permissive *permissive;
	uint32_t permissive_count;
};

/* ARRAY holds strings, or objects with a "name". */
static struct list list_of(struct arena *arena, const json_t *array)
{
	struct list list = {arena_alloc(arena, (json_array_size(array) + 1) * sizeof(char *)), json_array_size(array)};
	for (uint32_t i = 0; i < list.len; i++) {
		const json_t *item = json_array_get(array, i);
		const char *text = json_string_value(json_is_object(item) ? json_object_get(item, "name") : item);
		list.at[i] = text ? arena_copy(arena, text, strlen(text)) : NULL;
	}
	return list;
}

static void take_audits(struct names *names, const json_t *audits)
{
	names->audit_count = json_array_size(audits);
	names->audits = arena_alloc(names->arena, (names->audit_count + 1) * sizeof(*names->audits));
	for (uint32_t i = 0; i < names->audit_count; i++) {
		const json_t *set = json_array_get(audits, i);
		uint32_t count = json_array_size(set), *rules = arena_alloc(names->arena, (count + 1) * sizeof(*rules));
		for (uint32_t k = 0; k < count; k++)
			rules[k] = json_integer_value(json_array_get(set, k));
		names->audits[i] = (struct audit){rules, count};
	}
}

static const char *copy_of(struct arena *arena, const json_t *text)
{
	return json_is_string(text) ? arena_copy(arena, json_string_value(text), json_string_length(text)) : NULL;
}

static void take_permissive(struct names *names, const json_t *mtls, const json_t *where)
{
	names->permissive = arena_alloc(names->arena, (json_array_size(mtls) + 1) * sizeof(*names->permissive));
	for (size_t i = 0; i < json_array_size(mtls); i++) {
		const json_t *statement = json_array_get(mtls, i);
		const char *mode = json_string_value(json_object_get(statement, "mode"));
		names->strict |= mode && strcmp(mode, "strict") == 0;
		struct names_permissive one = {copy_of(names->arena, json_object_get(statement, "scope")),
					       copy_of(names->arena, json_object_get(statement, "until")),
					       copy_of(names->arena, json_array_get(where, i)),
					       json_integer_value(json_object_get(statement, "port"))};
		if (one.scope && one.until)
			names->permissive[names->permissive_count++] = one;
	}
}

bool names_strict(const struct names *names)
{
	return names->strict;
}

const struct names_permissive *names_permissive(const struct names *names, uint32_t *ret_count)
{
	*ret_count = names->permissive_count;
	return names->permissive;
}

struct names *names_make(const json_t *manifest, const json_t *where)
{
	struct arena *arena = arena_create();
	if (!arena)
		return NULL;
	struct names *names = arena_alloc(arena, sizeof(*names));
	*names = (struct names){
		.arena = arena,
		.rules = list_of(arena, json_object_get(manifest, "rules")),
		.where = list_of(arena, json_object_get(where, "rules")),
		.classes = list_of(arena, json_object_get(manifest, "classes")),
		.sets = list_of(arena, json_object_get(manifest, "sets")),
	};
	take_audits(names, json_object_get(manifest, "audits"));
	take_permissive(names, json_object_get(manifest, "mtls"), json_object_get(where, "mtls"));
	return names;
}

void names_release(struct names *names)
{
	if (names)
		arena_destroy(names->arena);
}

static const char *item_of(const struct list *list, uint32_t i)
{
	return i < list->len ? list->at[i] : NULL;
}

uint32_t names_rules(const struct names *names)
{
	return names->rules.len;
}

const char *names_rule(const struct names *names, uint32_t rule)
{
	static const char *const specials[MESH_SPECIALS] = {"default", "self",	    "conflict",
							    "unknown", "plaintext", "mtls"};
	uint32_t special = rule - names->rules.len;
	return rule >= names->rules.len && special < MESH_SPECIALS ? specials[special] : item_of(&names->rules, rule);
}

bool names_have_rule(const struct names *names, const char *rule)
{
	bool found = false;
	for (uint32_t i = 0; i < names->rules.len + MESH_SPECIALS && !found; i++)
		found = names_rule(names, i) && strcmp(names_rule(names, i), rule) == 0;
	return found;
}

const char *names_where(const struct names *names, uint32_t rule)
{
	return item_of(&names->where, rule);
}

const char *names_class(const struct names *names, uint32_t class)
{
	return item_of(&names->classes, class);
}

const char *names_set(const struct names *names, uint32_t set)
{
	return item_of(&names->sets, set);
}

const uint32_t *names_audit(const struct names *names, uint32_t audit, uint32_t *ret_count)
{
	*ret_count = audit < names->audit_count ? names->audits[audit].count : 0;
	return audit < names->audit_count ? names->audits[audit].rules : NULL;
}
