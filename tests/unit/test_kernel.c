/* The kernel's side of the node on a real kernel: in a cgroup, a bpffs and a network namespace of its
 * own, all of which are gone behind it. Needs root and BPF; else every test is skipped. */
#define _GNU_SOURCE
#include "kernel.h"
#include "names.h"
#include "base/bundle.h"
#include "preflight.h"
#include "preflight_mtls.h"
#include "registry.h"
#include "view.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct world {
	char folder[64], bpffs[96], cgroup[256], object[128];
	struct config config;
	void *elf;
	size_t elf_len;
	pid_t holder; /* a process that keeps the namespace */
	int netns;
	bool mounted;
	const char *reason; /* why nothing can be tried here */
} world = {.netns = -1};

static struct kernel *kernel;
static struct generation *generation;
static struct why why;

#define assert_works(call)                                                                                             \
	do {                                                                                                           \
		why.text[0] = 0;                                                                                       \
		int assert_r = (call);                                                                                 \
		if (assert_r < 0)                                                                                      \
			fail_msg("%s: %s: %s", #call, strerror(-assert_r), why.text);                                  \
	} while (0)

static double now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* ---- A world to try it in --------------------------------------------------------------------------- */

static bool cgroup_root(char *ret_path, size_t room)
{
	char line[1024], path[256], type[64];
	FILE *mounts = fopen("/proc/self/mounts", "re");
	bool found = false;
	while (mounts && !found && fgets(line, sizeof(line), mounts))
		found = sscanf(line, "%*s %255s %63s", path, type) == 2 && strcmp(type, "cgroup2") == 0;
	if (mounts)
		fclose(mounts);
	if (found)
		snprintf(ret_path, room, "%.200s/mesh-test-%d", path, (int)getpid());
	return found;
}

/* The templates as they stand are a policy of no service that denies everything. */
static bool sample_compile(void)
{
	char command[1024], source[512];
	snprintf(source, sizeof(source), "%s", __FILE__);
	for (int up = 0; up < 3; up++) {
		char *slash = strrchr(source, '/');
		if (!slash)
			return false;
		*slash = 0;
	}
	snprintf(world.object, sizeof(world.object), "%s/policy.bpf.o", world.folder);
	snprintf(command, sizeof(command),
		 "clang-19 -target bpf -mcpu=v3 -O2 -g -c '%s/bpf-templates/policy.bpf.c' -o '%s'", source,
		 world.object);
	if (system(command) != 0)
		return false;
	FILE *file = fopen(world.object, "re");
	struct stat status;
	if (!file || fstat(fileno(file), &status))
		return false;
	world.elf_len = status.st_size;
	world.elf = malloc(world.elf_len);
	bool read = world.elf && fread(world.elf, world.elf_len, 1, file) == 1;
	fclose(file);
	return read;
}

static int address_add(const char *name, const char *address)
{
	struct ifreq request = {0};
	struct sockaddr_in *at = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	at->sin_family = AF_INET;
	inet_pton(AF_INET, address, &at->sin_addr);
	int r = ioctl(fd, SIOCSIFADDR, &request);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	r = r ? r : ioctl(fd, SIOCSIFFLAGS, &request);
	close(fd);
	return r;
}

static void holder_run(int ready)
{
	char byte = 1;
	if (unshare(CLONE_NEWNET) || address_add("lo", "127.0.0.1") || address_add("lo:1", "10.9.0.1") ||
	    address_add("lo:2", "10.9.0.2") || write(ready, &byte, 1) != 1)
		_exit(1);
	pause();
	_exit(0);
}

static bool netns_make(void)
{
	int pipes[2];
	char byte, path[64];
	if (pipe2(pipes, O_CLOEXEC))
		return false;
	world.holder = fork();
	if (world.holder == 0)
		holder_run(pipes[1]);
	close(pipes[1]);
	bool ready = read(pipes[0], &byte, 1) == 1;
	close(pipes[0]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)world.holder);
	world.netns = ready ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	return world.netns >= 0;
}

static void netns_drop(void)
{
	if (world.holder > 0) {
		kill(world.holder, SIGKILL);
		waitpid(world.holder, NULL, 0);
	}
	if (world.netns >= 0)
		close(world.netns);
	world.holder = 0;
	world.netns = -1;
}

