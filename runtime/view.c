#define _GNU_SOURCE 1
#include "view.h"

#include "base/selector.h"
#include "view_manifest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/sha.h>
#include <stdlib.h>

/* What the policy makes of a workload. */
struct standing {
	uint16_t src, dst;
	struct manifest_service *service; /* the one it is in; NULL: none, or a conflict */
};
/* A live address and its endpoint. */
struct holder {
	const uint8_t *address;
	uint32_t number;
};
struct maker {
	struct view *view;
	struct view_manifest manifest;
	const struct inventory *inventory;
	const struct registry *registry;
	const struct config *config;
	struct why *why;
	struct standing *standings;	  /* by workload */
	struct manifest_service **hosted; /* by endpoint: the service of a host-network workload there */
	struct holder *holders;		  /* by address */
	size_t holder_count;
};

/* ---- Classes -------------------------------------------------------------------------------------- */

static uint16_t class_of_nobody(struct maker *maker, const struct workload *workload, uint16_t space)
{
	if (!workload->account)
		return space;
	const char *spiffe = arena_printf(maker->view->arena, "spiffe://%s/ns/%s/sa/%s", maker->manifest.trust,
					  workload->ns, workload->account);
	uint16_t identity = view_manifest_class(&maker->manifest.identities, spiffe);
	return identity ? identity : space;
}

static void add_conflict(struct maker *maker, const struct workload *workload, const struct manifest_service *a,
			 const struct manifest_service *b)
{
	struct arena *arena = maker->view->arena;
	struct view_conflict conflict = {workload, a->qualified, b->qualified};
	vec_push(arena, &maker->view->conflicts, conflict);
}

static struct standing standing_of(struct maker *maker, const struct workload *workload)
{
	struct manifest_service *services[2];
	uint16_t space = view_manifest_class(&maker->manifest.spaces, workload->ns);
	if (!space)
		space = MESH_CLASS_OTHER;
	switch (view_manifest_match(&maker->manifest, workload->ns, &workload->labels, services)) {
	case 0:
		return (struct standing){class_of_nobody(maker, workload, space), space, NULL};
	case 1:
		return (struct standing){services[0]->class, services[0]->class, services[0]};
	default:
		add_conflict(maker, workload, services[0], services[1]);
		return (struct standing){space, MESH_CLASS_CONFLICT, NULL};
	}
}

static void make_standings(struct maker *maker)
{
	const struct inventory *inventory = maker->inventory;
	maker->standings = arena_alloc(maker->view->arena, (inventory->workloads.len + 1) * sizeof(*maker->standings));
	for (uint32_t i = 0; i < inventory->workloads.len; i++) {
		maker->standings[i] = standing_of(maker, &inventory->workloads.at[i]);
		if (maker->standings[i].service)
			vec_push(maker->view->arena, &maker->standings[i].service->members, i);
	}
}

static bool endpoint_lives(const struct endpoint *endpoint)
{
	return endpoint->workload && !(endpoint->flags & MESH_PEER_QUARANTINED);
}

static int holder_compare(const void *left, const void *right)
{
	return memcmp(((const struct holder *)left)->address, ((const struct holder *)right)->address, 16);
}

static void make_holders(struct maker *maker)
{
	const struct registry *registry = maker->registry;
	maker->holders = arena_alloc(maker->view->arena, (registry->len + 1) * sizeof(*maker->holders));
	for (uint32_t i = 1; i < registry->len; i++)
		if (endpoint_lives(&registry->at[i]))
			maker->holders[maker->holder_count++] = (struct holder){registry->at[i].address, i};
	qsort(maker->holders, maker->holder_count, sizeof(*maker->holders), holder_compare);
}

/* The endpoint through which WORKLOAD has ADDRESS; 0: none yet, the address is in quarantine. Workloads
 * in the host's network share its addresses. */
static uint32_t holder_of(const struct maker *maker, const struct workload *workload, const uint8_t *address)
{
	struct holder key = {address, 0};
	const struct holder *holder = bsearch(&key, maker->holders, maker->holder_count, sizeof(key), holder_compare);
	const struct workload *owner = holder ? maker->registry->at[holder->number].workload : NULL;
	if (!owner || (owner != workload && !(owner->host_network && workload->host_network)))
		return 0;
	return holder->number;
}

