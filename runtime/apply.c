/* From a bundle to the generation in force, all or nothing: accepted, loaded, proved, filled, then one
 * store. */
#include "node.h"

#include "accept.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int64_t now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

void resident_release(struct resident *resident)
{
	if (resident->generation)
		generation_release(resident->generation);
	names_release(resident->names);
	json_decref(resident->conflicts);
	json_decref(resident->identities);
	*resident = (struct resident){0};
}

/* What a bundle says of itself, kept for status and flows. */
static int resident_describe(struct resident *resident, const struct bundle *bundle)
{
	const char *digest = json_string_value(json_object_get(bundle->manifest, "digest"));
	snprintf(resident->digest, sizeof(resident->digest), "%s", digest ? digest : "?");
	resident->version = json_integer_value(json_object_get(bundle->manifest, "version"));
	resident->rules = json_array_size(json_object_get(bundle->manifest, "rules"));
	resident->names = names_make(bundle->manifest, bundle->where);
	return resident->names ? 0 : -ENOMEM;
}

/* ---- Offers ----------------------------------------------------------------------------------------- */

/* What a bundle was parsed to is large and short-lived: the heap is given back. */
void offer_close(struct offer *offer)
{
	if (offer->bytes)
		bundle_close(&offer->bundle);
	free(offer->bytes);
	*offer = (struct offer){0};
	malloc_trim(0);
}

/* Takes BYTES, in any case. */
static int offer_accept(struct node *node, void *bytes, size_t len, long long last_version, struct offer *ret_offer,
			struct why *why)
{
	*ret_offer = (struct offer){bytes, len};
	int r = accept_bundle(node->config, bytes, len, last_version, &ret_offer->bundle, why);
	if (!r)
		return 0;
	free(bytes);
	*ret_offer = (struct offer){0};
	return r;
}

/* A bundle on disk is accepted like any other, save its age: it was in force already. */
static int offer_on_disk(struct node *node, uint32_t slot, struct offer *ret_offer, struct why *why)
{
	void *bytes = NULL;
	size_t len = 0;
	*ret_offer = (struct offer){0};
	int r = state_read_bundle(node, slot, &bytes, &len);
	if (r)
		return why_set(why, r, "the bundle of slot %u cannot be read from %s: %s", slot, node->config->state,
			       strerror(-r));
	return offer_accept(node, bytes, len, 0, ret_offer, why);
}

int offer_of_slot(struct node *node, uint32_t slot, struct offer *ret_offer, struct why *why)
{
	int r = offer_on_disk(node, slot, ret_offer, why);
	if (r)
		return r;
	const char *digest = json_string_value(json_object_get(ret_offer->bundle.manifest, "digest"));
	if (digest && strcmp(digest, node->residents[slot].digest) == 0)
		return 0;
	offer_close(ret_offer);
	return why_set(why, -EINVAL, "the bundle of slot %u in %s is not the one that was loaded", slot,
		       node->config->state);
}

/* ---- Slots ------------------------------------------------------------------------------------------ */

/* A free slot, else that of the oldest generation that is not in force. */
static uint32_t choose_slot(struct node *node)
{
	uint32_t oldest = MESH_GENERATIONS, kept = 0;
	for (uint32_t i = 0; i < MESH_GENERATIONS; i++)
		kept += node->residents[i].generation != NULL;
	for (uint32_t i = 0; i < MESH_GENERATIONS && kept < node->config->generations; i++)
		if (!node->residents[i].generation)
			return i;
	for (uint32_t i = 0; i < MESH_GENERATIONS; i++) {
		const struct resident *resident = &node->residents[i];
		if (resident->generation && resident != node_active(node) &&
		    (oldest == MESH_GENERATIONS || resident->order < node->residents[oldest].order))
			oldest = i;
	}
	return oldest;
}

/* FILLED: another generation comes into it next. */
static int free_slot(struct node *node, uint32_t slot, bool filled)
{
	struct resident *resident = &node->residents[slot];
	if (!resident->generation)
		return 0;
	int r = (filled ? kernel_retire : kernel_unload)(node->kernel, resident->generation);
	if (r)
		return r;
	resident_release(resident);
	return 0;
}

/* ---- Apply ------------------------------------------------------------------------------------------ */

