"""The command line: help, flags, standard input, formats, exit codes."""
import json
import os
import subprocess

import common
from common import SMALL, Folder, expect
import readme

VERBS = ["compile", "check", "fmt", "why", "test", "keygen", "sign", "verify", "inspect", "version"]

L7 = SMALL.replace("allow post:", 'allow paths: from frontend to frontend when http.path == "/x";\nallow post:')
STRICT = SMALL.replace('mtls off because "a test";', "mtls strict for ledger;").replace("tcp 5432;", "tcp 5432; udp 53;").replace("to ledger;", "to ledger port 5432;")
SPLIT = SMALL.replace("service frontend { ", 'service frontend { subset a = v == "1"; ') + "route frontend { split a 1, 1; }\n"
CANNOT = [("a rule of requests", L7, r"p.mesh:8:45: error[M0701]", "paths"), ("udp to a strict port", STRICT, r"p.mesh:4:74: error[M0701]", "tunnel"),
          ("a split per request", SPLIT, r"p.mesh:17:18: error[M0701]", "per connection"),
          ("an arm of requests", SMALL + 'route frontend { when http.method == "GET" split 1; split per connection 1; }\n', r"p.mesh:17:18: error[M0701]", "content")]


def help_and_flags(folder):
    code, out, _ = folder.run("--help")
    expect("--help names every verb", code == 0 and all(f"  {v} " in out for v in VERBS), out)
    code, _, err = folder.run()
    expect("no verb", code == 2 and "usage" in err)
    code, _, err = folder.run("chek")
    expect("unknown verb", code == 2 and "did you mean 'check'" in err, err)
    for verb in VERBS:
        for word in ("--help", "-h"):
            code, out, err = folder.run(verb, word)
            expect(f"{verb} {word}", code == 0 and out.startswith(f"meshc {verb}: ") and "usage: " in out and not err, out)
        for flag in ("--no-such", "-Z", "--no-such=1", "--formt=json"):
            code, out, err = folder.run(verb, flag, "p.mesh")
            expect(f"{verb} {flag}", code == 2 and "unknown flag" in err and not out, f"exit {code} {err}")
        for words in (["--format=xml"], ["--now=tomorrow"], ["--now"], ["--color=pink"], ["--fail-level=note"]):
            code, out, err = folder.run(verb, *words, "p.mesh") if words != ["--now"] else folder.run(verb, "p.mesh", *words)
            expect(f"{verb} {words[0]}", code == 2 and err and not out, f"exit {code} {err}")
    code, _, err = folder.run("check", "--", "-weird.mesh")
    expect("-- ends the flags", code == 2 and "-weird.mesh: No such" in err, err)


FORMATS = {"check": "text json sarif github", "why": "text json", "diff": "text json markdown", "plan": "text json markdown",
           "test": "text json junit", "inspect": "text json", "explain": "text json", "version": "text json",
           **{v: "text" for v in ("compile", "fmt", "keygen", "sign", "verify", "completion")}}


def formats(folder):
    """A format that a verb does not print is refused, before anything is done."""
    for verb, has in FORMATS.items():
        for name in "text json sarif github junit markdown".split():
            code, out, err = folder.run(verb, "--format", name, "absent.mesh")
            expect(f"{verb} --format {name}", ("unknown format" in err) == (name not in has.split()), f"exit {code} {err}")
            if name not in has.split():
                expect(f"{verb} --format {name}: exit 2", code == 2 and not out and f"`meshc {verb}` prints: {has}" in err, f"exit {code} {err}")
    code, out, err = folder.run("why", "--format=jsno", "--from=frontend", "--to=ledger", "p.mesh")
    expect("why --format=jsno", code == 2 and "did you mean 'json'" in err and not out, err)
    code, out, _ = folder.run("explain", "--format=json", "M0104")
    expect("explain CODE --format json", code == 0 and json.loads(out)["code"] == "M0104", out)


