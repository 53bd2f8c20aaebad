//! Large values are freed by the server's reclaimer, whichever way they go and whatever type they are of: by the count of
//! bytes that have been left to it. A worker that freed them itself would hold up everybody meanwhile.

mod common;

use common::{Client, Folder, config, start_with, until};
use redstart::command::spec::WRITE;
use redstart::config::{Config, ProtectedAction};
use redstart::run::start::Running;

#[global_allocator]
static ALLOCATOR: redstart::memory::allocator::Allocator = redstart::memory::allocator::Allocator;

/// Makes KEYS[1] a large value of one type.
const KINDS: &[(&str, &str)] = &[
    ("string", "redis.call('SETRANGE', KEYS[1], 3000000, 'x')"),
    ("list", "for n = 1, 2000 do redis.call('RPUSH', KEYS[1], 'element' .. n) end"),
    ("one long element", "redis.call('RPUSH', KEYS[1], string.rep('x', 3000000))"),
    ("hash", "for n = 1, 2000 do redis.call('HSET', KEYS[1], 'field' .. n, 'value') end"),
    ("one long field", "redis.call('HSET', KEYS[1], string.rep('x', 3000000), 'value')"),
    ("set", "for n = 1, 2000 do redis.call('SADD', KEYS[1], 'member' .. n) end"),
    ("zset", "for n = 1, 2000 do redis.call('ZADD', KEYS[1], n, 'member' .. n) end"),
    ("stream", "for n = 1, 2000 do redis.call('XADD', KEYS[1], n, 'field', 'value') end"),
];

/// Commands, parted by `;`, after which a large value `k` of any type is gone. `command until reply` asks until the reply
/// is that. The others are there as `PREPARATION` says.
const WAYS: &[&str] = &[
    "DEL k",
    "UNLINK k",
    "SET k v",
    "SET k v PX 100000",
    "SETEX k 100 v",
    "PSETEX k 100000 v",
    "MSET k v",
    "RENAME small k",
    "COPY small k REPLACE",
    "EVAL return(redis.call('RESTORE',KEYS[1],0,redis.call('DUMP',KEYS[2]),'REPLACE')) 2 k small",
    "SUNIONSTORE k set",
    "SINTERSTORE k set missing",
    "SDIFFSTORE k set set",
    "ZRANGESTORE k zset 0 -1",
    "ZUNIONSTORE k 1 zset",
    "ZINTERSTORE k 2 zset missing",
    "ZDIFFSTORE k 1 zset",
    "GEOSEARCHSTORE k geo FROMLONLAT 0 0 BYRADIUS 500 km",
    "GEORADIUS geo 0 0 500 km STORE k",
    "GEORADIUSBYMEMBER geo place 500 km STORE k",
    "SORT few STORE k",
    "SORT missing STORE k",
    "EXPIRE k -1",
    "PEXPIRE k -1",
    "EXPIREAT k 1",
    "PEXPIREAT k 1",
    // By the main loop, or whoever is first.
    "PEXPIRE k 30",
    "DEBUG SET-ACTIVE-EXPIRE 0;PEXPIRE k 1;DEBUG SLEEP 0.01;EXISTS k;DEBUG SET-ACTIVE-EXPIRE 1",
    "FLUSHDB",
    "FLUSHDB ASYNC",
    "FLUSHALL SYNC",
    "FLUSHALL ASYNC",
    "SWAPDB 0 1;SELECT 1;FLUSHDB;SELECT 0",
    "MOVE k 1;SELECT 1;DEL k;SELECT 0",
    "RENAMENX k other;DEL other",
    "MULTI;DEL k;EXEC",
    "EVAL return(redis.call('DEL',KEYS[1])) 1 k",
    "DEBUG RELOAD",
    "CONFIG SET maxmemory-eviction-tenacity 100 maxmemory-policy allkeys-random maxmemory 1;EXISTS k until :0;CONFIG SET maxmemory 0",
    // Values that were there for a moment only.
    "COPY k other;DEL other;DEL k",
    "MULTI;COPY k other;SET other v;EXEC;DEL k",
];

