//! One node of a stream: a listpack of about a hundred entries behind a master entry.
//!
//! ```text
//! master entry:  count  deleted  num-fields  field 1 .. field N  0
//! entry:         flags  ms-delta  seq-delta  [num-fields]  [field 1] value 1 .. [field N] value N  lp-count
//! ```
//!
//! - `count` entries are live, `deleted` more are still in the bytes, flagged DELETED.
//! - The deltas are the difference of the entry's ID to the node's master ID, which is the key of the node.
//! - An entry flagged SAMEFIELDS has the field names of the master entry and leaves out what stands in brackets.
//! - `lp-count` is how many elements of the entry stand before it, to walk back; the master entry ends with 0.
//!
//! The bytes are exactly those of Redis 7's streams, so RDB and DUMP carry them as they are. Foreign bytes are checked
//! once, by [`Node::from_bytes`].

use super::id::StreamId;
use crate::encoding::listpack::{self, Cursor, Element, Listpack};
use smallvec::SmallVec;

/// The flag of an entry that was deleted and is only passed over.
const DELETED: i64 = 1;
/// The flag of an entry that has the master entry's field names.
const SAMEFIELDS: i64 = 2;
/// The elements in front of the fields of an entry: flags and the two deltas.
const ENTRY_HEAD_LEN: i64 = 3;

/// A node's listpack. Its master ID is the key it is stored under.
#[derive(Clone, Debug)]
pub(super) struct Node {
    listpack: Listpack,
}

/// The counters of the master entry, and where things begin.
#[derive(Clone)]
pub(super) struct Header<'a> {
    /// Entries not deleted.
    pub(super) live: u64,
    /// Entries in the bytes but flagged as deleted.
    pub(super) deleted: u64,
    num_fields: u64,
    field_names: listpack::Iter<'a>,
    /// At the flags of the first entry, or at the end.
    entries: listpack::Iter<'a>,
}

/// An entry of a stream: its ID and its fields.
#[derive(Clone)]
pub struct Entry<'a> {
    /// The entry's ID.
    pub id: StreamId,
    fields: Fields<'a>,
}

/// The fields of an entry, as pairs of name and value in the order given to XADD.
#[derive(Clone)]
pub struct Fields<'a> {
    /// Where the names are, if not in front of each value.
    master_names: Option<listpack::Iter<'a>>,
    values: listpack::Iter<'a>,
    left: u64,
}

/// An entry as it lies in a node, deleted ones included.
#[derive(Clone)]
pub(super) struct NodeEntry<'a> {
    pub(super) entry: Entry<'a>,
    pub(super) flags_at: Cursor,
    flags: i64,
    lp_count: i64,
    /// At the flags of the next entry, or at the end.
    rest: listpack::Iter<'a>,
}

/// Walks a node's entries from the first to the last, deleted ones included.
#[derive(Clone)]
pub(super) struct Forward<'a> {
    master_id: StreamId,
    header: Header<'a>,
    rest: listpack::Iter<'a>,
}

/// Walks a node's entries from the last to the first, deleted ones included.
#[derive(Clone)]
pub(super) struct Backward<'a> {
    master_id: StreamId,
    node: &'a Node,
    header: Header<'a>,
    /// At the lp-count of the next entry to answer, or at the zero that ends the master entry.
    lp_count_at: Option<Cursor>,
}

