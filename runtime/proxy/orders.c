#define _GNU_SOURCE 1
#include "proxy/orders.h"

#include "proxy/control.h"
#include "proxy/place.h"
#include "proxy/proxy.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	DESCRIPTORS_LIMIT = 253, /* SCM_MAX_FD, include/net/scm.h */
	FILES_LIMIT = 2 * (IDENTITY_MAX_SVIDS + IDENTITY_MAX_DOMAINS),
	FILE_BYTES = IDENTITY_CRL_BYTES + 1, /* what is larger than its bound is seen to be */
	FILE_NAME = 256,
	PROBLEMS_LIMIT = 64,
	UNTIL_BYTES = PROXY_MESSAGE_BYTES / 2, /* of a message; the rest of it is far less */
	UNTIL_ENTRY_BYTES = 32,		       /* beside the ID: quotes, colon, number, comma */
};

enum file_kind { FILE_CERTIFICATE, FILE_KEY, FILE_BUNDLE, FILE_CRL, FILE_KINDS };
static const char *const kind_words[FILE_KINDS] = {"certificate", "key", "bundle", "crl"};

/* A set of files is gathered until its last message. */
struct file {
	struct file *next;
	enum file_kind kind;
	char name[FILE_NAME];
	char *bytes;
	size_t len;
	bool is_unread; /* it was complained of; nothing may be concluded from its absence */
};
struct orders {
	struct proxy *proxy;
	int fd;
	bool is_greeted;
	struct file *files;
	unsigned file_count;
	bool is_set_broken; /* a message of it could not be followed: the rest is not the whole of it */
	json_t *file_problems;
	char message[PROXY_MESSAGE_BYTES + 1];
};
struct descriptors {
	int *fds; /* -1: taken */
	unsigned count;
};

/* ---- Saying ----------------------------------------------------------------------------------------- */

