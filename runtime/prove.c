/* The proof: the bundle's vectors, replayed on this kernel by an instance with maps of its own. */
#include "base/apart.h"
#include "base/bundle.h"
#include "kernel_internal.h"
#include "names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	POOL = 64,	  /* requests that each address vector chooses from */
	PROBES = 8,	  /* and how many of them are asked */
	PROOF_CALLER = 1, /* endpoints of the packet vectors (abi.h) */
	PROOF_RECEIVER = 2,
	PROOF_CLASSES = 16,					/* endpoint PROOF_CLASSES + c is of class c */
	PROOF_CHUNK = 8192,					/* decisions of one run */
	ANSWER_STRIDE = (sizeof(struct mesh_answer) + 7) & ~7u, /* as an array map lays its elements */
};

struct proof {
	struct object object;
	const struct names *names; /* NULL: none */
	uint32_t rules, replayed, classes;
	struct peers peers;
	const struct mesh_vector *decisions;
	const struct mesh_address_vector *addresses;
	const struct mesh_packet_vector *packets;
	const struct mesh_vectors *counts;
	uint32_t *world, world_count; /* decisions whose source is `world` */
	struct mesh_vector *vectors;  /* mapped */
	char *answers;		      /* mapped */
	uint32_t capacity;
	int prove, lookup, ingress, egress;
	struct ring_buffer *records;
	struct mesh_record record;
	bool recorded;
	struct why *why;
};

/* ---- Names ------------------------------------------------------------------------------------------ */

struct name {
	char text[80];
};

static struct name class_name(const struct proof *proof, uint32_t class)
{
	struct name name;
	const char *known = names_class(proof->names, class);
	snprintf(name.text, sizeof(name.text), "%s (class %u)", known ? known : "?", class);
	return name;
}

static struct name outcome_name(const struct proof *proof, bool allow, uint32_t rule)
{
	struct name name;
	const char *by = names_rule(proof->names, rule);
	snprintf(name.text, sizeof(name.text), "%s by %s", allow ? "allow" : "deny", by ? by : "a rule that is none");
	return name;
}

static struct name address_name(const uint8_t address[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct name name;
	bool v4 = memcmp(address, mapped, sizeof(mapped)) == 0;
	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, name.text, sizeof(name.text));
	return name;
}

/* ---- The instance ----------------------------------------------------------------------------------- */

static int size_maps(struct proof *proof)
{
	const struct {
		const char *name;
		uint32_t entries;
	} sizes[] = {
		{"peers4", peers_buckets(PROOF_CLASSES + proof->classes)},
		{"peers6", PROOF_CLASSES + proof->classes},
		{"classes", PROOF_CLASSES + proof->classes},
		{"vectors", proof->capacity},
		{"answers", proof->capacity},
		{"netns", 1},
		{"exact", 1},
		{"flows", 1024},
		{"nat", 64},
		{"vips", 1},
		{"backends", 2},
		{"records", 1 << 16},
		{"orders", 1 << 12},
	};
	int r = 0;
	for (size_t i = 0; !r && i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(proof->object.bpf, sizes[i].name);
		r = map ? bpf_map__set_max_entries(map, sizes[i].entries) : -EINVAL;
	}
	return r;
}

/* The other programs cannot be run by TEST_RUN: their decision is the one that `prove` shows. */
static int choose_programs(struct proof *proof)
{
	static const char *const run[] = {"prove", "lookup", "ingress", "egress"};
	struct bpf_program *program;
	int r = 0;
	bpf_object__for_each_program (program, proof->object.bpf) {
		bool wanted = false;
		for (size_t i = 0; i < sizeof(run) / sizeof(*run); i++)
			wanted = wanted || strcmp(bpf_program__name(program), run[i]) == 0;
		r = r ? r : bpf_program__set_autoload(program, wanted);
	}
	return r;
}

static int program_fd(const struct proof *proof, const char *name)
{
	const struct bpf_program *program = bpf_object__find_program_by_name(proof->object.bpf, name);
	return program ? bpf_program__fd(program) : -ENOENT;
}

static int map_fd(const struct proof *proof, const char *name)
{
	return bpf_object__find_map_fd_by_name(proof->object.bpf, name);
}

static size_t mapped_bytes(uint32_t entries, size_t stride)
{
	size_t page = sysconf(_SC_PAGESIZE);
	return (entries * stride + page - 1) / page * page;
}

