"""Sidekiq: the commands of its client, fetcher, poller and web page, as redis-client sends them (in lower case)."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from cases import equal, test, until

HERE = pathlib.Path(__file__).resolve().parent

# What its poller runs, in one step: take the earliest job that is due.
ZPOPBYSCORE = """
    local jobs = redis.call("zrange", KEYS[1], "-inf", ARGV[1], "byscore", "limit", 0, 1)
    if jobs[1] then
      redis.call("zrem", KEYS[1], jobs[1])
      return jobs[1]
    end
"""


def push(r, queue, *jobs):
    with r.pipeline(transaction=True) as pipe:
        pipe.execute_command("sadd", "queues", queue)
        pipe.execute_command("lpush", f"queue:{queue}", *[json.dumps(job) for job in jobs])
        pipe.execute()


@test("sidekiq's commands: push, fetch by brpop, stop while fetching")
def fetch(t):
    r = t.redis
    push(r, "default", *[{"class": "Mail", "jid": str(n)} for n in range(300)])
    push(r, "low", {"class": "Sweep", "jid": "low"})
    done = []

    def processor():
        client = t.connect()
        while True:
            job = client.execute_command("brpop", "queue:default", "queue:low", 2)
            if job is None:
                return
            done.append(json.loads(job[1])["jid"])
            with client.pipeline(transaction=False) as pipe:
                pipe.execute_command("incrby", "stat:processed", 1)
                pipe.execute_command("incrby", "stat:processed:2026-11-23", 1)
                pipe.execute_command("expire", "stat:processed:2026-11-23", 157680000)
                pipe.execute()

    for one in [t.thread(processor) for _ in range(5)]:
        one.result()
    equal(sorted(done), sorted([str(n) for n in range(300)] + ["low"]))
    equal((r.get("stat:processed"), r.ttl("stat:processed:2026-11-23") > 157_000_000), ("301", True))
    equal(r.llen("queue:default"), 0)


@test("sidekiq's commands: scheduled, retried and dead jobs by a script")
def scheduled(t):
    r = t.redis
    now = time.time()
    for n in range(50):
        r.execute_command("zadd", "schedule", str(now - 50 + n * 2), json.dumps({"jid": n}))
    digest = r.execute_command("script", "load", ZPOPBYSCORE)
    taken = []

    def poller():
        client = t.connect()
        while job := client.execute_command("evalsha", digest, 1, "schedule", str(now)):
            taken.append(json.loads(job)["jid"])
            push(client, "default", json.loads(job))

    for one in [t.thread(poller) for _ in range(3)]:
        one.result()
    equal(sorted(taken), list(range(26)))
    equal((r.zcard("schedule"), r.llen("queue:default")), (24, 26))
    with r.pipeline() as pipe:
        pipe.execute_command("zadd", "dead", str(now), "job")
        pipe.execute_command("zremrangebyscore", "dead", "-inf", str(now - 15552000))
        pipe.execute_command("zremrangebyrank", "dead", 0, -10000)
        equal(pipe.execute(), [1, 0, 0])


@test("sidekiq's commands: heartbeat, quiet signals, the web page's figures")
def heartbeat(t):
    r = t.redis
    info = r.execute_command("info")
    assert [int(part) for part in info["redis_version"].split(".")] >= [7, 0, 0]
    equal(info["maxmemory_policy"], "noeviction")
    key = "host:1:abc"
    r.execute_command("lpush", f"{key}-signals", "TSTP")
    with r.pipeline() as pipe:
        pipe.execute_command("sadd", "processes", key)
        pipe.execute_command("exists", key)
        pipe.execute_command("hset", key, "info", "{}", "busy", 3, "beat", time.time(), "rtt_us", 120, "quiet", "false", "rss", 1000)
        pipe.execute_command("expire", key, 60)
        pipe.execute_command("rpop", f"{key}-signals")
        equal(pipe.execute(), [1, 0, 6, True, "TSTP"])
    with r.pipeline() as pipe:
        pipe.execute_command("unlink", f"{key}:work")
        pipe.execute_command("hset", f"{key}:work", "tid", "{}")
        pipe.execute_command("expire", f"{key}:work", 60)
        equal(pipe.execute(), [0, 1, True])
    push(r, "default", {"jid": 1})
    with r.pipeline(transaction=False) as pipe:
        for command in ("get stat:processed", "get stat:failed", "zcard schedule", "zcard retry", "zcard dead", "scard processes", "lrange queue:default -1 -1",
                        "smembers processes", "smembers queues", "llen queue:default", f"hget {key} busy", f"hmget {key} info busy beat quiet rss rtt_us"):
            pipe.execute_command(*command.split())
        replies = pipe.execute()
    equal(replies[:6] + replies[9:11], [None, None, 0, 0, 0, 1, 1, "3"])
    cursor, members = r.execute_command("sscan", "processes", 0)
    equal((int(cursor), list(members)), (0, [key]))


@test("sidekiq: Debian's own, with redis-rb: jobs, retries, a job of the future, the API", limit=240)
def real(t):
    sidekiq = shutil.which("sidekiq")
    assert sidekiq, "Debian's ruby-sidekiq is not installed"
    environment = {**os.environ, "REDIS_URL": f"{t.server.url}/4", "OUT": os.path.join(t.server.directory, "sidekiq.out")}
    ruby = lambda code: subprocess.run(
        ["ruby", "-r", str(HERE / "sidekiq_app.rb"), "-e", code], env=environment, capture_output=True, text=True, timeout=100
    )  # fmt: skip
    pushed = ruby("100.times { |n| Note.perform_async(n) }; Fails.perform_async; Note.perform_in(1, 1000); p Sidekiq::Queue.new.size, Sidekiq::ScheduledSet.new.size")
    equal(pushed.stdout.split(), ["101", "1"])
    log = os.path.join(t.server.directory, "sidekiq.log")
    with open(log, "ab") as output:
        child = subprocess.Popen([sidekiq, "-r", str(HERE / "sidekiq_app.rb"), "-c", "5", "-t", "5"], env=environment, stdout=output, stderr=output)
    try:
        marks = lambda: pathlib.Path(environment["OUT"]).read_text().split() if os.path.exists(environment["OUT"]) else []
        until("all have run", lambda: len(marks()) >= 101, 40)
        equal(sorted(map(int, marks())), [*range(100), 1000])
        db = t.connect(db=4)
        until("the failure is on the list of retries", lambda: db.zcard("retry") == 1)
        stats = ruby("s = Sidekiq::Stats.new; p s.enqueued, s.retry_size, s.processes_size; p Sidekiq::ProcessSet.new.first['concurrency']")
        equal(stats.stdout.split(), ["0", "1", "1", "5"])
    except AssertionError as error:
        raise AssertionError(f"{error}\n{pathlib.Path(log).read_text()[-2000:]}") from error
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)
    cleared = ruby("Sidekiq::RetrySet.new.clear; p Sidekiq::RetrySet.new.size, Sidekiq::Stats.new.processed, Sidekiq::Stats.new.failed")
    equal(cleared.stdout.split(), ["0", "102", "1"])
