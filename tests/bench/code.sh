# What an author and a pipeline wait for: check, diff, test and the proofs of large policies, on one CPU and
# without a node. The policies are code.py's.

# code_row NAME WHAT BAR_S EXIT PATTERN ARGUMENTS...: `meshc ARGUMENTS`, which ends with EXIT and says PATTERN. The
# best of several, with the memory of that run; without the mesh nothing is decided, so there is no floor.
code_row() {
	local name=$1 what=$2 bar=$3 want=$4 pattern=$5 i code took peak
	shift 5
	: >"$WORK/times"
	for i in $(seq "$(pick 5 2)"); do
		/usr/bin/env time -q -f '%e %M' -a -o "$WORK/times" "$MESHC" "$@" >"$WORK/said" 2>&1
		code=$?
		[ $code = "$want" ] && grep -q "$pattern" "$WORK/said" ||
			{ broken "$name" "$what" "exit $code: $(tail -1 "$WORK/said" | head -c 150)" "$bar s"; return; }
	done
	read -r took peak < <(sort -g "$WORK/times")
	row "$name" "$what" "$took s, $((peak / 1024)) MiB" - "$bar s" "$(met "$took <= $bar")"
}

code_check() { code_row check "meshc check, 10,000 rules, 10,000 services" 1 0 '10000 rules' check "$WORK/code/check.mesh"; }
code_diff() {
	code_row diff "meshc diff, two policies of 10,000 rules that differ in 10" 2 1 '5 widened, 10 narrowed' \
		diff "$WORK/code/old.mesh" "$WORK/code/new.mesh"
}
code_test() { code_row test "meshc test, 10,000 expectations, 10,000 rules" 2 0 '^10000 passed, 0 failed' test "$WORK/code/test.mesh"; }
code_never() {
	code_row never "meshc check, a never and a never through any, 1,000 services, 1,000 rules" 1 0 '1000 rules' check "$WORK/code/never.mesh"
}

code_run() {
	local part
	say "large policies, at a desk: $*"
	mkdir -p "$WORK/code"
	PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$here/code.py" "$MESHC" "$WORK/code" 2>"$WORK/log" ||
		{ broken "${1%% *}" "large policies" "$(tail -1 "$WORK/log" | head -c 150)"; return; }
	for part in "$@"; do "code_$part"; done
}
