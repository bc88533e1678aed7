# A node on one machine: a cgroup, a bpffs, and a network namespace for each workload, all of which are
# gone when the script ends. Sourced by the demo, the end-to-end tests and the benchmark; needs root.
#
#   node_begin NAME              makes it; node_end (on every exit path) removes it
#   node_workload NAME IP [IP6]  a namespace on the node's bridge
#   node_in NAME COMMAND...      runs inside the workload: its namespace and its cgroup
#   node_spawn NAME COMMAND...   the same in the background; killed by node_end
#   node_meshd, node_stop_meshd  the runtime, with $NODE/meshd.yaml

set -u -o pipefail

node_packages() { # root, tools: a clear message where something is missing
	[ "$(id -u)" = 0 ] || { echo "this needs root: it makes network namespaces and loads BPF programs" >&2; exit 2; }
	local missing=() package
	for package in "$@"; do
		dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] && return
	echo "installing ${missing[*]}" >&2
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } >"${TMPDIR:-/tmp}/mesh-apt.log" 2>&1 ||
		{ echo "these packages cannot be installed: ${missing[*]} (see ${TMPDIR:-/tmp}/mesh-apt.log)" >&2; exit 2; }
}

node_all_packages() { node_packages $(grep -v '^#' "$1/setup/packages.list"); }

# Builds into $1 from source folder $2; further words go to cmake.
node_build() {
	local build=$1 source=$2
	shift 2
	{ cmake -S "$source" -B "$build" -G Ninja "$@" && ninja -C "$build"; } >"$build.log" 2>&1 ||
		{ tail -40 "$build.log" >&2; echo "the build failed: $build.log" >&2; exit 2; }
}

node_names() { # where the node NAME lies, or lay
	NODE_NAME=$1
	NODE_CGROUP_ROOT=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
	[ -n "$NODE_CGROUP_ROOT" ] || { echo "no cgroup2 is mounted here" >&2; exit 2; }
	NODE_CGROUP=$NODE_CGROUP_ROOT/mesh-$NODE_NAME
	NODE=${NODE_FOLDER:-/run}/mesh-$NODE_NAME
	NODE_PIDS=()
	NODE_WORKLOADS=()
	MESHD_PID=
}

node_begin() {
	node_names "$1"
	node_end_quietly
	mkdir -p "$NODE/bpffs" "$NODE/state" "$NODE/log" "$NODE_CGROUP" &&
		mount -t bpf bpf "$NODE/bpffs" || { echo "no bpffs can be mounted" >&2; exit 2; }
	chmod 711 "$NODE"
	ip netns add "mesh-$NODE_NAME-net" && ip -n "mesh-$NODE_NAME-net" link set lo up &&
		ip -n "mesh-$NODE_NAME-net" link add br0 type bridge && ip -n "mesh-$NODE_NAME-net" link set br0 up ||
		{ echo "no network namespace can be made" >&2; exit 2; }
}

node_netns() { echo "mesh-$NODE_NAME-$1"; }

node_workload() {
	local name=$1 netns net=mesh-$NODE_NAME-net ip=$2 ip6=${3:-}
	netns=$(node_netns "$name")
	ip netns add "$netns" && mkdir -p "$NODE_CGROUP/$name"
	ip -n "$net" link add "p$((${#NODE_WORKLOADS[@]} + 1))" type veth peer name eth0 netns "$netns" &&
		ip -n "$net" link set "p$((${#NODE_WORKLOADS[@]} + 1))" master br0 up
	NODE_WORKLOADS+=("$name")
	ip -n "$netns" link set lo up
	ip -n "$netns" link set eth0 up
	ip -n "$netns" addr add "$ip/16" dev eth0
	[ -z "$ip6" ] || ip -n "$netns" addr add "$ip6/64" dev eth0 nodad
	# Service addresses lie outside: they need a way, which nothing ever takes.
	ip -n "$netns" route add default dev eth0
	[ -z "$ip6" ] || ip -n "$netns" -6 route add default dev eth0
}

# nsenter and not `ip netns exec`, which hides the cgroup tree.
node_in() {
	local name=$1
	shift
	(
		echo $BASHPID >"$NODE_CGROUP/$name/cgroup.procs"
		exec nsenter --net="/run/netns/$(node_netns "$name")" "$@"
	)
}

node_spawn() {
	node_spawn_to "$NODE/log/$1.log" "$@"
}

# The same, with its output in FILE.
node_spawn_to() {
	local file=$1 name=$2
	shift 2
	(
		echo $BASHPID >"$NODE_CGROUP/$name/cgroup.procs"
		exec nsenter --net="/run/netns/$(node_netns "$name")" "$@"
	) >>"$file" 2>&1 </dev/null &
	NODE_PIDS+=($!)
	SPAWNED=$!
}

node_config() { # further lines on standard input
	{
		echo "bpffs: $NODE/bpffs"
		echo "cgroup: $NODE_CGROUP"
		echo "state: $NODE/state"
		echo "socket: $NODE/meshd.sock"
		echo "inventory: $NODE/inventory.json"
		cat
	} >"$NODE/meshd.yaml"
}

meshd_ask() { "$MESHD" "$@" --config "$NODE/meshd.yaml"; }

node_meshd() {
	"$MESHD" run --config "$NODE/meshd.yaml" >>"$NODE/log/meshd.log" 2>&1 </dev/null &
	MESHD_PID=$!
	echo $MESHD_PID >"$NODE/meshd.pid"
	local i
	for i in $(seq 100); do
		meshd_ask status >/dev/null 2>&1 && return 0
		kill -0 $MESHD_PID 2>/dev/null || break
		sleep 0.05
	done
	echo "meshd does not answer:" >&2
	tail -5 "$NODE/log/meshd.log" >&2
	return 1
}

node_stop_meshd() {
	[ -n "$MESHD_PID" ] || return 0
	kill "${1:--TERM}" "$MESHD_PID" 2>/dev/null
	wait "$MESHD_PID" 2>/dev/null
	MESHD_PID=
}

# Waits for COMMAND to succeed, 5 s.
node_wait() {
	local i
	for i in $(seq 100); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	return 1
}

node_end() {
	node_stop_meshd
	local pid
	for pid in "${NODE_PIDS[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null; done
	node_end_quietly
}

# Also removes what a run that was killed left behind: only what has this node's name.
node_end_quietly() {
	local path i pid
	read -r pid <"$NODE/meshd.pid" && grep -qz -- "$NODE/meshd.yaml" "/proc/$pid/cmdline" && kill -9 "$pid"
	echo 1 >"$NODE_CGROUP/cgroup.kill"
	mountpoint -q "$NODE/bpffs" && umount "$NODE/bpffs"
	for path in /run/netns/mesh-"$NODE_NAME"-*; do
		[ -e "$path" ] && ip netns del "${path##*/}"
	done
	for i in 1 2 3 4 5 6 7 8 9 10; do
		find "$NODE_CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null
		[ -d "$NODE_CGROUP" ] || break
		sleep 0.05
	done
	rm -rf "$NODE"
} 2>/dev/null
