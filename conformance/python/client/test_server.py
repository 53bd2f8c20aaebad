"""Connections, users, configuration, and what monitoring tools send, in the order they send it."""

import time

import redis
from cases import equal, raises, test, until
from context import PROTOCOL
from redis.backoff import ConstantBackoff
from redis.retry import Retry


@test("connections: names, library, databases, kill, unblock, pause")
def connections(t):
    client = t.connect(client_name="web-1", db=3)
    client.set("k", "three")
    equal((client.client_getname(), t.redis.get("k")), ("web-1", None))
    line = next(one for one in t.redis.client_list() if one["name"] == "web-1")
    equal((line["db"], line["user"], line["resp"]), ("3", "default", str(PROTOCOL)))
    if t.since("7.2"):
        equal(line["lib-name"], "redis-py")
    equal(client.client_info()["id"], int(line["id"]))
    waiting = t.thread(lambda: t.connect(client_name="waits").blpop("none", 20))
    until("it waits", lambda: t.blocked() == 1)
    blocked = next(one for one in t.redis.client_list() if one["name"] == "waits")
    assert "b" in blocked["flags"], blocked
    equal(bool(t.redis.client_unblock(blocked["id"])), True)
    equal(waiting.result(), None)
    equal(t.redis.client_kill_filter(_id=line["id"]), 1)
    # redis-py sees that it is closed and connects anew; at the very moment it may meet a reset.
    until("it is another connection", lambda: new_id(client) not in (None, int(line["id"])))
    equal(client.get("k"), "three")
    t.redis.client_pause(50_000, all=False)
    try:
        # Reads go on: it is answered while the pause lasts.
        began = time.monotonic()
        t.redis.get("k")
        assert time.monotonic() - began < 40
    finally:
        equal(t.redis.client_unpause() in (True, "OK"), True)
    raises(redis.ResponseError, "DB index is out of range", lambda: t.connect(db=16).ping())


def new_id(client):
    try:
        return client.client_id()
    except redis.ConnectionError:
        return None


@test("connections: passwords, and users with few rights")
def users(t):
    server = t.start("--requirepass", "s3cret")
    admin = t.connect(server, password="s3cret")
    raises(redis.AuthenticationError, "", lambda: t.connect(server, password="wrong").ping())
    raises(redis.AuthenticationError, "", lambda: t.connect(server).ping())
    admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["app:*"], channels=["news"], categories=["+@all", "-@dangerous"])
    app = t.connect(server, username="app", password="pw")
    equal(app.set("app:1", "x"), True)
    raises(redis.exceptions.NoPermissionError, "key", lambda: app.set("other", "x"))
    raises(redis.exceptions.NoPermissionError, "flushall", app.flushall)
    raises(redis.exceptions.NoPermissionError, "channel", lambda: app.publish("secret", "x"))
    equal(app.acl_whoami(), "app")
    user = admin.acl_getuser("app")
    assert "on" in user["flags"] and user["categories"] == ["+@all", "-@dangerous"], user
    equal([entry["reason"] for entry in admin.acl_log()][:3], ["channel", "command", "key"])
    equal(len(admin.acl_genpass()), 64)
    assert "app" in admin.acl_users() and any(line.startswith("user app on") for line in admin.acl_list())
    equal(admin.acl_deluser("app"), 1)
    # Its connections are closed; a new one is refused. Which of the two it meets first is a matter of time.
    raises((redis.AuthenticationError, redis.ConnectionError), "", app.ping)


@test("connections: retried over a restart; data from the append-only file")
def restart(t):
    server = t.start("--appendonly", "yes", "--appendfsync", "always")
    client = t.connect(server, retry=Retry(ConstantBackoff(0.05), 100))
    for n in range(100):
        client.rpush("log", n)
    server.restart(9)
    equal(client.lrange("log", 0, -1), [str(n) for n in range(100)])


