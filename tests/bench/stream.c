/* Reads and forgets, until it is killed: stream ADDRESS PORT [last]. Answers a byte for each MiB. `last`: on the last
 * CPU, where who sends is on the first (talk.c). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 128 << 10, ANSWER_BYTES = 1 << 20 };

static struct sockaddr_in address_of(const char *host, const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	inet_pton(AF_INET, host, &address.sin_addr);
	return address;
}

static void *drain(void *context)
{
	int fd = (intptr_t)context;
	char *chunk = malloc(CHUNK);
	ssize_t got, unanswered = 0;
	while (chunk && (got = recv(fd, chunk, CHUNK, 0)) > 0)
		for (unanswered += got; unanswered >= ANSWER_BYTES; unanswered -= ANSWER_BYTES)
			send(fd, "!", 1, MSG_NOSIGNAL);
	free(chunk);
	close(fd);
	return NULL;
}

static int sink(const char *host, const char *port)
{
	struct sockaddr_in address = address_of(host, port);
	int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 16))
		return perror("stream: listen"), 2;
	for (;;) {
		pthread_t thread;
		int client = accept(fd, NULL, NULL);
		if (client >= 0 && pthread_create(&thread, NULL, drain, (void *)(intptr_t)client) == 0)
			pthread_detach(thread);
	}
}

static void stay_on_last_cpu(void)
{
	cpu_set_t mine, last;
	if (sched_getaffinity(0, sizeof(mine), &mine))
		return;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &mine)) {
			CPU_ZERO(&last);
			CPU_SET(i, &last);
		}
	sched_setaffinity(0, sizeof(last), &last);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return fputs("usage: stream ADDRESS PORT [last]\n", stderr), 2;
	if (argc > 3)
		stay_on_last_cpu();
	return sink(argv[1], argv[2]);
}
