/* Automata against a matcher that shares no line with them, against POSIX, and their bounds. */
#include "patterns.h"

#include <errno.h>
#include <regex.h>

/* ---- Matching ----------------------------------------------------------------------------------- */

static void random_re_match(void **state)
{
	(void)state;
	seed = 0x5eed0001;
	for (int round = 0; round < 4000; round++) {
		struct writer writer = {0};
		struct re *re = random_re(&writer, 4);
		struct automaton *automaton = make_one(PATTERN_RE, writer.text);
		for (int i = 0; i < 40; i++) {
			char text[16];
			size_t len = random_text(text, 12);
			bool wanted = ends(re, text, len, 1) >> len & 1;
			if (matches(automaton, 0, text, len) != wanted)
				fail_msg("'%s' %s '%s'", writer.text, wanted ? "misses" : "takes", text);
		}
		if (round % 500 == 0) {
			arena_destroy(arena);
			arena = arena_create();
		}
	}
}

static void posix_match(void **state)
{
	(void)state;
	seed = 0x5eed0002;
	for (int round = 0; round < 1500; round++) {
		struct writer writer = {.posix = true};
		regex_t posix;
		put(&writer, "^(");
		random_re(&writer, 3);
		put(&writer, ")$");
		assert_int_equal(regcomp(&posix, writer.text, REG_EXTENDED | REG_NOSUB), 0);
		struct automaton *automaton = make_one(PATTERN_RE, writer.text);
		for (int i = 0; i < 30; i++) {
			char text[16];
			size_t len = random_text(text, 10);
			bool wanted = regexec(&posix, text, 0, NULL, 0) == 0;
			/* In the C locale a byte outside ASCII may be no character for POSIX. */
			if (!memchr(text, 0xc3, len) && matches(automaton, 0, text, len) != wanted)
				fail_msg("'%s' %s '%s'", writer.text, wanted ? "misses" : "takes", text);
		}
		regfree(&posix);
	}
}

static void random_like_match(void **state)
{
	(void)state;
	seed = 0x5eed0003;
	for (int round = 0; round < 4000; round++) {
		const char *pattern = random_like();
		struct automaton *automaton = make_one(PATTERN_LIKE, pattern);
		/* `***` is `**`: what a run of stars means does not depend on where it is cut. */
		if (strstr(pattern, "***"))
			continue;
		for (int i = 0; i < 40; i++) {
			char text[16];
			size_t len = random_text(text, 8);
			for (size_t k = 0; k < len; k++)
				text[k] = text[k] == '!' ? '*' : text[k] == '\xc3' ? '\\' : text[k];
			bool wanted = like_matches(pattern, text);
			if (matches(automaton, 0, text, len) != wanted)
				fail_msg("like '%s' %s '%s'", pattern, wanted ? "misses" : "takes", text);
		}
	}
}

/* No two states have the same future: the pairs that a byte or an accept class tells apart, until no
 * more are found. */
static void assert_minimal(const struct automaton *automaton)
{
	uint32_t n = automaton->states, k = automaton->classes;
	bool *apart = calloc((size_t)n * n, 1), *reached = calloc(n, 1);
	for (bool more = true; more;) {
		more = false;
		for (uint32_t a = 0; a < n; a++)
			for (uint32_t b = 0; b < a; b++) {
				bool is = automaton->accept[a] != automaton->accept[b];
				for (uint32_t c = 0; c < k && !is; c++)
					is = apart[(size_t)automaton->next[a * k + c] * n + automaton->next[b * k + c]];
				if (is && !apart[(size_t)a * n + b]) {
					more = apart[(size_t)a * n + b] = apart[(size_t)b * n + a] = true;
				}
			}
	}
	reached[automaton->start] = true;
	for (uint32_t a = 0; a < n; a++) /* breadth first: a later number is reached from a lower one */
		for (uint32_t c = 0; c < k && reached[a]; c++)
			reached[automaton->next[a * k + c]] = true;
	for (uint32_t a = 0; a < n; a++) {
		assert_true(reached[a]);
		for (uint32_t b = 0; b < a; b++)
			assert_true(apart[(size_t)a * n + b]);
	}
	for (uint32_t c = 0; c < k; c++)
		for (uint32_t d = 0; d < c; d++) {
			uint32_t s = 0;
			while (s < n && automaton->next[s * k + c] == automaton->next[s * k + d])
				s++;
			assert_true(s < n);
		}
	free(apart);
	free(reached);
}

