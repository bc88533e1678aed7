/* Object, manifest, positions and proof to one bundle; and the policy's digest. */
#ifndef MESH_PASS_BUNDLE_H
#define MESH_PASS_BUNDLE_H

#include "ir/plan.h"
#include "pass/passes.h"

struct bundle_options {
	const char *target; /* kernel version, "6.1" */
	int64_t version;    /* of the policy, monotonic */
};

/* OBJECT is the ELF that clang made. *ret_bundle is malloc'd. 0, or -EIO where the object is not
 * what was asked for (a bug of ours). */
int bundle_make(struct run *run, const struct plan *plan, const struct bundle_options *options, void *object,
		size_t object_len, void **ret_bundle, size_t *ret_len);

#endif
