/* What verdicts tell of rules: which of them change nothing, whom they forget. Read off a diagram of its own,
 * which says of each request what would decide it without the rule that does. */
#include "pass/lint.h"

#include "pass/cover.h"
#include "pass/place.h"
#include "pass/removal.h"

enum {
	HELPED_LIMIT = 1000,
	AUDITED_LIMIT = 1 << 17, /* destinations of audits: beyond it nothing is said */
};

struct linter {
	struct run *run;
	const struct policy *policy;
	struct diagram *diagram;
	node_id *roots; /* by destination */
	uint8_t *does;	/* by rank */
	bool l7;	/* of the destinations that are being marked: any rule asks for what a request has */
	size_t audited; /* destinations of audits that were looked at */
	size_t helped;	/* findings whose helpers were looked for */
};

/* What a rule does for the requests that it decides. */
enum { DOES_DECIDE = 1, DOES_CHANGE = 2 /* their verdict */, DOES_AS_DEFAULT = 4, DOES_AS_RULES = 8 };

/* ---- The diagram ---------------------------------------------------------------------------------- */

static void find_deciding(const struct diagram *diagram, node_id node, bool *seen, uint8_t *does)
{
	uint32_t count;
	if (diagram_is_terminal(node)) {
		uint32_t best = diagram_terminal(diagram, node);
		if (best != TERMINAL_DEFAULT)
			does[best < TERMINAL_ALLOW ? best : best - TERMINAL_ALLOW] |= DOES_DECIDE;
		return;
	}
	if (seen[node])
		return;
	seen[node] = true;
	const struct diagram_edge *edges = diagram_edges(diagram, node, &count);
	for (uint32_t i = 0; i < count; i++)
		find_deciding(diagram, edges[i].child, seen, does);
}

static node_id merge(struct diagram *diagram, const node_id *nodes, size_t count)
{
	if (count < 2)
		return count ? nodes[0] : diagram_leaf(diagram, TERMINAL_DEFAULT);
	return diagram_apply(diagram, DIAGRAM_SECOND, merge(diagram, nodes, count / 2),
			     merge(diagram, nodes + count / 2, count - count / 2));
}

/* Hidden rules are told by analyze, and are no reason to remove what hides them: of them only the allows are
 * here, for the denies that hide them. */
static uint32_t label_of(const struct linter *linter, uint32_t rank)
{
	bool deny = linter->policy->rules.at[rank].effect == VERDICT_DENY, hidden = !linter->does[rank];
	return deny ? hidden ? TERMINAL_DEFAULT : rank : (hidden ? DIAGRAM_HIDDEN : TERMINAL_ALLOW) + rank;
}

static node_id root_of(struct linter *linter, uint32_t dst)
{
	struct diagram *diagram = linter->diagram;
	const struct diagram_dst *at = diagram_dst(diagram, dst);
	VEC(node_id) nodes = {0};
	for (size_t i = 0; i < at->rules.len; i++) {
		uint32_t rank = at->rules.at[i], label = label_of(linter, rank);
		if (linter->policy->rules.at[rank].effect != VERDICT_AUDIT && label != TERMINAL_DEFAULT)
			vec_push(linter->run->arena, &nodes,
				 diagram_label(diagram, diagram_rule(diagram, rank, dst), label, TERMINAL_DEFAULT));
	}
	return diagram_taken(diagram, merge(diagram, nodes.at, nodes.len), dst);
}

static bool build(struct linter *linter)
{
	struct run *run = linter->run;
	uint32_t dsts = linter->policy->classes.len;
	node_id *taken = arena_alloc(run->arena, dsts * sizeof(*taken));
	for (uint32_t dst = 0; dst < dsts; dst++)
		taken[dst] = diagram_taken(run->diagram, diagram_root(run->diagram, DIAGRAM_VERDICT, dst), dst);
	bool *seen = arena_alloc(run->arena, diagram_nodes(run->diagram) + 1);
	linter->does = arena_alloc(run->arena, linter->policy->rules.len + 1);
	linter->roots = arena_alloc(run->arena, dsts * sizeof(*linter->roots));
	linter->diagram = diagram_create(run->arena, linter->policy);
	for (uint32_t dst = 0; dst < dsts; dst++)
		find_deciding(run->diagram, taken[dst], seen, linter->does);
	for (uint32_t dst = 0; dst < dsts && !diagram_over(linter->diagram); dst++) {
		*diagram_dst(linter->diagram, dst) = *diagram_dst(run->diagram, dst);
		linter->roots[dst] = root_of(linter, dst);
	}
	return !diagram_over(linter->diagram);
}

