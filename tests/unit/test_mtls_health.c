/* meshd and its proxy in one process: what is said of workloads' certificates, by however many there are. */
#define _GNU_SOURCE 1
#include "pki.h"

#include "kernel_internal.h"
#include "mtls.h"
#include "proxy/control.h"
#include "proxy/orders.h"
#include "proxy/proxy.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* Two messages full, and some of a third. */
enum { WORKLOADS = 1100, WITHOUT = 777 };

static int channel[2], supply[2];
static struct node *node;
static struct proxy *proxy;
static struct mesh_control control = {.active = 1};
static struct kernel kernel = {.control = &control};
static struct generation generation;
static struct config config = {.mtls_identities = "/svids", .mtls_trust = "/svids/bundle", .mtls_connections = 1};

static const char *spiffe_of(int i)
{
	static char text[128];
	snprintf(text, sizeof(text), "spiffe://shop.example/ns/shop-of-a-long-name/sa/account-%d", i);
	return text;
}

static void make_place(int i)
{
	struct place *place = &node->places[i];
	char name[64];
	snprintf(name, sizeof(name), "shop/workload-%d", i);
	*place = (struct place){.cookie = 1, .endpoint4 = (uint32_t)(i * 7919 % WORKLOADS + 1)};
	place->flags = MESH_NETNS_ENROLLED;
	place->workload = strdup(name);
	json_object_set_new(node->residents[0].identities, name, json_string(spiffe_of(i)));
}

static int prepare(void **state)
{
	json_t *manifest = json_pack("{s:[{s:s, s:s}]}", "mtls", "mode", "strict", "scope", "mesh");
	(void)state;
	node = calloc(1, sizeof(*node));
	node->config = &config;
	node->kernel = &kernel;
	node->residents[0] = (struct resident){.generation = &generation, .identities = json_object()};
	node->residents[0].names = names_make(manifest, NULL);
	json_decref(manifest);
	node->places = calloc(WORKLOADS, sizeof(*node->places));
	node->mtls =
		(struct mtls){.wanted = true, .line = {.fd = -1}, .domains = json_pack("{s:b}", "shop.example", 1)};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, channel))
		return -1;
	node->mtls.control = channel[0];
	node->registry.len = WORKLOADS + 1;
	node->registry.at = calloc(WORKLOADS + 1, sizeof(*node->registry.at));
	return socketpair(AF_UNIX, SOCK_SEQPACKET, 0, supply) || loop_create(&node->loop) ||
	       proxy_create(node->loop, &proxy) || flows_create(channel[1], &proxy->flows) ||
	       broker_create(node->loop, supply[0], &proxy->broker) ||
	       orders_create(proxy, channel[1], &proxy->orders) || mtls_hello(node);
}

static int tidy(void **state)
{
	(void)state;
	proxy_release(proxy);
	mtls_release(node);
	close(channel[1]);
	close(supply[0]);
	close(supply[1]);
	node_release_places(node);
	free(node->registry.at);
	json_decref(node->residents[0].identities);
	names_release(node->residents[0].names);
	loop_release(node->loop);
	free(node);
	return 0;
}

static void stop(void *context, uint32_t events)
{
	(void)events;
	loop_stop(context);
}

/* Each hears what the other said, until both are silent. */
static void talk(void)
{
	for (int i = 0; i < 32; i++) {
		loop_timer(node->loop, loop_now_ms() + 1, stop, node->loop);
		assert_int_equal(loop_run(node->loop), 0);
		mtls_hear(node, 0);
	}
}

static void certify(int i, struct pki_pair pair)
{
	const char *certificate = pki_certificates(pair.certificate, NULL), *key = pki_key(pair.key),
		   *id = spiffe_of(i);
	struct why why;
	assert_int_equal(
		identities_add_svid(proxy->identities, id, certificate, strlen(certificate), key, strlen(key), &why),
		0);
	pki_free(&pair);
	pki_done();
}

/* Place I is told; its listener was before. */
static void tell_place(int i)
{
	struct place *place = &node->places[i];
	char key[16];
	snprintf(key, sizeof(key), "%u", place->endpoint4);
	json_object_set_new(node->mtls.told, key, json_pack("[i, {}, i]", 1, 0));
	assert_int_equal(mtls_place(node, place, -1, NULL), 1);
	if (i % 64 == 0)
		talk();
}

static void expect_problem(const char *words, size_t count)
{
	json_t *problems = json_array();
	mtls_problems(node, problems);
	if (json_array_size(problems) != count)
		fail_msg("%zu problems: %s", json_array_size(problems), json_string_value(json_array_get(problems, 0)));
	const char *first = json_string_value(json_array_get(problems, 0));
	if (count && !strstr(first, words))
		fail_msg("no '%s' in: %s", words, first);
	json_decref(problems);
}

