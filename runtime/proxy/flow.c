#define _GNU_SOURCE 1
#include "proxy/flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { REASONS_LIMIT = 64 };

struct flows {
	int fd;
	uint64_t lost;
	struct reason_count {
		const char *reason; /* a literal */
		uint64_t count;
	} refused[REASONS_LIMIT];
};

int flows_create(int fd, struct flows **ret_flows)
{
	struct flows *flows = calloc(1, sizeof(*flows));
	if (!flows)
		return -ENOMEM;
	flows->fd = fd;
	*ret_flows = flows;
	return 0;
}

void flows_release(struct flows *flows)
{
	free(flows);
}

static void refused_count(struct flows *flows, const char *reason)
{
	struct reason_count *at = flows->refused;
	while (at < flows->refused + REASONS_LIMIT - 1 && at->reason && strcmp(at->reason, reason))
		at++;
	if (!at->reason)
		at->reason = reason;
	at->count++;
}

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text)
		json_object_set_new(object, key, json_string(text));
}

static void set_hop(json_t *object, const char *key, const struct hop *hop)
{
	char text[HOP_TEXT];
	if (hop)
		json_object_set_new(object, key, json_string(hop_print(hop, text)));
}

static void set_answer(json_t *object, const struct mesh_ask *answer)
{
	json_object_set_new(object, "verdict", json_string(answer->verdict ? "allow" : "deny"));
	json_object_set_new(object, "rule", json_integer(answer->rule));
	json_object_set_new(object, "generation", json_integer(answer->generation));
	json_object_set_new(object, "src_class", json_integer(answer->src_class));
	json_object_set_new(object, "dst_class", json_integer(answer->dst_class));
	json_object_set_new(object, "audit", json_integer(answer->audit));
	json_object_set_new(object, "default_audit", json_boolean(answer->default_audit));
}

static json_t *flow_object(const struct flow *flow)
{
	static const char *const events[] = {"open", "end", "refused"};
	json_t *object = json_pack("{s:s, s:s, s:s, s:i}", "say", "flow", "event", events[flow->event], "side",
				   flow->is_caller ? "caller" : "receiver", "endpoint", (int)flow->endpoint);
	if (!object)
		return NULL;
	set_hop(object, "src", flow->src);
	set_hop(object, "dst", flow->dst);
	set_hop(object, "service", flow->service);
	set_text(object, "src_id", flow->src_id);
	set_text(object, "dst_id", flow->dst_id);
	set_text(object, "tls", flow->tls);
	set_text(object, "cipher", flow->cipher);
	set_text(object, "reason", flow->reason);
	set_text(object, "detail", flow->detail);
	if (flow->answer)
		set_answer(object, flow->answer);
	if (flow->event != FLOW_END)
		return object;
	json_object_set_new(object, "bytes_in", json_integer((json_int_t)flow->bytes_in));
	json_object_set_new(object, "bytes_out", json_integer((json_int_t)flow->bytes_out));
	json_object_set_new(object, "duration_ms", json_integer(flow->duration_ms));
	return object;
}

void flow_say(struct flows *flows, const struct flow *flow)
{
	if (flow->event == FLOW_REFUSED && flow->reason)
		refused_count(flows, flow->reason);
	json_t *object = flow_object(flow);
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (!text || send(flows->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		flows->lost++;
	free(text);
	json_decref(object);
}

void flows_status(const struct flows *flows, json_t *status)
{
	json_t *refused = json_object();
	for (const struct reason_count *at = flows->refused; at < flows->refused + REASONS_LIMIT && at->reason; at++)
		json_object_set_new(refused, at->reason, json_integer((json_int_t)at->count));
	json_object_set_new(status, "refused", refused);
	json_object_set_new(status, "lost", json_integer((json_int_t)flows->lost));
}
