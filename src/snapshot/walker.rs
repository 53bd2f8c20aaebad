//! Takes a snapshot while clients write: see [`crate::keyspace::walk`] for what happens at the keys.
//!
//! A walker holds one shard's lock for some microseconds at a time, to copy entries out; encoding, compressing and
//! writing happen without any lock. What writers have handed over goes first, so that little of it is kept. Several
//! walkers may share the work, each with an output of its own.

use crate::core::Core;
use crate::keyspace::lock::{Locked, MayWait, ShardSet};
use crate::keyspace::shard::ShardDb;
use crate::keyspace::value::{Entry, Value};
use crate::keyspace::walk::{self, Batch, BigStep, Facts, Gone, Handed, Handover, Header, Piece, Pieces, Whereabouts};
use crate::snapshot::state::Persistence;
use crate::util::sync::Mutex;
use redstart_types::entry::Content;
use redstart_types::table::{Keyed, hash_key};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Most entries that are copied out at a time: some ten microseconds.
const ENTRIES: usize = 128;
/// Steps after which a walker lets other threads run.
const STEPS_A_TURN: u32 = 4;
/// More walkers than this only wait for the file.
const WALKERS_MAX: usize = 4;

#[cfg(test)]
mod tests;

/// Where one walker's part of a snapshot goes.
pub trait Output {
    /// A whole key.
    fn entry(&mut self, db: usize, key: &[u8], facts: Facts, content: &Content<'_, Value>) -> io::Result<()>;
    /// A big value: its pieces come next, then its end.
    fn begin_big(&mut self, header: &Header);
    fn piece(&mut self, piece: Piece<'_>);
    /// Between pieces: writes what has been collected, if it is worth it.
    fn drain_big(&mut self) -> io::Result<()>;
    fn end_big(&mut self) -> io::Result<()>;
    /// Writes all that has been collected.
    fn flush(&mut self) -> io::Result<()>;
}

/// How far a snapshot has come, for INFO.
#[derive(Debug, Default)]
pub struct Progress {
    pub keys_done: AtomicU64,
    pub keys_total: AtomicU64,
}

/// A snapshot whose instant has been.
#[derive(Debug)]
pub struct Snapshot {
    handover: Arc<Handover>,
    progress: Arc<Progress>,
    /// Keys, and keys that expire, of each database.
    pub counts: Vec<(u64, u64)>,
    /// The function libraries.
    pub functions: Vec<Vec<u8>>,
    /// How many threads write it: as many as there are cores that no worker needs.
    pub walkers: usize,
}

impl Snapshot {
    /// This is the instant. All shards are locked. None while another snapshot is under way.
    pub fn begin(core: &Core, saves: &Persistence, locked: &mut Locked<'_>) -> Option<Self> {
        if locked.iter().flat_map(|shard| &shard.dbs).any(|part| part.walked_db().is_some()) {
            return None;
        }
        saves.kept.reset_peak();
        let handover = Arc::new(Handover::new(saves.kept.clone()));
        let mut counts = Vec::new();
        for (_, shard) in locked.iter_mut() {
            counts.resize(shard.dbs.len(), (0, 0));
            for (db, part) in shard.dbs.iter_mut().enumerate() {
                counts[db].0 += part.keys.len() as u64;
                counts[db].1 += part.expires_len() as u64;
                part.begin_walk(db, &handover);
            }
        }
        saves.progress.keys_done.store(0, Ordering::Relaxed);
        saves.progress.keys_total.store(counts.iter().map(|(keys, _)| keys).sum(), Ordering::Relaxed);
        let walkers = walkers(core.config.load().io_threads);
        let progress = saves.progress.clone();
        Some(Snapshot { handover, progress, counts, functions: core.functions.sources(), walkers })
    }

    /// Writes the data set of the instant, by threads that each have an output made by `output`. When that
    /// fails, or `is_cancelled` says so, the walk is brought to its end without output.
    pub fn write<O: Output>(
        self,
        core: &Core,
        may_wait: MayWait,
        output: impl Fn() -> O + Sync,
        is_cancelled: impl Fn() -> bool + Sync,
    ) -> io::Result<()> {
        let parts = (0..self.counts.len()).flat_map(|db| (0..core.shards.count()).map(move |shard| (db, shard)));
        let walk = Walk {
            core,
            progress: self.progress,
            may_wait,
            handover: self.handover,
            parts: parts.filter(|(db, _)| self.counts[*db].0 > 0).collect(),
            next_part: AtomicUsize::new(0),
            is_cancelled: &is_cancelled,
            has_failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        };
        let run = || {
            let mut walker = Walker {
                walk: &walk,
                out: output(),
                batch: Batch::default(),
                pieces: Pieces::default(),
                steps: 0,
                gone: None,
            };
            walk.core.reclaimer.collect(|| walker.run());
        };
        std::thread::scope(|scope| {
            for _ in 1..self.walkers {
                // Without threads there is one walker all the same.
                let _ = std::thread::Builder::new().name("snapshot".to_owned()).spawn_scoped(scope, run);
            }
            run();
        });
        walk.end();
        walk.failure.into_inner().map_or(Ok(()), Err)
    }
}

/// How many walkers a snapshot of this server may have: as many as there are cores that no worker needs.
fn walkers(workers: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.saturating_sub(workers).clamp(1, WALKERS_MAX)
}

/// What the walkers of a snapshot share.
struct Walk<'a> {
    core: &'a Core,
    progress: Arc<Progress>,
    may_wait: MayWait,
    handover: Arc<Handover>,
    /// (database, shard), in the order in which they are walked.
    parts: Vec<(usize, usize)>,
    next_part: AtomicUsize,
    is_cancelled: &'a (dyn Fn() -> bool + Sync),
    has_failed: AtomicBool,
    /// Why nothing is written any more.
    failure: Mutex<Option<io::Error>>,
}

impl Walk<'_> {
    /// Whether there is still any output.
    fn goes_out(&self) -> bool {
        if !self.has_failed.load(Ordering::Relaxed) && (self.is_cancelled)() {
            self.fail(io::Error::new(io::ErrorKind::Interrupted, "called off"));
        }
        !self.has_failed.load(Ordering::Relaxed)
    }

