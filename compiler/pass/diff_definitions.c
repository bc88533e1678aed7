/* What no verdict shows: who a service is, where it is reached, how its connections are protected. */
#include "base/table.h"
#include "pass/diff.h"

#include <stdarg.h>
#include <stdlib.h>

/* ---- Definitions ---------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void say(struct diff *diff, const char *format, ...)
{
	va_list args;
	char text[1024];
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	vec_push(diff->arena, &diff->definitions, arena_copy(diff->arena, text, strlen(text)));
}

static int text_compare(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The text of a selector, whatever the order in its lists: `and`, `or` and `in` have none. */
static const char *selector_key(struct arena *arena, const json_t *selector)
{
	const char *list = json_object_get(selector, "args") ? "args" : "values";
	const json_t *items = json_object_get(selector, list), *item;
	const char *op = json_string_value(json_object_get(selector, "op"));
	VEC(const char *) keys = {0};
	size_t i;
	if (!items) {
		char *text = json_dumps(selector, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
		const char *key = text ? arena_copy(arena, text, strlen(text)) : "";
		free(text);
		return key;
	}
	json_array_foreach ((json_t *)items, i, item)
		vec_push(arena, &keys, selector_key(arena, item));
	qsort(keys.at, keys.len, sizeof(*keys.at), text_compare);
	const char *label = json_string_value(json_object_get(selector, "label"));
	const char *key = arena_printf(arena, "%s %s(", op, label ? label : "");
	for (i = 0; i < keys.len; i++)
		if (!i || strcmp(keys.at[i], keys.at[i - 1]) != 0)
			key = arena_printf(arena, "%s%s;", key, keys.at[i]);
	return arena_printf(arena, "%s)", key);
}

static bool same_selector(struct diff *diff, const json_t *a, const json_t *b)
{
	if (!a || !b)
		return a == b;
	return strcmp(selector_key(diff->arena, a), selector_key(diff->arena, b)) == 0;
}

static bool same_ports(const struct policy_service *a, const struct policy_service *b)
{
	if (a->ports.len != b->ports.len)
		return false;
	for (size_t i = 0; i < a->ports.len; i++)
		if (a->ports.at[i].kind != b->ports.at[i].kind || a->ports.at[i].lo != b->ports.at[i].lo ||
		    a->ports.at[i].hi != b->ports.at[i].hi || a->ports.at[i].target != b->ports.at[i].target)
			return false;
	return true;
}

static bool same_addresses(const struct policy_service *a, const struct policy_service *b)
{
	if (a->addresses.len != b->addresses.len)
		return false;
	for (size_t i = 0; i < a->addresses.len; i++)
		if (strcmp(a->addresses.at[i], b->addresses.at[i]) != 0)
			return false;
	return true;
}

static const struct policy_subset *subset_of(const struct policy_service *service, const char *name)
{
	for (size_t i = 0; i < service->subsets.len; i++)
		if (strcmp(service->subsets.at[i].name, name) == 0)
			return &service->subsets.at[i];
	return NULL;
}

static void compare_subsets(struct diff *diff, const char *name, const struct policy_service *a,
			    const struct policy_service *b)
{
	for (size_t i = 0; i < a->subsets.len; i++) {
		const struct policy_subset *other = subset_of(b, a->subsets.at[i].name);
		if (!other)
			say(diff, "service %s: subset %s is removed", name, a->subsets.at[i].name);
		else if (!same_selector(diff, a->subsets.at[i].selector, other->selector))
			say(diff, "service %s: subset %s selects other workloads", name, other->name);
	}
	for (size_t i = 0; i < b->subsets.len; i++)
		if (!subset_of(a, b->subsets.at[i].name))
			say(diff, "service %s: subset %s is added", name, b->subsets.at[i].name);
}

static void compare_services(struct diff *diff, const struct pair_target *target)
{
	const struct policy *old = diff->pair->runs[OLD]->policy, *new = diff->pair->runs[NEW]->policy;
	const struct policy_class *x = &old->classes.at[target->dst[OLD]], *y = &new->classes.at[target->dst[NEW]];
	const struct policy_service *a = &old->services.at[x->service], *b = &new->services.at[y->service];
	if (!same_selector(diff, a->selector, b->selector))
		say(diff, "service %s: it selects other workloads", target->name);
	if (!same_addresses(a, b))
		say(diff, "service %s: other addresses", target->name);
	if (!same_ports(a, b))
		say(diff, "service %s: other ports", target->name);
	if (strcmp(a->account, b->account) != 0)
		say(diff, "service %s: account %s is now %s", target->name, a->account, b->account);
	if (strcmp(x->spiffe, y->spiffe) != 0 && strcmp(old->trust, new->trust) == 0)
		say(diff, "service %s: identity %s is now %s", target->name, x->spiffe, y->spiffe);
	if (a->sticky != b->sticky)
		say(diff, "service %s: its route is %s sticky", target->name, b->sticky ? "now" : "no longer");
	compare_subsets(diff, target->name, a, b);
}

void diff_definitions(struct diff *diff)
{
	const struct policy *old = diff->pair->runs[OLD]->policy, *new = diff->pair->runs[NEW]->policy;
	if (strcmp(old->mesh, new->mesh) != 0)
		say(diff, "mesh %s is now %s", old->mesh, new->mesh);
	if (strcmp(old->trust, new->trust) != 0)
		say(diff, "trust domain %s is now %s, and with it each identity", old->trust, new->trust);
	for (size_t i = 0; i < diff->pair->targets.len; i++) {
		const struct pair_target *target = &diff->pair->targets.at[i];
		if (target->kind != CLASS_SERVICE)
			continue;
		if (target->known[OLD] && target->known[NEW])
			compare_services(diff, target);
		else
			say(diff, "service %s is %s", target->name, target->known[NEW] ? "added" : "removed");
	}
}

/* ---- mTLS ------------------------------------------------------------------------------------------- */

struct moding {
	struct diff *diff;
	struct table groups; /* by modes and ports */
};

static void add_mode(struct moding *moding, uint32_t number, uint32_t lo, uint32_t hi)
{
	struct diff *diff = moding->diff;
	const struct pair_target *target = &diff->pair->targets.at[number];
	struct diff_group group = {.outcome = {.change = DIFF_MTLS}, .sources = diff->everyone, .exact = true};
	uint32_t port = lo == hi ? lo : 0;
	for (int side = 0; side < SIDES; side++)
		group.outcome.by[side] = policy_mtls_mode(diff->pair->runs[side]->policy, target->dst[side], port);
	if (lo > hi || group.outcome.by[OLD] == group.outcome.by[NEW])
		return;
	const char *key =
		arena_printf(diff->arena, "%u %u %u %u", group.outcome.by[OLD], group.outcome.by[NEW], lo, hi);
	uintptr_t known = (uintptr_t)table_get(&moding->groups, key);
	if (!known) {
		vec_push(diff->arena, &group.ports.tcp, (struct range){lo, hi});
		group.sample.sources = group.sources;
		group.sample.target = number;
		group.sample.ports = group.ports;
		diff_choose(diff, &group);
		vec_push(diff->arena, &diff->groups, group);
		known = diff->groups.len;
		table_put(&moding->groups, key, (void *)known);
	}
	vec_push(diff->arena, &diff->groups.at[known - 1].targets, number);
}

static int port_compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return a < b ? -1 : a > b;
}

