//! Building a stream from foreign bytes: an RDB file, a DUMP payload, a master's snapshot.
//!
//! The parts come in the order RDB has them. Each is checked when it comes, so a stream that loads keeps every
//! invariant the other modules rely on, whatever the bytes were.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Stream;
use super::entries::Entries;
use super::group::{ConsumerIdx, Group, Nack};
use super::id::StreamId;
use super::node::Node;
use crate::garbage::Bulk;

/// Why foreign bytes are no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptStream(&'static str);

impl CorruptStream {
    /// The reason, for people.
    pub fn reason(self) -> &'static str {
        self.0
    }
}

/// Takes the parts of a stream: nodes in ID order, then the counters, then each group, with its pending entries,
/// then its consumers, each with the IDs it owns.
#[derive(Debug, Default)]
pub struct Loader {
    entries: Entries,
    /// The ID of the last live entry taken so far.
    last_live: Option<StreamId>,
    groups: Bulk<BTreeMap<Box<[u8]>, Arc<Group>>>,
    group: Option<OpenGroup>,
}

/// The group whose parts are coming.
#[derive(Debug)]
struct OpenGroup {
    name: Box<[u8]>,
    group: Group,
    consumer: Option<ConsumerIdx>,
    /// Pending entries that no consumer has claimed yet.
    ownerless: usize,
}

/// The owner of a pending entry whose consumer is still to come.
const NOBODY: ConsumerIdx = ConsumerIdx(u32::MAX);

impl Loader {
    /// A loader that has seen nothing.
    pub fn new() -> Self {
        Loader::default()
    }

    /// Whether no live entry has come so far.
    pub fn is_empty(&self) -> bool {
        self.last_live.is_none()
    }

    /// The next node: the listpack stored under `master_id`. One with nothing but deleted entries is dropped.
    pub fn node(&mut self, master_id: StreamId, bytes: Vec<u8>) -> Result<(), CorruptStream> {
        let node = Node::from_bytes(master_id, &bytes).map_err(CorruptStream)?;
        let mut live = node.forward(master_id).into_iter().flatten().filter(|entry| !entry.is_deleted());
        let Some(first) = live.next().map(|entry| entry.entry.id) else { return Ok(()) };
        let last = live.last().map_or(first, |entry| entry.entry.id);
        let previous = self.entries.nodes.last_key_value().map(|(&master_id, _)| master_id);
        if previous >= Some(master_id) || self.last_live >= Some(first) {
            return Err(CorruptStream("stream nodes not in order"));
        }
        self.last_live = Some(last);
        self.entries.len += node.live();
        self.entries.nodes.insert(master_id, Arc::new(node));
        Ok(())
    }

    /// What is remembered beside the entries. `added` is `None` in files of Redis before 7.0, which did not count.
    /// The number of entries and the first ID, which files hold too, are taken from the nodes.
    pub fn counters(
        &mut self,
        last_id: StreamId,
        max_deleted_id: StreamId,
        added: Option<u64>,
    ) -> Result<(), CorruptStream> {
        if self.last_live > Some(last_id) {
            return Err(CorruptStream("stream entry behind the last ID"));
        }
        self.entries.last_id = last_id;
        self.entries.max_deleted_id = max_deleted_id;
        self.entries.added = added.unwrap_or(self.entries.len);
        self.entries.find_first_id();
        Ok(())
    }

    /// The next group. `entries_read` is -1 for unknown, and `None` in files of Redis before 7.0, where it is
    /// worked out.
    pub fn group(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<i64>) -> Result<(), CorruptStream> {
        self.close_group()?;
        if self.groups.contains_key(name) {
            return Err(CorruptStream("two groups with the same name"));
        }
        let entries_read = match entries_read {
            Some(-1) => None,
            Some(read) => Some(read as u64),
            None => self.entries.rank_ever_added(last_id),
        };
        let group = Group::new(last_id, entries_read);
        self.group = Some(OpenGroup { name: name.into(), group, consumer: None, ownerless: 0 });
        Ok(())
    }

    /// The next pending entry of the group.
    pub fn pending(&mut self, id: StreamId, delivery_time_ms: i64, delivery_count: u64) -> Result<(), CorruptStream> {
        let open = self.open_group()?;
        let nack = Nack { delivery_time_ms, delivery_count, consumer: NOBODY };
        if open.group.pel.insert(id, nack).is_some() {
            return Err(CorruptStream("two pending entries with the same ID in a group"));
        }
        open.ownerless += 1;
        Ok(())
    }

    /// The next consumer of the group. An `active_time_ms` of -1 means never.
    pub fn consumer(&mut self, name: &[u8], seen_time_ms: i64, active_time_ms: i64) -> Result<(), CorruptStream> {
        let open = self.open_group()?;
        let consumer = open.group.create_consumer(name, seen_time_ms);
        let consumer = consumer.ok_or(CorruptStream("Duplicate stream consumer detected"))?;
        open.group.consumer_mut(consumer).active_time_ms = (active_time_ms != -1).then_some(active_time_ms);
        open.consumer = Some(consumer);
        Ok(())
    }

    /// The next pending entry that the consumer owns. It must be pending in the group, and owned by no other.
    pub fn owned(&mut self, id: StreamId) -> Result<(), CorruptStream> {
        let open = self.open_group()?;
        let consumer = open.consumer.ok_or(CorruptStream("pending entry outside a consumer"))?;
        match open.group.pel.get_mut(&id) {
            None => return Err(CorruptStream("consumer with an entry not pending in its group")),
            Some(nack) if nack.consumer != NOBODY => return Err(CorruptStream("pending entry with two owners")),
            Some(nack) => nack.consumer = consumer,
        }
        open.group.consumer_mut(consumer).pel.insert(id);
        open.ownerless -= 1;
        Ok(())
    }

    /// The stream, once all parts have come.
    pub fn finish(mut self) -> Result<Stream, CorruptStream> {
        self.close_group()?;
        Ok(Stream { entries: self.entries, groups: self.groups })
    }

    fn open_group(&mut self) -> Result<&mut OpenGroup, CorruptStream> {
        self.group.as_mut().ok_or(CorruptStream("part of a group outside one"))
    }

    fn close_group(&mut self) -> Result<(), CorruptStream> {
        if let Some(open) = self.group.take() {
            if open.ownerless > 0 {
                return Err(CorruptStream("pending entry without an owner"));
            }
            self.groups.insert(open.name, Arc::new(open.group));
        }
        Ok(())
    }
}

impl fmt::Display for CorruptStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for CorruptStream {}
