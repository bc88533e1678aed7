"""why: what a node would say, where no rule is asked."""
import json

from common import SMALL, Folder, expect


def run():
    folder = Folder()
    folder.write("p.mesh", SMALL)
    for port, wanted in (("5432", "post"), ("81", "unknown")):
        code, out, err = folder.run("why", "--format", "json", "--from", "frontend", "--to", "10.96.0.10", "--port", port,
                                    "p.mesh")
        answer = json.loads(out or "{}")
        expect(f"a service's address, port {port}", code == 0 and answer.get("rule") == wanted, out + err)
        expect(f"port {port}: the verdict", answer.get("verdict") == ("allow" if wanted == "post" else "deny"), out)
