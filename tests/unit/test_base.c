/* The ground: arenas, vectors, tables, lists, places in text, and did-you-mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/diag.h"
#include "base/table.h"
#include "ir/lists.h"

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

/* Zeroed, aligned, and nobody else's: each block keeps what was written to it. */
static void arena_blocks(void **state)
{
	(void)state;
	enum { BLOCKS = 3000 };
	static unsigned char *blocks[BLOCKS];
	static size_t sizes[BLOCKS];
	for (size_t i = 0; i < BLOCKS; i++) {
		sizes[i] = i % 100 == 99 ? 200000 + i * 37 : i * 7 % 501;
		blocks[i] = arena_alloc(arena, sizes[i]);
		assert_non_null(blocks[i]);
		assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(blocks[i][k], 0);
		memset(blocks[i], (int)(i % 255) + 1, sizes[i]);
	}
	for (size_t i = 0; i < BLOCKS; i++)
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(blocks[i][k], i % 255 + 1);
}

static void arena_texts(void **state)
{
	(void)state;
	assert_string_equal(arena_copy(arena, "abcdef", 3), "abc");
	assert_string_equal(arena_copy(arena, "", 0), "");
	assert_string_equal(arena_printf(arena, "%s/%d", "a", 7), "a/7");
	assert_string_equal(arena_printf(arena, "%s", ""), "");
	const char *wide = arena_printf(arena, "%100000d", 7);
	assert_int_equal(strlen(wide), 100000);
	arena_destroy(NULL);
}

static void vectors(void **state)
{
	(void)state;
	VEC(uint32_t) numbers = {0};
	for (uint32_t i = 0; i < 10000; i++)
		vec_push(arena, &numbers, i * 3);
	assert_int_equal(numbers.len, 10000);
	assert_true(numbers.cap >= numbers.len);
	for (uint32_t i = 0; i < 10000; i++)
		assert_int_equal(numbers.at[i], i * 3);
	VEC(struct span) spans = {0};
	vec_push(arena, &spans, (struct span){1, 2, 3});
	assert_int_equal(spans.at[0].len, 3);
}

static void tables(void **state)
{
	(void)state;
	struct table table = {.arena = arena};
	static int values[2000];
	assert_null(table_get(&table, "x"));
	for (int i = 0; i < 2000; i++)
		assert_null(table_put(&table, arena_printf(arena, "key %d", i), &values[i]));
	assert_int_equal(table.len, 2000);
	for (int i = 0; i < 2000; i++)
		assert_ptr_equal(table_get(&table, arena_printf(arena, "key %d", i)), &values[i]);
	assert_null(table_get(&table, "key 2000"));
	assert_null(table_get(&table, ""));
	assert_ptr_equal(table_put(&table, "key 7", &values[0]), &values[7]);
	assert_ptr_equal(table_get(&table, "key 7"), &values[0]);
	assert_int_equal(table.len, 2000);
	assert_null(table_put(&table, "", &values[1]));
	assert_ptr_equal(table_get(&table, ""), &values[1]);
}

static void lists(void **state)
{
	(void)state;
	struct lists lists = {.arena = arena};
	uint32_t len, at[50];
	assert_int_equal(lists_put(&lists, NULL, 0), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		for (uint32_t k = 0; k < 1 + i % 50; k++)
			at[k] = i + k;
		assert_int_equal(lists_put(&lists, at, 1 + i % 50), 1 + i);
	}
	for (uint32_t i = 0; i < 5000; i++) {
		const uint32_t *list = lists_get(&lists, 1 + i, &len);
		assert_int_equal(len, 1 + i % 50);
		assert_int_equal(list[len - 1], i + len - 1);
		assert_int_equal(lists_put(&lists, list, len), 1 + i);
	}
	/* A list that lies in the pool, and a part of it: the pool may move meanwhile. */
	for (uint32_t i = 0; i < 200; i++) {
		const uint32_t *list = lists_get(&lists, 1 + i * 50 % 5000 + 49, &len);
		uint32_t number = lists_put(&lists, list + 1, len - 2), again;
		const uint32_t *part = lists_get(&lists, number, &again);
		assert_int_equal(again, len - 2);
		assert_int_equal(part[0], 1 + i * 50 % 5000 + 49);
	}
	assert_int_equal(lists_put(&lists, at, 0), 0);
}

static void places(void **state)
{
	(void)state;
	struct sources sources = {.arena = arena};
	uint32_t file = sources_add(&sources, "a.mesh", "one\ntwo\n\nfour", 13), line, column;
	static const struct {
		uint32_t offset, line, column;
	} cases[] = {{0, 1, 1}, {2, 1, 3}, {3, 1, 4}, {4, 2, 1}, {8, 3, 1}, {9, 4, 1}, {12, 4, 4}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		sources_place(&sources, (struct span){file, cases[i].offset, 1}, &line, &column);
		assert_int_equal(line, cases[i].line);
		assert_int_equal(column, cases[i].column);
	}
	assert_string_equal(sources_where(arena, &sources, (struct span){file, 5, 1}), "a.mesh:2:2");
}

static void nearest(void **state)
{
	(void)state;
	static const char *const names[] = {"frontend", "ledger", "reviews", "GET"};
	static const struct {
		const char *word, *near;
	} cases[] = {
		{"frontent", "frontend"},
		{"legder", "ledger"},
		{"reviws", "reviews"},
		{"ledger", "ledger"},
		{"xyz", NULL},
		{"GTE", "GET"},
		{"", NULL},
		{"completely-different", NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *near = diag_nearest(cases[i].word, names, 4);
		if (cases[i].near ? !near || strcmp(near, cases[i].near) != 0 : near != NULL)
			fail_msg("'%s' is near '%s'", cases[i].word, near ? near : "nothing");
	}
	assert_null(diag_nearest("x", NULL, 0));
}

static void diagnostics(void **state)
{
	(void)state;
	struct sources sources = {.arena = arena};
	struct diags diags = {.arena = arena, .sources = &sources};
	uint32_t file = sources_add(&sources, "a.mesh", "one two\nthree\n", 14);
	diag_add(&diags, DIAG_SHADOWED, (struct span){file, 8, 5}, "second %d", 2);
	struct diag *diag = diag_add(&diags, DIAG_SYNTAX, (struct span){file, 4, 3}, "first");
	diag->spans[1] = (struct span){file, 0, 3};
	diag->labels[1] = "the other";
	diag->note = "a note";
	diag->fix = "2";
	diag->fix_sure = true;
	diag_add(&diags, DIAG_MTLS_ABSENT, (struct span){0}, "no place");
	assert_int_equal(diags.errors, 1);
	assert_int_equal(diags.warnings, 1);
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	diags_print(&diags, out, false);
	fclose(out);
	assert_string_equal(text, "note[M0218]: no place\n"
				  "a.mesh:1:5: error[M0001]: first\n"
				  "    1 | one two\n"
				  "      |     ^^^\n"
				  "a.mesh:1:1: note: the other\n"
				  "    1 | one two\n"
				  "      | ^^^\n"
				  "note: a note\n"
				  "fix (sure): replace with '2'\n"
				  "a.mesh:2:1: warning[M0604]: second 2\n"
				  "    2 | three\n"
				  "      | ^^^^^\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_blocks), cmocka_unit_test(arena_texts), cmocka_unit_test(vectors),
		cmocka_unit_test(tables),	cmocka_unit_test(lists),       cmocka_unit_test(places),
		cmocka_unit_test(nearest),	cmocka_unit_test(diagnostics),
	};
	return cmocka_run_group_tests(tests, prepare, finish);
}
