# Two workloads that talk: no mesh, this mesh, two empty packet hooks (what the kernel takes for asking anybody about
# each packet: this mesh's floor), nftables with the same policy in sets, and a pair of sidecars (HAProxy, TCP mode).
# Each on a client and a server of its own, on one bridge, measured in turn: 25 ms each by a client of our own
# (talk.c), a second each by wrk. A policy of 1,000 services and rules, in which the client may reach the server.

table_kinds="none mesh hooks nft side"
declare -A table_ip=([none]=10.77.1 [mesh]=10.77.2 [hooks]=10.77.5 [nft]=10.77.3 [side]=10.77.4)

# All as deep: accounting has a price for each level.
table_cgroup() { [ "${1%-*}" = mesh ] && echo "$NODE_CGROUP/on/$1" || echo "$NODE_CGROUP/off/$1"; }

# table_in KIND-c|KIND-s COMMAND...
table_in() {
	local who=$1
	shift
	(
		echo $BASHPID >"$(table_cgroup "$who")/cgroup.procs"
		exec nsenter --net="/run/netns/$(node_netns "$who")" "$@"
	)
}
table_spawn() {
	local who=$1
	table_in "$@" >>"$NODE/log/$who.log" 2>&1 </dev/null &
	NODE_PIDS+=($!)
}

table_nginx() {
	cat >"$NODE/nginx-$1.conf" <<END
daemon off;
worker_processes 1;
pid $NODE/nginx-$1.pid;
error_log $NODE/log/nginx-$1.log;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path $NODE/nginx-$1.tmp;
  proxy_temp_path $NODE/nginx-$1.tmp;
  fastcgi_temp_path $NODE/nginx-$1.tmp;
  uwsgi_temp_path $NODE/nginx-$1.tmp;
  scgi_temp_path $NODE/nginx-$1.tmp;
  server {
    listen 8080 backlog=8192;
    location / { return 200 "ok"; }
  }
}
END
	table_spawn "$1-s" nginx -c "$NODE/nginx-$1.conf" -e "$NODE/log/nginx-$1.log"
	table_spawn "$1-s" "$build/bench-stream" 0.0.0.0 9000 last
}

# The client's proxy to the server's, the server's to the server: ports 8080 and 9000.
table_sidecars() {
	local side
	for side in c s; do
		{
			printf 'global\n  maxconn 4000\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n'
			printf 'frontend http\n  bind %s\n  default_backend http\nfrontend bulk\n  bind %s\n  default_backend bulk\n' \
				"$([ $side = c ] && echo 127.0.0.1:18080 || echo 0.0.0.0:15008)" "$([ $side = c ] && echo 127.0.0.1:19000 || echo 0.0.0.0:15009)"
			printf 'backend http\n  server one %s\nbackend bulk\n  server one %s\n' \
				"$([ $side = c ] && echo "${table_ip[side]}.2:15008" || echo 127.0.0.1:8080)" "$([ $side = c ] && echo "${table_ip[side]}.2:15009" || echo 127.0.0.1:9000)"
		} >"$NODE/haproxy-$side.cfg"
		table_spawn side-$side haproxy -db -f "$NODE/haproxy-$side.cfg"
	done
}

# The policy as a stateful filter, on both sides: who may reach whom on which port.
table_nftables() {
	local elements side
	elements=$(awk '{ printf "%s . %s . 8080,\n", $1, $2 }' "$WORK/table/allowed" | sort -u)
	for side in c s; do
		table_in nft-$side nft -f - <<END || return 1
table inet mesh {
	set allowed {
		type ipv4_addr . ipv4_addr . inet_service
		elements = { $elements ${table_ip[nft]}.1 . ${table_ip[nft]}.2 . 8080, ${table_ip[nft]}.1 . ${table_ip[nft]}.2 . 9000 }
	}
	chain decide {
		ct state established,related accept
		ip saddr . ip daddr . tcp dport @allowed counter accept
		meta l4proto tcp counter reject with tcp reset
	}
	chain in { type filter hook input priority 0; iifname "lo" accept; jump decide; }
	chain out { type filter hook output priority 0; oifname "lo" accept; jump decide; }
}
END
	done
}

