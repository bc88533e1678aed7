-- What wrk found, as one JSON object.
done = function(summary, latency, requests)
	local errors = summary.errors
	io.write(string.format('{"wrk_per_s": %.1f, "errors": %d}\n', summary.requests * 1e6 / summary.duration,
		errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
