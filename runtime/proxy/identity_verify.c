/* Is the peer who its certificate says, and may its authority say so? */
#include "proxy/identity_internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

static const char *const texts[] = {
#define REFUSAL(name, word, text) text,
	REFUSALS(REFUSAL)
#undef REFUSAL
};
static const char *const words[] = {
#define REFUSAL(name, word, text) word,
	REFUSALS(REFUSAL)
#undef REFUSAL
};

const char *refusal_text(enum refusal refusal)
{
	return refusal < REFUSAL_COUNT ? texts[refusal] : "";
}

const char *refusal_word(enum refusal refusal)
{
	return refusal < REFUSAL_COUNT ? words[refusal] : "";
}

time_t identity_time(const ASN1_TIME *at)
{
	struct tm tm;
	return ASN1_TIME_to_tm(at, &tm) == 1 ? timegm(&tm) : 0;
}

/* ---- The leaf (X509-SVID, sections 2 and 4) ------------------------------------------------------- */

static enum refusal id_of_uri(const ASN1_IA5STRING *uri, char ret_id[IDENTITY_MAX_ID + 1])
{
	int len = ASN1_STRING_length(uri);
	const void *text = ASN1_STRING_get0_data(uri);
	if (len < 1 || len > IDENTITY_MAX_ID || memchr(text, 0, (size_t)len))
		return REFUSAL_BAD_ID;
	memcpy(ret_id, text, (size_t)len);
	ret_id[len] = 0;
	return spiffe_valid(ret_id) ? REFUSAL_NONE : REFUSAL_BAD_ID;
}

static enum refusal id_of_names(GENERAL_NAMES *names, char ret_id[IDENTITY_MAX_ID + 1])
{
	const ASN1_IA5STRING *uri = NULL;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		if (uri)
			return REFUSAL_MANY_IDS;
		uri = name->d.uniformResourceIdentifier;
	}
	return uri ? id_of_uri(uri, ret_id) : REFUSAL_NO_ID;
}

static bool is_workloads(X509 *leaf)
{
	/* Without the extension every bit is set. */
	uint32_t flags = X509_get_extension_flags(leaf), usage = X509_get_key_usage(leaf);
	if (flags & (EXFLAG_CA | EXFLAG_INVALID) || !(usage & KU_DIGITAL_SIGNATURE))
		return false;
	return !(flags & EXFLAG_KUSAGE) || !(usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN));
}

enum refusal identity_of_leaf(X509 *leaf, char ret_id[IDENTITY_MAX_ID + 1])
{
	int found; /* -1: there is none; -2: there are two */
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &found, NULL);
	if (!names)
		return found == -1 ? REFUSAL_NO_ID : REFUSAL_BAD_CERTIFICATE;
	enum refusal refusal = id_of_names(names, ret_id);
	GENERAL_NAMES_free(names);
	return refusal || is_workloads(leaf) ? refusal : REFUSAL_BAD_CERTIFICATE;
}

/* ---- The chain ------------------------------------------------------------------------------------ */

struct shown {
	X509 *leaf;
	STACK_OF(X509) * chain;
	bool by_client;
	time_t now;
};

struct finding {
	enum refusal refusal;
	int error; /* X509_V_...: the alert that the peer gets follows from it */
	time_t not_after;
};

static enum refusal refusal_of(int error)
{
	switch (error) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return REFUSAL_EXPIRED;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return REFUSAL_NOT_YET_VALID;
	case X509_V_ERR_CERT_REVOKED:
		return REFUSAL_REVOKED;
	case X509_V_ERR_UNABLE_TO_GET_CRL:
	case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
	case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
	case X509_V_ERR_CRL_SIGNATURE_FAILURE:
	case X509_V_ERR_CRL_NOT_YET_VALID:
	case X509_V_ERR_CRL_HAS_EXPIRED:
	case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
	case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
	case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
	case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
	case X509_V_ERR_DIFFERENT_CRL_SCOPE:
	case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
		return REFUSAL_BAD_CRL;
	case X509_V_ERR_PERMITTED_VIOLATION:
	case X509_V_ERR_EXCLUDED_VIOLATION:
		return REFUSAL_WRONG_DOMAIN;
	case X509_V_ERR_INVALID_PURPOSE:
	case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
	case X509_V_ERR_INVALID_EXTENSION:
	case X509_V_ERR_EE_KEY_TOO_SMALL:
	case X509_V_ERR_CA_KEY_TOO_SMALL:
	case X509_V_ERR_CA_MD_TOO_WEAK:
		return REFUSAL_BAD_CERTIFICATE;
	default:
		return REFUSAL_UNKNOWN_CA;
	}
}

