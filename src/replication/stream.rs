//! The replication stream: the feed's records as the bytes that replicas read, and as much of them as is kept.
//!
//! An offset counts the bytes of the stream ever made, so the byte at offset `n` is the `n`th one. The bytes lie in
//! blocks that all replicas read from; a block is dropped once no replica needs it and it lies further back than the
//! backlog is long (`repl-backlog-size`). No replica has a buffer of its own.

use crate::config::{ClientClass, Config};
use crate::feed::Offset;
use crate::feed::records::{Record, encode};
use crate::replication::replica::Replica;
use crate::util::sync::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes a block has room for, at least; a longer record has blocks of up to a sixteenth of the backlog's length, so that
/// what is kept goes piece by piece. Source: Redis 7.2.
const BLOCK_BYTES: usize = 16 * 1024;
/// Most bytes a replica takes at once.
const READ_BYTES: usize = 64 * 1024;

/// The stream of one server. Its lock is taken under the feed's.
#[derive(Debug)]
pub struct Stream {
    inner: Mutex<Inner>,
    offset: Arc<Offset>,
    /// Bytes of all blocks beyond the backlog's length.
    beyond_backlog: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    history: History,
    /// Whether bytes are kept: somebody follows, or did not long ago.
    active: bool,
    blocks: VecDeque<Block>,
    /// The room of all blocks.
    held_bytes: u64,
    /// The database that the stream has selected, if its readers know.
    db: Option<usize>,
    readers: Vec<Arc<Replica>>,
    limits: Limits,
}

/// The names of the data's history, as INFO shows them.
#[derive(Debug, Clone)]
pub struct History {
    /// 40 hexadecimal digits.
    pub id: String,
    /// The history that this one goes on from, up to `until`.
    pub former_id: String,
    pub until: Option<u64>,
}

/// The directives that the stream obeys.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// `repl-backlog-size`.
    pub backlog_bytes: u64,
    /// The hard limit of `client-output-buffer-limit replica`; 0: none.
    pub replica_bytes: u64,
}

impl Limits {
    /// The directives in force.
    pub fn new(config: &Config) -> Self {
        let replica = config.client_output_buffer_limit[ClientClass::Replica as usize];
        Limits { backlog_bytes: config.repl_backlog_size, replica_bytes: replica.hard_bytes }
    }
}

/// A stretch of the stream.
#[derive(Debug)]
struct Block {
    /// The offset before its first byte.
    start: u64,
    bytes: Vec<u8>,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// What INFO tells of the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    pub active: bool,
    /// The offset of its first byte.
    pub first: u64,
    pub len: u64,
    /// Bytes of all blocks, also those that only replicas still need.
    pub held_bytes: u64,
}

impl History {
    /// A history that begins now.
    pub fn new(id: String) -> Self {
        History { id, former_id: "0".repeat(40), until: None }
    }
}

impl Stream {
    /// A stream without bytes; `offset` is where it ends.
    pub fn new(id: String, offset: Arc<Offset>) -> Self {
        let inner = Inner {
            history: History::new(id),
            active: false,
            blocks: VecDeque::new(),
            held_bytes: 0,
            db: None,
            readers: Vec::new(),
            limits: Limits::default(),
        };
        Stream { inner: Mutex::new(inner), offset, beyond_backlog: AtomicU64::new(0) }
    }

    /// The offset of the last byte.
    #[inline]
    pub fn end(&self) -> u64 {
        self.offset.end()
    }

    /// The names of the history.
    pub fn history(&self) -> History {
        self.inner.lock().history.clone()
    }

    /// Whether bytes are kept.
    pub fn is_active(&self) -> bool {
        self.inner.lock().active
    }

    /// The backlog's figures.
    pub fn backlog(&self) -> Backlog {
        let inner = self.inner.lock();
        let start = inner.backlog_start(self.end());
        let first = if inner.active { start + 1 } else { 0 };
        Backlog { active: inner.active, first, len: self.end() - start, held_bytes: inner.held_bytes }
    }

    /// Bytes kept beyond the backlog's length, because a replica is slow. They count for its output limit, not for
    /// `maxmemory`: were keys evicted for them, the records of that would make them more.
    pub fn beyond_backlog(&self) -> u64 {
        self.beyond_backlog.load(Ordering::Relaxed)
    }

    /// Drops what nobody needs.
    fn trim(&self, inner: &mut Inner) {
        inner.trim(self.end());
        self.beyond_backlog.store(inner.held_bytes.saturating_sub(inner.limits.backlog_bytes), Ordering::Relaxed);
    }

    /// Puts the directives into force.
    pub fn set_limits(&self, limits: Limits) {
        let mut inner = self.inner.lock();
        inner.limits = limits;
        self.trim(&mut inner);
    }

    /// Begins to keep bytes, under a new name: what was not kept has no place in a history.
    pub fn begin(&self, id: String, limits: Limits) {
        let mut inner = self.inner.lock();
        inner.limits = limits;
        inner.history = History::new(id);
        inner.active = true;
        self.offset.count_bytes(true);
        inner.db = None;
    }

