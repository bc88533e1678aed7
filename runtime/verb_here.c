/* The verbs that work in this process. */
#include "kernel.h"
#include "node.h"
#include "preflight.h"
#include "verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int read_config(const struct ask *ask, struct config *config)
{
	struct why why = {0};
	if (config_read(ask->config ? ask->config : CONFIG_PATH, config, &why))
		return cannot("%s", why.text);
	if (ask->socket)
		config->socket = ask->socket;
	return 0;
}

int verb_run(struct ask *ask)
{
	struct config config;
	struct why why = {0};
	int code = read_config(ask, &config);
	if (code)
		return code;
	/* Too large for a stack: it holds the flow ring. */
	struct node *node = calloc(1, sizeof(*node));
	int r = node ? node_start(node, &config, &why) : why_set(&why, -ENOMEM, "out of memory");
	if (!r)
		r = node_run(node);
	if (r)
		code = cannot("%s", why.text[0] ? why.text : strerror(-r));
	if (node)
		node_stop(node);
	free(node);
	config_release(&config);
	return r == -ENOEXEC ? 3 : code;
}

int verb_preflight(struct ask *ask)
{
	struct config config;
	struct why why = {0};
	/* Before there is a configuration it is asked, too. */
	bool configured = config_read(ask->config ? ask->config : CONFIG_PATH, &config, &why) == 0;
	if (!configured && ask->config)
		return cannot("%s", why.text);
	json_t *result = preflight_run(configured ? &config : NULL), *check;
	size_t i;
	if (ask->json) {
		json_dumpf(result, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		printf("Linux %s\n", json_string_value(json_object_get(result, "kernel")));
		json_array_foreach (json_object_get(result, "checks"), i, check) {
			bool works = json_is_true(json_object_get(check, "works"));
			const char *costs = json_string_value(json_object_get(check, "costs"));
			const char *detail = json_string_value(json_object_get(check, "detail"));
			printf("%-8s %-24s %s\n", works ? "ok" : "MISSING",
			       json_string_value(json_object_get(check, "name")), detail ? detail : "");
			if (!works && costs)
				printf("         %-24s costs: %s\n", "", costs);
		}
		puts(json_is_true(json_object_get(result, "ok")) ? "this node can enforce"
								 : "this node cannot enforce");
	}
	int code = json_is_true(json_object_get(result, "ok")) ? 0 : 1;
	json_decref(result);
	if (configured)
		config_release(&config);
	return code;
}

int verb_uninstall(struct ask *ask)
{
	struct config config;
	struct why why = {0};
	int code = read_config(ask, &config), lock = -1;
	if (code)
		return code;
	int r = kernel_lock(&config, &lock, &why);
	/* Without a bpffs nobody runs, and there may be nothing to take away from it. */
	if (!r || r == -ENOTDIR)
		r = kernel_uninstall(&config, &why);
	if (r) {
		code = cannot("%s", why.text);
	} else {
		mtls_uninstall(&config);
		kernel_lock_remove(&config);
		puts("nothing of the mesh is left in the kernel; bundles are still in the state folder");
	}
	if (lock >= 0)
		close(lock);
	config_release(&config);
	return code;
}
