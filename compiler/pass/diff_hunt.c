/* What changes among the requests of a connection. Each combination of what the patterns say is tried, as
 * far as some difference lies below it and the automata agree on a string. */
#include "ir/witness.h"
#include "pass/diff_walk.h"

#include <errno.h>

enum { HUNT_LIMIT = 1 << 20 }; /* combinations that one connection may take */

struct hunter {
	struct walk *walk;
	const struct diagram_fields *fields;
	struct leaf *leaf;
	uint32_t *classes; /* by string field */
	size_t work;
	bool gave_up;
};

/* ---- What may lie below, whether or not a string leads there ---------------------------------------- */

static void set_add(struct arena *arena, struct outcome_set *set, uint32_t outcome)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (set->at[i] == outcome)
			return;
	uint32_t *more = arena_alloc(arena, (set->count + 1) * sizeof(*more));
	if (set->count)
		memcpy(more, set->at, set->count * sizeof(*more));
	more[set->count++] = outcome;
	set->at = more;
}

static struct outcome_set reach(struct walk *walk, const struct tuple *tuple)
{
	struct arena *arena = walk->diff->arena;
	struct outcome_set set = {0};
	struct tuple below;
	uint32_t known, hi;
	if (walk_outcome(walk, tuple, true, &known)) {
		if (known != UINT32_MAX)
			set_add(arena, &set, known);
		return set;
	}
	if (tuples_get(&walk->reached, tuple, &known))
		return walk->sets.at[known];
	struct stretches stretches = walk_stretches(walk, tuple, walk_level(walk, tuple));
	while (walk_stretch(&stretches, tuple, &below, &hi)) {
		struct outcome_set more = reach(walk, &below);
		for (uint32_t i = 0; i < more.count; i++)
			set_add(arena, &set, more.at[i]);
	}
	vec_push(arena, &walk->sets, set);
	tuples_put(arena, &walk->reached, tuple, walk->sets.len - 1);
	return set;
}

static bool has_found(const struct leaf *leaf, uint32_t outcome)
{
	for (size_t i = 0; i < leaf->found.len; i++)
		if (leaf->found.at[i].outcome == outcome)
			return true;
	return false;
}

static bool is_worth(struct hunter *hunter, const struct tuple *tuple)
{
	struct outcome_set set = reach(hunter->walk, tuple);
	for (uint32_t i = 0; i < set.count; i++)
		if (!has_found(hunter->leaf, set.at[i]))
			return true;
	return false;
}

/* ---- Strings ---------------------------------------------------------------------------------------- */

/* A request always has a method. */
static struct witness agree(struct hunter *hunter, uint32_t first)
{
	const struct diagram_fields *fields = hunter->fields;
	struct witness witness = witness_find(&hunter->walk->witnesses, fields, first, hunter->classes);
	for (uint32_t i = first; i < witness_next(fields, first); i++)
		if (fields->at[i].field == FIELD_METHOD && hunter->classes[i] == 0)
			witness.answer = 0;
	return witness;
}

/* Does what was chosen so far stand for some strings? FIRST: the field that was chosen last. */
static bool is_possible(struct hunter *hunter, uint32_t number)
{
	uint32_t first = 0, next;
	while ((next = witness_next(hunter->fields, first)) <= number)
		first = next;
	struct witness agreed = agree(hunter, first);
	hunter->gave_up |= agreed.answer < 0;
	return agreed.answer > 0;
}

static void keep(struct hunter *hunter, uint32_t outcome)
{
	const struct diagram_fields *fields = hunter->fields;
	struct arena *arena = hunter->walk->diff->arena;
	struct found found = {outcome, arena_alloc(arena, (fields->count + 1) * sizeof(*found.texts))};
	if (outcome == UINT32_MAX || has_found(hunter->leaf, outcome))
		return;
	for (uint32_t i = 0; i < fields->count; i = witness_next(fields, i)) {
		struct witness agreed = agree(hunter, i);
		hunter->gave_up |= agreed.answer < 0;
		if (agreed.answer <= 0)
			return;
		found.texts[i] = agreed.text;
	}
	vec_push(arena, &hunter->leaf->found, found);
}

