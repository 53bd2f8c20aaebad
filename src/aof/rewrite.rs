//! Replaces the log's old files by a snapshot: BGREWRITEAOF, automatic rewrites, switching the log on and off.
//!
//! First a new file is opened and named in the manifest. Then, at one instant under all locks, records begin to go
//! there, and the snapshot is taken. When it is on disk as the new base, a new manifest makes the old files history.
//! Whatever happens in between, the manifest on disk names files that make up the whole data set.

use crate::aof::queue::{Job, QueueReader};
use crate::aof::{Aof, Control, Mode, appender, path};
use crate::config::Config;
use crate::keyspace::lock::MayWait;
use crate::snapshot::commands;
use crate::snapshot::save::{self, Syncing};
use crate::snapshot::walker::Snapshot;
use redstart_persistence::aof::{Manifest, manifest_name, temp_incr_name};
use redstart_persistence::file::{Dir, DiskDir, File, FileWriter};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a failed step was about, and why.
#[derive(Debug)]
struct Failure {
    what: String,
    error: io::Error,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

/// Names what an operation was about, should it fail.
fn about<T>(what: impl Into<String>, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure { what: what.into(), error })
}

/// Where a rewrite writes to: all that can fail before anything is written.
struct Prepared {
    config: Arc<Config>,
    dir: DiskDir,
    /// The new base, and its name while it is being written.
    base: Box<dyn File>,
    temp: String,
    /// While the log waits for its first base: what takes the records meanwhile.
    incr: Option<Box<dyn File>>,
}

/// Starts a rewrite that a user has asked for: the files are there when this is true. False if one is under way already,
/// or there is no thread, or no file.
pub fn start(aof: &Arc<Aof>) -> bool {
    begin(aof, |turn| prepare(aof, turn.0).map(Some))
}

/// The same for the cron, which must not wait for the disk: files are opened later.
fn start_later(aof: &Arc<Aof>) -> bool {
    begin(aof, |_| Ok(None))
}

fn begin(aof: &Arc<Aof>, prepare: impl FnOnce((Mode, u64)) -> Result<Option<Prepared>, Failure>) -> bool {
    let now_s = aof.core.clock.now_ms() / 1000;
    let turn = {
        let mut control = aof.control.lock();
        if control.rewrites.since_s.is_some() {
            return false;
        }
        control.rewrites.since_s = Some(now_s);
        control.rewrites.scheduled = false;
        control.rewrites.count += 1;
        (control.mode, control.switched)
    };
    let prepared = match prepare(turn) {
        Ok(prepared) => prepared,
        Err(error) => {
            aof.core.log.warning(error);
            end(aof, false);
            return false;
        }
    };
    aof.core.log.notice(format_args!("Background append only file rewriting started by pid {}", std::process::id()));
    let own = aof.clone();
    let thread =
        aof.core.background.spawn("aof_rewrite", move |may_wait| in_background(&own, may_wait, turn, prepared));
    if let Err(error) = &thread {
        aof.core.log.warning(format_args!("Can't rewrite append only file in background: fork: {error}"));
        end(aof, false);
    }
    thread.is_ok()
}

fn prepare(aof: &Arc<Aof>, mode: Mode) -> Result<Prepared, Failure> {
    let config = aof.core.config.load();
    let what = format!("Can't open or create append-only dir {}", config.appenddirname);
    let dir = about(&what, aof.make_dir(&config))?;
    about(&what, aof.hold_dir(&config).map_err(io::Error::other))?;
    about("Can't start the log's threads", appender::start(aof))?;
    let temp = format!("temp-rewriteaof-bg-{}.aof", std::process::id());
    let base = about(format!("Can't open the temporary AOF base file {temp}"), dir.create(&temp))?;
    let incr = match mode {
        Mode::Waiting => {
            let name = temp_incr_name(&config.appendfilename);
            let created = about(format!("Can't open the append-only file {name}"), dir.create(&name));
            if created.is_err() {
                // The first error is the one to tell of.
                let _ = dir.remove(&temp);
            }
            aof.core.log.notice(format_args!("Creating AOF incr file {name} on background rewrite"));
            Some(created?)
        }
        Mode::Off | Mode::On => None,
    };
    Ok(Prepared { config, dir, base, temp, incr })
}

