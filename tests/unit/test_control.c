/* The control socket against clients that are wrong, slow, many or malicious. The server is a process
 * of its own, so that its end is seen, too. */
#define _GNU_SOURCE 1
#include "control.h"
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static struct why why;
static struct config config;
static char path[128];
static pid_t server;

/* ---- The server ---------------------------------------------------------------------------------- */

struct service {
	struct loop *loop;
	struct control *control;
};

static int is_even(const json_t *filter, const json_t *flow)
{
	return json_integer_value(json_object_get(flow, "n")) % 2 ==
	       json_integer_value(json_object_get(filter, "rest"));
}

static void publish(struct service *service, const json_t *body)
{
	size_t size = json_integer_value(json_object_get(body, "size"));
	char *pad = calloc(1, size + 1);
	memset(pad, 'x', size);
	for (int i = 0; i < json_integer_value(json_object_get(body, "publish")); i++) {
		json_t *flow = json_pack("{s:i, s:s}", "n", i, "pad", pad);
		char *text = json_dumps(flow, JSON_COMPACT), *line;
		assert_true(asprintf(&line, "%s\n", text) > 0);
		control_publish(service->control, line, flow, is_even);
		free(line);
		free(text);
		json_decref(flow);
	}
	free(pad);
}

static int count_fds(void)
{
	int count = 0;
	DIR *folder = opendir("/proc/self/fd");
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static json_t *answer(void *context, const json_t *body, int fd, const struct ucred *peer,
		      struct control_client *client)
{
	struct service *service = context;
	char text[64] = "";
	const json_t *echo = json_object_get(body, "echo");
	size_t big = json_integer_value(json_object_get(body, "big"));
	if (json_object_get(body, "nothing"))
		return NULL;
	if (json_object_get(body, "stop"))
		loop_stop(service->loop);
	if (json_object_get(body, "publish"))
		publish(service, body);
	if (json_object_get(body, "fds"))
		return json_pack("{s:i}", "fds", count_fds());
	if (json_object_get(body, "dropped"))
		return json_pack("{s:I}", "dropped", (json_int_t)control_dropped(service->control));
	if (json_object_get(body, "subscribe"))
		control_subscribe(client, json_deep_copy(json_object_get(body, "filter")));
	if (json_object_get(body, "fd"))
		return json_pack("{s:s}", "content",
				 fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) >= 0 ? text : "none");
	if (big) {
		char *pad = calloc(1, big + 1);
		json_t *object;
		memset(pad, 'x', big);
		object = json_pack("{s:s}", "big", pad);
		free(pad);
		return object;
	}
	return echo ? json_pack("{s:O}", "echo", echo) : json_pack("{s:b, s:i}", "ok", 1, "uid", (int)peer->uid);
}

static int serve(int ready)
{
	struct service service;
	int r = loop_create(&service.loop);
	if (!r)
		r = control_create(&config, service.loop, answer, &service, &service.control, &why);
	if (write(ready, r ? "n" : "y", 1) != 1 || r)
		return 1;
	close(ready);
	r = loop_run(service.loop);
	control_release(service.control);
	loop_release(service.loop);
	return r || access(config.socket, F_OK) == 0;
}

static int start(void **state)
{
	int ready[2];
	char word = 0;
	(void)state;
	snprintf(path, sizeof(path), "%s/run/meshd.sock", scratch);
	config = (struct config){.socket = path, .socket_group = config.socket_group};
	if (pipe(ready))
		return -1;
	server = fork();
	if (!server) {
		close(ready[0]);
		exit(serve(ready[1]));
	}
	close(ready[1]);
	if (read(ready[0], &word, 1) != 1 || word != 'y')
		return -1;
	close(ready[0]);
	return 0;
}

static json_t *ask(const char *text)
{
	json_t *body = json_loads(text, 0, NULL);
	json_t *have = control_ask(path, body, -1, 5, NULL, NULL, &why);
	json_decref(body);
	if (!have)
		fail_msg("%s: %s", text, why.text);
	return have;
}

static json_int_t ask_number(const char *text, const char *key)
{
	json_t *have = ask(text);
	json_int_t number = json_integer_value(json_object_get(have, key));
	json_decref(have);
	return number;
}

/* The server's descriptors must come back to COUNT; it may need a moment to see an end. */
static void wait_fds(int64_t count)
{
	int64_t have = -1;
	for (int i = 0; i < 100 && have != count; i++) {
		if (i)
			usleep(20000);
		have = ask_number("{\"fds\": 1}", "fds");
	}
	assert_int_equal(have, count);
}

