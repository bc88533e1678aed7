# What the topics share. A topic is one file t_NAME.sh, run alone by `run`:
#
#   topic_begin                        a node (setup/node.sh), gone when the file ends
#   workload NAME N                    a namespace with 10.77.0.N and fd77::N
#   serve WORKLOAD NAME KIND:PORT...   net.py's server there
#   policy NAME [VERSION]              compiles and signs the policy on standard input: $NODE/NAME.o
#   inventory                          who runs where, on standard input; waits until meshd has taken it
#   expect_ok|refused|eperm|silent|reset NAME WORKLOAD KIND ADDRESS PORT [OPTION=..]
#                                      what a client there gets; expect_ok NAME/SERVER asks who answered
#   status EXPR, flows_have EXPR       Python expressions over the status `s` and each flow `f`

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=${HERE%/tests/e2e}
MESHC=$BUILD/meshc
MESHD=$BUILD/meshd
MESHLOAD=$BUILD/meshload
NET="/usr/bin/python3 $HERE/net.py"
. "$ROOT/setup/node.sh"

ok() { echo "ok $1"; }
fail() { echo "FAIL $1: ${2//$'\n'/ | }"; }
skip() { echo "skip $1: $2"; }
give_up() {
	fail "$1" "$2"
	exit 1
}

# expect NAME WANTED GOT: the words are equal.
expect() { if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "wanted '$2', got '$3'"; fi; }
# expect_true NAME DETAIL COMMAND...
expect_true() {
	local name=$1 detail=$2
	shift 2
	if "$@" >/dev/null 2>&1; then ok "$name"; else fail "$name" "$detail"; fi
}

