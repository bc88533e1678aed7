/* What the inventory means to one policy: the manifest's selectors applied to every workload. */
#ifndef MESH_RUNTIME_VIEW_H
#define MESH_RUNTIME_VIEW_H

#include "abi.h"
#include "registry.h"

struct view_vip {
	struct mesh_vip_key key;
	struct mesh_vip value;
};
/* A SPIFFE ID, or that of a whole namespace, as the node proxy asks for it (abi.h, struct mesh_ask). */
struct view_id {
	uint8_t digest[16];
	uint32_t class;
};
struct view_conflict {
	const struct workload *workload;
	const char *first, *second; /* the services it matches, qualified */
};
struct view {
	struct arena *arena;
	struct mesh_class *classes; /* by endpoint number, registry->len of them */
	uint32_t class_count;
	VEC(struct view_vip) vips; /* with the (port 0, protocol 0) entry of every service address */
	uint32_t set_count;	   /* 2 * the manifest's sets */
	struct mesh_set *sets;	   /* `first` counts from 0: the publisher adds its half's offset */
	VEC(struct mesh_backend) backends;
	VEC(struct view_conflict) conflicts;
	VEC(struct view_id) ids;
	const char **spiffe; /* by endpoint number: the ID of a workload of this node; NULL: it has none */
};

/* MANIFEST is a verified bundle's; still every index in it is checked. A workload is in the service of
 * its own namespace whose selector matches its labels; where it matches two it is a conflict (source:
 * the namespace's class; destination: MESH_CLASS_CONFLICT). Of no service: the namespace's class
 * ("shop/-"), or, by its account, an identity class of that SPIFFE ID; of a namespace that the policy
 * does not name: MESH_CLASS_OTHER (destination: the same). Host-network workloads: MESH_CLASS_NODE
 * as a source. `block` by the manifest's intervals. Quarantined endpoints: all 0. A set's backends
 * are the addresses (IPv4: index 2 * set, IPv6: 2 * set + 1) of the service's workloads that are not
 * in conflict and whose labels match the subset's selector.
 * 0; -EINVAL: the manifest is not what the compiler writes; -E2BIG: too many backends or vips. */
int view_make(const json_t *manifest, const struct inventory *inventory, const struct registry *registry,
	      const struct config *config, struct view *ret_view, struct why *why);
void view_release(struct view *view);

#endif
