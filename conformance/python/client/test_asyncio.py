"""The same server through redis.asyncio: one loop, many tasks."""

import asyncio

import redis
from cases import equal, test


@test("asyncio: a thousand tasks on a pool")
async def tasks(t):
    r = t.connect_async(max_connections=50)
    pool = asyncio.Semaphore(50)

    async def work(n):
        async with pool:
            await r.set(f"k{n}", n)
            return int(await r.get(f"k{n}")) + await r.incr("total") * 0

    equal(sum(await asyncio.gather(*(work(n) for n in range(1000)))), 499_500)
    equal(await r.get("total"), "1000")


@test("asyncio: pipelines, WATCH and scripts")
async def atomic(t):
    r = t.connect_async()
    async with r.pipeline(transaction=True) as pipe:
        equal(await pipe.set("a", 1).incr("a").lpush("l", "x").execute(), [True, 2, 1])

    async def bump():
        async with r.pipeline() as pipe:
            while True:
                try:
                    await pipe.watch("n")
                    value = int(await pipe.get("n") or 0)
                    pipe.multi()
                    pipe.set("n", value + 1)
                    return await pipe.execute()
                except redis.WatchError:
                    continue

    await asyncio.gather(*(bump() for _ in range(40)))
    equal(await r.get("n"), "40")
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    equal(sorted(await asyncio.gather(*(add(keys=["m"], args=[1]) for _ in range(20)))), list(range(1, 21)))


@test("asyncio: producers and consumers over a list and a stream")
async def queues(t):
    r = t.connect_async()
    done = []

    async def consume(client):
        while True:
            _, item = await client.blpop("q", timeout=10)
            if item == "stop":
                return
            done.append(item)

    consumers = [asyncio.create_task(consume(t.connect_async())) for _ in range(5)]
    for n in range(300):
        await r.rpush("q", n)
    await r.rpush("q", *["stop"] * 5)
    await asyncio.wait_for(asyncio.gather(*consumers), 20)
    equal(sorted(map(int, done)), list(range(300)))
    await r.xgroup_create("s", "g", id="0", mkstream=True)
    seen = []

    async def read(name):
        client = t.connect_async()
        while len(seen) < 200:
            reply = await client.xreadgroup("g", name, {"s": ">"}, count=7, block=50)
            for entries in reply.values() if isinstance(reply, dict) else [entries for _, entries in reply]:
                for id, fields in entries[0] if entries and isinstance(entries[0], list) else entries:
                    seen.append(fields["n"])
                    await client.xack("s", "g", id)

    readers = [asyncio.create_task(read(f"c{n}")) for n in range(3)]
    for n in range(200):
        await r.xadd("s", {"n": n})
    await asyncio.wait_for(asyncio.gather(*readers), 20)
    equal(sorted(map(int, seen)), list(range(200)))
    equal((await r.xpending("s", "g"))["pending"], 0)


@test("asyncio: pub/sub to twenty listeners")
async def pubsub(t):
    r = t.connect_async()

    async def listen(ready):
        async with t.connect_async().pubsub() as listener:
            await listener.subscribe("room")
            got = []
            async for message in listener.listen():
                if message["type"] == "subscribe":
                    ready.set()
                elif message["data"] == "bye":
                    return got
                else:
                    got.append(message["data"])

    ready = [asyncio.Event() for _ in range(20)]
    listeners = [asyncio.create_task(listen(event)) for event in ready]
    await asyncio.gather(*(event.wait() for event in ready))
    for n in range(100):
        equal(await r.publish("room", n), 20)
    await r.publish("room", "bye")
    for got in await asyncio.wait_for(asyncio.gather(*listeners), 20):
        equal(got, [str(n) for n in range(100)])


@test("asyncio: locks and scan iterators")
async def locks(t):
    r = t.connect_async()

    async def work():
        async with r.lock("lock", timeout=10, sleep=0.002):
            value = int(await r.get("n") or 0)
            await asyncio.sleep(0)
            await r.set("n", value + 1)

    await asyncio.gather(*(work() for _ in range(25)))
    equal(await r.get("n"), "25")
    await r.mset({f"key:{n}": n for n in range(1200)})
    equal(len({key async for key in r.scan_iter(match="key:*", count=37)}), 1200)
    await r.hset("h", mapping={f"f{n}": n for n in range(700)})
    equal(len({field async for field, _ in r.hscan_iter("h")}), 700)


@test("asyncio: a task that is cancelled while it waits takes nothing")
async def cancelled(t):
    r = t.connect_async()
    waiting = asyncio.create_task(t.connect_async().blpop("q", timeout=30))
    while (await r.info("clients"))["blocked_clients"] != 1:
        await asyncio.sleep(0.01)
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        pass
    while (await r.info("clients"))["blocked_clients"]:
        await asyncio.sleep(0.01)
    await r.rpush("q", "kept")
    equal(await r.lrange("q", 0, -1), ["kept"])
