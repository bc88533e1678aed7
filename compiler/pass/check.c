/* Types and values: ports, addresses, dates, and what may stand at which end. Behind it, lowering
 * cannot fail. */
#include "pass/check.h"

#include "base/address.h"
#include "base/spiffe.h"

#include <stdlib.h>

/* ---- Ports -------------------------------------------------------------------------------------- */

bool check_ranges(struct checker *checker, const struct ast_range *ranges)
{
	bool fine = true;
	for (const struct ast_range *range = ranges; range; range = range->next) {
		if (range->lo < 1 || range->hi < 1 || range->lo > 65535 || range->hi > 65535)
			diag_add(checker->diags, DIAG_BAD_PORT, range->span, "a port is 1 to 65535");
		else if (range->lo > range->hi)
			diag_add(checker->diags, DIAG_BAD_PORT, range->span, "this range is upside down");
		else
			continue;
		fine = false;
	}
	return fine;
}

struct range check_item_ports(const struct ast_item *item)
{
	if (item->target >= 0)
		return (struct range){item->target, item->target};
	return (struct range){item->ports->lo, item->ports->hi};
}

static bool overlaps(const struct ast_range *ranges, uint32_t lo, uint32_t hi)
{
	for (const struct ast_range *range = ranges; range; range = range->next)
		if (range->lo <= hi && range->hi >= lo)
			return true;
	return false;
}

void check_speaks(const struct ast_decl *service, const struct ast_range *guard, struct speaks *speaks)
{
	bool any = false;
	for (const struct ast_item *item = service->items; item; item = item->next) {
		if (item->kind != ITEM_PORT)
			continue;
		struct range ports = check_item_ports(item);
		if (guard && !overlaps(guard, ports.lo, ports.hi))
			continue;
		any = true;
		speaks->http |= strcmp(item->protocol, "http") == 0;
		speaks->grpc |= strcmp(item->protocol, "grpc") == 0;
		if (strcmp(item->protocol, "tcp") == 0 || strcmp(item->protocol, "udp") == 0) {
			speaks->l4 = true;
			speaks->culprit = service->name.text;
		}
	}
	if (!any) {
		speaks->l4 = true;
		speaks->culprit = service->name.text;
	}
}

bool check_no_service_port(struct checker *checker, const struct ast_decl *service, const struct ast_range *ranges)
{
	for (const struct ast_range *range = ranges; range; range = range->next) {
		const struct ast_item *meant = NULL;
		bool is_workload = false;
		for (const struct ast_item *item = service->items; item; item = item->next) {
			if (item->kind != ITEM_PORT)
				continue;
			struct range ports = check_item_ports(item);
			is_workload |=
				overlaps(range, ports.lo, ports.hi) && range->lo >= ports.lo && range->hi <= ports.hi;
			if (item->target >= 0 && item->target != item->ports->lo && range->lo == item->ports->lo &&
			    range->hi == range->lo)
				meant = item;
		}
		if (!meant || is_workload)
			continue;
		struct diag *diag =
			diag_add(checker->diags, DIAG_UNKNOWN_PORT, range->span,
				 "%lld is the port of the service '%s'; conditions speak of the workload's, %lld",
				 range->lo, service->name.text, meant->target);
		diag->spans[1] = meant->span;
		diag->labels[1] = "declared here";
		diag->fix = arena_printf(checker->arena, "%lld", meant->target);
		diag->fix_span = range->span;
		diag->fix_sure = true;
		return false;
	}
	return true;
}

/* True where SERVICE declares a part of RANGE; *ret_near: the nearest port that it declares. */
static bool declares(const struct ast_decl *service, const struct ast_range *range, long long *ret_near)
{
	bool found = false;
	*ret_near = -1;
	for (const struct ast_item *item = service->items; item; item = item->next) {
		if (item->kind != ITEM_PORT)
			continue;
		struct range ports = check_item_ports(item);
		found |= range->lo <= ports.hi && range->hi >= ports.lo;
		if (*ret_near < 0 || llabs(ports.lo - range->lo) < llabs(*ret_near - range->lo))
			*ret_near = ports.lo;
	}
	return found;
}

