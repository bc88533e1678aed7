/* Fixes that take a declaration away: whole lines, no word that somebody wrote to explain it, and nothing that a
 * test names. */
#include "pass/removal.h"

#include "ir/ast.h"

struct fixer {
	struct run *run;
	VEC(const struct ast_decl *) decls; /* in order of their places */
	struct table tested;		    /* rules that an expectation names */
};

static void learn(struct fixer *fixer)
{
	for (const struct ast_decl *decl = fixer->run->ast->first; decl; decl = decl->next) {
		vec_push(fixer->run->arena, &fixer->decls, decl);
		for (const struct ast_expect *expect = decl->expects; expect; expect = expect->next)
			if (expect->by.text && strcmp(expect->what, "subset") != 0)
				table_put(&fixer->tested, expect->by.text, (void *)expect);
	}
}

/* The declaration that begins where SPAN does. */
static const struct ast_decl *decl_at(const struct fixer *fixer, struct span span)
{
	size_t lo = 0, hi = fixer->decls.len;
	while (hi - lo > 1) {
		size_t middle = (lo + hi) / 2;
		struct span at = fixer->decls.at[middle]->span;
		if (at.file < span.file || (at.file == span.file && at.offset <= span.offset))
			lo = middle;
		else
			hi = middle;
	}
	return fixer->decls.at[lo];
}

/* ---- Lines ---------------------------------------------------------------------------------------- */

/* Behind the line end that follows AT over nothing but blanks; AT itself where something else does. */
static uint32_t skip_line(const struct source_file *file, uint32_t at)
{
	uint32_t end = at + strspn(file->text + at, " \t\r");
	return file->text[end] == '\n' ? end + 1 : file->text[end] ? at : end;
}

/* The first byte of AT's line, where nothing but blanks stands before AT; else AT. */
static uint32_t line_begin(const struct source_file *file, uint32_t at)
{
	uint32_t begin = at;
	while (begin && strchr(" \t", file->text[begin - 1]))
		begin--;
	return !begin || file->text[begin - 1] == '\n' ? begin : at;
}

/* The first byte of the line before the one that begins at AT (not 0). */
static uint32_t line_before(const struct source_file *file, uint32_t at)
{
	for (at--; at && file->text[at - 1] != '\n'; at--)
		;
	return at;
}

static bool is_blank(const struct source_file *file, uint32_t begin)
{
	return skip_line(file, begin) != begin;
}

/* SPAN with the rest of its lines, and of the empty lines around it those that would be one too many. A statement
 * that shares a line with another goes alone. */
static struct span whole_lines(const struct source_file *file, struct span span)
{
	uint32_t begin = line_begin(file, span.offset), end = skip_line(file, span.offset + span.len), next;
	bool alone = (!begin || file->text[begin - 1] == '\n') && end != span.offset + span.len;
	if (!alone && file->text[span.offset + span.len])
		return span;
	if (!begin || is_blank(file, line_before(file, begin)))
		while ((next = skip_line(file, end)) != end)
			end = next;
	while (begin && end == file->len && is_blank(file, line_before(file, begin)))
		begin = line_before(file, begin);
	return (struct span){span.file, begin, end - begin};
}

/* ---- Comments ------------------------------------------------------------------------------------- */

/* Inside of SPAN or behind it on its line. */
static bool holds_comment(const struct ast *ast, const struct source_file *file, struct span span)
{
	uint32_t end = span.offset + span.len;
	size_t lo = 0, hi = ast->comments.len;
	end += strcspn(file->text + end, "\n");
	while (lo < hi) {
		size_t middle = (lo + hi) / 2;
		struct span at = ast->comments.at[middle];
		if (at.file < span.file || (at.file == span.file && at.offset < span.offset))
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo < ast->comments.len && ast->comments.at[lo].file == span.file && ast->comments.at[lo].offset < end;
}

static bool is_explained(const struct fixer *fixer, struct span span)
{
	const struct source_file *file = &fixer->run->sources.files.at[span.file];
	uint32_t begin = line_begin(file, span.offset);
	if (holds_comment(fixer->run->ast, file, span))
		return true;
	if (!begin || file->text[begin - 1] != '\n')
		return false;
	const char *above = file->text + line_before(file, begin);
	return above[strspn(above, " \t")] == '#';
}

/* ---- All of them ---------------------------------------------------------------------------------- */

static void finish(const struct fixer *fixer, struct diag *diag)
{
	const struct ast_decl *decl = decl_at(fixer, diag->fix_span);
	bool tested = decl->kind == DECL_RULE && table_get(&fixer->tested, decl->name.text);
	diag->fix_sure &= !tested && !is_explained(fixer, decl->span);
	diag->fix_span = whole_lines(&fixer->run->sources.files.at[decl->span.file], decl->span);
}

static bool is_removal(const struct diag *diag)
{
	return diag->fix && !*diag->fix;
}

void removal_offer(struct diag *diag, struct span span, bool sure)
{
	diag->fix = "";
	diag->fix_span = span;
	diag->fix_sure = sure;
}

void removal_finish(struct run *run, size_t first)
{
	struct fixer fixer = {.run = run, .tested = {.arena = run->arena}};
	for (size_t i = first; i < run->diags.all.len; i++) {
		if (!is_removal(&run->diags.all.at[i]))
			continue;
		if (!fixer.decls.len)
			learn(&fixer);
		finish(&fixer, &run->diags.all.at[i]);
	}
}