/* ---- Rules that change nothing -------------------------------------------------------------------- */

static void mark_terminal(struct linter *linter, uint32_t terminal, enum policy_verdict by_default)
{
	if (terminal == TERMINAL_DEFAULT)
		return;
	uint32_t best = DIAGRAM_BEST(terminal), next = DIAGRAM_NEXT(terminal);
	bool deny = best < TERMINAL_ALLOW;
	uint32_t rank = deny ? best : best - TERMINAL_ALLOW;
	if (next == DIAGRAM_NEXT_HIDDEN && !deny)
		next = DIAGRAM_NEXT_DEFAULT;
	bool same = next == DIAGRAM_NEXT_DEFAULT ? by_default == (deny ? VERDICT_DENY : VERDICT_ALLOW)
						 : deny == (next == DIAGRAM_NEXT_DENY);
	/* Where a default allows, a rule about requests denies those that cannot be read: an allow in its place, or
	 * before it, changes that. */
	if (next == DIAGRAM_NEXT_DEFAULT && !deny && linter->l7)
		same = false;
	linter->does[rank] |= !same ? DOES_CHANGE : next == DIAGRAM_NEXT_DEFAULT ? DOES_AS_DEFAULT : DOES_AS_RULES;
}

static void mark(struct linter *linter, node_id node, bool *seen, enum policy_verdict by_default)
{
	uint32_t count;
	if (diagram_is_terminal(node)) {
		mark_terminal(linter, diagram_terminal(linter->diagram, node), by_default);
		return;
	}
	if (seen[node])
		return;
	seen[node] = true;
	const struct diagram_edge *edges = diagram_edges(linter->diagram, node, &count);
	for (uint32_t i = 0; i < count; i++)
		mark(linter, edges[i].child, seen, by_default);
}

/* Rules of the same kind that match some of what RULE does at DST. */
static void find_helpers(struct linter *linter, const struct policy_rule *rule, uint32_t dst, struct cover *cover)
{
	struct diagram *diagram = linter->diagram;
	const struct diagram_dst *at = diagram_dst(diagram, dst);
	node_id node = diagram_taken(diagram, diagram_rule(diagram, rule->rank, dst), dst);
	for (size_t i = 0; i < at->rules.len && node != diagram_no(diagram) && !cover->gave_up; i++) {
		uint32_t rank = at->rules.at[i];
		if (rank == rule->rank || linter->policy->rules.at[rank].effect != rule->effect ||
		    !linter->does[rank] ||
		    diagram_apply(diagram, DIAGRAM_AND, node, diagram_rule(diagram, rank, dst)) == diagram_no(diagram))
			continue;
		if (cover->count < COVER_NAMES)
			cover->ranks[cover->count++] = rank;
		else
			cover->gave_up = true;
	}
}

/* At the first destination that has any. */
static struct cover helpers_of(struct linter *linter, const struct policy_rule *rule)
{
	struct cover cover = {0};
	if (linter->helped++ >= HELPED_LIMIT)
		return cover;
	for (size_t i = 0; i < rule->to.in.len; i++)
		for (uint32_t k = 0; k < rule->to.in.at[i].classes.count; k++) {
			struct range range = rule->to.in.at[i].classes.at[k];
			for (uint32_t dst = range.lo; dst <= range.hi && !cover.count; dst++)
				find_helpers(linter, rule, dst, &cover);
		}
	return cover;
}

