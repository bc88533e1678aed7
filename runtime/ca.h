/* A throw-away authority for the demo and the tests: NOT FOR PRODUCTION. Its key lies in a file beside what it signs,
 * nobody asks who wants a certificate, and nothing is written down. */
#ifndef MESH_RUNTIME_CA_H
#define MESH_RUNTIME_CA_H

#include "base/arena.h"
#include "base/why.h"

#include <openssl/x509.h>

struct ca_pair {
	X509 *certificate;
	EVP_PKEY *key;
};
void ca_release(struct ca_pair *pair);

/* P-256. The certificate of an authority carries its trust domain's ID, spiffe://TRUST. */
int ca_create(const char *trust, long seconds, struct ca_pair *ret_authority);
/* An SVID of ID, valid from a minute ago, for SECONDS or until the authority ends. */
int ca_issue(const struct ca_pair *authority, const char *id, long seconds, struct ca_pair *ret_svid);

/* The only URI of CERTIFICATE; NULL: none. malloc'd. */
char *ca_id(X509 *certificate);
time_t ca_end(const X509 *certificate);

/* BEFORE (NULL: none) and SERIALS more, valid for SECONDS. */
int ca_revoke(const struct ca_pair *authority, X509_CRL *before, const ASN1_INTEGER *const *serials, size_t count,
	      long seconds, X509_CRL **ret_crl);

/* ---- ca_files.c: mode 0600, each replaced by a rename ---- */

/* NULL: there is none, or it is not PEM. */
X509 *ca_read_certificate(const char *path);
X509_CRL *ca_read_list(const char *path);
EVP_PKEY *ca_read_key(const char *path);
int ca_write_certificate(const char *path, X509 *certificate, struct why *why);
int ca_write_list(const char *path, X509_CRL *list, struct why *why);
int ca_write_key(const char *path, EVP_PKEY *key, struct why *why);

/* 0700, if it is not there yet. */
int ca_make_folder(const char *path, struct why *why);
/* FOLDER/tls.crt and FOLDER/tls.key: both change at once. */
int ca_store(struct arena *arena, const char *folder, const struct ca_pair *pair, struct why *why);

#endif
