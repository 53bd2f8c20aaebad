//! Writes the data set as the commands that make it: the base of a log under `aof-use-rdb-preamble no`.

use crate::config::Config;
use crate::keyspace::lock::Locked;
use crate::keyspace::value::{Entry, StringRef, Value};
use crate::server::Server;
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

/// Writes the whole data set into `out`.
pub fn write<W: Write>(server: &Server, config: &Config, locked: &Locked<'_>, out: W) -> io::Result<W> {
    let now_s = server.clock.now_ms() / 1000;
    let buffer = LogBuffer::new(config.aof_checksum, config.aof_timestamp_enabled);
    let mut commands = Commands { out, buffer, now_s, db: 0 };
    for source in server.functions.sources() {
        commands.put_for(None, &[b"FUNCTION", b"LOAD", &source])?;
    }
    for db in 0..config.databases as usize {
        commands.db = db as u64;
        for entry in locked.iter().flat_map(|shard| shard.dbs[db].keys.iter()) {
            commands.key(entry)?;
        }
    }
    commands.flush()?;
    Ok(commands.out)
}

struct Commands<W> {
    out: W,
    buffer: LogBuffer,
    now_s: i64,
    db: u64,
}

impl<W: Write> Commands<W> {
    fn key(&mut self, entry: &Entry) -> io::Result<()> {
        let key = entry.key();
        if let Some(value) = StringRef::of(entry) {
            self.put(&[b"SET", key, value.bytes(&mut itoa::Buffer::new())])?;
        } else if let Content::Object(value) = entry.content() {
            self.collection(key, value)?;
        }
        if let Some(at) = entry.expire_at_ms() {
            self.put(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at).as_bytes()])?;
        }
        Ok(())
    }

    fn collection(&mut self, key: &[u8], value: &Value) -> io::Result<()> {
        match value {
            Value::String(_) => Ok(()),
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
    fn elements(
        &mut self,
        name: &[u8],
        key: &[u8],
        width: usize,
        elements: impl Iterator<Item = Vec<u8>>,
    ) -> io::Result<()> {
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            let some: Vec<Vec<u8>> = elements.by_ref().take(ELEMENTS * width).collect();
            let mut argv = vec![name, key];
            argv.extend(some.iter().map(Vec::as_slice));
            self.put(&argv)?;
        }
        Ok(())
    }

    fn stream(&mut self, key: &[u8], stream: &Stream) -> io::Result<()> {
        let entries = &stream.entries;
        for entry in entries.range(StreamId::MIN, StreamId::MAX) {
            let id = entry.id.text();
            let fields: Vec<Vec<u8>> =
                entry.fields().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect();
            let mut argv: Vec<&[u8]> = vec![b"XADD", key, &id];
            argv.extend(fields.iter().map(Vec::as_slice));
            self.put(&argv)?;
        }
        if entries.is_empty() {
            self.put(&[b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"])?;
        }
        let (last, added, deleted) =
            (entries.last_id().text(), entries.added().to_string(), entries.max_deleted_id().text());
        self.put(&[b"XSETID", key, &last, b"ENTRIESADDED", added.as_bytes(), b"MAXDELETEDID", &deleted])?;
        for (name, group) in stream.groups() {
            self.group(key, name, group)?;
        }
        Ok(())
    }

    fn group(&mut self, key: &[u8], name: &[u8], group: &Group) -> io::Result<()> {
        let last = group.last_id.text();
        let read = group.entries_read.map_or(-1, |read| read as i64).to_string();
        self.put(&[b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", read.as_bytes()])?;
        for consumer in group.consumers().filter(|consumer| consumer.pending_len() == 0) {
            self.put(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()])?;
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
            self.put(&argv)?;
        }
        Ok(())
    }

    fn put(&mut self, argv: &[&[u8]]) -> io::Result<()> {
        self.put_for(Some(self.db), argv)
    }

    fn put_for(&mut self, db: Option<u64>, argv: &[&[u8]]) -> io::Result<()> {
        self.buffer.command(db, self.now_s, argv.iter().copied());
        if self.buffer.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer.take(Vec::new()))
    }
}
