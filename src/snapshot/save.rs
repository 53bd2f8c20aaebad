//! Writes the data set to the RDB file: SAVE, BGSAVE, the save points, SHUTDOWN.

use crate::config::Config;
use crate::core::Core;
use crate::keyspace::lock::{Locked, MayWait};
use crate::keyspace::value::Value;
use crate::keyspace::walk::{BigKind, Facts, Header, Piece};
use crate::os::process;
use crate::snapshot::convert;
use crate::snapshot::state::Persistence;
use crate::snapshot::walker::{Output, Snapshot};
use crate::util::sync::{Mutex, MutexGuard};
use redstart_persistence::file::{Dir, File};
use redstart_persistence::rdb::{Encoder, Kind, WriteOptions, Writer};
use redstart_types::entry::Content;
use redstart_types::table::Keyed;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes after which what was written is brought to disk (`rdb-save-incremental-fsync`), so that the end does not
/// have to wait for all of it.
const AUTOSYNC_BYTES: u64 = 4 << 20;

/// Why a save failed; `Display` is what Redis logs.
#[derive(Debug)]
pub struct SaveError {
    what: What,
    file: String,
    dir: PathBuf,
    error: io::Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Open,
    Write,
    Rename,
    SyncDir,
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SaveError { what, file, dir, error } = self;
        let dir = dir.display();
        match what {
            What::Open => {
                write!(f, "Failed opening the temp RDB file {file} (in server root dir {dir}) for saving: {error}")
            }
            What::Write => write!(f, "Write error while saving DB to the disk({file}): {error}"),
            What::Rename => write!(
                f,
                "Error moving temp DB file on the final destination {file} (in server root dir {dir}): {error}"
            ),
            What::SyncDir => write!(f, "Failed to fsync directory while saving DB: {error}"),
        }
    }
}

impl std::error::Error for SaveError {}

/// Starts a save on a thread of its own; all shards are locked: this is its instant. False if one is under way already,
/// or there is no thread.
pub fn start(core: &Arc<Core>, saves: &Arc<Persistence>, locked: &mut Locked<'_>) -> bool {
    let now_s = core.clock.now_ms() / 1000;
    if !saves.begin(now_s) {
        return false;
    }
    core.log.notice(format_args!("Background saving started by pid {}", std::process::id()));
    let own = (core.clone(), saves.clone());
    let (sender, receiver) = std::sync::mpsc::channel();
    let run = move |may_wait| {
        if let Ok((dirty, snapshot)) = receiver.recv() {
            in_background(&own.0, &own.1, may_wait, dirty, snapshot);
        }
    };
    if let Err(error) = core.background.spawn("bgsave", run) {
        core.log.warning(format_args!("Can't save in background: fork: {error}"));
        saves.end(now_s, false);
        return false;
    }
    let Some(snapshot) = Snapshot::begin(core, saves, locked) else {
        saves.end(now_s, false);
        return false;
    };
    let dirty = core.stats.dirty.load(Ordering::Relaxed);
    sender.send((dirty, snapshot)).expect("the thread that has just been started waits for it");
    true
}

/// Writes a snapshot, at whose instant there were `dirty` changes since the save before.
fn in_background(core: &Core, saves: &Persistence, may_wait: MayWait, dirty: i64, snapshot: Snapshot) {
    let config = core.config.load();
    let is_cancelled = || saves.is_cancelled() || core.stop.is_requested();
    let write = |file| write_snapshot(core, &config, snapshot, may_wait, file, false, is_cancelled);
    let result = write_file(core, saves, &config, Place::Background, write, is_cancelled);
    let now_s = core.clock.now_ms() / 1000;
    let kept = saves.kept.peak_bytes();
    saves.last_save_kept.store(kept, Ordering::Relaxed);
    match &result {
        _ if is_cancelled() => {
            core.log.notice("Background saving terminated by signal 10");
            return saves.end_cancelled();
        }
        Ok(()) => {
            core.log.notice(format_args!("Old values kept for the snapshot: at most {} MB", kept >> 20));
            core.log.notice("Background saving terminated with success");
            core.stats.dirty.fetch_sub(dirty, Ordering::Relaxed);
        }
        Err(error) => {
            core.log.warning(error);
            core.log.warning("Background saving error");
        }
    }
    saves.end(now_s, result.is_ok());
}

/// SAVE: writes the file while all shards are locked, and counts it.
pub fn in_foreground(core: &Core, saves: &Persistence, config: &Config, locked: &Locked<'_>) -> Result<(), SaveError> {
    saves.count_save();
    write_file(core, saves, config, Place::Foreground, |file| write(core, config, locked, file, false), || false)?;
    core.stats.dirty.store(0, Ordering::Relaxed);
    saves.saved(core.clock.now_ms() / 1000);
    Ok(())
}

