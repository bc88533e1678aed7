#define _GNU_SOURCE /* vasprintf */
#include "pass/engine.h"

#include "pass/build.h"
#include "pass/bundle.h"
#include "pass/place.h"
#include "pass/render.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 4096 };

struct engine {
	struct bpf_object *object;
	int program, vectors, answers;
};

/* What libbpf says while it loads: the end of it holds the verifier's reason. */
static char log_text[16 << 10];

static int keep_log(enum libbpf_print_level level, const char *format, va_list args)
{
	char *line = NULL;
	int len = level == LIBBPF_WARN ? vasprintf(&line, format, args) : -1;
	if (len < 0)
		return 0;
	const char *end = line;
	if (len >= (int)sizeof(log_text) / 2) {
		end = line + len - sizeof(log_text) / 2;
		len = sizeof(log_text) / 2;
	}
	size_t kept = strlen(log_text);
	if (kept + len >= sizeof(log_text))
		kept = 0;
	memcpy(log_text + kept, end, len + 1);
	free(line);
	return 0;
}

/* The finished object with its tables: what a node would load. */
static int make_object(struct run *run, char **ret_object, size_t *ret_len, char **ret_log)
{
	struct plan *plan = NULL;
	int r = place(run, &plan);
	if (r)
		return r;
	plan->has_set_retval = true;
	const char *policy_h = render(run, plan);
	struct build_file files[64] = {{"policy.bpf.c", NULL}};
	size_t count = 1, len = 0;
	for (const struct template_file *file = template_files; file->name && count < 64; file++) {
		const char *text = strcmp(file->name, "policy.h") == 0 ? policy_h : file->text;
		if (strcmp(file->name, files[0].name) == 0)
			files[0].text = text;
		else
			files[count++] = (struct build_file){file->name, text};
	}
	char *object = NULL;
	void *bundle = NULL;
	if (build_object(files, count, &object, &len, ret_log))
		return -ENOEXEC;
	struct bundle_options options = {.target = "6.1", .version = 1};
	r = bundle_make(run, plan, &options, object, len, &bundle, ret_len);
	free(object);
	*ret_object = bundle;
	return r ? -ENOEXEC : 0;
}

static int load(struct engine *engine, const void *bytes, size_t len)
{
	struct bpf_program *program;
	engine->object = bpf_object__open_mem(bytes, len, NULL);
	if (!engine->object)
		return -ENOEXEC;
	bpf_object__for_each_program (program, engine->object)
		bpf_program__set_autoload(program, strcmp(bpf_program__name(program), "prove") == 0);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(engine->object, "vectors"), BATCH);
	bpf_map__set_max_entries(bpf_object__find_map_by_name(engine->object, "answers"), BATCH);
	if (bpf_object__load(engine->object))
		return errno == EPERM ? -EPERM : -ENOEXEC;
	engine->program = bpf_program__fd(bpf_object__find_program_by_name(engine->object, "prove"));
	engine->vectors = bpf_object__find_map_fd_by_name(engine->object, "vectors");
	engine->answers = bpf_object__find_map_fd_by_name(engine->object, "answers");
	return 0;
}

int engine_create(struct run *run, struct engine **ret_engine, char **ret_log)
{
	char *bytes = NULL;
	size_t len = 0;
	*ret_log = NULL;
	if (geteuid() != 0)
		return -EPERM;
	int r = make_object(run, &bytes, &len, ret_log);
	if (r)
		return r;
	struct engine *engine = calloc(1, sizeof(*engine));
	log_text[0] = 0;
	libbpf_print_fn_t before = libbpf_set_print(keep_log);
	r = engine ? load(engine, bytes, len) : -ENOMEM;
	libbpf_set_print(before);
	free(bytes);
	if (r) {
		*ret_log = strdup(log_text);
		engine_destroy(engine);
		return r;
	}
	*ret_engine = engine;
	return 0;
}

void engine_destroy(struct engine *engine)
{
	if (engine)
		bpf_object__close(engine->object);
	free(engine);
}

int engine_program(const struct engine *engine)
{
	return engine->program;
}

static int decide_batch(struct engine *engine, const struct mesh_vector *requests, struct mesh_answer *answers,
			uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (bpf_map_update_elem(engine->vectors, &i, &requests[i], BPF_ANY))
			return -errno;
	struct mesh_prove context = {.first = 0, .count = count};
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &context, .ctx_size_in = sizeof(context));
	if (bpf_prog_test_run_opts(engine->program, &options))
		return -errno;
	/* Before 6.x a syscall program's context is copied back; what counts is `answers`. */
	for (uint32_t i = 0; i < count; i++)
		if (bpf_map_lookup_elem(engine->answers, &i, &answers[i]))
			return -errno;
	return 0;
}

int engine_decide(struct engine *engine, const struct mesh_vector *requests, struct mesh_answer *answers,
		  uint32_t count)
{
	for (uint32_t done = 0; done < count; done += BATCH) {
		uint32_t left = count - done < BATCH ? count - done : BATCH;
		int r = decide_batch(engine, requests + done, answers + done, left);
		if (r)
			return r;
	}
	return 0;
}

struct mesh_vector engine_request(const struct run *run, const struct request *request)
{
	return (struct mesh_vector){
		.src = request->src,
		.block = request->block,
		.dst = request->dst,
		.port = request->port,
		.protocol = request->udp ? IPPROTO_UDP : IPPROTO_TCP,
		.via = model_via(run->policy, request),
	};
}

struct decision engine_decision(const struct run *run, const struct request *request, const struct mesh_answer *answer)
{
	const struct policy *policy = run->policy;
	struct decision decision = {.allow = answer->verdict, .rule = answer->rule, .arm = UINT32_MAX};
	decision.unknown = answer->rule == policy->rules.len + MESH_UNKNOWN;
	decision.plaintext = answer->rule == policy->rules.len + MESH_PLAINTEXT;
	decision.by_default = answer->rule >= policy->rules.len && !decision.unknown && !decision.plaintext;
	decision.default_audit = decision.by_default && policy->defaults.at[request->dst] == VERDICT_AUDIT;
	decision.audits = diagram_audit_set(run->diagram, answer->audit, &decision.audit_count);
	if (policy->classes.at[request->dst].kind == CLASS_SERVICE && answer->arm < policy->arms.len)
		decision.arm = answer->arm;
	return decision;
}
