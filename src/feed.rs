//! The feed: the ordered log of effects, which AOF and replicas read.
//!
//! A command's records enter while its shards are still locked, so the order of the log is the order of the data.
//! This lock is the last one taken; nothing is taken under it. Without readers nothing is recorded at all.

use crate::keyspace::effects::Record;
use crate::util::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Something that follows the feed. Called under the feed's lock: it must only store what it gets.
pub trait Reader: Send {
    /// One command's effects, in order; several records are one transaction when `MULTI` and `EXEC` are among them.
    fn append(&mut self, records: &[Record]);
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
    pub fn append(&self, records: &mut Vec<Record>, apart: bool) {
        if records.is_empty() {
            return;
        }
        if records.len() > 1 && !apart {
            let db = records[0].db;
            records.insert(0, Record::new(db, &[b"MULTI"]));
            records.push(Record::new(db, &[b"EXEC"]));
        }
        self.inner.lock().readers.iter_mut().for_each(|(_, reader)| reader.append(records));
        records.clear();
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed(active: {})", self.is_active())
    }
}
