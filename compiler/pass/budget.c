/* Programs are graphs of instructions without cycles: the longest path is found from the exits backwards. A
 * function's path is part of its caller's; a round of bpf_loop is its callback's, times the bound. */
#include "pass/budget.h"

#include "base/apart.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <gelf.h>
#include <linux/bpf.h>
#include <string.h>

#define NOWHERE UINT32_MAX

enum { DEPTH_LIMIT = 32, DEEPEST = 1 << 20, HELPER_LOOP = 181, RELOC_64_64 = 1, RELOC_64_32 = 10 };

enum progress { UNSEEN, OPEN, DONE };

struct function {
	const char *name, *section;
	uint32_t scn, first, count; /* instructions of section SCN */
	enum progress progress;
	uint64_t path;
	uint32_t open_loops, stack_bytes, frames;
	uint32_t stamp; /* of the program whose size is being counted */
};

struct code {
	const struct bpf_insn *at;
	uint32_t count;
	uint32_t *callee; /* of each instruction: a function, or NOWHERE */
};

struct reader {
	struct arena *arena;
	Elf *elf;
	size_t names;
	struct code *sections; /* by number; count 0: no code */
	size_t section_count;
	VEC(struct function) functions;
	const char *why;
};

static int refuse(struct reader *reader, const char *why)
{
	reader->why = why;
	return -EINVAL;
}

/* ---- The object -------------------------------------------------------------------------------------- */

static uint32_t function_at(const struct reader *reader, uint32_t scn, int64_t offset)
{
	for (uint32_t i = 0; i < reader->functions.len; i++)
		if (reader->functions.at[i].scn == scn &&
		    reader->functions.at[i].first * (int64_t)sizeof(struct bpf_insn) == offset)
			return i;
	return NOWHERE;
}

static void read_section(struct reader *reader, Elf_Scn *scn)
{
	GElf_Shdr head;
	Elf_Data *data = elf_getdata(scn, NULL);
	struct code *code = &reader->sections[elf_ndxscn(scn)];
	if (!gelf_getshdr(scn, &head) || !(head.sh_flags & SHF_EXECINSTR) || !data || !data->d_buf ||
	    data->d_size % sizeof(struct bpf_insn) || data->d_size >= UINT32_MAX)
		return;
	/* A file that somebody else made may have it at any offset. */
	struct bpf_insn *at = arena_alloc(reader->arena, data->d_size + 1);
	memcpy(at, data->d_buf, data->d_size);
	code->at = at;
	code->count = data->d_size / sizeof(struct bpf_insn);
	code->callee = arena_alloc(reader->arena, (code->count + 1) * sizeof(*code->callee));
	for (uint32_t i = 0; i < code->count; i++)
		code->callee[i] = NOWHERE;
}

static void read_functions(struct reader *reader, Elf_Scn *scn, const GElf_Shdr *table)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	GElf_Sym symbol;
	for (int i = 0; data && gelf_getsym(data, i, &symbol); i++) {
		GElf_Shdr head;
		if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx >= reader->section_count)
			continue;
		const struct code *code = &reader->sections[symbol.st_shndx];
		uint64_t first = symbol.st_value / sizeof(struct bpf_insn),
			 count = symbol.st_size / sizeof(struct bpf_insn);
		const char *name = elf_strptr(reader->elf, table->sh_link, symbol.st_name);
		const char *section = gelf_getshdr(elf_getscn(reader->elf, symbol.st_shndx), &head)
					      ? elf_strptr(reader->elf, reader->names, head.sh_name)
					      : NULL;
		if (name && section && count && first < code->count && count <= code->count - first)
			vec_push(reader->arena, &reader->functions,
				 (struct function){.name = arena_copy(reader->arena, name, strlen(name)),
						   .section = arena_copy(reader->arena, section, strlen(section)),
						   .scn = symbol.st_shndx,
						   .first = first,
						   .count = count});
	}
}

/* Calls and callbacks name their function by a relocation (libbpf.c, bpf_object__collect_prog_relos). */
static void read_relocations(struct reader *reader, Elf_Scn *scn, const GElf_Shdr *head)
{
	Elf_Data *data = elf_getdata(scn, NULL), *symbols = elf_getdata(elf_getscn(reader->elf, head->sh_link), NULL);
	GElf_Rel rel;
	GElf_Sym symbol;
	if (head->sh_info >= reader->section_count || !reader->sections[head->sh_info].count)
		return;
	struct code *code = &reader->sections[head->sh_info];
	for (int i = 0; data && symbols && gelf_getrel(data, i, &rel); i++) {
		uint64_t at = rel.r_offset / sizeof(struct bpf_insn);
		if (at >= code->count || !gelf_getsym(symbols, GELF_R_SYM(rel.r_info), &symbol))
			continue;
		if (GELF_R_TYPE(rel.r_info) == RELOC_64_32)
			code->callee[at] =
				function_at(reader, symbol.st_shndx,
					    symbol.st_value + (code->at[at].imm + 1LL) * sizeof(struct bpf_insn));
		else if (GELF_R_TYPE(rel.r_info) == RELOC_64_64)
			code->callee[at] =
				function_at(reader, symbol.st_shndx, symbol.st_value + (int64_t)code->at[at].imm);
	}
}

