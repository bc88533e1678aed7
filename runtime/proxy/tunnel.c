#define _GNU_SOURCE 1
#include "proxy/tunnel.h"

#include "proxy/ask.h"
#include "proxy/place.h"
#include "proxy/proxy.h"
#include "proxy/session.h"
#include "proxy/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	PING_AFTER_MS = 30000, /* without a byte from the peer, where streams exist */
	PING_ANSWER_MS = 15000,
	IDLE_MS = 60000,  /* without streams */
	NOTICE_MS = 1000, /* between the two GOAWAYs of RFC 9113, section 6.8 */
	USER_TIMEOUT_MS = 30000,
};

/* ---- Birth ------------------------------------------------------------------------------------- */

static struct tunnel *tunnel_create(struct place *place, const struct tunnel_side *side)
{
	struct proxy *proxy = place->proxy;
	struct tunnel *tunnel = proxy->tunnel_count < PROXY_TUNNELS_LIMIT ? calloc(1, sizeof(*tunnel)) : NULL;
	if (!tunnel)
		return NULL;
	tunnel->proxy = proxy;
	tunnel->place = place;
	tunnel->side = side;
	tunnel->fd = -1;
	tunnel->is_fresh = true;
	tunnel->judged_serial = proxy->judge_serial;
	tunnel->heard_ms = tunnel->used_ms = loop_now_ms();
	TAILQ_INIT(&tunnel->streams);
	TAILQ_INIT(&tunnel->waiting);
	TAILQ_INSERT_TAIL(&proxy->tunnels, tunnel, link);
	proxy->tunnel_count++;
	tunnel->is_shaking = true;
	proxy->stranger_count += !side->is_client;
	deadline_set(side->is_client ? &proxy->handshakes : &proxy->strangers, &tunnel->deadline);
	return tunnel;
}

void tunnel_handshake_over(struct tunnel *tunnel)
{
	struct proxy *proxy = tunnel->proxy;
	bool is_client = tunnel->side->is_client;
	proxy->stranger_count -= tunnel->is_shaking && !is_client;
	tunnel->is_shaking = false;
	deadline_clear(is_client ? &proxy->handshakes : &proxy->strangers, &tunnel->deadline);
}

static struct tunnel *oldest_stranger(struct proxy *proxy, const struct hop *peer)
{
	struct deadline *first = TAILQ_FIRST(&proxy->strangers.waiting), *at;
	TAILQ_FOREACH (at, &proxy->strangers.waiting, link)
		if (hop_same_ip(&CONTAINER_OF(at, struct tunnel, deadline)->peer, peer))
			return CONTAINER_OF(at, struct tunnel, deadline);
	return first ? CONTAINER_OF(first, struct tunnel, deadline) : NULL;
}

/* Anybody on the wire can begin a handshake and leave it at that: whoever has waited longest gives way, of the
 * newcomer's own address first, so that silence takes no tunnel from those who can prove who they are. */
static void make_room(struct proxy *proxy, const struct hop *peer)
{
	struct tunnel *oldest = proxy->stranger_count < PROXY_STRANGERS_LIMIT ? NULL : oldest_stranger(proxy, peer);
	if (oldest)
		tunnel_end(oldest, REASON_OVERLOAD, "too many handshakes");
}

static void socket_tune(int fd)
{
	int on = 1, patience_ms = USER_TIMEOUT_MS;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof(patience_ms));
}

static void tunnel_start_tls(struct tunnel *tunnel)
{
	tunnel->ssl = tunnel->side->is_client
			      ? identities_client(tunnel->proxy->identities, tunnel_own_id(tunnel), NULL)
			      : identities_server(tunnel->proxy->identities, tunnel_own_id(tunnel));
	if (!tunnel->ssl) {
		tunnel_end(tunnel, REASON_NO_IDENTITY, NULL);
		return;
	}
	tunnel->state = TUNNEL_HANDSHAKE;
	wire_start(tunnel);
}

static void tunnel_connected(struct tunnel *tunnel)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(tunnel->fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (error)
		tunnel_end(tunnel, REASON_UNREACHABLE, strerrordesc_np(error));
	else
		tunnel_start_tls(tunnel);
}

