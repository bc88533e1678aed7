"""check --format sarif|github and --fix: the published SARIF schema, stable fingerprints, fixes that stay."""
import glob
import json
import os
import shutil
import string
import subprocess
import tarfile
import urllib.parse

from common import HEAD, ROOT, Folder, expect, skip

SCHEMA = "package/lib/schemas/sarif-2.1.0-rtm.5.json"


def published_schema(folder):
    """The schema as OASIS published it, from a package that carries it."""
    if not shutil.which("npm"):
        return None
    packed = subprocess.run(["npm", "pack", "--silent", "@microsoft/jest-sarif@1.0.0-beta.0"], cwd=folder.path,
                            capture_output=True, text=True, timeout=60)
    if packed.returncode:
        return None
    with tarfile.open(os.path.join(folder.path, packed.stdout.split()[-1])) as package:
        return json.load(package.extractfile(SCHEMA))


def sarif(folder, *arguments):
    code, out, err = folder.run("check", "--format", "sarif", "--now", "2026-06-01", *arguments)
    return code, json.loads(out)


def check_schema(folder):
    schema = published_schema(folder)
    if schema is None:
        skip("sarif: the published schema", "npm or its package cannot be had")
        return
    import jsonschema
    validator = jsonschema.Draft7Validator(schema)
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "errors", "M*.mesh"))):
        _, log = sarif(folder, path)
        faults = [error.message for error in validator.iter_errors(log)]
        name = os.path.basename(path)
        expect(f"sarif of {name} is of the schema", not faults, str(faults[:2]))


def check_fingerprints(folder):
    rule = 'allow r: from s to h when http.pth == "/";\n'
    folder.write("a.mesh", HEAD + rule)
    code, first = sarif(folder, "a.mesh")
    folder.write("a.mesh", "# moved\n\n" + HEAD + "# a line more\n" + rule)
    _, moved = sarif(folder, "a.mesh")
    errors = [[r for r in log["runs"][0]["results"] if r["level"] == "error"] for log in (first, moved)]
    expect("sarif: exit 1 with an error", code == 1)
    expect("sarif: one error", [len(e) for e in errors] == [1, 1], str(errors))
    marks = [e[0]["partialFingerprints"] for e in errors]
    expect("sarif: a fingerprint outlives other lines", marks[0] == marks[1], str(marks))
    places = [e[0]["locations"][0]["physicalLocation"]["region"]["startLine"] for e in errors]
    expect("sarif: the place moves", places[1] == places[0] + 3, str(places))
    folder.write("a.mesh", HEAD + rule.replace("pth", "hots"))
    _, other = sarif(folder, "a.mesh")
    found = [r["partialFingerprints"] for r in other["runs"][0]["results"] if r["level"] == "error"]
    expect("sarif: another finding has another fingerprint", found[0] != marks[0])
    rules = first["runs"][0]["tool"]["driver"]["rules"]
    expect("sarif: ruleIndex leads to the rule", rules[errors[0][0]["ruleIndex"]]["id"] == errors[0][0]["ruleId"])


def check_uri(folder):
    """RFC 3986: what is not of a name's plain letters is percent-encoded, and reads back the same."""
    for name in ("we,ird:name %.mesh", "d é/a+b#?.mesh", "plain-1_2.~/x.mesh"):
        folder.write(name, HEAD + 'allow r: from s to h when http.pth == "/";\n')
        _, log = sarif(folder, name)
        errors = [r for r in log["runs"][0]["results"] if r["level"] == "error"]
        uris = {errors[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], errors[0]["fixes"][0]["artifactChanges"][0]["artifactLocation"]["uri"]}
        uri = min(uris)
        expect(f"sarif: uri of '{name}'", len(uris) == 1 and urllib.parse.unquote(uri) == name and set(uri) <= set(string.ascii_letters + string.digits + "-._~/%"), uris)
    expect("sarif: a plain name stays", uri == name, uri)


def check_github(folder):
    folder.write("odd:name,x.mesh", HEAD + 'allow r: from s to h when http.pth == "/";\n')
    code, out, _ = folder.run("check", "--format", "github", "odd:name,x.mesh")
    expect("github: exit 1", code == 1)
    expect("github: escaped", out.startswith("::error file=odd%3Aname%2Cx.mesh,line=5,col=27,title=M0214::") or
           "::error file=odd%3Aname%2Cx.mesh,line=5,col=27,title=M0214::" in out, out)


def check_fix(folder):
    folder.write("f.mesh", HEAD + 'allow r: from s to h when http.pth == "/" and http.metod == "GET";\n')
    code, _, err = folder.run("check", "--fix", "f.mesh")
    text = folder.read("f.mesh").decode()
    expect("fix: exit 0 when all is mended", code == 0, err)
    expect("fix: both are made", 'http.path == "/" and http.method == "GET"' in text and "2 fixes made" in err, text + err)
    before = HEAD + "allow r: from t to h;\n"
    folder.write("g.mesh", before)
    code, _, _ = folder.run("check", "--fix", "g.mesh")
    expect("fix: what is not sure stays", code == 1 and folder.read("g.mesh").decode() == before)


def run():
    folder = Folder()
    check_schema(folder)
    check_fingerprints(folder)
    check_uri(folder)
    check_github(folder)
    check_fix(folder)
