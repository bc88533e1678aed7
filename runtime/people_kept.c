/* The inventory in force, written to the state folder in our own form: what a node that is started anew goes on with
 * while the inventory itself cannot be read. */
#include "node.h"

#include "base/file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kept_path {
	char text[1040];
};

static struct kept_path kept_path(const struct node *node)
{
	struct kept_path path;
	snprintf(path.text, sizeof(path.text), "%s/inventory.json", node->config->state);
	return path;
}

static json_t *addresses_json(const struct workload_address *at, size_t count)
{
	json_t *all = json_array();
	for (size_t i = 0; i < count; i++) {
		bool v4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)at[i].bytes);
		char text[INET6_ADDRSTRLEN];
		inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? at[i].bytes + 12 : at[i].bytes, text, sizeof(text));
		json_array_append_new(all, json_string(text));
	}
	return all;
}

/* What was not said is not written. */
static json_t *workload_json(const struct workload *workload)
{
	json_t *labels = json_object();
	for (size_t i = 0; i < workload->labels.len; i++)
		json_object_set_new(labels, workload->labels.at[i].name, json_string(workload->labels.at[i].value));
	json_t *item = json_pack("{s:s, s:s, s:o, s:o, s:b, s:s*, s:s*, s:s*, s:s*, s:s*}", "namespace", workload->ns,
				 "name", workload->name, "labels", labels, "addresses",
				 addresses_json(workload->addresses.at, workload->addresses.len), "hostNetwork",
				 workload->host_network, "account", workload->account, "node", workload->node, "netns",
				 workload->netns, "cgroup", workload->cgroup, "uid", workload->uid);
	if (workload->pid)
		json_object_set_new(item, "pid", json_integer(workload->pid));
	return item;
}

static json_t *service_json(const struct inventory_service *service)
{
	json_t *ports = json_array();
	for (size_t i = 0; i < service->ports.len; i++) {
		const struct inventory_port *port = &service->ports.at[i];
		json_array_append_new(ports, json_pack("{s:i, s:i, s:s}", "port", port->port, "target", port->target,
						       "protocol", port->protocol == IPPROTO_UDP ? "udp" : "tcp"));
	}
	return json_pack("{s:s, s:s, s:o, s:o}", "namespace", service->ns, "name", service->name, "addresses",
			 addresses_json(service->addresses.at, service->addresses.len), "ports", ports);
}

void people_keep(const struct node *node)
{
	const struct inventory *inventory = node->inventory;
	struct why why = {0};
	json_t *workloads = json_array(), *services = json_array();
	for (size_t i = 0; i < inventory->workloads.len; i++)
		json_array_append_new(workloads, workload_json(&inventory->workloads.at[i]));
	for (size_t i = 0; i < inventory->services.len; i++)
		json_array_append_new(services, service_json(&inventory->services.at[i]));
	json_t *root =
		json_pack("{s:s*, s:o, s:o}", "node", inventory->node, "workloads", workloads, "services", services);
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	int r = text ? file_replace(kept_path(node).text, text, strlen(text), &why)
		     : why_set(&why, -ENOMEM, "out of memory");
	if (r)
		node_say("the inventory is not kept for a restart: %s", why.text);
	free(text);
	json_decref(root);
}

int people_recall(const struct node *node, struct inventory **ret_inventory, struct why *why)
{
	return inventory_read(kept_path(node).text, ret_inventory, why);
}
