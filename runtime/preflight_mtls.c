#define _GNU_SOURCE
#include "preflight_mtls.h"

#include "abi.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODYS_PORT = 9, OTHER_PORT = 4711 };

#define ARRAY(array) array, sizeof(array) / sizeof(*(array))

/* ---- Programs, by hand: each is a few instructions ---------------------------------------------------------- */

#define LOAD_U32(to, from, member) {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = to, .src_reg = from, .off = member}
#define STORE_U32(to, member, value) {.code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = to, .off = member, .imm = value}
#define SET(to, value) {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = to, .imm = value}
#define COPY(to, from) {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = to, .src_reg = from}
#define ADD(to, value) {.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = to, .imm = value}
#define SKIP_UNLESS(reg, value, count) {.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = reg, .imm = value, .off = count}
#define SKIP_IF(reg, value, count) {.code = BPF_JMP | BPF_JEQ | BPF_K, .dst_reg = reg, .imm = value, .off = count}
#define CALL(helper) {.code = BPF_JMP | BPF_CALL, .imm = helper}
#define EXIT {.code = BPF_JMP | BPF_EXIT}

static int load(enum bpf_prog_type type, enum bpf_attach_type attach, const struct bpf_insn *program, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach);
	return bpf_prog_load(type, "mesh_try", "GPL", program, count, &options);
}

static int load_taker(void)
{
	static const struct bpf_insn program[] = {
		SET(0, 1),
		LOAD_U32(2, 1, offsetof(struct bpf_sockopt, level)),
		SKIP_UNLESS(2, MESH_LEVEL, 2),
		SET(3, -1), /* the kernel need not see it */
		{.code = BPF_STX | BPF_MEM | BPF_W,
		 .dst_reg = 1,
		 .src_reg = 3,
		 .off = offsetof(struct bpf_sockopt, optlen)},
		EXIT,
	};
	return load(BPF_PROG_TYPE_CGROUP_SOCKOPT, BPF_CGROUP_SETSOCKOPT, ARRAY(program));
}

static int load_answerer(void)
{
	static const struct bpf_insn program[] = {
		SET(0, 1),
		LOAD_U32(2, 1, offsetof(struct bpf_sockopt, level)),
		SKIP_UNLESS(2, MESH_LEVEL, 2),
		SET(3, 0),
		{.code = BPF_STX | BPF_MEM | BPF_W,
		 .dst_reg = 1,
		 .src_reg = 3,
		 .off = offsetof(struct bpf_sockopt, retval)},
		EXIT,
	};
	return load(BPF_PROG_TYPE_CGROUP_SOCKOPT, BPF_CGROUP_GETSOCKOPT, ARRAY(program));
}

static int load_renamer(void)
{
	const struct bpf_insn program[] = {
		SET(3, htons(OTHER_PORT)),
		{.code = BPF_STX | BPF_MEM | BPF_W,
		 .dst_reg = 1,
		 .src_reg = 3,
		 .off = offsetof(struct bpf_sock_addr, user_port)},
		SET(0, 1),
		EXIT,
	};
	return load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_GETPEERNAME, ARRAY(program));
}

static int load_steerer(int listeners)
{
	const struct bpf_insn program[] = {
		COPY(6, 1),
		STORE_U32(10, -4, 0),
		COPY(2, 10),
		ADD(2, -4),
		{.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = listeners},
		{0},
		CALL(BPF_FUNC_map_lookup_elem),
		SKIP_IF(0, 0, 7),
		COPY(7, 0),
		COPY(1, 6),
		COPY(2, 7),
		SET(3, 0),
		CALL(BPF_FUNC_sk_assign),
		COPY(1, 7),
		CALL(BPF_FUNC_sk_release),
		SET(0, SK_PASS),
		EXIT,
	};
	return load(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, ARRAY(program));
}

/* ---- A process that goes where it is tried -------------------------------------------------------------------- */

/* 0 as a process ID: whoever writes. */
static int enter(const char *cgroup)
{
	char path[600];
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return r;
}

static int loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
	close(fd);
	return r;
}

