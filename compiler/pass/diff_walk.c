/* Nodes of both policies side by side: what four of them come to, and how their edges meet. */
#include "pass/diff_walk.h"

/* ---- Tuples ------------------------------------------------------------------------------------- */

static size_t tuple_hash(const struct tuple *key)
{
	uint64_t hash = key->context * 0x9e3779b97f4a7c15u;
	for (int i = 0; i < WALK_NODES; i++) {
		hash = (hash ^ key->at[i]) * 0xff51afd7ed558ccdu;
		hash ^= hash >> 33;
	}
	return hash;
}

static struct tuple_slot *tuples_slot(const struct tuples *tuples, const struct tuple *key)
{
	size_t i = tuple_hash(key) & (tuples->cap - 1);
	while (tuples->at[i].value && memcmp(&tuples->at[i].key, key, sizeof(*key)) != 0)
		i = (i + 1) & (tuples->cap - 1);
	return &tuples->at[i];
}

bool tuples_get(const struct tuples *tuples, const struct tuple *key, uint32_t *ret_value)
{
	const struct tuple_slot *slot = tuples->cap ? tuples_slot(tuples, key) : NULL;
	if (!slot || !slot->value)
		return false;
	*ret_value = slot->value - 1;
	return true;
}

void tuples_put(struct arena *arena, struct tuples *tuples, const struct tuple *key, uint32_t value)
{
	if (tuples->len * 2 >= tuples->cap) {
		struct tuples bigger = {.len = tuples->len, .cap = tuples->cap ? tuples->cap * 4 : 1024};
		bigger.at = arena_alloc(arena, bigger.cap * sizeof(*bigger.at));
		for (size_t i = 0; i < tuples->cap; i++)
			if (tuples->at[i].value)
				*tuples_slot(&bigger, &tuples->at[i].key) = tuples->at[i];
		*tuples = bigger;
	}
	*tuples_slot(tuples, key) = (struct tuple_slot){*key, value + 1};
	tuples->len++;
}

/* ---- Outcomes ----------------------------------------------------------------------------------- */

bool diff_allows(uint32_t by)
{
	return by == DIFF_DEFAULT_ALLOW || (by >= TERMINAL_ALLOW && by < DIFF_MALFORMED);
}

uint32_t walk_intern(struct walk *walk, const struct diff_outcome *outcome)
{
	struct arena *arena = walk->diff->arena;
	const char *key = arena_printf(arena, "%d %x %x %d %d", outcome->change, outcome->by[OLD], outcome->by[NEW],
				       outcome->l7, outcome->malformed);
	uintptr_t known = (uintptr_t)table_get(&walk->outcome_index, key);
	if (known)
		return known - 1;
	vec_push(arena, &walk->diff->outcomes, *outcome);
	table_put(&walk->outcome_index, key, (void *)(uintptr_t)walk->diff->outcomes.len);
	return walk->diff->outcomes.len - 1;
}

uint32_t walk_by(const struct walk *walk, const struct tuple *tuple, enum side side)
{
	uint32_t terminal = diagram_terminal(walk->diagrams[side], tuple->at[side]);
	if (terminal != TERMINAL_DEFAULT)
		return terminal;
	return walk->contexts.at[tuple->context].default_allows[side] ? DIFF_DEFAULT_ALLOW : DIFF_DEFAULT_DENY;
}

static uint32_t shares_of(const struct walk *walk, const struct tuple *tuple, enum side side)
{
	uint32_t arm = diagram_terminal(walk->diagrams[WALK_ROUTE + side], tuple->at[WALK_ROUTE + side]);
	return arm == TERMINAL_DEFAULT ? 0 : walk->arms[side].at[arm];
}

