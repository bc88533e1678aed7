/* One thread, one epoll: descriptors and timers. */
#ifndef MESH_RUNTIME_LOOP_H
#define MESH_RUNTIME_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
typedef void (*loop_handler)(void *context, uint32_t events); /* EPOLLIN ... ; 0: the timer */

int loop_create(struct loop **ret_loop);
void loop_release(struct loop *loop);
/* Watches FD, which stays the caller's. Adding again changes EVENTS. */
int loop_watch(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *context);
void loop_forget(struct loop *loop, int fd);
/* One timer for each (handler, context): at CLOCK_MONOTONIC WHEN_MS; 0 stops it. */
int loop_timer(struct loop *loop, int64_t when_ms, loop_handler handler, void *context);
/* HANDLER, one for a loop, runs after each batch of events and timers, before the loop waits again: the place for
 * what many events of a batch want done once. While it returns true the loop does not wait. */
void loop_after_batch(struct loop *loop, bool (*handler)(void *context), void *context);
/* Until loop_stop. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
int64_t loop_now_ms(void);

#endif
