/* What literals mean: addresses, identities, dates, and L7 strings as language.md 17 normalises them. */
#ifndef MESH_IR_LITERAL_H
#define MESH_IR_LITERAL_H

#include "base/arena.h"
#include "ir/field.h"

#include <stdbool.h>
#include <stdint.h>

/* Inclusive; v4 lies at ::ffff:0:0/96. */
struct address_range {
	unsigned __int128 lo, hi;
	bool is_v6, is_cidr;
};

enum address_fault { ADDRESS_FINE, ADDRESS_BAD, ADDRESS_HOST_BITS, ADDRESS_MAPPED };

/* With ADDRESS_HOST_BITS the range is that of the network. */
enum address_fault address_read(const char *text, struct address_range *ret_range);
/* "10.0.0.0/8" for a range that is one prefix. */
const char *address_print(struct arena *arena, const struct address_range *range);
/* The one address BYTES, v4 mapped. */
struct address_range address_from_bytes(const uint8_t bytes[16]);
/* IPv6 link-local, as a whole. Any process may take one beside its own, and it is the same on many links (RFC 4291
 * section 2.5.6): it names nobody, and the kernel refuses it as unknown. */
bool address_is_of_link(const struct address_range *range);
void address_bytes(unsigned __int128 address, uint8_t ret_bytes[16]);

/* spiffe://TRUST/ns/NS/sa/ACCOUNT of this trust domain. */
bool spiffe_read(struct arena *arena, const char *trust, const char *text, const char **ret_ns,
		 const char **ret_account);

/* The normal form of a value of FIELD, or NULL with a reason: nothing that is forwarded looks so. */
const char *literal_normal(struct arena *arena, enum field field, const char *text, const char **ret_why);

/* Days since 1970-01-01 of YYYY-MM-DD, or -1. */
long date_read(const char *text);

#endif
