/* What changes between two policies. For each destination the two diagrams are walked side by side to one
 * whose terminals are what changes; then products of sources, ports and destinations that change alike are
 * put into groups. */
#define _GNU_SOURCE /* qsort_r */
#include "pass/diff_walk.h"

#include <errno.h>
#include <stdlib.h>

enum {
	PRODUCTS_MOST = 12, /* of one outcome: more are told as one group that is not exact */
	LAST_PORT = 65535,
};

/* ---- Ranges --------------------------------------------------------------------------------------- */

static int range_compare(const void *left, const void *right)
{
	const struct range *a = left, *b = right;
	return a->lo != b->lo ? (a->lo < b->lo ? -1 : 1) : (a->hi > b->hi) - (a->hi < b->hi);
}

static size_t merge_ranges(struct range *at, size_t len)
{
	size_t out = 0;
	if (len)
		qsort(at, len, sizeof(*at), range_compare);
	for (size_t i = 0; i < len; i++) {
		if (out && at[i].lo <= at[out - 1].hi + 1)
			at[out - 1].hi = at[i].hi > at[out - 1].hi ? at[i].hi : at[out - 1].hi;
		else
			at[out++] = at[i];
	}
	return out;
}

/* ---- Shares --------------------------------------------------------------------------------------- */

static int share_compare(const void *left, const void *right)
{
	const char *a = ((const struct diff_share *)left)->subset, *b = ((const struct diff_share *)right)->subset;
	return a && b ? strcmp(a, b) : (a != NULL) - (b != NULL);
}

static uint32_t divisor(uint32_t a, uint32_t b)
{
	return b ? divisor(b, a % b) : a;
}

/* In lowest terms, so that 1:1 is 50:50. */
static struct diff_shares shares_of_arm(struct arena *arena, const struct policy_arm *arm)
{
	struct diff_shares shares = {0};
	uint32_t common = 0;
	for (size_t i = 0; i < arm->splits.len; i++)
		vec_push(arena, &shares.at, (struct diff_share){arm->splits.at[i].subset, arm->splits.at[i].weight});
	if (shares.at.len)
		qsort(shares.at.at, shares.at.len, sizeof(*shares.at.at), share_compare);
	size_t kept = 0;
	for (size_t i = 0; i < shares.at.len; i++) {
		if (kept && share_compare(&shares.at.at[kept - 1], &shares.at.at[i]) == 0)
			shares.at.at[kept - 1].weight += shares.at.at[i].weight;
		else
			shares.at.at[kept++] = shares.at.at[i];
	}
	shares.at.len = kept;
	for (size_t i = 0; i < kept; i++)
		common = divisor(shares.at.at[i].weight, common);
	for (size_t i = 0; i < kept; i++)
		shares.sum += shares.at.at[i].weight /= common;
	return shares;
}

static const char *shares_key(struct arena *arena, const struct diff_shares *shares)
{
	const char *key = "";
	for (size_t i = 0; i < shares->at.len; i++)
		key = arena_printf(arena, "%s%s/%u ", key, shares->at.at[i].subset ? shares->at.at[i].subset : "",
				   shares->at.at[i].weight);
	return key;
}

static void number_shares(struct walk *walk)
{
	struct diff *diff = walk->diff;
	struct table known = {.arena = diff->arena};
	struct diff_shares whole = {.sum = 1};
	vec_push(diff->arena, &whole.at, (struct diff_share){NULL, 1});
	vec_push(diff->arena, &diff->shares, whole);
	table_put(&known, shares_key(diff->arena, &whole), (void *)1);
	for (int side = 0; side < SIDES; side++) {
		const struct policy *policy = diff->pair->runs[side]->policy;
		for (size_t i = 0; i < policy->arms.len; i++) {
			struct diff_shares shares = shares_of_arm(diff->arena, &policy->arms.at[i]);
			const char *key = shares_key(diff->arena, &shares);
			uintptr_t number = (uintptr_t)table_get(&known, key);
			if (!number) {
				vec_push(diff->arena, &diff->shares, shares);
				number = diff->shares.len;
				table_put(&known, key, (void *)number);
			}
			vec_push(diff->arena, &walk->arms[side], (uint32_t)(number - 1));
		}
	}
}

/* ---- The difference as a diagram -------------------------------------------------------------------- */

