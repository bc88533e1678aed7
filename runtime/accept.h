/* Is this bundle one that may be loaded? Before a byte of it reaches the kernel. */
#ifndef MESH_RUNTIME_ACCEPT_H
#define MESH_RUNTIME_ACCEPT_H

#include "base/bundle.h"
#include "config.h"

/* Signature by one of config->keys, mesh name, ABI, version (not below LAST_VERSION unless
 * config->allow_older), and the allow-list: ELF class, endianness and machine (EM_BPF); exactly the
 * programs of a policy (names and section types); helpers called only of a list; no kfunc calls; maps
 * of the known names, types, key and value sizes; .rodata alone as a data section, at most 64 MiB.
 * 0; -EPERM: not signed, or by none of the keys; -EINVAL: broken, foreign or not allowed, WHY says
 * exactly what. On 0 BUNDLE is open and points into BYTES. */
int accept_bundle(const struct config *config, const void *bytes, size_t len, long long last_version,
		  struct bundle *ret_bundle, struct why *why);

#endif
