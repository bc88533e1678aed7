/* One client of the control socket: requests in, answers out. It can cost a bounded amount of memory
 * and no waiting: all reading and writing is non-blocking, and a client that has an answer to take is
 * not read from. */
#define _GNU_SOURCE 1
#include "control_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { READ_AT_ONCE = 16 << 10 };

/* ---- A client's end ------------------------------------------------------------------------------ */

static void client_free(struct control_client *client)
{
	if (client->passed >= 0)
		close(client->passed);
	json_decref(client->filter);
	free(client->in);
	free(client->out);
	free(client);
}

/* The memory stays until no handler can hold it any more. */
void client_kill(struct control_client *client)
{
	if (client->is_dead)
		return;
	client->is_dead = true;
	client->control->client_count--;
	client->control->subscriber_count -= client->is_subscribed;
	loop_forget(client->control->loop, client->fd);
	close(client->fd);
}

void control_enter(struct control *control)
{
	control->depth++;
}

void control_leave(struct control *control)
{
	if (--control->depth)
		return;
	for (struct control_client **at = &control->clients; *at;) {
		struct control_client *client = *at;
		if (!client->is_dead) {
			at = &client->next;
			continue;
		}
		*at = client->next;
		client_free(client);
	}
}

/* ---- Writing ------------------------------------------------------------------------------------- */

static bool bytes_reserve(char **at, size_t *cap, size_t need)
{
	if (need <= *cap)
		return true;
	size_t grown_cap = *cap ? *cap : 4096;
	while (grown_cap < need)
		grown_cap *= 2;
	char *grown = realloc(*at, grown_cap);
	if (!grown)
		return false;
	*at = grown;
	*cap = grown_cap;
	return true;
}

size_t client_pending(const struct control_client *client)
{
	return client->out_len - client->out_at;
}

void client_flush(struct control_client *client)
{
	while (!client->is_dead && client_pending(client)) {
		ssize_t sent = send(client->fd, client->out + client->out_at, client_pending(client),
				    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) {
			if (errno != EAGAIN)
				client_kill(client);
			return;
		}
		client->out_at += (size_t)sent;
	}
	if (client->is_dead)
		return;
	client->out_at = client->out_len = 0;
	if (client->is_closing)
		client_kill(client);
}

void client_write(struct control_client *client, const char *text, size_t len)
{
	if (client->out_at) {
		memmove(client->out, client->out + client->out_at, client_pending(client));
		client->out_len -= client->out_at;
		client->out_at = 0;
	}
	if (!bytes_reserve(&client->out, &client->out_cap, client->out_len + len)) {
		client_kill(client);
		return;
	}
	memcpy(client->out + client->out_len, text, len);
	client->out_len += len;
}

static void client_answer(struct control_client *client, json_t *answer)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	const char *line = text ? text : "{\"error\":\"no answer: out of memory\"}";
	client_write(client, line, strlen(line));
	if (!client->is_dead)
		client_write(client, "\n", 1);
	free(text);
	json_decref(answer);
}

/* Says why and closes. */
void client_refuse(struct control_client *client, const char *why)
{
	client->is_closing = true;
	client_answer(client, json_pack("{s:s}", "error", why));
}

/* ---- Requests ------------------------------------------------------------------------------------ */

static void client_request(struct control_client *client, const char *line, size_t len)
{
	struct control *control = client->control;
	json_error_t error;
	json_t *body = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(body)) {
		json_decref(body);
		client_refuse(client, "not a request: a request is one JSON object on one line");
		return;
	}
	int fd = client->passed;
	client->passed = -1;
	json_t *answer = control->handler(control->context, body, fd, &client->peer, client);
	if (fd >= 0)
		close(fd);
	json_decref(body);
	client->until_ms = loop_now_ms() + CONTROL_IDLE_S * 1000;
	if (client->is_dead) {
		json_decref(answer);
	} else if (client->is_refused) {
		json_decref(answer);
		client_refuse(client, "too many subscribers: end another `flows -f` first");
	} else {
		client_answer(client, answer);
	}
}

