//! Writes the data set to the RDB file: SAVE, BGSAVE, the save points, SHUTDOWN.

use crate::config::Config;
use crate::keyspace::lock::Locked;
use crate::server::Server;
use crate::snapshot::convert;
use redstart_persistence::file::{Dir, DiskDir, File};
use redstart_persistence::rdb::{WriteOptions, Writer};
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

/// Starts a save on a thread of its own. The caller has not begun one: false if one is under way already.
pub fn start(server: &Arc<Server>) -> bool {
    let now_s = server.clock.now_ms() / 1000;
    if !server.persistence.begin(now_s) {
        return false;
    }
    server.log.notice(format_args!("Background saving started by pid {}", std::process::id()));
    let own = server.clone();
    let thread = std::thread::Builder::new().name("bgsave".to_owned()).spawn(move || in_background(&own));
    if let Err(error) = thread {
        server.log.warning(format_args!("Can't save in background: fork: {error}"));
        server.persistence.end(now_s, false);
        return false;
    }
    true
}

fn in_background(server: &Arc<Server>) {
    let config = server.config.load();
    let locked = server.shards.lock(server.shards.all());
    let dirty = server.stats.dirty.load(Ordering::Relaxed);
    let result = write_file(server, &config, &locked);
    drop(locked);
    let now_s = server.clock.now_ms() / 1000;
    match &result {
        Ok(()) => {
            server.log.notice("Background saving terminated with success");
            server.stats.dirty.fetch_sub(dirty, Ordering::Relaxed);
        }
        Err(error) => {
            server.log.warning(error);
            server.log.warning("Background saving error");
        }
    }
    server.persistence.end(now_s, result.is_ok());
}

/// SAVE: writes the file while all shards are locked, and counts it.
pub fn in_foreground(server: &Server, config: &Config, locked: &Locked<'_>) -> Result<(), SaveError> {
    server.persistence.count_save();
    write_file(server, config, locked)?;
    server.stats.dirty.store(0, Ordering::Relaxed);
    server.persistence.saved(server.clock.now_ms() / 1000);
    Ok(())
}

/// Writes the file under a temporary name and puts it in the place of the old one.
fn write_file(server: &Server, config: &Config, locked: &Locked<'_>) -> Result<(), SaveError> {
    let dir = DiskDir::new(&config.dir);
    let temp = format!("temp-{}.rdb", std::process::id());
    let failed = |what, file: &str, error| SaveError { what, file: file.to_owned(), dir: config.dir.clone(), error };
    let file = dir.create(&temp).map_err(|error| failed(What::Open, &temp, error))?;
    let file = Syncing { file, unsynced: 0, incremental: config.rdb_save_incremental_fsync };
    let written = write(server, config, locked, file, false).and_then(|mut file| file.file.sync());
    if let Err(error) = written {
        remove_quietly(&config.dir, &temp);
        return Err(failed(What::Write, &temp, error));
    }
    if let Err(error) = dir.rename(&temp, &config.dbfilename) {
        remove_quietly(&config.dir, &temp);
        return Err(failed(What::Rename, &config.dbfilename, error));
    }
    dir.sync().map_err(|error| failed(What::SyncDir, &config.dbfilename, error))?;
    server.log.notice("DB saved on disk");
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

/// Writes the whole data set as one RDB file into `out`; `aof_base` says that it is the base of a log.
pub fn write<W: Write>(server: &Server, config: &Config, locked: &Locked<'_>, out: W, aof_base: bool) -> io::Result<W> {
    write_part(server, config, locked, out, Contents { data: true, functions: true, aof_base })
}

/// Writes some of the data set as one RDB file into `out`.
pub fn write_part<W: Write>(
    server: &Server,
    config: &Config,
    locked: &Locked<'_>,
    out: W,
    contents: Contents,
) -> io::Result<W> {
    let now_ms = server.clock.now_ms();
    let mut writer = Writer::new(out, options(config));
    write_aux(server, &mut writer, now_ms, contents.aof_base);
    if contents.functions {
        server.functions.sources().iter().for_each(|source| writer.encoder().function(source));
    }
    let databases = if contents.data { config.databases as usize } else { 0 };
    for db in 0..databases {
        let parts = || locked.iter().map(move |shard| &shard.dbs[db]);
        let keys: usize = parts().map(|part| part.keys.len()).sum();
        if keys == 0 {
            continue;
        }
        writer.encoder().select_db(db as u64);
        writer.encoder().resize_db(keys as u64, parts().map(|part| part.expires_len() as u64).sum());
        for entry in parts().flat_map(|part| part.keys.iter()) {
            let content = entry.content();
            let encoder = writer.encoder();
            let kind = encoder.kind(convert::natural_kind(&content));
            encoder.key(entry.key(), kind, &convert::meta(entry, config, now_ms));
            convert::encode(encoder, kind, &content);
            writer.drain()?;
        }
    }
    writer.finish()
}

/// How files are written under this configuration.
pub fn options(config: &Config) -> WriteOptions {
    WriteOptions { compression: config.rdbcompression, checksum: config.rdbchecksum, ..WriteOptions::default() }
}

fn write_aux<W: Write>(server: &Server, writer: &mut Writer<W>, now_ms: i64, aof_base: bool) {
    let encoder = writer.encoder();
    encoder.aux("redis-ver", crate::banner::REDIS_VERSION.as_bytes());
    encoder.aux("redis-bits", b"64");
    encoder.aux("ctime", (now_ms / 1000).to_string().as_bytes());
    encoder.aux("used-mem", server.used_memory.bytes().to_string().as_bytes());
    encoder.aux("aof-base", if aof_base { b"1" } else { b"0" });
}

/// A file that is brought to disk bit by bit while it is being written.
struct Syncing {
    file: Box<dyn File>,
    unsynced: u64,
    incremental: bool,
}

impl Write for Syncing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.unsynced += len as u64;
        if self.incremental && self.unsynced >= AUTOSYNC_BYTES {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
