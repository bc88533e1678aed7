#define _GNU_SOURCE
#include "broker.h"

#include "abi.h"
#include "loop.h"
#include "proxy/control.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COMMAND_ADD = 1, COMMAND_REMOVE, COMMAND_ASK, ANSWER_MS = 3000, BACKLOG = 4096 };

struct command {
	uint32_t what, endpoint;
	uint64_t cookie;
	int32_t result;	 /* in the answer: negative errno */
	uint32_t number; /* given back: which question is answered */
};

/* ---- Messages with descriptors ---------------------------------------------------------------------- */

union fd_room {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(sizeof(int) * BROKER_SOCKETS)];
};

static int send_fds(int to, const void *bytes, size_t len, const int *fds, int count, int flags)
{
	union fd_room room = {0};
	struct iovec part = {(void *)bytes, len};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (count) {
		message.msg_control = room.bytes;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(head), fds, sizeof(int) * count);
	}
	return sendmsg(to, &message, flags | MSG_NOSIGNAL) == (ssize_t)len ? 0 : -errno;
}

/* One descriptor at most; -1: none came. 0 where the message has LEN bytes; -EPIPE: the other end is closed. */
static int receive(int from, void *bytes, size_t len, int *ret_fd, int flags)
{
	union fd_room room;
	struct iovec part = {bytes, len};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof(room.bytes)};
	*ret_fd = -1;
	ssize_t got = recvmsg(from, &message, flags | MSG_CMSG_CLOEXEC);
	if (got <= 0)
		return got ? -errno : -EPIPE;
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
		int count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int), fd;
		for (int i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(head) + i * sizeof(fd), sizeof(fd));
			if (i == 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
	return got == (ssize_t)len ? 0 : -EBADMSG;
}

/* ---- meshd's side ------------------------------------------------------------------------------------ */

static int line_send(const struct broker_line *line, const struct command *command, int fd)
{
	return send_fds(line->fd, command, sizeof(*command), &fd, fd >= 0, MSG_DONTWAIT);
}

/* An answer to the last question, else -EAGAIN: what was asked before it, and not waited for to the end, is not what
 * is asked now; its listener is in another namespace. */
static int line_receive(struct broker_line *line, struct command *ret_answer, int *ret_listener)
{
	for (;;) {
		int r = receive(line->fd, ret_answer, sizeof(*ret_answer), ret_listener, MSG_DONTWAIT);
		if (!r && ret_answer->number == line->asked) {
			line->unanswered_ms = 0;
			return 0;
		}
		if (*ret_listener >= 0)
			close(*ret_listener);
		*ret_listener = -1;
		if (r && r != -EBADMSG && r != -EINTR)
			return r;
	}
}

void broker_hear(struct broker_line *line)
{
	struct command answer;
	int listener;
	if (line->fd >= 0 && !line_receive(line, &answer, &listener) && listener >= 0)
		close(listener);
}

void broker_ask(struct broker_line *line)
{
	struct command asked = {.what = COMMAND_ASK, .number = line->asked + 1};
	broker_hear(line);
	if (line->fd < 0 || line->unanswered_ms || line_send(line, &asked, -1))
		return;
	line->asked++;
	line->unanswered_ms = loop_now_ms();
}

static int line_wait(struct broker_line *line, struct command *ret_answer, int *ret_listener)
{
	for (int64_t end_ms = line->unanswered_ms + ANSWER_MS, left_ms; (left_ms = end_ms - loop_now_ms()) > 0;) {
		struct pollfd ready = {.fd = line->fd, .events = POLLIN};
		poll(&ready, 1, (int)left_ms);
		int r = line_receive(line, ret_answer, ret_listener);
		if (r != -EAGAIN)
			return r;
	}
	return -ETIMEDOUT;
}

int broker_add(struct broker_line *line, uint32_t endpoint, uint64_t cookie, int netns_fd, int *ret_listener,
	       struct why *why)
{
	struct command asked = {.what = COMMAND_ADD, .endpoint = endpoint, .cookie = cookie, .number = line->asked + 1};
	struct command answer = {0};
	int listener = -1;
	broker_hear(line);
	/* It owed one before: the patience with it goes on. */
	bool is_silent = line->unanswered_ms && loop_now_ms() - line->unanswered_ms >= ANSWER_MS;
	int r = is_silent ? -ETIMEDOUT : line_send(line, &asked, netns_fd);
	if (!r) {
		line->asked++;
		line->unanswered_ms = line->unanswered_ms ? line->unanswered_ms : loop_now_ms();
		r = line_wait(line, &answer, &listener);
	}
	if (!r)
		r = answer.result;
	if (!r && listener < 0)
		r = -EBADMSG;
	if (r) {
		if (listener >= 0)
			close(listener);
		return why_set(why, r, "the proxy's listener: %s",
			       r == -ETIMEDOUT ? "its broker does not answer" : strerror(-r));
	}
	*ret_listener = listener;
	return 0;
}

int broker_remove(struct broker_line *line, uint32_t endpoint)
{
	struct command asked = {.what = COMMAND_REMOVE, .endpoint = endpoint};
	return line_send(line, &asked, -1);
}

/* ---- The broker's own -------------------------------------------------------------------------------- */

