"""What is no policy, and what is a wrong one: each with its exit code, its code and its place."""
import json
import os
import random
import re
import socket
import subprocess
import time

import common
from common import HEAD, ROOT, Folder, expect
import readme


def like_bombs():
    return HEAD + "".join(f'allow p{i}: from any to h when http.path like "**{i:03}**x{i}**{i}y**";\n' for i in range(400))


# name, text, exit code of `check`, what stderr matches
POLICIES = [
    ("empty", "", 1, r"M0101"),
    ("comments alone", "# nothing\n", 1, r"M0101"),
    ("no namespace", 'mesh m: trust "t", ingress deny, egress deny;\nservice s { tcp 1; }\n', 1, r"^bad\.mesh:2:1: error\[M0102\]"),
    ("two meshes", HEAD + 'mesh n: trust "t", ingress deny, egress deny;\n', 1, r"^bad\.mesh:5:6: error\[M0101\]"),
    ("header without egress", 'mesh m: trust "t", ingress deny;\n', 1, r"^bad\.mesh:1:\d+: error\[M0101\].*egress"),
    ("unknown service", HEAD + "allow r: from t to h;\n", 1, r"^bad\.mesh:5:15: error\[M0104\].*'t'"),
    ("did you mean", HEAD + "service frontend { tcp 1; }\nallow r: from frontent to s;\n", 1, r"^bad\.mesh:6:15: error\[M0104\](?s:.*)replace with 'frontend'"),
    ("unknown subset", HEAD + "route s { split v9 1; }\n", 1, r"^bad\.mesh:5:\d+: error\[M0104\].*v9"),
    ("unknown rule in a test", HEAD + 'test "t" { expect allow by r: from h to s; }\n', 1, r"^bad\.mesh:5:\d+: error\[M0104\]"),
    ("duplicate rule", HEAD + "allow r: from h to s;\ndeny r: from s to h;\n", 1, r"^bad\.mesh:6:6: error\[M0103\](?s:.*)5 \| allow r"),
    ("duplicate never", HEAD + 'never "n": from world to s;\nnever "n": from world to h through any;\n', 1, r"^bad\.mesh:6:7: error\[M0103\](?s:.*)5 \| never \"n\""),
    ("duplicate test", HEAD + 'test "t" { expect deny: from h to s; }\ntest "t" { expect deny: from s to s; }\n', 1, r"^bad\.mesh:6:6: error\[M0103\](?s:.*)5 \| test \"t\""),
    ("a never, a test and a rule of one name", HEAD + 'allow n: from h to s;\nnever "n": from world to s;\ntest "n" { expect deny: from s to s; }\n', 0, ""),
    ("duplicate service", HEAD + "service s { tcp 81; }\n", 1, r"^bad\.mesh:5:9: error\[M0103\]"),
    ("cidr named as a service", HEAD + "cidr s = 10.0.0.0/8;\n", 1, r"^bad\.mesh:5:6: error\[M0103\]"),
    ("rule named default", HEAD + "allow default: from h to s;\n", 1, r"^bad\.mesh:5:7: error\[M0106\]"),
    ("rule named self", HEAD + "allow self: from h to s;\n", 1, r"^bad\.mesh:5:7: error\[M0106\]"),
    ("weights of 0", HEAD + "route s { split 0; }\n", 1, r"^bad\.mesh:5:11: error\[M0208\]"),
    ("weight too large", HEAD + "route s { split 99999999999999999999; }\n", 1, r"^bad\.mesh:5:\d+: error\[M0003\]"),
    ("negative weight", HEAD + "route s { split -1; }\n", 1, r"^bad\.mesh:5:\d+: error\[M00"),
    ("route without a last arm", HEAD + "route s { when tcp.port == 80 split 1; }\n", 1, r"^bad\.mesh:5:11: error\[M0211\]"),
    ("port 0", HEAD + "service t { tcp 0; }\n", 1, r"^bad\.mesh:5:17: error\[M0205\]"),
    ("port 65536", HEAD + "service t { tcp 65536; }\n", 1, r"^bad\.mesh:5:17: error\[M0205\]"),
    ("port past 64 bits", HEAD + "service t { tcp 18446744073709551617; }\n", 1, r"^bad\.mesh:5:17: error\[M0003\]"),
    ("port past 32 bits", HEAD + "deny r: from h to s port 4294967376;\n", 1, r"^bad\.mesh:5:26: error\[M0003\]"),
    ("range upside down", HEAD + "deny r: from h to s port 90..80;\n", 1, r"^bad\.mesh:5:26: error\[M0205\]"),
    ("undeclared port", HEAD + "allow r: from h to s port 81;\n", 1, r"^bad\.mesh:5:27: error\[M0206\]"),
    ("port in a condition", HEAD + "allow r: from h to s when tcp.port == 70000;\n", 1, r"^bad\.mesh:5:\d+: error\[M0205\]"),
    ("prefix of 33", HEAD + "cidr c = 10.0.0.0/33;\n", 1, r"^bad\.mesh:5:10: error\[M0201\]"),
    ("five numbers", HEAD + "cidr c = 10.0.0.0.0/8;\n", 1, r"^bad\.mesh:5:\d+: error\[M0"),
    ("no octet", HEAD + "cidr c = 10.0.0.256/32;\n", 1, r"^bad\.mesh:5:10: error\[M0201\]"),
    ("host bits", HEAD + "cidr c = 10.0.0.1/8;\n", 1, r"^bad\.mesh:5:10: error\[M0202\](?s:.*)10\.0\.0\.0/8"),
    ("host bits of v6", HEAD + "cidr c = 2001:db8::1/32;\n", 1, r"^bad\.mesh:5:10: error\[M0202\]"),
    ("mapped", HEAD + "cidr c = ::ffff:10.0.0.0/104;\n", 1, r"^bad\.mesh:5:10: error\[M0203\]"),
    ("except outside", HEAD + "cidr c = 10.0.0.0/8 except 11.0.0.0/16;\n", 1, r"^bad\.mesh:5:28: error\[M0204\]"),
    ("IPv4 is not inside ::/0", HEAD + "cidr c = ::/0 except 10.0.0.0/8;\n", 1, r"^bad\.mesh:5:22: error\[M0204\]"),
    *[(f"a service at {a}", HEAD + f"service t {{ address {a}; tcp 1; }}\n", 1, rf"^bad\.mesh:5:21: error\[M0201\]: '{a}' is {why}") for a, why in [
        ("127.0.0.1", "loopback"), ("127.255.0.9", "loopback"), ("0.0.0.0", "unspecified"), ("0.1.2.3", "unspecified"), ("169.254.169.254", "link-local"),
        ("224.0.0.1", "multicast"), ("239.255.255.255", "multicast"), ("255.255.255.255", "broadcast"), ("::", "unspecified"), ("::1", "loopback"),
        ("fe80::1", "link-local"), ("febf::1", "link-local"), ("ff02::1", "multicast")]],
    *[(f"a service at {a}", HEAD + f"service t {{ address {a}; tcp 1; }}\n", 0, "") for a in
      ("126.255.255.255", "128.0.0.1", "1.0.0.0", "169.253.255.255", "169.255.0.0", "223.255.255.255", "240.0.0.1", "255.255.255.254", "::2", "fec0::1", "fe7f::1")],
    *[(f"cidr {a}", HEAD + f"cidr c = {a};\n", 1, rf"^bad\.mesh:5:10: error\[M0201\]: '{a}' is {why}") for a, why in [
        ("127.0.0.0/8", "loopback"), ("127.0.0.1/32", "loopback"), ("0.0.0.0/8", "unspecified"), ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"), ("::1/128", "loopback"), ("ff00::/8", "multicast"), ("fe80::/10", "link-local")]],
    *[(f"cidr {a}", HEAD + f"cidr c = {a};\n", 0, "") for a in
      ("0.0.0.0/0", "0.0.0.0/1", "::/0", "::/1", "224.0.0.0/3", "169.254.0.0/16", "fe80::/9", "0.0.0.0/0 except 127.0.0.0/8, 224.0.0.0/4")],
    *[(f"external {a}", HEAD + f"external e {{ cidr {a}; tcp 1; }}\n", code, message) for a, code, message in [
        ("169.254.169.254/32", 0, ""), ("224.0.0.251/32", 0, ""), ("255.255.255.255/32", 0, ""), ("ff02::fb/128", 0, ""),
        ("127.0.0.1/32", 1, r"^bad\.mesh:5:19: error\[M0201\]: '127.0.0.1/32' is loopback"), ("::/128", 1, r"M0201\]: '::/128' is unspecified")]],
    *[(f"nothing left of {c}", HEAD + f"cidr c = {c};\n", 1, rf"^bad\.mesh:5:{column}: error\[M0108\].*'c'") for c, column in [
        ("10.0.0.0/8 except 10.0.0.0/8", 28), ("10.0.0.0/8 except 10.128.0.0/9, 10.0.0.0/9", 28), ("::/0 except ::/1, 8000::/1", 22),
        ("10.0.0.0/8, 10.1.0.0/16 except 10.0.0.0/8", 41), ("0.0.0.0/0, 2001:db8::/32 except 2001:db8::/32, 0.0.0.0/0", 42)]],
    ("nothing left of an external's block", HEAD + "external e { cidr 10.0.0.0/8; cidr 11.0.0.0/8 except 11.0.0.0/8; tcp 1; }\n", 1,
     r"^bad\.mesh:5:54: error\[M0108\].*'e'"),
    *[(f"something left of {c}", HEAD + f"cidr c = {c};\n", 0, "") for c in
      ("10.0.0.0/8 except 10.128.0.0/9, 10.0.0.0/10", "10.0.0.0/8, 11.0.0.0/8 except 10.0.0.0/8", "10.0.0.0/31 except 10.0.0.0/32", "::/0 except ::/1, 8000::/2")],
    ("group in a circle", HEAD + "group x = y;\ngroup y = x;\n", 1, r"^bad\.mesh:[56]:7: error\[M0107\]"),
    ("external as a source", HEAD + "external e { cidr 1.0.0.0/8; tcp 1; }\nallow r: from e to s;\n", 1, r"^bad\.mesh:6:15: error\[M0105\]"),
    ("node as a destination", HEAD + "allow r: from s to node;\n", 1, r"^bad\.mesh:5:20: error\[M0213\]"),
    ("http field on tcp", HEAD + 'allow r: from h to s when http.method == "GET";\n', 1, r"^bad\.mesh:5:27: error\[M0214\]"),
    ("unknown field", HEAD + 'allow r: from s to h when http.metod == "GET";\n', 1, r"^bad\.mesh:5:27: error\[M0214\](?s:.*)http\.method"),
    ("like on a port", HEAD + 'allow r: from s to h when tcp.port like "8";\n', 1, r"^bad\.mesh:5:27: error\[M0215\]"),
    ("path that is no path", HEAD + 'allow r: from s to h when http.path == "/%zz";\n', 1, r"^bad\.mesh:5:\d+: error\[M0216\]"),
    ("contradiction", HEAD + "allow r: from s to h when tcp.port == 80 and tcp.port == 81;\n", 1, r"^bad\.mesh:5:1: error\[M0603\]"),
    ("backreference", HEAD + 'allow r: from s to h when http.path matches "(a)\\1";\n', 1, r"^bad\.mesh:5:\d+: error\[M0605\]"),
    ("open bracket", HEAD + 'allow r: from s to h when http.path matches "[a";\n', 1, r"^bad\.mesh:5:\d+: error\[M0605\]"),
    ("pattern past 8,192 states", HEAD + 'allow r: from s to h when http.path matches ".*a.{16}";\n', 1, r"^bad\.mesh:5:\d+: error\[M0605\].*bound"),
    ("repetition of repetition", HEAD + 'allow r: from s to h when http.path matches "((a{1000}){1000}){1000}";\n', 1, r"^bad\.mesh:5:\d+: error\[M0605\]"),
    ("field past 8 automata", like_bombs(), 1, r"^bad\.mesh:\d+:\d+: error\[M0605\].*bound"),
    ("string past 4096 bytes", HEAD + f'allow r: from s to h when http.path like "/{"a" * 5000}";\n', 1, r"^bad\.mesh:5:\d+: error\[M0003\]"),
    ("split past 64 shares", HEAD + "service t { tcp 1; " + "".join(f"subset v{i} = v == \"{i}\"; " for i in range(70)) + "}\nroute t { split " +
     ", ".join(f"v{i} 1" for i in range(70)) + "; }\n", 1, r"^bad\.mesh:6:\d+: error\[M0211\]"),
    ("block past 1024 statements", HEAD + "service t { " + "".join(f"tcp {i}; " for i in range(1, 1100)) + "}\n", 1, r"^bad\.mesh:5:\d+: error\[M0601\]"),
    ("parentheses 100,000 deep", HEAD + "allow r: from s to h when " + "(" * 100000 + "tcp.port == 80" + ")" * 100000 + ";\n", 1, r"^bad\.mesh:5:\d+: error\[M0002\]"),
    ("not 100,000 times", HEAD + "allow r: from s to h when " + "not " * 100000 + "tcp.port == 80;\n", 1, r"^bad\.mesh:5:\d+: error\[M0002\]"),
    ("and 100,000 times", HEAD + "allow r: from s to h when tcp.port == 80" + " and tcp.port == 80" * 100000 + ";\n", 1, r"^bad\.mesh:5:\d+: error\[M0002\]"),
    ("groups 5,000 deep", HEAD + "".join(f"group g{i} = g{i + 1};\n" for i in range(5000)) + "group g5000 = s;\n", 1, r"^bad\.mesh:\d+:\d+: error\[M0002\]"),
    ("brackets in a pattern 4,000 deep", HEAD + f'allow r: from s to h when http.path matches "{"(" * 2000}a{")" * 2000}";\n', 1, r"^bad\.mesh:5:\d+: error\[M0605\]"),
    ("string without an end", HEAD + 'identity i = "spiffe://t/x;\n', 1, r"^bad\.mesh:5:\d+: error\[M0003\]"),
    ("every error at once", HEAD + "allow a: from x to s;\nallow b: from s to y;\nallow c: from z to s;\n", 1,
     r"(?s)^bad\.mesh:5:15.*^bad\.mesh:6:20.*^bad\.mesh:7:15"),
    ("mtls past its date", HEAD + 'mtls permissive until "2020-01-01";\n', 1, r"^bad\.mesh:5:23: error\[M0209\]"),
    ("30 February", HEAD + 'mtls permissive until "2030-02-30";\n', 1, r"^bad\.mesh:5:23: error\[M0209\]"),
    ("world to a strict port", HEAD + "mtls strict;\nallow r: from world to s;\n", 1, r"^bad\.mesh:6:15: error\[M0213\]"),
    ("NUL in the text", b"mesh m\x00: trust", 2, r"UTF-8"),
    ("binary", bytes(range(256)) * 50, 2, r"UTF-8"),
    ("UTF-16", HEAD.encode("utf-16"), 2, r"UTF-8"),
    ("a UTF-8 name without quotes", HEAD + "service é { tcp 1; }\n", 1, r"^bad\.mesh:5:9: error\[M0003\]: a name with other letters.*\n.*\n.*\n1 error"),
    ("100 MB", b"# a comment\n" * (100 * 1000 * 1000 // 12), 2, r"16 MiB"),
]


HIDDEN = [0x1, 0x8, 0x1b, 0x7f, 0x85, 0xad, 0x61c, 0x200b, 0x200d, 0x200e, 0x2028, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2060, 0x2066, 0x2067, 0x2068, 0x2069, 0xfeff, 0xe0041]
PLACES = {"a comment": (HEAD + "# a@b\n", 5, 4), "a string": (HEAD + 'allow r: from s to h when http.path == "/a@b";\n', 5, 43), "a name": (HEAD + "service t@ { tcp 1; }\n", 5, 10)}


def hidden():
    """What is read is what is meant: nothing hides, and no message prints what would hide."""
    folder = Folder()
    for code in HIDDEN:
        for where, (text, line, column) in PLACES.items():
            folder.write("bad.mesh", text.replace("@", chr(code)))
            for verb in ("check", "fmt"):
                got, out, err = folder.run(verb, "bad.mesh")
                expect(f"{verb}: U+{code:04X} in {where}", got == 1 and err.startswith(f"bad.mesh:{line}:{column}: error[M0003]: U+{code:04X} ") and
                       chr(code) not in out + err and err.count("error[") == 1, f"exit {got} {err!r}")
    for name, text in [("CRLF", HEAD.replace("\n", "\r\n")), ("joined letters", HEAD + "# \u0646\u200c\u0627 \U0001f469\u200d\U0001f4bb \u26a0\ufe0f\n"), ("tabs", HEAD.replace(" ", "\t"))]:
        code, _, err = folder.run("check", "-", stdin=text)
        expect(f"check: {name}", code == 0, err)
    code, _, err = folder.run("check", "-", stdin=HEAD + "# fine\rallow r: from s to h;\n")
    expect("check: a carriage return that ends no line", code == 1 and "-:5:7: error[M0003]: U+000D" in err, err)


def byte_order_mark():
    folder = Folder()
    text = folder.run("fmt", "-", stdin=HEAD)[1].encode()
    folder.write("bom.mesh", b"\xef\xbb\xbf" + text)
    code, _, err = folder.run("check", "bom.mesh")
    expect("check: a byte order mark", code == 0, err)
    code, _, err = folder.run("check", "-", stdin=b"\xef\xbb\xbfmsh")
    expect("check: a byte order mark has no columns", err.startswith("-:1:1: error[M0001]: 'msh'"), err)
    code, _, err = folder.run("check", "-", stdin=b"\xef\xbb\xbf\xef\xbb\xbf" + text)
    expect("check: two byte order marks", code == 1 and err.startswith("-:1:1: error[M0003]: U+FEFF"), err)
    expect("fmt --check: the canonical text has none", folder.run("fmt", "--check", "bom.mesh")[:2] == (1, "bom.mesh\n"))
    expect("fmt --diff: a byte order mark goes", "\n-\ufeffmesh" in folder.run("fmt", "--diff", "bom.mesh")[1])
    folder.run("fmt", "-w", "bom.mesh")
    expect("fmt -w: a byte order mark goes", folder.read("bom.mesh") == text, folder.read("bom.mesh")[:40])


def long_names():
    folder = Folder()
    for count, wants in ((253, 0), (254, 1), (100000, 1)):
        name = "a" * count
        code, _, err = folder.run("check", "-", stdin=HEAD + f"service {name} {{ tcp 1; }}\nallow r: from {name} to s;\n")
        expect(f"a name of {count} bytes", code == wants and err.count("error[") == 2 * wants and
               (not wants or f"-:5:9: error[M0003]: a name of {count} bytes: more than 253" in err), err[:500])


# declaration, column, what may come there, what was meant
MISSPELT = [
    ("allow r: form s to h;", 10, "'from'", "from"), ("allow r: from s too h;", 17, "'to', 'except', ',' or '/'", "to"),
    ("alow r: from s to h;", 1, "the end of the text, 'namespace', 'mesh', 'deny', 'allow',", "allow"), ("allow r from s to h;", 9, "':'", None),
    ("service t { workloat app == \"x\"; }", 13, "'ingress', 'identity', 'workload',", "workload"), ("mtls strct;", 6, "'strict', 'permissive' or 'off'", "strict"),
    ("mtls permissive untl \"2030-01-01\";", 17, "'for', 'until' or 'port'", "until"), ("group g = ;", 11, "a name\n", None),
    ("allow from: from s to h;", 7, "a name; a reserved word is a name only in quotes", None), ("route s { splt 100; }", 11, "'from', 'when', 'split', 'sticky' or '}'", "split"),
    ("allow r: from s to h whn tcp.port == 80;", 22, "'when', 'except', 'port', ';', ',' or '/'", "when"),
    ("allow r: for s to h;", 10, "'from'", None), ("test \"t\" { expect allow bye r: from s to h; }", 25, "'by' or ':'", "by"),
    ("allow r: from s to h when tcp.port === 80;", 38, "a name or a number", None)]


def misspelt():
    """What may come is said, and of that alone what was meant."""
    folder = Folder()
    for text, column, expected, meant in MISSPELT:
        code, _, err = folder.run("check", "-", stdin=HEAD + text + "\n")
        fix = re.search(r"^fix \(perhaps\): replace with '(.*)'$", err, re.M)
        expect(f"misspelt: {text}", code == 1 and err.startswith(f"-:5:{column}: error[M0001]") and f"\nnote: expected {expected}" in err and
               (fix.group(1) if fix else None) == meant, err)


def policies():
    for name, text, code, message in POLICIES:
        folder = Folder()
        folder.write("bad.mesh", text)
        got, out, err = folder.run("check", "--now=2026-06-01", "bad.mesh")
        if expect(f"bad input: {name}", got == code and re.search(message, err, re.M), f"exit {got}, {err[:300]!r}"):
            continue


def files():
    folder = Folder()
    folder.write("good.mesh", HEAD)
    folder.write("folder/readme.txt", "no policy")
    os.mkdir(folder.path + "/bare")
    for name, words, message in [
            ("absent", ["absent.mesh"], "absent.mesh: No such file"), ("folder without policy", ["folder"], "no .mesh file"),
            ("empty folder", ["bare"], "no .mesh file"), ("nothing named", [], "which policy"),
            ("one of two is absent", ["good.mesh", "absent.mesh"], "absent.mesh")]:
        for verb in ("check", "compile", "test", "fmt"):
            code, _, err = folder.run(verb, *words)
            expect(f"{verb}: {name}", code == 2 and message in err, f"exit {code}, {err[:200]!r}")
    if os.geteuid() != 0:
        folder.write("shut.mesh", HEAD)
        os.chmod(folder.path + "/shut.mesh", 0)
        code, _, err = folder.run("check", "shut.mesh")
        expect("check: unreadable", code == 2 and "Permission" in err, err)
    folder.write("links/x.mesh", HEAD)
    os.symlink("nowhere", folder.path + "/links/other")
    expect("check: a link to nowhere that is no policy", folder.run("check", "links")[0] == 0)
    os.symlink("nowhere", folder.path + "/links/y.mesh")
    code, _, err = folder.run("check", "links")
    expect("check: a policy that is a link to nowhere", code == 2 and "links/y.mesh: a link to nowhere" in err, f"exit {code}, {err[:200]!r}")
    os.symlink(".", folder.path + "/folder/again")
    folder.write("folder/x.mesh", HEAD)
    code, _, err = folder.run("check", "folder")
    expect("check: a folder in itself", code == 2 and "deep" in err, f"exit {code}, {err[:200]!r}")


def odd_files():
    """What is no regular file is refused by its name, at once: nobody writes into that pipe."""
    folder = Folder()
    folder.write("policies/good.mesh", HEAD)
    os.mkfifo(folder.path + "/policies/p.mesh")
    with socket.socket(socket.AF_UNIX) as listener:
        os.mkdir(folder.path + "/socket")
        here = os.getcwd()
        os.chdir(folder.path)
        listener.bind("socket/p.mesh")
        os.chdir(here)
        for name, path, shown in [("a FIFO in a folder", "policies", "policies/p.mesh"), ("a FIFO", "policies/p.mesh", "policies/p.mesh"),
                                  ("a socket", "socket", "socket/p.mesh"), ("a device", "/dev/null", "/dev/null")]:
            for verb in ("check", "fmt", "compile"):
                code, _, err = folder.run(verb, path)
                expect(f"{verb}: {name}", code == 2 and err.startswith(f"meshc: {shown}: this is no regular file"), f"exit {code}, {err[:200]!r}")
    code, _, err = folder.run("check", "/dev/stdin", stdin=HEAD)
    expect("check /dev/stdin: a pipe that the caller opened", code == 0, err)
    done = subprocess.run(["bash", "-c", f"'{common.meshc}' check <(sleep 0.2; cat policies/good.mesh)"], cwd=folder.path, capture_output=True, timeout=60)
    expect("check <(...): a pipe that the shell opened", done.returncode == 0, done.stderr)


def broken_texts():
    """Truncated and damaged text is refused or fine, never a crash, and each error has its place."""
    text, rng = readme.blocks()[0].encode(), random.Random(1)
    cuts = [text[:i] for i in range(1, len(text), 41)]
    noise = []
    for _ in range(150):
        bad = bytearray(text)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(bad))
            bad[at:at + rng.choice([0, 1, 1, 20])] = rng.choice([b"", b";", b"}", b"{", b'"', b"(", b"99999", b"except", bytes([rng.randrange(32, 127)])])
        noise.append(bytes(bad))
    folder = Folder()
    for kind, texts in (("truncated", cuts), ("damaged", noise)):
        wrong = []
        for bad in texts:
            folder.write("bad.mesh", bad)
            code, _, err = folder.run("check", "--now=2026-06-01", "bad.mesh")
            heads = [line for line in err.splitlines() if "error[" in line]
            if code not in (0, 1) or (code == 1) != bool(heads) or any(not re.match(r"bad\.mesh:\d+:\d+: ", h) for h in heads):
                wrong.append((code, err[:200], bad[-80:]))
        expect(f"{len(texts)} {kind} policies", not wrong, wrong[:2])


def many_errors():
    """The first thousand are shown, the others counted; standard error is written at one blow."""
    folder = Folder()
    head = HEAD + 'mtls off because "x";\n'
    for name, text, count in [("a line", ";" * 300000, 300000), ("lines", ";\n" * 300000, 300000), ("a thousand", ";" * 1000, 1000), ("one more", ";" * 1001, 1001)]:
        folder.write("many.mesh", head + text + "\n")
        began = time.time()
        code, out, err = folder.run("check", "many.mesh")
        left_out = count - 1000
        tail = [f"and {left_out} more error{'s' if left_out > 1 else ''}"] * (left_out > 0) + [f"{count} errors, 0 warnings"]
        expect(f"{name} of errors: a thousand are shown", code == 1 and not out and err.count(": error[") == 1000 and err.splitlines()[-len(tail):] == tail, err[-200:])
        expect(f"{name} of errors: in a moment", time.time() - began < 10, time.time() - began)
    said = json.loads(folder.run("check", "--format=json", "many.mesh")[1])
    expect("many errors: JSON", len(said["findings"]) == 1000 and said["left_out"] == 1, said["left_out"])
    log = json.loads(folder.run("check", "--format=sarif", "many.mesh")[1])["runs"][0]
    notes = log["invocations"][0]["toolExecutionNotifications"]
    expect("many errors: SARIF", len(log["results"]) == 1000 and [n["message"]["text"] for n in notes] == ["and 1 more error"], notes)
    lines = folder.run("check", "--format=github", "many.mesh")[1].splitlines()
    expect("many errors: github", len(lines) == 1001 and lines[-1] == "::error ::and 1 more error", lines[-1])
    expect("one error: none is left out", json.loads(folder.run("check", "--format=json", "-", stdin=";")[1])["left_out"] == 0)
    for verb in ("compile", "test", "fmt"):
        code, _, err = folder.run(verb, "many.mesh")
        expect(f"many errors: {verb}", code == 1 and err.endswith("\nand 1 more error\n"), err[-100:])


def deep_folders():
    folder = Folder()
    deep = "/".join("d" * 20)
    folder.write(f"d/{deep}/p.mesh", "x")
    code, _, err = folder.run("check", "d")
    path = "d/" + "/".join("d" * 17)
    expect("folders too deep: which, and what to do", code == 2 and err.startswith(f"meshc: {path}: folders nested too deep, more than 16 within") and "name the folder" in err, err)
    os.symlink("loop.mesh", os.path.join(folder.path, "loop.mesh"))
    code, _, err = folder.run("check", "loop.mesh")
    expect("a link to itself is told as such", code == 2 and "symbolic links" in err, err)


def run():
    policies()
    many_errors()
    deep_folders()
    misspelt()
    hidden()
    byte_order_mark()
    long_names()
    files()
    odd_files()
    broken_texts()
