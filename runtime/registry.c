#define _GNU_SOURCE 1
#include "registry.h"

#include "abi.h"
#include "base/file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

/* What places.c adds to an endpoint's flags: kept while its workload stays. */
enum { FOUND_LATER = MESH_PEER_PLACED | MESH_PEER_TUNNEL };
/* What outlives meshd: the node proxy does, too, and over pins so does which sockets are known. */
enum { SAVED = MESH_PEER_ENROLLED | MESH_PEER_LOCAL | MESH_PEER_QUARANTINED | FOUND_LATER };

enum { REGISTRY_LIMIT = 1048576, REGISTRY_LIMIT_BYTES = 512 << 20, REGISTRY_FORMAT = 1 };

/* ---- What the inventory wants --------------------------------------------------------------------- */

/* An address of a workload, as it should be; `number` is the endpoint that has it, 0: none yet. */
struct wanted {
	const uint8_t *address;
	const struct workload *workload;
	uint32_t number, flags;
	bool waits; /* the address is in quarantine for somebody else */
};
struct plan {
	struct wanted *wanted;
	size_t count;
	uint32_t *free; /* numbers that may be given, those freed just now last */
	size_t free_count, fresh;
	uint8_t *fates; /* enum fate, by endpoint */
};
enum fate { FATE_KEEP, FATE_TAKE, FATE_QUARANTINE, FATE_FREE };

static bool is_enrolled(const struct config *config, const struct workload *workload)
{
	const char *value = config->enrol_label ? labels_get(&workload->labels, config->enrol_label) : NULL;
	/* A host-network process is the node: judging its address would judge the node's sshd. */
	if (workload->host_network)
		return false;
	if (value && strcmp(value, config->enrol_value) == 0)
		return true;
	for (size_t i = 0; i < config->enrol_namespaces.len; i++)
		if (strcmp(config->enrol_namespaces.at[i], workload->ns) == 0)
			return true;
	return false;
}

/* What can be found only on this machine is here; else the node's name says. */
static bool is_local(const struct workload *workload, const char *node)
{
	if (workload->node)
		return node && strcmp(workload->node, node) == 0;
	return workload->netns || workload->pid || workload->cgroup;
}

static int wanted_compare(const void *left, const void *right)
{
	const struct wanted *a = left, *b = right;
	int r = memcmp(a->address, b->address, 16);
	return r ? r : (a->workload > b->workload) - (a->workload < b->workload);
}

static struct wanted *wanted_find(const struct plan *plan, const uint8_t address[16])
{
	size_t low = 0, high = plan->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int r = memcmp(plan->wanted[middle].address, address, 16);
		if (!r)
			return &plan->wanted[middle];
		if (r < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Of host-network workloads that share an address the first by name stands for it. */
static int plan_collect(struct plan *plan, const struct config *config, const struct inventory *inventory,
			const char *node)
{
	size_t count = 0, kept = 0;
	for (size_t i = 0; i < inventory->workloads.len; i++)
		count += inventory->workloads.at[i].addresses.len;
	plan->wanted = calloc(count + 1, sizeof(*plan->wanted));
	if (!plan->wanted)
		return -ENOMEM;
	for (size_t i = 0; i < inventory->workloads.len; i++) {
		const struct workload *workload = &inventory->workloads.at[i];
		uint32_t flags = (is_enrolled(config, workload) ? MESH_PEER_ENROLLED : 0) |
				 (is_local(workload, node) ? MESH_PEER_LOCAL : 0);
		for (size_t k = 0; k < workload->addresses.len; k++)
			plan->wanted[plan->count++] = (struct wanted){
				.address = workload->addresses.at[k].bytes, .workload = workload, .flags = flags};
	}
	qsort(plan->wanted, plan->count, sizeof(*plan->wanted), wanted_compare);
	for (size_t i = 0; i < plan->count; i++)
		if (!kept || memcmp(plan->wanted[kept - 1].address, plan->wanted[i].address, 16) != 0)
			plan->wanted[kept++] = plan->wanted[i];
	plan->count = kept;
	return 0;
}

static void address_print(const uint8_t bytes[16], char text[INET6_ADDRSTRLEN])
{
	bool is_v4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)bytes);
	inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? bytes + 12 : bytes, text, INET6_ADDRSTRLEN);
}

