//! What commands have changed and who must hear of it: collected while locks are held, delivered before they fall.

use crate::config::KeyspaceEvents;
use crate::keyspace::value::Value;
use smallvec::SmallVec;

/// The effects of one top-level command, transaction or script.
#[derive(Debug)]
pub struct Effects {
    /// Changes made (Redis's dirty count).
    pub dirty: u64,
    /// The records for the feed, in order.
    pub records: Vec<Record>,
    /// The records are no transaction: keys that SCAN and RANDOMKEY happened to find expired.
    pub apart: bool,
    /// Keys that became ready for blocked clients, in order: (database, key).
    pub ready: Vec<(usize, Box<[u8]>)>,
    /// Keyspace events that somebody wants, in order.
    pub events: Vec<KeyEvent>,
    /// Keys changed, while a client tracks keys.
    pub tracked: Vec<Box<[u8]>>,
    /// What clients had read of the first `looked_up` of those keys.
    pub stale: Vec<StaleRead>,
    pub looked_up: usize,
    /// Whether any client tracks keys.
    pub tracking: bool,
    /// Whether records are wanted at all (the feed has a reader).
    pub recording: bool,
    /// Which keyspace events are wanted (`notify-keyspace-events`).
    pub notify: KeyspaceEvents,
    /// Whether the server's own deletions are logged as UNLINK rather than DEL (`lazyfree-lazy-expire`).
    pub lazy_delete: bool,
    /// Whether overwritten values are freed by another thread (`lazyfree-lazy-server-del`).
    pub lazy_overwrite: bool,
    /// Big values for another thread to free.
    pub garbage: Vec<Value>,
    /// What the running command says in the log instead of itself.
    pub instead: Option<SmallVec<[Record; 1]>>,
    /// The time that TIME has told (Unix microseconds): it stands still within a script or a transaction.
    pub time_us: Option<i64>,
    /// Keys looked up and found, for INFO.
    pub hits: u64,
    /// Keys looked up and not found, for INFO.
    pub misses: u64,
    /// Keys deleted because their time was over, for INFO.
    pub expired: u64,
}

/// A key that clients had read when it changed, and that they are to be told of.
#[derive(Debug)]
pub struct StaleRead {
    pub key: Box<[u8]>,
    /// Client ids.
    pub readers: Vec<u64>,
    /// The client that changed it.
    pub by: u64,
}

/// One effect: a command in RESP, and the database it applies to (MULTI and EXEC: none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub db: Option<usize>,
    /// The command as a RESP array of bulk strings.
    pub command: Vec<u8>,
    pub target: Target,
}

/// Whom a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    #[default]
    Everybody,
    /// The append-only file.
    Log,
    /// Replicas: messages, which no log needs.
    Replicas,
    /// What a script has taken out of both (`redis.set_repl`).
    Nobody,
}

impl Record {
    /// Encodes `argv`, which applies to a database.
    pub fn new(db: usize, argv: &[&[u8]]) -> Self {
        Record { db: Some(db), ..Record::of_none(argv) }
    }

    /// Encodes `argv`, which applies to no database.
    pub fn of_none(argv: &[&[u8]]) -> Self {
        let size = argv.iter().map(|arg| arg.len() + 16).sum::<usize>() + 16;
        let mut command = Vec::with_capacity(size);
        let mut digits = itoa::Buffer::new();
        let mut head = |command: &mut Vec<u8>, kind: u8, len: usize| {
            command.push(kind);
            command.extend_from_slice(digits.format(len).as_bytes());
            command.extend_from_slice(b"\r\n");
        };
        head(&mut command, b'*', argv.len());
        for arg in argv {
            head(&mut command, b'$', arg.len());
            command.extend_from_slice(arg);
            command.extend_from_slice(b"\r\n");
        }
        Record { db: None, command, target: Target::Everybody }
    }

    /// Whether it is for this reader of the feed.
    pub fn is_for(&self, reader: Target) -> bool {
        self.target == Target::Everybody || self.target == reader
    }
}

/// A keyspace event to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEvent {
    pub class: KeyspaceEvents,
    pub event: &'static str,
    pub db: usize,
    pub key: Box<[u8]>,
}

impl Effects {
    /// Frees a value here, or leaves it to another thread if that is wanted and worth it.
    pub fn free(&mut self, value: Value, in_background: bool) {
        if in_background && value.allocations() > WORTH_ANOTHER_THREAD {
            self.garbage.push(value);
        }
    }
}

/// Allocations from which on another thread frees a value. Source: Redis 7.2 LAZYFREE_THRESHOLD.
const WORTH_ANOTHER_THREAD: usize = 64;

impl Default for Effects {
    fn default() -> Self {
        Effects {
            dirty: 0,
            records: Vec::new(),
            apart: false,
            ready: Vec::new(),
            events: Vec::new(),
            tracked: Vec::new(),
            stale: Vec::new(),
            looked_up: 0,
            tracking: false,
            recording: false,
            notify: KeyspaceEvents::NONE,
            lazy_delete: false,
            lazy_overwrite: false,
            garbage: Vec::new(),
            instead: None,
            time_us: None,
            hits: 0,
            misses: 0,
            expired: 0,
        }
    }
}
