#define _GNU_SOURCE 1
#include "proxy/place.h"

#include "proxy/inbound.h"
#include "proxy/outbound.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { ACCEPTS_AT_ONCE = 32 };

struct place *place_find(struct proxy *proxy, uint32_t endpoint)
{
	struct place *place = proxy->places;
	while (place && place->endpoint != endpoint)
		place = place->next;
	return place;
}

bool place_has(const struct place *place, const struct hop *hop)
{
	for (unsigned i = 0; i < place->address_count; i++)
		if (hop_same_ip(&place->addresses[i], hop))
			return true;
	return false;
}

/* ---- Accepting -------------------------------------------------------------------------------------- */

static void place_admit(struct place *place, int fd, const struct sockaddr_storage *from)
{
	struct sockaddr_storage at;
	socklen_t len = sizeof(at);
	struct hop local, peer;
	if (getsockname(fd, (struct sockaddr *)&at, &len) || hop_from_sockaddr(&at, &local) ||
	    hop_from_sockaddr(from, &peer))
		close(fd);
	else if (local.port == MESH_PORT_TUNNEL)
		inbound_accept(place, fd, &local, &peer);
	else
		outbound_accept(place, fd, &peer);
}

/* Out of descriptors the connections wait in the kernel's queue: asking again in each batch would be a busy loop. */
static void place_on_accept(void *context, uint32_t events)
{
	struct place *place = context;
	(void)events;
	for (int i = 0; i < ACCEPTS_AT_ONCE && place->is_listening; i++) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		int fd = accept4(place->listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			place_admit(place, fd, &from);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			loop_forget(place->proxy->loop, place->listener);
			place->is_listening = false;
		}
		return;
	}
}

int place_listen(struct place *place)
{
	if (place->is_listening || place->listener < 0 || place->proxy->drain_until_ms)
		return 0;
	int r = loop_watch(place->proxy->loop, place->listener, EPOLLIN, place_on_accept, place);
	place->is_listening = !r;
	return r;
}

void place_close(struct place *place)
{
	if (place->is_listening)
		loop_forget(place->proxy->loop, place->listener);
	place->is_listening = false;
	if (place->listener >= 0)
		close(place->listener);
	place->listener = -1;
}

/* ---- Coming and going ------------------------------------------------------------------------------- */

static void tunnels_each(struct place *place, void (*act)(struct tunnel *tunnel))
{
	struct tunnel *next;
	for (struct tunnel *tunnel = TAILQ_FIRST(&place->proxy->tunnels); tunnel; tunnel = next) {
		next = TAILQ_NEXT(tunnel, link);
		if (tunnel->place == place)
			act(tunnel);
	}
}

static struct place *place_add(struct proxy *proxy, uint32_t endpoint)
{
	struct place *place = calloc(1, sizeof(*place)), **at = &proxy->places;
	if (!place)
		return NULL;
	while (*at && (*at)->endpoint < endpoint)
		at = &(*at)->next;
	*place = (struct place){.next = *at, .proxy = proxy, .endpoint = endpoint, .listener = -1};
	*at = place;
	return place;
}

int place_put(struct proxy *proxy, const struct place *like, const char *spiffe, int listener, struct why *why)
{
	struct place *place = place_find(proxy, like->endpoint);
	char *id = strdup(spiffe);
	if (id && !place)
		place = place_add(proxy, like->endpoint);
	if (!id || !place) {
		free(id);
		if (listener >= 0)
			close(listener);
		return why_set(why, -ENOMEM, "out of memory");
	}
	if (place->spiffe && strcmp(place->spiffe, id))
		tunnels_each(place, tunnel_close);
	free(place->spiffe);
	place->spiffe = id;
	place->address_count = like->address_count;
	memcpy(place->addresses, like->addresses, sizeof(place->addresses));
	memcpy(place->workload, like->workload, sizeof(place->workload));
	memcpy(place->service, like->service, sizeof(place->service));
	if (listener >= 0) {
		place_close(place);
		broker_forget(proxy->broker, place->endpoint);
		place->listener = listener;
	}
	int r = place_listen(place);
	return r ? why_set(why, r, "the listener cannot be watched: %s", strerror(-r)) : 0;
}

static void tunnel_end_gone(struct tunnel *tunnel)
{
	tunnel_end(tunnel, REASON_PLACE_GONE, NULL);
}

/* Before the tunnels: a caller's stream that loses its tunnel looks for another. */
static struct stream *stream_of(const struct place *place)
{
	struct stream *stream;
	TAILQ_FOREACH (stream, &place->proxy->streams, link)
		if (stream->place == place)
			break;
	return stream;
}

void place_forget(struct place *place)
{
	struct place **at = &place->proxy->places;
	struct stream *stream;
	place_close(place);
	while ((stream = stream_of(place)))
		stream_end(stream, REASON_PLACE_GONE, NULL, NGHTTP2_CANCEL);
	tunnels_each(place, tunnel_end_gone);
	broker_forget(place->proxy->broker, place->endpoint);
	while (*at != place)
		at = &(*at)->next;
	*at = place->next;
	free(place->spiffe);
	free(place);
}
