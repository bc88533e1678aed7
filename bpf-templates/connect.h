/* Where a connection is opened: cgroup/connect and cgroup/sendmsg. Service address to backend, the
 * verdict of the caller's side, prompt refusal. */
#ifndef MESH_CONNECT_H
#define MESH_CONNECT_H

#include "report.h"
#include "sockaddr.h"

/* A destination that no later program can make reachable again: a cleared denial then still fails
 * (broadcast, port 0). */
static __always_inline int refuse(struct bpf_sock_addr *ctx, bool v6, bool datagram)
{
	/* Before 5.18 the application sees EPERM. */
	if (TARGET_SET_RETVAL && !datagram)
		bpf_set_retval(-ECONNREFUSED);
	if (v6) {
		ctx->user_ip6[0] = ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = bpf_htonl(0xffff);
		ctx->user_ip6[3] = 0xffffffff;
	} else {
		ctx->user_ip4 = 0xffffffff;
	}
	ctx->user_port = 0;
	return 0;
}

static __always_inline __u32 hash_step(__u32 hash, __u32 word)
{
	/* MurmurHash3's finaliser (Appleby, public domain), a word at a time. */
	hash ^= word;
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	return hash ^ (hash >> 16);
}

struct pick {
	/* asked */
	__u32 service; /* the end of its address */
	__u32 src, block, endpoint, dst;
	__u16 port;
	__u8 protocol;
	bool v6;
	/* answered */
	bool found;
	__u32 set;
	struct mesh_address backend;
};

struct rendezvous {
	__u32 first, count, seed, best, best_at;
};

/* Highest random weight (Thaler and Ravishankar, 1998): a backend that leaves moves only its own. */
static long rendezvous_step(__u32 i, struct rendezvous *search)
{
	__u32 at = search->first + i;
	struct mesh_backend *backend = bpf_map_lookup_elem(&backends, &at);
	if (!backend || i >= search->count)
		return 1;
	__u32 *part = (__u32 *)backend->address;
	__u32 weight = hash_step(hash_step(hash_step(hash_step(search->seed, part[0]), part[1]), part[2]), part[3]);
	if (weight >= search->best) {
		search->best = weight;
		search->best_at = at;
	}
	return 0;
}

static __always_inline struct mesh_set *set_of(__u32 set, bool v6)
{
	__u32 key = set * 2 + v6;
	return bpf_map_lookup_elem(&sets, &key);
}

struct draw {
	__u32 left, total; /* of MESH_SPLITS weights, of a million at most (M0208) */
	__u32 first, count, set;
	bool v6, found;
};

/* The weight of share I of an arm, 0 where its set has no backend; -1: no such share. */
static __always_inline __s64 share_weight(struct draw *draw, __u32 i, __u32 *ret_set)
{
	__u32 at = same_register(draw->first + i);
	if (i >= draw->count || at >= PLAN_SPLITS)
		return -1;
	*ret_set = plan_splits[at].set;
	__u32 weight = plan_splits[at].weight;
	struct mesh_set *set = set_of(*ret_set, draw->v6);
	return set && set->count ? weight : 0;
}

static long draw_sum(__u32 i, struct draw *draw)
{
	__u32 set;
	__s64 weight = share_weight(draw, i, &set);
	if (weight > 0)
		draw->total += weight;
	return weight < 0;
}

/* Ends at the share in which LEFT lies; at the last one where a set was emptied meanwhile. */
static long draw_step(__u32 i, struct draw *draw)
{
	__u32 set;
	__s64 weight = share_weight(draw, i, &set);
	if (weight <= 0)
		return weight < 0;
	draw->set = set;
	draw->found = true;
	if (draw->left < (__u64)weight)
		return 1;
	draw->left -= weight;
	return 0;
}

/* The share in which LEFT lies, whether or not it has backends. */
static __always_inline long draw_at(__u32 i, struct draw *draw)
{
	__u32 at = same_register(draw->first + i);
	if (i >= draw->count || at >= PLAN_SPLITS)
		return 1;
	__u32 weight = plan_splits[at].weight;
	if (draw->left >= weight) {
		draw->left -= weight;
		return 0;
	}
	draw->set = plan_splits[at].set;
	struct mesh_set *set = set_of(draw->set, draw->v6);
	draw->found = set && set->count;
	return 1;
}

