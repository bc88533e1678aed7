#include "pass/bundle.h"

#include "base/bundle.h"
#include "pass/digest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Manifest ----------------------------------------------------------------------------------- */

static json_t *manifest_classes(const struct policy *policy)
{
	static const char *const kinds[] = {"unknown",	 "world",   "node",	"other",   "conflict",
					    "namespace", "service", "identity", "external"};
	json_t *classes = json_array();
	for (size_t i = 0; i < policy->classes.len; i++) {
		const struct policy_class *class = &policy->classes.at[i];
		json_t *object = json_pack("{s:s, s:s}", "kind", kinds[class->kind], "name", class->name);
		if (class->ns)
			json_object_set_new(object, "namespace", json_string(class->ns));
		if (class->spiffe)
			json_object_set_new(object, "spiffe", json_string(class->spiffe));
		json_array_append_new(classes, object);
	}
	return classes;
}

static json_t *manifest_intervals(const struct policy *policy)
{
	json_t *intervals = json_array();
	for (size_t i = 0; i < policy->intervals.len; i++) {
		char text[INET6_ADDRSTRLEN];
		inet_ntop(AF_INET6, policy->intervals.at[i].first, text, sizeof(text));
		json_array_append_new(intervals, json_pack("[s, i]", text, (int)policy->intervals.at[i].block));
	}
	return intervals;
}

static json_t *manifest_service(const struct policy_service *service)
{
	static const char *const kinds[] = {"tcp", "udp", "http", "grpc"};
	json_t *addresses = json_array(), *ports = json_array(), *subsets = json_array();
	for (size_t i = 0; i < service->addresses.len; i++)
		json_array_append_new(addresses, json_string(service->addresses.at[i]));
	for (size_t i = 0; i < service->ports.len; i++) {
		const struct policy_port *port = &service->ports.at[i];
		json_array_append_new(ports, json_pack("{s:s, s:i, s:i, s:i}", "protocol", kinds[port->kind], "port",
						       port->lo, "end", port->hi, "target", port->target));
	}
	for (size_t i = 0; i < service->subsets.len; i++) {
		const struct policy_subset *subset = &service->subsets.at[i];
		json_array_append_new(subsets, json_pack("{s:s, s:O?, s:i}", "name", subset->name, "selector",
							 subset->selector, "set", (int)subset->set));
	}
	return json_pack("{s:s, s:s, s:i, s:s, s:O?, s:i, s:b, s:o, s:o, s:o}", "namespace", service->ns, "name",
			 service->name, "class", (int)service->class, "account",
			 service->account ? service->account : service->name, "selector", service->selector, "set",
			 (int)service->set, "sticky", service->sticky, "addresses", addresses, "ports", ports,
			 "subsets", subsets);
}

static json_t *manifest_services(const struct policy *policy)
{
	json_t *services = json_array();
	for (size_t i = 0; i < policy->services.len; i++)
		json_array_append_new(services, manifest_service(&policy->services.at[i]));
	return services;
}

static json_t *manifest_sets(struct run *run)
{
	const struct policy *policy = run->policy;
	const char **names = arena_alloc(run->arena, (policy->sets + 1) * sizeof(*names));
	for (size_t i = 0; i < policy->services.len; i++) {
		const struct policy_service *service = &policy->services.at[i];
		names[service->set] = arena_printf(run->arena, "%s/%s", service->ns, service->name);
		for (size_t k = 0; k < service->subsets.len; k++)
			names[service->subsets.at[k].set] = arena_printf(run->arena, "%s/%s:%s", service->ns,
									 service->name, service->subsets.at[k].name);
	}
	json_t *sets = json_array();
	for (uint32_t i = 0; i < policy->sets; i++)
		json_array_append_new(sets, json_string(names[i] ? names[i] : ""));
	return sets;
}

