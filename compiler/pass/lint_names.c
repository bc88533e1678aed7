/* What the text tells: names that nothing uses, denies that a header dodges, addresses in named blocks. */
#include "pass/lint.h"

#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/removal.h"

#include <ctype.h>

struct naming {
	struct run *run;
	struct table used;	    /* by qualified name; subsets "ns/service/subset" */
	struct table spaces;	    /* namespaces that a rule reaches into */
	VEC(const char *) declared; /* namespaces that something is declared in */
	bool any;		    /* `to any` */
};

/* ---- Names ---------------------------------------------------------------------------------------- */

static void use(struct naming *naming, const struct ast_decl *decl, const char *name)
{
	const char *full = ast_qualified(naming->run->arena, decl->ns, name);
	table_put(&naming->used, full, (void *)full);
}

static void use_refs(struct naming *naming, const struct ast_decl *decl, const struct ast_ref *ref)
{
	for (; ref; ref = ref->next) {
		if (ref->kind == REF_NAME)
			use(naming, decl, ref->name.text);
		if (ref->kind == REF_NAMESPACE)
			table_put(&naming->spaces, ref->name.text, (void *)ref->name.text);
	}
}

static void use_party(struct naming *naming, const struct ast_decl *decl, const struct ast_party *party, bool is_target)
{
	if (!party)
		return;
	use_refs(naming, decl, party->in);
	use_refs(naming, decl, party->out);
	for (const struct ast_ref *ref = party->in; ref; ref = ref->next)
		naming->any |= is_target && ref->kind == REF_ANY;
}

/* SERVICE: as DECL names it. */
static void use_subset(struct naming *naming, const struct ast_decl *decl, const char *service, const char *subset)
{
	use(naming, decl,
	    arena_printf(naming->run->arena, "%s/%s", ast_qualified(naming->run->arena, decl->ns, service), subset));
}

static void use_expects(struct naming *naming, const struct ast_decl *test)
{
	for (const struct ast_expect *expect = test->expects; expect; expect = expect->next) {
		use_party(naming, test, expect->from, false);
		use_party(naming, test, expect->to, true);
		if (strcmp(expect->what, "subset") == 0 && expect->by.text && expect->to->in->name.text)
			use_subset(naming, test, expect->to->in->name.text, expect->by.text);
	}
}

static void use_decl(struct naming *naming, const struct ast_decl *decl)
{
	use_party(naming, decl, decl->from, false);
	use_party(naming, decl, decl->to, true);
	use_expects(naming, decl);
	for (const struct ast_text *member = decl->members; member; member = member->next)
		use(naming, decl, member->text);
	if (decl->kind == DECL_ROUTE)
		use(naming, decl, decl->name.text);
	if (decl->kind == DECL_MTLS)
		use_refs(naming, decl, decl->scope);
	for (const struct ast_arm *arm = decl->arms; arm; arm = arm->next) {
		use_party(naming, decl, arm->from, false);
		for (const struct ast_split *split = arm->splits; split; split = split->next)
			if (split->subset)
				use_subset(naming, decl, decl->name.text, split->subset->text);
	}
}

static void check_subsets(struct naming *naming, const struct ast_decl *service, const char *full)
{
	for (const struct ast_item *item = service->items; item; item = item->next) {
		if (item->kind != ITEM_SUBSET ||
		    table_get(&naming->used, arena_printf(naming->run->arena, "%s/%s", full, item->texts->text)))
			continue;
		diag_add(&naming->run->diags, DIAG_UNNAMED, item->texts->span, "no route speaks of subset '%s' of '%s'",
			 item->texts->text, service->name.text);
	}
}

static void report_unused(struct naming *naming, const struct ast_decl *decl, const char *kind)
{
	removal_offer(diag_add(&naming->run->diags, DIAG_UNUSED, decl->name.span, "nothing uses %s '%s'", kind,
			       decl->name.text),
		      decl->span, true);
}

