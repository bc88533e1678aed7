#include "pass/prove.h"

#include "pass/row.h"

#include <arpa/inet.h>
#include <string.h>

struct mesh_vector prove_vector(const struct run *run, uint32_t src, uint32_t block, uint32_t dst, bool udp,
				uint32_t port, enum mesh_via via)
{
	const struct policy *policy = run->policy;
	bool verified = via == MESH_VIA_TUNNEL;
	uint32_t terminal = rows_walk(run->diagram, diagram_root(run->diagram, DIAGRAM_VERDICT, dst), udp, port, src,
				      block, verified);
	struct mesh_vector vector = {
		.src = src,
		.block = block,
		.dst = dst,
		.port = port,
		.protocol = udp ? IPPROTO_UDP : IPPROTO_TCP,
		.via = via,
		.audit = rows_walk(run->diagram, diagram_root(run->diagram, DIAGRAM_AUDIT, dst), udp, port, src, block,
				   verified),
	};
	if (dst == MESH_CLASS_CONFLICT || dst == MESH_CLASS_UNKNOWN || src == MESH_CLASS_UNKNOWN) {
		vector.rule = policy->rules.len + (dst == MESH_CLASS_CONFLICT ? MESH_CONFLICT : MESH_UNKNOWN);
		vector.audit = 0;
	} else if (terminal == TERMINAL_DEFAULT) {
		vector.rule = policy->rules.len + MESH_DEFAULT;
		vector.verdict = policy->defaults.at[dst] != VERDICT_DENY;
	} else {
		vector.verdict = terminal >= TERMINAL_ALLOW;
		vector.rule = vector.verdict ? terminal - TERMINAL_ALLOW : terminal;
	}
	if (vector.verdict && via == MESH_VIA_WIRE && policy_mtls_mode(policy, dst, port) == MTLS_STRICT) {
		vector.verdict = 0;
		vector.rule = policy->rules.len + MESH_PLAINTEXT;
	}
	return vector;
}

/* ---- Decisions: a request for each cell, and in it for the ends of each stretch of sources ------- */

struct prover {
	struct run *run;
	struct plan *plan;
	size_t budget; /* of this destination */
};

static void prove_source(struct prover *prover, uint32_t dst, uint32_t key, uint32_t src)
{
	const struct policy *policy = prover->run->policy;
	if (src >= policy->sources || src == MESH_CLASS_CONFLICT)
		return;
	/* A block of its own for each source, and block 0: both ends of the block dimension. */
	uint32_t blocks[] = {0, src % policy->blocks, policy->blocks - 1};
	for (int i = 0; i < 3 && prover->budget; i++) {
		if (i && blocks[i] == blocks[i - 1])
			continue;
		vec_push(prover->run->arena, &prover->plan->vectors,
			 prove_vector(prover->run, src, blocks[i], dst, key >> 16, key & 0xffff, MESH_VIA_WIRE));
		if ((policy->mtls.len || policy->asks_verified) && key >> 16 == 0)
			vec_push(prover->run->arena, &prover->plan->vectors,
				 prove_vector(prover->run, src, blocks[i], dst, false, key & 0xffff, MESH_VIA_TUNNEL));
		prover->budget--;
	}
}

static void prove_cell(struct prover *prover, node_id node, uint32_t dst, uint32_t key)
{
	const struct diagram *diagram = prover->run->diagram;
	static const uint32_t always[] = {MESH_CLASS_WORLD, MESH_CLASS_NODE, MESH_CLASS_OTHER, MESH_CLASS_FIRST};
	for (size_t i = 0; i < sizeof(always) / sizeof(*always); i++)
		prove_source(prover, dst, key, always[i]);
	if (diagram_is_terminal(node) || diagram_level(diagram, node) > LEVEL_SRC_LOW)
		return;
	uint32_t highs, lows;
	const struct diagram_edge *high = diagram_edges(diagram, node, &highs);
	if (diagram_level(diagram, node) == LEVEL_SRC_LOW) {
		for (uint32_t i = 0; i < highs; i++)
			prove_source(prover, dst, key, high[i].hi);
		return;
	}
	for (uint32_t i = 0; i < highs; i++) {
		node_id child = high[i].child;
		if (diagram_is_terminal(child) || diagram_level(diagram, child) != LEVEL_SRC_LOW) {
			prove_source(prover, dst, key, high[i].hi * 256);
			continue;
		}
		const struct diagram_edge *low = diagram_edges(diagram, child, &lows);
		for (uint32_t k = 0; k < lows; k++)
			prove_source(prover, dst, key, high[i].hi * 256 + low[k].hi);
	}
}

