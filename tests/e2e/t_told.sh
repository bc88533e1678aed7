# What an operator asks of a node, and is told: requests that are none, a folder and a key that are missing, flows.
topic_begin
workload client 11
workload outside 13
workload web 21
config <<END
enrol: {namespaces: [shop]}
observe_only: true
allow_older: true
watch: $NODE/drop
flow_log: $NODE/log/flow_log
END
text='mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080; }'
policy first <<<"$text allow ask-web: from client to web;"
policy second 2 <<<"$text allow ask-again: from client to web;"
inventory <<'END'
shop client app=client 10.77.0.11
shop web app=web 10.77.0.21
END
serve web web tcp:8080
mv "$NODE/key.pub" "$NODE/key.away"
node_meshd || give_up start "meshd does not start"
says() { meshd_ask status >"$NODE/log/status"; grep -q "$1" "$NODE/log/status"; }

# ---- What is missing -----------------------------------------------------------------------------------
expect_true "a key that is missing: a problem" "$(status 's["problems"]')" says "^PROBLEM key $NODE/key.pub: No such file"
expect_true "... and in the log" "$(cat "$NODE/log/meshd.log")" grep -q "^meshd: key $NODE/key.pub: No such file" "$NODE/log/meshd.log"
echo nonsense >"$NODE/key.pub"
expect_true "a key that is none" "$(status 's["problems"]')" says "^PROBLEM key $NODE/key.pub: no Ed25519 public key"
mv "$NODE/key.away" "$NODE/key.pub"
expect_true "it is back: over" "$(status 's["problems"]')" eval '! says "^PROBLEM key"'
node_wait says "^PROBLEM watch: $NODE/drop: No such file"
expect_true "a folder to watch that is missing: a problem" "$(status 's["problems"]')" says "^PROBLEM watch: $NODE/drop: No such file"
sleep 1
expect "... in the log, once" 1 "$(grep -c "^meshd: watch: $NODE/drop: No such file" "$NODE/log/meshd.log")"
mkdir "$NODE/drop"
for name in first second; do
	cp "$NODE/$name.o" "$NODE/drop/.$name"
	mv "$NODE/drop/.$name" "$NODE/drop/$name.o"
	node_wait eval '[ "$(status "s.get(\"version\")")" = '"$([ $name = first ] && echo 1 || echo 2)"' ]'
done
expect "it is there: the newest bundle is applied" "2 2" "$(status 's["version"], len(s["generations"])' | tr -d '(),')"
expect_true "... and all is well" "$(status 's["problems"]')" meshd_ask status --check

# ---- Requests that are none ------------------------------------------------------------------------------
request() { # TEXT: the answer of the control socket
	/usr/bin/python3 -c '
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(3)
sock.connect(sys.argv[1])
sock.sendall(sys.argv[2].encode() + b"\n")
print(sock.makefile().readline().strip())' "$NODE/meshd.sock" "$1"
}
before=$(status 's["generation"]')
for value in '"x"' 1e99 -1 0 1.5 4294967296 null '[]'; do
	expect_true "rollback to $value is refused by name" "$(request "{\"verb\": \"rollback\", \"generation\": $value}")" \
		eval "request '{\"verb\": \"rollback\", \"generation\": $value}' | grep -q \"'generation' of 'rollback' is a whole number from 1\""
done
expect_true "a number that is none at all, too" "$(request '{"verb": "rollback", "generation": 18446744073709551616}')" \
	eval "request '{\"verb\": \"rollback\", \"generation\": 18446744073709551616}' | grep -q '\"error\"'"
expect "and none was done" "$before" "$(status 's["generation"]')"
expect "a generation that is too large for one: exit 2" 2 "$(meshd_ask rollback 4294967297 >/dev/null 2>&1; echo $?)"
expect "none was done" "$before" "$(status 's["generation"]')"

# ---- Generations that give way ----------------------------------------------------------------------------
again() { for i in 1 2 3 4 5; do apply first && apply second; done; }
again
before=$(ls "/proc/$MESHD_PID/fd" | wc -l)
again
after=$(ls "/proc/$MESHD_PID/fd" | wc -l)
# One of those that ask may still be seen out.
expect_true "generations that give way leave no descriptor behind" "$before, then $after" test "$after" -lt $((before + 6))

# ---- Flows ---------------------------------------------------------------------------------------------
expect_ok "observe-only: what would be denied passes/web" outside tcp 10.77.0.21 8080
expect_ok "and what is allowed/web" client tcp 10.77.0.21 8080
logged() { [ "$(/usr/bin/python3 -c 'import json, sys; print(len([json.loads(line) for line in sys.stdin]))' <"$NODE/log/flow_log")" -ge 2 ]; }
node_wait logged
expect_true "both are in the flow log soon, in whole lines" "$(cat "$NODE/log/flow_log")" logged
meshd_ask flows >"$NODE/log/flows"
expect_true "the flow says that it passed" "$(cat "$NODE/log/flows")" grep -q " deny .* by default, but it passed: only observed" "$NODE/log/flows"
expect_true "... and only that one" "$(cat "$NODE/log/flows")" eval '! grep -q " allow .*only observed" "$NODE/log/flows"'
meshd_ask flows --rule nope >"$NODE/log/flows" 2>"$NODE/log/warned"
expect "flows of a rule that nobody has: exit 0" 0 $?
expect "... says so" "meshd: warning: no policy that is loaded has a rule 'nope'" "$(cat "$NODE/log/warned")"
for rule in ask-again ask-web default plaintext; do
	meshd_ask flows --rule $rule >/dev/null 2>>"$NODE/log/warned"
done
expect "... and nothing of those that there are" 1 "$(wc -l <"$NODE/log/warned")"
expect "a flag whose value is missing: exit 2" 2 "$("$MESHD" flows --from --config "$NODE/meshd.yaml" >"$NODE/log/flows" 2>&1; echo $?)"
expect_true "... says which" "$(cat "$NODE/log/flows")" grep -q "'--from' (or it lacks its value)" "$NODE/log/flows"

# ---- A refusal is a refusal ----------------------------------------------------------------------------
sed -i '/^observe_only/d' "$NODE/meshd.yaml"
node_stop_meshd
node_meshd || give_up start "meshd does not start"
expect_refused "enforcing" outside tcp 10.77.0.21 8080
expect_true "the flow does not say that it passed" "$(meshd_ask flows)" eval '! meshd_ask flows | grep -q "only observed"'
