"""Pipelines, transactions, scripts, locks, blocking commands and pub/sub through redis-py."""

import threading
import time
import uuid

import redis
from cases import equal, raises, test, until
from context import PROTOCOL


@test("pipeline: 10,000 commands, replies in order, one error among them")
def pipeline(t):
    with t.redis.pipeline(transaction=False) as pipe:
        for n in range(5000):
            pipe.set(f"k{n}", n).get(f"k{n}")
        pipe.lpush("k0", "x").get("k1")
        replies = pipe.execute(raise_on_error=False)
    equal(replies[:10000], [reply for n in range(5000) for reply in (True, str(n))])
    assert isinstance(replies[10000], redis.ResponseError) and "WRONGTYPE" in str(replies[10000])
    equal(replies[10001], "1")


@test("transactions: replies, errors, refused commands")
def transactions(t):
    with t.redis.pipeline() as pipe:
        equal(pipe.set("n", 1).incr("n").get("n").execute(), [True, 2, "2"])
        pipe.set("s", "x").incr("s").set("t", "y")
        raises(redis.ResponseError, "Command # 2 (INCRBY s 1) of pipeline caused error", pipe.execute)
        equal(t.redis.get("t"), "y")
        pipe.set("t", "never").execute_command("NOSUCH", "x")
        raises(redis.ResponseError, "unknown command", pipe.execute)
        equal(t.redis.get("t"), "y")


@test("transactions: optimistic locking by WATCH among 8 threads")
def watch(t):
    t.redis.set("stock", 0)
    conflicts = []

    def work():
        client = t.connect()

        def bump(pipe):
            value = int(pipe.get("stock"))
            time.sleep(0.0005)
            pipe.multi()
            pipe.set("stock", value + 1)

        for _ in range(15):
            conflicts.append(client.transaction(bump, "stock"))

    for thread in [t.thread(work) for _ in range(8)]:
        thread.result(40)
    equal(t.redis.get("stock"), "120")
    with t.redis.pipeline() as pipe:
        pipe.watch("stock")
        t.connect().set("stock", "x")
        pipe.multi()
        pipe.get("stock")
        raises(redis.WatchError, "Watched variable changed", pipe.execute)


@test("scripts: registered, reloaded after a flush, in a pipeline; types of replies")
def scripts(t):
    r = t.redis
    multiply = r.register_script("return redis.call('GET', KEYS[1]) * ARGV[1]")
    r.set("n", 6)
    equal(multiply(keys=["n"], args=[7]), 42)
    r.script_flush()
    equal(multiply(keys=["n"], args=[2]), 12)
    r.script_flush()
    with r.pipeline() as pipe:
        multiply(keys=["n"], args=[3], client=pipe)
        pipe.get("n")
        equal(pipe.execute(), [18, "6"])
    digest = r.script_load("return 1")
    equal([bool(one) for one in r.script_exists(digest, "0" * 40)], [True, False])
    raises(redis.exceptions.NoScriptError, "No matching script", lambda: r.evalsha("0" * 40, 0))
    equal(r.eval("return {1, 'two', {3, false}, 4.9, true}", 0), [1, "two", [3, None], 4, 1])
    equal(r.eval("return redis.status_reply('FINE')", 0), "FINE")
    raises(redis.ResponseError, "out of luck", lambda: r.eval("return redis.error_reply('ERR out of luck')", 0))
    raises(redis.ResponseError, "Script attempted to access nonexistent global variable", lambda: r.eval("return x", 0))
    equal(r.eval("return cjson.encode({1, 'a', cjson.null})", 0), '[1,"a",null]')
    equal(r.eval("return cmsgpack.unpack(cmsgpack.pack({5, 'x'}))[1]", 0), 5)
    if PROTOCOL == 3:
        equal(r.eval("redis.setresp(3); return {double = 0.5}", 0), 0.5)
        equal(r.eval("redis.setresp(3); return {map = {a = 1}}", 0), {"a": 1})


@test("scripts: one that runs too long is answered BUSY and killed", limit=120)
def busy(t):
    server = t.start("--busy-reply-threshold", "100")
    running = t.thread(lambda: t.connect(server).eval("while true do end", 0))
    other = t.connect(server)

    def is_busy():
        try:
            return not other.ping()
        except (redis.exceptions.ResponseError, redis.exceptions.BusyLoadingError) as error:
            return "BUSY" in str(error)

    until("it is busy", is_busy)
    equal(other.script_kill() in (True, "OK"), True)
    raises(redis.ResponseError, "Script killed by user", running.result)
    equal(other.ping(), True)


@test("functions: load, call, list, delete")
def functions(t):
    r = t.redis
    code = "#!lua name=lib\nredis.register_function('double', function(keys, args) return 2 * args[1] end)"
    equal(r.function_load(code), "lib")
    equal(r.function_load(code, replace=True), "lib")
    raises(redis.ResponseError, "already exists", lambda: r.function_load(code))
    equal(r.fcall("double", 0, 21), 42)
    listed = r.function_list(library="lib")
    assert "lib" in str(listed) and "double" in str(listed), listed
    assert r.function_stats()
    equal(r.function_delete("lib") in (True, "OK"), True)
    raises(redis.ResponseError, "Function not found", lambda: r.fcall("double", 0, 1))


