#include "svid_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_TRIES = 3 };

/* ---- Stamps --------------------------------------------------------------------------------------- */

static void mix(uint64_t *stamp, const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*stamp = (*stamp ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
}

/* ctime too: a mode that was wrong and is right now is a change. */
static void mix_file(uint64_t *stamp, const struct stat *at)
{
	const int64_t facts[] = {(int64_t)at->st_dev, (int64_t)at->st_ino, at->st_size,	       at->st_mtim.tv_sec,
				 at->st_mtim.tv_nsec, at->st_ctim.tv_sec,  at->st_ctim.tv_nsec};
	mix(stamp, facts, sizeof(facts));
}

/* ---- Finding -------------------------------------------------------------------------------------- */

static bool is_file(const char *path, struct stat *ret_at)
{
	return stat(path, ret_at) == 0 && S_ISREG(ret_at->st_mode);
}

static const char *suffix_of(const char *name, const char *suffix)
{
	size_t len = strlen(name), suffix_len = strlen(suffix);
	return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0 ? name + len - suffix_len : NULL;
}

/* What can be said to the proxy, and in status. */
static bool is_text(const char *name)
{
	json_t *text = json_string(name); /* NULL: no UTF-8 */
	bool is_clean = text != NULL;
	for (const char *c = name; *c; c++)
		is_clean = is_clean && (unsigned char)*c >= ' ' && *c != 0x7f;
	json_decref(text);
	return is_clean;
}

static void complain(struct svid_files *files, const char *path, const char *problem)
{
	char *text = arena_printf(files->arena, "%s: %s", path, problem);
	if (!is_text(text))
		make_printable(text);
	vec_push(files->arena, &files->problems, text);
}

static void add(struct svid_files *files, struct svid_entry entry, const struct stat *first, const struct stat *second)
{
	if (!is_text(entry.name)) {
		mix(&files->stamp, entry.first, strlen(entry.first));
		complain(files, entry.first, "the name is no text in UTF-8");
		return;
	}
	if (strlen(entry.name) > SVID_FILES_MOST_NAME) {
		vec_push(files->arena, &files->problems,
			 arena_printf(files->arena, "%s: the name is longer than %d bytes", entry.first,
				      SVID_FILES_MOST_NAME));
		return;
	}
	if (files->entries.len == SVID_FILES_MOST) {
		files->is_over = true;
		return;
	}
	mix(&files->stamp, entry.first, strlen(entry.first));
	mix_file(&files->stamp, first);
	if (entry.second)
		mix_file(&files->stamp, second);
	vec_push(files->arena, &files->entries, entry);
}

/* The certificate PATH, if it is one: its key has the same name but for the ending. */
static void try_pair(struct svid_files *files, const char *path, const char *name, const struct stat *at)
{
	static const struct {
		const char *certificate, *key;
	} endings[] = {{".crt", ".key"}, {".pem", "_key.pem"}, {".pem", "-key.pem"}};
	struct stat of_key;
	const char *file = strrchr(path, '/') + 1;
	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		const char *ending = suffix_of(file, endings[i].certificate);
		if (!ending || (ending - file == 2 && strncmp(file, "ca", 2) == 0))
			continue;
		const char *key = arena_printf(files->arena, "%.*s%s", (int)(ending - path), path, endings[i].key);
		if (!is_file(key, &of_key))
			continue;
		add(files, (struct svid_entry){false, name, path, key}, at, &of_key);
		return;
	}
}

static void try_trust(struct svid_files *files, const char *path, const char *name)
{
	struct stat first, second;
	const char *ending = suffix_of(name, ".pem");
	if (!ending || suffix_of(name, ".crl.pem") || !is_file(path, &first))
		return;
	const char *domain = arena_copy(files->arena, name, (size_t)(ending - name));
	const char *crl = arena_printf(files->arena, "%.*s.crl.pem", (int)(strlen(path) - strlen(".pem")), path);
	struct svid_entry entry = {true, domain, path, is_file(crl, &second) ? crl : NULL};
	add(files, entry, &first, &second);
}

/* Sorted: what is found first must not hang on how a file system lists. NULL: it cannot be read. */
static struct dirent **list(const char *path, int *ret_count)
{
	struct dirent **names;
	*ret_count = scandir(path, &names, NULL, alphasort);
	return *ret_count < 0 ? NULL : names;
}

