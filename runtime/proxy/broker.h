/* Sockets in workloads' namespaces, which meshd's broker makes: a store for each place and family that is filled up
 * before it is empty, so that a connection rarely waits for one. */
#ifndef MESH_PROXY_BROKER_H
#define MESH_PROXY_BROKER_H

#include "proxy/deadline.h"

#include <stdint.h>
#include <sys/queue.h>

struct broker;
struct broker_store;

/* Somebody who wants a socket. */
struct broker_wait {
	TAILQ_ENTRY(broker_wait) link;
	struct deadline deadline;
	struct broker_store *store; /* NULL: does not wait */
	/* FD becomes the callee's. Negative: there is none (-ENOENT: no such place, -ETIMEDOUT). */
	void (*ready)(struct broker_wait *wait, int fd);
};

int broker_create(struct loop *loop, int fd, struct broker **ret_broker);
void broker_release(struct broker *broker);
/* A socket at once; or -EINPROGRESS: WAIT is called; or another error, and it is not. */
int broker_take(struct broker *broker, uint32_t endpoint, int family, struct broker_wait *wait);
void broker_cancel(struct broker_wait *wait);
/* The place is gone, or its namespace is another: its sockets are closed, who waits is told. */
void broker_forget(struct broker *broker, uint32_t endpoint);

#endif
