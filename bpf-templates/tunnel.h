/* Decisions for the node proxy: a peer that proved who it is, a caller whose connection goes through the
 * tunnel, a server that must be who lives at its address. */
#ifndef MESH_TUNNEL_H
#define MESH_TUNNEL_H

#include "packet.h"

/* The class behind a SPIFFE ID: of a service or an identity; else of its namespace; else nobody's. */
static __always_inline __u32 class_of_id(const struct mesh_ask *ask)
{
	struct mesh_id id;
	__builtin_memcpy(id.digest, ask->id, sizeof(id.digest));
	__u32 *class = bpf_map_lookup_elem(&ids, &id);
	if (!class) {
		__builtin_memcpy(id.digest, ask->space, sizeof(id.digest));
		class = bpf_map_lookup_elem(&ids, &id);
	}
	return class ? *class : MESH_CLASS_OTHER;
}

static __always_inline void party_at(const __u8 *address, struct party *party)
{
	struct mesh_address at;
	__builtin_memcpy(&at, address, sizeof(at));
	party_of_address(&at, party);
}

/* The workload in whose namespace the socket was made. */
static __always_inline __u32 endpoint_of_socket(const struct mesh_socket *socket, const __u8 *like)
{
	__u64 cookie = socket->netns;
	struct mesh_netns *space = bpf_map_lookup_elem(&netns, &cookie);
	struct mesh_address address;
	__builtin_memcpy(&address, like, sizeof(address));
	if (!space)
		return 0;
	return address_is_v4(&address) ? space->endpoint4 : space->endpoint6;
}

static __always_inline void answer_verdict(struct mesh_ask *ask, const struct mesh_control *settings,
					   const struct party *src, const struct party *dst)
{
	struct verdict verdict = decide(src->src, src->block, dst->dst, IPPROTO_TCP, ask->dst_port, MESH_VIA_TUNNEL);
	/* A caller's was counted where it connected. */
	if (ask->again || ask->kind == MESH_ASK_RECEIVER)
		count_decision(verdict.rule, ask->again ? SIDE_AGAIN : SIDE_RECEIVER);
	ask->rule = verdict.rule;
	ask->audit = verdict.audit;
	ask->verdict = verdict.allow;
	ask->default_audit = (verdict.flags & PLAN_DEFAULT_AUDIT) != 0;
	ask->allow = verdict.allow || settings->mode == MESH_OBSERVE;
}

/* Global: the verifier looks at it once. */
__noinline int answer_ask(struct mesh_ask *ask, const struct mesh_socket *socket, const struct mesh_control *settings)
{
	if (!ask || !socket || !settings)
		return 0;
	struct party src = {}, dst = {};
	__u32 own = endpoint_of_socket(socket, ask->dst);
	party_at(ask->dst, &dst);
	if (ask->kind == MESH_ASK_RECEIVER) {
		party_at(ask->src, &src);
		src.src = class_of_id(ask);
	} else if (own) {
		party_of_endpoint(own, &src);
	}
	ask->generation = config.generation;
	ask->src_endpoint = src.endpoint;
	ask->dst_endpoint = dst.endpoint;
	ask->src_class = src.src;
	ask->dst_class = dst.dst;
	ask->rule = PLAN_RULES + MESH_UNKNOWN;
	ask->allow = 0;
	ask->reason = MESH_ASK_DECIDED;
	if (ask->kind == MESH_ASK_SERVER) {
		ask->allow = dst.endpoint && dst.src == class_of_id(ask);
		ask->reason = ask->allow ? MESH_ASK_DECIDED : MESH_ASK_NOT_HIS;
	} else if (ask->kind == MESH_ASK_RECEIVER &&
		   (!own || !dst.endpoint || (dst.endpoint != own && !same_workload(dst.endpoint, own)))) {
		ask->reason = MESH_ASK_NOT_HERE;
	} else {
		answer_verdict(ask, settings, &src, &dst);
	}
	return 0;
}

/* Returns what the hook returns, 0: EPERM; see the dispatcher f_ask. */
static __always_inline int judge_ask(struct bpf_sockopt *ctx)
{
	__u32 zero = 0;
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	struct mesh_socket *socket = ctx->sk ? bpf_sk_storage_get(&sockets, ctx->sk, NULL, 0) : NULL;
	struct mesh_ask *kept = ctx->sk ? bpf_sk_storage_get(&asked, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	const struct mesh_ask *question = ctx->optval;
	if (!settings || !socket || !kept || (void *)(question + 1) > ctx->optval_end)
		return 0;
	*kept = *question;
	answer_ask(kept, socket, settings);
	ctx->optlen = -1; /* the kernel need not see it */
	return 1;
}

#endif
