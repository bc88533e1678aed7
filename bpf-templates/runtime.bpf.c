/* The runtime's own programs: a dispatcher for each hook, and the hooks in which no policy takes
 * part. Loaded once, attached by pinned links, replaced only with the runtime itself. */
#include "runtime.h"
#include "sockaddr.h"

JUMP(jump_connect4);
JUMP(jump_connect6);
JUMP(jump_sendmsg4);
JUMP(jump_sendmsg6);
JUMP(jump_tunnel);

/* What the node proxy is told (abi.h): where steered connections were meant to go, by the caller's tuple;
 * whom an application is told of, by its own. The first is deleted when its socket closes. */
MAP(origins, BPF_MAP_TYPE_HASH, struct mesh_tuple, struct mesh_origin, 65536, BPF_F_NO_PREALLOC);
MAP(remembered, BPF_MAP_TYPE_LRU_HASH, struct mesh_tuple, struct mesh_remember, 65536, 0);

/* Namespaces come and go without a word: the oldest entry gives way. */
MAP(covered, BPF_MAP_TYPE_LRU_HASH, __u64, __u32, 65536, 0);

/* One generation decides the whole of this call. A tail call that fails returns here: the slot is
 * empty, which never happens to an active one unless its pins were removed. */
#define DISPATCH(name, section, context, jump, pass, deny)                                                             \
	SEC(section) int name(struct context *ctx)                                                                     \
	{                                                                                                              \
		int slot = active_slot();                                                                              \
		if (slot < 0)                                                                                          \
			return pass;                                                                                   \
		jump_to_slot(ctx, &jump, slot);                                                                        \
		stat_add(MESH_STAT_NO_PROGRAM);                                                                        \
		return deny;                                                                                           \
	}

DISPATCH(d_connect4, "cgroup/connect4", bpf_sock_addr, jump_connect4, 1, 0)
DISPATCH(d_connect6, "cgroup/connect6", bpf_sock_addr, jump_connect6, 1, 0)
DISPATCH(d_sendmsg4, "cgroup/sendmsg4", bpf_sock_addr, jump_sendmsg4, 1, 0)
DISPATCH(d_sendmsg6, "cgroup/sendmsg6", bpf_sock_addr, jump_sendmsg6, 1, 0)

/* ---- sk_lookup ---------------------------------------------------------------------------------- */

/* The node proxy's listener in a workload's namespace, by endpoint. */
MAP(steer, BPF_MAP_TYPE_SOCKHASH, __u32, __u64, 65536, 0);

enum steered { STEER_NOT_OURS, STEER_DONE, STEER_NOWHERE };

/* To a workload's tunnel port from anywhere, and to its steering port from itself. Whatever listens there
 * else, it would take bytes that must be protected for its own. */
static __always_inline enum steered steer_to_proxy(struct bpf_sk_lookup *ctx)
{
	__u32 port = ctx->local_port;
	if ((port != MESH_PORT_TUNNEL && port != MESH_PORT_STEER) || ctx->protocol != IPPROTO_TCP)
		return STEER_NOT_OURS;
	struct mesh_address local, remote;
	if (ctx->family == AF_INET) {
		local = (struct mesh_address){{0, 0, bpf_htonl(0xffff), ctx->local_ip4}};
		remote = (struct mesh_address){{0, 0, bpf_htonl(0xffff), ctx->remote_ip4}};
	} else {
		local = (struct mesh_address){
			{ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]}};
		remote = (struct mesh_address){
			{ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]}};
	}
	bool itself = local.part[0] == remote.part[0] && local.part[1] == remote.part[1] &&
		      local.part[2] == remote.part[2] && local.part[3] == remote.part[3];
	struct mesh_peer peer = peer_of(&local);
	if (!(peer.flags & MESH_PEER_TUNNEL) || (port == MESH_PORT_STEER && !itself))
		return STEER_NOT_OURS;
	struct bpf_sock *listener = bpf_map_lookup_elem(&steer, &peer.endpoint);
	if (!listener)
		return STEER_NOWHERE;
	long r = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return r ? STEER_NOWHERE : STEER_DONE;
}

