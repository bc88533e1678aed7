/* Who runs where: files and folders, values, contradictions. The forms are in inventory_own.c and
 * inventory_k8s.c. */
#define _GNU_SOURCE 1
#include "base/inventory_parse.h"

#include "base/address.h"
#include "base/file.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- Places -------------------------------------------------------------------------------------- */

void inventory_enter(struct inventory_parser *parser, const char *key)
{
	parser->steps[parser->depth++] = (struct inventory_step){.key = key};
}

void inventory_enter_index(struct inventory_parser *parser, size_t index)
{
	parser->steps[parser->depth++] = (struct inventory_step){.index = index};
}

void inventory_leave(struct inventory_parser *parser)
{
	parser->depth--;
}

int inventory_fail(struct inventory_parser *parser, int error, const char *format, ...)
{
	char text[400];
	unsigned line, column;
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	inventory_place(parser->text, parser->len, parser->steps, parser->depth, &line, &column);
	return why_set(parser->why, error, "%s:%u:%u: %s", parser->file, line, column, text);
}

int inventory_fail_at(struct inventory_parser *parser, const char *key, int error, const char *text)
{
	inventory_enter(parser, key);
	error = inventory_fail(parser, error, "'%.60s' %s", key, text);
	inventory_leave(parser);
	return error;
}

/* ---- Values -------------------------------------------------------------------------------------- */

int inventory_text(struct inventory_parser *parser, const json_t *object, const char *key, bool is_required,
		   const char **ret_text)
{
	const json_t *value = json_object_get(object, key);
	if (!value || json_is_null(value))
		return is_required ? inventory_fail(parser, -EINVAL, "'%s' is missing here", key) : 0;
	const char *text = json_string_value(value);
	if (!text || !*text || strlen(text) > 4096)
		return inventory_fail_at(parser, key, -EINVAL, "is a string of 1 to 4096 bytes");
	for (const char *at = text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			return inventory_fail_at(parser, key, -EINVAL, "has a control character in it");
	*ret_text = arena_copy(parser->inventory->arena, text, strlen(text));
	return 0;
}

int inventory_name(struct inventory_parser *parser, const json_t *object, const char *key, bool is_required,
		   const char **ret_name)
{
	int r = inventory_text(parser, object, key, is_required, ret_name);
	if (!r && *ret_name && (strchr(*ret_name, '/') || strlen(*ret_name) > 253))
		return inventory_fail_at(parser, key, -EINVAL, "is a name: at most 253 bytes and no '/'");
	return r;
}

int inventory_address(struct inventory_parser *parser, const char *text, struct workload_address *ret_address)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct workload_address address;
	if (inet_pton(AF_INET, text, address.bytes + 12) == 1)
		memcpy(address.bytes, mapped, 12);
	else if (inet_pton(AF_INET6, text, address.bytes) != 1)
		return inventory_fail(parser, -EINVAL,
				      "'%.60s' is no IPv4 or IPv6 address (without a prefix or a port)", text);
	else if (memcmp(address.bytes, mapped, 12) == 0)
		return inventory_fail(parser, -EINVAL, "'%.60s' is an IPv4-mapped address: write the IPv4 address",
				      text);
	const char *flaw = address_flaw(address_nature(address.bytes));
	if (flaw)
		return inventory_fail(parser, -EINVAL, "'%.60s' %s", text, flaw);
	*ret_address = address;
	return 0;
}

static const char *label_name(struct inventory_parser *parser, const char *name)
{
	const char *known = table_get(&parser->label_names, name);
	if (known)
		return known;
	char *copy = arena_copy(parser->inventory->arena, name, strlen(name));
	table_put(&parser->label_names, copy, copy);
	return copy;
}

int inventory_labels(struct inventory_parser *parser, const json_t *object, const char *key, struct labels *ret_labels)
{
	const char *name;
	json_t *labels = json_object_get(object, key), *value;
	if (!labels || json_is_null(labels))
		return 0;
	if (!json_is_object(labels))
		return inventory_fail_at(parser, key, -EINVAL, "is an object of strings");
	struct label *at = arena_alloc(parser->inventory->arena, json_object_size(labels) * sizeof(*at)), *next = at;
	inventory_enter(parser, key);
	json_object_foreach (labels, name, value) {
		if (!json_is_string(value))
			return inventory_fail_at(parser, name, -EINVAL, "is a label: its value is a string");
		*next++ = (struct label){
			label_name(parser, name),
			arena_copy(parser->inventory->arena, json_string_value(value), json_string_length(value))};
	}
	inventory_leave(parser);
	*ret_labels = (struct labels){at, next - at};
	return 0;
}