static node_id leaf_node(struct walk *walk, const struct leaf *leaf)
{
	if (!leaf->found.len)
		return diagram_no(walk->diff->builder);
	vec_push(walk->diff->arena, &walk->leaves, *leaf);
	return diagram_leaf(walk->diff->builder, walk->leaves.len);
}

/* The first leaf of an outcome stands for all that have it alone. */
static node_id outcome_node(struct walk *walk, uint32_t outcome)
{
	struct leaf leaf = {0};
	if (outcome == UINT32_MAX)
		return diagram_no(walk->diff->builder);
	for (size_t i = 0; i < walk->leaves.len; i++)
		if (!walk->leaves.at[i].found.at[0].texts && walk->leaves.at[i].found.at[0].outcome == outcome &&
		    walk->leaves.at[i].found.len == 1)
			return diagram_leaf(walk->diff->builder, i + 1);
	vec_push(walk->diff->arena, &leaf.found, (struct found){outcome, NULL});
	return leaf_node(walk, &leaf);
}

/* Where no request is read, each string field is absent: the first edge of each. */
static node_id build_absent(struct walk *walk, struct tuple tuple)
{
	uint32_t outcome, count;
	while (!walk_outcome(walk, &tuple, false, &outcome))
		for (int i = 0; i < WALK_NODES; i++)
			if (!diagram_is_terminal(tuple.at[i]))
				tuple.at[i] = diagram_edges(walk->diagrams[i], tuple.at[i], &count)->child;
	return outcome_node(walk, outcome);
}

static node_id build(struct walk *walk, const struct tuple *tuple)
{
	uint32_t outcome, hi, known, level = walk_level(walk, tuple);
	if (walk_outcome(walk, tuple, false, &outcome))
		return outcome_node(walk, outcome);
	if (tuples_get(&walk->built, tuple, &known))
		return known;
	node_id node;
	if (level >= LEVEL_STRING && walk->contexts.at[tuple->context].opaque) {
		node = build_absent(walk, *tuple);
	} else if (level >= LEVEL_STRING) {
		struct leaf leaf = {0};
		hunt(walk, tuple, &leaf);
		node = leaf_node(walk, &leaf);
	} else {
		struct stretches stretches = walk_stretches(walk, tuple, level);
		VEC(struct diagram_edge) edges = {0};
		struct tuple below;
		while (walk_stretch(&stretches, tuple, &below, &hi)) {
			struct diagram_edge edge = {hi, build(walk, &below)};
			vec_push(walk->diff->arena, &edges, edge);
		}
		node = diagram_node(walk->diff->builder, level, edges.at, edges.len);
	}
	tuples_put(walk->diff->arena, &walk->built, tuple, node);
	return node;
}

static uint32_t context_of(struct walk *walk, const struct pair_target *target, bool opaque)
{
	struct pair *pair = walk->diff->pair;
	enum side asked = target->known[NEW] ? NEW : OLD;
	struct context context;
	memset(&context, 0, sizeof(context)); /* compared as bytes */
	context.opaque = opaque;
	context.fields = diagram_dst(pair->diagrams[asked], target->dst[asked])->fields;
	for (int side = 0; side < SIDES; side++) {
		enum policy_verdict verdict = pair->runs[side]->policy->defaults.at[target->dst[side]];
		context.default_allows[side] = verdict != VERDICT_DENY;
		context.default_audits[side] = verdict == VERDICT_AUDIT;
	}
	for (size_t i = walk->contexts.len; i-- > 0;)
		if (memcmp(&walk->contexts.at[i], &context, sizeof(context)) == 0)
			return i;
	vec_push(walk->diff->arena, &walk->contexts, context);
	return walk->contexts.len - 1;
}

