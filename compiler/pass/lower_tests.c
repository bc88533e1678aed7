/* Tests: expectations to requests. */
#include "pass/lower.h"

#include <ctype.h>

struct testing {
	struct lowerer *lowerer;
	const struct ast_decl *test;
	struct policy_expect *expect;
	struct request request;	       /* all but the source */
	struct policy_sources sources; /* for what `except` takes away */
};

static bool in_set(const struct range_set *set, uint32_t number)
{
	for (uint32_t i = 0; i < set->count; i++)
		if (number >= set->at[i].lo && number <= set->at[i].hi)
			return true;
	return false;
}

static void add_request(struct testing *testing, uint32_t class, uint32_t block, const char *label)
{
	struct arena *arena = testing->lowerer->arena;
	for (size_t i = 0; i < testing->sources.out.len; i++)
		if (in_set(&testing->sources.out.at[i].classes, class) &&
		    in_set(&testing->sources.out.at[i].blocks, block))
			return;
	if (testing->request.verified == VERIFIED_YES && !policy_shows_certificate(testing->lowerer->policy, class))
		return;
	testing->request.src = class;
	testing->request.block = block;
	vec_push(arena, &testing->expect->requests, testing->request);
	vec_push(arena, &testing->expect->labels, label ? label : testing->lowerer->policy->classes.at[class].name);
}

static void add_member(struct testing *testing, struct ast_decl *decl)
{
	struct lowerer *lowerer = testing->lowerer;
	size_t count = 0;
	struct ast_decl **leaves;
	if (decl->kind == DECL_GROUP) {
		leaves = ast_leaves(lowerer->arena, lowerer->ast, decl, &count);
		for (size_t i = 0; i < count; i++)
			add_member(testing, leaves[i]);
	} else if (decl->kind == DECL_CIDR) {
		const struct numbers *blocks = &lowerer->atoms.at[decl->number].blocks;
		for (size_t i = 0; i < blocks->len; i++)
			add_request(testing, CLASS_WORLD, blocks->at[i], decl->name.text);
	} else {
		add_request(testing, decl->number, 0, NULL);
	}
}

/* Every known member, and one that nobody knows: a workload of the namespace but of no service. */
static void add_from(struct testing *testing, const struct ast_ref *ref)
{
	struct lowerer *lowerer = testing->lowerer;
	struct address_range range;
	struct space *space;
	switch (ref->kind) {
	case REF_NAME:
		add_member(testing, ast_lookup(lowerer->arena, lowerer->ast, testing->test, ref->name.text));
		break;
	case REF_NAMESPACE:
		space = table_get(&lowerer->spaces, ref->name.text);
		for (size_t i = 0; i < space->sources.len; i++)
			add_request(testing, space->sources.at[i], 0, NULL);
		break;
	case REF_ANY:
		for (uint32_t class = CLASS_WORLD; class < lowerer->policy->sources; class ++)
			if (class != CLASS_CONFLICT)
				add_request(testing, class, 0, NULL);
		for (uint32_t block = 1; block < lowerer->policy->blocks; block++)
			add_request(testing, CLASS_WORLD, block, "an address in a cidr");
		break;
	case REF_WORLD:
		add_request(testing, CLASS_WORLD, 0, NULL);
		break;
	case REF_NODE:
		add_request(testing, CLASS_NODE, 0, NULL);
		break;
	case REF_ADDRESS:
		address_read(ref->name.text, &range);
		add_request(testing, CLASS_WORLD, policy_block(lowerer->policy, range.lo), ref->name.text);
		break;
	}
}

/* ---- The destination ---------------------------------------------------------------------------- */

static void take_port(struct request *request, const struct policy_port *ports, size_t count,
		      const struct ast_range *said)
{
	request->port = said ? said->lo : count ? ports[0].target : 0;
	for (size_t i = 0; i < count; i++) {
		uint32_t hi = ports[i].target == ports[i].lo ? ports[i].hi : ports[i].target;
		if (request->port < ports[i].target || request->port > hi)
			continue;
		request->udp = ports[i].kind == PORT_UDP;
		request->http = ports[i].kind == PORT_HTTP || ports[i].kind == PORT_GRPC;
		return;
	}
}

