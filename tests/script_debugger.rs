//! Clients that debug scripts, and what others see of it.

mod common;

use common::{Client, Folder, config, request, start_with, until};
use redstart::config::Config;
use redstart::run::start::Running;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const STOPPED: &str = "[+* Stopped at 1, stop reason = step over +-> 1   redis.call('SET', 'k', 'changed')]";
const SCRIPT: &str = "redis.call('SET', 'k', 'changed')\nlocal k = redis.call('GET', 'k')\nreturn k";
const ENDLESS: &str = "local n = 0\nwhile true do\nn = n + 1\nend";

/// A client that has stopped in the script's first line.
fn debug(running: &Running, mode: &str, script: &str) -> Client {
    let mut client = Client::connect(running);
    assert_eq!(client.run(&format!("SCRIPT DEBUG {mode}")), "+OK");
    let stopped = client.call(&["EVAL", script, "0"]).to_string();
    assert!(stopped.starts_with("[+* Stopped at 1, stop reason = step over"), "{stopped}");
    client
}

fn one_worker() -> Running {
    start_with(Config { io_threads: 1, ..config() })
}

fn no_session_is_left(running: &Running) {
    until("the session has ended", || running.server.debug_sessions.load(Ordering::Relaxed) == 0);
}

#[test]
fn aside_nothing_changes_and_nobody_waits() {
    let running = one_worker();
    let mut other = Client::connect(&running);
    let data =
        ["SET k before", "RPUSH l a b", "HSET h f v", "SADD s 1 x", "ZADD z 1.5 m", "XADD x 1-1 f v", "SELECT 3"];
    data.into_iter().for_each(|command| drop(other.run(command)));
    other.run("SET in3 x PX 100000");
    let digest = other.run("GET in3");
    let mut client = Client::connect(&running);
    assert_eq!(client.run("SCRIPT DEBUG YES"), "+OK");
    assert_eq!(client.call(&["EVAL", SCRIPT, "0"]).to_string(), STOPPED);
    // The client is gone from here, and all goes on.
    until("it is not counted", || other.call(&["INFO", "clients"]).text().contains("connected_clients:1\r\n"));
    assert_eq!(other.run("SELECT 0"), "+OK");
    assert_eq!(other.run("SET later x"), "+OK");
    assert_eq!(client.run("redis get k"), "[+<redis> get k +<reply> \"before\"]");
    assert_eq!(client.run("redis exists later"), "[+<redis> exists later +<reply> 0]");
    assert_eq!(client.run("redis xrange x - +"), "[+<redis> xrange x - + +<reply> [[\"1-1\",[\"f\",\"v\"]]]]");
    assert_eq!(client.run("redis zscore z m"), "[+<redis> zscore z m +<reply> \"1.5\"]");
    assert!(client.run("eval redis.call('select',3) and redis.call('pttl','in3') > 0").contains("<retval> true"));
    let next = client.run("step");
    assert!(next.contains("+<redis> SET k changed +<reply> \"+OK\" +* Stopped at 2"), "{next}");
    assert_eq!(client.run("continue"), "[+<endsession>]");
    assert_eq!(client.reply().to_string(), "changed");
    assert!(client.is_closed());
    no_session_is_left(&running);
    assert_eq!(other.run("MGET k later"), "[before x]");
    assert_eq!(digest, "x");
}

#[test]
fn in_place_the_others_wait() {
    let running = one_worker();
    let mut other = Client::connect(&running);
    let mut client = debug(&running, "SYNC", SCRIPT);
    other.start("GET k");
    // Longer than others would be told BUSY after.
    running.server.config.update::<()>(|config| Ok(Config { busy_reply_threshold: 1, ..config.clone() })).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(client.run("step").contains("<redis> SET k changed"));
    assert_eq!(client.run("abort"), "[+<endsession>]");
    let error = client.reply().to_string();
    assert!(error.starts_with("-ERR script aborted for user request script: "), "{error}");
    assert!(client.is_closed());
    assert_eq!(other.reply().to_string(), "changed", "not BUSY");
}

