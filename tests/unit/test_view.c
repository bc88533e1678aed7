/* What an inventory means to a policy: classes, backends, service addresses; and manifests that are
 * not what the compiler writes. */
#define _GNU_SOURCE 1
#include "scratch.h"
#include "view.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

enum { SHOP = 5, DEPLOYER, FRONTEND, LEDGER, REVIEWS }; /* classes of the manifest below */
enum { SET_FRONTEND, SET_LEDGER, SET_REVIEWS, SET_V1, SET_V2 };

static const char manifest_text[] =
	"{\"trust\": \"shop.example\", \"sets\": [\"f\", \"l\", \"r\", \"v1\", \"v2\"],"
	" \"classes\": [{\"kind\": \"unknown\"}, {\"kind\": \"world\"}, {\"kind\": \"node\"}, {\"kind\": \"other\"},"
	"  {\"kind\": \"conflict\"}, {\"kind\": \"namespace\", \"name\": \"shop/-\", \"namespace\": \"shop\"},"
	"  {\"kind\": \"identity\", \"name\": \"ci/deployer\", \"namespace\": \"ci\", \"spiffe\": "
	"\"spiffe://shop.example/ns/ci/sa/deployer\"},"
	"  {\"kind\": \"service\", \"name\": \"shop/frontend\", \"namespace\": \"shop\"},"
	"  {\"kind\": \"service\", \"name\": \"shop/ledger\", \"namespace\": \"shop\"},"
	"  {\"kind\": \"service\", \"name\": \"shop/reviews\", \"namespace\": \"shop\"},"
	"  {\"kind\": \"external\", \"name\": \"shop/stripe\"}],"
	" \"intervals\": [[\"::\", 0], [\"::ffff:10.1.0.0\", 3], [\"::ffff:10.2.0.0\", 0], [\"fd00:1::\", 2], "
	"[\"fd00:2::\", 0]],"
	" \"services\": ["
	"  {\"namespace\": \"shop\", \"name\": \"frontend\", \"class\": 7, \"set\": 0, \"addresses\": [], \"subsets\": "
	"[],"
	"   \"selector\": {\"op\": \"==\", \"label\": \"app\", \"value\": \"frontend\"},"
	"   \"ports\": [{\"protocol\": \"http\", \"port\": 8080, \"end\": 8080, \"target\": 8080}]},"
	"  {\"namespace\": \"shop\", \"name\": \"ledger\", \"class\": 8, \"set\": 1, \"addresses\": [\"10.96.0.10\"], "
	"\"subsets\": [],"
	"   \"selector\": {\"op\": \"in\", \"label\": \"tier\", \"values\": [\"gold\", \"silver\"]},"
	"   \"ports\": [{\"protocol\": \"tcp\", \"port\": 6000, \"end\": 6009, \"target\": 6000},"
	"    {\"protocol\": \"udp\", \"port\": 53, \"end\": 53, \"target\": 5353}]},"
	"  {\"namespace\": \"shop\", \"name\": \"reviews\", \"class\": 9, \"set\": 2, \"addresses\": [\"10.96.0.11\", "
	"\"fd00:96::11\"],"
	"   \"selector\": {\"op\": \"and\", \"args\": [{\"op\": \"has\", \"label\": \"version\"}, {\"op\": \"==\", "
	"\"label\": \"app\", \"value\": \"reviews\"}]},"
	"   \"ports\": [{\"protocol\": \"http\", \"port\": 80, \"end\": 80, \"target\": 8080}],"
	"   \"subsets\": [{\"name\": \"v1\", \"set\": 3, \"selector\": {\"op\": \"==\", \"label\": \"version\", "
	"\"value\": \"1\"}},"
	"    {\"name\": \"v2\", \"set\": 4, \"selector\": {\"op\": \"!=\", \"label\": \"version\", \"value\": "
	"\"1\"}}]}]}";

#define W(ns, name, address, more)                                                                                     \
	"{\"namespace\": \"" ns "\", \"name\": \"" name "\", \"addresses\": [" address "]" more "}"

