/* What the files that build and walk diagrams share: ir/diagram*.c, ir/model.c, pass/decide.c,
 * pass/analyze.c. Behind the passes only ir/diagram.h is seen. */
#ifndef MESH_IR_DIAGRAM_BUILD_H
#define MESH_IR_DIAGRAM_BUILD_H

#include "ir/automaton.h"
#include "ir/diagram.h"

enum {
	DIAGRAM_LIMIT_EDGES = 16 << 20,
	DIAGRAM_LIMIT_WORK = 1 << 28,	    /* pairs of nodes that were merged */
	DIAGRAM_LIMIT_RESIDUALS = 64 << 10, /* L7 nodes of one destination */
	DIAGRAM_LIMIT_AUTOMATA = 8,	    /* of one field */
	DIAGRAM_WIDE_SOURCES = 8,
};

/* A string field of a destination: level LEVEL_STRING + its index. Its values: 0 absent, else 1 + the
 * accept class that the automaton ends in. */
struct diagram_field {
	enum field field;
	const char *key; /* of a header, else NULL */
	const struct automaton *automaton;
	const struct pattern *patterns;
	const struct span *spans; /* where each pattern was first written */
	size_t pattern_count;
};
struct diagram_fields {
	struct diagram_field *at;
	uint32_t count;
};

struct diagram_dst {
	VEC(uint32_t) rules; /* ranks of those that name it, ascending */
	const struct diagram_fields *fields;
	node_id roots[DIAGRAM_KINDS];
};

/* Boolean diagrams end in these two: `min` is then `or`. */
#define DIAGRAM_YES_VALUE 0u
#define DIAGRAM_NO_VALUE TERMINAL_DEFAULT

enum diagram_op {
	DIAGRAM_MIN,
	DIAGRAM_AND,
	DIAGRAM_AND_NOT,
	DIAGRAM_UNION, /* of audit sets */
	DIAGRAM_SECOND /* of the verdicts of two sets of rules without one in common: see below */
};

/* What DIAGRAM_SECOND makes of verdict terminals: which rule decides, and what would without it. */
#define DIAGRAM_BEST(terminal) ((terminal) & 0x3ffffffu)
#define DIAGRAM_NEXT(terminal) ((terminal) >> 26)
/* An allow that others hide wherever it matches: none of those that decide, and behind all of them. */
#define DIAGRAM_HIDDEN 0x2000000u
enum diagram_next { DIAGRAM_NEXT_DEFAULT, DIAGRAM_NEXT_HIDDEN, DIAGRAM_NEXT_ALLOW, DIAGRAM_NEXT_DENY };

/* What ir/diagram_mtls.c makes once. */
struct diagram_mtls {
	node_id *strict;  /* by destination: ports; 0, or the node + 1 */
	node_id unshown;  /* sources and protocols that never show a certificate */
	node_id stranger; /* and of those, all but the node itself */
};

struct diagram *diagram_create(struct arena *arena, const struct policy *policy);
struct diagram_dst *diagram_dst(const struct diagram *diagram, uint32_t dst);
/* Where a rule's sources and port conditions are remembered: 0, or the node + 1. */
node_id *diagram_sources_of(struct diagram *diagram, uint32_t rank);
struct diagram_mtls *diagram_mtls(struct diagram *diagram);
struct arena *diagram_arena(const struct diagram *diagram);
const struct policy *diagram_policy(const struct diagram *diagram);

node_id diagram_leaf(struct diagram *diagram, uint32_t value);
node_id diagram_yes(struct diagram *diagram);
node_id diagram_no(struct diagram *diagram);
/* EDGES in order, covering the level's domain; neighbours of one child are joined. */
node_id diagram_node(struct diagram *diagram, uint32_t level, const struct diagram_edge *edges, uint32_t count);
/* Yes where the value lies in SET, at a level of values 0..LAST. */
node_id diagram_member(struct diagram *diagram, uint32_t level, const struct range_set *set, uint32_t last);
node_id diagram_apply(struct diagram *diagram, enum diagram_op op, node_id a, node_id b);
/* A boolean diagram with its ends renamed. */
node_id diagram_label(struct diagram *diagram, node_id node, uint32_t yes, uint32_t no);
/* NODE where the peer showed a certificate (VERIFIED) or none: it asks no more. */
node_id diagram_where_verified(struct diagram *diagram, node_id node, bool verified);
/* Audit set {RANK}. */
uint32_t diagram_audit_single(struct diagram *diagram, uint32_t rank);
/* True once a bound was passed: what is built from then on means nothing. */
bool diagram_over(const struct diagram *diagram);

/* ---- ir/diagram_rule.c: boolean diagrams of the parts of a policy ----------------------------- */

/* The requests that RULE matches among those to DST. */
node_id diagram_rule(struct diagram *diagram, uint32_t rank, uint32_t dst);
node_id diagram_sources(struct diagram *diagram, const struct policy_sources *sources);
node_id diagram_ports(struct diagram *diagram, const struct policy_targets *targets, uint32_t dst);
node_id diagram_cond(struct diagram *diagram, const struct cond *cond, const struct diagram_fields *fields);
bool range_set_has(const struct range_set *set, uint32_t value);

/* ---- ir/diagram_mtls.c: NODE, of requests to DST, without those that cannot be ------------------ */

struct diagram_ports {
	VEC(struct range) at;
};
/* Of DST, those that are strict. */
void diagram_strict_ports(struct arena *arena, const struct policy *policy, uint32_t dst, struct diagram_ports *ports);

/* Nobody is verified who cannot be. */
node_id diagram_asked(struct diagram *diagram, node_id node, uint32_t dst);
/* And without those that a strict port refuses whatever the rules say; where they were is the default, or
 * no. What peers without a certificate ask of it is not told apart. */
node_id diagram_taken(struct diagram *diagram, node_id node, uint32_t dst);
node_id diagram_taken_on(struct diagram *diagram, node_id node, uint32_t dst, const struct diagram_ports *strict);
/* The part that rests on no certificate: not verified, and not to a strict port. */
node_id diagram_in_clear(struct diagram *diagram, node_id node, uint32_t dst);

/* ---- ir/diagram_field.c ------------------------------------------------------------------------ */

/* The string fields that the conditions of COUNT rules and arms ask for; cached by what they ask.
 * -E2BIG, -EINVAL with the pattern queued. */
int diagram_fields_make(struct diagram *diagram, const struct cond *const *conds, size_t count, struct diags *diags,
			const struct diagram_fields **ret_fields);

#endif