static int read_bundle(int fd, void **ret_bytes, size_t *ret_len, struct why *why)
{
	struct stat at;
	if (fstat(fd, &at))
		return why_set(why, -errno, "the bundle: %s", strerror(errno));
	if (!S_ISREG(at.st_mode) || at.st_size == 0 || at.st_size > BUNDLE_LIMIT_BYTES)
		return why_set(why, -EINVAL, "the bundle is %s",
			       S_ISREG(at.st_mode) ? at.st_size ? "larger than 256 MiB" : "empty" : "not a file");
	char *bytes = malloc(at.st_size);
	size_t done = 0;
	while (bytes && done < (size_t)at.st_size) {
		ssize_t got = pread(fd, bytes + done, at.st_size - done, done);
		if (got <= 0)
			break;
		done += got;
	}
	if (!bytes || done < (size_t)at.st_size) {
		free(bytes);
		return why_set(why, -EIO, "the bundle was cut short while it was read");
	}
	*ret_bytes = bytes;
	*ret_len = done;
	return 0;
}

/* Loads, proves, fills and keeps it: whatever can be wrong with a bundle. It has no slot yet. */
static int prepare(struct node *node, const struct offer *offer, struct resident *fresh, json_t *answer,
		   struct why *why)
{
	int64_t start = now_us();
	uint32_t count = 0;
	int r = kernel_load(node->kernel, offer->bytes, offer->len, node->next_generation, &fresh->generation, why);
	if (r)
		return r;
	node->next_generation++;
	int64_t loaded = now_us();
	r = kernel_prove(node->kernel, offer->bytes, offer->len, offer->bundle.vectors, offer->bundle.vectors_len,
			 fresh->names, &count, why);
	int64_t proved = now_us();
	if (!r && node->inventory)
		r = node_publish_one(node, fresh, &offer->bundle, why);
	if (!r)
		r = state_keep_bundle(node, offer->bytes, offer->len, why);
	if (r)
		return r;
	json_object_set_new(answer, "generation", json_integer(fresh->generation->number));
	json_object_set_new(answer, "vectors", json_integer(count));
	json_object_set_new(answer, "load_us", json_integer(loaded - start));
	json_object_set_new(answer, "prove_us", json_integer(proved - loaded));
	json_object_set_new(answer, "fill_us", json_integer(now_us() - proved));
	return 0;
}

/* What was in force instead of a policy is not kept: nobody rolls back to it. */
static void open_node(struct node *node, uint32_t closed)
{
	free(node->closed_problem);
	node->closed_problem = NULL;
	if (free_slot(node, closed, false))
		node_say("the generation that denied everything stays in slot %u", closed);
}

/* The switch: one 4-byte store, seen by every hook on every CPU at its next call. */
static void switch_to(struct node *node, uint32_t slot)
{
	struct resident *resident = &node->residents[slot];
	const struct resident *before = node_active(node);
	uint32_t closed = before && before->generation->is_closed ? before->generation->slot : MESH_GENERATIONS;
	volatile struct mesh_control *control = kernel_control(node->kernel);
	struct why why = {0};
	resident->order = node->next_order++;
	resident->applied_s = time(NULL);
	if (resident->version > node->last_version)
		node->last_version = resident->version;
	if (!before)
		node_adopt_sockets(node);
	control->before = before ? before->generation->slot + 1 : 0;
	control->before_generation = before ? before->generation->number : 0;
	control->switched_ns = (uint64_t)now_us() * 1000;
	__atomic_store_n(&control->active, slot + 1, __ATOMIC_RELEASE);
	if (closed < MESH_GENERATIONS)
		open_node(node, closed);
	/* It may know this node's workloads by other IDs. */
	if (node->mtls.wanted)
		node_find_places(node);
	mtls_switched(node);
	if (!resident->generation->is_closed && state_save(node, &why))
		node_say("the switch is done, but not remembered for a restart: %s", why.text);
}

static void describe_switch(struct node *node, json_t *answer)
{
	const struct resident *resident = node_active(node);
	const char *missing = mtls_missing(node);
	json_object_set_new(answer, "generation", json_integer(resident->generation->number));
	json_object_set_new(answer, "slot", json_integer(resident->generation->slot));
	json_object_set_new(answer, "digest", json_string(resident->digest));
	json_object_set_new(answer, "version", json_integer(resident->version));
	json_object_set_new(answer, "rules", json_integer(resident->rules));
	json_object_set_new(answer, "warnings", missing ? json_pack("[s]", missing) : json_array());
	if (missing)
		node_say("warning: %s", missing);
}

