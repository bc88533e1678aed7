#define _GNU_SOURCE 1
#include "proxy/outbound.h"

#include "proxy/ask.h"
#include "proxy/place.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { ATTEMPTS = 4 };

static const struct tunnel_side caller_side;

/* ---- The pool ------------------------------------------------------------------------------------- */

static struct tunnel **pool_bucket(struct proxy *proxy, const struct place *place, const struct hop *dst)
{
	uint64_t hash = place->endpoint;
	for (size_t i = 0; i < sizeof(dst->ip); i++)
		hash = (hash ^ dst->ip[i]) * 0x100000001b3; /* FNV-1a */
	return &proxy->pool[(hash ^ hash >> 32) % PROXY_POOL_BUCKETS];
}

static void pool_remove(struct tunnel *tunnel)
{
	struct tunnel **at = pool_bucket(tunnel->proxy, tunnel->place, &tunnel->peer);
	while (*at && *at != tunnel)
		at = &(*at)->pool_next;
	if (*at)
		*at = tunnel->pool_next;
}

static struct tunnel *pool_find(struct proxy *proxy, struct place *place, const struct hop *dst)
{
	struct tunnel *waiting = NULL;
	for (struct tunnel *at = *pool_bucket(proxy, place, dst); at; at = at->pool_next) {
		if (at->place != place || !hop_same_ip(&at->peer, dst) || !tunnel_has_room(at))
			continue;
		if (at->state == TUNNEL_OPEN)
			return at;
		waiting = at;
	}
	return waiting;
}

/* NULL: a bound. It may have failed already, and is dead then. */
static struct tunnel *pool_dial(struct place *place, const struct hop *dst)
{
	struct hop peer = *dst;
	peer.port = MESH_PORT_TUNNEL;
	struct tunnel *tunnel = tunnel_dial(place, &caller_side, &peer);
	if (!tunnel || tunnel->state == TUNNEL_DEAD)
		return tunnel;
	struct tunnel **bucket = pool_bucket(place->proxy, place, dst);
	tunnel->pool_next = *bucket;
	*bucket = tunnel;
	return tunnel;
}

/* ---- A connection ---------------------------------------------------------------------------------- */

static void stream_ask(struct stream *stream, struct tunnel *tunnel)
{
	struct hbone_request request;
	const struct place *place = stream->place;
	hbone_request_write(&request, &stream->dst, &stream->src, place->workload,
			    place->service[0] ? place->service : NULL);
	/* Policy may have changed since connect: a tunnel takes a while to build. */
	if (!stream_is_allowed(stream, false)) {
		stream_end(stream, REASON_POLICY, NULL, NGHTTP2_CANCEL);
		return;
	}
	stream->state = STREAM_ASKED;
	if (tunnel_request(tunnel, stream, &request)) {
		tunnel_close(tunnel); /* its stream ids are used up (RFC 9113, section 5.1.1) */
		outbound_retry(stream);
	}
}

static void stream_place(struct stream *stream)
{
	struct tunnel *tunnel = pool_find(stream->proxy, stream->place, &stream->dst);
	if (!tunnel)
		tunnel = pool_dial(stream->place, &stream->dst);
	if (!tunnel) {
		stream_end(stream, REASON_OVERLOAD, "no more tunnels", NGHTTP2_CANCEL);
		return;
	}
	if (tunnel->state == TUNNEL_DEAD) {
		stream_end(stream, tunnel->reason, tunnel->detail, NGHTTP2_CANCEL);
		return;
	}
	if (tunnel->state == TUNNEL_OPEN) {
		stream_ask(stream, tunnel);
		return;
	}
	stream->state = STREAM_WAITING;
	stream->tunnel = tunnel;
	TAILQ_INSERT_TAIL(&tunnel->waiting, stream, tunnel_link);
	tunnel->waiting_count++;
}

void outbound_retry(struct stream *stream)
{
	stream->is_closed = false;
	if (++stream->attempts < ATTEMPTS)
		stream_place(stream);
	else
		stream_end(stream, REASON_PEER, "refused again and again", NGHTTP2_CANCEL);
}

static void outbound_refuse(struct place *place, int fd, const struct hop *peer, const char *reason)
{
	static const struct hop nowhere;
	struct linger at_once = {.l_onoff = 1};
	flow_say(place->proxy->flows, &(struct flow){.event = FLOW_REFUSED,
						     .is_caller = true,
						     .endpoint = place->endpoint,
						     .src = peer,
						     .dst = &nowhere,
						     .src_id = place->spiffe,
						     .reason = reason});
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(fd);
}

