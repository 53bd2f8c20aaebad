//! What is promised to be on disk: WAITAOF, CONFIG SET, and logs that do not end well.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Client, Folder, config, start_with, until, until_blocked};
use redstart::config::{AppendFsync, Config, ProtectedAction};
use redstart::os::log::Log;
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use redstart_persistence::aof::LogBuffer;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A server that logs into `folder`.
fn logging(folder: &Folder, appendfsync: AppendFsync) -> Running {
    let config = Config { dir: folder.0.clone(), appendonly: true, appendfsync, ..config() };
    Server::start(Options { config, load: true, ..Options::default() }).unwrap()
}

#[test]
fn waitaof_tells_what_is_on_disk() {
    for (fsync, is_synced) in [(AppendFsync::Always, true), (AppendFsync::EverySec, true), (AppendFsync::No, false)] {
        let folder = Folder::new("waitaof");
        let running = logging(&folder, fsync);
        let mut client = Client::connect(&running);
        assert_eq!(client.run("WAITAOF 1 0 0"), "[:1 :0]", "{fsync:?}: nothing was written");
        assert_eq!(client.run("SET k v"), "+OK");
        let local = if is_synced { ":1" } else { ":0" };
        if is_synced {
            assert_eq!(client.run("WAITAOF 1 0 0"), "[:1 :0]", "{fsync:?}");
        }
        assert_eq!(client.run("WAITAOF 1 0 100"), format!("[{local} :0]"), "{fsync:?}");
        // Replicas never come, so this waits to the end.
        assert_eq!(client.run("WAITAOF 1 1 100"), format!("[{local} :0]"), "{fsync:?}");
        assert_eq!(client.run("WAITAOF 0 0 0"), format!("[{local} :0]"), "{fsync:?}");
    }
}

/// Writes by every way a client has: each has to be seen, on disk or not.
fn check_means(fsync: AppendFsync, waits_ms: &str, then: &str) {
    let folder = Folder::new("waitaof-means");
    let running = logging(&folder, fsync);
    let wait = format!("WAITAOF 1 0 {waits_ms}");
    let mut client = Client::connect(&running);
    let mut other = Client::connect(&running);
    for write in ["RPUSH l a", "EVAL return{redis.call('INCR','n')} 0", "LPOP l"] {
        client.run(write);
        assert_eq!(client.run(&wait), then, "{fsync:?} {write}");
    }
    client.run("MULTI");
    client.run("INCR n");
    client.run("WAITAOF 1 0 0");
    assert_eq!(client.run("EXEC"), format!("[:2 {then}]"), "it tells at once of what came before");
    assert_eq!(client.run(&wait), then);
    // Somebody else finishes what this client has begun.
    let mut blocked = Client::connect(&running);
    blocked.start("BLPOP l 0");
    until_blocked(&running, 1);
    other.run("RPUSH l x");
    assert_eq!(blocked.reply().to_string(), "[l x]");
    assert_eq!(blocked.run(&wait), then);
}

#[test]
fn waitaof_waits_for_what_the_client_wrote_by_any_means() {
    check_means(AppendFsync::EverySec, "0", "[:1 :0]");
    check_means(AppendFsync::No, "50", "[:0 :0]");
}

#[test]
fn waitaof_ends_with_the_log() {
    let folder = Folder::new("waitaof-off");
    let running = logging(&folder, AppendFsync::No);
    let (mut client, mut other) = (Client::connect(&running), Client::connect(&running));
    client.run("SET k v");
    client.start("WAITAOF 1 0 0");
    until_blocked(&running, 1);
    assert_eq!(other.run("CONFIG SET appendonly no"), "+OK");
    let off = "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(client.reply().to_string(), off);
    assert_eq!(client.run("WAITAOF 1 0 0"), off);
    // Switched on again, what was written before is in the base.
    assert_eq!(other.run("CONFIG SET appendonly yes"), "+OK");
    assert_eq!(client.run("WAITAOF 1 0 0"), "[:1 :0]");
}

#[test]
fn waitaof_without_a_log() {
    let running = start_with(config());
    let mut client = Client::connect(&running);
    client.run("SET k v");
    assert_eq!(client.run("WAITAOF 0 0 0"), "[:0 :0]");
    assert_eq!(client.run("WAITAOF 0 1 1"), "[:0 :0]");
}

