/* Shared by the files that read patterns and make automata of them: ir/pattern_*.c, ir/automaton.c. */
#ifndef MESH_IR_PATTERN_H
#define MESH_IR_PATTERN_H

#include "base/vec.h"
#include "ir/automaton.h"

struct byte_set {
	uint64_t bits[4];
};

static inline bool byte_set_has(const struct byte_set *set, unsigned byte)
{
	return set->bits[byte / 64] >> byte % 64 & 1;
}

static inline void byte_set_add(struct byte_set *set, unsigned lo, unsigned hi)
{
	for (unsigned byte = lo; byte <= hi; byte++)
		set->bits[byte / 64] |= (uint64_t)1 << byte % 64;
}

static inline void byte_set_join(struct byte_set *set, struct byte_set other)
{
	for (int i = 0; i < 4; i++)
		set->bits[i] |= other.bits[i];
}

static inline void byte_set_flip(struct byte_set *set)
{
	for (int i = 0; i < 4; i++)
		set->bits[i] = ~set->bits[i];
}

/* Each letter in the other case, too. */
static inline void byte_set_fold(struct byte_set *set)
{
	uint64_t letters = (uint64_t)0x7fffffe, upper = set->bits[1] & letters, lower = set->bits[1] >> 32 & letters;
	set->bits[1] |= upper << 32 | lower;
}

enum tree_kind { TREE_SET, TREE_CAT, TREE_ALT, TREE_REPEAT };

#define TREE_FOREVER UINT32_MAX

/* A pattern as read. CAT of nothing is the empty string. */
struct tree {
	enum tree_kind kind;
	struct byte_set set;	  /* SET: one byte of these */
	VEC(struct tree *) parts; /* CAT, ALT; REPEAT: one */
	uint32_t min, max;	  /* REPEAT */
	uint32_t number;	  /* SET: of pattern_dfa.c */
};

struct tree *tree_make(struct arena *arena, enum tree_kind kind);
struct tree *tree_set(struct arena *arena, struct byte_set set);
void tree_add(struct arena *arena, struct tree *tree, struct tree *part);

/* ir/pattern_re.c. NULL: *ret_why says what is wrong and where. */
struct tree *pattern_read_re(struct arena *arena, const char *text, bool fold, const char **ret_why);

/* One pattern's minimal complete DFA; the start is state 0. */
struct pattern_dfa {
	uint32_t states, classes;
	uint8_t class_of[256];
	const uint32_t *next;
	const bool *accept;
	uint32_t dead; /* the state that nothing leaves and that does not accept; UINT32_MAX: none */
};

/* ir/pattern_dfa.c. As automaton_make; adds its steps to *WORK. */
int pattern_dfa_make(struct arena *arena, const struct pattern *pattern, struct pattern_dfa *ret_dfa, uint64_t *work,
		     const char **ret_why);

#endif
