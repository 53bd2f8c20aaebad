//! Consumer groups: who reads a stream together, how far the group has read, and what each consumer was given but
//! has not acknowledged.
//!
//! A pending entry has one [`Nack`], owned by the group's list (PEL) and ordered by ID. A consumer keeps only the set
//! of its IDs, and a NACK names its consumer by index into the group's table, so that nothing is shared by pointer and
//! a clone is a plain copy. Invariant: a NACK's consumer exists and has its ID, and no other consumer has it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};

use super::entries::Entries;
use super::id::StreamId;
use crate::garbage::Bulk;

/// A consumer of one group: an index into the group's table, valid until that consumer is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerIdx(pub(super) u32);

/// A consumer group of a stream.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The greatest ID given to any consumer.
    pub last_id: StreamId,
    /// How many entries the group has read, counted from the first ever added; `None` when deletions or an arbitrary
    /// `last_id` made that unknown.
    pub entries_read: Option<u64>,
    pub(super) pel: Bulk<BTreeMap<StreamId, Nack>>,
    /// The table [`ConsumerIdx`] points into; a deleted consumer leaves a hole that the next one fills.
    consumers: Bulk<Vec<Option<Consumer>>>,
    /// The holes.
    holes: Vec<ConsumerIdx>,
    by_name: Bulk<BTreeMap<Box<[u8]>, ConsumerIdx>>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last tried to read or claim, Unix time in milliseconds.
    pub seen_time_ms: i64,
    /// When it last got something, Unix time in milliseconds; `None` if never.
    pub active_time_ms: Option<i64>,
    pub(super) pel: Bulk<BTreeSet<StreamId>>,
}

/// An entry delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nack {
    /// When it was last delivered, Unix time in milliseconds.
    pub(super) delivery_time_ms: i64,
    /// How many times it was delivered.
    pub(super) delivery_count: u64,
    pub(super) consumer: ConsumerIdx,
}

/// A pending entry as XPENDING shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending<'a> {
    pub id: StreamId,
    pub consumer: &'a [u8],
    /// When it was last delivered, Unix time in milliseconds.
    pub delivery_time_ms: i64,
    /// How many times it was delivered.
    pub delivery_count: u64,
}

