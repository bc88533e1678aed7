/* The verbs of meshd: `run`, `preflight` and `uninstall` work here, the others ask the one that runs. */
#ifndef MESH_RUNTIME_VERBS_H
#define MESH_RUNTIME_VERBS_H

#include "config.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

struct ask {
	const char *verb, *config, *socket, *argument;
	json_t *values; /* of the verb's own flags; of one that may be repeated, an array */
	bool json, check, follow;
};

#define VERB(name, flags, arguments, summary, help) int verb_##name(struct ask *ask);
#include "verbs.def"
#undef VERB

/* "meshd: MESSAGE" to stderr; returns 2. */
int cannot(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
