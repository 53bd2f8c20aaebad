//! The entries of a stream, without its consumer groups: nodes in ID order and the counters around them.
//!
//! Redis keeps the nodes in a radix tree keyed by the 16 bytes of the master ID. Here it is a `BTreeMap` keyed by the
//! ID itself: the keys are fixed numbers, so a radix tree has no prefix to save, and a hundred entries share one node,
//! so the map is small; it gives O(log n) for a seek, for trimming at the front and for a node emptied in the middle,
//! none of which ever copies all the others. A node is shared (`Arc`) with the clones a snapshot takes: a writer copies
//! one node of a few kilobytes, never the stream.
//!
//! Invariants: no node is without a live entry; live IDs rise through all nodes; `len` is the sum of the nodes'.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::group::{btree_bytes, in_order};
use super::id::{NewId, StreamId};
use super::node::{Entry, Node, NodeEntry};
use super::rax_shape::rax_nodes;
use crate::encoding::extrapolate;
use crate::garbage;

/// The greatest node Redis builds, and the greatest sum of an entry's field sizes, in bytes.
const MAX_NODE_BYTES: usize = 1 << 30;

/// When a node is full: `stream-node-max-bytes` and `stream-node-max-entries`; 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimits {
    pub max_bytes: usize,
    pub max_entries: u64,
}

/// Why an entry was not added. Each variant is one Redis error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// The last ID is the greatest there is.
    Exhausted,
    /// The ID asked for is not greater than the last one.
    NotGreater,
    /// The fields together exceed 1 GiB.
    TooLarge,
}

/// Why XSETID was refused. Each variant is one Redis error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetIdError {
    /// The ID is smaller than the greatest deleted one.
    BelowMaxDeleted,
    /// The ID is smaller than the last entry's.
    BelowLastEntry,
    /// Fewer entries ever added than there are.
    AddedBelowLen,
}

/// What trimming leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// At most this many entries.
    MaxLen(u64),
    /// Only entries with this ID or a greater one.
    MinId(StreamId),
}

/// The entries of a stream and what is remembered about those gone.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    pub(super) nodes: BTreeMap<StreamId, Arc<Node>>,
    pub(super) len: u64,
    pub(super) last_id: StreamId,
    pub(super) first_id: StreamId,
    pub(super) max_deleted_id: StreamId,
    pub(super) added: u64,
}

impl Entries {
    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none. A stream without entries still exists.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many entries were ever added, or what XSETID said.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// The last ID given out, even if its entry is gone.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The ID of the first entry; `0-0` if there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The first ID in the nodes, be its entry deleted or not; the greatest ID if there is no node. Trimming to it
    /// leaves exactly what is there.
    pub fn front_id(&self) -> StreamId {
        let front = self.nodes.first_key_value().and_then(|(&master_id, node)| node.forward(master_id)?.next());
        front.map_or(StreamId::MAX, |front| front.entry.id)
    }

