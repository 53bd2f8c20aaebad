"""Memory of a key and of an idle connection: growth of the resident set, and of used_memory, divided by their number."""

import resource
import socket
import time

from common import ratio, table

KEYS = 1_000_000
CONNECTIONS = 9_900
VALUE = b"x" * 32


def key(n):
    """16 bytes."""
    return b"key:%012d" % n


def pairs(n, count):
    return [word for i in range(count) for word in (b"field%d" % i, b"value%d" % n)]


# What a key holds, how many times fewer keys than KEYS, and the command that makes it.
KINDS = [
    ("string of 32 bytes", 1, lambda n: (b"SET", key(n), VALUE)),
    ("string of 32 bytes that expires", 1, lambda n: (b"SET", key(n), VALUE, b"EX", b"%d" % (86_400 + n * 7919 % 86_400))),
    ("integer", 1, lambda n: (b"SET", key(n), b"%d" % (n + 100_000))),
    ("hash of 5 fields", 5, lambda n: (b"HSET", key(n), *pairs(n, 5))),
    ("hash of 20 fields", 10, lambda n: (b"HSET", key(n), *pairs(n, 20))),
    ("sorted set of 5 members", 5, lambda n: (b"ZADD", key(n), *(word for i in range(5) for word in (b"%d" % (n + i), b"member%d" % i)))),
    ("set of 5 integers", 5, lambda n: (b"SADD", key(n), *(b"%d" % (n * i) for i in range(1, 6)))),
    ("set of 5 words", 5, lambda n: (b"SADD", key(n), *(b"member%d" % i for i in range(5)))),
    ("list of 5 elements", 5, lambda n: (b"RPUSH", key(n), *(b"element%d" % i for i in range(5)))),
    ("stream of 1 entry", 5, lambda n: (b"XADD", key(n), b"%d-1" % (1_700_000_000_000 + n), *pairs(n, 2))),
]

# What one large key holds: the same for an element of it.
ELEMENTS = [
    ("hash: field of 16 bytes, value of 16", 1, lambda n: (b"HSET", b"big", key(n * 7919 % 1_000_003), key(n))),
    ("set: member of 16 bytes", 1, lambda n: (b"SADD", b"big", key(n * 7919 % 1_000_003))),
    ("sorted set: member of 16 bytes, any score", 1, lambda n: (b"ZADD", b"big", b"%d" % (n * 7919 % 1_000_003), key(n))),
    ("list: element of 10 bytes", 1, lambda n: (b"RPUSH", b"big", b"e%09d" % n)),
    ("stream: entry of 2 fields", 1, lambda n: (b"XADD", b"big", b"%d-1" % (1_700_000_000_000 + n), *pairs(n, 2))),
]


def once(server, make, keys):
    with server:
        before = server.rss_bytes(), server.used_memory()
        server.pipeline(make(n) for n in range(keys))
        return (server.rss_bytes() - before[0]) / keys, (server.used_memory() - before[1]) / keys


def fresh(server):
    with server:
        return server.rss_bytes(), server.used_memory()


def idle_connections(server, count):
    """Connections that sent one PING and then nothing for three seconds. The kernel's own buffers are not counted."""
    with server:
        before = server.rss_bytes(), server.used_memory()
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
        for client in clients:
            client.sendall(b"PING\r\n")
        for client in clients:
            if client.recv(16) != b"+PONG\r\n":
                raise RuntimeError(f"{server.name} refuses one of {count} connections")
        time.sleep(3)
        grown = (server.rss_bytes() - before[0]) / count, (server.used_memory() - before[1]) / count
        for client in clients:
            client.close()
        return grown


def row(name, count, old, new):
    """Resident set, then used_memory, of both servers."""
    cells = [cell for before, after in zip(old, new) for cell in (f"{before:.0f}", f"{after:.0f}", ratio(after, before))]
    return [name, count, *cells]


def compare(base, ours, scale):
    columns = [cell for what in ("RSS bytes", "used_memory") for cell in (f"{base.name}: {what}", f"{ours.name}: {what}", "ratio")]
    parts = []
    for title, kinds, total in [("key of 16 bytes with", KINDS, KEYS), ("element of one key", ELEMENTS, KEYS // 2)]:
        rows = []
        for name, weight, make in kinds:
            count = max(10_000, int(total * scale / weight))
            rows.append(row(name, count, once(base, make, count), once(ours, make, count)))
        parts.append(table([title, "number", *columns], rows))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = max(100, min(int(CONNECTIONS * scale), hard - 200))
    rows = [row("an idle connection", count, idle_connections(base, count), idle_connections(ours, count)),
            row("a fresh server", 1, fresh(base), fresh(ours))]
    parts.append(table(["", "number", *columns], rows))
    return "### Memory\n\n" + "\n\n".join(parts)
