"""What the clients of a soak do: one coroutine a kind, which lives until its time is over or the server closes its connection."""

import asyncio

CLOSED = (ConnectionError, asyncio.IncompleteReadError, OSError)


class Connection:
    """A connection that speaks RESP2 or RESP3; replies are read only as far as their end must be known."""

    @classmethod
    async def open(cls, port):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    def send(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.writer.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    async def __call__(self, *words):
        """Sends one command; its reply, errors as values."""
        self.send(*words)
        await self.writer.drain()
        while True:
            kind, reply = await self.read()
            if kind != b">":
                return reply

    async def read(self):
        """The next reply: its type and its value (an aggregate's is the list of its elements')."""
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server has closed")
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and rest != b"-1":
            return kind, (await self.reader.readexactly(int(rest) + 2))[:-2]
        if kind in b"*~>%" and rest != b"-1":
            elements = int(rest) * (2 if kind == b"%" else 1)
            return kind, [(await self.read())[1] for _ in range(elements)]
        return kind, int(rest) if kind == b":" else rest

    def close(self, abruptly):
        if abruptly:
            self.writer.transport.abort()
        else:
            self.writer.close()


def key(rng, kind, of=2000):
    return f"{kind}:{rng.randrange(of)}"


async def pause(rng, most_s=2.0):
    await asyncio.sleep(rng.uniform(0, most_s))


async def strings(connection, rng):
    """Limits, sessions, deduplication: keys that expire."""
    while True:
        await connection("SETEX", key(rng, "dedup", 100_000), rng.randrange(1, 20), "x" * rng.randrange(200))
        await connection("INCR", key(rng, "limit"))
        await connection("EXPIRE", key(rng, "limit"), 60)
        await connection("GET", key(rng, "dedup", 100_000))
        await pause(rng)


async def collections(connection, rng):
    """Collections that grow past every small encoding, and go."""
    while True:
        n = rng.randrange(10_000)
        await connection("HSET", key(rng, "hash", 50), f"field{n}", "v" * rng.randrange(100))
        await connection("ZADD", key(rng, "sorted", 50), n, f"member{n}")
        await connection("SADD", key(rng, "set", 50), n, f"member{n}")
        await connection("LPUSH", key(rng, "list", 50), "v" * rng.randrange(300))
        await connection("LTRIM", key(rng, "list", 50), 0, 500)
        await connection("XADD", key(rng, "stream", 50), "MAXLEN", "~", 1000, "*", "field", n)
        if n % 20 == 0:
            await connection("DEL", key(rng, rng.choice(["hash", "sorted", "set", "stream"]), 50))
        await pause(rng)


async def pipelines(connection, rng):
    """Many commands at once, their replies read late."""
    while True:
        count = rng.randrange(1, 200)
        for _ in range(count):
            connection.send("SET", key(rng, "string", 5000), "y" * rng.randrange(1000))
        await connection.writer.drain()
        await pause(rng, 0.5)
        for _ in range(count):
            await connection.read()
        await pause(rng, 4)


async def transactions(connection, rng):
    while True:
        account = key(rng, "account", 100)
        await connection("WATCH", account)
        await connection("GET", account)
        await connection("MULTI")
        await connection("INCRBY", account, 1)
        await connection("LPUSH", key(rng, "queue", 100), "job")
        await connection(rng.choice(["EXEC", "EXEC", "EXEC", "DISCARD"]))
        await pause(rng)


async def scripts(connection, rng):
    """A few scripts again and again, and some that nobody runs twice."""
    while True:
        body = "return redis.call('LPUSH', KEYS[1], ARGV[1])"
        if rng.random() < 0.1:
            body = f"local unique = {rng.randrange(1 << 40)} return redis.call('INCRBY', KEYS[1], unique)"
        await connection("EVAL", body, 1, key(rng, "account" if "INCRBY" in body else "queue", 100), "job")
        await connection("EVAL", "local t = {} for i = 1, 1000 do t[i] = i end return #t", 0)
        await pause(rng)


async def waiters(connection, rng):
    """Clients that wait for a key, for a little while each."""
    while True:
        seconds = rng.choice(["0.05", "1", "5"])
        await connection(*rng.choice([
            ("BLPOP", key(rng, "queue", 100), key(rng, "queue", 100), seconds),
            ("BZPOPMIN", key(rng, "marker", 100), seconds),
            ("BLMOVE", key(rng, "queue", 100), key(rng, "active", 100), "LEFT", "RIGHT", seconds),
            ("XREAD", "BLOCK", int(float(seconds) * 1000), "STREAMS", key(rng, "stream", 50), "$"),
        ]))
        await connection("LTRIM", key(rng, "active", 100), 0, 100)


async def subscribers(connection, rng):
    name = key(rng, "channel", 200)
    command = rng.choice(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
    connection.send(command, name, *([] if command == "SSUBSCRIBE" else [f"{name}*", f"other:{rng.random()}"]))
    while True:
        await connection.read()


async def publishers(connection, rng):
    while True:
        name = key(rng, "channel", 200)
        await connection(rng.choice(["PUBLISH", "SPUBLISH"]), name, "m" * rng.randrange(2000))
        await connection("ZADD", key(rng, "marker", 100), rng.random(), "0")
        await pause(rng)


async def trackers(connection, rng):
    """Client-side caching: what is read is announced when it changes."""
    await connection("HELLO", 3)
    await connection("CLIENT", "TRACKING", "ON", *rng.choice([[], ["BCAST", "PREFIX", f"limit:{rng.randrange(10)}"], ["OPTIN"]]))
    while True:
        await connection("GET", key(rng, "limit"))
        await connection("HGETALL", key(rng, "hash", 50))
        await pause(rng, 4)


async def monitors(connection, rng):
    """Seconds of MONITOR, read."""
    await connection("MONITOR")
    for _ in range(rng.randrange(2000)):
        await connection.read()


async def deaf(connection, rng):
    """Subscribers and askers that do not read: the server closes them, or they go."""
    await connection("SUBSCRIBE", *[f"channel:{n}" for n in range(200)]) if rng.random() < 0.5 else None
    connection.writer.transport.pause_reading()
    for _ in range(20):
        connection.send("PING")
        await pause(rng, 4)


async def unfinished(connection, rng):
    """Half a request, and silence."""
    connection.writer.write(rng.choice([b"*3\r\n$3\r\nSET\r\n$1", b"GET some", b"*1\r\n", b"*2\r\n$100000\r\n" + b"z" * rng.randrange(90_000)]))
    await pause(rng, 20)


async def strangers(connection, rng):
    """Requests that are wrong."""
    await connection("CLIENT", "SETNAME", f"stranger-{rng.randrange(1 << 30)}")
    for words in [("NOSUCH", "x"), ("GET",), ("LPUSH", "limit:1", "x"), ("SET", "k", "v", "EX", "0"), ("EVAL", "return nil +", 0)]:
        await connection(*words)
    connection.writer.write(rng.choice([b"*x\r\n", b"POST / HTTP/1.1\r\n\r\n", b"*-5\r\n", b"$$$\r\n", b"*1\r\n!3\r\n"]))
    await pause(rng, 2)


# Kind, and how many of a hundred clients are of it.
KINDS = [
    (strings, 22), (collections, 10), (pipelines, 6), (transactions, 10), (scripts, 8), (waiters, 15), (subscribers, 12),
    (publishers, 6), (trackers, 5), (monitors, 1), (deaf, 2), (unfinished, 2), (strangers, 1),
]
