#include "base/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* RFC 3629: no overlong forms, no surrogates. Control characters are the parser's to refuse, by their place;
 * with a NUL in it this is no text at all. */
static bool is_text(const unsigned char *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		unsigned char c = text[i];
		size_t more = c < 0x80		      ? 0
			      : c >= 0xc2 && c < 0xe0 ? 1
			      : c >= 0xe0 && c < 0xf0 ? 2
			      : c >= 0xf0 && c < 0xf5 ? 3
						      : 9;
		if (more == 9 || i + more >= len + (more == 0) || c == 0)
			return false;
		for (size_t k = 1; k <= more; k++)
			if ((text[i + k] & 0xc0) != 0x80)
				return false;
		if ((c == 0xe0 && text[i + 1] < 0xa0) || (c == 0xed && text[i + 1] > 0x9f) ||
		    (c == 0xf0 && text[i + 1] < 0x90) || (c == 0xf4 && text[i + 1] > 0x8f))
			return false;
		i += more + 1;
	}
	return true;
}

/* Unicode 15: controls, format characters, fillers, tags. Joiners (U+200C, U+200D) have a meaning between
 * letters that are not ASCII. */
static bool is_invisible(uint32_t code, bool joins)
{
	static const struct {
		uint32_t lo, hi;
	} ranges[] = {{0x00, 0x08},	{0x0b, 0x0c},	  {0x0e, 0x1f},	    {0x7f, 0x9f},	{0xad, 0xad},
		      {0x34f, 0x34f},	{0x61c, 0x61c},	  {0x115f, 0x1160}, {0x17b4, 0x17b5},	{0x180b, 0x180f},
		      {0x200b, 0x200b}, {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},	{0x3164, 0x3164},
		      {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff9, 0xfffb}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};
	if (code == 0x200c || code == 0x200d)
		return !joins;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
		if (code >= ranges[i].lo && code <= ranges[i].hi)
			return true;
	return false;
}

size_t source_invisible(const char *begin, const char *text, uint32_t *ret_code)
{
	const unsigned char *c = (const unsigned char *)text;
	if ((*c >= ' ' && *c < 0x7f) || *c == '\n' || *c == '\t' || !*c || (*c >= 0x80 && *c < 0xc2))
		return 0;
	size_t len = *c < 0x80 ? 1 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 : 4;
	uint32_t code = len == 1 ? *c : *c & (0x7f >> len);
	for (size_t i = 1; i < len; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (c[i] & 0x3f);
	}
	bool joins = text > begin && (unsigned char)text[-1] >= 0x80 && c[len] >= 0x80;
	bool bad = code == '\r' ? c[1] != '\n' : is_invisible(code, joins);
	*ret_code = code;
	return bad ? len : 0;
}

uint32_t sources_add(struct sources *sources, const char *name, const char *text, size_t len)
{
	bool bom = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0;
	text += bom ? 3 : 0;
	len -= bom ? 3 : 0;
	struct source_file file = {
		.name = arena_copy(sources->arena, name, strlen(name)),
		.text = arena_copy(sources->arena, text, len),
		.len = len,
		.bom = bom,
	};
	vec_push(sources->arena, &file.lines, 0);
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\n')
			vec_push(sources->arena, &file.lines, i + 1);
	vec_push(sources->arena, &sources->files, file);
	return sources->files.len - 1;
}

static size_t bytes_left(const struct sources *sources)
{
	size_t used = 0;
	for (size_t i = 0; i < sources->files.len; i++)
		used += sources->files.at[i].len;
	return used < SOURCE_LIMIT_BYTES ? SOURCE_LIMIT_BYTES - used : 0;
}

static int read_stream(struct sources *sources, FILE *in, const char *name)
{
	size_t limit = bytes_left(sources), len = 0, room = 64 << 10;
	char *text = malloc(room);
	int r = text ? 0 : -ENOMEM;
	while (!r) {
		size_t got = fread(text + len, 1, room - len, in);
		len += got;
		if (ferror(in)) {
			r = errno ? -errno : -EIO;
			break;
		}
		if (!got)
			break;
		if (len > limit)
			r = -E2BIG;
		if (len == room) {
			room *= 2;
			char *grown = realloc(text, room);
			if (!grown)
				r = -ENOMEM;
			else
				text = grown;
		}
	}
	if (!r && !is_text((unsigned char *)text, len))
		r = -EILSEQ;
	if (!r)
		sources_add(sources, name, text, len);
	free(text);
	return r;
}

/* What the caller has opened already (a shell's <(...), too) may be a pipe: to wait for it is meant. */
static bool is_descriptor(const char *path)
{
	return strcmp(path, "/dev/stdin") == 0 || strncmp(path, "/dev/fd/", 8) == 0 ||
	       strncmp(path, "/proc/self/fd/", 14) == 0;
}