static void check_used(struct naming *naming, const struct ast_decl *decl)
{
	static const char *const kinds[] = {[DECL_SERVICE] = "service",
					    [DECL_EXTERNAL] = "external",
					    [DECL_IDENTITY] = "identity",
					    [DECL_CIDR] = "cidr",
					    [DECL_GROUP] = "group"};
	if (decl->kind < DECL_SERVICE || decl->kind > DECL_GROUP)
		return;
	const char *full = ast_qualified(naming->run->arena, decl->ns, decl->name.text);
	if (decl->kind == DECL_SERVICE)
		check_subsets(naming, decl, full);
	if (table_get(&naming->used, full))
		return;
	if (decl->kind != DECL_SERVICE && decl->kind != DECL_EXTERNAL)
		report_unused(naming, decl, kinds[decl->kind]);
	else if (!naming->any && !(decl->kind == DECL_SERVICE && table_get(&naming->spaces, decl->ns)))
		diag_add(&naming->run->diags, DIAG_UNNAMED, decl->name.span, "no rule, route or test speaks of %s '%s'",
			 kinds[decl->kind], decl->name.text);
}

/* ---- Selectors ------------------------------------------------------------------------------------ */

static void check_selector(struct run *run, const struct ast_decl *service)
{
	for (const struct ast_item *item = service->items; item; item = item->next)
		if (item->kind == ITEM_WORKLOAD)
			return;
	struct diag *diag = diag_add(&run->diags, DIAG_NO_SELECTOR, service->name.span,
				     "service '%s' has no `workload`: no workload is ever of it", service->name.text);
	diag->note = "write `workload LABEL == \"VALUE\";`; what is outside the mesh is an `external`, a `cidr` or an "
		     "`identity`";
}

/* ---- Namespaces ----------------------------------------------------------------------------------- */

static void note_declared(struct naming *naming, const struct ast_decl *decl)
{
	for (size_t i = 0; i < naming->declared.len; i++)
		if (strcmp(naming->declared.at[i], decl->ns) == 0)
			return;
	vec_push(naming->run->arena, &naming->declared, decl->ns);
}

/* Two letters exchanged, one left out or too many. Not one for another, nor a digit more: team-a and team-b, v1 and
 * v10 are two names. */
static bool is_slip(const char *name, const char *near)
{
	size_t len = strlen(name), near_len = strlen(near);
	if (len == near_len)
		return diag_distance(name, near) == 2;
	return !isdigit((unsigned char)(len > near_len ? name : near)[(len > near_len ? len : near_len) - 1]);
}

static void check_space(struct naming *naming, const struct ast_ref *ref, bool is_scope)
{
	if (ref->kind != REF_NAMESPACE)
		return;
	const char *near = diag_nearest(ref->name.text, naming->declared.at, naming->declared.len);
	if (near && strcmp(near, ref->name.text) == 0)
		return;
	if (near && !is_slip(ref->name.text, near))
		near = NULL;
	if (!near && !is_scope)
		return;
	struct diag *diag = diag_add(&naming->run->diags, DIAG_NOTHING_DECLARED, ref->name.span,
				     "nothing is declared in namespace '%s'%s", ref->name.text,
				     is_scope ? ": this mode is nobody's" : "");
	diag->fix = near;
	diag->fix_span = ref->name.span;
}

static void check_party_spaces(struct naming *naming, const struct ast_party *party)
{
	for (const struct ast_ref *ref = party ? party->in : NULL; ref; ref = ref->next)
		check_space(naming, ref, false);
	for (const struct ast_ref *ref = party ? party->out : NULL; ref; ref = ref->next)
		check_space(naming, ref, false);
}

static void check_spaces(struct naming *naming, const struct ast_decl *decl)
{
	check_party_spaces(naming, decl->from);
	check_party_spaces(naming, decl->to);
	for (const struct ast_arm *arm = decl->arms; arm; arm = arm->next)
		check_party_spaces(naming, arm->from);
	for (const struct ast_expect *expect = decl->expects; expect; expect = expect->next) {
		check_party_spaces(naming, expect->from);
		check_party_spaces(naming, expect->to);
	}
	for (const struct ast_ref *ref = decl->kind == DECL_MTLS ? decl->scope : NULL; ref; ref = ref->next)
		check_space(naming, ref, true);
}

