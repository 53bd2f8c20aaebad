//! A server whose disk fails at every single operation in turn: what it has promised is there after a kill, and what is
//! there is a beginning of what was written.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, PATIENCE, config, until};
use redstart::config::{AppendFsync, Config, ProtectedAction, SavePoint, ShutdownFlags};
use redstart::keyspace::lock::MayWait;
use redstart::run::start::{Options, Running};
use redstart::server::Server;
use redstart_persistence::file::{Effect, Fault, Faults, OPERATIONS, Operation, Weather};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A folder of its own: these tests run side by side in one process.
fn new_folder(name: &str) -> Folder {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    Folder::new(&format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}

fn start(folder: &Path, settings: &Config, faults: Option<Faults>) -> Option<Running> {
    let config = Config { dir: folder.to_owned(), ..settings.clone() };
    let running = Server::start(Options { config, load: true, faults, ..Options::default() }).ok()?;
    let server = running.server.clone();
    until("the data set is loaded", || !server.loading.load(Ordering::Acquire) || server.stop.has_failed());
    (!server.stop.has_failed()).then_some(running)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target);
        } else {
            // A temporary file may go while it is being looked at.
            let _ = fs::copy(path, target);
        }
    }
}

/// A client that takes the end for an answer: a server that has lost its disk under `always` gives none, and ends.
struct Client(Option<TcpStream>);

impl Client {
    fn connect(running: &Running) -> Client {
        let stream = TcpStream::connect(running.addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(Some(stream))
    }

    /// The first line of the reply; `None` when there is none, now and from now on.
    fn run(&mut self, command: &str) -> Option<String> {
        let stream = self.0.as_mut()?;
        let mut line = Vec::new();
        let told = stream.write_all(format!("{command}\r\n").as_bytes()).and_then(|()| {
            while !line.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                line.push(byte[0]);
            }
            Ok(())
        });
        if let Err(error) = told {
            let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!is_late, "neither a reply to {command} nor the end of the connection");
            self.0 = None;
            return None;
        }
        Some(String::from_utf8(line).unwrap().trim_end().to_owned())
    }
}

/// What was acknowledged and what was sent at most.
#[derive(Debug, Default, Clone, Copy)]
struct Written {
    acknowledged: i64,
    sent: i64,
}

impl Written {
    /// A counter and a list that grow together, in one transaction.
    fn write(&mut self, client: &mut Client, times: usize) {
        for _ in 0..times {
            self.sent = self.sent.max(self.acknowledged + 1);
            let script = "EVAL \"local n=redis.call('INCR','n') redis.call('RPUSH','l',n) return n\" 0";
            match client.run(script) {
                Some(reply) if reply.starts_with(':') => self.acknowledged = reply[1..].parse().unwrap(),
                Some(reply) => assert!(reply.starts_with("-MISCONF"), "{reply}"),
                None => return,
            }
        }
    }
}

/// The counter after loading what is on disk now, as after a kill; the list must be as long.
fn after_kill(folder: &Path, settings: &Config, what: &str) -> i64 {
    let scratch = new_folder("faults-copy");
    copy(folder, &scratch.0);
    let running = start(&scratch.0, settings, None).unwrap_or_else(|| panic!("{what}: it does not load"));
    let mut client = Client::connect(&running);
    client.run("INCRBY n 0").map_or(0, |n| {
        let n = n[1..].parse().unwrap();
        assert_eq!(client.run("LLEN l"), Some(format!(":{n}")), "{what}");
        n
    })
}

fn wait_for_background(client: &mut Client, running: &Running) {
    let server = &running.server;
    until("the background work is over", || {
        !server.persistence.is_saving() && !server.aof.is_rewriting() || server.stop.has_failed()
    });
    client.run("PING");
}

/// Writes, rewrites the log or saves, and writes on.
fn scenario(running: &Running, background: &str) -> Written {
    let mut client = Client::connect(running);
    let mut written = Written::default();
    written.write(&mut client, 2);
    for _ in 0..2 {
        client.run(background);
        written.write(&mut client, 1);
        wait_for_background(&mut client, running);
        written.write(&mut client, 1);
    }
    written
}