fn in_background(aof: &Arc<Aof>, may_wait: MayWait, turn: (Mode, u64), prepared: Option<Prepared>) {
    let prepared = prepared.map_or_else(|| prepare(aof, turn.0), Ok);
    let result = prepared.and_then(|prepared| run(aof, may_wait, turn, prepared));
    match &result {
        Err(_) if aof.turn() != turn || aof.core.stop.is_requested() => {
            aof.core.log.notice("Background AOF rewrite terminated by signal 10");
            return end_cancelled(aof);
        }
        Ok(()) => aof.core.log.notice("Background AOF rewrite finished successfully"),
        Err(error) => {
            aof.core.log.warning(error);
            aof.core.log.warning("Background AOF rewrite terminated with error");
        }
    }
    end(aof, result.is_ok());
}

/// A rewrite that was called off counts neither as success nor as failure.
fn end_cancelled(aof: &Aof) {
    let mut control = aof.control.lock();
    control.rewrites.since_s = None;
    // Switched off and on again meanwhile: the log still has no base.
    let is_waiting = control.mode == Mode::Waiting;
    control.rewrites.scheduled |= is_waiting;
    release_if_off(aof, &control);
}

/// Without a log its directory is nobody's once it is not written any more.
fn release_if_off(aof: &Aof, control: &Control) {
    if control.mode == Mode::Off {
        aof.release();
    }
}

fn end(aof: &Aof, worked: bool) {
    let now_s = aof.core.clock.now_ms() / 1000;
    let mut control = aof.control.lock();
    let is_waiting = control.mode == Mode::Waiting;
    let rewrites = &mut control.rewrites;
    rewrites.last_took_s = rewrites.since_s.take().map(|since_s| now_s - since_s);
    if worked {
        rewrites.last_ok = true;
        rewrites.failures = 0;
    } else {
        if let Some(minutes) = rewrites.failed(now_s) {
            aof.core.log.warning(format_args!(
                "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {minutes} minutes"
            ));
        }
        // The log cannot be on before a rewrite has worked.
        rewrites.scheduled |= is_waiting;
    }
    release_if_off(aof, &control);
}

fn run(aof: &Arc<Aof>, may_wait: MayWait, turn: (Mode, u64), prepared: Prepared) -> Result<(), Failure> {
    let Prepared { config, dir, base, temp, mut incr } = prepared;
    let written = write_incr(aof, &config, &dir, turn.0, &mut incr)
        .and_then(|()| write_base(aof, may_wait, &config, turn, base, incr, &temp));
    let installed = written.and_then(|()| install(aof, &config, &dir, turn, &temp));
    if installed.is_err() {
        // It may be gone already.
        let _ = dir.remove(&temp);
        if turn.0 == Mode::Waiting {
            stop_logging(aof);
            let _ = dir.remove(&temp_incr_name(&config.appendfilename));
        }
    }
    installed
}

/// While the log is on: opens the file that takes the records from the snapshot's instant on, and names it in the manifest.
fn write_incr(
    aof: &Aof,
    config: &Config,
    dir: &DiskDir,
    mode: Mode,
    incr: &mut Option<Box<dyn File>>,
) -> Result<(), Failure> {
    if mode != Mode::On {
        return Ok(());
    }
    // While the disk takes nothing, the log must not go on in another file: it would have a hole.
    about("Can't finish the append-only file", aof.queue.flush().map_err(io::Error::other))?;
    let filename = &config.appendfilename;
    let _alone = aof.manifest_on_disk.lock();
    let mut manifest = aof.manifest();
    let name = manifest.add_incr(filename);
    let file = about(format!("Can't open the append-only file {name}"), dir.create(&name))?;
    about("Can't write the AOF manifest", manifest.save(dir, filename))?;
    aof.set_manifest(manifest);
    aof.core.log.notice(format_args!("Creating AOF incr file {name} on background rewrite"));
    *incr = Some(file);
    Ok(())
}

