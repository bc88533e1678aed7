/* Counting and reporting a decision. */
#ifndef MESH_REPORT_H
#define MESH_REPORT_H

#include "verdict.h"

enum side { SIDE_CALLER, SIDE_RECEIVER, SIDE_AGAIN };

static __always_inline void count_decision(__u32 rule, enum side side)
{
	struct mesh_hits *count = bpf_map_lookup_elem(&hits, &rule);
	if (!count)
		return;
	if (side == SIDE_CALLER)
		count->caller++;
	else if (side == SIDE_RECEIVER)
		count->receiver++;
	else
		count->again++;
}

/* A flow as a hook sees it, in the direction of the request. */
struct flow {
	struct mesh_address src, dst, service;
	__u32 src_port, dst_port, service_port;
	__u32 src_endpoint, dst_endpoint;
	__u32 src_class, dst_class, subset;
	__u32 protocol;
};

/* meshd reads records ten times a second, and is woken by each so many: a wake-up for every one cost a
 * sixth of all connections on a busy node. */
enum { RECORDS_A_WAKE = 64 };

/* A bounded number of records a second and CPU: a flood cannot cost more than this. */
static __always_inline bool bucket_take(const struct mesh_control *settings, __u64 *ret_wake)
{
	__u32 zero = 0;
	struct mesh_bucket *bucket = bpf_map_lookup_elem(&buckets, &zero);
	if (!bucket)
		return false;
	/* The clock is asked once a tick: the coarse one goes no finer, and to read the tick takes no call. */
	__u32 tick = bpf_jiffies64();
	if (bucket->tick != tick) {
		__u64 second = bpf_ktime_get_coarse_ns() >> 30;
		bucket->tick = tick;
		if (bucket->second != second) {
			bucket->second = second;
			bucket->used = 0;
		}
	}
	*ret_wake = ++bucket->used % RECORDS_A_WAKE ? BPF_RB_NO_WAKEUP : BPF_RB_FORCE_WAKEUP;
	return bucket->used <= settings->record_rate;
}

static __always_inline void record_flow(const struct mesh_control *settings, const struct flow *flow,
					struct verdict verdict, __u32 hook, __u32 flags)
{
	struct mesh_record *record = NULL;
	__u64 wake = 0;
	if (bucket_take(settings, &wake))
		record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (!record) {
		stat_add_often(MESH_STAT_RECORDS_LOST);
		return;
	}
	record->time_ns = bpf_ktime_get_ns();
	record->generation = config.generation;
	record->rule = verdict.rule;
	record->src_endpoint = flow->src_endpoint;
	record->dst_endpoint = flow->dst_endpoint;
	__builtin_memcpy(record->src, &flow->src, 16);
	__builtin_memcpy(record->dst, &flow->dst, 16);
	__builtin_memcpy(record->service, &flow->service, 16);
	record->src_port = flow->src_port;
	record->dst_port = flow->dst_port;
	record->service_port = flow->service_port;
	record->src_class = flow->src_class;
	record->dst_class = flow->dst_class;
	record->subset = flow->subset;
	record->audit = verdict.audit;
	record->protocol = flow->protocol;
	record->hook = hook;
	record->flags = flags | (verdict.allow ? MESH_RECORD_ALLOWED : 0) |
			(verdict.allow || settings->mode == MESH_OBSERVE ? MESH_RECORD_PASSED : 0) |
			(verdict.flags & PLAN_DEFAULT_AUDIT ? MESH_RECORD_DEFAULT_AUDIT : 0);
	__builtin_memset(record->pad, 0, sizeof(record->pad));
	bpf_ringbuf_submit(record, wake);
}

#endif
