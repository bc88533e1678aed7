/* The decision: (source, block, destination, protocol, port) to a verdict with its rule. One
 * function, compiled into every hook and into `prove`. */
#ifndef MESH_VERDICT_H
#define MESH_VERDICT_H

#include "maps.h"
#include "plan.h"
#include "policy.h"

struct verdict {
	__u32 rule;  /* a rule, or PLAN_RULES + enum mesh_special */
	__u16 audit; /* audit set */
	__u8 allow;
	__u8 flags; /* PLAN_DEFAULT_AUDIT, PLAN_STRICT, PLAN_PERMISSIVE */
};

/* The sign bit, as a number that the compiler cannot turn into a branch and the verifier need not
 * split: with a branch it would walk both sides of every comparison below. The compiler must see neither
 * that it is a difference nor that it is 0 or 1. */
static __always_inline __u64 top_bit(__u64 word)
{
	asm volatile("" : "+r"(word));
	word >>= 63;
	asm volatile("" : "+r"(word));
	return word;
}

/* An index that is checked and used in one register: computed again behind the check, the verifier
 * would not know it. Nor would it where two checks against one power of two became a single one of
 * (a | b): the second of a pair goes through here. */
static __always_inline __u32 same_register(__u32 index)
{
	asm volatile("" : "+r"(index));
	return index;
}

/* What KEY's way out of NODE leads to. No search: a step that waits for the one before costs more than
 * all of these. */
static __always_inline __u32 plan_way(const volatile struct plan_node *node, __u32 key)
{
	__u32 way = node->first & PLAN_NOWHERE;
#pragma unroll
	for (int i = 0; i < PLAN_WAYS - 1; i++)
		way += (__u32)top_bit((__u64)node->last[i] - key);
	return way;
}

/* The outcome's index; PLAN_OUTCOMES where there is none. There are no loops and all indices are checked:
 * a broken table closes, it does not fault. Global, so that the verifier looks at it once and not on every
 * way to it (Linux 5.6). */
__noinline __u32 plan_outcome_of(__u32 face, __u32 src, __u32 block, __u32 dst, __u32 key)
{
	__u32 row = face * PLAN_CLASSES + dst;
	if (dst >= PLAN_CLASSES || row >= PLAN_NODES)
		return PLAN_OUTCOMES;
	src = same_register(src);
	if (src >= PLAN_CLASSES)
		return PLAN_OUTCOMES;
	__u32 at = same_register(plan_way(&plan_nodes[row], key));
	if (plan_nodes[row].first & PLAN_INNER) {
		if (at >= PLAN_NODES)
			return PLAN_OUTCOMES;
		at = same_register(plan_way(&plan_nodes[at], key));
	}
	if (at >= PLAN_CELLS)
		return PLAN_OUTCOMES;
	const volatile struct plan_cell *cell = &plan_cells[at];
	__u32 comb = cell->comb + src;
	__u32 entry = cell->matrix + (plan_columns[src] & cell->mask);
	if (comb >= PLAN_COMB)
		return PLAN_OUTCOMES;
	entry = same_register(entry);
	if (entry >= PLAN_MATRIX)
		return PLAN_OUTCOMES;
	__u32 outcome = plan_matrix[entry];
	__u32 owner = cell->owner;
	if (owner && plan_combs[comb].owner == owner)
		outcome = plan_combs[comb].outcome;
	if (outcome >= PLAN_OUTCOMES)
		return PLAN_OUTCOMES;
	if (!(plan_outcomes[outcome].flags & PLAN_BY_BLOCK))
		return outcome;
	if (block >= PLAN_BLOCKS)
		return PLAN_OUTCOMES;
	at = same_register(plan_outcomes[outcome].value + block);
	return at < PLAN_BY_BLOCKS ? plan_by_block[at] : PLAN_OUTCOMES;
}

static __always_inline __u32 plan_key(__u32 protocol, __u32 port)
{
	return (protocol == IPPROTO_UDP ? 1u << 16 : 0) | (port & 0xffff);
}

static __always_inline struct verdict verdict_unknown(void)
{
	return (struct verdict){.rule = PLAN_RULES + MESH_UNKNOWN};
}

static __always_inline struct verdict decide(__u32 src, __u32 block, __u32 dst, __u32 protocol, __u32 port,
					     enum mesh_via via)
{
	if (dst == MESH_CLASS_CONFLICT)
		return (struct verdict){.rule = PLAN_RULES + MESH_CONFLICT};
	if (src == MESH_CLASS_UNKNOWN || dst == MESH_CLASS_UNKNOWN)
		return verdict_unknown();
	__u32 key = plan_key(protocol, port);
	bool verified = PLAN_ASKS_VERIFIED && via == MESH_VIA_TUNNEL;
	__u32 face = verified ? PLAN_VERIFIED : PLAN_VERDICTS, node = face * PLAN_CLASSES + dst;
	__u32 outcome = plan_outcome_of(face, src, block, dst, key), audit = PLAN_OUTCOMES;
	if (PLAN_AUDIT_SETS > 1 && node < PLAN_NODES && plan_nodes[node].first & PLAN_AUDITED)
		audit = plan_outcome_of(verified ? PLAN_VERIFIED_AUDITS : PLAN_AUDITS, src, block, dst, key);
	outcome = same_register(outcome); /* out of the stack only once */
	if (outcome >= PLAN_OUTCOMES)
		return verdict_unknown();
	struct verdict verdict = {
		.rule = plan_outcomes[outcome].value,
		.allow = plan_outcomes[outcome].flags & PLAN_ALLOW,
		.flags = plan_outcomes[outcome].flags & (PLAN_DEFAULT_AUDIT | PLAN_STRICT | PLAN_PERMISSIVE),
	};
	if (verdict.flags & PLAN_STRICT && via == MESH_VIA_WIRE)
		verdict = (struct verdict){.rule = PLAN_RULES + MESH_PLAINTEXT};
	audit = same_register(audit);
	if (audit < PLAN_OUTCOMES)
		verdict.audit = plan_outcomes[audit].value;
	return verdict;
}

