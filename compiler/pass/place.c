/* Lays the diagram out as the flat tables that a node walks (bpf-templates/plan.h). */
#include "pass/place.h"

#include "ir/diagram_build.h"
#include "pass/prove.h"
#include "pass/row.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct placer {
	struct run *run;
	struct plan *plan;
	struct rows *rows;
};

/* ---- What a node cannot enforce yet ----------------------------------------------------------- */

/* The tunnel carries connections. A datagram to a strict port would be refused whatever the rules say. */
static void check_datagrams(struct run *run)
{
	const struct policy *policy = run->policy;
	for (size_t i = 0; i < policy->services.len; i++) {
		const struct policy_service *service = &policy->services.at[i];
		for (size_t k = 0; k < service->ports.len; k++) {
			const struct policy_port *port = &service->ports.at[k];
			if (port->kind != PORT_UDP ||
			    policy_mtls_mode(policy, service->class, port->target) != MTLS_STRICT)
				continue;
			diag_add(&run->diags, DIAG_NOT_ENFORCEABLE, port->span,
				 "udp cannot go through the tunnel, and '%s' is strict", service->name)
				->note = arena_printf(
				run->arena, "say `mtls off for %s port %u because \"...\";` where that is meant",
				service->name, port->target);
		}
	}
}

int place_check_enforceable(struct run *run)
{
	const struct policy *policy = run->policy;
	size_t before = run->diags.errors;
	for (size_t i = 0; i < policy->rules.len; i++)
		if (policy->rules.at[i].l7)
			diag_add(&run->diags, DIAG_NOT_ENFORCEABLE, policy->rules.at[i].when_span,
				 "rule '%s' depends on the content of requests, which a node cannot decide yet",
				 policy->rules.at[i].name)
				->note = "it is neither dropped nor widened to the port; why, test and never decide it";
	check_datagrams(run);
	for (size_t i = 0; i < policy->arms.len; i++) {
		const struct policy_arm *arm = &policy->arms.at[i];
		const struct policy_service *service = &policy->services.at[arm->service];
		bool requests = false;
		for (size_t k = 0; k < service->ports.len; k++)
			requests |= service->ports.at[k].kind == PORT_HTTP || service->ports.at[k].kind == PORT_GRPC;
		if (arm->l7)
			diag_add(&run->diags, DIAG_NOT_ENFORCEABLE, arm->span,
				 "this arm of the route of '%s' depends on the content of requests", service->name);
		else if (requests && !arm->per_connection && arm->splits.len > 1)
			diag_add(&run->diags, DIAG_NOT_ENFORCEABLE, arm->span,
				 "'%s' speaks http: its split is per request, which a node cannot do yet",
				 service->name)
				->note = "write 'split per connection ...' to split connections";
	}
	return run->diags.errors == before ? 0 : -ENOTSUP;
}

/* ---- Cells ------------------------------------------------------------------------------------ */

/* Edges of NODE at LEVEL; a node of a deeper level is one edge over the whole domain. */
static const struct diagram_edge *edges_at(const struct diagram *diagram, node_id node, uint32_t level,
					   struct diagram_edge *whole, uint32_t *ret_count)
{
	if (!diagram_is_terminal(node) && diagram_level(diagram, node) == level)
		return diagram_edges(diagram, node, ret_count);
	*whole = (struct diagram_edge){.hi = UINT32_MAX, .child = node};
	*ret_count = 1;
	return whole;
}

static node_id child_at(const struct diagram *diagram, node_id node, uint32_t level, uint32_t value)
{
	struct diagram_edge whole;
	uint32_t count;
	const struct diagram_edge *edges = edges_at(diagram, node, level, &whole, &count);
	while (edges->hi < value)
		edges++;
	return edges->child;
}

static bool same_cell(const struct plan_cell *a, const struct plan_cell *b)
{
	return a->comb == b->comb && a->owner == b->owner && a->matrix == b->matrix && a->mask == b->mask;
}

/* How connections to PORT of DST are protected, as flags of an outcome; *RET_HI: the last port of which
 * that is said. */
static uint32_t protection(const struct placer *placer, uint32_t dst, uint32_t port, uint32_t *ret_hi)
{
	static const uint32_t flags[] = {
		[MTLS_OFF] = 0, [MTLS_PERMISSIVE] = PLAN_PERMISSIVE, [MTLS_STRICT] = PLAN_STRICT};
	const struct policy *policy = placer->run->policy;
	*ret_hi = 65535;
	for (size_t i = 0; i < policy->mtls.len; i++) {
		const struct policy_mtls *mtls = &policy->mtls.at[i];
		if (!mtls->port || mtls->port < port || !policy_mtls_speaks(mtls, dst, mtls->port))
			continue;
		uint32_t hi = mtls->port == port ? port : mtls->port - 1;
		*ret_hi = hi < *ret_hi ? hi : *ret_hi;
	}
	return flags[policy_mtls_mode(policy, dst, port)];
}

