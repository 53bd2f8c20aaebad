//! Writes an RDB file: an [`Encoder`] turns records into bytes in memory, a [`Writer`] puts them into a file with the
//! checksum.
//!
//! Several threads may each fill an encoder of their own and hand the bytes to one writer: keys of one database may
//! stand in any order. Nothing has to be in memory as a whole but a string that is to be compressed.

use super::checksum::crc64;
use super::format::{Kind, MAGIC, WRITTEN_VERSION, canonical_int, opcode, put_int, put_len, string_encoding};
use super::lzf::Compressor;
use super::record::{Part, StreamId, StreamMeta};
use std::io::{self, Write};

/// Encoded bytes a writer collects before it writes them.
const FLUSH_BYTES: usize = 64 << 10;
/// Buffers that have become larger than this for one string are given back.
const LARGE_BYTES: usize = 1 << 20;
/// Strings longer than this are not compressed: what they become has to be in memory before its length can be written.
const LONGEST_COMPRESSED: usize = 16 << 20;
/// Not even equal letters shrink below this, says Redis.
const SHORTEST_COMPRESSED: usize = 21;

/// Choices of whoever writes.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// The version of the file: 9 (Redis 5 and 6), 10 (7.0) or 11 (7.2; directive `rdb-version`).
    pub version: u32,
    /// Compress strings with LZF (directive `rdbcompression`).
    pub compression: bool,
    /// End the file with a checksum, not with 0 (directive `rdbchecksum`).
    pub checksum: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions { version: WRITTEN_VERSION, compression: true, checksum: true }
    }
}

/// What stands beside a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyMeta {
    /// Unix time in milliseconds.
    pub expire_at_ms: Option<i64>,
    /// Seconds since the last access; written under LRU policies.
    pub lru_idle_s: Option<u64>,
    /// Access counter; written under LFU policies.
    pub lfu_freq: Option<u8>,
}

/// Encodes records into memory.
///
/// A value follows its [`Encoder::key`]: a string by [`Encoder::string`] or [`Encoder::int`]; a packed collection by
/// [`Encoder::string`]; others by [`Encoder::count`] and their elements. The kind to announce is the one
/// [`Encoder::kind`] gives for the natural one.
#[derive(Clone)]
pub struct Encoder {
    out: Vec<u8>,
    options: WriteOptions,
    compressor: Compressor,
    compressed: Vec<u8>,
}

impl Encoder {
    /// An empty encoder.
    pub fn new(options: WriteOptions) -> Encoder {
        Encoder { out: Vec::new(), options, compressor: Compressor::default(), compressed: Vec::new() }
    }

    /// What has been encoded since the last [`Encoder::clear`].
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Forgets what has been encoded, keeping the memory if it is not much.
    pub fn clear(&mut self) {
        self.out.clear();
        if self.out.capacity() > LARGE_BYTES {
            self.out.shrink_to(FLUSH_BYTES);
        }
    }

    /// Gives away what has been encoded.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The kind to write a value as whose natural kind is `natural`: the same, or an older one that readers of the
    /// chosen version know, which has elements where the natural one is packed.
    pub fn kind(&self, natural: Kind) -> Kind {
        natural.for_version(self.options.version)
    }

    /// The first nine bytes of a file.
    pub fn header(&mut self) {
        self.out.extend_from_slice(MAGIC);
        self.out.extend_from_slice(format!("{:04}", self.options.version).as_bytes());
    }

    /// A fact about the file.
    pub fn aux(&mut self, name: &str, value: &[u8]) {
        self.out.push(opcode::AUX);
        self.string(name.as_bytes());
        self.string(value);
    }

    /// A function library. Writes nothing at version 9, whose readers know none.
    pub fn function(&mut self, code: &[u8]) {
        if self.options.version >= 10 {
            self.out.push(opcode::FUNCTION2);
            self.string(code);
        }
    }

    /// The keys that follow belong to `db`.
    pub fn select_db(&mut self, db: u64) {
        self.out.push(opcode::SELECT_DB);
        put_len(&mut self.out, db);
    }

