#include "base/bundle.h"

#include "base/source.h"

#include <elf.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

/* ---- ELF, read with bounds (System V ABI, chapter 4; 64 bits, little-endian) -------------------- */

static const Elf64_Ehdr *header_of(const void *bytes, size_t len)
{
	const Elf64_Ehdr *header = bytes;
	if (len < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
	    header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
	    header->e_machine != EM_BPF || header->e_shentsize != sizeof(Elf64_Shdr) || header->e_shnum == 0 ||
	    header->e_shnum > BUNDLE_LIMIT_SECTIONS || header->e_shstrndx >= header->e_shnum || header->e_shoff % 8 ||
	    header->e_shoff > len || (len - header->e_shoff) / sizeof(Elf64_Shdr) < header->e_shnum)
		return NULL;
	return header;
}

static const void *section_bytes(const void *bytes, size_t len, const Elf64_Shdr *section)
{
	if (section->sh_type == SHT_NOBITS || section->sh_offset > len || section->sh_size > len - section->sh_offset)
		return NULL;
	return (const char *)bytes + section->sh_offset;
}

static const char *name_in(const char *names, size_t len, size_t offset)
{
	return names && offset < len && memchr(names + offset, 0, len - offset) ? names + offset : "";
}

static const Elf64_Shdr *section_find(const void *bytes, size_t len, const char *name)
{
	const Elf64_Ehdr *header = header_of(bytes, len);
	if (!header)
		return NULL;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)((const char *)bytes + header->e_shoff);
	const Elf64_Shdr *strings = &sections[header->e_shstrndx];
	const char *names = section_bytes(bytes, len, strings);
	for (size_t i = 0; i < header->e_shnum; i++)
		if (strcmp(name_in(names, strings->sh_size, sections[i].sh_name), name) == 0)
			return &sections[i];
	return NULL;
}

const void *bundle_section(const void *bytes, size_t len, const char *name, size_t *ret_len)
{
	const Elf64_Shdr *section = section_find(bytes, len, name);
	const void *at = section ? section_bytes(bytes, len, section) : NULL;
	if (at)
		*ret_len = section->sh_size;
	return at;
}

bool bundle_section_at(const void *bytes, size_t len, size_t index, struct bundle_view *ret_view)
{
	const Elf64_Ehdr *header = header_of(bytes, len);
	if (!header || index >= header->e_shnum)
		return false;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)((const char *)bytes + header->e_shoff);
	const Elf64_Shdr *strings = &sections[header->e_shstrndx];
	*ret_view = (struct bundle_view){
		.name = name_in(section_bytes(bytes, len, strings), strings->sh_size, sections[index].sh_name),
		.bytes = section_bytes(bytes, len, &sections[index]),
		.type = sections[index].sh_type,
	};
	ret_view->len = ret_view->bytes ? sections[index].sh_size : 0;
	return true;
}

void *bundle_rodata_symbol(void *bytes, size_t len, const char *symbol, size_t *ret_len)
{
	const Elf64_Ehdr *header = header_of(bytes, len);
	const Elf64_Shdr *table = section_find(bytes, len, ".symtab"), *rodata = section_find(bytes, len, ".rodata");
	if (!header || !table || !rodata || table->sh_link >= header->e_shnum || table->sh_offset % 8)
		return NULL;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)((const char *)bytes + header->e_shoff);
	const Elf64_Sym *symbols = section_bytes(bytes, len, table);
	const Elf64_Shdr *strings = &sections[table->sh_link];
	const char *names = section_bytes(bytes, len, strings);
	char *data = (char *)section_bytes(bytes, len, rodata);
	if (!symbols || !names || !data)
		return NULL;
	for (size_t i = 0; i < table->sh_size / sizeof(*symbols); i++) {
		const Elf64_Sym *at = &symbols[i];
		if (at->st_shndx != rodata - sections || at->st_value > rodata->sh_size ||
		    at->st_size > rodata->sh_size - at->st_value ||
		    strcmp(name_in(names, strings->sh_size, at->st_name), symbol) != 0)
			continue;
		*ret_len = at->st_size;
		return data + at->st_value;
	}
	return NULL;
}

/* ---- Writing ------------------------------------------------------------------------------------ */

