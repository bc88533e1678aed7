/* Strings for a walk through a diagram: do the automata of a field agree on one? */
#ifndef MESH_IR_WITNESS_H
#define MESH_IR_WITNESS_H

#include "base/table.h"
#include "ir/diagram_build.h"

#define WITNESS_FREE UINT32_MAX

/* The field that begins at FIELDS->at[FIRST] has its automata up to *RET_END. CLASSES holds, by automaton,
 * the value that the walk chose (0 absent, else 1 + accept class) or WITNESS_FREE. NORMAL: what a present
 * value can be, or NULL. *RET_TEXT: a shortest such string; NULL where it is free or absent. 1 there is
 * one, 0 there is none, -E2BIG not found within the bound on work. */
int witness_text(struct arena *arena, const struct diagram_fields *fields, uint32_t first, const uint32_t *classes,
		 const struct automaton *normal, uint32_t *ret_end, const char **ret_text);

/* As witness_text of what a request can have, for who asks often: the answers are kept. */
struct witnesses {
	struct arena *arena;
	struct table known;
	const struct automaton *normal[FIELDS];
};
struct witness {
	int answer;
	const char *text;
};
struct witnesses witnesses_create(struct arena *arena);
struct witness witness_find(struct witnesses *witnesses, const struct diagram_fields *fields, uint32_t first,
			    const uint32_t *classes);

/* Where the next field begins. */
uint32_t witness_next(const struct diagram_fields *fields, uint32_t first);

#endif