    /// The greatest ID that XDEL removed; `0-0` if none.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// The ID of the last entry still there.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        self.range_rev(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id)
    }

    /// The nodes in order, as RDB and DUMP carry them: master ID and listpack bytes.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (StreamId, &[u8])> {
        self.nodes.iter().map(|(&master_id, node)| (master_id, node.as_bytes()))
    }

    /// The entry with exactly this ID.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// The entries from `start` to `end`, both included, in order.
    pub fn range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> + Clone {
        let seek = self.nodes.range(..=start).next_back().map_or(start, |(&master_id, _)| master_id);
        (in_order(seek..=end).into_iter().flat_map(|masters| self.nodes.range(masters)))
            .flat_map(|(&master_id, node)| node.forward(master_id))
            .flat_map(move |node| node.seek(start))
            .filter_map(NodeEntry::live)
            .skip_while(move |entry| entry.id < start)
            .take_while(move |entry| entry.id <= end)
    }

    /// The entries from `end` back to `start`, both included.
    pub fn range_rev(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Entry<'_>> + Clone {
        (self.nodes.range(..=end).rev())
            .flat_map(|(&master_id, node)| node.backward(master_id))
            .flatten()
            .filter_map(NodeEntry::live)
            .skip_while(move |entry| entry.id > end)
            .take_while(move |entry| entry.id >= start)
    }

    /// The ID that adding an entry at `now_ms` (Unix time in milliseconds) would give it.
    pub fn next_id(&self, wanted: NewId, now_ms: u64) -> Result<StreamId, AddError> {
        if self.last_id == StreamId::MAX {
            return Err(AddError::Exhausted);
        }
        let id = match wanted {
            NewId::Exact(id) => Some(id),
            NewId::AutoSeq(ms) if ms == self.last_id.ms => {
                self.last_id.seq.checked_add(1).map(|seq| StreamId { ms, seq })
            }
            NewId::AutoSeq(ms) => Some(StreamId { ms, seq: 0 }),
            NewId::Auto if now_ms > self.last_id.ms => Some(StreamId { ms: now_ms, seq: 0 }),
            NewId::Auto => self.last_id.next(),
        };
        id.filter(|&id| id > self.last_id).ok_or(AddError::NotGreater)
    }

    /// XADD: appends an entry with these fields (name and value) and answers its ID.
    pub fn add<'f>(
        &mut self,
        wanted: NewId,
        now_ms: u64,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])> + Clone,
        limits: NodeLimits,
    ) -> Result<StreamId, AddError> {
        let id = self.next_id(wanted, now_ms)?;
        let fields_bytes =
            fields.clone().fold(0usize, |sum, (name, value)| sum.saturating_add(name.len() + value.len()));
        if fields_bytes > MAX_NODE_BYTES {
            return Err(AddError::TooLarge);
        }
        self.append(id, fields, fields_bytes, limits);
        Ok(id)
    }

    /// XDEL: deletes the entries with these IDs; answers how many there were.
    pub fn delete(&mut self, ids: impl IntoIterator<Item = StreamId>) -> u64 {
        let mut deleted = 0;
        for id in ids {
            if self.delete_one(id) {
                self.max_deleted_id = self.max_deleted_id.max(id);
                deleted += 1;
            }
        }
        if deleted > 0 {
            self.find_first_id();
        }
        deleted
    }

    /// Removes the oldest entries. `approx` takes whole nodes only; `limit` is the most entries to remove, 0 for all.
    /// Answers how many went.
    pub fn trim(&mut self, strategy: Trim, approx: bool, limit: u64) -> u64 {
        let (before, mut gone) = (self.len, Vec::new());
        while let Some(mut node) = self.nodes.first_entry() {
            let (master_id, live) = (*node.key(), node.get().live());
            let excess = match strategy {
                Trim::MaxLen(max_len) => self.len.saturating_sub(max_len),
                Trim::MinId(_) => self.len,
            };
            if excess == 0 || (limit > 0 && before - self.len + live > limit) {
                break;
            }
            let end = match strategy {
                Trim::MaxLen(_) => StreamId::MAX,
                Trim::MinId(min_id) => min_id,
            };
            let whole = match strategy {
                Trim::MaxLen(_) => live <= excess,
                Trim::MinId(min_id) => node.get().last_id(master_id) < min_id,
            };
            if whole {
                gone.push(node.remove());
                self.len -= live;
                continue;
            }
            if !approx {
                let deleted = Arc::make_mut(node.get_mut()).delete_front(master_id, excess, end);
                self.len -= deleted;
                if deleted == live {
                    node.remove();
                }
            }
            break;
        }
        leave(gone.into_iter());
        if self.len < before {
            self.find_first_id();
        }
        before - self.len
    }

    /// XSETID: sets the last ID and, where given, the counters. A `max_deleted_id` of `0-0` changes nothing.
    pub fn set_id(
        &mut self,
        last_id: StreamId,
        added: Option<u64>,
        max_deleted_id: Option<StreamId>,
    ) -> Result<(), SetIdError> {
        if last_id < self.max_deleted_id {
            return Err(SetIdError::BelowMaxDeleted);
        }
        if self.last_entry_id().is_some_and(|last_entry| last_id < last_entry) {
            return Err(SetIdError::BelowLastEntry);
        }
        if added.is_some_and(|added| added < self.len) {
            return Err(SetIdError::AddedBelowLen);
        }
        self.last_id = last_id;
        self.added = added.unwrap_or(self.added);
        self.max_deleted_id = max_deleted_id.filter(|&id| id != StreamId::MIN).unwrap_or(self.max_deleted_id);
        Ok(())
    }

    /// Whether XDEL removed an entry at `start` or behind it, as far as the counters tell.
    pub fn has_tombstone_from(&self, start: StreamId) -> bool {
        !self.is_empty() && self.first_id <= self.max_deleted_id && start <= self.max_deleted_id
    }

    /// How many entries were ever added up to and including `id`, where the counters tell; `None` if `id` lies
    /// between the entries, in the future, or before an entry that XDEL removed.
    pub fn rank_ever_added(&self, id: StreamId) -> Option<u64> {
        if self.added == 0 {
            return Some(0);
        }
        if id >= self.last_id || self.is_empty() {
            return (id <= self.last_id).then_some(self.added);
        }
        if self.max_deleted_id >= self.first_id {
            return None;
        }
        let gone = self.added.wrapping_sub(self.len);
        match id.cmp(&self.first_id) {
            std::cmp::Ordering::Less => Some(gone),
            std::cmp::Ordering::Equal => Some(gone.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// XINFO's `radix-tree-nodes`: how many nodes Redis's index of these nodes would have. O(nodes).
    pub fn rax_nodes(&self) -> u64 {
        rax_nodes(self.nodes.keys().map(|master_id| master_id.to_bytes()))
    }

    /// What is allocated, in bytes, as a close estimate, judged by the first `samples` nodes.
    pub fn memory_bytes(&self, samples: usize) -> usize {
        let nodes = self.nodes.values().map(|node| node.memory_bytes() + 2 * size_of::<usize>());
        let (seen, all) = (self.nodes.len().min(samples), self.nodes.len());
        extrapolate(nodes.take(samples).sum(), seen, all)
            + btree_bytes(self.nodes.len(), size_of::<StreamId>() + size_of::<Arc<Node>>())
    }

    fn append<'f>(
        &mut self,
        id: StreamId,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])> + Clone,
        fields_bytes: usize,
        limits: NodeLimits,
    ) {
        match self.nodes.last_entry().filter(|node| has_room(node.get(), fields_bytes, limits)) {
            Some(mut node) => {
                let master_id = *node.key();
                Arc::make_mut(node.get_mut()).append(master_id, id, fields);
            }
            None => {
                let mut node = Node::new(fields.clone().map(|(name, _)| name));
                node.append(id, id, fields);
                self.nodes.insert(id, Arc::new(node));
            }
        }
        self.len += 1;
        self.added = self.added.wrapping_add(1);
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    fn delete_one(&mut self, id: StreamId) -> bool {
        let Some((&master_id, node)) = self.nodes.range_mut(..=id).next_back() else { return false };
        let Some(flags_at) = node.find(master_id, id) else { return false };
        if node.live() == 1 {
            self.nodes.remove(&master_id);
        } else {
            Arc::make_mut(node).delete(flags_at);
        }
        self.len -= 1;
        true
    }

    pub(super) fn find_first_id(&mut self) {
        let first = self.range(StreamId::MIN, StreamId::MAX).next().map(|entry| entry.id);
        self.first_id = first.unwrap_or_default();
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        leave(mem::take(&mut self.nodes).into_values());
    }
}

/// Frees nodes, if they are many by the collector.
fn leave(nodes: impl ExactSizeIterator<Item = Arc<Node>> + Send + 'static) {
    /// What a full node takes by default, about.
    const NODE_BYTES: usize = 4096;
    let len = nodes.len();
    if len > garbage::LARGE_LEN {
        garbage::leave(nodes, len * NODE_BYTES);
    }
}

/// Whether an entry with `fields_bytes` of names and values goes into `node` rather than into a new one.
fn has_room(node: &Node, fields_bytes: usize, limits: NodeLimits) -> bool {
    let max_bytes = match limits.max_bytes {
        1..=MAX_NODE_BYTES => limits.max_bytes,
        _ => MAX_NODE_BYTES,
    };
    node.total_bytes() + fields_bytes < max_bytes
        && (limits.max_entries == 0 || node.header().is_some_and(|header| header.all() < limits.max_entries))
}
