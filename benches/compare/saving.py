"""Saving and loading under load: BGSAVE beside random writes, what it costs in memory and in waiting; loading; the append-only file."""

import contextlib
import multiprocessing
import os
import pathlib
import re
import socket
import statistics
import subprocess
import time

from common import Server, alternate, median_of, ratio, table

KEYS = 2_000_000
FIELDS = 500_000
MEMBERS = 2_000_000
VALUE_BYTES = 100
WRITERS = 8
DEPTH = 4
# How long the writers run before a save begins: waiting times without one.
QUIET_S = 4.0


def fill(server, keys, fields):
    """Strings of random letters under redis-benchmark's keys, and one big hash."""
    letters = os.urandom(1 << 20).hex().encode()

    def value(n):
        at = n * 37 % (len(letters) - VALUE_BYTES)
        return letters[at : at + VALUE_BYTES]

    server.pipeline((b"SET", b"key:%012d" % n, value(n)) for n in range(keys))
    batch = 10
    server.pipeline((b"HSET", b"hash", *(word for i in range(n, n + batch) for word in (b"field:%d" % i, value(i)[:20]))) for n in range(0, fields, batch))


def connect(server):
    connection = socket.create_connection(("127.0.0.1", server.port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(server, text):
    """One inline command; its reply as text."""
    with connect(server) as connection:
        connection.sendall(text.encode() + b"\r\n")
        reader = connection.makefile("rb")
        line = reader.readline()
        return reader.read(int(line[1:])).decode() if line[:1] == b"$" else line.decode().strip()


def info(server, name):
    found = re.search(rf"^{name}:(\S+)", ask(server, "INFO persistence"), re.MULTILINE)
    return int(found.group(1))


def pings(port, stop, result):
    """Sends PING every millisecond until told to stop: (when, how long it took), seconds."""
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waits, due = [], time.perf_counter()
    while not stop.is_set():
        began = time.perf_counter()
        connection.sendall(b"PING\r\n")
        connection.recv(64)
        waits.append((began, time.perf_counter() - began))
        due = max(due + 0.001, time.perf_counter() - 0.010)
        time.sleep(max(0, due - time.perf_counter()))
    result.send(waits)


def worst(waits):
    return max(waits, default=0) * 1000


def quantile(waits, part):
    waits = sorted(waits)
    return waits[min(len(waits) - 1, int(len(waits) * part))] * 1000 if waits else 0


def pss_bytes(pid):
    """Proportional set size of a process and its children: what fork shares counts once."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for each in [pid, *children]:
        try:
            text = pathlib.Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE).group(1)) * 1024
    return total


def benchmark(server, *words):
    words = ["redis-benchmark", "-h", "127.0.0.1", "-p", server.port, *words]
    return [str(word) for word in words]


def measured(server, writes):
    """Times and waits of one BGSAVE, memory of another: reading a process's memory map holds the process up."""
    return {**save_under(server, writes, False), "extra": save_under(server, writes, True)["extra"]}


def pooled(results):
    """The waits of all pairs together: one save is too short for its p99.9 to say much."""
    during, idle = ([wait for result in results for wait in result[name]] for name in ("waits", "idle_waits"))
    return {"p999": quantile(during, 0.999), "idle": quantile(idle, 0.999)}


def save_under(server, writes, weighs):
    """One BGSAVE while `writes` (redis-benchmark's words) go on."""
    stop, (receiver, sender) = multiprocessing.Event(), multiprocessing.Pipe(False)
    quiet = subprocess.DEVNULL
    words = benchmark(server, "-c", WRITERS, "-P", DEPTH, "-n", 1_000_000_000, *writes)
    writer = subprocess.Popen(words, stdout=quiet, stderr=quiet, stdin=quiet)
    pinger = multiprocessing.Process(target=pings, args=(server.port, stop, sender))
    pinger.start()
    try:
        time.sleep(QUIET_S)
        before = peak = pss_bytes(server.process.pid)
        began = time.perf_counter()
        if "started" not in ask(server, "BGSAVE"):
            raise RuntimeError(f"{server.name} does not save")
        looks = 0
        while info(server, "rdb_bgsave_in_progress"):
            if weighs and looks % 5 == 0:
                peak = max(peak, pss_bytes(server.process.pid))
            looks += 1
            time.sleep(0.05)
        ended = time.perf_counter()
        time.sleep(0.2)
    finally:
        stop.set()
        waits = receiver.recv()
        pinger.join()
        writer.terminate()
        writer.wait()
    bytes_written = os.path.getsize(os.path.join(server.directory, "dump.rdb"))
    during = [wait for when, wait in waits if began <= when <= ended]
    idle = [wait for when, wait in waits if when < began - 0.1]
    return {
        "rate": bytes_written / (ended - began) / 1e6, "extra": (peak - before) / before * 100, "worst": worst(during), "waits": during,
        "idle_waits": idle, "idle_worst": worst(idle), "seconds": ended - began,
    }


def saving(base, ours, pairs, scale):
    keys, fields, members = (max(10_000, int(count * scale)) for count in (KEYS, FIELDS, MEMBERS))
    rows = []
    kinds = [
        (f"{keys} strings of {VALUE_BYTES} bytes, a hash of {fields} fields", lambda server: fill(server, keys, fields),
         ["-t", "set", "-r", keys, "-d", VALUE_BYTES]),
        (f"a sorted set of {members} members",
         lambda server: server.pipeline((b"ZADD", b"zset", *(word for i in range(n, n + 10) for word in (b"%d" % i, b"m:%012d" % i))) for n in range(0, members, 10)),
         ["-r", members, "ZADD", "zset", "__rand_int__", "m:__rand_int__"]),
    ]
    loads = []
    for name, make, writes in kinds:
        with base, ours:
            for server in (base, ours):
                make(server)
            results = alternate(pairs, base, ours, lambda server: measured(server, writes))
            columns = [("seconds", 1), ("rate", 1), ("extra", 0), ("worst", 1), ("p999", 1), ("idle_worst", 1), ("idle", 1)]
            medians = ("seconds", "rate", "extra", "worst", "idle_worst")
            both = [pooled(result) | {key: median_of(result, key) for key in medians} for result in results]
            for server, figures in zip((base, ours), both):
                rows.append([name, server.name, *(f"{figures[key]:.{digits}f}" for key, digits in columns)])
            rows.append([name, "ratio", *(ratio(both[1][key], both[0][key]) for key, _ in columns)])
            dump = pathlib.Path(base.directory, "dump.rdb").read_bytes()
        if not loads:
            loads = loading(base, ours, pairs, dump)
    head = ["data", "", "BGSAVE s", "MB/s", "extra PSS %", "worst PING ms", "p99.9", "worst without", "p99.9 without"]
    writing = f"{WRITERS} clients writing at random, pipeline {DEPTH}, PING every millisecond"
    return f"### BGSAVE, {writing}\n\n{table(head, rows)}\n\n### Loading\n\n{loads}"


def loading(base, ours, pairs, dump):
    """From starting the process to the end of loading one and the same file."""
    def once(server):
        seconds = server.start(dump)
        server.stop()
        return {"rate": len(dump) / seconds / 1e6}

    old, new = (median_of(result, "rate") for result in alternate(pairs, base, ours, once))
    head = ["MB", f"{base.name}: MB/s", f"{ours.name}: MB/s", "ratio"]
    return table(head, [[f"{len(dump) / 1e6:.0f}", f"{old:.0f}", f"{new:.0f}", ratio(new, old)]])


def logging(base, ours, pairs, scale):
    """SET with and without the append-only file, in turn: operations a second."""
    loads = [(WRITERS, DEPTH, "everysec"), (50, 16, "everysec"), (50, 1, "always")]
    rows = []
    for clients, depth, policy in loads:
        operations = max(2_000, int((1_000_000 if depth > 1 else 100_000) * scale))
        # A log that grows is rewritten: not what is measured here.
        logged = ["--appendonly", "yes", "--appendfsync", policy, "--auto-aof-rewrite-percentage", "0"]
        servers = [Server(each.name, each.binary, each.words + words) for each in (base, ours) for words in ([], logged)]
        with contextlib.ExitStack() as stack:
            for server in servers:
                stack.enter_context(server)
            rates = {server: [] for server in servers}
            for pair in range(pairs):
                for server in servers if pair % 2 == 0 else reversed(servers):
                    rates[server].append(sets(server, clients, depth, operations))
        old_plain, old, new_plain, new = (statistics.median(rates[server]) for server in servers)
        rows.append([f"{policy}, {clients} clients, pipeline {depth}", *(f"{rate / 1000:.1f}k" for rate in (old_plain, old, new_plain, new)), ratio(new, old),
                     ratio(old, old_plain), ratio(new, new_plain)])
    head = ["SET, operations a second", f"{base.name} without a log", "with", f"{ours.name} without", "with", "ratio with", f"{base.name}: with to without", f"{ours.name}: with to without"]
    return "### The append-only file\n\n" + table(head, rows)


def sets(server, clients, depth, operations):
    """SETs a second by redis-benchmark."""
    words = benchmark(server, "-t", "set", "-c", clients, "-P", depth, "-n", operations, "-r", 100_000, "-d", VALUE_BYTES, "--csv")
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    line = next(line for line in text.splitlines() if line.lower().startswith('"set'))
    return float(line.split(",")[1].strip('"'))


def compare(base, ours, pairs, scale):
    return saving(base, ours, pairs, scale) + "\n\n" + logging(base, ours, pairs, scale)
