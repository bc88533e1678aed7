/* One pattern: its tree, the NFA of it (Thompson), the DFA of that (subsets), the least one (Hopcroft). */
#include "ir/lists.h"
#include "ir/pattern.h"

#include <errno.h>
#include <stdlib.h>

enum {
	NODE_LIMIT = 1 << 17,			   /* of an NFA */
	SUBSET_LIMIT = AUTOMATON_LIMIT_SINGLE * 4, /* states before they are merged */
	CELL_LIMIT = 1 << 22,
	WORK_LIMIT = 1 << 26,
};

/* ---- Trees -------------------------------------------------------------------------------------- */

struct tree *tree_make(struct arena *arena, enum tree_kind kind)
{
	struct tree *tree = arena_alloc(arena, sizeof(*tree));
	tree->kind = kind;
	return tree;
}

struct tree *tree_set(struct arena *arena, struct byte_set set)
{
	struct tree *tree = tree_make(arena, TREE_SET);
	tree->set = set;
	return tree;
}

void tree_add(struct arena *arena, struct tree *tree, struct tree *part)
{
	vec_push(arena, &tree->parts, part);
}

static struct tree *tree_byte(struct arena *arena, unsigned char byte, bool fold)
{
	struct byte_set set = {0};
	byte_set_add(&set, byte, byte);
	if (fold)
		byte_set_fold(&set);
	return tree_set(arena, set);
}

static struct tree *tree_run(struct arena *arena, bool any)
{
	struct tree *run = tree_make(arena, TREE_REPEAT);
	struct byte_set set = {0};
	if (!any)
		byte_set_add(&set, '/', '/');
	byte_set_flip(&set);
	run->max = TREE_FOREVER;
	tree_add(arena, run, tree_set(arena, set));
	return run;
}

static struct tree *read_like(struct arena *arena, const char *text, bool fold, const char **ret_why)
{
	struct tree *cat = tree_make(arena, TREE_CAT);
	for (const char *c = text; *c; c++) {
		if (*c == '*') {
			size_t stars = strspn(c, "*");
			tree_add(arena, cat, tree_run(arena, stars > 1));
			c += stars - 1;
			continue;
		}
		if (*c == '\\' && c[1] != '*' && c[1] != '\\') {
			*ret_why = arena_printf(arena, "at byte %zu: a backslash stands before a star or a backslash",
						(size_t)(c - text));
			return NULL;
		}
		c += *c == '\\';
		tree_add(arena, cat, tree_byte(arena, *c, fold));
	}
	return cat;
}

static struct tree *read_exact(struct arena *arena, const char *text, bool fold)
{
	struct tree *cat = tree_make(arena, TREE_CAT);
	for (const char *c = text; *c; c++)
		tree_add(arena, cat, tree_byte(arena, *c, fold));
	return cat;
}

/* ---- Tree to NFA -------------------------------------------------------------------------------- */

#define NODE_SPLIT UINT32_MAX
#define NODE_MATCH (UINT32_MAX - 1)

struct node {
	uint32_t set;	     /* which byte it takes, or one of the above */
	uint32_t out, other; /* other: SPLIT alone */
};

struct maker {
	struct arena *arena;
	VEC(struct node) nodes;
	VEC(struct byte_set) sets;
	uint64_t work;
	bool over;
	uint8_t class_of[256];
	uint8_t first[256]; /* by class: a byte of it */
	uint32_t classes;
	/* Subsets */
	struct lists states;
	VEC(uint32_t) next;
	uint32_t *seen, round; /* by node: the round in which it was last added */
	VEC(uint32_t) gathered, stack;
};

static bool spend(struct maker *maker, uint64_t steps)
{
	maker->work += steps;
	maker->over |= maker->work > WORK_LIMIT || maker->nodes.len > NODE_LIMIT;
	return !maker->over;
}

static uint32_t add_node(struct maker *maker, uint32_t set, uint32_t out, uint32_t other)
{
	vec_push(maker->arena, &maker->nodes, (struct node){set, out, other});
	return maker->nodes.len - 1;
}

/* The entry of TREE with what follows it at NEXT. The depth is that of the pattern's brackets. */
static uint32_t lay(struct maker *maker, struct tree *tree, uint32_t next);

static uint32_t lay_repeat(struct maker *maker, const struct tree *tree, uint32_t next)
{
	uint32_t entry = next;
	if (tree->max == TREE_FOREVER) {
		entry = add_node(maker, NODE_SPLIT, 0, next);
		uint32_t body = lay(maker, tree->parts.at[0], entry);
		maker->nodes.at[entry].out = body;
	} else {
		/* Nested, x{0,2} as (x(x)?)?: what can still come is what is left of the count. */
		for (uint32_t i = tree->min; i < tree->max && spend(maker, 1); i++)
			entry = add_node(maker, NODE_SPLIT, lay(maker, tree->parts.at[0], entry), next);
	}
	for (uint32_t i = 0; i < tree->min && spend(maker, 1); i++)
		entry = lay(maker, tree->parts.at[0], entry);
	return entry;
}

