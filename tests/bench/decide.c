/* What a decision costs on this kernel: decide PINS SLOT POLICY.o BENCH.bpf.o PAIRS PORT SERVICE:PORT
 *
 * The programs of bench/bpf/decide.bpf.c with POLICY's tables and the maps of the running node below
 * PINS, run by BPF_PROG_TEST_RUN, each in turn with its floor, best of several. PAIRS: lines of two
 * IPv4 addresses. One JSON object, nanoseconds. */
#define _GNU_SOURCE
#include "base/bundle.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PAIRS = 1 << 16,
	PARTS_STEPS = 4096,
	ROUNDS = 9,
	HOT_ROUNDS = 40,
	HOT_REPEAT = 200000 /* less than a time slice */,
	MOST_PAIRS = PAIRS
};

struct address {
	__u32 part[4];
};
struct asked { /* as in decide.bpf.c */
	struct address src, dst, service;
	__u32 endpoint, port, service_port, set_class;
};
struct pair {
	__be32 src, dst;
};
struct bench {
	const char *pins, *slot;
	struct bpf_object *object;
	struct pair pairs[PAIRS];
	size_t pair_count;
	__u16 port;
	struct pair allowed, denied;
};

static void fail(const char *what)
{
	fprintf(stderr, "decide: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void *read_all(const char *path, size_t *ret_len)
{
	FILE *file = fopen(path, "re");
	if (!file)
		fail(path);
	fseek(file, 0, SEEK_END);
	*ret_len = ftell(file);
	rewind(file);
	void *bytes = malloc(*ret_len + 1);
	if (!bytes || fread(bytes, 1, *ret_len, file) != *ret_len)
		fail(path);
	fclose(file);
	return bytes;
}

static void read_pairs(struct bench *bench, const char *path)
{
	char line[128], from[64], to[64];
	FILE *file = fopen(path, "re");
	if (!file)
		fail(path);
	while (bench->pair_count < MOST_PAIRS && fgets(line, sizeof(line), file)) {
		struct pair *pair = &bench->pairs[bench->pair_count];
		if (sscanf(line, "%63s %63s", from, to) == 2 && inet_pton(AF_INET, from, &pair->src) == 1 &&
		    inet_pton(AF_INET, to, &pair->dst) == 1)
			bench->pair_count++;
	}
	fclose(file);
	if (!bench->pair_count)
		fail("no pairs");
	for (size_t i = bench->pair_count; i < PAIRS; i++)
		bench->pairs[i] = bench->pairs[i % bench->pair_count];
}

/* ---- The object: POLICY's tables, the node's maps ------------------------------------------------- */

static void copy_tables(void *bench, size_t bench_len, void *policy, size_t policy_len)
{
	static const char *const names[] = {"plan_nodes",     "plan_cells",	     "plan_combs",     "plan_matrix",
					    "plan_columns",   "plan_outcomes",	     "plan_by_block",  "plan_arms",
					    "plan_intervals", "plan_interval_block", "plan_block_dst", "plan_splits",
					    "plan_class_arm"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		size_t room, len;
		void *to = bundle_rodata_symbol(bench, bench_len, names[i], &room);
		const void *from = bundle_rodata_symbol(policy, policy_len, names[i], &len);
		if (to && from && room == len)
			memcpy(to, from, len);
		else if (to)
			fail(names[i]);
	}
}

static void bind_maps(struct bench *bench)
{
	static const char *const shared[] = {"peers4", "peers6", "netns", "exact", "flows", "nat"};
	static const char *const private[] = {"classes", "vips", "sets", "backends", "hits"};
	char path[512];
	for (size_t i = 0; i < 11; i++) {
		const char *name = i < 6 ? shared[i] : private[i - 6];
		if (i < 6)
			snprintf(path, sizeof(path), "%s/map/%s", bench->pins, name);
		else
			snprintf(path, sizeof(path), "%s/gen/%s/%s", bench->pins, bench->slot, name);
		int fd = bpf_obj_get(path);
		struct bpf_map *map = bpf_object__find_map_by_name(bench->object, name);
		if (fd < 0 || !map || bpf_map__reuse_fd(map, fd))
			fail(path);
	}
}

static int program(const struct bench *bench, const char *name)
{
	return bpf_program__fd(bpf_object__find_program_by_name(bench->object, name));
}

static void load(struct bench *bench)
{
	struct bpf_program *program;
	bpf_object__for_each_program (program, bench->object) {
		const char *name = bpf_program__name(program);
		bool ours = name[1] == '_' && strchr("bspc", name[0]);
		bpf_program__set_autoload(program,
					  ours || strcmp(name, "d_lookup") == 0 || strcmp(name, "lookup") == 0);
	}
	bind_maps(bench);
	if (bpf_object__load(bench->object))
		fail("the bench's object does not load");
	void *at = mmap(NULL, sizeof(bench->pairs), PROT_READ | PROT_WRITE, MAP_SHARED,
			bpf_object__find_map_fd_by_name(bench->object, "pairs"), 0);
	if (at == MAP_FAILED)
		fail("pairs");
	memcpy(at, bench->pairs, sizeof(bench->pairs));
	struct mesh_control control;
	char path[512];
	__u32 zero = 0;
	snprintf(path, sizeof(path), "%s/map/control", bench->pins);
	int live = bpf_obj_get(path);
	if (live < 0 || bpf_map_lookup_elem(live, &zero, &control))
		fail(path);
	control.active = 1;
	control.record_rate = 1u << 30;
	bpf_map_update_elem(bpf_object__find_map_fd_by_name(bench->object, "control"), &zero, &control, BPF_ANY);
}

/* Slot 0 of the bench's own jump table: what its dispatcher calls. */
static void dispatch_to(const struct bench *bench, const char *name)
{
	__u32 zero = 0;
	int fd = program(bench, name);
	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(bench->object, "jump_lookup"), &zero, &fd, BPF_ANY))
		fail(name);
}

