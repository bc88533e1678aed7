# Mutual TLS between two nodes: no mesh (the floor: plain TCP), this mesh (a meshd and a meshp for each end), a pair of
# HAProxy and a pair of stunnel that do mTLS 1.3 with the same certificates. Each on a client and a server of its own, on
# one bridge, measured in turn (tunnel.c).

mtls_kinds="none mesh haproxy stunnel"
declare -A mtls_ip=([none]=10.77.1 [mesh]=10.77.2 [haproxy]=10.77.3 [stunnel]=10.77.4)

# The mesh's client is on node n1, its server on n2.
mtls_cgroup() { case "$1" in mesh-c) echo "$NODE_CGROUP/n1/$1" ;; mesh-s) echo "$NODE_CGROUP/n2/$1" ;; *) echo "$NODE_CGROUP/$1" ;; esac; }
mtls_in() {
	local who=$1
	shift
	(
		echo $BASHPID >"$(mtls_cgroup "$who")/cgroup.procs"
		exec nsenter --net="/run/netns/$(node_netns "$who")" "$@"
	)
}
mtls_spawn() {
	local who=$1
	mtls_in "$@" >>"$NODE/log/$who.log" 2>&1 </dev/null &
	NODE_PIDS+=($!)
}

mtls_id() { echo "spiffe://bench.example/ns/bench/sa/$1"; }
mtls_svids() { "$MESHD" ca "$NODE/svids" --trust bench.example --id "$(mtls_id client)" --id "$(mtls_id server)" >>"$NODE/log/ca" 2>&1; }

mtls_haproxy() {
	local side port to
	for side in c s; do
		cat "$NODE/svids/bench.$([ $side = c ] && echo client || echo server)"/tls.{crt,key} >"$NODE/haproxy-$side.pem"
		{
			printf 'global\n  maxconn 4000\n  nbthread 1\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  ssl-default-server-options ssl-min-ver TLSv1.3\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n'
			for port in 8080 9000; do
				printf 'frontend f%s\n' $port
				if [ $side = c ]; then
					printf '  bind 127.0.0.1:%s\n  default_backend b%s\nbackend b%s\n  server one %s.2:%s ssl crt %s ca-file %s verify required\n' \
						$((port + 10000)) $port $port "${mtls_ip[haproxy]}" $((port + 20000)) "$NODE/haproxy-c.pem" "$NODE/svids/ca.crt"
				else
					printf '  bind 0.0.0.0:%s ssl crt %s ca-file %s verify required\n  default_backend b%s\nbackend b%s\n  server one 127.0.0.1:%s\n' \
						$((port + 20000)) "$NODE/haproxy-s.pem" "$NODE/svids/ca.crt" $port $port $port
				fi
			done
		} >"$NODE/haproxy-$side.cfg"
		mtls_spawn haproxy-$side haproxy -db -f "$NODE/haproxy-$side.cfg"
	done
}

mtls_stunnel() {
	local side port
	for side in c s; do
		{
			printf 'foreground = yes\npid =\nsslVersion = TLSv1.3\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n'
			for port in 8080 9000; do
				printf '[p%s]\ncert = %s\nkey = %s\nCAfile = %s\nverifyChain = yes\n' $port \
					"$NODE/svids/bench.$([ $side = c ] && echo client || echo server)/tls."{crt,key} "$NODE/svids/ca.crt"
				if [ $side = c ]; then
					printf 'client = yes\naccept = 127.0.0.1:%s\nconnect = %s.2:%s\n' $((port + 10000)) "${mtls_ip[stunnel]}" $((port + 20000))
				else
					printf 'accept = 0.0.0.0:%s\nconnect = 127.0.0.1:%s\n' $((port + 20000)) $port
				fi
			done
		} >"$NODE/stunnel-$side.conf"
		mtls_spawn stunnel-$side stunnel4 "$NODE/stunnel-$side.conf"
	done
}

