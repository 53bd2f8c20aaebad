"""What others wait for while a large value goes: the worst PING beside each way of each type, and the worst without it."""

import multiprocessing
import statistics
import time

from common import table
from saving import connect, pings

ELEMENTS = 1_000_000
STRING_BYTES = 256_000_000
# PINGs are looked at for so long before a value goes, and from then on.
WINDOW_S = 1.5

# How a value of each type is made, and the ways it alone can go. `small` is a string and `few` a set.
KINDS = {
    "string": ([], ["GETDEL k", "GETEX k PXAT 1"]),
    "list": (["RPUSH", "element:{}"], ["LTRIM k 1 0", "LTRIM k 0 9"]),
    "hash": (["HSET", "field:{}", "value"], []),
    "set": (["SADD", "member:{}"], []),
    "zset": (["ZADD", "{}", "member:{}"], ["ZREMRANGEBYRANK k 0 -1", "ZREMRANGEBYRANK k 5000 -5001", "ZREMRANGEBYSCORE k 0 400000"]),
    "stream": (["XADD"], ["XTRIM k MAXLEN 0"]),
    "group": (["XADD"], ["XGROUP DESTROY k g"]),
}
WAYS = ["DEL k", "UNLINK k", "SET k v", "RENAME small k", "COPY small k REPLACE", "SUNIONSTORE k few", "PEXPIRE k 1", "FLUSHDB", "EVICT"]


def words_of(kind, elements):
    words = KINDS[kind][0]
    if kind == "string":
        return [("SETRANGE", "kept", int(STRING_BYTES * elements / ELEMENTS), "x")]
    if words == ["XADD"]:
        return (("XADD", "kept", f"{n}-1", "field", n) for n in range(1, elements + 1))
    batch = 100
    return ((words[0], "kept", *(word.format(i) for i in range(n, n + batch) for word in words[1:])) for n in range(0, elements, batch))


def fill(server, kind, elements):
    """Makes the value that is copied for each measurement, in a database of its own."""
    with connect(server) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        connection.recv(64)
    server.pipeline(words_of(kind, elements))
    if kind == "group":
        server.pipeline([("XGROUP", "CREATE", "kept", "g", "0")])
        with connect(server) as connection:
            connection.sendall(f"XREADGROUP GROUP g me COUNT {elements} STREAMS kept >\r\nECHO the-end\r\n".encode())
            tail = b""
            while not tail.endswith(b"the-end\r\n"):
                tail = tail[-32:] + connection.recv(1 << 20)
    server.pipeline([("MOVE", "kept", 1)])


def prepare(server):
    with connect(server) as connection:
        connection.sendall(b"SET small v\r\nSADD few a b\r\nSELECT 1\r\nCOPY kept k DB 0 REPLACE\r\nECHO the-end\r\n")
        tail = b""
        while not tail.endswith(b"the-end\r\n"):
            tail += connection.recv(4096)


def let_go(server, way):
    if way != "EVICT":
        return server.pipeline([tuple(way.split(" "))])
    server.pipeline([("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", "1mb")])
    time.sleep(WINDOW_S / 2)
    return server.pipeline([("CONFIG", "SET", "maxmemory", "0")])


def measure(server, way):
    """The worst PING (ms) beside nothing, and from when the value goes on."""
    prepare(server)
    stop, (receiver, sender) = multiprocessing.Event(), multiprocessing.Pipe(False)
    pinger = multiprocessing.Process(target=pings, args=(server.port, stop, sender))
    pinger.start()
    try:
        # The pinger begins, and what the copy has replaced is freed.
        time.sleep(1)
        quiet = time.perf_counter()
        time.sleep(WINDOW_S)
        began = time.perf_counter()
        let_go(server, way)
        time.sleep(max(0, began + WINDOW_S - time.perf_counter()))
    finally:
        stop.set()
        waits = receiver.recv()
        pinger.join()
    spans = ((quiet, began), (began, began + WINDOW_S))
    return [max((wait for when, wait in waits if since <= when < until), default=0) * 1000 for since, until in spans]


def compare(base, ours, pairs, scale):
    elements, rows = max(1000, int(ELEMENTS * scale) // 100 * 100), []
    for kind, (_, own_ways) in KINDS.items():
        with base, ours:
            fill(base, kind, elements)
            fill(ours, kind, elements)
            for way in own_ways + WAYS:
                results = {base: [], ours: []}
                for pair in range(pairs):
                    for server in (base, ours) if pair % 2 == 0 else (ours, base):
                        results[server].append(measure(server, way))
                        if way == "EVICT":
                            fill(server, kind, elements)
                cells = []
                for server in (base, ours):
                    without, beside = (statistics.median(column) for column in zip(*results[server]))
                    cells += [f"{without:.1f}", f"{beside:.1f}", f"{beside - without:+.1f}"]
                rows.append([kind, way, *cells])
    head = ["a value of", "goes by", *(f"{name}: {what}" for name in (base.name, ours.name) for what in ("without", "beside", "more"))]
    return f"Worst PING in ms while {elements:,} elements are freed ({pairs} times each, medians):\n\n" + table(head, rows)