/// Ways for values of one kind.
const OWN_WAYS: &[(&str, &str)] = &[
    ("string", "GETSET k v"),
    ("string", "SET k v GET"),
    ("string", "GETDEL k"),
    ("string", "GETEX k PXAT 1"),
    ("string", "BITOP NOT k small"),
    ("string", "BITOP AND k missing"),
    ("string", "APPEND k v;DEL k"),
    ("list", "LTRIM k 1 0"),
    ("list", "LTRIM k -1 -1"),
    ("list", "LTRIM k 0 3"),
    ("list", "LPOP k 2000"),
    ("list", "RPOP k 1999"),
    ("list", "LMPOP 1 k LEFT COUNT 2000"),
    ("list", "BLMPOP 0 1 k RIGHT COUNT 1999"),
    ("one long element", "LPOP k"),
    ("one long element", "BRPOP k 0"),
    ("one long element", "LSET k 0 v"),
    ("one long element", "LTRIM k 1 0"),
    ("one long field", "EVAL return(redis.call('HDEL',KEYS[1],unpack(redis.call('HKEYS',KEYS[1])))) 1 k"),
    ("set", "SPOP k 2000"),
    ("set", "SPOP k 1999"),
    ("zset", "ZPOPMIN k 2000"),
    ("zset", "ZPOPMAX k 1999"),
    ("zset", "ZMPOP 1 k MIN COUNT 2000"),
    ("zset", "BZMPOP 0 1 k MAX COUNT 1999"),
    ("zset", "ZREMRANGEBYRANK k 0 -1"),
    ("zset", "ZREMRANGEBYRANK k 1 -2"),
    ("zset", "ZREMRANGEBYRANK k 500 1499"),
    ("zset", "ZREMRANGEBYSCORE k -inf +inf"),
    ("zset", "ZREMRANGEBYSCORE k 600 +inf"),
    ("zset", "ZREMRANGEBYLEX k - +"),
    ("stream", "XTRIM k MAXLEN 0"),
    ("stream", "XTRIM k MINID 1900"),
    ("stream", "XADD k MAXLEN 1 * f v"),
    ("stream", "XGROUP CREATE k g 0;XREADGROUP GROUP g me COUNT 2000 STREAMS k >;XGROUP DESTROY k g"),
    ("stream", "XGROUP CREATE k g 0;XREADGROUP GROUP g me COUNT 2000 STREAMS k >;XGROUP DELCONSUMER k g me"),
    ("stream", "XGROUP CREATE k g 0;XREADGROUP GROUP g me COUNT 2000 STREAMS k >;DEL k"),
];

/// Commands that write and can make nothing large go: they add, or take single elements that the client names.
const HARMLESS: &[&str] = &[
    "append",
    "bitfield",
    "blmove",
    "blpop",
    "brpoplpush",
    "bzpopmax",
    "bzpopmin",
    "decr",
    "decrby",
    "function",
    "geoadd",
    "hdel",
    "hincrby",
    "hincrbyfloat",
    "hmset",
    "hset",
    "hsetnx",
    "incr",
    "incrby",
    "incrbyfloat",
    "linsert",
    "lmove",
    "lpush",
    "lpushx",
    "lrem",
    "migrate",
    "msetnx",
    "persist",
    "pfadd",
    "pfdebug",
    "pfmerge",
    "restore-asking",
    "rpoplpush",
    "rpush",
    "rpushx",
    "sadd",
    "setbit",
    "setnx",
    "setrange",
    "smove",
    "srem",
    "xack",
    "xautoclaim",
    "xclaim",
    "xdel",
    "xsetid",
    "zadd",
    "zincrby",
    "zrem",
];

const PREPARATION: &[&str] =
    &["FLUSHALL", "SET small value", "RPUSH few 1 2 3", "SADD set a b", "ZADD zset 1 a 2 b", "GEOADD geo 0 0 place"];

/// A server, and where DEBUG RELOAD saves.
fn start(name: &str, io_threads: usize) -> (Running, Folder) {
    let folder = Folder::new(&format!("freeing-{name}"));
    let config = Config {
        dir: folder.0.clone(),
        io_threads,
        enable_debug_command: ProtectedAction::Yes,
        // Every element a chunk, every entry a node.
        list_max_listpack_size: 1,
        stream_node_max_entries: 1,
        ..config()
    };
    (start_with(config), folder)
}