static json_t *manifest_rules(const struct policy *policy)
{
	static const char *const effects[] = {"deny", "allow", "audit"};
	json_t *rules = json_array();
	for (size_t i = 0; i < policy->rules.len; i++)
		json_array_append_new(rules, json_pack("{s:s, s:s}", "name", policy->rules.at[i].name, "effect",
						       effects[policy->rules.at[i].effect]));
	return rules;
}

static json_t *manifest_audits(const struct diagram *diagram)
{
	json_t *audits = json_array();
	for (uint32_t i = 0; i < diagram_audit_sets(diagram); i++) {
		uint32_t count;
		const uint32_t *ranks = diagram_audit_set(diagram, i, &count);
		json_t *set = json_array();
		for (uint32_t k = 0; k < count; k++)
			json_array_append_new(set, json_integer(ranks[k]));
		json_array_append_new(audits, set);
	}
	return audits;
}

static json_t *manifest_mtls(const struct policy *policy)
{
	static const char *const modes[] = {"off", "permissive", "strict"};
	json_t *all = json_array();
	for (size_t i = 0; i < policy->mtls.len; i++) {
		const struct policy_mtls *mtls = &policy->mtls.at[i];
		json_t *statement = json_pack("{s:s, s:s}", "mode", modes[mtls->mode], "scope", mtls->scope);
		if (mtls->port)
			json_object_set_new(statement, "port", json_integer(mtls->port));
		if (mtls->until)
			json_object_set_new(statement, "until", json_string(mtls->until));
		json_array_append_new(all, statement);
	}
	return all;
}

static json_t *manifest_make(struct run *run, const struct plan *plan, const struct bundle_options *options)
{
	return json_pack("{s:i, s:s, s:s, s:I, s:s, s:s, s:[s], s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:i, s:i, s:i}}",
			 "abi", MESH_ABI, "mesh", run->policy->mesh, "trust", run->policy->trust, "version",
			 (json_int_t)options->version, "digest", policy_digest(run), "target", options->target, "needs",
			 "bpf_loop", "classes", manifest_classes(run->policy), "intervals",
			 manifest_intervals(run->policy), "services", manifest_services(run->policy), "sets",
			 manifest_sets(run), "rules", manifest_rules(run->policy), "audits",
			 manifest_audits(run->diagram), "mtls", manifest_mtls(run->policy), "budget", "tables_bytes",
			 (int)plan_bytes(plan), "cells", (int)plan->cells.len, "diagram_nodes",
			 (int)diagram_nodes(run->diagram));
}

static json_t *where_make(struct run *run)
{
	json_t *rules = json_array(), *mtls = json_array();
	for (size_t i = 0; i < run->policy->mtls.len; i++)
		json_array_append_new(
			mtls, json_string(sources_where(run->arena, &run->sources, run->policy->mtls.at[i].span)));
	for (size_t i = 0; i < run->policy->rules.len; i++)
		json_array_append_new(
			rules, json_string(sources_where(run->arena, &run->sources, run->policy->rules.at[i].span)));
	return json_pack("{s:s, s:o, s:o}", "source", run->policy->source_digest, "rules", rules, "mtls", mtls);
}

static int file_compare(const void *left, const void *right)
{
	return strcmp((*(const struct source_file *const *)left)->name,
		      (*(const struct source_file *const *)right)->name);
}

/* The text itself, for `meshc plan`; SOURCE_LIMIT_BYTES bounds it. */
static json_t *source_make(struct run *run)
{
	const struct sources *sources = &run->sources;
	const struct source_file **order = arena_alloc(run->arena, (sources->files.len + 1) * sizeof(*order));
	json_t *files = json_array();
	for (size_t i = 0; i < sources->files.len; i++)
		order[i] = &sources->files.at[i];
	if (sources->files.len)
		qsort(order, sources->files.len, sizeof(*order), file_compare);
	for (size_t i = 0; i < sources->files.len; i++)
		json_array_append_new(
			files, json_pack("{s:s, s:s%}", "name", order[i]->name, "text", order[i]->text, order[i]->len));
	return files;
}

/* ---- Proof and tables --------------------------------------------------------------------------- */