/// Where a save is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Foreground,
    Background,
}

/// The name of the file while it is being written. Two saves never write the same: one in the foreground may overtake one
/// that is being called off.
fn temp_name(saves: &Persistence, place: Place) -> String {
    let pid = std::process::id();
    match place {
        Place::Foreground => format!("temp-{pid}.rdb"),
        Place::Background => format!("temp-{pid}-{}.rdb", saves.saves().count),
    }
}

/// Removes what a save in the foreground has written so far: the process ends.
pub fn remove_unfinished(core: &Core, saves: &Persistence) {
    remove_quietly(&core.config.load().dir, &temp_name(saves, Place::Foreground));
}

/// Removes the files that saves and full syncs of killed processes have left in `dir`. Files of processes that live are
/// theirs: several servers may save into one directory.
pub fn remove_leftovers(core: &Core, config: &Config) {
    let dir = core.disk(&config.dir);
    // What cannot be read or removed is in nobody's way.
    for name in dir.names().unwrap_or_default() {
        let Some(pid) = pid_of_temporary(&name) else { continue };
        // A process of this number before this one: in a container all have the same.
        let is_former_self = pid == std::process::id() && core.process.is_some();
        if (is_former_self || !process::is_alive(pid)) && dir.remove(&name).is_ok() {
            core.log.notice(format_args!("Removed the temporary file {name} of a process that was killed"));
        }
    }
}

/// Which process has made this temporary file: `temp-PID.rdb`, `temp-PID-NUMBER.rdb`, `temp-sync-PID-NUMBER.rdb`.
fn pid_of_temporary(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("temp-")?.strip_suffix(".rdb")?;
    let rest = rest.strip_prefix("sync-").unwrap_or(rest);
    let (pid, number) = rest.split_once('-').unwrap_or((rest, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(pid) && is_number(number)).then(|| pid.parse().ok()).flatten()
}

/// Lets `write` write the file under a temporary name, and puts it in the place of the old one, unless `is_cancelled` by
/// then: a save in the foreground that called this one off has a newer file there.
fn write_file(
    core: &Core,
    saves: &Persistence,
    config: &Config,
    place: Place,
    write: impl FnOnce(Syncing) -> io::Result<Syncing>,
    is_cancelled: impl Fn() -> bool,
) -> Result<(), SaveError> {
    let dir = core.disk(&config.dir);
    let temp = temp_name(saves, place);
    let failed = |what, file: &str, error| SaveError { what, file: file.to_owned(), dir: config.dir.clone(), error };
    let created = dir.create(&temp).map(|file| Syncing::new(file, config.rdb_save_incremental_fsync));
    let written = match created {
        Ok(file) => write(file).and_then(|mut file| file.sync()).map_err(|error| failed(What::Write, &temp, error)),
        // The snapshot must be brought to its end all the same.
        Err(error) => {
            drop(write(Syncing::failing()));
            Err(failed(What::Open, &temp, error))
        }
    };
    let installed = written.and_then(|()| {
        let _one_at_a_time = saves.installing.lock();
        let renamed =
            if is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { dir.rename(&temp, &config.dbfilename) };
        renamed.map_err(|error| failed(What::Rename, &config.dbfilename, error))
    });
    if installed.is_err() {
        remove_quietly(&config.dir, &temp);
        return installed;
    }
    dir.sync().map_err(|error| failed(What::SyncDir, &config.dbfilename, error))?;
    core.log.notice("DB saved on disk");
    Ok(())
}

fn remove_quietly(dir: &Path, name: &str) {
    // A file that cannot be removed is overwritten by the next save.
    let _ = std::fs::remove_file(dir.join(name));
}

/// What goes into a file.
#[derive(Debug, Clone, Copy)]
pub struct Contents {
    pub data: bool,
    pub functions: bool,
    /// It is the base of a log.
    pub aof_base: bool,
}

/// Writes the whole data set as one RDB file into `out`, while all shards are locked; `aof_base` says that it is the
/// base of a log.
pub fn write<W: Write + Send>(
    core: &Core,
    config: &Config,
    locked: &Locked<'_>,
    out: W,
    aof_base: bool,
) -> io::Result<W> {
    write_part(core, config, locked, out, Contents { data: true, functions: true, aof_base })
}

/// Writes some of the data set as one RDB file into `out`.
pub fn write_part<W: Write + Send>(
    core: &Core,
    config: &Config,
    locked: &Locked<'_>,
    out: W,
    contents: Contents,
) -> io::Result<W> {
    let databases = if contents.data { config.databases as usize } else { 0 };
    let counts: Vec<_> = (0..databases).map(|db| counts(locked, db)).collect();
    let functions = if contents.functions { core.functions.sources() } else { Vec::new() };
    let file = RdbFile::begin(core, config, out, &functions, contents.aof_base, &counts);
    let file = Mutex::new(file);
    let mut rdb = RdbOutput::new(&file, config, core.clock.now_ms());
    for db in 0..databases {
        for entry in locked.iter().flat_map(|shard| shard.dbs[db].keys.iter()) {
            rdb.entry(db, entry.key(), Facts::of(entry), &entry.content())?;
            if config.rdb_key_save_delay != 0 {
                super::dawdle(config.rdb_key_save_delay, &core.random);
            }
        }
    }
    rdb.flush()?;
    drop(rdb);
    file.into_inner().writer.finish()
}

/// How many keys a database has, and how many of them expire.
fn counts(locked: &Locked<'_>, db: usize) -> (u64, u64) {
    let parts = locked.iter().map(|shard| &shard.dbs[db]);
    parts.fold((0, 0), |(keys, expires), part| (keys + part.keys.len() as u64, expires + part.expires_len() as u64))
}

/// Writes a snapshot as one RDB file into `out`.
pub fn write_snapshot<W: Write + Send>(
    core: &Core,
    config: &Config,
    snapshot: Snapshot,
    may_wait: MayWait,
    out: W,
    aof_base: bool,
    is_cancelled: impl Fn() -> bool + Sync,
) -> io::Result<W> {
    let file = RdbFile::begin(core, config, out, &snapshot.functions, aof_base, &snapshot.counts);
    let file = Mutex::new(file);
    let now_ms = core.clock.now_ms();
    snapshot.write(core, may_wait, || RdbOutput::new(&file, config, now_ms), is_cancelled)?;
    file.into_inner().writer.finish()
}

/// An RDB file that several threads write.
struct RdbFile<W> {
    writer: Writer<W>,
    /// The database of the last key.
    db: Option<usize>,
}

impl<W: Write> RdbFile<W> {
    /// Begins a file with what stands before all keys. `counts` are the keys, and the keys that expire, by database.
    fn begin(
        core: &Core,
        config: &Config,
        out: W,
        functions: &[Vec<u8>],
        aof_base: bool,
        counts: &[(u64, u64)],
    ) -> Self {
        let mut writer = Writer::new(out, options(config));
        write_aux(core, &mut writer, core.clock.now_ms(), aof_base);
        functions.iter().for_each(|source| writer.encoder().function(source));
        let mut file = RdbFile { writer, db: None };
        for (db, (keys, expires)) in counts.iter().enumerate().filter(|(_, (keys, _))| *keys > 0) {
            file.select(db);
            file.writer.encoder().resize_db(*keys, *expires);
        }
        file
    }

    fn select(&mut self, db: usize) {
        if self.db != Some(db) {
            self.db = Some(db);
            self.writer.encoder().select_db(db as u64);
        }
    }
}

/// One thread's part of an RDB file: keys are encoded here and put into the file many at a time.
struct RdbOutput<'a, W> {
    encoder: Encoder,
    part: Part<'a, W>,
    /// A long string on its way into one compressed one.
    collected: Vec<u8>,
    collects: bool,
    config: &'a Config,
    now_ms: i64,
}

