/* `test --suggest`: the test block that is missing. */
#ifndef MESH_VERB_SUGGEST_H
#define MESH_VERB_SUGGEST_H

#include "verb/coverage.h"

/* Prints, in canonical form, a test block with an expectation for each rule that COVERAGE has not seen
 * decide. An exit code. */
int suggest_print(struct run *run, const struct coverage *coverage);

#endif
