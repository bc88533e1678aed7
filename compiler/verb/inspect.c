/* What a bundle holds. */
#include "verb/verb.h"

#include "base/bundle.h"

#include <stdlib.h>

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "?";
}

static void print_key_id(const struct bundle *bundle)
{
	if (!bundle->is_signed) {
		puts("signature  none");
		return;
	}
	fputs("signature  Ed25519, key ", stdout);
	for (size_t i = 0; i < sizeof(bundle->key_id); i++)
		printf("%02x", bundle->key_id[i]);
	putchar('\n');
}

static void print_text(const char *path, const struct bundle *bundle)
{
	const json_t *manifest = bundle->manifest, *budget = json_object_get(manifest, "budget");
	const json_t *places = json_object_get(bundle->where, "rules");
	printf("bundle     %s, %zu bytes\nmesh       %s (trust %s)\nversion    %lld\ndigest     %s\nsource     %s\n",
	       path, bundle->elf_len, text_of(manifest, "mesh"), text_of(manifest, "trust"),
	       (long long)json_integer_value(json_object_get(manifest, "version")), text_of(manifest, "digest"),
	       text_of(bundle->where, "source"));
	printf("abi        %lld, for Linux %s and later\ntables     %lld bytes, %lld cells, from %lld diagram nodes\n",
	       (long long)json_integer_value(json_object_get(manifest, "abi")), text_of(manifest, "target"),
	       (long long)json_integer_value(json_object_get(budget, "tables_bytes")),
	       (long long)json_integer_value(json_object_get(budget, "cells")),
	       (long long)json_integer_value(json_object_get(budget, "diagram_nodes")));
	printf("proof      %u decisions, %u addresses, %u packets\n", bundle->vectors->decisions,
	       bundle->vectors->addresses, bundle->vectors->packets);
	print_key_id(bundle);
	size_t i;
	json_t *value;
	json_array_foreach (json_object_get(manifest, "services"), i, value)
		printf("service    %s/%s, class %lld\n", text_of(value, "namespace"), text_of(value, "name"),
		       (long long)json_integer_value(json_object_get(value, "class")));
	json_array_foreach (json_object_get(manifest, "rules"), i, value) {
		const char *where = json_string_value(json_array_get(places, i));
		printf("rule %5zu %-5s %s (%s)\n", i, text_of(value, "effect"), text_of(value, "name"),
		       where ? where : "?");
	}
}

static void print_json(const struct bundle *bundle)
{
	char id[2 * sizeof(bundle->key_id) + 1] = "";
	for (size_t i = 0; i < sizeof(bundle->key_id) && bundle->is_signed; i++)
		sprintf(id + 2 * i, "%02x", bundle->key_id[i]);
	json_t *all =
		json_pack("{s:O, s:O, s:o, s:{s:i, s:i, s:i}, s:I}", "manifest", bundle->manifest, "where",
			  bundle->where, "key_id", bundle->is_signed ? json_string(id) : json_null(), "proof",
			  "decisions", (int)bundle->vectors->decisions, "addresses", (int)bundle->vectors->addresses,
			  "packets", (int)bundle->vectors->packets, "bytes", (json_int_t)bundle->elf_len);
	json_dumpf(all, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(all);
}

int verb_inspect(const struct options *options, int argc, char **argv)
{
	struct bundle bundle;
	const char *why = "";
	char *bytes;
	size_t len;
	if (argc != 2)
		return verb_cannot("usage: meshc inspect BUNDLE");
	int code = verb_slurp(argv[1], BUNDLE_LIMIT_BYTES, &bytes, &len);
	if (code)
		return code;
	if (bundle_open(bytes, len, &bundle, &why)) {
		verb_cannot("%s: %s", argv[1], why);
		free(bytes);
		return EXIT_NO;
	}
	if (strcmp(options->format, "json") == 0)
		print_json(&bundle);
	else
		print_text(argv[1], &bundle);
	bundle_close(&bundle);
	free(bytes);
	return EXIT_YES;
}
