/* Routes and tests: what refers to the ports and subsets of one service. */
#include "pass/check.h"

#include "base/address.h"

enum { SPLIT_LIMIT = 64 };

/* ---- Routes ------------------------------------------------------------------------------------- */

static void check_subset(struct checker *checker, const struct ast_decl *service, const char *name, struct span span)
{
	VEC(const char *) names = {0};
	for (const struct ast_item *item = service->items; item; item = item->next) {
		if (item->kind != ITEM_SUBSET)
			continue;
		if (strcmp(item->texts->text, name) == 0)
			return;
		vec_push(checker->arena, &names, item->texts->text);
	}
	struct diag *diag =
		diag_add(checker->diags, DIAG_UNKNOWN_NAME, span, "'%s' has no subset '%s'", service->name.text, name);
	diag->fix = diag_nearest(name, names.at, names.len);
	diag->fix_span = span;
}

static void check_splits(struct checker *checker, const struct ast_decl *service, const struct ast_arm *arm)
{
	long long sum = 0;
	unsigned count = 0;
	for (const struct ast_split *split = arm->splits; split; split = split->next) {
		if (split->weight < 0 || split->weight > 1000000)
			diag_add(checker->diags, DIAG_BAD_WEIGHT, split->span, "a weight is at most 1000000");
		sum += split->weight > 0 ? split->weight : 0;
		if (++count > SPLIT_LIMIT) {
			diag_add(checker->diags, DIAG_BAD_ROUTE, split->span, "more than %d shares", SPLIT_LIMIT);
			return;
		}
		if (split->subset)
			check_subset(checker, service, split->subset->text, split->subset->span);
		for (const struct ast_split *before = arm->splits; before != split; before = before->next)
			if ((!before->subset && !split->subset) ||
			    (before->subset && split->subset &&
			     strcmp(before->subset->text, split->subset->text) == 0)) {
				diag_add(checker->diags, DIAG_BAD_ROUTE, split->span,
					 "a second share for the same backends");
				break;
			}
	}
	if (!sum)
		diag_add(checker->diags, DIAG_BAD_WEIGHT, arm->span, "the weights of this split sum to 0");
}

void check_route(struct checker *checker, struct ast_decl *decl)
{
	const struct ast_decl *service = decl->bound;
	struct speaks speaks = {.is_route = true};
	const struct ast_arm *last = NULL;
	bool sticky = false;
	check_speaks(service, NULL, &speaks);
	for (const struct ast_arm *arm = decl->arms; arm; arm = arm->next) {
		if (arm->sticky && sticky)
			diag_add(checker->diags, DIAG_DUPLICATE, arm->span, "this route is sticky already");
		sticky |= arm->sticky;
		if (arm->sticky)
			continue;
		if (last && !last->when && !last->from)
			diag_add(checker->diags, DIAG_BAD_ROUTE, arm->span,
				 "nothing reaches an arm behind one without a condition");
		check_splits(checker, service, arm);
		check_condition(checker, arm->when, &speaks);
		last = arm;
	}
	if (!last)
		diag_add(checker->diags, DIAG_EMPTY, decl->span, "a route without a split");
	else if (last->when || last->from)
		diag_add(checker->diags, DIAG_BAD_ROUTE, last->span,
			 "the last arm has no condition: it takes what is left")
			->note = "add `split 100;`";
}

/* ---- Tests -------------------------------------------------------------------------------------- */

static void check_address(struct checker *checker, const struct ast_ref *ref)
{
	struct address_range range;
	enum address_fault fault = address_read(ref->name.text, &range);
	if (fault != ADDRESS_FINE || range.is_cidr)
		diag_add(checker->diags, fault == ADDRESS_MAPPED ? DIAG_MAPPED_ADDRESS : DIAG_BAD_ADDRESS, ref->span,
			 "'%s' is not one address", ref->name.text);
	else if (address_is_of_link(&range))
		diag_add(checker->diags, DIAG_BAD_ADDRESS, ref->span, "'%s' %s", ref->name.text,
			 address_flaw(NATURE_LINK_LOCAL));
}

