//! Streams: an append-only log of entries, each an ID and a list of fields, and the consumer groups that read it.
//!
//! - [`entries`](Entries): the log itself, nodes of Redis 7's stream listpacks in ID order, the bytes of RDB and DUMP.
//! - [`group`](Group): how far each group has read, and what its consumers have not acknowledged.
//! - `delivery`: how entries get to consumers (XREADGROUP, XCLAIM, XAUTOCLAIM).
//! - [`load`](Loader): a stream out of foreign bytes, checked part by part.
//!
//! Time is always given by the caller, as Unix time in milliseconds. A clone shares nodes and groups with its original
//! until either changes them, so a snapshot can take one at the cost of the node count.

mod delivery;
mod entries;
mod group;
mod id;
mod load;
mod node;
mod rax_shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::garbage::Bulk;

pub use delivery::{Claim, Claimed};
pub use entries::{AddError, Entries, NodeLimits, SetIdError, Trim};
pub use group::{Consumer, ConsumerIdx, Group, Pending};
pub use id::{IdError, IdText, NewId, StreamId};
pub use load::{CorruptStream, Loader};
pub use node::{Entry, Fields};

/// A stream: its entries and the groups that read them. An empty one still exists.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The log.
    pub entries: Entries,
    groups: Bulk<BTreeMap<Box<[u8]>, Arc<Group>>>,
}

impl Stream {
    /// A stream without entries or groups.
    pub fn new() -> Self {
        Stream::default()
    }

    /// The groups and their names, sorted by name.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, &**group))
    }

    /// The group called `name`.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(|group| &**group)
    }

    /// The group called `name`, to change it, beside the entries its operations read.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<(&Entries, &mut Group)> {
        let group = self.groups.get_mut(name)?;
        Some((&self.entries, Arc::make_mut(group)))
    }

    /// XGROUP CREATE: answers false if there is a group of that name.
    pub fn create_group(&mut self, name: &[u8], group: Group) -> bool {
        let is_new = !self.groups.contains_key(name);
        if is_new {
            self.groups.insert(name.into(), Arc::new(group));
        }
        is_new
    }

    /// XGROUP DESTROY: answers whether there was a group of that name.
    pub fn destroy_group(&mut self, name: &[u8]) -> bool {
        self.groups.remove(name).is_some()
    }

    /// What is allocated, in bytes, as a close estimate; what a clone shares counts for both. Nodes are judged by the
    /// first `samples` of them; groups are added up, O(consumers).
    pub fn memory_bytes(&self, samples: usize) -> usize {
        let groups = self.groups.iter().map(|(name, group)| name.len() + size_of::<Group>() + group.memory_bytes());
        self.entries.memory_bytes(samples)
            + groups.sum::<usize>()
            + group::btree_bytes(self.groups.len(), size_of::<Box<[u8]>>() + size_of::<Arc<Group>>())
    }
}
