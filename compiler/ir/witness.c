#include "ir/witness.h"

#include "ir/ast.h"
#include "ir/request.h"

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

/* ---- Kept ------------------------------------------------------------------------------------------ */

struct witnesses witnesses_create(struct arena *arena)
{
	return (struct witnesses){.arena = arena, .known = {.arena = arena}};
}

static const struct automaton *normal_of(struct witnesses *witnesses, enum field field)
{
	struct pattern pattern = {PATTERN_RE, request_field_pattern(field), false};
	struct automaton *automaton;
	const char *why;
	size_t bad;
	if (!witnesses->normal[field] && automaton_make(witnesses->arena, &pattern, 1, &automaton, &bad, &why) == 0)
		witnesses->normal[field] = automaton;
	return witnesses->normal[field];
}

struct witness witness_find(struct witnesses *witnesses, const struct diagram_fields *fields, uint32_t first,
			    const uint32_t *classes)
{
	struct text key = {.arena = witnesses->arena};
	uint32_t end = witness_next(fields, first);
	text_add(&key, "%p %u", (const void *)fields, first);
	for (uint32_t i = first; i < end; i++)
		text_add(&key, " %x", classes[i]);
	const char *name = text_end(&key);
	struct witness *witness = table_get(&witnesses->known, name);
	if (witness)
		return *witness;
	witness = arena_alloc(witnesses->arena, sizeof(*witness));
	witness->answer = witness_text(witnesses->arena, fields, first, classes,
				       normal_of(witnesses, fields->at[first].field), &end, &witness->text);
	table_put(&witnesses->known, name, witness);
	return *witness;
}