static void *map_elements(const struct proof *proof, const char *name, size_t stride)
{
	void *at = mmap(NULL, mapped_bytes(proof->capacity, stride), PROT_READ | PROT_WRITE, MAP_SHARED,
			map_fd(proof, name), 0);
	return at == MAP_FAILED ? NULL : at;
}

/* ENDPOINT's two addresses, as abi.h has them. */
static void proof_addresses(uint32_t endpoint, uint8_t ret_v4[4], uint8_t ret_v6[16])
{
	uint32_t v4 = htonl(MESH_PROOF_V4 | endpoint);
	memcpy(ret_v4, &v4, 4);
	memset(ret_v6, 0, 16);
	ret_v6[0] = 1;
	ret_v6[14] = endpoint >> 8;
	ret_v6[15] = endpoint;
}

static int put_endpoint(const struct proof *proof, uint32_t endpoint, uint32_t class)
{
	struct mesh_class value = {.src = class, .dst = class};
	struct mesh_peer peer = {.endpoint = endpoint, .flags = MESH_PEER_ENROLLED | MESH_PEER_LOCAL};
	uint32_t v4;
	uint8_t v6[16];
	proof_addresses(endpoint, (uint8_t *)&v4, v6);
	int r = bpf_map_update_elem(map_fd(proof, "classes"), &endpoint, &value, BPF_ANY);
	if (!r)
		r = peers_put(&proof->peers, v4, endpoint, peer.flags);
	return r ? r : bpf_map_update_elem(map_fd(proof, "peers6"), v6, &peer, BPF_ANY);
}

static int fill_maps(struct proof *proof)
{
	struct mesh_control control = {.active = 1, .epoch = 1, .record_rate = UINT32_MAX};
	__u32 zero = 0;
	int r = peers_map(map_fd(proof, "peers4"), &proof->peers);
	control.peer_mask = proof->peers.mask;
	if (!r)
		r = bpf_map_update_elem(map_fd(proof, "control"), &zero, &control, BPF_ANY);
	if (!r)
		r = put_endpoint(proof, PROOF_CALLER, MESH_CLASS_OTHER);
	if (!r)
		r = put_endpoint(proof, PROOF_RECEIVER, MESH_CLASS_OTHER);
	for (uint32_t class = 0; !r && class < proof->classes; class ++)
		r = put_endpoint(proof, PROOF_CLASSES + class, class);
	return r;
}

static int keep_record(void *context, void *data, size_t len)
{
	struct proof *proof = context;
	if (len < sizeof(proof->record))
		return 0;
	memcpy(&proof->record, data, sizeof(proof->record));
	proof->recorded = true;
	return 0;
}

static int instance_start(struct proof *proof, const void *elf, size_t len)
{
	int r = object_open(elf, len, &proof->object, proof->why);
	if (r)
		return r;
	r = size_maps(proof);
	if (!r)
		r = choose_programs(proof);
	if (r)
		return why_set(proof->why, r, "the bundle lacks a map or program of the proof");
	r = object_load(&proof->object, proof->why);
	if (r)
		return r;
	proof->prove = program_fd(proof, "prove");
	proof->lookup = program_fd(proof, "lookup");
	proof->ingress = program_fd(proof, "ingress");
	proof->egress = program_fd(proof, "egress");
	if (proof->prove < 0 || proof->lookup < 0 || proof->ingress < 0 || proof->egress < 0)
		return why_set(proof->why, -EINVAL, "the bundle lacks a program of the proof");
	proof->vectors = map_elements(proof, "vectors", sizeof(struct mesh_vector));
	proof->answers = map_elements(proof, "answers", ANSWER_STRIDE);
	proof->records = ring_buffer__new(map_fd(proof, "records"), keep_record, proof, NULL);
	if (!proof->vectors || !proof->answers || !proof->records)
		return why_set(proof->why, -ENOMEM, "the proof's maps cannot be mapped");
	r = fill_maps(proof);
	return r ? why_set(proof->why, r, "filling the proof's maps: %s", strerror(-r)) : 0;
}

