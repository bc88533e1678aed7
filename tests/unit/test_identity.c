/* Who is let in, who is refused and with which words; and that a set in force outlives a bad one. */
#define _GNU_SOURCE 1
#include "pki.h"

#include "proxy/identity.h"

#include <errno.h>
#include <openssl/err.h>

#define TRUST "shop.example"
#define FRONTEND "spiffe://" TRUST "/ns/shop/sa/frontend"
#define LEDGER "spiffe://" TRUST "/ns/shop/sa/ledger"
#define OTHER "spiffe://other.example/ns/shop/sa/frontend"

static struct pki_pair root, stranger, other_root;
static struct identities *node; /* of "shop.example", with the SVID of LEDGER */
static struct why why;

static struct pki_pair authority(const char *name)
{
	return pki_make(NULL,
			(struct pki_wish){.name = name, .is_authority = true, .from_s = -86400, .until_s = 86400});
}

static struct pki_pair workload(const char *san)
{
	return pki_make(&root, (struct pki_wish){.san = san});
}

static int add_svid(struct identities *identities, const char *name, const struct pki_pair *pair, X509 *intermediate)
{
	const char *certificates = pki_certificates(pair->certificate, intermediate), *key = pki_key(pair->key);
	return identities_add_svid(identities, name, certificates, strlen(certificates), key, strlen(key), &why);
}

static int add_trust(struct identities *identities, const char *domain, X509 *first, X509 *second, X509_CRL *crl)
{
	const char *bundle = pki_certificates(first, second), *list = crl ? pki_crl(crl) : NULL;
	return identities_add_trust(identities, domain, bundle, strlen(bundle), list, list ? strlen(list) : 0, &why);
}

static struct identities *identities_of(const char *id)
{
	struct identities *identities;
	struct pki_pair own = pki_make(&root, (struct pki_wish){.san = id});
	assert_int_equal(identities_create(&identities), 0);
	assert_int_equal(identities_begin(identities), 0);
	assert_int_equal(add_svid(identities, "own", &own, NULL), 0);
	assert_int_equal(add_trust(identities, TRUST, root.certificate, NULL, NULL), 0);
	assert_int_equal(identities_commit(identities), 0);
	pki_free(&own);
	return identities;
}

static int prepare(void **state)
{
	(void)state;
	root = authority("root");
	stranger = authority("root");
	other_root = authority("other");
	node = identities_of("URI:" LEDGER);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	identities_release(node);
	pki_free(&root);
	pki_free(&stranger);
	pki_free(&other_root);
	pki_done();
	return 0;
}

/* ---- Handshakes ----------------------------------------------------------------------------------- */

/* An OpenSSL that obeys nobody's rules: a peer of NODE that shows what PAIR is. */
static SSL_CTX *impostor(const struct pki_pair *pair, X509 *intermediate)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());
	SSL_CTX_set_security_level(context, 0);
	if (pair)
		assert_true(SSL_CTX_use_cert_and_key(context, pair->certificate, pair->key, NULL, 1));
	if (intermediate)
		assert_true(SSL_CTX_add1_chain_cert(context, intermediate));
	return context;
}

static int select_any(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_len, const unsigned char *offered,
		      unsigned offered_len, void *arg)
{
	(void)ssl;
	(void)offered_len;
	(void)arg;
	*ret_name = offered + 1;
	*ret_len = offered[0];
	return SSL_TLSEXT_ERR_OK;
}

static SSL *impostor_ssl(SSL_CTX *context, bool is_client)
{
	SSL *ssl = SSL_new(context);
	SSL_CTX_set_alpn_select_cb(context, select_any, NULL);
	SSL_set_alpn_protos(ssl, (const unsigned char *)"\2h2", 3);
	/* As ours, it asks the client for a certificate; unlike ours, it takes any. */
	SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
	is_client ? SSL_set_connect_state(ssl) : SSL_set_accept_state(ssl);
	return ssl;
}

/* Steps both until neither goes on; the outcome of each. */
struct meeting {
	SSL *a, *b;
	enum refusal a_failure, b_failure; /* at the moment of failure */
	bool a_done, b_done;
};

static void step(SSL *ssl, bool *done, enum refusal *failure)
{
	if (*done || *failure)
		return;
	ERR_clear_error();
	int r = SSL_do_handshake(ssl);
	if (r == 1)
		*done = true;
	else if (SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ)
		*failure = identity_failure(ssl);
}

