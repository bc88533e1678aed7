#define _GNU_SOURCE 1
#include "config.h"

#include "base/diag.h"
#include "base/file.h"

#include <ctype.h>
#include <errno.h>
#include <libfyaml.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/un.h>

enum { LIMIT_BYTES = 1 << 20, LIMIT_ITEMS = 1000 };

struct reader {
	const char *path;
	struct config *config;
	struct fy_node *key; /* the last one: the place where a value has none of its own */
	struct why *why;
};
struct key {
	const char *name;
	int (*read)(struct reader *reader, const struct key *key, struct fy_node *value);
	size_t at; /* in struct config */
	uint32_t min, max;
};

/* ---- Places -------------------------------------------------------------------------------------- */

static const struct fy_mark *mark_of(struct fy_node *node)
{
	struct fy_token *token = node ? fy_node_get_scalar_token(node) : NULL;
	return token ? fy_token_start_mark(token) : NULL;
}

__attribute__((format(printf, 3, 4))) static int fail(struct reader *reader, struct fy_node *node, const char *format,
						      ...)
{
	char text[400];
	va_list args;
	const struct fy_mark *mark = mark_of(node);
	if (!mark)
		mark = mark_of(reader->key);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return why_set(reader->why, -EINVAL, "%s:%d:%d: %s", reader->path, mark ? mark->line + 1 : 1,
		       mark ? mark->column + 1 : 1, text);
}

/* ---- Values -------------------------------------------------------------------------------------- */

/* The text of a scalar, in the arena. */
static int text_of(struct reader *reader, const char *name, struct fy_node *node, const char **ret_text)
{
	size_t len = 0;
	if (node && fy_node_is_alias(node))
		return fail(reader, node, "'%s' is an alias: write the value itself", name);
	if (!node || fy_node_get_type(node) != FYNT_SCALAR)
		return fail(reader, node, "'%s' is one value, not a list or a mapping", name);
	const char *text = fy_node_get_scalar(node, &len);
	if (!text || !len)
		return fail(reader, node, "'%s' has no value: give it one, or leave the key out", name);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return fail(reader, node, "'%s' has a control character in it", name);
	*ret_text = arena_copy(reader->config->arena, text, len);
	return 0;
}

static const char **text_at(struct reader *reader, const struct key *key)
{
	return (const char **)((char *)reader->config + key->at);
}

static int read_text(struct reader *reader, const struct key *key, struct fy_node *value)
{
	return text_of(reader, key->name, value, text_at(reader, key));
}

static int read_absolute(struct reader *reader, const struct key *key, struct fy_node *value)
{
	const char *text = NULL;
	int r = text_of(reader, key->name, value, &text);
	if (r)
		return r;
	if (text[0] != '/')
		return fail(reader, value, "'%s' is an absolute path: '%s' does not begin with /", key->name, text);
	*text_at(reader, key) = text;
	return 0;
}

/* A path beside the configuration itself: it means the same wherever meshd is started. */
static const char *beside(struct reader *reader, const char *path)
{
	const char *slash = strrchr(reader->path, '/');
	if (path[0] == '/' || !slash)
		return path;
	return arena_printf(reader->config->arena, "%.*s/%s", (int)(slash - reader->path), reader->path, path);
}

static int read_path(struct reader *reader, const struct key *key, struct fy_node *value)
{
	const char *text = NULL;
	int r = text_of(reader, key->name, value, &text);
	if (r)
		return r;
	*text_at(reader, key) = beside(reader, text);
	return 0;
}

static int read_socket(struct reader *reader, const struct key *key, struct fy_node *value)
{
	int r = read_path(reader, key, value);
	size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);
	if (!r && strlen(reader->config->socket) >= room)
		return fail(reader, value, "'socket' is longer than %zu bytes, the most that a socket's path can have",
			    room - 1);
	return r;
}

/* bpffs takes no dots in names (kernel/bpf/inode.c, bpf_lookup). */
static int read_pins(struct reader *reader, const struct key *key, struct fy_node *value)
{
	int r = read_text(reader, key, value);
	if (r)
		return r;
	const char *name = reader->config->pins;
	for (const char *at = name; *at; at++)
		if (!isalnum((unsigned char)*at) && *at != '_' && *at != '-')
			return fail(reader, value, "'pins' is one folder's name of letters, digits, - and _, not '%s'",
				    name);
	return strlen(name) <= 64 ? 0 : fail(reader, value, "'pins' is longer than 64 bytes");
}

