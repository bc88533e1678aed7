/* The requests whose verdict, shares or mTLS mode change between two policies, in groups. */
#include "verb/diff.h"

#include "pass/diff.h"

#include <stdlib.h>

static const char *const changes[] = {"widened", "narrowed", "moved", "mtls"};
static const char *const modes[] = {"off", "permissive", "strict"};
static const char *const shown[] = {
	[VERIFIED_UNSAID] = "", [VERIFIED_NO] = ", without a certificate", [VERIFIED_YES] = ", with a certificate"};

struct showing {
	const struct options *options;
	struct diff *diff;
	FILE *out;
};

/* ---- One side of a group -------------------------------------------------------------------------- */

static const char *rule_of(const struct diff *diff, enum side side, uint32_t by)
{
	if (by >= DIFF_MALFORMED)
		return by == DIFF_MALFORMED ? "malformed" : "default";
	return diff->pair->runs[side]->policy->rules.at[by >= TERMINAL_ALLOW ? by - TERMINAL_ALLOW : by].name;
}

static const char *where_of(struct diff *diff, enum side side, uint32_t by)
{
	const struct run *run = diff->pair->runs[side];
	if (by >= DIFF_MALFORMED)
		return NULL;
	return sources_where(diff->arena, &run->sources,
			     run->policy->rules.at[by >= TERMINAL_ALLOW ? by - TERMINAL_ALLOW : by].span);
}

/* The whole service goes by its name, as `why` has it. */
static const char *share_name(const struct diff *diff, const struct diff_group *group, const struct diff_share *share)
{
	const char *name = diff->pair->targets.at[group->targets.at[0]].name, *slash = strchr(name, '/');
	return share->subset ? share->subset : slash ? slash + 1 : name;
}

static const char *side_text(struct diff *diff, const struct diff_group *group, enum side side, const char *quote)
{
	uint32_t by = group->outcome.by[side];
	const char *where, *when, *text = "";
	if (group->outcome.change == DIFF_MTLS)
		return arena_printf(diff->arena, "mtls %s", modes[by]);
	if (group->outcome.change == DIFF_MOVED) {
		const struct diff_shares *shares = &diff->shares.at[by];
		for (size_t i = 0; i < shares->at.len; i++)
			text = arena_printf(diff->arena, "%s%s%.4g %% to %s", text, i ? ", " : "",
					    100.0 * shares->at.at[i].weight / shares->sum,
					    share_name(diff, group, &shares->at.at[i]));
		return text;
	}
	if (by == DIFF_MALFORMED)
		return "deny what cannot be read";
	if (by >= DIFF_MALFORMED)
		return diff_allows(by) ? "allow by default" : "deny by default";
	where = where_of(diff, side, by);
	when = diff_condition(diff, side, by);
	return arena_printf(diff->arena, "%s by %s%s%s (%s)%s%s%s%s", diff_allows(by) ? "allow" : "deny", quote,
			    rule_of(diff, side, by), quote, where, when ? " when " : "",
			    when && *quote == '`' ? quote : "", when ? when : "", when && *quote == '`' ? quote : "");
}

static json_t *side_json(struct diff *diff, const struct diff_group *group, enum side side)
{
	uint32_t by = group->outcome.by[side];
	if (group->outcome.change == DIFF_MTLS)
		return json_pack("{s:s}", "mtls", modes[by]);
	if (group->outcome.change == DIFF_MOVED) {
		const struct diff_shares *shares = &diff->shares.at[by];
		json_t *object = json_object();
		for (size_t i = 0; i < shares->at.len; i++)
			json_object_set_new(object, share_name(diff, group, &shares->at.at[i]),
					    json_real((double)shares->at.at[i].weight / shares->sum));
		return json_pack("{s:o}", "shares", object);
	}
	return json_pack("{s:s, s:s, s:s?}", "verdict", diff_allows(by) ? "allow" : "deny", "rule",
			 rule_of(diff, side, by), "where", where_of(diff, side, by));
}

/* ---- JSON ------------------------------------------------------------------------------------------- */

