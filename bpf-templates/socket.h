/* What a socket is, and whether it goes where it was meant to. */
#ifndef MESH_SOCKET_H
#define MESH_SOCKET_H

#include "maps.h"

/* What is left of a connection, or will be one, has no storage, and neither protocol nor options. */
static __always_inline bool is_full(const struct bpf_sock *sk)
{
	return sk->state != TCP_STATE_TIME_WAIT && sk->state != TCP_STATE_NEW_SYN_RECV;
}

static __always_inline bool connects_to_itself(const struct bpf_sock *sk)
{
	if (sk->family == AF_INET)
		return sk->src_ip4 == sk->dst_ip4;
	return sk->src_ip6[0] == sk->dst_ip6[0] && sk->src_ip6[1] == sk->dst_ip6[1] &&
	       sk->src_ip6[2] == sk->dst_ip6[2] && sk->src_ip6[3] == sk->dst_ip6[3];
}

/* A connect program behind ours may have changed what was decided: seen before the SYN leaves. */
static __always_inline bool goes_elsewhere(const struct bpf_sock *sk, const struct mesh_socket *socket)
{
	const __u32 *dst = (const __u32 *)socket->dst;
	if (sk->state != TCP_STATE_SYN_SENT)
		return false;
	if (socket->steered)
		return sk->dst_port != bpf_htons(MESH_PORT_STEER) || !connects_to_itself(sk);
	if (!socket->dst_port)
		return false;
	if (sk->dst_port != bpf_htons(socket->dst_port))
		return true;
	if (sk->family == AF_INET)
		return sk->dst_ip4 != dst[3];
	return sk->dst_ip6[0] != dst[0] || sk->dst_ip6[1] != dst[1] || sk->dst_ip6[2] != dst[2] ||
	       sk->dst_ip6[3] != dst[3];
}

#endif
