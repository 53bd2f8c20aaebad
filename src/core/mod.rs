//! What everything in a server works with: configuration, log, clock, keys, clients and the like. Snapshots, the log and
//! replication know of a server no more than this and each other.

pub mod background;
pub mod stop;
pub mod switches;

use crate::clients::Clients;
use crate::config::{Config, KeyspaceEvents};
use crate::core::background::Background;
use crate::core::stop::Stop;
use crate::core::switches::Switches;
use crate::feed::Feed;
use crate::keyspace::lock::{Locked, MayWait, Shards};
use crate::keyspace::waiters::Waits;
use crate::memory::UsedMemory;
use crate::memory::reclaim::Reclaimer;
use crate::metrics::stats::Stats;
use crate::os::log::Log;
use crate::os::process::OwnProcess;
use crate::scripts::FunctionRegister;
use crate::util::clock::Clock;
use crate::util::rng::Random;
use crate::util::sync::Mutex;
use redstart_persistence::file::{DiskDir, Faults};
use redstart_types::seed::HashSeed;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};

/// What everything in a server works with. Threads that outlive a call keep an `Arc` of it.
pub struct Core {
    pub config: ConfigCell,
    pub log: Log,
    pub clock: Clock,
    pub random: Random,
    pub shards: Shards,
    /// The waits of clients whose commands are not finished.
    pub waits: Waits,
    pub clients: Clients,
    pub feed: Feed,
    pub stats: Stats,
    pub pause: Pause,
    pub busy: Busy,
    /// The libraries of FUNCTION. Used after shard locks are taken.
    pub functions: FunctionRegister,
    pub used_memory: Arc<UsedMemory>,
    pub reclaimer: Reclaimer,
    /// Threads that load, save and rewrite.
    pub background: Arc<Background>,
    pub stop: Stop,
    pub switches: Switches,
    /// What goes wrong with files, in tests.
    pub faults: Option<Faults>,
    /// The process around the server, when it has one to itself; an embedded one has not.
    pub process: Option<OwnProcess>,
}

/// What a core is made of.
pub struct Parts {
    pub config: Config,
    pub log: Log,
    pub clock: Clock,
    pub random: Random,
    /// The secret key of all hashes.
    pub hash_seed: HashSeed,
    /// How many commands there are to count.
    pub commands: usize,
    pub faults: Option<Faults>,
    pub process: Option<OwnProcess>,
}

/// More shards than workers, so that two workers seldom want the same one.
const SHARDS_A_WORKER: usize = 4;

impl Core {
    /// A core without keys or clients.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, log, clock, random, hash_seed, commands, faults, process } = parts;
        let used_memory = Arc::<UsedMemory>::default();
        let workers = config.io_threads;
        let shards = (workers * SHARDS_A_WORKER).next_power_of_two().min(Shards::MAX);
        Core {
            shards: Shards::new(shards, config.databases as usize, hash_seed),
            stats: Stats::new(workers, commands),
            config: ConfigCell::new(config),
            log,
            clients: Clients::new(clock.clone()),
            clock,
            random,
            waits: Default::default(),
            feed: Default::default(),
            pause: Default::default(),
            busy: Default::default(),
            functions: Default::default(),
            reclaimer: Reclaimer::new(used_memory.clone()),
            used_memory,
            background: Default::default(),
            stop: Stop::default(),
            switches: Default::default(),
            faults,
            process,
        }
    }

    /// A directory for files of the data set.
    pub fn disk(&self, path: impl Into<PathBuf>) -> DiskDir {
        DiskDir::new(path).with_faults(self.faults.clone())
    }

    /// Locks all shards for work that has time; None when the server ends before it gets them.
    pub fn lock_all(&self, may_wait: MayWait) -> Option<Locked<'_>> {
        self.shards.lock_unless(self.shards.all(), may_wait, || self.stop.is_requested())
    }
}

/// Its keys are freed without anybody waiting for that.
impl Drop for Core {
    fn drop(&mut self) {
        let shards = &mut self.shards;
        self.reclaimer.collect(|| shards.clear());
    }
}

