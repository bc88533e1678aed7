/* What the throw-away authority makes is what the proxy takes; a reader never sees half of a pair. */
#define _GNU_SOURCE 1
#include "scratch.h"

#include "ca.h"
#include "proxy/identity.h"
#include "svid_files.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define TRUST "shop.example"
#define FRONTEND "spiffe://" TRUST "/ns/shop/sa/frontend"

static struct why why;

/* What lies behind FD, as meshp reads it. */
static char *text_of(int fd, size_t *ret_len)
{
	char *text = calloc(1, 64 << 10);
	ssize_t len = pread(fd, text, 64 << 10, 0);
	assert_true(len >= 0);
	close(fd);
	*ret_len = (size_t)len;
	return text;
}

static int take(struct identities *identities, const struct svid_entry *entry)
{
	int fds[2];
	size_t lens[2] = {0};
	char *texts[2] = {NULL, NULL};
	int count = svid_entry_open(entry, fds, &why);
	if (count < 0)
		return count;
	for (int i = 0; i < count; i++)
		texts[i] = text_of(fds[i], &lens[i]);
	int r = entry->is_trust
			? identities_add_trust(identities, entry->name, texts[0], lens[0], texts[1], lens[1], &why)
			: identities_add_svid(identities, entry->name, texts[0], lens[0], texts[1], lens[1], &why);
	free(texts[0]);
	free(texts[1]);
	return r;
}

/* All of the scratch folder, as meshd and meshp do it. */
static void reload(struct identities *identities)
{
	struct svid_files files;
	assert_int_equal(svid_files_find(scratch, scratch_path("bundle"), &files, &why), 0);
	assert_int_equal(identities_begin(identities), 0);
	for (size_t i = 0; i < files.entries.len; i++)
		if (take(identities, &files.entries.at[i]))
			fail_msg("%s: %s", files.entries.at[i].name, why.text);
	assert_int_equal(identities_commit(identities), 0);
	svid_files_release(&files);
}

static enum refusal meet(struct identities *identities, const char *client, const char *server, SSL **ret_server)
{
	SSL *a = identities_client(identities, client, NULL), *b = identities_server(identities, server);
	BIO *one, *two;
	enum refusal refusal = REFUSAL_TLS;
	assert_true(a && b);
	assert_true(BIO_new_bio_pair(&one, 64 << 10, &two, 64 << 10));
	SSL_set_bio(a, one, one);
	SSL_set_bio(b, two, two);
	for (int i = 0, done = 0; i < 8 && done != 1; i++) {
		SSL_do_handshake(a);
		done = SSL_do_handshake(b);
		refusal = done == 1 ? REFUSAL_NONE : identity_failure(b);
	}
	SSL_free(a);
	*ret_server = b;
	return refusal;
}

static void store(struct arena *arena, const struct ca_pair *authority, const char *id, const char *name)
{
	struct ca_pair svid;
	assert_int_equal(ca_issue(authority, id, 600, &svid), 0);
	if (ca_store(arena, scratch_path(name), &svid, &why))
		fail_msg("%s", why.text);
	ca_release(&svid);
}