/* PREFIX of names: "" or "folder/". Only an unreadable folder at the top is an error. */
static int walk(struct svid_files *files, const char *folder, const char *prefix, unsigned depth)
{
	int count;
	struct dirent **names = list(folder, &count);
	if (!names)
		return -errno;
	for (int i = 0; i < count; i++) {
		struct stat at;
		const char *name = arena_printf(files->arena, "%s%s", prefix, names[i]->d_name);
		const char *path = arena_printf(files->arena, "%s/%s", folder, names[i]->d_name);
		bool is_passed_over = names[i]->d_name[0] == '.' || suffix_of(name, ".key");
		free(names[i]);
		files->is_over = files->is_over || ++files->looked > SVID_FILES_MOST_NAMES;
		if (files->is_over || is_passed_over || stat(path, &at))
			continue;
		if (S_ISREG(at.st_mode))
			try_pair(files, path, name, &at);
		if (!S_ISDIR(at.st_mode) || !depth)
			continue;
		int r = walk(files, path, arena_printf(files->arena, "%s/", name), depth - 1);
		if (r)
			complain(files, path, strerror(-r));
	}
	free(names);
	return 0;
}

static int list_trust(struct svid_files *files, const char *folder)
{
	int count;
	struct dirent **names = list(folder, &count);
	if (!names)
		return -errno;
	for (int i = 0; i < count; i++) {
		if (names[i]->d_name[0] != '.')
			try_trust(files, arena_printf(files->arena, "%s/%s", folder, names[i]->d_name),
				  names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return 0;
}

int svid_files_find(const char *identities, const char *trust, struct svid_files *ret_files, struct why *why)
{
	struct svid_files files = {.arena = arena_create(), .stamp = 0xcbf29ce484222325u};
	if (!files.arena)
		return why_set(why, -ENOMEM, "out of memory");
	const char *failed = identities;
	int r = walk(&files, identities, "", SVID_FILES_DEPTH);
	if (!r)
		r = list_trust(&files, failed = trust);
	if (r)
		why_set(why, r, "%s: %s", failed, strerror(-r));
	else if (files.is_over)
		r = why_set(why, -E2BIG,
			    "%s: more than %d certificates and bundles, or more than %d names: is this the folder?",
			    identities, SVID_FILES_MOST, SVID_FILES_MOST_NAMES);
	if (r) {
		svid_files_release(&files);
		return r;
	}
	*ret_files = files;
	return 0;
}

void svid_files_release(struct svid_files *files)
{
	arena_destroy(files->arena);
	*files = (struct svid_files){0};
}

/* ---- Opening -------------------------------------------------------------------------------------- */

/* Non-blocking: a FIFO in the file's place must not make meshd wait. */
static int open_file(const char *path, struct stat *ret_at, struct why *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return why_set(why, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, ret_at) == 0 && S_ISREG(ret_at->st_mode))
		return fd;
	close(fd);
	return why_set(why, -EINVAL, "%s: not a regular file", path);
}

static int check_key(const char *path, const struct stat *at, struct why *why)
{
	if (at->st_mode & (S_IRWXG | S_IRWXO))
		return why_set(why, -EPERM,
			       "%s: others may read or write this key (mode %04o): it must be 0600 or 0400", path,
			       at->st_mode & 07777);
	if (at->st_uid && at->st_uid != geteuid())
		return why_set(why, -EPERM, "%s: belongs to user %u: a key is root's or meshd's own", path, at->st_uid);
	return 0;
}

/* The first one is looked up again after the second was opened: is it still the same, no swap came between. */
static int open_both(const struct svid_entry *entry, int ret_fds[2], struct why *why)
{
	struct stat first, second, again;
	int fds[2] = {open_file(entry->first, &first, why), -1};
	if (fds[0] < 0)
		return fds[0];
	fds[1] = open_file(entry->second, &second, why);
	int r = fds[1] < 0 ? fds[1] : 0;
	if (!r && !entry->is_trust)
		r = check_key(entry->second, &second, why);
	if (!r && (stat(entry->first, &again) || again.st_dev != first.st_dev || again.st_ino != first.st_ino))
		r = why_set(why, -EAGAIN, "%s: is being changed", entry->first);
	if (!r) {
		memcpy(ret_fds, fds, sizeof(fds));
		return 2;
	}
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	return r;
}

int svid_entry_open(const struct svid_entry *entry, int ret_fds[2], struct why *why)
{
	struct stat at;
	if (!entry->second) {
		int fd = open_file(entry->first, &at, why);
		if (fd < 0)
			return fd;
		ret_fds[0] = fd;
		return 1;
	}
	int r = -EAGAIN;
	/* A generation that goes away between two looks is no fault either. */
	for (int i = 0; i < OPEN_TRIES && (r == -EAGAIN || r == -ENOENT); i++)
		r = open_both(entry, ret_fds, why);
	return r;
}
