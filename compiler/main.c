/* argv to verb. */
#include "verb/verb.h"

#include "ir/literal.h"

#include <stdlib.h>
#include <unistd.h>

static const struct verb {
	const char *name, *flags, *formats, *arguments, *summary, *help;
	int (*run)(const struct options *options, int argc, char **argv);
} verbs[] = {
#define VERB(name, flags, formats, arguments, summary, help)                                                           \
	{#name, flags, formats, arguments, summary, help, verb_##name},
#include "verbs.def"
#undef VERB
};
enum { VERBS = sizeof(verbs) / sizeof(*verbs) };

static const struct common {
	const char *name, *value, *choices, *verbs, *help; /* value NULL: a switch */
} commons[] = {
#define FLAG(name, value, choices, verbs, help) {name, value, choices, verbs, help},
#define SWITCH(name, help) {name, NULL, "", "", help},
#include "flags.def"
#undef FLAG
#undef SWITCH
};
enum { COMMONS = sizeof(commons) / sizeof(*commons) };

static void print_common_flags(const struct verb *verb)
{
	for (int i = 0; i < COMMONS; i++) {
		const struct common *flag = &commons[i];
		const char *choices = strcmp(flag->name, "--format") == 0 ? verb->formats : flag->choices;
		int width = 21 - (int)strlen(flag->name) - 1;
		if (verb_takes(flag->verbs, verb->name))
			printf("  %s %-*s %s%s%s\n", flag->name, width, flag->value ? flag->value : "", flag->help,
			       choices[0] ? ": " : "", choices);
	}
}

static int help_all(FILE *out)
{
	fputs("meshc compiles a mesh policy: who may talk to whom, and where it goes.\n\nusage: meshc VERB [FLAGS] "
	      "[ARGUMENTS]\n\n",
	      out);
	for (int i = 0; i < VERBS; i++)
		fprintf(out, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\n`meshc VERB --help` says more. Begin with `meshc check POLICY.mesh`.\n"
	      "exit codes: 0 yes, 1 no, 2 could not do it, 3 a bug of ours\n",
	      out);
	return out == stdout ? EXIT_YES : EXIT_CANNOT;
}

static int help_verb(const struct verb *verb)
{
	printf("meshc %s: %s\n\nusage: meshc %s [FLAGS]%s%s\n\n%s%s", verb->name, verb->summary, verb->name,
	       verb->arguments[0] ? " " : "", verb->arguments, verb->help, verb->help[0] ? "\n" : "");
	print_common_flags(verb);
	return EXIT_YES;
}

static const struct common *find_common(const char *word)
{
	for (int i = 0; i < COMMONS; i++)
		if (strlen(commons[i].name) == strcspn(word, "=") &&
		    strncmp(commons[i].name, word, strlen(commons[i].name)) == 0)
			return &commons[i];
	return NULL;
}

/* Looks WORD (up to '=') up in a list of flags: 0 absent, 1 a switch, 2 takes a value. */
static int find_flag(const char *flags, const char *word)
{
	size_t len = strcspn(word, "=");
	for (const char *c = flags; *c; c += strcspn(c, " "), c += *c == ' ') {
		size_t flag_len = strcspn(c, "= ");
		if (flag_len == len && strncmp(c, word, len) == 0)
			return c[flag_len] == '=' ? 2 : 1;
	}
	return 0;
}

enum { WORDS_MOST = 64 };

/* The words of TEXT, which is cut up. */
static size_t split_words(char *text, const char *names[WORDS_MOST])
{
	size_t count = 0;
	for (char *c = strtok(text, " "); c && count < WORDS_MOST; c = strtok(NULL, " ")) {
		c[strcspn(c, "=")] = 0;
		names[count++] = c;
	}
	return count;
}

static int unknown_flag(const struct verb *verb, const char *word)
{
	static char text[1024];
	const char *names[WORDS_MOST];
	snprintf(text, sizeof(text), "%s", verb->flags);
	size_t count = split_words(text, names);
	for (int i = 0; i < COMMONS && count < WORDS_MOST; i++)
		if (verb_takes(commons[i].verbs, verb->name))
			names[count++] = commons[i].name;
	char *cut = strndup(word, strcspn(word, "="));
	const char *shown = cut ? cut : word;
	int code = find_common(word) ? verb_cannot("%s takes no %s", verb->name, shown)
				     : verb_unknown("flag", shown, names, count);
	free(cut);
	fprintf(stderr, "`meshc %s --help` lists the flags\n", verb->name);
	return code;
}

/* VALUE must be one of CHOICES. 0, or 2 with a message. */
static int take_choice(const char *what, const char *choices, const char *value)
{
	char text[64];
	const char *names[WORDS_MOST];
	snprintf(text, sizeof(text), "%s", choices);
	size_t count = split_words(text, names);
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], value) == 0)
			return EXIT_YES;
	return verb_unknown(what, value, names, count);
}

