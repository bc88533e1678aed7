#define _GNU_SOURCE
#include "kernel_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* include/uapi/asm-generic/socket.h, Linux 5.14 */
#endif

/* ---- Inside a namespace -------------------------------------------------------------------------- */

struct visit {
	int netns_fd, result;
	int (*work)(void *context);
	void *context;
};

static void *visit_run(void *context)
{
	struct visit *visit = context;
	visit->result = setns(visit->netns_fd, CLONE_NEWNET) ? -errno : visit->work(visit->context);
	return NULL;
}

int netns_run(int netns_fd, int (*work)(void *context), void *context)
{
	struct visit visit = {netns_fd, 0, work, context};
	pthread_t thread;
	int r = pthread_create(&thread, NULL, visit_run, &visit);
	if (r)
		return -r;
	pthread_join(thread, NULL);
	return visit.result;
}

static int read_cookie(void *context)
{
	uint64_t *cookie = context;
	socklen_t len = sizeof(*cookie);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len) ? -errno : 0;
	close(fd);
	return r;
}

int kernel_netns_cookie(int netns_fd, uint64_t *ret_cookie)
{
	return netns_run(netns_fd, read_cookie, ret_cookie);
}

/* ---- sk_lookup ----------------------------------------------------------------------------------- */

static struct pin_path netns_pin(const struct kernel *kernel, uint64_t cookie)
{
	return pin_path(kernel->config, "/netns/%" PRIu64, cookie);
}

/* 1: alive; 0: its namespace is gone; negative: no such pin. */
static int link_alive(const char *path)
{
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	int fd = bpf_obj_get(path);
	if (fd < 0)
		return fd;
	int r = bpf_obj_get_info_by_fd(fd, &info, &len);
	close(fd);
	return r ? r : info.netns.netns_ino != 0;
}

int kernel_attach_netns(struct kernel *kernel, int netns_fd, uint64_t *ret_cookie, struct why *why)
{
	uint64_t cookie = 0;
	int r = netns_run(netns_fd, read_cookie, &cookie);
	if (r)
		return why_set(why, r, "entering a network namespace: %s%s", strerror(-r),
			       r == -EPERM ? " (CAP_SYS_ADMIN is needed for it)" : "");
	*ret_cookie = cookie;
	struct pin_path path = netns_pin(kernel, cookie);
	r = link_alive(path.text);
	if (r > 0)
		return 0;
	if (r == 0)
		unlink(path.text);
	int link = bpf_link_create(kernel->programs[KERNEL_PROGRAM_d_lookup], netns_fd, BPF_SK_LOOKUP, NULL);
	if (link < 0)
		return why_set(why, link, "attaching sk_lookup to namespace %" PRIu64 ": %s", cookie,
			       link == -E2BIG ? "it has 64 such programs already" : strerror(-link));
	r = bpf_obj_pin(link, path.text);
	close(link);
	return r ? why_set(why, r, "%s: %s", path.text, strerror(-r)) : 0;
}

int kernel_netns_neighbours(struct kernel *kernel, int netns_fd)
{
	struct bpf_prog_info ours = {0};
	__u32 len = sizeof(ours), ids[64], count = 64;
	int others = 0;
	int r = bpf_prog_query(netns_fd, BPF_SK_LOOKUP, 0, NULL, ids, &count);
	if (!r)
		r = bpf_obj_get_info_by_fd(kernel->programs[KERNEL_PROGRAM_d_lookup], &ours, &len);
	if (r)
		return r;
	for (__u32 i = 0; i < count; i++)
		others += ids[i] != ours.id;
	return others;
}

/* ---- Sweeping ------------------------------------------------------------------------------------ */

struct sweep {
	struct kernel *kernel;
	int removed;
};

static int sweep_one(void *context, const char *name)
{
	struct sweep *sweep = context;
	__u64 cookie = strtoull(name, NULL, 10);
	struct pin_path path = netns_pin(sweep->kernel, cookie);
	if (link_alive(path.text) != 0 || unlink(path.text))
		return 0;
	bpf_map_delete_elem(sweep->kernel->maps[KERNEL_MAP_netns], &cookie);
	bpf_map_delete_elem(sweep->kernel->maps[KERNEL_MAP_covered], &cookie);
	sweep->removed++;
	return 0;
}

int kernel_sweep(struct kernel *kernel)
{
	struct sweep sweep = {kernel, 0};
	pin_each(pin_path(kernel->config, "/netns").text, sweep_one, &sweep);
	return sweep.removed;
}
