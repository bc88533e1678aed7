#define _GNU_SOURCE
/* The node proxy's life: started in a cgroup of its own, with a broker beside it; replaced when meshd starts anew, and
 * when it dies. What it is told stands in mtls_tell.c. */
#include "mtls.h"

#include "base/file.h"
#include "broker.h"
#include "proxy/control.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RESTART_MS = 500, STATUS_MS = 1000, HIGH_FD = 64 };

/* ---- Children ------------------------------------------------------------------------------------------ */

static int join_cgroup(const char *cgroup)
{
	char path[1100];
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return r;
}

/* A session of its own: what ends meshd's terminal or unit does not end it. */
static int child_begin(const struct mtls *mtls)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	return join_cgroup(mtls->cgroup);
}

/* Moves FDS to 3, 4 ... and closes all others. */
static void keep_only(int *fds, int count)
{
	for (int i = 0; i < count; i++)
		fds[i] = fcntl(fds[i], F_DUPFD, HIGH_FD);
	for (int i = 0; i < count; i++)
		dup2(fds[i], 3 + i);
	close_range(3 + count, ~0u, 0);
}

struct ends {
	int control[2], proxy[2], command[2]; /* meshd or broker first, the child second */
};

static void __attribute__((noreturn)) be_broker(const struct node *node, const struct ends *ends)
{
	int fds[] = {ends->command[1], ends->proxy[0], kernel_map(node->kernel, "sockets")};
	if (child_begin(&node->mtls))
		_exit(1);
	keep_only(fds, 3);
	prctl(PR_SET_NAME, "mesh-broker");
	_exit(broker_serve(&(struct broker_setup){3, 4, 5}) ? 1 : 0);
}

/* The program was opened before: its folder may be nobody else's to enter. */
static void __attribute__((noreturn)) be_proxy(const struct node *node, const struct ends *ends, int program,
					       const struct passwd *user)
{
	static char *const argv[] = {"meshp", NULL}, *const environment[] = {NULL};
	int fds[] = {ends->control[1], ends->proxy[1], program};
	if (child_begin(&node->mtls))
		_exit(1);
	keep_only(fds, 3);
	fcntl(5, F_SETFD, FD_CLOEXEC);
	if (setgroups(0, NULL) || setresgid(user->pw_gid, user->pw_gid, user->pw_gid) ||
	    setresuid(user->pw_uid, user->pw_uid, user->pw_uid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(1);
	fexecve(5, argv, environment);
	_exit(127);
}

/* ---- Starting ------------------------------------------------------------------------------------------ */

static int open_program(const struct config *config, struct why *why)
{
	char self[1024] = "", path[1100];
	if (config->mtls_program)
		snprintf(path, sizeof(path), "%s", config->mtls_program);
	else if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0)
		snprintf(path, sizeof(path), "%s/meshp", dirname(self));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? why_set(why, -errno, "the node proxy %s: %s", path, strerror(errno)) : fd;
}

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
}

static int open_ends(struct ends *ends)
{
	int *pairs[] = {ends->control, ends->proxy, ends->command};
	*ends = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}};
	for (int i = 0; i < 3; i++)
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pairs[i])) {
			int r = -errno;
			for (int k = 0; k < i; k++)
				close_pair(pairs[k]);
			return r;
		}
	return 0;
}

static int start_children(struct node *node, int program, const struct passwd *user, struct why *why)
{
	struct mtls *mtls = &node->mtls;
	struct ends ends;
	int r = open_ends(&ends);
	if (r)
		return why_set(why, r, "the node proxy: %s", strerror(-r));
	mtls->broker = fork();
	if (mtls->broker == 0)
		be_broker(node, &ends);
	mtls->pid = mtls->broker > 0 ? fork() : -1;
	if (mtls->pid == 0)
		be_proxy(node, &ends, program, user);
	close(ends.control[1]);
	close(ends.command[1]);
	close_pair(ends.proxy);
	if (mtls->pid < 0) {
		close(ends.control[0]);
		close(ends.command[0]);
		mtls->pid = mtls->broker = 0;
		return why_set(why, -errno, "the node proxy: %s", strerror(errno));
	}
	fcntl(ends.control[0], F_SETFL, O_NONBLOCK);
	mtls->control = ends.control[0];
	mtls->line = (struct broker_line){.fd = ends.command[0]};
	return 0;
}

