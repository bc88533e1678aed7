/* What a client may say to the control socket: the server runs in this process, the client's bytes are
 * the input. */
#define _GNU_SOURCE 1
#include "control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct loop *loop;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static json_t *answer(void *context, const json_t *body, int fd, const struct ucred *peer,
		      struct control_client *client)
{
	(void)context;
	(void)peer;
	if (fd >= 0)
		close(fd);
	if (json_object_get(body, "follow"))
		control_subscribe(client, json_deep_copy(json_object_get(body, "filter")));
	return json_pack("{s:O}", "echo", body);
}

static void stop(void *context, uint32_t events)
{
	(void)context;
	(void)events;
	loop_stop(loop);
}

static void start(void)
{
	static struct config config;
	struct control *control;
	struct why why = {0};
	snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/mesh-fuzz-%d.sock", getpid());
	config.socket = address.sun_path;
	if (loop_create(&loop) || control_create(&config, loop, answer, NULL, &control, &why)) {
		fprintf(stderr, "%s\n", why.text);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!loop)
		start();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		abort();
	send(fd, data, len, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	loop_timer(loop, loop_now_ms() + 1, stop, NULL);
	loop_run(loop);
	close(fd);
	loop_timer(loop, loop_now_ms() + 1, stop, NULL);
	loop_run(loop);
	return 0;
}