static json_t *words_json(const struct diff_words *words)
{
	json_t *list = json_array();
	for (size_t i = 0; i < words->at.len; i++)
		json_array_append_new(list, json_string(words->at.at[i]));
	return list;
}

static json_t *conditions_json(struct diff *diff, const struct diff_group *group)
{
	json_t *list = json_array();
	const char *before = NULL;
	for (int side = 0; side < SIDES && group->outcome.change <= DIFF_NARROWED; side++) {
		const char *when = diff_condition(diff, side, group->outcome.by[side]);
		if (when && (!before || strcmp(before, when) != 0))
			json_array_append_new(list, json_string(when));
		before = when ? when : before;
	}
	return list;
}

static json_t *group_json(struct diff *diff, const struct diff_group *group)
{
	struct diff_words sources = diff_source_words(diff, group->sources),
			  ports = diff_port_words(diff, &group->ports);
	struct diff_words targets = diff_target_words(diff, group);
	json_t *old = diff_request(diff, &group->witness, OLD), *new = diff_request(diff, &group->witness, NEW);
	json_t *object = json_pack(
		"{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:b, s:b, s:O}", "change",
		changes[group->outcome.change], "from", side_json(diff, group, OLD), "to", side_json(diff, group, NEW),
		"sources", words_json(&sources), "destinations", words_json(&targets), "ports", words_json(&ports),
		"when", conditions_json(diff, group), "count", (json_int_t)group->count, "exact", group->exact, "l7",
		group->outcome.l7, "malformed", group->outcome.malformed, "witness", new);
	if (group->verified != VERIFIED_UNSAID)
		json_object_set_new(object, "verified", json_boolean(group->verified == VERIFIED_YES));
	if (!json_equal(old, new))
		json_object_set(object, "witness_old", old);
	json_decref(old);
	json_decref(new);
	return object;
}

static void show_json(struct showing *showing)
{
	struct diff *diff = showing->diff;
	json_t *groups = json_array(), *definitions = json_array(), *notes = json_array();
	for (size_t i = 0; i < diff->groups.len; i++)
		json_array_append_new(groups, group_json(diff, &diff->groups.at[i]));
	for (size_t i = 0; i < diff->definitions.len; i++)
		json_array_append_new(definitions, json_string(diff->definitions.at[i]));
	for (size_t i = 0; i < diff->notes.len; i++)
		json_array_append_new(notes, json_string(diff->notes.at[i]));
	json_t *all = json_pack("{s:b, s:o, s:o, s:o}", "equal", !diff->groups.len && !diff->definitions.len, "groups",
				groups, "definitions", definitions, "notes", notes);
	json_dumpf(all, showing->out, JSON_INDENT(2) | VERB_REALS);
	fputc('\n', showing->out);
	json_decref(all);
}

/* ---- Text ------------------------------------------------------------------------------------------- */

/* A list of what may hold commas of its own. */
static const char *listed(struct diff *diff, struct diff_words words, const char *quote)
{
	const char *text = "", *between = ", ";
	for (size_t i = 0; i < words.at.len; i++)
		between = strstr(words.at.at[i], ", ") && !*quote ? "; " : between;
	for (size_t i = 0; i < words.at.len; i++)
		text = arena_printf(diff->arena, "%s%s%s%s%s", text, i ? between : "", quote, words.at.at[i], quote);
	return text;
}

/* "2 widened, 1 narrowed" */
static const char *summary(struct diff *diff)
{
	const char *text = "";
	for (int change = DIFF_WIDENED; change <= DIFF_MTLS; change++) {
		size_t count = 0;
		for (size_t i = 0; i < diff->groups.len; i++)
			count += diff->groups.at[i].outcome.change == (enum diff_change)change;
		if (count)
			text = arena_printf(diff->arena, "%s%s%zu %s", text, *text ? ", " : "", count, changes[change]);
	}
	if (diff->definitions.len)
		text = arena_printf(diff->arena, "%s%s%zu definition%s", text, *text ? ", " : "", diff->definitions.len,
				    diff->definitions.len == 1 ? "" : "s");
	return text;
}

static const char *equal_text = "no request changes its verdict, its shares or its mTLS mode";