    fn fail(&self, error: io::Error) {
        self.failure.lock().get_or_insert(error);
        self.has_failed.store(true, Ordering::Relaxed);
    }

    fn check(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn lock(&self, shard: usize) -> Locked<'_> {
        let mut set = ShardSet::NONE;
        set.add(shard);
        self.core.shards.lock(set, self.may_wait)
    }

    /// The walk is over: nothing has to be handed over any more.
    fn end(&self) {
        for shard in 0..self.core.shards.count() {
            self.lock(shard).iter_mut().flat_map(|(_, shard)| &mut shard.dbs).for_each(ShardDb::end_walk);
        }
    }
}

struct Walker<'a, O> {
    walk: &'a Walk<'a>,
    out: O,
    batch: Batch,
    pieces: Pieces,
    steps: u32,
    /// The frozen value being walked, once nobody else has it.
    gone: Option<Gone>,
}

impl<O: Output> Walker<'_, O> {
    fn run(&mut self) {
        while let Some((db, shard)) = self.walk.parts.get(self.walk.next_part.fetch_add(1, Ordering::Relaxed)) {
            while self.step(*db, *shard) {
                self.handed_over();
                self.let_others_run();
            }
        }
        self.handed_over();
        if self.walk.goes_out() {
            self.walk.check(self.out.flush());
        }
    }

    /// Where threads are more than cores, a worker that has something to do should not have to wait for the end of this
    /// thread's time slice, milliseconds away. With two busy cores the longest wait during a save is a third shorter so;
    /// at every step, rather than every few, the save would take half as long again.
    fn let_others_run(&mut self) {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS_A_TURN) {
            std::thread::yield_now();
        }
    }

    /// Walks on through a shard's part of a database; false once that is over.
    fn step(&mut self, db: usize, shard: usize) -> bool {
        let goes_out = self.walk.goes_out();
        let entries = if self.walk.core.config.load().rdb_key_save_delay == 0 { ENTRIES } else { 1 };
        let mut locked = self.walk.lock(shard);
        let Some(part) = part_of(&mut locked, db) else { return false };
        let more = part.walk_step(&mut self.batch, entries, goes_out);
        locked.yield_to_waiters();
        let keys = self.batch.len() as u64;
        let (walk, out) = (self.walk, &mut self.out);
        self.batch.drain(|key, facts, content| {
            if !walk.has_failed.load(Ordering::Relaxed) {
                walk.check(out.entry(db, key, facts, content));
            }
        });
        self.count(keys);
        for id in std::mem::take(&mut self.batch.big) {
            self.big(id);
        }
        more
    }

    /// Writes what has been handed over.
    fn handed_over(&mut self) {
        while let Some(handed) = self.walk.handover.next() {
            match handed {
                Handed::Entry(db, entry) => {
                    self.old_entry(db, &entry);
                    self.walk.handover.is_written(&entry);
                }
                Handed::Big(id) => self.big(id),
                Handed::Table(db, table, epoch) => {
                    let old = table.into_elements().filter(|entry| entry.is_marked() != epoch);
                    old.for_each(|entry| self.old_entry(db, &entry));
                }
            }
        }
    }

    fn old_entry(&mut self, db: usize, entry: &Entry) {
        if self.walk.goes_out() {
            let written = self.out.entry(db, entry.key(), Facts::of(entry), &entry.content());
            self.walk.check(written);
            self.count(1);
        }
    }

    /// Walks through a frozen value, wherever it is.
    fn big(&mut self, id: u64) {
        let Some(header) = self.walk.handover.header(id) else { return };
        let begins = self.walk.goes_out();
        if begins {
            self.out.begin_big(&header);
        }
        let (mut more, mut given) = (true, 0);
        while more {
            more = self.big_step(id);
            given += self.pieces.len();
            let (walk, out) = (self.walk, &mut self.out);
            if begins && walk.goes_out() {
                self.pieces.drain(|piece| out.piece(piece));
                walk.check(out.drain_big());
            } else {
                self.pieces.drain(|_| {});
            }
            self.let_others_run();
        }
        self.gone = None;
        self.walk.handover.forget(id);
        if given != header.len {
            self.walk.fail(io::Error::other("a value has not as many elements as it had"));
        }
        if begins {
            self.walk.check(self.out.end_big());
        }
        self.count(1);
    }

    /// Copies some elements of a frozen value out; false once all have been given out.
    fn big_step(&mut self, id: u64) -> bool {
        let (shards, handover) = (&self.walk.core.shards, &self.walk.handover);
        if let Some(gone) = &mut self.gone {
            return walk::frozen_steps(&mut gone.value, &mut self.pieces);
        }
        let (db, key) = match handover.find(id) {
            Some(Whereabouts::At(db, key)) => (db, key),
            Some(Whereabouts::Gone(gone)) => {
                self.gone = Some(gone);
                return true;
            }
            None => return false,
        };
        let mut locked = self.walk.lock(shards.shard_of(hash_key(shards.seed(), &key)));
        let step = part_of(&mut locked, db).map(|part| part.walk_big_step(id, &key, &mut self.pieces));
        let more = match step {
            Some(BigStep::More) => true,
            Some(BigStep::Over) => false,
            // It has another name by now, or is gone.
            Some(BigStep::Moved) | None => !handover.is_at(id, db, &key),
        };
        locked.yield_to_waiters();
        more
    }

    /// Counts keys, and waits as `rdb-key-save-delay` says.
    fn count(&mut self, keys: u64) {
        let Walk { core, progress, .. } = self.walk;
        let before = progress.keys_done.fetch_add(keys, Ordering::Relaxed);
        let delay_us = core.config.load().rdb_key_save_delay;
        let every = u64::from(delay_us.unsigned_abs());
        let mut left = match delay_us {
            0 => return,
            1.. => Duration::from_micros(every) * u32::try_from(keys).unwrap_or(u32::MAX),
            _ if (before + keys) / every > before / every => Duration::from_micros(1),
            _ => return,
        };
        // In small steps: the directive may change, and the snapshot be called off, meanwhile.
        while !left.is_zero() && self.walk.goes_out() && core.config.load().rdb_key_save_delay != 0 {
            let nap = left.min(Duration::from_millis(10));
            std::thread::sleep(nap);
            left -= nap;
        }
    }
}

/// The locked part of the database that was this one at the instant.
fn part_of<'l>(locked: &'l mut Locked<'_>, db: usize) -> Option<&'l mut ShardDb> {
    locked.iter_mut().flat_map(|(_, shard)| &mut shard.dbs).find(|part| part.walked_db() == Some(db))
}