static void proxy_takes_it(void **state)
{
	(void)state;
	struct arena *arena = arena_create();
	struct ca_pair authority, svid;
	struct identities *identities;
	X509_CRL *list, *more;
	SSL *live;
	assert_int_equal(identities_create(&identities), 0);
	assert_int_equal(ca_create(TRUST, 86400, &authority), 0);
	assert_int_equal(ca_make_folder(scratch_path("bundle"), &why), 0);
	assert_int_equal(ca_write_certificate(scratch_path("bundle/" TRUST ".pem"), authority.certificate, &why), 0);
	assert_int_equal(ca_write_certificate(scratch_path("ca.crt"), authority.certificate, &why), 0);
	assert_int_equal(ca_write_key(scratch_path("ca.key"), authority.key, &why), 0);
	store(arena, &authority, FRONTEND, "shop.frontend");
	store(arena, &authority, FRONTEND, "shop.frontend");
	reload(identities);
	/* The authority's own key is no identity. */
	assert_int_equal(identities_count(identities), 1);
	assert_int_equal(meet(identities, FRONTEND, FRONTEND, &live), REFUSAL_NONE);

	X509 *bad = ca_read_certificate(scratch_path("shop.frontend/tls.crt"));
	const ASN1_INTEGER *serials[] = {X509_get0_serialNumber(bad)};
	assert_int_equal(ca_revoke(&authority, NULL, serials, 1, 600, &list), 0);
	assert_int_equal(ca_write_list(scratch_path("bundle/" TRUST ".crl.pem"), list, &why), 0);
	reload(identities);
	assert_int_equal(identity_verify_again(identities, live, time(NULL)), REFUSAL_REVOKED);
	SSL_free(live);
	/* The client is the first to see it. */
	assert_int_equal(meet(identities, FRONTEND, FRONTEND, &live), REFUSAL_BY_PEER);
	SSL_free(live);

	/* The next list has the serials of the last one. */
	assert_int_equal(ca_issue(&authority, FRONTEND, 600, &svid), 0);
	const ASN1_INTEGER *next[] = {X509_get0_serialNumber(svid.certificate), serials[0]};
	X509_REVOKED *revoked;
	assert_int_equal(ca_revoke(&authority, list, next, 2, 600, &more), 0);
	assert_int_equal(X509_CRL_get0_by_cert(more, &revoked, bad), 1);
	assert_int_equal(X509_CRL_get0_by_cert(more, &revoked, svid.certificate), 1);
	assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(more)), 2);
	ca_release(&svid);
	X509_CRL_free(more);
	X509_CRL_free(list);
	X509_free(bad);
	identities_release(identities);
	ca_release(&authority);
	arena_destroy(arena);
}

/* An SVID does not outlive its authority. */
static void ends(void **state)
{
	(void)state;
	struct ca_pair authority, svid;
	assert_int_equal(ca_create(TRUST, 100, &authority), 0);
	assert_int_equal(ca_issue(&authority, FRONTEND, 86400, &svid), 0);
	assert_int_equal(ca_end(svid.certificate), ca_end(authority.certificate));
	char *id = ca_id(svid.certificate), *trust = ca_id(authority.certificate);
	assert_string_equal(id, FRONTEND);
	assert_string_equal(trust, "spiffe://" TRUST);
	free(id);
	free(trust);
	ca_release(&svid);
	ca_release(&authority);
}

/* One writes as fast as it can, the other opens: each pair fits. */
static void never_half(void **state)
{
	(void)state;
	struct arena *arena = arena_create();
	struct ca_pair authority;
	struct identities *identities;
	assert_int_equal(identities_create(&identities), 0);
	assert_int_equal(ca_create(TRUST, 86400, &authority), 0);
	assert_int_equal(ca_make_folder(scratch_path("bundle"), &why), 0);
	store(arena, &authority, FRONTEND, "w");
	pid_t writer = fork();
	assert_true(writer >= 0);
	if (!writer)
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* if this test fails, too */
	while (!writer)
		store(arena, &authority, FRONTEND, "w");
	int taken = 0, busy = 0;
	struct svid_files files;
	assert_int_equal(svid_files_find(scratch, scratch_path("bundle"), &files, &why), 0);
	assert_int_equal(files.entries.len, 1);
	for (int i = 0; i < 1000; i++) {
		identities_begin(identities);
		int r = take(identities, &files.entries.at[0]);
		if (r == -EAGAIN || r == -ENOENT)
			busy++;
		else if (r)
			fail_msg("%s", why.text);
		else
			taken++;
	}
	kill(writer, SIGKILL);
	waitpid(writer, NULL, 0);
	print_message("%d pairs taken, %d times too busy\n", taken, busy);
	assert_true(taken > 500);
	svid_files_release(&files);
	identities_release(identities);
	ca_release(&authority);
	arena_destroy(arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(proxy_takes_it), TEST(ends), TEST(never_half)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
