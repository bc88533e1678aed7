/* `diff` against what a node enforces: meshd is asked for the text of the policy in force. */
#include "verb/verb.h"

#include "verb/diff.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_LIMIT = 64 << 20, ANSWER_MS = 30000, READ_AT_ONCE = 64 << 10 };

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- The node's end ------------------------------------------------------------------------------- */

static int node_connect(const char *path, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(address.sun_path))
		return verb_cannot("%s: longer than a socket's path can be (107 bytes)", path);
	strcpy(address.sun_path, path);
	*ret_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*ret_fd >= 0 && !connect(*ret_fd, (const struct sockaddr *)&address, sizeof(address)))
		return EXIT_YES;
	int error = errno;
	if (*ret_fd >= 0)
		close(*ret_fd);
	if (error == ENOENT || error == ECONNREFUSED)
		return verb_cannot("%s: no meshd answers there", path);
	return verb_cannot("%s: %s", path, strerror(error));
}

/* One line, malloc'd. */
static int node_read(const char *path, int fd, char **ret_line)
{
	size_t len = 0, cap = READ_AT_ONCE;
	char *line = malloc(cap), *end = NULL;
	int64_t until = now_ms() + ANSWER_MS;
	while (line && !end && len < ANSWER_LIMIT) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		int64_t left = until - now_ms();
		int r = left > 0 ? poll(&ready, 1, left) : 0;
		if (r < 0 && errno == EINTR)
			continue;
		ssize_t got = r > 0 ? recv(fd, line + len, cap - len - 1, 0) : 0;
		if (got <= 0)
			break;
		line[len + got] = 0;
		end = strchr(line + len, '\n');
		len += got;
		if (cap - len < READ_AT_ONCE / 2) {
			char *more = realloc(line, cap *= 2);
			if (!more)
				break;
			line = more;
		}
	}
	if (!end) {
		free(line);
		return verb_cannot("%s: no answer, or half of one", path);
	}
	*ret_line = line;
	return EXIT_YES;
}

static int node_ask(const char *path, json_t **ret_answer)
{
	static const char request[] = "{\"verb\":\"source\"}\n";
	char *line = NULL;
	int fd = -1, code = node_connect(path, &fd);
	if (code)
		return code;
	if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
		code = verb_cannot("%s: %s", path, strerror(errno));
	if (!code)
		code = node_read(path, fd, &line);
	close(fd);
	*ret_answer = line ? json_loads(line, 0, NULL) : NULL;
	free(line);
	if (code)
		return code;
	const char *error = json_string_value(json_object_get(*ret_answer, "error"));
	if (!error && json_is_array(json_object_get(*ret_answer, "source")))
		return EXIT_YES;
	code = verb_cannot("%s: %s", path, error ? error : "what answers there is not meshd");
	json_decref(*ret_answer);
	return code;
}

/* ---- Its policy ----------------------------------------------------------------------------------- */

static int take_files(struct run *run, const char *path, const json_t *files)
{
	size_t i, bytes = 0;
	json_t *file;
	json_array_foreach ((json_t *)files, i, file) {
		const json_t *name = json_object_get(file, "name"), *text = json_object_get(file, "text");
		size_t len = json_string_length(text);
		if (!json_is_string(name) || !json_is_string(text) || strlen(json_string_value(text)) != len ||
		    (bytes += len) > SOURCE_LIMIT_BYTES)
			return verb_cannot("%s: what answers there is not meshd", path);
		sources_add(&run->sources, arena_printf(run->arena, "node:%s", json_string_value(name)),
			    arena_copy(run->arena, json_string_value(text), len), len);
	}
	return i ? EXIT_YES : verb_cannot("%s: the policy in force has no text", path);
}

static int load_node(const struct options *options, struct run *run, const char *path)
{
	json_t *answer = NULL;
	int code = node_ask(path, &answer);
	if (code)
		return code;
	code = verb_begin(options, run);
	if (!code)
		code = take_files(run, path, json_object_get(answer, "source"));
	json_decref(answer);
	return code ? code : diff_check(options, run, OLD, path);
}

int verb_plan(const struct options *options, int argc, char **argv)
{
	struct run old = {0}, new = {0};
	const char *node = NULL, *value;
	int paths = 0;
	for (int i = 1; i < argc; i++) {
		if ((value = verb_value(argv, &i, "--node")))
			node = value;
		else
			argv[1 + paths++] = argv[i];
	}
	if (!node)
		return verb_cannot("which node? --node SOCKET is where its meshd listens");
	int code = verb_read(options, &new, paths, argv + 1);
	if (!code)
		code = diff_check(options, &new, NEW, paths == 1 ? argv[1] : "several files");
	int other = code == EXIT_CANNOT ? code : load_node(options, &old, node);
	code = code > other ? code : other;
	if (!code)
		code = diff_runs(options, &old, &new);
	verb_done(&old);
	verb_done(&new);
	return code;
}
