#include "verb/suggest.h"

#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/format.h"
#include "pass/suggest.h"

struct suggesting {
	struct run *run;
	const struct policy *policy;
	const char *only; /* the one namespace that there is: names need not say it; NULL: there are more */
	struct text out;
	size_t expects, comments;
};

/* ---- Words ------------------------------------------------------------------------------------------- */

static void add_name(struct suggesting *suggesting, const char *full)
{
	size_t len = suggesting->only ? strlen(suggesting->only) : 0;
	bool is_short = len && strncmp(full, suggesting->only, len) == 0 && full[len] == '/';
	ast_print_name(&suggesting->out, is_short ? full + len + 1 : full);
}

/* The name that an identity was declared by; else that of its class. */
static const char *name_of(const struct policy *policy, uint32_t class)
{
	for (size_t i = 0; i < policy->identities.len && policy->classes.at[class].kind == CLASS_IDENTITY; i++)
		if (policy->identities.at[i].class == class)
			return policy->identities.at[i].name;
	return policy->classes.at[class].name;
}

/* An address in BLOCK, or, with BLOCK UINT32_MAX, one that leads to DST. */
static void add_address(struct suggesting *suggesting, uint32_t block, uint32_t dst)
{
	const struct policy *policy = suggesting->policy;
	for (size_t i = 0; i < policy->intervals.len; i++) {
		uint32_t mine = policy->intervals.at[i].block;
		struct address_range range = {0};
		if (block == UINT32_MAX ? policy->block_dst.at[mine] != dst : mine != block)
			continue;
		for (int k = 0; k < 16; k++)
			range.lo = range.lo << 8 | policy->intervals.at[i].first[k];
		range.hi = range.lo;
		range.is_v6 = range.lo >> 32 != 0xffff;
		text_add(&suggesting->out, "%s", address_print(suggesting->run->arena, &range));
		return;
	}
}

/* A workload of no service: what is left of its namespace. */
static void add_namespace(struct suggesting *suggesting, uint32_t class)
{
	const struct policy *policy = suggesting->policy;
	const char *ns = policy->classes.at[class].ns, *before = " except ";
	text_add(&suggesting->out, "namespace ");
	ast_print_name(&suggesting->out, ns);
	for (uint32_t i = 0; i < policy->sources; i++) {
		if (i == class || !policy->classes.at[i].ns || strcmp(policy->classes.at[i].ns, ns) != 0)
			continue;
		text_add(&suggesting->out, "%s", before);
		add_name(suggesting, name_of(policy, i));
		before = ", ";
	}
}

/* A namespace that nobody knows. */
static const char *nowhere(const struct suggesting *suggesting)
{
	const struct policy *policy = suggesting->policy;
	const char *name = "elsewhere";
	for (uint32_t i = 0, number = 2; i < policy->classes.len; i++)
		if (policy->classes.at[i].ns && strcmp(policy->classes.at[i].ns, name) == 0) {
			name = arena_printf(suggesting->run->arena, "elsewhere%u", number++);
			i = 0;
		}
	return name;
}

static void add_source(struct suggesting *suggesting, const struct request *request)
{
	switch (suggesting->policy->classes.at[request->src].kind) {
	case CLASS_WORLD:
		if (request->block)
			add_address(suggesting, request->block, 0);
		else
			text_add(&suggesting->out, "world");
		break;
	case CLASS_NODE:
		text_add(&suggesting->out, "node");
		break;
	case CLASS_OTHER:
		text_add(&suggesting->out, "namespace %s", nowhere(suggesting));
		break;
	case CLASS_NAMESPACE:
		add_namespace(suggesting, request->src);
		break;
	default:
		add_name(suggesting, name_of(suggesting->policy, request->src));
	}
}

/* A port that need not be said: the one that there is. */
static bool is_only_port(const struct policy_port *ports, size_t count, uint16_t number)
{
	return count == 1 && ports[0].lo == ports[0].hi && ports[0].target == number;
}

static void add_target(struct suggesting *suggesting, const struct request *request)
{
	const struct policy *policy = suggesting->policy;
	const struct policy_class *class = &policy->classes.at[request->dst];
	uint32_t external = class->kind == CLASS_EXTERNAL ? suggest_external(policy, request->dst) : UINT32_MAX;
	bool only = false;
	if (class->kind == CLASS_SERVICE) {
		const struct policy_service *service = &policy->services.at[class->service];
		add_name(suggesting, class->name);
		only = is_only_port(service->ports.at, service->ports.len, request->port);
	} else if (external != UINT32_MAX) {
		add_name(suggesting, policy->externals.at[external].name);
		only = is_only_port(policy->externals.at[external].ports.at, policy->externals.at[external].ports.len,
				    request->port);
	} else if (class->kind == CLASS_WORLD) {
		text_add(&suggesting->out, "world");
	} else {
		add_address(suggesting, UINT32_MAX, request->dst);
	}
	if (!only)
		text_add(&suggesting->out, " port %u", request->port);
}

