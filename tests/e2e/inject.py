"""Packets that nobody sent, in a namespace of its own (unshare -n) with the address of somebody else.

    inject.py ack ADDRESS PORT PEER PEER_PORT    connects PORT to the peer, and answers it with a lone ACK
    inject.py ask ADDRESS PORT PEER PEER_PORT    listens at PORT, and has the peer ask
    inject.py send ADDRESS PORT PEER PEER_PORT FILE
                                                 sends to the peer until FILE is there, and prints how often it could
"""
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def packet(protocol, src, dst, segment, at):
    """An IPv4 packet (RFC 791) with the checksum of SEGMENT at AT."""
    src, dst = socket.inet_aton(src), socket.inet_aton(dst)
    sum_of = checksum(src + dst + struct.pack("!BBH", 0, protocol, len(segment)) + segment)
    segment = segment[:at] + struct.pack("!H", sum_of) + segment[at + 2:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 7, 0, 64, protocol, 0, src, dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + segment


kind, address, port, peer, peer_port = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
for command in ("link add v0 type veth peer name v1", "link set v0 up", "link set v1 up", f"addr add {address}/24 dev v0"):
    subprocess.run(["ip", *command.split()], check=True)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800))
wire.bind(("v1", 0x800))
own = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "ack" else socket.SOCK_DGRAM)
mac = fcntl.ioctl(own.fileno(), 0x8927, struct.pack("256s", b"v0"))[18:24]  # SIOCGIFHWADDR
if kind == "send":
    own.bind(("", port))  # the address is the route's choice: bound to it, a socket is refused by its name already
    passed = tried = 0
    while not os.path.exists(sys.argv[6]):
        tried += 1
        try:
            own.sendto(b"x\n", (peer, peer_port))
            passed += 1
        except PermissionError:
            pass
    print("passed", passed, "of some" if tried > 100 else "of none")
    sys.exit()
own.bind((address, port))
if kind == "ack":
    own.setblocking(False)
    own.connect_ex((peer, peer_port))
    sent = packet(6, peer, address, struct.pack("!HHIIBBHHH", peer_port, port, 1, 1, 0x50, 0x10, 1000, 0, 0), 16)
else:
    sent = packet(17, peer, address, struct.pack("!HHHH", peer_port, port, 10, 0) + b"q\n", 6)
for _ in range(3):
    wire.send(mac + b"\2\0\0\0\0\1\x08\0" + sent)
    time.sleep(0.2)
