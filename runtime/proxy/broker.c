#define _GNU_SOURCE 1
#include "proxy/broker.h"

#include "proxy/control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	FIRST_COUNT = 8,
	WAITING_LIMIT = 4096, /* of one store */
	PATIENCE_MS = 2000,
};

struct broker_store {
	struct broker_store *next;
	struct broker *broker;
	uint32_t endpoint;
	uint16_t family;
	uint16_t batch; /* how many are asked for: more each time the store was found empty */
	uint64_t asked; /* the number of the question that is under way; 0: none is */
	unsigned count, waiting_count;
	int sockets[2 * BROKER_SOCKETS];
	TAILQ_HEAD(, broker_wait) waiting;
};
struct broker {
	struct loop *loop;
	int fd;
	uint64_t asked_count;
	struct broker_store *stores;
	struct deadline_queue patience;
};

static struct broker_store *store_find(struct broker *broker, uint32_t endpoint, int family)
{
	struct broker_store *store = broker->stores;
	while (store && (store->endpoint != endpoint || store->family != family))
		store = store->next;
	return store;
}

static struct broker_store *store_get(struct broker *broker, uint32_t endpoint, int family)
{
	struct broker_store *store = store_find(broker, endpoint, family);
	if (store || !(store = calloc(1, sizeof(*store))))
		return store;
	store->broker = broker;
	store->endpoint = endpoint;
	store->family = (uint16_t)family;
	store->batch = FIRST_COUNT;
	TAILQ_INIT(&store->waiting);
	store->next = broker->stores;
	broker->stores = store;
	return store;
}

/* A broker that is not there, or not reading, leaves the store as it is; who waits runs out of patience. */
static void store_ask(struct broker_store *store)
{
	struct broker_ask ask = {.endpoint = store->endpoint, .family = store->family, .count = store->batch};
	if (store->asked || store->count > store->batch / 2)
		return;
	ask.number = ++store->broker->asked_count;
	if (send(store->broker->fd, &ask, sizeof(ask), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(ask))
		store->asked = ask.number;
}

static void wait_end(struct broker_wait *wait, int fd)
{
	broker_cancel(wait);
	wait->ready(wait, fd);
}

static void store_fail(struct broker_store *store, int error)
{
	struct broker_wait *wait;
	while ((wait = TAILQ_FIRST(&store->waiting)))
		wait_end(wait, error);
}

static void store_fill(struct broker_store *store, const int *fds, unsigned count)
{
	struct broker_wait *wait;
	for (unsigned i = 0; i < count; i++) {
		if ((wait = TAILQ_FIRST(&store->waiting)))
			wait_end(wait, fds[i]);
		else if (store->count < sizeof(store->sockets) / sizeof(*store->sockets))
			store->sockets[store->count++] = fds[i];
		else
			close(fds[i]);
	}
}

int broker_take(struct broker *broker, uint32_t endpoint, int family, struct broker_wait *wait)
{
	struct broker_store *store = store_get(broker, endpoint, family);
	if (!store)
		return -ENOMEM;
	if (store->count) {
		int fd = store->sockets[--store->count];
		store_ask(store);
		return fd;
	}
	if (store->waiting_count >= WAITING_LIMIT)
		return -EBUSY;
	if (store->batch < BROKER_SOCKETS && !store->asked)
		store->batch *= 2;
	wait->store = store;
	TAILQ_INSERT_TAIL(&store->waiting, wait, link);
	store->waiting_count++;
	deadline_set(&broker->patience, &wait->deadline);
	store_ask(store);
	return -EINPROGRESS;
}

void broker_cancel(struct broker_wait *wait)
{
	struct broker_store *store = wait->store;
	if (!store)
		return;
	wait->store = NULL;
	TAILQ_REMOVE(&store->waiting, wait, link);
	store->waiting_count--;
	deadline_clear(&store->broker->patience, &wait->deadline);
}

/* What is still on its way comes from where the place was. */
static void store_empty(struct broker_store *store, int error)
{
	store->asked = 0;
	store_fail(store, error);
	while (store->count)
		close(store->sockets[--store->count]);
}

void broker_forget(struct broker *broker, uint32_t endpoint)
{
	for (struct broker_store *store = broker->stores; store; store = store->next)
		if (store->endpoint == endpoint)
			store_empty(store, -ENOENT);
}

/* ---- Answers --------------------------------------------------------------------------------------- */

static unsigned descriptors_take(struct msghdr *message, int fds[BROKER_SOCKETS])
{
	unsigned count = 0;
	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
		if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
			continue;
		unsigned here = (unsigned)((at->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < here; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof(fd));
			if (count < BROKER_SOCKETS)
				fds[count++] = fd;
			else
				close(fd);
		}
	}
	return count;
}

static void broker_answered(struct broker *broker, const struct broker_ask *answer, const int *fds, unsigned count)
{
	struct broker_store *store = store_find(broker, answer->endpoint, answer->family);
	if (!store || !store->asked || answer->number != store->asked) {
		while (count)
			close(fds[--count]);
		return;
	}
	store->asked = 0;
	if (!count)
		store_fail(store, -ENOENT);
	store_fill(store, fds, count);
	if (!TAILQ_EMPTY(&store->waiting))
		store_ask(store);
}

static ssize_t broker_receive(struct broker *broker)
{
	int fds[BROKER_SOCKETS];
	struct broker_ask answer = {0};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(fds))];
	} control;
	struct iovec part = {.iov_base = &answer, .iov_len = sizeof(answer)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	ssize_t len = recvmsg(broker->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (len <= 0)
		return len;
	unsigned count = descriptors_take(&message, fds);
	if (len == sizeof(answer))
		broker_answered(broker, &answer, fds, count);
	else
		while (count)
			close(fds[--count]);
	return len;
}

/* Without meshd the stores are what there is; the next meshd starts a proxy of its own. */
static void broker_on_event(void *context, uint32_t events)
{
	struct broker *broker = context;
	ssize_t len;
	(void)events;
	while ((len = broker_receive(broker)) > 0)
		;
	if (!len || (errno != EAGAIN && errno != EINTR))
		loop_forget(broker->loop, broker->fd);
}

static void broker_on_impatience(void *context, struct deadline *deadline)
{
	struct broker_wait *wait = CONTAINER_OF(deadline, struct broker_wait, deadline);
	(void)context;
	wait->store->asked = 0;
	wait_end(wait, -ETIMEDOUT);
}

int broker_create(struct loop *loop, int fd, struct broker **ret_broker)
{
	struct broker *broker = calloc(1, sizeof(*broker));
	if (!broker)
		return -ENOMEM;
	broker->loop = loop;
	broker->fd = fd;
	deadline_queue_start(&broker->patience, loop, PATIENCE_MS, broker_on_impatience, broker);
	int r = loop_watch(loop, fd, EPOLLIN, broker_on_event, broker);
	if (r) {
		free(broker);
		return r;
	}
	*ret_broker = broker;
	return 0;
}

void broker_release(struct broker *broker)
{
	if (!broker)
		return;
	while (broker->stores) {
		struct broker_store *store = broker->stores;
		broker->stores = store->next;
		store_empty(store, -ENOENT);
		free(store);
	}
	deadline_queue_stop(&broker->patience);
	loop_forget(broker->loop, broker->fd);
	free(broker);
}