static void tunnel_on_event(void *context, uint32_t events)
{
	struct tunnel *tunnel = context;
	tunnel->is_hung |= !!(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	tunnel->is_readable |= !!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
	if (tunnel->state == TUNNEL_CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
		tunnel_connected(tunnel);
	if (tunnel->is_readable && tunnel->state >= TUNNEL_HANDSHAKE)
		wire_receive(tunnel);
	tunnel_touch(tunnel);
}

static int tunnel_watch(struct tunnel *tunnel)
{
	return loop_watch(tunnel->proxy->loop, tunnel->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, tunnel_on_event,
			  tunnel);
}

static void tunnel_connect(struct tunnel *tunnel, int fd)
{
	struct sockaddr_storage address;
	socklen_t len = hop_to_sockaddr(&tunnel->peer, hop_family(&tunnel->peer), &address);
	tunnel->fd = fd;
	tunnel->state = TUNNEL_CONNECTING;
	socket_tune(fd);
	if (connect(fd, (const struct sockaddr *)&address, len) && errno != EINPROGRESS)
		tunnel_end(tunnel, REASON_UNREACHABLE, strerrordesc_np(errno));
	else if (tunnel_watch(tunnel))
		tunnel_end(tunnel, REASON_OVERLOAD, NULL);
}

static void tunnel_on_socket(struct broker_wait *wait, int fd)
{
	struct tunnel *tunnel = CONTAINER_OF(wait, struct tunnel, wait);
	if (fd < 0)
		tunnel_end(tunnel, fd == -ENOENT ? REASON_PLACE_GONE : REASON_OVERLOAD, "no socket");
	else
		tunnel_connect(tunnel, fd);
}

struct tunnel *tunnel_dial(struct place *place, const struct tunnel_side *side, const struct hop *peer)
{
	struct tunnel *tunnel = tunnel_create(place, side);
	if (!tunnel)
		return NULL;
	tunnel->state = TUNNEL_SOCKET;
	tunnel->peer = *peer;
	if (!identities_valid_until(place->proxy->identities, place->spiffe, time(NULL))) {
		tunnel_end(tunnel, REASON_NO_IDENTITY, NULL);
		return tunnel;
	}
	tunnel->wait.ready = tunnel_on_socket;
	int fd = broker_take(place->proxy->broker, place->endpoint, hop_family(peer), &tunnel->wait);
	if (fd != -EINPROGRESS)
		tunnel_on_socket(&tunnel->wait, fd);
	return tunnel;
}

struct tunnel *tunnel_accept(struct place *place, const struct tunnel_side *side, int fd, const struct hop *local,
			     const struct hop *peer)
{
	make_room(place->proxy, peer);
	struct tunnel *tunnel = tunnel_create(place, side);
	if (!tunnel) {
		close(fd);
		return NULL;
	}
	tunnel->fd = fd;
	tunnel->local = *local;
	tunnel->peer = *peer;
	socket_tune(fd);
	if (tunnel_watch(tunnel))
		tunnel_end(tunnel, REASON_OVERLOAD, NULL);
	else
		tunnel_start_tls(tunnel);
	return tunnel;
}

/* ---- Death ------------------------------------------------------------------------------------- */

static void streams_end(struct stream_list *streams, const char *reason, const char *detail)
{
	struct stream *stream;
	while ((stream = TAILQ_FIRST(streams)))
		if (stream->is_closed && stream->state == STREAM_RELAY)
			tunnel_remove(stream->tunnel, stream); /* the rest of it is only the application's to read */
		else
			stream_end(stream, reason, detail, NGHTTP2_CANCEL);
}

void tunnel_end(struct tunnel *tunnel, const char *reason, const char *detail)
{
	struct proxy *proxy = tunnel->proxy;
	if (tunnel->is_ending)
		return;
	tunnel->is_ending = tunnel->is_closing = true;
	tunnel->reason = reason;
	tunnel->detail = detail;
	if (tunnel->state == TUNNEL_OPEN)
		session_say_goodbye(tunnel);
	tunnel->state = TUNNEL_DEAD;
	tunnel->side->on_closing(tunnel);
	tunnel->side->on_dead(tunnel, reason, detail);
	streams_end(&tunnel->streams, reason, detail);
	streams_end(&tunnel->waiting, reason, detail);
	broker_cancel(&tunnel->wait);
	tunnel_handshake_over(tunnel);
	if (tunnel->fd >= 0) {
		loop_forget(proxy->loop, tunnel->fd);
		close(tunnel->fd);
		tunnel->fd = -1;
	}
	if (tunnel->is_dirty)
		TAILQ_REMOVE(&proxy->dirty, tunnel, dirty_link);
	TAILQ_REMOVE(&proxy->tunnels, tunnel, link);
	TAILQ_INSERT_TAIL(&proxy->dead_tunnels, tunnel, link);
	proxy->tunnel_count--;
}

void tunnel_free(struct tunnel *tunnel)
{
	nghttp2_session_del(tunnel->session);
	SSL_free(tunnel->ssl);
	free(tunnel->unsent);
	free(tunnel);
}

void tunnel_close(struct tunnel *tunnel)
{
	if (tunnel->is_closing)
		return;
	tunnel->is_closing = true;
	tunnel->closing_ms = loop_now_ms();
	tunnel->side->on_closing(tunnel);
	if (tunnel->state != TUNNEL_OPEN)
		return;
	/* A server cannot know what is under way to it: it says so first, and shuts the door a little later. */
	if (!tunnel->side->is_client)
		nghttp2_submit_shutdown_notice(tunnel->session);
	tunnel_touch(tunnel);
}

/* ---- What goes on meanwhile ---------------------------------------------------------------------- */

void tunnel_touch(struct tunnel *tunnel)
{
	if (tunnel->is_dirty || tunnel->state == TUNNEL_DEAD)
		return;
	tunnel->is_dirty = true;
	TAILQ_INSERT_TAIL(&tunnel->proxy->dirty, tunnel, dirty_link);
}

const char *tunnel_own_id(const struct tunnel *tunnel)
{
	return tunnel->place->spiffe;
}

bool tunnel_has_room(const struct tunnel *tunnel)
{
	if (tunnel->is_closing)
		return false;
	if (tunnel->state != TUNNEL_OPEN)
		return tunnel->waiting_count < PROXY_STREAMS_LIMIT;
	uint32_t theirs = nghttp2_session_get_remote_settings(tunnel->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	return tunnel->stream_count < PROXY_STREAMS_LIMIT && tunnel->stream_count < theirs;
}

static void tunnel_tick_closing(struct tunnel *tunnel, int64_t now_ms)
{
	if (!tunnel->side->is_client && !tunnel->is_notified && now_ms - tunnel->closing_ms >= NOTICE_MS) {
		tunnel->is_notified = true;
		nghttp2_submit_goaway(tunnel->session, NGHTTP2_FLAG_NONE,
				      nghttp2_session_get_last_proc_stream_id(tunnel->session), NGHTTP2_NO_ERROR, NULL,
				      0);
		tunnel_touch(tunnel);
	} else if (!tunnel->stream_count && !tunnel->waiting_count &&
		   (tunnel->side->is_client || tunnel->is_notified)) {
		tunnel_end(tunnel, NULL, NULL);
	}
}

static void tunnel_tick_alive(struct tunnel *tunnel, int64_t now_ms)
{
	if (!tunnel->is_pinged && now_ms - tunnel->heard_ms >= PING_AFTER_MS) {
		tunnel->is_pinged = true;
		nghttp2_submit_ping(tunnel->session, NGHTTP2_FLAG_NONE, NULL);
		tunnel_touch(tunnel);
	} else if (tunnel->is_pinged && now_ms - tunnel->heard_ms >= PING_AFTER_MS + PING_ANSWER_MS) {
		tunnel_end(tunnel, REASON_UNREACHABLE, "no answer to a ping");
	}
}

void tunnel_tick(struct tunnel *tunnel, int64_t now_ms)
{
	if (tunnel->state != TUNNEL_OPEN)
		return;
	if (time(NULL) >= tunnel->who.not_after)
		tunnel_judge(tunnel);
	if (tunnel->state == TUNNEL_OPEN && tunnel->stream_count)
		tunnel_tick_alive(tunnel, now_ms);
	else if (tunnel->state == TUNNEL_OPEN && !tunnel->is_closing && now_ms - tunnel->used_ms >= IDLE_MS)
		tunnel_close(tunnel);
	if (tunnel->state == TUNNEL_OPEN && tunnel->is_closing)
		tunnel_tick_closing(tunnel, now_ms);
	if (tunnel->state == TUNNEL_OPEN)
		session_pay_owed(tunnel);
}

void tunnel_judge(struct tunnel *tunnel)
{
	if (tunnel->state != TUNNEL_OPEN)
		return;
	enum refusal refusal = identity_verify_again(tunnel->proxy->identities, tunnel->ssl, time(NULL));
	const char *reason = refusal == REFUSAL_NONE ? tunnel->side->admit(tunnel) : refusal_word(refusal);
	if (reason)
		tunnel_end(tunnel, reason, refusal_text(refusal));
	else if (wire_is_outdated(tunnel))
		tunnel_close(tunnel);
}
