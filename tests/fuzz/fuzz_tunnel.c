/* What a tunnel reads once it is decrypted: frames into a session, as receiver (first byte even) and as caller (odd).
 * The kernel, TLS and identities are played here, in place of ask.c, wire.c and identity.c; sockets are real ones, on
 * the loopback. The second byte scripts the kernel's answers. */
#define _GNU_SOURCE 1
#include "proxy/ask.h"
#include "proxy/control.h"
#include "proxy/inbound.h"
#include "proxy/orders.h"
#include "proxy/outbound.h"
#include "proxy/place.h"
#include "proxy/proxy.h"
#include "proxy/session.h"
#include "proxy/wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { APPLICATION_PORT = 15009 }; /* the corpus knows it */

static struct loop *loop;
static struct proxy *proxy;
static SSL_CTX *ssl_context;
static int broker_fd, application, control_fd;
static struct hop application_hop;
static uint8_t answers;

/* ---- The kernel ----------------------------------------------------------------------------------- */

int ask_origin(int fd, struct mesh_origin *ret_origin)
{
	(void)fd;
	*ret_origin = (struct mesh_origin){.src_port = 1, .dst_port = application_hop.port};
	memcpy(ret_origin->src, application_hop.ip, 16);
	memcpy(ret_origin->dst, application_hop.ip, 16);
	return 0;
}

int ask_decision(int fd, struct mesh_ask *question)
{
	(void)fd;
	question->allow = question->kind == MESH_ASK_SERVER || !(answers & 1);
	question->reason = answers & 2 ? MESH_ASK_NOT_HERE : MESH_ASK_DECIDED;
	return answers & 4 ? -1 : 0;
}

int ask_remember(int fd, const struct mesh_remember *remember)
{
	(void)fd;
	(void)remember;
	return answers & 8 ? -1 : 0;
}

int ask_forget(int fd, const struct mesh_remember *remember)
{
	(void)fd;
	(void)remember;
	return 0;
}

/* ---- Identities ----------------------------------------------------------------------------------- */

int identities_create(struct identities **ret_identities)
{
	*ret_identities = NULL;
	return 0;
}

void identities_release(struct identities *identities)
{
	(void)identities;
}

SSL *identities_client(struct identities *identities, const char *id, const char *sni)
{
	(void)identities;
	(void)id;
	(void)sni;
	return SSL_new(ssl_context);
}

SSL *identities_server(struct identities *identities, const char *id)
{
	return identities_client(identities, id, NULL);
}

time_t identities_valid_until(const struct identities *identities, const char *id, time_t now)
{
	(void)identities;
	(void)id;
	return now + 1000;
}

enum refusal identity_verify_again(const struct identities *identities, const SSL *ssl, time_t now)
{
	(void)identities;
	(void)ssl;
	(void)now;
	return answers & 16 ? REFUSAL_REVOKED : REFUSAL_NONE;
}

const char *refusal_text(enum refusal refusal)
{
	return refusal ? "refused" : "";
}

const char *refusal_word(enum refusal refusal)
{
	return refusal ? "refused" : "none";
}

/* ---- Nobody gives orders; TLS --------------------------------------------------------------------- */

void orders_release(struct orders *orders)
{
	(void)orders;
}

void wire_start(struct tunnel *tunnel)
{
	tunnel_handshake_over(tunnel);
	tunnel->who.not_after = time(NULL) + 1000;
	if (tunnel_session_start(tunnel))
		abort();
	tunnel->state = TUNNEL_OPEN;
	tunnel->side->on_room(tunnel);
}

void wire_receive(struct tunnel *tunnel)
{
	tunnel->is_readable = false;
}

void wire_say_goodbye(struct tunnel *tunnel)
{
	(void)tunnel;
}

bool wire_is_outdated(const struct tunnel *tunnel)
{
	(void)tunnel;
	return answers & 32;
}

void tunnel_flush(struct tunnel *tunnel)
{
	const uint8_t *data;
	ssize_t len = 0;
	size_t sent = 0;
	while (tunnel->state == TUNNEL_OPEN && sent < 1 << 20 &&
	       (len = nghttp2_session_mem_send(tunnel->session, &data)) > 0)
		sent += (size_t)len;
	if (len < 0)
		tunnel_end(tunnel, REASON_OVERLOAD, NULL);
}

/* ---- The world ------------------------------------------------------------------------------------ */

