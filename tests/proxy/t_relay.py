"""Bytes, ends, resets and back-pressure of relayed connections."""
import asyncio, hashlib, random, sys

from play import *

sys.path.append(os.path.join(ROOT, "tests", "tools"))
import both_ways


def expect_reset(one):
    try:
        data = one.recv(100)
    except ConnectionResetError:
        return
    raise AssertionError(f"no reset, but {data!r}")


def with_pair(test):
    def run():
        pair = Pair()
        try:
            test(pair)
            # A code of its own, say of seccomp or a sanitizer, is a failure too.
            assert pair.stop() == [0, 0]
        finally:
            pair.caller.kill(), pair.receiver.kill()
            pair.stop()
    return run


def served(handle, port=9000):
    def decorate(test):
        def run(pair):
            app = serve(RECEIVER, port, handle)
            try:
                test(pair)
            finally:
                app.close()
        return run
    return decorate


@with_pair
@served(echo)
def test_echo_and_half_close(pair):
    with pair.connect() as one:
        one.sendall(b"x" * 100000)
        one.shutdown(socket.SHUT_WR)
        assert sum(iter(lambda: len(one.recv(1 << 16)), 0)) == 100000
    for proxy, side in ((pair.caller, "caller"), (pair.receiver, "receiver")):
        end = proxy.flow(event="end", side=side)
        assert (end["bytes_in"], end["bytes_out"]) == (100000, 100000) and "reason" not in end, end
        assert end["src_id"].endswith("/frontend") and end["dst_id"].endswith("/ledger") and end["tls"] == "TLSv1.3"
    assert pair.script.remembered == pair.script.forgotten == 1


def server_ends_first(one):
    one.sendall(b"all")
    one.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: one.recv(100), b""))
    assert got == b"thanks", got
    ended.append(got)


ended = []


@with_pair
@served(server_ends_first)
def test_server_half_closes_first(pair):
    with pair.connect() as one:
        assert b"".join(iter(lambda: one.recv(100), b"")) == b"all"
        time.sleep(0.2)
        one.sendall(b"thanks")
    pair.receiver.flow(event="end", bytes_in=3, bytes_out=6)
    time.sleep(0.1)
    assert ended == [b"thanks"]


def linger_close(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def reset_after_a_byte(one):
    one.recv(1)
    linger_close(one)


@with_pair
@served(reset_after_a_byte)
def test_server_resets(pair):
    with pair.connect() as one:
        one.sendall(b"x")
        expect_reset(one)
    pair.receiver.flow(event="end", reason="application")
    pair.caller.flow(event="end", reason="peer")


resets = []


def expect_a_reset(one):
    one.sendall(b"x")
    try:
        one.recv(100)
        resets.append("end")
    except ConnectionResetError:
        resets.append("reset")


@with_pair
@served(expect_a_reset)
def test_client_resets(pair):
    one = pair.connect()
    one.recv(1)
    linger_close(one)
    pair.receiver.flow(event="end", reason="peer")
    time.sleep(0.2)
    assert resets == ["reset"], resets


@with_pair
def test_nobody_listens(pair):
    with pair.connect() as one:
        expect_reset(one)
    pair.receiver.flow(event="refused", reason="application")
    pair.caller.flow(event="refused", reason="application")


gate = threading.Event()


def read_late(one):
    gate.wait(20)
    digest = hashlib.sha256()
    while data := one.recv(1 << 18):
        digest.update(data)
    one.sendall(digest.digest())


@with_pair
@served(read_late)
def test_back_pressure(pair):
    """The server does not read: the client blocks, memory stays bounded; others of the tunnel are not held up."""
    gate.clear()
    data = random.randbytes(64 << 20)
    with pair.connect() as one, pair.connect() as other:
        one.settimeout(1)
        sent = 0
        try:
            while sent < len(data):
                sent += one.send(data[sent:sent + (1 << 18)])
        except TimeoutError:
            pass
        assert sent < 40 << 20, f"{sent} bytes went in and nobody reads"
        held = pair.receiver.status()["held_bytes"]
        assert held <= 1 << 20, held
        assert pair.receiver.rss_bytes() < 20 << 20 and pair.caller.rss_bytes() < 20 << 20
        gate.set()
        other.sendall(b"quick")
        other.shutdown(socket.SHUT_WR)
        assert other.recv(32) == hashlib.sha256(b"quick").digest()
        one.settimeout(15)
        one.sendall(data[sent:])
        one.shutdown(socket.SHUT_WR)
        assert one.recv(32) == hashlib.sha256(data).digest()
    assert pair.receiver.status()["held_bytes"] == 0


async def thousand(count, total):
    problems = []
    server = await both_ways.serve(RECEIVER, 9000, lambda problem: problem and problems.append(problem))
    problems += await asyncio.wait_for(both_ways.call(CALLER, 15001, count, total, 1), 240)
    server.close()
    await server.wait_closed()
    assert not problems, (len(problems), problems[:3])


@with_pair
def test_a_thousand_both_ways(pair):
    asyncio.run(thousand(1000, 80 << 20))
    for proxy in (pair.caller, pair.receiver):
        proxy.expect(lambda said: True)
        deadline = time.monotonic() + 5
        while (status := proxy.status())["connections"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert status["connections"] == 0 and status["held_bytes"] == 0, status


if __name__ == "__main__":
    run(globals())
