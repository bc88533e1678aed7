# Live connections: older than the runtime, after a switch, after the inventory changed.
topic_begin
workload client 11
workload stranger 12
workload web 21
config <<<$'enrol: {namespaces: [shop, dev]}\nquarantine: 2'
header='mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; address 10.96.0.1; tcp 80 to 8080; tcp 8080; tcp 9090; udp 5353; }'
policy open <<<"$header allow ask-web: from client to web;"
policy closed 2 <<<"$header allow ask-web: from client to web port 9090; deny night: from any to web port 8080;"
people() {
	inventory <<END
shop client ${1:-app=client} ${2:-10.77.0.11,fd77::11}
dev stranger app=stranger 10.77.0.12,fd77::12
shop web app=web 10.77.0.21,fd77::21
END
}
reset_within() { # NAME MS: how it ended, in time
	local i
	for i in $(seq $(($2 / 20))); do
		kill -0 "$(eval echo \$HOLD_$1)" 2>/dev/null || break
		sleep 0.02
	done
	kill "$(eval echo \$HOLD_$1)" 2>/dev/null
	held "$1"
}
alive() { # NAME: it goes on
	sleep 0.3
	kill -0 "$(eval echo \$HOLD_$1)" 2>/dev/null && echo kept || held "$1"
}

# ---- Older than the runtime ------------------------------------------------------------------------
people
serve web web tcp:8080 tcp:9090 udp:5353
hold old client 30 tcp 10.77.0.21 8080
hold old6 client 30 tcp fd77::21 8080
hold mapped client 30 tcp ::ffff:10.77.0.21 8080
hold foul stranger 30 tcp 10.77.0.21 8080
hold foul6 stranger 30 tcp fd77::21 8080
node_meshd || give_up start "meshd does not start"
apply open
expect "an older connection that is allowed stays" "kept kept kept" "$(alive old) $(alive old6) $(alive mapped)"
expect "an older connection that is denied is reset" "reset reset" "$(reset_within foul 1000) $(reset_within foul6 1000)"
expect "older sockets were adopted, none is a riddle" 0 "$(stat_of old_socket)"
expect_ok "an older listener takes allowed connections/web" client tcp 10.77.0.21 8080
expect_refused "an older listener is closed to others" stranger tcp 10.77.0.21 8080
expect_true "what was reset has a name" "$(last_flow --from stranger)" flows_have \
	"f['from'].get('workload') == 'dev/stranger' and f['to'].get('port') == 8080 and f['hook'] in ('egress', 'ingress') and f['verdict'] == 'deny'"

# ---- A switch --------------------------------------------------------------------------------------
hold kept client 30 tcp 10.77.0.21 9090
hold vip client 30 tcp 10.96.0.1 80
hold six client 30 tcp fd77::21 8080
hold datagrams client 30 udpc 10.77.0.21 5353
before=$(status 's["resets"]')
apply closed
expect "denied by the new policy: reset" "reset reset reset reset reset" \
	"$(reset_within old 1000) $(reset_within old6 1000) $(reset_within mapped 1000) $(reset_within vip 1000) $(reset_within six 1000)"
expect "a live udp flow, too" eperm "$(reset_within datagrams 1000)"
expect "allowed by the new policy: kept" kept "$(alive kept)"
expect_true "resets are counted" "$before, $(status 's["resets"]')" test "$(status 's["resets"]')" -ge $((before + 5))
expect_true "the flow says so" "$(last_flow --rule night)" flows_have "f['rule'] == 'night' and f['again'] and not f['passed'] and f['where'].endswith('closed.mesh:5:150')"
expect_refused "a new one is refused" client tcp 10.77.0.21 8080
# The listener did not fall with its connections.
meshd_ask rollback >/dev/null
expect_ok "after a rollback it is open again/web" client tcp 10.77.0.21 8080
expect "the rollback kept what is allowed" kept "$(alive kept)"

# ---- The inventory ---------------------------------------------------------------------------------
hold labelled client 30 tcp 10.77.0.21 8080
people app=client,new=label
expect "another label that no selector reads: kept" kept "$(alive labelled)"
people app=somebody
expect "relabelled, not in the service any more: reset" "reset reset" "$(reset_within labelled 1000) $(reset_within kept 1000)"
expect_refused "and refused" client tcp 10.77.0.21 8080
people
expect_ok "labelled as before/web" client tcp 10.77.0.21 8080

# ---- Addresses -------------------------------------------------------------------------------------
hold moved client 30 tcp 10.77.0.21 8080
ip -n "$(node_netns client)" addr add 10.77.0.31/16 dev eth0
inventory <<'END'
shop client app=client 10.77.0.31
dev stranger app=stranger 10.77.0.12,fd77::12
shop web app=web 10.77.0.21,fd77::21
END
expect "its address left the inventory: reset" reset "$(reset_within moved 1500)"
expect_ok "from the new address/web" client tcp 10.77.0.21 8080 source=10.77.0.31
expect "the old one is in quarantine" 2 "$(status 's["inventory"]["quarantined"]')"
# A stranger takes the address over, in fact and in the inventory, before the quarantine is over.
ip -n "$(node_netns client)" addr del 10.77.0.11/16 dev eth0
ip -n "$(node_netns stranger)" addr add 10.77.0.11/16 dev eth0
ip -n "$(node_netns web)" neigh flush all
before=$(stat_of quarantined)
OUTCOME=
ask stranger tcp 10.77.0.21 8080 source=10.77.0.11 timeout=0.3
expect_true "nobody is believed under a quarantined address" "$OUTCOME" test "$OUTCOME" != ok
expect_refused "and nobody is reached there" client tcp 10.77.0.11 8080
expect_true "that is counted" "$(stat_of quarantined)" test "$(stat_of quarantined)" -gt "$before"
node_wait eval '[ "$(status "s[\"inventory\"][\"quarantined\"]")" = 0 ]'
expect "quarantine ends" 0 "$(status 's["inventory"]["quarantined"]')"
inventory <<'END'
shop client app=stranger 10.77.0.31
shop stranger app=client 10.77.0.11
shop web app=web 10.77.0.21,fd77::21
END
expect_ok "then the address may be somebody else/web" stranger tcp 10.77.0.21 8080 source=10.77.0.11
