#include "pass/dump.h"

#include "ir/ast.h"
#include "ir/diagram_build.h"
#include "pass/passes.h"

/* ---- Ast ---------------------------------------------------------------------------------------- */

static const char *text_of_party(struct run *run, const struct ast_party *party)
{
	struct text text = {.arena = run->arena};
	ast_print_party(&text, party);
	return text_end(&text);
}

static const char *text_of_expr(struct run *run, const struct ast_expr *expr)
{
	struct text text = {.arena = run->arena};
	ast_print_expr(&text, expr);
	return text_end(&text);
}

void dump_ast(FILE *out, struct run *run)
{
	static const char *const kinds[] = {"mesh",  "namespace", "default", "service", "external", "identity", "cidr",
					    "group", "mtls",	  "rule",    "route",	"never",    "test"};
	for (const struct ast_decl *decl = run->ast->first; decl; decl = decl->next) {
		fprintf(out, "%s: %s %s", sources_where(run->arena, &run->sources, decl->span), kinds[decl->kind],
			decl->name.text ? decl->name.text : "-");
		if (decl->from)
			fprintf(out, " from %s", text_of_party(run, decl->from));
		if (decl->to)
			fprintf(out, " to %s", text_of_party(run, decl->to));
		if (decl->when)
			fprintf(out, " when %s", text_of_expr(run, decl->when));
		fputc('\n', out);
	}
}

/* ---- Policy ------------------------------------------------------------------------------------- */

void dump_policy(FILE *out, struct run *run)
{
	static const char *const effects[] = {"deny", "allow", "audit"};
	const struct policy *policy = run->policy;
	fprintf(out, "mesh %s trust %s\n", policy->mesh, policy->trust);
	for (size_t i = 0; i < policy->classes.len; i++)
		fprintf(out, "class %zu %s default %s\n", i, policy->classes.at[i].name,
			effects[policy->defaults.at[i]]);
	for (size_t i = 0; i < policy->rules.len; i++)
		fprintf(out, "rule %zu %s %s: %s\n", i, effects[policy->rules.at[i].effect], policy->rules.at[i].name,
			policy_rule_text(run->arena, policy, i));
	for (size_t i = 0; i < policy->arms.len; i++) {
		const struct policy_arm *arm = &policy->arms.at[i];
		fprintf(out, "arm %zu of %s:", i, policy->services.at[arm->service].name);
		for (size_t k = 0; k < arm->splits.len; k++)
			fprintf(out, " %s %u", arm->splits.at[k].subset ? arm->splits.at[k].subset : "*",
				arm->splits.at[k].weight);
		fputc('\n', out);
	}
}

/* ---- Diagram ------------------------------------------------------------------------------------ */

struct dumper {
	FILE *out;
	struct run *run;
	bool *seen;
	bool dot;
	const struct diagram_fields *fields;
};

static const char *terminal_text(struct dumper *dumper, node_id node)
{
	const struct policy *policy = dumper->run->policy;
	uint32_t terminal = diagram_terminal(dumper->run->diagram, node);
	if (terminal == TERMINAL_DEFAULT)
		return "default";
	bool allow = terminal >= TERMINAL_ALLOW;
	return arena_printf(dumper->run->arena, "%s %s", allow ? "allow" : "deny",
			    policy->rules.at[allow ? terminal - TERMINAL_ALLOW : terminal].name);
}

static const char *level_text(struct dumper *dumper, uint32_t level)
{
	static const char *const names[] = {"protocol", "port", "source/256", "source%256", "block", "verified"};
	if (level < LEVEL_STRING)
		return names[level];
	if (level - LEVEL_STRING >= dumper->fields->count)
		return "string";
	const struct diagram_field *field = &dumper->fields->at[level - LEVEL_STRING];
	return field->key ? arena_printf(dumper->run->arena, "%s[%s]", field_text(field->field), field->key)
			  : field_text(field->field);
}

static const char *node_text(struct dumper *dumper, node_id node)
{
	return diagram_is_terminal(node) ? arena_printf(dumper->run->arena, "t%x", node & 0x7fffffff)
					 : arena_printf(dumper->run->arena, "n%u", node);
}

static void dump_node(struct dumper *dumper, node_id node)
{
	const struct diagram *diagram = dumper->run->diagram;
	uint32_t count, from = 0;
	if (diagram_is_terminal(node)) {
		if (dumper->dot)
			fprintf(dumper->out, "\t%s [shape=box, label=\"%s\"];\n", node_text(dumper, node),
				terminal_text(dumper, node));
		return;
	}
	if (dumper->seen[node])
		return;
	dumper->seen[node] = true;
	const struct diagram_edge *edges = diagram_edges(diagram, node, &count);
	fprintf(dumper->out, dumper->dot ? "\tn%u [label=\"%s\"];\n" : "  n%u %s\n", node,
		level_text(dumper, diagram_level(diagram, node)));
	for (uint32_t i = 0; i < count; i++) {
		const char *range = from == edges[i].hi ? arena_printf(dumper->run->arena, "%u", from)
							: arena_printf(dumper->run->arena, "%u..%u", from, edges[i].hi);
		if (dumper->dot)
			fprintf(dumper->out, "\tn%u -> %s [label=\"%s\"];\n", node, node_text(dumper, edges[i].child),
				range);
		else
			fprintf(dumper->out, "    %s -> %s\n", range,
				diagram_is_terminal(edges[i].child) ? terminal_text(dumper, edges[i].child)
								    : node_text(dumper, edges[i].child));
		from = edges[i].hi + 1;
	}
	for (uint32_t i = 0; i < count; i++)
		dump_node(dumper, edges[i].child);
}

static void dump_all(FILE *out, struct run *run, bool dot)
{
	struct dumper dumper = {
		.out = out, .run = run, .dot = dot, .seen = arena_alloc(run->arena, diagram_nodes(run->diagram) + 1)};
	if (dot)
		fputs("digraph policy {\n", out);
	for (uint32_t dst = 0; dst < run->policy->classes.len; dst++) {
		node_id root = diagram_root(run->diagram, DIAGRAM_VERDICT, dst);
		const char *name = run->policy->classes.at[dst].name;
		dumper.fields = diagram_dst(run->diagram, dst)->fields;
		if (dot && !diagram_is_terminal(root))
			fprintf(out, "\td%u [shape=plaintext, label=\"to %s\"];\n\td%u -> %s;\n", dst, name, dst,
				node_text(&dumper, root));
		else if (!dot)
			fprintf(out, "to %s: %s\n", name,
				diagram_is_terminal(root) ? terminal_text(&dumper, root) : node_text(&dumper, root));
		if (!dot || !diagram_is_terminal(root))
			dump_node(&dumper, root);
	}
	if (dot)
		fputs("}\n", out);
}

void dump_diagram(FILE *out, struct run *run)
{
	dump_all(out, run, false);
}

void dump_dot(FILE *out, struct run *run)
{
	dump_all(out, run, true);
}
