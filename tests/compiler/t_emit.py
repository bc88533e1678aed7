"""Every stage of a small policy: tests/golden/emit."""
import os

import common
from common import ROOT, SMALL, Folder, expect

GOLDEN = os.path.join(ROOT, "tests", "golden", "emit")


def regions(text):
    """Of --emit=c the part that this policy wrote: policy.h; the rest are the templates as they stand."""
    start = text.index("/* ---- policy.h ---- */")
    return text[start:text.index("/* ---- ", start + 10)]


def run():
    folder = Folder()
    folder.write("small.mesh", SMALL)
    for stage in ("ast", "policy", "diagram", "dot", "c"):
        code, out, err = folder.run("compile", f"--emit={stage}", "-o", "-", "small.mesh")
        out = regions(out) if stage == "c" and not code else out
        path = os.path.join(GOLDEN, f"small.{stage}")
        if common.write:
            with open(path, "w") as file:
                file.write(out)
        with open(path) as file:
            wants = file.read()
        expect(f"emit {stage}", code == 0 and out == wants and out, f"exit {code} {err[:200]}; differs from {path}")
        code, _, err = folder.run("compile", f"--emit={stage}", "-o", "file", "small.mesh")
        expect(f"emit {stage} into a file", code == 0 and (regions(folder.read("file").decode()) if stage == "c" else folder.read("file").decode()) == wants)
    code, out, err = folder.run("compile", "--emit=objekt", "small.mesh")
    expect("emit: unknown stage", code == 2 and "object" in err, err)
