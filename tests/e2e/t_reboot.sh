# A machine started anew: nothing is pinned. What the state folder keeps goes on; where it cannot, the node is closed
# and says so. It never opens by itself.
topic_begin
workload client 11
workload outside 13
workload beside 14
workload web 21
config <<<'enrol: {namespaces: [shop]}'
text='mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; tcp 8080; }'
policy p <<<"$text allow ask-web: from client to web;"
people() {
	inventory <<'END'
shop client app=client 10.77.0.11
shop web app=web 10.77.0.21
END
}
people
serve web web tcp:8080
serve beside beside tcp:8080
reboot() { # COMMAND...: what happens to the node while it is down
	node_stop_meshd
	meshd_ask uninstall >"$NODE/log/uninstall" 2>&1
	"$@"
	node_meshd || fail "after: $*" "meshd does not start"
}
asked() { # client to web, a stranger to web, strangers among themselves
	ask client tcp 10.77.0.21 8080 timeout=0.5
	local first=$OUTCOME
	ask outside tcp 10.77.0.21 8080 timeout=0.5
	local second=$OUTCOME
	ask outside tcp 10.77.0.14 8080 timeout=0.5
	echo "$first $second $OUTCOME"
}
node_meshd || give_up start "meshd does not start"
expect "fresh: no policy, everything passes" "no policy ok ok ok" "$(status 's["state"]') $(asked)"
apply p
expect "a policy" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"
reboot true
expect "it is loaded again" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"

# ---- The state folder is not what it was ---------------------------------------------------------------
cp -a "$NODE/state" "$NODE/good"
valid() { meshd_ask status --format json | "$ROOT/tests/tools/validate" "$ROOT/docs/schemas/status.schema.json" -; }
closed() { # NAME WORDS COMMAND...
	local name=$1 words=$2
	shift 2
	reboot "$@"
	expect "$name: closed, but for what is not enrolled" "closed refused refused ok" "$(status 's["state"]') $(asked)"
	meshd_ask status --check >"$NODE/log/check" 2>&1
	expect "$name: --check fails" 1 $?
	expect_true "$name: status is what its schema says" "$(meshd_ask status)" valid
	expect_true "$name: and says why, and what to do" "$(grep PROBLEM "$NODE/log/check")" \
		grep -q "^PROBLEM CLOSED.*$words.*apply a bundle" "$NODE/log/check"
}
garbage() { echo nonsense >"$NODE/state/state.json"; }
empty() { : >"$NODE/state/state.json"; }
object() { echo '{}' >"$NODE/state/state.json"; }
short() { for file in "$NODE"/state/slot-*.o; do truncate -s 1000 "$file"; done; }
closed "state.json is garbage" "state.json:1: " garbage
expect_true "what is denied has a name" "$(last_flow)" flows_have "f['verdict'] == 'deny' and f['rule'] == 'unknown' and f['to'].get('workload') == 'shop/web'"
meshd_ask off >/dev/null
expect "off lets it pass" "off ok ok ok" "$(status 's["state"]') $(asked)"
meshd_ask on >/dev/null
node_stop_meshd -KILL
node_meshd || give_up start "meshd does not start again"
expect "and is closed when meshd is started again" "closed refused refused ok" "$(status 's["state"]') $(asked)"
apply p
expect "an apply opens it again" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"
expect_true "... and all is well" "$(status 's["problems"]')" meshd_ask status --check
expect "... nobody rolls back to what denied everything" 1 "$(meshd_ask rollback >/dev/null 2>&1; echo $?)"
closed "state.json is empty" "state.json:1: " empty
rm -r "$NODE/state" && cp -a "$NODE/good" "$NODE/state"
closed "state.json says nothing" "does not say which policy" object
closed "state.json is missing" "is missing, but bundles are there" rm "$NODE/state/state.json"
rm -r "$NODE/state" && cp -a "$NODE/good" "$NODE/state"
closed "bundles are cut short" "not a bundle" short
rm -r "$NODE/state" && cp -a "$NODE/good" "$NODE/state"
closed "the key is missing" "key.pub" mv "$NODE/key.pub" "$NODE/key.away"
mv "$NODE/key.away" "$NODE/key.pub"
node_stop_meshd
node_meshd || give_up start "meshd does not start again"
expect "mended and started again, it goes on by itself" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"

