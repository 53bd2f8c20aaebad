//! What tools, platforms and operators found missing or refused.

use super::{check, refused, server};
use crate::common::{Client, Folder, config, start_with, until, until_blocked};
use redstart::config::Config;
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

/// A client that waited while its server became a replica took an element from the new master's data in Dragonfly.
#[test]
#[ignore = "this server cannot be a replica yet"]
fn breakage_09_waiting_clients_leave_when_the_role_changes() {
    let master = start_with(config());
    let (replica, mut client) = server();
    let mut waiter = Client::connect(&replica);
    waiter.start("BLPOP q 0");
    until_blocked(&replica, 1);
    let port = master.addr().expect("it listens").port().to_string();
    check(&mut client, &["REPLICAOF", "127.0.0.1", &port], "+OK");
    let reply = waiter.reply().to_string();
    assert_eq!(reply, "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)");
    let mut at_master = Client::connect(&master);
    check(&mut at_master, &["RPUSH", "q", "kept"], ":1");
    until("the replica has it", || client.run("LRANGE q 0 -1") == "[kept]");
    refused(&mut client, &["LPOP", "q"], "READONLY");
}

/// BullMQ and Sidekiq 8 look at redis_version, BullMQ at the names of other servers too.
#[test]
fn breakage_12_the_version_passes_the_gates() {
    let (_running, mut client) = server();
    let info = client.call(&["INFO"]).text();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("it is there");
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(parts.as_slice() >= &[7, 2, 4] && parts[0] == 7 && parts.len() == 3, "{version}");
    for other in ["dragonfly", "valkey", "keydb", "garnet", "kvrocks"] {
        assert!(!info.to_lowercase().contains(other), "{other}");
    }
    let hello = client.call(&["HELLO"]).to_string();
    assert!(hello.starts_with(&format!("[server redis version {version} proto :2 ")), "{hello}");
}

/// ElastiCache refuses CONFIG; BullMQ and others read the policy from it or from INFO.
#[test]
fn breakage_14_config_get_is_allowed() {
    let (_running, mut client) = server();
    check(&mut client, &["CONFIG", "GET", "maxmemory-policy"], "[maxmemory-policy noeviction]");
    check(&mut client, &["CONFIG", "SET", "notify-keyspace-events", "Ex"], "+OK");
    check(&mut client, &["CONFIG", "GET", "save", "appendonly"], "[save  appendonly no]");
}

/// A policy other than noeviction loses jobs; locks have a time of their own, so volatile-* loses them too.
#[test]
fn breakage_15_nothing_is_evicted_unless_asked() {
    let (_running, mut client) = server();
    let info = client.call(&["INFO", "memory"]).text();
    assert!(info.contains("maxmemory_policy:noeviction"), "{info}");
    check(&mut client, &["SET", "lock", "token", "PX", "60000"], "+OK");
    check(&mut client, &["CONFIG", "SET", "maxmemory", "1"], "+OK");
    refused(&mut client, &["SET", "job", "x"], "OOM command not allowed when used memory > 'maxmemory'");
    check(&mut client, &["GET", "lock"], "token");
    check(&mut client, &["DEL", "lock"], ":1");
}

/// MemoryDB is a cluster only: keys without one hash tag could not be used together there.
#[test]
fn breakage_16_keys_of_any_slots_go_together() {
    let (_running, mut client) = server();
    check(&mut client, &["MSET", "a", "1", "b", "2", "{bull}:q", "3"], "+OK");
    check(&mut client, &["EVAL", "return redis.call('MGET', KEYS[1], KEYS[2], '{bull}:q')", "2", "a", "b"], "[1 2 3]");
    check(&mut client, &["RENAME", "a", "{bull}:a"], "+OK");
    refused(&mut client, &["CLUSTER", "INFO"], "ERR This instance has cluster support disabled");
    assert!(client.call(&["INFO", "cluster"]).text().contains("cluster_enabled:0"));
}

/// Garnet did not know `llen` as Sidekiq's client sends it.
#[test]
fn breakage_18_names_in_any_case() {
    let (_running, mut client) = server();
    check(&mut client, &["rpush", "q", "a"], ":1");
    check(&mut client, &["llen", "q"], ":1");
    check(&mut client, &["LlEn", "q"], ":1");
    check(&mut client, &["config", "get", "maxmemory"], "[maxmemory 0]");
    check(&mut client, &["Client", "SetName", "x"], "+OK");
    check(&mut client, &["eval", "return redis.call('lLeN', KEYS[1])", "1", "q"], ":1");
    check(&mut client, &["zadd", "z", "gt", "ch", "1", "m"], ":1");
    check(&mut client, &["object", "encoding", "q"], "listpack");
    client.send(b"set inline 1\r\nget inline\r\n");
    assert_eq!((client.reply().to_string(), client.reply().to_string()), ("+OK".to_owned(), "1".to_owned()));
    refused(&mut client, &["lLenX", "q"], "ERR unknown command 'lLenX'");
}

