#define _GNU_SOURCE 1
#include "proxy/stream.h"

#include "proxy/ask.h"
#include "proxy/inbound.h"
#include "proxy/outbound.h"
#include "proxy/place.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { HELD_FIRST_BYTES = 4096 };

/* ---- Birth and death ------------------------------------------------------------------------------ */

struct stream *stream_create(struct place *place, int fd)
{
	struct proxy *proxy = place->proxy;
	struct stream *stream = calloc(1, sizeof(*stream));
	if (!stream)
		return NULL;
	stream->proxy = proxy;
	stream->place = place;
	stream->fd = fd;
	stream->asked_serial = proxy->switch_serial;
	stream->since_ms = loop_now_ms();
	TAILQ_INSERT_TAIL(&proxy->streams, stream, link);
	proxy->stream_count++;
	deadline_set(&proxy->openings, &stream->deadline);
	return stream;
}

static void held_drop(struct stream *stream)
{
	stream->proxy->held_bytes -= stream->held_len;
	free(stream->held);
	stream->held = NULL;
	stream->held_at = stream->held_len = stream->held_cap = 0;
}

static void application_close(struct stream *stream, bool is_reset)
{
	if (stream->fd < 0)
		return;
	if (stream->is_remembered) {
		struct mesh_remember remember = {.dst_port = stream->dst.port, .peer_port = stream->src.port};
		memcpy(remember.dst, stream->dst.ip, 16);
		memcpy(remember.peer, stream->src.ip, 16);
		ask_forget(stream->fd, &remember);
	}
	if (is_reset) {
		struct linger at_once = {.l_onoff = 1};
		setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	}
	loop_forget(stream->proxy->loop, stream->fd);
	close(stream->fd);
	stream->fd = -1;
}

void stream_say(const struct stream *stream, int event, const char *reason, const char *detail)
{
	const struct tunnel *tunnel = stream->tunnel;
	const char *own = stream->place->spiffe;
	const char *other = tunnel && tunnel->who.id[0] ? tunnel->who.id : NULL;
	bool is_secure = tunnel && tunnel->session;
	flow_say(stream->proxy->flows, &(struct flow){
					       .event = (enum flow_event)event,
					       .is_caller = stream->is_caller,
					       .endpoint = stream->place->endpoint,
					       .src = &stream->src,
					       .dst = &stream->dst,
					       .service = stream->service.port ? &stream->service : NULL,
					       .src_id = stream->is_caller ? own : other,
					       .dst_id = stream->is_caller ? other : own,
					       .tls = is_secure && tunnel->ssl ? SSL_get_version(tunnel->ssl) : NULL,
					       .cipher = is_secure && tunnel->ssl ? SSL_get_cipher(tunnel->ssl) : NULL,
					       .reason = reason,
					       .detail = detail,
					       .answer = stream->has_answer ? &stream->answer : NULL,
					       .bytes_in = stream->bytes_in,
					       .bytes_out = stream->bytes_out,
					       .duration_ms = loop_now_ms() - stream->since_ms,
				       });
}

void stream_end(struct stream *stream, const char *reason, const char *detail, uint32_t code)
{
	struct proxy *proxy = stream->proxy;
	struct tunnel *tunnel = stream->tunnel;
	if (stream->state == STREAM_DEAD)
		return;
	stream->state = STREAM_DEAD;
	stream_say(stream, stream->was_open ? FLOW_END : FLOW_REFUSED, reason, detail);
	if (tunnel) {
		if (stream->id && !stream->is_closed && tunnel->state == TUNNEL_OPEN)
			tunnel_reset(tunnel, stream->id, code);
		tunnel_remove(tunnel, stream);
		if (tunnel->side->is_client && !tunnel->is_closing && tunnel->waiting_count)
			tunnel->side->on_room(tunnel);
	}
	broker_cancel(&stream->wait);
	deadline_clear(&proxy->openings, &stream->deadline);
	application_close(stream, reason);
	held_drop(stream);
	TAILQ_REMOVE(&proxy->streams, stream, link);
	TAILQ_INSERT_TAIL(&proxy->dead_streams, stream, link);
	proxy->stream_count--;
}

