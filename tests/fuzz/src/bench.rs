//! A server in this process, without threads and sockets: commands go in as arguments, replies are checked and come out.

use crate::resp;
use redstart::clients::Origin;
use redstart::command::args::Request;
use redstart::command::call::Engine;
use redstart::command::session::{ReplyMode, Session};
use redstart::config::{Config, ProtectedAction};
use redstart::feed;
use redstart::feed::records::{Record, encode};
use redstart::keyspace::lock::MayWait;
use redstart::resp::reply::Reply;
use redstart::run::start::Options;
use redstart::server::Server;
use redstart::snapshot::load::Target;
use redstart::util::clock::Clock;
use redstart_persistence::aof::{Item, Reader};
use redstart_types::seed::HashSeed;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A server and a few clients of it.
pub struct Bench {
    pub server: Arc<Server>,
    engine: Engine,
    clients: Vec<Session>,
    log: Log,
}

/// What entered the feed, as the bytes of an append-only file.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<LogBytes>>);

#[derive(Default)]
struct LogBytes {
    db: usize,
    bytes: Vec<u8>,
}

impl feed::Reader for Log {
    fn append(&self, records: &[Record<'_>]) {
        let mut log = self.0.lock().expect("the target ends with its first panic");
        for record in records {
            if let Some(db) = record.db
                && db != log.db
            {
                encode(&mut log.bytes, &[b"SELECT", db.to_string().as_bytes()]);
                log.db = db;
            }
            log.bytes.extend_from_slice(record.command);
        }
    }
}

/// What may be kept of hashes: all; nothing; a few bits at the top; those of the shard and the tag.
pub const KEPT_BITS: [u64; 4] = [u64::MAX, 0, 7 << 61, 0xffff];
/// Clients that a [`Bench`] has for its callers; one more is its own.
pub const CLIENTS: usize = 2;
/// Where the clock stands at first, Unix time.
const START_MS: i64 = 1_700_000_000_000;
/// Longest argument, and so the longest string that SETRANGE and its like may make: short, because LCS takes time and
/// memory by the product of two.
const LONGEST_STRING: u64 = 8192;

impl Default for Bench {
    fn default() -> Self {
        Bench::new()
    }
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(config())
    }

    pub fn with(config: Config) -> Bench {
        Bench::hashing(config, u64::MAX)
    }

    /// One that keeps only these bits of its hashes: with few of them, very many are equal.
    pub fn hashing(config: Config, kept: u64) -> Bench {
        let hash_seed = Some(HashSeed::new([1, 2]).keeping(kept));
        let clock = Clock::stopped_at(START_MS);
        let options = Options { config, clock, seed: Some(1), hash_seed, ..Options::default() };
        let (server, registry) = options.build();
        let server = Arc::new(server);
        let log = Log::default();
        server.feed.add_reader(Arc::new(log.clone()));
        let clients = (0..=CLIENTS).map(|_| connect(&server)).collect();
        Bench { engine: Engine::new(server.clone(), registry, 0, Some(MayWait::of_thread())), server, clients, log }
    }

    /// Runs a command of the client with this number (the last one is [`Bench::check`]'s); what it is sent: the reply,
    /// messages and the late reply of a blocking command. Panics if that is no RESP.
    pub fn run(&mut self, client: usize, argv: &[&[u8]]) -> Vec<u8> {
        self.engine.begin_batch();
        let session = &mut self.clients[client];
        let mut reply = Reply::new(session.resp3);
        if let Some(waiter) = session.waiter.take()
            && self.server.waits.abandon(&self.server.shards, &waiter, MayWait::of_thread())
        {
            waiter.on_timeout.write(&mut reply);
        }
        if let Some(letters) = self.server.clients.take_letters(&session.client) {
            session.closing |= letters.kill || letters.overrun;
            reply.raw(&letters.output.into_bytes());
        }
        if session.closing || session.client.has(redstart::clients::Client::MONITOR) {
            self.clients[client] = connect(&self.server);
        }
        let session = &mut self.clients[client];
        resp::count(&reply.buf);
        let mut reply = Reply::new(session.resp3);
        let mode = session.reply_mode;
        self.engine.execute(session, &mut reply, Request { argv, encoded: None, first_hash: None });
        self.engine.end_batch();
        let replies = resp::count(&reply.buf);
        // What a pause holds back is dropped.
        let is_held = session.paused_until_ms.take().is_some();
        let is_answered = session.waiter.is_none() && !session.closing && !is_held;
        if is_answered && mode == ReplyMode::On && session.reply_mode == ReplyMode::On {
            assert!(replies > 0, "no reply to {}", text(argv));
        }
        reply.buf
    }

