"""why: what a node would say, where no rule is asked."""
import json

from common import SMALL, Folder, expect


NEAR = """mesh m: trust "t", ingress deny, egress deny;
namespace a;
service web { http 8080; http 9090; }
service db { tcp 5432; tcp 6000..6009; }
service rpc { grpc 50051; }
identity robot = "spiffe://t/ns/ci/sa/robot";
allow read: from db, robot to web port 8080
  when http.method in {"GET", "HEAD"} and (http.path like "/r/**" or http.host == "r") and not http.header["x-no"] == "1";
allow write: from any except db to db port 5432;
allow place: from web to rpc when grpc.method == "shop.Cart/Place" and not (http.header["a"] == "1" or http.header["b"] == "1");
deny off: from namespace a to web when http.header["x-off"] matches "[0-9]+" or not http.method != "TRACE" and http.path == "/t";
"""


def near(folder):
    """Rules that miss by one part say what it would have to be, in their own words."""
    grpc = ["--from=web", "--to=rpc", "--method=POST"]
    get = ["--to=web", "--port=8080", "--method=GET"]
    for words, rule, would, unless in [
            (["--from=db", "--to=web", "--port=8080", "--method=PUT", "--path=/r/1"], "read", "allow", 'http.method were "GET" or "HEAD"'),
            (["--from=db", *get, "--path=/x"], "read", "allow", 'http.path were like "/r/**" or http.host were "r"'),
            (["--from=db", *get, "--path=/r/1", "--header=x-no=1"], "read", "allow", 'http.header["x-no"] were not "1"'),
            (["--from=db", "--to=web", "--port=8080", "--method=PUT", "--path=/x", "--header=x-no=1"], "read", "allow",
             'http.method were ("GET" or "HEAD") and (http.path were like "/r/**" or http.host were "r") and http.header["x-no"] were not "1"'),
            (["--from=web", *get, "--path=/r/1"], "read", "allow", "the source were db or robot"),
            (["--from=db", "--to=web", "--port=9090", "--method=GET", "--path=/r/1"], "read", "allow", "the port were 8080"),
            (["--from=db", "--to=db", "--port=5432"], "write", "allow", "the source were any except db"),
            (["--from=web", "--to=db", "--port=6000"], "write", "allow", "the port were 5432"),
            ([*grpc, "--path=/shop.Cart/Drop"], "place", "allow", 'grpc.method were "shop.Cart/Place"'),
            ([*grpc, "--path=/shop.Cart/Place", "--header=a=1", "--header=b=1"], "place", "allow",
             'http.header["a"] were not "1" and http.header["b"] were not "1"'),
            (["--from=db", *get, "--path=/r/1"], "off", "deny",
             'http.header["x-off"] matched "[0-9]+" or (http.method were "TRACE" and http.path were "/t")'),
            (["--from=robot", *get, "--path=/r/1", "--header=x-off=1"], "off", "deny", "the source were namespace a"),
            (["--from=db", "--to=web", "--port=8080", "--method=PUT", "--path=/r/1", "--header=x-off=1"], "read", "match", 'http.method were "GET" or "HEAD"')]:
        words = [w.replace("--from=robot", "--from=a/robot") for w in words]
        code, out, err = folder.run("why", "--format=json", *words, "-", stdin=NEAR)
        misses = [n for n in json.loads(out or "{}").get("near", []) if n["rule"] == rule]
        expect(f"near {' '.join(words)}", code == 0 and misses and (misses[0]["would"], misses[0]["unless"]) == (would, unless), out + err)
        code, out, err = folder.run("why", *words, "-", stdin=NEAR)
        expect(f"near {' '.join(words)}: text", code == 0 and f"  near: {rule} (" in out and f"would {would} if {unless}\n" in out, out + err)


FLOW = {"id": 7, "time": "2026-06-01T12:00:00.000001Z", "generation": 3, "digest": None, "verdict": "allow", "passed": True, "protocol": "tcp",
        "again": False, "hook": "connect", "rule": "post", "where": "p.mesh:8:1", "from": {"address": "10.1.0.5", "port": 40000, "service": "shop/frontend"},
        "to": {"address": "10.1.0.9", "port": 5432, "service": "shop/ledger"}, "audit": []}


