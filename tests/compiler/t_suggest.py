"""test --suggest: the block that it prints, pasted, makes each rule decide a request."""
import json
import os
import re

import random_policy
import readme
from common import HEAD, ROOT, SMALL, Folder, expect

SEEDS = 25


def settled(folder, policy):
    """Writes p.mesh without the rules that can match nothing, which are errors."""
    while True:
        folder.write("p.mesh", random_policy.text(policy))
        findings = json.loads(folder.run("check", "--format=json", "p.mesh")[1])["findings"]
        lines = {f["line"] for f in findings if f["severity"] == "error"}
        if not lines:
            return
        policy.rules = [r for r in policy.rules if r.line not in lines]


def check(folder, name):
    """What is said of p.mesh: (rules that have an expectation, {rule: why it has none})."""
    before = json.loads(folder.run("test", "--coverage", "--format=json", "p.mesh")[1] or '{"coverage": {"rules": {"all": -1}}}')["coverage"]["rules"]
    code, text, err = folder.run("test", "--suggest", "p.mesh")
    hidden = dict(re.findall(r"^ *# (\S+): (.*)$", text, re.M))
    if not expect(f"{name}: exit 0", code == 0, f"exit {code} {err[:500]}"):
        return [], hidden
    if not text:
        expect(f"{name}: nothing to suggest", "nothing to suggest" in err and before["touched"] == before["all"], err)
        return [], hidden
    folder.write("said.mesh", text)
    expect(f"{name}: it is canonical", folder.run("fmt", "--check", "said.mesh")[0] == 0, text)
    rules = re.findall(r'^  expect \w+ by ("[^"]*"|\S+):', text, re.M)
    folder.write("p.mesh", folder.read("p.mesh") + text.encode())
    if not rules:
        return [], hidden
    code, out, err = folder.run("test", "--coverage", "--format=json", "p.mesh")
    answer = json.loads(out or '{"results": [], "failed": -1, "coverage": {"rules": {"all": -1, "touched": -2}}}')
    wrong = [r for r in answer["results"] if not r["passed"]]
    expect(f"{name}: it passes", code == 0 and not answer["failed"], f"exit {code} {err[:1000]} {wrong[:3]}")
    touched = answer["coverage"]["rules"]
    expect(f"{name}: each rule is touched", touched["touched"] + len(hidden) == touched["all"], f"{touched} {hidden}")
    code, again, err = folder.run("test", "--suggest", "p.mesh")
    expect(f"{name}: there is no more to say", code == 0 and "expect" not in again, again + err)
    return rules, hidden


def examples():
    folder = Folder()
    with open(os.path.join(ROOT, "examples", "shop", "shop.mesh")) as file:
        folder.write("p.mesh", file.read())
    rules, hidden = check(folder, "examples/shop")
    expect("examples/shop: what was untested", rules == ["read-catalog", "read-reviews"] and not hidden, f"{rules} {hidden}")
    folder.write("p.mesh", readme.blocks()[0])
    rules, hidden = check(folder, "grammar/README.md")
    expect("grammar/README.md: what was untested", len(rules) == 6 and not hidden, f"{rules} {hidden}")


WORDS = HEAD + """service "1 x" { udp 53; tcp 53; http 8080 to 9090; }
service g { grpc 9000; }
external out { cidr 203.0.113.0/24; tcp 443; }
external in-both { cidr 203.0.113.64/26; tcp 443; }
cidr office = 198.51.100.0/24;
identity robot = "spiffe://t/ns/ci/sa/robot";
mtls off because "x";
allow quoted: from "1 x" to "1 x" port 9090 when http.path like "/a b\\"c/*" or http.header["x-q"] == "say \\"hi\\" \\\\\\\\ there";
allow call: from s to g when grpc.method == "p.S/M";
deny by-office: from office to s;
deny by-robot: from robot to h;
allow loose: from namespace a except s, h, "1 x", g to s;
deny strangers: from any except world, node, namespace a, namespace b, namespace ci to s;
allow metrics: from node to h;
audit everything: from any to g;
deny out: from any to out;
deny both: from s to in-both;
deny web: from s to world;
allow in-an-office: from office except world to h;
namespace b;
deny other: from any to a/s port 81;
allow shadowed: from a/g to a/h;
allow shadower: from any to a/h;
"""


def words():
    """Every kind of source and destination has its words; what others hide, and what no test can say, is told."""
    folder = Folder()
    folder.write("p.mesh", WORDS)
    rules, hidden = check(folder, "words")
    text = folder.read("p.mesh").decode()[len(WORDS):]
    expect("words: what has none", hidden == {"in-an-office": "decides no request that a test can say"}, f"{hidden}\n{text}")
    for name, pattern in [("quoted", r'from a/"1 x" to a/"1 x" port 9090'), ("call", r'to a/g with grpc.method = "p.S/M"'), ("by-office", r"from 198\.51\.100\.\d+ to a/s;"),
                          ("by-robot", "from a/robot to a/h;"), ("loose", "from namespace a except "), ("strangers", "from namespace elsewhere to a/s;"), ("web", "to world port 443"),
                          ("other", "to a/s port 81")]:
        expect(f"words: {name}", re.search(rf"by {name}: .*{pattern}", text), text)


def hidden_rules():
    folder = Folder()
    folder.write("p.mesh", HEAD + "deny all: from any to s;\nallow one: from h to s;\n" + 'test "t" { expect deny by all: from h to s; }\n')
    code, out, _ = folder.run("test", "--suggest", "p.mesh")
    expect("hidden: a comment alone", code == 0 and out == "# one: decides no request: others hide it\n", out)
    folder.write("p.mesh", SMALL.replace("expect allow by post", "expect deny by post"))
    code, out, err = folder.run("test", "--suggest", "p.mesh")
    expect("a test that fails is told, behind the text", code == 1 and out.startswith("test ") and "1 expectations fail" in err, out + err)
    for word in ("--coverage", "--watch", "--format=json", "--threshold=3"):
        code, out, err = folder.run("test", "--suggest", word, "p.mesh")
        expect(f"--suggest {word}", code == 2 and not out, err)


def random_policies():
    folder, said, kept = Folder(), 0, 0
    for seed in range(SEEDS):
        policy = random_policy.make(seed, l7=True)
        settled(folder, policy)
        rules, hidden = check(folder, f"random policy {seed}")
        said, kept = said + len(rules), kept + len([w for w in hidden.values() if "others hide" not in w])
    # A test takes an undeclared port for TCP: what is left are rules of UDP alone, and of a namespace's strangers.
    expect("random policies: few rules have no words", said > 200 and kept * 8 < said, f"{said} rules, {kept} without words")


def run():
    examples()
    words()
    hidden_rules()
    random_policies()
