/* What a node is, as JSON; `status --check` asks for "ok". */
#include "node.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *state_of(struct node *node)
{
	switch (kernel_control(node->kernel)->mode) {
	case MESH_OFF:
		return "off";
	case MESH_OBSERVE:
		return "observing";
	default:
		return !node_active(node)			  ? "no policy"
		       : node_active(node)->generation->is_closed ? "closed"
								  : "enforcing";
	}
}

static json_t *stats_json(struct node *node)
{
	static const struct {
		const char *name, *text;
	} stats[] = {
#define STAT(name, text) {#name, text},
#include "stats.def"
#undef STAT
	};
	json_t *all = json_object();
	for (int i = 0; i < MESH_STATS; i++) {
		char key[64];
		snprintf(key, sizeof(key), "%s", stats[i].name);
		for (char *c = key; *c; c++)
			*c = *c >= 'A' && *c <= 'Z' ? *c + 32 : *c;
		json_object_set_new(all, key, json_integer(kernel_stat(node->kernel, i)));
	}
	return all;
}

/* Per rule: decided at the caller, at the receiver, and again for live connections. */
static json_t *hits_json(const struct resident *resident)
{
	int cpus = libbpf_num_possible_cpus();
	struct mesh_hits *counts = cpus > 0 ? calloc(cpus, sizeof(*counts)) : NULL;
	json_t *all = json_array();
	for (uint32_t i = 0; counts && resident->names && i < resident->rules + MESH_SPECIALS; i++) {
		struct mesh_hits sum = {0};
		if (bpf_map_lookup_elem(resident->generation->hits, &i, counts))
			break;
		for (int cpu = 0; cpu < cpus; cpu++) {
			sum.caller += counts[cpu].caller;
			sum.receiver += counts[cpu].receiver;
			sum.again += counts[cpu].again;
		}
		if (!sum.caller && !sum.receiver && !sum.again)
			continue;
		json_array_append_new(
			all, json_pack("{s:s?, s:s?, s:I, s:I, s:I}", "rule", names_rule(resident->names, i), "where",
				       names_where(resident->names, i), "caller", (json_int_t)sum.caller, "receiver",
				       (json_int_t)sum.receiver, "again", (json_int_t)sum.again));
	}
	free(counts);
	return all;
}

static json_t *generations_json(struct node *node)
{
	json_t *all = json_array();
	for (int i = 0; i < MESH_GENERATIONS; i++) {
		const struct resident *resident = &node->residents[i];
		if (resident->generation && !resident->generation->is_closed)
			json_array_append_new(all, json_pack("{s:i, s:i, s:I, s:s, s:I, s:b, s:I, s:I}", "generation",
							     (int)resident->generation->number, "slot", i, "version",
							     (json_int_t)resident->version, "digest", resident->digest,
							     "applied", (json_int_t)resident->applied_s, "active",
							     resident == node_active(node), "bytes",
							     (json_int_t)resident->generation->bytes, "instructions",
							     (json_int_t)resident->generation->instructions));
	}
	return all;
}

static void add_problem(json_t *problems, const char *format, const char *text)
{
	json_array_append_new(problems, json_sprintf(format, text));
}

static size_t count_enrolled(const struct node *node)
{
	size_t enrolled = 0;
	for (uint32_t i = 1; i < node->registry.len; i++) {
		const struct endpoint *endpoint = &node->registry.at[i];
		enrolled += endpoint->workload && (endpoint->flags & MESH_PEER_ENROLLED);
	}
	return enrolled;
}

/* A map was full within ten minutes, or since it was last asked. */
static bool is_filling(struct node *node)
{
	uint64_t full = kernel_stat(node->kernel, MESH_STAT_MAP_FULL);
	int64_t now_ms = loop_now_ms();
	if (full != node->full_seen) {
		node->full_seen = full;
		node->full_ms = now_ms;
	}
	return full && now_ms - node->full_ms < 600000;
}

/* A node never changes a mode by itself: that a day is over, it says (language.md 20). */
static void add_ended(json_t *problems, const struct names *names)
{
	char today[16], port[24] = "";
	time_t now = time(NULL);
	struct tm utc;
	uint32_t count;
	const struct names_permissive *all = names_permissive(names, &count);
	strftime(today, sizeof(today), "%Y-%m-%d", gmtime_r(&now, &utc));
	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(today, all[i].until) <= 0)
			continue;
		port[0] = 0;
		if (all[i].port)
			snprintf(port, sizeof(port), " port %u", all[i].port);
		json_array_append_new(problems, json_sprintf("permissive for %s%s ended on %s (%s), plaintext is still "
							     "taken: apply a policy that says strict, or off",
							     all[i].scope, port, all[i].until,
							     all[i].where ? all[i].where : "?"));
	}
}

static void add_mtls(json_t *problems, struct node *node)
{
	mtls_problems(node, problems);
	json_t *status = mtls_status(node), *problem;
	size_t i;
	json_array_foreach (json_object_get(status, "problems"), i, problem)
		add_problem(problems, "identities: %s", json_string_value(problem));
	json_decref(status);
}

static void add_keys(json_t *problems, const struct config *config)
{
	json_t *more = keys_problems(config);
	json_array_extend(problems, more);
	json_decref(more);
}

