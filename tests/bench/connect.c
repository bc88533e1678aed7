/* What the node's connect4 costs: connect PINS FLOOR.bpf.o CGROUP FLOOR_CGROUP SERVICE:PORT BACKEND:PORT COUNT
 *
 * COUNT connects from each of the two cgroups in turn, best of several rounds, by the kernel's own
 * statistics (BPF_ENABLE_STATS). In FLOOR_CGROUP an empty program is attached. One JSON object: on one
 * socket again and again, so that nothing is allocated, or on a fresh socket each. Where the backends have
 * no route the hook runs and nothing else: all it touches is in the caches. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 40 }; /* short ones: less than a time slice */

static int fail(const char *what)
{
	fprintf(stderr, "connect: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void join(const char *cgroup)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	FILE *file = fopen(path, "we");
	if (!file || fprintf(file, "%d", getpid()) < 0 || fclose(file))
		fail(path);
}

static struct sockaddr_in address_of(const char *text)
{
	char host[64] = "";
	int port = 0;
	struct sockaddr_in address = {.sin_family = AF_INET};
	sscanf(text, "%63[^:]:%d", host, &port);
	address.sin_port = htons(port);
	inet_pton(AF_INET, host, &address.sin_addr);
	return address;
}

static int new_socket(void)
{
	struct linger at_once = {1, 0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	return fd < 0 ? fail("socket") : fd;
}

static bool is_no_route(int error)
{
	return error == ENETUNREACH || error == EHOSTUNREACH || error == EINVAL;
}

static void connect_many(const struct sockaddr_in *to, int count, bool fresh)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int fd = fresh ? -1 : new_socket();
	for (int i = 0; i < count; i++) {
		if (fresh)
			fd = new_socket();
		if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) && errno != EINPROGRESS &&
		    !is_no_route(errno))
			fail("connect");
		if (fresh)
			close(fd);
		else
			connect(fd, &nowhere, sizeof(nowhere));
	}
	if (!fresh)
		close(fd);
}

static double measure(int program, const struct sockaddr_in *to, int count, bool fresh)
{
	struct bpf_prog_info before = {0}, after = {0};
	__u32 len = sizeof(before);
	/* The first one allocates. */
	if (!fresh)
		count += 1;
	bpf_obj_get_info_by_fd(program, &before, &len);
	connect_many(to, count, fresh);
	bpf_obj_get_info_by_fd(program, &after, &len);
	if (after.run_cnt - before.run_cnt < (__u64)count)
		fail("the program did not run");
	return (double)(after.run_time_ns - before.run_time_ns) / (after.run_cnt - before.run_cnt);
}

static int load_floor(const char *path)
{
	struct bpf_program *program;
	struct bpf_object *object = bpf_object__open(path);
	if (!object)
		fail(path);
	bpf_object__for_each_program (program, object)
		bpf_program__set_autoload(program, strcmp(bpf_program__name(program), "c_floor") == 0);
	if (bpf_object__load(object))
		fail(path);
	return bpf_program__fd(bpf_object__find_program_by_name(object, "c_floor"));
}

static void less(double *best, double one)
{
	if (*best == 0 || one < *best)
		*best = one;
}

int main(int argc, char **argv)
{
	char path[512];
	double same = 0, fresh = 0, floor = 0;
	if (argc != 8)
		return fputs("usage: connect PINS FLOOR.bpf.o CGROUP FLOOR_CGROUP SERVICE:PORT BACKEND:PORT COUNT\n",
			     stderr),
		       2;
	snprintf(path, sizeof(path), "%s/prog/d_connect4", argv[1]);
	int program = bpf_obj_get(path), empty = load_floor(argv[2]), stats = bpf_enable_stats(BPF_STATS_RUN_TIME),
	    cgroup = open(argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = atoi(argv[7]);
	if (program < 0 || stats < 0 || cgroup < 0)
		fail(path);
	int link = bpf_link_create(empty, cgroup, BPF_CGROUP_INET4_CONNECT, NULL);
	if (link < 0)
		fail("c_floor");
	struct sockaddr_in service = address_of(argv[5]), backend = address_of(argv[6]);
	for (int round = 0; round < ROUNDS; round++) {
		join(argv[3]);
		less(&same, measure(program, &service, count, false));
		less(&fresh, measure(program, &service, count, true));
		join(argv[4]);
		less(&floor, measure(empty, &backend, count, false));
	}
	printf("{\"floor_ns\": %.0f, \"same_ns\": %.0f, \"fresh_ns\": %.0f}\n", floor, same - floor, fresh - floor);
	close(link);
	return 0;
}
