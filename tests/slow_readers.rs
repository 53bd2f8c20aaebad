//! Clients that do not read, or read slowly: what waits for them is counted and limited as it is appended, whoever
//! sends it and from wherever, and given back as it is read. Counters are compared, never times.

mod common;

use common::{Client, Reply, config, request, start_with, until};
use redstart::config::{Config, OutputLimit, ProtectedAction};
use redstart::run::start::Running;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: redstart::memory::allocator::Allocator = redstart::memory::allocator::Allocator;

const MB: usize = 1_000_000;
/// The limit of every class of clients in these tests.
const LIMIT: usize = 4 * MB;
/// The allocator counts for the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // A test that failed says so itself.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel may take of what is sent to a client that does not read, and what one message adds.
const SLACK: usize = 12 * MB;

fn start(io_threads: usize) -> Running {
    let limit = OutputLimit { hard_bytes: LIMIT as u64, soft_bytes: 0, soft_seconds: 0 };
    start_with(Config {
        io_threads,
        client_output_buffer_limit: [limit; 3],
        enable_debug_command: ProtectedAction::Local,
        ..config()
    })
}

fn closed_for_output(running: &Running) -> u64 {
    running.server.stats.output_buffer_disconnections.load(Ordering::Relaxed)
}

/// The memory of all clients, and the most that was seen of it while `work` ran on the other side.
fn most_memory(running: &Running, work: impl FnOnce() + Send) -> usize {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        let mut most = 0;
        while !working.is_finished() {
            most = most.max(running.server.clients.memory());
            std::thread::yield_now();
        }
        working.join().expect("the work is done");
        most
    })
}

/// Each way in which one client makes others get something: how the others begin, and a script that sends them 100 MB.
const WAYS: &[(&str, &[&str], &str)] = &[
    ("messages", &["SUBSCRIBE c"], "local m = ('x'):rep(1000000) for i = 1, 100 do redis.call('PUBLISH', 'c', m) end"),
    (
        "short messages",
        &["SUBSCRIBE c"],
        "local m = ('x'):rep(1000) for i = 1, 100000 do redis.call('PUBLISH', 'c', m) end",
    ),
    (
        "pattern messages",
        &["PSUBSCRIBE *"],
        "local m = ('x'):rep(1000000) for i = 1, 100 do redis.call('PUBLISH', 'c', m) end",
    ),
    (
        "shard messages",
        &["SSUBSCRIBE c"],
        "local m = ('x'):rep(1000000) for i = 1, 100 do redis.call('SPUBLISH', 'c', m) end",
    ),
    (
        "keyspace events",
        &["PSUBSCRIBE __key*"],
        "local k = ('k'):rep(100000) for i = 1, 500 do redis.call('SET', k, i) end",
    ),
    ("MONITOR", &["MONITOR"], "local m = ('x'):rep(1000000) for i = 1, 100 do redis.call('ECHO', m) end"),
    (
        "RESP3 pushes",
        &["HELLO 3", "SUBSCRIBE c"],
        "local m = ('x'):rep(1000000) for i = 1, 100 do redis.call('PUBLISH', 'c', m) end",
    ),
];

#[test]
fn no_script_makes_more_wait_than_the_limit() {
    let _alone = alone();
    for io_threads in [1, 4] {
        for (way, setup, script) in WAYS {
            let running = start(io_threads);
            let mut deaf: Vec<Client> = (0..3).map(|_| Client::connect(&running)).collect();
            for client in &mut deaf {
                setup.iter().for_each(|command| client.start(command));
            }
            until("all are set up", || {
                let clients = running.server.clients.all();
                let is_ready = |client: &&std::sync::Arc<redstart::clients::Client>| {
                    client.has(redstart::clients::Client::MONITOR)
                        || client.subscriptions.iter().any(|count| count.load(Ordering::Relaxed) > 0)
                };
                clients.iter().filter(is_ready).count() == 3
            });
            let before = running.server.read_memory().allocated;
            let mut sender = Client::connect(&running);
            sender.run("CONFIG SET notify-keyspace-events KEA");
            let most = most_memory(&running, || {
                sender.call(&["EVAL", script, "0"]);
            });
            assert!(most < 3 * LIMIT + SLACK, "{way} with {io_threads} workers: {most}");
            until("all are closed", || closed_for_output(&running) == 3);
            assert!(deaf.iter_mut().all(Client::is_closed), "{way}");
            until("all is given back", || running.server.read_memory().allocated < before + SLACK as u64);
        }
    }
}

