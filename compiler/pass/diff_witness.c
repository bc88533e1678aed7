/* The example of a group, and how either side would be asked about it. */
#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/diff.h"

enum { TRIES = 512 }; /* addresses of a block, for one that is no service's */

/* ---- Choosing ------------------------------------------------------------------------------------- */

static uint32_t first_block(const struct diff *diff, node_id blocks)
{
	uint32_t block = 0, count = diff->pair->runs[NEW]->policy->blocks;
	while (block + 1 < count && !diff_has_block(diff, blocks, block))
		block++;
	return block;
}

/* How good an example: a service that both sides have, wherever it is; the world; a service at some
 * address; whatever there is. */
static int source_worth(struct diff *diff, uint32_t class, node_id blocks)
{
	const struct pair *pair = diff->pair;
	if (blocks == diagram_no(diff->builder) || class == CLASS_CONFLICT)
		return 0;
	if (pair->runs[OLD]->policy->classes.at[class].kind == CLASS_SERVICE &&
	    pair->runs[NEW]->policy->classes.at[class].kind == CLASS_SERVICE)
		return diff_has_block(diff, blocks, 0) ? 4 : 2;
	return class == CLASS_WORLD ? 3 : 1;
}

static void choose_source(struct diff *diff, struct diff_group *group)
{
	int best = 0;
	for (uint32_t class = CLASS_WORLD; class < diff->pair->sources.len && best < 4; class ++) {
		node_id blocks = diff_blocks_of(diff, group->sample.sources, class);
		int worth = source_worth(diff, class, blocks);
		if (worth <= best)
			continue;
		best = worth;
		group->witness.source = class;
		group->witness.block = first_block(diff, blocks);
	}
}

static const struct policy_service *service_on(const struct pair *pair, const struct pair_target *target,
					       enum side side)
{
	const struct policy *policy = pair->runs[side]->policy;
	return target->known[side] ? &policy->services.at[policy->classes.at[target->dst[side]].service] : NULL;
}

static bool in_ranges(const struct range *at, size_t len, uint32_t port)
{
	for (size_t i = 0; i < len; i++)
		if (port >= at[i].lo && port <= at[i].hi)
			return true;
	return false;
}

/* 2: a port that the service declares; 0: one that `why` takes for the service's own; 1: any other. */
static int port_worth(const struct policy_service *service, bool udp, uint32_t number)
{
	int worth = 1;
	for (size_t i = 0; service && i < service->ports.len; i++) {
		const struct policy_port *port = &service->ports.at[i];
		if ((port->kind == PORT_UDP) != udp)
			continue;
		if (port->target == port->lo ? number >= port->lo && number <= port->hi : number == port->target)
			return 2;
		if (port->target != port->lo && number == port->lo)
			worth = 0;
	}
	return worth;
}

static void try_port(struct diff *diff, struct diff_group *group, bool udp, uint32_t port, int *worth)
{
	const struct pair_target *target = &diff->pair->targets.at[group->sample.target];
	int old = port_worth(service_on(diff->pair, target, OLD), udp, port);
	int new = port_worth(service_on(diff->pair, target, NEW), udp, port);
	int mine = !old || !new ? 0 : old + new;
	if (mine <= *worth)
		return;
	*worth = mine;
	group->witness.udp = udp;
	group->witness.port = port;
}

static void choose_port(struct diff *diff, struct diff_group *group)
{
	const struct pair_target *target = &diff->pair->targets.at[group->sample.target];
	const struct diff_ports *ports = &group->sample.ports;
	int worth = -1;
	for (int udp = 0; udp < 2; udp++) {
		const struct range *at = udp ? ports->udp.at : ports->tcp.at;
		size_t len = udp ? ports->udp.len : ports->tcp.len;
		for (int side = 0; side < SIDES; side++) {
			const struct policy_service *service = service_on(diff->pair, target, side);
			for (size_t i = 0; service && i < service->ports.len; i++)
				if (in_ranges(at, len, service->ports.at[i].target))
					try_port(diff, group, udp, service->ports.at[i].target, &worth);
		}
		/* A service's own ports are few: among that many neighbours one is none. */
		for (size_t i = 0; i < len && worth < 2; i++)
			for (uint32_t port = at[i].lo; port <= at[i].hi && port < at[i].lo + TRIES && worth < 2; port++)
				try_port(diff, group, udp, port, &worth);
	}
}

