/* Which files are somebody's identity, and when they changed. */
#define _GNU_SOURCE 1
#include "scratch.h"
#include "svid_files.h"

#include <errno.h>
#include <fcntl.h>

static struct why why;
static struct svid_files files;
static char identities[128], trust[128];

static int prepare(void **state)
{
	int r = scratch_make(state);
	snprintf(identities, sizeof(identities), "%s", scratch_path("id"));
	snprintf(trust, sizeof(trust), "%s", scratch_path("trust"));
	return r || mkdir(identities, 0700) || mkdir(trust, 0700);
}

static int finish(void **state)
{
	svid_files_release(&files);
	return scratch_remove(state);
}

static void folder(const char *name)
{
	assert_int_equal(mkdir(scratch_path(name), 0700), 0);
}

static void file(const char *name, const char *text)
{
	assert_int_equal(chmod(scratch_write(name, text), 0600), 0);
}

static void find(void)
{
	svid_files_release(&files);
	if (svid_files_find(identities, trust, &files, &why))
		fail_msg("%s", why.text);
}

/* What is found: names with a space between. */
static void expect(const char *names)
{
	char found[2048] = "";
	find();
	for (size_t i = 0; i < files.entries.len; i++) {
		const struct svid_entry *entry = &files.entries.at[i];
		snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%s%s", i ? " " : "", entry->name,
			 entry->is_trust ? (entry->second ? "(crl)" : "(trust)") : "");
	}
	assert_string_equal(found, names);
}

static void names_of_writers(void **state)
{
	(void)state;
	static const char *const made[] = {"id/tls.crt",
					   "id/tls.key",
					   "id/ca.crt",
					   "id/ca.key",
					   "id/a/svid.pem",
					   "id/a/svid_key.pem",
					   "id/a/svid_bundle.pem",
					   "id/b/x.pem",
					   "id/b/x-key.pem",
					   "id/b/y.crt",
					   "id/b/y.key",
					   "id/b/lonely.crt",
					   "id/b/lonely2.key",
					   "id/b/.z.crt",
					   "id/b/.z.key",
					   "id/b/root.pem",
					   "trust/shop.example.pem",
					   "trust/shop.example.crl.pem",
					   "trust/b.pem",
					   "trust/.hidden.pem",
					   "trust/readme"};
	folder("id/a");
	folder("id/b");
	for (size_t i = 0; i < sizeof(made) / sizeof(*made); i++)
		file(made[i], "x");
	expect("a/svid.pem b/x.pem b/y.crt tls.crt b(trust) shop.example(crl)");
	assert_int_equal(files.problems.len, 0);
}

static void depth(void **state)
{
	(void)state;
	char path[64] = "id";
	for (int i = 0; i < 6; i++) {
		file(strcat(path, "/x.crt"), "x");
		path[strlen(path) - strlen("/x.crt")] = 0;
		file(strcat(path, "/x.key"), "x");
		path[strlen(path) - strlen("/x.key")] = 0;
		folder(strcat(path, "/d"));
	}
	expect("d/d/d/d/x.crt d/d/d/x.crt d/d/x.crt d/x.crt x.crt");
}

/* One that cannot be said must not take the others with it. */
static void names_that_are_no_text(void **state)
{
	(void)state;
	file("id/a.crt", "x");
	file("id/a.key", "x");
	file("trust/b.pem", "x");
	expect("a.crt b(trust)");
	uint64_t before = files.stamp;
	folder("id/\xff");
	file("id/\xff/x.crt", "x");
	file("id/\xff/x.key", "x");
	file("id/\tb\n.crt", "x");
	file("id/\tb\n.key", "x");
	file("id/\xc3\xa9.crt", "x");
	file("id/\xc3\xa9.key", "x");
	file("trust/\xc3.pem", "x");
	expect("a.crt \xc3\xa9.crt b(trust)");
	assert_int_equal(files.problems.len, 3);
	assert_says(files.problems.at[0], "/id/?b?.crt: the name is no text in UTF-8");
	assert_says(files.problems.at[1], "/id/?/x.crt: the name is no text in UTF-8");
	assert_says(files.problems.at[2], "/trust/?.pem: the name is no text in UTF-8");
	assert_true(files.stamp != before);
}

