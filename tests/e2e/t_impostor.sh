# Impostors: whoever shows a bad certificate, somebody else's, or no tunnel at all, as a client and as a server. Each is
# refused with a reason of its own, and no application sees a byte. An independent peer that is none gets through.
topic_begin
PEER="/usr/bin/python3 $ROOT/tests/proxy/peer_h2.py"
CA="$NODE/svids"
BAD="$NODE/bad"
BUNDLE="$CA/bundle/shop.example.pem"
id() { echo "spiffe://shop.example/ns/$1/sa/$2"; }
svids() { "$MESHD" ca "$CA" --trust shop.example "$@" >>"$NODE/log/ca" 2>&1; }
bad() { /usr/bin/python3 "$ROOT/tests/tools/impostor_ca.py" "$CA" "$@" >>"$NODE/log/ca" 2>&1; }
workload client 11
workload thief 12
workload ledger 31
workload open 32
workload remote 41 # node n2: its proxy is peer_h2.py
workload nobody 66 # of no mesh
# What lives on another machine is in no cgroup of this node.
elsewhere() {
	local who=$1
	shift
	nsenter --net="/run/netns/$(node_netns "$who")" "$@"
}
svids --id "$(id shop client)" --id "$(id shop ledger)" --id "$(id shop open)" --id "$(id dev thief)" --id "$(id shop remote)" --id "$(id shop lost)" ||
	give_up ca "$(tail -1 "$NODE/log/ca")"
bad "$BAD" --id "$(id shop client)" || give_up ca "$(tail -1 "$NODE/log/ca")"
bad "$NODE/fake" --id "$(id shop remote)" || give_up ca "$(tail -1 "$NODE/log/ca")"
cat "$BAD/intermediate/root.pem" >>"$BUNDLE"
# Known to a list of revoked ones, and valid otherwise.
mv "$CA/shop.lost" "$NODE/lost"
svids --id "$(id shop lost)"
config <<CONFIG
enrol: {namespaces: [shop, dev]}
mtls: {identities: $CA, user: nobody, drain: 3}
CONFIG
policy strict <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls strict;
namespace shop;
service client { workload app == "client"; tcp 9000; }
service ledger { workload app == "ledger"; tcp 8080; tcp 9090; }
service open { workload app == "open"; tcp 8080; }
service remote { workload app == "remote"; tcp 8080; }
allow post: from client, remote to ledger port 8080;
deny hands_off: from open to ledger;
allow away: from client to remote;
MESH
sed "s/THIEF/$(node_netns thief)/" <<'LINES' | inventory
shop client app=client 10.77.0.11,fd77::11
dev thief app=thief 10.77.0.12,fd77::12 "account": "thief", "netns": "/run/netns/THIEF"
shop ledger app=ledger 10.77.0.31,fd77::31
shop open app=open 10.77.0.32,fd77::32
shop remote app=remote 10.77.0.41,fd77::41 "node": "n2"
LINES
export NET_TELL=1
serve ledger ledger tcp:8080 tcp:9090 tcp:7777
serve open open tcp:8080
unset NET_TELL
node_meshd || give_up start "meshd does not start: $(tail -2 "$NODE/log/meshd.log")"
apply strict
identities() { [ "$(status "(s['mtls'] or {}).get('identities')")" = "$1" ]; }
node_wait identities 6 || give_up identities "$(status 's["mtls"]')"

