/* The node: one policy in force, up to eight resident, the inventory, and what the kernel is told of
 * both. Shared by the files of the daemon alone. */
#ifndef MESH_RUNTIME_NODE_H
#define MESH_RUNTIME_NODE_H

#include "base/bundle.h"
#include "broker.h"
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
	json_t *conflicts;  /* of the last view: array of objects */
	json_t *identities; /* of the last view: the SPIFFE ID of each workload of this node, by "namespace/name" */
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
struct flow_kept {
	struct mesh_record record;
	json_t *tunnel; /* NULL, or what the node proxy says of it */
};
struct flow_log {
	struct flow_kept at[FLOWS_KEPT];
	uint64_t next; /* id of the next record, which lies at [id % FLOWS_KEPT] */
	FILE *file;    /* config->flow_log, or NULL */
};

/* The node proxy, as meshd sees it. */
struct mtls {
	bool wanted;
	pid_t pid, broker; /* 0: none */
	int control;
	struct broker_line line; /* to the broker */
	int64_t status_ms;	 /* when both are asked how they are */
	int64_t start_ms;	 /* not before, where the last one died */
	char cgroup[1024];
	uint64_t stamp;	    /* of the identity files that were told last */
	json_t *told;	    /* what was said of each place, by endpoint: [cookie, message, question, order], and behind
			     * them why the proxy refused it */
	json_int_t orders;  /* how many were said of places */
	char *refused;	    /* why it refused an order that is of no place; NULL: it has taken files since */
	json_t *domains;    /* trust domains of which there was a bundle when files were told last */
	uint64_t questions; /* the round of being asked how it is that began last, and that it answered last */
	uint64_t answers;
	json_t *until;		/* what was gathered of the round under way; NULL: none is */
	uint32_t parts, after;	/* how many there were, and behind which endpoint it was asked last */
	int64_t asked_ms;	/* when that was */
	int64_t unlooked_ms;	/* since when no round came to its end; 0: the last one did */
	int64_t unanswered_ms;	/* since when it owes an answer; 0: it does not */
	json_t *files, *status; /* what it said last */
	json_t *file_problems;	/* of the identity files that were told last, before the proxy saw them; NULL: none */
	char *folder_problem;	/* why they could not be looked at just now; NULL: they could */
	char *problem;		/* why there is none; NULL: there is one */
	uint64_t restarts;
};

struct node {
	const struct config *config;
	int lock; /* of the pins */
	struct kernel *kernel;
	struct loop *loop;
	struct control *control;
	struct resident residents[MESH_GENERATIONS];
	uint32_t next_generation;
	uint64_t next_order;
	long long last_version; /* of this mesh, ever */
	char *closed_problem;	/* why the policy that was in force is not; NULL: it is, or there was none */
	struct inventory *inventory;
	char *inventory_problem; /* why the last reading was refused; NULL: it was not */
	char *people_problem;	 /* why what of the inventory is in force could not be told anew; NULL: it was */
	char inventory_stamp[256];
	long long inventory_s;
	struct registry registry;
	char name[256];
	struct place *places;
	size_t place_count;
	size_t place_problems;
	char place_problem[512]; /* the first of them */
	struct flow_log flows;
	struct mtls mtls;
	uint64_t watched;	    /* the bundle of config->watch that was tried last */
	char *watch_problem;	    /* why it is not in force; NULL: it is */
	char *watch_folder_problem; /* why nothing can be found there; NULL: it can */
	bool find_again;	    /* a namespace came that may be a workload's */
	uint32_t ticks;
	uint64_t full_seen; /* of MESH_STAT_MAP_FULL, and when that last grew */
	int64_t full_ms;
	uint64_t resets;
	bool adopted;
};

/* node.c */
int node_start(struct node *node, struct config *config, struct why *why);
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
/* The inventory at the start of meshd: where it cannot be read or does not fit, what is kept of the last one. */
void node_start_people(struct node *node);
/* 0: whom a policy is about can be told, at least by address. */
int people_known(struct node *node, struct why *why);
/* How many addresses are kept, however few `sizes` has room for. */
uint32_t people_kept(struct node *node);
int node_publish(struct node *node, struct why *why);
int node_publish_one(struct node *node, struct resident *resident, const struct bundle *bundle, struct why *why);
void node_watch_inventory(struct node *node);
/* The numbers of endpoints, for a restart. */
void node_save_people(struct node *node);

/* people_kept.c: the inventory in force, for a start without one */
void people_keep(const struct node *node);
int people_recall(const struct node *node, struct inventory **ret_inventory, struct why *why);

/* watch.c */
void node_watch_bundles(struct node *node);

/* places.c */
void node_find_places(struct node *node);
/* Gives a role to each TCP socket that was opened while nothing was decided. */
void node_adopt_sockets(struct node *node);
void node_release_places(struct node *node);
void node_take_order(void *context, const struct mesh_order *order);

/* mtls.c: the node proxy and its broker. Where the configuration has no `mtls`, these do nothing. */
int mtls_start(struct node *node, struct why *why);
/* Gives the workload in PLACE a listener, and says who it is. 1: the kernel may steer to it; 0: it takes no part. */
int mtls_place(struct node *node, const struct place *place, int netns_fd, struct why *why);
/* true: nothing is new; its namespace need not be entered. */
bool mtls_knows(const struct node *node, const struct place *place);
/* Places that are there no more. */
void mtls_forget_others(struct node *node);
/* All is told: the proxy of an earlier meshd may go. */
void mtls_take_over(struct node *node);
/* Policy or inventory changed. */
void mtls_switched(struct node *node);
void mtls_tick(struct node *node);
json_t *mtls_status(struct node *node);
/* Ends every proxy of CONFIG's node, and takes its cgroup away. */
void mtls_uninstall(const struct config *config);
/* The proxy goes on without meshd. */
void mtls_release(struct node *node);

/* mtls_health.c */
/* What the generation in force asks for and this node was not configured to give, as a sentence; NULL: nothing. */
const char *mtls_missing(struct node *node);
/* What is wrong with the proxy, or with what it was given: sentences, added to PROBLEMS. */
void mtls_problems(struct node *node, json_t *problems);

/* state.c: what outlives meshd on disk */
int state_save(const struct node *node, struct why *why);
/* Beside the others, until it has a slot. */
int state_keep_bundle(const struct node *node, const void *bytes, size_t len, struct why *why);
int state_place_bundle(const struct node *node, uint32_t slot, struct why *why);
/* malloc'd. -ENOENT, -EIO ... */
int state_read_bundle(const struct node *node, uint32_t slot, void **ret_bytes, size_t *ret_len);
/* Fills the residents' numbers, without generations. *RET_ACTIVE: the slot + 1 that was in force; 0: none ever was.
 * -EUCLEAN: one was, and which cannot be told. */
int state_load(struct node *node, uint32_t *ret_active, struct why *why);

/* status.c, flow_log.c */
json_t *node_status(struct node *node);
void node_take_record(void *context, const struct mesh_record *record);
/* TUNNEL is taken. */
void node_take_flow(struct node *node, const struct mesh_record *record, json_t *tunnel);
json_t *flow_json(struct node *node, const struct flow_kept *kept, uint64_t id);
int flow_matches(const json_t *filter, const json_t *flow);
json_t *flows_kept(struct node *node, const json_t *filter);
/* Of FILTER: an array of sentences. */
json_t *flow_warnings(struct node *node, const json_t *filter);

/* keys.c: what is wrong with the keys of the configuration, an array of sentences */
json_t *keys_problems(const struct config *config);

#endif