topic_end() {
	if [ -d "$NODE/log" ]; then
		mkdir -p "$BUILD/e2e-logs/$TOPIC"
		cp "$NODE"/log/* "$BUILD/e2e-logs/$TOPIC/" 2>/dev/null
	fi
	node_end
}

topic_begin() {
	trap topic_end EXIT
	trap 'exit 130' INT TERM
	node_begin e2e
	"$MESHC" keygen -o "$NODE/key" >/dev/null 2>&1 || give_up "$TOPIC" "no key can be made"
}

workload() { node_workload "$1" "10.77.0.$2" "fd77::$2"; }

# Waits until it listens.
serve() {
	local workload=$1 name=$2 spec
	shift 2
	node_spawn "$workload" $NET serve "$name" "$@"
	for spec in "$@"; do node_wait listens "$workload" "${spec#*:}" || give_up "$TOPIC" "$name does not listen at $spec"; done
}
listens() { nsenter --net="/run/netns/$(node_netns "$1")" ss -Hlntu "sport = :$2" 2>/dev/null | grep -q .; }

# The rest of the configuration on standard input, for what differs from this.
config() {
	{
		echo "mesh: shop"
		echo "keys: [$NODE/key.pub]"
		echo "record_rate: 100000"
		cat
	} | node_config
}

policy() {
	cat >"$NODE/$1.mesh"
	"$MESHC" compile -k "$NODE/key" --policy-version "${2:-1}" -o "$NODE/$1.o" "$NODE/$1.mesh" >"$NODE/log/compile" 2>&1 ||
		give_up "$TOPIC" "$1.mesh: $(head -3 "$NODE/log/compile")"
}

apply() { meshd_ask apply "$NODE/$1.o" >"$NODE/log/apply" 2>&1 || give_up "$TOPIC" "apply $1: $(cat "$NODE/log/apply")"; }

# Certificates of this mesh's workloads, into $NODE/svids.
spiffe() { echo "spiffe://shop.example/ns/shop/sa/$1"; }
svids() { "$MESHD" ca "$NODE/svids" --trust shop.example "$@" >>"$NODE/log/ca" 2>&1; }

# `client` may call `ledger`, by the policy `strict`; nothing is started.
strict_pair() {
	workload client 11
	workload ledger 31
	svids --id "$(spiffe client)" --id "$(spiffe ledger)" || give_up ca "$(tail -1 "$NODE/log/ca")"
	config <<<"
enrol: {namespaces: [shop]}
mtls: {identities: $NODE/svids, user: nobody}"
	policy strict <<'END'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls strict;
namespace shop;
service client { workload app == "client"; tcp 9000; }
service ledger { workload app == "ledger"; tcp 8080; }
allow post: from client to ledger;
END
	inventory <<'END'
shop client app=client 10.77.0.11
shop ledger app=ledger 10.77.0.31
END
}

# Python over status (`s`) and over each flow (`f`).
status() { meshd_ask status --format json | /usr/bin/python3 -c 'import json, sys; s = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }
stat_of() { status "s['stats']['$1']"; }
hits() { status "next((h['$2'] for h in s['hits'] if h['rule'] == '$1'), 0)"; }
flows_have() {
	meshd_ask flows --format json | /usr/bin/python3 -c '
import json, sys
flows = [json.loads(line) for line in sys.stdin]
sys.exit(not any(eval(sys.argv[1]) for f in flows))' "$1"
}
last_flow() { meshd_ask flows --format json "$@" | tail -1; }

# Lines: NAMESPACE NAME LABEL=VALUE,.. ADDRESS,.. [MORE JSON]; "-" for none. Where a namespace of this
# node has the name, that is the place. $SERVICES: service addresses, as JSON.
inventory_json() {
	local ns name labels addresses more comma=
	echo '{"node": "n1", "workloads": ['
	while read -r ns name labels addresses more; do
		[ -n "$ns" ] || continue
		[ "$labels" = - ] && labels='' || labels="\"$(sed 's/=/": "/g; s/,/", "/g' <<<"$labels")\""
		[ "$addresses" = - ] && addresses='' || addresses="\"${addresses//,/\", \"}\""
		[ -z "$more" ] && [ -e "/run/netns/$(node_netns "$name")" ] && more="\"netns\": \"/run/netns/$(node_netns "$name")\""
		echo "$comma{\"namespace\": \"$ns\", \"name\": \"$name\", \"labels\": {$labels}, \"addresses\": [$addresses]${more:+, $more}}"
		comma=,
	done
	echo "], \"services\": [${SERVICES:-}]}"
}

inventory() {
	local before=
	[ -z "$MESHD_PID" ] || before=$(status 's["epoch"], s["inventory"]["problem"]')
	inventory_json >"$NODE/inventory.new"
	mv "$NODE/inventory.new" "$NODE/inventory.json"
	[ -z "$MESHD_PID" ] || inventory_taken "$before"
}
inventory_taken() {
	local i
	for i in $(seq 60); do
		[ "$(status 's["epoch"], s["inventory"]["problem"]')" = "$1" ] || return 0
		sleep 0.05
	done
	fail "$TOPIC" "meshd did not take the inventory"
}

# Asks from a workload: $OUTCOME, $TOOK_MS, $ANSWER.
ask() {
	local workload=$1
	shift
	read -r OUTCOME TOOK_MS ANSWER <<<"$(node_in "$workload" $NET ask "$@" 2>&1 | tail -1)"
}
expect_outcome() {
	local wanted=$1 name=$2 server=
	shift 2
	[[ $name == */* ]] && server=${name#*/}
	name=${name%%/*}
	ask "$@"
	if [ "$OUTCOME" != "$wanted" ]; then
		fail "$name" "$*: wanted $wanted, got $OUTCOME in $TOOK_MS ms $ANSWER; $(last_flow | cut -c-400)"
	elif [ -n "$server" ] && [ "${ANSWER%% *}" != "$server" ]; then
		fail "$name" "$*: wanted an answer of $server, got '$ANSWER'"
	elif [ "$wanted" = refused ] && [ "${TOOK_MS%.*}" -ge 100 ]; then
		fail "$name" "$*: refused, but only after $TOOK_MS ms"
	else
		ok "$name"
	fi
}
expect_ok() { expect_outcome ok "$@"; }
expect_refused() { expect_outcome refused "$@"; }
expect_eperm() { expect_outcome eperm "$@"; }
expect_reset() { expect_outcome reset "$@"; }
expect_silent() { expect_outcome timeout "$@" timeout=0.3; }

# hold NAME WORKLOAD SECONDS KIND ADDRESS PORT: a connection in the background; held NAME: how it ended.
hold() {
	local name=$1 workload=$2
	shift 2
	node_in "$workload" $NET hold "$@" >"$NODE/log/hold-$name" 2>&1 </dev/null &
	NODE_PIDS+=($!)
	eval "HOLD_$name=$!"
	node_wait grep -q . "$NODE/log/hold-$name" || true
}
held() {
	local pid=HOLD_$1
	wait "${!pid}" 2>/dev/null
	tail -1 "$NODE/log/hold-$1" | cut -d' ' -f1
}

# meshd whose host is the workload HOST, instead of the machine that the tests run on.
meshd_in() {
	printf '#!/bin/bash\nexec nsenter --net=/run/netns/%s %q "$@"\n' "$(node_netns "$1")" "$BUILD/meshd" >"$NODE/meshd-in"
	chmod +x "$NODE/meshd-in"
	MESHD=$NODE/meshd-in
}
