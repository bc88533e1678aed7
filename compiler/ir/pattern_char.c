/* Characters, escapes and classes of RE2's syntax. */
#include "ir/pattern_reader.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

enum { LAST_CHAR = 0x10ffff };

void *reader_fail(struct reader *reader, const char *at, const char *format, ...)
{
	char text[256];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!reader->why)
		reader->why = arena_printf(reader->arena, "at byte %zu: %s", (size_t)(at - reader->text), text);
	return NULL;
}

bool reader_take(struct reader *reader, const char *word)
{
	size_t len = strlen(word);
	if (strncmp(reader->at, word, len) != 0)
		return false;
	reader->at += len;
	return true;
}

/* ---- Characters --------------------------------------------------------------------------------- */

long reader_char(struct reader *reader)
{
	const unsigned char *c = (const unsigned char *)reader->at;
	static const unsigned char lead_mask[] = {0x7f, 0x1f, 0x0f, 0x07};
	unsigned more = c[0] < 0x80 ? 0 : c[0] < 0xc2 ? 9 : c[0] < 0xe0 ? 1 : c[0] < 0xf0 ? 2 : c[0] < 0xf5 ? 3 : 9;
	if (more == 9) {
		reader_fail(reader, reader->at, "this is not UTF-8");
		return -1;
	}
	long value = c[0] & lead_mask[more];
	for (unsigned i = 1; i <= more; i++) {
		if ((c[i] & 0xc0) != 0x80) {
			reader_fail(reader, reader->at, "this is not UTF-8");
			return -1;
		}
		value = value << 6 | (c[i] & 0x3f);
	}
	reader->at += 1 + more;
	return value;
}

static unsigned char_bytes(long value, unsigned char bytes[4])
{
	unsigned len = value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	for (unsigned i = len; i-- > 1; value >>= 6)
		bytes[i] = 0x80 | (value & 0x3f);
	bytes[0] = lead[len] | value;
	return len;
}

struct tree *reader_char_tree(struct reader *reader, long value)
{
	unsigned char bytes[4];
	unsigned len = char_bytes(value, bytes);
	struct tree *cat = tree_make(reader->arena, TREE_CAT);
	for (unsigned i = 0; i < len; i++) {
		struct byte_set set = {0};
		byte_set_add(&set, bytes[i], bytes[i]);
		if (reader->fold)
			byte_set_fold(&set);
		tree_add(reader->arena, cat, tree_set(reader->arena, set));
	}
	return len == 1 ? cat->parts.at[0] : cat;
}

