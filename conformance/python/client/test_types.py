"""The types as an application stores them, through redis-py."""

import datetime
import json

import redis
from cases import equal, raises, test, until


@test("strings: set with options, counters, ranges, many at once")
def strings(t):
    r = t.redis
    equal(r.set("k", "v", ex=100, nx=True), True)
    equal(r.set("k", "w", nx=True), None)
    equal(r.set("k", "w", xx=True, get=True, keepttl=True), "v")
    assert 90 < r.ttl("k") <= 100
    equal(r.getex("k", persist=True), "w")
    equal(r.ttl("k"), -1)
    equal(r.set("k", 1.5), True)
    equal(r.incrbyfloat("k", 0.25), 1.75)
    equal(r.incr("n", 5), 5)
    equal(r.decr("n"), 4)
    equal(r.mset({"a": 1, "b": b"\x00\xff".hex(), "c": "é"}), True)
    equal(r.mget("a", "none", "c"), ["1", None, "é"])
    equal(bool(r.msetnx({"a": 2, "z": 3})), False)
    equal(r.append("c", "!"), 3)
    equal(r.strlen("c"), 3)
    equal(r.getrange("b", 0, 1), "00")
    equal(r.setrange("gap", 3, "x"), 4)
    equal(r.get("gap"), "\0\0\0x")
    equal(r.getdel("gap"), "\0\0\0x")
    equal(r.exists("a", "gap", "a"), 2)
    raises(redis.ResponseError, "value is not an integer or out of range", lambda: r.incr("c"))
    raises(redis.ResponseError, "WRONGTYPE", lambda: r.lpush("c", "x"))
    equal(r.setex("soon", datetime.timedelta(milliseconds=1500), "x"), True)
    assert 0 < r.pttl("soon") <= 1500


@test("strings: bytes and a large value come back as they went")
def binary(t):
    raw = t.connect(decode_responses=False)
    every = bytes(range(256)) * 8000
    equal(raw.set(every[:256], every), True)
    equal(raw.get(every[:256]), every)
    equal(raw.getrange(every[:256], -3, -1), b"\xfd\xfe\xff")
    equal(raw.keys(), [every[:256]])


@test("bits: set, count, position, fields")
def bits(t):
    r = t.redis
    for day in (0, 3, 9):
        equal(r.setbit("seen", day, 1), 0)
    equal(r.bitcount("seen"), 3)
    equal(r.bitcount("seen", 0, 3, "BIT"), 2)
    equal(r.bitpos("seen", 0), 1)
    equal(r.bitop("NOT", "unseen", "seen"), 2)
    equal(r.bitcount("unseen"), 13)
    field = r.bitfield("f", default_overflow="SAT")
    equal(field.set("u4", "#1", 14).incrby("u4", "#1", 5).get("u4", 4).execute(), [0, 15, 15])
    equal(r.bitfield_ro("f", "u8", 0), [15])


@test("hashes: mapping, counters, scan, fields at random")
def hashes(t):
    r = t.redis
    equal(r.hset("h", mapping={"name": "Ada", "n": 1}), 2)
    equal(r.hset("h", "name", "Eve"), 0)
    equal(r.hgetall("h"), {"name": "Eve", "n": "1"})
    equal(r.hgetall("none"), {})
    equal(r.hmget("h", ["name", "x"]), ["Eve", None])
    equal(r.hincrby("h", "n", 4), 5)
    equal(r.hincrbyfloat("h", "f", 0.5), 0.5)
    equal(sorted(r.hvals("h")), ["0.5", "5", "Eve"])
    equal(bool(r.hsetnx("h", "name", "x")), False)
    equal(r.hstrlen("h", "name"), 3)
    equal(r.hdel("h", "f", "g"), 1)
    r.hset("wide", mapping={f"field {n}": n for n in range(1500)})
    equal(dict(r.hscan_iter("wide", match="field 1?")), {f"field {n}": str(n) for n in range(10, 20)})
    equal(len(dict(r.hscan_iter("wide", count=100))), 1500)
    equal(len(set(r.hrandfield("wide", 20))), 20)
    equal(r.object("encoding", "wide"), "hashtable")
    raises(redis.ResponseError, "hash value is not an integer", lambda: r.hincrby("h", "name", 1))


@test("lists: ends, ranges, positions, moves")
def lists(t):
    r = t.redis
    equal(r.rpush("l", *"abcabc"), 6)
    equal(r.lrange("l", 0, -1), list("abcabc"))
    equal(r.lpos("l", "c", rank=-1), 5)
    equal(r.lpos("l", "a", count=0), [0, 3])
    equal(r.linsert("l", "after", "a", "x"), 7)
    equal(r.lrem("l", -1, "a"), 1)
    equal(r.lpop("l", 2), ["a", "x"])
    equal(r.rpop("l"), "c")
    equal(r.rpop("none", 2), None)
    equal(r.lmove("l", "m", "LEFT", "RIGHT"), "b")
    equal(r.rpoplpush("l", "m"), "b")
    equal(r.lset("l", 0, "C"), True)
    equal(r.lmpop(2, "none", "m", direction="LEFT", count=9), ["m", ["b", "b"]])
    equal(r.lpushx("none", "x"), 0)
    equal(r.ltrim("l", 1, 0), True)
    equal(r.exists("l"), 0)
    raises(redis.ResponseError, "no such key", lambda: r.lset("none", 0, "x"))


