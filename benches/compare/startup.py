"""From starting the process to its first PONG. What forking and executing costs is in it, the same for both."""

import statistics

from common import alternate, ratio, table

STARTS = 21


def once(server):
    seconds = server.start()
    server.stop()
    return seconds


def compare(base, ours, scale):
    old, new = alternate(max(5, int(STARTS * scale)), base, ours, once)
    median = (statistics.median(old), statistics.median(new))
    worst = (max(old), max(new))
    rows = [
        ["median", f"{median[0] * 1000:.1f}", f"{median[1] * 1000:.1f}", ratio(median[1], median[0])],
        ["slowest", f"{worst[0] * 1000:.1f}", f"{worst[1] * 1000:.1f}", ratio(worst[1], worst[0])],
    ]
    return f"### Start to first PONG, {len(old)} starts, milliseconds\n\n" + table(["", base.name, ours.name, "ratio"], rows)