static uint32_t lay(struct maker *maker, struct tree *tree, uint32_t next)
{
	if (!spend(maker, 1))
		return next;
	switch (tree->kind) {
	case TREE_SET:
		if (!tree->number) {
			vec_push(maker->arena, &maker->sets, tree->set);
			tree->number = maker->sets.len;
		}
		return add_node(maker, tree->number - 1, next, 0);
	case TREE_CAT:
		for (size_t i = tree->parts.len; i-- > 0;)
			next = lay(maker, tree->parts.at[i], next);
		return next;
	case TREE_ALT: {
		uint32_t entry = lay(maker, tree->parts.at[tree->parts.len - 1], next);
		for (size_t i = tree->parts.len - 1; i-- > 0;) {
			uint32_t part = lay(maker, tree->parts.at[i], next);
			entry = add_node(maker, NODE_SPLIT, part, entry);
		}
		return entry;
	}
	case TREE_REPEAT:
		return lay_repeat(maker, tree, next);
	}
	return next;
}

/* Bytes that no set tells apart are one class; numbered by their first byte. */
static void classify(struct maker *maker)
{
	maker->classes = 1;
	for (size_t i = 0; i < maker->sets.len && maker->classes < 256; i++) {
		int16_t renamed[256][2];
		uint32_t count = 0;
		memset(renamed, 0xff, sizeof(renamed));
		for (unsigned byte = 0; byte < 256; byte++) {
			int16_t *name = &renamed[maker->class_of[byte]][byte_set_has(&maker->sets.at[i], byte)];
			if (*name < 0)
				*name = (int16_t)count++;
			maker->class_of[byte] = (uint8_t)*name;
		}
		maker->classes = count;
	}
	for (unsigned byte = 256; byte-- > 0;)
		maker->first[maker->class_of[byte]] = (uint8_t)byte;
}

/* ---- NFA to DFA --------------------------------------------------------------------------------- */

/* Adds the nodes that take a byte, or that match, reached from NODE without a byte. */
static void gather(struct maker *maker, uint32_t node)
{
	maker->stack.len = 0;
	vec_push(maker->arena, &maker->stack, node);
	while (maker->stack.len) {
		node = maker->stack.at[--maker->stack.len];
		if (maker->seen[node] == maker->round)
			continue;
		maker->seen[node] = maker->round;
		maker->work++;
		if (maker->nodes.at[node].set == NODE_SPLIT) {
			vec_push(maker->arena, &maker->stack, maker->nodes.at[node].other);
			vec_push(maker->arena, &maker->stack, maker->nodes.at[node].out);
		} else {
			vec_push(maker->arena, &maker->gathered, node);
		}
	}
}

static int number_compare(const void *left, const void *right)
{
	const uint32_t *a = left, *b = right;
	return *a < *b ? -1 : *a > *b;
}

static uint32_t put_gathered(struct maker *maker)
{
	if (maker->gathered.len > 1)
		qsort(maker->gathered.at, maker->gathered.len, sizeof(*maker->gathered.at), number_compare);
	return lists_put(&maker->states, maker->gathered.at, maker->gathered.len);
}

static uint32_t step(struct maker *maker, uint32_t state, uint8_t byte)
{
	uint32_t len;
	const uint32_t *nodes = lists_get(&maker->states, state, &len);
	maker->round++;
	maker->gathered.len = 0;
	for (uint32_t i = 0; i < len; i++) {
		const struct node *node = &maker->nodes.at[nodes[i]];
		if (node->set < NODE_MATCH && byte_set_has(&maker->sets.at[node->set], byte))
			gather(maker, node->out);
	}
	spend(maker, len + 1);
	return put_gathered(maker);
}

static void make_subsets(struct maker *maker, uint32_t start)
{
	maker->states.arena = maker->arena;
	maker->seen = arena_alloc(maker->arena, maker->nodes.len * sizeof(*maker->seen));
	maker->round = 1;
	gather(maker, start);
	put_gathered(maker);
	for (uint32_t state = 0; state < maker->states.all.len && !maker->over; state++) {
		for (uint32_t class = 0; class < maker->classes; class ++) {
			uint32_t next = step(maker, state, maker->first[class]);
			vec_push(maker->arena, &maker->next, next);
		}
		maker->over |= maker->states.all.len > SUBSET_LIMIT || maker->next.len > CELL_LIMIT;
	}
}

