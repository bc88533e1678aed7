#include "proxy/deadline.h"

static void queue_on_timer(void *context, uint32_t events);

static void queue_wind(struct deadline_queue *queue)
{
	const struct deadline *first = TAILQ_FIRST(&queue->waiting);
	loop_timer(queue->loop, first ? first->when_ms : 0, queue_on_timer, queue);
}

static void queue_on_timer(void *context, uint32_t events)
{
	struct deadline_queue *queue = context;
	struct deadline *first;
	int64_t now_ms = loop_now_ms();
	(void)events;
	while ((first = TAILQ_FIRST(&queue->waiting)) && first->when_ms <= now_ms) {
		TAILQ_REMOVE(&queue->waiting, first, link);
		first->when_ms = 0;
		queue->due(queue->context, first);
	}
	queue_wind(queue);
}

void deadline_queue_start(struct deadline_queue *queue, struct loop *loop, int64_t patience_ms,
			  void (*due)(void *context, struct deadline *deadline), void *context)
{
	*queue = (struct deadline_queue){.loop = loop, .patience_ms = patience_ms, .due = due, .context = context};
	TAILQ_INIT(&queue->waiting);
}

void deadline_queue_stop(struct deadline_queue *queue)
{
	loop_timer(queue->loop, 0, queue_on_timer, queue);
}

void deadline_set(struct deadline_queue *queue, struct deadline *deadline)
{
	bool was_empty = TAILQ_EMPTY(&queue->waiting);
	if (deadline->when_ms)
		TAILQ_REMOVE(&queue->waiting, deadline, link);
	deadline->when_ms = loop_now_ms() + queue->patience_ms;
	TAILQ_INSERT_TAIL(&queue->waiting, deadline, link);
	if (was_empty)
		queue_wind(queue);
}

/* The timer of one that has gone may fire for nothing: that is cheaper than winding it at each. */
void deadline_clear(struct deadline_queue *queue, struct deadline *deadline)
{
	if (!deadline->when_ms)
		return;
	TAILQ_REMOVE(&queue->waiting, deadline, link);
	deadline->when_ms = 0;
}