static void a_loop(void **state)
{
	(void)state;
	file("id/x.crt", "x");
	file("id/x.key", "x");
	assert_int_equal(symlink(".", scratch_path("id/again")), 0);
	find();
	assert_int_equal(files.entries.len, 5);
}

static void folders_that_are_not_there(void **state)
{
	(void)state;
	struct svid_files none = {0};
	assert_int_equal(svid_files_find(scratch_path("no"), trust, &none, &why), -ENOENT);
	assert_says(why.text, "/no: No such file");
	assert_int_equal(svid_files_find(identities, scratch_path("no"), &none, &why), -ENOENT);
	assert_null(none.arena);
	file("id/x.crt", "x");
	assert_int_equal(svid_files_find(scratch_path("id/x.crt"), trust, &none, &why), -ENOTDIR);
}

/* ---- Changes --------------------------------------------------------------------------------------- */

static uint64_t last;

static void expect_change(bool expected, const char *what)
{
	find();
	if ((files.stamp != last) != expected)
		fail_msg("%s: %s", what, expected ? "not seen" : "seen");
	last = files.stamp;
}

/* One generation of Kubernetes' secrets: ..data is a link that is swapped. */
static void generation(const char *name, const char *text)
{
	char path[64], link[256];
	snprintf(path, sizeof(path), "id/w/..%s", name);
	folder(path);
	snprintf(path, sizeof(path), "id/w/..%s/tls.crt", name);
	file(path, text);
	snprintf(path, sizeof(path), "id/w/..%s/tls.key", name);
	file(path, text);
	snprintf(path, sizeof(path), "..%s", name);
	snprintf(link, sizeof(link), "%s", scratch_path("id/w/..fresh"));
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(rename(link, scratch_path("id/w/..data")), 0);
}

static void changes(void **state)
{
	(void)state;
	folder("id/w");
	generation("1", "one");
	assert_int_equal(symlink("..data/tls.crt", scratch_path("id/w/tls.crt")), 0);
	assert_int_equal(symlink("..data/tls.key", scratch_path("id/w/tls.key")), 0);
	file("trust/a.pem", "a");
	find();
	last = files.stamp;
	expect("w/tls.crt a(trust)");
	expect_change(false, "nothing");
	generation("2", "two");
	expect_change(true, "a swapped link");
	file("trust/a.crl.pem", "x");
	expect_change(true, "a CRL that came");
	file("trust/a.crl.pem", "y");
	expect_change(true, "a CRL written in place");
	assert_int_equal(unlink(scratch_path("trust/a.crl.pem")), 0);
	expect_change(true, "a CRL that went");
	assert_int_equal(chmod(scratch_path("id/w/..2/tls.key"), 0400), 0);
	expect_change(true, "a mode");
	file("id/w/notes.txt", "x");
	expect_change(false, "somebody else's file");
	assert_int_equal(rename(scratch_path("trust/a.pem"), scratch_path("trust/b.pem")), 0);
	expect_change(true, "another name");
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static void expect_text(int fd, const char *text)
{
	char read_text[64] = "";
	assert_true(pread(fd, read_text, sizeof(read_text) - 1, 0) >= 0);
	assert_string_equal(read_text, text);
	close(fd);
}

static void opened(void **state)
{
	(void)state;
	int fds[2];
	file("id/x.crt", "certificate");
	file("id/x.key", "key");
	file("trust/a.pem", "bundle");
	file("trust/b.pem", "bundle of b");
	file("trust/b.crl.pem", "list");
	expect("x.crt a(trust) b(crl)");
	assert_int_equal(svid_entry_open(&files.entries.at[0], fds, &why), 2);
	expect_text(fds[0], "certificate");
	expect_text(fds[1], "key");
	assert_int_equal(svid_entry_open(&files.entries.at[1], fds, &why), 1);
	expect_text(fds[0], "bundle");
	assert_int_equal(chmod(scratch_path("trust/b.crl.pem"), 0644), 0);
	assert_int_equal(svid_entry_open(&files.entries.at[2], fds, &why), 2);
	expect_text(fds[0], "bundle of b");
	expect_text(fds[1], "list");
}

static void keys_that_others_read(void **state)
{
	(void)state;
	int fds[2] = {-7, -7};
	static const mode_t fine[] = {0600, 0400, 0700}, bad[] = {0640, 0604, 0620, 0601, 0444};
	file("id/x.crt", "certificate");
	file("id/x.key", "key");
	find();
	for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++) {
		assert_int_equal(chmod(scratch_path("id/x.key"), fine[i]), 0);
		assert_int_equal(svid_entry_open(&files.entries.at[0], fds, &why), 2);
		close(fds[0]);
		close(fds[1]);
	}
	fds[0] = -7;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(chmod(scratch_path("id/x.key"), bad[i]), 0);
		assert_int_equal(svid_entry_open(&files.entries.at[0], fds, &why), -EPERM);
		assert_says(why.text, "/id/x.key: others may read or write this key");
		assert_int_equal(fds[0], -7);
	}
	if (geteuid())
		skip();
	assert_int_equal(chmod(scratch_path("id/x.key"), 0600), 0);
	assert_int_equal(chown(scratch_path("id/x.key"), 12345, 0), 0);
	assert_int_equal(svid_entry_open(&files.entries.at[0], fds, &why), -EPERM);
	assert_says(why.text, "belongs to user 12345");
}

