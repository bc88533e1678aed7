/* What becomes of each connection, told to meshd:
 *
 *	{"say": "flow", "event": "open"|"end"|"refused", "side": "caller"|"receiver", "endpoint": 7,
 *	 "src": "10.1.0.5:40001", "dst": "10.1.0.6:8080", "service": "10.96.0.11:80"|absent,
 *	 "src_id": "spiffe://..."|absent, "dst_id": "spiffe://..."|absent, "tls": "TLSv1.3", "cipher": "TLS_...",
 *	 "reason": "policy"|absent, "detail": "words of a library"|absent,
 *	 "verdict": "allow"|"deny", "rule": 3, "generation": 9, "src_class": 1, "dst_class": 2, "audit": 0,
 *	 "default_audit": false					where the receiver's kernel was asked
 *	 "bytes_in": 10, "bytes_out": 10, "duration_ms": 3}	at the end; in: what the application sent
 *
 * A tunnel that was refused before it carried a connection is a "refused" without dst's port of an application.
 * Nothing waits for meshd: what it does not read is counted as lost. */
#ifndef MESH_PROXY_FLOW_H
#define MESH_PROXY_FLOW_H

#include "abi.h"
#include "proxy/hop.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Why a connection ended or was refused, beside the refusals of identity.h. Stable, for scripts. */
#define REASON_POLICY "policy"
#define REASON_NO_IDENTITY "no-identity" /* this workload has no SVID in force */
#define REASON_UNREACHABLE "unreachable" /* the peer's node does not answer */
#define REASON_APPLICATION "application" /* the application does not take the connection, or reset it */
#define REASON_PEER "peer"		 /* the peer reset it, or answered with another error */
#define REASON_BAD_REQUEST "bad-request" /* a CONNECT that is none, or not for this workload */
#define REASON_OVERLOAD "overload"	 /* a bound of this proxy */
#define REASON_TIMEOUT "timeout"
#define REASON_ORIGIN "not-steered" /* nobody knows where it was to go */
#define REASON_PLACE_GONE "place-gone"
#define REASON_DRAIN "drain" /* the proxy ended before the connection did */

enum flow_event { FLOW_OPEN, FLOW_END, FLOW_REFUSED };
struct flow {
	enum flow_event event;
	bool is_caller;
	uint32_t endpoint;
	const struct hop *src, *dst, *service; /* service, src: may be NULL */
	const char *src_id, *dst_id;	       /* may be NULL */
	const char *tls, *cipher;	       /* NULL: no handshake succeeded */
	const char *reason, *detail;	       /* may be NULL */
	const struct mesh_ask *answer;	       /* NULL: the kernel was not asked */
	uint64_t bytes_in, bytes_out;
	int64_t duration_ms;
};

struct flows;
/* FD stays the caller's. */
int flows_create(int fd, struct flows **ret_flows);
void flows_release(struct flows *flows);
void flow_say(struct flows *flows, const struct flow *flow);
/* {"lost": 3, "refused": {"policy": 2}}: merged into a status. */
void flows_status(const struct flows *flows, json_t *status);

#endif
