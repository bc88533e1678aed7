#!/usr/bin/python3
"""An HBONE peer that shares no line with meshp: Python's ssl and h2, one connection at a time on each side.

    peer_h2.py client HOST:PORT --svid DIR --trust PEM --authority IP:PORT [what to send] [--misbehave KIND]
    peer_h2.py server HOST:PORT --svid DIR --trust PEM [--dial HOST:PORT] [--misbehave KIND]

DIR holds tls.crt and tls.key, as `meshd ca` and impostor_ca.py write them. A client sends, ends its side, reads until
the other side ends, and says in one JSON line what came of it:
    {"end": "done", "tls": "TLSv1.3", "cipher": "...", "peer": "spiffe://...",
     "streams": [{"status": 200, "end": "end", "received": 5, "same": true}]}
"end" of the connection: done, closed (without a word), reset (TCP), goaway CODE, alert NAME, timeout; of a stream: end,
reset CODE, none. "same": what came back is what was sent. A server echoes, or dials, and says a JSON line for each
tunnel and each request. Exit 0: every stream ended well with status 200 (and the same bytes, with --echo).
"""
import argparse
import hashlib
import json
import os
import select
import socket
import ssl
import sys
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

CHUNK = 65536
CLIENT_KINDS = {
    "no-certificate": "shows no certificate",
    "tls12": "offers TLS 1.2 at most",
    "no-alpn": "names no protocol",
    "http11": "names http/1.1",
    "plaintext": "HTTP/1.1 in clear",
    "plaintext-h2": "the preface of HTTP/2 in clear",
    "silent": "opens TCP and says nothing",
    "replay": "sends the bytes of --recorded",
    "bad-preface": "TLS, then no HTTP/2 preface",
    "garbage": "TLS and the preface, then bytes that are no frames",
    "huge-headers": "a header of 1 MiB in CONTINUATION frames",
    "many-headers": "ten thousand headers",
    "get": "GET instead of CONNECT",
    "no-authority": "CONNECT without :authority",
    "bad-authority": "CONNECT to what is no address",
    "extended": "CONNECT with :protocol (RFC 8441)",
    "data-first": "DATA on a stream that was never opened",
    "window": "more DATA than the window allows",
    "ping-flood": "100,000 PINGs, reads no answer",
    "reset-flood": "10,000 streams, each reset at once (CVE-2023-44487)",
    "reset": "RST_STREAM in the middle of what it sends",
    "abort": "a TCP reset in the middle of what it sends",
    "truncate": "closes TCP without close_notify in the middle of what it sends",
    "no-window": "never opens its window: reads nothing",
}
SERVER_KINDS = {
    "tls12": "TLS 1.2 at most",
    "plaintext": "answers in clear",
    "no-alpn": "chooses no protocol",
    "silent": "accepts TCP and says nothing",
    "no-answer": "takes CONNECT and never answers",
    "refuse": "answers 403",
    "reset": "RST_STREAM after the first bytes",
    "goaway": "GOAWAY after the first request, which it serves",
    "garbage": "200, then bytes that are no frames",
    "close": "200, then closes the connection",
}


class Ended(Exception):
    """The connection is over; why, in a word."""


# ---- TLS over a socket, with every byte in our hands -----------------------------------------------------


