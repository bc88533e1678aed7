"""Plays meshd: starts meshp (with the scripted kernel), gives it places, files and sockets, reads what it says.

Everything is on 127.0.0.0/8: a caller's workload has its listener at port 15001 (steered), a receiver's at 15008
(tunnels); the scripted kernel tells where a steered connection was to go."""
import array, ctypes, datetime, ipaddress, json, mmap, os, signal, socket, struct, subprocess, sys, tempfile, threading, time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MESHP = os.environ.get("MESHP", os.path.join(ROOT, "build", "meshp-scripted"))
SANITIZED = b"__asan_init" in open(MESHP, "rb").read()
DOMAIN = "shop.example"
PRCTL = ctypes.CDLL(None).prctl


def mapped(ip):
    return ipaddress.IPv6Address("::ffff:" + ip).packed if ":" not in ip else ipaddress.IPv6Address(ip).packed


def pem(thing):
    return thing.public_bytes(serialization.Encoding.PEM)


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


class Authority:
    def __init__(self, domain=DOMAIN):
        self.domain = domain
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        now = datetime.datetime.utcnow()
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name)
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://" + domain)]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .sign(self.key, hashes.SHA256()))

    def svid(self, account, seconds=3600, ids=None, start=-60):
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        names = ids if ids is not None else [f"spiffe://{self.domain}/ns/shop/sa/{account}"]
        builder = (
            x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.name)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(seconds=start))
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False))
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names]), critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        return certificate, key

    def crl(self, *certificates):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateRevocationListBuilder().issuer_name(self.name)
                   .last_update(now - datetime.timedelta(minutes=1)).next_update(now + datetime.timedelta(days=1))
                   .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
                   .add_extension(x509.CRLNumber(1), False))
        for certificate in certificates:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build())
        return builder.sign(self.key, hashes.SHA256())


class Script:
    """What the scripted kernel answers: struct script of ask_scripted.c."""
    SIZE = 64 + 20 * 65536

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="ask-")
        self.file.truncate(self.SIZE)
        self.map = mmap.mmap(self.file.fileno(), self.SIZE)
        self.path = self.file.name

    def _number(at):
        return property(lambda self: struct.unpack_from("=I", self.map, at)[0],
                        lambda self, value: struct.pack_into("=I", self.map, at, value))

    asked_receiver, asked_caller, asked_server = _number(4), _number(8), _number(12)
    remembered, forgotten = _number(16), _number(20)
    denied_port, deny_server, generation, rule = _number(24), _number(28), _number(32), _number(36)

    def steer(self, ip, port, caller_port=0):
        struct.pack_into("=16sI", self.map, 64 + 20 * caller_port, mapped(ip), port)


