# Who is meant: scoped defaults, cidr, external, world, node, any, except, ports, namespaces, groups.
topic_begin
for n in 1 2 3; do workload app-$n 1$n; done
workload tool 14
workload office 15
workload guest 16
workload bare 17
workload host 1
workload web 21
workload db 22
workload open 23
workload watched 24
workload vendor 25
workload bench 26
ip -n "$(node_netns office)" addr add 10.77.1.5/16 dev eth0
ip -n "$(node_netns office)" addr add 10.77.1.66/16 dev eth0
ip -n "$(node_netns office)" addr add fd77:1::5/64 dev eth0 nodad
config <<<'enrol: {namespaces: [shop, dev, lab, bare]}'
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress deny;
mtls off because "one machine";
namespace lab: ingress allow;
namespace shop;
service app-1 { workload app == "app-1"; tcp 9000; }
service app-2 { workload app == "app-2"; tcp 9000; }
service app-3 { workload app == "app-3"; tcp 9000; }
service web { workload app == "web"; tcp 8080; tcp 9090; tcp 7070; tcp 7071; }
service db { workload app == "db"; tcp 6379; tcp 7000..7009; }
service open { workload app == "open"; tcp 8080; ingress allow; }
service watched { workload app == "watched"; tcp 8080; ingress audit; }
external vendor { cidr 10.77.0.25/32; tcp 8080; }
cidr office = 10.77.1.0/24, fd77:1::/64 except 10.77.1.66/32;
group apps = app-1, app-2;
group stores = web, db;
allow group-to-db: from apps to db port 6379;
allow range: from app-1 to db port 7000..7004;
allow group-target: from app-3 to stores;
allow office-web: from office to web port 8080;
allow not-app-2: from any except app-2 to web port 9090;
allow developers: from namespace dev to web port 8080;
deny developers-off: from namespace dev to web port 9090;
allow strangers: from namespace bare to db port 7009;
allow the-world: from world to web port 7070;
allow probe: from node to web port 7071;
allow pay: from app-1 to vendor;
allow surf: from app-2 to world;
deny no-lab: from app-3 to namespace lab;
namespace lab;
service bench { workload app == "bench"; tcp 8080; }
MESH
inventory <<'END'
shop app-1 app=app-1 10.77.0.11,fd77::11
shop app-2 app=app-2 10.77.0.12,fd77::12
shop app-3 app=app-3 10.77.0.13,fd77::13
dev tool app=tool 10.77.0.14,fd77::14
bare bare - 10.77.0.17,fd77::17
shop web app=web 10.77.0.21,fd77::21
shop db app=db 10.77.0.22,fd77::22
shop open app=open 10.77.0.23,fd77::23
shop watched app=watched 10.77.0.24,fd77::24
lab bench app=bench 10.77.0.26,fd77::26
END
serve web web tcp:8080 tcp:9090 tcp:7070 tcp:7071
serve db db tcp:6379 tcp:7000 tcp:7004 tcp:7005 tcp:7009
for w in open watched guest bench; do serve $w $w tcp:8080; done
serve vendor vendor tcp:8080 tcp:9090
serve host host tcp:2222
meshd_in host
node_meshd || give_up start "meshd does not start"
apply p
web=10.77.0.21 web6=fd77::21 db=10.77.0.22

expect_refused "ingress deny of the mesh" app-1 tcp $web 8080
expect_ok "ingress allow of a service/open" app-3 tcp 10.77.0.23 8080
expect_ok "ingress audit of a service/watched" app-3 tcp 10.77.0.24 8080
expect_true "and it is reported" "$(last_flow --to watched)" flows_have "f['to'].get('service') == 'shop/watched' and 'default' in f['audit'] and f['passed']"
expect_ok "ingress allow of a namespace/bench" app-1 tcp 10.77.0.26 8080
expect_refused "to namespace" app-3 tcp 10.77.0.26 8080

expect_ok "a group as source, one/db" app-1 tcp $db 6379
expect_ok "a group as source, the other/db" app-2 tcp $db 6379
expect_ok "a range of ports, first/db" app-1 tcp $db 7000
expect_ok "a range of ports, last/db" app-1 tcp $db 7004
expect_refused "a port behind the range" app-1 tcp $db 7005
expect_refused "a group that it is not in" tool tcp $db 6379
expect_ok "a group as destination, one/web" app-3 tcp $web 8080
expect_ok "a group as destination, the other/db" app-3 tcp $db 7005

expect_ok "any/web" app-1 tcp $web 9090
expect_ok "any except: the world/web" guest tcp $web 9090
expect_ok "any except: no service/web" bare tcp $web 9090
expect_refused "any except: who is taken away" app-2 tcp $web 9090
expect_ok "from namespace/web" tool tcp $web 8080
expect_refused "deny beats allow" tool tcp $web 9090
expect_true "by its name" "$(last_flow --from tool)" flows_have "f['rule'] == 'developers-off' and f['from'].get('workload') == 'dev/tool'"
expect_ok "a namespace that is declared nowhere/db" bare tcp $db 7009
expect_refused "and no other port" bare tcp $db 7000

expect_ok "cidr/web" office tcp $web 8080 source=10.77.1.5
expect_ok "cidr, IPv6/web" office tcp $web6 8080 source=fd77:1::5
expect_refused "cidr except" office tcp $web 8080 source=10.77.1.66
expect_refused "outside of the cidr" office tcp $web 8080 source=10.77.0.15
expect_ok "world/web" guest tcp $web 7070
expect_ok "world, from within a cidr/web" office tcp $web 7070 source=10.77.1.5
expect_refused "a workload is not the world" app-1 tcp $web 7070

expect_ok "node/web" host tcp $web 7071
expect_ok "node over IPv6/web" host tcp $web6 7071
expect_true "named node" "$(last_flow --rule probe)" flows_have "f['rule'] == 'probe' and f['from']['service'] == 'node' and f['to']['port'] == 7071"
expect_refused "node is not implied" host tcp $web 8080
expect_refused "others are not node" guest tcp $web 7071
expect_ok "node has any's rules/web" host tcp $web 9090
expect_ok "the host's own listener is untouched/host" guest tcp 10.77.0.1 2222
expect_ok "the host is not decided where it calls/guest" host tcp 10.77.0.16 8080

expect_ok "to an external/vendor" app-1 tcp 10.77.0.25 8080
expect_refused "to an external, another port" app-1 tcp 10.77.0.25 9090
expect_refused "to an external, another source" app-3 tcp 10.77.0.25 8080
expect_ok "to world/guest" app-2 tcp 10.77.0.16 8080
expect_refused "an external is not the world" app-2 tcp 10.77.0.25 8080
expect_refused "egress deny of the mesh" app-1 tcp 10.77.0.16 8080

# Host processes whose address is in the inventory: nobody is locked out of the node.
inventory <<'END'
shop web app=web 10.77.0.21,fd77::21
shop kubelet app=web 10.77.0.1,fd77::1 "hostNetwork": true, "node": "n1"
END
expect_ok "a host-network workload is node/web" host tcp $web 7071
expect_ok "and its listeners are untouched/host" guest tcp 10.77.0.1 2222