/* The server must have outlived the test, and end clean. */
static int stop(void **state)
{
	int status = 0;
	(void)state;
	json_decref(ask("{\"stop\": true}"));
	config.socket_group = NULL;
	return waitpid(server, &status, 0) == server && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* ---- A client by hand ---------------------------------------------------------------------------- */

static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = 20};
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static void put(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);
		if (sent <= 0)
			return; /* the server may close early: what it said is what counts */
		text += sent;
		len -= (size_t)sent;
	}
}

/* Everything up to the end of the connection, or up to LINES lines. Malloc'd. */
static char *take(int fd, int lines)
{
	size_t len = 0, cap = 1 << 16;
	char *text = malloc(cap + 1);
	for (;;) {
		ssize_t got = recv(fd, text + len, cap - len, 0);
		if (got < 0 && errno != ECONNRESET)
			fail_msg("the server neither answers nor closes: %m");
		if (got <= 0)
			break;
		for (ssize_t i = 0; i < got; i++)
			lines -= text[len + (size_t)i] == '\n';
		len += (size_t)got;
		if (lines <= 0)
			break;
		if (cap - len < 4096)
			text = realloc(text, (cap *= 2) + 1);
	}
	text[len] = 0;
	return text;
}

static void assert_refused(int fd, const char *reason)
{
	char *text = take(fd, 1000);
	json_t *have = json_loads(text, 0, NULL);
	const char *error = json_string_value(json_object_get(have, "error"));
	if (!error)
		fail_msg("no error in '%.100s'", text);
	assert_says(error, reason);
	json_decref(have);
	free(text);
	close(fd);
}

/* ---- Requests ------------------------------------------------------------------------------------ */

static void asks(void **state)
{
	struct stat made;
	(void)state;
	assert_int_equal(stat(path, &made), 0);
	assert_int_equal(made.st_mode & 07777, 0660);
	json_t *have = ask("{\"echo\": [1, \"zwei\"]}");
	assert_string_equal(json_string_value(json_array_get(json_object_get(have, "echo"), 1)), "zwei");
	json_decref(have);
	assert_int_equal(ask_number("{\"who\": 1}", "uid"), getuid());
	have = ask("{\"nothing\": true}");
	assert_non_null(json_object_get(have, "error"));
	json_decref(have);
}

static void pipelined(void **state)
{
	int fd = dial();
	char text[16384] = "";
	(void)state;
	/* A large answer first: the requests behind it wait, none is lost or overtakes. */
	strcpy(text, "{\"big\": 3000000}\n");
	for (int i = 0; i < 200; i++)
		sprintf(text + strlen(text), "{\"echo\": %d}\n", i);
	put(fd, text, strlen(text));
	shutdown(fd, SHUT_WR);
	usleep(200000);
	char *all = take(fd, 1000), *line = strchr(all, '\n');
	assert_true(line - all > 3000000);
	for (int i = 0; i < 200; i++) {
		char want[32];
		snprintf(want, sizeof(want), "\n{\"echo\":%d}\n", i);
		assert_int_equal(strncmp(line, want, strlen(want)), 0);
		line += strlen(want) - 1;
	}
	assert_string_equal(line, "\n");
	free(all);
	close(fd);
}

static void garbage(void **state)
{
	static const char *const texts[] = {"nonsense\n",
					    "\n",
					    "[]\n",
					    "7\n",
					    "{\n",
					    "{}{}\n",
					    "{\"a\":1,\"a\":2}\n",
					    "\xff\xfe\n",
					    "{\"a\":\"\\u0000\"}\n",
					    "GET / HTTP/1.1\r\n"};
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		int fd = dial();
		put(fd, texts[i], strlen(texts[i]));
		assert_refused(fd, "one JSON object on one line");
	}
	int fd = dial();
	put(fd, "{\"echo\"\0:1}\n", 12);
	assert_refused(fd, "one JSON object");
	fd = dial();
	put(fd, "{\"echo\": 1}", 11);
	shutdown(fd, SHUT_WR);
	assert_refused(fd, "without a newline");
	/* Nesting that would overrun a parser's stack. */
	char *deep = malloc(60001);
	memset(deep, '[', 60000);
	deep[59999] = '\n';
	fd = dial();
	put(fd, deep, 60000);
	assert_refused(fd, "one JSON object");
	free(deep);
}

