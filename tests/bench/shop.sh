# The shop (examples/shop) under load: refusals, the connect hook, switches, crashes.

shop_start_node() {
	node_begin bench
	here_before=$here here=$root/examples/shop
	. "$root/examples/shop/shop.sh"
	number() { /usr/bin/python3 -c 'import json, sys; print(eval(sys.argv[1], {"d": json.load(sys.stdin)}))' "$1"; }
	shop_start && shop_policies
	local r=$?
	here=$here_before
	[ $r = 0 ] && node_workload stranger 10.77.0.99 && node_meshd && meshd_ask apply "$NODE/shop.o" >/dev/null
}

# Refused where it is opened, by connect4; and where it arrives, by sk_lookup: the stranger is no workload.
shop_refused() {
	local who to answer free count
	count=10000
	# The floor: nobody listens there, the kernel refuses.
	free=$(node_in stranger "$MESHLOAD" --count "$count" 10.77.0.99:1)
	for who in frontend/10.96.0.10:6379 frontend/10.77.0.13:6379 stranger/10.77.0.13:6379; do
		to=${who#*/}
		answer=$(node_in "${who%/*}" "$MESHLOAD" --count "$count" "$to")
		row refused "$count connects that are denied $([ "${who%/*}" = stranger ] && echo "at the receiver, from outside the mesh" || echo "at the caller, to a $([[ $to = 10.96* ]] && echo service || echo workload)")" \
			"$(of "$answer" '"p50 %.0f, p99 %.0f, worst %.0f us; %d ECONNREFUSED, %d timeouts, %d else" % (d["p50_us"], d["p99_us"], d["p100_us"], d["refused"], d["timeout"], d["connections"] - d["refused"] - d["timeout"])')" \
			"$(of "$free" '"a closed port: p50 %.0f, p99 %.0f us" % (d["p50_us"], d["p99_us"])')" "p99 1 ms, all ECONNREFUSED" \
			"$(met "$(of "$answer" 'd["p99_us"]') < 1000 && $(of "$answer" 'd["refused"]') == $(of "$answer" 'd["connections"]')")"
	done
}

# No way to the reviews: the hook runs, and nothing behind it.
shop_no_route() {
	ip -n "$(node_netns frontend)" route "$1" unreachable 10.77.0.11 && ip -n "$(node_netns frontend)" route "$1" unreachable 10.77.0.12
}

shop_connect() {
	local answer hot floor=$NODE_CGROUP_ROOT/mesh-bench-floor
	mkdir -p "$floor"
	shop_connects() {
		node_in frontend "$build/bench-connect" "$NODE/bpffs/mesh" "$WORK/shop-bench.o" "$NODE_CGROUP/frontend" "$floor" \
			10.96.0.11:80 10.77.0.11:8080 "$(pick 2000 500)"
	}
	bench_bpf "$root/examples/shop/shop.mesh" "$WORK/shop-bench.o" 2>"$WORK/log" && answer=$(shop_connects 2>"$WORK/log") &&
		shop_no_route add && hot=$(shop_connects 2>"$WORK/log") && shop_no_route del ||
		{ broken connect "connect4 with service translation" "$(head -c 200 "$WORK/log")" "250 ns"; return; }
	row connect "connect4, service address to backend (route 90/10), over an empty connect4" \
		"$(of "$hot" '"%d ns" % d["same_ns"]')" "$(of "$hot" '"%d ns" % d["floor_ns"]')" "250 ns" \
		"$(met "$(of "$hot" 'd["same_ns"]') <= 250")"
	row connect "the same with a handshake between two of them" \
		"$(of "$answer" '"%d ns; on a fresh socket, with the allocation of its storage, %d ns" % (d["same_ns"], d["fresh_ns"])')" \
		"$(of "$answer" '"%d ns" % d["floor_ns"]')" - -
}

# Half of the time whole applications, half of it rollbacks to and fro: the store alone.
shop_switches() {
	local seconds count=0 applied=0 old new end r
	seconds=$(pick 10 6)
	meshd_ask apply "$NODE/next.o" >/dev/null && meshd_ask apply "$NODE/shop.o" >/dev/null
	shop_load $((seconds + 20))
	sleep 0.3
	end=$((SECONDS + seconds / 2))
	while [ $SECONDS -lt $end ]; do
		meshd_ask apply "$NODE/$([ $((count % 2)) = 0 ] && echo next || echo shop).o" >/dev/null && count=$((count + 1))
	done
	applied=$count
	new=$(meshd_ask status --format json | number 'd["generation"]')
	old=$((new - 1))
	end=$((SECONDS + seconds / 2))
	while [ $SECONDS -lt $end ] || [ $count -lt 200 ]; do
		r=$old old=$new new=$r
		meshd_ask rollback "$new" >/dev/null && count=$((count + 1)) || break
		sleep 0.02
	done
	kill -TERM "$LOAD_PID" 2>/dev/null
	wait "$LOAD_PID"
	local d what="policies alternating under load: $count switches, $applied of them whole applications"
	d=$(cat "$NODE/load")
	of "$d" '"%d %d %d %d %d %d" % (lambda r, l, c: (d["per_s"], r["connections"] - r["ok"], l["ok"], c["connections"] - c["ok"] - c["reset"] - c["closed"], c["reset"] + c["closed"], d["connections"]))(*d["targets"])' >"$WORK/counts" ||
		{ broken switches "$what" "$d" "0 wrong"; return; }
	local rate failed wrong mixed cut all
	read -r rate failed wrong mixed cut all <"$WORK/counts"
	row switches "$what" "$all connections, $rate a second: $failed failed that both allow, $wrong succeeded that both deny" - \
		"0, 0; 200 switches, 3,000 a second" "$(met "$failed == 0 && $wrong == 0 && $count >= 200 && $rate >= 3000")"
	row switches "a pair whose mixture would be seen (the catalog moves)" "$mixed mixtures; $cut cut when the new policy denied them" - "0" "$(met "$mixed == 0")"
}

shop_crashes() {
	local kills=0 wanted adopted=0 d
	wanted=$(pick 100 20)
	meshd_ask apply "$NODE/shop.o" >/dev/null
	shop_load 120
	while [ $kills -lt "$wanted" ]; do
		sleep 0.02
		node_stop_meshd -KILL
		sleep 0.03
		node_meshd || break
		kills=$((kills + 1))
	done
	[ "$(meshd_ask status --format json | number 'd["adopted"]')" = True ] && adopted=1
	kill -TERM "$LOAD_PID" 2>/dev/null
	wait "$LOAD_PID"
	d=$(cat "$NODE/load")
	of "$d" '"%d %d %d %d" % (lambda r, l, c: (d["connections"], d["per_s"], r["connections"] - r["ok"] + c["connections"] - c["ok"], l["ok"]))(*d["targets"])' >"$WORK/counts" ||
		{ broken crashes "kill -9 under load" "$d" "0 wrong"; return; }
	local all rate failed wrong
	read -r all rate failed wrong <"$WORK/counts"
	row crashes "meshd killed (SIGKILL) and started again $kills times under load" \
		"$all connections, $rate a second: $failed failed that are allowed, $wrong succeeded that are denied" - "0 and 0" \
		"$(met "$failed == 0 && $wrong == 0 && $kills == $wanted && $adopted")"
}

shop_run() {
	local part
	say "the shop: $*"
	shop_start_node || { for part in "$@"; do broken "$part" "the shop" "it does not start"; done; bench_node_end; return; }
	for part in "$@"; do "shop_$part"; done
	bench_node_end
}
