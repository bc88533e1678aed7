/* The policy after lowering: flat arrays, everything numbered. Numbers follow names in byte order,
 * never the order of text. Written by pass/lower.c, read by every pass behind it. */
#ifndef MESH_IR_POLICY_H
#define MESH_IR_POLICY_H

#include "base/source.h"
#include "ir/field.h"

#include <jansson.h>

/* Inclusive ranges, sorted, disjoint, not adjacent. */
struct range {
	uint32_t lo, hi;
};
struct range_set {
	const struct range *at;
	uint32_t count;
};

/* ---- Universe: who there is ----------------------------------------------------------------- */

/* Class numbers: 0..4 as in abi.h (unknown, world, node, other, conflict); then, sorted by
 * qualified name, a class for each namespace ("shop/-": its workloads of no service), each service
 * and each identity that is no service's ("ci/deployer"); these are sources and destinations
 * (identities: sources only). Behind them, destinations only: one class for each set of externals
 * that some address block lies in. World (1) as a destination: no workload, no external. */
enum class_kind {
	CLASS_UNKNOWN,
	CLASS_WORLD,
	CLASS_NODE,
	CLASS_OTHER,
	CLASS_CONFLICT,
	CLASS_NAMESPACE,
	CLASS_SERVICE,
	CLASS_IDENTITY,
	CLASS_EXTERNAL
};
struct policy_class {
	enum class_kind kind;
	const char *name;	 /* "shop/frontend", "shop/-", "world"; externals: "shop/a+shop/b" */
	const char *ns;		 /* NULL: none */
	uint32_t service;	 /* CLASS_SERVICE: index into services */
	const char *spiffe;	 /* CLASS_IDENTITY, CLASS_SERVICE; else NULL */
	VEC(uint32_t) externals; /* CLASS_EXTERNAL: indices into externals */
};

/* An address block: what lies in exactly the same cidrs and externals. Block 0 is in none. */
struct policy_interval {
	uint8_t first[16]; /* v4 mapped; up to the next interval's first. The array starts at 0 and
			    * v4 lies in it at ::ffff:0:0/96 like any other part. */
	uint32_t block;
};

enum port_kind { PORT_TCP, PORT_UDP, PORT_HTTP, PORT_GRPC }; /* all but UDP are TCP on the wire */
struct policy_port {
	enum port_kind kind;
	uint16_t lo, hi; /* the service's; hi > lo only without a target */
	uint16_t target; /* the workload's lo (== lo unless `80 to 8080`) */
	struct span span;
};

struct policy_subset {
	const char *name;
	json_t *selector; /* base/selector.h */
	uint32_t set;	  /* number of its backend set */
	struct span span;
};
enum policy_verdict { VERDICT_DENY, VERDICT_ALLOW, VERDICT_AUDIT };

struct policy_service {
	const char *ns, *name; /* name without its namespace */
	const char *account;
	uint32_t class;
	uint32_t set;		     /* backend set of all its workloads */
	json_t *selector;	     /* NULL: none, no workload ever */
	VEC(const char *) addresses; /* as text */
	VEC(struct policy_port) ports;
	VEC(struct policy_subset) subsets; /* by name */
	uint32_t first_arm, arms;	   /* its route: indices into arms; 0 arms: no route, set of all */
	bool sticky;			   /* by source */
	struct span span;
};
struct policy_external {
	const char *name; /* qualified */
	VEC(struct policy_port) ports;
	struct span span;
};

/* The name that an identity was declared by; its class may have another, or be a service's. */
struct policy_identity {
	const char *name; /* qualified */
	uint32_t class;
};

/* A name that no request can be of: a cidr or a group. Kept for messages. */
struct policy_plural {
	const char *name; /* qualified */
	bool is_group;
	const char *example; /* a name or an address that could be said instead; NULL: none */
};

/* ---- Rules ---------------------------------------------------------------------------------- */

/* classes x blocks. */
struct policy_rect {
	struct range_set classes, blocks;
};
/* (union of in) minus (union of out). */
struct policy_sources {
	VEC(struct policy_rect) in, out;
};
struct policy_target {
	struct range_set classes; /* destination classes */
	bool declared;		  /* only (protocol, port)s that the service or external declares; world: every */
	bool tcp, udp;		  /* and of those only these ... */
	struct range_set ports;	  /* ... ports (the workload's); 0..65535 where not said */
};
struct policy_targets {
	VEC(struct policy_target) in, out; /* union of in minus union of out */
};

enum cond_kind { COND_ATOM, COND_AND, COND_OR, COND_NOT };
enum cond_op { OP_EQ, OP_NE, OP_IN, OP_RANGE, OP_LIKE, OP_MATCHES, OP_HAS, OP_IS };
struct cond {
	enum cond_kind kind;
	const struct cond *left, *right; /* NOT: left only */
	/* ATOM: */
	enum field field; /* ir/field.h; grpc.method is lowered to FIELD_PATH with a leading '/' */
	const char *key;  /* header name, lower case */
	enum cond_op op;
	VEC(const char *)
	values;			   /* strings: EQ, NE one; IN any; LIKE, MATCHES one; normalised as
				    * language.md 17 says where they are literals */
	VEC(struct range) numbers; /* ports */
	struct span span;
};