@test("locks: redis-py's own Lock among 6 threads, extended, lost, not owned")
def locks(t):
    def work(n):
        client = t.connect()
        for _ in range(10):
            with client.lock("lock", timeout=25, blocking_timeout=25, sleep=0.002):
                value = int(client.get("counter") or 0)
                client.set("counter", value + 1)

    for thread in [t.thread(work, n) for n in range(6)]:
        thread.result(40)
    equal(t.redis.get("counter"), "60")
    lock = t.redis.lock("mine", timeout=5)
    equal(lock.acquire(), True)
    equal(lock.extend(10), True)
    assert t.redis.pttl("mine") > 10_000
    equal(lock.reacquire(), True)
    equal(t.connect().lock("mine").acquire(blocking=False), False)
    t.redis.delete("mine")
    raises(redis.exceptions.LockNotOwnedError, "Cannot release a lock", lock.release)
    short = t.redis.lock("short", timeout=0.2)
    short.acquire()
    equal(t.connect().lock("short", timeout=1, blocking_timeout=20).acquire(), True)


@test("blocking: timeouts as asked, and who waited first is served first")
def blocking(t):
    r = t.redis
    for wait in (lambda: r.blpop("none", 0.1), lambda: r.brpoplpush("none", "x", 0.1), lambda: r.bzpopmin("none", 0.1),
                 lambda: r.blmove("none", "x", 0.1), lambda: r.blmpop(0.1, 1, "none", direction="LEFT")):
        began = time.monotonic()
        equal(wait(), None)
        took = time.monotonic() - began
        assert 0.09 < took < 20, took
    waiting = []
    for n in range(3):
        waiting.append(t.thread(lambda: t.connect().brpop(["a", "b"], 25)))
        until("it waits", lambda: t.blocked() == n + 1)
    r.rpush("b", "1", "2")
    r.rpush("a", "3")
    equal([tuple(one.result()) for one in waiting], [("b", "2"), ("b", "1"), ("a", "3")])
    popping = t.thread(lambda: t.connect().bzpopmax("z", 25))
    until("it waits", lambda: t.blocked() == 1)
    r.zadd("z", {"low": 1, "high": 2})
    key, member, score = popping.result()
    equal((key, member, float(score)), ("z", "high", 2.0))


@test("pub/sub: channels, patterns, shards, a thread that listens")
def pubsub(t):
    got = []
    listener = t.connect().pubsub(ignore_subscribe_messages=True)
    listener.subscribe(**{"news": lambda message: got.append(("news", message["data"]))})
    listener.psubscribe(**{"n?ws": lambda message: got.append((message["pattern"], message["data"]))})
    thread = listener.run_in_thread(sleep_time=0.01)
    until("both are heard of", lambda: t.redis.pubsub_numpat() == 1 and t.redis.pubsub_numsub("news") in ([("news", 1)], {"news": 1}))
    for n in range(200):
        equal(t.redis.publish("news", n), 2)
    until("all came", lambda: len(got) == 400)
    thread.stop()
    thread.join(5)
    equal([data for name, data in got if name == "news"], [str(n) for n in range(200)])
    shard = t.connect().pubsub()
    shard.ssubscribe("s")
    equal(shard.get_message(timeout=5)["type"], "ssubscribe")
    equal(t.redis.spublish("s", "x"), 1)
    message = until("it came", lambda: shard.get_message(timeout=1))
    equal((message["type"], message["data"]), ("smessage", "x"))
    if PROTOCOL == 2:
        # Under RESP3 PING is answered as on any connection.
        shard.ping()
        until("the pong came", lambda: (shard.get_message(timeout=1) or {}).get("type") == "pong")


@test("sliding window limit and a delayed queue in sorted sets")
def windows(t):
    def allowed(now):
        with t.redis.pipeline() as pipe:
            pipe.zremrangebyscore("limit", 0, now - 60).zadd("limit", {str(uuid.uuid4()): now}).zcard("limit").expire("limit", 60)
            return pipe.execute()[2] <= 5

    equal([allowed(1000 + n) for n in range(7)], [True] * 5 + [False] * 2)
    equal(allowed(1063), True)
    t.redis.zadd("delayed", {f"job{n}": n for n in range(100)})
    taken, lock = [], threading.Lock()

    def work():
        client = t.connect()
        while due := client.zrangebyscore("delayed", "-inf", 59, start=0, num=1):
            if client.zrem("delayed", due[0]):
                with lock:
                    taken.append(due[0])

    for thread in [t.thread(work) for _ in range(4)]:
        thread.result()
    equal(sorted(taken), sorted(f"job{n}" for n in range(60)))
    equal(t.redis.zcard("delayed"), 40)


# Under RESP3 invalidations are not messages of a channel; node-redis's cases cover that.
if PROTOCOL == 2:

    @test("client-side caching: invalidations are redirected to a connection that listens")
    def redirected(t):
        listener = t.connect().pubsub(ignore_subscribe_messages=True)
        listener.execute_command("CLIENT", "ID")
        id = listener.parse_response()
        listener.subscribe("__redis__:invalidate")
        until("it listens", lambda: t.redis.pubsub_channels() == ["__redis__:invalidate"])
        reader = t.connect(single_connection_client=True)
        equal(reader.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", id), "OK")
        equal(reader.client_getredir(), id)

        def dropped():
            return until("an invalidation came", lambda: listener.get_message(timeout=1))["data"]

        t.redis.set("k", "1")
        for write in (lambda: t.redis.incr("k"), lambda: t.redis.eval("redis.call('DEL', KEYS[1])", 1, "k"), lambda: t.redis.set("k", "v", px=20)):
            reader.get("k")
            write()
            equal(dropped(), ["k"])
        reader.get("k")
        until("it expired", lambda: not t.redis.exists("k"))
        equal(dropped(), ["k"])
        reader.mget("a", "b")
        t.redis.flushall()
        equal(dropped(), None)
