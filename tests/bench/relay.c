/* One connection after another through whatever relays them, in a line of JSON:
 *
 *   relay serve ADDRESS PORT		the other end: sends back what it gets; behind a 'D', counts it instead
 *   relay trip ADDRESS PORT COUNT	round trips of 64 bytes on one connection
 *   relay fresh ADDRESS PORT COUNT	the same, each on a connection of its own
 *   relay bulk ADDRESS PORT MIB	one stream, until the other end has all of it */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TRIP_BYTES = 64, WARM_UP = 500, CHUNK_BYTES = 256 << 10 };

static struct sockaddr_in address = {.sin_family = AF_INET};
static char chunk[CHUNK_BYTES];

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static double now_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int quick(int fd)
{
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		die("connect");
	return quick(fd);
}

static void answer(int fd)
{
	ssize_t got;
	uint64_t total = 0;
	int is_counting = -1;
	while ((got = read(fd, chunk, sizeof(chunk))) > 0) {
		if (is_counting < 0)
			is_counting = chunk[0] == 'D';
		total += (uint64_t)got;
		if (!is_counting && write(fd, chunk, (size_t)got) != got)
			break;
	}
	if (is_counting > 0 && write(fd, &total, sizeof(total)) < 0)
		die("write");
	_exit(0);
}

static void serve(void)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	signal(SIGCHLD, SIG_IGN);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (const struct sockaddr *)&address, sizeof(address)) || listen(listener, 4096))
		die("listen");
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd >= 0 && !fork())
			answer(quick(fd));
		close(fd);
	}
}

static void trip(int fd)
{
	if (write(fd, chunk, TRIP_BYTES) != TRIP_BYTES)
		die("write");
	for (ssize_t got, left = TRIP_BYTES; left > 0; left -= got)
		if ((got = read(fd, chunk, (size_t)left)) <= 0)
			die("read");
}

static int by_size(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;
	return (a > b) - (a < b);
}

static void trips(int count, int is_fresh)
{
	double *us = calloc((size_t)count, sizeof(*us)), started_us = 0;
	int fd = is_fresh ? -1 : dial();
	for (int i = is_fresh ? -5 : -WARM_UP; i < count; i++) {
		double from_us = now_us();
		if (!i)
			started_us = from_us;
		if (is_fresh)
			fd = dial();
		trip(fd);
		if (i >= 0)
			us[i] = now_us() - from_us;
		if (is_fresh)
			close(fd);
	}
	double whole_us = now_us() - started_us;
	qsort(us, (size_t)count, sizeof(*us), by_size);
	printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"per_s\": %.0f}\n", us[count / 2], us[(long)count * 99 / 100],
	       count / whole_us * 1e6);
	free(us);
}

static void bulk(int mib)
{
	int fd = dial();
	uint64_t arrived = 0, all = (uint64_t)mib << 20;
	double from_us = now_us();
	memset(chunk, 'D', sizeof(chunk));
	for (uint64_t sent = 0; sent < all; sent += sizeof(chunk))
		if (write(fd, chunk, sizeof(chunk)) != sizeof(chunk))
			die("write");
	shutdown(fd, SHUT_WR);
	if (read(fd, &arrived, sizeof(arrived)) != sizeof(arrived) || arrived != all)
		die("read");
	printf("{\"mb_per_s\": %.0f}\n", (double)all / (now_us() - from_us));
}

int main(int argc, char **argv)
{
	if (argc < 4 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1)
		return 2;
	address.sin_port = htons((uint16_t)atoi(argv[3]));
	int count = argc > 4 ? atoi(argv[4]) : 1;
	if (!strcmp(argv[1], "serve"))
		serve();
	else if (!strcmp(argv[1], "bulk"))
		bulk(count);
	else
		trips(count, !strcmp(argv[1], "fresh"));
	return 0;
}
