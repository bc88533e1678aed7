/* Request lines to requests, and requests to what they are compared as. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/request.h"
#include "pass/passes.h"

#include <errno.h>

static const char policy_text[] =
	"mesh shop: trust \"shop.example\", ingress deny, egress allow;\n"
	"mtls off because \"a test\";\n"
	"namespace shop;\n"
	"service frontend { workload app == \"frontend\"; http 8080; }\n"
	"service reviews { workload app == \"reviews\"; address 10.96.0.11, fd00:96::11; http 80 to 8080; }\n"
	"service ledger { workload app == \"ledger\"; address 10.96.0.10; tcp 5432; tcp 6000..6009; }\n"
	"service names { workload app == \"names\"; address 10.96.0.10; tcp 53; udp 53 to 5353; }\n"
	"service twin { workload app == \"twin\"; tcp 53; udp 53; }\n"
	"service mixed { workload app == \"mixed\"; tcp 5432; http 80; }\n"
	"service \"1password\" { workload app == \"1p\"; grpc 9090; }\n"
	"external stripe { cidr 203.0.113.0/24; tcp 443; }\n"
	"external api { cidr 203.0.113.0/25; http 80; udp 443; }\n"
	"identity deployer = \"spiffe://shop.example/ns/ci/sa/deployer\";\n"
	"cidr office = 198.51.100.0/24, 2001:db8:7::/48;\n"
	"allow a: from office, deployer to frontend;\n"
	"allow b: from any to stripe, api;\n"
	"namespace dev;\n"
	"service frontend { workload app == \"frontend\"; http 8080; account dev-front; }\n";

static struct run run;

static int prepare(void **state)
{
	(void)state;
	run = (struct run){.arena = arena_create(), .now = "2026-06-01"};
	run.sources.arena = run.diags.arena = run.arena;
	run.diags.sources = &run.sources;
	sources_add(&run.sources, "shop.mesh", policy_text, strlen(policy_text));
	static void (*const passes[])(struct run *) = {parse, resolve, check, lower};
	for (int i = 0; i < 4 && !run.diags.errors; i++)
		passes[i](&run);
	if (run.diags.errors)
		diags_print(&run.diags, stderr, false);
	return run.diags.errors ? -1 : 0;
}

static int finish(void **state)
{
	(void)state;
	policy_release(run.policy);
	arena_destroy(run.arena);
	return 0;
}

static int read_line(const char *text, struct request *request, char why[REQUEST_WHY_BYTES])
{
	json_error_t error;
	json_t *line = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (!line)
		fail_msg("%s: %s", text, error.text);
	why[0] = 0;
	int r = request_read(run.arena, run.policy, line, request, why);
	json_decref(line);
	return r;
}

/* "src block -> dst udp|tcp|http port method host path name=value ..." */
static const char *request_text(const struct request *request)
{
	const char *text = arena_printf(run.arena, "%s %u -> %s %s %u", run.policy->classes.at[request->src].name,
					request->block, run.policy->classes.at[request->dst].name,
					request->udp	? "udp"
					: request->http ? "http"
							: "tcp",
					request->port);
	if (request->method || request->host || request->path)
		text = arena_printf(run.arena, "%s %s %s %s", text, request->method ? request->method : "-",
				    request->host ? request->host : "-", request->path ? request->path : "-");
	for (size_t i = 0; i < request->headers.len; i++)
		text = arena_printf(run.arena, "%s %s=%s", text, request->headers.at[i].name,
				    request->headers.at[i].value);
	return text;
}

static uint32_t office_block(bool v6)
{
	for (size_t i = 0; i < run.policy->intervals.len; i++)
		if (run.policy->intervals.at[i].block && (run.policy->intervals.at[i].first[0] == 0x20) == v6 &&
		    (v6 || run.policy->intervals.at[i].first[12] == 198))
			return run.policy->intervals.at[i].block;
	return 0;
}

