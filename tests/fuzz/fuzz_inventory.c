/* An inventory: its own format and Kubernetes' List. */
#define _GNU_SOURCE 1
#include "base/inventory.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char path[64];
	struct why why = {0};
	struct inventory *inventory = NULL;
	int fd = memfd_create("inventory", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!inventory_read(path, &inventory, &why))
		inventory_release(inventory);
	close(fd);
	return 0;
}