/* ---- Addresses ---------------------------------------------------------------------------------- */

static bool read_address(struct checker *checker, const struct ast_text *text, bool is_cidr,
			 struct address_range *range)
{
	struct diag *diag;
	switch (address_read(text->text, range)) {
	case ADDRESS_FINE:
		if (is_cidr || !range->is_cidr)
			return true;
		diag_add(checker->diags, DIAG_BAD_ADDRESS, text->span, "an address without a prefix is wanted");
		return false;
	case ADDRESS_HOST_BITS:
		diag = diag_add(checker->diags, DIAG_HOST_BITS, text->span, "'%s' has bits set behind its prefix",
				text->text);
		diag->fix = address_print(checker->arena, range);
		diag->fix_span = text->span;
		return false;
	case ADDRESS_MAPPED:
		diag_add(checker->diags, DIAG_MAPPED_ADDRESS, text->span,
			 "write the IPv4 address: '%s' is one inside IPv6", text->text);
		return false;
	default:
		diag_add(checker->diags, DIAG_BAD_ADDRESS, text->span, "'%s' is no address", text->text);
		return false;
	}
}

static enum address_nature nature_of(unsigned __int128 address)
{
	uint8_t bytes[16];
	address_bytes(address, bytes);
	return address_nature(bytes);
}

/* A service's address is one that others reach its workloads by. */
static bool check_reachable(struct checker *checker, const struct ast_text *text, const struct address_range *range)
{
	const char *flaw = address_flaw(nature_of(range->lo));
	if (flaw)
		diag_add(checker->diags, DIAG_BAD_ADDRESS, text->span, "'%s' %s", text->text, flaw)->note =
			"no workload can be reached there: write the service's own address";
	return !flaw;
}

/* A block may reach over such addresses (0.0.0.0/0), and an external may be one of those that answer on an
 * IPv4 link or to many; but no packet that a policy decides about has loopback or nobody at its other end, and
 * none comes from many. Every process has an IPv6 link-local address beside its own, so that those name nobody. */
static void check_meets_packets(struct checker *checker, const struct ast_decl *decl, const struct ast_text *text,
				const struct address_range *range)
{
	enum address_nature nature = nature_of(range->lo);
	bool is_source = decl->kind == DECL_CIDR;
	bool never = nature == NATURE_UNSPECIFIED || nature == NATURE_LOOPBACK ||
		     (is_source && (nature == NATURE_MULTICAST || nature == NATURE_BROADCAST));
	if ((never && nature_of(range->hi) == nature) || address_is_of_link(range))
		diag_add(checker->diags, DIAG_BAD_ADDRESS, text->span, "'%s' %s", text->text, address_flaw(nature))
			->note = is_source ? "no packet that is decided about comes from there"
					   : "no packet that is decided about goes there";
}

struct ranges {
	struct address_range *at;
	size_t len, cap;
};

static int range_compare(const void *left, const void *right)
{
	const struct address_range *a = left, *b = right;
	return a->lo < b->lo ? -1 : a->lo > b->lo;
}

/* OUT is sorted. IPv4 lies in no IPv6 block, wherever its number does. */
static bool takes_all(const struct ranges *out, const struct address_range *range)
{
	unsigned __int128 at = range->lo;
	for (size_t i = 0; i < out->len; i++) {
		if (out->at[i].is_v6 != range->is_v6 || out->at[i].lo > at || out->at[i].hi < at)
			continue;
		if (out->at[i].hi >= range->hi)
			return true;
		at = out->at[i].hi + 1;
	}
	return false;
}

static void check_remains(struct checker *checker, const struct ast_decl *decl, const struct ast_item *item,
			  const struct ranges *in, struct ranges *out)
{
	if (!in->len || !out->len)
		return;
	qsort(out->at, out->len, sizeof(*out->at), range_compare);
	for (size_t i = 0; i < in->len; i++)
		if (!takes_all(out, &in->at[i]))
			return;
	struct diag *diag = diag_add(checker->diags, DIAG_EMPTY, item->except->span,
				     "nothing is left of '%s': `except` takes all of it away", decl->name.text);
	diag->spans[1] = item->texts->span;
	diag->labels[1] = "of this";
}

