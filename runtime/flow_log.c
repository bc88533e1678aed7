/* Flow records: what the kernel reports, kept in a ring, named when somebody asks. */
#include "node.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct resident *resident_of(const struct node *node, uint32_t generation)
{
	for (int i = 0; i < MESH_GENERATIONS; i++)
		if (node->residents[i].generation && node->residents[i].generation->number == generation)
			return node->residents[i].names ? &node->residents[i] : NULL;
	return NULL;
}

static void put_address(json_t *end, const uint8_t address[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, none[16];
	char text[INET6_ADDRSTRLEN];
	if (memcmp(address, none, 16) == 0)
		return;
	bool v4 = memcmp(address, mapped, 12) == 0;
	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, text, sizeof(text));
	json_object_set_new(end, "address", json_string(text));
}

static json_t *end_json(const struct node *node, const struct resident *resident, const uint8_t address[16],
			uint16_t port, uint32_t endpoint, uint16_t class)
{
	json_t *end = json_object();
	put_address(end, address);
	if (port)
		json_object_set_new(end, "port", json_integer(port));
	if (endpoint && endpoint < node->registry.len && node->registry.at[endpoint].owner)
		json_object_set_new(end, "workload", json_string(node->registry.at[endpoint].owner));
	const char *service = resident ? names_class(resident->names, class) : NULL;
	if (service)
		json_object_set_new(end, "service", json_string(service));
	return end;
}

/* The rule by its number: a name and a place, or one of the four that have no place. */
static void put_rule(json_t *flow, const struct resident *resident, uint32_t rule)
{
	const char *name = resident ? names_rule(resident->names, rule) : NULL;
	const char *where = resident ? names_where(resident->names, rule) : NULL;
	json_object_set_new(flow, "rule", json_string(name ? name : "?"));
	json_object_set_new(flow, "where", where ? json_string(where) : json_null());
}

static json_t *audit_json(const struct resident *resident, const struct mesh_record *record)
{
	json_t *names = json_array();
	uint32_t count = 0;
	const uint32_t *rules = resident ? names_audit(resident->names, record->audit, &count) : NULL;
	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(names, json_string(names_rule(resident->names, rules[i])));
	if (record->flags & MESH_RECORD_DEFAULT_AUDIT)
		json_array_append_new(names, json_string("default"));
	return names;
}

static void put_time(json_t *flow, uint64_t time_ns)
{
	struct timespec wall, mono;
	char text[64];
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	int64_t ns = wall.tv_sec * 1000000000ll + wall.tv_nsec - (mono.tv_sec * 1000000000ll + mono.tv_nsec) +
		     (int64_t)time_ns;
	time_t seconds = ns / 1000000000;
	gmtime_r(&seconds, &tm);
	size_t len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + len, sizeof(text) - len, ".%06lldZ", (long long)(ns % 1000000000 / 1000));
	json_object_set_new(flow, "time", json_string(text));
}

/* What the proxy knows beside: {"from": {"spiffe"}, "to": {"spiffe"}, ...} is merged into FLOW. */
static void put_tunnel(json_t *flow, const json_t *tunnel)
{
	const char *key;
	json_t *value;
	json_object_foreach ((json_t *)tunnel, key, value)
		if (json_is_object(json_object_get(flow, key)))
			json_object_update(json_object_get(flow, key), value);
		else
			json_object_set(flow, key, value);
}

