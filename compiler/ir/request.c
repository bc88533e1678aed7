#include "ir/request.h"

#include "base/diag.h"
#include "base/spiffe.h"
#include "ir/literal.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

enum protocol { PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_HTTP, PROTOCOL_GRPC, PROTOCOLS };
static const char *const protocols[] = {"tcp", "udp", "http", "grpc"};

struct reading {
	struct arena *arena;
	const struct policy *policy;
	struct request request;
	enum protocol protocol; /* PROTOCOLS: not said */
	uint16_t port;		/* 0: not said */
	char *why;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct reading *reading, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(reading->why, REQUEST_WHY_BYTES, format, args);
	va_end(args);
	return -EINVAL;
}

static int refuse_word(struct reading *reading, const char *what, const char *word, const char *const *names,
		       size_t count)
{
	const char *near = diag_nearest(word, names, count);
	return refuse(reading, "unknown %s '%.60s'%s%.60s%s", what, word, near ? ": did you mean '" : "",
		      near ? near : "", near ? "'?" : "");
}

static int check_keys(struct reading *reading, const json_t *object, const char *const *names, size_t count)
{
	const char *key;
	json_t *value;
	json_object_foreach ((json_t *)object, key, value) {
		size_t i = 0;
		while (i < count && strcmp(names[i], key) != 0)
			i++;
		if (i == count)
			return refuse_word(reading, "key", key, names, count);
	}
	return 0;
}

static int take_text(struct reading *reading, const json_t *object, const char *key, const char **ret_text)
{
	const json_t *value = json_object_get(object, key);
	*ret_text = NULL;
	if (!value)
		return 0;
	if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
		return refuse(reading, "'%s' wants a text", key);
	*ret_text = arena_copy(reading->arena, json_string_value(value), json_string_length(value));
	return 0;
}

/* ---- Addresses ---------------------------------------------------------------------------------- */

static bool is_address(const char *text, struct address_range *ret_range)
{
	return address_read(text, ret_range) == ADDRESS_FINE && !ret_range->is_cidr;
}

/* ---- Names -------------------------------------------------------------------------------------- */

enum who { FROM, TO };

/* What can be named at one end: of each its full name, and the number that it comes to. */
struct names {
	struct named {
		const char *name;
		uint32_t class, external; /* external UINT32_MAX: none */
	} *at;
	size_t len;
};

static void names_add(struct names *names, const char *name, uint32_t class, uint32_t external)
{
	names->at[names->len++] = (struct named){name, class, external};
}

/* All that there are; given back by the caller, not by the arena: a batch of requests asks for it twice each. */
static struct names names_of(const struct reading *reading, enum who who)
{
	const struct policy *policy = reading->policy;
	size_t most = policy->classes.len + policy->identities.len + policy->externals.len + 1;
	struct names names = {.at = calloc(most, sizeof(*names.at))};
	if (!names.at)
		abort();
	for (uint32_t i = 0; i < policy->classes.len && i < policy->sources; i++) {
		enum class_kind kind = policy->classes.at[i].kind;
		if (kind == CLASS_SERVICE || kind == CLASS_NAMESPACE || (kind == CLASS_IDENTITY && who == FROM))
			names_add(&names, policy->classes.at[i].name, i, UINT32_MAX);
	}
	for (uint32_t i = 0; i < policy->identities.len && who == FROM; i++)
		names_add(&names, policy->identities.at[i].name, policy->identities.at[i].class, UINT32_MAX);
	for (uint32_t i = 0; i < policy->externals.len && who == TO; i++)
		names_add(&names, policy->externals.at[i].name, CLASS_WORLD, i);
	return names;
}

static const char *short_name(const char *name)
{
	const char *slash = strrchr(name, '/');
	return slash ? slash + 1 : name;
}

static bool is_called(const char *full, const char *name)
{
	return strcmp(strchr(name, '/') ? full : short_name(full), name) == 0;
}

/* A name that is known, but of nothing that a request can be from, or to: what to say instead. 0: no such. */
static int explain_plural(struct reading *reading, const char *name, enum who who)
{
	for (size_t i = 0; i < reading->policy->plurals.len; i++) {
		const struct policy_plural *plural = &reading->policy->plurals.at[i];
		const char *such = plural->example ? ", such as " : "",
			   *example = plural->example ? plural->example : "";
		if (!is_called(plural->name, name))
			continue;
		if (plural->is_group)
			return refuse(reading, "'%.60s' is a group, and a request is of one: name a member%s%.60s",
				      name, such, example);
		return who == FROM ? refuse(reading, "'%.60s' is a cidr: say an address in it%s%.60s (--address %.60s)",
					    name, such, example, example)
				   : refuse(reading,
					    "'%.60s' is a cidr, of sources: as a destination say an address%s%.60s",
					    name, such, example);
	}
	return 0;
}

