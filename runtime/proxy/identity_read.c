/* PEM to SVIDs and to authorities. */
#include "proxy/identity_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_SECURITY_BITS = 112 /* as OpenSSL's security level 2 */ };

/* ---- PEM ----------------------------------------------------------------------------------------- */

/* 0: no more; else negative. Whatever is left in the queue would be taken for a connection's error. */
static int end_of_pem(void)
{
	unsigned long error = ERR_peek_last_error();
	ERR_clear_error();
	bool is_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
	return is_end ? 0 : -EINVAL;
}

static void certificates_free(STACK_OF(X509) * certificates)
{
	sk_X509_pop_free(certificates, X509_free);
}

static int read_certificates(const void *bytes, size_t len, int most, STACK_OF(X509) * *ret_certificates,
			     struct why *why)
{
	BIO *in = BIO_new_mem_buf(bytes, (int)len);
	STACK_OF(X509) *certificates = sk_X509_new_null();
	int r = in && certificates ? 0 : -ENOMEM;
	for (X509 *one; !r && (one = PEM_read_bio_X509(in, NULL, NULL, NULL));)
		if (sk_X509_num(certificates) == most || !sk_X509_push(certificates, one)) {
			X509_free(one);
			r = why_set(why, -E2BIG, "more than %d certificates", most);
		}
	if (!r && end_of_pem())
		r = why_set(why, -EINVAL, "a certificate in it is broken");
	else if (!r && !sk_X509_num(certificates))
		r = why_set(why, -EINVAL, "no certificate in it (PEM)");
	BIO_free(in);
	if (r)
		certificates_free(certificates);
	else
		*ret_certificates = certificates;
	return r;
}

static int read_crls(const void *bytes, size_t len, STACK_OF(X509_CRL) * *ret_crls, struct why *why)
{
	BIO *in = BIO_new_mem_buf(bytes, (int)len);
	STACK_OF(X509_CRL) *crls = sk_X509_CRL_new_null();
	int r = in && crls ? 0 : -ENOMEM;
	for (X509_CRL *one; !r && (one = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL));)
		if (sk_X509_CRL_num(crls) == IDENTITY_MAX_AUTHORITIES || !sk_X509_CRL_push(crls, one)) {
			X509_CRL_free(one);
			r = why_set(why, -E2BIG, "more than %d revocation lists", IDENTITY_MAX_AUTHORITIES);
		}
	if (!r && end_of_pem())
		r = why_set(why, -EINVAL, "a revocation list in it is broken");
	else if (!r && !sk_X509_CRL_num(crls))
		r = why_set(why, -EINVAL, "no revocation list in it (PEM)");
	BIO_free(in);
	if (r)
		sk_X509_CRL_pop_free(crls, X509_CRL_free);
	else
		*ret_crls = crls;
	return r;
}

/* The key in one block; NULL with RET_FAULT as it was: a block of something else. */
static EVP_PKEY *key_of_block(const char *kind, const char *header, const unsigned char *der, long len,
			      const char **ret_fault)
{
	size_t kind_len = strlen(kind), suffix_len = strlen("PRIVATE KEY");
	if (kind_len < suffix_len || strcmp(kind + kind_len - suffix_len, "PRIVATE KEY") != 0)
		return NULL;
	if (header[0] || strcmp(kind, "ENCRYPTED PRIVATE KEY") == 0) {
		*ret_fault = "the key is encrypted: nobody is here to type its password";
		return NULL;
	}
	EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &der, len);
	if (!key)
		*ret_fault = "the key in it is broken";
	return key;
}

/* Not PEM_read_bio_PrivateKey: it asks a terminal for passwords, and leaves copies of the key in freed memory. */
static int read_key(const void *bytes, size_t len, EVP_PKEY **ret_key, struct why *why)
{
	BIO *in = BIO_new_mem_buf(bytes, (int)len);
	const char *fault = "no private key in it (PEM)";
	char *kind, *header;
	unsigned char *der;
	long der_len;
	EVP_PKEY *key = NULL;
	while (in && !key && PEM_read_bio_ex(in, &kind, &header, &der, &der_len, PEM_FLAG_SECURE) > 0) {
		key = key_of_block(kind, header, der, der_len, &fault);
		OPENSSL_secure_free(kind);
		OPENSSL_secure_free(header);
		OPENSSL_secure_clear_free(der, (size_t)der_len);
	}
	BIO_free(in);
	ERR_clear_error();
	if (!key)
		return why_set(why, -EINVAL, "%s", fault);
	if (EVP_PKEY_get_security_bits(key) < LEAST_SECURITY_BITS) {
		EVP_PKEY_free(key);
		return why_set(why, -EINVAL, "the key is too short");
	}
	*ret_key = key;
	return 0;
}

/* ---- SVIDs --------------------------------------------------------------------------------------- */

void svid_release(struct svid *svid)
{
	if (!svid || --svid->refs)
		return;
	SSL_CTX_free(svid->context);
	EVP_PKEY_free(svid->key);
	X509_free(svid->leaf);
	certificates_free(svid->chain);
	free(svid->name);
	free(svid);
}

static void narrow(struct svid *svid, const X509 *certificate)
{
	time_t not_before = identity_time(X509_get0_notBefore(certificate));
	time_t not_after = identity_time(X509_get0_notAfter(certificate));
	if (not_before > svid->not_before)
		svid->not_before = not_before;
	if (not_after < svid->not_after)
		svid->not_after = not_after;
}

