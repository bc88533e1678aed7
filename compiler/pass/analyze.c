/* Theorems and lint, read off the diagram: never, rules that match nothing, rules that others hide. */
#include "ir/literal.h"
#include "ir/witness.h"
#include "pass/cover.h"
#include "pass/removal.h"

#include <stdlib.h>

enum {
	WITNESS_LIMIT = 1 << 20, /* pairs of nodes that one proof may look at behind the L4 levels */
	PORT_FIRST = 1,		 /* nobody is asked on port 0 */
	UNSAID = 2,		 /* as LEVEL_VERIFIED: either way */
	CHAIN_NAMES = 64,	 /* of a longer chain the beginning and the last ones are told */
	COVER_LIMIT = 1 << 20,	 /* destinations of shadowed rules that are looked at for who hides them */
};

/* Pairs of nodes: open addressing. One search after the other uses it: `through any` makes a million. */
struct hunted {
	uint64_t *at;
	size_t len, cap;
};

struct analyzer {
	struct arena *arena;
	const struct policy *policy;
	struct diagram *diagram;
	struct diags *diags;
	size_t covered; /* destinations that report_shadowed looked at */
	struct hunted barren;
	node_id *taken; /* by destination: verdicts as its ports take requests; made when asked for */
};

static node_id taken_root(struct analyzer *analyzer, uint32_t dst)
{
	struct diagram *diagram = analyzer->diagram;
	if (!analyzer->taken) {
		analyzer->taken = arena_alloc(analyzer->arena, analyzer->policy->classes.len * sizeof(node_id));
		memset(analyzer->taken, 0xff, analyzer->policy->classes.len * sizeof(node_id));
	}
	if (analyzer->taken[dst] == UINT32_MAX)
		analyzer->taken[dst] = diagram_taken(diagram, diagram_root(diagram, DIAGRAM_VERDICT, dst), dst);
	return analyzer->taken[dst];
}

/* ---- Searching for an allowed request ------------------------------------------------------------ */

struct search {
	struct analyzer *analyzer;
	uint32_t dst;
	bool default_allows, any; /* any: whatever the verdict (does a rule match at all?) */
	struct hunted *barren;	  /* pairs that lead nowhere */
	size_t work;
	uint32_t values[LEVEL_STRING]; /* of the witness */
	uint32_t *classes;	       /* accept class + 1 by string field, or WITNESS_FREE */
	const char **texts;	       /* the witness's strings */
	uint32_t terminal;
	bool gave_up;
};

static bool barren_known(struct search *search, uint64_t pair, bool put)
{
	struct hunted *set = search->barren;
	if (put && set->len * 2 >= set->cap) {
		struct hunted bigger = {.cap = set->cap ? set->cap * 2 : 256, .len = set->len};
		bigger.at = arena_alloc(search->analyzer->arena, bigger.cap * sizeof(*bigger.at));
		for (size_t i = 0; i < set->cap; i++)
			if (set->at[i]) {
				size_t k = set->at[i] * 0x9e3779b97f4a7c15u & (bigger.cap - 1);
				while (bigger.at[k])
					k = (k + 1) & (bigger.cap - 1);
				bigger.at[k] = set->at[i];
			}
		*set = bigger;
	}
	if (!set->cap)
		return false;
	size_t i = pair * 0x9e3779b97f4a7c15u & (set->cap - 1);
	for (; set->at[i]; i = (i + 1) & (set->cap - 1))
		if (set->at[i] == pair)
			return true;
	if (put) {
		set->at[i] = pair;
		set->len++;
	}
	return false;
}

/* The automata of one field must agree on one string; each field stands for itself. */
static bool confirm(struct search *search)
{
	struct analyzer *analyzer = search->analyzer;
	const struct diagram_fields *fields = diagram_dst(analyzer->diagram, search->dst)->fields;
	for (uint32_t i = 0, end; i < fields->count; i = end) {
		const char *text;
		int r = witness_text(analyzer->arena, fields, i, search->classes, NULL, &end, &text);
		if (r < 0)
			search->gave_up = true;
		if (r <= 0)
			return false;
		search->texts[i] = text;
	}
	return true;
}

static bool at_end(struct search *search, node_id verdict, node_id wanted)
{
	const struct diagram *diagram = search->analyzer->diagram;
	if (diagram_terminal(diagram, wanted) == DIAGRAM_NO_VALUE)
		return false;
	search->terminal = diagram_terminal(diagram, verdict);
	if (search->any)
		return confirm(search);
	if (search->terminal < TERMINAL_ALLOW || (search->terminal == TERMINAL_DEFAULT && !search->default_allows))
		return false;
	return confirm(search);
}

