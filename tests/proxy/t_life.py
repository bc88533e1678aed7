"""Rotation, policy switches, drains, restarts: what must not cost a connection, and what must end one."""
from play import *


class Load:
    """Clients that connect, send, read and close, over and over, and some that stay."""

    def __init__(self, pair, clients=4, kept=4):
        self.pair, self.failures, self.count, self.is_over = pair, [], 0, False
        self.threads = [threading.Thread(target=self.come_and_go) for _ in range(clients)]
        self.threads += [threading.Thread(target=self.stay) for _ in range(kept)]
        for thread in self.threads:
            thread.start()

    def request(self, one, size=3000):
        one.sendall(b"q" * size)
        got = 0
        while got < size:
            data = one.recv(1 << 16)
            assert data, "it ended early"
            got += len(data)
        self.count += 1

    def come_and_go(self):
        while not self.is_over:
            try:
                with self.pair.connect() as one:
                    self.request(one)
            except Exception as error:
                self.failures.append(repr(error))

    def stay(self):
        try:
            with self.pair.connect() as one:
                while not self.is_over:
                    self.request(one)
                    time.sleep(0.01)
        except Exception as error:
            self.failures.append("kept: " + repr(error))

    def stop(self):
        self.is_over = True
        for thread in self.threads:
            thread.join(20)
        assert not self.failures, (len(self.failures), self.failures[:3])
        assert self.count > 50, self.count


def with_pair(**settings):
    def decorate(test):
        def run():
            app, pair = serve(RECEIVER, 9000, echo), Pair(**settings)
            try:
                test(pair)
                assert pair.stop() == [0, 0]
            finally:
                pair.caller.kill(), pair.receiver.kill()
                pair.stop()
                app.close()
        return run
    return decorate


@with_pair()
def test_rotation_under_load(pair):
    load = Load(pair)
    for _ in range(8):
        time.sleep(0.5)
        pair.caller.identities(pair.authority, "frontend")
        time.sleep(0.5)
        pair.receiver.identities(pair.authority, "ledger")
    load.stop()
    time.sleep(4)
    assert pair.caller.status()["tunnels"] <= 2, pair.caller.status()


def wait_reset(one):
    try:
        while one.recv(1000):
            pass
    except ConnectionResetError:
        return
    raise AssertionError("an end instead of a reset")


@with_pair()
def test_switch_ends_what_is_denied(pair):
    other = serve(RECEIVER, 9001, echo)
    with pair.connect() as one, pair.connect(port=9001) as two:
        for each in (one, two):
            each.sendall(b"x")
            assert each.recv(1) == b"x"
        pair.script.denied_port, pair.script.rule, pair.script.generation = 9000, 5, 2
        pair.receiver.tell({"do": "switch"})
        wait_reset(one)
        pair.receiver.flow(event="end", reason="policy", rule=5, generation=2)
        two.sendall(b"y")
        assert two.recv(1) == b"y"
        pair.script.denied_port = 9001
        pair.caller.tell({"do": "switch"})
        wait_reset(two)
        pair.caller.flow(event="end", reason="policy", generation=2)
    other.close()


def test_expiry_revocation_withdrawal():
    app = serve(RECEIVER, 9000, echo)
    authority = Authority()
    pair = Pair(authority=authority)
    try:
        shown = authority.svid("frontend")
        pair.caller.identities(authority, "frontend", svids={"frontend": shown})
        for reason, act in (("revoked", lambda: pair.receiver.identities(authority, "ledger", crl=authority.crl(shown[0]))),
                            ("unknown-ca", lambda: pair.receiver.identities(Authority(), trust=(), ))):
            with pair.connect() as one:
                one.sendall(b"x")
                assert one.recv(1) == b"x"
                act()
                wait_reset(one)
            pair.receiver.flow(event="end", reason=reason)
            shown = authority.svid("frontend")
            pair.caller.identities(authority, "frontend", svids={"frontend": shown})
            pair.receiver.identities(authority, "ledger")
        pair.caller.identities(authority, "frontend", svids={"frontend": authority.svid("frontend", seconds=4)})
        with pair.connect() as one:
            one.sendall(b"x")
            assert one.recv(1) == b"x"
            wait_reset(one)
        pair.receiver.flow(event="end", reason="expired")
    finally:
        codes = pair.stop()
        app.close()
    assert codes == [0, 0]


@with_pair(drain_ms=8000)
def test_drain_lets_connections_end(pair):
    kept = pair.connect()
    kept.sendall(b"x")
    assert kept.recv(1) == b"x"
    pair.receiver.tell({"do": "drain"})
    time.sleep(3)
    kept.sendall(b"y")
    assert kept.recv(1) == b"y"
    kept.close()
    assert pair.receiver.process.wait(5) == 0
    pair.receiver.expect(lambda said: said["say"] == "drained")


@with_pair(drain_ms=1500)
def test_drain_has_an_end(pair):
    kept = pair.connect()
    kept.sendall(b"x")
    assert kept.recv(1) == b"x"
    pair.receiver.process.terminate()
    assert pair.receiver.process.wait(6) == 0
    wait_reset(kept)
    pair.receiver.flow(event="end", reason="drain")


@with_pair(drain_ms=20000)
def test_restarts_under_load(pair):
    """Each node's proxy in turn: the new one has the listener before the old one drains."""
    load, olds = Load(pair, kept=0), []
    for _ in range(4):
        for side, endpoint, account, address in (("receiver", 2, "ledger", RECEIVER), ("caller", 1, "frontend", CALLER)):
            old, new = getattr(pair, side), Proxy(pair.script, drain_ms=20000)
            new.identities(pair.authority, account)
            new.place(endpoint, account, address, listener=pair.listeners[endpoint - 1])
            setattr(pair, side, new)
            old.tell({"do": "drain"})
            olds.append(old)
            time.sleep(0.5)
    load.stop()
    for old in olds:
        assert old.process.wait(15) == 0
        old.stop()


@with_pair()
def test_orphan_goes_on(pair):
    kept = pair.connect()
    kept.sendall(b"x")
    assert kept.recv(1) == b"x"
    for proxy in (pair.caller, pair.receiver):
        proxy.control.shutdown(socket.SHUT_RDWR)
        proxy.broker.shutdown(socket.SHUT_RDWR)
    time.sleep(0.2)
    for one in (kept, pair.connect()):
        one.sendall(b"x")
        assert one.recv(1) == b"x"
        one.close()
    stat = lambda: sum(int(field) for field in open(f"/proc/{pair.caller.process.pid}/stat").read().split()[13:15])
    ticks = stat()
    time.sleep(1)
    assert stat() - ticks < 10, "it spins"


@with_pair()
def test_place_forgotten(pair):
    kept = pair.connect()
    kept.sendall(b"x")
    assert kept.recv(1) == b"x"
    pair.receiver.tell({"do": "forget", "endpoint": 2})
    wait_reset(kept)
    pair.receiver.flow(event="end", reason="place-gone")
    assert pair.receiver.status()["connections"] == 0


def test_broker_that_sleeps():
    app, pair = serve(RECEIVER, 9000, echo), Pair()
    try:
        pair.receiver.is_brokering = False
        with pair.connect() as one:
            one.sendall(b"x")
            pair.receiver.flow(event="refused", reason="overload", seconds=5)
            wait_reset(one)
        pair.receiver.is_brokering = True
        with pair.connect() as one:
            one.sendall(b"x")
            assert one.recv(1) == b"x"
    finally:
        codes = pair.stop()
        app.close()
    assert codes == [0, 0]


if __name__ == "__main__":
    run(globals())
