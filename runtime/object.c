#include "kernel_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libbpf's last warning: library code of ours is silent, and its text belongs into WHY. */
static __thread char complaint[200];

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list arguments)
{
	/* What comes last says least: "failed to load object". */
	if (level == LIBBPF_WARN && !strstr(format, "BEGIN PROG LOAD LOG") && !strstr(format, "failed to load object"))
		vsnprintf(complaint, sizeof(complaint), strncmp(format, "libbpf: ", 8) ? format : format + 8,
			  arguments);
	return 0;
}

int object_open(const void *elf, size_t len, struct object *ret_object, struct why *why)
{
	libbpf_set_print(keep_complaint);
	complaint[0] = 0;
	char *log = calloc(1, OBJECT_LOG_BYTES);
	if (!log)
		return why_set(why, -ENOMEM, "out of memory");
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "mesh", .kernel_log_buf = log,
		    .kernel_log_size = OBJECT_LOG_BYTES);
	struct bpf_object *object = bpf_object__open_mem(elf, len, &options);
	if (!object) {
		int error = -errno;
		free(log);
		return why_set(why, error, "the object cannot be read: %s", complaint);
	}
	*ret_object = (struct object){.bpf = object, .log = log};
	return 0;
}

void object_close(struct object *object)
{
	bpf_object__close(object->bpf);
	free(object->log);
	*object = (struct object){0};
}

/* The last lines of the verifier's log, as one. Behind the reason come only its own figures. */
static void log_end(char *log, char *ret_text, size_t room)
{
	char *figures = strstr(log, "\nprocessed ");
	for (char *later; figures && (later = strstr(figures + 1, "\nprocessed "));)
		figures = later;
	if (figures)
		*figures = 0;
	size_t len = strlen(log);
	const char *from = len < room ? log : log + len - room + 1;
	const char *line = from == log ? log : strchr(from, '\n');
	snprintf(ret_text, room, "%s", line && line[1] ? line : from);
	for (char *at = ret_text; *at; at++)
		if (*at == '\n')
			*at = *at && at[1] ? '|' : ' ';
}

int object_load(struct object *object, struct why *why)
{
	complaint[0] = 0;
	int r = bpf_object__load(object->bpf);
	complaint[strcspn(complaint, "\n")] = 0;
	if (!r)
		return 0;
	if (object->log[0]) {
		char text[360];
		log_end(object->log, text, sizeof(text));
		return why_set(why, -ENOEXEC, "the kernel's verifier refused it: %s: %s", complaint, text);
	}
	if (r == -EPERM)
		return why_set(why, -EPERM,
			       "the kernel refused (%s); needed are CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or "
			       "CAP_SYS_ADMIN)",
			       complaint);
	if (r == -ENOMEM)
		return why_set(why, -ENOMEM, "the kernel has no memory for it: %s; lower sizes: in the configuration",
			       complaint);
	return why_set(why, r == -EINVAL || r == -ENOTSUP || r == -EOPNOTSUPP ? -ENOTSUP : r,
		       "this kernel cannot load it: %s; see meshd preflight", complaint);
}

int object_map_info(int fd, struct bpf_map_info *ret_info)
{
	struct bpf_map_info info = {0};
	__u32 len = sizeof(info);
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return -errno;
	*ret_info = info;
	return 0;
}

int object_compare_map(const struct bpf_map *map, int fd, bool size, struct why *why)
{
	struct bpf_map_info info = {0};
	int r = object_map_info(fd, &info);
	if (r)
		return why_set(why, r, "%s: %s", bpf_map__name(map), strerror(-r));
	const struct {
		const char *what;
		__u32 wanted, found;
	} pairs[] = {
		{"type", bpf_map__type(map), info.type},
		{"key size", bpf_map__key_size(map), info.key_size},
		{"value size", bpf_map__value_size(map), info.value_size},
		{"flags", bpf_map__map_flags(map), info.map_flags},
		{"entries", size ? bpf_map__max_entries(map) : info.max_entries, info.max_entries},
	};
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++)
		if (pairs[i].wanted != pairs[i].found)
			return why_set(why, -EUCLEAN, "map %s: its %s is %u, the object wants %u", bpf_map__name(map),
				       pairs[i].what, pairs[i].found, pairs[i].wanted);
	return 0;
}
