/* Asks the kernel.
 * ask POLICY REQUESTS: request lines as `meshc why --requests` reads them. Compiles the policy, loads it,
 * has the program decide all of them, and prints the answers as `why` prints its own.
 * ask --load BUNDLE...: loads every program of a bundle, so that the verifier sees all of them. */
#include "verb/answer.h"

#include "ir/request.h"
#include "pass/engine.h"

#include <bpf/libbpf.h>
#include <stdlib.h>

struct asked {
	VEC(struct request) requests;
	VEC(struct mesh_vector) vectors;
};

static int read_requests(struct run *run, const char *path, struct asked *asked)
{
	json_error_t error;
	char why[REQUEST_WHY_BYTES];
	FILE *file = fopen(path, "r");
	if (!file)
		return verb_cannot("%s: cannot be read", path);
	for (json_t *line; (line = json_loadf(file, JSON_DISABLE_EOF_CHECK, &error));) {
		struct request request;
		if (request_read(run->arena, run->policy, line, &request, why))
			return verb_cannot("%s", why);
		vec_push(run->arena, &asked->requests, request);
		vec_push(run->arena, &asked->vectors, engine_request(run, &request));
		json_decref(line);
	}
	fclose(file);
	return asked->requests.len ? EXIT_YES : verb_cannot("%s: no requests", path);
}

static int print_answers(struct run *run, struct engine *engine, const struct asked *asked)
{
	struct mesh_answer *answers = calloc(asked->vectors.len, sizeof(*answers));
	if (!answers || engine_decide(engine, asked->vectors.at, answers, asked->vectors.len))
		return verb_cannot("the kernel did not answer");
	for (size_t i = 0; i < asked->requests.len; i++) {
		struct decision decision = engine_decision(run, &asked->requests.at[i], &answers[i]);
		json_t *answer = answer_json(run, &asked->requests.at[i], &decision);
		json_dumpf(answer, stdout, JSON_COMPACT | VERB_REALS);
		putchar('\n');
		json_decref(answer);
	}
	free(answers);
	return EXIT_YES;
}

static int load_all(int count, char **paths)
{
	int code = EXIT_YES;
	for (int i = 0; i < count; i++) {
		struct bpf_object *object = bpf_object__open_file(paths[i], NULL);
		if (!object || bpf_object__load(object))
			code = verb_cannot("%s: the verifier refuses it", paths[i]);
		bpf_object__close(object);
	}
	return code;
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[1], "--load") == 0)
		return load_all(argc - 2, argv + 2);
	struct options options = {.format = "json"};
	struct engine *engine = NULL;
	struct asked asked = {0};
	struct run run;
	char *log = NULL;
	if (argc != 3)
		return verb_cannot("usage: ask POLICY REQUESTS, or ask --load BUNDLE...");
	int code = verb_load(&options, &run, 1, argv + 1);
	if (!code)
		code = read_requests(&run, argv[2], &asked);
	if (!code && engine_create(&run, &engine, &log)) {
		diags_print(&run.diags, stderr, false);
		code = verb_cannot("the policy does not compile or load: %s", log ? log : "");
	}
	if (!code)
		code = print_answers(&run, engine, &asked);
	engine_destroy(engine);
	free(log);
	verb_done(&run);
	return code;
}