static void report_default(struct linter *linter, const struct policy_rule *rule)
{
	diag_add(&linter->run->diags, DIAG_DEFAULT_SAYS_SO, rule->span, "without rule '%s' the default %s the same%s",
		 rule->name, rule->effect == VERDICT_DENY ? "denies" : "allows",
		 linter->does[rule->rank] & DOES_AS_RULES ? ", with other rules" : "");
}

static void report_redundant(struct linter *linter, const struct policy_rule *rule)
{
	struct cover cover = helpers_of(linter, rule);
	const char *names = cover.count ? cover_names(linter->run->arena, linter->policy, &cover) : "other rules";
	bool deny = rule->effect == VERDICT_DENY, one = cover.count == 1 && !cover.gave_up;
	struct diag *diag = diag_add(&linter->run->diags, DIAG_REDUNDANT, rule->span,
				     "rule '%s' changes no verdict: %s %s all that it %s", rule->name, names,
				     deny  ? one ? "denies" : "deny"
				     : one ? "allows"
					   : "allow",
				     deny ? "denies" : "allows");
	removal_offer(diag, rule->span, !deny);
	if (!cover.count)
		return;
	for (uint32_t i = 0; i < cover.count && i < 2; i++) {
		diag->spans[1 + i] = linter->policy->rules.at[cover.ranks[i]].span;
		diag->labels[1 + i] = one ? "this one says the same" : "this one says some of it";
	}
}

static void check_idle(struct linter *linter)
{
	const struct policy *policy = linter->policy;
	size_t nodes = diagram_nodes(linter->diagram) + 1;
	for (int round = 0; round < 2 * (VERDICT_AUDIT + 1); round++) {
		int verdict = round / 2;
		bool *seen = arena_alloc(linter->run->arena, nodes);
		linter->l7 = round % 2;
		for (uint32_t dst = 0; dst < policy->classes.len; dst++)
			if ((int)policy->defaults.at[dst] == verdict &&
			    (diagram_dst(linter->diagram, dst)->fields->count > 0) == linter->l7)
				mark(linter, linter->roots[dst], seen, verdict);
	}
	for (size_t rank = 0; rank < policy->rules.len; rank++)
		if (linter->does[rank] && !(linter->does[rank] & DOES_CHANGE))
			(linter->does[rank] & DOES_AS_DEFAULT ? report_default
							      : report_redundant)(linter, &policy->rules.at[rank]);
}

/* ---- Audits --------------------------------------------------------------------------------------- */

/* True where any request that the audit matches at DST may be allowed. */
static bool audits_allowed(struct linter *linter, const struct policy_rule *rule, uint32_t dst)
{
	struct diagram *diagram = linter->diagram;
	struct cover cover = {0};
	node_id node = diagram_taken(diagram, diagram_rule(diagram, rule->rank, dst), dst);
	if (node == diagram_no(diagram))
		return false;
	cover_add(diagram, linter->roots[dst], node, &cover);
	if (cover.allow || cover.gave_up)
		return true;
	node_id decided = diagram_label(diagram, linter->roots[dst], DIAGRAM_YES_VALUE, DIAGRAM_NO_VALUE);
	return linter->policy->defaults.at[dst] != VERDICT_DENY &&
	       diagram_apply(diagram, DIAGRAM_AND_NOT, node, decided) != diagram_no(diagram);
}

static bool audits_any_allowed(struct linter *linter, const struct policy_rule *rule)
{
	for (size_t i = 0; i < rule->to.in.len; i++)
		for (uint32_t k = 0; k < rule->to.in.at[i].classes.count; k++) {
			struct range range = rule->to.in.at[i].classes.at[k];
			for (uint32_t dst = range.lo; dst <= range.hi; dst++)
				if (++linter->audited > AUDITED_LIMIT || audits_allowed(linter, rule, dst))
					return true;
		}
	return false;
}

static void check_audits(struct linter *linter)
{
	const struct policy *policy = linter->policy;
	for (size_t rank = 0; rank < policy->rules.len; rank++) {
		const struct policy_rule *rule = &policy->rules.at[rank];
		if (rule->effect != VERDICT_AUDIT || audits_any_allowed(linter, rule))
			continue;
		struct diag *diag = diag_add(&linter->run->diags, DIAG_AUDIT_DENIED, rule->span,
					     "all that audit '%s' matches is denied anyway", rule->name);
		/* Not sure: its name goes from the records of what it matches. */
		removal_offer(diag, rule->span, false);
	}
}

