# Closed failure, and half-open connections at a switch.
topic_begin
workload client 11
workload outside 13
workload web 21
config <<<'enrol: {namespaces: [shop]}'
text='mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080; udp 5353; }'
policy p <<<"$text allow ask-web: from client to web;"
policy same <<<"$text allow may-ask: from client to web;"
policy night <<<"$text deny night: from client to web;"
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop ghost app=client 10.77.0.50 "node": "n2"
shop web app=web 10.77.0.21,fd77::21
END
serve web web tcp:8080 udp:5353
expect_true "preflight is content" "$("$MESHD" preflight --config "$NODE/meshd.yaml" | grep MISSING)" "$MESHD" preflight --config "$NODE/meshd.yaml"
node_meshd || give_up start "meshd does not start"
apply p

# ---- Rule 2: at a listener only SYNs are judged --------------------------------------------------------
MAC=$(ip -n "$(node_netns web)" -br link show eth0 | awk '{ print $3 }')
MINE=$(ip -n "$(node_netns client)" -br link show eth0 | awk '{ print $3 }')
ip -n "$(node_netns web)" neigh add 10.77.0.50 lladdr "$MINE" dev eth0
mkfifo "$NODE/go"
half() { # BETWEEN: what happens between the SYN and the ACK
	: >"$NODE/log/half"
	node_in client $NET half 10.77.0.50 10.77.0.21 8080 "$MAC" <"$NODE/go" >"$NODE/log/half" 2>&1 &
	local pid=$!
	NODE_PIDS+=($pid)
	exec 7>"$NODE/go"
	node_wait grep -q . "$NODE/log/half"
	"$@"
	(trap '' PIPE; echo >&7) 2>/dev/null # it may be done already
	exec 7>&-
	wait $pid
	tr '\n' ' ' <"$NODE/log/half"
}
expect "a handshake by hand" "half answered " "$(half true)"
expect "half-open at a switch that still allows it" "half answered " "$(half apply same)"
RESULT=$(half apply night)
expect_true "half-open at a switch that denies it: nothing is answered" "$RESULT" test "$RESULT" = "half reset " -o "$RESULT" = "half silent "
expect "behind the switch its SYN is refused" "refused " "$(half true)"
apply p

# ---- Rules 4 and 9: a program that is missing ------------------------------------------------------------
expect_ok "all is well/web" client tcp 10.77.0.21 8080
hold live client 20 tcp 10.77.0.21 8080
"$BUILD/e2e-bpf" clear "$NODE/bpffs/mesh/map/jump_connect4"
ask client tcp 10.77.0.21 8080
expect "no connect program: closed at once" eperm "$OUTCOME"
expect_ok "the other family is not touched/web" client tcp fd77::21 8080
"$BUILD/e2e-bpf" clear "$NODE/bpffs/mesh/map/jump_lookup"
expect_refused "no sk_lookup program: closed" client tcp fd77::21 8080
"$BUILD/e2e-bpf" clear "$NODE/bpffs/mesh/map/jump_ingress"
sleep 0.1
before=$(wc -c <"$NODE/log/web.log")
ask outside udp 10.77.0.21 5353 timeout=0.3
expect "no ingress program: closed" timeout "$OUTCOME"
"$BUILD/e2e-bpf" clear "$NODE/bpffs/mesh/map/jump_sendmsg4"
ask client udp 10.77.0.21 5353 timeout=0.3
expect "no sendmsg program: closed" eperm "$OUTCOME"
expect_true "counted" "$(stat_of no_program)" test "$(stat_of no_program)" -gt 3
expect_true "and --check names it" "$(status 's["problems"]')" eval 'status "s[\"problems\"]" | grep -q "no program"'
apply p
expect_ok "an apply heals it/web" client tcp 10.77.0.21 8080
expect_ok "udp, too/web" client udp 10.77.0.21 5353

# ---- Rule 5: pins that are not what they should be -----------------------------------------------------
node_stop_meshd
config <<<$'enrol: {namespaces: [shop]}\nsizes: {endpoints: 1024, sockets: 1024}'
node_meshd || give_up "other sizes" "meshd does not adopt what was made with other sizes"
expect "other sizes in the configuration: what is there is adopted" "True enforcing" "$(status 's["adopted"], s["state"]' | tr -d "(),'")"
expect_refused "and goes on" outside tcp 10.77.0.21 8080
node_stop_meshd
mv "$NODE/bpffs/mesh/map/nat" "$NODE/bpffs/mesh/map/nat2"
timeout 5 "$MESHD" run --config "$NODE/meshd.yaml" >"$NODE/log/damaged" 2>&1
expect "a pin is missing while a policy is in force: exit 2" 2 $?
expect_true "says what to do" "$(cat "$NODE/log/damaged")" grep -q "damaged.*may be enforcing.*uninstall" "$NODE/log/damaged"
expect_refused "and what is in force stays" outside tcp 10.77.0.21 8080
mv "$NODE/bpffs/mesh/map/nat2" "$NODE/bpffs/mesh/map/nat"
mv "$NODE/bpffs/mesh/map/exact" "$NODE/bpffs/mesh/map/aside"
ln "$NODE/bpffs/mesh/map/flows" "$NODE/bpffs/mesh/map/exact" 2>/dev/null || mv "$NODE/bpffs/mesh/map/flows" "$NODE/bpffs/mesh/map/exact"
timeout 5 "$MESHD" run --config "$NODE/meshd.yaml" >"$NODE/log/damaged" 2>&1
expect "another map under a known name: exit 2" 2 $?
expect_true "says which" "$(cat "$NODE/log/damaged")" grep -q "exact\|flows" "$NODE/log/damaged"
