# Two workloads that talk: no mesh, this mesh, nftables with the same policy in sets, and a pair of
# sidecars (HAProxy, TCP mode). Each on a client and a server of its own, on one bridge, measured in turn;
# best of several rounds. A policy of 1,000 services and rules, in which the client may reach the server.

table_kinds="none mesh nft side"
declare -A table_ip=([none]=10.77.1 [mesh]=10.77.2 [nft]=10.77.3 [side]=10.77.4)

table_cgroup() { [ "${1%-*}" = mesh ] && echo "$NODE_CGROUP/on/$1" || echo "$NODE_CGROUP/$1"; }

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
	table_spawn "$1-s" "$build/bench-stream" sink 0.0.0.0 9000
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
	mkdir -p "$NODE_CGROUP/on/mesh-c" "$NODE_CGROUP/on/mesh-s"
	for kind in $table_kinds; do
		node_workload "$kind-c" "${table_ip[$kind]}.1" && node_workload "$kind-s" "${table_ip[$kind]}.2" && table_nginx "$kind" || return 1
	done
	table_sidecars && table_mesh && table_nftables || return 1
	for kind in $table_kinds; do
		node_wait table_in "$kind-c" curl -s -m 1 "http://$(table_to "$kind" http)/" || { echo "$kind: the server does not answer: $(tail -n 3 "$NODE/log/$kind-"[cs].log)" >&2; return 1; }
	done
}

table_to() { # where the client of this kind connects
	case "$1-$2" in
	side-http) echo 127.0.0.1:18080 ;;
	side-bulk) echo 127.0.0.1 19000 ;;
	mesh-http) echo "10.95.0.1:80" ;;
	mesh-bulk) echo "10.95.0.1 9000" ;;
	*-http) echo "${table_ip[$1]}.2:8080" ;;
	*) echo "${table_ip[$1]}.2 9000" ;;
	esac
}

table_cpu_us() { # of the client's and the server's side
	cat "$(table_cgroup "$1-c")/cpu.stat" "$(table_cgroup "$1-s")/cpu.stat" | awk '/^usage_usec/ { sum += $2 } END { print sum }'
}

# One round of one kind: a line KIND CPS RPS P50_US P99_US CPU_US_PER_REQUEST GBIT
table_round() {
	local kind=$1 seconds=$2 cps rps p50 p99 before gbit to answer
	to=$(table_to "$kind" http)
	answer=$(table_in "$kind-c" "$MESHLOAD" --seconds "$seconds" --threads 2 --request 'GET / HTTP/1.0\r\n\r\n' "$to") || return 1
	cps=$(of "$answer" 'd["ok"] / d["seconds"] if d["ok"] == d["connections"] else -1')
	before=$(table_cpu_us "$kind")
	table_in "$kind-c" wrk -t1 -c16 -d"${seconds}s" --latency "http://$to/" >"$WORK/wrk" || return 1
	read -r rps p50 p99 answer < <(/usr/bin/python3 - "$WORK/wrk" <<'PY'
import re, sys
text = open(sys.argv[1]).read()
us = lambda t: float(t[:-2]) if t.endswith("us") else float(t[:-2]) * 1000 if t.endswith("ms") else float(t[:-1]) * 1e6
bad = re.search(r"Socket errors|Non-2xx", text)
print(-1 if bad else re.search(r"Requests/sec:\s+([\d.]+)", text)[1], us(re.search(r"50%\s+(\S+)", text)[1]), us(re.search(r"99%\s+(\S+)", text)[1]),
      re.search(r"(\d+) requests in", text)[1])
PY
	)
	local cpu=$(($(table_cpu_us "$kind") - before))
	gbit=$(table_in "$kind-c" "$build/bench-stream" send $(table_to "$kind" bulk) "$seconds") || return 1
	echo "$kind $cps $rps $p50 $p99 $(awk "BEGIN { print $cpu / $answer }") $gbit" >>"$WORK/rounds"
}

table_sidecar_mib() { # of the pair
	local pids
	pids=$(pgrep -f "haproxy -db -f $NODE/haproxy-") && awk '/^Pss:/ { sum += $2 } END { printf "%.1f", sum / 1024 }' $(printf '/proc/%s/smaps_rollup ' $pids)
}

# A line of the table: each kind's best, against the bar.
table_line() { # COLUMN WHAT UNIT most|least BAR(of none, - for none)
	local column=$1 what=$2 unit=$3 better=$4 bar=$5 kind
	local -A best=()
	for kind in $table_kinds; do best[$kind]=$(awk -v k="$kind" -v c="$column" '$1 == k { print $c }' "$WORK/rounds" | $better); done
	local ratio ok
	ratio=$(awk "BEGIN { printf \"%.2f\", ${best[mesh]} / ${best[none]} }")
	if [ "$better" = most ]; then ok=$(met "${best[mesh]} > ${best[side]} && (${bar/-/0} == 0 || ${best[mesh]} >= ${bar/-/0} * ${best[none]})")
	else ok=$(met "${best[mesh]} < ${best[side]}"); fi
	show() { awk "BEGIN { printf \"%.${2}f\", $1 }"; }
	local digits=0
	[ "$unit" = Gbit/s ] && digits=1
	[[ $what = CPU* ]] && digits=1
	row table "$what, $unit" "$(show "${best[mesh]}" $digits) ($ratio of no mesh); nftables $(show "${best[nft]}" $digits), sidecars $(show "${best[side]}" $digits)" \
		"$(show "${best[none]}" $digits)" "$([ "$bar" = - ] && echo "better than sidecars" || echo "$bar of no mesh, better than sidecars")" "$ok"
}

table_run() {
	local round kind seconds
	say "two workloads that talk: $table_kinds"
	: >"$WORK/rounds"
	table_start 2>"$WORK/log" || { broken table "two workloads that talk" "$(tail -c 200 "$WORK/log")"; bench_node_end; return; }
	# Short rounds, many of them: whoever else uses this machine disturbs some, not all.
	seconds=1
	for round in $(seq "$(pick 6 2)"); do
		for kind in $table_kinds; do
			table_round "$kind" "$seconds" 2>"$WORK/log" || { broken table "two workloads that talk: $kind" "$(tail -c 200 "$WORK/log")"; bench_node_end; return; }
		done
	done
	table_line 2 "connections with a request" "a second" most 0.85
	table_line 3 "requests, kept alive, 16 connections" "a second" most 0.97
	table_line 7 "one stream" Gbit/s most 0.97
	table_line 4 "latency of a request, p50" us least -
	table_line 5 "latency of a request, p99" us least -
	table_line 6 "CPU of a request, both sides" us least -
	local meshd bpf pair
	meshd=$(rss_mib "$MESHD_PID") bpf=$(big_bpf_mib) pair=$(table_sidecar_mib)
	row table "memory of a node" "$meshd MiB meshd, $bpf MiB BPF; sidecars $(awk "BEGIN { printf \"%.1f\", $pair / 2 }") MiB a workload: less than theirs from $(awk "BEGIN { print int(($meshd + $bpf) / ($pair / 2)) + 1 }") workloads on" \
		"0" "-" -
	bench_node_end
}