static void instance_stop(struct proof *proof)
{
	if (proof->vectors)
		munmap(proof->vectors, mapped_bytes(proof->capacity, sizeof(struct mesh_vector)));
	if (proof->answers)
		munmap(proof->answers, mapped_bytes(proof->capacity, ANSWER_STRIDE));
	peers_unmap(&proof->peers);
	ring_buffer__free(proof->records);
	if (proof->object.bpf)
		object_close(&proof->object);
	free(proof->world);
}

/* ---- Decisions -------------------------------------------------------------------------------------- */

/* Decides the first COUNT elements of map "vectors". */
static int decide(struct proof *proof, uint32_t count)
{
	for (uint32_t first = 0; first < count; first += PROOF_CHUNK) {
		struct mesh_prove context = {.first = first};
		context.count = count - first < PROOF_CHUNK ? count - first : PROOF_CHUNK;
		LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &context, .ctx_size_in = sizeof(context));
		int r = bpf_prog_test_run_opts(proof->prove, &options);
		if (r)
			return why_set(proof->why, r, "the proof does not run on this kernel: %s", strerror(-r));
		if (context.done != context.count)
			return why_set(proof->why, -EILSEQ, "the proof decided %u of %u requests", context.done,
				       context.count);
	}
	return 0;
}

static const struct mesh_answer *answer_at(const struct proof *proof, uint32_t i)
{
	return (const struct mesh_answer *)(proof->answers + (size_t)i * ANSWER_STRIDE);
}

static int prove_decisions(struct proof *proof)
{
	uint32_t count = proof->counts->decisions;
	if (count)
		memcpy(proof->vectors, proof->decisions, count * sizeof(*proof->vectors));
	int r = decide(proof, count);
	if (r)
		return r;
	for (uint32_t i = 0; i < count; i++, proof->replayed++) {
		const struct mesh_vector *vector = &proof->decisions[i];
		const struct mesh_answer *answer = answer_at(proof, i);
		if (answer->rule == vector->rule && answer->audit == vector->audit &&
		    answer->verdict == vector->verdict)
			continue;
		return why_set(proof->why, -EILSEQ,
			       "from %s, block %u, to %s, %s %u: expected %s, audits %u; got %s, audits %u",
			       class_name(proof, vector->src).text, vector->block, class_name(proof, vector->dst).text,
			       vector->protocol == IPPROTO_UDP ? "udp" : "tcp", vector->port,
			       outcome_name(proof, vector->verdict, vector->rule).text, vector->audit,
			       outcome_name(proof, answer->verdict, answer->rule).text, answer->audit);
	}
	return 0;
}

/* ---- Addresses -------------------------------------------------------------------------------------- */

static bool is_proof_address(const struct proof *proof, const uint8_t address[16])
{
	uint8_t v4[16] = {[10] = 0xff, [11] = 0xff}, v6[16];
	uint32_t endpoint = address[14] << 8 | address[15];
	proof_addresses(endpoint, v4 + 12, v6);
	return endpoint && endpoint < PROOF_CLASSES + proof->classes &&
	       (memcmp(address, v4, 16) == 0 || memcmp(address, v6, 16) == 0);
}

/* A connection from ADDRESS to the proof endpoint of the request's destination. */
static int run_lookup(const struct proof *proof, const uint8_t address[16], const struct mesh_vector *request)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct bpf_sk_lookup context = {.protocol = request->protocol, .local_port = request->port};
	uint8_t v4[4], v6[16];
	proof_addresses(PROOF_CLASSES + request->dst, v4, v6);
	context.remote_port = htons(40000);
	if (memcmp(address, mapped, sizeof(mapped)) == 0) {
		context.family = AF_INET;
		memcpy(&context.remote_ip4, address + 12, 4);
		memcpy(&context.local_ip4, v4, 4);
	} else {
		context.family = AF_INET6;
		memcpy(context.remote_ip6, address, 16);
		memcpy(context.local_ip6, v6, 16);
	}
	LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &context, .ctx_size_in = sizeof(context));
	int r = bpf_prog_test_run_opts(proof->lookup, &options);
	return r ? r : (int)options.retval;
}

static int run_packet(int program, const void *packet, size_t bytes, bool v6)
{
	uint8_t frame[ETH_HLEN + 256] = {[12] = v6 ? 0x86 : 0x08, [13] = v6 ? 0xdd : 0x00};
	if (bytes > sizeof(frame) - ETH_HLEN)
		return -EINVAL;
	memcpy(frame + ETH_HLEN, packet, bytes);
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = ETH_HLEN + bytes);
	int r = bpf_prog_test_run_opts(program, &options);
	return r ? r : (int)options.retval;
}

