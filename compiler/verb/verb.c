#include "verb/verb.h"

#include <errno.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

int verb_cannot(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("meshc: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return EXIT_CANNOT;
}

int verb_unknown(const char *what, const char *word, const char *const *names, size_t count)
{
	const char *near = diag_nearest(word, names, count);
	return near ? verb_cannot("unknown %s '%s'; did you mean '%s'?", what, word, near)
		    : verb_cannot("unknown %s '%s'", what, word);
}

static const char *why_unread(int r)
{
	switch (r) {
	case -E2BIG:
		return "the policy is larger than 16 MiB or 4096 files";
	case -EILSEQ:
		return "this is no UTF-8 text";
	case -ELOOP:
		return "folders nested too deep";
	default:
		return strerror(-r);
	}
}

static const char *today(struct arena *arena)
{
	time_t now = time(NULL);
	struct tm tm;
	gmtime_r(&now, &tm);
	return arena_printf(arena, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
}

int verb_read(const struct options *options, struct run *run, int pathc, char **paths)
{
	*run = (struct run){.arena = arena_create()};
	if (!run->arena)
		return verb_cannot("out of memory");
	run->sources.arena = run->diags.arena = run->arena;
	run->diags.sources = &run->sources;
	run->now = options->now ? options->now : today(run->arena);
	if (!pathc)
		return verb_cannot("which policy? Name files, folders or - for standard input");
	for (int i = 0; i < pathc; i++) {
		int r = sources_read(&run->sources, paths[i]);
		if (r == -ENOENT && access(paths[i], F_OK) == 0)
			return verb_cannot("%s: no .mesh file in this folder", paths[i]);
		if (r)
			return verb_cannot("%s: %s", paths[i], why_unread(r));
	}
	return EXIT_YES;
}

void verb_done(struct run *run)
{
	policy_release(run->policy);
	arena_destroy(run->arena);
}

int verb_outcome(const struct options *options, const struct run *run)
{
	return run->diags.errors || (options->fail_warning && run->diags.warnings) ? EXIT_NO : EXIT_YES;
}

int verb_load(const struct options *options, struct run *run, int pathc, char **paths)
{
	int code = verb_read(options, run, pathc, paths);
	if (code)
		return code;
	pipeline_run(run);
	diags_print(&run->diags, stderr, options->color);
	return verb_outcome(options, run);
}
