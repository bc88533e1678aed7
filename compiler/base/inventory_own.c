/* The inventory in our own form: {"node", "workloads": [..], "services": [..]}. */
#include "base/inventory_parse.h"

#include "base/diag.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

/* A misspelt key would leave an address out in silence. */
static int check_keys(struct inventory_parser *parser, const json_t *object, const char *what, const char *const *keys)
{
	const char *key;
	json_t *value;
	size_t count = 0;
	if (!json_is_object(object))
		return inventory_fail(parser, -EINVAL, "%s is an object", what);
	while (keys[count])
		count++;
	json_object_foreach ((json_t *)object, key, value) {
		size_t i = 0;
		while (i < count && strcmp(keys[i], key) != 0)
			i++;
		if (i < count)
			continue;
		const char *near = diag_nearest(key, keys, count);
		inventory_enter(parser, key);
		return near ? inventory_fail(parser, -EINVAL, "unknown key '%.60s' in %s: did you mean '%s'?", key,
					     what, near)
			    : inventory_fail(parser, -EINVAL, "unknown key '%.60s' in %s", key, what);
	}
	return 0;
}

/* EACH for every item of the list OBJECT[KEY]; it may be absent. */
static int each_item(struct inventory_parser *parser, const json_t *object, const char *key, void *context,
		     int (*each)(struct inventory_parser *parser, const json_t *item, void *context))
{
	const json_t *list = json_object_get(object, key);
	if (list && !json_is_array(list))
		return inventory_fail_at(parser, key, -EINVAL, "is a list");
	inventory_enter(parser, key);
	for (size_t i = 0; i < json_array_size(list); i++) {
		inventory_enter_index(parser, i);
		int r = each(parser, json_array_get(list, i), context);
		if (r)
			return r;
		inventory_leave(parser);
	}
	inventory_leave(parser);
	return 0;
}

static int read_address(struct inventory_parser *parser, const json_t *item, void *context)
{
	if (!json_is_string(item))
		return inventory_fail(parser, -EINVAL, "an address is a string");
	return inventory_add_address(parser, context, json_string_value(item));
}

static int read_number(struct inventory_parser *parser, const json_t *object, const char *key, json_int_t max,
		       json_int_t *ret_number)
{
	char text[64];
	const json_t *value = json_object_get(object, key);
	json_int_t number = json_integer_value(value);
	if (!value)
		return 0;
	if (!json_is_integer(value) || number < 1 || number > max) {
		snprintf(text, sizeof(text), "is a whole number from 1 to %lld", (long long)max);
		return inventory_fail_at(parser, key, -EINVAL, text);
	}
	*ret_number = number;
	return 0;
}