def standard_input(folder):
    for verb, words, wants in [("check", [], 0), ("fmt", [], 0), ("test", [], 0), ("why", ["--from=frontend", "--to=ledger"], 0),
                               ("compile", ["-o", "in.o"], 0), ("compile", ["--emit=policy", "-o", "-"], 0)]:
        code, out, err = folder.run(verb, *words, "-", stdin=SMALL)
        expect(f"{verb} {' '.join(words)} -", code == wants and (out or "-o" in words), f"exit {code} {err}")
    code, _, err = folder.run("check", "-", stdin="nonsense")
    expect("check -: its name in messages is -", code == 1 and err.startswith("-:1:1: error"), err)
    code, out, _ = folder.run("why", "--requests=-", "--format=json", "-", stdin="")
    expect("why: policy and requests both from -", code in (1, 2), code)


def why_codes(folder):
    for name, words, wants in [("allow", ["--from=frontend", "--to=ledger", "--fail-deny"], 0), ("deny", ["--from=world", "--to=ledger"], 0),
                               ("deny, --fail-deny", ["--from=world", "--to=ledger", "--fail-deny"], 1), ("unknown source", ["--from=fronten", "--to=ledger"], 2),
                               ("port 0", ["--from=frontend", "--to=ledger", "--port=0"], 2), ("port 99999", ["--from=frontend", "--to=ledger", "--port=99999"], 2),
                               ("no --to", ["--from=frontend"], 2), ("bad header", ["--from=frontend", "--to=ledger", "--header=x"], 2)]:
        code, out, err = folder.run("why", *words, "p.mesh")
        expect(f"why: {name}", code == wants and (out or wants == 2), f"exit {code} {err}")
    code, _, err = folder.run("why", "--from=fronten", "--to=ledger", "p.mesh")
    expect("why: did you mean", "frontend" in err, err)


HEADERS = SMALL.replace("audit pay:", 'allow twice: from world to frontend when http.header["x-a"] matches "1,2(,3)?";\naudit pay:')


def why_texts(folder):
    """A header that is said twice is sent twice; what is no text is refused, not left out."""
    for words, wants in [(["x-a=1"], "deny"), (["x-a=1", "x-a=2"], "allow"), (["X-A=1", "x-a=2", "x-a=3"], "allow"), (["x-a=2", "x-a=1"], "deny"), (["x-a=1,2"], "allow")]:
        code, out, err = folder.run("why", "--format=json", "--from=world", "--to=frontend", "--method=GET", "--host=h", "--path=/", *(f"--header={w}" for w in words), "-", stdin=HEADERS)
        expect(f"why: headers {words}", code == 0 and json.loads(out)["verdict"] == wants, out + err)
    for flag in ("--method", "--path", "--host", "--header", "--from", "--to", "--protocol", "--address"):
        words = {"--from": "world", "--to": "frontend", flag: b"x-a=\xff"}
        code, out, err = folder.run("why", *(x for f, v in words.items() for x in (f, v)), "p.mesh")
        expect(f"why {flag}: no UTF-8", code == 2 and not out and f"{flag}: this is no UTF-8 text" in err, f"exit {code} {out}{err}")


def flags_apart(folder):
    for stage in ("ast", "policy", "diagram", "dot", "c"):
        code, out, err = folder.run("compile", "--budget=50%", f"--emit={stage}", "p.mesh")
        expect(f"compile --budget --emit={stage}: nothing would be checked", code == 2 and not out and "--budget" in err, f"exit {code} {err}")
    for word in ("4294967404", "M4294967404", "18446744073709551724", "+103", "M 103", "M-1", "M"):
        code, out, err = folder.run("explain", "--", word)
        expect(f"explain {word}", code == 2 and not out and "no code" in err, f"exit {code} {err}")


