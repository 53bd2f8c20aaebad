"""Memory of a key: growth of the resident set, and of used_memory, divided by the keys."""

from common import ratio, table

KEYS = 1_000_000
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


def compare(base, ours, scale):
    rows = []
    for name, weight, make in KINDS:
        keys = max(10_000, int(KEYS * scale / weight))
        old, new = once(base, make, keys), once(ours, make, keys)
        rows.append([name, keys, f"{old[0]:.0f}", f"{new[0]:.0f}", ratio(new[0], old[0]), f"{old[1]:.0f}", f"{new[1]:.0f}", ratio(new[1], old[1])])
    head = ["key of 16 bytes with", "keys", f"{base.name}: RSS bytes", f"{ours.name}: RSS bytes", "ratio",
            f"{base.name}: used_memory", f"{ours.name}: used_memory", "ratio"]
    return "### Memory of a key\n\n" + table(head, rows)
