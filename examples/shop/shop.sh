# The shop's workloads, policies and loads. Sourced by examples/shop/run and by whoever wants a shop
# (tests, benchmark), behind setup/node.sh; $here is this folder, $MESHC, $MESHD, $MESHLOAD are built.

# NAME IP IP6 LABELS
shop_workloads="
frontend      10.77.0.10 fd77::10 app=frontend
reviews-v1    10.77.0.11 fd77::11 app=reviews,version=1
reviews-v2    10.77.0.12 fd77::12 app=reviews,version=2
ledger        10.77.0.13 fd77::13 app=ledger
catalog-blue  10.77.0.14 fd77::14 app=catalog,color=blue
catalog-green 10.77.0.15 fd77::15 app=catalog,color=green
"

# Answers TEXT at /, and VERSION (one character) at /version.
shop_nginx() {
	local name=$1 text=$2 version=$3
	cat >"$NODE/$name.conf" <<END
daemon off;
worker_processes 1;
pid $NODE/$name.pid;
error_log $NODE/log/$name.nginx.log;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path $NODE/$name.tmp;
  proxy_temp_path $NODE/$name.tmp;
  fastcgi_temp_path $NODE/$name.tmp;
  uwsgi_temp_path $NODE/$name.tmp;
  scgi_temp_path $NODE/$name.tmp;
  server {
    listen 8080 backlog=4096;
    listen [::]:8080 backlog=4096;
    location / { return 200 "$text\n"; }
    location = /version { return 200 "$version"; }
  }
}
END
	node_spawn "$name" nginx -c "$NODE/$name.conf" -e "$NODE/log/$name.nginx.log"
}

shop_inventory() { # the workloads as JSON
	awk -v netns="/run/netns/mesh-$NODE_NAME-" 'NF {
		labels = $4; gsub(/=/, "\": \"", labels); gsub(/,/, "\", \"", labels)
		printf "%s  {\"namespace\": \"shop\", \"name\": \"%s\", \"labels\": {\"%s\"}, \"addresses\": [\"%s\", \"%s\"],\n" \
		       "   \"node\": \"n1\", \"netns\": \"%s%s\"}", n++ ? ",\n" : "{\"node\": \"n1\", \"workloads\": [\n", $1, labels, $2, $3, netns, $1
	} END { print "\n]}" }' <<<"$shop_workloads"
}

shop_start() {
	local name ip ip6 labels
	while read -r name ip ip6 labels; do
		[ -z "$name" ] || node_workload "$name" "$ip" "$ip6"
	done <<<"$shop_workloads"
	shop_nginx frontend "frontend" F
	shop_nginx reviews-v1 "reviews 1" 1
	shop_nginx reviews-v2 "reviews 2" 2
	shop_nginx catalog-blue "catalog blue" B
	shop_nginx catalog-green "catalog green" G
	node_spawn ledger redis-server --bind 10.77.0.13 fd77::13 --protected-mode no --save "" --daemonize no
	for name in reviews-v1 reviews-v2 catalog-blue catalog-green frontend; do
		node_wait node_in "$name" curl -s -m 1 http://127.0.0.1:8080/ || { echo "$name does not answer: $NODE/log" >&2; return 1; }
	done
	node_wait node_in ledger redis-cli -h 10.77.0.13 ping || { echo "the ledger does not answer: $NODE/log" >&2; return 1; }
}

# The two policies, signed by a key of this run, and meshd's configuration.
shop_policies() {
	"$MESHC" keygen -o "$NODE/development.key" 2>/dev/null &&
		"$MESHC" compile -k "$NODE/development.key" -o "$NODE/shop.o" "$here/shop.mesh" 2>/dev/null &&
		"$MESHC" compile -k "$NODE/development.key" -o "$NODE/next.o" "$here/shop-next.mesh" 2>/dev/null || return 1
	node_config <<END
mesh: shop
keys: [$NODE/development.key.pub]
enrol:
  namespaces: [shop]
END
	shop_inventory >"$NODE/inventory.json.new" && mv "$NODE/inventory.json.new" "$NODE/inventory.json"
}

# FILE:LINE of a rule of shop.mesh.
shop_place() { grep -n "$1:" "$here/shop.mesh" | head -1 | sed 's/:.*//; s/^/shop.mesh:/; s/$/:1/'; }

# The last flow from SERVICE with VERDICT, as JSON.
flow_of() { meshd_ask flows --from "$1" --verdict "$2" --format json | tail -1 | grep .; }

# Connections to reviews, ledger and catalog for SECONDS, in the background; its JSON into $NODE/load.
shop_load() {
	rm -f "$NODE/load"
	node_spawn_to "$NODE/load" frontend "$MESHLOAD" --seconds "$1" --threads 4 --rate 6000 --request 'GET /version HTTP/1.0\r\n\r\n' --last \
		10.96.0.11:80 10.96.0.10:6379 10.96.0.20:80
	LOAD_PID=$SPAWNED
}

