/* Where local workloads run: their network namespaces, by path, process, cgroup or pod UID. */
#include "node.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Finding ------------------------------------------------------------------------------------------ */

/* Non-blocking: the inventory may name a FIFO, and meshd would wait for who writes into it. */
static int open_quickly(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

static int open_of_pid(int pid)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	return open_quickly(path);
}

static int open_of_cgroup(const char *folder)
{
	char path[2048];
	int pid = 0;
	snprintf(path, sizeof(path), "%s/cgroup.procs", folder);
	int fd = open_quickly(path);
	if (fd < 0)
		return fd;
	FILE *file = fdopen(fd, "r");
	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	int read = fscanf(file, "%d", &pid);
	fclose(file);
	return read == 1 && pid > 0 ? open_of_pid(pid) : -ENOENT;
}

/* The pod's cgroup has the UID in its name, with '_' for '-' under systemd; its containers lie below. */
static int open_of_uid(const char *folder, const char *uid, bool inside, int depth)
{
	int found = inside ? open_of_cgroup(folder) : -ENOENT;
	DIR *entries = found < 0 && depth ? opendir(folder) : NULL;
	for (struct dirent *entry; entries && found < 0 && (entry = readdir(entries));) {
		char below[2048], name[256];
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		if (snprintf(below, sizeof(below), "%s/%s", folder, entry->d_name) >= (int)sizeof(below))
			continue;
		snprintf(name, sizeof(name), "%s", entry->d_name);
		for (char *c = name; *c; c++)
			*c = *c == '_' ? '-' : *c;
		found = open_of_uid(below, uid, inside || strstr(name, uid), depth - 1);
	}
	if (entries)
		closedir(entries);
	return found;
}

static int open_namespace(const struct config *config, const struct workload *workload)
{
	char folder[2048];
	if (workload->netns)
		return open_quickly(workload->netns);
	if (workload->pid)
		return open_of_pid(workload->pid);
	if (workload->cgroup) {
		snprintf(folder, sizeof(folder), "%s%s%s", workload->cgroup[0] == '/' ? "" : config->cgroup,
			 workload->cgroup[0] == '/' ? "" : "/", workload->cgroup);
		return open_of_cgroup(folder);
	}
	return workload->uid ? open_of_uid(config->cgroup, workload->uid, false, 6) : -ENOENT;
}

/* ---- The map "netns" ------------------------------------------------------------------------------------ */

static struct place *place_of_cookie(struct node *node, uint64_t cookie)
{
	for (size_t i = 0; i < node->place_count; i++)
		if (node->places[i].cookie == cookie)
			return &node->places[i];
	return NULL;
}

static void __attribute__((format(printf, 2, 3))) complain(struct node *node, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (!node->place_problems++)
		vsnprintf(node->place_problem, sizeof(node->place_problem), format, args);
	va_end(args);
}

/* The endpoints of a workload in its place: the first of each family, and whether there are more. */
static void add_endpoint(struct place *place, const struct endpoint *endpoint, uint32_t number)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool v4 = memcmp(endpoint->address, mapped, sizeof(mapped)) == 0;
	uint32_t *first = v4 ? &place->endpoint4 : &place->endpoint6;
	if (*first && *first != number)
		place->flags |= v4 ? MESH_NETNS_MANY4 : MESH_NETNS_MANY6;
	else
		*first = number;
	if (endpoint->flags & MESH_PEER_ENROLLED)
		place->flags |= MESH_NETNS_ENROLLED;
}

static struct place *place_add(struct node *node, uint64_t cookie, const char *workload)
{
	struct place *places = realloc(node->places, (node->place_count + 1) * sizeof(*places));
	if (!places)
		return NULL;
	node->places = places;
	places[node->place_count] = (struct place){.cookie = cookie, .workload = strdup(workload)};
	return &places[node->place_count++];
}

/* Where an earlier endpoint of this workload lies already. */
static struct place *place_of_workload(struct node *node, const char *owner)
{
	for (size_t i = node->place_count; i > 0; i--)
		if (strcmp(node->places[i - 1].workload, owner) == 0)
			return &node->places[i - 1];
	return NULL;
}