/* At the ports of a face: both sides of peer.verified, on which the diagram is the finer. */
static void prove_destination(struct prover *prover, enum plan_face face, uint32_t dst)
{
	const struct diagram *diagram = prover->run->diagram;
	const struct plan_range *place = &prover->plan->ranges.at[face * prover->plan->classes + dst];
	for (uint32_t i = 0; i < place->count && prover->budget; i++) {
		uint32_t key = prover->plan->bounds.at[place->first + i], count;
		node_id node = diagram_root(diagram, DIAGRAM_VERDICT, dst);
		for (int level = LEVEL_PROTOCOL; level <= LEVEL_PORT; level++) {
			if (diagram_is_terminal(node) || diagram_level(diagram, node) != (uint32_t)level)
				continue;
			const struct diagram_edge *edge = diagram_edges(diagram, node, &count);
			while (edge->hi < (level == LEVEL_PROTOCOL ? key >> 16 : key & 0xffff))
				edge++;
			node = edge->child;
		}
		prove_cell(prover, node, dst, key);
	}
}

/* ---- Addresses and packets ---------------------------------------------------------------------- */

static void prove_addresses(struct prover *prover)
{
	const struct policy *policy = prover->run->policy;
	for (size_t i = 0; i < policy->intervals.len && i < PROVE_LIMIT_ADDRESSES; i++) {
		struct mesh_address_vector vector = {.block = policy->intervals.at[i].block};
		vector.dst = policy->block_dst.at[vector.block];
		memcpy(vector.address, policy->intervals.at[i].first, sizeof(vector.address));
		vec_push(prover->run->arena, &prover->plan->addresses, vector);
	}
}

static void prove_packet(struct prover *prover, const char *hex, bool pass)
{
	struct mesh_packet_vector vector = {.pass = pass};
	for (unsigned byte; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		vector.packet[vector.bytes++] = byte;
	vec_push(prover->run->arena, &prover->plan->packets, vector);
}

/* From proof endpoint 1 (240.0.0.1, 100::1) to 2: each is refused before any rule is asked, but ICMP. */
static void prove_packets(struct prover *prover)
{
	/* IPv4 with a record-route option (RFC 791 section 3.1), TCP behind it. */
	prove_packet(prover,
		     "4600002c00000000400600"
		     "00f0000001f0000002"
		     "07040400"
		     "00010050"
		     "0000000000000000"
		     "5002"
		     "000000000000",
		     false);
	/* An IP protocol that is none of TCP, UDP, ICMP: SCTP. */
	prove_packet(prover,
		     "4500002000000000408400"
		     "00f0000001f0000002"
		     "000100500000000000000000",
		     false);
	/* IPv4 whose TCP header ends after the ports. */
	prove_packet(prover,
		     "4500001800000000400600"
		     "00f0000001f0000002"
		     "00010050",
		     false);
	/* IPv6 with a destination-options header (RFC 8200 section 4.6). */
	prove_packet(prover,
		     "6000000000083c40"
		     "01000000000000000000000000000001"
		     "01000000000000000000000000000002"
		     "0600010400000000",
		     false);
	/* ICMP echo passes (language.md 14). */
	prove_packet(prover,
		     "4500001c00000000400100"
		     "00f0000001f0000002"
		     "0800f7ff00000000",
		     true);
}

void prove(struct run *run, struct plan *plan)
{
	struct prover prover = {.run = run, .plan = plan};
	size_t share = PROVE_LIMIT_DECISIONS / plan->classes;
	for (uint32_t dst = 0; dst < plan->classes; dst++) {
		prover.budget = share < 8 ? 8 : share;
		if (plan->vectors.len >= PROVE_LIMIT_DECISIONS * 4)
			continue;
		prove_destination(&prover, PLAN_VERDICTS, dst);
		if (plan->asks_verified && plan->ranges.at[PLAN_VERIFIED * plan->classes + dst].first !=
						   plan->ranges.at[PLAN_VERDICTS * plan->classes + dst].first)
			prove_destination(&prover, PLAN_VERIFIED, dst);
	}
	prove_addresses(&prover);
	prove_packets(&prover);
}