/// Under `always` a reply means that the write is on disk, from the reply to CONFIG SET on.
#[test]
fn always_is_in_force_at_once() {
    let folder = Folder::new("always-at-once");
    let running = logging(&folder, AppendFsync::No);
    let mut client = Client::connect(&running);
    for n in 0..20 {
        client.run("SET k v");
        assert_eq!(client.run("CONFIG SET appendfsync always"), "+OK");
        client.run("SET k w");
        assert_eq!(client.run("WAITAOF 0 0 0"), "[:1 :0]", "round {n}");
        assert_eq!(client.run("CONFIG SET appendfsync no"), "+OK");
    }
}

/// While a data set is loaded, clients are told so, and INFO and the log say how far it is.
#[test]
fn a_data_set_that_takes_long_to_load() {
    let folder = Folder::new("loading");
    let logfile = folder.0.join("log");
    let config = Config { dir: folder.0.clone(), logfile: logfile.to_str().unwrap().to_owned(), ..config() };
    let running = start_with(config.clone());
    let mut client = Client::connect(&running);
    for n in 0..700 {
        client.run(&format!("SET k:{n} {n}"));
    }
    assert_eq!(client.run("SAVE"), "+OK");
    drop(running);
    let config = Config { key_load_delay: 10_000, ..config };
    let options = Options { log: Log::open(&config), config, load: true, ..Options::default() };
    let running = Server::start(options).unwrap();
    let mut client = Client::connect(&running);
    let loading = "-LOADING Redis is loading the dataset in memory";
    assert_eq!(client.run("PING"), loading);
    assert_eq!(client.run("GET k:1"), loading);
    assert_eq!(client.run("CONFIG GET databases"), "[databases 16]");
    let info = client.call(&["INFO", "persistence"]).text();
    for fact in ["loading:1\r\n", "loading_total_bytes:", "loading_loaded_perc:", "loading_eta_seconds:"] {
        assert!(info.contains(fact), "{fact} in {info}");
    }
    until("it is loaded", || client.run("PING") == "+PONG");
    assert_eq!(client.run("DBSIZE"), ":700");
    let told = std::fs::read_to_string(logfile).unwrap();
    assert!(told.contains("% of 0 MB, about "), "{told}");
}

/// While a script keeps its worker busy, others are answered by the main loop; what waits for the disk waits all the same.
#[test]
fn always_holds_while_a_script_runs() {
    let folder = Folder::new("always-busy");
    let config = Config {
        dir: folder.0.clone(),
        appendonly: true,
        appendfsync: AppendFsync::Always,
        busy_reply_threshold: 50,
        enable_debug_command: ProtectedAction::Yes,
        io_threads: 1,
        ..config()
    };
    let running = Server::start(Options { config, load: true, ..Options::default() }).unwrap();
    let (mut client, mut script, mut helper) =
        (Client::connect(&running), Client::connect(&running), Client::connect(&running));
    // Writing takes two seconds from now on.
    assert_eq!(helper.run("DEBUG AOF-FLUSH-SLEEP 2000000"), "+OK");
    client.start("SET k v");
    until("it is on its way to the log", || running.server.aof.queue.pushed() > 0);
    script.send(&common::request(&["EVAL", "while true do end", "0"]));
    until("the script is found to take long", || running.server.busy.is_busy());
    client.start("PING");
    assert_eq!(client.reply().to_string(), "+OK");
    assert!(running.server.aof.queue.is_synced(), "it is told before it is on disk");
    assert!(client.reply().to_string().starts_with("-BUSY"));
    assert_eq!(helper.run("SCRIPT KILL"), "+OK");
    assert!(script.reply().to_string().contains("Script killed by user"));
}

