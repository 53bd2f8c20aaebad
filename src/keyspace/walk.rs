//! A walk over the keyspace as it was at one instant, while clients change it.
//!
//! At the instant, under all locks, every part of every database gets a [`Walk`] and its epoch is turned: entries whose
//! mark is not the epoch are still to be walked. The walk takes entries bucket by bucket and marks them; new entries
//! are marked from the start. A writer about to change an entry that has not been walked hands it over first:
//! a small value is copied, a value that goes away is given, and a long string or a big hash, set or sorted set is
//! frozen in place (see [`redstart_types::frozen`]) and marked: from then on it keeps, element by element, what is
//! changed. Long lists and streams share what they hold with their copies. When the walk is over all marks equal the epoch again.
//!
//! A frozen value is known by a number: it may get another name or be deleted while it is being walked. [`Handover`]
//! knows where each one is. Lock order: shards, then the handover's own lock.

use crate::keyspace::shard::ShardDb;
use crate::keyspace::value::{self, Entry, Value};
use crate::util::sync::Mutex;
use redstart_types::entry::Content;
use redstart_types::frozen::Kept;
use redstart_types::table::{Keyed, Place, Table, hash_key};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A hash, set or sorted set of more elements is frozen rather than copied,
const SMALL_LEN: usize = 64;
/// or of more bytes; so is a longer string.
const SMALL_BYTES: usize = 16 << 10;
/// A list or a stream counts as so many bytes a chunk for a batch: its copy is made under the lock, too.
const CHUNK_WEIGHT: usize = 256;
/// After so many buckets without an entry to be walked a step ends all the same.
const BUCKETS_A_STEP: usize = 256;

/// The walk through one part of one database.
#[derive(Debug)]
pub struct Walk {
    handover: Arc<Handover>,
    /// The database it was at the instant; SWAPDB moves walks with their keys.
    db: usize,
    /// Entries in front of this scan cursor have been walked.
    cursor: u64,
    /// All have.
    is_over: bool,
}

/// What stands beside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Unix time in ms.
    pub expire_at_ms: Option<i64>,
    pub lru: u32,
}

/// The types whose values can be big.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BigKind {
    String,
    Hash,
    Set,
    ZSet,
}

/// Old values on their way to the walk.
#[derive(Debug)]
pub struct Handover {
    inner: Mutex<Waiting>,
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Handed>,
    /// The frozen values, by their numbers.
    frozen: HashMap<u64, Big>,
    last_id: u64,
}

/// An old value, or many.
#[derive(Debug)]
pub enum Handed {
    /// An entry of a database.
    Entry(usize, Entry),
    /// A frozen value that is being changed: the sooner it is walked, the less it keeps.
    Big(u64),
    /// A whole part of a database; entries with this mark are not meant.
    Table(usize, Table<Entry>, bool),
}

/// A frozen value.
#[derive(Debug)]
struct Big {
    was: Header,
    /// The part it is in, by its walk's database, and its key there.
    now: Whereabouts,
}

/// What a frozen value was at the instant.
#[derive(Debug, Clone)]
pub struct Header {
    pub db: usize,
    pub key: Box<[u8]>,
    pub facts: Facts,
    pub kind: BigKind,
    /// Elements; of a string, bytes.
    pub len: usize,
}

/// Where a frozen value is.
#[derive(Debug)]
pub enum Whereabouts {
    At(usize, Box<[u8]>),
    /// Its key has been deleted or overwritten: nobody can change it any more.
    Gone(Gone),
}

/// A value that is there for the walk only, and counted.
#[derive(Debug)]
pub struct Gone {
    pub value: Value,
    kept: Arc<Kept>,
    bytes: usize,
}

/// How a step through a frozen value has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BigStep {
    More,
    /// All has been given out.
    Over,
    /// It is no longer here.
    Moved,
}