static struct meeting meet(SSL *a, SSL *b)
{
	struct meeting met = {.a = a, .b = b};
	BIO *one, *two;
	assert_true(a && b);
	assert_true(BIO_new_bio_pair(&one, 64 << 10, &two, 64 << 10));
	SSL_set_bio(a, one, one);
	SSL_set_bio(b, two, two);
	for (int i = 0; i < 10; i++) {
		step(a, &met.a_done, &met.a_failure);
		step(b, &met.b_done, &met.b_failure);
	}
	return met;
}

static void part(struct meeting *met)
{
	SSL_free(met->a);
	SSL_free(met->b);
}

/* NODE as a server, and as a client, with a peer that shows PAIR: both must say EXPECTED. */
static void expect_of_chain(enum refusal expected, const struct pki_pair *pair, X509 *intermediate)
{
	for (int node_is_client = 0; node_is_client < 2; node_is_client++) {
		struct identity_peer peer;
		SSL_CTX *context = impostor(pair, intermediate);
		SSL *ours = node_is_client ? identities_client(node, LEDGER, NULL) : identities_server(node, LEDGER);
		struct meeting met = meet(ours, impostor_ssl(context, !node_is_client));
		enum refusal got = met.a_done ? identity_peer(met.a, &peer) : met.a_failure;
		if (got != expected)
			fail_msg("as a %s: '%s', not '%s'", node_is_client ? "client" : "server", refusal_word(got),
				 refusal_word(expected));
		assert_int_equal(met.a_done, expected == REFUSAL_NONE);
		if (!met.a_done)
			assert_int_equal(identity_peer(met.a, &peer), expected);
		part(&met);
		SSL_CTX_free(context);
	}
}

static void expect(enum refusal expected, struct pki_pair pair)
{
	expect_of_chain(expected, &pair, NULL);
	pki_free(&pair);
}

static void good_peers(void **state)
{
	(void)state;
	struct identities *caller = identities_of("URI:" FRONTEND);
	struct meeting met = meet(identities_client(caller, FRONTEND, "ledger"), identities_server(node, LEDGER));
	struct identity_peer of_client, of_server, nobodys;
	assert_true(met.a_done && met.b_done);
	assert_int_equal(identity_peer(met.a, &of_server), REFUSAL_NONE);
	assert_int_equal(identity_peer(met.b, &of_client), REFUSAL_NONE);
	assert_string_equal(of_server.id, LEDGER);
	assert_string_equal(of_client.id, FRONTEND);
	assert_memory_not_equal(of_client.digest, of_server.digest, 16);
	assert_memory_equal(of_client.space_digest, of_server.space_digest, 16);
	assert_in_range(of_client.not_after, time(NULL) + 3500, time(NULL) + 3600);
	assert_int_equal(SSL_version(met.a), TLS1_3_VERSION);
	assert_string_equal(SSL_get_servername(met.b, TLSEXT_NAMETYPE_host_name), "ledger");
	/* No ticket follows: there is nothing to read. */
	assert_int_equal(BIO_pending(SSL_get_rbio(met.a)), 0);
	part(&met);
	assert_null(identities_client(caller, LEDGER, NULL));
	met = (struct meeting){.a = identities_client(caller, FRONTEND, NULL)};
	assert_int_not_equal(identity_peer(met.a, &nobodys), REFUSAL_NONE);
	part(&met);
	identities_release(caller);
}

static void digests(void **state)
{
	(void)state;
	struct pki_pair odd = workload("URI:spiffe://" TRUST "/odd");
	SSL_CTX *context = impostor(&odd, NULL);
	struct meeting met = meet(identities_server(node, LEDGER), impostor_ssl(context, true));
	struct identity_peer peer;
	unsigned char whole[32];
	assert_int_equal(identity_peer(met.a, &peer), REFUSAL_NONE);
	EVP_Digest(peer.id, strlen(peer.id), whole, NULL, EVP_sha256(), NULL);
	assert_memory_equal(peer.digest, whole, 16);
	assert_memory_equal(peer.space_digest, (uint8_t[16]){0}, 16);
	part(&met);
	SSL_CTX_free(context);
	pki_free(&odd);
}

/* ---- Refusals ------------------------------------------------------------------------------------- */

