/* What certificates leave of the requests to a destination. Whether one is shown is a request's to choose
 * only where both can be: nobody shows one who has none, and a strict port takes nothing without. */
#include "ir/diagram_build.h"

enum { LAST_PORT = 65535 };

/* ---- Strict ports ------------------------------------------------------------------------------- */

/* The last port to which all that is said of PORT holds. */
static uint32_t stretch_end(const struct policy *policy, uint32_t dst, uint32_t port)
{
	uint32_t end = LAST_PORT;
	for (size_t i = 0; i < policy->mtls.len; i++) {
		const struct policy_mtls *mtls = &policy->mtls.at[i];
		if (!mtls->port || mtls->port < port || !policy_mtls_speaks(mtls, dst, mtls->port))
			continue;
		uint32_t last = mtls->port == port ? port : mtls->port - 1;
		end = last < end ? last : end;
	}
	return end;
}

void diagram_strict_ports(struct arena *arena, const struct policy *policy, uint32_t dst, struct diagram_ports *ports)
{
	for (uint32_t port = 0, end; policy->mtls.len && port <= LAST_PORT; port = end + 1) {
		end = stretch_end(policy, dst, port);
		if (policy_mtls_mode(policy, dst, port) == MTLS_STRICT)
			vec_push(arena, &ports->at, (struct range){port, end});
	}
}

/* Of both protocols. */
static node_id ports_node(struct diagram *diagram, const struct diagram_ports *ports)
{
	node_id node = diagram_no(diagram);
	for (size_t i = 0; i < ports->at.len; i++)
		node = diagram_apply(
			diagram, DIAGRAM_MIN, node,
			diagram_member(diagram, LEVEL_PORT, &(struct range_set){&ports->at.at[i], 1}, LAST_PORT));
	return node;
}

/* ---- Who shows none ----------------------------------------------------------------------------- */

static node_id udp_node(struct diagram *diagram)
{
	struct range udp = {1, 1};
	return diagram_member(diagram, LEVEL_PROTOCOL, &(struct range_set){&udp, 1}, 1);
}

static node_id class_node(struct diagram *diagram, uint32_t class)
{
	struct range one = {class, class}, blocks = {0, diagram_policy(diagram)->blocks - 1};
	struct policy_rect rect = {{&one, 1}, {&blocks, 1}};
	struct policy_sources sources = {0};
	vec_push(diagram_arena(diagram), &sources.in, rect);
	return diagram_sources(diagram, &sources);
}

/* The world, the node, and datagrams; the node reaches its own workloads without leaving the machine
 * (language.md 20). */
static const struct diagram_mtls *parts(struct diagram *diagram)
{
	struct diagram_mtls *mtls = diagram_mtls(diagram);
	const struct policy *policy = diagram_policy(diagram);
	if (mtls->strict)
		return mtls;
	node_id world = class_node(diagram, CLASS_WORLD), node = class_node(diagram, CLASS_NODE);
	node_id udp = udp_node(diagram);
	mtls->strict = arena_alloc(diagram_arena(diagram), (policy->classes.len + 1) * sizeof(*mtls->strict));
	mtls->stranger = diagram_apply(diagram, DIAGRAM_MIN, world, diagram_apply(diagram, DIAGRAM_AND_NOT, udp, node));
	mtls->unshown = diagram_apply(diagram, DIAGRAM_MIN, mtls->stranger, node);
	return mtls;
}

static node_id strict_of(struct diagram *diagram, uint32_t dst)
{
	node_id *strict = &parts(diagram)->strict[dst];
	struct diagram_ports ports = {0};
	if (!*strict) {
		diagram_strict_ports(diagram_arena(diagram), diagram_policy(diagram), dst, &ports);
		*strict = ports_node(diagram, &ports) + 1;
	}
	return *strict - 1;
}

/* ---- What is left ------------------------------------------------------------------------------- */

static node_id settled(struct diagram *diagram, node_id node, uint32_t dst, node_id strict)
{
	node_id plain = diagram_where_verified(diagram, node, false);
	node_id verified = diagram_where_verified(diagram, node, true);
	if (plain == verified || !policy_is_workload(diagram_policy(diagram), dst))
		return plain;
	node_id unshown = parts(diagram)->unshown, rest = diagram_apply(diagram, DIAGRAM_AND_NOT, node, unshown);
	verified = diagram_apply(diagram, DIAGRAM_AND_NOT, verified, unshown);
	return diagram_apply(diagram, DIAGRAM_MIN, diagram_apply(diagram, DIAGRAM_AND, plain, unshown),
			     diagram_apply(diagram, DIAGRAM_MIN, diagram_apply(diagram, DIAGRAM_AND, verified, strict),
					   diagram_apply(diagram, DIAGRAM_AND_NOT, rest, strict)));
}

static node_id taken(struct diagram *diagram, node_id node, uint32_t dst, node_id strict)
{
	if (diagram_policy(diagram)->asks_verified)
		node = settled(diagram, node, dst, strict);
	if (strict == diagram_no(diagram))
		return node;
	node_id refused = diagram_apply(diagram, DIAGRAM_AND, parts(diagram)->stranger, strict);
	return diagram_apply(diagram, DIAGRAM_AND_NOT, node, refused);
}

node_id diagram_asked(struct diagram *diagram, node_id node, uint32_t dst)
{
	return diagram_policy(diagram)->asks_verified ? settled(diagram, node, dst, diagram_no(diagram)) : node;
}

node_id diagram_taken(struct diagram *diagram, node_id node, uint32_t dst)
{
	const struct policy *policy = diagram_policy(diagram);
	return policy->mtls.len || policy->asks_verified ? taken(diagram, node, dst, strict_of(diagram, dst)) : node;
}

node_id diagram_taken_on(struct diagram *diagram, node_id node, uint32_t dst, const struct diagram_ports *strict)
{
	return taken(diagram, node, dst, ports_node(diagram, strict));
}

node_id diagram_in_clear(struct diagram *diagram, node_id node, uint32_t dst)
{
	const struct policy *policy = diagram_policy(diagram);
	if (policy->asks_verified)
		node = diagram_where_verified(diagram, node, false);
	return policy->mtls.len ? diagram_apply(diagram, DIAGRAM_AND_NOT, node, strict_of(diagram, dst)) : node;
}
