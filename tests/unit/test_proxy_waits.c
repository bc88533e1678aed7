/* Deadlines, and the store of sockets. */
#define _GNU_SOURCE 1
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/broker.h"
#include "proxy/control.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;

static int prepare(void **state)
{
	(void)state;
	return loop_create(&loop);
}

static int tidy(void **state)
{
	(void)state;
	loop_release(loop);
	return 0;
}

static void stop(void *context, uint32_t events)
{
	(void)context;
	(void)events;
	loop_stop(loop);
}

static void run_ms(int ms)
{
	loop_timer(loop, loop_now_ms() + ms, stop, NULL);
	loop_run(loop);
}

static int due[8], due_count;

struct waiter {
	int number;
	struct deadline deadline;
};

static void on_due(void *context, struct deadline *deadline)
{
	(void)context;
	due[due_count++] = CONTAINER_OF(deadline, struct waiter, deadline)->number;
}

static void deadlines_come_in_order(void **state)
{
	struct deadline_queue queue;
	struct waiter waiters[4] = {{0}, {1}, {2}, {3}};
	(void)state;
	due_count = 0;
	deadline_queue_start(&queue, loop, 20, on_due, NULL);
	for (int i = 0; i < 4; i++)
		deadline_set(&queue, &waiters[i].deadline);
	deadline_clear(&queue, &waiters[0].deadline);
	deadline_clear(&queue, &waiters[0].deadline);
	deadline_set(&queue, &waiters[1].deadline); /* anew: behind the others */
	run_ms(60);
	assert_int_equal(due_count, 3);
	assert_int_equal(due[0], 2);
	assert_int_equal(due[1], 3);
	assert_int_equal(due[2], 1);
	deadline_set(&queue, &waiters[0].deadline);
	run_ms(40);
	assert_int_equal(due_count, 4);
	deadline_queue_stop(&queue);
}

static int pair[2], got[4], got_count;
static struct broker *broker;

static int broker_prepare(void **state)
{
	got_count = 0;
	return prepare(state) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) || broker_create(loop, pair[0], &broker);
}

static int broker_tidy(void **state)
{
	broker_release(broker);
	close(pair[0]);
	close(pair[1]);
	return tidy(state);
}

static void on_ready(struct broker_wait *wait, int fd)
{
	(void)wait;
	got[got_count++] = fd;
}

/* As many sockets as asked for, or COUNT. */
static void answer(int count)
{
	struct broker_ask ask;
	int fds[BROKER_SOCKETS];
	char room[CMSG_SPACE(sizeof(fds))] = {0};
	assert_int_equal(recv(pair[1], &ask, sizeof(ask), MSG_DONTWAIT), sizeof(ask));
	assert_in_range(ask.count, 1, BROKER_SOCKETS);
	count = count < 0 ? ask.count : count;
	struct iovec part = {&ask, sizeof(ask)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	for (int i = 0; i < count; i++)
		fds[i] = socket(ask.family, SOCK_STREAM, 0);
	if (count) {
		message.msg_control = room;
		message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
		*rights = (struct cmsghdr){CMSG_LEN((size_t)count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(rights), fds, (size_t)count * sizeof(int));
	}
	assert_int_equal(sendmsg(pair[1], &message, 0), sizeof(ask));
	while (count)
		close(fds[--count]);
}

static void sockets_are_stored(void **state)
{
	struct broker_wait wait = {.ready = on_ready}, other = {.ready = on_ready};
	(void)state;
	assert_int_equal(broker_take(broker, 7, AF_INET, &wait), -EINPROGRESS);
	answer(-1);
	run_ms(10);
	assert_int_equal(got_count, 1);
	assert_true(got[0] >= 0);
	close(got[0]);
	int fd = broker_take(broker, 7, AF_INET, &wait);
	assert_true(fd >= 0); /* from the store */
	close(fd);
	/* Another endpoint's store is its own; nobody lives there. */
	assert_int_equal(broker_take(broker, 8, AF_INET6, &wait), -EINPROGRESS);
	assert_int_equal(broker_take(broker, 8, AF_INET6, &other), -EINPROGRESS);
	broker_cancel(&other);
	answer(0);
	run_ms(10);
	assert_int_equal(got_count, 2);
	assert_int_equal(got[1], -ENOENT);
	/* Who waits when the place goes is told. */
	assert_int_equal(broker_take(broker, 9, AF_INET, &wait), -EINPROGRESS);
	broker_forget(broker, 9);
	assert_int_equal(got[2], -ENOENT);
}

/* A place that moves to another namespace: what was asked for in the old one is not for it. */
static void a_late_answer_is_not_taken(void **state)
{
	struct broker_wait wait = {.ready = on_ready}, other = {.ready = on_ready};
	(void)state;
	assert_int_equal(broker_take(broker, 7, AF_INET, &wait), -EINPROGRESS);
	broker_forget(broker, 7);
	assert_int_equal(got_count, 1);
	assert_int_equal(got[0], -ENOENT);
	assert_int_equal(broker_take(broker, 7, AF_INET, &other), -EINPROGRESS);
	answer(-1);
	run_ms(10);
	assert_int_equal(got_count, 1);
	answer(0); /* nor does the old one's end say that the new one is not there */
	run_ms(10);
	assert_int_equal(got_count, 2);
	assert_int_equal(got[1], -ENOENT);
	assert_int_equal(broker_take(broker, 7, AF_INET, &wait), -EINPROGRESS);
	broker_cancel(&wait);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(deadlines_come_in_order, prepare, tidy),
		cmocka_unit_test_setup_teardown(sockets_are_stored, broker_prepare, broker_tidy),
		cmocka_unit_test_setup_teardown(a_late_answer_is_not_taken, broker_prepare, broker_tidy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
