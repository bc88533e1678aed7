/* Rules that miss a request by one part alone, and what would have to differ. */
#ifndef MESH_VERB_NEAR_H
#define MESH_VERB_NEAR_H

#include "verb/verb.h"

/* [{"rule", "where", "would", "unless"}], at most five; owned. */
json_t *near_json(struct run *run, const struct request *request, const struct decision *decision);

/* Why REQUEST does not meet COND, as what would have to be: "http.method were \"GET\" or \"HEAD\"". */
const char *near_cond(struct run *run, const struct request *request, const struct cond *cond);

#endif
