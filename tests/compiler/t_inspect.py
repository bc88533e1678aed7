"""inspect: what a bundle costs, what differs between two; compile --budget."""
import json
import os

import elf
from common import SMALL, Folder, expect

HOOKS = {"connect4", "connect6", "sendmsg4", "sendmsg6", "lookup", "ingress", "egress", "tunnel", "prove"}


def figures(folder):
    said = json.loads(folder.run("inspect", "--format=json", "p.o")[1])
    programs = {p["name"]: p for p in said["programs"]}
    expect("inspect: every program", set(programs) == HOOKS, set(programs))
    for name, program in programs.items():
        expect(f"inspect {name}: within the kernel's limits", program["stack_bytes"] <= 512 and program["stack_bytes"] % 32 == 0 and program["frames"] <= 8
               and 0 < program["path"] < 1000000 and 0 < program["instructions"] < 1000000, program)
        expect(f"inspect {name}: open loops are the proof's", program["open_loops"] == (name == "prove"), program)
    # 1,024 backends in a rendezvous: the bound of the loop counts.
    expect("inspect: a bpf_loop with its bound", programs["connect4"]["path"] > 10 * programs["connect4"]["instructions"], programs["connect4"])
    maps = {m["name"]: m for m in said["maps"]}
    expect("inspect: whose a map is", maps["control"]["shared"] and not maps["classes"]["shared"] and not maps[".rodata"]["shared"], maps)
    out = folder.run("inspect", "p.o")[1]
    expect("inspect: in words", out.count("\nprogram ") == len(HOOKS) and "\nmemory " in out, out)


def differences(folder):
    folder.write("next.mesh", "# a line more\n" + SMALL.replace("audit pay:", "allow pay:").replace("deny no-world: from ledger to world;\n", "deny none: from ledger to world;\n")
                 .replace("10.96.0.10", "10.96.0.12"))
    folder.run("compile", "-o", "next.o", "next.mesh")
    code, out, _ = folder.run("inspect", "--diff", "--format=json", "p.o", "next.o")
    changes = {(c["what"], c["name"]): c["change"] for c in json.loads(out)["changes"]}
    want = {("rule", "post"): "moved", ("rule", "pay"): "changed", ("rule", "no-world"): "removed", ("rule", "none"): "added",
            ("service", "shop/ledger addresses"): "changed", ("manifest", "digest"): "changed", ("manifest", "source"): "changed"}
    expect("inspect --diff: what differs", code == 1 and want.items() <= changes.items(), changes)
    code, out, _ = folder.run("inspect", "--diff", "p.o", "next.o")
    expect("inspect --diff: in words", code == 1 and "rule      added    none: deny next.mesh:" in out, out)
    expect("inspect --diff: nothing", folder.run("inspect", "--diff", "p.o", "p.o") == (0, "nothing differs\n", ""))
    for words in (["p.o"], ["p.o", "p.o", "p.o"], ["p.o", "p.mesh"], ["no-such", "p.o"]):
        code, _, err = folder.run("inspect", "--diff", *words)
        expect(f"inspect --diff {words}: exit 2", code == 2 and err.startswith("meshc: "), f"{code} {err}")


def tampered(folder):
    """A byte of what is loaded: --diff names its section. What shows without a key: not valid."""
    whole = folder.read("p.o")
    for name, at in elf.places(whole).items():
        if name.startswith((".debug", ".rel.debug")) or name in ("", ".strtab", ".mesh.manifest", ".mesh.where"):
            continue
        bad = bytearray(whole)
        bad[at[0] + at[1] // 2] ^= 1
        folder.write("bad.o", bytes(bad))
        code, out, err = folder.run("inspect", "--diff", "p.o", "bad.o")
        expect(f"inspect --diff: a byte of {name}", code in (1, 2) and (code == 2 or name in out) and (out or err), f"{code} {out} {err}")
        if name in (".text", "sk_lookup", ".rodata", "license"):
            expect(f"inspect --diff: {name} is named", code == 1 and f"section   changed  {name}: " in out, f"{code} {out} {err}")
    at = elf.places(whole)[".mesh.source"]
    for name, bad, why in [("garbage behind it", whole + b"x", "bytes behind its end"), ("a policy's text for another", whole[:at[0]] + whole[at[0]:].replace(b"office", b"offiec", 1), "the policy's text")]:
        folder.write("bad.o", bad)
        for form in ("text", "json"):
            code, out, err = folder.run("inspect", f"--format={form}", "bad.o")
            expect(f"inspect: {name}", code == 1 and not out and f"meshc: bad.o: not valid: {why}" in err, f"{code} {err}")
        expect(f"inspect --diff: {name}", folder.run("inspect", "--diff", "p.o", "bad.o")[0] == 1)


def gate(folder):
    code, _, err = folder.run("compile", "--budget", "25%", "-o", "fits.o", "p.mesh")
    expect("--budget 25%: fits", code == 0 and folder.read("fits.o") == folder.read("p.o"), err)
    code, _, err = folder.run("compile", "--budget=1%", "-o", "over.o", "p.mesh")
    expect("--budget 1%: over, and nothing is written", code == 1 and "over the budget: connect4: " in err and "on one path" in err
           and not os.path.exists(os.path.join(folder.path, "over.o")), f"{code} {err}")
    for share in ("0%", "101%", "-1%", "x", "5x", "5%%", "", "99999999999%"):
        code, _, err = folder.run("compile", f"--budget={share}", "-o", "over.o", "p.mesh")
        expect(f"--budget {share}: exit 2", code == 2 and "meshc: " in err, f"{code} {err}")


def spoilt(folder):
    """A byte of the code changed: an answer or a refusal, never a crash."""
    whole, codes = folder.read("p.o"), set()
    for at in range(64, len(whole), len(whole) // 240):
        folder.write("bad.o", whole[:at] + bytes([whole[at] ^ 0xff, (whole[at + 1:at + 2] or b"\0")[0] ^ 0x85]) + whole[at + 2:])
        code, _, err = folder.run("inspect", "bad.o")
        codes.add(code)
        expect(f"inspect, bytes {at} spoilt", (code, err) == (0, "") or (code == 1 and err.startswith("meshc: bad.o: ")), f"{code} {err[:200]}")
    expect("inspect, spoilt: some were refused", codes == {0, 1}, codes)


def run():
    folder = Folder()
    folder.write("p.mesh", SMALL)
    expect("inspect: a bundle", folder.run("compile", "-o", "p.o", "p.mesh")[0] == 0)
    for part in (figures, differences, tampered, gate, spoilt):
        part(folder)