/// Where the encoded bytes of one thread go.
struct Part<'a, W> {
    file: &'a Mutex<RdbFile<W>>,
    /// The file while a key longer than the buffer is being written: it must be in one piece.
    held: Option<MutexGuard<'a, RdbFile<W>>>,
    /// The databases of the first and the last key in the encoder.
    first_db: usize,
    db: usize,
}

/// Encoded bytes that are worth a visit to the file.
const FLUSH_BYTES: usize = 64 << 10;

impl<'a, W: Write> RdbOutput<'a, W> {
    fn new(file: &'a Mutex<RdbFile<W>>, config: &'a Config, now_ms: i64) -> Self {
        let part = Part { file, held: None, first_db: 0, db: 0 };
        let encoder = Encoder::new(options(config));
        RdbOutput { encoder, part, collected: Vec::new(), collects: false, config, now_ms }
    }

    fn select(&mut self, db: usize) {
        if self.encoder.bytes().is_empty() {
            self.part.first_db = db;
        } else if self.part.db != db {
            self.encoder.select_db(db as u64);
        }
        self.part.db = db;
    }
}

impl<W: Write> Part<'_, W> {
    /// Writes what has been encoded, if that is worth it, and holds the file: the rest of the key must follow.
    fn drain_within(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        if encoder.bytes().len() < FLUSH_BYTES {
            return Ok(());
        }
        self.held.get_or_insert_with(|| self.file.lock());
        self.flush(encoder)
    }

    fn flush(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        if encoder.bytes().is_empty() {
            return Ok(());
        }
        let mut guard;
        let file = match &mut self.held {
            Some(file) => file,
            None => {
                guard = self.file.lock();
                &mut guard
            }
        };
        file.select(self.first_db);
        file.db = Some(self.db);
        let written = file.writer.encoded(encoder.bytes());
        encoder.clear();
        self.first_db = self.db;
        written
    }

    /// Writes the end of a key, if its beginning has been written, and gives the file back.
    fn end_key(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        if self.held.is_none() {
            return Ok(());
        }
        let flushed = self.flush(encoder);
        self.held = None;
        flushed
    }
}

