#include "proxy/ask.h"

#include <errno.h>
#include <sys/socket.h>

static int ask(int fd, enum mesh_option option, void *value, socklen_t len)
{
	return getsockopt(fd, MESH_LEVEL, option, value, &len) ? -errno : 0;
}

int ask_origin(int fd, struct mesh_origin *ret_origin)
{
	struct mesh_origin origin = {0};
	int r = ask(fd, MESH_OPTION_ORIGIN, &origin, sizeof(origin));
	if (!r && !origin.dst_port)
		r = -ENOENT;
	if (!r)
		*ret_origin = origin;
	return r;
}

int ask_decision(int fd, struct mesh_ask *question)
{
	question->allow = 0;
	return ask(fd, MESH_OPTION_ASK, question, sizeof(*question));
}

int ask_remember(int fd, const struct mesh_remember *remember)
{
	struct mesh_remember value = *remember;
	return ask(fd, MESH_OPTION_REMEMBER, &value, sizeof(value));
}

int ask_forget(int fd, const struct mesh_remember *remember)
{
	struct mesh_remember value = *remember;
	return ask(fd, MESH_OPTION_FORGET, &value, sizeof(value));
}
