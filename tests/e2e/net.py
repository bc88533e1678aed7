"""Real sockets for the end-to-end tests.

  net.py serve NAME KIND:PORT...            answers every line (datagram) with
                                            "NAME peer=ADDRESS local=ADDRESS"; where NET_TELL is set
                                            it says "accepted ADDRESS" of each connection,
                                            and how it ended: "end", "reset" ..
  net.py ask KIND ADDRESS PORT [OPTION=N..] one line to stdout:
                                            "OUTCOME MS answer... peername=ADDRESS:PORT"
  net.py many KIND ADDRESS PORT N           "NAME N" for each server that answered, and "OUTCOME N"
  net.py hold SECONDS KIND ADDRESS PORT     a line every 20 ms on one connection; "ENDED ROUNDS"
  net.py swap ADDRESS PORT BYTES            sends BYTES and half-closes while it reads, to the end, the same from
                                            what echoes; "same|other READ MS"
  net.py pass KIND:PORT COMMAND...          listens, and runs COMMAND with the listener as descriptor 3
  net.py raw NAME FROM TO PORT MAC          sends one odd packet (see RAW) to the neighbour MAC
  net.py half FROM TO PORT MAC              a handshake by hand that waits for a line before its ACK
  net.py ping ADDRESS

KIND: tcp, tcp4, mptcp, udp, udp4, udpx (answers from a connected socket), tfo; for serve also loop (tcp at
127.0.0.1), echo (what it gets), first (its line, before it is asked), rst (a reset as the answer); for ask
also udpc (connected), first (sends nothing). OUTCOME: ok, refused, eperm, reset,
timeout, unreachable, closed.
"""
import errno
import os
import random
import select
import socket
import struct
import sys
import threading
import time

MPTCP = 262
OUTCOMES = {
    errno.ECONNREFUSED: "refused",
    errno.EPERM: "eperm",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",  # the end that was destroyed; its peer gets the RST
    errno.EPIPE: "reset",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.ETIMEDOUT: "timeout",
}


def outcome_of(error):
    if isinstance(error, (TimeoutError, BlockingIOError)) or error.errno == errno.EINPROGRESS:
        return "timeout"
    return OUTCOMES.get(error.errno, errno.errorcode.get(error.errno, str(error)))


def plain(address):
    return address[7:] if address.startswith("::ffff:") else address


# ---- Servers --------------------------------------------------------------------------------------


