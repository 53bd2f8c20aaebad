"""What a case gets: redis-cli and redis-benchmark on the command line, and more servers."""

import os
import subprocess

from server import under_test

CLI = os.environ.get("REDIS_CLI", "redis-cli")
BENCHMARK = os.environ.get("REDIS_BENCHMARK", "redis-benchmark")
LIMIT_S = 110

_shared = None


class Context:
    def __init__(self, server):
        self.server = server
        self.servers = []
        self.children = []

    def run(self, *words, input="", env=None, code=0):
        """A program's output, both streams; it must end with this exit code (None: any)."""
        environment = {**os.environ, **(env or {})}
        done = subprocess.run(words, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, timeout=LIMIT_S)
        assert code is None or done.returncode == code, f"{words} ends with {done.returncode}: {done.stdout}"
        return done.stdout

    def cli(self, *words, server=None, **options):
        """What redis-cli prints, without the last line break."""
        return self.run(CLI, "-p", str((server or self.server).port), *map(str, words), **options).rstrip("\n")

    def benchmark(self, *words, **options):
        return self.run(BENCHMARK, "-p", str(self.server.port), *map(str, words), **options)

    def spawn(self, *words, **options):
        """A program that runs beside the case; its output is read line by line."""
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, **options)
        self.children.append(child)
        return child

    def cli_beside(self, *words):
        return self.spawn(CLI, "-p", str(self.server.port), *map(str, words))

    def start(self, *args):
        server = under_test(*args)
        self.servers.append(server)
        return server

    def since(self, version):
        """Whether the server says it is of this Redis version or newer: Debian's is 7.0."""
        (line,) = [line for line in self.cli("INFO", "server").split("\n") if line.startswith("redis_version:")]
        number = [int(part) for part in line.split(":")[1].strip().split(".")]
        return number >= [int(part) for part in version.split(".")]

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()
            child.stdout.close()
        for server in self.servers:
            server.dispose()


def make_context():
    global _shared
    if _shared and not _shared.is_alive():
        print(f"      the server is gone; its log ends:\n{_shared.log_tail()}")
        _shared.dispose()
        _shared = None
    if not _shared:
        _shared = under_test()
    t = Context(_shared)
    t.cli("FLUSHALL")
    return t


def finish():
    if _shared:
        _shared.dispose()