static const char inventory_text[] = "{\"workloads\": [" W(
	"shop", "front", "\"10.1.0.1\", \"fd00:1::1\"",
	", \"labels\": {\"app\": \"frontend\"}") "," W("shop", "gold",
						       "\"10.1.0.2\"", ", \"labels\": {\"tier\": \"gold\"}") "," W("sho"
														   "p",
														   "rev"
														   "1",
														   "\"1"
														   "0."
														   "1."
														   "0."
														   "3\""
														   ", "
														   "\"f"
														   "d00"
														   ":1:"
														   ":3"
														   "\"",
														   ", "
														   "\"l"
														   "abe"
														   "ls"
														   "\":"
														   " {"
														   "\"a"
														   "pp"
														   "\":"
														   " \""
														   "rev"
														   "iew"
														   "s\""
														   ", "
														   "\"v"
														   "ers"
														   "ion"
														   "\":"
														   " \""
														   "1\""
														   "}") "," W("shop", "rev2", "\"10.1.0.4\"", ", \"labels\": {\"app\": \"reviews\", \"version\": \"2\"}") "," W("shop", "rev0", "\"10.1.0.5\"", ", \"labels\": {\"app\": \"reviews\"}") "," W("shop", "both", "\"10.1.0.6\"", ", \"labels\": {\"app\": \"frontend\", \"tier\": \"silver\"}") "," W("shop", "bare", "\"10.2.0.7\"", "") "," W("dev",
																																																							     "front",
																																																							     "\"10.2.0.8\"", ", \"labels\": {\"app\": \"frontend\"}") "," W("ci",
																																																															    "job", "\"10.2.0.9\"", ", \"account\": \"deployer\"") "," W("ci",
																																																																							"other", "\"10.2.0.10\"", ", \"account\": \"else\"") "," W("kube-system", "proxy", "\"192.0.2.1\"",
																																																																														   ", \"hostNetwork\": true") "," W("shop", "hostrev", "\"192.0.2.1\"", ", \"hostNetwork\": true, \"labels\": {\"app\": \"reviews\", \"version\": \"1\"}") "," W("kube-system",
																																																																																																		 "proxy2",
																																																																																																		 "\"192.0.2.2\"",
																																																																																																		 ", \"hostNetwork\": true") "], \"services\": [{\"namespace\": \"shop\", \"name\": \"frontend\", \"addresses\": [\"10.96.0.12\"],"
																																																																																																					    " \"ports\": [{\"port\": 80, \"target\": 8080}]}, {\"namespace\": \"shop\", \"name\": \"ledger\", \"addresses\": [\"10.96.0.13\"]},"
																																																																																																					    " {\"namespace\": \"shop\", \"name\": \"stranger\", \"addresses\": [\"10.96.0.14\"], \"ports\": [{\"port\": 80}]}]}";

static struct why why;
static struct config config;
static struct registry registry;
static struct inventory *inventory;
static json_t *manifest;
static struct view view;
static int64_t next_ms;

static void take_inventory(const char *text, int64_t now_ms)
{
	struct inventory *fresh;
	if (inventory_read(scratch_write("who.json", text), &fresh, &why) ||
	    registry_update(&registry, &config, fresh, "n1", now_ms, &next_ms, &why))
		fail_msg("%s", why.text);
	inventory_release(inventory);
	inventory = fresh;
}

static int prepare(void **state)
{
	(void)state;
	config = (struct config){.endpoints = 64, .backends = 64, .services = 64, .quarantine_s = 30};
	registry = (struct registry){0};
	view = (struct view){0};
	inventory = NULL;
	manifest = json_loads(manifest_text, 0, NULL);
	assert_non_null(manifest);
	take_inventory(inventory_text, 1000);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	view_release(&view);
	registry_release(&registry);
	inventory_release(inventory);
	json_decref(manifest);
	return 0;
}

static void make(void)
{
	view_release(&view);
	if (view_make(manifest, inventory, &registry, &config, &view, &why))
		fail_msg("%s", why.text);
}

static void bytes_of(const char *text, uint8_t bytes[16])
{
	memset(bytes, 0, 16);
	bytes[10] = bytes[11] = 0xff;
	assert_true(inet_pton(AF_INET, text, bytes + 12) == 1 || inet_pton(AF_INET6, text, bytes) == 1);
}

static struct mesh_class class_of(const char *address)
{
	uint8_t bytes[16];
	bytes_of(address, bytes);
	for (uint32_t i = 1; i < registry.len; i++)
		if (registry.at[i].owner && memcmp(registry.at[i].address, bytes, 16) == 0)
			return view.classes[i];
	fail_msg("no endpoint %s", address);
	return (struct mesh_class){0};
}

