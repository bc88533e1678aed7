/* A tunnel's way to the wire: TLS between its session and its socket, through the buffers that all tunnels share. */
#ifndef MESH_PROXY_WIRE_H
#define MESH_PROXY_WIRE_H

#include <stdbool.h>

struct tunnel;

/* Its SSL is there: a client speaks first. */
void wire_start(struct tunnel *tunnel);
/* Reads what the socket has, some of it: it stays is_readable where there is more. */
void wire_receive(struct tunnel *tunnel);
/* close_notify (RFC 8446, section 6.1), so that the peer knows that nothing was cut off. */
void wire_say_goodbye(struct tunnel *tunnel);
/* Whether this tunnel shows a certificate that is not the one in force. */
bool wire_is_outdated(const struct tunnel *tunnel);

#endif
