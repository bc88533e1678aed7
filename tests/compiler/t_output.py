"""-o: whole or not at all, of every verb that prints; common flags where they mean something, and nowhere else."""
import os

from common import SMALL, Folder, expect

PRINTS = [["check", "p.mesh"], ["check", "--format=json", "p.mesh"], ["check", "--format=sarif", "p.mesh"], ["fmt", "p.mesh"],
          ["fmt", "--check", "odd.mesh"], ["fmt", "--diff", "odd.mesh"], ["why", "--from=frontend", "--to=ledger", "p.mesh"],
          ["why", "--requests=lines", "--format=json", "p.mesh"], ["diff", "p.mesh", "next.mesh"], ["diff", "--format=json", "p.mesh", "p.mesh"],
          ["test", "p.mesh"], ["test", "--format=json", "failing.mesh"], ["test", "--format=junit", "p.mesh"], ["test", "--suggest", "p.mesh"],
          ["compile", "--emit=ast", "p.mesh"], ["compile", "--emit=diagram", "p.mesh"], ["compile", "--emit=c", "p.mesh"],
          ["inspect", "p.o"], ["inspect", "--format=json", "p.o"], ["inspect", "--diff", "p.o", "p.o"], ["verify", "-k", "k.pub", "signed.o"],
          ["explain"], ["explain", "M0104"], ["completion", "bash"], ["version"], ["version", "--format=json"]]
TAKEN = {"--now=2026-06-01": "compile check why diff plan test", "--inventory=inventory.json": "compile check why diff plan test",
         "--fail-level=error": "compile check why diff plan test", "--color=never": None, "--format=text": None}
VERBS = "compile check fmt why diff plan test keygen sign verify inspect explain completion version".split()


def left(folder):
    return sorted(name for name in os.listdir(folder.path) if "out" in name)


def written(folder):
    for words in PRINTS:
        name = " ".join(words)
        code, out, err = folder.run(*words)
        again = folder.run(words[0], "-o", "out", *words[1:])
        expect(f"{name} -o: exit code and messages are the same", again == (code, "", err) and code < 3 and out, (code, again))
        expect(f"{name} -o: the file is what is printed", folder.read("out").decode() == out and left(folder) == ["out"], left(folder))
        expect(f"{name} -o -: standard output", folder.run(*words, "-o", "-") == (code, out, err))
        os.unlink(os.path.join(folder.path, "out"))
    for at in ("/dev/stdout", "/dev/null"):
        code, out, _ = folder.run("version", "-o", at)
        expect(f"-o {at}", code == 0 and bool(out) == (at == "/dev/stdout"), out)


def unwritable(folder):
    os.mkdir(os.path.join(folder.path, "folder"))
    # The policy is absent: what cannot be written is told before it is read.
    for at, why in [("nowhere/out", "No such file"), ("folder", "Is a directory"), ("", "No such file")]:
        for words in (["check", "absent.mesh"], ["compile", "absent.mesh"], ["version"], ["diff", "absent.mesh", "p.mesh"]):
            code, out, err = folder.run(words[0], f"-o={at}", *words[1:])
            expect(f"{words[0]} -o '{at}': exit 2", code == 2 and not out and err.startswith(f"meshc: -o {at}: {why}") and err.count("\n") == 1, err)
    code, _, err = folder.run("version", "-o", "/dev/full")
    expect("-o /dev/full: exit 2", code == 2 and "No space left" in err, err)


def kept(folder):
    """Where there is no result the old file stays."""
    folder.write("out", "old")
    folder.write("bad.mesh", "nonsense")
    for words in (["check", "bad.mesh"], ["test", "bad.mesh"], ["fmt", "bad.mesh"], ["compile", "bad.mesh"], ["why", "--from=x", "--to=ledger", "p.mesh"]):
        code, out, _ = folder.run(words[0], "-o", "out", *words[1:])
        expect(f"{' '.join(words)}: no result, the old file stays", code in (1, 2) and not out and folder.read("out") == b"old" and left(folder) == ["out"])
    code, _, _ = folder.run("check", "--format=json", "-o", "out", "bad.mesh")
    expect("check --format json: errors are a result", code == 1 and b"M0001" in folder.read("out"))
    for words in (["fmt", "-w", "-o", "out", "p.mesh"], ["test", "--watch", "-o", "out", "p.mesh"]):
        code, _, err = folder.run(*words)
        expect(f"{words[0]} {words[1]} takes no -o", code == 2 and "no -o with it" in err, err)


def taken(folder):
    for flag, verbs in TAKEN.items():
        name = flag.split("=")[0]
        for verb in VERBS:
            takes = verbs is None or verb in verbs.split()
            _, out, err = folder.run(verb, flag, "absent.mesh")
            expect(f"{verb} {name}", (f"meshc: {verb} takes no {name}" in err) == (not takes), err)
            expect(f"{verb} --help and {name}", (f"\n  {name} " in folder.run(verb, "--help")[1]) == takes)
    code, _, err = folder.run("fmt", "--now=2026-06-01", "p.mesh")
    expect("a flag that is not taken: exit 2", code == 2 and "`meshc fmt --help` lists the flags" in err, err)
    code, _, err = folder.run("compile", "--inventory", "inventory.json", "-o", "out.o", "--now=2026-06-01", "p.mesh")
    expect("compile --inventory is heard", code == 2 and "inventory.json: " in err and left(folder) == ["out"], err)
    out = folder.run("check", "--help")[1]
    expect("--help: the words of --fail-level and --color", "fails: error warning\n" in out and ": auto always never\n" in out, out)


def run():
    folder = Folder()
    folder.write("p.mesh", SMALL)
    folder.write("odd.mesh", SMALL.replace("namespace shop", "namespace  shop"))
    folder.write("next.mesh", SMALL.replace("deny no-world: from ledger to world;\n", ""))
    folder.write("failing.mesh", SMALL.replace("expect allow by post", "expect deny by post"))
    folder.write("lines", '{"from":"frontend","to":"ledger"}\n{"from":"nobody","to":"ledger"}\n')
    folder.run("keygen", "-o", "k")
    folder.run("compile", "-o", "p.o", "p.mesh")
    folder.run("compile", "-k", "k", "-o", "signed.o", "p.mesh")
    for part in (written, unwritable, kept, taken):
        part(folder)
