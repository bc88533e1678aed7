#include "pass/row.h"

#include "base/table.h"

#include <stdlib.h>
#include <string.h>

enum {
	COMB_LIMIT = 64, /* sources of its own without a wide part, before a row goes into the matrix */
	COMB_WIDE_LIMIT = 4096,
};
#define CONSTANT (1u << 31) /* cell.matrix is an outcome, not a row, until rows_finish */

/* Sources [lo, hi] have this outcome. */
struct stretch {
	uint32_t lo, hi;
	uint16_t outcome;
};
struct stretches {
	struct stretch *at;
	size_t len, cap;
};
struct comb_row {
	struct stretches own;
	uint32_t sources;
	uint32_t offset;
};

struct rows {
	struct run *run;
	struct plan *plan;
	struct table cells, outcomes, blocks, constants;
	VEC(struct stretches) dense;
	VEC(struct comb_row) combs;
};

struct rows *rows_create(struct run *run, struct plan *plan)
{
	struct rows *rows = arena_alloc(run->arena, sizeof(*rows));
	rows->run = run;
	rows->plan = plan;
	rows->cells.arena = rows->outcomes.arena = rows->blocks.arena = rows->constants.arena = run->arena;
	return rows;
}

/* ---- Outcomes --------------------------------------------------------------------------------- */

static uint16_t outcome_intern(struct rows *rows, uint32_t value, uint32_t flags)
{
	char key[32];
	snprintf(key, sizeof(key), "%x.%x", value, flags);
	void *known = table_get(&rows->outcomes, key);
	if (known)
		return (uintptr_t)known - 1;
	struct arena *arena = rows->run->arena;
	vec_push(arena, &rows->plan->outcomes, (struct plan_outcome){.value = value, .flags = flags});
	table_put(&rows->outcomes, arena_copy(arena, key, strlen(key)), (void *)(uintptr_t)rows->plan->outcomes.len);
	return rows->plan->outcomes.len - 1;
}

static uint16_t outcome_of_terminal(struct rows *rows, uint32_t terminal, struct row_want want)
{
	uint32_t by_default = rows->plan->rules + MESH_DEFAULT, denies = want.verified ? want.flags : 0;
	if (want.kind == ROW_AUDIT)
		return outcome_intern(rows, terminal, 0);
	if (want.kind == ROW_ROUTE)
		return outcome_intern(rows, terminal == TERMINAL_DEFAULT ? PLAN_NO_ARM : terminal, 0);
	if (terminal == TERMINAL_DEFAULT)
		return outcome_intern(rows, by_default,
				      want.kind == ROW_DENY    ? denies
				      : want.kind == ROW_ALLOW ? PLAN_ALLOW | want.flags
							       : PLAN_ALLOW | PLAN_DEFAULT_AUDIT | want.flags);
	if (terminal >= TERMINAL_ALLOW)
		return outcome_intern(rows, terminal - TERMINAL_ALLOW, PLAN_ALLOW | want.flags);
	return outcome_intern(rows, terminal, denies);
}

/* A node at or below the block level. */
static uint16_t outcome_of_node(struct rows *rows, node_id node, struct row_want want)
{
	const struct diagram *diagram = rows->run->diagram;
	if (diagram_is_terminal(node))
		return outcome_of_terminal(rows, diagram_terminal(diagram, node), want);
	char key[32];
	snprintf(key, sizeof(key), "%x.%x.%x.%x", node, want.kind, want.flags, want.verified);
	void *known = table_get(&rows->blocks, key);
	if (known)
		return (uintptr_t)known - 1;
	struct arena *arena = rows->run->arena;
	uint32_t first = rows->plan->by_block.len, count, block = 0;
	const struct diagram_edge *edges = diagram_edges(diagram, node, &count);
	for (uint32_t i = 0; i < count; i++) {
		uint16_t outcome = outcome_of_node(rows, edges[i].child, want);
		for (; block < rows->plan->blocks && block <= edges[i].hi; block++)
			vec_push(arena, &rows->plan->by_block, outcome);
	}
	uint16_t outcome = outcome_intern(rows, first, PLAN_BY_BLOCK);
	table_put(&rows->blocks, arena_copy(arena, key, strlen(key)), (void *)(uintptr_t)(outcome + 1u));
	return outcome;
}

/* ---- A row as stretches ----------------------------------------------------------------------- */

