//! The append-only file of one server: what is switched on, which files make it up, how it goes.
//!
//! Workers put records into the [`queue`], while they hold shards; connections hold their replies back until what these
//! tell of is in the file ([`output`]) or, under `appendfsync always`, on disk. Threads of the log do what could block
//! ([`appender`], [`syncer`]); [`rewrite`] replaces old files by a snapshot; [`load`] replays them at the start.
//!
//! Lock order: shards, then the output, then [`Aof`]'s own lock, then the queue.

pub mod appender;
mod dir_lock;
pub mod load;
pub mod output;
pub mod queue;
pub mod rewrite;
pub mod syncer;
mod trouble;

use crate::config::Config;
use crate::core::Core;
use crate::keyspace::waiters::Waiter;
use crate::resp::reply::Reply;
use crate::snapshot::state::Persistence;
use crate::util::sync::Mutex;
use appender::Threads;
use dir_lock::DirLocks;
use output::Output;
use queue::{Look, Queue};
use redstart_persistence::aof::{Manifest, manifest_name};
use redstart_persistence::file::DiskDir;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use syncer::Syncer;
pub use trouble::Trouble;
use trouble::Troubles;

/// The append-only file of one server.
pub struct Aof {
    core: Arc<Core>,
    saves: Arc<Persistence>,
    /// Called whenever the log has got further.
    pub progressed: OnceLock<Box<Progressed>>,
    pub queue: Arc<Queue>,
    output: Mutex<Output>,
    syncer: Syncer,
    /// Nothing that waits for the disk is done while it is locked: the main loop takes it too.
    control: Mutex<Control>,
    /// Held by who changes the manifest on disk, from its reading in `control` to its writing there.
    manifest_on_disk: Mutex<()>,
    troubles: Troubles,
    /// The directories that no other server may use.
    locks: Mutex<DirLocks>,
    /// Bytes of the file being written.
    pub incr_bytes: AtomicU64,
    /// Writes that were made although a sync had been under way for long.
    pub delayed_syncs: AtomicU64,
    threads: Mutex<Option<Threads>>,
}

/// What is called when the log has got further: WAITAOF is answered above it.
pub type Progressed = dyn Fn() + Send + Sync;

/// What WAITAOF answers when it is to wait for a log that there is not.
pub const NO_LOG: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

/// What is under Aof's lock.
#[derive(Debug)]
struct Control {
    mode: Mode,
    /// How often the log has been switched on or off: a rewrite that began before is over.
    switched: u64,
    manifest: Manifest,
    /// The feed's name for the queue's reader.
    reader: Option<u64>,
    /// Bytes of the files before the one being written.
    older_bytes: u64,
    /// Bytes of all files after the last rewrite, or at the start.
    bytes_at_rewrite: u64,
    rewrites: Rewrites,
}

/// Whether commands are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Off,
    /// Logged to a temporary file, until the first base is written.
    Waiting,
    On,
}

/// How rewriting has gone so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrites {
    /// Since when one is under way, Unix time in seconds.
    pub since_s: Option<i64>,
    /// One is to begin as soon as possible.
    pub scheduled: bool,
    pub last_ok: bool,
    pub last_took_s: Option<i64>,
    pub count: u64,
    /// Failures since the last one that worked.
    pub failures: u32,
    /// After a failure: no automatic attempt before this, Unix time in seconds.
    pub not_before_s: i64,
}

/// The figures of INFO.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub mode: Mode,
    pub rewrites: Rewrites,
    pub current_bytes: u64,
    pub base_bytes: u64,
    pub buffer_bytes: usize,
    pub is_syncing: bool,
}

/// How long replies go out although their records are not written, because the disk is busy with a sync. Source: Redis 7.2.
const POSTPONE: Duration = Duration::from_secs(2);
/// The least time between a rewrite that failed and the next one that nobody asks for.
const RETRY_S: i64 = 2;
/// Failures in a row after which automatic rewrites wait for minutes.
const PATIENCE: u32 = 3;
/// The longest wait between automatic attempts.
const LONGEST_WAIT_MINUTES: i64 = 60;

impl std::fmt::Debug for Aof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aof({:?})", self.control.lock())
    }
}