/* The ports that either side reads requests on. */
static node_id web_ports(struct diff *diff, const struct pair_target *target)
{
	struct diagram *builder = diff->builder;
	node_id all = diagram_no(builder), no = all;
	for (int side = 0; side < SIDES; side++) {
		const struct policy *policy = diff->pair->runs[side]->policy;
		const struct policy_service *service =
			target->known[side] ? &policy->services.at[policy->classes.at[target->dst[side]].service]
					    : NULL;
		for (size_t i = 0; service && i < service->ports.len; i++) {
			const struct policy_port *port = &service->ports.at[i];
			struct range range = {port->target, port->target == port->lo ? port->hi : port->target};
			struct range_set one = {&range, 1};
			struct diagram_edge edges[] = {{0, diagram_member(builder, LEVEL_PORT, &one, LAST_PORT)},
						       {1, no}};
			if (port->kind == PORT_HTTP || port->kind == PORT_GRPC)
				all = diagram_apply(builder, DIAGRAM_MIN, all,
						    diagram_node(builder, LEVEL_PROTOCOL, edges, 2));
		}
	}
	return all;
}

/* Ports that take no plaintext on one side at least: that is told by the modes, and here requests are those that
 * show a certificate. */
static struct diagram_ports strict_ports(struct diff *diff, const struct pair_target *target)
{
	struct diagram_ports ports = {0};
	for (int side = 0; side < SIDES; side++)
		diagram_strict_ports(diff->arena, diff->pair->runs[side]->policy, target->dst[side], &ports);
	ports.at.len = merge_ranges(ports.at.at, ports.at.len);
	return ports;
}

static node_id build_target(struct walk *walk, const struct pair_target *target)
{
	struct pair *pair = walk->diff->pair;
	struct diagram *builder = walk->diff->builder;
	struct diagram_ports strict = strict_ports(walk->diff, target);
	struct tuple tuple = {.context = context_of(walk, target, true)};
	bool routed = target->known[OLD] && target->known[NEW];
	for (int side = 0; side < SIDES; side++) {
		struct diagram *diagram = pair->diagrams[side];
		tuple.at[side] = diagram_taken_on(diagram, diagram_root(diagram, DIAGRAM_VERDICT, target->dst[side]),
						  target->dst[side], &strict);
		/* A service that one side lacks has shares on the other alone: that it is new says it. */
		tuple.at[WALK_ROUTE + side] = routed ? diagram_root(diagram, DIAGRAM_ROUTE, target->dst[side])
						     : diagram_leaf(diagram, TERMINAL_DEFAULT);
	}
	node_id node = build(walk, &tuple), web = web_ports(walk->diff, target);
	if (web != diagram_no(builder) && walk->contexts.at[tuple.context].fields->count) {
		tuple.context = context_of(walk, target, false);
		node_id read = diagram_apply(builder, DIAGRAM_AND, build(walk, &tuple), web);
		node = diagram_apply(builder, DIAGRAM_MIN, read, diagram_apply(builder, DIAGRAM_AND_NOT, node, web));
	}
	return diagram_taken_on(builder, node, target->dst[NEW], &strict);
}

/* ---- Products ----------------------------------------------------------------------------------------- */

/* Where the leaf holds OUTCOME. */
static node_id select_outcome(struct walk *walk, node_id node, uint32_t outcome)
{
	struct diagram *builder = walk->diff->builder;
	struct tuple key = {.context = outcome, .at = {node}};
	uint32_t known, count;
	if (node == diagram_no(builder))
		return node;
	if (diagram_is_terminal(node)) {
		const struct leaf *leaf = &walk->leaves.at[diagram_terminal(builder, node) - 1];
		for (size_t i = 0; i < leaf->found.len; i++)
			if (leaf->found.at[i].outcome == outcome)
				return diagram_yes(builder);
		return diagram_no(builder);
	}
	if (tuples_get(&walk->selected, &key, &known))
		return known;
	uint32_t level = diagram_level(builder, node);
	diagram_edges(builder, node, &count);
	struct diagram_edge *edges = arena_alloc(walk->diff->arena, count * sizeof(*edges));
	/* Copied: the builder's edges move as it grows. */
	memcpy(edges, diagram_edges(builder, node, &count), count * sizeof(*edges));
	for (uint32_t i = 0; i < count; i++)
		edges[i].child = select_outcome(walk, edges[i].child, outcome);
	known = diagram_node(builder, level, edges, count);
	tuples_put(walk->diff->arena, &walk->selected, &key, known);
	return known;
}

