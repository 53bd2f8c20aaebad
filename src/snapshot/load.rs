//! Reads an RDB file into the keyspace: at the start, for DEBUG RELOAD, and as the base of a log.

use crate::config::Config;
use crate::core::Core;
use crate::keyspace::lock::{Locked, MayWait, ShardSet, Shards};
use crate::keyspace::value::{Entry, Value};
use crate::os::log::Log;
use crate::snapshot::convert::{Builder, Limits, Loaded, lru_field};
use crate::snapshot::state::Persistence;
use redstart_persistence::rdb::{self, ChecksumState, Part, RdbError, RdbErrorKind, ReadOptions, Reader, Record, Str};
use redstart_script::ScriptError;
use redstart_types::entry::{INLINE_MAX, NewContent};
use redstart_types::table::{Keyed, hash_key};
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, SyncSender};

/// What a load is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purpose {
    /// Commands of a log follow, which need every key as it was: keys whose time is over are loaded too.
    pub log_follows: bool,
    /// A key that is there already is replaced; otherwise it is an error.
    pub merge: bool,
    /// It is a copy of another server's data set: what it tells is of no interest to the log.
    pub is_copy: bool,
}

/// What was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub keys: u64,
    /// Keys whose time was over.
    pub expired: u64,
    /// Keys without elements, which older Redis wrote.
    pub empty: u64,
    /// Bytes of the RDB part.
    pub bytes: u64,
}

/// Why a file could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It could not be opened.
    Open(io::Error),
    Rdb(RdbError),
    /// More databases than `databases`.
    TooManyDatabases(u32),
    DuplicateKey {
        db: u64,
        key: Vec<u8>,
    },
    /// A function library does not load.
    Function(ScriptError),
    /// The server ends before all is loaded.
    ServerEnds,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Open(error) => write!(f, "can't open the RDB file for reading: {error}"),
            LoadError::Rdb(error) => write!(f, "Error reading the RDB file at {error}"),
            LoadError::Function(error) => write!(f, "Failed creating the library: {error}"),
            LoadError::ServerEnds => f.write_str("The server ends before the data set is loaded"),
            LoadError::TooManyDatabases(limit) => write!(
                f,
                "FATAL: Data file was created with a Redis server configured to handle more than {limit} databases. Exiting"
            ),
            LoadError::DuplicateKey { db, key } => {
                write!(f, "RDB has duplicated key '{}' in DB {db}", String::from_utf8_lossy(key))
            }
        }
    }
}

impl From<RdbError> for LoadError {
    fn from(error: RdbError) -> Self {
        LoadError::Rdb(error)
    }
}

/// Where loaded keys go.
pub enum Target<'a, 'g> {
    /// Shards that are free: each key locks its own. A second thread inserts.
    Shards(&'a Shards, MayWait),
    /// Shards that are all locked already.
    Locked(&'a mut Locked<'g>),
}

/// A key that has been read.
struct LoadedKey {
    db: usize,
    hash: u64,
    entry: Entry,
}

/// The way of loaded keys into the shards.
enum Way<'a, 'g> {
    /// By another thread, many at a time: reading and inserting take about as long.
    Thread(SyncSender<Vec<LoadedKey>>, Vec<LoadedKey>),
    Locked(&'a mut Locked<'g>),
}

/// Keys that go to the other thread at a time, and how often before the reader waits for it.
const KEYS_A_BATCH: usize = 256;
const BATCHES: usize = 8;

impl Way<'_, '_> {
    /// Puts a key in, or sends it on its way.
    fn insert(&mut self, key: LoadedKey, merge: bool) -> Result<(), LoadError> {
        match self {
            Way::Locked(locked) => insert(locked, key, merge),
            Way::Thread(_, batch) => {
                batch.push(key);
                if batch.len() == KEYS_A_BATCH { self.send() } else { Ok(()) }
            }
        }
    }

