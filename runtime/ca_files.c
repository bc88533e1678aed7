/* The files of a throw-away authority.
 *
 * A reader must never see a new certificate beside an old key. So both lie in a folder of their own, as Kubernetes
 * keeps its secrets, and what readers open are links through one link that is swapped:
 *	DIR/NAME/tls.crt -> ..data/tls.crt	DIR/NAME/tls.key -> ..data/tls.key	DIR/NAME/..data -> ..AbC123 */
#include "ca.h"

#include "base/file.h"

#include <errno.h>
#include <limits.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- PEM ------------------------------------------------------------------------------------------- */

/* Takes OUT. */
static int write_pem(const char *path, BIO *out, int done, struct why *why)
{
	char *text;
	long len = done ? BIO_get_mem_data(out, &text) : 0;
	int r = len > 0 ? file_replace(path, text, (size_t)len, why) : why_set(why, -EIO, "%s: cannot be made", path);
	BIO_free(out);
	return r;
}

int ca_write_certificate(const char *path, X509 *certificate, struct why *why)
{
	BIO *out = BIO_new(BIO_s_mem());
	return write_pem(path, out, out && PEM_write_bio_X509(out, certificate), why);
}

int ca_write_list(const char *path, X509_CRL *list, struct why *why)
{
	BIO *out = BIO_new(BIO_s_mem());
	return write_pem(path, out, out && PEM_write_bio_X509_CRL(out, list), why);
}

int ca_write_key(const char *path, EVP_PKEY *key, struct why *why)
{
	BIO *out = BIO_new(BIO_s_secmem()); /* is wiped */
	int done = out && PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
	return write_pem(path, out, done, why);
}

X509 *ca_read_certificate(const char *path)
{
	BIO *in = BIO_new_file(path, "re");
	X509 *certificate = in ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
	BIO_free(in);
	return certificate;
}

X509_CRL *ca_read_list(const char *path)
{
	BIO *in = BIO_new_file(path, "re");
	X509_CRL *list = in ? PEM_read_bio_X509_CRL(in, NULL, NULL, NULL) : NULL;
	BIO_free(in);
	return list;
}

EVP_PKEY *ca_read_key(const char *path)
{
	BIO *in = BIO_new_file(path, "re");
	/* The empty password: OpenSSL would ask a terminal. */
	EVP_PKEY *key = in ? PEM_read_bio_PrivateKey(in, NULL, NULL, (void *)"") : NULL;
	BIO_free(in);
	return key;
}

/* ---- Pairs ----------------------------------------------------------------------------------------- */

int ca_make_folder(const char *path, struct why *why)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		return why_set(why, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

static void remove_generation(struct arena *arena, const char *path)
{
	unlink(arena_printf(arena, "%s/tls.crt", path));
	unlink(arena_printf(arena, "%s/tls.key", path));
	rmdir(path);
}

static int make_link(const char *to, const char *path, struct why *why)
{
	struct stat there;
	if (symlink(to, path) == 0 || (errno == EEXIST && lstat(path, &there) == 0 && S_ISLNK(there.st_mode)))
		return 0;
	return why_set(why, -errno, "%s: cannot be made a link: %s", path, strerror(errno));
}

/* From now on readers of FOLDER see GENERATION, a name in it. */
static int swap(struct arena *arena, const char *folder, const char *generation, struct why *why)
{
	char before[NAME_MAX + 1] = "";
	const char *data = arena_printf(arena, "%s/..data", folder), *fresh = arena_printf(arena, "%s/..fresh", folder);
	ssize_t before_len = readlink(data, before, sizeof(before) - 1);
	unlink(fresh); /* of a run that was killed */
	int r = make_link(generation, fresh, why);
	if (!r && rename(fresh, data))
		r = why_set(why, -errno, "%s: %s", data, strerror(errno));
	if (!r && before_len > 0)
		remove_generation(arena, arena_printf(arena, "%s/%s", folder, before));
	return r;
}

int ca_store(struct arena *arena, const char *folder, const struct ca_pair *pair, struct why *why)
{
	char *generation = arena_printf(arena, "%s/..XXXXXX", folder);
	int r = ca_make_folder(folder, why);
	if (!r && !mkdtemp(generation))
		r = why_set(why, -errno, "%s: %s", folder, strerror(errno));
	if (r)
		return r;
	r = ca_write_certificate(arena_printf(arena, "%s/tls.crt", generation), pair->certificate, why);
	if (!r)
		r = ca_write_key(arena_printf(arena, "%s/tls.key", generation), pair->key, why);
	if (!r)
		r = make_link("..data/tls.crt", arena_printf(arena, "%s/tls.crt", folder), why);
	if (!r)
		r = make_link("..data/tls.key", arena_printf(arena, "%s/tls.key", folder), why);
	if (!r)
		r = swap(arena, folder, strrchr(generation, '/') + 1, why);
	if (r)
		remove_generation(arena, generation);
	return r;
}