int inventory_add_address(struct inventory_parser *parser, struct workload *workload, const char *text)
{
	struct workload_address address;
	int r = inventory_address(parser, text, &address);
	if (r)
		return r;
	for (size_t i = 0; i < workload->addresses.len; i++)
		if (memcmp(&workload->addresses.at[i], &address, sizeof(address)) == 0)
			return 0;
	if (workload->addresses.len == INVENTORY_LIMIT_ADDRESSES)
		return inventory_fail(parser, -E2BIG, "%s/%s has more than %d addresses", workload->ns, workload->name,
				      INVENTORY_LIMIT_ADDRESSES);
	vec_push(parser->inventory->arena, &workload->addresses, address);
	return 0;
}

int inventory_add_workload(struct inventory_parser *parser, const struct workload *workload)
{
	if (parser->inventory->workloads.len == INVENTORY_LIMIT_WORKLOADS)
		return inventory_fail(parser, -E2BIG, "more than %d workloads", INVENTORY_LIMIT_WORKLOADS);
	vec_push(parser->inventory->arena, &parser->inventory->workloads, *workload);
	return 0;
}

/* ---- Files --------------------------------------------------------------------------------------- */

static int read_text(struct inventory_parser *parser)
{
	json_error_t error;
	json_t *root = json_loadb(parser->text, parser->len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		return why_set(parser->why, -EINVAL, "%s:%d:%d: not JSON: %s", parser->file,
			       error.line > 0 ? error.line : 1, error.column > 0 ? error.column : 1, error.text);
	parser->depth = 0;
	int r = json_object_get(root, "kind") ? inventory_read_k8s(parser, root) : inventory_read_own(parser, root);
	json_decref(root);
	return r;
}

static int read_file(struct inventory_parser *parser, const char *path, size_t *left)
{
	char *text;
	int r = file_read(path, *left, &text, &parser->len, parser->why);
	if (r == -E2BIG)
		return why_set(parser->why, r, "%s: more than 64 MiB of inventory", path);
	if (r)
		return r;
	*left -= parser->len;
	parser->file = path;
	parser->text = text;
	r = read_text(parser);
	free(text);
	return r;
}

/* Hidden files are what editors and `kubectl cp` leave half-written. */
static int is_json(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);
	return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0;
}

static int by_bytes(const struct dirent **left, const struct dirent **right)
{
	return strcmp((*left)->d_name, (*right)->d_name);
}

static int read_folder(struct inventory_parser *parser, const char *path)
{
	struct dirent **entries;
	size_t left = INVENTORY_LIMIT_BYTES;
	int r = 0, count = scandir(path, &entries, is_json, by_bytes);
	if (count < 0)
		return why_set(parser->why, -errno, "%s: cannot be read: %s", path, strerror(errno));
	/* An empty folder is a mount that is not there yet, rather than a node without workloads. */
	if (!count)
		r = why_set(parser->why, -ENOENT, "%s: has no *.json file in it", path);
	for (int i = 0; i < count; i++) {
		const char *file = arena_printf(parser->inventory->arena, "%s/%s", path, entries[i]->d_name);
		if (!r)
			r = read_file(parser, file, &left);
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* ---- Contradictions ------------------------------------------------------------------------------ */

static int name_compare(const char *left_ns, const char *left, const char *right_ns, const char *right)
{
	int r = strcmp(left_ns, right_ns);
	return r ? r : strcmp(left, right);
}

static int workload_compare(const void *left, const void *right)
{
	const struct workload *a = left, *b = right;
	return name_compare(a->ns, a->name, b->ns, b->name);
}

static int service_compare(const void *left, const void *right)
{
	const struct inventory_service *a = left, *b = right;
	return name_compare(a->ns, a->name, b->ns, b->name);
}

struct claim {
	const struct workload_address *address;
	const struct workload *workload;
};

static int claim_compare(const void *left, const void *right)
{
	const struct claim *a = left, *b = right;
	int r = memcmp(a->address, b->address, sizeof(*a->address));
	return r ? r : (a->workload > b->workload) - (a->workload < b->workload);
}

static int check_claims(struct inventory_parser *parser, const struct claim *claims, size_t count)
{
	char text[INET6_ADDRSTRLEN];
	for (size_t i = 1; i < count; i++) {
		const struct workload *a = claims[i - 1].workload, *b = claims[i].workload;
		/* Host-network workloads share their node's addresses. */
		if (memcmp(claims[i - 1].address, claims[i].address, sizeof(*claims->address)) != 0 ||
		    (a->host_network && b->host_network))
			continue;
		const uint8_t *bytes = claims[i].address->bytes;
		bool is_v4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)bytes);
		inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? bytes + 12 : bytes, text, sizeof(text));
		return why_set(parser->why, -EEXIST,
			       "%s belongs to two workloads, %.100s/%.100s and %.100s/%.100s: one of them is stale",
			       text, a->ns, a->name, b->ns, b->name);
	}
	return 0;
}