/* Two authorities may have one name (SPIRE's all do) and differ in their keys. */
static bool is_of_issuer(const X509_CRL *crl, X509 *issuer)
{
	if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) != 0)
		return false;
	AUTHORITY_KEYID *key = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, NULL, NULL);
	bool is_same = !key || X509_check_akid(issuer, key) == X509_V_OK;
	AUTHORITY_KEYID_free(key);
	return is_same;
}

/* OpenSSL wants a CRL of every issuer or of none; here, of those for which there is one. */
static int forgive_no_crl(int ok, X509_STORE_CTX *ctx)
{
	if (ok || X509_STORE_CTX_get_error(ctx) != X509_V_ERR_UNABLE_TO_GET_CRL)
		return ok;
	const struct trust *trust = X509_STORE_CTX_get_app_data(ctx);
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	int depth = X509_STORE_CTX_get_error_depth(ctx), last = sk_X509_num(chain) - 1;
	X509 *issuer = sk_X509_value(chain, depth < last ? depth + 1 : last);
	for (int i = 0; i < sk_X509_CRL_num(trust->crls); i++)
		if (is_of_issuer(sk_X509_CRL_value(trust->crls, i), issuer))
			return 0;
	X509_STORE_CTX_set_error(ctx, X509_V_OK);
	return 1;
}

static void set_rules(X509_STORE_CTX *ctx, const struct trust *trust, const struct shown *shown)
{
	X509_VERIFY_PARAM *rules = X509_STORE_CTX_get0_param(ctx);
	/* A bundle's authority is trusted for itself, whoever signed it (SPIFFE Trust Domain and Bundle, section 4). */
	unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST;
	if (trust->crls)
		flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
	X509_VERIFY_PARAM_set_flags(rules, flags);
	X509_VERIFY_PARAM_set_time(rules, shown->now);
	X509_VERIFY_PARAM_set_depth(rules, IDENTITY_MAX_CHAIN);
	X509_VERIFY_PARAM_set_auth_level(rules, 2);
	X509_STORE_CTX_set_purpose(ctx, shown->by_client ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER);
	X509_STORE_CTX_set_app_data(ctx, (void *)trust);
	X509_STORE_CTX_set_verify_cb(ctx, forgive_no_crl);
}

static time_t earliest_end(const STACK_OF(X509) * chain)
{
	time_t earliest = identity_time(X509_get0_notAfter(sk_X509_value(chain, 0)));
	for (int i = 1; i < sk_X509_num(chain); i++) {
		time_t end = identity_time(X509_get0_notAfter(sk_X509_value(chain, i)));
		if (end < earliest)
			earliest = end;
	}
	return earliest;
}

static struct finding verify_in(const struct trust *trust, const struct shown *shown)
{
	struct finding finding = {REFUSAL_TLS, X509_V_ERR_OUT_OF_MEM};
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	if (ctx && X509_STORE_CTX_init(ctx, trust->store, shown->leaf, shown->chain)) {
		set_rules(ctx, trust, shown);
		if (X509_verify_cert(ctx) > 0) {
			finding = (struct finding){REFUSAL_NONE, X509_V_OK};
			finding.not_after = earliest_end(X509_STORE_CTX_get0_chain(ctx));
		} else {
			finding.error = X509_STORE_CTX_get_error(ctx);
			finding.refusal = refusal_of(finding.error);
		}
	}
	X509_STORE_CTX_free(ctx);
	return finding;
}

/* Another domain's authority must not vouch for this one; it is only told apart from a stranger. */
static bool is_signed_elsewhere(const struct identity_set *set, const struct trust *own, const struct shown *shown)
{
	for (size_t i = 0; i < set->domains.cap; i++) {
		const struct trust *other = set->domains.at[i].value;
		if (other && other != own && verify_in(other, shown).refusal != REFUSAL_UNKNOWN_CA)
			return true;
	}
	return false;
}

static const struct trust *trust_of(const struct identity_set *set, const char *id)
{
	size_t len;
	const char *domain = spiffe_domain(id, &len);
	char name[SPIFFE_MAX_DOMAIN + 1];
	memcpy(name, domain, len);
	name[len] = 0;
	return table_get(&set->domains, name);
}

