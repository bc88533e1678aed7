/* Sections, symbols and instructions of a policy's object. libbpf does what an object asks for: fill in
 * kernel functions, kernel variables, Kconfig, descriptors of this very process. So what asks is refused
 * before libbpf reads it. */
#include "accept_object.h"

#include "base/bundle.h"

#include <elf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { LIMIT_RODATA_BYTES = 64 << 20 };

struct object {
	const uint8_t *bytes;
	size_t len;
	const Elf64_Ehdr *header;
	const Elf64_Shdr *sections;
	struct why *why;
};

/* ---- Sections ------------------------------------------------------------------------------------- */

static const void *section_bytes(const struct object *object, const Elf64_Shdr *section)
{
	if (section->sh_offset > object->len || section->sh_size > object->len - section->sh_offset)
		return NULL;
	return object->bytes + section->sh_offset;
}

static const char *section_name(const struct object *object, const Elf64_Shdr *section)
{
	const Elf64_Shdr *strings = &object->sections[object->header->e_shstrndx];
	const char *names = section_bytes(object, strings);
	if (!names || section->sh_name >= strings->sh_size ||
	    !memchr(names + section->sh_name, 0, strings->sh_size - section->sh_name))
		return NULL;
	return names + section->sh_name;
}

static bool is_code(const char *name)
{
	for (int i = 0; i < ACCEPT_PROGRAMS; i++)
		if (strcmp(accept_programs[i].section, name) == 0)
			return true;
	return strcmp(name, ".text") == 0;
}

static bool is_debug(const char *name)
{
	return strncmp(name, ".debug_", 7) == 0;
}

static bool is_data(const char *name)
{
	static const char *const known[] = {".rodata",	    "license",	     ".maps",	      ".BTF",
					    ".BTF.ext",	    ".llvm_addrsig", BUNDLE_MANIFEST, BUNDLE_WHERE,
					    BUNDLE_VECTORS, BUNDLE_SOURCE,   BUNDLE_SIGNATURE};
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(known[i], name) == 0)
			return true;
	return is_debug(name);
}

/* Relocations change code and type information, never data. */
static bool is_relocation(const char *name)
{
	if (strncmp(name, ".rel", 4) != 0)
		return false;
	name += 4;
	return is_code(name) || is_debug(name) || strcmp(name, ".BTF") == 0 || strcmp(name, ".BTF.ext") == 0;
}

static bool has_type(const char *name, uint32_t type)
{
	if (strcmp(name, ".symtab") == 0)
		return type == SHT_SYMTAB;
	if (strcmp(name, ".strtab") == 0 || strcmp(name, ".shstrtab") == 0)
		return type == SHT_STRTAB;
	if (is_relocation(name))
		return type == SHT_REL;
	if (strcmp(name, ".llvm_addrsig") == 0)
		return type == SHT_PROGBITS || type == 0x6fff4c03; /* SHT_LLVM_ADDRSIG */
	return (is_code(name) || is_data(name)) && type == SHT_PROGBITS;
}

static int check_section(const struct object *object, unsigned index)
{
	const Elf64_Shdr *section = &object->sections[index];
	const char *name = section_name(object, section);
	if (!index)
		return section->sh_type == SHT_NULL
			       ? 0
			       : why_set(object->why, -EINVAL, "the object's section 0 is not empty");
	if (!name || !*name || !section_bytes(object, section))
		return why_set(object->why, -EINVAL,
			       "the object's section %u lies outside of the file, or has no name: damaged", index);
	if (!has_type(name, section->sh_type))
		return why_set(object->why, -EINVAL, "the object has a section '%.60s' (type %u), which no policy has",
			       name, section->sh_type);
	if (is_code(name) != !!(section->sh_flags & SHF_EXECINSTR))
		return why_set(object->why, -EINVAL, "the object's section '%.60s' has the wrong flags", name);
	if (strcmp(name, ".rodata") == 0 && (section->sh_size > LIMIT_RODATA_BYTES || section->sh_flags & SHF_WRITE))
		return why_set(object->why, -EINVAL, "the object's .rodata is writable, or larger than %d MiB",
			       LIMIT_RODATA_BYTES >> 20);
	/* Two of one name would let libbpf load one and us look at the other. */
	for (unsigned i = 1; i < index; i++) {
		const char *other = section_name(object, &object->sections[i]);
		if (other && strcmp(other, name) == 0)
			return why_set(object->why, -EINVAL, "the object has two sections '%.60s'", name);
	}
	return 0;
}

/* ---- Symbols -------------------------------------------------------------------------------------- */

/* What is not defined here would be taken from the kernel: its functions, variables, Kconfig. */
static int check_symbols(const struct object *object, const Elf64_Shdr *section)
{
	const uint8_t *bytes = section_bytes(object, section);
	size_t count = section->sh_size / sizeof(Elf64_Sym);
	if (section->sh_size % sizeof(Elf64_Sym) || section->sh_link >= object->header->e_shnum)
		return why_set(object->why, -EINVAL, "the object's symbol table is damaged");
	for (size_t i = 1; i < count; i++) {
		Elf64_Sym symbol;
		memcpy(&symbol, bytes + i * sizeof(symbol), sizeof(symbol));
		if (symbol.st_shndx == SHN_UNDEF)
			return why_set(object->why, -EINVAL,
				       "the object uses a symbol of the kernel (symbol %zu): no policy does", i);
		if (symbol.st_shndx >= object->header->e_shnum && symbol.st_shndx != SHN_ABS)
			return why_set(object->why, -EINVAL, "the object's symbol %zu is in no section", i);
	}
	return 0;
}

/* ---- Instructions --------------------------------------------------------------------------------- */

/* Those of bpf-templates: a policy looks up, decides, counts, reports. It calls no other program, reads
 * no kernel memory and changes no packet. */