static bool state_accepts(const struct maker *maker, uint32_t state)
{
	uint32_t len;
	const uint32_t *nodes = lists_get(&maker->states, state, &len);
	for (uint32_t i = 0; i < len; i++)
		if (maker->nodes.at[nodes[i]].set == NODE_MATCH)
			return true;
	return false;
}

/* ---- The least DFA (Hopcroft 1971) -------------------------------------------------------------- */

struct blocks {
	struct arena *arena;
	uint32_t states, classes, count;
	uint32_t *sorted, *place;	/* states by block, and where each lies */
	uint32_t *block;		/* by state */
	uint32_t *first, *end, *marked; /* by block: its stretch of `sorted`; the marked ones come first */
	uint32_t *from, *from_at;	/* states by target, for each class; where those of a target begin */
	VEC(uint64_t) work;
	VEC(uint32_t) touched, before;
};

static void invert(struct blocks *blocks, const uint32_t *next)
{
	uint32_t n = blocks->states, k = blocks->classes;
	blocks->from = arena_alloc(blocks->arena, ((size_t)n * k + 1) * sizeof(uint32_t));
	blocks->from_at = arena_alloc(blocks->arena, ((size_t)n + 1) * k * sizeof(uint32_t));
	for (uint32_t c = 0; c < k; c++) {
		uint32_t *at = blocks->from_at + (size_t)c * (n + 1), *from = blocks->from + (size_t)c * n;
		for (uint32_t s = 0; s < n; s++)
			at[next[(size_t)s * k + c] + 1]++;
		for (uint32_t s = 0; s < n; s++)
			at[s + 1] += at[s];
		for (uint32_t s = n; s-- > 0;)
			from[--at[next[(size_t)s * k + c] + 1]] = s;
		/* Each at[t + 1] has moved to its target's first: shift back by one. */
		memmove(at, at + 1, n * sizeof(*at));
		at[n] = n;
	}
}

static void wait_for(struct blocks *blocks, uint32_t block, uint32_t class)
{
	vec_push(blocks->arena, &blocks->work, (uint64_t)block << 32 | class);
}

static void mark(struct blocks *blocks, uint32_t state)
{
	uint32_t block = blocks->block[state], to = blocks->first[block] + blocks->marked[block],
		 was = blocks->place[state];
	uint32_t other = blocks->sorted[to];
	if (!blocks->marked[block]++)
		vec_push(blocks->arena, &blocks->touched, block);
	blocks->sorted[to] = state;
	blocks->place[state] = to;
	blocks->sorted[was] = other;
	blocks->place[other] = was;
}

/* The marked part of BLOCK leaves it; the smaller part gets the new number. */
static void split(struct blocks *blocks, uint32_t block)
{
	uint32_t middle = blocks->first[block] + blocks->marked[block], fresh = blocks->count;
	blocks->marked[block] = 0;
	if (middle == blocks->end[block])
		return;
	if (middle - blocks->first[block] <= blocks->end[block] - middle) {
		blocks->first[fresh] = blocks->first[block];
		blocks->end[fresh] = blocks->first[block] = middle;
	} else {
		blocks->first[fresh] = middle;
		blocks->end[fresh] = blocks->end[block];
		blocks->end[block] = middle;
	}
	blocks->count++;
	for (uint32_t i = blocks->first[fresh]; i < blocks->end[fresh]; i++)
		blocks->block[blocks->sorted[i]] = fresh;
	/* Where BLOCK waits, it still does, for the rest; where not, the smaller part is enough. */
	for (uint32_t class = 0; class < blocks->classes; class ++)
		wait_for(blocks, fresh, class);
}

static void refine(struct blocks *blocks)
{
	while (blocks->work.len) {
		uint64_t item = blocks->work.at[--blocks->work.len];
		uint32_t block = item >> 32, class = (uint32_t)item;
		const uint32_t *at = blocks->from_at + (size_t)class * (blocks->states + 1);
		const uint32_t *from = blocks->from + (size_t)class * blocks->states;
		blocks->before.len = blocks->touched.len = 0;
		for (uint32_t i = blocks->first[block]; i < blocks->end[block]; i++)
			for (uint32_t k = at[blocks->sorted[i]]; k < at[blocks->sorted[i] + 1]; k++)
				vec_push(blocks->arena, &blocks->before, from[k]);
		for (size_t i = 0; i < blocks->before.len; i++)
			mark(blocks, blocks->before.at[i]);
		for (size_t i = 0; i < blocks->touched.len; i++)
			split(blocks, blocks->touched.at[i]);
	}
}