/* ---- The hunt ----------------------------------------------------------------------------------------- */

static void go(struct hunter *hunter, const struct tuple *tuple);

/* One stretch of values: each is a set of strings of its own. */
static void go_values(struct hunter *hunter, const struct tuple *below, uint32_t number, uint32_t lo, uint32_t hi)
{
	for (uint32_t value = lo; value <= hi && is_worth(hunter, below); value++) {
		if (++hunter->work > HUNT_LIMIT) {
			hunter->gave_up = true;
			return;
		}
		hunter->classes[number] = value;
		if (is_possible(hunter, number))
			go(hunter, below);
		hunter->classes[number] = WITNESS_FREE;
	}
}

/* A value that is there makes the better example: absent ones come last, of headers first. */
static void go(struct hunter *hunter, const struct tuple *tuple)
{
	struct walk *walk = hunter->walk;
	struct tuple below;
	uint32_t outcome, hi;
	if (walk_outcome(walk, tuple, true, &outcome)) {
		keep(hunter, outcome);
		return;
	}
	uint32_t level = walk_level(walk, tuple), number = level - LEVEL_STRING;
	bool absent_last = hunter->fields->at[number].field != FIELD_HEADER;
	for (int pass = 0; pass < 2; pass++) {
		struct stretches stretches = walk_stretches(walk, tuple, level);
		for (uint32_t lo = 0; walk_stretch(&stretches, tuple, &below, &hi); lo = hi + 1) {
			bool absent = lo == 0;
			if (absent && pass == absent_last)
				go_values(hunter, &below, number, 0, 0);
			if (pass != absent_last && hi >= lo + absent)
				go_values(hunter, &below, number, lo + absent, hi);
		}
	}
}

/* What cannot be read is denied where only its content could decide, and decided like any other where the
 * connection is settled. */
static void add_malformed(struct hunter *hunter, const struct tuple *tuple)
{
	struct walk *walk = hunter->walk;
	bool old = diagram_is_terminal(tuple->at[OLD]), new = diagram_is_terminal(tuple->at[NEW]), told = false;
	if (old == new || !diff_allows(walk_by(walk, tuple, old ? OLD : NEW)))
		return;
	struct diff_outcome outcome = {.change = old ? DIFF_NARROWED : DIFF_WIDENED, .l7 = true, .malformed = true};
	outcome.by[old ? OLD : NEW] = walk_by(walk, tuple, old ? OLD : NEW);
	outcome.by[old ? NEW : OLD] = DIFF_MALFORMED;
	for (size_t i = 0; i < hunter->leaf->found.len; i++) {
		struct diff_outcome same = walk->diff->outcomes.at[hunter->leaf->found.at[i].outcome];
		if (same.change != outcome.change)
			continue;
		same.malformed = told = true;
		hunter->leaf->found.at[i].outcome = walk_intern(walk, &same);
	}
	if (!told)
		vec_push(walk->diff->arena, &hunter->leaf->found, (struct found){walk_intern(walk, &outcome), NULL});
}

void hunt(struct walk *walk, const struct tuple *tuple, struct leaf *leaf)
{
	const struct diagram_fields *fields = walk->contexts.at[tuple->context].fields;
	struct hunter hunter = {.walk = walk, .fields = fields, .leaf = leaf};
	hunter.classes = arena_alloc(walk->diff->arena, (fields->count + 1) * sizeof(*hunter.classes));
	memset(hunter.classes, 0xff, fields->count * sizeof(*hunter.classes));
	if (is_worth(&hunter, tuple))
		go(&hunter, tuple);
	walk->diff->gave_up |= hunter.gave_up;
	add_malformed(&hunter, tuple);
}