static const char *world_make(void)
{
	if (geteuid() != 0)
		return "needs root";
	strcpy(world.folder, "/tmp/mesh-test-XXXXXX");
	if (!mkdtemp(world.folder))
		return "no folder in /tmp";
	snprintf(world.bpffs, sizeof(world.bpffs), "%s/bpf", world.folder);
	if (mkdir(world.bpffs, 0700) || mount("bpf", world.bpffs, "bpf", 0, NULL))
		return "no bpffs can be mounted";
	world.mounted = true;
	if (!cgroup_root(world.cgroup, sizeof(world.cgroup)) || mkdir(world.cgroup, 0755)) {
		world.cgroup[0] = 0;
		return "no cgroup2 that can be written";
	}
	if (!sample_compile())
		return "no clang-19 to compile the sample policy";
	if (!netns_make())
		return "no network namespace can be made";
	world.config = (struct config){
		.mesh = "test",
		.cgroup = world.cgroup,
		.bpffs = world.bpffs,
		.pins = "mesh",
		.generations = 8,
		.endpoints = 1024,
		.backends = 256,
		.services = 64,
		.sockets = 1024,
		.record_rate = 1000,
	};
	return NULL;
}

static int setup(void **state)
{
	(void)state;
	world.reason = world_make();
	if (world.reason)
		printf("skipped: %s\n", world.reason);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	generation_release(generation);
	kernel_close(kernel);
	if (world.mounted && world.config.bpffs)
		kernel_uninstall(&world.config, NULL);
	netns_drop();
	if (world.cgroup[0])
		rmdir(world.cgroup);
	if (world.mounted)
		umount(world.bpffs);
	rmdir(world.bpffs);
	unlink(world.object);
	rmdir(world.folder);
	free(world.elf);
	return 0;
}

static void need_world(void)
{
	if (world.reason)
		skip();
}

static void need_kernel(void)
{
	need_world();
	if (!kernel)
		fail_msg("an earlier test left no kernel");
}

static void need_generation(void)
{
	need_kernel();
	if (!generation)
		fail_msg("an earlier test left no generation");
}

static bool pinned(const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/mesh/%s", world.bpffs, name);
	return access(path, F_OK) == 0;
}

static uint32_t programs_at_cgroup(enum bpf_attach_type type)
{
	__u32 ids[64], count = 64;
	int fd = open(world.cgroup, O_RDONLY | O_CLOEXEC);
	assert_int_equal(bpf_prog_query(fd, type, 0, NULL, ids, &count), 0);
	close(fd);
	return count;
}

/* ---- Inside the namespace ---------------------------------------------------------------------------- */

/* Runs CHILD in a process inside the namespace and, if asked, the cgroup; returns its exit status. */
static int in_workload(int (*child)(void *), void *context, bool in_cgroup)
{
	pid_t pid = fork();
	if (pid == 0) {
		char path[300];
		snprintf(path, sizeof(path), "%s/cgroup.procs", world.cgroup);
		int fd = in_cgroup ? open(path, O_WRONLY | O_CLOEXEC) : -1;
		if ((in_cgroup && (fd < 0 || write(fd, "0", 1) != 1)) || setns(world.netns, CLONE_NEWNET))
			_exit(200);
		_exit(child(context));
	}
	int status;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 201;
}

static struct sockaddr_in address_of(const char *text, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, text, &address.sin_addr);
	return address;
}

/* 0, or the error of a connection to 10.9.0.2:80 (nobody listens there: refused by the kernel, too). */
static int connect_out(void *context)
{
	(void)context;
	struct sockaddr_in to = address_of("10.9.0.2", 80);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return connect(fd, (struct sockaddr *)&to, sizeof(to)) ? errno : 0;
}

static struct mesh_tuple tuple_of(int fd)
{
	struct sockaddr_in local, remote;
	socklen_t len = sizeof(local);
	struct mesh_tuple tuple = {.protocol = IPPROTO_TCP};
	getsockname(fd, (struct sockaddr *)&local, &len);
	len = sizeof(remote);
	getpeername(fd, (struct sockaddr *)&remote, &len);
	tuple.local[10] = tuple.local[11] = tuple.remote[10] = tuple.remote[11] = 0xff;
	memcpy(tuple.local + 12, &local.sin_addr, 4);
	memcpy(tuple.remote + 12, &remote.sin_addr, 4);
	tuple.local_port = ntohs(local.sin_port);
	tuple.remote_port = ntohs(remote.sin_port);
	return tuple;
}

struct pair {
	int listener, client, server;
};

