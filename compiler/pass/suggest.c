/* A walk through the diagram to a rule, by what a test can say alone: which sources have a name, which
 * protocol a port has. */
#include "pass/suggest.h"

#include "ir/ast.h"
#include "ir/request.h"
#include "ir/witness.h"

#include <stdlib.h>

enum {
	SUGGEST_WORK = 1 << 18, /* steps that one rule may take */
	SUGGEST_PORTS = 64,	/* undeclared ports that are looked at in one stretch */
	PORT_USUAL = 443,	/* where one port is as good as another */
};

/* Sources, in the order in which a reader would rather meet them. */
enum rank_of_source { SOURCE_NAMED, SOURCE_SIMPLE, SOURCE_PLACED, SOURCE_UNKNOWN, SOURCE_KINDS };

struct seeker {
	struct run *run;
	struct arena *arena;
	const struct policy *policy;
	const struct diagram *diagram;
	uint32_t rank;
	bool audit;
	enum rank_of_source worst; /* that is taken */
	bool undeclared;	   /* a port that its destination does not declare will do */
	uint8_t *reach;		   /* by node: 0 not known, 1 the rule lies below, 2 it does not */
	struct request request;
	const struct diagram_fields *fields;
	uint32_t *classes; /* by string field, or WITNESS_FREE */
	struct witnesses witnesses;
	size_t work;
	bool gave_up, below; /* below: some destination's diagram has the rule */
};

/* ---- What lies below ------------------------------------------------------------------------------ */

static bool is_wanted(const struct seeker *seeker, uint32_t terminal)
{
	uint32_t count, allow = seeker->policy->rules.at[seeker->rank].effect == VERDICT_ALLOW ? TERMINAL_ALLOW : 0;
	if (!seeker->audit)
		return terminal == allow + seeker->rank;
	const uint32_t *audits = diagram_audit_set(seeker->diagram, terminal, &count);
	for (uint32_t i = 0; i < count; i++)
		if (audits[i] == seeker->rank)
			return true;
	return false;
}

static bool reaches(struct seeker *seeker, node_id node)
{
	uint32_t count;
	if (diagram_is_terminal(node))
		return is_wanted(seeker, diagram_terminal(seeker->diagram, node));
	if (seeker->reach[node])
		return seeker->reach[node] == 1;
	const struct diagram_edge *edges = diagram_edges(seeker->diagram, node, &count);
	bool found = false;
	for (uint32_t i = 0; i < count && !found; i++)
		found = reaches(seeker, edges[i].child);
	seeker->reach[node] = found ? 1 : 2;
	return found;
}

/* ---- Strings --------------------------------------------------------------------------------------- */

/* A test is text that people read. */
static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

static struct witness agree(struct seeker *seeker, uint32_t first)
{
	struct witness witness = witness_find(&seeker->witnesses, seeker->fields, first, seeker->classes);
	if (witness.answer > 0 && witness.text && !is_printable(witness.text))
		witness.answer = 0;
	return witness;
}

static bool is_possible(struct seeker *seeker, uint32_t number)
{
	uint32_t first = 0, next;
	while ((next = witness_next(seeker->fields, first)) <= number)
		first = next;
	struct witness agreed = agree(seeker, first);
	seeker->gave_up |= agreed.answer < 0;
	return agreed.answer > 0;
}

static void take_text(struct request *request, struct arena *arena, const struct diagram_field *field, const char *text)
{
	if (field->field == FIELD_METHOD)
		request->method = text;
	else if (field->field == FIELD_PATH)
		request->path = text;
	else if (field->field == FIELD_HOST)
		request->host = text;
	else
		vec_push(arena, &request->headers, (struct request_header){field->key, text});
}

/* The request that the walk stands for, and the proof that it is what was looked for. */
static bool confirm(struct seeker *seeker, bool asks)
{
	struct request request = seeker->request;
	struct decision decision;
	for (uint32_t i = 0; asks && i < seeker->fields->count; i = witness_next(seeker->fields, i)) {
		struct witness agreed = agree(seeker, i);
		if (agreed.answer <= 0)
			return false;
		if (agreed.text)
			take_text(&request, seeker->arena, &seeker->fields->at[i], agreed.text);
	}
	if (asks && request.http && !request.method)
		request.method = suggest_is_grpc(seeker->policy, &request) ? "POST" : "GET";
	model_decide(seeker->arena, seeker->policy, seeker->diagram, &request, &decision);
	bool found = false;
	for (uint32_t i = 0; i < decision.audit_count; i++)
		found |= decision.audits[i] == seeker->rank;
	if (!seeker->audit)
		found = !decision.depends && !decision.refused && !decision.plaintext && !decision.by_default &&
			decision.rule == seeker->rank;
	if (found)
		seeker->request = request;
	return found;
}