/* ---- Running ----------------------------------------------------------------------------------------- */

static double run_lookup(int fd, const struct bench *bench, struct pair pair, int repeat, __u32 *ret_value)
{
	struct bpf_sk_lookup context = {.family = AF_INET,
					.protocol = IPPROTO_TCP,
					.remote_ip4 = pair.src,
					.remote_port = htons(40000),
					.local_ip4 = pair.dst,
					.local_port = bench->port};
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = repeat);
	if (bpf_prog_test_run_opts(fd, &options))
		fail("sk_lookup");
	if (ret_value)
		*ret_value = options.retval;
	return options.duration;
}

static double run_packet(int fd, int repeat)
{
	char packet[14 + 40] = {[12] = 8, [14] = 0x45, [14 + 3] = 40, [14 + 9] = 6, [14 + 33] = 2};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet), .repeat = repeat);
	if (bpf_prog_test_run_opts(fd, &options))
		fail("cgroup_skb");
	return options.duration;
}

static double least(double a, double b)
{
	return a < 0 || b < a ? b : a;
}

/* An allowed and a denied pair of the list. */
static void find_pairs(struct bench *bench)
{
	int fd = program(bench, "b_decide");
	bool allowed = false, denied = false;
	for (size_t i = 0; i < bench->pair_count && !(allowed && denied); i++) {
		__u32 value;
		run_lookup(fd, bench, bench->pairs[i], 1, &value);
		if (value == 1 && !allowed)
			bench->allowed = bench->pairs[i];
		if (value != 1 && !denied)
			bench->denied = bench->pairs[i];
		allowed |= value == 1;
		denied |= value != 1;
	}
	if (!allowed || !denied)
		fail("the pairs are all allowed, or all denied");
}

static void print_hot(struct bench *bench)
{
	double floor = -1, direct = -1, whole = -1, denied = -1, product = -1;
	for (int round = 0; round < HOT_ROUNDS; round++) {
		dispatch_to(bench, "b_decide");
		floor = least(floor, run_lookup(program(bench, "b_floor"), bench, bench->allowed, HOT_REPEAT, NULL));
		direct = least(direct, run_lookup(program(bench, "b_decide"), bench, bench->allowed, HOT_REPEAT, NULL));
		whole = least(whole, run_lookup(program(bench, "d_lookup"), bench, bench->allowed, HOT_REPEAT, NULL));
		denied = least(denied, run_lookup(program(bench, "d_lookup"), bench, bench->denied, HOT_REPEAT, NULL));
		dispatch_to(bench, "lookup");
		product =
			least(product, run_lookup(program(bench, "d_lookup"), bench, bench->allowed, HOT_REPEAT, NULL));
	}
	printf("\"floor_ns\": %.0f, \"dispatch_ns\": %.0f, \"hot_ns\": %.0f, \"hot_denied_ns\": %.0f, "
	       "\"lookup_hook_ns\": %.0f",
	       floor, whole - direct, whole - floor, denied - floor, product - floor);
}