static const char *requests_text(struct diff *diff, const struct diff_group *group)
{
	if (group->outcome.change == DIFF_MTLS)
		return arena_printf(diff->arena, "%llu destination%s", (unsigned long long)group->count,
				    group->count == 1 ? "" : "s");
	return arena_printf(diff->arena, "%s%s%llu pair%s of source and destination",
			    group->outcome.l7 ? "requests of " : "", group->exact ? "" : "some of these, ",
			    (unsigned long long)group->count, group->count == 1 ? "" : "s");
}

static void show_witness(struct showing *showing, const struct diff_group *group, const char *before)
{
	json_t *lines[] = {diff_request(showing->diff, &group->witness, OLD),
			   diff_request(showing->diff, &group->witness, NEW)};
	fputs(before, showing->out);
	json_dumpf(lines[NEW], showing->out, 0);
	fputc('\n', showing->out);
	if (!json_equal(lines[OLD], lines[NEW])) {
		fputs(before, showing->out);
		json_dumpf(lines[OLD], showing->out, 0);
		fputs(" to the old policy\n", showing->out);
	}
	json_decref(lines[OLD]);
	json_decref(lines[NEW]);
}

static void show_text_group(struct showing *showing, const struct diff_group *group)
{
	struct diff *diff = showing->diff;
	fprintf(showing->out, "%s: %s, was %s\n", changes[group->outcome.change], side_text(diff, group, NEW, "'"),
		side_text(diff, group, OLD, "'"));
	fprintf(showing->out, "  from     %s%s\n", listed(diff, diff_source_words(diff, group->sources), ""),
		shown[group->verified]);
	fprintf(showing->out, "  to       %s\n", listed(diff, diff_target_words(diff, group), ""));
	fprintf(showing->out, "  ports    %s\n", listed(diff, diff_port_words(diff, &group->ports), ""));
	fprintf(showing->out, "  size     %s%s\n", requests_text(diff, group),
		group->outcome.malformed ? "; what cannot be read, too" : "");
	show_witness(showing, group, "  such as  ");
	fputc('\n', showing->out);
}

static void show_text(struct showing *showing)
{
	struct diff *diff = showing->diff;
	for (size_t i = 0; i < diff->groups.len; i++)
		show_text_group(showing, &diff->groups.at[i]);
	for (size_t i = 0; i < diff->definitions.len; i++)
		fprintf(showing->out, "definition: %s\n", diff->definitions.at[i]);
	for (size_t i = 0; i < diff->notes.len; i++)
		fprintf(showing->out, "note: %s\n", diff->notes.at[i]);
	if (!diff->groups.len && !diff->definitions.len)
		fprintf(showing->out, "equal: %s\n", equal_text);
	else
		fprintf(showing->out, "%s%s\n", diff->definitions.len || diff->notes.len ? "\n" : "", summary(diff));
}

/* ---- Markdown ----------------------------------------------------------------------------------------- */

/* A bar would end the cell, in code too. */
static void put_cell(FILE *out, const char *text)
{
	for (const char *c = text; *c; c++)
		fprintf(out, *c == '|' ? "\\%c" : "%c", *c);
	fputs(" | ", out);
}

static void show_markdown_groups(struct showing *showing)
{
	struct diff *diff = showing->diff;
	fputs("| change | from | to | ports | was | is | size |\n|---|---|---|---|---|---|---|\n", showing->out);
	for (size_t i = 0; i < diff->groups.len; i++) {
		const struct diff_group *group = &diff->groups.at[i];
		fputs("| ", showing->out);
		put_cell(showing->out, arena_printf(diff->arena, "**%s**", changes[group->outcome.change]));
		put_cell(showing->out,
			 arena_printf(diff->arena, "%s%s", listed(diff, diff_source_words(diff, group->sources), "`"),
				      shown[group->verified]));
		put_cell(showing->out, listed(diff, diff_target_words(diff, group), "`"));
		put_cell(showing->out, listed(diff, diff_port_words(diff, &group->ports), "`"));
		put_cell(showing->out, side_text(diff, group, OLD, "`"));
		put_cell(showing->out, side_text(diff, group, NEW, "`"));
		put_cell(showing->out, requests_text(diff, group));
		fputc('\n', showing->out);
	}
	fputs("\n<details><summary>A request of each</summary>\n\n```json\n", showing->out);
	for (size_t i = 0; i < diff->groups.len; i++) {
		json_t *line = diff_request(diff, &diff->groups.at[i].witness, NEW);
		json_dumpf(line, showing->out, 0);
		fputc('\n', showing->out);
		json_decref(line);
	}
	fputs("```\n\n</details>\n", showing->out);
}