def flow_cases(digest):
    """(name, what the record has otherwise, rule today, differs, same policy)."""
    world = {"address": "192.0.2.1", "service": "world"}
    vip = {"address": "10.96.0.10", "port": 81}
    yield "as the node said", {"digest": digest}, "post", None, True
    yield "another policy, the same", {"digest": "sha256:" + "0" * 64}, "post", None, False
    yield "another rule", {"rule": "post-old"}, "post", "rule", False
    yield "another verdict", {"verdict": "deny", "passed": False, "rule": "default", "where": None}, "post", "verdict", False
    yield "from the world", {"from": world}, "default", "verdict", False
    yield "from a cidr", {"from": {"address": "198.51.100.9", "service": "world"}, "to": {"port": 8080, "service": "shop/frontend"}}, "office-web", "rule", False
    yield "a workload of no service", {"from": {"address": "10.1.0.7", "service": "shop/-"}}, "default", "verdict", False
    yield "a foreign workload", {"from": {"address": "10.1.0.7", "service": "other"}}, "default", "verdict", False
    yield "of the node", {"from": {"service": "node"}}, "default", "verdict", False
    yield "no port of the service", {"rule": "unknown", "verdict": "deny", "to": {"service": "unknown"}, "asked": vip}, "unknown", None, False
    nobody = {"rule": "unknown", "verdict": "deny", "passed": False, "where": None}
    yield "from a link-local address", {**nobody, "from": {"address": "fe80::1", "service": "unknown"}}, "unknown", None, False
    yield "to a link-local address", {**nobody, "to": {"address": "fe80::1", "port": 80, "service": "unknown"}}, "unknown", None, False
    yield "to an external", {"to": {"address": "203.0.113.7", "port": 443, "service": "shop/stripe"}}, "default", "rule", False
    yield "to the world", {"from": {"service": "shop/ledger"}, "to": {"address": "192.0.2.1", "port": 443, "service": "world"}}, "no-world", "verdict", False


def flows(folder):
    """A record of a node: the request that it was, what this policy says, and whether it is the same."""
    digest = json.loads(folder.run("check", "--format=json", "p.mesh")[1])["digest"]
    for name, otherwise, rule, differs, same in flow_cases(digest):
        record = json.dumps({**FLOW, **otherwise}, indent=2)
        code, out, err = folder.run("why", "--format=json", "--flow=-", "p.mesh", stdin=record)
        answer = json.loads(out or "{}")
        said = answer.get("flow", {})
        expect(f"flow {name}", code == 0 and (answer.get("rule"), said.get("differs"), said.get("same_policy")) == (rule, differs, same), out + err)
        again = folder.run("why", "--format=json", "--requests=-", "p.mesh", stdin=json.dumps(answer.get("request")))[1]
        expect(f"flow {name}: the request says the same", json.loads(again or "{}").get("rule") == rule, again)
        code, out, err = folder.run("why", "--flow=-", "p.mesh", stdin=record)
        expect(f"flow {name}: text", code == 0 and out.startswith("request: {") and "\n  the node, at 2026-" in out, out + err)
    for name, text, why in [("self", {**FLOW, "rule": "self"}, "'self'"), ("conflict", {**FLOW, "rule": "conflict"}, "'conflict'"), ("no record", {"from": "a"}, "no record of"),
                            ("a list", [FLOW], "no record of"), ("nobody", {**FLOW, "from": {}}, "names no source"), ("gone", {**FLOW, "to": {"service": "shop/gone"}}, "unknown destination")]:
        code, out, err = folder.run("why", "--format=json", "--flow=-", "p.mesh", stdin=json.dumps(text))
        expect(f"flow {name}", code == 2 and why in err and why in json.loads(out)["error"], out + err)
    folder.write("flows", "\n".join(json.dumps(f) for f in (FLOW, {**FLOW, "verdict": "?"}, {**FLOW, "from": {"service": "world"}})))
    code, out, err = folder.run("why", "--format=json", "--flow=flows", "p.mesh")
    expect("flows: a line each, in order", code == 2 and [json.loads(x).get("rule") for x in out.splitlines()] == ["post", None, "default"], out + err)
    for words, stdin, wants in [(["--flow=-", "--fail-deny"], json.dumps({**FLOW, "from": {"service": "world"}}), 1), (["--flow=-"], "", 2), (["--flow=-"], "{", 2),
                                (["--flow=absent"], "", 2), (["--flow=flows", "--from=frontend"], "", 2), (["--flow=flows", "--requests=-"], "", 2)]:
        code, out, err = folder.run("why", *words, "p.mesh", stdin=stdin)
        expect(f"why {' '.join(words)}: exit {wants}", code == wants and (err or wants == 1), f"exit {code} {out}{err}")


CERTIFICATES = """mesh m: trust "m.example", ingress deny, egress deny;
namespace shop;
service web { workload app == "web"; }
service cart { workload app == "cart"; tcp 80; tcp 81; tcp 82; udp 53; }
mtls strict for cart port 80;
mtls permissive for cart port 81 until "2999-12-31";
allow shown: from web to cart when peer.verified;
allow clear: from any to cart port 82 when not peer.verified;
allow both: from web to cart port 80;
"""


