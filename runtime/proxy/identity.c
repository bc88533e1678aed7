/* Sets of SVIDs and authorities, and the connections that are made with them. */
#include "proxy/identity_internal.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

/* ---- Sets ----------------------------------------------------------------------------------------- */

static void set_destroy(struct identity_set *set)
{
	if (!set)
		return;
	for (size_t i = 0; i < set->svids.len; i++)
		svid_release(set->svids.at[i]);
	for (size_t i = 0; i < set->domains.cap; i++)
		trust_release(set->domains.at[i].value);
	arena_destroy(set->arena);
}

static struct identity_set *set_create(void)
{
	struct arena *arena = arena_create();
	if (!arena)
		return NULL;
	struct identity_set *set = arena_alloc(arena, sizeof(*set));
	set->arena = set->names.arena = set->ids.arena = set->domains.arena = arena;
	return set;
}

static void set_add_svid(struct identity_set *set, struct svid *svid)
{
	struct svid_list *entry = arena_alloc(set->arena, sizeof(*entry));
	*entry = (struct svid_list){svid, table_get(&set->ids, svid->id)};
	table_put(&set->ids, svid->id, entry);
	table_put(&set->names, svid->name, svid);
	vec_push(set->arena, &set->svids, svid);
}

int identities_create(struct identities **ret_identities)
{
	struct identities *identities = calloc(1, sizeof(*identities));
	if (!identities || identity_verify_prepare() || !(identities->force = set_create())) {
		free(identities);
		return -ENOMEM;
	}
	*ret_identities = identities;
	return 0;
}

void identities_release(struct identities *identities)
{
	if (!identities)
		return;
	set_destroy(identities->force);
	set_destroy(identities->next);
	free(identities);
}

int identities_begin(struct identities *identities)
{
	set_destroy(identities->next);
	identities->next = set_create();
	return identities->next ? 0 : -ENOMEM;
}

int identities_commit(struct identities *identities)
{
	if (!identities->next)
		return -EINVAL;
	set_destroy(identities->force);
	identities->force = identities->next;
	identities->next = NULL;
	return 0;
}

/* ---- What is in them ------------------------------------------------------------------------------ */

/* B may be NULL, which is not the same as empty. */
static struct identity_stamp stamp_of(const void *a, size_t a_len, const void *b, size_t b_len)
{
	struct identity_stamp stamp = {{{0}}};
	EVP_Digest(a, a_len, stamp.digests[0], NULL, EVP_sha256(), NULL);
	if (b)
		EVP_Digest(b, b_len, stamp.digests[1], NULL, EVP_sha256(), NULL);
	return stamp;
}

