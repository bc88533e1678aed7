/* What an address is by its form alone (RFC 6890): some are nobody's. */
#ifndef MESH_BASE_ADDRESS_H
#define MESH_BASE_ADDRESS_H

#include <stdint.h>

enum address_nature {
	NATURE_ORDINARY,
	NATURE_UNSPECIFIED,
	NATURE_LOOPBACK,
	NATURE_LINK_LOCAL,
	NATURE_MULTICAST,
	NATURE_BROADCAST
};

/* BYTES: v4 mapped. */
enum address_nature address_nature(const uint8_t bytes[16]);

/* Why no workload can be reached by an address of NATURE, to be read behind the address; NULL: it can. */
const char *address_flaw(enum address_nature nature);

#endif
