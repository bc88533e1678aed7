#include "ca.h"

#include "base/spiffe.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SERIAL_BYTES = 16, CLOCK_SKEW_S = 60 };

void ca_release(struct ca_pair *pair)
{
	X509_free(pair->certificate);
	EVP_PKEY_free(pair->key);
	*pair = (struct ca_pair){0};
}

/* ---- Certificates --------------------------------------------------------------------------------- */

struct extension {
	int kind;
	const char *value; /* as in openssl.cnf */
};

static bool add_extensions(X509 *certificate, X509 *issuer, const struct extension *extensions, size_t count)
{
	X509V3_CTX context;
	bool fine = true;
	X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
	for (size_t i = 0; i < count && fine; i++) {
		X509_EXTENSION *one = X509V3_EXT_conf_nid(NULL, &context, extensions[i].kind, extensions[i].value);
		fine = one && X509_add_ext(certificate, one, -1);
		X509_EXTENSION_free(one);
	}
	return fine;
}

/* RFC 5280, section 4.1.2.2: positive, of at most 20 bytes, unique. */
static bool set_serial(X509 *certificate)
{
	unsigned char bytes[SERIAL_BYTES];
	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] &= 0x7f;
	BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	bool fine = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate));
	BN_free(number);
	return fine;
}

static bool set_name(X509_NAME *name, const char *text)
{
	/* The common name has at most 64 characters (RFC 5280, appendix A.1, ub-common-name). */
	return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"NOT FOR PRODUCTION", -1, -1,
					  0) &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)text, (int)strnlen(text, 64),
					  -1, 0);
}

/* ISSUER NULL: of itself. Signed last. */
static int make(const struct ca_pair *issuer, const char *name, time_t until, const struct extension *extensions,
		size_t count, struct ca_pair *ret_made)
{
	struct ca_pair made = {X509_new(), EVP_EC_gen("P-256")};
	X509 *x = made.certificate;
	const struct ca_pair *by = issuer ? issuer : &made;
	bool fine = x && made.key && X509_set_version(x, X509_VERSION_3) && set_serial(x) &&
		    X509_gmtime_adj(X509_getm_notBefore(x), -CLOCK_SKEW_S) &&
		    ASN1_TIME_set(X509_getm_notAfter(x), until) && X509_set_pubkey(x, made.key) &&
		    set_name(X509_get_subject_name(x), name) &&
		    X509_set_issuer_name(x, X509_get_subject_name(by->certificate)) &&
		    add_extensions(x, by->certificate, extensions, count) && X509_sign(x, by->key, EVP_sha256());
	if (!fine) {
		ca_release(&made);
		return -EIO;
	}
	*ret_made = made;
	return 0;
}

int ca_create(const char *trust, long seconds, struct ca_pair *ret_authority)
{
	char uri[SPIFFE_MAX_ID + 8];
	snprintf(uri, sizeof(uri), "URI:spiffe://%s", trust);
	const struct extension extensions[] = {
		{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
		{NID_key_usage, "critical,keyCertSign,cRLSign"},
		{NID_subject_key_identifier, "hash"},
		{NID_subject_alt_name, uri},
	};
	return make(NULL, trust, time(NULL) + seconds, extensions, sizeof(extensions) / sizeof(*extensions),
		    ret_authority);
}

int ca_issue(const struct ca_pair *authority, const char *id, long seconds, struct ca_pair *ret_svid)
{
	char uri[SPIFFE_MAX_ID + 8];
	snprintf(uri, sizeof(uri), "URI:%s", id);
	const struct extension extensions[] = {
		{NID_basic_constraints, "critical,CA:FALSE"}, {NID_key_usage, "critical,digitalSignature"},
		{NID_ext_key_usage, "serverAuth,clientAuth"}, {NID_subject_key_identifier, "hash"},
		{NID_authority_key_identifier, "keyid"},      {NID_subject_alt_name, uri},
	};
	time_t end = ca_end(authority->certificate), until = time(NULL) + seconds;
	const char *slash = strrchr(id, '/');
	return make(authority, slash + 1, until < end ? until : end, extensions,
		    sizeof(extensions) / sizeof(*extensions), ret_svid);
}

char *ca_id(X509 *certificate)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	const GENERAL_NAME *name = sk_GENERAL_NAME_num(names) == 1 ? sk_GENERAL_NAME_value(names, 0) : NULL;
	char *id = NULL;
	if (name && name->type == GEN_URI) {
		const ASN1_STRING *uri = name->d.uniformResourceIdentifier;
		id = strndup((const char *)ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri));
	}
	GENERAL_NAMES_free(names);
	return id;
}

