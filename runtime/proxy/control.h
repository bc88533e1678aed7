/* What meshd tells the proxy, and what the proxy says: JSON objects of at most 64 KiB over a SOCK_SEQPACKET pair,
 * descriptors beside them (SCM_RIGHTS). The proxy opens no path and makes no socket of its own.
 *
 * meshd -> proxy
 *   {"do": "hello", "drain_ms": 30000, "connections": 20000}
 *	first of all; again: changed settings
 *   {"do": "place", "endpoint": 7, "workload": "shop/frontend-1", "service": "shop/frontend"|null,
 *    "spiffe": "spiffe://...", "addresses": ["10.1.0.5", "fd00::5"], "order": 3}		[listener]
 *	a workload of this node, and the listener (dual-stack) in its namespace to which the kernel steers both
 *	connections to be protected (local port MESH_PORT_STEER) and tunnels (MESH_PORT_TUNNEL). Again: changes;
 *	the listener may be left out then. "order" may be left out, and is said again where it could not be followed
 *   {"do": "forget", "endpoint": 7}
 *	it is gone: its tunnels and connections are closed
 *   {"do": "files", "files": [{"kind": "certificate"|"key"|"bundle"|"crl", "name": "frontend"}, ...],
 *    "first": true, "last": true}
 *	[a descriptor each, read from offset 0]. A set may come in several messages and is put in force by the last.
 *	The first drops what was gathered of another, which did not come whole; a set of which a message could not be
 *	followed is none.
 *	Certificate and key, bundle and crl, go together by name; a bundle's name is its trust domain. What has a
 *	"problem" could not be opened: its descriptor is not read, and the last good one of its name is kept
 *   {"do": "switch"}	policy or inventory changed: every live connection is asked about again
 *   {"do": "drain"}	no more connections are taken; ends when the last one is closed, after drain_ms at the latest
 *   {"do": "status", "round": 12, "after": 40}
 *	how it is, and of the places whose endpoint is above `after` (0: all) as many as fit into a message. Meshd asks
 *	on from `more`: what is asked from 0 to an answer without `more` is a round. Both keys may be left out
 *
 * proxy -> meshd
 *   {"say": "ready"}			after the first hello
 *   {"say": "files", "identities": 3, "problems": ["frontend: key and certificate do not match"]}
 *   {"say": "flow", ...}		a connection that came, ended or was refused (flow.h)
 *   {"say": "status", "round": 12, "tunnels": 2, "connections": 40, "refused": {"expired": 1}, ...,
 *    "until": {"spiffe://...": 1764000000}, "more": 977}	when the workloads' SVIDs end, or ended; more: up to
 *	which endpoint, where there are others
 *   {"say": "problem", "text": "...", "endpoint": 7, "order": 3}
 *	an order that it could not follow, and which, where that says so
 *   {"say": "drained"}			before it exits by itself
 *
 * The other descriptor, to the broker: sockets in a workload's namespace. Asked by struct broker_ask, answered by the
 * same with as many descriptors (0: there is no such place). They are stamped, non-blocking, not bound. */
#ifndef MESH_PROXY_CONTROL_H
#define MESH_PROXY_CONTROL_H

#include <stdint.h>

enum { PROXY_FD_CONTROL = 3, PROXY_FD_BROKER = 4, PROXY_MESSAGE_BYTES = 64 << 10, BROKER_SOCKETS = 64 };

struct broker_ask {
	uint32_t endpoint;
	uint16_t family; /* AF_INET, AF_INET6 */
	uint16_t count;	 /* at most BROKER_SOCKETS */
	uint64_t number; /* the proxy's own, given back: which question is answered */
};

#endif
