/* What faces the wire holds no power over the node: this process gives up, before it reads a byte, what it will not
 * need. */
#ifndef MESH_PROXY_HARDEN_H
#define MESH_PROXY_HARDEN_H

#include "base/why.h"

#include <stdbool.h>

/* Not root, no capability, no core, no new privileges; every descriptor but 0, 1, 2 and meshd's two is closed. */
int harden_process(bool is_root_ok, struct why *why);
/* From here on only the system calls of a proxy. */
int harden_seccomp(struct why *why);

#endif