#define assert_class(address, want_src, want_dst, want_block)                                                          \
	do {                                                                                                           \
		struct mesh_class have = class_of(address);                                                            \
		if (have.src != (want_src) || have.dst != (want_dst) || have.block != (want_block))                    \
			fail_msg("%s: source %u, destination %u, block %u", address, have.src, have.dst, have.block);  \
	} while (0)

static void classes(void **state)
{
	(void)state;
	make();
	assert_int_equal(view.class_count, registry.len);
	assert_int_equal(view.classes[0].src, 0);
	assert_class("10.1.0.1", FRONTEND, FRONTEND, 3);
	assert_class("fd00:1::1", FRONTEND, FRONTEND, 2);
	assert_class("10.1.0.2", LEDGER, LEDGER, 3);
	assert_class("10.1.0.3", REVIEWS, REVIEWS, 3);
	/* The selector wants a version: of no service, but of its namespace. */
	assert_class("10.1.0.5", SHOP, SHOP, 3);
	assert_class("10.1.0.6", SHOP, MESH_CLASS_CONFLICT, 3);
	assert_class("10.2.0.7", SHOP, SHOP, 0);
	/* A selector is one of its own namespace. */
	assert_class("10.2.0.8", MESH_CLASS_OTHER, MESH_CLASS_OTHER, 0);
	assert_class("10.2.0.9", DEPLOYER, MESH_CLASS_OTHER, 0);
	assert_class("10.2.0.10", MESH_CLASS_OTHER, MESH_CLASS_OTHER, 0);
	assert_class("192.0.2.1", MESH_CLASS_NODE, REVIEWS, 0);
	assert_class("192.0.2.2", MESH_CLASS_NODE, MESH_CLASS_NODE, 0);
	assert_int_equal(view.conflicts.len, 1);
	assert_string_equal(view.conflicts.at[0].workload->name, "both");
	assert_string_equal(view.conflicts.at[0].first, "shop/frontend");
	assert_string_equal(view.conflicts.at[0].second, "shop/ledger");
}

static void assert_set(uint32_t set, bool is_v6, const char *const *want)
{
	const struct mesh_set *have = &view.sets[2 * set + is_v6];
	uint32_t count = 0;
	for (; want[count]; count++) {
		uint8_t bytes[16];
		bytes_of(want[count], bytes);
		if (count >= have->count)
			fail_msg("set %u has only %u", set, have->count);
		assert_memory_equal(view.backends.at[have->first + count].address, bytes, 16);
	}
	assert_int_equal(have->count, count);
	assert_true(have->first + have->count <= view.backends.len);
}

#define SET(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void backends(void **state)
{
	(void)state;
	make();
	assert_int_equal(view.set_count, 10);
	/* The one in conflict is nobody's backend. */
	assert_set(SET_FRONTEND, false, SET("10.1.0.1"));
	assert_set(SET_FRONTEND, true, SET("fd00:1::1"));
	assert_set(SET_LEDGER, false, SET("10.1.0.2"));
	assert_set(SET_LEDGER, true, SET());
	assert_set(SET_REVIEWS, false, SET("192.0.2.1", "10.1.0.3", "10.1.0.4"));
	assert_set(SET_REVIEWS, true, SET("fd00:1::3"));
	assert_set(SET_V1, false, SET("192.0.2.1", "10.1.0.3"));
	assert_set(SET_V2, false, SET("10.1.0.4"));
	assert_set(SET_V2, true, SET());
}

/* "CLASS TARGET" or "none". */
static const char *vip_of(const char *address, uint16_t port, uint8_t protocol)
{
	static char text[32];
	uint8_t bytes[16];
	bytes_of(address, bytes);
	for (size_t i = 0; i < view.vips.len; i++) {
		const struct view_vip *vip = &view.vips.at[i];
		if (memcmp(vip->key.address, bytes, 16) != 0 || vip->key.port != port || vip->key.protocol != protocol)
			continue;
		snprintf(text, sizeof(text), "%u %u", vip->value.dst, vip->value.target);
		return text;
	}
	return "none";
}