/// Takes the snapshot: from its instant on, records go to `incr`.
fn write_base(
    aof: &Arc<Aof>,
    may_wait: MayWait,
    config: &Config,
    turn: (Mode, u64),
    base: Box<dyn File>,
    incr: Option<Box<dyn File>>,
    temp: &str,
) -> Result<(), Failure> {
    let what = || format!("Write error writing append only file on disk ({temp})");
    let out = Syncing::new(base, config.aof_rewrite_incremental_fsync);
    let locked = aof.core.lock_all(may_wait).ok_or_else(|| io::Error::other("the server ends"));
    let mut locked = about("The log", locked)?;
    if let Some(incr) = incr {
        let mut control = aof.control.lock();
        about("The log", still(turn, &control))?;
        control.older_bytes += aof.incr_bytes.load(Ordering::Relaxed);
        aof.queue.add(Job::Switch(incr, 0));
        if turn.0 == Mode::Waiting && control.reader.is_none() {
            control.reader = Some(aof.core.feed.add_reader(Arc::new(QueueReader::new(aof))));
        }
    }
    let snapshot = Snapshot::begin(&aof.core, &aof.saves, &mut locked);
    let snapshot = about("The snapshot", snapshot.ok_or_else(|| io::Error::other("another one is under way")))?;
    drop(locked);
    let is_cancelled = || aof.core.stop.is_requested() || aof.turn() != turn;
    let written = if config.aof_use_rdb_preamble {
        save::write_snapshot(&aof.core, config, snapshot, may_wait, out, true, is_cancelled)
    } else {
        commands::write_snapshot(&aof.core, config, snapshot, may_wait, out, is_cancelled)
    };
    aof.saves.last_rewrite_kept.store(aof.saves.kept.peak_bytes(), Ordering::Relaxed);
    about(what(), about(what(), written)?.sync())?;
    aof.core.log.notice(format_args!("Successfully created the temporary AOF base file {temp}"));
    Ok(())
}

/// Puts the new base in its place and makes the old files history.
fn install(aof: &Aof, config: &Config, dir: &DiskDir, turn: (Mode, u64), temp: &str) -> Result<(), Failure> {
    aof.core.log.notice("Background AOF rewrite terminated with success");
    let filename = &config.appendfilename;
    let _alone = aof.manifest_on_disk.lock();
    about("The log", still(turn, &aof.control.lock()))?;
    let mut manifest = aof.manifest();
    let base = manifest.add_base(filename, config.aof_use_rdb_preamble);
    about(format!("Error trying to rename the temporary AOF base file {temp} into {base}"), dir.rename(temp, &base))?;
    aof.core.log.notice(format_args!("Successfully renamed the temporary AOF base file {temp} into {base}"));
    let kept = match turn.0 {
        Mode::Off => 0,
        Mode::Waiting => {
            let (temp, name) = (temp_incr_name(filename), manifest.add_incr(filename));
            about(
                format!("Error trying to rename the temporary AOF incr file {temp} into {name}"),
                dir.rename(&temp, &name),
            )?;
            aof.core.log.notice(format_args!("Successfully renamed the temporary AOF incr file {temp} into {name}"));
            1
        }
        Mode::On => 1,
    };
    manifest.retire_incr(kept);
    about("Can't write the AOF manifest", manifest.save(dir, filename))?;
    let base_bytes = dir.len(&base).ok().flatten().unwrap_or(0);
    {
        let mut control = aof.control.lock();
        control.manifest = manifest;
        // It may have been switched off while the disk was busy. What is on disk by now is as good as before.
        about("The log", still(turn, &control))?;
        control.older_bytes = base_bytes;
        control.bytes_at_rewrite = base_bytes + aof.incr_bytes.load(Ordering::Relaxed);
        if control.mode == Mode::Waiting {
            control.mode = Mode::On;
        }
    }
    if !config.aof_disable_auto_gc {
        remove_history(aof, dir, filename);
    }
    aof.locks.lock().keep(Some(&path(config)));
    Ok(())
}

/// A rewrite ends when the log is switched on or off meanwhile.
fn still(before: (Mode, u64), control: &Control) -> io::Result<()> {
    let now = (control.mode, control.switched);
    if before == now { Ok(()) } else { Err(io::Error::other("it was switched on or off while being rewritten")) }
}

