/* The kernel's part, played by a test: in place of runtime/proxy/ask.c, answers from a file that the test maps too.
 * $ASK_SCRIPT names it; it is mapped before main, as the proxy opens nothing later. */
#define _GNU_SOURCE 1
#include "proxy/ask.h"
#include "proxy/hop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct script {
	uint32_t asked[4]; /* by kind */
	uint32_t remembered, forgotten;
	uint32_t denied_port; /* RECEIVER says no to it, and CALLER where it asks again */
	uint32_t deny_server;
	uint32_t generation;
	uint32_t rule;
	uint32_t pad[6];
	/* Where a connection goes, by the caller's port; 0::0: nobody steered it. The first is everybody's who has
	 * none. */
	struct {
		uint8_t ip[16];
		uint32_t port;
	} target[65536];
};
static struct script *script;

__attribute__((constructor)) static void script_map(void)
{
	const char *path = getenv("ASK_SCRIPT");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*script), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		script = at;
	if (fd >= 0)
		close(fd);
}

int ask_origin(int fd, struct mesh_origin *ret_origin)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	struct hop peer;
	struct mesh_origin origin = {.endpoint = 1};
	if (!script || getpeername(fd, (struct sockaddr *)&address, &len) || hop_from_sockaddr(&address, &peer))
		return -ENOPROTOOPT;
	unsigned at = script->target[peer.port].port ? peer.port : 0;
	if (!script->target[at].port)
		return -ENOENT;
	memcpy(origin.src, peer.ip, 16);
	memcpy(origin.dst, script->target[at].ip, 16);
	origin.src_port = peer.port;
	origin.dst_port = (uint16_t)script->target[at].port;
	origin.generation = script->generation;
	*ret_origin = origin;
	return 0;
}

int ask_decision(int fd, struct mesh_ask *question)
{
	(void)fd;
	question->allow = 0;
	if (!script)
		return -ENOPROTOOPT;
	script->asked[question->kind & 3]++;
	bool denied =
		question->dst_port == script->denied_port && (question->kind == MESH_ASK_RECEIVER || question->again);
	question->allow = question->kind == MESH_ASK_SERVER ? !script->deny_server : !denied;
	question->reason = question->kind == MESH_ASK_SERVER && !question->allow ? MESH_ASK_NOT_HIS : MESH_ASK_DECIDED;
	question->verdict = question->allow;
	question->rule = script->rule;
	question->generation = script->generation;
	return 0;
}

int ask_remember(int fd, const struct mesh_remember *remember)
{
	(void)fd;
	(void)remember;
	script->remembered++;
	return 0;
}

int ask_forget(int fd, const struct mesh_remember *remember)
{
	(void)fd;
	(void)remember;
	script->forgotten++;
	return 0;
}
