#define _GNU_SOURCE
#include "preflight.h"

#include "kernel_internal.h"
#include "preflight_mtls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

struct trial {
	struct config config; /* what the trials look at: cgroup, bpffs, pins */
	char cgroup[256];     /* found */
	struct object object; /* the runtime's, loaded */
	struct why why;	      /* the detail */
};

/* Each returns whether it works, with the detail in trial->why. */
static bool works(struct trial *trial, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool works(struct trial *trial, int r, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(trial->why.text, sizeof(trial->why.text), format, arguments);
	va_end(arguments);
	size_t len = strlen(trial->why.text);
	if (r < 0)
		snprintf(trial->why.text + len, sizeof(trial->why.text) - len, "%s%s", len ? ": " : "", strerror(-r));
	return r >= 0;
}

/* ---- Places ------------------------------------------------------------------------------------------ */

static bool try_cgroup(struct trial *trial)
{
	char line[1024], type[32];
	FILE *mounts = fopen("/proc/self/mounts", "re");
	while (mounts && !trial->cgroup[0] && fgets(line, sizeof(line), mounts))
		if (sscanf(line, "%*s %255s %31s", trial->cgroup, type) != 2 || strcmp(type, "cgroup2") != 0)
			trial->cgroup[0] = 0;
	if (mounts)
		fclose(mounts);
	if (!trial->cgroup[0])
		return works(trial, -ENOENT, "no cgroup2 is mounted (mount -t cgroup2 cgroup2 /sys/fs/cgroup)");
	if (!trial->config.cgroup)
		trial->config.cgroup = trial->cgroup;
	return works(trial, access(trial->config.cgroup, F_OK) ? -errno : 0, "%s", trial->config.cgroup);
}

static bool try_bpffs(struct trial *trial)
{
	return pin_check_bpffs(&trial->config, &trial->why) == 0 && works(trial, 0, "%s", trial->config.bpffs);
}

/* ---- Privileges -------------------------------------------------------------------------------------- */

static bool try_capabilities(struct trial *trial)
{
	static const struct {
		int number;
		const char *name;
	} needed[] = {{CAP_BPF, "CAP_BPF"}, {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_PERFMON, "CAP_PERFMON"}};
	unsigned long long has = 0;
	char line[256];
	FILE *status = fopen("/proc/self/status", "re");
	while (status && fgets(line, sizeof(line), status) && sscanf(line, "CapEff: %llx", &has) != 1)
		continue;
	if (status)
		fclose(status);
	/* CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON (capabilities(7)). */
	for (size_t i = 0; i < sizeof(needed) / sizeof(*needed); i++)
		if (!(has >> needed[i].number & 1) &&
		    (needed[i].number == CAP_NET_ADMIN || !(has >> CAP_SYS_ADMIN & 1)))
			return works(trial, -EPERM, "%s is missing", needed[i].name);
	return works(trial, 0, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON");
}

/* ---- Programs and maps -------------------------------------------------------------------------------- */

static const struct bpf_insn pass[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};

static int load_pass(enum bpf_prog_type type, enum bpf_attach_type attach, __u32 flags)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = attach, .prog_flags = flags);
	return bpf_prog_load(type, "mesh_try", "GPL", pass, sizeof(pass) / sizeof(*pass), &options);
}

static bool try_programs(struct trial *trial)
{
	int r = carried_open(CARRIED_RUNTIME, &trial->config, &trial->object, &trial->why);
	if (!r)
		r = object_load(&trial->object, &trial->why);
	if (r)
		return false;
	return works(trial, 0, "the dispatchers and their maps load");
}

static bool try_helper(struct trial *trial, enum bpf_prog_type type, enum bpf_func_id helper, const char *name)
{
	int r = libbpf_probe_bpf_helper(type, helper, NULL);
	return works(trial, r > 0 ? 0 : r < 0 ? r : -EOPNOTSUPP, "%s", name);
}

static bool try_loop(struct trial *trial)
{
	return try_helper(trial, BPF_PROG_TYPE_SYSCALL, BPF_FUNC_loop, "bpf_loop, in programs of the type syscall");
}

static bool try_retval(struct trial *trial)
{
	return try_helper(trial, BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval, "bpf_set_retval");
}

/* A cgroup of its own: a link at the mesh's would switch off a neighbour that may be overridden. */
static bool make_cgroup(struct trial *trial, char *ret_path, size_t room)
{
	if (!trial->config.cgroup)
		return works(trial, -ENOENT, "no cgroup");
	snprintf(ret_path, room, "%s/mesh-preflight-%d", trial->config.cgroup, (int)getpid());
	return works(trial, mkdir(ret_path, 0755) ? -errno : 0, "%s", ret_path);
}

static bool try_cgroup_link(struct trial *trial)
{
	char path[512];
	if (!make_cgroup(trial, path, sizeof(path)))
		return false;
	int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int program = load_pass(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT, 0);
	int link = program < 0 ? program : bpf_link_create(program, cgroup, BPF_CGROUP_INET4_CONNECT, NULL);
	if (link >= 0)
		close(link);
	if (program >= 0)
		close(program);
	if (cgroup >= 0)
		close(cgroup);
	rmdir(path);
	return works(trial, link, "bpf_link at a cgroup");
}