/* What a peer would refuse is not shown to one. */
static int check_svid(struct svid *svid, struct why *why)
{
	enum refusal refusal = identity_of_leaf(svid->leaf, svid->id);
	if (refusal == REFUSAL_NO_ID)
		return why_set(why, -EINVAL, "the certificate has no SPIFFE ID");
	if (refusal == REFUSAL_MANY_IDS)
		return why_set(why, -EINVAL, "the certificate has more than one URI");
	if (refusal == REFUSAL_BAD_ID)
		return why_set(why, -EINVAL, "the certificate's SPIFFE ID is malformed");
	if (refusal)
		return why_set(why, -EINVAL,
			       "the certificate is not one of a workload: an authority, or not for "
			       "digital signatures");
	if (X509_check_private_key(svid->leaf, svid->key) != 1) {
		ERR_clear_error();
		return why_set(why, -EINVAL, "key and certificate do not match");
	}
	svid->not_before = identity_time(X509_get0_notBefore(svid->leaf));
	svid->not_after = identity_time(X509_get0_notAfter(svid->leaf));
	for (int i = 0; i < sk_X509_num(svid->chain); i++)
		narrow(svid, sk_X509_value(svid->chain, i));
	return svid->not_after < time(NULL) ? why_set(why, -EINVAL, "the certificate has expired") : 0;
}

int svid_read(const char *name, const void *certificates, size_t certificates_len, const void *key, size_t key_len,
	      struct svid **ret_svid, struct why *why)
{
	struct svid *svid = calloc(1, sizeof(*svid));
	if (!svid)
		return -ENOMEM;
	svid->refs = 1;
	svid->name = strdup(name);
	int r = svid->name ? 0 : -ENOMEM;
	if (!r)
		r = read_certificates(certificates, certificates_len, IDENTITY_MAX_CHAIN, &svid->chain, why);
	if (!r)
		r = read_key(key, key_len, &svid->key, why);
	if (!r) {
		svid->leaf = sk_X509_shift(svid->chain);
		r = check_svid(svid, why);
	}
	if (r)
		svid_release(svid);
	else
		*ret_svid = svid;
	return r;
}

/* ---- Authorities --------------------------------------------------------------------------------- */

void trust_release(struct trust *trust)
{
	if (!trust || --trust->refs)
		return;
	X509_STORE_free(trust->store);
	sk_X509_CRL_pop_free(trust->crls, X509_CRL_free);
	free(trust->domain);
	free(trust);
}

/* A list of an authority that is not in the bundle may be an intermediate's, whose certificate comes with a peer's. */
static int check_crl(X509_CRL *crl, STACK_OF(X509) * authorities, struct why *why)
{
	bool is_named = false;
	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *authority = sk_X509_value(authorities, i);
		if (X509_NAME_cmp(X509_get_subject_name(authority), X509_CRL_get_issuer(crl)) != 0)
			continue;
		is_named = true;
		if (X509_CRL_verify(crl, X509_get0_pubkey(authority)) == 1)
			return 0;
	}
	ERR_clear_error();
	return is_named ? why_set(why, -EINVAL, "the authority that the revocation list names did not sign it") : 0;
}

static int fill_store(struct trust *trust, STACK_OF(X509) * authorities, struct why *why)
{
	for (int i = 0; i < sk_X509_num(authorities); i++) {
		X509 *authority = sk_X509_value(authorities, i);
		/* 1: it says so itself, by basicConstraints; all else is guessed (X509_check_ca(3)). */
		if (X509_check_ca(authority) != 1)
			return why_set(why, -EINVAL, "certificate %d of the bundle is not one of an authority", i + 1);
		if (!X509_STORE_add_cert(trust->store, authority))
			return -ENOMEM;
	}
	for (int i = 0; i < sk_X509_CRL_num(trust->crls); i++) {
		X509_CRL *crl = sk_X509_CRL_value(trust->crls, i);
		int r = check_crl(crl, authorities, why);
		if (!r && !X509_STORE_add_crl(trust->store, crl))
			r = -ENOMEM;
		if (r)
			return r;
	}
	return 0;
}

int trust_read(const char *domain, const void *bundle, size_t bundle_len, const void *crl, size_t crl_len,
	       struct trust **ret_trust, struct why *why)
{
	if (!spiffe_domain_valid(domain))
		return why_set(why, -EINVAL, "is no trust domain");
	struct trust *trust = calloc(1, sizeof(*trust));
	STACK_OF(X509) *authorities = NULL;
	if (!trust)
		return -ENOMEM;
	trust->refs = 1;
	trust->domain = strdup(domain);
	trust->store = X509_STORE_new();
	int r = trust->domain && trust->store ? 0 : -ENOMEM;
	if (!r)
		r = read_certificates(bundle, bundle_len, IDENTITY_MAX_AUTHORITIES, &authorities, why);
	if (!r && crl)
		r = read_crls(crl, crl_len, &trust->crls, why);
	if (!r)
		r = fill_store(trust, authorities, why);
	certificates_free(authorities);
	if (r)
		trust_release(trust);
	else
		*ret_trust = trust;
	return r;
}
