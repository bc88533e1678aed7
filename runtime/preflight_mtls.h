/* What mutual TLS needs of a kernel, each tried in a process of its own. 0, or why not (negative errno). */
#ifndef MESH_RUNTIME_PREFLIGHT_MTLS_H
#define MESH_RUNTIME_PREFLIGHT_MTLS_H

/* Programs at CGROUP, an empty one, take an option that the kernel does not know, and answer it. */
int preflight_options(const char *cgroup);
/* What accept() says of the peer is what a program at CGROUP says. */
int preflight_peername(const char *cgroup);
/* A listener out of a SOCKHASH gets a connection to another port, and takes IPv4 as well as IPv6. */
int preflight_steering(void);
/* What is written into SOCKETS, of struct mesh_socket, stays with the socket. */
int preflight_stamp(int sockets);

#endif
