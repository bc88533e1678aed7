#include "verb/coverage.h"

#include "ir/diagram_build.h"

/* An atom of a rule's condition: were there requests of the rule's sources and destination that met it,
 * and that missed it? */
struct atom {
	uint32_t rank;
	const struct cond *cond;
	bool met, missed;
};
struct coverage {
	struct run *run;
	bool *rules; /* by rank */
	VEC(struct atom) atoms;
	size_t *first_atom; /* by rank; one more at the end */
};

static void add_atoms(struct coverage *coverage, uint32_t rank, const struct cond *cond)
{
	if (!cond)
		return;
	if (cond->kind == COND_ATOM) {
		vec_push(coverage->run->arena, &coverage->atoms, (struct atom){.rank = rank, .cond = cond});
		return;
	}
	add_atoms(coverage, rank, cond->left);
	add_atoms(coverage, rank, cond->right);
}

struct coverage *coverage_create(struct run *run)
{
	struct coverage *coverage = arena_alloc(run->arena, sizeof(*coverage));
	coverage->run = run;
	coverage->rules = arena_alloc(run->arena, run->policy->rules.len + 1);
	coverage->first_atom = arena_alloc(run->arena, (run->policy->rules.len + 1) * sizeof(*coverage->first_atom));
	for (size_t i = 0; i < run->policy->rules.len; i++) {
		coverage->first_atom[i] = coverage->atoms.len;
		add_atoms(coverage, i, run->policy->rules.at[i].when);
	}
	coverage->first_atom[run->policy->rules.len] = coverage->atoms.len;
	return coverage;
}

/* Of a rule whose sources and destination the request has. */
static void note_atoms(struct coverage *coverage, uint32_t rank, const struct request *request)
{
	const struct run *run = coverage->run;
	size_t first = coverage->first_atom[rank], end = coverage->first_atom[rank + 1];
	if (first == end)
		return;
	struct near near = model_near(run->arena, run->policy, run->diagram, request, rank);
	for (size_t i = first; near.from && near.to && i < end; i++) {
		struct atom *atom = &coverage->atoms.at[i];
		if (model_meets(run->arena, run->diagram, request, atom->cond))
			atom->met = true;
		else
			atom->missed = true;
	}
}

void coverage_note(struct coverage *coverage, const struct request *request, const struct decision *decision)
{
	if (!decision->by_default && !decision->unknown && !decision->plaintext && !decision->refused &&
	    !decision->depends)
		coverage->rules[decision->rule] = true;
	for (uint32_t i = 0; i < decision->audit_count; i++)
		coverage->rules[decision->audits[i]] = true;
	const struct diagram_dst *dst = diagram_dst(coverage->run->diagram, request->dst);
	for (size_t i = 0; i < dst->rules.len; i++)
		note_atoms(coverage, dst->rules.at[i], request);
}

bool coverage_has_rule(const struct coverage *coverage, uint32_t rank)
{
	return coverage->rules[rank];
}

static size_t touched_rules(const struct coverage *coverage)
{
	size_t count = 0;
	for (size_t i = 0; i < coverage->run->policy->rules.len; i++)
		count += coverage->rules[i];
	return count;
}

static size_t touched_atoms(const struct coverage *coverage)
{
	size_t count = 0;
	for (size_t i = 0; i < coverage->atoms.len; i++)
		count += coverage->atoms.at[i].met + coverage->atoms.at[i].missed;
	return count;
}

unsigned coverage_percent(const struct coverage *coverage)
{
	size_t all = coverage->run->policy->rules.len + 2 * coverage->atoms.len;
	return all ? (touched_rules(coverage) + touched_atoms(coverage)) * 100 / all : 100;
}

static const char *source_text(const struct coverage *coverage, struct span span)
{
	const struct source_file *file = &coverage->run->sources.files.at[span.file];
	return arena_printf(coverage->run->arena, "%.*s", (int)span.len, file->text + span.offset);
}

static void add_untouched(const struct coverage *coverage, json_t *list, uint32_t rank, struct span span,
			  const char *what)
{
	struct run *run = coverage->run;
	json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "rule", run->policy->rules.at[rank].name, "where",
					      sources_where(run->arena, &run->sources, span), "what", what));
}

static json_t *untouched_json(const struct coverage *coverage)
{
	struct arena *arena = coverage->run->arena;
	json_t *list = json_array();
	for (uint32_t rank = 0; rank < coverage->run->policy->rules.len; rank++) {
		const struct policy_rule *rule = &coverage->run->policy->rules.at[rank];
		if (!coverage->rules[rank])
			add_untouched(coverage, list, rank, rule->span,
				      rule->effect == VERDICT_AUDIT ? "no test meets this audit"
								    : "no test is decided by it");
		for (size_t i = coverage->first_atom[rank]; i < coverage->first_atom[rank + 1]; i++) {
			const struct atom *atom = &coverage->atoms.at[i];
			if (!atom->met || !atom->missed)
				add_untouched(coverage, list, rank, atom->cond->span,
					      arena_printf(arena, "no test %s %s",
							   atom->met	  ? "misses"
							   : atom->missed ? "meets"
									  : "asks",
							   source_text(coverage, atom->cond->span)));
		}
	}
	return list;
}

json_t *coverage_json(const struct coverage *coverage)
{
	return json_pack("{s:i, s:{s:I, s:I}, s:{s:I, s:I}, s:o}", "percent", (int)coverage_percent(coverage), "rules",
			 "all", (json_int_t)coverage->run->policy->rules.len, "touched",
			 (json_int_t)touched_rules(coverage), "atoms", "all", (json_int_t)(2 * coverage->atoms.len),
			 "touched", (json_int_t)touched_atoms(coverage), "untouched", untouched_json(coverage));
}

void coverage_print(const struct coverage *coverage)
{
	json_t *list = untouched_json(coverage), *item;
	size_t i;
	printf("coverage: %u %%, %zu of %zu rules, %zu of %zu outcomes of conditions\n", coverage_percent(coverage),
	       touched_rules(coverage), coverage->run->policy->rules.len, touched_atoms(coverage),
	       2 * coverage->atoms.len);
	json_array_foreach (list, i, item)
		printf("  %s: %s: %s\n", json_string_value(json_object_get(item, "where")),
		       json_string_value(json_object_get(item, "rule")),
		       json_string_value(json_object_get(item, "what")));
	json_decref(list);
}
