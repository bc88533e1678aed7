#include "verb/near.h"

#include "ir/ast.h"
#include "ir/diagram_build.h"
#include "verb/answer.h"

enum { NEAR_LIMIT = 5 };

struct asking {
	struct run *run;
	const struct request *request;
};

/* ---- Conditions ------------------------------------------------------------------------------------ */

static bool is_grpc(const struct asking *asking, const struct cond *atom)
{
	const char *text = asking->run->sources.files.at[atom->span.file].text + atom->span.offset;
	return atom->field == FIELD_PATH && atom->span.len > 5 && strncmp(text, "grpc.", 5) == 0;
}

static void add_field(struct text *text, const struct asking *asking, const struct cond *atom)
{
	text_add(text, "%s", is_grpc(asking, atom) ? "grpc.method" : field_text(atom->field));
	if (atom->key) {
		text_add(text, "[");
		ast_print_string(text, atom->key);
		text_add(text, "]");
	}
}

static void add_values(struct text *text, const struct asking *asking, const struct cond *atom)
{
	for (size_t i = 0; i < atom->values.len; i++) {
		const char *value = atom->values.at[i];
		text_add(text, i ? " or " : "");
		ast_print_string(text, is_grpc(asking, atom) && *value == '/' ? value + 1 : value);
	}
	for (size_t i = 0; i < atom->numbers.len; i++) {
		struct range range = atom->numbers.at[i];
		text_add(text, range.lo == range.hi ? "%s%u" : "%s%u..%u", i ? " or " : "", range.lo, range.hi);
	}
}

static const char *atom_text(const struct asking *asking, const struct cond *atom, bool wanted, bool inside)
{
	static const char *const words[][2] = {
		[OP_EQ] = {"were not", "were"},
		[OP_NE] = {"were", "were there and not"},
		[OP_IN] = {"were not", "were"},
		[OP_RANGE] = {"were not", "were"},
		[OP_LIKE] = {"were not like", "were like"},
		[OP_MATCHES] = {"did not match", "matched"},
		[OP_HAS] = {"were absent", "were there"},
	};
	struct text text = {.arena = asking->run->arena};
	if (atom->op == OP_IS)
		return wanted ? "the peer showed a certificate" : "the peer showed no certificate";
	add_field(&text, asking, atom);
	text_add(&text, " %s", words[atom->op][wanted]);
	if (atom->op != OP_HAS) {
		bool many = inside && atom->values.len + atom->numbers.len > 1;
		text_add(&text, many ? " (" : " ");
		add_values(&text, asking, atom);
		text_add(&text, many ? ")" : "");
	}
	return text_end(&text);
}

static bool meets(const struct asking *asking, const struct cond *cond)
{
	struct run *run = asking->run;
	return model_meets(run->arena, run->diagram, asking->request, cond);
}

/* What would have to be for COND to come to WANTED, which it does not. INSIDE: of an and or an or (of which
 * the outer is CONJ): what joins the other way stands in parentheses. */
static const char *unmet_text(const struct asking *asking, const struct cond *cond, bool wanted, bool inside, bool conj)
{
	struct arena *arena = asking->run->arena;
	if (cond->kind == COND_ATOM)
		return atom_text(asking, cond, wanted, inside);
	if (cond->kind == COND_NOT)
		return unmet_text(asking, cond->left, !wanted, inside, conj);
	bool all = (cond->kind == COND_AND) == wanted; /* both sides must come to WANTED, else one of them */
	if (meets(asking, cond->left) == wanted)
		return unmet_text(asking, cond->right, wanted, inside, conj);
	if (meets(asking, cond->right) == wanted)
		return unmet_text(asking, cond->left, wanted, inside, conj);
	const char *text = arena_printf(arena, "%s %s %s", unmet_text(asking, cond->left, wanted, true, all),
					all ? "and" : "or", unmet_text(asking, cond->right, wanted, true, all));
	return inside && all != conj ? arena_printf(arena, "(%s)", text) : text;
}

const char *near_cond(struct run *run, const struct request *request, const struct cond *cond)
{
	struct asking asking = {run, request};
	return unmet_text(&asking, cond, true, false, true);
}

/* ---- Ends ------------------------------------------------------------------------------------------- */

static void add_refs(struct text *text, const struct ast_ref *refs)
{
	static const char *const words[] = {[REF_ANY] = "any", [REF_WORLD] = "world", [REF_NODE] = "node"};
	for (const struct ast_ref *ref = refs; ref; ref = ref->next) {
		text_add(text, "%s%s", ref == refs ? "" : " or ", ref->kind == REF_NAMESPACE ? "namespace " : "");
		if (ref->kind == REF_NAME || ref->kind == REF_NAMESPACE || ref->kind == REF_ADDRESS)
			ast_print_name(text, ref->name.text);
		else
			text_add(text, "%s", words[ref->kind]);
	}
}

