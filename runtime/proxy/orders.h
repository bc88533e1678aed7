/* meshd's end of the control channel (control.h): what it tells the proxy to do. */
#ifndef MESH_PROXY_ORDERS_H
#define MESH_PROXY_ORDERS_H

#include <stddef.h>

struct orders;
struct proxy;

/* FD stays the caller's. When meshd is gone, the proxy goes on with what it has. */
int orders_create(struct proxy *proxy, int fd, struct orders **ret_orders);
void orders_release(struct orders *orders);
/* One message: LEN bytes of JSON and the descriptors beside it, which are taken. What is wrong with it is told. */
void orders_obey(struct orders *orders, const char *text, size_t len, int *fds, unsigned fd_count);

#endif
