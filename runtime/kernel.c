#include "kernel_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *const kernel_map_names[KERNEL_MAP_COUNT] = {
#define MAP(name, who, size) #name,
	KERNEL_MAPS(MAP)
#undef MAP
};

static const char *const program_names[KERNEL_PROGRAM_COUNT] = {
#define PROGRAM(name, type, hook) #name,
	KERNEL_CGROUP(PROGRAM)
#undef PROGRAM
		"d_lookup",
	"f_answer",
	"f_ask",
	"i_adopt",
	"i_adopt_udp",
};

const char *const kernel_policy_names[KERNEL_POLICY_COUNT] = {
#define PROGRAM(name) #name,
	KERNEL_POLICY(PROGRAM)
#undef PROGRAM
};

enum { OWN, SHARED };

uint32_t kernel_addresses(const struct config *config)
{
	return config->kept > config->endpoints ? config->kept : config->endpoints;
}

uint32_t kernel_map_entries(const struct config *config, enum kernel_map i)
{
	const uint32_t entries[KERNEL_MAP_COUNT] = {
#define MAP(name, who, size) size,
		KERNEL_MAPS(MAP)
#undef MAP
	};
	return entries[i];
}

int kernel_map(struct kernel *kernel, const char *name)
{
	for (int i = 0; i < KERNEL_MAP_COUNT; i++)
		if (strcmp(kernel_map_names[i], name) == 0)
			return kernel->maps[i];
	return -ENOENT;
}

int kernel_shared_map(const struct kernel *kernel, const char *name, bool *ret_sized)
{
	static const bool shared[KERNEL_MAP_COUNT] = {
#define MAP(name, who, size) who == SHARED,
		KERNEL_MAPS(MAP)
#undef MAP
	};
	for (int i = 0; i < KERNEL_MAP_COUNT; i++) {
		if (!shared[i] || strcmp(kernel_map_names[i], name) != 0)
			continue;
		*ret_sized = kernel_map_entries(kernel->config, i) != 0;
		return kernel->maps[i];
	}
	return -1;
}

int kernel_jump(const struct kernel *kernel, enum kernel_policy i)
{
	static const enum kernel_map jumps[KERNEL_POLICY_COUNT] = {
#define PROGRAM(name) KERNEL_MAP_jump_##name,
		KERNEL_POLICY(PROGRAM)
#undef PROGRAM
	};
	return kernel->maps[jumps[i]];
}

volatile struct mesh_control *kernel_control(struct kernel *kernel)
{
	return kernel->control;
}

void kernel_set_mode(struct kernel *kernel, enum mesh_mode mode)
{
	volatile struct mesh_control *control = kernel->control;
	if (control->mode == mode)
		return;
	control->mode = mode;
	control->epoch = control->epoch + 1;
}

uint64_t kernel_stat(struct kernel *kernel, enum mesh_stat stat)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *counts = cpus > 0 ? calloc(cpus, sizeof(*counts)) : NULL;
	uint64_t sum = 0;
	__u32 key = stat;
	if (counts && bpf_map_lookup_elem(kernel->maps[KERNEL_MAP_stats], &key, counts) == 0)
		for (int i = 0; i < cpus; i++)
			sum += counts[i];
	free(counts);
	return sum;
}

/* ---- Making -------------------------------------------------------------------------------------- */

/* The first object is loaded; the others where this kernel can. */
static int load_all(const struct config *config, struct object ret_objects[CARRIED_COUNT], struct why *why)
{
	struct object *runtime = &ret_objects[CARRIED_RUNTIME];
	int r = carried_open(CARRIED_RUNTIME, config, runtime, why);
	if (!r)
		r = object_load(runtime, why);
	for (int i = CARRIED_RUNTIME + 1; !r && i < CARRIED_COUNT; i++) {
		struct why unneeded;
		carried_load(i, runtime, config, &ret_objects[i], &unneeded);
	}
	return r;
}

static const struct bpf_program *find_program(const struct object objects[CARRIED_COUNT], const char *name)
{
	const struct bpf_program *found = NULL;
	for (int i = 0; i < CARRIED_COUNT; i++) {
		const struct bpf_program *program =
			objects[i].bpf ? bpf_object__find_program_by_name(objects[i].bpf, name) : NULL;
		found = program ? program : found;
	}
	return found;
}

