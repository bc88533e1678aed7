/* Nodes, hash-consed: equal subgraphs are one node, so that equality is a comparison of numbers. */
#include "ir/diagram_build.h"

#include "base/table.h"

#include <stdlib.h>

#define TERMINAL_BIT 0x80000000u
#define NOTHING 0xffffffffu

struct node {
	uint32_t level, first, count; /* edges */
};
struct memo {
	uint32_t op, a, b;
	node_id result;
};
struct hashed { /* open addressing, a power of two of slots; 0: free, else index + 1 */
	uint32_t *at;
	size_t len, cap;
};
struct audit_set {
	uint32_t *ranks;
	uint32_t count;
};

struct diagram {
	struct arena *arena;
	const struct policy *policy;
	VEC(struct node) nodes;
	VEC(struct diagram_edge) edges;
	VEC(uint32_t) terminals;
	VEC(struct memo) memos;
	VEC(struct audit_set) audits;
	struct hashed node_index, terminal_index, memo_index, audit_index;
	struct diagram_dst *dsts;
	size_t work;
	bool over;
	node_id *sources; /* by rank: see diagram_sources_of */
	struct diagram_mtls mtls;
};

static uint64_t mix(uint64_t hash, uint64_t word)
{
	/* The finaliser of MurmurHash3 (Appleby, public domain). */
	hash ^= word;
	hash *= 0xff51afd7ed558ccdu;
	return hash ^ (hash >> 33);
}

/* ---- Hashed indices ----------------------------------------------------------------------------- */

static void hashed_put(struct hashed *index, uint64_t hash, uint32_t number)
{
	size_t i = hash & (index->cap - 1);
	while (index->at[i])
		i = (i + 1) & (index->cap - 1);
	index->at[i] = number + 1;
	index->len++;
}

/* Makes room for one more; true where the index is new and must be filled again. */
static bool hashed_grow(struct arena *arena, struct hashed *index)
{
	if (index->len * 4 < index->cap * 3)
		return false;
	*index = (struct hashed){.cap = index->cap ? index->cap * 4 : 1024};
	index->at = arena_alloc(arena, index->cap * sizeof(*index->at));
	return true;
}

static uint64_t hash_node(uint32_t level, const struct diagram_edge *edges, uint32_t count)
{
	uint64_t hash = mix(0x9e3779b97f4a7c15u, level);
	for (uint32_t i = 0; i < count; i++)
		hash = mix(hash, (uint64_t)edges[i].hi << 32 | edges[i].child);
	return hash;
}

static uint64_t hash_memo(uint32_t op, uint32_t a, uint32_t b)
{
	return mix(mix(op, a), (uint64_t)b << 17 | b);
}

static uint64_t hash_ranks(const uint32_t *ranks, uint32_t count)
{
	uint64_t hash = count;
	for (uint32_t i = 0; i < count; i++)
		hash = mix(hash, ranks[i]);
	return hash;
}

/* ---- Nodes -------------------------------------------------------------------------------------- */

struct diagram *diagram_create(struct arena *arena, const struct policy *policy)
{
	struct diagram *diagram = arena_alloc(arena, sizeof(*diagram));
	diagram->arena = arena;
	diagram->policy = policy;
	diagram->dsts = arena_alloc(arena, (policy->classes.len + 1) * sizeof(*diagram->dsts));
	diagram->sources = arena_alloc(arena, (policy->rules.len + 1) * sizeof(*diagram->sources));
	vec_push(arena, &diagram->audits, (struct audit_set){0});
	hashed_grow(arena, &diagram->audit_index);
	hashed_put(&diagram->audit_index, hash_ranks(NULL, 0), 0);
	return diagram;
}

struct diagram_dst *diagram_dst(const struct diagram *diagram, uint32_t dst)
{
	return &diagram->dsts[dst];
}

node_id *diagram_sources_of(struct diagram *diagram, uint32_t rank)
{
	return &diagram->sources[rank];
}

struct diagram_mtls *diagram_mtls(struct diagram *diagram)
{
	return &diagram->mtls;
}

struct arena *diagram_arena(const struct diagram *diagram)
{
	return diagram->arena;
}