/// Makes a value, lets it go, and looks who frees it.
fn check(running: &Running, client: &mut Client, (kind, script): (&str, &str), way: &str) {
    PREPARATION.iter().for_each(|command| drop(client.run(command)));
    assert_eq!(client.call(&["EVAL", script, "1", "k"]).to_string(), "nil", "{kind}");
    let bytes = client.run("MEMORY USAGE k SAMPLES 0").trim_start_matches(':').parse::<u64>().expect("a number");
    until("nothing waits any more", || running.server.reclaimer.pending_bytes() == 0);
    let before = running.server.reclaimer.given_bytes();
    for command in way.split(';') {
        let (command, wanted) =
            command.split_once(" until ").map_or((command, None), |(left, reply)| (left, Some(reply)));
        until(&format!("{command} of a {kind} is answered"), || {
            let reply = client.run(command);
            assert!(!reply.starts_with('-'), "{way} of a {kind}: {reply}");
            wanted.is_none_or(|wanted| wanted == reply)
        });
    }
    // Some leave a part behind, of a value of which much is overhead.
    let wanted = before + bytes / 10;
    until(&format!("{way} of a {kind} is freed elsewhere"), || running.server.reclaimer.given_bytes() >= wanted);
}

#[test]
fn whatever_is_large_is_freed_elsewhere() {
    let (running, _folder) = start("one", 1);
    let mut client = Client::connect(&running);
    for kind in KINDS {
        WAYS.iter().for_each(|way| check(&running, &mut client, *kind, way));
    }
    for (name, way) in OWN_WAYS {
        let kind = KINDS.iter().find(|(kind, _)| kind == name).expect("the kind is there");
        check(&running, &mut client, *kind, way);
    }
}

#[test]
fn with_several_workers_as_well() {
    let (running, _folder) = start("several", 4);
    let mut client = Client::connect(&running);
    for kind in KINDS {
        WAYS.iter().step_by(7).for_each(|way| check(&running, &mut client, *kind, way));
    }
}

#[test]
fn every_command_that_writes_is_looked_at() {
    let ways = || WAYS.iter().copied().chain(OWN_WAYS.iter().map(|(_, way)| *way));
    let words = || ways().flat_map(|way| way.split([' ', ';', '\'', '(', ','])).map(str::to_ascii_lowercase);
    for command in
        redstart::commands::registry().commands().map(|found| found.command).filter(|command| command.has(WRITE))
    {
        let (is_tried, is_harmless) = (words().any(|word| word == command.name), HARMLESS.contains(&command.name));
        assert!(is_tried || is_harmless, "{} is in no way and not among the harmless", command.name);
    }
}

/// What a long range has left in a sorted set is swept wherever the set has got to, and counts as waiting until then.
#[test]
fn what_a_long_range_leaves_behind_is_swept() {
    let ways = [
        "EXISTS k",
        "RENAME k other",
        "MOVE k 1",
        "SWAPDB 0 2",
        "RENAME k other;ZADD k 1 m",
        "ZREMRANGEBYRANK k 1500 3200",
        "DEL k",
        "ZADD other 1 m;RENAME other k",
        "FLUSHALL",
    ];
    for io_threads in [1, 4] {
        let (running, _folder) = start(&format!("range-{io_threads}"), io_threads);
        let mut client = Client::connect(&running);
        let pending = || running.server.reclaimer.pending_bytes();
        for way in ways {
            client.run("FLUSHALL");
            client.call(&["EVAL", "for n = 1, 6000 do redis.call('ZADD', KEYS[1], n, 'member' .. n) end", "1", "k"]);
            until("nothing waits any more", || pending() == 0);
            client.run("DEBUG PAUSE-CRON 1");
            assert_eq!(client.run("ZREMRANGEBYRANK k 1500 3499"), ":2000");
            assert!(pending() > 2000 * 16, "its members wait to be freed");
            way.split(';').for_each(|command| assert!(!client.run(command).starts_with('-'), "{command}"));
            client.run("DEBUG PAUSE-CRON 0");
            until(&format!("nothing waits after {way}"), || pending() == 0);
        }
        running.shutdown();
    }
}

