/* What changes between two policies: requests in groups, and definitions. */
#ifndef MESH_PASS_DIFF_H
#define MESH_PASS_DIFF_H

#include "ir/diagram_build.h"
#include "pass/pair.h"

/* Terminals are ranks (ir/diagram.h); what no rule decides: */
#define DIFF_DEFAULT_DENY 0xffffffffu
#define DIFF_DEFAULT_ALLOW 0xfffffffeu
#define DIFF_MALFORMED 0xfffffffdu /* cannot be read, and only a request could decide */

/* AUDITED: what a rule allows on one side, a default of `audit` lets through on the other. It is told as a note, and is
 * no difference. */
enum diff_change { DIFF_WIDENED, DIFF_NARROWED, DIFF_MOVED, DIFF_MTLS, DIFF_AUDITED };

struct diff_outcome {
	enum diff_change change;
	uint32_t by[SIDES]; /* who decides; MOVED: numbers of shares; MTLS: modes */
	bool l7;	    /* not of a connection: of some of its requests */
	bool malformed;	    /* and what cannot be read changes the same way, to a denial */
};

/* Ports of one protocol or both; never 0. */
struct diff_ports {
	VEC(struct range) tcp, udp;
};

struct diff_text {
	enum field field;
	const char *key, *value;
};

/* The example of a group. */
struct diff_witness {
	uint32_t source, block, target; /* target: number in pair->targets */
	enum verified verified;
	bool udp, http, malformed;
	uint16_t port;
	VEC(struct diff_text) texts;
};

/* SOURCES x TARGETS x PORTS, all of which change so (of L7: some of whose requests do). */
struct diff_group {
	struct diff_outcome outcome;
	uint32_t number;	/* of the outcome */
	node_id sources;	/* in diff->builder */
	enum verified verified; /* of those alone that show a certificate, or none; UNSAID: it changes nothing */
	VEC(uint32_t) targets;	/* numbers in pair->targets */
	struct diff_ports ports;
	bool exact;	/* false: many such products in one, not every combination changes */
	uint64_t count; /* pairs of a source and a destination */
	struct {	/* the product that the witness is of */
		node_id sources;
		uint32_t target;
		struct diff_ports ports;
	} sample;
	struct diff_witness witness;
};

/* The shares of a route's arm. */
struct diff_share {
	const char *subset; /* NULL: the whole service */
	uint32_t weight;
};
struct diff_shares {
	VEC(struct diff_share) at;
	uint32_t sum;
};

struct diff {
	struct arena *arena;
	struct pair *pair;
	struct diagram *builder; /* of sets of sources, ports */
	node_id everyone;	 /* all sources that there are, wherever they are */
	VEC(struct diff_shares) shares;
	VEC(struct diff_outcome) outcomes;
	VEC(struct diff_group) groups;
	VEC(const char *) definitions; /* differences that no request shows */
	VEC(const char *) notes;       /* what is reported otherwise: no difference */
	bool gave_up;		       /* some requests could neither be told apart nor not within the bound */
	const char *where;	       /* ... to this destination */
	struct naming *source_naming, *target_naming; /* pass/diff_words.c */
};

/* 0; -E2BIG: `gave_up`, or a bound of the diagrams. */
int diff_make(struct pair *pair, struct diff *ret_diff);

/* ---- Its parts ------------------------------------------------------------------------------------ */

/* pass/diff_definitions.c: services, subsets, sticky, mesh; the modes of mTLS as groups. */
void diff_definitions(struct diff *diff);
void diff_mtls(struct diff *diff);

/* pass/diff_notes.c: audits, defaults of `audit` against `allow` and against rules, dates of mTLS. Takes out the groups
 * that are AUDITED. */
void diff_notes(struct diff *diff);

/* pass/diff_words.c: the fewest words for exactly these. */
struct diff_words {
	VEC(const char *) at;
};
struct diff_words diff_source_words(struct diff *diff, node_id sources);
struct diff_words diff_target_words(struct diff *diff, const struct diff_group *group);
struct diff_words diff_port_words(struct diff *diff, const struct diff_ports *ports);
/* "http.path like \"/a\"": the condition of rule BY on SIDE; NULL: none. */
const char *diff_condition(struct diff *diff, enum side side, uint32_t by);

/* pass/diff_witness.c: the example as a request line of `why --requests`, in the words of SIDE; owned. */
json_t *diff_request(struct diff *diff, const struct diff_witness *witness, enum side side);
void diff_choose(struct diff *diff, struct diff_group *group);

bool diff_allows(uint32_t by);
/* The blocks in which source CLASS is in SOURCES: a node of diff->builder. */
node_id diff_blocks_of(const struct diff *diff, node_id sources, uint32_t class);
bool diff_has_block(const struct diff *diff, node_id blocks, uint32_t block);

#endif