const struct policy *diagram_policy(const struct diagram *diagram)
{
	return diagram->policy;
}

node_id diagram_leaf(struct diagram *diagram, uint32_t value)
{
	struct hashed *index = &diagram->terminal_index;
	if (hashed_grow(diagram->arena, index))
		for (size_t i = 0; i < diagram->terminals.len; i++)
			hashed_put(index, mix(1, diagram->terminals.at[i]), i);
	size_t i = mix(1, value) & (index->cap - 1);
	for (; index->at[i]; i = (i + 1) & (index->cap - 1))
		if (diagram->terminals.at[index->at[i] - 1] == value)
			return TERMINAL_BIT | (index->at[i] - 1);
	vec_push(diagram->arena, &diagram->terminals, value);
	hashed_put(index, mix(1, value), diagram->terminals.len - 1);
	return TERMINAL_BIT | (diagram->terminals.len - 1);
}

node_id diagram_yes(struct diagram *diagram)
{
	return diagram_leaf(diagram, DIAGRAM_YES_VALUE);
}

node_id diagram_no(struct diagram *diagram)
{
	return diagram_leaf(diagram, DIAGRAM_NO_VALUE);
}

static node_id node_intern(struct diagram *diagram, uint32_t level, const struct diagram_edge *edges, uint32_t count)
{
	struct hashed *index = &diagram->node_index;
	if (hashed_grow(diagram->arena, index))
		for (size_t i = 0; i < diagram->nodes.len; i++) {
			const struct node *node = &diagram->nodes.at[i];
			hashed_put(index, hash_node(node->level, &diagram->edges.at[node->first], node->count), i);
		}
	uint64_t hash = hash_node(level, edges, count);
	for (size_t i = hash & (index->cap - 1); index->at[i]; i = (i + 1) & (index->cap - 1)) {
		const struct node *node = &diagram->nodes.at[index->at[i] - 1];
		if (node->level == level && node->count == count &&
		    memcmp(&diagram->edges.at[node->first], edges, count * sizeof(*edges)) == 0)
			return index->at[i] - 1;
	}
	if (diagram->edges.len + count > DIAGRAM_LIMIT_EDGES) {
		diagram->over = true;
		return diagram_no(diagram);
	}
	struct node node = {.level = level, .first = diagram->edges.len, .count = count};
	for (uint32_t i = 0; i < count; i++)
		vec_push(diagram->arena, &diagram->edges, edges[i]);
	vec_push(diagram->arena, &diagram->nodes, node);
	hashed_put(index, hash, diagram->nodes.len - 1);
	return diagram->nodes.len - 1;
}

/* Edges as they are collected: neighbours of one child are joined. */
struct collector {
	struct diagram_edge *at, few[64];
	uint32_t len, cap;
};

static void collect(struct collector *edges, uint32_t hi, node_id child)
{
	if (edges->len && edges->at[edges->len - 1].child == child) {
		edges->at[edges->len - 1].hi = hi;
		return;
	}
	if (edges->len == edges->cap) {
		struct diagram_edge *more = malloc(2 * edges->cap * sizeof(*more));
		if (!more)
			abort();
		memcpy(more, edges->at, edges->len * sizeof(*more));
		if (edges->at != edges->few)
			free(edges->at);
		edges->at = more;
		edges->cap *= 2;
	}
	edges->at[edges->len++] = (struct diagram_edge){hi, child};
}

static node_id collected(struct diagram *diagram, uint32_t level, struct collector *edges)
{
	node_id node = edges->len == 1 ? edges->at[0].child : node_intern(diagram, level, edges->at, edges->len);
	if (edges->at != edges->few)
		free(edges->at);
	return node;
}

#define COLLECTOR(name)                                                                                                \
	struct collector name;                                                                                         \
	name.at = name.few;                                                                                            \
	name.len = 0;                                                                                                  \
	name.cap = 64

node_id diagram_node(struct diagram *diagram, uint32_t level, const struct diagram_edge *edges, uint32_t count)
{
	COLLECTOR(list);
	for (uint32_t i = 0; i < count; i++)
		collect(&list, edges[i].hi, edges[i].child);
	return collected(diagram, level, &list);
}

