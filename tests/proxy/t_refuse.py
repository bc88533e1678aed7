"""Whoever must not come in: each with its own reason, the application untouched."""
import resource
import ssl

from play import *


def context(authority, account="frontend", svid=None, version=ssl.TLSVersion.TLSv1_3, chain=True):
    """A TLS client as another mesh would be."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = min(version, ssl.TLSVersion.TLSv1_2)
    made.maximum_version = version
    made.set_alpn_protocols(["h2"])
    if chain:
        certificate, key = svid or authority.svid(account)
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem(certificate) + key_pem(key))
            file.flush()
            made.load_cert_chain(file.name)
    return made


class Receiver:
    """One node with the ledger, and nobody may reach its application."""

    def __init__(self):
        self.authority, self.script, self.touched = Authority(), Script(), []
        self.proxy = Proxy(self.script)
        self.listener = self.proxy.place(2, "ledger", RECEIVER, 15008)
        self.proxy.identities(self.authority, "ledger")
        self.application = serve(RECEIVER, 9000, lambda one: self.touched.append(1))

    def refuse(self, reason, attempt, **wanted):
        before = len(self.proxy.said)
        one = socket.create_connection((RECEIVER, 15008), 5)
        try:
            attempt(one)
        except OSError:
            pass
        finally:
            self.proxy.flow(start=before, event="refused", side="receiver", reason=reason, **wanted)
            one.close()
        assert not self.touched

    def stop(self):
        self.application.close()
        assert self.proxy.stop() == 0
        self.listener.close()


def shake(made):
    def attempt(one):
        with made.wrap_socket(one) as wrapped:
            wrapped.recv(1000)
            wrapped.recv(1000)
    return attempt


def test_impostors():
    receiver = Receiver()
    other, revoked = Authority("other.example"), receiver.authority.svid("frontend")
    own = receiver.authority
    try:
        receiver.refuse("no-tls", lambda one: (one.sendall(b"GET / HTTP/1.1\r\n\r\n"), one.recv(10)))
        receiver.refuse("old-tls", shake(context(own, version=ssl.TLSVersion.TLSv1_2)))
        receiver.refuse("unknown-ca", shake(context(other)))
        receiver.refuse("unknown-ca", shake(context(Authority())))
        receiver.refuse("expired", shake(context(own, svid=own.svid("frontend", seconds=-10, start=-100))))
        receiver.refuse("not-yet-valid", shake(context(own, svid=own.svid("frontend", start=1000))))
        receiver.refuse("no-id", shake(context(own, svid=own.svid("x", ids=[]))))
        receiver.refuse("many-ids", shake(context(own, svid=own.svid("x", ids=[
            "spiffe://shop.example/ns/shop/sa/a", "spiffe://shop.example/ns/shop/sa/b"]))))
        receiver.refuse("wrong-domain", shake(context(own, svid=own.svid("x", ids=["spiffe://other.example/ns/a/sa/b"]))))
        receiver.refuse("no-certificate", shake(context(own, chain=False)))
        receiver.refuse("timeout", lambda one: one.recv(10))
        receiver.proxy.identities(own, "ledger", crl=own.crl(revoked[0]))
        receiver.refuse("revoked", shake(context(own, svid=revoked)))
        assert receiver.proxy.status()["refused"]["revoked"] == 1
    finally:
        receiver.stop()


def test_what_cannot_be_read_keeps_the_last_good():
    receiver = Receiver()
    own, proxy = receiver.authority, receiver.proxy
    ledger, revoked = own.svid("ledger"), own.svid("frontend")
    bundle = ("bundle", own.domain, pem(own.certificate))
    pair = [("certificate", "ledger", pem(ledger[0])), ("key", "ledger", key_pem(ledger[1]))]
    try:
        proxy.files(pair + [bundle, ("crl", own.domain, pem(own.crl(revoked[0])))])
        # A list too large to read is not "no list".
        said = proxy.files(pair + [bundle, ("crl", own.domain, b"\n" * (5 << 20))])
        assert len(said["problems"]) == 1, said
        receiver.refuse("revoked", shake(context(own, svid=revoked)))
        # Neither is one that meshd could not open; a certificate that is too large or has a key that others may read
        # is no reason to be nobody.
        for own_pair, own_bundle in (
                (pair, [bundle + ("mode",), ("crl", own.domain, b"")]),
                ([("certificate", "ledger", b"x" * (5 << 20)), pair[1]], [bundle]),
                ([pair[0] + ("ledger.key: others may read it",), pair[1]], [bundle])):
            said = proxy.files(own_pair + own_bundle)
            assert len(said["problems"]) == 1 and said["identities"] == 1, said
            if len(own_bundle) == 2:
                receiver.refuse("revoked", shake(context(own, svid=revoked)))
        # A set of which a message could not be followed is none, whatever comes behind it.
        before, null = len(proxy.said), open("/dev/null")
        proxy.tell({"do": "files", "files": [{"kind": "tree", "name": "x"}], "last": False}, [null.fileno()])
        proxy.expect(lambda said: said["say"] == "problem", start=before)
        proxy.tell({"do": "files", "files": [], "last": True})
        assert proxy.status()["identities"] == 1
        # Nor is one that was begun and never ended.
        proxy.tell({"do": "files", "files": [{"kind": "bundle", "name": own.domain}], "last": False}, [null.fileno()])
        before = len(proxy.said)
        proxy.tell({"do": "files", "files": [], "first": True, "last": True})
        said = proxy.expect(lambda said: said["say"] == "files", start=before)
        assert said["identities"] == 0 and not said["problems"], said
        proxy.files(pair + [bundle])
        # What is not said any more is gone.
        assert proxy.files([bundle])["identities"] == 0
    finally:
        receiver.stop()


def test_policy_and_wrong_peer():
    pair = Pair()
    try:
        pair.script.denied_port, pair.script.rule = 9000, 17
        with pair.connect() as one:
            try:
                assert not one.recv(10), "bytes"
                raise AssertionError("an end instead of a reset")
            except ConnectionResetError:
                pass
        pair.receiver.flow(event="refused", reason="policy", rule=17, verdict="deny")
        pair.caller.flow(event="refused", reason="policy")
        pair.script.denied_port, pair.script.deny_server = 0, 1
        pair.caller.tell({"do": "switch"})
        time.sleep(0.2)
        one = pair.connect()
        pair.caller.flow(event="refused", reason="wrong-peer")
        one.close()
        # Nothing of that handshake is left for the next one's peer.
        pair.script.deny_server = 0
        app = serve(RECEIVER, 9000, echo)
        with pair.connect() as one:
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        app.close()
    finally:
        assert pair.stop() == [0, 0]


def test_no_identity_and_unreachable():
    script, authority = Script(), Authority()
    proxy = Proxy(script)
    listener = proxy.place(1, "frontend", CALLER, 15001)
    try:
        script.steer(RECEIVER, 9000)
        for reason in ("no-identity", "unreachable"):
            before = len(proxy.said)
            try: # the reset may come before connect returns
                with socket.create_connection((CALLER, 15001), 5) as one:
                    one.recv(10)
            except ConnectionResetError:
                pass
            proxy.flow(start=before, event="refused", reason=reason)
            proxy.identities(authority, "frontend")
    finally:
        assert proxy.stop() == 0
        listener.close()


def test_overload():
    pair = Pair(connections=5)
    gate = threading.Event()
    app = serve(RECEIVER, 9000, lambda one: gate.wait(10))
    try:
        held = [pair.connect() for _ in range(5)]
        for one in held:
            one.sendall(b"x")
        pair.receiver.expect(lambda said: sum(s.get("event") == "open" for s in pair.receiver.said) == 5)
        try:
            pair.connect().close()
        except ConnectionResetError:
            pass
        pair.caller.flow(event="refused", reason="overload")
        gate.set()
    finally:
        app.close()
        assert pair.stop() == [0, 0]


def test_silent_strangers_take_no_tunnel():
    pair = Pair()
    app = serve(RECEIVER, 9000, lambda one: one.sendall(one.recv(10)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (8000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    strangers = []
    try:
        for _ in range(5000):
            strangers.append(socket.create_connection((RECEIVER, 15008), 5))
        with pair.connect() as one:
            one.sendall(b"x")
            assert one.recv(10) == b"x"
        assert pair.receiver.status()["tunnels"] <= 1025, pair.receiver.status()
    finally:
        for one in strangers:
            one.close()
        app.close()
        assert pair.stop() == [0, 0]


def test_garbage_on_the_control_channel():
    proxy = Proxy(Script())
    try:
        for message in (b"", b"{", b"[]", b"null", b'{"do": 1}', b'{"do": "fly"}', b'{"do": "switch", "x": 1}',
                        b'{"do": "hello", "connections": 0}', b'{"do": "hello", "trust": 1}', b'{"do": "hello", "drain_ms": -1}',
                        b'{"do": "place", "endpoint": 0}', b'{"do": "forget", "endpoint": 9}', b"\xff\xfe", b"[" * 60000,
                        b'{"do": "files", "files": [{"kind": "key", "name": "x"}], "last": true}', b'{"do": "drain", "do": "drain"}',
                        b'{"do": "place", "endpoint": 3, "workload": "a/b", "service": null, "spiffe": "http://x", "addresses": []}'):
            before = len(proxy.said)
            if not message:
                continue
            proxy.tell(message)
            proxy.expect(lambda said: said["say"] == "problem", start=before)
        devnull = open("/dev/null")
        proxy.tell(b'{"do": "status"}', [devnull.fileno()] * 5)
        assert proxy.status()["connections"] == 0
        said = proxy.files([("certificate", "a", b"x" * 100), ("key", "a", b"y"), ("bundle", "a.b", b"z"), ("crl", "q", b"")])
        assert len(said["problems"]) >= 2, said
        proxy.status()
        folder = f"/proc/{proxy.process.pid}/fd"
        links = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
        assert len(links) <= 8, links
    finally:
        assert proxy.stop() == 0


def test_confined():
    """What the process gave up."""
    proxy = Proxy(Script())
    try:
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{proxy.process.pid}/status") if ":\t" in line)
        assert status["NoNewPrivs"].strip() == "1", status
        assert status["Seccomp"].strip() == "2", status
        limits = open(f"/proc/{proxy.process.pid}/limits").read()
        assert "Max core file size        0                    0" in limits, limits
    finally:
        assert proxy.stop() == 0
    refused = subprocess.run([MESHP], capture_output=True, text=True)
    assert refused.returncode == 2 and "started by meshd" in refused.stderr


if __name__ == "__main__":
    run(globals())
