/* Policy text through every pass up to the proofs; what parses is formatted, and formatting that again
 * must change nothing. */
#include "pass/format.h"
#include "verb/verb.h"

#include <stdlib.h>
#include <string.h>

static void begin(struct run *run, const char *text, size_t len)
{
	*run = (struct run){.arena = arena_create(), .now = "2026-06-01"};
	run->sources.arena = run->diags.arena = run->arena;
	run->diags.sources = &run->sources;
	sources_add(&run->sources, "fuzz.mesh", text, len);
}

static void format_twice(const char *text, size_t len)
{
	struct run first, second;
	begin(&first, text, len);
	if (!pipeline_parse(&first)) {
		const char *once = format_file(&first, 0);
		begin(&second, once, strlen(once));
		if (pipeline_parse(&second) || strcmp(once, format_file(&second, 0)) != 0)
			abort();
		verb_done(&second);
	}
	verb_done(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static FILE *out;
	struct run run;
	if (!out && !(out = fopen("/dev/null", "we")))
		abort();
	/* sources_read refuses what is no text before it comes here. */
	if (len > 4096 || memchr(data, 0, len))
		return -1;
	char *text = strndup((const char *)data, len);
	begin(&run, text, len);
	pipeline_run(&run);
	diags_print(&run.diags, out, true);
	verb_done(&run);
	format_twice(text, len);
	free(text);
	return 0;
}