    /// About how many keys the database has.
    pub fn resize_db(&mut self, keys: u64, expires: u64) {
        self.out.push(opcode::RESIZE_DB);
        put_len(&mut self.out, keys);
        put_len(&mut self.out, expires);
    }

    /// A key; its value comes next, written as `kind`.
    pub fn key(&mut self, key: &[u8], kind: Kind, meta: &KeyMeta) {
        if let Some(expire_at_ms) = meta.expire_at_ms {
            self.out.push(opcode::EXPIRE_AT_MS);
            self.out.extend_from_slice(&expire_at_ms.to_le_bytes());
        }
        if let Some(idle) = meta.lru_idle_s {
            self.out.push(opcode::IDLE);
            put_len(&mut self.out, idle);
        }
        if let Some(freq) = meta.lfu_freq {
            self.out.extend_from_slice(&[opcode::FREQ, freq]);
        }
        self.out.push(kind as u8);
        self.string(key);
    }

    /// The type byte that begins a DUMP payload.
    pub fn dump_kind(&mut self, kind: Kind) {
        self.out.push(kind as u8);
    }

    /// A string: as an integer if it reads as one, compressed if that helps, or as it is.
    pub fn string(&mut self, bytes: &[u8]) {
        if bytes.len() <= 11
            && let Some(value) = canonical_int(bytes)
            && put_int(&mut self.out, value)
        {
            return;
        }
        if !self.compressed_string(bytes) {
            self.begin_string(bytes.len());
            self.string_bytes(bytes);
        }
    }

    /// Begins a string that is written as it is: `len` bytes follow by [`Encoder::string_bytes`].
    pub fn begin_string(&mut self, len: usize) {
        put_len(&mut self.out, len as u64);
    }

    /// The next bytes of a string.
    pub fn string_bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The string that is the decimal text of `value`.
    pub fn int(&mut self, value: i64) {
        if !put_int(&mut self.out, value) {
            self.string(value.to_string().as_bytes());
        }
    }

    /// How many elements, fields, members, nodes, groups or consumers follow.
    pub fn count(&mut self, count: u64) {
        put_len(&mut self.out, count);
    }

    /// The score that follows a member.
    pub fn score(&mut self, score: f64) {
        self.out.extend_from_slice(&score.to_le_bytes());
    }

    /// Says whether the string that follows is a listpack of elements or one element of a quicklist.
    pub fn list_container(&mut self, packed: bool) {
        self.out.push(if packed { 2 } else { 1 });
    }

    /// Entries of a stream.
    pub fn stream_node(&mut self, master_id: StreamId, listpack: &[u8]) {
        self.string(&master_id.to_bytes());
        self.string(listpack);
    }

    /// What a stream of this `kind` knows beside its entries. The number of groups comes next.
    pub fn stream_meta(&mut self, kind: Kind, meta: &StreamMeta) {
        put_len(&mut self.out, meta.len);
        self.stream_id(meta.last_id);
        if kind != Kind::Stream {
            self.stream_id(meta.first_id.unwrap_or_default());
            self.stream_id(meta.max_deleted_id);
            put_len(&mut self.out, meta.entries_added);
        }
    }

    /// A consumer group. The number of pending entries comes next, then they, then the number of consumers.
    pub fn stream_group(&mut self, kind: Kind, name: &[u8], last_id: StreamId, entries_read: Option<i64>) {
        self.string(name);
        self.stream_id(last_id);
        if kind != Kind::Stream {
            put_len(&mut self.out, entries_read.unwrap_or(-1).cast_unsigned());
        }
    }

    /// A pending entry of a group.
    pub fn stream_pending(&mut self, id: StreamId, delivery_time_ms: i64, delivery_count: u64) {
        self.stream_owned(id);
        self.out.extend_from_slice(&delivery_time_ms.to_le_bytes());
        put_len(&mut self.out, delivery_count);
    }

    /// A consumer. The number of entries it owns comes next.
    pub fn stream_consumer(&mut self, kind: Kind, name: &[u8], seen_time_ms: i64, active_time_ms: i64) {
        self.string(name);
        self.out.extend_from_slice(&seen_time_ms.to_le_bytes());
        if kind == Kind::Stream3 {
            self.out.extend_from_slice(&active_time_ms.to_le_bytes());
        }
    }

