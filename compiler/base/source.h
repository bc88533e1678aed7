/* Policy text and places in it. */
#ifndef MESH_BASE_SOURCE_H
#define MESH_BASE_SOURCE_H

#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>

/* Bytes [offset, offset + len) of a file. */
struct span {
	uint32_t file, offset, len;
};

struct source_file {
	const char *name; /* as the user wrote it; for a folder: FOLDER/relative */
	const char *text; /* NUL-terminated */
	size_t len;
	bool bom;	     /* a byte order mark stood before it: no part of the text */
	VEC(uint32_t) lines; /* offset of each line's first byte */
};

struct sources {
	struct arena *arena;
	VEC(struct source_file) files;
	const char *unread; /* behind an error of sources_read: which path it was */
};

enum {
	SOURCE_LIMIT_BYTES = 16 << 20, /* of all files together */
	SOURCE_FOLDER_DEPTH = 16,      /* folders in a folder */
	SOURCE_FOLDER_FILES = 4096,
};

/* Reads PATH: a file, a folder (its *.mesh files, recursive, in byte order of their names), or "-".
 * -E2BIG over the limit, -EILSEQ where a file is not UTF-8 text, -EINVAL where it is no regular file (what
 * stands behind a descriptor may be anything), -ENOENT for a folder without policy, -EMLINK where folders go deeper
 * than SOURCE_FOLDER_DEPTH, else the negative errno. */
int sources_read(struct sources *sources, const char *path);

/* Adds text already in memory. Returns the file's number. */
uint32_t sources_add(struct sources *sources, const char *name, const char *text, size_t len);

/* Bytes of the character at TEXT, which begins at BEGIN, where it shows nothing or changes what others
 * show: controls, bidirectional ones (CVE-2021-42574), fillers; its code point in *ret_code. 0: fine. */
size_t source_invisible(const char *begin, const char *text, uint32_t *ret_code);

/* Line and column, from 1; columns count bytes. */
void sources_place(const struct sources *sources, struct span span, uint32_t *ret_line, uint32_t *ret_column);

/* "sha256:..." of texts, in this order: of each its length (8 bytes, of this machine's order) and its bytes. False: no
 * memory. */
struct source_text {
	const char *text;
	size_t len;
};
enum { SOURCE_DIGEST_BYTES = 72 };
bool source_digest(const struct source_text *texts, size_t count, char ret_text[SOURCE_DIGEST_BYTES]);

/* "shop.mesh:27:1" */
const char *sources_where(struct arena *arena, const struct sources *sources, struct span span);

#endif
