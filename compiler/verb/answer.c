#include "verb/answer.h"

#include "ir/diagram_build.h"
#include "ir/literal.h"

static const char *verdict_of(const struct decision *decision)
{
	return decision->depends ? "depends" : decision->allow ? "allow" : "deny";
}

const char *answer_rule(const struct run *run, const struct decision *decision)
{
	return decision->refused      ? "malformed"
	       : decision->unknown    ? "unknown"
	       : decision->plaintext  ? "plaintext"
	       : decision->by_default ? "default"
				      : run->policy->rules.at[decision->rule].name;
}

static const char *where_of(struct run *run, const struct decision *decision)
{
	if (decision->refused || decision->unknown || decision->plaintext || decision->by_default || decision->depends)
		return NULL;
	return sources_where(run->arena, &run->sources, run->policy->rules.at[decision->rule].span);
}

/* The shares that the request is split by; NULL: it goes to no service, or not there. */
static const struct policy_arm *arm_of(const struct run *run, const struct request *request,
				       const struct decision *decision)
{
	if (!decision->allow || decision->arm == UINT32_MAX ||
	    run->policy->classes.at[request->dst].kind != CLASS_SERVICE)
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
		json_object_set_new(answer, "rule", json_string(answer_rule(run, decision)));
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

/* Whom plaintext overrules. The kernel does not say. */
static const char *allower_text(struct run *run, const struct decision *decision)
{
	if (decision->by_default)
		return "the default allows it";
	if (decision->rule >= run->policy->rules.len)
		return "it is allowed";
	const struct policy_rule *rule = &run->policy->rules.at[decision->rule];
	return arena_printf(run->arena, "'%s' (%s) allows it", rule->name,
			    sources_where(run->arena, &run->sources, rule->span));
}

const char *answer_text(struct run *run, const struct decision *decision)
{
	const char *where = where_of(run, decision);
	if (decision->depends)
		return "depends on the request";
	if (decision->refused)
		return arena_printf(run->arena, "deny: malformed, %s", decision->why_refused);
	if (decision->unknown)
		return "deny by 'unknown': the address is nobody's (no service has this port there, or it is "
		       "link-local)";
	if (decision->plaintext)
		return arena_printf(run->arena, "deny by 'plaintext': %s, but only with a certificate (mtls strict)",
				    allower_text(run, decision));
	if (decision->by_default)
		return arena_printf(run->arena, "%s by default%s", verdict_of(decision),
				    decision->default_audit ? " (audited)" : "");
	return arena_printf(run->arena, "%s by '%s' (%s)", verdict_of(decision), answer_rule(run, decision), where);
}

/* ---- Requests ----------------------------------------------------------------------------------- */

/* The first address of BLOCK. */
static const char *block_address(const struct run *run, uint32_t block)
{
	const struct policy *policy = run->policy;
	for (size_t i = 0; i < policy->intervals.len; i++) {
		struct address_range range = {0};
		if (policy->intervals.at[i].block != block)
			continue;
		for (int k = 0; k < 16; k++)
			range.lo = range.lo << 8 | policy->intervals.at[i].first[k];
		range.hi = range.lo;
		range.is_v6 = range.lo >> 32 != 0xffff;
		return address_print(run->arena, &range);
	}
	return NULL;
}

static json_t *source_json(const struct run *run, const struct request *request)
{
	const struct policy_class *class = &run->policy->classes.at[request->src];
	const char *address = request->block ? block_address(run, request->block) : NULL;
	json_t *from = json_object();
	if (request->verified != VERIFIED_UNSAID)
		json_object_set_new(from, "verified", json_boolean(request->verified == VERIFIED_YES));
	if (class->kind == CLASS_WORLD && address && request->verified == VERIFIED_UNSAID) {
		json_decref(from);
		return json_string(address);
	}
	if (class->kind == CLASS_NAMESPACE)
		json_object_set_new(from, "namespace", json_string(class->ns));
	else if (class->kind == CLASS_IDENTITY)
		json_object_set_new(from, "spiffe", json_string(class->spiffe));
	else if (class->kind != CLASS_WORLD || !address)
		json_object_set_new(from, "service", json_string(class->name));
	if (address)
		json_object_set_new(from, "address", json_string(address));
	if (json_object_size(from) > 1 || class->kind == CLASS_NAMESPACE || class->kind == CLASS_IDENTITY)
		return from;
	json_decref(from);
	return json_string(class->name);
}

json_t *answer_request(struct run *run, const struct request *request)
{
	json_t *line = json_pack("{s:o, s:s, s:s, s:i}", "from", source_json(run, request), "to",
				 run->policy->classes.at[request->dst].name, "protocol",
				 request->udp	 ? "udp"
				 : request->http ? "http"
						 : "tcp",
				 "port", request->port);
	const struct {
		const char *key, *value;
	} texts[] = {{"method", request->method}, {"host", request->host}, {"path", request->path}};
	for (int i = 0; i < 3; i++)
		if (texts[i].value)
			json_object_set_new(line, texts[i].key, json_string(texts[i].value));
	json_t *headers = json_object();
	for (size_t i = 0; i < request->headers.len; i++)
		json_object_set_new(headers, request->headers.at[i].name, json_string(request->headers.at[i].value));
	if (request->headers.len)
		json_object_set(line, "headers", headers);
	json_decref(headers);
	return line;
}