static void add_closed(json_t *problems, const struct node *node)
{
	bool observes = node->config->observe_only;
	json_array_append_new(
		problems,
		json_sprintf("%s: the policy that was in force cannot be loaded again: %s; apply a bundle, or mend "
			     "that and restart meshd (`meshd off` lets everything pass)",
			     observes ? "whatever enrolled workloads open or take would be denied, but for observe_only"
				      : "CLOSED, whatever enrolled workloads open or take is denied",
			     node->closed_problem));
}

static void add_no_inventory(json_t *problems, const struct node *node)
{
	const char *meanwhile = node->adopted	     ? "what is pinned goes on"
				: node->registry.len ? "what has an address of the last one is denied"
						     : "nobody is enrolled";
	json_array_append_new(problems, json_sprintf("no inventory is in force, %s: %s", meanwhile,
						     node->inventory_problem ? node->inventory_problem : "?"));
}

/* Everything that `--check` fails for. */
static json_t *problems_json(struct node *node)
{
	json_t *problems = json_array();
	const struct resident *active = node_active(node);
	const char *state = state_of(node);
	if (strcmp(state, "off") == 0)
		add_problem(problems, "%s: `meshd on` takes enforcement up again",
			    "break glass is on, NOTHING is enforced");
	if (strcmp(state, "no policy") == 0)
		add_problem(problems, "%s", "no policy was applied: everything passes");
	if (node->closed_problem)
		add_closed(problems, node);
	if (node->inventory_problem && node->inventory)
		add_problem(problems, "the inventory was refused, the last good one is in force: %s",
			    node->inventory_problem);
	if (node->people_problem)
		add_problem(problems, "the inventory in force could not be told anew, which is tried again: %s",
			    node->people_problem);
	if (!node->inventory)
		add_no_inventory(problems, node);
	if (node->watch_folder_problem)
		add_problem(problems, "%s", node->watch_folder_problem);
	if (node->watch_problem)
		add_problem(problems, "%s", node->watch_problem);
	if (node->place_problems)
		add_problem(problems, "%s", node->place_problem);
	if (active && node->inventory && !count_enrolled(node))
		add_problem(problems, "%s", "no workload of the inventory is enrolled: nothing is enforced here");
	add_mtls(problems, node);
	add_keys(problems, node->config);
	if (active && active->names)
		add_ended(problems, active->names);
	if (active && !active->names)
		add_problem(problems, "%s",
			    "the bundle in force is lost: inventory changes cannot reach it; apply one");
	if (active && json_array_size(active->conflicts))
		add_problem(problems, "workload %s matches two services: it is denied",
			    json_string_value(json_object_get(json_array_get(active->conflicts, 0), "workload")));
	if (kernel_stat(node->kernel, MESH_STAT_NO_PROGRAM))
		add_problem(problems, "%s", "a hook found no program of the active generation and denied");
	if (is_filling(node))
		add_problem(
			problems, "%s",
			"a map was full within ten minutes, see map_full: what did not fit was denied; raise `sizes`");
	return problems;
}

static json_t *people_json(struct node *node)
{
	size_t quarantined = 0, endpoints = 0;
	for (uint32_t i = 1; i < node->registry.len; i++) {
		const struct endpoint *endpoint = &node->registry.at[i];
		endpoints += endpoint->owner != NULL;
		quarantined += endpoint->owner && !endpoint->workload;
	}
	return json_pack("{s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:I}", "path", node->config->inventory, "problem",
			 node->inventory_problem, "read", (json_int_t)node->inventory_s, "workloads",
			 (json_int_t)(node->inventory ? node->inventory->workloads.len : 0), "endpoints",
			 (json_int_t)endpoints, "enrolled", (json_int_t)count_enrolled(node), "quarantined",
			 (json_int_t)quarantined, "namespaces", (json_int_t)node->place_count);
}

static bool is_development(const struct config *config)
{
	for (size_t i = 0; i < config->keys.len; i++) {
		const char *name = strrchr(config->keys.at[i], '/');
		if (strncmp(name ? name + 1 : config->keys.at[i], "development", 11) == 0)
			return true;
	}
	return false;
}

json_t *node_status(struct node *node)
{
	const struct resident *active = node_active(node);
	volatile struct mesh_control *control = kernel_control(node->kernel);
	json_t *problems = problems_json(node);
	json_t *status = json_pack(
		"{s:s, s:s, s:b, s:b, s:i, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I}", "state", state_of(node), "mesh",
		node->config->mesh, "adopted", node->adopted, "development_key", is_development(node->config), "epoch",
		(int)control->epoch, "inventory", people_json(node), "neighbours",
		(json_t *)kernel_neighbours(node->kernel), "generations", generations_json(node), "stats",
		stats_json(node), "problems", problems, "resets", (json_int_t)node->resets, "flows",
		(json_int_t)node->flows.next, "flow_lines_dropped", (json_int_t)control_dropped(node->control));
	json_object_set_new(status, "mtls", mtls_status(node));
	json_object_set_new(status, "ok", json_boolean(json_array_size(problems) == 0));
	if (!active || active->generation->is_closed)
		return status;
	json_object_set_new(status, "generation", json_integer(active->generation->number));
	json_object_set_new(status, "digest", json_string(active->digest));
	json_object_set_new(status, "version", json_integer(active->version));
	json_object_set_new(status, "age_s", json_integer(time(NULL) - active->applied_s));
	json_object_set_new(status, "rules", json_integer(active->rules));
	json_object_set_new(status, "programs", json_integer(active->generation->programs));
	json_object_set_new(status, "hits", hits_json(active));
	json_object_set(status, "conflicts", active->conflicts);
	return status;
}
