//! The thread that brings the log to the file and the disk.

use crate::aof::queue::{Job, Queue};
use crate::config::{AppendFsync, Config};
use crate::server::Server;
use redstart_persistence::aof::{AppendError, AppendOptions, Appender, Fsync};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long records may stay in memory when nobody waits for the disk,
const GATHER: Duration = Duration::from_millis(1);
/// and when they are so many at a time that waking up for them is what costs the workers most: 8 clients that write with
/// all they have lose 5 % of their throughput to the log instead of 10 %.
const GATHER_MANY: Duration = Duration::from_millis(5);
const MANY_BYTES: u64 = 64 << 10;
/// How long the thread sleeps when there is nothing to write; it may still have something to sync.
const TICK: Duration = Duration::from_millis(100);
/// Time between two log lines about the same trouble.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(30);

/// Starts the thread, unless it runs already; see [`end`].
pub fn start(server: &Arc<Server>) -> io::Result<()> {
    let mut thread = server.aof.thread.lock();
    if thread.is_some() {
        return Ok(());
    }
    let server = server.clone();
    let worker = Worker {
        config: server.config.load(),
        queue: server.aof.queue.clone(),
        server,
        appender: None,
        given: 0,
        start: Instant::now(),
        complained: None,
        is_sync_suspect: false,
        is_over: false,
    };
    *thread = Some(std::thread::Builder::new().name("aof".to_owned()).spawn(move || worker.run())?);
    Ok(())
}

/// Ends the thread once everything added is written and synced. Nobody adds any more: the workers have ended.
pub fn end(server: &Server) {
    let Some(thread) = server.aof.thread.lock().take() else { return };
    server.aof.queue.add(Job::End);
    // A panic has been printed where it happened.
    drop(thread.join());
}

struct Worker {
    server: Arc<Server>,
    queue: Arc<Queue>,
    config: Arc<Config>,
    /// The file being written, if the log is on.
    appender: Option<Appender>,
    /// Bytes ever given to appenders.
    given: u64,
    start: Instant,
    complained: Option<Instant>,
    /// A sync has failed: nobody knows what the system has forgotten.
    is_sync_suspect: bool,
    /// There is nothing more to come.
    is_over: bool,
}

impl Worker {
    fn run(mut self) {
        let mut spare = Vec::new();
        let (mut was_busy, mut gather) = (false, GATHER);
        self.obey_config();
        while !self.is_over && !self.server.stop.has_failed() {
            let patience = if was_busy { gather } else { TICK };
            let jobs = self.queue.take(patience, was_busy, std::mem::take(&mut spare));
            was_busy = !jobs.is_empty();
            let known = Arc::as_ptr(&self.config);
            self.server.config.refresh(&mut self.config);
            if !std::ptr::eq(known, Arc::as_ptr(&self.config)) {
                self.obey_config();
            }
            let given = self.given;
            spare = self.work(jobs);
            gather = if self.given - given > MANY_BYTES { GATHER_MANY } else { GATHER };
            self.server.replication.waits.serve(&self.server);
        }
        self.queue.end();
    }

    fn obey_config(&mut self) {
        let options = self.options();
        if let Some(appender) = &mut self.appender {
            appender.set_options(options);
            self.queue.obey_now(&self.config);
        } else {
            // Whether replies are held is not this thread's to say before it has a file: somebody may be opening one.
            self.queue.obey(&self.config);
        }
    }

