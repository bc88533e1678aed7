"""test: filter, coverage and its gate, JUnit, what a failure says, --watch."""
import json
import os
import subprocess
import time
import xml.etree.ElementTree as tree

import common
from common import HEAD, SMALL, Folder, expect

L7 = HEAD + """mtls off because "x";
allow read: from s to h when http.method == "GET" and http.path like "/a/**";
allow never-asked: from h to s;
test "one <&> half" {
  expect allow by read: from s to h with http.method = "GET", http.path = "/a/b";
  expect deny by default: from s to h with http.method = "PUT", http.path = "/a/b";
}
test "another" { expect deny: from world to s; }
"""


def check_coverage(folder):
    folder.write("c.mesh", L7)
    code, out, _ = folder.run("test", "--coverage", "--format", "json", "c.mesh")
    coverage = json.loads(out)["coverage"]
    expect("coverage: rules", coverage["rules"] == {"all": 2, "touched": 1}, out)
    # method: met and missed; path: met alone.
    expect("coverage: atoms", coverage["atoms"] == {"all": 4, "touched": 3}, out)
    expect("coverage: percent", coverage["percent"] == 66 and code == 0, out)
    whats = sorted((u["rule"], u["what"].split(" ")[2]) for u in coverage["untouched"])
    expect("coverage: what is untouched", whats == [("never-asked", "is"), ("read", "misses")], str(coverage["untouched"]))
    for threshold, wanted in ((66, 0), (67, 1), (0, 0), (100, 1)):
        code, _, err = folder.run("test", "--threshold", str(threshold), "c.mesh")
        expect(f"threshold {threshold}: exit {wanted}", code == wanted and (code == 0 or "66 %" in err), err)
    for bad in ("101", "-1", "x", ""):
        code, _, _ = folder.run("test", f"--threshold={bad}", "c.mesh")
        expect(f"threshold '{bad}': exit 2", code == 2)


def check_filter(folder):
    folder.write("c.mesh", L7)
    code, out, _ = folder.run("test", "--filter", "half", "c.mesh")
    expect("filter: one of two", code == 0 and "2 passed, 0 failed" in out and "another" not in out, out)
    code, _, err = folder.run("test", "--filter", "nothing of that name", "c.mesh")
    expect("filter: nothing checked is exit 2", code == 2 and "nothing was checked" in err, err)


def check_junit(folder):
    folder.write("c.mesh", L7.replace("expect deny by default: from s", "expect allow: from s"))
    code, out, _ = folder.run("test", "--format", "junit", "c.mesh")
    suites = tree.fromstring(out)
    expect("junit: exit 1", code == 1)
    expect("junit: counts", (suites.get("tests"), suites.get("failures")) == ("3", "1"), out)
    names = [s.get("name") for s in suites]
    expect("junit: names are escaped", names == ["one <&> half", "another"], str(names))
    expect("junit: one failure, with what came", len(suites.findall(".//failure")) == 1 and
           "default" in suites.find(".//failure").get("message"), out)
    code, _, err = folder.run("test", "--format", "sarif", "c.mesh")
    expect("test --format sarif: exit 2", code == 2, err)


def check_failure(folder):
    """A failing expectation shows a request that `why` answers the same."""
    folder.write("c.mesh", SMALL.replace("expect allow by post: from frontend", "expect deny: from frontend"))
    code, out, _ = folder.run("test", "c.mesh")
    lines = [line for line in out.splitlines() if line.strip().startswith("request: ")]
    expect("failure: one request", code == 1 and len(lines) == 1, out)
    request = lines[0].strip()[len("request: "):]
    code, answer, err = folder.run("why", "--requests", "-", "--format", "json", "c.mesh", stdin=request + "\n")
    expect("failure: why answers the same", code == 0 and json.loads(answer)["rule"] == "post", answer + err)


def check_watch(folder):
    path = folder.write("w.mesh", SMALL)
    process = subprocess.Popen([common.meshc, "test", "--watch", path], cwd=folder.path, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        seen = ""
        while "waiting" not in seen:
            seen += process.stdout.readline()
        time.sleep(0.3)
        folder.write("w.mesh", SMALL.replace("expect allow by post", "expect deny by post"))
        again = ""
        while "waiting" not in again:
            again += process.stdout.readline()
        expect("watch: runs again when the file changes", "2 passed, 0 failed" in seen and "1 passed, 1 failed" in again,
               seen + again)
    finally:
        process.kill()
        process.wait()


def check_watch_gap(folder):
    """A file that is away for a while is waited for; one that was never there, and standard input, are not."""
    path = folder.write("g.mesh", SMALL)
    process = subprocess.Popen([common.meshc, "test", "--watch", path], cwd=folder.path, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        seen = ["", "", ""]
        for i in range(3):
            while "waiting" not in seen[i]:
                line = process.stdout.readline()
                if not line:
                    break
                seen[i] += line
            time.sleep(0.3)
            if i == 0:
                os.rename(f"{folder.path}/g.mesh", f"{folder.path}/g.mesh~")
            else:
                folder.write("g.mesh", SMALL.replace("expect allow by post", "expect deny by post"))
        expect("watch: a file that is away", "2 passed" in seen[0] and "g.mesh: No such file" in seen[1] and "1 passed, 1 failed" in seen[2], seen)
        expect("watch: it goes on", process.poll() is None)
    finally:
        process.kill()
        process.wait()
    code, _, err = folder.run("test", "--watch", "absent.mesh")
    expect("watch: a file that was never there", code == 2 and "absent.mesh: No such file" in err and "waiting" not in err, err)
    code, out, err = folder.run("test", "--watch", "-", stdin=SMALL)
    expect("watch: standard input", code == 2 and not out and "standard input is none" in err, err)


def check_speed(folder):
    """10,000 expectations are answered in one go; how fast is the benchmark's to say."""
    services = "".join(f'service s{i} {{ workload app == "s{i}"; tcp 80; }}\n' for i in range(1000))
    rules = "".join(f"allow r{i}: from s{i} to s{(i * 7 + 1) % 1000};\n" for i in range(1000))
    expects = "".join(f"expect allow by r{i % 1000}: from s{i % 1000} to s{(i % 1000 * 7 + 1) % 1000};\n" for i in range(10000))
    folder.write("big.mesh", 'mesh m: trust "t", ingress deny, egress deny;\nmtls off because "x";\nnamespace a;\n' +
                 services + rules + 'test "all" {\n' + expects + "}\n")
    code, out, _ = folder.run("test", "big.mesh")
    expect("10,000 expectations", code == 0 and "10000 passed, 0 failed" in out, out[-200:])


def run():
    folder = Folder()
    check_coverage(folder)
    check_filter(folder)
    check_junit(folder)
    check_failure(folder)
    check_watch(folder)
    check_watch_gap(folder)
    check_speed(folder)
