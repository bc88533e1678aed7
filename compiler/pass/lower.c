/* Ast to policy: who there is, numbered by name in byte order, so that the order of the text leaves
 * no trace. Rules are in lower_rules.c, address blocks in lower_blocks.c. */
#include "pass/lower.h"

#include <stdlib.h>

enum { CLASS_LIMIT = 65000 }; /* 16 bits in the tables, some left for externals */

/* ---- Sets --------------------------------------------------------------------------------------- */

static int number_compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return a < b ? -1 : a > b;
}

struct range_set lower_set(struct arena *arena, struct numbers *list)
{
	VEC(struct range) ranges = {0};
	if (list->len)
		qsort(list->at, list->len, sizeof(*list->at), number_compare);
	for (size_t i = 0; i < list->len; i++) {
		struct range *last = ranges.len ? &ranges.at[ranges.len - 1] : NULL;
		if (last && list->at[i] <= last->hi + 1)
			last->hi = list->at[i];
		else
			vec_push(arena, &ranges, (struct range){list->at[i], list->at[i]});
	}
	return (struct range_set){ranges.at, ranges.len};
}

struct range_set lower_span(struct arena *arena, uint32_t lo, uint32_t hi)
{
	struct range *range = arena_alloc(arena, sizeof(*range));
	*range = (struct range){lo, hi};
	return (struct range_set){range, 1};
}

/* ---- Classes ------------------------------------------------------------------------------------ */

static int entry_compare(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;
	int by_name = strcmp(a->name, b->name);
	return by_name ? by_name : (int)a->kind - (int)b->kind;
}

static const struct ast_item *item_of(const struct ast_decl *decl, enum item_kind kind)
{
	const struct ast_item *item = decl->items;
	while (item && item->kind != kind)
		item = item->next;
	return item;
}

static const char *account_of(const struct ast_decl *service)
{
	const struct ast_item *item = item_of(service, ITEM_ACCOUNT);
	return item ? item->texts->text : service->name.text;
}

static void add_services(struct lowerer *lowerer, struct entries *entries)
{
	struct arena *arena = lowerer->arena;
	for (struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next) {
		if (decl->kind != DECL_SERVICE)
			continue;
		const struct ast_item *identity = item_of(decl, ITEM_IDENTITY);
		struct entry entry = {.name = ast_qualified(arena, decl->ns, decl->name.text),
				      .kind = CLASS_SERVICE,
				      .decl = decl,
				      .ns = decl->ns};
		entry.spiffe = identity ? identity->texts->text
					: arena_printf(arena, "spiffe://%s/ns/%s/sa/%s", lowerer->policy->trust,
						       decl->ns, account_of(decl));
		if (!table_get(&lowerer->owners, entry.spiffe))
			table_put(&lowerer->owners, entry.spiffe, decl);
		vec_push(arena, entries, entry);
	}
}

/* An identity that is a service's is that service; two names of one ID are one class. */
static void add_identities(struct lowerer *lowerer, struct entries *entries)
{
	for (struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next) {
		if (decl->kind != DECL_IDENTITY)
			continue;
		decl->bound = table_get(&lowerer->owners, decl->value.text);
		if (decl->bound)
			continue;
		struct entry entry = {.kind = CLASS_IDENTITY, .decl = decl, .spiffe = decl->value.text};
		const char *account;
		table_put(&lowerer->owners, decl->value.text, decl);
		if (spiffe_read(lowerer->arena, lowerer->policy->trust, decl->value.text, &entry.ns, &account))
			entry.name = arena_printf(lowerer->arena, "%s/%s", entry.ns, account);
		struct ast_decl *taken = entry.name ? table_get(&lowerer->ast->names, entry.name) : NULL;
		if (!entry.name || (taken && taken->kind == DECL_SERVICE))
			entry.name = decl->value.text;
		vec_push(lowerer->arena, entries, entry);
	}
}

