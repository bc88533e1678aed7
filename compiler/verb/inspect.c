/* What a bundle holds, and what it asks of the kernel. */
#include "verb/inspect.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- Reading it --------------------------------------------------------------------------------- */

int inspect_open(const char *path, struct inspected *ret_inspected)
{
	struct inspected inspected = {.path = path};
	const char *why = "";
	size_t len;
	int code = verb_slurp(path, BUNDLE_LIMIT_BYTES, &inspected.bytes, &len);
	if (code)
		return code;
	if (bundle_open(inspected.bytes, len, &inspected.bundle, &why)) {
		verb_cannot("%s: %s", path, why);
		free(inspected.bytes);
		return EXIT_NO;
	}
	inspected.arena = arena_create();
	if (!inspected.arena)
		code = verb_cannot("out of memory");
	else if (budget_read(inspected.arena, inspected.bytes, len, &inspected.budget, &why))
		code = (verb_cannot("%s: %s", path, why), EXIT_NO);
	if (code)
		inspect_close(&inspected);
	else
		*ret_inspected = inspected;
	return code;
}

void inspect_close(struct inspected *inspected)
{
	if (inspected->arena)
		arena_destroy(inspected->arena);
	bundle_close(&inspected->bundle);
	free(inspected->bytes);
}

const char *inspect_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "?";
}

long long inspect_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

const char *inspect_key_id(const struct inspected *inspected)
{
	const struct bundle *bundle = &inspected->bundle;
	char *id = arena_alloc(inspected->arena, 2 * sizeof(bundle->key_id) + 1);
	for (size_t i = 0; i < sizeof(bundle->key_id); i++)
		sprintf(id + 2 * i, "%02x", bundle->key_id[i]);
	return bundle->is_signed ? id : NULL;
}

uint64_t inspect_map_bytes(const struct budget *budget, bool shared)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < budget->maps.len; i++)
		sum += budget->maps.at[i].shared == shared ? budget->maps.at[i].bytes : 0;
	return sum;
}

/* ---- For people --------------------------------------------------------------------------------- */

static void print_budget(const struct budget *budget)
{
	for (size_t i = 0; i < budget->programs.len; i++) {
		const struct budget_program *program = &budget->programs.at[i];
		printf("program    %-9s %5" PRIu64 " instructions, at most %6" PRIu64 " on one path%s; stack %3u of %d "
		       "bytes, %u frames\n",
		       program->name, program->instructions, program->path, program->open_loops ? " (one round)" : "",
		       program->stack_bytes, BUDGET_STACK_BYTES, program->frames);
	}
	printf("memory     %.1f MiB for each generation, %.1f MiB for the node, with the sizes of the object\n",
	       inspect_map_bytes(budget, false) / 1048576.0, inspect_map_bytes(budget, true) / 1048576.0);
}

static void print_text(const struct inspected *inspected)
{
	const struct bundle *bundle = &inspected->bundle;
	const json_t *manifest = bundle->manifest, *budget = json_object_get(manifest, "budget");
	const json_t *places = json_object_get(bundle->where, "rules");
	const char *key_id = inspect_key_id(inspected);
	printf("bundle     %s, %zu bytes\nmesh       %s (trust %s)\nversion    %lld\ndigest     %s\nsource     %s\n",
	       inspected->path, bundle->elf_len, inspect_text(manifest, "mesh"), inspect_text(manifest, "trust"),
	       inspect_number(manifest, "version"), inspect_text(manifest, "digest"),
	       inspect_text(bundle->where, "source"));
	printf("abi        %lld, for Linux %s and later\ntables     %lld bytes, %lld cells, from %lld diagram nodes\n",
	       inspect_number(manifest, "abi"), inspect_text(manifest, "target"),
	       inspect_number(budget, "tables_bytes"), inspect_number(budget, "cells"),
	       inspect_number(budget, "diagram_nodes"));
	print_budget(&inspected->budget);
	printf("proof      %u decisions, %u addresses, %u packets\n", bundle->vectors->decisions,
	       bundle->vectors->addresses, bundle->vectors->packets);
	printf("signature  %s%s%s\n", key_id ? "Ed25519, key " : "none", key_id ? key_id : "",
	       key_id ? " (meshc verify -k PUB says whether it holds)" : "");
	size_t i;
	json_t *value;
	json_array_foreach (json_object_get(manifest, "services"), i, value)
		printf("service    %s/%s, class %lld\n", inspect_text(value, "namespace"), inspect_text(value, "name"),
		       inspect_number(value, "class"));
	json_array_foreach (json_object_get(manifest, "rules"), i, value) {
		const char *where = json_string_value(json_array_get(places, i));
		printf("rule %5zu %-5s %s (%s)\n", i, inspect_text(value, "effect"), inspect_text(value, "name"),
		       where ? where : "?");
	}
}

/* ---- For programs ------------------------------------------------------------------------------- */

