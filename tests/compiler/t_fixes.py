"""check --fix: what it takes away and what it leaves, that nothing changes by it, and that it writes all or nothing.

After each fix the text is canonical, if it was before, and `meshc diff` of before and after is a proof."""
import json
import os
import subprocess

import common
import random_policy
from common import Folder, expect, skip
from t_same import settled

HEAD = """mesh m: trust "t", ingress deny, egress deny;
mtls off because "a test";

namespace a;
service s {
  workload app == "s";
  tcp 80;
}
service h {
  workload app == "h";
  http 8080;
}
cidr office = 198.51.100.0/24;
allow inward: from s, office to h;
"""
TAIL = "deny last: from world to s;\n"

# Name, what stands between HEAD and TAIL, what of it is left ("" nothing, None all), the code.
CASES = [
    ("an unused cidr", "cidr spare = 203.0.113.0/24 except 203.0.113.7/32;\n", "", "M0708"),
    ("an unused identity", 'identity bot = "spiffe://t/ns/ci/sa/bot";\n', "", "M0708"),
    ("an unused group", "group all-of = s, h;\n", "", "M0708"),
    ("a group, and the cidr that it alone used", "cidr spare = 203.0.113.0/24;\ngroup far = spare;\n", "", "M0708"),
    ("an allow inside of an allow", 'allow zoom: from s to h when http.path == "/x";\n', "", "M0604"),
    ("an allow of two lines", "allow zoom: from s to h\n  when http.path like \"/a/very/long/path/**\" and http.header[\"x-a-header\"] == \"1\";\n", "", "M0604"),
    ("an allow inside of a deny", "allow zoom: from world to s;\n", None, "M0706"),
    ("an allow that a deny and an allow hide", "allow zoom: from s, world to h;\ndeny closed: from world to h;\n", None, "M0604"),
    ("a deny inside of a deny", "deny zoom: from world to s;\n", None, "M0604"),
    ("an audit of what is denied", "audit watch: from h to s;\n", None, "M0707"),
    ("a comment above", "# why it is here\ncidr spare = 203.0.113.0/24;\n", None, "M0708"),
    ("a comment behind", "cidr spare = 203.0.113.0/24;  # why it is here\n", None, "M0708"),
    ("a comment inside", "cidr spare = # why it is here\n203.0.113.0/24;\n", None, "M0708"),
    ("a comment of another behind a blank line", "# of nothing\n\ncidr spare = 203.0.113.0/24;\n", "# of nothing\n\n", "M0708"),
    ("a comment of the next", "cidr spare = 203.0.113.0/24;\n# of the next\n", "# of the next\n", "M0708"),
    ("a # that is no comment", 'allow zoom: from s to h when http.header["x-a"] == "#x";\n', "", "M0604"),
    ("blank lines on both sides", "\ncidr spare = 203.0.113.0/24;\n\n", "\n", "M0708"),
    ("a blank line before", "\ncidr spare = 203.0.113.0/24;\n", "\n", "M0708"),
    ("a blank line behind", "cidr spare = 203.0.113.0/24;\n\n", "\n", "M0708"),
    ("two on one line", "cidr spare = 203.0.113.0/24; deny more: from world to h;\n", " deny more: from world to h;\n", "M0708"),
    ("behind another on its line", "deny more: from world to h; cidr spare = 203.0.113.0/24;\n", "deny more: from world to h; \n", "M0708"),
    ("two that touch", "cidr spare = 203.0.113.0/24;cidr more = 192.0.2.0/24;\n", "\n", "M0708"),
    ("a rule that a test names", 'allow zoom: from s to h when http.path == "/x";\ntest "t" {\n  expect deny by zoom: from s to h;\n}\n', None, "M0604"),
    ("a service without workload, whose labels nobody but its author knows", "service bare {\n  tcp 81;\n}\n", None, "M0716"),
    ("a rule that a test only meets", 'allow zoom: from s to h when http.path == "/x";\ntest "t" {\n  expect allow by inward: from s to h;\n}\n',
     'test "t" {\n  expect allow by inward: from s to h;\n}\n', "M0604"),
]

# `a` without `b` or `b` without `a` changes nothing: `c` allows the rest of either; both together would.
EACH = """allow a: from h to h when http.method in {"GET", "PUT"};
allow b: from h to h when http.method in {"PUT", "POST"};
allow c: from h to h when http.method in {"GET", "POST", "DELETE"};
"""


