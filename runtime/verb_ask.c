/* The verbs that ask the daemon. */
#include "control.h"
#include "verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_S = 60 };

/* The answer to BODY (taken), or NULL with the message printed and *RET_CODE set. */
static json_t *ask_daemon(const struct ask *ask, json_t *body, int fd, int (*each)(void *, const json_t *),
			  void *context, int *ret_code)
{
	struct config config = {0};
	struct why why = {0};
	const char *socket = ask->socket;
	*ret_code = 2;
	if (!socket && config_read(ask->config ? ask->config : CONFIG_PATH, &config, &why)) {
		cannot("%s", why.text);
		json_decref(body);
		return NULL;
	}
	json_t *answer = control_ask(socket ? socket : config.socket, body, fd, TIMEOUT_S, each, context, &why);
	const json_t *error = json_object_get(answer, "error"), *code = json_object_get(answer, "exit");
	if (!answer)
		cannot("%s", why.text);
	else if (error) {
		cannot("%s", json_string_value(error));
		*ret_code = code ? json_integer_value(code) : 2;
		json_decref(answer);
		answer = NULL;
	}
	if (!socket)
		config_release(&config);
	json_decref(body);
	return answer;
}

static long long number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));
	return value ? value : "-";
}

static void print_json(const json_t *answer)
{
	json_dumpf(answer, stdout, JSON_INDENT(2));
	putchar('\n');
}

static void print_warnings(const json_t *answer)
{
	size_t i;
	json_t *warning;
	json_array_foreach (json_object_get(answer, "warnings"), i, warning)
		fprintf(stderr, "meshd: warning: %s\n", json_string_value(warning));
}

int verb_apply(struct ask *ask)
{
	int code;
	if (!ask->argument)
		return cannot("which bundle? usage: meshd apply BUNDLE");
	int fd = open(ask->argument, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return cannot("%s: %s", ask->argument, strerror(errno));
	json_t *answer = ask_daemon(ask, json_pack("{s:s}", "verb", "apply"), fd, NULL, NULL, &code);
	close(fd);
	if (!answer)
		return code;
	if (ask->json)
		print_json(answer);
	else
		printf("generation %lld: %s, version %lld, %lld rules\nloaded %.1f ms, proved by %lld vectors %.1f ms, "
		       "in all %.1f ms\n",
		       number(answer, "generation"), text(answer, "digest"), number(answer, "version"),
		       number(answer, "rules"), number(answer, "load_us") / 1e3, number(answer, "vectors"),
		       number(answer, "prove_us") / 1e3, number(answer, "total_us") / 1e3);
	print_warnings(answer);
	json_decref(answer);
	return 0;
}

int verb_rollback(struct ask *ask)
{
	int code;
	char *end = NULL;
	long generation = ask->argument ? strtol(ask->argument, &end, 10) : 0;
	if (ask->argument && (*end || generation < 1 || generation > UINT32_MAX))
		return cannot("a generation is a number from 1; `meshd status` lists those that are loaded");
	json_t *body = json_pack("{s:s}", "verb", "rollback");
	if (ask->argument)
		json_object_set_new(body, "generation", json_integer(generation));
	json_t *answer = ask_daemon(ask, body, -1, NULL, NULL, &code);
	if (!answer)
		return code;
	if (ask->json)
		print_json(answer);
	else
		printf("generation %lld: %s\n", number(answer, "generation"), text(answer, "digest"));
	print_warnings(answer);
	json_decref(answer);
	return 0;
}

static void print_hits(const json_t *hits)
{
	size_t i;
	json_t *hit;
	if (json_array_size(hits))
		printf("%-24s %10s %10s %10s  %s\n", "rule", "opened", "arrived", "again", "where");
	json_array_foreach ((json_t *)hits, i, hit)
		printf("%-24s %10lld %10lld %10lld  %s\n", text(hit, "rule"), number(hit, "caller"),
		       number(hit, "receiver"), number(hit, "again"), text(hit, "where"));
}

static void print_mtls(const json_t *mtls)
{
	const char *reason, *id;
	json_t *count, *until;
	if (!json_is_object(mtls))
		return;
	printf("node proxy, pid %lld: %lld identities, %lld tunnels with %lld connections; started again %lld times\n",
	       number(mtls, "pid"), number(mtls, "identities"), number(mtls, "tunnels"), number(mtls, "connections"),
	       number(mtls, "restarts"));
	json_object_foreach (json_object_get(mtls, "until"), id, until) {
		char day[32];
		time_t end = json_integer_value(until);
		struct tm utc;
		strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &utc));
		printf("  %s %s %s\n", id, end < time(NULL) ? "ENDED" : "until", day);
	}
	json_object_foreach (json_object_get(mtls, "refused"), reason, count)
		printf("  refused, %s: %lld\n", reason, (long long)json_integer_value(count));
}

