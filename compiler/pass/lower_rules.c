/* Rules, routes and nevers: parties to sets of classes, blocks and ports; conditions. */
#include "pass/lower.h"

#include <ctype.h>
#include <stdlib.h>

/* ---- Sources ------------------------------------------------------------------------------------ */

static struct range_set all_blocks(struct lowerer *lowerer)
{
	return lower_span(lowerer->arena, 0, lowerer->policy->blocks - 1);
}

static struct range_set all_sources(struct lowerer *lowerer)
{
	return lower_span(lowerer->arena, CLASS_WORLD, lowerer->policy->sources - 1);
}

static void add_numbers(struct arena *arena, struct numbers *to, const struct numbers *from)
{
	for (size_t i = 0; i < from->len; i++)
		vec_push(arena, to, from->at[i]);
}

struct party {
	struct numbers classes, blocks;
	bool any;
};

static void add_source(struct lowerer *lowerer, struct party *party, struct ast_decl *decl)
{
	size_t count = 0;
	struct ast_decl **leaves;
	switch (decl->kind) {
	case DECL_CIDR:
		add_numbers(lowerer->arena, &party->blocks, &lowerer->atoms.at[decl->number].blocks);
		break;
	case DECL_GROUP:
		leaves = ast_leaves(lowerer->arena, lowerer->ast, decl, &count);
		for (size_t i = 0; i < count; i++)
			add_source(lowerer, party, leaves[i]);
		break;
	default:
		vec_push(lowerer->arena, &party->classes, decl->number);
		if (lowerer->aliases)
			add_numbers(lowerer->arena, &party->classes, &lowerer->aliases[decl->number]);
		break;
	}
}

static void add_source_ref(struct lowerer *lowerer, struct party *party, const struct ast_decl *decl,
			   const struct ast_ref *ref)
{
	switch (ref->kind) {
	case REF_NAME:
		add_source(lowerer, party, ast_lookup(lowerer->arena, lowerer->ast, decl, ref->name.text));
		break;
	case REF_NAMESPACE:
		add_numbers(lowerer->arena, &party->classes,
			    &((struct space *)table_get(&lowerer->spaces, ref->name.text))->sources);
		break;
	case REF_WORLD:
		vec_push(lowerer->arena, &party->classes, CLASS_WORLD);
		break;
	case REF_NODE:
		vec_push(lowerer->arena, &party->classes, CLASS_NODE);
		break;
	default:
		party->any |= ref->kind == REF_ANY;
		break;
	}
}

struct rects {
	struct policy_rect *at;
	size_t len, cap;
};

static struct rects lower_refs(struct lowerer *lowerer, const struct ast_decl *decl, const struct ast_ref *refs)
{
	struct party party = {0};
	struct rects rects = {0};
	for (const struct ast_ref *ref = refs; ref; ref = ref->next)
		add_source_ref(lowerer, &party, decl, ref);
	if (party.any) {
		vec_push(lowerer->arena, &rects, (struct policy_rect){all_sources(lowerer), all_blocks(lowerer)});
		return rects;
	}
	if (party.classes.len)
		vec_push(lowerer->arena, &rects,
			 (struct policy_rect){lower_set(lowerer->arena, &party.classes), all_blocks(lowerer)});
	if (party.blocks.len)
		vec_push(lowerer->arena, &rects,
			 (struct policy_rect){all_sources(lowerer), lower_set(lowerer->arena, &party.blocks)});
	return rects;
}

struct policy_sources lower_sources(struct lowerer *lowerer, const struct ast_decl *decl, const struct ast_party *party)
{
	struct policy_sources sources = {0};
	struct rects in = lower_refs(lowerer, decl, party->in), out = lower_refs(lowerer, decl, party->out);
	for (size_t i = 0; i < in.len; i++)
		vec_push(lowerer->arena, &sources.in, in.at[i]);
	for (size_t i = 0; i < out.len; i++)
		vec_push(lowerer->arena, &sources.out, out.at[i]);
	return sources;
}

