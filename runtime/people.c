/* Who runs where: read, numbered, and told to every resident generation. */
#include "node.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_MS = 2000 };

/* ---- Publishing ------------------------------------------------------------------------------------- */

static void keep_conflicts(struct resident *resident, const struct view *view)
{
	json_decref(resident->conflicts);
	resident->conflicts = json_array();
	for (size_t i = 0; i < view->conflicts.len; i++) {
		char name[512];
		snprintf(name, sizeof(name), "%s/%s", view->conflicts.at[i].workload->ns,
			 view->conflicts.at[i].workload->name);
		json_array_append_new(resident->conflicts,
				      json_pack("{s:s, s:[s, s]}", "workload", name, "services",
						view->conflicts.at[i].first, view->conflicts.at[i].second));
	}
}

static void keep_identities(struct node *node, struct resident *resident, const struct view *view)
{
	json_decref(resident->identities);
	resident->identities = json_object();
	for (uint32_t i = 1; i < view->class_count; i++)
		if (view->spiffe[i])
			json_object_set_new(resident->identities, node->registry.at[i].owner,
					    json_string(view->spiffe[i]));
}

int node_publish_one(struct node *node, struct resident *resident, const struct bundle *bundle, struct why *why)
{
	struct view view;
	int r = view_make(bundle->manifest, node->inventory, &node->registry, node->config, &view, why);
	if (r)
		return r;
	r = kernel_publish_view(node->kernel, resident->generation, &view, why);
	if (!r) {
		keep_conflicts(resident, &view);
		keep_identities(node, resident, &view);
	}
	view_release(&view);
	return r;
}

/* Classes first, for the generation in force (others catch up before they are); then addresses; then the
 * epoch, which has every live connection decided anew. */
int node_publish(struct node *node, struct why *why)
{
	struct resident *active = node_active(node);
	if (active && active->names && !active->generation->is_closed) {
		struct offer offer;
		int r = offer_of_slot(node, active - node->residents, &offer, why);
		if (r)
			return r;
		r = node_publish_one(node, active, &offer.bundle, why);
		offer_close(&offer);
		if (r)
			return r;
	}
	int r = kernel_publish_peers(node->kernel, &node->registry, why);
	volatile struct mesh_control *control = kernel_control(node->kernel);
	control->epoch = control->epoch + 1;
	mtls_switched(node);
	return r;
}

/* ---- Stamps ---------------------------------------------------------------------------------------- */

static uint64_t stamp_of(const char *path)
{
	struct stat at;
	if (stat(path, &at))
		return 1;
	return at.st_ino * 31 + at.st_size * 131 + at.st_mtim.tv_sec * 1000003 + at.st_mtim.tv_nsec;
}

/* Changes when a file of the inventory was replaced, written, added or removed. */
static void stamp_all(const char *path, char *ret_stamp, size_t size)
{
	uint64_t sum = stamp_of(path);
	DIR *folder = opendir(path);
	for (struct dirent *entry; folder && (entry = readdir(folder));) {
		char file[2048];
		size_t len = strlen(entry->d_name);
		if (len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0 &&
		    snprintf(file, sizeof(file), "%s/%s", path, entry->d_name) < (int)sizeof(file))
			sum += stamp_of(file) * 2654435761u;
	}
	if (folder)
		closedir(folder);
	snprintf(ret_stamp, size, "%llx", (unsigned long long)sum);
}

/* ---- Reading ----------------------------------------------------------------------------------------- */

static const char *name_of_node(struct node *node, const struct inventory *inventory)
{
	if (node->config->node)
		return node->config->node;
	if (inventory->node)
		return inventory->node;
	if (gethostname(node->name, sizeof(node->name) - 1))
		node->name[0] = 0;
	return node->name;
}

static void on_quarantine_end(void *context, uint32_t events);

void node_save_people(struct node *node)
{
	char path[1040];
	struct why why = {0};
	snprintf(path, sizeof(path), "%s/endpoints.json", node->config->state);
	if (registry_save(&node->registry, path, &why))
		node_say("%s", why.text);
}

static int load_endpoints(struct node *node, struct registry *registry, struct why *why)
{
	char path[1040];
	snprintf(path, sizeof(path), "%s/endpoints.json", node->config->state);
	int r = registry_load(registry, path, why);
	/* Which sockets are known is in the kernel, and was lost with it. */
	for (uint32_t i = 1; !r && !node->adopted && i < registry->len; i++)
		registry->at[i].flags &= ~(uint32_t)MESH_PEER_PLACED;
	return r;
}

/* Numbers for the inventory at hand, told to the kernel. */
static int tell(struct node *node, struct why *why)
{
	int64_t next_ms = 0;
	int r = registry_update(&node->registry, node->config, node->inventory, name_of_node(node, node->inventory),
				loop_now_ms(), &next_ms, why);
	if (r)
		return r;
	loop_timer(node->loop, next_ms, on_quarantine_end, node);
	return node_publish(node, why);
}

static void settle(struct node *node)
{
	node_find_places(node);
	node_save_people(node);
}

/* WHY: NULL where there is none. */
static void note(char **problem, const struct why *why)
{
	free(*problem);
	*problem = why ? strdup(why->text) : NULL;
}

static int take(struct node *node, struct why *why)
{
	int r = tell(node, why);
	if (r)
		return r;
	settle(node);
	note(&node->people_problem, NULL);
	return 0;
}