SEC("sk_lookup") int d_lookup(struct bpf_sk_lookup *ctx)
{
	/* Whatever is in force: other nodes' tunnels go on where this one's glass is broken. */
	enum steered steered = steer_to_proxy(ctx);
	if (steered == STEER_DONE)
		return SK_PASS;
	if (steered == STEER_NOWHERE) {
		stat_add(MESH_STAT_NO_PROXY);
		return SK_DROP;
	}
	int slot = active_slot();
	if (slot < 0)
		return SK_PASS;
	jump_to_slot(ctx, &jump_lookup, slot);
	stat_add(MESH_STAT_NO_PROGRAM);
	return SK_DROP;
}

/* ---- Packets ------------------------------------------------------------------------------------ */

/* Where the kernel cannot load near.bpf.c. */
DISPATCH_PACKET(d_ingress, "cgroup_skb/ingress", false, jump_ingress, is_decided_by_call)
DISPATCH_PACKET(d_egress, "cgroup_skb/egress", true, jump_egress, is_decided_by_call)

/* ---- The service's address stays what the application asked for ------------------------------ */

static __always_inline void restore(struct bpf_sock_addr *ctx, const __u8 address[16], __u32 port, bool v6)
{
	struct mesh_address original;
	__builtin_memcpy(&original, address, sizeof(original));
	set_address(ctx, &original, port, v6);
}

static __always_inline void restore_datagram(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_nat_key key = {.socket = bpf_get_socket_cookie(ctx), .reverse = 1};
	struct mesh_address from = wanted_address(ctx, v6);
	__builtin_memcpy(key.address, &from, 16);
	key.port = bpf_ntohs(ctx->user_port);
	struct mesh_nat *original = bpf_map_lookup_elem(&nat, &key);
	if (original)
		restore(ctx, original->address, original->port, v6);
}

SEC("cgroup/recvmsg4") int f_recvmsg4(struct bpf_sock_addr *ctx)
{
	restore_datagram(ctx, false);
	return 1;
}

SEC("cgroup/recvmsg6") int f_recvmsg6(struct bpf_sock_addr *ctx)
{
	restore_datagram(ctx, true);
	return 1;
}

/* A connection that the node proxy made for a caller elsewhere: it comes from this very address. */
static __always_inline void restore_caller(struct bpf_sock_addr *ctx, bool v6)
{
	const struct bpf_sock *sk = ctx->sk;
	struct mesh_tuple tuple = {.protocol = IPPROTO_TCP};
	struct mesh_address peer = wanted_address(ctx, v6), local = {{0, 0, bpf_htonl(0xffff), sk->src_ip4}};
	if (v6)
		local = (struct mesh_address){{sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]}};
	if (local.part[0] != peer.part[0] || local.part[1] != peer.part[1] || local.part[2] != peer.part[2] ||
	    local.part[3] != peer.part[3])
		return;
	__builtin_memcpy(tuple.local, &local, 16);
	__builtin_memcpy(tuple.remote, &local, 16);
	tuple.local_port = sk->src_port;
	tuple.remote_port = bpf_ntohs(ctx->user_port);
	struct mesh_remember *known = bpf_map_lookup_elem(&remembered, &tuple);
	if (known)
		restore(ctx, known->peer, known->peer_port, v6);
}

static __always_inline void restore_peer(struct bpf_sock_addr *ctx, bool v6)
{
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0);
	if (!socket)
		return;
	if (socket->service_port)
		restore(ctx, socket->service, socket->service_port, v6);
	else if (socket->steered)
		restore(ctx, socket->dst, socket->steered, v6);
	else
		restore_caller(ctx, v6);
}

SEC("cgroup/getpeername4") int f_peername4(struct bpf_sock_addr *ctx)
{
	restore_peer(ctx, false);
	return 1;
}

SEC("cgroup/getpeername6") int f_peername6(struct bpf_sock_addr *ctx)
{
	restore_peer(ctx, true);
	return 1;
}

