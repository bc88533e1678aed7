/* Everything but clang: what is wrong with a policy, how large it is, what a decision costs at most. */
#include "verb/findings.h"
#include "verb/fix.h"

#include "ir/ast.h"
#include "pass/digest.h"
#include "pass/lint.h"

/* ---- Cost --------------------------------------------------------------------------------------- */

struct cost {
	const struct diagram *diagram;
	uint32_t *known; /* by node: longest path + 1 */
	size_t nodes;
};

/* Comparisons on the longest path below NODE: a binary search at each. */
static uint32_t longest(struct cost *cost, node_id node)
{
	uint32_t count, steps = 0, most = 0;
	if (diagram_is_terminal(node))
		return 0;
	if (node < cost->nodes && cost->known[node])
		return cost->known[node] - 1;
	const struct diagram_edge *edges = diagram_edges(cost->diagram, node, &count);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t below = longest(cost, edges[i].child);
		most = below > most ? below : most;
	}
	while ((1u << steps) < count)
		steps++;
	if (node < cost->nodes)
		cost->known[node] = most + steps + 1;
	return most + steps;
}

static uint32_t worst_comparisons(const struct run *run)
{
	struct cost cost = {.diagram = run->diagram, .nodes = diagram_nodes(run->diagram) + 1};
	uint32_t most = 0;
	cost.known = arena_alloc(run->arena, cost.nodes * sizeof(*cost.known));
	for (uint32_t dst = 0; dst < run->policy->classes.len; dst++) {
		uint32_t steps = longest(&cost, diagram_root(run->diagram, DIAGRAM_VERDICT, dst));
		most = steps > most ? steps : most;
	}
	return most;
}

static size_t count_l7(const struct policy *policy)
{
	size_t count = 0;
	for (size_t i = 0; i < policy->rules.len; i++)
		count += policy->rules.at[i].l7;
	return count;
}

/* ---- Output ------------------------------------------------------------------------------------- */

static void print_json(struct run *run)
{
	const struct policy *policy = run->policy;
	bool whole = run->diagram && !run->diags.errors;
	json_t *size = json_object(), *cost = json_object();
	if (whole) {
		json_object_set_new(size, "services", json_integer(policy->services.len));
		json_object_set_new(size, "classes", json_integer(policy->classes.len));
		json_object_set_new(size, "blocks", json_integer(policy->blocks));
		json_object_set_new(size, "rules", json_integer(policy->rules.len));
		json_object_set_new(size, "l7_rules", json_integer(count_l7(policy)));
		json_object_set_new(size, "nodes", json_integer(diagram_nodes(run->diagram)));
		json_object_set_new(cost, "comparisons", json_integer(worst_comparisons(run)));
	}
	json_t *all = json_pack("{s:o, s:o, s:I, s:o, s:o}", "digest",
				whole ? json_string(policy_digest(run)) : json_null(), "findings", findings_json(run),
				"left_out", (json_int_t)run->diags.left_out, "size", size, "cost", cost);
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

/* "1 rule", "2 rules" */
static const char *counted(struct run *run, size_t count, const char *what)
{
	return arena_printf(run->arena, "%zu %s%s", count, what, count == 1 ? "" : "s");
}

static void print_text(const struct options *options, struct run *run)
{
	const struct policy *policy = run->policy;
	diags_print(&run->diags, stderr, options->color);
	if (run->diags.errors) {
		fprintf(stderr, "%s, %s\n", counted(run, run->diags.errors, "error"),
			counted(run, run->diags.warnings, "warning"));
		return;
	}
	printf("%s: %s, %s (%zu with L7 conditions), %s, %s; a decision takes at most %s\n", policy->mesh,
	       counted(run, policy->services.len, "service"), counted(run, policy->rules.len, "rule"), count_l7(policy),
	       counted(run, policy->blocks, "address block"), counted(run, diagram_nodes(run->diagram), "diagram node"),
	       counted(run, worst_comparisons(run), "comparison"));
}

static void print_findings(const struct options *options, struct run *run)
{
	if (strcmp(options->format, "json") == 0)
		print_json(run);
	else if (strcmp(options->format, "sarif") == 0)
		findings_print_sarif(run);
	else if (strcmp(options->format, "github") == 0)
		findings_print_github(run);
	else
		print_text(options, run);
}

static int check_once(const struct options *options, bool fix, int pathc, char **paths, size_t *ret_fixed)
{
	struct run run;
	*ret_fixed = 0;
	int code = verb_read(options, &run, pathc, paths);
	if (code)
		return code;
	run.diags.skip_notes = false;
	pipeline_run(&run);
	if (run.policy && !run.diags.errors && !run.policy->mtls.len)
		diag_add(&run.diags, DIAG_MTLS_ABSENT, run.ast->mesh->name.span,
			 "no mtls statement: connections are not protected")
			->note = "say `mtls strict;`, or `mtls off because \"...\";` to mean it";
	if (run.diagram && !run.diags.errors)
		lint(&run);
	code = verb_match(options, &run);
	if (!code && fix)
		code = fix_files(&run, ret_fixed);
	if (!code && !*ret_fixed)
		print_findings(options, &run);
	if (!code)
		code = verb_outcome(options, &run);
	verb_done(&run);
	return code;
}

int verb_check(const struct options *options, int argc, char **argv)
{
	bool fix = false;
	int paths = 0;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--fix") == 0)
			fix = true;
		else
			argv[1 + paths++] = argv[i];
	}
	for (int i = 1; fix && i <= paths; i++)
		if (strcmp(argv[i], "-") == 0)
			return verb_cannot("--fix writes into files: standard input is none");
	size_t fixed = 0, all = 0;
	int code = check_once(options, fix, paths, argv + 1, &fixed);
	/* A fix may uncover what the next one is for; each round mends something, or is the last. */
	for (int rounds = 0; fixed && rounds < 100; rounds++) {
		all += fixed;
		code = check_once(options, true, paths, argv + 1, &fixed);
	}
	if (all)
		fprintf(stderr, "%zu fix%s made\n", all, all == 1 ? "" : "es");
	return code;
}
