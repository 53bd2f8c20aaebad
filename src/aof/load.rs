//! Replays the log at the start.

use crate::aof::{Aof, path};
use crate::config::Config;
use crate::keyspace::lock::MayWait;
use crate::snapshot::load::{self, LoadError, Purpose, Target};
use redstart_persistence::aof::{AofError, AofErrorKind, Command, Item, Manifest, Reader, begins_with_rdb};
use redstart_persistence::file::{Dir, DiskDir, ReadFile};
use std::io::{Read, SeekFrom};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The log cannot be loaded; why has been logged, unless the server ends.
#[derive(Debug)]
pub struct Refused;

/// What runs the commands of a log: the log itself knows of none.
pub trait Apply {
    /// A file begins: its first command goes to database 0.
    fn begin_file(&mut self);

    /// Reads clock and configuration afresh. Called every now and then.
    fn begin_batch(&mut self);

    /// Runs a command; gives the error that it answers, if it does. Fails for a command that there is not, or not with so
    /// many arguments.
    fn apply(&mut self, target: &mut Target<'_, '_>, argv: &[&[u8]]) -> Result<Option<&[u8]>, String>;
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Good,
    /// A torn tail was cut off.
    Cut,
    /// From this offset on, another server has written.
    Foreign(u64),
}

/// Loads all files of the log; gives the manifest to go on with.
pub fn all(aof: &Aof, config: &Config, may_wait: MayWait, apply: &mut dyn Apply) -> Result<Manifest, Refused> {
    let mut manifest = read_manifest(aof, config)?;
    adopt_old_file(aof, config, &mut manifest)?;
    if files(aof, config, &manifest, Target::Shards(&aof.core.shards, may_wait), apply)? == Mixed::Yes {
        // Batches of ours behind those commands would make them look like damage.
        manifest.add_incr(&config.appendfilename);
    }
    Ok(manifest)
}

/// Whether another server has gone on with the last file behind a torn batch of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mixed {
    Yes,
    No,
}

/// Loads the files that `manifest` names.
pub fn files(
    aof: &Aof,
    config: &Config,
    manifest: &Manifest,
    target: Target<'_, '_>,
    apply: &mut dyn Apply,
) -> Result<Mixed, Refused> {
    let dir = aof.core.disk(path(config));
    let mut total = 0;
    for info in manifest.files_to_load() {
        match dir.len(&info.name) {
            Ok(Some(len)) => total += len,
            Ok(None) => {
                let text =
                    format!("Unable to obtain the AOF file {} length. stat: No such file or directory", info.name);
                return refuse(aof, text);
            }
            Err(error) => {
                return refuse(aof, format!("Unable to obtain the AOF file {} length. stat: {error}", info.name));
            }
        }
    }
    aof.saves.loading.total_bytes.store(total, Ordering::Relaxed);
    let mut replay = Replay { target, aof, config, apply, loaded: 0, mixed: Mixed::No };
    let names: Vec<String> = manifest.files_to_load().map(|info| info.name.clone()).collect();
    for (n, name) in names.iter().enumerate() {
        let kind = if n == 0 && manifest.base.is_some() { "base" } else { "incr" };
        let start = Instant::now();
        if replay.file(&dir, name)? == End::Cut && n + 1 < names.len() {
            return refuse(aof, "Fatal error: the truncated file is not the last file".to_owned());
        }
        let took = start.elapsed().as_secs_f64();
        aof.core.log.notice(format_args!("DB loaded from {kind} file {name}: {took:.3} seconds"));
    }
    Ok(replay.mixed)
}

fn refuse<T>(aof: &Aof, reason: String) -> Result<T, Refused> {
    aof.core.log.warning(reason);
    Err(Refused)
}

/// The manifest on disk; an empty one if there is none.
pub fn read_manifest(aof: &Aof, config: &Config) -> Result<Manifest, Refused> {
    match Manifest::load(&DiskDir::new(path(config)), &config.appendfilename) {
        Ok(Ok(manifest)) => Ok(manifest),
        Ok(Err(error)) => refuse(aof, error.to_string()),
        Err(error) => refuse(aof, format!("Fatal error: can't open the AOF manifest file for reading: {error}")),
    }
}

