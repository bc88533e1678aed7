/* Signs a bundle. */
#include "verb/verb.h"

#include "base/bundle.h"

#include <errno.h>
#include <stdlib.h>

int verb_sign(const struct options *options, int argc, char **argv)
{
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
		return verb_cannot("usage: meshc sign -k KEY BUNDLE");
	char *bytes;
	size_t len;
	int code = verb_slurp(path, BUNDLE_LIMIT_BYTES, &bytes, &len);
	if (code)
		return code;
	int r = bundle_sign(bytes, len, key, &why);
	if (r)
		code = verb_cannot("%s: %s", r == -EINVAL ? path : key, why) && r == -EINVAL ? EXIT_NO : EXIT_CANNOT;
	else
		code = verb_write(options->output ? NULL : path, bytes, len, 0666);
	free(bytes);
	return code;
}
