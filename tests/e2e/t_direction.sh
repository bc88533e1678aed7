# Rule 1, direction, and the ways in and out that a connect hook alone does not see.
topic_begin
workload client 11
workload web 21
config <<<'enrol: {namespaces: [shop]}'
# Only client -> web is allowed: whatever lets web open something towards client is a bug.
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress deny;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; udp 9000; tcp 9001; }
service web { workload app == "web"; tcp 8080; udp 5353; udp 5354; tcp 8081; tcp 8082; tcp 8083; tcp 8099; }
allow ask-web: from client to web;
deny never-8099: from any to web port 8099;
allow probe: from node to web port 8080;
MESH
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop web app=web 10.77.0.21,fd77::21
END
serve web web tcp:8080 udp:5353 udp4:5354 mptcp:8081 tfo:8082 tcp:8099
serve client client tcp:9000 udp:9000 tcp:9001
node_meshd || give_up start "meshd does not start"
apply p

# ---- UDP -------------------------------------------------------------------------------------------
# The server's answer is no request of its own, however it is bound.
expect_ok "udp answer of a server of both families/web" client udp 10.77.0.21 5353
expect_ok "udp answer over IPv6/web" client udp fd77::21 5353
expect_ok "udp answer of an IPv4 server/web" client udp 10.77.0.21 5354
expect_eperm "the server may not ask the client" web udp 10.77.0.11 9000
expect_ok "again, behind the refusal/web" client udp 10.77.0.21 5353
# From the very port that answers: direction is per peer, not per socket.
expect_eperm "the answering port may not ask another port" web udp 10.77.0.11 9000 from=5353
expect_ok "a server that connects to its client for the answer/per-client" client udp 10.77.0.21 5360