/// A transaction holds its connection's worker as a script does.
#[test]
fn no_transaction_makes_more_wait_than_the_limit() {
    let _alone = alone();
    let running = start(1);
    let mut deaf = Client::connect(&running);
    deaf.run("SUBSCRIBE c");
    let mut sender = Client::connect(&running);
    sender.run("MULTI");
    let message = "x".repeat(MB);
    for _ in 0..50 {
        assert_eq!(sender.call(&["PUBLISH", "c", &message]).to_string(), "+QUEUED");
    }
    let before = running.server.clients.memory();
    let most = most_memory(&running, || {
        assert_eq!(sender.call(&["EXEC"]).array().len(), 50);
    });
    assert!(most < before + LIMIT + SLACK, "{most}");
    until("it is closed", || closed_for_output(&running) == 1);
}

/// Replies of a client's own commands: one long one, many in a pipeline, in a transaction.
#[test]
fn own_replies_count_as_they_are_made() {
    let _alone = alone();
    for io_threads in [1, 4] {
        let running = start(io_threads);
        let mut admin = Client::connect(&running);
        for _ in 0..20 {
            admin.call(&["RPUSH", "list", &"x".repeat(100_000)]);
        }
        let wait = |what: &str, pipeline: Vec<u8>| {
            let closed = closed_for_output(&running);
            let mut greedy = Client::connect(&running);
            let most = most_memory(&running, || {
                // The server may close before all is sent.
                let _ = greedy.try_send(&pipeline);
                until("it is closed", || closed_for_output(&running) == closed + 1);
            });
            assert!(most < LIMIT + SLACK, "{what} with {io_threads} workers: {most}");
        };
        wait("a pipeline", request(&["LRANGE", "list", "0", "-1"]).repeat(1000));
        let queue = request(&["LRANGE", "list", "0", "-1"]).repeat(1000);
        wait("a transaction", [request(&["MULTI"]), queue, request(&["EXEC"])].concat());
        assert_eq!(admin.run("LLEN list"), ":20");
    }
}

/// Without a limit everything is kept, once, and given back piece by piece as it is read.
#[test]
fn what_is_read_is_given_back() {
    let _alone = alone();
    let running = start_with(Config { io_threads: 1, ..config() });
    let mut admin = Client::connect(&running);
    admin.call(&["SET", "k", &"x".repeat(100_000)]);
    let before = running.server.read_memory().allocated as usize;
    let mut slow = Client::connect(&running);
    slow.send(&request(&["GET", "k"]).repeat(1000));
    until("all is answered", || {
        running.server.stats.sum(|worker| &worker.commands_processed) >= 1001
            && running.server.clients.memory() > 80 * MB
    });
    let used = || running.server.read_memory().allocated.saturating_sub(before as u64) as usize;
    let (waiting, kept) = (running.server.clients.memory(), used());
    // The allocator's size classes add up to an eighth.
    assert!(kept < waiting / 8 * 9 + 4 * MB, "{kept} bytes are kept of {waiting}");
    for part in 1..=10 {
        for _ in 0..100 {
            assert_eq!(slow.reply().text().len(), 100_000);
        }
        let left = 100 * MB - part * 10 * MB;
        until("what was read is given back", || used() < left / 8 * 9 + 4 * MB);
    }
}

/// Who is a little behind, but never through, has no more kept than it is behind.
#[test]
fn a_reader_that_is_never_through_costs_what_it_is_behind() {
    let _alone = alone();
    let running = start_with(Config { io_threads: 2, ..config() });
    let mut subscriber = Client::connect(&running);
    subscriber.run("SUBSCRIBE c");
    let mut publisher = Client::connect(&running);
    let message = "m".repeat(100_000);
    let before = running.server.read_memory().allocated as usize;
    for _ in 0..150 {
        publisher.call(&["PUBLISH", "c", &message]);
    }
    for _ in 0..1000 {
        publisher.call(&["PUBLISH", "c", &message]);
        subscriber.reply();
        let used = running.server.read_memory().allocated as usize;
        assert!(used < before + 24 * MB, "{} bytes are kept", used - before);
    }
}

