/* Binds names: every name that is used is declared once, and of a kind that fits where it stands. */
#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/passes.h"

enum {
	HINTS = 50,
	GROUP_DEPTH = 200
}; /* did-you-mean costs a walk over all names: not for every one of 10,000 errors */

struct resolver {
	struct run *run;
	struct ast *ast;
	unsigned hints, depth, said_deep;
};

/* What a group holds, all the way down. */
enum { HOLDS_SERVICE = 1, HOLDS_EXTERNAL = 2, HOLDS_IDENTITY = 4, HOLDS_CIDR = 8 };
struct group_state {
	enum { GROUP_OPEN = 1, GROUP_DONE } state;
	unsigned holds;
};

static struct diag *complain(struct resolver *resolver, enum diag_code code, struct span span, const char *message,
			     const char *name)
{
	return diag_add(&resolver->run->diags, code, span, "%s '%s'", message, name);
}

/* ---- Declarations ------------------------------------------------------------------------------- */

static void add_space(struct resolver *resolver, const char *ns)
{
	if (!table_get(&resolver->ast->spaces, ns))
		table_put(&resolver->ast->spaces, ns, (void *)ns);
}

static void duplicate(struct resolver *resolver, const struct ast_decl *decl, const struct ast_decl *before)
{
	struct diag *diag =
		complain(resolver, DIAG_DUPLICATE, decl->name.span, "a second declaration of", decl->name.text);
	diag->spans[1] = before->name.span;
	diag->labels[1] = "the first is here";
}

static void put_once(struct resolver *resolver, struct table *table, const char *key, struct ast_decl *decl)
{
	struct ast_decl *before = table_get(table, key);
	if (before)
		duplicate(resolver, decl, before);
	else
		table_put(table, key, decl);
}

static void check_name(struct resolver *resolver, const struct ast_text *name, bool is_rule)
{
	static const char *const taken[] = {"default", "self", "conflict", "unknown", "malformed", "plaintext", "mtls"};
	bool bad =
		!name->text[0] || strchr(name->text, '/') || strcmp(name->text, "-") == 0 || strlen(name->text) > 253;
	for (const char *c = name->text; *c; c++)
		bad |= (unsigned char)*c < ' ';
	if (bad)
		complain(resolver, DIAG_RESERVED_NAME, name->span,
			 "a name has 1 to 253 characters, no '/' and is not '-':", name->text);
	for (size_t i = 0; is_rule && i < sizeof(taken) / sizeof(*taken); i++)
		if (strcmp(taken[i], name->text) == 0)
			complain(resolver, DIAG_RESERVED_NAME, name->span, "no rule is named", name->text);
}

static void declare_mesh(struct resolver *resolver, struct ast_decl *decl)
{
	if (!resolver->ast->mesh) {
		resolver->ast->mesh = decl;
		return;
	}
	struct diag *diag = complain(resolver, DIAG_NO_MESH, decl->name.span, "a second mesh header", decl->name.text);
	diag->spans[1] = resolver->ast->mesh->name.span;
	diag->labels[1] = "the first is here";
}

static void declare(struct resolver *resolver, struct ast_decl *decl)
{
	struct ast *ast = resolver->ast;
	switch (decl->kind) {
	case DECL_MESH:
		check_name(resolver, &decl->name, false);
		declare_mesh(resolver, decl);
		break;
	case DECL_NAMESPACE:
		check_name(resolver, &decl->name, false);
		add_space(resolver, decl->name.text);
		break;
	case DECL_DEFAULT:
		check_name(resolver, &decl->name, false);
		add_space(resolver, decl->name.text);
		put_once(resolver, &ast->defaults, decl->name.text, decl);
		break;
	case DECL_SERVICE:
	case DECL_EXTERNAL:
	case DECL_IDENTITY:
	case DECL_CIDR:
	case DECL_GROUP: {
		const char *name = ast_qualified(resolver->run->arena, decl->ns, decl->name.text);
		check_name(resolver, &decl->name, false);
		put_once(resolver, &ast->names, name, decl);
		vec_push(resolver->run->arena, &ast->name_list, name);
		break;
	}
	case DECL_RULE:
		check_name(resolver, &decl->name, true);
		put_once(resolver, &ast->rules, decl->name.text, decl);
		vec_push(resolver->run->arena, &ast->rule_list, decl->name.text);
		break;
	case DECL_NEVER:
	case DECL_TEST:
		/* What is behind us decided the same by whatever names. */
		if (resolver->run->now)
			put_once(resolver, decl->kind == DECL_NEVER ? &ast->nevers : &ast->tests, decl->name.text,
				 decl);
		break;
	default:
		break;
	}
}

