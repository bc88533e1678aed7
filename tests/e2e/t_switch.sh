# The atomic switch, under load, with the shop of examples/shop: nginx and redis behind it. Adoption, off and
# on, rollback, uninstall.
topic_begin
workload frontend 11
workload reviews 21
workload ledger 31
workload blue 41
workload green 42
config <<<'enrol: {namespaces: [shop]}'
for p in shop shop-next; do policy $p <"$ROOT/examples/shop/$p.mesh"; done
inventory <<'END'
shop frontend app=frontend 10.77.0.11
shop reviews app=reviews,version=1 10.77.0.21
shop ledger app=ledger 10.77.0.31
shop blue app=catalog,color=blue 10.77.0.41
shop green app=catalog,color=green 10.77.0.42
END
web() { # WORKLOAD TEXT
	mkdir -p "$NODE/$1"
	cat >"$NODE/$1/nginx.conf" <<END
pid $NODE/$1/pid; error_log $NODE/log/$1.nginx; daemon off; worker_processes 1; user root;
events {} http { access_log off; server { listen 8080 backlog=4096; listen [::]:8080 backlog=4096; location / { return 200 "$2"; } } }
END
	node_spawn "$1" nginx -c "$NODE/$1/nginx.conf" -e "$NODE/log/$1.nginx"
	node_wait listens "$1" 8080 || give_up "$TOPIC" "nginx of $1 does not listen"
}
web reviews reviews
web blue blue
web green green
node_spawn ledger redis-server --port 6379 --bind 0.0.0.0 --save '' --appendonly no --protected-mode no --dir "$NODE/log" --logfile ''
node_wait listens ledger 6379 || give_up "$TOPIC" "redis does not listen"
node_meshd || give_up start "meshd does not start"
apply shop
apply shop-next
shop=$(status 's["generations"][0]["generation"]') next=$(status 's["generation"]')
switch() { meshd_ask rollback "$1" >/dev/null 2>>"$NODE/log/switch"; }
switch "$shop"

page() { node_in "$1" curl -s -m 2 "http://$2" 2>/dev/null; }
expect "curl through a service address" blue "$(page frontend 10.96.0.20)"
expect "redis through a service address" PONG "$(node_in reviews timeout 2 redis-cli -h 10.96.0.10 ping 2>&1)"
expect "redis refuses the frontend" refused "$(node_in frontend timeout 2 redis-cli -h 10.96.0.10 ping 2>&1 | grep -o refused)"
switch "$next"
expect "the catalog moved" green "$(page frontend 10.96.0.20)"
expect "the ledger is closed for the night" refused "$(node_in reviews timeout 2 redis-cli -h 10.96.0.10 ping 2>&1 | grep -o refused)"

