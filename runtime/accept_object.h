/* The allow-list: what of an ELF object may go near the kernel. Used by accept.c alone. */
#ifndef MESH_RUNTIME_ACCEPT_OBJECT_H
#define MESH_RUNTIME_ACCEPT_OBJECT_H

#include "base/why.h"

#include <stddef.h>

/* accept_elf.c: sections, symbols and instructions, before libbpf looks at it. -EINVAL. */
int accept_elf(const void *bytes, size_t len, struct why *why);

/* accept_object.c: programs and maps as libbpf would load them; nothing is loaded. -EINVAL. */
int accept_object(const void *bytes, size_t len, struct why *why);

/* The programs of a policy: name and section. */
struct accept_program {
	const char *name, *section;
	unsigned type, attach; /* enum bpf_prog_type, enum bpf_attach_type */
};
enum { ACCEPT_PROGRAMS = 9 };
extern const struct accept_program accept_programs[ACCEPT_PROGRAMS];

#endif
