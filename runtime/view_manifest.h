/* The part of a bundle's manifest that view.c applies, read once and checked: every number in it is an
 * index into some table of the kernel's. */
#ifndef MESH_RUNTIME_VIEW_MANIFEST_H
#define MESH_RUNTIME_VIEW_MANIFEST_H

#include "abi.h"
#include "base/selector.h"
#include "base/table.h"
#include "base/vec.h"
#include "base/why.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct manifest_address {
	uint8_t bytes[16];
};
struct manifest_set {
	const json_t *selector; /* of a subset; NULL: the whole service */
	uint32_t number;
};
struct manifest_port {
	uint16_t first, last, target;
	uint8_t protocol; /* IPPROTO_... */
};
struct manifest_service {
	const char *ns, *name, *qualified;
	uint16_t class;
	const json_t *selector; /* NULL: no workload, ever */
	VEC(struct manifest_set) sets;
	VEC(struct manifest_address) addresses;
	VEC(struct manifest_port) ports;
	struct manifest_service *next; /* with the same key in `by_label` */
	VEC(uint32_t) members;	       /* workloads, filled by view.c */
};
struct manifest_interval {
	uint8_t first[16];
	uint16_t block;
};
struct manifest_id {
	const char *text;
	uint16_t class;
};
struct view_manifest {
	struct arena *arena;
	const char *trust;
	uint32_t class_count, set_count;
	VEC(struct manifest_service) services;
	VEC(struct manifest_interval) intervals;
	VEC(struct manifest_id) ids;
	const char **spiffe;	 /* by class: a service's or an identity's SPIFFE ID, or NULL */
	struct table spaces;	 /* namespace to its class (manifest_class) */
	struct table identities; /* SPIFFE ID to its class */
	struct table by_label;	 /* services that need this label's value; without such a label, by namespace */
};

/* Reads MANIFEST, whose JSON must stay. -EINVAL: not what the compiler writes. */
int view_manifest_read(const json_t *manifest, struct arena *arena, struct view_manifest *ret_manifest,
		       struct why *why);

/* The class behind a name in `spaces` or `identities`; 0: none. */
uint16_t view_manifest_class(const struct table *table, const char *name);

uint16_t view_manifest_block(const struct view_manifest *manifest, const uint8_t address[16]);

/* The services of namespace NS that match LABELS, the first two by order; returns how many of them. */
unsigned view_manifest_match(const struct view_manifest *manifest, const char *ns, const struct labels *labels,
			     struct manifest_service *ret_services[2]);

#endif