static void refused_authorities(void **state)
{
	(void)state;
	struct pki_wish good = {.san = "URI:" FRONTEND};
	expect(REFUSAL_NONE, pki_make(&root, good));
	/* STRANGER has the root's name and another key. */
	expect(REFUSAL_UNKNOWN_CA, pki_make(&stranger, good));
	expect(REFUSAL_UNKNOWN_CA, pki_make(NULL, good));
	expect(REFUSAL_UNKNOWN_CA, pki_make(&other_root, (struct pki_wish){.san = "URI:" OTHER}));
	expect(REFUSAL_WRONG_DOMAIN, workload("URI:" OTHER));
}

static void refused_times(void **state)
{
	(void)state;
	expect(REFUSAL_EXPIRED,
	       pki_make(&root, (struct pki_wish){.san = "URI:" FRONTEND, .from_s = -60, .until_s = -10}));
	expect(REFUSAL_NOT_YET_VALID,
	       pki_make(&root, (struct pki_wish){.san = "URI:" FRONTEND, .from_s = 60, .until_s = 600}));
}

static void refused_names(void **state)
{
	(void)state;
	char longest[3000] = "URI:spiffe://" TRUST "/";
	expect(REFUSAL_NO_ID, workload(NULL));
	expect(REFUSAL_NO_ID, workload("DNS:frontend.shop"));
	expect(REFUSAL_NONE, workload("DNS:frontend.shop,URI:" FRONTEND));
	expect(REFUSAL_MANY_IDS, workload("URI:" FRONTEND ",URI:" LEDGER));
	expect(REFUSAL_MANY_IDS, workload("URI:" FRONTEND ",URI:https://shop.example/"));
	static const char *const bad[] = {
		"https://shop.example/ns/shop", "spiffe://shop.example",	"spiffe://shop.example/",
		"spiffe://shop.example//a",	"spiffe://shop.example/a/../b", "spiffe://SHOP.example/a",
		"spiffe://shop.example:80/a",	"spiffe://u@shop.example/a",	"spiffe://shop.example/a?b",
		"spiffe://shop.example/%41",	"SPIFFE://shop.example/a"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char san[256];
		snprintf(san, sizeof(san), "URI:%s", bad[i]);
		expect(REFUSAL_BAD_ID, workload(san));
	}
	memset(longest + strlen(longest), 'a', 2048 - strlen(longest) + 4);
	expect(REFUSAL_NONE, workload(longest));
	strcat(longest, "a");
	expect(REFUSAL_BAD_ID, workload(longest));
}

/* "spiffe://shop.example/a" and a zero byte and more: C's strings would end there. */
static void refused_zero_byte(void **state)
{
	(void)state;
	struct pki_pair pair = workload(NULL);
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *uri = ASN1_IA5STRING_new();
	static const char text[] = FRONTEND "\0.evil";
	ASN1_STRING_set(uri, text, sizeof(text) - 1);
	GENERAL_NAME_set0_value(name, GEN_URI, uri);
	sk_GENERAL_NAME_push(names, name);
	assert_true(X509_add1_ext_i2d(pair.certificate, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT));
	GENERAL_NAMES_free(names);
	assert_true(X509_sign(pair.certificate, root.key, EVP_sha256()));
	expect(REFUSAL_BAD_ID, pair);
}

static void refused_kinds(void **state)
{
	(void)state;
	struct pki_wish wish = {.san = "URI:" FRONTEND, .usage = "digitalSignature", .is_authority = true};
	expect(REFUSAL_BAD_CERTIFICATE, pki_make(&root, wish));
	wish.is_authority = false;
	wish.usage = "keyEncipherment";
	expect(REFUSAL_BAD_CERTIFICATE, pki_make(&root, wish));
	wish.usage = "digitalSignature,keyCertSign";
	expect(REFUSAL_BAD_CERTIFICATE, pki_make(&root, wish));
	wish.usage = "";
	expect(REFUSAL_NONE, pki_make(&root, wish));
	wish.purpose = "clientAuth,serverAuth";
	expect(REFUSAL_NONE, pki_make(&root, wish));
	wish.purpose = "codeSigning";
	expect(REFUSAL_BAD_CERTIFICATE, pki_make(&root, wish));
	wish.purpose = NULL;
	wish.rsa_bits = 1024;
	expect(REFUSAL_BAD_CERTIFICATE, pki_make(&root, wish));
	wish.rsa_bits = 2048;
	expect(REFUSAL_NONE, pki_make(&root, wish));
}

