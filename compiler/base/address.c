#include "base/address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

static enum address_nature nature_of_v4(const uint8_t bytes[4])
{
	if (bytes[0] == 0)
		return NATURE_UNSPECIFIED;
	if (bytes[0] == 127)
		return NATURE_LOOPBACK;
	if (bytes[0] == 169 && bytes[1] == 254)
		return NATURE_LINK_LOCAL;
	if (bytes[0] >= 224 && bytes[0] < 240)
		return NATURE_MULTICAST;
	return memcmp(bytes, "\377\377\377\377", 4) == 0 ? NATURE_BROADCAST : NATURE_ORDINARY;
}

enum address_nature address_nature(const uint8_t bytes[16])
{
	const struct in6_addr *address = (const struct in6_addr *)bytes;
	if (IN6_IS_ADDR_V4MAPPED(address))
		return nature_of_v4(bytes + 12);
	if (IN6_IS_ADDR_UNSPECIFIED(address))
		return NATURE_UNSPECIFIED;
	if (IN6_IS_ADDR_LOOPBACK(address))
		return NATURE_LOOPBACK;
	if (bytes[0] == 0xff)
		return NATURE_MULTICAST;
	return bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80 ? NATURE_LINK_LOCAL : NATURE_ORDINARY;
}

const char *address_flaw(enum address_nature nature)
{
	static const char *const flaws[] = {
		[NATURE_UNSPECIFIED] = "is unspecified: nobody's address",
		[NATURE_LOOPBACK] = "is loopback: a workload reaches itself by it, none another",
		[NATURE_LINK_LOCAL] = "is link-local: the same on many links, it names nobody",
		[NATURE_MULTICAST] = "is multicast: many at once, no workload's own",
		[NATURE_BROADCAST] = "is broadcast: many at once, no workload's own",
	};
	return nature == NATURE_ORDINARY ? NULL : flaws[nature];
}
