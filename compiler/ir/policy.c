#include "ir/policy.h"

#include "ir/literal.h"

#include <string.h>

const char *policy_rule_text(struct arena *arena, const struct policy *policy, uint32_t rank)
{
	(void)arena;
	return policy->rules.at[rank].text;
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

void policy_release(struct policy *policy)
{
	for (size_t i = 0; policy && i < policy->services.len; i++) {
		struct policy_service *service = &policy->services.at[i];
		json_decref(service->selector);
		for (size_t k = 0; k < service->subsets.len; k++)
			json_decref(service->subsets.at[k].selector);
	}
}
