/* The broker makes sockets in the network namespaces of this node's workloads: a listener for each, and whatever the
 * node proxy asks for (proxy/control.h). A process of its own, born in the proxy's cgroup, so that the sockets are;
 * it outlives meshd together with the proxy, and ends with it. It reads fixed-size messages alone. */
#ifndef MESH_RUNTIME_BROKER_H
#define MESH_RUNTIME_BROKER_H

#include "base/why.h"

#include <stdint.h>

/* meshd's end. One that does not answer costs meshd one wait, not one for each workload. */
struct broker_line {
	int fd;		       /* SOCK_SEQPACKET; -1: there is no broker */
	uint32_t asked;	       /* the number of the last question */
	int64_t unanswered_ms; /* since when it owes an answer; 0: it does not */
};

struct broker_setup {
	int command; /* from meshd: SOCK_SEQPACKET */
	int proxy;   /* from the proxy: SOCK_SEQPACKET */
	int sockets; /* map "sockets": where they are stamped */
};

/* Serves until the proxy's end is closed. Never returns to its caller's work: the child exits with it. */
int broker_serve(const struct broker_setup *setup);

/* A workload's namespace: the broker makes the listener and remembers where it is. Again: only the listener is made.
 * -ETIMEDOUT: it does not answer, and is not waited for again until it does; -EPIPE: there is no broker any more. */
int broker_add(struct broker_line *line, uint32_t endpoint, uint64_t cookie, int netns_fd, int *ret_listener,
	       struct why *why);
int broker_remove(struct broker_line *line, uint32_t endpoint);
/* Asks whether it is there, where it owes no answer; takes what it said meanwhile. Waits for nothing. */
void broker_ask(struct broker_line *line);
void broker_hear(struct broker_line *line);

#endif