static bool is_same(const struct identity_stamp *a, const struct identity_stamp *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int identities_add_svid(struct identities *identities, const char *name, const void *certificates,
			size_t certificates_len, const void *key, size_t key_len, struct why *why)
{
	struct identity_set *set = identities->next;
	if (!set || table_get(&set->names, name))
		return why_set(why, set ? -EEXIST : -EINVAL, set ? "said twice" : "no set was begun");
	if (set->svids.len == IDENTITY_MAX_SVIDS)
		return why_set(why, -E2BIG, "more than %d certificates", IDENTITY_MAX_SVIDS);
	struct svid *last = table_get(&identities->force->names, name), *fresh = NULL;
	struct identity_stamp stamp = stamp_of(certificates, certificates_len, key, key_len);
	int r = 0;
	if (certificates_len > IDENTITY_CERTIFICATE_BYTES || key_len > IDENTITY_CERTIFICATE_BYTES)
		r = why_set(why, -E2BIG, "larger than %d bytes", IDENTITY_CERTIFICATE_BYTES);
	else if (!last || !is_same(&last->stamp, &stamp))
		r = svid_read(name, certificates, certificates_len, key, key_len, &fresh, why);
	if (fresh)
		fresh->stamp = stamp;
	else if (last)
		last->refs++;
	if (fresh || last)
		set_add_svid(set, fresh ? fresh : last);
	return r;
}

int identities_add_trust(struct identities *identities, const char *domain, const void *bundle, size_t bundle_len,
			 const void *crl, size_t crl_len, struct why *why)
{
	struct identity_set *set = identities->next;
	if (!set || table_get(&set->domains, domain))
		return why_set(why, set ? -EEXIST : -EINVAL, set ? "said twice" : "no set was begun");
	if (set->domains.len == IDENTITY_MAX_DOMAINS)
		return why_set(why, -E2BIG, "more than %d trust domains", IDENTITY_MAX_DOMAINS);
	struct trust *last = table_get(&identities->force->domains, domain), *fresh = NULL;
	struct identity_stamp stamp = stamp_of(bundle, bundle_len, crl, crl_len);
	int r = 0;
	if (bundle_len > IDENTITY_BUNDLE_BYTES || crl_len > IDENTITY_CRL_BYTES)
		r = why_set(why, -E2BIG, "a bundle larger than %d bytes, or a revocation list larger than %d",
			    IDENTITY_BUNDLE_BYTES, IDENTITY_CRL_BYTES);
	else if (!last || !is_same(&last->stamp, &stamp))
		r = trust_read(domain, bundle, bundle_len, crl, crl_len, &fresh, why);
	if (fresh)
		fresh->stamp = stamp;
	else if (last)
		last->refs++;
	struct trust *trust = fresh ? fresh : last;
	if (trust)
		table_put(&set->domains, trust->domain, trust);
	return r;
}

static bool is_valid(const struct svid *svid, time_t now)
{
	return svid->not_before <= now && now <= svid->not_after;
}

/* The one that is valid at NOW and ends last. */
static struct svid *find_svid(const struct identities *identities, const char *id, time_t now)
{
	struct svid *best = NULL;
	for (const struct svid_list *at = table_get(&identities->force->ids, id); at; at = at->next) {
		if (is_valid(at->svid, now) && (!best || at->svid->not_after > best->not_after))
			best = at->svid;
	}
	return best;
}

time_t identities_valid_until(const struct identities *identities, const char *id, time_t now)
{
	const struct svid *svid = find_svid(identities, id, now);
	return svid ? svid->not_after : 0;
}

time_t identities_ended(const struct identities *identities, const char *id, time_t now)
{
	time_t last = 0;
	for (const struct svid_list *at = table_get(&identities->force->ids, id); at; at = at->next)
		if (at->svid->not_after < now && at->svid->not_after > last)
			last = at->svid->not_after;
	return last;
}

size_t identities_valid(const struct identities *identities, time_t now)
{
	size_t count = 0;
	for (size_t i = 0; i < identities->force->svids.len; i++)
		count += is_valid(identities->force->svids.at[i], now);
	return count;
}

size_t identities_count(const struct identities *identities)
{
	return identities->force->svids.len;
}

const char *identities_id(const struct identities *identities, size_t i)
{
	return identities->force->svids.at[i]->id;
}

/* ---- Connections ---------------------------------------------------------------------------------- */

static const unsigned char h2[] = {2, 'h', '2'};

static int select_h2(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_len, const unsigned char *offered,
		     unsigned offered_len, void *arg)
{
	(void)ssl;
	(void)arg;
	int r = SSL_select_next_proto((unsigned char **)ret_name, ret_len, h2, sizeof(h2), offered, offered_len);
	return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool set_protocol(SSL_CTX *context)
{
	if (!SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
	    !SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					       "TLS_CHACHA20_POLY1305_SHA256"))
		return false;
	/* OpenSSL before 3.5 knows no ML-KEM, and refuses a list with a name that it does not know. */
	if (!SSL_CTX_set1_groups_list(context, "X25519:X25519MLKEM768:P-256:P-384") &&
	    !SSL_CTX_set1_groups_list(context, "X25519:P-256:P-384"))
		return false;
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(context, select_h2, NULL);
	return SSL_CTX_set_alpn_protos(context, h2, sizeof(h2)) == 0;
}

/* One for both roles: SSL_set_connect_state and SSL_set_accept_state tell them apart. */
static SSL_CTX *context_create(struct identities *identities, const struct svid *svid)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());
	if (!context)
		return NULL;
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(context, identity_verify_peer, identities);
	SSL_CTX_set_max_cert_list(context, IDENTITY_CERTIFICATE_BYTES);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(context, 1);
	if (set_protocol(context) && SSL_CTX_use_cert_and_key(context, svid->leaf, svid->key, svid->chain, 1) == 1)
		return context;
	SSL_CTX_free(context);
	return NULL;
}

static SSL *connection_create(struct identities *identities, const char *id)
{
	struct svid *svid = find_svid(identities, id, time(NULL));
	if (svid && !svid->context)
		svid->context = context_create(identities, svid);
	return svid && svid->context ? SSL_new(svid->context) : NULL;
}

SSL *identities_client(struct identities *identities, const char *id, const char *sni)
{
	SSL *ssl = connection_create(identities, id);
	if (!ssl)
		return NULL;
	SSL_set_connect_state(ssl);
	if (!sni || SSL_set_tlsext_host_name(ssl, sni))
		return ssl;
	SSL_free(ssl);
	return NULL;
}

SSL *identities_server(struct identities *identities, const char *id)
{
	SSL *ssl = connection_create(identities, id);
	if (ssl)
		SSL_set_accept_state(ssl);
	return ssl;
}
