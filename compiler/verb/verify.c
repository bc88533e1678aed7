/* Checks a bundle's signature. */
#include "verb/verb.h"

#include "base/bundle.h"

#include <errno.h>
#include <stdlib.h>

int verb_verify(const struct options *options, int argc, char **argv)
{
	(void)options;
	const char *key = NULL, *path = NULL, *why = "";
	for (int i = 1; i < argc; i++) {
		const char *value = verb_value(argv, &i, "-k");
		if (value)
			key = value;
		else if (path)
			return verb_cannot("one bundle at a time");
		else
			path = argv[i];
	}
	if (!key || !path)
		return verb_cannot("usage: meshc verify -k PUBLIC_KEY BUNDLE");
	char *bytes;
	size_t len;
	int code = verb_slurp(path, BUNDLE_LIMIT_BYTES, &bytes, &len);
	if (code)
		return code;
	struct bundle bundle;
	if (bundle_open(bytes, len, &bundle, &why)) {
		verb_cannot("%s: %s", path, why);
		free(bytes);
		return EXIT_NO;
	}
	int r = bundle_verify(&bundle, key, &why);
	if (r == 0)
		printf("%s: signed by this key; mesh %s, policy version %lld, %s\n", path,
		       json_string_value(json_object_get(bundle.manifest, "mesh")),
		       (long long)json_integer_value(json_object_get(bundle.manifest, "version")),
		       json_string_value(json_object_get(bundle.manifest, "digest")));
	else
		verb_cannot("%s: %s", r == -EPERM ? path : key, why);
	bundle_close(&bundle);
	free(bytes);
	return r == 0 ? EXIT_YES : r == -EPERM ? EXIT_NO : EXIT_CANNOT;
}