/* Runs WORK in CGROUP (NULL: here) and in a network namespace of its own. */
static int elsewhere(const char *cgroup, int (*work)(void))
{
	int ends[2], r = -EPIPE;
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid_t child = fork();
	if (child < 0)
		r = -errno;
	if (child == 0) {
		r = cgroup ? enter(cgroup) : 0;
		if (!r)
			r = unshare(CLONE_NEWNET) ? -errno : loopback_up();
		if (!r)
			r = work();
		_exit(write(ends[1], &r, sizeof(r)) != sizeof(r));
	}
	close(ends[1]);
	if (child > 0 && read(ends[0], &r, sizeof(r)) != sizeof(r))
		r = -EPIPE;
	close(ends[0]);
	if (child > 0)
		waitpid(child, NULL, 0);
	return r;
}

/* PROGRAM is taken. */
static int attach(const char *cgroup, int program, enum bpf_attach_type type)
{
	if (program < 0)
		return program;
	int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int link = fd < 0 ? -errno : bpf_link_create(program, fd, type, NULL);
	if (fd >= 0)
		close(fd);
	close(program);
	return link;
}

static void drop(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* ---- What is tried ---------------------------------------------------------------------------------------------- */

static int ask_options(void)
{
	int value = 1;
	socklen_t len = sizeof(value);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = setsockopt(fd, MESH_LEVEL, MESH_OPTION_ASK, &value, len) ||
				getsockopt(fd, MESH_LEVEL, MESH_OPTION_ASK, &value, &len)
			? -errno
			: 0;
	close(fd);
	return r;
}

int preflight_options(const char *cgroup)
{
	int set = attach(cgroup, load_taker(), BPF_CGROUP_SETSOCKOPT);
	int get = set < 0 ? set : attach(cgroup, load_answerer(), BPF_CGROUP_GETSOCKOPT);
	int r = get < 0 ? get : elsewhere(cgroup, ask_options);
	drop(get);
	drop(set);
	return r;
}

/* A connection to PORT of loopback (0: LISTENER's own): what accept says of the peer's port. */
static int accept_one(int listener, uint16_t port)
{
	struct sockaddr_storage at, from = {0};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at), from_len = sizeof(from);
	if (listen(listener, 1) || getsockname(listener, (struct sockaddr *)&at, &len))
		return -errno;
	/* The port is at the same place in both families. */
	if (!port)
		to.sin_port = ((struct sockaddr_in *)&at)->sin_port;
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = client < 0 || connect(client, (struct sockaddr *)&to, sizeof(to)) ? -errno : 0;
	int server = r ? r : accept4(listener, (struct sockaddr *)&from, &from_len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!r)
		r = server < 0 ? -errno : ntohs(((struct sockaddr_in *)&from)->sin_port);
	drop(server);
	drop(client);
	return r;
}

static int ask_peername(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = bind(fd, (struct sockaddr *)&at, sizeof(at)) ? -errno : accept_one(fd, 0);
	close(fd);
	return r < 0 ? r : r == OTHER_PORT ? 0 : -EOPNOTSUPP;
}

int preflight_peername(const char *cgroup)
{
	int link = attach(cgroup, load_renamer(), BPF_CGROUP_INET4_GETPEERNAME);
	int r = link < 0 ? link : elsewhere(cgroup, ask_peername);
	drop(link);
	return r;
}

static int steer(int listener)
{
	__u32 zero = 0;
	__u64 value = listener;
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKHASH, "mesh_try", sizeof(zero), sizeof(value), 1, NULL);
	int r = map < 0 ? map : bpf_map_update_elem(map, &zero, &value, BPF_ANY);
	int program = r ? r : load_steerer(map);
	int netns = program < 0 ? program : open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int link = netns < 0 ? netns : bpf_link_create(program, netns, BPF_SK_LOOKUP, NULL);
	r = link < 0 ? link : accept_one(listener, NOBODYS_PORT);
	drop(link);
	drop(netns);
	drop(program);
	drop(map);
	return r < 0 ? r : 0;
}

static int ask_steering(void)
{
	int off = 0;
	struct sockaddr_in6 at = {.sin6_family = AF_INET6};
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) ||
				bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1)
			? -errno
			: steer(fd);
	close(fd);
	return r;
}

int preflight_steering(void)
{
	return elsewhere(NULL, ask_steering);
}

int preflight_stamp(int sockets)
{
	struct mesh_socket stamp = {.role = MESH_ROLE_PROXY, .netns = 1}, read = {0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = bpf_map_update_elem(sockets, &fd, &stamp, BPF_ANY);
	if (!r)
		r = bpf_map_lookup_elem(sockets, &fd, &read);
	if (!r && (read.role != stamp.role || read.netns != stamp.netns))
		r = -EOPNOTSUPP;
	close(fd);
	return r;
}
