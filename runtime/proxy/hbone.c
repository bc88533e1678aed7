#include "proxy/hbone.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- Reading ------------------------------------------------------------------------------------- */

static bool is_named(const char *name, size_t len, const char *other)
{
	return len == strlen(other) && !memcmp(name, other, len);
}

/* forwarded: for="192.0.2.1:4711", for="[2001:db8::1]", for=192.0.2.1;proto=... The first element alone counts: it is
 * the caller, and whoever stands behind it is not ours to believe (RFC 7239, sections 4 and 6). */
static void forwarded_read(struct hbone_head *head, const char *value, size_t len)
{
	if (len < 4 || strncasecmp(value, "for=", 4))
		return;
	value += 4;
	len -= 4;
	const char *end;
	if (len && value[0] == '"') {
		value++;
		len--;
		end = memchr(value, '"', len);
		if (!end)
			return;
	} else {
		for (end = value; end < value + len && *end != ';' && *end != ','; end++)
			;
	}
	len = (size_t)(end - value);
	head->has_src = !hop_parse(value, len, &head->src) || !hop_parse_ip(value, len, &head->src);
}

static uint16_t status_read(const char *value, size_t len)
{
	unsigned status = 0;
	for (size_t i = 0; i < len && len == 3; i++)
		status = status * 10 + (unsigned)(value[i] - '0');
	return status < 1000 ? (uint16_t)status : 0;
}

void hbone_head_read(struct hbone_head *head, const char *name, size_t name_len, const char *value, size_t value_len)
{
	if (is_named(name, name_len, ":method"))
		head->is_connect = is_named(value, value_len, "CONNECT");
	else if (is_named(name, name_len, ":authority") && hop_parse(value, value_len, &head->dst))
		head->dst.port = 0;
	else if (is_named(name, name_len, ":status"))
		head->status = status_read(value, value_len);
	else if (is_named(name, name_len, "forwarded") && !head->has_src)
		forwarded_read(head, value, value_len);
}

/* ---- Writing ------------------------------------------------------------------------------------- */

static nghttp2_nv header(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)name,
			    .namelen = strlen(name),
			    .value = (uint8_t *)value,
			    .valuelen = strlen(value),
			    .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

/* Names are DNS labels by the inventory's rule, so nothing needs the escapes of baggage (W3C, section 3.3.1.3). */
static void baggage_write(char text[HBONE_BAGGAGE_BYTES], const char *workload, const char *service)
{
	const char *slash = strchr(workload, '/');
	int space_len = slash ? (int)(slash - workload) : 0;
	const char *name = service ? strchr(service, '/') : NULL;
	if (name)
		name++;
	else
		name = slash ? slash + 1 : workload;
	snprintf(text, HBONE_BAGGAGE_BYTES, "k8s.namespace.name=%.*s,service.name=%s", space_len, workload, name);
}

void hbone_request_write(struct hbone_request *request, const struct hop *dst, const struct hop *src,
			 const char *workload, const char *service)
{
	char text[HOP_TEXT];
	hop_print(dst, request->authority);
	snprintf(request->forwarded, sizeof(request->forwarded), "for=\"%s\"", hop_print(src, text));
	baggage_write(request->baggage, workload, service);
	request->headers[0] = header(":method", "CONNECT");
	request->headers[1] = header(":authority", request->authority);
	request->headers[2] = header("baggage", request->baggage);
	request->headers[3] = header("forwarded", request->forwarded);
	/* Each connection has a port of its own: in the peer's table it would only push out what comes again. */
	request->headers[3].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
}