static bool helper_is_allowed(int32_t helper)
{
	switch (helper) {
	case BPF_FUNC_map_lookup_elem:
	case BPF_FUNC_map_update_elem:
	case BPF_FUNC_map_delete_elem:
	case BPF_FUNC_ktime_get_ns:
	case BPF_FUNC_ktime_get_coarse_ns:
	case BPF_FUNC_jiffies64:
	case BPF_FUNC_tail_call:
	case BPF_FUNC_get_prandom_u32:
	case BPF_FUNC_skb_load_bytes:
	case BPF_FUNC_get_socket_cookie:
	case BPF_FUNC_sk_fullsock:
	case BPF_FUNC_sk_storage_get:
	case BPF_FUNC_get_netns_cookie:
	case BPF_FUNC_ringbuf_output:
	case BPF_FUNC_ringbuf_reserve:
	case BPF_FUNC_ringbuf_submit:
	case BPF_FUNC_ringbuf_discard:
	case BPF_FUNC_loop:
	case BPF_FUNC_set_retval:
		return true;
	default:
		return false;
	}
}

static int check_call(const struct object *object, const struct bpf_insn *insn, const char *section, size_t at)
{
	if (insn->code != (BPF_JMP | BPF_CALL))
		return why_set(object->why, -EINVAL, "the object's '%s', instruction %zu: an indirect call", section,
			       at);
	if (insn->src_reg == BPF_PSEUDO_CALL)
		return 0;
	if (insn->src_reg == BPF_PSEUDO_KFUNC_CALL)
		return why_set(object->why, -EINVAL,
			       "the object's '%s', instruction %zu calls a kernel function (%d): no policy does",
			       section, at, insn->imm);
	if (insn->src_reg || !helper_is_allowed(insn->imm))
		return why_set(object->why, -EINVAL,
			       "the object's '%s', instruction %zu calls helper %d, which no policy may call", section,
			       at, insn->imm);
	return 0;
}

/* A 64-bit constant with a source register is a descriptor of this process, or an address in the
 * kernel. Maps and functions come by relocation; the register is 0 then. */
static int check_code(const struct object *object, const Elf64_Shdr *section, const char *name)
{
	const uint8_t *bytes = section_bytes(object, section);
	size_t count = section->sh_size / sizeof(struct bpf_insn);
	if (section->sh_size % sizeof(struct bpf_insn))
		return why_set(object->why, -EINVAL, "the object's '%s' is no whole number of instructions", name);
	for (size_t i = 0; i < count; i++) {
		struct bpf_insn insn;
		memcpy(&insn, bytes + i * sizeof(insn), sizeof(insn));
		int class = BPF_CLASS(insn.code), r = 0;
		if ((class == BPF_JMP || class == BPF_JMP32) && BPF_OP(insn.code) == BPF_CALL)
			r = check_call(object, &insn, name, i);
		if (insn.code == (BPF_LD | BPF_IMM | BPF_DW) && (insn.src_reg || i + 1 == count))
			r = why_set(object->why, -EINVAL,
				    "the object's '%s', instruction %zu takes a descriptor or an address as a constant",
				    name, i);
		if (r)
			return r;
		i += insn.code == (BPF_LD | BPF_IMM | BPF_DW);
	}
	return 0;
}

/* CO-RE relocations read the running kernel's types: policies have none. struct btf_ext_header of
 * libbpf: magic, version, flags, hdr_len, then offset and length of three kinds. */
static int check_btf_ext(const struct object *object, const Elf64_Shdr *section)
{
	uint32_t words[8];
	if (section->sh_size < 24)
		return why_set(object->why, -EINVAL, "the object's .BTF.ext is damaged");
	memset(words, 0, sizeof(words));
	memcpy(words, section_bytes(object, section),
	       section->sh_size < sizeof(words) ? section->sh_size : sizeof(words));
	if (words[1] >= 32 && words[7])
		return why_set(object->why, -EINVAL, "the object has CO-RE relocations: no policy does");
	return 0;
}

/* ---- All of it ------------------------------------------------------------------------------------ */

static int check_content(const struct object *object, unsigned index)
{
	const Elf64_Shdr *section = &object->sections[index];
	const char *name = section_name(object, section);
	if (section->sh_type == SHT_SYMTAB)
		return check_symbols(object, section);
	if (section->sh_flags & SHF_EXECINSTR)
		return check_code(object, section, name);
	return name && strcmp(name, ".BTF.ext") == 0 ? check_btf_ext(object, section) : 0;
}

int accept_elf(const void *bytes, size_t len, struct why *why)
{
	const Elf64_Ehdr *header = bytes;
	struct object object = {.bytes = bytes, .len = len, .header = header, .why = why};
	if (len < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
	    header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
	    header->e_machine != EM_BPF || header->e_type != ET_REL)
		return why_set(why, -EINVAL, "not a relocatable 64-bit little-endian BPF object");
	if (header->e_shentsize != sizeof(Elf64_Shdr) || !header->e_shnum || header->e_shnum > BUNDLE_LIMIT_SECTIONS ||
	    header->e_shstrndx >= header->e_shnum || header->e_shoff % 8 || header->e_shoff > len ||
	    (len - header->e_shoff) / sizeof(Elf64_Shdr) < header->e_shnum)
		return why_set(why, -EINVAL, "the object's section table is damaged");
	object.sections = (const Elf64_Shdr *)(object.bytes + header->e_shoff);
	for (unsigned i = 0; i < header->e_shnum; i++) {
		int r = check_section(&object, i);
		if (r)
			return r;
	}
	for (unsigned i = 1; i < header->e_shnum; i++) {
		int r = check_content(&object, i);
		if (r)
			return r;
	}
	return 0;
}