def canonical(folder, name):
    return folder.run("fmt", "--check", name)[0] == 0


def codes(folder, *words):
    code, out, err = folder.run("check", "--format=json", *words)
    return [f["code"] for f in json.loads(out)["findings"]] if expect(f"check {words}", code == 0, err) else []


def fixed(folder, name, before, *flags):
    """The text after --fix, which must be canonical if it was, and equal by diff."""
    folder.write("before.mesh", before)
    folder.write("p.mesh", before)
    was = canonical(folder, "before.mesh")
    code, _, err = folder.run("check", "--fix", *flags, "p.mesh")
    expect(f"fix {name}: exit 0", code == 0 and "is not made" not in err, err)
    expect(f"fix {name}: is canonical still", canonical(folder, "p.mesh") >= was, folder.read("p.mesh").decode())
    code, out, err = folder.run("diff", "before.mesh", "p.mesh")
    expect(f"fix {name}: nothing changes", code == 0, out + err)
    code, _, err = folder.run("check", "--fix", "p.mesh")
    expect(f"fix {name}: once is enough", code == 0 and "fix" not in err.splitlines()[-1:], err)
    return folder.read("p.mesh").decode()


def check_cases(folder):
    for name, text, left, code in CASES:
        folder.write("p.mesh", HEAD + text + TAIL)
        expect(f"fix {name}: {code} is found", code in codes(folder, "p.mesh"))
        wants = HEAD + (text if left is None else left) + TAIL
        have = fixed(folder, name, HEAD + text + TAIL)
        expect(f"fix {name}: what is left", have == wants, have[len(HEAD) - 20:])


def check_two_of_a_name(folder):
    """Which of them is renamed, and how, its author knows; fmt keeps both. Two files are one policy."""
    for kind, text in (("never", 'never "one": from a/h to a/s;\n'), ("test", 'test "one" {\n  expect deny: from a/h to a/h;\n}\n')):
        for name, parts in ((f"{kind}: in one file", [HEAD + text + text]), (f"{kind}: in two", [HEAD + text, "namespace b;\n" + text])):
            names = [folder.write(f"two{i}.mesh", part) for i, part in enumerate(parts)]
            for flags in ([], ["--fix"]):
                code, _, err = folder.run("check", *flags, *names)
                expect(f"two of a name, {name} {flags}", code == 1 and err.count("error[") == err.count("error[M0103]") == 1 and "note: the first is here" in err, err)
            expect(f"two of a name, {name}: all is left", [folder.read(n).decode() for n in names] == parts)
            code, out, err = folder.run("fmt", names[-1])
            expect(f"two of a name, {name}: fmt", code == 0 and out == parts[-1], err)
        folder.write("two.mesh", HEAD + text + text)
        folder.write("one.mesh", HEAD + text)
        code, out, err = folder.run("diff", "two.mesh", "one.mesh")
        expect(f"two of a name, {kind}: a policy that was accepted once is compared", code == 0, out + err)
        code, out, err = folder.run("diff", "one.mesh", "two.mesh")
        expect(f"two of a name, {kind}: none comes anew", code == 1 and "error[M0103]" in err, out + err)


def check_ends(folder):
    """The last declaration, with and without a line end, behind blank lines; the only one of a file."""
    for name, text, left in [("a last line without an end", "cidr spare = 203.0.113.0/24;", ""), ("a last line", "cidr spare = 203.0.113.0/24;\n", ""),
                             ("a last line behind a blank one", "\ncidr spare = 203.0.113.0/24;\n", ""),
                             ("a last one behind a comment", "# of nothing\n\ncidr spare = 203.0.113.0/24;", "# of nothing\n"),
                             ("the last two", "\ncidr spare = 203.0.113.0/24;\n\ncidr more = 192.0.2.0/24;\n", "")]:
        have = fixed(folder, name, HEAD + text)
        expect(f"fix {name}", have == HEAD + left, have[len(HEAD) - 20:])


