/* The fewest words of the policy that mean exactly a set of sources, destinations or ports. */
#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/diff.h"

/* A set of things and the words that there are for parts of it. */
struct candidate {
	const char *word;
	uint32_t *members, count;
};
struct naming {
	struct arena *arena;
	size_t size;
	bool *in; /* what must be named */
	bool *is; /* what there is */
	const char **names;
	VEC(struct candidate) candidates; /* largest first */
};

static void add_word(struct diff_words *words, struct arena *arena, const char *word)
{
	vec_push(arena, &words->at, word);
}

static const char *name_text(struct arena *arena, const char *name)
{
	struct text text = {.arena = arena};
	ast_print_name(&text, name);
	return text_end(&text);
}

/* Candidates whose members are all wanted, as long as they name something new. */
static struct diff_words cover(const struct naming *naming, bool inside)
{
	struct diff_words words = {0};
	bool *left = arena_alloc(naming->arena, naming->size + 1);
	for (size_t i = 0; i < naming->size; i++)
		left[i] = naming->is[i] && naming->in[i] == inside;
	for (size_t i = 0; i < naming->candidates.len; i++) {
		const struct candidate *candidate = &naming->candidates.at[i];
		uint32_t fresh = 0, all = 0;
		for (uint32_t k = 0; k < candidate->count; k++) {
			fresh += left[candidate->members[k]];
			all += naming->in[candidate->members[k]] == inside;
		}
		if (all < candidate->count || fresh < 2)
			continue;
		add_word(&words, naming->arena, candidate->word);
		for (uint32_t k = 0; k < candidate->count; k++)
			left[candidate->members[k]] = false;
	}
	for (size_t i = 0; i < naming->size; i++)
		if (left[i])
			add_word(&words, naming->arena, naming->names[i]);
	return words;
}

static const char *joined(struct arena *arena, const char *before, const struct diff_words *words)
{
	for (size_t i = 0; i < words->at.len; i++)
		before = arena_printf(arena, "%s%s%s", before, i ? ", " : "", words->at.at[i]);
	return before;
}

/* All of them: "any"; all but a few: "any except ..."; else one by one. */
static struct diff_words shortest(const struct naming *naming)
{
	struct diff_words in = cover(naming, true), out = cover(naming, false), any = {0};
	if (out.at.len + 1 >= in.at.len && out.at.len)
		return in;
	add_word(&any, naming->arena, out.at.len ? joined(naming->arena, "any except ", &out) : "any");
	return any;
}

static void add_candidate(struct naming *naming, const char *word, const struct candidate *members)
{
	struct candidate candidate = {word, members->members, members->count};
	size_t i = naming->candidates.len;
	if (candidate.count < 2)
		return;
	vec_push(naming->arena, &naming->candidates, candidate);
	for (; i && naming->candidates.at[i - 1].count < candidate.count; i--)
		naming->candidates.at[i] = naming->candidates.at[i - 1];
	naming->candidates.at[i] = candidate;
}

/* ---- Sources -------------------------------------------------------------------------------------- */

static void add_spaces(struct diff *diff, struct naming *naming, bool targets)
{
	const struct pair *pair = diff->pair;
	size_t classes = pair->sources.len;
	for (uint32_t space = 0; space < classes; space++) {
		const struct pair_source *source = &pair->sources.at[space];
		struct candidate members = {.members = arena_alloc(diff->arena, classes * sizeof(uint32_t))};
		if (source->kind != CLASS_NAMESPACE)
			continue;
		for (uint32_t i = 0; i < (targets ? pair->targets.len : classes); i++) {
			uint32_t class =
				!targets ? i : pair->targets.at[i].dst[pair->targets.at[i].known[NEW] ? NEW : OLD];
			if (targets && pair->targets.at[i].kind != CLASS_SERVICE &&
			    pair->targets.at[i].kind != CLASS_NAMESPACE)
				continue;
			const char *ns = pair->runs[NEW]->policy->classes.at[class].ns;
			if (ns && strcmp(ns, source->ns) == 0)
				members.members[members.count++] = i;
		}
		const char *word = arena_printf(diff->arena, "namespace %s", name_text(diff->arena, source->ns));
		add_candidate(naming, word, &members);
		if (members.count == 1)
			naming->names[members.members[0]] = word;
	}
}

