/* `meshd ca`: a throw-away authority (ca.h). */
#include "ca.h"
#include "verbs.h"

#include "base/arena.h"
#include "base/spiffe.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { DAY_S = 86400, AUTHORITY_DAYS = 365, LIST_DAYS = 30, MOST_DAYS = 3650 };

struct issuer {
	struct arena *arena;
	const char *folder;
	const char *trust; /* NULL: not said */
	long seconds;
	struct ca_pair authority;
	json_t *said;
	struct why why;
};

#define path_in(issuer, ...) arena_printf((issuer)->arena, __VA_ARGS__)

/* ---- The authority ---------------------------------------------------------------------------------- */

/* The key first: a certificate without its key would be no use to the next run. */
static int create_authority(struct issuer *issuer, const char *certificate, const char *key)
{
	if (!issuer->trust)
		return why_set(&issuer->why, -EINVAL, "%s has no authority yet: --trust says of which trust domain",
			       issuer->folder);
	if (ca_create(issuer->trust, AUTHORITY_DAYS * DAY_S, &issuer->authority))
		return why_set(&issuer->why, -EIO, "OpenSSL cannot make an authority");
	int r = ca_write_key(key, issuer->authority.key, &issuer->why);
	return r ? r : ca_write_certificate(certificate, issuer->authority.certificate, &issuer->why);
}

static int read_authority(struct issuer *issuer, const char *certificate, const char *key)
{
	struct ca_pair *authority = &issuer->authority;
	*authority = (struct ca_pair){ca_read_certificate(certificate), ca_read_key(key)};
	if (!authority->certificate || !authority->key ||
	    X509_check_private_key(authority->certificate, authority->key) != 1)
		return why_set(&issuer->why, -EINVAL, "%s and %s are no pair of certificate and key", certificate, key);
	char *id = ca_id(authority->certificate);
	bool is_ours = id && strncmp(id, "spiffe://", 9) == 0 && spiffe_domain_valid(id + 9);
	const char *trust = is_ours ? arena_copy(issuer->arena, id + 9, strlen(id + 9)) : NULL;
	free(id);
	if (!trust)
		return why_set(&issuer->why, -EINVAL, "%s was not made by `meshd ca`", certificate);
	if (issuer->trust && strcmp(issuer->trust, trust) != 0)
		return why_set(&issuer->why, -EINVAL, "%s is of the trust domain %s, not of %s", certificate, trust,
			       issuer->trust);
	if (ca_end(authority->certificate) <= time(NULL))
		return why_set(&issuer->why, -EINVAL, "%s has expired: remove %s and begin anew", certificate,
			       issuer->folder);
	issuer->trust = trust;
	return 0;
}

static int open_authority(struct issuer *issuer)
{
	const char *certificate = path_in(issuer, "%s/ca.crt", issuer->folder);
	const char *key = path_in(issuer, "%s/ca.key", issuer->folder);
	const char *bundles = path_in(issuer, "%s/bundle", issuer->folder);
	int r = access(certificate, F_OK) ? create_authority(issuer, certificate, key)
					  : read_authority(issuer, certificate, key);
	if (!r)
		r = ca_make_folder(bundles, &issuer->why);
	if (r)
		return r;
	const char *bundle = path_in(issuer, "%s/%s.pem", bundles, issuer->trust);
	json_object_set_new(issuer->said, "trust", json_string(issuer->trust));
	json_object_set_new(issuer->said, "bundle", json_string(bundle));
	return access(bundle, F_OK) ? ca_write_certificate(bundle, issuer->authority.certificate, &issuer->why) : 0;
}

/* ---- What it signs ---------------------------------------------------------------------------------- */

/* "shop.frontend" of spiffe://TRUST/ns/shop/sa/frontend; of another form, its path with dots. */
static const char *folder_of(struct issuer *issuer, const char *id)
{
	size_t len, space_len = spiffe_space_len(id);
	const char *path = spiffe_domain(id, &len) + len + 1;
	char *name;
	if (space_len) {
		const char *ns = path + strlen("ns/"), *account = id + space_len + strlen("/sa/");
		name = path_in(issuer, "%.*s.%s", (int)(id + space_len - ns), ns, account);
	} else {
		name = path_in(issuer, "%s", path);
		for (char *c = name; *c; c++)
			*c = *c == '/' ? '.' : *c;
	}
	return path_in(issuer, "%s/%s", issuer->folder, name);
}

static int check_id(struct issuer *issuer, const char *id)
{
	size_t len;
	if (!spiffe_valid(id))
		return why_set(&issuer->why, -EINVAL, "'%.200s' is no SPIFFE ID (spiffe://%s/ns/NAMESPACE/sa/ACCOUNT)",
			       id, issuer->trust);
	const char *domain = spiffe_domain(id, &len);
	if (strlen(issuer->trust) != len || strncmp(domain, issuer->trust, len) != 0)
		return why_set(&issuer->why, -EINVAL, "%.200s is not of the trust domain %s", id, issuer->trust);
	return 0;
}