def numbers(folder):
    """Digits, and nothing beside them: a number that is cut or guessed at is another one."""
    for word in (" 5", "5 ", "+5", "0x5", "5.0", "", "18446744073709551621", "4294967301"):
        for verb, flag in (("why", "--port"), ("test", "--threshold"), ("compile", "--budget"), ("compile", "--policy-version")):
            if word == "4294967301" and flag == "--policy-version":
                continue
            code, out, err = folder.run(verb, f"{flag}={word}", "p.mesh")
            expect(f"{verb} {flag}='{word}'", code == 2 and not out and err.startswith(f"meshc: {flag} wants"), f"exit {code} {err}")
    for words in ([], ["--suggest"], ["--coverage"], ["-o", "none.txt"]):
        code, out, err = folder.run("test", "--filter=none such", *words, "p.mesh")
        expect(f"test --filter that fits nothing {words}", code == 2 and not out and "nothing was checked" in err, f"exit {code} {out} {err}")
    expect("... writes no file", "none.txt" not in os.listdir(folder.path))


def key_pairs(folder):
    """Both or none: the longest names have room for the one file, but not for the other."""
    code, out, err = folder.run("keygen", "-o", "-")
    expect("keygen -o -", code == 2 and not out and "two files" in err and "-.pub" not in os.listdir(folder.path), f"exit {code} {err}")
    for length in range(230, 256):
        code, _, err = folder.run("keygen", "-o", "k" * length)
        left = [n for n in os.listdir(folder.path) if n.startswith("kkk")]
        expect(f"keygen: a name of {length}", len(left) == (2 if code == 0 else 0) and code in (0, 2), f"exit {code} {left} {err}")
        for name in left:
            os.remove(os.path.join(folder.path, name))


def odd_names(folder):
    """Places are told in JSON: a file whose name is no text is none of a policy."""
    os.makedirs(os.path.join(folder.path, "odd"))
    with open(os.path.join(folder.path, "odd").encode() + b"/\xff.mesh", "w") as file:
        file.write(SMALL.replace("to ledger port 5432", "to ledgr"))
    for path in ("odd", b"odd/\xff.mesh"):
        for words in (["check", "--format=json"], ["check"], ["fmt"], ["test"]):
            code, out, err = folder.run(*words, path)
            expect(f"{words} of a name without letters", code == 2 and not out and "its name is no UTF-8 text" in err, f"exit {code} {out}{err}")


def why_requests(folder):
    """Each line has its answer, in order, and a line that has none says why, at its place."""
    folder.write("lines", '{"from":"frontend","to":"ledger"}\n\n{"from":"fronten","to":"ledger"}\n{"from":\n{"from":"world","to":"ledger"}\n')
    reasons = {2: "an empty line is no request", 3: "unknown source 'fronten': did you mean 'frontend'?", 4: "no JSON, column"}
    for path in ("-", "lines"):
        code, out, err = folder.run("why", "--format=json", f"--requests={path}", "p.mesh", stdin=folder.read("lines"))
        answers = [json.loads(x) for x in out.splitlines()]
        expect(f"why --requests {path}: a line each, in order", code == 2 and [a.get("verdict") for a in answers] == ["allow", None, None, None, "deny"], out)
        expect(f"why --requests {path}: why there is no answer", all(answers[n - 1].get("error", "").startswith(r) for n, r in reasons.items()), out)
        expect(f"why --requests {path}: where there is no answer", all(f"meshc: {path}:{n}: {r}" in err for n, r in reasons.items()), err)
        text = folder.run("why", f"--requests={path}", "p.mesh", stdin=folder.read("lines"))
        expect(f"why --requests {path}: as text", text[0] == 2 and text[2] == err and "allow by 'post'" in text[1], text)
    code, _, err = folder.run("why", "--requests=absent", "p.mesh")
    expect("why --requests absent", code == 2 and "absent: No such file" in err, err)


def shares(folder):
    code, out, _ = folder.run("why", "--format=json", "--from=frontend", "--to=ledger", "p.mesh")
    expect("shares are read, not decoded", code == 0 and '"shares":{"v1":0.9,"ledger":0.1}' in out, out)
    code, out, _ = folder.run("why", "--format=json", "--from=frontend", "--to=ledger", "-", stdin=SMALL.replace("v1 9, 1", "v1 2, 1"))
    expect("shares of thirds", '"shares":{"v1":0.666666667,"ledger":0.333333333}' in out, out)