static size_t round_up(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* New file: the old one, the parts, a longer table of section names, a longer section table. The old
 * tables stay behind as dead bytes. */
void *bundle_add_sections(const void *elf, size_t len, const struct bundle_part *parts, size_t count, size_t *ret_len)
{
	const Elf64_Ehdr *old = header_of(elf, len);
	if (!old || old->e_shnum + count > BUNDLE_LIMIT_SECTIONS)
		return NULL;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)((const char *)elf + old->e_shoff);
	const Elf64_Shdr *strings = &sections[old->e_shstrndx];
	const char *names = section_bytes(elf, len, strings);
	if (!names)
		return NULL;
	size_t total = round_up(len), name_bytes = strings->sh_size;
	for (size_t i = 0; i < count; i++) {
		total += round_up(parts[i].len);
		name_bytes += strlen(parts[i].name) + 1;
	}
	size_t names_at = total, table_at = names_at + round_up(name_bytes);
	total = table_at + (old->e_shnum + count) * sizeof(Elf64_Shdr);
	char *file = calloc(1, total);
	if (!file)
		return NULL;
	memcpy(file, elf, len);
	memcpy(file + names_at, names, strings->sh_size);
	Elf64_Shdr *table = (Elf64_Shdr *)(file + table_at);
	memcpy(table, sections, old->e_shnum * sizeof(*table));
	size_t at = round_up(len), name_at = strings->sh_size;
	for (size_t i = 0; i < count; i++) {
		memcpy(file + at, parts[i].bytes, parts[i].len);
		strcpy(file + names_at + name_at, parts[i].name);
		table[old->e_shnum + i] = (Elf64_Shdr){.sh_name = name_at,
						       .sh_type = SHT_PROGBITS,
						       .sh_offset = at,
						       .sh_size = parts[i].len,
						       .sh_addralign = 8};
		at += round_up(parts[i].len);
		name_at += strlen(parts[i].name) + 1;
	}
	table[old->e_shstrndx].sh_offset = names_at;
	table[old->e_shstrndx].sh_size = name_bytes;
	Elf64_Ehdr *header = (Elf64_Ehdr *)file;
	header->e_shoff = table_at;
	header->e_shnum += count;
	*ret_len = total;
	return file;
}

/* ---- Reading ------------------------------------------------------------------------------------ */

static int refuse(struct bundle *bundle, const char **ret_why, const char *why)
{
	bundle_close(bundle);
	*ret_why = why;
	return -EINVAL;
}