static void add_leaves(struct walk *walk, node_id node, struct table *seen, struct outcome_set *set)
{
	const struct diagram *builder = walk->diff->builder;
	uint32_t count;
	if (table_put(seen, arena_printf(walk->diff->arena, "%x", node), seen))
		return;
	if (!diagram_is_terminal(node)) {
		const struct diagram_edge *edges = diagram_edges(builder, node, &count);
		for (uint32_t i = 0; i < count; i++)
			add_leaves(walk, edges[i].child, seen, set);
		return;
	}
	if (diagram_terminal(builder, node) == DIAGRAM_NO_VALUE)
		return;
	const struct leaf *leaf = &walk->leaves.at[diagram_terminal(builder, node) - 1];
	for (size_t i = 0; i < leaf->found.len; i++) {
		uint32_t *more = arena_alloc(walk->diff->arena, (set->count + 1) * sizeof(*more));
		bool has = false;
		for (uint32_t k = 0; k < set->count; k++) {
			more[k] = set->at[k];
			has |= more[k] == leaf->found.at[i].outcome;
		}
		more[set->count] = leaf->found.at[i].outcome;
		if (!has)
			*set = (struct outcome_set){more, set->count + 1};
	}
}

struct product {
	node_id sources;
	enum verified verified;
	struct diff_ports ports;
};
struct products {
	VEC(struct product) at;
};

/* SOURCES, by what they have to show for it. */
static node_id sources_that(struct diff *diff, node_id sources, enum verified verified)
{
	struct diagram *builder = diff->builder;
	node_id plain = diagram_where_verified(builder, sources, false);
	node_id shown = diagram_where_verified(builder, sources, true);
	if (plain == shown)
		return verified == VERIFIED_UNSAID ? plain : diagram_no(builder);
	return verified == VERIFIED_UNSAID ? diagram_apply(builder, DIAGRAM_AND, plain, shown)
	       : verified == VERIFIED_YES  ? diagram_apply(builder, DIAGRAM_AND_NOT, shown, plain)
					   : diagram_apply(builder, DIAGRAM_AND_NOT, plain, shown);
}

static void add_sources(struct diff *diff, struct products *products, node_id sources, enum verified verified, bool udp,
			uint32_t lo, uint32_t hi)
{
	struct product *product = NULL;
	if (sources == diagram_no(diff->builder) || !hi)
		return;
	for (size_t i = 0; i < products->at.len && !product; i++)
		if (products->at.at[i].sources == sources && products->at.at[i].verified == verified)
			product = &products->at.at[i];
	if (!product) {
		vec_push(diff->arena, &products->at, (struct product){.sources = sources, .verified = verified});
		product = &products->at.at[products->at.len - 1];
	}
	struct range range = {lo ? lo : 1, hi};
	if (udp)
		vec_push(diff->arena, &product->ports.udp, range);
	else
		vec_push(diff->arena, &product->ports.tcp, range);
}

static void add_range(struct diff *diff, struct products *products, node_id sources, bool udp, uint32_t lo, uint32_t hi)
{
	for (enum verified verified = VERIFIED_UNSAID; verified <= VERIFIED_YES; verified++)
		add_sources(diff, products, sources_that(diff, sources, verified), verified, udp, lo, hi);
}

/* The sources on each port. */
static struct products products_of(struct diff *diff, node_id node)
{
	const struct diagram *builder = diff->builder;
	struct products products = {0};
	uint32_t protocols = 0, ports = 0;
	struct diagram_edge whole = {1, node};
	bool split = !diagram_is_terminal(node) && diagram_level(builder, node) == LEVEL_PROTOCOL;
	const struct diagram_edge *by_protocol = split ? diagram_edges(builder, node, &protocols) : &whole;
	for (uint32_t protocol = 0; protocol < 2; protocol++) {
		node_id child = by_protocol[split && by_protocol[0].hi < protocol].child;
		struct diagram_edge all = {LAST_PORT, child};
		bool has = !diagram_is_terminal(child) && diagram_level(builder, child) == LEVEL_PORT;
		const struct diagram_edge *by_port = has ? diagram_edges(builder, child, &ports) : &all;
		for (uint32_t i = 0, lo = 0; i < (has ? ports : 1); lo = by_port[i++].hi + 1)
			add_range(diff, &products, by_port[i].child, protocol, lo, by_port[i].hi);
	}
	return products;
}

