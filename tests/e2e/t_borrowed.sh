# Addresses that are borrowed, groups that are shared, sockets that are older: nobody's verdict is another's.
topic_begin
INJECT="/usr/bin/python3 $ROOT/tests/e2e/inject.py"
workload tenant 11
workload sender 12
workload outside 13
workload vault 21
workload web 22
workload dns 24
config <<<'enrol: {namespaces: [shop]}'
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service tenant { workload app == "tenant"; tcp 9000; }
service sender { workload app == "sender"; tcp 9000; }
service vault { workload app == "vault"; tcp 8080; udp 5353; }
service web { workload app == "web"; tcp 8080; udp 9999; }
service dns { workload app == "dns"; udp 5353; }
service remote { workload app == "remote"; tcp 9000; }
allow group: from sender to web port 9999;
allow ask: from world to dns port 5353;
allow far: from remote to vault port 5353;
deny dns-out: from dns to world;
MESH
people() {
	{
		[ "${1:-}" = without ] || echo 'shop tenant app=tenant 10.77.0.11,fd77::11'
		cat <<'END'
shop sender app=sender 10.77.0.12,fd77::12
shop vault app=vault 10.77.0.21,fd77::21
shop web app=web 10.77.0.22,fd77::22
shop dns app=dns 10.77.0.24,fd77::24
shop remote app=remote 10.77.0.61,fd77::61 "node": "n2"
END
	} | inventory
}
people
serve vault vault udp:5353
serve outside outside tcp:8888
node_meshd || give_up start "meshd does not start"
apply p
# tell WORKLOAD PYTHON: what it prints; the error where it is one
tell() {
	node_in "$1" timeout 5 /usr/bin/python3 -uc '
import socket, struct, sys
def udp(family, address, port):
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.settimeout(0.5)
    if family == socket.AF_INET6:
        one.setsockopt(41, 78, 1)  # IPV6_FREEBIND: any address, and no privilege for it
    one.bind((address, port))
    return one
try:
    exec(sys.argv[1])
except OSError as error:
    print("no:", type(error).__name__)' "$2" 2>&1 | tail -1
}

# ---- Somebody else's address --------------------------------------------------------------------------
ask='S = udp(10, "fd77::13", 7000); S.sendto(b"x\n", ("fd77::21", 5353)); print("heard", S.recv(99))'
expect "the world does not reach the vault" "no: TimeoutError" "$(tell outside "$ask")"
expect "a tenant does not send from the vault's address" "no: PermissionError" \
	"$(tell tenant 'udp(10, "fd77::21", 5353).sendto(b"x\n", ("fd77::13", 7000)); print("sent")')"
expect "... and what comes back is no answer of the vault's" "no: TimeoutError" "$(tell outside "$ask")"
expect "from an address that is nobody's it is judged as itself" sent \
	"$(tell tenant 'udp(10, "fd77::99", 7001).sendto(b"x\n", ("fd77::13", 7000)); print("sent")')"
expect "nor does who is in no mesh, bound to a workload's address elsewhere" "no: PermissionError" \
	"$(tell outside 'udp(10, "fd77::61", 6000).sendto(b"x\n", ("fd77::21", 5353)); print("sent")')"
expect "... or sending from it" "no: PermissionError" \
	"$(tell outside 'udp(10, "::", 6001).sendmsg([b"x\n"], [(41, 50, socket.inet_pton(10, "fd77::61") + bytes(4))], 0, ("fd77::21", 5353)); print("sent")')"
expect "no rule counts it" 0 "$(hits far receiver)"

# ---- A group ---------------------------------------------------------------------------------------------
joins() { # WORKLOAD
	node_spawn "$1" /usr/bin/python3 -uc '
import socket, struct
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("", 9999))
one.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.1.1") + struct.pack("4si", bytes(4), socket.if_nametoindex("eth0")))
print("joined")
while True:
    print("heard", one.recv(99).decode())'
	JOINED=$SPAWNED
	node_wait grep -q joined "$NODE/log/$1.log"
}
says() { tell sender "udp(2, '10.77.0.12', 4000).sendto(b'$1', ('239.1.1.1', 9999)); print('sent')"; }
joins web
WEB=$JOINED
expect "to a group" sent "$(says first)"
node_wait grep -q "heard first" "$NODE/log/web.log"
joins vault
expect "... again" sent "$(says second)"
node_wait grep -q "heard second" "$NODE/log/web.log"
expect "who may hear it hears it, whoever may not does not" "2 0" \
	"$(grep -c heard "$NODE/log/web.log") $(grep -c heard "$NODE/log/vault.log")"

kill "$WEB"

