#include "accept.h"

#include "accept_object.h"
#include "base/apart.h"

#include <errno.h>
#include <stdio.h>

/* ---- Who says so ---------------------------------------------------------------------------------- */

/* A key that cannot be read must not keep the others from being tried. */
static int check_signature(const struct config *config, const struct bundle *bundle, struct why *why)
{
	const char *reason = "", *unreadable = NULL;
	if (!bundle->is_signed)
		return why_set(why, -EPERM, "the bundle is not signed: `meshc sign -k KEY BUNDLE` signs it");
	for (size_t i = 0; i < config->keys.len; i++) {
		int r = bundle_verify(bundle, config->keys.at[i], &reason);
		if (!r)
			return 0;
		if (r != -EPERM)
			unreadable = config->keys.at[i];
	}
	char id[17];
	for (int i = 0; i < 8; i++)
		snprintf(id + 2 * i, 3, "%02x", bundle->key_id[i]);
	return why_set(why, -EPERM,
		       "the bundle says it was signed by key %s…: by none of the %zu keys of this node's "
		       "configuration, or it was changed since%s%s",
		       id, config->keys.len, unreadable ? "; cannot be read: " : "", unreadable ? unreadable : "");
}

/* ---- What it is ----------------------------------------------------------------------------------- */

static int check_mesh(const struct config *config, const json_t *manifest, struct why *why)
{
	const char *mesh = json_string_value(json_object_get(manifest, "mesh"));
	if (!mesh)
		return why_set(why, -EINVAL,
			       "the manifest does not say which mesh it is for: not made by meshc compile");
	if (strcmp(mesh, config->mesh) != 0)
		return why_set(why, -EINVAL, "the bundle is for mesh '%.60s', this node is of mesh '%.60s'", mesh,
			       config->mesh);
	return 0;
}

/* The manifest may lie: what the programs were built with is in their .rodata. */
static int check_abi(const struct bundle *bundle, struct why *why)
{
	size_t len = 0;
	struct mesh_config built = {0};
	const json_t *said = json_object_get(bundle->manifest, "abi");
	const void *at = bundle_rodata_symbol((void *)bundle->elf, bundle->elf_len, "config", &len);
	if (!json_is_integer(said) || !at || len != sizeof(built))
		return why_set(why, -EINVAL, "the bundle does not say its ABI: not made by meshc compile");
	memcpy(&built, at, sizeof(built));
	if (json_integer_value(said) != MESH_ABI || built.abi != MESH_ABI)
		return why_set(why, -EINVAL,
			       "the bundle has ABI %lld (its programs %u), this meshd has %u: compile it with the "
			       "meshc of this version",
			       (long long)json_integer_value(said), built.abi, MESH_ABI);
	return 0;
}

/* An old bundle is a door: its signature stays good for ever. */
static int check_version(const struct config *config, const json_t *manifest, long long last_version, struct why *why)
{
	const json_t *version = json_object_get(manifest, "version");
	if (!json_is_integer(version) || json_integer_value(version) < 0)
		return why_set(why, -EINVAL, "the manifest has no policy version: not made by meshc compile");
	if (json_integer_value(version) < last_version && !config->allow_older)
		return why_set(why, -EINVAL,
			       "the bundle has policy version %lld, older than %lld, which was in force: go back by "
			       "`meshd rollback`, or set allow_older",
			       (long long)json_integer_value(version), last_version);
	return 0;
}

struct reading {
	const void *bytes;
	size_t len;
};

static void read_apart(void *context, struct apart *ret)
{
	const struct reading *reading = context;
	ret->result = accept_object(reading->bytes, reading->len, &ret->why);
}

static int check_all(const struct config *config, const struct bundle *bundle, long long last_version, struct why *why)
{
	int r = check_signature(config, bundle, why);
	if (!r)
		r = check_mesh(config, bundle->manifest, why);
	if (!r)
		r = check_abi(bundle, why);
	if (!r)
		r = check_version(config, bundle->manifest, last_version, why);
	if (!r)
		r = accept_elf(bundle->elf, bundle->elf_len, why);
	struct reading reading = {bundle->elf, bundle->elf_len};
	return r ? r : apart_run(read_apart, &reading, NULL, why);
}

int accept_bundle(const struct config *config, const void *bytes, size_t len, long long last_version,
		  struct bundle *ret_bundle, struct why *why)
{
	const char *reason = "";
	struct bundle bundle;
	int r = bundle_open(bytes, len, &bundle, &reason);
	if (r)
		return why_set(why, r, "not a bundle: %s", reason);
	r = check_all(config, &bundle, last_version, why);
	if (r) {
		bundle_close(&bundle);
		return r;
	}
	*ret_bundle = bundle;
	return 0;
}
