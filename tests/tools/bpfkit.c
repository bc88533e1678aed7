/* What the end-to-end tests do to a node that is none of meshd's business: foreign programs, and a look
 * into pinned maps.
 *
 *   bpfkit attach OBJECT PROGRAM CGROUP [multi|override|alone|link]   at a cgroup; says "attached"; a link
 *                                             goes when it is killed
 *   bpfkit detach CGROUP                      connect4 programs that were attached there without a link
 *   bpfkit lookup OBJECT PROGRAM              sk_lookup in this namespace; its map "socks" gets a listener
 *                                             that answers every line with "thief"; until killed
 *   bpfkit clear MAP [COOKIE]                 takes every program out of a jump table; a namespace out of "netns"
 *   bpfkit age MAP SECONDS                    turns the clock of a table of flows
 *   bpfkit count CGROUP NETNS...              how many programs are attached there
 */
#include "abi.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int failed(const char *what)
{
	fprintf(stderr, "bpfkit: %s: %s\n", what, strerror(errno));
	return 1;
}

static struct bpf_object *object;

static struct bpf_program *load(const char *path, const char *name)
{
	object = bpf_object__open(path);
	if (!object || bpf_object__load(object))
		return NULL;
	return bpf_object__find_program_by_name(object, name);
}

static int attached(bool stay)
{
	puts("attached");
	fflush(stdout);
	while (stay)
		pause();
	return 0;
}

static int attach(char **argv)
{
	const char *how = argv[3] ? argv[3] : "multi";
	struct bpf_program *program = load(argv[0], argv[1]);
	int cgroup = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (!program || cgroup < 0)
		return failed(argv[0]);
	enum bpf_attach_type type = bpf_program__expected_attach_type(program);
	if (strcmp(how, "link") == 0)
		return bpf_link_create(bpf_program__fd(program), cgroup, type, NULL) < 0 ? failed("link")
											 : attached(true);
	unsigned flags = strcmp(how, "multi") == 0	? BPF_F_ALLOW_MULTI
			 : strcmp(how, "override") == 0 ? BPF_F_ALLOW_OVERRIDE
							: 0;
	return bpf_prog_attach(bpf_program__fd(program), cgroup, type, flags) ? failed("attach") : attached(false);
}

static int detach(char **argv)
{
	__u32 ids[64], count = 64;
	int cgroup = open(argv[0], O_RDONLY | O_DIRECTORY);
	enum bpf_attach_type type = BPF_CGROUP_INET4_CONNECT;
	if (cgroup < 0 || bpf_prog_query(cgroup, type, 0, NULL, ids, &count))
		return failed(argv[0]);
	for (__u32 i = 0; i < count; i++) {
		int fd = bpf_prog_get_fd_by_id(ids[i]);
		bpf_prog_detach2(fd, cgroup, type);
		close(fd);
	}
	return 0;
}

static int answer_all(int listener)
{
	char line[256];
	for (;;) {
		int child = accept(listener, NULL, NULL);
		if (child < 0)
			return failed("accept");
		if (recv(child, line, sizeof(line), 0) > 0)
			send(child, "thief\n", 6, MSG_NOSIGNAL);
		close(child);
	}
}

static int lookup(char **argv)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct bpf_program *program = load(argv[0], argv[1]);
	int netns = open("/proc/self/ns/net", O_RDONLY), listener = socket(AF_INET, SOCK_STREAM, 0);
	if (!program || bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 16))
		return failed(argv[0]);
	__u32 zero = 0;
	__u64 socket = listener;
	int map = bpf_object__find_map_fd_by_name(object, "socks");
	if (bpf_map_update_elem(map, &zero, &socket, BPF_ANY))
		return failed("socks");
	if (bpf_link_create(bpf_program__fd(program), netns, BPF_SK_LOOKUP, NULL) < 0)
		return failed("link");
	attached(false);
	return answer_all(listener);
}

static int clear(char **argv)
{
	int map = bpf_obj_get(argv[0]);
	if (map < 0)
		return failed(argv[0]);
	__u64 key = argv[1] ? strtoull(argv[1], NULL, 10) : 0;
	if (argv[1])
		return bpf_map_delete_elem(map, &key) ? failed(argv[1]) : 0;
	for (__u32 slot = 0; slot < MESH_GENERATIONS; slot++)
		bpf_map_delete_elem(map, &slot);
	return 0;
}

static int age(char **argv)
{
	struct mesh_tuple key;
	struct mesh_flow flow;
	int map = bpf_obj_get(argv[0]);
	if (map < 0)
		return failed(argv[0]);
	for (void *last = NULL; bpf_map_get_next_key(map, last, &key) == 0; last = &key) {
		if (bpf_map_lookup_elem(map, &key, &flow))
			continue;
		flow.seen_ns -= strtoull(argv[1], NULL, 10) * 1000000000ull;
		bpf_map_update_elem(map, &key, &flow, BPF_EXIST);
	}
	return 0;
}

/* Every kind of program that a mesh attaches, and sk_lookup in the namespaces. */
static int count(char **argv)
{
	static const enum bpf_attach_type types[] = {
		BPF_CGROUP_INET4_CONNECT,     BPF_CGROUP_INET6_CONNECT,	    BPF_CGROUP_UDP4_SENDMSG,
		BPF_CGROUP_UDP6_SENDMSG,      BPF_CGROUP_UDP4_RECVMSG,	    BPF_CGROUP_UDP6_RECVMSG,
		BPF_CGROUP_INET4_GETPEERNAME, BPF_CGROUP_INET6_GETPEERNAME, BPF_CGROUP_INET_INGRESS,
		BPF_CGROUP_INET_EGRESS,	      BPF_CGROUP_INET_SOCK_CREATE,  BPF_CGROUP_SOCK_OPS};
	unsigned sum = 0;
	int cgroup = open(argv[0], O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		__u32 ids[64], found = 64;
		if (bpf_prog_query(cgroup, types[i], 0, NULL, ids, &found))
			return failed(argv[0]);
		sum += found;
	}
	for (argv++; *argv; argv++) {
		__u32 ids[64], found = 64;
		if (bpf_prog_query(open(*argv, O_RDONLY), BPF_SK_LOOKUP, 0, NULL, ids, &found))
			return failed(*argv);
		sum += found;
	}
	printf("%u\n", sum);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct verb {
		const char *name;
		int words;
		int (*run)(char **argv);
	} verbs[] = {{"attach", 3, attach}, {"detach", 1, detach}, {"lookup", 2, lookup},
		     {"clear", 1, clear},   {"age", 2, age},	   {"count", 1, count}};
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(*verbs); i++)
		if (strcmp(argv[1], verbs[i].name) == 0 && argc >= 2 + verbs[i].words)
			return verbs[i].run(argv + 2);
	fputs("usage: bpfkit attach|detach|lookup|clear|age|count ...\n", stderr);
	return 2;
}