/// Removes the files that are history, alone with the manifest. What cannot be removed stays named, and is tried again after
/// the next rewrite.
fn remove_history(aof: &Aof, dir: &DiskDir, filename: &str) {
    let mut manifest = aof.manifest();
    if manifest.history.is_empty() {
        return;
    }
    manifest.history.retain(|info| {
        aof.core.log.notice(format_args!("Removing the history file {} in the background", info.name));
        match dir.remove(&info.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                aof.core.log.warning(format_args!("Can't remove the history file {}: {error}", info.name));
                true
            }
            _ => false,
        }
    });
    if let Err(error) = manifest.save(dir, filename) {
        aof.core.log.warning(format_args!("Can't write the AOF manifest: {error}"));
    }
    aof.set_manifest(manifest);
}

const CANNOT_BEGIN: &str = "Unable to turn on AOF. Check server logs.";

impl Aof {
    /// Switches the log on while running: a rewrite makes its first base, after the transaction if that is where the
    /// wish came from. Source: Redis 7.2 CONFIG SET appendonly yes.
    pub fn start_logging(self: &Arc<Self>, in_exec: bool) -> Result<(), String> {
        if self.mode() != Mode::Off {
            return Ok(());
        }
        let why_later = match self.saves.has_snapshot_under_way() {
            true => Some("but there is already another background operation"),
            false => in_exec.then_some("during a transaction"),
        };
        if why_later.is_some()
            && let Err(error) = prepare(self, Mode::Waiting)
        {
            self.core.log.warning(error);
            release_if_off(self, &self.control.lock());
            return Err(CANNOT_BEGIN.to_owned());
        }
        {
            let mut control = self.control.lock();
            control.mode = Mode::Waiting;
            if let Some(why) = why_later {
                control.rewrites.scheduled = true;
                self.core.log.notice(format_args!(
                    "AOF was enabled {why}. An AOF background was scheduled to start when possible."
                ));
                return Ok(());
            }
        }
        if start(self) {
            return Ok(());
        }
        let mut control = self.control.lock();
        if control.rewrites.since_s.is_some() {
            // The cron was faster.
            control.rewrites.scheduled = true;
            return Ok(());
        }
        control.mode = Mode::Off;
        control.rewrites.scheduled = false;
        release_if_off(self, &control);
        Err(CANNOT_BEGIN.to_owned())
    }

    /// Removes what rewrites have left, after `aof-disable-auto-gc` was switched off.
    pub fn remove_log_history(&self, config: &Config) -> io::Result<()> {
        let dir = self.make_dir(config)?;
        let _alone = self.manifest_on_disk.lock();
        remove_history(self, &dir, &config.appendfilename);
        Ok(())
    }

    /// Switches the log off while running: what was logged is on disk.
    pub fn end_logging(&self) {
        // Before the last sync, which would be an answer.
        self.fail_waits();
        stop_logging(self);
        let mut control = self.control.lock();
        control.mode = Mode::Off;
        control.switched += 1;
        control.rewrites.scheduled = false;
        if control.rewrites.since_s.is_some() {
            // It sees that there is no log any more.
            self.core.log.notice(format_args!("Killing running AOF rewrite child: {}", std::process::id()));
        } else {
            self.release();
        }
    }

