/* Sets of patterns. A state is the list of the states that the patterns' own least DFAs are in, dead
 * ones left out. Two such lists have different futures for some pattern, and accept sets tell
 * patterns apart: so what is reachable is minimal as it stands, and its size is known exactly. */
#include "ir/automaton.h"

#include "ir/lists.h"
#include "ir/pattern.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

enum {
	WORK_LIMIT = 1 << 28,
	POOL_LIMIT = 1 << 24,	 /* numbers in all lists of states */
	SINGLES_LIMIT = 1 << 22, /* states of all patterns alone */
	PAIR_LIMIT = 1 << 20,	 /* states of a product that one search visits */
};

/* A pattern, once; the same one may stand in the input several times. */
struct single {
	const struct pattern *pattern;
	struct pattern_dfa dfa;
	uint32_t base;	   /* its state s is number base + s */
	uint8_t *class_of; /* by common class */
};

struct joiner {
	struct arena *arena, *result; /* scratch, and what is kept */
	const struct pattern *patterns;
	size_t count;
	uint32_t *single_of; /* by index */
	VEC(struct single) singles;
	uint32_t *owner; /* by number: its single */
	uint8_t class_of[256];
	uint8_t first[256]; /* by class: a byte of it */
	uint32_t classes;
	struct lists states, accepting;
	VEC(uint32_t) next, accept;
	uint64_t work;
	size_t bad;
	const char *why;
};

static int pattern_compare(const struct pattern *a, const struct pattern *b)
{
	int by = strcmp(a->text, b->text);
	return by ? by : a->kind != b->kind ? (int)a->kind - (int)b->kind : a->fold - b->fold;
}

static int order_compare(const void *left, const void *right)
{
	const struct pattern *const *a = left, *const *b = right;
	int by = pattern_compare(*a, *b);
	return by ? by : *a < *b ? -1 : *a > *b;
}

static int too_big(struct joiner *joiner, size_t bad, const char *why)
{
	joiner->bad = bad;
	joiner->why = why;
	return -E2BIG;
}

/* ---- Each alone --------------------------------------------------------------------------------- */

/* In the order of the patterns, so that what a bound depends on does not depend on their order. */
static void sort_patterns(struct joiner *joiner)
{
	const struct pattern **order = arena_alloc(joiner->arena, (joiner->count + 1) * sizeof(*order));
	joiner->single_of = arena_alloc(joiner->arena, (joiner->count + 1) * sizeof(uint32_t));
	for (size_t i = 0; i < joiner->count; i++)
		order[i] = &joiner->patterns[i];
	qsort(order, joiner->count, sizeof(*order), order_compare);
	for (size_t i = 0; i < joiner->count; i++) {
		size_t last = joiner->singles.len;
		if (!last || pattern_compare(joiner->singles.at[last - 1].pattern, order[i]) != 0)
			vec_push(joiner->arena, &joiner->singles, (struct single){.pattern = order[i]});
		joiner->single_of[order[i] - joiner->patterns] = joiner->singles.len - 1;
	}
}

static int make_singles(struct joiner *joiner)
{
	uint32_t total = 0;
	for (size_t i = 0; i < joiner->singles.len; i++) {
		struct single *single = &joiner->singles.at[i];
		size_t index = single->pattern - joiner->patterns;
		int r = pattern_dfa_make(joiner->arena, single->pattern, &single->dfa, &joiner->work, &joiner->why);
		if (r) {
			joiner->bad = index;
			return r;
		}
		single->base = total;
		total += single->dfa.states;
		if (joiner->work > WORK_LIMIT || total > SINGLES_LIMIT)
			return too_big(joiner, index, "the patterns up to this one take too much work together");
	}
	joiner->owner = arena_alloc(joiner->arena, ((size_t)total + 1) * sizeof(uint32_t));
	for (size_t i = 0; i < joiner->singles.len; i++)
		for (uint32_t s = 0; s < joiner->singles.at[i].dfa.states; s++)
			joiner->owner[joiner->singles.at[i].base + s] = i;
	return 0;
}

/* Splits CLASS_OF by OTHER; classes are numbered by their first byte. Returns how many there are. */
static uint32_t split_classes(uint8_t class_of[256], const uint8_t other[256])
{
	uint8_t name[256], pair[256]; /* by new class: the old two */
	uint32_t count = 0;
	uint8_t fresh[256];
	for (unsigned byte = 0; byte < 256; byte++) {
		uint32_t k = 0;
		while (k < count && (name[k] != class_of[byte] || pair[k] != other[byte]))
			k++;
		name[k] = class_of[byte];
		pair[k] = other[byte];
		count += k == count;
		fresh[byte] = k;
	}
	memcpy(class_of, fresh, sizeof(fresh));
	return count;
}

