/* What a rule says, as boolean diagrams: sources, ports, condition. */
#include "ir/diagram_build.h"

enum { UDP = 1 << 16, LAST_KEY = 0x1ffff, LAST_PORT = 65535 }; /* a key is protocol << 16 | port */

bool range_set_has(const struct range_set *set, uint32_t value)
{
	uint32_t lo = 0, hi = set->count;
	while (lo < hi) {
		uint32_t middle = (lo + hi) / 2;
		if (set->at[middle].hi < value)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo < set->count && set->at[lo].lo <= value;
}

/* ---- Sources ------------------------------------------------------------------------------------ */

/* The members of CLASSES whose high digit is HIGH, from the NEXT range on. */
static node_id low_digits(struct diagram *diagram, const struct range_set *classes, uint32_t next, uint32_t high,
			  node_id inside)
{
	struct range digits[128];
	struct range_set set = {digits, 0};
	for (uint32_t i = next; i < classes->count && classes->at[i].lo >> 8 <= high; i++) {
		uint32_t lo = classes->at[i].lo, hi = classes->at[i].hi;
		digits[set.count++] = (struct range){lo >> 8 == high ? lo & 255 : 0, hi >> 8 == high ? hi & 255 : 255};
	}
	return set.count
		       ? diagram_apply(diagram, DIAGRAM_AND, diagram_member(diagram, LEVEL_SRC_LOW, &set, 255), inside)
		       : diagram_no(diagram);
}

/* Classes by two digits of 256, then blocks. */
static node_id rect_node(struct diagram *diagram, const struct policy_rect *rect)
{
	uint32_t last_block = diagram_policy(diagram)->blocks - 1, next = 0;
	node_id blocks = diagram_member(diagram, LEVEL_BLOCK, &rect->blocks, last_block);
	struct diagram_edge edges[256];
	for (uint32_t high = 0; high < 256; high++) {
		while (next < rect->classes.count && rect->classes.at[next].hi >> 8 < high)
			next++;
		edges[high] = (struct diagram_edge){high, low_digits(diagram, &rect->classes, next, high, blocks)};
	}
	return diagram_node(diagram, LEVEL_SRC_HIGH, edges, 256);
}

node_id diagram_sources(struct diagram *diagram, const struct policy_sources *sources)
{
	node_id in = diagram_no(diagram);
	for (size_t i = 0; i < sources->in.len; i++)
		in = diagram_apply(diagram, DIAGRAM_MIN, in, rect_node(diagram, &sources->in.at[i]));
	for (size_t i = 0; i < sources->out.len; i++)
		in = diagram_apply(diagram, DIAGRAM_AND_NOT, in, rect_node(diagram, &sources->out.at[i]));
	return in;
}

/* ---- Ports -------------------------------------------------------------------------------------- */

static node_id keys_node(struct diagram *diagram, const struct range_set *tcp, const struct range_set *udp)
{
	struct diagram_edge edges[] = {{0, diagram_member(diagram, LEVEL_PORT, tcp, LAST_PORT)},
				       {1, diagram_member(diagram, LEVEL_PORT, udp, LAST_PORT)}};
	return diagram_node(diagram, LEVEL_PROTOCOL, edges, 2);
}

/* The workload's ports that a service declares. */
static node_id declared_ports(struct diagram *diagram, const struct policy_service *service)
{
	node_id all = diagram_no(diagram);
	for (size_t i = 0; i < service->ports.len; i++) {
		const struct policy_port *port = &service->ports.at[i];
		struct range range = {port->target, port->target == port->lo ? port->hi : port->target};
		struct range_set one = {&range, 1}, none = {0};
		bool udp = port->kind == PORT_UDP;
		all = diagram_apply(diagram, DIAGRAM_MIN, all,
				    keys_node(diagram, udp ? &none : &one, udp ? &one : &none));
	}
	return all;
}

static node_id target_ports(struct diagram *diagram, const struct policy_target *target, uint32_t dst)
{
	static const struct range_set none = {0};
	const struct policy *policy = diagram_policy(diagram);
	node_id said = keys_node(diagram, target->tcp ? &target->ports : &none, target->udp ? &target->ports : &none);
	if (!target->declared || policy->classes.at[dst].kind != CLASS_SERVICE)
		return said;
	const struct policy_service *service = &policy->services.at[policy->classes.at[dst].service];
	return diagram_apply(diagram, DIAGRAM_AND, said, declared_ports(diagram, service));
}

node_id diagram_ports(struct diagram *diagram, const struct policy_targets *targets, uint32_t dst)
{
	node_id in = diagram_no(diagram);
	for (size_t i = 0; i < targets->in.len; i++)
		if (range_set_has(&targets->in.at[i].classes, dst))
			in = diagram_apply(diagram, DIAGRAM_MIN, in, target_ports(diagram, &targets->in.at[i], dst));
	for (size_t i = 0; i < targets->out.len; i++)
		if (range_set_has(&targets->out.at[i].classes, dst))
			in = diagram_apply(diagram, DIAGRAM_AND_NOT, in,
					   target_ports(diagram, &targets->out.at[i], dst));
	return in;
}

/* ---- Conditions --------------------------------------------------------------------------------- */

static node_id port_atom(struct diagram *diagram, const struct cond *cond)
{
	static const struct range_set none = {0};
	bool udp = cond->field == FIELD_UDP_PORT;
	struct range every = {0, LAST_PORT};
	struct range_set all = {&every, 1}, said = {cond->numbers.at, cond->numbers.len};
	node_id is = keys_node(diagram, udp ? &none : &said, udp ? &said : &none);
	if (cond->op != OP_NE)
		return is;
	/* A UDP request has no tcp.port: it matches neither == nor != (language.md 16). */
	return diagram_apply(diagram, DIAGRAM_AND_NOT, keys_node(diagram, udp ? &none : &all, udp ? &all : &none), is);
}

static node_id verified_atom(struct diagram *diagram)
{
	struct range yes = {1, 1};
	return diagram_member(diagram, LEVEL_VERIFIED, &(struct range_set){&yes, 1}, 1);
}

static bool pattern_is_of(const struct pattern *pattern, const struct cond *cond)
{
	enum pattern_kind kind = cond->op == OP_LIKE	  ? PATTERN_LIKE
				 : cond->op == OP_MATCHES ? PATTERN_RE
							  : PATTERN_EXACT;
	if (pattern->kind != kind)
		return false;
	for (size_t i = 0; i < cond->values.len; i++)
		if (strcmp(cond->values.at[i], pattern->text) == 0)
			return true;
	return false;
}

/* Yes where the automaton of FIELD says that one of the atom's patterns matches. */
static node_id field_atom(struct diagram *diagram, const struct diagram_field *field, uint32_t level,
			  const struct cond *cond)
{
	const struct automaton *automaton = field->automaton;
	VEC(struct range) values = {0};
	for (uint32_t class = 0; class < automaton->accept_classes; class ++) {
		bool is = cond->op == OP_HAS;
		for (uint32_t i = 0; i < automaton->set_len[class] && !is; i++)
			is = pattern_is_of(&field->patterns[automaton->sets[class][i]], cond);
		if (is)
			vec_push(diagram_arena(diagram), &values, (struct range){class + 1, class + 1});
	}
	struct range_set set = {values.at, values.len};
	return diagram_member(diagram, level, &set, automaton->accept_classes);
}

static node_id string_atom(struct diagram *diagram, const struct cond *cond, const struct diagram_fields *fields)
{
	node_id any = diagram_no(diagram), present = any;
	struct cond has = {.op = OP_HAS};
	for (uint32_t i = 0; i < fields->count; i++) {
		const struct diagram_field *field = &fields->at[i];
		if (field->field != cond->field || (field->key && strcmp(field->key, cond->key) != 0))
			continue;
		if (present == diagram_no(diagram))
			present = field_atom(diagram, field, LEVEL_STRING + i, &has);
		if (cond->op != OP_HAS)
			any = diagram_apply(diagram, DIAGRAM_MIN, any,
					    field_atom(diagram, field, LEVEL_STRING + i, cond));
	}
	if (cond->op == OP_HAS)
		return present;
	return cond->op == OP_NE ? diagram_apply(diagram, DIAGRAM_AND_NOT, present, any) : any;
}

node_id diagram_cond(struct diagram *diagram, const struct cond *cond, const struct diagram_fields *fields)
{
	if (!cond)
		return diagram_yes(diagram);
	if (cond->kind == COND_ATOM)
		return cond->field == FIELD_VERIFIED ? verified_atom(diagram)
		       : field_is_l7(cond->field)    ? string_atom(diagram, cond, fields)
						     : port_atom(diagram, cond);
	node_id left = diagram_cond(diagram, cond->left, fields);
	if (cond->kind == COND_NOT)
		return diagram_apply(diagram, DIAGRAM_AND_NOT, diagram_yes(diagram), left);
	return diagram_apply(diagram, cond->kind == COND_AND ? DIAGRAM_AND : DIAGRAM_MIN, left,
			     diagram_cond(diagram, cond->right, fields));
}

/* ---- Rules -------------------------------------------------------------------------------------- */

node_id diagram_rule(struct diagram *diagram, uint32_t rank, uint32_t dst)
{
	const struct policy_rule *rule = &diagram_policy(diagram)->rules.at[rank];
	node_id *known = diagram_sources_of(diagram, rank);
	if (!*known) {
		node_id from = diagram_sources(diagram, &rule->from);
		if (!rule->l7)
			from = diagram_apply(diagram, DIAGRAM_AND, from, diagram_cond(diagram, rule->when, NULL));
		*known = from + 1;
	}
	node_id node = diagram_apply(diagram, DIAGRAM_AND, *known - 1, diagram_ports(diagram, &rule->to, dst));
	if (!rule->l7)
		return node;
	return diagram_apply(diagram, DIAGRAM_AND, node,
			     diagram_cond(diagram, rule->when, diagram_dst(diagram, dst)->fields));
}
