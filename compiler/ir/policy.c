#include "ir/policy.h"

const char *policy_rule_text(struct arena *arena, const struct policy *policy, uint32_t rank)
{
	(void)arena;
	return policy->rules.at[rank].text;
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
