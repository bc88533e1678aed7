/* The public keys of the configuration: one that cannot be read refuses everything that it signed. */
#include "node.h"

#include <errno.h>
#include <openssl/pem.h>
#include <string.h>

static const char *trouble_of(const char *path)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return strerror(errno);
	EVP_PKEY *key = PEM_read_PUBKEY(file, NULL, NULL, NULL);
	bool is_key = key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
	EVP_PKEY_free(key);
	fclose(file);
	return is_key ? NULL : "no Ed25519 public key in PEM, as `meshc keygen` writes it";
}

json_t *keys_problems(const struct config *config)
{
	json_t *problems = json_array();
	for (size_t i = 0; i < config->keys.len; i++) {
		const char *trouble = trouble_of(config->keys.at[i]);
		if (trouble)
			json_array_append_new(problems, json_sprintf("key %s: %s: what it signed is refused",
								     config->keys.at[i], trouble));
	}
	return problems;
}