/// A log of Redis before 7.0 is one file beside the RDB file: it becomes the base. Source: Redis 7.2
/// `aofUpgradePrepare`.
fn adopt_old_file(aof: &Aof, config: &Config, manifest: &mut Manifest) -> Result<(), Refused> {
    let filename = &config.appendfilename;
    let old = config.dir.join(filename);
    if !old.exists() {
        return Ok(());
    }
    let target = path(config).join(filename);
    let was_interrupted = manifest.incr.is_empty()
        && manifest.base.as_ref().is_some_and(|base| base.name == *filename)
        && !target.exists();
    if !manifest.is_empty() && !was_interrupted {
        return Ok(());
    }
    let adopt = || {
        let dir = aof.make_dir(config)?;
        let mut adopted = Manifest::default();
        adopted.add_base(filename, false);
        if let Some(base) = &mut adopted.base {
            base.name.clone_from(filename);
        }
        adopted.save(&dir, filename)?;
        std::fs::rename(&old, &target)?;
        dir.sync()?;
        Ok(adopted)
    };
    let adopted: std::io::Result<Manifest> = adopt();
    *manifest = adopted.or_else(|error| {
        let dirname = &config.appenddirname;
        refuse(aof, format!("Error trying to move the old AOF file {filename} into dir {dirname}: {error}"))
    })?;
    aof.core.log.notice(format_args!(
        "Successfully migrated an old-style AOF file ({filename}) into the AOF directory ({}).",
        config.appenddirname
    ));
    Ok(())
}

/// Runs the commands of a log.
struct Replay<'a, 'g> {
    target: Target<'a, 'g>,
    aof: &'a Aof,
    config: &'a Config,
    apply: &'a mut dyn Apply,
    /// Bytes of the files before this one.
    loaded: u64,
    /// Of the last file.
    mixed: Mixed,
}

/// Commands between two notes of the progress.
const COMMANDS_PER_PROGRESS: u64 = 1024;

impl Replay<'_, '_> {
    fn file(&mut self, dir: &DiskDir, name: &str) -> Result<End, Refused> {
        let opened = dir.open(name);
        let mut file = opened.or_else(|error| {
            refuse(self.aof, format!("Fatal error: can't open the append log file {name} for reading: {error}"))
        })?;
        let tail_at = self.rdb_part(&mut *file, name)?;
        let mut reader = Reader::new(file, tail_at);
        self.apply.begin_file();
        let mut end = self.commands(&mut reader, dir, name);
        self.loaded += reader.offset();
        self.mixed = Mixed::No;
        if let Ok(End::Foreign(offset)) = end {
            self.mixed = Mixed::Yes;
            end = self.foreign(dir, name, offset);
        }
        end
    }

    /// Another server has repaired the file and gone on: what it wrote has no checksums, and the torn batch before it
    /// is what that server took it for.
    fn foreign(&mut self, dir: &DiskDir, name: &str, offset: u64) -> Result<End, Refused> {
        self.aof.core.log.notice(format_args!(
            "Another server has gone on with the AOF file {name} behind a torn batch at offset {offset}: reading on \
             without checksums"
        ));
        let file = dir.open(name).and_then(|mut file| file.seek(SeekFrom::Start(offset)).map(|_| file));
        let file =
            file.or_else(|error| refuse(self.aof, format!("Can't read the append only file {name}: {error}")))?;
        self.commands(&mut Reader::without_checksums(file, offset), dir, name)
    }

