/* Inventories: our own form, Kubernetes' form, folders; and everything that must not get in. */
#define _GNU_SOURCE 1
#include "base/inventory.h"
#include "scratch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

static struct why why;
static struct inventory *inventory;

static int read_text(const char *text)
{
	why.text[0] = 0;
	inventory = NULL;
	return inventory_read(scratch_write("who.json", text), &inventory, &why);
}

static int release(void **state)
{
	(void)state;
	inventory_release(inventory);
	inventory = NULL;
	return 0;
}

static void assert_address(const struct workload_address *address, const char *text)
{
	char have[INET6_ADDRSTRLEN];
	bool is_v4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address->bytes);
	inet_ntop(is_v4 ? AF_INET : AF_INET6, address->bytes + (is_v4 ? 12 : 0), have, sizeof(have));
	assert_string_equal(have, text);
}

static void own_form(void **state)
{
	(void)state;
	assert_int_equal(
		read_text("{\"node\": \"n1\",\n"
			  " \"workloads\": [\n"
			  "  {\"namespace\": \"shop\", \"name\": \"b\", \"addresses\": [\"10.1.0.6\"], "
			  "\"hostNetwork\": false},\n"
			  "  {\"namespace\": \"shop\", \"name\": \"a\", \"labels\": {\"app\": \"frontend\"}, "
			  "\"account\": \"front\",\n"
			  "   \"addresses\": [\"10.1.0.5\", \"fd00:1::5\", \"10.1.0.5\"], \"node\": \"n1\",\n"
			  "   \"netns\": \"/run/netns/a\", \"pid\": 7, \"cgroup\": \"/x/y\", \"uid\": \"ab-1\"},\n"
			  "  {\"namespace\": \"dev\", \"name\": \"z\"}],\n"
			  " \"services\": [{\"namespace\": \"shop\", \"name\": \"ledger\", \"addresses\": "
			  "[\"10.96.0.10\"],\n"
			  "   \"ports\": [{\"port\": 5432, \"target\": 6000}, {\"port\": 53, \"protocol\": "
			  "\"udp\"}]}]}\n"),
		0);
	assert_string_equal(inventory->node, "n1");
	assert_int_equal(inventory->workloads.len, 3);
	/* By namespace and name, not in the order of the text. */
	assert_string_equal(inventory->workloads.at[0].name, "z");
	const struct workload *a = &inventory->workloads.at[1];
	assert_string_equal(a->name, "a");
	assert_string_equal(a->account, "front");
	assert_string_equal(labels_get(&a->labels, "app"), "frontend");
	assert_int_equal(a->addresses.len, 2);
	assert_address(&a->addresses.at[0], "10.1.0.5");
	assert_address(&a->addresses.at[1], "fd00:1::5");
	assert_string_equal(a->netns, "/run/netns/a");
	assert_string_equal(a->cgroup, "/x/y");
	assert_string_equal(a->uid, "ab-1");
	assert_int_equal(a->pid, 7);
	const struct workload *b = &inventory->workloads.at[2];
	assert_int_equal(b->labels.len, 0);
	assert_null(b->node);
	assert_int_equal(inventory->services.len, 1);
	const struct inventory_service *ledger = &inventory->services.at[0];
	assert_address(&ledger->addresses.at[0], "10.96.0.10");
	assert_int_equal(ledger->ports.at[0].target, 6000);
	assert_int_equal(ledger->ports.at[0].protocol, IPPROTO_TCP);
	assert_int_equal(ledger->ports.at[1].target, 53);
	assert_int_equal(ledger->ports.at[1].protocol, IPPROTO_UDP);
}

#define W(more) "{\"workloads\": [{\"namespace\": \"shop\", \"name\": \"a\"" more "}]}"

