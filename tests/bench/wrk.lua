-- What wrk found, as one JSON object; an answer that is missing or not the one of the server is an error.
done = function(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format('{"wrk_per_s": %.1f, "wrk_p50_us": %d, "wrk_p99_us": %d, "errors": %d}\n',
		summary.requests * 1e6 / summary.duration, latency:percentile(50), latency:percentile(99),
		errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