/// A message that many wait for is there once.
#[test]
fn a_long_message_is_kept_once() {
    let _alone = alone();
    let running = start_with(Config { io_threads: 2, ..config() });
    let mut deaf: Vec<Client> = (0..20).map(|_| Client::connect(&running)).collect();
    deaf.iter_mut().for_each(|client| assert_eq!(client.run("SUBSCRIBE c"), "[subscribe c :1]"));
    let before = running.server.read_memory().allocated as usize;
    assert_eq!(Client::connect(&running).call(&["PUBLISH", "c", &"x".repeat(20 * MB)]).integer(), 20);
    let used = running.server.read_memory().allocated as usize - before;
    assert!(used < 70 * MB, "{used}");
    assert_eq!(deaf[7].reply().array()[2].text().len(), 20 * MB);
}

/// Invalidations to a client that broadcasts, or that others redirect to.
#[test]
fn invalidations_are_limited_as_other_pushes_are() {
    let _alone = alone();
    let running = start(1);
    let mut deaf = Client::connect(&running);
    deaf.start("HELLO 3");
    deaf.start("CLIENT TRACKING ON BCAST");
    until("it tracks", || running.server.tracking.is_on());
    let mut writer = Client::connect(&running);
    let most = most_memory(&running, || {
        for n in 0..400 {
            let key = format!("{n}{}", "k".repeat(100_000));
            // What it is told of waits until the end of each turn.
            if closed_for_output(&running) == 0 {
                writer.call(&["SET", &key, "1"]);
            }
        }
    });
    assert!(most < LIMIT + SLACK, "{most}");
    until("it is closed", || closed_for_output(&running) == 1);
    assert_eq!(running.server.clients.undelivered_bytes(), 0);
}

/// A limit that is exceeded for some time, by a client that nothing more is sent to.
#[test]
fn mailboxes_count_for_the_soft_limit() {
    let _alone = alone();
    let mut config = config();
    config.client_output_buffer_limit[2] = OutputLimit { hard_bytes: 0, soft_bytes: LIMIT as u64, soft_seconds: 1 };
    let running = start_with(config);
    let mut deaf = Client::connect(&running);
    deaf.run("SUBSCRIBE c");
    let script = "local m = ('x'):rep(1000000) for i = 1, 30 do redis.call('PUBLISH', 'c', m) end";
    Client::connect(&running).call(&["EVAL", script, "0"]);
    assert_eq!(closed_for_output(&running), 0, "it has a second");
    until("it is closed", || closed_for_output(&running) == 1);
    assert!(deaf.is_closed());
}