static int check_addresses(struct inventory_parser *parser)
{
	const struct inventory *inventory = parser->inventory;
	size_t count = 0;
	for (size_t i = 0; i < inventory->workloads.len; i++)
		count += inventory->workloads.at[i].addresses.len;
	struct claim *claims = calloc(count + 1, sizeof(*claims));
	if (!claims)
		return why_set(parser->why, -ENOMEM, "out of memory");
	count = 0;
	for (size_t i = 0; i < inventory->workloads.len; i++) {
		const struct workload *workload = &inventory->workloads.at[i];
		for (size_t k = 0; k < workload->addresses.len; k++)
			claims[count++] = (struct claim){&workload->addresses.at[k], workload};
	}
	qsort(claims, count, sizeof(*claims), claim_compare);
	int r = check_claims(parser, claims, count);
	free(claims);
	return r;
}

static int settle(struct inventory_parser *parser)
{
	struct inventory *inventory = parser->inventory;
	inventory_resolve_k8s(parser);
	if (inventory->workloads.len)
		qsort(inventory->workloads.at, inventory->workloads.len, sizeof(*inventory->workloads.at),
		      workload_compare);
	if (inventory->services.len)
		qsort(inventory->services.at, inventory->services.len, sizeof(*inventory->services.at),
		      service_compare);
	for (size_t i = 1; i < inventory->workloads.len; i++)
		if (!workload_compare(&inventory->workloads.at[i - 1], &inventory->workloads.at[i]))
			return why_set(parser->why, -EEXIST, "two workloads are named %s/%s: one of them is stale",
				       inventory->workloads.at[i].ns, inventory->workloads.at[i].name);
	for (size_t i = 1; i < inventory->services.len; i++)
		if (!service_compare(&inventory->services.at[i - 1], &inventory->services.at[i]))
			return why_set(parser->why, -EEXIST, "two services are named %s/%s: one of them is stale",
				       inventory->services.at[i].ns, inventory->services.at[i].name);
	return check_addresses(parser);
}

static int read_path(struct inventory_parser *parser, const char *path)
{
	struct stat found;
	size_t left = INVENTORY_LIMIT_BYTES;
	int r;
	if (stat(path, &found))
		return why_set(parser->why, -errno, "%s: cannot be read: %s", path, strerror(errno));
	r = S_ISDIR(found.st_mode) ? read_folder(parser, path) : read_file(parser, path, &left);
	return r ? r : settle(parser);
}

int inventory_read(const char *path, struct inventory **ret_inventory, struct why *why)
{
	struct arena *arena = arena_create();
	if (!arena)
		return why_set(why, -ENOMEM, "out of memory");
	struct inventory *inventory = arena_alloc(arena, sizeof(*inventory));
	*inventory = (struct inventory){.arena = arena};
	struct inventory_parser parser = {
		.inventory = inventory, .why = why, .named = {.arena = arena}, .label_names = {.arena = arena}};
	int r = read_path(&parser, path);
	if (r) {
		inventory_release(inventory);
		return r;
	}
	*ret_inventory = inventory;
	return 0;
}

void inventory_release(struct inventory *inventory)
{
	if (!inventory)
		return;
	arena_destroy(inventory->arena);
}
