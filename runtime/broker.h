/* The broker makes sockets in the network namespaces of this node's workloads: a listener for each, and whatever the
 * node proxy asks for (proxy/control.h). A process of its own, born in the proxy's cgroup, so that the sockets are;
 * it outlives meshd together with the proxy, and ends with it. It reads fixed-size messages alone. */
#ifndef MESH_RUNTIME_BROKER_H
#define MESH_RUNTIME_BROKER_H

#include "base/why.h"

#include <stdint.h>

struct broker_setup {
	int command; /* from meshd: SOCK_SEQPACKET */
	int proxy;   /* from the proxy: SOCK_SEQPACKET */
	int sockets; /* map "sockets": where they are stamped */
};

/* Serves until the proxy's end is closed. Never returns to its caller's work: the child exits with it. */
int broker_serve(const struct broker_setup *setup);

/* A workload's namespace: the broker makes the listener and remembers where it is. Again: only the listener is made.
 * -ETIMEDOUT, -EPIPE: there is no broker any more. */
int broker_add(int command, uint32_t endpoint, uint64_t cookie, int netns_fd, int *ret_listener, struct why *why);
int broker_remove(int command, uint32_t endpoint);

#endif
