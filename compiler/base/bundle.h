/* The bundle: one ELF object with the policy's programs and, in sections of their own, what a node
 * must know of it. Everything in it is untrusted until bundle_verify. */
#ifndef MESH_BASE_BUNDLE_H
#define MESH_BASE_BUNDLE_H

#include "abi.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define BUNDLE_MANIFEST ".mesh.manifest"
#define BUNDLE_WHERE ".mesh.where"
#define BUNDLE_VECTORS ".mesh.vectors"
#define BUNDLE_SOURCE ".mesh.source" /* JSON: [{"name", "text"}], by name: the policy as it was written */
#define BUNDLE_SIGNATURE ".mesh.sig"

enum { BUNDLE_LIMIT_BYTES = 256 << 20, BUNDLE_LIMIT_SECTIONS = 256 };

/* Section ".mesh.sig": zero where the bundle is not signed. Ed25519 (RFC 8032) over the whole file
 * with this section zero. */
struct bundle_signature {
	char magic[8];		  /* "meshsig1" */
	unsigned char key_id[32]; /* SHA-256 of the raw public key */
	unsigned char signature[64];
};

struct bundle {
	const void *elf;
	size_t elf_len;
	json_t *manifest; /* owned */
	json_t *where;	  /* owned */
	const struct mesh_vectors *vectors;
	size_t vectors_len;
	bool is_signed;
	unsigned char key_id[32];
};

/* Reads what is in BYTES, which must stay. 0, or -EINVAL with a reason for people in *ret_why. */
int bundle_open(const void *bytes, size_t len, struct bundle *ret_bundle, const char **ret_why);
void bundle_close(struct bundle *bundle);

/* 0; -EPERM: not signed, or not by this key; -EINVAL, -ENOENT: the key cannot be read. */
int bundle_verify(const struct bundle *bundle, const char *public_key_path, const char **ret_why);

/* Signs BYTES in place. -EINVAL: no bundle; -ENOENT: no key. */
int bundle_sign(void *bytes, size_t len, const char *key_path, const char **ret_why);

/* Bounds-checked: the section's bytes, or NULL. */
const void *bundle_section(const void *bytes, size_t len, const char *name, size_t *ret_len);

/* The section of number INDEX, from 0. False behind the last one; what has no bytes in the file has a length of 0. */
struct bundle_view {
	const char *name; /* "" where it has none */
	const void *bytes;
	size_t len;
	unsigned type; /* SHT_.. */
};
bool bundle_section_at(const void *bytes, size_t len, size_t index, struct bundle_view *ret_view);

/* What of a bundle's wholeness shows without a key: nothing behind its end, the policy's text is the one that it was
 * made of. 0, or -EPERM with a reason. */
int bundle_check(const struct bundle *bundle, const char **ret_why);

/* Where the object SYMBOL of .rodata lies in the file, or NULL. */
void *bundle_rodata_symbol(void *bytes, size_t len, const char *symbol, size_t *ret_len);

struct bundle_part {
	const char *name;
	const void *bytes;
	size_t len;
};

/* The ELF with PARTS as further sections; malloc'd. NULL where ELF is not one of ours. */
void *bundle_add_sections(const void *elf, size_t len, const struct bundle_part *parts, size_t count, size_t *ret_len);

#endif
