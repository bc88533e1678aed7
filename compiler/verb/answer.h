/* A decision in words: what `why` and `test` say of it. */
#ifndef MESH_VERB_ANSWER_H
#define MESH_VERB_ANSWER_H

#include "verb/verb.h"

/* {"verdict", "rule", "where", "audit", "subset"?, "shares"?, "open"?, "why"?}; owned. */
json_t *answer_json(struct run *run, const struct request *request, const struct decision *decision);
/* "allow by 'x' (shop.mesh:27:1)" */
const char *answer_text(struct run *run, const struct decision *decision);
/* Who decided: a rule's name, "default", "plaintext", "unknown" or "malformed". */
const char *answer_rule(const struct run *run, const struct decision *decision);
/* A line that `why --requests` answers the same; owned. */
json_t *answer_request(struct run *run, const struct request *request);
/* verb/near.c: rules that miss the request by one part alone, a line each behind INDENT. */
void answer_print_misses(FILE *out, const char *indent, struct run *run, const struct request *request,
			 const struct decision *decision);
/* The subset where it is certain, else NULL. */
const char *answer_subset(const struct run *run, const struct request *request, const struct decision *decision);

#endif
