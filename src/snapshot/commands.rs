//! Writes the data set as the commands that make it: the base of a log under `aof-use-rdb-preamble no`.

use crate::config::Config;
use crate::core::Core;
use crate::keyspace::lock::{Locked, MayWait};
use crate::keyspace::value::Value;
use crate::keyspace::walk::{BigKind, Facts, Header, Piece};
use crate::snapshot::walker::{Output, Snapshot};
use crate::util::sync::Mutex;
use redstart_persistence::aof::LogBuffer;
use redstart_types::encoding::listpack::Element;
use redstart_types::entry::Content;
use redstart_types::number;
use redstart_types::stream::{Group, Stream, StreamId};
use redstart_types::table::Keyed;
use std::io::{self, Write};

/// Elements a command, as Redis has it.
const ELEMENTS: usize = 64;
/// Bytes collected before they are written.
const FLUSH_BYTES: usize = 256 << 10;

/// Writes the whole data set into `out`, while all shards are locked.
pub fn write<W: Write>(core: &Core, config: &Config, locked: &Locked<'_>, out: W) -> io::Result<W> {
    let mut commands = Commands::new(core, config, out, &core.functions.sources());
    for db in 0..config.databases as usize {
        for entry in locked.iter().flat_map(|shard| shard.dbs[db].keys.iter()) {
            commands.entry(db, entry.key(), Facts::of(entry), &entry.content())?;
        }
    }
    commands.flush()?;
    Ok(commands.out)
}

/// Writes a snapshot into `out`.
pub fn write_snapshot<W: Write + Send>(
    core: &Core,
    config: &Config,
    mut snapshot: Snapshot,
    may_wait: MayWait,
    mut out: W,
    is_cancelled: impl Fn() -> bool + Sync,
) -> io::Result<W> {
    let commands = Mutex::new(Some(Commands::new(core, config, &mut out, &snapshot.functions)));
    // Commands have an order, so that one thread writes them.
    snapshot.walkers = 1;
    snapshot.write(core, may_wait, || commands.lock().take().expect("there is one walker"), is_cancelled)?;
    drop(commands);
    Ok(out)
}

/// A snapshot as commands.
pub struct Commands<W> {
    out: W,
    buffer: LogBuffer,
    now_s: i64,
    db: u64,
    big: Big,
    /// Why a write has failed, until somebody is told.
    failed: Option<io::Error>,
}

/// The big value being written.
#[derive(Default)]
struct Big {
    key: Vec<u8>,
    name: &'static [u8],
    /// Elements a piece.
    width: usize,
    pieces: Vec<Vec<u8>>,
    expire_at_ms: Option<i64>,
}

impl<W: Write> Commands<W> {
    /// Begins with the function libraries.
    pub fn new(core: &Core, config: &Config, out: W, functions: &[Vec<u8>]) -> Self {
        let buffer = LogBuffer::new(config.aof_checksum, config.aof_timestamp_enabled);
        let now_s = core.clock.now_ms() / 1000;
        let mut commands = Commands { out, buffer, now_s, db: 0, big: Big::default(), failed: None };
        functions.iter().for_each(|source| commands.put_for(None, &[b"FUNCTION", b"LOAD", source]));
        commands
    }

    fn put_big(&mut self) {
        let big = std::mem::take(&mut self.big.pieces);
        let mut argv: Vec<&[u8]> = vec![self.big.name, &self.big.key];
        argv.extend(big.iter().map(Vec::as_slice));
        self.buffer.command(Some(self.db), self.now_s, argv.into_iter());
    }

