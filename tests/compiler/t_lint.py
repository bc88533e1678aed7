"""Lint: a rule that is said to change nothing changes nothing, by `meshc diff`; each that is not said to does.

Random policies, each of their rules removed in turn; and addresses of an inventory inside named blocks. What the
rest of lint says is in tests/errors."""
import json
import re

import random_policy
from common import Folder, expect
from t_same import settled

IDLE = {"M0604", "M0704", "M0705", "M0706"}
QUOTED = re.compile(r"'([^']*)'")


def findings(folder):
    code, out, err = folder.run("check", "--format=json", "p.mesh")
    return json.loads(out)["findings"] if expect("check runs", code == 0, f"exit {code} {err}") else []


def said_idle(folder, policy):
    """The code, by the name of the rule."""
    names = {r.line: r.name for r in policy.rules}
    return {names[f["line"]]: f for f in findings(folder) if f["code"] in IDLE}


def without(folder, policy, rule):
    kept = policy.rules
    policy.rules = [r for r in kept if r is not rule]
    folder.write("less.mesh", random_policy.text(policy))
    policy.rules = kept
    code, _, err = folder.run("diff", "p.mesh", "less.mesh")
    return code, err


def removals(folder, seed, l7):
    policy = settled(folder, random_policy.make(seed, l7=l7))
    text = random_policy.text(policy)
    idle = said_idle(folder, policy)
    for rule in policy.rules:
        if rule.effect == "audit":
            continue
        code, err = without(folder, policy, rule)
        said = idle.get(rule.name, {}).get("code")
        if said:
            expect(f"seed {seed}: {said} of {rule.name}", code == 0, f"diff says {code}: {err}")
        elif "ingress audit" not in text and "egress audit" not in text and not l7:
            expect(f"seed {seed}: nothing is said of {rule.name}", code == 1, f"diff says {code}: {err}")
    return idle.values()


def hiders(found):
    """Who hides a rule is named, and is another."""
    for finding in found:
        if finding["code"] in ("M0604", "M0704", "M0706"):
            names = QUOTED.findall(finding["message"])
            expect("who decides instead is named", len(names) > 1 and names[0] not in names[1:], finding["message"])
            expect("and shown", [r["line"] for r in finding.get("related", [])] not in ([], [finding["line"]]), finding)


BLOCKS = """mesh m: trust "t", ingress deny, egress deny;
namespace a;
service s { workload app == "s"; address 10.96.0.10; tcp 80; }
service h { workload app == "h"; tcp 80; }
cidr pods = 10.1.0.0/16 except 10.1.9.0/24;
cidr six = fd00:1::/32;
cidr nobody = 172.16.0.0/12;
external far { cidr 10.96.0.0/16; cidr 203.0.113.0/24; tcp 443; }
group every = pods, six, nobody;
allow r: from every to s, h;
allow w: from s to far;
"""
INVENTORY = {"workloads": [{"namespace": "a", "name": name, "labels": {"app": name[0]}, "addresses": addresses} for name, addresses in
                           [("s-0", ["10.1.0.5", "fd00:1::5"]), ("s-1", ["10.1.0.6"]), ("h-0", ["10.1.9.1"])]],
             "services": [{"namespace": "a", "name": "s", "addresses": ["10.96.0.10"], "ports": [{"port": 80, "target": 80}]},
                          {"namespace": "a", "name": "h", "addresses": ["10.96.0.11", "203.0.113.9"], "ports": [{"port": 80, "target": 80}]},
                          {"namespace": "b", "name": "else", "addresses": ["10.96.0.12"], "ports": [{"port": 80, "target": 80}]}]}
OVERLAPS = ["2 addresses of the inventory lie inside cidr 'pods': 10.1.0.5 of workload 'a/s-0' first",
            "1 address of the inventory lies inside cidr 'six': fd00:1::5 of workload 'a/s-0'",
            "2 addresses of the inventory lie inside external 'far': 10.96.0.11 of service 'a/h' first"]
STATED = "address 10.96.0.10 of 's' lies inside external 'far'"


def inventory(folder):
    """Blocks that hold addresses of the inventory: each once; who is excepted, unknown or told already is not."""
    folder.write("p.mesh", BLOCKS)
    folder.write("inventory.json", json.dumps(INVENTORY))
    for flags, wants in ([], [STATED]), (["--inventory", "inventory.json"], [STATED, *OVERLAPS]):
        code, out, err = folder.run("check", "--format=json", *flags, "p.mesh")
        have = [f["message"] for f in json.loads(out)["findings"] if f["code"] == "M0713"] if code == 0 else err
        expect(f"addresses in blocks {flags}", have == wants, have)


def run():
    folder, seen = Folder(), []
    inventory(folder)
    for seed in (1, 3, 5, 6, 9, 10):
        for l7 in (False, True):
            found = list(removals(folder, f"lint {seed}", l7))
            hiders(found)
            seen += [f["code"] for f in found]
    expect("every kind was seen", set(seen) == IDLE, sorted(set(seen)))
