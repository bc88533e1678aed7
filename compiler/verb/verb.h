/* What all verbs share. A verb gets what main.c left of the command line: argv[0] is its name, the
 * flags are those of verbs.def (unknown ones were refused), `--flag=value` is as it was written. */
#ifndef MESH_VERB_VERB_H
#define MESH_VERB_VERB_H

#include "pass/passes.h"

#define MESHC_VERSION "0.1.0"

/* How JSON shows a share: 0.9, not the 17 digits that tell doubles apart. */
#define VERB_REALS JSON_REAL_PRECISION(9)

enum exit_code { EXIT_YES, EXIT_NO, EXIT_CANNOT, EXIT_BUG };

#define VERB(name, flags, formats, arguments, summary, help)                                                           \
	int verb_##name(const struct options *options, int argc, char **argv);
#include "verbs.def"
#undef VERB

/* A fresh RUN, which has read nothing yet. */
int verb_begin(const struct options *options, struct run *run);

/* Reads the policy files into a fresh RUN: 0, or 2 with a message. */
int verb_read(const struct options *options, struct run *run, int pathc, char **paths);

/* verb_read, then all passes; the diagnostics go to stderr. 0, 1 (errors, or warnings where they
 * shall fail) or 2. */
int verb_load(const struct options *options, struct run *run, int pathc, char **paths);

/* Holds selectors against --inventory, where it is given and RUN has no errors. 0, or 2 with a message. */
int verb_match(const struct options *options, struct run *run);

/* Gives everything back that a run holds. */
void verb_done(struct run *run);

/* 0 or 1: what the diagnostics come to. */
int verb_outcome(const struct options *options, const struct run *run);

/* "meshc: MESSAGE" to stderr; returns 2. */
int verb_cannot(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For a value that is none of COUNT names: did-you-mean, returns 2. */
int verb_unknown(const char *what, const char *word, const char *const *names, size_t count);

/* Where argv[*i] is the flag NAME: its value (then *i stands at the last word taken), else NULL.
 * "--flag=value" and "--flag value" alike. */
const char *verb_value(char **argv, int *i, const char *name);
/* VALUE is a whole number from LEAST to MOST, in decimal digits and nothing else. */
bool verb_number(const char *value, int64_t least, int64_t most, int64_t *ret_number);

/* Reads a whole file of at most LIMIT bytes, "-" for standard input; malloc'd. 0, or 2 with a message. */
int verb_slurp(const char *path, size_t limit, char **ret_bytes, size_t *ret_len);
/* Whether VERB is in the list VERBS of flags.def. */
bool verb_takes(const char *verbs, const char *verb);
/* What of verb_write can be told before the work: 0, or 2 with a message. */
int verb_check_output(const char *path);
/* Writes PATH through a file beside it and a rename; "-" or NULL: standard output, which is the file of -o. 0 or 2. */
int verb_write(const char *path, const void *bytes, size_t len, unsigned mode);
/* Replaces the file NAME, or what it is a link to, by TEXT, whole or not at all. 0 or 2. */
int verb_rewrite(const char *name, const char *text);

#endif
