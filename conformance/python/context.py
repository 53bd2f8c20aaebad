"""What a case gets: redis-py clients, sync and asyncio, and more servers. CLIENT=resp2, resp3 or queues.

Everything a case opens is closed after it, and the server is emptied before it.
"""

import os
import threading

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from server import under_test

CLIENT = os.environ.get("CLIENT", "resp3")
PROTOCOL = 2 if CLIENT == "resp2" else 3

_shared = None


class Context:
    def __init__(self, server):
        self.server = server
        self.servers = []
        self.clients = []
        self.async_clients = []
        self.threads = []
        self.redis = self.connect()

    def connect(self, server=None, **options):
        """A client that answers str, does not retry, and gives up after 30 s."""
        options = {"decode_responses": True, "protocol": PROTOCOL, "retry": Retry(NoBackoff(), 0), "socket_timeout": 60, **options}
        client = redis.Redis(port=(server or self.server).port, **options)
        self.clients.append(client)
        return client

    def connect_async(self, **options):
        options = {"decode_responses": True, "protocol": PROTOCOL, **options}
        client = redis.asyncio.Redis(port=self.server.port, **options)
        self.async_clients.append(client)
        return client

    def start(self, *args):
        server = under_test(*args)
        self.servers.append(server)
        return server

    def thread(self, action, *args):
        """Runs `action` beside the case; `result()` waits for what it returns or raises what it raised."""
        thread = Thread(action, args)
        self.threads.append(thread)
        return thread

    def since(self, version):
        """Whether the server says it is of this Redis version or newer: Debian's is 7.0."""
        number = [int(part) for part in self.redis.info("server")["redis_version"].split(".")]
        return number >= [int(part) for part in version.split(".")]

    def blocked(self):
        return self.redis.info("clients")["blocked_clients"]

    async def aclose(self):
        for client in self.async_clients:
            await client.aclose()

    def close(self):
        for thread in self.threads:
            thread.join(5)
        for client in self.clients:
            client.connection_pool.disconnect()
        for server in self.servers:
            server.dispose()


class Thread(threading.Thread):
    def __init__(self, action, args):
        super().__init__(daemon=True)
        self.action = lambda: action(*args)
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.action()
        except Exception as error:
            self.error = error

    def result(self, limit=60):
        self.join(limit)
        if self.is_alive():
            raise AssertionError(f"it does not end within {limit} s")
        if self.error:
            raise self.error
        return self.value


def make_context():
    global _shared
    if _shared and not _shared.is_alive():
        print(f"      the server is gone; its log ends:\n{_shared.log_tail()}")
        _shared.dispose()
        _shared = None
    if not _shared:
        _shared = under_test()
    t = Context(_shared)
    t.redis.flushall()
    return t


def finish():
    if _shared:
        _shared.dispose()
