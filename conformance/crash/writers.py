"""What the clients of the crash test write, each in an order it can be asked about later.

A writer numbers its steps from 1. `acked` is the last one that was answered; at most one step (or batch) after it may have
been sent. After a restart the data must say that the steps up to some number happened, and no others.
"""


from resp import ReplyError


class Writer:
    # Steps sent before the first of them is answered.
    ahead = 1

    def __init__(self, number, rng):
        self.number, self.rng = number, rng
        self.began = self.acked = self.on_disk = 0

    def key(self, name):
        return f"{name}:{self.number}"

    def resume(self, client):
        """Goes on from what is there."""
        self.began = self.acked = self.on_disk = self.steps_done(client)

    def step(self, client):
        self.write(client, self.acked + 1)
        self.acked += self.ahead

    def check(self, client, least):
        done = self.steps_done(client)
        if not least <= done <= self.acked + self.ahead:
            raise AssertionError(f"{type(self).__name__}: {done} steps are there, of {least} to {self.acked + self.ahead}")

    # Whether its steps are written down in the list `history`, in one unit with what they do.
    has_history = False


def number_of(reply):
    return int(reply or 0)


class Counter(Writer):
    def write(self, client, step):
        reply = client("INCR", self.key("counter"))
        assert reply == step, f"INCR answers {reply}, not {step}"

    def steps_done(self, client):
        return number_of(client("GET", self.key("counter")))


class PipelinedCounter(Writer):
    ahead = 20

    def write(self, client, step):
        replies = client.pipeline([("INCR", self.key("pipelined"))] * self.ahead)
        assert replies == list(range(step, step + self.ahead)), f"{replies} from {step}"

    def steps_done(self, client):
        return number_of(client("GET", self.key("pipelined")))


class List(Writer):
    def write(self, client, step):
        client("RPUSH", self.key("list"), step)

    def steps_done(self, client):
        elements = [int(element) for element in client("LRANGE", self.key("list"), 0, -1)]
        assert elements == list(range(1, len(elements) + 1)), "the list has a hole"
        return len(elements)


class Stream(Writer):
    def write(self, client, step):
        client("XADD", self.key("stream"), f"{step}-1", "step", step)

    def steps_done(self, client):
        ids = [int(entry[0].split(b"-")[0]) for entry in client("XRANGE", self.key("stream"), "-", "+")]
        assert ids == list(range(1, len(ids) + 1)), "the stream has a hole"
        return len(ids)


class Hash(Writer):
    """Fields that come and go, some by a time to live: the last ten are there."""

    def write(self, client, step):
        client("EVAL", self.SCRIPT, 1, self.key("hash"), step)

    SCRIPT = """redis.call('HSET', KEYS[1], ARGV[1], ARGV[1]) redis.call('HDEL', KEYS[1], ARGV[1] - 10)
                redis.call('SET', KEYS[1] .. ':last', ARGV[1])
                redis.call('SET', KEYS[1] .. ':brief', ARGV[1], 'PX', 20)"""

    def steps_done(self, client):
        fields = sorted(int(field) for field in client("HKEYS", self.key("hash")))
        last = number_of(client("GET", self.key("hash") + ":last"))
        assert fields == list(range(max(1, last - 9), last + 1)), f"{fields} with {last} as the last"
        return last


class Transaction(Writer):
    has_history = True

    def write(self, client, step):
        replies = client.pipeline([
            ("MULTI",), ("SET", self.key("first"), step), ("RPUSH", "history", f"{self.number} {step}"),
            ("SELECT", 1), ("SET", self.key("second"), step), ("SELECT", 0), ("EXEC",),
        ])
        if isinstance(replies[-1], ReplyError):
            raise replies[-1]

    def steps_done(self, client):
        first = number_of(client("GET", self.key("first")))
        client("SELECT", 1)
        second = number_of(client("GET", self.key("second")))
        client("SELECT", 0)
        assert first == second, f"half a transaction: {first} and {second}"
        return first