/* What is found, and is something else when it is opened. */
static void replaced_meanwhile(void **state)
{
	(void)state;
	int fds[2];
	file("id/x.crt", "certificate");
	file("id/x.key", "key");
	find();
	assert_int_equal(unlink(scratch_path("id/x.key")), 0);
	assert_int_equal(svid_entry_open(&files.entries.at[0], fds, &why), -ENOENT);
	assert_int_equal(mkfifo(scratch_path("id/x.key"), 0600), 0);
	assert_int_equal(svid_entry_open(&files.entries.at[0], fds, &why), -EINVAL);
	assert_says(why.text, "not a regular file");
	expect("");
}

static void bounds(void **state)
{
	(void)state;
	static const char *const endings[] = {"crt", "key"};
	folder("id/a-folder-whose-name-counts-too");
	for (int i = 0; i < 2; i++) {
		char path[1024];
		snprintf(path, sizeof(path), "%s/a-folder-whose-name-counts-too/%0230d.%s", identities, 1, endings[i]);
		int fd = open(path, O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
	find();
	assert_int_equal(files.entries.len, 0);
	assert_int_equal(files.problems.len, 1);
	assert_says(files.problems.at[0], "the name is longer than 255 bytes");
}

/* Which of them are left out would be chance: none is, and what was told last stays. */
static void too_many(void **state)
{
	(void)state;
	for (int i = 0; i <= SVID_FILES_MOST; i++) {
		char name[64];
		snprintf(name, sizeof(name), "id/%d.crt", i);
		file(name, "");
		snprintf(name, sizeof(name), "id/%d.key", i);
		file(name, "");
	}
	assert_int_equal(svid_files_find(identities, trust, &files, &why), -E2BIG);
	assert_says(why.text, "more than 4096 certificates and bundles");
}

/* A link that leads out of here: what lies behind it is not walked through at every tick. */
static void a_link_to_everything(void **state)
{
	(void)state;
	char path[1024];
	folder("id/many");
	for (int i = 0; i < 256; i++) {
		char name[64];
		snprintf(name, sizeof(name), "id/many/%d", i);
		file(name, "");
	}
	for (int i = 0; i < 256; i++) {
		snprintf(path, sizeof(path), "%s/%d", identities, i);
		assert_int_equal(symlink("many", path), 0);
	}
	assert_int_equal(svid_files_find(identities, trust, &files, &why), -E2BIG);
	assert_says(why.text, "more than 32768 names: is this the folder?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, prepare, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_of_writers),
		TEST(depth),
		TEST(names_that_are_no_text),
		TEST(a_link_to_everything),
		TEST(names_that_are_no_text),
		TEST(a_loop),
		TEST(a_link_to_everything),
		TEST(folders_that_are_not_there),
		TEST(changes),
		TEST(opened),
		TEST(keys_that_others_read),
		TEST(replaced_meanwhile),
		TEST(bounds),
		TEST(too_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
