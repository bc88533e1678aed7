/* The proof of fmt and of check --fix: a text says the same as another. */
#ifndef MESH_PASS_PROVE_TEXT_H
#define MESH_PASS_PROVE_TEXT_H

#include "pass/passes.h"

/* Parses TEXT and holds it against file number FILE of RUN, which was parsed without errors: the same tree but
 * for positions (and the parentheses of `and` in `and`, `or` in `or`), the same comments in the same order.
 * 0, or -EINVAL with the first thing that differs in *ret_why. */
int prove_text(struct run *run, uint32_t file, const char *text, const char **ret_why);
/* The same, but without the declarations that lie in one of the COUNT spans GONE. */
int prove_removal(struct run *run, uint32_t file, const char *text, const struct span *gone, size_t count,
		  const char **ret_why);

#endif
