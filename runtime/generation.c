#include "base/bundle.h"
#include "base/apart.h"
#include "kernel_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Maps of a generation that are pinned with it. "about" says what no map of the policy says. */
enum { CLASSES, VIPS, SETS, BACKENDS, HITS, IDS, PRIVATE_COUNT };
static const char *const private_names[PRIVATE_COUNT] = {"classes", "vips", "sets", "backends", "hits", "ids"};

struct about {
	__u32 number;
};

/* ---- Loading ------------------------------------------------------------------------------------- */

/* A copy of ELF whose config.generation is NUMBER; malloc'd. */
static void *elf_with_number(const void *elf, size_t len, uint32_t number)
{
	size_t size;
	void *copy = malloc(len);
	if (!copy)
		return NULL;
	memcpy(copy, elf, len);
	struct mesh_config *config = bundle_rodata_symbol(copy, len, "config", &size);
	if (!config || size != sizeof(*config)) {
		free(copy);
		return NULL;
	}
	struct mesh_config wanted = {.abi = MESH_ABI, .generation = number};
	memcpy(config, &wanted, sizeof(wanted));
	return copy;
}

static int bind_map(const struct kernel *kernel, struct bpf_map *map, struct why *why)
{
	const struct config *config = kernel->config;
	const char *name = bpf_map__name(map);
	bool sized;
	int shared = kernel_shared_map(kernel, name, &sized);
	if (shared >= 0) {
		/* bpf_map__reuse_fd takes whatever it is given. */
		int r = object_compare_map(map, shared, !sized, why);
		return r ? r : bpf_map__reuse_fd(map, shared);
	}
	if (strcmp(name, "vectors") == 0 || strcmp(name, "answers") == 0)
		return bpf_map__set_autocreate(map, false);
	if (strcmp(name, "classes") == 0)
		return bpf_map__set_max_entries(map, config->endpoints + 1);
	if (strcmp(name, "vips") == 0)
		return bpf_map__set_max_entries(map, config->services);
	if (strcmp(name, "backends") == 0)
		return bpf_map__set_max_entries(map, config->backends & ~1u);
	/* Mapped, a set is written by one store of 8 bytes: an update by system call is a memcpy. */
	if (strcmp(name, "sets") == 0)
		return bpf_map__set_map_flags(map, bpf_map__map_flags(map) | BPF_F_MMAPABLE);
	if (strcmp(name, "hits") == 0 || strcmp(name, "ids") == 0 || bpf_map__is_internal(map))
		return 0;
	return why_set(why, -EINVAL, "the bundle has a map %s that no policy has", name);
}

static int policy_prepare(const struct kernel *kernel, const struct object *object, struct why *why)
{
	struct bpf_map *map;
	int r = 0;
	bpf_object__for_each_map (map, object->bpf) {
		r = bind_map(kernel, map, why);
		if (r == -EUCLEAN)
			return why_set(why, -EINVAL, "made for other shared maps than this node's");
		if (r)
			return r;
	}
	struct bpf_program *prove = bpf_object__find_program_by_name(object->bpf, "prove");
	if (prove)
		r = bpf_program__set_autoload(prove, false);
	for (int i = 0; !r && i < KERNEL_POLICY_COUNT; i++)
		if (!bpf_object__find_program_by_name(object->bpf, kernel_policy_names[i]))
			r = why_set(why, -EINVAL, "the bundle has no program %s", kernel_policy_names[i]);
	return r;
}

/* ---- Pinning ------------------------------------------------------------------------------------- */

static int pin_about(const struct config *config, uint32_t number)
{
	struct about about = {.number = number};
	__u32 zero = 0;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "about", sizeof(zero), sizeof(about), 1, NULL);
	if (fd < 0)
		return fd;
	int r = bpf_map_update_elem(fd, &zero, &about, BPF_ANY);
	if (!r)
		r = bpf_map_freeze(fd);
	if (!r)
		r = bpf_obj_pin(fd, pin_path(config, "/gen/new/about").text);
	close(fd);
	return r;
}