static const char *source_text(struct run *run, const struct ast_decl *rule)
{
	struct text text = {.arena = run->arena};
	text_add(&text, "the source were ");
	add_refs(&text, rule->from->in);
	if (rule->from->out) {
		text_add(&text, " except ");
		add_refs(&text, rule->from->out);
	}
	return text_end(&text);
}

static void add_range(struct text *text, const char *before, uint32_t lo, uint32_t hi)
{
	text_add(text, lo == hi ? "%s%u" : "%s%u..%u", before, lo, hi);
}

/* The ports that the rule says, else those that its destination declares. */
static const char *port_text(struct run *run, const struct ast_decl *rule, uint32_t dst)
{
	static const char *const kinds[] = {"tcp ", "udp ", "http ", "grpc "};
	const struct policy_class *class = &run->policy->classes.at[dst];
	struct text text = {.arena = run->arena};
	text_add(&text, "the port were ");
	for (const struct ast_range *range = rule->to->ports; range; range = range->next)
		add_range(&text, range == rule->to->ports ? "" : " or ", range->lo, range->hi);
	if (rule->to->ports)
		return text_end(&text);
	if (class->kind != CLASS_SERVICE)
		return "the port were one that the destination declares";
	const struct policy_service *service = &run->policy->services.at[class->service];
	for (size_t i = 0; i < service->ports.len; i++) {
		const struct policy_port *port = &service->ports.at[i];
		text_add(&text, "%s%s", i ? " or " : "", kinds[port->kind]);
		add_range(&text, "", port->target, port->target == port->lo ? port->hi : port->target);
	}
	return text_end(&text);
}

/* ---- Misses ----------------------------------------------------------------------------------------- */

struct miss {
	uint32_t rank;
	const char *would, *unless;
};

/* Of an allow where a deny decides it is only said that it would match: the deny beats it. */
static const char *would_text(const struct policy_rule *rule, const struct decision *decision)
{
	if (rule->effect == VERDICT_ALLOW)
		return decision->by_default ? "allow" : "match";
	return rule->effect == VERDICT_DENY ? "deny" : "audit";
}

static size_t find_misses(struct run *run, const struct request *request, const struct decision *decision,
			  struct miss ret_misses[NEAR_LIMIT])
{
	const struct diagram_dst *dst = diagram_dst(run->diagram, request->dst);
	size_t count = 0;
	for (size_t i = 0; i < dst->rules.len && count < NEAR_LIMIT; i++) {
		const struct policy_rule *rule = &run->policy->rules.at[dst->rules.at[i]];
		const struct ast_decl *decl = table_get(&run->ast->rules, rule->name);
		if ((rule->effect == VERDICT_ALLOW) == decision->allow || !decl)
			continue;
		struct near near = model_near(run->arena, run->policy, run->diagram, request, rule->rank);
		if (near.from + near.to + near.when != 2)
			continue;
		ret_misses[count++] = (struct miss){rule->rank, would_text(rule, decision),
						    !near.from ? source_text(run, decl)
						    : !near.to ? port_text(run, decl, request->dst)
							       : near_cond(run, request, rule->when)};
	}
	return count;
}

void answer_print_misses(FILE *out, const char *indent, struct run *run, const struct request *request,
			 const struct decision *decision)
{
	struct miss misses[NEAR_LIMIT];
	size_t count = find_misses(run, request, decision, misses);
	for (size_t i = 0; i < count; i++) {
		const struct policy_rule *rule = &run->policy->rules.at[misses[i].rank];
		fprintf(out, "%snear: %s (%s) would %s if %s\n", indent, rule->name,
			sources_where(run->arena, &run->sources, rule->span), misses[i].would, misses[i].unless);
	}
}

json_t *near_json(struct run *run, const struct request *request, const struct decision *decision)
{
	struct miss misses[NEAR_LIMIT];
	size_t count = find_misses(run, request, decision, misses);
	json_t *near = json_array();
	for (size_t i = 0; i < count; i++) {
		const struct policy_rule *rule = &run->policy->rules.at[misses[i].rank];
		json_array_append_new(near, json_pack("{s:s, s:s, s:s, s:s}", "rule", rule->name, "where",
						      sources_where(run->arena, &run->sources, rule->span), "would",
						      misses[i].would, "unless", misses[i].unless));
	}
	return near;
}