/* A namespace holds up to the next one or the end of its file. */
static void declare_all(struct resolver *resolver)
{
	const char *ns = NULL;
	uint32_t file = UINT32_MAX;
	bool said = false;
	for (struct ast_decl *decl = resolver->ast->first; decl; decl = decl->next) {
		if (decl->span.file != file) {
			ns = NULL;
			said = false;
		}
		file = decl->span.file;
		if (decl->kind == DECL_NAMESPACE)
			ns = decl->name.text;
		decl->ns = ns;
		bool free_standing = decl->kind == DECL_MESH || decl->kind == DECL_NAMESPACE ||
				     decl->kind == DECL_DEFAULT || decl->kind == DECL_MTLS;
		if (!ns && !free_standing && !said) {
			diag_add(&resolver->run->diags, DIAG_NO_NAMESPACE, decl->span,
				 "a declaration before the first namespace of this file")
				->note = "write `namespace NAME;` before it";
			said = true;
		}
		declare(resolver, decl);
	}
}

/* ---- References --------------------------------------------------------------------------------- */

static void hint_name(struct resolver *resolver, struct diag *diag, const struct ast_decl *decl, const char *name)
{
	struct ast *ast = resolver->ast;
	if (resolver->hints++ >= HINTS || !ast->name_list.len)
		return;
	const char **near = arena_alloc(resolver->run->arena, ast->name_list.len * sizeof(*near));
	size_t ns_len = decl->ns ? strlen(decl->ns) : 0;
	bool qualified = strchr(name, '/');
	for (size_t i = 0; i < ast->name_list.len; i++) {
		const char *full = ast->name_list.at[i];
		bool here = !qualified && decl->ns && strncmp(full, decl->ns, ns_len) == 0 && full[ns_len] == '/';
		near[i] = here ? full + ns_len + 1 : full;
	}
	diag->fix = diag_nearest(name, near, ast->name_list.len);
	diag->fix_span = diag->spans[0];
	for (size_t i = 0; !diag->fix && !qualified && i < ast->name_list.len; i++) {
		const char *slash = strchr(ast->name_list.at[i], '/');
		if (slash && strcmp(slash + 1, name) == 0)
			diag->fix = ast->name_list.at[i];
	}
}

static struct ast_decl *bind_name(struct resolver *resolver, const struct ast_decl *decl, const struct ast_text *name)
{
	struct ast_decl *found = ast_lookup(resolver->run->arena, resolver->ast, decl, name->text);
	if (!found) {
		struct diag *diag = complain(resolver, DIAG_UNKNOWN_NAME, name->span, "nothing is named", name->text);
		hint_name(resolver, diag, decl, name->text);
	}
	return found;
}

static unsigned holds_of(struct resolver *resolver, struct ast_decl *decl);

static unsigned group_holds(struct resolver *resolver, struct ast_decl *group)
{
	struct group_state *state = group->bound;
	if (state && state->state == GROUP_OPEN) {
		complain(resolver, DIAG_CYCLE, group->name.span, "a group that contains itself:", group->name.text);
		state->state = GROUP_DONE;
	}
	if (state)
		return state->holds;
	group->bound = state = arena_alloc(resolver->run->arena, sizeof(*state));
	state->state = GROUP_OPEN;
	if (++resolver->depth == GROUP_DEPTH && !resolver->said_deep++)
		diag_add(&resolver->run->diags, DIAG_TOO_DEEP, group->name.span, "groups nested more than %d deep",
			 GROUP_DEPTH);
	for (struct ast_text *member = group->members; member && resolver->depth < GROUP_DEPTH; member = member->next) {
		struct ast_decl *found = bind_name(resolver, group, member);
		state->holds |= found ? holds_of(resolver, found) : 0;
	}
	state->state = GROUP_DONE;
	resolver->depth--;
	return state->holds;
}

static unsigned holds_of(struct resolver *resolver, struct ast_decl *decl)
{
	switch (decl->kind) {
	case DECL_SERVICE:
		return HOLDS_SERVICE;
	case DECL_EXTERNAL:
		return HOLDS_EXTERNAL;
	case DECL_IDENTITY:
		return HOLDS_IDENTITY;
	case DECL_CIDR:
		return HOLDS_CIDR;
	default:
		return group_holds(resolver, decl);
	}
}