void stream_free(struct stream *stream)
{
	free(stream);
}

static void stream_end_if_done(struct stream *stream)
{
	if (stream->is_closed && stream->app_shut)
		stream_end(stream, NULL, NULL, NGHTTP2_NO_ERROR);
}

/* ---- From the tunnel to the application ------------------------------------------------------------ */

static bool application_write(struct stream *stream, const uint8_t *data, size_t len, size_t *ret_sent)
{
	ssize_t sent = send(stream->fd, data, len, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		stream_end(stream, REASON_APPLICATION, strerrordesc_np(errno), NGHTTP2_CONNECT_ERROR);
		return false;
	}
	*ret_sent = sent > 0 ? (size_t)sent : 0;
	stream->bytes_out += *ret_sent;
	if (*ret_sent && stream->tunnel)
		tunnel_consume(stream->tunnel, stream->id, *ret_sent);
	return true;
}

/* The peer ended its way, and the application has all of it. */
static void application_shut(struct stream *stream)
{
	if (!stream->peer_ended || stream->app_shut || stream->held_len || stream->state != STREAM_RELAY)
		return;
	stream->app_shut = true;
	if (shutdown(stream->fd, SHUT_WR))
		stream_end(stream, REASON_APPLICATION, strerrordesc_np(errno), NGHTTP2_CONNECT_ERROR);
	else
		stream_end_if_done(stream);
}

static bool held_add(struct stream *stream, const uint8_t *data, size_t len)
{
	if (stream->held_at && stream->held_at + stream->held_len + len > stream->held_cap) {
		memmove(stream->held, stream->held + stream->held_at, stream->held_len);
		stream->held_at = 0;
	}
	size_t cap = stream->held_cap ? stream->held_cap : HELD_FIRST_BYTES;
	while (cap < stream->held_len + len)
		cap *= 2;
	if (cap > stream->held_cap) {
		uint8_t *grown = realloc(stream->held, cap);
		if (!grown)
			return false;
		stream->held = grown;
		stream->held_cap = (uint32_t)cap;
	}
	memcpy(stream->held + stream->held_at + stream->held_len, data, len);
	stream->held_len += (uint32_t)len;
	stream->proxy->held_bytes += len;
	return true;
}

static void held_write(struct stream *stream)
{
	size_t sent;
	if (!stream->held_len || !application_write(stream, stream->held + stream->held_at, stream->held_len, &sent))
		return;
	stream->held_at += (uint32_t)sent;
	stream->held_len -= (uint32_t)sent;
	stream->proxy->held_bytes -= sent;
	if (!stream->held_len)
		held_drop(stream);
}

void stream_on_data(struct stream *stream, const uint8_t *data, size_t len)
{
	size_t sent = 0;
	if (stream->state == STREAM_RELAY && !stream->held_len && !application_write(stream, data, len, &sent))
		return;
	if (sent < len && !held_add(stream, data + sent, len - sent))
		stream_end(stream, REASON_OVERLOAD, NULL, NGHTTP2_INTERNAL_ERROR);
}

void stream_on_peer_end(struct stream *stream)
{
	stream->peer_ended = true;
	application_shut(stream);
}

void stream_on_closed(struct stream *stream, uint32_t code)
{
	struct tunnel *tunnel = stream->tunnel;
	stream->is_closed = true;
	if (code == NGHTTP2_REFUSED_STREAM && stream->is_caller && stream->state == STREAM_ASKED) {
		tunnel_remove(tunnel, stream);
		outbound_retry(stream);
		return;
	}
	if (code != NGHTTP2_NO_ERROR || !stream->app_ended || !stream->peer_ended) {
		stream_end(stream, REASON_PEER, nghttp2_http2_strerror(code), code);
		return;
	}
	/* What is held still goes to the application. */
	stream_end_if_done(stream);
}

/* ---- From the application to the tunnel ------------------------------------------------------------ */

