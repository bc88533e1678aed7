/* The workloads of this node: who they are, and where their connections come in. */
#ifndef MESH_PROXY_PLACE_H
#define MESH_PROXY_PLACE_H

#include "base/why.h"
#include "proxy/hop.h"

#include <stdbool.h>
#include <stdint.h>

enum { PLACE_NAME = 512, PLACE_ADDRESSES = 16 };

struct proxy;
struct place {
	struct place *next;
	struct proxy *proxy;
	uint32_t endpoint;
	int listener; /* -1: none */
	unsigned address_count;
	struct hop addresses[PLACE_ADDRESSES];
	char workload[PLACE_NAME];
	char service[PLACE_NAME]; /* "": none */
	char *spiffe;
	bool is_listening;
};

struct place *place_find(struct proxy *proxy, uint32_t endpoint);
/* Adds, or changes the one of the same endpoint. LISTENER: -1, or a socket that becomes the place's, also on error. */
int place_put(struct proxy *proxy, const struct place *like, const char *spiffe, int listener, struct why *why);
void place_forget(struct place *place);
bool place_has(const struct place *place, const struct hop *hop);
/* Takes connections, if it has a listener: also after descriptors had run out. */
int place_listen(struct place *place);
/* No more connections are taken. */
void place_close(struct place *place);

#endif