/* One protocol of one destination. Cells hold row numbers until rows_finish. */
static void place_ports(struct placer *placer, uint32_t dst, node_id full, node_id wide, uint32_t protocol,
			enum row_kind kind, bool verified, size_t first)
{
	const struct diagram *diagram = placer->run->diagram;
	struct plan *plan = placer->plan;
	struct diagram_edge whole, wide_whole;
	uint32_t count, wide_count;
	const struct diagram_edge *edge =
		edges_at(diagram, child_at(diagram, full, LEVEL_PROTOCOL, protocol), LEVEL_PORT, &whole, &count);
	const struct diagram_edge *wide_edge = edges_at(diagram, child_at(diagram, wide, LEVEL_PROTOCOL, protocol),
							LEVEL_PORT, &wide_whole, &wide_count);
	for (uint32_t port = 0; port <= 65535;) {
		uint32_t hi = 65535;
		struct row_want want = {.kind = kind, .verified = verified};
		if (kind <= ROW_DEFAULT_AUDIT)
			want.flags = protection(placer, dst, port, &hi);
		struct plan_cell cell = rows_cell(placer->rows, edge->child, wide_edge->child, want);
		if (plan->cells.len == first || !same_cell(&plan->cells.at[plan->cells.len - 1], &cell)) {
			vec_push(placer->run->arena, &plan->bounds, protocol << 16 | port);
			vec_push(placer->run->arena, &plan->cells, cell);
		}
		hi = edge->hi < hi ? edge->hi : hi;
		hi = wide_edge->hi < hi ? wide_edge->hi : hi;
		if (hi >= 65535)
			break;
		port = hi + 1;
		edge += edge->hi == hi;
		wide_edge += wide_edge->hi == hi;
	}
}

static bool is_verified(enum plan_face face)
{
	return face == PLAN_VERIFIED || face == PLAN_VERIFIED_AUDITS;
}

/* Which diagram a face shows, and of a policy that asks for peer.verified which side of that. */
static node_id face_root(const struct placer *placer, enum plan_face face, bool wide, uint32_t dst)
{
	static const enum diagram_kind diagrams[PLAN_FACES] = {DIAGRAM_VERDICT, DIAGRAM_AUDIT, DIAGRAM_ROUTE,
							       DIAGRAM_VERDICT, DIAGRAM_AUDIT};
	enum diagram_kind kind = wide && diagrams[face] == DIAGRAM_VERDICT ? DIAGRAM_WIDE : diagrams[face];
	node_id root = diagram_root(placer->run->diagram, kind, dst);
	return placer->plan->asks_verified ? diagram_where_verified(placer->run->diagram, root, is_verified(face))
					   : root;
}

/* Where a verified peer changes nothing, its face is the other one. */
static bool is_same_face(const struct placer *placer, enum plan_face face, enum plan_face other, uint32_t dst)
{
	return face_root(placer, face, false, dst) == face_root(placer, other, false, dst) &&
	       face_root(placer, face, true, dst) == face_root(placer, other, true, dst);
}

static int place_destination(struct placer *placer, enum plan_face face, uint32_t dst)
{
	static const enum row_kind kinds[PLAN_FACES] = {ROW_DENY, ROW_AUDIT, ROW_ROUTE, ROW_DENY, ROW_AUDIT};
	struct run *run = placer->run;
	struct plan *plan = placer->plan;
	enum plan_face other = face == PLAN_VERIFIED ? PLAN_VERDICTS : PLAN_AUDITS;
	if (is_verified(face) && is_same_face(placer, face, other, dst)) {
		plan->ranges.at[face * plan->classes + dst] = plan->ranges.at[other * plan->classes + dst];
		return 0;
	}
	node_id full = face_root(placer, face, false, dst), wide = face_root(placer, face, true, dst);
	enum row_kind kind = kinds[face] == ROW_DENY ? ROW_DENY + run->policy->defaults.at[dst] : kinds[face];
	size_t first = plan->cells.len;
	place_ports(placer, dst, full, wide, 0, kind, is_verified(face), first);
	place_ports(placer, dst, full, wide, 1, kind, is_verified(face), first);
	size_t count = plan->cells.len - first;
	if (count > MESH_PORT_BOUNDS) {
		diag_add(&run->diags, DIAG_TABLE_BOUND, (struct span){0},
			 "the rules of '%s' cut its ports into %zu intervals; a node searches %d",
			 run->policy->classes.at[dst].name, count, MESH_PORT_BOUNDS)
			->note = "use ranges, or fewer ports";
		return -E2BIG;
	}
	plan->ranges.at[face * plan->classes + dst] = (struct plan_range){.first = first, .count = count};
	return 0;
}

