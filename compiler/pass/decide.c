/* Policy to diagram: per destination, the diagrams of its rules merged two by two. Merging is
 * associative, commutative and idempotent, so the order of rules cannot matter. */
#include "base/table.h"
#include "ir/diagram_build.h"
#include "pass/pair.h"

#include <errno.h>

struct decider {
	struct arena *arena;
	const struct policy *policy;
	struct diags *diags;
	struct diagram *diagram;
	struct table fields; /* by the L7 rules of a destination */
	bool *wide;	     /* by rank */
};
struct nodes {
	node_id *at;
	size_t len, cap;
};

static node_id merge(struct diagram *diagram, enum diagram_op op, const node_id *nodes, size_t count)
{
	if (count == 1)
		return nodes[0];
	return diagram_apply(diagram, op, merge(diagram, op, nodes, count / 2),
			     merge(diagram, op, nodes + count / 2, count - count / 2));
}

static node_id merge_all(struct diagram *diagram, enum diagram_op op, const struct nodes *nodes, uint32_t empty)
{
	return nodes->len ? merge(diagram, op, nodes->at, nodes->len) : diagram_leaf(diagram, empty);
}

/* ---- Buckets ------------------------------------------------------------------------------------ */

/* Which rules speak of which destination. */
static void fill_buckets(struct decider *decider)
{
	const struct policy *policy = decider->policy;
	for (size_t rank = 0; rank < policy->rules.len; rank++) {
		const struct policy_targets *to = &policy->rules.at[rank].to;
		for (size_t i = 0; i < to->in.len; i++)
			for (uint32_t k = 0; k < to->in.at[i].classes.count; k++) {
				struct range range = to->in.at[i].classes.at[k];
				for (uint32_t dst = range.lo; dst <= range.hi && dst < policy->classes.len; dst++) {
					struct diagram_dst *at = diagram_dst(decider->diagram, dst);
					if (!at->rules.len || at->rules.at[at->rules.len - 1] != rank)
						vec_push(decider->arena, &at->rules, rank);
				}
			}
	}
}

static bool is_wide(const struct policy_rule *rule)
{
	uint32_t classes = 0;
	for (size_t i = 0; i < rule->from.in.len; i++)
		for (uint32_t k = 0; k < rule->from.in.at[i].classes.count; k++)
			classes += rule->from.in.at[i].classes.at[k].hi - rule->from.in.at[i].classes.at[k].lo + 1;
	return classes > DIAGRAM_WIDE_SOURCES;
}

/* ---- String fields ------------------------------------------------------------------------------ */

static const struct policy_service *service_of(const struct policy *policy, uint32_t dst)
{
	return policy->classes.at[dst].kind == CLASS_SERVICE ? &policy->services.at[policy->classes.at[dst].service]
							     : NULL;
}

struct asking {
	VEC(const struct cond *) conds;
	const char *key; /* says which they are */
};

static void add_asking(struct decider *decider, uint32_t dst, struct asking *asking)
{
	const struct policy *policy = decider->policy;
	const struct policy_service *service = service_of(policy, dst);
	struct diagram_dst *at = diagram_dst(decider->diagram, dst);
	for (size_t i = 0; i < at->rules.len; i++)
		if (policy->rules.at[at->rules.at[i]].l7) {
			vec_push(decider->arena, &asking->conds, policy->rules.at[at->rules.at[i]].when);
			asking->key = arena_printf(decider->arena, "%s %x", asking->key, at->rules.at[i]);
		}
	for (uint32_t i = 0; service && i < service->arms; i++)
		if (policy->arms.at[service->first_arm + i].l7) {
			vec_push(decider->arena, &asking->conds, policy->arms.at[service->first_arm + i].when);
			asking->key = arena_printf(decider->arena, "%s a%x", asking->key, service->first_arm + i);
		}
}

