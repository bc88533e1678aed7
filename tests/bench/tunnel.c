/* Connections through several kinds of tunnels in turn, a few milliseconds each, so that whoever else uses this
 * machine disturbs all of them alike:
 *
 *   tunnel talk ROUNDS SLICE_MS {NAME NETNS CGROUP ECHO:PORT SINK:PORT}...
 *   tunnel echo ADDRESS PORT		answers each byte with itself, until it is killed
 *   tunnel hold COUNT NETNS CGROUP ECHO:PORT	opens COUNT connections, each with one echo; "held N"; waits for the end
 *						of standard input
 *
 * talk: 64 bytes to and fro on one connection; new connections one after the other, each with one such round trip;
 * one stream. One JSON object: for each kind the better quartile of its slices; `*_ratio`, the median over the rounds
 * of its slice against that of the first kind. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KINDS = 8, MOST_ROUNDS = 1000, MESSAGE = 64, PATIENCE_S = 3, MOST_TIMES = 1 << 16 };
enum measure { TRIP_P50, TRIP_P99, FRESH_P50, FRESH_PER_S, MBYTES_PER_S, MEASURES };
static const char *const names[MEASURES] = {"trip_p50_us", "trip_p99_us", "fresh_p50_us", "fresh_per_s", "mb_per_s"};
static const bool less_is_better[MEASURES] = {true, true, true, false, false};

struct kind {
	const char *name, *cgroup;
	int netns, trip, bulk;
	struct sockaddr_in echo, sink;
	double values[MEASURES][MOST_ROUNDS];
};
static struct kind kinds[KINDS];
static int kind_count, rounds, slice_ms;

static void fail(const struct kind *kind, const char *what)
{
	fprintf(stderr, "tunnel: %s: %s: %s\n", kind ? kind->name : "", what, strerror(errno));
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static struct sockaddr_in address_of(const char *text)
{
	char host[64] = "";
	int port = 0;
	struct sockaddr_in address = {.sin_family = AF_INET};
	sscanf(text, "%63[^:]:%d", host, &port);
	address.sin_port = htons(port);
	inet_pton(AF_INET, host, &address.sin_addr);
	return address;
}

static void enter(int netns, const char *cgroup)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1 || setns(netns, CLONE_NEWNET))
		fail(NULL, path);
	close(fd);
}

static int open_to(const struct kind *kind, const struct sockaddr_in *to)
{
	struct timeval patience = {PATIENCE_S, 0};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		fail(kind, "connect");
	return fd;
}

static void trip(const struct kind *kind, int fd)
{
	char bytes[MESSAGE] = "ping";
	if (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
		fail(kind, "send");
	if (recv(fd, bytes, sizeof(bytes), MSG_WAITALL) != sizeof(bytes))
		fail(kind, "no echo");
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

static double quantile(double *values, int count, double q)
{
	qsort(values, count, sizeof(*values), compare);
	return values[(int)(q * (count - 1))];
}

/* ---- What is measured --------------------------------------------------------------------------------- */

static double times_us[MOST_TIMES];

static void run_trips(struct kind *kind, int round)
{
	int count = 0;
	if (!kind->trip)
		kind->trip = open_to(kind, &kind->echo);
	for (uint64_t end = now_ns() + slice_ms * 1000000ull, before; count < MOST_TIMES && now_ns() < end; count++) {
		before = now_ns();
		trip(kind, kind->trip);
		times_us[count] = (now_ns() - before) / 1000.0;
	}
	kind->values[TRIP_P50][round] = quantile(times_us, count, 0.5);
	kind->values[TRIP_P99][round] = quantile(times_us, count, 0.99);
}

static void run_fresh(struct kind *kind, int round)
{
	struct linger at_once = {1, 0};
	uint64_t start = now_ns(), end = start + slice_ms * 1000000ull;
	int count = 0;
	for (; count < MOST_TIMES && now_ns() < end; count++) {
		uint64_t before = now_ns();
		int fd = open_to(kind, &kind->echo);
		trip(kind, fd);
		times_us[count] = (now_ns() - before) / 1000.0;
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(fd);
	}
	kind->values[FRESH_PER_S][round] = count * 1e9 / (now_ns() - start);
	kind->values[FRESH_P50][round] = quantile(times_us, count, 0.5);
}

/* The sink answers each MiB: what counts has arrived. */
static void run_bulk(struct kind *kind, int round)
{
	static char chunk[1 << 20], answers[1 << 12];
	size_t sent = 0, answered = 0;
	if (!kind->bulk)
		kind->bulk = open_to(kind, &kind->sink);
	uint64_t start = now_ns(), end = start + slice_ms * 1000000ull;
	for (; now_ns() < end; sent++)
		for (size_t done = 0; done < sizeof(chunk);) {
			ssize_t one = send(kind->bulk, chunk + done, sizeof(chunk) - done, MSG_NOSIGNAL);
			if (one <= 0)
				fail(kind, "send to the sink");
			done += one;
		}
	while (answered < sent) {
		ssize_t got = recv(kind->bulk, answers, sizeof(answers), 0);
		if (got <= 0)
			fail(kind, "the sink does not answer");
		answered += got;
	}
	kind->values[MBYTES_PER_S][round] = sent * 1e3 * sizeof(chunk) / (now_ns() - start);
}

