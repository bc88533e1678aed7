/* The verdict for a request, and the rule that decided. */
#include "verb/answer.h"

#include "ir/request.h"
#include "pass/digest.h"
#include "verb/near.h"
#include "verb/why_flow.h"

#include <errno.h>
#include <stdlib.h>

enum { FLOWS_LIMIT_BYTES = 64 << 20 };

struct why_options {
	const char *requests, *flow;
	json_t *request; /* made of the flags */
	bool fail_deny;
};

/* "a" or "a, b and 2 more" would hide what matters: all of them. */
static void print_rules(struct run *run, const char *title, const uint32_t *ranks, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		printf("  %s %s (%s): %s\n", title, run->policy->rules.at[ranks[i]].name,
		       sources_where(run->arena, &run->sources, run->policy->rules.at[ranks[i]].span),
		       policy_rule_text(run->arena, run->policy, ranks[i]));
}

/* Where the rules decided. */
static bool has_near(const struct decision *decision)
{
	return !decision->depends && !decision->refused && !decision->unknown && !decision->plaintext;
}

static void print_answer(struct run *run, const struct request *request, const struct decision *decision)
{
	json_t *answer = answer_json(run, request, decision);
	const json_t *shares = json_object_get(answer, "shares");
	const char *name;
	json_t *share;
	puts(answer_text(run, decision));
	for (uint32_t i = 0; i < decision->matching_count; i++)
		if (decision->depends || decision->by_default || decision->matching[i] != decision->rule)
			print_rules(run, decision->depends ? "open:" : "matches, too:", &decision->matching[i], 1);
	print_rules(run, "audited by", decision->audits, decision->audit_count);
	json_object_foreach ((json_t *)shares, name, share)
		printf("  %5.1f %% to %s\n", json_real_value(share) * 100, name);
	if (has_near(decision))
		answer_print_misses(stdout, "  ", run, request, decision);
	json_decref(answer);
}

/* What was asked, and of whom: LINE is the request as it was read, FLOW the record that it is of, or NULL. */
struct asked {
	const json_t *line, *flow;
	const char *digest; /* with FLOW: this policy's */
};

static json_t *whole_answer(struct run *run, const struct asked *asked, const struct request *request,
			    const struct decision *decision)
{
	json_t *answer = answer_json(run, request, decision);
	if (has_near(decision))
		json_object_set_new(answer, "near", near_json(run, request, decision));
	if (!asked->flow)
		return answer;
	json_t *matching = json_array();
	for (uint32_t i = 0; i < decision->matching_count; i++)
		json_array_append_new(matching, json_string(run->policy->rules.at[decision->matching[i]].name));
	json_object_set_new(answer, "matching", matching);
	json_object_set(answer, "request", (json_t *)asked->line);
	json_object_set_new(answer, "flow", flow_compare(run, asked->digest, asked->flow, decision));
	return answer;
}

static void show_answer(const struct options *options, struct run *run, const struct asked *asked,
			const struct request *request, const struct decision *decision)
{
	if (strcmp(options->format, "json") == 0) {
		json_t *answer = whole_answer(run, asked, request, decision);
		json_dumpf(answer, stdout, JSON_COMPACT | VERB_REALS);
		putchar('\n');
		json_decref(answer);
		return;
	}
	if (asked->flow) {
		fputs("request: ", stdout);
		json_dumpf(asked->line, stdout, JSON_COMPACT);
		putchar('\n');
	}
	print_answer(run, request, decision);
	if (asked->flow)
		flow_print(run, asked->digest, asked->flow, decision, "  ");
}

/* 0, or -EINVAL with a sentence in WHY, and nothing is shown. */
static int answer_asked(const struct options *options, struct run *run, const struct asked *asked, bool *ret_deny,
			char why[REQUEST_WHY_BYTES])
{
	struct request request;
	struct decision decision;
	int r = request_read(run->arena, run->policy, asked->line, &request, why);
	if (r)
		return r;
	model_decide(run->arena, run->policy, run->diagram, &request, &decision);
	*ret_deny |= !decision.allow && !decision.depends;
	show_answer(options, run, asked, &request, &decision);
	return 0;
}

static int answer_one(const struct options *options, struct run *run, const json_t *line, bool *ret_deny,
		      char why[REQUEST_WHY_BYTES])
{
	return answer_asked(options, run, &(struct asked){.line = line}, ret_deny, why);
}