KINDS = SMALL.replace("mtls off", 'group team = frontend, ledger;\ngroup far = office;\nidentity robot = "spiffe://shop.example/ns/ci/sa/robot";\nmtls off')


def why_kinds(folder):
    """A name of the wrong kind is known, and what to write instead is said."""
    for words, message in [(["--from=office", "--to=ledger"], "'office' is a cidr: say an address in it, such as 198.51.100.1 (--address 198.51.100.1)"),
                           (["--from=shop/office", "--to=ledger"], "'shop/office' is a cidr"), (["--from=frontend", "--to=office"], "'office' is a cidr, of sources"),
                           (["--from=team", "--to=ledger"], "'team' is a group, and a request is of one: name a member, such as shop/frontend"),
                           (["--from=frontend", "--to=team"], "'team' is a group"), (["--from=far", "--to=ledger"], "name a member, such as 198.51.100.1"),
                           (["--from=stripe", "--to=ledger"], "'stripe' is an external: a destination, never a source"),
                           (["--from=frontend", "--to=robot"], "'robot' is an identity: a source, never a destination"),
                           (["--from=shop", "--to=ledger"], "'shop' is a namespace: name a service of it, or shop/- for"), (["--from=any", "--to=ledger"], "name it instead of 'any'"),
                           (["--from=offise", "--to=ledger"], "unknown source 'offise'")]:
        code, out, err = folder.run("why", *words, "-", stdin=KINDS)
        expect(f"why {' '.join(words)}", code == 2 and not out and message in err, f"exit {code} {err}")
    for words in (["--address=198.51.100.1"], ["--from=198.51.100.1"]):
        code, out, err = folder.run("why", *words, "--to=frontend", "-", stdin=KINDS)
        expect(f"why {words[0]}", code == 0 and "allow by 'office-web'" in out, out + err)


IDENTITIES = """mesh m: trust "t", ingress deny, egress deny;
namespace a;
service web { tcp 80; }
identity robot = "spiffe://t/ns/ci/sa/deployer";
identity far = "spiffe://elsewhere/x";
identity same = "spiffe://t/ns/a/sa/web";
allow r: from robot, far to web;
"""


def why_identities(folder):
    """By the name that it was declared by, and by that of its namespace and account."""
    for name, wants in [("robot", "allow"), ("a/robot", "allow"), ("far", "allow"), ("ci/deployer", "allow"), ("same", "deny"), ("web", "deny")]:
        code, out, err = folder.run("why", f"--from={name}", "--to=web", "--format=json", "-", stdin=IDENTITIES)
        expect(f"why: from identity {name}", code == 0 and json.loads(out)["verdict"] == wants, f"exit {code} {err} {out}")


def json_everywhere(folder):
    bad = SMALL.replace("to ledger port 5432", "to ledgr")
    failing = SMALL.replace("expect allow by post", "expect deny by post")
    folder.write("bad.mesh", bad)
    folder.write("failing.mesh", failing)
    for words, wants in [(["check", "p.mesh"], 0), (["check", "bad.mesh"], 1), (["test", "p.mesh"], 0), (["test", "failing.mesh"], 1),
                         (["why", "--from=frontend", "--to=ledger", "p.mesh"], 0), (["version"], 0)]:
        code, out, err = folder.run(words[0], "--format=json", *words[1:])
        plain = folder.run(*words)[0]
        try:
            said = json.loads(out)
        except ValueError as e:
            said = {}
        expect(f"--format json: {' '.join(words)}", code == wants == plain and said, f"exit {code}, as text {plain}: {out[:200]} {err[:200]}")
    findings = json.loads(folder.run("check", "--format=json", "bad.mesh")[1])["findings"]
    expect("check --format json: place and fix", [(f["line"], f["column"], f["code"], f["fix"]["replacement"]) for f in findings] ==
           [(8, 30, "M0104", "ledger")], findings)
    expect("test: nothing to check is exit 2", folder.run("test", "-", stdin=SMALL.split("test ")[0])[0] == 2)
    expect("--fail-level warning", folder.run("check", "--now=2026-06-01", "--fail-level=warning", "-", stdin=SMALL.replace(
        'off because "a test"', 'permissive until "2026-06-10"'))[0] == 1)


