#define _GNU_SOURCE 1
#include "proxy/inbound.h"

#include "proxy/ask.h"
#include "proxy/place.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* What a peer is told. ztunnel says 401 where a policy denies; 403 is RFC 9110's word for it, and a caller treats both
 * alike. */
enum { STATUS_OPEN = 200, STATUS_BAD = 400, STATUS_DENIED = 403, STATUS_UNAVAILABLE = 503 };

void inbound_accept(struct place *place, int fd, const struct hop *local, const struct hop *peer)
{
	tunnel_accept(place, &inbound_side, fd, local, peer);
}

/* ---- A request -------------------------------------------------------------------------------------- */

/* Answers instead of the application, which sees nothing. */
static void stream_refuse(struct stream *stream, unsigned status, const char *reason, const char *detail)
{
	struct tunnel *tunnel = stream->tunnel;
	if (tunnel && tunnel->state == TUNNEL_OPEN && !stream->is_closed)
		stream->is_closed = !tunnel_respond(tunnel, stream->id, NULL, status);
	stream_end(stream, reason, detail, NGHTTP2_CANCEL);
}

static int ask_receiver(struct stream *stream)
{
	struct tunnel *tunnel = stream->tunnel;
	struct mesh_ask *question = &stream->answer;
	*question = (struct mesh_ask){
		.kind = MESH_ASK_RECEIVER, .src_port = stream->src.port, .dst_port = stream->dst.port};
	memcpy(question->id, tunnel->who.digest, sizeof(question->id));
	memcpy(question->space, tunnel->who.space_digest, sizeof(question->space));
	memcpy(question->src, stream->src.ip, sizeof(question->src));
	memcpy(question->dst, stream->dst.ip, sizeof(question->dst));
	stream->has_answer = true;
	return ask_decision(tunnel->fd, question);
}

/* The application may ask who called before connect returns to us, so the kernel is told first. */
static int application_connect(struct stream *stream)
{
	int family = hop_family(&stream->dst);
	struct sockaddr_storage address;
	struct hop own = stream->dst;
	struct mesh_remember remember = {.dst_port = stream->dst.port, .peer_port = stream->src.port};
	own.port = 0;
	socklen_t len = hop_to_sockaddr(&own, family, &address);
	if (bind(stream->fd, (const struct sockaddr *)&address, len))
		return -errno;
	memcpy(remember.dst, stream->dst.ip, 16);
	memcpy(remember.peer, stream->src.ip, 16);
	/* Without it the application sees the node's proxy as its peer, which is a loss, not a danger. */
	stream->is_remembered = !ask_remember(stream->fd, &remember);
	len = hop_to_sockaddr(&stream->dst, family, &address);
	if (stream_watch(stream))
		return -ENOMEM;
	stream->state = STREAM_CONNECTING;
	return connect(stream->fd, (const struct sockaddr *)&address, len) && errno != EINPROGRESS ? -errno : 0;
}

static void stream_on_socket(struct broker_wait *wait, int fd)
{
	struct stream *stream = CONTAINER_OF(wait, struct stream, wait);
	if (fd < 0) {
		stream_refuse(stream, STATUS_UNAVAILABLE, fd == -ENOENT ? REASON_PLACE_GONE : REASON_OVERLOAD,
			      "no socket");
		return;
	}
	stream->fd = fd;
	int r = application_connect(stream);
	if (r)
		stream_refuse(stream, STATUS_UNAVAILABLE, REASON_APPLICATION, strerrordesc_np(-r));
}

void inbound_connected(struct stream *stream)
{
	int error = 0;
	socklen_t len = sizeof(error);
	if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (error)
		stream_refuse(stream, STATUS_UNAVAILABLE, REASON_APPLICATION, strerrordesc_np(error));
	else if (tunnel_respond(stream->tunnel, stream->id, stream, STATUS_OPEN))
		stream_end(stream, REASON_PEER, NULL, NGHTTP2_CANCEL);
	else
		stream_relay(stream);
}

