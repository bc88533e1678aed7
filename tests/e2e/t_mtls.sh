# Mutual TLS: the whole way of a connection, who is refused and how it is called, rotation, restarts, failure.
topic_begin
workload client 11
workload stranger 12
workload ledger 31
workload open 32
id() { echo "spiffe://shop.example/ns/$1/sa/$2"; }
svids --id "$(id shop client)" --id "$(id shop ledger)" --id "$(id shop open)" --id "$(id dev stranger)" ||
	give_up ca "$(tail -1 "$NODE/log/ca")"
config <<END
enrol: {namespaces: [shop, dev]}
quarantine: 2
allow_older: true
mtls: {identities: $NODE/svids, user: nobody, drain: 3}
END
head='mesh shop: trust "shop.example", ingress deny, egress allow;
namespace shop;
service client { workload app == "client"; tcp 9000; }
service ledger { workload app == "ledger"; address 10.96.0.1, fd00:96::1; tcp 80 to 8080; tcp 8080; tcp 9090; }
service open { workload app == "open"; tcp 8080; }'
policy strict <<<"$head
mtls strict;
mtls permissive for open until \"2099-12-31\";
allow post: from client to ledger;
allow greet: from any to open;"
policy closed 2 <<<"$head
mtls strict;
mtls permissive for open until \"2099-12-31\";
allow post: from client to ledger port 9090;
deny night: from client to ledger port 8080;
allow greet: from any to open;"
sed "s/STRANGER/$(node_netns stranger)/" <<'END' | inventory
shop client app=client 10.77.0.11,fd77::11
dev stranger app=stranger 10.77.0.12,fd77::12 "account": "stranger", "netns": "/run/netns/STRANGER"
shop ledger app=ledger 10.77.0.31,fd77::31
shop open app=open 10.77.0.32,fd77::32
END
serve ledger ledger tcp:8080 tcp:9090
serve open open tcp:8080
node_meshd || give_up start "meshd does not start: $(tail -2 "$NODE/log/meshd.log")"
apply strict
node_wait eval '[ "$(status "(s[\"mtls\"] or {}).get(\"identities\")")" = 4 ]' ||
	give_up identities "$(status 's["mtls"]')"

# ---- The way -----------------------------------------------------------------------------------------
# sniff SECONDS FILE: what crosses the wire between the namespaces, at the bridge's end of the ledger.
wire() { # FILE COMMAND...: the bytes on the wire while COMMAND runs
	local file=$1
	shift
	nsenter --net="/run/netns/mesh-$NODE_NAME-net" timeout 20 tshark -i br0 -w "$NODE/$file.pcap" -q >/dev/null 2>&1 &
	local pid=$!
	NODE_PIDS+=($pid)
	sleep 1.5
	"$@"
	sleep 0.5
	kill -INT $pid 2>/dev/null
	wait $pid 2>/dev/null
}
on_wire() { grep -c -a -- "$2" "$NODE/$1.pcap"; }
talk() {
	expect_ok "through the tunnel, to a service address/ledger" client tcp 10.96.0.1 80
	expect_ok "to the workload's own address/ledger" client tcp 10.77.0.31 8080
	expect_ok "IPv6, to a service address/ledger" client tcp fd00:96::1 80
	expect_ok "IPv6/ledger" client tcp fd77::31 8080
	expect_ok "v4-mapped/ledger" client tcp ::ffff:10.77.0.31 8080
	expect_ok "Fast Open/ledger" client tfo 10.77.0.31 8080
	[ ! -e /proc/sys/net/mptcp/enabled ] || expect_ok "MPTCP/ledger" client mptcp 10.77.0.31 8080
}
if command -v tshark >/dev/null; then
	wire strict talk
	expect "no byte of the answers is on the wire" 0 "$(on_wire strict 'ledger peer=')"
	expect "TLS 1.3 and nothing older" "0x0304" \
		"$(tshark -r "$NODE/strict.pcap" -d tcp.port==15008,tls -Y 'tls.handshake.type == 2' -T fields -e tls.handshake.extensions.supported_version 2>/dev/null | sort -u)"
	expect "nothing but the tunnel" "15008" \
		"$(tshark -r "$NODE/strict.pcap" -Y 'tcp.flags.syn == 1 && tcp.flags.ack == 0' -T fields -e tcp.dstport 2>/dev/null | sort -u)"
else
	skip "the wire" "no tshark here"
	talk
fi
ask client tcp 10.96.0.1 80
expect "the server sees the caller's address" "peer=10.77.0.11" "$(grep -o 'peer=[^ :]*' <<<"$ANSWER" | head -1)"
expect "the caller sees the service's" "peername=10.96.0.1:80" "$(grep -o 'peername=[^ ]*' <<<"$ANSWER")"
expect_true "the flow has both identities, TLS and the rule" "$(last_flow)" flows_have \
	"f['hook'] == 'tunnel' and f['event'] == 'end' and f['side'] == 'receiver' and f['rule'] == 'post' and f['where'].endswith('strict.mesh:8:1') and f['from'].get('spiffe') == '$(id shop client)' and f['to'].get('spiffe') == '$(id shop ledger)' and f['tls'] == 'TLSv1.3' and f['bytes_in'] > 0"