static void check_cidr(struct checker *checker, const struct ast_decl *decl, const struct ast_item *item)
{
	struct address_range range;
	struct ranges all = {0}, out = {0};
	for (const struct ast_text *text = item->texts; text; text = text->next) {
		if (!read_address(checker, text, true, &range))
			continue;
		check_meets_packets(checker, decl, text, &range);
		vec_push(checker->arena, &all, range);
	}
	for (const struct ast_text *text = item->except; text; text = text->next) {
		bool inside = false;
		if (!read_address(checker, text, true, &range))
			continue;
		for (size_t i = 0; i < all.len && !inside; i++)
			inside = range.is_v6 == all.at[i].is_v6 && range.lo >= all.at[i].lo && range.hi <= all.at[i].hi;
		if (!inside)
			diag_add(checker->diags, DIAG_OUTSIDE, text->span,
				 "'%s' does not lie inside: there is nothing to take away", text->text);
		else
			vec_push(checker->arena, &out, range);
	}
	check_remains(checker, decl, item, &all, &out);
}

/* ---- Services and externals --------------------------------------------------------------------- */

static bool is_udp(const struct ast_item *item)
{
	return strcmp(item->protocol, "udp") == 0;
}

/* The first port that A and B both serve on one protocol, or NULL. */
static const struct ast_item *shared_port(const struct ast_item *a, const struct ast_item *b)
{
	for (; a; a = a->next)
		for (const struct ast_item *other = b; a->kind == ITEM_PORT && other; other = other->next)
			if (other->kind == ITEM_PORT && is_udp(a) == is_udp(other) &&
			    a->ports->lo <= other->ports->hi && a->ports->hi >= other->ports->lo)
				return a;
	return NULL;
}

static void check_port(struct checker *checker, const struct ast_decl *decl, const struct ast_item *item)
{
	if (!check_ranges(checker, item->ports))
		return;
	if (item->target == -1 && item->ports->lo < 0)
		return;
	if (item->target != -1 && (item->target < 1 || item->target > 65535))
		diag_add(checker->diags, DIAG_BAD_PORT, item->span, "a port is 1 to 65535");
	if (item->target != -1 && item->ports->lo != item->ports->hi)
		diag_add(checker->diags, DIAG_BAD_PORT, item->span, "a range cannot have another port at the workload");
	struct range mine = check_item_ports(item);
	for (const struct ast_item *before = decl->items; before != item; before = before->next) {
		if (before->kind != ITEM_PORT || is_udp(before) != is_udp(item))
			continue;
		struct range theirs = check_item_ports(before);
		bool same_service = before->ports->lo <= item->ports->hi && before->ports->hi >= item->ports->lo;
		bool same_workload = theirs.lo <= mine.hi && theirs.hi >= mine.lo;
		if (!same_service && !(same_workload && strcmp(before->protocol, item->protocol) != 0))
			continue;
		struct diag *diag = diag_add(checker->diags, DIAG_PORT_CLASH, item->span,
					     same_service ? "this port is declared twice"
							  : "one port of the workload cannot speak two protocols");
		diag->spans[1] = before->span;
		diag->labels[1] = "the first is here";
		return;
	}
}

static void check_once(struct checker *checker, const struct ast_decl *decl, const struct ast_item *item)
{
	for (const struct ast_item *before = decl->items; before != item; before = before->next) {
		if (before->kind != item->kind)
			continue;
		if (item->kind == ITEM_SUBSET && strcmp(before->texts->text, item->texts->text) != 0)
			continue;
		struct diag *diag =
			diag_add(checker->diags, DIAG_DUPLICATE, item->span, "'%s' says this twice", decl->name.text);
		diag->spans[1] = before->span;
		diag->labels[1] = "the first is here";
		return;
	}
}

