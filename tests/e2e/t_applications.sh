# What applications do with their connections is what a tunnel carries: who speaks first, how it ends, how much, and
# where they listen.
topic_begin
id() { echo "spiffe://shop.example/ns/shop/sa/$1"; }
workload client 11
workload ledger 31
workload six 33
ip -n "$(node_netns six)" addr del 10.77.0.33/16 dev eth0
"$MESHD" ca "$NODE/svids" --trust shop.example --id "$(id client)" --id "$(id ledger)" --id "$(id six)" >"$NODE/log/ca" 2>&1 ||
	give_up ca "$(tail -1 "$NODE/log/ca")"
config <<CONFIG
enrol: {namespaces: [shop]}
mtls: {identities: $NODE/svids, user: nobody}
CONFIG
policy strict <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls strict;
namespace shop;
service client { workload app == "client"; }
service ledger { workload app == "ledger"; tcp 8080; tcp 8081; tcp 8082; tcp 8083; tcp 8084; tcp 8085; }
service six { workload app == "six"; tcp 8080; tcp 8082; }
allow post: from client, six to ledger;
allow away: from client to six;
MESH
inventory <<'LINES'
shop client app=client 10.77.0.11,fd77::11
shop ledger app=ledger 10.77.0.31,fd77::31
shop six app=six fd77::33
LINES
export NET_TELL=1
serve ledger ledger tcp:8080 loop:8081 echo:8082 first:8083 rst:8084
serve six six tcp:8080 echo:8082
unset NET_TELL
node_meshd || give_up start "meshd does not start: $(tail -2 "$NODE/log/meshd.log")"
apply strict
node_wait eval '[ "$(status "(s[\"mtls\"] or {}).get(\"identities\")")" = 3 ]' || give_up identities "$(status 's["mtls"]')"
swap() { node_in "$1" $NET swap "$2" "$3" "$4" 2>&1 | tail -1 | cut -d' ' -f1,2; }
tunnelled() { flows_have "f['hook'] == 'tunnel' and f.get('event') == 'end' and f.get('side') == 'receiver' and ($1)"; }

# ---- IPv6 alone -------------------------------------------------------------------------------------------------
expect_ok "a workload with IPv6 alone is reached/six" client tcp fd77::33 8080
expect_true "... through the tunnel" "$(last_flow --to six)" tunnelled "f['to'].get('address') == 'fd77::33' and f['from'].get('spiffe') == '$(id client)'"
expect_ok "... and reaches others/ledger" six tcp fd77::31 8080
expect "... who see its address" "peer=fd77::33" "$(ask six tcp fd77::31 8080; grep -o 'peer=[^ ]*' <<<"$ANSWER" | head -1)"
expect "... with a megabyte each way" "same 1048576" "$(swap six fd77::31 8082 1048576)"

# ---- Where they listen --------------------------------------------------------------------------------------------
# Without a mesh nobody outside reaches it. Through a tunnel connect is over by then: it is a reset.
expect_reset "an application at 127.0.0.1 alone" client tcp 10.77.0.31 8081
expect_true "... is refused by itself, and both ends say so" "$(last_flow --to ledger)" flows_have \
	"f['hook'] == 'tunnel' and f.get('event') == 'refused' and f.get('side') == 'receiver' and f.get('reason') == 'application' and f['to'].get('port') == 8081"
expect_true "... the caller's, too" "$(last_flow --to ledger)" flows_have \
	"f['hook'] == 'tunnel' and f.get('event') == 'refused' and f.get('side') == 'caller' and f.get('reason') == 'application' and f['to'].get('port') == 8081"
expect_reset "a port on which nobody listens" client tcp 10.77.0.31 8085

# ---- Who speaks first ---------------------------------------------------------------------------------------------
expect_ok "a server that speaks first/ledger" client first 10.77.0.31 8083
expect_true "... without a stall" "$TOOK_MS ms" test "${TOOK_MS%.*}" -lt 200
expect_ok "... over IPv6/ledger" client first fd77::31 8083

# ---- How much -----------------------------------------------------------------------------------------------------
expect "10 MB each way, each end half closed" "same 10000000" "$(swap client 10.77.0.31 8082 10000000)"
expect "... over IPv6" "same 10000000" "$(swap client fd77::31 8082 10000000)"
counted() { tunnelled "f['bytes_in'] == 10000000 and f['bytes_out'] == 10000000 and 'reason' not in f and f['to'].get('address') == '$1'"; }
node_wait counted 10.77.0.31
expect_true "... both are counted, to the byte" "$(last_flow --to ledger)" counted 10.77.0.31
expect_true "... IPv6, too" "$(last_flow --to ledger)" counted fd77::31

# ---- How it ends --------------------------------------------------------------------------------------------------
ended() { sed -n "$(($1 + 1)),\$p" "$NODE/log/ledger.log" | grep -v accepted | sort -u | tr '\n' ' '; }
lines() { wc -l <"$NODE/log/ledger.log"; }
one_ended() { [ -n "$(ended "$1")" ]; }
expect_reset "a server's reset is a reset" client tcp 10.77.0.31 8084
node_wait tunnelled "f.get('reason') == 'application' and f['to'].get('port') == 8084"
expect_true "... and is said to be the application's" "$(last_flow --to ledger)" tunnelled "f.get('reason') == 'application' and f['to'].get('port') == 8084"
before=$(lines)
expect_ok "a client that resets/ledger" client tcp 10.77.0.31 8080
node_wait one_ended "$before"
expect "... is a reset at the server" "reset " "$(ended "$before")"
before=$(lines)
swap client 10.77.0.31 8082 10 >/dev/null
node_wait one_ended "$before"
expect "a client that ends is an end" "end " "$(ended "$before")"