static uint32_t target_of(const struct pair *pair, enum side side, uint32_t class)
{
	for (uint32_t i = 0; i < pair->targets.len; i++)
		if (pair->targets.at[i].known[side] && pair->targets.at[i].dst[side] == class)
			return i;
	return UINT32_MAX;
}

/* Groups of the new policy; of the old one what the new does not say. */
static void add_groups(struct diff *diff, struct naming *naming, bool targets)
{
	for (int side = NEW; side >= OLD; side--) {
		struct ast *ast = diff->pair->runs[side]->ast;
		for (struct ast_decl *decl = ast->first; decl; decl = decl->next) {
			size_t count = 0;
			const char *name =
				decl->kind == DECL_GROUP ? ast_qualified(diff->arena, decl->ns, decl->name.text) : NULL;
			if (!name || (side == OLD && table_get(&diff->pair->runs[NEW]->ast->names, name)))
				continue;
			struct ast_decl **leaves = ast_leaves(diff->arena, ast, decl, &count);
			struct candidate members = {.members =
							    arena_alloc(diff->arena, (count + 1) * sizeof(uint32_t))};
			bool fits = true;
			for (size_t i = 0; i < count && fits; i++) {
				fits = leaves[i]->kind == DECL_SERVICE ||
				       (leaves[i]->kind == DECL_IDENTITY && !targets);
				if (fits)
					members.members[members.count++] =
						targets ? target_of(diff->pair, side, leaves[i]->number)
							: leaves[i]->number;
			}
			if (fits)
				add_candidate(naming, name_text(diff->arena, name), &members);
		}
	}
}

static const char *source_name(struct diff *diff, const struct pair_source *source)
{
	if (source->kind == CLASS_NAMESPACE)
		return arena_printf(diff->arena, "%s/-", name_text(diff->arena, source->ns));
	bool plain = source->kind <= CLASS_CONFLICT || strncmp(source->name, "spiffe:", 7) == 0;
	return plain ? source->name : name_text(diff->arena, source->name);
}

static struct naming *naming_of(struct diff *diff, size_t size)
{
	struct naming *naming = arena_alloc(diff->arena, sizeof(*naming));
	*naming = (struct naming){.arena = diff->arena, .size = size};
	naming->in = arena_alloc(diff->arena, size + 1);
	naming->is = arena_alloc(diff->arena, size + 1);
	naming->names = arena_alloc(diff->arena, (size + 1) * sizeof(*naming->names));
	return naming;
}

/* Made once: the words are the same for every group. */
static struct naming *source_naming(struct diff *diff)
{
	if (diff->source_naming)
		return diff->source_naming;
	struct naming *naming = diff->source_naming = naming_of(diff, diff->pair->sources.len);
	for (size_t i = 0; i < naming->size; i++) {
		naming->names[i] = source_name(diff, &diff->pair->sources.at[i]);
		naming->is[i] = i != CLASS_UNKNOWN && i != CLASS_CONFLICT;
	}
	add_spaces(diff, naming, false);
	add_groups(diff, naming, false);
	return naming;
}

static struct naming *target_naming(struct diff *diff)
{
	const struct pair *pair = diff->pair;
	if (diff->target_naming)
		return diff->target_naming;
	struct naming *naming = diff->target_naming = naming_of(diff, pair->targets.len);
	for (size_t i = 0; i < naming->size; i++) {
		const struct pair_target *target = &pair->targets.at[i];
		naming->is[i] = true;
		naming->names[i] = target->kind == CLASS_SERVICE ? name_text(diff->arena, target->name)
				   : target->kind == CLASS_NAMESPACE
					   ? source_name(diff, &pair->sources.at[target->dst[NEW]])
					   : target->name;
	}
	add_spaces(diff, naming, true);
	add_groups(diff, naming, true);
	return naming;
}

/* ---- Blocks ----------------------------------------------------------------------------------------- */

