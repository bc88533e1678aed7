#include "verb/why_flow.h"

#include "ir/request.h"
#include "verb/answer.h"

static const char *text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}

static json_t *refuse(char *why, const char *reason)
{
	snprintf(why, REQUEST_WHY_BYTES, "%s", reason);
	return NULL;
}

/* As requests name them. */
static const char *party_name(const char *service)
{
	return strcmp(service, "other") == 0 ? "-/-" : service;
}

/* What a peer showed, the node's hooks say: in the tunnel its certificate, elsewhere none. A caller's hook decides
 * for what it is about to do, and says of that only that it is refused. */
static void add_shown(json_t *source, const json_t *flow)
{
	const char *hook = text_at(flow, "hook");
	bool tunnel = strcmp(hook, "tunnel") == 0, plain = strcmp(text_at(flow, "rule"), "plaintext") == 0;
	const json_t *spiffe = json_object_get(json_object_get(flow, "from"), "spiffe");
	if (json_is_string(spiffe))
		json_object_set(source, "spiffe", (json_t *)spiffe);
	if (tunnel || plain || strcmp(hook, "lookup") == 0 || strcmp(hook, "ingress") == 0)
		json_object_set_new(source, "verified", json_boolean(tunnel));
}

static json_t *source_of(const json_t *flow, char *why)
{
	const json_t *from = json_object_get(flow, "from");
	const char *service = text_at(from, "service"), *address = text_at(from, "address");
	bool named = *service && strcmp(service, "unknown") != 0 && strcmp(service, "conflict") != 0;
	json_t *source = json_object();
	if (named)
		json_object_set_new(source, "service", json_string(party_name(service)));
	if (*address)
		json_object_set_new(source, "address", json_string(address));
	if (json_object_size(source)) {
		add_shown(source, flow);
		return source;
	}
	json_decref(source);
	return refuse(why, "the record names no source");
}

/* World and externals are where an address lies today; a service is known by its name wherever it is. */
static bool is_by_name(const struct policy *policy, const char *service)
{
	if (strcmp(service, "node") == 0 || strcmp(service, "other") == 0)
		return true;
	for (size_t i = 0; i < policy->classes.len; i++)
		if (strcmp(policy->classes.at[i].name, service) == 0)
			return policy->classes.at[i].kind == CLASS_SERVICE ||
			       policy->classes.at[i].kind == CLASS_NAMESPACE;
	return false;
}

/* The end that was asked for, where the node found no service there. */
static json_t *target_of(const struct policy *policy, const json_t *flow, json_t **ret_port, char *why)
{
	const json_t *to = json_object_get(flow, "to"), *asked = json_object_get(flow, "asked");
	const char *service = text_at(to, "service");
	bool lost = strcmp(text_at(flow, "rule"), "unknown") == 0 && *text_at(asked, "address");
	const char *address = text_at(lost ? asked : to, "address");
	*ret_port = json_object_get(lost ? asked : to, "port");
	if (!lost && is_by_name(policy, service))
		return json_string(party_name(service));
	if (!lost && strchr(service, '/') && !*address)
		return json_string(service);
	return *address	  ? json_string(address)
	       : *service ? json_string(service)
			  : refuse(why, "the record names no destination");
}

json_t *flow_request(struct run *run, const json_t *flow, char *why)
{
	const char *rule = text_at(flow, "rule");
	json_t *port;
	if (!*rule || (strcmp(text_at(flow, "verdict"), "allow") != 0 && strcmp(text_at(flow, "verdict"), "deny") != 0))
		return refuse(why, "this is no record of `meshd flows --format json`");
	if (strcmp(rule, "self") == 0)
		return refuse(why, "a workload that reaches itself is outside policy ('self'): no rule was asked");
	if (strcmp(rule, "conflict") == 0)
		return refuse(
			why,
			"the destination was a workload of two services ('conflict'): denied, and no rule was asked");
	if (strcmp(rule, "mtls") == 0)
		return refuse(why, "the tunnel was refused ('mtls', see `reason`) before any rule was asked");
	json_t *from = source_of(flow, why);
	json_t *to = from ? target_of(run->policy, flow, &port, why) : NULL;
	if (!to) {
		json_decref(from);
		return NULL;
	}
	json_t *request = json_pack("{s:o, s:o}", "from", from, "to", to);
	if (port)
		json_object_set(request, "port", port);
	if (json_object_get(flow, "protocol"))
		json_object_set(request, "protocol", json_object_get(flow, "protocol"));
	return request;
}

/* "verdict", "rule" or NULL: nothing. */
static const char *difference(const struct run *run, const json_t *flow, const struct decision *decision)
{
	if (decision->depends || decision->refused ||
	    decision->allow != (strcmp(text_at(flow, "verdict"), "allow") == 0))
		return "verdict";
	return strcmp(answer_rule(run, decision), text_at(flow, "rule")) != 0 ? "rule" : NULL;
}

json_t *flow_compare(struct run *run, const char *digest, const json_t *flow, const struct decision *decision)
{
	static const struct {
		const char *key;
		bool is_number;
	} kept[] = {{"id", true}, {"generation", true}, {"time"}, {"verdict"}, {"rule"}, {"where"}, {"digest"}};
	const char *differs = difference(run, flow, decision);
	json_t *compared = json_object();
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++) {
		json_t *value = json_object_get(flow, kept[i].key);
		if (kept[i].is_number ? json_is_integer(value) : json_is_string(value))
			json_object_set(compared, kept[i].key, value);
	}
	json_object_set_new(compared, "passed", json_boolean(json_is_true(json_object_get(flow, "passed"))));
	json_object_set_new(compared, "same_policy", json_boolean(strcmp(text_at(flow, "digest"), digest) == 0));
	json_object_set_new(compared, "differs", differs ? json_string(differs) : json_null());
	return compared;
}

void flow_print(struct run *run, const char *digest, const json_t *flow, const struct decision *decision,
		const char *indent)
{
	const char *differs = difference(run, flow, decision), *where = text_at(flow, "where"),
		   *rule = text_at(flow, "rule");
	const char *theirs = text_at(flow, "digest");
	bool denied = strcmp(text_at(flow, "verdict"), "allow") != 0, same = strcmp(theirs, digest) == 0;
	const char *quote = strcmp(rule, "default") == 0 ? "" : "'", *time = text_at(flow, "time");
	printf("%sthe node%s%s: %s by %s%s%s%s%s%s%s\n", indent, *time ? ", at " : "", time, denied ? "deny" : "allow",
	       quote, rule, quote, *where ? " (" : "", where, *where ? ")" : "",
	       denied && json_is_true(json_object_get(flow, "passed")) ? ", but let through" : "");
	printf("%s%s: the node's policy is %s%s%s%s\n", indent,
	       !differs			      ? "no difference"
	       : strcmp(differs, "rule") == 0 ? "another rule, the same verdict"
					      : "another verdict",
	       same	 ? "this one"
	       : *theirs ? "another, "
			 : "not known any more",
	       same ? "" : theirs, same || !*theirs ? "" : ", this one is ", same || !*theirs ? "" : digest);
}
