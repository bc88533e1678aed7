/* What the two files about the node proxy share. */
#ifndef MESH_RUNTIME_MTLS_H
#define MESH_RUNTIME_MTLS_H

#include "node.h"

/* mtls_tell.c */
int mtls_hello(struct node *node);
/* Identity files that changed since they were told. */
void mtls_tell_files(struct node *node);
void mtls_ask_status(struct node *node);
/* The proxy was told of the workload in PLACE, and has said since how it is. */
bool mtls_was_heard(const struct node *node, const struct place *place);
/* What the proxy could not follow: sentences, added to PROBLEMS. */
void mtls_add_refused(const struct node *node, json_t *problems);
void mtls_hear(void *context, uint32_t events);

/* mtls.c: the proxy's end of the control channel was closed. */
void mtls_lost(struct node *node);

#endif
