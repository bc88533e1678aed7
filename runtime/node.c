#define _GNU_SOURCE /* struct ucred */
/* Start, loop, stop. */
#include "node.h"

#include "request.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	HOUSEKEEPING_MS = 250,
	RECORDS_MS = 100,
	SOURCE_LIMIT = 40 << 20, /* 16 MiB of text, escaped */
};

void node_say(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("meshd: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

struct resident *node_active(struct node *node)
{
	uint32_t active = kernel_control(node->kernel)->active;
	return active && active <= MESH_GENERATIONS && node->residents[active - 1].generation
		       ? &node->residents[active - 1]
		       : NULL;
}

/* ---- Requests ------------------------------------------------------------------------------------- */

static json_t *failed(int r, const struct why *why)
{
	struct why said = *why;
	/* Refused by what it is, or could not be done: exit 1 or 2 of the verb. */
	bool refused = r == -EPERM || r == -EINVAL || r == -EILSEQ || r == -EEXIST || r == -ENOENT || r == -E2BIG;
	json_t *answer = json_pack("{s:s, s:i}", "error", said.text[0] ? said.text : strerror(-r), "exit",
				   r == -ENOEXEC ? 3
				   : refused	 ? 1
						 : 2);
	if (answer)
		return answer;
	make_printable(said.text);
	return json_pack("{s:s, s:i}", "error", said.text, "exit", refused ? 1 : 2);
}

static json_t *answer_apply(struct node *node, int fd)
{
	struct why why = {0};
	json_t *answer = json_object();
	int r = fd < 0 ? why_set(&why, -EINVAL, "no bundle came with the request")
		       : node_apply(node, fd, false, answer, &why);
	if (!r)
		return answer;
	json_decref(answer);
	node_say("apply refused: %s", why.text);
	return failed(r, &why);
}

static json_t *answer_rollback(struct node *node, const json_t *body)
{
	struct why why = {0};
	json_t *answer = json_object();
	int r = node_rollback(node, json_integer_value(json_object_get(body, "generation")), answer, &why);
	if (!r)
		return answer;
	json_decref(answer);
	return failed(r, &why);
}

/* The policy in force, as it was written: its bundle carries it. */
static json_t *answer_source(struct node *node)
{
	const struct resident *active = node_active(node);
	struct why why = {0};
	struct offer offer;
	size_t len;
	if (!active || active->generation->is_closed)
		return failed(why_set(&why, -ENOENT, "no policy is in force on this node"), &why);
	int r = offer_of_slot(node, active->generation->slot, &offer, &why);
	if (r)
		return failed(r, &why);
	const char *text = bundle_section(offer.bytes, offer.len, BUNDLE_SOURCE, &len);
	json_t *source = text && len <= SOURCE_LIMIT ? json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	offer_close(&offer);
	if (!json_is_array(source)) {
		json_decref(source);
		return failed(why_set(&why, -ENOENT,
				      "the bundle in force does not hold its policy's text: it is of an older meshc"),
			      &why);
	}
	return json_pack("{s:I, s:s, s:o}", "generation", (json_int_t)active->generation->number, "digest",
			 active->digest, "source", source);
}

static json_t *answer_flows(struct node *node, const json_t *body, struct control_client *client)
{
	json_t *filter = json_object_get(body, "filter");
	kernel_rings_consume(node->kernel, node_take_record, node_take_order, node);
	if (json_is_true(json_object_get(body, "follow")))
		control_subscribe(client, json_incref(filter));
	return json_pack("{s:o, s:o}", "flows", flows_kept(node, filter), "warnings", flow_warnings(node, filter));
}

static json_t *answer_mode(struct node *node, bool off, const struct ucred *peer)
{
	node_set_mode(node, off);
	node_say(off ? "BREAK GLASS by uid %u, pid %d: every connection passes, nothing is enforced"
		     : "enforcing again, by uid %u, pid %d",
		 peer->uid, peer->pid);
	return json_pack("{s:b}", "off", off);
}

static json_t *take_request(void *context, const json_t *body, int fd, const struct ucred *peer,
			    struct control_client *client)
{
	struct node *node = context;
	struct why why = {0};
	if (request_check(body, &why)) {
		make_printable(why.text);
		return json_pack("{s:s, s:i}", "error", why.text, "exit", 2);
	}
	const char *verb = json_string_value(json_object_get(body, "verb"));
	if (strcmp(verb, "status") == 0)
		return node_status(node);
	if (strcmp(verb, "flows") == 0)
		return answer_flows(node, body, client);
	if (strcmp(verb, "source") == 0)
		return answer_source(node);
	if (strcmp(verb, "apply") == 0)
		return answer_apply(node, fd);
	if (strcmp(verb, "rollback") == 0)
		return answer_rollback(node, body);
	return answer_mode(node, strcmp(verb, "off") == 0, peer);
}

/* ---- Housekeeping ---------------------------------------------------------------------------------- */

static void on_rings(void *context, uint32_t events)
{
	struct node *node = context;
	(void)events;
	kernel_rings_consume(node->kernel, node_take_record, node_take_order, node);
}

/* Records do not wake us one by one (report.h). */
static void on_records_due(void *context, uint32_t events)
{
	struct node *node = context;
	on_rings(node, events);
	if (node->flows.file)
		fflush(node->flows.file);
	loop_timer(node->loop, loop_now_ms() + RECORDS_MS, on_records_due, node);
}

static void on_tick(void *context, uint32_t events)
{
	struct node *node = context;
	(void)events;
	node_watch_inventory(node);
	node_watch_bundles(node);
	mtls_tick(node);
	int gone = kernel_sweep(node->kernel);
	/* What could not be found is looked for once a second; what others attached meanwhile, every ten. */
	node->ticks++;
	if (gone || node->find_again || node->ticks % (node->place_problems ? 4 : 40) == 0)
		node_find_places(node);
	loop_timer(node->loop, loop_now_ms() + HOUSEKEEPING_MS, on_tick, node);
}

struct signals {
	struct node *node;
	int fd;
};

static void on_signal(void *context, uint32_t events)
{
	struct signals *signals = context;
	struct signalfd_siginfo info;
	(void)events;
	while (read(signals->fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			signals->node->inventory_stamp[0] = 0;
		else
			loop_stop(signals->node->loop);
	}
}

static int watch_signals(struct node *node, struct signals *signals)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	*signals = (struct signals){node, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)};
	return signals->fd < 0 ? -errno : loop_watch(node->loop, signals->fd, EPOLLIN, on_signal, signals);
}

/* ---- Life ------------------------------------------------------------------------------------------- */

static void warn_development_keys(const struct config *config)
{
	for (size_t i = 0; i < config->keys.len; i++) {
		const char *name = strrchr(config->keys.at[i], '/');
		if (strncmp(name ? name + 1 : config->keys.at[i], "development", 11) == 0)
			node_say("*** %s is a DEVELOPMENT KEY: whoever has the demo can sign for this node ***",
				 config->keys.at[i]);
	}
}

static void warn_missing_keys(const struct config *config)
{
	json_t *problems = keys_problems(config), *problem;
	size_t i;
	json_array_foreach (problems, i, problem)
		node_say("%s", json_string_value(problem));
	json_decref(problems);
}

static int open_kernel(struct node *node, struct why *why)
{
	const struct config *config = node->config;
	int r = kernel_open(config, &node->kernel, &node->adopted, why);
	if (r)
		return r;
	volatile struct mesh_control *control = kernel_control(node->kernel);
	control->record_rate = config->record_rate;
	if (control->mode != MESH_OFF)
		kernel_set_mode(node->kernel, config->observe_only ? MESH_OBSERVE : MESH_ENFORCE);
	else
		node_say("the glass is broken: nothing is enforced until `meshd on`");
	return 0;
}

int node_start(struct node *node, struct config *config, struct why *why)
{
	*node = (struct node){.config = config,
			      .lock = -1,
			      .next_generation = 1,
			      .next_order = 1,
			      .mtls = {.wanted = config->mtls_identities != NULL, .control = -1, .line = {.fd = -1}}};
	warn_development_keys(config);
	warn_missing_keys(config);
	/* Two daemons must not work on one set of pins. */
	int r = kernel_lock(config, &node->lock, why);
	if (r)
		return r;
	r = loop_create(&node->loop);
	if (r)
		return why_set(why, r, "epoll: %s", strerror(-r));
	if (config->flow_log && !(node->flows.file = fopen(config->flow_log, "ae")))
		return why_set(why, -errno, "%s: %s", config->flow_log, strerror(errno));
	r = control_create(config, node->loop, take_request, node, &node->control, why);
	config->kept = people_kept(node);
	if (!r)
		r = open_kernel(node, why);
	if (!r)
		r = node_recover(node, why);
	if (!r)
		r = kernel_attach(node->kernel, why);
	if (!r)
		r = mtls_start(node, why);
	if (r)
		return r;
	node_start_people(node);
	mtls_take_over(node);
	return 0;
}

int node_run(struct node *node)
{
	struct signals signals;
	int r = watch_signals(node, &signals);
	if (r)
		return r;
	r = loop_watch(node->loop, kernel_rings_fd(node->kernel), EPOLLIN, on_rings, node);
	if (!r)
		r = loop_timer(node->loop, loop_now_ms() + HOUSEKEEPING_MS, on_tick, node);
	if (!r)
		r = loop_timer(node->loop, loop_now_ms() + RECORDS_MS, on_records_due, node);
	const struct resident *active = node_active(node);
	const char *what = !active ? "no policy yet" : active->generation->is_closed ? "CLOSED" : "enforcing ";
	node_say("%s, %s%s", node->adopted ? "adopted what was pinned" : "started", what, active ? active->digest : "");
	if (!r)
		r = loop_run(node->loop);
	close(signals.fd);
	return r;
}

void node_stop(struct node *node)
{
	if (node->control)
		control_release(node->control);
	mtls_release(node);
	node_release_places(node);
	for (int i = 0; i < MESH_GENERATIONS; i++)
		resident_release(&node->residents[i]);
	if (node->inventory)
		inventory_release(node->inventory);
	registry_release(&node->registry);
	free(node->inventory_problem);
	free(node->people_problem);
	free(node->closed_problem);
	free(node->watch_problem);
	free(node->watch_folder_problem);
	if (node->kernel)
		kernel_close(node->kernel);
	if (node->loop)
		loop_release(node->loop);
	if (node->flows.file)
		fclose(node->flows.file);
	if (node->lock >= 0)
		close(node->lock);
}