/* ---- Probes --------------------------------------------------------------------------------------- */

/* May any request of the node over TCP be allowed below NODE? */
static bool lets_node(const struct diagram *diagram, node_id node)
{
	uint32_t count;
	while (!diagram_is_terminal(node)) {
		uint32_t level = diagram_level(diagram, node), wanted = level == LEVEL_SRC_LOW ? CLASS_NODE : 0;
		const struct diagram_edge *edge = diagram_edges(diagram, node, &count);
		if (level == LEVEL_PORT || level >= LEVEL_STRING) {
			for (uint32_t i = 0; i < count; i++)
				if (lets_node(diagram, edge[i].child))
					return true;
			return false;
		}
		while (edge->hi < wanted)
			edge++;
		node = edge->child;
	}
	uint32_t terminal = diagram_terminal(diagram, node);
	return terminal != TERMINAL_DEFAULT && DIAGRAM_BEST(terminal) >= TERMINAL_ALLOW;
}

static bool speaks_http(const struct policy_service *service)
{
	for (size_t i = 0; i < service->ports.len; i++)
		if (service->ports.at[i].kind == PORT_HTTP || service->ports.at[i].kind == PORT_GRPC)
			return true;
	return false;
}

static bool is_used(const struct linter *linter, uint32_t dst)
{
	const struct diagram_dst *at = diagram_dst(linter->diagram, dst);
	for (size_t i = 0; i < at->rules.len; i++)
		if (linter->policy->rules.at[at->rules.at[i]].effect == VERDICT_ALLOW)
			return true;
	return false;
}

/* Where `node` is let in somewhere, who is left out was forgotten; else one note for all. */
static void check_probes(struct linter *linter)
{
	const struct policy *policy = linter->policy;
	VEC(const struct policy_service *) left_out = {0};
	bool probed = false;
	for (size_t i = 0; i < policy->services.len; i++) {
		const struct policy_service *service = &policy->services.at[i];
		bool lets = lets_node(linter->diagram, linter->roots[service->class]);
		probed |= lets;
		if (!lets && policy->defaults.at[service->class] == VERDICT_DENY && speaks_http(service) &&
		    is_used(linter, service->class))
			vec_push(linter->run->arena, &left_out, service);
	}
	if (left_out.len && !probed)
		diag_add(&linter->run->diags, DIAG_NO_PROBES, left_out.at[0]->span,
			 "no rule lets `node` reach %zu service%s of http or grpc%s: probes of a kubelet would fail",
			 left_out.len, left_out.len == 1 ? "" : "s", left_out.len == 1 ? "" : ", this one first");
	for (size_t i = 0; i < left_out.len && probed; i++)
		diag_add(&linter->run->diags, DIAG_PROBES, left_out.at[i]->span,
			 "no rule lets `node` reach '%s', as it reaches others: the kubelet's probes would fail",
			 left_out.at[i]->name);
}

/* Told before anybody has built on it: one note for all that `compile` would refuse. */
static void check_enforceable(struct run *run)
{
	struct run trial = *run;
	trial.diags = (struct diags){.arena = run->arena, .sources = &run->sources};
	if (!place_check_enforceable(&trial))
		return;
	size_t count = trial.diags.all.len;
	const struct diag *first = &trial.diags.all.at[0];
	diag_add(&run->diags, DIAG_NOT_YET, first->spans[0],
		 "%zu statement%s cannot be compiled for a node of this version%s", count, count == 1 ? "" : "s",
		 count == 1 ? "" : ", this one first")
		->note = first->message;
}

void lint(struct run *run)
{
	struct linter linter = {.run = run, .policy = run->policy};
	size_t before = run->diags.all.len;
	lint_names(run);
	check_enforceable(run);
	if (build(&linter)) {
		check_idle(&linter);
		check_audits(&linter);
		check_probes(&linter);
	}
	removal_finish(run, before);
}
