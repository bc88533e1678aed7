/* The control socket: one JSON object a line, answered by one. For root and one group. */
#ifndef MESH_RUNTIME_CONTROL_H
#define MESH_RUNTIME_CONTROL_H

#include "config.h"
#include "loop.h"

#include <jansson.h>
#include <sys/types.h>

enum {
	CONTROL_LIMIT_REQUEST = 64 << 10, /* bytes of a request line */
	CONTROL_LIMIT_CLIENTS = 64,
	CONTROL_LIMIT_PENDING = 1 << 20, /* bytes waiting for a slow reader; more are dropped, counted */
	CONTROL_IDLE_S = 10,		 /* a client that says nothing is closed, subscribers are not */
};

struct ucred; /* <sys/socket.h>, with _GNU_SOURCE */
struct control;
struct control_client; /* valid until its handler returns, or for subscribers until it is closed */

/* BODY is a JSON object (borrowed); FD a descriptor that came with it (SCM_RIGHTS), -1: none, closed
 * behind the call. Returns the answer (owned). */
typedef json_t *(*control_handler)(void *context, const json_t *body, int fd, const struct ucred *peer,
				   struct control_client *client);

/* Makes the socket (mode 0660, root and config->socket_group; a stale one is replaced, a live one is
 * -EADDRINUSE) and watches it. Peers are checked by SO_PEERCRED. Garbage, oversized lines and clients
 * past the bound are answered with {"error": ...} and closed; none can make the loop wait. */
int control_create(const struct config *config, struct loop *loop, control_handler handler, void *context,
		   struct control **ret_control, struct why *why);
void control_release(struct control *control);

/* Keeps CLIENT open behind the answer: control_publish writes LINE (with its newline) to every
 * subscriber whose filter object (owned, may be NULL) passes MATCHES. */
void control_subscribe(struct control_client *client, json_t *filter);
void control_publish(struct control *control, const char *line, const json_t *flow,
		     int (*matches)(const json_t *filter, const json_t *flow));
unsigned control_subscribers(const struct control *control);
uint64_t control_dropped(const struct control *control); /* lines that slow subscribers lost */

/* The other end, for the verbs: sends BODY, and FD if not -1; the answer, or NULL with WHY. With
 * EACH, gives it the answer and then every further line until it returns non-zero or the end.
 * TIMEOUT_S is for the answer. */
json_t *control_ask(const char *socket, const json_t *body, int fd, int timeout_s,
		    int (*each)(void *context, const json_t *line), void *context, struct why *why);

#endif
