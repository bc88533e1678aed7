/* An address and a port. IPv4 is mapped (RFC 4291, section 2.5.5.2), as in abi.h. */
#ifndef MESH_PROXY_HOP_H
#define MESH_PROXY_HOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { HOP_TEXT = 64 };

struct hop {
	uint8_t ip[16];
	uint16_t port;
};

bool hop_is_v4(const struct hop *hop);
bool hop_same_ip(const struct hop *one, const struct hop *other);
int hop_family(const struct hop *hop);
/* -EAFNOSUPPORT: neither IPv4 nor IPv6. */
int hop_from_sockaddr(const struct sockaddr_storage *address, struct hop *ret_hop);
socklen_t hop_to_sockaddr(const struct hop *hop, int family, struct sockaddr_storage *ret_address);
/* "192.0.2.1:80", "[2001:db8::1]:80". */
const char *hop_print(const struct hop *hop, char text[HOP_TEXT]);
const char *hop_print_ip(const struct hop *hop, char text[HOP_TEXT]);
/* Exactly what hop_print writes, no other spelling of a number; a port of 1 to 65535. */
int hop_parse(const char *text, size_t len, struct hop *ret_hop);
/* An address alone, with or without brackets: the port is 0. */
int hop_parse_ip(const char *text, size_t len, struct hop *ret_hop);

#endif