/* These become paths that are opened. */
static int check_paths(struct inventory_parser *parser, const struct workload *workload)
{
	if (workload->netns && workload->netns[0] != '/')
		return inventory_fail_at(parser, "netns", -EINVAL, "is an absolute path, as /run/netns/NAME");
	const char *cgroup = workload->cgroup;
	if (cgroup && (strcmp(cgroup, "..") == 0 || strncmp(cgroup, "../", 3) == 0 || strstr(cgroup, "/../") ||
		       (strlen(cgroup) > 2 && strcmp(cgroup + strlen(cgroup) - 3, "/..") == 0)))
		return inventory_fail_at(parser, "cgroup", -EINVAL, "is a path without '..'");
	if (workload->uid &&
	    workload->uid[strspn(workload->uid, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-")])
		return inventory_fail_at(parser, "uid", -EINVAL, "is a pod's UID: letters, digits and '-'");
	return 0;
}

static int read_place(struct inventory_parser *parser, const json_t *item, struct workload *workload)
{
	json_int_t pid = 0;
	const json_t *host = json_object_get(item, "hostNetwork");
	if (host && !json_is_boolean(host))
		return inventory_fail_at(parser, "hostNetwork", -EINVAL, "is true or false");
	workload->host_network = json_is_true(host);
	int r = inventory_text(parser, item, "node", false, &workload->node);
	if (!r)
		r = inventory_text(parser, item, "netns", false, &workload->netns);
	if (!r)
		r = inventory_text(parser, item, "cgroup", false, &workload->cgroup);
	if (!r)
		r = inventory_text(parser, item, "uid", false, &workload->uid);
	if (!r)
		r = read_number(parser, item, "pid", 1 << 22, &pid);
	workload->pid = (int)pid;
	return r ? r : check_paths(parser, workload);
}

static int read_workload(struct inventory_parser *parser, const json_t *item, void *context)
{
	static const char *const keys[] = {"namespace", "name",	  "labels", "account", "addresses",   "node",
					   "netns",	"cgroup", "uid",    "pid",     "hostNetwork", NULL};
	struct workload workload = {0};
	(void)context;
	int r = check_keys(parser, item, "a workload", keys);
	if (!r)
		r = inventory_name(parser, item, "namespace", true, &workload.ns);
	if (!r)
		r = inventory_name(parser, item, "name", true, &workload.name);
	if (!r)
		r = inventory_name(parser, item, "account", false, &workload.account);
	if (!r)
		r = inventory_labels(parser, item, "labels", &workload.labels);
	if (!r)
		r = read_place(parser, item, &workload);
	if (!r)
		r = each_item(parser, item, "addresses", &workload, read_address);
	return r ? r : inventory_add_workload(parser, &workload);
}

static int read_port(struct inventory_parser *parser, const json_t *item, void *context)
{
	static const char *const keys[] = {"port", "target", "protocol", NULL};
	struct inventory_service *service = context;
	json_int_t port = 0, target = 0;
	const char *protocol = "tcp";
	int r = check_keys(parser, item, "a port", keys);
	if (!r)
		r = read_number(parser, item, "port", 65535, &port);
	if (!r && !port)
		r = inventory_fail(parser, -EINVAL, "'port' is missing here");
	if (!r)
		r = read_number(parser, item, "target", 65535, &target);
	if (!r)
		r = inventory_text(parser, item, "protocol", false, &protocol);
	if (!r && strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0)
		r = inventory_fail_at(parser, "protocol", -EINVAL, "is \"tcp\" or \"udp\"");
	if (r)
		return r;
	struct inventory_port read = {port, target ? target : port, protocol[0] == 'u' ? IPPROTO_UDP : IPPROTO_TCP};
	vec_push(parser->inventory->arena, &service->ports, read);
	return 0;
}

static int read_service_address(struct inventory_parser *parser, const json_t *item, void *context)
{
	struct inventory_service *service = context;
	struct workload_address address;
	if (!json_is_string(item))
		return inventory_fail(parser, -EINVAL, "an address is a string");
	int r = inventory_address(parser, json_string_value(item), &address);
	if (!r && service->addresses.len == INVENTORY_LIMIT_ADDRESSES)
		r = inventory_fail(parser, -E2BIG, "%s/%s has more than %d addresses", service->ns, service->name,
				   INVENTORY_LIMIT_ADDRESSES);
	if (!r)
		vec_push(parser->inventory->arena, &service->addresses, address);
	return r;
}

static int read_service(struct inventory_parser *parser, const json_t *item, void *context)
{
	static const char *const keys[] = {"namespace", "name", "addresses", "ports", NULL};
	struct inventory_service service = {0};
	(void)context;
	int r = check_keys(parser, item, "a service", keys);
	if (!r)
		r = inventory_name(parser, item, "namespace", true, &service.ns);
	if (!r)
		r = inventory_name(parser, item, "name", true, &service.name);
	if (!r)
		r = each_item(parser, item, "addresses", &service, read_service_address);
	if (!r)
		r = each_item(parser, item, "ports", &service, read_port);
	if (!r)
		vec_push(parser->inventory->arena, &parser->inventory->services, service);
	return r;
}

int inventory_read_own(struct inventory_parser *parser, const json_t *root)
{
	static const char *const keys[] = {"node", "workloads", "services", NULL};
	const char *node = NULL;
	int r = check_keys(parser, root, "an inventory", keys);
	if (!r)
		r = inventory_text(parser, root, "node", false, &node);
	if (!r && node && parser->inventory->node && strcmp(node, parser->inventory->node) != 0)
		r = inventory_fail(parser, -EEXIST, "the node is '%s' here and '%s' in another file: say it once", node,
				   parser->inventory->node);
	if (node)
		parser->inventory->node = node;
	if (!r)
		r = each_item(parser, root, "workloads", NULL, read_workload);
	return r ? r : each_item(parser, root, "services", NULL, read_service);
}
