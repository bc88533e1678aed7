/* Writes meshc.1 and meshd.8 into a folder: man FOLDER. Made from the lists that the programs are made
 * from, so that they cannot say anything else. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct verb {
	const char *name, *formats, *arguments, *summary, *help; /* formats NULL: it has no --format */
};
static const struct verb meshc_verbs[] = {
#define VERB(name, flags, formats, arguments, summary, help) {#name, formats, arguments, summary, help},
#include "verbs.def"
#undef VERB
};
static const struct verb meshd_verbs[] = {
#define VERB(name, flags, arguments, summary, help) {#name, NULL, arguments, summary, help},
#include "../runtime/verbs.def"
#undef VERB
};
static const struct code {
	unsigned number;
	const char *text;
} codes[] = {
#define DIAG(number, name, severity, text, page) {number, text},
#include "base/diag_codes.def"
#undef DIAG
};

/* groff: a leading dot or quote is a request, a backslash and a hyphen are special. */
static void put(FILE *out, const char *text)
{
	bool begins = true;
	for (; *text; text++) {
		if (begins && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
		begins = *text == '\n';
	}
}

static void head(FILE *out, const char *name, const char *section, const char *summary)
{
	fprintf(out, ".TH %s %s\n.SH NAME\n%s \\- ", name, section, name);
	put(out, summary);
	fprintf(out, "\n.SH SYNOPSIS\n.B %s\n.I VERB\n[FLAGS] [ARGUMENTS]\n", name);
}

static void verb(FILE *out, const char *program, const struct verb *verb)
{
	fprintf(out, ".SS %s %s ", program, verb->name);
	put(out, verb->arguments);
	fputs("\n", out);
	put(out, verb->summary);
	fputs("\n", out);
	if (verb->help[0]) {
		fputs(".PP\n.nf\n", out);
		put(out, verb->help);
		fputs(".fi\n", out);
	}
	if (verb->formats) {
		fputs(".PP\nFormats: ", out);
		put(out, verb->formats);
		fputs("\n", out);
	}
}

static void exit_codes(FILE *out)
{
	fputs(".SH EXIT STATUS\n.TP\n0\nyes\n.TP\n1\nthe honest answer is no\n.TP\n2\ncould not do it: a bad flag, an "
	      "unreadable file, no permission\n.TP\n3\na bug of ours: clang or the verifier refused what was "
	      "generated\n",
	      out);
}

static void meshc(FILE *out)
{
	head(out, "meshc", "1", "compile, check, test and explain a mesh policy");
	fputs(".SH DESCRIPTION\nA policy says who may talk to whom, how connections are protected and where traffic "
	      "goes.\n"
	      ".B meshc\nchecks it, proves things about it and builds one BPF object for the nodes of the mesh. It "
	      "needs no "
	      "privilege.\n.SH VERBS\n",
	      out);
	for (size_t i = 0; i < sizeof(meshc_verbs) / sizeof(*meshc_verbs); i++)
		verb(out, "meshc", &meshc_verbs[i]);
	fputs(".SH COMMON FLAGS\n", out);
#define FLAG(name, value, choices, verbs, help)                                                                        \
	fputs(".TP\n.B ", out), put(out, name " " value), fputs("\n", out), put(out, help),                            \
		put(out, *choices ? ": " choices : ""), put(out, *verbs ? "; taken by " verbs : ""), fputs("\n", out);
#define SWITCH(name, help) fputs(".TP\n.B ", out), put(out, name), fputs("\n", out), put(out, help), fputs("\n", out);
#include "flags.def"
#undef FLAG
#undef SWITCH
	fputs(".SH DIAGNOSTICS\nEach has a stable code;\n.B meshc explain\n.I CODE\nsays more.\n", out);
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		fprintf(out, ".TP\nM%04u\n", codes[i].number);
		put(out, codes[i].text);
		fputs("\n", out);
	}
	exit_codes(out);
	fputs(".SH SEE ALSO\n.BR meshd (8)\n", out);
}

static void meshd(FILE *out)
{
	head(out, "meshd", "8", "enforce a mesh policy on this node");
	fputs(".SH DESCRIPTION\n.B meshd\nverifies a signed bundle, loads it, replays its proof on this kernel and "
	      "switches "
	      "to it by one store. What it pinned goes on enforcing without it; the next one adopts it.\n.SH VERBS\n",
	      out);
	for (size_t i = 0; i < sizeof(meshd_verbs) / sizeof(*meshd_verbs); i++)
		verb(out, "meshd", &meshd_verbs[i]);
	exit_codes(out);
	fputs(".SH FILES\n.TP\n/etc/mesh/meshd.yaml\nthe configuration\n.TP\n/run/mesh/meshd.sock\nthe control socket\n"
	      ".TP\n/var/lib/mesh\nbundles that are resident\n.SH SEE ALSO\n.BR meshc (1)\n",
	      out);
}

static int write_page(const char *folder, const char *name, void (*write)(FILE *out))
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *out = fopen(path, "w");
	if (!out)
		return 1;
	write(out);
	return fclose(out) != 0;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return fputs("usage: man FOLDER\n", stderr), 2;
	return write_page(argv[1], "meshc.1", meshc) || write_page(argv[1], "meshd.8", meshd);
}