table_mesh() {
	mkdir -p "$WORK/table"
	/usr/bin/python3 "$here/policy.py" "$WORK/table" 1000 1000 --workloads 1000
	cat >>"$WORK/table/policy.mesh" <<END
service client { workload app == "client"; tcp 8080; }
service server { workload app == "server"; address 10.95.0.1; tcp 80 to 8080; tcp 9000; }
allow bench: from client to server;
END
	awk '!seen[$0]++' "$WORK/table/pairs" | head -1000 >"$WORK/table/allowed"
	/usr/bin/python3 - "$WORK/table/inventory.json" "${table_ip[mesh]}" "$NODE_NAME" >"$NODE/inventory.json" <<'PY'
import json, sys
inventory = json.load(open(sys.argv[1]))
for name, last in (("client", 1), ("server", 2)):
    inventory["workloads"].append({"namespace": "bench", "name": name, "labels": {"app": name}, "addresses": [f"{sys.argv[2]}.{last}"],
                                   "node": "n1", "netns": f"/run/netns/mesh-{sys.argv[3]}-mesh-{name[0]}"})
print(json.dumps(inventory))
PY
	bench_config bench <<END
enrol:
  namespaces: [bench]
END
	sed -i "s|^cgroup:.*|cgroup: $NODE_CGROUP/on|" "$NODE/meshd.yaml"
	"$MESHC" compile -k "$NODE/key" -o "$NODE/policy.o" "$WORK/table/policy.mesh" 2>/dev/null && node_meshd && meshd_ask apply "$NODE/policy.o" >/dev/null
}

table_start() {
	local kind
	node_begin bench
	for kind in $table_kinds; do
		mkdir -p "$(table_cgroup "$kind-c")" "$(table_cgroup "$kind-s")"
		node_workload "$kind-c" "${table_ip[$kind]}.1" && node_workload "$kind-s" "${table_ip[$kind]}.2" && table_nginx "$kind" || return 1
	done
	"$build/bench-hooks" "$(table_cgroup hooks-c)" "$(table_cgroup hooks-s)" || return 1
	table_sidecars && table_mesh && table_nftables || return 1
	for kind in $table_kinds; do
		node_wait table_in "$kind-c" curl -s -m 1 "http://$(table_to "$kind" http)/" || { echo "$kind: the server does not answer: $(tail -n 3 "$NODE/log/$kind-"[cs].log)" >&2; return 1; }
	done
}

table_to() { # where the client of this kind connects
	case "$1-$2" in
	side-http) echo 127.0.0.1:18080 ;;
	side-bulk) echo 127.0.0.1:19000 ;;
	mesh-http) echo 10.95.0.1:80 ;;
	mesh-bulk) echo 10.95.0.1:9000 ;;
	*-http) echo "${table_ip[$1]}.2:8080" ;;
	*) echo "${table_ip[$1]}.2:9000" ;;
	esac
}

table_talk() {
	local kind arguments=()
	for kind in $table_kinds; do
		arguments+=("$kind" "/run/netns/$(node_netns "$kind-c")" "$(table_cgroup "$kind-c")" "$(table_cgroup "$kind-s")"
			"$(table_to "$kind" http)" "$(table_to "$kind" bulk)")
	done
	timeout 240 "$build/bench-talk" "$1" "$2" "${arguments[@]}"
}

