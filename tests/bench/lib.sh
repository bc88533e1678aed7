# What the parts of the benchmark share.
#
#   row NAME WHAT FIGURE FLOOR BAR MET   a line of the table; MET: yes, no or - (no bar)
#   met EXPR                             yes or no: an expression of awk
#   of JSON EXPR                         Python over `d`
say() { echo "bench: $*" >&2; }
row() {
	printf '{"part": "%s", "what": "%s", "figure": "%s", "floor": "%s", "bar": "%s", "met": "%s"}\n' "$@" >>"$RESULTS"
	say "$2: $3 (floor: $4; bar: $5; met: $6)"
}
# Something could not be measured: the row says so, and the run ends with exit 2.
broken() {
	row "$1" "$2" "could not be measured: ${3//[\"\\$'\n'$'\t']/ }" - "${4:--}" no
	touch "$WORK/broken"
}
met() { awk "BEGIN { print ($1) ? \"yes\" : \"no\" }"; }
of() { /usr/bin/python3 -c 'import json, sys; d = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$1" "$2"; }
wanted_of() { # the names that were asked for
	local name
	for name in "$@"; do [[ " $only " != *" $name "* ]] || printf '%s ' "$name"; done
}
pick() { [ -n "$quick" ] && echo "$2" || echo "$1"; } # pick FULL QUICK
least() { sort -g | head -1; }
most() { sort -g | tail -1; }

# Also what lies a cgroup deeper than setup/node.sh looks.
bench_node_end() {
	local path pid
	for path in "$NODE_CGROUP"/*/*/cgroup.procs "$NODE_CGROUP_ROOT"/mesh-bench-floor/cgroup.procs; do
		[ -f "$path" ] && while read -r pid; do kill -9 "$pid"; done <"$path"
	done 2>/dev/null
	node_end
	rmdir "$NODE_CGROUP_ROOT"/mesh-bench-floor 2>/dev/null
}

# A node whose meshd is `bench`'s, with further lines of its configuration on standard input.
bench_config() {
	{
		echo "mesh: $1"
		echo "keys: [$NODE/key.pub]"
		cat
	} | node_config
	"$MESHC" keygen -o "$NODE/key" >/dev/null 2>&1
}
rss_mib() { awk '/^VmRSS:/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }
peak_mib() { awk '/^VmHWM:/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }

# bench_bpf POLICY.mesh OUT: the bench's own programs (bpf/decide.bpf.c), with the sizes of this policy.
bench_bpf() {
	local folder=$2.templates
	mkdir -p "$folder" && cp "$root"/bpf-templates/* "$folder"
	"$MESHC" compile --emit=c "$1" 2>/dev/null | awk '/^\tPLAN_RULES = /{on=1; print "enum {"} on{print} on&&/^};/{exit}' >"$folder/region"
	sed -i -e "/MESH REGION plan BEGIN/r $folder/region" \
		-e '/MESH REGION plan BEGIN/,/MESH REGION plan END/{/MESH REGION/!d}' "$folder/policy.h"
	clang-19 -target bpf -mcpu=v3 -O2 -g -Wno-unused-function -I "$folder" -c "$here/bpf/decide.bpf.c" -o "$2"
}