static bool try_test_run(struct trial *trial)
{
	struct bpf_sk_lookup lookup = {.family = AF_INET, .protocol = IPPROTO_TCP};
	__u8 frame[64] = {[12] = 0x08, [14] = 0x45};
	LIBBPF_OPTS(bpf_test_run_opts, lookup_options, .ctx_in = &lookup, .ctx_size_in = sizeof(lookup));
	LIBBPF_OPTS(bpf_test_run_opts, packet_options, .data_in = frame, .data_size_in = sizeof(frame));
	LIBBPF_OPTS(bpf_test_run_opts, none);
	struct {
		int fd;
		struct bpf_test_run_opts *options;
	} runs[] = {
		{load_pass(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, 0), &lookup_options},
		{load_pass(BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS, 0), &packet_options},
		{load_pass(BPF_PROG_TYPE_SYSCALL, 0, BPF_F_SLEEPABLE), &none},
	};
	int r = 0;
	for (size_t i = 0; i < sizeof(runs) / sizeof(*runs); i++) {
		if (!r)
			r = runs[i].fd < 0 ? runs[i].fd : bpf_prog_test_run_opts(runs[i].fd, runs[i].options);
		if (runs[i].fd >= 0)
			close(runs[i].fd);
	}
	return works(trial, r, "BPF_PROG_TEST_RUN of sk_lookup, cgroup_skb and syscall");
}

static bool load_carried(struct trial *trial, enum carried which, struct object *ret_object)
{
	if (!trial->object.bpf)
		return works(trial, -ENOENT, "its maps");
	return carried_load(which, &trial->object, &trial->config, ret_object, &trial->why) == 0;
}

static bool try_iterator(struct trial *trial)
{
	struct object adopt;
	if (!load_carried(trial, CARRIED_ADOPT, &adopt))
		return false;
	const struct bpf_program *program = bpf_object__find_program_by_name(adopt.bpf, "i_adopt");
	int link = program ? bpf_link_create(bpf_program__fd(program), 0, BPF_TRACE_ITER, NULL) : -ENOENT;
	if (link >= 0)
		close(link);
	object_close(&adopt);
	return works(trial, link, "iter/tcp (CONFIG_DEBUG_INFO_BTF)");
}

static bool try_near(struct trial *trial)
{
	struct object near;
	if (!load_carried(trial, CARRIED_NEAR, &near))
		return false;
	object_close(&near);
	return works(trial, 0, "bpf_rdonly_cast");
}

static bool try_jit(struct trial *trial)
{
	char digit = '?';
	int fd = open("/proc/sys/net/core/bpf_jit_enable", O_RDONLY | O_CLOEXEC);
	bool read_it = fd >= 0 && read(fd, &digit, 1) == 1;
	if (fd >= 0)
		close(fd);
	/* Built with CONFIG_BPF_JIT_ALWAYS_ON it may not be readable. */
	return works(trial, read_it && digit == '0' ? -EOPNOTSUPP : 0, "net.core.bpf_jit_enable = %c", digit);
}

/* ---- In a network namespace of its own ----------------------------------------------------------------- */

/* Runs WORK on a thread in a new namespace: nothing of the host's is touched. */
struct outing {
	int (*work)(int netns_fd);
};

static int outing_run(void *context)
{
	const struct outing *outing = context;
	if (unshare(CLONE_NEWNET))
		return -errno;
	int netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return -errno;
	int r = outing->work(netns);
	close(netns);
	return r;
}

static int in_new_netns(int (*work)(int netns_fd))
{
	struct outing outing = {work};
	int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (here < 0)
		return -errno;
	int r = netns_run(here, outing_run, &outing);
	close(here);
	return r;
}

static int lookup_there(int netns_fd)
{
	int program = load_pass(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, 0);
	if (program < 0)
		return program;
	int link = bpf_link_create(program, netns_fd, BPF_SK_LOOKUP, NULL);
	close(program);
	if (link >= 0)
		close(link);
	return link < 0 ? link : 0;
}

static bool try_lookup(struct trial *trial)
{
	return works(trial, in_new_netns(lookup_there), "sk_lookup in a network namespace");
}

static int cookie_there(int netns_fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);
	(void)netns_fd;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r = getsockopt(fd, SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &cookie, &len) ? -errno : 0;
	close(fd);
	return r;
}

static bool try_cookie(struct trial *trial)
{
	return works(trial, in_new_netns(cookie_there), "network namespaces: setns and SO_NETNS_COOKIE");
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

/* A connection to itself over loopback, reset from outside. */
static int reset_there(int netns_fd)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, from = at;
	struct mesh_tuple tuple = {.local = {[10] = 0xff, 0xff, 127, 0, 0, 1},
				   .remote = {[10] = 0xff, 0xff, 127, 0, 0, 1},
				   .protocol = IPPROTO_TCP};
	socklen_t len = sizeof(at), from_len = sizeof(from);
	int r = loopback_up();
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!r && (listener < 0 || client < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) ||
		   listen(listener, 1) || getsockname(listener, (struct sockaddr *)&at, &len) ||
		   connect(client, (struct sockaddr *)&at, sizeof(at)) ||
		   getsockname(client, (struct sockaddr *)&from, &from_len)))
		r = -errno;
	tuple.local_port = ntohs(from.sin_port);
	tuple.remote_port = ntohs(at.sin_port);
	if (!r)
		r = kernel_reset(netns_fd, &tuple);
	if (listener >= 0)
		close(listener);
	if (client >= 0)
		close(client);
	return r;
}