expect "decided at the caller and at the receiver" yes \
	"$([ "$(hits post caller)" -ge 5 ] && [ "$(hits post receiver)" -ge 5 ] && echo yes)"

# ---- Plaintext ----------------------------------------------------------------------------------------
expect_refused "no rule: refused at connect, no tunnel" stranger tcp 10.77.0.31 8080
policy any 2 <<<"$head
mtls strict;
allow post: from any to ledger;"
apply any
expect_ok "another namespace's workload has an ID, too/ledger" stranger tcp 10.77.0.31 8080
workload nobody 66
expect_refused "plaintext from outside the mesh to a strict port" nobody tcp 10.77.0.31 8080
expect_true "... says plaintext" "$(last_flow --to ledger)" flows_have \
	"f['rule'] == 'plaintext' and f['verdict'] == 'deny' and f['from'].get('address') == '10.77.0.66' and f['hook'] in ('lookup', 'ingress')"
apply strict
expect_ok "permissive takes plaintext/open" nobody tcp 10.77.0.32 8080
expect_ok "permissive takes the tunnel/open" client tcp 10.77.0.32 8080
expect_true "... and prefers it" "$(last_flow --to open)" flows_have "f['hook'] == 'tunnel' and f['to'].get('service') == 'shop/open' and f['event'] == 'end'"

# ---- From inside ---------------------------------------------------------------------------------------
inside() { # what an application gets that speaks to the proxy's own doors
	node_in client timeout 5 /usr/bin/python3 -c '
import ctypes, errno, socket
one = socket.socket()
def told(what):
    try:
        what()
        return "taken"
    except OSError as error:
        return errno.errorcode.get(error.errno, "?")
print(told(lambda: one.setsockopt(0x6d657368, 2, bytes(96))), told(lambda: one.getsockopt(0x6d657368, 1, 64)), end=" ")
for port, before in ((15001, None), (15001, ("10.77.0.31", 8080)), (15008, None)):
    try:
        door = socket.socket()
        door.settimeout(2)
        if before:
            door.connect(before)
            ctypes.CDLL(None).connect(door.fileno(), bytes(16), 16)  # AF_UNSPEC: disconnected
        door.connect(("10.77.0.11", port))
        door.sendall(b"GET / HTTP/1.0\r\n\r\n")
        print("closed" if not door.recv(100) else "answered", end=" ")
    except ConnectionError:
        print("closed", end=" ")
print(told(lambda: socket.create_connection(("10.77.0.31", 15008), 2)))'
}
expect "questions on sockets of its own are none, the proxy's doors are shut to it, and so is another's tunnel port" \
	"ENOPROTOOPT ENOTSUP closed closed closed ECONNREFUSED" "$(inside)"

# Its own other end: what it sends would come back to it as the answer.
expect "from the port that it is steered to" "refused" "$(node_in client timeout 5 /usr/bin/python3 -c '
import socket
one = socket.socket()
one.settimeout(3)
one.bind(("", 15001))
try:
    one.connect(("10.77.0.31", 8080))
    one.send(b"x\n")
    print("got", one.recv(99))
except (ConnectionRefusedError, ConnectionResetError, ConnectionAbortedError):
    print("refused")')"

# ---- What status says --------------------------------------------------------------------------------
hold counted client 20 tcp 10.77.0.31 8080
node_wait eval '[ "$(status "s[\"mtls\"].get(\"connections\", 0) >= 2 and s[\"mtls\"].get(\"tunnels\", 0) >= 2")" = True ]'
expect "status counts tunnels and connections, at both ends" "True True" \
	"$(status 's["mtls"]["tunnels"] >= 2, s["mtls"]["connections"] >= 2' | tr -d '(),')"
expect_true "... in words" "$(meshd_ask status | grep proxy)" eval 'meshd_ask status | grep -q "node proxy, pid [0-9]*: 4 identities, [0-9]* tunnels"'
kill "$HOLD_counted" 2>/dev/null
mkdir -m 700 "$NODE/svids/odd" && echo nonsense >"$NODE/svids/odd/tls.crt" && (umask 077; echo nonsense >"$NODE/svids/odd/tls.key")
node_wait eval '! meshd_ask status --check >/dev/null'
expect_true "a file that is no certificate is a problem, and no more" "$(status 's["problems"]')" eval 'status "s[\"problems\"]" | grep -q odd'
expect_ok "... the others stay in force/ledger" client tcp 10.96.0.1 80
rm -r "$NODE/svids/odd"
node_wait eval 'meshd_ask status --check >/dev/null'
expect_true "... and it is over with the file" "$(status 's["problems"]')" eval 'meshd_ask status --check'