def certificates(folder):
    """--verified, what is assumed without it, what would decide otherwise; records of the tunnel."""
    folder.write("m.mesh", CERTIFICATES)
    for words, verdict, rule in [
            (["--from=web", "--port=80"], "allow", "both"), (["--from=web", "--port=80", "--verified=true"], "allow", "both"),
            (["--from=web", "--port=80", "--verified=false"], "deny", "plaintext"), (["--from=web", "--port=81"], "deny", "default"),
            (["--from=web", "--port=81", "--verified", "true"], "allow", "shown"), (["--from=web", "--port=82"], "allow", "clear"),
            (["--from=web", "--port=82", "--verified=true"], "allow", "shown"), (["--from=world", "--port=82"], "allow", "clear"),
            (["--address=192.0.2.1", "--port=82", "--verified=false"], "allow", "clear"), (["--from=node", "--port=81"], "deny", "default")]:
        code, out, err = folder.run("why", "--format=json", "--to=cart", *words, "m.mesh")
        said = json.loads(out or "{}")
        expect(f"why {' '.join(words)}", code == 0 and (said.get("verdict"), said.get("rule")) == (verdict, rule), out + err)
    code, out, err = folder.run("why", "--from=web", "--to=cart", "--port=81", "m.mesh")
    expect("near: a certificate", "near: shown (m.mesh:7:1) would allow if the peer showed a certificate\n" in out, out + err)
    code, out, err = folder.run("why", "--from=web", "--to=cart", "--port=80", "--verified=false", "m.mesh")
    expect("plaintext in words", out.startswith("deny by 'plaintext': 'both' (m.mesh:9:1) allows it, but only with a certificate"), out + err)
    for words, why in [(["--from=web", "--port=80", "--verified=yes"], "true or false"), (["--from=world", "--port=80", "--verified=true"], "shows no certificate"),
                       (["--from=node", "--port=80", "--verified=true"], "shows no certificate"), (["--from=web", "--port=53", "--protocol=udp", "--verified=true"], "over udp"),
                       (["--verified=true", "--port=80"], "names nobody")]:
        code, out, err = folder.run("why", "--to=cart", *words, "m.mesh")
        expect(f"why {' '.join(words)}: exit 2", code == 2 and why in err, f"exit {code} {out}{err}")
    web = {"service": "shop/web", "address": "10.1.0.5", "spiffe": "spiffe://m.example/ns/shop/sa/web"}
    for name, otherwise, rule, differs in [
            ("of the tunnel", {"hook": "tunnel", "event": "open", "from": web, "rule": "shown", "to": {"service": "shop/cart", "port": 81}}, "shown", None),
            ("of the wire", {"hook": "lookup", "rule": "clear", "to": {"service": "shop/cart", "port": 82}}, "clear", None),
            ("of the wire, refused", {"hook": "connect", "verdict": "deny", "rule": "plaintext", "to": {"service": "shop/cart", "port": 80}}, "plaintext", None),
            ("of the wire, once the tunnel's", {"hook": "ingress", "rule": "shown", "to": {"service": "shop/cart", "port": 81}}, "default", "verdict")]:
        record = {**FLOW, "from": {"service": "shop/web"}, **otherwise}
        code, out, err = folder.run("why", "--format=json", "--flow=-", "m.mesh", stdin=json.dumps(record))
        said = json.loads(out or "{}")
        expect(f"flow {name}", code == 0 and (said.get("rule"), said["flow"]["differs"]) == (rule, differs), out + err)
    code, out, err = folder.run("why", "--flow=-", "m.mesh", stdin=json.dumps({**FLOW, "hook": "tunnel", "event": "refused", "rule": "mtls", "verdict": "deny"}))
    expect("flow refused by the tunnel", code == 2 and "before any rule was asked" in err, out + err)


def run():
    folder = Folder()
    near(folder)
    certificates(folder)
    folder.write("p.mesh", SMALL)
    flows(folder)
    folder.write("p.mesh", SMALL)
    for port, wanted in (("5432", "post"), ("81", "unknown")):
        code, out, err = folder.run("why", "--format", "json", "--from", "frontend", "--to", "10.96.0.10", "--port", port,
                                    "p.mesh")
        answer = json.loads(out or "{}")
        expect(f"a service's address, port {port}", code == 0 and answer.get("rule") == wanted, out + err)
        expect(f"port {port}: the verdict", answer.get("verdict") == ("allow" if wanted == "post" else "deny"), out)
