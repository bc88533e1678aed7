/* Literals: addresses, identities, dates, and strings in normal form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/spiffe.h"
#include "ir/literal.h"

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

static void addresses(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum address_fault fault;
		const char *lo, *hi; /* as 32 hexadecimal digits */
	} cases[] = {
		{"10.0.0.1", ADDRESS_FINE, "00000000000000000000ffff0a000001", "00000000000000000000ffff0a000001"},
		{"10.0.0.0/8", ADDRESS_FINE, "00000000000000000000ffff0a000000", "00000000000000000000ffff0affffff"},
		{"0.0.0.0/0", ADDRESS_FINE, "00000000000000000000ffff00000000", "00000000000000000000ffffffffffff"},
		{"255.255.255.255/32", ADDRESS_FINE, "00000000000000000000ffffffffffff",
		 "00000000000000000000ffffffffffff"},
		{"::/0", ADDRESS_FINE, "00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff"},
		{"fd00::1", ADDRESS_FINE, "fd000000000000000000000000000001", "fd000000000000000000000000000001"},
		{"2001:db8::/33", ADDRESS_FINE, "20010db8000000000000000000000000", "20010db87fffffffffffffffffffffff"},
		{"10.0.0.1/8", ADDRESS_HOST_BITS, "00000000000000000000ffff0a000000",
		 "00000000000000000000ffff0affffff"},
		{"fd00::1/64", ADDRESS_HOST_BITS, "fd000000000000000000000000000000",
		 "fd00000000000000ffffffffffffffff"},
		{"::ffff:10.0.0.1", ADDRESS_MAPPED, NULL, NULL},
		{"::ffff:0:0/96", ADDRESS_MAPPED, NULL, NULL},
		{"10.0.0.0/33", ADDRESS_BAD, NULL, NULL},
		{"::/129", ADDRESS_BAD, NULL, NULL},
		{"10.0.0.0/", ADDRESS_BAD, NULL, NULL},
		{"10.0.0.0/+8", ADDRESS_BAD, NULL, NULL},
		{"10.0.0.0/0008", ADDRESS_BAD, NULL, NULL},
		{"10.0.0", ADDRESS_BAD, NULL, NULL},
		{"10.0.0.256", ADDRESS_BAD, NULL, NULL},
		{"010.0.0.1", ADDRESS_BAD, NULL, NULL},
		{"frontend", ADDRESS_BAD, NULL, NULL},
		{"", ADDRESS_BAD, NULL, NULL},
		{"/8", ADDRESS_BAD, NULL, NULL},
		{"fd00::1%eth0", ADDRESS_BAD, NULL, NULL},
		{"1:2:3:4:5:6:7:8:9", ADDRESS_BAD, NULL, NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct address_range range;
		if (address_read(cases[i].text, &range) != cases[i].fault)
			fail_msg("%s: another fault than %d", cases[i].text, cases[i].fault);
		for (int end = 0; end < 2 && cases[i].lo; end++) {
			uint8_t bytes[16];
			char text[33];
			address_bytes(end ? range.hi : range.lo, bytes);
			for (int k = 0; k < 16; k++)
				snprintf(text + 2 * k, 3, "%02x", bytes[k]);
			assert_string_equal(text, end ? cases[i].hi : cases[i].lo);
		}
	}
}

/* Printed in the one canonical form (RFC 5952), and read back as the same. */
static void addresses_printed(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"10.0.0.1", "10.0.0.1"},	    {"10.0.0.0/8", "10.0.0.0/8"}, {"10.0.0.1/32", "10.0.0.1/32"},
		{"0.0.0.0/0", "0.0.0.0/0"},	    {"FD00:0:0::1", "fd00::1"},	  {"::/0", "::/0"},
		{"2001:DB8::/48", "2001:db8::/48"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct address_range range, again;
		assert_int_equal(address_read(cases[i][0], &range), ADDRESS_FINE);
		assert_string_equal(address_print(arena, &range), cases[i][1]);
		assert_int_equal(address_read(cases[i][1], &again), ADDRESS_FINE);
		assert_true(range.lo == again.lo && range.hi == again.hi);
	}
}

static void identities(void **state)
{
	(void)state;
	static const char *const valid[] = {"spiffe://a.example/x", "spiffe://a/ns/b/sa/c"};
	static const char *const invalid[] = {"",
					      "spiffe://",
					      "spiffe://a",
					      "spiffe://a/",
					      "spiffe:///x",
					      "spiffe://a//x",
					      "spiffe://a/x/",
					      "https://a/x",
					      "spiffe://a/x?y",
					      "spiffe://a/x y",
					      "spiffe://a/%41"};
	const char *ns, *account;
	for (size_t i = 0; i < sizeof(valid) / sizeof(*valid); i++)
		assert_true(spiffe_valid(valid[i]));
	for (size_t i = 0; i < sizeof(invalid) / sizeof(*invalid); i++)
		assert_false(spiffe_valid(invalid[i]));
	assert_true(spiffe_read(arena, "a.example", "spiffe://a.example/ns/ci/sa/deployer", &ns, &account));
	assert_string_equal(ns, "ci");
	assert_string_equal(account, "deployer");
	assert_false(spiffe_read(arena, "a.example", "spiffe://a.example.evil/ns/ci/sa/deployer", &ns, &account));
	assert_false(spiffe_read(arena, "a.example", "spiffe://b.example/ns/ci/sa/deployer", &ns, &account));
	assert_false(spiffe_read(arena, "a.example", "spiffe://a.example/ns//sa/deployer", &ns, &account));
	assert_false(spiffe_read(arena, "a.example", "spiffe://a.example/ns/ci/sa/", &ns, &account));
	assert_false(spiffe_read(arena, "a.example", "spiffe://a.example/ns/ci/sa/a/b", &ns, &account));
	assert_false(spiffe_read(arena, "a.example", "spiffe://a.example/ci/deployer", &ns, &account));
}

