/* Shared by the files of the check pass alone. */
#ifndef MESH_PASS_CHECK_H
#define MESH_PASS_CHECK_H

#include "ir/ast.h"
#include "ir/literal.h"
#include "pass/passes.h"

struct checker {
	struct run *run;
	struct ast *ast;
	struct arena *arena;
	struct diags *diags;
	long today; /* days since 1970, or -1: --now was not given */
};

/* What the ports of a destination speak. */
struct speaks {
	bool l4, http, grpc;
	const char *culprit; /* one that speaks neither http nor grpc */
	const char *foreign; /* one that is no workload: nobody shows it a certificate */
	bool is_route;
};

void check_selector(struct checker *checker, const struct ast_expr *expr);
void check_condition(struct checker *checker, const struct ast_expr *expr, const struct speaks *speaks);

/* The workload's ports of a port item. */
struct range check_item_ports(const struct ast_item *item);
bool check_ranges(struct checker *checker, const struct ast_range *ranges);
/* Adds what SERVICE speaks on GUARD (NULL: on every port that it declares). */
void check_speaks(const struct ast_decl *service, const struct ast_range *guard, struct speaks *speaks);
/* An error where RANGES name a service port whose workload port is another. False then. */
bool check_no_service_port(struct checker *checker, const struct ast_decl *service, const struct ast_range *ranges);

void check_route(struct checker *checker, struct ast_decl *decl);
void check_test(struct checker *checker, struct ast_decl *decl);

#endif
