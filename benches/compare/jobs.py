"""BullMQ: CPU time of the server for 1000 jobs added in bulk, added one by one, and processed."""

import pathlib
import subprocess

from common import Server, alternate, median_of, ratio, table

HERE = pathlib.Path(__file__).resolve().parent
MODULES = HERE.parent.parent / "conformance" / "bullmq"
PHASES = ["addBulk", "add", "process"]
JOBS = 20_000


def once(server, jobs):
    """One run of jobs.js on an emptied server; CPU time is read between its phases, while it waits."""
    server.pipeline([(b"FLUSHALL",)])
    client = subprocess.Popen(["node", str(HERE / "jobs.js"), str(MODULES), str(server.port), str(jobs)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    result = {}
    with client:
        for phase in PHASES:
            if client.stdout.readline().strip() != "ready":
                raise SystemExit(f"jobs.js failed before {phase} against {server.name}")
            before = server.cpu_s()
            client.stdin.write(phase + "\n")
            client.stdin.flush()
            answer = client.stdout.readline().split()
            if answer[:2] != ["done", phase]:
                raise SystemExit(f"jobs.js failed in {phase} against {server.name}")
            result[phase] = (server.cpu_s() - before) * 1000 / jobs
            result[phase + " rate"] = jobs / float(answer[2])
        client.stdin.close()
    return result


def compare(base, ours, pairs, scale, threads):
    if not (MODULES / "node_modules").exists():
        # Not `npm ci`: the lock file cannot name the optional native parts of other systems.
        subprocess.run(["npm", "install", "--no-save", "--omit=optional", "--no-audit", "--no-fund"], cwd=MODULES, check=True)
    jobs = max(1000, int(JOBS * scale))
    rows = []
    for count in threads:
        other = Server(f"{ours.name}", ours.binary, [*ours.words, "--io-threads", str(count)])
        with base, other:
            old, new = alternate(pairs, base, other, lambda server: once(server, jobs))
        for phase in PHASES:
            cpu = (median_of(old, phase), median_of(new, phase))
            rate = (median_of(old, phase + " rate"), median_of(new, phase + " rate"))
            rows.append([
                phase, count, f"{cpu[0]:.4f}", f"{cpu[1]:.4f}", ratio(cpu[1], cpu[0]),
                f"{rate[0] / 1000:.1f}k", f"{rate[1] / 1000:.1f}k", ratio(rate[1], rate[0]),
            ])
    head = ["phase", f"workers of {ours.name}", f"{base.name}: CPU s/1000", f"{ours.name}: CPU s/1000", "ratio",
            f"{base.name}: jobs/s", f"{ours.name}: jobs/s", "ratio"]
    return f"### BullMQ 5, {jobs} jobs, 4 producers, 4 workers with concurrency 25, one Node process\n\n" + table(head, rows)
