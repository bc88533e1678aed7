/* Endpoints: a number for each (workload, address), stable while that workload has that address. An
 * address that leaves the inventory is quarantined before it may mean somebody else. */
#ifndef MESH_RUNTIME_REGISTRY_H
#define MESH_RUNTIME_REGISTRY_H

#include "config.h"
#include "base/inventory.h"

struct endpoint {
	uint8_t address[16];
	uint32_t flags;			 /* MESH_PEER_..., as the kernel gets it */
	const char *owner;		 /* "namespace/name"; malloc'd; NULL: a free number */
	const struct workload *workload; /* NULL while quarantined; points into the inventory in force */
	int64_t until_ms;		 /* quarantined until, CLOCK_MONOTONIC */
};
struct registry {
	struct endpoint *at; /* by number; 0 is never used */
	uint32_t len, cap;
};

/* Takes INVENTORY in (it must live until the next call): numbers for what is new, quarantine for what
 * left, quarantined addresses that may be given anew. A new workload on an address in quarantine
 * waits until it ends. NODE: this node's name. *ret_next_ms: when to call again though the inventory
 * has not changed, 0: never. 0, or -ENOSPC where config->endpoints are used up (nothing changed). */
int registry_update(struct registry *registry, const struct config *config, const struct inventory *inventory,
		    const char *node, int64_t now_ms, int64_t *ret_next_ms, struct why *why);

/* PATH keeps the numbers over a restart (written by rename). -EINVAL: no such file, or damaged. */
int registry_save(const struct registry *registry, const char *path, struct why *why);
int registry_load(struct registry *registry, const char *path, struct why *why);
void registry_release(struct registry *registry);

#endif
