/* All passes: one ELF object for the nodes of a mesh. */
#include "verb/verb.h"

#include "base/bundle.h"
#include "pass/dump.h"
#include "pass/build.h"
#include "pass/bundle.h"
#include "pass/place.h"
#include "pass/render.h"
#include "verb/inspect.h"

#include <errno.h>
#include <stdlib.h>

#define TARGET_DEFAULT "6.1"

static const char *const stages[] = {"ast", "policy", "diagram", "dot", "c", "object"};
enum stage { STAGE_AST, STAGE_POLICY, STAGE_DIAGRAM, STAGE_DOT, STAGE_C, STAGE_OBJECT, STAGES };

struct compile {
	const struct options *options;
	const char *key;
	enum stage stage;
	struct bundle_options bundle;
	int target_major, target_minor;
	int64_t budget; /* percent; 0: none was given */
};

static int take_budget(struct compile *compile, const char *value)
{
	char share[8] = "";
	size_t len = strlen(value);
	memcpy(share, value, len < sizeof(share) ? len - (len && value[len - 1] == '%') : 0);
	if (!verb_number(share, 1, 100, &compile->budget))
		return verb_cannot("--budget wants a share from 1%% to 100%%, not '%s'", value);
	return EXIT_YES;
}

static int take_flags(struct compile *compile, int argc, char **argv, int *ret_paths)
{
	int paths = 1;
	for (int i = 1; i < argc; i++) {
		const char *value;
		if ((value = verb_value(argv, &i, "-k"))) {
			compile->key = value;
		} else if ((value = verb_value(argv, &i, "--emit"))) {
			for (compile->stage = 0; compile->stage < STAGES && strcmp(stages[compile->stage], value) != 0;)
				compile->stage++;
			if (compile->stage == STAGES)
				return verb_unknown("stage", value, stages, STAGES);
		} else if ((value = verb_value(argv, &i, "--target"))) {
			char rest;
			if (sscanf(value, "%d.%d%c", &compile->target_major, &compile->target_minor, &rest) != 2)
				return verb_cannot("--target wants a kernel version like 6.1, not '%s'", value);
			compile->bundle.target = value;
		} else if ((value = verb_value(argv, &i, "--policy-version"))) {
			if (!verb_number(value, 1, INT64_MAX, &compile->bundle.version))
				return verb_cannot("--policy-version wants a whole number from 1, not '%s'", value);
		} else if ((value = verb_value(argv, &i, "--budget"))) {
			int code = take_budget(compile, value);
			if (code)
				return code;
		} else {
			argv[paths++] = argv[i];
		}
	}
	*ret_paths = paths - 1;
	if (compile->budget && compile->stage != STAGE_OBJECT)
		return verb_cannot("--budget is of the object: with --emit=%s nothing would be checked",
				   stages[compile->stage]);
	return EXIT_YES;
}

/* bpf_loop came with 5.17; what needs it is refused for older kernels, not left out. */
static int check_target(const struct compile *compile)
{
	if (compile->target_major > 5 || (compile->target_major == 5 && compile->target_minor >= 17))
		return EXIT_YES;
	return verb_cannot("a node of this version needs Linux 5.17 (bpf_loop); --target %s is older",
			   compile->bundle.target);
}

static int emit_early(enum stage stage, struct run *run)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return verb_cannot("out of memory");
	if (stage == STAGE_AST)
		dump_ast(out, run);
	else if (stage == STAGE_POLICY)
		dump_policy(out, run);
	else if (stage == STAGE_DIAGRAM)
		dump_diagram(out, run);
	else
		dump_dot(out, run);
	fclose(out);
	int code = verb_write(NULL, text, len, 0);
	free(text);
	return code;
}

static int bug(const char *what, const char *log)
{
	fprintf(stderr,
		"meshc: a bug of ours: %s\n%s\n"
		"Please report it with the policy and the output of `meshc compile --emit=c`.\n",
		what, log ? log : "");
	return EXIT_BUG;
}

static int finish(const struct compile *compile, struct run *run, const struct plan *plan, char *object, size_t len)
{
	void *bundle = NULL;
	size_t bundle_len = 0;
	const char *why = "";
	if (bundle_make(run, plan, &compile->bundle, object, len, &bundle, &bundle_len))
		return bug("the object that clang made is not the one that was asked for", NULL);
	int code = EXIT_YES;
	if (compile->budget)
		code = inspect_gate(run->arena, bundle, bundle_len, plan_bytes(plan), compile->budget);
	if (!code && compile->key && bundle_sign(bundle, bundle_len, compile->key, &why))
		code = verb_cannot("%s: %s", compile->key, why);
	if (!code)
		code = verb_write(compile->options->output ? NULL : "policy.bpf.o", bundle, bundle_len, 0666);
	if (!code && !compile->key && !compile->options->output)
		fputs("policy.bpf.o is not signed: `meshc sign -k KEY policy.bpf.o`, or compile with -k KEY\n", stderr);
	free(bundle);
	return code;
}

static int back_end(const struct compile *compile, struct run *run)
{
	struct plan *plan = NULL;
	int r = place(run, &plan);
	diags_print(&run->diags, stderr, compile->options->color);
	if (r)
		return EXIT_NO;
	int code = verb_outcome(compile->options, run);
	if (code)
		return code;
	plan->has_set_retval = compile->target_major > 5 || compile->target_minor >= 18;
	const char *policy_h = render(run, plan);
	if (!policy_h)
		return bug("the template has no region", NULL);
	if (compile->stage == STAGE_C) {
		const char *whole = render_whole(run, policy_h);
		return verb_write(NULL, whole, strlen(whole), 0);
	}
	struct build_file files[64] = {{"policy.bpf.c", NULL}};
	size_t count = 1, len = 0;
	for (const struct template_file *file = template_files; file->name && count < 64; file++) {
		const char *text = strcmp(file->name, "policy.h") == 0 ? policy_h : file->text;
		if (strcmp(file->name, files[0].name) == 0)
			files[0].text = text;
		else
			files[count++] = (struct build_file){file->name, text};
	}
	char *object = NULL, *log = NULL;
	code = build_object(files, count, &object, &len, &log) ? bug("clang refused what was generated", log)
							       : finish(compile, run, plan, object, len);
	free(object);
	free(log);
	return code;
}

static int compile_run(const struct compile *compile, struct run *run)
{
	pipeline_run(run);
	int code = verb_match(compile->options, run);
	if (code)
		return code;
	if (!run->diags.errors && compile->stage >= STAGE_C)
		return back_end(compile, run);
	diags_print(&run->diags, stderr, compile->options->color);
	code = verb_outcome(compile->options, run);
	return code ? code : emit_early(compile->stage, run);
}

int verb_compile(const struct options *options, int argc, char **argv)
{
	struct compile compile = {.options = options,
				  .stage = STAGE_OBJECT,
				  .target_major = 6,
				  .target_minor = 1,
				  .bundle = {.target = TARGET_DEFAULT, .version = 1}};
	struct run run;
	int paths = 0;
	int code = take_flags(&compile, argc, argv, &paths);
	if (!code)
		code = check_target(&compile);
	if (!code)
		code = verb_read(options, &run, paths, argv + 1);
	if (code)
		return code;
	code = compile_run(&compile, &run);
	verb_done(&run);
	return code;
}
