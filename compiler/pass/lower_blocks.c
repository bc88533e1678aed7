/* Address blocks: the disjoint classes of addresses that lie in the same cidrs and externals. One
 * sweep over the ends of all ranges. */
#include "pass/lower.h"

#include <stdlib.h>

enum { OVERLAP_LIMIT = 256, BLOCK_LIMIT = 65535 };

static int range_compare(const void *left, const void *right)
{
	const struct address_range *a = left, *b = right;
	return a->lo != b->lo ? (a->lo < b->lo ? -1 : 1) : (a->hi > b->hi) - (a->hi < b->hi);
}

/* The union of RANGES, in place: sorted, disjoint. */
static size_t merge(struct address_range *ranges, size_t len)
{
	size_t out = 0;
	if (len)
		qsort(ranges, len, sizeof(*ranges), range_compare);
	for (size_t i = 0; i < len; i++) {
		if (out && ranges[i].lo <= ranges[out - 1].hi) {
			if (ranges[i].hi > ranges[out - 1].hi)
				ranges[out - 1].hi = ranges[i].hi;
		} else {
			ranges[out++] = ranges[i];
		}
	}
	return out;
}

struct ranges {
	struct address_range *at;
	size_t len, cap;
};

/* What TEXTS name. IPv4 has its place among the IPv6 addresses, but no IPv6 prefix means it: ::/0 is
 * cut in two around it. */
static struct ranges read_ranges(struct lowerer *lowerer, const struct ast_text *texts)
{
	const unsigned __int128 v4_first = (unsigned __int128)0xffff << 32, v4_last = v4_first | 0xffffffff;
	struct ranges ranges = {0};
	struct address_range range;
	for (const struct ast_text *text = texts; text; text = text->next) {
		address_read(text->text, &range);
		if (range.is_v6 && range.lo < v4_first && range.hi > v4_last) {
			struct address_range below = range;
			below.hi = v4_first - 1;
			range.lo = v4_last + 1;
			vec_push(lowerer->arena, &ranges, below);
		}
		vec_push(lowerer->arena, &ranges, range);
	}
	return ranges;
}

static void add_item(struct lowerer *lowerer, struct atom *atom, const struct ast_item *item)
{
	struct ranges in = read_ranges(lowerer, item->texts), out = read_ranges(lowerer, item->except);
	struct address_range range;
	in.len = merge(in.at, in.len);
	out.len = merge(out.at, out.len);
	for (size_t i = 0, k = 0; i < in.len; i++) {
		struct address_range rest = in.at[i];
		bool empty = false;
		for (; k < out.len && out.at[k].lo <= rest.hi; k++) {
			if (out.at[k].lo > rest.lo) {
				range = rest;
				range.hi = out.at[k].lo - 1;
				vec_push(lowerer->arena, &atom->ranges, range);
			}
			empty = out.at[k].hi >= rest.hi;
			rest.lo = out.at[k].hi + 1;
		}
		if (!empty)
			vec_push(lowerer->arena, &atom->ranges, rest);
	}
}

struct event {
	unsigned __int128 at;
	uint32_t atom;
	bool begins;
};

static int event_compare(const void *left, const void *right)
{
	const struct event *a = left, *b = right;
	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	if (a->begins != b->begins)
		return a->begins - b->begins;
	return a->atom < b->atom ? -1 : a->atom > b->atom;
}

/* The atoms at the address at hand, ascending. */
struct active {
	uint32_t at[OVERLAP_LIMIT];
	size_t len;
};

/* The atoms of one policy, or of two: an address has the same number in both. */
struct sweeping {
	struct lowerer *const *lowerers;
	size_t count;
	struct arena *arena;
	VEC(struct atom *) atoms;
	struct table blocks; /* by their atoms */
	uint32_t next;	     /* number of the next block */
};

static void active_change(struct sweeping *sweeping, struct active *active, const struct event *event)
{
	struct diags *diags = &sweeping->lowerers[0]->run->diags;
	size_t i = 0;
	while (i < active->len && active->at[i] < event->atom)
		i++;
	if (!event->begins) {
		if (i < active->len && active->at[i] == event->atom)
			memmove(&active->at[i], &active->at[i + 1], (--active->len - i) * sizeof(*active->at));
	} else if (active->len < OVERLAP_LIMIT) {
		memmove(&active->at[i + 1], &active->at[i], (active->len++ - i) * sizeof(*active->at));
		active->at[i] = event->atom;
	} else if (!diags->errors) {
		diag_add(diags, DIAG_BOUND, sweeping->atoms.at[event->atom]->decl->name.span,
			 "more than %d cidrs and externals share an address", OVERLAP_LIMIT);
	}
}

static uint32_t block_of_active(struct sweeping *sweeping, const struct active *active)
{
	struct text key = {.arena = sweeping->arena};
	if (!active->len)
		return 0;
	for (size_t i = 0; i < active->len; i++)
		text_add(&key, "%u ", active->at[i]);
	const char *name = text_end(&key);
	uintptr_t block = (uintptr_t)table_get(&sweeping->blocks, name);
	if (block)
		return block;
	block = sweeping->next++;
	table_put(&sweeping->blocks, name, (void *)block);
	for (size_t i = 0; i < active->len; i++)
		vec_push(sweeping->arena, &sweeping->atoms.at[active->at[i]]->blocks, block);
	return block;
}

static void add_interval(struct sweeping *sweeping, unsigned __int128 first, uint32_t block)
{
	struct policy_interval interval = {.block = block};
	address_bytes(first, interval.first);
	for (size_t i = 0; i < sweeping->count; i++) {
		struct policy *policy = sweeping->lowerers[i]->policy;
		if (!policy->intervals.len || policy->intervals.at[policy->intervals.len - 1].block != block)
			vec_push(sweeping->arena, &policy->intervals, interval);
	}
}