static void oversized(void **state)
{
	size_t len = 1 << 20;
	char *text = malloc(len + 1);
	(void)state;
	memset(text, 'x', len);
	memcpy(text, "{\"echo\": \"", 10);
	int fd = dial();
	put(fd, text, len);
	assert_refused(fd, "longer than 64 KiB");
	/* A whole line that is too long is no better. */
	char end = text[CONTROL_LIMIT_REQUEST];
	text[CONTROL_LIMIT_REQUEST] = '\n';
	fd = dial();
	put(fd, text, CONTROL_LIMIT_REQUEST + 1);
	assert_refused(fd, "longer than 64 KiB");
	text[CONTROL_LIMIT_REQUEST] = end;
	/* The longest that is taken. */
	strcpy(text + CONTROL_LIMIT_REQUEST - 4, "\"}\n");
	fd = dial();
	put(fd, text, strlen(text));
	char *have = take(fd, 1);
	assert_int_equal(strncmp(have, "{\"echo\":\"xx", 11), 0);
	free(have);
	close(fd);
	json_t *body = json_pack("{s:s#}", "echo", text, (size_t)CONTROL_LIMIT_REQUEST - 10);
	assert_non_null(body);
	assert_null(control_ask(path, body, -1, 5, NULL, NULL, &why));
	assert_says(why.text, "64 KiB");
	json_decref(body);
	free(text);
}

/* Silence and one byte a second are the same: neither is a request. */
static void held_open(void **state)
{
	int silent = dial(), slow = dial();
	int64_t began_ms = loop_now_ms();
	(void)state;
	for (int i = 0; i < 30; i++) {
		struct pollfd end = {.fd = slow, .events = POLLIN};
		send(slow, "{", 1, MSG_NOSIGNAL);
		assert_int_equal(ask_number("{\"who\": 1}", "uid"), getuid());
		if (poll(&end, 1, 500) == 1)
			break;
	}
	int64_t took_ms = loop_now_ms() - began_ms;
	assert_in_range(took_ms, CONTROL_IDLE_S * 1000 - 1000, CONTROL_IDLE_S * 1000 + 3000);
	assert_refused(slow, "no whole request");
	assert_refused(silent, "no whole request");
}

/* Who does not take its answer is closed as well. */
static void never_reads(void **state)
{
	int fd = dial();
	(void)state;
	put(fd, "{\"big\": 8000000}\n", 17);
	int64_t before = ask_number("{\"fds\": 1}", "fds");
	for (int i = 0; i < 26; i++)
		usleep(500000);
	wait_fds(before - 1);
	close(fd);
}

static void flood(void **state)
{
	int fds[CONTROL_LIMIT_CLIENTS + 40];
	size_t count = sizeof(fds) / sizeof(*fds);
	(void)state;
	int64_t before = ask_number("{\"fds\": 1}", "fds");
	for (size_t i = 0; i < count; i++)
		fds[i] = dial();
	for (size_t i = CONTROL_LIMIT_CLIENTS; i < count; i++)
		assert_refused(fds[i], "too many clients");
	/* Those that are in are served. */
	put(fds[0], "{\"echo\": 1}\n", 12);
	char *have = take(fds[0], 1);
	assert_string_equal(have, "{\"echo\":1}\n");
	free(have);
	for (size_t i = 0; i < CONTROL_LIMIT_CLIENTS; i++)
		close(fds[i]);
	wait_fds(before);
	for (int i = 0; i < 2000; i++)
		close(dial());
	wait_fds(before);
}

/* ---- Descriptors --------------------------------------------------------------------------------- */