@test("configuration: get, set, refused, statistics")
def configuration(t):
    r = t.redis
    equal(r.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"})
    assert len(r.config_get("*")) > 150
    equal(r.config_set("maxmemory", "200mb"), True)
    equal(r.config_get("maxmemory")["maxmemory"], str(200 << 20))
    r.config_set("maxmemory", 0)
    raises(redis.ResponseError, "Unknown option", lambda: r.config_set("no-such-option", 1))
    raises(redis.ResponseError, "CONFIG SET failed", lambda: r.config_set("maxmemory-policy", "sometimes"))
    r.config_resetstat()
    r.get("k")
    equal(r.info("stats")["keyspace_misses"], 1)
    equal(r.info("commandstats")["cmdstat_get"]["calls"], 1)
    raises(redis.ResponseError, "wrong number of arguments", lambda: r.execute_command("GET"))
    assert "errorstat_ERR" in r.info("errorstats")


@test("eviction: a cache of 8 MB stays one, under allkeys-lru")
def eviction(t):
    server = t.start("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru")
    r = t.connect(server)
    for n in range(0, 20_000, 500):
        with r.pipeline(transaction=False) as pipe:
            for k in range(n, n + 500):
                pipe.set(f"page:{k}", "x" * 1000)
            pipe.execute()
    info = r.info()
    assert info["evicted_keys"] > 5000 and info["used_memory"] < (8 << 20) + 100_000, (info["evicted_keys"], info["used_memory"])
    r.config_set("maxmemory-policy", "noeviction")
    r.config_set("maxmemory", "1mb")
    raises(redis.exceptions.OutOfMemoryError, "command not allowed when used memory > 'maxmemory'", lambda: r.set("more", "x" * 1000))


EXPORTER_FIELDS = """
    redis_version redis_build_id redis_mode os tcp_port run_id process_id uptime_in_seconds maxmemory_policy connected_clients
    blocked_clients tracking_clients clients_in_timeout_table maxclients client_recent_max_input_buffer
    client_recent_max_output_buffer used_memory used_memory_rss used_memory_peak used_memory_lua used_memory_overhead
    used_memory_startup used_memory_dataset used_memory_scripts_eval used_memory_functions number_of_cached_scripts
    number_of_functions number_of_libraries maxmemory mem_fragmentation_ratio mem_fragmentation_bytes mem_clients_normal
    mem_clients_slaves mem_not_counted_for_evict mem_replication_backlog mem_aof_buffer allocator_active allocator_allocated
    allocator_resident allocator_frag_ratio allocator_rss_bytes lazyfree_pending_objects lazyfreed_objects active_defrag_running
    loading async_loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status
    rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_saves rdb_last_cow_size aof_enabled aof_rewrite_in_progress
    aof_rewrite_scheduled aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_bgrewrite_status
    aof_last_write_status aof_last_cow_size module_fork_in_progress module_fork_last_cow_size total_connections_received
    total_commands_processed total_net_input_bytes total_net_output_bytes total_net_repl_input_bytes
    total_net_repl_output_bytes rejected_connections sync_full sync_partial_ok sync_partial_err expired_keys
    expired_stale_perc expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys evicted_clients
    total_eviction_exceeded_time current_eviction_exceeded_time keyspace_hits keyspace_misses pubsub_channels
    pubsub_patterns latest_fork_usec migrate_cached_sockets slave_expires_tracked_keys active_defrag_hits
    active_defrag_misses active_defrag_key_hits active_defrag_key_misses tracking_total_keys tracking_total_items
    tracking_total_prefixes unexpected_error_replies total_error_replies dump_payload_sanitizations total_reads_processed
    total_writes_processed io_threaded_reads_processed io_threaded_writes_processed reply_buffer_shrinks
    reply_buffer_expands role connected_slaves master_replid master_repl_offset second_repl_offset repl_backlog_active
    repl_backlog_size repl_backlog_first_byte_offset repl_backlog_histlen used_cpu_sys used_cpu_user used_cpu_sys_children
    used_cpu_user_children used_cpu_sys_main_thread used_cpu_user_main_thread cluster_enabled
""".split()

# Of 7.2; Debian's 7.0 does not have them.
EXPORTER_FIELDS_7_2 = """
    pubsubshard_channels eventloop_cycles eventloop_duration_sum eventloop_duration_cmd_sum
    instantaneous_eventloop_cycles_per_sec instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd
    acl_access_denied_key acl_access_denied_channel total_blocking_keys total_blocking_keys_on_nokey
""".split()


@test("monitoring: what redis_exporter sends, and every field it reads")
def exporter(t):
    r = t.connect(client_name="redis_exporter")
    equal(r.config_get("*")["databases"], "16")
    r.hset("h", mapping={"a": 1})
    r.xadd("stream", {"a": 1})
    r.xgroup_create("stream", "g", id="0")
    r.xreadgroup("g", "c", {"stream": ">"})
    r.eval("return 1", 0)
    raises(redis.ResponseError, "", lambda: r.execute_command("NOSUCHCOMMAND"))
    sections, info = parse_info(unparsed(t, "INFO", "ALL"))
    for section in "Server Clients Memory Persistence Stats Replication CPU Modules Commandstats Errorstats Latencystats Cluster Keyspace".split():
        assert section in sections, f"{section} is not among {sections}"
    missing = [field for field in EXPORTER_FIELDS if field not in info]
    if t.since("7.2"):
        missing += [field for field in EXPORTER_FIELDS_7_2 if field not in info]
    equal(missing, [])
    numbers = [field for field in EXPORTER_FIELDS if field.startswith(("used_", "total_", "mem_", "repl_"))]
    for field in numbers:
        float(info[field])
    assert info["db0"].startswith("keys=2,expires=0,avg_ttl=0"), info["db0"]
    assert info["cmdstat_hset"].startswith("calls=1,usec="), info["cmdstat_hset"]
    assert "rejected_calls=0" in info["cmdstat_hset"] and "failed_calls=0" in info["cmdstat_hset"]
    assert info["latency_percentiles_usec_hset"].startswith("p50="), info["latency_percentiles_usec_hset"]
    assert info["errorstat_ERR"].startswith("count="), info["errorstat_ERR"]
    equal(r.execute_command("INFO", "MODULES") is not None, True)
    equal(list(r.execute_command("LATENCY", "LATEST")), [])
    histogram = r.execute_command("LATENCY", "HISTOGRAM", "hset")
    assert "hset" in histogram, histogram
    equal(r.slowlog_len() >= 0, True)
    assert isinstance(r.slowlog_get(1), list)
    equal(unparsed(t, "COMMAND", "INFO", "COMMANDLOG"), [None])
    assert any(one["name"] == "redis_exporter" for one in r.client_list())
    for key in r.scan_iter(count=10):
        assert r.memory_usage(key) > 0
        if r.type(key) == "stream":
            equal(r.xinfo_stream(key)["length"], 1)
            equal(r.xinfo_groups(key)[0]["pending"], 1)
            equal(r.xinfo_consumers(key, "g")[0]["pending"], 1)
    raises(redis.ResponseError, "unknown command", lambda: r.execute_command("SENTINEL", "MASTERS"))
    raises(redis.ResponseError, "cluster support disabled", lambda: r.execute_command("CLUSTER", "INFO"))


def unparsed(t, *words):
    """A reply as it comes, where redis-py would make something else of it."""
    connection = redis.Connection(port=t.server.port, protocol=PROTOCOL)
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()


def parse_info(text):
    """As the exporter reads it: lines ended by CR LF, `# Section`, `field:value`."""
    sections, fields = [], {}
    for line in text.decode().split("\r\n"):
        if line.startswith("# "):
            sections.append(line[2:])
        elif line:
            name, colon, value = line.partition(":")
            assert colon, line
            fields[name] = value
    return sections, fields


@test("monitoring: what RedisInsight and bull-board read")
def insight(t):
    r = t.redis
    equal(r.execute_command("MODULE", "LIST"), [])
    equal(unparsed(t, "COMMAND", "INFO", "ft.search", "json.get", "ts.range", "bf.add"), [None] * 4)
    hello = t.connect(single_connection_client=True).execute_command("HELLO", PROTOCOL)
    hello = dict(zip(hello[::2], hello[1::2])) if isinstance(hello, list) else hello
    equal((hello["server"], hello["proto"], hello["mode"], hello["role"], hello["modules"]), ("redis", PROTOCOL, "standalone", "master", []))
    info = r.info()
    for field in """redis_version redis_mode tcp_port os uptime_in_seconds uptime_in_days maxmemory total_system_memory used_memory
                    mem_fragmentation_ratio used_memory_peak connected_clients blocked_clients number_of_cached_scripts role
                    instantaneous_ops_per_sec instantaneous_input_kbps keyspace_hits used_memory_human""".split():
        assert field in info, field
    equal(r.config_get("databases"), {"databases": "16"})
    for n in range(50):
        r.set(f"user:{n}", n)
        r.rpush(f"queue:{n}", n)
    found = set()
    cursor = 0
    while True:
        cursor, page = r.scan(cursor, match="*", count=10, _type="list")
        found.update(page)
        if not cursor:
            break
    equal(len(found), 50)
    for key in list(found)[:5]:
        assert r.memory_usage(key, samples=0) > 0
        equal(r.object("encoding", key) in ("listpack", "quicklist"), True)
        equal((r.ttl(key), r.type(key), r.llen(key)), (-1, "list", 1))
    assert r.slowlog_get(50) is not None
    with t.connect().monitor() as monitor:
        lines = monitor.listen()
        t.redis.set("watched", "x")
        line = next(line for line in lines if "watched" in line["command"])
        equal((line["command"], line["db"], line["client_type"]), ("SET watched x", 0, "tcp"))


@test("cluster: a client of a cluster is told that there is none")
def cluster(t):
    for words in (("CLUSTER", "SLOTS"), ("CLUSTER", "SHARDS"), ("CLUSTER", "NODES"), ("CLUSTER", "MYID"), ("CLUSTER", "KEYSLOT", "k"), ("READONLY",), ("ASKING",)):
        raises(redis.ResponseError, "This instance has cluster support disabled", lambda: t.redis.execute_command(*words))
    raises(redis.exceptions.RedisClusterException, "Redis Cluster cannot be connected", lambda: redis.RedisCluster(host="127.0.0.1", port=t.server.port))


@test("modules: none are there, and their commands are unknown")
def modules(t):
    raises(redis.ResponseError, "unknown command", lambda: t.redis.execute_command("JSON.GET", "k"))
    raises(redis.ResponseError, "unknown command", lambda: t.redis.execute_command("FT.SEARCH", "idx", "*"))
    raises(redis.ResponseError, "", lambda: t.redis.module_load("/nonexistent.so"))
    equal(t.redis.module_list(), [])