static int read_count(struct reader *reader, const struct key *key, struct fy_node *value)
{
	const char *text = NULL;
	int r = text_of(reader, key->name, value, &text);
	if (r)
		return r;
	size_t digits = strspn(text, "0123456789");
	unsigned long long number = digits && digits < 12 && !text[digits] ? strtoull(text, NULL, 10) : ~0ull;
	if (number < key->min || number > key->max)
		return fail(reader, value, "'%s' is a whole number from %u to %u, not '%s'", key->name, key->min,
			    key->max, text);
	*(uint32_t *)((char *)reader->config + key->at) = (uint32_t)number;
	return 0;
}

static int read_bool(struct reader *reader, const struct key *key, struct fy_node *value)
{
	const char *text = NULL;
	int r = text_of(reader, key->name, value, &text);
	if (r)
		return r;
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		return fail(reader, value, "'%s' is true or false, not '%s'", key->name, text);
	*(bool *)((char *)reader->config + key->at) = text[0] == 't';
	return 0;
}

static int read_label(struct reader *reader, const struct key *key, struct fy_node *value)
{
	const char *text = NULL;
	int r = text_of(reader, key->name, value, &text);
	if (r)
		return r;
	const char *equals = strchr(text, '=');
	if (!equals || equals == text || !equals[1])
		return fail(reader, value, "'label' is \"name=value\", not '%s'", text);
	reader->config->enrol_label = arena_copy(reader->config->arena, text, (size_t)(equals - text));
	reader->config->enrol_value = equals + 1;
	return 0;
}

/* ---- Lists and mappings -------------------------------------------------------------------------- */

static int read_list(struct reader *reader, const struct key *key, struct fy_node *value, const char ***ret_at,
		     size_t *ret_len)
{
	VEC(const char *) items = {0};
	void *state = NULL;
	if (!value || fy_node_get_type(value) != FYNT_SEQUENCE)
		return fail(reader, value, "'%s' is a list: [a, b]", key->name);
	for (struct fy_node *item; (item = fy_node_sequence_iterate(value, &state));) {
		const char *text;
		int r = text_of(reader, key->name, item, &text);
		if (r)
			return r;
		if (items.len == LIMIT_ITEMS)
			return fail(reader, item, "'%s' has more than %d items", key->name, LIMIT_ITEMS);
		vec_push(reader->config->arena, &items, text);
	}
	if (!items.len)
		return fail(reader, value, "'%s' is an empty list: say what belongs there, or leave the key out",
			    key->name);
	*ret_at = items.at;
	*ret_len = items.len;
	return 0;
}

static int read_keys(struct reader *reader, const struct key *key, struct fy_node *value)
{
	struct config *config = reader->config;
	int r = read_list(reader, key, value, &config->keys.at, &config->keys.len);
	for (size_t i = 0; !r && i < config->keys.len; i++)
		config->keys.at[i] = beside(reader, config->keys.at[i]);
	return r;
}

static int read_namespaces(struct reader *reader, const struct key *key, struct fy_node *value)
{
	return read_list(reader, key, value, &reader->config->enrol_namespaces.at,
			 &reader->config->enrol_namespaces.len);
}

static int fail_unknown(struct reader *reader, struct fy_node *node, const char *name, const struct key *keys,
			size_t count)
{
	const char *names[32] = {0};
	for (size_t i = 0; i < count; i++)
		names[i] = keys[i].name;
	const char *near = diag_nearest(name, names, count);
	if (near)
		return fail(reader, node, "unknown key '%.60s': did you mean '%s'?", name, near);
	char all[300] = "";
	for (size_t i = 0; i < count; i++)
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? ", " : "", names[i]);
	return fail(reader, node, "unknown key '%.60s': the keys here are %s", name, all);
}

