#include "base/spiffe.h"

#include <string.h>

static const char scheme[] = "spiffe://";
enum { SCHEME_LEN = sizeof(scheme) - 1 };

#define LOWER_AND_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789.-_"

static bool is_domain(const char *text, size_t len)
{
	return len > 0 && len <= SPIFFE_MAX_DOMAIN && strspn(text, LOWER_AND_DIGITS) >= len;
}

/* Section 2.2: no empty segment, no dot segment, no trailing slash. */
static bool is_path(const char *path)
{
	while (*path == '/') {
		const char *segment = path + 1;
		size_t len = strspn(segment, LOWER_AND_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
		bool is_dots = segment[0] == '.' && (len == 1 || (len == 2 && segment[1] == '.'));
		if (!len || is_dots)
			return false;
		path = segment + len;
	}
	return !*path;
}

bool spiffe_domain_valid(const char *text)
{
	return is_domain(text, strlen(text));
}

bool spiffe_valid(const char *text)
{
	if (strncmp(text, scheme, SCHEME_LEN) != 0 || strlen(text) > SPIFFE_MAX_ID)
		return false;
	const char *domain = text + SCHEME_LEN, *path = domain + strcspn(domain, "/");
	return is_domain(domain, (size_t)(path - domain)) && *path && is_path(path);
}

const char *spiffe_domain(const char *id, size_t *ret_len)
{
	*ret_len = strcspn(id + SCHEME_LEN, "/");
	return id + SCHEME_LEN;
}

size_t spiffe_space_len(const char *id)
{
	size_t len, ns_len;
	const char *path = spiffe_domain(id, &len) + len;
	if (strncmp(path, "/ns/", 4) != 0)
		return 0;
	const char *end = path + 4 + (ns_len = strcspn(path + 4, "/"));
	if (!ns_len || strncmp(end, "/sa/", 4) != 0 || !end[4] || strchr(end + 4, '/'))
		return 0;
	return (size_t)(end - id);
}