static int explain_name(struct reading *reading, const char *name, enum who who)
{
	const struct policy *policy = reading->policy;
	for (size_t i = 0; i < policy->externals.len && who == FROM; i++)
		if (is_called(policy->externals.at[i].name, name))
			return refuse(reading,
				      "'%.60s' is an external: a destination, never a source; its addresses are world",
				      name);
	for (size_t i = 0; i < policy->identities.len && who == TO; i++)
		if (is_called(policy->identities.at[i].name, name))
			return refuse(reading, "'%.60s' is an identity: a source, never a destination", name);
	for (size_t i = 0; i < policy->classes.len; i++)
		if (policy->classes.at[i].kind == CLASS_NAMESPACE && strcmp(policy->classes.at[i].ns, name) == 0)
			return refuse(reading,
				      "'%.60s' is a namespace: name a service of it, or %.60s for a workload of none",
				      name, policy->classes.at[i].name);
	if (strcmp(name, "any") == 0)
		return refuse(reading, "a request is of one: name it instead of 'any'");
	return explain_plural(reading, name, who);
}

static int unknown_name(struct reading *reading, const char *name, const struct names *names, enum who who)
{
	int r = explain_name(reading, name, who);
	if (r)
		return r;
	const char **known = arena_alloc(reading->arena, (names->len * 2 + 2) * sizeof(*known));
	size_t count = 0;
	known[count++] = "world";
	if (who == FROM)
		known[count++] = "node";
	for (size_t i = 0; i < names->len; i++)
		known[count++] = strchr(name, '/') ? names->at[i].name : short_name(names->at[i].name);
	return refuse_word(reading, who == FROM ? "source" : "destination", name, known, count);
}

/* NAME in full, or short where one namespace alone has it. */
static int find_among(struct reading *reading, const char *name, const struct names *names, enum who who,
		      struct named *ret_named)
{
	const struct named *found = NULL;
	for (size_t i = 0; i < names->len; i++) {
		if (!is_called(names->at[i].name, name) ||
		    (found && found->class == names->at[i].class && found->external == names->at[i].external))
			continue;
		if (found)
			return refuse(reading, "'%.60s' may be '%.60s' or '%.60s': write it with its namespace", name,
				      found->name, names->at[i].name);
		found = &names->at[i];
	}
	if (!found)
		return unknown_name(reading, name, names, who);
	*ret_named = *found;
	return 0;
}

static int find_name(struct reading *reading, const char *name, enum who who, struct named *ret_named)
{
	struct names names = names_of(reading, who);
	int r = find_among(reading, name, &names, who, ret_named);
	free(names.at);
	return r;
}

/* A workload of a namespace that the policy does not know: as "shop/-" is one of no service of shop. */
#define NOBODY "-/-"

/* ---- From --------------------------------------------------------------------------------------- */

static int from_word(struct reading *reading, const char *word)
{
	struct address_range range;
	struct named named;
	reading->request.src = CLASS_WORLD;
	if (strcmp(word, "world") == 0)
		return 0;
	if (strcmp(word, "node") == 0 || strcmp(word, NOBODY) == 0) {
		reading->request.src = word[0] == 'n' ? CLASS_NODE : CLASS_OTHER;
		return 0;
	}
	if (is_address(word, &range)) {
		reading->request.src = address_is_of_link(&range) ? CLASS_UNKNOWN : CLASS_WORLD;
		reading->request.block = policy_block(reading->policy, range.lo);
		return 0;
	}
	int r = find_name(reading, word, FROM, &named);
	if (!r)
		reading->request.src = named.class;
	return r;
}

/* A certificate wins over all else; an ID that nobody has is of its namespace alone. */
static int from_spiffe(struct reading *reading, const char *spiffe)
{
	const struct policy *policy = reading->policy;
	const char *ns = NULL, *account;
	if (!spiffe_valid(spiffe))
		return refuse(reading, "'%.100s' is no SPIFFE ID", spiffe);
	for (uint32_t i = 0; i < policy->sources && i < policy->classes.len; i++)
		if (policy->classes.at[i].spiffe && strcmp(policy->classes.at[i].spiffe, spiffe) == 0) {
			reading->request.src = i;
			return 0;
		}
	spiffe_read(reading->arena, policy->trust, spiffe, &ns, &account);
	reading->request.src = CLASS_OTHER;
	for (uint32_t i = 0; ns && i < policy->sources && i < policy->classes.len; i++)
		if (policy->classes.at[i].kind == CLASS_NAMESPACE && strcmp(policy->classes.at[i].ns, ns) == 0)
			reading->request.src = i;
	return 0;
}

