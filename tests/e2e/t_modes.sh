# Modes of mTLS and peer.verified on a node that has no node proxy: what is strict is refused, what is not goes
# in the clear and is judged as that.
topic_begin
workload frontend 11
workload ledger 31
config <<<'enrol: {namespaces: [shop]}'
cat >"$NODE/modes.mesh" <<'END'
mesh shop: trust "shop.example", ingress deny, egress allow;
namespace shop;
service frontend { workload app == "frontend"; }
service ledger { workload app == "ledger"; tcp 6001..6004; }
mtls strict for ledger;
mtls permissive for ledger port 6002 until "2020-01-01";
mtls off for ledger port 6003 because "a test";
mtls off for ledger port 6004 because "a test";
allow post: from frontend to ledger port 6001..6003;
deny in-the-clear: from any to ledger port 6003 when not peer.verified;
allow shown: from frontend to ledger port 6004 when peer.verified;
END
"$MESHC" compile -k "$NODE/key" --now 2019-12-01 -o "$NODE/modes.o" "$NODE/modes.mesh" >"$NODE/log/compile" 2>&1 ||
	give_up modes "$(head -3 "$NODE/log/compile")"
policy later <<'END'
mesh shop: trust "shop.example", ingress deny, egress allow;
namespace shop;
service frontend { workload app == "frontend"; }
service ledger { workload app == "ledger"; tcp 6001..6004; }
mtls permissive for ledger until "2999-12-31";
allow clear: from frontend to ledger when not peer.verified;
END
inventory <<'END'
shop frontend app=frontend 10.77.0.11
shop ledger app=ledger 10.77.0.31
END
serve ledger ledger tcp:6001 tcp:6002 tcp:6003 tcp:6004
node_meshd || give_up start "meshd does not start"
apply modes
expect_true "apply warns of what the node cannot give" "$(cat "$NODE/log/apply")" \
	grep -q "warning: the policy has strict ports, and meshd.yaml no .mtls." "$NODE/log/apply"
last_rule() { last_flow | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)["rule"])'; }

expect_refused "strict without a tunnel" frontend tcp 10.77.0.31 6001
expect "by its name" plaintext "$(last_rule)"
expect_ok "permissive/ledger" frontend tcp 10.77.0.31 6002
expect_refused "a rule about plaintext" frontend tcp 10.77.0.31 6003
expect "is named" in-the-clear "$(last_rule)"
expect_refused "a rule about certificates lets nobody in without" frontend tcp 10.77.0.31 6004
expect "as if it were not there" default "$(last_rule)"
expect "a permissive that is over: --check fails" 1 "$(meshd_ask status --check >/dev/null 2>&1; echo $?)"
expect_true "... and says which" "$(status 's["problems"]')" \
	eval 'status "s[\"problems\"]" | grep -q "permissive for shop/ledger port 6002 ended on 2020-01-01 (.*modes.mesh:6:1)"'
meshd_ask flows --format json >"$NODE/log/flows"
"$MESHC" why --format json --now 2019-12-01 --flow "$NODE/log/flows" "$NODE/modes.mesh" >"$NODE/log/why" 2>&1
expect_true "why agrees with each record" "$(grep -v '"differs":null' "$NODE/log/why" | head -1 | cut -c-600)" \
	eval '[ -s "$NODE/log/why" ] && ! grep -qv "\"differs\":null" "$NODE/log/why"'
apply later
expect_ok "another policy/ledger" frontend tcp 10.77.0.31 6001
expect "in time: --check is content" 0 "$(meshd_ask status --check >/dev/null 2>&1; echo $?)"