/* A connection inside the namespace; exit status 0 where CHECK is content with it. */
static int with_pair(void *context)
{
	int (*check)(struct pair *pair) = *(int (**)(struct pair *))context;
	struct sockaddr_in at = address_of("10.9.0.1", 8080);
	int one = 1;
	struct pair pair = {.listener = socket(AF_INET, SOCK_STREAM, 0), .client = socket(AF_INET, SOCK_STREAM, 0)};
	setsockopt(pair.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(pair.listener, (struct sockaddr *)&at, sizeof(at)) || listen(pair.listener, 4) ||
	    connect(pair.client, (struct sockaddr *)&at, sizeof(at)))
		return 100;
	pair.server = accept(pair.listener, NULL, NULL);
	return pair.server < 0 ? 101 : check(&pair);
}

static int check_reset(struct pair *pair)
{
	char byte;
	struct mesh_tuple tuple = tuple_of(pair->server);
	if (kernel_reset(world.netns, &tuple))
		return 1;
	if (recv(pair->client, &byte, 1, 0) >= 0 || errno != ECONNRESET)
		return 2;
	if (kernel_reset(world.netns, &tuple) != -ENOENT)
		return 3;
	/* The listener behind the tuple is still there. */
	int again = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in at = address_of("10.9.0.1", 8080);
	if (connect(again, (struct sockaddr *)&at, sizeof(at)))
		return 4;
	tuple.protocol = IPPROTO_UDP;
	return kernel_reset(world.netns, &tuple) == -EINVAL ? 0 : 5;
}

static int check_adopted(struct pair *pair)
{
	struct mesh_socket client = {0}, server = {0};
	int sockets = kernel_map(kernel, "sockets");
	if (bpf_map_lookup_elem(sockets, &pair->client, &client) != -ENOENT)
		return 1;
	if (kernel_adopt_sockets(kernel, world.netns, &why))
		return 2;
	if (bpf_map_lookup_elem(sockets, &pair->client, &client) ||
	    bpf_map_lookup_elem(sockets, &pair->server, &server))
		return 3;
	return client.role == MESH_ROLE_OUT && server.role == MESH_ROLE_IN && !client.generation ? 0 : 4;
}

/* ---- Tests ------------------------------------------------------------------------------------------- */

static void test_refuses_what_is_no_bpffs(void **state)
{
	(void)state;
	need_world();
	struct config config = world.config;
	bool adopted;
	config.bpffs = "/tmp";
	assert_int_equal(kernel_open(&config, &kernel, &adopted, &why), -ENOTDIR);
	assert_non_null(strstr(why.text, "bpffs"));
	config.bpffs = world.bpffs;
	config.pins = "a.b";
	assert_int_equal(kernel_open(&config, &kernel, &adopted, &why), -ENOTDIR);
	config.pins = "nothing";
	assert_int_equal(kernel_uninstall(&config, &why), 0);
	kernel = NULL;
}

static void test_one_holds_the_pins(void **state)
{
	(void)state;
	need_world();
	struct config other = world.config;
	int first = -1, second = -1, beside = -1;
	char holder[32];
	assert_works(kernel_lock(&world.config, &first, &why));
	assert_int_equal(kernel_lock(&world.config, &second, &why), -EBUSY);
	snprintf(holder, sizeof(holder), "(pid %d)", (int)getpid());
	assert_non_null(strstr(why.text, holder));
	other.pins = "other";
	assert_works(kernel_lock(&other, &beside, &why));
	kernel_lock_remove(&other);
	close(beside);
	/* Somebody who had the folder open before it was removed does not hold the lock of the next one. */
	kernel_lock_remove(&world.config);
	assert_works(kernel_lock(&world.config, &second, &why));
	close(first);
	close(second);
	assert_works(kernel_lock(&world.config, &first, &why));
	kernel_lock_remove(&world.config);
	close(first);
}

static void test_opens_and_attaches(void **state)
{
	(void)state;
	need_world();
	bool adopted = true;
	double start = now_ms();
	assert_works(kernel_open(&world.config, &kernel, &adopted, &why));
	printf("open: %.2f ms\n", now_ms() - start);
	assert_false(adopted);
	assert_true(kernel_map(kernel, "peers4") >= 0);
	assert_int_equal(kernel_map(kernel, "nothing"), -ENOENT);
	start = now_ms();
	assert_works(kernel_attach(kernel, &why));
	printf("attach: %.2f ms\n", now_ms() - start);
	assert_works(kernel_attach(kernel, &why));
	assert_int_equal(programs_at_cgroup(BPF_CGROUP_INET4_CONNECT), 1);
	assert_true(pinned("link/d_connect4"));
	json_t *neighbours = kernel_neighbours(kernel);
	printf("neighbours: %zu\n", json_array_size(neighbours));
	json_decref(neighbours);
	assert_int_equal(in_workload(connect_out, NULL, true), ECONNREFUSED);
	assert_true(kernel_stat(kernel, MESH_STAT_NO_POLICY) > 0);
}

