/* Identity files that are no good: each refused, and by words that say why. */
#define _GNU_SOURCE 1
#include "pki.h"

#include "proxy/identity.h"

#include <errno.h>
#include <openssl/err.h>

#define LEDGER "spiffe://shop.example/ns/shop/sa/ledger"
#define FRONTEND "spiffe://shop.example/ns/shop/sa/frontend"

static struct pki_pair root, stranger;
static struct identities *node;
static struct why why;

static int prepare(void **state)
{
	(void)state;
	root = pki_make(NULL, (struct pki_wish){.name = "root", .is_authority = true});
	stranger = pki_make(NULL, (struct pki_wish){.name = "root", .is_authority = true});
	return identities_create(&node);
}

static int finish(void **state)
{
	(void)state;
	identities_release(node);
	pki_free(&root);
	pki_free(&stranger);
	pki_done();
	return 0;
}

static void refuse_svid(const char *certificates, const char *key, const char *reason)
{
	memset(&why, 0, sizeof(why));
	identities_begin(node);
	assert_int_equal(identities_add_svid(node, "new", certificates, strlen(certificates), key, strlen(key), &why),
			 -EINVAL);
	if (!strstr(why.text, reason))
		fail_msg("'%s' does not say '%s'", why.text, reason);
	assert_int_equal(ERR_peek_error(), 0);
}

static void refuse_made(struct pki_wish wish, const char *reason)
{
	struct pki_pair pair = pki_make(&root, wish);
	refuse_svid(pki_certificates(pair.certificate, NULL), pki_key(pair.key), reason);
	pki_free(&pair);
}

static void bad_svids(void **state)
{
	(void)state;
	struct pki_wish good = {.san = "URI:" LEDGER}, authority = good, old = good, weak = good;
	authority.is_authority = true;
	old.from_s = -600, old.until_s = -60;
	weak.rsa_bits = 1024;
	refuse_made((struct pki_wish){0}, "no SPIFFE ID");
	refuse_made((struct pki_wish){.san = "URI:" LEDGER ",URI:" FRONTEND}, "more than one URI");
	refuse_made((struct pki_wish){.san = "URI:spiffe://x"}, "malformed");
	refuse_made(authority, "not one of a workload");
	refuse_made(old, "has expired");
	refuse_made(weak, "too short");
}

static void bad_pem(void **state)
{
	(void)state;
	struct pki_pair pair = pki_make(&root, (struct pki_wish){.san = "URI:" LEDGER});
	char *certificate = pki_certificates(pair.certificate, NULL), *key = pki_key(pair.key);
	char *broken = strdup(certificate), *broken_key = strdup(key);
	BIO *out = BIO_new(BIO_s_mem());
	PEM_write_bio_PKCS8PrivateKey(out, pair.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL);
	const char *encrypted = pki_text(out);
	refuse_svid("", key, "no certificate");
	refuse_svid("garbage", key, "no certificate");
	refuse_svid(key, key, "no certificate");
	refuse_svid(certificate, "", "no private key");
	refuse_svid(certificate, certificate, "no private key");
	refuse_svid(certificate, encrypted, "encrypted");
	/* Every way in which a file may be half written. */
	for (size_t len = strlen(certificate) - 2; len > 0; len -= len > 37 ? 37 : len) {
		broken[len] = 0;
		refuse_svid(broken, key, "");
	}
	for (size_t len = strlen(key) - 2; len > 0; len -= len > 7 ? 7 : len) {
		broken_key[len] = 0;
		refuse_svid(certificate, broken_key, "");
	}
	free(broken);
	free(broken_key);
	pki_free(&pair);
}

/* The key that `openssl ecparam -genkey` writes: parameters before it, and not PKCS #8. */
static void old_key_forms(void **state)
{
	(void)state;
	struct pki_pair pair = pki_make(&root, (struct pki_wish){.san = "URI:" LEDGER});
	const char *certificate = pki_certificates(pair.certificate, NULL);
	BIO *out = BIO_new(BIO_s_mem());
	BIO_puts(out, "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n");
	PEM_write_bio_PrivateKey_traditional(out, pair.key, NULL, NULL, 0, NULL, NULL);
	const char *key = pki_text(out);
	assert_non_null(strstr(key, "BEGIN EC PRIVATE KEY"));
	identities_begin(node);
	assert_int_equal(identities_add_svid(node, "old", certificate, strlen(certificate), key, strlen(key), &why), 0);
	assert_int_equal(identities_add_svid(node, "old", certificate, strlen(certificate), key, strlen(key), &why),
			 -EEXIST);
	pki_free(&pair);
}

static void refuse_trust(const char *domain, const char *bundle, const char *crl, const char *reason)
{
	identities_begin(node);
	assert_int_equal(identities_add_trust(node, domain, bundle, strlen(bundle), crl, crl ? strlen(crl) : 0, &why),
			 -EINVAL);
	if (!strstr(why.text, reason))
		fail_msg("'%s' does not say '%s'", why.text, reason);
}

static void bad_trust(void **state)
{
	(void)state;
	struct pki_pair leaf = pki_make(&root, (struct pki_wish){.san = "URI:" LEDGER});
	const char *good = pki_certificates(root.certificate, NULL);
	refuse_trust("Shop.example", good, NULL, "no trust domain");
	refuse_trust("", good, NULL, "no trust domain");
	refuse_trust("fresh.example", "", NULL, "no certificate");
	refuse_trust("fresh.example", pki_certificates(root.certificate, leaf.certificate), NULL,
		     "certificate 2 of the bundle is not one of an authority");
	refuse_trust("fresh.example", good, "garbage", "no revocation list");
	refuse_trust("fresh.example", good, pki_crl(pki_revoke(&stranger, NULL, -60, 3600)), "did not sign it");
	pki_free(&leaf);
}

static void bounds(void **state)
{
	(void)state;
	struct pki_pair leaf = pki_make(&root, (struct pki_wish){.san = "URI:" LEDGER});
	const char *one = pki_certificates(leaf.certificate, NULL), *key = pki_key(leaf.key);
	char *large = calloc(1, IDENTITY_CRL_BYTES + 1), *chain = calloc(IDENTITY_MAX_CHAIN + 1, strlen(one) + 1);
	for (int i = 0; i <= IDENTITY_MAX_CHAIN; i++)
		strcat(chain, one);
	identities_begin(node);
	assert_int_equal(identities_add_svid(node, "a", large, IDENTITY_CERTIFICATE_BYTES + 1, key, strlen(key), &why),
			 -E2BIG);
	assert_int_equal(identities_add_svid(node, "b", one, strlen(one), large, IDENTITY_CERTIFICATE_BYTES + 1, &why),
			 -E2BIG);
	assert_int_equal(identities_add_svid(node, "c", chain, strlen(chain), key, strlen(key), &why), -E2BIG);
	assert_int_equal(identities_add_trust(node, "a", large, IDENTITY_BUNDLE_BYTES + 1, NULL, 0, &why), -E2BIG);
	assert_int_equal(identities_add_trust(node, "b", one, strlen(one), large, IDENTITY_CRL_BYTES + 1, &why),
			 -E2BIG);
	free(large);
	free(chain);
	pki_free(&leaf);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, prepare, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bad_svids), TEST(bad_pem), TEST(old_key_forms), TEST(bad_trust), TEST(bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