/* A node's address belongs to the node, whichever of its host-network pods comes or goes. */
static char *owner_of(const struct wanted *wanted)
{
	char *owner, address[INET6_ADDRSTRLEN];
	address_print(wanted->address, address);
	int r = wanted->workload->host_network
			? asprintf(&owner, "(node)/%s", address)
			: asprintf(&owner, "%s/%s", wanted->workload->ns, wanted->workload->name);
	return r < 0 ? NULL : owner;
}

static bool owner_is(const char *owner, const struct wanted *wanted)
{
	const struct workload *workload = wanted->workload;
	size_t ns = strlen(workload->ns);
	if (workload->host_network)
		return strncmp(owner, "(node)/", 7) == 0;
	return strncmp(owner, workload->ns, ns) == 0 && owner[ns] == '/' && strcmp(owner + ns + 1, workload->name) == 0;
}

/* ---- What becomes of each endpoint ----------------------------------------------------------------- */

static enum fate fate_of(const struct endpoint *endpoint, struct wanted *wanted, int64_t now_ms)
{
	bool is_quarantined = endpoint->flags & MESH_PEER_QUARANTINED;
	if (wanted && owner_is(endpoint->owner, wanted))
		return FATE_TAKE; /* also one that comes back from quarantine: it is the same one */
	if (is_quarantined && endpoint->until_ms <= now_ms)
		return FATE_FREE;
	if (wanted)
		wanted->waits = true;
	return is_quarantined ? FATE_KEEP : FATE_QUARANTINE;
}

static int plan_decide(struct plan *plan, const struct registry *registry, int64_t now_ms)
{
	size_t freed = 0;
	plan->fates = calloc(registry->len + 1, sizeof(*plan->fates));
	plan->free = calloc(registry->len + 1, sizeof(*plan->free));
	if (!plan->fates || !plan->free)
		return -ENOMEM;
	for (uint32_t i = 1; i < registry->len; i++) {
		if (!registry->at[i].owner) {
			plan->free[plan->free_count++] = i;
			continue;
		}
		struct wanted *wanted = wanted_find(plan, registry->at[i].address);
		plan->fates[i] = fate_of(&registry->at[i], wanted, now_ms);
		if (plan->fates[i] == FATE_TAKE)
			wanted->number = i;
		freed += plan->fates[i] == FATE_FREE;
	}
	/* What was freed just now is given last: somebody may still be reading under its old meaning. */
	for (uint32_t i = 1; i < registry->len && freed; i++)
		if (plan->fates[i] == FATE_FREE)
			plan->free[plan->free_count++] = i;
	for (size_t i = 0; i < plan->count; i++)
		plan->fresh += !plan->wanted[i].number && !plan->wanted[i].waits;
	return 0;
}

static int registry_reserve(struct registry *registry, uint32_t len)
{
	if (len <= registry->cap)
		return 0;
	uint32_t cap = registry->cap ? registry->cap : 64;
	while (cap < len)
		cap *= 2;
	struct endpoint *grown = realloc(registry->at, cap * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + registry->cap, 0, (cap - registry->cap) * sizeof(*grown));
	registry->at = grown;
	registry->cap = cap;
	return 0;
}

/* Everything that can fail, before anything is changed. */
static int plan_prepare(struct plan *plan, struct registry *registry, const struct config *config, char ***ret_owners,
			struct why *why)
{
	uint32_t len = registry->len ? registry->len : 1;
	size_t appended = plan->fresh > plan->free_count ? plan->fresh - plan->free_count : 0;
	if (len + appended > config->endpoints)
		return why_set(why, -ENOSPC,
			       "%zu addresses need more than the %u endpoints of this node: raise 'sizes: endpoints'",
			       plan->count, config->endpoints);
	if (registry_reserve(registry, (uint32_t)(len + appended)))
		return why_set(why, -ENOMEM, "out of memory");
	char **owners = calloc(plan->fresh + 1, sizeof(*owners));
	size_t made = 0;
	for (size_t i = 0; owners && i < plan->count; i++) {
		if (plan->wanted[i].number || plan->wanted[i].waits)
			continue;
		owners[made] = owner_of(&plan->wanted[i]);
		if (!owners[made++])
			break;
	}
	if (owners && (!made || owners[made - 1])) {
		*ret_owners = owners;
		return 0;
	}
	for (size_t i = 0; owners && i < made; i++)
		free(owners[i]);
	free(owners);
	return why_set(why, -ENOMEM, "out of memory");
}