node_id diagram_member(struct diagram *diagram, uint32_t level, const struct range_set *set, uint32_t last)
{
	node_id yes = diagram_yes(diagram), no = diagram_no(diagram);
	uint32_t next = 0; /* the first value that has no edge yet */
	COLLECTOR(list);
	for (uint32_t i = 0; i < set->count && set->at[i].lo <= last; i++) {
		uint32_t hi = set->at[i].hi < last ? set->at[i].hi : last;
		if (set->at[i].lo > next)
			collect(&list, set->at[i].lo - 1, no);
		collect(&list, hi, yes);
		next = hi + 1;
	}
	if (next <= last)
		collect(&list, last, no);
	return collected(diagram, level, &list);
}

/* ---- Reading ------------------------------------------------------------------------------------ */

bool diagram_is_terminal(node_id node)
{
	return node & TERMINAL_BIT;
}

uint32_t diagram_terminal(const struct diagram *diagram, node_id node)
{
	return diagram->terminals.at[node & ~TERMINAL_BIT];
}

uint32_t diagram_level(const struct diagram *diagram, node_id node)
{
	return diagram->nodes.at[node].level;
}

const struct diagram_edge *diagram_edges(const struct diagram *diagram, node_id node, uint32_t *ret_count)
{
	*ret_count = diagram->nodes.at[node].count;
	return &diagram->edges.at[diagram->nodes.at[node].first];
}

bool diagram_has_l7(const struct diagram *diagram, node_id node)
{
	if (diagram_is_terminal(node))
		return false;
	const struct node *at = &diagram->nodes.at[node];
	if (at->level >= LEVEL_STRING)
		return true;
	for (uint32_t i = 0; i < at->count; i++)
		if (diagram_has_l7(diagram, diagram->edges.at[at->first + i].child))
			return true;
	return false;
}

size_t diagram_nodes(const struct diagram *diagram)
{
	return diagram->nodes.len;
}

node_id diagram_root(const struct diagram *diagram, enum diagram_kind kind, uint32_t dst)
{
	return diagram->dsts[dst].roots[kind];
}

bool diagram_over(const struct diagram *diagram)
{
	return diagram->over;
}

/* ---- Audit sets --------------------------------------------------------------------------------- */

static uint32_t audit_intern(struct diagram *diagram, const uint32_t *ranks, uint32_t count)
{
	struct hashed *index = &diagram->audit_index;
	if (hashed_grow(diagram->arena, index))
		for (size_t i = 0; i < diagram->audits.len; i++)
			hashed_put(index, hash_ranks(diagram->audits.at[i].ranks, diagram->audits.at[i].count), i);
	uint64_t hash = hash_ranks(ranks, count);
	for (size_t i = hash & (index->cap - 1); index->at[i]; i = (i + 1) & (index->cap - 1)) {
		const struct audit_set *set = &diagram->audits.at[index->at[i] - 1];
		if (set->count == count && (!count || memcmp(set->ranks, ranks, count * sizeof(*ranks)) == 0))
			return index->at[i] - 1;
	}
	struct audit_set set = {arena_alloc(diagram->arena, count * sizeof(*ranks)), count};
	memcpy(set.ranks, ranks, count * sizeof(*ranks));
	vec_push(diagram->arena, &diagram->audits, set);
	hashed_put(index, hash, diagram->audits.len - 1);
	return diagram->audits.len - 1;
}

uint32_t diagram_audit_single(struct diagram *diagram, uint32_t rank)
{
	return audit_intern(diagram, &rank, 1);
}

static uint32_t audit_union(struct diagram *diagram, uint32_t left, uint32_t right)
{
	const struct audit_set a = diagram->audits.at[left], b = diagram->audits.at[right];
	uint32_t *ranks = arena_alloc(diagram->arena, (a.count + b.count) * sizeof(*ranks)), count = 0;
	for (uint32_t i = 0, k = 0; i < a.count || k < b.count;) {
		bool from_a = k == b.count || (i < a.count && a.ranks[i] <= b.ranks[k]);
		uint32_t rank = from_a ? a.ranks[i++] : b.ranks[k++];
		if (!count || ranks[count - 1] != rank)
			ranks[count++] = rank;
	}
	return audit_intern(diagram, ranks, count);
}