/// Dashboards ask for sections and modules when they connect, and gave up on an error.
#[test]
fn breakage_19_info_sections_and_module_list() {
    let (_running, mut client) = server();
    check(&mut client, &["MODULE", "LIST"], "[]");
    for section in [
        "server",
        "clients",
        "memory",
        "persistence",
        "stats",
        "replication",
        "cpu",
        "modules",
        "commandstats",
        "errorstats",
        "latencystats",
        "cluster",
        "keyspace",
    ] {
        let text = client.call(&["INFO", section]).text();
        assert!(text.to_lowercase().starts_with(&format!("# {section}\r\n")), "{section}: {text}");
    }
    let several = client.call(&["INFO", "server", "MEMORY", "nonsense"]).text();
    assert_eq!(several.matches("# ").count(), 2);
    check(&mut client, &["COMMAND", "INFO", "ft.search", "json.get"], "[nil nil]");
    check(&mut client, &["LATENCY", "LATEST"], "[]");
    check(&mut client, &["SLOWLOG", "LEN"], ":0");
}

/// Dragonfly refuses to start with less than 256 MiB a thread.
#[test]
fn breakage_22_little_memory_is_enough_to_start() {
    let running = start_with(Config { io_threads: 8, maxmemory: 8 << 20, ..config() });
    let mut client = Client::connect(&running);
    for n in 0..100 {
        check(&mut client, &["SET", &format!("k{n}"), "v"], "+OK");
    }
}

/// Dragonfly has events of expiry only; RIOT needs them of all keys.
#[test]
fn breakage_23_keyspace_events_of_every_class() {
    let (running, mut client) = server();
    for (flags, shown) in
        [("KA", "AK"), ("KEA", "AKE"), ("Ex", "xE"), ("Kg$lshztdxenm", "AKm"), ("Kglm", "glKm"), ("", "")]
    {
        check(&mut client, &["CONFIG", "SET", "notify-keyspace-events", flags], "+OK");
        let got = client.call(&["CONFIG", "GET", "notify-keyspace-events"]).array();
        let mut letters: Vec<char> = got[1].text().chars().collect();
        let mut wanted: Vec<char> = shown.chars().collect();
        letters.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(letters, wanted, "{flags}");
    }
    check(&mut client, &["CONFIG", "SET", "notify-keyspace-events", "KA"], "+OK");
    let mut listener = Client::connect(&running);
    assert_eq!(listener.run("PSUBSCRIBE __keyspace@*__:*"), "[psubscribe __keyspace@*__:* :1]");
    for command in ["SET k v", "EXPIRE k 100", "HSET h f v", "XADD s 1-1 f v", "RENAME k k2", "DEL h"] {
        client.run(command);
    }
    for (key, event) in [
        ("k", "set"),
        ("k", "expire"),
        ("h", "hset"),
        ("s", "xadd"),
        ("k", "rename_from"),
        ("k2", "rename_to"),
        ("h", "del"),
    ] {
        assert_eq!(listener.reply().to_string(), format!("[pmessage __keyspace@*__:* __keyspace@0__:{key} {event}]"));
    }
}

/// Volumes written by the images `redis:7` (7.4) and Valkey 8 hold other RDB versions than 7.2's; a server that dies of them
/// takes production down.
#[test]
fn breakage_24_a_volume_of_a_newer_server_loads() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("persistence/tests/fixtures");
    for made_by in ["redis-7.2.6", "redis-7.4.1", "valkey-8.0.1"] {
        let file = fixtures.join(made_by).join("dump.rdb");
        let bytes = fs::read(&file).expect("the fixture is there");
        let running = loaded(made_by, &bytes).expect("it loads");
        let mut client = Client::connect(&running);
        assert!(client.run("DBSIZE") != ":0", "{made_by}");
    }
    // One from the future is refused with its reason, and left as it is.
    let mut future = fs::read(fixtures.join("redis-7.2.6/dump.rdb")).expect("the fixture is there");
    future[5..9].copy_from_slice(b"0099");
    assert!(loaded("future", &future).is_err());
}

/// A server that loads this file, or what its log says.
fn loaded(name: &str, bytes: &[u8]) -> Result<Running, String> {
    let folder = Folder::new(&format!("breakage-24-{name}"));
    fs::write(folder.0.join("dump.rdb"), bytes).expect("the folder can be written");
    let options = Options { config: Config { dir: folder.0.clone(), ..config() }, load: true, ..Options::default() };
    let running = Server::start(options)?;
    let server = running.server.clone();
    until("it is loaded", || !server.loading.load(Ordering::Acquire) || server.stop.has_failed());
    let kept = fs::read(folder.0.join("dump.rdb")).expect("it is left there");
    assert!(kept == bytes, "loading does not change the file");
    if server.stop.has_failed() { Err("it refuses the file".to_owned()) } else { Ok(running) }
}