static void show_markdown(struct showing *showing)
{
	struct diff *diff = showing->diff;
	bool equal = !diff->groups.len && !diff->definitions.len;
	fprintf(showing->out, "### Policy: %s\n\n", equal ? equal_text : summary(diff));
	if (diff->groups.len)
		show_markdown_groups(showing);
	for (size_t i = 0; i < diff->definitions.len; i++)
		fprintf(showing->out, "%s- %s\n", i ? "" : "\n", diff->definitions.at[i]);
	if (diff->notes.len)
		fputs("\nNotes, of what decides nothing:\n\n", showing->out);
	for (size_t i = 0; i < diff->notes.len; i++)
		fprintf(showing->out, "- %s\n", diff->notes.at[i]);
}

/* ---- The verb ------------------------------------------------------------------------------------------- */

static const char *const formats[] = {"text", "json", "markdown"};

static int show(const struct options *options, struct diff *diff)
{
	void (*const shows[])(struct showing *) = {show_text, show_json, show_markdown};
	struct showing showing = {.options = options, .diff = diff};
	char *bytes = NULL;
	size_t len = 0, i = 0;
	showing.out = open_memstream(&bytes, &len);
	if (!showing.out)
		return verb_cannot("out of memory");
	while (strcmp(formats[i], options->format) != 0)
		i++;
	shows[i](&showing);
	fclose(showing.out);
	int code = verb_write(NULL, bytes, len, 0);
	free(bytes);
	return code ? code : diff->groups.len || diff->definitions.len ? EXIT_NO : EXIT_YES;
}

/* Warnings are `check`'s. What is behind us need not hold today: a date that has passed may be what changes. */
int diff_check(const struct options *options, struct run *run, enum side side, const char *where)
{
	if (side == OLD)
		run->now = NULL;
	pipeline_run(run);
	int code = side == NEW ? verb_match(options, run) : EXIT_YES;
	if (code)
		return code;
	code = verb_outcome(options, run);
	if (!code)
		return EXIT_YES;
	fprintf(stderr, "meshc: the %s policy, %s:\n", side == OLD ? "old" : "new", where);
	diags_print(&run->diags, stderr, options->color);
	return code;
}

static int load(const struct options *options, struct run *run, enum side side, char *path)
{
	int code = verb_read(options, run, 1, &path);
	return code ? code : diff_check(options, run, side, path);
}

int diff_runs(const struct options *options, struct run *old, struct run *new)
{
	struct pair pair;
	struct diff diff = {0};
	int r = pair_make(new->arena, old, new, &pair);
	if (!r)
		r = diff_make(&pair, &diff);
	if (r && diff.gave_up)
		return verb_cannot(
			"the requests to '%s' can be neither told apart nor proved the same within a million steps",
			diff.where);
	if (r)
		return verb_cannot("the two policies together outgrow a bound that each alone keeps");
	return show(options, &diff);
}

int verb_diff(const struct options *options, int argc, char **argv)
{
	struct run old = {0}, new = {0};
	if (argc != 3)
		return verb_cannot("diff wants two policies, the old and the new: each a file, a folder or -");
	if (strcmp(argv[1], "-") == 0 && strcmp(argv[2], "-") == 0)
		return verb_cannot("standard input can be one of the two policies, not both");
	int code = load(options, &old, OLD, argv[1]);
	int other = code == EXIT_CANNOT ? code : load(options, &new, NEW, argv[2]);
	code = code > other ? code : other;
	if (!code)
		code = diff_runs(options, &old, &new);
	verb_done(&old);
	verb_done(&new);
	return code;
}