# ---- A namespace of one's own, with the address of a workload ----------------------------------------------
hold vault vault 20 tcp 10.77.0.13 8888
node_wait eval '[ -n "$(ip netns exec "$(node_netns vault)" ss -Htn state established dst 10.77.0.13:8888)" ]'
PORT=$(ip netns exec "$(node_netns vault)" ss -Htn state established dst 10.77.0.13:8888 | awk '{ print $3 }' | sed 's/.*://')
before=$(status 's["resets"]')
node_in tenant timeout 10 unshare -n $INJECT ack 10.77.0.21 "$PORT" 10.77.0.13 8888 || fail "an ACK out of nothing" "$(tail -1 "$NODE/log/tenant.log")"
sleep 0.3
kill -0 "$HOLD_vault" 2>/dev/null && ok "nobody ends another's connection" || fail "nobody ends another's connection" "$(held vault)"
expect "... no reset was ordered" "$before" "$(status 's["resets"]')"
out='udp(2, "10.77.0.24", 5353).sendto(b"x\n", ("10.77.0.13", 7100)); print("sent")'
expect "dns does not send to the world" "no: PermissionError" "$(tell dns "$out")"
node_in dns timeout 10 unshare -n $INJECT ask 10.77.0.24 5353 10.77.0.13 7100 || fail "a question out of nothing" "it cannot be asked"
expect "... not as an answer that it asked itself for" "no: PermissionError" "$(tell dns "$out")"
expect "... and no rule counts the question" 0 "$(hits ask receiver)"

# ---- An answer is one for 60 s -------------------------------------------------------------------------------
node_spawn web /usr/bin/python3 -uc '
import os, socket, sys, time
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("10.77.0.22", 9999))
text, peer = one.recvfrom(99)
for turn in "12":
    while not os.path.exists(sys.argv[1] + turn):
        time.sleep(0.01)
    try:
        one.sendto(b"more", peer)
        print(turn, "told")
    except OSError as error:
        print(turn, type(error).__name__)
    sys.stdout.flush()' "$NODE/turn"
policy shut 2 <<<"$(sed 's/egress allow/egress deny/; /^deny/d' "$NODE/p.mesh")"
policy again 3 <"$NODE/p.mesh"
apply shut
sleep 0.2
expect "asked once" sent "$(tell sender 'udp(2, "10.77.0.12", 4100).sendto(b"once", ("10.77.0.22", 9999)); print("sent")')"
late() { # TURN: 40 s later, and another inventory
	"$BUILD/e2e-bpf" age "$NODE/bpffs/mesh/map/flows" 40
	people "$2"
	touch "$NODE/turn$1"
	node_wait grep -q "^$1 " "$NODE/log/web.log"
}
late 1 without
late 2 with
expect "an answer does not keep the way open for the next, though the inventory changed" "1 told 2 PermissionError" \
	"$(grep "^[12] " "$NODE/log/web.log" | paste -sd' ')"

# ---- Sockets that are older than the enrolment of their namespace, and were in use nowhere -------------------
apply again
people without
node_wait eval '[ "$(status "s[\"inventory\"][\"workloads\"]")" = 5 ]'
node_spawn_to "$NODE/log/older" tenant /usr/bin/python3 -uc '
import os, socket, sys, time
plain, denied, chosen, listener = (socket.socket(10, kind) for kind in (2, 2, 2, 1))
print("ready")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
def go(one, address):
    try:
        one.sendto(b"x\n", address)
        print("sent")
    except OSError as error:
        print(type(error).__name__)
go(plain, ("fd77::13", 7200))
go(denied, ("fd77::21", 5353))
chosen.setsockopt(41, 78, 1)
chosen.bind(("fd77::99", 6000))
go(chosen, ("fd77::21", 5353))
listener.bind(("::", 9000))
listener.listen()
print("listens")
time.sleep(20)' "$NODE/older"
node_wait grep -q ready "$NODE/log/older"
people
node_wait eval '[ "$(status "s[\"inventory\"][\"workloads\"]")" = 6 ]'
touch "$NODE/older"
node_wait grep -q listens "$NODE/log/older"
expect "an older socket is its workload's" "ready sent PermissionError PermissionError listens" "$(paste -sd' ' "$NODE/log/older")"
expect_refused "an older socket that listens is shut as any other" outside tcp 10.77.0.11 9000

# ---- While meshd starts again ---------------------------------------------------------------------------------
node_spawn_to "$NODE/log/door" tenant unshare -n $INJECT send 10.77.0.21 5354 10.77.0.13 7300 "$NODE/started"
for _ in 1 2 3; do
	node_stop_meshd
	node_meshd || give_up "another start" "meshd does not start"
done
touch "$NODE/started"
node_wait grep -q passed "$NODE/log/door"
expect "a restart opens no door for who has a workload's address" "passed 0 of some" "$(cat "$NODE/log/door")"
