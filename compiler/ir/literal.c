#include "ir/literal.h"

#include "base/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Addresses ---------------------------------------------------------------------------------- */

static const unsigned __int128 mapped = (unsigned __int128)0xffff << 32;

static unsigned __int128 number_of(const uint8_t bytes[16])
{
	unsigned __int128 number = 0;
	for (int i = 0; i < 16; i++)
		number = number << 8 | bytes[i];
	return number;
}

void address_bytes(unsigned __int128 address, uint8_t ret_bytes[16])
{
	for (int i = 15; i >= 0; i--, address >>= 8)
		ret_bytes[i] = (uint8_t)address;
}

enum address_fault address_read(const char *text, struct address_range *ret_range)
{
	char address[64];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	uint8_t bytes[16];
	if (len >= sizeof(address))
		return ADDRESS_BAD;
	memcpy(address, text, len);
	address[len] = 0;
	struct address_range range = {.is_v6 = strchr(address, ':'), .is_cidr = slash};
	if (inet_pton(range.is_v6 ? AF_INET6 : AF_INET, address, bytes) != 1)
		return ADDRESS_BAD;
	unsigned width = range.is_v6 ? 128 : 32;
	unsigned long prefix = slash ? strtoul(slash + 1, NULL, 10) : width;
	if (prefix > width || (slash && (!isdigit((unsigned char)slash[1]) || strlen(slash) > 4)))
		return ADDRESS_BAD;
	if (range.is_v6)
		range.lo = number_of(bytes);
	else
		range.lo = mapped | (uint32_t)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
	if (range.is_v6 && range.lo >> 32 == 0xffff)
		return ADDRESS_MAPPED;
	unsigned free_bits = width - prefix;
	unsigned __int128 mask = free_bits == 128 ? ~(unsigned __int128)0 : ((unsigned __int128)1 << free_bits) - 1;
	bool host_bits = range.lo & mask;
	range.lo &= ~mask;
	range.hi = range.lo | mask;
	*ret_range = range;
	return host_bits ? ADDRESS_HOST_BITS : ADDRESS_FINE;
}

struct address_range address_from_bytes(const uint8_t bytes[16])
{
	unsigned __int128 number = number_of(bytes);
	return (struct address_range){.lo = number, .hi = number, .is_v6 = number >> 32 != 0xffff};
}

bool address_is_of_link(const struct address_range *range)
{
	uint8_t lo[16], hi[16];
	address_bytes(range->lo, lo);
	address_bytes(range->hi, hi);
	return range->is_v6 && address_nature(lo) == NATURE_LINK_LOCAL && address_nature(hi) == NATURE_LINK_LOCAL;
}

const char *address_print(struct arena *arena, const struct address_range *range)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t bytes[16];
	unsigned free_bits = 0;
	address_bytes(range->lo, bytes);
	inet_ntop(range->is_v6 ? AF_INET6 : AF_INET, range->is_v6 ? bytes : bytes + 12, text, sizeof(text));
	while (free_bits < 128 && (range->lo ^ range->hi) >> free_bits)
		free_bits++;
	return range->is_cidr ? arena_printf(arena, "%s/%u", text, (range->is_v6 ? 128 : 32) - free_bits)
			      : arena_copy(arena, text, strlen(text));
}

/* ---- Identities --------------------------------------------------------------------------------- */

bool spiffe_read(struct arena *arena, const char *trust, const char *text, const char **ret_ns,
		 const char **ret_account)
{
	size_t len = strlen(trust);
	if (strncmp(text, "spiffe://", 9) != 0 || strncmp(text + 9, trust, len) != 0)
		return false;
	const char *rest = text + 9 + len;
	if (strncmp(rest, "/ns/", 4) != 0)
		return false;
	const char *ns = rest + 4;
	size_t ns_len = strcspn(ns, "/");
	if (!ns_len || strncmp(ns + ns_len, "/sa/", 4) != 0)
		return false;
	const char *account = ns + ns_len + 4;
	if (!*account || strchr(account, '/'))
		return false;
	*ret_ns = arena_copy(arena, ns, ns_len);
	*ret_account = account;
	return true;
}

/* ---- L7 strings --------------------------------------------------------------------------------- */

static int hex_value(char c)
{
	return isdigit((unsigned char)c)    ? c - '0'
	       : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
					    : -1;
}

static bool is_unreserved(int c)
{
	return c < 0x80 && (isalnum(c) || (c && strchr("-._~", c)));
}

