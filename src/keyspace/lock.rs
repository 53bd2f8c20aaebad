//! The only code that locks shards: all that are needed, once, in ascending order.
//!
//! A thread that may wait for shards has a [`MayWait`], and hands it down to what locks. The main loop has none: a script
//! that never ends holds all shards, and only the main loop hears the client that wants to end it.

use crate::keyspace::shard::Shard;
use crate::util::sync::{Mutex, MutexGuard};
use redstart_types::seed::HashSeed;
use smallvec::SmallVec;
use std::time::Duration;

/// A set of shards, one bit each. There are at most 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShardSet(u64);

/// A thread's right to wait for shards. Threads get it where they begin (`core/background.rs`, `net/worker.rs`, and
/// `run/start.rs` for who starts a server), which `tests/tidy.rs` sees to. The main loop never gets one: it can only try.
#[derive(Debug, Clone, Copy)]
pub struct MayWait(());

impl MayWait {
    /// The right of a thread that nobody needs as long as it waits.
    pub fn of_thread() -> Self {
        MayWait(())
    }
}

/// The shards of one server.
#[derive(Debug)]
pub struct Shards {
    shards: Box<[Padded]>,
    seed: HashSeed,
}

/// A shard on cache lines of its own, so that two workers' locks do not share one.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// Shards that are locked now.
pub struct Locked<'g> {
    guards: SmallVec<[(u8, MutexGuard<'g, Shard>); 2]>,
    /// All of them: the position in `guards` is the shard's number.
    all: bool,
    mask: u64,
}

impl ShardSet {
    /// No shard.
    pub const NONE: ShardSet = ShardSet(0);

    /// One shard.
    #[inline]
    pub fn of(shard: usize) -> ShardSet {
        ShardSet(1 << shard)
    }

    /// Adds a shard.
    #[inline]
    pub fn add(&mut self, shard: usize) {
        self.0 |= 1 << shard;
    }

    /// Adds another set's shards.
    pub fn add_all(&mut self, other: ShardSet) {
        self.0 |= other.0;
    }

    /// Whether no shard is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether there is more than one shard in it.
    pub fn is_many(self) -> bool {
        self.0.count_ones() > 1
    }

    /// Whether this shard is in it.
    pub fn has(self, shard: usize) -> bool {
        self.0 >> shard & 1 == 1
    }

    /// Whether every shard of `other` is in it.
    pub fn contains(self, other: ShardSet) -> bool {
        other.0 & !self.0 == 0
    }
}

impl Shards {
    /// Most shards a server has.
    pub const MAX: usize = 64;

    /// `count` empty shards (a power of two, at most [`Shards::MAX`]) of `databases` databases.
    pub fn new(count: usize, databases: usize, seed: HashSeed) -> Self {
        assert!(count.is_power_of_two() && count <= Self::MAX, "the number of shards is a power of two up to 64");
        let shards = (0..count).map(|_| Padded(Mutex::new(Shard::new(databases, &seed)))).collect();
        Shards { shards, seed }
    }

    /// Drops all shards: the server has ended.
    pub fn clear(&mut self) {
        self.shards = Box::default();
    }

    /// The seed of every key's hash.
    pub fn seed(&self) -> &HashSeed {
        &self.seed
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// The shard that a key of this hash lives in.
    #[inline]
    pub fn shard_of(&self, hash: u64) -> usize {
        (hash >> 8) as usize & (self.shards.len() - 1)
    }

    /// All shards.
    pub fn all(&self) -> ShardSet {
        ShardSet(if self.shards.len() == 64 { u64::MAX } else { (1 << self.shards.len()) - 1 })
    }

    /// Locks a set of shards, waiting as long as it takes.
    pub fn lock(&self, set: ShardSet, may_wait: MayWait) -> Locked<'_> {
        self.lock_unless(set, may_wait, || false).expect("nothing says to give up")
    }

    /// Locks a set of shards; while it has to wait, asks `give_up` every few milliseconds.
    #[inline]
    pub fn lock_unless(
        &self,
        set: ShardSet,
        _may_wait: MayWait,
        mut give_up: impl FnMut() -> bool,
    ) -> Option<Locked<'_>> {
        self.lock_each(set, |mutex| wait(mutex, &mut give_up))
    }

    /// Locks a set of shards if all of them are free just now.
    pub fn try_lock(&self, set: ShardSet) -> Option<Locked<'_>> {
        self.lock_each(set, |_| None)
    }

    /// Locks a set of shards; `wait` locks, or gives up, one that is not free.
    #[inline]
    fn lock_each<'g>(
        &'g self,
        set: ShardSet,
        mut wait: impl FnMut(&'g Mutex<Shard>) -> Option<MutexGuard<'g, Shard>>,
    ) -> Option<Locked<'g>> {
        let mut guards = SmallVec::new();
        let mut left = set.0;
        while left != 0 {
            let idx = left.trailing_zeros() as usize;
            left &= left - 1;
            let mutex = &self.shards[idx].0;
            let guard = match mutex.try_lock() {
                Some(guard) => guard,
                None => wait(mutex)?,
            };
            guards.push((idx as u8, guard));
        }
        Some(Locked { guards, all: set == self.all(), mask: self.shards.len() as u64 - 1 })
    }

    /// Asks for the memory of a key's bucket, if its shard is free just now.
    pub fn prefetch_bucket(&self, db: usize, hash: u64) {
        if let Some(shard) = self.shards[self.shard_of(hash)].0.try_lock() {
            shard.dbs[db].keys.prefetch_bucket(hash);
        }
    }

    /// Asks for the memory of a key's entry, if its shard is free just now. The bucket should have been asked for.
    pub fn prefetch_entry(&self, db: usize, hash: u64) {
        if let Some(shard) = self.shards[self.shard_of(hash)].0.try_lock() {
            shard.dbs[db].keys.prefetch_element(hash);
        }
    }
}

