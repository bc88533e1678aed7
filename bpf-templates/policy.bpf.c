/* One policy as kernel programs. The runtime's dispatchers call these by tail call; the names are
 * what meshd looks for. */
#include "policy.h"
#include "connect.h"
#include "packet.h"
#include "tunnel.h"

SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx)
{
	return judge_opening(ctx, false, false);
}

SEC("cgroup/connect6") int connect6(struct bpf_sock_addr *ctx)
{
	return judge_opening(ctx, true, false);
}

SEC("cgroup/sendmsg4") int sendmsg4(struct bpf_sock_addr *ctx)
{
	return judge_opening(ctx, false, true);
}

SEC("cgroup/sendmsg6") int sendmsg6(struct bpf_sock_addr *ctx)
{
	return judge_opening(ctx, true, true);
}

/* The slot that was active before; the call fails, and denies, where it was emptied meanwhile. */
static __always_inline __u32 slot_before(void)
{
	__u32 zero = 0;
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	return settings ? settings->before - 1 : MESH_GENERATIONS;
}

SEC("sk_lookup") int lookup(struct bpf_sk_lookup *ctx)
{
	enum judged judged = judge_lookup(ctx);
	if (judged == JUDGED_BEFORE)
		bpf_tail_call(ctx, &jump_lookup, slot_before());
	return judged == JUDGED_PASS ? SK_PASS : SK_DROP;
}

SEC("cgroup_skb/ingress") int ingress(struct __sk_buff *skb)
{
	enum judged judged = judge_packet(skb, false);
	if (judged == JUDGED_BEFORE)
		bpf_tail_call(skb, &jump_ingress, slot_before());
	return judged == JUDGED_PASS;
}

SEC("cgroup_skb/egress") int egress(struct __sk_buff *skb)
{
	return judge_packet(skb, true) == JUDGED_PASS;
}

SEC("cgroup/setsockopt") int tunnel(struct bpf_sockopt *ctx)
{
	return judge_ask(ctx);
}

/* The proof: the same decision, asked in bulk. */
static long prove_one(__u32 i, struct mesh_prove *ctx)
{
	__u32 at = ctx->first + i;
	struct mesh_vector *vector = bpf_map_lookup_elem(&vectors, &at);
	struct mesh_answer *answer = bpf_map_lookup_elem(&answers, &at);
	if (!vector || !answer)
		return 1;
	struct verdict verdict =
		decide(vector->src, vector->block, vector->dst, vector->protocol, vector->port, vector->via);
	answer->rule = verdict.rule;
	answer->audit = verdict.audit;
	answer->verdict = verdict.allow;
	answer->arm = route_arm(vector->src, vector->block, vector->dst, vector->protocol, vector->port);
	ctx->done++;
	return 0;
}

SEC("syscall") int prove(struct mesh_prove *ctx)
{
	struct mesh_prove work = {.first = ctx->first, .count = ctx->count};
	bpf_loop(work.count, prove_one, &work, 0);
	ctx->done = work.done;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