static void check_address_clash(struct checker *checker, struct table *addresses, struct ast_decl *decl,
				const struct ast_text *text, const struct address_range *range)
{
	struct owner {
		struct ast_decl *decl;
		struct span span;
		struct owner *next;
	} *mine = arena_alloc(checker->arena, sizeof(*mine));
	const char *key = address_print(checker->arena, range);
	*mine = (struct owner){decl, text->span, table_get(addresses, key)};
	table_put(addresses, key, mine);
	for (const struct owner *other = mine->next; other; other = other->next) {
		const struct ast_item *port =
			other->decl == decl ? decl->items : shared_port(decl->items, other->decl->items);
		if (!port)
			continue;
		struct diag *diag = diag_add(checker->diags, DIAG_PORT_CLASH, text->span, "%s and %s both serve %s%s",
					     decl->name.text, other->decl->name.text, text->text,
					     other->decl == decl ? "" : " on one port");
		diag->spans[1] = other->span;
		diag->labels[1] = "the other is here";
		return;
	}
}

static void check_item(struct checker *checker, struct table *addresses, struct ast_decl *decl, struct ast_item *item)
{
	struct address_range range;
	switch (item->kind) {
	case ITEM_WORKLOAD:
		check_once(checker, decl, item);
		check_selector(checker, item->expr);
		break;
	case ITEM_SUBSET:
		check_once(checker, decl, item);
		check_selector(checker, item->expr);
		break;
	case ITEM_ADDRESS:
		for (const struct ast_text *text = item->texts; text; text = text->next)
			if (read_address(checker, text, false, &range) && check_reachable(checker, text, &range))
				check_address_clash(checker, addresses, decl, text, &range);
		break;
	case ITEM_IDENTITY:
		check_once(checker, decl, item);
		if (!spiffe_valid(item->texts->text))
			diag_add(checker->diags, DIAG_BAD_IDENTITY, item->span, "'%s' is no SPIFFE ID",
				 item->texts->text);
		break;
	case ITEM_PORT:
		check_port(checker, decl, item);
		break;
	case ITEM_CIDR:
		check_cidr(checker, decl, item);
		break;
	default:
		check_once(checker, decl, item);
		break;
	}
}

static void check_items(struct checker *checker, struct table *addresses, struct ast_decl *decl)
{
	enum { ITEM_LIMIT = 1024 }; /* each is compared with those before it */
	unsigned count = 0;
	bool port = false, cidr = false;
	for (struct ast_item *item = decl->items; item; item = item->next) {
		if (++count > ITEM_LIMIT) {
			diag_add(checker->diags, DIAG_BOUND, item->span, "more than %d statements in one block",
				 ITEM_LIMIT);
			return;
		}
		check_item(checker, addresses, decl, item);
		port |= item->kind == ITEM_PORT;
		cidr |= item->kind == ITEM_CIDR;
	}
	if (!decl->items)
		diag_add(checker->diags, DIAG_EMPTY, decl->name.span, "'%s' says nothing", decl->name.text);
	else if (decl->kind == DECL_EXTERNAL && (!cidr || !port))
		diag_add(checker->diags, DIAG_EMPTY, decl->name.span, "'%s' needs %s", decl->name.text,
			 cidr ? "a port" : "a cidr");
}

/* ---- Header, defaults, mtls --------------------------------------------------------------------- */

static void check_mesh(struct checker *checker, const struct ast_decl *mesh)
{
	const char *missing = !mesh->value.text		     ? "trust \"DOMAIN\""
			      : mesh->ingress == EFFECT_NONE ? "ingress deny"
			      : mesh->egress == EFFECT_NONE  ? "egress deny"
							     : NULL;
	if (missing)
		diag_add(checker->diags, DIAG_NO_MESH, mesh->span,
			 "the mesh header states trust, ingress and egress: `%s` is missing", missing);
	if (mesh->value.text && !spiffe_domain_valid(mesh->value.text))
		diag_add(checker->diags, DIAG_BAD_IDENTITY, mesh->value.span,
			 "'%s' is no trust domain: lower case letters, digits, '.', '-' and '_'", mesh->value.text);
}

