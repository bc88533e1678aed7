/* Endpoint numbers: stable, unique, and never lent to somebody else before the quarantine is over. */
#define _GNU_SOURCE 1
#include "abi.h"
#include "registry.h"
#include "scratch.h"

#include <arpa/inet.h>
#include <errno.h>

enum { QUARANTINE_MS = 30000 };

static struct why why;
static struct config config;
static struct registry registry;
static struct inventory *inventory;
static int64_t next_ms;
static const char *enrolled[] = {"shop"};

static int prepare(void **state)
{
	(void)state;
	config = (struct config){
		.endpoints = 16, .quarantine_s = QUARANTINE_MS / 1000, .enrol_label = "mesh", .enrol_value = "on"};
	config.enrol_namespaces.at = enrolled;
	config.enrol_namespaces.len = 1;
	registry = (struct registry){0};
	inventory = NULL;
	return 0;
}

static int finish(void **state)
{
	(void)state;
	registry_release(&registry);
	inventory_release(inventory);
	return 0;
}

/* Takes TEXT (the list of workloads) in at NOW_MS. */
static int update(const char *workloads, int64_t now_ms)
{
	char *text;
	struct inventory *fresh = NULL;
	assert_true(asprintf(&text, "{\"workloads\": [%s]}", workloads) > 0);
	if (inventory_read(scratch_write("who.json", text), &fresh, &why))
		fail_msg("%s", why.text);
	free(text);
	int r = registry_update(&registry, &config, fresh, "n1", now_ms, &next_ms, &why);
	/* The one before it must live until this call; where it was refused it goes on to. */
	inventory_release(r ? fresh : inventory);
	if (!r)
		inventory = fresh;
	return r;
}

/* The number of ADDRESS, 0: none. Twice is a failure. */
static uint32_t number_of(const char *address)
{
	uint8_t bytes[16] = {[10] = 0xff, [11] = 0xff};
	uint32_t found = 0;
	assert_true(inet_pton(AF_INET, address, bytes + 12) == 1 || inet_pton(AF_INET6, address, bytes) == 1);
	for (uint32_t i = 0; i < registry.len; i++) {
		if (!registry.at[i].owner || memcmp(registry.at[i].address, bytes, 16) != 0)
			continue;
		assert_int_equal(found, 0);
		assert_int_not_equal(i, 0);
		found = i;
	}
	return found;
}

static const struct endpoint *endpoint_of(const char *address)
{
	return &registry.at[number_of(address)];
}

#define W(ns, name, address, more)                                                                                     \
	"{\"namespace\": \"" ns "\", \"name\": \"" name "\", \"addresses\": [\"" address "\"]" more "}"
#define A W("shop", "a", "10.0.0.1", ", \"node\": \"n1\"")
#define B W("shop", "b", "10.0.0.2", ", \"node\": \"n2\"")

static void numbers(void **state)
{
	(void)state;
	assert_int_equal(update("", 1000), 0);
	assert_int_equal(next_ms, 0);
	assert_int_equal(
		update(A "," B
			 "," W("dev", "c", "fd00::3", ", \"labels\": {\"mesh\": \"on\"}, \"netns\": \"/n\"") "," W(
				 "dev", "d", "10.0.0.4", ", \"labels\": {\"mesh\": \"off\"}"),
		       1000),
		0);
	uint32_t a = number_of("10.0.0.1"), b = number_of("10.0.0.2");
	assert_int_not_equal(a, 0);
	assert_int_equal(endpoint_of("10.0.0.1")->flags, MESH_PEER_ENROLLED | MESH_PEER_LOCAL);
	assert_int_equal(endpoint_of("10.0.0.2")->flags, MESH_PEER_ENROLLED);
	assert_int_equal(endpoint_of("fd00::3")->flags, MESH_PEER_ENROLLED | MESH_PEER_LOCAL);
	assert_int_equal(endpoint_of("10.0.0.4")->flags, 0);
	assert_string_equal(endpoint_of("10.0.0.1")->owner, "shop/a");
	assert_string_equal(endpoint_of("10.0.0.1")->workload->name, "a");
	/* A newcomer that sorts first changes no number; labels may change. */
	assert_int_equal(
		update(W("aaa", "a", "10.0.0.0", "") "," A "," W("shop", "b", "10.0.0.2", ", \"node\": \"n1\""), 2000),
		0);
	assert_int_equal(number_of("10.0.0.1"), a);
	assert_int_equal(number_of("10.0.0.2"), b);
	assert_int_equal(endpoint_of("10.0.0.2")->flags, MESH_PEER_ENROLLED | MESH_PEER_LOCAL);
}