    /// The history goes on under a new name, as if it had no past.
    pub fn rename(&self, id: String) {
        self.inner.lock().history = History::new(id);
    }

    /// Forgets all bytes. The history goes on under a new name: from now on it has gaps.
    pub fn end_history(&self, id: String) {
        let mut inner = self.inner.lock();
        inner.history = History::new(id);
        inner.active = false;
        self.offset.count_bytes(false);
        inner.blocks.clear();
        inner.held_bytes = 0;
        self.trim(&mut inner);
    }

    /// Adds a reader that knows the data set as of now; the offset. The next record selects its database again.
    pub fn attach(&self, replica: &Arc<Replica>) -> u64 {
        let mut inner = self.inner.lock();
        inner.db = None;
        replica.set_position(self.end());
        inner.readers.push(replica.clone());
        self.end()
    }

    /// Adds a reader that has everything before the byte `from` of the history `id`, if it can go on from there.
    pub fn resume(&self, replica: &Arc<Replica>, id: &str, from: u64) -> Result<(), Refusal> {
        let mut inner = self.inner.lock();
        let history = &inner.history;
        if !history.id.eq_ignore_ascii_case(id) {
            let is_former = history.former_id.eq_ignore_ascii_case(id);
            match history.until.filter(|_| is_former) {
                None => return Err(Refusal::OtherHistory),
                Some(until) if from > until => return Err(Refusal::PastFormer(until)),
                Some(_) => {}
            }
        }
        let known = inner.backlog_start(self.end()) + 1..=self.end() + 1;
        if !inner.active || !known.contains(&from) {
            return Err(Refusal::NotKept);
        }
        replica.set_position(from - 1);
        inner.readers.push(replica.clone());
        Ok(())
    }

    /// Takes a reader away.
    pub fn detach(&self, replica: &Replica) {
        let mut inner = self.inner.lock();
        inner.readers.retain(|other| other.client.id != replica.client.id);
        self.trim(&mut inner);
    }

    /// Appends the bytes that follow the reader's position to `out`; whether there were any. If not, the reader is
    /// woken when there are.
    pub fn read(&self, replica: &Replica, out: &mut Vec<u8>) -> bool {
        let mut inner = self.inner.lock();
        let position = replica.position();
        if position >= self.end() {
            replica.set_idle(true);
            return false;
        }
        if position < inner.backlog_start(self.end()) {
            // It has been overrun, and what it lacks is gone: its connection is being closed.
            return false;
        }
        let first = inner.blocks.partition_point(|block| block.end() <= position);
        let before = out.len();
        let until = before + READ_BYTES;
        for block in inner.blocks.range(first..) {
            let at = position.max(block.start) - block.start;
            let bytes = &block.bytes[at as usize..];
            // A block may be much longer: what waits for a slow replica is kept in the blocks, not by its connection.
            out.extend_from_slice(&bytes[..bytes.len().min(until - out.len())]);
            if out.len() == until {
                break;
            }
        }
        replica.set_position(position + (out.len() - before) as u64);
        replica.note_waiting(self.end());
        self.trim(&mut inner);
        true
    }

    /// Appends a command that belongs to no database and is no effect (PING, REPLCONF GETACK).
    pub fn append_command(&self, argv: &[&[u8]]) {
        let mut inner = self.inner.lock();
        if inner.active {
            let mut command = Vec::new();
            encode(&mut command, argv);
            let end = inner.add(self.end(), &command);
            self.appended(&mut inner, end);
        }
    }

    /// Appends one command's effects.
    pub fn append(&self, records: &[Record<'_>]) {
        let mut inner = self.inner.lock();
        if !inner.active {
            return;
        }
        let mut end = self.end();
        for record in records {
            if let Some(db) = record.db.filter(|db| inner.db != Some(*db)) {
                inner.db = Some(db);
                let mut select = Vec::new();
                encode(&mut select, &[b"SELECT", itoa::Buffer::new().format(db).as_bytes()]);
                end = inner.add(end, &select);
            }
            end = inner.add(end, record.command);
        }
        self.appended(&mut inner, end);
    }

    fn appended(&self, inner: &mut Inner, end: u64) {
        self.offset.set(end);
        let hard = inner.limits.replica_bytes;
        // A limit below the backlog's length would not save any memory. Source: Redis 7.2.
        let hard = if hard == 0 { u64::MAX } else { hard.max(inner.limits.backlog_bytes) };
        inner.readers.retain(|replica| {
            let is_within = replica.note_waiting(end) <= hard;
            if !is_within {
                replica.overrun();
            }
            is_within
        });
        self.trim(inner);
    }
}

/// Why a replica must take the whole data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It knows another history.
    OtherHistory,
    /// It knows the former history, and has gone on beyond its end, which is this offset.
    PastFormer(u64),
    /// What it lacks is not kept any more, or is not there yet.
    NotKept,
}

impl Inner {
    /// The offset before the first byte that the backlog answers for.
    fn backlog_start(&self, end: u64) -> u64 {
        self.blocks.front().map_or(end, |block| block.start)
    }