/* ---- Namespaces that meshd has not seen ------------------------------------------------------ */

/* Whose a socket is cannot be told by the address that it takes later: it is told here, for good. */
static __always_inline bool stamp_born(void *sk, __u64 cookie, const struct mesh_netns *space)
{
	if (!space || !(space->flags & MESH_NETNS_ENROLLED))
		return true;
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket) {
		stat_add(MESH_STAT_NO_STORAGE);
		return false;
	}
	socket->netns = cookie;
	return true;
}

SEC("cgroup/sock_create") int f_sock_create(struct bpf_sock *ctx)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct mesh_netns *space = bpf_map_lookup_elem(&netns, &cookie);
	if (!stamp_born(ctx, cookie, space))
		return 0;
	if (space || bpf_map_lookup_elem(&covered, &cookie))
		return 1;
	__u32 seen = 1;
	bpf_map_update_elem(&covered, &cookie, &seen, BPF_NOEXIST);
	struct mesh_order *order = bpf_ringbuf_reserve(&orders, sizeof(*order), 0);
	if (!order) {
		/* Its next socket asks again. */
		bpf_map_delete_elem(&covered, &cookie);
		stat_add(MESH_STAT_ORDERS_LOST);
		return 1;
	}
	__builtin_memset(order, 0, sizeof(*order));
	order->kind = MESH_ORDER_NETNS;
	order->pid = bpf_get_current_pid_tgid() >> 32;
	order->netns = cookie;
	bpf_ringbuf_submit(order, 0);
	return 1;
}

/* ---- Sockets whose identity is not what their address says ----------------------------------- */

static __always_inline void tuple_of_socket(const struct bpf_sock_ops *ctx, struct mesh_tuple *tuple)
{
	struct mesh_address local, remote;
	if (ctx->family == AF_INET6) {
		local.part[0] = ctx->local_ip6[0];
		local.part[1] = ctx->local_ip6[1];
		local.part[2] = ctx->local_ip6[2];
		local.part[3] = ctx->local_ip6[3];
		remote.part[0] = ctx->remote_ip6[0];
		remote.part[1] = ctx->remote_ip6[1];
		remote.part[2] = ctx->remote_ip6[2];
		remote.part[3] = ctx->remote_ip6[3];
	} else {
		local = (struct mesh_address){{0, 0, bpf_htonl(0xffff), ctx->local_ip4}};
		remote = (struct mesh_address){{0, 0, bpf_htonl(0xffff), ctx->remote_ip4}};
	}
	__builtin_memcpy(tuple->local, &local, 16);
	__builtin_memcpy(tuple->remote, &remote, 16);
	tuple->local_port = ctx->local_port;
	tuple->remote_port = bpf_ntohl(ctx->remote_port);
	tuple->protocol = IPPROTO_TCP;
}

static __always_inline void mark_impostor(struct bpf_sock *sk)
{
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	stat_add(MESH_STAT_FOREIGN_IDENTITY);
	if (socket)
		socket->netns = MESH_NETNS_IMPOSTOR;
	else
		stat_add(MESH_STAT_NO_STORAGE);
}

/* Before the SYN leaves: a host process is `node`; a foreign namespace is nobody, whatever address
 * it took. Those of the mesh are known by their address, and cost nothing here. */