/* ---- The change ----------------------------------------------------------------------------------- */

static void endpoint_clear(struct endpoint *endpoint)
{
	free((char *)endpoint->owner);
	*endpoint = (struct endpoint){0};
}

/* It keeps what it was enrolled for: its address stays closed on its own side too. */
static void endpoint_quarantine(struct endpoint *endpoint, int64_t until_ms)
{
	endpoint->flags = (endpoint->flags | MESH_PEER_QUARANTINED) & ~(uint32_t)FOUND_LATER;
	endpoint->workload = NULL;
	endpoint->until_ms = until_ms;
}

static void apply_fates(const struct plan *plan, struct registry *registry, const struct config *config, int64_t now_ms)
{
	for (uint32_t i = 1; i < registry->len; i++) {
		struct endpoint *endpoint = &registry->at[i];
		if (!endpoint->owner)
			continue;
		if (plan->fates[i] == FATE_FREE)
			endpoint_clear(endpoint);
		else if (plan->fates[i] == FATE_QUARANTINE)
			endpoint_quarantine(endpoint, now_ms + (int64_t)config->quarantine_s * 1000);
	}
}

static void apply_wanted(const struct plan *plan, struct registry *registry, char **owners)
{
	size_t next_free = 0, next_owner = 0;
	if (!registry->len)
		registry->len = 1;
	for (size_t i = 0; i < plan->count; i++) {
		const struct wanted *wanted = &plan->wanted[i];
		if (wanted->waits)
			continue;
		uint32_t number = wanted->number;
		if (!number) {
			number = next_free < plan->free_count ? plan->free[next_free++] : registry->len++;
			memcpy(registry->at[number].address, wanted->address, 16);
			registry->at[number].owner = owners[next_owner++];
		}
		/* Where its sockets are is places.c's to say, and it goes on being true until that says otherwise. */
		registry->at[number].flags = wanted->flags | (registry->at[number].flags & FOUND_LATER);
		registry->at[number].workload = wanted->workload;
		registry->at[number].until_ms = 0;
	}
}

/* An enrolled workload that waits for its address must be judged on its own side meanwhile, though
 * the one before it was not. */
static int64_t apply_waits(const struct plan *plan, struct registry *registry)
{
	int64_t next_ms = 0;
	for (uint32_t i = 1; i < registry->len; i++) {
		struct endpoint *endpoint = &registry->at[i];
		if (!(endpoint->flags & MESH_PEER_QUARANTINED))
			continue;
		const struct wanted *wanted = wanted_find(plan, endpoint->address);
		endpoint->flags |= wanted ? wanted->flags : 0;
		if (!next_ms || endpoint->until_ms < next_ms)
			next_ms = endpoint->until_ms;
	}
	return next_ms;
}

int registry_update(struct registry *registry, const struct config *config, const struct inventory *inventory,
		    const char *node, int64_t now_ms, int64_t *ret_next_ms, struct why *why)
{
	struct plan plan = {0};
	char **owners = NULL;
	int r = plan_collect(&plan, config, inventory, node);
	if (!r)
		r = plan_decide(&plan, registry, now_ms);
	r = r ? why_set(why, r, "out of memory") : plan_prepare(&plan, registry, config, &owners, why);
	if (!r) {
		apply_fates(&plan, registry, config, now_ms);
		apply_wanted(&plan, registry, owners);
		*ret_next_ms = apply_waits(&plan, registry);
	}
	free(owners);
	free(plan.wanted);
	free(plan.fates);
	free(plan.free);
	return r;
}

void registry_release(struct registry *registry)
{
	for (uint32_t i = 0; i < registry->len; i++)
		free((char *)registry->at[i].owner);
	free(registry->at);
	*registry = (struct registry){0};
}