static struct place *attach_place(struct node *node, const struct endpoint *endpoint, int fd)
{
	struct why why = {0};
	uint64_t cookie = 0;
	if (kernel_attach_netns(node->kernel, fd, &cookie, &why)) {
		complain(node, "workload %s: %s", endpoint->owner, why.text);
		return NULL;
	}
	struct place *taken = place_of_cookie(node, cookie);
	if (taken) {
		complain(node,
			 "workloads %s and %s are in one network namespace: which of them opens a connection cannot be "
			 "told",
			 taken->workload, endpoint->owner);
		return NULL;
	}
	int others = kernel_netns_neighbours(node->kernel, fd);
	if (others > 0)
		complain(node,
			 "workload %s: %d other sk_lookup programs in its namespace; one that assigns a socket goes "
			 "before ours",
			 endpoint->owner, others);
	return place_add(node, cookie, endpoint->owner);
}

static struct place *find_place(struct node *node, const struct endpoint *endpoint)
{
	struct place *known = place_of_workload(node, endpoint->owner);
	if (known)
		return known;
	int fd = open_namespace(node->config, endpoint->workload);
	if (fd < 0) {
		complain(node, "workload %s: its network namespace cannot be found: %s", endpoint->owner,
			 strerror(-fd));
		return NULL;
	}
	struct place *place = attach_place(node, endpoint, fd);
	close(fd);
	return place;
}

/* Our own namespace is the host's: its processes are `node`. */
static void tell_host(struct node *node)
{
	uint64_t cookie = 0;
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC),
	    r = fd < 0 ? -errno : kernel_netns_cookie(fd, &cookie);
	struct place *host = r ? NULL : place_add(node, cookie, "node");
	if (host)
		host->flags = MESH_NETNS_NODE;
	else
		complain(node, "the host's network namespace cannot be told: %s", strerror(-r));
	if (fd >= 0)
		close(fd);
}

static struct mesh_netns netns_of(const struct node *node, const struct place *place)
{
	struct mesh_netns value = {place->endpoint4, place->endpoint6, place->flags, {0}, {0}};
	if (place->endpoint4)
		memcpy(value.address4, node->registry.at[place->endpoint4].address + 12, sizeof(value.address4));
	if (place->endpoint6)
		memcpy(value.address6, node->registry.at[place->endpoint6].address, sizeof(value.address6));
	return value;
}

static void tell_kernel(struct node *node, const struct place *places, size_t count)
{
	int map = kernel_map(node->kernel, "netns"), covered = kernel_map(node->kernel, "covered");
	for (size_t i = 0; i < node->place_count; i++) {
		const struct place *place = &node->places[i];
		struct mesh_netns value = netns_of(node, place);
		uint32_t seen = 1;
		if (bpf_map_update_elem(map, &place->cookie, &value, BPF_ANY))
			complain(node, "workload %s: the map of namespaces is full", place->workload);
		bpf_map_update_elem(covered, &place->cookie, &seen, BPF_ANY);
	}
	for (size_t i = 0; i < count; i++)
		if (!place_of_cookie(node, places[i].cookie))
			bpf_map_delete_elem(map, &places[i].cookie);
}

static void release(struct place *places, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free((char *)places[i].workload);
	free(places);
}

/* The namespace of a place, if it is still the same; no descriptor is kept, which would keep a deleted
 * namespace alive. */
static int open_place(struct node *node, const struct place *place)
{
	for (uint32_t i = 1; i < node->registry.len; i++) {
		const struct endpoint *endpoint = &node->registry.at[i];
		uint64_t cookie = 0;
		if (!endpoint->workload || strcmp(endpoint->owner, place->workload) != 0)
			continue;
		int fd = open_namespace(node->config, endpoint->workload);
		if (fd < 0 || (!kernel_netns_cookie(fd, &cookie) && cookie == place->cookie))
			return fd;
		close(fd);
		return -ESTALE;
	}
	return -ENOENT;
}

/* Where the node proxy listens, callers are steered to it. */
static void protect_places(struct node *node)
{
	for (size_t i = 0; node->mtls.control >= 0 && i < node->place_count; i++) {
		struct place *place = &node->places[i];
		if (!(place->flags & MESH_NETNS_ENROLLED))
			continue;
		struct why why = {0};
		bool known = mtls_knows(node, place);
		int fd = known ? -1 : open_place(node, place);
		int r = known ? 1 : fd < 0 ? 0 : mtls_place(node, place, fd, &why);
		if (r > 0)
			place->flags |= MESH_NETNS_TUNNEL;
		if (r < 0)
			complain(node, "workload %s: %s: what is strict is refused to it", place->workload, why.text);
		if (fd >= 0)
			close(fd);
	}
	mtls_forget_others(node);
}