static long draw_next(__u32 i, struct draw *draw)
{
	return draw_at(i + 1, draw);
}

/* Draws a share among those that have backends: an empty one gives its share away. */
static __always_inline struct draw draw_share(const volatile struct plan_arm *arm, bool v6, __u32 random)
{
	struct draw draw = {.first = arm->first, .count = arm->count, .v6 = v6};
	/* Scaled, not modulo: every share is exact to 2^-32. */
	draw.left = ((__u64)random * arm->total) >> 32;
	/* Mostly it lies in the first. Not COUNT times: where it is known to be 0 the kernel (6.18) drops the callback,
	 * not the call. */
	if (!draw_at(0, &draw))
		bpf_loop(MESH_SPLITS, draw_next, &draw, 0);
	if (draw.found)
		return draw;
	/* It has none: once more, among the others. The shares stay in proportion. */
	stat_add(MESH_STAT_EMPTY_SUBSET);
	random = hash_step(random, draw.set);
	bpf_loop(MESH_SPLITS, draw_sum, &draw, 0);
	draw.left = ((__u64)random * draw.total) >> 32;
	bpf_loop(MESH_SPLITS, draw_step, &draw, 0);
	return draw;
}

/* A backend for one connection, by its route. Global: the verifier looks at it once. */
__noinline int pick_backend(struct pick *pick)
{
	if (!pick)
		return 0;
	__u32 number = route_arm(pick->src, pick->block, pick->dst, pick->protocol, pick->port);
	if (number >= PLAN_ARMS)
		return 0;
	const volatile struct plan_arm *arm = &plan_arms[number];
	__u32 random = bpf_get_prandom_u32();
	if (arm->sticky)
		random = hash_step(hash_step(hash_step(pick->endpoint, pick->dst), pick->service), pick->port);
	struct draw draw = draw_share(arm, pick->v6, random);
	struct mesh_set *set = draw.found ? set_of(draw.set, pick->v6) : NULL;
	if (!set)
		return 0;
	pick->set = draw.set;
	/* One 8-byte value, written as one: first and count belong together. */
	__u64 both = *(volatile __u64 *)set;
	__u32 first = (__u32)both, count = both >> 32;
	if (!count)
		return 0;
	__u32 at = first + (((__u64)hash_step(random, number) * count) >> 32);
	if (arm->sticky) {
		struct rendezvous search = {.first = first, .count = count, .seed = random, .best_at = first};
		bpf_loop(count < MESH_BACKENDS_STICKY ? count : MESH_BACKENDS_STICKY, rendezvous_step, &search, 0);
		at = search.best_at;
	}
	struct mesh_backend *backend = bpf_map_lookup_elem(&backends, &at);
	if (backend) {
		__builtin_memcpy(&pick->backend, backend->address, 16);
		pick->found = true;
	}
	return 0;
}

static __always_inline bool caller_is_self(const struct mesh_netns *caller, const struct party *dst)
{
	return dst->endpoint && (dst->endpoint == caller->endpoint4 || dst->endpoint == caller->endpoint6);
}

/* What becomes of an attempt to reach somebody. */
enum opened { OPENED_REFUSE, OPENED_PASS, OPENED_ASIDE /* no business of the mesh */ };
struct opening {
	struct flow flow;
	__u64 socket;  /* its cookie: UDP; 0: TCP */
	bool datagram; /* one datagram, not a connection */
	bool bound;    /* UDP from a port of its own: it may be a server's answer */
	bool decided;  /* false: left to cgroup_skb/egress, where the caller's block or the direction is known */
	bool moved;    /* flow.dst is a backend now */
	bool steered;  /* through the tunnel: to the node proxy, at flow.src */
};

/* The namespace that the socket was made in. One that is known tells it, and spares a call; others cost one more. */
static __always_inline __u64 netns_of(struct bpf_sock_addr *ctx, const struct mesh_socket *socket)
{
	__u64 cookie = socket ? socket->netns : 0;
	return cookie && cookie != MESH_NETNS_IMPOSTOR ? cookie : bpf_get_netns_cookie(ctx);
}