def check_bytes(folder):
    """Line ends and a byte order mark stay what they are."""
    text = (HEAD + "\ncidr spare = 203.0.113.0/24;\n\n" + TAIL).replace("\n", "\r\n")
    folder.write("p.mesh", text)
    folder.run("check", "--fix", "p.mesh")
    expect("fix: CRLF", folder.read("p.mesh").decode() == (HEAD + "\n" + TAIL).replace("\n", "\r\n"), folder.read("p.mesh"))
    folder.write("p.mesh", b"\xef\xbb\xbf" + (HEAD + "cidr spare = 203.0.113.0/24;\n").encode())
    folder.run("check", "--fix", "p.mesh")
    expect("fix: a byte order mark", folder.read("p.mesh") == b"\xef\xbb\xbf" + HEAD.encode(), folder.read("p.mesh")[:20])
    os.chmod(os.path.join(folder.path, "p.mesh"), 0o640)
    folder.write("p.mesh", HEAD + "cidr spare = 203.0.113.0/24;\n")
    folder.run("check", "--fix", "p.mesh")
    expect("fix: the file's mode", os.stat(os.path.join(folder.path, "p.mesh")).st_mode & 0o7777 == 0o640)


def check_redundant(folder):
    """Of two rules each of which the other makes redundant one goes; denies stay."""
    folder.write("p.mesh", HEAD + EACH + TAIL)
    expect("each of two is redundant", codes(folder, "p.mesh").count("M0704") == 2)
    have = fixed(folder, "two that make each other redundant", HEAD + EACH + TAIL)
    expect("fix: of two one goes", have == HEAD + "".join(EACH.splitlines(True)[1:]) + TAIL, have)
    services = "".join(f'service h{i} {{\n  workload app == "h{i}";\n  http 80;\n}}\n' for i in range(40))
    many = [EACH.replace(" a:", f" a{i}:").replace(" b:", f" b{i}:").replace(" c:", f" c{i}:").replace("to h", f"to h{i}") for i in range(40)]
    have = fixed(folder, "many of those", HEAD + services + "".join(many) + TAIL)
    expect("fix: of each two one goes", have == HEAD + services + "".join(m[m.index("\n") + 1:] for m in many) + TAIL, have[-300:])
    folder.write("p.mesh", HEAD + EACH + TAIL)
    expect("fix: of two one goes, and it is said", folder.run("check", "--fix", "p.mesh")[2].endswith("\n1 fix made\n"))
    # Two that say the same, above a default that only audits: one stays, for the day on which it denies.
    audit = HEAD.replace("ingress deny, egress deny", "ingress audit, egress audit") + "allow a: from s to world;\nallow b: from s to world;\n" + TAIL
    have = fixed(folder, "above a default of audit", audit)
    expect("fix: a rule is not left to a default of audit", have.count("to world") == 1, have)
    inner = 'allow a: from h to h when http.method == "GET";\nallow b: from h to h when http.method in {"GET", "PUT"};\n'
    folder.write("p.mesh", HEAD + inner + TAIL)
    expect("what is inside of another is redundant", codes(folder, "p.mesh").count("M0704") == 1)
    have = fixed(folder, "a rule inside of another", HEAD + inner + TAIL)
    expect("fix: what is inside of another goes", have == HEAD + inner.splitlines(True)[1] + TAIL, have)
    tested = inner + 'test "t" {\n  expect allow by a: from h to h with http.method = "GET";\n}\n'
    expect("fix: not what a test names", fixed(folder, "a redundant rule that a test names", HEAD + tested) == HEAD + tested)
    denies = EACH.replace("allow", "deny") + "allow every: from h to h;\n"
    folder.write("p.mesh", HEAD + denies + TAIL)
    expect("each of two denies is redundant", codes(folder, "p.mesh").count("M0704") == 2)
    have = fixed(folder, "denies", HEAD + denies + TAIL)
    expect("fix: denies stay", have == HEAD + denies + TAIL, have)


def check_files(folder):
    """A policy of many files: each is mended, or none."""
    parts = {"all/a.mesh": HEAD + "cidr spare = 203.0.113.0/24;\n", "all/deep/b.mesh": "namespace a;\ngroup far = spare;\ngroup near = s;\n",
             "all/c.mesh": "namespace a;\n" + TAIL}
    for name, text in parts.items():
        folder.write(name, text)
    code, _, err = folder.run("check", "--fix", "all")
    have = {name: folder.read(name).decode() for name in parts}
    expect("fix: a folder", code == 0 and err.endswith("3 fixes made\n") and
           have == {**parts, "all/a.mesh": HEAD, "all/deep/b.mesh": "namespace a;\n"}, f"{err} {have}")