static void *vectors_make(struct run *run, const struct plan *plan, size_t *ret_len)
{
	struct mesh_vectors head = {
		.magic = MESH_VECTORS_MAGIC,
		.decisions = plan->vectors.len,
		.addresses = plan->addresses.len,
		.packets = plan->packets.len,
	};
	size_t decisions = plan->vectors.len * sizeof(*plan->vectors.at),
	       addresses = plan->addresses.len * sizeof(*plan->addresses.at),
	       packets = plan->packets.len * sizeof(*plan->packets.at);
	*ret_len = sizeof(head) + decisions + addresses + packets;
	char *bytes = arena_alloc(run->arena, *ret_len);
	memcpy(bytes, &head, sizeof(head));
	if (decisions)
		memcpy(bytes + sizeof(head), plan->vectors.at, decisions);
	if (addresses)
		memcpy(bytes + sizeof(head) + decisions, plan->addresses.at, addresses);
	if (packets)
		memcpy(bytes + sizeof(head) + decisions + addresses, plan->packets.at, packets);
	return bytes;
}

/* Writes the tables' bytes into the finished object: as C initialisers they would cost seconds. */
static int tables_fill(void *object, size_t len, const struct plan *plan)
{
#define FILL(symbol, vec) {symbol, (vec).at, (vec).len * sizeof(*(vec).at)}
	const struct bundle_part tables[] = {
		FILL("plan_nodes", plan->nodes),
		FILL("plan_cells", plan->cells),
		FILL("plan_combs", plan->combs),
		FILL("plan_matrix", plan->matrix),
		FILL("plan_columns", plan->columns),
		FILL("plan_outcomes", plan->outcomes),
		FILL("plan_by_block", plan->by_block),
		FILL("plan_intervals", plan->intervals),
		FILL("plan_interval_block", plan->interval_block),
		FILL("plan_block_dst", plan->block_dst),
		FILL("plan_class_arm", plan->class_arm),
		FILL("plan_arms", plan->arms),
		FILL("plan_splits", plan->splits),
	};
#undef FILL
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		size_t room;
		void *at = bundle_rodata_symbol(object, len, tables[i].name, &room);
		/* What no program uses is not in the object: nothing reads it. */
		if (!at)
			continue;
		if (room < tables[i].len)
			return -EIO;
		if (tables[i].len)
			memcpy(at, tables[i].bytes, tables[i].len);
	}
	return 0;
}

int bundle_make(struct run *run, const struct plan *plan, const struct bundle_options *options, void *object,
		size_t object_len, void **ret_bundle, size_t *ret_len)
{
	if (tables_fill(object, object_len, plan))
		return -EIO;
	json_t *manifest = manifest_make(run, plan, options), *where = where_make(run), *source = source_make(run);
	char *manifest_text = manifest ? json_dumps(manifest, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	char *where_text = where ? json_dumps(where, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	char *source_text = json_dumps(source, JSON_COMPACT | JSON_SORT_KEYS);
	struct bundle_signature unsigned_yet = {0};
	int r = -EIO;
	if (manifest_text && where_text && source_text) {
		struct bundle_part parts[] = {
			{BUNDLE_MANIFEST, manifest_text, strlen(manifest_text)},
			{BUNDLE_WHERE, where_text, strlen(where_text)},
			{BUNDLE_VECTORS, NULL, 0},
			{BUNDLE_SOURCE, source_text, strlen(source_text)},
			{BUNDLE_SIGNATURE, &unsigned_yet, sizeof(unsigned_yet)},
		};
		parts[2].bytes = vectors_make(run, plan, &parts[2].len);
		*ret_bundle = bundle_add_sections(object, object_len, parts, sizeof(parts) / sizeof(*parts), ret_len);
		r = *ret_bundle ? 0 : -EIO;
	}
	free(manifest_text);
	free(where_text);
	free(source_text);
	json_decref(manifest);
	json_decref(where);
	json_decref(source);
	return r;
}
