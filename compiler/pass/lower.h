/* Shared by the files of the lower pass alone. */
#ifndef MESH_PASS_LOWER_H
#define MESH_PASS_LOWER_H

#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/passes.h"

struct numbers {
	uint32_t *at;
	size_t len, cap;
};

/* A namespace: its class, and what is in it. */
struct space {
	const char *name;
	uint32_t class;
	struct numbers targets; /* its class and its services */
	struct numbers sources; /* and its identities */
};

/* A cidr or an external: a set of addresses. */
struct atom {
	struct ast_decl *decl;
	VEC(struct address_range) ranges; /* sorted, disjoint */
	struct numbers blocks, classes;	  /* classes: of an external */
	uint32_t external;		  /* index; UINT32_MAX: a cidr */
};

/* Who becomes a class. */
struct entry {
	const char *name;
	enum class_kind kind;
	struct ast_decl *decl; /* NULL: a namespace, or nothing of this policy (lower_pair.c) */
	const char *ns, *spiffe;
	struct ast_decl *alias; /* the service that this is another name of; NULL: none */
};
struct entries {
	struct entry *at;
	size_t len, cap;
};

struct lowerer {
	struct run *run;
	struct ast *ast;
	struct arena *arena;
	struct policy *policy;
	struct table spaces; /* by name: struct space */
	struct table owners; /* by SPIFFE ID: the declaration that has the class */
	VEC(struct space *) space_list;
	VEC(struct ast_decl *) services, externals; /* by qualified name */
	VEC(struct atom) atoms;
	struct numbers *aliases; /* by class: the classes that are named with it; NULL: none at all */
};

/* The steps of lower, in order; lower_pair takes them for two policies side by side. */
void lower_begin(struct lowerer *lowerer, struct run *run);
void lower_entries(struct lowerer *lowerer, struct entries *entries);
void lower_number(struct lowerer *lowerer, const struct entries *entries);
void lower_members(struct lowerer *lowerer);
void lower_blocks(struct lowerer *const *lowerers, size_t count); /* blocks of one number are the same addresses */
void lower_meaning(struct lowerer *lowerer);

/* SORTED_UNIQUE numbers of LIST as ranges; sorts LIST. */
struct range_set lower_set(struct arena *arena, struct numbers *list);
struct range_set lower_span(struct arena *arena, uint32_t lo, uint32_t hi);

struct policy_sources lower_sources(struct lowerer *lowerer, const struct ast_decl *decl,
				    const struct ast_party *party);
const struct cond *lower_condition(struct lowerer *lowerer, const struct ast_expr *expr);
void lower_rules(struct lowerer *lowerer);
void lower_tests(struct lowerer *lowerer);
void lower_plurals(struct lowerer *lowerer);

#endif