/* "PID START": the start tells a process from a later one of its number (proc(5), stat, field 22). */
static unsigned long long start_of(pid_t pid)
{
	char path[64], line[1024];
	unsigned long long start = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	FILE *file = fopen(path, "re");
	const char *rest = file && fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	for (int field = 2; rest && field < 22; field++)
		rest = strchr(rest + 1, ' ');
	if (rest)
		start = strtoull(rest, NULL, 10);
	if (file)
		fclose(file);
	return start;
}

static void pid_path(const struct node *node, char *path, size_t size)
{
	snprintf(path, size, "%s/proxy.pid", node->config->state);
}

static void save_pid(const struct node *node)
{
	char path[1100], line[64];
	struct why why = {0};
	pid_path(node, path, sizeof(path));
	int len = snprintf(line, sizeof(line), "%d %llu\n", node->mtls.pid, start_of(node->mtls.pid));
	if (file_replace(path, line, (size_t)len, &why))
		node_say("%s: the next meshd will not know of this node proxy", why.text);
}

/* The proxy that an earlier meshd started: it drains, and its broker ends with it. */
static void retire_older(const struct node *node)
{
	char path[1100];
	int pid = 0;
	unsigned long long start = 0;
	pid_path(node, path, sizeof(path));
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	if (fscanf(file, "%d %llu", &pid, &start) == 2 && pid > 1 && start && start_of(pid) == start)
		kill(pid, SIGTERM);
	fclose(file);
}

/* The children of a start that failed: nobody listens to them, and as long as they are there none is started again. */
static void abandon(struct mtls *mtls)
{
	kill(mtls->pid, SIGKILL); /* its broker ends with it */
	close(mtls->control);
	close(mtls->line.fd);
	mtls->control = mtls->line.fd = -1;
	mtls->stamp = 0;
}

static int start(struct node *node, struct why *why)
{
	struct mtls *mtls = &node->mtls;
	const struct config *config = node->config;
	const struct passwd *user = getpwnam(config->mtls_user);
	if (!user || user->pw_uid == 0)
		return why_set(why, -EINVAL, "'mtls: user': %s %s", config->mtls_user,
			       user ? "is root: the proxy faces the wire, and must hold no power"
				    : "is no user here: useradd --system mesh-proxy");
	int program = open_program(config, why);
	if (program < 0)
		return program;
	int r = mkdir(mtls->cgroup, 0755) && errno != EEXIST
			? why_set(why, -errno, "%s: %s", mtls->cgroup, strerror(errno))
			: kernel_attach_proxy(node->kernel, mtls->cgroup, why);
	if (!r)
		r = start_children(node, program, user, why);
	close(program);
	if (r)
		return r;
	/* Files before places: who takes connections must be able to say who he is. */
	r = mtls_hello(node);
	if (!r)
		mtls_tell_files(node);
	if (!r)
		r = loop_watch(node->loop, mtls->control, EPOLLIN, mtls_hear, node);
	if (!r)
		return 0;
	abandon(mtls);
	return why_set(why, r, "the node proxy: %s", r == -EPIPE ? "it ended as soon as it was started" : strerror(-r));
}

/* "mesh-proxy", where `pins` is not said otherwise: each set of pins has a proxy of its own. */
static void cgroup_path(const struct config *config, char *path, size_t size)
{
	snprintf(path, size, "%s/%s-proxy", config->cgroup, config->pins);
}

static void note_problem(struct mtls *mtls, const char *text)
{
	free(mtls->problem);
	mtls->problem = text ? strdup(text) : NULL;
}

int mtls_start(struct node *node, struct why *why)
{
	struct mtls *mtls = &node->mtls;
	const struct config *config = node->config;
	if (!mtls->wanted) {
		retire_older(node);
		return 0;
	}
	cgroup_path(config, mtls->cgroup, sizeof(mtls->cgroup));
	return start(node, why);
}

/* ---- Its end ------------------------------------------------------------------------------------------- */

