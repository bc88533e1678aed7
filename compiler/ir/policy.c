#include "ir/policy.h"

#include "ir/literal.h"

#include <string.h>

const char *policy_rule_text(struct arena *arena, const struct policy *policy, uint32_t rank)
{
	(void)arena;
	return policy->rules.at[rank].text;
}

bool policy_mtls_speaks(const struct policy_mtls *mtls, uint32_t dst, uint32_t port)
{
	bool of = false;
	for (uint32_t i = 0; i < mtls->classes.count; i++)
		of |= dst >= mtls->classes.at[i].lo && dst <= mtls->classes.at[i].hi;
	return of && (!mtls->port || mtls->port == port);
}

/* How narrow the scope of a statement is: the mesh, a namespace, a service, one of its ports. */
static int narrowness(const struct policy_mtls *mtls)
{
	if (mtls->port)
		return 4;
	if (mtls->classes.at[0].lo == CLASS_OTHER)
		return 1;
	return mtls->classes.count == 1 && mtls->classes.at[0].lo == mtls->classes.at[0].hi ? 3 : 2;
}

enum mtls_mode policy_mtls_mode(const struct policy *policy, uint32_t dst, uint32_t port)
{
	enum mtls_mode mode = MTLS_OFF;
	int narrowest = 0;
	for (size_t i = 0; i < policy->mtls.len; i++) {
		const struct policy_mtls *mtls = &policy->mtls.at[i];
		if (policy_mtls_speaks(mtls, dst, port) && narrowness(mtls) > narrowest) {
			narrowest = narrowness(mtls);
			mode = mtls->mode;
		}
	}
	return mode;
}

uint32_t policy_block(const struct policy *policy, unsigned __int128 address)
{
	uint8_t bytes[16];
	size_t lo = 0, hi = policy->intervals.len;
	address_bytes(address, bytes);
	while (hi - lo > 1) {
		size_t middle = (lo + hi) / 2;
		if (memcmp(policy->intervals.at[middle].first, bytes, 16) <= 0)
			lo = middle;
		else
			hi = middle;
	}
	return hi ? policy->intervals.at[lo].block : 0;
}

bool policy_is_workload(const struct policy *policy, uint32_t class)
{
	enum class_kind kind = policy->classes.at[class].kind;
	return kind == CLASS_OTHER || kind == CLASS_NAMESPACE || kind == CLASS_SERVICE;
}

bool policy_shows_certificate(const struct policy *policy, uint32_t class)
{
	return class < policy->sources && class != CLASS_UNKNOWN && class != CLASS_WORLD && class != CLASS_NODE;
}

void policy_release(struct policy *policy)
{
	for (size_t i = 0; policy && i < policy->services.len; i++) {
		struct policy_service *service = &policy->services.at[i];
		json_decref(service->selector);
		for (size_t k = 0; k < service->subsets.len; k++)
			json_decref(service->subsets.at[k].selector);
	}
}