/* Ports of their own, and all between them. */
static void mode_target(struct moding *moding, uint32_t number)
{
	const struct pair *pair = moding->diff->pair;
	VEC(uint32_t) ports = {0};
	uint32_t next = 1;
	for (int side = 0; side < SIDES; side++)
		for (size_t i = 0; i < pair->runs[side]->policy->mtls.len; i++) {
			const struct policy_mtls *mtls = &pair->runs[side]->policy->mtls.at[i];
			if (mtls->port && policy_mtls_speaks(mtls, pair->targets.at[number].dst[side], mtls->port))
				vec_push(moding->diff->arena, &ports, mtls->port);
		}
	if (ports.len)
		qsort(ports.at, ports.len, sizeof(*ports.at), port_compare);
	for (size_t i = 0; i < ports.len; i++) {
		if (ports.at[i] < next)
			continue;
		add_mode(moding, number, next, ports.at[i] - 1);
		add_mode(moding, number, ports.at[i], ports.at[i]);
		next = ports.at[i] + 1;
	}
	add_mode(moding, number, next, 65535);
}

void diff_mtls(struct diff *diff)
{
	struct moding moding = {.diff = diff, .groups = {.arena = diff->arena}};
	size_t before = diff->groups.len;
	for (uint32_t i = 0; i < diff->pair->targets.len; i++) {
		const struct pair_target *target = &diff->pair->targets.at[i];
		if (target->kind == CLASS_NAMESPACE || (target->known[OLD] && target->known[NEW]))
			mode_target(&moding, i);
	}
	for (size_t i = before; i < diff->groups.len; i++)
		diff->groups.at[i].count = diff->groups.at[i].targets.len;
}