static void quarantine(void **state)
{
	(void)state;
	assert_int_equal(update(A "," B, 1000), 0);
	uint32_t a = number_of("10.0.0.1");
	assert_int_equal(update(B, 2000), 0);
	assert_int_equal(next_ms, 2000 + QUARANTINE_MS);
	/* Closed on both sides: still enrolled, and quarantined. */
	assert_int_equal(registry.at[a].flags, MESH_PEER_ENROLLED | MESH_PEER_LOCAL | MESH_PEER_QUARANTINED);
	assert_null(registry.at[a].workload);
	/* Another on the same address waits, up to the last millisecond. */
	assert_int_equal(update(B "," W("shop", "c", "10.0.0.1", ""), 2000 + QUARANTINE_MS - 1), 0);
	assert_int_equal(next_ms, 2000 + QUARANTINE_MS);
	assert_string_equal(endpoint_of("10.0.0.1")->owner, "shop/a");
	assert_true(endpoint_of("10.0.0.1")->flags & MESH_PEER_QUARANTINED);
	assert_int_equal(update(B "," W("shop", "c", "10.0.0.1", ""), 2000 + QUARANTINE_MS), 0);
	assert_int_equal(next_ms, 0);
	assert_string_equal(endpoint_of("10.0.0.1")->owner, "shop/c");
	assert_int_equal(endpoint_of("10.0.0.1")->flags, MESH_PEER_ENROLLED);
	/* And nobody comes: the number is free again. */
	assert_int_equal(update(B, 100000), 0);
	assert_int_not_equal(number_of("10.0.0.1"), 0);
	assert_int_equal(update(B, 100000 + QUARANTINE_MS), 0);
	assert_int_equal(number_of("10.0.0.1"), 0);
	assert_int_equal(next_ms, 0);
}

/* The address changes hands at once, with no gap in the inventory. */
static void handover(void **state)
{
	(void)state;
	assert_int_equal(update(W("dev", "x", "10.0.0.1", ""), 1000), 0);
	uint32_t x = number_of("10.0.0.1");
	assert_int_equal(registry.at[x].flags, 0);
	assert_int_equal(update(W("shop", "y", "10.0.0.1", ", \"node\": \"n1\""), 2000), 0);
	assert_int_equal(number_of("10.0.0.1"), x);
	assert_string_equal(registry.at[x].owner, "dev/x");
	/* The one before was not enrolled; the one that waits is, and must not pass unseen. */
	assert_int_equal(registry.at[x].flags, MESH_PEER_ENROLLED | MESH_PEER_LOCAL | MESH_PEER_QUARANTINED);
	assert_int_equal(update(W("shop", "y", "10.0.0.1", ", \"node\": \"n1\""), 2000 + QUARANTINE_MS), 0);
	assert_string_equal(endpoint_of("10.0.0.1")->owner, "shop/y");
	assert_int_equal(endpoint_of("10.0.0.1")->flags, MESH_PEER_ENROLLED | MESH_PEER_LOCAL);
}

static void return_of_the_same(void **state)
{
	(void)state;
	assert_int_equal(update(A, 1000), 0);
	uint32_t a = number_of("10.0.0.1");
	assert_int_equal(update("", 2000), 0);
	assert_int_equal(update(A, 3000), 0);
	assert_int_equal(number_of("10.0.0.1"), a);
	assert_int_equal(registry.at[a].flags, MESH_PEER_ENROLLED | MESH_PEER_LOCAL);
	assert_int_equal(next_ms, 0);
	assert_non_null(registry.at[a].workload);
}

static void full(void **state)
{
	char text[4096] = "", *at = text;
	(void)state;
	for (int i = 1; i <= 15; i++)
		at += sprintf(at, "%s{\"namespace\": \"s\", \"name\": \"w%d\", \"addresses\": [\"10.0.0.%d\"]}",
			      i > 1 ? "," : "", i, i);
	assert_int_equal(update(text, 1000), 0);
	assert_int_equal(registry.len, 16);
	char *behind = at;
	sprintf(at, ",{\"namespace\": \"s\", \"name\": \"more\", \"addresses\": [\"10.0.0.99\"]}");
	assert_int_equal(update(text, 2000), -ENOSPC);
	assert_says(why.text, "sizes: endpoints");
	/* Nothing has changed. */
	assert_int_equal(number_of("10.0.0.99"), 0);
	for (uint32_t i = 1; i < registry.len; i++)
		assert_non_null(registry.at[i].workload);
	*behind = 0;
	assert_int_equal(update(text, 3000), 0);
	/* A number in quarantine is no free number; behind it it is. */
	assert_int_equal(update("", 4000), 0);
	assert_int_equal(update(W("shop", "e", "10.0.0.99", ""), 5000), -ENOSPC);
	assert_int_equal(update(W("shop", "e", "10.0.0.99", ""), 4000 + QUARANTINE_MS), 0);
	assert_int_not_equal(number_of("10.0.0.99"), 0);
}

