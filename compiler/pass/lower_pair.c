/* Two policies to one universe. A source that one of them does not declare is to that one what it would
 * be on a node: a workload of its namespace alone, or whoever has the SPIFFE ID there. */
#include "pass/lower.h"
#include "pass/pair.h"
#include "ir/literal.h"

#include <errno.h>
#include <stdlib.h>

/* One class, and what it is to each side. */
struct joint {
	struct pair_source source;
	struct entry entries[SIDES];
	bool native[SIDES];
};
struct joining {
	struct pair *pair;
	struct arena *arena;
	struct lowerer lowerers[SIDES];
	struct table table; /* by kind and name */
	VEC(struct joint *) joints;
};

static struct joint *joint_of(struct joining *joining, enum class_kind kind, const char *name)
{
	const char *key = arena_printf(joining->arena, "%d %s", kind, name);
	struct joint *joint = table_get(&joining->table, key);
	if (joint)
		return joint;
	joint = arena_alloc(joining->arena, sizeof(*joint));
	joint->source.kind = kind;
	table_put(&joining->table, key, joint);
	vec_push(joining->arena, &joining->joints, joint);
	return joint;
}

static void add_native(struct joining *joining, enum side side, const struct entry *entry)
{
	struct joint *joint =
		joint_of(joining, entry->kind, entry->kind == CLASS_IDENTITY ? entry->spiffe : entry->name);
	if (!joint->source.name) {
		joint->source.name = entry->name;
		joint->source.ns = entry->ns;
		joint->source.spiffe = entry->spiffe;
	}
	joint->entries[side] = *entry;
	joint->native[side] = true;
}

static const struct ast_decl *service_of_id(const struct lowerer *lowerer, const char *spiffe)
{
	const struct ast_decl *owner = table_get(&lowerer->owners, spiffe);
	return owner && owner->kind == DECL_SERVICE ? owner : NULL;
}

/* Is the ID of a service to the other side what the service's workloads are to it? */
static bool is_told(struct joining *joining, const struct lowerer *mine, const struct lowerer *other,
		    const struct entry *entry)
{
	const struct ast_decl *owner = service_of_id(mine, entry->spiffe),
			      *there = table_get(&other->owners, entry->spiffe);
	const char *ns = NULL, *account;
	if (owner != entry->decl)
		return false;
	if (there)
		return there->kind == DECL_SERVICE && strcmp(there->ns, owner->ns) == 0 &&
		       strcmp(there->name.text, owner->name.text) == 0;
	const struct ast_decl *same = table_get(&other->ast->names, entry->name);
	return (!same || same->kind != DECL_SERVICE) &&
	       spiffe_read(joining->arena, other->policy->trust, entry->spiffe, &ns, &account) &&
	       strcmp(ns, entry->ns) == 0;
}

/* Else it is a source of its own. Of another trust domain all are: that is said once. */
static void add_id(struct joining *joining, enum side side, const struct entry *entry)
{
	if (strcmp(joining->lowerers[OLD].policy->trust, joining->lowerers[NEW].policy->trust) != 0 ||
	    is_told(joining, &joining->lowerers[side], &joining->lowerers[!side], entry))
		return;
	struct joint *joint = joint_of(joining, CLASS_IDENTITY, entry->spiffe);
	if (!joint->source.name)
		joint->source =
			(struct pair_source){.name = entry->spiffe, .kind = CLASS_IDENTITY, .spiffe = entry->spiffe};
}

static void add_ghost_space(struct joining *joining, struct lowerer *lowerer, struct joint *joint, struct entry *ghost)
{
	struct space *space = arena_alloc(joining->arena, sizeof(*space));
	space->name = joint->source.ns;
	table_put(&lowerer->spaces, space->name, space);
	ghost->kind = CLASS_NAMESPACE;
}

/* What JOINT is to the side that does not declare it: never a destination there. */
static void add_ghost(struct joining *joining, enum side side, struct joint *joint)
{
	struct lowerer *lowerer = &joining->lowerers[side];
	struct entry *ghost = &joint->entries[side];
	const char *account;
	*ghost = (struct entry){.name = joint->source.name, .kind = CLASS_IDENTITY, .ns = joint->source.ns};
	if (joint->source.kind == CLASS_NAMESPACE)
		add_ghost_space(joining, lowerer, joint, ghost);
	if (joint->source.kind != CLASS_IDENTITY)
		return;
	struct ast_decl *owner = table_get(&lowerer->owners, joint->source.spiffe);
	ghost->ns = NULL;
	if (owner) {
		ghost->alias = owner;
		ghost->ns = owner->ns;
	} else {
		spiffe_read(joining->arena, lowerer->policy->trust, joint->source.spiffe, &ghost->ns, &account);
	}
}

static int joint_compare(const void *left, const void *right)
{
	const struct pair_source *a = &(*(struct joint *const *)left)->source,
				 *b = &(*(struct joint *const *)right)->source;
	int by = strcmp(a->name, b->name);
	if (by || a->kind != b->kind)
		return by ? by : (int)a->kind - (int)b->kind;
	return a->spiffe && b->spiffe ? strcmp(a->spiffe, b->spiffe) : 0;
}

