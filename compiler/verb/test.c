/* Runs the `test` blocks: by the diagram, by the compiled program in this kernel, or by both. */
#include "verb/answer.h"

#include "pass/engine.h"
#include "verb/suggest.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct result {
	const struct policy_test *test;
	const struct policy_expect *expect;
	size_t number; /* of its requests */
	bool passed;
	struct decision decision;
	const char *got;
};
struct testing {
	const struct options *options;
	struct run *run;
	const char *filter; /* NULL: all */
	bool model, kernel, watch, covers, suggests;
	struct engine *engine;
	struct coverage *coverage; /* NULL: not asked for (covers) */
	int64_t threshold;
	VEC(struct result) results;
	size_t failed;
};

/* What the kernel says, in the model's terms. -EIO: it did not answer. */
static int kernel_decide(struct testing *testing, const struct request *request, struct decision *decision)
{
	struct mesh_vector vector = engine_request(testing->run, request);
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
	const char *subset, *rule = answer_rule(run, decision);
	switch (expect->kind) {
	case EXPECT_AUDIT:
		return audits_rule(run, decision, expect->by);
	case EXPECT_SUBSET:
		subset = answer_subset(run, request, decision);
		return decision->allow && subset && strcmp(subset, expect->by) == 0;
	default:
		if (decision->depends || decision->allow != (expect->kind == EXPECT_ALLOW))
			return false;
		return !expect->by || strcmp(expect->by, rule) == 0;
	}
}

static bool agree(const struct decision *a, const struct decision *b)
{
	bool same = a->plaintext || (a->by_default == b->by_default && (a->by_default || a->rule == b->rule));
	return a->allow == b->allow && a->plaintext == b->plaintext && same && a->audits == b->audits &&
	       a->arm == b->arm;
}

static const char *expected_text(struct run *run, const struct policy_expect *expect)
{
	static const char *const kinds[] = {"allow", "deny", "subset", "audit"};
	return arena_printf(run->arena, "%s%s%s", kinds[expect->kind],
			    !expect->by			    ? ""
			    : expect->kind == EXPECT_SUBSET ? " "
							    : " by ",
			    expect->by ? expect->by : "");
}

static void note_result(struct testing *testing, const struct policy_test *test, const struct policy_expect *expect,
			size_t number, bool passed, const struct decision *decision, const char *got)
{
	struct result result = {test, expect, number, passed, *decision, got};
	vec_push(testing->run->arena, &testing->results, result);
	testing->failed += !passed;
	if (testing->coverage)
		coverage_note(testing->coverage, &expect->requests.at[number], decision);
}

static int run_request(struct testing *testing, const struct policy_test *test, const struct policy_expect *expect,
		       size_t i)
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
		note_result(testing, test, expect, i, false, &model,
			    arena_printf(run->arena, "%s from the model but %s from the kernel",
					 answer_text(run, &model), answer_text(run, &kernel)));
		return EXIT_YES;
	}
	note_result(testing, test, expect, i, is_met(run, expect, request, decision), decision,
		    answer_text(run, decision));
	return EXIT_YES;
}

