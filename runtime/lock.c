/* One meshd for each set of pins. The lock is on a folder beside them: the kernel lets go of it with its holder,
 * however that ends, and it is the same one from every mount and process namespace. */
#include "kernel_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A child of a meshd that was killed may hold it for a moment. */
enum { TRIES = 50, TRY_US = 20000 };

/* Who holds the lock on inode AT, as our own process namespace numbers it (proc(5), locks); 0: not known. */
static int holder_of(const struct stat *at)
{
	char line[256];
	int pid, found = 0;
	unsigned int high, low;
	unsigned long long inode;
	FILE *file = fopen("/proc/locks", "re");
	while (file && !found && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*d: FLOCK %*s WRITE %d %x:%x:%llu", &pid, &high, &low, &inode) == 4 &&
		    makedev(high, low) == at->st_dev && inode == at->st_ino)
			found = pid;
	if (file)
		fclose(file);
	return found;
}

static int refuse(const struct config *config, const char *path, struct why *why)
{
	struct stat at;
	char who[32] = "not known which";
	int pid = stat(path, &at) ? 0 : holder_of(&at);
	if (pid > 0)
		snprintf(who, sizeof(who), "pid %d", pid);
	return why_set(why, -EBUSY, "another meshd (%s) works on %s/%s: stop it first, or choose other `pins`", who,
		       config->bpffs, config->pins);
}

/* `uninstall` may have removed the folder before it was locked. */
static bool is_still(const char *path, int fd)
{
	struct stat opened, there;
	return fstat(fd, &opened) == 0 && stat(path, &there) == 0 && opened.st_dev == there.st_dev &&
	       opened.st_ino == there.st_ino;
}

/* The descriptor; -EAGAIN: somebody else has it, or had it just now. */
static int try_lock(const char *path)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_still(path, fd))
		return fd;
	close(fd);
	return -EAGAIN;
}

int kernel_lock(const struct config *config, int *ret_lock, struct why *why)
{
	int r = pin_check_bpffs(config, why);
	if (r)
		return r;
	struct pin_path path = pin_path(config, "-lock");
	r = try_lock(path.text);
	for (int i = 1; i < TRIES && r == -EAGAIN; i++) {
		usleep(TRY_US);
		r = try_lock(path.text);
	}
	if (r == -EAGAIN)
		return refuse(config, path.text, why);
	if (r < 0)
		return why_set(why, r, "%s: %s", path.text, strerror(-r));
	*ret_lock = r;
	return 0;
}

void kernel_lock_remove(const struct config *config)
{
	rmdir(pin_path(config, "-lock").text);
}
