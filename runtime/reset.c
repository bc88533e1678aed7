/* Live sockets: resetting one, and giving those that are older than the runtime a role. */
#include "kernel_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- SOCK_DESTROY (net/core/sock_diag.c) --------------------------------------------------------- */

enum { STATE_TIME_WAIT = 6, STATE_CLOSE = 7, STATE_LISTEN = 10, STATE_NEW_SYN_RECV = 12 };

struct diag_request {
	struct nlmsghdr head;
	struct inet_diag_req_v2 body;
};
union diag_answer {
	struct nlmsghdr head;
	char bytes[4096];
};

static bool address_is_v4(const uint8_t address[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	return memcmp(address, mapped, sizeof(mapped)) == 0;
}

static struct diag_request request_of(const struct mesh_tuple *tuple)
{
	struct diag_request request = {
		.head = {.nlmsg_len = sizeof(request), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
		.body = {.sdiag_family = AF_INET6, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u},
	};
	struct inet_diag_sockid *id = &request.body.id;
	id->idiag_sport = htons(tuple->local_port);
	id->idiag_dport = htons(tuple->remote_port);
	id->idiag_cookie[0] = id->idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	if (address_is_v4(tuple->local) && address_is_v4(tuple->remote)) {
		request.body.sdiag_family = AF_INET;
		memcpy(id->idiag_src, tuple->local + 12, 4);
		memcpy(id->idiag_dst, tuple->remote + 12, 4);
	} else {
		memcpy(id->idiag_src, tuple->local, 16);
		memcpy(id->idiag_dst, tuple->remote, 16);
	}
	return request;
}

/* Sends REQUEST; 0 with the kernel's message in ANSWER, or the error that it is. */
static int diag_ask(int netlink, const struct diag_request *request, union diag_answer *answer)
{
	if (send(netlink, request, sizeof(*request), 0) < 0)
		return -errno;
	ssize_t len = recv(netlink, answer, sizeof(*answer), 0);
	if (len < 0)
		return -errno;
	if ((size_t)len < sizeof(answer->head) || answer->head.nlmsg_len > (size_t)len)
		return -EBADMSG;
	if (answer->head.nlmsg_type != NLMSG_ERROR)
		return 0;
	if (answer->head.nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr)))
		return -EBADMSG;
	return ((const struct nlmsgerr *)NLMSG_DATA(&answer->head))->error;
}

/* The socket's cookie. Asked for by its tuple alone the kernel would find the listener behind a
 * connection that is gone, and destroy that. */
static int diag_find(int netlink, struct diag_request *request)
{
	union diag_answer answer;
	int r = diag_ask(netlink, request, &answer);
	if (r)
		return r;
	if (answer.head.nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
		return -EBADMSG;
	const struct inet_diag_msg *found = NLMSG_DATA(&answer.head);
	switch (found->idiag_state) {
	case STATE_LISTEN:
	case STATE_CLOSE:
	case STATE_TIME_WAIT:
		return -ENOENT;
	}
	if (found->id.idiag_dport != request->body.id.idiag_dport)
		return -ENOENT;
	memcpy(request->body.id.idiag_cookie, found->id.idiag_cookie, sizeof(found->id.idiag_cookie));
	return 0;
}

/* A socket with a link-local address is one of an interface (RFC 4007 section 6). */
static int diag_find_on_link(int netlink, struct diag_request *request)
{
	struct if_nameindex *all = if_nameindex();
	int r = -ENOENT;
	for (const struct if_nameindex *one = all; r && one && one->if_index; one++) {
		request->body.id.idiag_if = one->if_index;
		r = diag_find(netlink, request);
	}
	if_freenameindex(all);
	return r;
}

static int destroy(void *context)
{
	const struct mesh_tuple *tuple = context;
	struct diag_request request = request_of(tuple);
	bool on_link = IN6_IS_ADDR_LINKLOCAL(tuple->local) || IN6_IS_ADDR_LINKLOCAL(tuple->remote);
	union diag_answer answer;
	struct timeval patience = {.tv_sec = 1};
	int netlink = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (netlink < 0)
		return -errno;
	setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	int r = (on_link ? diag_find_on_link : diag_find)(netlink, &request);
	if (!r) {
		request.head.nlmsg_type = SOCK_DESTROY;
		request.head.nlmsg_flags |= NLM_F_ACK;
		r = diag_ask(netlink, &request, &answer);
	}
	close(netlink);
	return r == -ESTALE ? -ENOENT : r; /* ESTALE: another socket has the tuple by now */
}

int kernel_reset(int netns_fd, const struct mesh_tuple *tuple)
{
	struct mesh_tuple wanted = *tuple;
	if (tuple->protocol != IPPROTO_TCP)
		return -EINVAL;
	return netns_run(netns_fd, destroy, &wanted);
}

/* ---- Sockets older than the runtime -------------------------------------------------------------- */

struct walk {
	const struct kernel *kernel;
	int link;
};

/* The programs run as the file is read; it has no text. */
static int walk_once(const struct walk *walk)
{
	char byte[64];
	int fd = bpf_iter_create(walk->link);
	if (fd < 0)
		return fd;
	ssize_t len;
	do
		len = read(fd, byte, sizeof(byte));
	while (len > 0 || (len < 0 && (errno == EINTR || errno == EAGAIN)));
	int r = len < 0 ? -errno : 0;
	close(fd);
	return r;
}

static int walk_tcp(void *context)
{
	const struct walk *walk = context;
	__u32 zero = 0;
	int r = 0;
	for (__u32 pass = 0; !r && pass < 2; pass++) {
		r = bpf_map_update_elem(walk->kernel->maps[KERNEL_MAP_adopt_pass], &zero, &pass, BPF_ANY);
		if (!r)
			r = walk_once(walk);
	}
	return r;
}

static int walk_udp(void *context)
{
	return walk_once(context);
}

/* A port that is no longer listened on must not say of a later socket that it was accepted. */
static void forget_listeners(int map)
{
	__u64 key;
	while (bpf_map_get_next_key(map, NULL, &key) == 0)
		if (bpf_map_delete_elem(map, &key))
			return;
}

static int walk_namespace(struct kernel *kernel, int netns_fd, enum kernel_program program, int (*work)(void *context))
{
	struct walk walk = {kernel, bpf_link_create(kernel->programs[program], 0, BPF_TRACE_ITER, NULL)};
	if (walk.link < 0)
		return walk.link;
	int r = netns_run(netns_fd, work, &walk);
	close(walk.link);
	return r;
}

int kernel_adopt_sockets(struct kernel *kernel, int netns_fd, struct why *why)
{
	if (kernel->programs[KERNEL_PROGRAM_i_adopt] < 0 || kernel->programs[KERNEL_PROGRAM_i_adopt_udp] < 0)
		return why_set(why, -ENOTSUP,
			       "this kernel carries no types (CONFIG_DEBUG_INFO_BTF): sockets older than meshd pass");
	int r = walk_namespace(kernel, netns_fd, KERNEL_PROGRAM_i_adopt, walk_tcp);
	forget_listeners(kernel->maps[KERNEL_MAP_listeners]);
	if (!r)
		r = walk_namespace(kernel, netns_fd, KERNEL_PROGRAM_i_adopt_udp, walk_udp);
	return r ? why_set(why, r, "walking older sockets: %s", strerror(-r)) : 0;
}
