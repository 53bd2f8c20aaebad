#!/usr/bin/env python3
"""Writes doubles.txt: what a Redis at HOST:PORT makes of a hundred thousand doubles, a digest a thousand of them.

    doubles.py HOST PORT > doubles.txt

The file in this folder is Redis 7.2.6's (x86-64 Linux). `../doubles.rs` makes the same numbers and asks Redstart the same.
"""
import hashlib, socket, struct, sys

BLOCKS, VALUES = 100, 1000
M = (1 << 64) - 1
EDGES = [0x0, 1 << 63, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0xFFF8000000000000, 1, 0x7FEFFFFFFFFFFFFF,
         0x0010000000000000, 0x3FF0000000000000, 0x4340000000000000, 0x43D0000000000000, 0x43D0000000000001, 0x43E0000000000000,
         0xC3E0000000000000, 0xC30D8B7628DBD25E, 0x3FB999999999999A, 0x4415AF1D78B58C40, 0x3EE4F8B588E368F1, 0x3E7AD7F29ABCAF48]


def values(block):
    """The numbers of a block, as their bits; the first begins with the edges."""
    state = block * 0xD1B54A32D192ED03
    for n in range(VALUES):
        state = (state + 0x9E3779B97F4A7C15) & M
        x = state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M
        x ^= x >> 31
        if block == 0 and n < len(EDGES):
            yield EDGES[n]
        elif n % 4 == 0:
            yield x if (x >> 52) & 0x7FF != 0x7FF else x ^ (1 << 62)
        elif n % 4 == 1:
            yield (x & 0x800FFFFFFFFFFFFF) | (1003 + ((x >> 52) & 0x7FF) % 80) << 52
        elif n % 4 == 2:
            signed = x - (1 << 64) if x >> 63 else x
            yield struct.unpack("<Q", struct.pack("<d", float(signed >> (x & 31)) / 1000.0))[0]
        else:
            yield struct.unpack("<Q", struct.pack("<d", float(x % 1000000007) * 0.01))[0]


def scripts():
    """The ways a double is printed: name and script, from doubles.lua's sections."""
    text = open(__file__.replace("doubles.py", "doubles.lua")).read()
    for section in text.split("--- ")[1:]:
        name, body = section.split("\n", 1)
        yield name, body


def call(stream, *args):
    stream.write(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
    stream.flush()
    return reply(stream)


def reply(stream):
    line = stream.readline().rstrip(b"\r\n")
    if line[:1] == b"*":
        return b"\n".join(reply(stream) for _ in range(int(line[1:])))
    if line[:1] == b"$":
        return stream.read(int(line[1:]) + 2)[:-2]
    raise SystemExit("no such reply was expected: %r" % line)


def main(host, port):
    stream = socket.create_connection((host, int(port))).makefile("rwb")
    for name, script in scripts():
        for block in range(BLOCKS):
            bits = b"".join(struct.pack("<Q", value) for value in values(block))
            digest = hashlib.sha1(call(stream, b"EVAL", script.encode(), b"0", bits)).hexdigest()
            print(name, block, digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
