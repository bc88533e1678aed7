#include "kernel_internal.h"

#include <errno.h>

static int on_record(void *context, void *data, size_t len)
{
	const struct ring_state *ring = context;
	if (len >= sizeof(struct mesh_record) && ring->on_record)
		ring->on_record(ring->context, data);
	return 0;
}

static int on_order(void *context, void *data, size_t len)
{
	const struct ring_state *ring = context;
	if (len >= sizeof(struct mesh_order) && ring->on_order)
		ring->on_order(ring->context, data);
	return 0;
}

int rings_open(struct kernel *kernel)
{
	struct ring_state *ring = &kernel->ring;
	/* Orders come first: a reset must not wait behind a flood of records. */
	ring->rings = ring_buffer__new(kernel->maps[KERNEL_MAP_orders], on_order, ring, NULL);
	if (!ring->rings)
		return -errno;
	return ring_buffer__add(ring->rings, kernel->maps[KERNEL_MAP_records], on_record, ring);
}

void rings_close(struct kernel *kernel)
{
	ring_buffer__free(kernel->ring.rings);
	kernel->ring.rings = NULL;
}

int kernel_rings_fd(struct kernel *kernel)
{
	return ring_buffer__epoll_fd(kernel->ring.rings);
}

int kernel_rings_consume(struct kernel *kernel, void (*record)(void *context, const struct mesh_record *record),
			 void (*order)(void *context, const struct mesh_order *order), void *context)
{
	struct ring_state *ring = &kernel->ring;
	ring->on_record = record;
	ring->on_order = order;
	ring->context = context;
	return ring_buffer__consume(ring->rings);
}
