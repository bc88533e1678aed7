"""Lint: a rule that is said to change nothing changes nothing, by `meshc diff`; each that is not said to does.

Random policies, each of their rules removed in turn. What the rest of lint says is in tests/errors."""
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


def run():
    folder, seen = Folder(), []
    for seed in (1, 3, 5, 6, 9, 10):
        for l7 in (False, True):
            found = list(removals(folder, f"lint {seed}", l7))
            hiders(found)
            seen += [f["code"] for f in found]
    expect("every kind was seen", set(seen) == IDLE, sorted(set(seen)))