struct space {
	uint32_t endpoint;
	uint64_t cookie;
	int fd;
};
struct broker {
	struct broker_setup setup;
	struct space *spaces;
	size_t count;
};

static struct space *space_of(struct broker *broker, uint32_t endpoint)
{
	for (size_t i = 0; i < broker->count; i++)
		if (broker->spaces[i].endpoint == endpoint)
			return &broker->spaces[i];
	return NULL;
}

static int space_put(struct broker *broker, const struct command *command, int fd)
{
	struct space *space = space_of(broker, command->endpoint);
	if (!space) {
		struct space *grown = realloc(broker->spaces, (broker->count + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		broker->spaces = grown;
		space = &grown[broker->count++];
		space->fd = -1;
	}
	if (space->fd >= 0)
		close(space->fd);
	*space = (struct space){command->endpoint, command->cookie, fd};
	return 0;
}

static void space_drop(struct broker *broker, uint32_t endpoint)
{
	struct space *space = space_of(broker, endpoint);
	if (!space)
		return;
	close(space->fd);
	*space = broker->spaces[--broker->count];
}

/* The stamp says whose the socket is, and that the proxy holds it: no application can write it. */
static int stamp(const struct broker *broker, const struct space *space, int fd)
{
	struct mesh_socket socket = {.role = MESH_ROLE_PROXY, .verdict = 1, .netns = space->cookie};
	return bpf_map_update_elem(broker->setup.sockets, &fd, &socket, BPF_ANY);
}

/* In SPACE, where this process is already. */
static int make_socket(const struct broker *broker, const struct space *space, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = stamp(broker, space, fd);
	if (!r)
		return fd;
	close(fd);
	return r;
}

/* On the loopback alone: the kernel steers to it what comes to the workload's own addresses. IPv4 is taken in its
 * mapped form (RFC 3493 section 3.7). */
static int make_listener(const struct broker *broker, const struct space *space)
{
	struct sockaddr_in6 at = {.sin6_family = AF_INET6};
	int off = 0, fd = make_socket(broker, space, AF_INET6);
	if (fd < 0)
		return fd;
	at.sin6_addr.s6_addr[10] = at.sin6_addr.s6_addr[11] = 0xff;
	at.sin6_addr.s6_addr[12] = 127;
	at.sin6_addr.s6_addr[15] = 1;
	if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) || bind(fd, (void *)&at, sizeof(at)) ||
	    listen(fd, BACKLOG)) {
		int r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int enter(const struct space *space)
{
	return setns(space->fd, CLONE_NEWNET) ? -errno : 0;
}

static int obey_add(struct broker *broker, const struct command *command, int netns_fd)
{
	int r = netns_fd < 0 ? -EBADF : space_put(broker, command, netns_fd);
	if (r) {
		if (netns_fd >= 0)
			close(netns_fd);
		return r;
	}
	const struct space *space = space_of(broker, command->endpoint);
	r = enter(space);
	return r ? r : make_listener(broker, space);
}

/* false: meshd is gone; the broker goes on with what it knows. */
static bool obey(struct broker *broker)
{
	struct command command = {0};
	int fd, listener = -1, r = receive(broker->setup.command, &command, sizeof(command), &fd, 0);
	if ((r || command.what != COMMAND_ADD) && fd >= 0)
		close(fd);
	if (r)
		return r == -EBADMSG || r == -EINTR;
	if (command.what == COMMAND_REMOVE) {
		space_drop(broker, command.endpoint);
		return true;
	}
	if (command.what == COMMAND_ADD)
		listener = obey_add(broker, &command, fd);
	command.result = command.what == COMMAND_ADD && listener < 0 ? listener : 0;
	r = send_fds(broker->setup.command, &command, sizeof(command), &listener, listener >= 0, 0);
	if (listener >= 0)
		close(listener);
	return !r;
}

/* As many as can be had; none where the workload is not known. false: the proxy is gone. */
static bool supply(struct broker *broker)
{
	struct broker_ask ask;
	int fd, fds[BROKER_SOCKETS], made = 0, r = receive(broker->setup.proxy, &ask, sizeof(ask), &fd, 0);
	if (fd >= 0)
		close(fd);
	if (r)
		return r == -EBADMSG || r == -EINTR;
	const struct space *space = space_of(broker, ask.endpoint);
	bool asked_well = (ask.family == AF_INET || ask.family == AF_INET6) && ask.count <= BROKER_SOCKETS;
	if (space && asked_well && !enter(space))
		while (made < ask.count && (fds[made] = make_socket(broker, space, ask.family)) >= 0)
			made++;
	ask.count = made;
	r = send_fds(broker->setup.proxy, &ask, sizeof(ask), fds, made, 0);
	for (int i = 0; i < made; i++)
		close(fds[i]);
	return !r;
}

int broker_serve(const struct broker_setup *setup)
{
	struct broker broker = {.setup = *setup};
	struct pollfd watched[] = {{.fd = setup->proxy, .events = POLLIN}, {.fd = setup->command, .events = POLLIN}};
	for (;;) {
		if (poll(watched, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if (watched[0].revents && !supply(&broker))
			return 0;
		if (watched[1].revents && !obey(&broker))
			watched[1].fd = -1;
	}
}
