/* A request's way through the diagram. */
#include "ir/diagram_build.h"
#include "ir/request.h"

struct walk {
	struct arena *arena;
	const struct diagram *diagram;
	const struct request *request; /* normalised */
	bool verified;
	const struct diagram_fields *fields;
	bool opening; /* an http connection before its first request */
};

static const char *value_of(const struct walk *walk, const struct diagram_field *field)
{
	switch (field->field) {
	case FIELD_PATH:
		return walk->request->path;
	case FIELD_METHOD:
		return walk->request->method;
	case FIELD_HOST:
		return walk->request->host;
	default:
		break;
	}
	for (size_t i = 0; i < walk->request->headers.len; i++)
		if (strcmp(walk->request->headers.at[i].name, field->key) == 0)
			return walk->request->headers.at[i].value;
	return NULL;
}

static uint32_t string_value(const struct walk *walk, uint32_t number)
{
	const struct diagram_field *field = &walk->fields->at[number];
	const char *value = value_of(walk, field);
	return value ? 1 + automaton_run(field->automaton, value, strlen(value)) : 0;
}

/* The terminal, or the first L7 node where the connection is only being opened. */
static node_id walk_down(const struct walk *walk, node_id node)
{
	const struct request *request = walk->request;
	const uint32_t known[] = {request->udp,	      request->port,  request->src >> 8,
				  request->src & 255, request->block, walk->verified};
	while (!diagram_is_terminal(node)) {
		uint32_t level = diagram_level(walk->diagram, node), count;
		if (level >= LEVEL_STRING && walk->opening)
			return node;
		uint32_t value = level < LEVEL_STRING ? known[level] : string_value(walk, level - LEVEL_STRING);
		const struct diagram_edge *edge = diagram_edges(walk->diagram, node, &count);
		for (uint32_t i = 1; i < count && edge->hi < value; i++)
			edge++;
		node = edge->child;
	}
	return node;
}

/* The connection alone: true where what it carries cannot change the verdict any more. */
static bool is_settled(struct walk *walk, node_id root)
{
	bool opening = walk->opening;
	walk->opening = true;
	node_id node = walk_down(walk, root);
	walk->opening = opening;
	return diagram_is_terminal(node);
}

static void find_matching(const struct walk *walk, struct decision *decision)
{
	struct diagram_dst *dst = diagram_dst(walk->diagram, walk->request->dst);
	VEC(uint32_t) ranks = {0};
	for (size_t i = 0; i < dst->rules.len; i++) {
		uint32_t rank = dst->rules.at[i];
		if (diagram_policy(walk->diagram)->rules.at[rank].effect == VERDICT_AUDIT)
			continue;
		node_id node = walk_down(walk, diagram_rule((struct diagram *)walk->diagram, rank, walk->request->dst));
		if (!diagram_is_terminal(node) || diagram_terminal(walk->diagram, node) != DIAGRAM_NO_VALUE)
			vec_push(walk->arena, &ranks, rank);
	}
	decision->matching = ranks.at;
	decision->matching_count = ranks.len;
}

static void take_verdict(const struct policy *policy, uint32_t dst, uint32_t terminal, struct decision *decision)
{
	decision->by_default = terminal == TERMINAL_DEFAULT;
	if (decision->by_default) {
		decision->allow = policy->defaults.at[dst] != VERDICT_DENY;
		decision->default_audit = policy->defaults.at[dst] == VERDICT_AUDIT;
		return;
	}
	decision->allow = terminal >= TERMINAL_ALLOW;
	decision->rule = decision->allow ? terminal - TERMINAL_ALLOW : terminal;
}

enum mesh_via model_via(const struct policy *policy, const struct request *request)
{
	bool shown = request->verified == VERIFIED_UNSAID
			     ? policy_mtls_mode(policy, request->dst, request->port) == MTLS_STRICT
			     : request->verified == VERIFIED_YES;
	if (request->src == CLASS_NODE)
		return MESH_VIA_NODE;
	return shown && !request->udp && policy_shows_certificate(policy, request->src) &&
			       policy_is_workload(policy, request->dst)
		       ? MESH_VIA_TUNNEL
		       : MESH_VIA_WIRE;
}