static void join(struct joining *joining)
{
	struct entries natives[SIDES] = {0};
	for (int side = 0; side < SIDES; side++) {
		lower_entries(&joining->lowerers[side], &natives[side]);
		for (size_t i = 0; i < natives[side].len; i++)
			add_native(joining, side, &natives[side].at[i]);
	}
	for (int side = 0; side < SIDES; side++)
		for (size_t i = 0; i < natives[side].len; i++)
			if (natives[side].at[i].kind == CLASS_SERVICE)
				add_id(joining, side, &natives[side].at[i]);
	if (joining->joints.len)
		qsort(joining->joints.at, joining->joints.len, sizeof(*joining->joints.at), joint_compare);
	/* Namespaces first: the others look theirs up. */
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < joining->joints.len; i++)
			for (int side = 0; side < SIDES; side++)
				if (!joining->joints.at[i]->native[side] &&
				    (joining->joints.at[i]->source.kind == CLASS_NAMESPACE) == !pass)
					add_ghost(joining, side, joining->joints.at[i]);
}

static void number(struct joining *joining, enum side side)
{
	struct lowerer *lowerer = &joining->lowerers[side];
	struct entries entries = {0};
	for (size_t i = 0; i < joining->joints.len; i++)
		vec_push(joining->arena, &entries, joining->joints.at[i]->entries[side]);
	lower_number(lowerer, &entries);
	lowerer->aliases = arena_alloc(joining->arena, lowerer->policy->classes.len * sizeof(*lowerer->aliases));
	for (size_t i = 0; i < entries.len; i++)
		if (entries.at[i].alias)
			vec_push(joining->arena, &lowerer->aliases[entries.at[i].alias->number],
				 (uint32_t)(lowerer->policy->classes.len - entries.len + i));
}

/* ---- Destinations --------------------------------------------------------------------------------- */

static void add_targets(struct joining *joining)
{
	struct pair *pair = joining->pair;
	for (uint32_t class = 0; class < pair->sources.len; class ++) {
		const struct pair_source *source = &pair->sources.at[class];
		struct pair_target target = {.name = source->name, .kind = source->kind, .dst = {class, class}};
		if (source->kind == CLASS_CONFLICT || source->kind == CLASS_UNKNOWN || source->kind == CLASS_WORLD ||
		    source->kind == CLASS_IDENTITY)
			continue; /* always denied; by address, below; never a destination */
		for (int side = 0; side < SIDES && source->kind == CLASS_SERVICE; side++) {
			const struct space *space = table_get(&joining->lowerers[side].spaces, source->ns);
			target.known[side] = pair->runs[side]->policy->classes.at[class].kind == CLASS_SERVICE;
			target.dst[side] = target.known[side] ? class : space->class;
		}
		vec_push(joining->arena, &pair->targets, target);
	}
}

/* The destination of an address that is no workload is its block's class: each two that meet in a block. */
static void add_address_targets(struct joining *joining)
{
	struct pair *pair = joining->pair;
	const struct policy *old = pair->runs[OLD]->policy, *new = pair->runs[NEW]->policy;
	struct table seen = {.arena = joining->arena};
	for (uint32_t block = 0; block < old->blocks; block++) {
		uint32_t a = old->block_dst.at[block], b = new->block_dst.at[block];
		const char *x = old->classes.at[a].name, *y = new->classes.at[b].name;
		struct pair_target target = {.kind = b == CLASS_WORLD ? old->classes.at[a].kind : CLASS_EXTERNAL,
					     .dst = {a, b}};
		target.name = strcmp(x, y) == 0 ? y : arena_printf(joining->arena, "%s (was %s)", y, x);
		if (!table_put(&seen, arena_printf(joining->arena, "%u %u", a, b), pair))
			vec_push(joining->arena, &pair->targets, target);
	}
}

static void add_cidrs(struct joining *joining, enum side side)
{
	const struct lowerer *lowerer = &joining->lowerers[side];
	for (size_t i = 0; i < lowerer->atoms.len; i++) {
		const struct atom *atom = &lowerer->atoms.at[i];
		struct pair_cidr cidr = {ast_qualified(joining->arena, atom->decl->ns, atom->decl->name.text),
					 atom->blocks.at, atom->blocks.len};
		if (atom->external == UINT32_MAX && atom->blocks.len)
			vec_push(joining->arena, &joining->pair->cidrs[side], cidr);
	}
}

void lower_pair(struct pair *pair)
{
	struct joining joining = {.pair = pair, .arena = pair->arena, .table = {.arena = pair->arena}};
	static const char *const fixed[] = {"unknown", "world", "node", "other", "conflict"};
	struct lowerer *const both[] = {&joining.lowerers[OLD], &joining.lowerers[NEW]};
	for (int side = 0; side < SIDES; side++)
		lower_begin(both[side], pair->runs[side]);
	join(&joining);
	for (int i = 0; i < 5; i++)
		vec_push(pair->arena, &pair->sources, (struct pair_source){.name = fixed[i], .kind = i});
	for (size_t i = 0; i < joining.joints.len; i++)
		vec_push(pair->arena, &pair->sources, joining.joints.at[i]->source);
	for (int side = 0; side < SIDES; side++) {
		number(&joining, side);
		lower_members(both[side]);
	}
	lower_blocks(both, SIDES);
	for (int side = 0; side < SIDES; side++)
		lower_meaning(both[side]);
	for (int side = 0; side < SIDES; side++)
		add_cidrs(&joining, side);
	add_targets(&joining);
	add_address_targets(&joining);
}

int pair_make(struct arena *arena, struct run *old, struct run *new, struct pair *ret_pair)
{
	struct run *const runs[] = {old, new};
	*ret_pair = (struct pair){.arena = arena, .runs = {old, new}};
	for (int side = 0; side < SIDES; side++)
		policy_release(runs[side]->policy);
	lower_pair(ret_pair);
	if (old->diags.errors || new->diags.errors)
		return -E2BIG;
	return decide_pair(ret_pair);
}