    /// A command of words without spaces, of the own client.
    pub fn own(&mut self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.run(CLIENTS, &words)).into_owned()
    }

    pub fn advance_ms(&mut self, by_ms: i64) {
        self.server.clock.advance_ms(by_ms);
    }

    /// Deletes what has expired by looking at every key; a pause would keep it.
    fn expire(&mut self) {
        // It would hold CLIENT UNPAUSE back as well.
        self.server.pause.end();
        for db in 0..self.engine.config.databases {
            self.own(&format!("SELECT {db}"));
            assert!(self.own("SCAN 0 COUNT 1000000").starts_with('*'));
        }
    }

    fn digest(&mut self) -> String {
        let digest = self.own("DEBUG DIGEST");
        assert!(digest.starts_with('+'), "{digest}");
        digest
    }

    /// A second server that has run the log holds the same data.
    pub fn check_log(&mut self) {
        self.expire();
        let log = self.log.0.lock().expect("nobody panicked").bytes.clone();
        let mut copy = Bench::new();
        copy.apply(&log, false);
        let (ours, theirs) = (self.digest(), copy.digest());
        assert_eq!(ours, theirs, "the log gives other data:\n{}", String::from_utf8_lossy(&log));
    }

    /// The data is the same after it has been saved and loaded.
    pub fn check_reload(&mut self) {
        self.expire();
        let before = self.digest();
        assert_eq!(self.own("DEBUG RELOAD"), "+OK\r\n");
        assert_eq!(self.digest(), before, "saved and loaded, the data is another");
    }

    /// Runs the commands of an append-only file, as far as it is one. `foreign`: it may hold anything.
    pub fn apply(&mut self, log: &[u8], foreign: bool) {
        let mut session = Session::new(self.engine.own_client.clone(), true);
        let mut reply = Reply::default();
        let mut reader = Reader::new(log, 0);
        self.engine.begin_batch();
        loop {
            let commands = match reader.item() {
                Ok(Some(Item::Command(command))) => vec![command],
                Ok(Some(Item::Transaction(commands))) => commands,
                Ok(Some(Item::Timestamp(_))) => continue,
                Ok(None) => return,
                Err(_) if foreign => return,
                Err(error) => panic!("our own log: {error}"),
            };
            for command in commands {
                let argv: Vec<&[u8]> = command.args().collect();
                if foreign && !crate::grammar::is_tame(&argv) {
                    continue;
                }
                reply.buf.clear();
                let mut target = Target::Shards(&self.server.shards, MayWait::of_thread());
                let applied = self.engine.apply(&mut target, &mut session, &mut reply, &argv);
                let is_good = applied.is_ok() && !reply.buf.starts_with(b"-");
                let answer = String::from_utf8_lossy(&reply.buf);
                assert!(is_good || foreign, "our own log: {} gives {answer}", text(&argv));
            }
        }
    }
}

/// The configuration of a bench: nothing is logged, files go to memory, everything is allowed.
pub fn config() -> Config {
    Config {
        port: 0,
        save: Vec::new(),
        dir: folder(),
        io_threads: 1,
        enable_debug_command: ProtectedAction::Yes,
        proto_max_bulk_len: LONGEST_STRING,
        ..Config::default()
    }
}

/// A folder of this process's own, in memory where there is such a place.
fn folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let folder = parent.join(format!("redstart-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary files can be written");
    folder
}

fn connect(server: &Server) -> Session {
    let origin =
        Origin { addr: "127.0.0.1:1000".to_owned(), laddr: "127.0.0.1:6379".to_owned(), fd: 1, unix_socket: false };
    let account = server.acl.default_account().clone();
    Session::new(server.clients.add(origin, 0, server.clock.now_ms(), account), true)
}

/// A command to be read by people.
pub fn text(argv: &[&[u8]]) -> String {
    argv.iter().map(|arg| arg.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}
