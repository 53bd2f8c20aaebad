"""The Celery application of the cases in test_celery.py; REDIS_URL names the server, as the worker's process gets it."""

import os
import time

from celery import Celery

URL = os.environ["REDIS_URL"]
app = Celery("shop", broker=f"{URL}/1", backend=f"{URL}/2")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 2, "unacked_restore_limit": 1000, "polling_interval": 1},
    broker_connection_retry_on_startup=True,
    task_default_queue="orders",
    result_expires=600,
    worker_hijack_root_logger=False,
)


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def flaky(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
def fail():
    raise ValueError("no such order")


@app.task
def once(path, seconds):
    """Leaves a mark, works for a while, and leaves another."""
    with open(path, "a") as file:
        file.write("began\n")
    time.sleep(seconds)
    with open(path, "a") as file:
        file.write("ended\n")
    return "done"
