#define _GNU_SOURCE
/* What meshd tells the node proxy, and what it hears (proxy/control.h). */
#include "mtls.h"

#include "broker.h"
#include "proxy/control.h"
#include "svid_files.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
	FDS_AT_ONCE = 64 /* SCM_MAX_FD is 253; their names and problems fit into a message */,
	HEARD_AT_ONCE = 256,
	STALLED_MS = 900,
	PARTS_MOST = 256 /* of a round: 100,000 workloads with IDs of 80 bytes */
};
enum { TOLD_COOKIE, TOLD_MESSAGE, TOLD_QUESTION, TOLD_ORDER, TOLD_REFUSED };

/* ---- Telling -------------------------------------------------------------------------------------------- */

/* Takes MESSAGE. A proxy that does not read is one that is gone: it is told all again when there is another. */
static int tell(struct node *node, json_t *message, const int *fds, int count)
{
	char room[CMSG_SPACE(sizeof(int) * FDS_AT_ONCE)] = {0};
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	json_decref(message);
	if (!text)
		return -ENOMEM;
	if (strlen(text) > PROXY_MESSAGE_BYTES) {
		free(text);
		return -EMSGSIZE;
	}
	struct iovec part = {text, strlen(text)};
	struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
	if (count) {
		head.msg_control = room;
		head.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
	}
	ssize_t sent = node->mtls.control < 0 ? -1 : sendmsg(node->mtls.control, &head, MSG_NOSIGNAL);
	int r = sent == (ssize_t)part.iov_len ? 0 : node->mtls.control < 0 ? -EPIPE : -errno;
	free(text);
	return r;
}

int mtls_hello(struct node *node)
{
	const struct config *config = node->config;
	json_decref(node->mtls.told);
	node->mtls.told = json_object();
	return tell(node,
		    json_pack("{s:s, s:I, s:I}", "do", "hello", "drain_ms", (json_int_t)config->mtls_drain_s * 1000,
			      "connections", (json_int_t)config->mtls_connections),
		    NULL, 0);
}

void mtls_switched(struct node *node)
{
	if (node->mtls.control >= 0)
		tell(node, json_pack("{s:s}", "do", "switch"), NULL, 0);
}

static int ask_status(struct node *node, uint64_t round, uint32_t after)
{
	struct mtls *mtls = &node->mtls;
	mtls->asked_ms = loop_now_ms();
	mtls->after = after;
	if (!mtls->unanswered_ms)
		mtls->unanswered_ms = mtls->asked_ms;
	return tell(
		node,
		json_pack("{s:s, s:I, s:I}", "do", "status", "round", (json_int_t)round, "after", (json_int_t)after),
		NULL, 0);
}

/* The answers of a whole round are what `meshd status` says next. One that goes on is not begun anew. */
void mtls_ask_status(struct node *node)
{
	struct mtls *mtls = &node->mtls;
	if (mtls->control < 0 || (mtls->until && loop_now_ms() - mtls->asked_ms < STALLED_MS))
		return;
	if (!mtls->unlooked_ms)
		mtls->unlooked_ms = loop_now_ms();
	if (ask_status(node, mtls->questions + 1, 0))
		return;
	mtls->questions++;
	json_decref(mtls->until);
	mtls->until = json_object();
	mtls->parts = 0;
}

/* A message of files that are open, not sent yet. */
struct batch {
	json_t *files;
	int fds[FDS_AT_ONCE], count;
	bool is_begun; /* its set: a message of it was sent */
};

static int batch_send(struct node *node, struct batch *batch, bool last)
{
	int r = tell(node,
		     json_pack("{s:s, s:o, s:b, s:b}", "do", "files", "files",
			       batch->files ? batch->files : json_array(), "first", !batch->is_begun, "last", last),
		     batch->fds, batch->count);
	for (int i = 0; i < batch->count; i++)
		close(batch->fds[i]);
	*batch = (struct batch){.is_begun = true};
	return r;
}

