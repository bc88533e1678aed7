/* The fields of a condition. */
#ifndef MESH_IR_FIELD_H
#define MESH_IR_FIELD_H

enum field {
#define FIELD(name, text, type, l7) FIELD_##name,
#include "fields.def"
#undef FIELD
	FIELDS
};

enum field_type { FIELD_TYPE_PORT, FIELD_TYPE_STRING, FIELD_TYPE_KEYED };

#endif