static void intermediates(void **state)
{
	(void)state;
	struct pki_wish wish = {.name = "intermediate", .is_authority = true, .from_s = -60, .until_s = 600};
	struct pki_pair middle = pki_make(&root, wish),
			leaf = pki_make(&middle, (struct pki_wish){.san = "URI:" FRONTEND});
	expect_of_chain(REFUSAL_NONE, &leaf, middle.certificate);
	expect_of_chain(REFUSAL_UNKNOWN_CA, &leaf, NULL);
	/* The chain ends before the leaf does. */
	SSL_CTX *context = impostor(&leaf, middle.certificate);
	struct meeting met = meet(identities_server(node, LEDGER), impostor_ssl(context, true));
	struct identity_peer peer;
	assert_int_equal(identity_peer(met.a, &peer), REFUSAL_NONE);
	assert_in_range(peer.not_after, time(NULL) + 500, time(NULL) + 600);
	part(&met);
	SSL_CTX_free(context);
	/* A workload is no authority. */
	struct pki_pair forged = pki_make(&leaf, (struct pki_wish){.san = "URI:" LEDGER});
	expect_of_chain(REFUSAL_UNKNOWN_CA, &forged, leaf.certificate);
	pki_free(&forged);
	pki_free(&leaf);
	pki_free(&middle);
}

/* A bundle may hold an authority that another one signed: it is trusted for itself. */
static void bundle_of_intermediate(void **state)
{
	(void)state;
	struct pki_pair middle = pki_make(&root, (struct pki_wish){.name = "intermediate", .is_authority = true});
	struct pki_pair own = workload("URI:" LEDGER);
	identities_begin(node);
	assert_int_equal(add_svid(node, "own", &own, NULL), 0);
	assert_int_equal(add_trust(node, TRUST, middle.certificate, NULL, NULL), 0);
	identities_commit(node);
	expect(REFUSAL_NONE, pki_make(&middle, (struct pki_wish){.san = "URI:" FRONTEND}));
	expect(REFUSAL_UNKNOWN_CA, workload("URI:" FRONTEND));
	pki_free(&own);
	pki_free(&middle);
}

static void name_constraints(void **state)
{
	(void)state;
	struct pki_wish wish = {
		.name = "narrow", .is_authority = true, .constraints = "permitted;URI:elsewhere.example"};
	struct pki_pair middle = pki_make(&root, wish),
			leaf = pki_make(&middle, (struct pki_wish){.san = "URI:" FRONTEND});
	expect_of_chain(REFUSAL_WRONG_DOMAIN, &leaf, middle.certificate);
	pki_free(&leaf);
	pki_free(&middle);
}

static void no_certificate(void **state)
{
	(void)state;
	SSL_CTX *context = impostor(NULL, NULL);
	struct meeting met = meet(identities_server(node, LEDGER), impostor_ssl(context, true));
	struct identity_peer peer;
	char byte;
	assert_false(met.a_done);
	assert_int_equal(met.a_failure, REFUSAL_NO_CERTIFICATE);
	assert_int_not_equal(identity_peer(met.a, &peer), REFUSAL_NONE);
	/* The client learns it by reading. */
	assert_true(met.b_done);
	assert_true(SSL_read(met.b, &byte, 1) <= 0);
	assert_int_equal(identity_failure(met.b), REFUSAL_BY_PEER);
	part(&met);
	SSL_CTX_free(context);
}

static void told_by_peer(void **state)
{
	(void)state;
	struct identities *caller = identities_of("URI:" OTHER);
	struct meeting met = meet(identities_client(caller, OTHER, NULL), identities_server(node, LEDGER));
	char byte;
	assert_true(met.a_done);
	assert_int_equal(met.b_failure, REFUSAL_WRONG_DOMAIN);
	ERR_clear_error();
	assert_true(SSL_read(met.a, &byte, 1) <= 0);
	assert_int_equal(identity_failure(met.a), REFUSAL_BY_PEER);
	part(&met);
	identities_release(caller);
}

static void old_tls(void **state)
{
	(void)state;
	struct pki_pair pair = workload("URI:" FRONTEND);
	SSL_CTX *context = impostor(&pair, NULL);
	SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
	struct meeting met = meet(identities_server(node, LEDGER), impostor_ssl(context, true));
	assert_int_equal(met.a_failure, REFUSAL_OLD_TLS);
	part(&met);
	met = meet(identities_client(node, LEDGER, NULL), impostor_ssl(context, false));
	assert_int_equal(met.a_failure, REFUSAL_OLD_TLS);
	part(&met);
	SSL_CTX_free(context);
	pki_free(&pair);
}