static json_t *section_json(const void *bytes, size_t len, const char *name)
{
	size_t size;
	const char *text = bundle_section(bytes, len, name, &size);
	return text ? json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

static bool vectors_fit(const struct mesh_vectors *vectors, size_t len)
{
	if (len < sizeof(*vectors) || vectors->magic != MESH_VECTORS_MAGIC)
		return false;
	uint64_t need = sizeof(*vectors) + (uint64_t)vectors->decisions * sizeof(struct mesh_vector) +
			(uint64_t)vectors->addresses * sizeof(struct mesh_address_vector) +
			(uint64_t)vectors->packets * sizeof(struct mesh_packet_vector);
	return need == len;
}

int bundle_open(const void *bytes, size_t len, struct bundle *ret_bundle, const char **ret_why)
{
	struct bundle *bundle = ret_bundle;
	*bundle = (struct bundle){.elf = bytes, .elf_len = len};
	if (len > BUNDLE_LIMIT_BYTES)
		return refuse(bundle, ret_why, "larger than 256 MiB");
	if (len < sizeof(Elf64_Ehdr) || memcmp(bytes, ELFMAG, SELFMAG) != 0)
		return refuse(bundle, ret_why, "not an ELF object");
	if (((const unsigned char *)bytes)[EI_DATA] != ELFDATA2LSB)
		return refuse(bundle, ret_why, "an object for a big-endian machine");
	if (!header_of(bytes, len))
		return refuse(bundle, ret_why, "a truncated or foreign ELF object");
	bundle->manifest = section_json(bytes, len, BUNDLE_MANIFEST);
	if (!json_is_object(bundle->manifest))
		return refuse(bundle, ret_why, "no manifest: not made by meshc compile, or damaged");
	bundle->where = section_json(bytes, len, BUNDLE_WHERE);
	if (!json_is_object(bundle->where))
		return refuse(bundle, ret_why, "no rule positions: damaged");
	bundle->vectors = bundle_section(bytes, len, BUNDLE_VECTORS, &bundle->vectors_len);
	if (!bundle->vectors || (uintptr_t)bundle->vectors % 4 || !vectors_fit(bundle->vectors, bundle->vectors_len))
		return refuse(bundle, ret_why, "no proof vectors: damaged");
	size_t size;
	const struct bundle_signature *signature = bundle_section(bytes, len, BUNDLE_SIGNATURE, &size);
	if (!signature || size != sizeof(*signature))
		return refuse(bundle, ret_why, "no place for a signature: damaged");
	bundle->is_signed = memcmp(signature->magic, "meshsig1", 8) == 0;
	memcpy(bundle->key_id, signature->key_id, sizeof(bundle->key_id));
	return 0;
}

void bundle_close(struct bundle *bundle)
{
	json_decref(bundle->manifest);
	json_decref(bundle->where);
	bundle->manifest = bundle->where = NULL;
}

static bool digest_of_files(const json_t *files, char ret_text[SOURCE_DIGEST_BYTES])
{
	size_t i, count = json_array_size(files);
	json_t *file;
	struct source_text *texts = calloc(count + 1, sizeof(*texts));
	bool fine = texts != NULL;
	json_array_foreach ((json_t *)files, i, file) {
		const json_t *text = json_object_get(file, "text");
		fine = fine && json_is_string(text);
		if (fine)
			texts[i] = (struct source_text){json_string_value(text), json_string_length(text)};
	}
	fine = fine && source_digest(texts, count, ret_text);
	free(texts);
	return fine;
}

int bundle_check(const struct bundle *bundle, const char **ret_why)
{
	const Elf64_Ehdr *header = bundle->elf;
	const char *said = json_string_value(json_object_get(bundle->where, "source"));
	char found[SOURCE_DIGEST_BYTES];
	*ret_why = "bytes behind its end: it was changed after it was made";
	if (header->e_shoff + header->e_shnum * sizeof(Elf64_Shdr) != bundle->elf_len)
		return -EPERM;
	json_t *files = section_json(bundle->elf, bundle->elf_len, BUNDLE_SOURCE);
	bool same = json_is_array(files) && digest_of_files(files, found) && said && strcmp(said, found) == 0;
	json_decref(files);
	*ret_why = "the policy's text is not the one that it was made of: damaged, or changed";
	return same ? 0 : -EPERM;
}

/* ---- Signatures --------------------------------------------------------------------------------- */

static EVP_PKEY *key_read(const char *path, bool private, const char **ret_why)
{
	FILE *file = fopen(path, "re");
	if (!file) {
		*ret_why = "the key file cannot be opened";
		return NULL;
	}
	EVP_PKEY *key = private ? PEM_read_PrivateKey(file, NULL, NULL, (void *)"")
				: PEM_read_PUBKEY(file, NULL, NULL, (void *)"");
	fclose(file);
	if (key && EVP_PKEY_get_id(key) == EVP_PKEY_ED25519)
		return key;
	EVP_PKEY_free(key);
	*ret_why = private ? "not an Ed25519 private key in PEM" : "not an Ed25519 public key in PEM";
	return NULL;
}

static bool key_id(EVP_PKEY *key, unsigned char ret_id[32])
{
	unsigned char raw[32];
	size_t len = sizeof(raw);
	unsigned int written;
	return EVP_PKEY_get_raw_public_key(key, raw, &len) == 1 &&
	       EVP_Digest(raw, len, ret_id, &written, EVP_sha256(), NULL) == 1;
}

int bundle_verify(const struct bundle *bundle, const char *public_key_path, const char **ret_why)
{
	if (!bundle->is_signed) {
		*ret_why = "the bundle is not signed";
		return -EPERM;
	}
	EVP_PKEY *key = key_read(public_key_path, false, ret_why);
	if (!key)
		return -EINVAL;
	size_t size;
	const struct bundle_signature *at = bundle_section(bundle->elf, bundle->elf_len, BUNDLE_SIGNATURE, &size);
	struct bundle_signature signature = *at;
	unsigned char *copy = malloc(bundle->elf_len);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int r = -EPERM;
	*ret_why = "the signature is not this key's, or the bundle was changed";
	if (copy && context) {
		memcpy(copy, bundle->elf, bundle->elf_len);
		memset(copy + ((const char *)at - (const char *)bundle->elf), 0, sizeof(signature));
		if (EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
		    EVP_DigestVerify(context, signature.signature, sizeof(signature.signature), copy,
				     bundle->elf_len) == 1)
			r = 0;
	}
	EVP_MD_CTX_free(context);
	free(copy);
	EVP_PKEY_free(key);
	return r;
}

int bundle_sign(void *bytes, size_t len, const char *key_path, const char **ret_why)
{
	struct bundle bundle;
	int r = bundle_open(bytes, len, &bundle, ret_why);
	if (r)
		return r;
	bundle_close(&bundle);
	EVP_PKEY *key = key_read(key_path, true, ret_why);
	if (!key)
		return -ENOENT;
	size_t size, signature_len = 64;
	struct bundle_signature *at = (void *)bundle_section(bytes, len, BUNDLE_SIGNATURE, &size);
	struct bundle_signature signature = {0};
	memcpy(signature.magic, "meshsig1", 8);
	memset(at, 0, sizeof(*at));
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	r = -EINVAL;
	*ret_why = "the key cannot sign";
	if (context && key_id(key, signature.key_id) && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestSign(context, signature.signature, &signature_len, bytes, len) == 1) {
		*at = signature;
		r = 0;
	}
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	return r;
}