/* A node's address is the node as a source, whoever of its host-network workloads speaks. As a
 * destination it is the service that one of them is; of two services it is in conflict; else the node. */
static void make_hosted(struct maker *maker)
{
	const struct inventory *inventory = maker->inventory;
	maker->hosted = arena_alloc(maker->view->arena, (maker->registry->len + 1) * sizeof(struct manifest_service *));
	for (size_t i = 0; i < inventory->workloads.len; i++) {
		const struct workload *workload = &inventory->workloads.at[i];
		struct manifest_service *service = maker->standings[i].service;
		for (size_t k = 0; service && workload->host_network && k < workload->addresses.len; k++) {
			uint32_t number = holder_of(maker, workload, workload->addresses.at[k].bytes);
			struct mesh_class *class = &maker->view->classes[number];
			if (!number || maker->hosted[number] == service)
				continue;
			if (maker->hosted[number])
				add_conflict(maker, workload, maker->hosted[number], service);
			class->dst = maker->hosted[number] ? MESH_CLASS_CONFLICT : service->class;
			maker->hosted[number] = service;
		}
	}
}

static void make_classes(struct maker *maker)
{
	const struct registry *registry = maker->registry;
	const struct workload *first = maker->inventory->workloads.at;
	maker->view->class_count = registry->len;
	maker->view->classes = arena_alloc(maker->view->arena, (registry->len + 1) * sizeof(*maker->view->classes));
	for (uint32_t i = 1; i < registry->len; i++) {
		const struct endpoint *endpoint = &registry->at[i];
		if (!endpoint_lives(endpoint))
			continue;
		const struct standing *standing = &maker->standings[endpoint->workload - first];
		bool is_host = endpoint->workload->host_network;
		maker->view->classes[i] = (struct mesh_class){
			.src = is_host ? MESH_CLASS_NODE : standing->src,
			.dst = is_host ? MESH_CLASS_NODE : standing->dst,
			.block = view_manifest_block(&maker->manifest, endpoint->address),
		};
	}
}

/* ---- Identities ----------------------------------------------------------------------------------- */

static void make_ids(struct maker *maker)
{
	const struct view_manifest *manifest = &maker->manifest;
	for (size_t i = 0; i < manifest->ids.len; i++) {
		struct view_id id = {.class = manifest->ids.at[i].class};
		uint8_t digest[SHA256_DIGEST_LENGTH];
		SHA256((const uint8_t *)manifest->ids.at[i].text, strlen(manifest->ids.at[i].text), digest);
		memcpy(id.digest, digest, sizeof(id.digest));
		vec_push(maker->view->arena, &maker->view->ids, id);
	}
}

/* Its service's; else, by its account, its own (language.md 13). */
static const char *spiffe_of(const struct maker *maker, const struct workload *workload)
{
	const struct standing *standing = &maker->standings[workload - maker->inventory->workloads.at];
	const char *spiffe = maker->manifest.spiffe[standing->src];
	if (spiffe || !workload->account)
		return spiffe;
	return arena_printf(maker->view->arena, "spiffe://%s/ns/%s/sa/%s", maker->manifest.trust, workload->ns,
			    workload->account);
}

static void make_spiffe(struct maker *maker)
{
	const struct registry *registry = maker->registry;
	maker->view->spiffe = arena_alloc(maker->view->arena, (registry->len + 1) * sizeof(*maker->view->spiffe));
	for (uint32_t i = 1; i < registry->len; i++) {
		const struct endpoint *endpoint = &registry->at[i];
		if (endpoint_lives(endpoint) && endpoint->flags & MESH_PEER_LOCAL && !endpoint->workload->host_network)
			maker->view->spiffe[i] = spiffe_of(maker, endpoint->workload);
	}
}

/* ---- Backends ------------------------------------------------------------------------------------- */

static bool is_v4(const uint8_t *address)
{
	return IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address);
}

static int add_backend(struct maker *maker, const uint8_t *address)
{
	struct view *view = maker->view;
	struct mesh_backend backend;
	if (view->backends.len >= maker->config->backends / 2)
		return why_set(maker->why, -E2BIG,
			       "the services have more than %u backends: raise 'sizes: backends' (two halves are used "
			       "in turn)",
			       maker->config->backends / 2);
	memcpy(backend.address, address, 16);
	vec_push(view->arena, &view->backends, backend);
	return 0;
}