/* What comes instead of TLS. */
static void no_tls(void **state)
{
	(void)state;
	static const char *const spoken[] = {"GET / HTTP/1.1\r\nHost: ledger\r\n\r\n", "CONNECT a:80 HTTP/1.1\r\n\r\n",
					     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"};
	for (size_t i = 0; i < sizeof(spoken) / sizeof(*spoken); i++) {
		SSL *ssl = identities_server(node, LEDGER);
		SSL_set_bio(ssl, BIO_new_mem_buf(spoken[i], -1), BIO_new(BIO_s_mem()));
		ERR_clear_error();
		assert_int_equal(SSL_do_handshake(ssl), -1);
		if (identity_failure(ssl) != REFUSAL_NO_TLS)
			fail_msg("%s: %s", spoken[i], ERR_reason_error_string(ERR_peek_last_error()));
		SSL_free(ssl);
	}
}

static void other_protocols(void **state)
{
	(void)state;
	static const struct {
		const char *protocols;
		unsigned len;
	} cases[] = {{"\10http/1.1", 9}, {"", 0}};
	struct pki_pair pair = workload("URI:" FRONTEND);
	SSL_CTX *context = impostor(&pair, NULL);
	for (size_t i = 0; i < 2; i++) {
		SSL *client = impostor_ssl(context, true);
		SSL_set_alpn_protos(client, (const unsigned char *)cases[i].protocols, cases[i].len);
		struct meeting met = meet(identities_server(node, LEDGER), client);
		assert_int_equal(met.a_failure, REFUSAL_TLS);
		part(&met);
	}
	SSL *server = impostor_ssl(context, false);
	SSL_CTX_set_alpn_select_cb(context, NULL, NULL);
	struct meeting met = meet(identities_client(node, LEDGER, NULL), server);
	assert_int_equal(met.a_failure, REFUSAL_TLS);
	part(&met);
	SSL_CTX_free(context);
	pki_free(&pair);
}

static void weak_ciphers(void **state)
{
	(void)state;
	struct pki_pair pair = workload("URI:" FRONTEND);
	static const struct {
		const char *suite;
		bool fine;
	} cases[] = {{"TLS_AES_128_GCM_SHA256", true},
		     {"TLS_AES_256_GCM_SHA384", true},
		     {"TLS_CHACHA20_POLY1305_SHA256", true},
		     {"TLS_AES_128_CCM_SHA256", false},
		     {"TLS_AES_128_CCM_8_SHA256", false}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		SSL_CTX *context = impostor(&pair, NULL);
		assert_true(SSL_CTX_set_ciphersuites(context, cases[i].suite));
		struct meeting met = meet(identities_server(node, LEDGER), impostor_ssl(context, true));
		assert_int_equal(met.a_done, cases[i].fine);
		part(&met);
		SSL_CTX_free(context);
	}
	pki_free(&pair);
}

/* ---- Federation ----------------------------------------------------------------------------------- */

static void federation(void **state)
{
	(void)state;
	struct pki_pair own = workload("URI:" LEDGER);
	identities_begin(node);
	assert_int_equal(add_svid(node, "own", &own, NULL), 0);
	assert_int_equal(add_trust(node, TRUST, root.certificate, NULL, NULL), 0);
	assert_int_equal(add_trust(node, "other.example", other_root.certificate, NULL, NULL), 0);
	identities_commit(node);
	pki_free(&own);
	expect(REFUSAL_NONE, workload("URI:" FRONTEND));
	expect(REFUSAL_NONE, pki_make(&other_root, (struct pki_wish){.san = "URI:" OTHER}));
	/* Neither vouches for the other. */
	expect(REFUSAL_WRONG_DOMAIN, pki_make(&other_root, (struct pki_wish){.san = "URI:" FRONTEND}));
	expect(REFUSAL_WRONG_DOMAIN, workload("URI:" OTHER));
	expect(REFUSAL_WRONG_DOMAIN, workload("URI:spiffe://third.example/x"));
	expect(REFUSAL_UNKNOWN_CA, pki_make(&stranger, (struct pki_wish){.san = "URI:" OTHER}));
	/* No domain is a prefix of another. */
	expect(REFUSAL_WRONG_DOMAIN, workload("URI:spiffe://shop.example.evil/x"));
}

/* ---- Revocation ----------------------------------------------------------------------------------- */

static void put_in_force(X509 *second, X509_CRL *crl)
{
	struct pki_pair own = workload("URI:" LEDGER);
	identities_begin(node);
	assert_int_equal(add_svid(node, "own", &own, NULL), 0);
	assert_int_equal(add_trust(node, TRUST, root.certificate, second, crl), 0);
	identities_commit(node);
	pki_free(&own);
}

static void revoked(void **state)
{
	(void)state;
	struct pki_pair good = workload("URI:" FRONTEND), bad = workload("URI:" FRONTEND);
	put_in_force(NULL, pki_revoke(&root, bad.certificate, -60, 3600));
	expect_of_chain(REFUSAL_NONE, &good, NULL);
	expect_of_chain(REFUSAL_REVOKED, &bad, NULL);
	/* Closed when the list is out of date: for all of its issuer. */
	put_in_force(NULL, pki_revoke(&root, NULL, -120, -60));
	expect_of_chain(REFUSAL_BAD_CRL, &good, NULL);
	put_in_force(NULL, pki_revoke(&root, NULL, 600, 6000));
	expect_of_chain(REFUSAL_BAD_CRL, &good, NULL);
	put_in_force(NULL, NULL);
	expect_of_chain(REFUSAL_NONE, &bad, NULL);
	pki_free(&good);
	pki_free(&bad);
}

/* SPIRE's authorities all have one name; a list of one says nothing of the other's. */
static void revoked_by_another_of_the_name(void **state)
{
	(void)state;
	struct pki_pair twin = authority("root");
	struct pki_pair of_root = workload("URI:" FRONTEND),
			of_twin = pki_make(&twin, (struct pki_wish){.san = "URI:" FRONTEND});
	put_in_force(twin.certificate, pki_revoke(&root, of_root.certificate, -60, 3600));
	expect_of_chain(REFUSAL_REVOKED, &of_root, NULL);
	expect_of_chain(REFUSAL_NONE, &of_twin, NULL);
	pki_free(&of_root);
	pki_free(&of_twin);
	pki_free(&twin);
}

static void revoked_intermediate(void **state)
{
	(void)state;
	struct pki_pair middle = pki_make(&root, (struct pki_wish){.name = "intermediate", .is_authority = true});
	struct pki_pair leaf = pki_make(&middle, (struct pki_wish){.san = "URI:" FRONTEND});
	/* A list of the root's alone: the intermediate has none, so its leaves are not checked. */
	put_in_force(NULL, pki_revoke(&root, NULL, -60, 3600));
	expect_of_chain(REFUSAL_NONE, &leaf, middle.certificate);
	put_in_force(NULL, pki_revoke(&root, middle.certificate, -60, 3600));
	expect_of_chain(REFUSAL_REVOKED, &leaf, middle.certificate);
	/* The intermediate's alone. */
	put_in_force(NULL, pki_revoke(&middle, leaf.certificate, -60, 3600));
	expect_of_chain(REFUSAL_REVOKED, &leaf, middle.certificate);
	put_in_force(NULL, pki_revoke(&middle, NULL, -60, 3600));
	expect_of_chain(REFUSAL_NONE, &leaf, middle.certificate);
	pki_free(&leaf);
	pki_free(&middle);
}

/* A list of the issuer that OpenSSL cannot use is not the same as none: closed. */
static void unusable_crl(void **state)
{
	(void)state;
	X509_CRL *crl = pki_revoke(&root, NULL, -60, 3600);
	ISSUING_DIST_POINT *some = ISSUING_DIST_POINT_new();
	some->onlysomereasons = ASN1_BIT_STRING_new();
	ASN1_BIT_STRING_set_bit(some->onlysomereasons, 1, 1);
	assert_true(X509_CRL_add1_ext_i2d(crl, NID_issuing_distribution_point, some, 1, X509V3_ADD_DEFAULT));
	ISSUING_DIST_POINT_free(some);
	assert_true(X509_CRL_sign(crl, root.key, EVP_sha256()));
	put_in_force(NULL, crl);
	expect(REFUSAL_BAD_CRL, workload("URI:" FRONTEND));
}

static void verified_again(void **state)
{
	(void)state;
	struct pki_pair pair = workload("URI:" FRONTEND);
	SSL_CTX *context = impostor(&pair, NULL);
	put_in_force(NULL, NULL);
	struct meeting of_server = meet(identities_server(node, LEDGER), impostor_ssl(context, true));
	struct meeting of_client = meet(identities_client(node, LEDGER, NULL), impostor_ssl(context, false));
	SSL *const live[] = {of_server.a, of_client.a};
	time_t now = time(NULL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(identity_verify_again(node, live[i], now), REFUSAL_NONE);
		assert_int_equal(identity_verify_again(node, live[i], now + 4000), REFUSAL_EXPIRED);
		assert_int_equal(identity_verify_again(node, live[i], now - 4000), REFUSAL_NOT_YET_VALID);
	}
	put_in_force(NULL, pki_revoke(&root, pair.certificate, -60, 3600));
	for (int i = 0; i < 2; i++)
		assert_int_equal(identity_verify_again(node, live[i], now), REFUSAL_REVOKED);
	/* The root is no longer trusted. */
	identities_begin(node);
	assert_int_equal(add_trust(node, TRUST, stranger.certificate, NULL, NULL), 0);
	identities_commit(node);
	for (int i = 0; i < 2; i++)
		assert_int_equal(identity_verify_again(node, live[i], now), REFUSAL_UNKNOWN_CA);
	part(&of_server);
	part(&of_client);
	SSL_CTX_free(context);
	pki_free(&pair);
}

/* ---- Sets ----------------------------------------------------------------------------------------- */

/* Live connections keep what they began with; new ones take the new; those that shake hands are judged by the new. */
static void rotation(void **state)
{
	(void)state;
	struct identities *caller = identities_of("URI:" FRONTEND);
	struct meeting before = meet(identities_client(caller, FRONTEND, NULL), identities_server(node, LEDGER));
	SSL *began = identities_server(node, LEDGER);
	struct pki_pair fresh = pki_make(&root, (struct pki_wish){.san = "URI:" LEDGER, .from_s = -1, .until_s = 7000});
	char byte = 0;
	identities_begin(node);
	assert_int_equal(add_svid(node, "own", &fresh, NULL), 0);
	assert_int_equal(add_trust(node, TRUST, root.certificate, NULL, NULL), 0);
	assert_int_equal(identities_commit(node), 0);
	assert_int_equal(SSL_write(before.a, "x", 1), 1);
	assert_int_equal(SSL_read(before.b, &byte, 1), 1);
	assert_int_equal(byte, 'x');
	struct meeting between = meet(identities_client(caller, FRONTEND, NULL), began);
	struct meeting after = meet(identities_client(caller, FRONTEND, NULL), identities_server(node, LEDGER));
	assert_true(between.a_done && between.b_done && after.a_done && after.b_done);
	assert_int_equal(X509_cmp(SSL_get0_peer_certificate(after.a), fresh.certificate), 0);
	assert_int_not_equal(X509_cmp(SSL_get0_peer_certificate(between.a), fresh.certificate), 0);
	assert_in_range(identities_valid_until(node, LEDGER, time(NULL)), time(NULL) + 6900, time(NULL) + 7000);
	part(&before);
	part(&between);
	part(&after);
	pki_free(&fresh);
	identities_release(caller);
}

static void ends_last_wins(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		long from_s, until_s;
	} cases[] = {{"short", -60, 600}, {"long", -60, 1200}, {"later", 600, 6000}, {"middle", -60, 900}};
	time_t now = time(NULL);
	identities_begin(node);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct pki_pair pair = pki_make(&root, (struct pki_wish){.san = "URI:" LEDGER,
									 .from_s = cases[i].from_s,
									 .until_s = cases[i].until_s});
		assert_int_equal(add_svid(node, cases[i].name, &pair, NULL), 0);
		pki_free(&pair);
	}
	identities_commit(node);
	assert_int_equal(identities_count(node), 4);
	assert_string_equal(identities_id(node, 3), LEDGER);
	assert_in_range(identities_valid_until(node, LEDGER, now), now + 1199, now + 1201);
	assert_in_range(identities_valid_until(node, LEDGER, now + 700), now + 5999, now + 6001);
	assert_int_equal(identities_valid_until(node, LEDGER, now + 7000), 0);
	assert_in_range(identities_ended(node, LEDGER, now + 7000), now + 5999, now + 6001);
	assert_int_equal(identities_ended(node, LEDGER, now), 0);
	assert_int_equal(identities_valid(node, now), 3);
	assert_int_equal(identities_valid(node, now + 700000), 0);
	assert_int_equal(identities_valid_until(node, FRONTEND, now), 0);
	SSL *ssl = identities_server(node, LEDGER);
	assert_in_range(X509_cmp_time(X509_get0_notAfter(SSL_get_certificate(ssl)), &(time_t){now + 1100}), 1, 1);
	SSL_free(ssl);
}

