/* What a policy's selectors make of an inventory. */
#include "pass/match.h"

#include "base/selector.h"
#include "base/table.h"
#include "ir/ast.h"

struct matcher {
	struct run *run;
	const struct inventory *inventory;
	struct table names;  /* label names that some workload has */
	struct table values; /* "name=value" */
	VEC(const char *) name_list, value_list;
};

/* ---- What labels there are ---------------------------------------------------------------------- */

static const char *pair(struct matcher *matcher, const char *name, const char *value)
{
	return arena_printf(matcher->run->arena, "%s=%s", name, value);
}

static void learn(struct matcher *matcher)
{
	struct arena *arena = matcher->run->arena;
	for (size_t i = 0; i < matcher->inventory->workloads.len; i++) {
		const struct labels *labels = &matcher->inventory->workloads.at[i].labels;
		for (size_t k = 0; k < labels->len; k++) {
			const char *both = pair(matcher, labels->at[k].name, labels->at[k].value);
			if (!table_put(&matcher->names, labels->at[k].name, (void *)labels->at[k].name))
				vec_push(arena, &matcher->name_list, labels->at[k].name);
			if (!table_put(&matcher->values, both, (void *)both))
				vec_push(arena, &matcher->value_list, both);
		}
	}
}

/* ---- Selectors as they are written -------------------------------------------------------------- */

static void check_name(struct matcher *matcher, const struct ast_text *name)
{
	if (table_get(&matcher->names, name->text))
		return;
	const char *near = diag_nearest(name->text, matcher->name_list.at, matcher->name_list.len);
	/* A label that nobody has yet may be meant; one that is nearly another's is a slip. */
	if (!near || diag_distance(near, name->text) > 2)
		return;
	struct diag *diag =
		diag_add(&matcher->run->diags, DIAG_LABEL, name->span, "no workload has a label '%s'", name->text);
	/* The inventory goes before the finding is printed. */
	diag->fix = arena_copy(matcher->run->arena, near, strlen(near));
	diag->fix_span = name->span;
}

static void check_value(struct matcher *matcher, const struct ast_text *name, const struct ast_text *value)
{
	const char *both = pair(matcher, name->text, value->text);
	if (!table_get(&matcher->names, name->text) || table_get(&matcher->values, both))
		return;
	const char *near = diag_nearest(both, matcher->value_list.at, matcher->value_list.len);
	size_t len = strlen(name->text) + 1;
	if (!near || diag_distance(near, both) > 2 || strncmp(near, both, len) != 0)
		return;
	struct diag *diag = diag_add(&matcher->run->diags, DIAG_LABEL, value->span,
				     "no workload has '%s' as its label '%s'", value->text, name->text);
	diag->fix = arena_printf(matcher->run->arena, "\"%s\"", near + len);
	diag->fix_span = value->span;
}

static void check_labels(struct matcher *matcher, const struct ast_expr *expr)
{
	if (!expr)
		return;
	check_labels(matcher, expr->left);
	check_labels(matcher, expr->right);
	if (expr->kind != EXPR_ATOM)
		return;
	check_name(matcher, &expr->name);
	for (const struct ast_text *value = expr->values; value; value = value->next)
		check_value(matcher, &expr->name, value);
}

/* ---- What they match ---------------------------------------------------------------------------- */

/* A service in the chain of one label that its workloads must have, or of none. */
struct entry {
	uint32_t service;
	struct entry *next;
};
struct tally {
	size_t *members; /* by service */
	size_t *subsets; /* by backend set */
};

/* The selector, or a part of its `and`, that asks for one value of one label. */
static const json_t *required(const json_t *selector)
{
	const char *op = json_string_value(json_object_get(selector, "op"));
	size_t i;
	const json_t *part, *found = NULL;
	if (!op || strcmp(op, "==") == 0)
		return op ? selector : NULL;
	if (strcmp(op, "and") == 0)
		json_array_foreach (json_object_get(selector, "args"), i, part)
			found = found ? found : required(part);
	return found;
}

