/* The proof of fmt: whatever makes another tree or loses a comment is seen; what changes only the look is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pass/prove_text.h"

static struct arena *arena;

static int prepare(void **state)
{
	(void)state;
	arena = arena_create();
	return arena ? 0 : -1;
}

static int finish(void **state)
{
	(void)state;
	arena_destroy(arena);
	return 0;
}

static const char policy[] =
	"mesh m: trust \"t\", ingress deny, egress allow;\n"
	"namespace a: ingress audit;\n"
	"namespace a; # the first\n"
	"service s { workload x == \"1\" and (y in {\"2\", \"3\"} or not has z); address 10.0.0.1; tcp 80 to 8080;\n"
	"            subset v = k != \"4\"; ingress allow; account w; identity \"spiffe://t/x\"; }\n"
	"external e { cidr 203.0.113.0/24 except 203.0.113.1/32; udp 53; egress deny; }\n"
	"cidr c = 198.51.100.0/24;\n"
	"group g = s, b/t;\n"
	"mtls permissive for s port 80 until \"2030-01-01\";\n"
	"allow r: from any except g to s port {80, 90} when http.header[\"h\"] like \"p*\";\n"
	"never \"n\": from world to e through any;\n"
	"route s { from node when tcp.port in 1..9 split per connection v 9, 1; sticky by source; }\n"
	"test \"t\" { expect allow by r: from g to s with http.path = \"/\"; }\n";

/* POLICY with its FROM replaced by TO: does the proof hold? */
static bool holds(const char *from, const char *to)
{
	const char *at = strstr(policy, from), *why = NULL;
	assert_non_null(at);
	struct run run = {.arena = arena, .sources.arena = arena, .diags.arena = arena};
	run.diags.sources = &run.sources;
	/* Another file before it: only the one that is asked about counts. */
	sources_add(&run.sources, "other", "namespace other; # and its comment\n", 35);
	sources_add(&run.sources, "policy", policy, strlen(policy));
	parse(&run);
	assert_int_equal(run.diags.errors, 0);
	const char *text = arena_printf(arena, "%.*s%s%s", (int)(at - policy), policy, to, at + strlen(from));
	int r = prove_text(&run, 1, text, &why);
	assert_true(r == 0 ? why == NULL : why != NULL);
	return r == 0;
}

static void looks(void **state)
{
	(void)state;
	assert_true(holds("mesh", "mesh"));
	assert_true(holds(" # the first\n", "\n\n   # the first   \n"));
	assert_true(holds("x == \"1\"", "(\"x\" == \"1\")"));
	assert_true(holds("b/t", "b / \"t\""));
	assert_true(holds("allow r", "allow \"r\""));
}

static void says(void **state)
{
	(void)state;
	static const char *const edits[][2] = {
		{"trust \"t\"", "trust \"u\""},
		{"ingress deny", "ingress audit"},
		{", egress allow", ""},
		{"ingress audit", "egress audit"},
		{"# the first", ""},
		{"# the first", "# the second"},
		{"namespace a; #", "namespace b; #"},
		{"x ==", "x !="},
		{"and (", "or ("},
		{"and (y in {\"2\", \"3\"} or not has z)", "and y in {\"2\", \"3\"} or not has z"},
		{"{\"2\", \"3\"}", "{\"3\", \"2\"}"},
		{"not has z", "has z"},
		{"not has z", "not has \"z.z\""},
		{"10.0.0.1", "10.0.0.2"},
		{"tcp 80", "udp 80"},
		{"tcp 80", "tcp 80..81"},
		{" to 8080", ""},
		{" to 8080", " to 8081"},
		{"subset v", "subset u"},
		{"k != \"4\"", "k != \"5\""},
		{"ingress allow;", ""},
		{"account w", "account v"},
		{"spiffe://t/x", "spiffe://t/y"},
		{" except 203.0.113.1/32", ""},
		{"egress deny", "egress allow"},
		{"cidr c", "cidr d"},
		{"198.51.100.0/24", "198.51.100.0/25"},
		{"s, b/t", "s"},
		{"s, b/t", "s, b/t, s"},
		{"permissive for s port 80 until", "off for s port 80 because"},
		{"for s port 80", "for s"},
		{"for s port 80", "for namespace s port 80"},
		{"2030-01-01", "2031-01-01"},
		{"allow r", "deny r"},
		{"allow r", "allow q"},
		{"any except g", "any"},
		{"any except g", "any, g"},
		{"any except g", "world except g"},
		{" port {80, 90}", ""},
		{"{80, 90}", "80"},
		{" when http.header[\"h\"] like \"p*\"", ""},
		{"[\"h\"]", "[\"i\"]"},
		{"like", "matches"},
		{"never \"n\"", "never \"o\""},
		{" through any", ""},
		{"route s", "route t"},
		{"from node when", "when"},
		{"in 1..9", "in {1, 9}"},
		{" per connection", ""},
		{"v 9, 1", "9, v 1"},
		{"v 9, 1", "v 9, 2"},
		{" sticky by source;", ""},
		{"expect allow by r", "expect allow"},
		{"expect allow", "expect deny"},
		{"= \"/\"", "= \"//\""},
		{" with http.path = \"/\"", ""},
		{"cidr c = 198.51.100.0/24;\n", ""},
		{"cidr c", "group h = s;\ncidr c"},
		{"mesh m:", "mesh m"},
	};
	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++)
		if (holds(edits[i][0], edits[i][1]))
			fail_msg("'%s' as '%s' was not seen", edits[i][0], edits[i][1]);
}

/* POLICY without the declaration LOST, of which GONE was to go: does the proof hold? */
static bool goes(const char *lost, const char *gone)
{
	const char *at = strstr(policy, lost), *why = NULL;
	assert_non_null(at);
	struct run run = {.arena = arena, .sources.arena = arena, .diags.arena = arena};
	run.diags.sources = &run.sources;
	sources_add(&run.sources, "policy", policy, strlen(policy));
	parse(&run);
	struct span span = {0, (uint32_t)(strstr(policy, gone) - policy), (uint32_t)strlen(gone)};
	const char *text = arena_printf(arena, "%.*s%s", (int)(at - policy), policy, at + strlen(lost));
	return prove_removal(&run, 0, text, &span, 1, &why) == 0;
}

static void removal(void **state)
{
	(void)state;
	assert_true(goes("cidr c = 198.51.100.0/24;\n", "cidr c = 198.51.100.0/24;\n"));
	assert_false(goes("cidr c = 198.51.100.0/24;\ngroup g = s, b/t;\n", "cidr c = 198.51.100.0/24;\n"));
	assert_false(goes("cidr c = 198.51.100.0/24;\n", "group g = s, b/t;\n"));
	assert_false(goes("namespace a; # the first\n", "namespace a; # the first\n"));
	assert_false(goes("sticky by source;", "cidr c = 198.51.100.0/24;\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(looks),
		cmocka_unit_test(says),
		cmocka_unit_test(removal),
	};
	return cmocka_run_group_tests(tests, prepare, finish);
}