static bool find(struct search *search, node_id verdict, node_id wanted);

/* Every pair of children; the value of the stretch's first element is the witness's. */
static bool find_below(struct search *search, node_id verdict, node_id wanted, uint32_t level)
{
	const struct diagram *diagram = search->analyzer->diagram;
	bool in_v = !diagram_is_terminal(verdict) && diagram_level(diagram, verdict) == level;
	bool in_w = !diagram_is_terminal(wanted) && diagram_level(diagram, wanted) == level;
	struct diagram_edge whole_v = {UINT32_MAX, verdict}, whole_w = {UINT32_MAX, wanted};
	uint32_t vs = 1, ws = 1, from = 0;
	const struct diagram_edge *v = in_v ? diagram_edges(diagram, verdict, &vs) : &whole_v;
	const struct diagram_edge *w = in_w ? diagram_edges(diagram, wanted, &ws) : &whole_w;
	for (uint32_t i = 0, k = 0; i < vs && k < ws;) {
		uint32_t hi = v[i].hi < w[k].hi ? v[i].hi : w[k].hi;
		/* Strings: each class is a set of texts of its own, so each value is tried. */
		for (uint32_t value = from; value <= hi && level >= LEVEL_STRING; value++) {
			search->classes[level - LEVEL_STRING] = value;
			if (find(search, v[i].child, w[k].child))
				return true;
		}
		if (level < LEVEL_STRING) {
			uint32_t least = level == LEVEL_PORT ? PORT_FIRST : 0;
			search->values[level] = from > least ? from : least;
			if (hi >= least && find(search, v[i].child, w[k].child))
				return true;
			search->values[level] = level == LEVEL_VERIFIED ? UNSAID : least;
		} else {
			search->classes[level - LEVEL_STRING] = WITNESS_FREE;
		}
		from = hi + 1;
		i += v[i].hi == hi;
		k += w[k].hi == hi;
	}
	return false;
}

static bool find(struct search *search, node_id verdict, node_id wanted)
{
	const struct diagram *diagram = search->analyzer->diagram;
	if (diagram_is_terminal(wanted) && diagram_terminal(diagram, wanted) == DIAGRAM_NO_VALUE)
		return false;
	if (diagram_is_terminal(verdict) && diagram_is_terminal(wanted))
		return at_end(search, verdict, wanted);
	uint32_t v = diagram_is_terminal(verdict) ? UINT32_MAX : diagram_level(diagram, verdict);
	uint32_t w = diagram_is_terminal(wanted) ? UINT32_MAX : diagram_level(diagram, wanted);
	uint32_t level = v < w ? v : w;
	/* Below the first string what is barren depends on the strings chosen above. */
	uint64_t pair = ((uint64_t)verdict << 32 | wanted) + 1;
	if (level <= LEVEL_STRING && barren_known(search, pair, false))
		return false;
	if (level >= LEVEL_STRING && ++search->work > WITNESS_LIMIT) {
		search->gave_up = true;
		return false;
	}
	if (find_below(search, verdict, wanted, level))
		return true;
	if (level <= LEVEL_STRING)
		barren_known(search, pair, true);
	return false;
}

static void search_begin(struct search *search, struct analyzer *analyzer, uint32_t dst)
{
	if (analyzer->barren.len)
		memset(analyzer->barren.at, 0, analyzer->barren.cap * sizeof(*analyzer->barren.at));
	analyzer->barren.len = 0;
	*search = (struct search){.analyzer = analyzer,
				  .dst = dst,
				  .default_allows = analyzer->policy->defaults.at[dst] != VERDICT_DENY,
				  .barren = &analyzer->barren};
	uint32_t fields = diagram_dst(analyzer->diagram, dst)->fields->count;
	search->values[LEVEL_PORT] = PORT_FIRST;
	search->values[LEVEL_VERIFIED] = UNSAID;
	search->classes = arena_alloc(analyzer->arena, fields * sizeof(*search->classes));
	search->texts = arena_alloc(analyzer->arena, fields * sizeof(*search->texts));
	memset(search->classes, 0xff, fields * sizeof(*search->classes));
}

/* ---- The witness, in words ------------------------------------------------------------------------ */

