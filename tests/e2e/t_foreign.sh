# Rule 7: other people's programs before, behind, above and beside ours.
topic_begin
OUTER=$NODE_CGROUP
NODE_CGROUP=$OUTER/mesh
mkdir "$NODE_CGROUP"
foreign_end() {
	NODE_CGROUP=$OUTER
	cat "$OUTER"/mesh/*/cgroup.procs 2>/dev/null | xargs -r kill -9 2>/dev/null
	topic_end
}
trap foreign_end EXIT
workload client 11
workload stranger 12
workload web 21
workload bad 50
config <<<'enrol: {namespaces: [shop]}'
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080; tcp 9090; }
external good { cidr 10.77.0.51/32; tcp 8080; }
external bad { cidr 10.77.0.50/32; tcp 8080; }
allow ask-web: from client to web port 8080;
deny never: from any to bad;
MESH
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop stranger - 10.77.0.12,fd77::12
shop web app=web 10.77.0.21,fd77::21
END
serve web web tcp:8080 tcp:9090
serve bad bad tcp:8080
kit() { # PROGRAM CGROUP HOW: attaches; $KIT is the process that holds a link
	: >"$NODE/log/kit"
	"$BUILD/e2e-bpf" attach "$BUILD/e2e-foreign.o" "$@" >"$NODE/log/kit" 2>&1 &
	KIT=$!
	NODE_PIDS+=($KIT)
	node_wait grep -q . "$NODE/log/kit"
	grep -q attached "$NODE/log/kit"
}
unkit() { kill "$KIT"; wait "$KIT" 2>/dev/null; }
refuses_to_start() { # NAME WORD
	timeout 5 "$MESHD" run --config "$NODE/meshd.yaml" >"$NODE/log/refused" 2>&1
	expect "$1: exit 2" 2 "$?"
	expect_true "$1: says why" "$(cat "$NODE/log/refused")" grep -q "$2" "$NODE/log/refused"
	expect_true "$1: nothing is left attached" "" test ! -e "$NODE/bpffs/mesh/link/d_connect4"
}

kit bystander "$NODE_CGROUP" alone || fail foreign "$(cat "$NODE/log/kit")"
refuses_to_start "a neighbour with flags=0" 'bystander.*without BPF_F_ALLOW_MULTI'
"$BUILD/e2e-bpf" detach "$NODE_CGROUP"
kit bystander "$OUTER" override || fail foreign "$(cat "$NODE/log/kit")"
refuses_to_start "an ancestor with OVERRIDE" 'bystander.*ours would switch it off'
"$BUILD/e2e-bpf" detach "$OUTER"

# A load balancer that was there before runs before: the mesh sees what it made of the address.
kit balancer "$NODE_CGROUP" link || fail balancer "$(cat "$NODE/log/kit")"
node_meshd || give_up start "meshd does not start beside a neighbour"
apply p
expect_ok "a load balancer before us/web" client tcp 10.98.0.9 80
expect_refused "decided by what it made of the address" stranger tcp 10.98.0.9 80
expect "it is reported, before us" "balancer before" "$(status '" ".join(n["name"] + " " + n["order"] for n in s["neighbours"])')"
unkit
expect "gone, and not reported" "" "$(status '" ".join(n["name"] + " " + n["order"] for n in s["neighbours"])')"

for above in "$NODE_CGROUP" "$OUTER"; do
	place=$([ "$above" = "$OUTER" ] && echo ancestor || echo "same cgroup")
	kit undo4 "$above" link || fail undo4 "$(cat "$NODE/log/kit")"
	first=$KIT
	kit undo6 "$above" link || fail undo6 "$(cat "$NODE/log/kit")"
	ask stranger tcp 10.77.0.21 8080
	expect_true "set_retval(0) behind us undoes nothing ($place)" "$OUTCOME" test "$OUTCOME" != ok -a "${TOOK_MS%.*}" -lt 100
	ask stranger tcp fd77::21 8080
	expect_true "nor over IPv6 ($place)" "$OUTCOME" test "$OUTCOME" != ok -a "${TOOK_MS%.*}" -lt 100
	ask stranger tcp ::ffff:10.77.0.21 8080
	expect_true "nor for IPv4 in an IPv6 socket ($place)" "$OUTCOME" test "$OUTCOME" != ok -a "${TOOK_MS%.*}" -lt 100
	expect_ok "what is allowed goes on ($place)/web" client tcp 10.77.0.21 8080
	expect "reported, after us ($place)" "undo4 after undo6 after" "$(status '" ".join(n["name"] + " " + n["order"] for n in s["neighbours"])')"
	unkit
	KIT=$first
	unkit
done

kit diverter "$OUTER" link || fail diverter "$(cat "$NODE/log/kit")"
ask client tcp 10.77.0.21 8080 timeout=0.5
expect_true "rewritten behind us to what is denied: the receiver refuses" "$OUTCOME $ANSWER" test "$OUTCOME" != ok
expect_refused "denied as it is asked for" client tcp 10.77.0.50 8080
ask client tcp 10.77.0.51 8080 timeout=0.5
expect_true "rewritten behind us to a denied external: its SYN does not leave, and the caller is told" "$OUTCOME $TOOK_MS" \
	test "$OUTCOME" != ok -a "$OUTCOME" != timeout -a "${TOOK_MS%.*}" -lt 200
expect "the program behind us is named" "diverter after" "$(status '" ".join(n["name"] + " " + n["order"] for n in s["neighbours"])')"
unkit
if kit bystander "$NODE_CGROUP" alone; then
	fail "flags=0 beside ours is refused by the kernel" "it was attached"
else
	ok "flags=0 beside ours is refused by the kernel"
fi

# Another sk_lookup that assigns goes before our drop: the packet hook is still there, and status says it.
(
	echo $BASHPID >"$NODE_CGROUP/web/cgroup.procs"
	exec nsenter --net="/run/netns/$(node_netns web)" "$BUILD/e2e-bpf" lookup "$BUILD/e2e-foreign.o" thief
) >"$NODE/log/thief" 2>&1 </dev/null &
THIEF=$!
NODE_PIDS+=($THIEF)
node_wait grep -q attached "$NODE/log/thief"
expect_ok "an sk_lookup that assigns takes what is allowed/thief" client tcp 10.77.0.21 8080
workload outside 13
expect_silent "what is denied is stopped by the packet hook" outside tcp 10.77.0.21 8080
kill -HUP "$MESHD_PID"
node_wait eval '[ "$(meshd_ask status --check >/dev/null; echo $?)" = 1 ]'
expect_true "status names the namespace" "$(status 's["problems"]')" eval 'status "s[\"problems\"]" | grep -q "shop/web.*1 other sk_lookup"'
kill $THIEF
wait $THIEF 2>/dev/null
node_wait meshd_ask status --check
expect "and is content when it is gone" 0 "$(meshd_ask status --check >/dev/null; echo $?)"