static void check_test_port(struct checker *checker, const struct ast_expect *expect, const struct ast_decl *to)
{
	const struct ast_range *port = expect->to->ports;
	if (port) {
		if (check_ranges(checker, port) && (port->next || port->lo != port->hi))
			diag_add(checker->diags, DIAG_BAD_TEST, port->span, "a test is of one port");
		else if (to && to->kind == DECL_SERVICE)
			check_no_service_port(checker, to, port);
		return;
	}
	unsigned count = 0;
	for (const struct ast_item *item = to ? to->items : NULL; item; item = item->next)
		if (item->kind == ITEM_PORT)
			count += item->ports->lo == item->ports->hi ? 1 : 2;
	if (count != 1)
		diag_add(checker->diags, DIAG_BAD_TEST, expect->to->span, "say the port: `port N`");
}

/* Is there anybody behind REF who has a certificate? */
static bool shows_certificate(struct checker *checker, const struct ast_decl *test, const struct ast_ref *ref)
{
	if (ref->kind != REF_NAME)
		return ref->kind == REF_ANY || ref->kind == REF_NAMESPACE;
	struct ast_decl *decl = ast_lookup(checker->arena, checker->ast, test, ref->name.text), **leaves = &decl;
	size_t count = 1;
	if (decl->kind == DECL_GROUP)
		leaves = ast_leaves(checker->arena, checker->ast, decl, &count);
	for (size_t i = 0; i < count; i++)
		if (leaves[i]->kind == DECL_SERVICE || leaves[i]->kind == DECL_IDENTITY)
			return true;
	return false;
}

/* A service's declaration of the port says its protocol. */
static bool is_udp(const struct ast_decl *to, const struct ast_range *port)
{
	for (const struct ast_item *item = to ? to->items : NULL; item; item = item->next) {
		if (item->kind != ITEM_PORT)
			continue;
		struct range ports = check_item_ports(item);
		if (!port || (port->lo >= ports.lo && port->lo <= ports.hi))
			return strcmp(item->protocol, "udp") == 0;
	}
	return false;
}

/* "true" is said of a source that has a certificate; of several, those that have none are left out. */
static void check_shown(struct checker *checker, const struct ast_decl *test, const struct ast_expect *expect,
			const struct ast_decl *to, const struct ast_with *with, const struct speaks *speaks)
{
	struct ast_expr atom = {.name = with->name, .key = with->key, .op = AST_IS, .span = with->span};
	bool shown = false, yes = strcmp(with->value.text, "true") == 0;
	check_condition(checker, &atom, speaks);
	if (!yes && strcmp(with->value.text, "false") != 0)
		diag_add(checker->diags, DIAG_BAD_VALUE, with->value.span, "'%s' is \"true\" or \"false\"",
			 with->name.text);
	for (const struct ast_ref *ref = expect->from->in; ref; ref = ref->next)
		shown |= shows_certificate(checker, test, ref);
	if (yes && is_udp(to, expect->to->ports))
		diag_add(checker->diags, DIAG_BAD_TEST, with->span, "no certificate is shown over udp");
	else if (yes && !shown)
		diag_add(checker->diags, DIAG_BAD_TEST, with->span, "this source shows no certificate");
}

/* A request has one method, one host, one path; grpc.method is its path. A header may come twice. */
static void check_said_once(struct checker *checker, const struct ast_with *all, const struct ast_with *with)
{
	enum field field = field_find(with->name.text);
	for (const struct ast_with *before = all; before != with; before = before->next) {
		enum field other = field_find(before->name.text);
		bool path = (field == FIELD_PATH && other == FIELD_GRPC_METHOD) ||
			    (field == FIELD_GRPC_METHOD && other == FIELD_PATH);
		if (field == FIELDS || field_type(field) == FIELD_TYPE_KEYED || (field != other && !path))
			continue;
		diag_add(checker->diags, DIAG_BAD_TEST, with->span, "a request has one '%s': '%s' says it already",
			 with->name.text, before->name.text);
		return;
	}
}