static void add_with(struct suggesting *suggesting, const char *field, const char *key, const char *value,
		     const char **before)
{
	if (!value)
		return;
	text_add(&suggesting->out, "%s%s", *before, field);
	*before = ", ";
	if (key) {
		text_add(&suggesting->out, "[");
		ast_print_string(&suggesting->out, key);
		text_add(&suggesting->out, "]");
	}
	text_add(&suggesting->out, " = ");
	ast_print_string(&suggesting->out, value);
}

static void add_withs(struct suggesting *suggesting, const struct request *request)
{
	const char *before = " with ";
	if (request->verified != VERIFIED_UNSAID)
		add_with(suggesting, "peer.verified", NULL, request->verified == VERIFIED_YES ? "true" : "false",
			 &before);
	if (!request->method)
		return;
	bool grpc =
		request->path && strcmp(request->method, "POST") == 0 && suggest_is_grpc(suggesting->policy, request);
	if (grpc)
		add_with(suggesting, "grpc.method", NULL, request->path + 1, &before);
	else
		add_with(suggesting, "http.method", NULL, request->method, &before);
	add_with(suggesting, "http.host", NULL, request->host, &before);
	add_with(suggesting, "http.path", NULL, grpc ? NULL : request->path, &before);
	for (size_t i = 0; i < request->headers.len; i++)
		add_with(suggesting, "http.header", request->headers.at[i].name, request->headers.at[i].value, &before);
}

/* ---- The block --------------------------------------------------------------------------------------- */

static void add_rule(struct suggesting *suggesting, uint32_t rank)
{
	static const char *const effects[] = {"deny", "allow", "audit"};
	static const char *const reasons[] = {[SUGGEST_NONE] = "decides no request: others hide it",
					      [SUGGEST_UNSAID] = "decides no request that a test can say",
					      [SUGGEST_GAVE_UP] = "no request was found within the bound on work"};
	const struct policy_rule *rule = &suggesting->policy->rules.at[rank];
	struct request request;
	enum suggested found = suggest(suggesting->run, rank, &request);
	if (found != SUGGEST_FOUND) {
		text_add(&suggesting->out, "  # %s: %s\n", rule->name, reasons[found]);
		suggesting->comments++;
		return;
	}
	text_add(&suggesting->out, "  expect %s by ", effects[rule->effect]);
	ast_print_name(&suggesting->out, rule->name);
	text_add(&suggesting->out, ": from ");
	add_source(suggesting, &request);
	text_add(&suggesting->out, " to ");
	add_target(suggesting, &request);
	add_withs(suggesting, &request);
	text_add(&suggesting->out, ";\n");
	suggesting->expects++;
}

static const char *free_name(const struct policy *policy, struct arena *arena)
{
	const char *name = "each rule decides a request";
	for (size_t i = 0, number = 2; i < policy->tests.len; i++)
		if (strcmp(policy->tests.at[i].name, name) == 0) {
			name = arena_printf(arena, "each rule decides a request, %zu", number++);
			i = (size_t)-1;
		}
	return name;
}

static const char *only_namespace(const struct ast *ast)
{
	const char *only = NULL;
	for (const struct ast_decl *decl = ast->first; decl; decl = decl->next) {
		if (decl->kind != DECL_NAMESPACE)
			continue;
		if (only && strcmp(only, decl->name.text) != 0)
			return NULL;
		only = decl->name.text;
	}
	return only;
}

/* In canonical form, which proves that it can be read. */
static int print_canonical(const char *text)
{
	struct run run;
	const struct options options = {0};
	int code = verb_begin(&options, &run);
	if (code)
		return code;
	sources_add(&run.sources, "suggested", text, strlen(text));
	if (pipeline_parse(&run)) {
		diags_print(&run.diags, stderr, false);
		fputs("meshc: a bug of ours: the suggested test cannot be read\n", stderr);
		code = EXIT_BUG;
	} else {
		fputs(format_file(&run, 0), stdout);
	}
	verb_done(&run);
	return code;
}

int suggest_print(struct run *run, const struct coverage *coverage)
{
	struct suggesting suggesting = {
		.run = run, .policy = run->policy, .only = only_namespace(run->ast), .out = {.arena = run->arena}};
	for (uint32_t rank = 0; rank < run->policy->rules.len; rank++)
		if (!coverage_has_rule(coverage, rank))
			add_rule(&suggesting, rank);
	if (!suggesting.expects && !suggesting.comments) {
		fputs("meshc: nothing to suggest: each rule decides a test request\n", stderr);
		return EXIT_YES;
	}
	const char *inside = text_end(&suggesting.out);
	if (!suggesting.expects) /* a block of nothing is an error */
		return print_canonical(inside);
	struct text block = {.arena = run->arena};
	text_add(&block, "test ");
	ast_print_string(&block, free_name(run->policy, run->arena));
	text_add(&block, " {\n%s}\n", inside);
	return print_canonical(text_end(&block));
}