static void many_identities(void **state)
{
	(void)state;
	struct pki_pair one = workload("URI:" FRONTEND);
	identities_begin(node);
	for (int i = 0; i < 100; i++) {
		char name[32], san[128];
		snprintf(name, sizeof(name), "svid-%d", i);
		snprintf(san, sizeof(san), "URI:spiffe://" TRUST "/ns/shop/sa/%d", i);
		struct pki_pair pair = workload(san);
		assert_int_equal(add_svid(node, name, &pair, NULL), 0);
		pki_free(&pair);
		pki_done();
	}
	identities_commit(node);
	assert_int_equal(identities_count(node), 100);
	SSL *ssl = identities_server(node, "spiffe://" TRUST "/ns/shop/sa/77");
	assert_non_null(ssl);
	SSL_free(ssl);
	pki_free(&one);
}

/* What fails leaves the last good one of its name in force, and says why. */
static void keeps_last_good(void **state)
{
	(void)state;
	struct pki_pair own = workload("URI:" LEDGER), other = workload("URI:" FRONTEND);
	const char *certificate = pki_certificates(own.certificate, NULL), *wrong_key = pki_key(other.key);
	put_in_force(NULL, NULL);
	time_t until = identities_valid_until(node, LEDGER, time(NULL));
	for (int i = 0; i < 2; i++) {
		identities_begin(node);
		assert_int_equal(identities_add_svid(node, "own", certificate, strlen(certificate), wrong_key,
						     strlen(wrong_key), &why),
				 -EINVAL);
		assert_string_equal(why.text, "key and certificate do not match");
		assert_int_equal(identities_add_trust(node, TRUST, "garbage", 7, NULL, 0, &why), -EINVAL);
		identities_commit(node);
		assert_int_equal(identities_valid_until(node, LEDGER, time(NULL)), until);
		expect_of_chain(REFUSAL_NONE, &other, NULL);
	}
	/* What is not said any more is gone. */
	identities_begin(node);
	identities_commit(node);
	assert_int_equal(identities_count(node), 0);
	assert_null(identities_server(node, LEDGER));
	assert_int_equal(identities_commit(node), -EINVAL);
	pki_free(&own);
	pki_free(&other);
}