# ---- Alternating under load ------------------------------------------------------------------------
load() { # FILE WORKLOAD SECONDS WORDS...
	local file=$1 workload=$2 seconds=$3
	shift 3
	node_in "$workload" "$MESHLOAD" --seconds "$seconds" --threads 2 "$@" >"$NODE/log/$file" 2>&1 </dev/null &
	NODE_PIDS+=($!)
	LOADS+=($!)
}
loads_done() { wait "${LOADS[@]}"; LOADS=(); }
tally() { /usr/bin/python3 -c 'import json, sys; t = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$NODE/log/$1" "$2"; }
LOADS=()
# By the control socket: faster than a `meshd` for each.
alternate() { # SECONDS ONE OTHER
	/usr/bin/python3 - "$NODE/meshd.sock" "$@" <<'PY'
import json, socket, sys, time
path, seconds, pair, count = sys.argv[1], float(sys.argv[2]), [int(n) for n in sys.argv[3:5]], 0
end = time.monotonic() + seconds
while time.monotonic() < end:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.sendall(json.dumps({"verb": "rollback", "generation": pair[count % 2]}).encode() + b"\n")
    answer = json.loads(sock.makefile().readline())
    assert "error" not in answer, answer
    count += 1
    time.sleep(0.005)
print(count)
PY
}
request='GET / HTTP/1.0\r\n\r\n'
# Two policies that agree on all that is asked here, by other rules and shares: nothing may fail.
sed 's/read-/look-at-/; s/ledger-is-private/hands-off/; s/v1 90, v2 10/v1 50, v2 50/' "$ROOT/examples/shop/shop.mesh" >"$NODE/other.text"
policy other <"$NODE/other.text"
apply other
load catalog frontend 4 --last --request "$request" 10.96.0.20:80
load reviews frontend 4 --request "$request" 10.96.0.11:80
load denied frontend 4 10.96.0.10:6379 10.77.0.31:6379
switches=$(alternate 3 "$shop" "$(status 's["generation"]')" 2>>"$NODE/log/switch")
loads_done
expect_true "many switches" "$switches $(tail -1 "$NODE/log/switch")" test "${switches:-0}" -gt 30
expect "two policies that agree alternate: 0 failed" "0 0" "$(tally catalog 't["connections"] - t["ok"]') $(tally reviews 't["connections"] - t["ok"]')"
expect "two policies that agree alternate: 0 let through" 0 "$(tally denied 't["connections"] - t["refused"]')"
expect "all by the right backend" "{'e': True}" "$(tally catalog '{k: v > 1000 for k, v in t["answers"].items()}')"
expect "thousands were tried" "True True" "$(tally reviews 't["ok"] > 1000') $(tally denied 't["refused"] > 1000')"

load catalog frontend 3 --last --request "$request" 10.96.0.20:80
load denied frontend 3 10.96.0.10:6379
for n in 1 2 3 4; do
	apply shop
	apply other
done
loads_done
expect "bundles are applied under load: 0 failed" 0 "$(tally catalog 't["connections"] - t["ok"]')"
expect "bundles are applied under load: 0 let through" 0 "$(tally denied 't["connections"] - t["refused"]')"
expect "eight generations are kept" 8 "$(status 'len(s["generations"])')"

# Two whose mixture would show: shop sends to blue and allows blue alone, shop-next green. What is open at
# the moment of a switch is denied by the new policy and reset, two threads one connection each; whatever
# else fails was decided by two generations.
apply shop
shop=$(status 's["generation"]')
apply shop-next
next=$(status 's["generation"]')
load catalog frontend 4 --last --request "$request" 10.96.0.20:80
switches=$(alternate 3 "$shop" "$next" 2>>"$NODE/log/switch")
loads_done
expect "blue or green, nothing else answers" "['e', 'n']" "$(tally catalog 'sorted(t["answers"])')"
failed=$(tally catalog 't["connections"] - t["ok"]')
expect_true "no more fail than were open at a switch" "$failed of $switches switches" test "$failed" -le $((switches * 2))
expect "no connection was decided by two generations" "0 0 True" "$(meshd_ask flows --from frontend --format json | /usr/bin/python3 -c '
import json, sys
mixed = refused = seen = 0
for f in map(json.loads, sys.stdin):
    if f["hook"] != "connect" or f.get("asked", {}).get("address") != "10.96.0.20":
        continue
    seen += 1
    refused += f["verdict"] != "allow"
    place = f["where"].rsplit(":", 2)[0].rsplit("/", 1)[1] if f["where"] else None
    mixed += (f["to"]["service"], f["to"]["address"], place) not in {
        ("shop/catalog-blue", "10.77.0.41", "shop.mesh"), ("shop/catalog-green", "10.77.0.42", "shop-next.mesh")}
print(mixed, refused, seen > 50)')"

# ---- kill -9, adoption, graceful restart -----------------------------------------------------------
switch "$next"
before=$(status 's["generation"]')
load catalog frontend 4 --last --request "$request" 10.96.0.20:80
load denied frontend 4 10.96.0.10:6379
sleep 0.5
node_stop_meshd -KILL
sleep 0.7
expect "dead, and still it refuses" refused "$(node_in reviews timeout 2 redis-cli -h 10.96.0.10 ping 2>&1 | grep -o refused)"
node_meshd || give_up adoption "meshd does not come back"
expect "adopted, the same generation" "True $before" "$(status 's["adopted"], s["generation"]' | tr -d '(),')"
sleep 0.3
node_stop_meshd
node_meshd || give_up restart "meshd does not come back"
loads_done
expect "kill -9 and a restart: 0 failed" 0 "$(tally catalog 't["connections"] - t["ok"]')"
expect "kill -9 and a restart: 0 let through" 0 "$(tally denied 't["connections"] - t["refused"]')"
other=$(status "next(g['generation'] for g in s['generations'] if not g['active'] and g['digest'] != s['digest'])")
switch "$other"
expect "a rollback after the adoption" "$other blue" "$(status 's["generation"]') $(page frontend 10.96.0.20)"
apply shop
expect "an apply after the adoption" blue "$(page frontend 10.96.0.20)"
expect "status --check is content" 0 "$(meshd_ask status --check >/dev/null; echo $?)"

# ---- rollback --------------------------------------------------------------------------------------
apply shop-next
meshd_ask rollback >/dev/null
expect "rollback: the one before" blue "$(page frontend 10.96.0.20)"
expect "rollback to what is not there: exit 1" 1 "$(meshd_ask rollback 4711 >/dev/null 2>&1; echo $?)"
expect "rollback to nonsense: exit 2" 2 "$(meshd_ask rollback x >/dev/null 2>&1; echo $?)"
expect "it stays in force" blue "$(page frontend 10.96.0.20)"

# ---- off and on ------------------------------------------------------------------------------------
meshd_ask off >/dev/null
expect "off: everything passes" PONG "$(node_in frontend timeout 2 redis-cli -h 10.77.0.31 ping 2>&1)"
expect "off: status shouts and --check fails" "off 1" "$(status 's["state"]') $(meshd_ask status --check >/dev/null; echo $?)"
expect_true "off is counted" "$(stat_of off)" test "$(stat_of off)" -gt 0
expect_true "off is logged" "$(tail -1 "$NODE/log/meshd.log")" grep -q 'BREAK GLASS by uid 0' "$NODE/log/meshd.log"
node_stop_meshd
node_meshd || give_up "off and restart" "meshd does not come back"
expect "off outlives a restart" off "$(status 's["state"]')"
meshd_ask on >/dev/null
expect "on: enforcing" "enforcing refused" "$(status 's["state"]') $(node_in frontend timeout 2 redis-cli -h 10.77.0.31 ping 2>&1 | grep -o refused)"

programs() { "$BUILD/e2e-bpf" count "$NODE_CGROUP" /run/netns/mesh-e2e-*; }
# ---- uninstall, and a machine started anew: nothing is pinned, the policy is still known --------------
node_stop_meshd
expect_true "programs are attached" "$(programs)" test "$(programs)" -ge 17
expect "uninstall refuses nothing when meshd is stopped" 0 "$(meshd_ask uninstall >/dev/null 2>&1; echo $?)"
expect "no pin is left" "" "$(ls -A "$NODE/bpffs" | grep -v '\.debug$')"
expect "no program is left attached" 0 "$(programs)"
expect "and nothing is refused" PONG "$(node_in frontend timeout 2 redis-cli -h 10.77.0.31 ping 2>&1)"
node_meshd || give_up "after uninstall" "meshd does not start"
expect "the policy that was in force is loaded again" "enforcing blue refused" \
	"$(status 's["state"]') $(page frontend 10.96.0.20) $(node_in frontend timeout 2 redis-cli -h 10.77.0.31 ping 2>&1 | grep -o refused)"
expect "uninstall beside a living meshd: exit 2" 2 "$(meshd_ask uninstall >/dev/null 2>&1; echo $?)"
