//! A script that never ends: whatever clients do beside it and whatever is due meanwhile, new connections are accepted,
//! everybody is told BUSY, SCRIPT KILL ends it, and what could not be done is done afterwards.

mod common;

use common::{Client, Folder, config, start_with, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redstart::command::spec::ALLOW_BUSY;
use redstart::commands::registry;
use redstart::config::{Config, MaxmemoryPolicy, ProtectedAction, SavePoint};
use redstart::keyspace::lock::MayWait;
use redstart::run::start::Running;
use std::time::{Duration, Instant};

const BUSY: &str = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

/// Scripts that never end: in Lua, by a clock that stands still within a script, catching every error, calling commands.
const ENDLESS: &[&str] = &[
    "while true do end",
    "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 3600 do end",
    "while true do pcall(function() while true do end end) end",
    "while true do redis.pcall('GET', 'x') end",
];

/// Waits long for the periodic work before BUSY is declared, then for ever.
fn busy_config(io_threads: usize) -> Config {
    let enable_debug_command = ProtectedAction::Yes;
    Config { io_threads, busy_reply_threshold: 300, hz: 100, enable_debug_command, ..config() }
}

/// A client whose script runs now.
fn run_endless(running: &Running, script: &str) -> Client {
    let mut client = Client::connect(running);
    client.send(&common::request(&["EVAL", script, "0"]));
    until("the script runs", || running.server.busy.since_ms().is_some());
    client
}

fn until_busy(running: &Running) {
    until("the script is found to run for long", || running.server.busy.is_busy());
}

/// A connection that comes now is served, ends the script, and everybody goes on.
fn rescue(running: &Running, mut script: Client, what: &str) {
    let mut rescuer = Client::connect(running);
    assert_eq!(rescuer.run("PING"), BUSY, "{what}");
    assert_eq!(rescuer.run("SCRIPT KILL"), "+OK", "{what}");
    assert!(script.reply().to_string().starts_with("-ERR Script killed by user"), "{what}");
    assert_eq!(rescuer.run("PING"), "+PONG", "{what}");
    assert_eq!(Client::connect(running).run("PING"), "+PONG", "{what}");
}

/// What a client may be in the middle of.
const STATES: &[&[&str]] = &[
    &[],
    &["WATCH k l"],
    &["MULTI"],
    &["WATCH k", "MULTI", "SET k 1"],
    &["SUBSCRIBE c"],
    &["CLIENT TRACKING ON"],
    &["MONITOR"],
    &["CLIENT REPLY OFF"],
    &["BLPOP q 0"],
    &["BLPOP q r 0.5"],
];

fn in_state(running: &Running, state: &[&str]) -> Client {
    let mut client = Client::connect(running);
    for command in state {
        client.start(command);
        if !command.starts_with("BLPOP") && !command.ends_with("OFF") {
            client.reply();
        }
    }
    client
}

/// A command as a client may send it while a script runs.
fn example(name: &str, arity: i32) -> String {
    match name {
        "auth" => "AUTH default x".to_owned(),
        "replconf" => "REPLCONF listening-port 1".to_owned(),
        // Those that end the script, or the server, are tried by themselves.
        "script|kill" | "function|kill" => "FUNCTION KILL".to_owned(),
        "shutdown" => "SHUTDOWN ABORT".to_owned(),
        name => {
            let arguments = usize::try_from(arity.unsigned_abs()).unwrap_or(1) - 1 - name.matches('|').count();
            name.replace('|', " ") + &" k".repeat(arguments)
        }
    }
}

/// Of the command table, so that a new one is among them; and some that are refused.
fn commands() -> Vec<String> {
    let registry = registry();
    let allowed = registry.all().iter().filter(|command| command.flags & ALLOW_BUSY != 0);
    let mut all: Vec<String> = allowed.map(|command| example(command.name, command.arity)).collect();
    assert!(all.len() > 12, "{all:?}");
    all.extend(
        ["EXEC", "PING", "GET k", "SET k 2", "BLPOP q 1", "EVAL return 0", "SUBSCRIBE d", "NOSUCH"].map(str::to_owned),
    );
    all
}

#[test]
fn every_command_of_a_client_in_any_state_leaves_the_way_to_kill_it_open() {
    for io_threads in [1, 4] {
        for is_declared in [false, true] {
            let running = start_with(busy_config(io_threads));
            let mut clients: Vec<(String, Client)> = STATES
                .iter()
                .flat_map(|state| commands().into_iter().map(move |command| (state, command)))
                .map(|(state, command)| (command, in_state(&running, state)))
                .collect();
            let script = run_endless(&running, ENDLESS[0]);
            if is_declared {
                until_busy(&running);
            }
            for (command, client) in &mut clients {
                client.start(command);
            }
            until_busy(&running);
            // Half of them do not wait for the answer.
            clients.truncate(clients.len() / 2);
            rescue(&running, script, &format!("{io_threads} threads, declared before: {is_declared}"));
            drop(clients);
            until("nobody is connected any more", || running.server.clients.is_empty());
            until("no watcher is left", || {
                let locked = running.server.shards.lock(running.server.shards.all(), MayWait::of_thread());
                locked.iter().all(|shard| shard.watched == 0 && shard.cross_shard_waiters == 0)
            });
            running.shutdown();
        }
    }
}

#[test]
fn replies_while_busy_are_those_of_redis() {
    const REPLIES: &[(&str, &str)] = &[
        ("AUTH default x", "+OK"),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("RESET", "+RESET"),
        ("MULTI", "+OK"),
        ("WATCH k", "+OK"),
        ("WATCH", "-ERR wrong number of arguments for 'watch' command"),
        ("UNWATCH", "+OK"),
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("REPLCONF listening-port 1", "+OK"),
        ("SHUTDOWN", BUSY),
        ("SHUTDOWN SAVE", BUSY),
        ("SHUTDOWN ABORT", "-ERR No shutdown in progress."),
        ("SHUTDOWN NOSAVE SAVE", "-ERR syntax error"),
        ("FUNCTION STATS", BUSY),
        ("FUNCTION KILL", BUSY),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("GET k", BUSY),
        ("SUBSCRIBE c", BUSY),
        ("UNSUBSCRIBE", BUSY),
        ("SCRIPT FLUSH", BUSY),
        ("BLPOP q 0", BUSY),
        ("INFO", BUSY),
    ];
    for io_threads in [1, 4] {
        let running = start_with(busy_config(io_threads));
        let mut clients: Vec<Client> = REPLIES.iter().map(|_| Client::connect(&running)).collect();
        let mut multi = in_state(&running, &["MULTI", "SET k 1"]);
        let script = run_endless(&running, ENDLESS[0]);
        until_busy(&running);
        for (client, (command, reply)) in clients.iter_mut().zip(REPLIES) {
            assert_eq!(client.run(command), *reply, "{command}");
        }
        let aborted = format!("-EXECABORT Transaction discarded because of: {}", &BUSY[1..]);
        assert_eq!(multi.run("WATCH k"), "-ERR WATCH inside MULTI is not allowed");
        assert_eq!(multi.run("EXEC"), aborted);
        let mut leaving = Client::connect(&running);
        assert_eq!(leaving.run("QUIT"), "+OK");
        assert!(leaving.is_closed(), "not only when the script has ended");
        rescue(&running, script, "replies");
    }
}

#[test]
fn a_watch_begun_while_busy_holds_afterwards() {
    for io_threads in [1, 4] {
        let running = start_with(busy_config(io_threads));
        let [mut untouched, mut touched, mut given_up] = [0; 3].map(|_| Client::connect(&running));
        let mut stale = in_state(&running, &["WATCH k"]);
        let script = run_endless(&running, ENDLESS[0]);
        until_busy(&running);
        for client in [&mut untouched, &mut touched, &mut given_up] {
            assert_eq!(client.run("WATCH k k other"), "+OK");
        }
        assert_eq!(given_up.run("UNWATCH"), "+OK");
        assert_eq!(stale.run("UNWATCH"), "+OK");
        assert_eq!(stale.run("WATCH other"), "+OK");
        rescue(&running, script, "watch");
        let exec = |client: &mut Client| {
            client.run("MULTI");
            client.run("INCR done");
            client.run("EXEC")
        };
        assert_eq!(exec(&mut untouched), "[:1]");
        assert_eq!(touched.run("SET k 1"), "+OK");
        assert_eq!(exec(&mut touched), "nil");
        assert_eq!(exec(&mut given_up), "[:2]");
        assert_eq!(exec(&mut stale), "[:3]", "a WATCH that has ended says nothing to the next one");
    }
}

/// What is due is due still when the script has ended.
#[test]
fn periodic_work_waits_and_is_done_afterwards() {
    for (number, script) in ENDLESS.iter().enumerate() {
        for io_threads in [1, 4] {
            let folder = Folder::new(&format!("busy-{number}-{io_threads}"));
            let running = start_with(Config {
                dir: folder.0.clone(),
                save: vec![SavePoint { seconds: 0, changes: 1 }],
                appendonly: false,
                auto_aof_rewrite_min_size: 1,
                auto_aof_rewrite_percentage: 1,
                maxmemory_policy: MaxmemoryPolicy::AllkeysLru,
                maxmemory_clients: 64 << 20,
                tracking_table_max_keys: 10,
                ..busy_config(io_threads)
            });
            let mut client = Client::connect(&running);
            assert_eq!(client.run("CONFIG SET appendonly yes"), "+OK");
            for n in 0..500 {
                client.run(&format!("SET key:{n} {}", "x".repeat(1000)));
                client.run(&format!("SET soon:{n} x PX 200"));
            }
            let saves = running.server.persistence.saves().count;
            client.run("BGSAVE SCHEDULE");
            let runaway = run_endless(&running, script);
            let config = running.server.config.load();
            let limited = Config { maxmemory: 1, timeout: 3600, ..(*config).clone() };
            running.server.config.update(|_| Ok::<_, ()>(limited)).expect("nothing fails");
            until_busy(&running);
            rescue(&running, runaway, script);
            until("keys have expired", || client.run("EXISTS soon:1 soon:499") == ":0");
            until("a save has begun", || running.server.persistence.saves().count > saves);
            until("keys are evicted", || {
                client
                    .call(&["INFO", "stats"])
                    .text()
                    .lines()
                    .any(|line| line.strip_prefix("evicted_keys:").is_some_and(|count| count != "0"))
            });
            running.shutdown();
        }
    }
}

#[test]
fn connections_come_and_go_while_busy() {
    for io_threads in [1, 4] {
        let running = start_with(Config { maxclients: 40, ..busy_config(io_threads) });
        let mut subscriber = in_state(&running, &["SUBSCRIBE c"]);
        let script = "redis.call('PUBLISH', 'c', 'm') while true do end";
        let script = run_endless(&running, script);
        until_busy(&running);
        // Messages reach who is subscribed, though its worker may be the one that is stuck.
        assert_eq!(subscriber.reply().to_string(), "[message c m]");
        for n in 0..200 {
            let mut client = Client::connect(&running);
            if n % 3 == 0 {
                assert_eq!(client.run("PING"), BUSY, "connection {n}");
            }
            drop(client);
            until("there is room", || running.server.clients.len() < 30);
        }
        rescue(&running, script, "connections");
        until("those that have gone are forgotten", || running.server.clients.len() == 1);
    }
}

#[test]
fn shutdown_nosave_ends_a_server_in_a_script() {
    for io_threads in [1, 4] {
        for script in ENDLESS {
            let running =
                start_with(Config { save: vec![SavePoint { seconds: 3600, changes: 1 }], ..busy_config(io_threads) });
            let _script = run_endless(&running, script);
            until_busy(&running);
            Client::connect(&running).start("SHUTDOWN NOSAVE");
            assert!(running.wait());
        }
    }
}

/// Replies wait for records to be written, which the worker would do that runs the script.
#[test]
fn a_record_that_is_not_written_yet_holds_no_reply_back() {
    for io_threads in [1, 4] {
        let folder = Folder::new(&format!("busy-log-{io_threads}"));
        let running = start_with(Config { dir: folder.0.clone(), ..busy_config(io_threads) });
        let mut client = Client::connect(&running);
        assert_eq!(client.run("CONFIG SET appendonly yes"), "+OK");
        until("the log is on", || client.call(&["INFO", "persistence"]).text().contains("aof_rewrite_in_progress:0"));
        let set = common::request(&["SET", "k", "v"]);
        client.send(&[set, common::request(&["EVAL", ENDLESS[0], "0"])].concat());
        until_busy(&running);
        let mut other = Client::connect(&running);
        assert_eq!(other.run("PING"), BUSY);
        assert_eq!(other.run("SCRIPT KILL"), "+OK");
        assert_eq!(client.reply().to_string(), "+OK");
        assert!(client.reply().to_string().starts_with("-ERR Script killed by user"));
    }
}

/// Functions and scripts in transactions are found and killed as well.
#[test]
fn endless_functions_and_transactions_are_killed() {
    for io_threads in [1, 4] {
        let running = start_with(busy_config(io_threads));
        let mut client = Client::connect(&running);
        let library = "#!lua name=l\nredis.register_function{function_name='f', callback=function() while true do end end, flags={'no-writes'}}";
        client.call(&["FUNCTION", "LOAD", library]);
        let mut caller = Client::connect(&running);
        caller.start("FCALL f 0");
        until_busy(&running);
        let mut other = Client::connect(&running);
        assert!(other.run("SCRIPT KILL").starts_with("-BUSY"));
        assert!(other.run("FUNCTION STATS").contains("FCALL"));
        assert_eq!(other.run("FUNCTION KILL"), "+OK");
        assert!(caller.reply().to_string().starts_with("-ERR Script killed by user"));
        let mut caller = in_state(&running, &["WATCH k", "MULTI", "SET k 1"]);
        caller.call(&["EVAL", ENDLESS[2], "0"]);
        caller.start("EXEC");
        until_busy(&running);
        assert_eq!(other.run("SCRIPT KILL"), "+OK");
        assert!(caller.reply().to_string().contains("-ERR Script killed by user"));
        assert_eq!(other.run("PING"), "+PONG");
    }
}

/// Every way in, and whatever begins while a script runs, is answered for; what needs shards is done afterwards.
#[test]
fn other_ways_in_and_long_work_beside_a_script() {
    for io_threads in [1, 4] {
        let folder = Folder::new(&format!("busy-ways-{io_threads}"));
        let socket = folder.0.join("socket");
        let unixsocket = Some(socket.display().to_string());
        let mut config =
            Config { dir: folder.0.clone(), unixsocket, repl_diskless_sync_delay: 0, ..busy_config(io_threads) };
        config.maxmemory_clients = 8 << 20;
        let running = start_with(config);
        let mut admin = Client::connect(&running);
        assert_eq!(admin.run("CONFIG SET appendonly yes"), "+OK");
        until("the log is on", || admin.call(&["INFO", "persistence"]).text().contains("aof_rewrite_in_progress:0"));
        admin.run("DEBUG POPULATE 1000 key 100");
        let [mut rewriter, mut replica, mut hungry] = [0; 3].map(|_| Client::connect(&running));
        let script = run_endless(&running, ENDLESS[0]);
        // Its snapshot needs all shards.
        replica.send(b"SYNC\r\n");
        rewriter.start("BGREWRITEAOF");
        until_busy(&running);
        let mut local = Client::connect_unix(&socket);
        assert_eq!(local.run("PING"), BUSY);
        // A request by HTTP is closed before its body runs, whoever reads it.
        for line in ["POST / HTTP/1.1", "host: x", "*2\r\n$4\r\nPOST\r\n$1\r\n/"] {
            let mut browser = Client::connect(&running);
            browser.send(format!("{line}\r\nSCRIPT KILL\r\n").as_bytes());
            assert_eq!(browser.line(), "", "{line}");
        }
        assert!(running.server.busy.is_busy(), "the body of a request by HTTP has not run");
        // More than all clients may take: somebody goes, others are served.
        let begun = format!("*2\r\n$3\r\nGET\r\n${}\r\n", 20 << 20);
        let _ = hungry.try_send(&[begun.as_bytes(), &vec![b'x'; 12 << 20]].concat());
        assert!(hungry.is_closed());
        assert_eq!(local.run("PING"), BUSY);
        rescue(&running, script, &format!("{io_threads} workers"));
        // It may have waited for its shards, or have been told BUSY by its worker.
        let told = rewriter.reply().to_string();
        assert!(told.contains("append only file rewriting") || told == BUSY, "{told}");
        let mut head = (0..1000).map(|_| replica.line()).find(|line| line.starts_with(['$', '-'])).expect("an answer");
        if head == BUSY {
            replica.send(b"SYNC\r\n");
            head = (0..1000).map(|_| replica.line()).find(|line| line.starts_with('$')).expect("the data set comes");
        }
        assert!(head.len() > 1, "{head}");
        assert_eq!(local.run("DBSIZE"), ":1000");
    }
}

/// BUSY is told when `busy-reply-threshold` is over, not at a tick of the clock after it.
#[test]
fn the_threshold_is_kept() {
    let running = start_with(Config { hz: 10, busy_reply_threshold: 250, ..busy_config(1) });
    let mut late_ms = Vec::new();
    for _ in 0..8 {
        let mut other = Client::connect(&running);
        let script = run_endless(&running, ENDLESS[0]);
        let since_ms = running.server.busy.since_ms().expect("it runs");
        assert_eq!(other.run("PING"), BUSY);
        late_ms.push(running.server.clock.now_ms() - since_ms - 250);
        rescue(&running, script, "the threshold");
    }
    assert!(late_ms.iter().all(|late_ms| *late_ms >= 0), "{late_ms:?}");
    // Ticks are 100 ms apart, so half of that on average; the machine may be busy.
    late_ms.sort_unstable();
    assert!(late_ms[2] < 40, "{late_ms:?}");
}

/// So long the random test goes on, in seconds; `BUSY_SECONDS` says otherwise.
const SECONDS: u64 = 4;

/// Clients in any state do anything beside scripts that never end, while everything periodic is due.
#[test]
fn random_clients_beside_endless_scripts() {
    let seconds = std::env::var("BUSY_SECONDS").ok().and_then(|value| value.parse().ok()).unwrap_or(SECONDS);
    let seed = std::env::var("BUSY_SEED").ok().and_then(|value| value.parse().ok()).unwrap_or(20_240_102);
    let mut random = StdRng::seed_from_u64(seed);
    let commands = commands();
    let end = Instant::now() + Duration::from_secs(seconds);
    for round in 0.. {
        if Instant::now() > end {
            break;
        }
        let what = format!("seed {seed}, round {round}");
        let folder = Folder::new(&format!("busy-random-{round}"));
        let save = vec![SavePoint { seconds: 0, changes: 1 }];
        let mut config = Config { dir: folder.0.clone(), save, ..busy_config([1, 4][random.random_range(0..2)]) };
        config.busy_reply_threshold = random.random_range(20..200);
        config.auto_aof_rewrite_min_size = 1;
        config.maxmemory_policy = MaxmemoryPolicy::AllkeysRandom;
        config.timeout = random.random_range(0..2);
        let running = start_with(config);
        let mut filler = Client::connect(&running);
        filler.run(["CONFIG SET appendonly yes", "CONFIG SET maxmemory 6mb", "PING"][random.random_range(0..3)]);
        filler.run("DEBUG POPULATE 1000 key 500");
        for n in 0..100 {
            filler.run(&format!("PEXPIRE key:{n} {}", random.random_range(1..200)));
        }
        let states: Vec<_> = (0..30).map(|_| STATES[random.random_range(0..STATES.len())]).collect();
        let mut clients: Vec<Option<Client>> = states.iter().map(|state| Some(in_state(&running, state))).collect();
        let script = run_endless(&running, ENDLESS[random.random_range(0..ENDLESS.len())]);
        for _ in 0..60 {
            let place = random.random_range(0..clients.len());
            match &mut clients[place] {
                Some(_) if random.random_range(0..4) == 0 => clients[place] = None,
                Some(client) => {
                    let command = &commands[random.random_range(0..commands.len())];
                    // It may have been told to go.
                    let _ = client.try_send(&common::request(&command.split(' ').collect::<Vec<_>>()));
                }
                None => clients[place] = Some(Client::connect(&running)),
            }
            if random.random_range(0..8) == 0 {
                std::thread::sleep(Duration::from_millis(random.random_range(0..20)));
            }
        }
        until_busy(&running);
        rescue(&running, script, &what);
        drop((clients, filler));
        until("nobody is connected any more", || running.server.clients.is_empty());
        running.shutdown();
    }
}
