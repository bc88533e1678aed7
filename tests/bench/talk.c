/* Clients of several kinds of networks in turn, a few milliseconds each, so that whoever else uses this
 * machine disturbs all of them alike:
 *
 *   talk ROUNDS SLICE_MS {NAME NETNS CLIENT_CGROUP SERVER_CGROUP HTTP:PORT BULK:PORT}...
 *
 * A slice: connections with one request each, 16 at a time; requests on 16 connections that are kept; the best of 3
 * streams. The sockets are born in the kind's own namespace and cgroup. One JSON object: for each kind the better
 * quartile of its slices, their median of CPU, and `*_ratio`, the median over the rounds of its slice against that of
 * the first kind.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KINDS = 8, LANES = 16, STREAMS = 3, MOST_ROUNDS = 2000, PATIENCE_MS = 2000, BUCKETS = 1024 };
enum measure { FRESH, KEPT, BULK, MEASURES };
static const char *const measure_names[] = {"connections_per_s", "requests_per_s", "gbit_per_s"};
static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

struct lane {
	int fd;
	bool connected;
	uint64_t asked_ns;
};
struct kind {
	const char *name, *client, *server;
	int netns, bulk, slices;
	struct sockaddr_in http, sink;
	struct lane lanes[LANES];
	double rates[MEASURES][MOST_ROUNDS];
	uint64_t latencies[BUCKETS]; /* of a slice */
	double p50_us[MOST_ROUNDS], p99_us[MOST_ROUNDS], request_us[MOST_ROUNDS];
};
static struct kind kinds[KINDS];
static int kind_count, rounds, slice_ms;

static void fail(const struct kind *kind, const char *what)
{
	fprintf(stderr, "talk: %s: %s: %s\n", kind ? kind->name : "", what, strerror(errno));
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* ---- Where sockets are born ------------------------------------------------------------------------- */

static void enter(const struct kind *kind)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/cgroup.procs", kind->client);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1 || setns(kind->netns, CLONE_NEWNET))
		fail(kind, path);
	close(fd);
}

static double cgroup_us(const char *cgroup)
{
	char path[512], line[128];
	double us = 0;
	snprintf(path, sizeof(path), "%s/cpu.stat", cgroup);
	FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file) && sscanf(line, "usage_usec %lf", &us) != 1)
		continue;
	if (file)
		fclose(file);
	return us;
}

/* This process is in the client's cgroup: both ends, and the proxies between. */
static double cpu_us(const struct kind *kind)
{
	return cgroup_us(kind->client) + cgroup_us(kind->server);
}

/* ---- Requests ------------------------------------------------------------------------------------------ */

static void lane_open(const struct kind *kind, int epoll, struct lane *lane)
{
	struct linger at_once = {1, 0};
	lane->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(lane->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	lane->connected = false;
	if (lane->fd < 0 ||
	    (connect(lane->fd, (const struct sockaddr *)&kind->http, sizeof(kind->http)) && errno != EINPROGRESS))
		fail(kind, "connect");
	struct epoll_event event = {.events = EPOLLOUT, .data.ptr = lane};
	epoll_ctl(epoll, EPOLL_CTL_ADD, lane->fd, &event);
}

static void lane_ask(const struct kind *kind, struct lane *lane)
{
	lane->asked_ns = now_ns();
	if (send(lane->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != sizeof(request) - 1)
		fail(kind, "send");
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned octave = 63 - __builtin_clzll(ns | 16);
	return octave * 16 + (ns >> (octave - 4) & 15);
}

/* Whether the lane's answer came. */
static bool lane_step(struct kind *kind, int epoll, struct lane *lane)
{
	char answer[4096];
	if (!lane->connected) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = lane};
		lane->connected = true;
		epoll_ctl(epoll, EPOLL_CTL_MOD, lane->fd, &event);
		lane_ask(kind, lane);
		return false;
	}
	ssize_t got = recv(lane->fd, answer, sizeof(answer), 0);
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got < 12 || memcmp(answer + 9, "200", 3) != 0)
		fail(kind, got < 0 ? "recv" : "not an answer");
	return true;
}