static bool is_strict(const struct diff *diff, const struct diff_witness *witness, enum side side)
{
	uint32_t dst = diff->pair->targets.at[witness->target].dst[side];
	return policy_mtls_mode(diff->pair->runs[side]->policy, dst, witness->port) == MTLS_STRICT;
}

/* Unsaid means what the port wants: where that is not the same on both sides, it is said. Of modes the example
 * is what only one of them takes. */
static void choose_verified(struct diff *diff, struct diff_group *group)
{
	struct diff_witness *witness = &group->witness;
	bool differ = is_strict(diff, witness, OLD) != is_strict(diff, witness, NEW);
	witness->verified = group->verified;
	if (group->outcome.change == DIFF_MTLS)
		witness->verified = VERIFIED_NO;
	else if (differ && !witness->udp && policy_shows_certificate(diff->pair->runs[NEW]->policy, witness->source))
		witness->verified = VERIFIED_YES;
}

void diff_choose(struct diff *diff, struct diff_group *group)
{
	group->witness.target = group->sample.target;
	choose_source(diff, group);
	choose_port(diff, group);
	choose_verified(diff, group);
}

/* ---- Addresses --------------------------------------------------------------------------------------- */

static unsigned __int128 number_of(const uint8_t bytes[16])
{
	unsigned __int128 number = 0;
	for (int i = 0; i < 16; i++)
		number = number << 8 | bytes[i];
	return number;
}

static const char *print(struct diff *diff, unsigned __int128 address)
{
	struct address_range range = {.lo = address, .hi = address, .is_v6 = address >> 32 != 0xffff};
	return address_print(diff->arena, &range);
}

static const char *address_in(struct diff *diff, uint32_t block)
{
	const struct policy *policy = diff->pair->runs[NEW]->policy;
	for (size_t i = 0; i < policy->intervals.len; i++)
		if (policy->intervals.at[i].block == block)
			return print(diff, number_of(policy->intervals.at[i].first));
	return NULL;
}

static bool is_service_address(const struct diff *diff, const char *text)
{
	for (int side = 0; side < SIDES; side++) {
		const struct policy *policy = diff->pair->runs[side]->policy;
		for (size_t i = 0; i < policy->services.len; i++)
			for (size_t k = 0; k < policy->services.at[i].addresses.len; k++)
				if (strcmp(policy->services.at[i].addresses.at[k], text) == 0)
					return true;
	}
	return false;
}

/* One whose destination is DST on either side, and no service behind it. */
static const char *address_to(struct diff *diff, const struct pair_target *target)
{
	const struct policy *old = diff->pair->runs[OLD]->policy, *new = diff->pair->runs[NEW]->policy;
	const char *text = NULL;
	for (size_t i = 0; i < new->intervals.len; i++) {
		uint32_t block = new->intervals.at[i].block;
		if (old->block_dst.at[block] != target->dst[OLD] || new->block_dst.at[block] != target->dst[NEW])
			continue;
		unsigned __int128 first = number_of(new->intervals.at[i].first), last = ~(unsigned __int128)0;
		if (i + 1 < new->intervals.len)
			last = number_of(new->intervals.at[i + 1].first) - 1;
		for (uint32_t k = 0; k < TRIES && first + k <= last; k++) {
			text = print(diff, first + k);
			if (!is_service_address(diff, text))
				return text;
		}
	}
	return text;
}

/* ---- Request lines -------------------------------------------------------------------------------------- */

static const char *space_name(struct diff *diff, enum side side, const char *ns)
{
	bool known = ns && table_get(&diff->pair->runs[side]->ast->spaces, ns);
	return known ? arena_printf(diff->arena, "%s/-", ns) : "-/-";
}