# ---- Who is refused, and what it is called ----------------------------------------------------------------
# How many records there are of a refusal at the ledger: told Python's expression over the flow `f`.
refusals() {
	meshd_ask flows --format json | /usr/bin/python3 -c '
import json, sys
flows = [json.loads(line) for line in sys.stdin]
print(sum(bool(f["hook"] == "tunnel" and f.get("event") == "refused" and eval(sys.argv[1])) for f in flows))' "$1"
}
touched() { cat "$NODE/log/ledger.log" "$NODE/log/open.log" | grep -c accepted; }
more_refusals() { [ "$(refusals "$1")" -gt "$2" ]; }
# impostor NAME EXPRESSION COMMAND...: it is refused, as told; nobody's application is touched.
impostor() {
	local name=$1 wanted=$2 before after
	shift 2
	wanted="f['side'] == 'receiver' and ($wanted)"
	before=$(refusals "$wanted")
	after=$(touched)
	"$@" >"$NODE/log/impostor" 2>&1 && fail "$name" "it got in: $(tail -1 "$NODE/log/impostor")" && return
	if ! node_wait more_refusals "$wanted" "$before"; then
		fail "$name" "no record: it says $(tail -1 "$NODE/log/impostor"); the last one: $(last_flow --to ledger)"
	elif [ "$(touched)" != "$after" ]; then
		fail "$name" "the application was touched"
	else
		ok "$name"
	fi
}
reason() { echo "f.get('reason') == '$1' and f['from'].get('address') == '10.77.0.66'"; }
client() { # DIR [OPTION...]: from outside the mesh to the ledger's tunnel
	local svid=$1
	shift
	elsewhere nobody $PEER client 10.77.0.31:15008 --svid "$svid" --trust "$BUNDLE" --timeout 3 --authority 10.77.0.31:8080 --send hello "$@"
}
while read -r kind word; do
	[ "$word" = none ] || impostor "client, $kind: $word" "$(reason "$word")" client "$BAD/$kind"
done < <(/usr/bin/python3 "$ROOT/tests/tools/impostor_ca.py" --list)

# Who is none gets through: what these tests hold in their hands can do it.
gets_in() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$name"; else fail "$name" "$out $(last_flow --to ledger)"; fi
}
gets_in "an independent client with a good certificate" client "$BAD/good" --record "$NODE/recorded"
expect "... is heard by the application" 1 "$(touched)"
gets_in "... with an intermediate authority" client "$BAD/intermediate"

impostor "TLS 1.2: old-tls" "$(reason old-tls)" client "$BAD/good" --misbehave tls12
impostor "no certificate: no-certificate" "$(reason no-certificate)" client "$BAD/good" --misbehave no-certificate
impostor "plaintext on the tunnel's port: no-tls" "$(reason no-tls)" client "$BAD/good" --misbehave plaintext
impostor "HTTP/2 in clear on the tunnel's port: no-tls" "$(reason no-tls)" client "$BAD/good" --misbehave plaintext-h2
impostor "another protocol than h2: tls" "$(reason tls)" client "$BAD/good" --misbehave http11
impostor "no protocol at all: tls" "$(reason tls)" client "$BAD/good" --misbehave no-alpn
impostor "a recorded tunnel, replayed: tls" "$(reason tls)" client "$BAD/good" --misbehave replay --recorded "$NODE/recorded"
impostor "an address that is not this workload's: bad-request" "$(reason bad-request)" client "$BAD/good" --authority 10.77.0.32:8080
impostor "... nor loopback" "$(reason bad-request)" client "$BAD/good" --authority 127.0.0.1:8080
impostor "no address: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave bad-authority
impostor "a name: bad-request" "$(reason bad-request)" client "$BAD/good" --authority ledger:8080
impostor "no port: bad-request" "$(reason bad-request)" client "$BAD/good" --authority 10.77.0.31
impostor "CONNECT without a word of where: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave no-authority
impostor "CONNECT of another protocol: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave extended
impostor "a megabyte of headers: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave huge-headers
impostor "no HTTP/2 behind TLS: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave bad-preface
impostor "frames that are none: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave garbage
impostor "bytes of a stream that was never opened: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave data-first
impostor "ten thousand headers: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave many-headers
impostor "GET: bad-request" "$(reason bad-request)" client "$BAD/good" --misbehave get
impostor "a port that is not declared" "f['reason'] == 'policy' and f['rule'] == 'default'" client "$BAD/good" --authority 10.77.0.31:7777
impostor "a port that no rule allows" "f['reason'] == 'policy' and f['rule'] == 'default'" client "$BAD/good" --authority 10.77.0.31:9090
impostor "a stolen certificate, by the rule that denies it" \
	"f['reason'] == 'policy' and f['rule'] == 'hands_off' and f['from'].get('spiffe') == '$(id shop open)'" client "$CA/shop.open"
