#include "verb/answer.h"

static const char *verdict_of(const struct decision *decision)
{
	return decision->depends ? "depends" : decision->allow ? "allow" : "deny";
}

static const char *rule_of(const struct run *run, const struct decision *decision)
{
	return decision->refused     ? "malformed"
	       : decision->by_default ? "default"
				      : run->policy->rules.at[decision->rule].name;
}

static const char *where_of(struct run *run, const struct decision *decision)
{
	if (decision->refused || decision->by_default || decision->depends)
		return NULL;
	return sources_where(run->arena, &run->sources, run->policy->rules.at[decision->rule].span);
}

/* The shares that the request is split by; NULL: it goes to no service, or not there. */
static const struct policy_arm *arm_of(const struct run *run, const struct request *request, const struct decision *decision)
{
	if (!decision->allow || decision->arm == UINT32_MAX || run->policy->classes.at[request->dst].kind != CLASS_SERVICE)
		return NULL;
	return &run->policy->arms.at[decision->arm];
}

const char *answer_subset(const struct run *run, const struct request *request, const struct decision *decision)
{
	const struct policy_arm *arm = arm_of(run, request, decision);
	return arm && arm->splits.len == 1 ? arm->splits.at[0].subset : NULL;
}

static void add_shares(struct run *run, const struct policy_arm *arm, json_t *answer)
{
	json_t *shares = json_object();
	double sum = 0;
	for (size_t i = 0; i < arm->splits.len; i++)
		sum += arm->splits.at[i].weight;
	for (size_t i = 0; i < arm->splits.len; i++) {
		const struct policy_split *split = &arm->splits.at[i];
		const char *name = split->subset ? split->subset : run->policy->services.at[arm->service].name;
		json_object_set_new(shares, name, json_real(split->weight / sum));
	}
	json_object_set_new(answer, "shares", shares);
}

static json_t *names_of(const struct run *run, const uint32_t *ranks, uint32_t count)
{
	json_t *names = json_array();
	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(names, json_string(run->policy->rules.at[ranks[i]].name));
	return names;
}

json_t *answer_json(struct run *run, const struct request *request, const struct decision *decision)
{
	const char *where = where_of(run, decision), *subset = answer_subset(run, request, decision);
	json_t *audit = names_of(run, decision->audits, decision->audit_count);
	if (decision->default_audit)
		json_array_append_new(audit, json_string("default"));
	json_t *answer = json_pack("{s:s, s:o}", "verdict", verdict_of(decision), "audit", audit);
	if (!decision->depends)
		json_object_set_new(answer, "rule", json_string(rule_of(run, decision)));
	if (!decision->depends)
		json_object_set_new(answer, "where", where ? json_string(where) : json_null());
	if (decision->depends)
		json_object_set_new(answer, "open", names_of(run, decision->matching, decision->matching_count));
	if (decision->refused)
		json_object_set_new(answer, "why", json_string(decision->why_refused));
	if (subset)
		json_object_set_new(answer, "subset", json_string(subset));
	if (arm_of(run, request, decision))
		add_shares(run, arm_of(run, request, decision), answer);
	return answer;
}

const char *answer_text(struct run *run, const struct decision *decision)
{
	const char *where = where_of(run, decision);
	if (decision->depends)
		return "depends on the request";
	if (decision->refused)
		return arena_printf(run->arena, "deny: malformed, %s", decision->why_refused);
	if (decision->by_default)
		return arena_printf(run->arena, "%s by default%s", verdict_of(decision),
				    decision->default_audit ? " (audited)" : "");
	return arena_printf(run->arena, "%s by '%s' (%s)", verdict_of(decision), rule_of(run, decision), where);
}
