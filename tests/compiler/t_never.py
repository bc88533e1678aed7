"""`never` and `never ... through any` against brute force on small policies; each counterexample is asked of `why`."""
import ipaddress
import itertools
import json
import random
import re

import oracle
import random_policy
from common import Folder, expect

POLICIES = 32


def small(seed):
    """A few services, few ports, so that everybody can be asked about everything."""
    rng = random.Random(f"never {seed}")
    policy = random_policy.Policy(rng.choice(["deny", "deny", "allow", "audit"]), rng.choice(["deny", "deny", "allow"]))
    policy.spaces = {"a": (None, None), "b": (rng.choice([None, "deny"]), None)}
    for ns, name in (("a", "x"), ("a", "y"), ("b", "z")):
        service = random_policy.Service(ns, name, [(rng.choice(["tcp", "udp", "http"]), 80, rng.choice([80, 82]), None)])
        service.ingress = rng.choice([None, None, "deny", "allow"])
        policy.services[service.full] = service
    policy.externals["a/e"] = random_policy.External("a", "e", [(["203.0.113.0/24"], [])], [("tcp", 443, 443, None)])
    policy.cidrs["b/c"] = (["10.0.0.0/8", "203.0.113.0/25"], ["10.1.0.0/16"])
    policy.identities["b/i"] = f"spiffe://{random_policy.TRUST}/ns/b/sa/i"
    policy.groups["a/g"] = ["a/x", "b/z"]

    def ranges():
        return rng.choice([None, [(80, 80)], [(81, 90)], [(443, 443), (80, 80)]])
    for i in range(rng.randint(1, 7)):
        rule = random_policy.Rule(rng.choice(["allow", "allow", "allow", "deny"]), f"r{i}", "a", random_policy.random_party(rng, policy, random_policy.source_ref, 2),
                                  random_policy.random_party(rng, policy, random_policy.target_ref, 2), None, None)
        rule.ports = ranges() if rule.effect == "deny" else None
        if seed % 2 and rng.randrange(3) == 0:
            random_policy.add_peer(rng, policy, rule)
        policy.rules.append(rule)
    if seed % 3:
        random_policy.random_mtls(rng, policy)
    for through in (False, False, True, True):
        never = ([random_policy.source_ref(rng, policy)], [random_policy.target_ref(rng, policy)], rng.choice([None, None, [(80, 80)]]), through)
        policy.nevers.append(never)
    return policy


def refused(folder, policy):
    """By number of never: the message that refutes it. Rules that are errors are left out."""
    while True:
        folder.write("p.mesh", random_policy.text(policy))
        said = json.loads(folder.run("check", "--format=json", "p.mesh")[1])
        errors = [f for f in said["findings"] if f["severity"] == "error"]
        lines = {f["line"] for f in errors if f["code"] != "M0602"}
        if not lines:
            return {int(re.match(r"'n(\d+)'", f["message"])[1]): f["message"] for f in errors}
        assert all(f["code"] in ("M0603", "M0602", "M0206", "M0213") for f in errors), errors
        policy.rules = [r for r in policy.rules if r.line not in lines]


ADDRESSES = ["10.0.0.1", "10.1.0.1", "203.0.113.1", "203.0.113.200"]


def sources(policy):
    bare = [*policy.services, "world", "node", "other", *({"namespace": ns} for ns in [*policy.spaces, "nowhere"]), {"spiffe": policy.identities["b/i"]}]
    for who, verified in itertools.product(bare, (False, True)):
        said = {**(who if isinstance(who, dict) else {"service": who}), "verified": verified}
        yield said
        for address in ADDRESSES:
            if who == "world":
                yield {"address": address}
            elif who != "other":
                yield {**said, "address": address}


def targets(policy):
    return [*policy.services, "world", "a/-", "b/-", "nowhere/-", "203.0.113.1", "node", "other"]


def is_target(policy, never, target):
    src, dst, ports, _ = never
    rule = random_policy.Rule("deny", "", "a", (src, []), (dst, []), ports, None)
    return target.is_of(rule, False)


def allowed(policy):
    """Every (source, target, protocol, port) that is allowed, at every port where anything can change."""
    out = []
    for who, to, protocol, port in itertools.product(list(sources(policy)), targets(policy), ("tcp", "udp"), (79, 80, 81, 83, 91, 443)):
        request = {"from": who, "to": to, "protocol": protocol, "port": port}
        source, target = oracle.Source(policy, who), oracle.Target(policy, request)
        if oracle.answer(policy, request)["verdict"] != "deny":
            out.append((source, target, who, to))
    return out


def class_of(who):
    if isinstance(who, dict):
        return who.get("service") or ("world" if who.keys() == {"address"} else who["namespace"] + "/-" if "namespace" in who else who["spiffe"])
    return "world" if who in ADDRESSES else who


