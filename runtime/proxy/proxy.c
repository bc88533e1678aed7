#include "proxy/proxy.h"

#include "proxy/orders.h"
#include "proxy/place.h"
#include "proxy/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { JUDGED_STREAMS = 256, JUDGED_TUNNELS = 16 }; /* in a batch */

/* ---- Judging again: the lists are in the order of the last judgement --------------------------------- */

static bool streams_judge(struct proxy *proxy)
{
	struct stream *stream;
	for (int left = JUDGED_STREAMS; left > 0; left--) {
		stream = TAILQ_FIRST(&proxy->streams);
		if (!stream || stream->asked_serial == proxy->switch_serial)
			return false;
		stream->asked_serial = proxy->switch_serial;
		TAILQ_REMOVE(&proxy->streams, stream, link);
		TAILQ_INSERT_TAIL(&proxy->streams, stream, link);
		stream_judge(stream);
	}
	return true;
}

static bool tunnels_judge(struct proxy *proxy)
{
	struct tunnel *tunnel;
	for (int left = JUDGED_TUNNELS; left > 0; left--) {
		tunnel = TAILQ_FIRST(&proxy->tunnels);
		if (!tunnel || tunnel->judged_serial == proxy->judge_serial)
			return false;
		tunnel->judged_serial = proxy->judge_serial;
		TAILQ_REMOVE(&proxy->tunnels, tunnel, link);
		TAILQ_INSERT_TAIL(&proxy->tunnels, tunnel, link);
		tunnel_judge(tunnel);
	}
	return true;
}

void proxy_judge_streams(struct proxy *proxy)
{
	proxy->switch_serial++;
}

void proxy_judge_tunnels(struct proxy *proxy)
{
	proxy->judge_serial++;
}

/* ---- After each batch -------------------------------------------------------------------------------- */

/* What becomes dirty meanwhile, by a tunnel that has more than its turn's worth, waits for the next batch. */
static bool tunnels_flush(struct proxy *proxy)
{
	struct tunnel *tunnel;
	unsigned left = 0;
	TAILQ_FOREACH (tunnel, &proxy->dirty, dirty_link)
		left++;
	for (; left > 0 && (tunnel = TAILQ_FIRST(&proxy->dirty)); left--) {
		TAILQ_REMOVE(&proxy->dirty, tunnel, dirty_link);
		tunnel->is_dirty = false;
		if (tunnel->is_readable && tunnel->state >= TUNNEL_HANDSHAKE)
			wire_receive(tunnel);
		tunnel_flush(tunnel);
		if (tunnel->is_readable)
			tunnel_touch(tunnel);
	}
	return !TAILQ_EMPTY(&proxy->dirty);
}

static void dead_free(struct proxy *proxy)
{
	struct stream *stream;
	struct tunnel *tunnel;
	while ((stream = TAILQ_FIRST(&proxy->dead_streams))) {
		TAILQ_REMOVE(&proxy->dead_streams, stream, link);
		stream_free(stream);
	}
	while ((tunnel = TAILQ_FIRST(&proxy->dead_tunnels))) {
		TAILQ_REMOVE(&proxy->dead_tunnels, tunnel, link);
		tunnel_free(tunnel);
	}
}

bool proxy_settle(struct proxy *proxy)
{
	bool is_busy = streams_judge(proxy);
	is_busy |= tunnels_judge(proxy);
	is_busy |= tunnels_flush(proxy);
	dead_free(proxy);
	return is_busy;
}

static bool proxy_after_batch(void *context)
{
	return proxy_settle(context);
}

/* ---- Time -------------------------------------------------------------------------------------------- */

static void proxy_on_handshake_due(void *context, struct deadline *deadline)
{
	struct tunnel *tunnel = CONTAINER_OF(deadline, struct tunnel, deadline);
	(void)context;
	tunnel_end(tunnel, tunnel->state == TUNNEL_HANDSHAKE ? REASON_TIMEOUT : REASON_UNREACHABLE,
		   "no handshake in 5 s");
}

static void proxy_on_opening_due(void *context, struct deadline *deadline)
{
	struct stream *stream = CONTAINER_OF(deadline, struct stream, deadline);
	(void)context;
	stream_end(stream, REASON_TIMEOUT, "no connection in 5 s", NGHTTP2_CANCEL);
}