static void check_default(struct checker *checker, const struct ast_decl *decl)
{
	if (decl->value.text)
		diag_add(checker->diags, DIAG_BAD_PARTY, decl->value.span, "the trust domain is the mesh's");
	else if (decl->ingress == EFFECT_NONE && decl->egress == EFFECT_NONE)
		diag_add(checker->diags, DIAG_EMPTY, decl->span, "say `ingress` or `egress`");
}

static const char *mtls_key(struct checker *checker, const struct ast_decl *decl)
{
	const struct ast_ref *scope = decl->scope;
	const char *where = !scope			   ? ""
			    : scope->kind == REF_NAMESPACE ? arena_printf(checker->arena, "%s/", scope->name.text)
							   : ast_qualified(checker->arena, decl->ns, scope->name.text);
	return arena_printf(checker->arena, "%s %lld", where, decl->scope_port ? decl->scope_port->lo : 0);
}

static void check_mtls(struct checker *checker, struct table *scopes, struct ast_decl *decl)
{
	const struct ast_range *port = decl->scope_port;
	const struct ast_decl *service = decl->bound;
	long long near;
	if (port && (!check_ranges(checker, port) || port->next || port->lo != port->hi || !service))
		diag_add(checker->diags, DIAG_BAD_PORT, port->span, "a scope is one port of one service");
	else if (port && check_no_service_port(checker, service, port) && !declares(service, port, &near))
		diag_add(checker->diags, DIAG_UNKNOWN_PORT, port->span, "'%s' declares no port %lld",
			 service->name.text, port->lo);
	struct ast_decl *before = table_put(scopes, mtls_key(checker, decl), decl);
	if (before) {
		struct diag *diag =
			diag_add(checker->diags, DIAG_DUPLICATE, decl->span, "a second mtls statement for this scope");
		diag->spans[1] = before->span;
		diag->labels[1] = "the first is here";
	}
	if (strcmp(decl->mode, "off") == 0 && !decl->value.text[strspn(decl->value.text, " \t")])
		diag_add(checker->diags, DIAG_EMPTY, decl->value.span,
			 "an empty reason: whoever reads this next wants to know why nothing protects these "
			 "connections");
	if (strcmp(decl->mode, "permissive") != 0)
		return;
	long until = date_read(decl->value.text);
	if (until < 0)
		diag_add(checker->diags, DIAG_BAD_DATE, decl->value.span, "'%s' is no date: write YYYY-MM-DD",
			 decl->value.text);
	else if (checker->today >= 0 && until < checker->today)
		diag_add(checker->diags, DIAG_BAD_DATE, decl->value.span,
			 "this date has passed: decide between strict and off");
	else if (checker->today >= 0 && until - checker->today < 30)
		diag_add(checker->diags, DIAG_DATE_SOON, decl->value.span, "plaintext ends in %ld days",
			 until - checker->today);
}

/* The statement that holds for PORT of SERVICE: the narrowest. */
static const struct ast_decl *mtls_of(struct checker *checker, const struct table *scopes,
				      const struct ast_decl *service, uint32_t port)
{
	const char *name = ast_qualified(checker->arena, service->ns, service->name.text);
	const struct ast_decl *found = table_get(scopes, arena_printf(checker->arena, "%s %u", name, port));
	if (!found)
		found = table_get(scopes, arena_printf(checker->arena, "%s 0", name));
	if (!found)
		found = table_get(scopes, arena_printf(checker->arena, "%s/ 0", service->ns));
	return found ? found : table_get(scopes, " 0");
}

/* ---- Rules -------------------------------------------------------------------------------------- */

/* A source that never shows a certificate, or NULL. */
static const struct ast_ref *plain_source(struct checker *checker, const struct ast_decl *rule)
{
	for (const struct ast_ref *ref = rule->from->in; ref; ref = ref->next) {
		if (ref->kind == REF_WORLD)
			return ref;
		if (ref->kind != REF_NAME)
			continue;
		struct ast_decl *decl = ast_lookup(checker->arena, checker->ast, rule, ref->name.text);
		if (decl->kind == DECL_CIDR)
			return ref;
		size_t count = 0;
		struct ast_decl **leaves =
			decl->kind == DECL_GROUP ? ast_leaves(checker->arena, checker->ast, decl, &count) : NULL;
		for (size_t i = 0; i < count; i++)
			if (leaves[i]->kind == DECL_CIDR)
				return ref;
	}
	return NULL;
}

