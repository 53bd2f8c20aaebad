"""Prometheus's redis_exporter, Debian's: what a dashboard would show."""

import re
import shutil
import urllib.request

from cases import equal, test, until
from ports import free_port


@test("redis_exporter: a scrape of a server in use")
def scrape(t):
    exporter = shutil.which("prometheus-redis-exporter")
    assert exporter, "Debian's prometheus-redis-exporter is not installed"
    t.cli("config", "resetstat")
    t.cli(input="\n".join(["set a 1", "hset h f v", "rpush queue a b c", "set gone x px 1", "get nothing", "incr h"]) + "\n")
    t.cli(input="xadd stream 1-1 f v\nxgroup create stream g 0\nxreadgroup group g ann streams stream >\n")
    t.cli("-n", 3, "set", "k", "v")
    port = free_port()
    words = ["-redis.addr", f"redis://127.0.0.1:{t.server.port}", "-web.listen-address", f"127.0.0.1:{port}", "-include-config-metrics"]
    words += ["-check-keys", "db0=queue,db0=a", "-check-streams", "db0=stream", "-include-system-metrics", "-ping-on-connect"]
    t.spawn(exporter, *words)

    def metrics():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                return page.read().decode()
        except OSError:
            return None

    text = until("it serves a page", metrics)
    found = {}
    for name, labels, value in re.findall(r"^(redis_\w+)(\{.*\})? (\S+)$", text, re.M):
        found.setdefault(name, {})[labels] = float(value)

    def value(name, labels=""):
        return found[name][labels]

    equal((value("redis_up"), value("redis_exporter_last_scrape_error", '{err=""}')), (1, 0))
    equal(value("redis_db_keys", '{db="db0"}') in (4, 5), True)
    equal(value("redis_db_keys", '{db="db3"}'), 1)
    equal(value("redis_commands_total", '{cmd="hset"}'), 1)
    equal(value("redis_commands_failed_calls_total", '{cmd="incr"}'), 1)
    equal(value("redis_key_size", '{db="db0",key="queue"}'), 3)
    equal(value("redis_key_value", '{db="db0",key="a"}'), 1)
    equal(value("redis_stream_length", '{db="db0",stream="stream"}'), 1)
    equal(value("redis_stream_group_messages_pending", '{db="db0",group="g",stream="stream"}'), 1)
    equal(value("redis_keyspace_misses_total"), 1)
    assert value("redis_connected_clients") >= 1
    (info,) = found["redis_instance_info"]
    for label in ('role="master"', 'redis_mode="standalone"', 'maxmemory_policy="noeviction"', f'tcp_port="{t.server.port}"'):
        assert label in info, info
    assert value("redis_memory_used_bytes") > 100_000
    assert value("redis_start_time_seconds") > 1_600_000_000
    assert value("redis_config_maxmemory") == 0
