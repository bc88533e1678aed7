/* The fixes that are sure, into the files. What a finding says of a policy need not hold once another finding is
 * mended (of three rules, each may be redundant beside the two others): a policy that was accepted is written only
 * where it is proved that nothing changes but what was to go. */
#include "verb/fix.h"

#include "ir/ast.h"
#include "pass/diff.h"
#include "pass/prove_text.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { PROOFS_MOST = 64 }; /* of one round: what they did not get to is the next one's */

struct fixing {
	struct run *run;
	VEC(const struct diag *) fixes; /* in order of place, none over another */
	bool *made;			/* by number of the fix */
	unsigned proofs;
	bool unknown; /* a proof outgrew a bound: so would the others */
};

/* ---- Which ---------------------------------------------------------------------------------------- */

static int place_compare(const void *left, const void *right)
{
	const struct span *a = &(*(const struct diag *const *)left)->fix_span,
			  *b = &(*(const struct diag *const *)right)->fix_span;
	if (a->file != b->file)
		return a->file < b->file ? -1 : 1;
	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static bool overlap(struct span a, struct span b)
{
	return a.len && b.len && a.file == b.file && a.offset < b.offset + b.len && b.offset < a.offset + a.len;
}

/* Whether FINDING speaks of what FIX takes away. */
static bool leans_on(const struct diag *finding, const struct diag *fix)
{
	return overlap(finding->spans[1], fix->fix_span) || overlap(finding->spans[2], fix->fix_span);
}

/* Beside one of the COUNT that were chosen before it: they cannot both be made, or are not likely to be (of two
 * rules that say the same each is redundant only while the other is there). */
static bool must_wait(const struct fixing *fixing, size_t count, const struct diag *diag)
{
	for (size_t i = 0; i < count; i++) {
		const struct diag *chosen = fixing->fixes.at[i];
		if (overlap(chosen->fix_span, diag->fix_span) || leans_on(diag, chosen) || leans_on(chosen, diag))
			return true;
	}
	return false;
}

/* Those that must wait are met again by the next round, if they are still findings then. */
static void collect(struct fixing *fixing)
{
	const struct diags *diags = &fixing->run->diags;
	size_t kept = 0;
	for (size_t i = 0; i < diags->all.len; i++) {
		const struct diag *diag = &diags->all.at[i];
		if (diag->fix && diag->fix_sure && diag->fix_span.len &&
		    diag->fix_span.file < fixing->run->sources.files.len &&
		    (!diags->errors || diag->severity == DIAG_ERROR))
			vec_push(fixing->run->arena, &fixing->fixes, diag);
	}
	if (fixing->fixes.len)
		qsort(fixing->fixes.at, fixing->fixes.len, sizeof(*fixing->fixes.at), place_compare);
	for (size_t i = 0; i < fixing->fixes.len; i++)
		if (!must_wait(fixing, kept, fixing->fixes.at[i]))
			fixing->fixes.at[kept++] = fixing->fixes.at[i];
	fixing->fixes.len = kept;
	fixing->made = arena_alloc(fixing->run->arena, kept + 1);
}

/* ---- Texts ---------------------------------------------------------------------------------------- */

struct gone {
	VEC(struct span) at;
};

/* What is to be made in FILE. */
static struct gone gone_from(const struct fixing *fixing, uint32_t file)
{
	struct gone gone = {0};
	for (size_t i = 0; i < fixing->fixes.len; i++)
		if (fixing->made[i] && fixing->fixes.at[i]->fix_span.file == file)
			vec_push(fixing->run->arena, &gone.at, fixing->fixes.at[i]->fix_span);
	return gone;
}

static const char *new_text(const struct fixing *fixing, uint32_t file)
{
	const char *text = fixing->run->sources.files.at[file].text;
	struct text out = {.arena = fixing->run->arena};
	uint32_t done = 0;
	for (size_t i = 0; i < fixing->fixes.len; i++) {
		struct span span = fixing->fixes.at[i]->fix_span;
		if (!fixing->made[i] || span.file != file)
			continue;
		text_add(&out, "%.*s%s", (int)(span.offset - done), text + done, fixing->fixes.at[i]->fix);
		done = span.offset + span.len;
	}
	text_add(&out, "%s", text + done);
	return text_end(&out);
}

/* ---- The proof ------------------------------------------------------------------------------------ */

static bool texts_hold(struct fixing *fixing)
{
	const char *why;
	for (uint32_t file = 0; file < fixing->run->sources.files.len; file++) {
		struct gone gone = gone_from(fixing, file);
		if (gone.at.len &&
		    prove_removal(fixing->run, file, new_text(fixing, file), gone.at.at, gone.at.len, &why))
			return false;
	}
	return true;
}

/* A run of its own over the texts as they are, or as they shall be. False: errors. */
static bool run_again(const struct fixing *fixing, struct arena *arena, bool is_new, struct run *again)
{
	const struct run *run = fixing->run;
	*again = (struct run){.arena = arena, .now = run->now};
	again->sources.arena = again->diags.arena = arena;
	again->diags.sources = &again->sources;
	for (uint32_t file = 0; file < run->sources.files.len; file++) {
		const char *text = is_new ? new_text(fixing, file) : run->sources.files.at[file].text;
		sources_add(&again->sources, run->sources.files.at[file].name, text, strlen(text));
	}
	return pipeline_run(again) == 0;
}

/* No request changes, nothing that no request shows, and nothing that is reported. */
static bool policies_equal(struct fixing *fixing, struct run *old, struct run *new)
{
	struct pair pair;
	struct diff diff = {0};
	int r = pair_make(new->arena, old, new, &pair);
	if (!r)
		r = diff_make(&pair, &diff);
	fixing->unknown |= r != 0;
	return !r && !diff.groups.len && !diff.definitions.len && !diff.notes.len;
}

static bool is_proved(struct fixing *fixing)
{
	struct arena *arena = arena_create();
	struct run old = {0}, new = {0};
	fixing->proofs++;
	bool equal = arena && texts_hold(fixing) && run_again(fixing, arena, false, &old) &&
		     run_again(fixing, arena, true, &new) && policies_equal(fixing, &old, &new);
	policy_release(old.policy);
	policy_release(new.policy);
	if (arena)
		arena_destroy(arena);
	return equal;
}

/* Marks as many of COUNT fixes from FIRST on as are proved beside those that are marked already. */
static void mark(struct fixing *fixing, size_t first, size_t count)
{
	if (!count || fixing->unknown || fixing->proofs >= PROOFS_MOST)
		return;
	memset(fixing->made + first, true, count);
	if (is_proved(fixing))
		return;
	memset(fixing->made + first, false, count);
	if (count == 1)
		return;
	mark(fixing, first, count / 2);
	mark(fixing, first + count / 2, count - count / 2);
}

/* ---- The files ------------------------------------------------------------------------------------ */

/* Before the first is written, not after. */
static int check_writable(const struct fixing *fixing)
{
	for (uint32_t file = 0; file < fixing->run->sources.files.len; file++) {
		const char *name = fixing->run->sources.files.at[file].name;
		if (gone_from(fixing, file).at.len && access(name, W_OK))
			return verb_cannot("%s: %s", name, strerror(errno));
	}
	return EXIT_YES;
}

static int write_files(const struct fixing *fixing)
{
	int code = check_writable(fixing);
	for (uint32_t file = 0; file < fixing->run->sources.files.len && !code; file++) {
		const struct source_file *source = &fixing->run->sources.files.at[file];
		if (gone_from(fixing, file).at.len)
			code = verb_rewrite(source->name,
					    arena_printf(fixing->run->arena, "%s%s", source->bom ? "\xef\xbb\xbf" : "",
							 new_text(fixing, file)));
	}
	return code;
}

static void tell_unmade(const struct fixing *fixing)
{
	for (size_t i = 0; i < fixing->fixes.len; i++)
		fprintf(stderr, "meshc: %s: the fix of M%04d is not made: it is not proved to change nothing\n",
			sources_where(fixing->run->arena, &fixing->run->sources, fixing->fixes.at[i]->spans[0]),
			fixing->fixes.at[i]->code);
}

int fix_files(struct run *run, size_t *ret_count)
{
	struct fixing fixing = {.run = run};
	size_t count = 0;
	collect(&fixing);
	if (run->diags.errors)
		memset(fixing.made, true, fixing.fixes.len);
	else
		mark(&fixing, 0, fixing.fixes.len);
	for (size_t i = 0; i < fixing.fixes.len; i++)
		count += fixing.made[i];
	if (!count)
		tell_unmade(&fixing);
	int code = write_files(&fixing);
	*ret_count = code ? 0 : count;
	return code;
}
