/* What the proxy asks the kernel, by socket options on its own sockets (abi.h). */
#ifndef MESH_PROXY_ASK_H
#define MESH_PROXY_ASK_H

#include "abi.h"

/* -ENOENT: FD was not steered; -EOPNOTSUPP, -ENOPROTOOPT: FD is no socket of the proxy, or no program
 * answers. */
int ask_origin(int fd, struct mesh_origin *ret_origin);
/* Fills the answer part of QUESTION. Closed: where nobody answers, allow is 0. */
int ask_decision(int fd, struct mesh_ask *question);
/* FD is bound to the workload's own address and not connected yet. */
int ask_remember(int fd, const struct mesh_remember *remember);
int ask_forget(int fd, const struct mesh_remember *remember);

#endif