/* A datagram from the receiver's proof endpoint to ADDRESS: its record says as what that was taken. */
static int run_egress(struct proof *proof, const uint8_t address[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	uint8_t packet[48] = {0}, v4[4], v6[16];
	static const uint8_t ports[4] = {0x9c, 0x40, 0x00, 0x35};
	bool is_v6 = memcmp(address, mapped, sizeof(mapped)) != 0;
	proof_addresses(PROOF_RECEIVER, v4, v6);
	if (is_v6) {
		packet[0] = 0x60;
		packet[5] = 8;
		packet[6] = IPPROTO_UDP;
		memcpy(packet + 8, v6, 16);
		memcpy(packet + 24, address, 16);
		memcpy(packet + 40, ports, 4);
	} else {
		packet[0] = 0x45;
		packet[3] = 28;
		packet[9] = IPPROTO_UDP;
		memcpy(packet + 12, v4, 4);
		memcpy(packet + 16, address + 12, 4);
		memcpy(packet + 20, ports, 4);
	}
	proof->recorded = false;
	int r = run_packet(proof->egress, packet, is_v6 ? 48 : 28, is_v6);
	if (r >= 0)
		ring_buffer__consume(proof->records);
	return r;
}

/* Requests of `world`, spread over its destinations, and from another start for each address: first as
 * from this address's block, then as from its neighbour's. Returns how many. */
static uint32_t pool_fill(struct proof *proof, uint32_t i)
{
	uint32_t count = proof->world_count < POOL ? proof->world_count : POOL, last = proof->counts->addresses - 1;
	uint32_t neighbour = i ? i - 1 : last ? 1 : 0;
	for (uint32_t k = 0; k < count; k++) {
		uint64_t at = ((uint64_t)i * 7919 + (uint64_t)k * proof->world_count / count) % proof->world_count;
		struct mesh_vector *own = &proof->vectors[k], *other = own + count;
		*own = *other = proof->decisions[proof->world[at]];
		own->via = other->via = MESH_VIA_WIRE;
		own->block = proof->addresses[i].block;
		other->block = proof->addresses[neighbour].block;
	}
	return count;
}

static int probe(struct proof *proof, const struct mesh_address_vector *vector, uint32_t k)
{
	const struct mesh_vector *request = &proof->vectors[k];
	bool expected = answer_at(proof, k)->verdict;
	int pass = run_lookup(proof, vector->address, request);
	if (pass < 0)
		return why_set(proof->why, pass, "sk_lookup does not run on this kernel: %s", strerror(-pass));
	if (pass == expected)
		return 0;
	return why_set(proof->why, -EILSEQ, "from %s (block %u) to %s, %s %u: expected %s, got %s",
		       address_name(vector->address).text, vector->block, class_name(proof, request->dst).text,
		       request->protocol == IPPROTO_UDP ? "udp" : "tcp", request->port, expected ? "allow" : "deny",
		       pass ? "allow" : "deny");
}

/* As a source: the lookup program must decide as `prove` does for the block that is expected. Asked
 * first are the requests whose verdict would be another in the neighbouring block. */
static int prove_source(struct proof *proof, uint32_t i)
{
	uint32_t count = pool_fill(proof, i), asked = 0;
	int r = decide(proof, 2 * count);
	for (int telling = 1; telling >= 0; telling--)
		for (uint32_t k = 0; !r && k < count && asked < (telling ? PROBES : PROBES / 4); k++) {
			if ((answer_at(proof, k)->verdict != answer_at(proof, count + k)->verdict) != telling)
				continue;
			r = probe(proof, &proof->addresses[i], k);
			asked++;
		}
	return r;
}

static int prove_destination(struct proof *proof, const struct mesh_address_vector *vector)
{
	int r = run_egress(proof, vector->address);
	if (r < 0)
		return why_set(proof->why, r, "egress does not run on this kernel: %s", strerror(-r));
	if (!proof->recorded)
		return why_set(proof->why, -EILSEQ, "to %s: no decision was recorded",
			       address_name(vector->address).text);
	if (proof->record.dst_class != vector->dst)
		return why_set(proof->why, -EILSEQ, "to %s: expected %s, got %s", address_name(vector->address).text,
			       class_name(proof, vector->dst).text, class_name(proof, proof->record.dst_class).text);
	return 0;
}

static int prove_addresses(struct proof *proof)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < proof->counts->addresses; i++) {
		if (is_proof_address(proof, proof->addresses[i].address))
			continue;
		r = prove_source(proof, i);
		if (!r)
			r = prove_destination(proof, &proof->addresses[i]);
		proof->replayed += !r;
	}
	return r;
}