    /// Sends what is left.
    fn send(&mut self) -> Result<(), LoadError> {
        let Way::Thread(sender, batch) = self else { return Ok(()) };
        let batch = std::mem::replace(batch, Vec::with_capacity(KEYS_A_BATCH));
        // The other thread ends before this one only for a reason that it gives when it is joined.
        sender.send(batch).map_err(|_| LoadError::Open(io::ErrorKind::BrokenPipe.into()))
    }
}

fn insert_all(
    shards: &Shards,
    may_wait: MayWait,
    batches: &Receiver<Vec<LoadedKey>>,
    merge: bool,
) -> Result<(), LoadError> {
    for batch in batches {
        batch.iter().for_each(|key| shards.prefetch_bucket(key.db, key.hash));
        for key in batch {
            let mut set = ShardSet::NONE;
            set.add(shards.shard_of(key.hash));
            insert(&mut shards.lock(set, may_wait), key, merge)?;
        }
    }
    Ok(())
}

fn insert(locked: &mut Locked<'_>, LoadedKey { db, hash, entry }: LoadedKey, merge: bool) -> Result<(), LoadError> {
    let part = &mut locked.shard_mut(hash).dbs[db];
    if part.keys.get(hash, entry.key()).is_some() {
        if !merge {
            return Err(LoadError::DuplicateKey { db: db as u64, key: entry.key().to_vec() });
        }
        part.discard(hash, entry.key());
    }
    part.insert(hash, entry);
    Ok(())
}

/// Loads the RDB file at `path`. Logs as Redis does.
pub fn file(
    core: &Core,
    saves: &Persistence,
    config: &Config,
    path: &Path,
    target: &mut Target<'_, '_>,
    purpose: Purpose,
) -> Result<Tally, LoadError> {
    let file = std::fs::File::open(path).map_err(LoadError::Open)?;
    read(core, saves, config, file, target, purpose)
}

/// Loads the RDB part that `inner` begins with.
pub fn read<R: Read>(
    core: &Core,
    saves: &Persistence,
    config: &Config,
    inner: R,
    target: &mut Target<'_, '_>,
    purpose: Purpose,
) -> Result<Tally, LoadError> {
    let checksum = config.rdbchecksum && !saves.skips_checksum();
    let options = ReadOptions { checksum, ..ReadOptions::default() };
    let mut loader = Loader {
        core,
        saves,
        log: if purpose.is_copy { Log::nowhere() } else { core.log.clone() },
        config,
        limits: Limits::new(config, core.shards.seed()),
        purpose,
        now_ms: core.clock.now_ms(),
        tally: Tally::default(),
    };
    let mut reader = Reader::new(inner, options)?;
    match target {
        Target::Locked(locked) => loader.records(&mut reader, &mut Way::Locked(locked))?,
        Target::Shards(shards, may_wait) => std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(BATCHES);
            let inserter = scope.spawn(move || insert_all(shards, *may_wait, &receiver, purpose.merge));
            let read = loader.records(&mut reader, &mut Way::Thread(sender, Vec::new()));
            // Why the other thread has ended is why this one could not go on.
            inserter.join().expect("inserting does not panic")?;
            read
        })?,
    }
    loader.tally.bytes = reader.offset();
    let Tally { keys, expired, empty, .. } = loader.tally;
    let skipped = if empty > 0 { format!(", empty keys skipped: {empty}") } else { String::new() };
    loader.log.notice(format_args!("Done loading RDB, keys loaded: {keys}, keys expired: {expired}{skipped}."));
    saves.loading.keys_loaded.store(keys, Ordering::Relaxed);
    saves.loading.keys_expired.store(expired, Ordering::Relaxed);
    Ok(loader.tally)
}

struct Loader<'a> {
    core: &'a Core,
    saves: &'a Persistence,
    log: Log,
    config: &'a Config,
    limits: Limits,
    purpose: Purpose,
    now_ms: i64,
    tally: Tally,
}

/// Keys without elements that are named in the log.
const EMPTY_KEYS_NAMED: u64 = 10;