static void check_certificates(struct checker *checker, const struct table *scopes, const struct ast_decl *rule,
			       const struct ast_ref *plain, const struct ast_decl *service)
{
	for (const struct ast_item *item = service->items; item; item = item->next) {
		if (item->kind != ITEM_PORT)
			continue;
		struct range ports = check_item_ports(item);
		if (rule->to->ports && !overlaps(rule->to->ports, ports.lo, ports.hi))
			continue;
		const struct ast_decl *mtls = mtls_of(checker, scopes, service, ports.lo);
		if (!mtls || strcmp(mtls->mode, "strict") != 0)
			continue;
		struct diag *diag = diag_add(checker->diags, DIAG_BAD_PARTY, plain->span,
					     "this source cannot present a certificate, and '%s' port %u is strict",
					     service->name.text, ports.lo);
		diag->spans[1] = mtls->span;
		diag->labels[1] = "strict by this";
		return;
	}
}

static void check_rule_port(struct checker *checker, const struct ast_decl *rule, const struct ast_decl *service)
{
	for (const struct ast_range *range = rule->to->ports; range; range = range->next) {
		long long near;
		if (declares(service, range, &near) || rule->effect != EFFECT_ALLOW)
			continue;
		struct diag *diag = diag_add(checker->diags, DIAG_UNKNOWN_PORT, range->span,
					     "'%s' declares no port %lld%s%.0lld", service->name.text, range->lo,
					     range->hi > range->lo ? ".." : "", range->hi > range->lo ? range->hi : 0);
		diag->spans[1] = service->name.span;
		diag->labels[1] = "declared here";
		if (near > 0) {
			diag->fix = arena_printf(checker->arena, "%lld", near);
			diag->fix_span = range->span;
		}
		return;
	}
}

struct rule_facts {
	const struct table *scopes;
	const struct ast_ref *plain;
	bool l7;
	struct speaks speaks;
};

static void check_leaf(struct checker *checker, const struct ast_decl *rule, struct rule_facts *facts,
		       const struct ast_decl *leaf, bool alone)
{
	const struct ast_range *ports = rule->to->ports;
	if (ports && leaf->kind == DECL_SERVICE && !check_no_service_port(checker, leaf, ports))
		return;
	if (ports && alone)
		check_rule_port(checker, rule, leaf);
	if (leaf->kind == DECL_EXTERNAL) {
		facts->speaks.l4 = true;
		facts->speaks.foreign = leaf->name.text;
		facts->speaks.culprit = leaf->name.text;
		return;
	}
	if (facts->l7)
		check_speaks(leaf, ports, &facts->speaks);
	if (facts->plain)
		check_certificates(checker, facts->scopes, rule, facts->plain, leaf);
}

/* L7 fields toward a namespace: all its services. */
static void check_space(struct checker *checker, const struct ast_decl *rule, struct rule_facts *facts, const char *ns)
{
	for (const struct ast_decl *decl = checker->ast->first; facts->l7 && decl; decl = decl->next)
		if (decl->kind == DECL_SERVICE && strcmp(decl->ns, ns) == 0)
			check_speaks(decl, rule->to->ports, &facts->speaks);
}

static void check_targets(struct checker *checker, const struct ast_decl *rule, struct rule_facts *facts)
{
	for (const struct ast_ref *ref = rule->to->in; ref; ref = ref->next) {
		size_t count = 1;
		if (ref->kind == REF_NAMESPACE) {
			check_space(checker, rule, facts, ref->name.text);
		} else if (ref->kind != REF_NAME) {
			facts->speaks.l4 = true;
			facts->speaks.culprit = ref->kind == REF_ANY ? "any" : "world";
			if (ref->kind == REF_WORLD)
				facts->speaks.foreign = "world";
		} else {
			struct ast_decl *decl = ast_lookup(checker->arena, checker->ast, rule, ref->name.text);
			struct ast_decl **leaves = &decl;
			if (decl->kind == DECL_GROUP)
				leaves = ast_leaves(checker->arena, checker->ast, decl, &count);
			for (size_t i = 0; i < count; i++)
				check_leaf(checker, rule, facts, leaves[i], decl->kind != DECL_GROUP);
		}
	}
}

