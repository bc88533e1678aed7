/* The node: one policy in force, up to eight resident, the inventory, and what the kernel is told of
 * both. Shared by the files of the daemon alone. */
#ifndef MESH_RUNTIME_NODE_H
#define MESH_RUNTIME_NODE_H

#include "base/bundle.h"
#include "config.h"
#include "control.h"
#include "base/inventory.h"
#include "kernel.h"
#include "loop.h"
#include "names.h"
#include "registry.h"
#include "view.h"

/* A generation that is loaded. Its bundle lies in the state folder and is read when inventory changes. */
struct resident {
	struct generation *generation; /* NULL: the slot is free */
	struct names *names;	       /* NULL: its bundle is lost; it enforces, but inventory cannot reach it */
	long long version, applied_s;  /* CLOCK_REALTIME */
	uint64_t order;		       /* of being applied: the highest was the last */
	char digest[80];
	uint32_t rules;
	json_t *conflicts; /* of the last view: array of objects */
};

/* A bundle in memory, accepted. */
struct offer {
	void *bytes;
	size_t len;
	struct bundle bundle;
};

/* A local workload's network namespace. */
struct place {
	uint64_t cookie;
	uint32_t endpoint4, endpoint6, flags;
	bool adopted;	      /* every socket in it is stamped */
	const char *workload; /* "namespace/name", malloc'd */
};

enum { FLOWS_KEPT = 4096, FLOWS_SHOWN = 1000 /* at once */ };
struct flow_log {
	struct mesh_record at[FLOWS_KEPT];
	uint64_t next; /* id of the next record, which lies at [id % FLOWS_KEPT] */
	FILE *file;    /* config->flow_log, or NULL */
};

struct node {
	const struct config *config;
	struct kernel *kernel;
	struct loop *loop;
	struct control *control;
	struct resident residents[MESH_GENERATIONS];
	uint32_t next_generation;
	uint64_t next_order;
	long long last_version; /* of this mesh, ever */
	struct inventory *inventory;
	char *inventory_problem; /* why the last reading was refused; NULL: it was not */
	char inventory_stamp[256];
	long long inventory_s;
	struct registry registry;
	char name[256];
	struct place *places;
	size_t place_count;
	size_t place_problems;
	char place_problem[512]; /* the first of them */
	struct flow_log flows;
	uint64_t watched;    /* the bundle of config->watch that was tried last */
	char *watch_problem; /* why it is not in force; NULL: it is */
	bool find_again;     /* a namespace came that may be a workload's */
	uint32_t ticks;
	uint64_t full_seen; /* of MESH_STAT_MAP_FULL, and when that last grew */
	int64_t full_ms;
	uint64_t resets;
	bool adopted;
};

/* node.c */
int node_start(struct node *node, const struct config *config, struct why *why);
int node_run(struct node *node);
void node_stop(struct node *node);
/* The slot in force, or NULL. */
struct resident *node_active(struct node *node);
void node_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* apply.c */
/* IF_NEW: a bundle that is in force already is left alone, and 1 returned. */
int node_apply(struct node *node, int fd, bool if_new, json_t *answer, struct why *why);
int node_rollback(struct node *node, uint32_t generation, json_t *answer, struct why *why);
int node_set_mode(struct node *node, bool off);
/* Adopts what is pinned; loads the last bundle anew where nothing is (after a reboot). */
int node_recover(struct node *node, struct why *why);
void resident_release(struct resident *resident);
/* The bundle of the generation in SLOT, from the state folder; accepted again. */
int offer_of_slot(struct node *node, uint32_t slot, struct offer *ret_offer, struct why *why);
void offer_close(struct offer *offer);

/* people.c: the inventory, and what it means to the kernel */
int node_read_inventory(struct node *node, struct why *why);
int node_publish(struct node *node, struct why *why);
int node_publish_one(struct node *node, struct resident *resident, const struct bundle *bundle, struct why *why);
void node_watch_inventory(struct node *node);

/* watch.c */
void node_watch_bundles(struct node *node);

/* places.c */
void node_find_places(struct node *node);
/* Gives a role to each TCP socket that was opened while nothing was decided. */
void node_adopt_sockets(struct node *node);
void node_release_places(struct node *node);
void node_take_order(void *context, const struct mesh_order *order);

/* state.c: what outlives meshd on disk */
int state_save(const struct node *node, struct why *why);
int state_save_bundle(const struct node *node, uint32_t slot, const void *bytes, size_t len, struct why *why);
/* malloc'd. -ENOENT, -EIO ... */
int state_read_bundle(const struct node *node, uint32_t slot, void **ret_bytes, size_t *ret_len);
/* -ENOENT: none. Fills the residents' numbers, without generations. */
int state_load(struct node *node, uint32_t *ret_active_slot, struct why *why);

/* status.c, flow_log.c */
json_t *node_status(struct node *node);
void node_take_record(void *context, const struct mesh_record *record);
json_t *flow_json(struct node *node, const struct mesh_record *record, uint64_t id);
int flow_matches(const json_t *filter, const json_t *flow);
json_t *flows_kept(struct node *node, const json_t *filter);

#endif