static int policy_pin(const struct config *config, const struct bpf_object *object, uint32_t number)
{
	int r = pin_make_folder(pin_path(config, "/gen/new").text);
	for (int i = 0; !r && i < KERNEL_POLICY_COUNT; i++) {
		const struct bpf_program *program = bpf_object__find_program_by_name(object, kernel_policy_names[i]);
		r = bpf_obj_pin(bpf_program__fd(program), pin_path(config, "/gen/new/%s", kernel_policy_names[i]).text);
	}
	for (int i = 0; !r && i < PRIVATE_COUNT; i++) {
		const struct bpf_map *map = bpf_object__find_map_by_name(object, private_names[i]);
		r = map ? bpf_obj_pin(bpf_map__fd(map), pin_path(config, "/gen/new/%s", private_names[i]).text)
			: -ENOENT;
	}
	return r ? r : pin_about(config, number);
}

static int policy_load(struct kernel *kernel, const void *elf, size_t len, uint32_t number, struct why *why)
{
	struct object object;
	int r = object_open(elf, len, &object, why);
	if (r)
		return r;
	r = policy_prepare(kernel, &object, why);
	if (!r)
		r = object_load(&object, why);
	if (!r) {
		r = policy_pin(kernel->config, object.bpf, number);
		if (r)
			why_set(why, r, "pinning the generation: %s", strerror(-r));
	}
	object_close(&object);
	return r;
}

struct loading {
	struct kernel *kernel;
	const void *elf;
	size_t len;
	uint32_t number;
};

/* What it leaves behind is pinned. */
static void load_apart(void *context, struct apart *ret)
{
	const struct loading *loading = context;
	ret->result = policy_load(loading->kernel, loading->elf, loading->len, loading->number, &ret->why);
}

/* ---- Adopting ------------------------------------------------------------------------------------ */

/* "memlock:" of /proc/self/fdinfo: what the kernel charges for a map or program. */
static uint64_t fd_memory(int fd)
{
	char path[64], line[128];
	unsigned long long bytes = 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file) && sscanf(line, "memlock: %llu", &bytes) != 1)
		continue;
	fclose(file);
	return bytes;
}

/* What is loaded lies beside the slots, until it has one. */
static struct pin_path generation_path(const struct kernel *kernel, uint32_t slot)
{
	return slot < MESH_GENERATIONS ? pin_path(kernel->config, "/gen/%u", slot)
				       : pin_path(kernel->config, "/gen/new");
}

/* A folder in its place says what it is: nothing else of it would tell. */
static struct pin_path closed_path(const struct kernel *kernel, uint32_t slot)
{
	return pin_path(kernel->config, "/gen/%u/closed", slot);
}

static int open_pin(const struct kernel *kernel, uint32_t slot, const char *name)
{
	struct pin_path path = generation_path(kernel, slot);
	size_t len = strlen(path.text);
	snprintf(path.text + len, sizeof(path.text) - len, "/%s", name);
	return bpf_obj_get(path.text);
}

static int adopt_map(struct kernel *kernel, uint32_t slot, const char *name, struct generation *generation, int *ret_fd,
		     uint32_t *ret_entries)
{
	struct bpf_map_info info;
	int fd = open_pin(kernel, slot, name);
	if (fd < 0)
		return fd;
	int r = object_map_info(fd, &info);
	if (r) {
		close(fd);
		return r;
	}
	generation->bytes += fd_memory(fd);
	*ret_fd = fd;
	*ret_entries = info.max_entries;
	return 0;
}

static int adopt_about(struct kernel *kernel, uint32_t slot, struct generation *generation)
{
	struct about about = {0};
	__u32 zero = 0;
	int fd = open_pin(kernel, slot, "about");
	if (fd < 0)
		return fd;
	int r = bpf_map_lookup_elem(fd, &zero, &about);
	close(fd);
	generation->number = about.number;
	return r;
}