/* PROBLEM, where the entry could not be opened: COUNT descriptors of something else stand for it. */
static void batch_add(struct batch *batch, const struct svid_entry *entry, const int *fds, int count,
		      const char *problem)
{
	static const char *const kinds[2][2] = {{"certificate", "key"}, {"bundle", "crl"}};
	if (!batch->files)
		batch->files = json_array();
	for (int i = 0; i < count; i++) {
		json_t *file = json_pack("{s:s, s:s}", "kind", kinds[entry->is_trust][i], "name", entry->name);
		if (problem && i == 0)
			json_object_set_new(file, "problem", json_string(problem));
		json_array_append_new(batch->files, file);
		batch->fds[batch->count++] = fds[i];
	}
}

static void keep_problem(struct mtls *mtls, const char *text)
{
	if (!mtls->file_problems)
		mtls->file_problems = json_array();
	json_array_append_new(mtls->file_problems, json_string(text));
}

/* The proxy keeps the last good one of its name: it must hear that there still is one. -EAGAIN: while files are
 * being changed. */
static int tell_unopened(struct batch *batch, const struct svid_entry *entry, int r, const char *problem)
{
	int fds[2], count = 0;
	while (count < 2 && (fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		count++;
	batch_add(batch, entry, fds, count, problem);
	return r == -EAGAIN || r == -ENOENT ? -EAGAIN : 0;
}

static int tell_entries(struct node *node, const struct svid_files *files)
{
	struct batch batch = {0};
	int r = 0, changing = 0;
	for (size_t i = 0; !r && i < files->entries.len; i++) {
		const struct svid_entry *entry = &files->entries.at[i];
		struct why why = {0};
		int fds[2], count = svid_entry_open(entry, fds, &why);
		if (count < 0)
			changing |= tell_unopened(&batch, entry, count, why.text);
		else
			batch_add(&batch, entry, fds, count, NULL);
		if (batch.count > FDS_AT_ONCE - 2)
			r = batch_send(node, &batch, false);
	}
	/* Without a message in the middle it is not the set: it is told anew at the next tick. */
	if (!r)
		r = batch_send(node, &batch, true);
	return r ? r : changing;
}

static void keep_domains(struct mtls *mtls, const struct svid_files *files)
{
	json_decref(mtls->domains);
	mtls->domains = json_object();
	for (size_t i = 0; i < files->entries.len; i++)
		if (files->entries.at[i].is_trust)
			json_object_set_new(mtls->domains, files->entries.at[i].name, json_true());
}

void mtls_tell_files(struct node *node)
{
	struct mtls *mtls = &node->mtls;
	struct svid_files files;
	struct why why = {0};
	if (mtls->control < 0)
		return;
	int r = svid_files_find(node->config->mtls_identities, node->config->mtls_trust, &files, &why);
	free(mtls->folder_problem);
	mtls->folder_problem = r ? strdup(why.text) : NULL;
	if (r)
		return;
	if (files.stamp == mtls->stamp) {
		svid_files_release(&files);
		return;
	}
	json_decref(mtls->file_problems);
	mtls->file_problems = NULL;
	for (size_t i = 0; i < files.problems.len; i++)
		keep_problem(mtls, files.problems.at[i]);
	keep_domains(mtls, &files);
	r = tell_entries(node, &files);
	mtls->stamp = r ? 0 : files.stamp;
	mtls->status_ms = 0;
	svid_files_release(&files);
}

/* ---- Places --------------------------------------------------------------------------------------------- */

static uint32_t number_of(const struct place *place)
{
	return place->endpoint4 ? place->endpoint4 : place->endpoint6;
}

static bool is_of(const struct endpoint *endpoint, const struct place *place)
{
	return endpoint->workload && endpoint->flags & MESH_PEER_LOCAL && strcmp(endpoint->owner, place->workload) == 0;
}

static json_t *addresses_of(const struct node *node, const struct place *place)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	json_t *addresses = json_array();
	for (uint32_t i = 1; i < node->registry.len; i++) {
		const uint8_t *address = node->registry.at[i].address;
		char text[INET6_ADDRSTRLEN];
		if (!is_of(&node->registry.at[i], place))
			continue;
		bool v4 = memcmp(address, mapped, sizeof(mapped)) == 0;
		inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, text, sizeof(text));
		json_array_append_new(addresses, json_string(text));
	}
	return addresses;
}

/* "shop/frontend"; NULL: it is in no service ("shop/-"). */
static const char *service_of(const struct resident *active, uint32_t number)
{
	const char *name =
		active->names ? names_class(active->names, generation_class(active->generation, number).src) : NULL;
	const char *slash = name ? strchr(name, '/') : NULL;
	return slash && strcmp(slash, "/-") != 0 ? name : NULL;
}

