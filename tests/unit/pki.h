/* Certificates for tests: made here by OpenSSL, good ones and bad ones. */
#ifndef MESH_TESTS_PKI_H
#define MESH_TESTS_PKI_H

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct pki_pair {
	X509 *certificate;
	EVP_PKEY *key;
};

/* What a certificate is to say. Zero: an authority's is one of an authority, another's is good for an hour. */
struct pki_wish {
	const char *name;    /* of the subject */
	const char *san;     /* as in openssl.cnf: "URI:spiffe://...,DNS:x"; NULL: none */
	const char *usage;   /* keyUsage; NULL: digitalSignature, of an authority keyCertSign and cRLSign; "": none */
	const char *purpose; /* extendedKeyUsage; NULL: none */
	const char *constraints; /* nameConstraints; NULL: none */
	bool is_authority;
	long from_s, until_s; /* from now; 0, 0: an hour ago to an hour ahead */
	int serial;	      /* 0: the next */
	int rsa_bits;	      /* 0: P-256 */
};

static inline void pki_extend(X509 *certificate, X509 *issuer, int kind, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
	assert_non_null(extension);
	assert_true(X509_add_ext(certificate, extension, -1));
	X509_EXTENSION_free(extension);
}

/* ISSUER NULL: signed by itself. */
static inline struct pki_pair pki_make(const struct pki_pair *issuer, struct pki_wish wish)
{
	static int next_serial = 1000;
	struct pki_pair made = {X509_new(), wish.rsa_bits ? EVP_RSA_gen((unsigned)wish.rsa_bits) : EVP_EC_gen("P-256")};
	const struct pki_pair *by = issuer ? issuer : &made;
	X509 *x = made.certificate;
	long from_s = wish.from_s || wish.until_s ? wish.from_s : -3600;
	long until_s = wish.from_s || wish.until_s ? wish.until_s : 3600;
	assert_true(x && made.key);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), wish.serial ? wish.serial : next_serial++);
	X509_gmtime_adj(X509_getm_notBefore(x), from_s);
	X509_gmtime_adj(X509_getm_notAfter(x), until_s);
	X509_set_pubkey(x, made.key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)(wish.name ? wish.name : "test"), -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(by->certificate));
	pki_extend(x, by->certificate, NID_basic_constraints,
		   wish.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
	const char *usage = wish.usage		? wish.usage
			    : wish.is_authority ? "critical,keyCertSign,cRLSign"
						: "critical,digitalSignature";
	if (usage[0])
		pki_extend(x, by->certificate, NID_key_usage, usage);
	pki_extend(x, by->certificate, NID_subject_key_identifier, "hash");
	pki_extend(x, by->certificate, NID_authority_key_identifier, "keyid");
	if (wish.san)
		pki_extend(x, by->certificate, NID_subject_alt_name, wish.san);
	if (wish.purpose)
		pki_extend(x, by->certificate, NID_ext_key_usage, wish.purpose);
	if (wish.constraints)
		pki_extend(x, by->certificate, NID_name_constraints, wish.constraints);
	assert_true(X509_sign(x, by->key, EVP_sha256()));
	return made;
}

static inline void pki_free(struct pki_pair *pair)
{
	X509_free(pair->certificate);
	EVP_PKEY_free(pair->key);
}

/* One list that revokes CERTIFICATE (NULL: nobody). */
static inline X509_CRL *pki_revoke(const struct pki_pair *issuer, X509 *certificate, long from_s, long until_s)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *at = X509_gmtime_adj(NULL, from_s);
	X509V3_CTX context;
	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->certificate));
	X509_CRL_set1_lastUpdate(crl, at);
	if (certificate) {
		X509_REVOKED *revoked = X509_REVOKED_new();
		X509_REVOKED_set_serialNumber(revoked, X509_get_serialNumber(certificate));
		X509_REVOKED_set_revocationDate(revoked, at);
		X509_CRL_add0_revoked(crl, revoked);
	}
	X509_CRL_set1_nextUpdate(crl, X509_gmtime_adj(at, until_s));
	ASN1_TIME_free(at);
	X509V3_set_ctx(&context, issuer->certificate, NULL, NULL, crl, 0);
	X509_EXTENSION *key = X509V3_EXT_conf_nid(NULL, &context, NID_authority_key_identifier, "keyid");
	assert_true(key && X509_CRL_add_ext(crl, key, -1));
	X509_EXTENSION_free(key);
	assert_true(X509_CRL_sign(crl, issuer->key, EVP_sha256()));
	return crl;
}

/* PEM in a string that lives until pki_done. */
static char *pki_texts[256];
static unsigned pki_text_count;

static inline char *pki_text(BIO *from)
{
	char *bytes;
	long len = BIO_get_mem_data(from, &bytes);
	assert_true(pki_text_count < 256);
	char *text = strndup(bytes, (size_t)len);
	pki_texts[pki_text_count++] = text;
	BIO_free(from);
	return text;
}

static inline char *pki_certificates(X509 *first, X509 *second)
{
	BIO *out = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(out, first);
	if (second)
		PEM_write_bio_X509(out, second);
	return pki_text(out);
}

static inline char *pki_key(EVP_PKEY *key)
{
	BIO *out = BIO_new(BIO_s_mem());
	PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
	return pki_text(out);
}

static inline char *pki_crl(X509_CRL *crl)
{
	BIO *out = BIO_new(BIO_s_mem());
	PEM_write_bio_X509_CRL(out, crl);
	X509_CRL_free(crl);
	return pki_text(out);
}

static inline void pki_done(void)
{
	while (pki_text_count)
		free(pki_texts[--pki_text_count]);
}

#endif
