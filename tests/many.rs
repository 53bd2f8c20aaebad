//! Very many of each thing that clients can make: what they cost grows no faster than their number, nobody else waits for them
//! for long, and their memory comes back with them.
//!
//! `MANY=100000` in an optimized build tries that many, and holds another client's PING under 50 ms. Otherwise there are
//! fewer, and the processor time of the workers for all of them is compared with that for half as many: twice, or four times
//! where something looks at all for each. One server at a time runs in this process, so both figures are its own.

mod common;

use common::{Client, config, start_with, until};
use redstart::config::Config;
use redstart::run::start::Running;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: redstart::memory::allocator::Allocator = redstart::memory::allocator::Allocator;

/// How many there are of each thing if `MANY` does not say.
const FEW: usize = 4000;
/// Another client waits no longer than this, in an optimized build and with as many as `MANY` says.
const LONGEST_PING: Duration = Duration::from_millis(50);
/// Twice as many take no more than this times as long: 2 where the cost is linear, 4 where it is quadratic.
const GROWTH: f64 = 3.0;
/// A machine that does something else just then is no fault of the server's.
const ATTEMPTS: usize = 4;
/// What a server may keep of it all: buffers that were used for the first time.
const SLACK_BYTES: u64 = 200_000;
/// Connections of a case that is about many connections: descriptors are few.
const CONNECTIONS: usize = 300;

/// A kind of thing.
struct Kind {
    name: &'static str,
    /// Makes `count` of them; the clients that have them.
    fill: fn(&Running, usize) -> Vec<Client>,
    /// Has them go, beside the clients that have them, which are gone by then.
    clear: fn(&mut Client),
    /// What is to be seen in INFO when all are gone, if anything.
    gone: &'static str,
}

const NOTHING: fn(&mut Client) = |_| {};

const KINDS: &[Kind] = &[
    Kind { name: "channels", fill: |r, n| subscribe(r, n, "SUBSCRIBE"), clear: NOTHING, gone: "pubsub_channels:0" },
    Kind { name: "patterns", fill: |r, n| subscribe(r, n, "PSUBSCRIBE"), clear: NOTHING, gone: "pubsub_patterns:0" },
    Kind {
        name: "shard channels",
        fill: |r, n| subscribe(r, n, "SSUBSCRIBE"),
        clear: NOTHING,
        gone: "pubsubshard_channels:0",
    },
    Kind { name: "channels left again", fill: leave_channels, clear: NOTHING, gone: "pubsub_channels:0" },
    Kind { name: "awaited keys", fill: await_keys, clear: NOTHING, gone: "total_blocking_keys:0" },
    Kind { name: "awaited keys, filled by a script", fill: fill_awaited, clear: flush, gone: "total_blocking_keys:0" },
    Kind { name: "clients that wait for one key", fill: await_one_key, clear: NOTHING, gone: "total_blocking_keys:0" },
    Kind { name: "watched keys", fill: watch_keys, clear: NOTHING, gone: "" },
    Kind { name: "keys watched again and again", fill: watch_again, clear: NOTHING, gone: "" },
    Kind { name: "changes of a watched key", fill: change_watched, clear: flush, gone: "" },
    Kind { name: "tracked keys", fill: track_keys, clear: flush, gone: "tracking_total_keys:0" },
    Kind { name: "tracked keys over the limit", fill: track_over_limit, clear: flush, gone: "tracking_total_keys:0" },
    Kind { name: "tracked prefixes", fill: track_prefixes, clear: flush, gone: "tracking_total_prefixes:0" },
    Kind { name: "queued commands", fill: queue_commands, clear: NOTHING, gone: "" },
    Kind { name: "waits for replicas", fill: wait_for_replicas, clear: NOTHING, gone: "blocked_clients:0" },
    Kind { name: "clients", fill: connect_all, clear: NOTHING, gone: "" },
    Kind { name: "clients by size", fill: connect_under_limit, clear: lift_limit, gone: "" },
    Kind { name: "monitors", fill: monitor, clear: NOTHING, gone: "" },
    Kind { name: "users", fill: make_users, clear: NOTHING, gone: "" },
    Kind { name: "key patterns of a user", fill: make_patterns, clear: delete_user, gone: "" },
    Kind { name: "selectors", fill: make_selectors, clear: delete_user, gone: "" },
    Kind { name: "entries of the ACL log", fill: fill_acl_log, clear: reset_acl_log, gone: "" },
    Kind { name: "slow log entries", fill: fill_slowlog, clear: reset_slowlog, gone: "" },
    Kind { name: "scripts", fill: load_scripts, clear: flush_scripts, gone: "number_of_cached_scripts:0" },
    Kind { name: "libraries", fill: load_libraries, clear: flush_libraries, gone: "number_of_libraries:0" },
    Kind {
        name: "functions of a library",
        fill: load_functions,
        clear: flush_libraries,
        gone: "number_of_libraries:0",
    },
    Kind { name: "consumers", fill: make_consumers, clear: flush, gone: "" },
    Kind { name: "keys that expire together", fill: expire_together, clear: flush, gone: "" },
];

