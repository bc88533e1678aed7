/* meshp: the node proxy. meshd starts it, with two descriptors: what it is told, and sockets (control.h). */
#define _GNU_SOURCE 1
#include "proxy/control.h"
#include "proxy/harden.h"
#include "proxy/orders.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EXIT_CANNOT = 2 };

static const char usage[] = "meshp is started by meshd: descriptor 3 is the control channel, 4 the broker.\n"
			    "\n"
			    "  --as-root  for tests: run as root, with its capabilities\n"
			    "  --version\n"
			    "  --help\n";

static int cannot(const char *text)
{
	fprintf(stderr, "meshp: %s\n", text);
	return EXIT_CANNOT;
}

static void on_signal(void *context, uint32_t events)
{
	struct proxy *proxy = context;
	(void)events;
	proxy_drain(proxy); /* edge-triggered: it is left unread, and says no more than once */
}

static int signals_watch(struct proxy *proxy)
{
	sigset_t terminate;
	sigemptyset(&terminate);
	sigaddset(&terminate, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &terminate, NULL);
	int fd = signalfd(-1, &terminate, SFD_NONBLOCK | SFD_CLOEXEC);
	return fd < 0 ? -errno : loop_watch(proxy->loop, fd, EPOLLIN | EPOLLET, on_signal, proxy);
}

static bool is_seqpacket(int fd)
{
	int type = 0;
	socklen_t len = sizeof(type);
	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_SEQPACKET;
}

/* A connection takes two descriptors on a node that is caller and receiver. */
static void descriptors_raise(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int proxy_run(struct proxy *proxy, struct why *why)
{
	int r = signals_watch(proxy);
	if (!r)
		r = flows_create(PROXY_FD_CONTROL, &proxy->flows);
	if (!r)
		r = broker_create(proxy->loop, PROXY_FD_BROKER, &proxy->broker);
	if (!r)
		r = orders_create(proxy, PROXY_FD_CONTROL, &proxy->orders);
	if (r)
		return why_set(why, r, "cannot start: %s", strerror(-r));
	r = harden_seccomp(why);
	if (r)
		return r;
	r = loop_run(proxy->loop);
	return r ? why_set(why, r, "the loop ended: %s", strerror(-r)) : 0;
}

static int run(bool is_root_ok)
{
	struct why why = {0};
	struct loop *loop = NULL;
	struct proxy *proxy = NULL;
	if (!is_seqpacket(PROXY_FD_CONTROL) || !is_seqpacket(PROXY_FD_BROKER))
		return cannot("descriptors 3 and 4 are not meshd's: it is started by meshd");
	descriptors_raise();
	/* Before the filter: OpenSSL reads its configuration once. */
	if (harden_process(is_root_ok, &why) || !OPENSSL_init_ssl(0, NULL))
		return cannot(why.text);
	if (loop_create(&loop) || proxy_create(loop, &proxy))
		return cannot("out of memory");
	int r = proxy_run(proxy, &why);
	static const char drained[] = "{\"say\":\"drained\"}";
	if (!r)
		send(PROXY_FD_CONTROL, drained, strlen(drained), MSG_DONTWAIT | MSG_NOSIGNAL);
	proxy_release(proxy);
	loop_release(loop);
	return r ? cannot(why.text) : 0;
}

int main(int argc, char **argv)
{
	const char *flag = argc == 2 ? argv[1] : "";
	if (!strcmp(flag, "--help"))
		return fputs(usage, stdout) < 0 ? EXIT_CANNOT : 0;
	if (!strcmp(flag, "--version"))
		return puts("meshp 0.1.0") < 0 ? EXIT_CANNOT : 0;
	if (argc > 2 || (argc == 2 && strcmp(flag, "--as-root")))
		return cannot("unknown argument: see --help");
	return run(argc == 2);
}