/* A JSON line each, in order, whatever the line was: a script must not lose its place. */
static void show_error(const struct options *options, const char *why)
{
	if (strcmp(options->format, "json") != 0)
		return;
	json_t *answer = json_pack("{s:s}", "error", why);
	json_dumpf(answer, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(answer);
}

static int answer_line(const struct options *options, struct run *run, const char *text, size_t len, bool *ret_deny,
		       char why[REQUEST_WHY_BYTES])
{
	json_error_t error;
	if (strspn(text, " \t\r\n") == len) {
		snprintf(why, REQUEST_WHY_BYTES, "an empty line is no request");
		return -EINVAL;
	}
	json_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!line) {
		snprintf(why, REQUEST_WHY_BYTES, "no JSON, column %d: %s", error.column, error.text);
		return -EINVAL;
	}
	int r = answer_one(options, run, line, ret_deny, why);
	json_decref(line);
	return r;
}

static int answer_lines(const struct options *options, struct run *run, const char *path, bool *ret_deny)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	if (!file)
		return verb_cannot("%s: %s", path, strerror(errno));
	char *text = NULL, why[REQUEST_WHY_BYTES];
	size_t cap = 0, number = 0;
	int code = EXIT_YES;
	for (ssize_t len; (len = getline(&text, &cap, file)) >= 0;) {
		number++;
		if (!answer_line(options, run, text, len, ret_deny, why))
			continue;
		code = verb_cannot("%s:%zu: %s", path, number, why);
		show_error(options, why);
	}
	if (ferror(file))
		code = verb_cannot("%s: %s", path, strerror(errno));
	free(text);
	if (file != stdin)
		fclose(file);
	return code ? code : number ? EXIT_YES : verb_cannot("%s: no requests", path);
}

static int answer_flow(const struct options *options, struct run *run, const char *digest, const json_t *flow,
		       bool *ret_deny, char why[REQUEST_WHY_BYTES])
{
	json_t *line = flow_request(run, flow, why);
	if (!line)
		return -EINVAL;
	int r = answer_asked(options, run, &(struct asked){line, flow, digest}, ret_deny, why);
	json_decref(line);
	return r;
}

/* One record after the other, however they are broken into lines. */
static int answer_flows(const struct options *options, struct run *run, const char *path, bool *ret_deny)
{
	char *text, why[REQUEST_WHY_BYTES];
	json_error_t error;
	size_t len, at = 0, number = 0;
	int code = verb_slurp(path, FLOWS_LIMIT_BYTES, &text, &len);
	if (code)
		return code;
	const char *digest = policy_digest(run);
	for (;;) {
		while (at < len && strchr(" \t\r\n", text[at]) && text[at])
			at++;
		if (at == len)
			break;
		number++;
		json_t *flow = json_loadb(text + at, len - at, JSON_DISABLE_EOF_CHECK, &error);
		if (!flow) {
			code = verb_cannot("%s: record %zu: no JSON, %s", path, number, error.text);
			show_error(options, "no JSON");
			break;
		}
		at += error.position;
		if (answer_flow(options, run, digest, flow, ret_deny, why)) {
			code = verb_cannot("%s: record %zu: %s", path, number, why);
			show_error(options, why);
		}
		json_decref(flow);
	}
	free(text);
	return code ? code : number ? EXIT_YES : verb_cannot("%s: no records", path);
}

/* JSON is UTF-8: anything else would be dropped, and another question answered. */
static int take_text(json_t *object, const char *key, const char *value, const char *flag)
{
	json_t *text = json_string(value);
	if (text && !json_object_set_new(object, key, text))
		return EXIT_YES;
	return verb_cannot("%s: this is no UTF-8 text", flag);
}

/* A header that is said twice is sent twice: a list, in order. */
static int take_header(json_t *request, const char *value)
{
	const char *equals = strchr(value, '=');
	if (!equals)
		return verb_cannot("--header wants NAME=VALUE, not '%s'", value);
	json_t *headers = json_object_get(request, "headers");
	if (!headers) {
		headers = json_object();
		json_object_set_new(request, "headers", headers);
	}
	char *name = strndup(value, equals - value);
	json_t *list = json_incref(json_object_get(headers, name));
	int code = take_text(headers, name, equals + 1, "--header");
	if (!code && list) {
		if (!json_is_array(list))
			list = json_pack("[o]", list);
		json_array_append(list, json_object_get(headers, name));
		json_object_set(headers, name, list);
	}
	json_decref(list);
	free(name);
	return code;
}