/* Of the classes that an external lies in, the one that it has to itself, else the first. */
static uint32_t class_of_external(const struct lowerer *lowerer, const struct ast_decl *decl)
{
	const struct numbers *classes = &lowerer->atoms.at[decl->number].classes;
	for (size_t i = 0; i < classes->len; i++)
		if (lowerer->policy->classes.at[classes->at[i]].externals.len == 1)
			return classes->at[i];
	return classes->len ? classes->at[0] : CLASS_WORLD;
}

static void take_destination(struct testing *testing, const struct ast_party *to)
{
	struct lowerer *lowerer = testing->lowerer;
	struct policy *policy = lowerer->policy;
	struct request *request = &testing->request;
	struct address_range range;
	request->dst = CLASS_WORLD;
	if (to->in->kind == REF_ADDRESS) {
		address_read(to->in->name.text, &range);
		request->dst = policy->block_dst.at[policy_block(policy, range.lo)];
	}
	if (to->in->kind != REF_NAME) {
		take_port(request, NULL, 0, to->ports);
		return;
	}
	const struct ast_decl *decl = ast_lookup(lowerer->arena, lowerer->ast, testing->test, to->in->name.text);
	if (decl->kind == DECL_SERVICE) {
		const struct policy_service *service = &policy->services.at[policy->classes.at[decl->number].service];
		request->dst = decl->number;
		take_port(request, service->ports.at, service->ports.len, to->ports);
	} else {
		const struct policy_external *external =
			&policy->externals.at[lowerer->atoms.at[decl->number].external];
		request->dst = class_of_external(lowerer, decl);
		take_port(request, external->ports.at, external->ports.len, to->ports);
		request->http = false;
	}
}

static void take_with(struct testing *testing, const struct ast_with *with)
{
	struct request *request = &testing->request;
	struct arena *arena = testing->lowerer->arena;
	char *key = with->key ? arena_copy(arena, with->key, strlen(with->key)) : NULL;
	for (char *c = key; c && *c; c++)
		*c = tolower((unsigned char)*c);
	switch (field_find(with->name.text)) {
	case FIELD_METHOD:
		request->method = with->value.text;
		break;
	case FIELD_HOST:
		request->host = with->value.text;
		break;
	case FIELD_PATH:
		request->path = with->value.text;
		break;
	case FIELD_GRPC_METHOD: /* gRPC over HTTP/2: always POST */
		request->method = request->method ? request->method : "POST";
		request->path = arena_printf(arena, "/%s", with->value.text);
		break;
	case FIELD_VERIFIED:
		request->verified = with->value.text[0] == 't' ? VERIFIED_YES : VERIFIED_NO;
		break;
	case FIELD_HEADER:
		vec_push(arena, &request->headers, (struct request_header){key, with->value.text});
		break;
	default:
		break;
	}
}

static struct policy_expect lower_expect(struct lowerer *lowerer, const struct ast_decl *test,
					 const struct ast_expect *ast)
{
	struct policy_expect expect = {.by = ast->by.text, .span = ast->span};
	struct testing testing = {.lowerer = lowerer,
				  .test = test,
				  .expect = &expect,
				  .sources = lower_sources(lowerer, test, ast->from)};
	expect.kind = ast->what[0] == 'd'   ? EXPECT_DENY
		      : ast->what[0] == 's' ? EXPECT_SUBSET
		      : ast->what[1] == 'l' ? EXPECT_ALLOW
					    : EXPECT_AUDIT;
	take_destination(&testing, ast->to);
	for (const struct ast_with *with = ast->with; with; with = with->next)
		take_with(&testing, with);
	for (const struct ast_ref *ref = ast->from->in; ref; ref = ref->next)
		add_from(&testing, ref);
	return expect;
}

void lower_tests(struct lowerer *lowerer)
{
	for (const struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next) {
		struct policy_test test = {.name = decl->name.text, .span = decl->span};
		if (decl->kind != DECL_TEST)
			continue;
		for (const struct ast_expect *expect = decl->expects; expect; expect = expect->next)
			vec_push(lowerer->arena, &test.expects, lower_expect(lowerer, decl, expect));
		vec_push(lowerer->arena, &lowerer->policy->tests, test);
	}
}