static json_t *programs_json(const struct budget *budget)
{
	json_t *programs = json_array();
	for (size_t i = 0; i < budget->programs.len; i++) {
		const struct budget_program *program = &budget->programs.at[i];
		json_array_append_new(
			programs, json_pack("{s:s, s:s, s:I, s:I, s:i, s:i, s:i}", "name", program->name, "hook",
					    program->hook, "instructions", (json_int_t)program->instructions, "path",
					    (json_int_t)program->path, "open_loops", (int)program->open_loops,
					    "stack_bytes", (int)program->stack_bytes, "frames", (int)program->frames));
	}
	return programs;
}

static json_t *maps_json(const struct budget *budget)
{
	json_t *maps = json_array();
	for (size_t i = 0; i < budget->maps.len; i++) {
		const struct budget_map *map = &budget->maps.at[i];
		json_array_append_new(maps, json_pack("{s:s, s:s, s:I, s:I, s:b}", "name", map->name, "type", map->type,
						      "entries", (json_int_t)map->entries, "bytes",
						      (json_int_t)map->bytes, "shared", map->shared));
	}
	return maps;
}

static void print_json(const struct inspected *inspected)
{
	const struct bundle *bundle = &inspected->bundle;
	json_t *limits = json_pack("{s:i, s:i, s:i}", "stack_bytes", BUDGET_STACK_BYTES, "instructions",
				   BUDGET_INSTRUCTIONS, "tables_bytes", BUDGET_TABLES_BYTES);
	json_t *all =
		json_pack("{s:O, s:O, s:s?, s:{s:i, s:i, s:i}, s:I, s:o, s:o, s:o}", "manifest", bundle->manifest,
			  "where", bundle->where, "key_id", inspect_key_id(inspected), "proof", "decisions",
			  (int)bundle->vectors->decisions, "addresses", (int)bundle->vectors->addresses, "packets",
			  (int)bundle->vectors->packets, "bytes", (json_int_t)bundle->elf_len, "programs",
			  programs_json(&inspected->budget), "maps", maps_json(&inspected->budget), "limits", limits);
	json_dumpf(all, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(all);
}

/* ---- The gate of a release ---------------------------------------------------------------------- */

/* 1 where USED is more than PERCENT of LIMIT. */
static int over(const char *program, const char *what, uint64_t used, uint64_t limit, unsigned percent)
{
	if (used * 100 <= limit * percent)
		return EXIT_YES;
	fprintf(stderr,
		"meshc: over the budget: %s%s%" PRIu64 " %s, %.1f%% of %" PRIu64 "; the budget is %u%%, %" PRIu64 "\n",
		program, *program ? ": " : "", used, what, used * 100.0 / limit, limit, percent, limit * percent / 100);
	return EXIT_NO;
}

int inspect_gate(struct arena *arena, const void *object, size_t len, uint64_t tables_bytes, unsigned percent)
{
	struct budget budget;
	const char *why;
	if (budget_read(arena, object, len, &budget, &why)) {
		fprintf(stderr, "meshc: a bug of ours: the object's cost cannot be read: %s\n", why);
		return EXIT_BUG;
	}
	int code = over("", "bytes of tables", tables_bytes, BUDGET_TABLES_BYTES, percent);
	for (size_t i = 0; i < budget.programs.len; i++) {
		const struct budget_program *program = &budget.programs.at[i];
		code |= over(program->name, "instructions", program->instructions, BUDGET_INSTRUCTIONS, percent);
		code |= over(program->name, "instructions on one path", program->path, BUDGET_INSTRUCTIONS, percent);
		/* The stack does not grow with the policy: what fits, fits. */
		code |= over(program->name, "bytes of stack", program->stack_bytes, BUDGET_STACK_BYTES, 100);
	}
	return code;
}

/* ---- The verb ----------------------------------------------------------------------------------- */

static int diff_two(const struct options *options, char **paths)
{
	struct inspected old, new;
	int code = inspect_open(paths[0], &old);
	if (code)
		return code == EXIT_NO ? EXIT_CANNOT : code;
	code = inspect_open(paths[1], &new);
	if (!code) {
		code = inspect_diff(options, &old, &new);
		inspect_close(&new);
	} else if (code == EXIT_NO) {
		code = EXIT_CANNOT;
	}
	inspect_close(&old);
	return code;
}

int verb_inspect(const struct options *options, int argc, char **argv)
{
	struct inspected inspected;
	bool diff = false;
	int paths = 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--diff") == 0)
			diff = true;
		else
			argv[paths++] = argv[i];
	}
	if (paths != 1 + diff)
		return verb_cannot(diff ? "usage: meshc inspect --diff OLD NEW" : "usage: meshc inspect BUNDLE");
	if (diff)
		return diff_two(options, argv);
	int code = inspect_open(argv[0], &inspected);
	if (code)
		return code;
	const char *why;
	if (bundle_check(&inspected.bundle, &why)) {
		verb_cannot("%s: not valid: %s", argv[0], why);
		code = EXIT_NO;
	} else if (strcmp(options->format, "json") == 0) {
		print_json(&inspected);
	} else {
		print_text(&inspected);
	}
	inspect_close(&inspected);
	return code;
}