time_t ca_end(const X509 *certificate)
{
	struct tm tm;
	return ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) == 1 ? timegm(&tm) : 0;
}

/* ---- Revocation ----------------------------------------------------------------------------------- */

static bool add_serial(X509_CRL *crl, const ASN1_INTEGER *serial, const ASN1_TIME *at)
{
	X509_REVOKED *revoked;
	if (X509_CRL_get0_by_serial(crl, &revoked, serial))
		return true;
	revoked = X509_REVOKED_new();
	if (revoked && X509_REVOKED_set_serialNumber(revoked, (ASN1_INTEGER *)serial) &&
	    X509_REVOKED_set_revocationDate(revoked, (ASN1_TIME *)at) && X509_CRL_add0_revoked(crl, revoked))
		return true;
	X509_REVOKED_free(revoked);
	return false;
}

static bool add_all(X509_CRL *crl, X509_CRL *before, const ASN1_INTEGER *const *serials, size_t count)
{
	const STACK_OF(X509_REVOKED) *old = before ? X509_CRL_get_REVOKED(before) : NULL;
	bool fine = true;
	for (int i = 0; i < sk_X509_REVOKED_num(old) && fine; i++) {
		const X509_REVOKED *one = sk_X509_REVOKED_value(old, i);
		fine = add_serial(crl, X509_REVOKED_get0_serialNumber(one), X509_REVOKED_get0_revocationDate(one));
	}
	for (size_t i = 0; i < count && fine; i++)
		fine = add_serial(crl, serials[i], X509_CRL_get0_lastUpdate(crl));
	return fine;
}

/* RFC 5280, section 5.2.3: each list has a higher number. */
static bool set_number(X509_CRL *crl, X509_CRL *before)
{
	ASN1_INTEGER *last = before ? X509_CRL_get_ext_d2i(before, NID_crl_number, NULL, NULL) : NULL;
	ASN1_INTEGER *number = ASN1_INTEGER_new();
	bool fine = number && ASN1_INTEGER_set(number, last ? ASN1_INTEGER_get(last) + 1 : 1) &&
		    X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, X509V3_ADD_DEFAULT) == 1;
	ASN1_INTEGER_free(number);
	ASN1_INTEGER_free(last);
	return fine;
}

static bool set_issuer(X509_CRL *crl, const struct ca_pair *authority)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, authority->certificate, NULL, NULL, crl, 0);
	X509_EXTENSION *key = X509V3_EXT_conf_nid(NULL, &context, NID_authority_key_identifier, "keyid");
	bool fine = key && X509_CRL_add_ext(crl, key, -1) &&
		    X509_CRL_set_issuer_name(crl, X509_get_subject_name(authority->certificate));
	X509_EXTENSION_free(key);
	return fine;
}

int ca_revoke(const struct ca_pair *authority, X509_CRL *before, const ASN1_INTEGER *const *serials, size_t count,
	      long seconds, X509_CRL **ret_crl)
{
	X509_CRL *crl = X509_CRL_new();
	ASN1_TIME *from = ASN1_TIME_set(NULL, time(NULL) - CLOCK_SKEW_S);
	ASN1_TIME *until = ASN1_TIME_set(NULL, time(NULL) + seconds);
	bool fine = crl && from && until && X509_CRL_set_version(crl, X509_CRL_VERSION_2) &&
		    X509_CRL_set1_lastUpdate(crl, from) && X509_CRL_set1_nextUpdate(crl, until) &&
		    set_issuer(crl, authority) && set_number(crl, before) && add_all(crl, before, serials, count) &&
		    X509_CRL_sort(crl) && X509_CRL_sign(crl, authority->key, EVP_sha256());
	ASN1_TIME_free(from);
	ASN1_TIME_free(until);
	if (!fine) {
		X509_CRL_free(crl);
		return -EIO;
	}
	*ret_crl = crl;
	return 0;
}