    /// A pending entry that a consumer owns.
    pub fn stream_owned(&mut self, id: StreamId) {
        self.out.extend_from_slice(&id.to_bytes());
    }

    /// Any part of a value of this `kind` as a reader gives it; counts are the caller's. A module's value cannot be
    /// written.
    pub fn part(&mut self, kind: Kind, part: &Part) {
        match part {
            Part::String(super::record::Str::Int(value)) => self.int(*value),
            Part::String(super::record::Str::Bytes(bytes)) | Part::Packed(_, bytes) | Part::Element(bytes) => {
                self.string(bytes);
            }
            Part::ListNode { packed, bytes } => {
                self.list_container(*packed);
                self.string(bytes);
            }
            Part::Field { field, value } => {
                self.string(field);
                self.string(value);
            }
            Part::Member { member, score } => {
                self.string(member);
                self.score(*score);
            }
            Part::StreamNode { master_id, listpack } => self.stream_node(*master_id, listpack),
            Part::StreamMeta(meta) => self.stream_meta(kind, meta),
            Part::Group { name, last_id, entries_read } => self.stream_group(kind, name, *last_id, *entries_read),
            Part::Pending { id, delivery_time_ms, delivery_count } => {
                self.stream_pending(*id, *delivery_time_ms, *delivery_count);
            }
            Part::Consumer { name, seen_time_ms, active_time_ms } => {
                self.stream_consumer(kind, name, *seen_time_ms, *active_time_ms);
            }
            Part::Owned(id) => self.stream_owned(*id),
            Part::Module { .. } => {}
        }
    }

    fn stream_id(&mut self, id: StreamId) {
        put_len(&mut self.out, id.ms);
        put_len(&mut self.out, id.seq);
    }

    /// Whether a string of that length may become shorter. If so it has to be given to [`Encoder::string`] whole.
    pub fn compresses(&self, len: usize) -> bool {
        self.options.compression && (SHORTEST_COMPRESSED..=LONGEST_COMPRESSED).contains(&len)
    }

    /// Writes the string compressed and answers true, if that saves at least four bytes.
    fn compressed_string(&mut self, bytes: &[u8]) -> bool {
        if !self.compresses(bytes.len()) {
            return false;
        }
        self.compressed.clear();
        let fits = self.compressor.compress(bytes, bytes.len() - 4, &mut self.compressed);
        if fits {
            self.out.push(0xc0 | string_encoding::LZF);
            put_len(&mut self.out, self.compressed.len() as u64);
            put_len(&mut self.out, bytes.len() as u64);
            self.out.extend_from_slice(&self.compressed);
        }
        if self.compressed.capacity() > LARGE_BYTES {
            self.compressed = Vec::new();
        }
        fits
    }
}

/// Writes one RDB file into `W`.
pub struct Writer<W> {
    inner: W,
    encoder: Encoder,
    crc: u64,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file: signature and version.
    pub fn new(inner: W, options: WriteOptions) -> Writer<W> {
        let mut encoder = Encoder::new(options);
        encoder.header();
        Writer { inner, encoder, crc: 0, written: 0 }
    }

    /// Where records are encoded; call [`Writer::drain`] now and then, between any two elements.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    /// Writes what has been encoded, if it is enough to be worth it.
    pub fn drain(&mut self) -> io::Result<()> {
        if self.encoder.out.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes records that another encoder has encoded.
    pub fn encoded(&mut self, records: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.put(records)
    }

    /// Bytes of the file so far.
    pub fn written(&self) -> u64 {
        self.written + self.encoder.out.len() as u64
    }

    /// Ends the file with the checksum and gives the inner writer back, not yet synced.
    pub fn finish(mut self) -> io::Result<W> {
        self.encoder.out.push(opcode::EOF);
        self.flush()?;
        let crc = if self.encoder.options.checksum { self.crc } else { 0 };
        self.inner.write_all(&crc.to_le_bytes())?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.encoder.take();
        self.put(&bytes)?;
        self.encoder.out = bytes;
        self.encoder.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.encoder.options.checksum {
            self.crc = crc64(self.crc, bytes);
        }
        self.written += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}