static int adopt_program(struct kernel *kernel, uint32_t slot, enum kernel_policy i, struct generation *generation)
{
	struct bpf_prog_info info = {0};
	__u32 len = sizeof(info);
	int fd = open_pin(kernel, slot, kernel_policy_names[i]);
	if (fd < 0)
		return fd;
	int r = bpf_obj_get_info_by_fd(fd, &info, &len);
	generation->instructions += info.verified_insns;
	generation->bytes += fd_memory(fd);
	generation->programs++;
	close(fd);
	return r;
}

/* Its programs into their jump tables: again on adoption, where an entry that was lost is put back. */
static int fill_slot(struct kernel *kernel, struct generation *generation, uint32_t slot)
{
	int r = 0;
	generation->slot = slot;
	for (int i = 0; !r && i < KERNEL_POLICY_COUNT; i++) {
		int fd = open_pin(kernel, slot, kernel_policy_names[i]);
		if (fd < 0)
			return fd;
		r = bpf_map_update_elem(kernel_jump(kernel, i), &slot, &fd, BPF_ANY);
		close(fd);
	}
	kernel->control->generations[slot] = generation->number;
	return r;
}

/* The half whose backends the sets point to. */
static uint32_t half_in_use(const struct generation *generation)
{
	for (__u32 i = 0; i < generation->set_max; i++) {
		struct mesh_set set;
		if (bpf_map_lookup_elem(generation->sets, &i, &set) == 0 && set.count)
			return set.first >= generation->backend_max / 2;
	}
	return 0;
}

static int adopt_all(struct kernel *kernel, uint32_t slot, struct generation *generation)
{
	int r = adopt_about(kernel, slot, generation);
	const struct {
		const char *name;
		int *fd;
		uint32_t *entries;
	} maps[PRIVATE_COUNT] = {
		[CLASSES] = {"classes", &generation->classes, &generation->endpoints},
		[VIPS] = {"vips", &generation->vips, &generation->vip_max},
		[SETS] = {"sets", &generation->sets, &generation->set_max},
		[BACKENDS] = {"backends", &generation->backends, &generation->backend_max},
		[HITS] = {"hits", &generation->hits, &generation->hit_max},
		[IDS] = {"ids", &generation->ids, &generation->id_max},
	};
	for (int i = 0; !r && i < PRIVATE_COUNT; i++)
		r = adopt_map(kernel, slot, maps[i].name, generation, maps[i].fd, maps[i].entries);
	for (int i = 0; !r && i < KERNEL_POLICY_COUNT; i++)
		r = adopt_program(kernel, slot, i, generation);
	if (r)
		return r;
	generation->half = half_in_use(generation);
	generation->is_closed = pin_exists(closed_path(kernel, slot).text);
	return 0;
}

static int generation_open(struct kernel *kernel, uint32_t slot, struct generation **ret_generation, struct why *why)
{
	struct generation *generation = calloc(1, sizeof(*generation));
	if (!generation)
		return why_set(why, -ENOMEM, "out of memory");
	*generation = (struct generation){
		.slot = slot, .classes = -1, .vips = -1, .sets = -1, .backends = -1, .hits = -1, .ids = -1};
	int r = adopt_all(kernel, slot, generation);
	if (!r && slot < MESH_GENERATIONS)
		r = fill_slot(kernel, generation, slot);
	if (r) {
		generation_release(generation);
		return why_set(why, r == -ENOENT ? -EUCLEAN : r, "%s: %s", generation_path(kernel, slot).text,
			       strerror(-r));
	}
	*ret_generation = generation;
	return 0;
}

