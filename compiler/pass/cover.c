#include "pass/cover.h"

enum { VISITS = 1 << 14 }; /* of one destination: a rule's own part is small, or it decides much */

struct covering {
	const struct diagram *diagram;
	struct cover *cover;
	uint32_t visits;
};

static void meet(struct cover *cover, uint32_t terminal)
{
	uint32_t best = DIAGRAM_BEST(terminal), rank = best < TERMINAL_ALLOW ? best : best - TERMINAL_ALLOW;
	cover->allow |= best >= TERMINAL_ALLOW;
	for (uint32_t i = 0; i < cover->count; i++)
		if (cover->ranks[i] == rank)
			return;
	if (cover->count == COVER_NAMES)
		cover->gave_up = true;
	else
		cover->ranks[cover->count++] = rank;
}

static void visit(struct covering *covering, node_id node)
{
	struct cover *cover = covering->cover;
	uint32_t count;
	if (cover->gave_up && cover->allow)
		return;
	if (diagram_is_terminal(node)) {
		if (diagram_terminal(covering->diagram, node) != TERMINAL_DEFAULT)
			meet(cover, diagram_terminal(covering->diagram, node));
		return;
	}
	if (++covering->visits > VISITS) {
		cover->gave_up = true;
		return;
	}
	const struct diagram_edge *edges = diagram_edges(covering->diagram, node, &count);
	for (uint32_t i = 0; i < count; i++)
		visit(covering, edges[i].child);
}

void cover_add(struct diagram *diagram, node_id root, node_id rule, struct cover *cover)
{
	struct covering covering = {.diagram = diagram, .cover = cover};
	/* `and` keeps what stands in the verdicts where RULE says yes, and says no, which is the default, elsewhere. */
	visit(&covering, diagram_apply(diagram, DIAGRAM_AND, root, rule));
}

const char *cover_names(struct arena *arena, const struct policy *policy, const struct cover *cover)
{
	const char *text = "";
	for (uint32_t i = 0; i < cover->count; i++)
		text = arena_printf(arena, "%s%s'%s'", text,
				    !i					     ? ""
				    : i + 1 < cover->count || cover->gave_up ? ", "
									     : " and ",
				    policy->rules.at[cover->ranks[i]].name);
	return cover->gave_up ? arena_printf(arena, "%s and others", text) : text;
}