static const char *block_text(struct analyzer *analyzer, uint32_t block)
{
	const struct policy *policy = analyzer->policy;
	for (size_t i = 0; i < policy->intervals.len; i++)
		if (policy->intervals.at[i].block == block && block) {
			struct address_range range = {0};
			for (int k = 0; k < 16; k++)
				range.lo = range.lo << 8 | policy->intervals.at[i].first[k];
			range.hi = range.lo;
			range.is_v6 = range.lo >> 32 != 0xffff;
			return arena_printf(analyzer->arena, " at %s", address_print(analyzer->arena, &range));
		}
	return "";
}

static const char *strings_text(const struct search *search)
{
	struct arena *arena = search->analyzer->arena;
	const struct diagram_fields *fields = diagram_dst(search->analyzer->diagram, search->dst)->fields;
	const char *text = "";
	for (uint32_t i = 0; i < fields->count; i++)
		if (search->texts[i])
			text = arena_printf(arena, "%s%s%s%s%s%s = \"%s\"", text, *text ? ", " : " with ",
					    field_text(fields->at[i].field), fields->at[i].key ? "[\"" : "",
					    fields->at[i].key ? fields->at[i].key : "", fields->at[i].key ? "\"]" : "",
					    search->texts[i]);
	return text;
}

static const char *source_words(const struct search *search)
{
	struct analyzer *analyzer = search->analyzer;
	const struct policy *policy = analyzer->policy;
	uint32_t src = search->values[LEVEL_SRC_HIGH] << 8 | search->values[LEVEL_SRC_LOW];
	return arena_printf(analyzer->arena, "%s%s", src < policy->classes.len ? policy->classes.at[src].name : "?",
			    block_text(analyzer, search->values[LEVEL_BLOCK]));
}

static const char *request_words(const struct search *search)
{
	static const char *const shown[] = {" without a certificate", " with a certificate", ""};
	return arena_printf(
		search->analyzer->arena, "from %s%s to %s %s port %u%s", source_words(search),
		shown[search->values[LEVEL_VERIFIED]], search->analyzer->policy->classes.at[search->dst].name,
		search->values[LEVEL_PROTOCOL] ? "udp" : "tcp", search->values[LEVEL_PORT], strings_text(search));
}

static void report_never(struct analyzer *analyzer, const struct policy_never *never, const struct search *search,
			 const char *chain)
{
	const struct policy *policy = analyzer->policy;
	bool by_default = search->terminal == TERMINAL_DEFAULT;
	const struct policy_rule *rule = by_default ? NULL : &policy->rules.at[search->terminal - TERMINAL_ALLOW];
	struct diag *diag =
		diag_add(analyzer->diags, DIAG_NEVER, never->span,
			 "'%s' does not hold: a request %s%s is allowed %s%s%s", never->text, request_words(search),
			 chain, by_default ? "by default" : "by '", rule ? rule->name : "", rule ? "'" : "");
	if (rule) {
		diag->spans[1] = rule->span;
		diag->labels[1] = "this rule allows it";
	}
	diag->note = "deny it, narrow the rule, or take the never back";
}

static void report_gave_up(struct analyzer *analyzer, struct span span, const char *what)
{
	diag_add(analyzer->diags, DIAG_BOUND, span, "%s can be neither proved nor refuted within a million steps", what)
		->note = "its destinations have too many patterns on too many fields";
}

/* ---- never ---------------------------------------------------------------------------------------- */

static void prove_never(struct analyzer *analyzer, const struct policy_never *never)
{
	struct diagram *diagram = analyzer->diagram;
	node_id from = diagram_sources(diagram, &never->from);
	struct search search;
	for (uint32_t dst = 0; dst < analyzer->policy->classes.len; dst++) {
		node_id ports = diagram_ports(diagram, &never->to, dst);
		if (ports == diagram_no(diagram) || dst == CLASS_UNKNOWN || dst == CLASS_CONFLICT)
			continue;
		search_begin(&search, analyzer, dst);
		if (find(&search, taken_root(analyzer, dst),
			 diagram_taken(diagram, diagram_apply(diagram, DIAGRAM_AND, from, ports), dst))) {
			report_never(analyzer, never, &search, "");
			return;
		}
		if (search.gave_up) {
			report_gave_up(analyzer, never->span, "this never");
			return;
		}
	}
}

/* ---- never ... through any ------------------------------------------------------------------------- */