/* The sample has no rules: rule 0 is the default, but it has no cells either, so all is `unknown`. */
static void vectors_of_sample(struct mesh_vectors *head, struct mesh_vector *decisions,
			      struct mesh_address_vector *addresses, struct mesh_packet_vector *packets)
{
	/* From 240.0.0.1 to 240.0.0.2: protocol 132 (SCTP), and an ICMP echo request. */
	static const uint8_t sctp[32] = {
		0x45, [3] = 32, [8] = 64, [9] = 132, [12] = 240, [15] = 1, [16] = 240, [19] = 2};
	static const uint8_t ping[28] = {
		0x45, [3] = 28, [8] = 64, [9] = 1, [12] = 240, [15] = 1, [16] = 240, [19] = 2, [20] = 8};
	*head = (struct mesh_vectors){MESH_VECTORS_MAGIC, 2, 2, 2};
	decisions[0] = (struct mesh_vector){.src = MESH_CLASS_WORLD,
					    .dst = MESH_CLASS_OTHER,
					    .port = 80,
					    .protocol = IPPROTO_TCP,
					    .rule = MESH_UNKNOWN};
	decisions[1] = (struct mesh_vector){.src = MESH_CLASS_OTHER,
					    .dst = MESH_CLASS_CONFLICT,
					    .port = 53,
					    .protocol = IPPROTO_UDP,
					    .rule = MESH_CONFLICT};
	addresses[0] = (struct mesh_address_vector){.address = {0}};
	addresses[1] = (struct mesh_address_vector){.address = {[10] = 0xff, [11] = 0xff, 10, 1, 2, 3}};
	packets[0] = (struct mesh_packet_vector){.bytes = sizeof(sctp), .pass = 0};
	memcpy(packets[0].packet, sctp, sizeof(sctp));
	packets[1] = (struct mesh_packet_vector){.bytes = sizeof(ping), .pass = 1};
	memcpy(packets[1].packet, ping, sizeof(ping));
}

struct sample {
	struct mesh_vectors head;
	struct mesh_vector decisions[2];
	struct mesh_address_vector addresses[2];
	struct mesh_packet_vector packets[2];
};

static void test_proves(void **state)
{
	(void)state;
	struct names *nameless = names_make(NULL, NULL);
	need_kernel();
	struct sample sample, wrong;
	uint32_t count = 0;
	vectors_of_sample(&sample.head, sample.decisions, sample.addresses, sample.packets);
	double start = now_ms();
	assert_works(
		kernel_prove(kernel, world.elf, world.elf_len, &sample.head, sizeof(sample), nameless, &count, &why));
	printf("prove: %.2f ms\n", now_ms() - start);
	assert_int_equal(count, 6);
	for (int change = 0; change < 4; change++) {
		wrong = sample;
		if (change == 0)
			wrong.decisions[1].verdict = 1;
		if (change == 1)
			wrong.decisions[0].rule = MESH_DEFAULT;
		if (change == 2)
			wrong.addresses[1].dst = 9;
		if (change == 3)
			wrong.packets[0].pass = 1;
		int r = kernel_prove(kernel, world.elf, world.elf_len, &wrong.head, sizeof(wrong), nameless, &count,
				     &why);
		assert_int_equal(r, -EILSEQ);
		printf("found: %s\n", why.text);
	}
	assert_int_equal(kernel_prove(kernel, world.elf, world.elf_len, &sample.head, 40, nameless, &count, &why),
			 -EINVAL);
	names_release(nameless);
}

static void test_loads(void **state)
{
	(void)state;
	need_kernel();
	double start = now_ms();
	assert_works(kernel_load(kernel, world.elf, world.elf_len, 1, &generation, &why));
	assert_true(pinned("gen/new"));
	assert_works(kernel_place(kernel, generation, 0, &why));
	printf("load: %.2f ms, %llu instructions, %llu bytes\n", now_ms() - start,
	       (unsigned long long)generation->instructions, (unsigned long long)generation->bytes);
	assert_int_equal(generation->number, 1);
	assert_int_equal(generation->programs, 8);
	assert_int_equal(generation->endpoints, world.config.endpoints + 1);
	assert_int_equal(generation->backend_max, 256);
	assert_true(pinned("gen/0/connect4"));
	assert_false(pinned("gen/new"));
	struct generation *other = NULL;
	assert_int_equal(kernel_load(kernel, world.elf, 100, 2, &other, &why), -EINVAL);
	assert_false(pinned("gen/new"));
	assert_null(other);
	assert_works(kernel_load(kernel, world.elf, world.elf_len, 2, &other, &why));
	assert_int_equal(kernel_place(kernel, other, 0, &why), -EEXIST);
	assert_int_equal(kernel_place(kernel, other, MESH_GENERATIONS, &why), -EINVAL);
	assert_works(kernel_unload(kernel, other));
	generation_release(other);
	assert_false(pinned("gen/new"));
	assert_true(pinned("gen/0/connect4"));
}

