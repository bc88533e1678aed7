/* A bundle as a node reads it, behind the signature: sections, manifest, allow-list; and as `inspect` does: its cost.
 */
#include "accept_object.h"
#include "base/apart.h"
#include "base/bundle.h"
#include "pass/budget.h"

#include <bpf/libbpf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

struct whole {
	const void *bytes;
	size_t len;
};

static void open_apart(void *context, struct apart *ret)
{
	const struct whole *whole = context;
	struct bpf_object *opened = bpf_object__open_mem(whole->bytes, whole->len, NULL);
	ret->result = 0;
	bpf_object__close(opened);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bundle bundle;
	struct why why = {0};
	const char *reason = NULL;
	size_t section_len;
	libbpf_set_print(silent);
	/* Aligned, as what is read from a file is. */
	void *bytes = malloc(len + 1);
	memcpy(bytes, data, len);
	bundle_section(bytes, len, BUNDLE_MANIFEST, &section_len);
	bundle_rodata_symbol(bytes, len, "plan_cells", &section_len);
	if (!bundle_open(bytes, len, &bundle, &reason))
		bundle_close(&bundle);
	/* What libbpf 1.1.2 does not survive ends in a child, on a node and here: then our own part is looked at. */
	struct whole whole = {bytes, len};
	if (!accept_elf(bytes, len, &why) && !apart_run(open_apart, &whole, NULL, &why))
		accept_object(bytes, len, &why);
	struct arena *arena = arena_create();
	struct budget budget;
	budget_read(arena, bytes, len, &budget, &reason);
	arena_destroy(arena);
	free(bytes);
	return 0;
}