@test("sets: members and algebra")
def sets(t):
    r = t.redis
    equal(r.sadd("a", 1, 2, 3), 3)
    equal(r.sadd("b", 2, 3, "x"), 3)
    equal(set(r.sinter("a", "b")), {"2", "3"})
    equal(set(r.sdiff("b", "a")), {"x"})
    equal(set(r.sunion("a", "b")), {"1", "2", "3", "x"})
    equal(r.sintercard(2, ["a", "b"], limit=1), 1)
    equal(r.sdiffstore("d", "a", "b"), 1)
    equal([int(one) for one in r.smismember("a", ["1", "7"])], [1, 0])
    equal(bool(r.smove("a", "b", "1")), True)
    equal(r.object("encoding", "a"), "intset")
    equal(len(set(r.spop("b", 2))), 2)
    r.sadd("many", *range(3000))
    equal({int(one) for one in r.sscan_iter("many", count=50)}, set(range(3000)))


@test("sorted sets: scores, ranks, ranges by score and by member, aggregates")
def zsets(t):
    r = t.redis
    pair = lambda reply: [(member, float(score)) for member, score in reply]
    equal(r.zadd("z", {"a": 1, "b": 2.5, "c": 10}), 3)
    equal(r.zadd("z", {"a": 5, "d": 1}, gt=True, ch=True), 2)
    equal(float(r.zadd("z", {"a": 1}, incr=True)), 6.0)
    equal(float(r.zincrby("z", 0.5, "b")), 3.0)
    equal(pair(r.zrange("z", 0, -1, withscores=True)), [("d", 1.0), ("b", 3.0), ("a", 6.0), ("c", 10.0)])
    equal(r.zrange("z", 0, 1, desc=True), ["c", "a"])
    equal(r.zrangebyscore("z", "(1", "6", start=0, num=1), ["b"])
    equal(r.zrevrangebyscore("z", "+inf", 3), ["c", "a", "b"])
    equal(r.zrank("z", "a"), 2)
    equal(r.zscore("z", "none"), None)
    equal(r.zcount("z", "-inf", "(10"), 3)
    equal(r.zadd("lex", dict.fromkeys(["ada", "bob", "cyd"], 0)), 3)
    equal(r.zrangebylex("lex", "[b", "+"), ["bob", "cyd"])
    equal(r.zlexcount("lex", "-", "(bob"), 1)
    equal(r.zunionstore("u", {"z": 2, "lex": 1}, aggregate="MAX"), 7)
    equal(float(r.zscore("u", "c")), 20.0)
    equal(pair(r.zinter(["z", "u"], withscores=True)), [("d", 3.0), ("b", 9.0), ("a", 18.0), ("c", 30.0)])
    equal(r.zdiff(["u", "z"]), ["ada", "bob", "cyd"])
    equal(pair(r.zpopmin("z", 2)), [("d", 1.0), ("b", 3.0)])
    equal(r.zremrangebyrank("u", 0, 2), 3)
    equal(r.zremrangebyscore("z", 7, "inf"), 1)
    equal([float(score) if score is not None else None for score in r.zmscore("z", ["a", "c"])], [6.0, None])
    r.zadd("many", {f"m{n}": n / 3 for n in range(1000)})
    equal(len({member for member, _ in r.zscan_iter("many")}), 1000)
    equal(float(r.zscore("many", "m1")), 1 / 3)
    raises(redis.ResponseError, "not a valid float", lambda: r.zadd("z", {"x": "abc"}))


