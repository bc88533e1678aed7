/* Who this node's workloads are, and whom they trust: SVIDs, trust bundles, revocation. Everything comes as
 * bytes that meshd opened; nothing here knows a path. (SPIFFE X509-SVID, sections 2 to 5.) */
#ifndef MESH_PROXY_IDENTITY_H
#define MESH_PROXY_IDENTITY_H

#include "base/why.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { IDENTITY_MAX_ID = 2048 /* SPIFFE-ID, section 2.3 */ };

/* Why a peer is refused: each has its own words in flow records. In the order of X-macro REFUSALS. */
#define REFUSALS(REFUSAL)                                                                                              \
	REFUSAL(NONE, "")                                                                                              \
	REFUSAL(NO_CERTIFICATE, "the peer showed no certificate")                                                      \
	REFUSAL(UNKNOWN_CA, "no trusted authority signed the peer's certificate")                                      \
	REFUSAL(EXPIRED, "the peer's certificate has expired")                                                         \
	REFUSAL(NOT_YET_VALID, "the peer's certificate is not valid yet")                                              \
	REFUSAL(REVOKED, "the peer's certificate is revoked")                                                          \
	REFUSAL(WRONG_DOMAIN, "the peer's trust domain is not that of the authority that signed it")                   \
	REFUSAL(NO_ID, "the peer's certificate has no SPIFFE ID")                                                      \
	REFUSAL(MANY_IDS, "the peer's certificate has more than one URI")                                              \
	REFUSAL(BAD_ID, "the peer's SPIFFE ID is malformed")                                                           \
	REFUSAL(BAD_CERTIFICATE, "the peer's certificate is not one of a workload")                                    \
	REFUSAL(WRONG_PEER, "the peer is not the workload that lives at its address")                                  \
	REFUSAL(OLD_TLS, "the peer speaks TLS older than 1.3")                                                         \
	REFUSAL(NO_TLS, "the peer does not speak TLS")                                                                 \
	REFUSAL(TLS, "the TLS handshake failed")
enum refusal {
#define REFUSAL(name, text) REFUSAL_##name,
	REFUSALS(REFUSAL)
#undef REFUSAL
		REFUSAL_COUNT
};
const char *refusal_text(enum refusal refusal);
/* "expired", "unknown-ca" ...: stable, for scripts. */
const char *refusal_word(enum refusal refusal);

struct identities;

int identities_create(struct identities **ret_identities);
void identities_release(struct identities *identities);

/* A new set is built beside the one in force, then put in its place whole; what failed leaves the last good
 * one of the same name in force, and is said in WHY. PEM; the key's bytes are wiped by the caller. */
int identities_begin(struct identities *identities);
/* A leaf first, then intermediates. -EINVAL: no PEM, no SPIFFE ID, key and certificate do not match, a CA. */
int identities_add_svid(struct identities *identities, const char *name, const void *certificates,
			size_t certificates_len, const void *key, size_t key_len, struct why *why);
/* DOMAIN: the trust domain whose authorities these are. CRL may be NULL. Again: added to the same domain. */
int identities_add_trust(struct identities *identities, const char *domain, const void *bundle, size_t bundle_len,
			 const void *crl, size_t crl_len, struct why *why);
int identities_commit(struct identities *identities);

/* Whether there is an SVID of ID that is valid at NOW, and until when (0: none). */
time_t identities_valid_until(const struct identities *identities, const char *id, time_t now);
size_t identities_count(const struct identities *identities);

/* An SSL with ID's own certificate, TLS 1.3 only, ALPN "h2" only, AES-GCM and ChaCha20, no session tickets, no
 * 0-RTT, no renegotiation; the peer's certificate is required and verified. NULL: no valid SVID of ID.
 * SNI may be NULL. The caller frees it. */
SSL *identities_client(struct identities *identities, const char *id, const char *sni);
SSL *identities_server(struct identities *identities, const char *id);

/* After SSL_do_handshake succeeded: who the peer is. After it failed: why. The verification callback keeps
 * the reason with the SSL. */
struct identity_peer {
	char id[IDENTITY_MAX_ID + 1];
	uint8_t digest[16];	  /* SHA-256 of id, first 16 bytes */
	uint8_t space_digest[16]; /* of "spiffe://TRUST/ns/NS"; 0: the ID has not that form */
	time_t not_after;	  /* the earliest of the chain */
};
enum refusal identity_peer(const SSL *ssl, struct identity_peer *ret_peer);

/* Verifies the peer of a live connection again (bundles, CRLs and the clock have moved on). */
enum refusal identity_verify_again(const struct identities *identities, const SSL *ssl, time_t now);

/* Syntax of a SPIFFE ID (SPIFFE-ID, section 2). */
bool identity_is_valid_id(const char *id);

#endif
