"""Servers, clocks and tables that the comparisons share. Python's standard library only."""

import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Server:
    """One server process on a free loopback port with a directory of its own; saving is off."""

    def __init__(self, name, binary, words=(), under=(), patience_s=10):
        """`under` is a command that runs the binary, such as valgrind with its options."""
        self.name, self.binary, self.words, self.under, self.patience_s = name, binary, list(words), list(under), patience_s
        self.process = self.directory = self.port = None

    def start(self, dump=None):
        """Starts the process, on a copy of an RDB file if one is given; the seconds until it answers PING."""
        self.directory = tempfile.mkdtemp(prefix="compare-")
        if dump is not None:
            pathlib.Path(self.directory, "dump.rdb").write_bytes(dump)
        patience_s = self.patience_s if dump is None else 300
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        words = [*self.under, self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.directory, *self.words]
        with open(os.path.join(self.directory, "log"), "wb") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16) == b"+PONG\r\n":
                        return time.perf_counter() - began
            except OSError:
                pass
            if dump is not None:
                time.sleep(0.005)
            if self.process.poll() is not None or time.perf_counter() - began > patience_s:
                log = self.log()
                self.stop()
                raise SystemExit(f"{self.binary} does not start:\n{log}")

    def log(self):
        """What the process has printed so far."""
        return pathlib.Path(self.directory, "log").read_text(errors="replace")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def cpu_s(self):
        """User and system time of all threads, those that ended included, in seconds (granularity: one tick, 10 ms)."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_S

    def rss_bytes(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE_BYTES

    def pipeline(self, commands, batch=1000):
        """Sends commands (tuples of words) in batches and reads a status, a number or a short string for each; an error reply raises."""
        with socket.create_connection(("127.0.0.1", self.port), 60) as connection:
            reader = connection.makefile("rb")
            waiting = []

            def flush():
                connection.sendall(b"".join(waiting))
                for _ in waiting:
                    line = reader.readline()
                    if line[:1] == b"$" and line != b"$-1\r\n":
                        reader.readline()
                    elif line[:1] not in (b"+", b":"):
                        raise RuntimeError(f"{self.name} answers {line!r}")
                waiting.clear()

            for words in commands:
                words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
                waiting.append(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
                if len(waiting) == batch:
                    flush()
            flush()

    def used_memory(self):
        with socket.create_connection(("127.0.0.1", self.port), 60) as connection:
            connection.sendall(b"INFO memory\r\n")
            text = connection.makefile("rb")
            text.readline()
            for line in text:
                if line.startswith(b"used_memory:"):
                    return int(line.split(b":")[1])
        raise RuntimeError("no used_memory")


def alternate(pairs, first, second, measure):
    """Measures both in turn, `pairs` times, each going first in every other pair; answers two lists of results."""
    results = ([], [])
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        for which in order:
            results[which].append(measure((first, second)[which]))
    return results


def median_of(results, key):
    return statistics.median(result[key] for result in results)


def ratio(of, to):
    """`of` divided by `to`, to two places; a dash where the clock saw nothing."""
    return f"{of / to:.2f}" if to else "-"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def version_of(binary):
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return text or "no version"


def machine():
    """One paragraph: what the figures were measured on."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory_kib = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")))
    huge = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores shared with the client, {memory_kib / 1048576:.0f} GiB, Linux {platform.release()}, "
        f"transparent huge pages {huge.read_text().strip() if huge.exists() else 'unknown'}, load {os.getloadavg()[0]:.1f} at the start"
    )