/* One hop on: the sources are one class, wherever it is. */
static node_id class_node(struct analyzer *analyzer, uint32_t class)
{
	struct range one = {class, class}, blocks = {0, analyzer->policy->blocks - 1};
	struct policy_rect rect = {{&one, 1}, {&blocks, 1}};
	struct policy_sources sources = {0};
	vec_push(analyzer->arena, &sources.in, rect);
	return diagram_sources(analyzer->diagram, &sources);
}

struct chain {
	uint32_t *via;	    /* by class: from which class it was reached; itself: at the first hop */
	const char **first; /* by class, where it was reached at the first hop: from whom */
	bool *reached;
	VEC(uint32_t) queue;
};

/* How CLASS, the source of the request that is told, was reached: the first source, and what is between. */
static const char *chain_text(struct analyzer *analyzer, const struct chain *chain, uint32_t class)
{
	const char *text = "";
	for (uint32_t hops = 0; chain->via[class] != class; hops++) {
		class = chain->via[class];
		if (hops < CHAIN_NAMES)
			text = arena_printf(analyzer->arena, " -> %s%s", analyzer->policy->classes.at[class].name,
					    text);
		else if (hops == CHAIN_NAMES)
			text = arena_printf(analyzer->arena, " -> ...%s", text);
	}
	return arena_printf(analyzer->arena, ", its source reached by %s%s,", chain->first[class], text);
}

/* Where a request of FROM may go in one hop; false: the never is broken (and reported). */
static bool hop(struct analyzer *analyzer, const struct policy_never *never, struct chain *chain, node_id from,
		uint32_t class)
{
	struct diagram *diagram = analyzer->diagram;
	const struct policy *policy = analyzer->policy;
	struct search search;
	for (uint32_t dst = CLASS_WORLD; dst < policy->classes.len; dst++) {
		node_id ports = diagram_ports(diagram, &never->to, dst);
		bool on =
			dst < policy->sources && policy->classes.at[dst].kind != CLASS_IDENTITY && !chain->reached[dst];
		if (dst == CLASS_CONFLICT || (!on && ports == diagram_no(diagram)))
			continue;
		search_begin(&search, analyzer, dst);
		node_id comes = diagram_taken(diagram, from, dst);
		if (ports != diagram_no(diagram) &&
		    find(&search, taken_root(analyzer, dst), diagram_apply(diagram, DIAGRAM_AND, comes, ports))) {
			report_never(analyzer, never, &search,
				     class == UINT32_MAX ? "" : chain_text(analyzer, chain, class));
			return false;
		}
		search_begin(&search, analyzer, dst);
		if (!on || !find(&search, taken_root(analyzer, dst), comes))
			continue;
		chain->reached[dst] = true;
		chain->via[dst] = class == UINT32_MAX ? dst : class;
		chain->first[dst] = class == UINT32_MAX ? source_words(&search) : NULL;
		vec_push(analyzer->arena, &chain->queue, dst);
	}
	return true;
}

static void prove_through_any(struct analyzer *analyzer, const struct policy_never *never)
{
	size_t classes = analyzer->policy->classes.len;
	struct chain chain = {.via = arena_alloc(analyzer->arena, classes * sizeof(uint32_t)),
			      .first = arena_alloc(analyzer->arena, classes * sizeof(*chain.first)),
			      .reached = arena_alloc(analyzer->arena, classes)};
	if (!hop(analyzer, never, &chain, diagram_sources(analyzer->diagram, &never->from), UINT32_MAX))
		return;
	for (size_t i = 0; i < chain.queue.len; i++)
		if (!hop(analyzer, never, &chain, class_node(analyzer, chain.queue.at[i]), chain.queue.at[i]))
			return;
}

/* ---- Rules ------------------------------------------------------------------------------------------ */

/* The requests to DST that RULE speaks of: an allow, of those that the port takes. */
static node_id rule_at(struct analyzer *analyzer, const struct policy_rule *rule, uint32_t dst)
{
	struct diagram *diagram = analyzer->diagram;
	node_id node = diagram_rule(diagram, rule->rank, dst);
	return rule->effect == VERDICT_ALLOW ? diagram_taken(diagram, node, dst) : diagram_asked(diagram, node, dst);
}