static void index_services(struct matcher *matcher, struct table *chains)
{
	struct arena *arena = matcher->run->arena;
	for (uint32_t i = 0; i < matcher->run->policy->services.len; i++) {
		const struct policy_service *service = &matcher->run->policy->services.at[i];
		const json_t *label = required(service->selector);
		const char *key = !label ? arena_printf(arena, "%s/", service->ns)
					 : arena_printf(arena, "%s/%s=%s", service->ns,
							json_string_value(json_object_get(label, "label")),
							json_string_value(json_object_get(label, "value")));
		struct entry *entry = arena_alloc(arena, sizeof(*entry));
		*entry = (struct entry){i, table_get(chains, key)};
		table_put(chains, key, entry);
	}
}

static void report_conflict(struct matcher *matcher, const struct workload *workload,
			    const struct policy_service *first, const struct policy_service *second)
{
	struct diag *diag = diag_add(&matcher->run->diags, DIAG_CONFLICT, first->span,
				     "workload '%s/%s' is in two services: every connection to it is denied",
				     workload->ns, workload->name);
	diag->spans[1] = second->span;
	diag->labels[1] = "the other";
}

/* Counts WORKLOAD in the services of CHAIN; *RET_FIRST is the one that it is in. */
static void count_chain(struct matcher *matcher, struct tally *tally, const struct workload *workload,
			const struct entry *chain, const struct policy_service **ret_first)
{
	for (; chain; chain = chain->next) {
		const struct policy_service *service = &matcher->run->policy->services.at[chain->service];
		if (!service->selector || !selector_matches(service->selector, &workload->labels))
			continue;
		if (*ret_first && *ret_first != service)
			report_conflict(matcher, workload, *ret_first, service);
		*ret_first = service;
		tally->members[chain->service]++;
		for (size_t i = 0; i < service->subsets.len; i++)
			tally->subsets[service->subsets.at[i].set] +=
				selector_matches(service->subsets.at[i].selector, &workload->labels);
	}
}

static void count_workload(struct matcher *matcher, struct tally *tally, const struct table *chains,
			   const struct workload *workload)
{
	struct arena *arena = matcher->run->arena;
	const struct policy_service *first = NULL;
	count_chain(matcher, tally, workload, table_get(chains, arena_printf(arena, "%s/", workload->ns)), &first);
	for (size_t i = 0; i < workload->labels.len; i++) {
		const struct label *label = &workload->labels.at[i];
		count_chain(matcher, tally, workload,
			    table_get(chains, arena_printf(arena, "%s/%s=%s", workload->ns, label->name, label->value)),
			    &first);
	}
}

static void report_empty(struct matcher *matcher, const struct tally *tally)
{
	struct diags *diags = &matcher->run->diags;
	for (size_t i = 0; i < matcher->run->policy->services.len; i++) {
		const struct policy_service *service = &matcher->run->policy->services.at[i];
		if (service->selector && !tally->members[i])
			diag_add(diags, DIAG_NO_WORKLOAD, service->span,
				 "no workload of the inventory is in service '%s'", service->name);
		for (size_t k = 0; tally->members[i] && k < service->subsets.len; k++)
			if (!tally->subsets[service->subsets.at[k].set])
				diag_add(diags, DIAG_NO_WORKLOAD, service->subsets.at[k].span,
					 "no workload of the inventory is in subset '%s' of '%s'",
					 service->subsets.at[k].name, service->name)
					->note = "its share goes to the others";
	}
}

void match_inventory(struct run *run, const struct inventory *inventory)
{
	struct matcher matcher = {
		.run = run, .inventory = inventory, .names = {.arena = run->arena}, .values = {.arena = run->arena}};
	learn(&matcher);
	for (const struct ast_decl *decl = run->ast->first; decl; decl = decl->next)
		for (const struct ast_item *item = decl->items; item; item = item->next)
			if (item->kind == ITEM_WORKLOAD || item->kind == ITEM_SUBSET)
				check_labels(&matcher, item->expr);
	struct table chains = {.arena = run->arena};
	struct tally tally = {arena_alloc(run->arena, (run->policy->services.len + 1) * sizeof(size_t)),
			      arena_alloc(run->arena, (run->policy->sets + 1) * sizeof(size_t))};
	index_services(&matcher, &chains);
	for (size_t i = 0; i < inventory->workloads.len; i++)
		count_workload(&matcher, &tally, &chains, &inventory->workloads.at[i]);
	report_empty(&matcher, &tally);
	match_addresses(run, inventory);
}