static bool seek_strings(struct seeker *seeker, node_id node, bool asks);

static bool seek_values(struct seeker *seeker, node_id child, uint32_t number, uint32_t lo, uint32_t hi)
{
	for (uint32_t value = lo; value <= hi && reaches(seeker, child); value++) {
		if (++seeker->work > SUGGEST_WORK) {
			seeker->gave_up = true;
			return false;
		}
		seeker->classes[number] = value;
		if (is_possible(seeker, number) && seek_strings(seeker, child, true))
			return true;
		seeker->classes[number] = WITNESS_FREE;
	}
	return false;
}

/* A value that is there makes the better example, so that absent (0) comes last; but what carries no
 * requests has no values, and a request has a method. */
static bool seek_strings(struct seeker *seeker, node_id node, bool asks)
{
	uint32_t count;
	if (!reaches(seeker, node))
		return false;
	if (diagram_is_terminal(node))
		return confirm(seeker, asks);
	uint32_t number = diagram_level(seeker->diagram, node) - LEVEL_STRING;
	bool may_be_absent = !seeker->request.http || seeker->fields->at[number].field != FIELD_METHOD;
	const struct diagram_edge *edges = diagram_edges(seeker->diagram, node, &count);
	for (uint32_t i = 0; i < count && seeker->request.http; i++) {
		uint32_t lo = i ? edges[i - 1].hi + 1 : 1;
		if (lo <= edges[i].hi && seek_values(seeker, edges[i].child, number, lo, edges[i].hi))
			return true;
	}
	return may_be_absent && seek_values(seeker, edges[0].child, number, 0, 0);
}

/* ---- Ports ------------------------------------------------------------------------------------------ */

uint32_t suggest_external(const struct policy *policy, uint32_t dst)
{
	const struct policy_class *class = &policy->classes.at[dst];
	for (size_t i = 0; i < class->externals.len; i++) {
		uint32_t first = UINT32_MAX, own = UINT32_MAX;
		for (uint32_t k = policy->sources; k < policy->classes.len; k++)
			for (size_t n = 0; n < policy->classes.at[k].externals.len; n++) {
				if (policy->classes.at[k].externals.at[n] != class->externals.at[i])
					continue;
				first = first == UINT32_MAX ? k : first;
				if (own == UINT32_MAX && policy->classes.at[k].externals.len == 1)
					own = k;
			}
		if ((own == UINT32_MAX ? first : own) == dst)
			return class->externals.at[i];
	}
	return UINT32_MAX;
}

bool suggest_is_grpc(const struct policy *policy, const struct request *request)
{
	const struct policy_class *class = &policy->classes.at[request->dst];
	if (class->kind != CLASS_SERVICE)
		return false;
	const struct policy_service *service = &policy->services.at[class->service];
	for (size_t i = 0; i < service->ports.len; i++) {
		const struct policy_port *port = &service->ports.at[i];
		uint32_t hi = port->target == port->lo ? port->hi : port->target;
		if (request->port >= port->target && request->port <= hi)
			return port->kind == PORT_GRPC;
	}
	return false;
}

struct ports {
	const struct policy_port *at;
	size_t len;
};

/* What a test knows of the ports of its destination. */
static struct ports ports_of(const struct policy *policy, uint32_t dst)
{
	const struct policy_class *class = &policy->classes.at[dst];
	uint32_t external = class->kind == CLASS_EXTERNAL ? suggest_external(policy, dst) : UINT32_MAX;
	if (class->kind == CLASS_SERVICE)
		return (struct ports){policy->services.at[class->service].ports.at,
				      policy->services.at[class->service].ports.len};
	if (external != UINT32_MAX)
		return (struct ports){policy->externals.at[external].ports.at,
				      policy->externals.at[external].ports.len};
	return (struct ports){0};
}

/* A port says its protocol: that of the first declaration that has it, else TCP. A service's port whose
 * workload has another is refused. False: no test can say this. */