/// A piece of a big value.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// The next bytes of a string.
    Bytes(&'a [u8]),
    Field(&'a [u8], &'a [u8]),
    Member(&'a [u8]),
    Scored(&'a [u8], f64),
}

/// Entries copied out of a part, to be looked at without its lock.
#[derive(Debug, Default)]
pub struct Batch {
    /// Keys and short strings, one after the other.
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// What lists and streams count as, in bytes.
    weight: usize,
    /// The numbers of big values that have been met, now frozen.
    pub big: Vec<u64>,
}

/// Elements copied out of a big value, to be looked at without its lock.
#[derive(Debug, Default)]
pub struct Pieces {
    bytes: Vec<u8>,
    items: Vec<PieceItem>,
    /// How many elements there are, or bytes of a string.
    len: usize,
}

#[derive(Debug, Clone, Copy)]
enum PieceItem {
    Bytes(usize),
    Field(usize, usize),
    Member(usize),
    Scored(usize, f64),
}

#[derive(Debug)]
struct Item {
    key_len: usize,
    facts: Facts,
    content: ItemContent,
}

#[derive(Debug)]
enum ItemContent {
    Str(usize),
    Int(i64),
    Object(Value),
}

impl Handover {
    /// Counts what it keeps in `kept`.
    pub fn new(kept: Arc<Kept>) -> Self {
        Handover { inner: Mutex::default(), kept }
    }

    /// Takes the next old value that waits.
    pub fn next(&self) -> Option<Handed> {
        self.inner.lock().queue.pop_front()
    }

    /// An old value that [`Handover::next`] has given is no longer kept.
    pub fn is_written(&self, entry: &Entry) {
        self.kept.sub(kept_bytes(entry));
    }

    /// What a frozen value was.
    pub fn header(&self, id: u64) -> Option<Header> {
        self.inner.lock().frozen.get(&id).map(|big| big.was.clone())
    }

    /// Where a frozen value is. One that is gone is given away.
    pub fn find(&self, id: u64) -> Option<Whereabouts> {
        let mut waiting = self.inner.lock();
        match &waiting.frozen.get(&id)?.now {
            Whereabouts::At(db, key) => Some(Whereabouts::At(*db, key.clone())),
            Whereabouts::Gone(_) => waiting.frozen.remove(&id).map(|big| big.now),
        }
    }

    /// Whether a frozen value is said to be here. The shard is locked, so that it stays true.
    pub fn is_at(&self, id: u64, db: usize, key: &[u8]) -> bool {
        let waiting = self.inner.lock();
        let now = waiting.frozen.get(&id).map(|big| &big.now);
        matches!(now, Some(Whereabouts::At(at_db, at_key)) if *at_db == db && **at_key == *key)
    }

    /// A frozen value has been walked.
    pub fn forget(&self, id: u64) {
        self.inner.lock().frozen.remove(&id);
    }

    fn hand_entry(&self, db: usize, entry: Entry) {
        self.kept.add(kept_bytes(&entry));
        self.inner.lock().queue.push_back(Handed::Entry(db, entry));
    }

    /// Freezes the value of an entry if it is big and gives back its number.
    fn freeze(&self, db: usize, entry: &mut Entry) -> Option<u64> {
        let (kind, len) = big_kind(entry)?;
        let (facts, key) = (Facts::of(entry), Box::<[u8]>::from(entry.key()));
        let mut waiting = self.inner.lock();
        let id = waiting.last_id + 1;
        let is_frozen = match entry.object_mut()? {
            Value::String(string) => {
                string.freeze(id, &self.kept);
                true
            }
            Value::Hash(hash) => hash.freeze(id, &self.kept),
            Value::Set(set) => set.freeze(id, &self.kept),
            Value::ZSet(zset) => zset.freeze(id, &self.kept),
            _ => false,
        };
        if !is_frozen {
            return None;
        }
        waiting.last_id = id;
        let now = Whereabouts::At(db, key.clone());
        waiting.frozen.insert(id, Big { was: Header { db, key, facts, kind, len }, now });
        Some(id)
    }

    /// A writer changes this big value: it is to be walked soon.
    fn ask_for(&self, id: u64) {
        self.inner.lock().queue.push_back(Handed::Big(id));
    }

    fn gone(&self, value: Value) -> Whereabouts {
        let (kept, bytes) = (self.kept.clone(), value.memory_bytes(value::MEMORY_SAMPLES));
        kept.add(bytes);
        Whereabouts::Gone(Gone { value, kept, bytes })
    }

    fn moved(&self, id: u64, now: Whereabouts) {
        if let Some(big) = self.inner.lock().frozen.get_mut(&id) {
            big.now = now;
        }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.kept.sub(self.bytes);
    }
}

impl ShardDb {
    /// Begins a walk: this is the instant. All shards are locked.
    pub fn begin_walk(&mut self, db: usize, handover: &Arc<Handover>) {
        self.epoch = !self.epoch;
        self.walk = Some(Box::new(Walk { handover: handover.clone(), db, cursor: 0, is_over: false }));
    }

    /// Ends a walk whose steps are over.
    pub fn end_walk(&mut self) {
        self.walk = None;
    }

    /// The database whose walk this part belongs to.
    pub fn walked_db(&self) -> Option<usize> {
        self.walk.as_ref().map(|walk| walk.db)
    }

    /// Walks on until the batch has enough; false once the walk through this part is over. Without `copies` entries
    /// are only marked, and nothing is frozen.
    pub fn walk_step(&mut self, batch: &mut Batch, limit: usize, copies: bool) -> bool {
        let epoch = self.epoch;
        let Some(walk) = &mut self.walk else { return false };
        for _ in 0..BUCKETS_A_STEP {
            if walk.is_over || batch.is_enough(limit) {
                break;
            }
            let (handover, db) = (&walk.handover, walk.db);
            walk.cursor = self.keys.scan_mut(walk.cursor, |entry| {
                if entry.is_marked() == epoch {
                    return;
                }
                if copies {
                    match handover.freeze(db, entry) {
                        Some(id) => batch.big.push(id),
                        None => batch.add(entry),
                    }
                }
                entry.set_marked(epoch);
            });
            walk.is_over = walk.cursor == 0;
        }
        if !walk.is_over {
            // The next step is to hold the lock for a short time only: it must not wait for memory.
            self.keys.prefetch_scan(walk.cursor, limit);
        }
        !walk.is_over
    }

    /// Walks on through a frozen value until there are pieces enough.
    pub fn walk_big_step(&mut self, id: u64, key: &[u8], pieces: &mut Pieces) -> BigStep {
        let hash = hash_key(self.keys.seed(), key);
        let value = self.keys.get_mut(hash, key).filter(|entry| frozen_id(entry) == Some(id));
        let step = |value| if frozen_steps(value, pieces) { BigStep::More } else { BigStep::Over };
        value.and_then(Entry::object_mut).map_or(BigStep::Moved, step)
    }

    /// To be called before an entry is changed: keeps what it was for the walk, if there is one.
    #[inline]
    pub(super) fn preserve(&mut self, place: Place) {
        if self.walk.is_some() {
            self.preserve_for_walk(place);
        }
    }

    #[cold]
    fn preserve_for_walk(&mut self, place: Place) {
        let epoch = self.epoch;
        let Some(walk) = &self.walk else { return };
        let entry = self.keys.at_mut(place);
        if entry.is_marked() != epoch {
            walk.preserve(entry);
            entry.set_marked(epoch);
        }
    }

    /// Whether the walk still needs what is at this place.
    #[inline]
    pub(super) fn is_owed(&self, place: Place) -> bool {
        let entry = self.keys.at(place);
        self.walk.is_some() && (entry.is_marked() != self.epoch || frozen_id(entry).is_some())
    }

    /// Keeps what an entry that has been taken out was, while its owner keeps the entry, to put it back elsewhere.
    pub(super) fn preserve_taken(&mut self, entry: &mut Entry) {
        if let Some(walk) = &self.walk
            && entry.is_marked() != self.epoch
        {
            walk.preserve(entry);
            entry.set_marked(self.epoch);
        }
    }

    /// Gives an entry that has been taken out and is not wanted any more to the walk, if it needs it.
    #[inline]
    pub(super) fn give_taken(&mut self, entry: Entry) -> Option<Entry> {
        let Some(walk) = &self.walk else { return Some(entry) };
        if entry.is_marked() != self.epoch {
            walk.handover.hand_entry(walk.db, entry);
            return None;
        }
        let Some(id) = frozen_id(&entry) else { return Some(entry) };
        let gone = walk.handover.gone(entry.into_object()?);
        walk.handover.moved(id, gone);
        None
    }

    /// A new entry may have a frozen value that was elsewhere.
    #[inline]
    pub(super) fn note_arrival(&self, entry: &Entry) {
        if let Some(walk) = &self.walk
            && let Some(id) = frozen_id(entry)
        {
            walk.handover.moved(id, Whereabouts::At(walk.db, entry.key().into()));
        }
    }

    /// Gives all entries to the walk, if it needs any; otherwise back.
    pub(super) fn give_all(&mut self, mut keys: Table<Entry>) -> Table<Entry> {
        let Some(walk) = &mut self.walk else { return keys };
        let seed = *keys.seed();
        let mut waiting = walk.handover.inner.lock();
        for (id, big) in &mut waiting.frozen {
            let Whereabouts::At(db, key) = &big.now else { continue };
            let hash = hash_key(&seed, key);
            if *db == walk.db
                && keys.get(hash, key).is_some_and(|entry| frozen_id(entry) == Some(*id))
                && let Some(value) = keys.remove(hash, key).and_then(Entry::into_object)
            {
                big.now = walk.handover.gone(value);
            }
        }
        if walk.is_over {
            return keys;
        }
        walk.is_over = true;
        waiting.queue.push_back(Handed::Table(walk.db, keys, self.epoch));
        Table::new(&seed)
    }
}

impl Walk {
    fn preserve(&self, entry: &mut Entry) {
        match self.handover.freeze(self.db, entry) {
            Some(id) => self.handover.ask_for(id),
            None => self.handover.hand_entry(self.db, copy(entry)),
        }
    }
}

impl Batch {
    /// Whether it has `limit` entries, or as many bytes as are worth it.
    fn is_enough(&self, limit: usize) -> bool {
        const BYTES: usize = 32 << 10;
        self.items.len() >= limit || self.bytes.len() + self.weight >= BYTES || !self.big.is_empty()
    }

    fn add(&mut self, entry: &Entry) {
        let key = entry.key();
        self.bytes.extend_from_slice(key);
        let content = match entry.content() {
            Content::Str(bytes) => {
                self.bytes.extend_from_slice(bytes);
                ItemContent::Str(bytes.len())
            }
            Content::Int(value) => ItemContent::Int(value),
            Content::Object(Value::String(string)) => {
                self.bytes.extend_from_slice(string);
                ItemContent::Str(string.len())
            }
            Content::Object(value) => {
                self.weight += value.allocations() * CHUNK_WEIGHT;
                ItemContent::Object(value.clone())
            }
        };
        self.items.push(Item { key_len: key.len(), facts: Facts::of(entry), content });
    }

    /// How many entries there are, not counting big ones.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes all entries out.
    pub fn drain(&mut self, mut visit: impl FnMut(&[u8], Facts, &Content<'_, Value>)) {
        let mut rest = self.bytes.as_slice();
        for item in self.items.drain(..) {
            let (key, behind) = rest.split_at(item.key_len);
            let (text, behind) = behind.split_at(if let ItemContent::Str(len) = item.content { len } else { 0 });
            rest = behind;
            let content = match &item.content {
                ItemContent::Str(_) => Content::Str(text),
                ItemContent::Int(value) => Content::Int(*value),
                ItemContent::Object(value) => Content::Object(value),
            };
            visit(key, item.facts, &content);
        }
        self.bytes.clear();
        self.weight = 0;
    }
}

impl PieceItem {
    /// The length of its bytes, of its field, or of its member.
    fn first_len(self) -> usize {
        let (PieceItem::Bytes(len) | PieceItem::Field(len, _) | PieceItem::Member(len) | PieceItem::Scored(len, _)) =
            self;
        len
    }
}

impl Pieces {
    /// Adds a copy; false once there are enough.
    pub fn add(&mut self, piece: Piece<'_>) -> bool {
        const PIECES: usize = 256;
        const BYTES: usize = 32 << 10;
        let mut len = 1;
        let item = match piece {
            Piece::Bytes(bytes) => {
                self.bytes.extend_from_slice(bytes);
                len = bytes.len();
                let before = self.items.pop_if(|item| matches!(item, PieceItem::Bytes(_)));
                PieceItem::Bytes(len + before.map_or(0, PieceItem::first_len))
            }
            Piece::Field(field, value) => {
                self.bytes.extend_from_slice(field);
                self.bytes.extend_from_slice(value);
                PieceItem::Field(field.len(), value.len())
            }
            Piece::Member(member) => {
                self.bytes.extend_from_slice(member);
                PieceItem::Member(member.len())
            }
            Piece::Scored(member, score) => {
                self.bytes.extend_from_slice(member);
                PieceItem::Scored(member.len(), score)
            }
        };
        self.items.push(item);
        self.len += len;
        self.items.len() < PIECES && self.bytes.len() < BYTES
    }

    /// How many there are; of a string, bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes all out.
    pub fn drain(&mut self, mut visit: impl FnMut(Piece<'_>)) {
        let mut rest = self.bytes.as_slice();
        for item in self.items.drain(..) {
            let (first, behind) = rest.split_at(item.first_len());
            rest = behind;
            match item {
                PieceItem::Bytes(_) => visit(Piece::Bytes(first)),
                PieceItem::Field(_, len) => {
                    let (value, behind) = rest.split_at(len);
                    rest = behind;
                    visit(Piece::Field(first, value));
                }
                PieceItem::Member(_) => visit(Piece::Member(first)),
                PieceItem::Scored(_, score) => visit(Piece::Scored(first, score)),
            }
        }
        self.bytes.clear();
        self.len = 0;
    }
}

impl Facts {
    /// Of an entry as it is now.
    pub fn of(entry: &Entry) -> Self {
        Facts { expire_at_ms: entry.expire_at_ms(), lru: entry.lru() }
    }
}

/// Which kind of big value an entry has, and of how many elements; None if it is small or shares what it holds.
fn big_kind(entry: &Entry) -> Option<(BigKind, usize)> {
    let Content::Object(value) = entry.content() else { return None };
    let (kind, len) = match value {
        Value::String(string) => return (string.len() > SMALL_BYTES).then_some((BigKind::String, string.len())),
        Value::Hash(hash) => (BigKind::Hash, hash.len()),
        Value::Set(set) => (BigKind::Set, set.len()),
        Value::ZSet(zset) => (BigKind::ZSet, zset.len()),
        Value::List(_) | Value::Stream(_) => return None,
    };
    (len > SMALL_LEN || value.memory_bytes(value::MEMORY_SAMPLES) > SMALL_BYTES).then_some((kind, len))
}

/// The number of an entry's frozen value.
#[inline]
fn frozen_id(entry: &Entry) -> Option<u64> {
    let Content::Object(value) = entry.content() else { return None };
    match value {
        Value::String(string) => string.frozen().map(|frozen| frozen.id()),
        Value::Hash(hash) => hash.frozen().map(|frozen| frozen.id()),
        Value::Set(set) => set.frozen().map(|frozen| frozen.id()),
        Value::ZSet(zset) => zset.frozen().map(|frozen| frozen.id()),
        Value::List(_) | Value::Stream(_) => None,
    }
}

/// Copies elements of a frozen value out until there are enough; false once all have been given out.
pub fn frozen_steps(value: &mut Value, pieces: &mut Pieces) -> bool {
    let (mut goes_on, mut more) = (true, true);
    while goes_on && more {
        let mut add = |piece: Piece<'_>| goes_on &= pieces.add(piece);
        more = match value {
            Value::String(string) => string.frozen_step(|bytes| add(Piece::Bytes(bytes))),
            Value::Hash(hash) => hash.frozen_step(|field, value| add(Piece::Field(field, value))),
            Value::Set(set) => set.frozen_step(|member| add(Piece::Member(member))),
            Value::ZSet(zset) => zset.frozen_step(|member, score| add(Piece::Scored(member, score))),
            Value::List(_) | Value::Stream(_) => false,
        };
    }
    more
}

/// An entry as it is, a second time. Long lists and streams share what they hold.
fn copy(entry: &Entry) -> Entry {
    let mut copied = entry.duplicate();
    copied.set_lru(entry.lru());
    copied
}

/// What an old value takes in memory, about: what it shares with others does not count.
fn kept_bytes(entry: &Entry) -> usize {
    const SHARED_CHUNK: usize = 16;
    match entry.content() {
        Content::Object(value @ (Value::List(_) | Value::Stream(_))) if value.allocations() > 1 => {
            entry.memory_bytes() + value.allocations() * SHARED_CHUNK
        }
        _ => value::memory_bytes(entry, value::MEMORY_SAMPLES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::shard::Shard;
    use redstart_types::entry::NewContent;
    use redstart_types::seed::HashSeed;
    use std::collections::BTreeMap;

    const SEED: HashSeed = HashSeed::new([5, 6]);
    const KEYS: usize = 100;
    const LRU: u32 = 77;

    type Change = fn(&mut Shard);
    /// What a snapshot has of a key.
    type Found = (Vec<u8>, Option<i64>, u32);

    /// A shard with keys in two databases, and what its walk has found.
    struct Walked {
        shard: Shard,
        handover: Arc<Handover>,
        found: BTreeMap<(usize, Vec<u8>), Found>,
    }

    impl Walked {
        fn begin() -> Walked {
            let mut shard = Shard::new(2, &SEED);
            for (db, part) in shard.dbs.iter_mut().enumerate() {
                for n in 0..KEYS {
                    let (key, at) = (key(db, n), (n % 2 == 0).then_some(n as i64));
                    let mut entry = Entry::new(&key, NewContent::Str(b"old"), at);
                    entry.set_lru(LRU);
                    part.insert(hash_key(&SEED, &key), entry);
                }
            }
            let handover = Arc::new(Handover::new(Arc::default()));
            shard.dbs.iter_mut().enumerate().for_each(|(db, part)| part.begin_walk(db, &handover));
            Walked { shard, handover, found: BTreeMap::new() }
        }

        fn meet(&mut self, db: usize, key: &[u8], facts: Facts, content: &Content<'_, Value>) {
            let Content::Str(text) = content else { panic!("they are short strings") };
            let found = (text.to_vec(), facts.expire_at_ms, facts.lru);
            assert_eq!(self.found.insert((db, key.to_vec()), found), None, "{} twice", key.escape_ascii());
        }

        /// One step through each database; whether that was not the last.
        fn step(&mut self) -> bool {
            let (mut more, mut batch) = (false, Batch::default());
            for idx in 0..self.shard.dbs.len() {
                let part = &mut self.shard.dbs[idx];
                let db = part.walked_db().expect("it is walked");
                more |= part.walk_step(&mut batch, 8, true);
                batch.drain(|key, facts, content| self.meet(db, key, facts, content));
            }
            while let Some(handed) = self.handover.next() {
                match handed {
                    Handed::Entry(db, entry) => {
                        self.meet(db, entry.key(), Facts::of(&entry), &entry.content());
                        self.handover.is_written(&entry);
                    }
                    Handed::Table(db, table, epoch) => {
                        let old = table.into_elements().filter(|entry| entry.is_marked() != epoch);
                        old.for_each(|entry| self.meet(db, entry.key(), Facts::of(&entry), &entry.content()));
                    }
                    Handed::Big(_) => panic!("there is none"),
                }
            }
            more
        }
    }

    fn key(db: usize, n: usize) -> Vec<u8> {
        format!("{db}:{n}").into_bytes()
    }

    /// Does this to every key of the first database that is still there.
    fn to_each(shard: &mut Shard, change: fn(&mut [ShardDb], u64, &[u8])) {
        for n in 0..KEYS {
            let key = key(0, n);
            let hash = hash_key(&SEED, &key);
            if shard.dbs[0].keys.get(hash, &key).is_some() {
                change(&mut shard.dbs, hash, &key);
            }
        }
    }

    fn overwrite(dbs: &mut [ShardDb], hash: u64, key: &[u8]) {
        let place = dbs[0].keys.locate(hash, key).expect("it is there");
        let entry = dbs[0].entry_mut(place);
        entry.set_lru(1);
        drop(entry.replace_all(NewContent::Str(b"new"), None));
    }

    fn discard(dbs: &mut [ShardDb], hash: u64, key: &[u8]) {
        drop(dbs[0].discard(hash, key));
    }

    fn put_back(dbs: &mut [ShardDb], hash: u64, key: &[u8]) {
        let entry = dbs[0].take(hash, key).expect("it is there");
        dbs[0].insert(hash, entry);
    }

    fn to_other_database(dbs: &mut [ShardDb], hash: u64, key: &[u8]) {
        let entry = dbs[0].take(hash, key).expect("it is there");
        dbs[1].insert(hash, entry);
    }

    fn swap(shard: &mut Shard) {
        let (first, second) = shard.dbs.split_at_mut(1);
        first[0].swap_keys(&mut second[0]);
    }

    #[test]
    fn every_key_is_met_once_as_it_was() {
        let changes: [(&str, Change); 8] = [
            ("none", |_| {}),
            ("overwritten twice", |shard| (0..2).for_each(|_| to_each(shard, overwrite))),
            ("discarded", |shard| to_each(shard, discard)),
            ("put back and discarded", |shard| {
                to_each(shard, put_back);
                to_each(shard, discard);
            }),
            ("moved", |shard| to_each(shard, to_other_database)),
            ("flushed and filled", |shard| {
                drop(shard.dbs[0].take_keys());
                let new = Entry::new(&key(0, 1), NewContent::Str(b"new"), None);
                shard.dbs[0].insert(hash_key(&SEED, &key(0, 1)), new);
            }),
            ("overwritten and flushed", |shard| {
                to_each(shard, overwrite);
                drop(shard.dbs[0].take_keys());
            }),
            ("swapped, overwritten and swapped", |shard| {
                swap(shard);
                to_each(shard, to_other_database);
                swap(shard);
                to_each(shard, overwrite);
            }),
        ];
        for ((what, change), steps) in changes.into_iter().flat_map(|change| [0, 3, 9, 1000].map(|n| (change, n))) {
            let mut walked = Walked::begin();
            for _ in 0..steps {
                walked.step();
            }
            change(&mut walked.shard);
            while walked.step() {}
            assert_eq!(walked.found.len(), 2 * KEYS, "{what} after {steps} steps");
            for ((db, name), found) in &walked.found {
                let n = (0..KEYS).find(|n| key(*db, *n) == *name).unwrap_or_else(|| panic!("{what}: it was not there"));
                assert_eq!(*found, (b"old".to_vec(), (n % 2 == 0).then_some(n as i64), LRU), "{what}: key {n} of {db}");
            }
            assert_eq!(walked.handover.kept.bytes(), 0, "{what} after {steps} steps");
        }
    }
}