static void test_refused_by_the_verifier(void **state)
{
	(void)state;
	need_kernel();
	char *broken = malloc(world.elf_len);
	struct generation *other = NULL;
	size_t len;
	memcpy(broken, world.elf, world.elf_len);
	char *code = (char *)bundle_section(broken, world.elf_len, "sk_lookup", &len);
	assert_non_null(code);
	/* r0 = *(u64 *)(r9 + 0): a register that nobody set. */
	static const uint8_t bad[8] = {0x79, 0x90};
	memcpy(code, bad, sizeof(bad));
	assert_int_equal(kernel_load(kernel, broken, world.elf_len, 2, &other, &why), -ENOEXEC);
	printf("refused: %s\n", why.text);
	assert_non_null(strstr(why.text, "R9"));
	assert_false(pinned("gen/1"));
	assert_false(pinned("gen/new"));
	free(broken);
}

/* Two endpoints, one service address, and as many backends as COUNT in the first set. */
static void publish(uint32_t count, bool with_vip)
{
	const struct mesh_class other = {.src = MESH_CLASS_OTHER, .dst = MESH_CLASS_OTHER};
	struct mesh_class classes[3] = {{0}, other, other};
	struct mesh_set sets[2] = {{0, count}, {0, 0}};
	struct mesh_backend backends[8] = {{{1}}, {{2}}, {{3}}};
	struct view_vip vip = {.key = {.port = 443, .protocol = IPPROTO_TCP}, .value = {5, 8443}};
	struct view view = {.classes = classes, .class_count = 3, .set_count = 2, .sets = sets};
	view.backends.at = backends;
	view.backends.len = count;
	view.vips.at = &vip;
	view.vips.len = with_vip;
	assert_works(kernel_publish_view(kernel, generation, &view, &why));
}

static void test_publishes_a_view(void **state)
{
	(void)state;
	need_generation();
	__u32 zero = 0;
	struct mesh_set set;
	struct mesh_backend backend;
	struct mesh_vip_key key = {.port = 443, .protocol = IPPROTO_TCP};
	struct mesh_vip vip;
	for (uint32_t round = 0; round < 3; round++) {
		double start = now_ms();
		publish(round + 1, true);
		printf("publish: %.2f ms\n", now_ms() - start);
		assert_int_equal(bpf_map_lookup_elem(generation->sets, &zero, &set), 0);
		assert_int_equal(set.count, round + 1);
		assert_int_equal(set.first, generation->half * 128);
		assert_int_equal(generation->half, round % 2 == 0);
		assert_int_equal(bpf_map_lookup_elem(generation->backends, &set.first, &backend), 0);
		assert_int_equal(backend.address[0], 1);
	}
	assert_int_equal(bpf_map_lookup_elem(generation->vips, &key, &vip), 0);
	assert_int_equal(vip.target, 8443);
	publish(0, false);
	assert_int_equal(bpf_map_lookup_elem(generation->vips, &key, &vip), -ENOENT);
	assert_int_equal(generation_class(generation, 2).src, MESH_CLASS_OTHER);
	struct view large = {.class_count = 5000};
	assert_int_equal(kernel_publish_view(kernel, generation, &large, &why), -ENOSPC);
}

/* As a hook looks for it: in one bucket, then in the other. */
static uint32_t endpoint_of4(const uint8_t address[16])
{
	uint32_t v4;
	memcpy(&v4, address + 12, sizeof(v4));
	uint64_t hash = mesh_peer_hash(v4);
	for (int second = 0; second < 2; second++) {
		struct mesh_peer_bucket bucket;
		uint32_t key = hash >> (second ? 24 : 0) & kernel_control(kernel)->peer_mask;
		assert_int_equal(bpf_map_lookup_elem(kernel_map(kernel, "peers4"), &key, &bucket), 0);
		for (int i = 0; i < MESH_PEER_SLOTS; i++)
			if (bucket.slot[i] >> 32 == v4)
				return (uint32_t)bucket.slot[i] >> 8;
	}
	return 0;
}