json_t *flow_json(struct node *node, const struct flow_kept *kept, uint64_t id)
{
	const struct mesh_record *record = &kept->record;
	static const char *const hooks[MESH_HOOKS] = {"connect", "sendmsg", "lookup", "ingress", "egress", "tunnel"};
	static const uint8_t none[16];
	const struct resident *resident = resident_of(node, record->generation);
	json_t *flow =
		json_pack("{s:I, s:i, s:s, s:b, s:s, s:b, s:s}", "id", (json_int_t)id, "generation",
			  (int)record->generation, "verdict", record->flags & MESH_RECORD_ALLOWED ? "allow" : "deny",
			  "passed", record->flags & MESH_RECORD_PASSED, "protocol",
			  record->protocol == IPPROTO_UDP ? "udp" : "tcp", "again", record->flags & MESH_RECORD_AGAIN,
			  "hook", record->hook < MESH_HOOKS ? hooks[record->hook] : "?");
	put_time(flow, record->time_ns);
	put_rule(flow, resident, record->rule);
	json_object_set_new(flow, "digest", resident ? json_string(resident->digest) : json_null());
	json_object_set_new(
		flow, "from",
		end_json(node, resident, record->src, record->src_port, record->src_endpoint, record->src_class));
	json_object_set_new(
		flow, "to",
		end_json(node, resident, record->dst, record->dst_port, record->dst_endpoint, record->dst_class));
	json_object_set_new(flow, "audit", audit_json(resident, record));
	if (memcmp(record->service, none, 16) != 0) {
		json_t *asked = json_pack("{s:i}", "port", record->service_port);
		put_address(asked, record->service);
		json_object_set_new(flow, "asked", asked);
	}
	const char *set = resident ? names_set(resident->names, record->subset) : NULL;
	const char *colon = set ? strchr(set, ':') : NULL;
	if (colon)
		json_object_set_new(flow, "subset", json_string(colon + 1));
	put_tunnel(flow, kept->tunnel);
	return flow;
}

static bool end_is(const json_t *end, const char *name)
{
	static const char *const keys[] = {"service", "workload", "address"};
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		const char *text = json_string_value(json_object_get(end, keys[i]));
		const char *slash = text ? strchr(text, '/') : NULL;
		if (text && (strcmp(text, name) == 0 || (slash && strcmp(slash + 1, name) == 0)))
			return true;
	}
	return false;
}

static bool text_is(const json_t *flow, const char *key, const char *wanted)
{
	const char *text = json_string_value(json_object_get(flow, key));
	return text && strcmp(text, wanted) == 0;
}

int flow_matches(const json_t *filter, const json_t *flow)
{
	const char *verdict = json_string_value(json_object_get(filter, "verdict"));
	const char *rule = json_string_value(json_object_get(filter, "rule"));
	const char *from = json_string_value(json_object_get(filter, "from")),
		   *to = json_string_value(json_object_get(filter, "to"));
	return (!verdict || text_is(flow, "verdict", verdict)) && (!rule || text_is(flow, "rule", rule)) &&
	       (!from || end_is(json_object_get(flow, "from"), from)) &&
	       (!to || end_is(json_object_get(flow, "to"), to));
}

void node_take_flow(struct node *node, const struct mesh_record *record, json_t *tunnel)
{
	struct flow_log *log = &node->flows;
	uint64_t id = log->next++;
	struct flow_kept *kept = &log->at[id % FLOWS_KEPT];
	json_decref(kept->tunnel);
	*kept = (struct flow_kept){*record, tunnel};
	if (!log->file && !control_subscribers(node->control))
		return;
	json_t *flow = flow_json(node, kept, id);
	char *line = flow ? json_dumps(flow, JSON_COMPACT) : NULL;
	char *whole = line ? malloc(strlen(line) + 2) : NULL;
	if (whole) {
		sprintf(whole, "%s\n", line);
		if (log->file)
			fputs(whole, log->file);
		control_publish(node->control, whole, flow, flow_matches);
	}
	free(whole);
	free(line);
	json_decref(flow);
}

void node_take_record(void *context, const struct mesh_record *record)
{
	node_take_flow(context, record, NULL);
}

/* The newest that pass FILTER, oldest first. */
json_t *flows_kept(struct node *node, const json_t *filter)
{
	const struct flow_log *log = &node->flows;
	json_t *flows = json_array();
	for (uint64_t id = log->next; id > 0 && id + FLOWS_KEPT > log->next && json_array_size(flows) < FLOWS_SHOWN;
	     id--) {
		json_t *flow = flow_json(node, &log->at[(id - 1) % FLOWS_KEPT], id - 1);
		if (flow_matches(filter, flow))
			json_array_insert(flows, 0, flow);
		json_decref(flow);
	}
	return flows;
}

json_t *flow_warnings(struct node *node, const json_t *filter)
{
	const char *rule = json_string_value(json_object_get(filter, "rule"));
	json_t *warnings = json_array();
	bool found = !rule;
	for (int i = 0; i < MESH_GENERATIONS && !found; i++)
		found = node->residents[i].names && names_have_rule(node->residents[i].names, rule);
	if (!found)
		json_array_append_new(warnings, json_sprintf("no policy that is loaded has a rule '%s'", rule));
	return warnings;
}
