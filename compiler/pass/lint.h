/* What is no error, but hardly meant: `meshc check` says it. */
#ifndef MESH_PASS_LINT_H
#define MESH_PASS_LINT_H

#include "pass/passes.h"

/* Behind pipeline_run without errors. */
void lint(struct run *run);

/* pass/lint_names.c: what the text alone tells. */
void lint_names(struct run *run);

#endif