static void test_publishes_peers(void **state)
{
	(void)state;
	need_kernel();
	struct endpoint at[4] = {
		{{0}},
		{.address = {[10] = 0xff, [11] = 0xff, 10, 9, 0, 1}, .flags = 3, .owner = "shop/a"},
		{.address = {[10] = 0xff, [11] = 0xff, 10, 9, 0, 2}, .flags = 3, .owner = "shop/b"},
		{.address = {0xfd, [15] = 1}, .flags = 3, .owner = "shop/b"},
	};
	struct registry registry = {at, 4, 4};
	struct mesh_peer peer;
	assert_works(kernel_publish_peers(kernel, &registry, &why));
	assert_int_equal(endpoint_of4(at[2].address), 2);
	assert_int_equal(bpf_map_lookup_elem(kernel_map(kernel, "peers6"), at[3].address, &peer), 0);
	assert_int_equal(peer.endpoint, 3);
	at[3].owner = NULL;
	assert_works(kernel_publish_peers(kernel, &registry, &why));
	assert_int_equal(bpf_map_lookup_elem(kernel_map(kernel, "peers6"), at[3].address, &peer), -ENOENT);

	struct registry many = {calloc(6000, sizeof(struct endpoint)), 6000, 6000};
	for (uint32_t i = 1; i < many.len; i++) {
		many.at[i] = at[1];
		many.at[i].address[13] = 10;
		many.at[i].address[14] = i >> 8;
		many.at[i].address[15] = i;
	}
	int r = kernel_publish_peers(kernel, &many, &why);
	printf("full: %s\n", why.text);
	assert_int_equal(r, -ENOSPC);
	free(many.at);
	assert_works(kernel_publish_peers(kernel, &registry, &why));
}

static uint32_t records_seen;

static void on_record(void *context, const struct mesh_record *record)
{
	(void)context;
	assert_int_equal(record->generation, 1);
	assert_int_equal(record->hook, MESH_HOOK_CONNECT);
	records_seen++;
}

static void test_enforces(void **state)
{
	(void)state;
	need_generation();
	uint64_t cookie = 0, again = 0;
	double start = now_ms();
	assert_works(kernel_attach_netns(kernel, world.netns, &cookie, &why));
	printf("attach_netns: %.2f ms\n", now_ms() - start);
	assert_works(kernel_attach_netns(kernel, world.netns, &again, &why));
	assert_int_equal(cookie, again);
	assert_int_equal(kernel_netns_neighbours(kernel, world.netns), 0);
	struct mesh_netns value = {.endpoint4 = 1, .flags = MESH_NETNS_ENROLLED};
	assert_int_equal(bpf_map_update_elem(kernel_map(kernel, "netns"), &cookie, &value, BPF_ANY), 0);
	kernel_control(kernel)->record_rate = 1000;
	kernel_control(kernel)->epoch = 1;
	kernel_control(kernel)->active = 1;
	assert_int_equal(in_workload(connect_out, NULL, true), ECONNREFUSED);
	assert_true(kernel_rings_fd(kernel) >= 0);
	assert_true(kernel_rings_consume(kernel, on_record, NULL, NULL) > 0);
	assert_int_equal(records_seen, 1);
	assert_int_equal(kernel_unload(kernel, generation), -EBUSY);
}

static void test_adopts(void **state)
{
	(void)state;
	need_generation();
	bool adopted = false;
	generation_release(generation);
	generation = NULL;
	kernel_close(kernel);
	kernel = NULL;
	/* It goes on enforcing while nobody is there. */
	assert_int_equal(in_workload(connect_out, NULL, true), ECONNREFUSED);
	struct config other = world.config;
	other.endpoints = 2048;
	double start = now_ms();
	assert_works(kernel_open(&other, &kernel, &adopted, &why));
	printf("adopt: %.2f ms\n", now_ms() - start);
	assert_true(adopted);
	kernel_close(kernel);
	kernel = NULL;
	assert_works(kernel_open(&world.config, &kernel, &adopted, &why));
	assert_works(kernel_attach(kernel, &why));
	assert_int_equal(programs_at_cgroup(BPF_CGROUP_INET4_CONNECT), 1);
	assert_int_equal(kernel_adopt(kernel, 1, &generation, &why), -ENOENT);
	assert_works(kernel_adopt(kernel, 0, &generation, &why));
	assert_int_equal(generation->number, 1);
	assert_int_equal(generation_class(generation, 1).src, MESH_CLASS_OTHER);
	assert_true(kernel_rings_consume(kernel, on_record, NULL, NULL) > 0);
	assert_int_equal(records_seen, 2);
}