static void sweep(struct sweeping *sweeping)
{
	VEC(struct event) events = {0};
	struct active active = {0};
	for (size_t i = 0; i < sweeping->atoms.len; i++)
		for (size_t k = 0; k < sweeping->atoms.at[i]->ranges.len; k++) {
			const struct address_range *range = &sweeping->atoms.at[i]->ranges.at[k];
			vec_push(sweeping->arena, &events, (struct event){range->lo, i, true});
			if (range->hi + 1)
				vec_push(sweeping->arena, &events, (struct event){range->hi + 1, i, false});
		}
	if (events.len)
		qsort(events.at, events.len, sizeof(*events.at), event_compare);
	sweeping->next = 1;
	if (!events.len || events.at[0].at)
		add_interval(sweeping, 0, 0);
	for (size_t i = 0; i < events.len;) {
		unsigned __int128 at = events.at[i].at;
		for (; i < events.len && events.at[i].at == at; i++)
			active_change(sweeping, &active, &events.at[i]);
		add_interval(sweeping, at, block_of_active(sweeping, &active));
	}
}

/* ---- Destinations behind the blocks ------------------------------------------------------------- */

struct set_class {
	const char *name;
	struct numbers externals, blocks;
	const char *ns;
};

static int set_compare(const void *left, const void *right)
{
	return strcmp((*(struct set_class *const *)left)->name, (*(struct set_class *const *)right)->name);
}

/* A class for each set of externals that a block lies in, by name. */
static void add_external_classes(struct lowerer *lowerer)
{
	struct policy *policy = lowerer->policy;
	struct arena *arena = lowerer->arena;
	struct table sets = {.arena = arena};
	struct set_class **of_block = arena_alloc(arena, policy->blocks * sizeof(*of_block));
	VEC(struct set_class *) list = {0};
	struct numbers *externals = arena_alloc(arena, policy->blocks * sizeof(*externals));
	for (size_t i = 0; i < lowerer->atoms.len; i++) {
		const struct atom *atom = &lowerer->atoms.at[i];
		for (size_t k = 0; atom->external != UINT32_MAX && k < atom->blocks.len; k++)
			vec_push(arena, &externals[atom->blocks.at[k]], i);
	}
	for (uint32_t block = 1; block < policy->blocks; block++) {
		struct text name = {.arena = arena};
		for (size_t k = 0; k < externals[block].len; k++)
			text_add(&name, "%s%s", k ? "+" : "",
				 policy->externals.at[lowerer->atoms.at[externals[block].at[k]].external].name);
		if (!externals[block].len)
			continue;
		struct set_class *set = table_get(&sets, text_end(&name));
		if (!set) {
			set = arena_alloc(arena, sizeof(*set));
			set->name = text_end(&name);
			set->externals = externals[block];
			table_put(&sets, set->name, set);
			vec_push(arena, &list, set);
		}
		of_block[block] = set;
		vec_push(arena, &set->blocks, block);
	}
	for (uint32_t block = 0; block < policy->blocks; block++)
		vec_push(arena, &policy->block_dst, CLASS_WORLD);
	if (list.len)
		qsort(list.at, list.len, sizeof(*list.at), set_compare);
	for (size_t i = 0; i < list.len; i++) {
		struct policy_class class = {.kind = CLASS_EXTERNAL, .name = list.at[i]->name};
		for (size_t k = 0; k < list.at[i]->externals.len; k++) {
			struct atom *atom = &lowerer->atoms.at[list.at[i]->externals.at[k]];
			vec_push(arena, &class.externals, atom->external);
			vec_push(arena, &atom->classes, policy->classes.len);
		}
		for (size_t k = 0; k < list.at[i]->blocks.len; k++)
			policy->block_dst.at[list.at[i]->blocks.at[k]] = policy->classes.len;
		vec_push(arena, &policy->classes, class);
	}
}

static void add_atom(struct lowerer *lowerer, struct ast_decl *decl, uint32_t external)
{
	struct atom atom = {.decl = decl, .external = external};
	for (const struct ast_item *item = decl->items; item; item = item->next)
		if (item->kind == ITEM_CIDR)
			add_item(lowerer, &atom, item);
	atom.ranges.len = merge(atom.ranges.at, atom.ranges.len);
	decl->number = lowerer->atoms.len;
	vec_push(lowerer->arena, &lowerer->atoms, atom);
}

static void add_atoms(struct lowerer *lowerer)
{
	for (size_t i = 0; i < lowerer->externals.len; i++)
		add_atom(lowerer, lowerer->externals.at[i], i);
	for (struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next)
		if (decl->kind == DECL_CIDR)
			add_atom(lowerer, decl, UINT32_MAX);
}

void lower_blocks(struct lowerer *const *lowerers, size_t count)
{
	struct lowerer *first = lowerers[0];
	struct sweeping sweeping = {
		.lowerers = lowerers, .count = count, .arena = first->arena, .blocks = {.arena = first->arena}};
	for (size_t i = 0; i < count; i++)
		add_atoms(lowerers[i]);
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < lowerers[i]->atoms.len; k++)
			vec_push(sweeping.arena, &sweeping.atoms, &lowerers[i]->atoms.at[k]);
	sweep(&sweeping);
	if (sweeping.next > BLOCK_LIMIT)
		diag_add(&first->run->diags, DIAG_BOUND, first->ast->mesh->name.span,
			 "the cidrs and externals cut the addresses into more than %d blocks", BLOCK_LIMIT);
	for (size_t i = 0; i < count; i++) {
		lowerers[i]->policy->blocks = sweeping.next;
		add_external_classes(lowerers[i]);
	}
}
