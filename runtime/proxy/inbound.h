/* Receivers: a peer's tunnel brings connections for a workload of this node. */
#ifndef MESH_PROXY_INBOUND_H
#define MESH_PROXY_INBOUND_H

struct hop;
struct place;
struct stream;
struct tunnel_side;

extern const struct tunnel_side inbound_side;

/* FD is taken. */
void inbound_accept(struct place *place, int fd, const struct hop *local, const struct hop *peer);
/* The connection to the application is there, or failed. */
void inbound_connected(struct stream *stream);

#endif
