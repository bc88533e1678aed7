/* From the store that switches a node to the first new decision on every CPU:
 * flip PINS SLOT_A SLOT_B SOURCE DESTINATION PORT ROUNDS
 *
 * A thread on each CPU asks the node's own dispatcher, by BPF_PROG_TEST_RUN, who decides: SOURCE may
 * reach DESTINATION under one of the slots only. The threads take turns at storing. Real-time priority,
 * so that others' work on the CPU is not measured. One JSON object; the node is left at SLOT_A. */
#define _GNU_SOURCE
#include "abi.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CPUS = 256, MOST_ROUNDS = 100000 };

static struct {
	int program, cpus, rounds, count[MOST_CPUS];
	int cpu[MOST_CPUS];
	struct bpf_sk_lookup context;
	volatile struct mesh_control *control;
	uint32_t slots[2];
	uint32_t verdicts[2];	    /* of slots[0], slots[1] */
	_Atomic int arrived, round; /* threads that saw the new decision; the round that is stored */
	_Atomic uint64_t stored_ns;
	_Atomic uint64_t late;		       /* old decisions that began after the store */
	_Atomic uint64_t took_ns[MOST_ROUNDS]; /* of the slowest CPU */
} flip;

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static uint32_t ask(void)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &flip.context, .ctx_size_in = sizeof(flip.context),
		    .repeat = 1);
	if (bpf_prog_test_run_opts(flip.program, &options)) {
		perror("flip: TEST_RUN");
		exit(2);
	}
	return options.retval;
}

static void store(int round)
{
	atomic_store(&flip.arrived, 0);
	atomic_store(&flip.stored_ns, now_ns());
	__atomic_store_n(&flip.control->active, flip.slots[round % 2] + 1, __ATOMIC_RELEASE);
	atomic_store(&flip.round, round);
}

/* Asks until the decision is ROUND's. */
static void wait_for(int round)
{
	for (;;) {
		uint64_t began = now_ns();
		int stored = atomic_load(&flip.round);
		uint32_t verdict = ask();
		uint64_t ended = now_ns();
		if (verdict == flip.verdicts[round % 2]) {
			while (atomic_load(&flip.round) != round)
				continue;
			uint64_t took = ended - atomic_load(&flip.stored_ns),
				 worst = atomic_load(&flip.took_ns[round - 1]);
			while (took > worst && !atomic_compare_exchange_weak(&flip.took_ns[round - 1], &worst, took))
				continue;
			return;
		}
		if (stored == round && began > atomic_load(&flip.stored_ns))
			atomic_fetch_add(&flip.late, 1);
	}
}

static void *run(void *context)
{
	int me = (intptr_t)context;
	cpu_set_t set;
	struct sched_param first = {.sched_priority = 10};
	CPU_ZERO(&set);
	CPU_SET(flip.cpu[me], &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
	for (int round = 1; round <= flip.rounds; round++) {
		if (round % flip.cpus == me) {
			/* Everybody asks again before the next store. */
			uint64_t until = now_ns() + 20000;
			while (now_ns() < until)
				ask();
			store(round);
		}
		wait_for(round);
		atomic_fetch_add(&flip.arrived, 1);
		while (atomic_load(&flip.arrived) < flip.cpus && atomic_load(&flip.round) == round)
			continue;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

static int open_node(char **argv)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/prog/d_lookup", argv[1]);
	flip.program = bpf_obj_get(path);
	snprintf(path, sizeof(path), "%s/map/control", argv[1]);
	int control = bpf_obj_get(path);
	void *page = control < 0 ? MAP_FAILED
				 : mmap(NULL, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, control, 0);
	if (flip.program < 0 || page == MAP_FAILED)
		return -1;
	flip.control = page;
	flip.context = (struct bpf_sk_lookup){
		.family = AF_INET, .protocol = IPPROTO_TCP, .remote_port = htons(40000), .local_port = atoi(argv[6])};
	inet_pton(AF_INET, argv[4], &flip.context.remote_ip4);
	inet_pton(AF_INET, argv[5], &flip.context.local_ip4);
	cpu_set_t set;
	sched_getaffinity(0, sizeof(set), &set);
	for (int i = 0; i < CPU_SETSIZE && flip.cpus < MOST_CPUS; i++)
		if (CPU_ISSET(i, &set))
			flip.cpu[flip.cpus++] = i;
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t threads[MOST_CPUS];
	if (argc != 8)
		return fputs("usage: flip PINS SLOT_A SLOT_B SOURCE DESTINATION PORT ROUNDS\n", stderr), 2;
	flip.rounds = atoi(argv[7]) & ~1;
	if (flip.rounds > MOST_ROUNDS || open_node(argv))
		return perror("flip"), 2;
	for (int i = 0; i < 2; i++) {
		flip.slots[i] = atoi(argv[2 + i]);
		flip.control->active = flip.slots[i] + 1;
		flip.verdicts[i] = ask();
	}
	flip.control->active = flip.slots[0] + 1;
	if (flip.verdicts[0] == flip.verdicts[1])
		return fputs("flip: both slots decide alike\n", stderr), 2;
	uint64_t start = now_ns();
	for (int i = 0; i < 2000; i++)
		ask();
	double ask_us = (now_ns() - start) / 2e6;
	for (intptr_t i = 0; i < flip.cpus; i++)
		pthread_create(&threads[i], NULL, run, (void *)i);
	for (int i = 0; i < flip.cpus; i++)
		pthread_join(threads[i], NULL);
	static uint64_t took_ns[MOST_ROUNDS];
	memcpy(took_ns, (const void *)flip.took_ns, sizeof(took_ns));
	qsort(took_ns, flip.rounds, sizeof(*took_ns), compare);
	printf("{\"rounds\": %d, \"cpus\": %d, \"ask_us\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p100_us\": "
	       "%.2f, \"late\": %llu}\n",
	       flip.rounds, flip.cpus, ask_us, took_ns[flip.rounds / 2] / 1e3, took_ns[flip.rounds * 99 / 100] / 1e3,
	       took_ns[flip.rounds - 1] / 1e3, (unsigned long long)flip.late);
	return 0;
}
