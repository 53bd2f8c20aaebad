"""Celery: a worker in a process of its own, results, groups and chords, redelivery of what a dead worker held."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time

from cases import equal, raises, test, until
from celery import chord, group
from kombu import Connection, Exchange, Queue

HERE = pathlib.Path(__file__).resolve().parent


def application(server):
    """The module as the worker names it, made anew for this server."""
    os.environ["REDIS_URL"] = server.url
    sys.modules.pop("celery_app", None)
    if str(HERE) not in sys.path:
        sys.path.append(str(HERE))
    return importlib.import_module("celery_app")


class Worker:
    def __init__(self, server, *words):
        self.log = os.path.join(server.directory, "celery.log")
        environment = {**os.environ, "REDIS_URL": server.url, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--loglevel", "INFO", *words]
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=log)
        try:
            until("the worker is ready", lambda: b"ready." in pathlib.Path(self.log).read_bytes(), 40)
        except AssertionError as error:
            self.stop(signal.SIGKILL)
            raise AssertionError(f"{error}\n{pathlib.Path(self.log).read_text()[-2000:]}") from error

    def stop(self, how=signal.SIGTERM):
        self.child.send_signal(how)
        self.child.wait(30)


@test("celery: tasks, results, retries, chains, groups, chords, control", limit=240)
def tasks(t):
    shop = application(t.server)
    worker = Worker(t.server, "--pool", "threads", "--concurrency", "4")
    try:
        equal(shop.add.delay(2, 3).get(timeout=60), 5)
        equal([one.get(timeout=60) for one in [shop.add.delay(n, n) for n in range(50)]], [2 * n for n in range(50)])
        equal(shop.flaky.delay(2).get(timeout=60), 2)
        raises(ValueError, "no such order", lambda: shop.fail.delay().get(timeout=60))
        equal((shop.add.s(1, 2) | shop.add.s(4)).apply_async().get(timeout=60), 7)
        equal(sorted(group(shop.add.s(n, 1) for n in range(20))().get(timeout=60)), list(range(1, 21)))
        equal(chord((shop.add.s(n, n) for n in range(30)), shop.total.s()).apply_async().get(timeout=60), sum(2 * n for n in range(30)))
        began = time.monotonic()
        equal(shop.add.apply_async((1, 1), countdown=1).get(timeout=60), 2)
        assert time.monotonic() - began > 0.9
        # Control goes over pub/sub: fanout exchanges are the only use of it.
        (reply,) = shop.app.control.ping(timeout=60, limit=1)
        assert {"ok": "pong"} in reply.values(), reply
        ((_, stats),) = shop.app.control.inspect(timeout=60, limit=1).stats().items()
        assert stats["total"]["celery_app.add"] >= 100, stats["total"]
        broker = t.connect(db=1)
        until("all are acknowledged", lambda: broker.hlen("unacked") == 0 and broker.zcard("unacked_index") == 0)
        assert "orders\x06\x16\x06\x16orders" in broker.smembers("_kombu.binding.orders"), broker.smembers("_kombu.binding.orders")
        backend = t.connect(db=2)
        assert all(0 < backend.ttl(key) <= 600 for key in backend.scan_iter("celery-task-meta-*"))
    finally:
        worker.stop()
        shop.app.close()


@test("celery: what a killed worker held comes back after its visibility timeout", limit=240)
def redelivered(t):
    server = t.start()
    shop = application(server)
    broker = t.connect(server, db=1)
    path = os.path.join(server.directory, "marks")
    worker = Worker(server, "--pool", "solo")
    try:
        result = shop.once.delay(path, 30)
        until("it began", lambda: os.path.exists(path))
        equal((broker.hlen("unacked"), broker.zcard("unacked_index"), broker.llen("orders")), (1, 1, 0))
        worker.stop(signal.SIGKILL)
        equal(broker.hlen("unacked"), 1)
        pathlib.Path(path).unlink()
        tag = broker.hkeys("unacked")[0]
        # As if the timeout of the dead worker had passed, and the job were short this time.
        broker.zadd("unacked_index", {tag: time.time() - 60})
        payload = broker.hget("unacked", tag)
        broker.hset("unacked", tag, payload)
        worker = Worker(server, "--pool", "threads", "--concurrency", "2")
        until("it began again", lambda: os.path.exists(path), 40)
        equal(result.status, "PENDING")
        equal(broker.hlen("unacked"), 1)
    finally:
        worker.stop(signal.SIGKILL)
        shop.app.close()


@test("kombu: queues by routing key, topics, fanout")
def exchanges(t):
    with Connection(f"{t.server.url}/3", transport_options={"fanout_patterns": True, "fanout_prefix": True}) as connection:
        channel = connection.channel()
        topic, fanout = Exchange("events", "topic"), Exchange("news", "fanout")
        queues = [Queue("all", topic, "order.#"), Queue("paid", topic, "order.*.paid"), Queue("ann", fanout)]
        bound = [queue(channel) for queue in queues]
        for queue in bound:
            queue.declare()
        got = []
        consumer = connection.Consumer(bound, callbacks=[lambda body, message: (got.append((message.delivery_info["routing_key"], body)), message.ack())])
        with consumer:
            # Fanout is pub/sub: what is sent before somebody listens is lost.
            until("it listens", lambda: drained(connection) and t.redis.pubsub_numpat() == 1)
            producer = connection.Producer()
            producer.publish({"n": 1}, exchange=topic, routing_key="order.7.paid")
            producer.publish({"n": 2}, exchange=topic, routing_key="order.8.sent")
            producer.publish({"n": 3}, exchange=fanout)
            until("all have come", lambda: drained(connection) and len(got) == 4, 15)
        equal(sorted(body["n"] for _, body in got), [1, 1, 2, 3])
        simple = connection.SimpleQueue("work")
        for n in range(100):
            simple.put({"n": n})
        equal(t.connect(db=3).llen("work"), 100)
        equal([simple.get(timeout=5).payload["n"] for _ in range(100)], list(range(100)))
        simple.close()


@test("kombu: priorities are lists of their own, taken in order")
def priorities(t):
    with Connection(f"{t.server.url}/3") as connection:
        urgent = Queue("urgent", Exchange("urgent"), "urgent")
        producer = connection.Producer()
        for priority in (9, 0, 6):
            producer.publish({"p": priority}, exchange=urgent.exchange, routing_key="urgent", declare=[urgent], priority=priority)
        equal(len(t.connect(db=3).keys("urgent*")), 3)
    with Connection(f"{t.server.url}/3") as connection:
        order = []
        with connection.Consumer([urgent], callbacks=[lambda body, message: (order.append(body["p"]), message.ack())], prefetch_count=1):
            until("all have come", lambda: drained(connection) and len(order) == 3, 15)
        equal(order, [0, 6, 9])


def drained(connection):
    try:
        connection.drain_events(timeout=0.2)
    except (TimeoutError, OSError):
        pass
    return True