/* The certificate of ID that lies there; NULL: none. -EEXIST: the folder is another's. */
static int find_certificate(struct issuer *issuer, const char *id, X509 **ret_certificate)
{
	const char *folder = folder_of(issuer, id);
	X509 *certificate = ca_read_certificate(path_in(issuer, "%s/tls.crt", folder));
	char *owner = certificate ? ca_id(certificate) : NULL;
	int r = 0;
	if (certificate && (!owner || strcmp(owner, id) != 0))
		r = why_set(&issuer->why, -EEXIST, "%s is the folder of %.200s", folder, owner ? owner : "somebody");
	free(owner);
	if (r)
		X509_free(certificate);
	else
		*ret_certificate = certificate;
	return r;
}

static json_t *serial_json(const ASN1_INTEGER *serial)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(serial, NULL);
	char *text = number ? BN_bn2hex(number) : NULL;
	json_t *json = json_string(text ? text : "");
	OPENSSL_free(text);
	BN_free(number);
	return json;
}

static void say_issued(struct issuer *issuer, const char *id, const char *folder, const X509 *certificate)
{
	char until[32];
	time_t end = ca_end(certificate);
	strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%SZ", gmtime(&end));
	json_array_append_new(json_object_get(issuer->said, "issued"),
			      json_pack("{s:s, s:s, s:o, s:s}", "id", id, "folder", folder, "serial",
					serial_json(X509_get0_serialNumber(certificate)), "until", until));
}

static int issue(struct issuer *issuer, const char *id)
{
	struct ca_pair svid;
	X509 *before;
	const char *folder = folder_of(issuer, id);
	int r = find_certificate(issuer, id, &before);
	if (r)
		return r;
	X509_free(before);
	if (ca_issue(&issuer->authority, id, issuer->seconds, &svid))
		return why_set(&issuer->why, -EIO, "OpenSSL cannot make a certificate of %.200s", id);
	r = ca_store(issuer->arena, folder, &svid, &issuer->why);
	if (!r)
		say_issued(issuer, id, folder, svid.certificate);
	ca_release(&svid);
	return r;
}

/* ---- Revocation -------------------------------------------------------------------------------------- */

static ASN1_INTEGER *serial_of_id(struct issuer *issuer, const char *id)
{
	X509 *certificate = NULL;
	if (check_id(issuer, id) || find_certificate(issuer, id, &certificate))
		return NULL;
	ASN1_INTEGER *serial = certificate ? ASN1_INTEGER_dup(X509_get0_serialNumber(certificate)) : NULL;
	if (!serial)
		why_set(&issuer->why, -ENOENT, "--revoke %.200s: no certificate of it lies in %s", id, issuer->folder);
	X509_free(certificate);
	return serial;
}

static ASN1_INTEGER *serial_of_text(struct issuer *issuer, const char *text)
{
	BIGNUM *number = NULL;
	size_t len = strlen(text);
	bool is_number = len <= 40 && strspn(text, "0123456789abcdefABCDEF") == len && BN_hex2bn(&number, text);
	ASN1_INTEGER *serial = is_number ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
	if (!serial)
		why_set(&issuer->why, -EINVAL, "--revoke %.200s: neither a SPIFFE ID nor a serial number", text);
	BN_free(number);
	return serial;
}

/* A list that is there is made anew even if nothing is revoked: it must not run out while the authority is used. */
static int write_list(struct issuer *issuer, ASN1_INTEGER **serials, size_t count)
{
	const char *path = path_in(issuer, "%s/bundle/%s.crl.pem", issuer->folder, issuer->trust);
	X509_CRL *list, *before = ca_read_list(path);
	if (!before && !count)
		return 0;
	if (ca_revoke(&issuer->authority, before, (const ASN1_INTEGER *const *)serials, count, LIST_DAYS * DAY_S,
		      &list)) {
		X509_CRL_free(before);
		return why_set(&issuer->why, -EIO, "OpenSSL cannot make a revocation list");
	}
	int r = ca_write_list(path, list, &issuer->why);
	json_object_set_new(issuer->said, "crl", json_string(path));
	X509_CRL_free(before);
	X509_CRL_free(list);
	return r;
}