impl Aof {
    /// A log that is switched off.
    pub fn new(core: Arc<Core>, saves: Arc<Persistence>) -> Self {
        let rewrites = Rewrites {
            since_s: None,
            scheduled: false,
            last_ok: true,
            last_took_s: None,
            count: 0,
            failures: 0,
            not_before_s: 0,
        };
        let control = Control {
            mode: Mode::Off,
            switched: 0,
            manifest: Manifest::default(),
            reader: None,
            older_bytes: 0,
            bytes_at_rewrite: 0,
            rewrites,
        };
        Aof {
            core,
            saves,
            progressed: OnceLock::new(),
            queue: Arc::default(),
            output: Mutex::default(),
            syncer: Syncer::default(),
            control: Mutex::new(control),
            manifest_on_disk: Mutex::default(),
            troubles: Troubles::default(),
            locks: Mutex::default(),
            incr_bytes: AtomicU64::new(0),
            delayed_syncs: AtomicU64::new(0),
            threads: Mutex::new(None),
        }
    }

    /// The figures of INFO.
    pub fn figures(&self) -> Figures {
        let control = self.control.lock();
        Figures {
            mode: control.mode,
            rewrites: control.rewrites,
            current_bytes: control.older_bytes + self.incr_bytes.load(Ordering::Relaxed),
            base_bytes: control.bytes_at_rewrite,
            buffer_bytes: self.queue.len(),
            is_syncing: !self.queue.is_synced(),
        }
    }

    /// Whether commands are logged.
    pub fn mode(&self) -> Mode {
        self.control.lock().mode
    }

    /// Whether commands are logged, and so many of the bytes ever added to the log are on disk.
    pub fn is_on_disk(&self, bytes: u64) -> bool {
        self.mode() == Mode::On && self.queue.synced() >= bytes
    }

    /// The mode, and how often it has been switched by a user.
    fn turn(&self) -> (Mode, u64) {
        let control = self.control.lock();
        (control.mode, control.switched)
    }

    /// The files that make up the log.
    fn manifest(&self) -> Manifest {
        self.control.lock().manifest.clone()
    }

    /// The files that make up the log, as they are on disk by now.
    pub fn set_manifest(&self, manifest: Manifest) {
        self.control.lock().manifest = manifest;
    }