def context_of(said, server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if said.trust else ssl.CERT_NONE
    if said.trust:
        context.load_verify_locations(said.trust)
    if said.svid and said.misbehave != "no-certificate":
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # it may have to show a weak key
        context.load_cert_chain(os.path.join(said.svid, "tls.crt"), os.path.join(said.svid, "tls.key"))
    if said.misbehave == "tls12":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if said.misbehave != "no-alpn":
        context.set_alpn_protocols(["http/1.1" if said.misbehave == "http11" else "h2"])
    return context


class Wire:
    def __init__(self, sock, context, server, timeout, name=None):
        self.sock, self.timeout, self.sent = sock, timeout, bytearray()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=name)
        sock.settimeout(timeout)

    def push(self):
        data = self.outgoing.read()
        self.sent += data
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Ended(word_of(error)) from error

    def pull(self):
        try:
            data = self.sock.recv(CHUNK)
        except OSError as error:
            raise Ended(word_of(error)) from error
        if not data:
            raise Ended("closed")
        self.incoming.write(data)

    def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                return self.push()
            except ssl.SSLWantReadError:
                self.push()
                self.pull()
            except ssl.SSLError as error:
                self.push()  # our alert
                raise Ended(word_of(error)) from error

    def write(self, data):
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view[:CHUNK]):]
        self.push()

    def read(self):
        """What is there now, decrypted; waits for some. Empty: the peer said that it will send no more."""
        while True:
            try:
                return self.tls.read(CHUNK)
            except ssl.SSLWantReadError:
                self.push()
                self.pull()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                raise Ended(word_of(error)) from error

    def wait(self, others):
        """Which of them, or this one's socket, can be read. TLS may hold what the socket no longer shows."""
        return [self.sock] if self.incoming.pending else select.select([self.sock, *others], [], [])[0]

    def listen_first(self, seconds=0.5):
        """A server of TLS 1.3 refuses a client after the client's handshake is over. Who writes on gets a TCP reset in
        the place of the alert; who hears the server's SETTINGS first is let in."""
        if not self.incoming.pending and select.select([self.sock], [], [], seconds)[0]:
            self.pull()

    def linger(self):
        """Closes so that the other side gets what was sent last, though it still sends."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.settimeout(1)
            while self.sock.recv(CHUNK):
                pass
        except OSError:
            pass
        self.sock.close()

    def facts(self):
        certificate = self.tls.getpeercert() or {}
        uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        return {"tls": self.tls.version(), "cipher": self.tls.cipher()[0], "peer": uris[0] if uris else None}


def word_of(error):
    if isinstance(error, ssl.SSLError):
        return "alert " + (error.reason or str(error)).lower().replace("_", "-")
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "timeout"
    return "reset" if isinstance(error, (ConnectionResetError, BrokenPipeError)) else str(error)


# ---- HTTP/2 -------------------------------------------------------------------------------------------------


class Stream:
    def __init__(self, sink):
        self.sink, self.status, self.end, self.headers = sink, None, None, {}
        self.pending, self.ending, self.ended, self.received = bytearray(), False, False, 0


class Session:
    def __init__(self, wire, client, opens_window=True):
        # Without its validation: h2 4.1 does not know that CONNECT has no :path (RFC 9113, section 8.5).
        config = h2.config.H2Configuration(client_side=client, header_encoding="utf-8", validate_inbound_headers=False,
                                           validate_outbound_headers=False, normalize_outbound_headers=False)
        self.wire, self.h2, self.streams, self.goaway = wire, h2.connection.H2Connection(config), {}, None
        self.client, self.opens_window, self.unread = client, opens_window, bytearray()
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20 if opens_window else 0})
        if opens_window:
            self.h2.increment_flow_control_window(1 << 24)
        self.flush()

    def flush(self):
        for number, stream in list(self.streams.items()):
            self.send_pending(number, stream)
        data = self.h2.data_to_send()
        if data:
            self.wire.write(data)

    def send_pending(self, number, stream):
        """Also after the other side has ended its own: that is half of a stream."""
        if stream.ended or (stream.end or "").startswith("reset"):
            return
        while stream.pending:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room <= 0:
                return
            self.h2.send_data(number, bytes(stream.pending[:room]))
            del stream.pending[:room]
        if stream.ending:
            stream.ended = True
            self.h2.end_stream(number)

    def take(self, on_request=None):
        """One read, and what is in it."""
        data = self.wire.read()
        if not data:
            raise Ended(f"goaway {self.goaway}" if self.goaway else "closed")
        try:
            for piece in self.frames_of(data) if self.client else [data]:
                for event in self.h2.receive_data(piece):
                    self.take_event(event, on_request)
            self.flush()
        except h2.exceptions.ProtocolError as error:
            raise Ended(f"protocol {error}") from error

    def frames_of(self, data):
        """One by one: what follows a GOAWAY is read, too."""
        self.unread += data
        while len(self.unread) >= 9 and len(self.unread) >= 9 + (size := int.from_bytes(self.unread[:3], "big")):
            yield bytes(self.unread[:9 + size])
            del self.unread[:9 + size]

    def take_event(self, event, on_request):
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = name_of(event.error_code)
            # h2 ends all by it; but streams that were taken go on (RFC 9113, section 6.8).
            self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
            return
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived) and on_request:
            self.streams[number] = Stream(None)
            self.streams[number].headers = dict(event.headers)
            on_request(number, self.streams[number])
        stream = self.streams.get(number)
        if not stream:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
            stream.status = int(stream.headers.get(":status", 0))
        elif isinstance(event, h2.events.DataReceived):
            stream.received += len(event.data)
            if stream.sink:
                stream.sink(event.data)
            if self.opens_window and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, h2.events.StreamEnded):
            stream.end = stream.end or "end"
            if stream.sink:
                stream.sink(b"")
        elif isinstance(event, h2.events.StreamReset):
            stream.end = f"reset {name_of(event.error_code)}"
            if stream.sink:
                stream.sink(None)

    def connect(self, authority, extra=(), method="CONNECT"):
        number = self.h2.get_next_available_stream_id()
        headers = [(":method", method)] + ([(":authority", authority)] if authority else []) + list(extra)
        self.streams[number] = Stream(None)
        self.h2.send_headers(number, headers)
        return number


def name_of(code):
    try:
        return h2.errors.ErrorCodes(code).name.lower()
    except ValueError:
        return str(code)


# ---- The client ---------------------------------------------------------------------------------------------


def payload_of(said, i):
    if said.send is not None:
        return said.send.encode()
    seed = hashlib.sha256(f"stream {i}".encode()).digest()
    return (seed * (said.bytes // len(seed) + 1))[:said.bytes]


def in_clear(said, sock):
    """What is no TLS; what comes back."""
    said_first = {"plaintext": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "plaintext-h2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "silent": b""}
    data = open(said.recorded, "rb").read() if said.misbehave == "replay" else said_first[said.misbehave]
    received = b""
    sock.settimeout(said.timeout)
    try:
        sock.sendall(data)
        while piece := sock.recv(CHUNK):
            received += piece
        end = "closed"
    except OSError as error:
        end = word_of(error)
    return {"end": end, "received": len(received), "alert": received[:1] == b"\x15", "text": received[:80].decode("latin-1")}


def frame(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def misbehave_raw(said, session):
    """Bytes that h2 would not write. None: KIND is another."""
    kind, wire = said.misbehave, session.wire
    literal = b"\x00\x01a\x7f\x81\x7e" + b"v" * 256  # RFC 7541, section 6.2.2: name "a", a value of 256 bytes
    if kind == "garbage":
        wire.write(b"\xff" + os.urandom(4096))  # a length that no frame may have
    elif kind == "huge-headers":
        wire.write(frame(1, 0, 1, literal))
        for _ in range(64):
            wire.write(frame(9, 0, 1, literal * 62))
        wire.write(frame(9, 4, 1, b""))
    elif kind == "many-headers":
        wire.write(frame(1, 0, 1, b"\x42\x07CONNECT"))
        wire.write(frame(9, 0, 1, b"\x00\x01a\x01b" * 3000) * 3)
        wire.write(frame(9, 4, 1, b"\x00\x01a\x01b" * 1000))
    elif kind == "data-first":
        wire.write(frame(0, 0, 1, b"hello"))
    elif kind == "ping-flood":
        for _ in range(1000):
            wire.write(frame(6, 0, 0, bytes(8)) * 100)
    elif kind == "window":
        number = session.connect(said.authority)
        session.flush()
        for _ in range(4096):
            wire.write(frame(0, 0, number, bytes(16384)))
    elif kind == "reset-flood":
        for _ in range(10000):
            session.h2.reset_stream(session.connect(said.authority), h2.errors.ErrorCodes.CANCEL)
            session.streams.clear()
            if len(session.h2._data_to_send) > CHUNK:
                session.flush()
        session.flush()
    else:
        return None
    return kind


def open_streams(said, session):
    extra = [("forwarded", f'for="{said.forwarded}"')] if said.forwarded else []
    extra += [tuple(one.split("=", 1)) for one in said.header]
    kind, authority, method = said.misbehave, said.authority, "CONNECT"
    if kind == "get":
        method, extra = "GET", [(":scheme", "https"), (":path", "/"), *extra]
    elif kind == "no-authority":
        authority = None
    elif kind == "bad-authority":
        authority = "no address"
    elif kind == "extended":
        extra = [(":protocol", "websocket"), (":scheme", "https"), (":path", "/"), *extra]
    for i in range(said.streams):
        number = session.connect(authority, extra, method)
        stream, whole = session.streams[number], payload_of(said, i)
        stream.pending, stream.ending = bytearray(whole), not said.keep
        stream.wanted, stream.hash = hashlib.sha256(whole).digest(), hashlib.sha256()
        stream.sink = lambda data, stream=stream: stream.hash.update(data or b"")
        if kind in ("reset", "abort", "truncate"):
            stream.ending = False


def break_off(said, session):
    """In the middle of what is sent. True: nothing more to wait for."""
    kind, sock = said.misbehave, session.wire.sock
    if kind == "reset":
        for number in session.streams:
            session.h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
            session.streams[number].end = "reset by us"
        session.flush()
    elif kind == "abort":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
    elif kind == "truncate":
        sock.close()
    return kind in ("abort", "truncate")


def talk(said, session, deadline):
    """Until every stream has ended, both ways."""
    open_streams(said, session)
    session.flush()
    while any(stream.end is None or (stream.end == "end" and stream.status == 200 and not stream.ended) for stream in session.streams.values()):
        if time.monotonic() > deadline:
            raise Ended("timeout")
        session.take()
        answered = all(stream.status for stream in session.streams.values())
        if answered and said.misbehave in ("reset", "abort", "truncate") and break_off(said, session):
            raise Ended("by us")
        if answered and said.keep:
            time.sleep(said.keep)
            for stream in session.streams.values():
                stream.ending = True
            said.keep = 0
            session.flush()


def relay_stdin(session):
    """Standard input to the only stream, and back."""
    (number, stream), = session.streams.items()
    stream.sink = lambda data: data and (sys.stdout.buffer.write(data), sys.stdout.buffer.flush())
    inputs = [sys.stdin.buffer]
    while stream.end is None:
        ready = session.wire.wait(inputs)
        if session.wire.sock in ready:
            session.take()
        if sys.stdin.buffer in ready:
            data = os.read(0, CHUNK)
            stream.pending += data
            stream.ending = not data
            if not data:
                inputs.remove(sys.stdin.buffer)
            session.flush()


def run_client(said):
    host, port = said.address.rsplit(":", 1)
    source = (said.source, 0) if said.source else None
    sock = socket.create_connection((host.strip("[]"), int(port)), said.timeout, source_address=source)
    if said.misbehave in ("plaintext", "plaintext-h2", "silent", "replay"):
        return in_clear(said, sock)
    result, session = {"streams": []}, None
    wire = Wire(sock, context_of(said, False), False, said.timeout, said.sni)
    try:
        wire.handshake()
        result |= wire.facts()
        wire.listen_first()
        if said.misbehave == "bad-preface":
            wire.write(b"GET / HTTP/1.1\r\n\r\n")
            wire.read()
        session = Session(wire, True, said.misbehave != "no-window")
        if misbehave_raw(said, session):
            while True:
                session.take()
        if said.relay:
            session.connect(said.authority, [("forwarded", f'for="{said.forwarded}"')] if said.forwarded else [])
            session.flush()
            relay_stdin(session)
        else:
            talk(said, session, time.monotonic() + said.timeout)
        result["end"] = "done"
    except Ended as ended:
        result["end"] = str(ended)
    if session and session.goaway:
        result["goaway"] = session.goaway
    for stream in session.streams.values() if session else ():
        facts = {"status": stream.status, "end": stream.end, "received": stream.received}
        if hasattr(stream, "wanted"):
            facts["same"] = stream.wanted == stream.hash.digest()
        result["streams"].append(facts)
    if said.record:
        with open(said.record, "wb") as file:
            file.write(wire.sent)
    return result


# ---- The server ---------------------------------------------------------------------------------------------


def say(value):
    print(json.dumps(value), flush=True)


class Server:
    def __init__(self, said):
        self.said, self.context = said, context_of(said, True)

    def serve(self, sock):
        said, wire = self.said, Wire(sock, self.context, True, self.said.timeout)
        result = {"event": "tunnel"}
        try:
            if said.misbehave == "plaintext":
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                raise Ended("by us")
            if said.misbehave == "silent":
                time.sleep(said.timeout)
                raise Ended("by us")
            wire.handshake()
            result |= wire.facts()
            self.serve_session(Session(wire, False))
        except (Ended, h2.exceptions.ProtocolError, OSError) as error:
            result["end"] = str(error) if isinstance(error, Ended) else word_of(error)
        say(result)
        wire.linger()

    def serve_session(self, session):
        while True:
            far = {stream.far: (number, stream) for number, stream in session.streams.items() if getattr(stream, "far", None)}
            ready = session.wire.wait(far)
            if session.wire.sock in ready:
                session.take(lambda number, stream: self.take_request(session, number, stream))
            for sock in set(ready) & set(far):
                self.take_far(session, sock, *far[sock])

    def take_request(self, session, number, stream):
        kind, headers = self.said.misbehave, stream.headers
        say({"event": "request", "method": headers.get(":method"), "authority": headers.get(":authority"),
             "forwarded": headers.get("forwarded"), "baggage": headers.get("baggage")})
        if kind == "no-answer":
            return
        try:
            session.h2.send_headers(number, [(":status", "403" if kind == "refuse" else "200")], end_stream=kind == "refuse")
        except h2.exceptions.ProtocolError:
            return  # it was reset meanwhile
        if kind == "goaway":
            session.flush()
            session.wire.write(frame(7, 0, 0, number.to_bytes(4, "big") + bytes(4)))
        if kind in ("garbage", "close"):
            session.flush()
            session.wire.write(os.urandom(4096) if kind == "garbage" else b"")
            raise Ended("by us")
        if kind != "refuse":
            (self.dial if self.said.dial else self.echo)(session, number, stream)

    def echo(self, session, number, stream):
        def sink(data):
            if stream.ended or stream.end == "reset by us":
                return
            if self.said.misbehave == "reset" and data:
                session.h2.reset_stream(number, h2.errors.ErrorCodes.INTERNAL_ERROR)
                stream.end, stream.sink = "reset by us", None
            elif data:
                stream.pending += data
            elif data == b"":
                stream.ending = True
        stream.sink = sink

    def dial(self, session, number, stream):
        host, port = (stream.headers[":authority"] if self.said.dial == "authority" else self.said.dial).rsplit(":", 1)
        stream.far = socket.create_connection((host.strip("[]"), int(port)), self.said.timeout)

        def sink(data):
            if data:
                stream.far.sendall(data)
            elif data == b"":
                stream.far.shutdown(socket.SHUT_WR)
            else:
                stream.far.close()
                stream.far = None
        stream.sink = sink

    def take_far(self, session, sock, number, stream):
        data = sock.recv(CHUNK)
        stream.pending += data
        if not data:
            stream.ending, stream.far = True, None
        session.flush()


def run_server(said):
    server = Server(said)
    host, port = said.address.rsplit(":", 1)
    host = host.strip("[]")
    listener = socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128)
    say({"event": "listening", "port": listener.getsockname()[1]})
    for _ in range(said.count) if said.count else iter(int, 1):
        sock, _ = listener.accept()
        thread = threading.Thread(target=server.serve, args=(sock,), daemon=not said.count)
        thread.start()


# ---- Words --------------------------------------------------------------------------------------------------


def read_words():
    listed = "\n".join(f"  {name:15} {text}" for name, text in CLIENT_KINDS.items())
    listed_server = "\n".join(f"  {name:15} {text}" for name, text in SERVER_KINDS.items())
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                    epilog=f"a client's --misbehave:\n{listed}\na server's --misbehave:\n{listed_server}")
    words.add_argument("role", choices=["client", "server"])
    words.add_argument("address", metavar="HOST:PORT")
    words.add_argument("--svid", metavar="DIR")
    words.add_argument("--trust", metavar="PEM", help="absent: any peer is taken")
    words.add_argument("--timeout", type=float, default=10)
    words.add_argument("--misbehave", metavar="KIND")
    client = words.add_argument_group("client")
    client.add_argument("--authority", metavar="IP:PORT")
    client.add_argument("--forwarded", metavar="IP[:PORT]")
    client.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    client.add_argument("--sni")
    client.add_argument("--source", metavar="IP")
    client.add_argument("--send", metavar="TEXT")
    client.add_argument("--bytes", type=int, default=0, help="what each stream sends, if not TEXT")
    client.add_argument("--streams", type=int, default=1)
    client.add_argument("--echo", action="store_true", help="the same bytes must come back")
    client.add_argument("--keep", type=float, default=0, metavar="SECONDS", help="before the client ends its side")
    client.add_argument("--relay", action="store_true", help="standard input and output")
    client.add_argument("--record", metavar="FILE", help="every byte that was sent, encrypted")
    client.add_argument("--recorded", metavar="FILE", help="for replay")
    server = words.add_argument_group("server")
    server.add_argument("--dial", metavar="HOST:PORT|authority", help="absent: echo")
    server.add_argument("--count", type=int, default=0, help="tunnels, then ends; 0: goes on")
    said = words.parse_args()
    if said.misbehave and said.misbehave not in (CLIENT_KINDS if said.role == "client" else SERVER_KINDS):
        words.error(f"unknown kind {said.misbehave}: see --help")
    return said


def main():
    said = read_words()
    if said.role == "server":
        return run_server(said)
    try:
        result = run_client(said)
    except OSError as error:
        result = {"end": word_of(error), "streams": []}
    print(json.dumps(result), file=sys.stderr if said.relay else sys.stdout)
    streams = result.get("streams", [])
    fine = result["end"] == "done" and all(s["status"] == 200 and s["end"] == "end" and (s.get("same") or not said.echo) for s in streams)
    return 0 if fine and streams else 1


if __name__ == "__main__":
    sys.exit(main())
