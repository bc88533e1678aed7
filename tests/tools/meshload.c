/* Opens connections as fast as it can and tells what became of each. For the demo, the end-to-end
 * tests and the benchmark.
 *
 *   meshload [--seconds S] [--count N] [--threads T] [--rate PER_S] [--request TEXT] [--udp]
 *            [--last] [--expect OUTCOME] [--keep] ADDRESS:PORT...
 *
 * Each thread takes the addresses in turn: connect (1 s at most), with --request send TEXT and wait for
 * an answer, close by RST (no TIME_WAIT). Answers are told apart by their first byte; with --last they
 * are read to their end, and told apart by the last. --expect: exit 1 if any ended otherwise. --keep holds one
 * connection for each address, sends TEXT every 20 ms and tells when and how it ended. One JSON object to stdout.
 * Nothing is retried. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_TARGETS = 64, MOST_THREADS = 64, TIMEOUT_MS = 1000, BUCKETS = 4096 /* of 1/16 octave */ };
enum outcome { OK, REFUSED, NOT_PERMITTED, RESET, TIMEOUT, UNREACHABLE, CLOSED, OTHER, OUTCOMES };
static const char *const outcome_names[] = {"ok",      "refused",     "not_permitted", "reset",
					    "timeout", "unreachable", "closed",	       "other"};

struct target {
	const char *text;
	struct sockaddr_storage address;
	socklen_t len;
};
struct tally {
	uint64_t outcomes[OUTCOMES];
	uint64_t latencies[BUCKETS]; /* of connects, ok or not, by 16 * log2(ns) */
	uint64_t answers[128];	     /* by a byte of the answer */
	int last_errno;
};
static struct load {
	struct target targets[MOST_TARGETS];
	int target_count, threads;
	double seconds;
	uint64_t count, rate;
	const char *request;
	bool udp, keep, last;
	const char *expect;
} load = {.threads = 1, .seconds = 1};
static struct tally tallies[MOST_THREADS][MOST_TARGETS];
static volatile sig_atomic_t stopped;

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned octave = 63 - __builtin_clzll(ns | 16);
	return octave * 16 + (ns >> (octave - 4) & 15);
}

static double bucket_us(unsigned bucket)
{
	unsigned octave = bucket / 16;
	return ((16.0 + bucket % 16 + 0.5) * (1ull << (octave - 4))) / 1000;
}

static enum outcome outcome_of(int error)
{
	switch (error) {
	case 0:
		return OK;
	case ECONNREFUSED:
		return REFUSED;
	case EPERM:
		return NOT_PERMITTED;
	case ECONNRESET:
	case ECONNABORTED: /* SOCK_DESTROY of this very socket */
	case EPIPE:
		return RESET;
	case ETIMEDOUT:
		return TIMEOUT;
	case ENETUNREACH:
	case EHOSTUNREACH:
		return UNREACHABLE;
	default:
		return OTHER;
	}
}

/* 0, an errno; -1: the peer closed. */
static int wait_for(int fd, short events)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	int r = poll(&poll_fd, 1, TIMEOUT_MS);
	if (r == 0)
		return ETIMEDOUT;
	int error = 0;
	socklen_t len = sizeof(error);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return r < 0 ? errno : error;
}

