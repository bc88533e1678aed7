# A workload is who its namespace says, whatever address its sockets take or are reached by.
topic_begin
workload client 11
workload stranger 12
workload outside 13
workload web 21
workload bad 31
config <<<'enrol: {namespaces: [shop]}'
of_web() { # VERDICT RULES: what leaves by default, and what else is said
	echo "mesh shop: trust \"shop.example\", ingress deny, egress $1;"
	cat <<'MESH'
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service stranger { workload app == "stranger"; tcp 9000; }
service web { workload app == "web"; tcp 8080; tcp 7779..7780; udp 5353; }
MESH
	echo "$2"
}
bad='external bad { cidr 10.77.0.31/32, fd77::31/128; tcp 8080; udp 5353; }
deny no-bad: from any to bad;'
policy p <<<"$(of_web allow "$bad allow serve: from client to web; allow any-to-7779: from any to web port 7779..7780;")"
policy closed 2 <<<"$(of_web allow "$bad allow serve: from client to web port 8080;")"
policy welcome 2 <<<"$(of_web allow 'allow open: from any to web; deny not-stranger: from stranger to web;')"
policy inside 2 <<<"$(of_web deny 'allow serve: from client to web;')"
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop stranger app=stranger 10.77.0.12,fd77::12
shop web app=web 10.77.0.21,fd77::21
END
serve web web tcp:8080 udp:5353
serve bad bad tcp:8080 udp:5353
node_meshd || give_up start "meshd does not start"
apply p

# try WORKLOAD PYTHON: prints what came back, or the error; S is an IPv6 datagram socket, T a stream one.
try() {
	local workload=$1
	node_in "$workload" timeout 5 /usr/bin/python3 -c '
import socket, sys
S = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
T = socket.socket(socket.AF_INET6)
D = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for s in (S, T, D):
    s.settimeout(0.5)
eth0 = socket.if_nametoindex("eth0")
try:
    exec(sys.argv[1])
except OSError as error:
    print("no:", type(error).__name__)' "$2" 2>&1 | tail -1
}
shut() { # NAME ANSWER
	case "$2" in *web*|sent) fail "$1" "$2" ;; *) ok "$1" ;; esac
}
LOCAL=$(ip -n "$(node_netns web)" -6 -br addr show dev eth0 scope link | grep -o 'fe80:[0-9a-f:]*')

expect "the sockets work: client to web" got "$(try client 'S.sendto(b"x\n", ("fd77::21", 5353)); S.recv(99); print("got")')"
for who in stranger outside; do
	shut "link-local of a workload, TCP, from $who" "$(try $who "T.connect(('$LOCAL', 8080, 0, eth0)); T.send(b'x\n'); print(T.recv(99))")"
	shut "link-local of a workload, UDP, from $who" "$(try $who "S.sendto(b'x\n', ('$LOCAL', 5353, 0, eth0)); print(S.recv(99))")"
	shut "multicast to all nodes, from $who" "$(try $who "S.sendto(b'x\n', ('ff02::1', 5353, 0, eth0)); print(S.recv(99))")"
	for address in 10.77.255.255 255.255.255.255; do
		shut "broadcast $address, from $who" "$(try $who "D.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1); D.sendto(b'x\n', ('$address', 5353)); print(D.recv(99))")"
	done
	# IPV6_FREEBIND is 78: an address that is not one's own.
	shut "$who binds a client's address, UDP" "$(try $who 'S.setsockopt(41, 78, 1); S.bind(("fd77::11", 5003)); S.sendto(b"x\n", ("fd77::21", 5353)); print("sent")')"
done
expect_true "the flow log blames nobody else" "$(status '[h for h in s["hits"] if h["rule"] == "serve"]')" \
	test "$(status '[h["receiver"] for h in s["hits"] if h["rule"] == "serve"][0]')" = 1