static void put_fds(int to, const char *text, const int *fds, size_t count)
{
	char rights[CMSG_SPACE(8 * sizeof(int))] = {0};
	struct iovec part = {(void *)text, strlen(text)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = rights,
				 .msg_controllen = CMSG_SPACE(count * sizeof(int))};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_len = CMSG_LEN(count * sizeof(int));
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(head), fds, count * sizeof(int));
	assert_int_equal(sendmsg(to, &message, MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void descriptors(void **state)
{
	int file = open(scratch_write("bundle", "the content"), O_RDONLY | O_CLOEXEC);
	const int many[5] = {file, file, file, file, file};
	json_t *body = json_pack("{s:b}", "fd", 1);
	(void)state;
	int64_t before = ask_number("{\"fds\": 1}", "fds");
	json_t *have = control_ask(path, body, file, 5, NULL, NULL, &why);
	assert_string_equal(json_string_value(json_object_get(have, "content")), "the content");
	json_decref(have);
	have = control_ask(path, body, -1, 5, NULL, NULL, &why);
	assert_string_equal(json_string_value(json_object_get(have, "content")), "none");
	json_decref(have);
	json_decref(body);
	/* Two fit into the room of one, five do not: all are closed. */
	for (size_t count = 2; count <= 5; count++) {
		int fd = dial();
		put_fds(fd, "{\"fd\": true}\n", many, count);
		assert_refused(fd, "more than one descriptor");
	}
	/* One with each half of a request. */
	int fd = dial();
	put_fds(fd, "{\"fd\":", many, 1);
	put_fds(fd, " true}\n", many, 1);
	assert_refused(fd, "more than one descriptor");
	/* One that waits for the end of its request goes with its client. */
	fd = dial();
	put_fds(fd, "{\"fd\":", many, 1);
	close(fd);
	close(file);
	wait_fds(before);
}

/* ---- Subscriptions ------------------------------------------------------------------------------- */

static int count_line(void *context, const json_t *line)
{
	int *numbers = context;
	if (!json_object_get(line, "n"))
		return 0; /* the answer itself comes first */
	numbers[1 + numbers[0]++] = (int)json_integer_value(json_object_get(line, "n"));
	return numbers[0] == 3;
}

static void subscription(void **state)
{
	int numbers[8] = {0};
	(void)state;
	pid_t child = fork();
	if (!child) {
		json_t *body = json_pack("{s:b, s:{s:i}}", "subscribe", 1, "filter", "rest", 1);
		json_t *have = control_ask(path, body, -1, 5, count_line, numbers, &why);
		int fine = json_is_true(json_object_get(have, "ok")) && numbers[0] == 3 && numbers[1] == 1 &&
			   numbers[2] == 3 && numbers[3] == 5;
		json_decref(have);
		json_decref(body);
		_exit(fine ? 0 : 1);
	}
	int fd = dial(), status = 0;
	put(fd, "{\"subscribe\": true}\n", 20);
	char *text = take(fd, 1);
	free(text);
	usleep(300000);
	json_decref(ask("{\"publish\": 6}"));
	text = take(fd, 6);
	assert_non_null(strstr(text, "{\"n\":0,"));
	assert_non_null(strstr(text, "{\"n\":5,"));
	free(text);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	/* Half-closed it still listens; a request behind a subscription is refused. */
	shutdown(fd, SHUT_WR);
	usleep(100000);
	json_decref(ask("{\"publish\": 1}"));
	text = take(fd, 1);
	assert_non_null(strstr(text, "{\"n\":0,"));
	free(text);
	close(fd);
	fd = dial();
	put(fd, "{\"subscribe\": true}\n", 20);
	text = take(fd, 1);
	free(text);
	put(fd, "{\"echo\": 1}\n", 12);
	assert_refused(fd, "open another connection");
}

/* A subscriber that does not read loses lines, whole ones, and costs nobody anything. */
static void slow_subscriber(void **state)
{
	int fd = dial();
	(void)state;
	put(fd, "{\"subscribe\": true}\n", 20);
	char *text = take(fd, 1);
	free(text);
	json_decref(ask("{\"publish\": 4000, \"size\": 1000}"));
	json_int_t dropped = ask_number("{\"dropped\": 1}", "dropped");
	assert_in_range(dropped, 1000, 3900);
	text = take(fd, 4000 - (int)dropped);
	int last = -1;
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		json_t *flow = json_loads(line, 0, NULL);
		assert_non_null(flow);
		int number = (int)json_integer_value(json_object_get(flow, "n"));
		assert_true(number > last);
		last = number;
		json_decref(flow);
	}
	free(text);
	/* What comes now is taken again. */
	json_decref(ask("{\"publish\": 1}"));
	text = take(fd, 1);
	assert_non_null(strstr(text, "{\"n\":0,"));
	free(text);
	close(fd);
}

static void too_many_subscribers(void **state)
{
	int fds[CONTROL_LIMIT_CLIENTS / 2 + 1];
	size_t last = sizeof(fds) / sizeof(*fds) - 1;
	(void)state;
	for (size_t i = 0; i <= last; i++) {
		fds[i] = dial();
		put(fds[i], "{\"subscribe\": true, \"filter\": {\"rest\": 0}}\n", 43);
	}
	assert_refused(fds[last], "too many subscribers");
	/* The others do not keep anybody out. */
	assert_int_equal(ask_number("{\"who\": 1}", "uid"), getuid());
	for (size_t i = 0; i < last; i++)
		close(fds[i]);
	json_decref(ask("{\"publish\": 3}"));
}

/* ---- Who may ask --------------------------------------------------------------------------------- */

static int start_for_group(void **state)
{
	static char name[64];
	struct group *group = getgrgid(1);
	if (geteuid() || !group)
		return start(state);
	snprintf(name, sizeof(name), "%s", group->gr_name);
	config.socket_group = name;
	return start(state);
}

/* What a process of user 12345 with GROUP gets: 0 an answer, else the errno of its connect. */
static int ask_as(gid_t group, bool is_supplementary)
{
	int status = 0;
	pid_t child = fork();
	if (!child) {
		if (setgroups(is_supplementary, &group) || setgid(is_supplementary ? 54321 : group) || setuid(12345))
			_exit(99);
		json_t *body = json_pack("{s:i}", "who", 1);
		json_t *have = control_ask(path, body, -1, 5, NULL, NULL, &why);
		_exit(have ? json_integer_value(json_object_get(have, "uid")) == 12345 ? 0 : 98
		      : strstr(why.text, "no permission") ? EACCES
							  : 97);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void peers(void **state)
{
	char folder[160];
	struct stat found;
	(void)state;
	if (!config.socket_group)
		skip();
	snprintf(folder, sizeof(folder), "%s", scratch);
	assert_int_equal(chmod(folder, 0755), 0);
	assert_int_equal(stat(path, &found), 0);
	assert_int_equal(found.st_gid, 1);
	assert_int_equal(ask_as(1, false), 0);
	assert_int_equal(ask_as(1, true), 0);
	assert_int_equal(ask_as(2, false), EACCES);
	/* The file's mode is not the only lock. */
	assert_int_equal(chmod(path, 0666), 0);
	int status = 0;
	pid_t child = fork();
	if (!child) {
		if (setgroups(0, NULL) || setgid(54321) || setuid(12345))
			_exit(99);
		json_t *body = json_pack("{s:i}", "who", 1);
		json_t *have = control_ask(path, body, -1, 5, NULL, NULL, &why);
		const char *error = json_string_value(json_object_get(have, "error"));
		_exit(error && strstr(error, "not allowed") ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* ---- Without a server ---------------------------------------------------------------------------- */

static int create(const char *socket, const char *group, struct control **ret_control, struct loop *loop)
{
	struct config own = {.socket = socket, .socket_group = group};
	why.text[0] = 0;
	return control_create(&own, loop, answer, NULL, ret_control, &why);
}

static void places(void **state)
{
	struct loop *loop;
	struct control *first, *second;
	char place[128], *far = calloc(1, 200);
	(void)state;
	assert_int_equal(loop_create(&loop), 0);
	snprintf(place, sizeof(place), "%s", scratch_path("s.sock"));
	assert_int_equal(create(place, NULL, &first, loop), 0);
	assert_int_equal(create(place, NULL, &second, loop), -EADDRINUSE);
	assert_says(why.text, "another meshd");
	control_release(first);
	assert_int_equal(access(place, F_OK), -1);
	/* One that a killed process left behind is taken. */
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, place);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(create(place, NULL, &first, loop), 0);
	control_release(first);
	assert_int_equal(create(scratch_write("file", "x"), NULL, &first, loop), -EEXIST);
	assert_int_equal(access(scratch_path("file"), F_OK), 0);
	assert_int_equal(create(scratch_path("no/such/s.sock"), NULL, &first, loop), -ENOENT);
	assert_int_equal(create(place, "no-such-group-here", &first, loop), -EINVAL);
	assert_says(why.text, "no-such-group-here");
	memset(far, 'a', 199);
	assert_int_equal(create(far, NULL, &first, loop), -ENAMETOOLONG);
	free(far);
	loop_release(loop);
}

static void nobody_answers(void **state)
{
	json_t *body = json_pack("{s:b}", "echo", 1);
	char place[128];
	(void)state;
	snprintf(place, sizeof(place), "%s", scratch_path("deaf.sock"));
	assert_null(control_ask(place, body, -1, 1, NULL, NULL, &why));
	assert_says(why.text, "no meshd answers there");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, place);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	int64_t began_ms = loop_now_ms();
	assert_null(control_ask(place, body, -1, 1, NULL, NULL, &why));
	assert_in_range(loop_now_ms() - began_ms, 900, 3000);
	assert_says(why.text, "within 1 s");
	close(fd);
	json_decref(body);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(asks),
		TEST(pipelined),
		TEST(garbage),
		TEST(oversized),
		TEST(held_open),
		TEST(never_reads),
		TEST(flood),
		TEST(descriptors),
		TEST(subscription),
		TEST(slow_subscriber),
		TEST(too_many_subscribers),
		cmocka_unit_test_setup_teardown(peers, start_for_group, stop),
		cmocka_unit_test(places),
		cmocka_unit_test(nobody_answers),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