/* ---- Targets ------------------------------------------------------------------------------------ */

struct targets {
	struct policy_target *at;
	size_t len, cap;
};
struct targeting {
	struct lowerer *lowerer;
	const struct ast_decl *decl;
	const struct ast_range *ports; /* NULL: not said */
	bool declared;		       /* allow, or a condition on requests: only what is declared */
	bool workloads;		       /* a condition on peer.verified: `any` is of those alone that may be shown one */
	struct targets *out;
	struct numbers services;
};

static int range_compare(const void *left, const void *right)
{
	const struct range *a = left, *b = right;
	return a->lo != b->lo ? (a->lo < b->lo ? -1 : 1) : (a->hi > b->hi) - (a->hi < b->hi);
}

static struct range_set merge_ranges(struct range *at, uint32_t len)
{
	uint32_t out = 0;
	if (len)
		qsort(at, len, sizeof(*at), range_compare);
	for (uint32_t i = 0; i < len; i++) {
		if (out && at[i].lo <= at[out - 1].hi + 1)
			at[out - 1].hi = at[i].hi > at[out - 1].hi ? at[i].hi : at[out - 1].hi;
		else
			at[out++] = at[i];
	}
	return (struct range_set){at, out};
}

static struct range_set said_ports(struct targeting *targeting)
{
	VEC(struct range) ranges = {0};
	if (!targeting->ports)
		return lower_span(targeting->lowerer->arena, 0, 65535);
	for (const struct ast_range *range = targeting->ports; range; range = range->next)
		vec_push(targeting->lowerer->arena, &ranges, (struct range){range->lo, range->hi});
	return merge_ranges(ranges.at, ranges.len);
}

/* Of both protocols: where only what is declared is meant, that says which. */
static void add_target(struct targeting *targeting, struct range_set classes, bool declared)
{
	vec_push(targeting->lowerer->arena, targeting->out,
		 (struct policy_target){.classes = classes,
					.declared = declared,
					.tcp = true,
					.udp = true,
					.ports = said_ports(targeting)});
}

/* Port by port: where externals share addresses, each brings its own ports alone. */
static void add_external_ports(struct targeting *targeting, struct range_set classes, const struct ast_decl *decl,
			       bool udp)
{
	struct arena *arena = targeting->lowerer->arena;
	VEC(struct range) ranges = {0};
	struct range_set all = said_ports(targeting);
	for (const struct ast_item *item = decl->items; item; item = item->next) {
		if (item->kind != ITEM_PORT || (strcmp(item->protocol, "udp") == 0) != udp)
			continue;
		for (uint32_t i = 0; i < all.count; i++) {
			uint32_t lo = all.at[i].lo > item->ports->lo ? all.at[i].lo : item->ports->lo;
			uint32_t hi = all.at[i].hi < item->ports->hi ? all.at[i].hi : item->ports->hi;
			if (lo <= hi)
				vec_push(arena, &ranges, (struct range){lo, hi});
		}
	}
	if (ranges.len)
		vec_push(arena, targeting->out,
			 (struct policy_target){.classes = classes,
						.tcp = !udp,
						.udp = udp,
						.ports = merge_ranges(ranges.at, ranges.len)});
}

static void add_external(struct targeting *targeting, const struct ast_decl *decl)
{
	struct range_set classes =
		lower_set(targeting->lowerer->arena, &targeting->lowerer->atoms.at[decl->number].classes);
	if (!classes.count)
		return;
	if (!targeting->declared) {
		add_target(targeting, classes, false);
		return;
	}
	add_external_ports(targeting, classes, decl, false);
	add_external_ports(targeting, classes, decl, true);
}

