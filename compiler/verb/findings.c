#include "verb/findings.h"

#include "ir/ast.h"

#include <openssl/evp.h>
#include <stdlib.h>

static bool has_place(const struct run *run, struct span span)
{
	return span.len && span.file < run->sources.files.len;
}

static const char *code_of(const struct run *run, const struct diag *diag)
{
	return arena_printf(run->arena, "M%04d", diag->code);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static json_t *place_json(const struct run *run, struct span span)
{
	uint32_t line, column;
	if (!has_place(run, span))
		return json_object();
	sources_place(&run->sources, span, &line, &column);
	return json_pack("{s:s, s:i, s:i}", "file", run->sources.files.at[span.file].name, "line", (int)line, "column",
			 (int)column);
}

/* The other places that it speaks of. */
static void add_related(const struct run *run, const struct diag *diag, json_t *finding)
{
	json_t *related = json_array();
	for (int i = 1; i < 3; i++) {
		if (!has_place(run, diag->spans[i]))
			continue;
		json_t *place = place_json(run, diag->spans[i]);
		json_object_set_new(place, "message", json_string(diag->labels[i] ? diag->labels[i] : "here"));
		json_array_append_new(related, place);
	}
	if (json_array_size(related))
		json_object_set(finding, "related", related);
	json_decref(related);
}

static json_t *finding_json(const struct run *run, const struct diag *diag)
{
	json_t *finding = place_json(run, diag->spans[0]);
	json_object_set_new(finding, "code", json_string(code_of(run, diag)));
	json_object_set_new(finding, "severity", json_string(diag_severity_name(diag->severity)));
	json_object_set_new(finding, "message", json_string(diag->message));
	if (diag->note)
		json_object_set_new(finding, "note", json_string(diag->note));
	add_related(run, diag, finding);
	if (!diag->fix)
		return finding;
	json_t *fix = place_json(run, diag->fix_span);
	json_object_set_new(fix, "length", json_integer(diag->fix_span.len));
	json_object_set_new(fix, "replacement", json_string(diag->fix));
	json_object_set_new(fix, "sure", json_boolean(diag->fix_sure));
	json_object_set_new(finding, "fix", fix);
	return finding;
}

json_t *findings_json(const struct run *run)
{
	json_t *findings = json_array();
	for (size_t i = 0; i < run->diags.all.len; i++)
		json_array_append_new(findings, finding_json(run, &run->diags.all.at[i]));
	return findings;
}

/* ---- SARIF -------------------------------------------------------------------------------------- */

static const char *const levels[] = {"note", "warning", "error"};

static json_t *region_json(const struct run *run, struct span span)
{
	uint32_t line, column, end_line, end_column;
	struct span end = {span.file, span.offset + span.len, 0};
	sources_place(&run->sources, span, &line, &column);
	sources_place(&run->sources, end, &end_line, &end_column);
	return json_pack("{s:i, s:i, s:i, s:i}", "startLine", (int)line, "startColumn", (int)column, "endLine",
			 (int)end_line, "endColumn", (int)end_column);
}

/* The file's name as a relative reference (RFC 3986): a colon in it would end a scheme. */
static const char *uri_of(const struct run *run, struct span span)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
	const char *name = run->sources.files.at[span.file].name;
	char *uri = arena_alloc(run->arena, 3 * strlen(name) + 1), *end = uri;
	for (; *name; name++)
		end += sprintf(end, strchr(plain, *name) ? "%c" : "%%%02X", (unsigned char)*name);
	return uri;
}

static json_t *location_json(const struct run *run, struct span span, const char *label)
{
	json_t *location = json_pack("{s:{s:{s:s}, s:o}}", "physicalLocation", "artifactLocation", "uri",
				     uri_of(run, span), "region", region_json(run, span));
	if (label)
		json_object_set_new(location, "message", json_pack("{s:s}", "text", label));
	return location;
}

/* Of the code, the file, the message and the text that it points to; not of where that stands. */
static const char *fingerprint(const struct run *run, const struct diag *diag)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	struct span span = diag->spans[0];
	bool placed = has_place(run, span);
	const struct source_file *file = placed ? &run->sources.files.at[span.file] : NULL;
	const char *text =
		arena_printf(run->arena, "%d\n%s\n%s\n%.*s", diag->code, file ? file->name : "", diag->message,
			     placed ? (int)span.len : 0, placed ? file->text + span.offset : "");
	EVP_Digest(text, strlen(text), digest, &len, EVP_sha256(), NULL);
	char *hex = arena_alloc(run->arena, 33);
	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return hex;
}

