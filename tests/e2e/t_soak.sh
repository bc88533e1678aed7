# Mutual TLS for long: 1,000 connections at once, both ways, with stalls and half-closes at random, and not a byte is
# another. With --long 1 GB each way; without, as much as a few seconds carry.
topic_begin
WAYS="/usr/bin/python3 $ROOT/tests/tools/both_ways.py"
[ -n "${LONG:-}" ] && connections=1000 bytes=1073741824 || connections=200 bytes=20971520
strict_pair
node_spawn ledger $WAYS serve 10.77.0.31 8080
node_wait listens ledger 8080 || give_up soak "nobody listens"
node_meshd || give_up start "meshd does not start: $(tail -2 "$NODE/log/meshd.log")"
apply strict
node_wait eval '[ "$(status "(s[\"mtls\"] or {}).get(\"identities\")")" = 2 ]' || give_up identities "$(status 's["mtls"]')"
said=$(node_in client timeout 300 $WAYS call 10.77.0.31 8080 $connections $bytes 2>&1 | tail -1)
echo "$said" >"$NODE/log/soak"
expect_true "$connections connections, $((bytes >> 20)) MiB each way at once: every byte" "$said" grep -q '"failed": 0' <<<"$said"
fine() { [ "$(grep -c fine "$NODE/log/ledger.log")" = $connections ]; }
node_wait fine
expect "... and at the other end" "$connections 0" "$(grep -c fine "$NODE/log/ledger.log") $(grep -c problem "$NODE/log/ledger.log")"
crossed=$(ip -n "$(node_netns ledger)" -s -j link show eth0 | /usr/bin/python3 -c 'import json, sys; s = json.load(sys.stdin)[0]["stats64"]; print(min(s["rx"]["bytes"], s["tx"]["bytes"]))')
expect_true "... all of it over the wire" "$crossed bytes" test "$crossed" -ge $bytes
expect_true "... through the tunnel" "$(last_flow)" flows_have "f['hook'] == 'tunnel' and f.get('event') == 'end' and f.get('tls') == 'TLSv1.3' and 'reason' not in f"
# The tunnel between the two stays; TIME_WAIT is the kernel's.
left() { nsenter --net="/run/netns/$(node_netns "$1")" ss -Htn state connected exclude time-wait | grep -vc :15008; }
nothing_left() { [ "$(left client) $(left ledger)" = "0 0" ]; }
node_wait nothing_left
expect "nothing is left of them" "0 0" "$(left client) $(left ledger)"