static void adopt_sockets(struct node *node, struct place *place)
{
	struct why why = {0};
	int fd = open_place(node, place);
	int r = fd < 0 ? fd : kernel_adopt_sockets(node->kernel, fd, &why);
	if (r)
		complain(node, "sockets of %s that are older than the runtime: %s", place->workload,
			 fd < 0 ? strerror(-fd) : why.text);
	place->adopted = r == 0;
	if (fd >= 0)
		close(fd);
}

/* From here on a socket that sends from such an address, and was not born there, is an impostor: every one
 * that was is known. */
static void mark_placed(struct node *node)
{
	bool changed = false;
	struct why why = {0};
	for (uint32_t i = 1; i < node->registry.len; i++) {
		struct endpoint *endpoint = &node->registry.at[i];
		const struct place *place = endpoint->workload && endpoint->flags & MESH_PEER_LOCAL
						    ? place_of_workload(node, endpoint->owner)
						    : NULL;
		bool placed = place && place->adopted && place->flags & MESH_NETNS_ENROLLED;
		bool tunnel = place && place->flags & MESH_NETNS_TUNNEL;
		uint32_t flags = (endpoint->flags & ~(uint32_t)(MESH_PEER_PLACED | MESH_PEER_TUNNEL)) |
				 (placed ? MESH_PEER_PLACED : 0) | (tunnel ? MESH_PEER_TUNNEL : 0);
		changed = changed || flags != endpoint->flags;
		endpoint->flags = flags;
	}
	if (!changed)
		return;
	if (kernel_publish_peers(node->kernel, &node->registry, &why))
		complain(node, "%s", why.text);
	node_save_people(node);
}

/* In what was there before they are known already. */
static void adopt_older_sockets(struct node *node, const struct place *old, size_t count)
{
	for (size_t i = 0; i < node->place_count; i++) {
		struct place *place = &node->places[i];
		const struct place *before = NULL;
		for (size_t k = 0; k < count && !before; k++)
			before = old[k].cookie == place->cookie && old[k].flags & MESH_NETNS_ENROLLED ? &old[k] : NULL;
		if (before)
			place->adopted = before->adopted;
		else if (place->flags & MESH_NETNS_ENROLLED)
			adopt_sockets(node, place);
	}
	mark_placed(node);
}

void node_adopt_sockets(struct node *node)
{
	for (size_t i = 0; i < node->place_count; i++)
		if (node->places[i].flags & MESH_NETNS_ENROLLED)
			adopt_sockets(node, &node->places[i]);
}

void node_find_places(struct node *node)
{
	struct place *old = node->places;
	size_t count = node->place_count;
	node->places = NULL;
	node->place_count = node->place_problems = 0;
	node->find_again = false;
	tell_host(node);
	for (uint32_t i = 1; i < node->registry.len; i++) {
		const struct endpoint *endpoint = &node->registry.at[i];
		if (!endpoint->workload || !(endpoint->flags & MESH_PEER_LOCAL) || endpoint->workload->host_network)
			continue;
		struct place *place = find_place(node, endpoint);
		if (place)
			add_endpoint(place, endpoint, i);
	}
	protect_places(node);
	tell_kernel(node, old, count);
	adopt_older_sockets(node, old, count);
	release(old, count);
}

void node_release_places(struct node *node)
{
	release(node->places, node->place_count);
	node->places = NULL;
	node->place_count = 0;
}

/* ---- Orders from the kernel ------------------------------------------------------------------------------ */

static void reset_socket(struct node *node, const struct mesh_order *order)
{
	const struct endpoint *endpoint = order->netns < node->registry.len ? &node->registry.at[order->netns] : NULL;
	const struct place *place = endpoint && endpoint->owner ? place_of_workload(node, endpoint->owner) : NULL;
	int fd = place ? open_place(node, place) : -ENOENT;
	if (fd < 0)
		return;
	node->resets += kernel_reset(fd, &order->tuple) == 0;
	close(fd);
}

/* A namespace that is in no inventory yet: covered at once, so that its first listener is behind the
 * first lock, too. */
static void cover_namespace(struct node *node, const struct mesh_order *order)
{
	uint64_t cookie = 0;
	int fd = open_of_pid(order->pid);
	if (fd < 0)
		return;
	if (!kernel_netns_cookie(fd, &cookie) && cookie == order->netns && !place_of_cookie(node, cookie))
		kernel_attach_netns(node->kernel, fd, &cookie, NULL);
	close(fd);
	/* It may be where a workload is meant to be. */
	node->find_again = true;
}

void node_take_order(void *context, const struct mesh_order *order)
{
	if (order->kind == MESH_ORDER_RESET)
		reset_socket(context, order);
	else if (order->kind == MESH_ORDER_NETNS)
		cover_namespace(context, order);
}