static void add_leaf(struct targeting *targeting, struct ast_decl *decl)
{
	size_t count = 0;
	struct ast_decl **leaves;
	if (decl->kind == DECL_SERVICE) {
		vec_push(targeting->lowerer->arena, &targeting->services, decl->number);
	} else if (decl->kind == DECL_EXTERNAL) {
		add_external(targeting, decl);
	} else if (decl->kind == DECL_GROUP) {
		leaves = ast_leaves(targeting->lowerer->arena, targeting->lowerer->ast, decl, &count);
		for (size_t i = 0; i < count; i++)
			add_leaf(targeting, leaves[i]);
	}
}

static void add_any(struct targeting *targeting)
{
	struct lowerer *lowerer = targeting->lowerer;
	struct numbers services = {0};
	if (!targeting->declared) {
		struct range_set all = targeting->workloads
					       ? lower_span(lowerer->arena, CLASS_OTHER, lowerer->policy->sources - 1)
					       : lower_span(lowerer->arena, 0, lowerer->policy->classes.len - 1);
		add_target(targeting, all, false);
		return;
	}
	for (size_t i = 0; i < lowerer->services.len; i++)
		vec_push(lowerer->arena, &services, lowerer->services.at[i]->number);
	if (services.len)
		add_target(targeting, lower_set(lowerer->arena, &services), true);
	if (targeting->workloads)
		return;
	for (size_t i = 0; i < lowerer->externals.len; i++)
		add_external(targeting, lowerer->externals.at[i]);
	add_target(targeting, lower_span(lowerer->arena, CLASS_WORLD, CLASS_WORLD), false);
}

/* Workloads of no service declare nothing: like the world, every port of theirs is meant. */
static void add_space(struct targeting *targeting, const char *name, bool l7)
{
	struct lowerer *lowerer = targeting->lowerer;
	struct space *space = table_get(&lowerer->spaces, name);
	struct numbers services = {0};
	if (!targeting->declared) {
		add_target(targeting, lower_set(lowerer->arena, &space->targets), false);
		return;
	}
	for (size_t i = 0; i < space->targets.len; i++)
		if (space->targets.at[i] != space->class)
			vec_push(lowerer->arena, &services, space->targets.at[i]);
	if (services.len)
		add_target(targeting, lower_set(lowerer->arena, &services), true);
	if (!l7)
		add_target(targeting, lower_span(lowerer->arena, space->class, space->class), false);
}

static void add_targets(struct targeting *targeting, const struct ast_ref *refs, bool l7)
{
	struct lowerer *lowerer = targeting->lowerer;
	for (const struct ast_ref *ref = refs; ref; ref = ref->next) {
		if (ref->kind == REF_NAME)
			add_leaf(targeting, ast_lookup(lowerer->arena, lowerer->ast, targeting->decl, ref->name.text));
		else if (ref->kind == REF_NAMESPACE)
			add_space(targeting, ref->name.text, l7);
		else if (ref->kind == REF_ANY)
			add_any(targeting);
		else if (ref->kind == REF_WORLD)
			add_target(targeting, lower_span(lowerer->arena, CLASS_WORLD, CLASS_WORLD), false);
	}
	if (targeting->services.len)
		add_target(targeting, lower_set(lowerer->arena, &targeting->services), targeting->declared);
}

static int set_compare(const struct range_set *a, const struct range_set *b)
{
	for (uint32_t i = 0; i < a->count && i < b->count; i++) {
		int by = range_compare(&a->at[i], &b->at[i]);
		if (by)
			return by;
	}
	return (a->count > b->count) - (a->count < b->count);
}

static int target_compare(const void *left, const void *right)
{
	const struct policy_target *a = left, *b = right;
	int by = set_compare(&a->classes, &b->classes);
	if (by || (by = set_compare(&a->ports, &b->ports)))
		return by;
	return (a->declared * 4 + a->tcp * 2 + a->udp) - (b->declared * 4 + b->tcp * 2 + b->udp);
}