static void each_section(struct reader *reader, unsigned type,
			 void (*read)(struct reader *, Elf_Scn *, const GElf_Shdr *))
{
	GElf_Shdr head;
	for (Elf_Scn *scn = NULL; (scn = elf_nextscn(reader->elf, scn));)
		if (gelf_getshdr(scn, &head) && head.sh_type == type)
			read(reader, scn, &head);
}

static bool is_call(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_CALL) && insn->src_reg == BPF_PSEUDO_CALL;
}

/* A call within a section needs no relocation. */
static int bind_calls(struct reader *reader, uint32_t scn)
{
	struct code *code = &reader->sections[scn];
	for (uint32_t i = 0; i < code->count; i++) {
		if (is_call(&code->at[i]) && code->callee[i] == NOWHERE)
			code->callee[i] = function_at(reader, scn,
						      (i + 1LL + code->at[i].imm) * (int64_t)sizeof(struct bpf_insn));
		if (is_call(&code->at[i]) && code->callee[i] == NOWHERE)
			return refuse(reader, "a call to no function");
	}
	return 0;
}

static int read_object(struct reader *reader)
{
	int r = 0;
	if (elf_getshdrnum(reader->elf, &reader->section_count) || elf_getshdrstrndx(reader->elf, &reader->names))
		return refuse(reader, "no ELF object");
	reader->sections = arena_alloc(reader->arena, (reader->section_count + 1) * sizeof(*reader->sections));
	for (Elf_Scn *scn = NULL; (scn = elf_nextscn(reader->elf, scn));)
		read_section(reader, scn);
	each_section(reader, SHT_SYMTAB, read_functions);
	each_section(reader, SHT_REL, read_relocations);
	for (size_t i = 0; !r && i < reader->section_count; i++)
		r = bind_calls(reader, i);
	return r;
}

/* ---- Stack ------------------------------------------------------------------------------------------- */

static bool writes(const struct bpf_insn *insn, uint8_t reg)
{
	uint8_t class = BPF_CLASS(insn->code);
	return (class == BPF_ALU || class == BPF_ALU64 || class == BPF_LDX || class == BPF_LD) && insn->dst_reg == reg;
}

/* How deep the pointer goes that instruction AT copies from the frame pointer. */
static int32_t pointer_depth(const struct bpf_insn *at, const struct bpf_insn *end)
{
	uint8_t reg = at->dst_reg;
	for (const struct bpf_insn *next = at + 1; next < end && BPF_CLASS(next->code) != BPF_JMP; next++) {
		if (next->code == (BPF_ALU64 | BPF_ADD | BPF_K) && next->dst_reg == reg)
			return next->imm < 0 && next->imm > -DEEPEST ? -next->imm : 0;
		if (writes(next, reg))
			break;
	}
	return 0;
}

static uint32_t frame_bytes(const struct bpf_insn *at, uint32_t count)
{
	int32_t deepest = 1;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t class = BPF_CLASS(at[i].code);
		int32_t depth = 0;
		if ((class == BPF_LDX && at[i].src_reg == BPF_REG_10) ||
		    ((class == BPF_ST || class == BPF_STX) && at[i].dst_reg == BPF_REG_10))
			depth = -at[i].off;
		else if (at[i].code == (BPF_ALU64 | BPF_MOV | BPF_X) && at[i].src_reg == BPF_REG_10)
			depth = pointer_depth(&at[i], at + count);
		deepest = depth > deepest ? depth : deepest;
	}
	return (deepest + 31) / 32 * 32;
}

/* ---- The longest path -------------------------------------------------------------------------------- */

/* Where control goes behind instruction AT: at most two, each inside the function; -1: out of it. */
static int successors(const struct bpf_insn *at, uint32_t i, uint32_t count, uint32_t ret_next[2])
{
	uint8_t class = BPF_CLASS(at[i].code), op = BPF_OP(at[i].code);
	int64_t next[2] = {i + 1LL, -1};
	int n = 1;
	if (at[i].code == (BPF_LD | BPF_IMM | BPF_DW)) {
		next[0] = i + 2LL;
	} else if (class == BPF_JMP && op == BPF_EXIT) {
		n = 0;
	} else if ((class == BPF_JMP || class == BPF_JMP32) && op == BPF_JA) {
		next[0] = i + 1LL + (class == BPF_JMP ? at[i].off : at[i].imm);
	} else if ((class == BPF_JMP || class == BPF_JMP32) && op != BPF_CALL) {
		next[n++] = i + 1LL + at[i].off;
	}
	for (int k = 0; k < n; k++) {
		if (next[k] < 0 || next[k] >= count)
			return -1;
		ret_next[k] = next[k];
	}
	return n;
}

