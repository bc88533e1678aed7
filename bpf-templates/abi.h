/* The contract between kernel programs, meshd and the bundle: every struct that crosses a map.
 *
 * Compiles as BPF C and as user-space C11. Addresses are 16 bytes in network order, IPv4 as
 * ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2); ports are host order unless a name says otherwise.
 * Changing any layout here changes MESH_ABI: a node refuses a bundle of another ABI. */
#ifndef MESH_ABI_H
#define MESH_ABI_H

#ifdef __bpf__
#include "bpf.h"
#else
#include <linux/types.h>
#endif

#define MESH_ABI 1u

/* An address, or what is kept of a digest. Aligned, programs copy it in words. */
typedef __u8 mesh_octets[16] __attribute__((aligned(4)));

enum {
	MESH_GENERATIONS = 8,	     /* resident generations: slots of every jump table */
	MESH_SPLITS = 16,	     /* weighted shares in one arm of a route */
	MESH_PORT_BOUNDS = 64,	     /* (protocol, port) intervals of one destination */
	MESH_BACKENDS_STICKY = 1024, /* backends of one set that rendezvous hashing looks at */
	MESH_UDP_REPLY_S = 60,	     /* language.md 14: a reply is part of its request */
	MESH_SYN_GRACE_MS = 50,	     /* how long a SYN may be on its way inside a node when the node switches */
};

/* What the node does with verdicts. */
enum mesh_mode { MESH_ENFORCE = 0, MESH_OBSERVE = 1, MESH_OFF = 2 };

/* Map "control": one element, mmapable. `active` is the store that switches a node. */
struct mesh_control {
	__u32 active;	   /* slot + 1; 0: nothing was ever applied, everything passes and is counted */
	__u32 mode;	   /* enum mesh_mode */
	__u32 epoch;	   /* inventory epoch, never repeats while a socket can remember it */
	__u32 record_rate; /* flow records a second and CPU */
	/* Written before `active`: whose connections may still be on their way. */
	__u64 switched_ns; /* CLOCK_MONOTONIC */
	__u32 before;	   /* the slot + 1 that was active */
	__u32 before_generation;
	__u32 peer_mask; /* buckets of "peers4" - 1 */
	__u32 pad;
	__u32 generations[MESH_GENERATIONS]; /* which generation lies in a slot; written before it is active. ~0: it was
						emptied */
};

/* .rodata object "config" of every policy program: written by meshd before it is loaded. */
struct mesh_config {
	__u32 abi;
	__u32 generation; /* unique on this node, never reused, never 0 */
};

/* Who has this address: map "peers6" (hash, key 16 bytes), and "peers4" (array of buckets). */
enum {
	MESH_PEER_ENROLLED = 1,
	MESH_PEER_LOCAL = 2,
	MESH_PEER_QUARANTINED = 4,
	MESH_PEER_PLACED = 8,  /* its namespace is known here, and every socket born in it is stamped */
	MESH_PEER_TUNNEL = 16, /* a workload of this node for which the node proxy listens */
};
struct mesh_peer {
	__u32 endpoint; /* index into the generation's "classes"; never 0 */
	__u32 flags;
};

/* An IPv4 address lies in the first of its two buckets, or where that is full in the second (cf. Azar
 * et al., Balanced Allocations, STOC 1994). A bucket is one cache line; a slot is one word, so that a
 * reader sees an entry whole or not at all. Twice as fast as a look-up in a hash map, of which a decision
 * has two. The number of buckets is a power of two. */
enum { MESH_PEER_SLOTS = 8 };
struct mesh_peer_bucket {
	__u64 slot[MESH_PEER_SLOTS]; /* address as in the packet << 32 | endpoint << 8 | flags; 0: free */
};
static inline __u64 mesh_peer_slot(__u32 address, __u32 endpoint, __u32 flags)
{
	return (__u64)address << 32 | endpoint << 8 | flags;
}
/* 48 good bits, for two buckets (the multipliers of splitmix64: Steele et al., OOPSLA 2014). */
static inline __u64 mesh_peer_hash(__u32 address)
{
	__u64 hash = address * 0xbf58476d1ce4e5b9ull;
	hash = (hash ^ hash >> 27) * 0x94d049bb133111ebull;
	return hash >> 16;
}

/* Map "netns" (key: u64 netns cookie): whose network namespace is this. */
enum {
	MESH_NETNS_ENROLLED = 1,
	MESH_NETNS_NODE = 2,	/* the host's namespace: its sockets are `node` */
	MESH_NETNS_MANY4 = 4,	/* several IPv4 addresses whose block classes may differ: the caller's */
	MESH_NETNS_MANY6 = 8,	/* block is known only when the packet leaves */
	MESH_NETNS_TUNNEL = 16, /* the node proxy listens here */
};
struct mesh_netns {
	__u32 endpoint4; /* the endpoint of its (first) IPv4 address, 0: none */
	__u32 endpoint6;
	__u32 flags;
	__u8 address4[4]; /* of endpoint4, as in the packet */
	mesh_octets address6;
};