#[test]
fn a_client_that_goes_leaves_the_script_alone() {
    let running = one_worker();
    let mut other = Client::connect(&running);
    drop(debug(&running, "SYNC", SCRIPT));
    assert_eq!(other.run("GET k"), "changed");
    running.server.config.update::<()>(|config| Ok(Config { busy_reply_threshold: 50, ..config.clone() })).unwrap();
    // It wants to stop when it has run for so long.
    let mut client = debug(&running, "YES", ENDLESS);
    client.send(&request(&["continue"]));
    drop(client);
    no_session_is_left(&running);
    assert_eq!(other.run("PING"), "+PONG");
}

#[test]
fn the_end_of_a_server_ends_its_sessions() {
    for (mode, command) in [
        ("YES", ""),
        ("YES", "continue"),
        ("YES", "eval while true do end"),
        ("SYNC", ""),
        ("SYNC", "continue"),
        ("SYNC", "eval while true do end"),
    ] {
        let running = one_worker();
        let mut client = debug(&running, mode, ENDLESS);
        if !command.is_empty() {
            client.start(command);
        }
        let began = Instant::now();
        running.shutdown();
        assert!(began.elapsed() < Duration::from_secs(5), "{mode} {command:?} takes {:?}", began.elapsed());
        assert!(client.is_closed());
    }
}

#[test]
fn shutdown_by_a_client_ends_sessions() {
    let running = one_worker();
    let mut other = Client::connect(&running);
    let mut client = debug(&running, "YES", ENDLESS);
    other.start("SHUTDOWN NOSAVE");
    assert!(running.wait());
    assert!(client.is_closed());
}

#[test]
fn client_kill_ends_a_session_in_place() {
    let running = start_with(Config { io_threads: 2, ..config() });
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&running)).collect();
    let id = clients[0].run("CLIENT ID");
    assert_eq!(clients[0].run("SCRIPT DEBUG SYNC"), "+OK");
    clients[0].call(&["EVAL", SCRIPT, "0"]);
    // On the other worker.
    assert_eq!(clients[1].run(&format!("CLIENT KILL ID {}", &id[1..])), ":1");
    assert!(clients[0].is_closed());
    assert_eq!(clients[1].run("PING"), "+PONG");
}

#[test]
fn a_transaction_goes_on_without_its_debugged_script() {
    let running = one_worker();
    let mut client = Client::connect(&running);
    assert_eq!(client.run("SCRIPT DEBUG YES"), "+OK");
    assert_eq!(client.run("MULTI"), "+OK");
    assert_eq!(client.run("SET k before"), "+QUEUED");
    assert_eq!(client.call(&["EVAL", SCRIPT, "0"]).to_string(), "+QUEUED");
    assert_eq!(client.run("SET after 1"), "+QUEUED");
    assert_eq!(client.run("EXEC"), STOPPED);
    assert_eq!(client.run("redis get k"), "[+<redis> get k +<reply> \"before\"]");
    assert_eq!(client.run("c"), "[+<endsession>]");
    let rest = client.line() + &client.line() + &client.line() + &client.line();
    assert_eq!(rest, "*3+OK$7changed");
    assert!(client.is_closed());
    assert_eq!(Client::connect(&running).run("MGET k after"), "[before 1]");
}

#[test]
fn a_copy_must_find_room() {
    let running = one_worker();
    running.server.read_memory();
    let maxmemory = running.server.used_memory.bytes() * 3 / 2;
    let mut client = Client::connect(&running);
    assert_eq!(client.run(&format!("CONFIG SET maxmemory {maxmemory}")), "+OK");
    assert_eq!(client.run("SCRIPT DEBUG YES"), "+OK");
    let refused = "-ERR Fork() failed: can't run EVAL in debugging mode: Cannot allocate memory";
    assert_eq!(client.call(&["EVAL", SCRIPT, "0"]).to_string(), refused);
    assert_eq!(client.call(&["EVAL", SCRIPT, "0"]).to_string(), "changed", "it is not debugged any more");
    assert_eq!(client.run("CONFIG SET maxmemory 0"), "+OK");
    let sessions: Vec<Client> = (0..8).map(|_| debug(&running, "YES", SCRIPT)).collect();
    assert_eq!(client.run("SCRIPT DEBUG YES"), "+OK");
    let refused = "-ERR Fork() failed: can't run EVAL in debugging mode: Resource temporarily unavailable";
    assert_eq!(client.call(&["EVAL", SCRIPT, "0"]).to_string(), refused);
    drop(sessions);
    no_session_is_left(&running);
}