static const struct {
	const char *text, *place, *reason;
} refusals[] = {
	{"", ":1:", "not JSON"},
	{"{\"workloads\": [{\"namespace\": \"shop\",\n \"na", ":2:", "not JSON"},
	{"{\"workloads\": []} x", ":1:", "not JSON"},
	{"{\"node\": \"a\", \"node\": \"b\"}", ":1:", "not JSON"},
	{"[]", ":1:1:", "is an object"},
	{"{\"workload\": []}", ":1:14:", "did you mean 'workloads'"},
	{"{\"workloads\": {}}", ":1:15:", "is a list"},
	{"{\"workloads\":\n [7]}", ":2:3:", "is an object"},
	{"{\"workloads\": [{\"name\": \"a\"}]}", ":1:16:", "'namespace' is missing"},
	{"{\"workloads\": [{\"namespace\": \"a/b\", \"name\": \"a\"}]}", ":1:30:", "no '/'"},
	{"{\"workloads\": [{\"namespace\": \"\", \"name\": \"a\"}]}", ":1:30:", "1 to 4096 bytes"},
	{"{\"workloads\": [{\"namespace\": \"s\\u0007\", \"name\": \"a\"}]}", ":1:30:", "control character"},
	{"{\"workloads\": [{\"namespace\": \"s\\u0000\", \"name\": \"a\"}]}", ":1:", "not JSON"},
	{W(", \"adresses\": []"), ":1:63:", "did you mean 'addresses'"},
	{W(",\n\"labels\": {\"app\": 7}"), ":2:19:", "its value is a string"},
	{W(", \"labels\": []"), ":1:", "object of strings"},
	{W(",\n\"addresses\": [\"10.0.0.1\",\n  \"10.0.0\"]"), ":3:3:", "'10.0.0' is no IPv4 or IPv6"},
	{W(", \"addresses\": [\"10.0.0.1/32\"]"), ":1:", "without a prefix"},
	{W(", \"addresses\": [7]"), ":1:", "is a string"},
	{W(", \"addresses\": [\"::ffff:10.0.0.1\"]"), ":1:", "write the IPv4 address"},
	{W(", \"addresses\": [\"127.0.0.1\"]"), ":1:", "loopback"},
	{W(", \"addresses\": [\"0.0.0.0\"]"), ":1:", "unspecified"},
	{W(", \"addresses\": [\"::1\"]"), ":1:", "loopback"},
	{W(", \"addresses\": [\"239.1.1.1\"]"), ":1:", "multicast"},
	{W(", \"addresses\": [\"ff02::1\"]"), ":1:", "multicast"},
	{W(", \"addresses\": [\"255.255.255.255\"]"), ":1:", "broadcast"},
	{W(", \"addresses\": [\"169.254.1.2\"]"), ":1:", "link-local"},
	{W(", \"addresses\": [\"fe80::1\"]"), ":1:", "link-local"},
	{W(", \"pid\": 0"), ":1:", "whole number"},
	{W(", \"pid\": \"7\""), ":1:", "whole number"},
	{W(", \"hostNetwork\": 1"), ":1:", "true or false"},
	{W(", \"netns\": \"run/x\""), ":1:", "absolute path"},
	{W(", \"cgroup\": \"/a/../../b\""), ":1:", "without '..'"},
	{W(", \"cgroup\": \"../b\""), ":1:", "without '..'"},
	{W(", \"uid\": \"../../etc\""), ":1:", "pod's UID"},
	{"{\"services\": [{\"namespace\": \"s\", \"name\": \"a\", \"ports\": [{\"target\": 1}]}]}",
	 ":1:", "'port' is missing"},
	{"{\"services\": [{\"namespace\": \"s\", \"name\": \"a\", \"ports\": [{\"port\": 65536}]}]}",
	 ":1:", "1 to 65535"},
	{"{\"services\": [{\"namespace\": \"s\", \"name\": \"a\", \"ports\": [{\"port\": 1, \"protocol\": "
	 "\"sctp\"}]}]}",
	 ":1:", "\"tcp\" or \"udp\""},
	{"{\"kind\": \"Deployment\"}", ":1:", "kubectl get pods,services"},
	{"{\"kind\": \"List\", \"items\": {}}", ":1:", "'items'"},
	{"{\"kind\": \"List\", \"items\": [{}]}", ":1:28:", "has a 'kind'"},
	{"{\"kind\": \"List\", \"items\": [\n{\"kind\": \"Pod\", \"metadata\": {\"namespace\": \"a\", \"name\": "
	 "\"b\"},\n"
	 "\"status\": {\"podIPs\": [{\"ip\": \"10.0.0.1\"},\n {\"ip\": \"nonsense\"}]}}]}",
	 ":4:2:", "'nonsense' is no IPv4"},
	{"{\"kind\": \"Pod\", \"metadata\": {\"name\": \"b\"}}", ":1:29:", "'namespace' is missing"},
};

static void refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		if (read_text(refusals[i].text) != -EINVAL)
			fail_msg("taken: %s", refusals[i].text);
		assert_null(inventory);
		assert_says(why.text, "who.json");
		assert_says(why.text, refusals[i].place);
		assert_says(why.text, refusals[i].reason);
	}
}