/* A format that VERB does not print is refused, not replaced by text: a script would read that as its own. */
static int take_format(const struct verb *verb, struct options *options, const char *value)
{
	options->format = value;
	int code = take_choice("format", verb->formats, value);
	if (code)
		fprintf(stderr, "`meshc %s` prints: %s\n", verb->name, verb->formats);
	return code;
}

/* One common flag. 0, or 2 with a message. */
static int take_common(const struct verb *verb, struct options *options, const struct common *flag, const char *value)
{
	if (strcmp(flag->name, "-o") == 0) {
		options->output = value;
	} else if (strcmp(flag->name, "--format") == 0) {
		return take_format(verb, options, value);
	} else if (strcmp(flag->name, "--now") == 0) {
		options->now = value;
		return date_read(value) >= 0 ? 0 : verb_cannot("--now wants YYYY-MM-DD, not '%s'", value);
	} else if (strcmp(flag->name, "--inventory") == 0) {
		options->inventory = value;
	} else if (strcmp(flag->name, "--fail-level") == 0) {
		options->fail_warning = strcmp(value, "warning") == 0;
		return take_choice("level", flag->choices, value);
	} else {
		options->color = strcmp(value, "always") == 0 || (strcmp(value, "auto") == 0 && options->color);
		return take_choice("color", flag->choices, value);
	}
	return 0;
}

/* Takes the common flags out of argv; what is left keeps its order. */
static int split_flags(const struct verb *verb, struct options *options, int argc, char **argv, int *ret_argc)
{
	int kept = 1;
	for (int i = 1; i < argc; i++) {
		char *word = argv[i];
		if (strcmp(word, "--") == 0) {
			while (++i < argc)
				argv[kept++] = argv[i];
			break;
		}
		if (word[0] != '-' || !word[1]) {
			argv[kept++] = word;
			continue;
		}
		int own = find_flag(verb->flags, word);
		const struct common *common = own ? NULL : find_common(word);
		if (!own && (!common || !verb_takes(common->verbs, verb->name)))
			return unknown_flag(verb, word);
		bool inside = strchr(word, '='), takes = own == 2 || (common && common->value);
		if (inside && !takes)
			return verb_cannot("%.*s takes no value", (int)strcspn(word, "="), word);
		if (takes && !inside && i + 1 >= argc)
			return verb_cannot("%s wants a value", word);
		char *value = !takes ? NULL : inside ? strchr(word, '=') + 1 : argv[++i];
		if (common && takes) {
			int code = take_common(verb, options, common, value);
			if (code)
				return code;
		} else if (own) {
			argv[kept++] = word;
			if (takes && !inside)
				argv[kept++] = value;
		}
	}
	argv[kept] = NULL;
	*ret_argc = kept;
	return 0;
}

static const struct verb *find_verb(const char *name)
{
	for (int i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	const char *names[VERBS];
	for (int i = 0; i < VERBS; i++)
		names[i] = verbs[i].name;
	verb_unknown(name[0] == '-' ? "flag" : "verb", name, names, VERBS);
	fputs("`meshc --help` lists the verbs\n", stderr);
	return NULL;
}

static bool asks_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

/* With -o FILE all that the verb prints is FILE's, once it is whole; where there is no result, FILE stays as it is. */
static int run_verb(const struct verb *verb, const struct options *options, int argc, char **argv)
{
	char *text = NULL;
	size_t len = 0;
	if (!options->output || strcmp(options->output, "-") == 0)
		return verb->run(options, argc, argv);
	int code = verb_check_output(options->output);
	if (code)
		return code;
	FILE *standard = stdout, *kept = open_memstream(&text, &len);
	if (!kept)
		return verb_cannot("out of memory");
	stdout = kept;
	code = verb->run(options, argc, argv);
	stdout = standard;
	int written = fclose(kept)   ? verb_cannot("out of memory")
		      : len || !code ? verb_write(options->output, text, len, 0666)
				     : EXIT_YES;
	free(text);
	return written ? written : code;
}

static int run(int argc, char **argv)
{
	if (argc < 2)
		return help_all(stderr);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help_all(stdout);
	const struct verb *verb = find_verb(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
	if (!verb)
		return EXIT_CANNOT;
	if (asks_help(argc - 1, argv + 1))
		return help_verb(verb);
	const char *no_color = getenv("NO_COLOR");
	struct options options = {.format = "text", .color = isatty(STDERR_FILENO) && !(no_color && *no_color)};
	int left = 0;
	int code = split_flags(verb, &options, argc - 1, argv + 1, &left);
	return code ? code : run_verb(verb, &options, left, argv + 1);
}

int main(int argc, char **argv)
{
	int code = run(argc, argv);
	if (fflush(stdout) || ferror(stdout))
		return verb_cannot("standard output cannot be written");
	return code;
}
