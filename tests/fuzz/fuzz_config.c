/* The node's configuration. */
#define _GNU_SOURCE 1
#include "config.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char path[64];
	struct why why = {0};
	struct config config;
	int fd = memfd_create("config", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!config_read(path, &config, &why))
		config_release(&config);
	close(fd);
	return 0;
}