enum { SET_LIMIT = 6 };

/* PATTERNS in another order; WHERE[i] is where pattern i went. */
static void shuffle(const struct pattern *patterns, size_t count, struct pattern *shuffled, size_t *where)
{
	for (size_t i = 0; i < count; i++)
		where[i] = i;
	for (size_t i = count; i > 1; i--) {
		size_t k = chance(i), kept = where[k];
		where[k] = where[i - 1];
		where[i - 1] = kept;
	}
	for (size_t i = 0; i < count; i++)
		shuffled[where[i]] = patterns[i];
}

static void assert_same(const struct automaton *a, const struct automaton *b)
{
	assert_int_equal(a->states, b->states);
	assert_int_equal(a->classes, b->classes);
	assert_int_equal(a->start, b->start);
	assert_int_equal(a->accept_classes, b->accept_classes);
	assert_memory_equal(a->class_of, b->class_of, 256);
	assert_memory_equal(a->next, b->next, (size_t)a->states * a->classes * sizeof(*a->next));
	assert_memory_equal(a->accept, b->accept, a->states * sizeof(*a->accept));
}

/* Sets of patterns: each matches as it does alone, whatever the others are and in whatever order. */
static void random_sets(void **state)
{
	(void)state;
	seed = 0x5eed0004;
	for (int round = 0; round < 1500; round++) {
		struct pattern patterns[SET_LIMIT], shuffled[SET_LIMIT];
		size_t count = chance(SET_LIMIT + 1), where[SET_LIMIT];
		struct automaton *alone[SET_LIMIT];
		for (size_t i = 0; i < count; i++) {
			patterns[i] = i && !chance(5) ? patterns[i - 1] : random_pattern();
			alone[i] = make(&patterns[i], 1);
		}
		struct automaton *all = make(patterns, count);
		assert_int_equal(all->set_len[0], 0);
		for (int i = 0; i < 30; i++) {
			char text[16];
			size_t len = random_text(text, 10);
			for (size_t k = 0; k < count; k++)
				assert_int_equal(matches(all, k, text, len), matches(alone[k], 0, text, len));
		}
		shuffle(patterns, count, shuffled, where);
		struct automaton *again = make(shuffled, count);
		assert_same(all, again);
		for (uint32_t class = 0; class < all->accept_classes; class ++) {
			assert_int_equal(all->set_len[class], again->set_len[class]);
			for (uint32_t i = 0; i < all->set_len[class]; i++) {
				assert_true(!i || all->sets[class][i - 1] < all->sets[class][i]);
				bool found = false;
				for (uint32_t k = 0; k < again->set_len[class]; k++)
					found |= again->sets[class][k] == where[all->sets[class][i]];
				assert_true(found);
			}
		}
		if (all->states < 60)
			assert_minimal(all);
		if (round % 200 == 0) {
			arena_destroy(arena);
			arena = arena_create();
		}
	}
}

