#define _GNU_SOURCE 1
#include "proxy/hop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped[12] = {[10] = 0xff, 0xff};

bool hop_is_v4(const struct hop *hop)
{
	return !memcmp(hop->ip, mapped, sizeof(mapped));
}

bool hop_same_ip(const struct hop *one, const struct hop *other)
{
	return !memcmp(one->ip, other->ip, sizeof(one->ip));
}

int hop_family(const struct hop *hop)
{
	return hop_is_v4(hop) ? AF_INET : AF_INET6;
}

int hop_from_sockaddr(const struct sockaddr_storage *address, struct hop *ret_hop)
{
	struct hop hop = {0};
	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;
		memcpy(hop.ip, mapped, sizeof(mapped));
		memcpy(hop.ip + 12, &in->sin_addr, 4);
		hop.port = ntohs(in->sin_port);
	} else if (address->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		memcpy(hop.ip, &in6->sin6_addr, 16);
		hop.port = ntohs(in6->sin6_port);
	} else {
		return -EAFNOSUPPORT;
	}
	*ret_hop = hop;
	return 0;
}

socklen_t hop_to_sockaddr(const struct hop *hop, int family, struct sockaddr_storage *ret_address)
{
	*ret_address = (struct sockaddr_storage){.ss_family = (sa_family_t)family};
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret_address;
		memcpy(&in->sin_addr, hop->ip + 12, 4);
		in->sin_port = htons(hop->port);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret_address;
	memcpy(&in6->sin6_addr, hop->ip, 16);
	in6->sin6_port = htons(hop->port);
	return sizeof(*in6);
}

const char *hop_print_ip(const struct hop *hop, char text[HOP_TEXT])
{
	if (hop_is_v4(hop))
		inet_ntop(AF_INET, hop->ip + 12, text, HOP_TEXT);
	else
		inet_ntop(AF_INET6, hop->ip, text, HOP_TEXT);
	return text;
}

const char *hop_print(const struct hop *hop, char text[HOP_TEXT])
{
	char ip[HOP_TEXT];
	hop_print_ip(hop, ip);
	snprintf(text, HOP_TEXT, hop_is_v4(hop) ? "%.45s:%u" : "[%.45s]:%u", ip, hop->port);
	return text;
}

int hop_parse_ip(const char *text, size_t len, struct hop *ret_hop)
{
	char ip[INET6_ADDRSTRLEN + 2];
	struct hop hop = {0};
	bool in_brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';
	if (in_brackets) {
		text++;
		len -= 2;
	}
	if (!len || len >= sizeof(ip) || memchr(text, 0, len))
		return -EINVAL;
	memcpy(ip, text, len);
	ip[len] = 0;
	if (!in_brackets && inet_pton(AF_INET, ip, hop.ip + 12) == 1)
		memcpy(hop.ip, mapped, sizeof(mapped));
	else if (inet_pton(AF_INET6, ip, hop.ip) != 1 || hop_is_v4(&hop))
		return -EINVAL; /* a mapped address has one spelling, the dotted one */
	*ret_hop = hop;
	return 0;
}

static int port_parse(const char *text, size_t len, uint16_t *ret_port)
{
	unsigned port = 0;
	if (!len || len > 5 || text[0] == '0')
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		port = port * 10 + (unsigned)(text[i] - '0');
	}
	if (port > UINT16_MAX)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

int hop_parse(const char *text, size_t len, struct hop *ret_hop)
{
	struct hop hop;
	uint16_t port;
	const char *colon = memrchr(text, ':', len);
	if (!colon)
		return -EINVAL;
	size_t ip_len = (size_t)(colon - text);
	bool is_v6 = memchr(text, ':', ip_len);
	if (is_v6 && text[0] != '[')
		return -EINVAL;
	if (hop_parse_ip(text, ip_len, &hop) || port_parse(colon + 1, len - ip_len - 1, &port))
		return -EINVAL;
	hop.port = port;
	*ret_hop = hop;
	return 0;
}