static int from_service(struct reading *reading, const char *service, const char *ns)
{
	if (!service)
		return from_word(reading, arena_printf(reading->arena, "%s/-", ns));
	size_t len = ns ? strlen(ns) : 0;
	if (ns && strchr(service, '/') && (strncmp(service, ns, len) != 0 || service[len] != '/'))
		return refuse(reading, "'%.60s' is not of the namespace '%.60s'", service, ns);
	if (ns && !strchr(service, '/'))
		service = arena_printf(reading->arena, "%s/%s", ns, service);
	return from_word(reading, service);
}

static int take_from(struct reading *reading, const json_t *from)
{
	static const char *const keys[] = {"service", "namespace", "spiffe", "address", "verified"};
	const char *service, *ns, *spiffe, *address;
	const json_t *verified = json_object_get(from, "verified");
	struct address_range range;
	if (json_is_string(from))
		return from_word(reading, json_string_value(from));
	if (!json_is_object(from))
		return refuse(reading, "'from' wants a name, an address or an object");
	if (check_keys(reading, from, keys, sizeof(keys) / sizeof(*keys)) ||
	    take_text(reading, from, "service", &service) || take_text(reading, from, "namespace", &ns) ||
	    take_text(reading, from, "spiffe", &spiffe) || take_text(reading, from, "address", &address))
		return -EINVAL;
	if (verified && !json_is_boolean(verified))
		return refuse(reading, "'verified' wants true or false");
	if (verified)
		reading->request.verified = json_is_true(verified) ? VERIFIED_YES : VERIFIED_NO;
	if (!service && !ns && !spiffe && !address)
		return refuse(reading, "'from' names nobody");
	bool named = service || ns || spiffe;
	reading->request.src = CLASS_WORLD;
	int r = service || ns ? from_service(reading, service, ns) : 0;
	if (!r && spiffe)
		r = from_spiffe(reading, spiffe);
	if (r || !address)
		return r;
	if (!is_address(address, &range))
		return refuse(reading, "'%.60s' is not one address", address);
	if (!named && address_is_of_link(&range))
		reading->request.src = CLASS_UNKNOWN;
	reading->request.block = policy_block(reading->policy, range.lo);
	return 0;
}

/* ---- Ports -------------------------------------------------------------------------------------- */

static bool speaks(enum protocol protocol, const struct policy_port *port)
{
	return protocol == PROTOCOLS || (protocol == PROTOCOL_UDP) == (port->kind == PORT_UDP);
}

static bool is_target(const struct policy_port *port, uint16_t number)
{
	return port->target == port->lo ? number >= port->lo && number <= port->hi : number == port->target;
}

static void use_port(struct reading *reading, const struct policy_port *port, uint16_t number)
{
	reading->request.port = number;
	reading->request.udp = port->kind == PORT_UDP;
	reading->request.http = port->kind == PORT_HTTP || port->kind == PORT_GRPC;
}

/* The one port that is meant where none is said. */
static int take_only_port(struct reading *reading, const char *name, const struct policy_port *ports, size_t count)
{
	static const enum port_kind kinds[] = {PORT_TCP, PORT_UDP, PORT_HTTP, PORT_GRPC};
	const struct policy_port *only = NULL;
	size_t fit = 0, exact = 0;
	for (size_t i = 0; i < count; i++)
		exact += reading->protocol < PROTOCOLS && ports[i].kind == kinds[reading->protocol];
	for (size_t i = 0; i < count; i++) {
		if (exact ? ports[i].kind != kinds[reading->protocol] : !speaks(reading->protocol, &ports[i]))
			continue;
		fit += ports[i].lo == ports[i].hi ? 1 : 2;
		only = &ports[i];
	}
	if (fit != 1)
		return refuse(reading,
			      fit ? "'%.60s' has more than one port: say `port`"
				  : "'%.60s' has no port of its own: say `port`",
			      name);
	use_port(reading, only, only->target);
	return 0;
}