static void add_spaces(struct lowerer *lowerer, struct entries *entries)
{
	const struct table *spaces = &lowerer->ast->spaces;
	for (size_t i = 0; i < spaces->cap; i++) {
		const char *name = spaces->at[i].key;
		if (!name)
			continue;
		struct space *space = arena_alloc(lowerer->arena, sizeof(*space));
		space->name = name;
		table_put(&lowerer->spaces, name, space);
		vec_push(lowerer->arena, entries,
			 (struct entry){.name = arena_printf(lowerer->arena, "%s/-", name),
					.kind = CLASS_NAMESPACE,
					.ns = name});
	}
}

static void number_entry(struct lowerer *lowerer, const struct entry *entry)
{
	struct policy *policy = lowerer->policy;
	struct arena *arena = lowerer->arena;
	uint32_t number = policy->classes.len;
	struct policy_class class = {
		.kind = entry->kind, .name = entry->name, .ns = entry->ns, .spiffe = entry->spiffe};
	struct space *space = entry->ns ? table_get(&lowerer->spaces, entry->ns) : NULL;
	if (entry->decl)
		entry->decl->number = number;
	if (entry->kind == CLASS_SERVICE) {
		class.service = lowerer->services.len;
		vec_push(arena, &lowerer->services, entry->decl);
	}
	if (space && entry->kind == CLASS_NAMESPACE)
		space->class = number;
	if (space && entry->kind != CLASS_IDENTITY)
		vec_push(arena, &space->targets, number);
	if (space)
		vec_push(arena, &space->sources, number);
	vec_push(arena, &policy->classes, class);
}

void lower_entries(struct lowerer *lowerer, struct entries *entries)
{
	add_services(lowerer, entries);
	add_identities(lowerer, entries);
	add_spaces(lowerer, entries);
	if (entries->len)
		qsort(entries->at, entries->len, sizeof(*entries->at), entry_compare);
}

void lower_number(struct lowerer *lowerer, const struct entries *entries)
{
	static const char *const fixed[] = {"unknown", "world", "node", "other", "conflict"};
	for (int i = 0; i < 5; i++)
		vec_push(lowerer->arena, &lowerer->policy->classes, (struct policy_class){.kind = i, .name = fixed[i]});
	for (size_t i = 0; i < entries->len; i++)
		number_entry(lowerer, &entries->at[i]);
	if (lowerer->policy->classes.len > CLASS_LIMIT)
		diag_add(&lowerer->run->diags, DIAG_BOUND, lowerer->ast->mesh->name.span,
			 "more than %d services, identities and namespaces", CLASS_LIMIT);
	for (struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next) {
		if (decl->kind != DECL_IDENTITY)
			continue;
		if (decl->bound)
			decl->number = ((struct ast_decl *)decl->bound)->number;
		vec_push(lowerer->arena, &lowerer->policy->identities,
			 (struct policy_identity){ast_qualified(lowerer->arena, decl->ns, decl->name.text),
						  decl->number});
	}
	lowerer->policy->sources = lowerer->policy->classes.len;
}

/* ---- Services and externals --------------------------------------------------------------------- */

static json_t *selector_json(const struct ast_expr *expr);

/* A chain of one operator is one list: the depth of the JSON is that of the parentheses. */
static void selector_args(const struct ast_expr *expr, enum expr_kind kind, json_t *args)
{
	if (expr->kind != kind) {
		json_array_append_new(args, selector_json(expr));
		return;
	}
	selector_args(expr->left, kind, args);
	selector_args(expr->right, kind, args);
}