static void service_addresses(void **state)
{
	(void)state;
	make();
	assert_string_equal(vip_of("10.96.0.11", 80, IPPROTO_TCP), "9 8080");
	assert_string_equal(vip_of("fd00:96::11", 80, IPPROTO_TCP), "9 8080");
	assert_string_equal(vip_of("10.96.0.11", 0, 0), "9 0");
	assert_string_equal(vip_of("10.96.0.11", 8080, IPPROTO_TCP), "none");
	assert_string_equal(vip_of("10.96.0.10", 6000, IPPROTO_TCP), "8 6000");
	assert_string_equal(vip_of("10.96.0.10", 6009, IPPROTO_TCP), "8 6009");
	assert_string_equal(vip_of("10.96.0.10", 6010, IPPROTO_TCP), "none");
	assert_string_equal(vip_of("10.96.0.10", 53, IPPROTO_UDP), "8 5353");
	assert_string_equal(vip_of("10.96.0.10", 53, IPPROTO_TCP), "none");
	/* From the inventory: with its ports, else with the policy's. */
	assert_string_equal(vip_of("10.96.0.12", 80, IPPROTO_TCP), "7 8080");
	assert_string_equal(vip_of("10.96.0.12", 8080, IPPROTO_TCP), "none");
	assert_string_equal(vip_of("10.96.0.12", 0, 0), "7 0");
	assert_string_equal(vip_of("10.96.0.13", 6001, IPPROTO_TCP), "8 6001");
	assert_string_equal(vip_of("10.96.0.14", 80, IPPROTO_TCP), "none");
	for (size_t i = 1; i < view.vips.len; i++)
		assert_memory_not_equal(&view.vips.at[i - 1].key, &view.vips.at[i].key, sizeof(struct mesh_vip_key));
}

static void quarantined(void **state)
{
	(void)state;
	/* 10.1.0.1 goes to another workload, which waits: nobody's class, nobody's backend. */
	take_inventory("{\"workloads\": [" W("shop", "fresh", "\"10.1.0.1\", \"10.1.0.99\"",
					     ", \"labels\": {\"app\": \"frontend\"}") "]}",
		       2000);
	make();
	assert_class("10.1.0.1", 0, 0, 0);
	assert_class("10.1.0.99", FRONTEND, FRONTEND, 3);
	assert_set(SET_FRONTEND, false, SET("10.1.0.99"));
	take_inventory("{\"workloads\": [" W("shop", "fresh", "\"10.1.0.1\", \"10.1.0.99\"",
					     ", \"labels\": {\"app\": \"frontend\"}") "]}",
		       40000);
	make();
	assert_class("10.1.0.1", FRONTEND, FRONTEND, 3);
	assert_set(SET_FRONTEND, false, SET("10.1.0.1", "10.1.0.99"));
}

static void host_conflict(void **state)
{
	(void)state;
	take_inventory("{\"workloads\": [" W(
			       "shop", "a", "\"192.0.2.1\"",
			       ", \"hostNetwork\": true, \"labels\": {\"app\": \"frontend\"}") "," W("shop", "b",
												     "\"192.0.2.1\"",
												     ", "
												     "\"hostNetwork\": "
												     "true, "
												     "\"labels\": "
												     "{\"tier\": "
												     "\"gold\"}") "]}",
		       100000);
	make();
	assert_class("192.0.2.1", MESH_CLASS_NODE, MESH_CLASS_CONFLICT, 0);
	assert_int_equal(view.conflicts.len, 1);
}

static void bounds(void **state)
{
	struct view untouched = {.class_count = 77};
	(void)state;
	config.backends = 8;
	assert_int_equal(view_make(manifest, inventory, &registry, &config, &untouched, &why), -E2BIG);
	assert_says(why.text, "sizes: backends");
	config.backends = 64;
	config.services = 10;
	assert_int_equal(view_make(manifest, inventory, &registry, &config, &untouched, &why), -E2BIG);
	assert_says(why.text, "sizes: services");
	assert_int_equal(untouched.class_count, 77);
}

static void disagreement(void **state)
{
	(void)state;
	take_inventory(
		"{\"services\": [{\"namespace\": \"shop\", \"name\": \"frontend\", \"addresses\": [\"10.96.0.11\"],"
		" \"ports\": [{\"port\": 80, \"target\": 8080}]}]}",
		100000);
	assert_int_equal(view_make(manifest, inventory, &registry, &config, &view, &why), -EINVAL);
	assert_says(why.text, "10.96.0.11 port 80/tcp");
	assert_says(why.text, "shop/frontend");
	assert_says(why.text, "shop/reviews");
}