static int pin_all(const struct config *config, const struct object objects[CARRIED_COUNT])
{
	static const char *const folders[] = {"", "/map", "/prog", "/link", "/netns", "/gen"};
	int r = 0;
	for (size_t i = 0; !r && i < sizeof(folders) / sizeof(*folders); i++)
		r = pin_make_folder(pin_path(config, "-new%s", folders[i]).text);
	for (int i = 0; !r && i < KERNEL_MAP_COUNT; i++) {
		const struct bpf_map *map =
			bpf_object__find_map_by_name(objects[CARRIED_RUNTIME].bpf, kernel_map_names[i]);
		r = bpf_obj_pin(bpf_map__fd(map), pin_path(config, "-new/map/%s", kernel_map_names[i]).text);
	}
	for (int i = 0; !r && i < KERNEL_PROGRAM_COUNT; i++) {
		const struct bpf_program *program = find_program(objects, program_names[i]);
		if (!program && i < KERNEL_PROGRAM_i_adopt)
			return -ENOENT;
		if (program)
			r = bpf_obj_pin(bpf_program__fd(program),
					pin_path(config, "-new/prog/%s", program_names[i]).text);
	}
	return r;
}

/* Loads and pins in a folder beside, and renames: a folder of the right name is complete. */
static int runtime_make(const struct config *config, struct why *why)
{
	struct pin_path made = pin_path(config, "-new"), place = pin_path(config, "%s", "");
	struct object objects[CARRIED_COUNT] = {0};
	int r = load_all(config, objects, why);
	if (!r) {
		r = pin_all(config, objects);
		if (!r && rename(made.text, place.text))
			r = -errno;
		if (r)
			why_set(why, r, "pinning below %s: %s", place.text, strerror(-r));
	}
	for (int i = 0; i < CARRIED_COUNT; i++)
		object_close(&objects[i]);
	if (r)
		pin_remove(made.text);
	return r;
}

/* ---- Adopting ------------------------------------------------------------------------------------ */

static int open_maps(struct kernel *kernel, const struct bpf_object *object, struct why *why)
{
	for (int i = 0; i < KERNEL_MAP_COUNT; i++) {
		struct pin_path path = pin_path(kernel->config, "/map/%s", kernel_map_names[i]);
		kernel->maps[i] = bpf_obj_get(path.text);
		if (kernel->maps[i] < 0)
			return why_set(why, kernel->maps[i], "%s: %s", path.text, strerror(-kernel->maps[i]));
		/* The sizes that it was made with win over the configuration's. */
		int r = object_compare_map(bpf_object__find_map_by_name(object, kernel_map_names[i]), kernel->maps[i],
					   !kernel_map_entries(kernel->config, i), why);
		if (r)
			return r;
	}
	return 0;
}

static int open_programs(struct kernel *kernel, struct why *why)
{
	for (int i = 0; i < KERNEL_PROGRAM_COUNT; i++) {
		struct pin_path path = pin_path(kernel->config, "/prog/%s", program_names[i]);
		kernel->programs[i] = bpf_obj_get(path.text);
		if (kernel->programs[i] < 0 && i < KERNEL_PROGRAM_i_adopt)
			return why_set(why, kernel->programs[i], "%s: %s", path.text, strerror(-kernel->programs[i]));
	}
	for (int i = 0; i < KERNEL_CGROUP_COUNT; i++)
		kernel->links[i] = bpf_obj_get(pin_path(kernel->config, "/link/%s", program_names[i]).text);
	return 0;
}

static int runtime_adopt(struct kernel *kernel, struct why *why)
{
	struct object object;
	int r = carried_open(CARRIED_RUNTIME, kernel->config, &object, why);
	if (r)
		return r;
	r = open_maps(kernel, object.bpf, why);
	object_close(&object);
	if (!r)
		r = open_programs(kernel, why);
	if (r)
		return r;
	void *page = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED,
			  kernel->maps[KERNEL_MAP_control], 0);
	if (page == MAP_FAILED)
		return why_set(why, -errno, "mapping control: %s", strerror(errno));
	kernel->control = page;
	r = peers_map(kernel->maps[KERNEL_MAP_peers4], &kernel->peers);
	if (r)
		return why_set(why, r, "mapping peers4: %s", strerror(-r));
	kernel->control->peer_mask = kernel->peers.mask;
	r = rings_open(kernel);
	return r ? why_set(why, r, "the ring buffers: %s", strerror(-r)) : 0;
}

static int refuse_entry(void *context, const char *name)
{
	(void)context;
	(void)name;
	return 1;
}