/* Rules that ask the same make the same automata: looked up by their ranks and the route's arms. */
static int make_fields(struct decider *decider, const struct asking *asking, const struct diagram_fields **ret_fields)
{
	*ret_fields = table_get(&decider->fields, asking->key);
	if (*ret_fields)
		return 0;
	int r = diagram_fields_make(decider->diagram, asking->conds.at, asking->conds.len, decider->diags, ret_fields);
	if (!r)
		table_put(&decider->fields, asking->key, (void *)*ret_fields);
	return r;
}

/* ---- The diagrams of one destination ------------------------------------------------------------- */

static void decide_rules(struct decider *decider, uint32_t dst)
{
	struct diagram *diagram = decider->diagram;
	struct diagram_dst *at = diagram_dst(diagram, dst);
	struct nodes verdicts = {0}, wide = {0}, audits = {0};
	for (size_t i = 0; i < at->rules.len && !diagram_over(diagram); i++) {
		uint32_t rank = at->rules.at[i];
		enum policy_verdict effect = decider->policy->rules.at[rank].effect;
		node_id rule = diagram_rule(diagram, rank, dst);
		if (effect == VERDICT_AUDIT) {
			vec_push(decider->arena, &audits,
				 diagram_label(diagram, rule, diagram_audit_single(diagram, rank), 0));
			continue;
		}
		node_id labelled = diagram_label(diagram, rule, effect == VERDICT_DENY ? rank : TERMINAL_ALLOW + rank,
						 TERMINAL_DEFAULT);
		vec_push(decider->arena, &verdicts, labelled);
		if (decider->wide[rank])
			vec_push(decider->arena, &wide, labelled);
	}
	at->roots[DIAGRAM_VERDICT] = merge_all(diagram, DIAGRAM_MIN, &verdicts, TERMINAL_DEFAULT);
	at->roots[DIAGRAM_AUDIT] = merge_all(diagram, DIAGRAM_UNION, &audits, 0);
	at->roots[DIAGRAM_WIDE] = merge_all(diagram, DIAGRAM_MIN, &wide, TERMINAL_DEFAULT);
}

/* The first arm that matches: the lowest number. */
static void decide_route(struct decider *decider, uint32_t dst)
{
	struct diagram *diagram = decider->diagram;
	struct diagram_dst *at = diagram_dst(diagram, dst);
	const struct policy_service *service = service_of(decider->policy, dst);
	struct nodes arms = {0};
	for (uint32_t i = 0; service && i < service->arms; i++) {
		const struct policy_arm *arm = &decider->policy->arms.at[service->first_arm + i];
		node_id node = diagram_apply(diagram, DIAGRAM_AND, diagram_sources(diagram, &arm->from),
					     diagram_cond(diagram, arm->when, at->fields));
		vec_push(decider->arena, &arms, diagram_label(diagram, node, service->first_arm + i, TERMINAL_DEFAULT));
	}
	at->roots[DIAGRAM_ROUTE] = merge_all(diagram, DIAGRAM_MIN, &arms, TERMINAL_DEFAULT);
}

static size_t count_residuals(const struct diagram *diagram, node_id node, struct table *seen, struct arena *arena)
{
	if (diagram_is_terminal(node))
		return 0;
	const char *key = arena_printf(arena, "%x", node);
	if (table_put(seen, key, seen))
		return 0;
	uint32_t count;
	const struct diagram_edge *edges = diagram_edges(diagram, node, &count);
	size_t below = diagram_level(diagram, node) >= LEVEL_STRING;
	for (uint32_t i = 0; i < count; i++)
		below += count_residuals(diagram, edges[i].child, seen, arena);
	return below;
}

