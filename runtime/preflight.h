/* What works on this kernel, found by trying it. */
#ifndef MESH_RUNTIME_PREFLIGHT_H
#define MESH_RUNTIME_PREFLIGHT_H

#include "config.h"

#include <jansson.h>

/* {"kernel": "6.18.1", "ok": true, "checks": [{"name", "need": "required"|"better", "works": bool,
 * "detail", "costs": what is lost without it}]}; owned. CONFIG may be NULL (defaults). */
json_t *preflight_run(const struct config *config);

#endif