/* How many classes lie in SOURCES somewhere: two digits of 256. */
static uint64_t count_sources(const struct diff *diff, node_id sources, uint32_t level)
{
	struct diagram_edge whole = {255, sources};
	uint32_t count = 1;
	uint64_t sum = 0;
	if (sources == diagram_no(diff->builder))
		return 0;
	if (level > LEVEL_SRC_LOW)
		return 1;
	bool here = !diagram_is_terminal(sources) && diagram_level(diff->builder, sources) == level;
	const struct diagram_edge *edges = here ? diagram_edges(diff->builder, sources, &count) : &whole;
	for (uint32_t i = 0, lo = 0; i < count; lo = edges[i++].hi + 1)
		sum += (edges[i].hi - lo + 1) * count_sources(diff, edges[i].child, level + 1);
	return sum;
}

static node_id descend(const struct diff *diff, node_id node, const uint32_t *values, uint32_t levels)
{
	while (!diagram_is_terminal(node) && diagram_level(diff->builder, node) < levels) {
		uint32_t count;
		const struct diagram_edge *edge = diagram_edges(diff->builder, node, &count);
		while (edge->hi < values[diagram_level(diff->builder, node)])
			edge++;
		node = edge->child;
	}
	return node;
}

node_id diff_blocks_of(const struct diff *diff, node_id sources, uint32_t class)
{
	const uint32_t values[] = {0, 0, class >> 8, class & 255};
	return descend(diff, sources, values, LEVEL_BLOCK);
}

bool diff_has_block(const struct diff *diff, node_id blocks, uint32_t block)
{
	const uint32_t values[] = {0, 0, 0, 0, block};
	return descend(diff, blocks, values, LEVEL_VERIFIED) != diagram_no(diff->builder);
}

/* ---- Groups --------------------------------------------------------------------------------------------- */

struct grouping {
	struct walk *walk;
	struct table index; /* of groups, by outcome, sources and ports */
	node_id *roots;	    /* by target */
};

static const char *ports_key(struct arena *arena, const struct diff_ports *ports)
{
	const char *key = "";
	for (size_t i = 0; i < ports->tcp.len; i++)
		key = arena_printf(arena, "%s %x-%x", key, ports->tcp.at[i].lo, ports->tcp.at[i].hi);
	for (size_t i = 0; i < ports->udp.len; i++)
		key = arena_printf(arena, "%s u%x-%x", key, ports->udp.at[i].lo, ports->udp.at[i].hi);
	return key;
}

static void add_product(struct grouping *grouping, uint32_t target, uint32_t outcome, const struct product *product)
{
	struct diff *diff = grouping->walk->diff;
	bool moved = diff->outcomes.at[outcome].change == DIFF_MOVED; /* shares are of one service */
	const char *key = arena_printf(diff->arena, "%u %x %u%s %u", outcome, product->sources, product->verified,
				       ports_key(diff->arena, &product->ports), moved ? target : 0);
	uintptr_t known = (uintptr_t)table_get(&grouping->index, key);
	if (!known) {
		struct diff_group group = {.outcome = diff->outcomes.at[outcome],
					   .number = outcome,
					   .sources = product->sources,
					   .verified = product->verified,
					   .ports = product->ports,
					   .exact = true};
		group.sample.sources = product->sources;
		group.sample.target = target;
		group.sample.ports = product->ports;
		vec_push(diff->arena, &diff->groups, group);
		known = diff->groups.len;
		table_put(&grouping->index, key, (void *)known);
	}
	vec_push(diff->arena, &diff->groups.at[known - 1].targets, target);
}

static void group_target(struct grouping *grouping, uint32_t target)
{
	struct walk *walk = grouping->walk;
	struct diff *diff = walk->diff;
	struct table seen = {.arena = diff->arena};
	struct outcome_set outcomes = {0};
	node_id root = grouping->roots[target];
	if (root == diagram_no(diff->builder))
		return;
	add_leaves(walk, root, &seen, &outcomes);
	for (uint32_t i = 0; i < outcomes.count; i++) {
		node_id node = select_outcome(walk, root, outcomes.at[i]);
		struct products products =
			products_of(diff, diagram_apply(diff->builder, DIAGRAM_AND, node, diff->everyone));
		for (size_t k = 0; k < products.at.len; k++)
			add_product(grouping, target, outcomes.at[i], &products.at.at[k]);
	}
}