/// The configuration now in force. Threads keep an `Arc` of it and refresh that between batches of commands.
#[derive(Debug)]
pub struct ConfigCell {
    current: Mutex<Arc<Config>>,
    /// The address of `current`: whoever holds another one has an old configuration.
    address: AtomicUsize,
}

impl ConfigCell {
    /// Starts with `config`.
    pub fn new(config: Config) -> Self {
        let current = Arc::new(config);
        ConfigCell { address: AtomicUsize::new(Arc::as_ptr(&current) as usize), current: Mutex::new(current) }
    }

    /// The configuration now.
    pub fn load(&self) -> Arc<Config> {
        self.current.lock().clone()
    }

    /// Replaces `known` if it is no longer the configuration in force. `known` is kept alive by its owner, so its
    /// address cannot have been given to a newer one.
    #[inline]
    pub fn refresh(&self, known: &mut Arc<Config>) {
        if self.address.load(Ordering::Acquire) != Arc::as_ptr(known) as usize {
            *known = self.load();
        }
    }

    /// Puts a changed configuration into force: `change` gets the one in force now.
    pub fn update<E>(&self, change: impl FnOnce(&Config) -> Result<Config, E>) -> Result<(), E> {
        let mut current = self.current.lock();
        let changed = Arc::new(change(&current)?);
        self.address.store(Arc::as_ptr(&changed) as usize, Ordering::Release);
        *current = changed;
        Ok(())
    }

    /// Which keyspace events are wanted now.
    pub fn notify_classes(&self) -> KeyspaceEvents {
        self.current.lock().notify_keyspace_events
    }
}

/// CLIENT PAUSE.
#[derive(Debug, Default)]
pub struct Pause {
    /// Unix ms; 0 when there is no pause.
    until_ms: AtomicI64,
    writes_only: AtomicBool,
    /// The server waits for its replicas before it ends: nobody may write.
    ending: AtomicBool,
}

impl Pause {
    /// Begins a pause, or extends the one under way: the later end and the stronger mode hold.
    pub fn begin(&self, until_ms: i64, writes_only: bool, now_ms: i64) {
        let is_on = self.until_ms.load(Ordering::Acquire) > now_ms;
        self.writes_only.store(writes_only && (!is_on || self.writes_only.load(Ordering::Acquire)), Ordering::Release);
        let until_ms = if is_on { until_ms.max(self.until_ms.load(Ordering::Acquire)) } else { until_ms };
        self.until_ms.store(until_ms, Ordering::Release);
    }

    /// Ends it.
    pub fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }

    /// Holds writes back while the server waits for its replicas, or does not any more.
    pub fn set_ending(&self, ending: bool) {
        self.ending.store(ending, Ordering::Release);
    }

    /// When the pause ends (Unix ms), if there is one; of the server's own pauses, when to look again.
    #[inline]
    pub fn until_ms(&self, now_ms: i64) -> Option<i64> {
        const LOOK_AGAIN_MS: i64 = 100;
        let until = Some(self.until_ms.load(Ordering::Acquire)).filter(|until| *until > now_ms);
        if self.ending.load(Ordering::Acquire) { until.max(Some(now_ms + LOOK_AGAIN_MS)) } else { until }
    }

    /// Whether only commands that change data wait at this time.
    pub fn is_writes_only(&self, now_ms: i64) -> bool {
        self.writes_only.load(Ordering::Acquire) || self.until_ms.load(Ordering::Acquire) <= now_ms
    }
}

/// A script that runs for long: everybody else is told BUSY.
#[derive(Debug, Default)]
pub struct Busy {
    /// Unix ms at which the running script began, negative once everybody else is told BUSY; 0 when none runs. One word:
    /// the main loop may look at a script that ends just then.
    since_ms: AtomicI64,
    /// What has become of it, the first of the two: [`Busy::WRITTEN`] or [`Busy::KILLED`].
    fate: AtomicU8,
    is_function: AtomicBool,
    /// A client goes through it line by line.
    is_debugged: AtomicBool,
    /// The function that has been running for a while.
    pub function: Mutex<Option<RunningFunction>>,
}