impl Node {
    /// A node without entries, whose master entry has these field names.
    pub(super) fn new<'f>(names: impl ExactSizeIterator<Item = &'f [u8]>) -> Self {
        let mut listpack = Listpack::new();
        listpack.push_back(0);
        listpack.push_back(0);
        listpack.push_back(names.len() as i64);
        for name in names {
            listpack.push_back(name);
        }
        listpack.push_back(0);
        Node { listpack }
    }

    /// Takes over the bytes of a node whose key is `master_id`, after checking that they are a listpack with exactly
    /// the elements its counters promise, that live IDs rise from `master_id` on, and that the counters agree with
    /// the flags.
    pub(super) fn from_bytes(master_id: StreamId, bytes: &[u8]) -> Result<Self, &'static str> {
        let listpack = Listpack::from_bytes(bytes).map_err(|_| "not a listpack")?;
        let node = Node { listpack };
        node.check(master_id)?;
        Ok(node)
    }

    /// The bytes that DUMP and RDB carry.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.listpack.as_bytes()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.listpack.memory_bytes()
    }

    /// The counters of the master entry. `None` never happens after [`Node::from_bytes`].
    pub(super) fn header(&self) -> Option<Header<'_>> {
        let mut elements = self.listpack.iter();
        let live = counter(&mut elements)?;
        let deleted = counter(&mut elements)?;
        let num_fields = counter(&mut elements)?;
        let field_names = elements.clone();
        skip(&mut elements, num_fields)?;
        match elements.next()?.to_int()? {
            0 => Some(Header { live, deleted, num_fields, field_names, entries: elements }),
            _ => None,
        }
    }

    /// How many entries are live.
    pub(super) fn live(&self) -> u64 {
        counter(&mut self.listpack.iter()).unwrap_or(0)
    }

    /// The ID of the last entry, even if that one is deleted.
    pub(super) fn last_id(&self, master_id: StreamId) -> StreamId {
        let last = self.backward(master_id).and_then(|mut entries| entries.next());
        last.map_or(master_id, |last| last.entry.id)
    }

    /// Where the flags of the live entry `id` are.
    pub(super) fn find(&self, master_id: StreamId, id: StreamId) -> Option<Cursor> {
        let mut live = self.forward(master_id)?.seek(id).filter(|entry| !entry.is_deleted());
        live.find(|entry| entry.entry.id >= id).filter(|entry| entry.entry.id == id).map(|entry| entry.flags_at)
    }

    /// The size of [`Node::as_bytes`].
    pub(super) fn total_bytes(&self) -> usize {
        self.listpack.total_bytes()
    }

    /// The entries from the first to the last, deleted ones included.
    pub(super) fn forward(&self, master_id: StreamId) -> Option<Forward<'_>> {
        let header = self.header()?;
        let rest = header.entries.clone();
        Some(Forward { master_id, header, rest })
    }

    /// The entries from the last to the first, deleted ones included.
    pub(super) fn backward(&self, master_id: StreamId) -> Option<Backward<'_>> {
        let header = self.header()?;
        Some(Backward { master_id, node: self, header, lp_count_at: self.listpack.last() })
    }

    /// Adds an entry at the end. `id` is greater than all in the node.
    pub(super) fn append<'f>(
        &mut self,
        master_id: StreamId,
        id: StreamId,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])> + Clone,
    ) {
        let same = self.has_names(fields.clone().map(|(name, _)| name));
        let num_fields = fields.len() as i64;
        let (flags, lp_count) = match same {
            true => (SAMEFIELDS, ENTRY_HEAD_LEN + num_fields),
            false => (0, ENTRY_HEAD_LEN + 1 + 2 * num_fields),
        };
        let mut entry: SmallVec<[Element<'_>; 16]> = SmallVec::new();
        entry.push(flags.into());
        entry.push((id.ms.wrapping_sub(master_id.ms) as i64).into());
        entry.push((id.seq.wrapping_sub(master_id.seq) as i64).into());
        if !same {
            entry.push(num_fields.into());
        }
        for (name, value) in fields {
            if !same {
                entry.push(name.into());
            }
            entry.push(value.into());
        }
        entry.push(lp_count.into());
        self.listpack.push_all_back(&entry);
        self.count_change(1, 0);
    }

    /// Flags as deleted the entry, live so far, whose flags are at `flags_at`.
    pub(super) fn delete(&mut self, flags_at: Cursor) {
        self.flag_deleted(flags_at);
        self.count_change(-1, 1);
    }

    /// Flags as deleted the first live entries, up to `max` of them and only below `end`; answers how many.
    pub(super) fn delete_front(&mut self, master_id: StreamId, max: u64, end: StreamId) -> u64 {
        let victims: Vec<Cursor> = (self.forward(master_id).into_iter().flatten())
            .filter(|entry| !entry.is_deleted())
            .take_while(|entry| entry.entry.id < end)
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .map(|entry| entry.flags_at)
            .collect();
        for &flags_at in victims.iter().rev() {
            self.flag_deleted(flags_at);
        }
        self.count_change(-(victims.len() as i64), victims.len() as i64);
        victims.len() as u64
    }

    /// Sets the flag alone. What stands before `flags_at` stays where it is.
    fn flag_deleted(&mut self, flags_at: Cursor) {
        let flags = self.listpack.at(flags_at).to_int().unwrap_or(0);
        self.listpack.replace(flags_at, flags | DELETED);
    }

    /// Whether the master entry has exactly these field names.
    fn has_names<'f>(&self, mut names: impl ExactSizeIterator<Item = &'f [u8]>) -> bool {
        match self.header() {
            Some(header) if header.num_fields == names.len() as u64 => {
                header.field_names.take(names.len()).all(|master| names.next().is_some_and(|name| master.is_text(name)))
            }
            _ => false,
        }
    }

    /// Adds to the counters of the master entry.
    fn count_change(&mut self, live_change: i64, deleted_change: i64) {
        let live_at = self.listpack.first();
        self.add_at(live_at, live_change);
        let deleted_at = self.listpack.first().and_then(|live_at| self.listpack.next(live_at));
        self.add_at(deleted_at, deleted_change);
    }

    fn add_at(&mut self, place: Option<Cursor>, change: i64) {
        let Some(place) = place.filter(|_| change != 0) else { return };
        let count = self.listpack.at(place).to_int().unwrap_or(0);
        self.listpack.replace(place, count + change);
    }

    fn check(&self, master_id: StreamId) -> Result<(), &'static str> {
        let mut walk = self.forward(master_id).ok_or("bad master entry")?;
        let (mut live, mut deleted, mut last) = (0, 0, None);
        while walk.rest.cursor().is_some() {
            let entry = walk.next().ok_or("bad entry")?;
            if entry.lp_count != entry.expected_lp_count() {
                return Err("entry with a wrong element count");
            }
            let id = entry.entry.id;
            if entry.is_deleted() {
                deleted += 1;
            } else if id < master_id || last.is_some_and(|last| last >= id) {
                return Err("entry IDs not in order");
            } else {
                live += 1;
                last = Some(id);
            }
        }
        match (walk.header.live, walk.header.deleted) == (live, deleted) {
            true => Ok(()),
            false => Err("entry count differs from the master entry"),
        }
    }
}