const uint32_t *diagram_audit_set(const struct diagram *diagram, uint32_t set, uint32_t *ret_count)
{
	*ret_count = diagram->audits.at[set].count;
	return diagram->audits.at[set].ranks;
}

uint32_t diagram_audit_sets(const struct diagram *diagram)
{
	return diagram->audits.len;
}

/* ---- Apply -------------------------------------------------------------------------------------- */

static bool memo_find(struct diagram *diagram, uint32_t op, node_id a, node_id b, node_id *ret_result)
{
	struct hashed *index = &diagram->memo_index;
	if (hashed_grow(diagram->arena, index))
		for (size_t i = 0; i < diagram->memos.len; i++)
			hashed_put(index,
				   hash_memo(diagram->memos.at[i].op, diagram->memos.at[i].a, diagram->memos.at[i].b),
				   i);
	for (size_t i = hash_memo(op, a, b) & (index->cap - 1); index->at[i]; i = (i + 1) & (index->cap - 1)) {
		const struct memo *memo = &diagram->memos.at[index->at[i] - 1];
		if (memo->op == op && memo->a == a && memo->b == b) {
			*ret_result = memo->result;
			return true;
		}
	}
	return false;
}

static node_id memo_keep(struct diagram *diagram, uint32_t op, node_id a, node_id b, node_id result)
{
	vec_push(diagram->arena, &diagram->memos, (struct memo){op, a, b, result});
	hashed_put(&diagram->memo_index, hash_memo(op, a, b), diagram->memos.len - 1);
	return result;
}

/* Neither is the default. */
static uint32_t second_merge(uint32_t x, uint32_t y)
{
	uint32_t best = DIAGRAM_BEST(x) < DIAGRAM_BEST(y) ? x : y, other = best == x ? y : x;
	uint32_t next = DIAGRAM_BEST(other) < TERMINAL_ALLOW   ? DIAGRAM_NEXT_DENY
			: DIAGRAM_BEST(other) < DIAGRAM_HIDDEN ? DIAGRAM_NEXT_ALLOW
							       : DIAGRAM_NEXT_HIDDEN;
	return DIAGRAM_BEST(best) | (DIAGRAM_NEXT(best) > next ? DIAGRAM_NEXT(best) : next) << 26;
}

/* The result where it needs no walk, or NOTHING. */
static node_id apply_short(struct diagram *diagram, enum diagram_op op, node_id a, node_id b)
{
	uint32_t x = diagram_is_terminal(a) ? diagram_terminal(diagram, a) : NOTHING - 1;
	uint32_t y = diagram_is_terminal(b) ? diagram_terminal(diagram, b) : NOTHING - 1;
	bool both = diagram_is_terminal(a) && diagram_is_terminal(b);
	switch (op) {
	case DIAGRAM_MIN:
		if (a == b || y == DIAGRAM_NO_VALUE || x == 0)
			return a;
		if (x == DIAGRAM_NO_VALUE || y == 0)
			return b;
		return !both ? NOTHING : x < y ? a : b;
	case DIAGRAM_AND:
		if (a == b || x == DIAGRAM_NO_VALUE || y == DIAGRAM_YES_VALUE)
			return a;
		return y == DIAGRAM_NO_VALUE || x == DIAGRAM_YES_VALUE ? b : NOTHING;
	case DIAGRAM_AND_NOT:
		if (x == DIAGRAM_NO_VALUE || y == DIAGRAM_NO_VALUE)
			return a;
		return a == b || y == DIAGRAM_YES_VALUE ? diagram_no(diagram) : NOTHING;
	case DIAGRAM_UNION:
		if (a == b || y == 0)
			return a;
		if (x == 0)
			return b;
		return both ? diagram_leaf(diagram, audit_union(diagram, x, y)) : NOTHING;
	case DIAGRAM_SECOND:
		if (a == b || y == TERMINAL_DEFAULT)
			return a;
		if (x == TERMINAL_DEFAULT)
			return b;
		return both ? diagram_leaf(diagram, second_merge(x, y)) : NOTHING;
	}
	return NOTHING;
}