/* A whole one, cut anywhere, is never taken: a half-written file must not empty a node. */
static void half_written(void **state)
{
	static const char whole[] = "{\"node\": \"n1\", \"workloads\": [{\"namespace\": \"shop\", \"name\": \"a\", "
				    "\"addresses\": [\"10.1.0.5\"], \"labels\": {\"app\": \"x\"}}]}";
	char half[sizeof(whole)];
	(void)state;
	for (size_t len = 0; len < sizeof(whole) - 1; len++) {
		memcpy(half, whole, len);
		half[len] = 0;
		assert_int_equal(read_text(half), -EINVAL);
	}
	assert_int_equal(read_text(whole), 0);
}

static void contradictions(void **state)
{
	(void)state;
	assert_int_equal(
		read_text("{\"workloads\": [{\"namespace\": \"shop\", \"name\": \"a\", \"addresses\": [\"10.1.0.5\"]},"
			  "{\"namespace\": \"dev\", \"name\": \"b\", \"addresses\": [\"10.1.0.4\", \"10.1.0.5\"]}]}"),
		-EEXIST);
	assert_says(why.text, "10.1.0.5");
	assert_says(why.text, "shop/a");
	assert_says(why.text, "dev/b");
	assert_int_equal(read_text("{\"workloads\": [{\"namespace\": \"shop\", \"name\": \"a\"}, {\"namespace\": "
				   "\"shop\", \"name\": \"a\"}]}"),
			 -EEXIST);
	assert_says(why.text, "two workloads are named shop/a");
	assert_int_equal(read_text("{\"services\": [{\"namespace\": \"shop\", \"name\": \"a\"}, {\"namespace\": "
				   "\"shop\", \"name\": \"a\"}]}"),
			 -EEXIST);
	/* Host-network workloads share their node's address; no other may. */
	assert_int_equal(read_text("{\"workloads\": [{\"namespace\": \"s\", \"name\": \"a\", \"addresses\": "
				   "[\"10.1.0.5\"], \"hostNetwork\": true},"
				   "{\"namespace\": \"s\", \"name\": \"b\", \"addresses\": [\"10.1.0.5\"]}]}"),
			 -EEXIST);
	assert_int_equal(read_text("{\"workloads\": [{\"namespace\": \"s\", \"name\": \"a\", \"addresses\": "
				   "[\"10.1.0.5\"], \"hostNetwork\": true},"
				   "{\"namespace\": \"s\", \"name\": \"b\", \"addresses\": [\"10.1.0.5\"], "
				   "\"hostNetwork\": true}]}"),
			 0);
}

static void too_big(void **state)
{
	size_t len = (64 << 20) + 1;
	char *text = malloc(len + 1), *at = text;
	(void)state;
	memset(text, ' ', len);
	memcpy(text, "{}", 2);
	text[len] = 0;
	assert_int_equal(read_text(text), -E2BIG);
	assert_says(why.text, "64 MiB");

	at += sprintf(at, "{\"workloads\": [{\"namespace\": \"s\", \"name\": \"a\", \"addresses\": [\"10.0.0.1\"");
	for (int i = 2; i <= 65; i++)
		at += sprintf(at, ",\"10.0.0.%d\"", i);
	sprintf(at, "]}]}");
	assert_int_equal(read_text(text), -E2BIG);
	assert_says(why.text, "s/a has more than 64 addresses");
	free(text);
}

#define POD(ns, name, more)                                                                                            \
	"{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"namespace\": \"" ns "\", \"name\": \"" name      \
	"\", \"uid\": \"0a-1\", \"labels\": {\"app\": \"" name "\"}}" more "}"