/// Runs `count` commands, many at a time.
fn run_all(client: &mut Client, count: usize, command: impl Fn(usize) -> String) {
    for start in (0..count).step_by(AT_ONCE) {
        let numbers = start..count.min(start + AT_ONCE);
        let requests: Vec<u8> = numbers.clone().flat_map(|number| words(&command(number))).collect();
        client.send(&requests);
        for number in numbers {
            let reply = client.reply().to_string();
            assert!(!reply.starts_with('-') || reply.starts_with("-WRONGPASS"), "{}: {reply}", command(number));
        }
    }
}

const AT_ONCE: usize = 200;

fn words(command: &str) -> Vec<u8> {
    common::request(&command.split_whitespace().collect::<Vec<_>>())
}

/// Runs `command` with words for all numbers below `count` behind it, some hundreds each time; reads a reply each time, or
/// one for each number.
fn name_all(client: &mut Client, count: usize, command: &str, word: impl Fn(usize) -> String, reply_each: bool) {
    for start in (0..count).step_by(AT_ONCE) {
        let numbers = start..count.min(start + AT_ONCE);
        let replies = if reply_each { numbers.len() } else { 1 };
        let named: Vec<String> = numbers.map(&word).collect();
        client.send(&words(&format!("{command} {}", named.join(" "))));
        for _ in 0..replies {
            let reply = client.reply().to_string();
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
    }
}

fn connected(running: &Running, count: usize) -> Vec<Client> {
    (0..count.min(CONNECTIONS)).map(|_| Client::connect(running)).collect()
}

fn subscribe(running: &Running, count: usize, command: &str) -> Vec<Client> {
    let mut client = Client::connect(running);
    name_all(&mut client, count, command, |number| format!("name:{number}:*"), true);
    vec![client]
}

fn leave_channels(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = vec![Client::connect(running), Client::connect(running)];
    for (command, leave) in [("SUBSCRIBE", "UNSUBSCRIBE"), ("PSUBSCRIBE", "PUNSUBSCRIBE")] {
        for client in &mut clients {
            name_all(client, count / 4, command, |number| format!("name:{number}"), true);
        }
        for client in &mut clients {
            name_all(client, count / 4, leave, |number| format!("name:{number}"), true);
        }
    }
    clients
}

fn await_keys(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = connected(running, 20);
    let share = count / clients.len();
    for (idx, client) in clients.iter_mut().enumerate() {
        let keys: Vec<String> = (idx * share..(idx + 1) * share).map(|number| format!("q{number}")).collect();
        client.start(&format!("BLPOP {} 0", keys.join(" ")));
    }
    common::until_blocked(running, clients.len());
    clients
}

/// A script takes its own time: what is filled by each is little, and waited for again by the client that was served.
fn fill_awaited(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    let script = "for i = ARGV[1], ARGV[2] - 1 do redis.call('RPUSH', 'q' .. i, 'x') end";
    let mut other = Client::connect(running);
    for start in (0..count).step_by(PART) {
        let keys: Vec<String> = (start..start + PART).map(|number| format!("q{number}")).collect();
        client.start(&format!("BLPOP {} 0", keys.join(" ")));
        common::until_blocked(running, 1);
        other.call(&["EVAL", script, "0", &start.to_string(), &(start + PART).to_string()]);
        client.reply();
    }
    vec![client]
}

/// Keys of one script: it takes some milliseconds.
const PART: usize = 4000;

fn await_one_key(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = connected(running, count);
    for _ in 0..3 {
        clients.iter_mut().for_each(|client| client.start("BLPOP queue 0"));
        common::until_blocked(running, clients.len());
        run_all(&mut Client::connect(running), clients.len(), |_| "RPUSH queue x".to_owned());
        clients.iter_mut().for_each(|client| assert_eq!(client.reply().to_string(), "[queue x]"));
    }
    clients.iter_mut().for_each(|client| client.start("BLPOP queue 0"));
    common::until_blocked(running, clients.len());
    clients
}

fn watch_keys(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    name_all(&mut client, count, "WATCH", |number| format!("key:{number}"), false);
    vec![client]
}

fn watch_again(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    for _ in 0..2 {
        for _ in 0..2 {
            name_all(&mut client, count / 2, "WATCH", |number| format!("key:{number}"), false);
        }
        assert_eq!(client.run("UNWATCH"), "+OK");
    }
    vec![client]
}

fn change_watched(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = connected(running, count);
    clients.iter_mut().for_each(|client| assert_eq!(client.run("WATCH counter"), "+OK"));
    run_all(&mut Client::connect(running), count, |_| "INCR counter".to_owned());
    clients
}

fn track_keys(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    assert_eq!(client.run("CLIENT TRACKING ON"), "+OK");
    name_all(&mut client, count, "MGET", |number| format!("key:{number}"), false);
    vec![client]
}

fn track_over_limit(running: &Running, count: usize) -> Vec<Client> {
    let mut admin = Client::connect(running);
    assert_eq!(admin.run(&format!("CONFIG SET tracking-table-max-keys {}", count / 2)), "+OK");
    let clients = track_keys(running, count);
    assert_eq!(admin.run("CONFIG SET tracking-table-max-keys 10"), "+OK");
    until("the table has shrunk", || admin.call(&["INFO", "stats"]).text().contains("\r\ntracking_total_keys:10\r\n"));
    assert_eq!(admin.run("CONFIG SET tracking-table-max-keys 1000000"), "+OK");
    clients
}

fn track_prefixes(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    // Prefixes that begin alike, of several lengths.
    name_all(&mut client, count, "CLIENT TRACKING ON BCAST", |number| format!("PREFIX name:{number}:"), false);
    assert!(client.run("CLIENT TRACKING ON BCAST PREFIX name:1:x").contains("overlaps with an existing prefix"));
    run_all(&mut Client::connect(running), count, |number| format!("SET name:{number}:key 1"));
    vec![client]
}

fn queue_commands(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    assert_eq!(client.run("MULTI"), "+OK");
    run_all(&mut client, count, |number| format!("SET key:{number} 1"));
    vec![client]
}

fn wait_for_replicas(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = connected(running, count);
    clients.iter_mut().for_each(|client| client.start("WAIT 1 0"));
    common::until_blocked(running, clients.len());
    clients
}

fn connect_all(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = connected(running, count);
    let ids: Vec<String> = clients.iter_mut().map(|client| client.run("CLIENT ID")[1..].to_owned()).collect();
    let lines = clients[0].run(&format!("CLIENT LIST ID {}", ids.join(" ")));
    assert_eq!(lines.lines().count(), clients.len());
    clients
}

fn connect_under_limit(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = connected(running, count);
    let mut admin = Client::connect(running);
    assert_eq!(admin.run("CLIENT NO-EVICT ON"), "+OK");
    // Each has more than it may by itself, so each goes as it comes.
    assert_eq!(admin.run("CONFIG SET maxmemory-clients 2000000"), "+OK");
    let part = format!("*1\r\n$90000\r\n{}", "v".repeat(80_000));
    for client in &mut clients {
        // Some are closed while they send.
        let _ = client.try_send(part.as_bytes());
    }
    until("some are closed", || {
        !admin.call(&["INFO", "stats"]).text().contains("\r\nevicted_clients:0\r\n") || count < 50
    });
    clients
}

fn lift_limit(client: &mut Client) {
    assert_eq!(client.run("CONFIG SET maxmemory-clients 0"), "+OK");
}

fn monitor(running: &Running, count: usize) -> Vec<Client> {
    let mut clients = connected(running, count);
    clients.iter_mut().for_each(|client| assert_eq!(client.run("MONITOR"), "+OK"));
    clients
}

fn make_users(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    run_all(&mut client, count, |number| format!("ACL SETUSER user{number} on nopass ~k +get"));
    name_all(&mut client, count, "ACL DELUSER", |number| format!("user{number}"), false);
    vec![client]
}

/// ACL SETUSER makes a copy of its user, as in Redis: what is added bit by bit is no part of this.
fn make_patterns(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    let rules = |sign: &str| (0..count / 8).map(|number| format!("{sign}name:{number} ")).collect::<String>();
    assert_eq!(client.run(&format!("ACL SETUSER user {}", rules("~"))), "+OK");
    assert_eq!(client.run(&format!("ACL SETUSER user {}", rules("&"))), "+OK");
    assert_eq!(client.run(&format!("ACL SETUSER user {}", rules("+select|"))), "+OK");
    assert_eq!(client.run(&format!("ACL SETUSER user {}", rules(">"))), "+OK");
    assert_eq!(client.run("ACL SETUSER user resetchannels"), "+OK");
    vec![client]
}

fn make_selectors(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    let selectors: String = (0..count / 8).map(|number| format!("(~key:{number} &channel:{number}) ")).collect();
    assert_eq!(client.run(&format!("ACL SETUSER user {selectors}")), "+OK");
    assert_eq!(client.run("ACL SETUSER user clearselectors"), "+OK");
    vec![client]
}

fn delete_user(client: &mut Client) {
    assert_eq!(client.run("ACL DELUSER user"), ":1");
}

fn fill_acl_log(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    assert_eq!(client.run(&format!("CONFIG SET acllog-max-len {count}")), "+OK");
    run_all(&mut client, count, |number| format!("AUTH user{number} wrong"));
    vec![client]
}

fn reset_acl_log(client: &mut Client) {
    assert_eq!(client.run("ACL LOG RESET"), "+OK");
}

fn fill_slowlog(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    assert_eq!(client.run(&format!("CONFIG SET slowlog-max-len {count} slowlog-log-slower-than 0")), "+OK");
    run_all(&mut client, count, |number| format!("ECHO {number}"));
    assert_eq!(client.run("CONFIG SET slowlog-log-slower-than -1"), "+OK");
    vec![client]
}

fn reset_slowlog(client: &mut Client) {
    assert_eq!(client.run("SLOWLOG RESET"), "+OK");
}

fn load_scripts(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    run_all(&mut client, count, |number| format!("SCRIPT LOAD return({number})"));
    vec![client]
}

fn flush_scripts(client: &mut Client) {
    assert_eq!(client.run("SCRIPT FLUSH ASYNC"), "+OK");
}

fn load_libraries(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    for number in 0..count / 4 {
        let code = format!("#!lua name=lib{number}\nredis.register_function('f{number}', function() end)");
        assert_eq!(client.call(&["FUNCTION", "LOAD", &code]).to_string(), format!("lib{number}"));
        assert_eq!(client.run(&format!("FCALL f{number} 0")), "nil");
    }
    vec![client]
}

fn load_functions(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    let loop_head = format!("for i = 1, {} do", count / 8);
    let code = format!("#!lua name=lib\n{loop_head} redis.register_function('f' .. i, function() end) end");
    assert_eq!(client.call(&["FUNCTION", "LOAD", &code]).to_string(), "lib");
    vec![client]
}

fn flush_libraries(client: &mut Client) {
    assert_eq!(client.run("FUNCTION FLUSH ASYNC"), "+OK");
}

fn make_consumers(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    assert_eq!(client.run("XGROUP CREATE stream group $ MKSTREAM"), "+OK");
    run_all(&mut client, count, |number| format!("XGROUP CREATECONSUMER stream group c{number}"));
    run_all(&mut client, count / 2, |number| format!("XGROUP DELCONSUMER stream group c{number}"));
    run_all(&mut client, count / 2, |number| format!("XGROUP CREATECONSUMER stream group d{number}"));
    vec![client]
}

fn expire_together(running: &Running, count: usize) -> Vec<Client> {
    let mut client = Client::connect(running);
    run_all(&mut client, count, |number| format!("SET key:{number} 1 PX 300"));
    until("all have expired", || client.run("DBSIZE") == ":0");
    vec![client]
}

fn flush(client: &mut Client) {
    assert_eq!(client.run("FLUSHALL"), "+OK");
}

/// What `count` of a kind have cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Processor time of all workers.
    worked: Duration,
    longest_ping: Duration,
    /// Bytes that were not in use before.
    left_bytes: u64,
}