static void check_with(struct checker *checker, const struct ast_decl *test, const struct ast_expect *expect,
		       const struct ast_decl *to)
{
	struct speaks speaks = {.l4 = !to || to->kind != DECL_SERVICE};
	bool method = false, l7 = false;
	if (!expect->with)
		return;
	if (speaks.l4)
		speaks.foreign = to ? to->name.text : expect->to->in->kind == REF_WORLD ? "world" : "an address";
	else
		check_speaks(to, expect->to->ports, &speaks);
	for (const struct ast_with *with = expect->with; with; with = with->next) {
		enum field field = field_find(with->name.text);
		/* Any value is fine: a malformed request is one too. */
		struct ast_expr atom = {.name = with->name, .key = with->key, .op = AST_LIKE, .span = with->span};
		l7 |= field == FIELDS || field_is_l7(field);
		check_said_once(checker, expect->with, with);
		if (field == FIELD_VERIFIED)
			check_shown(checker, test, expect, to, with, &speaks);
		else if (field < FIELDS && !field_is_l7(field))
			diag_add(checker->diags, DIAG_BAD_TEST, with->span, "the port is said by `port N`");
		else
			check_condition(checker, &atom, &speaks);
		method |= field == FIELD_METHOD || field == FIELD_GRPC_METHOD;
	}
	if (l7 && !method)
		diag_add(checker->diags, DIAG_BAD_TEST, expect->with->span,
			 "a request has a method: add http.method = \"GET\"");
}

static void check_expect(struct checker *checker, struct ast_decl *test, struct ast_expect *expect)
{
	const struct ast_ref *to = expect->to->in;
	const struct ast_decl *decl = NULL;
	for (const struct ast_ref *ref = expect->from->in; ref; ref = ref->next)
		if (ref->kind == REF_ADDRESS)
			check_address(checker, ref);
	for (const struct ast_ref *ref = expect->from->out; ref; ref = ref->next)
		if (ref->kind == REF_ADDRESS)
			diag_add(checker->diags, DIAG_BAD_TEST, ref->span,
				 "leave this address out of the list instead");
	if (to->kind == REF_NAME)
		decl = ast_lookup(checker->arena, checker->ast, test, to->name.text);
	if (to->kind == REF_ADDRESS)
		check_address(checker, to);
	if (to->next || expect->to->out || to->kind == REF_ANY || to->kind == REF_NAMESPACE || to->kind == REF_NODE ||
	    (decl && decl->kind == DECL_GROUP)) {
		diag_add(checker->diags, DIAG_BAD_TEST, expect->to->span,
			 "a test is of one destination: a service, an external, world or an address");
		return;
	}
	if (strcmp(expect->what, "audit") == 0 && !expect->by.text)
		diag_add(checker->diags, DIAG_BAD_TEST, expect->span, "which audit? Write `expect audit by RULE`");
	check_test_port(checker, expect, decl);
	check_with(checker, test, expect, decl);
	if (strcmp(expect->what, "subset") == 0) {
		if (!decl || decl->kind != DECL_SERVICE)
			diag_add(checker->diags, DIAG_BAD_TEST, expect->to->span, "only a service has subsets");
		else
			check_subset(checker, decl, expect->by.text, expect->by.span);
	}
}

void check_test(struct checker *checker, struct ast_decl *decl)
{
	if (!decl->expects)
		diag_add(checker->diags, DIAG_EMPTY, decl->span, "a test that expects nothing");
	for (struct ast_expect *expect = decl->expects; expect; expect = expect->next)
		check_expect(checker, decl, expect);
}
