#include "kernel_internal.h"

#include <errno.h>

#define CARRIED(name)                                                                                                  \
	extern const unsigned char name##_object[];                                                                    \
	extern const unsigned int name##_object_len;
CARRIED(runtime)
CARRIED(near)
CARRIED(adopt)
CARRIED(policy)
#undef CARRIED

static int set_sizes(const struct config *config, struct object *object, struct why *why)
{
	for (int i = 0; i < KERNEL_MAP_COUNT; i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object->bpf, kernel_map_names[i]);
		uint32_t entries = kernel_map_entries(config, i);
		if (!map)
			return why_set(why, -EINVAL, "the runtime's object has no map %s", kernel_map_names[i]);
		int r = entries ? bpf_map__set_max_entries(map, entries) : 0;
		if (r)
			return why_set(why, r, "map %s cannot have %u entries", kernel_map_names[i], entries);
	}
	return 0;
}

const void *carried_policy(size_t *ret_len)
{
	*ret_len = policy_object_len;
	return policy_object;
}

int carried_open(enum carried which, const struct config *config, struct object *ret_object, struct why *why)
{
	const struct {
		const unsigned char *elf;
		unsigned int len;
	} objects[CARRIED_COUNT] = {
		[CARRIED_RUNTIME] = {runtime_object, runtime_object_len},
		[CARRIED_NEAR] = {near_object, near_object_len},
		[CARRIED_ADOPT] = {adopt_object, adopt_object_len},
	};
	*ret_object = (struct object){0};
	int r = object_open(objects[which].elf, objects[which].len, ret_object, why);
	if (!r && which == CARRIED_RUNTIME)
		r = set_sizes(config, ret_object, why);
	if (r)
		object_close(ret_object);
	return r;
}

int carried_load(enum carried which, const struct object *runtime, const struct config *config,
		 struct object *ret_object, struct why *why)
{
	int r = carried_open(which, config, ret_object, why);
	if (r)
		return r;
	struct bpf_map *map;
	bpf_object__for_each_map (map, ret_object->bpf) {
		const struct bpf_map *made = bpf_object__find_map_by_name(runtime->bpf, bpf_map__name(map));
		r = made ? bpf_map__reuse_fd(map, bpf_map__fd(made)) : -ENOENT;
		if (r) {
			why_set(why, r, "map %s is not the runtime's", bpf_map__name(map));
			break;
		}
	}
	if (!r)
		r = object_load(ret_object, why);
	if (r)
		object_close(ret_object);
	return r;
}