static void print_spread(const struct bench *bench)
{
	double floor = -1, whole = -1;
	for (int round = 0; round < ROUNDS; round++) {
		floor = least(floor, run_lookup(program(bench, "s_floor"), bench, bench->allowed, 20, NULL));
		whole = least(whole, run_lookup(program(bench, "s_decide"), bench, bench->allowed, 20, NULL));
	}
	printf(", \"spread_floor_ns\": %.1f, \"spread_ns\": %.1f", floor / PAIRS, (whole - floor) / PAIRS);
}

static int drop_record(void *context, void *data, size_t len)
{
	(void)context, (void)data, (void)len;
	return 0;
}

static void print_parts(const struct bench *bench)
{
	static const char *const parts[] = {"p_floor",	"p_identity", "p_peer",	 "p_party", "p_vip",
					    "p_decide", "p_pick",     "p_count", "p_record"};
	enum { PARTS = sizeof(parts) / sizeof(*parts) };
	double best[PARTS], socket = -1, storage = -1;
	for (int i = 0; i < PARTS; i++)
		best[i] = -1;
	struct ring_buffer *ring =
		ring_buffer__new(bpf_object__find_map_fd_by_name(bench->object, "records"), drop_record, NULL, NULL);
	for (int round = 0; round < ROUNDS * 3; round++)
		for (int i = 0; i < PARTS; i++) {
			best[i] = least(best[i], run_packet(program(bench, parts[i]), i == PARTS - 1 ? 1 : 50));
			ring_buffer__consume(ring);
		}
	for (int round = 0; round < ROUNDS; round++) {
		socket = least(socket, run_packet(program(bench, "p_socket"), HOT_REPEAT));
		storage = least(storage, run_packet(program(bench, "p_storage"), HOT_REPEAT));
	}
	ring_buffer__free(ring);
	printf(", \"parts\": {");
	for (int i = 1; i < PARTS; i++)
		printf("\"%s_ns\": %.1f, ", parts[i] + 2, (best[i] - best[0]) / PARTS_STEPS);
	printf("\"storage_ns\": %.1f}", storage - socket);
}

static void ask_for(void *bytes, size_t len, const char *service, const struct bench *bench)
{
	size_t room;
	struct asked *asked = bundle_rodata_symbol(bytes, len, "question", &room);
	char host[64] = "";
	int port = 0;
	if (!asked || room != sizeof(*asked) || sscanf(service, "%63[^:]:%d", host, &port) != 2)
		fail("question");
	__u32 mapped = htonl(0xffff);
	*asked = (struct asked){
		.service = {{0, 0, mapped, 0}}, .endpoint = 1, .port = bench->port, .service_port = port};
	inet_pton(AF_INET, host, &asked->service.part[3]);
	asked->dst = (struct address){{0, 0, mapped, bench->pairs[0].dst}};
	/* The class of that service: as the node's map of service addresses says. */
	char path[512];
	snprintf(path, sizeof(path), "%s/gen/%s/vips", bench->pins, bench->slot);
	int fd = bpf_obj_get(path);
	struct mesh_vip_key key = {.port = port, .protocol = IPPROTO_TCP};
	struct mesh_vip vip;
	memcpy(key.address, &asked->service, 16);
	if (fd < 0 || bpf_map_lookup_elem(fd, &key, &vip))
		fail(service);
	asked->set_class = vip.dst;
}

static int silent(enum libbpf_print_level level, const char *format, va_list arguments)
{
	/* A verifier's log can be of any length. */
	char text[400];
	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(text, sizeof(text), format, arguments);
	return fputs(text, stderr);
}

int main(int argc, char **argv)
{
	static struct bench bench;
	size_t policy_len, len;
	if (argc != 8)
		return fputs("usage: decide PINS SLOT POLICY.o BENCH.bpf.o PAIRS PORT SERVICE:PORT\n", stderr), 2;
	bench.pins = argv[1];
	bench.slot = argv[2];
	bench.port = atoi(argv[6]);
	void *policy = read_all(argv[3], &policy_len), *bytes = read_all(argv[4], &len);
	read_pairs(&bench, argv[5]);
	copy_tables(bytes, len, policy, policy_len);
	ask_for(bytes, len, argv[7], &bench);
	libbpf_set_print(silent);
	bench.object = bpf_object__open_mem(bytes, len, NULL);
	if (!bench.object)
		fail(argv[4]);
	load(&bench);
	find_pairs(&bench);
	printf("{");
	print_hot(&bench);
	print_spread(&bench);
	print_parts(&bench);
	puts("}");
	return 0;
}