/// CLIENT NO-EVICT spares from `maxmemory-clients`, not from the output limit; what a killed client was owed is freed.
#[test]
fn long_queues_go_with_their_clients() {
    let _alone = alone();
    let running = start(2);
    let mut spared = Client::connect(&running);
    assert_eq!(spared.run("CLIENT NO-EVICT ON"), "+OK");
    spared.run("SUBSCRIBE c");
    let mut publisher = Client::connect(&running);
    while closed_for_output(&running) == 0 {
        publisher.call(&["PUBLISH", "c", &"x".repeat(MB)]);
    }
    assert!(spared.is_closed());
    assert_eq!(
        publisher.run("CONFIG SET client-output-buffer-limit pubsub"),
        "-ERR CONFIG SET failed (possibly related to argument 'client-output-buffer-limit') - Wrong number of arguments in buffer limit configuration."
    );
    assert_eq!(publisher.call(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0"]).to_string(), "+OK");
    let before = running.server.read_memory().allocated;
    let mut owed = Client::connect(&running);
    let id = owed.run("CLIENT ID");
    owed.run("SUBSCRIBE c");
    for _ in 0..100 {
        assert_eq!(publisher.call(&["PUBLISH", "c", &"x".repeat(MB)]).integer(), 1);
    }
    assert!(running.server.clients.memory() > 50 * MB);
    assert_eq!(publisher.run(&format!("CLIENT KILL ID {}", &id[1..])), ":1");
    // The publisher has room for its next request.
    assert!(running.server.clients.memory() < 2 * MB, "{}", running.server.clients.memory());
    until("it is freed", || running.server.read_memory().allocated < before + 5 * MB as u64);
}

/// Follows by SYNC, takes the data set, and reads no more.
fn stalled_replica(running: &Running) -> Client {
    let mut follower = Client::connect(running);
    follower.send(b"SYNC\r\n");
    let head = loop {
        let line = follower.line();
        if !line.is_empty() {
            break line;
        }
    };
    follower.bytes(head[1..].parse().expect("a length"));
    follower
}

fn master(io_threads: usize) -> Running {
    start_with(Config { io_threads, repl_diskless_sync_delay: 0, repl_ping_replica_period: 3600, ..config() })
}

#[test]
fn a_record_is_kept_once_for_all_replicas() {
    let _alone = alone();
    for io_threads in [1, 4] {
        let running = master(io_threads);
        let replicas: Vec<Client> = (0..10).map(|_| stalled_replica(&running)).collect();
        let mut client = Client::connect(&running);
        client.run("SET k 1");
        let before = running.server.read_memory().allocated as usize;
        assert_eq!(client.call(&["SET", "k", &"x".repeat(30 * MB)]).to_string(), "+OK");
        let used = || (running.server.read_memory().allocated as usize).saturating_sub(before);
        until("the request is freed", || used() < 80 * MB);
        let info = client.call(&["INFO", "memory"]).text();
        let field = |name: &str| -> usize {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
            line.parse().expect("a number")
        };
        // But for what the kernel has taken of it.
        assert!((10 * MB..32 * MB).contains(&field("mem_total_replication_buffers:")), "{info}");
        assert!((8 * MB..32 * MB).contains(&field("mem_not_counted_for_evict:")), "{info}");
        assert_eq!(field("mem_clients_slaves:"), field("mem_not_counted_for_evict:"));
        drop(replicas);
        until("the backlog is cut", || running.server.replication.stream.backlog().held_bytes < 2 * MB as u64);
        // To within a block of the backlog.
        assert!(running.server.uncounted_bytes() < 200_000, "{}", running.server.uncounted_bytes());
    }
}

/// What waits for a replica, and what a script holds, is no reason to evict keys or to refuse writes.
#[test]
fn keys_stay_whatever_waits_and_whatever_a_script_holds() {
    let _alone = alone();
    for policy in ["allkeys-lru", "noeviction"] {
        let running = master(2);
        let mut client = Client::connect(&running);
        for n in 0..1000 {
            client.run(&format!("SET key{n} value"));
        }
        client.call(&["SET", "long", &"x".repeat(MB)]);
        let replica = stalled_replica(&running);
        let limit = running.server.read_memory().allocated as usize + 10 * MB;
        assert_eq!(client.run(&format!("CONFIG SET maxmemory {limit} maxmemory-policy {policy}")), "+OK");
        for _ in 0..60 {
            assert_eq!(client.call(&["SET", "long", &"y".repeat(MB)]).to_string(), "+OK", "{policy}");
        }
        assert_eq!(client.run("DBSIZE"), ":1001", "{policy}");
        let script = "local t = {} for i = 1, 40 do t[i] = ('x'):rep(1000000) .. i end \
             return redis.call('SET', 'k', #t)";
        assert_eq!(client.call(&["EVAL", script, "1", "k"]).to_string(), "+OK", "{policy}");
        assert_eq!(client.run("SET k 2"), "+OK", "{policy}");
        assert_eq!(client.run("DBSIZE"), ":1002", "{policy}");
        let stats = client.call(&["INFO", "stats"]).text();
        assert!(stats.contains("\r\nevicted_keys:0\r\n"), "{policy}: {stats}");
        drop(replica);
        // The limit holds for all else.
        let mut refused = 0;
        for n in 0..30 {
            refused += usize::from(client.call(&["SET", &format!("long{n}"), &"z".repeat(MB)]).to_string() != "+OK");
        }
        let keys: usize = client.run("DBSIZE")[1..].parse().expect("a number");
        assert!(if policy == "noeviction" { refused > 5 } else { refused == 0 && keys < 1000 }, "{refused} {keys}");
    }
}

/// A replica that takes nothing while the data set is sent is closed for what the stream has for it meanwhile.
#[test]
fn a_replica_may_stall_in_its_full_sync() {
    let _alone = alone();
    let mut limits = config().client_output_buffer_limit;
    limits[1] = OutputLimit { hard_bytes: LIMIT as u64, soft_bytes: 0, soft_seconds: 0 };
    let running = start_with(Config {
        repl_diskless_sync_delay: 0,
        client_output_buffer_limit: limits,
        rdbcompression: false,
        ..config()
    });
    let mut client = Client::connect(&running);
    for n in 0..40 {
        client.call(&["SET", &format!("k{n}"), &format!("{n}").repeat(MB)]);
    }
    let mut stalled = Client::connect(&running);
    stalled.send(b"SYNC\r\n");
    until("the data set is on its way", || client.call(&["INFO", "replication"]).text().contains("state=send_bulk"));
    let before = running.server.read_memory().allocated as usize;
    for _ in 0..20 {
        client.call(&["SET", "k0", &"x".repeat(MB)]);
        let used = (running.server.read_memory().allocated as usize).saturating_sub(before);
        assert!(used < LIMIT + SLACK, "{used}");
    }
    until("it is closed", || closed_for_output(&running) == 1);
    assert_eq!(client.run("DBSIZE"), ":40");
}

/// Elements of 100 KB that make up each large value.
const ELEMENTS: usize = 400;

/// Fills one value of each type, and a group that has everything to claim.
const FILL: &str = "local e = string.rep('x', 100000)
for i = 1, tonumber(ARGV[1]) do
    redis.call('HSET', 'h', i, e) redis.call('RPUSH', 'l', i .. e) redis.call('SADD', 's', i .. e)
    redis.call('ZADD', 'z', 0, i .. e) redis.call('XADD', 'x', i .. '-1', 'f', e)
end
redis.call('SET', 'k', e)
for i = 1, tonumber(ARGV[1]) do redis.call('RPUSH', 'names', '') end
redis.call('XGROUP', 'CREATE', 'x', 'g', 0)
return redis.call('SET', 'name' .. e, 1)";

/// Commands whose reply is as long as the value, or as the client wants it.
const LONG: &[&str] = &[
    "HGETALL h",
    "HVALS h",
    "HRANDFIELD h 1000 WITHVALUES",
    "HRANDFIELD h -1000 WITHVALUES",
    "HSCAN h 0 COUNT 100000",
    "SMEMBERS s",
    "SRANDMEMBER s 1000",
    "SRANDMEMBER s -1000",
    "SSCAN s 0 COUNT 100000",
    "LRANGE l 0 -1",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZREVRANGE z 0 -1",
    "ZRANGEBYSCORE z -inf +inf",
    "ZRANGEBYLEX z - +",
    "ZRANDMEMBER z 1000",
    "ZRANDMEMBER z -1000",
    "ZSCAN z 0 COUNT 100000",
    "XRANGE x - +",
    "XREVRANGE x + -",
    "XREAD STREAMS x 0",
    "XREADGROUP GROUP g c STREAMS x >",
    "XREADGROUP GROUP g c STREAMS x 0",
    "XAUTOCLAIM x g d 0 0 COUNT 1000",
    "XINFO STREAM x FULL COUNT 0",
    "MGET {k}",
    "HMGET h {1}",
    "KEYS *",
    "SORT names BY nosort GET k*",
];

/// A reply is cut off while it is being made, whichever command makes it; its client is closed and no other.
#[test]
fn no_reply_grows_beyond_the_limit() {
    let _alone = alone();
    let data = ELEMENTS * 100_000;
    for (io_threads, hello, muted) in [(1, "HELLO 2", false), (4, "HELLO 3", false), (1, "HELLO 3", true)] {
        let running = start(io_threads);
        let mut admin = Client::connect(&running);
        assert_eq!(admin.call(&["EVAL", FILL, "0", &ELEMENTS.to_string()]).to_string(), "+OK");
        for name in 0..ELEMENTS {
            admin.call(&["SET", &format!("{name}{}", "n".repeat(50_000)), "1"]);
        }
        for command in LONG {
            let what = format!("{command}, {io_threads} workers, {hello}, muted: {muted}");
            let words: Vec<&str> = command
                .split(' ')
                .flat_map(|word| match word {
                    "{k}" => vec!["k"; ELEMENTS],
                    "{1}" => vec!["1"; ELEMENTS],
                    word => vec![word],
                })
                .collect();
            let closed = closed_for_output(&running);
            let before = running.server.read_memory().allocated as usize;
            let mut greedy = Client::connect(&running);
            let setup = [hello, "CLIENT REPLY OFF"];
            setup[..1 + usize::from(muted)].iter().for_each(|setup| greedy.start(setup));
            greedy.send(&request(&words));
            greedy.start("CLIENT REPLY ON");
            let mut most = 0;
            let is_over = || {
                if muted {
                    running.server.stats.sum(|worker| &worker.commands_processed)
                } else {
                    closed_for_output(&running) - closed
                }
            };
            let wanted = if muted { is_over() + 1 } else { 1 };
            until(&format!("it is over: {what}"), || {
                most = most.max(running.server.read_memory().allocated as usize);
                is_over() >= wanted
            });
            assert!(most < before + LIMIT + SLACK, "{what}: {} of {data}", most - before);
            if muted {
                let mut line = String::new();
                while line != "+OK" {
                    line = greedy.line();
                }
                assert_eq!(closed_for_output(&running), 0, "{what}: it is owed nothing");
            }
        }
        assert_eq!(admin.run("PING"), "+PONG");
    }
}

/// What a reply is without a limit does not depend on where it was cut into pieces.
#[test]
fn long_replies_are_whole() {
    let _alone = alone();
    let running = start_with(config());
    let mut client = Client::connect(&running);
    client.call(&["EVAL", FILL, "0", "20"]);
    let mut pipelined = |command: &str| -> Vec<Vec<Reply>> {
        let words: Vec<&str> = command.split(' ').collect();
        client.send(&request(&words).repeat(3));
        (0..3).map(|_| client.reply().array()).collect()
    };
    for (command, len) in [
        ("KEYS *", 8),
        ("HGETALL h", 40),
        ("ZRANGEBYSCORE z -inf +inf", 20),
        ("XRANGE x - +", 20),
        ("ZRANGE z 0 -1 WITHSCORES", 40),
    ] {
        assert!(pipelined(command).iter().all(|reply| reply.len() == len), "{command}");
    }
    for (command, len) in [("HSCAN h 0 COUNT 1000", 40), ("SSCAN s 0 COUNT 1000", 20), ("ZSCAN z 0 COUNT 1000", 40)] {
        for reply in pipelined(command) {
            assert_eq!((reply[0].text(), reply[1].clone().array().len()), ("0".to_owned(), len), "{command}");
        }
    }
    client.run("XREADGROUP GROUP g c STREAMS x >");
    let claimed = client.call(&["XAUTOCLAIM", "x", "g", "d", "0", "0", "COUNT", "1000"]).array();
    assert_eq!((claimed[0].text(), claimed[1].clone().array().len()), ("0-0".to_owned(), 20));
}

/// Over a Unix socket, too, and with replies that are sent in between to who does not want them.
#[test]
fn a_slow_reader_of_a_unix_socket_is_limited() {
    let _alone = alone();
    let folder = common::Folder::new("slow-unix");
    let limit = OutputLimit { hard_bytes: LIMIT as u64, soft_bytes: 0, soft_seconds: 0 };
    let unixsocket = Some(folder.0.join("socket").display().to_string());
    let running = start_with(Config { unixsocket, client_output_buffer_limit: [limit; 3], ..config() });
    let mut admin = Client::connect(&running);
    admin.call(&["SET", "k", &"x".repeat(100_000)]);
    for (setup, is_closed) in [(&[][..], true), (&["CLIENT REPLY OFF"], false), (&["CLIENT REPLY SKIP"], true)] {
        let closed = closed_for_output(&running);
        let mut slow = Client::connect_unix(&folder.0.join("socket"));
        setup.iter().for_each(|command| slow.start(command));
        let most = most_memory(&running, || {
            let _ = slow.try_send(&request(&["GET", "k"]).repeat(1000));
            let _ = slow.try_send(&request(&["CLIENT", "REPLY", "ON"]));
            if is_closed {
                until("it is closed", || closed_for_output(&running) == closed + 1);
            } else {
                assert_eq!(slow.line(), "+OK");
            }
        });
        assert!(most < LIMIT + SLACK, "{setup:?}: {most}");
        assert_eq!(closed_for_output(&running), closed + u64::from(is_closed), "{setup:?}");
    }
}