/// A snapshot of a sorted set that has lost long ranges before, at, and after its instant has what it had at the instant.
#[test]
fn a_snapshot_has_what_was_there_at_its_instant() {
    let (running, _folder) = start("snapshot", 1);
    let mut client = Client::connect(&running);
    client.call(&["EVAL", "for n = 1, 20000 do redis.call('ZADD', KEYS[1], n, 'member' .. n) end", "1", "k"]);
    client.run("DEBUG PAUSE-CRON 1");
    assert_eq!(client.run("ZREMRANGEBYSCORE k 2001 5000"), ":3000");
    let digest = client.run("DEBUG DIGEST-VALUE k");
    // The snapshot stops after its first entries.
    client.run("RPUSH first 1");
    assert_eq!(client.run("CONFIG SET rdb-key-save-delay 1000000"), "+OK");
    assert!(client.run("BGSAVE").starts_with("+Background"));
    assert_eq!(client.run("ZREMRANGEBYSCORE k 6001 9000"), ":3000");
    assert_eq!(client.run("ZADD k 1 member2500 7 member6500"), ":2");
    assert_eq!(client.run("CONFIG SET rdb-key-save-delay 0"), "+OK");
    until("it is saved", || client.run("INFO persistence").contains("rdb_bgsave_in_progress:0"));
    assert!(client.run("INFO persistence").contains("rdb_last_bgsave_status:ok"));
    assert_ne!(client.run("DEBUG DIGEST-VALUE k"), digest);
    assert_eq!(client.run("DEBUG RELOAD NOSAVE"), "+OK");
    assert_eq!(client.run("DEBUG DIGEST-VALUE k"), digest);
    assert_eq!(client.run("ZCARD k"), ":17000");
}

/// Redis counts as freed lazily what its directives and UNLINK and ASYNC leave to another thread.
#[test]
fn info_counts_what_redis_counts() {
    let (running, _folder) = start("info", 1);
    let mut client = Client::connect(&running);
    let hash = KINDS[3].1;
    let mut freed = |commands: &[&str]| {
        client.run("FLUSHALL SYNC");
        client.run("CONFIG RESETSTAT");
        for key in ["k", "other"] {
            client.call(&["EVAL", hash, "1", key]);
        }
        commands.iter().for_each(|command| drop(client.run(command)));
        let reclaimer = &running.server.reclaimer;
        until("nothing waits any more", || reclaimer.pending_bytes() == 0 && reclaimer.pending() == 0);
        reclaimer.freed()
    };
    assert_eq!(freed(&["DEL k other"]), 0);
    assert_eq!(freed(&["UNLINK k other missing"]), 2);
    assert_eq!(freed(&["SET k v", "RENAME k other", "FLUSHALL SYNC"]), 0);
    assert_eq!(freed(&["FLUSHALL ASYNC"]), 2);
    assert_eq!(freed(&["CONFIG SET lazyfree-lazy-server-del yes", "SET k v", "RENAME k other"]), 2);
    assert_eq!(freed(&["SUNIONSTORE k missing", "CONFIG SET lazyfree-lazy-user-del yes", "DEL other"]), 2);
    assert_eq!(freed(&["CONFIG SET lazyfree-lazy-expire yes", "PEXPIRE k 1", "DEBUG SLEEP 0.01", "EXISTS k"]), 1);
    assert_eq!(freed(&["CONFIG SET lazyfree-lazy-user-flush yes", "FLUSHDB"]), 2);
    for n in 0..100 {
        client.run(&format!("SCRIPT LOAD return({n})"));
    }
    client.run("CONFIG RESETSTAT");
    client.run("SCRIPT FLUSH ASYNC");
    // With the one that has made the hashes.
    until("the scripts are gone", || running.server.reclaimer.freed() == 101);
}

/// The end of a server waits for nothing to be freed: that takes a thread's time in slices, and is counted.
#[test]
fn the_end_leaves_the_keys_to_the_reclaimer() {
    let (running, _folder) = start("end", 1);
    let mut client = Client::connect(&running);
    for (kind, script) in KINDS {
        client.call(&["EVAL", script, "1", kind]);
    }
    let server = std::sync::Arc::downgrade(&running.server);
    running.shutdown();
    assert!(server.upgrade().is_none(), "nothing holds the server back");
}
