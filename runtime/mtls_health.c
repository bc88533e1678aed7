/* What of mutual TLS does not work on this node, for `meshd status`. */
#include "mtls.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_MS = 5000, UNLOOKED_MS = 15000 };

const char *mtls_missing(struct node *node)
{
	const struct resident *active = node_active(node);
	if (node->mtls.wanted || !active || !active->names || !names_strict(active->names))
		return NULL;
	return "the policy has strict ports, and meshd.yaml no `mtls`: no connection of this node's workloads reaches "
	       "one";
}

static bool asks_for_mtls(struct node *node)
{
	const struct resident *active = node_active(node);
	uint32_t permissive = 0;
	if (!active || !active->names)
		return false;
	names_permissive(active->names, &permissive);
	return names_strict(active->names) || permissive;
}

static int64_t since(int64_t begin_ms)
{
	return begin_ms ? loop_now_ms() - begin_ms : 0;
}

/* A proxy that is stopped, or does not come to an end of something. */
static void add_silence(const struct mtls *mtls, json_t *problems)
{
	int64_t silent_ms = since(mtls->unanswered_ms), unlooked_ms = since(mtls->unlooked_ms);
	if (mtls->control < 0)
		return;
	if (silent_ms > PATIENCE_MS)
		json_array_append_new(problems,
				      json_sprintf("the node proxy, pid %d, has not answered for %d s: strict "
						   "connections hang; kill -9 it, and another one is started",
						   mtls->pid, (int)(silent_ms / 1000)));
	else if (unlooked_ms > UNLOOKED_MS)
		json_array_append_new(problems,
				      json_sprintf("the node proxy, pid %d, has not said for %d s which certificates "
						   "it has: which workload has none is not known",
						   mtls->pid, (int)(unlooked_ms / 1000)));
}

static void add_broker(struct mtls *mtls, json_t *problems)
{
	broker_hear(&mtls->line);
	int64_t silent_ms = since(mtls->line.unanswered_ms);
	if (mtls->control >= 0 && silent_ms > PATIENCE_MS)
		json_array_append_new(problems,
				      json_sprintf("the node proxy's broker, pid %d, has not answered for %d s: no "
						   "connection can be made that is strict; kill -9 it, and both are "
						   "started again",
						   mtls->broker, (int)(silent_ms / 1000)));
}

/* SPIFFE's certificate, as the proxy said since it heard of the workload. */
static void add_certificate(const struct node *node, const struct place *place, const char *spiffe, json_t *problems)
{
	const json_t *until = json_object_get(json_object_get(node->mtls.status, "until"), spiffe);
	time_t end = json_integer_value(until);
	char day[32];
	struct tm utc;
	if (end >= time(NULL))
		return;
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &utc));
	json_array_append_new(
		problems, json_sprintf("workload %s: %s of %s%s%s: what is strict is refused to it; put "
				       "a new one into %s",
				       place->workload, end ? "the certificate" : "there is no valid certificate",
				       spiffe, end ? " ended " : "", end ? day : "", node->config->mtls_identities));
}

/* The domain of spiffe://DOMAIN/..., once. */
static void add_domain(const struct node *node, const char *spiffe, json_t *missing)
{
	char domain[256];
	snprintf(domain, sizeof(domain), "%.*s", (int)strcspn(spiffe + strlen("spiffe://"), "/"),
		 spiffe + strlen("spiffe://"));
	if (!json_object_get(node->mtls.domains, domain))
		json_object_set_new(missing, domain, json_true());
}

static void add_workloads(struct node *node, json_t *problems, json_t *missing)
{
	const struct resident *active = node_active(node);
	for (size_t i = 0; i < node->place_count; i++) {
		const struct place *place = &node->places[i];
		const char *spiffe = json_string_value(json_object_get(active->identities, place->workload));
		if (!spiffe || !(place->flags & MESH_NETNS_ENROLLED))
			continue;
		add_domain(node, spiffe, missing);
		if (mtls_was_heard(node, place))
			add_certificate(node, place, spiffe, problems);
	}
}

void mtls_problems(struct node *node, json_t *problems)
{
	struct mtls *mtls = &node->mtls;
	const char *nothing = mtls_missing(node), *domain;
	json_t *missing = json_object(), *ignored;
	if (mtls->control >= 0)
		mtls_hear(node, 0);
	if (mtls->problem)
		json_array_append_new(problems, json_string(mtls->problem));
	if (nothing)
		json_array_append_new(problems, json_string(nothing));
	mtls_add_refused(node, problems);
	add_silence(mtls, problems);
	add_broker(mtls, problems);
	if (mtls->control >= 0 && asks_for_mtls(node))
		add_workloads(node, problems, missing);
	json_object_foreach (missing, domain, ignored)
		json_array_append_new(problems,
				      json_sprintf("%s/%s.pem is missing: nobody of %s is trusted, what is strict is "
						   "refused; put the trust bundle there",
						   node->config->mtls_trust, domain, domain));
	json_decref(missing);
}
