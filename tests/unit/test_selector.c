/* Label selectors: what they match, and which are well-formed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/selector.h"

static json_t *parsed(const char *text)
{
	json_error_t error;
	json_t *json = json_loads(text, JSON_DECODE_ANY, &error);
	if (!json)
		fail_msg("%s: %s", text, error.text);
	return json;
}

static const char app[] = "{'op':'==','label':'app','value':'web'}";

static json_t *quoted(const char *text)
{
	char copy[1024];
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *c = copy; *c; c++)
		*c = *c == '\'' ? '"' : *c;
	return parsed(copy);
}

static struct labels labels_of(json_t *object, struct label *room)
{
	const char *name;
	json_t *value;
	size_t len = 0;
	json_object_foreach (object, name, value)
		room[len++] = (struct label){name, json_string_value(value)};
	return (struct labels){room, len};
}

static void matching(void **state)
{
	(void)state;
	static const struct {
		const char *selector, *labels;
		bool matches;
	} cases[] = {
		{app, "{'app':'web'}", true},
		{app, "{'app':'db'}", false},
		{app, "{'app':'webs'}", false},
		{app, "{}", false},
		{app, "{'app':7}", false},
		{"{'op':'!=','label':'app','value':'web'}", "{'app':'db'}", true},
		{"{'op':'!=','label':'app','value':'web'}", "{'app':'web'}", false},
		/* A missing label matches neither == nor !=. */
		{"{'op':'!=','label':'app','value':'web'}", "{}", false},
		{"{'op':'not','args':[{'op':'==','label':'app','value':'web'}]}", "{}", true},
		{"{'op':'not','args':[{'op':'!=','label':'app','value':'web'}]}", "{}", true},
		{"{'op':'in','label':'tier','values':['gold','silver']}", "{'tier':'silver'}", true},
		{"{'op':'in','label':'tier','values':['gold','silver']}", "{'tier':'tin'}", false},
		{"{'op':'in','label':'tier','values':['gold','silver']}", "{}", false},
		{"{'op':'has','label':'dev'}", "{'dev':''}", true},
		{"{'op':'has','label':'dev'}", "{'app':'dev'}", false},
		{"{'op':'and','args':[{'op':'has','label':'a'},{'op':'has','label':'b'}]}", "{'a':'','b':''}", true},
		{"{'op':'and','args':[{'op':'has','label':'a'},{'op':'has','label':'b'}]}", "{'a':''}", false},
		{"{'op':'or','args':[{'op':'has','label':'a'},{'op':'has','label':'b'}]}", "{'b':''}", true},
		{"{'op':'or','args':[{'op':'has','label':'a'},{'op':'has','label':'b'}]}", "{'c':''}", false},
		/* What is malformed matches nothing, and an empty `and` is malformed. */
		{"{'op':'and','args':[]}", "{}", false},
		{"{'op':'or','args':[]}", "{}", false},
		{"{'op':'not','args':[]}", "{}", false},
		{"{'op':'like','label':'app','value':'web'}", "{'app':'web'}", false},
		{"{'label':'app','value':'web'}", "{'app':'web'}", false},
		{"{'op':'==','label':'app'}", "{'app':'web'}", false},
		{"{'op':'!=','label':'app'}", "{'app':'web'}", false},
		{"[]", "{'app':'web'}", false},
		{"null", "{'app':'web'}", false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		json_t *selector = quoted(cases[i].selector), *object = quoted(cases[i].labels);
		struct label room[8];
		struct labels labels = labels_of(object, room);
		if (selector_matches(selector, &labels) != cases[i].matches)
			fail_msg("%s %s %s", cases[i].selector, cases[i].matches ? "misses" : "takes", cases[i].labels);
		json_decref(selector);
		json_decref(object);
	}
	json_t *selector = quoted(app);
	struct labels none = {0};
	assert_false(selector_matches(NULL, &none));
	assert_false(selector_matches(selector, &none));
	json_decref(selector);
}

static void validity(void **state)
{
	(void)state;
	static const struct {
		const char *selector;
		bool valid;
	} cases[] = {
		{app, true},
		{"{'op':'!=','label':'app','value':''}", true},
		{"{'op':'in','label':'app','values':['a']}", true},
		{"{'op':'has','label':'app'}", true},
		{"{'op':'and','args':[{'op':'has','label':'a'}]}", true},
		{"{'op':'not','args':[{'op':'or','args':[{'op':'has','label':'a'},{'op':'has','label':'b'}]}]}", true},
		{"{'op':'in','label':'app','values':[]}", false},
		{"{'op':'in','label':'app'}", false},
		{"{'op':'has'}", false},
		{"{'op':'==','label':'app'}", false},
		{"{'op':'==','value':'app'}", false},
		{"{'op':'~','label':'app','value':'x'}", false},
		{"{'op':'and','args':[]}", false},
		{"{'op':'and'}", false},
		{"{'op':'not','args':[{'op':'has','label':'a'},{'op':'has','label':'b'}]}", false},
		{"{'op':'and','args':[7]}", false},
		{"{}", false},
		{"7", false},
		{"null", false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		json_t *selector = quoted(cases[i].selector);
		if (selector_valid(selector, 8) != cases[i].valid)
			fail_msg("%s is %svalid", cases[i].selector, cases[i].valid ? "not " : "");
		json_decref(selector);
	}
	assert_false(selector_valid(NULL, 8));
}

static void depth(void **state)
{
	(void)state;
	json_t *selector = quoted(app);
	for (unsigned deep = 1; deep < 40; deep++) {
		assert_true(selector_valid(selector, deep));
		assert_false(selector_valid(selector, deep - 1));
		selector = json_pack("{s:s, s:[o]}", "op", "not", "args", selector);
	}
	json_decref(selector);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(matching), cmocka_unit_test(validity),
					   cmocka_unit_test(depth)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