/* An empty list beside a bundle that had none is a fault, not "unchanged". */
static void empty_crl(void **state)
{
	(void)state;
	const char *bundle = pki_certificates(root.certificate, NULL);
	identities_begin(node);
	assert_int_equal(identities_add_trust(node, TRUST, bundle, strlen(bundle), "", 0, &why), -EINVAL);
	assert_string_equal(why.text, "no revocation list in it (PEM)");
	identities_commit(node);
}

static void words(void **state)
{
	(void)state;
	for (enum refusal i = REFUSAL_NONE; i < REFUSAL_COUNT; i++)
		for (enum refusal k = REFUSAL_NONE; k < i; k++)
			assert_true(strcmp(refusal_word(i), refusal_word(k)) &&
				    strcmp(refusal_text(i), refusal_text(k)));
	assert_string_equal(refusal_word(REFUSAL_UNKNOWN_CA), "unknown-ca");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, prepare, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(good_peers),
		TEST(digests),
		TEST(refused_authorities),
		TEST(refused_times),
		TEST(refused_names),
		TEST(refused_zero_byte),
		TEST(refused_kinds),
		TEST(intermediates),
		TEST(bundle_of_intermediate),
		TEST(name_constraints),
		TEST(no_certificate),
		TEST(told_by_peer),
		TEST(old_tls),
		TEST(no_tls),
		TEST(other_protocols),
		TEST(weak_ciphers),
		TEST(federation),
		TEST(revoked),
		TEST(revoked_by_another_of_the_name),
		TEST(revoked_intermediate),
		TEST(unusable_crl),
		TEST(verified_again),
		TEST(rotation),
		TEST(ends_last_wins),
		TEST(many_identities),
		TEST(keeps_last_good),
		TEST(empty_crl),
		cmocka_unit_test(words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