static void print(void)
{
	static double ratios[MOST_ROUNDS];
	printf("{");
	for (int i = 0; i < kind_count; i++) {
		printf("%s\"%s\": {", i ? ", " : "", kinds[i].name);
		for (int m = 0; m < MEASURES; m++) {
			for (int r = 0; r < rounds; r++)
				ratios[r] = kinds[i].values[m][r] / kinds[0].values[m][r];
			printf("%s\"%s_ratio\": %.3f", m ? ", " : "", names[m], quantile(ratios, rounds, 0.5));
		}
		printf("}");
	}
	for (int i = 0; i < kind_count; i++)
		for (int m = 0; m < MEASURES; m++)
			printf(", \"%s_%s\": %.2f", kinds[i].name, names[m],
			       quantile(kinds[i].values[m], rounds, less_is_better[m] ? 0.25 : 0.75));
	puts("}");
}

static int talk(char **argv)
{
	rounds = atoi(argv[0]);
	slice_ms = atoi(argv[1]);
	for (char **at = argv + 2; *at; at += 5) {
		struct kind *kind = &kinds[kind_count++];
		*kind = (struct kind){
			.name = at[0], .cgroup = at[2], .echo = address_of(at[3]), .sink = address_of(at[4])};
		kind->netns = open(at[1], O_RDONLY | O_CLOEXEC);
		if (kind->netns < 0)
			fail(kind, at[1]);
	}
	/* The first round warms up, and is measured over. Each kind comes first, and behind each other, equally often.
	 */
	for (int round = -1; round < rounds; round++)
		for (int i = 0; i < kind_count; i++) {
			struct kind *kind = &kinds[(round + 1 + (round % 2 ? kind_count - i : i)) % kind_count];
			enter(kind->netns, kind->cgroup);
			run_trips(kind, round < 0 ? 0 : round);
			run_fresh(kind, round < 0 ? 0 : round);
			run_bulk(kind, round < 0 ? 0 : round);
		}
	print();
	return 0;
}

/* ---- The server ------------------------------------------------------------------------------------------ */

static void allow_descriptors(void)
{
	struct rlimit many = {1 << 17, 1 << 17};
	setrlimit(RLIMIT_NOFILE, &many);
}

static int __attribute__((noreturn)) echo(const char *address, const char *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	struct epoll_event events[64], event = {.events = EPOLLIN};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), epoll = epoll_create1(EPOLL_CLOEXEC);
	static char bytes[64 << 10];
	allow_descriptors();
	inet_pton(AF_INET, address, &at.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	event.data.fd = fd;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 4096) ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		fail(NULL, "listen");
	for (;;) {
		int count = epoll_wait(epoll, events, 64, -1);
		for (int i = 0; i < count; i++) {
			int from = events[i].data.fd;
			if (from == fd) {
				event.data.fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
				setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
				continue;
			}
			ssize_t got = recv(from, bytes, sizeof(bytes), 0);
			if (got <= 0 || send(from, bytes, got, MSG_NOSIGNAL) != got)
				close(from);
		}
	}
}

static int hold(int count, const char *netns, const char *cgroup, const char *to)
{
	struct kind kind = {.name = "hold", .echo = address_of(to)};
	char byte;
	allow_descriptors();
	enter(open(netns, O_RDONLY | O_CLOEXEC), cgroup);
	for (int i = 0; i < count; i++)
		trip(&kind, open_to(&kind, &kind.echo));
	printf("held %d\n", count);
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		continue;
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	if (strcmp(what, "talk") == 0 && argc > 8 && (argc - 4) % 5 == 0 && (argc - 4) / 5 <= KINDS &&
	    atoi(argv[2]) <= MOST_ROUNDS)
		return talk(argv + 2);
	if (strcmp(what, "echo") == 0 && argc == 4)
		return echo(argv[2], argv[3]);
	if (strcmp(what, "hold") == 0 && argc == 6)
		return hold(atoi(argv[2]), argv[3], argv[4], argv[5]);
	return fputs("usage: tunnel talk ROUNDS SLICE_MS {NAME NETNS CGROUP ECHO:PORT SINK:PORT}...\n"
		     "       tunnel echo ADDRESS PORT\n"
		     "       tunnel hold COUNT NETNS CGROUP ECHO:PORT\n",
		     stderr),
	       2;
}