# ---- The inventory ------------------------------------------------------------------------------------
reboot mv "$NODE/inventory.json" "$NODE/inventory.away"
expect "no inventory: as it was read last" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"
expect_true "... which is a problem" "$(status 's["problems"]')" eval 'meshd_ask status | grep -q "PROBLEM the inventory was refused, the last good one is in force"'
node_stop_meshd
rm "$NODE/state/inventory.json"
node_meshd || give_up start "meshd does not start again"
expect "a restart without either: what is pinned goes on" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"
expect_true "... which is a problem" "$(status 's["problems"]')" eval 'meshd_ask status | grep -q "PROBLEM no inventory is in force, what is pinned goes on"'
reboot true
expect "that is not kept either: whoever had an address is denied" "enforcing timeout timeout ok" "$(status 's["state"]') $(asked)"
expect_true "... which is a problem" "$(status 's["problems"]')" eval 'meshd_ask status | grep -q "PROBLEM no inventory is in force, what has an address"'
before=$(status 's["epoch"], s["inventory"]["problem"]')
mv "$NODE/inventory.away" "$NODE/inventory.json"
inventory_taken "$before"
expect "it comes: all is well" "enforcing ok refused ok 0" "$(status 's["state"]') $(asked) $(meshd_ask status --check >/dev/null; echo $?)"
node_stop_meshd
meshd_ask uninstall >/dev/null 2>&1
mv "$NODE/inventory.json" "$NODE/inventory.away"
rm "$NODE/state/inventory.json" "$NODE/state/endpoints.json"
for i in 1 2; do
	timeout 5 "$MESHD" run --config "$NODE/meshd.yaml" >"$NODE/log/refused" 2>&1
	expect "nothing is known of anybody, start $i: exit 2" 2 $?
done
expect_true "... says what to do" "$(cat "$NODE/log/refused")" grep -q "put the inventory there, or remove that folder to start open" "$NODE/log/refused"
mv "$NODE/inventory.away" "$NODE/inventory.json"
node_meshd
expect "the inventory is back: all is well" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"

# ---- An inventory that does not fit --------------------------------------------------------------------
# A service address with two meanings: it can be read, and not be in force.
policy p 2 <<<"${text/tcp 8080;/tcp 8080; address 10.96.0.1;} allow ask-web: from client to web;"
apply p
says() { meshd_ask status >"$NODE/log/status"; grep -q "$1" "$NODE/log/status"; }
contradict() {
	people_json | SERVICES='{"namespace": "shop", "name": "web", "addresses": ["10.96.0.1"], "ports": [{"port": 8080, "target": 9}]}' inventory_json >"$NODE/inventory.json"
}
people_json() {
	echo shop client app=client 10.77.0.11,fd77::11
	echo shop web app=web 10.77.0.21,fd77::21
	for n in $(seq 100 "${1:-100}"); do echo "shop web-$n app=web 10.77.0.$n,fd77::$n"; done
}
refused() { # NAME WORDS
	expect_true "$1: the last good one is in force" "$(status 's["problems"]')" says "^PROBLEM the inventory was refused, the last good one is in force: .*$2"
	expect "... which is so" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"
}
reboot contradict
refused "a contradiction at the start" "10.96.0.1"
node_stop_meshd -KILL
node_meshd || give_up start "meshd does not start again"
refused "... and at a restart" "10.96.0.1"
denied() { # NAME WORDS: nobody of the inventory is anybody
	expect_true "$1: nothing is in force, and status says so" "$(status 's["problems"]')" says "^PROBLEM no inventory is in force, what has an address of the last one is denied: .*$2"
	expect "... which is so" "enforcing timeout timeout ok" "$(status 's["state"]') $(asked)"
	for n in 21 120; do
		ask outside tcp "fd77::$n" 8080 timeout=0.3
		expect "... of every address: fd77::$n" timeout "$OUTCOME"
	done
}
workload late 120
serve late late tcp:8080
people_json 140 | inventory
expect "more of them" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"
cp "$NODE/meshd.yaml" "$NODE/good.yaml"
lower() { echo "sizes: {$1: 16}" >>"$NODE/meshd.yaml"; }
for size in backends endpoints; do
	reboot lower $size
	denied "fewer $size than there were" "$size"
	node_stop_meshd
	node_meshd || give_up start "meshd does not start again"
	expect_true "... started again: what is pinned goes on" "$(status 's["problems"]')" says "^PROBLEM no inventory is in force, what is pinned goes on: .*$size"
	expect "... and is as closed as before" "enforcing timeout timeout ok" "$(status 's["state"]') $(asked)"
	people_json | inventory
	[ $size = endpoints ] || expect "... one that fits heals it" "enforcing ok refused ok" "$(status 's["state"]') $(asked)"
	cp "$NODE/good.yaml" "$NODE/meshd.yaml"
	people_json 140 >"$NODE/more"
	reboot eval 'inventory_json <"$NODE/more" >"$NODE/inventory.json"'
	expect "... and so does the size" "enforcing ok refused ok 0" "$(status 's["state"]') $(asked) $(meshd_ask status --check >/dev/null; echo $?)"
done
reboot rm -r "$NODE/state"
expect "the state folder was removed: a fresh node, open" "no policy ok ok ok" "$(status 's["state"]') $(asked)"
