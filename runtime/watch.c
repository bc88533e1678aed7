#define _GNU_SOURCE 1
/* A folder in which a pipeline puts signed bundles (by rename): the newest is applied, like by `meshd
 * apply`, and what is wrong with it shows in status. */
#include "node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_bundle(const char *name)
{
	size_t len = strlen(name);
	return len > 2 && name[0] != '.' && strcmp(name + len - 2, ".o") == 0;
}

static bool is_later(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
						      : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

/* The newest bundle in the open FOLDER; its name in RET_NAME. */
static bool find_newest(DIR *folder, char ret_name[256], struct stat *ret_at)
{
	bool found = false;
	for (struct dirent *entry; (entry = readdir(folder));) {
		struct stat at;
		if (!is_bundle(entry->d_name) || fstatat(dirfd(folder), entry->d_name, &at, 0) ||
		    !S_ISREG(at.st_mode) || (found && !is_later(&at, ret_at)))
			continue;
		snprintf(ret_name, 256, "%s", entry->d_name);
		*ret_at = at;
		found = true;
	}
	return found;
}

static void note(struct node *node, char *problem)
{
	free(node->watch_problem);
	node->watch_problem = problem;
	if (problem)
		node_say("%s", problem);
}

/* Said once, not at every look. */
static void note_folder(struct node *node, bool can_be_read)
{
	char *problem = NULL;
	if (node->config->watch && !can_be_read &&
	    asprintf(&problem, "watch: %s: %s: no bundle is applied from there", node->config->watch, strerror(errno)) <
		    0)
		problem = NULL;
	if (problem && !node->watch_folder_problem)
		node_say("%s", problem);
	free(node->watch_folder_problem);
	node->watch_folder_problem = problem;
}

static void apply_newest(struct node *node, DIR *folder, const char *name)
{
	struct why why = {0};
	char *problem = NULL;
	json_t *answer = json_object();
	int fd = openat(dirfd(folder), name, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? why_set(&why, -errno, "%s", strerror(errno)) : node_apply(node, fd, true, answer, &why);
	if (r < 0 && asprintf(&problem, "%s/%s is not applied: %s", node->config->watch, name, why.text) < 0)
		problem = NULL;
	note(node, problem);
	if (fd >= 0)
		close(fd);
	json_decref(answer);
}

void node_watch_bundles(struct node *node)
{
	char name[256];
	struct stat at = {0};
	DIR *folder = node->config->watch ? opendir(node->config->watch) : NULL;
	note_folder(node, folder != NULL);
	if (!folder)
		return;
	bool found = find_newest(folder, name, &at);
	if (found) {
		uint64_t stamp =
			((at.st_ino * 31 + at.st_size) * 31 + at.st_mtim.tv_sec) * 1000000007 + at.st_mtim.tv_nsec;
		/* Each is tried once: what is refused today is refused tomorrow. */
		if (stamp != node->watched) {
			node->watched = stamp;
			apply_newest(node, folder, name);
		}
	}
	if (!found)
		note(node, NULL);
	closedir(folder);
}