/* What the rules allow, and the port does not take. */
static void refuse_plaintext(const struct policy *policy, const struct request *request, struct decision *decision)
{
	if (!decision->allow || model_via(policy, request) != MESH_VIA_WIRE ||
	    policy_mtls_mode(policy, request->dst, request->port) != MTLS_STRICT)
		return;
	decision->allow = decision->default_audit = false;
	decision->plaintext = true;
}

int model_decide(struct arena *arena, const struct policy *policy, const struct diagram *diagram,
		 const struct request *request, struct decision *ret_decision)
{
	struct request normal = *request;
	struct decision decision = {.arm = UINT32_MAX};
	const char *why = NULL;
	if (request->src == CLASS_UNKNOWN || request->dst == CLASS_UNKNOWN) {
		decision.unknown = true;
		*ret_decision = decision;
		return 0;
	}
	bool malformed = request->method && request_normalise(arena, &normal, &why);
	struct walk walk = {.arena = arena,
			    .diagram = diagram,
			    .request = &normal,
			    .verified = model_via(policy, request) == MESH_VIA_TUNNEL,
			    .fields = diagram_dst(diagram, request->dst)->fields,
			    .opening = request->http && !request->method};
	node_id root = diagram_root(diagram, DIAGRAM_VERDICT, request->dst);
	if (malformed && !is_settled(&walk, root)) {
		decision.refused = true;
		decision.why_refused = why;
		*ret_decision = decision;
		return 0;
	}
	node_id node = walk_down(&walk, root);
	if (diagram_is_terminal(node))
		take_verdict(policy, request->dst, diagram_terminal(diagram, node), &decision);
	else
		decision.depends = true;
	refuse_plaintext(policy, request, &decision);
	node = walk_down(&walk, diagram_root(diagram, DIAGRAM_AUDIT, request->dst));
	if (diagram_is_terminal(node))
		decision.audits = diagram_audit_set(diagram, diagram_terminal(diagram, node), &decision.audit_count);
	node = walk_down(&walk, diagram_root(diagram, DIAGRAM_ROUTE, request->dst));
	if (diagram_is_terminal(node))
		decision.arm = diagram_terminal(diagram, node);
	find_matching(&walk, &decision);
	*ret_decision = decision;
	return 0;
}

static struct walk walk_of(struct arena *arena, const struct diagram *diagram, const struct request *request,
			   struct request *normal)
{
	const char *why;
	*normal = *request;
	if (request->method)
		request_normalise(arena, normal, &why);
	return (struct walk){.arena = arena,
			     .diagram = diagram,
			     .request = normal,
			     .verified = model_via(diagram_policy(diagram), request) == MESH_VIA_TUNNEL,
			     .fields = diagram_dst(diagram, request->dst)->fields,
			     .opening = request->http && !request->method};
}

struct near model_near(struct arena *arena, const struct policy *policy, const struct diagram *diagram,
		       const struct request *request, uint32_t rank)
{
	struct diagram *builder = (struct diagram *)diagram;
	const struct policy_rule *rule = &policy->rules.at[rank];
	struct request normal;
	struct walk walk = walk_of(arena, diagram, request, &normal);
	node_id no = diagram_no(builder);
	return (struct near){
		.from = walk_down(&walk, diagram_sources(builder, &rule->from)) != no,
		.to = walk_down(&walk, diagram_ports(builder, &rule->to, request->dst)) != no,
		.when = walk_down(&walk, diagram_cond(builder, rule->when, walk.fields)) != no,
	};
}

bool model_meets(struct arena *arena, const struct diagram *diagram, const struct request *request,
		 const struct cond *cond)
{
	struct diagram *builder = (struct diagram *)diagram;
	struct request normal;
	struct walk walk = walk_of(arena, diagram, request, &normal);
	return walk_down(&walk, diagram_cond(builder, cond, walk.fields)) != diagram_no(builder);
}