/// How many changing operations the scenario takes without faults, and a few more.
fn operations(settings: &Config, background: &str) -> u64 {
    let folder = new_folder("faults-count");
    let faults = Faults::default();
    let running = start(&folder.0, settings, Some(faults.clone())).unwrap();
    let written = scenario(&running, background);
    assert_eq!((written.acknowledged, written.sent), (6, 6), "without faults all is well");
    drop(running);
    faults.operations() + 2
}

/// Runs the scenario with each fault at each operation, and lets `check` look at what it left.
fn at_every_operation(settings: &Config, background: &str, check: impl Fn(&Path, &Running, Written, Fault, &str)) {
    let count = operations(settings, background);
    assert!((15..200).contains(&count), "{count} operations");
    for operation in 0..count {
        for fault in [Fault::NoSpace, Fault::Io, Fault::Short(7), Fault::PowerCut] {
            let what = format!("{background}, {fault:?} at operation {operation} of {count}");
            let folder = new_folder("faults");
            let faults = Faults::default();
            faults.fail(operation, fault);
            // One that cannot even open its files does not start, which is right.
            let Some(running) = start(&folder.0, settings, Some(faults)) else { continue };
            let written = scenario(&running, background);
            check(&folder.0, &running, written, fault, &what);
        }
    }
}

fn logging(appendfsync: AppendFsync, aof_use_rdb_preamble: bool) -> Config {
    Config { appendonly: true, appendfsync, aof_use_rdb_preamble, ..config() }
}

/// Under `always` everything acknowledged is there, whatever fails, also while the log is rewritten.
#[test]
fn always_keeps_what_was_acknowledged() {
    let settings = logging(AppendFsync::Always, true);
    at_every_operation(&settings, "BGREWRITEAOF", |folder, _, written, _, what| {
        let found = after_kill(folder, &settings, what);
        assert!((written.acknowledged..=written.sent).contains(&found), "{what}: {found} of {written:?}");
    });
}

/// Under `everysec` the server goes on after a fault; once the disk says that all is there, it is.
#[test]
fn everysec_recovers() {
    let settings = logging(AppendFsync::EverySec, false);
    at_every_operation(&settings, "BGREWRITEAOF", |folder, running, written, fault, what| {
        let found = after_kill(folder, &settings, what);
        assert!(found <= written.sent, "{what}: {found} of {written:?}");
        if fault == Fault::PowerCut || running.server.stop.has_failed() {
            return;
        }
        let mut client = Client::connect(running);
        until("writes are taken again", || client.run("SET again 1").as_deref() == Some("+OK"));
        until("all is on disk", || running.server.aof.queue.flush().is_ok());
        wait_for_background(&mut client, running);
        let found = after_kill(folder, &settings, what);
        assert!((written.acknowledged..=written.sent).contains(&found), "{what}: {found} of {written:?}");
    });
}

/// A save that fails leaves the file of the last one that worked; the next one works.
#[test]
fn saves_are_whole_or_not_at_all() {
    let settings = config();
    for background in ["BGSAVE", "SAVE"] {
        at_every_operation(&settings, background, |folder, running, written, fault, what| {
            let found = after_kill(folder, &settings, what);
            assert!(found == 0 || (2..=written.sent).contains(&found), "{what}: {found} of {written:?}");
            let mut client = Client::connect(running);
            // The fault may be one of this save's.
            let saved = (0..2).any(|_| client.run("SAVE").as_deref() == Some("+OK"));
            assert_eq!(saved, fault != Fault::PowerCut, "{what}");
            if fault != Fault::PowerCut {
                assert_eq!(after_kill(folder, &settings, what), written.acknowledged, "{what}");
            }
            let left = fs::read_dir(folder)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("temp-"));
            assert!(fault == Fault::PowerCut || left.count() == 0, "{what}: a temporary file is left");
        });
    }
}