impl<W: Write> Output for RdbOutput<'_, W> {
    fn entry(&mut self, db: usize, key: &[u8], facts: Facts, content: &Content<'_, Value>) -> io::Result<()> {
        self.select(db);
        let kind = self.encoder.kind(convert::natural_kind(content));
        self.encoder.key(key, kind, &convert::meta(facts, self.config, self.now_ms));
        let (part, mut drained) = (&mut self.part, Ok(()));
        convert::encode_by(&mut self.encoder, kind, content, &mut |encoder| match &drained {
            Ok(()) => drained = part.drain_within(encoder),
            Err(_) => encoder.clear(),
        });
        drained?;
        self.part.end_key(&mut self.encoder)?;
        self.drain()
    }

    fn begin_big(&mut self, header: &Header) {
        self.select(header.db);
        let kind = match header.kind {
            BigKind::String => Kind::String,
            BigKind::Hash => Kind::Hash,
            BigKind::Set => Kind::Set,
            BigKind::ZSet => Kind::Zset2,
        };
        self.encoder.key(&header.key, kind, &convert::meta(header.facts, self.config, self.now_ms));
        self.collects = header.kind == BigKind::String && self.encoder.compresses(header.len);
        if self.collects {
            self.collected.reserve_exact(header.len);
        } else {
            self.encoder.count(header.len as u64);
        }
    }

    fn piece(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Bytes(bytes) if self.collects => self.collected.extend_from_slice(bytes),
            Piece::Bytes(bytes) => self.encoder.string_bytes(bytes),
            Piece::Field(field, value) => {
                self.encoder.string(field);
                self.encoder.string(value);
            }
            Piece::Member(member) => self.encoder.string(member),
            Piece::Scored(member, score) => {
                self.encoder.string(member);
                self.encoder.score(score);
            }
        }
    }

    fn drain_big(&mut self) -> io::Result<()> {
        self.part.drain_within(&mut self.encoder)
    }

    fn end_big(&mut self) -> io::Result<()> {
        if self.collects {
            self.encoder.string(&std::mem::take(&mut self.collected));
        }
        self.part.end_key(&mut self.encoder)?;
        self.drain()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.flush(&mut self.encoder)
    }
}

impl<W: Write> RdbOutput<'_, W> {
    /// Writes what has been collected, if it is worth it.
    fn drain(&mut self) -> io::Result<()> {
        if self.encoder.bytes().len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }
}

/// How files are written under this configuration.
pub fn options(config: &Config) -> WriteOptions {
    let (compression, checksum) = (config.rdbcompression, config.rdbchecksum);
    WriteOptions { version: config.rdb_version, compression, checksum }
}

fn write_aux<W: Write>(core: &Core, writer: &mut Writer<W>, now_ms: i64, aof_base: bool) {
    let encoder = writer.encoder();
    encoder.aux("redis-ver", crate::os::banner::REDIS_VERSION.as_bytes());
    encoder.aux("redis-bits", b"64");
    encoder.aux("ctime", (now_ms / 1000).to_string().as_bytes());
    encoder.aux("used-mem", core.used_memory.bytes().to_string().as_bytes());
    encoder.aux("aof-base", if aof_base { b"1" } else { b"0" });
}

/// A file that is brought to disk bit by bit while it is being written.
pub struct Syncing {
    /// None: every write fails.
    file: Option<Box<dyn File>>,
    unsynced: u64,
    incremental: bool,
}

impl Syncing {
    /// `incremental` is `rdb-save-incremental-fsync` or `aof-rewrite-incremental-fsync`.
    pub fn new(file: Box<dyn File>, incremental: bool) -> Self {
        Syncing { file: Some(file), unsynced: 0, incremental }
    }

    /// A file that takes nothing.
    fn failing() -> Self {
        Syncing { file: None, unsynced: 0, incremental: false }
    }

    /// Brings all of it to disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        self.file.as_mut().map_or_else(|| Err(io::ErrorKind::NotFound.into()), |file| file.sync())
    }
}

impl Write for Syncing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let len = file.write(bytes)?;
        self.unsynced += len as u64;
        if self.incremental && self.unsynced >= AUTOSYNC_BYTES {
            self.sync()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
