//! The file that the log goes to, and how far it has come.
//!
//! Records are written before the replies that tell of them. Mostly the worker does that itself, once a turn, for all its
//! connections ([`write_for_replies`]): waking another thread for it takes longer than the write. Where that could block (the
//! disk is syncing, or is in trouble), or something else is to be done first, the log's own thread does it, and the
//! connections wait, the worker does not.

use crate::aof::appender::complain;
use crate::aof::queue::{Holds, Job};
use crate::aof::syncer::Sync;
use crate::aof::{Aof, Trouble};
use crate::config::{AppendFsync, Config};
use redstart_persistence::aof::{AppendError, AppendOptions, Appender, Fsync};
use redstart_persistence::file::File;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Time between two attempts to write, or to sync, after one has failed.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Memory kept for the records to come.
const KEPT_BYTES: usize = 16 << 20;

/// What writes the log: the thread that has locked it. Taken before the queue.
pub struct Output {
    /// The file being written, if the log is on.
    appender: Option<Appender>,
    /// Counts the files: the end of a sync of an earlier one says nothing of this one.
    file_number: u64,
    /// Bytes ever given to appenders.
    given: u64,
    options: AppendOptions,
    start: Instant,
    /// When the last attempt has failed to write, or, under `always`, to sync.
    failed: Option<Instant>,
    /// Memory for the next records.
    spare: Vec<u8>,
}

impl Default for Output {
    fn default() -> Self {
        Output {
            appender: None,
            file_number: 0,
            given: 0,
            options: AppendOptions { fsync: Fsync::EverySec, no_fsync_on_rewrite: false },
            start: Instant::now(),
            failed: None,
            spare: Vec::new(),
        }
    }
}

/// Writes what has been added, at the end of a worker's turn. False when that is left to the log's thread, which must be
/// called then.
pub fn write_for_replies(aof: &Aof) -> bool {
    if aof.queue.holds() != Holds::UntilWritten || aof.syncer.is_busy() {
        return false;
    }
    let Some(mut output) = aof.output.try_lock() else { return false };
    output.failed.is_none() && output.write_batches(aof)
}

impl Output {
    /// Whether the log is on.
    pub(super) fn is_open(&self) -> bool {
        self.appender.is_some()
    }

    /// Puts the directives into force.
    pub(super) fn obey(&mut self, aof: &Aof, config: &Config) {
        let fsync = match config.appendfsync {
            AppendFsync::Always => Fsync::Always,
            AppendFsync::EverySec => Fsync::EverySec,
            AppendFsync::No => Fsync::No,
        };
        self.options = AppendOptions { fsync, no_fsync_on_rewrite: config.no_appendfsync_on_rewrite };
        if let Some(appender) = &mut self.appender {
            appender.set_options(self.options);
            aof.obey_now(config);
        } else {
            // Whether replies are held is not to be said before there is a file: somebody may be opening one.
            aof.queue.obey(config);
        }
    }

    /// Writes records only; false if something else is to be done before.
    fn write_batches(&mut self, aof: &Aof) -> bool {
        let Some(records) = aof.queue.take_records(std::mem::take(&mut self.spare)) else { return false };
        self.push(records);
        self.write(aof).is_ok()
    }

    /// Does everything there is to do.
    pub(super) fn work(&mut self, aof: &Aof) {
        let jobs: VecDeque<Job> = aof.queue.take(std::mem::take(&mut self.spare));
        for job in jobs {
            self.do_job(aof, job);
        }
        self.step(aof);
    }

    fn do_job(&mut self, aof: &Aof, job: Job) {
        match job {
            Job::Batches(batches) => self.push(batches),
            Job::Switch(file, len) => self.switch(aof, file, len),
            Job::Flush(done) => {
                let result = self.finish(aof, Some(&done));
                if let Some(result) = result.transpose() {
                    // Whoever asked may have given up.
                    let _ = done.send(result);
                }
            }
            Job::Close => {
                // What goes wrong is logged.
                let _ = self.finish(aof, None);
                self.appender = None;
                self.failed = None;
                aof.queue.hold_replies(Holds::Nothing);
                aof.troubles.forget();
            }
        }
    }

    fn push(&mut self, batches: Vec<u8>) {
        self.given += batches.len() as u64;
        if let Some(appender) = &mut self.appender {
            self.spare = appender.push(batches);
            if self.spare.capacity() > KEPT_BYTES {
                self.spare = Vec::new();
            }
        }
    }

    fn switch(&mut self, aof: &Aof, file: Box<dyn File>, len: u64) {
        if self.finish(aof, None).is_err() {
            // A log that goes on elsewhere would have a hole.
            aof.core.log.warning("The old file of the AOF cannot be finished. Exiting...");
            aof.core.stop.fail();
            return;
        }
        self.appender = Some(Appender::new(file, len, self.options, self.now_ms()));
        self.file_number += 1;
        self.obey(aof, &aof.core.config.load());
        self.note_progress(aof);
    }

