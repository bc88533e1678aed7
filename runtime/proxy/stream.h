/* One relayed connection: an application's socket on one side, a stream of a tunnel on the other.
 *
 *      caller:   WAITING --tunnel open--> ASKED ---200---+
 *                   ^------- refused stream, retry --+   v
 *                                                      RELAY --both ways ended--> dead
 *      receiver: WAITING --socket--> CONNECTING --open-+
 *
 * From every state one step leads to dead: a reset by the application (RST_STREAM to the peer), by the peer or with
 * the tunnel (RST to the application), a deadline, a verdict. In RELAY the two ways end apart:
 *
 *      application -> tunnel: EOF read    -> END_STREAM sent                      (app_ended)
 *      tunnel -> application: END_STREAM  -> what is held is written -> SHUT_WR   (peer_ended, then app_shut)
 */
#ifndef MESH_PROXY_STREAM_H
#define MESH_PROXY_STREAM_H

#include "abi.h"
#include "proxy/broker.h"
#include "proxy/deadline.h"
#include "proxy/hop.h"

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct proxy;
struct place;
struct tunnel;

enum stream_state { STREAM_WAITING, STREAM_ASKED, STREAM_CONNECTING, STREAM_RELAY, STREAM_DEAD };

struct stream {
	TAILQ_ENTRY(stream) link;	 /* of the proxy's, live or dead */
	TAILQ_ENTRY(stream) tunnel_link; /* of the tunnel's, waiting or open */
	struct proxy *proxy;
	struct place *place;
	struct tunnel *tunnel; /* NULL: none, or none any more */
	int32_t id;	       /* of the tunnel's stream; 0: none yet */
	int fd;		       /* the application; -1: not yet */
	uint8_t state;
	uint8_t attempts;
	bool is_caller : 1, is_readable : 1, is_hung : 1, app_ended : 1, peer_ended : 1, app_shut : 1, is_closed : 1,
		is_remembered : 1, was_open : 1, has_answer : 1; /* closed: the tunnel's stream */
	uint32_t asked_serial;
	struct hop src, dst, service; /* service: port 0: none */
	struct mesh_ask answer;
	struct broker_wait wait;
	struct deadline deadline; /* until RELAY */
	int64_t since_ms;
	uint64_t bytes_in, bytes_out; /* from, to the application */
	/* Bytes from the tunnel that the application has not taken; at most a window. */
	uint8_t *held;
	uint32_t held_at, held_len, held_cap;
};
TAILQ_HEAD(stream_list, stream);

/* NULL: no memory. FD becomes the stream's. */
struct stream *stream_create(struct place *place, int fd);
/* A stream that is dead is freed by proxy_settle. REASON is a literal; NULL: both ways ended as they should.
 * The application is reset where REASON is there; the tunnel's stream with CODE if it is still open. */
void stream_end(struct stream *stream, const char *reason, const char *detail, uint32_t code);
void stream_free(struct stream *stream);
/* Both sides are there: bytes flow. */
void stream_relay(struct stream *stream);
/* How the application's socket is watched in each state. */
int stream_watch(struct stream *stream);
void stream_say(const struct stream *stream, int event, const char *reason, const char *detail);
/* Asks this node's kernel, and keeps the answer. AGAIN: the connection was decided before. */
bool stream_is_allowed(struct stream *stream, bool again);
/* A verdict, again. False: it is denied, and ended. */
bool stream_judge(struct stream *stream);

/* From the tunnel. */
ssize_t stream_read(struct stream *stream, uint8_t *buffer, size_t len, uint32_t *flags);
void stream_on_data(struct stream *stream, const uint8_t *data, size_t len);
void stream_on_peer_end(struct stream *stream);
/* The tunnel's stream is closed, by a reset where CODE is not NGHTTP2_NO_ERROR. */
void stream_on_closed(struct stream *stream, uint32_t code);

#endif