static int read_mapping(struct reader *reader, const char *name, struct fy_node *node, const struct key *keys,
			size_t count)
{
	uint32_t seen = 0;
	void *state = NULL;
	if (!node || fy_node_get_type(node) != FYNT_MAPPING)
		return fail(reader, node, "%s is a mapping of keys to values", name);
	for (struct fy_node_pair *pair; (pair = fy_node_mapping_iterate(node, &state));) {
		const char *word;
		size_t i = 0;
		struct fy_node *at = fy_node_pair_key(pair);
		int r = text_of(reader, "a key", at, &word);
		if (r)
			return r;
		reader->key = at;
		while (i < count && strcmp(keys[i].name, word) != 0)
			i++;
		if (i == count)
			return fail_unknown(reader, at, word, keys, count);
		if (seen & 1u << i)
			return fail(reader, at, "'%s' is said twice: keep one", word);
		seen |= 1u << i;
		r = keys[i].read(reader, &keys[i], fy_node_pair_value(pair));
		if (r)
			return r;
	}
	return 0;
}

#define AT(field) offsetof(struct config, field)

static int read_enrol(struct reader *reader, const struct key *key, struct fy_node *value)
{
	static const struct key keys[] = {
		{"namespaces", read_namespaces},
		{"label", read_label},
	};
	(void)key;
	return read_mapping(reader, "'enrol'", value, keys, sizeof(keys) / sizeof(*keys));
}

static int read_sizes(struct reader *reader, const struct key *key, struct fy_node *value)
{
	static const struct key keys[] = {
		{"endpoints", read_count, AT(endpoints), 16, 1048576},
		{"backends", read_count, AT(backends), 16, 1048576},
		{"services", read_count, AT(services), 16, 1048576},
		{"sockets", read_count, AT(sockets), 16, 1048576},
	};
	(void)key;
	return read_mapping(reader, "'sizes'", value, keys, sizeof(keys) / sizeof(*keys));
}

static int read_mtls(struct reader *reader, const struct key *key, struct fy_node *value)
{
	static const struct key keys[] = {
		{"identities", read_path, AT(mtls_identities)},
		{"trust", read_path, AT(mtls_trust)},
		{"user", read_text, AT(mtls_user)},
		{"program", read_path, AT(mtls_program)},
		{"drain", read_count, AT(mtls_drain_s), 0, 86400},
		{"connections", read_count, AT(mtls_connections), 16, 1000000},
	};
	struct config *config = reader->config;
	(void)key;
	int r = read_mapping(reader, "'mtls'", value, keys, sizeof(keys) / sizeof(*keys));
	if (r)
		return r;
	if (!config->mtls_identities)
		return fail(reader, value,
			    "'mtls' needs 'identities': the folder of this node's certificates and keys");
	if (!config->mtls_trust)
		config->mtls_trust = arena_printf(config->arena, "%s/bundle", config->mtls_identities);
	return 0;
}

static const struct key config_keys[] = {
	{"mesh", read_text, AT(mesh)},
	{"keys", read_keys},
	{"enrol", read_enrol},
	{"cgroup", read_absolute, AT(cgroup)},
	{"bpffs", read_absolute, AT(bpffs)},
	{"pins", read_pins, AT(pins)},
	{"state", read_path, AT(state)},
	{"socket", read_socket, AT(socket)},
	{"socket_group", read_text, AT(socket_group)},
	{"inventory", read_path, AT(inventory)},
	{"watch", read_path, AT(watch)},
	{"node", read_text, AT(node)},
	{"flow_log", read_path, AT(flow_log)},
	{"generations", read_count, AT(generations), 2, 8},
	{"sizes", read_sizes},
	{"mtls", read_mtls},
	{"record_rate", read_count, AT(record_rate), 0, 1000000},
	{"quarantine", read_count, AT(quarantine_s), 1, 86400},
	{"observe_only", read_bool, AT(observe_only)},
	{"allow_older", read_bool, AT(allow_older)},
};

/* ---- The whole file ------------------------------------------------------------------------------ */

static const char *cgroup_find(struct arena *arena)
{
	const char *found = "/sys/fs/cgroup";
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	for (struct mntent *mount; mounts && (mount = getmntent(mounts));) {
		if (strcmp(mount->mnt_type, "cgroup2") != 0)
			continue;
		found = arena_copy(arena, mount->mnt_dir, strlen(mount->mnt_dir));
		break;
	}
	if (mounts)
		endmntent(mounts);
	return found;
}

static int fail_syntax(struct reader *reader, struct fy_diag *diag)
{
	void *state = NULL;
	struct fy_diag_error *error = fy_diag_errors_iterate(diag, &state);
	if (!error)
		return why_set(reader->why, -EINVAL, "%s:1:1: not YAML", reader->path);
	return why_set(reader->why, -EINVAL, "%s:%d:%d: not YAML: %s", reader->path, error->line, error->column,
		       error->msg);
}

