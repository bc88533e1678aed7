/* What outlives meshd: the bundles that are resident, and which of them were applied when. Files are
 * replaced by rename, so that a crash leaves the old or the new. */
#include "node.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct path {
	char text[1024];
};

static struct path state_path(const struct config *config, const char *format, unsigned number)
{
	struct path path;
	int len = snprintf(path.text, sizeof(path.text), "%s/", config->state);
	if (len < (int)sizeof(path.text))
		snprintf(path.text + len, sizeof(path.text) - len, format, number);
	return path;
}

static void make_folders(const char *folder)
{
	char path[1024];
	snprintf(path, sizeof(path), "%s", folder);
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		mkdir(path, 0755);
		*slash = '/';
	}
	mkdir(path, 0700);
}

int state_keep_bundle(const struct node *node, const void *bytes, size_t len, struct why *why)
{
	make_folders(node->config->state);
	return file_replace(state_path(node->config, "slot.new", 0).text, bytes, len, why);
}

int state_place_bundle(const struct node *node, uint32_t slot, struct why *why)
{
	struct path fresh = state_path(node->config, "slot.new", 0), path = state_path(node->config, "slot-%u.o", slot);
	return rename(fresh.text, path.text) ? why_set(why, -errno, "%s: %s", path.text, strerror(errno)) : 0;
}

int state_save(const struct node *node, struct why *why)
{
	make_folders(node->config->state);
	json_t *slots = json_array();
	for (uint32_t i = 0; i < MESH_GENERATIONS; i++) {
		const struct resident *resident = &node->residents[i];
		if (resident->generation)
			json_array_append_new(slots, json_pack("{s:i, s:i, s:I, s:I, s:I}", "slot", i, "generation",
							       (int)resident->generation->number, "version",
							       (json_int_t)resident->version, "applied",
							       (json_int_t)resident->applied_s, "order",
							       (json_int_t)resident->order));
	}
	json_t *all = json_pack("{s:i, s:I, s:s, s:I, s:i, s:o}", "next_generation", (int)node->next_generation,
				"next_order", (json_int_t)node->next_order, "mesh", node->config->mesh, "last_version",
				(json_int_t)node->last_version, "active", (int)kernel_control(node->kernel)->active,
				"slots", slots);
	char *text = all ? json_dumps(all, JSON_INDENT(1)) : NULL;
	int r = text ? file_replace(state_path(node->config, "state.json", 0).text, text, strlen(text), why)
		     : why_set(why, -ENOMEM, "out of memory");
	free(text);
	json_decref(all);
	return r;
}

static int read_file(const char *path, void **ret_bytes, size_t *ret_len)
{
	struct stat at;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = fstat(fd, &at) ? -errno : at.st_size > BUNDLE_LIMIT_BYTES || at.st_size == 0 ? -EFBIG : 0;
	char *bytes = r ? NULL : malloc(at.st_size);
	size_t done = 0;
	while (bytes && done < (size_t)at.st_size) {
		ssize_t got = read(fd, bytes + done, at.st_size - done);
		if (got <= 0)
			break;
		done += got;
	}
	close(fd);
	if (r || !bytes || done < (size_t)at.st_size) {
		free(bytes);
		return r ? r : -EIO;
	}
	*ret_bytes = bytes;
	*ret_len = done;
	return 0;
}

int state_read_bundle(const struct node *node, uint32_t slot, void **ret_bytes, size_t *ret_len)
{
	return read_file(state_path(node->config, "slot-%u.o", slot).text, ret_bytes, ret_len);
}

/* Bundles without the list of them. */
static bool has_bundles(const struct config *config)
{
	bool found = false;
	for (unsigned i = 0; i < MESH_GENERATIONS; i++)
		found = found || access(state_path(config, "slot-%u.o", i).text, F_OK) == 0;
	return found;
}

static void take_slots(struct node *node, const json_t *slots)
{
	size_t i;
	json_t *slot;
	json_array_foreach ((json_t *)slots, i, slot) {
		json_int_t number = json_integer_value(json_object_get(slot, "slot"));
		if (number < 0 || number >= MESH_GENERATIONS)
			continue;
		struct resident *resident = &node->residents[number];
		resident->version = json_integer_value(json_object_get(slot, "version"));
		resident->applied_s = json_integer_value(json_object_get(slot, "applied"));
		resident->order = json_integer_value(json_object_get(slot, "order"));
	}
}

static int take_state(struct node *node, const json_t *all, const char *path, uint32_t *ret_active, struct why *why)
{
	const char *mesh = json_string_value(json_object_get(all, "mesh"));
	json_int_t generation = json_integer_value(json_object_get(all, "next_generation")),
		   order = json_integer_value(json_object_get(all, "next_order")),
		   active = json_integer_value(json_object_get(all, "active"));
	if (generation < 1 || generation > UINT32_MAX || order < 1 || active < 1 || active > MESH_GENERATIONS)
		return why_set(why, -EUCLEAN, "%s does not say which policy was in force", path);
	node->next_generation = generation;
	node->next_order = order;
	*ret_active = active;
	if (mesh && strcmp(mesh, node->config->mesh) == 0)
		node->last_version = json_integer_value(json_object_get(all, "last_version"));
	take_slots(node, json_object_get(all, "slots"));
	return 0;
}

int state_load(struct node *node, uint32_t *ret_active, struct why *why)
{
	json_error_t error;
	struct path path = state_path(node->config, "state.json", 0);
	*ret_active = 0;
	if (access(path.text, F_OK) && errno == ENOENT)
		return has_bundles(node->config)
			       ? why_set(why, -EUCLEAN, "%s is missing, but bundles are there", path.text)
			       : 0;
	json_t *all = json_load_file(path.text, JSON_REJECT_DUPLICATES, &error);
	if (!all)
		return why_set(why, -EUCLEAN, "%s:%d: %s", path.text, error.line, error.text);
	int r = take_state(node, all, path.text, ret_active, why);
	json_decref(all);
	return r;
}
