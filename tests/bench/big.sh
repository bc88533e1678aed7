# Large policies and inventories: what the compiler, the runtime and a decision cost at 10 to 10,000
# services, rules and workloads.

big_sizes=$(pick "10 100 1000 10000" "10 10000")

# A folder for each size, and for those that others want: policy.mesh, inventory.json, pairs; compiled and signed.
big_make() {
	local n
	for n in 10 100 1000 10000; do
		mkdir -p "$WORK/$n"
		/usr/bin/python3 "$here/policy.py" "$WORK/$n" "$n" "$n" --workloads "$n"
		"$MESHC" compile -k "$NODE/key" -o "$WORK/$n/policy.o" "$WORK/$n/policy.mesh" 2>/dev/null ||
			{ broken compile "$n services, $n rules" "meshc fails"; return 1; }
	done
}

big_compile() {
	local n i took peak
	local -A bars=([100]=0.3 [1000]=1 [10000]=5)
	for n in 100 1000 10000; do
		: >"$WORK/times"
		for i in $(seq "$(pick 5 2)"); do
			/usr/bin/env time -f '%e %M' -a -o "$WORK/times" "$MESHC" compile -o "$WORK/out.o" "$WORK/$n/policy.mesh" 2>/dev/null
		done
		took=$(cut -d' ' -f1 "$WORK/times" | least)
		peak=$(cut -d' ' -f2 "$WORK/times" | least)
		row compile "meshc compile, $n rules, $n services" "$took s, $((peak / 1024)) MiB at most" - "${bars[$n]} s" "$(met "$took <= ${bars[$n]}")"
	done
}

# meshd with the inventory and the policy of size N.
big_node() {
	node_stop_meshd
	meshd_ask uninstall >/dev/null 2>&1
	rm -rf "$NODE/state"
	cp "$WORK/$1/inventory.json" "$NODE/inventory.json"
	node_meshd && meshd_ask apply "$WORK/$1/policy.o" --format json >"$WORK/applied"
}

big_apply() {
	local i all=()
	big_node 10000 || { broken apply "10,000 rules applied" "meshd refuses" "500 ms"; return; }
	for i in $(seq "$(pick 5 2)"); do
		meshd_ask apply "$WORK/10/policy.o" >/dev/null
		meshd_ask apply "$WORK/10000/policy.o" --format json >"$WORK/applied.$i"
		all+=("$WORK/applied.$i")
	done
	local best
	best=$(/usr/bin/python3 -c 'import json, sys; print(json.dumps(min((json.load(open(p)) for p in sys.argv[1:]), key=lambda d: d["total_us"])))' "${all[@]}")
	row apply "meshd apply, 10,000 rules, 10,000 workloads: accept, load, prove, fill, switch" \
		"$(of "$best" '"%.0f ms (load %.0f, prove %.0f with %d vectors, fill %.0f, switch %.1f)" % (d["total_us"] / 1e3, d["load_us"] / 1e3, d["prove_us"] / 1e3, d["vectors"], d["fill_us"] / 1e3, d["switch_us"] / 1e3)')" \
		"$(of "$(cat "$WORK/applied")" '"first: %.0f ms" % (d["total_us"] / 1e3)')" "500 ms" "$(met "$(of "$best" 'd["total_us"]') <= 500000")"
}

# What the kernel charges for every map and program that is pinned, MiB.
big_bpf_mib() {
	/usr/bin/python3 - "$NODE/bpffs/mesh" <<'PY'
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
total = 0
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = ctypes.create_string_buffer(os.path.join(folder, name).encode())
        attr = ctypes.create_string_buffer(struct.pack("QII", ctypes.addressof(path), 0, 0), 128)
        fd = libc.syscall({"x86_64": 321, "aarch64": 280}[os.uname().machine], 7, attr, 128)
        if fd >= 0:
            total += sum(int(l.split()[1]) for l in open(f"/proc/self/fdinfo/{fd}") if l.startswith("memlock:"))
            os.close(fd)
print("%.1f" % (total / 2**20))
PY
}

big_memory() {
	local n what
	for n in $(pick "10 1000 10000" 10000); do
		node_stop_meshd
		meshd_ask uninstall >/dev/null 2>&1
		rm -rf "$NODE/state"
		cp "$WORK/10000/inventory.json" "$NODE/inventory.json"
		node_meshd || { broken memory "meshd, 10,000 workloads" "meshd does not start" "20 MiB"; return; }
		local loaded
		loaded="peak while the inventory was read $(peak_mib "$MESHD_PID")"
		meshd_ask apply "$WORK/$n/policy.o" >/dev/null || { broken memory "meshd, 10,000 workloads" "apply fails" "20 MiB"; return; }
		sleep 1
		what="meshd at rest, 10,000 workloads, a policy of $n rules"
		row memory "$what" "$(rss_mib "$MESHD_PID") MiB, $loaded, after apply $(peak_mib "$MESHD_PID"); BPF $(big_bpf_mib)" - "20 MiB" \
			"$(met "$(rss_mib "$MESHD_PID") <= 20")"
	done
}