impl Header<'_> {
    /// How many entries are in the bytes, deleted ones included.
    pub(super) fn all(&self) -> u64 {
        self.live.saturating_add(self.deleted)
    }
}

impl<'a> NodeEntry<'a> {
    /// The entry, unless it is deleted.
    pub(super) fn live(self) -> Option<Entry<'a>> {
        (!self.is_deleted()).then_some(self.entry)
    }

    /// Reads the entry that `elements` begins with.
    fn read(master_id: StreamId, header: &Header<'a>, mut elements: listpack::Iter<'a>) -> Option<Self> {
        let flags_at = elements.cursor()?;
        let (flags, id) = flags_and_id(master_id, &mut elements)?;
        let same = flags & SAMEFIELDS != 0;
        let left = if same { header.num_fields } else { counter(&mut elements)? };
        let fields = Fields { master_names: same.then(|| header.field_names.clone()), values: elements.clone(), left };
        skip(&mut elements, if same { left } else { left.checked_mul(2)? })?;
        let lp_count = elements.next()?.to_int()?;
        Some(NodeEntry { entry: Entry { id, fields }, flags_at, flags, lp_count, rest: elements })
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    fn expected_lp_count(&self) -> i64 {
        let num_fields = self.entry.fields.left as i64;
        match self.flags & SAMEFIELDS != 0 {
            true => ENTRY_HEAD_LEN + num_fields,
            false => ENTRY_HEAD_LEN + 1 + 2 * num_fields,
        }
    }
}

impl Forward<'_> {
    /// Passes over the entries below `start`, deleted ones included.
    pub(super) fn seek(mut self, start: StreamId) -> Self {
        let mut elements = self.rest.clone();
        while let Some((flags, id)) = flags_and_id(self.master_id, &mut elements) {
            if id >= start {
                return self;
            }
            let fields = match flags & SAMEFIELDS != 0 {
                true => self.header.num_fields,
                false => counter(&mut elements).unwrap_or(u64::MAX).saturating_mul(2),
            };
            // The fields, and the lp-count behind them.
            if skip(&mut elements, fields.saturating_add(1)).is_none() {
                break;
            }
            self.rest = elements.clone();
        }
        self.rest = elements;
        self
    }
}

impl<'a> Iterator for Forward<'a> {
    type Item = NodeEntry<'a>;

    fn next(&mut self) -> Option<NodeEntry<'a>> {
        let entry = NodeEntry::read(self.master_id, &self.header, self.rest.clone())?;
        self.rest = entry.rest.clone();
        Some(entry)
    }
}

impl<'a> Iterator for Backward<'a> {
    type Item = NodeEntry<'a>;

    fn next(&mut self) -> Option<NodeEntry<'a>> {
        let listpack = &self.node.listpack;
        let mut place = self.lp_count_at?;
        let lp_count = listpack.at(place).to_int()?;
        if lp_count <= 0 {
            return None;
        }
        for _ in 0..lp_count {
            place = listpack.prev(place)?;
        }
        self.lp_count_at = listpack.prev(place);
        NodeEntry::read(self.master_id, &self.header, listpack.iter_from(place))
    }
}

impl<'a> Entry<'a> {
    /// The names and values, in the order given to XADD. A name may come twice.
    pub fn fields(&self) -> Fields<'a> {
        self.fields.clone()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Element<'a>, Element<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.master_names {
            Some(names) => names.next()?,
            None => self.values.next()?,
        };
        Some((name, self.values.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// The flags and the ID of the entry that `elements` begins with, which then stand at what follows.
#[inline]
fn flags_and_id(master_id: StreamId, elements: &mut listpack::Iter<'_>) -> Option<(i64, StreamId)> {
    let flags = elements.next()?.to_int()?;
    let ms = master_id.ms.wrapping_add(elements.next()?.to_int()? as u64);
    let seq = master_id.seq.wrapping_add(elements.next()?.to_int()? as u64);
    Some((flags, StreamId { ms, seq }))
}

/// The next element as a count.
fn counter(elements: &mut listpack::Iter<'_>) -> Option<u64> {
    u64::try_from(elements.next()?.to_int()?).ok()
}

/// Passes over `count` elements; `None` if there are fewer. Stops at the end whatever `count` says.
fn skip(elements: &mut listpack::Iter<'_>, count: u64) -> Option<()> {
    match count.checked_sub(1) {
        Some(others) => elements.nth(usize::try_from(others).ok()?).map(|_| ()),
        None => Some(()),
    }
}
