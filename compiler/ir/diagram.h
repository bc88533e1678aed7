/* The decision diagram: multi-terminal, interval-labelled, hash-consed. See docs/architecture.md.
 *
 * Levels, in order: protocol (0 TCP, 1 UDP), port, source class (high byte, low byte of the class),
 * source block, whether the peer showed a certificate (0, 1), then string fields. A destination has one root for each
 * diagram. */
#ifndef MESH_IR_DIAGRAM_H
#define MESH_IR_DIAGRAM_H

#include "base/diag.h"
#include "ir/policy.h"

#include "abi.h"

/* Verdict terminals merge by min: deny = rank, allow = 2^24 + rank, default = the maximum. */
#define TERMINAL_ALLOW 0x1000000u
#define TERMINAL_DEFAULT 0xffffffffu
/* Audit terminals: index into audit_sets (0: the empty set). Route terminals: arm number. */

enum level { LEVEL_PROTOCOL, LEVEL_PORT, LEVEL_SRC_HIGH, LEVEL_SRC_LOW, LEVEL_BLOCK, LEVEL_VERIFIED, LEVEL_STRING };

typedef uint32_t node_id; /* bit 31: a terminal, the rest indexes terminals */

struct diagram_edge {
	uint32_t hi; /* last value of this edge; edges cover the whole domain in order */
	node_id child;
};

struct diagram;

bool diagram_is_terminal(node_id node);
uint32_t diagram_terminal(const struct diagram *diagram, node_id node);
/* LEVEL_STRING + i for the i-th string field of the destination. */
uint32_t diagram_level(const struct diagram *diagram, node_id node);
const struct diagram_edge *diagram_edges(const struct diagram *diagram, node_id node, uint32_t *ret_count);
/* True where a string field can still change the outcome below this node. */
bool diagram_has_l7(const struct diagram *diagram, node_id node);
size_t diagram_nodes(const struct diagram *diagram);

enum diagram_kind { DIAGRAM_VERDICT, DIAGRAM_AUDIT, DIAGRAM_ROUTE, DIAGRAM_WIDE, DIAGRAM_KINDS };
/* DIAGRAM_WIDE: verdicts by the rules alone whose sources are wide (more than 8 classes):
 * the matrix of pass/place.c; rules of few sources go into its comb. */

/* Root for destination class DST. */
node_id diagram_root(const struct diagram *diagram, enum diagram_kind kind, uint32_t dst);

/* Ranks of the audits in a set, ascending. */
const uint32_t *diagram_audit_set(const struct diagram *diagram, uint32_t set, uint32_t *ret_count);
uint32_t diagram_audit_sets(const struct diagram *diagram);

/* pass/decide.c. Errors (a bound) are queued; -E2BIG then. */
int decide(struct arena *arena, const struct policy *policy, struct diags *diags, struct diagram **ret_diagram);

/* What a request comes to. ir/model.c walks the diagram. */
struct decision {
	bool allow, by_default, default_audit;
	bool depends;		/* method absent on an http port and L7 fields matter: see `open` */
	uint32_t rule;		/* rank, where not by_default */
	const uint32_t *audits; /* ranks */
	uint32_t audit_count;
	uint32_t arm;		  /* UINT32_MAX: none (no route: the whole service) */
	const uint32_t *matching; /* ranks of all rules that match (opening: may match) */
	uint32_t matching_count;
	bool unknown;	/* denied: a port that no service has, at a service's address */
	bool plaintext; /* denied: `rule` (or the default) allows it, but only with mTLS */
	bool refused;	/* the request is malformed (language.md 17): denied, `why_refused` says so */
	const char *why_refused;
};
/* How the connection travels. Where it is not said, a certificate is shown to a port that wants one, by a
 * source that has one. */
enum mesh_via model_via(const struct policy *policy, const struct request *request);
int model_decide(struct arena *arena, const struct policy *policy, const struct diagram *diagram,
		 const struct request *request, struct decision *ret_decision);

/* Of rule RANK, which parts the request meets: a miss by one part is near. */
struct near {
	bool from, to, when;
};
struct near model_near(struct arena *arena, const struct policy *policy, const struct diagram *diagram,
		       const struct request *request, uint32_t rank);

/* Does the request, as far as it is said, meet COND on its way to its destination? */
bool model_meets(struct arena *arena, const struct diagram *diagram, const struct request *request,
		 const struct cond *cond);

/* pass/analyze.c: never proofs, rules that never match, shadowed rules and who hides them. */
void analyze(struct arena *arena, const struct policy *policy, const struct diagram *diagram, struct diags *diags);

#endif
