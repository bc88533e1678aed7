/* What a client of the control socket may ask. */
#ifndef MESH_RUNTIME_REQUEST_H
#define MESH_RUNTIME_REQUEST_H

#include "base/why.h"

#include <jansson.h>

/* BODY is an object. 0; -EINVAL: an unknown verb, or a parameter that the verb has not, or of a wrong type or range,
 * named in WHY. */
int request_check(const json_t *body, struct why *why);

#endif
