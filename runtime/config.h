/* The node's configuration: one YAML file, unknown keys are errors. */
#ifndef MESH_RUNTIME_CONFIG_H
#define MESH_RUNTIME_CONFIG_H

#include "base/arena.h"
#include "base/vec.h"
#include "base/why.h"

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_PATH "/etc/mesh/meshd.yaml"

struct config {
	struct arena *arena;		       /* owns every string */
	const char *mesh;		       /* mesh: the only mesh whose bundles are accepted; required */
	VEC(const char *) keys;		       /* keys: [PATH]: public keys, PEM; at least one */
	VEC(const char *) enrol_namespaces;    /* enrol: namespaces: [..] */
	const char *enrol_label, *enrol_value; /* enrol: label: "mesh=on"; NULL: none */
	const char *cgroup;		       /* cgroup: absolute; default: the root of the cgroup2 mount found */
	const char *bpffs;		       /* bpffs: default /sys/fs/bpf; must be a bpffs */
	const char *pins;		       /* pins: folder name below bpffs, default "mesh" */
	const char *state;		       /* state: default /var/lib/mesh: bundles that are resident, endpoints */
	const char *socket;		       /* socket: default /run/mesh/meshd.sock */
	const char *socket_group;	       /* group: who besides root; NULL: nobody */
	const char *inventory;		       /* inventory: file or folder; required */
	const char *watch;		       /* watch: a folder whose newest bundle is applied; NULL: none */
	const char *node;      /* node: this node's name; default: the inventory's "node", then the host name */
	const char *flow_log;  /* flow_log: a file to which flows are appended as JSON lines; NULL: none */
	uint32_t generations;  /* generations: kept resident, 2..8, default 8 */
	uint32_t endpoints;    /* sizes: endpoints: default 65536, 16..1048576 */
	uint32_t kept;	       /* not read: addresses for which there is room, though `endpoints` is less */
	uint32_t backends;     /* sizes: backends: default 65536 (two halves are used in turn) */
	uint32_t services;     /* sizes: services: service (address, port, protocol), default 65536 */
	uint32_t sockets;      /* sizes: sockets: exact and UDP flows, default 65536 */
	uint32_t record_rate;  /* record_rate: flow records a second and CPU, default 1000 */
	uint32_t quarantine_s; /* quarantine: seconds, default 30 */
	/* mtls: the node proxy; NULL: there is none, and what a policy calls strict is refused */
	const char *mtls_identities; /* identities: folder of SVIDs */
	const char *mtls_trust;	     /* trust: folder of trust bundles and CRLs; default: identities/bundle */
	const char *mtls_user;	     /* user: whom the proxy runs as, default mesh-proxy */
	const char *mtls_program;    /* program: default: meshp beside meshd */
	uint32_t mtls_drain_s;	     /* drain: how long a proxy that was replaced keeps its connections, default 30 */
	uint32_t mtls_connections;   /* connections: default 20000 */
	bool observe_only;	     /* observe_only: verdicts are reported, nothing is refused */
	bool allow_older;	     /* allow_older: a bundle of an older policy version is accepted */
};

/* Reads PATH. 0; -ENOENT, -EACCES: unreadable; -EINVAL: with file:line:column, what is wrong and a
 * hint in WHY. Bounded: 1 MiB, 1,000 list items. */
int config_read(const char *path, struct config *ret_config, struct why *why);
void config_release(struct config *config);

#endif
