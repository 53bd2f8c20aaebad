"""RQ: jobs in lists, hashes and sorted sets, worked off by `rq worker` in a process of its own."""

import datetime
import os
import pathlib
import subprocess
import sys
import time

from cases import equal, test, until
from redis import Redis
from rq import Queue, Retry, Worker
from rq.job import Job

HERE = pathlib.Path(__file__).resolve().parent


def work(t, *words):
    """Runs a worker until the queues are empty."""
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", t.server.url, "--path", str(HERE), "--burst", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, cwd=HERE)
    assert done.returncode == 0, done.stdout
    return done.stdout


@test("rq: results, failures, dependencies, many jobs", limit=240)
def jobs(t):
    connection = Redis(port=t.server.port)
    queue, low = Queue("default", connection=connection), Queue("low", connection=connection)
    first = queue.enqueue("tasks.add", 2, 3)
    many = [low.enqueue("tasks.add", n, 1) for n in range(5)]
    failing = queue.enqueue("tasks.fail")
    path = os.path.join(t.server.directory, "notes")
    after = queue.enqueue("tasks.note", path, "after", depends_on=first)
    equal((queue.count, low.count, after.get_status(refresh=True).value), (2, 5, "deferred"))
    work(t, "default", "low")
    equal(first.return_value(refresh=True), 5)
    equal([job.return_value(refresh=True) for job in many], list(range(1, 6)))
    equal(failing.get_status(refresh=True).value, "failed")
    assert failing.id in queue.failed_job_registry.get_job_ids()
    assert "no such order" in failing.latest_result().exc_string
    equal(pathlib.Path(path).read_text(), "after\n")
    equal((queue.count, low.count), (0, 0))
    assert 0 < connection.ttl(f"rq:job:{first.id}") <= 500
    equal(set(queue.finished_job_registry.get_job_ids()), {first.id, after.id})
    equal(queue.failed_job_registry.requeue(failing.id).id, failing.id)
    equal(queue.count, 1)
    queue.empty()
    equal(Job.exists(failing.id, connection=connection), False)
    equal(Worker.all(connection=connection), [])


@test("rq: scheduled jobs and retries", limit=240)
def scheduled(t):
    connection = Redis(port=t.server.port)
    queue = Queue("later", connection=connection)
    path = os.path.join(t.server.directory, "later")
    job = queue.enqueue_in(datetime.timedelta(seconds=1), "tasks.note", path, "in time")
    tries = os.path.join(t.server.directory, "tries")
    again = queue.enqueue("tasks.fail", tries, retry=Retry(max=2))
    equal(queue.count, 1)
    equal(queue.scheduled_job_registry.get_job_ids(), [job.id])
    time.sleep(1.1)
    work(t, "--with-scheduler", "later")
    until("the scheduled one ran", lambda: os.path.exists(path) or work(t, "--with-scheduler", "later") is None, 30)
    equal(pathlib.Path(path).read_text(), "in time\n")
    equal(again.get_status(refresh=True).value, "failed")
    equal(pathlib.Path(tries).read_text(), "failed\n" * 3)
