#define _GNU_SOURCE 1 /* asprintf */
#include "verb/verb.h"

#include "pass/match.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
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
	case -ENOTNAM:
		return "its name is no UTF-8 text; what is found in a file is told by its name";
	case -EMLINK:
		return "folders nested too deep, more than 16 within the one that was named; name the folder that "
		       "holds the policy (does a link lead back?)";
	case -EINVAL:
		return "this is no regular file; a policy is a file, a folder or - for standard input";
	case -ENOLINK:
		return "a link to nowhere";
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

static int read_all(struct run *run, int pathc, char **paths)
{
	if (!pathc)
		return verb_cannot("which policy? Name files, folders or - for standard input");
	for (int i = 0, piped = 0; i < pathc; i++) {
		if (strcmp(paths[i], "-") == 0 && piped++)
			return verb_cannot("standard input can be read once, and - stands there twice");
		int r = sources_read(&run->sources, paths[i]);
		if (r == -ENOENT && access(paths[i], F_OK) == 0)
			return verb_cannot("%s: no .mesh file in this folder", paths[i]);
		if (r)
			return verb_cannot("%s: %s", run->sources.unread, why_unread(r));
	}
	return EXIT_YES;
}

int verb_begin(const struct options *options, struct run *run)
{
	*run = (struct run){.arena = arena_create()};
	if (!run->arena)
		return verb_cannot("out of memory");
	run->sources.arena = run->diags.arena = run->arena;
	run->diags.sources = &run->sources;
	run->diags.skip_notes = true; /* `check` shows them */
	run->now = options->now ? options->now : today(run->arena);
	return EXIT_YES;
}

int verb_read(const struct options *options, struct run *run, int pathc, char **paths)
{
	int code = verb_begin(options, run);
	if (!code)
		code = read_all(run, pathc, paths);
	if (code)
		verb_done(run);
	return code;
}

void verb_done(struct run *run)
{
	if (run->policy)
		policy_release(run->policy);
	if (run->arena)
		arena_destroy(run->arena);
	*run = (struct run){0};
}

int verb_outcome(const struct options *options, const struct run *run)
{
	return run->diags.errors || (options->fail_warning && run->diags.warnings) ? EXIT_NO : EXIT_YES;
}

int verb_match(const struct options *options, struct run *run)
{
	struct inventory *inventory;
	struct why why = {0};
	if (!options->inventory || run->diags.errors)
		return EXIT_YES;
	if (inventory_read(options->inventory, &inventory, &why))
		return verb_cannot("%s", why.text);
	match_inventory(run, inventory);
	inventory_release(inventory);
	return EXIT_YES;
}

int verb_load(const struct options *options, struct run *run, int pathc, char **paths)
{
	int code = verb_read(options, run, pathc, paths);
	if (code)
		return code;
	pipeline_run(run);
	code = verb_match(options, run);
	diags_print(&run->diags, stderr, options->color);
	return code ? code : verb_outcome(options, run);
}

const char *verb_value(char **argv, int *i, const char *name)
{
	size_t len = strlen(name);
	if (strncmp(argv[*i], name, len) != 0)
		return NULL;
	if (argv[*i][len] == '=')
		return argv[*i] + len + 1;
	return argv[*i][len] ? NULL : argv[++*i];
}

bool verb_number(const char *value, int64_t least, int64_t most, int64_t *ret_number)
{
	size_t digits = strspn(value, "0123456789");
	errno = 0;
	*ret_number = digits && !value[digits] ? strtoll(value, NULL, 10) : least - 1;
	return !errno && *ret_number >= least && *ret_number <= most;
}

int verb_slurp(const char *path, size_t limit, char **ret_bytes, size_t *ret_len)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
	if (!file)
		return verb_cannot("%s: %s", path, strerror(errno));
	size_t len = 0, cap = 1 << 16, got = 1;
	char *bytes = malloc(cap);
	while (bytes && got && len <= limit) {
		if (len + 1 >= cap) {
			char *more = realloc(bytes, cap *= 2);
			if (!more)
				break;
			bytes = more;
		}
		got = fread(bytes + len, 1, cap - len - 1, file);
		len += got;
	}
	bool bad = !bytes || ferror(file);
	int error = errno;
	if (file != stdin)
		fclose(file);
	if (bad || len > limit) {
		free(bytes);
		return verb_cannot("%s: %s", path, bad ? strerror(error) : "larger than anything that belongs here");
	}
	bytes[len] = 0;
	*ret_bytes = bytes;
	*ret_len = len;
	return EXIT_YES;
}

bool verb_takes(const char *verbs, const char *verb)
{
	size_t len = strlen(verb);
	for (const char *at = verbs; (at = strstr(at, verb)); at += len)
		if ((at == verbs || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
			return true;
	return !*verbs;
}

/* 0 or an errno: a folder that takes no file beside it, a device that takes no byte. */
static int output_fault(const char *path)
{
	char folder[4096];
	struct stat at;
	bool there = stat(path, &at) == 0;
	const char *slash = strrchr(path, '/');
	if (there && S_ISDIR(at.st_mode))
		return EISDIR;
	if (there && !S_ISREG(at.st_mode))
		return access(path, W_OK) ? errno : 0;
	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
	return !*path ? ENOENT : access(folder, W_OK | X_OK) ? errno : 0;
}

int verb_check_output(const char *path)
{
	int fault = output_fault(path);
	return fault ? verb_cannot("-o %s: %s", path, strerror(fault)) : EXIT_YES;
}

int verb_write(const char *path, const void *bytes, size_t len, unsigned mode)
{
	if (!path || strcmp(path, "-") == 0)
		return fwrite(bytes, 1, len, stdout) == len ? EXIT_YES
							    : verb_cannot("standard output: %s", strerror(errno));
	struct stat at;
	/* A device or a pipe is written to, not replaced. */
	bool in_place = stat(path, &at) == 0 && !S_ISREG(at.st_mode);
	char beside[4096];
	int wrote_name = in_place ? snprintf(beside, sizeof(beside), "%s", path)
				  : snprintf(beside, sizeof(beside), "%s.%d.new", path, (int)getpid());
	if (wrote_name >= (int)sizeof(beside))
		return verb_cannot("%s: the name is too long", path);
	int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0)
		return verb_cannot("%s: %s", beside, strerror(errno));
	size_t done = 0;
	while (done < len) {
		ssize_t wrote = write(fd, (const char *)bytes + done, len - done);
		if (wrote <= 0)
			break;
		done += wrote;
	}
	int error = errno;
	bool whole = done == len && close(fd) == 0 && (in_place || rename(beside, path) == 0);
	if (!whole && !in_place)
		unlink(beside);
	return whole ? EXIT_YES : verb_cannot("%s: %s", path, strerror(done == len ? errno : error));
}

/* A whole file or the old one: written beside it, then renamed. */
int verb_rewrite(const char *name, const char *text)
{
	char *real = realpath(name, NULL);
	char *beside = NULL;
	if (real && asprintf(&beside, "%s.%d.new", real, (int)getpid()) < 0)
		beside = NULL;
	struct stat st;
	FILE *out = beside && stat(real, &st) == 0 ? fopen(beside, "wxe") : NULL;
	int r = out ? 0 : -errno;
	if (out) {
		if (fputs(text, out) < 0 || fchmod(fileno(out), st.st_mode & 07777))
			r = -errno;
		if (fclose(out) && !r)
			r = -errno;
		if (!r && rename(beside, real))
			r = -errno;
		if (r)
			unlink(beside);
	}
	free(beside);
	free(real);
	return r ? verb_cannot("%s: %s", name, strerror(-r)) : 0;
}
