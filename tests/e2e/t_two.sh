# Two of them on one machine: one set of pins is one meshd's, and what is another instance's is left alone.
topic_begin
strict_pair
workload stranger 12
serve ledger ledger tcp:8080
node_meshd || give_up start "meshd does not start"
apply strict
identities() { [ "$(status "(s['mtls'] or {}).get('identities')")" = 2 ]; }
node_wait identities || give_up identities "$(status 's["mtls"]')"
expect_ok "strict, through the tunnel/ledger" client tcp 10.77.0.31 8080

# ---- The same pins -----------------------------------------------------------------------------------
mkdir -p "$NODE/state2"
sed "s|$NODE/meshd.sock|$NODE/second.sock|; s|^state:.*|state: $NODE/state2|" "$NODE/meshd.yaml" >"$NODE/second.yaml"
second() { timeout 5 "$MESHD" "$1" --config "$NODE/second.yaml" >"$NODE/log/second" 2>&1; }
second run
expect "a second meshd on the same pins, with a socket and a state of its own: exit 2" 2 $?
expect_true "... says who has them" "$(cat "$NODE/log/second")" grep -q "another meshd (pid $MESHD_PID) works on $NODE/bpffs/mesh" "$NODE/log/second"
timeout 5 unshare -m "$MESHD" run --config "$NODE/second.yaml" >"$NODE/log/second" 2>&1
expect "... from another mount namespace, too" 2 $?
second uninstall
expect "... and so does uninstall" 2 $?
expect_true "... for the same reason" "$(cat "$NODE/log/second")" grep -q "another meshd (pid $MESHD_PID)" "$NODE/log/second"
expect_ok "... strict connections go on/ledger" client tcp 10.77.0.31 8080
expect_true "... and status is content" "$(status 's["problems"]')" meshd_ask status --check
node_stop_meshd -KILL
node_meshd
expect "killed, its lock is gone with it" 0 $?
node_wait identities
expect_ok "... the next one goes on/ledger" client tcp 10.77.0.31 8080

# ---- Other pins, the same cgroup ---------------------------------------------------------------------
sed -i 's|^bpffs:.*|&\npins: other|' "$NODE/second.yaml"
second uninstall
expect "uninstall where nothing is: exit 0" 0 $?
sleep 0.5
expect_ok "... the other's proxy goes on/ledger" client tcp 10.77.0.31 8080
expect "... it was not even started again" 0 "$(status 's["mtls"]["restarts"]')"
"$MESHD" run --config "$NODE/second.yaml" >"$NODE/log/second" 2>&1 </dev/null &
SECOND=$!
NODE_PIDS+=($SECOND)
node_wait "$MESHD" status --config "$NODE/second.yaml"
expect "another instance has a proxy of its own" "True True" \
	"$(status "len(open('$NODE_CGROUP/mesh-proxy/cgroup.procs').read().split()) >= 2, len(open('$NODE_CGROUP/other-proxy/cgroup.procs').read().split()) == 2" | tr -d '(),')"
kill $SECOND
wait $SECOND
second uninstall
expect "it is taken away" 0 $?
expect "... all of it" "" "$(ls -d "$NODE_CGROUP/other-proxy" "$NODE/bpffs/other"* 2>/dev/null)"
expect_ok "... and nothing else/ledger" client tcp 10.77.0.31 8080
node_stop_meshd
meshd_ask uninstall >"$NODE/log/uninstall" 2>&1
expect "no pins, no lock, no proxy are left" "" "$(ls -d "$NODE_CGROUP/mesh-proxy" "$NODE/bpffs/mesh"* 2>/dev/null)"

# ---- A start with nothing pinned ---------------------------------------------------------------------
: >"$NODE/log/meshd.log"
node_meshd || give_up start "meshd does not start again"
node_wait identities
expect_ok "the policy is loaded again, with a proxy/ledger" client tcp 10.77.0.31 8080
expect "... and no warning that there is none" 0 "$(grep -c 'strict ports' "$NODE/log/meshd.log")"