static long take_hex(struct reader *reader, const char *from)
{
	bool braces = reader_take(reader, "{");
	long value = 0;
	unsigned digits = 0;
	for (; isxdigit((unsigned char)*reader->at) && digits < (braces ? 8 : 2); digits++) {
		char c = *reader->at++;
		value = value * 16 + (isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
	}
	if (!digits || (!braces && digits < 2) || (braces && !reader_take(reader, "}")) || value > LAST_CHAR) {
		reader_fail(reader, from, "\\x wants two hexadecimal digits, or {up to 10FFFF}");
		return -1;
	}
	return value;
}

static long take_octal(struct reader *reader)
{
	long value = 0;
	for (int i = 0; i < 3 && *reader->at >= '0' && *reader->at <= '7'; i++)
		value = value * 8 + (*reader->at++ - '0');
	return value;
}

static void refuse_escape(struct reader *reader, const char *from, char c)
{
	if (!c)
		reader_fail(reader, from, "a backslash at the end");
	else if (c == 'b' || c == 'B')
		reader_fail(reader, from, "\\%c (word boundaries) is not supported: name the characters on both sides",
			    c);
	else if (isdigit((unsigned char)c) || c == 'k' || c == 'g')
		reader_fail(reader, from, "backreferences are not regular");
	else if (c == 'p' || c == 'P')
		reader_fail(reader, from, "classes by Unicode property are not supported");
	else if (c == 'A' || c == 'z' || c == 'Z')
		reader_fail(reader, from, "\\%c may stand only at %s: a pattern covers the whole value", c,
			    c == 'A' ? "the beginning" : "the end, as \\z");
	else
		reader_fail(reader, from, "\\%c means nothing", c);
}

long reader_escape(struct reader *reader)
{
	static const char letters[] = "aftnrv", values[] = "\a\f\t\n\r\v";
	const char *from = reader->at - 1;
	char c = *reader->at;
	const char *letter = c ? strchr(letters, c) : NULL;
	if (letter) {
		reader->at++;
		return values[letter - letters];
	}
	if (reader_take(reader, "x"))
		return take_hex(reader, from);
	if (c == '0' || (c >= '1' && c <= '7' && reader->at[1] >= '0' && reader->at[1] <= '7'))
		return take_octal(reader);
	if ((unsigned char)c > ' ' && (unsigned char)c < 0x7f && !isalnum((unsigned char)c)) {
		reader->at++;
		return c;
	}
	if (c == ' ') {
		reader->at++;
		return c;
	}
	refuse_escape(reader, from, c);
	return -1;
}

/* ---- Classes ------------------------------------------------------------------------------------ */

struct stretch {
	long lo, hi;
};
struct class
{
	struct byte_set bytes;
	VEC(struct stretch) wide; /* characters outside ASCII */
};

#define PAIRS(text) text, sizeof(text) - 1
static const struct named {
	const char *name, *pairs; /* first and last byte of each stretch */
	size_t len;
} named[] = {
	{"alnum", PAIRS("09AZaz")},
	{"alpha", PAIRS("AZaz")},
	{"ascii", PAIRS("\x00\x7f")},
	{"blank", PAIRS("\t\t  ")},
	{"cntrl", PAIRS("\x00\x1f\x7f\x7f")},
	{"digit", PAIRS("09")},
	{"graph", PAIRS("!~")},
	{"lower", PAIRS("az")},
	{"print", PAIRS(" ~")},
	{"punct", PAIRS("!/:@[`{~")},
	{"space", PAIRS("\t\r  ")},
	{"upper", PAIRS("AZ")},
	{"word", PAIRS("09AZaz__")},
	{"xdigit", PAIRS("09AFaf")},
	/* The short ones; \s leaves the vertical tab out, as Perl once did. */
	{"d", PAIRS("09")},
	{"s", PAIRS("\t\n\f\r  ")},
	{"w", PAIRS("09AZaz__")},
};

static struct byte_set named_set(const struct named *name, bool negated)
{
	struct byte_set set = {0};
	for (size_t i = 0; i < name->len; i += 2)
		byte_set_add(&set, (unsigned char)name->pairs[i], (unsigned char)name->pairs[i + 1]);
	if (negated)
		byte_set_flip(&set);
	return set;
}

bool reader_short(struct reader *reader, struct byte_set *set)
{
	if (reader->at[0] != '\\' || !reader->at[1] || !strchr("dDsSwW", reader->at[1]))
		return false;
	char lower[] = {tolower((unsigned char)reader->at[1]), 0};
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
		if (strcmp(named[i].name, lower) == 0)
			byte_set_join(set, named_set(&named[i], lower[0] != reader->at[1]));
	reader->at += 2;
	return true;
}

/* [:alpha:] at AT. */
static bool take_named(struct reader *reader, struct class *class)
{
	const char *from = reader->at, *end;
	if (!reader_take(reader, "[:"))
		return false;
	end = strstr(reader->at, ":]");
	if (!end) {
		reader->at = from; /* a bracket and a colon, then */
		return false;
	}
	bool negated = reader_take(reader, "^");
	size_t len = end - reader->at;
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++)
		if (len > 1 && strlen(named[i].name) == len && strncmp(named[i].name, reader->at, len) == 0) {
			byte_set_join(&class->bytes, named_set(&named[i], negated));
			reader->at = end + 2;
			return true;
		}
	reader_fail(reader, from, "there is no class %.*s", (int)(end + 2 - from > 40 ? 40 : end + 2 - from), from);
	return true;
}