/* NULL: the workload has no identity under the policy in force, and so no part in mTLS. */
static json_t *place_message(const struct node *node, const struct place *place)
{
	const struct resident *active = node_active((struct node *)node);
	const char *spiffe = active ? json_string_value(json_object_get(active->identities, place->workload)) : NULL;
	if (!spiffe || !number_of(place))
		return NULL;
	return json_pack("{s:s, s:I, s:s, s:s?, s:s, s:o}", "do", "place", "endpoint", (json_int_t)number_of(place),
			 "workload", place->workload, "service", service_of(active, number_of(place)), "spiffe", spiffe,
			 "addresses", addresses_of(node, place));
}

struct place_key {
	char text[24];
};
static struct place_key key_of(const struct place *place)
{
	struct place_key key;
	snprintf(key.text, sizeof(key.text), "%u", number_of(place));
	return key;
}

static bool is_in(const json_t *told, const struct place *place)
{
	return told && (uint64_t)json_integer_value(json_array_get(told, TOLD_COOKIE)) == place->cookie;
}

/* What was told is kept with the namespace's cookie: another one needs another listener, and so does what was refused,
 * whose own was closed. */
static bool has_listener(const json_t *told, const struct place *place)
{
	return is_in(told, place) && !json_array_get(told, TOLD_REFUSED);
}

bool mtls_knows(const struct node *node, const struct place *place)
{
	const json_t *told = json_object_get(node->mtls.told, key_of(place).text);
	json_t *message = place_message(node, place);
	bool same = message && is_in(told, place) && json_equal(json_array_get(told, TOLD_MESSAGE), message);
	json_decref(message);
	return same;
}

bool mtls_was_heard(const struct node *node, const struct place *place)
{
	const json_t *told = json_object_get(node->mtls.told, key_of(place).text);
	return told && (uint64_t)json_integer_value(json_array_get(told, TOLD_QUESTION)) < node->mtls.answers;
}

/* Each of the workload's addresses leads to its listener. */
static int steer_to(const struct node *node, const struct place *place, int listener)
{
	uint64_t value = listener;
	int map = kernel_map(node->kernel, "steer"), r = 0;
	for (uint32_t i = 1; !r && i < node->registry.len; i++)
		if (is_of(&node->registry.at[i], place))
			r = bpf_map_update_elem(map, &i, &value, BPF_ANY);
	return r;
}

/* The message, and which of all it is: what the proxy says of an earlier one of this place is of no interest. */
static int tell_place(struct node *node, const json_t *message, const int *listener)
{
	json_t *numbered = json_copy((json_t *)message);
	json_object_set_new(numbered, "order", json_integer(++node->mtls.orders));
	return tell(node, numbered, listener, listener != NULL);
}

static int place_anew(struct node *node, const struct place *place, int netns_fd, json_t *message, struct why *why)
{
	int listener;
	int r = broker_add(&node->mtls.line, number_of(place), place->cookie, netns_fd, &listener, why);
	if (r)
		return r;
	r = tell_place(node, message, &listener);
	if (!r)
		r = steer_to(node, place, listener);
	if (r)
		why_set(why, r, "the node proxy: %s", strerror(-r));
	close(listener);
	return r;
}

int mtls_place(struct node *node, const struct place *place, int netns_fd, struct why *why)
{
	struct mtls *mtls = &node->mtls;
	json_t *message = mtls->control >= 0 ? place_message(node, place) : NULL;
	if (!message)
		return 0;
	struct place_key key = key_of(place);
	const json_t *told = json_object_get(mtls->told, key.text);
	int r = 0;
	if (!has_listener(told, place))
		r = place_anew(node, place, netns_fd, message, why);
	else if ((r = tell_place(node, message, NULL)))
		why_set(why, r, "the node proxy: %s", strerror(-r));
	if (!r)
		json_object_set_new(mtls->told, key.text,
				    json_pack("[I, O, I, I]", (json_int_t)place->cookie, message,
					      (json_int_t)node->mtls.questions, mtls->orders));
	json_decref(message);
	return r ? r : 1;
}

