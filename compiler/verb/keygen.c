/* An Ed25519 pair (RFC 8032) in PEM (RFC 8410), as openssl writes it. */
#include "verb/verb.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <unistd.h>

static int write_pem(const char *path, EVP_PKEY *key, bool private)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *text = NULL;
	int done = !out	     ? 0
		   : private ? PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL)
			     : PEM_write_bio_PUBKEY(out, key);
	long len = done ? BIO_get_mem_data(out, &text) : 0;
	int code =
		len > 0 ? verb_write(path, text, len, private ? 0600 : 0644) : verb_cannot("the key cannot be written");
	BIO_free(out);
	return code;
}

int verb_keygen(const struct options *options, int argc, char **argv)
{
	char public[4096];
	const char *path = NULL;
	(void)options;
	for (int i = 1; i < argc; i++)
		if (!(path = verb_value(argv, &i, "-o")))
			break;
	if (!path)
		return verb_cannot("usage: meshc keygen -o KEY");
	if (strcmp(path, "-") == 0)
		return verb_cannot("a pair is two files: standard output is none");
	if (snprintf(public, sizeof(public), "%s.pub", path) >= (int)sizeof(public))
		return verb_cannot("the name is too long");
	if (access(path, F_OK) == 0 || access(public, F_OK) == 0)
		return verb_cannot("%s or %s is there already: a key is never overwritten", path, public);
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (!key)
		return verb_cannot("no Ed25519 in this OpenSSL");
	int code = write_pem(path, key, true);
	if (!code && (code = write_pem(public, key, false)))
		unlink(path); /* half a pair would be in the way of the next */
	EVP_PKEY_free(key);
	if (!code)
		fprintf(stderr, "%s: keep it secret\n%s: nodes get it (meshd.yaml, keys)\n", path, public);
	return code;
}
