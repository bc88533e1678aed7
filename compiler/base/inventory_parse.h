/* Shared by the files that read inventories alone: our own form, Kubernetes' form, places in text. */
#ifndef MESH_BASE_INVENTORY_PARSE_H
#define MESH_BASE_INVENTORY_PARSE_H

#include "base/table.h"
#include "base/inventory.h"

#include <jansson.h>

enum { INVENTORY_LIMIT_BYTES = 64 << 20, INVENTORY_LIMIT_WORKLOADS = 1000000, INVENTORY_LIMIT_ADDRESSES = 64 };

/* One step from a JSON value to one inside it. */
struct inventory_step {
	const char *key; /* NULL: by index */
	size_t index;
};

/* A pod's port that has a name, and a service's port that asks for one. */
struct named_port {
	struct labels labels;
	uint16_t port;
	struct named_port *next;
};
struct wanted_port {
	size_t service, index; /* inventory->services.at[service].ports.at[index] */
	struct labels selector;
	const char *key; /* in parser->named */
};

struct inventory_parser {
	struct inventory *inventory;
	struct why *why;
	const char *file, *text; /* the one that is being read */
	size_t len;
	struct inventory_step steps[12]; /* where in it */
	unsigned depth;
	struct table label_names; /* each is kept once */
	struct table named;	  /* "namespace/protocol/name" to struct named_port */
	VEC(struct wanted_port) wanted;
};

void inventory_enter(struct inventory_parser *parser, const char *key);
void inventory_enter_index(struct inventory_parser *parser, size_t index);
void inventory_leave(struct inventory_parser *parser);

/* ERROR, with the place of the value that the steps lead to. */
int inventory_fail(struct inventory_parser *parser, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for the value KEY below: "'KEY' TEXT". */
int inventory_fail_at(struct inventory_parser *parser, const char *key, int error, const char *text);

/* The string OBJECT[KEY] in the arena, or NULL where it is absent or null. */
int inventory_text(struct inventory_parser *parser, const json_t *object, const char *key, bool is_required,
		   const char **ret_text);
/* The same for a name: without '/'. */
int inventory_name(struct inventory_parser *parser, const json_t *object, const char *key, bool is_required,
		   const char **ret_name);
int inventory_address(struct inventory_parser *parser, const char *text, struct workload_address *ret_address);
/* OBJECT[KEY], an object of strings; none where it is absent or null. */
int inventory_labels(struct inventory_parser *parser, const json_t *object, const char *key, struct labels *ret_labels);
int inventory_add_address(struct inventory_parser *parser, struct workload *workload, const char *text);
int inventory_add_workload(struct inventory_parser *parser, const struct workload *workload);

/* inventory_own.c */
int inventory_read_own(struct inventory_parser *parser, const json_t *root);

/* inventory_k8s.c: a List, or one Pod or Service. Kinds that say nothing of addresses are skipped. */
int inventory_read_k8s(struct inventory_parser *parser, const json_t *root);
/* After the last file: service ports that name a pod's port. */
void inventory_resolve_k8s(struct inventory_parser *parser);

/* inventory_place.c: line and column, from 1, of the value in TEXT (valid JSON) that STEPS lead to, or
 * of the last one on the way that is there. */
void inventory_place(const char *text, size_t len, const struct inventory_step *steps, unsigned depth,
		     unsigned *ret_line, unsigned *ret_column);

#endif