/* One that was made before its namespace was enrolled, and not known to the kernel's tables then (adopt.bpf.c), is told
 * whose it is when it is used first. */
static __always_inline struct mesh_socket *make_known(struct bpf_sock_addr *ctx, struct mesh_socket *socket,
						      __u64 cookie)
{
	if (!socket)
		socket = bpf_sk_storage_get(&sockets, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket)
		stat_add(MESH_STAT_NO_STORAGE);
	else if (!socket->netns)
		socket->netns = cookie;
	return socket;
}

/* Stamps the socket: opened here, decided by this generation, under this service address. */
static __always_inline void stamp_opened(struct mesh_socket *socket, __u32 epoch, const struct opening *opening)
{
	const struct flow *flow = &opening->flow;
	if (flow->protocol == IPPROTO_TCP) {
		socket->role = MESH_ROLE_OUT;
		socket->verdict = 1;
		socket->epoch = epoch;
		socket->generation = opening->decided ? config.generation : 0;
		socket->dst_port = opening->decided && !opening->steered ? flow->dst_port : 0;
		socket->steered = opening->steered ? flow->dst_port : 0;
		__builtin_memcpy(socket->dst, &flow->dst, 16);
	}
	socket->service_port = flow->service_port;
	__builtin_memcpy(socket->service, &flow->service, 16);
}

/* Remembers UDP translation both ways: the next datagram goes the same way, the reply comes back
 * under the service's address. Not inlined, for the stack's sake. */
static __noinline void nat_remember(const struct opening *opening, const struct mesh_control *settings)
{
	const struct flow *flow = &opening->flow;
	struct mesh_nat_key key = {.socket = opening->socket, .port = flow->service_port};
	struct mesh_nat value = {.port = flow->dst_port, .generation = config.generation, .epoch = settings->epoch};
	__builtin_memcpy(key.address, &flow->service, 16);
	__builtin_memcpy(value.address, &flow->dst, 16);
	bpf_map_update_elem(&nat, &key, &value, BPF_ANY);
	key.port = flow->dst_port;
	key.reverse = 1;
	value.port = flow->service_port;
	__builtin_memcpy(key.address, &flow->dst, 16);
	__builtin_memcpy(value.address, &flow->service, 16);
	bpf_map_update_elem(&nat, &key, &value, BPF_ANY);
}

static __noinline bool nat_recall(const struct opening *opening, const struct mesh_control *settings,
				  struct mesh_address *ret_backend)
{
	struct mesh_nat_key key = {.socket = opening->socket, .port = opening->flow.service_port};
	__builtin_memcpy(key.address, &opening->flow.service, 16);
	struct mesh_nat *known = bpf_map_lookup_elem(&nat, &key);
	if (!known || known->generation != config.generation || known->epoch != settings->epoch)
		return false;
	__builtin_memcpy(ret_backend, known->address, 16);
	return true;
}

static __always_inline bool pick_for(struct opening *opening, const struct party *src, __u32 dst,
				     const struct mesh_control *settings, bool v6)
{
	struct flow *flow = &opening->flow;
	struct pick pick = {.service = flow->service.part[3],
			    .src = src->src,
			    .block = src->block,
			    .endpoint = src->endpoint,
			    .dst = dst,
			    .protocol = flow->protocol,
			    .port = flow->dst_port,
			    .v6 = v6};
	if (opening->socket && nat_recall(opening, settings, &pick.backend))
		pick.found = true;
	else
		pick_backend(&pick);
	if (!pick.found)
		return false;
	flow->dst = pick.backend;
	flow->subset = pick.set;
	opening->moved = true;
	if (opening->socket)
		nat_remember(opening, settings);
	return true;
}

/* A function for the stack's sake: open_flow has what it calls beneath it. */
static __noinline void decide_opening(const struct flow *flow, __u32 block, enum mesh_via via,
				      struct verdict *ret_verdict)
{
	*ret_verdict = decide(flow->src_class, block, flow->dst_class, flow->protocol, flow->dst_port, via);
}

