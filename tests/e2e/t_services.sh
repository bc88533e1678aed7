# Service addresses: translation, shares, stickiness, empty subsets, what the application sees.
topic_begin
workload client 11
for n in 1 2 3 4; do workload web-$n 2$n; done
config <<<'enrol: {namespaces: [shop]}'
policy p <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; address 10.96.0.1, fd00:96::1; tcp 80 to 8080; udp 53 to 5353; tcp 443 to 8443;
  subset v1 = version == "1"; subset v2 = version == "2"; }
service pool { workload app == "web"  and pool == "yes"; address 10.96.0.2; tcp 80 to 8080; }
allow ask-web: from client to web port 8080;
allow ask-dns: from client to web port 5353;
route web { when tcp.port == 8080 split per connection v1 80, v2 20; split per connection 100; }
MESH
# The same with a sticky route.
policy sticky <<'MESH'
mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; tcp 9000; }
service web { workload app == "web"; address 10.96.0.1, fd00:96::1; tcp 80 to 8080; }
allow ask-web: from client to web;
route web { split per connection 100; sticky by source; }
MESH
people() { # label=version of web-1 .. web-4
	local n=0 version
	{
		echo shop client app=client 10.77.0.11,fd77::11
		for version in "$@"; do
			n=$((n + 1))
			[ "$version" = - ] || echo "shop web-$n app=web,version=$version 10.77.0.2$n,fd77::2$n"
		done
	} | inventory
}
people 1 1 2 2
for n in 1 2 3 4; do serve web-$n web-$n tcp:8080 udp:5353; done
node_meshd || give_up start "meshd does not start"
apply p

ask client tcp 10.96.0.1 80
expect "getpeername is the service's address" peername=10.96.0.1:80 "${ANSWER##* }"
expect_true "the backend answers" "$OUTCOME $ANSWER" test "$OUTCOME" = ok
ask client tcp fd00:96::1 80
expect "getpeername over IPv6" "ok peername=fd00:96::1:80" "$OUTCOME ${ANSWER##* }"
ask client tcp ::ffff:10.96.0.1 80
expect "getpeername of an IPv4 service in an IPv6 socket" "ok peername=::ffff:10.96.0.1:80" "$OUTCOME ${ANSWER##* }"
for address in 10.96.0.1 fd00:96::1 ::ffff:10.96.0.1; do
	ask client udp $address 53
	expect "a datagram's answer comes from $address" "ok peername=$address:53" "$OUTCOME ${ANSWER##* }"
	ask client udpc $address 53
	expect "connected udp to $address" "ok peername=$address:53" "$OUTCOME ${ANSWER##* }"
done
expect_refused "a port of the service that nobody may ask" client tcp 10.96.0.1 443
expect_refused "a port that the service address does not have" client tcp 10.96.0.1 81
expect_true "and it is named unknown" "$(last_flow --rule unknown)" flows_have "f['rule'] == 'unknown' and f['verdict'] == 'deny'"
expect_refused "a service without workloads" client tcp 10.96.0.2 80
expect_true "the flow tells what was asked and the subset" "$(last_flow --rule ask-web)" flows_have \
	"f['rule'] == 'ask-web' and f.get('asked') == {'address': '10.96.0.1', 'port': 80} and f.get('subset') in ('v1', 'v2') and f['to']['port'] == 8080"

share() { awk -v who="$2" '$1 ~ who { n += $2 } END { print n + 0 }' <<<"$1"; }
near() { [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }
tally=$(node_in client $NET many tcp 10.96.0.1 80 600)
# 480 are expected; 5 standard deviations are 49.
expect_true "shares 80 to 20" "$tally" near "$(share "$tally" 'web-[12]')" 431 529
expect "nothing else came back" 600 "$(share "$tally" web)"
expect_true "each backend of a subset gets some" "$tally" test "$(wc -l <<<"$tally")" = 4

people 1 1 - -
tally=$(node_in client $NET many tcp 10.96.0.1 80 100)
expect "an empty subset gives its share away" 100 "$(share "$tally" 'web-[12]')"
expect_true "and that is counted" "$(stat_of empty_subset)" test "$(stat_of empty_subset)" -gt 0
people 3 3 - -
expect_refused "all subsets empty: refused" client tcp 10.96.0.1 80
expect_true "no backend is counted" "$(stat_of no_backend)" test "$(stat_of no_backend)" -gt 0

people 1 1 2 2
apply sticky
tally=$(node_in client $NET many tcp 10.96.0.1 80 50)
expect "sticky by source: one backend" 1 "$(wc -l <<<"$tally")"
chosen=${tally%% *}
others=()
for n in 1 2 3 4; do [ web-$n = "$chosen" ] && others+=(1) || others+=(-); done
people "${others[@]}"
expect "it stays while others leave" "$chosen 20" "$(node_in client $NET many tcp 10.96.0.1 80 20)"
others=()
for n in 1 2 3 4; do [ web-$n = "$chosen" ] && others+=(-) || others+=(1); done
people "${others[@]}"
tally=$(node_in client $NET many tcp 10.96.0.1 80 20)
expect_true "it leaves: another one, and one only" "$tally" test "$(wc -l <<<"$tally")" = 1 -a "${tally%% *}" != "$chosen"

# Service addresses from the inventory.
SERVICES='{"namespace": "shop", "name": "web", "addresses": ["10.97.0.9"], "ports": [{"port": 8000, "target": 8080}]}'
people 1 1 2 2
expect_ok "an address that the inventory gives" client tcp 10.97.0.9 8000