fn measure(kind: &Kind, workers: usize, count: usize) -> Cost {
    let running = start_with(Config { io_threads: workers, ..config() });
    let (mut admin, ping) = (Client::connect(&running), Pings::begin(&running));
    let mut round = |count: usize| {
        drop((kind.fill)(&running, count));
        (kind.clear)(&mut admin);
        let is_gone = |info: &str| kind.gone.is_empty() || info.lines().any(|line| line == kind.gone);
        until(kind.name, || is_gone(&admin.call(&["INFO", "everything"]).text()));
        until(kind.name, || running.server.clients.len() == 2);
    };
    // What a server makes at first use is there afterwards.
    round(count / 50);
    let used = || running.server.read_memory().allocated;
    let (before, began) = (used(), worked());
    ping.forget();
    round(count);
    let (worked, longest_ping) = (worked() - began, ping.end());
    let left_bytes = || used().saturating_sub(before);
    let patience = Instant::now() + Duration::from_secs(3);
    while left_bytes() > SLACK_BYTES && Instant::now() < patience {
        // What another thread frees may take a moment.
        std::thread::sleep(Duration::from_millis(10));
    }
    let left_bytes = left_bytes();
    running.shutdown();
    Cost { worked, longest_ping, left_bytes }
}

/// Processor time of all worker threads of this process so far.
fn worked() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let nanos = tasks.flatten().filter_map(|task| {
        // A thread may end meanwhile.
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        name.starts_with("worker_").then(|| times.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()))?
    });
    Duration::from_nanos(nanos.sum())
}

