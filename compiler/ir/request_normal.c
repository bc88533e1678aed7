/* Language 17: what a request is compared as. */
#include "ir/literal.h"
#include "ir/request.h"

#include <ctype.h>
#include <errno.h>
#include <strings.h>

/* The path of a request target: its scheme and authority (absolute-form, RFC 9112, 3.2.2), its query
 * and its fragment are not matched. */
static const char *path_of(struct arena *arena, const char *target)
{
	const char *c = target;
	if (isalpha((unsigned char)*c)) {
		while (isalnum((unsigned char)*c) || *c == '+' || *c == '-' || *c == '.')
			c++;
		if (strncmp(c, "://", 3) == 0) {
			target = c + 3 + strcspn(c + 3, "/?#");
			if (*target != '/')
				return "/";
		}
	}
	return arena_copy(arena, target, strcspn(target, "?#"));
}

static int add_header(struct arena *arena, struct request *normal, const char *name, const char *value,
		      const char **ret_why)
{
	char *lower = arena_copy(arena, name, strlen(name));
	for (char *c = lower; *c; c++)
		*c = tolower((unsigned char)*c);
	/* A header's name is a token as a method is. */
	if (!literal_normal(arena, FIELD_METHOD, lower, ret_why)) {
		*ret_why = "this is no header's name";
		return -EINVAL;
	}
	value = literal_normal(arena, FIELD_HEADER, value, ret_why);
	if (!value)
		return -EINVAL;
	for (size_t i = 0; i < normal->headers.len; i++) {
		struct request_header *before = &normal->headers.at[i];
		if (strcmp(before->name, lower) == 0) {
			before->value = arena_printf(arena, "%s,%s", before->value, value);
			return 0;
		}
	}
	vec_push(arena, &normal->headers, (struct request_header){lower, value});
	return 0;
}

/* The Host header is the field host, however it was said; twice is an attack or a mistake. */
static int take_headers(struct arena *arena, const struct request *request, struct request *normal,
			const char **ret_why)
{
	normal->headers.at = NULL;
	normal->headers.len = normal->headers.cap = 0;
	for (size_t i = 0; i < request->headers.len; i++) {
		const struct request_header *header = &request->headers.at[i];
		if (strcasecmp(header->name, "host") != 0) {
			int r = add_header(arena, normal, header->name, header->value, ret_why);
			if (r)
				return r;
			continue;
		}
		if (normal->host) {
			*ret_why = "a request has one Host";
			return -EINVAL;
		}
		normal->host = literal_normal(arena, FIELD_HEADER, header->value, ret_why);
		if (!normal->host)
			return -EINVAL;
	}
	return 0;
}

int request_normalise(struct arena *arena, struct request *request, const char **ret_why)
{
	struct request normal = *request;
	const char *why = NULL;
	int r = take_headers(arena, request, &normal, &why);
	if (!r && normal.method && !(normal.method = literal_normal(arena, FIELD_METHOD, normal.method, &why)))
		r = -EINVAL;
	if (!r && normal.host && !(normal.host = literal_normal(arena, FIELD_HOST, normal.host, &why)))
		r = -EINVAL;
	if (!r && normal.path && !(normal.path = literal_normal(arena, FIELD_PATH, path_of(arena, normal.path), &why)))
		r = -EINVAL;
	if (r)
		*ret_why = why;
	else
		*request = normal;
	return r;
}

/* Of a path's bytes: not '/', what decode_path refuses, nor what it decodes. */
#define PATH_PLAIN_NOT_DOT "[^\\x00-\\x20\\x7f\\\\?#%/.]"
#define PATH_ESCAPE "%(?:0[1-9A-F]|1[0-9A-F]|2[0-9A-C]|3[A-F]|40|5[BDE]|60|7[BCDF]|[89A-F][0-9A-F])"
#define PATH_NOT_DOT "(?:" PATH_PLAIN_NOT_DOT "|" PATH_ESCAPE ")"
#define PATH_BYTE "(?:" PATH_PLAIN_NOT_DOT "|[.]|" PATH_ESCAPE ")"
/* Neither "." nor "..". */
#define PATH_SEGMENT "(?:" PATH_NOT_DOT "|[.]" PATH_NOT_DOT "|[.][.]" PATH_BYTE ")" PATH_BYTE "*"

const char *request_field_pattern(enum field field)
{
	switch (field) {
	case FIELD_PATH:
		return "/(?:" PATH_SEGMENT "(?:/" PATH_SEGMENT ")*/?)?";
	case FIELD_METHOD:
		return "[-!#$%&'*+.^_`|~[:alnum:]]+";
	case FIELD_HOST:
		return "[a-z0-9._[\\]:-]+";
	default:
		return "(?:[^\\x00-\\x20\\x7f](?:[^\\x00-\\x08\\x0a-\\x1f\\x7f]*[^\\x00-\\x20\\x7f])?)?";
	}
}