static json_t *selector_json(const struct ast_expr *expr)
{
	if (expr->kind == EXPR_NOT)
		return json_pack("{s:s, s:[o]}", "op", "not", "args", selector_json(expr->left));
	if (expr->kind != EXPR_ATOM) {
		json_t *args = json_array();
		selector_args(expr, expr->kind, args);
		return json_pack("{s:s, s:o}", "op", expr->kind == EXPR_AND ? "and" : "or", "args", args);
	}
	const char *label = expr->name.text;
	if (expr->op == AST_HAS)
		return json_pack("{s:s, s:s}", "op", "has", "label", label);
	if (expr->op != AST_IN)
		return json_pack("{s:s, s:s, s:s}", "op", expr->op == AST_EQ ? "==" : "!=", "label", label, "value",
				 expr->values->text);
	json_t *values = json_array();
	for (const struct ast_text *value = expr->values; value; value = value->next)
		json_array_append_new(values, json_string(value->text));
	return json_pack("{s:s, s:s, s:o}", "op", "in", "label", label, "values", values);
}

static struct policy_port lower_port(const struct ast_item *item)
{
	static const char *const kinds[] = {"tcp", "udp", "http", "grpc"};
	struct policy_port port = {
		.lo = item->ports->lo, .hi = item->ports->hi, .target = item->ports->lo, .span = item->span};
	if (item->target >= 0)
		port.target = item->target;
	while (strcmp(kinds[port.kind], item->protocol) != 0)
		port.kind++;
	return port;
}

static int port_compare(const void *left, const void *right)
{
	const struct policy_port *a = left, *b = right;
	return a->lo != b->lo ? a->lo - b->lo : (int)a->kind - (int)b->kind;
}

static int subset_compare(const void *left, const void *right)
{
	return strcmp(((const struct policy_subset *)left)->name, ((const struct policy_subset *)right)->name);
}