# Rounds of wrk: one thread, 16 connections kept. A line for each, an object by kind.
table_wrk() {
	local kinds=($table_kinds) round i kind
	for ((round = 0; round < $1; round++)); do
		for ((i = 0; i < ${#kinds[@]}; i++)); do
			kind=${kinds[(round + i) % ${#kinds[@]}]}
			printf '"%s": %s\n' "$kind" "$(table_in "$kind-c" timeout 20 wrk -t1 -c16 -d1s -s "$here/wrk.lua" "http://$(table_to "$kind" http)/" | tail -1)"
		done | paste -sd, | sed 's/.*/{&}/'
	done
}

table_sidecar_mib() { # of the pair
	local pids
	pids=$(pgrep -f "haproxy -db -f $NODE/haproxy-") && awk '/^Rss:/ { sum += $2 } END { printf "%.1f", sum / 1024 }' $(printf '/proc/%s/smaps_rollup ' $pids)
}

# table_line KEY WHAT FORMAT BAR: a rate, against the bar; BAR none: told alone; BAR less: what is less is better.
table_line() {
	local key=$1 what=$2 format=$3 bar=$4 ratio ok=- floor="" d=$TALK
	if [ "$bar" = less ]; then
		bar="better than sidecars"
		ratio=$(of "$d" "'%.2f' % (d['mesh']['$key'] / d['none']['$key'])")
		ok=$(met "$(of "$d" "d['mesh']['$key']") < $(of "$d" "d['side']['$key']")")
	else
		ratio=$(of "$d" "d['mesh']['${key}_ratio']")
		floor=", empty packet hooks alone $(of "$d" "d['hooks']['${key}_ratio']")"
		[ "$bar" = none ] || ok=$(met "$ratio >= $bar && $ratio > $(of "$d" "d['side']['${key}_ratio']")")
		[ "$bar" = none ] && bar=- || bar="$bar of no mesh, better than sidecars"
	fi
	row table "$what" "$(of "$d" "'$format (' % d['mesh']['$key'] + '$ratio of no mesh$floor); nftables $format, sidecars $format' % (d['nft']['$key'], d['side']['$key'])")" \
		"$(of "$d" "'$format' % d['none']['$key']")" "$bar" "$ok"
}

# Figures of several set-ups as one: of talk ratios, latencies and CPU on average, rates of the best; of wrk's rounds
# the median ratio and the best rate.
table_sum() { # TALKS WRKS
	/usr/bin/python3 - "$1" "$2" <<'PY'
import json, statistics, sys
talks, rounds = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
def one(kind, key):
    values = [run[kind][key] for run in talks]
    if key.endswith("_ratio"):
        return round(sum(values) / len(values), 3)
    return max(values) if key.endswith("_s") else sum(values) / len(values)
figures = {kind: {key: one(kind, key) for key in talks[0][kind]} for kind in talks[0]}
for kind, figure in figures.items():
    if any(said[kind]["errors"] for said in rounds):
        sys.exit(f"{kind}: wrk counts errors")
    figure["wrk_per_s"] = max(said[kind]["wrk_per_s"] for said in rounds)
    figure["wrk_per_s_ratio"] = round(statistics.median(said[kind]["wrk_per_s"] / said["none"]["wrk_per_s"] for said in rounds), 3)
print(json.dumps(figures))
PY
}

# Where in memory things happen to lie when they start is worth a per cent, one way or the other: each of these starts
# anew.
table_setups=6
table_run() {
	local setup
	for ((setup = 1; setup <= table_setups; setup++)); do
		say "two workloads that talk: $table_kinds (set-up $setup of $table_setups)"
		[ $setup = 1 ] || bench_node_end
		table_start 2>"$WORK/log" && table_talk "$(pick 40 8)" 25 >>"$WORK/talks" 2>"$WORK/log" && table_wrk "$(pick 3 1)" >>"$WORK/wrks" 2>"$WORK/log" ||
			{ broken table "two workloads that talk" "$(tail -c 200 "$WORK/log")"; bench_node_end; return; }
	done
	TALK=$(table_sum "$WORK/talks" "$WORK/wrks" 2>"$WORK/log") || { broken table "two workloads that talk" "$(tail -c 200 "$WORK/log")"; bench_node_end; return; }
	say "ratios of each set-up: $(of "[$(paste -sd, "$WORK/talks")]" "', '.join(f\"{r['mesh']['connections_per_s_ratio']}/{r['mesh']['requests_per_s_ratio']}/{r['mesh']['gbit_per_s_ratio']}\" for r in d)")"
	table_line connections_per_s "connections with a request, a second" %.0f 0.85
	table_line wrk_per_s "requests a second, 16 connections kept (wrk)" %.0f 0.97
	table_line requests_per_s "... by the client of our own (talk.c)" %.0f none
	table_line gbit_per_s "one stream between two CPUs, Gbit/s" %.1f 0.97
	table_line p50_us "latency of a request, p50, us" %.0f less
	table_line p99_us "latency of a request, p99, us" %.0f less
	table_line cpu_us "CPU of a request, both sides, us" %.1f less
	local meshd bpf pair
	meshd=$(rss_mib "$MESHD_PID") bpf=$(big_bpf_mib) pair=$(table_sidecar_mib)
	row table "memory of a node" "$meshd MiB meshd, $bpf MiB BPF; sidecars $(awk "BEGIN { printf \"%.1f\", $pair / 2 }") MiB a workload: less than theirs from $(awk "BEGIN { print int(($meshd + $bpf) / ($pair / 2)) + 1 }") workloads on" \
		"0" "-" -
	bench_node_end
}
