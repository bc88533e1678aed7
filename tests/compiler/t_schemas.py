"""What meshc prints and reads is what docs/schemas says; the schemas refuse what is wrong."""
import copy
import glob
import importlib.machinery
import importlib.util
import json
import os

import random_policy
from common import ROOT, SMALL, Folder, expect, skip
from t_same import settled

SCHEMAS = os.path.join(ROOT, "docs", "schemas")
INVENTORY = {"node": "n1", "workloads": [{"namespace": "shop", "name": "f", "labels": {"app": "frontend"}, "account": "frontend",
                                          "addresses": ["10.1.0.5", "fd00:1::5"], "node": "n1", "netns": "/run/netns/f", "hostNetwork": False}],
             "services": [{"namespace": "shop", "name": "ledger", "addresses": ["10.96.0.10"], "ports": [{"port": 5432, "target": 5432}]}]}


def load_validate():
    path = os.path.join(ROOT, "tests", "tools", "validate")
    loader = importlib.machinery.SourceFileLoader("validate", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("validate", loader))
    loader.exec_module(module)
    return module


def outputs():
    """(schema, value) of real output, from the dull to the odd."""
    folder = Folder()
    folder.write("p.mesh", SMALL)
    folder.write("bad.mesh", SMALL.replace("to ledger port 5432", "to ledgr"))
    folder.write("empty.mesh", "")
    folder.write("many.mesh", SMALL + ";" * 1100)
    for name in ("p", "bad", "empty", "many"):
        yield "check", json.loads(folder.run("check", "--format=json", f"{name}.mesh")[1])
    for words in (["test", "p.mesh"], ["version"]):
        yield words[0], json.loads(folder.run(words[0], "--format=json", *words[1:])[1])
    folder.run("keygen", "-o", "k")
    folder.run("compile", "-k", "k", "-o", "signed", "p.mesh")
    folder.run("compile", "-o", "plain", "p.mesh")
    for name in ("signed", "plain"):
        said = json.loads(folder.run("inspect", "--format=json", name)[1])
        yield "inspect", said
        yield "manifest", said["manifest"]
    folder.write("next.mesh", SMALL.replace("deny no-world", "deny not-the-world").replace("10.96.0.10", "10.96.0.11"))
    folder.run("compile", "-o", "next", "next.mesh")
    for name, was, now in (("section", b"GPL", b"GPX"), ("byte", b"cidr office", b"cidr offiec")):
        folder.write(name, folder.read("plain").replace(was, now, 1))
    for old, new in (("plain", "next"), ("signed", "plain"), ("plain", "plain"), ("plain", "section"), ("plain", "byte")):
        yield "inspect-diff", json.loads(folder.run("inspect", "--diff", "--format=json", old, new)[1])
    for seed in range(6):
        policy = settled(folder, random_policy.make(seed, l7=True))
        requests = random_policy.http_requests(policy, seed, 150)
        requests += [{k: r[k] for k in ("from", "to", "protocol", "port")} for r in requests] + [{"from": "no-such", "to": "world", "port": 1}]
        out = folder.run("why", "--format=json", "--requests=-", "p.mesh", stdin="".join(json.dumps(r) + "\n" for r in requests))[1]
        yield from (("request", r) for r in requests)
        yield from (("why", json.loads(a)) for a in out.splitlines())
        ends = [{"rule": "default", "verdict": "deny", "protocol": "tcp", "from": {"service": s}, "to": {"service": d, "port": 80, "address": "192.0.2.1"}}
                for s in ("world", "node", "other") for d in sorted({r["to"] for r in requests})]
        out = folder.run("why", "--format=json", "--flow=-", "p.mesh", stdin="\n".join(json.dumps(e) for e in ends))[1]
        yield from (("why", json.loads(a)) for a in out.splitlines())
        yield "check", json.loads(folder.run("check", "--format=json", "p.mesh")[1])
    for old in sorted(glob.glob(os.path.join(ROOT, "tests", "golden", "diff", "*.old.mesh"))):
        yield "diff", json.loads(folder.run("diff", "--format=json", old, old.replace(".old.", ".new."))[1])
    yield "diff", json.loads(folder.run("diff", "--format=json", "p.mesh", "p.mesh")[1])
    policy = settled(folder, random_policy.make(3))
    folder.run("compile", "-o", "random", "p.mesh")
    yield "inspect", json.loads(folder.run("inspect", "--format=json", "random")[1])
    yield "inventory", INVENTORY


def spoilt(value):
    """A key more, and a key less, at the top."""
    more, out = {**value, "no-such-key": 1}, []
    out.append(more)
    for key in value:
        less = copy.deepcopy(value)
        less[key] = {"wrong": []}
        out.append(less)
    return out


def run():
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        skip("schemas", "python3-jsonschema is not installed")
        return
    validate, seen, tested = load_validate(), {}, {}
    for path in sorted(glob.glob(f"{SCHEMAS}/*.schema.json")):
        name = os.path.basename(path)[:-len(".schema.json")]
        with open(path) as file:
            schema = json.load(file)
        expect(f"schema {name}: is one", validate.validator(name) is not None and schema.get("title"))
    for name, value in outputs():
        seen.setdefault(name, []).append(value)
    for name, values in sorted(seen.items()):
        found = validate.faults(name, values)
        expect(f"schema {name}: {len(values)} real values", not found, found[:3])
        for bad in spoilt(values[0]):
            tested[name] = tested.get(name, 0) + 1
            if not validate.faults(name, [bad]):
                expect(f"schema {name}: refuses what is wrong", False, json.dumps(bad)[:300])
    verdicts = {v.get("verdict", "error") for v in seen["why"]}
    expect("schemas: every kind of answer was seen", verdicts == {"allow", "deny", "depends", "error"}, verdicts)
    expect("schemas: the wrong ones were tried", all(tested.get(n) for n in seen), tested)