static const char *interval_text(struct diff *diff, size_t from, size_t to)
{
	const struct policy *policy = diff->pair->runs[NEW]->policy;
	struct address_range range = {0}, last = {.hi = ~(unsigned __int128)0};
	for (int i = 0; i < 16; i++) {
		range.lo = range.lo << 8 | policy->intervals.at[from].first[i];
		if (to < policy->intervals.len)
			last.lo = last.lo << 8 | policy->intervals.at[to].first[i];
	}
	last.lo = last.hi = to < policy->intervals.len ? last.lo - 1 : last.hi;
	range.hi = range.lo;
	range.is_v6 = range.lo >> 32 != 0xffff;
	last.is_v6 = last.lo >> 32 != 0xffff;
	return range.lo == last.lo ? address_print(diff->arena, &range)
				   : arena_printf(diff->arena, "%s-%s", address_print(diff->arena, &range),
						  address_print(diff->arena, &last));
}

/* What no name says: the ranges themselves. */
static struct diff_words block_ranges(struct diff *diff, const bool *in)
{
	const struct policy *policy = diff->pair->runs[NEW]->policy;
	struct diff_words words = {0};
	for (size_t i = 0, end; i < policy->intervals.len; i = end) {
		for (end = i; end < policy->intervals.len &&
			      in[policy->intervals.at[end].block] == in[policy->intervals.at[i].block];)
			end++;
		if (in[policy->intervals.at[i].block])
			add_word(&words, diff->arena, interval_text(diff, i, end));
	}
	return words;
}

/* Cidrs of the new policy; of the old one what the new does not say. */
static void add_cidrs(struct diff *diff, struct naming *naming)
{
	for (int side = NEW; side >= OLD; side--)
		for (size_t i = 0; i < diff->pair->cidrs[side].len; i++) {
			const struct pair_cidr *cidr = &diff->pair->cidrs[side].at[i];
			if (side == OLD && table_get(&diff->pair->runs[NEW]->ast->names, cidr->name))
				continue;
			vec_push(diff->arena, &naming->candidates,
				 (struct candidate){name_text(diff->arena, cidr->name), cidr->blocks, cidr->count});
		}
}

/* As cover, but a block has no name of its own: what no cidr names is left in LEFT. */
static void cover_blocks(const struct naming *naming, bool inside, struct diff_words *ret_words, bool *left)
{
	for (size_t i = 0; i < naming->size; i++)
		left[i] = naming->in[i] == inside;
	for (size_t i = 0; i < naming->candidates.len; i++) {
		const struct candidate *candidate = &naming->candidates.at[i];
		bool fits = true, fresh = false;
		for (uint32_t k = 0; k < candidate->count; k++) {
			fits &= naming->in[candidate->members[k]] == inside;
			fresh |= left[candidate->members[k]];
		}
		if (!fits || !fresh)
			continue;
		add_word(ret_words, naming->arena, candidate->word);
		for (uint32_t k = 0; k < candidate->count; k++)
			left[candidate->members[k]] = false;
	}
}

/* Cidrs by name, then ranges. Block 0 is where no cidr is, and whose address nobody knows: where it is
 * among them, all but what is not. */
static struct diff_words block_words(struct diff *diff, node_id blocks)
{
	size_t size = diff->pair->runs[NEW]->policy->blocks;
	struct naming naming = {.arena = diff->arena, .size = size, .in = arena_alloc(diff->arena, size + 1)};
	struct diff_words words = {0}, except = {0};
	bool *left = arena_alloc(diff->arena, size + 1);
	for (size_t i = 0; i < size; i++)
		naming.in[i] = diff_has_block(diff, blocks, i);
	bool inside = !naming.in[0];
	add_cidrs(diff, &naming);
	cover_blocks(&naming, inside, &words, left);
	struct diff_words ranges = block_ranges(diff, left);
	for (size_t i = 0; i < ranges.at.len; i++)
		add_word(&words, diff->arena, ranges.at.at[i]);
	if (inside)
		return words;
	add_word(&except, diff->arena, joined(diff->arena, "any except ", &words));
	return except;
}

/* ---- Both --------------------------------------------------------------------------------------------- */