static int run_tests(struct testing *testing)
{
	const struct policy *policy = testing->run->policy;
	int code = EXIT_YES;
	for (size_t t = 0; t < policy->tests.len && !code; t++) {
		const struct policy_test *test = &policy->tests.at[t];
		if (testing->filter && !strstr(test->name, testing->filter))
			continue;
		for (size_t e = 0; e < test->expects.len && !code; e++)
			for (size_t i = 0; i < test->expects.at[e].requests.len && !code; i++)
				code = run_request(testing, test, &test->expects.at[e], i);
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

/* ---- Results ------------------------------------------------------------------------------------ */

static const char *where_of(const struct testing *testing, const struct result *result)
{
	return sources_where(testing->run->arena, &testing->run->sources, result->expect->span);
}

static void print_failure(const struct testing *testing, const struct result *result)
{
	struct run *run = testing->run;
	const struct request *request = &result->expect->requests.at[result->number];
	json_t *line = answer_request(run, request);
	char *text = json_dumps(line, JSON_COMPACT);
	printf("FAIL %s: '%s': expected %s from %s, got %s\n     request: %s\n", where_of(testing, result),
	       result->test->name, expected_text(run, result->expect), result->expect->labels.at[result->number],
	       result->got, text);
	if (!result->decision.depends && !result->decision.refused && !result->decision.plaintext)
		answer_print_misses(stdout, "     ", run, request, &result->decision);
	free(text);
	json_decref(line);
}

static void print_text(const struct testing *testing)
{
	for (size_t i = 0; i < testing->results.len;) {
		const struct policy_test *test = testing->results.at[i].test;
		bool passed = true;
		for (; i < testing->results.len && testing->results.at[i].test == test; i++) {
			passed &= testing->results.at[i].passed;
			if (!testing->results.at[i].passed)
				print_failure(testing, &testing->results.at[i]);
		}
		if (passed)
			printf("ok   %s\n", test->name);
	}
	if (testing->coverage)
		coverage_print(testing->coverage);
	printf("%zu passed, %zu failed\n", testing->results.len - testing->failed, testing->failed);
}

static void print_json(const struct testing *testing)
{
	json_t *results = json_array();
	for (size_t i = 0; i < testing->results.len; i++) {
		const struct result *result = &testing->results.at[i];
		json_array_append_new(
			results, json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "test", result->test->name, "where",
					   where_of(testing, result), "from", result->expect->labels.at[result->number],
					   "expected", expected_text(testing->run, result->expect), "got", result->got,
					   "passed", result->passed, "request",
					   answer_request(testing->run, &result->expect->requests.at[result->number])));
	}
	json_t *all = json_pack("{s:I, s:I, s:o}", "passed", (json_int_t)(testing->results.len - testing->failed),
				"failed", (json_int_t)testing->failed, "results", results);
	if (testing->coverage)
		json_object_set_new(all, "coverage", coverage_json(testing->coverage));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static void print_xml(const char *text)
{
	static const char special[] = "&<>\"'";
	for (; *text; text++)
		if (strchr(special, *text) || ((unsigned char)*text < ' ' && *text != '\t' && *text != '\n'))
			printf("&#%d;", (unsigned char)*text < ' ' ? '?' : *text);
		else
			putchar(*text);
}

static void print_attribute(const char *name, const char *value)
{
	printf(" %s=\"", name);
	print_xml(value);
	putchar('"');
}

/* What CI servers read: a suite for each test block, a case for each request. */
static void print_junit(const struct testing *testing)
{
	printf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"%zu\" failures=\"%zu\">\n",
	       testing->results.len, testing->failed);
	for (size_t i = 0, end; i < testing->results.len; i = end) {
		size_t failed = 0;
		for (end = i;
		     end < testing->results.len && testing->results.at[end].test == testing->results.at[i].test; end++)
			failed += !testing->results.at[end].passed;
		fputs("  <testsuite", stdout);
		print_attribute("name", testing->results.at[i].test->name);
		printf(" tests=\"%zu\" failures=\"%zu\">\n", end - i, failed);
		for (size_t k = i; k < end; k++) {
			const struct result *result = &testing->results.at[k];
			fputs("    <testcase", stdout);
			print_attribute("classname", result->test->name);
			print_attribute("name",
					arena_printf(testing->run->arena, "%s: %s from %s", where_of(testing, result),
						     expected_text(testing->run, result->expect),
						     result->expect->labels.at[result->number]));
			fputs(result->passed ? "/>\n" : "><failure", stdout);
			if (result->passed)
				continue;
			print_attribute("message", arena_printf(testing->run->arena, "got %s", result->got));
			puts("/></testcase>");
		}
		puts("  </testsuite>");
	}
	puts("</testsuites>");
}

static void print_results(const struct testing *testing)
{
	if (strcmp(testing->options->format, "json") == 0)
		print_json(testing);
	else if (strcmp(testing->options->format, "junit") == 0)
		print_junit(testing);
	else
		print_text(testing);
}

/* ---- The verb ----------------------------------------------------------------------------------- */

/* Of the results: 0 or 1. */
static int judge(const struct testing *testing)
{
	if (testing->failed)
		return EXIT_NO;
	if (!testing->coverage || coverage_percent(testing->coverage) >= (unsigned)testing->threshold)
		return EXIT_YES;
	fprintf(stderr, "meshc: coverage is %u %%, --threshold asks for %d %%\n", coverage_percent(testing->coverage),
		(int)testing->threshold);
	return EXIT_NO;
}

/* Standard output is policy text, and nothing else: it may go straight to the end of a file. */
static int suggest_missing(struct testing *testing)
{
	int code = suggest_print(testing->run, testing->coverage);
	if (code || !testing->failed)
		return code;
	fprintf(stderr, "meshc: %zu expectations fail: `meshc test` says which\n", testing->failed);
	return EXIT_NO;
}

static int report(struct testing *testing)
{
	if (testing->filter && !testing->results.len)
		return verb_cannot("no test has '%s' in its name: nothing was checked", testing->filter);
	if (testing->suggests)
		return suggest_missing(testing);
	print_results(testing);
	return judge(testing);
}

static int test_once(struct testing *testing, int pathc, char **paths)
{
	struct run *run = testing->run;
	int code = verb_load(testing->options, run, pathc, paths);
	if (!code && !run->policy->tests.len && !testing->suggests)
		code = verb_cannot("the policy has no test block: nothing was checked");
	if (!code && testing->kernel)
		code = open_engine(testing);
	if (!code && (testing->covers || testing->suggests))
		testing->coverage = coverage_create(run);
	if (!code)
		code = run_tests(testing);
	if (!code)
		code = report(testing);
	engine_destroy(testing->engine);
	return code;
}

/* Changes when a policy file does. */
static uint64_t stamp_of(const struct run *run)
{
	uint64_t stamp = 0;
	for (size_t i = 0; i < run->sources.files.len; i++) {
		struct stat at = {0};
		if (!stat(run->sources.files.at[i].name, &at))
			stamp = (stamp + at.st_ino + at.st_size) * 1000003 + at.st_mtim.tv_sec * 31 +
				at.st_mtim.tv_nsec;
	}
	return stamp;
}

/* An editor may take the file away for an instant. */
static bool is_there(const struct options *options, int pathc, char **paths)
{
	struct run run;
	bool there = verb_begin(options, &run) == EXIT_YES;
	for (int i = 0; i < pathc && there; i++)
		there = sources_read(&run.sources, paths[i]) == 0;
	verb_done(&run);
	return there;
}

/* Why it cannot be read was said. */
static void wait_for_files(const struct options *options, int pathc, char **paths)
{
	fflush(stdout);
	fputs("meshc: waiting until it can be read (Ctrl-C ends)\n", stderr);
	while (!is_there(options, pathc, paths))
		usleep(200000);
}

/* Until it is interrupted: each change runs the tests again. */
static void wait_for_change(const struct run *run)
{
	uint64_t before = stamp_of(run);
	fflush(stdout);
	fputs("meshc: waiting for a change (Ctrl-C ends)\n", stderr);
	while (stamp_of(run) == before)
		usleep(200000);
	usleep(50000); /* an editor writes in two steps */
}

static int take_flags(struct testing *testing, int argc, char **argv, int *ret_paths)
{
	static const char *const engines[] = {"model", "kernel", "both"};
	int paths = 0;
	const char *value;
	for (int i = 1; i < argc; i++) {
		if ((value = verb_value(argv, &i, "--engine"))) {
			testing->model = strcmp(value, "kernel") != 0;
			testing->kernel = strcmp(value, "model") != 0;
			if (testing->model && testing->kernel && strcmp(value, "both") != 0)
				return verb_unknown("engine", value, engines, 3);
		} else if ((value = verb_value(argv, &i, "--filter"))) {
			testing->filter = value;
		} else if ((value = verb_value(argv, &i, "--threshold"))) {
			if (!verb_number(value, 0, 100, &testing->threshold))
				return verb_cannot("--threshold wants percents, 0..100, not '%s'", value);
			testing->covers = true;
		} else if (strcmp(argv[i], "--coverage") == 0) {
			testing->covers = true;
		} else if (strcmp(argv[i], "--suggest") == 0) {
			testing->suggests = true;
		} else if (strcmp(argv[i], "--watch") == 0) {
			testing->watch = true;
		} else {
			argv[1 + paths++] = argv[i];
		}
	}
	*ret_paths = paths;
	if (testing->suggests && (testing->watch || testing->covers || strcmp(testing->options->format, "text") != 0))
		return verb_cannot(
			"--suggest prints policy text alone: no --coverage, --threshold, --watch or --format "
			"with it");
	if (testing->watch && testing->options->output)
		return verb_cannot("--watch never ends: no -o with it");
	for (int i = 1; testing->watch && i <= paths; i++)
		if (strcmp(argv[i], "-") == 0)
			return verb_cannot("--watch waits for a file to change: standard input is none");
	return EXIT_YES;
}

int verb_test(const struct options *options, int argc, char **argv)
{
	struct run run = {0};
	struct testing wanted = {.options = options, .run = &run, .model = true};
	int paths = 0, code = take_flags(&wanted, argc, argv, &paths);
	if (code)
		return code;
	for (bool began = false;; began = true) {
		struct testing testing = wanted;
		code = test_once(&testing, paths, argv + 1);
		if (!wanted.watch || (!began && !run.sources.files.len))
			break;
		if (run.sources.files.len)
			wait_for_change(&run);
		else
			wait_for_files(options, paths, argv + 1);
		verb_done(&run);
		if (isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
	}
	verb_done(&run);
	return code;
}