/* PORTS are those of NAME, the number is the workload's. */
static int take_port(struct reading *reading, const char *name, const struct policy_port *ports, size_t count)
{
	const struct policy_port *found = NULL;
	if (!reading->port)
		return take_only_port(reading, name, ports, count);
	for (size_t i = 0; i < count; i++) {
		if (!is_target(&ports[i], reading->port) || !speaks(reading->protocol, &ports[i]))
			continue;
		if (found && (found->kind == PORT_UDP) != (ports[i].kind == PORT_UDP))
			return refuse(reading, "'%.60s' has port %u for tcp and for udp: say `protocol`", name,
				      reading->port);
		found = &ports[i];
	}
	for (size_t i = 0; i < count && !found; i++)
		if (ports[i].target != ports[i].lo && ports[i].lo == reading->port &&
		    speaks(reading->protocol, &ports[i]))
			return refuse(reading,
				      "%u is the port of the service '%.60s'; a request has the workload's, %u",
				      reading->port, name, ports[i].target);
	reading->request.port = reading->port;
	reading->request.udp = reading->protocol == PROTOCOL_UDP;
	if (found)
		use_port(reading, found, reading->port);
	return 0;
}

/* ---- To ----------------------------------------------------------------------------------------- */

static bool has_address(const struct policy_service *service, unsigned __int128 address)
{
	struct address_range range;
	for (size_t i = 0; i < service->addresses.len; i++)
		if (is_address(service->addresses.at[i], &range) && range.lo == address)
			return true;
	return false;
}

/* Behind an address of a service the port says which service is meant, and which port of its workload. */
static int to_address(struct reading *reading, const char *text, const struct address_range *range)
{
	const struct policy *policy = reading->policy;
	unsigned __int128 address = range->lo;
	bool is_service = false, of_link = address_is_of_link(range);
	for (size_t i = 0; i < policy->services.len && reading->port; i++) {
		const struct policy_service *service = &policy->services.at[i];
		if (!has_address(service, address))
			continue;
		is_service = true;
		for (size_t k = 0; k < service->ports.len; k++) {
			const struct policy_port *port = &service->ports.at[k];
			if (reading->port < port->lo || reading->port > port->hi || !speaks(reading->protocol, port))
				continue;
			reading->request.dst = service->class;
			use_port(reading, port, port->target == port->lo ? reading->port : port->target);
			return 0;
		}
	}
	/* No such port at a service's address: the kernel refuses it as unknown. */
	reading->request.dst =
		is_service || of_link ? CLASS_UNKNOWN : policy->block_dst.at[policy_block(policy, address)];
	return take_port(reading, text, NULL, 0);
}

/* Of the classes that an external lies in, the one that it has to itself, else the first. */
static uint32_t class_of_external(const struct policy *policy, uint32_t external)
{
	uint32_t first = CLASS_WORLD;
	for (uint32_t i = policy->sources; i < policy->classes.len; i++) {
		const struct policy_class *class = &policy->classes.at[i];
		for (size_t k = 0; k < class->externals.len; k++) {
			if (class->externals.at[k] != external)
				continue;
			if (class->externals.len == 1)
				return i;
			first = first == CLASS_WORLD ? i : first;
		}
	}
	return first;
}

static int to_external(struct reading *reading, uint32_t number)
{
	const struct policy_external *external = &reading->policy->externals.at[number];
	reading->request.dst = class_of_external(reading->policy, number);
	int r = take_port(reading, external->name, external->ports.at, external->ports.len);
	reading->request.http = false; /* externals have ports only */
	return r;
}

static int take_to(struct reading *reading, const json_t *to)
{
	const struct policy *policy = reading->policy;
	const char *word = json_string_value(to);
	struct address_range range;
	struct named named;
	if (!word)
		return refuse(reading, "'to' wants a name or an address");
	reading->request.dst = CLASS_WORLD;
	if (strcmp(word, "world") == 0)
		return take_port(reading, word, NULL, 0);
	if (strcmp(word, "node") == 0 || strcmp(word, NOBODY) == 0) {
		reading->request.dst = word[0] == 'n' ? CLASS_NODE : CLASS_OTHER;
		return take_port(reading, word, NULL, 0);
	}
	if (is_address(word, &range))
		return to_address(reading, word, &range);
	int r = find_name(reading, word, TO, &named);
	if (r)
		return r;
	if (named.external != UINT32_MAX)
		return to_external(reading, named.external);
	reading->request.dst = named.class;
	if (policy->classes.at[named.class].kind != CLASS_SERVICE)
		return take_port(reading, word, NULL, 0);
	const struct policy_service *service = &policy->services.at[policy->classes.at[named.class].service];
	return take_port(reading, named.name, service->ports.at, service->ports.len);
}

/* ---- The rest ----------------------------------------------------------------------------------- */