static void join_classes(struct joiner *joiner)
{
	joiner->classes = 1;
	for (size_t i = 0; i < joiner->singles.len && joiner->classes < 256; i++)
		joiner->classes = split_classes(joiner->class_of, joiner->singles.at[i].dfa.class_of);
	for (unsigned byte = 256; byte-- > 0;)
		joiner->first[joiner->class_of[byte]] = byte;
	for (size_t i = 0; i < joiner->singles.len; i++) {
		struct single *single = &joiner->singles.at[i];
		single->class_of = arena_alloc(joiner->arena, joiner->classes);
		for (uint32_t class = 0; class < joiner->classes; class ++)
			single->class_of[class] = single->dfa.class_of[joiner->first[class]];
	}
}

/* ---- All together ------------------------------------------------------------------------------- */

static uint32_t first_state(struct joiner *joiner, uint32_t *list)
{
	uint32_t len = 0;
	for (size_t i = 0; i < joiner->singles.len; i++)
		if (joiner->singles.at[i].dfa.dead != 0)
			list[len++] = joiner->singles.at[i].base;
	return lists_put(&joiner->states, list, len);
}

static uint32_t next_state(struct joiner *joiner, uint32_t state, uint32_t class, uint32_t *list)
{
	uint32_t len, count = 0;
	const uint32_t *numbers = lists_get(&joiner->states, state, &len);
	for (uint32_t i = 0; i < len; i++) {
		const struct single *single = &joiner->singles.at[joiner->owner[numbers[i]]];
		const struct pattern_dfa *dfa = &single->dfa;
		uint32_t next = dfa->next[(numbers[i] - single->base) * dfa->classes + single->class_of[class]];
		if (next != dfa->dead)
			list[count++] = single->base + next;
	}
	joiner->work += len + 1;
	return lists_put(&joiner->states, list, count);
}

/* The accept class of STATE: the number of the set of singles that match there. */
static uint32_t accept_of(struct joiner *joiner, uint32_t state, uint32_t *list)
{
	uint32_t len, count = 0;
	const uint32_t *numbers = lists_get(&joiner->states, state, &len);
	for (uint32_t i = 0; i < len; i++) {
		uint32_t owner = joiner->owner[numbers[i]];
		const struct single *single = &joiner->singles.at[owner];
		if (single->dfa.accept[numbers[i] - single->base])
			list[count++] = owner;
	}
	return lists_put(&joiner->accepting, list, count);
}

/* The pattern to blame for all of them: the one that is largest alone. */
static size_t largest(const struct joiner *joiner)
{
	const struct single *worst = &joiner->singles.at[0];
	for (size_t i = 1; i < joiner->singles.len; i++)
		if (joiner->singles.at[i].dfa.states > worst->dfa.states)
			worst = &joiner->singles.at[i];
	return worst->pattern - joiner->patterns;
}

static int join(struct joiner *joiner)
{
	uint32_t *list = arena_alloc(joiner->arena, (joiner->singles.len + 1) * sizeof(*list));
	joiner->states.arena = joiner->accepting.arena = joiner->arena;
	lists_put(&joiner->accepting, list, 0);
	first_state(joiner, list);
	for (uint32_t state = 0; state < joiner->states.all.len; state++) {
		vec_push(joiner->arena, &joiner->accept, accept_of(joiner, state, list));
		for (uint32_t class = 0; class < joiner->classes; class ++)
			vec_push(joiner->arena, &joiner->next, next_state(joiner, state, class, list));
		if (joiner->states.all.len > AUTOMATON_LIMIT_STATES)
			return too_big(joiner, largest(joiner), "together the patterns take more than 65,535 states");
		if (joiner->work > WORK_LIMIT || joiner->states.pool.len > POOL_LIMIT)
			return too_big(joiner, largest(joiner), "together the patterns take too much work");
	}
	return 0;
}

/* ---- The result --------------------------------------------------------------------------------- */

static bool same_column(const struct joiner *joiner, uint32_t a, uint32_t b)
{
	for (uint32_t s = 0; s < joiner->states.all.len; s++)
		if (joiner->next.at[(size_t)s * joiner->classes + a] !=
		    joiner->next.at[(size_t)s * joiner->classes + b])
			return false;
	return true;
}

/* Classes that no state tells apart after all are one. KEPT: one old class for each that is left. */
static uint32_t merge_classes(const struct joiner *joiner, uint8_t renamed[256], uint8_t kept[256])
{
	uint64_t hash[256];
	uint32_t count = 0;
	for (uint32_t class = 0; class < joiner->classes; class ++) {
		uint64_t h = 0;
		for (uint32_t s = 0; s < joiner->states.all.len; s++)
			h = (h ^ joiner->next.at[(size_t)s * joiner->classes + class]) * 0x9e3779b97f4a7c15u,
			h ^= h >> 31;
		uint32_t k = 0;
		while (k < count && (hash[k] != h || !same_column(joiner, kept[k], class)))
			k++;
		if (k == count) {
			hash[k] = h;
			kept[count++] = class;
		}
		renamed[class] = k;
	}
	return count;
}

