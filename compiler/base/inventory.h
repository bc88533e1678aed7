/* Who runs where: data, not policy. Untrusted text; the last good one stays in force. */
#ifndef MESH_BASE_INVENTORY_H
#define MESH_BASE_INVENTORY_H

#include "base/arena.h"
#include "base/selector.h"
#include "base/vec.h"
#include "base/why.h"

#include <stdbool.h>
#include <stdint.h>

struct workload {
	const char *ns, *name, *account; /* account NULL: not said */
	struct labels labels;
	VEC(struct workload_address {
		uint8_t bytes[16]; /* v4 mapped */
	})
	addresses;
	const char *node;   /* NULL: not said */
	const char *netns;  /* path, NULL: not said */
	const char *cgroup; /* path below the cgroup2 root or absolute, NULL: not said */
	const char *uid;    /* Kubernetes pod UID, NULL: not said */
	int pid;	    /* 0: not said */
	bool host_network;
};
struct inventory_port {
	uint16_t port, target;
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
};
struct inventory_service { /* service addresses that come from here instead of from the policy */
	const char *ns, *name;
	VEC(struct workload_address) addresses;
	VEC(struct inventory_port) ports; /* none: those of the policy */
};
struct inventory {
	struct arena *arena;			/* owns all */
	const char *node;			/* NULL: not said */
	VEC(struct workload) workloads;		/* sorted by namespace, name */
	VEC(struct inventory_service) services; /* sorted by namespace, name */
};

/* Reads PATH: our own format, the List of `kubectl get pods,services -A -o json`, or a folder of
 * such files (*.json, in order of names). 0; -ENOENT ...: unreadable; -EINVAL: malformed, with
 * file:line:column and the reason; -EEXIST: contradictory (two workloads with one name or one
 * address, both named in WHY); -E2BIG: more than 64 MiB, 1,000,000 workloads or 64 addresses each. */
int inventory_read(const char *path, struct inventory **ret_inventory, struct why *why);
void inventory_release(struct inventory *inventory);

#endif
