/* A tunnel's HTTP/2 session, without TLS. */
#ifndef MESH_PROXY_SESSION_H
#define MESH_PROXY_SESSION_H

struct tunnel;

/* GOAWAY, sent at once if the socket takes it: the tunnel is about to be cut. */
void session_say_goodbye(struct tunnel *tunnel);
/* What of the connection's window was kept back, where there is memory again. */
void session_pay_owed(struct tunnel *tunnel);

#endif