/* Map "classes" (array by endpoint, private to a generation): what an address means to a policy.
 * src 0 is "unknown": closed. */
struct mesh_class {
	__u16 src;   /* source class */
	__u16 dst;   /* destination class */
	__u16 block; /* address block of this very address */
	__u16 pad;
};

/* Fixed class numbers; the others are numbered by the compiler (manifest "classes"). */
enum {
	MESH_CLASS_UNKNOWN = 0,
	MESH_CLASS_WORLD = 1,
	MESH_CLASS_NODE = 2,
	MESH_CLASS_OTHER = 3,	 /* a workload of a namespace that the policy never names */
	MESH_CLASS_CONFLICT = 4, /* as a destination only: a workload that matches two services */
	MESH_CLASS_FIRST = 5,
};

/* How a connection travels. */
enum mesh_via {
	MESH_VIA_WIRE = 0, /* in the clear */
	MESH_VIA_NODE,	   /* in the clear, from the node's own processes to a workload on it */
	MESH_VIA_TUNNEL,   /* or is going to */
};

/* The rules of a generation are numbered 0..n-1 (manifest "rules"); behind them these. PLAINTEXT: a rule
 * allows it, but only through the tunnel. MTLS: the
 * tunnel itself was refused, before any rule was asked. */
enum mesh_special {
	MESH_DEFAULT = 0,
	MESH_SELF,
	MESH_CONFLICT,
	MESH_UNKNOWN,
	MESH_PLAINTEXT,
	MESH_MTLS,
	MESH_SPECIALS
};

/* A connection or flow seen from a socket. Key of "exact", "flows": there with the endpoint of the workload that it is
 * seen from, for addresses that several have (groups) or take. */
struct mesh_tuple {
	mesh_octets local;
	mesh_octets remote;
	__u16 local_port;
	__u16 remote_port;
	__u8 protocol;
	__u8 owner[3]; /* "flows": least first; else 0 */
};

/* Map "exact": sockets of host processes, which are `node` whatever their address says. Key: local is the
 * caller. Written by sockops, deleted at TCP_CLOSE. */
struct mesh_exact {
	__u32 src; /* MESH_CLASS_NODE */
};

/* Map "flows" (LRU): UDP direction by peer. */
enum mesh_role { MESH_ROLE_NONE = 0, MESH_ROLE_OUT, MESH_ROLE_IN, MESH_ROLE_LISTEN, MESH_ROLE_OLD, MESH_ROLE_PROXY };
struct mesh_flow {
	__u64 seen_ns; /* bpf_ktime_get_ns */
	__u32 generation;
	__u32 epoch;
	__u8 role;    /* MESH_ROLE_OUT or MESH_ROLE_IN */
	__u8 verdict; /* 1: pass */
	__u8 pad[6];
};

/* Map "sockets" (sk_storage). A verdict counts only under its (generation, epoch). */
struct mesh_socket {
	__u32 generation;
	__u32 epoch;
	__u8 role; /* enum mesh_role */
	__u8 verdict;
	__u16 service_port; /* what the application asked for, 0: no service address */
	mesh_octets service;
	mesh_octets dst; /* what was decided at connect */
	__u16 dst_port;	 /* 0: nothing was */
	__u16 steered;	 /* through the tunnel: the port that is meant, at `dst`; 0: it is not */
	__u64 netns;	 /* cookie of the enrolled namespace that it was born in; 0: in no such one */
};
enum {
	MESH_NETNS_IMPOSTOR = 1 /* as mesh_socket.netns: nobody's, under a workload's address; 1 may be the host's
				   cookie (Linux before 6.18), which is never enrolled */
};

/* Map "nat" (LRU): UDP service translation of one socket, both ways. */
struct mesh_nat_key {
	__u64 socket;
	mesh_octets address;
	__u16 port;
	__u8 reverse; /* 0: service -> backend, 1: backend -> service */
	__u8 pad[5];
};
struct mesh_nat {
	mesh_octets address;
	__u16 port;
	__u16 pad;
	__u32 generation;
	__u32 epoch;
};

/* Map "vips" (hash, private to a generation): service addresses. */
struct mesh_vip_key {
	mesh_octets address;
	__u16 port;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 pad;
};
struct mesh_vip {
	__u16 dst;    /* class of the service */
	__u16 target; /* the workload's port; 0: the address belongs to the mesh, the port does not */
};
/* An address key with port 0, protocol 0 exists for every service address: an undeclared port of
 * a service address is refused as `unknown`. */

/* Map "sets" (array, private): index = 2 * set + (IPv6 ? 1 : 0); sets are numbered in the manifest.
 * Both words are stored as one 8-byte value: a reader sees old or new, never a mixture. */