/* Audits and routes that say nothing of a destination take no cell. */
static bool is_silent(const struct placer *placer, enum plan_face face, uint32_t dst)
{
	const struct policy *policy = placer->run->policy;
	if (dst == MESH_CLASS_UNKNOWN || dst == MESH_CLASS_CONFLICT || policy->classes.at[dst].kind == CLASS_IDENTITY)
		return true;
	if (face == PLAN_AUDITS || face == PLAN_VERIFIED_AUDITS) {
		node_id root = diagram_root(placer->run->diagram, DIAGRAM_AUDIT, dst);
		return diagram_is_terminal(root) && diagram_terminal(placer->run->diagram, root) == 0;
	}
	if (face == PLAN_ROUTES)
		return policy->classes.at[dst].kind != CLASS_SERVICE ||
		       policy->services.at[policy->classes.at[dst].service].arms < 2;
	return false;
}

/* ---- Nodes: the intervals as what a key is compared with ---------------------------------------- */

_Static_assert(PLAN_WAYS *PLAN_WAYS == MESH_PORT_BOUNDS, "two levels hold them");

/* A node whose way I begins with the key of bound FIRST + I * STRIDE, and leads to number TO + I. */
static struct plan_node node_make(const struct plan *plan, uint32_t first, uint32_t count, uint32_t stride, uint32_t to)
{
	struct plan_node node = {.first = to};
	for (uint32_t i = 0; i < PLAN_WAYS - 1; i++)
		node.last[i] = (i + 1) * stride < count ? plan->bounds.at[first + (i + 1) * stride] - 1 : PLAN_NO_KEY;
	return node;
}

static void place_node(struct placer *placer, size_t at)
{
	struct plan *plan = placer->plan;
	struct plan_range range = plan->ranges.at[at];
	if (range.count <= PLAN_WAYS) {
		plan->nodes.at[at] =
			node_make(plan, range.first, range.count, 1, range.count ? range.first : PLAN_NOWHERE);
		return;
	}
	plan->nodes.at[at] = node_make(plan, range.first, range.count, PLAN_WAYS, plan->nodes.len | PLAN_INNER);
	for (uint32_t done = 0; done < range.count; done += PLAN_WAYS)
		vec_push(placer->run->arena, &plan->nodes,
			 node_make(plan, range.first + done,
				   range.count - done < PLAN_WAYS ? range.count - done : PLAN_WAYS, 1,
				   range.first + done));
}

static void mark_audited(struct plan *plan, enum plan_face verdicts, enum plan_face audits)
{
	for (uint32_t dst = 0; dst < plan->classes; dst++)
		if (plan->ranges.at[audits * plan->classes + dst].count)
			plan->nodes.at[verdicts * plan->classes + dst].first |= PLAN_AUDITED;
}

static void place_nodes(struct placer *placer)
{
	struct plan *plan = placer->plan;
	plan->nodes.len = plan->nodes.cap = plan->ranges.len;
	plan->nodes.at = arena_alloc(placer->run->arena, plan->nodes.len * sizeof(*plan->nodes.at));
	for (size_t i = 0; i < plan->ranges.len; i++)
		place_node(placer, i);
	mark_audited(plan, PLAN_VERDICTS, PLAN_AUDITS);
	if (plan->asks_verified)
		mark_audited(plan, PLAN_VERIFIED, PLAN_VERIFIED_AUDITS);
}

/* ---- Addresses and routes --------------------------------------------------------------------- */

static uint64_t word_of(const uint8_t *bytes)
{
	uint64_t word = 0;
	for (int i = 0; i < 8; i++)
		word = word << 8 | bytes[i];
	return word;
}

static void place_blocks(struct placer *placer)
{
	const struct policy *policy = placer->run->policy;
	struct arena *arena = placer->run->arena;
	struct plan *plan = placer->plan;
	for (size_t i = 0; i < policy->intervals.len; i++) {
		const struct policy_interval *interval = &policy->intervals.at[i];
		vec_push(arena, &plan->intervals,
			 (struct plan_interval){.high = word_of(interval->first), .low = word_of(interval->first + 8)});
		vec_push(arena, &plan->interval_block, interval->block);
	}
	for (uint32_t i = 0; i < policy->blocks; i++)
		vec_push(arena, &plan->block_dst, policy->block_dst.at[i]);
}

static uint16_t place_arm(struct placer *placer, const struct policy_split *splits, size_t count, bool sticky)
{
	struct plan *plan = placer->plan;
	struct plan_arm arm = {.first = plan->splits.len, .count = count, .sticky = sticky};
	for (size_t i = 0; i < count; i++) {
		arm.total += splits[i].weight;
		vec_push(placer->run->arena, &plan->splits,
			 (struct plan_split){.set = splits[i].set, .weight = splits[i].weight});
	}
	vec_push(placer->run->arena, &plan->arms, arm);
	return plan->arms.len - 1;
}

