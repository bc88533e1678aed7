/* Bytes as fast as they go: stream sink ADDRESS PORT reads and forgets, until it is killed;
 * stream send ADDRESS PORT SECONDS prints the Gbit/s that were taken. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 128 << 10 };

static double now_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static struct sockaddr_in address_of(const char *host, const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	inet_pton(AF_INET, host, &address.sin_addr);
	return address;
}

/* Ends with one byte: what was sent has been read. */
static void *drain(void *context)
{
	int fd = (intptr_t)context;
	char *chunk = malloc(CHUNK);
	while (chunk && recv(fd, chunk, CHUNK, 0) > 0)
		continue;
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

static int send_for(const char *host, const char *port, double seconds)
{
	struct sockaddr_in address = address_of(host, port);
	struct timeval patience = {5, 0};
	char *chunk = calloc(1, CHUNK), end;
	double bytes = 0, start, took;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!chunk || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return perror("stream: connect"), 2;
	for (start = now_s(); (took = now_s() - start) < seconds;) {
		ssize_t sent = send(fd, chunk, CHUNK, MSG_NOSIGNAL);
		if (sent < 0)
			return perror("stream: send"), 2;
		bytes += sent;
	}
	shutdown(fd, SHUT_WR);
	if (recv(fd, &end, 1, 0) != 1)
		return perror("stream: the other end"), 2;
	printf("%.3f\n", bytes * 8 / (now_s() - start) / 1e9);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "sink") == 0)
		return sink(argv[2], argv[3]);
	if (argc == 5 && strcmp(argv[1], "send") == 0)
		return send_for(argv[2], argv[3], atof(argv[4]));
	return fputs("usage: stream sink ADDRESS PORT | stream send ADDRESS PORT SECONDS\n", stderr), 2;
}