# Alternates the two policies while connections are made: 20 times by `apply` (load, prove, store), then by
# `rollback` to the one or the other, which are both loaded (the store alone); 200 times in all.
switch_load() {
	local generations=() file
	switches=0 rate=0 failed=-1 wrong=-1 mixed=-1 cut=0 blue=0 green=0
	shop_load 120
	sleep 0.3
	while [ $switches -lt 200 ] && kill -0 $LOAD_PID 2>/dev/null; do
		file=$([ $((switches % 2)) = 0 ] && echo next.o || echo shop.o)
		if [ $switches -lt 20 ]; then
			generations[switches % 2]=$(meshd_ask apply "$NODE/$file" --format json | number 'd["generation"]') || return 1
		else
			meshd_ask rollback "${generations[switches % 2]}" >/dev/null || return 1
			sleep 0.02
		fi
		switches=$((switches + 1))
	done
	kill -TERM $LOAD_PID 2>/dev/null
	wait $LOAD_PID
	read -r rate failed wrong mixed cut blue green < <(number '" ".join(str(x) for x in (lambda r, l, c: (int(d["per_s"]),
		r["connections"] - r["ok"], l["ok"], c["connections"] - c["ok"] - c["reset"] - c["closed"], c["reset"] + c["closed"],
		c["answers"].get("B", 0), c["answers"].get("G", 0)))(*d["targets"]))' <"$NODE/load")
}

# Kills meshd in the middle of a load and starts it again.
crash_load() {
	crash_all=0 crash_failed=-1 crash_wrong=-1 adopted=false
	shop_load 3
	sleep 0.7
	node_stop_meshd -KILL
	sleep 0.7
	node_meshd && adopted=$(meshd_ask status --format json | number 'str(d["adopted"]).lower()')
	wait $LOAD_PID
	read -r crash_all crash_failed crash_wrong < <(number '" ".join(str(x) for x in (lambda r, l, c: (d["connections"],
		r["connections"] - r["ok"] + c["connections"] - c["ok"], l["ok"]))(*d["targets"]))' <"$NODE/load")
}

# ---- Strict ----------------------------------------------------------------------------------------------

# A certificate for each service: issued anew by each call.
shop_svids() {
	local name ids=()
	for name in frontend reviews ledger catalog-blue catalog-green; do ids+=(--id "spiffe://shop.example/ns/shop/sa/$name"); done
	"$MESHD" ca "$NODE/svids" --trust shop.example "${ids[@]}" >>"$NODE/log/ca" 2>&1
}

# The same policy but for one line, and a node that has certificates and a proxy.
shop_strict() {
	sed 's/^mtls off.*/mtls strict;/' "$here/shop.mesh" >"$NODE/strict.mesh"
	"$MESHC" compile -k "$NODE/development.key" -o "$NODE/strict.o" "$NODE/strict.mesh" 2>/dev/null && shop_svids || return 1
	echo "mtls: {identities: $NODE/svids, user: nobody, drain: 5}" >>"$NODE/meshd.yaml"
	node_stop_meshd && node_meshd && node_wait shop_has_identities
}
shop_has_identities() { [ "$(meshd_ask status --format json | number '(d["mtls"] or {}).get("identities")')" = 5 ]; }

# capture FILE COMMAND...: what passes the bridge between the namespaces while COMMAND runs.
shop_capture() {
	local file=$1 pid
	shift
	nsenter --net="/run/netns/mesh-$NODE_NAME-net" timeout 30 tshark -i br0 -w "$NODE/$file.pcap" -q >"$NODE/log/tshark" 2>&1 &
	pid=$!
	NODE_PIDS+=($pid)
	node_wait test -s "$NODE/$file.pcap"
	"$@"
	sleep 1
	kill -INT $pid 2>/dev/null
	wait $pid 2>/dev/null
}
# Bytes of TCP that are in no TLS record: those of every connection but the tunnel's, and where the text stands in the clear.
shop_plaintext_bytes() {
	local bytes
	bytes=$(tshark -r "$NODE/$1.pcap" -Y 'tcp.len > 0 && tcp.port != 15008' -T fields -e tcp.len 2>/dev/null | awk '{ sum += $1 } END { print sum + 0 }')
	echo $((bytes + $(grep -a -o -- "$2" "$NODE/$1.pcap" | wc -l) * ${#2}))
}
shop_tls_version() {
	tshark -r "$NODE/$1.pcap" -d tcp.port==15008,tls -Y 'tls.handshake.type == 2' -T fields -e tls.handshake.extensions.supported_version 2>/dev/null | sort -u | tr '\n' ' '
}

# Somebody outside the mesh with a certificate in the frontend's name, of an authority of his own.
shop_impostor() {
	node_workload stranger 10.77.0.99
	"$MESHD" ca "$NODE/forged" --trust shop.example --id spiffe://shop.example/ns/shop/sa/frontend >/dev/null 2>&1
	node_in stranger timeout 3 openssl s_client -connect 10.77.0.11:15008 -alpn h2 -quiet -cert "$NODE/forged/shop.frontend/tls.crt" \
		-key "$NODE/forged/shop.frontend/tls.key" </dev/null >"$NODE/log/impostor" 2>&1
	node_wait shop_impostor_flow
}
shop_impostor_flow() { meshd_ask flows --format json | grep -q '"reason":"unknown-ca"'; }

# strict_load SECONDS WORK...: connections to reviews through the tunnel while WORK runs, a second after each other; how
# many failed.
strict_load() {
	local seconds=$1
	shift
	node_spawn_to "$NODE/strict-load" frontend "$MESHLOAD" --seconds "$seconds" --threads 2 --rate 1000 \
		--request 'GET /version HTTP/1.0\r\n\r\n' --last 10.96.0.11:80
	LOAD_PID=$SPAWNED
	while kill -0 $LOAD_PID 2>/dev/null; do
		sleep 0.8
		kill -0 $LOAD_PID 2>/dev/null && { "$@" || return 1; }
	done
	wait $LOAD_PID
	tail -1 "$NODE/strict-load" | number 'd["connections"] - d["ok"] if d["connections"] > 100 else -1'
}
shop_restart() { node_stop_meshd && node_meshd; }