static void lines(void **state)
{
	(void)state;
	static const struct {
		const char *line, *request;
	} cases[] = {
		{"{\"from\":\"ledger\",\"to\":\"reviews\"}", "shop/ledger 0 -> shop/reviews http 8080"},
		{"{\"from\":\"shop/ledger\",\"to\":\"shop/reviews\",\"port\":8080}",
		 "shop/ledger 0 -> shop/reviews http 8080"},
		{"{\"from\":\"world\",\"to\":\"ledger\",\"port\":6003}", "world 0 -> shop/ledger tcp 6003"},
		/* Behind an undeclared port it is still that service. */
		{"{\"from\":\"node\",\"to\":\"ledger\",\"port\":22}", "node 0 -> shop/ledger tcp 22"},
		{"{\"from\":\"ledger\",\"to\":\"node\",\"port\":1}", "shop/ledger 0 -> node tcp 1"},
		{"{\"from\":\"-/-\",\"to\":\"-/-\",\"port\":1}", "other 0 -> other tcp 1"},
		{"{\"from\":\"node\",\"to\":\"ledger\",\"port\":5432,\"protocol\":\"udp\"}",
		 "node 0 -> shop/ledger udp 5432"},
		{"{\"from\":\"node\",\"to\":\"ledger\",\"port\":5432,\"protocol\":\"http\",\"method\":\"GET\"}",
		 "node 0 -> shop/ledger tcp 5432 GET - -"},
		{"{\"from\":\"node\",\"to\":\"names\",\"protocol\":\"udp\"}", "node 0 -> shop/names udp 5353"},
		{"{\"from\":\"node\",\"to\":\"names\",\"protocol\":\"tcp\"}", "node 0 -> shop/names tcp 53"},
		{"{\"from\":\"node\",\"to\":\"twin\",\"port\":53,\"protocol\":\"udp\"}", "node 0 -> shop/twin udp 53"},
		{"{\"from\":\"node\",\"to\":\"mixed\",\"protocol\":\"http\"}", "node 0 -> shop/mixed http 80"},
		{"{\"from\":\"node\",\"to\":\"mixed\",\"protocol\":\"tcp\"}", "node 0 -> shop/mixed tcp 5432"},
		{"{\"from\":\"node\",\"to\":\"1password\",\"protocol\":\"grpc\",\"path\":\"/a.B/C\"}",
		 "node 0 -> shop/1password http 9090 POST - /a.B/C"},
		{"{\"from\":\"deployer\",\"to\":\"1password\"}", "ci/deployer 0 -> shop/1password http 9090"},
		/* As an object. */
		{"{\"from\":{\"service\":\"frontend\",\"namespace\":\"dev\"},\"to\":\"shop/frontend\"}",
		 "dev/frontend 0 -> shop/frontend http 8080"},
		{"{\"from\":{\"service\":\"dev/frontend\",\"namespace\":\"dev\"},\"to\":\"shop/frontend\"}",
		 "dev/frontend 0 -> shop/frontend http 8080"},
		{"{\"from\":{\"namespace\":\"dev\"},\"to\":\"shop/frontend\"}", "dev/- 0 -> shop/frontend http 8080"},
		{"{\"from\":{\"spiffe\":\"spiffe://shop.example/ns/ci/sa/"
		 "deployer\",\"verified\":true},\"to\":\"ledger\",\"port\":1}",
		 "ci/deployer 0 -> shop/ledger tcp 1"},
		/* A certificate wins over the address's service. */
		{"{\"from\":{\"service\":\"ledger\",\"spiffe\":\"spiffe://shop.example/ns/dev/sa/"
		 "dev-front\"},\"to\":\"reviews\"}",
		 "dev/frontend 0 -> shop/reviews http 8080"},
		{"{\"from\":{\"spiffe\":\"spiffe://shop.example/ns/dev/sa/nobody\"},\"to\":\"reviews\"}",
		 "dev/- 0 -> shop/reviews http 8080"},
		{"{\"from\":{\"spiffe\":\"spiffe://else.example/ns/dev/sa/nobody\"},\"to\":\"reviews\"}",
		 "other 0 -> shop/reviews http 8080"},
		{"{\"from\":{\"address\":\"192.0.2.1\"},\"to\":\"reviews\"}", "world 0 -> shop/reviews http 8080"},
		/* To addresses and the world. */
		{"{\"from\":\"ledger\",\"to\":\"world\",\"port\":443}", "shop/ledger 0 -> world tcp 443"},
		{"{\"from\":\"ledger\",\"to\":\"192.0.2.1\",\"port\":443,\"protocol\":\"udp\"}",
		 "shop/ledger 0 -> world udp 443"},
		{"{\"from\":\"ledger\",\"to\":\"203.0.113.200\",\"port\":443}", "shop/ledger 0 -> shop/stripe tcp 443"},
		{"{\"from\":\"ledger\",\"to\":\"203.0.113.7\",\"port\":443}",
		 "shop/ledger 0 -> shop/api+shop/stripe tcp 443"},
		{"{\"from\":\"ledger\",\"to\":\"stripe\"}", "shop/ledger 0 -> shop/stripe tcp 443"},
		{"{\"from\":\"ledger\",\"to\":\"api\",\"protocol\":\"http\"}",
		 "shop/ledger 0 -> shop/api+shop/stripe tcp 80"},
		{"{\"from\":\"ledger\",\"to\":\"shop/api\",\"port\":443}",
		 "shop/ledger 0 -> shop/api+shop/stripe udp 443"},
		/* A service's address: its port says which service, and which port of the workload. */
		{"{\"from\":\"ledger\",\"to\":\"10.96.0.11\",\"port\":80}", "shop/ledger 0 -> shop/reviews http 8080"},
		{"{\"from\":\"ledger\",\"to\":\"fd00:96:0::11\",\"port\":80}",
		 "shop/ledger 0 -> shop/reviews http 8080"},
		{"{\"from\":\"ledger\",\"to\":\"10.96.0.10\",\"port\":53,\"protocol\":\"udp\"}",
		 "shop/ledger 0 -> shop/names udp 5353"},
		{"{\"from\":\"twin\",\"to\":\"10.96.0.10\",\"port\":6001}", "shop/twin 0 -> shop/ledger tcp 6001"},
		{"{\"from\":\"twin\",\"to\":\"10.96.0.10\",\"port\":7}", "shop/twin 0 -> unknown tcp 7"},
		{"{\"from\":\"twin\",\"to\":\"shop/-\",\"port\":7}", "shop/twin 0 -> shop/- tcp 7"},
		/* Requests. */
		{"{\"from\":\"twin\",\"to\":\"reviews\",\"protocol\":\"http\",\"method\":\"GET\",\"host\":\"Reviews:"
		 "80\",\"path\":\"/a?b\","
		 "\"headers\":{\"X-Canary\":\"true\",\"y\":[\"1\",\"2\"]},\"jwt\":{}}",
		 "shop/twin 0 -> shop/reviews http 8080 GET Reviews:80 /a?b x-canary=true y=1 y=2"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct request request;
		char why[REQUEST_WHY_BYTES];
		if (read_line(cases[i].line, &request, why))
			fail_msg("%s: %s", cases[i].line, why);
		assert_string_equal(request_text(&request), cases[i].request);
	}
}

static void blocks(void **state)
{
	(void)state;
	struct request request;
	char why[REQUEST_WHY_BYTES];
	assert_true(office_block(false) && office_block(true));
	assert_int_equal(read_line("{\"from\":\"198.51.100.7\",\"to\":\"reviews\"}", &request, why), 0);
	assert_int_equal(request.src, CLASS_WORLD);
	assert_int_equal(request.block, office_block(false));
	assert_int_equal(read_line("{\"from\":\"2001:db8:7::1\",\"to\":\"reviews\"}", &request, why), 0);
	assert_int_equal(request.block, office_block(true));
	/* A cidr matches a workload inside it, too. */
	assert_int_equal(
		read_line("{\"from\":{\"service\":\"ledger\",\"address\":\"198.51.100.255\"},\"to\":\"reviews\"}",
			  &request, why),
		0);
	assert_string_equal(run.policy->classes.at[request.src].name, "shop/ledger");
	assert_int_equal(request.block, office_block(false));
	assert_int_equal(read_line("{\"from\":\"198.51.101.0\",\"to\":\"reviews\"}", &request, why), 0);
	assert_int_equal(request.block, 0);
}

static void refused(void **state)
{
	(void)state;
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"[]", "a JSON object"},
		{"7", "a JSON object"},
		{"{\"from\":\"ledger\"}", "`from` and `to`"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"metod\":\"GET\"}", "did you mean 'method'?"},
		{"{\"from\":\"leger\",\"to\":\"reviews\"}", "unknown source 'leger': did you mean 'ledger'?"},
		{"{\"from\":\"shop/leger\",\"to\":\"reviews\"}", "did you mean 'shop/ledger'?"},
		{"{\"from\":\"wold\",\"to\":\"reviews\"}", "did you mean 'world'?"},
		{"{\"from\":\"ledger\",\"to\":\"strip\"}", "unknown destination 'strip': did you mean 'stripe'?"},
		{"{\"from\":\"stripe\",\"to\":\"ledger\"}", "is an external"},
		{"{\"from\":\"ledger\",\"to\":\"node\"}", "say `port`"},
		{"{\"from\":\"ledger\",\"to\":\"other\",\"port\":1}", "unknown destination 'other'"},
		{"{\"from\":\"ledger\",\"to\":\"deployer\",\"port\":1}", "is an identity"},
		{"{\"from\":\"frontend\",\"to\":\"reviews\"}", "'dev/frontend' or 'shop/frontend'"},
		{"{\"from\":7,\"to\":\"reviews\"}", "'from' wants"},
		{"{\"from\":{},\"to\":\"reviews\"}", "names nobody"},
		{"{\"from\":{\"servce\":\"x\"},\"to\":\"reviews\"}", "did you mean 'service'?"},
		{"{\"from\":{\"service\":7},\"to\":\"reviews\"}", "'service' wants a text"},
		{"{\"from\":{\"service\":\"dev/frontend\",\"namespace\":\"shop\"},\"to\":\"reviews\"}",
		 "is not of the namespace"},
		{"{\"from\":{\"namespace\":\"shopp\"},\"to\":\"reviews\"}", "did you mean 'shop/-'?"},
		{"{\"from\":{\"spiffe\":\"x\"},\"to\":\"reviews\"}", "is no SPIFFE ID"},
		{"{\"from\":{\"address\":\"10.0.0.0/8\"},\"to\":\"reviews\"}", "is not one address"},
		{"{\"from\":{\"address\":\"::ffff:10.0.0.1\"},\"to\":\"reviews\"}", "is not one address"},
		{"{\"from\":{\"address\":\"10.0.0.1\",\"verified\":\"yes\"},\"to\":\"reviews\"}", "true or false"},
		{"{\"from\":\"ledger\",\"to\":{}}", "'to' wants"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"port\":80}",
		 "80 is the port of the service 'shop/reviews'; a request has the workload's, 8080"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"port\":0}", "1 to 65535"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"port\":65536}", "1 to 65535"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"port\":\"80\"}", "1 to 65535"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"protocol\":\"htp\"}", "did you mean 'http'?"},
		{"{\"from\":\"reviews\",\"to\":\"ledger\"}", "more than one port"},
		{"{\"from\":\"reviews\",\"to\":\"ledger\",\"protocol\":\"udp\"}", "no port of its own"},
		{"{\"from\":\"reviews\",\"to\":\"twin\",\"port\":53}", "say `protocol`"},
		{"{\"from\":\"reviews\",\"to\":\"world\"}", "say `port`"},
		{"{\"from\":\"reviews\",\"to\":\"10.96.0.11\"}", "say `port`"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"protocol\":\"tcp\",\"method\":\"GET\"}",
		 "say http or grpc"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"method\":1}", "'method' wants a text"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"headers\":[]}", "'headers' wants an object"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"headers\":{\"x\":1}}", "the header 'x' wants"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"headers\":{\"x\":[\"1\",2]}}", "the header 'x' wants"},
		{"{\"from\":\"ledger\",\"to\":\"reviews\",\"jwt\":1}", "'jwt' wants an object"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct request request, before;
		char why[REQUEST_WHY_BYTES];
		memset(&request, 0x5a, sizeof(request));
		before = request;
		if (read_line(cases[i].line, &request, why) != -EINVAL)
			fail_msg("%s is taken", cases[i].line);
		if (!strstr(why, cases[i].says))
			fail_msg("%s: %s", cases[i].line, why);
		assert_memory_equal(&request, &before, sizeof(request));
	}
}