struct mesh_set {
	__u32 first; /* index into "backends" */
	__u32 count;
};
struct mesh_backend {
	mesh_octets address;
};

/* Map "hits" (per-CPU array, private): index = rule number. */
struct mesh_hits {
	__u64 caller;	/* decided where the connection was opened */
	__u64 receiver; /* decided where it arrived */
	__u64 again;	/* decided once more for a live socket */
};

/* Ring buffer "records": flow records. Lossy by design, losses are counted. */
enum mesh_hook {
	MESH_HOOK_CONNECT = 0,
	MESH_HOOK_SENDMSG,
	MESH_HOOK_LOOKUP,
	MESH_HOOK_INGRESS,
	MESH_HOOK_EGRESS,
	MESH_HOOK_TUNNEL, /* told by the node proxy */
	MESH_HOOKS
};
enum {
	MESH_RECORD_ALLOWED = 1,       /* the verdict */
	MESH_RECORD_PASSED = 2,	       /* what happened: differs from the verdict in observe mode */
	MESH_RECORD_DEFAULT_AUDIT = 4, /* a default of `audit` let it pass */
	MESH_RECORD_AGAIN = 8,	       /* a live connection, decided again */
};
struct mesh_record {
	__u64 time_ns; /* bpf_ktime_get_ns: CLOCK_MONOTONIC */
	__u32 generation;
	__u32 rule;
	__u32 src_endpoint; /* 0: not a workload */
	__u32 dst_endpoint;
	mesh_octets src; /* 0::0 where the caller's address is not known yet */
	mesh_octets dst;
	mesh_octets service; /* 0::0: no service address was asked for */
	__u16 src_port;
	__u16 dst_port;
	__u16 service_port;
	__u16 src_class;
	__u16 dst_class;
	__u16 subset; /* index into manifest "sets", 0xffff: none */
	__u16 audit;  /* index into manifest "audits", 0: none */
	__u8 protocol;
	__u8 hook;
	__u8 flags;
	__u8 pad[7];
};

/* Ring buffer "orders": what meshd must do. Never shared with records. */
enum mesh_order_kind { MESH_ORDER_RESET = 1, MESH_ORDER_NETNS = 2 };
struct mesh_order {
	__u32 kind;
	__u32 pid;		 /* MESH_ORDER_NETNS: a process in the new namespace */
	__u64 netns;		 /* its cookie (MESH_ORDER_NETNS); the local endpoint (MESH_ORDER_RESET) */
	struct mesh_tuple tuple; /* MESH_ORDER_RESET: the socket, seen from the local side */
};

/* Map "stats" (per-CPU array of __u64): enum mesh_stat in stats.def. */
enum mesh_stat {
#define STAT(name, text) MESH_STAT_##name,
#include "stats.def"
#undef STAT
	MESH_STATS
};

/* ---- The node proxy --------------------------------------------------------------------------
 *
 * Sockets of the proxy are made by meshd inside a workload's namespace and stamped MESH_ROLE_PROXY, which
 * no application can do; what is accepted from them inherits the stamp. On these sockets alone setsockopt and
 * getsockopt (level MESH_LEVEL, one of the options below) ask the kernel; on others they fail as they did. A
 * question is set and its answer got: a getsockopt program does not see what the caller had in its buffer. */
enum {
	MESH_PORT_TUNNEL = 15008, /* HBONE arrives here */
	MESH_PORT_STEER = 15001,  /* at the caller's own address: a connection that is to go through the tunnel */
	MESH_LEVEL = 0x6d657368,
};
enum mesh_option {
	MESH_OPTION_ORIGIN = 1, /* got: struct mesh_origin, of an accepted socket that was steered */
	MESH_OPTION_ASK,	/* set and got: struct mesh_ask */
	MESH_OPTION_REMEMBER,	/* set: struct mesh_remember, before a bound socket connects to the application */
	MESH_OPTION_FORGET,	/* set: the same, when it is closed */
};

/* What the application asked for. dst_port 0: it was not steered by us. */
struct mesh_origin {
	mesh_octets dst;     /* where it goes: a workload's address */
	mesh_octets service; /* 0::0: no service address was asked for */
	mesh_octets src;     /* the caller's own address and port */
	__u16 dst_port, service_port, src_port, pad;
	__u32 endpoint; /* the caller's: of its first address */
	__u32 generation;
};