def check_read_only(folder):
    """Who may not write one of the files writes none."""
    parts = {"all/a.mesh": HEAD + "cidr spare = 203.0.113.0/24;\n", "all/b.mesh": "namespace a;\ngroup near = s;\n"}
    for name, text in parts.items():
        folder.write(name, text)
    path = os.path.join(folder.path, "all")
    os.chmod(folder.path, 0o755)
    os.chmod(path, 0o777)
    os.chmod(os.path.join(path, "a.mesh"), 0o666)
    os.chmod(os.path.join(path, "b.mesh"), 0o444)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        done = subprocess.run([common.meshc, "check", "--fix", "all"], cwd=folder.path, capture_output=True, text=True, timeout=60, **nobody)
    except PermissionError:
        skip("fix: a file that is read-only", "the build is not for others to run")
        return
    have = {name: folder.read(name).decode() for name in parts}
    expect("fix: a file that is read-only", done.returncode == 2 and "all/b.mesh: Permission denied" in done.stderr and have == parts,
           f"exit {done.returncode} {done.stderr} {have}")


def check_input(folder):
    code, out, err = folder.run("check", "--fix", "-", stdin=HEAD + "cidr spare = 203.0.113.0/24;\n")
    expect("fix: standard input", code == 2 and "--fix writes into files" in err and not out, err)


def check_errors_first(folder):
    """Where there are errors, those are mended first: what lint says waits for a policy that holds."""
    text = HEAD + 'allow zoom: from s to h when http.pth == "/x";\ncidr spare = 203.0.113.0/24;\n'
    folder.write("p.mesh", text)
    code, _, err = folder.run("check", "--fix", "p.mesh")
    expect("fix: an error, and what it hid", code == 0 and "3 fixes made" in err and folder.read("p.mesh").decode() == HEAD, err)


def check_shown(folder):
    """What would be made is said in each format."""
    folder.write("p.mesh", HEAD + "cidr spare = 203.0.113.0/24;\naudit watch: from h to s;\n" + TAIL)
    found = {f["code"]: f.get("fix") for f in json.loads(folder.run("check", "--format=json", "p.mesh")[1])["findings"]}
    line = HEAD.count("\n") + 1
    expect("json: a sure removal", found["M0708"] == {"file": "p.mesh", "line": line, "column": 1, "length": 29, "replacement": "", "sure": True}, found)
    expect("json: one that is not sure", found["M0707"] and not found["M0707"]["sure"], found)
    log = json.loads(folder.run("check", "--format=sarif", "p.mesh")[1])
    fixes = {r["ruleId"]: r["fixes"][0] for r in log["runs"][0]["results"] if "fixes" in r}
    expect("sarif: a sure removal", fixes["M0708"]["description"]["text"] == "remove (sure)" and
           fixes["M0708"]["properties"] == {"applicability": "sure"}, fixes)
    region = fixes["M0708"]["artifactChanges"][0]["replacements"][0]["deletedRegion"]
    expect("sarif: whole lines", region == {"startLine": line, "startColumn": 1, "endLine": line + 1, "endColumn": 1}, region)
    expect("sarif: one that is not sure", fixes["M0707"]["properties"] == {"applicability": "perhaps"}, fixes)
    err = folder.run("check", "p.mesh")[2]
    expect("text: both", "fix (sure): remove it" in err and "fix (perhaps): remove it" in err, err)


def check_random(folder):
    made = 0
    for seed in range(8):
        policy = settled(folder, random_policy.make(f"fix {seed}", l7=seed % 2))
        folder.write("p.mesh", random_policy.text(policy))
        folder.run("fmt", "-w", "p.mesh")
        before = folder.read("p.mesh").decode()
        have = fixed(folder, f"seed {seed}", before)
        gone = [line for line in before.splitlines() if line not in have.splitlines()]
        made += len(gone)
        expect(f"fix seed {seed}: no deny goes", not [line for line in gone if line.startswith("deny")], gone)
        expect(f"fix seed {seed}: nothing comes", [line for line in have.splitlines() if line not in before.splitlines()] == [], have)
    expect("random policies have something to mend", made > 8, made)


def run():
    folder = Folder()
    check_cases(folder)
    check_two_of_a_name(folder)
    check_ends(folder)
    check_bytes(folder)
    check_redundant(folder)
    check_files(Folder())
    check_read_only(Folder())
    check_input(folder)
    check_errors_first(folder)
    check_shown(folder)
    check_random(folder)