static void place_routes(struct placer *placer)
{
	const struct policy *policy = placer->run->policy;
	struct plan *plan = placer->plan;
	for (size_t i = 0; i < policy->arms.len; i++) {
		const struct policy_arm *arm = &policy->arms.at[i];
		place_arm(placer, arm->splits.at, arm->splits.len, policy->services.at[arm->service].sticky);
	}
	for (uint32_t class = 0; class < plan->classes; class ++) {
		uint16_t arm = PLAN_NO_ARM;
		if (policy->classes.at[class].kind == CLASS_SERVICE) {
			const struct policy_service *service = &policy->services.at[policy->classes.at[class].service];
			struct policy_split whole = {.set = service->set, .weight = 1};
			arm = service->arms == 0   ? place_arm(placer, &whole, 1, service->sticky)
			      : service->arms == 1 ? service->first_arm
						   : PLAN_ARM_TABLE;
		}
		vec_push(placer->run->arena, &plan->class_arm, arm);
	}
}

/* ---- The pass --------------------------------------------------------------------------------- */

uint32_t plan_interval_steps(const struct plan *plan)
{
	uint32_t steps = 0;
	while (((size_t)1 << steps) < plan->intervals.len)
		steps++;
	return steps;
}

size_t plan_bytes(const struct plan *plan)
{
	return plan->nodes.len * sizeof(*plan->nodes.at) + plan->cells.len * sizeof(*plan->cells.at) +
	       plan->combs.len * sizeof(*plan->combs.at) + (plan->matrix.len + plan->columns.len) * 2 +
	       plan->outcomes.len * sizeof(*plan->outcomes.at) + plan->by_block.len * 2 +
	       plan->intervals.len * (sizeof(*plan->intervals.at) + 2) +
	       (plan->block_dst.len + plan->class_arm.len) * 2 + plan->arms.len * sizeof(*plan->arms.at) +
	       plan->splits.len * sizeof(*plan->splits.at);
}

static int check_bounds(struct placer *placer)
{
	const struct plan *plan = placer->plan;
	if (diagram_over(placer->run->diagram)) {
		diag_add(&placer->run->diags, DIAG_TABLE_BOUND, (struct span){0},
			 "the rules that ask for peer.verified need more than 16 million edges");
		return -E2BIG;
	}
	const struct {
		size_t have, limit;
		const char *what;
	} bounds[] = {
		{plan->outcomes.len, PLAN_LIMIT_OUTCOMES, "outcomes"},
		{plan->classes, 65535, "classes"},
		{plan->blocks, 65535, "address blocks"},
		{plan->sets, 65535, "backend sets"},
		{plan->arms.len, PLAN_ARM_TABLE, "route arms"},
		{plan_bytes(plan), PLAN_LIMIT_BYTES, "bytes of tables"},
	};
	for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); i++)
		if (bounds[i].have > bounds[i].limit) {
			diag_add(&placer->run->diags, DIAG_TABLE_BOUND, (struct span){0},
				 "the policy needs %zu %s; a node holds %zu", bounds[i].have, bounds[i].what,
				 bounds[i].limit)
				->note = "use fewer groups of scattered members, or split the mesh";
			return -E2BIG;
		}
	return 0;
}

int place(struct run *run, struct plan **ret_plan)
{
	int r = place_check_enforceable(run);
	if (r)
		return r;
	struct plan *plan = arena_alloc(run->arena, sizeof(*plan));
	struct placer placer = {.run = run, .plan = plan};
	plan->classes = run->policy->classes.len;
	plan->blocks = run->policy->blocks;
	plan->rules = run->policy->rules.len;
	plan->sets = run->policy->sets;
	plan->audit_sets = diagram_audit_sets(run->diagram);
	plan->asks_verified = run->policy->asks_verified;
	int faces = plan->asks_verified ? PLAN_FACES : PLAN_VERIFIED;
	placer.rows = rows_create(run, plan);
	plan->ranges.len = plan->ranges.cap = (size_t)faces * plan->classes;
	plan->ranges.at = arena_alloc(run->arena, plan->ranges.len * sizeof(*plan->ranges.at));
	for (int face = 0; face < faces; face++)
		for (uint32_t dst = 0; dst < plan->classes; dst++)
			if (!is_silent(&placer, face, dst)) {
				r = place_destination(&placer, face, dst);
				if (r)
					return r;
			}
	place_nodes(&placer);
	rows_finish(placer.rows);
	place_blocks(&placer);
	place_routes(&placer);
	r = check_bounds(&placer);
	if (r)
		return r;
	prove(run, plan);
	*ret_plan = plan;
	return 0;
}