static bool take_port(struct seeker *seeker, uint32_t number)
{
	struct ports ports = ports_of(seeker->policy, seeker->request.dst);
	bool udp = false, http = false, refused = false, known = false;
	for (size_t i = 0; i < ports.len && !known; i++) {
		const struct policy_port *port = &ports.at[i];
		uint32_t hi = port->target == port->lo ? port->hi : port->target;
		known = number >= port->target && number <= hi;
		refused |= port->target != port->lo && port->lo == number;
		udp = known && port->kind == PORT_UDP;
		http = known && (port->kind == PORT_HTTP || port->kind == PORT_GRPC);
	}
	if (udp != seeker->request.udp || (refused && !known) || !number)
		return false;
	seeker->request.port = number;
	seeker->request.http = http && seeker->policy->classes.at[seeker->request.dst].kind == CLASS_SERVICE;
	return true;
}

/* ---- The walk --------------------------------------------------------------------------------------- */

static bool seek(struct seeker *seeker, node_id node, uint32_t level);

static bool seek_ports(struct seeker *seeker, node_id child, uint32_t lo, uint32_t hi)
{
	struct ports ports = ports_of(seeker->policy, seeker->request.dst);
	for (size_t i = 0; i < ports.len; i++)
		if (ports.at[i].target >= lo && ports.at[i].target <= hi && take_port(seeker, ports.at[i].target) &&
		    seek(seeker, child, LEVEL_PORT + 1))
			return true;
	if (ports.len && !seeker->undeclared)
		return false;
	if (lo <= PORT_USUAL && hi >= PORT_USUAL && take_port(seeker, PORT_USUAL))
		return seek(seeker, child, LEVEL_PORT + 1);
	for (uint32_t port = lo; port <= hi && port < lo + SUGGEST_PORTS; port++)
		if (take_port(seeker, port))
			return seek(seeker, child, LEVEL_PORT + 1);
	return false;
}

/* Who has words in a test, and how good they are. */
static enum rank_of_source rank_source(const struct policy *policy, uint32_t class)
{
	if (class >= policy->sources)
		return SOURCE_KINDS;
	switch (policy->classes.at[class].kind) {
	case CLASS_SERVICE:
	case CLASS_IDENTITY:
		return SOURCE_NAMED;
	case CLASS_WORLD:
	case CLASS_NODE:
		return SOURCE_SIMPLE;
	case CLASS_NAMESPACE:
		return SOURCE_PLACED;
	case CLASS_OTHER:
		return SOURCE_UNKNOWN;
	default:
		return SOURCE_KINDS;
	}
}

/* All of one stretch lead to one node, so one of them will do; but an address may only be the world's. */
static bool seek_sources(struct seeker *seeker, node_id child, uint32_t lo, uint32_t hi)
{
	uint32_t high = seeker->request.src & ~255u, best = UINT32_MAX;
	enum rank_of_source rank = SOURCE_KINDS;
	for (uint32_t low = lo; low <= hi; low++) {
		enum rank_of_source mine = rank_source(seeker->policy, high | low);
		if (mine < rank && mine <= seeker->worst && (high | low) != CLASS_WORLD) {
			rank = mine;
			best = high | low;
		}
	}
	seeker->request.src = best;
	if (best != UINT32_MAX && seek(seeker, child, LEVEL_BLOCK))
		return true;
	seeker->request.src = CLASS_WORLD;
	bool world = !high && lo <= CLASS_WORLD && hi >= CLASS_WORLD && seeker->worst >= SOURCE_SIMPLE;
	bool found = world && seek(seeker, child, LEVEL_BLOCK);
	seeker->request.src = found ? seeker->request.src : high;
	return found;
}

/* Said only where it must be: the first that the rule decides. */
static bool seek_verified(struct seeker *seeker, node_id child, uint32_t lo, uint32_t hi)
{
	static const enum verified said[] = {VERIFIED_UNSAID, VERIFIED_NO, VERIFIED_YES};
	for (int i = 0; i < 3; i++) {
		seeker->request.verified = said[i];
		bool shown = model_via(seeker->policy, &seeker->request) == MESH_VIA_TUNNEL;
		if ((said[i] != VERIFIED_YES || shown) && lo <= shown && hi >= shown &&
		    seek(seeker, child, LEVEL_STRING))
			return true;
	}
	return false;
}