static void stretch_add(struct rows *rows, struct stretches *list, uint32_t lo, uint32_t hi, uint16_t outcome)
{
	uint32_t last = rows->run->policy->sources - 1;
	if (lo > last)
		return;
	if (hi > last)
		hi = last;
	if (list->len && list->at[list->len - 1].outcome == outcome)
		list->at[list->len - 1].hi = hi;
	else
		vec_push(rows->run->arena, list, (struct stretch){lo, hi, outcome});
}

static struct stretches stretches_of(struct rows *rows, node_id node, struct row_want want)
{
	const struct diagram *diagram = rows->run->diagram;
	struct stretches list = {0};
	struct diagram_edge whole = {.hi = 255, .child = node};
	const struct diagram_edge *high = &whole;
	uint32_t highs = 1;
	if (!diagram_is_terminal(node) && diagram_level(diagram, node) == LEVEL_SRC_HIGH)
		high = diagram_edges(diagram, node, &highs);
	for (uint32_t i = 0, from = 0; i < highs; from = high[i].hi + 1, i++) {
		node_id child = high[i].child;
		if (diagram_is_terminal(child) || diagram_level(diagram, child) != LEVEL_SRC_LOW) {
			stretch_add(rows, &list, from * 256, high[i].hi * 256 + 255,
				    outcome_of_node(rows, child, want));
			continue;
		}
		uint32_t lows;
		const struct diagram_edge *low = diagram_edges(diagram, child, &lows);
		for (uint32_t h = from; h <= high[i].hi && h * 256 < rows->run->policy->sources; h++)
			for (uint32_t k = 0, start = 0; k < lows; start = low[k].hi + 1, k++)
				stretch_add(rows, &list, h * 256 + start, h * 256 + low[k].hi,
					    outcome_of_node(rows, low[k].child, want));
	}
	return list;
}

/* The outcome that most sources have. */
static uint16_t most_common(struct rows *rows, const struct stretches *list)
{
	uint16_t best = list->at[0].outcome;
	uint32_t most = 0;
	if (list->len == 1)
		return best;
	uint32_t *sources = calloc(rows->plan->outcomes.len, sizeof(*sources));
	if (!sources)
		return best;
	for (size_t i = 0; i < list->len; i++) {
		const struct stretch *s = &list->at[i];
		sources[s->outcome] += s->hi - s->lo + 1;
		if (sources[s->outcome] > most) {
			most = sources[s->outcome];
			best = s->outcome;
		}
	}
	free(sources);
	return best;
}

/* Where FULL differs from BASE. */
static struct stretches difference(struct rows *rows, const struct stretches *full, const struct stretches *base,
				   uint32_t *ret_sources)
{
	struct stretches own = {0};
	uint32_t sources = 0;
	for (size_t i = 0, k = 0; i < full->len;) {
		const struct stretch *f = &full->at[i], *b = &base->at[k];
		uint32_t lo = f->lo > b->lo ? f->lo : b->lo, hi = f->hi < b->hi ? f->hi : b->hi;
		if (f->outcome != b->outcome) {
			vec_push(rows->run->arena, &own, (struct stretch){lo, hi, f->outcome});
			sources += hi - lo + 1;
		}
		i += f->hi == hi;
		k += b->hi == hi;
	}
	*ret_sources = sources;
	return own;
}

static struct plan_cell row_make(struct rows *rows, node_id full, node_id wide, struct row_want want)
{
	struct arena *arena = rows->run->arena;
	struct stretches all = stretches_of(rows, full, want);
	struct stretches base = full == wide ? all : stretches_of(rows, wide, want);
	uint32_t sources, limit = COMB_WIDE_LIMIT;
	if (full == wide || base.len == 1) {
		uint16_t common = most_common(rows, &all);
		base = (struct stretches){0};
		stretch_add(rows, &base, 0, UINT32_MAX, common);
		limit = full == wide ? COMB_LIMIT : limit;
	}
	struct stretches own = difference(rows, &all, &base, &sources);
	if (sources > limit) {
		base = all;
		own = (struct stretches){0};
		sources = 0;
	}
	struct plan_cell cell = {0};
	if (sources) {
		vec_push(arena, &rows->combs, (struct comb_row){.own = own, .sources = sources});
		cell.owner = rows->combs.len;
	}
	if (base.len == 1) {
		cell.matrix = CONSTANT | base.at[0].outcome;
	} else {
		cell.matrix = rows->dense.len;
		cell.mask = 0xffff;
		vec_push(arena, &rows->dense, base);
	}
	return cell;
}

