#define _GNU_SOURCE 1
#include "view_manifest.h"

#include "base/selector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

enum { LIMIT_CLASSES = 65535, LIMIT_SETS = 65535, LIMIT_SELECTOR_DEPTH = 128 };

__attribute__((format(printf, 2, 3))) static int fail(struct why *why, const char *format, ...)
{
	char text[300];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return why_set(why, -EINVAL,
		       "the bundle's manifest is not what meshc writes: %s: compile it anew with this version", text);
}

static const char *text_in(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* OBJECT[KEY] where it is a whole number in 0..MAX. */
static bool number_in(const json_t *object, const char *key, json_int_t max, uint32_t *ret_number)
{
	const json_t *value = json_object_get(object, key);
	if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > max)
		return false;
	*ret_number = (uint32_t)json_integer_value(value);
	return true;
}

/* ---- Classes and intervals ------------------------------------------------------------------------ */

/* Tables hold pointers: a class is an arena cell. */
static void class_put(struct view_manifest *manifest, struct table *table, const char *name, uint16_t class)
{
	uint16_t *cell = arena_alloc(manifest->arena, sizeof(*cell));
	*cell = class;
	table_put(table, name, cell);
}

uint16_t view_manifest_class(const struct table *table, const char *name)
{
	const uint16_t *cell = table_get(table, name);
	return cell ? *cell : MESH_CLASS_UNKNOWN;
}

static void id_put(struct view_manifest *manifest, const char *text, uint32_t class)
{
	struct manifest_id id = {text, (uint16_t)class};
	vec_push(manifest->arena, &manifest->ids, id);
}

static int read_classes(struct view_manifest *manifest, const json_t *classes, struct why *why)
{
	size_t count = json_array_size(classes);
	if (count < MESH_CLASS_FIRST || count > LIMIT_CLASSES)
		return fail(why, "%zu classes", count);
	manifest->class_count = (uint32_t)count;
	manifest->spiffe = arena_alloc(manifest->arena, count * sizeof(*manifest->spiffe));
	for (uint32_t i = MESH_CLASS_FIRST; i < count; i++) {
		const json_t *class = json_array_get(classes, i);
		const char *kind = text_in(class, "kind"), *ns = text_in(class, "namespace"),
			   *spiffe = text_in(class, "spiffe");
		if (!kind)
			return fail(why, "class %u has no kind", i);
		if (strcmp(kind, "namespace") == 0 && !ns)
			return fail(why, "class %u is a namespace without a name", i);
		if (strcmp(kind, "namespace") == 0) {
			class_put(manifest, &manifest->spaces, ns, (uint16_t)i);
			id_put(manifest, arena_printf(manifest->arena, "spiffe://%s/ns/%s", manifest->trust, ns), i);
		}
		if (spiffe) {
			id_put(manifest, spiffe, i);
			manifest->spiffe[i] = spiffe;
		}
		if (strcmp(kind, "identity") == 0 && spiffe)
			class_put(manifest, &manifest->identities, spiffe, (uint16_t)i);
	}
	return 0;
}

