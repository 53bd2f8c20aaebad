//! The feed: the ordered log of effects, which AOF and replicas read.
//!
//! A command's records enter while its shards are still locked, so the order of the log is the order of the data.
//! This lock is the last one taken; nothing is taken under it. Without readers nothing is recorded at all.

use crate::keyspace::records::{Record, Records, Target};
use crate::util::sync::Mutex;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something that follows the feed. Called under the feed's lock: it must only store what it gets.
pub trait Reader: Send {
    /// Which records it gets.
    fn target(&self) -> Target {
        Target::Log
    }

    /// One command's effects, in order; several records are one transaction when `MULTI` and `EXEC` are among them.
    fn append(&mut self, records: &[Record<'_>]);
}

/// The feed of one server.
#[derive(Default)]
pub struct Feed {
    inner: Mutex<Inner>,
    active: AtomicBool,
}

#[derive(Default)]
struct Inner {
    readers: Vec<(u64, Box<dyn Reader>)>,
    last_id: u64,
}

impl Feed {
    /// Whether anybody reads: records are wanted.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Adds a reader; the number to remove it by. Whoever needs an exact starting point holds all shard locks.
    pub fn add_reader(&self, reader: Box<dyn Reader>) -> u64 {
        let mut inner = self.inner.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        inner.readers.push((id, reader));
        self.active.store(true, Ordering::Release);
        id
    }

    /// Takes a reader away.
    pub fn remove_reader(&self, id: u64) {
        let mut inner = self.inner.lock();
        inner.readers.retain(|(other, _)| *other != id);
        self.active.store(!inner.readers.is_empty(), Ordering::Release);
    }

    /// Appends one command's effects, several as a transaction unless they stand `apart`. Shard locks must be held.
    pub fn append(&self, records: &mut Records, apart: bool) {
        let said = || records.iter().filter(|record| record.target != Target::Nobody);
        let mut list: SmallVec<[Record<'_>; 4]> = SmallVec::new();
        let is_transaction = records.len() > 1 && !apart && said().nth(1).is_some();
        list.extend(is_transaction.then_some(Record::MULTI));
        list.extend(said());
        list.extend(is_transaction.then_some(Record::EXEC));
        if !list.is_empty() {
            self.give_out(&list);
        }
        drop(list);
        records.clear();
    }

    fn give_out(&self, records: &[Record<'_>]) {
        let is_for_all = records.iter().all(|record| record.target == Target::Everybody);
        for (_, reader) in &mut self.inner.lock().readers {
            if is_for_all {
                reader.append(records);
            } else {
                append_some(&mut **reader, records);
            }
        }
    }
}

/// Appends the records that are for this reader, if there are any besides MULTI and EXEC, which have no database.
fn append_some(reader: &mut dyn Reader, records: &[Record<'_>]) {
    let target = reader.target();
    let own: Vec<Record<'_>> = records.iter().filter(|record| record.is_for(target)).copied().collect();
    if own.iter().any(|record| record.db.is_some()) {
        reader.append(&own);
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed(active: {})", self.is_active())
    }
}
