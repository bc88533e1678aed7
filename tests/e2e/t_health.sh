# What of mutual TLS does not work is a problem, by name, until it is mended.
topic_begin
strict_pair
serve ledger ledger tcp:8080
node_meshd || give_up start "meshd does not start"
apply strict
content() { meshd_ask status --check >"$NODE/log/status"; }
wrong() { ! content && grep -q "^PROBLEM $1" "$NODE/log/status"; }
# sick NAME WORDS: a problem with these WORDS comes; well NAME: it goes.
sick() {
	node_wait wrong "$2"
	expect_true "$1: a problem" "$(grep PROBLEM "$NODE/log/status")" wrong "$2"
}
well() {
	node_wait content
	expect_true "$1: over" "$(grep PROBLEM "$NODE/log/status")" content
	node_wait eval 'node_in client $NET ask tcp 10.77.0.31 8080 | grep -q ^ok'
	expect_ok "$1: connections go on/ledger" client tcp 10.77.0.31 8080
}
well "to begin with"

mv "$NODE/svids/shop.client" "$NODE/away"
sick "a certificate goes away" "workload shop/client: there is no valid certificate of $(spiffe client): .* put a new one into $NODE/svids"
ask client tcp 10.77.0.31 8080 timeout=2
expect_true "... and its workload is refused" "$OUTCOME" test "$OUTCOME" != ok
expect_true "... others are not named" "$(grep PROBLEM "$NODE/log/status")" eval '! grep -q "PROBLEM.*shop/ledger" "$NODE/log/status"'
mv "$NODE/away" "$NODE/svids/shop.client"
well "it comes back"

mv "$NODE/svids/bundle/shop.example.pem" "$NODE/away"
sick "the trust bundle goes away" "$NODE/svids/bundle/shop.example.pem is missing: nobody of shop.example is trusted"
mv "$NODE/away" "$NODE/svids/bundle/shop.example.pem"
well "it comes back"

mv "$NODE/svids" "$NODE/away"
sick "the folder goes away" "identities: $NODE/svids: No such file"
expect_ok "... and what was in it stays in force/ledger" client tcp 10.77.0.31 8080
sleep 1
mv "$NODE/away" "$NODE/svids"
well "the same folder comes back"
mv "$NODE/svids/bundle" "$NODE/away"
sick "the folder of trust goes away" "identities: $NODE/svids/bundle: No such file"
mv "$NODE/away" "$NODE/svids/bundle"
well "it comes back"

# In the names of files anything may stand.
cp "$(find "$NODE/svids/shop.client" -name '*.crt' -o -name '*.pem' | head -1)" "$NODE/svids/"$'\xff.crt'
: >"$NODE/svids/"$'\xff.key'
sick "a file whose name is no text" "identities: $NODE/svids/?.crt: the name is no text in UTF-8"
svids --id "$(spiffe client)"
node_wait eval '[ "$(status "s[\"mtls\"][\"identities\"]")" = 2 ]'
expect_ok "... and the others are read as before/ledger" client tcp 10.77.0.31 8080
rm "$NODE/svids/"$'\xff.'*
well "it is gone"

# More addresses than the proxy keeps of a workload.
many() { seq -f "fd77::1:%g" -s, 1 "$1"; } # of IPv4 only one: with several it opens nothing strict
inventory <<END
shop client app=client 10.77.0.11,$(many 16)
shop ledger app=ledger 10.77.0.31
END
sick "a workload that the proxy does not take" "workload shop/client: the node proxy does not take it: place: more than 16 addresses"
inventory <<END
shop client app=client 10.77.0.11,$(many 3)
shop ledger app=ledger 10.77.0.31
END
well "it has fewer"
node_stop_meshd
node_meshd || give_up start "meshd does not start again"
inventory <<END
shop client app=client 10.77.0.11,$(many 16)
shop ledger app=ledger 10.77.0.31
END
node_stop_meshd
node_meshd || give_up start "meshd does not start again"
sick "a proxy that never took it" "workload shop/client: the node proxy does not take it: place: more than 16 addresses"
inventory <<END
shop client app=client 10.77.0.11
shop ledger app=ledger 10.77.0.31
END
well "it takes it"

svids --seconds 3 --id "$(spiffe client)"
node_wait content
sleep 3
sick "a certificate ends" "workload shop/client: the certificate of $(spiffe client) ended 20[-0-9T:]*Z: "
node_wait eval '[ "$(status "s[\"mtls\"][\"identities\"]")" = 1 ]'
expect "... and is not counted any more" 1 "$(status 's["mtls"]["identities"]')"
expect_true "... in words" "$(cat "$NODE/log/status")" grep -q "^  $(spiffe client) ENDED 20" "$NODE/log/status"
svids --id "$(spiffe client)"
well "another is issued"

PROXY=$(status 's["mtls"]["pid"]')
kill -STOP "$PROXY"
sleep 4
sick "the proxy is stopped" "the node proxy, pid $PROXY, has not answered for [0-9]* s: .* kill -9 it"
kill -CONT "$PROXY"
well "it goes on"
kill -STOP "$PROXY"
sleep 1
kill -KILL "$PROXY"
well "another proxy in its place"

# ---- Its broker ----------------------------------------------------------------------------------------
broker() { grep -l mesh-broker $(sed 's,.*,/proc/&/comm,' "$NODE_CGROUP/mesh-proxy/cgroup.procs") | cut -d/ -f3; }
BROKER=$(broker)
kill -STOP "$BROKER"
sleep 4
sick "the broker is stopped" "the node proxy's broker, pid $BROKER, has not answered for [0-9]* s: .* kill -9 it"
# Who comes now cannot be given a listener; meshd waits for the broker once, and goes on with everything else.
workload late 32
inventory <<'END'
shop client app=client 10.77.0.11
shop ledger app=ledger 10.77.0.31
shop late app=ledger 10.77.0.32
END
sick "... and a workload that comes meanwhile" "workload shop/late: the proxy's listener: its broker does not answer: what is strict is refused to it"
kill -CONT "$BROKER"
well "it goes on"
serve late late tcp:8080
expect_ok "... and who came meanwhile is reached/late" client tcp 10.77.0.32 8080
inventory <<'END'
shop client app=client 10.77.0.11
shop ledger app=ledger 10.77.0.31
END
well "it leaves"
kill -KILL "$BROKER"
sick "the broker ends" "the node proxy's broker ended: .* both are started again"
well "both are started again"
expect_true "... another broker" "$(broker)" test "$(broker)" != "$BROKER"

# ---- A proxy that ends as soon as it is started -------------------------------------------------------
cp "$BUILD/meshp" "$NODE/meshp"
node_stop_meshd -TERM
sed -i "s,^mtls: {,&program: $NODE/meshp, ," "$NODE/meshd.yaml"
node_meshd || give_up start "meshd does not start"
well "another program"
mv "$NODE/meshp" "$NODE/good-meshp"
cp /bin/false "$NODE/meshp"
kill -KILL "$(status 's["mtls"]["pid"]')"
sick "a proxy that ends at once" "the node proxy"
mv "$NODE/good-meshp" "$NODE/meshp"
sleep 6 # nobody asks meshd how it is
expect_ok "one that stays is found unasked/ledger" client tcp 10.77.0.31 8080
well "it stays"
