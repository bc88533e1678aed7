/* The ordered table of passes. */
#include "pass/passes.h"
#include "pass/removal.h"

#include <errno.h>

static void pass_decide(struct run *run)
{
	decide(run->arena, run->policy, &run->diags, &run->diagram);
}

static void pass_analyze(struct run *run)
{
	size_t before = run->diags.all.len;
	analyze(run->arena, run->policy, run->diagram, &run->diags);
	removal_finish(run, before);
}

static const struct pass {
	const char *name;
	void (*run)(struct run *run);
} passes[] = {
	{"parse", parse}, {"resolve", resolve},	   {"check", check},
	{"lower", lower}, {"decide", pass_decide}, {"analyze", pass_analyze},
};

static int run_passes(struct run *run, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		passes[i].run(run);
		if (run->diags.errors)
			return -EINVAL;
	}
	return 0;
}

int pipeline_parse(struct run *run)
{
	return run_passes(run, 1);
}

int pipeline_run(struct run *run)
{
	return run_passes(run, sizeof(passes) / sizeof(*passes));
}
