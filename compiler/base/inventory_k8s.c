/* What `kubectl get pods,services -A -o json` prints, as it is. Only what says who has which address is
 * looked at; all else may be there. */
#include "base/inventory_parse.h"

#include <errno.h>
#include <netinet/in.h>

static const char *text_in(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static const json_t *object_in(struct inventory_parser *parser, const json_t *object, const char *key)
{
	inventory_enter(parser, key);
	return json_object_get(object, key);
}

/* ---- Pods ---------------------------------------------------------------------------------------- */

static const char *port_key(struct inventory_parser *parser, const char *ns, const char *protocol, const char *name)
{
	return arena_printf(parser->inventory->arena, "%s/%s/%s", ns, protocol ? protocol : "TCP", name);
}

/* Services may name a port that each pod numbers as it likes. */
static void remember_ports(struct inventory_parser *parser, const struct workload *workload, const json_t *spec)
{
	const json_t *containers = json_object_get(spec, "containers");
	for (size_t i = 0; i < json_array_size(containers); i++) {
		const json_t *ports = json_object_get(json_array_get(containers, i), "ports");
		for (size_t k = 0; k < json_array_size(ports); k++) {
			const json_t *port = json_array_get(ports, k);
			json_int_t number = json_integer_value(json_object_get(port, "containerPort"));
			if (!text_in(port, "name") || number < 1 || number > 65535)
				continue;
			const char *key =
				port_key(parser, workload->ns, text_in(port, "protocol"), text_in(port, "name"));
			struct named_port *named = arena_alloc(parser->inventory->arena, sizeof(*named));
			*named =
				(struct named_port){workload->labels, (uint16_t)number, table_get(&parser->named, key)};
			table_put(&parser->named, key, named);
		}
	}
}

static int pod_metadata(struct inventory_parser *parser, const json_t *pod, struct workload *workload)
{
	const json_t *metadata = object_in(parser, pod, "metadata");
	/* The kubelet names a static pod's cgroup by the hash of its file, not by the mirror's UID. */
	const json_t *annotations = json_object_get(metadata, "annotations");
	const char *hash = text_in(annotations, "kubernetes.io/config.hash");
	int r = inventory_name(parser, metadata, "namespace", true, &workload->ns);
	if (!r)
		r = inventory_name(parser, metadata, "name", true, &workload->name);
	if (!r)
		r = inventory_labels(parser, metadata, "labels", &workload->labels);
	if (!r)
		r = inventory_text(parser, metadata, "uid", false, &workload->uid);
	if (!r && hash)
		workload->uid = arena_copy(parser->inventory->arena, hash, strlen(hash));
	if (!r && workload->uid &&
	    workload->uid[strspn(workload->uid, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-")])
		r = inventory_fail(parser, -EINVAL, "a pod's uid is letters, digits and '-'");
	inventory_leave(parser);
	return r;
}

static int pod_spec(struct inventory_parser *parser, const json_t *pod, struct workload *workload)
{
	const json_t *spec = object_in(parser, pod, "spec");
	const json_t *host = json_object_get(spec, "hostNetwork");
	int r = inventory_text(parser, spec, "nodeName", false, &workload->node);
	if (!r)
		r = inventory_name(parser, spec, "serviceAccountName", false, &workload->account);
	if (!r && host && !json_is_boolean(host) && !json_is_null(host))
		r = inventory_fail(parser, -EINVAL, "'hostNetwork' is true or false");
	workload->host_network = json_is_true(host);
	remember_ports(parser, workload, spec);
	inventory_leave(parser);
	return r;
}

static int pod_addresses(struct inventory_parser *parser, const json_t *pod, struct workload *workload)
{
	const json_t *status = object_in(parser, pod, "status");
	const json_t *list = json_object_get(status, "podIPs");
	const char *single = text_in(status, "podIP");
	int r = 0;
	if (list && !json_is_null(list) && !json_is_array(list))
		r = inventory_fail(parser, -EINVAL, "'podIPs' is a list");
	inventory_enter(parser, "podIPs");
	for (size_t i = 0; !r && i < json_array_size(list); i++) {
		const char *text = text_in(json_array_get(list, i), "ip");
		inventory_enter_index(parser, i);
		r = text ? inventory_add_address(parser, workload, text)
			 : inventory_fail(parser, -EINVAL, "a pod's address is {\"ip\": \"...\"}");
		inventory_leave(parser);
	}
	inventory_leave(parser);
	if (!r && single && *single && !workload->addresses.len)
		r = inventory_add_address(parser, workload, single);
	inventory_leave(parser);
	return r;
}

/* A pod that has ended keeps its address in the list while another may have it. */
static bool pod_has_ended(const json_t *pod)
{
	const char *phase = text_in(json_object_get(pod, "status"), "phase");
	return phase && (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0);
}

static int read_pod(struct inventory_parser *parser, const json_t *pod)
{
	struct workload workload = {0};
	if (pod_has_ended(pod))
		return 0;
	int r = pod_metadata(parser, pod, &workload);
	if (!r)
		r = pod_spec(parser, pod, &workload);
	if (!r)
		r = pod_addresses(parser, pod, &workload);
	return r ? r : inventory_add_workload(parser, &workload);
}

/* ---- Services ------------------------------------------------------------------------------------ */

static int service_address(struct inventory_parser *parser, struct inventory_service *service, const char *text)
{
	struct workload_address address;
	/* Headless: its names lead straight to the pods. */
	if (!text || !*text || strcmp(text, "None") == 0)
		return 0;
	int r = inventory_address(parser, text, &address);
	if (!r && service->addresses.len == INVENTORY_LIMIT_ADDRESSES)
		r = inventory_fail(parser, -E2BIG, "more than %d addresses of one service", INVENTORY_LIMIT_ADDRESSES);
	if (!r)
		vec_push(parser->inventory->arena, &service->addresses, address);
	return r;
}

static int service_addresses(struct inventory_parser *parser, const json_t *spec, struct inventory_service *service)
{
	const json_t *list = json_object_get(spec, "clusterIPs");
	int r = 0;
	inventory_enter(parser, "clusterIPs");
	for (size_t i = 0; !r && i < json_array_size(list); i++) {
		inventory_enter_index(parser, i);
		r = service_address(parser, service, json_string_value(json_array_get(list, i)));
		inventory_leave(parser);
	}
	inventory_leave(parser);
	return !r && !json_array_size(list) ? service_address(parser, service, text_in(spec, "clusterIP")) : r;
}

/* A target that is a name stays 0 until every pod has been read. */
static int service_port(struct inventory_parser *parser, const json_t *spec, const json_t *item,
			struct inventory_service *service)
{
	const char *protocol = text_in(item, "protocol");
	json_int_t port = json_integer_value(json_object_get(item, "port"));
	const json_t *target = json_object_get(item, "targetPort");
	json_int_t number = target && !json_is_null(target) ? json_integer_value(target) : port;
	if (port < 1 || port > 65535 || number < 0 || number > 65535)
		return inventory_fail(parser, -EINVAL, "a service's port is a whole number from 1 to 65535");
	if (protocol && strcmp(protocol, "TCP") != 0 && strcmp(protocol, "UDP") != 0)
		return 0;
	if (json_is_string(target)) {
		struct wanted_port wanted = {parser->inventory->services.len,
					     service->ports.len,
					     {0},
					     port_key(parser, service->ns, protocol, json_string_value(target))};
		int r = inventory_labels(parser, spec, "selector", &wanted.selector);
		if (r)
			return r;
		vec_push(parser->inventory->arena, &parser->wanted, wanted);
	}
	struct inventory_port read = {(uint16_t)port, (uint16_t)number,
				      protocol && protocol[0] == 'U' ? IPPROTO_UDP : IPPROTO_TCP};
	vec_push(parser->inventory->arena, &service->ports, read);
	return 0;
}

static int service_spec(struct inventory_parser *parser, const json_t *item, struct inventory_service *service)
{
	const json_t *spec = object_in(parser, item, "spec");
	const json_t *ports = json_object_get(spec, "ports");
	int r = service_addresses(parser, spec, service);
	inventory_enter(parser, "ports");
	for (size_t i = 0; !r && service->addresses.len && i < json_array_size(ports); i++) {
		inventory_enter_index(parser, i);
		r = service_port(parser, spec, json_array_get(ports, i), service);
		inventory_leave(parser);
	}
	inventory_leave(parser);
	inventory_leave(parser);
	return r;
}

static int read_service(struct inventory_parser *parser, const json_t *item)
{
	struct inventory_service service = {0};
	const json_t *metadata = object_in(parser, item, "metadata");
	int r = inventory_name(parser, metadata, "namespace", true, &service.ns);
	if (!r)
		r = inventory_name(parser, metadata, "name", true, &service.name);
	inventory_leave(parser);
	if (!r)
		r = service_spec(parser, item, &service);
	if (!r && service.addresses.len)
		vec_push(parser->inventory->arena, &parser->inventory->services, service);
	return r;
}

/* ---- The list ------------------------------------------------------------------------------------ */

static int read_item(struct inventory_parser *parser, const json_t *item, const char *kind)
{
	if (!json_is_object(item))
		return inventory_fail(parser, -EINVAL, "an item is an object");
	if (!kind)
		return inventory_fail(parser, -EINVAL, "an item has a 'kind'");
	if (strcmp(kind, "Pod") == 0)
		return read_pod(parser, item);
	return strcmp(kind, "Service") == 0 ? read_service(parser, item) : 0;
}

int inventory_read_k8s(struct inventory_parser *parser, const json_t *root)
{
	const char *kind = text_in(root, "kind");
	const json_t *items = json_object_get(root, "items");
	if (kind && (strcmp(kind, "Pod") == 0 || strcmp(kind, "Service") == 0))
		return read_item(parser, root, kind);
	/* The API's own lists leave the kind of their items out. */
	const char *implied = !kind				 ? NULL
			      : strcmp(kind, "PodList") == 0	 ? "Pod"
			      : strcmp(kind, "ServiceList") == 0 ? "Service"
								 : NULL;
	if (!kind || (!implied && strcmp(kind, "List") != 0))
		return inventory_fail(
			parser, -EINVAL,
			"kind '%.60s': what is read is what `kubectl get pods,services -A -o json` prints",
			kind ? kind : "");
	if (!json_is_array(items))
		return inventory_fail(parser, -EINVAL, "a List has 'items', a list");
	inventory_enter(parser, "items");
	for (size_t i = 0; i < json_array_size(items); i++) {
		const json_t *item = json_array_get(items, i);
		const char *own = text_in(item, "kind");
		inventory_enter_index(parser, i);
		int r = read_item(parser, item, own ? own : implied);
		if (r)
			return r;
		inventory_leave(parser);
	}
	inventory_leave(parser);
	return 0;
}

static bool selects(const struct labels *selector, const struct labels *labels)
{
	for (size_t i = 0; i < selector->len; i++) {
		const char *have = labels_get(labels, selector->at[i].name);
		if (!have || strcmp(have, selector->at[i].value) != 0)
			return false;
	}
	return selector->len > 0;
}

void inventory_resolve_k8s(struct inventory_parser *parser)
{
	for (size_t i = 0; i < parser->wanted.len; i++) {
		const struct wanted_port *wanted = &parser->wanted.at[i];
		struct inventory_port *port = &parser->inventory->services.at[wanted->service].ports.at[wanted->index];
		for (const struct named_port *at = table_get(&parser->named, wanted->key); at && !port->target;
		     at = at->next)
			if (selects(&wanted->selector, &at->labels))
				port->target = at->port;
	}
}