static int read_document(struct reader *reader, struct fy_parser *parser, struct fy_diag *diag)
{
	struct fy_document *document = fy_parse_load_document(parser);
	if (!document && !fy_parser_get_stream_error(parser))
		return why_set(reader->why, -EINVAL, "%s:1:1: is empty: 'mesh', 'keys' and 'inventory' are needed",
			       reader->path);
	if (!document)
		return fail_syntax(reader, diag);
	int r = read_mapping(reader, "the configuration", fy_document_root(document), config_keys,
			     sizeof(config_keys) / sizeof(*config_keys));
	fy_parse_document_destroy(parser, document);
	reader->key = NULL;
	if (r)
		return r;
	document = fy_parse_load_document(parser);
	if (!document)
		return fy_parser_get_stream_error(parser) ? fail_syntax(reader, diag) : 0;
	fy_parse_document_destroy(parser, document);
	return why_set(reader->why, -EINVAL, "%s: has a second document ('---'): a configuration is one", reader->path);
}

/* Directives (YAML 1.2 section 6.8) are of no use here, and libfyaml 0.7 never returns from a broken
 * one. */
static int check_text(struct reader *reader, const char *text, size_t len)
{
	int line = 1;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '%' && (!i || text[i - 1] == '\n' || text[i - 1] == '\r'))
			return why_set(reader->why, -EINVAL,
				       "%s:%d:1: a directive ('%%') has no place in a configuration", reader->path,
				       line);
		line += text[i] == '\n';
	}
	return 0;
}

static int read_yaml(struct reader *reader, const char *text, size_t len)
{
	int bad = check_text(reader, text, len);
	if (bad)
		return bad;
	struct fy_diag_cfg quiet;
	fy_diag_cfg_default(&quiet);
	quiet.fp = NULL;
	struct fy_diag *diag = fy_diag_create(&quiet);
	if (!diag)
		return why_set(reader->why, -ENOMEM, "out of memory");
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg options = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE, .diag = diag};
	struct fy_parser *parser = fy_parser_create(&options);
	int r = -ENOMEM;
	if (parser && !fy_parser_set_string(parser, text, len))
		r = read_document(reader, parser, diag);
	else
		why_set(reader->why, r, "out of memory");
	fy_parser_destroy(parser);
	fy_diag_destroy(diag);
	return r;
}

static int require(struct reader *reader, bool is_there, const char *key, const char *meaning)
{
	return is_there ? 0 : why_set(reader->why, -EINVAL, "%s:1:1: '%s' is missing: %s", reader->path, key, meaning);
}

int config_read(const char *path, struct config *ret_config, struct why *why)
{
	char *text;
	size_t len;
	int r = file_read(path, LIMIT_BYTES, &text, &len, why);
	if (r)
		return r;
	struct config config = {
		.arena = arena_create(),
		.bpffs = "/sys/fs/bpf",
		.pins = "mesh",
		.state = "/var/lib/mesh",
		.socket = "/run/mesh/meshd.sock",
		.generations = 8,
		.endpoints = 65536,
		.backends = 65536,
		.services = 65536,
		.sockets = 65536,
		.record_rate = 1000,
		.quarantine_s = 30,
		.mtls_user = "mesh-proxy",
		.mtls_drain_s = 30,
		.mtls_connections = 20000,
	};
	struct reader reader = {.path = path, .config = &config, .why = why};
	r = config.arena ? read_yaml(&reader, text, len) : why_set(why, -ENOMEM, "out of memory");
	free(text);
	if (!r)
		r = require(&reader, config.mesh, "mesh", "the name of the mesh whose bundles this node takes");
	if (!r)
		r = require(&reader, config.keys.len, "keys", "the files of the public keys that sign bundles");
	if (!r)
		r = require(&reader, config.inventory, "inventory", "the file or folder that says who runs where");
	if (r) {
		config_release(&config);
		return r;
	}
	if (!config.cgroup)
		config.cgroup = cgroup_find(config.arena);
	*ret_config = config;
	return 0;
}

void config_release(struct config *config)
{
	arena_destroy(config->arena);
	*config = (struct config){0};
}