def broken(policy, never, hops):
    """One hop, or a chain: a request goes on from the workload that it reached, wherever that is."""
    src, _, _, through = never
    reached, classes = [(s, t, w, to) for s, t, w, to in hops if s.is_of((src, []))], set()
    while True:
        if any(is_target(policy, never, t) for _, t, _, _ in reached):
            return True
        fresh = {to for _, _, _, to in reached if to != "203.0.113.1"} - classes
        if not through or not fresh:
            return False
        classes |= fresh
        reached = [h for h in hops if class_of(h[2]) in classes]


WITNESS = re.compile(r"a request from (\S+)(?: at (\S+))?(?: (with|without) a certificate)? to (\S+) (tcp|udp) port (\d+)")


def witness_holds(folder, policy, message):
    """The request of a refutation, as `why` sees it; None: it names what no request can."""
    match = WITNESS.search(message)
    if not match:
        return False
    who, address, shown, to, protocol, port = match.groups()
    if {"other", "node"} & {to} or who == "other":
        return None
    who = {"spiffe": policy.identities["b/i"]} if who == "b/i" else {"service": who}
    said = {**({"address": address} if address else {}), **({"verified": shown == "with"} if shown else {})}
    line = {"from": {**who, **said}, "to": to, "protocol": protocol, "port": int(port)}
    bare = random_policy.Policy(**{**policy.__dict__, "nevers": [], "spaces": {**policy.spaces, "nowhere": (policy.ingress, None)}})
    folder.write("w.mesh", random_policy.text(bare))
    code, out, err = folder.run("why", "--format=json", "--requests=-", "w.mesh", stdin=json.dumps(line))
    return code == 0 and json.loads(out)["verdict"] == "allow"


CHAIN = re.compile(r"a request from (\S+)(?: at \S+)?(?: with\S* a certificate)? to (\S+) .*, its source reached by (.*), is allowed")


def chain_holds(policy, never, hops, message):
    """The hops of a refutation: the first source is one of the never's, each next is allowed, and no name comes twice."""
    match = CHAIN.search(message)
    if not match:
        return "reached" not in message
    source, to, before = match.groups()
    first, *between = before.split(" -> ")
    first, _, address = first.partition(" at ")
    names = [first, *between, source, to]
    if len({*between, source}) != len(between) + 1:
        return False
    began = [h for h in hops if h[0].is_of((never[0], [])) and class_of(h[2]) == first and h[3] == names[1]]
    went = {(class_of(w), to) for _, _, w, to in hops}
    return bool(began) and all(pair in went for pair in itertools.pairwise(names[1:-1]))


def check_chain(folder):
    """The chain in words: the request names the last hop, the chain what is before it; a long one is cut in its middle."""
    for length, wants in ((1, "'n' does not hold: a request from a/s0 to a/s1 tcp port 80, its source reached by world at 203.0.113.0, is allowed by 'r1'"),
                          (3, "'n' does not hold: a request from a/s2 to a/s3 tcp port 80, its source reached by world at 203.0.113.0 -> a/s0 -> a/s1, is allowed by 'r3'"),
                          (90, "its source reached by world at 203.0.113.0 -> ... -> a/s25 -> a/s26")):
        services = [f'service s{i} {{ workload app == "s{i}"; tcp 80; }}\n' for i in range(length + 1)]
        rules = ["allow r0: from far except inside to s0;\n", *(f"allow r{i + 1}: from s{i} to s{i + 1};\n" for i in range(length))]
        folder.write("c.mesh", 'mesh m: trust "t", ingress deny, egress deny;\nmtls off because "a test";\nnamespace a;\ncidr far = 203.0.113.0/24;\n'
                     f'cidr inside = 203.0.113.8/32;\n{"".join(services + rules)}never "n": from world to s{length} through any;\n')
        code, _, err = folder.run("check", "c.mesh")
        expect(f"never: a chain of {length + 1}", code == 1 and wants in err, err)
        expect(f"never: a chain of {length + 1} names nobody twice", err.split("reached by ")[-1].split(", is")[0].count(f"a/s{length - 1}") == 0, err)


def run():
    check_chain(Folder())
    counts = {True: 0, False: 0}
    for seed in range(POLICIES):
        folder, policy = Folder(), small(seed)
        messages = refused(folder, policy)
        hops = allowed(policy)
        for i, never in enumerate(policy.nevers):
            wants = broken(policy, never, hops)
            counts[wants] += 1
            text = random_policy.never_text(i, never, "a")
            if not expect(f"never {seed}: {text}", wants == (i in messages), f"brute force says {'broken' if wants else 'holds'}: {messages.get(i)}"):
                continue
            if wants:
                expect(f"never {seed}: its counterexample", witness_holds(folder, policy, messages[i]) in (True, None), messages[i])
                expect(f"never {seed}: its chain", chain_holds(policy, never, hops, messages[i]), messages[i])
    expect("never: enough of both", min(counts.values()) >= 20, counts)
