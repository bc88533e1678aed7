#include "proxy/ask.h"

#include <errno.h>
#include <sys/socket.h>

static int get(int fd, enum mesh_option option, void *value, socklen_t len)
{
	return getsockopt(fd, MESH_LEVEL, option, value, &len) ? -errno : 0;
}

static int set(int fd, enum mesh_option option, const void *value, socklen_t len)
{
	return setsockopt(fd, MESH_LEVEL, option, value, len) ? -errno : 0;
}

int ask_origin(int fd, struct mesh_origin *ret_origin)
{
	struct mesh_origin origin = {0};
	int r = get(fd, MESH_OPTION_ORIGIN, &origin, sizeof(origin));
	if (!r && !origin.dst_port)
		r = -ENOENT;
	if (!r)
		*ret_origin = origin;
	return r;
}

int ask_decision(int fd, struct mesh_ask *question)
{
	struct mesh_ask answer;
	question->allow = 0;
	int r = set(fd, MESH_OPTION_ASK, question, sizeof(*question));
	if (!r)
		r = get(fd, MESH_OPTION_ASK, &answer, sizeof(answer));
	if (!r)
		*question = answer;
	return r;
}

int ask_remember(int fd, const struct mesh_remember *remember)
{
	return set(fd, MESH_OPTION_REMEMBER, remember, sizeof(*remember));
}

int ask_forget(int fd, const struct mesh_remember *remember)
{
	return set(fd, MESH_OPTION_FORGET, remember, sizeof(*remember));
}