static struct finding verify(const struct identities *identities, const struct shown *shown)
{
	char id[IDENTITY_MAX_ID + 1];
	struct finding finding = {identity_of_leaf(shown->leaf, id), X509_V_ERR_CERT_REJECTED};
	if (finding.refusal)
		return finding;
	const struct trust *own = trust_of(identities->force, id);
	finding = own ? verify_in(own, shown)
		      : (struct finding){REFUSAL_UNKNOWN_CA, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY};
	if (finding.refusal == REFUSAL_UNKNOWN_CA && is_signed_elsewhere(identities->force, own, shown))
		finding.refusal = REFUSAL_WRONG_DOMAIN;
	ERR_clear_error();
	return finding;
}

/* ---- Connections ---------------------------------------------------------------------------------- */

/* What was found stays with the SSL. */
static int refusal_index = -1, end_index = -1;

static void make_indexes(void)
{
	refusal_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	end_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

int identity_verify_prepare(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_indexes);
	return refusal_index < 0 || end_index < 0 ? -1 : 0;
}

/* OpenSSL lets a peer pass that names no protocol at all (its callback is not called then). */
static bool speaks_h2(const SSL *ssl)
{
	const unsigned char *name;
	unsigned len;
	SSL_get0_alpn_selected(ssl, &name, &len);
	return len == 2 && memcmp(name, "h2", 2) == 0;
}

int identity_verify_peer(X509_STORE_CTX *ctx, void *identities)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct shown shown = {.leaf = X509_STORE_CTX_get0_cert(ctx),
			      .chain = X509_STORE_CTX_get0_untrusted(ctx),
			      .by_client = SSL_is_server(ssl),
			      .now = time(NULL)};
	struct finding finding = verify(identities, &shown);
	if (!finding.refusal && !speaks_h2(ssl))
		finding = (struct finding){REFUSAL_TLS, X509_V_ERR_APPLICATION_VERIFICATION};
	SSL_set_ex_data(ssl, refusal_index, (void *)(intptr_t)finding.refusal);
	SSL_set_ex_data(ssl, end_index, (void *)(intptr_t)finding.not_after);
	X509_STORE_CTX_set_error(ctx, finding.error);
	return !finding.refusal;
}

enum refusal identity_verify_again(const struct identities *identities, const SSL *ssl, time_t now)
{
	struct shown shown = {.leaf = SSL_get0_peer_certificate(ssl),
			      .chain = SSL_get_peer_cert_chain(ssl),
			      .by_client = SSL_is_server(ssl),
			      .now = now};
	return shown.leaf ? verify(identities, &shown).refusal : REFUSAL_NO_CERTIFICATE;
}

static void digest(const char *text, size_t len, uint8_t ret_digest[16])
{
	unsigned char whole[32] = {0};
	EVP_Digest(text, len, whole, NULL, EVP_sha256(), NULL);
	memcpy(ret_digest, whole, 16);
}

enum refusal identity_peer(const SSL *ssl, struct identity_peer *ret_peer)
{
	X509 *leaf = SSL_get0_peer_certificate(ssl);
	time_t not_after = (time_t)(intptr_t)SSL_get_ex_data(ssl, end_index);
	if (!SSL_is_init_finished(ssl) || !leaf || !not_after)
		return identity_failure(ssl);
	struct identity_peer peer = {.not_after = not_after};
	enum refusal refusal = identity_of_leaf(leaf, peer.id);
	if (refusal)
		return refusal;
	digest(peer.id, strlen(peer.id), peer.digest);
	size_t space_len = spiffe_space_len(peer.id);
	if (space_len)
		digest(peer.id, space_len, peer.space_digest);
	*ret_peer = peer;
	return REFUSAL_NONE;
}

enum refusal identity_failure(const SSL *ssl)
{
	enum refusal found = (enum refusal)(intptr_t)SSL_get_ex_data(ssl, refusal_index);
	unsigned long error = ERR_peek_last_error();
	if (found || ERR_GET_LIB(error) != ERR_LIB_SSL)
		return found ? found : REFUSAL_TLS;
	switch (ERR_GET_REASON(error)) {
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return REFUSAL_NO_CERTIFICATE;
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
		return REFUSAL_OLD_TLS;
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_WRONG_VERSION_NUMBER:
		return REFUSAL_NO_TLS;
	/* RFC 8446, section 6.2: what a peer says of a certificate */
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
	case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
		return REFUSAL_BY_PEER;
	default:
		return REFUSAL_TLS;
	}
}
