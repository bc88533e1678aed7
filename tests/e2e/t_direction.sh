# Rule 1, direction, and the ways in and out that a connect hook alone does not see.
topic_begin
workload client 11
workload stranger 12
workload outside 13
workload web 21
config <<<'enrol: {namespaces: [shop]}'
# Only client -> web is allowed: whatever lets web open something towards client is a bug.
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress deny;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; udp 9000; }
service web { workload app == "web"; address 10.96.0.1; tcp 80 to 8080; tcp 8080..8085; udp 5353..5355; tcp 8099; }
allow ask-web: from client to web;
deny never-8099: from any to web port 8099;
MESH
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop stranger - 10.77.0.12,fd77::12
shop web app=web 10.77.0.21,fd77::21
END
serve web web tcp:8080 udp:5353 udp4:5354 udpx:5355 mptcp:8081 tfo:8082 tcp:8099
serve client client tcp:9000 udp:9000
node_meshd || give_up start "meshd does not start"
apply p

# ---- UDP -------------------------------------------------------------------------------------------
# The server's answer is no request of its own, however it is bound.
expect_ok "udp answer of a server of both families/web" client udp 10.77.0.21 5353
expect_ok "udp answer over IPv6/web" client udp fd77::21 5353
expect_ok "udp answer of an IPv4 server/web" client udp 10.77.0.21 5354
expect_ok "udp answer of a server that connects to its client/web" client udp 10.77.0.21 5355
expect_eperm "the server may not ask the client" web udp 10.77.0.11 9000
expect_eperm "not from the port that answers: direction is per peer" web udp 10.77.0.11 9000 from=5353
expect_eperm "nor a port that nobody listens on" web udp 10.77.0.11 9001 from=5353
expect_ok "what the server was refused does not close the client's way/web" client udp 10.77.0.21 5353 from=9001
expect_ok "and answers go on/web" client udp 10.77.0.21 5353
expect_refused "nor connect to it" web udpc 10.77.0.11 9000

# 60 s: what comes late but in time is the answer, afterwards it is a question. The clock of the kernel's
# table is turned, not waited for.
expect_ok "a flow from a known port/web" client udp 10.77.0.21 5353 from=40000
expect_silent "the server's late datagram is part of it" web udp 10.77.0.11 40000 from=5353
"$BUILD/e2e-bpf" age "$NODE/bpffs/mesh/map/flows" 61 || fail age "the table of flows cannot be aged"
expect_eperm "after 60 s it is not" web udp 10.77.0.11 40000 from=5353

# ---- Nobody is a server by having answered ------------------------------------------------------------
expect_refused "tcp from the server to the client" web tcp 10.77.0.11 9000

# ---- Where only the receiver decides ----------------------------------------------------------------
expect_refused "sk_lookup refuses who is not enrolled" outside tcp 10.77.0.21 8080
expect_refused "over IPv6, too" outside tcp fd77::21 8080
expect_refused "and by IPv4 in an IPv6 socket" outside tcp ::ffff:10.77.0.21 8080
expect_silent "udp from outside is dropped" outside udp 10.77.0.21 5353
expect_true "named, at the hook of the receiver" "$(last_flow)" flows_have \
	"f['hook'] == 'lookup' and f['verdict'] == 'deny' and f['from'].get('address') == '10.77.0.13' and f['from']['service'] == 'world' and f['to']['service'] == 'shop/web'"

# ---- MPTCP, Fast Open, io_uring -----------------------------------------------------------------------
if node_in client /usr/bin/python3 -c 'import socket; socket.socket(2, 1, 262)' 2>/dev/null; then
	expect_ok "MPTCP to an MPTCP server/web" client mptcp 10.77.0.21 8081
	expect_ok "MPTCP to a service address/web" client mptcp 10.96.0.1 80
	expect_refused "MPTCP denied" client mptcp 10.77.0.21 8099
	expect_refused "MPTCP of a stranger" stranger mptcp 10.77.0.21 8081
	expect_refused "MPTCP from outside" outside mptcp 10.77.0.21 8081
else
	skip MPTCP "this kernel has no MPTCP"
fi
for w in client web outside; do
	nsenter --net="/run/netns/$(node_netns $w)" sysctl -qw net.ipv4.tcp_fastopen=3 2>/dev/null || FASTOPEN=no
done
if [ -z "${FASTOPEN:-}" ]; then
	expect_ok "Fast Open, without a cookie/web" client tfo 10.77.0.21 8082
	expect_ok "Fast Open, data in the SYN/web" client tfo 10.77.0.21 8082
	expect_ok "Fast Open to a service address/web" client tfo 10.96.0.1 80
	expect_refused "Fast Open denied" client tfo 10.77.0.21 8099
	expect_refused "Fast Open from outside" outside tfo 10.77.0.21 8082
else
	skip "Fast Open" "net.ipv4.tcp_fastopen cannot be set"
fi
if [ -x "$BUILD/e2e-uring" ]; then
	uring() { read -r OUTCOME TOOK_MS ANSWER <<<"$(node_in "$@")"; }
	uring client "$BUILD/e2e-uring" 10.77.0.21 8080
	if [ "$OUTCOME" = missing ]; then
		skip io_uring "this kernel has no io_uring"
	else
		expect "io_uring allowed" "ok web" "$OUTCOME ${ANSWER%% *}"
		uring client "$BUILD/e2e-uring" 10.96.0.1 80
		expect "io_uring to a service address" "ok web" "$OUTCOME ${ANSWER%% *}"
		uring stranger "$BUILD/e2e-uring" 10.77.0.21 8080
		expect "io_uring denied" refused "$OUTCOME"
	fi
else
	skip io_uring "liburing is not installed"
fi

# ---- Socket activation -----------------------------------------------------------------------------
# The listener is made by a parent outside the node's cgroup (as systemd does) and inherited: no cgroup
# hook ever sees its packets.
nsenter --net="/run/netns/$(node_netns web)" $NET pass tcp:8083 bash -c \
	"echo \$\$ >$NODE_CGROUP/web/cgroup.procs; exec $NET serve activated fd" >>"$NODE/log/web.log" 2>&1 </dev/null &
NODE_PIDS+=($!)
node_wait listens web 8083
expect_ok "an inherited listener takes what is allowed/activated" client tcp 10.77.0.21 8083
expect_refused "an inherited listener refuses strangers" stranger tcp 10.77.0.21 8083
expect_refused "an inherited listener refuses the world" outside tcp 10.77.0.21 8083
if command -v systemd-socket-activate >/dev/null; then
	nsenter --net="/run/netns/$(node_netns web)" systemd-socket-activate -l 10.77.0.21:8084 \
		$NET serve systemd fd >>"$NODE/log/web.log" 2>&1 </dev/null &
	NODE_PIDS+=($!)
	node_wait listens web 8084 || fail systemd-socket-activate "it does not listen"
	expect_refused "systemd-socket-activate: the world is refused" outside tcp 10.77.0.21 8084
	expect_ok "systemd-socket-activate: what is allowed/systemd" client tcp 10.77.0.21 8084
	expect_refused "systemd-socket-activate: and refused behind the start" outside tcp 10.77.0.21 8084
else
	skip systemd-socket-activate "it is not installed"
fi
hold inherited client 20 tcp 10.77.0.21 8083
policy night 2 <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress deny;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080..8085; }
allow ask-web: from client to web port 8080;
MESH
apply night
wait_hold() { node_wait eval '! kill -0 $HOLD_inherited'; held inherited; }
expect "its live connections end at a switch, at the caller" reset "$(wait_hold)"
