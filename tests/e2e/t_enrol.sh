# Enrolment: by namespace, by label, observe-only; namespaces that come, go and come back; who is where.
topic_begin
workload client 11
workload stranger 12
workload web 21
workload legacy 22
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress deny;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080; tcp 9090; udp 5353; address 10.96.0.1; }
service late { workload app == "late"; tcp 8080; }
allow ask-web: from client to web port 8080;
allow ask-dns: from client to web port 5353;
allow ask-late: from client to late;
MESH
people() {
	{
		echo shop client app=client,mesh=on 10.77.0.11,fd77::11
		echo old stranger app=client,mesh=off 10.77.0.12,fd77::12
		echo shop web app=web,mesh=on 10.77.0.21,fd77::21
		echo old legacy app=web 10.77.0.22,fd77::22
		cat
	} | inventory
}
people </dev/null
serve web web tcp:8080 tcp:9090 udp:5353
serve legacy legacy tcp:8080

# ---- Observe only ------------------------------------------------------------------------------------
config <<<$'enrol: {label: "mesh=on"}\nobserve_only: true'
node_meshd || give_up start "meshd does not start"
apply p
expect "observing" observing "$(status 's["state"]')"
expect_ok "observe-only: what would be denied passes/web" client tcp 10.77.0.21 9090
expect_true "and is reported as denied, by name" "$(last_flow)" flows_have \
	"f['rule'] == 'default' and f['verdict'] == 'deny' and f['passed'] and f['to'].get('port') == 9090 and f['hook'] == 'connect'"
expect_ok "at the receiver, too/web" stranger tcp 10.77.0.21 8080
expect_true "reported by the receiver" "$(last_flow)" flows_have \
	"f['verdict'] == 'deny' and f['passed'] and f['from'].get('workload') == 'old/stranger' and f['hook'] in ('lookup', 'ingress')"
hold watched client 20 tcp 10.77.0.21 9090

# ---- By label, enforced --------------------------------------------------------------------------------
node_stop_meshd
config <<<'enrol: {label: "mesh=on"}'
node_meshd || give_up start "meshd does not start"
expect "the same node, enforcing now" enforcing "$(status 's["state"]')"
expect_refused "label: enrolled, denied" client tcp 10.77.0.21 9090
expect_ok "label: enrolled, allowed/web" client tcp 10.77.0.21 8080
expect_ok "not enrolled: never decided on its own side/legacy" stranger tcp 10.77.0.22 8080
expect_refused "toward the enrolled it is a source like any other" stranger tcp 10.77.0.21 8080
expect_ok "the mesh does not close who is not enrolled/legacy" legacy tcp 10.77.0.22 8080
expect "two are enrolled" 4 "$(status 's["inventory"]["enrolled"]')"

# ---- By namespace --------------------------------------------------------------------------------------
node_stop_meshd
config <<<$'enrol: {namespaces: [shop]}\nquarantine: 1'
node_meshd || give_up start "meshd does not start"
expect_refused "namespace: enrolled, denied" client tcp 10.77.0.21 9090
expect_ok "namespace: enrolled, allowed/web" client tcp 10.77.0.21 8080
expect_ok "namespace: not enrolled/legacy" stranger tcp 10.77.0.22 8080

# ---- A namespace that comes later ----------------------------------------------------------------------
workload late 31
serve late late tcp:8080
node_wait eval '[ -e "$NODE/bpffs/mesh/netns" ] && [ "$("$BUILD/e2e-bpf" count "$NODE_CGROUP" /run/netns/mesh-e2e-late)" -gt "$("$BUILD/e2e-bpf" count "$NODE_CGROUP")" ]'
expect_true "a namespace that is in no inventory is covered by its first socket" "" \
	test "$("$BUILD/e2e-bpf" count "$NODE_CGROUP" /run/netns/mesh-e2e-late)" -gt "$("$BUILD/e2e-bpf" count "$NODE_CGROUP")"
