/* The node's configuration: what is taken, and what each refusal says. */
#define _GNU_SOURCE 1
#include "config.h"
#include "scratch.h"

#include <errno.h>

#define MINIMUM "mesh: shop\nkeys: [a.pem]\ninventory: who.json\n"

static struct why why;

static int read_config(const char *text, struct config *ret_config)
{
	why.text[0] = 0;
	return config_read(scratch_write("meshd.yaml", text), ret_config, &why);
}

static void defaults(void **state)
{
	struct config config;
	char folder[80];
	(void)state;
	assert_int_equal(read_config(MINIMUM, &config), 0);
	assert_string_equal(config.mesh, "shop");
	assert_int_equal(config.keys.len, 1);
	/* Relative paths lie beside the configuration. */
	snprintf(folder, sizeof(folder), "%s/a.pem", scratch);
	assert_string_equal(config.keys.at[0], folder);
	assert_string_equal(config.bpffs, "/sys/fs/bpf");
	assert_string_equal(config.pins, "mesh");
	assert_string_equal(config.state, "/var/lib/mesh");
	assert_string_equal(config.socket, "/run/mesh/meshd.sock");
	assert_non_null(config.cgroup);
	assert_int_equal(config.cgroup[0], '/');
	assert_null(config.socket_group);
	assert_null(config.node);
	assert_null(config.flow_log);
	assert_null(config.enrol_label);
	assert_int_equal(config.enrol_namespaces.len, 0);
	assert_int_equal(config.generations, 8);
	assert_int_equal(config.endpoints, 65536);
	assert_int_equal(config.record_rate, 1000);
	assert_int_equal(config.quarantine_s, 30);
	assert_false(config.observe_only);
	assert_false(config.allow_older);
	config_release(&config);
}

static void everything(void **state)
{
	struct config config;
	(void)state;
	assert_int_equal(
		read_config("# a comment\n"
			    "mesh: shop\nkeys:\n  - /etc/a.pem\n  - /etc/b.pem\n"
			    "enrol: {namespaces: [shop, dev], label: \"mesh=on=1\"}\n"
			    "cgroup: /sys/fs/cgroup/x\nbpffs: /bpf\npins: mesh_2-b\nstate: /s\nsocket: /run/s.sock\n"
			    "socket_group: ops\ninventory: /inv\nwatch: /incoming\nnode: n1\nflow_log: "
			    "/log\ngenerations: 2\n"
			    "sizes: {endpoints: 16, backends: 32, services: 64, sockets: 1048576}\n"
			    "record_rate: 0\nquarantine: \"5\"\nobserve_only: true\nallow_older: true\n",
			    &config),
		0);
	assert_int_equal(config.keys.len, 2);
	assert_string_equal(config.keys.at[1], "/etc/b.pem");
	assert_int_equal(config.enrol_namespaces.len, 2);
	assert_string_equal(config.enrol_namespaces.at[1], "dev");
	assert_string_equal(config.enrol_label, "mesh");
	assert_string_equal(config.enrol_value, "on=1");
	assert_string_equal(config.cgroup, "/sys/fs/cgroup/x");
	assert_string_equal(config.bpffs, "/bpf");
	assert_string_equal(config.pins, "mesh_2-b");
	assert_string_equal(config.socket, "/run/s.sock");
	assert_string_equal(config.socket_group, "ops");
	assert_string_equal(config.watch, "/incoming");
	assert_string_equal(config.node, "n1");
	assert_string_equal(config.flow_log, "/log");
	assert_int_equal(config.generations, 2);
	assert_int_equal(config.endpoints, 16);
	assert_int_equal(config.backends, 32);
	assert_int_equal(config.services, 64);
	assert_int_equal(config.sockets, 1048576);
	assert_int_equal(config.record_rate, 0);
	assert_int_equal(config.quarantine_s, 5);
	assert_true(config.observe_only);
	assert_true(config.allow_older);
	config_release(&config);
}

