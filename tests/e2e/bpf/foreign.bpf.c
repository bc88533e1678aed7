/* Other people's programs: what they do beside, before and behind the mesh. */
#include "bpf.h"

struct {
	__uint(type, 15 /* BPF_MAP_TYPE_SOCKMAP */);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} socks SEC(".maps");

SEC("cgroup/connect4") int bystander(struct bpf_sock_addr *ctx)
{
	return 1;
}

/* Behind a denial: whatever was said before, the call shall succeed. */
SEC("cgroup/connect4") int undo4(struct bpf_sock_addr *ctx)
{
	bpf_set_retval(0);
	return 1;
}

SEC("cgroup/connect6") int undo6(struct bpf_sock_addr *ctx)
{
	bpf_set_retval(0);
	return 1;
}

/* A socket load balancer: 10.98.0.9:80 is 10.77.0.21:8080. */
SEC("cgroup/connect4") int balancer(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 != bpf_htonl(0x0a620009))
		return 1;
	ctx->user_ip4 = bpf_htonl(0x0a4d0015);
	ctx->user_port = bpf_htons(8080);
	return 1;
}

/* One that changes its mind behind the mesh: 10.77.0.21:8080 becomes its port 9090, and 10.77.0.51
 * becomes 10.77.0.50. */
SEC("cgroup/connect4") int diverter(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 == bpf_htonl(0x0a4d0015) && ctx->user_port == bpf_htons(8080))
		ctx->user_port = bpf_htons(9090);
	if (ctx->user_ip4 == bpf_htonl(0x0a4d0033))
		ctx->user_ip4 = bpf_htonl(0x0a4d0032);
	return 1;
}

/* Takes every TCP connection of its namespace, as a transparent proxy does. */
SEC("sk_lookup") int thief(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0;
	struct bpf_sock *sk = ctx->protocol == IPPROTO_TCP ? bpf_map_lookup_elem(&socks, &zero) : NULL;
	if (!sk)
		return SK_PASS;
	bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