static struct policy_targets lower_targets(struct lowerer *lowerer, const struct ast_decl *decl)
{
	struct policy_targets targets = {0};
	struct targets in = {0}, out = {0};
	bool l7 = ast_uses_l7(decl->when), declared = l7 || (decl->kind == DECL_RULE && decl->effect == EFFECT_ALLOW);
	struct targeting targeting = {
		lowerer, decl, decl->to->ports, declared, ast_uses_field(decl->when, FIELD_VERIFIED), &in, {0}};
	add_targets(&targeting, decl->to->in, l7);
	targeting = (struct targeting){lowerer, decl, NULL, false, false, &out, {0}};
	add_targets(&targeting, decl->to->out, l7);
	if (in.len)
		qsort(in.at, in.len, sizeof(*in.at), target_compare);
	if (out.len)
		qsort(out.at, out.len, sizeof(*out.at), target_compare);
	for (size_t i = 0; i < in.len; i++)
		vec_push(lowerer->arena, &targets.in, in.at[i]);
	for (size_t i = 0; i < out.len; i++)
		vec_push(lowerer->arena, &targets.out, out.at[i]);
	return targets;
}

/* ---- Conditions --------------------------------------------------------------------------------- */

static const char *lower_case(struct arena *arena, const char *text)
{
	char *lower = arena_copy(arena, text, strlen(text));
	for (char *c = lower; *c; c++)
		*c = tolower((unsigned char)*c);
	return lower;
}

static const char *lower_value(struct lowerer *lowerer, enum field field, enum ast_op op, const char *text)
{
	const char *why;
	if (op != AST_LIKE && op != AST_MATCHES)
		return literal_normal(lowerer->arena, field, text, &why);
	if (field == FIELD_GRPC_METHOD)
		return arena_printf(lowerer->arena, op == AST_LIKE ? "/%s" : "/(?:%s)", text);
	return field == FIELD_HOST && op == AST_LIKE ? lower_case(lowerer->arena, text) : text;
}