    /// Reads the manifest of a log that is switched off, so that switching it on goes on counting.
    pub fn know(&self, config: &Config) -> Result<(), String> {
        let manifest = Manifest::load(&DiskDir::new(path(config)), &config.appendfilename);
        let manifest = manifest.map_err(|error| format!("Can't read the AOF manifest: {error}"))?;
        self.control.lock().manifest = manifest.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Sees to it that no other server uses the log's directory.
    pub fn hold_dir(&self, config: &Config) -> Result<(), String> {
        self.locks.lock().hold(&path(config), &self.core.log)
    }

    /// The same for the log's directory in `dir`, until [`Aof::unclaim`], or until the log has moved there.
    pub fn claim(&self, dir: &Path) -> Result<(), String> {
        self.locks.lock().claim(&dir.join(&self.core.config.load().appenddirname), &self.core.log)
    }

    /// Takes the last claim of the log's directory in `dir` back.
    pub fn unclaim(&self, dir: &Path) {
        self.locks.lock().unclaim(&dir.join(&self.core.config.load().appenddirname));
    }

    /// Others may use the log's directory: the server has ended, or logs nothing.
    pub fn release(&self) {
        self.locks.lock().keep(None);
    }

    /// Whether a rewrite is under way.
    pub fn is_rewriting(&self) -> bool {
        self.control.lock().rewrites.since_s.is_some()
    }

    /// A rewrite is to begin as soon as possible.
    pub fn schedule_rewrite(&self) {
        let mut control = self.control.lock();
        control.rewrites.scheduled = true;
        control.rewrites.failures = 0;
        control.rewrites.not_before_s = 0;
    }

    /// Writing, or syncing, works again. False if it had not failed.
    fn recovered(&self, kind: Trouble) -> bool {
        let had_failed = self.troubles.worked(kind);
        if had_failed && self.refuses_writes().is_none() {
            self.core.log.notice("AOF write error looks solved, Redis can write again.");
        }
        had_failed
    }

    /// Why writes are refused now, if they are.
    #[inline]
    pub fn refuses_writes(&self) -> Option<String> {
        self.troubles.reason()
    }

    /// Puts the directives into force for records and replies to come.
    pub fn obey_now(&self, config: &Config) {
        if self.troubles.failed_at(Trouble::Write).is_some() {
            self.queue.obey(config);
        } else {
            self.queue.obey_now(config);
        }
    }

    /// Counts a write that is made although a sync has been under way for long, and says so. Source: Redis 7.2
    /// `aof_delayed_fsync`.
    fn count_delay(&self) {
        if self.syncer.is_late_again(POSTPONE) {
            self.delayed_syncs.fetch_add(1, Ordering::Relaxed);
            self.core.log.notice(
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for \
                 fsync to complete, this may slow down Redis.",
            );
        }
    }

    /// Replies have waited for a write for a moment. As long as a sync is under way, and not for long, they do not wait
    /// any more; then they do, until the disk takes what is written. When to look again, if at all.
    pub fn look_at_disk(&self, look: &Look) -> Option<Look> {
        if look.is_over(&self.queue) {
            return Look::at_what_was_added(&self.queue);
        }
        let left = self.syncer.age().and_then(|age| POSTPONE.checked_sub(age)).filter(|left| !left.is_zero());
        self.queue.let_replies_go(left.is_some());
        if look.is_over(&self.queue) {
            // It has been written between the two looks.
            self.queue.let_replies_go(false);
        }
        if left.is_none() {
            self.count_delay();
        }
        Some(look.again(left.unwrap_or(POSTPONE)))
    }

    /// The directory of the log, made if it is missing.
    fn make_dir(&self, config: &Config) -> std::io::Result<DiskDir> {
        Ok(DiskDir::create(path(config))?.with_faults(self.core.faults.clone()))
    }

    /// What is written, or on disk, has grown: those hear of it who wait for that.
    fn tell_progress(&self) {
        if let Some(progressed) = self.progressed.get() {
            progressed();
        }
    }

    /// WAITAOF of those who wait for this server's disk fails: nothing will reach it.
    fn fail_waits(&self) {
        let waits_for_disk =
            |waiter: &&Arc<Waiter>| waiter.wait.acknowledgement().is_some_and(|wanted| wanted.on_disk == Some(true));
        for waiter in self.core.waits.for_acknowledgement().iter().filter(waits_for_disk) {
            let mut reply = Reply::new(waiter.resp3);
            reply.error(NO_LOG);
            self.core.waits.answer(&self.core.clients, waiter, &reply.buf);
        }
    }

    /// Whether the cron should start a rewrite now: (growth in percent, if that is why).
    fn wants_rewrite(&self, config: &Config, now_s: i64) -> Option<Option<u64>> {
        let control = self.control.lock();
        let rewrites = &control.rewrites;
        if rewrites.since_s.is_some() || now_s < rewrites.not_before_s {
            return None;
        }
        if rewrites.scheduled {
            return Some(None);
        }
        let current = control.older_bytes + self.incr_bytes.load(Ordering::Relaxed);
        let grows_too_far = control.mode == Mode::On
            && config.auto_aof_rewrite_percentage > 0
            && current > config.auto_aof_rewrite_min_size;
        if !grows_too_far {
            return None;
        }
        let base = control.bytes_at_rewrite.max(1);
        let growth = (u128::from(current) * 100 / u128::from(base)).saturating_sub(100) as u64;
        (growth >= u64::from(config.auto_aof_rewrite_percentage)).then_some(Some(growth))
    }
}

impl Rewrites {
    /// A rewrite has failed; for how many minutes no automatic one is to begin, if it is more than a moment.
    fn failed(&mut self, now_s: i64) -> Option<i64> {
        self.last_ok = false;
        self.failures += 1;
        self.not_before_s = now_s + RETRY_S;
        let beyond = self.failures.checked_sub(PATIENCE)?;
        let minutes = (1_i64 << beyond.min(6)).min(LONGEST_WAIT_MINUTES);
        self.not_before_s = now_s + minutes * 60;
        Some(minutes)
    }
}

/// The directory of the log.
fn path(config: &Config) -> PathBuf {
    config.dir.join(&config.appenddirname)
}

/// Whether there is a log with a manifest.
pub fn exists(config: &Config) -> bool {
    path(config).join(manifest_name(&config.appendfilename)).exists()
        || config.dir.join(&config.appendfilename).exists()
}
