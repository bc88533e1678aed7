"""keygen, sign, verify, inspect: tampered bundles and wrong keys."""
import json
import os
import random
import stat
import subprocess

from common import SMALL, Folder, expect


def run():
    folder = Folder()
    folder.write("shop.mesh", SMALL)
    for key in ("k", "other"):
        code, _, err = folder.run("keygen", "-o", key)
        expect(f"keygen {key}", code == 0 and stat.S_IMODE(os.stat(f"{folder.path}/{key}").st_mode) == 0o600, err)
    code, _, err = folder.run("keygen", "-o", "k")
    expect("keygen does not overwrite a key", code == 2 and "never overwritten" in err, f"exit {code} {err}")
    done = subprocess.run(["openssl", "pkey", "-in", "k", "-pubout"], cwd=folder.path, capture_output=True)
    expect("openssl reads the key", done.returncode == 0 and done.stdout == folder.read("k.pub"), done.stderr)
    folder.run("compile", "-o", "plain", "shop.mesh")
    folder.run("compile", "-k", "k", "-o", "signed", "shop.mesh")
    plain, signed = folder.read("plain"), folder.read("signed")
    folder.write("later", plain)
    expect("sign", folder.run("sign", "-k", "k", "later")[0] == 0)
    expect("compile -k and sign give the same bytes", folder.read("later") == signed and signed != plain)
    for name, key, bundle, wants in [("right key", "k.pub", "signed", 0), ("wrong key", "other.pub", "signed", 1), ("no signature", "k.pub", "plain", 1),
                                     ("a policy", "k.pub", "shop.mesh", 1), ("absent bundle", "k.pub", "absent", 2), ("absent key", "absent", "signed", 2),
                                     ("private key", "k", "signed", 2)]:
        code, _, err = folder.run("verify", "-k", key, bundle)
        expect(f"verify: {name}", code == wants and (code == 0 or err), f"exit {code} {err}")
    expect("sign with a public key", folder.run("sign", "-k", "k.pub", "later")[0] == 2)
    folder.write("later", signed)
    expect("sign again with another key", folder.run("sign", "-k", "other", "later")[0] == 0 and folder.run("verify", "-k", "other.pub", "later")[0] == 0
           and folder.run("verify", "-k", "k.pub", "later")[0] == 1)
    tamper(folder, signed)
    inspect(folder)


def tamper(folder, signed):
    """One byte anywhere, or a cut: refused, never a crash."""
    rng, fine = random.Random(3), []
    for i in range(60):
        bad = bytearray(signed)
        at = i if i < 16 else rng.randrange(len(bad))
        bad[at] ^= 1 << rng.randrange(8)
        folder.write("bad", bytes(bad))
        code = folder.run("verify", "-k", "k.pub", "bad")[0]
        if code != 1:
            fine.append((at, code))
    expect("verify: 60 bundles with one bit turned", not fine, fine)
    cuts = [0, 1, 63, 64, 1000, len(signed) // 2, len(signed) - 1]
    wrong = []
    for cut in cuts:
        folder.write("bad", signed[:cut])
        codes = [folder.run("verify", "-k", "k.pub", "bad")[0], folder.run("inspect", "bad")[0]]
        wrong += [(cut, codes)] if codes != [1, 1] else []
    folder.write("bad", signed + b"x")
    wrong += [("longer",)] if folder.run("verify", "-k", "k.pub", "bad")[0] != 1 else []
    expect("verify, inspect: bundles cut short, or longer", not wrong, wrong)


def inspect(folder):
    code, out, err = folder.run("inspect", "--format=json", "signed")
    said = json.loads(out) if not code else {}
    digest = json.loads(folder.run("check", "--format=json", "shop.mesh")[1])["digest"]
    expect("inspect: the digest is that of check", said.get("manifest", {}).get("digest") == digest, err)
    expect("inspect: rules with their places", [r["name"] for r in said["manifest"]["rules"]] == ["no-world", "office-web", "pay", "post"]
           and said["where"]["rules"] == ["shop.mesh:11:1", "shop.mesh:9:1", "shop.mesh:10:1", "shop.mesh:8:1"], said.get("where"))
    code, out, _ = folder.run("inspect", "signed")
    expect("inspect: as text", code == 0 and digest in out and "Ed25519" in out and "shop.mesh:8:1" in out, out)
    expect("inspect: key id only where signed", said["key_id"] and json.loads(folder.run("inspect", "--format=json", "plain")[1])["key_id"] is None)
