/* Names that stand for many: a request is of one, and who asks `why` by such a name is told which to say. */
#include "pass/lower.h"

/* The second address of RANGES: the first is often a network's own. */
static const char *address_of(struct lowerer *lowerer, const struct atom *atom)
{
	struct address_range one = {0};
	if (!atom->ranges.len)
		return NULL;
	one.lo = atom->ranges.at[0].lo + (atom->ranges.at[0].hi > atom->ranges.at[0].lo);
	one.hi = one.lo;
	one.is_v6 = one.lo >> 32 != 0xffff;
	return address_print(lowerer->arena, &one);
}

static const char *example_of(struct lowerer *lowerer, struct ast_decl *decl)
{
	size_t count = 0;
	struct ast_decl **leaves = ast_leaves(lowerer->arena, lowerer->ast, decl, &count);
	if (!count)
		return NULL;
	if (leaves[0]->kind == DECL_CIDR)
		return address_of(lowerer, &lowerer->atoms.at[leaves[0]->number]);
	return ast_qualified(lowerer->arena, leaves[0]->ns, leaves[0]->name.text);
}

void lower_plurals(struct lowerer *lowerer)
{
	for (struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next) {
		if (decl->kind != DECL_CIDR && decl->kind != DECL_GROUP)
			continue;
		struct policy_plural plural = {.name = ast_qualified(lowerer->arena, decl->ns, decl->name.text),
					       .is_group = decl->kind == DECL_GROUP,
					       .example = example_of(lowerer, decl)};
		vec_push(lowerer->arena, &lowerer->policy->plurals, plural);
	}
}