# mtls_meshd N: starts meshd of node nN; MTLS_PID_N.
mtls_meshd() {
	local i
	"$MESHD" run --config "$NODE/n$1.yaml" >>"$NODE/log/meshd-n$1.log" 2>&1 </dev/null &
	eval "MTLS_PID_$1=$!"
	NODE_PIDS+=($!)
	for i in $(seq 100); do
		"$MESHD" status --config "$NODE/n$1.yaml" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	tail -3 "$NODE/log/meshd-n$1.log" >&2
	return 1
}
mtls_status() { "$MESHD" status --config "$NODE/n$1.yaml" --format json | /usr/bin/python3 -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$2"; }

mtls_mesh() {
	local n
	cat >"$NODE/strict.mesh" <<'END'
mesh bench: trust "bench.example", ingress deny, egress allow;
mtls strict;
namespace bench;
service client { workload app == "client"; tcp 8080; }
service server { workload app == "server"; tcp 8080; tcp 9000; }
allow bench: from client to server;
END
	cat >"$NODE/inventory.json" <<END
{"workloads": [
 {"namespace": "bench", "name": "client", "labels": {"app": "client"}, "addresses": ["${mtls_ip[mesh]}.1"], "node": "n1", "netns": "/run/netns/$(node_netns mesh-c)"},
 {"namespace": "bench", "name": "server", "labels": {"app": "server"}, "addresses": ["${mtls_ip[mesh]}.2"], "node": "n2", "netns": "/run/netns/$(node_netns mesh-s)"}]}
END
	"$MESHC" keygen -o "$NODE/key" >/dev/null 2>&1 && "$MESHC" compile -k "$NODE/key" -o "$NODE/strict.o" "$NODE/strict.mesh" 2>/dev/null || return 1
	for n in 1 2; do
		mkdir -p "$NODE/state$n"
		cat >"$NODE/n$n.yaml" <<END
mesh: bench
keys: [$NODE/key.pub]
bpffs: $NODE/bpffs
pins: mesh$n
cgroup: $NODE_CGROUP/n$n
state: $NODE/state$n
socket: $NODE/n$n.sock
inventory: $NODE/inventory.json
node: n$n
enrol: {namespaces: [bench]}
mtls: {identities: $NODE/svids, user: nobody, drain: 10}
END
		mtls_meshd $n && "$MESHD" apply --config "$NODE/n$n.yaml" "$NODE/strict.o" >/dev/null || return 1
	done
}

mtls_to() { # where the client of this kind connects: KIND PORT
	case "$1" in
	none | mesh) echo "${mtls_ip[$1]}.2:$2" ;;
	*) echo "127.0.0.1:$(($2 + 10000))" ;;
	esac
}

mtls_start() {
	local kind
	node_begin bench
	mkdir -p "$NODE_CGROUP/n1/mesh-c" "$NODE_CGROUP/n2/mesh-s"
	mtls_svids || return 1
	for kind in $mtls_kinds; do
		node_workload "$kind-c" "${mtls_ip[$kind]}.1" && node_workload "$kind-s" "${mtls_ip[$kind]}.2" || return 1
		mtls_spawn "$kind-s" "$build/bench-tunnel" echo 0.0.0.0 8080
		mtls_spawn "$kind-s" "$build/bench-stream" 0.0.0.0 9000
	done
	mtls_haproxy && mtls_stunnel && mtls_mesh || return 1
	for kind in $mtls_kinds; do
		node_wait mtls_hold "$kind" 1 || { echo "$kind: no answer: $(tail -n 3 "$NODE/log/$kind-"[cs].log "$NODE/log"/meshd-*.log)" >&2; return 1; }
	done
}

# mtls_hold KIND COUNT: so many connections, and no more.
mtls_hold() { timeout 60 "$build/bench-tunnel" hold "$2" "/run/netns/$(node_netns "$1-c")" "$(mtls_cgroup "$1-c")" "$(mtls_to "$1" 8080)" </dev/null; }

mtls_talk() {
	local kind arguments=()
	for kind in $mtls_kinds; do
		arguments+=("$kind" "/run/netns/$(node_netns "$kind-c")" "$(mtls_cgroup "$kind-c")" "$(mtls_to "$kind" 8080)" "$(mtls_to "$kind" 9000)")
	done
	timeout 300 "$build/bench-tunnel" talk "$1" "$2" "${arguments[@]}"
}

mtls_row() { # KEY WHAT FORMAT BAR: the bar is a ratio to the better pair
	local key=$1 what=$2 format=$3 bar=$4 d=$TALK best ratio ok
	case "$key" in *_us) best=min ;; *) best=max ;; esac
	ratio=$(of "$d" "'%.2f' % (d['mesh_$key'] / $best(d['haproxy_$key'], d['stunnel_$key']))")
	case "$bar" in
	-) ok=- ;;
	*) ok=$(met "$ratio $([ $best = min ] && echo '<=' || echo '>=') $bar") ;;
	esac
	row mtls "$what" "$(of "$d" "'$format ($ratio of the better pair); HAProxy pair $format, stunnel pair $format' % (d['mesh_$key'], d['haproxy_$key'], d['stunnel_$key'])")" \
		"$(of "$d" "'$format' % d['none_$key']")" "$([ "$bar" = - ] && echo - || echo "$bar of the better pair")" "$ok"
}

