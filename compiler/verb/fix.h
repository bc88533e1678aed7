/* check --fix. */
#ifndef MESH_VERB_FIX_H
#define MESH_VERB_FIX_H

#include "verb/verb.h"

/* Makes RUN's sure fixes in its files; how many in *ret_count. Where RUN has errors they are those of errors.
 * Else they are those of findings, as many as are proved together: what is left says what it said, and no request
 * changes (pass/diff.h). 0, or 2 with a message. */
int fix_files(struct run *run, size_t *ret_count);

#endif
