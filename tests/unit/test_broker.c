/* The broker of sockets, and meshd's patience with it. It has no right to make a socket here: what it answers is why
 * not, and tells one question from another. */
#define _GNU_SOURCE 1
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker.h"
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct broker_line line;
static int proxy, nowhere;
static pid_t broker;

static int prepare(void **state)
{
	int command[2], asks[2];
	(void)state;
	nowhere = open("/dev/null", O_RDONLY); /* no network namespace: -EINVAL, or -EPERM */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, command) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, asks))
		return -1;
	broker = fork();
	if (broker == 0) {
		close(command[0]);
		close(asks[0]);
		_exit(broker_serve(&(struct broker_setup){command[1], asks[1], -1}) ? 1 : 0);
	}
	close(command[1]);
	close(asks[1]);
	line = (struct broker_line){.fd = command[0]};
	proxy = asks[0];
	return broker < 0;
}

static int tidy(void **state)
{
	(void)state;
	kill(broker, SIGCONT);
	close(line.fd);
	close(proxy); /* it ends with it */
	close(nowhere);
	return waitpid(broker, NULL, 0) == broker ? 0 : -1;
}

/* Until it has answered, two seconds at most. */
static void hear(void)
{
	for (int i = 0; i < 200 && line.unanswered_ms; i++) {
		usleep(10000);
		broker_hear(&line);
	}
	assert_int_equal(line.unanswered_ms, 0);
}

static int add(int netns_fd, int64_t *ret_took_ms)
{
	int listener = -1;
	struct why why;
	int64_t begin_ms = loop_now_ms();
	int r = broker_add(&line, 7, 1, netns_fd, &listener, &why);
	*ret_took_ms = loop_now_ms() - begin_ms;
	assert_int_equal(listener, -1);
	return r;
}

static void one_that_is_there_answers(void **state)
{
	int64_t took_ms;
	(void)state;
	broker_ask(&line);
	assert_true(line.unanswered_ms != 0);
	hear();
	assert_int_equal(add(-1, &took_ms), -EBADF);
	broker_ask(&line);
	assert_int_not_equal(add(nowhere, &took_ms), -EBADF);
	assert_int_equal(line.unanswered_ms, 0);
	assert_int_equal(broker_remove(&line, 7), 0);
	broker_ask(&line);
	hear();
}

/* The first workload is waited for, no other; and what comes late is not for who asked next. */
static void one_that_is_stopped_is_waited_for_once(void **state)
{
	int64_t took_ms;
	(void)state;
	kill(broker, SIGSTOP);
	broker_ask(&line);
	assert_int_equal(add(nowhere, &took_ms), -ETIMEDOUT);
	assert_in_range(took_ms, 1000, 4000);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(add(nowhere, &took_ms), -ETIMEDOUT);
		assert_in_range(took_ms, 0, 500);
		broker_ask(&line);
		broker_remove(&line, 8);
	}
	assert_true(line.unanswered_ms != 0);
	kill(broker, SIGCONT);
	hear();
	assert_int_equal(add(-1, &took_ms), -EBADF);
}

/* The first question's answer lies there when the second is asked. */
static void a_late_answer_is_not_taken(void **state)
{
	int64_t took_ms;
	(void)state;
	kill(broker, SIGSTOP);
	assert_int_equal(add(nowhere, &took_ms), -ETIMEDOUT);
	line.unanswered_ms = loop_now_ms(); /* as if the patience were not over */
	kill(broker, SIGCONT);
	assert_int_equal(add(-1, &took_ms), -EBADF);
	assert_int_not_equal(add(nowhere, &took_ms), -EBADF);
}

static void one_that_is_gone_is_not_waited_for(void **state)
{
	int64_t took_ms;
	(void)state;
	kill(broker, SIGKILL);
	usleep(100000);
	broker_ask(&line);
	assert_int_equal(add(nowhere, &took_ms), -EPIPE);
	assert_in_range(took_ms, 0, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_that_is_there_answers, prepare, tidy),
		cmocka_unit_test_setup_teardown(one_that_is_stopped_is_waited_for_once, prepare, tidy),
		cmocka_unit_test_setup_teardown(a_late_answer_is_not_taken, prepare, tidy),
		cmocka_unit_test_setup_teardown(one_that_is_gone_is_not_waited_for, prepare, tidy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