/* Decides as the connection would travel. What must be protected goes to the node proxy, in the caller's
 * own namespace; where there is none, and to a port that is `off`, it goes in the clear, or nowhere. */
static __always_inline void protect(struct opening *opening, const struct mesh_netns *caller,
				    const struct mesh_control *settings, __u32 block, struct verdict *verdict)
{
	struct flow *flow = &opening->flow;
	bool can = flow->protocol == IPPROTO_TCP && caller->flags & MESH_NETNS_TUNNEL && settings->mode == MESH_ENFORCE;
	decide_opening(flow, block, can ? MESH_VIA_TUNNEL : MESH_VIA_WIRE, verdict);
	bool tunnel = can && verdict->flags & (PLAN_STRICT | PLAN_PERMISSIVE);
	if (PLAN_ASKS_VERIFIED && can && !tunnel)
		decide_opening(flow, block, MESH_VIA_WIRE, verdict);
	if (!tunnel || !verdict->allow)
		return;
	opening->steered = true;
	flow->src = (struct mesh_address){{0, 0, bpf_htonl(0xffff), 0}};
	if (address_is_v4(&flow->dst))
		__builtin_memcpy(&flow->src.part[3], caller->address4, 4);
	else
		__builtin_memcpy(&flow->src, caller->address6, 16);
}

/* Global: the verifier looks at it once. */
__noinline int open_flow(struct opening *opening, const struct mesh_netns *caller, const struct mesh_control *settings)
{
	if (!opening || !caller || !settings)
		return OPENED_REFUSE;
	struct flow *flow = &opening->flow;
	bool v6 = !address_is_v4(&flow->dst), nowhere = false;
	struct party src = {}, dst = {};
	party_of_endpoint(v6 ? caller->endpoint6 : caller->endpoint4, &src);
	struct mesh_vip_key key = {.port = flow->dst_port, .protocol = flow->protocol};
	__builtin_memcpy(key.address, &flow->dst, 16);
	struct mesh_vip *vip = bpf_map_lookup_elem(&vips, &key);
	if (vip) {
		dst.dst = vip->dst;
		flow->service = flow->dst;
		flow->service_port = flow->dst_port;
		flow->dst_port = vip->target;
	} else {
		/* It may be its own: that is seen when the packet leaves. */
		if (address_is_of_link(&flow->dst))
			return OPENED_ASIDE;
		party_of_address(&flow->dst, &dst);
		if (caller_is_self(caller, &dst))
			return OPENED_ASIDE;
		if (!dst.endpoint) {
			key.port = 0;
			key.protocol = 0;
			nowhere = bpf_map_lookup_elem(&vips, &key) != NULL;
		}
	}
	opening->decided = !(caller->flags & (v6 ? MESH_NETNS_MANY6 : MESH_NETNS_MANY4)) && (vip || !opening->bound);
	struct verdict verdict = {.allow = 1};
	flow->subset = 0xffff;
	flow->src_endpoint = src.endpoint;
	flow->dst_endpoint = dst.endpoint;
	flow->src_class = src.src;
	flow->dst_class = dst.dst;
	if (nowhere)
		verdict = verdict_unknown();
	else if (opening->decided)
		protect(opening, caller, settings, src.block, &verdict);
	bool pass = verdict.allow || settings->mode == MESH_OBSERVE;
	if (pass && vip && !pick_for(opening, &src, dst.dst, settings, v6)) {
		stat_add(MESH_STAT_NO_BACKEND);
		verdict = verdict_unknown();
		pass = false;
	}
	/* An allowed datagram is counted where its flow begins (cgroup_skb/egress). */
	if ((flow->protocol == IPPROTO_TCP && opening->decided) || !verdict.allow) {
		count_decision(verdict.rule, SIDE_CALLER);
		record_flow(settings, flow, verdict, opening->datagram ? MESH_HOOK_SENDMSG : MESH_HOOK_CONNECT, 0);
	}
	return pass ? OPENED_PASS : OPENED_REFUSE;
}