static void class_add(struct reader *reader, struct class *class, long lo, long hi)
{
	if (lo < 0x80)
		byte_set_add(&class->bytes, lo, hi < 0x80 ? hi : 0x7f);
	if (hi >= 0x80)
		vec_push(reader->arena, &class->wide, (struct stretch){lo < 0x80 ? 0x80 : lo, hi});
}

static long take_class_char(struct reader *reader)
{
	return reader_take(reader, "\\") ? reader_escape(reader) : reader_char(reader);
}

static void take_range(struct reader *reader, struct class *class)
{
	const char *from = reader->at;
	long lo = take_class_char(reader), hi = lo;
	if (lo >= 0 && reader->at[0] == '-' && reader->at[1] != ']' && reader->at[1]) {
		struct byte_set ignored = {0};
		reader->at++;
		if (reader_short(reader, &ignored))
			reader_fail(reader, from, "a range ends in a character, not in a class");
		else
			hi = take_class_char(reader);
	}
	if (lo < 0 || hi < 0 || reader->why)
		return;
	if (lo > hi)
		reader_fail(reader, from, "this range is upside down");
	else
		class_add(reader, class, lo, hi);
}

/* The bytes of all characters LO..HI, which have one length and differ in whole trailing bytes. */
static void add_sequence(struct reader *reader, struct tree *alt, long lo, long hi)
{
	unsigned char first[4], last[4];
	unsigned len = char_bytes(lo, first);
	struct tree *cat = tree_make(reader->arena, TREE_CAT);
	char_bytes(hi, last);
	for (unsigned i = 0; i < len; i++) {
		struct byte_set set = {0};
		byte_set_add(&set, first[i], last[i]);
		tree_add(reader->arena, cat, tree_set(reader->arena, set));
	}
	tree_add(reader->arena, alt, cat);
}

/* Cuts LO..HI where the number of bytes changes, and where a byte is not at its first or last value
 * while a later one is free (as RE2's compiler does). */
static void add_wide(struct reader *reader, struct tree *alt, long lo, long hi)
{
	static const long lasts[] = {0x7ff, 0xffff};
	for (int i = 0; i < 2; i++)
		if (lo <= lasts[i] && hi > lasts[i]) {
			add_wide(reader, alt, lo, lasts[i]);
			add_wide(reader, alt, lasts[i] + 1, hi);
			return;
		}
	for (int i = 1; i < 4; i++) {
		long low = (1L << 6 * i) - 1, cut;
		if ((lo & ~low) == (hi & ~low))
			break;
		if (!(lo & low) && (hi & low) == low)
			continue;
		cut = lo & low ? lo | low : (hi & ~low) - 1;
		add_wide(reader, alt, lo, cut);
		add_wide(reader, alt, cut + 1, hi);
		return;
	}
	add_sequence(reader, alt, lo, hi);
}

static struct tree *class_tree(struct reader *reader, const struct class *class)
{
	struct tree *set = tree_set(reader->arena, class->bytes);
	if (!class->wide.len)
		return set;
	struct tree *alt = tree_make(reader->arena, TREE_ALT);
	tree_add(reader->arena, alt, set);
	for (size_t i = 0; i < class->wide.len; i++)
		add_wide(reader, alt, class->wide.at[i].lo, class->wide.at[i].hi);
	return alt;
}

struct tree *reader_class(struct reader *reader)
{
	const char *from = reader->at - 1;
	struct class class = {0};
	bool negated = reader_take(reader, "^");
	for (bool first = true; first || *reader->at != ']'; first = false) {
		if (!*reader->at)
			return reader_fail(reader, from, "this class has no ]");
		if (!take_named(reader, &class) && !reader_short(reader, &class.bytes))
			take_range(reader, &class);
		if (reader->why)
			return NULL;
	}
	reader->at++;
	if (reader->fold)
		byte_set_fold(&class.bytes);
	if (negated && class.wide.len)
		return reader_fail(reader, from, "a negated class of characters outside ASCII is not supported");
	if (negated)
		byte_set_flip(&class.bytes);
	return class_tree(reader, &class);
}
