"""The same policy gives the same digest and object: in another order, other files, another folder, another time."""
import json
import os
import random
import time

import elf
import random_policy
from common import SMALL, Folder, expect

# Where rules stand in the text, and the digest of the text; the vectors and tables must not move.
ABOUT_TEXT = {".mesh.where", ".mesh.source", ".mesh.sig"}


def settled(folder, policy):
    """Without the rules that are errors."""
    while True:
        folder.write("p.mesh", random_policy.text(policy))
        findings = json.loads(folder.run("check", "--format=json", "p.mesh")[1])["findings"]
        lines = {f["line"] for f in findings if f["severity"] == "error"}
        if not lines:
            return policy
        kept = [r for r in policy.rules if r.line not in lines]
        if len(kept) == len(policy.rules):
            raise RuntimeError(f"no rule, but an error: {findings}")
        policy.rules = kept


def digest(folder, *paths):
    code, out, err = folder.run("check", "--format=json", "--now=2026-06-01", *paths)
    return json.loads(out)["digest"] if not code else f"exit {code}: {err[:300]}"


def split_files(policy, rng):
    """The declarations, dealt out to three files."""
    files = [[], [], []]
    for ns, line in random_policy.declarations(policy):
        line = random_policy.rule_text(line) if isinstance(line, random_policy.Rule) else line
        rng.choice(files).append((f"namespace {random_policy.word(ns)};\n" if ns else "") + line + "\n")
    return ["".join(f) for f in files]


def shuffled_cond(cond, rng):
    """Operands of `and` and `or` the other way round, and chains bracketed the other way."""
    if cond is None or cond[0] == "atom":
        return cond and (*cond[:4], rng.sample(cond[4], len(cond[4])))
    if cond[0] == "not":
        return ("not", shuffled_cond(cond[1], rng))
    op, left, right = cond[0], shuffled_cond(cond[1], rng), shuffled_cond(cond[2], rng)
    if right[0] == op and rng.randrange(2):
        left, right = (op, left, right[1]), right[2]
    return (op, left, right) if rng.randrange(2) else (op, right, left)


def shuffled_lists(policy, rng):
    """What is a set in the text, in another order: members, parties, ports, cidrs, values."""
    def party(p):
        return rng.sample(p[0], len(p[0])), rng.sample(p[1], len(p[1]))
    rules = [random_policy.Rule(r.effect, r.name, r.ns, party(r.src), party(r.dst), r.ports and rng.sample(r.ports, len(r.ports)),
                                shuffled_cond(r.when, rng)) for r in policy.rules]
    return random_policy.Policy(**{**policy.__dict__, "rules": rules,
                                   "groups": {k: rng.sample(v, len(v)) for k, v in policy.groups.items()},
                                   "cidrs": {k: party(v) for k, v in policy.cidrs.items()}})


def order():
    rng = random.Random(7)
    for seed in range(16):
        folder = Folder()
        policy = settled(folder, random_policy.make(seed, l7=seed % 2 == 1))
        first = digest(folder, "p.mesh")
        folder.write("q.mesh", random_policy.text(policy, rng))
        shuffled = digest(folder, "q.mesh")
        for i, text in enumerate(split_files(policy, rng)):
            folder.write(f"f/{'cab'[i]}.mesh", text)
        folder.write("lists.mesh", random_policy.text(shuffled_lists(policy, rng)))
        expect(f"digest: policy {seed} with its lists in another order", digest(folder, "lists.mesh") == first)
        parts = [digest(folder, *p) for p in (["f"], ["f/a.mesh", "f/b.mesh", "f/c.mesh"], ["f/c.mesh", "f/a.mesh", "f/b.mesh"])]
        expect(f"digest: policy {seed} in another order", first.startswith("sha256:") and {shuffled, *parts} == {first},
               f"{first} {shuffled} {parts}")
        if seed % 2 or seed > 6:
            continue
        for name in ("p", "q"):
            folder.run("compile", "-o", f"{name}.o", f"{name}.mesh")
        folder.run("compile", "-o", "f.o", "f")
        p, q, f = (elf.sections(folder.read(n)) for n in ("p.o", "q.o", "f.o"))
        differ = sorted({n for n in p if p[n] != q.get(n) or p[n] != f.get(n)} - ABOUT_TEXT)
        expect(f"object: policy {seed} in another order", not differ and p.keys() == q.keys() == f.keys(), differ)


# (what is changed, from, to): each is another policy, so another digest
CHANGES = [("a port", "tcp 5432", "tcp 5433"), ("a label", 'app == "ledger"', 'app == "ledgers"'), ("a weight", "v1 9", "v1 8"),
           ("a rule's name", "allow post", "allow post2"), ("a rule's effect", "deny no-world", "audit no-world"),
           ("a default", "egress allow", "egress audit"), ("a cidr", "198.51.100.66/32", "198.51.100.67/32"),
           ("a subset's selector", 'version == "1"', 'version == "2"'), ("an address", "10.96.0.10", "10.96.0.11"),
           ("a source", "post: from frontend", "post: from office"), ("trust", '"shop.example"', '"shop.test"')]


def changes():
    folder = Folder()
    folder.write("p.mesh", SMALL)
    first = digest(folder, "p.mesh")
    for what, before, after in CHANGES:
        text = SMALL.replace(before, after).replace("allow by post:", "allow by post2:" if "post2" in after else "allow by post:")
        if "port" == what.split()[-1]:
            text = text.replace("port 5432", "port 5433")
        folder.write("p.mesh", text.replace('test "post"', "#").split("#")[0])
        other = digest(folder, "p.mesh")
        expect(f"digest: {what} changes it", other.startswith("sha256:") and other != first, other)
    folder.write("p.mesh", "# a comment\n\n" + SMALL.replace(" { ", "  {\n\n"))
    expect("digest: comments and blanks do not change it", digest(folder, "p.mesh") == first)


def place_and_time():
    objects = []
    for at in ("a", "b/c d/é", "a"):
        folder = Folder()
        os.makedirs(os.path.join(folder.path, at))
        folder.write(f"{at}/shop.mesh", SMALL)
        folder.path, top = os.path.join(folder.path, at), folder.path
        code, _, err = folder.run("compile", "--now=2026-06-01", "-o", "o", "shop.mesh",
                                  env={"TZ": "Asia/Tokyo", "LANG": "C", "HOME": top} if objects else {})
        objects.append(folder.read("o") if not code else err)
        time.sleep(1.1 if len(objects) == 1 else 0)
    expect("object: another folder, another time, another TZ: the same bytes", objects[0] == objects[1] == objects[2] and len(objects[0]) > 10000)
    expect("object: no path of this machine in it", b"/home" not in objects[0] and folder.path.encode() not in objects[0] and b"/work" not in objects[0])


def run():
    order()
    changes()
    place_and_time()
