# A kernel that does not describe its own structures (CONFIG_DEBUG_INFO_BTF): what needs that is missing, and said.
topic_begin
workload client 11
workload stranger 12
workload web 21
config <<<'enrol: {namespaces: [shop]}'
header='mesh shop: trust "shop.example", ingress deny, egress allow;
mtls off because "one machine";
namespace shop;
service client { workload app == "client"; }
service web { workload app == "web"; address 10.96.0.1; tcp 80 to 8080; tcp 9090; }'
policy open <<<"$header allow ask-web: from client to web;"
policy closed <<<"$header allow ask-web: from client to web port 9090; deny night: from client to web port 8080;"
inventory <<'END'
shop client app=client 10.77.0.11,fd77::11
shop stranger app=stranger 10.77.0.12
shop web app=web 10.77.0.21,fd77::21
END
# libbpf looks there first; elsewhere it would find them with a debug kernel alone.
cat >"$NODE/untyped" <<END
#!/bin/sh
exec unshare --mount sh -c 'mount -t tmpfs none /sys/kernel/btf && exec "$BUILD/meshd" "\$@"' meshd "\$@"
END
chmod +x "$NODE/untyped"
MESHD=$NODE/untyped

wants=$("$MESHD" preflight --config "$NODE/meshd.yaml" --format json |
	/usr/bin/python3 -c 'import json, sys; p = json.load(sys.stdin); print(p["ok"], *(c["name"] for c in p["checks"] if not c["works"]))')
expect "preflight: it can enforce, without these" "True iter_tcp near" "$wants"

serve web web tcp:8080 tcp:9090
hold old client 20 tcp 10.77.0.21 8080
node_meshd || give_up start "meshd does not start"
apply open
expect_true "status says that older sockets pass" "$(status 's["problems"]')" test "$(status 'any("CONFIG_DEBUG_INFO_BTF" in p for p in s["problems"])')" = True
expect_ok "allowed/web" client tcp 10.96.0.1 80
expect_ok "allowed, IPv6/web" client tcp fd77::21 8080
expect_refused "denied" stranger tcp 10.77.0.21 8080
hold live client 20 tcp 10.96.0.1 80
hold kept client 20 tcp 10.77.0.21 9090
apply closed
node_wait eval '! kill -0 $HOLD_live'
expect "a live connection that a switch denies is reset" reset "$(held live)"
expect_refused "and refused from then on" client tcp 10.96.0.1 80
sleep 0.2
expect_true "what is still allowed goes on" "$(held kept)" kill -0 "$HOLD_kept"
expect_true "an older connection passes, and is counted" "$(stat_of old_socket)" test "$(kill -0 "$HOLD_old" && stat_of old_socket)" -gt 0
node_stop_meshd -KILL
expect_refused "with meshd gone, too" client tcp 10.96.0.1 80
node_meshd || give_up adoption "meshd does not come back"
expect "what it made is adopted" True "$(status 's["adopted"]')"
expect_refused "and enforces" client tcp 10.96.0.1 80