static int text_compare(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void lower_atom(struct lowerer *lowerer, struct cond *cond, const struct ast_expr *expr)
{
	static const enum cond_op ops[] = {OP_EQ, OP_NE, OP_IN, OP_RANGE, OP_LIKE, OP_MATCHES, OP_HAS, OP_IS};
	enum field field = field_find(expr->name.text);
	cond->field = field == FIELD_GRPC_METHOD ? FIELD_PATH : field;
	cond->key = expr->key ? lower_case(lowerer->arena, expr->key) : NULL;
	cond->op = ops[expr->op];
	for (const struct ast_text *value = expr->values; value; value = value->next)
		vec_push(lowerer->arena, &cond->values, lower_value(lowerer, field, expr->op, value->text));
	for (const struct ast_range *range = expr->numbers; range; range = range->next)
		vec_push(lowerer->arena, &cond->numbers, (struct range){range->lo, range->hi});
	if (cond->values.len)
		qsort(cond->values.at, cond->values.len, sizeof(*cond->values.at), text_compare);
	cond->numbers.len = merge_ranges(cond->numbers.at, cond->numbers.len).count;
}

const struct cond *lower_condition(struct lowerer *lowerer, const struct ast_expr *expr)
{
	static const enum cond_kind kinds[] = {COND_ATOM, COND_AND, COND_OR, COND_NOT};
	if (!expr)
		return NULL;
	struct cond *cond = arena_alloc(lowerer->arena, sizeof(*cond));
	cond->kind = kinds[expr->kind];
	cond->span = expr->span;
	if (cond->kind == COND_ATOM)
		lower_atom(lowerer, cond, expr);
	cond->left = lower_condition(lowerer, expr->left);
	cond->right = lower_condition(lowerer, expr->right);
	return cond;
}

/* ---- Rules, routes, nevers ---------------------------------------------------------------------- */

static const char *rule_text(struct lowerer *lowerer, const struct ast_decl *decl)
{
	struct text text = {.arena = lowerer->arena};
	text_add(&text, "from ");
	ast_print_party(&text, decl->from);
	text_add(&text, " to ");
	ast_print_party(&text, decl->to);
	if (decl->when) {
		text_add(&text, " when ");
		ast_print_expr(&text, decl->when);
	}
	return text_end(&text);
}

static int rule_compare(const void *left, const void *right)
{
	const struct policy_rule *a = left, *b = right;
	return a->l7 != b->l7 ? a->l7 - b->l7 : strcmp(a->name, b->name);
}

static void lower_rule(struct lowerer *lowerer, const struct ast_decl *decl)
{
	struct policy_rule rule = {
		.name = decl->name.text,
		.effect = (enum policy_verdict)decl->effect,
		.l7 = ast_uses_l7(decl->when),
		.from = lower_sources(lowerer, decl, decl->from),
		.to = lower_targets(lowerer, decl),
		.when = lower_condition(lowerer, decl->when),
		.span = decl->span,
		.name_span = decl->name.span,
		.when_span = decl->when ? decl->when->span : decl->span,
		.text = rule_text(lowerer, decl),
	};
	lowerer->policy->asks_verified |= ast_uses_field(decl->when, FIELD_VERIFIED);
	vec_push(lowerer->arena, &lowerer->policy->rules, rule);
}

static struct policy_split lower_split(const struct policy_service *service, const struct ast_split *split)
{
	struct policy_split lowered = {.set = service->set, .weight = split->weight};
	for (size_t i = 0; split->subset && i < service->subsets.len; i++)
		if (strcmp(service->subsets.at[i].name, split->subset->text) == 0) {
			lowered.set = service->subsets.at[i].set;
			lowered.subset = service->subsets.at[i].name;
		}
	return lowered;
}

static void lower_arm(struct lowerer *lowerer, const struct ast_decl *route, uint32_t number, const struct ast_arm *arm)
{
	struct policy *policy = lowerer->policy;
	struct policy_service *service = &policy->services.at[number];
	struct policy_arm lowered = {.service = number,
				     .per_connection = arm->per_connection,
				     .l7 = ast_uses_l7(arm->when),
				     .when = lower_condition(lowerer, arm->when),
				     .span = arm->span};
	if (arm->sticky) {
		service->sticky = true;
		return;
	}
	if (arm->from)
		lowered.from = lower_sources(lowerer, route, arm->from);
	else
		vec_push(lowerer->arena, &lowered.from.in,
			 (struct policy_rect){lower_span(lowerer->arena, 0, policy->sources - 1), all_blocks(lowerer)});
	for (const struct ast_split *split = arm->splits; split; split = split->next)
		if (split->weight)
			vec_push(lowerer->arena, &lowered.splits, lower_split(service, split));
	service->arms++;
	vec_push(lowerer->arena, &policy->arms, lowered);
}

static void lower_never(struct lowerer *lowerer, const struct ast_decl *decl)
{
	struct policy_never never = {.text = decl->name.text,
				     .through_any = decl->through_any,
				     .span = decl->span,
				     .from = lower_sources(lowerer, decl, decl->from),
				     .to = lower_targets(lowerer, decl)};
	vec_push(lowerer->arena, &lowerer->policy->nevers, never);
}

void lower_rules(struct lowerer *lowerer)
{
	struct policy *policy = lowerer->policy;
	for (const struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next) {
		if (decl->kind == DECL_RULE)
			lower_rule(lowerer, decl);
		else if (decl->kind == DECL_NEVER)
			lower_never(lowerer, decl);
	}
	if (policy->rules.len)
		qsort(policy->rules.at, policy->rules.len, sizeof(*policy->rules.at), rule_compare);
	for (size_t i = 0; i < policy->rules.len; i++)
		policy->rules.at[i].rank = i;
	for (size_t i = 0; i < policy->services.len; i++) {
		struct policy_service *service = &policy->services.at[i];
		const struct ast_decl *route =
			table_get(&lowerer->ast->routes, policy->classes.at[service->class].name);
		service->first_arm = policy->arms.len;
		for (const struct ast_arm *arm = route ? route->arms : NULL; arm; arm = arm->next)
			lower_arm(lowerer, route, i, arm);
	}
}