static bool address_read(const char *text, uint8_t bytes[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	if (text && inet_pton(AF_INET, text, bytes + 12) == 1) {
		memcpy(bytes, mapped, 12);
		return true;
	}
	return text && inet_pton(AF_INET6, text, bytes) == 1;
}

static int read_intervals(struct view_manifest *manifest, const json_t *intervals, struct why *why)
{
	static const uint8_t zero[16];
	for (size_t i = 0; i < json_array_size(intervals); i++) {
		struct manifest_interval interval;
		const json_t *item = json_array_get(intervals, i), *block = json_array_get(item, 1);
		if (!address_read(json_string_value(json_array_get(item, 0)), interval.first) ||
		    !json_is_integer(block) || json_integer_value(block) < 0 || json_integer_value(block) > UINT16_MAX)
			return fail(why, "interval %zu", i);
		interval.block = (uint16_t)json_integer_value(block);
		const uint8_t *before = i ? manifest->intervals.at[i - 1].first : NULL;
		if (i ? memcmp(before, interval.first, 16) >= 0 : memcmp(zero, interval.first, 16) != 0)
			return fail(why, "interval %zu is not behind the one before it", i);
		vec_push(manifest->arena, &manifest->intervals, interval);
	}
	return manifest->intervals.len ? 0 : fail(why, "no address intervals");
}

uint16_t view_manifest_block(const struct view_manifest *manifest, const uint8_t address[16])
{
	size_t first = 0, count = manifest->intervals.len;
	while (count > 1) {
		size_t half = count / 2;
		if (memcmp(manifest->intervals.at[first + half].first, address, 16) <= 0) {
			first += half;
			count -= half;
		} else {
			count = half;
		}
	}
	return manifest->intervals.at[first].block;
}

/* ---- Services ------------------------------------------------------------------------------------- */

struct service_reader {
	struct view_manifest *manifest;
	struct manifest_service *service;
	const json_t *from;
	bool *taken; /* sets, by number */
	struct why *why;
};

static int add_set(struct service_reader *reader, const json_t *from, const json_t *selector)
{
	struct manifest_set set = {.selector = selector};
	if (!number_in(from, "set", (json_int_t)reader->manifest->set_count - 1, &set.number) ||
	    reader->taken[set.number])
		return fail(reader->why, "service %s has a set that is not there, or another's",
			    reader->service->qualified);
	reader->taken[set.number] = true;
	vec_push(reader->manifest->arena, &reader->service->sets, set);
	return 0;
}

static int read_sets(struct service_reader *reader)
{
	const json_t *subsets = json_object_get(reader->from, "subsets");
	int r = add_set(reader, reader->from, NULL);
	for (size_t i = 0; !r && i < json_array_size(subsets); i++) {
		const json_t *subset = json_array_get(subsets, i), *selector = json_object_get(subset, "selector");
		if (!selector_valid(selector, LIMIT_SELECTOR_DEPTH))
			return fail(reader->why, "a subset of service %s has no selector", reader->service->qualified);
		r = add_set(reader, subset, selector);
	}
	return r;
}

static int read_ports(struct service_reader *reader)
{
	const json_t *ports = json_object_get(reader->from, "ports");
	for (size_t i = 0; i < json_array_size(ports); i++) {
		const json_t *port = json_array_get(ports, i);
		const char *protocol = text_in(port, "protocol");
		uint32_t first, last, target;
		if (!protocol || !number_in(port, "port", 65535, &first) || !number_in(port, "end", 65535, &last) ||
		    !number_in(port, "target", 65535, &target) || !first || !target || last < first)
			return fail(reader->why, "port %zu of service %s", i, reader->service->qualified);
		struct manifest_port read = {(uint16_t)first, (uint16_t)last, (uint16_t)target,
					     strcmp(protocol, "udp") == 0 ? IPPROTO_UDP : IPPROTO_TCP};
		vec_push(reader->manifest->arena, &reader->service->ports, read);
	}
	return 0;
}

static int read_addresses(struct service_reader *reader)
{
	const json_t *addresses = json_object_get(reader->from, "addresses");
	for (size_t i = 0; i < json_array_size(addresses); i++) {
		struct manifest_address address;
		if (!address_read(json_string_value(json_array_get(addresses, i)), address.bytes))
			return fail(reader->why, "address %zu of service %s", i, reader->service->qualified);
		vec_push(reader->manifest->arena, &reader->service->addresses, address);
	}
	return 0;
}

static int read_service(struct service_reader *reader, const json_t *classes)
{
	struct manifest_service *service = reader->service;
	uint32_t class;
	service->ns = text_in(reader->from, "namespace");
	service->name = text_in(reader->from, "name");
	if (!service->ns || !service->name)
		return fail(reader->why, "a service without a name");
	service->qualified = arena_printf(reader->manifest->arena, "%s/%s", service->ns, service->name);
	if (!number_in(reader->from, "class", (json_int_t)reader->manifest->class_count - 1, &class))
		return fail(reader->why, "service %s has a class that is not there", service->qualified);
	const char *kind = text_in(json_array_get(classes, class), "kind");
	if (!kind || strcmp(kind, "service") != 0)
		return fail(reader->why, "service %s has class %u, which is no service's", service->qualified, class);
	service->class = (uint16_t)class;
	service->selector = json_object_get(reader->from, "selector");
	if (json_is_null(service->selector))
		service->selector = NULL;
	if (service->selector && !selector_valid(service->selector, LIMIT_SELECTOR_DEPTH))
		return fail(reader->why, "service %s has a selector of an unknown form", service->qualified);
	int r = read_sets(reader);
	if (!r)
		r = read_ports(reader);
	return r ? r : read_addresses(reader);
}

/* ---- Which services a workload can be in: by a label that the selector insists on -------------------- */

/* "app == x" alone, or as a part of a conjunction. */
static const json_t *required_label(const json_t *selector)
{
	const char *op = text_in(selector, "op");
	const json_t *args = json_object_get(selector, "args");
	if (op && strcmp(op, "==") == 0)
		return selector;
	for (size_t i = 0; op && strcmp(op, "and") == 0 && i < json_array_size(args); i++) {
		const char *inner = text_in(json_array_get(args, i), "op");
		if (inner && strcmp(inner, "==") == 0)
			return json_array_get(args, i);
	}
	return NULL;
}

/* The unit separator cannot be in a name: inventories refuse control characters. */
static const char *label_key(struct arena *arena, char *room, size_t size, const char *ns, const char *label,
			     const char *value)
{
	if (snprintf(room, size, "%s\x1f%s\x1f%s", ns, label, value) < (int)size)
		return room;
	return arena_printf(arena, "%s\x1f%s\x1f%s", ns, label, value);
}

static void index_service(struct view_manifest *manifest, struct manifest_service *service)
{
	char room[256];
	if (!service->selector)
		return;
	const json_t *label = required_label(service->selector);
	const char *key = label_key(manifest->arena, room, sizeof(room), service->ns,
				    label ? text_in(label, "label") : "", label ? text_in(label, "value") : "");
	key = arena_copy(manifest->arena, key, strlen(key));
	service->next = table_get(&manifest->by_label, key);
	table_put(&manifest->by_label, key, service);
}

struct search {
	const struct labels *labels;
	struct manifest_service *found[2]; /* in their order */
};

static void search_chain(struct search *search, struct manifest_service *service)
{
	for (; service; service = service->next) {
		if (service == search->found[0] || service == search->found[1] ||
		    !selector_matches(service->selector, search->labels))
			continue;
		if (!search->found[0] || service < search->found[0]) {
			search->found[1] = search->found[0];
			search->found[0] = service;
		} else if (!search->found[1] || service < search->found[1]) {
			search->found[1] = service;
		}
	}
}

unsigned view_manifest_match(const struct view_manifest *manifest, const char *ns, const struct labels *labels,
			     struct manifest_service *ret_services[2])
{
	char room[1024];
	struct search search = {.labels = labels};
	search_chain(&search,
		     table_get(&manifest->by_label, label_key(manifest->arena, room, sizeof(room), ns, "", "")));
	for (size_t i = 0; i < labels->len; i++)
		search_chain(&search,
			     table_get(&manifest->by_label, label_key(manifest->arena, room, sizeof(room), ns,
								      labels->at[i].name, labels->at[i].value)));
	ret_services[0] = search.found[0];
	ret_services[1] = search.found[1];
	return !search.found[0] ? 0 : search.found[1] ? 2 : 1;
}

/* ---- All of it ------------------------------------------------------------------------------------ */

static int read_services(struct view_manifest *manifest, const json_t *from, struct why *why)
{
	const json_t *services = json_object_get(from, "services"), *classes = json_object_get(from, "classes");
	bool *taken = arena_alloc(manifest->arena, manifest->set_count + 1);
	for (size_t i = 0; i < json_array_size(services); i++) {
		struct manifest_service service = {0};
		struct service_reader reader = {manifest, &service, json_array_get(services, i), taken, why};
		int r = read_service(&reader, classes);
		if (r)
			return r;
		vec_push(manifest->arena, &manifest->services, service);
	}
	/* Not before all are there: the list moves while it grows. */
	for (size_t i = 0; i < manifest->services.len; i++)
		index_service(manifest, &manifest->services.at[i]);
	return 0;
}

int view_manifest_read(const json_t *from, struct arena *arena, struct view_manifest *ret_manifest, struct why *why)
{
	struct view_manifest manifest = {.arena = arena, .trust = text_in(from, "trust")};
	size_t sets = json_array_size(json_object_get(from, "sets"));
	manifest.spaces.arena = manifest.identities.arena = manifest.by_label.arena = arena;
	if (!manifest.trust)
		return fail(why, "no trust domain");
	if (sets > LIMIT_SETS)
		return fail(why, "%zu sets", sets);
	manifest.set_count = (uint32_t)sets;
	int r = read_classes(&manifest, json_object_get(from, "classes"), why);
	if (!r)
		r = read_intervals(&manifest, json_object_get(from, "intervals"), why);
	if (!r)
		r = read_services(&manifest, from, why);
	if (!r)
		*ret_manifest = manifest;
	return r;
}