expect_ok "until the inventory knows it, it is nobody/late" late tcp 10.77.0.31 8080
expect_ok "not enrolled, not closed/late" stranger tcp 10.77.0.31 8080
hold older stranger 20 tcp 10.77.0.31 8080
people <<<'shop late app=late 10.77.0.31,fd77::31'
node_wait eval '! kill -0 $HOLD_older'
expect "enrolled: what it had accepted before is decided" reset "$(held older)"
expect_ok "enrolled: allowed/late" client tcp 10.77.0.31 8080
expect_refused "enrolled: denied" stranger tcp 10.77.0.31 8080
expect_refused "enrolled: its own side, too" late tcp 10.77.0.22 8080

# Deleted and made again, with the same name and address: another namespace, the same workload.
kill "$(cat "$NODE_CGROUP/late/cgroup.procs")" 2>/dev/null
before=$(ls "$NODE/bpffs/mesh/netns")
ip netns del mesh-e2e-late
node_wait eval '[ "$(ls "$NODE/bpffs/mesh/netns" | wc -l)" -lt "$(wc -w <<<"$before")" ]'
expect "its corpse is swept" $(($(wc -w <<<"$before") - 1)) "$(ls "$NODE/bpffs/mesh/netns" | wc -l)"
node_wait eval '[ "$(meshd_ask status --check >/dev/null; echo $?)" = 1 ]'
expect_true "a workload that is nowhere is told" "$(status 's["problems"]')" eval 'status "s[\"problems\"]" | grep -q "shop/late"'
workload late 31
node_wait meshd_ask status --check
for w in client stranger legacy; do ip -n "$(node_netns $w)" neigh flush all; done # it has another MAC
expect "found again" 0 "$(meshd_ask status --check >/dev/null; echo $?)"
serve late late tcp:8080
expect_ok "made again: allowed/late" client tcp 10.77.0.31 8080
expect_refused "made again: denied" stranger tcp 10.77.0.31 8080
expect_refused "made again: its own side" late tcp 10.77.0.22 8080

# ---- Where a workload cannot be found, its address still decides -----------------------------------------
people <<<'shop late app=late 10.77.0.31,fd77::31 "netns": "/run/netns/mesh-e2e-nowhere", "node": "n1"'
node_wait eval '[ "$(meshd_ask status --check >/dev/null; echo $?)" = 1 ]'
ask late tcp 10.77.0.22 8080 timeout=0.4
expect_true "no connect hook: the packet hook closes" "$OUTCOME" test "$OUTCOME" != ok
ask stranger tcp 10.77.0.31 8080 timeout=0.4
expect_true "toward it, too" "$OUTCOME" test "$OUTCOME" != ok
expect_ok "what is allowed goes on/late" client tcp 10.77.0.31 8080
people </dev/null

# ---- Several addresses -----------------------------------------------------------------------------------
# The caller's block is known only when the packet leaves: no rule may be counted for what is not decided.
ip -n "$(node_netns client)" addr add 10.77.0.19/16 dev eth0
inventory <<'END'
shop client app=client 10.77.0.11,10.77.0.19,fd77::11
shop web app=web 10.77.0.21,fd77::21
END
before=$(hits ask-web caller)
expect_ok "a workload of two addresses, the first/web" client tcp 10.77.0.21 8080 source=10.77.0.11
expect_ok "the second/web" client tcp 10.77.0.21 8080 source=10.77.0.19
expect_ok "through a service address/web" client udp 10.77.0.21 5353
ask client tcp 10.77.0.21 9090 timeout=0.4
expect_true "denied" "$OUTCOME" test "$OUTCOME" != ok
expect "each is counted once at the caller" $((before + 2)) "$(hits ask-web caller)"

# ---- An address that somebody takes ----------------------------------------------------------------------
# The client's address in a namespace that the node knows nothing of.
workload impostor 40
ip -n "$(node_netns impostor)" addr add 10.77.0.11/16 dev eth0
ip -n "$(node_netns client)" addr del 10.77.0.11/16 dev eth0
ip -n "$(node_netns web)" neigh flush all
ask impostor tcp 10.77.0.21 8080 source=10.77.0.11 timeout=0.5
expect_true "a stranger under a workload's address is not that workload" "$OUTCOME $(last_flow)" test "$OUTCOME" != ok
expect_true "and is counted" "$(stat_of foreign_identity)" test "$(stat_of foreign_identity)" -gt 0
