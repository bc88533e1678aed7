/* A folder of its own for a test; gone behind it. */
#ifndef MESH_TESTS_SCRATCH_H
#define MESH_TESTS_SCRATCH_H

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[64];

static inline int scratch_make(void **state)
{
	(void)state;
	snprintf(scratch, sizeof(scratch), "%s/mesh-test-XXXXXX", "/tmp");
	return mkdtemp(scratch) ? 0 : -1;
}

static inline int scratch_unlink(const char *path, const struct stat *found, int type, struct FTW *walk)
{
	(void)found;
	(void)type;
	(void)walk;
	return remove(path);
}

static inline int scratch_remove(void **state)
{
	(void)state;
	return nftw(scratch, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* A few paths may be in use at once. */
static inline const char *scratch_path(const char *name)
{
	static char paths[8][256];
	static unsigned next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof(paths[0]), "%s/%s", scratch, name);
	return path;
}

static inline const char *scratch_write_bytes(const char *name, const void *bytes, size_t len)
{
	const char *path = scratch_path(name);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
	return path;
}

static inline const char *scratch_write(const char *name, const char *text)
{
	return scratch_write_bytes(name, text, strlen(text));
}

/* WHY must say PART. */
#define assert_says(text, part)                                                                                        \
	do {                                                                                                           \
		if (!strstr(text, part))                                                                               \
			fail_msg("'%s' does not say '%s'", text, part);                                                \
	} while (0)

#endif