static void stream_open(struct stream *stream)
{
	const struct place *place = stream->place;
	int r = ask_receiver(stream);
	if (r || !stream->answer.allow) {
		bool is_stray = !r && stream->answer.reason == MESH_ASK_NOT_HERE;
		stream_refuse(stream, is_stray ? STATUS_BAD : STATUS_DENIED,
			      is_stray ? REASON_BAD_REQUEST : REASON_POLICY, r ? "the kernel does not answer" : NULL);
		return;
	}
	stream->wait.ready = stream_on_socket;
	int fd = broker_take(stream->proxy->broker, place->endpoint, hop_family(&stream->dst), &stream->wait);
	if (fd != -EINPROGRESS)
		stream_on_socket(&stream->wait, fd);
}

/* ---- The tunnel's side ------------------------------------------------------------------------------ */

static const char *receiver_admit(struct tunnel *tunnel)
{
	(void)tunnel; /* each of its connections is decided by itself */
	return NULL;
}

static void receiver_on_room(struct tunnel *tunnel)
{
	(void)tunnel;
}

/* What has no connection to be told of. */
static void receiver_say(const struct tunnel *tunnel, const char *reason, const char *detail)
{
	bool is_secure = tunnel->session && tunnel->ssl;
	flow_say(tunnel->proxy->flows, &(struct flow){.event = FLOW_REFUSED,
						      .endpoint = tunnel->place->endpoint,
						      .src = &tunnel->peer,
						      .dst = &tunnel->local,
						      .src_id = tunnel->who.id[0] ? tunnel->who.id : NULL,
						      .dst_id = tunnel->place->spiffe,
						      .tls = is_secure ? SSL_get_version(tunnel->ssl) : NULL,
						      .cipher = is_secure ? SSL_get_cipher(tunnel->ssl) : NULL,
						      .reason = reason,
						      .detail = detail});
}

static void receiver_on_head(struct tunnel *tunnel, int32_t id, struct stream *stream, const struct hbone_head *head)
{
	struct proxy *proxy = tunnel->proxy;
	if (stream)
		return; /* trailers: a CONNECT has none (RFC 9113, section 8.5) */
	stream = proxy->stream_count < proxy->settings.connections ? stream_create(tunnel->place, -1) : NULL;
	if (!stream) {
		tunnel_respond(tunnel, id, NULL, STATUS_UNAVAILABLE);
		receiver_say(tunnel, REASON_OVERLOAD, NULL);
		return;
	}
	stream->id = id;
	stream->dst = head->dst;
	/* Whose connection it is only its own node can say, and only for itself. */
	stream->src = head->has_src && hop_same_ip(&head->src, &tunnel->peer) ? head->src : tunnel->peer;
	tunnel_add(tunnel, stream);
	if (!head->is_connect || !head->dst.port)
		stream_refuse(stream, STATUS_BAD, REASON_BAD_REQUEST, "no CONNECT to an address and port");
	else if (!place_has(tunnel->place, &head->dst))
		stream_refuse(stream, STATUS_BAD, REASON_BAD_REQUEST, "not an address of this workload");
	else
		stream_open(stream);
}

static void receiver_on_nonsense(struct tunnel *tunnel, const char *detail)
{
	receiver_say(tunnel, REASON_BAD_REQUEST, detail);
}

static void receiver_on_closing(struct tunnel *tunnel)
{
	(void)tunnel;
}

/* A tunnel that carried connections ends with them; one that never came to be is told by itself. */
static void receiver_on_dead(struct tunnel *tunnel, const char *reason, const char *detail)
{
	if (!tunnel->session && reason)
		receiver_say(tunnel, reason, detail);
}

const struct tunnel_side inbound_side = {
	.admit = receiver_admit,
	.on_room = receiver_on_room,
	.on_head = receiver_on_head,
	.on_nonsense = receiver_on_nonsense,
	.on_closing = receiver_on_closing,
	.on_dead = receiver_on_dead,
};