/* Text, and what the refusal must say: place and reason. */
static const struct {
	const char *text, *place, *reason;
} refusals[] = {
	{"", ":1:1:", "empty"},
	{"[a]\n", ":1:", "mapping"},
	{"mesh: shop\nkeyz: [a]\n", ":2:1:", "did you mean 'keys'"},
	{MINIMUM "zzzzzzzzz: 1\n", ":4:1:", "the keys here are mesh"},
	{MINIMUM "sizes: {endpoint: 64}\n", ":4:9:", "did you mean 'endpoints'"},
	{MINIMUM "sizes: {endpoints: 15}\n", ":4:20:", "from 16 to 1048576"},
	{MINIMUM "sizes: 3\n", ":4:8:", "mapping"},
	{MINIMUM "generations: 9\n", ":4:14:", "from 2 to 8"},
	{MINIMUM "generations: -2\n", ":4:14:", "from 2 to 8"},
	{MINIMUM "generations: 0x4\n", ":4:14:", "from 2 to 8"},
	{MINIMUM "quarantine: 99999999999999999999\n", ":4:13:", "from 1 to 86400"},
	{MINIMUM "quarantine: 0\n", ":4:13:", "from 1 to 86400"},
	{MINIMUM "observe_only: yes\n", ":4:15:", "true or false"},
	{MINIMUM "enrol: {label: mesh}\n", ":4:16:", "name=value"},
	{MINIMUM "enrol: {label: mesh=}\n", ":4:16:", "name=value"},
	{MINIMUM "enrol: {namespaces: []}\n", ":4:", "empty list"},
	{MINIMUM "enrol: {namespaces: shop}\n", ":4:21:", "is a list"},
	{MINIMUM "enrol: {namespaces: [[a]]}\n", ":4:", "one value"},
	{MINIMUM "cgroup: relative\n", ":4:9:", "absolute"},
	{MINIMUM "pins: ../x\n", ":4:7:", "one folder's name"},
	{MINIMUM "pins: a.b\n", ":4:7:", "one folder's name"},
	{MINIMUM "node:\n", ":4:", "no value"},
	{MINIMUM "node: \"a\\0b\"\n", ":4:", "control character"},
	{MINIMUM "mesh: again\n", ":4:1:", "duplicate"},
	{MINIMUM "---\nmesh: b\n", ":", "second document"},
	{"mesh: &m shop\nkeys: [*m]\n", ":2:9:", "alias"},
	{"mesh: [a\nb: }\n", ":2:", "not YAML"},
	{"mesh: \"half", ":1:", "not YAML"},
	{"keys: [a]\ninventory: b\n", ":1:1:", "'mesh' is missing"},
	{"mesh: a\ninventory: b\n", ":1:1:", "'keys' is missing"},
	{"mesh: a\nkeys: [b]\n", ":1:1:", "'inventory' is missing"},
};

static void refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		struct config config = {.mesh = "untouched"};
		if (read_config(refusals[i].text, &config) != -EINVAL)
			fail_msg("taken: %s", refusals[i].text);
		assert_string_equal(config.mesh, "untouched");
		assert_int_equal(strncmp(why.text, scratch, strlen(scratch)), 0);
		assert_says(why.text, refusals[i].place);
		assert_says(why.text, refusals[i].reason);
	}
}

static void bounds(void **state)
{
	struct config config;
	size_t len = (1 << 20) + 1;
	char *text = malloc(len + 1);
	(void)state;
	memset(text, '#', len);
	text[len] = 0;
	assert_int_equal(read_config(text, &config), -E2BIG);
	assert_says(why.text, "1048576 bytes");

	strcpy(text, MINIMUM "enrol: {namespaces: [a");
	for (int i = 0; i < 1000; i++)
		strcat(text, ",a");
	strcat(text, "]}\n");
	assert_int_equal(read_config(text, &config), -EINVAL);
	assert_says(why.text, "more than 1000 items");

	strcpy(text, "mesh: ");
	memset(text + 6, '[', 200000);
	text[200006] = 0;
	assert_int_equal(read_config(text, &config), -EINVAL);

	strcpy(text, MINIMUM "socket: /");
	memset(text + strlen(text), 's', 108);
	strcpy(text + strlen(MINIMUM "socket: /") + 108, "\n");
	assert_int_equal(read_config(text, &config), -EINVAL);
	assert_says(why.text, "107 bytes");
	free(text);
}

static void unreadable(void **state)
{
	struct config config;
	(void)state;
	assert_int_equal(config_read(scratch_path("absent.yaml"), &config, &why), -ENOENT);
	assert_says(why.text, "absent.yaml");
	assert_int_equal(config_read(scratch, &config, &why), -EINVAL);
	assert_says(why.text, "not a regular file");
	/* A FIFO in its place must not be waited for. */
	assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
	assert_int_equal(config_read(scratch_path("fifo"), &config, &why), -EINVAL);
	assert_int_equal(config_read(scratch_path("absent.yaml"), &config, NULL), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults), cmocka_unit_test(everything), cmocka_unit_test(refused),
		cmocka_unit_test(bounds),   cmocka_unit_test(unreadable),
	};
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