# Resident memory of the proxies of both nodes, KiB.
mtls_kib() { awk '/^VmRSS:/ { sum += $2 } END { print sum }' "/proc/$(mtls_status 1 's["mtls"]["pid"]')/status" "/proc/$(mtls_status 2 's["mtls"]["pid"]')/status"; }

mtls_memory() {
	local idle=$1 count now fifo=$NODE/held each
	mkfifo "$fifo"
	for count in 1000 10000; do
		mtls_in mesh-c "$build/bench-tunnel" hold $count "/run/netns/$(node_netns mesh-c)" "$(mtls_cgroup mesh-c)" "$(mtls_to mesh 8080)" <"$fifo" >"$NODE/log/held" 2>&1 &
		local pid=$!
		NODE_PIDS+=($pid)
		exec 7>"$fifo"
		local i
		for i in $(seq 600); do grep -q held "$NODE/log/held" && break; kill -0 $pid 2>/dev/null || break; sleep 0.1; done
		now=$(mtls_kib)
		grep -q "held $count" "$NODE/log/held" || { exec 7>&-; broken mtls "$count connections held" "$(tail -c 200 "$NODE/log/held")" "24 KiB"; return; }
		each=$(awk "BEGIN { printf \"%.1f\", ($now - $idle) / 2 / $count }")
		row mtls "memory of a proxy with $count tunnelled connections" "$each KiB a connection at each end" "$(awk "BEGIN { printf \"%.1f\", $idle / 2048 }") MiB idle" "24 KiB" "$(met "$each <= 24")"
		exec 7>&-
		wait $pid
		sleep 1
	done
}

# mtls_load SECONDS: connections and echoes on them; JSON of meshload.
mtls_load() { mtls_in mesh-c "$MESHLOAD" --seconds "$1" --threads 4 --request 'ping' "$(mtls_to mesh 8080)" >"$NODE/log/load" 2>"$WORK/log" & MTLS_LOAD=$!; }
mtls_tally() { # WHAT TIMES
	wait "$MTLS_LOAD"
	local d failed
	d=$(cat "$NODE/log/load")
	failed=$(of "$d" 'd["connections"] - d["ok"]') || { broken mtls "$1" "$(tail -c 200 "$WORK/log")" "0 failed"; return; }
	row mtls "$1" "$2; $failed failed of $(of "$d" 'd["connections"]'), $(of "$d" '"%.0f" % d["per_s"]') connections/s" - "0 failed" "$(met "$failed == 0 && $2 > 0")"
}
mtls_rotate() {
	local seconds times=0 end
	seconds=$(pick 60 6)
	mtls_load $seconds
	end=$((SECONDS + seconds - 1))
	while [ $SECONDS -lt $end ]; do
		sleep 1
		mtls_svids && times=$((times + 1))
	done
	mtls_tally "every certificate rotated every second, under load" $times
}
mtls_restart() {
	local times wanted n i
	wanted=$(pick 50 6)
	mtls_load $((wanted + 5))
	for ((times = 0; times < wanted; times++)); do
		n=$((times % 2 + 1))
		eval "kill -TERM \$MTLS_PID_$n; wait \$MTLS_PID_$n" 2>/dev/null
		mtls_meshd $n || break
		sleep 0.4
	done
	kill -0 $MTLS_LOAD 2>/dev/null || times=0
	mtls_tally "graceful restarts of meshd and its proxy, at either end in turn, under load" $times
}

mtls_run() {
	local idle
	say "mutual TLS: $mtls_kinds"
	mtls_start 2>"$WORK/log" || { broken mtls "mutual TLS" "$(tail -c 300 "$WORK/log")"; bench_node_end; return; }
	sleep 1
	idle=$(mtls_kib)
	row mtls "memory of an idle proxy" "$(awk "BEGIN { printf \"%.1f\", $idle / 2048 }") MiB" - "15 MiB" "$(met "$idle / 2048 <= 15")"
	TALK=$(mtls_talk "$(pick 120 20)" 25 2>"$WORK/log") || { broken mtls "mutual TLS" "$(tail -c 300 "$WORK/log")"; bench_node_end; return; }
	mtls_row trip_p50_us "mTLS, 64 bytes to and fro, p50, us" %.1f 1.0
	mtls_row trip_p99_us "mTLS, 64 bytes to and fro, p99, us" %.0f -
	mtls_row mb_per_s "mTLS, one stream, MB/s" %.0f 1.0
	mtls_row fresh_p50_us "mTLS, a new connection with a round trip, p50, us" %.0f 0.3
	mtls_row fresh_per_s "mTLS, new connections one after the other, a second" %.0f -
	mtls_memory "$idle"
	mtls_rotate
	mtls_restart
	bench_node_end
}