void mtls_lost(struct node *node)
{
	struct mtls *mtls = &node->mtls;
	loop_forget(node->loop, mtls->control);
	close(mtls->control);
	close(mtls->line.fd);
	mtls->control = mtls->line.fd = -1;
	json_decref(mtls->told);
	json_decref(mtls->domains);
	json_decref(mtls->until);
	free(mtls->refused);
	mtls->refused = NULL;
	mtls->told = mtls->domains = mtls->until = NULL;
	mtls->start_ms = loop_now_ms() + RESTART_MS;
	mtls->stamp = 0;
	mtls->questions = mtls->answers = 0;
	mtls->unanswered_ms = mtls->unlooked_ms = 0;
	mtls->restarts++;
	if (!mtls->problem) {
		note_problem(mtls, "the node proxy ended; it is started again");
		node_say("%s", mtls->problem);
	}
	/* Its listeners went with it: nothing is steered until there is another. */
	node->find_again = true;
}

static void reap(pid_t *pid)
{
	if (*pid > 0 && waitpid(*pid, NULL, WNOHANG) == *pid)
		*pid = 0;
}

void mtls_tick(struct node *node)
{
	struct mtls *mtls = &node->mtls;
	struct why why = {0};
	if (!mtls->wanted)
		return;
	reap(&mtls->pid);
	reap(&mtls->broker);
	/* Without it the proxy can make no socket, and every connection would wait for one. */
	if (mtls->control >= 0 && !mtls->broker && mtls->pid) {
		if (!mtls->problem)
			node_say("the node proxy's broker ended");
		note_problem(mtls, "the node proxy's broker ended: no connection can be made that is strict; both are "
				   "started again");
		kill(mtls->pid, SIGKILL);
	}
	if (mtls->control < 0 && !mtls->pid && loop_now_ms() >= mtls->start_ms) {
		if (start(node, &why)) {
			note_problem(mtls, why.text);
			mtls->start_ms = loop_now_ms() + RESTART_MS * 10;
			return;
		}
		note_problem(mtls, NULL);
		save_pid(node);
		node->find_again = true;
	}
	mtls_tell_files(node);
	if (loop_now_ms() >= mtls->status_ms) {
		mtls->status_ms = loop_now_ms() + STATUS_MS;
		mtls_ask_status(node);
		broker_ask(&mtls->line);
	}
}

/* Everything is told: what comes from now on comes to the new one. */
void mtls_take_over(struct node *node)
{
	if (!node->mtls.wanted || node->mtls.control < 0)
		return;
	retire_older(node);
	save_pid(node);
}

/* Everybody in the cgroup is ours; cgroup.kill ends all at once (Linux 5.14). */
void mtls_uninstall(const struct config *config)
{
	char cgroup[1024], path[1100];
	cgroup_path(config, cgroup, sizeof(cgroup));
	snprintf(path, sizeof(path), "%s/cgroup.kill", cgroup);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	bool ended = write(fd, "1", 1) == 1;
	close(fd);
	for (int i = 0; ended && i < 50 && rmdir(cgroup) && errno == EBUSY; i++)
		usleep(20000);
	snprintf(path, sizeof(path), "%s/proxy.pid", config->state);
	unlink(path);
}

void mtls_release(struct node *node)
{
	struct mtls *mtls = &node->mtls;
	if (!mtls->wanted)
		return;
	if (mtls->control >= 0)
		close(mtls->control);
	if (mtls->line.fd >= 0)
		close(mtls->line.fd);
	json_decref(mtls->told);
	json_decref(mtls->files);
	json_decref(mtls->status);
	json_decref(mtls->file_problems);
	json_decref(mtls->domains);
	json_decref(mtls->until);
	free(mtls->folder_problem);
	free(mtls->refused);
	free(mtls->problem);
}

json_t *mtls_status(struct node *node)
{
	const struct mtls *mtls = &node->mtls;
	if (!mtls->wanted)
		return json_null();
	json_t *status = mtls->files ? json_deep_copy(mtls->files) : json_object();
	if (mtls->status)
		json_object_update(status, mtls->status);
	json_object_set_new(status, "pid", json_integer(mtls->pid));
	json_object_set_new(status, "restarts", json_integer(mtls->restarts));
	json_object_set_new(status, "problem", mtls->problem ? json_string(mtls->problem) : json_null());
	json_t *problems = json_object_get(status, "problems");
	if (!json_is_array(problems)) {
		problems = json_array();
		json_object_set_new(status, "problems", problems);
	}
	if (mtls->file_problems)
		json_array_extend(problems, mtls->file_problems);
	if (mtls->folder_problem)
		json_array_append_new(problems, json_string(mtls->folder_problem));
	return status;
}