static __always_inline void exact_remember(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct mesh_netns *space = bpf_map_lookup_elem(&netns, &cookie);
	if (space && !(space->flags & MESH_NETNS_NODE))
		return;
	struct mesh_tuple tuple = {};
	tuple_of_socket(ctx, &tuple);
	struct mesh_address local;
	__builtin_memcpy(&local, tuple.local, 16);
	bool v4 = address_is_v4(&local);
	if ((v4 && (local.part[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000)) ||
	    (!v4 && !local.part[0] && !local.part[1] && !local.part[2]))
		return; /* loopback reaches nobody else */
	if (!space) {
		/* Its own cgroup's egress refuses it. No entry for others to stumble over: it chose the tuple. */
		if (peer_of(&local).endpoint && ctx->sk)
			mark_impostor(ctx->sk);
		return;
	}
	struct mesh_exact value = {.src = MESH_CLASS_NODE};
	if (bpf_map_update_elem(&exact, &tuple, &value, BPF_ANY)) {
		stat_add(MESH_STAT_MAP_FULL); /* it is what the node's address says */
		return;
	}
	/* An entry that outlived its socket would lend its identity to the next on that port. */
	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* Before the SYN reaches the node proxy. Without an entry it closes the connection. */
static __always_inline void origin_remember(struct bpf_sock_ops *ctx, const struct mesh_socket *socket)
{
	struct mesh_tuple tuple = {};
	tuple_of_socket(ctx, &tuple);
	struct mesh_origin origin = {
		.dst_port = socket->steered,
		.service_port = socket->service_port,
		.src_port = tuple.local_port,
		.generation = socket->generation,
	};
	__builtin_memcpy(origin.dst, socket->dst, 16);
	__builtin_memcpy(origin.service, socket->service, 16);
	__builtin_memcpy(origin.src, tuple.local, 16);
	if (bpf_map_update_elem(&origins, &tuple, &origin, BPF_ANY))
		stat_add(MESH_STAT_MAP_FULL);
	else
		bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* The kernel makes sockets of its own, without sock_create: the subflows of MPTCP; and one may be older than its
 * namespace's enrolment, and listen now. */
static __always_inline void stamp_made(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_socket *socket = sk ? bpf_sk_storage_get(&sockets, sk, NULL, 0) : NULL;
	if (sk && (!socket || !socket->netns)) {
		__u64 cookie = bpf_get_netns_cookie(ctx);
		stamp_born(sk, cookie, bpf_map_lookup_elem(&netns, &cookie));
	}
	if (socket && socket->steered && ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		origin_remember(ctx, socket);
}

SEC("sockops") int f_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB || ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB ||
	    ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB)
		stamp_made(ctx);
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		exact_remember(ctx);
	if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == TCP_STATE_CLOSE) {
		struct mesh_tuple tuple = {};
		tuple_of_socket(ctx, &tuple);
		bpf_map_delete_elem(&exact, &tuple);
		bpf_map_delete_elem(&origins, &tuple);
	}
	return 1;
}

/* ---- What the node proxy asks --------------------------------------------------------------------- */

/* The addresses of a connected or bound socket of the proxy, which are all of AF_INET6 or AF_INET. */
static __always_inline void tuple_of_proxy(const struct bpf_sock *sk, struct mesh_tuple *tuple)
{
	struct mesh_address local = {{0, 0, bpf_htonl(0xffff), sk->src_ip4}},
			    remote = {{0, 0, bpf_htonl(0xffff), sk->dst_ip4}};
	if (sk->family == AF_INET6) {
		local.part[0] = sk->src_ip6[0];
		local.part[1] = sk->src_ip6[1];
		local.part[2] = sk->src_ip6[2];
		local.part[3] = sk->src_ip6[3];
		remote.part[0] = sk->dst_ip6[0];
		remote.part[1] = sk->dst_ip6[1];
		remote.part[2] = sk->dst_ip6[2];
		remote.part[3] = sk->dst_ip6[3];
	}
	__builtin_memcpy(tuple->local, &local, 16);
	__builtin_memcpy(tuple->remote, &remote, 16);
	tuple->local_port = sk->src_port;
	tuple->remote_port = bpf_ntohs(sk->dst_port);
	tuple->protocol = IPPROTO_TCP;
}

static __always_inline int answer_origin(struct bpf_sockopt *ctx, const struct mesh_socket *socket)
{
	struct mesh_origin *answer = ctx->optval;
	if ((void *)(answer + 1) > ctx->optval_end)
		return 0;
	struct mesh_tuple tuple = {}, key = {.protocol = IPPROTO_TCP};
	tuple_of_proxy(ctx->sk, &tuple);
	/* As its other end sees it. */
	__builtin_memcpy(key.local, tuple.remote, 16);
	__builtin_memcpy(key.remote, tuple.local, 16);
	key.local_port = tuple.remote_port;
	key.remote_port = tuple.local_port;
	struct mesh_origin *origin = bpf_map_lookup_elem(&origins, &key);
	__u64 cookie = socket->netns;
	struct mesh_netns *space = bpf_map_lookup_elem(&netns, &cookie);
	__builtin_memset(answer, 0, sizeof(*answer));
	if (origin && space) {
		*answer = *origin;
		answer->endpoint = space->endpoint4 ? space->endpoint4 : space->endpoint6;
	}
	ctx->retval = 0;
	return 1;
}

static __always_inline int answer_question(struct bpf_sockopt *ctx)
{
	struct mesh_ask *answer = ctx->optval, *kept = bpf_sk_storage_get(&asked, ctx->sk, NULL, 0);
	if (!kept || (void *)(answer + 1) > ctx->optval_end)
		return 0;
	*answer = *kept;
	ctx->retval = 0;
	return 1;
}

/* Attached where the proxy's sockets are born. Other options, and other sockets, are none of its business;
 * what it does not answer fails as the kernel left it (ENOPROTOOPT). */
SEC("cgroup/getsockopt") int f_answer(struct bpf_sockopt *ctx)
{
	if (ctx->level != MESH_LEVEL || !ctx->sk)
		return 1;
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0);
	if (!socket || socket->role != MESH_ROLE_PROXY)
		return 1;
	if (ctx->optname == MESH_OPTION_ORIGIN)
		return answer_origin(ctx, socket);
	return ctx->optname == MESH_OPTION_ASK ? answer_question(ctx) : 1;
}