static void test_sockets(void **state)
{
	(void)state;
	need_generation();
	int (*check)(struct pair *) = check_reset;
	kernel_control(kernel)->active = 0;
	assert_int_equal(in_workload(with_pair, &check, false), 0);
	check = check_adopted;
	assert_int_equal(in_workload(with_pair, &check, false), 0);
}

static void test_sweeps(void **state)
{
	(void)state;
	need_kernel();
	assert_int_equal(kernel_sweep(kernel), 0);
	netns_drop();
	int removed = 0;
	/* The kernel takes a namespace down in the background. */
	for (int i = 0; i < 200 && !removed; i++) {
		removed = kernel_sweep(kernel);
		usleep(20000);
	}
	assert_int_equal(removed, 1);
	__u64 key;
	assert_int_equal(bpf_map_get_next_key(kernel_map(kernel, "netns"), NULL, &key), -ENOENT);
}

static void test_refuses_loners(void **state)
{
	(void)state;
	need_kernel();
	static const struct bpf_insn pass[] = {{.code = 0xb7, .imm = 1}, {.code = 0x95}};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
	char path[300];
	snprintf(path, sizeof(path), "%s/child", world.cgroup);
	assert_int_equal(mkdir(path, 0755), 0);
	struct config config = world.config;
	struct kernel *second = NULL;
	bool adopted;
	config.pins = "second";
	config.cgroup = path;
	int loner = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "loner", "GPL", pass, 2, &options);
	int cgroup = open(path, O_RDONLY | O_CLOEXEC);
	int attached = bpf_prog_attach(loner, cgroup, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_OVERRIDE);
	int r = kernel_open(&config, &second, &adopted, &why);
	if (!r)
		r = kernel_attach(second, &why);
	bpf_prog_detach2(loner, cgroup, BPF_CGROUP_INET4_CONNECT);
	json_t *neighbours = second ? kernel_neighbours(second) : NULL;
	size_t others = json_array_size(neighbours);
	json_decref(neighbours);
	kernel_close(second);
	kernel_uninstall(&config, NULL);
	close(loner);
	close(cgroup);
	rmdir(path);
	assert_int_equal(attached, 0);
	assert_int_equal(r, -EBUSY);
	assert_non_null(strstr(why.text, "loner"));
	/* The first kernel's twelve, at the parent. */
	assert_int_equal(others, 12);
}

static void test_half_made(void **state)
{
	(void)state;
	need_generation();
	char path[256];
	bool adopted;
	snprintf(path, sizeof(path), "%s/mesh/map/stats", world.bpffs);
	kernel_control(kernel)->active = 1;
	assert_int_equal(unlink(path), 0);
	generation_release(generation);
	kernel_close(kernel);
	kernel = NULL;
	generation = NULL;
	assert_int_equal(kernel_open(&world.config, &kernel, &adopted, &why), -EUCLEAN);
	snprintf(path, sizeof(path), "%s/mesh/map/control", world.bpffs);
	int control = bpf_obj_get(path);
	struct mesh_control nothing = {0};
	__u32 zero = 0;
	assert_int_equal(bpf_map_update_elem(control, &zero, &nothing, BPF_ANY), 0);
	close(control);
	assert_works(kernel_open(&world.config, &kernel, &adopted, &why));
	assert_false(adopted);
	assert_int_equal(programs_at_cgroup(BPF_CGROUP_INET4_CONNECT), 0);
}

/* The program in SLOT of the jump table for connect4, by its number; 0: none. */
static __u32 program_in(__u32 slot)
{
	__u32 id = 0;
	return bpf_map_lookup_elem(kernel_map(kernel, "jump_connect4"), &slot, &id) ? 0 : id;
}

