/* Shared by control.c (the socket, who comes and goes) and control_client.c (one client). */
#ifndef MESH_RUNTIME_CONTROL_INTERNAL_H
#define MESH_RUNTIME_CONTROL_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* struct ucred */
#endif

#include "control.h"

#include <sys/socket.h>
#include <sys/un.h>

struct control_client {
	struct control_client *next;
	struct control *control;
	int fd;
	int passed; /* a descriptor that waits for the end of its request, -1: none */
	struct ucred peer;
	char *in, *out;
	size_t in_len, in_cap, out_len, out_cap, out_at;
	int64_t until_ms;
	json_t *filter;
	bool is_subscribed, is_refused, has_ended, is_closing, is_dead;
};
struct control {
	struct loop *loop;
	control_handler handler;
	void *context;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	ino_t inode;
	int fd, spare;
	bool has_group;
	gid_t group;
	struct control_client *clients;
	unsigned client_count, subscriber_count, depth;
	uint64_t dropped;
};

/* Between these two no client's memory is given back: a handler may hold it. */
void control_enter(struct control *control);
void control_leave(struct control *control);

/* Closes at once; the memory goes at the outermost control_leave. */
void client_kill(struct control_client *client);
size_t client_pending(const struct control_client *client);
void client_write(struct control_client *client, const char *text, size_t len);
void client_flush(struct control_client *client);
/* Answers {"error": WHY} and closes behind it. */
void client_refuse(struct control_client *client, const char *why);
/* Watches for what the client can do next, or ends it. */
void client_settle(struct control_client *client);
void client_on_event(void *context, uint32_t events);

#endif