/* *RET_REFUSED: it matches some that are refused for want of a certificate. */
static bool matches_something(struct analyzer *analyzer, const struct policy_rule *rule, bool *ret_gave_up,
			      bool *ret_refused)
{
	struct diagram *diagram = analyzer->diagram;
	struct search search;
	for (size_t i = 0; i < rule->to.in.len; i++)
		for (uint32_t k = 0; k < rule->to.in.at[i].classes.count; k++)
			for (uint32_t dst = rule->to.in.at[i].classes.at[k].lo;
			     dst <= rule->to.in.at[i].classes.at[k].hi; dst++) {
				node_id node = rule_at(analyzer, rule, dst);
				if (node == diagram_no(diagram)) {
					*ret_refused |= diagram_rule(diagram, rule->rank, dst) != node;
					continue;
				}
				if (!rule->l7)
					return true;
				search_begin(&search, analyzer, dst);
				search.any = true;
				if (find(&search, diagram_yes(diagram), node))
					return true;
				*ret_gave_up |= search.gave_up;
			}
	return false;
}

/* Marks every rule of EFFECT that some request ends in. */
static void mark_deciding(struct analyzer *analyzer, enum policy_verdict effect, node_id node, bool *seen,
			  bool *decides)
{
	const struct diagram *diagram = analyzer->diagram;
	uint32_t count;
	if (diagram_is_terminal(node)) {
		uint32_t terminal = diagram_terminal(diagram, node);
		bool allows = terminal >= TERMINAL_ALLOW;
		if (terminal != TERMINAL_DEFAULT && allows == (effect == VERDICT_ALLOW))
			decides[allows ? terminal - TERMINAL_ALLOW : terminal] = true;
		return;
	}
	if (seen[node])
		return;
	seen[node] = true;
	const struct diagram_edge *edges = diagram_edges(diagram, node, &count);
	for (uint32_t i = 0; i < count; i++)
		mark_deciding(analyzer, effect, edges[i].child, seen, decides);
}

/* A deny has its say of a request that the port would refuse as well; an allow has none. */
static node_id decided_root(struct analyzer *analyzer, enum policy_verdict effect, uint32_t dst)
{
	struct diagram *diagram = analyzer->diagram;
	return effect == VERDICT_ALLOW ? taken_root(analyzer, dst)
				       : diagram_asked(diagram, diagram_root(diagram, DIAGRAM_VERDICT, dst), dst);
}

static bool *find_deciding(struct analyzer *analyzer)
{
	const struct policy *policy = analyzer->policy;
	bool *decides = arena_alloc(analyzer->arena, policy->rules.len + 1);
	node_id *roots = arena_alloc(analyzer->arena, policy->classes.len * sizeof(*roots));
	for (int effect = VERDICT_DENY; effect <= VERDICT_ALLOW; effect++) {
		for (uint32_t dst = 0; dst < policy->classes.len; dst++)
			roots[dst] = decided_root(analyzer, effect, dst);
		bool *seen = arena_alloc(analyzer->arena, diagram_nodes(analyzer->diagram) + 1);
		for (uint32_t dst = 0; dst < policy->classes.len; dst++)
			mark_deciding(analyzer, effect, roots[dst], seen, decides);
	}
	return decides;
}

static void report_unreachable(struct analyzer *analyzer, const struct policy_rule *rule, bool refused)
{
	diag_add(analyzer->diags, DIAG_UNREACHABLE, rule->span, "rule '%s' can match no request", rule->name)->note =
		refused ? "a strict port takes nothing without a certificate; the world, the node and udp show none"
			: "its sources, ports or conditions exclude each other";
}

static void cover_target(struct analyzer *analyzer, const struct policy_rule *rule, struct range dsts,
			 struct cover *cover)
{
	struct diagram *diagram = analyzer->diagram;
	for (uint32_t dst = dsts.lo; dst <= dsts.hi && !cover->gave_up; dst++) {
		node_id node = rule_at(analyzer, rule, dst);
		if (node != diagram_no(diagram))
			cover_add(diagram, decided_root(analyzer, rule->effect, dst), node, cover);
		cover->gave_up |= ++analyzer->covered > COVER_LIMIT;
	}
}

static struct cover cover_of(struct analyzer *analyzer, const struct policy_rule *rule)
{
	struct cover cover = {0};
	for (size_t i = 0; i < rule->to.in.len; i++)
		for (uint32_t k = 0; k < rule->to.in.at[i].classes.count; k++)
			cover_target(analyzer, rule, rule->to.in.at[i].classes.at[k], &cover);
	return cover;
}

static bool all_allow(const struct policy *policy, const struct cover *cover)
{
	for (uint32_t i = 0; i < cover->count; i++)
		if (policy->rules.at[cover->ranks[i]].effect != VERDICT_ALLOW)
			return false;
	return !cover->gave_up;
}

