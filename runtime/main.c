/* argv to verb. */
#include "verbs.h"

#include <ctype.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct verb {
	const char *name, *flags, *arguments, *summary, *help;
	int (*run)(struct ask *ask);
} verbs[] = {
#define VERB(name, flags, arguments, summary, help) {#name, flags, arguments, summary, help, verb_##name},
#include "verbs.def"
#undef VERB
};
enum { VERBS = sizeof(verbs) / sizeof(*verbs) };

static int help_all(FILE *out)
{
	fputs("meshd enforces a mesh policy on this node.\n\nusage: meshd VERB [FLAGS] [ARGUMENTS]\n\n", out);
	for (int i = 0; i < VERBS; i++)
		fprintf(out, "  %-9s %s\n", verbs[i].name, verbs[i].summary);
	fputs("\n`meshd VERB --help` says more. Begin with `meshd preflight`, then `meshd run`.\n"
	      "exit codes: 0 yes, 1 no, 2 could not do it, 3 a bug of ours\n",
	      out);
	return out == stdout ? 0 : 2;
}

static int help_verb(const struct verb *verb)
{
	printf("meshd %s: %s\n\nusage: meshd %s [FLAGS]%s%s\n\n%s"
	       "  --config FILE         default %s\n"
	       "  --socket PATH         the control socket, instead of the configuration's\n"
	       "  --format text|json    how to print\n"
	       "  --help                this text\n",
	       verb->name, verb->summary, verb->name, verb->arguments[0] ? " " : "", verb->arguments, verb->help,
	       CONFIG_PATH);
	return 0;
}

int cannot(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("meshd: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return 2;
}

/* Not "-", nor a number below 0. */
static bool is_flag(const char *word)
{
	return word[0] == '-' && (word[1] == '-' || isalpha((unsigned char)word[1]));
}

/* "--flag=value" or "--flag value"; NULL: another word. Another flag is no value, unless it is said by '='. */
static const char *value_of(char **argv, int *i, const char *flag)
{
	size_t len = strlen(flag);
	if (strncmp(argv[*i], flag, len) != 0)
		return NULL;
	if (argv[*i][len] == '=')
		return argv[*i] + len + 1;
	if (argv[*i][len] || !argv[*i + 1] || is_flag(argv[*i + 1]))
		return NULL;
	return argv[++*i];
}

static const char *next_flag(const char *flags)
{
	flags += strcspn(flags, " ");
	return flags + (*flags == ' ');
}

static bool has_flag(const struct verb *verb, const char *flag)
{
	size_t len = strlen(flag);
	for (const char *c = verb->flags; *c; c = next_flag(c))
		if (strncmp(c, flag, len) == 0 && (c[len] == '=' || c[len] == ' ' || !c[len]))
			return true;
	return false;
}

/* 1: it was one of the verb's own flags with a value; 0: it was not. */
static int take_value(const struct verb *verb, struct ask *ask, char **argv, int *i)
{
	for (const char *c = verb->flags; *c; c = next_flag(c)) {
		char flag[16];
		size_t len = strcspn(c, "= ");
		snprintf(flag, sizeof(flag), "%.*s", (int)len, c);
		const char *value = c[len] == '=' ? value_of(argv, i, flag) : NULL;
		if (!value)
			continue;
		json_t *text = json_string(value), *list = json_object_get(ask->values, flag + 2);
		if (!text)
			return cannot("%s: not UTF-8", flag);
		if (c[len + 1] != '*')
			json_object_set_new(ask->values, flag + 2, text);
		else if (list)
			json_array_append_new(list, text);
		else
			json_object_set_new(ask->values, flag + 2, json_pack("[o]", text));
		return 1;
	}
	return 0;
}

static int take_word(const struct verb *verb, struct ask *ask, char **argv, int *i)
{
	const char *value;
	if ((value = value_of(argv, i, "--config"))) {
		ask->config = value;
		return 0;
	}
	if ((value = value_of(argv, i, "--socket"))) {
		ask->socket = value;
		return 0;
	}
	if ((value = value_of(argv, i, "--format"))) {
		ask->json = strcmp(value, "json") == 0;
		return ask->json || strcmp(value, "text") == 0 ? 0 : cannot("unknown format '%s': text or json", value);
	}
	int taken = take_value(verb, ask, argv, i);
	if (taken)
		return taken == 1 ? 0 : taken;
	if (strcmp(argv[*i], "--check") == 0 && has_flag(verb, "--check")) {
		ask->check = true;
		return 0;
	}
	if (strcmp(argv[*i], "-f") == 0 && has_flag(verb, "-f")) {
		ask->follow = true;
		return 0;
	}
	if (argv[*i][0] == '-')
		return cannot("unknown flag '%s' (or it lacks its value); `meshd %s --help` lists them", argv[*i],
			      verb->name);
	if (ask->argument || !verb->arguments[0])
		return cannot("what is '%s' for? usage: meshd %s %s", argv[*i], verb->name, verb->arguments);
	ask->argument = argv[*i];
	return 0;
}

int main(int argc, char **argv)
{
	struct ask ask = {.config = NULL};
	const struct verb *verb = NULL;
	if (argc < 2)
		return help_all(stderr);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help_all(stdout);
	if (strcmp(argv[1], "--version") == 0)
		return puts("meshd 0.1.0") == EOF ? 2 : 0;
	for (int i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].name, argv[1]) == 0)
			verb = &verbs[i];
	if (!verb)
		return cannot("unknown verb '%s'; `meshd --help` lists the verbs", argv[1]);
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return help_verb(verb);
	ask.verb = verb->name;
	ask.values = json_object();
	int code = 0;
	for (int i = 2; i < argc && !code; i++)
		code = take_word(verb, &ask, argv, &i);
	if (!code)
		code = verb->run(&ask);
	json_decref(ask.values);
	return code;
}