/* Whether ADDRESS is of a workload, and not of whom CALLER (NULL: nobody) may speak for. */
static __noinline bool is_borrowed(const struct mesh_address *address, const struct mesh_netns *caller)
{
	struct mesh_peer peer = peer_of(address);
	__u32 own = MESH_PEER_LOCAL | MESH_PEER_ENROLLED;
	return caller ? (peer.flags & own) == own : peer.endpoint != 0;
}

/* A UDP socket of nobody's namespace that is bound to, or sends this datagram from (IP_PKTINFO), the address of a
 * workload: it would be taken for that workload. (A TCP one is told by sockops.) */
static __always_inline bool borrows_address(struct bpf_sock_addr *ctx, const struct mesh_netns *caller, bool v6,
					    bool datagram)
{
	struct bpf_sock *sk = ctx->sk;
	if (ctx->protocol != IPPROTO_UDP || (caller && caller->flags & MESH_NETNS_NODE) || !sk)
		return false;
	struct mesh_address bound = address_v4(sk->src_ip4), from = {};
	if (v6)
		bound = (struct mesh_address){{sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]}};
	if (datagram)
		from = v6 ? (struct mesh_address){{ctx->msg_src_ip6[0], ctx->msg_src_ip6[1], ctx->msg_src_ip6[2],
						   ctx->msg_src_ip6[3]}}
			  : address_v4(ctx->msg_src_ip4);
	if (!is_borrowed(&bound, caller) && !(datagram && is_borrowed(&from, caller)))
		return false;
	stat_add(MESH_STAT_FOREIGN_IDENTITY);
	return true;
}

/* The socket connects to its own workload: what it was opened for before, and disconnected from, is not meant. */
static __always_inline void forget_opened(struct mesh_socket *socket)
{
	socket->generation = socket->steered = socket->dst_port = socket->service_port = 0;
}

/* Returns what the hook returns: 1 lets the call go on. One function for four hooks, which keeps the object small: each
 * program has its own copy of it in the kernel, in which the verifier follows only what V6 and DATAGRAM say. */
static __noinline int judge_opening(struct bpf_sock_addr *ctx, bool v6, bool datagram)
{
	__u32 zero = 0;
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0);
	__u64 cookie = netns_of(ctx, socket);
	struct mesh_netns *caller = bpf_map_lookup_elem(&netns, &cookie);
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	if (!settings)
		return refuse(ctx, v6, datagram);
	if (!caller || !(caller->flags & MESH_NETNS_ENROLLED))
		return borrows_address(ctx, caller, v6, datagram) ? refuse(ctx, v6, datagram) : 1;
	socket = make_known(ctx, socket, cookie);
	if (!socket)
		return refuse(ctx, v6, datagram);
	__u32 epoch = epoch_before(settings);
	struct opening opening = {.datagram = datagram};
	struct flow *flow = &opening.flow;
	flow->protocol = ctx->protocol == IPPROTO_MPTCP ? IPPROTO_TCP : ctx->protocol;
	if (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP)
		return 1;
	flow->dst = wanted_address(ctx, v6);
	flow->dst_port = bpf_ntohs(ctx->user_port);
	bool loops = address_is_loopback(&flow->dst);
	if (loops)
		forget_opened(socket);
	/* The tunnel itself: who may use it, its two ends decide. */
	if (loops || (flow->dst_port == MESH_PORT_TUNNEL && socket->role == MESH_ROLE_PROXY))
		return 1;
	if (flow->protocol == IPPROTO_UDP) {
		opening.socket = bpf_get_socket_cookie(ctx);
		opening.bound = ctx->sk && ctx->sk->src_port;
	}
	enum opened opened = open_flow(&opening, caller, settings);
	if (opened == OPENED_ASIDE) {
		forget_opened(socket);
		return 1;
	}
	if (opening.steered)
		set_address(ctx, &flow->src, MESH_PORT_STEER, v6);
	else if (opening.moved)
		set_address(ctx, &flow->dst, flow->dst_port, v6);
	if (opened == OPENED_PASS && !datagram)
		stamp_opened(socket, epoch, &opening);
	return opened == OPENED_PASS ? 1 : refuse(ctx, v6, datagram);
}

#endif