/// Locks a shard that is not free just now, unless `give_up`, asked every few milliseconds, says so.
#[cold]
fn wait<'g>(mutex: &'g Mutex<Shard>, give_up: &mut dyn FnMut() -> bool) -> Option<MutexGuard<'g, Shard>> {
    loop {
        if let Some(guard) = mutex.try_lock_for(WAIT) {
            return Some(guard);
        }
        if give_up() {
            return None;
        }
    }
}

impl Locked<'_> {
    /// The locked shard that a key of this hash lives in.
    #[inline]
    pub fn shard(&self, hash: u64) -> &Shard {
        let position = self.position(hash);
        &self.guards[position].1
    }

    /// The same, to change it.
    #[inline]
    pub fn shard_mut(&mut self, hash: u64) -> &mut Shard {
        let position = self.position(hash);
        &mut self.guards[position].1
    }

    /// The locked shards, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.guards.iter().map(|(_, guard)| &**guard)
    }

    /// The locked shards with their numbers, in ascending order, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Shard)> {
        self.guards.iter_mut().map(|(idx, guard)| (usize::from(*idx), &mut **guard))
    }

    /// A locked shard by its number.
    pub fn numbered(&self, idx: usize) -> Option<&Shard> {
        self.guards.iter().find(|(other, _)| usize::from(*other) == idx).map(|(_, guard)| &**guard)
    }

    /// The shards that are locked.
    pub fn set(&self) -> ShardSet {
        ShardSet(self.guards.iter().fold(0, |set, (idx, _)| set | 1 << idx))
    }

    /// Unlocks; whoever waits gets the lock before this thread can take it again. For threads that come back at once.
    pub fn yield_to_waiters(self) {
        self.guards.into_iter().for_each(|(_, guard)| MutexGuard::unlock_fair(guard));
    }

    /// Whether every shard is locked.
    pub fn is_all(&self) -> bool {
        self.all
    }

    #[inline]
    fn position(&self, hash: u64) -> usize {
        let shard = (hash >> 8) & self.mask;
        if self.all {
            return shard as usize;
        }
        let found = self.guards.iter().position(|(idx, _)| u64::from(*idx) == shard);
        found.expect("a handler may touch only keys that its key specs or its scope declare")
    }
}

impl std::fmt::Debug for Locked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Locked({:#x})", self.set().0)
    }
}

/// How long a waiting thread sleeps before it asks whether to give up.
const WAIT: Duration = Duration::from_millis(5);