/* ---- Over a restart -------------------------------------------------------------------------------- */

int registry_save(const struct registry *registry, const char *path, struct why *why)
{
	json_t *endpoints = json_array();
	for (uint32_t i = 1; i < registry->len; i++) {
		char address[INET6_ADDRSTRLEN];
		const struct endpoint *endpoint = &registry->at[i];
		if (!endpoint->owner)
			continue;
		address_print(endpoint->address, address);
		json_array_append_new(endpoints, json_pack("[i, s, s, i]", (int)i, address, endpoint->owner,
							   (int)(endpoint->flags & SAVED)));
	}
	json_t *root = json_pack("{s:i, s:i, s:o}", "format", REGISTRY_FORMAT, "count", (int)json_array_size(endpoints),
				 "endpoints", endpoints);
	char *text = root ? json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	int r = text ? file_replace(path, text, strlen(text), why) : why_set(why, -ENOMEM, "out of memory");
	free(text);
	json_decref(root);
	return r;
}

/* Not known to be the same run of the machine: whoever was in quarantine begins it anew. */
static bool endpoint_load(struct registry *registry, json_t *item)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	int number, flags;
	const char *address, *owner;
	uint8_t bytes[16];
	if (json_unpack(item, "[i, s, s, i!]", &number, &address, &owner, &flags) || number < 1 ||
	    number >= REGISTRY_LIMIT || flags & ~SAVED || !*owner || registry_reserve(registry, (uint32_t)number + 1))
		return false;
	if (inet_pton(AF_INET, address, bytes + 12) == 1)
		memcpy(bytes, mapped, 12);
	else if (inet_pton(AF_INET6, address, bytes) != 1)
		return false;
	struct endpoint *endpoint = &registry->at[number];
	if (endpoint->owner)
		return false;
	memcpy(endpoint->address, bytes, 16);
	endpoint->flags = (uint32_t)flags & ~MESH_PEER_QUARANTINED;
	endpoint->owner = strdup(owner);
	if (registry->len <= (uint32_t)number)
		registry->len = (uint32_t)number + 1;
	return endpoint->owner != NULL;
}

static int address_compare(const void *left, const void *right)
{
	return memcmp(*(const uint8_t *const *)left, *(const uint8_t *const *)right, 16);
}

/* One address, one endpoint: two would take turns in the kernel's map. */
static bool addresses_differ(const struct registry *registry)
{
	size_t count = 0;
	bool differ = true;
	const uint8_t **at = calloc(registry->len + 1, sizeof(*at));
	for (uint32_t i = 1; at && i < registry->len; i++)
		if (registry->at[i].owner)
			at[count++] = registry->at[i].address;
	if (at)
		qsort(at, count, sizeof(*at), address_compare);
	for (size_t i = 1; i < count; i++)
		differ = differ && memcmp(at[i - 1], at[i], 16) != 0;
	free(at);
	return differ;
}

static bool root_load(struct registry *registry, const json_t *root)
{
	const json_t *endpoints = json_object_get(root, "endpoints");
	if (json_integer_value(json_object_get(root, "format")) != REGISTRY_FORMAT || !json_is_array(endpoints) ||
	    json_integer_value(json_object_get(root, "count")) != (json_int_t)json_array_size(endpoints))
		return false;
	for (size_t i = 0; i < json_array_size(endpoints); i++)
		if (!endpoint_load(registry, json_array_get(endpoints, i)))
			return false;
	return addresses_differ(registry);
}

int registry_load(struct registry *registry, const char *path, struct why *why)
{
	char *text;
	size_t len;
	struct registry loaded = {0};
	if (file_read(path, REGISTRY_LIMIT_BYTES, &text, &len, why))
		return -EINVAL;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	bool is_fine = root && root_load(&loaded, root);
	json_decref(root);
	free(text);
	if (!is_fine) {
		registry_release(&loaded);
		return why_set(why, -EINVAL,
			       "%s: damaged: the endpoints are numbered anew, remove it to do without this notice",
			       path);
	}
	registry_release(registry);
	*registry = loaded;
	return 0;
}