node_id diagram_apply(struct diagram *diagram, enum diagram_op op, node_id a, node_id b)
{
	if (op != DIAGRAM_AND_NOT && a > b) {
		node_id swap = a;
		a = b;
		b = swap;
	}
	node_id result = apply_short(diagram, op, a, b);
	if (result != NOTHING || memo_find(diagram, op, a, b, &result))
		return result;
	if (++diagram->work > DIAGRAM_LIMIT_WORK)
		diagram->over = true;
	if (diagram->over)
		return diagram_no(diagram);
	uint32_t level_a = diagram_is_terminal(a) ? NOTHING : diagram_level(diagram, a);
	uint32_t level_b = diagram_is_terminal(b) ? NOTHING : diagram_level(diagram, b);
	uint32_t level = level_a < level_b ? level_a : level_b;
	const struct node whole = {.count = 1};
	struct node x = level_a == level ? diagram->nodes.at[a] : whole;
	struct node y = level_b == level ? diagram->nodes.at[b] : whole;
	COLLECTOR(list);
	for (uint32_t i = 0, k = 0; i < x.count && k < y.count;) {
		/* Read anew each time: the array moves when it grows. */
		struct diagram_edge ea =
			level_a == level ? diagram->edges.at[x.first + i] : (struct diagram_edge){NOTHING, a};
		struct diagram_edge eb =
			level_b == level ? diagram->edges.at[y.first + k] : (struct diagram_edge){NOTHING, b};
		uint32_t hi = ea.hi < eb.hi ? ea.hi : eb.hi;
		collect(&list, hi, diagram_apply(diagram, op, ea.child, eb.child));
		i += ea.hi == hi;
		k += eb.hi == hi;
	}
	return memo_keep(diagram, op, a, b, collected(diagram, level, &list));
}

/* ---- One value of a level ------------------------------------------------------------------------- */

enum { OP_VERIFIED = 8 };

node_id diagram_where_verified(struct diagram *diagram, node_id node, bool verified)
{
	node_id result;
	uint32_t level = diagram_is_terminal(node) ? LEVEL_STRING : diagram_level(diagram, node);
	if (level > LEVEL_VERIFIED)
		return node;
	struct node at = diagram->nodes.at[node];
	if (level == LEVEL_VERIFIED)
		return diagram->edges.at[at.first + verified].child;
	if (memo_find(diagram, OP_VERIFIED, node, verified, &result))
		return result;
	COLLECTOR(list);
	for (uint32_t i = 0; i < at.count; i++) {
		struct diagram_edge edge = diagram->edges.at[at.first + i];
		collect(&list, edge.hi, diagram_where_verified(diagram, edge.child, verified));
	}
	return memo_keep(diagram, OP_VERIFIED, node, verified, collected(diagram, level, &list));
}

/* ---- Label -------------------------------------------------------------------------------------- */

enum { OP_LABEL = 16 };

static node_id label(struct diagram *diagram, node_id node, node_id yes, node_id no, uint32_t op)
{
	node_id result;
	if (diagram_is_terminal(node))
		return diagram_terminal(diagram, node) == DIAGRAM_NO_VALUE ? no : yes;
	if (memo_find(diagram, op, node, yes, &result))
		return result;
	struct node at = diagram->nodes.at[node];
	COLLECTOR(list);
	for (uint32_t i = 0; i < at.count; i++) {
		struct diagram_edge edge = diagram->edges.at[at.first + i];
		collect(&list, edge.hi, label(diagram, edge.child, yes, no, op));
	}
	return memo_keep(diagram, op, node, yes, collected(diagram, at.level, &list));
}

node_id diagram_label(struct diagram *diagram, node_id node, uint32_t yes, uint32_t no)
{
	node_id no_leaf = diagram_leaf(diagram, no);
	return label(diagram, node, diagram_leaf(diagram, yes), no_leaf, OP_LABEL + (no_leaf & ~TERMINAL_BIT));
}