@test("HyperLogLogs and geo sets")
def counting(t):
    r = t.redis
    for n in range(20):
        r.pfadd("hll", *range(n * 50, n * 50 + 100))
    assert abs(r.pfcount("hll") - 1050) < 40, r.pfcount("hll")
    r.pfadd("other", "x")
    equal(r.pfmerge("both", "hll", "other"), True)
    equal(r.geoadd("g", [13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"]), 2)
    assert abs(float(r.geodist("g", "Palermo", "Catania", "km")) - 166.2742) < 1e-4
    equal(r.geohash("g", "Catania"), ["sqdtr74hyu0"])
    found = r.geosearch("g", longitude=15, latitude=37, radius=200, unit="km", sort="ASC", withdist=True)
    equal([(name, round(float(distance), 1)) for name, distance in found], [("Catania", 56.4), ("Palermo", 190.4)])
    equal(r.geosearchstore("near", "g", longitude=15, latitude=37, radius=100, unit="km", storedist=True), 1)


@test("streams: producers, a group of consumers, claims")
def streams(t):
    r = t.redis
    ids = [r.xadd("s", {"n": n, "json": json.dumps({"n": n})}, id=f"{n}-1") for n in range(1, 11)]
    equal(ids[0], "1-1")
    equal(r.xlen("s"), 10)
    equal(r.xrange("s", "2", "3"), [(f"{n}-1", {"n": str(n), "json": json.dumps({"n": n})}) for n in (2, 3)])
    equal([id for id, _ in r.xrevrange("s", count=2)], ["10-1", "9-1"])
    equal(r.xgroup_create("s", "g", id="0"), True)
    raises(redis.ResponseError, "BUSYGROUP", lambda: r.xgroup_create("s", "g"))
    taken = r.xreadgroup("g", "ann", {"s": ">"}, count=4)
    equal(ids_of(taken), ids[:4])
    equal(r.xack("s", "g", *ids[:2]), 2)
    summary = r.xpending("s", "g")
    equal((summary["pending"], summary["min"], summary["max"]), (2, ids[2], ids[3]))
    pending = r.xpending_range("s", "g", "-", "+", 10)
    equal([(one["message_id"], one["consumer"], one["times_delivered"]) for one in pending], [(id, "ann", 1) for id in ids[2:4]])
    equal([id for id, _ in r.xclaim("s", "g", "bob", 0, [ids[2]])], [ids[2]])
    cursor, claimed, *deleted = r.xautoclaim("s", "g", "cyd", 0, "0-0", count=1)
    equal((cursor, [id for id, _ in claimed], deleted), (ids[3], [ids[2]], [[]]))
    groups = r.xinfo_groups("s")
    equal((groups[0]["name"], groups[0]["consumers"], groups[0]["pending"], groups[0]["lag"]), ("g", 3, 2, 6))
    equal([one["name"] for one in r.xinfo_consumers("s", "g")], ["ann", "bob", "cyd"])
    info = r.xinfo_stream("s", full=True)
    equal((info["length"], len(info["groups"])), (10, 1))
    equal(r.xtrim("s", maxlen=3, approximate=False), 7)
    equal(r.xdel("s", ids[9]), 1)
    equal(ids_of(r.xread({"s": "0"})), ids[7:9])
    equal(r.xinfo_stream("s")["max-deleted-entry-id"], ids[9])


def ids_of(reply):
    """The ids of an XREAD reply of one stream, which redis-py gives as a list (RESP2) or as a dict (RESP3)."""
    ((_, entries),) = reply.items() if isinstance(reply, dict) else reply
    if entries and isinstance(entries[0], list):
        entries = entries[0]
    return [id for id, _ in entries]


@test("streams: a reader that waits is woken, in time")
def stream_wait(t):
    reading = t.thread(lambda: t.connect().xread({"s": "$"}, block=5000))
    until("it waits", lambda: t.blocked() == 1)
    id = t.redis.xadd("s", {"a": "b"})
    equal(ids_of(reading.result()), [id])
    assert not t.redis.xread({"s": "$"}, block=20)


@test("keys: expiry, scan, dump, sort, rename")
def keys(t):
    r = t.redis
    r.mset({f"key:{n}": n for n in range(2500)})
    r.rpush("key:list", 3, 1, 2)
    equal(len(set(r.scan_iter())), 2501)
    equal(set(r.scan_iter(match="key:1?", count=1000)), {f"key:{n}" for n in range(10, 20)})
    equal(list(r.scan_iter(_type="list")), ["key:list"])
    equal(len(r.keys("key:24??")), 100)
    equal(r.sort("key:list", desc=True), ["3", "2", "1"])
    r.mset({"w:1": 30, "w:2": 20, "w:3": 10})
    equal(r.sort("key:list", by="w:*", get=["#", "w:*"], groups=True), [("3", "10"), ("2", "20"), ("1", "30")])
    equal(bool(r.expire("key:1", 100)), True)
    equal(bool(r.expire("key:1", 200, lt=True)), False)
    equal(bool(r.persist("key:1")), True)
    raw = t.connect(decode_responses=False)
    dump = raw.dump("key:list")
    equal(raw.restore("copy", 0, dump), b"OK")
    equal(r.lrange("copy", 0, -1), ["3", "1", "2"])
    raises(redis.ResponseError, "BUSYKEY", lambda: raw.restore("copy", 0, dump))
    raises(redis.ResponseError, "DUMP payload version or checksum are wrong", lambda: raw.restore("bad", 0, dump[:-1] + b"x"))
    equal(r.type("copy"), "list")
    equal(bool(r.copy("copy", "copy2")), True)
    equal(bool(r.renamenx("copy", "copy2")), False)
    equal(r.unlink("copy", "copy2", "none"), 2)
    r.set("short", "x", px=30)
    until("it is gone", lambda: r.exists("short") == 0)
    equal(r.dbsize(), 2504)
