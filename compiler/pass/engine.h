/* The compiled program, asked: BPF_PROG_TEST_RUN of the object's `prove` program. Needs root. */
#ifndef MESH_PASS_ENGINE_H
#define MESH_PASS_ENGINE_H

#include "ir/plan.h"
#include "pass/passes.h"

struct engine;

/* place, render, build, load. 0; -ENOTSUP, -E2BIG with diagnostics queued; -EPERM: not root;
 * -ENOEXEC: clang or the verifier refused (a bug of ours), why in *ret_log (malloc'd). */
int engine_create(struct run *run, struct engine **ret_engine, char **ret_log);
void engine_destroy(struct engine *engine);

/* Decides COUNT requests; for each the rule, verdict, audit set and arm as abi.h says. */
int engine_decide(struct engine *engine, const struct mesh_vector *requests, struct mesh_answer *answers,
		  uint32_t count);
struct mesh_vector engine_request(const struct run *run, const struct request *request);
/* An answer in the model's terms; which other rules match is not in it. */
struct decision engine_decision(const struct run *run, const struct request *request, const struct mesh_answer *answer);
/* The loaded `prove` program; for measuring. */
int engine_program(const struct engine *engine);

#endif