    fn expire(&mut self, key: &[u8], expire_at_ms: Option<i64>) {
        if let Some(at) = expire_at_ms {
            self.put(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()]);
        }
    }

    fn collection(&mut self, key: &[u8], value: &Value) {
        match value {
            Value::String(_) => {}
            Value::List(list) => self.elements(b"RPUSH", key, 1, list.iter().map(Element::to_vec)),
            Value::Set(set) => self.elements(b"SADD", key, 1, set.iter().map(Element::to_vec)),
            Value::Hash(hash) => {
                self.elements(b"HMSET", key, 2, hash.iter().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]))
            }
            Value::ZSet(zset) => {
                let pairs = zset.iter().flat_map(|entry| {
                    let mut score = Vec::new();
                    number::append_shortest(&mut score, entry.score);
                    [score, entry.member.to_vec()]
                });
                self.elements(b"ZADD", key, 2, pairs)
            }
            Value::Stream(stream) => self.stream(key, stream),
        }
    }

    /// Commands `name key element..`, each with up to [`ELEMENTS`] groups of `width` elements.
    fn elements(&mut self, name: &[u8], key: &[u8], width: usize, elements: impl Iterator<Item = Vec<u8>>) {
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let some: Vec<Vec<u8>> = elements.by_ref().take(ELEMENTS * width).collect();
            let mut argv = vec![name, key];
            argv.extend(some.iter().map(Vec::as_slice));
            self.put(&argv);
        }
    }

    /// A SET of the first bytes and APPENDs of the others.
    fn long_string(&mut self, key: &[u8], bytes: &[u8]) {
        let mut name: &[u8] = b"SET";
        for piece in bytes.chunks(FLUSH_BYTES) {
            self.put(&[name, key, piece]);
            name = b"APPEND";
        }
    }

    fn stream(&mut self, key: &[u8], stream: &Stream) {
        let entries = &stream.entries;
        for entry in entries.range(StreamId::MIN, StreamId::MAX) {
            let id = entry.id.text();
            let fields: Vec<Vec<u8>> =
                entry.fields().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect();
            let mut argv: Vec<&[u8]> = vec![b"XADD", key, &id];
            argv.extend(fields.iter().map(Vec::as_slice));
            self.put(&argv);
        }
        if entries.is_empty() {
            self.put(&[b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]);
        }
        let (last, added, deleted) =
            (entries.last_id().text(), entries.added().to_string(), entries.max_deleted_id().text());
        self.put(&[b"XSETID", key, &last, b"ENTRIESADDED", added.as_bytes(), b"MAXDELETEDID", &deleted]);
        for (name, group) in stream.groups() {
            self.group(key, name, group);
        }
    }

    fn group(&mut self, key: &[u8], name: &[u8], group: &Group) {
        let last = group.last_id.text();
        let read = group.entries_read.map_or(-1, |read| read as i64).to_string();
        self.put(&[b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", read.as_bytes()]);
        for consumer in group.consumers().filter(|consumer| consumer.pending_len() == 0) {
            self.put(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()]);
        }
        for pending in group.pending(..) {
            let id = pending.id.text();
            let (time, count) = (pending.delivery_time_ms.to_string(), pending.delivery_count.to_string());
            let (time, count) = (time.as_bytes(), count.as_bytes());
            let argv: [&[u8]; 12] = [
                b"XCLAIM",
                key,
                name,
                pending.consumer,
                b"0",
                &id,
                b"TIME",
                time,
                b"RETRYCOUNT",
                count,
                b"JUSTID",
                b"FORCE",
            ];
            self.put(&argv);
        }
    }

    fn put(&mut self, argv: &[&[u8]]) {
        self.put_for(Some(self.db), argv);
        self.drain();
    }

    /// Writes what has been collected, if it is worth it.
    fn drain(&mut self) {
        if self.buffer.len() >= FLUSH_BYTES
            && let Err(error) = self.flush()
        {
            self.failed.get_or_insert(error);
        }
    }

    fn put_for(&mut self, db: Option<u64>, argv: &[&[u8]]) {
        self.buffer.command(db, self.now_s, argv.iter().copied());
    }
}

impl<W: Write> Output for Commands<W> {
    fn entry(&mut self, db: usize, key: &[u8], facts: Facts, content: &Content<'_, Value>) -> io::Result<()> {
        self.db = db as u64;
        match content {
            Content::Str(bytes) => self.put(&[b"SET", key, bytes]),
            Content::Int(value) => self.put(&[b"SET", key, itoa::Buffer::new().format(*value).as_bytes()]),
            Content::Object(Value::String(bytes)) => self.long_string(key, bytes),
            Content::Object(value) => self.collection(key, value),
        }
        self.expire(key, facts.expire_at_ms);
        self.drain_big()
    }

    fn begin_big(&mut self, header: &Header) {
        self.db = header.db as u64;
        let (name, width): (&[u8], usize) = match header.kind {
            BigKind::String => (b"SET", 1),
            BigKind::Hash => (b"HMSET", 2),
            BigKind::Set => (b"SADD", 1),
            BigKind::ZSet => (b"ZADD", 2),
        };
        let (key, expire_at_ms) = (header.key.to_vec(), header.facts.expire_at_ms);
        self.big = Big { key, name, width, pieces: Vec::new(), expire_at_ms };
    }

    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Bytes(bytes) => {
                self.buffer.command(Some(self.db), self.now_s, [self.big.name, &self.big.key, bytes].into_iter());
                self.big.name = b"APPEND";
                return;
            }
            Piece::Field(field, value) => self.big.pieces.extend([field.to_vec(), value.to_vec()]),
            Piece::Member(member) => self.big.pieces.push(member.to_vec()),
            Piece::Scored(member, score) => {
                let mut text = Vec::new();
                number::append_shortest(&mut text, score);
                self.big.pieces.extend([text, member.to_vec()]);
            }
        }
        if self.big.pieces.len() >= ELEMENTS * self.big.width {
            self.put_big();
        }
    }

    fn end_big(&mut self) -> io::Result<()> {
        if !self.big.pieces.is_empty() {
            self.put_big();
        }
        let big = std::mem::take(&mut self.big);
        self.expire(&big.key, big.expire_at_ms);
        self.drain_big()
    }

    fn drain_big(&mut self) -> io::Result<()> {
        self.drain();
        self.failed.take().map_or(Ok(()), Err)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer.take(Vec::new()))
    }
}