enum { TAKEN = -1 /* as optlen: the kernel need not see the option (Linux 5.3) */ };

/* The socket is bound to the workload's address, and connects to one of its ports next. */
static __always_inline int remember(struct bpf_sockopt *ctx)
{
	const struct mesh_remember *wanted = ctx->optval;
	if ((void *)(wanted + 1) > ctx->optval_end)
		return 0;
	struct mesh_tuple tuple = {}, key = {.protocol = IPPROTO_TCP};
	tuple_of_proxy(ctx->sk, &tuple);
	struct mesh_remember value = *wanted;
	__builtin_memcpy(key.local, value.dst, 16);
	__builtin_memcpy(key.remote, tuple.local, 16);
	key.local_port = value.dst_port;
	key.remote_port = tuple.local_port;
	if (ctx->optname == MESH_OPTION_FORGET)
		bpf_map_delete_elem(&remembered, &key);
	else if (bpf_map_update_elem(&remembered, &key, &value, BPF_ANY))
		stat_add(MESH_STAT_MAP_FULL);
	ctx->optlen = TAKEN;
	return 1;
}

/* No policy is in force, or nothing is enforced: whoever proved who he is may pass. */
static __always_inline int answer_nobody(struct bpf_sockopt *ctx)
{
	struct mesh_ask *kept = bpf_sk_storage_get(&asked, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return 0;
	__builtin_memset(kept, 0, sizeof(*kept));
	kept->allow = 1;
	kept->reason = MESH_ASK_NO_POLICY;
	ctx->optlen = TAKEN;
	return 1;
}

SEC("cgroup/setsockopt") int f_ask(struct bpf_sockopt *ctx)
{
	if (ctx->level != MESH_LEVEL || !ctx->sk)
		return 1;
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0);
	if (!socket || socket->role != MESH_ROLE_PROXY)
		return 1;
	if (ctx->optname == MESH_OPTION_REMEMBER || ctx->optname == MESH_OPTION_FORGET)
		return remember(ctx);
	if (ctx->optname != MESH_OPTION_ASK)
		return 1;
	int slot = active_slot();
	if (slot < 0)
		return answer_nobody(ctx);
	jump_to_slot(ctx, &jump_tunnel, slot);
	stat_add(MESH_STAT_NO_PROGRAM);
	return 0; /* EPERM */
}

char LICENSE[] SEC("license") = "GPL";