/// A server that ends in its process leaves nobody behind who still writes its files.
#[test]
fn the_end_waits_for_saving_rewriting_and_loading() {
    let folder = Folder::new("end-waits");
    let config = Config { dir: folder.0.clone(), rdb_key_save_delay: 20_000, ..config() };
    let running = start_with(config.clone());
    let mut client = Client::connect(&running);
    for n in 0..300 {
        client.run(&format!("SET k:{n} {n}"));
    }
    assert_eq!(client.run("CONFIG SET rdb-key-save-delay 0"), "+OK");
    assert_eq!(client.run("SAVE"), "+OK");
    assert_eq!(client.run("CONFIG SET rdb-key-save-delay 20000"), "+OK");
    assert_eq!(client.run("BGSAVE"), "+Background saving started");
    let is_temporary = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("temp-");
    let temporary =
        || std::fs::read_dir(&folder.0).unwrap().filter(|e| is_temporary(&e.as_ref().unwrap().file_name())).count();
    until("it is under way", || temporary() == 1);
    let server = running.server.clone();
    drop(running);
    assert_eq!((temporary(), server.persistence.is_saving()), (0, false));
    // The next one is ended while it loads, and the one after it finds everything.
    let slow = Config { key_load_delay: 20_000, ..config.clone() };
    let running = Server::start(Options { config: slow, load: true, ..Options::default() }).unwrap();
    until("it is loading", || running.server.persistence.loading.loaded_bytes.load(Ordering::Relaxed) > 0);
    let server = running.server.clone();
    drop(running);
    assert!(server.loading.load(Ordering::Acquire) && !server.stop.has_failed());
    let loaded = || server.persistence.loading.loaded_bytes.load(Ordering::Relaxed);
    let before = loaded();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(loaded(), before, "nobody reads on");
    let running = Server::start(Options { config, load: true, ..Options::default() }).unwrap();
    until("it is loaded", || !running.server.loading.load(Ordering::Acquire));
    assert_eq!(Client::connect(&running).run("DBSIZE"), ":300");
}

/// A log of `batches`, each of these commands in database 3.
fn batches(commands: &[&[&str]]) -> Vec<Vec<u8>> {
    let mut buffer = LogBuffer::new(true, false);
    let batch = |words: &&[&str]| {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        buffer.command(Some(3), 0, words.into_iter());
        buffer.take(Vec::new())
    };
    commands.iter().map(batch).collect()
}

/// A server that loads `log`; what it has logged of it.
fn load(folder: &Folder, log: &[u8]) -> (Option<Running>, String) {
    let dir = folder.0.join("appendonlydir");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("appendonly.aof.1.incr.aof"), log).unwrap();
    std::fs::write(dir.join("appendonly.aof.manifest"), "file appendonly.aof.1.incr.aof seq 1 type i\n").unwrap();
    let logfile = folder.0.join("log");
    let config =
        Config { dir: folder.0.clone(), appendonly: true, logfile: logfile.to_str().unwrap().to_owned(), ..config() };
    let options = Options { log: Log::open(&config), config, load: true, ..Options::default() };
    let running = Server::start(options).unwrap();
    let server = running.server.clone();
    until("the log is loaded", || !server.loading.load(Ordering::Acquire) || server.stop.has_failed());
    let told = std::fs::read_to_string(logfile).unwrap();
    ((!server.stop.has_failed()).then_some(running), told)
}

#[test]
fn a_torn_tail_is_cut_and_damage_is_refused() {
    let parts = batches(&[&["SET", "a", "1"], &["SET", "b", "2"], &["SET", "c", "3"]]);
    let whole = parts.concat();
    let folder = Folder::new("torn");
    let (running, told) = load(&folder, &whole[..whole.len() - 5]);
    let kept = whole.len() - parts[2].len();
    assert!(told.contains(&format!("!!! Truncating the AOF appendonly.aof.1.incr.aof at offset {kept} !!!")), "{told}");
    let running = running.unwrap();
    let mut client = Client::connect(&running);
    client.run("SELECT 3");
    assert_eq!(client.run("MGET a b c"), "[1 2 nil]");
    let file = folder.0.join("appendonlydir/appendonly.aof.1.incr.aof");
    assert_eq!(std::fs::metadata(file).unwrap().len(), kept as u64);
    // The third batch says that what is before it was on disk.
    let mut flipped = whole.clone();
    let at = parts[0].len() + parts[1].len() - 3;
    flipped[at] ^= 1;
    let header = flipped.len() - parts[2].len();
    flipped[header + 24] = b's';
    let folder = Folder::new("damaged");
    let (running, told) = load(&folder, &flipped);
    assert!(running.is_none());
    let place = format!("Damaged batch at offset {}", parts[0].len());
    assert!(told.contains(&place), "{told}");
}