static int open_one(const struct target *target, int *ret_fd)
{
	struct linger at_once = {1, 0};
	int fd = socket(target->address.ss_family, (load.udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);
	*ret_fd = fd;
	if (fd < 0)
		return errno;
	if (!load.udp)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	if (connect(fd, (const struct sockaddr *)&target->address, target->len) == 0)
		return 0;
	return errno == EINPROGRESS ? wait_for(fd, POLLOUT) : errno;
}

static int ask(int fd, char *ret_mark)
{
	char answer[4096];
	size_t len = strlen(load.request);
	if (send(fd, load.request, len, MSG_NOSIGNAL) != (ssize_t)len)
		return errno ? errno : EPIPE;
	int r = wait_for(fd, POLLIN);
	if (r)
		return r;
	ssize_t got = recv(fd, answer, sizeof(answer), 0);
	if (got > 0)
		*ret_mark = answer[load.last ? got - 1 : 0] & 127;
	if (got <= 0)
		return got < 0 ? errno : -1;
	while (load.last && got > 0) {
		r = wait_for(fd, POLLIN);
		if (r)
			return r;
		got = recv(fd, answer, sizeof(answer), 0);
		if (got > 0)
			*ret_mark = answer[got - 1] & 127;
	}
	return got < 0 ? errno : 0;
}

static void *run_thread(void *context)
{
	struct tally *mine = tallies[(intptr_t)context];
	uint64_t end = now_ns() + (uint64_t)(load.seconds * 1e9), start = now_ns(), done = 0;
	uint64_t share = load.count ? (load.count + load.threads - 1) / load.threads : UINT64_MAX;
	while (!stopped && done < share && (load.count || now_ns() < end)) {
		int at = done % load.target_count, fd;
		char mark = 0;
		struct tally *tally = &mine[at];
		uint64_t began = now_ns();
		int error = open_one(&load.targets[at], &fd);
		tally->latencies[bucket_of(now_ns() - began)]++;
		if (!error && load.request)
			error = ask(fd, &mark);
		if (fd >= 0)
			close(fd);
		tally->outcomes[error < 0 ? CLOSED : outcome_of(error)]++;
		if (error)
			tally->last_errno = error;
		else if (load.request)
			tally->answers[(int)mark]++;
		done++;
		if (load.rate) {
			uint64_t due = start + done * load.threads * 1000000000ull / load.rate, now = now_ns();
			if (due > now)
				usleep((due - now) / 1000);
		}
	}
	return NULL;
}

static double quantile(const struct tally *tally, double q)
{
	uint64_t all = 0, seen = 0;
	for (int i = 0; i < BUCKETS; i++)
		all += tally->latencies[i];
	for (int i = 0; i < BUCKETS; i++) {
		seen += tally->latencies[i];
		if (all && seen >= q * all)
			return bucket_us(i);
	}
	return 0;
}

static json_t *tally_json(const char *name, const struct tally *tally, double seconds)
{
	json_t *object = json_object(), *answers = json_object();
	uint64_t all = 0;
	json_object_set_new(object, "to", json_string(name));
	for (int i = 0; i < OUTCOMES; i++) {
		all += tally->outcomes[i];
		json_object_set_new(object, outcome_names[i], json_integer(tally->outcomes[i]));
	}
	json_object_set_new(object, "connections", json_integer(all));
	json_object_set_new(object, "per_s", json_real(all / seconds));
	json_object_set_new(object, "p50_us", json_real(quantile(tally, 0.5)));
	json_object_set_new(object, "p99_us", json_real(quantile(tally, 0.99)));
	json_object_set_new(object, "p100_us", json_real(quantile(tally, 1)));
	if (tally->last_errno)
		json_object_set_new(object, "last_error",
				    json_string(tally->last_errno < 0 ? "closed" : strerror(tally->last_errno)));
	for (int i = 1; i < 128; i++)
		if (tally->answers[i])
			json_object_set_new(answers, (char[]){i, 0}, json_integer(tally->answers[i]));
	json_object_set_new(object, "answers", answers);
	return object;
}

static void add(struct tally *sum, const struct tally *one)
{
	for (int i = 0; i < OUTCOMES; i++)
		sum->outcomes[i] += one->outcomes[i];
	for (int i = 0; i < BUCKETS; i++)
		sum->latencies[i] += one->latencies[i];
	for (int i = 0; i < 128; i++)
		sum->answers[i] += one->answers[i];
	if (one->last_errno)
		sum->last_errno = one->last_errno;
}

/* Whether every connection ended as --expect says. */
static bool run_load(void)
{
	pthread_t threads[MOST_THREADS];
	static struct tally all;
	uint64_t start = now_ns();
	for (intptr_t i = 0; i < load.threads; i++)
		pthread_create(&threads[i], NULL, run_thread, (void *)i);
	for (int i = 0; i < load.threads; i++)
		pthread_join(threads[i], NULL);
	double seconds = (now_ns() - start) / 1e9;
	json_t *targets = json_array();
	for (int k = 0; k < load.target_count; k++) {
		static struct tally sum;
		sum = (struct tally){0};
		for (int i = 0; i < load.threads; i++)
			add(&sum, &tallies[i][k]);
		add(&all, &sum);
		json_array_append_new(targets, tally_json(load.targets[k].text, &sum, seconds));
	}
	json_t *result = tally_json("all", &all, seconds);
	json_object_set_new(result, "seconds", json_real(seconds));
	json_object_set_new(result, "targets", targets);
	json_dumpf(result, stdout, JSON_COMPACT);
	putchar('\n');
	bool as_expected = !load.expect ||
			   json_equal(json_object_get(result, load.expect), json_object_get(result, "connections"));
	json_decref(result);
	return as_expected;
}

/* One connection until it ends, or the time is up. */
static void run_keep(void)
{
	int fd, rounds = 0;
	char mark;
	int error = open_one(&load.targets[0], &fd);
	uint64_t start = now_ns(), end = start + (uint64_t)(load.seconds * 1e9);
	while (!error && !stopped && now_ns() < end) {
		error = ask(fd, &mark);
		rounds += !error;
		if (!error)
			usleep(20000);
	}
	printf("{\"ended\": \"%s\", \"rounds\": %d, \"after_s\": %.3f, \"at_ns\": %llu}\n",
	       error < 0 ? "closed"
	       : error	 ? outcome_names[outcome_of(error)]
			 : "kept",
	       rounds, (now_ns() - start) / 1e9, (unsigned long long)now_ns());
	if (fd >= 0)
		close(fd);
}

static bool read_target(const char *text, struct target *target)
{
	char host[128];
	const char *colon = strrchr(text, ':');
	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	struct sockaddr_in *v4 = (void *)&target->address;
	struct sockaddr_in6 *v6 = (void *)&target->address;
	target->text = text;
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(atoi(colon + 1));
		target->len = sizeof(*v4);
		return true;
	}
	if (host[0] == '[') {
		memmove(host, host + 1, strlen(host));
		host[strcspn(host, "]")] = 0;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(atoi(colon + 1));
	target->len = sizeof(*v6);
	return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

static void on_stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* "\r", "\n" in a shell argument. */
static const char *unescape(char *text)
{
	char *out = text;
	for (char *c = text; *c; c++, out++) {
		bool escaped = c[0] == '\\' && (c[1] == 'r' || c[1] == 'n');
		*out = escaped ? (*++c == 'r' ? '\r' : '\n') : *c;
	}
	*out = 0;
	return text;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		if (strcmp(argv[i], "--seconds") == 0 && more)
			load.seconds = atof(argv[++i]);
		else if (strcmp(argv[i], "--count") == 0 && more)
			load.count = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--threads") == 0 && more)
			load.threads = atoi(argv[++i]);
		else if (strcmp(argv[i], "--rate") == 0 && more)
			load.rate = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--request") == 0 && more)
			load.request = unescape(argv[++i]);
		else if (strcmp(argv[i], "--udp") == 0)
			load.udp = true;
		else if (strcmp(argv[i], "--keep") == 0)
			load.keep = true;
		else if (strcmp(argv[i], "--last") == 0)
			load.last = true;
		else if (strcmp(argv[i], "--expect") == 0 && more)
			load.expect = argv[++i];
		else if (load.target_count < MOST_TARGETS && read_target(argv[i], &load.targets[load.target_count]))
			load.target_count++;
		else
			return fprintf(stderr, "meshload: what is '%s'?\n", argv[i]), 2;
	}
	if (!load.target_count || load.threads < 1 || load.threads > MOST_THREADS || load.seconds <= 0 ||
	    load.seconds > 600)
		return fputs("usage: meshload [--seconds S] [--threads T] [--request TEXT] ADDRESS:PORT...\n", stderr),
		       2;
	signal(SIGTERM, on_stop);
	signal(SIGINT, on_stop);
	if (!load.keep)
		return run_load() ? 0 : 1;
	run_keep();
	return 0;
}
