/* Findings for machines: JSON, SARIF 2.1.0, and GitHub's workflow commands. */
#ifndef MESH_VERB_FINDINGS_H
#define MESH_VERB_FINDINGS_H

#include "verb/verb.h"

#include <jansson.h>

/* [{"file", "line", "column", "code", "severity", "message", ...}] */
json_t *findings_json(const struct run *run);
/* One log with one run (docs.oasis-open.org/sarif/sarif/v2.1.0). A finding's fingerprint stays the same
 * where other lines of its file change. */
void findings_print_sarif(const struct run *run);
/* "::error file=..,line=..,col=..,title=M0214::message" */
void findings_print_github(const struct run *run);

#endif
