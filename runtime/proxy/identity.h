/* Who this node's workloads are, and whom they trust: SVIDs, trust bundles, revocation. Everything comes as
 * bytes that meshd opened; nothing here knows a path. (SPIFFE X509-SVID, sections 2 to 5.) One thread uses one. */
#ifndef MESH_PROXY_IDENTITY_H
#define MESH_PROXY_IDENTITY_H

#include "base/spiffe.h"
#include "base/why.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum {
	IDENTITY_MAX_ID = SPIFFE_MAX_ID,
	IDENTITY_CERTIFICATE_BYTES = 64 << 10, /* and of a key */
	IDENTITY_BUNDLE_BYTES = 1 << 20,
	IDENTITY_CRL_BYTES = 4 << 20,
	IDENTITY_MAX_CHAIN = 10,
	IDENTITY_MAX_AUTHORITIES = 1000, /* and CRLs, of one trust domain */
	IDENTITY_MAX_SVIDS = 4096,
	IDENTITY_MAX_DOMAINS = 100,
};

/* Why a peer is refused: each has its own words in flow records. REFUSAL(name, word, text) */
#define REFUSALS(REFUSAL)                                                                                              \
	REFUSAL(NONE, "none", "")                                                                                      \
	REFUSAL(NO_CERTIFICATE, "no-certificate", "the peer showed no certificate")                                    \
	REFUSAL(UNKNOWN_CA, "unknown-ca", "no trusted authority signed the peer's certificate")                        \
	REFUSAL(EXPIRED, "expired", "the peer's certificate has expired")                                              \
	REFUSAL(NOT_YET_VALID, "not-yet-valid", "the peer's certificate is not valid yet")                             \
	REFUSAL(REVOKED, "revoked", "the peer's certificate is revoked")                                               \
	REFUSAL(BAD_CRL, "bad-crl", "the revocation list of the peer's authority is out of date or broken")            \
	REFUSAL(WRONG_DOMAIN, "wrong-domain",                                                                          \
		"the peer's trust domain is not that of the authority that signed its certificate")                    \
	REFUSAL(NO_ID, "no-id", "the peer's certificate has no SPIFFE ID")                                             \
	REFUSAL(MANY_IDS, "many-ids", "the peer's certificate has more than one URI")                                  \
	REFUSAL(BAD_ID, "bad-id", "the peer's SPIFFE ID is malformed")                                                 \
	REFUSAL(BAD_CERTIFICATE, "bad-certificate", "the peer's certificate is not one of a workload")                 \
	REFUSAL(WRONG_PEER, "wrong-peer", "the peer is not the workload that lives at its address")                    \
	REFUSAL(OLD_TLS, "old-tls", "the peer speaks TLS older than 1.3")                                              \
	REFUSAL(NO_TLS, "no-tls", "the peer does not speak TLS")                                                       \
	REFUSAL(BY_PEER, "by-peer", "the peer refused our certificate")                                                \
	REFUSAL(TLS, "tls", "the TLS handshake failed")
enum refusal {
#define REFUSAL(name, word, text) REFUSAL_##name,
	REFUSALS(REFUSAL)
#undef REFUSAL
		REFUSAL_COUNT
};
const char *refusal_text(enum refusal refusal);
/* "expired", "unknown-ca" ...: stable, for scripts. */
const char *refusal_word(enum refusal refusal);

struct identities;

int identities_create(struct identities **ret_identities);
/* After the last SSL of it is freed. */
void identities_release(struct identities *identities);

/* A new set is built beside the one in force, then put in its place whole; what failed leaves the last good
 * one of the same name in force, and is said in WHY. PEM; the key's bytes are wiped by the caller. */
int identities_begin(struct identities *identities);
/* A leaf first, then intermediates. -EINVAL: no PEM, no SPIFFE ID, key and certificate do not match, a CA, ended;
 * -EEXIST: the set has one of that NAME; -E2BIG: over a bound. */
int identities_add_svid(struct identities *identities, const char *name, const void *certificates,
			size_t certificates_len, const void *key, size_t key_len, struct why *why);
/* DOMAIN: the trust domain whose authorities these are. CRL may be NULL: then none of its certificates is checked
 * for revocation. With a CRL, those of the CRL's issuer are, and refused too when it is past its next update.
 * Bundle and CRL are taken together or not at all. Errors as above. */
int identities_add_trust(struct identities *identities, const char *domain, const void *bundle, size_t bundle_len,
			 const void *crl, size_t crl_len, struct why *why);
int identities_commit(struct identities *identities);

/* Whether there is an SVID of ID that is valid at NOW, and until when (0: none). */
time_t identities_valid_until(const struct identities *identities, const char *id, time_t now);
/* When the last one of ID ended before NOW (0: none did). */
time_t identities_ended(const struct identities *identities, const char *id, time_t now);
/* How many are valid at NOW. */
size_t identities_valid(const struct identities *identities, time_t now);
/* How many SVIDs are in force, ended or not, and the ID of each (I < count). */
size_t identities_count(const struct identities *identities);
const char *identities_id(const struct identities *identities, size_t i);

/* An SSL with ID's own certificate, TLS 1.3 only, ALPN "h2" only and required, AES-GCM and ChaCha20, no session
 * tickets, no 0-RTT, no renegotiation; the peer's certificate is required and verified. Of two SVIDs of one ID, the
 * one that ends last. It reads ahead: read until SSL_ERROR_WANT_READ. NULL: no valid SVID of ID, or no memory.
 * SNI may be NULL. The caller frees it. */
SSL *identities_client(struct identities *identities, const char *id, const char *sni);
SSL *identities_server(struct identities *identities, const char *id);

/* After SSL_do_handshake succeeded: who the peer is. After it failed: why, as identity_failure. */
struct identity_peer {
	char id[IDENTITY_MAX_ID + 1];
	uint8_t digest[16];	  /* SHA-256 of id, first 16 bytes */
	uint8_t space_digest[16]; /* of "spiffe://TRUST/ns/NS"; 0: the ID has not that form */
	time_t not_after;	  /* the earliest of the chain */
};
enum refusal identity_peer(const SSL *ssl, struct identity_peer *ret_peer);
/* After SSL_do_handshake, SSL_read or SSL_write failed, before another call to OpenSSL: why. In TLS 1.3 a client
 * learns only from its first read that the server refused it (BY_PEER). */
enum refusal identity_failure(const SSL *ssl);

/* Verifies the peer of a live connection again (bundles, CRLs and the clock have moved on). */
enum refusal identity_verify_again(const struct identities *identities, const SSL *ssl, time_t now);

#endif