/// A client that says PING again and again.
struct Pings {
    is_over: Arc<AtomicBool>,
    /// The longest so far, in nanoseconds.
    longest: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Pings {
    fn begin(running: &Running) -> Pings {
        let mut client = Client::connect(running);
        assert_eq!(client.run("CLIENT NO-EVICT ON"), "+OK");
        let (is_over, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, noted) = (is_over.clone(), longest.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(client.run("PING"), "+PONG");
                noted.fetch_max(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Pings { is_over, longest, thread }
    }

    fn forget(&self) {
        self.longest.store(0, Ordering::Relaxed);
    }

    fn end(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("PING is answered");
        Duration::from_nanos(self.longest.load(Ordering::Relaxed))
    }
}

/// What is wrong with what `count` of a kind cost.
fn fault(kind: &Kind, workers: usize, many: Option<usize>) -> Option<String> {
    let count = many.unwrap_or(FEW);
    let cost = measure(kind, workers, count);
    println!("{} {}, {workers} workers: {cost:?}", count, kind.name);
    if cost.left_bytes > SLACK_BYTES {
        return Some(format!("{} bytes stay", cost.left_bytes));
    }
    if many.is_some() {
        let is_long = cost.longest_ping > LONGEST_PING;
        return is_long.then(|| format!("somebody else waited for {:?}", cost.longest_ping));
    }
    let half = measure(kind, workers, count / 2);
    let growth = cost.worked.as_secs_f64() / half.worked.as_secs_f64().max(MEASURABLE_S);
    (growth > GROWTH).then(|| format!("twice as many take {growth:.1} times as long"))
}

/// Processor time below this says nothing, in seconds.
const MEASURABLE_S: f64 = 0.01;

fn check(workers: usize) {
    let many = std::env::var("MANY").ok().map(|many| many.parse().expect("MANY is a number"));
    let only = std::env::var("KIND").unwrap_or_default();
    let mut faults = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.name.contains(&only)) {
        let attempts: Vec<String> = (0..ATTEMPTS).map_while(|_| fault(kind, workers, many)).collect();
        if attempts.len() == ATTEMPTS {
            faults.push(format!("{}: {}", kind.name, attempts.join("; ")));
        }
    }
    assert!(faults.is_empty(), "with {workers} workers:\n{}", faults.join("\n"));
}

/// One after the other: the figures are those of one server.
#[test]
fn nothing_grows_faster_than_its_number_or_stays() {
    check(1);
    check(4);
}
