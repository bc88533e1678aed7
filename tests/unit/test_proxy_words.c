/* Addresses and the words of HBONE: what is written is read back, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/hbone.h"

static void hops_have_one_spelling(void **state)
{
	static const char *const good[] = {"192.0.2.1:80", "0.0.0.0:1", "[2001:db8::1]:65535", "[::]:1"};
	static const char *const bad[] = {
		"",
		"192.0.2.1",
		"192.0.2.1:",
		"192.0.2.1:0",
		"192.0.2.1:080",
		"192.0.2.1:+80",
		"192.0.2.1:65536",
		"192.0.2.1:80 ",
		" 192.0.2.1:80",
		"192.0.2.1:123456",
		"2001:db8::1:80",
		"[192.0.2.1]:80",
		"[::ffff:1.2.3.4]:80",
		"[::1:80",
		"[::1]",
		"ledger:80",
		"192.0.2:80",
		"192.0.2.01:80",
		"[fe80::1%lo]:80",
		":80",
	};
	struct hop hop;
	char text[HOP_TEXT];
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(hop_parse(good[i], strlen(good[i]), &hop), 0);
		assert_string_equal(hop_print(&hop, text), good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (!hop_parse(bad[i], strlen(bad[i]), &hop))
			fail_msg("'%s' was taken as %s", bad[i], hop_print(&hop, text));
	assert_int_not_equal(hop_parse("192.0.2.1\0:80", 13, &hop), 0);
}

static void hops_survive_sockets(void **state)
{
	static const char *const texts[] = {"192.0.2.1:80", "[2001:db8::1]:443"};
	struct sockaddr_storage address;
	struct hop hop, back;
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		hop_parse(texts[i], strlen(texts[i]), &hop);
		hop_to_sockaddr(&hop, hop_family(&hop), &address);
		assert_int_equal(hop_from_sockaddr(&address, &back), 0);
		assert_true(hop_same_ip(&hop, &back) && hop.port == back.port);
	}
	/* An IPv4 caller at a dual-stack listener. */
	hop_parse(texts[0], strlen(texts[0]), &hop);
	hop_to_sockaddr(&hop, AF_INET6, &address);
	assert_int_equal(hop_from_sockaddr(&address, &back), 0);
	assert_true(hop_same_ip(&hop, &back) && hop_is_v4(&back));
	address.ss_family = AF_UNIX;
	assert_int_not_equal(hop_from_sockaddr(&address, &back), 0);
}

static struct hbone_head head_of(const char *name, const char *value)
{
	struct hbone_head head = {0};
	hbone_head_read(&head, name, strlen(name), value, strlen(value));
	return head;
}

static void forwarded_names_the_caller(void **state)
{
	static const struct {
		const char *value, *expected; /* NULL: nobody */
	} cases[] = {
		{"for=\"192.0.2.1:4711\"", "192.0.2.1:4711"},
		{"for=192.0.2.1", "192.0.2.1:0"},
		{"FOR=192.0.2.1;proto=tcp", "192.0.2.1:0"},
		{"for=192.0.2.1, for=198.51.100.1", "192.0.2.1:0"},
		{"for=\"[2001:db8::1]\"", "[2001:db8::1]:0"},
		{"for=\"[2001:db8::1]:9\";host=x", "[2001:db8::1]:9"},
		{"for=unknown", NULL},
		{"for=\"192.0.2.1", NULL},
		{"by=192.0.2.1", NULL},
		{"for=", NULL},
		{"", NULL},
	};
	char text[HOP_TEXT];
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct hbone_head head = head_of("forwarded", cases[i].value);
		assert_int_equal(head.has_src, cases[i].expected != NULL);
		if (cases[i].expected)
			assert_string_equal(hop_print(&head.src, text), cases[i].expected);
	}
}

static void heads_are_read(void **state)
{
	(void)state;
	assert_true(head_of(":method", "CONNECT").is_connect);
	assert_false(head_of(":method", "connect").is_connect);
	assert_int_equal(head_of(":authority", "192.0.2.1:80").dst.port, 80);
	assert_int_equal(head_of(":authority", "ledger:80").dst.port, 0);
	assert_int_equal(head_of(":status", "200").status, 200);
	assert_int_equal(head_of(":status", "20").status, 0);
	assert_int_equal(head_of(":status", "2000").status, 0);
}

static void requests_are_read_back(void **state)
{
	struct hop dst, src;
	struct hbone_request request;
	struct hbone_head head = {0};
	(void)state;
	hop_parse("[2001:db8::1]:80", 16, &dst);
	hop_parse("192.0.2.1:9", 11, &src);
	hbone_request_write(&request, &dst, &src, "shop/frontend-1", "shop/frontend");
	assert_string_equal(request.baggage, "k8s.namespace.name=shop,service.name=frontend");
	for (int i = 0; i < HBONE_HEADERS; i++)
		hbone_head_read(&head, (const char *)request.headers[i].name, request.headers[i].namelen,
				(const char *)request.headers[i].value, request.headers[i].valuelen);
	assert_true(head.is_connect && head.has_src);
	assert_true(hop_same_ip(&head.dst, &dst) && head.dst.port == 80);
	assert_true(hop_same_ip(&head.src, &src) && head.src.port == 9);
	hbone_request_write(&request, &dst, &src, "shop/frontend-1", NULL);
	assert_string_equal(request.baggage, "k8s.namespace.name=shop,service.name=frontend-1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hops_have_one_spelling),     cmocka_unit_test(hops_survive_sockets),
		cmocka_unit_test(forwarded_names_the_caller), cmocka_unit_test(heads_are_read),
		cmocka_unit_test(requests_are_read_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
