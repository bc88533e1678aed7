/* One TLS connection between two proxies, carrying one HTTP/2 session. It knows streams, not what they are for: that
 * is its side's business. */
#ifndef MESH_PROXY_TUNNEL_H
#define MESH_PROXY_TUNNEL_H

#include "proxy/broker.h"
#include "proxy/deadline.h"
#include "proxy/hbone.h"
#include "proxy/hop.h"
#include "proxy/identity.h"
#include "proxy/stream.h"

struct proxy;
struct place;
struct tunnel;

enum tunnel_state {
	TUNNEL_SOCKET,	   /* client: waits for the broker */
	TUNNEL_CONNECTING, /* client: TCP */
	TUNNEL_HANDSHAKE,  /* TLS */
	TUNNEL_OPEN,
	TUNNEL_DEAD,
};

struct tunnel_side {
	bool is_client;
	/* The peer proved who it is. NULL: it may come; else why not. */
	const char *(*admit)(struct tunnel *tunnel);
	/* There is room for streams: after the handshake, and whenever one ended. */
	void (*on_room)(struct tunnel *tunnel);
	/* A whole header block of stream ID; STREAM is NULL for a request. */
	void (*on_head)(struct tunnel *tunnel, int32_t id, struct stream *stream, const struct hbone_head *head);
	/* What the peer says is no request, or no HTTP/2: the session has refused it by itself. */
	void (*on_nonsense)(struct tunnel *tunnel, const char *detail);
	/* It takes no more streams (GOAWAY, rotation, death). */
	void (*on_closing)(struct tunnel *tunnel);
	/* It is dead, its streams have been told. */
	void (*on_dead)(struct tunnel *tunnel, const char *reason, const char *detail);
};

struct tunnel {
	TAILQ_ENTRY(tunnel) link; /* of the proxy's, live or dead */
	TAILQ_ENTRY(tunnel) dirty_link;
	struct tunnel *pool_next;
	struct proxy *proxy;
	struct place *place;
	const struct tunnel_side *side;
	uint8_t state;
	bool is_dirty : 1, is_ending : 1, is_readable : 1, is_hung : 1, is_closing : 1, is_notified : 1, is_pinged : 1,
		is_fresh : 1, is_shaking : 1,
		is_proven : 1; /* fresh: nothing was received yet; proven: the peer took our certificate */
	int fd;
	const char *reason, *detail; /* of its death */
	SSL *ssl;
	nghttp2_session *session;
	struct hop local, peer; /* client: peer is where the workload is dialled */
	struct identity_peer who;
	struct hbone_head head; /* of the header block that is being read */
	size_t head_bytes;
	struct stream_list streams, waiting;
	unsigned stream_count, waiting_count;
	struct broker_wait wait;
	struct deadline deadline;
	int64_t heard_ms, used_ms, closing_ms;
	uint32_t judged_serial;
	uint32_t owed_bytes; /* of the connection's window, not given back yet */
	/* Ciphertext that the socket did not take. */
	uint8_t *unsent;
	size_t unsent_at, unsent_len;
};
TAILQ_HEAD(tunnel_list, tunnel);

/* NULL: no memory, or too many. Client: dialled to PEER; server: FD, which is taken. */
struct tunnel *tunnel_dial(struct place *place, const struct tunnel_side *side, const struct hop *peer);
struct tunnel *tunnel_accept(struct place *place, const struct tunnel_side *side, int fd, const struct hop *local,
			     const struct hop *peer);
/* The peer proved who it is, or it is over otherwise. */
void tunnel_handshake_over(struct tunnel *tunnel);
/* Ends it: every stream is ended with REASON. REASON is a literal, DETAIL may be NULL. */
void tunnel_end(struct tunnel *tunnel, const char *reason, const char *detail);
/* No new streams; it ends with the last one. */
void tunnel_close(struct tunnel *tunnel);
void tunnel_free(struct tunnel *tunnel);
/* It has something to send: proxy_settle will. */
void tunnel_touch(struct tunnel *tunnel);
void tunnel_flush(struct tunnel *tunnel);
/* Keep-alive, idleness, a peer's certificate that ran out: once a second. */
void tunnel_tick(struct tunnel *tunnel, int64_t now_ms);
/* Verified against what is in force, again; and who lives there. */
void tunnel_judge(struct tunnel *tunnel);
bool tunnel_has_room(const struct tunnel *tunnel);
const char *tunnel_own_id(const struct tunnel *tunnel);

/* Streams. */
int tunnel_request(struct tunnel *tunnel, struct stream *stream, const struct hbone_request *request);
/* STREAM: its bytes follow; NULL: that was all. */
int tunnel_respond(struct tunnel *tunnel, int32_t id, struct stream *stream, unsigned status);
void tunnel_add(struct tunnel *tunnel, struct stream *stream);
void tunnel_remove(struct tunnel *tunnel, struct stream *stream);
void tunnel_reset(struct tunnel *tunnel, int32_t id, uint32_t code);
/* The application sent something, or there is something to send. */
void tunnel_resume(struct tunnel *tunnel, int32_t id);
/* Bytes of stream ID that were taken: its window opens. */
void tunnel_consume(struct tunnel *tunnel, int32_t id, size_t len);

/* ---- For tests and fuzzers ----------------------------------------------------------------------- */

/* The session without TLS and socket: what a peer sends, decrypted. Negative: the session is over. */
int tunnel_session_start(struct tunnel *tunnel);
int tunnel_digest(struct tunnel *tunnel, const uint8_t *data, size_t len);

#endif
