/* SPIFFE IDs: spiffe://TRUST/path (SPIFFE-ID, section 2). */
#ifndef MESH_BASE_SPIFFE_H
#define MESH_BASE_SPIFFE_H

#include <stdbool.h>
#include <stddef.h>

enum { SPIFFE_MAX_ID = 2048, SPIFFE_MAX_DOMAIN = 255 /* sections 2.3 and 2.1 */ };

/* An ID of a workload: a trust domain's own, without a path, is none. */
bool spiffe_valid(const char *text);
bool spiffe_domain_valid(const char *text);

/* The trust domain in a valid ID; its length. */
const char *spiffe_domain(const char *id, size_t *ret_len);

/* The length of "spiffe://TRUST/ns/NS" in "spiffe://TRUST/ns/NS/sa/ACCOUNT"; 0: it has another form. */
size_t spiffe_space_len(const char *id);

#endif