struct plan_cell rows_cell(struct rows *rows, node_id full, node_id wide, struct row_want want)
{
	char key[48];
	snprintf(key, sizeof(key), "%x.%x.%x.%x.%x", full, wide, want.kind, want.flags, want.verified);
	struct plan_cell *known = table_get(&rows->cells, key);
	if (!known) {
		known = arena_alloc(rows->run->arena, sizeof(*known));
		*known = row_make(rows, full, wide, want);
		table_put(&rows->cells, arena_copy(rows->run->arena, key, strlen(key)), known);
	}
	return *known;
}

/* ---- Columns: sources that every dense row treats alike ---------------------------------------- */

static uint64_t mix(uint64_t x)
{
	/* splitmix64 (Steele, Lea, Flood, 2014). */
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

struct signature {
	uint64_t a, b;
	uint32_t src;
};

static int signature_compare(const void *left, const void *right)
{
	const struct signature *x = left, *y = right;
	if (x->a != y->a)
		return x->a < y->a ? -1 : 1;
	if (x->b != y->b)
		return x->b < y->b ? -1 : 1;
	return x->src < y->src ? -1 : x->src > y->src;
}

/* A source's signature is the sum, over the dense rows, of a hash of (row, outcome): built from the
 * ends of the stretches alone. 128 bits: two sources are never confused in practice, and the proof
 * would say so. Returns the first source of each column, ascending by column. */
static uint32_t *columns_make(struct rows *rows)
{
	struct arena *arena = rows->run->arena;
	struct plan *plan = rows->plan;
	uint32_t sources = rows->run->policy->sources;
	struct signature *sum = arena_alloc(arena, (sources + 1) * sizeof(*sum));
	for (size_t r = 0; r < rows->dense.len; r++)
		for (size_t i = 0; i < rows->dense.at[r].len; i++) {
			const struct stretch *s = &rows->dense.at[r].at[i];
			uint64_t a = mix(r << 16 | s->outcome), b = mix(a ^ 0x5bd1e995);
			sum[s->lo].a += a;
			sum[s->lo].b += b;
			sum[s->hi + 1].a -= a;
			sum[s->hi + 1].b -= b;
		}
	for (uint32_t i = 0; i < sources; i++) {
		sum[i].src = i;
		if (i) {
			sum[i].a += sum[i - 1].a;
			sum[i].b += sum[i - 1].b;
		}
	}
	qsort(sum, sources, sizeof(*sum), signature_compare);
	plan->columns.len = plan->columns.cap = plan->classes;
	plan->columns.at = arena_alloc(arena, plan->classes * sizeof(*plan->columns.at));
	uint32_t *first = arena_alloc(arena, sources * sizeof(*first));
	for (uint32_t i = 0; i < sources; i++) {
		if (i == 0 || sum[i].a != sum[i - 1].a || sum[i].b != sum[i - 1].b)
			first[plan->columns_count++] = sum[i].src;
		plan->columns.at[sum[i].src] = plan->columns_count - 1;
	}
	return first;
}

static uint16_t outcome_at(const struct stretches *list, uint32_t src)
{
	size_t lo = 0, hi = list->len - 1;
	while (lo < hi) {
		size_t middle = (lo + hi) / 2;
		if (list->at[middle].hi < src)
			lo = middle + 1;
		else
			hi = middle;
	}
	return list->at[lo].outcome;
}

static void matrix_fill(struct rows *rows)
{
	struct arena *arena = rows->run->arena;
	struct plan *plan = rows->plan;
	uint32_t *first = columns_make(rows);
	size_t cells = rows->dense.len * (size_t)plan->columns_count;
	plan->matrix.cap = cells + plan->outcomes.len;
	plan->matrix.at = arena_alloc(arena, plan->matrix.cap * sizeof(*plan->matrix.at));
	for (size_t r = 0; r < rows->dense.len; r++)
		for (uint32_t c = 0; c < plan->columns_count; c++)
			plan->matrix.at[plan->matrix.len++] = outcome_at(&rows->dense.at[r], first[c]);
	/* One outcome for every source: an element of its own behind the rows. */
	for (size_t i = 0; i < plan->outcomes.len; i++)
		plan->matrix.at[plan->matrix.len++] = i;
	for (size_t i = 0; i < plan->cells.len; i++) {
		struct plan_cell *cell = &plan->cells.at[i];
		if (cell->matrix & CONSTANT)
			cell->matrix = cells + (cell->matrix & ~CONSTANT);
		else
			cell->matrix *= plan->columns_count;
	}
}

/* ---- The comb: rows of few sources, displaced until they interlock ----------------------------- */
/* Tarjan and Yao, Storing a Sparse Table, CACM 22(11), 1979: first fit, longest rows first. */

static int comb_compare(const void *left, const void *right)
{
	const struct comb_row *const *x = left, *const *y = right;
	if ((*x)->sources != (*y)->sources)
		return (*x)->sources > (*y)->sources ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

static bool comb_fits(const struct plan *plan, const struct comb_row *row, uint32_t offset)
{
	for (size_t i = 0; i < row->own.len; i++)
		for (uint32_t src = row->own.at[i].lo; src <= row->own.at[i].hi; src++)
			if (offset + src < plan->combs.len && plan->combs.at[offset + src].owner)
				return false;
	return true;
}

static void comb_reserve(struct rows *rows, size_t len)
{
	struct plan *plan = rows->plan;
	while (plan->combs.len < len)
		vec_push(rows->run->arena, &plan->combs, (struct plan_comb){0});
}

static void comb_put(struct rows *rows, struct comb_row *row, uint32_t owner, uint32_t offset)
{
	row->offset = offset;
	comb_reserve(rows, offset + row->own.at[row->own.len - 1].hi + 1);
	for (size_t i = 0; i < row->own.len; i++)
		for (uint32_t src = row->own.at[i].lo; src <= row->own.at[i].hi; src++)
			rows->plan->combs.at[offset + src] =
				(struct plan_comb){.owner = owner, .outcome = row->own.at[i].outcome};
}

/* Next free slot at or behind SLOT: links are shortened as they are followed. */
static uint32_t free_from(uint32_t *next, const struct plan *plan, uint32_t slot, uint32_t len)
{
	uint32_t at = slot;
	while (at < len && (next[at] || (at < plan->combs.len && plan->combs.at[at].owner)))
		at = next[at] ? next[at] : at + 1;
	while (slot < at && slot < len) {
		uint32_t following = next[slot] ? next[slot] : slot + 1;
		next[slot] = at;
		slot = following;
	}
	return at;
}

static void combs_fill(struct rows *rows)
{
	struct plan *plan = rows->plan;
	struct comb_row **order = arena_alloc(rows->run->arena, (rows->combs.len + 1) * sizeof(*order));
	uint32_t len = plan->classes;
	for (size_t i = 0; i < rows->combs.len; i++) {
		order[i] = &rows->combs.at[i];
		len += rows->combs.at[i].sources * 2;
	}
	qsort(order, rows->combs.len, sizeof(*order), comb_compare);
	uint32_t *next = arena_alloc(rows->run->arena, (len + 1) * sizeof(*next));
	for (size_t i = 0; i < rows->combs.len; i++) {
		struct comb_row *row = order[i];
		uint32_t first = row->own.at[0].lo, slot = free_from(next, plan, first, len);
		while (!comb_fits(plan, row, slot - first))
			slot = slot + 1 < len ? free_from(next, plan, slot + 1, len) : slot + 1;
		comb_put(rows, row, row - rows->combs.at + 1, slot - first);
	}
	for (size_t i = 0; i < plan->cells.len; i++)
		if (plan->cells.at[i].owner)
			plan->cells.at[i].comb = rows->combs.at[plan->cells.at[i].owner - 1].offset;
	/* Every offset + class lies inside: a load out of the table cannot be asked for. */
	uint32_t longest = 0;
	for (size_t i = 0; i < rows->combs.len; i++)
		longest = rows->combs.at[i].offset > longest ? rows->combs.at[i].offset : longest;
	comb_reserve(rows, longest + plan->classes);
}

void rows_finish(struct rows *rows)
{
	matrix_fill(rows);
	combs_fill(rows);
}

uint32_t rows_walk(const struct diagram *diagram, node_id root, uint32_t protocol, uint32_t port, uint32_t src,
		   uint32_t block, bool verified)
{
	const uint32_t values[] = {protocol, port, src >> 8, src & 255, block, verified};
	while (!diagram_is_terminal(root)) {
		uint32_t level = diagram_level(diagram, root), count;
		if (level >= LEVEL_STRING)
			return UINT32_MAX - 1;
		const struct diagram_edge *edge = diagram_edges(diagram, root, &count);
		while (edge->hi < values[level])
			edge++;
		root = edge->child;
	}
	return diagram_terminal(diagram, root);
}