/* The oldest generation gives way to one that is prepared. Its bundle goes after its programs and before the new ones:
 * a generation that is pinned has a bundle of its own, or none, whenever meshd is killed. */
static int take_slot(struct node *node, uint32_t slot, const struct resident *fresh, struct why *why)
{
	int r = free_slot(node, slot, true);
	if (r)
		return why_set(why, r, "slot %u cannot be freed: %s", slot, strerror(-r));
	r = state_place_bundle(node, slot, why);
	return r ? r : kernel_place(node->kernel, fresh->generation, slot, why);
}

/* Takes OFFER over into a slot and switches. */
static int install(struct node *node, const struct offer *offer, json_t *answer, struct why *why)
{
	struct resident fresh = {0};
	uint32_t slot = choose_slot(node);
	if (slot == MESH_GENERATIONS)
		return why_set(why, -EBUSY, "no slot is free");
	int r = resident_describe(&fresh, &offer->bundle);
	if (!r)
		r = prepare(node, offer, &fresh, answer, why);
	if (!r)
		r = take_slot(node, slot, &fresh, why);
	if (r) {
		if (fresh.generation)
			kernel_unload(node->kernel, fresh.generation);
		resident_release(&fresh);
		return r;
	}
	node->residents[slot] = fresh;
	int64_t before = now_us();
	switch_to(node, slot);
	json_object_set_new(answer, "switch_us", json_integer(now_us() - before));
	describe_switch(node, answer);
	return 0;
}

static bool is_in_force(struct node *node, const struct bundle *bundle)
{
	const struct resident *active = node_active(node);
	const char *digest = json_string_value(json_object_get(bundle->manifest, "digest"));
	return active && digest && strcmp(digest, active->digest) == 0 &&
	       json_integer_value(json_object_get(bundle->manifest, "version")) == active->version;
}

int node_apply(struct node *node, int fd, bool if_new, json_t *answer, struct why *why)
{
	struct offer offer;
	void *bytes = NULL;
	size_t len = 0;
	int64_t start = now_us();
	int r = read_bundle(fd, &bytes, &len, why);
	if (!r)
		r = offer_accept(node, bytes, len, node->last_version, &offer, why);
	if (r)
		return r;
	if (if_new && is_in_force(node, &offer.bundle)) {
		offer_close(&offer);
		return 1;
	}
	r = install(node, &offer, answer, why);
	json_object_set_new(answer, "total_us", json_integer(now_us() - start));
	offer_close(&offer);
	if (!r)
		node_say("switched to generation %lld, %s", json_integer_value(json_object_get(answer, "generation")),
			 json_string_value(json_object_get(answer, "digest")));
	return r;
}

/* Inventory is told to the generation in force alone; another one hears of it before it is. */
static int catch_up(struct node *node, uint32_t slot, struct why *why)
{
	struct offer offer;
	int r = node->inventory ? offer_of_slot(node, slot, &offer, why) : 0;
	if (r || !node->inventory)
		return r;
	r = node_publish_one(node, &node->residents[slot], &offer.bundle, why);
	offer_close(&offer);
	return r;
}

int node_rollback(struct node *node, uint32_t generation, json_t *answer, struct why *why)
{
	const struct resident *active = node_active(node);
	uint32_t slot = MESH_GENERATIONS;
	for (uint32_t i = 0; i < MESH_GENERATIONS; i++) {
		const struct resident *resident = &node->residents[i];
		if (!resident->generation || resident == active)
			continue;
		if (generation ? resident->generation->number == generation
			       : (!active || resident->order < active->order) &&
					 (slot == MESH_GENERATIONS || resident->order > node->residents[slot].order))
			slot = i;
	}
	if (slot == MESH_GENERATIONS)
		return generation ? why_set(why, -ENOENT,
					    "generation %u is not resident (or is in force); `meshd status` lists them",
					    generation)
				  : why_set(why, -ENOENT, "no earlier generation is resident");
	int r = catch_up(node, slot, why);
	if (r)
		return r;
	switch_to(node, slot);
	describe_switch(node, answer);
	node_say("rolled back to generation %u", node->residents[slot].generation->number);
	return 0;
}