expect "... is told 403" 403 "$(grep -o '"status": [0-9]*' "$NODE/log/impostor" | cut -d' ' -f2)"
impostor "a stolen certificate that no rule knows" \
	"f['reason'] == 'policy' and f['rule'] == 'default' and f['from'].get('spiffe') == '$(id dev thief)'" client "$CA/dev.thief"
# Out of an enrolled workload the tunnel's port is as shut as any other that no rule allows.
by_thief() { node_in thief $PEER client 10.77.0.31:15008 --svid "$CA/shop.client" --trust "$BUNDLE" --timeout 3 --authority 10.77.0.31:8080 --send hello; }
before=$(touched)
expect "a stolen certificate in an enrolled workload: no way to a tunnel" "Connection refused" "$(by_thief | grep -o 'Connection refused')"
expect_true "... refused at connect" "$(last_flow --from thief)" flows_have \
	"f['hook'] == 'connect' and f['verdict'] == 'deny' and f['from'].get('workload') == 'dev/thief' and f['to'].get('port') == 15008"
expect "... the application untouched" "$before" "$(touched)"
gets_in "before it is revoked it opens a tunnel" test "$(client "$NODE/lost" | grep -o '"status": 403')"
revoke() { svids --revoke "$(openssl x509 -in "$1/tls.crt" -noout -serial | cut -d= -f2)"; }
revoke "$NODE/lost"
sleep 1
impostor "revoked: revoked" "$(reason revoked)" client "$NODE/lost"

# Who may come in and means harm: nobody else notices.
for kind in ping-flood reset-flood window no-window reset abort truncate; do
	client "$BAD/good" --misbehave $kind --bytes 1000000 --timeout 2 >/dev/null 2>&1
	gets_in "after $kind the next one is served" client "$BAD/good"
done
expect "the proxy lived through all of it" 0 "$(status 's["mtls"]["restarts"]')"

# ---- As a server: at the address of a workload of another node ------------------------------------------------
remote() { # DIR [OPTION...]: who listens there now
	local svid=$1
	shift
	: >"$NODE/log/remote"
	nsenter --net="/run/netns/$(node_netns remote)" $PEER server 10.77.0.41:15008 --svid "$svid" --trust "$BUNDLE" "$@" >"$NODE/log/remote" 2>&1 </dev/null &
	REMOTE=$!
	NODE_PIDS+=($REMOTE)
	node_wait grep -q listening "$NODE/log/remote" || give_up remote "$(cat "$NODE/log/remote")"
}
no_remote() {
	kill $REMOTE 2>/dev/null
	wait $REMOTE 2>/dev/null
}
# false_server NAME REASON DIR [OPTION...]: the caller says so, its application is reset, no request is shown.
false_server() {
	local name=$1 wanted="f['side'] == 'caller' and f.get('reason') == '$2' and f['to'].get('address') == '10.77.0.41'" before
	shift 2
	before=$(refusals "$wanted")
	remote "$@"
	ask client tcp 10.77.0.41 8080
	if [ "$OUTCOME" != reset ]; then
		fail "$name" "the application got $OUTCOME $ANSWER; $(cat "$NODE/log/remote")"
	elif ! node_wait more_refusals "$wanted" "$before"; then
		fail "$name" "no record; $(cat "$NODE/log/remote"); the last one: $(last_flow --to remote)"
	elif grep -q '"event": "request"' "$NODE/log/remote"; then
		fail "$name" "a request reached it: $(cat "$NODE/log/remote")"
	else
		ok "$name"
	fi
	no_remote
}
while read -r kind word; do
	[ "$word" = none ] || false_server "server, $kind: $word" "$word" "$NODE/fake/$kind"
done < <(/usr/bin/python3 "$ROOT/tests/tools/impostor_ca.py" --list)
false_server "somebody else's certificate: wrong-peer" wrong-peer "$CA/shop.open"
false_server "the caller's own: wrong-peer" wrong-peer "$CA/shop.client"
false_server "another one of shop.example that no service has: wrong-peer" wrong-peer "$CA/dev.thief"
false_server "server, TLS 1.2: old-tls" old-tls "$CA/shop.remote" --misbehave tls12
false_server "server in clear: no-tls" no-tls "$CA/shop.remote" --misbehave plaintext
false_server "server without a protocol: tls" tls "$CA/shop.remote" --misbehave no-alpn
cp -r "$CA/shop.remote" "$NODE/old"
svids --id "$(id shop remote)"
revoke "$NODE/old"
sleep 1
false_server "server, revoked: revoked" revoked "$NODE/old"

