/* Whose addresses of an inventory lie inside of blocks that the policy names. */
#include "base/table.h"
#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/match.h"

/* What lies in an address block. */
struct tally {
	size_t count;
	struct address_range first;
	const char *owner; /* of the first: "workload 'shop/frontend-7c'" */
};

static void count_address(const struct run *run, struct tally *tallies, const uint8_t bytes[16], const char *kind,
			  const char *name)
{
	struct address_range address = address_from_bytes(bytes);
	struct tally *tally = &tallies[policy_block(run->policy, address.lo)];
	if (!tally->count++) {
		tally->first = address;
		tally->owner = arena_printf(run->arena, "%s '%s'", kind, name);
	}
}

static bool is_stated(const struct policy_service *service, const uint8_t bytes[16])
{
	struct address_range address = address_from_bytes(bytes), stated;
	for (size_t i = 0; i < service->addresses.len; i++)
		if (address_read(service->addresses.at[i], &stated) == ADDRESS_FINE && stated.lo == address.lo)
			return true;
	return false;
}

/* Of services that the policy declares; what it states of their addresses is lint's. */
static void count_services(const struct run *run, const struct inventory *inventory, struct tally *tallies)
{
	struct table known = {.arena = run->arena};
	for (size_t i = 0; i < run->policy->services.len; i++) {
		struct policy_service *service = &run->policy->services.at[i];
		table_put(&known, ast_qualified(run->arena, service->ns, service->name), service);
	}
	for (size_t i = 0; i < inventory->services.len; i++) {
		const struct inventory_service *service = &inventory->services.at[i];
		const char *name = arena_printf(run->arena, "%s/%s", service->ns, service->name);
		const struct policy_service *declared = table_get(&known, name);
		for (size_t k = 0; declared && k < service->addresses.len; k++)
			if (!is_stated(declared, service->addresses.at[k].bytes))
				count_address(run, tallies, service->addresses.at[k].bytes, "service", name);
	}
}

static void count_workloads(const struct run *run, const struct inventory *inventory, struct tally *tallies)
{
	for (size_t i = 0; i < inventory->workloads.len; i++) {
		const struct workload *workload = &inventory->workloads.at[i];
		const char *name = arena_printf(run->arena, "%s/%s", workload->ns, workload->name);
		for (size_t k = 0; k < workload->addresses.len; k++)
			count_address(run, tallies, workload->addresses.at[k].bytes, "workload", name);
	}
}

/* One finding for a cidr or an external, however many lie in it. */
static void check_decl(struct run *run, const struct ast_decl *decl, const struct tally *tallies)
{
	const struct tally *first = NULL;
	size_t count = 0;
	for (const struct ast_item *item = decl->items; item; item = item->next)
		for (uint32_t block = 1; item->kind == ITEM_CIDR && block < run->policy->blocks; block++) {
			const struct tally *tally = &tallies[block];
			if (!tally->count || !ast_holds(item, &tally->first))
				continue;
			first = first ? first : tally;
			count += tally->count;
		}
	if (!count)
		return;
	bool is_cidr = decl->kind == DECL_CIDR;
	diag_add(&run->diags, DIAG_ADDRESS_OVERLAP, decl->name.span,
		 "%zu address%s of the inventory lie%s inside %s '%s': %s of %s%s", count, count == 1 ? "" : "es",
		 count == 1 ? "s" : "", is_cidr ? "cidr" : "external", decl->name.text,
		 address_print(run->arena, &first->first), first->owner, count == 1 ? "" : " first")
		->note = is_cidr ? "as a source it matches workloads inside, too, beside their own rules"
				 : "what is sent there goes to the workload or the service: no rule of the external "
				   "speaks of it";
}

void match_addresses(struct run *run, const struct inventory *inventory)
{
	struct tally *tallies = arena_alloc(run->arena, run->policy->blocks * sizeof(*tallies));
	count_workloads(run, inventory, tallies);
	count_services(run, inventory, tallies);
	for (const struct ast_decl *decl = run->ast->first; decl; decl = decl->next)
		check_decl(run, decl, tallies);
}
