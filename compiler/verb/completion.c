/* Scripts that complete meshc's words, made from verbs.def and flags.def. */
#include "verb/verb.h"

static const struct word {
	const char *verb, *flags, *formats, *summary;
} words[] = {
#define VERB(name, flags, formats, arguments, summary, help) {#name, flags, formats, summary},
#include "verbs.def"
#undef VERB
};
enum { WORDS = sizeof(words) / sizeof(*words) };

static const struct common {
	const char *name, *choices, *verbs, *help;
	bool takes;
} commons[] = {
#define FLAG(name, value, choices, verbs, help) {name, choices, verbs, help, true},
#define SWITCH(name, help) {name, "", "", help, false},
#include "flags.def"
#undef FLAG
#undef SWITCH
};
enum { COMMONS = sizeof(commons) / sizeof(*commons) };

/* "--a= -k= --b" as "--a -k --b". */
static void print_flags(const char *flags)
{
	for (const char *c = flags; *c; c++)
		if (*c != '=')
			putchar(*c);
}

static void print_common_names(const char *verb)
{
	for (int i = 0; i < COMMONS; i++)
		if (verb_takes(commons[i].verbs, verb))
			printf(" %s", commons[i].name);
}

/* What a shell's case says of each verb: its flags and formats, as that shell writes lists between OPEN and CLOSE. */
static void print_verb_lists(const char *open, const char *close)
{
	for (int i = 0; i < WORDS; i++) {
		printf("\t%s) flags=%s", words[i].verb, open);
		print_flags(words[i].flags);
		print_common_names(words[i].verb);
		printf("%s formats=%s%s%s ;;\n", close, open, words[i].formats, close);
	}
}

/* bash takes the '=' of `--flag=value` for a word of its own. */
static void print_bash(void)
{
	puts("_meshc() {\n"
	     "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags= formats=\n"
	     "\tif [ \"$before\" = = ]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
	     "\tif [ \"$word\" = = ]; then word=; fi\n"
	     "\tCOMPREPLY=()\n"
	     "\tif [ \"$COMP_CWORD\" = 1 ]; then");
	printf("\t\tCOMPREPLY=($(compgen -W \"");
	for (int i = 0; i < WORDS; i++)
		printf("%s%s", i ? " " : "", words[i].verb);
	puts("\" -- \"$word\"))\n\t\treturn\n\tfi\n\tcase \"${COMP_WORDS[1]}\" in");
	print_verb_lists("\"", "\"");
	puts("\tesac\n\tcase \"$before\" in\n"
	     "\t--format) COMPREPLY=($(compgen -W \"$formats\" -- \"$word\")); return ;;");
	for (int i = 0; i < COMMONS; i++)
		if (commons[i].choices[0])
			printf("\t%s) COMPREPLY=($(compgen -W \"%s\" -- \"$word\")); return ;;\n", commons[i].name,
			       commons[i].choices);
	puts("\tesac\n\tcase \"$word\" in\n\t-*) COMPREPLY=($(compgen -W \"$flags\" -- \"$word\")) ;;\n"
	     "\t*) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n\tesac\n}\n"
	     "complete -o filenames -F _meshc meshc");
}

static void print_zsh(void)
{
	puts("#compdef meshc\n_meshc() {\n\tlocal before=$words[CURRENT-1]\n\tlocal -a verbs flags formats\n\tverbs=(");
	for (int i = 0; i < WORDS; i++)
		printf("\t\t\"%s:%s\"\n", words[i].verb, words[i].summary);
	puts("\t)\n\tif (( CURRENT == 2 )); then _describe verb verbs; return; fi\n\tcase $words[2] in");
	print_verb_lists("(", ")");
	/* The value of `--flag=value` is completed alone. */
	puts("\tesac\n\tif [[ $words[CURRENT] == --*=* ]]; then before=${words[CURRENT]%%=*}; compset -P '*='; fi\n"
	     "\tcase $before in\n\t--format) compadd -a formats; return ;;");
	for (int i = 0; i < COMMONS; i++)
		if (commons[i].choices[0])
			printf("\t%s) compadd %s; return ;;\n", commons[i].name, commons[i].choices);
	puts("\tesac\n\tif [[ $words[CURRENT] == -* ]]; then compadd -a flags; else _files; fi\n}\n"
	     "compdef _meshc meshc");
}

/* "-k" is a short flag, "--emit" a long one. */
static void print_fish_flag(const char *condition, const char *name, size_t len, bool takes, const char *choices,
			    const char *help)
{
	bool is_long = strncmp(name, "--", 2) == 0;
	printf("complete -c meshc -n '%s' -%c %.*s%s", condition, is_long ? 'l' : 's', (int)len - 1 - is_long,
	       name + 1 + is_long, takes ? " -r" : "");
	if (choices[0])
		printf(" -f -a '%s'", choices);
	printf("%s%s%s\n", help[0] ? " -d \"" : "", help, help[0] ? "\"" : "");
}

static void print_fish_verb(const struct word *word)
{
	char condition[64];
	snprintf(condition, sizeof(condition), "__fish_seen_subcommand_from %s", word->verb);
	for (const char *c = word->flags; *c; c += strcspn(c, " "), c += *c == ' ') {
		size_t len = strcspn(c, "= ");
		print_fish_flag(condition, c, len, c[len] == '=', "", "");
	}
	for (int i = 0; i < COMMONS; i++) {
		const struct common *common = &commons[i];
		bool is_format = strcmp(common->name, "--format") == 0;
		if (!verb_takes(common->verbs, word->verb))
			continue;
		print_fish_flag(condition, common->name, strlen(common->name), common->takes,
				is_format ? word->formats : common->choices, common->help);
	}
}

static void print_fish(void)
{
	for (int i = 0; i < WORDS; i++)
		printf("complete -c meshc -n __fish_use_subcommand -f -a %s -d \"%s\"\n", words[i].verb,
		       words[i].summary);
	for (int i = 0; i < WORDS; i++)
		print_fish_verb(&words[i]);
}

int verb_completion(const struct options *options, int argc, char **argv)
{
	static const char *const shells[] = {"bash", "zsh", "fish"};
	static void (*const print[])(void) = {print_bash, print_zsh, print_fish};
	(void)options;
	if (argc != 2)
		return verb_cannot("for which shell? usage: meshc completion bash|zsh|fish");
	for (int i = 0; i < 3; i++)
		if (strcmp(argv[1], shells[i]) == 0) {
			print[i]();
			return EXIT_YES;
		}
	return verb_unknown("shell", argv[1], shells, 3);
}
