/* Rows: the function from source class to outcome that a cell leads to, split into a few sources of
 * its own (the comb) and sets of sources (the matrix). */
#ifndef MESH_PASS_ROW_H
#define MESH_PASS_ROW_H

#include "ir/plan.h"
#include "pass/passes.h"

/* What a terminal means. The first three are the defaults of a destination, by enum policy_verdict. */
enum row_kind { ROW_DENY, ROW_ALLOW, ROW_DEFAULT_AUDIT, ROW_AUDIT, ROW_ROUTE };
struct row_want {
	enum row_kind kind;
	uint32_t flags; /* of every outcome that allows: PLAN_STRICT, PLAN_PERMISSIVE or 0 */
	bool verified;	/* and of those that deny */
};

struct rows;
struct rows *rows_create(struct run *run, struct plan *plan);

/* The cell for the source-level nodes FULL and WIDE (the same node where there is no wide part). Its
 * comb and matrix are row numbers until rows_finish has laid the tables out. */
struct plan_cell rows_cell(struct rows *rows, node_id full, node_id wide, struct row_want want);

/* Fills plan->combs, matrix, columns, outcomes, by_block and rewrites plan->cells. */
void rows_finish(struct rows *rows);

/* The terminal that a request at one point of the L4 space leads to: a walk of the diagram, not of
 * the tables. UINT32_MAX - 1 where an L7 field is still open. */
uint32_t rows_walk(const struct diagram *diagram, node_id root, uint32_t protocol, uint32_t port, uint32_t src,
		   uint32_t block, bool verified);

#endif
