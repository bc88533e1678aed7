/* Concrete requests: read from a JSON line (docs: `why --requests`), brought into normal form. */
#ifndef MESH_IR_REQUEST_H
#define MESH_IR_REQUEST_H

#include "ir/policy.h"

enum { REQUEST_WHY_BYTES = 256 };

/* {"from": .., "to": .., "protocol", "port", "method", "host", "path", "headers", "jwt"}; all but the
 * first two may be absent. A header's value is a string, or a list of them where it was sent more than
 * once. "-/-" is a workload of a namespace that the policy does not know. `port` is the workload's, behind
 * an address of a service the service's. 0, or -EINVAL with a sentence in WHY. Strings are copied: LINE may
 * go. */
int request_read(struct arena *arena, const struct policy *policy, const json_t *line, struct request *ret_request,
		 char why[REQUEST_WHY_BYTES]);

/* Language 17, on method, host, path and headers as sent. What is absent stays absent: that a request
 * on the wire must have a Host is its parser's to say. 0; -EINVAL: malformed, and denied for it. */
int request_normalise(struct arena *arena, struct request *request, const char **ret_why);

/* RE (ir/automaton.h) of what a present value of FIELD can be once it is in normal form; no value that
 * request_normalise lets through is outside. Proofs look for their witnesses here. */
const char *request_field_pattern(enum field field);

#endif
