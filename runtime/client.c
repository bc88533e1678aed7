/* The verbs' end of the control socket. */
#define _GNU_SOURCE 1
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_LIMIT = 64 << 20, READ_AT_ONCE = 64 << 10 };

struct stream {
	int fd;
	char *at;
	size_t len, cap, taken; /* taken: bytes of the line that was handed out last */
};

static int stream_open(struct stream *stream, const char *path, struct why *why)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path))
		return why_set(why, -ENAMETOOLONG, "%s: longer than a socket's path can be (107 bytes)", path);
	strcpy(address.sun_path, path);
	stream->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (stream->fd < 0)
		return why_set(why, -errno, "%s: %m", path);
	if (!connect(stream->fd, (const struct sockaddr *)&address, sizeof(address)))
		return 0;
	if (errno == ENOENT || errno == ECONNREFUSED)
		return why_set(why, -errno, "%s: no meshd answers there: start `meshd run`, or say where it listens",
			       path);
	if (errno == EACCES)
		return why_set(why, -errno, "%s: no permission: ask as root or as a member of `socket_group`", path);
	return why_set(why, -errno, "%s: %m", path);
}

/* The descriptor travels with the first bytes. Where meshd has closed already its answer may lie
 * there still, so a broken pipe is no error yet. */
static int stream_send(struct stream *stream, const char *text, size_t len, int fd)
{
	char rights[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {(void *)text, len};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	if (fd >= 0) {
		message.msg_control = rights;
		message.msg_controllen = sizeof(rights);
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		*head = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	}
	while (part.iov_len) {
		ssize_t sent = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EPIPE || errno == ECONNRESET ? 0 : -errno;
		part.iov_base = (char *)part.iov_base + sent;
		part.iov_len -= (size_t)sent;
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	return 0;
}

/* 1: a line (NUL-terminated, valid until the next call); 0: the end; -ETIMEDOUT, -E2BIG ... */
static int stream_line(struct stream *stream, int64_t until_ms, char **ret_line)
{
	stream->len -= stream->taken;
	if (stream->taken)
		memmove(stream->at, stream->at + stream->taken, stream->len);
	stream->taken = 0;
	for (size_t looked = 0;;) {
		char *end = stream->len > looked ? memchr(stream->at + looked, '\n', stream->len - looked) : NULL;
		if (end) {
			*end = 0;
			stream->taken = (size_t)(end - stream->at) + 1;
			*ret_line = stream->at;
			return 1;
		}
		looked = stream->len;
		if (stream->len > ANSWER_LIMIT)
			return -E2BIG;
		if (stream->cap - stream->len < READ_AT_ONCE) {
			size_t cap = stream->cap ? stream->cap * 2 : READ_AT_ONCE * 2;
			char *grown = realloc(stream->at, cap);
			if (!grown)
				return -ENOMEM;
			stream->at = grown;
			stream->cap = cap;
		}
		struct pollfd ready = {.fd = stream->fd, .events = POLLIN};
		int64_t left = until_ms - loop_now_ms();
		int r = poll(&ready, 1, until_ms < 0 ? -1 : left > 0 ? (int)left : 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r ? -errno : -ETIMEDOUT;
		ssize_t got = recv(stream->fd, stream->at + stream->len, READ_AT_ONCE, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got && errno != ECONNRESET ? -errno : 0;
		stream->len += (size_t)got;
	}
}

static json_t *stream_answer(struct stream *stream, const char *path, int timeout_s, struct why *why)
{
	char *line = NULL;
	json_error_t error;
	int r = stream_line(stream, loop_now_ms() + (int64_t)timeout_s * 1000, &line);
	if (r == -ETIMEDOUT)
		why_set(why, r, "%s: no answer within %d s: is meshd busy or stopped?", path, timeout_s);
	else if (r < 0)
		why_set(why, r, "%s: no answer: %s", path, strerror(-r));
	else if (!r)
		why_set(why, -ECONNRESET, "%s: meshd closed the connection without an answer: see its log", path);
	if (r <= 0)
		return NULL;
	json_t *answer = json_loads(line, 0, &error);
	if (!json_is_object(answer)) {
		why_set(why, -EPROTO, "%s: what answers there is not meshd: %s", path, error.text);
		json_decref(answer);
		return NULL;
	}
	return answer;
}

static void stream_follow(struct stream *stream, int (*each)(void *context, const json_t *line), void *context)
{
	char *line = NULL;
	int done = 0;
	while (!done && stream_line(stream, -1, &line) > 0) {
		json_t *value = json_loads(line, 0, NULL);
		done = value ? each(context, value) : 0;
		json_decref(value);
	}
}

json_t *control_ask(const char *socket, const json_t *body, int fd, int timeout_s,
		    int (*each)(void *context, const json_t *line), void *context, struct why *why)
{
	struct stream stream = {.fd = -1};
	json_t *answer = NULL;
	char *text = json_dumps(body, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	if (!text || len >= CONTROL_LIMIT_REQUEST) {
		why_set(why, -E2BIG, "the request is longer than 64 KiB");
	} else if (!stream_open(&stream, socket, why)) {
		text[len] = '\n'; /* in the place of the NUL */
		int r = stream_send(&stream, text, len + 1, fd);
		if (r)
			why_set(why, r, "%s: the request cannot be sent: %s", socket, strerror(-r));
		else
			answer = stream_answer(&stream, socket, timeout_s, why);
	}
	if (answer && each && !json_object_get(answer, "error") && !each(context, answer))
		stream_follow(&stream, each, context);
	if (stream.fd >= 0)
		close(stream.fd);
	free(stream.at);
	free(text);
	return answer;
}