/* ---- Headers -------------------------------------------------------------------------------------- */

/* Asks for VALUE as a member of the list that a repeated header becomes. NULL: it would need escapes. */
static const char *member_pattern(struct arena *arena, const struct cond *cond)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/ ";
	const char *all = "";
	for (size_t i = 0; i < cond->values.len; i++) {
		if (cond->values.at[i][strspn(cond->values.at[i], plain)])
			return NULL;
		all = arena_printf(arena, "%s%s%s", all, i ? "|" : "", cond->values.at[i]);
	}
	return arena_printf(arena, "http.header[\"%s\"] matches \"(.*,)? *(%s) *(,.*)?\"", cond->key, all);
}

static void check_headers(struct run *run, const struct policy_rule *rule, const struct cond *cond, bool is_not)
{
	if (cond && cond->kind != COND_ATOM) {
		check_headers(run, rule, cond->left, is_not != (cond->kind == COND_NOT));
		check_headers(run, rule, cond->right, is_not);
	}
	if (!cond || cond->kind != COND_ATOM || is_not || cond->field != FIELD_HEADER ||
	    (cond->op != OP_EQ && cond->op != OP_IN))
		return;
	struct diag *diag = diag_add(&run->diags, DIAG_HEADER_EQUALS, cond->span,
				     "deny '%s' is dodged by sending '%s' twice: repeated headers are joined with ','",
				     rule->name, cond->key);
	diag->note = "ask for it within the list by `matches`, or by `has` whether the header is there at all";
	diag->fix_span = cond->span;
	diag->fix = member_pattern(run->arena, cond);
}

/* ---- Addresses ------------------------------------------------------------------------------------ */

/* One finding for an address: the first block around it. */
static void check_address(struct run *run, const struct ast_decl *service, const struct ast_text *text)
{
	struct address_range address;
	if (address_read(text->text, &address) != ADDRESS_FINE || !policy_block(run->policy, address.lo))
		return;
	for (const struct ast_decl *decl = run->ast->first; decl; decl = decl->next)
		for (const struct ast_item *item = decl->items; item; item = item->next) {
			if (item->kind != ITEM_CIDR || !ast_holds(item, &address))
				continue;
			struct diag *diag =
				diag_add(&run->diags, DIAG_ADDRESS_OVERLAP, text->span,
					 "address %s of '%s' lies inside %s '%s'", text->text, service->name.text,
					 decl->kind == DECL_CIDR ? "cidr" : "external", decl->name.text);
			diag->spans[1] = decl->name.span;
			diag->labels[1] = "declared here";
			diag->note = decl->kind == DECL_CIDR
					     ? "as a source it matches workloads inside, too, beside their own rules"
					     : "what is sent to this address goes to the service: no rule of the "
					       "external speaks of it";
			return;
		}
}

static void check_addresses(struct run *run, const struct ast_decl *service)
{
	for (const struct ast_item *item = service->items; item; item = item->next)
		for (const struct ast_text *text = item->kind == ITEM_ADDRESS ? item->texts : NULL; text;
		     text = text->next)
			check_address(run, service, text);
}

void lint_names(struct run *run)
{
	struct naming naming = {.run = run, .used = {.arena = run->arena}, .spaces = {.arena = run->arena}};
	for (const struct ast_decl *decl = run->ast->first; decl; decl = decl->next) {
		use_decl(&naming, decl);
		if (decl->ns && (decl->kind == DECL_SERVICE || decl->kind == DECL_EXTERNAL))
			note_declared(&naming, decl);
	}
	for (const struct ast_decl *decl = run->ast->first; decl; decl = decl->next) {
		check_used(&naming, decl);
		check_spaces(&naming, decl);
		if (decl->kind == DECL_SERVICE) {
			check_selector(run, decl);
			check_addresses(run, decl);
		}
	}
	for (size_t i = 0; i < run->policy->rules.len; i++)
		if (run->policy->rules.at[i].effect == VERDICT_DENY)
			check_headers(run, &run->policy->rules.at[i], run->policy->rules.at[i].when, false);
}