big_decide() {
	local n answer hot10=
	for n in $big_sizes; do
		bench_bpf "$WORK/$n/policy.mesh" "$WORK/$n/bench.o" 2>"$WORK/log" && big_node "$n" 2>"$WORK/log" &&
			answer=$("$build/bench-decide" "$NODE/bpffs/mesh" 0 "$WORK/$n/policy.o" "$WORK/$n/bench.o" "$WORK/$n/pairs" 8080 10.96.1.0:80 2>"$WORK/log") ||
			{ broken decide "a decision, $n peers" "$(head -c 200 "$WORK/log")" "60 ns"; continue; }
		: "${hot10:=$(of "$answer" 'd["hot_ns"]')}"
		row decide "a decision, hot, $n peers, $n services (dispatch, both identities, verdict, counter)" \
			"$(of "$answer" '"%d ns (denied %d; dispatch %d; the lookup hook as it is %d)" % (d["hot_ns"], d["hot_denied_ns"], d["dispatch_ns"], d["lookup_hook_ns"])')" \
			"$(of "$answer" '"%d ns" % d["floor_ns"]')" "60 ns" "$(met "$(of "$answer" 'd["hot_ns"]') <= 60")"
		row decide "a decision, over all of $n peers in turn, without dispatch" "$(of "$answer" '"%.0f ns" % d["spread_ns"]')" \
			"$(of "$answer" '"%.0f ns" % d["spread_floor_ns"]')" "$([ "$n" = 10000 ] && echo "170 ns with dispatch" || echo -)" \
			"$([ "$n" = 10000 ] && met "$(of "$answer" 'd["spread_ns"] + max(0, d["dispatch_ns"])') <= 170" || echo -)"
	done
	[ -n "$hot10" ] && [ -n "$answer" ] || return
	row decide "hot at 10,000 peers against 10" "$(of "$answer" "'%.2f' % (d['hot_ns'] / $hot10)")" - "1.3" "$(met "$(of "$answer" 'd["hot_ns"]') <= 1.3 * $hot10")"
	row decide "the parts of opening a connection, each hot" \
		"$(of "$answer" '"dispatch %d, caller %.0f, service address %.0f, peer %.0f, verdict %.0f, backend %.0f, storage %.0f, count %.0f, record %.0f ns" % ((d["dispatch_ns"],) + tuple(d["parts"][k + "_ns"] for k in ("identity", "vip", "party", "decide", "pick", "storage", "count", "record")))')" \
		"their own loops" - -
}

# Two generations that decide alike but for one rule.
big_flip() {
	local answer
	{ echo 'mesh bench: trust "bench.example", ingress deny, egress allow;
mtls off because "a benchmark";
namespace bench;
service s0 { workload app == "s0"; tcp 8080; }
service s1 { workload app == "s1"; tcp 8080; }'; } >"$WORK/flip0.mesh"
	{ cat "$WORK/flip0.mesh"; echo 'allow one: from s1 to s0;'; } >"$WORK/flip1.mesh"
	big_node 10 2>/dev/null || { broken flip "store to first new decision" "meshd refuses" "100 us"; return; }
	for n in 0 1; do
		"$MESHC" compile -k "$NODE/key" -o "$WORK/flip$n.o" "$WORK/flip$n.mesh" 2>/dev/null && meshd_ask apply "$WORK/flip$n.o" >/dev/null ||
			{ broken flip "store to first new decision" "apply fails" "100 us"; return; }
	done
	# Workload k is of service k mod 10: 10.128.0.1 is an s1, 10.128.0.10 an s0.
	answer=$("$build/bench-flip" "$NODE/bpffs/mesh" 2 1 10.128.0.1 10.128.0.10 8080 "$(pick 20000 4000)" 2>"$WORK/log") ||
		{ broken flip "store to first new decision" "$(head -c 200 "$WORK/log")" "100 us"; return; }
	row flip "from the store to the first new decision on the slowest of $(of "$answer" 'd["cpus"]') CPUs, $(of "$answer" 'd["rounds"]') switches" \
		"$(of "$answer" '"p50 %.1f, p99 %.1f, worst %.1f us; %d old decisions begun after the store" % (d["p50_us"], d["p99_us"], d["p100_us"], d["late"])')" \
		"$(of "$answer" '"asking: %.1f us" % d["ask_us"]')" "100 us" "$(met "$(of "$answer" 'd["p99_us"]') <= 100 && $(of "$answer" 'd["late"]') == 0")"
}

big_run() {
	local part
	say "large policies: $*"
	node_begin bench
	bench_config bench <<END
enrol:
  namespaces: [bench]
END
	big_make || return
	for part in "$@"; do "big_$part"; done
	bench_node_end
}
