/* What the `test` blocks touch: each rule that decides a request, each way that an atom of its condition
 * may go. */
#ifndef MESH_VERB_COVERAGE_H
#define MESH_VERB_COVERAGE_H

#include "verb/verb.h"

#include <jansson.h>

struct coverage;

struct coverage *coverage_create(struct run *run);
/* REQUEST was tested, with this outcome. */
void coverage_note(struct coverage *coverage, const struct request *request, const struct decision *decision);
/* Was rule RANK what decided a request, or an audit that met one? */
bool coverage_has_rule(const struct coverage *coverage, uint32_t rank);
/* Whole percents of all rules and outcomes of atoms, rounded down; 100 where there are none. */
unsigned coverage_percent(const struct coverage *coverage);
/* {"percent", "rules": {"all", "touched"}, "atoms": {..}, "untouched": [{"rule", "where", "what"}]} */
json_t *coverage_json(const struct coverage *coverage);
void coverage_print(const struct coverage *coverage);

#endif
