/* Programs and maps of a policy's object, as libbpf would load them. */
#include "accept_object.h"

#include "abi.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LIMIT_ENTRIES = 1 << 20 };

#define SOCK_ADDR(attach) BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_##attach

const struct accept_program accept_programs[ACCEPT_PROGRAMS] = {
	{"connect4", "cgroup/connect4", SOCK_ADDR(INET4_CONNECT)},
	{"connect6", "cgroup/connect6", SOCK_ADDR(INET6_CONNECT)},
	{"sendmsg4", "cgroup/sendmsg4", SOCK_ADDR(UDP4_SENDMSG)},
	{"sendmsg6", "cgroup/sendmsg6", SOCK_ADDR(UDP6_SENDMSG)},
	{"lookup", "sk_lookup", BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP},
	{"ingress", "cgroup_skb/ingress", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_INGRESS},
	{"egress", "cgroup_skb/egress", BPF_PROG_TYPE_CGROUP_SKB, BPF_CGROUP_INET_EGRESS},
	{"tunnel", "cgroup/setsockopt", BPF_PROG_TYPE_CGROUP_SOCKOPT, BPF_CGROUP_SETSOCKOPT},
	{"prove", "syscall", BPF_PROG_TYPE_SYSCALL, 0},
};

/* bpf-templates/maps.h and policy.h. A map that is not shared must be there. */
struct accept_map {
	const char *name;
	enum bpf_map_type type;
	uint32_t key, value, flags;
	bool is_private;
};
static const struct accept_map accept_maps[] = {
	{"control", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct mesh_control), BPF_F_MMAPABLE, false},
	{"peers4", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct mesh_peer_bucket), BPF_F_MMAPABLE, false},
	{"peers6", BPF_MAP_TYPE_HASH, 16, sizeof(struct mesh_peer), BPF_F_NO_PREALLOC, false},
	{"netns", BPF_MAP_TYPE_HASH, 8, sizeof(struct mesh_netns), BPF_F_NO_PREALLOC, false},
	{"exact", BPF_MAP_TYPE_HASH, sizeof(struct mesh_tuple), sizeof(struct mesh_exact), BPF_F_NO_PREALLOC, false},
	{"flows", BPF_MAP_TYPE_LRU_HASH, sizeof(struct mesh_tuple), sizeof(struct mesh_flow), 0, false},
	{"nat", BPF_MAP_TYPE_LRU_HASH, sizeof(struct mesh_nat_key), sizeof(struct mesh_nat), 0, false},
	{"stats", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 0, false},
	{"buckets", BPF_MAP_TYPE_PERCPU_ARRAY, 4, 16, 0, false},
	{"sockets", BPF_MAP_TYPE_SK_STORAGE, 4, sizeof(struct mesh_socket), BPF_F_NO_PREALLOC | BPF_F_CLONE, false},
	{"asked", BPF_MAP_TYPE_SK_STORAGE, 4, sizeof(struct mesh_ask), BPF_F_NO_PREALLOC, false},
	{"records", BPF_MAP_TYPE_RINGBUF, 0, 0, 0, false},
	{"orders", BPF_MAP_TYPE_RINGBUF, 0, 0, 0, false},
	{"jump_lookup", BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 0, false},
	{"jump_ingress", BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 0, false},
	{"classes", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct mesh_class), BPF_F_MMAPABLE, true},
	{"vips", BPF_MAP_TYPE_HASH, sizeof(struct mesh_vip_key), sizeof(struct mesh_vip), BPF_F_NO_PREALLOC, true},
	{"sets", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct mesh_set), BPF_F_MMAPABLE, true},
	{"backends", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct mesh_backend), 0, true},
	{"hits", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(struct mesh_hits), 0, true},
	{"ids", BPF_MAP_TYPE_HASH, 16, 4, BPF_F_NO_PREALLOC, true},
	{"vectors", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct mesh_vector), BPF_F_MMAPABLE, true},
	{"answers", BPF_MAP_TYPE_ARRAY, 4, sizeof(struct mesh_answer), BPF_F_MMAPABLE, true},
};
enum { ACCEPT_MAPS = sizeof(accept_maps) / sizeof(*accept_maps) };

/* ---- Programs ------------------------------------------------------------------------------------- */