/* One language, one automaton. */
static void aliases(void **state)
{
	(void)state;
	static const struct {
		enum pattern_kind a_kind;
		const char *a;
		enum pattern_kind b_kind;
		const char *b;
	} cases[] = {
		{PATTERN_RE, "aa*", PATTERN_RE, "a+"},
		{PATTERN_RE, "a{2,4}", PATTERN_RE, "aa(?:a(?:a)?)?"},
		{PATTERN_RE, "(a|b)*?", PATTERN_RE, "[ab]*"},
		{PATTERN_RE, "^a$|^b$", PATTERN_RE, "[ba]"},
		{PATTERN_RE, "\\Aa\\z", PATTERN_EXACT, "a"},
		{PATTERN_RE, "(?i)ab", PATTERN_RE, "[aA][Bb]"},
		{PATTERN_RE, "(?i:a)b", PATTERN_RE, "[aA]b"},
		{PATTERN_RE, "(?i)a(?-i)b", PATTERN_RE, "[aA]b"},
		{PATTERN_RE, "((?i)a)b", PATTERN_RE, "[aA]b"},
		{PATTERN_RE, "a{,3}", PATTERN_EXACT, "a{,3}"},
		{PATTERN_RE, "a{x}", PATTERN_EXACT, "a{x}"},
		{PATTERN_RE, "\\Qa.*\\E+", PATTERN_RE, "a\\.\\*\\*{0}[*]*"},
		{PATTERN_RE, "[\\d\\D]*", PATTERN_LIKE, "**"},
		{PATTERN_RE, ".*", PATTERN_LIKE, "**"},
		{PATTERN_RE, "[^/]*", PATTERN_LIKE, "*"},
		{PATTERN_LIKE, "a***b", PATTERN_LIKE, "a**b"},
		{PATTERN_RE, "a|b|", PATTERN_RE, "[ab]?"},
		{PATTERN_RE, "[^\\s\\S]", PATTERN_RE, "a[^\\x00-\\x{7f}\\W]"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_same(make_one(cases[i].a_kind, cases[i].a), make_one(cases[i].b_kind, cases[i].b));
}

/* Characters outside ASCII: a class is one of characters, whatever lengths they have in UTF-8. */
static void wide_classes(void **state)
{
	(void)state;
	struct automaton *automaton = make_one(PATTERN_RE, "[a\\x{e0}-\\x{10fffe}]");
	for (long value = 0x21; value <= 0x10ffff; value += value < 0x3000 ? 1 : 97) {
		unsigned char bytes[4];
		size_t len = value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
		for (size_t i = len; i-- > 0;)
			bytes[i] = 0x80 | (value >> 6 * (len - 1 - i) & 0x3f);
		bytes[0] = len == 1   ? value
			   : len == 2 ? 0xc0 | value >> 6
			   : len == 3 ? 0xe0 | value >> 12
				      : 0xf0 | value >> 18;
		bool wanted = value == 'a' || (value >= 0xe0 && value <= 0x10fffe);
		assert_int_equal(matches(automaton, 0, (char *)bytes, len), wanted);
		assert_false(matches(automaton, 0, (char *)bytes, len - 1));
	}
	automaton = make_one(PATTERN_RE, "\xc3\xa9+");
	assert_true(matches(automaton, 0, "\xc3\xa9\xc3\xa9", 4));
	assert_false(matches(automaton, 0, "\xc3\xa9\xa9", 3));
}

static void folded(void **state)
{
	(void)state;
	struct pattern patterns[] = {{PATTERN_EXACT, "shop.example", true},
				     {PATTERN_LIKE, "*.Shop.example", true},
				     {PATTERN_RE, "[a-c]\\.shop.*", true},
				     {PATTERN_RE, "a.shop.example", false}};
	struct automaton *automaton = make(patterns, 4);
	assert_true(matches(automaton, 0, "SHOP.Example", 12));
	assert_true(matches(automaton, 1, "A.sHOP.example", 14));
	assert_true(matches(automaton, 2, "A.sHOP.example", 14));
	assert_false(matches(automaton, 3, "A.sHOP.example", 14));
	assert_true(matches(automaton, 3, "a.shop.example", 14));
}

/* ---- Refusals and bounds ------------------------------------------------------------------------ */

static void refused(void **state)
{
	(void)state;
	static const struct {
		enum pattern_kind kind;
		const char *text, *says;
	} cases[] = {
		{PATTERN_RE, "a(", "at byte 1: this group has no )"},
		{PATTERN_RE, "a)", "at byte 1: a ) that closes nothing"},
		{PATTERN_RE, "ab[c", "at byte 2: this class has no ]"},
		{PATTERN_RE, "[]", "at byte 0: this class has no ]"},
		{PATTERN_RE, "*a", "at byte 0: there is nothing"},
		{PATTERN_RE, "a|+", "at byte 2: there is nothing"},
		{PATTERN_RE, "{2}", "at byte 0: there is nothing"},
		{PATTERN_RE, "a**", "at byte 2: a repetition of a repetition"},
		{PATTERN_RE, "a{2}{3}", "at byte 4: a repetition of a repetition"},
		{PATTERN_RE, "a{1001}", "at byte 1: a repetition counts up to 1000"},
		{PATTERN_RE, "a{3,2}", "at byte 1: a repetition"},
		{PATTERN_RE, "a{99999999999999999999}", "at byte 1: a repetition"},
		{PATTERN_RE, "\\bx", "at byte 0: \\b"},
		{PATTERN_RE, "x\\B", "at byte 1: \\B"},
		{PATTERN_RE, "(a)\\1", "at byte 3: backreferences"},
		{PATTERN_RE, "\\9", "at byte 0: backreferences"},
		{PATTERN_RE, "(?=a)", "at byte 0: lookaround"},
		{PATTERN_RE, "b(?!a)", "at byte 1: lookaround"},
		{PATTERN_RE, "(?<=a)b", "at byte 0: lookaround"},
		{PATTERN_RE, "(?<!a)b", "at byte 0: lookaround"},
		{PATTERN_RE, "(?P<n>a)", "at byte 0: nothing is captured"},
		{PATTERN_RE, "(?<n>a)", "at byte 0: nothing is captured"},
		{PATTERN_RE, "(?m)a", "at byte 0: of the flags"},
		{PATTERN_RE, "(?i", "at byte 0: this group has no )"},
		{PATTERN_RE, "a^b", "at byte 1: ^ may stand only"},
		{PATTERN_RE, "a$b", "at byte 1: $ may stand only"},
		{PATTERN_RE, "(^a)", "at byte 1: ^ may stand only"},
		{PATTERN_RE, "a\\Ab", "at byte 1: \\A may stand only"},
		{PATTERN_RE, "^*", "at byte 1: there is nothing"},
		{PATTERN_RE, "\\pL", "at byte 0: classes by Unicode"},
		{PATTERN_RE, "\\q", "at byte 0: \\q means nothing"},
		{PATTERN_RE, "a\\", "at byte 1: a backslash at the end"},
		{PATTERN_RE, "\\x1", "at byte 0: \\x wants"},
		{PATTERN_RE, "\\x{110000}", "at byte 0: \\x wants"},
		{PATTERN_RE, "[z-a]", "at byte 1: this range is upside down"},
		{PATTERN_RE, "[a-\\d]", "at byte 1: a range ends"},
		{PATTERN_RE, "[[:nope:]]", "at byte 1: there is no class"},
		{PATTERN_RE, "[^\xc3\xa9]", "at byte 0: a negated class"},
		{PATTERN_RE, "a\xff", "at byte 1: this is not UTF-8"},
		{PATTERN_LIKE, "a\\b", "at byte 1: a backslash"},
		{PATTERN_LIKE, "a\\", "at byte 1: a backslash"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct pattern patterns[] = {{PATTERN_EXACT, "fine"}, {cases[i].kind, cases[i].text}};
		struct automaton *automaton = NULL;
		size_t bad = 0;
		const char *why = NULL;
		if (automaton_make(arena, patterns, 2, &automaton, &bad, &why) != -EINVAL)
			fail_msg("'%s' is taken", cases[i].text);
		assert_null(automaton);
		assert_int_equal(bad, 1);
		if (strncmp(why, cases[i].says, strlen(cases[i].says)) != 0)
			fail_msg("'%s': %s", cases[i].text, why);
	}
}

static void too_large(void **state)
{
	(void)state;
	static const char *const cases[] = {
		"(a|b)*a(a|b){13}", "((a{1000}){1000}){1000}", "(((){1000}){1000}){1000}", "(a{100}){82}",
		"(.*a.{0,20}){3}b", "(?:(?:a?){1000}){1000}",  "(.*[ab].*[cd].{200}){9}",
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct pattern patterns[] = {{PATTERN_EXACT, "fine"}, {PATTERN_RE, cases[i]}};
		struct automaton *automaton = NULL;
		size_t bad = 0;
		const char *why = NULL;
		assert_int_equal(automaton_make(arena, patterns, 2, &automaton, &bad, &why), -E2BIG);
		assert_null(automaton);
		assert_int_equal(bad, 1);
		assert_non_null(why);
	}
	/* At the bound: 8,190 letters, the end of them, and the dead state. */
	assert_int_equal(make_one(PATTERN_RE, "(a{91}){90}")->states, AUTOMATON_LIMIT_SINGLE);
	struct pattern deep = {PATTERN_RE, NULL};
	char *text = arena_alloc(arena, 1001);
	memset(text, '(', 500);
	memset(text + 500, ')', 500);
	deep.text = text;
	struct automaton *automaton;
	size_t bad;
	const char *why;
	assert_int_equal(automaton_make(arena, &deep, 1, &automaton, &bad, &why), -EINVAL);
	assert_non_null(strstr(why, "nested"));
}

enum { MANY = 1000 };

static void rest_patterns(struct pattern *patterns, int every)
{
	for (int i = 0; i < MANY; i++)
		patterns[i] = (struct pattern){PATTERN_LIKE,
					       arena_printf(arena, "%s/api/v%d/res%d/*/sub%d%s", i % every ? "" : "**",
							    i % 7, i, i * 37 % 991, i % 5 ? "" : "/**")};
}

/* A thousand anchored ones are small; unanchored ones among them multiply states, and are to blame. */
static void many(void **state)
{
	(void)state;
	static struct pattern patterns[MANY];
	struct automaton *automaton = NULL;
	size_t bad = MANY;
	const char *why = NULL;
	rest_patterns(patterns, MANY + 1);
	patterns[0].text = "/one";
	automaton = make(patterns, MANY);
	assert_in_range(automaton->states, 5000, 12000);
	assert_true((size_t)automaton->states * automaton->classes * 2 < 1 << 20);
	for (int i = 1; i < MANY; i += 50)
		assert_true(matches(automaton, i, patterns[i].text, strlen(patterns[i].text)));
	rest_patterns(patterns, 33);
	automaton = NULL;
	assert_int_equal(automaton_make(arena, patterns, MANY, &automaton, &bad, &why), -E2BIG);
	assert_null(automaton);
	assert_true(bad < MANY);
	assert_non_null(strstr(why, "65,535"));
}

/* Few states, but each of them a list of all patterns: the work is bounded, too, and half of them fit. */
static void much_work(void **state)
{
	(void)state;
	static struct pattern patterns[4 * MANY];
	struct automaton *automaton = NULL;
	size_t bad = 0;
	const char *why = NULL;
	for (int i = 0; i < 4 * MANY; i++)
		patterns[i] = (struct pattern){PATTERN_LIKE, arena_printf(arena, "**/file-%d.html", i * 7919 % 100000)};
	assert_int_equal(automaton_make(arena, patterns, 4 * MANY, &automaton, &bad, &why), -E2BIG);
	assert_null(automaton);
	assert_non_null(strstr(why, "work"));
	automaton = make(patterns, MANY);
	assert_true(matches(automaton, 1, "/a/file-7919.html", 17));
}

static void anchored(void **state)
{
	(void)state;
	static const struct {
		enum pattern_kind kind;
		const char *text;
		bool is;
	} cases[] = {
		{PATTERN_EXACT, "**", true},	 {PATTERN_LIKE, "**/a", false},
		{PATTERN_LIKE, "/a**", true},	 {PATTERN_LIKE, "\\**", true},
		{PATTERN_LIKE, "*.shop", false}, {PATTERN_RE, ".*a", false},
		{PATTERN_RE, "^.*a", false},	 {PATTERN_RE, "(?i)(?:(.*)a)", false},
		{PATTERN_RE, "a.*", true},	 {PATTERN_RE, "\\.*", true},
		{PATTERN_RE, ".a", true},	 {PATTERN_RE, "", true},
		{PATTERN_LIKE, "", true},	 {PATTERN_RE, "(?i:.+)", false},
		{PATTERN_RE, "(", true},	 {PATTERN_RE, "(?", true},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(pattern_is_anchored(&(struct pattern){cases[i].kind, cases[i].text}), cases[i].is);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, prepare, finish)
	const struct CMUnitTest tests[] = {
		TEST(random_re_match), TEST(posix_match), TEST(random_like_match), TEST(random_sets), TEST(aliases),
		TEST(wide_classes),    TEST(folded),	  TEST(refused),	   TEST(too_large),   TEST(many),
		TEST(much_work),       TEST(anchored),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
