//! A server whose disk fails at every single operation in turn: what it has promised is there after a kill, and what is
//! there is a beginning of what was written.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Folder, PATIENCE, config, until};
use redstart::config::{AppendFsync, Config};
use redstart::server::Server;
use redstart::startup::{Options, Running};
use redstart_persistence::file::{Fault, Faults};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

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