/* Non-blocking: a FIFO in a policy's place must not make the compiler wait. */
static int open_file(const char *path, int *ret_fd)
{
	struct stat st;
	bool waits = is_descriptor(path);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (waits ? 0 : O_NONBLOCK));
	if (fd < 0)
		return errno == ENXIO ? -EINVAL : -errno; /* a socket */
	int r = fstat(fd, &st) ? -errno : waits || S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (r)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

static int unread(struct sources *sources, const char *path, int r)
{
	sources->unread = arena_copy(sources->arena, path, strlen(path));
	return r;
}

static int read_file(struct sources *sources, const char *path)
{
	if (!is_text((const unsigned char *)path, strlen(path)))
		return unread(sources, path, -ENOTNAM); /* places name it, in JSON, too */
	int fd = -1, r = open_file(path, &fd);
	FILE *in = r ? NULL : fdopen(fd, "r");
	if (!r && !in)
		r = -errno;
	if (!r)
		r = read_stream(sources, in, path);
	if (in)
		fclose(in);
	else if (fd >= 0)
		close(fd);
	return r ? unread(sources, path, r) : 0;
}

static int name_compare(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int read_folder(struct sources *sources, const char *path, int depth, size_t *count)
{
	if (depth > SOURCE_FOLDER_DEPTH)
		return unread(sources, path, -EMLINK);
	DIR *folder = opendir(path);
	if (!folder)
		return unread(sources, path, -errno);
	VEC(const char *) names = {0};
	for (struct dirent *entry; (entry = readdir(folder));)
		if (entry->d_name[0] != '.')
			vec_push(sources->arena, &names,
				 arena_copy(sources->arena, entry->d_name, strlen(entry->d_name)));
	closedir(folder);
	if (names.len)
		qsort(names.at, names.len, sizeof(*names.at), name_compare);
	for (size_t i = 0; i < names.len; i++) {
		const char *inner = arena_printf(sources->arena, "%s/%s", path, names.at[i]);
		struct stat st;
		size_t len = strlen(names.at[i]);
		bool is_policy = len > 5 && strcmp(names.at[i] + len - 5, ".mesh") == 0;
		int r = 0;
		if (stat(inner, &st)) {
			if (!is_policy)
				continue;
			return unread(sources, inner, errno == ENOENT ? -ENOLINK : -errno); /* a link to nowhere */
		}
		if (S_ISDIR(st.st_mode)) {
			r = read_folder(sources, inner, depth + 1, count);
		} else if (is_policy) {
			r = ++*count > SOURCE_FOLDER_FILES ? -E2BIG : read_file(sources, inner);
		}
		if (r)
			return r;
	}
	return 0;
}

int sources_read(struct sources *sources, const char *path)
{
	struct stat st;
	sources->unread = path;
	if (strcmp(path, "-") == 0)
		return read_stream(sources, stdin, "-");
	if (stat(path, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return read_file(sources, path);
	size_t count = 0;
	int r = read_folder(sources, path, 0, &count);
	return r ? r : count ? 0 : -ENOENT;
}

void sources_place(const struct sources *sources, struct span span, uint32_t *ret_line, uint32_t *ret_column)
{
	const struct source_file *file = &sources->files.at[span.file];
	size_t lo = 0, hi = file->lines.len;
	while (hi - lo > 1) {
		size_t middle = (lo + hi) / 2;
		if (file->lines.at[middle] <= span.offset)
			lo = middle;
		else
			hi = middle;
	}
	*ret_line = lo + 1;
	*ret_column = span.offset - file->lines.at[lo] + 1;
}

const char *sources_where(struct arena *arena, const struct sources *sources, struct span span)
{
	uint32_t line, column;
	if (span.file >= sources->files.len)
		return "-";
	sources_place(sources, span, &line, &column);
	return arena_printf(arena, "%s:%u:%u", sources->files.at[span.file].name, line, column);
}

bool source_digest(const struct source_text *texts, size_t count, char ret_text[SOURCE_DIGEST_BYTES])
{
	unsigned char digest[32] = {0};
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	bool fine = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;
	for (size_t i = 0; i < count; i++) {
		uint64_t len = texts[i].len;
		fine = fine && EVP_DigestUpdate(hash, &len, sizeof(len)) == 1 &&
		       EVP_DigestUpdate(hash, texts[i].text, texts[i].len) == 1;
	}
	fine = fine && EVP_DigestFinal_ex(hash, digest, NULL) == 1;
	EVP_MD_CTX_free(hash);
	strcpy(ret_text, "sha256:");
	for (size_t i = 0; i < sizeof(digest); i++)
		sprintf(ret_text + 7 + 2 * i, "%02x", digest[i]);
	return fine;
}
