#!/usr/bin/python3
"""Many connections that send both ways at once, with stalls and half-closes at random, and compare every byte.

    both_ways.py serve ADDRESS PORT                          "fine" or "problem WHY" for each connection
    both_ways.py call ADDRESS PORT CONNECTIONS BYTES [SEED]  BYTES each way, all connections at once; a JSON line:
                                                             {"connections", "failed", "bytes", "seconds", "first"}
Exit 0: nothing failed. What a connection carries follows from its seed alone.
"""
import asyncio
import json
import random
import struct
import sys
import time

POOL = random.Random(7).randbytes(1 << 23)
HEAD = struct.Struct("=QQQ")  # seed, bytes up, bytes down
STEPS = (1, 100, 4096, 20000, 70000)
PIECES = (1, 1000, 65536, 65536)
STALL = 0.05  # of the steps, so long at most in seconds


def content(seed, at, length):
    """A part of a stream that has no end."""
    at = (seed * 0x9E3779B1 + at) % len(POOL)
    part = POOL[at:at + length]
    return part + POOL[:length - len(part)]


async def stall(chance):
    if chance.random() < STALL:
        await asyncio.sleep(chance.random() * STALL)


async def pour(writer, seed, length, chance):
    at = 0
    while at < length:
        step = min(chance.choice(STEPS), length - at)
        writer.write(content(seed, at, step))
        await writer.drain()
        at += step
        await stall(chance)
    writer.write_eof()


async def drink(reader, seed, length, chance):
    at = 0
    while data := await reader.read(chance.choice(PIECES)):
        if data != content(seed, at, len(data)):
            raise ValueError(f"other bytes than were sent, behind {at}")
        at += len(data)
        await stall(chance)
    if at != length:
        raise ValueError(f"{at} bytes instead of {length}")


async def talk(reader, writer, chance, own, send, other, receive):
    """Both ways at once, each with its own stalls, each ended by itself."""
    await asyncio.gather(drink(reader, other, receive, chance), pour(writer, own, send, chance))
    writer.close()
    await writer.wait_closed()


async def serve(address, port, tell):
    async def application(reader, writer):
        try:
            seed, up, down = HEAD.unpack(await reader.readexactly(HEAD.size))
            await talk(reader, writer, random.Random(seed + 1), seed + 1, down, seed, up)
            tell(None)
        except Exception as error:
            writer.transport.abort()
            tell(repr(error))
    return await asyncio.start_server(application, address, port, backlog=4096)


def shares(chance, count, total):
    """COUNT lengths, few of them long, together TOTAL."""
    weights = [chance.random() ** 3 for _ in range(count)]
    lengths = [int(total * weight / sum(weights)) for weight in weights]
    lengths[0] += total - sum(lengths)
    return lengths


async def call(address, port, count, total, seed):
    """What went wrong, of each connection that did."""
    problems, chance = [], random.Random(seed)

    async def client(seed, up, down):
        try:
            reader, writer = await asyncio.open_connection(address, port)
            writer.write(HEAD.pack(seed, up, down))
            await talk(reader, writer, random.Random(seed), seed, up, seed + 1, down)
        except Exception as error:
            problems.append(repr(error))

    ups, downs = shares(chance, count, total), shares(chance, count, total)
    await asyncio.gather(*(client((seed << 32) + 2 * i, ups[i], downs[i]) for i in range(count)))
    return problems


async def run_server(address, port):
    server = await serve(address, port, lambda problem: print(f"problem {problem}" if problem else "fine", flush=True))
    await server.serve_forever()


def main():
    role, address, port, *numbers = sys.argv[1:]
    if role == "serve":
        return asyncio.run(run_server(address, int(port)))
    count, total, seed = (*map(int, numbers), 1)[:3]
    begun = time.monotonic()
    problems = asyncio.run(call(address, int(port), count, total, seed))
    print(json.dumps({"connections": count, "failed": len(problems), "bytes": 2 * total,
                      "seconds": round(time.monotonic() - begun, 1), "first": problems[:3]}))
    return len(problems) > 0


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("serve", "call"):
        sys.exit(__doc__)
    sys.exit(main())