/* Straight from the socket into the frame. Edge-triggered: a short read has emptied the socket, and what comes after
 * it is an event; where the peer hung up already there will be none, so it is read to its end. */
ssize_t stream_read(struct stream *stream, uint8_t *buffer, size_t len, uint32_t *flags)
{
	if (stream->state != STREAM_RELAY || !stream->is_readable)
		return NGHTTP2_ERR_DEFERRED;
	ssize_t got = recv(stream->fd, buffer, len, 0);
	if (got > 0) {
		stream->bytes_in += (uint64_t)got;
		stream->is_readable = (size_t)got == len || stream->is_hung;
		return got;
	}
	stream->is_readable = false;
	if (!got) {
		stream->app_ended = true;
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		return 0;
	}
	if (errno != EAGAIN && errno != EINTR)
		stream_end(stream, REASON_APPLICATION, strerrordesc_np(errno), NGHTTP2_CONNECT_ERROR);
	return NGHTTP2_ERR_DEFERRED;
}

/* ---- Events --------------------------------------------------------------------------------------- */

/* A reset is told at once where the peer's window is shut: nobody would read the socket otherwise. */
static bool is_stuck(const struct stream *stream)
{
	const struct tunnel *tunnel = stream->tunnel;
	return !tunnel || nghttp2_session_get_stream_remote_window_size(tunnel->session, stream->id) <= 0;
}

static void relay_on_event(struct stream *stream, uint32_t events)
{
	if (events & EPOLLERR && (is_stuck(stream) || stream->app_ended)) {
		int error = 0;
		socklen_t len = sizeof(error);
		getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		stream_end(stream, REASON_APPLICATION, strerrordesc_np(error ? error : ECONNRESET),
			   NGHTTP2_CONNECT_ERROR);
		return;
	}
	if (stream->is_readable && stream->tunnel && !stream->app_ended)
		tunnel_resume(stream->tunnel, stream->id);
	if (events & EPOLLOUT && stream->held_len)
		held_write(stream);
	application_shut(stream);
}

static void stream_on_event(void *context, uint32_t events)
{
	struct stream *stream = context;
	stream->is_hung |= !!(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	stream->is_readable |= !!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	if (stream->state == STREAM_RELAY)
		relay_on_event(stream, events);
	else if (stream->state == STREAM_CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
		inbound_connected(stream);
	else if (stream->is_caller && events & (EPOLLERR | EPOLLHUP))
		stream_end(stream, REASON_APPLICATION, "it went away", NGHTTP2_CANCEL);
}

int stream_watch(struct stream *stream)
{
	int on = 1;
	setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return loop_watch(stream->proxy->loop, stream->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, stream_on_event,
			  stream);
}

void stream_relay(struct stream *stream)
{
	stream->state = STREAM_RELAY;
	stream->was_open = true;
	deadline_clear(&stream->proxy->openings, &stream->deadline);
	stream_say(stream, FLOW_OPEN, NULL, NULL);
	tunnel_resume(stream->tunnel, stream->id);
	held_write(stream);
	application_shut(stream);
}

bool stream_is_allowed(struct stream *stream, bool again)
{
	struct mesh_ask question = stream->answer;
	if (stream->is_caller) {
		question = (struct mesh_ask){.src_port = stream->src.port, .dst_port = stream->dst.port};
		question.kind = MESH_ASK_CALLER;
		memcpy(question.src, stream->src.ip, 16);
		memcpy(question.dst, stream->dst.ip, 16);
	}
	question.again = again;
	int r = ask_decision(stream->is_caller ? stream->fd : stream->tunnel->fd, &question);
	stream->answer = question;
	stream->has_answer = true;
	return !r && question.allow;
}

bool stream_judge(struct stream *stream)
{
	if (stream->state != STREAM_RELAY || !stream->tunnel || stream_is_allowed(stream, true))
		return true;
	stream_end(stream, REASON_POLICY, NULL, NGHTTP2_CANCEL);
	return false;
}
