/* A record of `meshd flows --format json`, held against this policy. */
#ifndef MESH_VERB_WHY_FLOW_H
#define MESH_VERB_WHY_FLOW_H

#include "verb/verb.h"

/* The request that FLOW was, as `why --requests` reads it; owned. NULL with a sentence in WHY (ir/request.h). */
json_t *flow_request(struct run *run, const json_t *flow, char *why);

/* {"id", "time", "verdict", "rule", "where", "digest", "passed", "same_policy", "differs"}: what the node made of
 * it, and whether this policy, of DIGEST, decides otherwise; owned. */
json_t *flow_compare(struct run *run, const char *digest, const json_t *flow, const struct decision *decision);

/* The same in words, behind INDENT. */
void flow_print(struct run *run, const char *digest, const json_t *flow, const struct decision *decision,
		const char *indent);

#endif
