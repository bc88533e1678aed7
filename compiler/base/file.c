#define _GNU_SOURCE 1 /* mkostemp */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int bytes_read(int fd, size_t limit, char **ret_text, size_t *ret_len)
{
	size_t len = 0, cap = 0;
	char *text = NULL;
	/* Until the end, not to st_size: the file may grow while it is read. */
	for (;;) {
		if (cap - len < 2) {
			char *grown = realloc(text, cap = cap ? cap * 2 : 64 << 10);
			if (!grown) {
				free(text);
				return -ENOMEM;
			}
			text = grown;
		}
		ssize_t got = read(fd, text + len, cap - len - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || len + (size_t)got > limit) {
			int error = got < 0 ? -errno : -E2BIG;
			free(text);
			return error;
		}
		len += (size_t)got;
		if (!got)
			break;
	}
	text[len] = 0;
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int file_read(const char *path, size_t limit, char **ret_text, size_t *ret_len, struct why *why)
{
	struct stat found;
	/* Non-blocking: a FIFO in the file's place must not make the caller wait. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return why_set(why, -errno, "%s: cannot be opened: %s", path, strerror(errno));
	int r = fstat(fd, &found) ? -errno : S_ISREG(found.st_mode) ? 0 : -EINVAL;
	if (r) {
		close(fd);
		return why_set(why, r, "%s: not a regular file", path);
	}
	r = bytes_read(fd, limit, ret_text, ret_len);
	close(fd);
	if (r == -E2BIG)
		return why_set(why, r, "%s: larger than %zu bytes, the most that is read", path, limit);
	return r ? why_set(why, r, "%s: cannot be read: %s", path, strerror(-r)) : 0;
}

static int bytes_write(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t put = write(fd, text, len);
		if (put < 0 && errno != EINTR)
			return -errno;
		if (put > 0) {
			text += put;
			len -= (size_t)put;
		}
	}
	return fsync(fd) ? -errno : 0;
}

int file_replace(const char *path, const char *text, size_t len, struct why *why)
{
	char fresh[4096];
	if (snprintf(fresh, sizeof(fresh), "%s.XXXXXX", path) >= (int)sizeof(fresh))
		return why_set(why, -ENAMETOOLONG, "%s: the path is too long", path);
	int fd = mkostemp(fresh, O_CLOEXEC);
	if (fd < 0)
		return why_set(why, -errno, "%s: no file can be made beside it: %s", path, strerror(errno));
	int r = bytes_write(fd, text, len);
	if (close(fd) && !r)
		r = -errno;
	if (!r && rename(fresh, path))
		r = -errno;
	if (!r)
		return 0;
	unlink(fresh);
	return why_set(why, r, "%s: cannot be written: %s", path, strerror(-r));
}