/* Two services may share an address where their ports differ. */
static void shared_address(void **state)
{
	(void)state;
	take_inventory(
		"{\"services\": [{\"namespace\": \"shop\", \"name\": \"frontend\", \"addresses\": [\"10.96.0.11\"],"
		" \"ports\": [{\"port\": 81, \"target\": 8080}]}]}",
		100000);
	make();
	assert_string_equal(vip_of("10.96.0.11", 80, IPPROTO_TCP), "9 8080");
	assert_string_equal(vip_of("10.96.0.11", 81, IPPROTO_TCP), "7 8080");
}

static json_t *at(const char *list, size_t index, const char *key)
{
	json_t *item = json_array_get(json_object_get(manifest, list), index);
	return key ? json_object_get(item, key) : item;
}

static json_t *parsed(const char *text)
{
	return json_loads(text, JSON_DECODE_ANY, NULL);
}

/* One thing made wrong at a time. */
static void foreign_manifests(void **state)
{
	static const struct {
		const char *list;
		int index;
		const char *key, *value, *reason;
	} cases[] = {
		{NULL, 0, "trust", "7", "trust"},
		{NULL, 0, "classes", "[]", "0 classes"},
		{NULL, 0, "sets", "[]", "set"},
		{NULL, 0, "intervals", "[]", "intervals"},
		{NULL, 0, "intervals", "[[\"::1\", 0]]", "interval 0"},
		{NULL, 0, "intervals", "[[\"::\", 0], [\"::\", 1]]", "interval 1"},
		{NULL, 0, "intervals", "[[\"::\", 65536]]", "interval 0"},
		{NULL, 0, "intervals", "[[\"x\", 0]]", "interval 0"},
		{"classes", 5, "namespace", "null", "without a name"},
		{"classes", 6, "kind", "7", "no kind"},
		{"services", 0, "name", "7", "without a name"},
		{"services", 0, "class", "99", "class"},
		{"services", 0, "class", "-1", "class"},
		{"services", 0, "class", "1", "no service's"},
		{"services", 0, "class", "\"7\"", "class"},
		{"services", 0, "set", "5", "set"},
		{"services", 0, "set", "1", "another's"},
		{"services", 0, "selector", "{\"op\": \"~\", \"label\": \"a\", \"value\": \"b\"}", "selector"},
		{"services", 1, "addresses", "[\"10.0.0\"]", "address 0"},
		{"services", 1, "ports", "[{\"protocol\": \"tcp\", \"port\": 0, \"end\": 0, \"target\": 1}]", "port 0"},
		{"services", 1, "ports", "[{\"protocol\": \"tcp\", \"port\": 9, \"end\": 8, \"target\": 9}]", "port 0"},
		{"services", 1, "ports", "[{\"protocol\": \"tcp\", \"port\": 9, \"end\": 65536, \"target\": 9}]",
		 "port 0"},
		{"services", 2, "subsets", "[{\"name\": \"v1\", \"set\": 3}]", "no selector"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		json_t *whole = json_deep_copy(manifest);
		json_t *place = cases[i].list ? at(cases[i].list, cases[i].index, NULL) : manifest;
		assert_int_equal(json_object_set_new(place, cases[i].key, parsed(cases[i].value)), 0);
		if (view_make(manifest, inventory, &registry, &config, &view, &why) != -EINVAL)
			fail_msg("taken: %s %d %s = %s", cases[i].list ? cases[i].list : "", cases[i].index,
				 cases[i].key, cases[i].value);
		assert_says(why.text, cases[i].reason);
		json_decref(manifest);
		manifest = whole;
	}
	make();
}

/* A service without a workload: its set is empty, its address is known. */
static void no_selector(void **state)
{
	(void)state;
	json_object_set_new(at("services", 1, NULL), "selector", json_null());
	make();
	assert_set(SET_LEDGER, false, SET());
	assert_class("10.1.0.2", SHOP, SHOP, 3);
	assert_string_equal(vip_of("10.96.0.10", 0, 0), "8 0");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, prepare, finish)
	const struct CMUnitTest tests[] = {
		TEST(classes),		 TEST(backends),    TEST(service_addresses), TEST(quarantined),
		TEST(host_conflict),	 TEST(bounds),	    TEST(disagreement),	     TEST(shared_address),
		TEST(foreign_manifests), TEST(no_selector),
	};
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