def listener(spec):
    kind, port = spec.split(":")
    family = socket.AF_INET if kind.endswith("4") or kind == "loop" else socket.AF_INET6
    datagram = kind.startswith("udp")
    sock = socket.socket(family, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM, MPTCP if kind == "mptcp" else 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == "loop":
        sock.bind(("127.0.0.1", int(port)))
    else:
        sock.bind(("", int(port)) if family == socket.AF_INET else ("::", int(port)))
    if not datagram:
        if kind == "tfo":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        sock.listen(512)
    return sock


def answer_connected(spec, answer, peer):
    """Some servers answer each client from a socket that is connected to it."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", int(spec.split(":")[1])))
    sock.connect(peer)
    sock.send(answer)
    sock.close()


def told(text):
    if os.environ.get("NET_TELL"):
        print(text, flush=True)


def answer_child(sock, kind, name):
    data = sock.recv(1 << 16)
    if not data:
        if kind == "echo":
            sock.shutdown(socket.SHUT_WR)
        raise OSError(0, "end")
    if kind == "echo":
        sock.sendall(data)
    elif kind == "rst":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise OSError(0, "end")
    elif kind != "first":
        greet(sock, name)


def greet(sock, name):
    peer, local = sock.getpeername()[0], sock.getsockname()[0]
    sock.send(f"{name} peer={plain(peer)} local={plain(local)}\n".encode())


def serve(name, specs):
    sockets = {}
    for spec in specs:
        sock = socket.socket(fileno=3) if spec == "fd" else listener(spec)
        sockets[sock.fileno()] = (sock, sock.type == socket.SOCK_DGRAM, spec)
    poll = select.poll()
    for fd in sockets:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            sock, datagram, spec = sockets[fd]
            try:
                if datagram:
                    text, peer = sock.recvfrom(2048)
                    answer = f"{name} peer={plain(peer[0])}\n".encode()
                    if spec.startswith("udpx"):
                        answer_connected(spec, answer, peer)
                    else:
                        sock.sendto(answer, peer)
                elif not spec.startswith("="):
                    child, peer = sock.accept()
                    told(f"accepted {plain(peer[0])}")
                    sockets[child.fileno()] = (child, False, "=" + spec.split(":")[0])
                    poll.register(child.fileno(), select.POLLIN)
                    if spec.startswith("first"):
                        greet(child, name)
                else:
                    answer_child(sock, spec[1:], name)
            except OSError as error:
                if not datagram and spec.startswith("="):
                    told(outcome_of(error) if error.errno else "end")
                    poll.unregister(fd)
                    sockets.pop(fd)
                    sock.close()


# ---- Clients --------------------------------------------------------------------------------------


def opened(kind, address, timeout, options):
    """A socket that has begun; TFO sends its line with the SYN."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    datagram = kind.startswith("udp")
    sock = socket.socket(family, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM, MPTCP if kind == "mptcp" else 0)
    sock.settimeout(timeout)
    if not datagram:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if "from" in options or "source" in options:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((options.get("source", ""), int(options.get("from", 0))))
    return sock


def ask_once(kind, address, port, timeout=1.0, options=None):
    sock = opened(kind, address, timeout, options or {})
    begun = time.monotonic()
    try:
        if kind == "udp":
            sock.sendto(b"x\n", (address, port))
            answer, peer = sock.recvfrom(2048)
        elif kind == "tfo":
            # Without a cookie it waits for the handshake: a socket that does not block would give up.
            sock.setblocking(True)
            patience = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
            sock.sendto(b"x\n", 0x20000000, (address, port))  # MSG_FASTOPEN
            answer, peer = sock.recv(2048), sock.getpeername()
        else:
            sock.connect((address, port))
            if kind != "first":
                sock.send(b"x\n")
            answer = sock.recv(2048)
            peer = sock.getpeername()
        outcome = "ok" if answer else "closed"
        text = answer.decode().strip() + f" peername={peer[0]}:{peer[1]}" if answer else ""
    except OSError as error:
        outcome, text = outcome_of(error), ""
    took = (time.monotonic() - begun) * 1000
    sock.close()
    return outcome, took, text


def ask(kind, address, port, *pairs):
    options = dict(pair.split("=") for pair in pairs)
    outcome, took, text = ask_once(kind, address, int(port), float(options.get("timeout", 1)), options)
    print(f"{outcome} {took:.1f} {text}".strip())


def many(kind, address, port, count):
    tally = {}
    for _ in range(int(count)):
        outcome, _, text = ask_once(kind, address, int(port))
        key = text.split()[0] if outcome == "ok" else outcome
        tally[key] = tally.get(key, 0) + 1
    for key in sorted(tally):
        print(key, tally[key])


def hold(seconds, kind, address, port):
    sock = opened(kind, address, 2.0, {})
    end, rounds, ended = time.monotonic() + float(seconds), 0, "kept"
    try:
        sock.connect((address, int(port)))
        print("connected", flush=True)
        while time.monotonic() < end:
            sock.send(b"x\n")
            if not sock.recv(2048):
                ended = "closed"
                break
            rounds += 1
            time.sleep(0.02)
    except OSError as error:
        ended = outcome_of(error)
    print(ended, rounds, flush=True)


def swap(address, port, count):
    sock = socket.create_connection((address, int(port)), 20)
    data, read, begun = random.Random(1).randbytes(int(count)), bytearray(), time.monotonic()

    def send():
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        while piece := sock.recv(1 << 16):
            read += piece
        word = "same" if read == data else "other"
    except OSError as error:
        word = outcome_of(error)
    print(f"{word} {len(read)} {(time.monotonic() - begun) * 1000:.0f}")


def pass_listener(spec, *command):
    sock = listener(spec)
    os.dup2(sock.fileno(), 3)
    os.set_inheritable(3, True)
    os.execvp(command[0], command)


# ---- Odd packets ----------------------------------------------------------------------------------


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source, target, protocol, payload, options=b""):
    head = struct.pack("!BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 7, 0, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(target)) + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(source, target, next_header, payload):
    return struct.pack("!IHBB", 0x60000000, len(payload), next_header, 64) + socket.inet_pton(
        socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target) + payload


def udp_datagram(port, text=b"x\n"):
    return struct.pack("!HHHH", 5353, int(port), 8 + len(text), 0) + text


RAW = {
    "plain": lambda s, t, p: ipv4(s, t, 17, udp_datagram(p)),
    # Record route: an IP option that every host accepts (RFC 791).
    "options": lambda s, t, p: ipv4(s, t, 17, udp_datagram(p), bytes([7, 7, 4, 0, 0, 0, 0, 0])),
    "sctp": lambda s, t, p: ipv4(s, t, 132, b"\0" * 16),
    "truncated": lambda s, t, p: ipv4(s, t, 17, b"\x14\xe9\x1f"),
    "short-tcp": lambda s, t, p: ipv4(s, t, 6, struct.pack("!HHI", 5353, int(p), 1)),
    # Destination options with one PadN of 4 bytes (RFC 8200 section 4.6).
    "extension": lambda s, t, p: ipv6(s, t, 60, bytes([17, 0, 1, 4, 0, 0, 0, 0]) + udp6(s, t, p)),
}


def udp6(source, target, port):
    body = struct.pack("!HHHH", 5353, int(port), 10, 0) + b"x\n"
    pseudo = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    total = checksum(pseudo + struct.pack("!II", len(body), 17) + body)
    return body[:6] + struct.pack("!H", total or 0xFFFF) + body[8:]


def ping(target):
    """Exit 0 where an echo comes back within a second."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.settimeout(1)
    head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1)
    sock.sendto(head[:2] + struct.pack("!H", checksum(head)) + head[4:], (target, 0))
    try:
        while sock.recv(2048)[20] != 0:
            pass
    except OSError:
        sys.exit(1)


def raw(name, source, target, port, mac):
    """AF_PACKET: no hook of the sender sees it, so that the receiver's are tried."""
    packet = RAW[name](source, target, port)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    protocol = 0x86DD if ":" in source else 0x0800
    sock.sendto(packet, ("eth0", protocol, 0, 0, bytes.fromhex(mac.replace(":", ""))))


HALF_PORT = 40000 + os.getpid() % 20000


def tcp_segment(source, target, port, sequence, acknowledged, flags, text=b""):
    head = struct.pack("!HHIIBBHHH", HALF_PORT, port, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(head + text))
    total = checksum(pseudo + head + text + b"\0" * (len(text) % 2))
    return ipv4(source, target, 6, head[:16] + struct.pack("!H", total) + head[18:] + text)


def half(source, target, port, mac):
    """A handshake by hand, from an address that no kernel has: SYN, "half", a line from standard input, then
    ACK and a question; "answered", "reset" or "silent"."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    sock.settimeout(1)
    to = ("eth0", 0x0800, 0, 0, bytes.fromhex(mac.replace(":", "")))
    port = int(port)

    def wait_for(wanted):
        try:
            while True:
                packet = sock.recv(2048)
                if packet[9] == 6 and packet[16:20] == socket.inet_aton(source) and packet[20:24] == struct.pack("!HH", port, HALF_PORT):
                    sequence, flags, text = struct.unpack("!I", packet[24:28])[0], packet[33], packet[20 + (packet[32] >> 4) * 4:]
                    if wanted(flags, text):
                        return sequence, flags
        except OSError:
            return None, 0

    sock.sendto(tcp_segment(source, target, port, 1000, 0, 0x02), to)
    sequence, flags = wait_for(lambda flags, text: flags & 0x16)
    if flags & 0x12 != 0x12:
        print("refused" if flags else "silent", flush=True)
        return
    print("half", flush=True)
    sys.stdin.readline()
    sock.sendto(tcp_segment(source, target, port, 1001, sequence + 1, 0x10), to)
    sock.sendto(tcp_segment(source, target, port, 1001, sequence + 1, 0x18, b"x\n"), to)
    sequence, flags = wait_for(lambda flags, text: text or flags & 0x04)
    print("reset" if flags & 0x04 else "answered" if flags else "silent", flush=True)


COMMANDS = {"half": half, "ask": ask, "many": many, "hold": hold, "swap": swap, "pass": pass_listener, "raw": raw, "ping": ping,
            "serve": lambda name, *specs: serve(name, specs)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