/* Singles back to the indices of all patterns that are the same. */
static void take_sets(const struct joiner *joiner, struct automaton *automaton)
{
	uint32_t classes = joiner->accepting.all.len, len;
	bool *is = arena_alloc(joiner->arena, joiner->singles.len + 1);
	automaton->accept_classes = classes;
	automaton->sets = arena_alloc(joiner->result, classes * sizeof(*automaton->sets));
	automaton->set_len = arena_alloc(joiner->result, classes * sizeof(*automaton->set_len));
	for (uint32_t class = 0; class < classes; class ++) {
		const uint32_t *singles = lists_get(&joiner->accepting, class, &len);
		uint32_t total = 0, *set;
		for (uint32_t i = 0; i < len; i++)
			is[singles[i]] = true;
		for (size_t i = 0; i < joiner->count; i++)
			total += is[joiner->single_of[i]];
		automaton->sets[class] = set = arena_alloc(joiner->result, (total + 1) * sizeof(*set));
		for (size_t i = 0; i < joiner->count; i++)
			if (is[joiner->single_of[i]])
				set[automaton->set_len[class]++] = i;
		for (uint32_t i = 0; i < len; i++)
			is[singles[i]] = false;
	}
}

static int take_result(struct joiner *joiner, struct automaton **ret_automaton)
{
	uint8_t renamed[256], kept[256];
	uint32_t states = joiner->states.all.len, classes = merge_classes(joiner, renamed, kept);
	if ((size_t)states * classes * 2 > AUTOMATON_LIMIT_BYTES)
		return too_big(joiner, largest(joiner), "together the patterns take more than 4 MiB");
	struct automaton *automaton = arena_alloc(joiner->result, sizeof(*automaton));
	automaton->states = states;
	automaton->classes = classes;
	automaton->next = arena_alloc(joiner->result, (size_t)states * classes * sizeof(uint32_t));
	automaton->accept = arena_alloc(joiner->result, states * sizeof(uint32_t));
	for (unsigned byte = 0; byte < 256; byte++)
		automaton->class_of[byte] = renamed[joiner->class_of[byte]];
	for (uint32_t s = 0; s < states; s++)
		for (uint32_t class = 0; class < classes; class ++)
			automaton->next[(size_t)s * classes + class] =
				joiner->next.at[(size_t)s * joiner->classes + kept[class]];
	memcpy(automaton->accept, joiner->accept.at, states * sizeof(uint32_t));
	take_sets(joiner, automaton);
	*ret_automaton = automaton;
	return 0;
}

int automaton_make(struct arena *arena, const struct pattern *patterns, size_t count, struct automaton **ret_automaton,
		   size_t *ret_bad, const char **ret_why)
{
	struct joiner joiner = {.arena = arena_create(), .result = arena, .patterns = patterns, .count = count};
	if (!joiner.arena)
		return -ENOMEM;
	sort_patterns(&joiner);
	int r = make_singles(&joiner);
	if (!r) {
		join_classes(&joiner);
		r = join(&joiner);
	}
	if (!r)
		r = take_result(&joiner, ret_automaton);
	if (r) {
		*ret_bad = joiner.bad;
		*ret_why = joiner.why ? arena_copy(arena, joiner.why, strlen(joiner.why)) : "memory is out";
	}
	arena_destroy(joiner.arena);
	return r;
}

uint32_t automaton_run(const struct automaton *automaton, const char *bytes, size_t len)
{
	uint32_t state = automaton->start;
	for (size_t i = 0; i < len; i++)
		state = automaton->next[(size_t)state * automaton->classes +
					automaton->class_of[(unsigned char)bytes[i]]];
	return automaton->accept[state];
}

bool pattern_is_anchored(const struct pattern *pattern)
{
	const char *c = pattern->text;
	if (pattern->kind == PATTERN_LIKE)
		return *c != '*';
	if (pattern->kind == PATTERN_EXACT)
		return true;
	for (size_t len = 1; len;) {
		len = *c == '^' ? 1 : strncmp(c, "\\A", 2) == 0 ? 2 : *c == '(' && c[1] != '?' ? 1 : 0;
		if (!len && c[0] == '(' && c[1] == '?') {
			size_t flags = strspn(c + 2, "isU-");
			len = c[2 + flags] == ':' || c[2 + flags] == ')' ? flags + 3 : 0;
		}
		c += len;
	}
	return c[0] != '.' || (c[1] != '*' && c[1] != '+');
}

