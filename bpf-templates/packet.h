/* Where packets pass: cgroup_skb, both ways, and sk_lookup. The second lock behind connect, and the
 * only one for connections that arrive. */
#ifndef MESH_PACKET_H
#define MESH_PACKET_H

#include "report.h"
#include "socket.h"

/* A packet, and what is asked about it. */
struct packet {
	struct mesh_address src, dst;
	__u32 src_port, dst_port;
	__u32 protocol;
	bool opens;	       /* a TCP SYN without ACK */
	bool resets;	       /* a TCP RST */
	bool leaves;	       /* this end sends it */
	bool inbound;	       /* the other end asked for the connection */
	bool again;	       /* decided before, under another generation or inventory */
	bool quiet;	       /* an allow is counted and recorded elsewhere */
	bool stray;	       /* to a workload's address, but to no socket that is known to be its own */
	__u8 hook;	       /* enum mesh_hook */
	struct mesh_peer self; /* who has this end's address */
};

enum parsed { PARSED, PARSED_OTHER, PARSED_OPTIONS, PARSED_BROKEN };

static __always_inline bool is_multicast(const struct mesh_address *address)
{
	if (address_is_v4(address))
		return (address->part[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
	return (address->part[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

struct ports {
	__be16 src, dst;
	__u8 rest[10]; /* TCP: sequence, acknowledgement, offset, flags (RFC 9293 section 3.1) */
};

/* The first LEN bytes at OFFSET. Nearly always they lie in one piece, and no call is needed. */
static __always_inline bool copy_bytes(struct __sk_buff *skb, __u32 offset, __u16 *to, __u32 len)
{
	const __u8 *from = (const __u8 *)(long)skb->data + offset, *end = (const __u8 *)(long)skb->data_end;
	if (from + len > end)
		return !bpf_skb_load_bytes(skb, offset, to, len);
#pragma unroll
	for (__u32 i = 0; i < len / 2; i++)
		to[i] = ((const __u16 *)from)[i];
	return true;
}

static __always_inline enum parsed parse_transport(struct __sk_buff *skb, __u32 offset, struct packet *packet)
{
	struct ports ports = {};
	if (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6)
		return PARSED;
	if (packet->protocol == IPPROTO_TCP) {
		if (!copy_bytes(skb, offset, (__u16 *)&ports, 14))
			return PARSED_BROKEN;
		packet->opens = (ports.rest[9] & 0x12) == 0x02;
		packet->resets = ports.rest[9] & 0x04;
	} else if (packet->protocol == IPPROTO_UDP) {
		if (!copy_bytes(skb, offset, (__u16 *)&ports, 8))
			return PARSED_BROKEN;
	} else {
		return PARSED_OTHER;
	}
	packet->src_port = bpf_ntohs(ports.src);
	packet->dst_port = bpf_ntohs(ports.dst);
	return PARSED;
}

/* RFC 791 and RFC 8200. Addresses are set even where the rest is refused; returns enum parsed. Global: the verifier
 * looks at it once, and does not follow each of its ways through what comes after. */
__noinline int parse_packet(struct __sk_buff *skb, struct packet *packet)
{
	__u8 head[40] __attribute__((aligned(4)));
	if (!packet || !copy_bytes(skb, 0, (__u16 *)head, 20))
		return PARSED_BROKEN;
	if (head[0] >> 4 == 4) {
		packet->src = address_v4(*(__be32 *)(head + 12));
		packet->dst = address_v4(*(__be32 *)(head + 16));
		packet->protocol = head[9];
		if (head[0] != 0x45)
			return PARSED_OPTIONS;
		/* A fragment behind the first has no ports; reassembly runs before this hook. */
		if ((head[6] & 0x1f) || head[7])
			return PARSED_BROKEN;
		return parse_transport(skb, 20, packet);
	}
	if (head[0] >> 4 != 6 || bpf_skb_load_bytes(skb, 0, head, 40))
		return PARSED_BROKEN;
	__builtin_memcpy(&packet->src, head + 8, 16);
	__builtin_memcpy(&packet->dst, head + 24, 16);
	packet->protocol = head[6];
	switch (head[6]) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_ICMPV6:
		return parse_transport(skb, 40, packet);
	/* Hop-by-hop, routing, fragment, AH, destination options, mobility (IANA registry). */
	case IPPROTO_HOPOPTS:
	case 43:
	case 44:
	case 51:
	case 60:
	case 135:
		return PARSED_OPTIONS;
	default:
		return PARSED_OTHER;
	}
}

/* Who opened this connection, seen where it arrives: the exact entry of a local socket goes before
 * what the address says. A workload elsewhere has none here; from the address of one that is placed here its own
 * sockets alone send (find_self). */
static __noinline void party_of_socket(const struct flow *flow, struct party *party)
{
	__u32 own = MESH_PEER_PLACED | MESH_PEER_ENROLLED;
	if (flow->protocol != IPPROTO_TCP ||
	    (party->endpoint && (!(party->flags & MESH_PEER_LOCAL) || (party->flags & own) == own)))
		return;
	struct mesh_tuple tuple = {
		.local_port = flow->src_port, .remote_port = flow->dst_port, .protocol = flow->protocol};
	__builtin_memcpy(tuple.local, &flow->src, 16);
	__builtin_memcpy(tuple.remote, &flow->dst, 16);
	struct mesh_exact *known = bpf_map_lookup_elem(&exact, &tuple);
	if (known) {
		party->src = known->src;
		party->endpoint = 0;
		party->flags = MESH_PEER_LOCAL;
	}
}

static __always_inline void flow_of(const struct party *src, const struct party *dst, struct flow *flow)
{
	flow->src_endpoint = src->endpoint;
	flow->dst_endpoint = dst->endpoint;
	flow->src_class = src->src;
	flow->dst_class = dst->dst;
	flow->subset = 0xffff;
}

/* JUDGED_BEFORE: by the generation that was active before. */
enum judged { JUDGED_DENY, JUDGED_PASS, JUDGED_BEFORE };

/* A connection of this node's own workload was decided where it was opened. If the node switched while
 * its SYN was on its way, the generation that let it out judges it here, too: a connection attempt is
 * never decided half by one and half by the other. Established, it is decided anew like any other. */
/* The slot may have been filled anew meanwhile. */
static __always_inline bool is_where_it_was(const struct mesh_control *settings)
{
	__u32 slot = same_register(settings->before - 1);
	return slot < MESH_GENERATIONS && settings->generations[slot] == settings->before_generation;
}

static __always_inline bool left_before_switch(const struct mesh_control *settings, const struct packet *packet,
					       const struct party *src)
{
	__u32 own = MESH_PEER_LOCAL | MESH_PEER_ENROLLED;
	return packet->inbound && packet->opens && src->endpoint && (src->flags & own) == own && settings->before &&
	       settings->before_generation != config.generation && is_where_it_was(settings) &&
	       bpf_ktime_get_ns() - settings->switched_ns < MESH_SYN_GRACE_MS * 1000000ull;
}

/* One decision, in the direction of the request. Global: the verifier looks at it once. */
__noinline int judge(const struct mesh_control *settings, const struct packet *packet)
{
	if (!settings || !packet)
		return JUDGED_DENY;
	struct party near = {}, far = {};
	struct party *src = packet->inbound ? &far : &near, *dst = packet->inbound ? &near : &far;
	bool is_reply = packet->leaves == packet->inbound;
	struct flow flow = {
		.protocol = packet->protocol,
		.src = is_reply ? packet->dst : packet->src,
		.dst = is_reply ? packet->src : packet->dst,
		.src_port = is_reply ? packet->dst_port : packet->src_port,
		.dst_port = is_reply ? packet->src_port : packet->dst_port,
	};
	party_of_peer(&packet->self, &near);
	party_of_address(packet->inbound ? &flow.src : &flow.dst, &far);
	if (packet->inbound)
		party_of_socket(&flow, &far);
	if (near.endpoint && near.endpoint == far.endpoint)
		return JUDGED_PASS;
	bool is_node = src->src == MESH_CLASS_NODE && src->flags & MESH_PEER_LOCAL;
	struct verdict verdict = decide(src->src, src->block, dst->dst, packet->protocol, flow.dst_port,
					is_node ? MESH_VIA_NODE : MESH_VIA_WIRE);
	if (verdict.allow && packet->quiet)
		return JUDGED_PASS;
	bool pass = verdict.allow || settings->mode == MESH_OBSERVE;
	if (packet->stray)
		return pass ? JUDGED_PASS : JUDGED_DENY;
	if (!pass && left_before_switch(settings, packet, src))
		return JUDGED_BEFORE;
	flow_of(src, dst, &flow);
	count_decision(verdict.rule, packet->again ? SIDE_AGAIN : packet->inbound ? SIDE_RECEIVER : SIDE_CALLER);
	record_flow(settings, &flow, verdict, packet->hook, packet->again ? MESH_RECORD_AGAIN : 0);
	return pass ? JUDGED_PASS : JUDGED_DENY;
}

static __always_inline void tuple_of_packet(const struct packet *packet, struct mesh_tuple *tuple)
{
	__builtin_memcpy(tuple->local, packet->leaves ? &packet->src : &packet->dst, 16);
	__builtin_memcpy(tuple->remote, packet->leaves ? &packet->dst : &packet->src, 16);
	tuple->local_port = packet->leaves ? packet->src_port : packet->dst_port;
	tuple->remote_port = packet->leaves ? packet->dst_port : packet->src_port;
	tuple->protocol = packet->protocol;
}

/* Asks meshd to reset a live connection that is now denied. */
static __always_inline void order_reset(const struct packet *packet)
{
	struct mesh_order *order = bpf_ringbuf_reserve(&orders, sizeof(*order), 0);
	if (!order) {
		stat_add(MESH_STAT_ORDERS_LOST);
		return;
	}
	__builtin_memset(order, 0, sizeof(*order));
	order->kind = MESH_ORDER_RESET;
	order->netns = packet->self.endpoint;
	tuple_of_packet(packet, &order->tuple);
	bpf_ringbuf_submit(order, 0);
}

static __always_inline bool stamp_is_current(const struct mesh_socket *socket, const struct mesh_control *settings)
{
	return socket->generation == config.generation && socket->epoch == settings->epoch;
}

static __always_inline enum judged judge_tcp(struct bpf_sock *sk, struct mesh_socket *socket,
					     const struct mesh_control *settings, struct packet *packet)
{
	if (!socket && packet->opens)
		socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket) {
		stat_add(packet->opens ? MESH_STAT_NO_STORAGE : MESH_STAT_OLD_SOCKET);
		return packet->opens ? JUDGED_DENY : JUDGED_PASS;
	}
	if (sk->state == TCP_STATE_LISTEN) {
		/* Never the handshake's ACK: half-open clients would hang at a switch. */
		socket->role = MESH_ROLE_LISTEN;
		socket->generation = 0; /* it may have been a client before: its children are nobody's */
		socket->dst_port = socket->steered = 0;
		if (!packet->opens || packet->leaves)
			return JUDGED_PASS;
		packet->inbound = true;
		return judge(settings, packet);
	}
	if (stamp_is_current(socket, settings))
		return socket->verdict ? JUDGED_PASS : JUDGED_DENY;
	bool decided = socket->generation != 0;
	/* The handshake goes on under the generation that let its SYN out. */
	if (decided && socket->role == MESH_ROLE_OUT && sk->state == TCP_STATE_SYN_SENT)
		return socket->verdict ? JUDGED_PASS : JUDGED_DENY;
	if (socket->role == MESH_ROLE_NONE)
		socket->role = packet->leaves ? MESH_ROLE_OUT : MESH_ROLE_LISTEN;
	packet->inbound = socket->role != MESH_ROLE_OUT;
	packet->again = decided || socket->role == MESH_ROLE_LISTEN;
	/* A child that was just accepted: its SYN was counted. */
	packet->quiet = socket->role == MESH_ROLE_LISTEN;
	__u32 epoch = epoch_before(settings);
	bool pass = judge(settings, packet) == JUDGED_PASS;
	if (socket->role == MESH_ROLE_LISTEN)
		socket->role = MESH_ROLE_IN;
	socket->verdict = pass;
	socket->epoch = epoch;
	socket->generation = config.generation;
	/* A SYN that leaves is no longer seen by connect: its caller would wait until it times out. Not by a socket
	 * that is not its own: it would end a connection of the workload whose address it has. */
	if (!pass && !packet->stray && (!packet->opens || packet->leaves))
		order_reset(packet);
	return pass ? JUDGED_PASS : JUDGED_DENY;
}

static __always_inline bool flow_is_fresh(const struct mesh_flow *flow, __u64 now_ns)
{
	return now_ns - flow->seen_ns < MESH_UDP_REPLY_S * 1000000000ull;
}

static __always_inline void tuple_of_flow(const struct packet *packet, struct mesh_tuple *tuple)
{
	tuple_of_packet(packet, tuple);
	tuple->owner[0] = packet->self.endpoint;
	tuple->owner[1] = packet->self.endpoint >> 8;
	tuple->owner[2] = packet->self.endpoint >> 16;
}

/* Direction is per peer: a server's unconnected answer must not turn its socket into a client. */
static __always_inline enum judged judge_udp(const struct mesh_control *settings, struct packet *packet)
{
	struct mesh_tuple tuple = {};
	if (packet->stray) {
		packet->inbound = true;
		return judge(settings, packet);
	}
	tuple_of_flow(packet, &tuple);
	__u64 now_ns = bpf_ktime_get_ns();
	struct mesh_flow *known = bpf_map_lookup_elem(&flows, &tuple);
	bool fresh = known && flow_is_fresh(known, now_ns);
	/* What was denied has no answer: what comes the other way is a request of its own. */
	if (fresh && !known->verdict && known->role != (packet->leaves ? MESH_ROLE_OUT : MESH_ROLE_IN))
		fresh = false;
	if (fresh && known->generation == config.generation && known->epoch == settings->epoch) {
		/* Asking keeps it open; answering does not. */
		if (packet->leaves == (known->role == MESH_ROLE_OUT) && now_ns - known->seen_ns > 1000000000)
			known->seen_ns = now_ns;
		return known->verdict ? JUDGED_PASS : JUDGED_DENY;
	}
	packet->inbound = fresh ? known->role == MESH_ROLE_IN : !packet->leaves;
	packet->again = fresh;
	__u32 epoch = epoch_before(settings);
	struct mesh_flow flow = {
		.seen_ns = fresh && packet->leaves == packet->inbound ? known->seen_ns : now_ns,
		.generation = config.generation,
		.epoch = epoch,
		.role = packet->inbound ? MESH_ROLE_IN : MESH_ROLE_OUT,
		.verdict = judge(settings, packet) == JUDGED_PASS,
	};
	if (bpf_map_update_elem(&flows, &tuple, &flow, BPF_ANY)) {
		stat_add(MESH_STAT_MAP_FULL);
		return JUDGED_DENY;
	}
	return flow.verdict ? JUDGED_PASS : JUDGED_DENY;
}

/* Who listens to what on this link: IGMP with its router alert (RFC 3376 section 4), and MLD behind a hop-by-hop
 * header (RFC 3810 section 5). Of no other packet to a group. */
static __always_inline bool is_membership(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 next = 0;
	if (!is_multicast(&packet->dst))
		return false;
	if (address_is_v4(&packet->dst))
		return packet->protocol == IPPROTO_IGMP;
	return packet->protocol == IPPROTO_HOPOPTS && !bpf_skb_load_bytes(skb, 40, &next, 1) && next == IPPROTO_ICMPV6;
}

/* A packet of an enrolled workload that the parser refuses. */
static __always_inline enum judged refuse_packet(enum parsed parsed, const struct packet *packet)
{
	/* ICMP passes (language.md 14); with IP options it is still one. */
	if (parsed == PARSED_OPTIONS && packet->protocol == IPPROTO_ICMP)
		return JUDGED_PASS;
	stat_add(parsed == PARSED_OTHER	    ? MESH_STAT_PROTOCOL
		 : parsed == PARSED_OPTIONS ? MESH_STAT_IP_OPTIONS
					    : MESH_STAT_MALFORMED);
	return JUDGED_DENY;
}

/* Whether endpoints A and B are one to this policy: several addresses of one workload. */
static __always_inline bool same_workload(__u32 a, __u32 b)
{
	struct mesh_class *of_a = bpf_map_lookup_elem(&classes, &a), *of_b = bpf_map_lookup_elem(&classes, &b);
	return of_a && of_b && of_a->src == of_b->src && of_a->dst == of_b->dst;
}

enum { LOOPBACK_INDEX = 1 /* of every namespace (net/core/dev.c) */ };

enum self { SELF_KNOWN, SELF_ALONE /* it talks to itself */, SELF_IMPOSTOR };

/* Who this end is. A socket that was born in an enrolled namespace is that workload, whatever address it
 * takes or is reached by: link-local, broadcast, multicast; but it sends from nobody else's. One that was not, and
 * sends from the address of a workload whose sockets are all known, is an impostor, too. */
static __noinline enum self find_self(struct __sk_buff *skb, const struct mesh_socket *socket, struct packet *packet)
{
	const struct mesh_address *local = packet->leaves ? &packet->src : &packet->dst;
	packet->self = peer_of(local);
	__u64 cookie = socket ? socket->netns : 0;
	struct mesh_netns *space = cookie ? bpf_map_lookup_elem(&netns, &cookie) : NULL;
	if (!space || !(space->flags & MESH_NETNS_ENROLLED)) {
		bool known = packet->self.flags & MESH_PEER_PLACED && packet->self.flags & MESH_PEER_ENROLLED;
		packet->stray = known;
		return packet->leaves && (known || cookie == MESH_NETNS_IMPOSTOR) ? SELF_IMPOSTOR : SELF_KNOWN;
	}
	if (skb->ifindex == LOOPBACK_INDEX)
		return SELF_ALONE;
	__u32 v4 = space->endpoint4 ? space->endpoint4 : space->endpoint6;
	__u32 v6 = space->endpoint6 ? space->endpoint6 : space->endpoint4;
	__u32 own = address_is_v4(local) ? v4 : v6;
	if (packet->self.endpoint == own || (packet->self.endpoint && same_workload(packet->self.endpoint, own)))
		return SELF_KNOWN;
	/* Whoever answers would be taken to answer somebody else. */
	if (packet->leaves && packet->self.endpoint)
		return SELF_IMPOSTOR;
	packet->self = (struct mesh_peer){.endpoint = own, .flags = MESH_PEER_ENROLLED | MESH_PEER_LOCAL};
	return SELF_KNOWN;
}

/* A packet of a connection that this generation has not decided, or has denied. */
static __noinline enum judged judge_new(struct __sk_buff *skb, struct bpf_sock *sk, struct mesh_socket *socket,
					const struct mesh_control *settings, bool leaves)
{
	struct packet packet = {.leaves = leaves, .hook = leaves ? MESH_HOOK_EGRESS : MESH_HOOK_INGRESS};
	enum parsed parsed = parse_packet(skb, &packet);
	if (parsed == PARSED_BROKEN && !packet.protocol) {
		stat_add(MESH_STAT_MALFORMED);
		return JUDGED_DENY;
	}
	enum self self = find_self(skb, socket, &packet);
	if (self == SELF_IMPOSTOR && sk) {
		stat_add(MESH_STAT_FOREIGN_IDENTITY);
		return JUDGED_DENY;
	}
	/* Steered, from the very port that it is steered to: it would be its own other end (RFC 9293 section 3.5). */
	if (self == SELF_ALONE && leaves && packet.opens && packet.src_port == MESH_PORT_STEER && socket &&
	    socket->steered) {
		order_reset(&packet);
		return JUDGED_DENY;
	}
	if (self == SELF_ALONE || !(packet.self.flags & MESH_PEER_ENROLLED))
		return JUDGED_PASS;
	if (leaves && parsed != PARSED && is_membership(skb, &packet))
		return JUDGED_PASS;
	if (parsed != PARSED)
		return refuse_packet(parsed, &packet);
	if (packet.protocol == IPPROTO_ICMP || packet.protocol == IPPROTO_ICMPV6)
		return JUDGED_PASS;
	/* A reply that the kernel sends for no socket; the tunnel, which its ends decide. */
	if (!sk || (socket && socket->role == MESH_ROLE_PROXY))
		return JUDGED_PASS;
	/* A reset ends what may not go on. Dropped, the other end would wait for nothing. */
	if (packet.resets)
		return JUDGED_PASS;
	if (packet.protocol == IPPROTO_UDP)
		return judge_udp(settings, &packet);
	return judge_tcp(sk, socket, settings, &packet);
}

static __always_inline enum judged judge_packet(struct __sk_buff *skb, bool leaves)
{
	__u32 zero = 0;
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	if (!settings)
		return JUDGED_DENY;
	struct bpf_sock *sk = skb->sk;
	if (sk && !is_full(sk))
		sk = NULL;
	struct mesh_socket *socket = sk ? bpf_sk_storage_get(&sockets, sk, NULL, 0) : NULL;
	if (leaves && socket && goes_elsewhere(sk, socket)) {
		socket->generation = 0; /* nothing was decided about this destination */
		socket->dst_port = socket->steered = 0;
	}
	return judge_new(skb, sk, socket, settings, leaves);
}

/* ---- sk_lookup ------------------------------------------------------------------------------ */

static __always_inline enum judged judge_lookup(const struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0;
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	if (!settings)
		return JUDGED_DENY;
	struct packet packet = {
		.src_port = bpf_ntohs(ctx->remote_port),
		.dst_port = ctx->local_port,
		.protocol = ctx->protocol,
		.opens = ctx->protocol == IPPROTO_TCP,
		.inbound = true,
		.quiet = true, /* the packet hook counts it */
		.hook = MESH_HOOK_LOOKUP,
	};
	if (ctx->family == AF_INET) {
		packet.src = address_v4(ctx->remote_ip4);
		packet.dst = address_v4(ctx->local_ip4);
	} else {
		packet.dst = (struct mesh_address){
			{ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]}};
		packet.src = (struct mesh_address){
			{ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]}};
	}
	packet.self = peer_of(&packet.dst);
	if (!(packet.self.flags & MESH_PEER_ENROLLED))
		return JUDGED_PASS;
	if (ctx->protocol == IPPROTO_UDP) {
		/* The packet hook keeps UDP flows; here only answers to our own are let through. */
		struct mesh_tuple tuple = {};
		tuple_of_flow(&packet, &tuple);
		struct mesh_flow *known = bpf_map_lookup_elem(&flows, &tuple);
		if (known && known->role == MESH_ROLE_OUT && known->verdict && flow_is_fresh(known, bpf_ktime_get_ns()))
			return JUDGED_PASS;
	}
	return judge(settings, &packet);
}

#endif
