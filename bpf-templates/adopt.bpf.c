/* Sockets older than the runtime. An object of its own: it reads the kernel's own structures, which not every kernel
 * describes (CONFIG_DEBUG_INFO_BTF). */
#include "runtime.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct net {
	__u64 net_cookie;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	__u16 skc_num;
	possible_net_t skc_net;
};
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
};
struct sock {
	struct sock_common __sk_common;
};
struct inet_sock {
	struct sock sk;
};
struct udp_sock {
	struct inet_sock inet;
};
struct bpf_iter__udp {
	struct bpf_iter_meta *meta;
	struct udp_sock *udp_sk;
};
#pragma clang attribute pop

/* First walk: who listens. Second: a socket on a port that is listened on was accepted, any other
 * was opened. Neither is decided: the next packet does that. */
SEC("iter/tcp") int i_adopt(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	__u32 zero = 0, one = 1;
	__u32 *pass = bpf_map_lookup_elem(&adopt_pass, &zero);
	if (!sk || !pass)
		return 0;
	/* Ports in the low 16 bits: a cookie never reaches 2^48. */
	__u64 key = sk->skc_net.net->net_cookie << 16 | sk->skc_num;
	if (*pass == 0) {
		if (sk->skc_state == TCP_STATE_LISTEN)
			bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
		return 0;
	}
	/* TIME_WAIT (6), NEW_SYN_RECV (12) are no full sockets. */
	__u8 state = sk->skc_state;
	if (state == TCP_STATE_CLOSE || state == 6 || state == 12)
		return 0;
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket)
		return 0;
	socket->netns = sk->skc_net.net->net_cookie;
	if (socket->role == MESH_ROLE_NONE)
		socket->role = state == TCP_STATE_LISTEN	       ? MESH_ROLE_LISTEN
			       : bpf_map_lookup_elem(&listeners, &key) ? MESH_ROLE_IN
								       : MESH_ROLE_OUT;
	return 0;
}

/* A UDP socket has no role, only a namespace. */
SEC("iter/udp") int i_adopt_udp(struct bpf_iter__udp *ctx)
{
	struct udp_sock *sk = ctx->udp_sk;
	if (!sk)
		return 0;
	struct mesh_socket *socket = bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (socket)
		socket->netns = sk->inet.sk.__sk_common.skc_net.net->net_cookie;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
