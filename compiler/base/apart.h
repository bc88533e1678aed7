/* Work in a process of its own: what a library makes of a hostile object ends there. */
#ifndef MESH_BASE_APART_H
#define MESH_BASE_APART_H

#include "base/why.h"

#include <stdint.h>

/* What comes back. */
struct apart {
	int result; /* of the work: 0 or a negative errno */
	uint32_t count;
	struct why why;
};

/* Runs WORK in a child, 60 s at most; it ends with this process. Returns the result of the work; -EINVAL where it
 * did not survive, -EAGAIN, -ENOMEM where there is no child; WHY says so. */
int apart_run(void (*work)(void *context, struct apart *ret), void *context, uint32_t *ret_count, struct why *why);

#endif