static void who_has_no_certificate_is_named_among_many(void **state)
{
	struct pki_pair root = pki_make(NULL, (struct pki_wish){.name = "root", .is_authority = true});
	char san[160];
	(void)state;
	assert_int_equal(identities_begin(proxy->identities), 0);
	for (int i = 0; i < WORKLOADS; i++) {
		make_place(i);
		snprintf(san, sizeof(san), "URI:%s", spiffe_of(i));
		if (i != WITHOUT)
			certify(i, pki_make(&root, (struct pki_wish){.san = san}));
	}
	assert_int_equal(identities_commit(proxy->identities), 0);
	node->place_count = WORKLOADS;
	for (int i = 0; i < WORKLOADS; i++)
		tell_place(i);
	mtls_ask_status(node);
	talk();
	assert_int_equal(json_object_size(json_object_get(node->mtls.status, "until")), WORKLOADS - 1);
	expect_problem("workload shop/workload-777: there is no valid certificate", 1);
	pki_free(&root);
}

static void say(const char *text)
{
	assert_int_equal(send(channel[1], text, strlen(text), 0), strlen(text));
	mtls_hear(node, 0);
}

/* One that has been taken over may say anything. */
static void a_round_has_an_end(void **state)
{
	(void)state;
	mtls_ask_status(node);
	say("{\"say\": \"status\", \"round\": 1, \"until\": {\"a\": 1}, \"more\": 5}");
	assert_int_equal(node->mtls.after, 5);
	say("{\"say\": \"status\", \"round\": 1, \"until\": {\"b\": 1}, \"more\": 5}");
	say("{\"say\": \"status\", \"round\": 1, \"until\": {\"b\": 1}, \"more\": 5000000000}");
	say("{\"say\": \"status\", \"round\": 1, \"until\": {\"b\": 1}, \"more\": -1}");
	assert_int_equal(node->mtls.after, 5);
	say("{\"say\": \"status\", \"round\": 0, \"until\": {\"c\": 1}}");
	assert_int_equal(node->mtls.answers, 0);
	expect_problem("", 0);
	node->mtls.unlooked_ms -= 16000;
	expect_problem("which workload has none is not known", 1);
	for (int i = 6; i < 1000; i++) {
		char text[80];
		snprintf(text, sizeof(text), "{\"say\": \"status\", \"round\": 1, \"more\": %d}", i);
		say(text);
	}
	assert_in_range(node->mtls.after, 6, 300);
	say("{\"say\": \"status\", \"round\": 1, \"until\": {\"d\": 1}}");
	assert_int_equal(json_object_size(json_object_get(node->mtls.status, "until")), 3);
	expect_problem("", 0);
}

/* It is a problem of the place, as long as that was not told anew. */
static void an_order_that_is_refused(void **state)
{
	(void)state;
	json_int_t order;
	make_place(1);
	node->place_count = 2;
	tell_place(1);
	talk();
	expect_problem("", 0);
	order = node->mtls.orders;
	uint32_t endpoint = node->places[1].endpoint4;
	char text[160], stale[160];
	snprintf(text, sizeof(text),
		 "{\"say\": \"problem\", \"text\": \"place: too much\", \"endpoint\": %u, \"order\": %lld}", endpoint,
		 (long long)order);
	snprintf(stale, sizeof(stale),
		 "{\"say\": \"problem\", \"text\": \"place: too much\", \"endpoint\": %u, \"order\": %lld}", endpoint,
		 (long long)order - 1);
	say(stale);
	say("{\"say\": \"problem\", \"text\": \"forget: there is no endpoint 9\", \"endpoint\": 9}");
	expect_problem("", 0);
	say(text);
	say(text);
	expect_problem("workload shop/workload-1: the node proxy does not take it: place: too much", 1);
	tell_place(1);
	expect_problem("", 0);
	say("{\"say\": \"problem\", \"text\": \"files: too many\"}");
	expect_problem("the node proxy refused what it was told: files: too many", 1);
	say("{\"say\": \"files\", \"identities\": 1, \"problems\": []}");
	expect_problem("", 0);
	/* The proxy itself says which it was. */
	json_t *bad =
		json_pack("{s:s, s:i, s:i}", "do", "place", "endpoint", (int)endpoint, "order", (int)node->mtls.orders);
	char *order_text = json_dumps(bad, 0);
	orders_obey(proxy->orders, order_text, strlen(order_text), NULL, 0);
	mtls_hear(node, 0);
	expect_problem("workload shop/workload-1: the node proxy does not take it: place: ", 1);
	free(order_text);
	json_decref(bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_has_no_certificate_is_named_among_many, prepare, tidy),
		cmocka_unit_test_setup_teardown(a_round_has_an_end, prepare, tidy),
		cmocka_unit_test_setup_teardown(an_order_that_is_refused, prepare, tidy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
