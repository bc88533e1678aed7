/* The runtime's links at the cgroup, and what other people have there. */
#include "kernel_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

static const struct hook {
	enum bpf_attach_type type;
	const char *program, *name;
} hooks[KERNEL_CGROUP_COUNT] = {
#define PROGRAM(program, type, name) {type, #program, name},
	KERNEL_CGROUP(PROGRAM)
#undef PROGRAM
};

/* Of one type at one cgroup; the kernel takes 64 at most (BPF_CGROUP_MAX_PROGS). */
struct programs {
	__u32 ids[64], count, flags;
};

static int query(int cgroup, enum bpf_attach_type type, __u32 query_flags, struct programs *ret_programs)
{
	*ret_programs = (struct programs){.count = 64};
	return bpf_prog_query(cgroup, type, query_flags, query_flags ? NULL : &ret_programs->flags, ret_programs->ids,
			      &ret_programs->count);
}

/* "?" where we may not look (CAP_SYS_ADMIN). */
static void program_name(__u32 id, char ret_name[BPF_OBJ_NAME_LEN])
{
	struct bpf_prog_info info = {0};
	__u32 len = sizeof(info);
	strcpy(ret_name, "?");
	int fd = bpf_prog_get_fd_by_id(id);
	if (fd < 0)
		return;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
		memcpy(ret_name, info.name, BPF_OBJ_NAME_LEN);
	close(fd);
}

static __u32 program_id(int fd)
{
	struct bpf_prog_info info = {0};
	__u32 len = sizeof(info);
	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.id;
}

static int cgroup_open(const char *path)
{
	struct statfs system;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &system) == 0 && system.f_type == CGROUP2_SUPER_MAGIC)
		return fd;
	close(fd);
	return -ENOTDIR;
}

/* PATH becomes its parent; false where it has none. */
static bool path_up(char *path)
{
	char *slash = strrchr(path, '/');
	if (!slash || slash == path)
		return false;
	*slash = 0;
	return true;
}

/* ---- Links --------------------------------------------------------------------------------------- */

/* A link that is pinned: 0 where it is alive and at this cgroup. */
static int link_check(const struct kernel *kernel, int i, int cgroup, struct why *why)
{
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	struct stat status;
	if (bpf_obj_get_info_by_fd(kernel->links[i], &info, &len) || fstat(cgroup, &status))
		return why_set(why, -errno, "link %s: %s", hooks[i].program, strerror(errno));
	if (!info.cgroup.cgroup_id)
		return why_set(why, -EUCLEAN,
			       "link %s is dead: its cgroup was removed; meshd uninstall takes the rest away",
			       hooks[i].program);
	/* The id of a cgroup is its inode number (kernfs, 64 bits). */
	if (info.cgroup.cgroup_id != status.st_ino)
		return why_set(why, -EUCLEAN, "link %s is at another cgroup than %s; meshd uninstall, then start anew",
			       hooks[i].program, kernel->config->cgroup);
	return 0;
}

/* A program that was attached alone would refuse ours; one that may be overridden would be switched
 * off by ours without a word. */
static int refuse_loners(int cgroup, const char *path, const struct hook *hook, struct why *why)
{
	struct programs programs;
	char name[BPF_OBJ_NAME_LEN];
	if (query(cgroup, hook->type, 0, &programs) || !programs.count || (programs.flags & BPF_F_ALLOW_MULTI))
		return 0;
	program_name(programs.ids[0], name);
	bool silenced = programs.flags & BPF_F_ALLOW_OVERRIDE;
	return why_set(why, -EBUSY, "%s: program %u (%s) is attached to %s %s; attach it with BPF_F_ALLOW_MULTI", path,
		       programs.ids[0], name, hook->name,
		       silenced ? "with BPF_F_ALLOW_OVERRIDE, and ours would switch it off"
				: "without BPF_F_ALLOW_MULTI, and lets no other in");
}

static int neighbours_check(const struct hook *hook, const char *cgroup, struct why *why)
{
	char path[PATH_MAX];
	if (!realpath(cgroup, path))
		return why_set(why, -errno, "%s: %s", cgroup, strerror(errno));
	int r = 0;
	do {
		int fd = cgroup_open(path);
		if (fd < 0)
			break;
		r = refuse_loners(fd, path, hook, why);
		close(fd);
	} while (!r && path_up(path));
	return r;
}

static int attach(struct kernel *kernel, int i, int cgroup, struct why *why)
{
	struct pin_path path = pin_path(kernel->config, "/link/%s", hooks[i].program);
	int r = neighbours_check(&hooks[i], kernel->config->cgroup, why);
	if (r)
		return r;
	/* A link is always ALLOW_MULTI, and goes behind those that are there. */
	int link = bpf_link_create(kernel->programs[i], cgroup, hooks[i].type, NULL);
	if (link < 0)
		return why_set(why, link, "attaching %s to %s: %s", hooks[i].program, kernel->config->cgroup,
			       strerror(-link));
	r = bpf_obj_pin(link, path.text);
	if (r) {
		bpf_link_detach(link);
		close(link);
		return why_set(why, r, "%s: %s", path.text, strerror(-r));
	}
	kernel->links[i] = link;
	return 0;
}

