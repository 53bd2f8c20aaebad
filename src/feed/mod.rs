//! The feed: the ordered log of effects, which AOF and replicas read.
//!
//! A command's records enter while its shards are still locked, so for every key the order of the log is the order of
//! the data. Each reader has a lock of its own, the last one taken; there is none around them all, which every write
//! would pay for. Without readers nothing is recorded at all.

pub mod records;

use crate::util::sync::Mutex;
use records::{Record, Records, Target};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Something that follows the feed. Called while shards are locked: it must only store what it gets.
pub trait Reader: Send + Sync {
    /// Which records it gets.
    fn target(&self) -> Target {
        Target::Log
    }

    /// One command's effects, in order; several records are one transaction when `MULTI` and `EXEC` are among them.
    fn append(&self, records: &[Record<'_>]);
}

/// The feed of one server.
#[derive(Debug)]
pub struct Feed {
    /// Where the stream for replicas ends, whether or not it is kept.
    pub offset: Arc<Offset>,
    current: Mutex<Arc<Readers>>,
    /// Where the current list is, for [`Feed::refresh`].
    address: AtomicUsize,
}

/// The offset of the last byte for replicas. While no bytes are kept, each command that is logged counts as one, so that
/// offsets tell positions in the log apart. Source: Redis 7.2.
#[derive(Debug, Default)]
pub struct Offset {
    end: AtomicU64,
    counts_bytes: AtomicBool,
}

impl Offset {
    /// The offset of the last byte.
    #[inline]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// There are bytes up to here.
    pub fn set(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Whether bytes are counted from now on, or commands.
    pub fn count_bytes(&self, counts_bytes: bool) {
        self.counts_bytes.store(counts_bytes, Ordering::Relaxed);
    }

    /// So many commands have been logged.
    #[inline]
    pub fn count_commands(&self, count: usize) {
        if !self.counts_bytes.load(Ordering::Relaxed) {
            self.end.fetch_add(count as u64, Ordering::AcqRel);
        }
    }
}

/// Who reads, by the numbers that [`Feed::add_reader`] gave.
#[derive(Clone, Default)]
pub struct Readers {
    list: Vec<(u64, Arc<dyn Reader>)>,
    last_id: u64,
}

impl Default for Feed {
    fn default() -> Self {
        let none = Arc::<Readers>::default();
        Feed {
            offset: Arc::default(),
            address: AtomicUsize::new(Arc::as_ptr(&none) as usize),
            current: Mutex::new(none),
        }
    }
}

impl Feed {
    /// Replaces `known` if others read by now. Called with shards locked. `known` is kept alive by its owner, so its
    /// address cannot have been given to a newer list.
    #[inline]
    pub fn refresh(&self, known: &mut Arc<Readers>) {
        if self.address.load(Ordering::Acquire) != Arc::as_ptr(known) as usize {
            *known = self.current.lock().clone();
        }
    }

    /// Adds a reader; the number to remove it by. Whoever needs an exact starting point holds all shard locks.
    pub fn add_reader(&self, reader: Arc<dyn Reader>) -> u64 {
        self.change(|readers| {
            readers.last_id += 1;
            readers.list.push((readers.last_id, reader));
        })
    }

    /// Takes a reader away. Commands that run just now may still append to it.
    pub fn remove_reader(&self, id: u64) {
        self.change(|readers| readers.list.retain(|(other, _)| *other != id));
    }

    fn change(&self, change: impl FnOnce(&mut Readers)) -> u64 {
        let mut current = self.current.lock();
        let mut changed = Readers::clone(&current);
        change(&mut changed);
        let last_id = changed.last_id;
        let changed = Arc::new(changed);
        self.address.store(Arc::as_ptr(&changed) as usize, Ordering::Release);
        *current = changed;
        last_id
    }
}

impl Readers {
    /// Whether nobody reads: records are not wanted.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends one command's effects, several as a transaction unless they stand `apart`. Shard locks must be held.
    pub fn append(&self, records: &mut Records, apart: bool) {
        let mut list: SmallVec<[Record<'_>; 4]> = SmallVec::new();
        list.extend(records.iter().filter(|record| record.target != Target::Nobody));
        if list.len() > 1 && !apart {
            list.insert(0, Record::MULTI);
            list.push(Record::EXEC);
        }
        if !list.is_empty() {
            self.give_out(&list);
        }
        drop(list);
        records.clear();
    }

    fn give_out(&self, records: &[Record<'_>]) {
        let is_for_all = records.iter().all(|record| record.target == Target::Everybody);
        for (_, reader) in &self.list {
            if is_for_all {
                reader.append(records);
            } else {
                append_some(&**reader, records);
            }
        }
    }
}

/// Appends the records that are for this reader, if there are any besides MULTI and EXEC, which have no database.
fn append_some(reader: &dyn Reader, records: &[Record<'_>]) {
    let target = reader.target();
    let own: Vec<Record<'_>> = records.iter().filter(|record| record.is_for(target)).copied().collect();
    if own.iter().any(|record| record.db.is_some()) {
        reader.append(&own);
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Readers({:?})", self.list.iter().map(|(id, _)| id).collect::<Vec<_>>())
    }
}