static void blocks_begin(struct blocks *blocks, const uint32_t *next, const bool *accept)
{
	uint32_t n = blocks->states, lo = 0, hi = n;
	uint32_t **arrays[] = {&blocks->sorted, &blocks->place, &blocks->block,
			       &blocks->first,	&blocks->end,	&blocks->marked};
	for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++)
		*arrays[i] = arena_alloc(blocks->arena, ((size_t)n + 1) * sizeof(uint32_t));
	invert(blocks, next);
	for (uint32_t s = 0; s < n; s++)
		blocks->sorted[accept[s] ? --hi : lo++] = s;
	for (uint32_t i = 0; i < n; i++)
		blocks->place[blocks->sorted[i]] = i;
	blocks->count = lo && lo < n ? 2 : 1;
	blocks->end[0] = blocks->count == 2 ? lo : n;
	blocks->first[1] = lo;
	blocks->end[1] = n;
	for (uint32_t i = lo; i < n && blocks->count == 2; i++)
		blocks->block[blocks->sorted[i]] = 1;
	for (uint32_t b = 0; b < blocks->count; b++)
		for (uint32_t class = 0; class < blocks->classes; class ++)
			wait_for(blocks, b, class);
}

/* Blocks as states, numbered as they are met from the start. */
static void take_blocks(struct arena *arena, const struct blocks *blocks, const uint32_t *next, const bool *accept,
			struct pattern_dfa *dfa)
{
	uint32_t n = blocks->count, k = blocks->classes, met = 1;
	uint32_t *number = arena_alloc(blocks->arena, n * sizeof(*number)); /* by block, + 1 */
	uint32_t *block_of = arena_alloc(blocks->arena, n * sizeof(*block_of));
	uint32_t *to = arena_alloc(arena, (size_t)n * k * sizeof(*to));
	bool *accepts = arena_alloc(arena, n);
	number[blocks->block[0]] = 1;
	block_of[0] = blocks->block[0];
	dfa->dead = UINT32_MAX;
	for (uint32_t s = 0; s < n; s++) {
		uint32_t one = blocks->sorted[blocks->first[block_of[s]]];
		bool stays = !(accepts[s] = accept[one]);
		for (uint32_t class = 0; class < k; class ++) {
			uint32_t block = blocks->block[next[(size_t)one * k + class]];
			if (!number[block]) {
				block_of[met] = block;
				number[block] = ++met;
			}
			to[(size_t)s * k + class] = number[block] - 1;
			stays &= number[block] - 1 == s;
		}
		if (stays)
			dfa->dead = s;
	}
	dfa->states = n;
	dfa->next = to;
	dfa->accept = accepts;
}

static void minimise(struct arena *arena, struct maker *maker, struct pattern_dfa *dfa)
{
	struct blocks blocks = {.arena = maker->arena, .states = maker->states.all.len, .classes = maker->classes};
	bool *accept = arena_alloc(maker->arena, blocks.states);
	for (uint32_t s = 0; s < blocks.states; s++)
		accept[s] = state_accepts(maker, s);
	blocks_begin(&blocks, maker->next.at, accept);
	refine(&blocks);
	dfa->classes = maker->classes;
	memcpy(dfa->class_of, maker->class_of, sizeof(dfa->class_of));
	take_blocks(arena, &blocks, maker->next.at, accept, dfa);
}

static struct tree *read_pattern(struct arena *arena, const struct pattern *pattern, const char **ret_why)
{
	switch (pattern->kind) {
	case PATTERN_LIKE:
		return read_like(arena, pattern->text, pattern->fold, ret_why);
	case PATTERN_RE:
		return pattern_read_re(arena, pattern->text, pattern->fold, ret_why);
	default:
		return read_exact(arena, pattern->text, pattern->fold);
	}
}

static int make(struct arena *arena, struct maker *maker, const struct pattern *pattern, struct pattern_dfa *ret_dfa,
		const char **ret_why)
{
	struct pattern_dfa dfa = {0};
	const char *why = NULL;
	struct tree *tree = read_pattern(maker->arena, pattern, &why);
	if (!tree) {
		*ret_why = arena_copy(arena, why, strlen(why));
		return -EINVAL;
	}
	uint32_t match = add_node(maker, NODE_MATCH, 0, 0), start = lay(maker, tree, match);
	if (!maker->over) {
		classify(maker);
		make_subsets(maker, start);
	}
	if (!maker->over)
		minimise(arena, maker, &dfa);
	if (maker->over || dfa.states > AUTOMATON_LIMIT_SINGLE) {
		*ret_why = "it takes more than 8,192 states alone, or too much work to find out";
		return -E2BIG;
	}
	*ret_dfa = dfa;
	return 0;
}

int pattern_dfa_make(struct arena *arena, const struct pattern *pattern, struct pattern_dfa *ret_dfa, uint64_t *work,
		     const char **ret_why)
{
	struct maker maker = {.arena = arena_create()};
	if (!maker.arena)
		return -ENOMEM;
	int r = make(arena, &maker, pattern, ret_dfa, ret_why);
	*work += maker.work;
	arena_destroy(maker.arena);
	return r;
}
