"""Instructions of the server for one command, counted by valgrind's callgrind: the same in every run but for the few of
the periodic work, whatever else the machine does. Ten commands and a job (a script that adds it, one that takes and finishes
it), over one connection with 16 commands in flight."""

import re
import statistics
import subprocess

from common import Server, alternate, table

KEYS = 1000
DEPTH = 16
OPERATIONS = 16_000
VALUE = b"x" * 32
# Periodic work comes by the clock, which valgrind slows down: as little of it as can be asked for.
WORDS = ["--hz", "1"]
UNDER = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]

ADD_JOB = b"""
local id = redis.call('INCR', KEYS[1] .. 'id')
local key = KEYS[1] .. id
redis.call('HMSET', key, 'name', ARGV[1], 'data', ARGV[2], 'opts', cjson.encode({attempts = 3, delay = 0}), 'timestamp', ARGV[3], 'delay', 0, 'priority', 0)
redis.call('XADD', KEYS[1] .. 'events', 'MAXLEN', '~', 1000, '*', 'event', 'added', 'jobId', id, 'name', ARGV[1])
if redis.call('HEXISTS', KEYS[1] .. 'meta', 'paused') == 0 then
  redis.call('LPUSH', KEYS[1] .. 'wait', id)
  redis.call('ZADD', KEYS[1] .. 'marker', 0, '0')
end
redis.call('XADD', KEYS[1] .. 'events', 'MAXLEN', '~', 1000, '*', 'event', 'waiting', 'jobId', id)
return id .. ''
"""

FINISH_JOB = b"""
local id = redis.call('RPOPLPUSH', KEYS[1] .. 'wait', KEYS[1] .. 'active')
if not id then return false end
local key = KEYS[1] .. id
redis.call('SET', key .. ':lock', ARGV[1], 'PX', 30000)
redis.call('HMSET', key, 'processedOn', ARGV[2], 'attemptsMade', 1)
local job = redis.call('HGETALL', key)
redis.call('DEL', key .. ':lock')
redis.call('LREM', KEYS[1] .. 'active', -1, id)
redis.call('ZADD', KEYS[1] .. 'completed', ARGV[2], id)
redis.call('HMSET', key, 'returnvalue', 'null', 'finishedOn', ARGV[2])
local old = redis.call('ZRANGEBYSCORE', KEYS[1] .. 'completed', '-inf', ARGV[2] - 1000, 'LIMIT', 0, 10)
for _, job_id in ipairs(old) do
  redis.call('DEL', KEYS[1] .. job_id)
  redis.call('ZREM', KEYS[1] .. 'completed', job_id)
end
redis.call('XADD', KEYS[1] .. 'events', 'MAXLEN', '~', 1000, '*', 'event', 'completed', 'jobId', id)
return #job
"""


def key(kind, n):
    return b"%s:%012d" % (kind, n % KEYS)


COMMANDS = {
    "GET": lambda n: (b"GET", key(b"string", n)),
    "SET": lambda n: (b"SET", key(b"string", n), VALUE),
    "INCR": lambda n: (b"INCR", key(b"counter", n)),
    "SETEX": lambda n: (b"SETEX", key(b"dedup", n), b"86400", VALUE),
    "EXPIRE": lambda n: (b"EXPIRE", key(b"counter", n), b"60"),
    "HSET": lambda n: (b"HSET", key(b"hash", n), b"field:%d" % (n % 7), VALUE),
    "LPUSH": lambda n: (b"LPUSH", key(b"list", n), VALUE),
    "SADD": lambda n: (b"SADD", b"set", b"member:%012d" % n),
    "ZADD": lambda n: (b"ZADD", b"sorted", b"%d" % (n * 7919 % 100_003), b"member:%012d" % (n % 5000)),
    "XADD": lambda n: (b"XADD", b"stream", b"MAXLEN", b"~", b"1000", b"*", b"field", VALUE),
    "job added": lambda n: (b"EVAL", ADD_JOB, b"1", b"bull:queue:", b"name", b'{"id":%d}' % n, b"%d" % (1_700_000_000_000 + n)),
    "job done": lambda n: (b"EVAL", FINISH_JOB, b"1", b"bull:queue:", b"token", b"%d" % (1_700_000_000_000 + n)),
}


def fill(server, name, operations):
    server.pipeline(((b"SET", key(b"string", n), VALUE) for n in range(KEYS)), DEPTH)
    server.pipeline(((b"SET", key(b"counter", n), b"1") for n in range(KEYS)), DEPTH)
    if name == "job done":
        server.pipeline((COMMANDS["job added"](n) for n in range(operations)), DEPTH)


def total(server, name, filled, operations):
    """Instructions of a whole life of the server in which the command ran so often."""
    with Server(server.name, server.binary, [*server.words, *WORDS], UNDER, patience_s=120) as process:
        fill(process, name, filled)
        process.pipeline((COMMANDS[name](n) for n in range(operations)), DEPTH)
        process.process.terminate()
        process.process.wait(120)
        return int(re.search(r"Collected : (\d+)", process.log()).group(1))


def once(server, name, operations):
    """Instructions a command: what it adds to a life that is the same but for it."""
    few = operations // 16
    return (total(server, name, operations, operations) - total(server, name, operations, few)) / (operations - few)


def compare(base, ours, pairs, scale, names):
    operations = max(160, int(OPERATIONS * scale))
    rows = []
    for name in names or COMMANDS:
        counts = [statistics.median(side) for side in alternate(pairs, base, ours, lambda server: once(server, name, operations))]
        rows.append([name, *(f"{count:.0f}" for count in counts), f"{counts[1] / counts[0]:.3f}"])
    version = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return f"### Instructions a command, {version}, pipeline {DEPTH}, one connection\n\n" + table(["command", base.name, ours.name, "ratio"], rows)
