#include "ir/field.h"

#include <string.h>

static const struct {
	const char *text;
	enum field_type type;
	int is_l7;
} fields[] = {
#define FIELD(name, text, type, l7) {text, FIELD_TYPE_##type, l7},
#include "fields.def"
#undef FIELD
};

enum field field_find(const char *text)
{
	int i = 0;
	while (i < FIELDS && strcmp(fields[i].text, text) != 0)
		i++;
	return i;
}

const char *field_text(enum field field)
{
	return fields[field].text;
}

enum field_type field_type(enum field field)
{
	return fields[field].type;
}

int field_is_l7(enum field field)
{
	return fields[field].is_l7;
}
