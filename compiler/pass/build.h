/* C to an ELF object by clang in this process: no other program, no temporary file. */
#ifndef MESH_PASS_BUILD_H
#define MESH_PASS_BUILD_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct build_file {
	const char *name, *text;
};

/* Compiles files[0] of COUNT for BPF; the others are what it may include. 0 with a malloc'd object,
 * or -EIO with malloc'd diagnostics in *ret_log. */
int build_object(const struct build_file *files, size_t count, char **ret_object, size_t *ret_len, char **ret_log);

#ifdef __cplusplus
}
#endif

#endif
