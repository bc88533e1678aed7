/* Runs the `test` blocks: by the diagram, by the compiled program in this kernel, or by both. */
#include "verb/answer.h"

#include "pass/engine.h"

#include <errno.h>
#include <stdlib.h>

struct testing {
	const struct options *options;
	struct run *run;
	bool model, kernel;
	struct engine *engine;
	json_t *results;
	size_t passed, failed;
};

/* What the kernel says, in the model's terms. -EIO: it did not answer. */
static int kernel_decide(struct testing *testing, const struct request *request, struct decision *decision)
{
	struct mesh_vector vector = engine_request(request);
	struct mesh_answer answer = {0};
	if (engine_decide(testing->engine, &vector, &answer, 1))
		return -EIO;
	*decision = engine_decision(testing->run, request, &answer);
	return 0;
}

static bool audits_rule(const struct run *run, const struct decision *decision, const char *name)
{
	for (uint32_t i = 0; i < decision->audit_count; i++)
		if (strcmp(run->policy->rules.at[decision->audits[i]].name, name) == 0)
			return true;
	return strcmp(name, "default") == 0 && decision->default_audit;
}

static bool is_met(const struct run *run, const struct policy_expect *expect, const struct request *request,
		   const struct decision *decision)
{
	const char *subset, *rule = decision->by_default ? "default" : run->policy->rules.at[decision->rule].name;
	switch (expect->kind) {
	case EXPECT_AUDIT:
		return audits_rule(run, decision, expect->by);
	case EXPECT_SUBSET:
		subset = answer_subset(run, request, decision);
		return decision->allow && subset && strcmp(subset, expect->by) == 0;
	default:
		if (decision->depends || decision->allow != (expect->kind == EXPECT_ALLOW))
			return false;
		return !expect->by || (!decision->refused && strcmp(expect->by, rule) == 0);
	}
}

static bool agree(const struct decision *a, const struct decision *b)
{
	return a->allow == b->allow && a->by_default == b->by_default && (a->by_default || a->rule == b->rule) &&
	       a->audits == b->audits && a->arm == b->arm;
}

static const char *expected_text(struct run *run, const struct policy_expect *expect)
{
	static const char *const kinds[] = {"allow", "deny", "subset", "audit"};
	return arena_printf(run->arena, "%s%s%s", kinds[expect->kind],
			    !expect->by				   ? ""
			    : expect->kind == EXPECT_SUBSET ? " "
							   : " by ",
			    expect->by ? expect->by : "");
}

static void note_result(struct testing *testing, const struct policy_test *test, const struct policy_expect *expect,
			size_t i, bool passed, const char *got)
{
	struct run *run = testing->run;
	const char *where = sources_where(run->arena, &run->sources, expect->span);
	testing->passed += passed;
	testing->failed += !passed;
	if (testing->results)
		json_array_append_new(testing->results,
				      json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "test", test->name, "where", where, "from",
						expect->labels.at[i], "expected", expected_text(run, expect), "got", got,
						"passed", passed));
	else if (!passed)
		printf("FAIL %s: '%s': expected %s from %s, got %s\n", where, test->name, expected_text(run, expect),
		       expect->labels.at[i], got);
}

static int run_request(struct testing *testing, const struct policy_test *test, const struct policy_expect *expect, size_t i)
{
	struct run *run = testing->run;
	const struct request *request = &expect->requests.at[i];
	struct decision model = {0}, kernel = {0};
	if (testing->model)
		model_decide(run->arena, run->policy, run->diagram, request, &model);
	if (testing->kernel && kernel_decide(testing, request, &kernel))
		return verb_cannot("the kernel did not answer: %s", strerror(errno));
	const struct decision *decision = testing->model ? &model : &kernel;
	if (testing->model && testing->kernel && !agree(&model, &kernel)) {
		note_result(testing, test, expect, i, false,
			    arena_printf(run->arena, "%s from the model but %s from the kernel", answer_text(run, &model),
					 answer_text(run, &kernel)));
		return EXIT_YES;
	}
	note_result(testing, test, expect, i, is_met(run, expect, request, decision), answer_text(run, decision));
	return EXIT_YES;
}

static int run_tests(struct testing *testing)
{
	const struct policy *policy = testing->run->policy;
	int code = EXIT_YES;
	for (size_t t = 0; t < policy->tests.len && !code; t++) {
		const struct policy_test *test = &policy->tests.at[t];
		size_t failed = testing->failed;
		for (size_t e = 0; e < test->expects.len && !code; e++)
			for (size_t i = 0; i < test->expects.at[e].requests.len && !code; i++)
				code = run_request(testing, test, &test->expects.at[e], i);
		if (!testing->results && failed == testing->failed && !code)
			printf("ok   %s\n", test->name);
	}
	return code;
}

static int open_engine(struct testing *testing)
{
	char *log = NULL;
	int r = engine_create(testing->run, &testing->engine, &log), code = EXIT_YES;
	if (r == -ENOTSUP || r == -E2BIG) {
		diags_print(&testing->run->diags, stderr, testing->options->color);
		code = EXIT_NO;
	} else if (r == -EPERM) {
		code = verb_cannot("--engine=kernel needs root (CAP_BPF)");
	} else if (r) {
		fprintf(stderr, "meshc: a bug of ours: the kernel refused the program\n%s\n", log ? log : "");
		code = EXIT_BUG;
	}
	free(log);
	return code;
}

static void print_results(struct testing *testing)
{
	if (!testing->results) {
		printf("%zu passed, %zu failed\n", testing->passed, testing->failed);
		return;
	}
	json_t *all = json_pack("{s:I, s:I, s:O}", "passed", (json_int_t)testing->passed, "failed",
				(json_int_t)testing->failed, "results", testing->results);
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

int verb_test(const struct options *options, int argc, char **argv)
{
	static const char *const engines[] = {"model", "kernel", "both"};
	struct run run;
	struct testing testing = {.options = options, .run = &run, .model = true};
	int paths = 1;
	for (int i = 1; i < argc; i++) {
		const char *value = verb_value(argv, &i, "--engine");
		if (!value) {
			argv[paths++] = argv[i];
			continue;
		}
		testing.model = strcmp(value, "kernel") != 0;
		testing.kernel = strcmp(value, "model") != 0;
		if (testing.model && testing.kernel && strcmp(value, "both") != 0)
			return verb_unknown("engine", value, engines, 3);
	}
	int code = verb_load(options, &run, paths - 1, argv + 1);
	if (!code && !run.policy->tests.len)
		code = verb_cannot("the policy has no test block: nothing was checked");
	if (!code && testing.kernel)
		code = open_engine(&testing);
	if (!code) {
		testing.results = strcmp(options->format, "json") == 0 ? json_array() : NULL;
		code = run_tests(&testing);
		print_results(&testing);
	}
	if (!code && testing.failed)
		code = EXIT_NO;
	json_decref(testing.results);
	engine_destroy(testing.engine);
	verb_done(&run);
	return code;
}