static int fill_set(struct maker *maker, const struct manifest_service *service, const struct manifest_set *set,
		    bool wants_v4)
{
	struct mesh_set *out = &maker->view->sets[2 * set->number + !wants_v4];
	out->first = (uint32_t)maker->view->backends.len;
	for (size_t i = 0; i < service->members.len; i++) {
		const struct workload *workload = &maker->inventory->workloads.at[service->members.at[i]];
		if (set->selector && !selector_matches(set->selector, &workload->labels))
			continue;
		for (size_t k = 0; k < workload->addresses.len; k++) {
			const uint8_t *address = workload->addresses.at[k].bytes;
			if (is_v4(address) != wants_v4 || !holder_of(maker, workload, address))
				continue;
			int r = add_backend(maker, address);
			if (r)
				return r;
		}
	}
	out->count = (uint32_t)maker->view->backends.len - out->first;
	return 0;
}

static int make_sets(struct maker *maker)
{
	struct view *view = maker->view;
	view->set_count = 2 * maker->manifest.set_count;
	view->sets = arena_alloc(view->arena, (view->set_count + 1) * sizeof(*view->sets));
	for (size_t i = 0; i < maker->manifest.services.len; i++) {
		const struct manifest_service *service = &maker->manifest.services.at[i];
		for (size_t k = 0; k < service->sets.len; k++) {
			int r = fill_set(maker, service, &service->sets.at[k], true);
			if (!r)
				r = fill_set(maker, service, &service->sets.at[k], false);
			if (r)
				return r;
		}
	}
	return 0;
}

/* ---- Service addresses ---------------------------------------------------------------------------- */

static int add_vip(struct maker *maker, const uint8_t *address, uint16_t port, uint8_t protocol, uint16_t class,
		   uint16_t target)
{
	struct view *view = maker->view;
	struct view_vip vip = {.key = {.port = port, .protocol = protocol}, .value = {class, target}};
	/* Doubles are taken out later: twice the bound is room enough for them. */
	if (view->vips.len >= 2 * (size_t)maker->config->services)
		return why_set(maker->why, -E2BIG,
			       "the services have more than %u ports of addresses: raise 'sizes: services'",
			       maker->config->services);
	memcpy(vip.key.address, address, 16);
	vec_push(view->arena, &view->vips, vip);
	return 0;
}

static int add_policy_ports(struct maker *maker, const struct manifest_service *service, const uint8_t *address)
{
	int r = add_vip(maker, address, 0, 0, service->class, 0);
	for (size_t i = 0; i < service->ports.len; i++) {
		const struct manifest_port *port = &service->ports.at[i];
		for (uint32_t number = port->first; !r && number <= port->last; number++)
			r = add_vip(maker, address, (uint16_t)number, port->protocol, service->class,
				    port->first == port->last ? port->target : (uint16_t)number);
	}
	return r;
}

/* A port whose target nobody named has target 0: it stays refused. */
static int add_inventory_ports(struct maker *maker, const struct manifest_service *service,
			       const struct inventory_service *from, const uint8_t *address)
{
	int r = add_vip(maker, address, 0, 0, service->class, 0);
	for (size_t i = 0; !r && i < from->ports.len; i++) {
		const struct inventory_port *port = &from->ports.at[i];
		if (port->target)
			r = add_vip(maker, address, port->port, port->protocol, service->class, port->target);
	}
	return r;
}

static int service_compare(const void *key, const void *item)
{
	const struct manifest_service *a = key;
	const struct inventory_service *b = item;
	int r = strcmp(a->ns, b->ns);
	return r ? r : strcmp(a->name, b->name);
}

static int add_service_vips(struct maker *maker, const struct manifest_service *service)
{
	const struct inventory *inventory = maker->inventory;
	const struct inventory_service *from =
		inventory->services.len ? bsearch(service, inventory->services.at, inventory->services.len,
						  sizeof(*inventory->services.at), service_compare)
					: NULL;
	int r = 0;
	for (size_t i = 0; !r && i < service->addresses.len; i++)
		r = add_policy_ports(maker, service, service->addresses.at[i].bytes);
	for (size_t i = 0; from && !r && i < from->addresses.len; i++)
		r = from->ports.len ? add_inventory_ports(maker, service, from, from->addresses.at[i].bytes)
				    : add_policy_ports(maker, service, from->addresses.at[i].bytes);
	return r;
}

