/* Strings that end in given classes of several automata at once; what the values of a field can be. */
#include "patterns.h"

#include "ir/literal.h"
#include "ir/request.h"

#include <errno.h>

/* ---- Witnesses ---------------------------------------------------------------------------------- */

/* The length of a shortest text over "ab/-A!" that both take, up to MOST; or -1. */
static int shortest(const struct automaton *a, const struct automaton *b, int most)
{
	static const char letters[] = "ab/-A!";
	for (int len = 0; len <= most; len++) {
		int all = 1;
		for (int i = 0; i < len; i++)
			all *= 6;
		for (int n = 0; n < all; n++) {
			char text[8];
			for (int i = 0, rest = n; i < len; i++, rest /= 6)
				text[i] = letters[rest % 6];
			if (matches(a, 0, text, len) && matches(b, 0, text, len))
				return len;
		}
	}
	return -1;
}

static void witnesses(void **state)
{
	(void)state;
	int found = 0, none = 0;
	seed = 0x5eed0005;
	for (int round = 0; round < 600; round++) {
		struct pattern patterns[] = {random_pattern(), random_pattern()};
		const struct automaton *automata[] = {make(&patterns[0], 1), make(&patterns[1], 1)};
		const char *text = "?";
		const uint32_t classes[] = {1, 1};
		if (automata[0]->accept_classes < 2 || automata[1]->accept_classes < 2)
			continue;
		assert_int_equal(automaton_witness(arena, automata, classes, 2, &text), 0);
		int len = shortest(automata[0], automata[1], 4);
		if (!text) {
			assert_int_equal(len, -1);
			none++;
			continue;
		}
		found++;
		assert_true(matches(automata[0], 0, text, strlen(text)) && matches(automata[1], 0, text, strlen(text)));
		if (len >= 0)
			assert_int_equal(strlen(text), len);
		for (const char *c = text; *c; c++)
			assert_true(*c >= ' ' && *c < 0x7f);
	}
	if (found < 60 || none < 20)
		fail_msg("%d found, %d not: too few to say anything", found, none);
}

static void witness_letters(void **state)
{
	(void)state;
	static const struct {
		const char *pattern;
		uint32_t class;
		const char *text;
	} cases[] = {
		{"/x/.+", 1, "/x/a"},	   {"[^a-z]", 1, "0"}, {"[\\x00-/]", 1, "-"}, {".*", 0, NULL},
		{"\\x00", 1, NULL},	   {"a\\n", 1, NULL},  {"\\t", 1, "\t"},      {"[^\\x00-\\x7f]", 1, "\x80"},
		{"a|[[:cntrl:]]*", 1, ""},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct automaton *automaton = make_one(PATTERN_RE, cases[i].pattern);
		const char *text = "?";
		assert_int_equal(automaton_witness(arena, &automaton, &cases[i].class, 1, &text), 0);
		if (cases[i].text)
			assert_string_equal(text, cases[i].text);
		else
			assert_null(text);
	}
	const char *text = NULL;
	assert_int_equal(automaton_witness(arena, NULL, NULL, 0, &text), 0);
	assert_string_equal(text, "");
}

/* Counters of lengths that have no common factor: the product is far larger than its parts. */
static void witness_bound(void **state)
{
	(void)state;
	static const int primes[] = {997, 991, 983};
	const struct automaton *automata[3];
	static const uint32_t classes[] = {1, 1, 1};
	const char *text = "?";
	for (int i = 0; i < 3; i++)
		automata[i] = make_one(PATTERN_RE, arena_printf(arena, "(a{%d})+", primes[i]));
	automata[2] = make_one(PATTERN_RE, ".*");
	assert_int_equal(automaton_witness(arena, automata, classes, 3, &text), 0);
	assert_int_equal(strlen(text), 997 * 991);
	automata[2] = make_one(PATTERN_RE, arena_printf(arena, "(a{%d})+", primes[2]));
	text = "?";
	assert_int_equal(automaton_witness(arena, automata, classes, 3, &text), -E2BIG);
	assert_string_equal(text, "?");
}

/* ---- What a field can be ------------------------------------------------------------------------ */

static void field_patterns(void **state)
{
	(void)state;
	static const enum field fields[] = {FIELD_PATH, FIELD_METHOD, FIELD_HEADER};
	static const char letters[] = "a./%2fE\\?# \t\x7f\xc3:*C";
	int normal = 0, refusals = 0;
	seed = 0x5eed0006;
	for (size_t f = 0; f < 3; f++) {
		struct automaton *automaton = make_one(PATTERN_RE, request_field_pattern(fields[f]));
		for (int round = 0; round < 60000; round++) {
			char text[16] = "/";
			const char *why = NULL;
			size_t len = chance(8);
			for (size_t i = 0; i < len; i++)
				text[1 + i] = letters[chance(chance(2) ? 7 : sizeof(letters) - 1)];
			text[1 + len] = 0;
			const char *from = text + (f != 0), *to = literal_normal(arena, fields[f], from, &why);
			bool is = matches(automaton, 0, from, strlen(from));
			/* Exactly what is in normal form already. */
			assert_int_equal(is, to && strcmp(from, to) == 0);
			if (to && !matches(automaton, 0, to, strlen(to)))
				fail_msg("%s: '%s' is no value", field_text(fields[f]), to);
			normal += to != NULL;
			refusals += !to;
		}
	}
	assert_true(normal > 10000 && refusals > 10000);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, prepare, finish)
	const struct CMUnitTest tests[] = {TEST(witnesses), TEST(witness_letters), TEST(witness_bound),
					   TEST(field_patterns)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