impl Loader<'_> {
    fn records<R: Read>(&mut self, reader: &mut Reader<R>, way: &mut Way<'_, '_>) -> Result<(), LoadError> {
        loop {
            match reader.record()? {
                Record::Aux { name, value } => self.aux(&name, &value),
                Record::SelectDb(db) if db >= u64::from(self.config.databases) => {
                    return Err(LoadError::TooManyDatabases(self.config.databases));
                }
                Record::SelectDb(_) | Record::ResizeDb { .. } => {}
                Record::Function(code) => self.function(&code)?,
                Record::ModuleAux { name } => {
                    return Err(missing_module(reader.offset(), "AUX module data", "", &name));
                }
                Record::Key(_) if self.core.stop.is_requested() => return Err(LoadError::ServerEnds),
                Record::Key(key) => {
                    self.key(reader, key, way)?;
                    if self.config.key_load_delay != 0 {
                        // It may have been changed meanwhile.
                        super::dawdle(self.core.config.load().key_load_delay, &self.core.random);
                    }
                }
                Record::Eof(checksum) => {
                    if checksum == ChecksumState::Disabled {
                        let text = "RDB file was saved with checksum disabled: no check performed.";
                        self.log.notice(text);
                    }
                    return way.send();
                }
            }
            self.saves.loading.loaded_bytes.store(reader.offset(), Ordering::Relaxed);
        }
    }

    fn function(&self, code: &[u8]) -> Result<(), LoadError> {
        let Core { functions, clock, .. } = self.core;
        match functions.load(code, self.purpose.merge, &self.log, clock) {
            Ok(_) => Ok(()),
            Err(error) => Err(LoadError::Function(error)),
        }
    }

    fn key<R: Read>(&mut self, reader: &mut Reader<R>, key: rdb::Key, way: &mut Way<'_, '_>) -> Result<(), LoadError> {
        let mut builder = None;
        while let Some(part) = reader.part()? {
            if let Part::Module { name } = &part {
                return Err(missing_module(reader.offset(), "module data", "type ", name));
            }
            // The hint is known only once the first part has come: it is one less than the whole.
            let hint = reader.parts_hint();
            let builder = builder.get_or_insert_with(|| Builder::new(&self.limits, key.kind, hint));
            builder.part(part).map_err(|unfit| corrupt(reader.offset(), unfit.0))?;
        }
        let built = match builder {
            Some(builder) => builder.finish().map_err(|unfit| corrupt(reader.offset(), unfit.0))?,
            None => None,
        };
        let Some(built) = built else {
            if self.tally.empty < EMPTY_KEYS_NAMED {
                let name = String::from_utf8_lossy(&key.key);
                self.log.notice(format_args!("rdbLoadObject skipping empty key: {name}"));
            }
            self.tally.empty += 1;
            return Ok(());
        };
        let is_over = key.expire_at_ms.is_some_and(|at| at < self.now_ms);
        if is_over && !self.purpose.log_follows {
            self.tally.expired += 1;
            return Ok(());
        }
        let mut entry = entry(&key.key, built, key.expire_at_ms);
        if let Some(lru) = lru_field(self.config, self.now_ms, key.lru_idle_s, key.lfu_freq) {
            entry.set_lru(lru);
        } else {
            entry.set_lru((self.now_ms / 1000) as u32 & 0xff_ffff);
        }
        let hash = hash_key(self.core.shards.seed(), &key.key);
        way.insert(LoadedKey { db: key.db as usize, hash, entry }, self.purpose.merge)?;
        self.tally.keys += 1;
        Ok(())
    }

    fn aux(&self, name: &[u8], value: &[u8]) {
        let log = &self.log;
        let text = String::from_utf8_lossy(value);
        let number = || text.parse::<i64>().unwrap_or(0);
        match name {
            [b'%', ..] => log.notice(format_args!("RDB '{}': {text}", String::from_utf8_lossy(name))),
            b"redis-ver" => log.notice(format_args!("Loading RDB produced by version {text}")),
            b"ctime" => log.notice(format_args!("RDB age {} seconds", (self.now_ms / 1000 - number()).max(0))),
            b"used-mem" => {
                let bytes = number();
                log.notice(format_args!("RDB memory usage when created {:.2} Mb", bytes as f64 / f64::from(1 << 20)));
                let bytes = u64::try_from(bytes).unwrap_or(0);
                self.saves.loading.saved_used_memory.store(bytes, Ordering::Relaxed);
            }
            b"aof-preamble" if number() != 0 => log.notice("RDB has an AOF tail"),
            b"aof-base" if number() != 0 => log.notice("RDB is base AOF"),
            _ => {}
        }
    }
}

/// An entry that holds a loaded value.
pub fn entry(key: &[u8], loaded: Loaded, expire_at_ms: Option<i64>) -> Entry {
    let bytes = match loaded {
        Loaded::String(Str::Int(value)) => return Entry::new(key, NewContent::Int(value), expire_at_ms),
        Loaded::String(Str::Bytes(bytes)) => bytes,
        Loaded::Collection(value) => return Entry::new(key, NewContent::Object(value), expire_at_ms),
    };
    if bytes.len() > INLINE_MAX {
        return Entry::new(key, NewContent::Object(Value::long_string(bytes)), expire_at_ms);
    }
    let content = match redstart_types::number::parse_int(&bytes) {
        Some(value) => NewContent::Int(value),
        None => NewContent::Str(&bytes),
    };
    Entry::new(key, content, expire_at_ms)
}

fn corrupt(offset: u64, text: impl Into<String>) -> LoadError {
    LoadError::Rdb(RdbError { offset, kind: RdbErrorKind::Corrupt(text.into()) })
}

/// Without its module, data of a module would be lost by the next save: it is refused, by name. Source: Redis 7.2.
fn missing_module(offset: u64, what: &str, kind: &str, name: &str) -> LoadError {
    corrupt(offset, format!("The RDB file contains {what} I can't load: no matching module {kind}'{name}'"))
}