static int take_wire(struct reading *reading, const json_t *line)
{
	const json_t *port = json_object_get(line, "port");
	const char *protocol;
	if (take_text(reading, line, "protocol", &protocol))
		return -EINVAL;
	reading->protocol = protocol ? PROTOCOL_TCP : PROTOCOLS;
	while (protocol && reading->protocol < PROTOCOLS && strcmp(protocols[reading->protocol], protocol) != 0)
		reading->protocol++;
	if (protocol && reading->protocol == PROTOCOLS)
		return refuse_word(reading, "protocol", protocol, protocols, PROTOCOLS);
	if (!port)
		return 0;
	if (!json_is_integer(port) || json_integer_value(port) < 1 || json_integer_value(port) > 65535)
		return refuse(reading, "'port' wants a number from 1 to 65535");
	reading->port = json_integer_value(port);
	return 0;
}

static const char *lower_case(struct arena *arena, const char *text)
{
	char *lower = arena_copy(arena, text, strlen(text));
	for (char *c = lower; *c; c++)
		*c = tolower((unsigned char)*c);
	return lower;
}

static int take_header(struct reading *reading, const char *name, const json_t *value)
{
	size_t count = json_is_array(value) ? json_array_size(value) : 1;
	for (size_t i = 0; i < count; i++) {
		const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
		const char *text = json_string_value(one);
		if (!text || strlen(text) != json_string_length(one))
			return refuse(reading, "the header '%.60s' wants a text, or a list of them", name);
		struct request_header header = {lower_case(reading->arena, name),
						arena_copy(reading->arena, text, strlen(text))};
		vec_push(reading->arena, &reading->request.headers, header);
	}
	return 0;
}

static int take_http(struct reading *reading, const json_t *line)
{
	struct request *request = &reading->request;
	json_t *headers = json_object_get(line, "headers"), *jwt = json_object_get(line, "jwt"), *value;
	const char *name;
	if (take_text(reading, line, "method", &request->method) || take_text(reading, line, "host", &request->host) ||
	    take_text(reading, line, "path", &request->path))
		return -EINVAL;
	if ((headers && !json_is_object(headers)) || (jwt && !json_is_object(jwt)))
		return refuse(reading, "'%s' wants an object", headers && !json_is_object(headers) ? "headers" : "jwt");
	json_object_foreach (headers, name, value) {
		if (take_header(reading, name, value))
			return -EINVAL;
	}
	bool any = request->method || request->host || request->path || json_object_size(headers);
	if (any && (reading->protocol == PROTOCOL_TCP || reading->protocol == PROTOCOL_UDP))
		return refuse(reading, "a request over %s has no method, host, path or headers: say http or grpc",
			      protocols[reading->protocol]);
	/* gRPC over HTTP/2 has no other method. */
	if (reading->protocol == PROTOCOL_GRPC && request->path && !request->method)
		request->method = "POST";
	return 0;
}

/* Nobody is verified who cannot show a certificate, or to whom none can be shown. */
static int check_verified(struct reading *reading)
{
	const struct policy *policy = reading->policy;
	const struct request *request = &reading->request;
	if (request->verified != VERIFIED_YES)
		return 0;
	if (!policy_shows_certificate(policy, request->src))
		return refuse(reading, "'verified': %s shows no certificate: say its service or its `spiffe`",
			      policy->classes.at[request->src].name);
	if (request->udp)
		return refuse(reading, "'verified': no certificate is shown over udp");
	if (request->dst != CLASS_UNKNOWN && !policy_is_workload(policy, request->dst))
		return refuse(reading, "'verified': only a workload is shown a certificate, not %s",
			      policy->classes.at[request->dst].name);
	return 0;
}

int request_read(struct arena *arena, const struct policy *policy, const json_t *line, struct request *ret_request,
		 char why[REQUEST_WHY_BYTES])
{
	static const char *const keys[] = {"from", "to",   "protocol", "port", "method",
					   "host", "path", "headers",  "jwt"};
	struct reading reading = {.arena = arena, .policy = policy, .why = why};
	const json_t *from = json_object_get(line, "from"), *to = json_object_get(line, "to");
	if (!json_is_object(line))
		return refuse(&reading, "a request is a JSON object");
	int r = check_keys(&reading, line, keys, sizeof(keys) / sizeof(*keys));
	if (!r && (!from || !to))
		r = refuse(&reading, "a request says `from` and `to`");
	if (!r)
		r = take_wire(&reading, line);
	if (!r)
		r = take_from(&reading, from);
	if (!r)
		r = take_to(&reading, to);
	if (!r)
		r = take_http(&reading, line);
	if (!r)
		r = check_verified(&reading);
	if (!r)
		*ret_request = reading.request;
	return r;
}