/* The strings of the leaf that the witness comes to. */
static void take_texts(struct grouping *grouping, struct diff_group *group)
{
	struct walk *walk = grouping->walk;
	struct diff *diff = walk->diff;
	struct diff_witness *witness = &group->witness;
	const uint32_t values[] = {witness->udp,	  witness->port,  witness->source >> 8,
				   witness->source & 255, witness->block, group->verified == VERIFIED_YES};
	const struct pair_target *target = &diff->pair->targets.at[witness->target];
	const struct diagram_fields *fields = walk->contexts.at[context_of(walk, target, true)].fields;
	node_id node = descend(diff, grouping->roots[witness->target], values, LEVEL_STRING);
	const struct leaf *leaf = &walk->leaves.at[diagram_terminal(diff->builder, node) - 1];
	for (size_t i = 0; i < leaf->found.len; i++) {
		if (leaf->found.at[i].outcome != group->number)
			continue;
		for (uint32_t k = 0; leaf->found.at[i].texts && k < fields->count; k++)
			if (leaf->found.at[i].texts[k])
				vec_push(diff->arena, &witness->texts,
					 (struct diff_text){fields->at[k].field, fields->at[k].key,
							    leaf->found.at[i].texts[k]});
	}
	witness->http = group->outcome.l7;
	witness->malformed = group->outcome.by[OLD] == DIFF_MALFORMED || group->outcome.by[NEW] == DIFF_MALFORMED;
}

static void add_ports(struct arena *arena, struct diff_ports *into, const struct diff_ports *ports)
{
	for (size_t i = 0; i < ports->tcp.len; i++)
		vec_push(arena, &into->tcp, ports->tcp.at[i]);
	for (size_t i = 0; i < ports->udp.len; i++)
		vec_push(arena, &into->udp, ports->udp.at[i]);
}

static void absorb(struct diff *diff, struct diff_group *into, const struct diff_group *group)
{
	into->exact = false;
	into->sources = diagram_apply(diff->builder, DIAGRAM_MIN, into->sources, group->sources);
	for (size_t i = 0; i < group->targets.len; i++)
		vec_push(diff->arena, &into->targets, group->targets.at[i]);
	add_ports(diff->arena, &into->ports, &group->ports);
	into->ports.tcp.len = merge_ranges(into->ports.tcp.at, into->ports.tcp.len);
	into->ports.udp.len = merge_ranges(into->ports.udp.at, into->ports.udp.len);
	into->count += group->count;
}

static int number_compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return a < b ? -1 : a > b;
}

static void sort_targets(struct diff_group *group)
{
	size_t kept = 0;
	qsort(group->targets.at, group->targets.len, sizeof(*group->targets.at), number_compare);
	for (size_t i = 0; i < group->targets.len; i++)
		if (!kept || group->targets.at[kept - 1] != group->targets.at[i])
			group->targets.at[kept++] = group->targets.at[i];
	group->targets.len = kept;
}

/* Many products of one outcome would hide what happened: they are told as one. */
static void join_groups(struct diff *diff)
{
	size_t kept = 0;
	/* By outcome and what is shown. */
	uint32_t *same = arena_alloc(diff->arena, (diff->outcomes.len * 3 + 1) * sizeof(*same));
	size_t *first = arena_alloc(diff->arena, (diff->outcomes.len * 3 + 1) * sizeof(*first));
	for (size_t i = 0; i < diff->groups.len; i++)
		same[diff->groups.at[i].number * 3 + diff->groups.at[i].verified]++;
	for (size_t i = 0; i < diff->groups.len; i++) {
		struct diff_group group = diff->groups.at[i];
		uint32_t kind = group.number * 3 + group.verified;
		bool many = same[kind] > PRODUCTS_MOST && group.outcome.change != DIFF_MOVED;
		/* The sample keeps its own: others are merged into these in place. */
		group.ports = (struct diff_ports){0};
		add_ports(diff->arena, &group.ports, &group.sample.ports);
		if (many && first[kind]) {
			absorb(diff, &diff->groups.at[first[kind] - 1], &group);
			continue;
		}
		diff->groups.at[kept++] = group;
		first[kind] = kept;
	}
	diff->groups.len = kept;
	for (size_t i = 0; i < kept; i++)
		sort_targets(&diff->groups.at[i]);
}