/* The values LO..HI of LEVEL, all of which lead to CHILD. */
static bool seek_stretch(struct seeker *seeker, node_id child, uint32_t level, uint32_t lo, uint32_t hi)
{
	switch (level) {
	case LEVEL_PROTOCOL:
		for (uint32_t udp = lo; udp <= hi && udp < 2; udp++) {
			seeker->request.udp = udp;
			if (seek(seeker, child, LEVEL_PORT))
				return true;
		}
		return false;
	case LEVEL_PORT:
		return seek_ports(seeker, child, lo, hi < UINT16_MAX ? hi : UINT16_MAX);
	case LEVEL_SRC_HIGH:
		for (uint32_t high = lo; high <= hi && high << 8 < seeker->policy->sources; high++) {
			seeker->request.src = high << 8;
			if (seek(seeker, child, LEVEL_SRC_LOW))
				return true;
		}
		return false;
	case LEVEL_SRC_LOW:
		return seek_sources(seeker, child, lo, hi < 255 ? hi : 255);
	case LEVEL_BLOCK:
		seeker->request.block = lo;
		return (!lo || (seeker->request.src == CLASS_WORLD && seeker->worst >= SOURCE_PLACED &&
				lo < seeker->policy->blocks)) &&
		       seek(seeker, child, LEVEL_VERIFIED);
	default:
		return seek_verified(seeker, child, lo, hi);
	}
}

static bool seek(struct seeker *seeker, node_id node, uint32_t level)
{
	uint32_t count = 1;
	if (!reaches(seeker, node))
		return false;
	if (++seeker->work > SUGGEST_WORK) {
		seeker->gave_up = true;
		return false;
	}
	if (level == LEVEL_STRING)
		return seek_strings(seeker, node, false);
	struct diagram_edge whole = {UINT32_MAX, node};
	const struct diagram_edge *edges = &whole;
	if (!diagram_is_terminal(node) && diagram_level(seeker->diagram, node) == level)
		edges = diagram_edges(seeker->diagram, node, &count);
	for (uint32_t i = 0, lo = 0; i < count; lo = edges[i++].hi + 1)
		if (seek_stretch(seeker, edges[i].child, level, lo, edges[i].hi))
			return true;
	return false;
}

static bool has_words(const struct policy *policy, uint32_t dst)
{
	enum class_kind kind = policy->classes.at[dst].kind;
	return kind == CLASS_SERVICE || kind == CLASS_EXTERNAL || kind == CLASS_WORLD;
}

static bool seek_in(struct seeker *seeker, uint32_t dst)
{
	node_id root = diagram_root(seeker->diagram, seeker->audit ? DIAGRAM_AUDIT : DIAGRAM_VERDICT, dst);
	if (!reaches(seeker, root))
		return false;
	seeker->below = true;
	if (!has_words(seeker->policy, dst))
		return false;
	seeker->request = (struct request){.dst = dst};
	seeker->fields = diagram_dst(seeker->diagram, dst)->fields;
	seeker->classes = arena_alloc(seeker->arena, (seeker->fields->count + 1) * sizeof(*seeker->classes));
	memset(seeker->classes, 0xff, seeker->fields->count * sizeof(*seeker->classes));
	return seek(seeker, root, LEVEL_PROTOCOL);
}

enum suggested suggest(struct run *run, uint32_t rank, struct request *ret_request)
{
	struct seeker seeker = {.run = run,
				.arena = run->arena,
				.policy = run->policy,
				.diagram = run->diagram,
				.rank = rank,
				.witnesses = witnesses_create(run->arena),
				.audit = run->policy->rules.at[rank].effect == VERDICT_AUDIT};
	enum suggested found = SUGGEST_NONE;
	seeker.reach = calloc(diagram_nodes(run->diagram) + 1, 1); /* for each rule anew: not the arena's */
	if (!seeker.reach)
		return SUGGEST_GAVE_UP;
	for (int round = 0; round < 2 * SOURCE_KINDS && found != SUGGEST_FOUND; round++) {
		seeker.undeclared = round / SOURCE_KINDS;
		seeker.worst = round % SOURCE_KINDS;
		for (uint32_t dst = 0; dst < run->policy->classes.len && found != SUGGEST_FOUND; dst++)
			if (seek_in(&seeker, dst))
				found = SUGGEST_FOUND;
	}
	free(seeker.reach);
	*ret_request = seeker.request;
	if (found == SUGGEST_FOUND)
		return found;
	return seeker.gave_up ? SUGGEST_GAVE_UP : seeker.below ? SUGGEST_UNSAID : SUGGEST_NONE;
}
