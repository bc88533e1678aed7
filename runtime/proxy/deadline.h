/* Deadlines by the thousand: all of one queue have the same patience, so that whoever came first is due first and
 * each operation takes constant time. A queue is one timer of the loop. */
#ifndef MESH_PROXY_DEADLINE_H
#define MESH_PROXY_DEADLINE_H

#include "loop.h"

#include <stddef.h>
#include <sys/queue.h>

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))

struct deadline {
	TAILQ_ENTRY(deadline) link;
	int64_t when_ms; /* 0: not in a queue */
};
struct deadline_queue {
	TAILQ_HEAD(, deadline) waiting;
	struct loop *loop;
	int64_t patience_ms;
	void (*due)(void *context, struct deadline *deadline); /* it has left the queue */
	void *context;
};

void deadline_queue_start(struct deadline_queue *queue, struct loop *loop, int64_t patience_ms,
			  void (*due)(void *context, struct deadline *deadline), void *context);
void deadline_queue_stop(struct deadline_queue *queue);
/* From now on; again: anew. */
void deadline_set(struct deadline_queue *queue, struct deadline *deadline);
void deadline_clear(struct deadline_queue *queue, struct deadline *deadline);

#endif
