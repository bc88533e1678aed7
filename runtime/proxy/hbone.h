/* The words of HBONE: HTTP/2 CONNECT (RFC 9113, section 8.5) with the caller in `forwarded` (RFC 7239), as ambient
 * meshes speak it. Bytes in, values out; nothing here knows a connection. */
#ifndef MESH_PROXY_HBONE_H
#define MESH_PROXY_HBONE_H

#include "proxy/hop.h"

#include <nghttp2/nghttp2.h>

enum { HBONE_HEADERS = 4, HBONE_BAGGAGE_BYTES = 512 };

/* What a peer's header block said, request or response. */
struct hbone_head {
	struct hop dst;	 /* :authority; port 0: none, or not "IP:port" */
	struct hop src;	 /* forwarded, for=; port 0: the address alone */
	uint16_t status; /* 0: none */
	bool is_connect : 1, has_src : 1;
};

void hbone_head_read(struct hbone_head *head, const char *name, size_t name_len, const char *value, size_t value_len);

/* A request's headers. The texts belong to it. */
struct hbone_request {
	char authority[HOP_TEXT];
	char forwarded[HOP_TEXT + 8];
	char baggage[HBONE_BAGGAGE_BYTES];
	nghttp2_nv headers[HBONE_HEADERS];
};
/* WORKLOAD and SERVICE: "namespace/name"; SERVICE may be NULL. */
void hbone_request_write(struct hbone_request *request, const struct hop *dst, const struct hop *src,
			 const char *workload, const char *service);

#endif