static void detach(struct kernel *kernel, int i)
{
	bpf_link_detach(kernel->links[i]);
	unlink(pin_path(kernel->config, "/link/%s", hooks[i].program).text);
	close(kernel->links[i]);
	kernel->links[i] = -1;
}

int kernel_attach(struct kernel *kernel, struct why *why)
{
	int cgroup = cgroup_open(kernel->config->cgroup);
	if (cgroup < 0)
		return why_set(why, cgroup, "%s: no folder of a cgroup2 file system: %s", kernel->config->cgroup,
			       strerror(-cgroup));
	bool made[KERNEL_CGROUP_COUNT] = {false};
	int r = 0;
	for (int i = 0; !r && i < KERNEL_CGROUP_COUNT; i++) {
		if (kernel->links[i] >= 0) {
			r = link_check(kernel, i, cgroup, why);
		} else {
			r = attach(kernel, i, cgroup, why);
			made[i] = !r;
		}
	}
	for (int i = 0; r && i < KERNEL_CGROUP_COUNT; i++)
		if (made[i])
			detach(kernel, i);
	close(cgroup);
	return r;
}

/* A link that is pinned is kept where it is at FOLDER. */
static int attach_at(struct kernel *kernel, int program, enum bpf_attach_type type, const char *name, int folder)
{
	struct pin_path path = pin_path(kernel->config, "/link/%s", name);
	struct bpf_link_info info = {0};
	__u32 len = sizeof(info);
	struct stat status;
	int link = bpf_obj_get(path.text);
	bool current = link >= 0 && !bpf_obj_get_info_by_fd(link, &info, &len) && !fstat(folder, &status) &&
		       info.cgroup.cgroup_id == status.st_ino;
	if (link >= 0)
		close(link);
	if (current)
		return 0;
	unlink(path.text);
	link = bpf_link_create(kernel->programs[program], folder, type, NULL);
	int r = link < 0 ? link : bpf_obj_pin(link, path.text);
	if (link >= 0)
		close(link);
	return r;
}

int kernel_attach_proxy(struct kernel *kernel, const char *cgroup, struct why *why)
{
	int folder = cgroup_open(cgroup);
	if (folder < 0)
		return why_set(why, folder, "%s: no folder of a cgroup2 file system: %s", cgroup, strerror(-folder));
	int r = attach_at(kernel, KERNEL_PROGRAM_f_answer, BPF_CGROUP_GETSOCKOPT, "f_answer", folder);
	if (!r)
		r = attach_at(kernel, KERNEL_PROGRAM_f_ask, BPF_CGROUP_SETSOCKOPT, "f_ask", folder);
	close(folder);
	return r ? why_set(why, r, "attaching to %s what answers the node proxy: %s", cgroup, strerror(-r)) : 0;
}

/* ---- Neighbours ---------------------------------------------------------------------------------- */

static void report(json_t *found, const struct hook *hook, __u32 id, const char *order, const char *cgroup)
{
	char name[BPF_OBJ_NAME_LEN];
	program_name(id, name);
	json_array_append_new(found, json_pack("{s:s, s:i, s:s, s:s, s:s}", "hook", hook->name, "id", (int)id, "name",
					       name, "order", order, "cgroup", cgroup));
}

static bool programs_have(const struct programs *programs, __u32 id)
{
	for (__u32 i = 0; i < programs->count; i++)
		if (programs->ids[i] == id)
			return true;
	return false;
}

/* Those that run for our cgroup but sit above what we may see (a cgroup namespace). */
static void report_hidden(json_t *found, const struct hook *hook, int cgroup, const struct programs *seen)
{
	struct programs effective;
	if (query(cgroup, hook->type, BPF_F_QUERY_EFFECTIVE, &effective))
		return;
	for (__u32 i = 0; i < effective.count; i++)
		if (!programs_have(seen, effective.ids[i]))
			report(found, hook, effective.ids[i], "after", "?");
}

/* A cgroup's own programs run first, in the order in which they came; then its ancestors'. */
static void neighbours_of(struct kernel *kernel, int i, json_t *found)
{
	char path[PATH_MAX];
	struct programs seen = {0};
	__u32 ours = program_id(kernel->programs[i]);
	bool behind = false;
	int own = cgroup_open(kernel->config->cgroup);
	if (own < 0 || !realpath(kernel->config->cgroup, path)) {
		if (own >= 0)
			close(own);
		return;
	}
	do {
		struct programs here;
		int fd = cgroup_open(path);
		if (fd < 0)
			break;
		if (query(fd, hooks[i].type, 0, &here))
			here.count = 0;
		for (__u32 k = 0; k < here.count; k++) {
			if (here.ids[k] != ours)
				report(found, &hooks[i], here.ids[k], behind ? "after" : "before", path);
			behind = behind || here.ids[k] == ours;
			if (seen.count < 64)
				seen.ids[seen.count++] = here.ids[k];
		}
		close(fd);
		behind = true;
	} while (path_up(path));
	report_hidden(found, &hooks[i], own, &seen);
	close(own);
}

json_t *kernel_neighbours(struct kernel *kernel)
{
	json_t *found = json_array();
	for (int i = 0; i < KERNEL_CGROUP_COUNT; i++)
		neighbours_of(kernel, i, found);
	return found;
}