static int revoke_all(struct issuer *issuer, const json_t *wanted)
{
	VEC(ASN1_INTEGER *) serials = {0};
	size_t i;
	json_t *one;
	int r = 0;
	json_array_foreach (wanted, i, one) {
		const char *what = json_string_value(one);
		bool is_id = strncmp(what, "spiffe:", 7) == 0;
		ASN1_INTEGER *serial = is_id ? serial_of_id(issuer, what) : serial_of_text(issuer, what);
		if (!serial) {
			r = -EINVAL;
			break;
		}
		vec_push(issuer->arena, &serials, serial);
		json_array_append_new(json_object_get(issuer->said, "revoked"), serial_json(serial));
	}
	if (!r)
		r = write_list(issuer, serials.at, serials.len);
	for (i = 0; i < serials.len; i++)
		ASN1_INTEGER_free(serials.at[i]);
	return r;
}

/* ---- The verb ---------------------------------------------------------------------------------------- */

/* 0: no such flag; -1: no whole number from 1 to MOST. */
static long number_at(const struct ask *ask, const char *flag, long most)
{
	const char *text = json_string_value(json_object_get(ask->values, flag));
	if (!text)
		return 0;
	size_t digits = strspn(text, "0123456789");
	long number = digits && digits < 12 && !text[digits] ? strtol(text, NULL, 10) : 0;
	return number >= 1 && number <= most ? number : -1;
}

static int read_flags(struct issuer *issuer, const struct ask *ask)
{
	long days = number_at(ask, "days", MOST_DAYS), seconds = number_at(ask, "seconds", (long)MOST_DAYS * DAY_S);
	issuer->folder = ask->argument;
	issuer->trust = json_string_value(json_object_get(ask->values, "trust"));
	issuer->seconds = seconds ? seconds : days ? days * DAY_S : DAY_S;
	if (!issuer->folder)
		return why_set(&issuer->why, -EINVAL, "usage: meshd ca DIR --trust DOMAIN [--id SPIFFE-ID]...");
	if (days < 0 || seconds < 0 || (days && seconds))
		return why_set(&issuer->why, -EINVAL,
			       "--days N or --seconds N: a whole number from 1, of %d days at most", MOST_DAYS);
	if (issuer->trust && !spiffe_domain_valid(issuer->trust))
		return why_set(&issuer->why, -EINVAL,
			       "--trust %.200s: is no trust domain: lower case letters, digits, '.', '-' and '_'",
			       issuer->trust);
	return 0;
}

/* Two runs at once would each revoke what the other does not know of. */
static int lock_folder(struct issuer *issuer)
{
	int r = ca_make_folder(issuer->folder, &issuer->why);
	int fd = r ? -1 : open(issuer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r || (fd >= 0 && flock(fd, LOCK_EX) == 0))
		return r ? r : fd;
	r = why_set(&issuer->why, -errno, "%s: %s", issuer->folder, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

static int work(struct issuer *issuer, const struct ask *ask)
{
	const json_t *ids = json_object_get(ask->values, "id");
	size_t i;
	json_t *id;
	int r = open_authority(issuer);
	json_array_foreach (ids, i, id)
		if (!r)
			r = check_id(issuer, json_string_value(id));
	if (!r)
		r = revoke_all(issuer, json_object_get(ask->values, "revoke"));
	json_array_foreach (ids, i, id)
		if (!r)
			r = issue(issuer, json_string_value(id));
	return r;
}

static void print_text(const json_t *said)
{
	size_t i;
	json_t *one;
	const char *crl = json_string_value(json_object_get(said, "crl"));
	puts(json_string_value(json_object_get(said, "bundle")));
	if (crl)
		puts(crl);
	json_array_foreach (json_object_get(said, "revoked"), i, one)
		printf("revoked %s\n", json_string_value(one));
	json_array_foreach (json_object_get(said, "issued"), i, one)
		printf("%s  %s  until %s\n", json_string_value(json_object_get(one, "folder")),
		       json_string_value(json_object_get(one, "id")), json_string_value(json_object_get(one, "until")));
}

int verb_ca(struct ask *ask)
{
	struct issuer issuer = {.arena = arena_create(), .said = json_pack("{s:[], s:[]}", "issued", "revoked")};
	if (!issuer.arena || !issuer.said)
		return cannot("out of memory");
	int code = 0, r = read_flags(&issuer, ask), lock = r ? -1 : lock_folder(&issuer);
	if (lock >= 0)
		r = work(&issuer, ask);
	if (r || lock < 0)
		code = cannot("%s", issuer.why.text);
	else if (ask->json) {
		json_dumpf(issuer.said, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
		putchar('\n');
	} else
		print_text(issuer.said);
	if (!code)
		fprintf(stderr,
			"meshd: %s is a throw-away authority, NOT FOR PRODUCTION: whoever reads ca.key is everybody\n",
			issuer.folder);
	if (lock >= 0)
		close(lock);
	ca_release(&issuer.authority);
	json_decref(issuer.said);
	arena_destroy(issuer.arena);
	ERR_clear_error();
	return code;
}