/// Under `everysec` and `no` a kill loses nothing that was acknowledged: it is in the file before the reply goes.
#[test]
fn what_is_acknowledged_is_written() {
    for (appendfsync, io_threads) in [(AppendFsync::EverySec, 1), (AppendFsync::No, 1), (AppendFsync::EverySec, 4)] {
        let settings = Config { io_threads, ..logging(appendfsync, true) };
        let folder = new_folder("written");
        let running = start(&folder.0, &settings, None).unwrap();
        let mut clients: Vec<Client> = (0..io_threads + 1).map(|_| Client::connect(&running)).collect();
        let mut written = Written::default();
        for n in 0..12 {
            let idx = n % clients.len();
            written.write(&mut clients[idx], 1);
            let what = format!("{appendfsync:?}, {io_threads} workers");
            assert_eq!(after_kill(&folder.0, &settings, &what), written.acknowledged, "{what}");
        }
    }
}

/// A sync that takes for ever holds nobody up: others are served, writes are acknowledged, and written.
#[test]
fn a_sync_that_stalls_holds_nobody_up() {
    let settings = logging(AppendFsync::EverySec, true);
    let (folder, faults) = (new_folder("sync-stalls"), Faults::default());
    let running = start(&folder.0, &settings, Some(faults.clone())).unwrap();
    let mut client = Client::connect(&running);
    let mut written = Written::default();
    faults.set_weather(&[weather(Operation::Sync, "incr.aof", Effect::Stall)]);
    written.write(&mut client, 1);
    until("the sync is under way", || faults.stalled() == 1);
    for _ in 0..50 {
        written.write(&mut client, 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((written.acknowledged, written.sent), (51, 51));
    assert_eq!(after_kill(&folder.0, &settings, "while the sync stalls"), 51);
    assert!(running.server.aof.delayed_syncs.load(Ordering::Relaxed) >= 1, "two seconds are told");
    faults.set_weather(&[]);
    until("all is on disk", || running.server.aof.queue.is_synced());
}

/// A disk that takes nothing at all, beside a sync: replies go on for two seconds, as in Redis, and then wait.
#[test]
fn writes_are_postponed_while_a_sync_stalls() {
    let settings = logging(AppendFsync::EverySec, true);
    let (folder, faults) = (new_folder("all-stalls"), Faults::default());
    let running = start(&folder.0, &settings, Some(faults.clone())).unwrap();
    let mut client = Client::connect(&running);
    let mut written = Written::default();
    faults.set_weather(&[weather(Operation::Sync, "incr.aof", Effect::Stall)]);
    written.write(&mut client, 1);
    until("the sync is under way", || faults.stalled() == 1);
    let all = [Operation::Sync, Operation::Write].map(|operation| weather(operation, "incr.aof", Effect::Stall));
    faults.set_weather(&all);
    let began = Instant::now();
    written.write(&mut client, 1);
    assert!(began.elapsed() < PATIENCE, "it is answered");
    faults.set_weather(&[]);
    until("all is on disk", || running.server.aof.queue.is_synced());
    assert_eq!(after_kill(&folder.0, &settings, "afterwards"), 2);
}

fn weather(operation: Operation, name: &str, effect: Effect) -> Weather {
    Weather { operation, name: name.to_owned(), effect }
}

/// While syncs fail, writes are refused, however well everything else works; they are taken again once one has worked. There
/// is one attempt a second, and no rewrite for each.
#[test]
fn failing_syncs_refuse_writes_until_one_works() {
    for (operation, reason) in [(Operation::Sync, "input/output error"), (Operation::Write, "no storage space")] {
        let effect = if operation == Operation::Sync { Effect::Io } else { Effect::NoSpace };
        let settings = logging(AppendFsync::EverySec, true);
        let (folder, faults) = (new_folder("fails"), Faults::default());
        let running = start(&folder.0, &settings, Some(faults.clone())).unwrap();
        let mut client = Client::connect(&running);
        let mut written = Written::default();
        written.write(&mut client, 1);
        faults.set_weather(&[weather(operation, "incr.aof", effect)]);
        until("writes are refused", || client.run("INCR m").is_some_and(|reply| reply.starts_with("-MISCONF")));
        assert_eq!(running.server.aof.refuses_writes().map(|told| told.to_lowercase()), Some(reason.to_lowercase()));
        let (operations, began) = (faults.operations(), Instant::now());
        while began.elapsed() < Duration::from_millis(2500) {
            assert!(client.run("INCR m").unwrap().starts_with("-MISCONF"), "{operation:?}: not until one works");
            std::thread::sleep(Duration::from_millis(20));
        }
        let attempts = faults.operations() - operations;
        assert!((1..=6).contains(&attempts), "{operation:?}: {attempts} attempts in 2.5 seconds");
        let rewrites = running.server.aof.figures().rewrites.count;
        assert_eq!(rewrites, 0, "{operation:?}");
        faults.set_weather(&[]);
        until("writes are taken again", || client.run("INCR m").is_some_and(|reply| reply.starts_with(':')));
    }
}

/// What the disk does in one round of the random test.
fn random_weather(random: &mut Randomness) -> Weather {
    const NAMES: [&str; 6] = ["incr.aof", "base", "manifest", "temp-", ".rdb", ""];
    const EFFECTS: [Effect; 3] = [Effect::NoSpace, Effect::Io, Effect::Stall];
    let operation = OPERATIONS[random.below(OPERATIONS.len())];
    let name = if operation == Operation::SyncDir { "." } else { NAMES[random.below(NAMES.len())] };
    weather(operation, name, EFFECTS[random.below(EFFECTS.len())])
}

/// Numbers that a seed determines.
struct Randomness(u64);

impl Randomness {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// Writes on a thread of its own, for replies may take as long as a disk stalls.
struct Writer {
    thread: std::thread::JoinHandle<()>,
    stop: Arc<AtomicBool>,
    /// What was acknowledged, and sent at most.
    figures: Arc<[AtomicI64; 2]>,
}

impl Writer {
    fn start(running: &Running, mut written: Written) -> Writer {
        let (stop, figures) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicI64; 2]>::default());
        let mut client = Client::connect(running);
        let (ends, told) = (stop.clone(), figures.clone());
        let tell = move |written: Written| {
            told[0].store(written.acknowledged, Ordering::Release);
            told[1].store(written.sent, Ordering::Release);
        };
        tell(written);
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Acquire) && client.0.is_some() {
                written.write(&mut client, 1);
                tell(written);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Writer { thread, stop, figures }
    }

    fn end(self) -> Written {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        let [acknowledged, sent] = [0, 1].map(|idx| self.figures[idx].load(Ordering::Acquire));
        Written { acknowledged, sent }
    }
}

/// One seed: rounds of bad weather of any kind, over writes and one background job each; between them all must be well.
fn rough_days(seed: u64) {
    let mut random = Randomness(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let appendfsync = [AppendFsync::EverySec, AppendFsync::No][random.below(2)];
    let settings = Config { io_threads: [1, 4][random.below(2)], ..logging(appendfsync, random.below(2) == 0) };
    let (folder, faults) = (new_folder("rough"), Faults::default());
    let running = start(&folder.0, &settings, Some(faults.clone())).unwrap();
    let mut client = Client::connect(&running);
    let mut written = Written::default();
    for round in 0..4 {
        let bad = random_weather(&mut random);
        let what = format!("seed {seed}, round {round}, {appendfsync:?}, {} workers, {bad:?}", settings.io_threads);
        let writer = Writer::start(&running, written);
        faults.set_weather(std::slice::from_ref(&bad));
        let operations = faults.operations();
        let job = ["BGREWRITEAOF", "BGSAVE", "PING"][random.below(3)];
        // Opening a file holds up who asks for it, in Redis everybody.
        let asking = std::thread::spawn({
            let mut client = Client::connect(&running);
            move || client.run(job)
        });
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1300) {
            // A log that cannot be written holds replies back, and who asks for a rewrite waits for its files, with those
            // that share the worker. Nothing else keeps anybody.
            let is_log = "incr.aof".contains(&bad.name) && bad.operation == Operation::Write;
            let may_wait = bad.effect == Effect::Stall && (is_log || bad.operation == Operation::Open);
            if !may_wait {
                // As in Redis, PING tells of trouble too.
                let answer = client.run("PING").unwrap_or_default();
                assert!(answer == "+PONG" || answer.starts_with("-MISCONF"), "{what}: {answer}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let (attempts, acknowledged) = (faults.operations() - operations, writer.figures[0].load(Ordering::Acquire));
        let allowed = 100 + 2 * (acknowledged - written.acknowledged).unsigned_abs();
        assert!(attempts < allowed, "{what}: {attempts} operations, at most {allowed} expected");
        faults.set_weather(&[]);
        asking.join().unwrap();
        written = writer.end();
        assert!(!running.server.stop.has_failed(), "{what}: it has ended");
        until("writes are taken again", || client.run("SET again 1").as_deref() == Some("+OK"));
        until("all is on disk", || running.server.aof.queue.flush().is_ok());
        let rewrites = || running.server.aof.figures().rewrites;
        until("nothing is under way", || {
            rewrites().since_s.is_none() && !rewrites().scheduled && !running.server.persistence.is_saving()
        });
        written.write(&mut client, 1);
        let found = after_kill(&folder.0, &settings, &what);
        assert!((written.acknowledged..=written.sent).contains(&found), "{what}: {found} of {written:?}");
    }
}

/// Any operation on any file fails, or takes for ever, for a while. `FAULT_SEEDS=from..to` for more of it.
#[test]
fn rough_days_end_well() {
    let seeds = std::env::var("FAULT_SEEDS").unwrap_or_else(|_| "1..7".to_owned());
    let (from, to) = seeds.split_once("..").expect("FAULT_SEEDS=from..to");
    (from.parse::<u64>().unwrap()..to.parse().unwrap()).for_each(rough_days);
}

/// Saves when it ends.
fn saving(io_threads: usize) -> Config {
    Config { io_threads, save: vec![SavePoint { seconds: 3600, changes: 1 }], ..config() }
}

/// Begins to end the server, as SHUTDOWN or as SIGTERM does.
fn begin_shutdown(running: &Running, by_signal: bool) -> std::thread::JoinHandle<()> {
    let server = running.server.clone();
    let mut client = Client::connect(running);
    std::thread::spawn(move || {
        if by_signal {
            server.shut_down(MayWait::of_thread(), ShutdownFlags::default()).unwrap();
        } else {
            assert_eq!(client.run("SHUTDOWN"), None);
        }
    })
}

/// Commands that wait while the server saves for the last time, on whichever worker, are not acknowledged afterwards.
#[test]
fn nothing_is_acknowledged_behind_the_final_save() {
    let last = [
        (saving(1), "temp-"),
        (saving(4), "temp-"),
        (Config { io_threads: 4, ..logging(AppendFsync::Always, true) }, "incr.aof"),
        (Config { io_threads: 4, ..logging(AppendFsync::EverySec, true) }, "incr.aof"),
    ];
    for (settings, file) in last {
        for by_signal in [false, true] {
            let what = format!("{file}, {} workers, by a signal: {by_signal}", settings.io_threads);
            let (folder, faults) = (new_folder("final"), Faults::default());
            let running = start(&folder.0, &settings, Some(faults.clone())).unwrap();
            let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(&running)).collect();
            let mut written = Written::default();
            // More than the syncs of every second leave behind.
            faults.set_weather(&[weather(Operation::Sync, file, Effect::Stall)]);
            let is_logged = settings.appendonly;
            if is_logged {
                clients[0].0.as_mut().unwrap().write_all(b"SET unsynced 1\r\n").unwrap();
                until("a sync is under way", || faults.stalled() == 1);
            } else {
                written.write(&mut clients[0], 3);
            }
            let ends = begin_shutdown(&running, by_signal);
            until("the end is under way", || {
                faults.stalled() == 1 && running.server.shards.try_lock(running.server.shards.all()).is_none()
            });
            let waiting: Vec<_> = clients
                .drain(1..)
                .enumerate()
                .map(|(n, mut client)| {
                    let command = ["INCR n", "EVAL \"return redis.call('INCR','n')\" 0", "SET other 1", "DEL n"][n % 4];
                    std::thread::spawn(move || client.run(command))
                })
                .collect();
            // They may not even have arrived: then they are refused all the more.
            std::thread::sleep(Duration::from_millis(100));
            faults.set_weather(&[]);
            let answers: Vec<Option<String>> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert!(answers.iter().all(Option::is_none), "{what}: {answers:?}");
            ends.join().unwrap();
            assert!(running.wait(), "{what}");
            assert_eq!(after_kill(&folder.0, &settings, &what), written.acknowledged, "{what}");
        }
    }
}

/// A save in the background that the end has called off does not take the place of the final one, however late it is.
#[test]
fn a_late_save_does_not_replace_the_final_one() {
    for by_signal in [false, true] {
        let settings = saving(4);
        let (folder, faults) = (new_folder("late"), Faults::default());
        let running = start(&folder.0, &settings, Some(faults.clone())).unwrap();
        let mut client = Client::connect(&running);
        let mut written = Written::default();
        written.write(&mut client, 1);
        let of_background = format!("temp-{}-", std::process::id());
        faults.set_weather(&[weather(Operation::Sync, &of_background, Effect::Stall)]);
        assert!(client.run("BGSAVE").unwrap().starts_with("+Background saving"));
        until("it stalls", || faults.stalled() == 1);
        written.write(&mut client, 1);
        begin_shutdown(&running, by_signal).join().unwrap();
        faults.set_weather(&[]);
        drop(running);
        assert_eq!(after_kill(&folder.0, &settings, "SHUTDOWN"), 2);
    }
}

/// What CONFIG SET changes while a save stalls is for the next one: it is answered, and the save ends where it began.
#[test]
fn directives_change_while_a_save_stalls() {
    let settings = Config { enable_protected_configs: ProtectedAction::Yes, ..saving(4) };
    let (folder, elsewhere, faults) = (new_folder("stalled-save"), new_folder("elsewhere"), Faults::default());
    let running = start(&folder.0, &settings, Some(faults.clone())).unwrap();
    let mut client = Client::connect(&running);
    let mut written = Written::default();
    written.write(&mut client, 3);
    faults.set_weather(&[weather(Operation::Sync, "temp-", Effect::Stall)]);
    assert!(client.run("BGSAVE").unwrap().starts_with("+Background saving"));
    until("it stalls", || faults.stalled() == 1);
    let moved = elsewhere.0.display();
    for set in [
        "save 60 1".to_owned(),
        "save \"\"".to_owned(),
        "dbfilename other.rdb".to_owned(),
        "appendonly yes".to_owned(),
        "appendfsync always".to_owned(),
        "appendfsync everysec".to_owned(),
        "appendonly no".to_owned(),
        format!("dir {moved}"),
    ] {
        let set = set.replace("save 60 1", "save \"60 1\"");
        assert_eq!(client.run(&format!("CONFIG SET {set}")).as_deref(), Some("+OK"), "{set}");
        written.write(&mut client, 1);
    }
    faults.set_weather(&[]);
    wait_for_background(&mut client, &running);
    assert_eq!(after_kill(&folder.0, &settings, "where it began"), 3);
    assert_eq!(client.run("SAVE").as_deref(), Some("+OK"));
    let settings = Config { dbfilename: "other.rdb".to_owned(), ..settings };
    assert_eq!(after_kill(&elsewhere.0, &settings, "where it is now"), written.acknowledged);
}