static int vip_compare(const void *left, const void *right)
{
	const struct view_vip *a = left, *b = right;
	int r = memcmp(a->key.address, b->key.address, 16);
	if (r)
		return r;
	if (a->key.port != b->key.port)
		return a->key.port - b->key.port;
	return a->key.protocol != b->key.protocol ? a->key.protocol - b->key.protocol : a->value.dst - b->value.dst;
}

static const char *class_name(const struct maker *maker, uint16_t class)
{
	for (size_t i = 0; i < maker->manifest.services.len; i++)
		if (maker->manifest.services.at[i].class == class)
			return maker->manifest.services.at[i].qualified;
	return "?";
}

static int fail_vip(const struct maker *maker, const struct view_vip *a, const struct view_vip *b)
{
	char text[INET6_ADDRSTRLEN];
	const uint8_t *bytes = a->key.address;
	inet_ntop(is_v4(bytes) ? AF_INET : AF_INET6, is_v4(bytes) ? bytes + 12 : bytes, text, sizeof(text));
	return why_set(
		maker->why, -EINVAL,
		"%s port %u/%s is %.100s (port %u) and %.100s (port %u) at once: policy and inventory must agree", text,
		a->key.port, a->key.protocol == IPPROTO_UDP ? "udp" : "tcp", class_name(maker, a->value.dst),
		a->value.target, class_name(maker, b->value.dst), b->value.target);
}

/* The entry of a whole address is the same whoever of those that share it has written it. */
static int make_vips(struct maker *maker)
{
	struct view *view = maker->view;
	size_t kept = 0;
	for (size_t i = 0; i < maker->manifest.services.len; i++) {
		int r = add_service_vips(maker, &maker->manifest.services.at[i]);
		if (r)
			return r;
	}
	if (view->vips.len)
		qsort(view->vips.at, view->vips.len, sizeof(*view->vips.at), vip_compare);
	for (size_t i = 0; i < view->vips.len; i++) {
		const struct view_vip *vip = &view->vips.at[i], *last = kept ? &view->vips.at[kept - 1] : NULL;
		if (!last || memcmp(&last->key, &vip->key, sizeof(vip->key)) != 0)
			view->vips.at[kept++] = *vip;
		else if (vip->key.port && memcmp(&last->value, &vip->value, sizeof(vip->value)) != 0)
			return fail_vip(maker, last, vip);
	}
	view->vips.len = kept;
	if (kept > maker->config->services)
		return why_set(maker->why, -E2BIG,
			       "the services have %zu ports of addresses, the most is %u: raise 'sizes: services'",
			       kept, maker->config->services);
	return 0;
}

/* ---- All of it ------------------------------------------------------------------------------------ */

/* The registry's workloads must be those of this inventory: they are counted from its first. */
static bool registry_fits(const struct maker *maker)
{
	const struct inventory *inventory = maker->inventory;
	for (uint32_t i = 1; i < maker->registry->len; i++) {
		const struct workload *workload = maker->registry->at[i].workload;
		if (workload && (workload < inventory->workloads.at ||
				 workload >= inventory->workloads.at + inventory->workloads.len))
			return false;
	}
	return true;
}

static int maker_run(struct maker *maker, const json_t *manifest)
{
	int r = view_manifest_read(manifest, maker->view->arena, &maker->manifest, maker->why);
	if (r)
		return r;
	if (!registry_fits(maker))
		return why_set(maker->why, -EINVAL, "the registry was not updated with this inventory");
	make_standings(maker);
	make_holders(maker);
	make_classes(maker);
	make_hosted(maker);
	make_ids(maker);
	make_spiffe(maker);
	r = make_sets(maker);
	return r ? r : make_vips(maker);
}

int view_make(const json_t *manifest, const struct inventory *inventory, const struct registry *registry,
	      const struct config *config, struct view *ret_view, struct why *why)
{
	struct view view = {.arena = arena_create()};
	if (!view.arena)
		return why_set(why, -ENOMEM, "out of memory");
	struct maker maker = {
		.view = &view, .inventory = inventory, .registry = registry, .config = config, .why = why};
	int r = maker_run(&maker, manifest);
	if (r)
		view_release(&view);
	else
		*ret_view = view;
	return r;
}

void view_release(struct view *view)
{
	arena_destroy(view->arena);
	*view = (struct view){0};
}