    /// The log is complete up to here: opens it to go on. Called once, after loading.
    pub fn open(self: &Arc<Self>, may_wait: MayWait, config: &Config, mut manifest: Manifest) -> Result<(), String> {
        let failed = |what: &str, error: io::Error| format!("{what}: {error}");
        appender::start(self).map_err(|error| failed("Can't start the log's thread", error))?;
        let dir = self.make_dir(config).map_err(|error| {
            failed(&format!("Can't open or create append-only dir {}", path(config).display()), error)
        })?;
        // It may have been made just now.
        self.hold_dir(config)?;
        let filename = &config.appendfilename;
        if manifest.is_empty() {
            let name = manifest.add_base(filename, config.aof_use_rdb_preamble);
            self.write_first_base(may_wait, config, &dir, &name).map_err(|error| error.to_string())?;
            self.core.log.notice(format_args!("Creating AOF base file {name} on server start"));
        }
        let (verb, name) = match manifest.incr.last() {
            Some(last) => ("Opening", last.name.clone()),
            None => ("Creating", manifest.add_incr(filename)),
        };
        let file =
            dir.append(&name).map_err(|error| failed(&format!("Can't open the append-only file {name}"), error))?;
        // What a process before this one has written may still be in the system's memory only.
        file.sync().map_err(|error| failed(&format!("Fail to fsync the AOF file {name}"), error))?;
        manifest.save(&dir, filename).map_err(|error| failed("Can't write the AOF manifest", error))?;
        let len = |name: &str| dir.len(name).ok().flatten().unwrap_or(0);
        let incr_bytes = len(&name);
        let older: u64 = manifest.files_to_load().map(|info| len(&info.name)).sum::<u64>() - incr_bytes;
        self.core.log.notice(format_args!("{verb} AOF incr file {name} on server start"));
        self.incr_bytes.store(incr_bytes, Ordering::Relaxed);
        let locked = self.core.shards.lock(self.core.shards.all(), may_wait);
        let mut control = self.control.lock();
        self.queue.add(Job::Switch(file, incr_bytes));
        // Not when the thread gets there: a write may come first.
        self.queue.obey_now(config);
        control.reader = Some(self.core.feed.add_reader(Arc::new(QueueReader::new(self))));
        control.mode = Mode::On;
        control.older_bytes = older;
        control.bytes_at_rewrite = manifest.base.as_ref().map_or(0, |base| len(&base.name));
        control.manifest = manifest;
        drop((control, locked));
        remove_temporary(&dir, filename);
        if !config.aof_disable_auto_gc {
            remove_history(self, &dir, filename);
        }
        Ok(())
    }

    fn write_first_base(&self, may_wait: MayWait, config: &Config, dir: &DiskDir, name: &str) -> Result<(), Failure> {
        let what = || format!("Write error writing append only file on disk ({name})");
        let out = FileWriter(about(what(), dir.create(name))?);
        let locked = self.core.shards.lock(self.core.shards.all(), may_wait);
        let written = if config.aof_use_rdb_preamble {
            save::write(&self.core, config, &locked, out, true)
        } else {
            commands::write(&self.core, config, &locked, out)
        };
        about(what(), about(what(), written)?.0.sync())
    }

    /// Starts a rewrite if one is scheduled or the log has grown enough; called by the cron.
    pub fn tick(self: &Arc<Self>, config: &Config, now_s: i64) {
        if self.saves.has_snapshot_under_way() {
            return;
        }
        let Some(growth) = self.wants_rewrite(config, now_s) else { return };
        if let Some(growth) = growth {
            self.core.log.notice(format_args!("Starting automatic rewriting of AOF on {growth}% growth"));
        }
        start_later(self);
    }
}

/// Removes what a process before this one has not finished. Called when the directory is this server's.
fn remove_temporary(dir: &DiskDir, filename: &str) {
    // What cannot be read or removed is in nobody's way.
    let names = dir.names().unwrap_or_default();
    for name in names.iter().filter(|name| is_temporary(name, filename)) {
        let _ = dir.remove(name);
    }
}

fn is_temporary(name: &str, filename: &str) -> bool {
    let middle = |prefix: &str, suffix: &str| name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
    let is_base = ["temp-rewriteaof-bg-", "temp-rewriteaof-"].into_iter().any(|prefix| {
        middle(prefix, ".aof").is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
    });
    is_base || name == temp_incr_name(filename) || name == format!("temp-{}", manifest_name(filename))
}

fn stop_logging(aof: &Aof) {
    let reader = aof.control.lock().reader.take();
    if let Some(reader) = reader {
        aof.core.feed.remove_reader(reader);
    }
    if let Err(error) = aof.queue.flush() {
        aof.core.log.warning(format_args!("Fail to fsync the AOF file: {error}"));
    }
    aof.queue.add(Job::Close);
    aof.incr_bytes.store(0, Ordering::Relaxed);
}