static void check_rule(struct checker *checker, const struct table *scopes, const struct ast_decl *rule)
{
	struct rule_facts facts = {.scopes = scopes, .l7 = ast_uses_l7(rule->when)};
	if (rule->to->ports && !check_ranges(checker, rule->to->ports))
		return;
	if (rule->effect == EFFECT_ALLOW && scopes->len)
		facts.plain = plain_source(checker, rule);
	if (rule->kind == DECL_RULE || rule->to->ports)
		check_targets(checker, rule, &facts);
	check_condition(checker, rule->when, &facts.speaks);
}

static void check_spiffe(struct checker *checker, struct table *owners, struct ast_decl *decl)
{
	const char *account = decl->name.text, *id = NULL;
	struct span span = decl->name.span;
	for (const struct ast_item *item = decl->items; item; item = item->next) {
		if (item->kind == ITEM_ACCOUNT)
			account = item->texts->text;
		if (item->kind == ITEM_IDENTITY)
			id = item->texts->text;
		if (item->kind == ITEM_ACCOUNT || item->kind == ITEM_IDENTITY)
			span = item->span;
	}
	if (!id)
		id = arena_printf(checker->arena, "spiffe://%s/ns/%s/sa/%s", checker->ast->mesh->value.text, decl->ns,
				  account);
	struct ast_decl *before = table_put(owners, id, decl);
	if (!before)
		return;
	struct diag *diag = diag_add(checker->diags, DIAG_BAD_IDENTITY, span,
				     "'%s' and '%s' have one SPIFFE ID: mTLS cannot tell them apart", before->name.text,
				     decl->name.text);
	diag->spans[1] = before->name.span;
	diag->labels[1] = "the other is here";
}

static void check_decl(struct checker *checker, struct table *addresses, const struct table *scopes,
		       struct ast_decl *decl)
{
	switch (decl->kind) {
	case DECL_MESH:
		check_mesh(checker, decl);
		break;
	case DECL_DEFAULT:
		check_default(checker, decl);
		break;
	case DECL_SERVICE:
	case DECL_EXTERNAL:
		check_items(checker, addresses, decl);
		break;
	case DECL_CIDR:
		check_cidr(checker, decl, decl->items);
		break;
	case DECL_IDENTITY:
		if (!spiffe_valid(decl->value.text))
			diag_add(checker->diags, DIAG_BAD_IDENTITY, decl->value.span, "'%s' is no SPIFFE ID",
				 decl->value.text);
		break;
	case DECL_RULE:
	case DECL_NEVER:
		check_rule(checker, scopes, decl);
		break;
	case DECL_ROUTE:
		check_route(checker, decl);
		break;
	case DECL_TEST:
		check_test(checker, decl);
		break;
	default:
		break;
	}
}

void check(struct run *run)
{
	struct checker checker = {.run = run,
				  .ast = run->ast,
				  .arena = run->arena,
				  .diags = &run->diags,
				  .today = run->now ? date_read(run->now) : -1};
	struct table addresses = {.arena = run->arena}, scopes = {.arena = run->arena}, owners = {.arena = run->arena};
	for (struct ast_decl *decl = run->ast->first; decl; decl = decl->next)
		if (decl->kind == DECL_MTLS)
			check_mtls(&checker, &scopes, decl);
	for (struct ast_decl *decl = run->ast->first; decl; decl = decl->next) {
		check_decl(&checker, &addresses, &scopes, decl);
		if (scopes.len && decl->kind == DECL_SERVICE && run->ast->mesh->value.text)
			check_spiffe(&checker, &owners, decl);
	}
}
