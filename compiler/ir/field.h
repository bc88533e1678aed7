/* The fields of a condition. */
#ifndef MESH_IR_FIELD_H
#define MESH_IR_FIELD_H

enum field {
#define FIELD(name, text, type, l7) FIELD_##name,
#include "fields.def"
#undef FIELD
	FIELDS
};

enum field_type { FIELD_TYPE_PORT, FIELD_TYPE_STRING, FIELD_TYPE_KEYED, FIELD_TYPE_YES_NO };

/* The field written TEXT, or FIELDS. */
enum field field_find(const char *text);
const char *field_text(enum field field);
enum field_type field_type(enum field field);
int field_is_l7(enum field field);

#endif
