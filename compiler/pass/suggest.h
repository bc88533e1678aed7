/* For a rule, a request that it decides and that a test can say. */
#ifndef MESH_PASS_SUGGEST_H
#define MESH_PASS_SUGGEST_H

#include "pass/passes.h"

enum suggested {
	SUGGEST_FOUND,
	SUGGEST_NONE,	 /* it decides none: others hide it */
	SUGGEST_UNSAID,	 /* those that it decides have no words in a test: a service's workload inside a cidr ... */
	SUGGEST_GAVE_UP, /* not found within the bound on work */
};

/* A request that rule RANK decides (an audit: meets). What a test says by itself is in its normal form. */
enum suggested suggest(struct run *run, uint32_t rank, struct request *ret_request);

/* gRPC over HTTP/2 has one method, POST, that a test need not say. */
bool suggest_is_grpc(const struct policy *policy, const struct request *request);

/* The external whose name a test says for destination class DST; UINT32_MAX: none, by address alone. */
uint32_t suggest_external(const struct policy *policy, uint32_t dst);

#endif
