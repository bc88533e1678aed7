/* What `diff` and `plan` share. */
#ifndef MESH_VERB_DIFF_H
#define MESH_VERB_DIFF_H

#include "pass/pair.h"
#include "verb/verb.h"

/* All passes over what RUN has read. Errors are told, and whose they are: 1; else 0. WHERE: as it was named. */
int diff_check(const struct options *options, struct run *run, enum side side, const char *where);

/* Compares and shows: 0 equal, 1 not, 2 it cannot be done. */
int diff_runs(const struct options *options, struct run *old, struct run *new);

#endif
