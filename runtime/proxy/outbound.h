/* Callers: a workload's connection that the kernel steered here goes out through a pooled tunnel. Tunnels are pooled
 * for each {endpoint, destination workload's address}. */
#ifndef MESH_PROXY_OUTBOUND_H
#define MESH_PROXY_OUTBOUND_H

struct hop;
struct place;
struct stream;

/* FD is taken. */
void outbound_accept(struct place *place, int fd, const struct hop *peer);
/* The tunnel refused the stream before anybody saw it (RFC 9113, section 8.7). */
void outbound_retry(struct stream *stream);

#endif