/* The side on which a default of `audit` lets through what a rule of the other allows; SIDES: none. */
static enum side audited_side(const struct walk *walk, const struct tuple *tuple, const uint32_t by[SIDES])
{
	const bool *audits = walk->contexts.at[tuple->context].default_audits;
	bool by_default[] = {by[OLD] == DIFF_DEFAULT_ALLOW, by[NEW] == DIFF_DEFAULT_ALLOW};
	if (by_default[OLD] == by_default[NEW])
		return SIDES;
	enum side side = by_default[OLD] ? OLD : NEW;
	return audits[side] ? side : SIDES;
}

bool walk_outcome(struct walk *walk, const struct tuple *tuple, bool l7, uint32_t *ret_outcome)
{
	struct diff_outcome outcome = {.l7 = l7};
	*ret_outcome = UINT32_MAX;
	if (!diagram_is_terminal(tuple->at[OLD]) || !diagram_is_terminal(tuple->at[NEW]))
		return false;
	for (int side = 0; side < SIDES; side++)
		outcome.by[side] = walk_by(walk, tuple, side);
	bool allows = diff_allows(outcome.by[NEW]);
	if (diff_allows(outcome.by[OLD]) != allows) {
		outcome.change = allows ? DIFF_WIDENED : DIFF_NARROWED;
		*ret_outcome = walk_intern(walk, &outcome);
		return true;
	}
	if (!allows)
		return true;
	if (!diagram_is_terminal(tuple->at[WALK_ROUTE + OLD]) || !diagram_is_terminal(tuple->at[WALK_ROUTE + NEW]))
		return false;
	enum side audited = audited_side(walk, tuple, outcome.by);
	for (int side = 0; side < SIDES; side++)
		outcome.by[side] = shares_of(walk, tuple, side);
	if (outcome.by[OLD] != outcome.by[NEW]) {
		outcome.change = DIFF_MOVED;
		*ret_outcome = walk_intern(walk, &outcome);
	} else if (audited != SIDES) {
		outcome.change = DIFF_AUDITED;
		/* Not by which rule: there may be as many as sources. */
		outcome.by[audited] = DIFF_DEFAULT_ALLOW;
		outcome.by[!audited] = TERMINAL_ALLOW;
		*ret_outcome = walk_intern(walk, &outcome);
	}
	return true;
}

/* ---- Edges -------------------------------------------------------------------------------------- */

uint32_t walk_level(const struct walk *walk, const struct tuple *tuple)
{
	uint32_t least = UINT32_MAX;
	for (int i = 0; i < WALK_NODES; i++) {
		uint32_t level =
			diagram_is_terminal(tuple->at[i]) ? UINT32_MAX : diagram_level(walk->diagrams[i], tuple->at[i]);
		least = level < least ? level : least;
	}
	return least;
}

struct stretches walk_stretches(const struct walk *walk, const struct tuple *tuple, uint32_t level)
{
	struct stretches stretches = {0};
	for (int i = 0; i < WALK_NODES; i++)
		if (!diagram_is_terminal(tuple->at[i]) && diagram_level(walk->diagrams[i], tuple->at[i]) == level)
			stretches.edges[i] = diagram_edges(walk->diagrams[i], tuple->at[i], &stretches.counts[i]);
	return stretches;
}

bool walk_stretch(struct stretches *stretches, const struct tuple *tuple, struct tuple *ret_below, uint32_t *ret_hi)
{
	uint32_t hi = UINT32_MAX;
	*ret_below = *tuple;
	for (int i = 0; i < WALK_NODES; i++) {
		if (!stretches->edges[i])
			continue;
		if (stretches->next[i] == stretches->counts[i])
			return false;
		const struct diagram_edge *edge = &stretches->edges[i][stretches->next[i]];
		ret_below->at[i] = edge->child;
		hi = edge->hi < hi ? edge->hi : hi;
	}
	for (int i = 0; i < WALK_NODES; i++)
		if (stretches->edges[i] && stretches->edges[i][stretches->next[i]].hi == hi)
			stretches->next[i]++;
	*ret_hi = hi;
	return true;
}
