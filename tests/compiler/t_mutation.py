"""Slips of the pen: every token of our own policies deleted, swapped with the next, misspelt.

A mutant is refused near the slip, or means the same, or `meshc diff` says what changes: never anything else.
About 300 by default, the same each time; MESH_MUTANTS=all (tests/compiler/run --long) tries all of them.
"""
import glob
import json
import os
import random
import re

import readme
from common import ROOT, Folder, expect

TOKEN = re.compile(r'#[^\n]*|"(?:[^"\\\n]|\\.)*"|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:./]*|\d+\.\d+\.\d+\.\d+(?:/\d+)?|\.\.|==|!=|[a-z]+\.[a-z]+|'
                   r'[A-Za-z_][A-Za-z0-9_-]*|\d+|\S')
HEAD_LINE = re.compile(r"^(\S[^:]*):(\d+):\d+: (error|warning)(?:\[(M\d{4})\])?: (.*)$", re.M)
NOW = "--now=2026-06-01"
NEAR = 2


def policies():
    texts = {"grammar": readme.blocks()[0]}
    for pattern in ("examples/*/*.mesh", "examples/*/policy/*.mesh", "tests/golden/fmt/*.mesh"):
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            with open(path) as file:
                texts[os.path.relpath(path, ROOT)] = file.read()
    return texts


def misspelt(token, rng):
    """Another token of the same kind; of punctuation, another one."""
    if token[0] == '"':
        at = rng.randrange(1, len(token)) if len(token) > 2 else 1
        return token[:at] + "x" + token[at:]
    if token[0].isdigit():
        return token[:-1] + str((int(token[-1], 16) + 1) % 10)
    if token[0].isalpha() or token[0] == "_":
        at = rng.randrange(len(token))
        return rng.choice([token[:at] + token[at + 1:] or "x", token[:at] + token[at] + token[at:], token[:at] + "q" + token[at + 1:]])
    return rng.choice([p for p in ";,:{}()=" if p != token])


def mutants(name, text):
    """(what was done, the mutant, the line of it, the token)."""
    rng = random.Random(name)
    tokens = [m for m in TOKEN.finditer(text) if m[0][0] != "#"]
    for i, token in enumerate(tokens):
        before, after, line = text[:token.start()], text[token.end():], text.count("\n", 0, token.start()) + 1
        yield f"{name}:{line}: without {token[0]}", before + after, line, token[0]
        wrong = misspelt(token[0], rng)
        yield f"{name}:{line}: {token[0]} as {wrong}", before + wrong + after, line, token[0]
        if i + 1 < len(tokens) and tokens[i + 1][0] != token[0]:
            follow = tokens[i + 1]
            swapped = before + follow[0] + text[token.end():follow.start()] + token[0] + text[follow.end():]
            yield f"{name}:{line}: {follow[0]} before {token[0]}", swapped, line, token[0]


def near(text, said, line, token):
    """The first message stands at the slip (lines without a token do not count), or at a use of the name that is
    no longer declared, and says so."""
    at, message = int(said[2]), said[0]
    between = text.splitlines()[min(at, line):max(at, line)]
    if sum(bool(re.sub("#.*", "", one).strip()) for one in between) <= NEAR:
        return True
    if not said[4] or said[4] < "M0100":
        return False
    bare = token.strip('"')
    uses = text.splitlines()[at - 1] if at <= text.count("\n") + 1 else ""
    return bare in uses or bare in message


def requests(text):
    """Who to whom at every port that the text names."""
    names = sorted(set(re.findall(r"^\s*(?:service|external) ([\w-]+)", text, re.M)))
    ports = sorted({int(p) for p in re.findall(r"\b(\d{2,5})\b", text) if 0 < int(p) < 65536})[:12]
    for source in names + ["world", "192.0.2.1", "198.51.100.66", "node"]:
        for to in names + ["world"]:
            for port in ports:
                for more in ({}, {"method": "GET", "host": "h", "path": "/healthz"}, {"method": "DELETE", "host": "h", "path": "/reviews/7"}):
                    yield {"from": source, "to": to, "port": port, **more}


def answers(folder, name, asked):
    out = folder.run("why", NOW, "--format=json", "--requests=-", name, stdin=asked)[1]
    return [json.loads(line) for line in out.splitlines()]


class Original:
    def __init__(self, name, text):
        self.folder, self.text = Folder(), text
        self.folder.write("old.mesh", text)
        code, _, err = self.folder.run("check", NOW, "old.mesh")
        self.sound, self.codes = code == 0, {m[4] for m in HEAD_LINE.finditer(err) if m[3] == "error"}
        self.asked = "".join(json.dumps(r) + "\n" for r in requests(text))
        self.answers = answers(self.folder, "old.mesh", self.asked) if self.sound else []
        expect(f"mutation {name}: requests are answered", not self.sound or any("verdict" in a for a in self.answers))

    def same_answers(self):
        """Line by line, where both know the names: the first that differs, or None."""
        for old, new in zip(self.answers, answers(self.folder, "new.mesh", self.asked)):
            if "verdict" in old and "verdict" in new and old["verdict"] != new["verdict"]:
                return f"{old} became {new}"
        return None


def try_one(original, what, text, line, token, seen):
    folder = original.folder
    folder.write("new.mesh", text)
    code, out, err = folder.run("check", NOW, "new.mesh")
    if not expect(f"mutation {what}: neither crash nor hang", code in (0, 1), f"exit {code}: {err[-200:]}"):
        return
    if code == 1:
        said = next((m for m in HEAD_LINE.finditer(err) if m[3] == "error"), None)
        seen["refused"] += 1
        fine = said and (near(text, said, line, token) or said[4] in original.codes)
        expect(f"mutation {what}: refused near it", fine, said[0] if said else err[:300])
        return
    if not original.sound:
        return
    code, out, err = folder.run("diff", NOW, "old.mesh", "new.mesh")
    if code == 0:
        seen["equal"] += 1
        why = original.same_answers()
        expect(f"mutation {what}: equal says diff, and why", why is None, why)
    else:
        seen["shown"] += 1
        expect(f"mutation {what}: diff shows it", code == 1 and out.strip(), f"exit {code}: {err[:200]}")


def run():
    everything = [(name, m) for name, text in policies().items() for m in mutants(name, text)]
    limit = os.environ.get("MESH_MUTANTS", "300")
    chosen = everything if limit == "all" else random.Random(7).sample(everything, min(int(limit), len(everything)))
    originals = {name: Original(name, text) for name, text in policies().items()}
    seen = {"refused": 0, "equal": 0, "shown": 0}
    for name, mutant in chosen:
        try_one(originals[name], *mutant, seen)
    expect("mutation: each outcome was seen", all(seen.values()), seen)