/* Answers until the time is up and nothing is outstanding; a second. */
static double run_requests(struct kind *kind, bool fresh, int ms)
{
	struct epoll_event events[LANES];
	int epoll = epoll_create1(EPOLL_CLOEXEC), open_lanes = LANES;
	uint64_t start = now_ns(), end = start + ms * 1000000ull, done = 0;
	for (int i = 0; i < LANES; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &kind->lanes[i]};
		if (fresh || !kind->lanes[i].fd) {
			lane_open(kind, epoll, &kind->lanes[i]);
			continue;
		}
		epoll_ctl(epoll, EPOLL_CTL_ADD, kind->lanes[i].fd, &event);
		lane_ask(kind, &kind->lanes[i]);
	}
	while (open_lanes) {
		int count = epoll_wait(epoll, events, LANES, PATIENCE_MS);
		if (count <= 0)
			fail(kind, "no answer");
		for (int i = 0; i < count; i++) {
			struct lane *lane = events[i].data.ptr;
			if (!lane_step(kind, epoll, lane))
				continue;
			uint64_t now = now_ns();
			done++;
			if (fresh)
				close(lane->fd);
			else
				kind->latencies[bucket_of(now - lane->asked_ns)]++;
			if (now >= end)
				open_lanes--;
			else if (fresh)
				lane_open(kind, epoll, lane);
			else
				lane_ask(kind, lane);
		}
	}
	close(epoll);
	return done * 1e9 / (now_ns() - start);
}

static double run_fresh(struct kind *kind)
{
	return run_requests(kind, true, slice_ms);
}

static double latency_us(const struct kind *kind, double q)
{
	uint64_t all = 0, seen = 0;
	for (int i = 0; i < BUCKETS; i++)
		all += kind->latencies[i];
	for (int i = 0; i < BUCKETS; i++) {
		unsigned octave = i / 16;
		seen += kind->latencies[i];
		if (all && seen >= q * all)
			return (16.0 + i % 16 + 0.5) * (1ull << (octave - 4)) / 1000;
	}
	return 0;
}

/* On connections that are new in each slice: where they lie in memory is worth a per cent, one way or the other. Their
 * first request is not counted. */
static double run_kept(struct kind *kind)
{
	memset(kind->lanes, 0, sizeof(kind->lanes));
	run_requests(kind, false, 0);
	uint64_t start = now_ns();
	double before = cpu_us(kind), rate;
	memset(kind->latencies, 0, sizeof(kind->latencies));
	rate = run_requests(kind, false, slice_ms);
	kind->request_us[kind->slices] = (cpu_us(kind) - before) / (rate * (now_ns() - start) / 1e9);
	kind->p50_us[kind->slices] = latency_us(kind, 0.5);
	kind->p99_us[kind->slices] = latency_us(kind, 0.99);
	for (int i = 0; i < LANES; i++)
		close(kind->lanes[i].fd);
	return rate;
}

/* ---- A stream ------------------------------------------------------------------------------------------- */

