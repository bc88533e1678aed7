/* A policy's decision, and each part of opening a connection, as programs that BPF_PROG_TEST_RUN can
 * run. The policy's own functions and tables; what is here is only around them. */
#define LICENSE LICENSE_OF_RUNTIME
#include "runtime.bpf.c"
#undef LICENSE
#include "policy.bpf.c"

struct pair {
	__be32 src, dst;
};
enum { PAIRS = 1 << 16, PARTS_STEPS = 4096 };
MAP(pairs, BPF_MAP_TYPE_ARRAY, __u32, struct pair, PAIRS, BPF_F_MMAPABLE);

/* What the bench asks for: who, to which service address, on which port. */
struct asked {
	struct mesh_address src, dst, service;
	__u32 endpoint, port, service_port;
	__u32 set_class; /* the service's */
};
const volatile struct asked question = {};
/* Results go here: in a map they are unknown to the verifier, on the stack it would follow every sum. */
__u64 sink;

/* Where a connection arrives: judge_lookup and judge, with the count that the packet hook makes. */
static __always_inline bool decide_counted(const struct mesh_address *from, const struct mesh_address *to, __u32 port)
{
	struct mesh_peer self = peer_of(to);
	if (!(self.flags & MESH_PEER_ENROLLED))
		return true;
	struct party src = {}, dst = {};
	struct flow flow = {.protocol = IPPROTO_TCP, .src = *from, .dst = *to, .src_port = 40000, .dst_port = port};
	party_of_address(&flow.src, &src);
	party_of_socket(&flow, &src);
	party_of_peer(&self, &dst);
	struct verdict verdict = decide(src.src, src.block, dst.dst, flow.protocol, flow.dst_port, MESH_VIA_WIRE);
	count_decision(verdict.rule, SIDE_RECEIVER);
	return verdict.allow;
}

SEC("sk_lookup") int b_floor(struct bpf_sk_lookup *ctx)
{
	(void)ctx;
	return SK_PASS;
}

SEC("sk_lookup") int b_decide(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0;
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	if (!settings)
		return SK_DROP;
	struct mesh_address src = address_v4(ctx->remote_ip4), dst = address_v4(ctx->local_ip4);
	return decide_counted(&src, &dst, ctx->local_port) ? SK_PASS : SK_DROP;
}

/* ---- Every pair of a list ------------------------------------------------------------------- */

static long spread_floor(__u32 i, void *nothing)
{
	(void)nothing;
	struct pair *pair = bpf_map_lookup_elem(&pairs, &i);
	if (!pair)
		return 1;
	sink ^= pair->src ^ pair->dst;
	return 0;
}

static long spread_one(__u32 i, void *nothing)
{
	(void)nothing;
	struct pair *pair = bpf_map_lookup_elem(&pairs, &i);
	if (!pair)
		return 1;
	struct mesh_address src = address_v4(pair->src), dst = address_v4(pair->dst);
	sink ^= decide_counted(&src, &dst, question.port);
	return 0;
}

#define LOOP(name, section, context, callback, steps)                                                                  \
	SEC(section) int name(context)                                                                                 \
	{                                                                                                              \
		bpf_loop(steps, callback, NULL, 0);                                                                    \
		return 1;                                                                                              \
	}
LOOP(s_floor, "sk_lookup", struct bpf_sk_lookup *ctx, spread_floor, PAIRS)
LOOP(s_decide, "sk_lookup", struct bpf_sk_lookup *ctx, spread_one, PAIRS)

/* ---- The parts of opening a connection -------------------------------------------------------- */

static long part_floor(__u32 i, void *nothing)
{
	(void)nothing;
	sink ^= i;
	return 0;
}

static long part_identity(__u32 i, void *nothing)
{
	(void)nothing;
	/* The caller's namespace is one look-up in a hash by its cookie; the cookie itself is one load. */
	__u64 cookie = 1;
	struct mesh_netns *caller = bpf_map_lookup_elem(&netns, &cookie);
	struct party src = {};
	party_of_endpoint(caller ? caller->endpoint4 : question.endpoint, &src);
	sink ^= src.src + i;
	return 0;
}