/* What is in force already stays; what of it cannot be told now is told later. */
static void take_again(struct node *node)
{
	struct why why = {0};
	int r = tell(node, &why);
	settle(node);
	if (r) {
		if (!node->people_problem)
			node_say("inventory: %s", why.text);
		loop_timer(node->loop, loop_now_ms() + RETRY_MS, on_quarantine_end, node);
	}
	note(&node->people_problem, r ? &why : NULL);
}

static void on_quarantine_end(void *context, uint32_t events)
{
	(void)events;
	take_again(context);
}

/* Of what cannot be in force where nothing was nothing stays: numbers are as they were kept. Over pins the kernel
 * has them. */
static void forget(struct node *node)
{
	loop_timer(node->loop, 0, on_quarantine_end, node);
	inventory_release(node->inventory);
	node->inventory = NULL;
	registry_release(&node->registry);
	if (!node->adopted)
		load_endpoints(node, &node->registry, NULL);
}

int node_read_inventory(struct node *node, struct why *why)
{
	struct inventory *fresh, *old = node->inventory;
	/* Before it is read: what changes meanwhile is seen by the next look. */
	stamp_all(node->config->inventory, node->inventory_stamp, sizeof(node->inventory_stamp));
	int r = inventory_read(node->config->inventory, &fresh, why);
	if (r) {
		note(&node->inventory_problem, why);
		return r;
	}
	if (old && old->workloads.len && !fresh->workloads.len) {
		r = why_set(why, -EINVAL,
			    "%s names no workload at all, where there were %zu: every door would open; restart meshd "
			    "to mean it",
			    node->config->inventory, old->workloads.len);
		inventory_release(fresh);
		note(&node->inventory_problem, why);
		return r;
	}
	if (!old && !node->registry.len)
		load_endpoints(node, &node->registry, NULL);
	node->inventory = fresh;
	r = take(node, why);
	if (r && old) {
		/* What was in force stays: numbers were not touched, or are given back by reading it again. */
		node->inventory = old;
		inventory_release(fresh);
		take_again(node);
	} else if (r) {
		forget(node);
	} else if (old) {
		inventory_release(old);
	}
	note(&node->inventory_problem, r ? why : NULL);
	if (!r) {
		node->inventory_s = time(NULL);
		people_keep(node);
	}
	malloc_trim(0); /* what it was parsed from */
	return r;
}

/* ---- At the start ------------------------------------------------------------------------------------- */

/* Numbers for INVENTORY, which is released, and nothing else of it. */
static int number_alone(struct node *node, struct inventory *inventory, struct registry *registry, struct why *why)
{
	int64_t next_ms;
	int r = registry_update(registry, node->config, inventory, name_of_node(node, inventory), loop_now_ms(),
				&next_ms, why);
	for (uint32_t i = 1; i < registry->len; i++)
		registry->at[i].workload = NULL;
	inventory_release(inventory);
	return r;
}

/* The addresses of the last inventory, and of whom, as they were kept; else those of one that can be read. */
static int number_addresses(struct node *node, struct registry *registry, struct why *why)
{
	struct inventory *inventory = NULL;
	if (!load_endpoints(node, registry, NULL) && registry->len > 1)
		return 0;
	registry_release(registry);
	if (!people_recall(node, &inventory, NULL) && !number_alone(node, inventory, registry, NULL))
		return 0;
	int r = inventory_read(node->config->inventory, &inventory, why);
	return r ? r : number_alone(node, inventory, registry, why);
}

int people_known(struct node *node, struct why *why)
{
	struct registry registry = {0};
	int r = number_addresses(node, &registry, why);
	registry_release(&registry);
	return r;
}

uint32_t people_kept(struct node *node)
{
	struct registry registry = {0};
	uint32_t count = 0;
	load_endpoints(node, &registry, NULL);
	for (uint32_t i = 1; i < registry.len; i++)
		count += registry.at[i].owner != NULL;
	registry_release(&registry);
	return count;
}

/* Without one that can be in force: addresses are known, and of whom. To a policy that is nobody, so it denies them. */
static void start_by_addresses(struct node *node)
{
	struct why why = {0};
	registry_release(&node->registry);
	int r = number_addresses(node, &node->registry, &why);
	if (!r)
		r = kernel_publish_peers(node->kernel, &node->registry, &why);
	node_say("inventory: %s", r ? why.text : "what has the addresses of the last one is denied");
}

void node_start_people(struct node *node)
{
	struct why why = {0}, kept = {0};
	if (!node_read_inventory(node, &why))
		return;
	node_say("inventory: %s", why.text);
	if (!people_recall(node, &node->inventory, &kept)) {
		if (!node->registry.len)
			load_endpoints(node, &node->registry, NULL);
		if (!take(node, &kept)) {
			node_say("inventory: as it was read last");
			return;
		}
		forget(node);
	}
	node_say("inventory, as it was read last: %s", kept.text);
	if (!node->adopted)
		start_by_addresses(node);
}

/* ---- Watching ---------------------------------------------------------------------------------------- */

void node_watch_inventory(struct node *node)
{
	char stamp[sizeof(node->inventory_stamp)];
	stamp_all(node->config->inventory, stamp, sizeof(stamp));
	if (strcmp(stamp, node->inventory_stamp) == 0)
		return;
	snprintf(node->inventory_stamp, sizeof(node->inventory_stamp), "%s", stamp);
	struct why why = {0};
	if (node_read_inventory(node, &why))
		node_say("inventory: %s; the last good one stays in force", why.text);
}
