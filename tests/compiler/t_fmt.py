"""fmt: idempotent, loses no comment, means the same. That its own proof can fail: tests/unit/test_prove_text.c."""
import json
import random
import re

import random_policy
import readme
from common import SMALL, Folder, expect
from t_same import digest


def comments(text):
    """All of them, without what stands before; strings hide no comment."""
    found = []
    for line in text.splitlines():
        bare = re.sub(r'"(?:\\["\\]|[^"])*"', '""', line)
        if "#" in bare:
            found.append(line[line.rindex("#c"):].strip())
    return sorted(found)


def with_comments(text, rng):
    """A comment behind every token where a line may end, at times."""
    out, number, quoted = [], 0, False
    for char in text:
        out.append(char)
        quoted ^= char == '"' and (len(out) < 2 or out[-2] != "\\")
        if not quoted and char in ";{},\n" and rng.randrange(6) == 0:
            out.append(f" #c{number}\n")
            number += 1
    return "".join(out)


def check(name, text, lost=True):
    folder = Folder()
    folder.write("in.mesh", text)
    code, once, err = folder.run("fmt", "in.mesh")
    if not expect(f"fmt {name}: exit 0", code == 0, err[:300]):
        return
    code, twice, _ = folder.run("fmt", "-", stdin=once)
    expect(f"fmt {name}: fmt of fmt is the same text", code == 0 and once == twice)
    folder.write("out.mesh", once)
    before, after = digest(folder, "in.mesh"), digest(folder, "out.mesh")
    expect(f"fmt {name}: the same policy", before == after and (before or "").startswith("sha256:"), f"{before} {after}")
    if lost:
        expect(f"fmt {name}: every comment", comments(text) == comments(once), set(comments(text)) ^ set(comments(once)))


def patched(text, diff):
    """TEXT with the one hunk of DIFF made, as patch(1) reads it; None where it does not fit."""
    lines = diff.splitlines(True)
    match = re.match(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@\n", lines[2])
    begin, removed, _, added = map(int, match.groups())
    kept = [x[1:] for x in lines[3:] if x[0] == "+"]
    gone = [x[1:] for x in lines[3:] if x[0] == "-"]
    old = text.splitlines(True)
    first = begin - (removed > 0)
    fits = old[first:first + removed] == gone and len(kept) == added
    return "".join(old[:first] + kept + old[first + removed:]) if fits else None


def diffs():
    """What --diff prints is a patch from the file to the canonical text."""
    head = 'mesh m: trust "t", ingress deny, egress deny;\n'
    texts = ["\n\n" + head, head + "\n\n", head + "namespace a;   cidr c = 10.0.0.0/8;\n", head + "\nnamespace a;\n\n\ncidr c = 10.0.0.0/8;\n", "  " + head,
             head + "namespace a;\n\ncidr   c = 10.0.0.0/8;\ncidr d = 10.0.0.0/8;\n", head + "\nnamespace a;\n # x\ncidr c = 10.0.0.0/8;\n", *(with_comments(SMALL, random.Random(i)) for i in range(20))]
    for i, text in enumerate(texts):
        folder = Folder()
        folder.write("p.mesh", text)
        formatted = folder.run("fmt", "p.mesh")[1]
        code, out, err = folder.run("fmt", "--diff", "p.mesh")
        expect(f"fmt --diff {i}: is a patch", code == (text != formatted) and (patched(text, out) if out else text) == formatted, out + err)


def files():
    folder = Folder()
    folder.write("p.mesh", SMALL)
    formatted = folder.run("fmt", "p.mesh")[1]
    expect("fmt --check: would change", folder.run("fmt", "--check", "p.mesh")[0] == 1 and folder.read("p.mesh").decode() == SMALL)
    code, out, _ = folder.run("fmt", "--diff", "p.mesh")
    expect("fmt --diff: shows it", code == 1 and "+" in out and "-" in out and folder.read("p.mesh").decode() == SMALL, out[:200])
    expect("fmt -w: writes it", folder.run("fmt", "-w", "p.mesh")[0] == 0 and folder.read("p.mesh").decode() == formatted)
    expect("fmt --check, --diff: nothing to do", folder.run("fmt", "--check", "p.mesh")[0] == 0 and folder.run("fmt", "--diff", "p.mesh")[:2] == (0, ""))
    folder.write("bad.mesh", "mesh ;")
    code = folder.run("fmt", "-w", "bad.mesh")[0]
    expect("fmt -w: a text with errors stays", code == 1 and folder.read("bad.mesh") == b"mesh ;", code)
    folder.write("p.mesh", SMALL)
    code = folder.run("fmt", "-w", "p.mesh", "bad.mesh")[0]
    expect("fmt -w: one with errors, none is written", code == 1 and folder.read("p.mesh").decode() == SMALL, code)
    code = folder.run("fmt", "-w", "--check", "p.mesh")[0]
    expect("fmt -w --check: one of them", code == 2 and folder.read("p.mesh").decode() == SMALL, code)


def run():
    check("README", readme.blocks()[0], lost=False)
    check("small", with_comments(SMALL, random.Random(0)))
    for seed in range(30):
        policy, folder = random_policy.make(seed, l7=seed % 2 == 0), Folder()
        from t_same import settled
        text = random_policy.text(settled(folder, policy))
        check(f"policy {seed}", with_comments(text, random.Random(seed)))
    files()
    diffs()