static int check_program(const struct bpf_program *program, unsigned *seen, struct why *why)
{
	const char *name = bpf_program__name(program), *section = bpf_program__section_name(program);
	int i = 0;
	while (i < ACCEPT_PROGRAMS && strcmp(accept_programs[i].name, name) != 0)
		i++;
	if (i == ACCEPT_PROGRAMS)
		return why_set(why, -EINVAL, "the object has a program '%.60s', which no policy has", name);
	const struct accept_program *known = &accept_programs[i];
	/* The attach type of sk_lookup and of syscall programs plays no part at load. */
	bool is_bound = known->type == BPF_PROG_TYPE_CGROUP_SOCK_ADDR || known->type == BPF_PROG_TYPE_CGROUP_SKB ||
			known->type == BPF_PROG_TYPE_CGROUP_SOCKOPT;
	if (strcmp(known->section, section) != 0 || bpf_program__type(program) != known->type ||
	    (is_bound && bpf_program__expected_attach_type(program) != known->attach) || *seen & 1u << i)
		return why_set(why, -EINVAL,
			       "the object's program '%s' is in section '%.60s': it belongs into '%s', once", name,
			       section, known->section);
	*seen |= 1u << i;
	return 0;
}

static int check_programs(const struct bpf_object *object, struct why *why)
{
	struct bpf_program *program;
	unsigned seen = 0;
	bpf_object__for_each_program (program, object) {
		int r = check_program(program, &seen, why);
		if (r)
			return r;
	}
	for (int i = 0; i < ACCEPT_PROGRAMS; i++)
		if (!(seen & 1u << i))
			return why_set(why, -EINVAL, "the object has no program '%s'", accept_programs[i].name);
	return 0;
}

/* ---- Maps ----------------------------------------------------------------------------------------- */

static int check_map(const struct bpf_map *map, unsigned *seen, struct why *why)
{
	const char *name = bpf_map__name(map);
	int i = 0;
	if (bpf_map__is_internal(map)) /* .rodata: accept_elf knows of no other data section */
		return 0;
	while (i < ACCEPT_MAPS && strcmp(accept_maps[i].name, name) != 0)
		i++;
	if (i == ACCEPT_MAPS)
		return why_set(why, -EINVAL, "the object has a map '%.60s', which no policy has", name);
	const struct accept_map *known = &accept_maps[i];
	if (bpf_map__type(map) != known->type || bpf_map__key_size(map) != known->key ||
	    bpf_map__value_size(map) != known->value || bpf_map__map_flags(map) != known->flags)
		return why_set(why, -EINVAL,
			       "the object's map '%s' has type %u, keys of %u, values of %u bytes, flags %#x: known "
			       "are %u, %u, %u, %#x",
			       name, bpf_map__type(map), bpf_map__key_size(map), bpf_map__value_size(map),
			       bpf_map__map_flags(map), known->type, known->key, known->value, known->flags);
	if (bpf_map__max_entries(map) > LIMIT_ENTRIES)
		return why_set(why, -EINVAL, "the object's map '%s' has %u entries: the most is %d", name,
			       bpf_map__max_entries(map), LIMIT_ENTRIES);
	if (bpf_map__pin_path(map) || bpf_map__inner_map((struct bpf_map *)map) || bpf_map__map_extra(map) ||
	    bpf_map__ifindex(map) || bpf_map__numa_node(map) || *seen & 1u << i)
		return why_set(why, -EINVAL,
			       "the object's map '%s' wants to be pinned, bound to something, or to be there twice",
			       name);
	*seen |= 1u << i;
	return 0;
}

static int check_maps(const struct bpf_object *object, struct why *why)
{
	const struct bpf_map *map;
	unsigned seen = 0;
	bpf_object__for_each_map (map, object) {
		int r = check_map(map, &seen, why);
		if (r)
			return r;
	}
	for (int i = 0; i < ACCEPT_MAPS; i++)
		if (accept_maps[i].is_private && !(seen & 1u << i))
			return why_set(why, -EINVAL, "the object has no map '%s'", accept_maps[i].name);
	return 0;
}

/* ---- libbpf --------------------------------------------------------------------------------------- */

/* libbpf says why it refuses only by its print function, which is one for the process. */
static char libbpf_said[200];

__attribute__((format(printf, 2, 0))) static int keep_warning(enum libbpf_print_level level, const char *format,
							      va_list args)
{
	if (level == LIBBPF_WARN && !libbpf_said[0])
		vsnprintf(libbpf_said, sizeof(libbpf_said), format, args);
	libbpf_said[strcspn(libbpf_said, "\n")] = 0;
	return 0;
}

int accept_object(const void *bytes, size_t len, struct why *why)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "policy");
	libbpf_said[0] = 0;
	libbpf_print_fn_t before = libbpf_set_print(keep_warning);
	struct bpf_object *object = bpf_object__open_mem(bytes, len, &options);
	int error = object ? 0 : -errno;
	libbpf_set_print(before);
	if (!object)
		return why_set(why, -EINVAL, "libbpf cannot read the object: %s (%s)", strerror(-error),
			       libbpf_said[0] ? libbpf_said : "no reason given");
	int r = check_programs(object, why);
	if (!r)
		r = check_maps(object, why);
	bpf_object__close(object);
	return r;
}