    /// Loads the RDB part, if the file begins with one; gives the offset of the commands behind it.
    fn rdb_part(&mut self, file: &mut dyn ReadFile, name: &str) -> Result<u64, Refused> {
        let mut first = Vec::new();
        let looked = file.take(5).read_to_end(&mut first).and_then(|_| file.seek(SeekFrom::Start(0)));
        looked.or_else(|error| refuse(self.aof, format!("Can't read the append only file {name}: {error}")))?;
        if !begins_with_rdb(&first) {
            return Ok(0);
        }
        self.aof.core.log.notice("Reading RDB base file on AOF loading...");
        let purpose = Purpose { log_follows: true, merge: false, is_copy: false };
        let loaded = load::read(&self.aof.core, &self.aof.saves, self.config, &mut *file, &mut self.target, purpose);
        let tally = loaded.or_else(|error| {
            if matches!(error, LoadError::ServerEnds) {
                return Err(Refused);
            }
            self.aof.core.log.warning(error);
            refuse(self.aof, format!("Error reading the RDB base file {name}, AOF loading aborted"))
        })?;
        let sought = file.seek(SeekFrom::Start(tally.bytes));
        sought.or_else(|error| refuse(self.aof, format!("Can't read the append only file {name}: {error}")))
    }

    fn commands<R: Read>(&mut self, reader: &mut Reader<R>, dir: &DiskDir, name: &str) -> Result<End, Refused> {
        for count in 0_u64.. {
            if count.is_multiple_of(COMMANDS_PER_PROGRESS) {
                self.apply.begin_batch();
                let loaded = self.loaded + reader.offset();
                self.aof.saves.loading.loaded_bytes.store(loaded, Ordering::Relaxed);
                if self.aof.core.stop.is_requested() {
                    return Err(Refused);
                }
            }
            match reader.item() {
                Ok(Some(Item::Command(command))) => self.command(&command, name)?,
                Ok(Some(Item::Transaction(commands))) => {
                    commands.iter().try_for_each(|command| self.command(command, name))?;
                }
                Ok(Some(Item::Timestamp(_))) => {}
                Ok(None) => break,
                Err(error) => return self.ended(&error, dir, name),
            }
        }
        Ok(End::Good)
    }

    fn command(&mut self, command: &Command, name: &str) -> Result<(), Refused> {
        let argv: Vec<&[u8]> = command.args().collect();
        let command = String::from_utf8_lossy(argv[0]);
        match self.apply.apply(&mut self.target, &argv) {
            Ok(None) => {}
            Ok(Some(error)) => self.aof.core.log.warning(format_args!(
                "== CRITICAL == This AOF is sending an error to its AOF client: '{}' after processing the command '{command}'",
                String::from_utf8_lossy(error).trim_end(),
            )),
            Err(unknown) => {
                self.aof.core.log.warning(unknown);
                return refuse(self.aof, format!("Unknown command '{command}' reading the append only file {name}"));
            }
        }
        Ok(())
    }

    /// What a log that does not end well means: a torn tail may be cut, anything else is refused.
    fn ended(&self, error: &AofError, dir: &DiskDir, name: &str) -> Result<End, Refused> {
        let log = &self.aof.core.log;
        match error.kind {
            AofErrorKind::Truncated { valid_up_to, in_multi } if self.config.aof_load_truncated => {
                if in_multi {
                    log.warning(format_args!("Revert incomplete MULTI/EXEC transaction in AOF file {name}"));
                }
                log.warning(format_args!("!!! Warning: short read while loading the AOF file {name}!!!"));
                log.warning(format_args!("!!! Truncating the AOF {name} at offset {valid_up_to} !!!"));
                if let Err(error) = dir.truncate(name, valid_up_to) {
                    return refuse(self.aof, format!("Error truncating the AOF file {name}: {error}"));
                }
                log.warning(format_args!("AOF {name} loaded anyway because aof-load-truncated is enabled"));
                Ok(End::Cut)
            }
            AofErrorKind::Truncated { .. } => refuse(
                self.aof,
                format!(
                    "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF \
                     file, then use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the \
                     'aof-load-truncated' configuration option to yes and restart the server."
                ),
            ),
            AofErrorKind::Foreign => Ok(End::Foreign(error.offset)),
            AofErrorKind::Format => refuse(
                self.aof,
                format!(
                    "Bad file format reading the append only file {name}: make a backup of your AOF file, then use \
                     ./redis-check-aof --fix <filename.manifest>"
                ),
            ),
            AofErrorKind::Damaged { .. } | AofErrorKind::Io(_) => {
                refuse(self.aof, format!("Unrecoverable error reading the append only file {name}: {error}"))
            }
        }
    }
}