/* A slot that is filled next keeps its programs until then, and nobody finds a generation in it. */
static void test_retires(void **state)
{
	(void)state;
	need_kernel();
	volatile const struct mesh_control *control = kernel_control(kernel);
	assert_works(kernel_attach(kernel, &why));
	assert_works(kernel_load(kernel, world.elf, world.elf_len, 7, &generation, &why));
	assert_works(kernel_place(kernel, generation, 3, &why));
	__u32 first = program_in(3);
	assert_int_not_equal(first, 0);
	assert_int_equal(control->generations[3], 7);
	assert_works(kernel_retire(kernel, generation));
	assert_false(pinned("gen/3"));
	assert_int_equal(control->generations[3], UINT32_MAX);
	assert_int_equal(program_in(3), first);
	generation_release(generation);
	assert_works(kernel_load(kernel, world.elf, world.elf_len, 8, &generation, &why));
	assert_works(kernel_place(kernel, generation, 3, &why));
	assert_int_not_equal(program_in(3), 0);
	assert_int_not_equal(program_in(3), first);
	assert_int_equal(control->generations[3], 8);
	assert_works(kernel_unload(kernel, generation));
	assert_int_equal(control->generations[3], UINT32_MAX);
	assert_int_equal(program_in(3), 0);
	generation_release(generation);
	generation = NULL;
}

static void test_uninstalls(void **state)
{
	(void)state;
	need_kernel();
	assert_works(kernel_attach(kernel, &why));
	assert_works(kernel_load(kernel, world.elf, world.elf_len, 7, &generation, &why));
	assert_works(kernel_place(kernel, generation, 3, &why));
	assert_works(kernel_unload(kernel, generation));
	assert_false(pinned("gen/3"));
	generation_release(generation);
	generation = NULL;
	assert_works(kernel_load(kernel, world.elf, world.elf_len, 8, &generation, &why));
	assert_works(kernel_place(kernel, generation, 3, &why));
	generation_release(generation);
	generation = NULL;
	/* Even with the kernel open: links are detached, not only unpinned. */
	assert_works(kernel_uninstall(&world.config, &why));
	assert_false(pinned(""));
	static const enum bpf_attach_type types[] = {BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET_INGRESS,
						     BPF_CGROUP_SOCK_OPS, BPF_CGROUP_INET_SOCK_CREATE};
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
		assert_int_equal(programs_at_cgroup(types[i]), 0);
	assert_works(kernel_uninstall(&world.config, &why));
}

static bool check_works(const json_t *result, const char *name)
{
	size_t i;
	json_t *check;
	json_array_foreach (json_object_get(result, "checks"), i, check)
		if (strcmp(json_string_value(json_object_get(check, "name")), name) == 0)
			return json_is_true(json_object_get(check, "works"));
	return false;
}

static void test_preflight(void **state)
{
	(void)state;
	need_world();
	double start = now_ms();
	json_t *result = preflight_run(&world.config);
	printf("preflight: %.2f ms\n", now_ms() - start);
	assert_true(json_is_object(result));
	size_t i;
	json_t *check;
	json_array_foreach (json_object_get(result, "checks"), i, check) {
		assert_true(json_is_string(json_object_get(check, "name")));
		assert_true(json_is_boolean(json_object_get(check, "works")));
		if (!json_is_true(json_object_get(check, "works")))
			printf("preflight: %s does not work: %s\n", json_string_value(json_object_get(check, "name")),
			       json_string_value(json_object_get(check, "detail")));
	}
	assert_true(json_is_true(json_object_get(result, "ok")));
	assert_true(check_works(result, "sockopt"));
	assert_true(check_works(result, "steering"));
	assert_true(check_works(result, "stamp"));
	assert_true(check_works(result, "getpeername"));
	json_decref(result);
	/* Nothing is left of what was tried. */
	char pattern[300];
	glob_t found;
	snprintf(pattern, sizeof(pattern), "%s/mesh-preflight-*", world.cgroup);
	assert_int_equal(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
}

/* Each trial can fail: it does where the place is none. */
static void test_preflight_mtls_fails(void **state)
{
	(void)state;
	need_world();
	assert_int_equal(preflight_options("/nowhere"), -ENOENT);
	assert_int_equal(preflight_peername("/nowhere"), -ENOENT);
	assert_int_equal(preflight_stamp(-1), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses_what_is_no_bpffs),
		cmocka_unit_test(test_one_holds_the_pins),
		cmocka_unit_test(test_opens_and_attaches),
		cmocka_unit_test(test_proves),
		cmocka_unit_test(test_loads),
		cmocka_unit_test(test_refused_by_the_verifier),
		cmocka_unit_test(test_publishes_a_view),
		cmocka_unit_test(test_publishes_peers),
		cmocka_unit_test(test_enforces),
		cmocka_unit_test(test_adopts),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_refuses_loners),
		cmocka_unit_test(test_sweeps),
		cmocka_unit_test(test_half_made),
		cmocka_unit_test(test_retires),
		cmocka_unit_test(test_uninstalls),
		cmocka_unit_test(test_preflight),
		cmocka_unit_test(test_preflight_mtls_fails),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