static bool try_reset(struct trial *trial)
{
	return works(trial, in_new_netns(reset_there), "SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY, tcp_diag)");
}

/* ---- Mutual TLS ------------------------------------------------------------------------------------------ */

static bool in_new_cgroup(struct trial *trial, int (*work)(const char *cgroup), const char *detail)
{
	char path[512];
	if (!make_cgroup(trial, path, sizeof(path)))
		return false;
	int r = work(path);
	rmdir(path);
	return works(trial, r, "%s", detail);
}

static bool try_options(struct trial *trial)
{
	return in_new_cgroup(trial, preflight_options,
			     "cgroup/setsockopt takes an unknown option, cgroup/getsockopt answers it");
}

static bool try_peername(struct trial *trial)
{
	return in_new_cgroup(trial, preflight_peername, "accept() says what cgroup/getpeername says");
}

static bool try_steering(struct trial *trial)
{
	return works(trial, preflight_steering(), "bpf_sk_assign of a listener in a SOCKHASH, IPv4 to one of IPv6");
}

static bool try_stamp(struct trial *trial)
{
	const struct bpf_map *sockets =
		trial->object.bpf ? bpf_object__find_map_by_name(trial->object.bpf, "sockets") : NULL;
	int fd = sockets ? bpf_map__fd(sockets) : -ENOENT;
	return works(trial, fd < 0 ? fd : preflight_stamp(fd), "sk_storage written from user space");
}

/* ---- All of them --------------------------------------------------------------------------------------- */

static const struct check {
	const char *name;
	bool required;
	bool (*works)(struct trial *trial);
	const char *costs;
} checks[] = {
	{"capabilities", true, try_capabilities, "nothing can be loaded"},
	{"cgroup2", true, try_cgroup, "there is nothing to attach to"},
	{"bpffs", true, try_bpffs, "enforcement would end with meshd"},
	{"programs", true, try_programs, "there are no dispatchers"},
	{"cgroup_link", true, try_cgroup_link, "connections cannot be judged where they are opened"},
	{"bpf_loop", true, try_loop, "policies do not load (Linux 5.17)"},
	{"netns", true, try_cookie, "workloads cannot be told apart (Linux 5.14)"},
	{"sk_lookup", true, try_lookup, "refused connections hang instead of failing at once"},
	{"test_run", true, try_test_run, "policies cannot be proved before a switch"},
	{"set_retval", false, try_retval, "refused applications see EPERM instead of ECONNREFUSED (Linux 5.18)"},
	{"iter_tcp", false, try_iterator, "connections older than meshd pass, and are only counted"},
	{"reset", false, try_reset, "live connections that a new policy denies hang instead of being reset"},
	{"sockopt", false, try_options, "mtls: strict connections are refused: the proxy cannot ask where they go"},
	{"steering", false, try_steering, "mtls: strict connections are refused: they do not reach the proxy"},
	{"stamp", false, try_stamp, "mtls: strict connections are refused: the proxy's sockets cannot be told apart"},
	{"getpeername", false, try_peername, "mtls: applications see their own address in place of the caller's"},
	{"near", false, try_near, "each packet costs a call more (Linux 6.2, CONFIG_DEBUG_INFO_BTF)"},
	{"jit", true, try_jit, "nothing loads: the kernel interprets no program that calls and jumps"},
};

static json_t *check_run(const struct check *check, struct trial *trial, bool *ok)
{
	trial->why.text[0] = 0;
	bool good = check->works(trial);
	*ok = *ok && (good || !check->required);
	return json_pack("{s:s, s:s, s:b, s:s, s:s}", "name", check->name, "need",
			 check->required ? "required" : "better", "works", good, "detail", trial->why.text, "costs",
			 check->costs);
}

json_t *preflight_run(const struct config *config)
{
	struct trial trial = {.config = {.bpffs = "/sys/fs/bpf", .pins = "mesh", .endpoints = 16, .sockets = 16}};
	struct utsname name = {0};
	json_t *results = json_array();
	bool ok = true;
	if (config && config->cgroup)
		trial.config.cgroup = config->cgroup;
	if (config && config->bpffs)
		trial.config.bpffs = config->bpffs;
	if (config && config->pins)
		trial.config.pins = config->pins;
	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++)
		json_array_append_new(results, check_run(&checks[i], &trial, &ok));
	if (trial.object.bpf)
		object_close(&trial.object);
	uname(&name);
	return json_pack("{s:s, s:b, s:o}", "kernel", name.release, "ok", ok, "checks", results);
}