static void open_bulk(struct kind *kind)
{
	struct timeval patience = {PATIENCE_MS / 1000, 0};
	kind->bulk = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(kind->bulk, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(kind->bulk, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(kind->bulk, (const struct sockaddr *)&kind->sink, sizeof(kind->sink)))
		fail(kind, "connect to the sink");
}

static char chunk[1 << 20];

static void send_chunk(const struct kind *kind)
{
	for (size_t done = 0; done < sizeof(chunk);) {
		ssize_t one = send(kind->bulk, chunk + done, sizeof(chunk) - done, MSG_NOSIGNAL);
		if (one <= 0)
			fail(kind, "send to the sink");
		done += one;
	}
}

/* The sink answers each MiB: what counts has arrived. */
static void wait_for_answers(const struct kind *kind, size_t count)
{
	static char answers[1 << 12];
	for (size_t answered = 0; answered < count;) {
		ssize_t got = recv(kind->bulk, answers, sizeof(answers), 0);
		if (got <= 0)
			fail(kind, "the sink does not answer");
		answered += got;
	}
}

/* A new connection each time, for the same reason; its first MiB is not counted. */
static double run_stream(struct kind *kind)
{
	size_t sent = 0;
	open_bulk(kind);
	send_chunk(kind);
	wait_for_answers(kind, 1);
	uint64_t start = now_ns(), end = start + slice_ms * 1000000ull;
	for (; now_ns() < end; sent++)
		send_chunk(kind);
	wait_for_answers(kind, sent);
	double rate = sent * 8.0 * sizeof(chunk) / (now_ns() - start);
	close(kind->bulk);
	return rate;
}

/* On the first CPU: the sink has the last, and where both shared one, that would be all that is seen. The best of
 * several: one in six stalls on its way, whoever is asked about it. */
static double run_bulk(struct kind *kind)
{
	double best = 0;
	cpu_set_t anywhere, first;
	CPU_ZERO(&first);
	if (sched_getaffinity(0, sizeof(anywhere), &anywhere))
		fail(kind, "sched_getaffinity");
	for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&first); i++)
		if (CPU_ISSET(i, &anywhere))
			CPU_SET(i, &first);
	sched_setaffinity(0, sizeof(first), &first);
	for (int i = 0; i < STREAMS; i++) {
		double rate = run_stream(kind);
		best = rate > best ? rate : best;
	}
	sched_setaffinity(0, sizeof(anywhere), &anywhere);
	return best;
}

/* ---- Figures -------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return left < right ? -1 : left > right;
}

static double quantile(const double *values, double q)
{
	static double sorted[MOST_ROUNDS];
	memcpy(sorted, values, rounds * sizeof(*values));
	qsort(sorted, rounds, sizeof(*sorted), compare);
	return sorted[(int)(q * (rounds - 1))];
}

static void print(void)
{
	static double ratios[MOST_ROUNDS];
	printf("{");
	for (int i = 0; i < kind_count; i++) {
		struct kind *kind = &kinds[i];
		printf("%s\"%s\": {\"p50_us\": %.0f, \"p99_us\": %.0f, \"cpu_us\": %.2f", i ? ", " : "", kind->name,
		       quantile(kind->p50_us, 0.25), quantile(kind->p99_us, 0.25), quantile(kind->request_us, 0.5));
		for (int m = 0; m < MEASURES; m++) {
			for (int r = 0; r < rounds; r++)
				ratios[r] = kind->rates[m][r] / kinds[0].rates[m][r];
			printf(", \"%s\": %.2f, \"%s_ratio\": %.3f", measure_names[m], quantile(kind->rates[m], 0.75),
			       measure_names[m], quantile(ratios, 0.5));
		}
		printf("}");
	}
	puts("}");
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

int main(int argc, char **argv)
{
	static double (*const runs[MEASURES])(struct kind *) = {run_fresh, run_kept, run_bulk};
	if (argc < 9 || (argc - 3) % 6 || (argc - 3) / 6 > KINDS || atoi(argv[1]) > MOST_ROUNDS)
		return fputs("usage: talk ROUNDS SLICE_MS {NAME NETNS CLIENT_CGROUP SERVER_CGROUP HTTP:PORT "
			     "BULK:PORT}...\n",
			     stderr),
		       2;
	rounds = atoi(argv[1]);
	slice_ms = atoi(argv[2]);
	for (char **at = argv + 3; *at; at += 6) {
		struct kind *kind = &kinds[kind_count++];
		*kind = (struct kind){.name = at[0],
				      .client = at[2],
				      .server = at[3],
				      .http = address_of(at[4]),
				      .sink = address_of(at[5])};
		kind->netns = open(at[1], O_RDONLY | O_CLOEXEC);
		if (kind->netns < 0)
			fail(kind, at[1]);
	}
	for (int round = -1; round < rounds; round++)
		for (int i = 0; i < kind_count; i++) {
			/* Each kind comes first, and behind each other, equally often. */
			struct kind *kind = &kinds[(round + 1 + (round % 2 ? kind_count - i : i)) % kind_count];
			enter(kind);
			for (int m = 0; m < MEASURES; m++) {
				double rate = runs[m](kind);
				if (round >= 0)
					kind->rates[m][round] = rate;
			}
			kind->slices = round + 1;
		}
	print();
	return 0;
}