static void report_shadowed(struct analyzer *analyzer, const struct policy_rule *rule)
{
	const struct policy *policy = analyzer->policy;
	struct cover cover = cover_of(analyzer, rule);
	if (!cover.count) {
		diag_add(analyzer->diags, DIAG_SHADOWED, rule->span, "rule '%s' decides no request: others hide it",
			 rule->name);
		return;
	}
	const struct policy_rule *first = &policy->rules.at[cover.ranks[0]];
	bool contradicts =
		rule->effect == VERDICT_ALLOW && first->effect == VERDICT_DENY && cover.count == 1 && !cover.gave_up;
	struct diag *diag = contradicts ? diag_add(analyzer->diags, DIAG_CONTRADICTION, rule->span,
						   "allow '%s' allows nothing: deny '%s' denies all that it matches",
						   rule->name, first->name)
					: diag_add(analyzer->diags, DIAG_SHADOWED, rule->span,
						   "rule '%s' decides no request: %s decide%s all that it matches",
						   rule->name, cover_names(analyzer->arena, policy, &cover),
						   cover.count == 1 && !cover.gave_up ? "s" : "");
	/* What a deny hides may be what its author wanted. */
	removal_offer(diag, rule->span, rule->effect == VERDICT_ALLOW && all_allow(policy, &cover));
	diag->spans[1] = first->span;
	diag->labels[1] = contradicts ? "this deny" : "this one decides instead";
	diag->note = contradicts ? "a deny beats every allow: narrow the deny (`except`), or remove the allow"
				 : "a deny beats every allow; among rules of one kind those without L7 conditions come "
				   "first, then the lower name";
}

static void check_rules(struct analyzer *analyzer)
{
	const struct policy *policy = analyzer->policy;
	const bool *decides = find_deciding(analyzer);
	for (size_t i = 0; i < policy->rules.len; i++) {
		const struct policy_rule *rule = &policy->rules.at[i];
		bool gave_up = false, refused = false;
		if (!matches_something(analyzer, rule, &gave_up, &refused) && !gave_up)
			report_unreachable(analyzer, rule, refused);
		else if (!decides[i] && rule->effect != VERDICT_AUDIT)
			report_shadowed(analyzer, rule);
	}
}

/* Does it let anybody to a workload who shows no certificate? Who goes elsewhere is known where he leaves. */
static bool rests_on_address(struct analyzer *analyzer, const struct policy_rule *rule)
{
	struct diagram *diagram = analyzer->diagram;
	for (size_t i = 0; i < rule->to.in.len; i++)
		for (uint32_t k = 0; k < rule->to.in.at[i].classes.count; k++)
			for (uint32_t dst = rule->to.in.at[i].classes.at[k].lo;
			     dst <= rule->to.in.at[i].classes.at[k].hi; dst++)
				if (policy_is_workload(analyzer->policy, dst) &&
				    diagram_in_clear(diagram, diagram_rule(diagram, rule->rank, dst), dst) !=
					    diagram_no(diagram))
					return true;
	return false;
}

/* Without mTLS an identity is a source address. One note: the first of them stands for all. */
static void check_address_only(struct analyzer *analyzer)
{
	const struct policy *policy = analyzer->policy;
	const struct policy_rule *first = NULL;
	size_t count = 0;
	for (size_t i = 0; i < policy->rules.len; i++) {
		const struct policy_rule *rule = &policy->rules.at[i];
		if (rule->effect != VERDICT_ALLOW || !rests_on_address(analyzer, rule))
			continue;
		if (!first || rule->span.file < first->span.file ||
		    (rule->span.file == first->span.file && rule->span.offset < first->span.offset))
			first = rule;
		count++;
	}
	if (first)
		diag_add(analyzer->diags, DIAG_ADDRESS_ONLY, first->name_span,
			 "%zu rule%s allow%s by the source's address alone, this one first", count,
			 count == 1 ? "" : "s", count == 1 ? "s" : "")
			->note = "without `mtls strict` whoever holds the address holds the identity";
}

void analyze(struct arena *arena, const struct policy *policy, const struct diagram *diagram, struct diags *diags)
{
	struct analyzer analyzer = {
		.arena = arena, .policy = policy, .diagram = (struct diagram *)diagram, .diags = diags};
	for (size_t i = 0; i < policy->nevers.len; i++) {
		if (policy->nevers.at[i].through_any)
			prove_through_any(&analyzer, &policy->nevers.at[i]);
		else
			prove_never(&analyzer, &policy->nevers.at[i]);
	}
	check_rules(&analyzer);
	check_address_only(&analyzer);
}
