# `meshc plan`: what a new policy changes, against what this node enforces.
topic_begin
workload frontend 11
workload ledger 31
config <<<'enrol: {namespaces: [shop]}'
policy first <<'END'
mesh shop: trust "shop.example", ingress deny, egress allow;
namespace shop;
service frontend { workload app == "frontend"; tcp 8080; }
service ledger { workload app == "ledger"; tcp 6379; }
allow post: from frontend to ledger;
END
policy second <<'END'
mesh shop: trust "shop.example", ingress deny, egress allow;
namespace shop;
service frontend { workload app == "frontend"; tcp 8080; }
service ledger { workload app == "ledger"; tcp 6379; }
deny closed: from frontend to ledger;
END
inventory <<'END'
shop frontend app=frontend 10.77.0.11
shop ledger app=ledger 10.77.0.31
END
node_meshd || give_up start "meshd does not start"
plan() { "$MESHC" plan --node "$NODE/meshd.sock" "$@" >"$NODE/log/plan" 2>&1; }

plan "$NODE/first.mesh"
expect "before the first apply there is nothing to compare with" 2 $?
expect_true "... and it says so" "$(cat "$NODE/log/plan")" grep -q "no policy is in force" "$NODE/log/plan"
apply first
plan "$NODE/first.mesh"
expect "the policy in force changes nothing" 0 $?
plan --format json "$NODE/second.mesh"
expect "another one does" 1 $?
expect "its group" "narrowed post closed" \
	"$(/usr/bin/python3 -c 'import json, sys; g, = json.load(open(sys.argv[1]))["groups"]; print(g["change"], g["from"]["rule"], g["to"]["rule"])' "$NODE/log/plan")"
apply second
plan "$NODE/second.mesh"
expect "applied, it changes nothing" 0 $?
plan "$NODE/first.mesh"
expect "the way back does" 1 $?
expect_true "the node's own lines are named" "$(cat "$NODE/log/plan")" grep -q "was deny by 'closed' (node:.*second.mesh:5:1)" "$NODE/log/plan"
rm -f "$NODE/state"/* 2>/dev/null
plan "$NODE/first.mesh"
expect "a bundle that is gone is no empty policy" 2 $?
