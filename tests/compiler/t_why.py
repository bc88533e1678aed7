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


def run():
    folder = Folder()
    near(folder)
    folder.write("p.mesh", SMALL)
    for port, wanted in (("5432", "post"), ("81", "unknown")):
        code, out, err = folder.run("why", "--format", "json", "--from", "frontend", "--to", "10.96.0.10", "--port", port,
                                    "p.mesh")
        answer = json.loads(out or "{}")
        expect(f"a service's address, port {port}", code == 0 and answer.get("rule") == wanted, out + err)
        expect(f"port {port}: the verdict", answer.get("verdict") == ("allow" if wanted == "post" else "deny"), out)
