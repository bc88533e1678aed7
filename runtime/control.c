/* The control socket: who may come, and who listens to flows. */
#define _GNU_SOURCE 1
#include "control_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	RESERVED_FOR_ROOT = 8, /* of the clients: who may use `off` is never shut out by a group's flood */
	SUBSCRIBERS_LIMIT = CONTROL_LIMIT_CLIENTS / 2,
	BACKLOG = 128,
	SWEEP_MS = 500,
};

static void control_on_sweep(void *context, uint32_t events);

/* ---- Coming and going ---------------------------------------------------------------------------- */

static bool group_has(const struct control *control, int fd, const struct ucred *peer)
{
	gid_t groups[1024];
	socklen_t bytes = sizeof(groups);
	if (!control->has_group)
		return false;
	if (peer->gid == control->group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes))
		return false;
	for (size_t i = 0; i < bytes / sizeof(*groups); i++)
		if (groups[i] == control->group)
			return true;
	return false;
}

static void refuse_at_door(int fd, const char *why)
{
	char line[256];
	size_t len = 0;
	json_t *answer = json_pack("{s:s}", "error", why);
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	if (text && strlen(text) + 2 < sizeof(line)) {
		len = strlen(text);
		memcpy(line, text, len);
		line[len++] = '\n';
	}
	/* The kernel's buffer takes a first line always; whoever does not read it has lost nothing. */
	if (send(fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		len = 0;
	free(text);
	json_decref(answer);
	close(fd);
}

static void client_add(struct control *control, int fd, const struct ucred *peer)
{
	struct control_client *client = calloc(1, sizeof(*client));
	if (!client) {
		close(fd);
		return;
	}
	*client = (struct control_client){.next = control->clients,
					  .control = control,
					  .fd = fd,
					  .passed = -1,
					  .peer = *peer,
					  .until_ms = loop_now_ms() + CONTROL_IDLE_S * 1000};
	if (loop_watch(control->loop, fd, EPOLLIN, client_on_event, client)) {
		close(fd);
		free(client);
		return;
	}
	control->clients = client;
	control->client_count++;
	loop_timer(control->loop, loop_now_ms() + SWEEP_MS, control_on_sweep, control);
}

static void client_admit(struct control *control, int fd)
{
	struct ucred peer;
	socklen_t bytes = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes)) {
		close(fd);
		return;
	}
	bool is_root = peer.uid == 0 || peer.uid == geteuid();
	unsigned limit = CONTROL_LIMIT_CLIENTS - (is_root ? 0 : RESERVED_FOR_ROOT);
	if (!is_root && !group_has(control, fd, &peer))
		refuse_at_door(fd, "not allowed: only root and the group of `socket_group` may ask");
	else if (control->client_count >= limit)
		refuse_at_door(fd, "too many clients: try again when another has ended");
	else
		client_add(control, fd, &peer);
}

static void control_on_accept(void *context, uint32_t events)
{
	struct control *control = context;
	(void)events;
	control_enter(control);
	for (int i = 0; i < BACKLOG; i++) {
		int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			client_admit(control, fd);
			continue;
		}
		if (errno != EMFILE && errno != ENFILE)
			break;
		/* Out of descriptors: one is kept to take the connection and end it, else the loop
		 * would be woken for it for ever. */
		close(control->spare);
		fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			close(fd);
		control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	control_leave(control);
}

static void control_on_sweep(void *context, uint32_t events)
{
	struct control *control = context;
	int64_t now_ms = loop_now_ms();
	(void)events;
	control_enter(control);
	for (struct control_client *at = control->clients; at; at = at->next) {
		if (at->is_dead || at->is_subscribed || at->until_ms > now_ms)
			continue;
		if (!client_pending(at)) {
			client_refuse(at, "no whole request for 10 s");
			client_flush(at);
		}
		client_kill(at);
	}
	control_leave(control);
	if (control->clients)
		loop_timer(control->loop, now_ms + SWEEP_MS, control_on_sweep, control);
}

/* ---- The socket ---------------------------------------------------------------------------------- */

