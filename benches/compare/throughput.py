"""redis-benchmark GET, SET and INCR: CPU time of the server for an operation, and operations a second."""

import subprocess

from common import alternate, median_of, ratio, table

CLIENTS = 50
KEYS = 1_000_000
VALUE_BYTES = 32
COMMANDS = ["get", "set", "incr"]
OPERATIONS = {1: 200_000, 16: 1_000_000, 64: 2_000_000}


def fill(server, keys):
    """Every key that redis-benchmark may touch exists, so that GET hits and SET replaces."""
    value = b"x" * VALUE_BYTES
    server.pipeline((b"SET", b"key:%012d" % n, value) for n in range(keys))
    server.pipeline((b"SET", b"counter:%012d" % n, b"1000000") for n in range(keys))


def once(server, command, depth, operations, keys):
    words = ["redis-benchmark", "-h", "127.0.0.1", "-p", server.port, "-t", command, "-c", CLIENTS, "-P", depth, "-n", operations,
             "-r", keys, "-d", VALUE_BYTES, "--csv"]
    before = server.cpu_s()
    text = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
    cpu_s = server.cpu_s() - before
    line = next(line for line in text.splitlines() if line.lower().startswith(f'"{command}'))
    fields = [field.strip('"') for field in line.split(",")]
    return {"us": cpu_s * 1e6 / operations, "rate": float(fields[1]), "p50_ms": float(fields[4])}


def compare(base, ours, pairs, scale):
    keys = max(1000, int(KEYS * scale))
    rows = []
    with base, ours:
        for server in (base, ours):
            fill(server, keys)
        for depth, operations in OPERATIONS.items():
            operations = max(10_000, int(operations * scale))
            for command in COMMANDS:
                old, new = alternate(pairs, base, ours, lambda server: once(server, command, depth, operations, keys))
                cpu = (median_of(old, "us"), median_of(new, "us"))
                rate = (median_of(old, "rate"), median_of(new, "rate"))
                rows.append([
                    command.upper(), depth, f"{cpu[0]:.2f}", f"{cpu[1]:.2f}", ratio(cpu[1], cpu[0]),
                    f"{rate[0] / 1000:.0f}k", f"{rate[1] / 1000:.0f}k", ratio(rate[1], rate[0]),
                ])
    head = ["command", "pipeline", f"{base.name}: CPU us/op", f"{ours.name}: CPU us/op", "ratio", f"{base.name}: ops/s", f"{ours.name}: ops/s", "ratio"]
    return f"### redis-benchmark, {CLIENTS} clients, {keys} keys, {VALUE_BYTES}-byte values\n\n" + table(head, rows)