/* Those in BLOCKS alone. Who is everywhere may be named again: "frontend, office" is what one writes. */
static void add_source_words(struct diff *diff, struct diff_words *all, node_id sources, node_id blocks)
{
	struct naming *naming = source_naming(diff);
	struct diff_words where = {0};
	bool everybody = true, everywhere = blocks == diagram_yes(diff->builder);
	for (uint32_t i = 0; i < naming->size; i++) {
		node_id mine = naming->is[i] ? diff_blocks_of(diff, sources, i) : diagram_no(diff->builder);
		naming->in[i] = naming->is[i] && mine == blocks;
		everybody &= !naming->is[i] || mine == blocks || mine == diagram_yes(diff->builder);
	}
	struct diff_words words = shortest(naming);
	if (!everywhere)
		where = block_words(diff, blocks);
	if (!everywhere && everybody && strncmp(where.at.at[0], "any", 3) != 0)
		words = where; /* a cidr means whoever is in it */
	else if (!everywhere) {
		const char *who = everybody ? "any" : joined(diff->arena, "", &words);
		words = (struct diff_words){0};
		add_word(&words, diff->arena,
			 arena_printf(diff->arena, "%s at %s", who, joined(diff->arena, "", &where)));
	}
	for (size_t i = 0; i < words.at.len; i++)
		add_word(all, diff->arena, words.at.at[i]);
}

struct diff_words diff_source_words(struct diff *diff, node_id sources)
{
	struct diff_words all = {0};
	struct naming *naming = source_naming(diff);
	node_id yes = diagram_yes(diff->builder), no = diagram_no(diff->builder);
	VEC(node_id) done = {0};
	for (uint32_t first = CLASS_WORLD; first < naming->size; first++)
		if (naming->is[first] && diff_blocks_of(diff, sources, first) == yes) {
			add_source_words(diff, &all, sources, yes);
			break;
		}
	for (uint32_t first = CLASS_WORLD; first < naming->size; first++) {
		node_id blocks = naming->is[first] ? diff_blocks_of(diff, sources, first) : no;
		bool told = blocks == no || blocks == yes;
		for (size_t i = 0; i < done.len; i++)
			told |= done.at[i] == blocks;
		if (told)
			continue;
		add_source_words(diff, &all, sources, blocks);
		vec_push(diff->arena, &done, blocks);
	}
	return all;
}

struct diff_words diff_target_words(struct diff *diff, const struct diff_group *group)
{
	struct naming *naming = target_naming(diff);
	memset(naming->in, 0, naming->size);
	for (size_t i = 0; i < group->targets.len; i++)
		naming->in[group->targets.at[i]] = true;
	return shortest(naming);
}

static void add_ports(struct diff *diff, struct diff_words *words, const char *protocol, const struct range *at,
		      size_t len)
{
	if (len == 1 && at[0].lo == 1 && at[0].hi == 65535) {
		add_word(words, diff->arena, protocol);
		return;
	}
	for (size_t i = 0; i < len; i++)
		add_word(words, diff->arena,
			 at[i].lo == at[i].hi ? arena_printf(diff->arena, "%s %u", protocol, at[i].lo)
					      : arena_printf(diff->arena, "%s %u..%u", protocol, at[i].lo, at[i].hi));
}

struct diff_words diff_port_words(struct diff *diff, const struct diff_ports *ports)
{
	struct diff_words words = {0};
	add_ports(diff, &words, "tcp", ports->tcp.at, ports->tcp.len);
	add_ports(diff, &words, "udp", ports->udp.at, ports->udp.len);
	return words;
}

const char *diff_condition(struct diff *diff, enum side side, uint32_t by)
{
	const struct run *run = diff->pair->runs[side];
	if (by >= DIFF_MALFORMED)
		return NULL;
	const char *name = run->policy->rules.at[by >= TERMINAL_ALLOW ? by - TERMINAL_ALLOW : by].name;
	const struct ast_decl *decl = table_get(&run->ast->rules, name);
	struct text text = {.arena = diff->arena};
	if (!decl || !decl->when)
		return NULL;
	ast_print_expr(&text, decl->when);
	return text_end(&text);
}
