"""Peers that are not ours: written with python3-h2, as client and as server; and peers that speak nonsense."""
import random, resource, ssl

import h2.config, h2.connection, h2.events, h2.settings

from play import *
from t_refuse import context


class Peer:
    """One HTTP/2 connection over TLS, blocking."""

    def __init__(self, wrapped, is_client):
        self.socket = wrapped
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=is_client, header_encoding="utf-8",
            validate_inbound_headers=False, validate_outbound_headers=False))  # it wants :path of CONNECT too
        self.h2.initiate_connection()
        self.events = []
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def wait(self, kind, **wanted):
        while True:
            for event in self.events:
                if isinstance(event, kind) and all(getattr(event, key) == value for key, value in wanted.items()):
                    self.events.remove(event)
                    return event
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the tunnel ended")
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.events.append(event)
            self.flush()

    def connect(self, stream=None, authority=f"{RECEIVER}:9000", extra=(), end=False, method="CONNECT"):
        stream = stream or self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", method), (":authority", authority), *extra], end_stream=end)
        self.flush()
        return stream

    def status(self, stream):
        return dict(self.wait(h2.events.ResponseReceived, stream_id=stream).headers)[":status"]

    def send(self, stream, data, end=False):
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if not room:
                self.wait(h2.events.WindowUpdated)
                continue
            self.h2.send_data(stream, data[:room])
            data = data[room:]
            self.flush()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def read(self, stream):
        got = b""
        while True:
            for event in list(self.events):
                if getattr(event, "stream_id", None) != stream:
                    continue
                self.events.remove(event)
                if isinstance(event, h2.events.DataReceived):
                    got += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return got
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionResetError(event.error_code)
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the tunnel ended")
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.events.append(event)
            self.flush()


class Node:
    def __init__(self):
        self.authority, self.script = Authority(), Script()
        self.proxy = Proxy(self.script)
        self.listener = self.proxy.place(2, "ledger", RECEIVER, 15008)
        self.proxy.identities(self.authority, "ledger")
        self.application = serve(RECEIVER, 9000, echo)
        self.context = context(self.authority)

    def dial(self):
        one = socket.create_connection((RECEIVER, 15008), 10, source_address=("127.0.0.1", 0))
        return self.context.wrap_socket(one)

    def stop(self):
        self.application.close()
        code = self.proxy.stop()
        self.listener.close()
        return code


def with_node(test):
    def run():
        node = Node()
        try:
            test(node)
            assert node.proxy.process.poll() is None, "it died"
        finally:
            code = node.stop()
        assert code == 0, code
    return run


@with_node
def test_a_python_client(node):
    peer = Peer(node.dial(), True)
    assert peer.socket.version() == "TLSv1.3" and peer.socket.selected_alpn_protocol() == "h2"
    one = peer.connect(extra=[("forwarded", 'for="127.0.0.1:4711"'), ("baggage", "k8s.namespace.name=shop")])
    assert peer.status(one) == "200"
    data = random.randbytes(3 << 20)
    for at in range(0, len(data), 30000):
        peer.send(one, data[at:at + 30000])
    peer.send(one, b"", end=True)
    assert peer.read(one) == data
    node.proxy.flow(event="end", src="127.0.0.1:4711", bytes_in=len(data), bytes_out=len(data))
    two = peer.connect(extra=[("forwarded", "for=10.9.9.9")], end=True)
    assert peer.status(two) == "200" and peer.read(two) == b""
    end = node.proxy.flow(event="end", bytes_in=0)
    assert end["src"].startswith("127.0.0.1:"), end


@with_node
def test_bad_requests(node):
    peer = Peer(node.dial(), True)
    for authority in ("127.0.1.4:9000", "ledger:9000", "127.0.1.3", "127.0.1.3:0", "127.0.1.3:99999", "127.0.1.3:09000",
                      "[::ffff:127.0.1.3]:9000", "::1:9000"):
        try:
            stream = peer.connect(authority=authority)
            assert peer.status(stream) == "400", authority
        except h2.exceptions.ProtocolError:
            peer = Peer(node.dial(), True)
    get = peer.h2.get_next_available_stream_id()
    peer.h2.send_headers(get, [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", f"{RECEIVER}:9000")])
    peer.flush()
    assert peer.status(get) == "400"
    node.proxy.flow(event="refused", reason="bad-request")
    many = peer.connect(extra=[(f"x-{i}", "y" * 400) for i in range(60)])
    peer.wait(h2.events.StreamReset, stream_id=many)
    good = peer.connect(end=True)
    assert peer.status(good) == "200"


def serve_tunnel(authority, handle):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((RECEIVER, 15008))
    listener.listen()
    certificate, key = authority.svid("ledger")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.set_alpn_protocols(["h2"])
    made.verify_mode = ssl.CERT_REQUIRED
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem(certificate) + key_pem(key) + pem(authority.certificate))
        file.flush()
        made.load_cert_chain(file.name)
        made.load_verify_locations(file.name)

    names = []
    made.sni_callback = lambda _, name, __: names.append(name)

    def accept():
        while True:
            try:
                one, _ = listener.accept()
                handle(made.wrap_socket(one, server_side=True), names)
            except OSError:
                return
    threading.Thread(target=accept, daemon=True).start()
    return listener


def with_caller(handle):
    def decorate(test):
        def run():
            authority, script = Authority(), Script()
            proxy = Proxy(script)
            listener = proxy.place(1, "frontend", CALLER, 15001)
            proxy.identities(authority, "frontend")
            script.steer(RECEIVER, 9000)
            tunnel = serve_tunnel(authority, handle)
            try:
                test(proxy)
                assert proxy.process.poll() is None, "it died"
            finally:
                code = proxy.stop()
                tunnel.shutdown(socket.SHUT_RDWR)
                tunnel.close()
                listener.close()
            assert code == 0, code
        return run
    return decorate


seen = []


def python_server(wrapped, names):
    peer = Peer(wrapped, False)
    for answer in ("200", "401", "503", "reset"):
        request = peer.wait(h2.events.RequestReceived)
        seen.append(dict(request.headers) | {"sni": names[-1]})
        if answer == "reset":
            peer.h2.reset_stream(request.stream_id, 2)
        else:
            peer.h2.send_headers(request.stream_id, [(":status", answer)], end_stream=answer != "200")
        peer.flush()
        if answer == "200":
            peer.send(request.stream_id, peer.read(request.stream_id)[::-1], end=True)
    try:
        peer.wait(h2.events.ConnectionTerminated)
    except ConnectionError:
        pass


@with_caller(python_server)
def test_a_python_server(proxy):
    with socket.create_connection((CALLER, 15001), 10) as one:
        own = "%s:%d" % one.getsockname()
        one.sendall(b"abc" * 10000)
        one.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: one.recv(1 << 16), b"")) == b"cba" * 10000
    headers = seen[0]
    assert headers[":method"] == "CONNECT" and headers[":authority"] == "127.0.1.3:9000", headers
    assert ":scheme" not in headers and ":path" not in headers and headers["sni"] is None, headers
    assert headers["forwarded"] == f'for="{own}"', headers
    assert headers["baggage"] == "k8s.namespace.name=shop,service.name=frontend", headers
    for reason in ("policy", "application", "peer"):
        try: # the reset may come before connect returns
            with socket.create_connection((CALLER, 15001), 10) as one:
                assert not one.recv(10)
                raise AssertionError("an end instead of a reset")
        except ConnectionResetError:
            pass
        proxy.flow(event="refused", reason=reason)