static json_t *source_of(struct diff *diff, const struct diff_witness *witness, enum side side)
{
	const struct pair_source *source = &diff->pair->sources.at[witness->source];
	const char *name = source->name, *address = witness->block ? address_in(diff, witness->block) : NULL;
	bool declared = diff->pair->runs[side]->policy->classes.at[witness->source].kind == CLASS_SERVICE;
	if (source->kind == CLASS_NAMESPACE || (source->kind == CLASS_SERVICE && !declared))
		name = space_name(diff, side, source->ns);
	else if (source->kind == CLASS_OTHER)
		name = "-/-";
	if (source->kind == CLASS_IDENTITY)
		return address ? json_pack("{s:s, s:s}", "spiffe", source->spiffe, "address", address)
			       : json_pack("{s:s}", "spiffe", source->spiffe);
	if (source->kind == CLASS_WORLD && address)
		return json_string(address);
	return address ? json_pack("{s:s, s:s}", "service", name, "address", address) : json_string(name);
}

/* With what it shows, where that is said: an object then. */
static json_t *request_from(struct diff *diff, const struct diff_witness *witness, enum side side)
{
	json_t *from = source_of(diff, witness, side), *object = from;
	bool is_address = diff->pair->sources.at[witness->source].kind == CLASS_WORLD && witness->block;
	if (witness->verified == VERIFIED_UNSAID)
		return from;
	if (!json_is_object(from))
		object = json_pack("{s:o}", is_address ? "address" : "service", from);
	json_object_set_new(object, "verified", json_boolean(witness->verified == VERIFIED_YES));
	return object;
}

static const char *request_to(struct diff *diff, const struct diff_witness *witness, enum side side)
{
	const struct pair_target *target = &diff->pair->targets.at[witness->target];
	const struct policy_class *old = &diff->pair->runs[OLD]->policy->classes.at[target->dst[OLD]];
	const struct policy_class *new = &diff->pair->runs[NEW]->policy->classes.at[target->dst[NEW]];
	switch (target->kind) {
	case CLASS_SERVICE:
		return target->known[side] ? target->name
					   : space_name(diff, side, diff->pair->sources.at[target->dst[!side]].ns);
	case CLASS_NAMESPACE:
		return space_name(diff, side, new->ns);
	case CLASS_OTHER:
		return "-/-";
	case CLASS_NODE:
		return "node";
	default:
		break;
	}
	if (old->kind == new->kind && strcmp(old->name, new->name) == 0 && old->externals.len < 2)
		return old->name;
	return address_to(diff, target);
}

static const char *protocol_of(struct diff *diff, const struct diff_witness *witness)
{
	const struct pair_target *target = &diff->pair->targets.at[witness->target];
	const struct policy_service *service = service_on(diff->pair, target, target->known[NEW] ? NEW : OLD);
	if (!witness->http)
		return witness->udp ? "udp" : "tcp";
	for (size_t i = 0; service && i < service->ports.len; i++)
		if (service->ports.at[i].kind == PORT_GRPC &&
		    in_ranges(&(struct range){service->ports.at[i].target, service->ports.at[i].target +
										   service->ports.at[i].hi -
										   service->ports.at[i].lo},
			      1, witness->port))
			return "grpc";
	return "http";
}

static void add_texts(const struct diff_witness *witness, json_t *request)
{
	json_t *headers = json_object();
	const char *names[FIELDS] = {[FIELD_METHOD] = "method", [FIELD_PATH] = "path", [FIELD_HOST] = "host"};
	bool grpc = strcmp(json_string_value(json_object_get(request, "protocol")), "grpc") == 0;
	json_object_set_new(request, "method", json_string(grpc ? "POST" : "GET")); /* where it does not matter */
	for (size_t i = 0; i < witness->texts.len; i++) {
		const struct diff_text *text = &witness->texts.at[i];
		if (text->field == FIELD_HEADER)
			json_object_set_new(headers, text->key, json_string(text->value));
		else
			json_object_set_new(request, names[text->field], json_string(text->value));
	}
	if (witness->malformed)
		json_object_set_new(request, "path", json_string("/%00"));
	if (json_object_size(headers))
		json_object_set(request, "headers", headers);
	json_decref(headers);
}

json_t *diff_request(struct diff *diff, const struct diff_witness *witness, enum side side)
{
	json_t *request = json_pack("{s:o, s:s?, s:s, s:i}", "from", request_from(diff, witness, side), "to",
				    request_to(diff, witness, side), "protocol", protocol_of(diff, witness), "port",
				    (int)witness->port);
	if (witness->http)
		add_texts(witness, request);
	return request;
}