struct policy_rule {
	const char *name;	    /* unique in the mesh */
	enum policy_verdict effect; /* DENY, ALLOW; VERDICT_AUDIT: an audit rule */
	uint32_t rank;		    /* of all rules: those without L7 condition first, then by name: the number of
				     * the rule everywhere (records, manifest, terminals). rules[rank] is this. */
	bool l7;
	struct policy_sources from;
	struct policy_targets to;
	const struct cond *when; /* NULL: always */
	struct span span, name_span, when_span;
	const char *text; /* policy_rule_text */
};

struct policy_split {
	uint32_t set;	    /* backend set */
	const char *subset; /* NULL: the whole service */
	uint32_t weight;
};
struct policy_arm {
	uint32_t service;
	bool per_connection; /* written so; tcp and udp: always */
	bool l7;
	struct policy_sources from;
	const struct cond *when;	 /* NULL: the last arm */
	VEC(struct policy_split) splits; /* weight 0 left out */
	struct span span;
};

struct policy_never {
	const char *text;
	bool through_any;
	struct policy_sources from;
	struct policy_targets to;
	struct span span;
};

/* ---- Requests and tests --------------------------------------------------------------------- */

struct request_header {
	const char *name, *value; /* name lower case, value as sent */
};
enum verified { VERIFIED_UNSAID, VERIFIED_NO, VERIFIED_YES };
struct request {
	uint32_t src, block, dst;
	bool udp;
	uint16_t port;			  /* the workload's */
	enum verified verified;		  /* did the peer show a certificate? Unsaid: where the port wants one */
	bool http;			  /* the destination port is http or grpc */
	const char *method, *host, *path; /* NULL: absent (opening of a connection) */
	VEC(struct request_header) headers;
};

enum expect_kind { EXPECT_ALLOW, EXPECT_DENY, EXPECT_SUBSET, EXPECT_AUDIT };
struct policy_expect {
	enum expect_kind kind;
	const char *by;		      /* rule name, "default", subset name; NULL: any */
	VEC(struct request) requests; /* all must hold: `from group` is every member and one unknown */
	VEC(const char *) labels;     /* for messages, one a request: "shop/frontend" */
	struct span span;
};
struct policy_test {
	const char *name;
	VEC(struct policy_expect) expects;
	struct span span;
};

enum mtls_mode { MTLS_OFF, MTLS_PERMISSIVE, MTLS_STRICT };
struct policy_mtls {
	enum mtls_mode mode;
	struct range_set classes; /* scope: destination classes */
	uint32_t port;		  /* 0: every */
	const char *scope;	  /* "mesh", "namespace shop", "shop/reviews" */
	const char *until;	  /* PERMISSIVE: the last day, YYYY-MM-DD; else NULL */
	struct span span;
};

struct policy {
	const char *mesh, *trust;
	VEC(struct policy_class) classes;
	uint32_t sources; /* classes below this number are sources; behind: externals */
	VEC(struct policy_interval) intervals;
	uint32_t blocks;
	VEC(uint32_t) block_dst;	     /* by block: destination class of an address that is no workload */
	VEC(struct policy_service) services; /* by qualified name */
	VEC(struct policy_external) externals;
	VEC(struct policy_identity) identities;
	VEC(struct policy_plural) plurals;
	uint32_t sets;			   /* backend sets */
	VEC(struct policy_rule) rules;	   /* by rank */
	VEC(enum policy_verdict) defaults; /* by destination class; AUDIT: allow and report */
	VEC(struct policy_arm) arms;
	VEC(struct policy_never) nevers;
	VEC(struct policy_test) tests;
	VEC(struct policy_mtls) mtls;
	bool asks_verified;	   /* some rule's condition has peer.verified */
	const char *source_digest; /* "sha256:..." of the text, files in order of names */
};

/* What a rule's text says of itself, for the comments of --emit=c: "from checkout to ledger port
 * 5432" (one line, canonical). */
const char *policy_rule_text(struct arena *arena, const struct policy *policy, uint32_t rank);

/* Whether the statement is about DST and PORT, the workload's (0: of no port in particular). */
bool policy_mtls_speaks(const struct policy_mtls *mtls, uint32_t dst, uint32_t port);
/* By the narrowest statement (language.md 20). */
enum mtls_mode policy_mtls_mode(const struct policy *policy, uint32_t dst, uint32_t port);

/* The number of the block that ADDRESS (v4 mapped) lies in; 0: in none that is named. */
uint32_t policy_block(const struct policy *policy, unsigned __int128 address);

/* A destination that certificates can be shown to, and a source that can show one. */
bool policy_is_workload(const struct policy *policy, uint32_t class);
bool policy_shows_certificate(const struct policy *policy, uint32_t class);

/* Gives the JSON back, which is in no arena. */
void policy_release(struct policy *policy);

#endif
