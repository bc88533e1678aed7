"""Ten thousand tunnelled connections: their memory, and a policy switch that does not stall the others."""
import multiprocessing, selectors

from play import *

COUNT, MOST_IDLE_BYTES, MOST_BYTES_EACH = int(os.environ.get("MANY", 9000)), 15 << 20, 24 << 10


def echo_all(ready):
    """An application of one thread: its process has the descriptors of one side."""
    PRCTL(1, signal.SIGKILL)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((RECEIVER, 9000))
    listener.listen(4096)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    ready.set()
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            data = key.fileobj.recv(1 << 16)
            if data:
                key.fileobj.sendall(data)
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()


def test_many():
    ready = multiprocessing.Event()
    application = multiprocessing.Process(target=echo_all, args=(ready,), daemon=True)
    application.start()
    ready.wait(10)
    pair = Pair(drain_ms=3000)
    try:
        idle = [proxy.rss_bytes() for proxy in (pair.caller, pair.receiver)]
        assert max(idle) <= MOST_IDLE_BYTES, idle
        ones = []
        for at in range(0, COUNT, 100):
            batch = [pair.connect() for _ in range(min(100, COUNT - at))]
            for one in batch:
                one.sendall(b"x" * 2000)
            for one in batch:
                assert one.recv(4000)
            ones += batch
        full = [proxy.rss_bytes() for proxy in (pair.caller, pair.receiver)]
        each = [(after - before) // COUNT for before, after in zip(idle, full)]
        status = pair.caller.status()
        print(f"idle {[b >> 10 for b in idle]} KiB, {COUNT} connections over {status['tunnels']} tunnels: "
              f"{each} bytes each, caller and receiver", flush=True)
        assert max(each) <= MOST_BYTES_EACH, each
        assert status["connections"] == COUNT
        # Each is asked about again; meanwhile another connection answers.
        before, slowest = pair.script.asked_receiver, 0
        pair.receiver.tell({"do": "switch"})
        while pair.script.asked_receiver < before + COUNT:
            started = time.monotonic()
            ones[0].sendall(b"y")
            assert ones[0].recv(1)
            slowest = max(slowest, time.monotonic() - started)
        print(f"slowest answer during the switch: {slowest * 1000:.1f} ms", flush=True)
        assert slowest < 0.25, slowest
        for one in ones:
            one.close()
    finally:
        codes = pair.stop()
        application.kill()
        application.join()
    assert codes == [0, 0], codes


if __name__ == "__main__":
    run(globals())