# ---- A switch ------------------------------------------------------------------------------------------
hold denied client 20 tcp 10.77.0.31 8080
hold kept client 20 tcp 10.77.0.31 9090
apply closed
expect "denied by the new policy: reset through the tunnel" reset "$(sleep 0.5; kill "$HOLD_denied" 2>/dev/null; held denied)"
expect_true "... by name" "$(last_flow --rule night)" flows_have "f['rule'] == 'night' and f['hook'] == 'tunnel'"
expect "allowed by it: kept" kept "$(kill -0 "$HOLD_kept" 2>/dev/null && echo kept || held kept)"
kill "$HOLD_kept" 2>/dev/null
apply strict

# ---- Rotation and restarts ------------------------------------------------------------------------------
load() { # SECONDS FILE
	node_in client "$MESHLOAD" --seconds "$1" --threads 4 --request 'x\n' 10.96.0.1:80 >"$NODE/$2" 2>&1 &
	LOAD=$!
}
load_failed() { /usr/bin/python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(d["connections"] - d["ok"], d["connections"] > 100)' "$NODE/$1"; }
load 6 rotated
for i in 1 2 3 4 5; do
	sleep 1
	svids --id "$(id shop client)" --id "$(id shop ledger)" --id "$(id shop open)" --id "$(id dev stranger)"
done
wait $LOAD
expect "every certificate rotated every second: nothing failed" "0 True" "$(load_failed rotated)"
load 8 restarted
for i in 1 2 3; do
	sleep 1
	node_stop_meshd -TERM
	node_meshd || fail restart "meshd does not start"
done
wait $LOAD
expect "meshd restarted, its proxy replaced: nothing failed" "0 True" "$(load_failed restarted)"
node_wait eval '[ "$(pgrep -c -f "^meshp" 2>/dev/null)" = 1 ]'
expect "the older proxies are gone" 1 "$(cat "$NODE_CGROUP/mesh-proxy/cgroup.procs" | while read -r pid; do cat /proc/$pid/comm 2>/dev/null; done | grep -c meshp)"

# ---- Failure --------------------------------------------------------------------------------------------
node_stop_meshd -KILL
expect_ok "meshd is dead, its proxy is not/ledger" client tcp 10.96.0.1 80
for pid in $(cat "$NODE_CGROUP/mesh-proxy/cgroup.procs"); do kill -KILL "$pid"; done
expect_refused "both are dead: strict is refused, never sent in the clear" client tcp 10.96.0.1 80
node_meshd || fail restart "meshd does not start"
node_wait eval '[ "$(status "(s[\"mtls\"] or {}).get(\"identities\")")" = 4 ]'
expect_ok "a new one takes over/ledger" client tcp 10.96.0.1 80
for pid in $(cat "$NODE_CGROUP/mesh-proxy/cgroup.procs"); do grep -q meshp /proc/$pid/comm && kill -KILL "$pid"; done
node_wait eval 'node_in client $NET ask tcp 10.96.0.1 80 | grep -q ^ok'
expect_ok "meshd starts another proxy where one dies/ledger" client tcp 10.96.0.1 80
expect_true "... and counts it" "$(status 's["mtls"]')" test "$(status 's["mtls"]["restarts"]')" -ge 1
for pid in $(cat "$NODE_CGROUP/mesh-proxy/cgroup.procs"); do grep -q mesh-broker /proc/$pid/comm && kill -KILL "$pid"; done
node_wait eval '[ "$(status "s[\"mtls\"][\"restarts\"]")" -ge 2 ]'
node_wait eval 'node_in client $NET ask tcp 10.96.0.1 80 | grep -q ^ok'
expect_ok "... and a broker/ledger" client tcp 10.96.0.1 80

# ---- What status says -----------------------------------------------------------------------------------
checked() { meshd_ask status --check >"$NODE/log/status"; }
node_wait eval 'checked && grep -q "^  spiffe:" "$NODE/log/status"'
expect "status counts certificates, and says until when" "4 1" \
	"$(grep -o ': [0-9]* identities' "$NODE/log/status" | tr -dc 0-9) $(grep -c "^  $(id shop client) until 2" "$NODE/log/status")"
key=$(readlink -f "$NODE/svids/shop.client/tls.key")
chmod 644 "$key"
node_wait eval '! checked'
expect "a key that others may read is a problem" 1 "$(grep -c '^PROBLEM identities: .*others may read' "$NODE/log/status")"
expect_ok "... and the last good one is kept/ledger" client tcp 10.96.0.1 80
chmod 600 "$key"
node_wait checked
expect_true "... until it is mended" "$(cat "$NODE/log/status")" checked
meshd_ask flows >"$NODE/log/flows"
expect_true "flows tell a tunnel, its end and both names" "$(tail -3 "$NODE/log/flows")" \
	grep -q 'shop/client (.*) -> shop/ledger (.*) tcp by .*, through the tunnel: end at the caller' "$NODE/log/flows"
sed -i '/^mtls:/d' "$NODE/meshd.yaml"
node_stop_meshd -TERM
node_meshd || fail restart "meshd does not start"
expect "strict ports, and no proxy: a problem" 1 "$(checked; grep -c '^PROBLEM the policy has strict ports' "$NODE/log/status")"
expect_refused "... as nothing reaches them" client tcp 10.96.0.1 80