int kernel_adopt(struct kernel *kernel, uint32_t slot, struct generation **ret_generation, struct why *why)
{
	if (slot >= MESH_GENERATIONS || !pin_exists(generation_path(kernel, slot).text))
		return why_set(why, -ENOENT, "slot %u is empty", slot);
	return generation_open(kernel, slot, ret_generation, why);
}

/* ---- New ones ------------------------------------------------------------------------------------ */

int kernel_load(struct kernel *kernel, const void *elf, size_t len, uint32_t number, struct generation **ret_generation,
		struct why *why)
{
	struct pin_path made = generation_path(kernel, MESH_GENERATIONS);
	if (!number)
		return why_set(why, -EINVAL, "no such generation: %u", number);
	pin_remove(made.text); /* of a load that was cut off */
	void *copy = elf_with_number(elf, len, number);
	if (!copy)
		return why_set(why, -EINVAL, "the bundle has no object \"config\" in .rodata");
	struct loading loading = {kernel, copy, len, number};
	int r = apart_run(load_apart, &loading, NULL, why);
	free(copy);
	if (!r)
		r = generation_open(kernel, MESH_GENERATIONS, ret_generation, why);
	if (r)
		pin_remove(made.text);
	return r;
}

int kernel_place(struct kernel *kernel, struct generation *generation, uint32_t slot, struct why *why)
{
	struct pin_path made = generation_path(kernel, generation->slot), place = generation_path(kernel, slot);
	if (slot >= MESH_GENERATIONS)
		return why_set(why, -EINVAL, "no such slot: %u", slot);
	if (kernel->control->active == slot + 1)
		return why_set(why, -EBUSY, "slot %u is active", slot);
	if (pin_exists(place.text))
		return why_set(why, -EEXIST, "slot %u holds a generation", slot);
	int r = rename(made.text, place.text) ? -errno : fill_slot(kernel, generation, slot);
	return r ? why_set(why, r, "%s: %s", place.text, strerror(-r)) : 0;
}

int kernel_load_closed(struct kernel *kernel, uint32_t number, uint32_t slot, struct generation **ret_generation,
		       struct why *why)
{
	size_t len;
	const void *elf = carried_policy(&len);
	struct generation *generation;
	int r = kernel_load(kernel, elf, len, number, &generation, why);
	if (r)
		return r;
	r = kernel_place(kernel, generation, slot, why);
	if (!r && (r = pin_make_folder(closed_path(kernel, slot).text)))
		why_set(why, r, "%s: %s", closed_path(kernel, slot).text, strerror(-r));
	if (r) {
		kernel_unload(kernel, generation);
		generation_release(generation);
		return r;
	}
	generation->is_closed = true;
	*ret_generation = generation;
	return 0;
}

/* ---- Letting go ---------------------------------------------------------------------------------- */

void generation_release(struct generation *generation)
{
	if (!generation)
		return;
	const int fds[] = {generation->classes,	 generation->vips, generation->sets,
			   generation->backends, generation->hits, generation->ids};
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(generation);
}

struct mesh_class generation_class(const struct generation *generation, uint32_t endpoint)
{
	struct mesh_class class = {0};
	bpf_map_lookup_elem(generation->classes, &endpoint, &class);
	return class;
}

int kernel_retire(struct kernel *kernel, struct generation *generation)
{
	uint32_t slot = generation->slot;
	if (kernel->control->active == slot + 1)
		return -EBUSY;
	if (slot < MESH_GENERATIONS)
		kernel->control->generations[slot] = ~0u;
	return pin_remove(generation_path(kernel, slot).text);
}

int kernel_unload(struct kernel *kernel, struct generation *generation)
{
	__u32 slot = generation->slot;
	int r = kernel_retire(kernel, generation);
	for (int i = 0; !r && slot < MESH_GENERATIONS && i < KERNEL_POLICY_COUNT; i++) {
		r = bpf_map_delete_elem(kernel_jump(kernel, i), &slot);
		r = r == -ENOENT ? 0 : r;
	}
	return r;
}
