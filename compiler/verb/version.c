#include "verb/verb.h"

#include "abi.h"

int verb_version(const struct options *options, int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return verb_cannot("version takes no arguments");
	if (strcmp(options->format, "json") == 0)
		printf("{\"version\": \"%s\", \"abi\": %d}\n", MESHC_VERSION, MESH_ABI);
	else
		printf("meshc %s (abi %d)\n", MESHC_VERSION, MESH_ABI);
	return EXIT_YES;
}
