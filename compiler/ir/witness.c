#include "ir/witness.h"

#include <errno.h>

uint32_t witness_next(const struct diagram_fields *fields, uint32_t first)
{
	const struct diagram_field *field = &fields->at[first];
	uint32_t end = first + 1;
	while (end < fields->count && fields->at[end].field == field->field &&
	       (!field->key || strcmp(fields->at[end].key, field->key) == 0))
		end++;
	return end;
}

/* The class of what matches the one pattern that AUTOMATON was made of. */
static uint32_t matching_class(const struct automaton *automaton)
{
	uint32_t class = 0;
	while (class + 1 < automaton->accept_classes && !automaton->set_len[class])
		class ++;
	return class;
}

int witness_text(struct arena *arena, const struct diagram_fields *fields, uint32_t first, const uint32_t *classes,
		 const struct automaton *normal, uint32_t *ret_end, const char **ret_text)
{
	const struct automaton *automata[DIAGRAM_LIMIT_AUTOMATA + 1];
	uint32_t wanted[DIAGRAM_LIMIT_AUTOMATA + 1], count = 0, absent = 0;
	*ret_end = witness_next(fields, first);
	*ret_text = NULL;
	for (uint32_t i = first; i < *ret_end; i++) {
		if (classes[i] == WITNESS_FREE)
			continue;
		absent += classes[i] == 0;
		automata[count] = fields->at[i].automaton;
		wanted[count++] = classes[i] - 1;
	}
	if (absent || !count)
		return absent == count;
	if (normal) {
		automata[count] = normal;
		wanted[count++] = matching_class(normal);
	}
	if (automaton_witness(arena, automata, wanted, count, ret_text))
		return -E2BIG;
	return *ret_text != NULL;
}