/* ---- Witnesses ---------------------------------------------------------------------------------- */

struct hunt {
	struct arena *arena;
	const struct automaton *const *automata;
	const uint32_t *classes;
	size_t count;
	uint8_t bytes[256]; /* one of each common class, the best first */
	uint32_t bytes_len;
	struct lists states;
	VEC(uint32_t) from; /* by state: where it was reached from ... */
	VEC(uint8_t) by;    /* ... by which byte */
};

/* Lower is better; 0: not this one. */
static unsigned byte_cost(unsigned byte, bool printable)
{
	if (byte < 0x80 && isalnum(byte))
		return islower(byte) ? 1 : 2;
	if (byte == '/' || byte == '-' || byte == '.')
		return 3;
	if (byte > ' ' && byte < 0x7f)
		return 4;
	if (byte == ' ')
		return 5;
	return printable || (byte < 0x80 && byte != '\t') ? 0 : 6;
}

static void choose_bytes(struct hunt *hunt, bool printable)
{
	uint8_t class_of[256] = {0};
	bool taken[256] = {0};
	for (size_t i = 0; i < hunt->count; i++)
		split_classes(class_of, hunt->automata[i]->class_of);
	hunt->bytes_len = 0;
	for (unsigned cost = 1; cost <= 6; cost++)
		for (unsigned byte = 0; byte < 256; byte++)
			if (byte_cost(byte, printable) == cost && !taken[class_of[byte]]) {
				taken[class_of[byte]] = true;
				hunt->bytes[hunt->bytes_len++] = byte;
			}
}

static bool is_prey(const struct hunt *hunt, uint32_t number)
{
	uint32_t len;
	const uint32_t *states = lists_get(&hunt->states, number, &len);
	for (size_t i = 0; i < hunt->count; i++)
		if (hunt->automata[i]->accept[states[i]] != hunt->classes[i])
			return false;
	return true;
}

static const char *way_to(struct hunt *hunt, struct arena *arena, uint32_t number)
{
	size_t len = 0;
	for (uint32_t at = number; at; at = hunt->from.at[at])
		len++;
	char *text = arena_alloc(arena, len + 1);
	for (uint32_t at = number; at; at = hunt->from.at[at])
		text[--len] = (char)hunt->by.at[at];
	return text;
}

static void visit(struct hunt *hunt, uint32_t number, uint8_t byte, uint32_t *next)
{
	uint32_t len;
	const uint32_t *states = lists_get(&hunt->states, number, &len);
	for (size_t i = 0; i < hunt->count; i++) {
		const struct automaton *automaton = hunt->automata[i];
		next[i] = automaton->next[(size_t)states[i] * automaton->classes + automaton->class_of[byte]];
	}
	if (lists_put(&hunt->states, next, hunt->count) < hunt->from.len)
		return;
	vec_push(hunt->arena, &hunt->from, number);
	vec_push(hunt->arena, &hunt->by, byte);
}

/* Breadth first: the first that is met is a shortest. */
static int hunt_down(struct hunt *hunt, struct arena *arena, bool printable, const char **ret_text)
{
	uint32_t *next = arena_alloc(hunt->arena, (hunt->count + 1) * sizeof(*next));
	choose_bytes(hunt, printable);
	hunt->states = (struct lists){.arena = hunt->arena};
	hunt->from.len = hunt->by.len = 0;
	for (size_t i = 0; i < hunt->count; i++)
		next[i] = hunt->automata[i]->start;
	lists_put(&hunt->states, next, hunt->count);
	vec_push(hunt->arena, &hunt->from, 0);
	vec_push(hunt->arena, &hunt->by, 0);
	for (uint32_t number = 0; number < hunt->states.all.len; number++) {
		if (is_prey(hunt, number)) {
			*ret_text = way_to(hunt, arena, number);
			return 0;
		}
		for (uint32_t i = 0; i < hunt->bytes_len; i++)
			visit(hunt, number, hunt->bytes[i], next);
		if (hunt->states.all.len > PAIR_LIMIT)
			return -E2BIG;
	}
	*ret_text = NULL;
	return 0;
}

int automaton_witness(struct arena *arena, const struct automaton *const *automata, const uint32_t *classes,
		      size_t count, const char **ret_text)
{
	struct hunt hunt = {.arena = arena_create(), .automata = automata, .classes = classes, .count = count};
	const char *text = NULL;
	if (!hunt.arena)
		return -ENOMEM;
	int r = hunt_down(&hunt, arena, true, &text);
	if (!r && !text)
		r = hunt_down(&hunt, arena, false, &text);
	arena_destroy(hunt.arena);
	if (!r)
		*ret_text = text;
	return r;
}