static void host_network(void **state)
{
#define HOST(name) W("shop", name, "192.0.2.1", ", \"node\": \"n1\", \"hostNetwork\": true")
	(void)state;
	assert_int_equal(update(HOST("a") "," HOST("b"), 1000), 0);
	uint32_t number = number_of("192.0.2.1");
	/* Never enrolled: the node's sshd is behind that address. */
	assert_int_equal(registry.at[number].flags, MESH_PEER_LOCAL);
	/* One of its pods goes: the node stays who it is. */
	assert_int_equal(update(HOST("b"), 2000), 0);
	assert_int_equal(number_of("192.0.2.1"), number);
	assert_int_equal(registry.at[number].flags, MESH_PEER_LOCAL);
	assert_string_equal(registry.at[number].workload->name, "b");
	assert_int_equal(update(W("shop", "c", "192.0.2.1", ""), 3000), 0);
	assert_true(registry.at[number].flags & MESH_PEER_QUARANTINED);
}

static void restart(void **state)
{
	(void)state;
	assert_int_equal(update(W("shop", "gone", "10.0.0.9", "") "," A "," B, 1000), 0);
	uint32_t a = number_of("10.0.0.1"), b = number_of("10.0.0.2"), gone = number_of("10.0.0.9");
	assert_int_equal(update(A "," B, 2000), 0);
	/* Found by places.c: the proxy's listener outlives meshd, and over pins so does what is known of sockets. */
	registry.at[a].flags |= MESH_PEER_PLACED | MESH_PEER_TUNNEL;
	const char *path = scratch_path("endpoints.json");
	assert_int_equal(registry_save(&registry, path, &why), 0);
	registry_release(&registry);
	assert_int_equal(registry_load(&registry, path, &why), 0);
	assert_int_equal(number_of("10.0.0.9"), gone);
	/* What was in quarantine begins it anew; who comes to that address waits. */
	assert_int_equal(update(A "," W("shop", "new", "10.0.0.9", ""), 5000), 0);
	assert_int_equal(number_of("10.0.0.1"), a);
	assert_int_equal(registry.at[a].flags,
			 MESH_PEER_ENROLLED | MESH_PEER_LOCAL | MESH_PEER_PLACED | MESH_PEER_TUNNEL);
	assert_true(registry.at[gone].flags & MESH_PEER_QUARANTINED);
	assert_string_equal(registry.at[gone].owner, "shop/gone");
	assert_true(registry.at[b].flags & MESH_PEER_QUARANTINED);
	assert_int_equal(next_ms, 5000 + QUARANTINE_MS);
}

static void damaged(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{\"format\":2,\"count\":0,\"endpoints\":[]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[[0,\"10.0.0.1\",\"a/b\",1]]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[[-1,\"10.0.0.1\",\"a/b\",1]]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[[99999999,\"10.0.0.1\",\"a/b\",1]]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[[1,\"10.0.0\",\"a/b\",1]]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[[1,\"10.0.0.1\",\"\",1]]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[[1,\"10.0.0.1\",\"a/b\",32]]}",
		"{\"format\":1,\"count\":1,\"endpoints\":[[1,\"10.0.0.1\",\"a/b\",1,1]]}",
		"{\"format\":1,\"count\":2,\"endpoints\":[[1,\"10.0.0.1\",\"a/b\",1],[1,\"10.0.0.2\",\"a/c\",1]]}",
		"{\"format\":1,\"count\":2,\"endpoints\":[[1,\"10.0.0.1\",\"a/b\",1],[2,\"10.0.0.1\",\"a/c\",1]]}",
	};
	(void)state;
	assert_int_equal(update(A, 1000), 0);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		if (registry_load(&registry, scratch_write("endpoints.json", texts[i]), &why) != -EINVAL)
			fail_msg("taken: %s", texts[i]);
		assert_int_not_equal(number_of("10.0.0.1"), 0);
	}
	assert_int_equal(registry_load(&registry, scratch_path("absent"), &why), -EINVAL);
	assert_int_not_equal(registry_save(&registry, scratch_path("no/such/folder"), &why), 0);
	/* Cut anywhere: never half a registry. */
	char *text = NULL;
	size_t len = 0;
	assert_int_equal(registry_save(&registry, scratch_path("whole.json"), &why), 0);
	FILE *file = fopen(scratch_path("whole.json"), "re");
	len = getdelim(&text, &len, 0, file) > 0 ? strlen(text) : 0;
	fclose(file);
	assert_true(len > 40);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(registry_load(&registry, scratch_write_bytes("endpoints.json", text, cut), &why),
				 -EINVAL);
	assert_int_equal(registry_load(&registry, scratch_write_bytes("endpoints.json", text, len), &why), 0);
	free(text);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, prepare, finish)
	const struct CMUnitTest tests[] = {
		TEST(numbers), TEST(quarantine),   TEST(handover), TEST(return_of_the_same),
		TEST(full),    TEST(host_network), TEST(restart),  TEST(damaged),
	};
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