/* Decodes what RFC 3986 calls unreserved, merges slashes. OUT is as long as TEXT. */
static const char *decode_path(const char *text, char *out)
{
	size_t len = 0;
	for (const char *c = text; *c; c++) {
		if (*c == '\\')
			return "a raw backslash in a path is refused";
		if (*c == '?' || *c == '#')
			return "a path has no query and no fragment";
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return "a path has no spaces and no control characters";
		if (*c == '/' && len && out[len - 1] == '/')
			continue;
		if (*c != '%') {
			out[len++] = *c;
			continue;
		}
		int high = hex_value(c[1]), low = high < 0 ? -1 : hex_value(c[2]);
		if (low < 0)
			return "a % without two hexadecimal digits is refused";
		int value = high * 16 + low;
		if (!value || value == '/' || value == '\\')
			return "%00, %2F and %5C in a path are refused";
		if (is_unreserved(value))
			out[len++] = value;
		else
			len += sprintf(out + len, "%%%02X", value);
		c += 2;
	}
	out[len] = 0;
	return NULL;
}

/* RFC 3986, 5.2.4, in place; TEXT begins with '/' and has no empty segment. */
static void remove_dots(char *text)
{
	char *out = text;
	for (char *in = text; *in;) {
		size_t len = 1 + strcspn(in + 1, "/");
		bool one = len == 2 && in[1] == '.', two = len == 3 && in[1] == '.' && in[2] == '.';
		while (two && out > text && *--out != '/')
			;
		if (!one && !two) {
			memmove(out, in, len);
			out += len;
		} else if (!in[len]) {
			*out++ = '/';
		}
		in += len;
	}
	if (out == text)
		*out++ = '/';
	*out = 0;
}

static const char *normal_path(struct arena *arena, const char *text, const char **ret_why)
{
	char *path = arena_alloc(arena, strlen(text) + 2);
	if (text[0] != '/') {
		*ret_why = "a path begins with '/'";
		return NULL;
	}
	*ret_why = decode_path(text, path);
	if (*ret_why)
		return NULL;
	remove_dots(path);
	return path;
}

static const char *normal_host(struct arena *arena, const char *text, const char **ret_why)
{
	size_t len = strlen(text);
	char *host = arena_copy(arena, text, len);
	char *colon = strrchr(host, ':');
	if (colon && colon[1 + strspn(colon + 1, "0123456789")] == 0 && (host[0] != '[' || colon[-1] == ']'))
		*colon = 0;
	len = strlen(host);
	if (len && host[len - 1] == '.')
		host[--len] = 0;
	for (size_t i = 0; i < len; i++) {
		host[i] = tolower((unsigned char)host[i]);
		if (!isalnum((unsigned char)host[i]) && !strchr("-._[]:", host[i]))
			len = 0;
	}
	*ret_why = "this is no host name";
	return len ? host : NULL;
}

static bool is_token(const char *text)
{
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("!#$%&'*+-.^_`|~", *c))
			return false;
	return *text;
}

static const char *normal_header(struct arena *arena, const char *text, const char **ret_why)
{
	size_t len = strlen(text);
	for (; len && strchr(" \t", text[len - 1]); len--)
		;
	size_t skip = strspn(text, " \t");
	*ret_why = "a header has no control characters";
	for (const char *c = text; *c; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
			return NULL;
	return arena_copy(arena, text + (skip < len ? skip : len), skip < len ? len - skip : 0);
}

const char *literal_normal(struct arena *arena, enum field field, const char *text, const char **ret_why)
{
	switch (field) {
	case FIELD_PATH:
		return normal_path(arena, text, ret_why);
	case FIELD_HOST:
		return normal_host(arena, text, ret_why);
	case FIELD_METHOD:
		*ret_why = "this is no method";
		return is_token(text) ? text : NULL;
	case FIELD_HEADER:
		return normal_header(arena, text, ret_why);
	case FIELD_GRPC_METHOD: {
		const char *slash = strchr(text, '/');
		*ret_why = "a grpc method is written package.Service/Method";
		if (!slash || slash == text || !slash[1] || strchr(slash + 1, '/'))
			return NULL;
		return normal_path(arena, arena_printf(arena, "/%s", text), ret_why);
	}
	default:
		return text;
	}
}

/* ---- Dates -------------------------------------------------------------------------------------- */

long date_read(const char *text)
{
	static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	static const int length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int y, m, d, end = 0;
	if (strlen(text) != 10 || sscanf(text, "%4d-%2d-%2d%n", &y, &m, &d, &end) != 3 || end != 10)
		return -1;
	for (int i = 0; i < 10; i++)
		if (i != 4 && i != 7 && !isdigit((unsigned char)text[i]))
			return -1;
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	if (y < 1970 || m < 1 || m > 12 || d < 1 || d > length[m - 1] + (leap && m == 2))
		return -1;
	long days =
		365L * (y - 1970) + (y - 1) / 4 - 1969 / 4 - ((y - 1) / 100 - 1969 / 100) + (y - 1) / 400 - 1969 / 400;
	return days + before[m - 1] + (leap && m > 2) + d - 1;
}