static void proxy_tick_drain(struct proxy *proxy, int64_t now_ms)
{
	if (!proxy->drain_until_ms || (now_ms < proxy->drain_until_ms && (proxy->stream_count || proxy->tunnel_count)))
		return;
	loop_stop(proxy->loop);
}

static void proxy_on_tick(void *context, uint32_t events)
{
	struct proxy *proxy = context;
	struct tunnel *next;
	int64_t now_ms = loop_now_ms();
	(void)events;
	for (struct tunnel *tunnel = TAILQ_FIRST(&proxy->tunnels); tunnel; tunnel = next) {
		next = TAILQ_NEXT(tunnel, link);
		tunnel_tick(tunnel, now_ms);
		if (proxy->drain_until_ms && !tunnel->stream_count && !tunnel->waiting_count)
			tunnel_close(tunnel);
	}
	for (struct place *place = proxy->places; place; place = place->next)
		place_listen(place);
	loop_timer(proxy->loop, now_ms + PROXY_TICK_MS, proxy_on_tick, proxy);
	proxy_tick_drain(proxy, now_ms);
}

void proxy_drain(struct proxy *proxy)
{
	struct tunnel *next;
	if (proxy->drain_until_ms)
		return;
	proxy->drain_until_ms = loop_now_ms() + proxy->settings.drain_ms;
	for (struct place *place = proxy->places; place; place = place->next)
		place_close(place);
	for (struct tunnel *tunnel = TAILQ_FIRST(&proxy->tunnels); tunnel; tunnel = next) {
		next = TAILQ_NEXT(tunnel, link);
		if (!tunnel->side->is_client)
			tunnel_close(tunnel);
	}
}

/* ---- Birth and death ---------------------------------------------------------------------------------- */

int proxy_create(struct loop *loop, struct proxy **ret_proxy)
{
	struct proxy *proxy = calloc(1, sizeof(*proxy));
	if (!proxy || !(proxy->buffers = malloc(sizeof(*proxy->buffers))) || identities_create(&proxy->identities)) {
		if (proxy)
			free(proxy->buffers);
		free(proxy);
		return -ENOMEM;
	}
	proxy->loop = loop;
	proxy->settings = (struct proxy_settings){.connections = 20000, .drain_ms = 30000};
	TAILQ_INIT(&proxy->streams);
	TAILQ_INIT(&proxy->tunnels);
	TAILQ_INIT(&proxy->dirty);
	TAILQ_INIT(&proxy->dead_tunnels);
	TAILQ_INIT(&proxy->dead_streams);
	deadline_queue_start(&proxy->handshakes, loop, PROXY_HANDSHAKE_MS, proxy_on_handshake_due, proxy);
	deadline_queue_start(&proxy->strangers, loop, PROXY_HANDSHAKE_MS, proxy_on_handshake_due, proxy);
	deadline_queue_start(&proxy->openings, loop, PROXY_OPEN_MS, proxy_on_opening_due, proxy);
	loop_timer(loop, loop_now_ms() + PROXY_TICK_MS, proxy_on_tick, proxy);
	loop_after_batch(loop, proxy_after_batch, proxy);
	*ret_proxy = proxy;
	return 0;
}

void proxy_release(struct proxy *proxy)
{
	if (!proxy)
		return;
	struct tunnel *tunnel;
	struct stream *stream;
	while ((stream = TAILQ_FIRST(&proxy->streams)))
		stream_end(stream, REASON_DRAIN, NULL, NGHTTP2_CANCEL);
	while ((tunnel = TAILQ_FIRST(&proxy->tunnels)))
		tunnel_end(tunnel, REASON_DRAIN, NULL);
	while (proxy->places)
		place_forget(proxy->places);
	dead_free(proxy);
	orders_release(proxy->orders);
	broker_release(proxy->broker);
	flows_release(proxy->flows);
	loop_after_batch(proxy->loop, NULL, NULL);
	loop_timer(proxy->loop, 0, proxy_on_tick, proxy);
	deadline_queue_stop(&proxy->handshakes);
	deadline_queue_stop(&proxy->strangers);
	deadline_queue_stop(&proxy->openings);
	identities_release(proxy->identities);
	free(proxy->buffers);
	free(proxy);
}
