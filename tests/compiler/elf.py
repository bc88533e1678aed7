"""The sections of an ELF object, by name: where they are, and their bytes."""
import struct


def places(data):
    """(offset, length)"""
    at, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, at + i * size) for i in range(count)]
    table = heads[names]

    def name(head):
        start = table[4] + head[0]
        return data[start:data.index(b"\0", start)].decode()
    return {name(h): (h[4], h[5]) for h in heads[1:]}


def sections(data):
    return {name: data[at:at + size] for name, (at, size) in places(data).items()}
