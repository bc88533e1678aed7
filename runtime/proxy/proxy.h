/* The state of one proxy: one thread has one, and shares nothing of it. Who may call whom, downwards:
 *
 *	main.c -> orders.c (meshd's messages) -> place.c (workloads, listeners)
 *	                                          |             |
 *	                  outbound.c + pool.c (callers)     inbound.c (receivers)
 *	                                          |             |
 *	                               stream.c (one relayed connection)
 *	                                          |
 *	                               tunnel.c (TLS and HTTP/2)
 *
 * Handlers of events only note what is to be sent and who is dead. After each batch of events proxy_settle sends, once
 * for each tunnel, and frees: so frames of many streams share a record, and nothing is freed under a caller's feet. */
#ifndef MESH_PROXY_PROXY_H
#define MESH_PROXY_PROXY_H

#include "proxy/broker.h"
#include "proxy/deadline.h"
#include "proxy/flow.h"
#include "proxy/identity.h"
#include "proxy/stream.h"
#include "proxy/tunnel.h"

enum {
	PROXY_HANDSHAKE_MS = 5000, /* connect and TLS */
	PROXY_OPEN_MS = 5000,	   /* a stream: from accept to 200 */
	PROXY_TICK_MS = 1000,
	PROXY_TUNNELS_LIMIT = 4096,
	PROXY_STRANGERS_LIMIT = 1024, /* tunnels that came and whose peer has not proved who it is */
	PROXY_STREAMS_LIMIT = 1000,   /* of one tunnel */
	PROXY_HELD_BYTES = 64 << 20,  /* that applications have not taken; beyond it tunnels' windows stay shut */
	PROXY_BUFFER_BYTES = 128 << 10,
	PROXY_PLAIN_BYTES = 64 << 10,
	PROXY_RECORD_BYTES = 16 << 10, /* of plaintext, RFC 8446, section 5.1 */
	PROXY_POOL_BUCKETS = 1024,
};

struct proxy_settings {
	unsigned connections;
	unsigned drain_ms;
};

struct proxy {
	struct loop *loop;
	struct identities *identities;
	struct orders *orders;
	struct broker *broker;
	struct flows *flows;
	struct proxy_settings settings;

	struct place *places;	    /* in the order of their endpoints */
	struct stream_list streams; /* whoever was asked about longest ago first */
	struct tunnel_list tunnels; /* verified longest ago first */
	struct tunnel *pool[PROXY_POOL_BUCKETS];
	unsigned stream_count, tunnel_count, stranger_count;
	uint32_t switch_serial, judge_serial;
	size_t held_bytes;

	struct tunnel_list dirty, dead_tunnels; /* to be flushed, freed (proxy_settle) */
	struct stream_list dead_streams;
	struct deadline_queue handshakes, strangers, openings; /* ours, theirs */

	/* Shared by all tunnels, so that an idle one keeps none: ciphertext read and to be sent, plaintext of both
	 * directions. In use only within one call. */
	struct proxy_buffers {
		uint8_t cipher_in[PROXY_BUFFER_BYTES];
		uint8_t cipher_out[PROXY_BUFFER_BYTES];
		uint8_t plain_in[PROXY_PLAIN_BYTES];
		uint8_t plain_out[PROXY_RECORD_BYTES];
	} *buffers;
	size_t cipher_in_at, cipher_in_len, cipher_out_len, plain_out_len;

	int64_t drain_until_ms; /* 0: not draining */
};

int proxy_create(struct loop *loop, struct proxy **ret_proxy);
void proxy_release(struct proxy *proxy);
/* Takes no more connections; stops the loop when the last has ended, or after drain_ms. */
void proxy_drain(struct proxy *proxy);
/* Policy, inventory or certificates changed: what is live is judged again, a slice in each batch. */
void proxy_judge_streams(struct proxy *proxy);
void proxy_judge_tunnels(struct proxy *proxy);
/* True: there is more to do at once. */
bool proxy_settle(struct proxy *proxy);

#endif
