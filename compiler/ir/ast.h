/* What the text says, before names mean anything. Every node carries its span. */
#ifndef MESH_IR_AST_H
#define MESH_IR_AST_H

#include "base/diag.h"
#include "base/table.h"
#include "ir/field.h"

struct address_range;

struct ast_text {
	const char *text; /* names: "x" or "ns/x"; strings: without quotes, escapes resolved */
	struct span span;
	bool quoted;
	struct ast_text *next;
};

struct ast_range {
	long long lo, hi; /* hi == lo where one number was written; -1: too large to read */
	struct span span;
	struct ast_range *next;
};

enum ref_kind { REF_NAME, REF_NAMESPACE, REF_ANY, REF_WORLD, REF_NODE, REF_ADDRESS };
struct ast_ref {
	enum ref_kind kind;
	struct ast_text name; /* NAME, NAMESPACE, ADDRESS */
	struct span span;
	struct ast_ref *next;
};
struct ast_party {
	struct ast_ref *in, *out;
	struct ast_range *ports; /* NULL: none were written */
	struct span span;
};

enum ast_op { AST_EQ, AST_NE, AST_IN, AST_RANGE, AST_LIKE, AST_MATCHES, AST_HAS, AST_IS /* bare: true */ };
enum expr_kind { EXPR_ATOM, EXPR_AND, EXPR_OR, EXPR_NOT };
struct ast_expr {
	enum expr_kind kind;
	struct ast_expr *left, *right;
	struct ast_text name; /* a field or a label */
	const char *key;      /* http.header["x"]: x; NULL: none */
	enum ast_op op;
	struct ast_text *values;
	struct ast_range *numbers;
	struct span span;
};

enum effect { EFFECT_NONE = -1, EFFECT_DENY, EFFECT_ALLOW, EFFECT_AUDIT }; /* as enum policy_verdict */

enum item_kind {
	ITEM_WORKLOAD,
	ITEM_ADDRESS,
	ITEM_ACCOUNT,
	ITEM_IDENTITY,
	ITEM_PORT,
	ITEM_SUBSET,
	ITEM_INGRESS,
	ITEM_EGRESS,
	ITEM_CIDR
};
struct ast_item {
	enum item_kind kind;
	struct ast_expr *expr;	 /* WORKLOAD, SUBSET */
	struct ast_text *texts;	 /* ADDRESS, ACCOUNT, IDENTITY, SUBSET (its name), CIDR */
	struct ast_text *except; /* CIDR */
	struct ast_range *ports; /* PORT: one range */
	long long target;	 /* PORT: -1: the same */
	const char *protocol;	 /* PORT */
	enum effect effect;	 /* INGRESS, EGRESS */
	struct span span;
	struct ast_item *next;
};

struct ast_split {
	struct ast_text *subset; /* NULL: the whole service */
	long long weight;
	struct span span;
	struct ast_split *next;
};
struct ast_arm {
	struct ast_party *from;
	struct ast_expr *when;
	bool per_connection, sticky; /* sticky: `sticky by source;`, nothing else set */
	struct ast_split *splits;
	struct span span;
	struct ast_arm *next;
};

struct ast_with {
	struct ast_text name;
	const char *key;
	struct ast_text value;
	struct span span;
	struct ast_with *next;
};
struct ast_expect {
	const char *what; /* "allow", "deny", "subset", "audit" */
	struct ast_text by;
	struct ast_party *from, *to;
	struct ast_with *with;
	struct span span;
	struct ast_expect *next;
};

enum decl_kind {
	DECL_MESH,
	DECL_NAMESPACE,
	DECL_DEFAULT,
	DECL_SERVICE,
	DECL_EXTERNAL,
	DECL_IDENTITY,
	DECL_CIDR,
	DECL_GROUP,
	DECL_MTLS,
	DECL_RULE,
	DECL_ROUTE,
	DECL_NEVER,
	DECL_TEST
};
struct ast_decl {
	enum decl_kind kind;
	struct ast_text name;
	struct span span;
	struct ast_text value;	     /* MESH: trust; IDENTITY; MTLS: date or reason */
	enum effect ingress, egress; /* MESH, DEFAULT */
	enum effect effect;	     /* RULE */
	struct ast_item *items;	     /* SERVICE, EXTERNAL, CIDR (one) */
	struct ast_text *members;    /* GROUP */
	const char *mode;	     /* MTLS */
	struct ast_ref *scope;	     /* MTLS: NULL: the mesh */
	struct ast_range *scope_port;
	struct ast_party *from, *to; /* RULE, NEVER */
	struct ast_expr *when;
	bool through_any;
	struct ast_arm *arms;
	struct ast_expect *expects;
	/* Set by resolve: */
	const char *ns;
	void *bound;
	uint32_t number;	  /* set by lower: class of a service or identity, atom of a cidr or external */
	struct ast_decl **leaves; /* GROUP: see ast_leaves */
	size_t leaf_count;
	uint32_t stamp;
	struct ast_decl *next;
};

struct ast {
	struct ast_decl *first, **last;
	VEC(struct span) comments;
	/* Set by resolve: */
	struct ast_decl *mesh;
	struct table names;    /* "ns/name": struct ast_decl; services, externals, identities, cidrs, groups */
	struct table rules;    /* by name: struct ast_decl */
	struct table nevers;   /* by name: the DECL_NEVER */
	struct table tests;    /* by name: the DECL_TEST */
	struct table spaces;   /* namespaces, declared or named: their name */
	struct table defaults; /* "ns": the DECL_DEFAULT */
	struct table routes;   /* "ns/service": the DECL_ROUTE */
	VEC(const char *) name_list, rule_list; /* for did-you-mean */
	uint32_t stamp;
};

/* What a group holds all the way down, each once, groups left out; of anything else itself. */
struct ast_decl **ast_leaves(struct arena *arena, struct ast *ast, struct ast_decl *decl, size_t *ret_count);
/* True where EXPR asks for anything that only a request has. */
bool ast_uses_l7(const struct ast_expr *expr);
bool ast_uses_field(const struct ast_expr *expr, enum field field);

/* True where ADDRESS, one address, lies in ITEM, a cidr that was checked, and not in what it excepts. */
bool ast_holds(const struct ast_item *item, const struct address_range *address);

/* What NAME means where DECL stands, or NULL. */
struct ast_decl *ast_lookup(struct arena *arena, const struct ast *ast, const struct ast_decl *decl, const char *name);
/* "ns/name" of a declaration or of a reference in it. */
const char *ast_qualified(struct arena *arena, const char *ns, const char *name);

/* ---- Text (ir/ast.c): the canonical form of each part, in one line ------------------------------- */

struct text {
	struct arena *arena;
	VEC(char) bytes;
};
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *text_end(struct text *text); /* NUL-terminated */

void ast_print_word(struct text *text, const char *name); /* a name where it is declared: quoted where it must be */
void ast_print_name(struct text *text, const char *name); /* quoted where it must be; "ns/name" in two parts */
void ast_print_string(struct text *text, const char *string);
void ast_print_ranges(struct text *text, const struct ast_range *ranges); /* one, or {..} */
void ast_print_party(struct text *text, const struct ast_party *party);
void ast_print_expr(struct text *text, const struct ast_expr *expr);
const char *effect_name(enum effect effect);

#endif