static int take_port(json_t *request, const char *value)
{
	int64_t port;
	if (!verb_number(value, 1, 65535, &port))
		return verb_cannot("--port wants 1..65535, not '%s'", value);
	json_object_set_new(request, "port", json_integer(port));
	return EXIT_YES;
}

static int take_source(json_t *request, const char *from, const char *address, const char *verified)
{
	bool yes = verified && strcmp(verified, "true") == 0;
	if (verified && !yes && strcmp(verified, "false") != 0)
		return verb_cannot("--verified wants true or false, not '%s'", verified);
	if (!verified && !(from && address))
		return from	 ? take_text(request, "from", from, "--from")
		       : address ? take_text(request, "from", address, "--address")
				 : EXIT_YES;
	json_t *source = json_object();
	int code = from ? take_text(source, "service", from, "--from") : EXIT_YES;
	if (!code && address)
		code = take_text(source, "address", address, "--address");
	if (verified)
		json_object_set_new(source, "verified", json_boolean(yes));
	json_object_set_new(request, "from", source);
	return code;
}

static int take_flags(struct why_options *why, int argc, char **argv, int *ret_paths)
{
	static const char *const texts[] = {"method", "path", "host", "to", "protocol"};
	int paths = 1, code = EXIT_YES;
	const char *from = NULL, *address = NULL, *verified = NULL, *value;
	for (int i = 1; i < argc && !code; i++) {
		bool taken = false;
		for (size_t k = 0; k < sizeof(texts) / sizeof(*texts) && !taken; k++) {
			char flag[16];
			snprintf(flag, sizeof(flag), "--%s", texts[k]);
			if ((value = verb_value(argv, &i, flag))) {
				code = take_text(why->request, texts[k], value, flag);
				taken = true;
			}
		}
		if (taken)
			continue;
		if ((value = verb_value(argv, &i, "--from")))
			from = value;
		else if ((value = verb_value(argv, &i, "--address")))
			address = value;
		else if ((value = verb_value(argv, &i, "--verified")))
			verified = value;
		else if ((value = verb_value(argv, &i, "--requests")))
			why->requests = value;
		else if ((value = verb_value(argv, &i, "--flow")))
			why->flow = value;
		else if ((value = verb_value(argv, &i, "--port")))
			code = take_port(why->request, value);
		else if ((value = verb_value(argv, &i, "--header")))
			code = take_header(why->request, value);
		else if (strcmp(argv[i], "--fail-deny") == 0)
			why->fail_deny = true;
		else
			argv[paths++] = argv[i];
	}
	if (!code)
		code = take_source(why->request, from, address, verified);
	*ret_paths = paths - 1;
	if (!code && why->flow && (why->requests || json_object_size(why->request)))
		return verb_cannot("--flow FILE says it all: no other flag of a request with it");
	if (!code && !why->requests && !why->flow &&
	    (!json_object_get(why->request, "from") || !json_object_get(why->request, "to")))
		return verb_cannot("say --from S --to D, --requests FILE or --flow FILE");
	if (!code && why->requests && json_object_size(why->request))
		return verb_cannot("--requests FILE says it all: no other flag of a request with it");
	return code;
}

int verb_why(const struct options *options, int argc, char **argv)
{
	struct why_options why = {.request = json_object()};
	struct run run;
	int paths = 0;
	bool deny = false;
	char reason[REQUEST_WHY_BYTES];
	int code = take_flags(&why, argc, argv, &paths);
	if (!code) {
		code = verb_load(options, &run, paths, argv + 1);
		if (!code && why.requests)
			code = answer_lines(options, &run, why.requests, &deny);
		else if (!code && why.flow)
			code = answer_flows(options, &run, why.flow, &deny);
		else if (!code && answer_one(options, &run, why.request, &deny, reason))
			code = verb_cannot("%s", reason);
		verb_done(&run);
	}
	json_decref(why.request);
	return code ? code : deny && why.fail_deny ? EXIT_NO : EXIT_YES;
}