def folders(folder):
    head, rest = SMALL.split("namespace shop;\n")
    parts = [head, "namespace shop;\n" + "".join(x for x in rest.splitlines(True)[:5]), "namespace shop;\n" + "".join(rest.splitlines(True)[5:])]
    for name, text in zip(("all/z.mesh", "all/a.mesh", "all/deep/m.mesh"), parts):
        folder.write(name, text)
    folder.write("all/.hidden.mesh", "nonsense")
    folder.write("all/notes.txt", "nonsense")
    whole, parts = (json.loads(folder.run("check", "--format=json", p)[1])["digest"] for p in ("p.mesh", "all"))
    expect("a folder is a policy", whole and whole == parts, f"{whole} {parts}")
    code, out, _ = folder.run("why", "--from=frontend", "--to=ledger", "--format=json", "all")
    expect("a folder: places name the file", json.loads(out)["where"] == "all/deep/m.mesh:2:1", out)


def odds(folder):
    for words in (["--help"], ["check", "--help"], ["version"], ["--version"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([common.meshc, *words], stdout=full, stderr=subprocess.PIPE, timeout=60)
        expect(f"{words} into a full device: exit 2", done.returncode == 2 and b"standard output cannot be written" in done.stderr, done)
    for words in (["check", "-", "-"], ["fmt", "-", "-"], ["check", "p.mesh", "-", "-"]):
        code, out, err = folder.run(*words, stdin=SMALL)
        expect(f"{words}: exit 2", code == 2 and not out and "standard input can be read once" in err, err)
    one = 'mesh m: trust "t", ingress deny, egress deny;\nnamespace a;\nmtls off because "x";\nservice s { tcp 80; }\nallow r: from world to s;\n'
    out = folder.run("check", "-", stdin=one)[1]
    expect("check: one of each is singular", out.startswith("m: 1 service, 1 rule (0 with L7 conditions), 1 address block, "), out)
    expect("check: two are not", "2 services, 4 rules" in folder.run("check", "p.mesh")[1])


def not_enforceable(folder):
    for name, text, place, word in CANNOT:
        folder.write("p.mesh", text)
        code, _, err = folder.run("compile", "-o", "never.o", "p.mesh")
        expect(f"compile refuses {name}", code == 1 and place in err and word in err, f"exit {code} {err[:400]}")
        code, _, err = folder.run("check", "p.mesh")
        expect(f"check takes {name}", code == 0, err[:300])
        expect(f"test takes {name}", folder.run("test", "p.mesh")[0] == 0)
        expect(f"why takes {name}", folder.run("why", "--from=frontend", "--to=ledger", "--port=5432", "p.mesh")[0] == 0)
    folder.write("p.mesh", SMALL)


def readme_examples():
    for name in ("grammar/README.md", "README.md"):
        for i, text in enumerate(readme.blocks(name)):
            folder = Folder()
            code, _, err = folder.run("check", "--now=2026-06-01", "-", stdin=text)
            expect(f"{name}: example {i} passes check", code == 0 and "warning[" not in err, err[:400])
            if 'test "' in text:
                code, out, err = folder.run("test", "-", stdin=text)
                expect(f"{name}: the tests of example {i} pass", code == 0, out + err)
    expect("grammar/README.md has an example", readme.blocks())


def run():
    folder = Folder()
    folder.write("p.mesh", SMALL)
    help_and_flags(folder)
    formats(folder)
    standard_input(folder)
    why_codes(folder)
    why_texts(folder)
    flags_apart(folder)
    numbers(folder)
    key_pairs(folder)
    odd_names(folder)
    why_requests(folder)
    why_kinds(folder)
    shares(folder)
    why_identities(folder)
    json_everywhere(folder)
    folders(folder)
    odds(folder)
    not_enforceable(folder)
    readme_examples()
