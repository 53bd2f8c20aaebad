"""redis-benchmark, as people compare servers with it."""

import csv
import io

from cases import equal, test

DEFAULT_TESTS = [
    "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN",
    "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
    "LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)",
]  # fmt: skip


def rates(t, *words):
    """Requests a second by test, from its CSV; what the server refuses ends the program with an error."""
    output = t.benchmark("--csv", *words)
    rows = [row for row in csv.reader(io.StringIO(output)) if row]
    start = next((at for at, row in enumerate(rows) if row[0] == "test"), -1)
    return {row[0]: float(row[1]) for row in rows[start + 1 :]}


@test("redis-benchmark: all default tests")
def default(t):
    found = rates(t, "-n", 1000)
    equal([name for name in DEFAULT_TESTS if not found.get(name, 0) > 100], [])
    equal(t.cli("get", "counter:__rand_int__"), "1000")
    equal(t.cli("llen", "mylist"), "1000")


@test("redis-benchmark -P 16: all default tests, pipelined, on many keys")
def pipelined(t):
    found = rates(t, "-n", 3000, "-P", 16, "-r", 100, "-d", 100)
    equal([name for name in DEFAULT_TESTS if not found.get(name, 0) > 100], [])
    keys = [int(key[4:]) for key in t.cli("--scan", "--pattern", "key:*").split("\n")]
    assert len(keys) == 100 and max(keys) < 100, (len(keys), max(keys))
    equal(len(t.cli("get", "key:000000000007")), 100)


@test("redis-benchmark --threads: all default tests from several threads")
def threads(t):
    found = rates(t, "-n", 3000, "-P", 4, "--threads", 2, "-c", 20)
    equal([name for name in DEFAULT_TESTS if not found.get(name, 0) > 100], [])
    # Each thread counts for itself, and a pipeline under way is not cut short.
    assert int(t.cli("get", "counter:__rand_int__")) >= 3000


@test("redis-benchmark: RESP3, tracking, connections anew, a command of one's own, another database")
def options(t):
    assert set(rates(t, "-3", "-t", "get,set", "-n", 3000)) == {"GET", "SET"}
    assert rates(t, "-3", "--enable-tracking", "-t", "get", "-n", 3000, "-r", 100)["GET"] > 0
    assert rates(t, "-k", 0, "-t", "ping_mbulk", "-n", 300, "-c", 10)["PING_MBULK"] > 0
    rates(t, "-n", 1000, "--dbnum", 7, "eval", "return redis.call('incr', KEYS[1])", 1, "by script")
    equal(t.cli("-n", 7, "get", "by script"), "1000")
    rates(t, "-n", 500, "-r", 10, "zadd", "z", "__rand_int__", "member:__rand_int__")
    equal(t.cli("zcard", "z"), "10")
