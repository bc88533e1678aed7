# The model against the kernel, on random policies: tests/bpf/run.

model_run() {
	local count line
	count=$(pick 200 5)
	if [ ! -x "$root/tests/bpf/run" ]; then
		row model "random policies, model against TEST_RUN" "skipped: tests/bpf/run is not there" - "0 differences" -
		return
	fi
	say "the model against the kernel: $count random policies"
	line=$("$root/tests/bpf/run" "$build" --policies "$count" 2>"$WORK/log" | grep -E '^bpf: [0-9]+ passed' | tail -1)
	[ -n "$line" ] || { broken model "random policies, model against TEST_RUN" "$(head -c 200 "$WORK/log")" "0 differences"; return; }
	row model "$count random policies, 1,000 requests each: model against TEST_RUN and an oracle" "${line#bpf: }" - "0 failed" \
		"$([[ $line =~ ^bpf:\ [0-9]+\ passed,\ 0\ failed,\ 0\ skipped ]] && echo yes || echo no)"
}
