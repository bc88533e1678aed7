/* What meshd tells the proxy: a message, and descriptors beside it. */
#define _GNU_SOURCE 1
#include "proxy/orders.h"
#include "proxy/place.h"
#include "proxy/proxy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct proxy *proxy;
static int said;

static void start(void)
{
	struct loop *loop;
	int control[2], broker[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, broker) || loop_create(&loop) ||
	    proxy_create(loop, &proxy) || flows_create(control[0], &proxy->flows) ||
	    broker_create(loop, broker[0], &proxy->broker) || orders_create(proxy, control[0], &proxy->orders))
		abort();
	said = control[1];
	static const char hello[] = "{\"do\":\"hello\",\"trust\":\"a.b\"}";
	orders_obey(proxy->orders, hello, strlen(hello), NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char answer[4096];
	int fds[4];
	unsigned count = len ? data[0] % 4 : 0;
	if (!proxy)
		start();
	if (!len)
		return 0;
	for (unsigned i = 0; i < count; i++) {
		fds[i] = memfd_create("file", MFD_CLOEXEC);
		if (write(fds[i], data, len) < 0)
			abort();
	}
	orders_obey(proxy->orders, (const char *)data + 1, len - 1, fds, count);
	proxy->drain_until_ms = 0;
	while (proxy->places)
		place_forget(proxy->places);
	proxy_settle(proxy);
	while (recv(said, answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
	return 0;
}