int node_set_mode(struct node *node, bool off)
{
	if (kernel_control(node->kernel)->mode == MESH_OFF && !off)
		node_adopt_sockets(node);
	kernel_set_mode(node->kernel, off ? MESH_OFF : node->config->observe_only ? MESH_OBSERVE : MESH_ENFORCE);
	return 0;
}

/* ---- Recovery ---------------------------------------------------------------------------------------- */

static void describe_adopted(struct node *node, struct resident *resident, uint32_t slot)
{
	struct offer offer;
	struct why why = {0};
	int r = offer_on_disk(node, slot, &offer, &why);
	if (!r) {
		r = resident_describe(resident, &offer.bundle);
		offer_close(&offer);
	}
	if (r)
		node_say("generation %u stays as it is, inventory cannot reach it: %s", resident->generation->number,
			 why.text);
}

static void adopt_slot(struct node *node, uint32_t slot)
{
	struct resident *resident = &node->residents[slot];
	struct why why = {0};
	int r = kernel_adopt(node->kernel, slot, &resident->generation, &why);
	if (r && r != -ENOENT)
		node_say("slot %u cannot be adopted: %s", slot, why.text);
	if (r) {
		*resident = (struct resident){0};
		return;
	}
	if (resident->generation->number >= node->next_generation)
		node->next_generation = resident->generation->number + 1;
	if (resident->order >= node->next_order)
		node->next_order = resident->order + 1;
	if (resident->generation->is_closed)
		resident->names = names_make(NULL, NULL);
	else
		describe_adopted(node, resident, slot);
}

/* SLOT + 1 of the state folder was in force, before the machine was started anew. */
static int load_again(struct node *node, uint32_t active, struct why *why)
{
	struct offer offer;
	int r = offer_on_disk(node, active - 1, &offer, why);
	if (r)
		return r;
	json_t *answer = json_object();
	r = install(node, &offer, answer, why);
	json_decref(answer);
	offer_close(&offer);
	return r;
}

/* The state folder stays as it is: once it is mended, the next start goes on with what it says. */
static int close_node(struct node *node, struct why *why)
{
	struct resident fresh = {.names = names_make(NULL, NULL)};
	uint32_t slot = choose_slot(node);
	int r = !fresh.names ? -ENOMEM : slot == MESH_GENERATIONS ? -EBUSY : free_slot(node, slot, true);
	if (r)
		why_set(why, r, "%s", strerror(-r));
	else
		r = kernel_load_closed(node->kernel, node->next_generation, slot, &fresh.generation, why);
	if (r) {
		resident_release(&fresh);
		return r;
	}
	node->next_generation++;
	node->residents[slot] = fresh;
	switch_to(node, slot);
	return 0;
}

/* The policy that was in force by the state folder, or none at all; never another, and never an open door. */
static int restore(struct node *node, uint32_t active, const struct why *unknown, struct why *why)
{
	struct why problem = *unknown, nobody = {0};
	const struct resident *closed = node_active(node);
	if (!active && !problem.text[0])
		return 0;
	if (!closed && people_known(node, &nobody))
		return why_set(why, -ENOENT,
			       "a policy was in force here, and whom it is about is not known: %s, and %s keeps none; "
			       "put the inventory there, or remove that folder to start open",
			       nobody.text, node->config->state);
	if (!problem.text[0] && !load_again(node, active, &problem))
		return 0;
	node->closed_problem = strdup(problem.text);
	node_say("the policy that was in force cannot be loaded again: %s", problem.text);
	node_say("CLOSED: whatever enrolled workloads open or take is denied until a bundle is applied");
	return closed ? 0 : close_node(node, why);
}

int node_recover(struct node *node, struct why *why)
{
	uint32_t active = 0;
	struct why unknown = {0};
	int r = state_load(node, &active, &unknown);
	for (uint32_t i = 0; i < MESH_GENERATIONS; i++)
		adopt_slot(node, i);
	uint32_t pinned = kernel_control(node->kernel)->active;
	if (pinned && !node_active(node))
		return why_set(why, -EUCLEAN,
			       "slot %u is in force, but its programs are not pinned; `meshd uninstall` and start anew",
			       pinned - 1);
	if (!pinned || node_active(node)->generation->is_closed)
		return restore(node, active, &unknown, why);
	if (r)
		node_say("%s", unknown.text);
	return 0;
}