/* The bound of the bpf_loop at I and its callback: what was last written to r1 and r2 before it. Our code keeps
 * the bound in a constant or cuts it off at one right there; *ret_bound 0: it is known only when it runs. */
static uint32_t loop_at(const struct code *code, uint32_t first, uint32_t i, uint64_t *ret_bound)
{
	uint32_t callback = NOWHERE;
	bool bound_seen = false;
	*ret_bound = 0;
	while (i-- > first && !(bound_seen && callback != NOWHERE)) {
		const struct bpf_insn *insn = &code->at[i];
		if (callback == NOWHERE && insn->code == (BPF_LD | BPF_IMM | BPF_DW) && insn->dst_reg == BPF_REG_2)
			callback = code->callee[i];
		if (bound_seen || !writes(insn, BPF_REG_1))
			continue;
		bound_seen = true;
		if ((insn->code & ~0x07) == (BPF_MOV | BPF_K) && insn->imm > 0)
			*ret_bound = insn->imm;
	}
	return callback;
}

/* What instruction I costs; a function that it calls was measured. */
static uint64_t weight(struct reader *reader, struct function *function, uint32_t i)
{
	const struct code *code = &reader->sections[function->scn];
	const struct bpf_insn *insn = &code->at[function->first + i];
	uint64_t bound;
	if (is_call(insn))
		return 1 + reader->functions.at[code->callee[function->first + i]].path;
	if (insn->code != (BPF_JMP | BPF_CALL) || insn->src_reg || insn->imm != HELPER_LOOP)
		return 1;
	uint32_t callback = loop_at(code, function->first, function->first + i, &bound);
	function->open_loops += !bound || callback == NOWHERE;
	return 1 + (callback == NOWHERE ? 0 : (bound ? bound : 1) * reader->functions.at[callback].path);
}

static int longest_path(struct reader *reader, struct function *function)
{
	const struct bpf_insn *at = reader->sections[function->scn].at + function->first;
	uint64_t *path = arena_alloc(reader->arena, function->count * sizeof(*path));
	uint8_t *progress = arena_alloc(reader->arena, function->count);
	uint32_t *todo = arena_alloc(reader->arena, (function->count + 1) * sizeof(*todo)), depth = 0;
	todo[depth++] = 0;
	while (depth) {
		uint32_t i = todo[depth - 1], next[2];
		int n = successors(at, i, function->count, next), waits = -1;
		if (n < 0)
			return refuse(reader, "a jump out of a function");
		progress[i] = OPEN;
		for (int k = 0; k < n; k++) {
			if (progress[next[k]] == OPEN)
				return refuse(reader, "a loop that is none of bpf_loop's");
			waits = progress[next[k]] == UNSEEN ? k : waits;
			path[i] = path[next[k]] > path[i] ? path[next[k]] : path[i];
		}
		if (waits >= 0) {
			todo[depth++] = next[waits];
			continue;
		}
		path[i] += weight(reader, function, i);
		progress[i] = DONE;
		depth--;
	}
	function->path = path[0];
	return 0;
}

static int measure(struct reader *reader, uint32_t number, uint32_t depth)
{
	struct function *function = &reader->functions.at[number];
	const struct code *code = &reader->sections[function->scn];
	uint32_t frame = frame_bytes(code->at + function->first, function->count);
	if (function->progress == DONE)
		return 0;
	if (function->progress == OPEN || depth > DEPTH_LIMIT)
		return refuse(reader, "a function that calls itself");
	function->progress = OPEN;
	function->stack_bytes = frame;
	function->frames = 1;
	for (uint32_t i = function->first; i < function->first + function->count; i++) {
		if (code->callee[i] == NOWHERE)
			continue;
		int r = measure(reader, code->callee[i], depth + 1);
		if (r)
			return r;
		const struct function *callee = &reader->functions.at[code->callee[i]];
		if (frame + callee->stack_bytes > function->stack_bytes) {
			function->stack_bytes = frame + callee->stack_bytes;
			function->frames = 1 + callee->frames;
		}
	}
	function->progress = DONE;
	return longest_path(reader, function);
}

