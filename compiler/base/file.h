/* Whole files, with a bound. */
#ifndef MESH_BASE_FILE_H
#define MESH_BASE_FILE_H

#include "base/why.h"

#include <stddef.h>

/* Reads PATH, a regular file of at most LIMIT bytes; *ret_text is malloc'd and NUL-terminated. 0, -E2BIG,
 * -EINVAL: no regular file; -ENOENT, -EACCES ...; WHY begins with PATH. */
int file_read(const char *path, size_t limit, char **ret_text, size_t *ret_len, struct why *why);

/* Writes PATH by a synced temporary file beside it and a rename: old or new, never half. */
int file_replace(const char *path, const char *text, size_t len, struct why *why);

#endif
