"""A pair of meshp against a pair of HAProxy with mutual TLS 1.3, interleaved: bench.py [ROUNDS]

One machine's loopback, one thread each. Prints each round, then medians and their ratio, as a line of JSON."""
import statistics

from play import *

RELAY = os.environ.get("RELAY", os.path.join(ROOT, "build", "bench-relay"))
WORK = (("trip", "20000", "p50_us"), ("fresh", "1000", "p50_us"), ("bulk", "1500", "mb_per_s"))
HEAD = """global
 nbthread 1
 maxconn 5000
 ssl-default-bind-options ssl-min-ver TLSv1.3
 ssl-default-server-options ssl-min-ver TLSv1.3
defaults
 mode tcp
 timeout connect 5s
 timeout client 60s
 timeout server 60s
"""


def haproxy(folder, name, body):
    with open(f"{folder}/{name}.cfg", "w") as file:
        file.write(HEAD + body)
    return subprocess.Popen(["haproxy", "-db", "-f", f"{folder}/{name}.cfg"], stderr=subprocess.DEVNULL)


def main(rounds):
    application, pair = subprocess.Popen([RELAY, "serve", RECEIVER, "9000"]), Pair()
    others, seen = [], {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in ("frontend", "ledger"):
                certificate, key = pair.authority.svid(name)
                with open(f"{folder}/{name}.pem", "wb") as file:
                    file.write(pem(certificate) + key_pem(key))
            with open(f"{folder}/ca.pem", "wb") as file:
                file.write(pem(pair.authority.certificate))
            tls = "crt {0}/{1}.pem ca-file {0}/ca.pem verify required"
            others.append(haproxy(folder, "caller", f"listen c\n bind {CALLER}:15101\n"
                                  f" server s {RECEIVER}:15108 ssl {tls.format(folder, 'frontend')}\n"))
            others.append(haproxy(folder, "receiver", f"listen s\n bind {RECEIVER}:15108 ssl "
                                  f"{tls.format(folder, 'ledger')}\n server s {RECEIVER}:9000\n"))
            time.sleep(1)
            for work, count, key in WORK:
                for _ in range(rounds):
                    for who, ip, port in (("direct", RECEIVER, 9000), ("meshp", CALLER, 15001), ("haproxy", CALLER, 15101)):
                        out = subprocess.run([RELAY, work, ip, str(port), count], capture_output=True, text=True, timeout=120)
                        figures = json.loads(out.stdout)
                        seen.setdefault((work, who), []).append(figures[key])
                        print(work, who, figures, flush=True)
            rss = [proxy.rss_bytes() >> 10 for proxy in (pair.caller, pair.receiver)]
        finally:
            for one in (*others, application):
                one.kill()
                one.wait()
            pair.stop()
    medians = {f"{work}_{who}": statistics.median(figures) for (work, who), figures in seen.items()}
    ratios = {f"{work}_ratio": round(medians[f"{work}_meshp"] / medians[f"{work}_haproxy"], 2) for work, _, _ in WORK}
    print(json.dumps({**medians, **ratios, "rss_kib": rss}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
