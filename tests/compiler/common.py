"""What the topics of tests/compiler share: a folder, meshc in it, and what is passed and failed."""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "bpf"))

meshc = None
counts = {"passed": 0, "failed": 0, "skipped": 0}

SMALL = """mesh shop: trust "shop.example", ingress deny, egress allow;
namespace shop;
service frontend { workload app == "frontend"; http 8080; }
service ledger { workload app == "ledger"; address 10.96.0.10; tcp 5432; subset v1 = version == "1"; }
external stripe { cidr 203.0.113.0/24; tcp 443; }
cidr office = 198.51.100.0/24 except 198.51.100.66/32;
mtls off because "a test";
allow post: from frontend to ledger port 5432;
allow office-web: from office to frontend;
audit pay: from any to stripe;
deny no-world: from ledger to world;
route ledger { split per connection v1 9, 1; }
test "post" {
  expect allow by post: from frontend to ledger;
  expect deny by default: from world to ledger;
}
"""
HEAD = 'mesh m: trust "t", ingress deny, egress deny;\nnamespace a;\nservice s { tcp 80; }\nservice h { http 80; }\n'


def expect(name, fine, why=""):
    counts["passed" if fine else "failed"] += 1
    if not fine:
        print(f"FAIL {name}: {why}")
    return fine


def skip(name, why):
    counts["skipped"] += 1
    print(f"skip {name}: {why}")


class Folder:
    def __init__(self):
        self.held = tempfile.TemporaryDirectory()
        self.path = self.held.name

    def write(self, name, content):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return name

    def read(self, name):
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def run(self, *words, stdin=b"", env=None):
        """(exit code, stdout, stderr); a signal is a negative code, a minute too long is -100."""
        stdin = stdin.encode() if isinstance(stdin, str) else stdin
        try:
            done = subprocess.run([meshc, *words], cwd=self.path, input=stdin, capture_output=True, timeout=60,
                                  env={**os.environ, **(env or {})})
        except subprocess.TimeoutExpired:
            return -100, "", "timeout"
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
