#!/usr/bin/python3
"""Certificates that must be refused: tests/tools/impostor_ca.py CA_DIR OUT_DIR --id SPIFFE-ID [KIND...] | --list

CA_DIR is one of `meshd ca`. Each KIND (default: all) becomes OUT_DIR/KIND/tls.crt and tls.key, issued for SPIFFE-ID.
What a receiver must say of each is its second word in --list.
"""
import argparse
import datetime
import os
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = datetime.timedelta(hours=1)

# kind: what a receiver says (runtime/proxy/identity.h), what is special
KINDS = {
    "good": ("none", {}),
    "intermediate": ("none", {"by": "intermediate"}),
    "expired": ("expired", {"times": (-2 * HOUR, -HOUR)}),
    "not-yet-valid": ("not-yet-valid", {"times": (HOUR, 2 * HOUR)}),
    "unknown-ca": ("unknown-ca", {"by": "stranger"}),
    "self-signed": ("unknown-ca", {"by": "itself"}),
    "by-workload": ("unknown-ca", {"by": "workload"}),
    "wrong-domain": ("wrong-domain", {"uris": ["spiffe://elsewhere.example/ns/shop/sa/frontend"]}),
    "no-id": ("no-id", {"uris": []}),
    "dns-only": ("no-id", {"uris": [], "dns": ["frontend.shop"]}),
    "many-ids": ("many-ids", {"uris": ["spiffe://shop.example/ns/shop/sa/frontend", "spiffe://shop.example/ns/shop/sa/admin"]}),
    "bad-id": ("bad-id", {"uris": ["https://shop.example/ns/shop/sa/frontend"]}),
    "authority": ("bad-certificate", {"authority": True}),
    "no-signing": ("bad-certificate", {"signs": False}),
    "other-purpose": ("bad-certificate", {"purposes": [ExtendedKeyUsageOID.CODE_SIGNING]}),
    "weak-key": ("bad-certificate", {"key": lambda: rsa.generate_private_key(65537, 1024)}),
}


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def name_of(text):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "NOT FOR PRODUCTION"), x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(signs, authority):
    return x509.KeyUsage(digital_signature=signs, content_commitment=False, key_encipherment=not signs, data_encipherment=False,
                         key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False)


class Pair:
    """A certificate and its key; ISSUER None: signed by itself."""

    def __init__(self, issuer, subject, uris=(), dns=(), times=(-HOUR, HOUR), authority=False, signs=True, purposes=None, key=new_key):
        self.key = key()
        now = datetime.datetime.now(datetime.timezone.utc)
        by_name, by_key = (issuer.certificate.subject, issuer.key) if issuer else (name_of(subject), self.key)
        made = (x509.CertificateBuilder().subject_name(name_of(subject)).issuer_name(by_name).public_key(self.key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now + times[0]).not_valid_after(now + times[1])
                .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
                .add_extension(usage(signs, authority), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), critical=False))
        names = [x509.UniformResourceIdentifier(u) for u in uris] + [x509.DNSName(d) for d in dns]
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if not authority:
            both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            made = made.add_extension(x509.ExtendedKeyUsage(purposes or both), critical=False)
        self.certificate = made.sign(by_key, hashes.SHA256())

    def write(self, folder, chain=()):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        pem = serialization.Encoding.PEM
        key = self.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        certificates = b"".join(one.certificate.public_bytes(pem) for one in (self, *chain))
        for name, content in (("tls.crt", certificates), ("tls.key", key)):
            with open(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)


class Authority:
    """The one of `meshd ca` in FOLDER."""

    def __init__(self, folder):
        with open(os.path.join(folder, "ca.crt"), "rb") as file:
            self.certificate = x509.load_pem_x509_certificate(file.read())
        with open(os.path.join(folder, "ca.key"), "rb") as file:
            self.key = serialization.load_pem_private_key(file.read(), None)


def issuer_of(authority, by, spiffe):
    """(issuer, the chain that is sent with the leaf)"""
    common = authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    if by == "itself":
        return None, ()
    if by == "stranger":  # the same name, another key
        return Pair(None, common, authority=True), ()
    if by == "workload":
        workload = Pair(authority, "workload", uris=[spiffe])
        return workload, (workload,)
    if by == "intermediate":
        root = Pair(None, f"root of {common}", authority=True)
        middle = Pair(root, "intermediate", authority=True)
        return middle, (middle, root)
    return authority, ()


def make(authority, kind, spiffe, folder):
    """The file of the root that is to be trusted instead, or None."""
    special = dict(KINDS[kind][1])
    issuer, chain = issuer_of(authority, special.pop("by", None), spiffe)
    special.setdefault("uris", [spiffe])
    Pair(issuer, "frontend", **special).write(folder, chain[:1])
    if kind == "intermediate":  # `meshd ca` signs no authorities: this one has a root of its own
        with open(os.path.join(folder, "root.pem"), "wb") as file:
            file.write(chain[1].certificate.public_bytes(serialization.Encoding.PEM))


def write_stale_list(authority, path):
    """A CRL that revokes nobody and has run out."""
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject).last_update(now - 2 * HOUR).next_update(now - HOUR)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
            .sign(authority.key, hashes.SHA256()))
    with open(path, "wb") as file:
        file.write(made.public_bytes(serialization.Encoding.PEM))


def main():
    if sys.argv[1:] == ["--list"]:
        for kind, (word, _) in KINDS.items():
            print(kind, word)
        return 0
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("ca_dir")
    words.add_argument("out_dir")
    words.add_argument("kind", nargs="*")
    words.add_argument("--id", required=True)
    words.add_argument("--stale-crl", metavar="FILE", help="also writes a revocation list that has run out")
    said = words.parse_args()
    unknown = [kind for kind in said.kind if kind not in KINDS]
    if unknown:
        print(f"impostor_ca.py: unknown kind {unknown[0]}: see --list", file=sys.stderr)
        return 2
    authority = Authority(said.ca_dir)
    for kind in said.kind or KINDS:
        make(authority, kind, said.id, os.path.join(said.out_dir, kind))
    if said.stale_crl:
        write_stale_list(authority, said.stale_crl)
    return 0


if __name__ == "__main__":
    sys.exit(main())