static const char too_long[] = "the request is longer than 64 KiB: pass large things as a descriptor";

/* One request at a time: the next is looked at when the answer has been taken. */
static void client_requests(struct control_client *client)
{
	size_t used = 0;
	while (!client->is_dead && !client->is_closing && !client->is_subscribed && !client_pending(client)) {
		char *line = client->in + used;
		char *end = client->in_len > used ? memchr(line, '\n', client->in_len - used) : NULL;
		if (!end)
			break;
		if (end - line >= CONTROL_LIMIT_REQUEST)
			client_refuse(client, too_long);
		else
			client_request(client, line, (size_t)(end - line));
		used += (size_t)(end - line) + 1;
		if (!client->is_dead)
			client_flush(client);
	}
	if (client->is_dead || client->is_closing)
		return;
	client->in_len -= used;
	memmove(client->in, client->in + used, client->in_len);
	bool is_whole = memchr(client->in, '\n', client->in_len) != NULL;
	if (client->is_subscribed && client->in_len)
		client_refuse(client, "a request behind a subscription: open another connection");
	else if (!is_whole && client->in_len >= CONTROL_LIMIT_REQUEST)
		client_refuse(client, too_long);
	else if (!is_whole && client->in_len && client->has_ended)
		client_refuse(client, "the request ends without a newline: half of it is missing");
}

/* SCM_RIGHTS: every descriptor that came must be taken or closed. CMSG_SPACE of one holds two. */
static bool client_take_fds(struct control_client *client, struct msghdr *message)
{
	bool is_fine = !(message->msg_flags & MSG_CTRUNC);
	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
		if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof(fd));
			if (client->passed < 0) {
				client->passed = fd;
				continue;
			}
			close(fd);
			is_fine = false;
		}
	}
	return is_fine;
}

static void client_read(struct control_client *client)
{
	char rights[CMSG_SPACE(sizeof(int))];
	if (!bytes_reserve(&client->in, &client->in_cap, client->in_len + READ_AT_ONCE)) {
		client_kill(client);
		return;
	}
	struct iovec room = {client->in + client->in_len, READ_AT_ONCE};
	struct msghdr message = {
		.msg_iov = &room, .msg_iovlen = 1, .msg_control = rights, .msg_controllen = sizeof(rights)};
	ssize_t got = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			client_kill(client);
		return;
	}
	client->in_len += (size_t)got;
	client->has_ended |= got == 0;
	if (!client_take_fds(client, &message))
		client_refuse(client, "more than one descriptor with a request");
}

/* A half-closed client still takes its answer; a half-closed subscriber goes on listening. */
void client_settle(struct control_client *client)
{
	/* A request that waits for its turn needs the answer before it to be gone: no flush here. */
	if (client->is_closing || client->is_subscribed)
		client_flush(client);
	if (client->is_dead)
		return;
	bool is_done = client->has_ended && !client->is_subscribed && !client_pending(client);
	if (is_done) {
		client_kill(client);
		return;
	}
	bool wants_more = !client->has_ended && !client->is_closing && !client_pending(client);
	uint32_t events = (wants_more ? EPOLLIN : 0) | (client_pending(client) ? EPOLLOUT : 0);
	if (loop_watch(client->control->loop, client->fd, events, client_on_event, client))
		client_kill(client);
}

void client_on_event(void *context, uint32_t events)
{
	struct control_client *client = context;
	struct control *control = client->control;
	control_enter(control);
	if (events & EPOLLOUT)
		client_flush(client);
	if (!client->is_dead && events & EPOLLIN)
		client_read(client);
	if (!client->is_dead && !client->is_closing)
		client_requests(client);
	if (!client->is_dead && events & (EPOLLHUP | EPOLLERR) && !(events & EPOLLIN))
		client_kill(client);
	client_settle(client);
	control_leave(control);
}
