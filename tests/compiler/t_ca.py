"""meshd ca: what it makes is what openssl takes; nobody else may read it; it goes on with what is there."""
import json
import os
import stat
import subprocess

import common
from common import Folder, expect, skip
from t_schemas import load_validate

FRONTEND = "spiffe://shop.example/ns/shop/sa/frontend"
LEDGER = "spiffe://shop.example/ns/shop/sa/ledger"


class Authority(Folder):
    def ca(self, *words):
        """(exit code, answer or None, stderr)"""
        meshd = os.path.join(os.path.dirname(common.meshc), "meshd")
        done = subprocess.run([meshd, "ca", "ca", "--format=json", *words], cwd=self.path, capture_output=True, text=True, timeout=60)
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    def openssl(self, *words):
        done = subprocess.run(["openssl", *words], cwd=self.path, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def verify(self, name, *words):
        return self.openssl("verify", "-x509_strict", "-CAfile", "ca/bundle/shop.example.pem", *words, f"ca/{name}/tls.crt")


def issue(folder):
    code, said, talk = folder.ca("--trust", "shop.example", "--id", FRONTEND, f"--id={LEDGER}")
    expect("ca: issues", code == 0 and [one["id"] for one in said["issued"]] == [FRONTEND, LEDGER], (code, said, talk))
    expect("ca: is loud", "NOT FOR PRODUCTION" in talk, talk)
    for name in ("shop.frontend", "shop.ledger"):
        for purpose in ("sslclient", "sslserver"):
            code, out = folder.verify(name, "-purpose", purpose)
            expect(f"ca: openssl verifies {name} as {purpose}", code == 0, out)
    out = folder.openssl("x509", "-in", "ca/shop.ledger/tls.crt", "-noout", "-ext", "subjectAltName,keyUsage,basicConstraints")[1]
    expect("ca: one URI, digital signature, no authority",
           out.count("URI:") == 1 and f"URI:{LEDGER}\n" in out and "Digital Signature\n" in out and "CA:FALSE" in out, out)
    of_key = folder.openssl("pkey", "-in", "ca/shop.ledger/tls.key", "-pubout")[1]
    of_certificate = folder.openssl("x509", "-in", "ca/shop.ledger/tls.crt", "-noout", "-pubkey")[1]
    expect("ca: key and certificate match", of_key == of_certificate and "PUBLIC KEY" in of_key, of_key)
    return said


def modes(folder):
    wrong = []
    for where, folders, files in os.walk(os.path.join(folder.path, "ca")):
        for name in folders + files:
            path = os.path.join(where, name)
            mode = os.lstat(path)
            if not stat.S_ISLNK(mode.st_mode) and mode.st_mode & 0o077:
                wrong.append((path, oct(mode.st_mode)))
    expect("ca: only its owner reads anything", not wrong, wrong)


def again(folder, first):
    before = folder.read("ca/ca.crt"), folder.read("ca/shop.ledger/tls.crt")
    code, said, talk = folder.ca("--id", FRONTEND, "--seconds", "90")
    expect("ca: goes on with the authority that is there, without --trust", code == 0 and said["trust"] == "shop.example", talk)
    expect("ca: what was not named stays", (folder.read("ca/ca.crt"), folder.read("ca/shop.ledger/tls.crt")) == before)
    expect("ca: another serial number", said["issued"][0]["serial"] != first["issued"][0]["serial"], said)
    expect("ca: valid for 90 seconds", folder.openssl("x509", "-in", "ca/shop.frontend/tls.crt", "-noout", "-checkend", "95")[0] == 1
           and folder.openssl("x509", "-in", "ca/shop.frontend/tls.crt", "-noout", "-checkend", "60")[0] == 0)
    left = sorted(os.listdir(os.path.join(folder.path, "ca", "shop.frontend")))
    expect("ca: nothing of the last generation is left", len(left) == 4 and left[1:] != left and left[2:] == ["tls.crt", "tls.key"], left)


def revoke(folder):
    checked = ("-crl_check", "-CRLfile", "ca/bundle/shop.example.crl.pem")
    code, said, talk = folder.ca("--revoke", FRONTEND)
    expect("ca: revokes what lies there", code == 0 and len(said["revoked"]) == 1 and said["crl"] == "ca/bundle/shop.example.crl.pem", talk)
    code, out = folder.verify("shop.frontend", *checked)
    expect("ca: openssl takes the list", code != 0 and "certificate revoked" in out, out)
    expect("ca: others are not revoked", folder.verify("shop.ledger", *checked)[0] == 0)
    serial = folder.openssl("x509", "-in", "ca/shop.ledger/tls.crt", "-noout", "-serial")[1].strip().split("=")[1]
    code, said, talk = folder.ca("--revoke", serial.lower(), "--id", LEDGER)
    expect("ca: revokes by serial number, then issues", code == 0 and said["revoked"] == [serial] and folder.verify("shop.ledger", *checked)[0] == 0, talk)
    out = folder.openssl("crl", "-in", "ca/bundle/shop.example.crl.pem", "-noout", "-text")[1]
    expect("ca: what was revoked stays so", out.count("Serial Number:") == 2 and "CRL Number" in out, out)


def refuse(folder):
    cases = [
        (["--id", "spiffe://other.example/ns/a/sa/b"], "not of the trust domain shop.example"),
        (["--id", "spiffe://shop.example"], "is no SPIFFE ID"),
        (["--id", "spiffe://shop.example/a,URI:spiffe://shop.example/b"], "is no SPIFFE ID"),
        (["--id", "spiffe://shop.example/ns/x/../y"], "is no SPIFFE ID"),
        (["--trust", "other.example"], "is of the trust domain shop.example, not of other.example"),
        (["--trust", "Shop.example"], "is no trust domain"),
        (["--days", "0"], "a whole number from 1"),
        (["--days", "1", "--seconds", "1"], "a whole number from 1"),
        (["--days", "9999"], "a whole number from 1"),
        (["--seconds", "-5"], "a whole number from 1"),
        (["--revoke", "spiffe://shop.example/ns/shop/sa/nobody"], "no certificate of it lies in ca"),
        (["--revoke", "xyz"], "neither a SPIFFE ID nor a serial number"),
        (["--id", "spiffe://shop.example/shop/frontend"], f"ca/shop.frontend is the folder of {FRONTEND}"),
        (["--verdict", "deny"], "unknown flag '--verdict'"),
        (["more"], "what is 'more' for?"),
    ]
    before = folder.read("ca/bundle/shop.example.crl.pem")
    for words, reason in cases:
        code, said, talk = folder.ca(*words)
        expect(f"ca: refuses {' '.join(words)}", code == 2 and said is None and reason in talk, (code, said, talk))
    expect("ca: what is refused changes nothing else", folder.openssl("crl", "-in", "ca/bundle/shop.example.crl.pem", "-noout", "-text")[1].count("Serial Number:") == 2, before)
    code, said, talk = Authority().ca()
    expect("ca: the first time needs a trust domain", code == 2 and "--trust says of which trust domain" in talk, talk)
    folder.write("ca/ca.key", "garbage")
    code, said, talk = folder.ca("--id", FRONTEND)
    expect("ca: a spoilt key is not replaced", code == 2 and "no pair of certificate and key" in talk, talk)


def run():
    folder = Authority()
    if subprocess.run(["sh", "-c", "command -v openssl"], capture_output=True).returncode:
        return skip("ca", "openssl is not installed")
    said = issue(folder)
    try:
        expect("ca: as its schema says", load_validate().faults("ca", [said]) == [])
    except ImportError:
        skip("ca: schema", "python3-jsonschema is not installed")
    modes(folder)
    again(folder, said)
    revoke(folder)
    modes(folder)
    refuse(folder)
