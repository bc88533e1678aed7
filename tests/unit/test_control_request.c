#define _GNU_SOURCE
/* What may be asked of meshd: each parameter of each verb, of the right kind and in its range. */
#include "scratch.h"

#include "request.h"

#include <errno.h>

static struct why why;

static int check(const char *text)
{
	json_t *body = json_loads(text, 0, NULL);
	assert_true(json_is_object(body));
	why.text[0] = 0;
	int r = request_check(body, &why);
	json_decref(body);
	return r;
}

static void good(void **state)
{
	static const char *const requests[] = {
		"{\"verb\": \"status\"}",
		"{\"verb\": \"source\"}",
		"{\"verb\": \"apply\"}",
		"{\"verb\": \"off\"}",
		"{\"verb\": \"on\"}",
		"{\"verb\": \"rollback\"}",
		"{\"verb\": \"rollback\", \"generation\": 1}",
		"{\"verb\": \"rollback\", \"generation\": 4294967295}",
		"{\"verb\": \"flows\"}",
		"{\"verb\": \"flows\", \"follow\": true, \"filter\": {}}",
		"{\"verb\": \"flows\", \"filter\": {\"verdict\": \"deny\", \"from\": \"a\"}}",
		"{\"verb\": \"flows\", \"filter\": {\"to\": \"b\", \"rule\": \"c\"}}",
	};
	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(*requests); i++)
		if (check(requests[i]))
			fail_msg("%s: %s", requests[i], why.text);
}

static void bad(void **state)
{
	static const struct {
		const char *request, *says;
	} cases[] = {
		{"{}", "unknown verb"},
		{"{\"verb\": 7}", "unknown verb"},
		{"{\"verb\": \"format\"}", "unknown verb"},
		{"{\"verb\": \"rollback\", \"generation\": \"x\"}",
		 "'generation' of 'rollback' is a whole number from 1"},
		{"{\"verb\": \"rollback\", \"generation\": \"3\"}", "'generation' of 'rollback'"},
		{"{\"verb\": \"rollback\", \"generation\": 1e99}", "'generation' of 'rollback'"},
		{"{\"verb\": \"rollback\", \"generation\": 1.5}", "'generation' of 'rollback'"},
		{"{\"verb\": \"rollback\", \"generation\": -1}", "'generation' of 'rollback'"},
		{"{\"verb\": \"rollback\", \"generation\": 0}", "'generation' of 'rollback'"},
		{"{\"verb\": \"rollback\", \"generation\": 4294967296}", "'generation' of 'rollback'"},
		{"{\"verb\": \"rollback\", \"generation\": null}", "'generation' of 'rollback'"},
		{"{\"verb\": \"rollback\", \"follow\": true}", "'rollback' has no parameter 'follow'"},
		{"{\"verb\": \"status\", \"generation\": 1}", "'status' has no parameter 'generation'"},
		{"{\"verb\": \"off\", \"why\": \"so\"}", "'off' has no parameter 'why'"},
		{"{\"verb\": \"flows\", \"follow\": 1}", "'follow' of 'flows' is true or false"},
		{"{\"verb\": \"flows\", \"filter\": []}", "'filter' of 'flows' is an object"},
		{"{\"verb\": \"flows\", \"filter\": {\"verdict\": \"maybe\"}}",
		 "'verdict' of 'filter' is \"allow\" or"},
		{"{\"verb\": \"flows\", \"filter\": {\"verdict\": true}}", "'verdict' of 'filter'"},
		{"{\"verb\": \"flows\", \"filter\": {\"from\": 7}}", "'from' of 'filter' is a text"},
		{"{\"verb\": \"flows\", \"filter\": {\"to\": []}}", "'to' of 'filter' is a text"},
		{"{\"verb\": \"flows\", \"filter\": {\"rule\": {}}}", "'rule' of 'filter' is a text"},
		{"{\"verb\": \"flows\", \"filter\": {\"port\": 80}}", "'filter' has no parameter 'port'"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		if (check(cases[i].request) != -EINVAL)
			fail_msg("%s: taken", cases[i].request);
		assert_says(why.text, cases[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(bad)};
	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
