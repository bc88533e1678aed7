/* What is only reported or remembered, and decides nothing: audits, defaults of `audit`, dates. */
#include "base/table.h"
#include "ir/ast.h"
#include "pass/diff.h"
#include "pass/digest.h"

#include <stdarg.h>

enum { NAMES_MOST = 3 };

__attribute__((format(printf, 2, 3))) static void note(struct diff *diff, const char *format, ...)
{
	va_list args;
	char text[1024];
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	vec_push(diff->arena, &diff->notes, arena_copy(diff->arena, text, strlen(text)));
}

/* ---- Audits --------------------------------------------------------------------------------------- */

static bool has(const struct range_set *set, uint32_t value)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (value >= set->at[i].lo && value <= set->at[i].hi)
			return true;
	return false;
}

/* What RULE says of the destination DST: all entries of a party have its ports. NULL: it is none of its. */
static const struct policy_target *target_of(const struct policy_rule *rule, uint32_t dst)
{
	for (size_t i = 0; i < rule->to.out.len; i++)
		if (has(&rule->to.out.at[i].classes, dst))
			return NULL;
	for (size_t i = 0; i < rule->to.in.len; i++)
		if (has(&rule->to.in.at[i].classes, dst))
			return &rule->to.in.at[i];
	return NULL;
}

static bool same_target(const struct policy_target *a, const struct policy_target *b)
{
	if (!a || !b)
		return a == b;
	return a->declared == b->declared && a->tcp == b->tcp && a->udp == b->udp && a->ports.count == b->ports.count &&
	       memcmp(a->ports.at, b->ports.at, a->ports.count * sizeof(*a->ports.at)) == 0;
}

static bool same_targets(const struct diff *diff, const struct policy_rule *a, const struct policy_rule *b)
{
	for (size_t i = 0; i < diff->pair->targets.len; i++) {
		const uint32_t *dst = diff->pair->targets.at[i].dst;
		if (!same_target(target_of(a, dst[OLD]), target_of(b, dst[NEW])))
			return false;
	}
	return true;
}

static bool same_audit(struct diff *diff, const struct policy_rule *a, const struct policy_rule *b)
{
	return strcmp(digest_condition(diff->arena, a->when), digest_condition(diff->arena, b->when)) == 0 &&
	       diagram_sources(diff->builder, &a->from) == diagram_sources(diff->builder, &b->from) &&
	       same_targets(diff, a, b);
}

static struct table audits_of(const struct diff *diff, enum side side)
{
	const struct policy *policy = diff->pair->runs[side]->policy;
	struct table audits = {.arena = diff->arena};
	for (size_t i = 0; i < policy->rules.len; i++)
		if (policy->rules.at[i].effect == VERDICT_AUDIT)
			table_put(&audits, policy->rules.at[i].name, &policy->rules.at[i]);
	return audits;
}

static void compare_audits(struct diff *diff)
{
	struct table sides[] = {audits_of(diff, OLD), audits_of(diff, NEW)};
	for (int side = 0; side < SIDES; side++) {
		const struct policy *policy = diff->pair->runs[side]->policy;
		for (size_t i = 0; i < policy->rules.len; i++) {
			const struct policy_rule *rule = &policy->rules.at[i];
			const struct policy_rule *other =
				rule->effect == VERDICT_AUDIT ? table_get(&sides[!side], rule->name) : NULL;
			if (rule->effect == VERDICT_AUDIT && !other)
				note(diff, "audit %s is %s", rule->name, side == NEW ? "added" : "removed");
			else if (other && side == NEW && !same_audit(diff, other, rule))
				note(diff, "audit %s asks for other requests", rule->name);
		}
	}
}

/* ---- Defaults ------------------------------------------------------------------------------------- */