/* The arm of the route of service DST, or PLAN_NO_ARM. */
static __always_inline __u32 route_arm(__u32 src, __u32 block, __u32 dst, __u32 protocol, __u32 port)
{
	if (dst >= PLAN_CLASSES)
		return PLAN_NO_ARM;
	__u32 arm = plan_class_arm[dst];
	if (arm != PLAN_ARM_TABLE)
		return arm;
	__u32 outcome = plan_outcome_of(PLAN_ROUTES, src, block, dst, plan_key(protocol, port));
	return outcome < PLAN_OUTCOMES ? plan_outcomes[outcome].value : PLAN_NO_ARM;
}

/* ---- Addresses ------------------------------------------------------------------------------ */

static __always_inline struct mesh_address address_v4(__be32 v4)
{
	return (struct mesh_address){{0, 0, bpf_htonl(0xffff), v4}};
}

/* Loopback and unspecified (which connects to loopback): a workload reaching itself. */
static __always_inline bool address_is_loopback(const struct mesh_address *address)
{
	if (address_is_v4(address))
		return (address->part[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) || !address->part[3];
	return !address->part[0] && !address->part[1] && !address->part[2] &&
	       (!address->part[3] || address->part[3] == bpf_htonl(1));
}

/* IPv6 link-local (RFC 4291 section 2.5.6): any process may take one beside its own, so that it names nobody. */
static __always_inline bool address_is_of_link(const struct mesh_address *address)
{
	return (address->part[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* 1 where a < b (Hacker's Delight, section 2-12). */
static __always_inline __u64 word_below(__u64 a, __u64 b)
{
	return top_bit((~a & b) | ((~a | b) & (a - b)));
}

/* 1 where address A <= address B. */
static __always_inline __u32 address_not_above(__u64 a_high, __u64 a_low, __u64 b_high, __u64 b_low)
{
	__u64 differ = a_high ^ b_high;
	__u64 same = top_bit(~(differ | -differ));
	return word_below(a_high, b_high) | (same & (1 ^ word_below(b_low, a_low)));
}

/* The block of an address that is no workload: the last interval that begins at or before it. */
static __always_inline __u32 block_of(const struct mesh_address *address)
{
	if (PLAN_INTERVALS == 1)
		return plan_interval_block[0];
	__u64 high = (__u64)bpf_ntohl(address->part[0]) << 32 | bpf_ntohl(address->part[1]);
	__u64 low = (__u64)bpf_ntohl(address->part[2]) << 32 | bpf_ntohl(address->part[3]);
	__u32 first = 0, count = PLAN_INTERVALS;
#pragma unroll
	for (int step = 0; step < PLAN_INTERVAL_STEPS; step++) {
		__u32 half = count / 2, at = first + half;
		if (at >= PLAN_INTERVALS)
			return PLAN_BLOCKS;
		first += half * address_not_above(plan_intervals[at].high, plan_intervals[at].low, high, low);
		count -= half;
	}
	return first < PLAN_INTERVALS ? plan_interval_block[first] : PLAN_BLOCKS;
}

/* ---- Parties -------------------------------------------------------------------------------- */

struct party {
	__u32 endpoint; /* 0: no workload */
	__u32 flags;	/* MESH_PEER_... */
	__u32 src, dst, block;
};

static __always_inline void party_of_endpoint(__u32 endpoint, struct party *party)
{
	struct mesh_class *class = bpf_map_lookup_elem(&classes, &endpoint);
	party->endpoint = endpoint;
	if (class && endpoint) {
		party->src = class->src;
		party->dst = class->dst;
		party->block = class->block;
	}
	if (!party->src)
		stat_add(MESH_STAT_UNKNOWN_CLASS);
}

static __always_inline void party_of_peer(const struct mesh_peer *peer, struct party *party)
{
	party->flags = peer->flags;
	if (!(peer->flags & MESH_PEER_QUARANTINED)) {
		party_of_endpoint(peer->endpoint, party);
		return;
	}
	stat_add(MESH_STAT_QUARANTINED);
	party->endpoint = peer->endpoint;
}

/* Who has this address: a workload, else world or an external by its block; of a link-local one nobody knows. Global,
 * so that the verifier looks at it once; only scalars come back from one, so 0 always does. */
__noinline int party_of_address(const struct mesh_address *address, struct party *party)
{
	if (!address || !party)
		return 0;
	struct mesh_peer peer = peer_of(address);
	if (peer.endpoint) {
		party_of_peer(&peer, party);
		return 0;
	}
	if (address_is_of_link(address))
		return 0;
	__u32 block = block_of(address);
	if (block >= PLAN_BLOCKS)
		return 0;
	party->src = MESH_CLASS_WORLD;
	party->dst = plan_block_dst[block];
	party->block = block;
	return 0;
}

#endif