static int text_compare(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void lower_item(struct lowerer *lowerer, struct policy_service *service, const struct ast_item *item)
{
	struct arena *arena = lowerer->arena;
	struct address_range range;
	if (item->kind == ITEM_WORKLOAD)
		service->selector = selector_json(item->expr);
	if (item->kind == ITEM_PORT)
		vec_push(arena, &service->ports, lower_port(item));
	if (item->kind == ITEM_SUBSET)
		vec_push(arena, &service->subsets,
			 (struct policy_subset){
				 .name = item->texts->text, .selector = selector_json(item->expr), .span = item->span});
	for (const struct ast_text *text = item->kind == ITEM_ADDRESS ? item->texts : NULL; text; text = text->next) {
		address_read(text->text, &range);
		vec_push(arena, &service->addresses, address_print(arena, &range));
	}
}

static void lower_services(struct lowerer *lowerer)
{
	struct policy *policy = lowerer->policy;
	for (size_t i = 0; i < lowerer->services.len; i++) {
		const struct ast_decl *decl = lowerer->services.at[i];
		struct policy_service service = {.ns = decl->ns,
						 .name = decl->name.text,
						 .account = account_of(decl),
						 .class = decl->number,
						 .set = policy->sets++,
						 .span = decl->name.span};
		for (const struct ast_item *item = decl->items; item; item = item->next)
			lower_item(lowerer, &service, item);
		if (service.ports.len)
			qsort(service.ports.at, service.ports.len, sizeof(*service.ports.at), port_compare);
		if (service.subsets.len)
			qsort(service.subsets.at, service.subsets.len, sizeof(*service.subsets.at), subset_compare);
		if (service.addresses.len)
			qsort(service.addresses.at, service.addresses.len, sizeof(*service.addresses.at), text_compare);
		for (size_t k = 0; k < service.subsets.len; k++)
			service.subsets.at[k].set = policy->sets++;
		vec_push(lowerer->arena, &policy->services, service);
	}
}

static void lower_externals(struct lowerer *lowerer)
{
	struct arena *arena = lowerer->arena;
	struct entries entries = {0};
	for (struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next)
		if (decl->kind == DECL_EXTERNAL)
			vec_push(arena, &entries,
				 (struct entry){.name = ast_qualified(arena, decl->ns, decl->name.text), .decl = decl});
	if (entries.len)
		qsort(entries.at, entries.len, sizeof(*entries.at), entry_compare);
	for (size_t i = 0; i < entries.len; i++) {
		struct policy_external external = {.name = entries.at[i].name, .span = entries.at[i].decl->name.span};
		for (const struct ast_item *item = entries.at[i].decl->items; item; item = item->next)
			if (item->kind == ITEM_PORT)
				vec_push(arena, &external.ports, lower_port(item));
		if (external.ports.len)
			qsort(external.ports.at, external.ports.len, sizeof(*external.ports.at), port_compare);
		vec_push(arena, &lowerer->externals, entries.at[i].decl);
		vec_push(arena, &lowerer->policy->externals, external);
	}
}

/* ---- Defaults ----------------------------------------------------------------------------------- */

/* The narrowest of what is said: the block, its namespace, the mesh. */
static enum effect narrowest(struct lowerer *lowerer, const struct ast_decl *decl, const char *ns, enum item_kind kind)
{
	bool ingress = kind == ITEM_INGRESS;
	const struct ast_item *item = decl ? item_of(decl, kind) : NULL;
	if (item)
		return item->effect;
	const struct ast_decl *space = ns ? table_get(&lowerer->ast->defaults, ns) : NULL;
	enum effect effect = !space ? EFFECT_NONE : ingress ? space->ingress : space->egress;
	if (effect != EFFECT_NONE)
		return effect;
	return ingress ? lowerer->ast->mesh->ingress : lowerer->ast->mesh->egress;
}

/* Where several externals share addresses the strictest decides: deny, then audit. */
static enum effect externals_default(struct lowerer *lowerer, const struct policy_class *class)
{
	enum effect strictest = EFFECT_ALLOW;
	for (size_t i = 0; i < class->externals.len; i++) {
		const struct ast_decl *decl = lowerer->externals.at[class->externals.at[i]];
		enum effect effect = narrowest(lowerer, decl, decl->ns, ITEM_EGRESS);
		if (effect == EFFECT_DENY || strictest == EFFECT_ALLOW)
			strictest = effect;
	}
	return strictest;
}

static void lower_defaults(struct lowerer *lowerer)
{
	struct policy *policy = lowerer->policy;
	for (size_t i = 0; i < policy->classes.len; i++) {
		const struct policy_class *class = &policy->classes.at[i];
		enum effect effect = EFFECT_DENY;
		if (class->kind == CLASS_WORLD || class->kind == CLASS_NODE)
			effect = lowerer->ast->mesh->egress;
		else if (class->kind == CLASS_EXTERNAL)
			effect = externals_default(lowerer, class);
		else if (class->kind == CLASS_SERVICE)
			effect = narrowest(lowerer, lowerer->services.at[class->service], class->ns, ITEM_INGRESS);
		else if (class->kind != CLASS_UNKNOWN && class->kind != CLASS_CONFLICT)
			effect = narrowest(lowerer, NULL, class->ns, ITEM_INGRESS);
		vec_push(lowerer->arena, &policy->defaults, (enum policy_verdict)effect);
	}
}

static int mtls_compare(const void *left, const void *right)
{
	const struct policy_mtls *a = left, *b = right;
	uint32_t x = a->classes.count ? a->classes.at[0].lo : 0, y = b->classes.count ? b->classes.at[0].lo : 0;
	if (x != y)
		return x < y ? -1 : 1;
	if (a->classes.count != b->classes.count)
		return a->classes.count < b->classes.count ? -1 : 1;
	if (a->classes.count && a->classes.at[0].hi != b->classes.at[0].hi)
		return a->classes.at[0].hi < b->classes.at[0].hi ? -1 : 1;
	return a->port < b->port ? -1 : a->port > b->port;
}

static const char *mtls_scope(struct lowerer *lowerer, const struct ast_decl *decl)
{
	if (!decl->scope)
		return "mesh";
	return decl->scope->kind == REF_NAMESPACE ? arena_printf(lowerer->arena, "namespace %s", decl->scope->name.text)
						  : ast_qualified(lowerer->arena, decl->ns, decl->scope->name.text);
}

static void lower_mtls(struct lowerer *lowerer)
{
	struct policy *policy = lowerer->policy;
	for (struct ast_decl *decl = lowerer->ast->first; decl; decl = decl->next) {
		if (decl->kind != DECL_MTLS)
			continue;
		struct policy_mtls mtls = {.span = decl->span, .port = decl->scope_port ? decl->scope_port->lo : 0};
		mtls.mode = decl->mode[0] == 's' ? MTLS_STRICT : decl->mode[0] == 'p' ? MTLS_PERMISSIVE : MTLS_OFF;
		if (mtls.mode == MTLS_PERMISSIVE)
			mtls.until = decl->value.text;
		mtls.scope = mtls_scope(lowerer, decl);
		if (!decl->scope)
			mtls.classes = lower_span(lowerer->arena, CLASS_OTHER, policy->sources - 1);
		else if (decl->scope->kind == REF_NAMESPACE)
			mtls.classes = lower_set(
				lowerer->arena,
				&((struct space *)table_get(&lowerer->spaces, decl->scope->name.text))->targets);
		else
			mtls.classes = lower_span(lowerer->arena, ((struct ast_decl *)decl->bound)->number,
						  ((struct ast_decl *)decl->bound)->number);
		vec_push(lowerer->arena, &policy->mtls, mtls);
	}
	if (policy->mtls.len)
		qsort(policy->mtls.at, policy->mtls.len, sizeof(*policy->mtls.at), mtls_compare);
}

/* ---- The digest of the text --------------------------------------------------------------------- */

static int file_compare(const void *left, const void *right)
{
	return strcmp((*(const struct source_file *const *)left)->name,
		      (*(const struct source_file *const *)right)->name);
}

static const char *digest_of_sources(struct lowerer *lowerer)
{
	const struct sources *sources = &lowerer->run->sources;
	const struct source_file **order = arena_alloc(lowerer->arena, (sources->files.len + 1) * sizeof(*order));
	struct source_text *texts = arena_alloc(lowerer->arena, (sources->files.len + 1) * sizeof(*texts));
	char *digest = arena_alloc(lowerer->arena, SOURCE_DIGEST_BYTES);
	for (size_t i = 0; i < sources->files.len; i++)
		order[i] = &sources->files.at[i];
	if (sources->files.len)
		qsort(order, sources->files.len, sizeof(*order), file_compare);
	for (size_t i = 0; i < sources->files.len; i++)
		texts[i] = (struct source_text){order[i]->text, order[i]->len};
	source_digest(texts, sources->files.len, digest);
	return digest;
}

/* ---- The steps ---------------------------------------------------------------------------------- */

void lower_begin(struct lowerer *lowerer, struct run *run)
{
	*lowerer = (struct lowerer){.run = run, .ast = run->ast, .arena = run->arena};
	run->policy = lowerer->policy = arena_alloc(run->arena, sizeof(*run->policy));
	lowerer->spaces.arena = lowerer->owners.arena = run->arena;
	lowerer->policy->mesh = run->ast->mesh->name.text;
	lowerer->policy->trust = run->ast->mesh->value.text;
	lowerer->policy->source_digest = digest_of_sources(lowerer);
}

void lower_members(struct lowerer *lowerer)
{
	lower_services(lowerer);
	lower_externals(lowerer);
}

void lower_meaning(struct lowerer *lowerer)
{
	lower_defaults(lowerer);
	lower_mtls(lowerer);
	lower_rules(lowerer);
}

void lower(struct run *run)
{
	struct lowerer lowerer, *const one[] = {&lowerer};
	struct entries entries = {0};
	lower_begin(&lowerer, run);
	lower_entries(&lowerer, &entries);
	lower_number(&lowerer, &entries);
	lower_members(&lowerer);
	lower_blocks(one, 1);
	lower_meaning(&lowerer);
	lower_tests(&lowerer);
	lower_plurals(&lowerer);
}
