# Rule 9: what the parser refuses is closed, and counted. The packets are sent past every hook of the sender.
topic_begin
workload client 11
workload web 21
config <<<'enrol: {namespaces: [shop]}'
policy p <<'MESH'
mesh shop: trust "shop.example", ingress allow, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080; udp 5353; udp 5354; }
deny off: from client to web port 5354;
MESH
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop web app=web 10.77.0.21,fd77::21
END
# What arrives is written to a file, a line each.
node_spawn web /usr/bin/python3 -uc '
import socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", 5353))
print("ready")
while True:
    text, peer = sock.recvfrom(9000)
    print("got", len(text), peer[0])'
node_wait listens web 5353
# A raw socket of the workload takes other protocols: without one the kernel would drop them by itself.
node_spawn web /usr/bin/python3 -uc '
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
print("raw ready")
while True:
    print("got raw", len(sock.recv(9000)))'
node_wait grep -q 'raw ready' "$NODE/log/web.log"
node_meshd || give_up start "meshd does not start"
MAC=$(ip -n "$(node_netns web)" -br link show eth0 | awk '{ print $3 }')
arrived() { grep -c '^got' "$NODE/log/web.log"; }
send() { # NAME: $ARRIVED, $COUNTED in STAT
	local before counted from=10.77.0.11 to=10.77.0.21
	[ "$1" = extension ] && from=fd77::11 to=fd77::21
	before=$(arrived) counted=$(stat_of "$2")
	node_in client $NET raw "$1" $from $to "${3:-5353}" "$MAC" || fail "$1" "it cannot be sent"
	sleep 0.2
	ARRIVED=$(($(arrived) - before)) COUNTED=$(($(stat_of "$2") - counted))
}

# Before there is a policy all of them arrive: the packets are good ones, and the server takes them.
send plain malformed
expect "no policy: a plain datagram arrives" 1 $ARRIVED
send options ip_options
expect "no policy: with IP options" 1 $ARRIVED
send extension ip_options
expect "no policy: with an extension header" 1 $ARRIVED
send sctp protocol
expect "no policy: another protocol" 1 $ARRIVED
apply p
send plain malformed
expect "a plain datagram arrives" "1 0" "$ARRIVED $COUNTED"
send options ip_options
expect "IP options: closed and counted" "0 1" "$ARRIVED $COUNTED"
send extension ip_options
expect "IPv6 extension headers: closed and counted" "0 1" "$ARRIVED $COUNTED"
send sctp protocol
expect "another protocol: closed and counted" "0 1" "$ARRIVED $COUNTED"
# Past every hook of the sender, too, a denial is a denial.
before=$(hits off receiver)
send plain malformed 5354
expect "a datagram from AF_PACKET is decided where it arrives" $((before + 1)) "$(hits off receiver)"
# The kernel drops these by itself before any hook of a socket: what matters is what comes behind.
send truncated malformed
send short-tcp malformed
send plain malformed
expect "behind truncated headers all is as before" 1 $ARRIVED
expect "ping passes" 0 "$(node_in client $NET ping 10.77.0.21; echo $?)"

# Our own side: a raw socket with IP options, seen at egress.
before=$(arrived) counted=$(stat_of protocol)
node_in client /usr/bin/python3 -c '
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
try:
    sock.sendto(b"\0" * 16, ("10.77.0.21", 0))
except PermissionError:
    print("EPERM")' >"$NODE/log/raw"
expect "a raw socket's other protocol is refused where it leaves" "EPERM 1" "$(cat "$NODE/log/raw") $(($(stat_of protocol) - counted))"
# Fragments arrive reassembled: 5,000 bytes are one datagram.
before=$(arrived)
node_in client /usr/bin/python3 -c '
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x" * 5000, ("10.77.0.21", 5353))'
node_wait grep -q 'got 5000' "$NODE/log/web.log"
expect "5,000 bytes arrive as one" 1 "$(grep -c 'got 5000' "$NODE/log/web.log")"