class Proxy:
    """A meshp, and meshd's ends of its two channels."""

    def __init__(self, script, drain_ms=5000, connections=20000, arguments=("--as-root",), broker=True):
        self.script = script
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        broker, their_broker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self.control, self.broker = control, broker
        def descriptors():
            PRCTL(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing is left behind a test that was killed
            one, other = os.dup(theirs.fileno()), os.dup(their_broker.fileno())
            high = [os.dup2(fd, number) for fd, number in ((one, 60), (other, 61))]
            os.dup2(high[0], 3, inheritable=True)
            os.dup2(high[1], 4, inheritable=True)
        self.process = subprocess.Popen([MESHP, *arguments], preexec_fn=descriptors, close_fds=False,
                                        env={"ASAN_OPTIONS": "detect_leaks=0", **os.environ, "ASK_SCRIPT": script.path})
        # (Looking for leaks needs ptrace, which the proxy gives up.)
        theirs.close()
        their_broker.close()
        self.said, self.condition = [], threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.is_brokering = True
        threading.Thread(target=self._broke, daemon=True).start()
        self.tell({"do": "hello", "drain_ms": drain_ms, "connections": connections})
        self.expect(lambda said: said["say"] == "ready")

    def tell(self, message, descriptors=()):
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.control.sendmsg([text], rights)

    def place(self, endpoint, account, address, port=None, listener=None):
        own = listener
        if port and not own:
            own = socket.socket(socket.AF_INET)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind((address, port))
            own.listen(4096)
            own.setblocking(False)
        self.tell({"do": "place", "endpoint": endpoint, "workload": f"shop/{account}-1", "service": f"shop/{account}",
                   "spiffe": f"spiffe://{DOMAIN}/ns/shop/sa/{account}", "addresses": [address]},
                  [own.fileno()] if own else [])
        return own

    def files(self, files, wait=True):
        """FILES: (kind, name, bytes) or (kind, name, bytes, problem)"""
        handles = []
        for _, _, content, *_ in files:
            handle = tempfile.TemporaryFile()
            handle.write(content)
            handle.flush()
            handles.append(handle)
        before = len(self.said)
        self.tell({"do": "files", "last": True, "files": [
            {"kind": kind, "name": name, **({"problem": problem[0]} if problem else {})} for kind, name, _, *problem in files]},
                  [handle.fileno() for handle in handles])
        for handle in handles:
            handle.close()
        return self.expect(lambda said: said["say"] == "files", start=before) if wait else None

    def identities(self, authority, *accounts, crl=None, svids=None, trust=()):
        files = []
        for account in accounts:
            certificate, key = (svids or {}).get(account) or authority.svid(account)
            files += [("certificate", account, pem(certificate)), ("key", account, key_pem(key))]
        for one in (authority, *trust):
            files.append(("bundle", one.domain, pem(one.certificate)))
        if crl:
            files.append(("crl", authority.domain, pem(crl)))
        said = self.files(files)
        assert not said["problems"], said
        return said

    def status(self):
        before = len(self.said)
        self.tell({"do": "status"})
        return self.expect(lambda said: said["say"] == "status", start=before)

    def expect(self, matches, seconds=10, start=0):
        deadline = time.monotonic() + seconds
        with self.condition:
            while True:
                for said in self.said[start:]:
                    if matches(said):
                        return said
                left = deadline - time.monotonic()
                if left <= 0 or not self.condition.wait(left):
                    raise AssertionError(f"meshp did not say it; it said {self.said[start:][-8:]}")

    def flow(self, start=0, seconds=10, **wanted):
        return self.expect(lambda said: said["say"] == "flow" and
                           all(said.get(key) == value for key, value in wanted.items()), seconds, start)

    def rss_bytes(self):
        if SANITIZED:
            return 0  # not its own
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024

    def stop(self, patience=10):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.control.close()
        self.broker.close()
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.wait()

    def _listen(self):
        while True:
            try:
                data = self.control.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            with self.condition:
                self.said.append(json.loads(data))
                self.condition.notify_all()

    def _broke(self):
        while True:
            try:
                data = self.broker.recv(16)
            except OSError:
                return
            if len(data) != 16:
                return
            while not self.is_brokering:
                time.sleep(0.01)
            _, family, count, _ = struct.unpack("=IHHQ", data)
            made = [socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(count)]
            try:
                self.broker.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                              array.array("i", [one.fileno() for one in made]))])
            except OSError:
                return
            finally:
                for one in made:
                    one.close()


CALLER, RECEIVER = "127.0.1.2", "127.0.1.3"


class Pair:
    """A caller's node and a receiver's node, with one workload each: frontend calls ledger."""

    def __init__(self, port=9000, authority=None, **settings):
        self.authority = authority or Authority()
        self.script = Script()
        self.port = port
        self.script.steer(RECEIVER, port)
        self.caller, self.receiver = Proxy(self.script, **settings), Proxy(self.script, **settings)
        self.listeners = [self.caller.place(1, "frontend", CALLER, 15001),
                          self.receiver.place(2, "ledger", RECEIVER, 15008)]
        self.caller.identities(self.authority, "frontend")
        self.receiver.identities(self.authority, "ledger")

    def connect(self, port=None, timeout=15):
        one = socket.socket()
        one.settimeout(timeout)
        if port:
            one.bind(("127.0.0.1", 0))
            self.script.steer(RECEIVER, port, one.getsockname()[1])
        one.connect((CALLER, 15001))
        return one

    def stop(self):
        codes = [self.caller.stop(), self.receiver.stop()]
        for listener in self.listeners:
            listener.close()
        return codes


def serve(address, port, handle):
    """An application: HANDLE(socket) in a thread for each connection. Closed by closing what is returned."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(4096)

    def run(one):
        try:
            handle(one)
        except OSError:
            pass
        finally:
            one.close()

    def accept():
        while True:
            try:
                one, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=run, args=(one,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return Application(listener)


class Application:
    def __init__(self, listener):
        self.listener = listener

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake who accepts
        self.listener.close()


def echo(one):
    while data := one.recv(1 << 16):
        one.sendall(data)
    one.shutdown(socket.SHUT_WR)


def too_long(*_):
    raise TimeoutError("it took two minutes")


def run(tests):
    """Runs each function test_* of a module: {name: function}."""
    passed = failed = 0
    wanted = sys.argv[1:]
    for name, test in list(tests.items()):
        if not name.startswith("test_") or (wanted and name not in wanted):
            continue
        started = time.monotonic()
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(120)
        try:
            test()
            passed += 1
            print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)
        except Exception as error:
            failed += 1
            import traceback
            traceback.print_exc()
            print(f"FAIL {name}: {error}", flush=True)
    print(f"{os.path.basename(sys.argv[0])}: {passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)
