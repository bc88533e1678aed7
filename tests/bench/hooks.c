/* The kernel's own price of looking at every packet: hooks CGROUP... attaches a program that says yes, and nothing
 * else, to both packet hooks of each. They go with the cgroup. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int attach_empty(int cgroup, enum bpf_attach_type where)
{
	struct bpf_insn yes[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = where);
	int program =
		bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "b_yes", "GPL", yes, sizeof(yes) / sizeof(*yes), &options);
	return program < 0 ? program : bpf_prog_attach(program, cgroup, where, 0);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		int cgroup = open(argv[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (cgroup < 0 || attach_empty(cgroup, BPF_CGROUP_INET_INGRESS) ||
		    attach_empty(cgroup, BPF_CGROUP_INET_EGRESS)) {
			fprintf(stderr, "hooks: %s: %s\n", argv[i], strerror(errno));
			return 2;
		}
	}
	return argc > 1 ? 0 : 2;
}