static void hop_set(struct hop *hop, const uint8_t ip[16], uint16_t port)
{
	memcpy(hop->ip, ip, sizeof(hop->ip));
	hop->port = port;
}

void outbound_accept(struct place *place, int fd, const struct hop *peer)
{
	struct mesh_origin origin;
	struct proxy *proxy = place->proxy;
	if (ask_origin(fd, &origin)) {
		outbound_refuse(place, fd, peer, REASON_ORIGIN);
		return;
	}
	struct stream *stream = proxy->stream_count < proxy->settings.connections ? stream_create(place, fd) : NULL;
	if (!stream) {
		outbound_refuse(place, fd, peer, REASON_OVERLOAD);
		return;
	}
	stream->is_caller = true;
	hop_set(&stream->src, origin.src, origin.src_port);
	hop_set(&stream->dst, origin.dst, origin.dst_port);
	hop_set(&stream->service, origin.service, origin.service_port);
	stream->answer.generation = origin.generation;
	if (stream_watch(stream))
		stream_end(stream, REASON_OVERLOAD, NULL, NGHTTP2_CANCEL);
	else
		stream_place(stream);
}

/* ---- The tunnel's side ------------------------------------------------------------------------------ */

/* Whoever answers there must be the workload that lives there. */
static const char *caller_admit(struct tunnel *tunnel)
{
	struct mesh_ask question = {.kind = MESH_ASK_SERVER, .dst_port = tunnel->peer.port};
	memcpy(question.id, tunnel->who.digest, sizeof(question.id));
	memcpy(question.space, tunnel->who.space_digest, sizeof(question.space));
	memcpy(question.dst, tunnel->peer.ip, sizeof(question.dst));
	return !ask_decision(tunnel->fd, &question) && question.allow ? NULL : refusal_word(REFUSAL_WRONG_PEER);
}

static void caller_on_room(struct tunnel *tunnel)
{
	struct stream *stream;
	while (tunnel->state == TUNNEL_OPEN && (stream = TAILQ_FIRST(&tunnel->waiting))) {
		tunnel_remove(tunnel, stream);
		if (tunnel_has_room(tunnel))
			stream_ask(stream, tunnel);
		else
			stream_place(stream);
	}
}

static const char *reason_by_status(unsigned status)
{
	switch (status) {
	case 401: /* ztunnel's word for a policy that denies */
	case 403:
		return REASON_POLICY;
	case 400:
		return REASON_BAD_REQUEST;
	case 503:
		return REASON_APPLICATION;
	default:
		return REASON_PEER;
	}
}

static void caller_on_head(struct tunnel *tunnel, int32_t id, struct stream *stream, const struct hbone_head *head)
{
	(void)tunnel;
	(void)id;
	/* Trailers, and answers to a stream that has ended, say nothing; 1xx announces another. */
	if (!stream || stream->state != STREAM_ASKED || (head->status >= 100 && head->status < 200))
		return;
	if (head->status >= 200 && head->status < 300)
		stream_relay(stream);
	else
		stream_end(stream, reason_by_status(head->status), "the peer refused", NGHTTP2_CANCEL);
}

/* Those who waited for the answer are told one by one. */
static void caller_on_nonsense(struct tunnel *tunnel, const char *detail)
{
	(void)tunnel;
	(void)detail;
}

static void caller_on_closing(struct tunnel *tunnel)
{
	struct stream *stream;
	pool_remove(tunnel);
	if (tunnel->state == TUNNEL_DEAD)
		return;
	while ((stream = TAILQ_FIRST(&tunnel->waiting))) {
		tunnel_remove(tunnel, stream);
		outbound_retry(stream);
	}
}

/* What the application sent has not left yet, so another tunnel can have the connection; unless the peer never took
 * this tunnel, and would not take another. */
static void caller_on_dead(struct tunnel *tunnel, const char *reason, const char *detail)
{
	struct stream *next;
	(void)reason;
	(void)detail;
	if (!tunnel->is_proven || tunnel->proxy->drain_until_ms)
		return;
	for (struct stream *stream = TAILQ_FIRST(&tunnel->streams); stream; stream = next) {
		next = TAILQ_NEXT(stream, tunnel_link);
		if (stream->state != STREAM_ASKED)
			continue;
		tunnel_remove(tunnel, stream);
		outbound_retry(stream);
	}
}

static const struct tunnel_side caller_side = {
	.is_client = true,
	.admit = caller_admit,
	.on_room = caller_on_room,
	.on_head = caller_on_head,
	.on_nonsense = caller_on_nonsense,
	.on_closing = caller_on_closing,
	.on_dead = caller_on_dead,
};