static void on_broker(void *context, uint32_t events)
{
	struct broker_ask ask;
	int fds[BROKER_SOCKETS];
	char room[CMSG_SPACE(sizeof(fds))] = {0};
	(void)context;
	(void)events;
	if (recv(broker_fd, &ask, sizeof(ask), MSG_DONTWAIT) != sizeof(ask))
		return;
	for (unsigned i = 0; i < ask.count; i++)
		fds[i] = socket(ask.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct iovec part = {&ask, sizeof(ask)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room};
	message.msg_controllen = CMSG_SPACE(ask.count * sizeof(int));
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	*rights = (struct cmsghdr){CMSG_LEN(ask.count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(rights), fds, ask.count * sizeof(int));
	sendmsg(broker_fd, &message, MSG_DONTWAIT);
	while (ask.count)
		close(fds[--ask.count]);
}

/* The application sends a little and ends, or resets. */
static void on_application(void *context, uint32_t events)
{
	int fd = accept4(application, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	(void)context;
	(void)events;
	if (fd < 0)
		return;
	send(fd, "answer", 6, MSG_NOSIGNAL);
	if (answers & 64) {
		struct linger at_once = {.l_onoff = 1};
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	}
	close(fd);
}

static int listen_at(const char *ip, uint16_t port, struct hop *ret_hop)
{
	struct sockaddr_storage address = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&address;
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
	*in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
	inet_pton(AF_INET, ip, &in->sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)in, sizeof(*in)) || listen(fd, 128) ||
	    getsockname(fd, (struct sockaddr *)&address, &len) || hop_from_sockaddr(&address, ret_hop))
		abort();
	return fd;
}

static void start(void)
{
	int control[2], broker[2];
	ssl_context = SSL_CTX_new(TLS_method());
	application = listen_at("127.0.0.9", APPLICATION_PORT, &application_hop);
	struct hop peer;
	listen_at("127.0.0.9", MESH_PORT_TUNNEL, &peer);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, broker) || loop_create(&loop) ||
	    proxy_create(loop, &proxy) || flows_create(control[0], &proxy->flows) ||
	    broker_create(loop, broker[0], &proxy->broker))
		abort();
	control_fd = control[1];
	broker_fd = broker[1];
	loop_watch(loop, broker_fd, EPOLLIN, on_broker, NULL);
	loop_watch(loop, application, EPOLLIN, on_application, NULL);
}

static void stop(void *context, uint32_t events)
{
	(void)context;
	(void)events;
	loop_stop(loop);
}

static void turn(int64_t ms)
{
	char flow[4096];
	loop_timer(loop, loop_now_ms() + ms, stop, NULL);
	loop_run(loop);
	proxy_settle(proxy);
	while (recv(control_fd, flow, sizeof(flow), MSG_DONTWAIT) > 0)
		;
}

static struct tunnel *tunnel_open(void)
{
	struct tunnel *tunnel;
	TAILQ_FOREACH (tunnel, &proxy->tunnels, link)
		if (tunnel->state == TUNNEL_OPEN)
			break;
	return tunnel;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct place like = {.endpoint = 7, .workload = "shop/x-1", .service = "shop/x", .address_count = 1};
	int pair[2];
	if (!proxy)
		start();
	if (len < 3)
		return 0;
	like.addresses[0] = application_hop;
	answers = data[1];
	if (place_put(proxy, &like, "spiffe://a/b", -1, NULL) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		abort();
	struct place *place = place_find(proxy, 7);
	if (data[0] & 1)
		outbound_accept(place, pair[0], &application_hop);
	else
		inbound_accept(place, pair[0], &application_hop, &application_hop);
	if (data[0] & 1)
		send(pair[1], "question", 8, MSG_NOSIGNAL);
	for (int i = 0; i < 4 && !tunnel_open(); i++)
		turn(1);
	struct tunnel *tunnel;
	size_t at = 2;
	while ((tunnel = tunnel_open()) && at < len) {
		/* In two parts: what is split between them must be no different. */
		size_t part = at == 2 ? (len - 2) / 2 + 1 : len - at;
		if (tunnel_digest(tunnel, data + at, part))
			tunnel_end(tunnel, REASON_PEER, NULL);
		at += part;
		proxy_judge_streams(proxy);
		if (answers & 128)
			proxy_judge_tunnels(proxy);
		proxy_settle(proxy);
	}
	turn(1);
	close(pair[1]);
	place_forget(place);
	proxy_settle(proxy);
	if (proxy->stream_count || proxy->tunnel_count || proxy->held_bytes)
		abort();
	return 0;
}
