/* What stays of a bundle in memory: names of rules and of what is none, statements of mTLS with an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "names.h"

static const char manifest[] =
	"{\"rules\": [{\"name\": \"post\"}], \"classes\": [{\"name\": \"unknown\"}], \"sets\": [\"shop/a\"], "
	"\"audits\": [[], [0]], \"mtls\": [{\"mode\": \"strict\", \"scope\": \"mesh\"}, "
	"{\"mode\": \"permissive\", \"scope\": \"shop/a\", \"port\": 80, \"until\": \"2026-12-31\"}]}";

static struct names *names_of(const char *where)
{
	json_t *said = json_loads(manifest, 0, NULL), *places = json_loads(where, 0, NULL);
	struct names *names = names_make(said, places);
	json_decref(said);
	json_decref(places);
	assert_non_null(names);
	return names;
}

static void test_rules(void **state)
{
	struct names *names = names_of("{\"rules\": [\"p.mesh:1:1\"]}");
	(void)state;
	assert_string_equal(names_rule(names, 0), "post");
	assert_string_equal(names_where(names, 0), "p.mesh:1:1");
	assert_string_equal(names_rule(names, 1), "default");
	assert_string_equal(names_rule(names, 5), "plaintext");
	assert_null(names_rule(names, 100));
	names_release(names);
}

static void test_permissive(void **state)
{
	static const char *const wheres[] = {"{\"mtls\": [\"p.mesh:2:1\", \"p.mesh:3:1\"]}", "{}"};
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct names *names = names_of(wheres[i]);
		uint32_t count = 0;
		const struct names_permissive *all = names_permissive(names, &count);
		assert_int_equal(count, 1);
		assert_true(names_strict(names));
		assert_string_equal(all[0].scope, "shop/a");
		assert_string_equal(all[0].until, "2026-12-31");
		assert_int_equal(all[0].port, 80);
		if (i)
			assert_null(all[0].where);
		else
			assert_string_equal(all[0].where, "p.mesh:3:1");
		names_release(names);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules), cmocka_unit_test(test_permissive)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
