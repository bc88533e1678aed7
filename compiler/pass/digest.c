#include "pass/digest.h"

#include "pass/render.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static void add(EVP_MD_CTX *hash, const void *bytes, size_t len)
{
	EVP_DigestUpdate(hash, bytes, len);
}

static void add_number(EVP_MD_CTX *hash, uint64_t number)
{
	unsigned char bytes[8];
	for (int i = 0; i < 8; i++)
		bytes[i] = number >> (8 * i);
	add(hash, bytes, sizeof(bytes));
}

/* With its length: "ab","c" and "a","bc" differ. */
static void add_text(EVP_MD_CTX *hash, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	add_number(hash, text ? len + 1 : 0);
	add(hash, text ? text : "", len);
}

static void add_json(EVP_MD_CTX *hash, const json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	add_text(hash, text);
	free(text);
}

static void add_set(EVP_MD_CTX *hash, const struct range_set *set)
{
	add_number(hash, set->count);
	for (uint32_t i = 0; i < set->count; i++) {
		add_number(hash, set->at[i].lo);
		add_number(hash, set->at[i].hi);
	}
}

static void add_rects(EVP_MD_CTX *hash, const struct policy_rect *rects, size_t count)
{
	add_number(hash, count);
	for (size_t i = 0; i < count; i++) {
		add_set(hash, &rects[i].classes);
		add_set(hash, &rects[i].blocks);
	}
}

static void add_sources(EVP_MD_CTX *hash, const struct policy_sources *sources)
{
	add_rects(hash, sources->in.at, sources->in.len);
	add_rects(hash, sources->out.at, sources->out.len);
}

static void add_targets(EVP_MD_CTX *hash, const struct policy_target *targets, size_t count)
{
	add_number(hash, count);
	for (size_t i = 0; i < count; i++) {
		add_set(hash, &targets[i].classes);
		add_number(hash, targets[i].declared | targets[i].tcp << 1 | targets[i].udp << 2);
		add_set(hash, &targets[i].ports);
	}
}

/* ---- Conditions: neither the order nor the brackets of a chain of `and` or `or` leave a trace ------ */

struct texts {
	const char **at;
	size_t len, cap;
};

