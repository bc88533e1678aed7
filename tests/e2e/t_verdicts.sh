# Allow, deny, default, audit: what an application sees, what is counted and what the flow log says. TCP and
# UDP; IPv4, IPv6 and IPv4 in an IPv6 socket.
topic_begin
workload client 11
workload stranger 12
workload web 21
workload loose 22
config <<<'enrol: {namespaces: [shop, dev]}'
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service stranger { workload app == "stranger"; tcp 9000; }
service web { workload app == "web"; tcp 8080; udp 5353; tcp 9090; }
service loose { workload app == "loose"; tcp 8080; ingress audit; }
allow ask-web: from client to web;
deny no-admin: from any to web port 9090;
audit watch-web: from any to web port 8080;
MESH
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop stranger app=stranger 10.77.0.12,fd77::12
shop web app=web 10.77.0.21,fd77::21
shop loose app=loose 10.77.0.22,fd77::22
END
serve web web tcp:8080 udp:5353 tcp:9090 tcp:7070
serve loose loose tcp:8080
node_meshd || give_up start "meshd does not start"

expect "no policy yet is said" "no policy False" "$(status 's["state"] + " " + str(s["ok"])')"
expect_ok "before the first apply everything passes/web" stranger tcp 10.77.0.21 8080
apply p
expect "enforcing" "enforcing True" "$(status 's["state"] + " " + str(s["ok"])')"

for how in 10.77.0.21 fd77::21 ::ffff:10.77.0.21; do
	expect_ok "tcp allow $how/web" client tcp $how 8080
	expect_refused "tcp default $how" stranger tcp $how 8080
	expect_refused "tcp deny $how" client tcp $how 9090
	expect_refused "tcp undeclared port $how" client tcp $how 7070
	expect_ok "udp allow $how/web" client udp $how 5353
	expect_ok "udp connected $how/web" client udpc $how 5353
	expect_eperm "udp default $how" stranger udp $how 5353
	expect_refused "udp connected default $how" stranger udpc $how 5353
done
expect_ok "a default of audit lets pass/loose" stranger tcp 10.77.0.22 8080

expect_true "the flow names rule and place" "$(last_flow --rule no-admin)" flows_have \
	"f['rule'] == 'no-admin' and f['where'].endswith('p.mesh:9:1') and f['verdict'] == 'deny' and not f['passed'] and f['from']['service'] == 'shop/client' and f['to']['service'] == 'shop/web' and f['to']['port'] == 9090"
expect_true "default is named" "$(last_flow --from stranger)" flows_have \
	"f['rule'] == 'default' and f['from']['workload'] == 'shop/stranger' and f['verdict'] == 'deny' and f['hook'] == 'connect'"
expect_true "audit is named beside the verdict" "$(last_flow --rule ask-web)" flows_have \
	"f['rule'] == 'ask-web' and f['audit'] == ['watch-web'] and f['passed']"
expect_true "a default of audit is named" "$(last_flow --to loose)" flows_have \
	"f['to'].get('service') == 'shop/loose' and f['audit'] == ['default'] and f['passed']"
expect_true "udp has a flow" "$(last_flow --rule ask-web)" flows_have \
	"f['rule'] == 'ask-web' and f['protocol'] == 'udp' and f['to']['port'] == 5353"
expect_true "IPv6 addresses are told" "$(last_flow)" flows_have "f['to'].get('address') == 'fd77::21' and f['from'].get('address') in (None, 'fd77::12')"

before=$(hits no-admin caller)
node_in client $NET many tcp 10.77.0.21 9090 10 >/dev/null
expect "denials are counted once each" $((before + 10)) "$(hits no-admin caller)"
before="$(hits ask-web caller) $(hits ask-web receiver)"
node_in client $NET many tcp 10.77.0.21 8080 10 >/dev/null
expect "an allowed connection is counted at each end" "$((${before% *} + 10)) $((${before#* } + 10))" \
	"$(hits ask-web caller) $(hits ask-web receiver)"
before="$(hits ask-web caller) $(hits ask-web receiver)"
node_in client $NET many udp 10.77.0.21 5353 10 >/dev/null
expect "an allowed udp flow is counted at each end" "$((${before% *} + 10)) $((${before#* } + 10))" \
	"$(hits ask-web caller) $(hits ask-web receiver)"

# A service reaching itself is outside policy.
expect_ok "self by its own address/web" web tcp 10.77.0.21 9090
expect_ok "self by loopback/web" web tcp 127.0.0.1 9090
expect_ok "self by ::1/web" web tcp ::1 9090

expect "ping passes" 0 "$(node_in stranger $NET ping 10.77.0.21; echo $?)"

expect "flows --verdict" deny "$(meshd_ask flows --verdict deny --format json | /usr/bin/python3 -c 'import json, sys; print(*{json.loads(l)["verdict"] for l in sys.stdin})')"
expect "flows --from --to" "shop/stranger shop/loose" "$(meshd_ask flows --from stranger --to shop/loose --format json | /usr/bin/python3 -c 'import json, sys; print(*{json.loads(l)["from"]["service"] + " " + json.loads(l)["to"]["service"] for l in sys.stdin})')"
expect "flows --rule" no-admin "$(meshd_ask flows --rule no-admin --format json | /usr/bin/python3 -c 'import json, sys; print(*{json.loads(l)["rule"] for l in sys.stdin})')"
expect "flows of nobody" 0 "$(meshd_ask flows --from nobody | wc -l)"
meshd_ask flows -f --verdict deny --format json >"$NODE/log/follow" 2>&1 &
FOLLOW=$!
NODE_PIDS+=($FOLLOW)
sleep 0.2
before=$(wc -l <"$NODE/log/follow")
ask client tcp 10.77.0.21 9090
node_wait eval "[ \$(wc -l <'$NODE/log/follow') = $((before + 1)) ]"
expect "flows -f goes on" $((before + 1)) "$(wc -l <"$NODE/log/follow")"
kill $FOLLOW
expect "status --check of a healthy node" 0 "$(meshd_ask status --check >/dev/null; echo $?)"
