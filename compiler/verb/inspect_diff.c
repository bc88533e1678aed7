/* What differs between two bundles. Whose verdict differs, `meshc diff` says; this is about what is shipped. */
#include "verb/inspect.h"

#include <elf.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>

struct differ {
	struct inspected *old, *new;
	json_t *changes;
};

/* OLD or NEW NULL: it is not there. */
static void note(struct differ *differ, const char *what, const char *name, const char *old, const char *new)
{
	if ((!old && !new) || (old && new && strcmp(old, new) == 0))
		return;
	json_array_append_new(differ->changes,
			      json_pack("{s:s, s:s, s:s, s:s?, s:s?}", "what", what, "name", name, "change",
					!old   ? "added"
					: !new ? "removed"
					       : "changed",
					"old", old, "new", new));
}

static void note_number(struct differ *differ, const char *what, const char *name, uint64_t old, uint64_t new)
{
	struct arena *arena = differ->old->arena;
	note(differ, what, name, arena_printf(arena, "%" PRIu64, old), arena_printf(arena, "%" PRIu64, new));
}

/* ---- The whole ---------------------------------------------------------------------------------- */

static void compare_heads(struct differ *differ)
{
	const json_t *old = differ->old->bundle.manifest, *new = differ->new->bundle.manifest;
	static const char *const texts[] = {"mesh", "trust", "target", "digest"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		note(differ, "manifest", texts[i], inspect_text(old, texts[i]), inspect_text(new, texts[i]));
	note(differ, "manifest", "source", inspect_text(differ->old->bundle.where, "source"),
	     inspect_text(differ->new->bundle.where, "source"));
	note_number(differ, "manifest", "version", inspect_number(old, "version"), inspect_number(new, "version"));
	note_number(differ, "manifest", "abi", inspect_number(old, "abi"), inspect_number(new, "abi"));
	note(differ, "signature", "key_id", inspect_key_id(differ->old), inspect_key_id(differ->new));
	note_number(differ, "size", "bytes", differ->old->bundle.elf_len, differ->new->bundle.elf_len);
	note_number(differ, "size", "tables_bytes", inspect_number(json_object_get(old, "budget"), "tables_bytes"),
		    inspect_number(json_object_get(new, "budget"), "tables_bytes"));
	note_number(differ, "size", "generation_bytes", inspect_map_bytes(&differ->old->budget, false),
		    inspect_map_bytes(&differ->new->budget, false));
}

/* ---- Rules -------------------------------------------------------------------------------------- */

/* By name: {"effect", "where"}; names are unique in a mesh. */
static json_t *rules_by_name(const struct inspected *inspected)
{
	const json_t *places = json_object_get(inspected->bundle.where, "rules");
	json_t *rules = json_object(), *rule;
	size_t i;
	json_array_foreach (json_object_get(inspected->bundle.manifest, "rules"), i, rule) {
		const char *where = json_string_value(json_array_get(places, i));
		json_object_set_new(
			rules, inspect_text(rule, "name"),
			json_pack("{s:s, s:s}", "effect", inspect_text(rule, "effect"), "where", where ? where : "?"));
	}
	return rules;
}

static const char *rule_text(struct differ *differ, const json_t *rule)
{
	return rule ? arena_printf(differ->old->arena, "%s %s", inspect_text(rule, "effect"),
				   inspect_text(rule, "where"))
		    : NULL;
}

static void compare_rules(struct differ *differ)
{
	json_t *old = rules_by_name(differ->old), *new = rules_by_name(differ->new), *rule;
	const char *name;
	json_object_foreach (old, name, rule) {
		const json_t *now = json_object_get(new, name);
		size_t before = json_array_size(differ->changes);
		note(differ, "rule", name, rule_text(differ, rule), rule_text(differ, now));
		if (now && json_array_size(differ->changes) > before &&
		    strcmp(inspect_text(rule, "effect"), inspect_text(now, "effect")) == 0)
			json_object_set_new(json_array_get(differ->changes, before), "change", json_string("moved"));
	}
	json_object_foreach (new, name, rule)
		if (!json_object_get(old, name))
			note(differ, "rule", name, NULL, rule_text(differ, rule));
	json_decref(old);
	json_decref(new);
}

/* ---- Services ----------------------------------------------------------------------------------- */

/* By "namespace/name", without the numbers that only the tables know. */
static json_t *services_by_name(const struct inspected *inspected)
{
	json_t *services = json_object(), *service, *subset;
	size_t i, k;
	json_array_foreach (json_object_get(inspected->bundle.manifest, "services"), i, service) {
		json_t *copy = json_deep_copy(service);
		json_object_del(copy, "class");
		json_object_del(copy, "set");
		json_array_foreach (json_object_get(copy, "subsets"), k, subset)
			json_object_del(subset, "set");
		json_object_set_new(services,
				    arena_printf(inspected->arena, "%s/%s", inspect_text(service, "namespace"),
						 inspect_text(service, "name")),
				    copy);
	}
	return services;
}

static const char *value_text(struct differ *differ, const json_t *value)
{
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	const char *kept = text ? arena_copy(differ->old->arena, text, strlen(text)) : NULL;
	free(text);
	return kept;
}

static void compare_services(struct differ *differ)
{
	json_t *old = services_by_name(differ->old), *new = services_by_name(differ->new), *service, *value;
	const char *name, *key;
	json_object_foreach (old, name, service) {
		const json_t *now = json_object_get(new, name);
		if (!now)
			note(differ, "service", name, value_text(differ, json_object_get(service, "addresses")), NULL);
		else
			json_object_foreach (service, key, value)
				note(differ, "service", arena_printf(differ->old->arena, "%s %s", name, key),
				     value_text(differ, value), value_text(differ, json_object_get(now, key)));
	}
	json_object_foreach (new, name, service)
		if (!json_object_get(old, name))
			note(differ, "service", name, NULL, value_text(differ, json_object_get(service, "addresses")));
	json_decref(old);
	json_decref(new);
}

/* ---- Programs ----------------------------------------------------------------------------------- */

static const struct budget_program *program_named(const struct budget *budget, const char *name)
{
	for (size_t i = 0; i < budget->programs.len; i++)
		if (strcmp(budget->programs.at[i].name, name) == 0)
			return &budget->programs.at[i];
	return NULL;
}

static void compare_programs(struct differ *differ)
{
	const struct budget *old = &differ->old->budget, *new = &differ->new->budget;
	for (size_t i = 0; i < old->programs.len; i++) {
		const struct budget_program *a = &old->programs.at[i], *b = program_named(new, a->name);
		if (!b) {
			note(differ, "program", a->name, a->hook, NULL);
			continue;
		}
#define COMPARE(field)                                                                                                 \
	note_number(differ, "program", arena_printf(differ->old->arena, "%s " #field, a->name), a->field, b->field)
		COMPARE(instructions);
		COMPARE(path);
		COMPARE(stack_bytes);
#undef COMPARE
	}
	for (size_t i = 0; i < new->programs.len; i++)
		if (!program_named(old, new->programs.at[i].name))
			note(differ, "program", new->programs.at[i].name, NULL, new->programs.at[i].hook);
}

/* ---- What the kernel gets ----------------------------------------------------------------------- */

/* Told field by field above, or of no effect on what is loaded. */
static bool is_apart(const struct bundle_view *view)
{
	static const char *const told[] = {BUNDLE_MANIFEST,  BUNDLE_WHERE, BUNDLE_SOURCE,
					   BUNDLE_SIGNATURE, ".debug",	   ".rel.debug"};
	for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++)
		if (strncmp(view->name, told[i], strlen(told[i])) == 0)
			return true;
	return view->type == SHT_NULL || view->type == SHT_STRTAB || view->type == SHT_SYMTAB;
}

static bool find_section(const struct bundle *bundle, const char *name, struct bundle_view *ret_view)
{
	for (size_t i = 0; bundle_section_at(bundle->elf, bundle->elf_len, i, ret_view); i++)
		if (strcmp(ret_view->name, name) == 0)
			return true;
	return false;
}

static const char *bytes_text(struct differ *differ, const struct bundle_view *view)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	EVP_Digest(view->bytes, view->len, digest, &len, EVP_sha256(), NULL);
	return arena_printf(differ->old->arena, "%zu bytes, sha256:%02x%02x%02x%02x%02x%02x", view->len, digest[0],
			    digest[1], digest[2], digest[3], digest[4], digest[5]);
}

static void compare_sections(struct differ *differ)
{
	const struct bundle *old = &differ->old->bundle, *new = &differ->new->bundle;
	struct bundle_view a, b;
	for (size_t i = 0; bundle_section_at(old->elf, old->elf_len, i, &a); i++)
		if (!is_apart(&a))
			note(differ, "section", a.name, bytes_text(differ, &a),
			     find_section(new, a.name, &b) ? bytes_text(differ, &b) : NULL);
	for (size_t i = 0; bundle_section_at(new->elf, new->elf_len, i, &b); i++)
		if (!is_apart(&b) && !find_section(old, b.name, &a))
			note(differ, "section", b.name, NULL, bytes_text(differ, &b));
}

/* The section that the byte at OFFSET is in. */
static const char *section_of(const struct bundle *bundle, size_t offset)
{
	struct bundle_view view;
	const char *at = (const char *)bundle->elf + offset;
	for (size_t i = 0; bundle_section_at(bundle->elf, bundle->elf_len, i, &view); i++)
		if (view.len && at >= (const char *)view.bytes && at < (const char *)view.bytes + view.len)
			return view.name;
	return "no section";
}

/* "Nothing differs" is of every byte. */
static void compare_bytes(struct differ *differ)
{
	const struct bundle *old = &differ->old->bundle, *new = &differ->new->bundle;
	const unsigned char *a = old->elf, *b = new->elf;
	size_t at = 0, len = old->elf_len < new->elf_len ? old->elf_len : new->elf_len;
	while (at < len && a[at] == b[at])
		at++;
	if (at == len)
		return; /* or the sizes differ, and it was told */
	struct arena *arena = differ->old->arena;
	note(differ, "byte", arena_printf(arena, "%zu (%s)", at, section_of(old, at)),
	     arena_printf(arena, "0x%02x", a[at]), arena_printf(arena, "0x%02x", b[at]));
}

/* ---- All of it ---------------------------------------------------------------------------------- */

static void print_changes(const json_t *changes)
{
	json_t *change;
	size_t i;
	if (!json_array_size(changes))
		puts("nothing differs");
	json_array_foreach (changes, i, change) {
		const char *old = json_string_value(json_object_get(change, "old")),
			   *new = json_string_value(json_object_get(change, "new"));
		printf("%-9s %-8s %s: %s%s%s\n", inspect_text(change, "what"), inspect_text(change, "change"),
		       inspect_text(change, "name"), old ? old : "", old && new ? " -> " : "", new ? new : "");
	}
}

int inspect_diff(const struct options *options, struct inspected *old, struct inspected *new)
{
	struct differ differ = {.old = old, .new = new, .changes = json_array()};
	compare_heads(&differ);
	compare_rules(&differ);
	compare_services(&differ);
	compare_programs(&differ);
	compare_sections(&differ);
	if (!json_array_size(differ.changes))
		compare_bytes(&differ);
	bool equal = json_array_size(differ.changes) == 0;
	if (strcmp(options->format, "json") == 0) {
		json_t *all = json_pack("{s:b, s:O}", "equal", equal, "changes", differ.changes);
		json_dumpf(all, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
		putchar('\n');
		json_decref(all);
	} else {
		print_changes(differ.changes);
	}
	json_decref(differ.changes);
	return equal ? EXIT_YES : EXIT_NO;
}