OWN=$(ip -n "$(node_netns stranger)" -6 -br addr show dev eth0 scope link | grep -o 'fe80:[0-9a-f:]*')
shut "from one's own link-local to what is denied" "$(try stranger "S.bind(('$OWN', 5001, 0, eth0)); S.sendto(b'x\n', ('fd77::31', 5353)); print('web', S.recv(99))")"
# A routing header (RFC 8200 section 4.4; type 4 with nothing left, RFC 8754) leads the SYN elsewhere.
shut "a routing header" "$(try stranger "V = socket.inet_pton(10, 'fd77::31'); T.setsockopt(41, 57, bytes([0, 2, 4, 0, 0, 0, 0, 0]) + V); T.connect(('fd99::21', 8080)); T.send(b'x\n'); print('web', T.recv(99))")"
expect_true "is counted" "$(stat_of ip_options)" test "$(stat_of ip_options)" -gt 0

# A workload talks to itself by every address of its own.
expect "itself by link-local" got "$(try web "T.connect(('$LOCAL', 8080, 0, eth0)); T.send(b'x\n'); T.recv(99); print('got')")"
expect "itself by ::1" got "$(try web "T.connect(('::1', 8080)); T.send(b'x\n'); T.recv(99); print('got')")"

# A listener that was a client before: its children are judged like any other's.
serve outside outside tcp:8888
node_spawn web /usr/bin/python3 -uc '
import ctypes, socket, struct
libc = ctypes.CDLL(None)
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("10.77.0.21", 7779))
sock.connect(("10.77.0.13", 8888))
libc.connect(sock.fileno(), struct.pack("HH12x", 0, 0), 16)
sock.listen(5)
while True:
    peer, _ = sock.accept()
    while text := peer.recv(99):
        peer.send(b"web\n")'
node_wait listens web 7779 || fail "a listener that was a client" "it does not listen"
node_in outside $NET hold 4 tcp 10.77.0.21 7779 >"$NODE/log/held" &
HELD=$!
# One that is a client in between, while a handshake is under way (TCP_DEFER_ACCEPT: until the caller sends).
node_spawn web /usr/bin/python3 -uc '
import ctypes, os, socket, struct, sys, time
sock = socket.socket()
def disconnect():
    ctypes.CDLL(None).connect(sock.fileno(), struct.pack("HH12x", 0, 0), 16)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
sock.bind(("10.77.0.21", 7780))
sock.listen(5)
while not os.path.exists(sys.argv[1] + "/denied"):
    time.sleep(0.01)
disconnect()
sock.connect(("10.77.0.13", 8888))
disconnect()
sock.listen(5)
open(sys.argv[1] + "/again", "w")
peer, _ = sock.accept()
while peer.recv(99):
    peer.send(b"web\n")' "$NODE"
node_wait listens web 7780 || fail "a listener that is a client in between" "it does not listen"
node_in outside timeout 8 /usr/bin/python3 -uc '
import os, socket, sys, time
sock = socket.create_connection(("10.77.0.21", 7780), 3)
print("connected")
while not os.path.exists(sys.argv[1] + "/again"):
    time.sleep(0.01)
sock.send(b"x\n")
try:
    print("heard", sock.recv(99))
except OSError as error:
    print("no:", type(error).__name__)' "$NODE" >"$NODE/log/between" 2>&1 &
BETWEEN=$!
sleep 0.5
apply closed
touch "$NODE/denied"
wait $HELD
expect "a switch that denies its connections resets them" reset "$(tail -1 "$NODE/log/held" | cut -d' ' -f1)"
wait $BETWEEN
expect "... also one whose handshake was under way when its listener was a client" "connected no: ConnectionResetError" "$(paste -sd' ' "$NODE/log/between")"