    fn add(&mut self, end: u64, bytes: &[u8]) -> u64 {
        let longest = usize::try_from(self.limits.backlog_bytes / 16).unwrap_or(usize::MAX).max(BLOCK_BYTES);
        let (mut end, mut rest) = (end, bytes);
        while !rest.is_empty() {
            let room = self.blocks.back().map_or(0, |block| block.bytes.capacity() - block.bytes.len());
            match self.blocks.back_mut() {
                Some(block) if room > 0 => {
                    let (now, later) = rest.split_at(room.min(rest.len()));
                    block.bytes.extend_from_slice(now);
                    end += now.len() as u64;
                    rest = later;
                }
                _ => {
                    let bytes = Vec::with_capacity(rest.len().clamp(BLOCK_BYTES, longest));
                    self.held_bytes += bytes.capacity() as u64;
                    self.blocks.push_back(Block { start: end, bytes });
                }
            }
        }
        end
    }

    /// Drops the blocks that neither a replica nor the backlog needs.
    fn trim(&mut self, end: u64) {
        let needed = self.readers.iter().map(|replica| replica.position()).min().unwrap_or(u64::MAX);
        let kept_from = needed.min(end.saturating_sub(self.limits.backlog_bytes));
        while let Some(block) = self.blocks.pop_front_if(|block| block.end() <= kept_from) {
            self.held_bytes -= block.bytes.capacity() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Clients;
    use crate::feed::records::{Records, Target};
    use crate::replication::replica::Wishes;

    fn append(stream: &Stream, commands: &[(usize, &[&[u8]])]) {
        let mut records = Records::default();
        commands.iter().for_each(|(db, words)| records.push(*db, Target::Everybody, words));
        stream.append(&records.iter().collect::<Vec<_>>());
    }

    fn stream(backlog_bytes: u64, replica_bytes: u64) -> Stream {
        let stream = Stream::new("a".repeat(40), Arc::default());
        stream.begin("b".repeat(40), Limits { backlog_bytes, replica_bytes });
        stream
    }

    fn replica() -> Arc<Replica> {
        Arc::new(Replica::new(Clients::default().nobody(0, 0), Wishes::default(), false, 0))
    }

    fn read(stream: &Stream, replica: &Replica) -> String {
        let mut out = Vec::new();
        while stream.read(replica, &mut out) {}
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_reader_gets_every_byte_once() {
        let stream = stream(100, 0);
        let (early, late) = (replica(), replica());
        append(&stream, &[(0, &[b"A"])]);
        assert_eq!(stream.attach(&early), stream.end());
        append(&stream, &[(0, &[b"B"]), (3, &[b"C"])]);
        let commands =
            "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*1\r\n$1\r\nB\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*1\r\n$1\r\nC\r\n";
        assert_eq!(read(&stream, &early), commands);
        let from = stream.end() + 1 - 11;
        assert_eq!(stream.resume(&late, &"B".repeat(40), from), Ok(()));
        assert_eq!(read(&stream, &late), "*1\r\n$1\r\nC\r\n");
        stream.append_command(&[b"PING"]);
        assert_eq!(read(&stream, &late), read(&stream, &early));
        assert_eq!(stream.resume(&late, &"a".repeat(40), from), Err(Refusal::OtherHistory));
        assert_eq!(stream.resume(&late, &"b".repeat(40), stream.end() + 2), Err(Refusal::NotKept));
    }

    #[test]
    fn what_nobody_needs_is_dropped() {
        let stream = stream(20_000, 0);
        let slow = replica();
        stream.attach(&slow);
        let value = vec![b'x'; 10_000];
        (0..20).for_each(|_| append(&stream, &[(0, &[b"SET", b"k", &value])]));
        let (first, held) = (stream.backlog().first, stream.backlog().held_bytes);
        assert_eq!(first, 1);
        assert!(held > 200_000, "{held}");
        assert_eq!(read(&stream, &slow).len() as u64, stream.end());
        let backlog = stream.backlog();
        assert!(backlog.len >= 20_000 && backlog.len < 20_000 + 2 * BLOCK_BYTES as u64, "{backlog:?}");
        assert_eq!(stream.resume(&replica(), &"b".repeat(40), 1), Err(Refusal::NotKept));
        stream.end_history("c".repeat(40));
        assert_eq!(stream.backlog(), Backlog { active: false, first: 0, len: 0, held_bytes: 0 });
    }

    #[test]
    fn who_is_overrun_gets_nothing_more() {
        let stream = stream(1000, 5000);
        let stuck = replica();
        stream.attach(&stuck);
        let value = vec![b'x'; 3000];
        (0..3).for_each(|_| append(&stream, &[(0, &[b"SET", b"k", &value])]));
        assert!(Clients::default().take_letters(&stuck.client).is_some_and(|letters| letters.overrun));
        // Its connection may look once more before it sees that.
        (0..20).for_each(|_| append(&stream, &[(0, &[b"SET", b"k", &value])]));
        assert!(!stream.read(&stuck, &mut Vec::new()));
    }
}
