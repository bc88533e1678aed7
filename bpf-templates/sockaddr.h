/* The address that a cgroup/sock_addr hook is asked about, whichever family its call is of. */
#ifndef MESH_SOCKADDR_H
#define MESH_SOCKADDR_H

#include "maps.h"

static __always_inline struct mesh_address wanted_address(struct bpf_sock_addr *ctx, bool v6)
{
	if (v6)
		return (struct mesh_address){{ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};
	return (struct mesh_address){{0, 0, bpf_htonl(0xffff), ctx->user_ip4}};
}

static __always_inline void set_address(struct bpf_sock_addr *ctx, const struct mesh_address *address, __u32 port,
					bool v6)
{
	if (v6) {
		ctx->user_ip6[0] = address->part[0];
		ctx->user_ip6[1] = address->part[1];
		ctx->user_ip6[2] = address->part[2];
		ctx->user_ip6[3] = address->part[3];
	} else {
		ctx->user_ip4 = address->part[3];
	}
	ctx->user_port = bpf_htons(port);
}

#endif