# ---- Link-local: every process has such an address, and it names nobody -------------------------------
apply welcome
expect "who is allowed by his own address" "got" "$(try client 'S.sendto(b"x\n", ("fd77::21", 5353)); S.recv(99); print("got")')"
OTHER=$(ip -n "$(node_netns outside)" -6 -br addr show dev eth0 scope link | grep -o 'fe80:[0-9a-f:]*')
before=$(date +%s%N)
shut "a deny is not passed by another name: link-local, TCP" "$(try stranger "T.settimeout(3); T.connect(('$LOCAL', 8080, 0, eth0)); T.send(b'x\n'); print(T.recv(99))")"
expect_true "... told at once" "$((($(date +%s%N) - before) / 1000000)) ms" test $((($(date +%s%N) - before) / 1000000)) -lt 1000
expect_true "... as unknown" "$(last_flow --from stranger)" flows_have "f['rule'] == 'unknown' and f['from'].get('workload') == 'shop/stranger' and f['to'].get('address') == '$LOCAL'"
shut "... of who is in no mesh, TCP" "$(try client "T.connect(('$OTHER', 8888, 0, eth0)); T.send(b'x\n'); print('web', T.recv(99))")"
shut "... on a socket that was let through to somebody else before" "$(try client "import ctypes
T.connect(('fd77::21', 8080)); ctypes.CDLL(None).connect(T.fileno(), bytes(28), 28)
T.connect(('$OTHER', 8888, 0, eth0)); T.send(b'x\n'); print('web', T.recv(99))")"
shut "... MPTCP" "$(try stranger "M = socket.socket(10, socket.SOCK_STREAM, 262); M.settimeout(0.5); M.connect(('$LOCAL', 8080, 0, eth0)); M.send(b'x\n'); print(M.recv(99))")"
shut "... UDP" "$(try stranger "S.sendto(b'x\n', ('$LOCAL', 5353, 0, eth0)); print(S.recv(99))")"
shut "... from one's own link-local to a global one" "$(try stranger "S.bind(('$OWN', 5002, 0, eth0)); S.sendto(b'x\n', ('fd77::21', 5353)); print(S.recv(99))")"
shut "... to all nodes" "$(try stranger "S.sendto(b'x\n', ('ff02::1', 5353, 0, eth0)); print(S.recv(99))")"
shut "from outside the mesh, too: \`any\` is whoever has a name" "$(try outside "S.bind(('$OTHER', 0, 0, eth0)); S.sendto(b'x\n', ('$LOCAL', 5353, 0, eth0)); print(S.recv(99))")"
expect "itself by link-local, still" got "$(try web "T.connect(('$LOCAL', 8080, 0, eth0)); T.send(b'x\n'); T.recv(99); print('got')")"

# ---- To a group: as many ways as there are -------------------------------------------------------------
apply inside
node_spawn outside /usr/bin/python3 -uc '
import socket, struct
four, six = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
lite = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)
eth0 = socket.if_nametoindex("eth0")
for sock, port in ((four, 9999), (lite, 9998)):
    sock.bind(("", port))
    sock.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.1.1") + struct.pack("4si", bytes(4), eth0))
six.bind(("::", 9997))
six.setsockopt(41, socket.IPV6_JOIN_GROUP, socket.inet_pton(10, "ff15::7") + struct.pack("i", eth0))
import select
print("listens")
while True:
    for sock in select.select([four, six, lite], [], [])[0]:
        print("heard", sock.recv(99).decode())'
HEARS=$NODE/log/outside.log
node_wait grep -q listens "$HEARS" || fail "to a group" "nobody listens"
for text in plain options lite six hop; do
	case $text in
	plain) how='D.sendto(b"plain", ("239.1.1.1", 9999))' ;;
	options) how='D.setsockopt(0, 4, b"\1\1\1\0"); D.sendto(b"options", ("239.1.1.1", 9999))' ;;
	lite) how='L = socket.socket(2, 2, 136); L.sendto(b"lite", ("239.1.1.1", 9998))' ;;
	six) how='S.sendto(b"six", ("ff15::7", 9997, 0, eth0))' ;;
	hop) how='S.setsockopt(41, 54, bytes([0, 0, 1, 4, 0, 0, 0, 0])); S.sendto(b"hop", ("ff15::7", 9997, 0, eth0))' ;;
	esac
	try outside "$how" >/dev/null
	node_wait grep -q "heard $text" "$HEARS" || fail "to a group: $text" "the receiver does not hear what it should: $(tail -2 "$HEARS")"
	shut "egress deny, to a group: $text" "$(try client "$how; print('sent')")"
done
sleep 0.2
expect "... and nobody heard of it" 5 "$(grep -c heard "$HEARS")"

# A raw socket of which a TCP packet was let through is not let through with everything.
expect "another protocol from where TCP was let through" "sent no: PermissionError" "$(try client 'import struct
R = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
head = lambda protocol: struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, protocol, 0, socket.inet_aton("10.77.0.11"), socket.inet_aton("10.77.0.21"))
R.sendto(head(6) + struct.pack("!HHIIBBHHH", 5004, 8080, 1, 0, 0x50, 2, 1024, 0, 0), ("10.77.0.21", 0))
print("sent", end=" ")
R.sendto(head(132) + bytes(20), ("10.77.0.21", 0))
print("sent")')"