void mtls_forget_others(struct node *node)
{
	const char *key;
	json_t *told, *there;
	void *next;
	if (node->mtls.control < 0)
		return;
	there = json_object();
	for (size_t i = 0; i < node->place_count; i++)
		if (node->places[i].flags & MESH_NETNS_TUNNEL)
			json_object_set_new(there, key_of(&node->places[i]).text, json_true());
	json_object_foreach_safe(node->mtls.told, next, key, told)
	{
		if (json_object_get(there, key))
			continue;
		uint32_t number = strtoul(key, NULL, 10);
		tell(node, json_pack("{s:s, s:I}", "do", "forget", "endpoint", (json_int_t)number), NULL, 0);
		broker_remove(&node->mtls.line, number);
		json_object_del(node->mtls.told, key);
	}
	json_decref(there);
}

/* ---- Hearing -------------------------------------------------------------------------------------------- */

/* "10.1.0.5:80", "[fd00::5]:80". */
static void read_hop(const char *text, uint8_t ret_address[16], uint16_t *ret_port)
{
	char host[INET6_ADDRSTRLEN + 2] = "";
	const char *colon = text ? strrchr(text, ':') : NULL;
	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return;
	memcpy(host, text, colon - text);
	*ret_port = strtoul(colon + 1, NULL, 10);
	size_t len = strlen(host);
	if (len > 2 && host[0] == '[') {
		host[len - 1] = 0;
		inet_pton(AF_INET6, host + 1, ret_address);
	} else if (inet_pton(AF_INET, host, ret_address + 12) == 1) {
		ret_address[10] = ret_address[11] = 0xff;
	}
}

static json_int_t number_at(const json_t *said, const char *key)
{
	return json_integer_value(json_object_get(said, key));
}

static uint32_t endpoint_at(const struct node *node, const uint8_t address[16])
{
	for (uint32_t i = 1; i < node->registry.len; i++)
		if (node->registry.at[i].owner && memcmp(node->registry.at[i].address, address, 16) == 0)
			return i;
	return 0;
}

static struct mesh_record record_of(struct node *node, const json_t *said)
{
	struct mesh_record record = {.protocol = IPPROTO_TCP, .hook = MESH_HOOK_TUNNEL, .subset = 0xffff};
	const struct resident *active = node_active(node);
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	record.time_ns = now.tv_sec * 1000000000ull + now.tv_nsec;
	read_hop(json_string_value(json_object_get(said, "src")), record.src, &record.src_port);
	read_hop(json_string_value(json_object_get(said, "dst")), record.dst, &record.dst_port);
	read_hop(json_string_value(json_object_get(said, "service")), record.service, &record.service_port);
	record.src_endpoint = endpoint_at(node, record.src);
	record.dst_endpoint = endpoint_at(node, record.dst);
	record.src_class = number_at(said, "src_class");
	record.dst_class = number_at(said, "dst_class");
	record.audit = number_at(said, "audit");
	bool decided = json_object_get(said, "rule") != NULL;
	record.generation = decided ? number_at(said, "generation") : active ? active->generation->number : 0;
	record.rule = decided ? number_at(said, "rule") : (active ? active->rules : 0) + MESH_MTLS;
	bool refused = strcmp(json_string_value(json_object_get(said, "event")), "refused") == 0;
	const char *verdict = json_string_value(json_object_get(said, "verdict"));
	if (verdict ? strcmp(verdict, "allow") == 0 : !refused)
		record.flags |= MESH_RECORD_ALLOWED;
	if (!refused)
		record.flags |= MESH_RECORD_PASSED;
	if (json_is_true(json_object_get(said, "default_audit")))
		record.flags |= MESH_RECORD_DEFAULT_AUDIT;
	return record;
}

static void take_flow(struct node *node, const json_t *said)
{
	static const char *const kept[] = {"event",  "side",	 "tls",	      "cipher",	    "reason",
					   "detail", "bytes_in", "bytes_out", "duration_ms"};
	json_t *tunnel = json_object();
	if (!json_is_string(json_object_get(said, "event"))) {
		json_decref(tunnel);
		return;
	}
	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		if (json_object_get(said, kept[i]))
			json_object_set(tunnel, kept[i], json_object_get(said, kept[i]));
	if (json_object_get(said, "src_id"))
		json_object_set_new(tunnel, "from", json_pack("{s:O}", "spiffe", json_object_get(said, "src_id")));
	if (json_object_get(said, "dst_id"))
		json_object_set_new(tunnel, "to", json_pack("{s:O}", "spiffe", json_object_get(said, "dst_id")));
	struct mesh_record record = record_of(node, said);
	node_take_flow(node, &record, tunnel);
}