impl Group {
    /// A group without consumers that reads on after `last_id`.
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Group { last_id, entries_read, ..Group::default() }
    }

    /// The consumer called `name`.
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerIdx> {
        self.by_name.get(name).copied()
    }

    /// Adds a consumer, seen at `now_ms`; `None` if there is one of that name.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: i64) -> Option<ConsumerIdx> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let consumer = Consumer { name: name.into(), seen_time_ms: now_ms, active_time_ms: None, pel: Bulk::default() };
        let idx = self.place(consumer);
        self.by_name.insert(name.into(), idx);
        Some(idx)
    }

    /// Removes a consumer and all that is pending for it; answers how many entries that was.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let idx = self.by_name.remove(name)?;
        self.holes.push(idx);
        let consumer = self.consumers[idx.0 as usize].take().expect("a named consumer is in the table");
        for id in consumer.pel.iter() {
            self.pel.remove(id);
        }
        if self.by_name.is_empty() {
            (self.consumers, self.holes) = (Bulk::default(), Vec::new());
        }
        Some(consumer.pel.len())
    }

    /// A consumer by index.
    pub fn consumer(&self, idx: ConsumerIdx) -> &Consumer {
        self.consumers[idx.0 as usize].as_ref().expect("the index is of a consumer not deleted")
    }

    /// A consumer by index, to change its times.
    pub fn consumer_mut(&mut self, idx: ConsumerIdx) -> &mut Consumer {
        self.consumers[idx.0 as usize].as_mut().expect("the index is of a consumer not deleted")
    }

    /// The consumers, sorted by name.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> + Clone {
        self.by_name.values().map(|&idx| self.consumer(idx))
    }

    /// How many entries are pending for all consumers.
    pub fn pending_len(&self) -> usize {
        self.pel.len()
    }

    /// The smallest and the greatest pending ID.
    pub fn pending_bounds(&self) -> Option<(StreamId, StreamId)> {
        let (&first, _) = self.pel.first_key_value()?;
        let (&last, _) = self.pel.last_key_value()?;
        Some((first, last))
    }

    /// The pending entries within `ids`, in order.
    pub fn pending(&self, ids: impl RangeBounds<StreamId>) -> impl Iterator<Item = Pending<'_>> {
        in_order(ids).into_iter().flat_map(|ids| self.pel.range(ids)).map(|(&id, nack)| self.describe(id, nack))
    }

    /// The pending entries of one consumer within `ids`, in order.
    pub fn pending_of(
        &self,
        consumer: ConsumerIdx,
        ids: impl RangeBounds<StreamId>,
    ) -> impl Iterator<Item = Pending<'_>> {
        let owned = &self.consumer(consumer).pel;
        in_order(ids)
            .into_iter()
            .flat_map(|ids| owned.range(ids))
            .filter_map(|id| self.pel.get(id).map(|nack| self.describe(*id, nack)))
    }

    /// What is known about the pending entry `id`.
    pub fn pending_entry(&self, id: StreamId) -> Option<Pending<'_>> {
        self.pel.get(&id).map(|nack| self.describe(id, nack))
    }

    /// XACK: forgets a pending entry; answers whether there was one.
    pub fn ack(&mut self, id: StreamId) -> bool {
        match self.pel.remove(&id) {
            Some(nack) => {
                self.consumer_mut(nack.consumer).pel.remove(&id);
                true
            }
            None => false,
        }
    }

    /// How many entries the group has yet to be given; `None` when deletions made that unknown. Negative only if
    /// `entries_read` was set too high.
    pub fn lag(&self, entries: &Entries) -> Option<i64> {
        if entries.added() == 0 {
            return Some(0);
        }
        let read = match self.entries_read {
            Some(read) if !entries.has_tombstone_from(self.last_id) => read,
            _ => entries.rank_ever_added(self.last_id)?,
        };
        Some(entries.added().wrapping_sub(read) as i64)
    }

    /// What the group has allocated, in bytes, as a close estimate.
    pub fn memory_bytes(&self) -> usize {
        let names = self.consumers.capacity() * size_of::<Option<Consumer>>()
            + self.holes.capacity() * size_of::<ConsumerIdx>()
            + btree_bytes(self.by_name.len(), size_of::<(Box<[u8]>, ConsumerIdx)>())
            + self.consumers().map(|consumer| 2 * consumer.name.len()).sum::<usize>();
        let nack_bytes = size_of::<StreamId>() + size_of::<Nack>();
        names + btree_bytes(self.pel.len(), nack_bytes) + btree_bytes(self.pel.len(), size_of::<StreamId>())
    }

    /// Makes `consumer` the owner of `id`, which may be pending for another one or for nobody.
    pub(super) fn assign(&mut self, id: StreamId, nack: Nack) {
        let before = self.pel.insert(id, nack).map(|old| old.consumer);
        if before == Some(nack.consumer) {
            return;
        }
        if let Some(owner) = before {
            self.consumer_mut(owner).pel.remove(&id);
        }
        self.consumer_mut(nack.consumer).pel.insert(id);
    }

    pub(super) fn describe(&self, id: StreamId, nack: &Nack) -> Pending<'_> {
        Pending {
            id,
            consumer: self.consumer(nack.consumer).name(),
            delivery_time_ms: nack.delivery_time_ms,
            delivery_count: nack.delivery_count,
        }
    }

    /// Puts a consumer into a hole of the table, or at its end.
    fn place(&mut self, consumer: Consumer) -> ConsumerIdx {
        if let Some(idx) = self.holes.pop() {
            self.consumers[idx.0 as usize] = Some(consumer);
            return idx;
        }
        self.consumers.push(Some(consumer));
        ConsumerIdx(u32::try_from(self.consumers.len() - 1).expect("4 billion consumers do not fit in memory"))
    }
}

impl Consumer {
    /// Its name, unique within the group.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many entries are pending for it.
    pub fn pending_len(&self) -> usize {
        self.pel.len()
    }

    /// The IDs pending for it, in order.
    pub fn pending_ids(&self) -> impl ExactSizeIterator<Item = StreamId> + '_ {
        self.pel.iter().copied()
    }
}

/// The range as `BTreeMap::range` takes it, or nothing if its start lies behind its end.
pub(super) fn in_order(ids: impl RangeBounds<StreamId>) -> Option<(Bound<StreamId>, Bound<StreamId>)> {
    let range = (ids.start_bound().cloned(), ids.end_bound().cloned());
    let ordered = match range {
        (Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start < end,
        (Bound::Included(start), Bound::Included(end)) => start <= end,
        (Bound::Included(start), Bound::Excluded(end)) => start < end,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
    };
    ordered.then_some(range)
}

/// The bytes of a B-tree of `len` elements: std's nodes have 11 slots, on average two thirds full, and a header.
pub(super) fn btree_bytes(len: usize, element_bytes: usize) -> usize {
    len * (element_bytes * 3 / 2 + 3)
}