/* A question to the generation in force. IDs travel as the first 16 bytes of their SHA-256; 0: none. */
enum mesh_ask_kind {
	MESH_ASK_RECEIVER = 1, /* may whoever showed ID reach dst:dst_port, an address of this socket's workload? */
	MESH_ASK_CALLER,       /* may this socket's workload (still) reach dst:dst_port? */
	MESH_ASK_SERVER,       /* is ID the identity of the workload at dst? */
};
enum mesh_ask_reason {
	MESH_ASK_DECIDED = 0,
	MESH_ASK_NOT_HERE, /* dst is no address of this socket's workload */
	MESH_ASK_NO_POLICY,
	MESH_ASK_NOT_HIS, /* MESH_ASK_SERVER: another workload lives there */
};
struct mesh_ask {
	mesh_octets id;	   /* of "spiffe://TRUST/ns/NS/sa/ACCOUNT" */
	mesh_octets space; /* of "spiffe://TRUST/ns/NS", where the ID has that form */
	mesh_octets src, dst;
	__u16 src_port, dst_port;
	__u8 kind;
	__u8 again; /* this connection was decided before */
	/* Answered: */
	__u8 allow; /* what is to happen: also 1 where the node only observes, or is off */
	__u8 reason;
	__u32 rule; /* as in records */
	__u32 generation;
	__u32 src_endpoint, dst_endpoint;
	__u16 src_class, dst_class;
	__u16 audit;
	__u8 verdict; /* 1: allow */
	__u8 default_audit;
};

/* What getpeername and accept tell an application of a connection that came through the tunnel. */
struct mesh_remember {
	mesh_octets dst;  /* the application's address, */
	mesh_octets peer; /* and the caller's */
	__u16 dst_port, peer_port;
	__u32 pad;
};

/* Section ".mesh.vectors": the proof. Header, then the three arrays one behind the other. */
#define MESH_VECTORS_MAGIC 0x31564d4du /* "MMV1" */
struct mesh_vectors {
	__u32 magic;
	__u32 decisions; /* struct mesh_vector */
	__u32 addresses; /* struct mesh_address_vector */
	__u32 packets;	 /* struct mesh_packet_vector */
};
struct mesh_vector {
	__u16 src, block, dst, port;
	__u8 protocol;
	__u8 verdict; /* 1: allow */
	__u16 audit;
	__u32 rule; /* as in records */
	__u8 via;   /* enum mesh_via */
	__u8 pad[7];
};
struct mesh_address_vector {
	mesh_octets address;
	__u16 block;
	__u16 dst; /* world or external class of the block */
	__u32 pad;
};
/* An IP packet for the ingress program. Source is proof endpoint 1, destination 2 (below). */
struct mesh_packet_vector {
	__u16 bytes;
	__u8 pass; /* expected return of the program */
	__u8 pad[5];
	__u8 packet[120];
};

/* In a proof instance endpoint e (1..65535) has these addresses: 240.0.x.y (RFC 1112 section 4,
 * never routed) and 100::x:y (RFC 6666, discard-only), where x.y is e in network order. */
#define MESH_PROOF_V4 0xf0000000u

/* Context of the program "prove" (SEC syscall): decides elements [first, first+count) of map
 * "vectors" and writes what it found into map "answers" (both arrays, sized by the loader). */
struct mesh_prove {
	__u32 first;
	__u32 count;
	__u32 done;
	__u32 pad;
};
struct mesh_answer {
	__u32 rule;
	__u16 audit;
	__u8 verdict;
	__u8 pad;
	__u16 arm; /* route arm, 0xffff: none */
	__u16 pad2;
};

_Static_assert(sizeof(struct mesh_control) == 72, "abi");
_Static_assert(sizeof(struct mesh_peer) == 8, "abi");
_Static_assert(sizeof(struct mesh_netns) == 32, "abi");
_Static_assert(sizeof(struct mesh_class) == 8, "abi");
_Static_assert(sizeof(struct mesh_tuple) == 40, "abi");
_Static_assert(sizeof(struct mesh_flow) == 24, "abi");
_Static_assert(sizeof(struct mesh_socket) == 56, "abi");
_Static_assert(sizeof(struct mesh_nat_key) == 32, "abi");
_Static_assert(sizeof(struct mesh_nat) == 28, "abi");
_Static_assert(sizeof(struct mesh_vip_key) == 20, "abi");
_Static_assert(sizeof(struct mesh_vip) == 4, "abi");
_Static_assert(sizeof(struct mesh_set) == 8, "abi");
_Static_assert(sizeof(struct mesh_record) == 96, "abi");
_Static_assert(sizeof(struct mesh_order) == 56, "abi");
_Static_assert(sizeof(struct mesh_vector) == 24, "abi");
_Static_assert(sizeof(struct mesh_address_vector) == 24, "abi");
_Static_assert(sizeof(struct mesh_packet_vector) == 128, "abi");
_Static_assert(sizeof(struct mesh_answer) == 12, "abi");
_Static_assert(sizeof(struct mesh_origin) == 64, "abi");
_Static_assert(sizeof(struct mesh_ask) == 96, "abi");
_Static_assert(sizeof(struct mesh_remember) == 40, "abi");

#endif