static long part_peer(__u32 i, void *nothing)
{
	(void)nothing;
	struct mesh_address address = question.dst;
	sink ^= peer_of(&address).endpoint + i;
	return 0;
}

static long part_party(__u32 i, void *nothing)
{
	(void)nothing;
	struct mesh_address address = question.dst;
	struct party party = {};
	party_of_address(&address, &party);
	sink ^= party.src + i;
	return 0;
}

static long part_vip(__u32 i, void *nothing)
{
	(void)nothing;
	struct mesh_vip_key key = {.port = question.service_port, .protocol = IPPROTO_TCP};
	struct mesh_address service = question.service;
	__builtin_memcpy(key.address, &service, 16);
	struct mesh_vip *vip = bpf_map_lookup_elem(&vips, &key);
	sink ^= vip ? vip->dst + i : 0;
	return 0;
}

static long part_decide(__u32 i, void *nothing)
{
	(void)nothing;
	struct verdict verdict =
		decide(question.set_class, 0, question.set_class, IPPROTO_TCP, question.port, MESH_VIA_WIRE);
	sink ^= verdict.rule + i;
	return 0;
}

static long part_pick(__u32 i, void *nothing)
{
	(void)nothing;
	struct pick pick = {.service = question.service.part[3],
			    .src = question.set_class,
			    .dst = question.set_class,
			    .endpoint = question.endpoint,
			    .protocol = IPPROTO_TCP,
			    .port = question.port};
	pick_backend(&pick);
	sink ^= pick.found + i;
	return 0;
}

static long part_count(__u32 i, void *nothing)
{
	(void)nothing;
	count_decision(0, SIDE_CALLER);
	sink ^= i;
	return 0;
}

static long part_record(__u32 i, void *nothing)
{
	(void)nothing;
	__u32 zero = 0;
	struct mesh_control *settings = bpf_map_lookup_elem(&control, &zero);
	struct flow flow = {.protocol = IPPROTO_TCP, .dst_port = i};
	if (settings)
		record_flow(settings, &flow, verdict_unknown(), MESH_HOOK_CONNECT, 0);
	sink ^= i;
	return 0;
}

LOOP(p_floor, "cgroup_skb/ingress", struct __sk_buff *skb, part_floor, PARTS_STEPS)
LOOP(p_identity, "cgroup_skb/ingress", struct __sk_buff *skb, part_identity, PARTS_STEPS)
LOOP(p_peer, "cgroup_skb/ingress", struct __sk_buff *skb, part_peer, PARTS_STEPS)
LOOP(p_party, "cgroup_skb/ingress", struct __sk_buff *skb, part_party, PARTS_STEPS)
LOOP(p_vip, "cgroup_skb/ingress", struct __sk_buff *skb, part_vip, PARTS_STEPS)
LOOP(p_decide, "cgroup_skb/ingress", struct __sk_buff *skb, part_decide, PARTS_STEPS)
LOOP(p_pick, "cgroup_skb/ingress", struct __sk_buff *skb, part_pick, PARTS_STEPS)
LOOP(p_count, "cgroup_skb/ingress", struct __sk_buff *skb, part_count, PARTS_STEPS)
LOOP(p_record, "cgroup_skb/ingress", struct __sk_buff *skb, part_record, PARTS_STEPS)

/* The socket's own: no loop can hold it, so its floor is a program that stops before. */
SEC("cgroup_skb/ingress") int p_socket(struct __sk_buff *skb)
{
	return skb->sk && is_full(skb->sk);
}

SEC("cgroup_skb/ingress") int p_storage(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	return sk && is_full(sk) && bpf_sk_storage_get(&sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) != NULL;
}

/* ---- An empty connect hook ---------------------------------------------------------------------- */

SEC("cgroup/connect4") int c_floor(struct bpf_sock_addr *ctx)
{
	(void)ctx;
	return 1;
}