/* Each function that NUMBER reaches, once. */
static void count_all(struct reader *reader, uint32_t number, uint32_t stamp, struct budget_program *program)
{
	struct function *function = &reader->functions.at[number];
	const struct code *code = &reader->sections[function->scn];
	if (function->stamp == stamp)
		return;
	function->stamp = stamp;
	program->instructions += function->count;
	program->open_loops += function->open_loops;
	for (uint32_t i = function->first; i < function->first + function->count; i++)
		if (code->callee[i] != NOWHERE)
			count_all(reader, code->callee[i], stamp, program);
}

/* ---- Maps -------------------------------------------------------------------------------------------- */

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

/* kernel/bpf/arraymap.c, hashtab.c (struct htab_elem: 48 bytes, a bucket: 16), ringbuf.c; 6.1. */
static uint64_t map_bytes(const struct bpf_map *map)
{
	uint64_t entries = bpf_map__max_entries(map), value = round_up(bpf_map__value_size(map), 8), buckets = 1;
	switch (bpf_map__type(map)) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
		while (buckets < entries)
			buckets *= 2;
		return entries * (48 + round_up(bpf_map__key_size(map), 8) + value) + buckets * 16;
	case BPF_MAP_TYPE_RINGBUF:
		return entries + 3 * 4096;
	case BPF_MAP_TYPE_SK_STORAGE:
		return 0;
	case BPF_MAP_TYPE_ARRAY:
		return bpf_map__map_flags(map) & BPF_F_MMAPABLE ? round_up(entries * value, 4096) : entries * value;
	default:
		return entries * value;
	}
}

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level, (void)format, (void)args;
	return 0;
}

/* A generation's own maps (runtime/generation.c); the others are the node's. */
static bool map_is_own(const char *name)
{
	static const char *const own[] = {"classes", "vips", "backends", "ids", "vectors", "answers"};
	for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (strcmp(name, own[i]) == 0)
			return true;
	return strstr(name, ".rodata") || strstr(name, ".data") || strstr(name, ".bss");
}

struct opening {
	const void *object;
	size_t len;
};

static void try_open(void *context, struct apart *ret)
{
	const struct opening *opening = context;
	libbpf_set_print(silent);
	struct bpf_object *opened = bpf_object__open_mem(opening->object, opening->len, NULL);
	ret->result = opened ? 0 : -EINVAL;
	bpf_object__close(opened);
}

static int read_maps(struct reader *reader, const void *object, size_t len, struct budget *budget)
{
	const struct bpf_map *map;
	/* libbpf 1.1.2 does not survive every broken BTF. */
	if (apart_run(try_open, &(struct opening){object, len}, NULL, NULL))
		return refuse(reader, "libbpf cannot open the object");
	libbpf_print_fn_t before = libbpf_set_print(silent);
	struct bpf_object *opened = bpf_object__open_mem(object, len, NULL);
	libbpf_set_print(before);
	if (!opened)
		return refuse(reader, "libbpf cannot open the object");
	bpf_object__for_each_map (map, opened) {
		const char *name = bpf_map__name(map), *type = libbpf_bpf_map_type_str(bpf_map__type(map));
		bool own = map_is_own(name);
		name = strstr(name, ".rodata") ? ".rodata" : name;
		vec_push(reader->arena, &budget->maps,
			 (struct budget_map){.name = arena_copy(reader->arena, name, strlen(name)),
					     .type = type ? type : "unknown",
					     .entries = bpf_map__max_entries(map),
					     .bytes = map_bytes(map),
					     .shared = !own});
	}
	bpf_object__close(opened);
	return 0;
}

/* ---- All of it --------------------------------------------------------------------------------------- */

static int read_programs(struct reader *reader, struct budget *budget)
{
	int r = read_object(reader);
	for (uint32_t i = 0; !r && i < reader->functions.len; i++) {
		const struct function *function = &reader->functions.at[i];
		r = measure(reader, i, 0);
		if (r || strcmp(function->section, ".text") == 0)
			continue;
		struct budget_program program = {.name = function->name,
						 .hook = function->section,
						 .path = function->path,
						 .stack_bytes = function->stack_bytes,
						 .frames = function->frames};
		count_all(reader, i, i + 1, &program);
		vec_push(reader->arena, &budget->programs, program);
	}
	return r ? r : budget->programs.len ? 0 : refuse(reader, "no program in it");
}

int budget_read(struct arena *arena, const void *object, size_t len, struct budget *ret_budget, const char **ret_why)
{
	struct reader reader = {.arena = arena, .why = "no ELF object"};
	struct budget budget = {0};
	int r = -EINVAL;
	elf_version(EV_CURRENT);
	/* libelf does not write what it reads. */
	reader.elf = elf_memory((char *)(uintptr_t)object, len);
	if (reader.elf)
		r = read_programs(&reader, &budget);
	if (!r)
		r = read_maps(&reader, object, len, &budget);
	elf_end(reader.elf);
	*ret_why = reader.why;
	if (!r)
		*ret_budget = budget;
	return r;
}
