#include "pass/render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *template_text(const char *name)
{
	for (const struct template_file *file = template_files; file->name; file++)
		if (strcmp(file->name, name) == 0)
			return file->text;
	return NULL;
}

static void render_sizes(FILE *out, const struct plan *plan)
{
	const struct {
		const char *name;
		size_t value;
		const char *comment;
	} sizes[] = {
		{"PLAN_RULES", plan->rules, "behind them: default, self, conflict, unknown, plaintext, mtls"},
		{"PLAN_CLASSES", plan->classes, "parties: sources first, then externals"},
		{"PLAN_NODES", plan->nodes.len,
		 "classes x verdicts, audits, routes, and those of verified peers; a second level"},
		{"PLAN_CELLS", plan->cells.len, "(protocol, port) intervals of all destinations"},
		{"PLAN_COMB", plan->combs.len, "outcomes of single sources, interlocked"},
		{"PLAN_MATRIX", plan->matrix.len, "outcomes of sets of sources"},
		{"PLAN_OUTCOMES", plan->outcomes.len, NULL},
		{"PLAN_BLOCKS", plan->blocks, "disjoint address blocks"},
		{"PLAN_BY_BLOCKS", plan->by_block.len ? plan->by_block.len : 1, NULL},
		{"PLAN_INTERVALS", plan->intervals.len, "of the address line"},
		{"PLAN_INTERVAL_STEPS", plan_interval_steps(plan), NULL},
		{"PLAN_AUDIT_SETS", plan->audit_sets, NULL},
		{"PLAN_ASKS_VERIFIED", plan->asks_verified, "some rule asks for peer.verified"},
		{"PLAN_ARMS", plan->arms.len ? plan->arms.len : 1, NULL},
		{"PLAN_SPLITS", plan->splits.len ? plan->splits.len : 1, NULL},
		{"PLAN_SETS", plan->sets ? plan->sets : 1, "of backends"},
		{"TARGET_SET_RETVAL", plan->has_set_retval, "ECONNREFUSED, not EPERM (5.18)"},
	};
	fputs("enum {\n", out);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		fprintf(out, sizes[i].comment ? "\t%s = %zu, /* %s */\n" : "\t%s = %zu,\n", sizes[i].name,
			sizes[i].value, sizes[i].comment);
	fputs("};\n", out);
}

/* Rule text may quote anything: it must not end the comment. */
static void render_comment(FILE *out, const char *text)
{
	for (; *text; text++) {
		fputc(*text, out);
		if (text[0] == '*' && text[1] == '/')
			fputc(' ', out);
	}
}

static void render_rules(FILE *out, struct run *run)
{
	static const char *const effects[] = {"deny", "allow", "audit"};
	fputs("/* The rules, by number:\n", out);
	for (size_t i = 0; i < run->policy->rules.len; i++) {
		const struct policy_rule *rule = &run->policy->rules.at[i];
		fprintf(out, " * %zu %s ", i, effects[rule->effect]);
		render_comment(out, rule->name);
		fputs(": ", out);
		render_comment(out, policy_rule_text(run->arena, run->policy, i));
		fputc('\n', out);
	}
	fputs(" */\n", out);
}

const char *render(struct run *run, const struct plan *plan)
{
	static const char begin[] = "/* MESH REGION plan BEGIN */\n", end[] = "/* MESH REGION plan END */\n";
	const char *text = template_text("policy.h");
	const char *from = text ? strstr(text, begin) : NULL, *to = from ? strstr(from, end) : NULL;
	if (!to)
		return NULL;
	char *rendered = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&rendered, &len);
	if (!out)
		return NULL;
	fwrite(text, 1, from - text, out);
	/* Past some thousands nobody reads them, and they cost the front end time. */
	if (plan->rules <= 2000)
		render_rules(out, run);
	render_sizes(out, plan);
	fputs(to + sizeof(end) - 1, out);
	fclose(out);
	const char *copy = arena_copy(run->arena, rendered, len);
	free(rendered);
	return copy;
}

const char *render_whole(struct run *run, const char *policy_h)
{
	static const char *const order[] = {"bpf.h",	 "abi.h",    "maps.h",	  "plan.h",   "policy.h",
					    "verdict.h", "report.h", "connect.h", "packet.h", "policy.bpf.c"};
	const char *whole = "";
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
		whole = arena_printf(run->arena, "%s/* ---- %s ---- */\n%s\n", whole, order[i],
				     strcmp(order[i], "policy.h") == 0 ? policy_h : template_text(order[i]));
	return whole;
}