    /// Writes and syncs everything. Under `always` that is done on return; otherwise the sync is begun, and `told`, if
    /// there is such a channel, hears of it: then this is `Ok(None)`.
    fn finish(&mut self, aof: &Aof, told: Option<&Told>) -> Result<Option<()>, String> {
        let now_ms = self.now_ms();
        let Some(appender) = &mut self.appender else { return Ok(Some(())) };
        if self.options.fsync == Fsync::Always {
            let result = appender.finish(now_ms).map(drop);
            return self.report(aof, result).map(Some);
        }
        self.write(aof)?;
        let Some(appender) = &mut self.appender else { return Ok(Some(())) };
        if !appender.is_unsynced() {
            return Ok(Some(()));
        }
        self.begin_sync(aof, told.cloned());
        Ok(None)
    }

    /// Writes and syncs everything and waits for it: nobody adds any more.
    pub(super) fn end(&mut self, aof: &Aof) {
        self.work(aof);
        let now_ms = self.now_ms();
        if let Some(appender) = &mut self.appender {
            let result = appender.finish(now_ms).map(drop);
            // What goes wrong is logged.
            let _ = self.report(aof, result);
        }
    }

    /// Writes, if there is something to write and the last attempt was not just now; syncs, or begins to, if it is time.
    fn step(&mut self, aof: &Aof) {
        let now_ms = self.now_ms();
        let is_rewriting = aof.is_rewriting() || aof.saves.is_saving();
        let is_too_soon = self.failed.is_some_and(|failed| failed.elapsed() < RETRY);
        let Some(appender) = &mut self.appender else {
            aof.queue.set_progress(self.given, self.given);
            return;
        };
        if is_too_soon {
            return;
        }
        if self.options.fsync == Fsync::Always {
            dawdle(aof, appender);
            let result = appender.step(now_ms, is_rewriting).map(drop);
            // It has been logged.
            let _ = self.report(aof, result);
            return;
        }
        if self.write(aof).is_ok() && !aof.syncer.is_busy() && self.sync_is_due(aof, is_rewriting) {
            self.begin_sync(aof, None);
        }
    }

    /// After a failure a sync is due whatever `appendfsync` says: only a sync can tell that the disk works again.
    fn sync_is_due(&self, aof: &Aof, is_rewriting: bool) -> bool {
        let Some(appender) = &self.appender else { return false };
        match aof.troubles.failed_at(Trouble::Sync) {
            Some(failed) => failed.elapsed() >= RETRY,
            None => appender.sync_is_due(self.now_ms(), is_rewriting),
        }
    }

    fn begin_sync(&mut self, aof: &Aof, told: Option<Told>) {
        let now_ms = self.now_ms();
        let Some(appender) = &mut self.appender else { return };
        let sync = appender.begin_sync(now_ms);
        let progress = appender.progress();
        let position = self.given - (progress.pushed - sync.written);
        aof.syncer.add(Sync { sync, file_number: self.file_number, position, told });
    }

    /// A sync has worked.
    pub(super) fn end_sync(&mut self, aof: &Aof, done: &Sync) {
        if let Some(appender) = self.appender.as_mut().filter(|_| done.file_number == self.file_number) {
            appender.end_sync(done.sync.written);
        }
        aof.queue.set_synced(done.position);
    }

    fn write(&mut self, aof: &Aof) -> Result<(), String> {
        let Some(appender) = &mut self.appender else { return Ok(()) };
        dawdle(aof, appender);
        aof.count_delay();
        let result = appender.write();
        self.report(aof, result)
    }

    /// Tells how far the log has come, and of what has gone wrong or works again.
    fn report(&mut self, aof: &Aof, result: Result<(), AppendError>) -> Result<(), String> {
        self.note_progress(aof);
        let told = result.as_ref().map_err(ToString::to_string).copied();
        match result {
            Ok(()) => {
                if self.failed.take().is_some() {
                    aof.recovered(Trouble::Write);
                    self.obey(aof, &aof.core.config.load());
                }
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                complain(aof, &error);
                if !aof.core.stop.has_failed() {
                    // As in Redis: what has been done is answered, and what comes is refused.
                    aof.queue.hold_replies(Holds::Nothing);
                }
            }
        }
        told
    }

    fn note_progress(&self, aof: &Aof) {
        let Some(appender) = &self.appender else { return };
        let progress = appender.progress();
        aof.incr_bytes.store(progress.written, Ordering::Relaxed);
        let written = self.given - (progress.pushed - progress.written);
        // While an earlier file is not synced, nothing behind it counts.
        let knows = !aof.syncer.is_busy() && aof.troubles.failed_at(Trouble::Sync).is_none();
        let synced = if knows { self.given - (progress.pushed - progress.synced) } else { 0 };
        aof.queue.set_progress(written, synced);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The waiter that is told how a sync has gone.
pub(super) type Told = std::sync::mpsc::SyncSender<Result<(), String>>;

/// DEBUG AOF-FLUSH-SLEEP.
fn dawdle(aof: &Aof, appender: &Appender) {
    let sleep_us = aof.core.switches.aof_flush_sleep_us();
    if sleep_us > 0 && appender.progress().written < appender.progress().pushed {
        std::thread::sleep(Duration::from_micros(sleep_us));
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Output(file {}, {} bytes given)", self.file_number, self.given)
    }
}