/* Whether what is pinned decides anything: a policy is active, or that cannot be known. */
static bool runtime_enforces(const struct config *config)
{
	struct mesh_control control = {0};
	__u32 zero = 0;
	int fd = bpf_obj_get(pin_path(config, "/map/control").text);
	if (fd < 0)
		return pin_each(pin_path(config, "/link").text, refuse_entry, NULL) ||
		       pin_each(pin_path(config, "/netns").text, refuse_entry, NULL);
	bool known = bpf_map_lookup_elem(fd, &zero, &control) == 0;
	close(fd);
	return !known || control.active;
}

/* ---- Opening ------------------------------------------------------------------------------------- */

static struct kernel *kernel_new(const struct config *config)
{
	struct kernel *kernel = calloc(1, sizeof(*kernel));
	if (!kernel)
		return NULL;
	kernel->config = config;
	memset(kernel->maps, -1, sizeof(kernel->maps));
	memset(kernel->programs, -1, sizeof(kernel->programs));
	memset(kernel->links, -1, sizeof(kernel->links));
	return kernel;
}

static void close_all(const int *fds, int count)
{
	for (int i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

void kernel_close(struct kernel *kernel)
{
	if (!kernel)
		return;
	rings_close(kernel);
	peers_unmap(&kernel->peers);
	if (kernel->control)
		munmap((void *)kernel->control, sysconf(_SC_PAGESIZE));
	close_all(kernel->maps, KERNEL_MAP_COUNT);
	close_all(kernel->programs, KERNEL_PROGRAM_COUNT);
	close_all(kernel->links, KERNEL_CGROUP_COUNT);
	free(kernel);
}

static int try_adopt(const struct config *config, struct kernel **ret_kernel, struct why *why)
{
	struct kernel *kernel = kernel_new(config);
	if (!kernel)
		return why_set(why, -ENOMEM, "out of memory");
	int r = runtime_adopt(kernel, why);
	if (r)
		kernel_close(kernel);
	else
		*ret_kernel = kernel;
	return r;
}

int kernel_open(const struct config *config, struct kernel **ret_kernel, bool *ret_adopted, struct why *why)
{
	int r = pin_check_bpffs(config, why);
	if (r)
		return r;
	/* Never attached to anything: attaching begins behind the rename. */
	pin_remove(pin_path(config, "-new").text);
	struct pin_path place = pin_path(config, "%s", "");
	if (pin_exists(place.text)) {
		struct why inner = {""};
		r = try_adopt(config, ret_kernel, &inner);
		if (!r) {
			*ret_adopted = true;
			return 0;
		}
		if (r != -ENOENT && r != -EUCLEAN)
			return why_set(why, r, "%s", inner.text);
		if (runtime_enforces(config))
			return why_set(why, -EUCLEAN,
				       "%s is damaged or of another version, and may be enforcing: %s; remove it with "
				       "meshd uninstall",
				       place.text, inner.text);
		r = kernel_uninstall(config, why);
		if (r)
			return r;
	}
	r = runtime_make(config, why);
	if (!r)
		r = try_adopt(config, ret_kernel, why);
	if (!r)
		*ret_adopted = false;
	return r;
}

/* ---- Taking away --------------------------------------------------------------------------------- */

struct detaching {
	const struct config *config;
	const char *folder;
};

/* Detached and not only unpinned: a descriptor that somebody holds would keep it in force. */
static int detach(void *context, const char *name)
{
	const struct detaching *work = context;
	struct pin_path path = pin_path(work->config, "/%s/%s", work->folder, name);
	int fd = bpf_obj_get(path.text);
	if (fd < 0)
		return 0;
	bpf_link_detach(fd);
	close(fd);
	return 0;
}

int kernel_uninstall(const struct config *config, struct why *why)
{
	static const char *const links[] = {"link", "netns"};
	static const char *const order[] = {"/link", "/netns", "", "-new"};
	if (!pin_exists(pin_path(config, "%s", "").text) && !pin_exists(pin_path(config, "-new").text))
		return 0;
	int r = pin_check_bpffs(config, why);
	if (r)
		return r;
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++) {
		struct detaching work = {config, links[i]};
		pin_each(pin_path(config, "/%s", links[i]).text, detach, &work);
	}
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++) {
		struct pin_path path = pin_path(config, "%s", order[i]);
		r = pin_remove(path.text);
		if (r)
			return why_set(why, r, "removing %s: %s", path.text, strerror(-r));
	}
	return 0;
}