static void orders_say(struct orders *orders, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	/* A meshd that does not read asks again by `status`. */
	if (text)
		send(orders->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
	free(text);
	json_decref(object);
}

/* With which of BODY it is: NULL, or an order. */
static void say_problem(struct orders *orders, const json_t *body, const char *text)
{
	static const char *const which[] = {"endpoint", "order"};
	json_t *problem = json_pack("{s:s, s:s}", "say", "problem", "text", text);
	for (size_t i = 0; i < sizeof(which) / sizeof(*which); i++)
		if (json_is_integer(json_object_get(body, which[i])))
			json_object_set(problem, which[i], json_object_get(body, which[i]));
	orders_say(orders, problem);
}

/* ---- Settings and places ---------------------------------------------------------------------------- */

static int do_hello(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	struct proxy_settings *settings = &orders->proxy->settings;
	int drain_ms = (int)settings->drain_ms, connections = (int)settings->connections;
	json_error_t error;
	(void)descriptors;
	if (json_unpack_ex((json_t *)body, &error, JSON_STRICT, "{s:s, s?i, s?i}", "do", &(const char *){0}, "drain_ms",
			   &drain_ms, "connections", &connections))
		return why_set(why, -EINVAL, "hello: %s", error.text);
	if (drain_ms < 0 || connections < 1)
		return why_set(why, -EINVAL, "hello: a value is out of its range");
	settings->drain_ms = (unsigned)drain_ms;
	settings->connections = (unsigned)connections;
	if (!orders->is_greeted)
		orders_say(orders, json_pack("{s:s}", "say", "ready"));
	orders->is_greeted = true;
	return 0;
}

static int addresses_read(const json_t *addresses, struct place *place, struct why *why)
{
	size_t i;
	json_t *address;
	if (json_array_size(addresses) > PLACE_ADDRESSES)
		return why_set(why, -E2BIG, "place: more than %d addresses", PLACE_ADDRESSES);
	json_array_foreach (addresses, i, address) {
		const char *text = json_string_value(address);
		if (!text || hop_parse_ip(text, strlen(text), &place->addresses[i]))
			return why_set(why, -EINVAL, "place: '%s' is no address", text ? text : "(no text)");
		place->address_count++;
	}
	return 0;
}

static int do_place(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	struct place like = {0};
	json_int_t endpoint, order;
	const char *workload, *spiffe;
	json_t *service, *addresses;
	json_error_t error;
	if (json_unpack_ex((json_t *)body, &error, JSON_STRICT, "{s:s, s:I, s:s, s:o, s:s, s:o, s?I}", "do",
			   &(const char *){0}, "endpoint", &endpoint, "workload", &workload, "service", &service,
			   "spiffe", &spiffe, "addresses", &addresses, "order", &order))
		return why_set(why, -EINVAL, "place: %s", error.text);
	const char *service_name = json_is_null(service) ? "" : json_string_value(service);
	if (endpoint < 1 || endpoint > UINT32_MAX || !service_name || strlen(service_name) >= PLACE_NAME ||
	    strlen(workload) >= PLACE_NAME || !json_is_array(addresses) || !spiffe_valid(spiffe))
		return why_set(why, -EINVAL, "place: a value is none");
	like.endpoint = (uint32_t)endpoint;
	strcpy(like.workload, workload);
	strcpy(like.service, service_name);
	int r = addresses_read(addresses, &like, why);
	if (r)
		return r;
	int listener = -1;
	if (descriptors->count) {
		listener = descriptors->fds[0];
		descriptors->fds[0] = -1;
	}
	return place_put(orders->proxy, &like, spiffe, listener, why);
}

static int do_forget(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	json_int_t endpoint;
	json_error_t error;
	(void)descriptors;
	if (json_unpack_ex((json_t *)body, &error, JSON_STRICT, "{s:s, s:I}", "do", &(const char *){0}, "endpoint",
			   &endpoint))
		return why_set(why, -EINVAL, "forget: %s", error.text);
	struct place *place = place_find(orders->proxy, (uint32_t)endpoint);
	if (!place)
		return why_set(why, -ENOENT, "forget: there is no endpoint %lld", (long long)endpoint);
	place_forget(place);
	return 0;
}

/* ---- Files ------------------------------------------------------------------------------------------ */

static void file_free(struct file *file)
{
	if (file->bytes)
		explicit_bzero(file->bytes, file->len);
	free(file->bytes);
	free(file);
}

static void files_drop(struct orders *orders)
{
	while (orders->files) {
		struct file *file = orders->files;
		orders->files = file->next;
		file_free(file);
	}
	orders->file_count = 0;
	json_decref(orders->file_problems);
	orders->file_problems = NULL;
	orders->is_set_broken = false;
}

static void files_complain(struct orders *orders, const char *name, const char *text)
{
	if (!orders->file_problems)
		orders->file_problems = json_array();
	if (json_array_size(orders->file_problems) < PROBLEMS_LIMIT)
		json_array_append_new(orders->file_problems, json_sprintf("%s: %s", name, text));
}

/* The buffer has its full size from the start: a copy left behind by realloc would not be wiped. */
static int file_read(struct file *file, int fd)
{
	ssize_t got = 0;
	file->bytes = malloc(FILE_BYTES);
	if (!file->bytes)
		return -ENOMEM;
	while (file->len < FILE_BYTES &&
	       (got = pread(fd, file->bytes + file->len, FILE_BYTES - file->len, (off_t)file->len)) > 0)
		file->len += (size_t)got;
	return got < 0 ? -errno : got > 0 ? -EFBIG : 0;
}

static int file_shrink(struct file *file)
{
	char *exact = malloc(file->len ? file->len : 1);
	if (!exact)
		return -ENOMEM;
	if (file->len) {
		memcpy(exact, file->bytes, file->len);
		explicit_bzero(file->bytes, file->len);
	}
	free(file->bytes);
	file->bytes = exact;
	return 0;
}

/* A file that cannot be read is still said: its name must keep the last good one, and a bundle must not be taken
 * without the list that lies beside it. */
static int file_add(struct orders *orders, const json_t *entry, int fd, struct why *why)
{
	const char *kind, *name, *problem = NULL;
	json_error_t error;
	struct file *file;
	if (json_unpack_ex((json_t *)entry, &error, JSON_STRICT, "{s:s, s:s, s?s}", "kind", &kind, "name", &name,
			   "problem", &problem))
		return why_set(why, -EINVAL, "files: %s", error.text);
	unsigned word = 0;
	while (word < FILE_KINDS && strcmp(kind, kind_words[word]))
		word++;
	if (word == FILE_KINDS || strlen(name) >= FILE_NAME)
		return why_set(why, -EINVAL, "files: '%s' is no kind, or '%s' too long a name", kind, name);
	if (orders->file_count >= FILES_LIMIT || !(file = calloc(1, sizeof(*file))))
		return why_set(why, -ENOMEM, "files: too many");
	file->kind = (enum file_kind)word;
	strcpy(file->name, name);
	int r = problem ? 0 : file_read(file, fd);
	file->is_unread = problem || r;
	if (file->is_unread) {
		files_complain(orders, name, problem ? problem : strerror(-r));
		if (file->bytes)
			explicit_bzero(file->bytes, file->len);
		file->len = 0;
	}
	/* Without memory for a copy the large buffer stays, if there is one. */
	if (file_shrink(file) && !file->bytes) {
		free(file);
		return why_set(why, -ENOMEM, "files: out of memory");
	}
	file->next = orders->files;
	orders->files = file;
	orders->file_count++;
	return 0;
}

static const struct file *file_find(const struct orders *orders, enum file_kind kind, const char *name)
{
	const struct file *file = orders->files;
	while (file && (file->kind != kind || strcmp(file->name, name)))
		file = file->next;
	return file;
}

static void file_use(struct orders *orders, const struct file *file)
{
	struct identities *identities = orders->proxy->identities;
	struct why why = {.text = "it is not complete"};
	const struct file *other = NULL;
	int r = 0;
	if (file->kind == FILE_CERTIFICATE) {
		other = file_find(orders, FILE_KEY, file->name);
		r = other ? identities_add_svid(identities, file->name, file->bytes, file->len, other->bytes,
						other->len, &why)
			  : why_set(&why, -ENOENT, "there is no key beside the certificate");
	} else if (file->kind == FILE_BUNDLE) {
		other = file_find(orders, FILE_CRL, file->name);
		r = identities_add_trust(identities, file->name, file->bytes, file->len, other ? other->bytes : NULL,
					 other ? other->len : 0, &why);
	}
	if (r && !file->is_unread && !(other && other->is_unread))
		files_complain(orders, file->name, why.text);
}

static void files_apply(struct orders *orders)
{
	struct proxy *proxy = orders->proxy;
	int r = identities_begin(proxy->identities);
	for (const struct file *file = orders->files; file && !r; file = file->next)
		file_use(orders, file);
	if (!r)
		r = identities_commit(proxy->identities);
	if (r)
		files_complain(orders, "all files", strerror(-r));
	proxy_judge_tunnels(proxy);
	orders_say(orders, json_pack("{s:s, s:I, s:o}", "say", "files", "identities",
				     (json_int_t)identities_valid(proxy->identities, time(NULL)), "problems",
				     orders->file_problems ? json_incref(orders->file_problems) : json_array()));
	files_drop(orders);
}

static int files_gather(struct orders *orders, const json_t *files, const struct descriptors *descriptors,
			struct why *why)
{
	json_t *entry;
	size_t i;
	int r = 0;
	if (!json_is_array(files) || json_array_size(files) != descriptors->count)
		return why_set(why, -EINVAL, "files: %zu of them, %u descriptors", json_array_size(files),
			       descriptors->count);
	json_array_foreach (files, i, entry)
		if ((r = file_add(orders, entry, descriptors->fds[i], why)))
			break;
	return r;
}

/* A set that is not whole is none: what would be missing in it would be gone. */
static int do_files(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	json_t *files;
	int is_first = 0, is_last = 0;
	json_error_t error;
	if (json_unpack_ex((json_t *)body, &error, JSON_STRICT, "{s:s, s:o, s?b, s?b}", "do", &(const char *){0},
			   "files", &files, "first", &is_first, "last", &is_last))
		return why_set(why, -EINVAL, "files: %s", error.text);
	if (is_first)
		files_drop(orders);
	int r = orders->is_set_broken ? 0 : files_gather(orders, files, descriptors, why);
	if (r) {
		files_drop(orders);
		orders->is_set_broken = true;
	}
	if (is_last && orders->is_set_broken)
		files_drop(orders);
	else if (is_last)
		files_apply(orders);
	return r;
}

/* ---- The rest ---------------------------------------------------------------------------------------- */

static int do_alone(const json_t *body, struct why *why)
{
	return json_object_size(body) == 1 ? 0 : why_set(why, -EINVAL, "there are keys that mean nothing here");
}

static int do_switch(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	(void)descriptors;
	int r = do_alone(body, why);
	if (r)
		return r;
	proxy_judge_streams(orders->proxy);
	proxy_judge_tunnels(orders->proxy); /* somebody else may live at the other end */
	return 0;
}

static int do_drain(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	(void)descriptors;
	int r = do_alone(body, why);
	if (!r)
		proxy_drain(orders->proxy);
	return r;
}

/* Of the places behind endpoint AFTER, as many as a message holds: *RET_MORE is the last of them; 0: it is the last of
 * all. */
static json_t *until_json(const struct proxy *proxy, json_int_t after, uint32_t *ret_more)
{
	json_t *until = json_object();
	time_t now = time(NULL);
	size_t bytes = 0;
	uint32_t last = 0;
	for (const struct place *place = proxy->places; place; place = place->next) {
		if (place->endpoint <= after)
			continue;
		bytes += strlen(place->spiffe) + UNTIL_ENTRY_BYTES;
		if (bytes > UNTIL_BYTES) {
			*ret_more = last;
			return until;
		}
		time_t end = identities_valid_until(proxy->identities, place->spiffe, now);
		if (!end)
			end = identities_ended(proxy->identities, place->spiffe, now);
		if (end)
			json_object_set_new(until, place->spiffe, json_integer(end));
		last = place->endpoint;
	}
	*ret_more = 0;
	return until;
}

static int do_status(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	const struct proxy *proxy = orders->proxy;
	json_int_t round = 0, after = 0;
	json_error_t error;
	uint32_t more;
	(void)descriptors;
	if (json_unpack_ex((json_t *)body, &error, JSON_STRICT, "{s:s, s?I, s?I}", "do", &(const char *){0}, "round",
			   &round, "after", &after))
		return why_set(why, -EINVAL, "status: %s", error.text);
	json_t *until = until_json(proxy, after, &more);
	json_t *status =
		json_pack("{s:s, s:I, s:i, s:i, s:I, s:b, s:I, s:o}", "say", "status", "round", round, "tunnels",
			  (int)proxy->tunnel_count, "connections", (int)proxy->stream_count, "held_bytes",
			  (json_int_t)proxy->held_bytes, "draining", !!proxy->drain_until_ms, "identities",
			  (json_int_t)identities_valid(proxy->identities, time(NULL)), "until", until);
	if (!status)
		return why_set(why, -ENOMEM, "out of memory");
	if (more)
		json_object_set_new(status, "more", json_integer(more));
	flows_status(proxy->flows, status);
	orders_say(orders, status);
	return 0;
}

static const struct {
	const char *word;
	int (*act)(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why);
} deeds[] = {
	{"hello", do_hello},   {"place", do_place}, {"forget", do_forget}, {"files", do_files},
	{"switch", do_switch}, {"drain", do_drain}, {"status", do_status},
};

static int orders_act(struct orders *orders, const json_t *body, struct descriptors *descriptors, struct why *why)
{
	const char *word = json_string_value(json_object_get(body, "do"));
	if (!word)
		return why_set(why, -EINVAL, "there is no 'do'");
	if (!orders->is_greeted && strcmp(word, "hello"))
		return why_set(why, -EPROTO, "%s before hello", word);
	for (size_t i = 0; i < sizeof(deeds) / sizeof(*deeds); i++)
		if (!strcmp(word, deeds[i].word))
			return deeds[i].act(orders, body, descriptors, why);
	return why_set(why, -EINVAL, "there is no '%s'", word);
}

void orders_obey(struct orders *orders, const char *text, size_t len, int *fds, unsigned fd_count)
{
	struct why why = {0};
	struct descriptors descriptors = {fds, fd_count};
	json_error_t error;
	json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	int r = body ? orders_act(orders, body, &descriptors, &why) : why_set(&why, -EINVAL, "no JSON: %s", error.text);
	if (r)
		say_problem(orders, body, why.text);
	for (unsigned i = 0; i < fd_count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	json_decref(body);
}

/* ---- The channel ------------------------------------------------------------------------------------- */

static unsigned descriptors_take(struct msghdr *message, int fds[DESCRIPTORS_LIMIT])
{
	struct cmsghdr *at = CMSG_FIRSTHDR(message);
	if (!at || at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
		return 0;
	unsigned count = (unsigned)((at->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds, CMSG_DATA(at), count * sizeof(int));
	return count;
}

static ssize_t orders_receive(struct orders *orders)
{
	int fds[DESCRIPTORS_LIMIT];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(fds))];
	} control;
	struct iovec part = {.iov_base = orders->message, .iov_len = PROXY_MESSAGE_BYTES};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	ssize_t len = recvmsg(orders->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (len <= 0)
		return len;
	unsigned count = descriptors_take(&message, fds);
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		say_problem(orders, NULL, "a message was longer than 64 KiB, or its descriptors too many");
		while (count)
			close(fds[--count]);
	} else {
		orders_obey(orders, orders->message, (size_t)len, fds, count);
	}
	return len;
}

static void orders_on_event(void *context, uint32_t events)
{
	struct orders *orders = context;
	ssize_t len = 0;
	(void)events;
	for (int i = 0; i < 16 && (len = orders_receive(orders)) > 0; i++)
		;
	/* meshd is gone: connections are not its hostages. */
	if (!len || (len < 0 && errno != EAGAIN && errno != EINTR))
		loop_forget(orders->proxy->loop, orders->fd);
}

int orders_create(struct proxy *proxy, int fd, struct orders **ret_orders)
{
	struct orders *orders = calloc(1, sizeof(*orders));
	if (!orders)
		return -ENOMEM;
	orders->proxy = proxy;
	orders->fd = fd;
	int r = loop_watch(proxy->loop, fd, EPOLLIN, orders_on_event, orders);
	if (r) {
		free(orders);
		return r;
	}
	*ret_orders = orders;
	return 0;
}

void orders_release(struct orders *orders)
{
	if (!orders)
		return;
	loop_forget(orders->proxy->loop, orders->fd);
	files_drop(orders);
	free(orders);
}