# What was opened while the glass was broken is judged when it is mended.
# paused FILE PYTHON: a client that has been let through to web; PAUSE waits until FILE is there
paused() {
	node_in client timeout 8 /usr/bin/python3 -uc '
import ctypes, os, socket, sys, time
def pause(name):
    while not os.path.exists(name):
        time.sleep(0.01)
sock = socket.create_connection(("10.77.0.21", 8080), 3)
open(sys.argv[1] + ".ready", "w")
pause(sys.argv[1])
ctypes.CDLL(None).connect(sock.fileno(), bytes(16), 16)  # AF_UNSPEC: disconnected
try:
    exec(sys.argv[2])
    sock.send(b"x\n")
    print("heard", sock.recv(99))
except OSError as error:
    print("no:", type(error).__name__)' "$NODE/$1" "$2" >"$NODE/log/$1" 2>&1 &
	PAUSED=$!
	node_wait test -e "$NODE/$1.ready"
}
paused off 'sock.connect(("10.77.0.31", 8080)); open(sys.argv[1] + ".away", "w"); pause(sys.argv[1] + ".on")'
meshd_ask off >/dev/null
touch "$NODE/off"
node_wait test -e "$NODE/off.away"
node_in stranger $NET hold 4 tcp 10.77.0.31 8080 >"$NODE/log/off-out" &
OUT=$!
node_in outside $NET hold 4 tcp 10.77.0.21 8080 >"$NODE/log/off-in" &
IN=$!
sleep 0.5
meshd_ask on >/dev/null
touch "$NODE/off.on"
wait $OUT $IN $PAUSED
expect_true "opened during off, by a socket that was let through to somebody else before" "$(cat "$NODE/log/off")" grep -q "^no: " "$NODE/log/off"
expect "opened during off, outbound: reset" reset "$(tail -1 "$NODE/log/off-out" | cut -d' ' -f1)"
expect "opened during off, inbound: reset" reset "$(tail -1 "$NODE/log/off-in" | cut -d' ' -f1)"

# A namespace that no inventory knows takes a client's address: it is nobody, even where the map that says
# so is full.
ip -n "$(node_netns outside)" addr add 10.77.0.11/16 dev eth0
ip -n "$(node_netns client)" link set eth0 down
apply closed
meshd_ask off >/dev/null
meshd_ask on >/dev/null
node_in outside ip link show >/dev/null
shut "a stranger under a client's address, TCP" "$(try outside 'T4 = socket.socket(); T4.settimeout(0.5); T4.bind(("10.77.0.11", 0)); T4.connect(("10.77.0.21", 8080)); T4.send(b"x\n"); print(T4.recv(99))')"
shut "a stranger under a client's address, UDP" "$(try outside 'D.bind(("10.77.0.11", 0)); D.sendto(b"x\n", ("10.77.0.21", 5353)); print(D.recv(99))')"

# A workload that meshd has lost: its sockets are nobody's, where they were let through to before, too.
ip -n "$(node_netns outside)" addr del 10.77.0.11/16 dev eth0
ip -n "$(node_netns client)" link set eth0 up
apply inside
node_wait eval '[ "$(try client "T.connect((\"::ffff:10.77.0.21\", 8080)); T.send(b\"x\n\"); T.recv(99); print(\"got\")")" = got ]' || fail "a workload that is lost" "it cannot connect before"
paused lost 'sock.settimeout(1); sock.connect(("10.77.0.21", 8080))'
COOKIE=$(node_in client /usr/bin/python3 -c 'import socket, struct; print(struct.unpack("Q", socket.socket().getsockopt(1, 71, 8))[0])') # SO_NETNS_COOKIE
"$BUILD/e2e-bpf" clear "$NODE/bpffs/mesh/map/netns" "$COOKIE" || fail "a workload that is lost" "the map cannot be cleared"
touch "$NODE/lost"
wait $PAUSED
expect_true "a socket of a workload that is lost, to where it was let through before" "$(cat "$NODE/log/lost")" grep -q "^no: " "$NODE/log/lost"