static int text_compare(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* With its length, as add_text. */
static const char *atom_text(struct arena *arena, const struct cond *cond)
{
	const char *key = cond->key ? cond->key : "";
	const char *text = arena_printf(arena, "%d %d %zu:%s", cond->field, cond->op, strlen(key), key);
	for (size_t i = 0; i < cond->values.len; i++)
		text = arena_printf(arena, "%s %zu:%s", text, strlen(cond->values.at[i]), cond->values.at[i]);
	for (size_t i = 0; i < cond->numbers.len; i++)
		text = arena_printf(arena, "%s %u-%u", text, cond->numbers.at[i].lo, cond->numbers.at[i].hi);
	return text;
}

static const char *cond_text(struct arena *arena, const struct cond *cond);

static void chain_texts(struct arena *arena, const struct cond *cond, enum cond_kind kind, struct texts *texts)
{
	if (cond->kind != kind) {
		vec_push(arena, texts, cond_text(arena, cond));
		return;
	}
	chain_texts(arena, cond->left, kind, texts);
	chain_texts(arena, cond->right, kind, texts);
}

static const char *cond_text(struct arena *arena, const struct cond *cond)
{
	struct texts texts = {0};
	if (cond->kind == COND_ATOM)
		return atom_text(arena, cond);
	if (cond->kind == COND_NOT)
		return arena_printf(arena, "not(%s)", cond_text(arena, cond->left));
	chain_texts(arena, cond, cond->kind, &texts);
	qsort(texts.at, texts.len, sizeof(*texts.at), text_compare);
	size_t len = 0;
	for (size_t i = 0; i < texts.len; i++)
		len += strlen(texts.at[i]) + 1;
	char *text = arena_alloc(arena, len + 8), *end = text + sprintf(text, cond->kind == COND_AND ? "and(" : "or(");
	for (size_t i = 0; i < texts.len; i++)
		end = stpcpy(stpcpy(end, texts.at[i]), i + 1 < texts.len ? "," : ")");
	return text;
}

const char *digest_condition(struct arena *arena, const struct cond *cond)
{
	return cond ? cond_text(arena, cond) : "";
}

static void add_cond(EVP_MD_CTX *hash, struct arena *arena, const struct cond *cond)
{
	add_text(hash, cond ? cond_text(arena, cond) : NULL);
}

/* ---- The policy ----------------------------------------------------------------------------------- */

static void add_universe(EVP_MD_CTX *hash, const struct policy *policy)
{
	add_text(hash, policy->mesh);
	add_text(hash, policy->trust);
	for (size_t i = 0; i < policy->classes.len; i++) {
		add_number(hash, policy->classes.at[i].kind);
		add_text(hash, policy->classes.at[i].name);
		add_text(hash, policy->classes.at[i].spiffe);
		add_number(hash, policy->defaults.at[i]);
	}
	for (size_t i = 0; i < policy->intervals.len; i++) {
		add(hash, policy->intervals.at[i].first, 16);
		add_number(hash, policy->intervals.at[i].block);
	}
	for (size_t i = 0; i < policy->mtls.len; i++) {
		add_number(hash, policy->mtls.at[i].mode);
		add_set(hash, &policy->mtls.at[i].classes);
		add_number(hash, policy->mtls.at[i].port);
	}
}

static void add_service(EVP_MD_CTX *hash, const struct policy_service *service)
{
	add_json(hash, service->selector);
	add_text(hash, service->account);
	add_number(hash, service->sticky);
	for (size_t i = 0; i < service->addresses.len; i++)
		add_text(hash, service->addresses.at[i]);
	for (size_t i = 0; i < service->ports.len; i++) {
		const struct policy_port *port = &service->ports.at[i];
		add_number(hash, port->kind | (uint64_t)port->lo << 8 | (uint64_t)port->hi << 24 |
					 (uint64_t)port->target << 40);
	}
	for (size_t i = 0; i < service->subsets.len; i++) {
		add_text(hash, service->subsets.at[i].name);
		add_json(hash, service->subsets.at[i].selector);
	}
}

static void add_arm(EVP_MD_CTX *hash, struct arena *arena, const struct policy_arm *arm)
{
	add_number(hash, arm->service);
	add_number(hash, arm->per_connection);
	add_sources(hash, &arm->from);
	add_cond(hash, arena, arm->when);
	for (size_t i = 0; i < arm->splits.len; i++) {
		add_text(hash, arm->splits.at[i].subset);
		add_number(hash, arm->splits.at[i].weight);
	}
}

const char *policy_digest(struct run *run)
{
	const struct policy *policy = run->policy;
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	unsigned char bytes[32];
	char text[65];
	if (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
		abort();
	for (const struct template_file *file = template_files; file->name; file++)
		add_text(hash, file->text);
	add_universe(hash, policy);
	for (size_t i = 0; i < policy->services.len; i++)
		add_service(hash, &policy->services.at[i]);
	for (size_t i = 0; i < policy->rules.len; i++) {
		const struct policy_rule *rule = &policy->rules.at[i];
		add_text(hash, rule->name);
		add_number(hash, rule->effect);
		add_sources(hash, &rule->from);
		add_targets(hash, rule->to.in.at, rule->to.in.len);
		add_targets(hash, rule->to.out.at, rule->to.out.len);
		add_cond(hash, run->arena, rule->when);
	}
	for (size_t i = 0; i < policy->arms.len; i++)
		add_arm(hash, run->arena, &policy->arms.at[i]);
	EVP_DigestFinal_ex(hash, bytes, NULL);
	EVP_MD_CTX_free(hash);
	for (int i = 0; i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return arena_printf(run->arena, "sha256:%s", text);
}
