/* Where the certificates of this node's workloads lie, and whom they trust. Files are found and opened here, never
 * read: that is the node proxy's business (proxy/identity.h).
 *
 * In the folder of identities, and up to four levels of folders below it, a certificate and its key go together by
 * name: X.crt and X.key (cert-manager and Kubernetes, where X is tls), X.pem and X_key.pem (SPIRE's spiffe-helper,
 * where X is svid) or X-key.pem (step); but for "ca": an authority's key is nobody's identity. Whatever has no partner
 * is passed over: an authority is trusted only where it lies in the folder of trust, as DOMAIN.pem, with DOMAIN.crl.pem
 * beside it where there is one. Names that begin with a dot are passed over, too; links are followed. */
#ifndef MESH_RUNTIME_SVID_FILES_H
#define MESH_RUNTIME_SVID_FILES_H

#include "base/arena.h"
#include "base/vec.h"
#include "base/why.h"

#include <stdbool.h>
#include <stdint.h>

enum { SVID_FILES_DEPTH = 4, SVID_FILES_MOST = 4096, SVID_FILES_MOST_NAME = 255, SVID_FILES_MOST_NAMES = 32768 };

struct svid_entry {
	bool is_trust;		    /* bundle and CRL, not certificate and key */
	const char *name;	    /* path of the certificate below its folder, or the trust domain */
	const char *first, *second; /* paths; SECOND is NULL where there is no CRL */
};

struct svid_files {
	struct arena *arena;
	VEC(struct svid_entry) entries; /* in the order of names */
	VEC(const char *) problems;	/* what was passed over and should not be */
	bool is_over;			/* more than SVID_FILES_MOST, or SVID_FILES_MOST_NAMES looked at */
	unsigned looked;		/* names */
	uint64_t stamp;			/* of names, places, sizes and times: another, when anything changed */
};

/* Cheap enough for every tick. Either folder missing or unreadable, or too much in them, is an error: what was told
 * last stays in force. */
int svid_files_find(const char *identities, const char *trust, struct svid_files *ret_files, struct why *why);
void svid_files_release(struct svid_files *files);

/* Opens both files of ENTRY; both are of one generation where a writer swaps them at once, by a rename of a link or of
 * a folder. Returns how many (1: no CRL). -EPERM: the key may be read or written by others, or is not root's or
 * meshd's own. -EAGAIN, -ENOENT: they are being changed; a set without them would take them out of force, so try the
 * whole set again at the next tick. */
int svid_entry_open(const struct svid_entry *entry, int ret_fds[2], struct why *why);

#endif
