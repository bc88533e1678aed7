/* What the runtime's own objects share: maps, which generation is in force, and the way of nearly every packet. */
#ifndef MESH_RUNTIME_H
#define MESH_RUNTIME_H

#include "socket.h"

JUMP(jump_egress);

/* Of adopt.bpf.c. */
MAP(adopt_pass, BPF_MAP_TYPE_ARRAY, __u32, __u32, 1, 0);
MAP(listeners, BPF_MAP_TYPE_HASH, __u64, __u32, 65536, BPF_F_NO_PREALLOC);

static __always_inline struct mesh_control *settings_of_node(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&control, &zero);
}

/* The slot to call, or -1: pass (no policy yet, or break glass). */
static __always_inline int active_slot_of(const struct mesh_control *settings)
{
	if (!settings)
		return MESH_GENERATIONS; /* no such slot: the tail call fails, closed */
	if (settings->mode == MESH_OFF) {
		stat_add(MESH_STAT_OFF);
		return -1;
	}
	__u32 active = *(const volatile __u32 *)&settings->active;
	if (!active) {
		stat_add(MESH_STAT_NO_POLICY);
		return -1;
	}
	return active - 1;
}

static __always_inline int active_slot(void)
{
	return active_slot_of(settings_of_node());
}

/* A tail call to a slot that the verifier knows is on x86-64 a jump in the machine code, patched where the slot's
 * program changes (Linux 5.5); to one that it does not know it is an indirect call with all that a CPU's mitigations
 * make of one. */
#define JUMP_IF(number)                                                                                                \
	case number:                                                                                                   \
		asm volatile("r1 = %0\n\tr2 = %1\n\tr3 = " #number "\n\tcall 12" /* bpf_tail_call */                   \
			     :                                                                                         \
			     : "r"(context), "r"(jump)                                                                 \
			     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");                                          \
		break;
_Static_assert(MESH_GENERATIONS == 8, "a case for each slot");
static __always_inline void jump_to_slot(void *context, void *jump, int slot)
{
	switch (slot) {
		JUMP_IF(0)
		JUMP_IF(1)
		JUMP_IF(2)
		JUMP_IF(3)
		JUMP_IF(4)
		JUMP_IF(5)
		JUMP_IF(6)
		JUMP_IF(7)
	}
}

/* TCP, without IP options or IPv6 extension headers. */
static __always_inline bool is_plain(const struct __sk_buff *skb)
{
	const __u8 *head = (const __u8 *)(long)skb->data, *end = (const __u8 *)(long)skb->data_end;
	if (head + 10 > end)
		return false;
	return head[0] == 0x45 ? head[9] == IPPROTO_TCP : head[0] >> 4 == 6 && head[6] == IPPROTO_TCP;
}

/* A connection that the active generation has decided and let pass; a SYN only if it goes where was decided. */
static __always_inline bool is_decided(const struct __sk_buff *skb, const struct bpf_sock *sk,
				       const struct mesh_socket *socket, const struct mesh_control *settings,
				       bool leaves)
{
	__u32 active = *(const volatile __u32 *)&settings->active;
	__u64 slot = (__u64)active - 1;
	/* What is checked is what is used, and without a policy it is no slot: the verifier sees both. */
	asm volatile("" : "+r"(slot));
	if (settings->mode == MESH_OFF || slot >= MESH_GENERATIONS)
		return false;
	if (!socket || !socket->verdict)
		return false;
	bool current = socket->generation == settings->generations[slot] && socket->epoch == settings->epoch;
	if (leaves && sk->state == TCP_STATE_SYN_SENT)
		return current && socket->dst_port && socket->netns != MESH_NETNS_IMPOSTOR &&
		       !goes_elsewhere(sk, socket) && is_plain(skb);
	return (current || socket->role == MESH_ROLE_PROXY) && is_plain(skb);
}

static __always_inline bool is_decided_by_call(const struct __sk_buff *skb, struct bpf_sock *sk,
					       const struct mesh_control *settings, bool leaves)
{
	return is_decided(skb, sk, bpf_sk_storage_get(&sockets, sk, NULL, 0), settings, leaves);
}

/* What is not expected lies behind: the way of nearly every packet is a few cache lines of code, without a tail
 * call. */
#define DISPATCH_PACKET(name, section, leaves, jump, is_decided_somehow)                                               \
	SEC(section) int name(struct __sk_buff *skb)                                                                   \
	{                                                                                                              \
		struct mesh_control *settings = settings_of_node();                                                    \
		struct bpf_sock *sk = skb->sk;                                                                         \
		if (__builtin_expect(settings && sk && is_full(sk) && sk->state != TCP_STATE_LISTEN &&                 \
					     is_decided_somehow(skb, sk, settings, leaves),                            \
				     true))                                                                            \
			return 1;                                                                                      \
		int slot = active_slot_of(settings);                                                                   \
		if (slot < 0)                                                                                          \
			return 1;                                                                                      \
		jump_to_slot(skb, &jump, slot);                                                                        \
		stat_add(MESH_STAT_NO_PROGRAM);                                                                        \
		return 0;                                                                                              \
	}

#endif
