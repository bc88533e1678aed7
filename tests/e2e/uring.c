/* uring ADDRESS PORT: connects by io_uring and asks a line; prints "OUTCOME MS answer" as net.py does. */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* The result of the one entry that was prepared, 1 s at most. */
static int run(struct io_uring *ring)
{
	struct __kernel_timespec patience = {.tv_sec = 1};
	struct io_uring_cqe *done;
	io_uring_submit(ring);
	int r = io_uring_wait_cqe_timeout(ring, &done, &patience);
	if (r)
		return r == -ETIME ? -ETIMEDOUT : r;
	r = done->res;
	io_uring_cqe_seen(ring, done);
	return r;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct io_uring ring;
	char answer[256] = "";
	if (argc != 3 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons(atoi(argv[2]));
	if (io_uring_queue_init(4, &ring, 0))
		return puts("missing 0"), 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	double begun = now_ms();
	io_uring_prep_connect(io_uring_get_sqe(&ring), fd, (struct sockaddr *)&to, sizeof(to));
	int r = run(&ring);
	if (!r) {
		io_uring_prep_send(io_uring_get_sqe(&ring), fd, "x\n", 2, 0);
		r = run(&ring);
	}
	if (r > 0) {
		io_uring_prep_recv(io_uring_get_sqe(&ring), fd, answer, sizeof(answer) - 1, 0);
		r = run(&ring);
	}
	answer[strcspn(answer, "\n")] = 0;
	printf("%s %.1f %s\n",
	       r > 0		    ? "ok"
	       : r == -ECONNREFUSED ? "refused"
	       : r == -EPERM	    ? "eperm"
	       : r == -ETIMEDOUT    ? "timeout"
				    : strerror(-r),
	       now_ms() - begun, answer);
	return 0;
}