#[test]
fn a_copy_is_of_one_instant_whatever_happens() {
    let folder = Folder::new("ldb-save");
    let running = start_with(Config { io_threads: 1, dir: folder.0.clone(), ..config() });
    let mut other = Client::connect(&running);
    assert_eq!(other.run("CONFIG SET rdb-key-save-delay 200"), "+OK");
    for n in 0..5_000 {
        other.start(&format!("SET key:{n} 0"));
    }
    (0..5_000).for_each(|_| drop(other.reply()));
    let sum = "local sum = 0\nfor n = 0, 4999 do sum = sum + redis.call('GET', 'key:' .. n) end\nreturn sum";
    // Another client changes all keys meanwhile.
    let (stop, stopped) = mpsc::channel::<()>();
    let address = running.addr().unwrap();
    let writer = std::thread::spawn(move || {
        let mut client = Client::connect_to(address);
        for n in (0..5_000).cycle() {
            if stopped.try_recv().is_ok() {
                return;
            }
            client.run(&format!("SET key:{n} 1"));
        }
    });
    for saving in [false, true] {
        // Two snapshots at a time: the second is made at once.
        if saving {
            assert_eq!(other.run("BGSAVE"), "+Background saving started");
        }
        let before = other.call(&["EVAL", sum, "0"]).integer();
        let mut client = debug(&running, "YES", sum);
        let after = other.call(&["EVAL", sum, "0"]).integer();
        assert_eq!(client.run("continue"), "[+<endsession>]");
        let copied = client.reply().integer();
        assert!((before..=after).contains(&copied), "{before} {copied} {after}");
        let reply = other.run("BGSAVE");
        assert!(saving || reply.starts_with('+'), "{reply}");
        other.run("CONFIG SET rdb-key-save-delay 0");
        until("it is saved", || other.call(&["INFO", "persistence"]).text().contains("rdb_bgsave_in_progress:0"));
        other.run("CONFIG SET rdb-key-save-delay 200");
    }
    other.run("CONFIG SET rdb-key-save-delay 0");
    stop.send(()).unwrap();
    writer.join().unwrap();
}

#[test]
fn any_bytes_may_come() {
    let running = one_worker();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    const PARTS: &[&[u8]] = &[
        b"*1\r\n$1\r\ns\r\n",
        b"*2\r\n$1\r\ne\r\n$5\r\nt={}1\r\n",
        b"*2\r\n$1\r\np\r\n$1\r\nk\r\n",
        b"*3\r\n$1\r\nb\r\n$2\r\n-1\r\n$1\r\n2\r\n",
        b"*3\r\n$1\r\nr\r\n$4\r\nkeys\r\n$1\r\n*\r\n",
        b"*1\r\n$1\r\nw\r\n",
        b"*3\r\n$1\r\nl\r\n$11\r\n-2147483648\r\n$10\r\n2147483647\r\n",
        b"*2\r\n$1\r\nm\r\n$1\r\n0\r\n",
        b"*1\r\n$1\r\nt\r\n",
        b"*",
        b"$",
        b"\r\n",
        b"\0",
        b"-1",
        b"99999999999999999999",
        b"\xff",
    ];
    for round in 0..60 {
        let mode = ["YES", "SYNC"][round % 2];
        let mut client = debug(&running, mode, SCRIPT);
        for _ in 0..random(12) {
            // It may have ended by now.
            let _ = client.try_send(PARTS[random(PARTS.len())]);
        }
    }
    assert_eq!(Client::connect(&running).run("PING"), "+PONG");
    no_session_is_left(&running);
}
