/* What the files of identity.h share. */
#ifndef MESH_PROXY_IDENTITY_INTERNAL_H
#define MESH_PROXY_IDENTITY_INTERNAL_H

#include "base/table.h"
#include "base/vec.h"
#include "proxy/identity.h"

#include <openssl/x509v3.h>

/* SHA-256 of both files that something was read from: what did not change is not read again. */
struct identity_stamp {
	unsigned char digests[2][32];
};

/* Sets share what did not change: svid and trust are counted. */
struct svid {
	unsigned refs;
	struct identity_stamp stamp;
	char *name;
	char id[IDENTITY_MAX_ID + 1];
	time_t not_before, not_after; /* the latest and the earliest of the chain */
	X509 *leaf;
	STACK_OF(X509) * chain;
	EVP_PKEY *key;
	SSL_CTX *context; /* made for the first connection: few of a node's workloads talk at once */
};

struct trust {
	unsigned refs;
	struct identity_stamp stamp;
	char *domain;
	X509_STORE *store;
	STACK_OF(X509_CRL) * crls; /* NULL: none given */
};

struct identity_set {
	struct arena *arena;
	VEC(struct svid *) svids;
	struct table names;   /* of svids */
	struct table ids;     /* of struct svid_list */
	struct table domains; /* of trust */
};

struct svid_list {
	struct svid *svid;
	struct svid_list *next;
};

struct identities {
	struct identity_set *force, *next;
};

/* identity_read.c: PEM, and what is in it. Each takes a bound of bytes for granted. */
int svid_read(const char *name, const void *certificates, size_t certificates_len, const void *key, size_t key_len,
	      struct svid **ret_svid, struct why *why);
void svid_release(struct svid *svid);
int trust_read(const char *domain, const void *bundle, size_t bundle_len, const void *crl, size_t crl_len,
	       struct trust **ret_trust, struct why *why);
void trust_release(struct trust *trust);

/* identity_verify.c */
enum refusal identity_of_leaf(X509 *leaf, char ret_id[IDENTITY_MAX_ID + 1]);
time_t identity_time(const ASN1_TIME *at);
/* For SSL_CTX_set_cert_verify_callback, with struct identities. */
int identity_verify_peer(X509_STORE_CTX *ctx, void *identities);
int identity_verify_prepare(void);

#endif