static void print_status(const json_t *status)
{
	const json_t *people = json_object_get(status, "inventory");
	size_t i;
	json_t *item;
	const char *name;
	if (strcmp(text(status, "state"), "off") == 0)
		puts("*** BREAK GLASS: NOTHING IS ENFORCED *** (`meshd on` ends it)");
	if (json_is_true(json_object_get(status, "development_key")))
		puts("*** a DEVELOPMENT KEY is trusted: not for other people's money ***");
	printf("mesh %s: %s\n", text(status, "mesh"), text(status, "state"));
	if (json_object_get(status, "generation"))
		printf("generation %lld, version %lld, %s, %lld rules, for %lld s\n", number(status, "generation"),
		       number(status, "version"), text(status, "digest"), number(status, "rules"),
		       number(status, "age_s"));
	printf("inventory %s: %lld workloads, %lld addresses (%lld enrolled, %lld in quarantine), %lld namespaces "
	       "here\n",
	       text(people, "path"), number(people, "workloads"), number(people, "endpoints"),
	       number(people, "enrolled"), number(people, "quarantined"), number(people, "namespaces"));
	print_mtls(json_object_get(status, "mtls"));
	json_array_foreach (json_object_get(status, "generations"), i, item)
		printf("  slot %lld: generation %lld, version %lld%s\n", number(item, "slot"),
		       number(item, "generation"), number(item, "version"),
		       json_is_true(json_object_get(item, "active")) ? ", in force" : "");
	print_hits(json_object_get(status, "hits"));
	json_object_foreach (json_object_get(status, "stats"), name, item)
		if (json_integer_value(item))
			printf("  %-20s %lld\n", name, (long long)json_integer_value(item));
	json_array_foreach (json_object_get(status, "neighbours"), i, item)
		printf("  beside us at %s: program %lld (%s), %s\n", text(item, "hook"), number(item, "id"),
		       text(item, "name"), text(item, "order"));
	json_array_foreach (json_object_get(status, "problems"), i, item)
		printf("PROBLEM %s\n", json_string_value(item));
}

int verb_status(struct ask *ask)
{
	int code;
	json_t *status = ask_daemon(ask, json_pack("{s:s}", "verb", "status"), -1, NULL, NULL, &code);
	if (!status)
		return code;
	if (ask->json)
		print_json(status);
	else
		print_status(status);
	code = ask->check && !json_is_true(json_object_get(status, "ok"));
	json_decref(status);
	return code;
}

static const char *end_text(const json_t *end, char *buffer, size_t size)
{
	/* What the proxy did not ask the policy about has no service: the workload says who it was. */
	const char *service = text(end, "service"), *workload = json_string_value(json_object_get(end, "workload"));
	if (workload && strcmp(service, "unknown") == 0)
		service = workload;
	snprintf(buffer, size, "%s (%s:%lld)", service, text(end, "address"), number(end, "port"));
	return buffer;
}

/* What the node proxy says: ", through the tunnel: refused at the receiver, unreachable (Connection refused)". */
static void print_tunnel(const json_t *flow)
{
	const char *reason = json_string_value(json_object_get(flow, "reason"));
	const char *detail = json_string_value(json_object_get(flow, "detail"));
	printf(", through the tunnel: %s at the %s", text(flow, "event"), text(flow, "side"));
	if (reason)
		printf(", %s", reason);
	if (detail)
		printf(" (%s)", detail);
}

static int print_flow(const struct ask *ask, const json_t *flow)
{
	char from[256], to[256];
	if (ask->json) {
		json_dumpf(flow, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		const char *where = json_string_value(json_object_get(flow, "where")), *subset = text(flow, "subset");
		printf("%s %-5s %s -> %s %s by %s%s%s%s%s%s%s", text(flow, "time"), text(flow, "verdict"),
		       end_text(json_object_get(flow, "from"), from, sizeof(from)),
		       end_text(json_object_get(flow, "to"), to, sizeof(to)), text(flow, "protocol"),
		       text(flow, "rule"), where ? " (" : "", where ? where : "", where ? ")" : "",
		       subset[0] != '-' ? " subset " : "", subset[0] != '-' ? subset : "",
		       json_is_true(json_object_get(flow, "again")) ? " again" : "");
		if (strcmp(text(flow, "verdict"), "deny") == 0 && json_is_true(json_object_get(flow, "passed")))
			fputs(", but it passed: only observed", stdout);
		if (json_object_get(flow, "event"))
			print_tunnel(flow);
		putchar('\n');
	}
	fflush(stdout);
	return ferror(stdout);
}

/* The answer holds those that were kept; each later line is one flow. */
static int print_flows(void *context, const json_t *line)
{
	size_t i;
	json_t *flow;
	if (!json_object_get(line, "flows"))
		return print_flow(context, line);
	print_warnings(line);
	json_array_foreach (json_object_get(line, "flows"), i, flow)
		print_flow(context, flow);
	return 0;
}

int verb_flows(struct ask *ask)
{
	int code;
	const char *verdict = json_string_value(json_object_get(ask->values, "verdict"));
	if (verdict && strcmp(verdict, "allow") != 0 && strcmp(verdict, "deny") != 0)
		return cannot("unknown verdict '%s': allow or deny", verdict);
	json_t *body = json_pack("{s:s, s:O, s:b}", "verb", "flows", "filter", ask->values, "follow", ask->follow);
	json_t *answer = ask_daemon(ask, body, -1, ask->follow ? print_flows : NULL, ask, &code);
	if (!answer)
		return code;
	if (!ask->follow)
		print_flows(ask, answer);
	json_decref(answer);
	return 0;
}

static int switch_mode(struct ask *ask)
{
	int code;
	json_t *answer = ask_daemon(ask, json_pack("{s:s}", "verb", ask->verb), -1, NULL, NULL, &code);
	if (!answer)
		return code;
	if (ask->json)
		print_json(answer);
	else
		puts(json_is_true(json_object_get(answer, "off")) ? "off: NOTHING is enforced until `meshd on`" : "on");
	json_decref(answer);
	return 0;
}

int verb_off(struct ask *ask)
{
	return switch_mode(ask);
}

int verb_on(struct ask *ask)
{
	return switch_mode(ask);
}