def rude_server(wrapped, names):
    """Takes one stream, refuses the next by GOAWAY, and takes it on the tunnel that comes after."""
    peer = Peer(wrapped, False)
    request = peer.wait(h2.events.RequestReceived)
    peer.h2.send_headers(request.stream_id, [(":status", "200")])
    peer.flush()
    if len(rude) == 0:
        rude.append(1)
        peer.wait(h2.events.RequestReceived)
        wrapped.sendall(b"\0\0\x08\x07\0\0\0\0\0" + struct.pack(">II", request.stream_id, 0))
    else:
        peer.send(request.stream_id, b"second", end=True)
        rude.append(2)
        # A socket closed with something unread resets the connection, and the answer may be lost with it.
        try:
            peer.wait(h2.events.ConnectionTerminated)
        except ConnectionError:
            pass
        return
    threading.Thread(target=lambda: (peer.send(request.stream_id, peer.read(request.stream_id), end=True)), daemon=True).start()


rude = []


@with_caller(rude_server)
def test_goaway_moves_on(proxy):
    """GOAWAY: the first stream goes on, the one that was not taken moves to another tunnel."""
    with socket.create_connection((CALLER, 15001), 10) as one, socket.create_connection((CALLER, 15001), 10) as two:
        assert two.recv(10) == b"second"
        one.sendall(b"still here")
        one.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: one.recv(100), b"")) == b"still here"
    assert rude == [1, 2], rude


@with_node
def test_nonsense(node):
    """Frames at random, TLS at random, pieces of a good session: the process stays, and lets go of all of it."""
    chance = random.Random(4)
    magic = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
    for i in range(150):
        try:
            one = node.dial()
            one.settimeout(0.2)
            data = magic if chance.random() < 0.8 else b""
            for _ in range(chance.randrange(20)):
                body = chance.randbytes(chance.choice((0, 4, 5, 8, 30)))
                data += struct.pack(">I", len(body))[1:] + bytes((chance.randrange(11), chance.randrange(256)))
                data += struct.pack(">I", chance.choice((0, 1, 3, 5, 2, 0x7fffffff))) + body
            one.sendall(data)
            one.recv(1000)
            one.close()
        except OSError:
            pass
        raw = socket.create_connection((RECEIVER, 15008), 5)
        try:
            raw.sendall(b"\x16\x03\x01" + chance.randbytes(chance.randrange(300)))
        except OSError:
            pass
        raw.close()
    status = node.proxy.status()
    assert status["tunnels"] <= 10, status
    assert Peer(node.dial(), True).connect()


@with_node
def test_a_crowd_shuts_out_itself_alone(node):
    """More silent connections than there is room for, from one address: another's slow handshake goes on."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (8000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    slow = socket.create_connection((RECEIVER, 15008), 10, source_address=("127.0.0.1", 0))
    crowd = [socket.create_connection((RECEIVER, 15008), 10, source_address=("127.0.0.66", 0)) for _ in range(3000)]
    try:
        assert node.proxy.status()["tunnels"] <= 1025
        assert Peer(node.context.wrap_socket(slow), True).connect()
    finally:
        for one in crowd:
            one.close()


@with_node
def test_rapid_reset(node):
    """CVE-2023-44487: the tunnel is cut, the process is not worn out."""
    peer = Peer(node.dial(), True)
    try:
        for number in range(20000):
            stream = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", f"{RECEIVER}:9000")])
            peer.h2.reset_stream(stream)
            if number % 100 == 99:
                peer.flush()
        peer.wait(h2.events.ConnectionTerminated)
    except (OSError, h2.exceptions.ProtocolError):
        pass
    else:
        raise AssertionError("it was not cut")
    other = Peer(node.dial(), True)
    assert other.status(other.connect()) == "200"


if __name__ == "__main__":
    run({name: test for name, test in globals().items() if name.startswith("test_")})
