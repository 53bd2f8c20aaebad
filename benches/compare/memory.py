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


KINDS = [
    ("string of 32 bytes", 1, lambda n: (b"SET", key(n), VALUE)),
    ("string of 32 bytes that expires", 1, lambda n: (b"SET", key(n), VALUE, b"EX", b"86400")),
    ("integer", 1, lambda n: (b"SET", key(n), b"%d" % (n + 100_000))),
    ("hash of 5 fields", 5, lambda n: (b"HSET", key(n), *(word for i in range(5) for word in (b"field%d" % i, b"value%d" % n)))),
    ("sorted set of 5 members", 5, lambda n: (b"ZADD", key(n), *(word for i in range(5) for word in (b"%d" % (n + i), b"member%d" % i)))),
    ("set of 5 integers", 5, lambda n: (b"SADD", key(n), *(b"%d" % (n * i) for i in range(1, 6)))),
    ("list of 5 elements", 5, lambda n: (b"RPUSH", key(n), *(b"element%d" % i for i in range(5)))),
]


def once(server, make, keys):
    with server:
        before = server.rss_bytes(), server.used_memory()
        server.pipeline(make(n) for n in range(keys))
        return (server.rss_bytes() - before[0]) / keys, (server.used_memory() - before[1]) / keys


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


def compare(base, ours, scale):
    rows = []
    for name, weight, make in KINDS:
        keys = max(10_000, int(KEYS * scale / weight))
        old, new = once(base, make, keys), once(ours, make, keys)
        rows.append([name, keys, f"{old[0]:.0f}", f"{new[0]:.0f}", ratio(new[0], old[0]), f"{old[1]:.0f}", f"{new[1]:.0f}", ratio(new[1], old[1])])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = max(100, min(int(CONNECTIONS * scale), hard - 200))
    old, new = idle_connections(base, count), idle_connections(ours, count)
    rows.append(["(an idle connection)", count, f"{old[0]:.0f}", f"{new[0]:.0f}", ratio(new[0], old[0]), f"{old[1]:.0f}", f"{new[1]:.0f}", ratio(new[1], old[1])])
    head = ["key of 16 bytes with", "keys", f"{base.name}: RSS bytes", f"{ours.name}: RSS bytes", "ratio",
            f"{base.name}: used_memory", f"{ours.name}: used_memory", "ratio"]
    return "### Memory of a key\n\n" + table(head, rows)
