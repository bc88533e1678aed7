/* Everything but clang: what is wrong with a policy, how large it is, what a decision costs at most. */
#include "verb/verb.h"

#include "ir/ast.h"
#include "pass/digest.h"

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

static json_t *place_json(const struct run *run, struct span span)
{
	uint32_t line, column;
	if (!span.len || span.file >= run->sources.files.len)
		return json_object();
	sources_place(&run->sources, span, &line, &column);
	return json_pack("{s:s, s:i, s:i}", "file", run->sources.files.at[span.file].name, "line", (int)line, "column",
			 (int)column);
}

static json_t *finding_json(const struct run *run, const struct diag *diag)
{
	static const char *const severities[] = {"note", "warning", "error"};
	json_t *finding = place_json(run, diag->spans[0]);
	json_object_set_new(finding, "code", json_string(arena_printf(run->arena, "M%04d", diag->code)));
	json_object_set_new(finding, "severity", json_string(severities[diag->severity]));
	json_object_set_new(finding, "message", json_string(diag->message));
	if (diag->note)
		json_object_set_new(finding, "note", json_string(diag->note));
	if (!diag->fix)
		return finding;
	json_t *fix = place_json(run, diag->fix_span);
	json_object_set_new(fix, "length", json_integer(diag->fix_span.len));
	json_object_set_new(fix, "replacement", json_string(diag->fix));
	json_object_set_new(fix, "sure", json_boolean(diag->fix_sure));
	json_object_set_new(finding, "fix", fix);
	return finding;
}

static void print_json(struct run *run)
{
	const struct policy *policy = run->policy;
	bool whole = run->diagram && !run->diags.errors;
	json_t *findings = json_array();
	for (size_t i = 0; i < run->diags.all.len; i++)
		json_array_append_new(findings, finding_json(run, &run->diags.all.at[i]));
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
	json_t *all = json_pack("{s:o, s:o, s:o, s:o}", "digest", whole ? json_string(policy_digest(run)) : json_null(),
				"findings", findings, "size", size, "cost", cost);
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static void print_text(const struct options *options, struct run *run)
{
	const struct policy *policy = run->policy;
	diags_print(&run->diags, stderr, options->color);
	if (run->diags.errors) {
		fprintf(stderr, "%zu error%s, %zu warning%s\n", run->diags.errors, run->diags.errors == 1 ? "" : "s",
			run->diags.warnings, run->diags.warnings == 1 ? "" : "s");
		return;
	}
	printf("%s: %zu services, %zu rules (%zu with L7 conditions), %u address blocks, %zu diagram nodes; "
	       "a decision takes at most %u comparisons\n",
	       policy->mesh, policy->services.len, policy->rules.len, count_l7(policy), policy->blocks,
	       diagram_nodes(run->diagram), worst_comparisons(run));
}

int verb_check(const struct options *options, int argc, char **argv)
{
	static const char *const formats[] = {"text", "json"};
	struct run run;
	bool json = strcmp(options->format, "json") == 0;
	if (!json && strcmp(options->format, "text") != 0)
		return verb_unknown("format", options->format, formats, 2);
	int code = verb_read(options, &run, argc - 1, argv + 1);
	if (code)
		return code;
	run.diags.skip_notes = false;
	pipeline_run(&run);
	if (run.policy && !run.diags.errors && !run.policy->mtls.len)
		diag_add(&run.diags, DIAG_MTLS_ABSENT, run.ast->mesh->name.span,
			 "no mtls statement: connections are not protected")
			->note = "say `mtls strict;`, or `mtls off because \"...\";` to mean it";
	if (json)
		print_json(&run);
	else
		print_text(options, &run);
	code = verb_outcome(options, &run);
	verb_done(&run);
	return code;
}