static void bind_ref(struct resolver *resolver, const struct ast_decl *decl, struct ast_ref *ref, bool is_source)
{
	if (ref->kind == REF_NAMESPACE) {
		add_space(resolver, ref->name.text);
	} else if (ref->kind == REF_NODE && !is_source) {
		diag_add(&resolver->run->diags, DIAG_BAD_PARTY, ref->span, "`node` is a source, never a destination");
	} else if (ref->kind == REF_ADDRESS && decl->kind != DECL_TEST) {
		diag_add(&resolver->run->diags, DIAG_BAD_PARTY, ref->span, "an address stands in tests alone")->note =
			is_source ? "declare it: `cidr NAME = ADDRESS/PREFIX;`"
				  : "declare it: `external NAME { cidr ADDRESS/PREFIX; tcp PORT; }`";
	}
	if (ref->kind != REF_NAME)
		return;
	struct ast_decl *found = bind_name(resolver, decl, &ref->name);
	unsigned holds = found ? holds_of(resolver, found) : 0;
	unsigned wrong = holds & (is_source ? HOLDS_EXTERNAL : HOLDS_IDENTITY | HOLDS_CIDR);
	if (wrong) {
		struct diag *diag = diag_add(&resolver->run->diags, DIAG_WRONG_KIND, ref->span, "'%s' %s %s %s",
					     ref->name.text, found->kind == DECL_GROUP ? "holds" : "is",
					     wrong & HOLDS_EXTERNAL   ? "an external:"
					     : wrong & HOLDS_IDENTITY ? "an identity:"
								      : "a cidr:",
					     is_source ? "it cannot be a source" : "it cannot be a destination");
		diag->spans[1] = found->name.span;
		diag->labels[1] = "declared here";
		if (wrong & HOLDS_CIDR)
			diag->note = "a destination outside the mesh is an `external`";
	}
}

static void bind_party(struct resolver *resolver, const struct ast_decl *decl, struct ast_party *party, bool is_source)
{
	for (struct ast_ref *ref = party ? party->in : NULL; ref; ref = ref->next)
		bind_ref(resolver, decl, ref, is_source);
	for (struct ast_ref *ref = party ? party->out : NULL; ref; ref = ref->next)
		bind_ref(resolver, decl, ref, is_source);
}

static void bind_service_name(struct resolver *resolver, struct ast_decl *decl, const struct ast_text *name)
{
	struct ast_decl *found = bind_name(resolver, decl, name);
	if (found && found->kind != DECL_SERVICE)
		complain(resolver, DIAG_WRONG_KIND, name->span, "a service is wanted here, not", name->text);
	else if (found && decl->kind == DECL_ROUTE)
		put_once(resolver, &resolver->ast->routes, ast_qualified(resolver->run->arena, decl->ns, name->text),
			 decl);
	decl->bound = found;
}

static void bind_expect(struct resolver *resolver, struct ast_decl *decl, struct ast_expect *expect)
{
	struct ast *ast = resolver->ast;
	bind_party(resolver, decl, expect->from, true);
	bind_party(resolver, decl, expect->to, false);
	const char *by = expect->by.text;
	bool is_plaintext = by && strcmp(by, "plaintext") == 0 && strcmp(expect->what, "deny") == 0;
	if (!by || strcmp(expect->what, "subset") == 0 || strcmp(by, "default") == 0 || is_plaintext ||
	    table_get(&ast->rules, by))
		return;
	struct diag *diag = complain(resolver, DIAG_UNKNOWN_NAME, expect->by.span, "no rule is named", by);
	if (resolver->hints++ < HINTS)
		diag->fix = diag_nearest(by, ast->rule_list.at, ast->rule_list.len);
	diag->fix_span = expect->by.span;
}

static void bind(struct resolver *resolver, struct ast_decl *decl)
{
	const char *ns, *account;
	struct ast_decl *mesh = resolver->ast->mesh;
	bind_party(resolver, decl, decl->from, true);
	bind_party(resolver, decl, decl->to, false);
	for (struct ast_arm *arm = decl->arms; arm; arm = arm->next)
		bind_party(resolver, decl, arm->from, true);
	for (struct ast_expect *expect = decl->expects; expect; expect = expect->next)
		bind_expect(resolver, decl, expect);
	if (decl->kind == DECL_GROUP)
		group_holds(resolver, decl);
	if (decl->kind == DECL_ROUTE)
		bind_service_name(resolver, decl, &decl->name);
	if (decl->kind == DECL_MTLS && decl->scope && decl->scope->kind == REF_NAME)
		bind_service_name(resolver, decl, &decl->scope->name);
	if (decl->kind == DECL_MTLS && decl->scope && decl->scope->kind == REF_NAMESPACE)
		add_space(resolver, decl->scope->name.text);
	if (decl->kind == DECL_IDENTITY && mesh && mesh->value.text &&
	    spiffe_read(resolver->run->arena, mesh->value.text, decl->value.text, &ns, &account))
		add_space(resolver, ns);
}

void resolve(struct run *run)
{
	struct resolver resolver = {.run = run, .ast = run->ast};
	struct ast *ast = run->ast;
	ast->names.arena = ast->rules.arena = ast->spaces.arena = ast->defaults.arena = ast->routes.arena = run->arena;
	ast->nevers.arena = ast->tests.arena = run->arena;
	declare_all(&resolver);
	if (!ast->mesh) {
		struct span start = {.len = run->sources.files.len && run->sources.files.at[0].len > 0};
		diag_add(&run->diags, DIAG_NO_MESH, start, "this policy has no mesh header")->note =
			"write `mesh NAME: trust \"DOMAIN\", ingress deny, egress deny;`";
	}
	for (struct ast_decl *decl = ast->first; decl; decl = decl->next)
		bind(&resolver, decl);
}