/* ---- Packets ---------------------------------------------------------------------------------------- */

static int prove_packets(struct proof *proof)
{
	for (uint32_t i = 0; i < proof->counts->packets; i++, proof->replayed++) {
		const struct mesh_packet_vector *vector = &proof->packets[i];
		if (!vector->bytes || vector->bytes > sizeof(vector->packet))
			return why_set(proof->why, -EINVAL, "packet vector %u has %u bytes", i, vector->bytes);
		int pass = run_packet(proof->ingress, vector->packet, vector->bytes, vector->packet[0] >> 4 == 6);
		if (pass < 0)
			return why_set(proof->why, pass, "ingress does not run on this kernel: %s", strerror(-pass));
		if (pass != vector->pass)
			return why_set(proof->why, -EILSEQ, "packet vector %u (IPv%u, %u bytes): expected %s, got %s",
				       i, vector->packet[0] >> 4, vector->bytes, vector->pass ? "pass" : "drop",
				       pass ? "pass" : "drop");
	}
	return 0;
}

/* ---- All of it -------------------------------------------------------------------------------------- */

static int proof_read(struct proof *proof, const struct mesh_vectors *vectors, size_t len)
{
	if (len < sizeof(*vectors) || vectors->magic != MESH_VECTORS_MAGIC ||
	    len != sizeof(*vectors) + (uint64_t)vectors->decisions * sizeof(*proof->decisions) +
			    (uint64_t)vectors->addresses * sizeof(*proof->addresses) +
			    (uint64_t)vectors->packets * sizeof(*proof->packets))
		return why_set(proof->why, -EINVAL, "the proof's vectors are damaged");
	proof->counts = vectors;
	proof->decisions = (const void *)(vectors + 1);
	proof->addresses = (const void *)(proof->decisions + vectors->decisions);
	proof->packets = (const void *)(proof->addresses + vectors->addresses);
	proof->capacity = vectors->decisions < 2 * POOL ? 2 * POOL : vectors->decisions;
	proof->classes = MESH_CLASS_FIRST;
	proof->world = malloc(((size_t)vectors->decisions + 1) * sizeof(*proof->world));
	if (!proof->world)
		return why_set(proof->why, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < vectors->decisions; i++) {
		uint32_t dst = proof->decisions[i].dst;
		/* Endpoints have 16 bits of their addresses. */
		if (dst >= 0xffff - PROOF_CLASSES)
			continue;
		if (dst >= proof->classes)
			proof->classes = dst + 1;
		if (proof->decisions[i].src == MESH_CLASS_WORLD)
			proof->world[proof->world_count++] = i;
	}
	return 0;
}

struct proving {
	const void *elf;
	size_t len;
	const struct mesh_vectors *vectors;
	size_t vectors_len;
	const struct names *names;
};

static void prove_apart(void *context, struct apart *ret)
{
	const struct proving *proving = context;
	struct proof proof = {.rules = names_rules(proving->names), .names = proving->names, .why = &ret->why};
	int r = proof_read(&proof, proving->vectors, proving->vectors_len);
	if (!r)
		r = instance_start(&proof, proving->elf, proving->len);
	if (!r)
		r = prove_decisions(&proof);
	if (!r)
		r = prove_addresses(&proof);
	if (!r)
		r = prove_packets(&proof);
	if (!r)
		ret->count = proof.replayed;
	ret->result = r;
	instance_stop(&proof);
}

int kernel_prove(struct kernel *kernel, const void *elf, size_t len, const struct mesh_vectors *vectors,
		 size_t vectors_len, const struct names *names, uint32_t *ret_count, struct why *why)
{
	struct proving proving = {elf, len, vectors, vectors_len, names};
	(void)kernel;
	return apart_run(prove_apart, &proving, ret_count, why);
}