static void dates(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		long days;
	} cases[] = {
		{"1970-01-01", 0},     {"1970-12-31", 364},   {"1972-02-29", 789},   {"2000-02-29", 11016},
		{"2000-03-01", 11017}, {"2026-06-01", 20605}, {"2100-03-01", 47541}, {"9999-12-31", 2932896},
		{"2026-02-29", -1},    {"2100-02-29", -1},    {"1969-12-31", -1},    {"2026-13-01", -1},
		{"2026-00-01", -1},    {"2026-01-00", -1},    {"2026-01-32", -1},    {"2026-1-01", -1},
		{"2026-01-1", -1},     {"26-01-01", -1},      {"2026/01/01", -1},    {"", -1},
		{" 2026-01-01", -1},   {"2026-01-01 ", -1},   {"2026-01-+1", -1},    {"+026-01-01", -1},
		{"tomorrow", -1},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (date_read(cases[i].text) != cases[i].days)
			fail_msg("'%s' is %ld", cases[i].text, date_read(cases[i].text));
	long last = -1;
	for (int y = 1970; y < 2110; y++)
		for (int m = 1; m <= 12; m++)
			for (int d = 1; d <= 31; d++) {
				char text[40];
				snprintf(text, sizeof(text), "%04d-%02d-%02d", y, m, d);
				long days = date_read(text);
				assert_true(days == -1 || days == last + 1);
				last = days == -1 ? last : days;
			}
	assert_int_equal(last, 51133); /* 2109-12-31 */
}

static void strings(void **state)
{
	(void)state;
	static const struct {
		enum field field;
		const char *text, *normal;
	} cases[] = {
		{FIELD_METHOD, "GET", "GET"},
		{FIELD_METHOD, "get", "get"},
		{FIELD_METHOD, "a(b", NULL},
		{FIELD_HOST, "Shop.Example:80", "shop.example"},
		{FIELD_HOST, "shop.example.", "shop.example"},
		{FIELD_HOST, "sh op", NULL},
		{FIELD_PATH, "/A/%7e", "/A/~"},
		{FIELD_PATH, "/a?b", NULL},
		{FIELD_PATH, "/a#b", NULL},
		{FIELD_PATH, "a", NULL},
		{FIELD_HEADER, "  a b ", "a b"},
		{FIELD_HEADER, " \t ", ""},
		{FIELD_HEADER, "", ""},
		{FIELD_HEADER, "a\tb", "a\tb"},
		{FIELD_HEADER, "a\rb", NULL},
		{FIELD_HEADER, "\x7f", NULL},
		{FIELD_HEADER, "\xc3\xa9", "\xc3\xa9"},
		{FIELD_GRPC_METHOD, "shop.Checkout/Place", "/shop.Checkout/Place"},
		{FIELD_GRPC_METHOD, "/shop.Checkout/Place", NULL},
		{FIELD_GRPC_METHOD, "Place", NULL},
		{FIELD_GRPC_METHOD, "a/b/c", NULL},
		{FIELD_GRPC_METHOD, "a/", NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *why = NULL, *normal = literal_normal(arena, cases[i].field, cases[i].text, &why);
		if (!normal != !cases[i].normal)
			fail_msg("%s '%s': %s", field_text(cases[i].field), cases[i].text, normal ? normal : why);
		if (normal)
			assert_string_equal(normal, cases[i].normal);
		else
			assert_non_null(why);
	}
}

/* Normal form is a normal form: made twice it is the same. */
static void paths_twice(void **state)
{
	(void)state;
	static const char letters[] = "a./%2eE5cF";
	unsigned long long all = 1;
	for (int len = 0; len < 6; len++, all *= sizeof(letters) - 1)
		for (unsigned long long n = 0; n < all; n++) {
			char text[16] = "/";
			unsigned long long rest = n;
			for (int i = 0; i < len; i++, rest /= sizeof(letters) - 1)
				text[1 + i] = letters[rest % (sizeof(letters) - 1)];
			const char *why, *once = literal_normal(arena, FIELD_PATH, text, &why);
			const char *twice = once ? literal_normal(arena, FIELD_PATH, once, &why) : NULL;
			if (once && (!twice || strcmp(once, twice) != 0))
				fail_msg("'%s': '%s', then '%s'", text, once, twice ? twice : why);
			if (once && (strstr(once, "/../") || strstr(once, "/./") || strstr(once, "//")))
				fail_msg("'%s': '%s'", text, once);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(addresses_printed), cmocka_unit_test(identities),
		cmocka_unit_test(dates),     cmocka_unit_test(strings),		  cmocka_unit_test(paths_twice),
	};
	return cmocka_run_group_tests(tests, prepare, finish);
}