static json_t *fixes_json(const struct run *run, const struct diag *diag)
{
	const char *sure = diag->fix_sure ? "sure" : "perhaps";
	return json_pack("[{s:{s:s}, s:[{s:{s:s}, s:[{s:o, s:{s:s}}]}], s:{s:s}}]", "description", "text",
			 arena_printf(run->arena, "%s (%s)", *diag->fix ? "replace" : "remove", sure),
			 "artifactChanges", "artifactLocation", "uri", uri_of(run, diag->fix_span), "replacements",
			 "deletedRegion", region_json(run, diag->fix_span), "insertedContent", "text", diag->fix,
			 "properties", "applicability", sure);
}

static json_t *result_json(const struct run *run, const struct diag *diag, int rule)
{
	json_t *result =
		json_pack("{s:s, s:i, s:s, s:{s:s}, s:{s:s}}", "ruleId", code_of(run, diag), "ruleIndex", rule, "level",
			  levels[diag->severity], "message", "text",
			  diag->note ? arena_printf(run->arena, "%s\n%s", diag->message, diag->note) : diag->message,
			  "partialFingerprints", "meshc/v1", fingerprint(run, diag));
	if (has_place(run, diag->spans[0]))
		json_object_set_new(result, "locations", json_pack("[o]", location_json(run, diag->spans[0], NULL)));
	json_t *related = json_array();
	for (int i = 1; i < 3; i++)
		if (has_place(run, diag->spans[i]))
			json_array_append_new(related, location_json(run, diag->spans[i],
								     diag->labels[i] ? diag->labels[i] : "here"));
	if (json_array_size(related))
		json_object_set(result, "relatedLocations", related);
	json_decref(related);
	if (diag->fix && has_place(run, diag->fix_span))
		json_object_set_new(result, "fixes", fixes_json(run, diag));
	return result;
}

/* Every code there is, in order: an index into this list never changes within a version. */
static json_t *rules_json(const struct run *run)
{
	json_t *rules = json_array();
	for (const struct diag_page *page = diag_next_page(NULL); page; page = diag_next_page(page))
		json_array_append_new(rules,
				      json_pack("{s:s, s:{s:s}, s:{s:s}, s:{s:s}}", "id",
						arena_printf(run->arena, "M%04u", page->code), "shortDescription",
						"text", page->text, "fullDescription", "text", page->page,
						"defaultConfiguration", "level", levels[page->severity]));
	return rules;
}

static int rule_index(enum diag_code code)
{
	int index = 0;
	const struct diag_page *page = diag_next_page(NULL);
	for (; page && page->code != code; page = diag_next_page(page))
		index++;
	return index;
}

/* That it ran, and what is not among the results. */
static json_t *invocation_json(const struct run *run)
{
	const char *left_out = diags_left_out(&run->diags);
	json_t *notes = json_array();
	if (left_out)
		json_array_append_new(notes,
				      json_pack("{s:s, s:{s:s}}", "level", "error", "message", "text", left_out));
	return json_pack("{s:b, s:o}", "executionSuccessful", true, "toolExecutionNotifications", notes);
}

void findings_print_sarif(const struct run *run)
{
	json_t *results = json_array();
	for (size_t i = 0; i < run->diags.all.len; i++)
		json_array_append_new(results,
				      result_json(run, &run->diags.all.at[i], rule_index(run->diags.all.at[i].code)));
	json_t *log =
		json_pack("{s:s, s:s, s:[{s:{s:{s:s, s:s, s:o}}, s:[o], s:s, s:o}]}", "$schema",
			  "https://json.schemastore.org/sarif-2.1.0.json", "version", "2.1.0", "runs", "tool", "driver",
			  "name", "meshc", "version", MESHC_VERSION, "rules", rules_json(run), "invocations",
			  invocation_json(run), "columnKind", "unicodeCodePoints", "results", results);
	json_dumpf(log, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(log);
}

/* ---- GitHub ------------------------------------------------------------------------------------- */

/* Workflow commands escape what would end a property or the message. */
static void print_escaped(const char *text, bool property)
{
	for (; *text; text++)
		if (*text == '%' || *text == '\r' || *text == '\n' || (property && (*text == ':' || *text == ',')))
			printf("%%%02X", (unsigned char)*text);
		else
			putchar(*text);
}

void findings_print_github(const struct run *run)
{
	static const char *const commands[] = {"notice", "warning", "error"};
	for (size_t i = 0; i < run->diags.all.len; i++) {
		const struct diag *diag = &run->diags.all.at[i];
		uint32_t line, column;
		printf("::%s ", commands[diag->severity]);
		if (has_place(run, diag->spans[0])) {
			sources_place(&run->sources, diag->spans[0], &line, &column);
			fputs("file=", stdout);
			print_escaped(run->sources.files.at[diag->spans[0].file].name, true);
			printf(",line=%u,col=%u,", line, column);
		}
		printf("title=M%04d::", diag->code);
		print_escaped(diag->message, false);
		if (diag->note) {
			print_escaped("\n", false);
			print_escaped(diag->note, false);
		}
		putchar('\n');
	}
	if (run->diags.left_out)
		printf("::error ::%s\n", diags_left_out(&run->diags));
}