/* Blames the destination, and the rule of the longest condition among those that speak of it. */
static int over(struct decider *decider, uint32_t dst, const char *what)
{
	const struct policy *policy = decider->policy;
	const struct policy_service *service = service_of(policy, dst);
	const struct diagram_dst *at = diagram_dst(decider->diagram, dst);
	const struct policy_rule *worst = NULL;
	for (size_t i = 0; i < at->rules.len; i++) {
		const struct policy_rule *rule = &policy->rules.at[at->rules.at[i]];
		if (!worst || rule->when_span.len > worst->when_span.len)
			worst = rule;
	}
	struct diag *diag =
		diag_add(decider->diags, DIAG_BOUND, worst ? worst->span : (struct span){0},
			 "the %zu rules to '%s' need more than %s", at->rules.len, policy->classes.at[dst].name, what);
	if (service) {
		diag->spans[1] = service->span;
		diag->labels[1] = "this destination";
	}
	diag->note = "conditions on many different fields multiply: fewer fields in one rule, or more services, help";
	return -E2BIG;
}

/* Its fields are made already. */
static int decide_destination(struct decider *decider, uint32_t dst)
{
	struct diagram_dst *at = diagram_dst(decider->diagram, dst);
	decide_rules(decider, dst);
	decide_route(decider, dst);
	if (diagram_over(decider->diagram))
		return over(decider, dst, "16 million edges or 268 million steps");
	struct table seen = {.arena = decider->arena};
	if (at->fields->count && count_residuals(decider->diagram, at->roots[DIAGRAM_VERDICT], &seen, decider->arena) >
					 DIAGRAM_LIMIT_RESIDUALS)
		return over(decider, dst, "65,536 nodes for requests");
	return 0;
}

static void decider_begin(struct decider *decider, struct arena *arena, const struct policy *policy,
			  struct diags *diags)
{
	*decider = (struct decider){.arena = arena, .policy = policy, .diags = diags, .fields = {.arena = arena}};
	decider->diagram = diagram_create(arena, policy);
	decider->wide = arena_alloc(arena, policy->rules.len + 1);
	for (size_t i = 0; i < policy->rules.len; i++)
		decider->wide[i] = is_wide(&policy->rules.at[i]);
	fill_buckets(decider);
}

int decide(struct arena *arena, const struct policy *policy, struct diags *diags, struct diagram **ret_diagram)
{
	struct decider decider;
	decider_begin(&decider, arena, policy, diags);
	for (uint32_t dst = 0; dst < policy->classes.len; dst++) {
		struct asking asking = {.key = ""};
		add_asking(&decider, dst, &asking);
		int r = make_fields(&decider, &asking, &diagram_dst(decider.diagram, dst)->fields);
		if (!r)
			r = decide_destination(&decider, dst);
		if (r)
			return r;
	}
	*ret_diagram = decider.diagram;
	return 0;
}

/* ---- Two policies ------------------------------------------------------------------------------------ */

/* Both sides ask the fields of a pair together, so that their classes of values are the same. */
static int decide_target(struct decider deciders[SIDES], const uint32_t dst[SIDES])
{
	const struct diagram_fields *fields;
	struct asking asking = {.key = ""};
	add_asking(&deciders[OLD], dst[OLD], &asking);
	asking.key = arena_printf(deciders[OLD].arena, "%s |", asking.key);
	add_asking(&deciders[NEW], dst[NEW], &asking);
	int r = make_fields(&deciders[OLD], &asking, &fields);
	for (int side = 0; side < SIDES && !r; side++) {
		diagram_dst(deciders[side].diagram, dst[side])->fields = fields;
		r = decide_destination(&deciders[side], dst[side]);
	}
	return r;
}

int decide_pair(struct pair *pair)
{
	struct decider deciders[SIDES];
	int r = 0;
	for (int side = 0; side < SIDES; side++) {
		decider_begin(&deciders[side], pair->arena, pair->runs[side]->policy, &pair->runs[side]->diags);
		pair->diagrams[side] = deciders[side].diagram;
	}
	for (size_t i = 0; i < pair->targets.len && !r; i++)
		r = decide_target(deciders, pair->targets.at[i].dst);
	return r;
}