static void kubernetes(void **state)
{
	(void)state;
	/* clang-format off */
	static const char list[] =
		"{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": ["
		POD("shop", "web", ", \"spec\": {\"nodeName\": \"n1\", \"serviceAccountName\": \"front\", \"containers\": [{\"ports\": [{\"containerPort\": 8080, \"name\": \"http\"}]}]}, \"status\": {\"phase\": \"Running\", \"podIP\": \"10.1.0.5\", \"podIPs\": [{\"ip\": \"10.1.0.5\"}, {\"ip\": \"fd00::5\"}]}") ","
		POD("shop", "job", ", \"status\": {\"phase\": \"Succeeded\", \"podIP\": \"10.1.0.5\"}") ","
		POD("kube-system", "proxy", ", \"spec\": {\"hostNetwork\": true}, \"status\": {\"phase\": \"Running\", \"podIP\": \"192.0.2.1\"}") ","
		POD("shop", "pending", ", \"status\": {\"phase\": \"Pending\"}") ","
		"{\"kind\": \"Pod\", \"metadata\": {\"namespace\": \"kube-system\", \"name\": \"etcd\", \"uid\": \"mirror\","
		" \"annotations\": {\"kubernetes.io/config.hash\": \"0123abc\"}}, \"spec\": {\"hostNetwork\": true},"
		" \"status\": {\"podIP\": \"192.0.2.1\"}},"
		"{\"kind\": \"Node\", \"metadata\": {\"name\": \"n1\"}},"
		"{\"kind\": \"Service\", \"metadata\": {\"namespace\": \"shop\", \"name\": \"web\"}, \"spec\": {\"clusterIP\": \"10.96.0.1\","
		" \"clusterIPs\": [\"10.96.0.1\", \"fd00:96::1\"], \"selector\": {\"app\": \"web\"}, \"ports\": [{\"port\": 80, \"targetPort\": \"http\", \"protocol\": \"TCP\"}, {\"port\": 81, \"targetPort\": 8081},"
		"{\"port\": 82}, {\"port\": 53, \"protocol\": \"UDP\"}, {\"port\": 9, \"protocol\": \"SCTP\"},"
		"{\"port\": 83, \"targetPort\": \"nobody\"}]}},"
		"{\"kind\": \"Service\", \"metadata\": {\"namespace\": \"shop\", \"name\": \"headless\"}, \"spec\": {\"clusterIP\": \"None\"}}]}";
	/* clang-format on */
	assert_int_equal(read_text(list), 0);
	assert_int_equal(inventory->workloads.len, 4);
	const struct workload *etcd = &inventory->workloads.at[0], *pending = &inventory->workloads.at[2],
			      *web = &inventory->workloads.at[3];
	assert_string_equal(etcd->name, "etcd");
	assert_string_equal(etcd->uid, "0123abc");
	assert_true(etcd->host_network);
	assert_string_equal(pending->name, "pending");
	assert_int_equal(pending->addresses.len, 0);
	assert_string_equal(web->name, "web");
	assert_string_equal(web->uid, "0a-1");
	assert_string_equal(web->account, "front");
	assert_string_equal(web->node, "n1");
	assert_int_equal(web->addresses.len, 2);
	assert_address(&web->addresses.at[1], "fd00::5");
	assert_int_equal(inventory->services.len, 1);
	const struct inventory_service *service = &inventory->services.at[0];
	assert_int_equal(service->addresses.len, 2);
	assert_int_equal(service->ports.len, 5);
	assert_int_equal(service->ports.at[0].target, 8080);
	assert_int_equal(service->ports.at[1].target, 8081);
	assert_int_equal(service->ports.at[2].target, 82);
	assert_int_equal(service->ports.at[3].protocol, IPPROTO_UDP);
	assert_int_equal(service->ports.at[4].target, 0);
}

static void folder(void **state)
{
	char *path = strdup(scratch_path("inv.d"));
	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	inventory = NULL;
	assert_int_equal(inventory_read(path, &inventory, &why), -ENOENT);
	assert_says(why.text, "no *.json");
	scratch_write("inv.d/20.json",
		      "{\"workloads\": [{\"namespace\": \"b\", \"name\": \"b\", \"addresses\": [\"10.0.0.2\"]}]}");
	scratch_write("inv.d/10.json", "{\"node\": \"n1\", \"workloads\": [{\"namespace\": \"a\", \"name\": \"a\"}]}");
	scratch_write("inv.d/.half.json", "{");
	scratch_write("inv.d/notes.txt", "{");
	scratch_write("inv.d/30.json", "{\"kind\": \"List\", \"items\": []}");
	assert_int_equal(inventory_read(path, &inventory, &why), 0);
	assert_int_equal(inventory->workloads.len, 2);
	assert_string_equal(inventory->node, "n1");
	release(NULL);
	scratch_write("inv.d/40.json", "{\"node\": \"n2\"}");
	assert_int_equal(inventory_read(path, &inventory, &why), -EEXIST);
	assert_says(why.text, "40.json:1:");
	scratch_write("inv.d/40.json",
		      "{\"workloads\": [{\"namespace\": \"c\", \"name\": \"c\", \"addresses\": [\"10.0.0.2\"]}]}");
	assert_int_equal(inventory_read(path, &inventory, &why), -EEXIST);
	scratch_write("inv.d/40.json", "{\"workl");
	assert_int_equal(inventory_read(path, &inventory, &why), -EINVAL);
	assert_says(why.text, "inv.d/40.json:1:");
	assert_null(inventory);
	free(path);
	assert_int_equal(inventory_read(scratch_path("absent"), &inventory, &why), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(own_form, release),	  cmocka_unit_test_teardown(refused, release),
		cmocka_unit_test_teardown(half_written, release), cmocka_unit_test_teardown(contradictions, release),
		cmocka_unit_test_teardown(too_big, release),	  cmocka_unit_test_teardown(kubernetes, release),
		cmocka_unit_test_teardown(folder, release),
	};
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