static void keep(json_t **where, json_t *said)
{
	json_object_del(said, "say");
	json_decref(*where);
	*where = json_incref(said);
}

/* A part, or the end, of the round under way. It is begun anew where nothing more comes of it, and where the proxy
 * says what cannot be: more than there are. */
static void take_status(struct node *node, json_t *said)
{
	struct mtls *mtls = &node->mtls;
	json_int_t more = number_at(said, "more");
	if (!mtls->until || (uint64_t)number_at(said, "round") != mtls->questions)
		return;
	json_object_update(mtls->until, json_object_get(said, "until"));
	if (more) {
		if (more > mtls->after && more < node->registry.len && ++mtls->parts < PARTS_MOST)
			ask_status(node, mtls->questions, (uint32_t)more);
		return;
	}
	json_object_set_new(said, "until", mtls->until);
	mtls->until = NULL;
	mtls->answers = mtls->questions;
	mtls->unlooked_ms = 0;
	json_object_del(said, "round");
	keep(&mtls->status, said);
}

static void note_refused(struct mtls *mtls, const char *text)
{
	free(mtls->refused);
	mtls->refused = text ? strdup(text) : NULL;
}

/* An order that was not followed: kept with the place that it was of, unless that was told anew since. */
static void take_problem(struct node *node, const json_t *said)
{
	const char *text = json_string_value(json_object_get(said, "text"));
	char key[24];
	if (!text)
		return;
	node_say("the node proxy: %s", text);
	if (!json_object_get(said, "endpoint")) {
		note_refused(&node->mtls, text);
		return;
	}
	snprintf(key, sizeof(key), "%" JSON_INTEGER_FORMAT, number_at(said, "endpoint"));
	json_t *told = json_object_get(node->mtls.told, key);
	if (json_array_size(told) == TOLD_REFUSED &&
	    json_integer_value(json_array_get(told, TOLD_ORDER)) == number_at(said, "order"))
		json_array_append_new(told, json_string(text));
}

void mtls_add_refused(const struct node *node, json_t *problems)
{
	const char *key;
	json_t *told;
	if (node->mtls.refused)
		json_array_append_new(problems,
				      json_sprintf("the node proxy refused what it was told: %s", node->mtls.refused));
	json_object_foreach (node->mtls.told, key, told)
		if (json_array_get(told, TOLD_REFUSED))
			json_array_append_new(problems,
					      json_sprintf("workload %s: the node proxy does not take it: %s: what is "
							   "strict is refused to it",
							   json_string_value(json_object_get(
								   json_array_get(told, TOLD_MESSAGE), "workload")),
							   json_string_value(json_array_get(told, TOLD_REFUSED))));
}

static void take_files(struct node *node, json_t *said)
{
	keep(&node->mtls.files, said);
	note_refused(&node->mtls, NULL);
}

static void take(struct node *node, json_t *said)
{
	const char *what = json_string_value(json_object_get(said, "say"));
	if (what && strcmp(what, "flow") == 0)
		take_flow(node, said);
	else if (what && strcmp(what, "files") == 0)
		take_files(node, said);
	else if (what && strcmp(what, "problem") == 0)
		take_problem(node, said);
	else if (what && strcmp(what, "status") == 0)
		take_status(node, said);
}

void mtls_hear(void *context, uint32_t events)
{
	static char text[PROXY_MESSAGE_BYTES];
	struct node *node = context;
	(void)events;
	for (int i = 0; i < HEARD_AT_ONCE && node->mtls.control >= 0; i++) {
		ssize_t len = recv(node->mtls.control, text, sizeof(text), MSG_DONTWAIT);
		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (len <= 0) {
			mtls_lost(node);
			return;
		}
		node->mtls.unanswered_ms = 0;
		json_t *said = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
		if (json_is_object(said))
			take(node, said);
		json_decref(said);
	}
}