/// What FUNCTION STATS tells of a running function.
#[derive(Debug, Clone)]
pub struct RunningFunction {
    pub name: Vec<u8>,
    /// The command that called it.
    pub argv: Vec<Vec<u8>>,
}

impl Busy {
    /// It has changed data: it must not be killed any more.
    const WRITTEN: u8 = 1;
    /// It is to be killed: it must not change data any more.
    const KILLED: u8 = 2;

    /// A script begins, or a function.
    pub fn begin(&self, now_ms: i64, is_function: bool) {
        self.is_function.store(is_function, Ordering::Release);
        self.fate.store(0, Ordering::Release);
        self.since_ms.store(now_ms.max(1), Ordering::Release);
    }

    /// It has ended. Whether others were told BUSY.
    pub fn end(&self) -> bool {
        if self.is_function() {
            *self.function.lock() = None;
        }
        self.since_ms.swap(0, Ordering::AcqRel) < 0
    }

    /// When the running script began (Unix ms), if one runs.
    pub fn since_ms(&self) -> Option<i64> {
        Some(self.since_ms.load(Ordering::Acquire).abs()).filter(|since| *since != 0)
    }

    /// The script that began then has run longer than `busy-reply-threshold`. False when that is known, or it has ended.
    pub fn declare(&self, since_ms: i64) -> bool {
        self.since_ms.compare_exchange(since_ms, -since_ms, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether other clients are to be told BUSY.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.since_ms.load(Ordering::Acquire) < 0
    }

    /// Whether what runs, or ran last, is a function.
    pub fn is_function(&self) -> bool {
        self.is_function.load(Ordering::Acquire)
    }

    /// A client begins to go through scripts line by line, or has done so.
    pub fn set_debugged(&self, is_debugged: bool) {
        self.is_debugged.store(is_debugged, Ordering::Release);
    }

    /// Whether a client goes through what runs line by line. Others wait, and are told nothing.
    pub fn is_debugged(&self) -> bool {
        self.is_debugged.load(Ordering::Acquire)
    }

    /// The script is about to change data for the first time. False when it must not: it is being killed.
    pub fn note_write(&self) -> bool {
        self.becomes(Self::WRITTEN)
    }

    /// Whether the running script has changed data.
    pub fn has_written(&self) -> bool {
        self.fate.load(Ordering::Acquire) == Self::WRITTEN
    }

    /// SCRIPT KILL: the script is to end at its next look. False when it has changed data.
    pub fn kill(&self) -> bool {
        self.becomes(Self::KILLED)
    }

    /// Whether the running script is to end.
    pub fn is_killed(&self) -> bool {
        self.fate.load(Ordering::Acquire) == Self::KILLED
    }

    fn becomes(&self, fate: u8) -> bool {
        let before = self.fate.compare_exchange(0, fate, Ordering::AcqRel, Ordering::Acquire);
        before.is_ok() || before == Err(fate)
    }
}

#[cfg(test)]
mod tests {
    use super::Busy;

    /// The main loop looks at a script and finds it slow; meanwhile the script ends.
    #[test]
    fn a_script_that_has_ended_makes_nobody_busy() {
        let busy = Busy::default();
        busy.begin(5, false);
        let since_ms = busy.since_ms().unwrap();
        busy.end();
        assert!(!busy.declare(since_ms) && !busy.is_busy());
        busy.begin(9, false);
        assert!(!busy.declare(since_ms) && !busy.is_busy(), "that was another script");
        assert!(busy.declare(9) && busy.is_busy() && !busy.declare(9));
        assert_eq!(busy.since_ms(), Some(9));
        busy.end();
        assert!(!busy.is_busy());
    }

    #[test]
    fn a_script_is_killed_or_writes_but_not_both() {
        let busy = Busy::default();
        busy.begin(5, false);
        assert!(busy.note_write() && busy.note_write());
        assert!(!busy.kill() && busy.has_written() && !busy.is_killed());
        busy.begin(6, false);
        assert!(busy.kill() && busy.kill());
        assert!(!busy.note_write() && !busy.has_written() && busy.is_killed());
    }
}
