#include "loop.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_AT_ONCE = 64 };

struct watch {
	loop_handler handler; /* NULL: this descriptor is not watched */
	void *context;
	uint32_t serial;
};
struct timer {
	loop_handler handler;
	void *context;
	int64_t when_ms;
};
struct loop {
	int epoll;
	bool is_stopped;
	bool is_busy; /* there is more to do after the next batch, whether or not it has events */
	uint32_t serial;
	struct watch *watches; /* by descriptor */
	int watch_count;
	struct timer *timers;
	int timer_count, timer_cap;
	bool (*after)(void *context);
	void *after_context;
};

int64_t loop_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int loop_create(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		int error = -errno;
		free(loop);
		return error;
	}
	*ret_loop = loop;
	return 0;
}

void loop_release(struct loop *loop)
{
	if (!loop)
		return;
	close(loop->epoll);
	free(loop->watches);
	free(loop->timers);
	free(loop);
}

/* ---- Descriptors -------------------------------------------------------------------------------- */

static int watches_grow(struct loop *loop, int fd)
{
	int count = fd + 32;
	struct watch *grown = realloc(loop->watches, (size_t)count * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	for (int i = loop->watch_count; i < count; i++)
		grown[i] = (struct watch){0};
	loop->watches = grown;
	loop->watch_count = count;
	return 0;
}

int loop_watch(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *context)
{
	if (fd < 0 || !handler)
		return -EBADF;
	if (fd >= loop->watch_count && watches_grow(loop, fd))
		return -ENOMEM;
	struct watch *watch = &loop->watches[fd];
	uint32_t serial = watch->handler ? watch->serial : ++loop->serial;
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)serial << 32 | (uint32_t)fd};
	/* What is likely is tried first. A descriptor that was closed without loop_forget has left the epoll set by
	 * itself. */
	int first = watch->handler ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int second = watch->handler ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	if (epoll_ctl(loop->epoll, first, fd, &event) &&
	    ((errno != ENOENT && errno != EEXIST) || epoll_ctl(loop->epoll, second, fd, &event)))
		return -errno;
	*watch = (struct watch){handler, context, serial};
	return 0;
}

void loop_forget(struct loop *loop, int fd)
{
	if (fd < 0 || fd >= loop->watch_count || !loop->watches[fd].handler)
		return;
	loop->watches[fd].handler = NULL;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* An earlier handler of the same batch may have forgotten the descriptor, or given its number anew:
 * the serial tells. */
static void event_deliver(struct loop *loop, const struct epoll_event *event)
{
	int fd = (int)(uint32_t)event->data.u64;
	struct watch *watch = fd < loop->watch_count ? &loop->watches[fd] : NULL;
	if (watch && watch->handler && watch->serial == event->data.u64 >> 32)
		watch->handler(watch->context, event->events);
}

/* ---- Timers: a handful, so a plain list ---------------------------------------------------------- */

static struct timer *timer_find(struct loop *loop, loop_handler handler, void *context)
{
	for (int i = 0; i < loop->timer_count; i++)
		if (loop->timers[i].handler == handler && loop->timers[i].context == context)
			return &loop->timers[i];
	return NULL;
}

int loop_timer(struct loop *loop, int64_t when_ms, loop_handler handler, void *context)
{
	struct timer *timer = timer_find(loop, handler, context);
	if (!when_ms) {
		if (timer)
			*timer = loop->timers[--loop->timer_count];
		return 0;
	}
	if (!timer && loop->timer_count == loop->timer_cap) {
		int cap = loop->timer_cap ? loop->timer_cap * 2 : 8;
		struct timer *grown = realloc(loop->timers, (size_t)cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		loop->timers = grown;
		loop->timer_cap = cap;
	}
	if (!timer)
		timer = &loop->timers[loop->timer_count++];
	*timer = (struct timer){handler, context, when_ms};
	return 0;
}

static int timer_first(const struct loop *loop)
{
	int first = -1;
	for (int i = 0; i < loop->timer_count; i++)
		if (first < 0 || loop->timers[i].when_ms < loop->timers[first].when_ms)
			first = i;
	return first;
}

/* At most as many as there were: timers that set themselves anew cannot keep descriptors waiting. */
static void timers_deliver(struct loop *loop)
{
	int64_t now_ms = loop_now_ms();
	for (int left = loop->timer_count; left > 0 && !loop->is_stopped; left--) {
		int first = timer_first(loop);
		if (first < 0 || loop->timers[first].when_ms > now_ms)
			return;
		struct timer due = loop->timers[first];
		loop->timers[first] = loop->timers[--loop->timer_count];
		due.handler(due.context, 0);
	}
}

static int wait_ms(const struct loop *loop)
{
	int first = timer_first(loop);
	if (first < 0)
		return -1;
	int64_t left = loop->timers[first].when_ms - loop_now_ms();
	return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

void loop_after_batch(struct loop *loop, bool (*handler)(void *context), void *context)
{
	loop->after = handler;
	loop->after_context = context;
}

int loop_run(struct loop *loop)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	while (!loop->is_stopped) {
		int count = epoll_wait(loop->epoll, events, EVENTS_AT_ONCE, loop->is_busy ? 0 : wait_ms(loop));
		if (count < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < count && !loop->is_stopped; i++)
			event_deliver(loop, &events[i]);
		if (!loop->is_stopped)
			timers_deliver(loop);
		loop->is_busy = loop->after && loop->after(loop->after_context);
	}
	loop->is_stopped = false;
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->is_stopped = true;
}
