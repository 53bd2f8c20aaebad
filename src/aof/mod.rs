//! The append-only file of one server: what is switched on, which files make it up, how it goes.
//!
//! Workers put records into the [`queue`], while they hold shards; one thread, the [`appender`], brings them to the file
//! and the disk; [`rewrite`] replaces old files by a snapshot; [`load`] replays them at the start. No worker ever waits
//! for the disk: under `appendfsync always` connections hold their replies back until the queue says that everything
//! before them is on disk.
//!
//! Lock order: shards, then [`Aof`]'s own lock, then the queue.

pub mod appender;
pub mod load;
pub mod queue;
pub mod rewrite;

use crate::config::Config;
use crate::server::Server;
use crate::util::sync::Mutex;
use queue::Queue;
use redstart_persistence::aof::{Manifest, manifest_name};
use redstart_persistence::file::DiskDir;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The append-only file of one server.
pub struct Aof {
    pub queue: Arc<Queue>,
    control: Mutex<Control>,
    /// Why the last write or sync failed, while none has worked since.
    trouble: Mutex<Option<String>>,
    /// Whether there is such a reason.
    is_in_trouble: AtomicBool,
    /// Bytes of the file being written.
    pub incr_bytes: AtomicU64,
    /// Writes that had to wait for a sync for long.
    pub delayed_syncs: AtomicU64,
    /// The appender's, once it has been started.
    thread: Mutex<Option<JoinHandle<()>>>,
}

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
    /// After repeated failures: no automatic attempt before this, Unix time in seconds.
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

/// Failures in a row after which automatic rewrites wait.
const PATIENCE: u32 = 3;
/// The longest wait between automatic attempts.
const LONGEST_WAIT_MINUTES: i64 = 60;

impl Default for Aof {
    fn default() -> Self {
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
            queue: Arc::default(),
            control: Mutex::new(control),
            trouble: Mutex::new(None),
            is_in_trouble: AtomicBool::new(false),
            incr_bytes: AtomicU64::new(0),
            delayed_syncs: AtomicU64::new(0),
            thread: Mutex::new(None),
        }
    }
}

impl std::fmt::Debug for Aof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Aof({:?})", self.control.lock())
    }
}

impl Aof {
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

    /// The files that make up the log, as they have been read again.
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

    /// Whether a rewrite is under way.
    pub fn is_rewriting(&self) -> bool {
        self.control.lock().rewrites.since_s.is_some()
    }

    /// A rewrite is to begin as soon as possible.
    pub fn schedule_rewrite(&self) {
        let mut control = self.control.lock();
        control.rewrites.scheduled = true;
        control.rewrites.failures = 0;
    }

    /// Notes that writing or syncing has failed, or works again.
    pub fn set_trouble(&self, reason: Option<String>) {
        self.is_in_trouble.store(reason.is_some(), Ordering::Release);
        *self.trouble.lock() = reason;
    }

    /// Why writes are refused now, if they are.
    #[inline]
    pub fn refuses_writes(&self) -> Option<String> {
        if !self.is_in_trouble.load(Ordering::Relaxed) {
            return None;
        }
        self.trouble.lock().clone()
    }

    /// Whether the cron should start a rewrite now: (growth in percent, if that is why).
    fn wants_rewrite(&self, config: &Config, now_s: i64) -> Option<Option<u64>> {
        let control = self.control.lock();
        let rewrites = &control.rewrites;
        if rewrites.since_s.is_some() {
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
        let due = growth >= u64::from(config.auto_aof_rewrite_percentage) && now_s >= rewrites.not_before_s;
        due.then_some(Some(growth))
    }
}

impl Rewrites {
    /// A rewrite has failed; for how many minutes no automatic one is to begin, if any.
    fn failed(&mut self, now_s: i64) -> Option<i64> {
        self.last_ok = false;
        self.failures += 1;
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

/// The directory of the log, made if it is missing.
fn make_dir(server: &Server, config: &Config) -> std::io::Result<DiskDir> {
    Ok(DiskDir::create(path(config))?.with_faults(server.faults.clone()))
}

/// Whether there is a log with a manifest.
pub fn exists(config: &Config) -> bool {
    path(config).join(manifest_name(&config.appendfilename)).exists()
        || config.dir.join(&config.appendfilename).exists()
}