/// Redis has cut a torn batch of ours at its last whole command and gone on: nothing of what it wrote may be cut off.
#[test]
fn a_log_that_redis_has_gone_on_with() {
    let mut buffer = LogBuffer::new(true, false);
    for value in ["1", "2", "3"] {
        buffer.command(Some(3), 0, [b"RPUSH".as_slice(), b"l", value.as_bytes()].into_iter());
    }
    let batch = buffer.take(Vec::new());
    let third = batch.windows(5).rposition(|bytes| bytes == b"*3\r\n$").unwrap();
    let mut log = batches(&[&["SET", "a", "1"]]).concat();
    log.extend_from_slice(&batch[..third]);
    for _ in 0..3 {
        log.extend_from_slice(b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n$1\r\nr\r\n");
    }
    let folder = Folder::new("gone-on");
    let (running, told) = load(&folder, &log);
    let running = running.unwrap_or_else(|| panic!("{told}"));
    let mut client = Client::connect(&running);
    client.run("SELECT 3");
    assert_eq!(client.run("LRANGE l 0 -1"), "[1 2 r r r]", "{told}");
    assert_eq!(client.run("GET a"), "1");
    assert!(told.contains("reading on without checksums"), "{told}");
    // It goes on in a file of its own.
    client.run("RPUSH l s");
    drop(running);
    let manifest = std::fs::read_to_string(folder.0.join("appendonlydir/appendonly.aof.manifest")).unwrap();
    assert!(manifest.contains("appendonly.aof.2.incr.aof"), "{manifest}");
    let options = Config { dir: folder.0.clone(), appendonly: true, ..config() };
    let running = Server::start(Options { config: options, load: true, ..Options::default() }).unwrap();
    until("the log is loaded", || !running.server.loading.load(Ordering::Acquire));
    let mut client = Client::connect(&running);
    client.run("SELECT 3");
    assert_eq!(client.run("LRANGE l 0 -1"), "[1 2 r r r s]");
}

fn try_logging(folder: &Folder) -> Result<Running, String> {
    let config =
        Config { dir: folder.0.clone(), appendonly: true, enable_protected_configs: ProtectedAction::Yes, ..config() };
    Server::start(Options { config, load: true, ..Options::default() })
}

/// Two servers that logged into one directory would lose each other's data. Both ways in are closed, also within one process.
#[test]
fn a_log_belongs_to_one_server() {
    let (folder, elsewhere) = (Folder::new("one-server"), Folder::new("one-server-elsewhere"));
    let first = try_logging(&folder).unwrap();
    let refused = try_logging(&folder).unwrap_err();
    assert!(refused.contains("in use by another server"), "{refused}");
    // Without a log, a directory may be shared, as in Redis.
    let second = start_with(Config { dir: folder.0.clone(), ..config() });
    let mut client = Client::connect(&second);
    let off = "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - Unable to turn on AOF. Check server logs.";
    assert_eq!(client.run("CONFIG SET appendonly yes"), off);
    assert_eq!(client.run("CONFIG GET appendonly"), "[appendonly no]");
    assert!(client.run("BGREWRITEAOF").starts_with("-ERR Can't execute an AOF background rewriting"));
    // Nor does one that logs elsewhere come here.
    let third = try_logging(&elsewhere).unwrap();
    let mut mover = Client::connect(&third);
    let moves = format!("CONFIG SET dir {}", folder.0.display());
    assert!(mover.run(&moves).contains("in use by another server"));
    assert_eq!(mover.run("CONFIG GET dir"), format!("[dir {}]", elsewhere.0.display()));
    drop(first);
    assert_eq!(client.run("CONFIG SET appendonly yes"), "+OK");
    assert!(mover.run(&moves).contains("in use by another server"));
    assert_eq!(client.run("CONFIG SET appendonly no"), "+OK");
    until("the rewrite is called off", || !second.server.aof.is_rewriting());
    assert_eq!(mover.run(&moves), "+OK");
    drop((second, third));
    drop(try_logging(&folder).unwrap());
}

/// An OK means that the log is there. What stands in its way is told, and the log stays off; a transaction and a save under
/// way, which put the beginning off, make no difference.
#[test]
fn a_log_that_cannot_be_made_is_not_switched_on() {
    let folder = Folder::new("cannot-be");
    let in_the_way = folder.0.join("appendonlydir");
    std::fs::write(&in_the_way, "x").unwrap();
    let running = start_with(Config { dir: folder.0.clone(), rdb_key_save_delay: 20_000, ..config() });
    let mut client = Client::connect(&running);
    let off = "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - Unable to turn on AOF. Check server logs.";
    let check_refused = |client: &mut Client, reply: &str| {
        assert_eq!(reply, off);
        assert_eq!(client.run("CONFIG GET appendonly"), "[appendonly no]");
        assert!(client.run("INFO persistence").contains("aof_enabled:0"));
    };
    let reply = client.run("CONFIG SET appendonly yes");
    check_refused(&mut client, &reply);
    // All of it, or nothing.
    let reply = client.run("CONFIG SET timeout 77 appendonly yes");
    check_refused(&mut client, &reply);
    assert_eq!(client.run("CONFIG GET timeout"), "[timeout 0]");
    client.run("MULTI");
    client.run("CONFIG SET appendonly yes");
    let reply = client.run("EXEC");
    check_refused(&mut client, reply.trim_matches(['[', ']']));
    for n in 0..100 {
        client.run(&format!("SET k:{n} {n}"));
    }
    assert_eq!(client.run("BGSAVE"), "+Background saving started");
    let reply = client.run("CONFIG SET appendonly yes");
    check_refused(&mut client, &reply);
    std::fs::remove_file(&in_the_way).unwrap();
    assert_eq!(client.run("CONFIG SET rdb-key-save-delay 0 appendonly yes"), "+OK");
    assert_eq!(client.run("CONFIG GET appendonly"), "[appendonly yes]");
}

/// What processes before this one have not finished is removed at the start, and what is not theirs stays.
#[test]
fn leftovers_are_removed_at_the_start() {
    let folder = Folder::new("leftovers");
    drop(try_logging(&folder).unwrap());
    let log = folder.0.join("appendonlydir");
    let manifest = log.join("appendonly.aof.manifest");
    let before = std::fs::read_to_string(&manifest).unwrap();
    // A process of this number can hardly live: the kernel gives numbers below 4,194,304.
    let gone = ["temp-4194999.rdb", "temp-4194999-3.rdb", "temp-sync-4194999-0.rdb"];
    let stays =
        ["temp-x.rdb", "temp-.rdb", "temp-1-2-3.rdb", "dump.rdb.bak", &format!("temp-{}-7.rdb", std::process::id())];
    let gone_from_log = [
        "appendonly.aof.9.incr.aof",
        "temp-rewriteaof-bg-7.aof",
        "temp-appendonly.aof.incr",
        "temp-appendonly.aof.manifest",
    ];
    gone.iter().chain(&stays).for_each(|name| std::fs::write(folder.0.join(name), "x").unwrap());
    gone_from_log.iter().for_each(|name| std::fs::write(log.join(name), "x").unwrap());
    std::fs::write(log.join("appendonly.aof.5.incr.aof"), "x").unwrap();
    std::fs::write(&manifest, format!("file appendonly.aof.9.incr.aof seq 9 type h\n{before}")).unwrap();
    let running = try_logging(&folder).unwrap();
    until("it is loaded", || !running.server.loading.load(Ordering::Acquire));
    gone.iter().for_each(|name| assert!(!folder.0.join(name).exists(), "{name}"));
    stays.iter().for_each(|name| assert!(folder.0.join(name).exists(), "{name}"));
    gone_from_log.iter().for_each(|name| assert!(!log.join(name).exists(), "{name}"));
    assert!(log.join("appendonly.aof.5.incr.aof").exists(), "nobody has said that it is history");
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), before);
}

/// Without replicas the offset counts logged commands, so that positions in the log can be told apart. Source: Redis 7.2.
#[test]
fn the_offset_follows_the_log() {
    let folder = Folder::new("offset");
    for (appendonly, commands) in [(false, 0), (true, 12)] {
        let config = Config { dir: folder.0.clone(), appendonly, ..config() };
        let running = Server::start(Options { config, load: true, ..Options::default() }).unwrap();
        let mut client = Client::connect(&running);
        for command in ["SET a 1", "GET a", "DEL nope", "DEL a", "SELECT 3", "MSET x 1 y 2", "PUBLISH c m"] {
            client.run(command);
        }
        for command in ["MULTI", "SET a 1", "SET b 1", "EXEC", "MULTI", "INCR n", "EXEC"] {
            client.run(command);
        }
        client.run("EVAL redis.call('INCR','n');redis.call('INCR','n') 0");
        let offset = client.run("INFO replication");
        let offset = offset.lines().find_map(|line| line.trim().strip_prefix("master_repl_offset:"));
        assert_eq!(offset, Some(commands.to_string().as_str()), "appendonly {appendonly}");
    }
}
