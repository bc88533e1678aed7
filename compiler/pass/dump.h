/* What flows between the passes, as text (meshc compile --emit). The forms are for people and tests,
 * not for programs. */
#ifndef MESH_PASS_DUMP_H
#define MESH_PASS_DUMP_H

#include <stdio.h>

struct run;

void dump_ast(FILE *out, struct run *run);
void dump_policy(FILE *out, struct run *run);
void dump_diagram(FILE *out, struct run *run);
void dump_dot(FILE *out, struct run *run); /* for graphviz */

#endif