    fn options(&self) -> AppendOptions {
        let fsync = match self.config.appendfsync {
            AppendFsync::Always => Fsync::Always,
            AppendFsync::EverySec => Fsync::EverySec,
            AppendFsync::No => Fsync::No,
        };
        AppendOptions { fsync, no_fsync_on_rewrite: self.config.no_appendfsync_on_rewrite }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does the jobs and a step; gives back memory to be used again.
    fn work(&mut self, jobs: VecDeque<Job>) -> Vec<u8> {
        let mut spare = Vec::new();
        for job in jobs {
            match job {
                Job::Batches(batches) => {
                    self.given += batches.len() as u64;
                    if let Some(appender) = &mut self.appender {
                        spare = appender.push(batches);
                    }
                }
                Job::Switch(file, len) => {
                    if self.finish().is_err() {
                        // A log that goes on elsewhere would have a hole.
                        self.server.log.warning("The old file of the AOF cannot be finished. Exiting...");
                        self.server.stop.fail();
                        return spare;
                    }
                    self.appender = Some(Appender::new(file, len, self.options(), self.now_ms()));
                    self.obey_config();
                }
                Job::Flush(done) => {
                    let result = self.finish();
                    // Whoever asked may have given up.
                    let _ = done.send(result);
                }
                Job::Close => {
                    // What went wrong has been logged.
                    let _ = self.finish();
                    self.appender = None;
                    self.queue.hold_replies(false);
                }
                Job::End => {
                    // What went wrong has been logged.
                    let _ = self.finish();
                    self.is_over = true;
                }
            }
        }
        self.step();
        spare
    }

    fn step(&mut self) {
        let is_rewriting = self.server.aof.is_rewriting() || self.server.persistence.is_saving();
        let now_ms = self.now_ms();
        let Some(appender) = &mut self.appender else {
            self.queue.set_synced(self.given);
            return;
        };
        let sleep_us = self.server.switches.aof_flush_sleep_us();
        if sleep_us > 0 && appender.progress().written < appender.progress().pushed {
            std::thread::sleep(Duration::from_micros(sleep_us));
        }
        let result = appender.step(now_ms, is_rewriting).map(drop);
        self.report(result);
    }

    /// Writes and syncs everything.
    fn finish(&mut self) -> Result<(), String> {
        let Some(appender) = &mut self.appender else { return Ok(()) };
        let result = appender.finish().map(drop);
        let told = result.as_ref().map_err(ToString::to_string).copied();
        self.report(result);
        told
    }

    fn report(&mut self, result: Result<(), AppendError>) {
        if let Some(appender) = &self.appender {
            let progress = appender.progress();
            self.server.aof.incr_bytes.store(progress.written, Ordering::Relaxed);
            self.queue.set_synced(self.given - (progress.pushed - progress.synced));
        }
        match result {
            Ok(()) if self.complained.is_some() => self.recovered(),
            Ok(()) => {}
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &AppendError) {
        let log = &self.server.log;
        if self.config.appendfsync == AppendFsync::Always {
            match error {
                AppendError::Sync(error) => log.warning(format_args!(
                    "Can't persist AOF for fsync error when the AOF fsync policy is 'always': {error}. Exiting..."
                )),
                error => {
                    log.warning(error);
                    let text = "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...";
                    log.warning(text);
                }
            }
            // Replies that wait for the disk are never sent: what they would promise is not there.
            self.server.stop.fail();
            return;
        }
        self.is_sync_suspect |= matches!(error, AppendError::Sync(_));
        if self.complained.is_none_or(|last| last.elapsed() > COMPLAINT_PERIOD) {
            log.warning(error);
            self.complained = Some(Instant::now());
        }
        let reason = match error {
            AppendError::Write(error) | AppendError::Sync(error) => os_text(error),
            AppendError::ShortWrite { .. } => "No space left on device".to_owned(),
        };
        self.server.aof.set_trouble(Some(reason));
    }

    fn recovered(&mut self) {
        self.complained = None;
        self.server.log.notice("AOF write error looks solved, Redis can write again.");
        self.server.aof.set_trouble(None);
        if std::mem::take(&mut self.is_sync_suspect) {
            self.server
                .log
                .warning("A sync of the AOF has failed: it is rewritten, since what was not synced may be lost");
            self.server.aof.schedule_rewrite();
        }
    }
}

/// The error in the system's words, without Rust's number behind it.
pub fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