class Script(Writer):
    has_history = True

    def write(self, client, step):
        reply = client("EVAL", self.SCRIPT, 3, self.key("script"), self.key("scored"), "history", f"{self.number} {step}")
        assert reply == step, f"the script answers {reply}, not {step}"

    SCRIPT = """local n = redis.call('INCR', KEYS[1]) redis.call('RPUSH', KEYS[3], ARGV[1])
                redis.call('ZADD', KEYS[2], n, 'm' .. n % 100) redis.call('SET', KEYS[1] .. ':copy', n) return n"""

    def steps_done(self, client):
        done, copy = (number_of(client("GET", self.key("script") + end)) for end in ("", ":copy"))
        highest = client("ZRANGE", self.key("scored"), -1, -1, "WITHSCORES")
        score = int(highest[1]) if highest else 0
        assert done == copy == score, f"half a script: {done}, {copy}, {score}"
        return done


class Money(Writer):
    """Moves an amount between two accounts; their sum never changes."""

    has_history = True
    ACCOUNTS, EACH = 8, 1000

    @classmethod
    def deposit(cls, client):
        client("MSET", *[word for number in range(cls.ACCOUNTS) for word in (f"account:{number}", cls.EACH)])

    @classmethod
    def check_sum(cls, client):
        total = sum(number_of(client("GET", f"account:{number}")) for number in range(cls.ACCOUNTS))
        assert total == cls.ACCOUNTS * cls.EACH, f"{total} is left of {cls.ACCOUNTS * cls.EACH}"

    def write(self, client, step):
        source, target = self.rng.sample(range(self.ACCOUNTS), 2)
        replies = client.pipeline([
            ("MULTI",), ("DECRBY", f"account:{source}", 7), ("INCRBY", f"account:{target}", 7),
            ("SET", self.key("moved"), step), ("RPUSH", "history", f"{self.number} {step}"), ("EXEC",),
        ])
        if isinstance(replies[-1], ReplyError):
            raise replies[-1]

    def steps_done(self, client):
        return number_of(client("GET", self.key("moved")))


class Mover(Writer):
    """Puts an element into one list and moves another to a second list."""

    def write(self, client, step):
        client("EVAL", self.SCRIPT, 2, self.key("from"), self.key("to"), step)

    SCRIPT = """redis.call('LPUSH', KEYS[1], ARGV[1])
                if ARGV[1] % 2 == 0 then redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT') end"""

    def steps_done(self, client):
        elements = client("LRANGE", self.key("from"), 0, -1) + client("LRANGE", self.key("to"), 0, -1)
        elements = sorted(int(element) for element in elements)
        assert elements == list(range(1, len(elements) + 1)), "an element is lost or doubled"
        moved = client("LLEN", self.key("to"))
        assert moved == len(elements) // 2, f"{moved} of {len(elements)} are moved"
        return len(elements)


class BlockedPair(Writer):
    """What a client gets by waiting for it is gone for good."""

    def write(self, client, step):
        key = self.key("queue")
        with client.__class__(client.socket.getpeername()[1]) as other:
            other.send(("BLMOVE", key, self.key("served"), "LEFT", "RIGHT", 60))
            client("RPUSH", key, step)
            served = other.read()
        assert served == str(step).encode(), f"{served} was served, not {step}"

    def steps_done(self, client):
        served = [int(element) for element in client("LRANGE", self.key("served"), 0, -1)]
        waiting = [int(element) for element in client("LRANGE", self.key("queue"), 0, -1)]
        elements = served + waiting
        assert elements == list(range(1, len(elements) + 1)), "the queue has a hole"
        # What was not served is served first when it goes on.
        for element in waiting:
            client("LMOVE", self.key("queue"), self.key("served"), "LEFT", "RIGHT")
        return len(elements)


WRITERS = [Counter, PipelinedCounter, List, Stream, Hash, Transaction, Script, Money, Mover, BlockedPair]


def check_order(client, writers):
    """The list that transactions and scripts write their order to holds each step of theirs, once and in order."""
    counts = {writer.number: 0 for writer in writers if writer.has_history}
    for line in client("LRANGE", "history", 0, -1):
        number, step = map(int, line.split())
        counts[number] += 1
        assert counts[number] == step, f"step {step} of writer {number} stands where {counts[number]} should"
    for writer in writers:
        if writer.has_history:
            done = writer.steps_done(client)
            assert counts[writer.number] == done, f"writer {writer.number}: {counts[writer.number]} written down, {done} done"
