#include "kernel_internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct pin_path pin_path(const struct config *config, const char *format, ...)
{
	struct pin_path path;
	int len = snprintf(path.text, sizeof(path.text), "%s/%s", config->bpffs, config->pins);
	if (len < 0 || (size_t)len >= sizeof(path.text))
		return (struct pin_path){""};
	va_list arguments;
	va_start(arguments, format);
	int more = vsnprintf(path.text + len, sizeof(path.text) - len, format, arguments);
	va_end(arguments);
	return more < 0 || (size_t)more >= sizeof(path.text) - len ? (struct pin_path){""} : path;
}

int pin_make_folder(const char *path)
{
	return mkdir(path, 0700) ? -errno : 0;
}

bool pin_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

int pin_each(const char *folder, int (*each)(void *context, const char *name), void *context)
{
	DIR *directory = opendir(folder);
	if (!directory)
		return errno == ENOENT ? 0 : -errno;
	int r = 0;
	for (struct dirent *entry; !r && (entry = readdir(directory));)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = each(context, entry->d_name);
	closedir(directory);
	return r;
}

struct removal {
	const char *folder;
	int levels;
};

static int remove_tree(const char *folder, int levels);

static int remove_entry(void *context, const char *name)
{
	const struct removal *removal = context;
	char path[PATH_MAX];
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", removal->folder, name) >= sizeof(path))
		return -ENAMETOOLONG;
	if (unlink(path) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR && removal->levels ? remove_tree(path, removal->levels - 1) : -errno;
}

static int remove_tree(const char *folder, int levels)
{
	struct removal removal = {folder, levels};
	int r = pin_each(folder, remove_entry, &removal);
	/* readdir may skip names while others are removed: what is left is found by the next round. */
	for (int round = 0; !r && rmdir(folder); round++) {
		if (errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY || round == 8)
			return -errno;
		r = pin_each(folder, remove_entry, &removal);
	}
	return r;
}

int pin_remove(const char *folder)
{
	return remove_tree(folder, 3);
}

/* Does process 1 see the file system DEVICE, too? A bpffs of a private mount namespace would take
 * every link with it when the last process there ends. */
static bool host_mounts(dev_t device)
{
	FILE *file = fopen("/proc/1/mountinfo", "re");
	if (!file)
		return false;
	char *line = NULL;
	size_t room = 0;
	bool found = false;
	while (!found && getline(&line, &room, file) > 0) {
		unsigned int high, low;
		found = sscanf(line, "%*d %*d %u:%u", &high, &low) == 2 && makedev(high, low) == device;
	}
	free(line);
	fclose(file);
	return found;
}

int pin_check_bpffs(const struct config *config, struct why *why)
{
	struct statfs system;
	struct stat status;
	if (statfs(config->bpffs, &system) || stat(config->bpffs, &status))
		return why_set(why, -ENOTDIR, "%s: %s; mount a bpffs there: mount -t bpf bpf %s", config->bpffs,
			       strerror(errno), config->bpffs);
	if (system.f_type != BPF_FS_MAGIC)
		return why_set(why, -ENOTDIR, "%s is not a bpffs; mount one there: mount -t bpf bpf %s", config->bpffs,
			       config->bpffs);
	if (!host_mounts(status.st_dev))
		return why_set(why, -ENOTDIR,
			       "%s is mounted in this mount namespace only: what is pinned there ends with it; mount "
			       "the host's bpffs into it",
			       config->bpffs);
	if (!*config->pins || strpbrk(config->pins, "./"))
		return why_set(why, -ENOTDIR, "pins: \"%s\": a bpffs allows no dots or slashes in the name of a folder",
			       config->pins);
	return 0;
}