/* One note for all whose default goes from OLD to NEW. */
static void compare_defaults(struct diff *diff, enum policy_verdict old, enum policy_verdict new)
{
	const char *names = "";
	size_t count = 0;
	for (size_t i = 0; i < diff->pair->targets.len; i++) {
		const struct pair_target *target = &diff->pair->targets.at[i];
		if (target->kind == CLASS_SERVICE && (!target->known[OLD] || !target->known[NEW]))
			continue;
		if (diff->pair->runs[OLD]->policy->defaults.at[target->dst[OLD]] != old ||
		    diff->pair->runs[NEW]->policy->defaults.at[target->dst[NEW]] != new)
			continue;
		if (count++ < NAMES_MOST)
			names = arena_printf(diff->arena, "%s%s%s", names, count == 1 ? "" : ", ", target->name);
	}
	if (count)
		note(diff, "default of %s%s: %s, was %s", names, count > NAMES_MOST ? " and others" : "",
		     new == VERDICT_AUDIT ? "audit" : "allow", old == VERDICT_AUDIT ? "audit" : "allow");
}

static const char *few(const struct diff *diff, struct diff_words words)
{
	const char *text = "";
	for (size_t i = 0; i < words.at.len && i < NAMES_MOST; i++)
		text = arena_printf(diff->arena, "%s%s%s", text, i ? ", " : "", words.at.at[i]);
	return words.at.len > NAMES_MOST ? arena_printf(diff->arena, "%s and others", text) : text;
}

/* Whoever makes the default `deny` one day takes the one, and not the other. */
static void take_out_audited(struct diff *diff)
{
	size_t kept = 0;
	for (size_t i = 0; i < diff->groups.len; i++) {
		struct diff_group *group = &diff->groups.at[i];
		if (group->outcome.change != DIFF_AUDITED) {
			diff->groups.at[kept++] = *group;
			continue;
		}
		bool now = group->outcome.by[NEW] == DIFF_DEFAULT_ALLOW;
		note(diff, "from %s to %s, %s: %sallowed by %s, was by %s",
		     few(diff, diff_source_words(diff, group->sources)), few(diff, diff_target_words(diff, group)),
		     few(diff, diff_port_words(diff, &group->ports)), group->outcome.l7 ? "some requests " : "",
		     now ? "a default of audit" : "a rule", now ? "a rule" : "a default of audit");
	}
	diff->groups.len = kept;
}

/* ---- Dates ---------------------------------------------------------------------------------------- */

/* By the scope, as DECL writes it. */
static const char *scope_of(const struct diff *diff, const struct ast_decl *decl)
{
	struct text text = {.arena = diff->arena};
	struct ast_party party = {.in = decl->scope, .ports = decl->scope_port};
	text_add(&text, "mtls %s", decl->mode);
	if (decl->scope) {
		text_add(&text, " for ");
		ast_print_party(&text, &party);
	}
	return text_end(&text);
}

static const char *scope_key(const struct diff *diff, const struct ast_decl *decl)
{
	return arena_printf(diff->arena, "%s %s", decl->scope && decl->ns ? decl->ns : "", scope_of(diff, decl));
}

static bool has_date(const struct ast_decl *decl)
{
	return decl->kind == DECL_MTLS && decl->mode[0] == 'p';
}

static void compare_dates(struct diff *diff)
{
	struct table dates = {.arena = diff->arena};
	for (const struct ast_decl *decl = diff->pair->runs[OLD]->ast->first; decl; decl = decl->next)
		if (has_date(decl))
			table_put(&dates, scope_key(diff, decl), (void *)decl->value.text);
	for (const struct ast_decl *decl = diff->pair->runs[NEW]->ast->first; decl; decl = decl->next) {
		const char *old = has_date(decl) ? table_get(&dates, scope_key(diff, decl)) : NULL;
		if (old && strcmp(old, decl->value.text) != 0)
			note(diff, "%s: until %s, was until %s", scope_of(diff, decl), decl->value.text, old);
	}
}

void diff_notes(struct diff *diff)
{
	compare_audits(diff);
	compare_defaults(diff, VERDICT_ALLOW, VERDICT_AUDIT);
	compare_defaults(diff, VERDICT_AUDIT, VERDICT_ALLOW);
	take_out_audited(diff);
	compare_dates(diff);
}