/* ---- Normal form -------------------------------------------------------------------------------- */

static void paths(void **state)
{
	(void)state;
	static const struct {
		const char *sent, *normal; /* NULL: malformed */
	} cases[] = {
		{"/", "/"},
		{"/a/b", "/a/b"},
		{"/a?b/../c", "/a"},
		{"/a#b", "/a"},
		{"http://host/a", "/a"},
		{"HTTPS://host:1/a?x#y", "/a"},
		{"http://host", "/"},
		{"http://host?x", "/"},
		{"/http://host", "/http:/host"},
		{"//a///b//", "/a/b/"},
		{"/a/./b/../c", "/a/c"},
		{"/..", "/"},
		{"/../../a", "/a"},
		{"/a/..", "/"},
		{"/a/.", "/a/"},
		{"/a/b/..", "/a/"},
		{"/a//../b", "/b"}, /* slashes merge first */
		{"/%61%2d%5f%7E", "/a-_~"},
		{"/%2e%2E/a", "/a"},
		{"/a/%2e%2e/b", "/b"},
		{"/%c3%a9", "/%C3%A9"},
		{"/%252e", "/%252e"},
		{"/a;b/...", "/a;b/..."},
		{"/%2f", NULL},
		{"/%2F", NULL},
		{"/%5c", NULL},
		{"/%00", NULL},
		{"/a\\b", NULL},
		{"/%", NULL},
		{"/%4", NULL},
		{"/%g0", NULL},
		{"/a b", NULL},
		{"a", NULL},
		{"*", NULL},
		{"", NULL},
		{"host:443", NULL},
		{"/a\x01", NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct request request = {.http = true, .method = "GET", .path = cases[i].sent};
		const char *why = NULL;
		int r = request_normalise(run.arena, &request, &why);
		if (r != (cases[i].normal ? 0 : -EINVAL))
			fail_msg("'%s': %d %s", cases[i].sent, r, r ? why : request.path);
		assert_string_equal(request.path, r ? cases[i].sent : cases[i].normal);
		assert_true(!r || why);
	}
}

static void hosts(void **state)
{
	(void)state;
	static const struct {
		const char *sent, *normal;
	} cases[] = {
		{"Reviews", "reviews"},
		{"reviews.", "reviews"},
		{"reviews:80", "reviews"},
		{"Reviews.Shop.:8080", "reviews.shop"},
		{"[FD00::1]:80", "[fd00::1]"},
		{"[fd00::1]", "[fd00::1]"},
		{"10.0.0.1:80", "10.0.0.1"},
		{"a b", NULL},
		{"", NULL},
		{".", NULL},
		{":80", NULL},
		{"a/b", NULL},
		{" reviews ", NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct request request = {.http = true, .method = "GET", .host = cases[i].sent};
		const char *why = NULL;
		int r = request_normalise(run.arena, &request, &why);
		if (r != (cases[i].normal ? 0 : -EINVAL))
			fail_msg("'%s': %d", cases[i].sent, r);
		assert_string_equal(request.host, r ? cases[i].sent : cases[i].normal);
	}
}

static struct request with_headers(const char *const *pairs, size_t count)
{
	struct request request = {.http = true, .method = "GET", .path = "/"};
	for (size_t i = 0; i < count; i += 2)
		vec_push(run.arena, &request.headers, (struct request_header){pairs[i], pairs[i + 1]});
	return request;
}

static void headers(void **state)
{
	(void)state;
	static const char *const sent[] = {"X-A", " 1 ", "b", "", "x-a", "\t2", "Host", "Shop:80", "c", "a, b"};
	struct request request = with_headers(sent, 10), before = request;
	const char *why = NULL;
	assert_int_equal(request_normalise(run.arena, &request, &why), 0);
	assert_string_equal(request_text(&request), "unknown 0 -> unknown http 0 GET shop / x-a=1,2 b= c=a, b");
	/* What came in is as it was: it may be asked again. */
	assert_int_equal(before.headers.len, 5);
	assert_string_equal(before.headers.at[0].value, " 1 ");
}

static void malformed(void **state)
{
	(void)state;
	static const char *const twice[] = {"host", "a", "Host", "a"}, *const bad_name[] = {"a b", "1"},
				 *const bad_value[] = {"a", "1\n2"}, *const no_name[] = {"", "1"},
				 *const host[] = {"host", "a"};
	const struct {
		struct request request;
		const char *says;
	} cases[] = {
		{with_headers(twice, 4), "one Host"},
		{with_headers(bad_name, 2), "no header's name"},
		{with_headers(no_name, 2), "no header's name"},
		{with_headers(bad_value, 2), "control characters"},
		{{.http = true, .method = "G ET"}, "no method"},
		{{.http = true, .method = ""}, "no method"},
		{{.http = true, .method = "GET", .host = "a", .headers = with_headers(host, 2).headers}, "one Host"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct request request = cases[i].request;
		const char *why = NULL;
		assert_int_equal(request_normalise(run.arena, &request, &why), -EINVAL);
		assert_non_null(strstr(why, cases[i].says));
		assert_memory_equal(&request, &cases[i].request, sizeof(request));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines),     cmocka_unit_test(blocks), cmocka_unit_test(refused),
		cmocka_unit_test(paths),     cmocka_unit_test(hosts),  cmocka_unit_test(headers),
		cmocka_unit_test(malformed),
	};
	return cmocka_run_group_tests(tests, prepare, finish);
}