static const char *by_name(struct diff *diff, enum side side, uint32_t by)
{
	if (by >= DIFF_MALFORMED)
		return "";
	return diff->pair->runs[side]->policy->rules.at[by >= TERMINAL_ALLOW ? by - TERMINAL_ALLOW : by].name;
}

static int group_compare(const void *left, const void *right, void *diff)
{
	const struct diff_group *a = left, *b = right;
	int by = (int)a->outcome.change - (int)b->outcome.change;
	for (int side = SIDES - 1; side >= 0 && !by && a->outcome.change <= DIFF_NARROWED; side--)
		by = strcmp(by_name(diff, side, a->outcome.by[side]), by_name(diff, side, b->outcome.by[side]));
	if (by || a->targets.at[0] != b->targets.at[0])
		return by ? by : a->targets.at[0] < b->targets.at[0] ? -1 : 1;
	if (a->outcome.l7 != b->outcome.l7)
		return a->outcome.l7 - b->outcome.l7;
	if (a->verified != b->verified)
		return (int)a->verified - (int)b->verified;
	for (int side = 0; side < SIDES; side++)
		if (a->outcome.by[side] != b->outcome.by[side])
			return a->outcome.by[side] < b->outcome.by[side] ? -1 : 1;
	return a->sources < b->sources ? -1 : a->sources > b->sources;
}

static void group_all(struct walk *walk, node_id *roots)
{
	struct diff *diff = walk->diff;
	struct grouping grouping = {.walk = walk, .index = {.arena = diff->arena}, .roots = roots};
	for (uint32_t i = 0; i < diff->pair->targets.len; i++)
		group_target(&grouping, i);
	for (size_t i = 0; i < diff->groups.len; i++)
		diff->groups.at[i].count = count_sources(diff, diff->groups.at[i].sources, LEVEL_SRC_HIGH) *
					   diff->groups.at[i].targets.len;
	join_groups(diff);
	for (size_t i = 0; i < diff->groups.len; i++) {
		diff_choose(diff, &diff->groups.at[i]);
		take_texts(&grouping, &diff->groups.at[i]);
	}
	if (diff->groups.len)
		qsort_r(diff->groups.at, diff->groups.len, sizeof(*diff->groups.at), group_compare, diff);
}

/* ---- All of it --------------------------------------------------------------------------------------------- */

/* Nobody is of no class, and a workload of two services is not one source but denied where it is asked for. */
static node_id everyone(struct diff *diff)
{
	static struct range classes[2] = {{CLASS_WORLD, CLASS_OTHER}}, blocks;
	struct policy_sources sources = {0};
	uint32_t last = diff->pair->sources.len - 1;
	classes[1] = (struct range){CLASS_CONFLICT + 1, last};
	blocks.hi = diff->pair->runs[NEW]->policy->blocks - 1;
	struct policy_rect rect = {{classes, last > CLASS_CONFLICT ? 2 : 1}, {&blocks, 1}};
	vec_push(diff->arena, &sources.in, rect);
	return diagram_sources(diff->builder, &sources);
}

int diff_make(struct pair *pair, struct diff *ret_diff)
{
	struct arena *arena = pair->arena;
	*ret_diff =
		(struct diff){.arena = arena, .pair = pair, .builder = diagram_create(arena, pair->runs[NEW]->policy)};
	struct walk walk = {.diff = ret_diff, .outcome_index = {.arena = arena}, .witnesses = witnesses_create(arena)};
	node_id *roots = arena_alloc(arena, (pair->targets.len + 1) * sizeof(*roots));
	for (int i = 0; i < WALK_NODES; i++)
		walk.diagrams[i] = pair->diagrams[i % SIDES];
	ret_diff->everyone = everyone(ret_diff);
	number_shares(&walk);
	for (uint32_t i = 0; i < pair->targets.len; i++) {
		bool gave_up = ret_diff->gave_up;
		roots[i] = build_target(&walk, &pair->targets.at[i]);
		if (!gave_up && ret_diff->gave_up)
			ret_diff->where = pair->targets.at[i].name;
	}
	if (ret_diff->gave_up || diagram_over(ret_diff->builder))
		return -E2BIG;
	group_all(&walk, roots);
	diff_mtls(ret_diff);
	diff_definitions(ret_diff);
	diff_notes(ret_diff);
	return 0;
}