# ---- An independent peer that is none -----------------------------------------------------------------------
remote "$CA/shop.remote"
ask client tcp 10.77.0.41 8080
expect "a server that shares no line with meshp" "ok x" "$OUTCOME ${ANSWER%% *}"
expect "a megabyte to it and back, each half closed by itself" "same 1048576" \
	"$(node_in client $NET swap 10.77.0.41 8080 1048576 2>&1 | cut -d' ' -f1,2)"
expect_true "it was asked by CONNECT, with the caller's address and port" "$(cat "$NODE/log/remote")" grep -q \
	'"method": "CONNECT", "authority": "10.77.0.41:8080", "forwarded": "for=\\"10.77.0.11:[0-9]*\\""' "$NODE/log/remote"
no_remote
remote "$CA/shop.remote" --misbehave refuse
expect_reset "its 403 is a reset" client tcp 10.77.0.41 8080
expect_true "... by its policy" "$(last_flow --to remote)" flows_have "f.get('side') == 'caller' and f.get('reason') == 'policy' and f['to'].get('workload') == 'shop/remote'"
no_remote
remote "$CA/shop.remote" --misbehave goaway
expect_ok "one tunnel each: GOAWAY" client tcp 10.77.0.41 8080
expect_ok "... and again" client tcp 10.77.0.41 8080
no_remote
# The other way: n2's proxy calls for its workload, which has its own port.
gets_in "a client that shares no line with meshp" elsewhere remote $PEER client 10.77.0.31:15008 --svid "$CA/shop.remote" --trust "$BUNDLE" \
	--authority 10.77.0.31:8080 --forwarded 10.77.0.41:4711 --send hello
expect_true "... is who its certificate says, with its port" "$(last_flow --to ledger)" flows_have \
	"f.get('event') == 'end' and f['from'].get('spiffe') == '$(id shop remote)' and f['from'].get('port') == 4711 and f['rule'] == 'post'"
gets_in "a name that it may not give is not taken" elsewhere remote $PEER client 10.77.0.31:15008 --svid "$CA/shop.remote" --trust "$BUNDLE" \
	--authority 10.77.0.31:8080 --forwarded 10.77.0.11:4712 --send hello
expect_true "... its own address is" "$(last_flow --to ledger)" flows_have \
	"f.get('event') == 'end' and f['from'].get('address') == '10.77.0.41' and f['from'].get('port') != 4712"

# ---- curl, where it can ----------------------------------------------------------------------------------------
# It speaks CONNECT by HTTP/2 since 8.1; the application is asked by HTTP/0.9, which any line is an answer to.
read -r major minor < <(curl --version 2>/dev/null | sed -nE '1s/^curl ([0-9]+)\.([0-9]+).*/\1 \2/p')
if [ $((${major:-0} * 1000 + ${minor:-0})) -ge 8001 ]; then
	by_curl() { # DIR
		elsewhere nobody curl -s -m 3 --proxy-http2 --proxy https://10.77.0.31:15008 --proxytunnel --http0.9 --proxy-insecure \
			--proxy-cert "$1/tls.crt" --proxy-key "$1/tls.key" http://10.77.0.31:8080/
	}
	expect "curl --proxy-http2 with a good certificate" ledger "$(by_curl "$BAD/good" | head -1 | cut -d' ' -f1)"
	impostor "curl with somebody else's certificate" "f['reason'] == 'policy' and f['rule'] == 'hands_off'" by_curl "$CA/shop.open"
	impostor "curl of another authority" "$(reason unknown-ca)" by_curl "$BAD/unknown-ca"
else
	skip "curl --proxy-http2" "curl ${major:-none}${minor:+.$minor} here, and CONNECT by HTTP/2 came with 8.1"
fi