/* A socket that somebody answers on is not ours to take. */
static int socket_clear(const struct sockaddr_un *address, struct why *why)
{
	struct stat found;
	if (lstat(address->sun_path, &found))
		return errno == ENOENT
			       ? 0
			       : why_set(why, -errno, "%s: %m: check the folders of `socket`", address->sun_path);
	if (!S_ISSOCK(found.st_mode))
		return why_set(why, -EEXIST,
			       "%s: there is something that is no socket: move it away, or change `socket`",
			       address->sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return why_set(why, -errno, "%s: %m", address->sun_path);
	int error = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? errno : 0;
	close(fd);
	if (!error || error == EAGAIN)
		return why_set(why, -EADDRINUSE, "%s: another meshd answers there: stop it first", address->sun_path);
	if (unlink(address->sun_path) && errno != ENOENT)
		return why_set(why, -errno, "%s: a stale socket that cannot be removed: %m", address->sun_path);
	return 0;
}

static int folder_make(const char *path)
{
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
	const char *slash = strrchr(path, '/');
	if (!slash || slash == path)
		return 0;
	memcpy(folder, path, (size_t)(slash - path));
	folder[slash - path] = 0;
	return mkdir(folder, 0755) && errno != EEXIST ? -errno : 0;
}

/* Nobody can connect between bind and listen, so the mode is right before the first one comes. */
static int socket_open(struct control *control, const struct sockaddr_un *address, struct why *why)
{
	struct stat made;
	const char *path = address->sun_path;
	int r = folder_make(path);
	if (r)
		return why_set(why, r, "%s: its folder cannot be made: %s", path, strerror(-r));
	r = socket_clear(address, why);
	if (r)
		return r;
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (control->fd < 0)
		return why_set(why, -errno, "%s: %m", path);
	mode_t before = umask(0177);
	r = bind(control->fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	umask(before);
	if (r)
		return why_set(why, r, "%s: the control socket cannot be made: %s", path, strerror(-r));
	if ((control->has_group && lchown(path, (uid_t)-1, control->group)) || chmod(path, 0660) ||
	    lstat(path, &made) || listen(control->fd, BACKLOG))
		return why_set(why, -errno, "%s: the control socket cannot be opened to its group: %m", path);
	control->inode = made.st_ino;
	return 0;
}

static int group_find(struct control *control, const char *name, struct why *why)
{
	if (!name)
		return 0;
	struct group *group = getgrnam(name);
	if (!group)
		return why_set(why, -EINVAL,
			       "socket_group: there is no group '%s' on this node: create it, or leave the key out",
			       name);
	control->group = group->gr_gid;
	control->has_group = true;
	return 0;
}

int control_create(const struct config *config, struct loop *loop, control_handler handler, void *context,
		   struct control **ret_control, struct why *why)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(config->socket) >= sizeof(address.sun_path))
		return why_set(why, -ENAMETOOLONG,
			       "%s: longer than a socket's path can be (107 bytes): shorten `socket`", config->socket);
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return why_set(why, -ENOMEM, "out of memory");
	*control = (struct control){.loop = loop, .handler = handler, .context = context, .fd = -1};
	control->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	strcpy(control->path, config->socket);
	strcpy(address.sun_path, config->socket);
	int r = group_find(control, config->socket_group, why);
	if (!r)
		r = socket_open(control, &address, why);
	if (!r) {
		r = loop_watch(loop, control->fd, EPOLLIN, control_on_accept, control);
		if (r)
			why_set(why, r, "%s: cannot be watched: %s", config->socket, strerror(-r));
	}
	if (r) {
		control_release(control);
		return r;
	}
	*ret_control = control;
	return 0;
}

void control_release(struct control *control)
{
	struct stat found;
	if (!control)
		return;
	control_enter(control);
	for (struct control_client *at = control->clients; at; at = at->next)
		client_kill(at);
	control_leave(control);
	loop_timer(control->loop, 0, control_on_sweep, control);
	loop_forget(control->loop, control->fd);
	/* Another meshd may have taken the path since. */
	if (control->inode && !lstat(control->path, &found) && found.st_ino == control->inode)
		unlink(control->path);
	if (control->fd >= 0)
		close(control->fd);
	if (control->spare >= 0)
		close(control->spare);
	free(control);
}

/* ---- Subscriptions ------------------------------------------------------------------------------- */

void control_subscribe(struct control_client *client, json_t *filter)
{
	struct control *control = client->control;
	if (client->is_dead || client->is_subscribed || control->subscriber_count >= SUBSCRIBERS_LIMIT) {
		client->is_refused = !client->is_dead && !client->is_subscribed;
		json_decref(filter);
		return;
	}
	client->is_subscribed = true;
	client->filter = filter;
	control->subscriber_count++;
}

void control_publish(struct control *control, const char *line, const json_t *flow,
		     int (*matches)(const json_t *filter, const json_t *flow))
{
	size_t len = strlen(line);
	control_enter(control);
	for (struct control_client *at = control->clients; at; at = at->next) {
		if (at->is_dead || !at->is_subscribed || at->is_closing ||
		    (at->filter && matches && !matches(at->filter, flow)))
			continue;
		if (client_pending(at) + len > CONTROL_LIMIT_PENDING) {
			control->dropped++;
			continue;
		}
		client_write(at, line, len);
		client_settle(at);
	}
	control_leave(control);
}

unsigned control_subscribers(const struct control *control)
{
	return control->subscriber_count;
}

uint64_t control_dropped(const struct control *control)
{
	return control->dropped;
}
