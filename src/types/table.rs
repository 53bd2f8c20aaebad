//! The hash table of the keyspace, of big hashes and of big sets.
//!
//! Extendible hashing: a directory indexed by the top bits of the hash names small segments, and a segment that
//! fills up is split alone, so no insertion ever waits for the whole table. Inside a segment the next bits of the
//! hash choose a bucket of one cache line:
//!
//! ```text
//! bucket (64 bytes):  tag0 .. tag6 | passed | slot0 | slot1 | .. | slot6
//!                     7 x 1 byte     1 byte   7 x 8 bytes
//! ```
//!
//! A tag is 8 other bits of the hash (0 = free). An element whose home bucket is full goes to the next bucket with
//! room (wrapping inside the segment) and adds one to `passed` of every bucket it passed, so that a miss ends at the
//! first bucket nobody passed.
//!
//! Directory and bucket index both come from the top of the hash, so the table is always in hash order at bucket
//! granularity, however it has grown. A scan cursor is a position in hash space: splitting and merging segments
//! never moves an element across it, which gives SCAN's guarantee.
//!
//! Complexity: O(1) lookup, insertion and removal; growth rehashes at most [`SEGMENT_BUCKETS`] * 7 elements at once.

use crate::prefetch::prefetch;
use rand::RngCore;
use std::hash::{BuildHasher, Hasher};

/// What a [`Table`] stores: something that knows its own key.
pub trait Keyed {
    /// The key, unchanged for as long as the element is in a table.
    fn key(&self) -> &[u8];
    /// Asks for the memory that `key` will read. Nothing by default.
    fn prefetch(&self) {}
    /// Asks for all of the element, as far as that can be known without looking at it.
    fn prefetch_whole(&self) {
        self.prefetch();
    }
}

/// The hash of `key` under `seed`. The same value picks the shard (bits 8 to 31) and the place in the table.
pub fn hash_key(seed: u64, key: &[u8]) -> u64 {
    let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// A set of [`Keyed`] elements. Hashes are computed once by the caller with [`hash_key`] and [`Table::seed`].
#[derive(Debug)]
pub struct Table<T> {
    seed: u64,
    len: usize,
    /// Directory of 2^depth indexes into `segments`; empty while the table never held anything.
    directory: Vec<u32>,
    segments: Vec<Segment<T>>,
    depth: u32,
}

/// Where an element is, until the table changes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    segment: usize,
    bucket: usize,
    slot: usize,
}

#[derive(Debug)]
struct Segment<T> {
    buckets: Box<[Bucket<T>]>,
    len: u32,
    /// How many top bits of the hash all elements here share.
    depth: u32,
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket<T> {
    /// Tags in bytes 0 to 6, `passed` in byte 7.
    meta: u64,
    slots: [Option<T>; SLOTS],
}

const SLOTS: usize = 7;
/// Buckets of a full-grown segment: 64 lines, one page.
pub const SEGMENT_BUCKETS: usize = 64;
const PASSED_ONE: u64 = 1 << 56;
const PASSED_MAX: u64 = 255;
/// Whoever goes through all buckets asks for the elements so many buckets ahead.
const AHEAD: usize = 3;

impl<T: Keyed> Table<T> {
    /// An empty table; allocates nothing.
    pub fn new(seed: u64) -> Self {
        Table { seed, len: 0, directory: Vec::new(), segments: Vec::new(), depth: 0 }
    }

    /// The seed to give [`hash_key`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of elements that fit before the table grows (Redis: the dict's size).
    pub fn capacity(&self) -> usize {
        self.segments.iter().map(|segment| segment.buckets.len() * SLOTS).sum()
    }

    /// Bytes allocated by the table itself, without what its elements own.
    pub fn memory_bytes(&self) -> usize {
        let buckets: usize = self.segments.iter().map(|segment| segment.buckets.len() * size_of::<Bucket<T>>()).sum();
        buckets + self.directory.capacity() * 4 + self.segments.capacity() * size_of::<Segment<T>>()
    }

    /// The element with this key, or None.
    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&T> {
        let segment = &self.segments[self.segment_of(hash)?];
        let (bucket, slot) = segment.find(hash, |element| element.key() == key)?;
        segment.buckets[bucket].slots[slot].as_ref()
    }

    /// The element with this key, or None. Its key must stay as it is.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut T> {
        let idx = self.segment_of(hash)?;
        let segment = &mut self.segments[idx];
        let (bucket, slot) = segment.find(hash, |element| element.key() == key)?;
        segment.buckets[bucket].slots[slot].as_mut()
    }

    /// Where the element with this key is, for [`Table::at`] and [`Table::at_mut`] until the next change.
    #[inline]
    pub fn locate(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let segment = self.segment_of(hash)?;
        let (bucket, slot) = self.segments[segment].find(hash, |element| element.key() == key)?;
        Some(Place { segment, bucket, slot })
    }

    /// The element at a place that [`Table::locate`] has just found.
    #[inline]
    pub fn at(&self, place: Place) -> &T {
        let slot = &self.segments[place.segment].buckets[place.bucket].slots[place.slot];
        slot.as_ref().expect("a place is used before the table changes")
    }

    /// The same, to change it.
    #[inline]
    pub fn at_mut(&mut self, place: Place) -> &mut T {
        let slot = &mut self.segments[place.segment].buckets[place.bucket].slots[place.slot];
        slot.as_mut().expect("a place is used before the table changes")
    }

    /// The first element in `hash`'s bucket chain that `matches`.
    pub fn find_by_hash(&self, hash: u64, mut matches: impl FnMut(&T) -> bool) -> Option<&T> {
        let segment = &self.segments[self.segment_of(hash)?];
        let (bucket, slot) = segment.find(hash, &mut matches)?;
        segment.buckets[bucket].slots[slot].as_ref()
    }

    /// Adds an element whose key is not in the table yet (the caller has looked).
    pub fn insert(&mut self, hash: u64, element: T) {
        if self.directory.is_empty() {
            self.directory.push(0);
            self.segments.push(Segment::new(1, 0));
        }
        let mut idx = self.directory[self.directory_index(hash)] as usize;
        while self.segments[idx].is_full() {
            self.grow(idx);
            idx = self.directory[self.directory_index(hash)] as usize;
        }
        self.segments[idx].insert(hash, element);
        self.len += 1;
    }

    /// Takes the element with this key out.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<T> {
        let idx = self.segment_of(hash)?;
        let segment = &mut self.segments[idx];
        let (bucket, slot) = segment.find(hash, |element| element.key() == key)?;
        let element = segment.take(hash, bucket, slot);
        self.len -= 1;
        if self.len == 0 {
            *self = Table::new(self.seed);
        } else if (segment.len as usize) * 8 < segment.buckets.len() * SLOTS {
            self.shrink(idx, hash);
        }
        element
    }

    /// Visits every element of the bucket at `cursor` (0 to start) and returns the next cursor, 0 at the end.
    /// Every element that is present from the first call to the last is visited at least once, whatever is
    /// inserted or removed between the calls. Cursors stay below 2^40.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&T)) -> u64 {
        if self.directory.is_empty() || cursor >= 1 << CURSOR_BITS {
            return 0;
        }
        let position = cursor << (64 - CURSOR_BITS);
        let segment = &self.segments[self.directory[self.directory_index(position)] as usize];
        let home = segment.home(position);
        segment.visit_home(home, self.seed, &mut visit);
        segment.cursor_behind(position)
    }

    /// Visits every element of the bucket that a hash of `point` would be in: a cheap sample of a few elements.
    pub fn scan_anywhere(&self, point: u64, visit: impl FnMut(&T)) {
        self.scan(point >> (64 - CURSOR_BITS), visit);
    }

    /// [`Table::scan`] that may change the elements, but not their keys.
    pub fn scan_mut(&mut self, cursor: u64, mut visit: impl FnMut(&mut T)) -> u64 {
        if self.directory.is_empty() || cursor >= 1 << CURSOR_BITS {
            return 0;
        }
        let position = cursor << (64 - CURSOR_BITS);
        let idx = self.directory[self.directory_index(position)] as usize;
        let segment = &mut self.segments[idx];
        let home = segment.home(position);
        segment.visit_home_mut(home, self.seed, &mut visit);
        segment.cursor_behind(position)
    }

    /// Asks for the memory of some `elements` that a scan from this cursor on will visit.
    pub fn prefetch_scan(&self, mut cursor: u64, elements: usize) {
        let mut asked = 0;
        // An empty bucket counts as an element: there may be many.
        while asked < elements && !self.directory.is_empty() && cursor < 1 << CURSOR_BITS {
            let position = cursor << (64 - CURSOR_BITS);
            let segment = &self.segments[self.directory[self.directory_index(position)] as usize];
            let bucket = &segment.buckets[segment.home(position)];
            for element in bucket.slots.iter().flatten() {
                element.prefetch_whole();
                asked += 1;
            }
            asked += 1;
            cursor = segment.cursor_behind(position);
            if cursor == 0 {
                return;
            }
        }
    }

    /// An element picked uniformly, or None when the table is empty.
    pub fn random(&self, rng: &mut impl RngCore) -> Option<&T> {
        if self.len == 0 {
            return None;
        }
        loop {
            let segment = &self.segments[below(rng, self.segments.len())];
            // A segment far emptier than its slots would take many tries: skip the guessing inside it.
            let slot = below(rng, segment.buckets.len() * SLOTS);
            if let Some(element) = &segment.buckets[slot / SLOTS].slots[slot % SLOTS] {
                return Some(element);
            }
        }
    }

    /// All elements, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flat_map(|segment| segment.buckets.iter()).flat_map(|bucket| bucket.slots.iter().flatten())
    }

    /// All elements, by value.
    pub fn into_elements(self) -> impl Iterator<Item = T> {
        self.segments
            .into_iter()
            .flat_map(|segment| segment.buckets.into_vec())
            .flat_map(|bucket| bucket.slots.into_iter().flatten())
    }

    /// First half of a batched lookup: asks for the bucket that `hash` lives in.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        if let Some(idx) = self.segment_of(hash) {
            let segment = &self.segments[idx];
            prefetch(&segment.buckets[segment.home(hash)]);
        }
    }

    /// Second half: asks for the elements in that bucket whose tag fits.
    #[inline]
    pub fn prefetch_element(&self, hash: u64) {
        if let Some(idx) = self.segment_of(hash) {
            let segment = &self.segments[idx];
            let bucket = &segment.buckets[segment.home(hash)];
            for slot in bucket.matches(tag(hash)) {
                if let Some(element) = &bucket.slots[slot] {
                    element.prefetch();
                }
            }
        }
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> Option<usize> {
        self.directory.get(self.directory_index(hash)).map(|idx| *idx as usize)
    }

    #[inline]
    fn directory_index(&self, hash: u64) -> usize {
        top_bits(hash, self.depth)
    }

    fn grow(&mut self, idx: usize) {
        if self.segments[idx].buckets.len() < SEGMENT_BUCKETS {
            let segment = &mut self.segments[idx];
            let buckets = segment.buckets.len() * 2;
            segment.resize(buckets, self.seed);
        } else {
            self.split(idx);
        }
    }

    fn split(&mut self, idx: usize) {
        if self.segments[idx].depth == self.depth {
            self.directory = self.directory.iter().flat_map(|segment| [*segment, *segment]).collect();
            self.depth += 1;
        }
        let depth = self.segments[idx].depth + 1;
        let full = std::mem::replace(&mut self.segments[idx], Segment::new(SEGMENT_BUCKETS, depth));
        let mut upper = Segment::new(SEGMENT_BUCKETS, depth);
        let mut first_hash = 0;
        full.drain(self.seed, |hash, element| {
            first_hash = hash;
            let half = if (hash >> (64 - depth)) & 1 == 1 { &mut upper } else { &mut self.segments[idx] };
            half.insert(hash, element);
        });
        let upper_idx = u32::try_from(self.segments.len()).expect("2^32 segments are more than memory holds");
        self.segments.push(upper);
        let span = 1usize << (self.depth - depth);
        let start = (self.directory_index(first_hash) & !(2 * span - 1)) + span;
        self.directory[start..start + span].fill(upper_idx);
    }

    /// After a removal left a segment nearly empty: halves it, or joins it with its other half.
    fn shrink(&mut self, idx: usize, hash: u64) {
        let segment = &mut self.segments[idx];
        if segment.depth == 0 {
            let buckets = segment.buckets.len() / 2;
            if buckets >= 1 {
                segment.resize(buckets, self.seed);
            }
            return;
        }
        let depth = segment.depth;
        let span = 1usize << (self.depth - depth);
        let start = self.directory_index(hash) & !(span - 1);
        let buddy_start = start ^ span;
        let buddy = self.directory[buddy_start] as usize;
        let joined = self.segments[idx].len + self.segments[buddy].len;
        if self.segments[buddy].depth != depth || joined as usize * 4 > SEGMENT_BUCKETS * SLOTS {
            return;
        }
        let other = std::mem::replace(&mut self.segments[buddy], Segment::new(0, depth));
        let mine = &mut self.segments[idx];
        mine.depth -= 1;
        mine.resize(SEGMENT_BUCKETS, self.seed);
        other.drain(self.seed, |hash, element| mine.insert(hash, element));
        self.directory[buddy_start..buddy_start + span].fill(idx as u32);
        self.drop_segment(buddy);
    }

    /// Frees the place of a segment that nothing points at any more, moving the last one into it.
    fn drop_segment(&mut self, free: usize) {
        let last = self.segments.len() - 1;
        self.segments.swap_remove(free);
        if free != last {
            for idx in &mut self.directory {
                if *idx as usize == last {
                    *idx = free as u32;
                }
            }
        }
    }
}

impl<T: Keyed> Segment<T> {
    fn new(buckets: usize, depth: u32) -> Self {
        let buckets = (0..buckets).map(|_| Bucket { meta: 0, slots: [const { None }; SLOTS] }).collect();
        Segment { buckets, len: 0, depth }
    }

    fn is_full(&self) -> bool {
        let slots = self.buckets.len() * SLOTS;
        self.len as usize >= if slots == SLOTS { SLOTS } else { slots - slots / 8 }
    }

    #[inline]
    fn bucket_bits(&self) -> u32 {
        self.buckets.len().trailing_zeros()
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        home_in(self.depth, self.bucket_bits(), hash)
    }

    #[inline]
    fn find(&self, hash: u64, mut matches: impl FnMut(&T) -> bool) -> Option<(usize, usize)> {
        let mask = self.buckets.len() - 1;
        let home = self.home(hash);
        for distance in 0..=mask {
            let idx = (home + distance) & mask;
            let bucket = &self.buckets[idx];
            for slot in bucket.matches(tag(hash)) {
                if bucket.slots[slot].as_ref().is_some_and(&mut matches) {
                    return Some((idx, slot));
                }
            }
            if bucket.passed() == 0 {
                return None;
            }
        }
        None
    }

    fn insert(&mut self, hash: u64, element: T) {
        let mask = self.buckets.len() - 1;
        let mut idx = self.home(hash);
        loop {
            let bucket = &mut self.buckets[idx];
            if let Some(slot) = bucket.free_slot() {
                bucket.meta |= u64::from(tag(hash)) << (slot * 8);
                bucket.slots[slot] = Some(element);
                self.len += 1;
                return;
            }
            bucket.pass();
            idx = (idx + 1) & mask;
        }
    }

    fn take(&mut self, hash: u64, found: usize, slot: usize) -> Option<T> {
        let mask = self.buckets.len() - 1;
        let mut idx = self.home(hash);
        while idx != found {
            self.buckets[idx].unpass();
            idx = (idx + 1) & mask;
        }
        self.len -= 1;
        let bucket = &mut self.buckets[found];
        bucket.meta &= !(0xff << (slot * 8));
        bucket.slots[slot].take()
    }

    fn resize(&mut self, buckets: usize, seed: u64) {
        let old = std::mem::replace(self, Segment::new(buckets, self.depth));
        old.drain(seed, |hash, element| self.insert(hash, element));
    }

    /// Hands out every element with its hash. The keys of a few buckets are asked for ahead: a split would
    /// otherwise wait for memory once an element.
    fn drain(self, seed: u64, mut each: impl FnMut(u64, T)) {
        let mut buckets = self.buckets.into_vec();
        for idx in 0..buckets.len() {
            if let Some(later) = buckets.get(idx + AHEAD) {
                later.slots.iter().flatten().for_each(T::prefetch);
            }
            for element in buckets[idx].slots.iter_mut().filter_map(Option::take) {
                each(hash_key(seed, element.key()), element);
            }
        }
    }

    fn visit_home_mut(&mut self, home: usize, seed: u64, visit: &mut impl FnMut(&mut T)) {
        let (mask, depth, bits) = (self.buckets.len() - 1, self.depth, self.bucket_bits());
        for distance in 0..=mask {
            let bucket = &mut self.buckets[(home + distance) & mask];
            for element in bucket.slots.iter_mut().flatten() {
                if home_in(depth, bits, hash_key(seed, element.key())) == home {
                    visit(element);
                }
            }
            if bucket.passed() == 0 {
                return;
            }
        }
    }

    /// The scan cursor behind the bucket that `position` lies in, 0 if that is the last.
    fn cursor_behind(&self, position: u64) -> u64 {
        let bits = self.depth + self.bucket_bits();
        if bits == 0 {
            return 0;
        }
        let width = 1u64 << (64 - bits);
        ((position & !(width - 1)).wrapping_add(width)) >> (64 - CURSOR_BITS)
    }

    fn visit_home(&self, home: usize, seed: u64, visit: &mut impl FnMut(&T)) {
        let mask = self.buckets.len() - 1;
        for distance in 0..=mask {
            let bucket = &self.buckets[(home + distance) & mask];
            for element in bucket.slots.iter().flatten() {
                if self.home(hash_key(seed, element.key())) == home {
                    visit(element);
                }
            }
            if bucket.passed() == 0 {
                return;
            }
        }
    }
}

impl<T> Bucket<T> {
    /// Slots whose tag is `tag`, and rarely one more (the caller compares keys).
    #[inline]
    fn matches(&self, tag: u8) -> impl Iterator<Item = usize> + use<T> {
        let differing = self.meta ^ (u64::from(tag) * LOW_BITS);
        let mut zeros = differing.wrapping_sub(LOW_BITS) & !differing & HIGH_BITS;
        std::iter::from_fn(move || {
            let slot = zeros.trailing_zeros() / 8;
            zeros &= zeros.wrapping_sub(1);
            (slot < 8).then_some(slot as usize)
        })
    }

    #[inline]
    fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(Option::is_none)
    }

    #[inline]
    fn passed(&self) -> u64 {
        self.meta >> 56
    }

    /// Counts one more element that went past this full bucket. At 255 the count sticks until the next resize.
    fn pass(&mut self) {
        if self.passed() < PASSED_MAX {
            self.meta += PASSED_ONE;
        }
    }

    fn unpass(&mut self) {
        if self.passed() < PASSED_MAX {
            self.meta -= PASSED_ONE;
        }
    }
}

/// 7 bytes: the tags, without the count above them.
const LOW_BITS: u64 = 0x0001_0101_0101_0101;
const HIGH_BITS: u64 = 0x0080_8080_8080_8080;
pub(crate) const CURSOR_BITS: u32 = 40;

/// Whether an element of this hash lies in front of a scan cursor.
#[inline]
pub fn is_before(hash: u64, cursor: u64) -> bool {
    hash >> (64 - CURSOR_BITS) < cursor
}

/// The home bucket of a hash in a segment of this depth and 2^`bits` buckets.
#[inline]
fn home_in(depth: u32, bits: u32, hash: u64) -> usize {
    top_bits(hash.checked_shl(depth).unwrap_or(0), bits)
}

#[inline]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

#[inline]
fn top_bits(hash: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { (hash >> (64 - bits)) as usize }
}

fn below(rng: &mut impl RngCore, limit: usize) -> usize {
    ((u128::from(rng.next_u64()) * limit as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::collections::{HashMap, HashSet};

    #[derive(Debug, Clone, PartialEq)]
    struct Element(Box<[u8; 8]>);

    impl Keyed for Element {
        fn key(&self) -> &[u8] {
            &self.0[..]
        }
    }

    fn element(n: u64) -> Element {
        Element(Box::new(n.to_be_bytes()))
    }

    fn put(table: &mut Table<Element>, n: u64) {
        let hash = hash_key(table.seed(), &n.to_be_bytes());
        if table.get(hash, &n.to_be_bytes()).is_none() {
            table.insert(hash, element(n));
        }
    }

    fn take(table: &mut Table<Element>, n: u64) -> bool {
        let hash = hash_key(table.seed(), &n.to_be_bytes());
        table.remove(hash, &n.to_be_bytes()).is_some()
    }

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket<Element>>(), 64);
    }

    #[test]
    fn behaves_like_a_std_map_under_random_operations() {
        let seed = 7;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut table = Table::new(seed);
        let mut model = HashSet::new();
        for round in 0..80_000u64 {
            let range = if (round / 20_000) % 2 == 0 { 60_000 } else { 600 };
            let n = rng.random_range(0..range);
            if rng.random_bool(if range == 600 { 0.1 } else { 0.7 }) {
                put(&mut table, n);
                model.insert(n);
            } else {
                assert_eq!(take(&mut table, n), model.remove(&n), "round {round} of seed {seed}");
            }
            assert_eq!(table.len(), model.len());
        }
        for n in 0..60_000u64 {
            let hash = hash_key(seed, &n.to_be_bytes());
            assert_eq!(table.get(hash, &n.to_be_bytes()).is_some(), model.contains(&n));
        }
        for n in model.drain() {
            assert!(take(&mut table, n));
        }
        assert!(table.is_empty());
        assert_eq!(table.memory_bytes(), 0);
    }

    #[test]
    fn scan_visits_all_that_stays_while_the_table_grows_and_shrinks() {
        let mut rng = SmallRng::seed_from_u64(3);
        for round in 0..8 {
            let mut table = Table::new(round);
            (0..2_000).for_each(|n| put(&mut table, n));
            let mut seen = HashMap::new();
            let (mut cursor, mut step) = (0, 0u64);
            loop {
                cursor = table.scan(cursor, |element| *seen.entry(element.0.clone()).or_insert(0) += 1);
                step += 1;
                let noise: u64 = rng.random_range(10_000..30_000);
                for n in noise..noise + 40 {
                    if (step / 50) % 2 == 0 {
                        put(&mut table, n)
                    } else {
                        take(&mut table, n);
                    }
                }
                if step > 100 {
                    (10_000..30_000).step_by(7).for_each(|n| {
                        take(&mut table, n);
                    });
                }
                if cursor == 0 {
                    break;
                }
                assert!(cursor < 1 << 40);
            }
            (0..2_000u64).for_each(|n| assert!(seen.contains_key(&n.to_be_bytes()), "{n} of round {round}"));
        }
    }

    #[test]
    fn scan_of_a_still_table_visits_each_once() {
        let mut table = Table::new(1);
        (0..50_000).for_each(|n| put(&mut table, n));
        let (mut cursor, mut visits) = (0, 0);
        loop {
            cursor = table.scan(cursor, |_| visits += 1);
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(visits, 50_000);
        assert_eq!(table.iter().count(), 50_000);
    }

    #[test]
    fn random_reaches_every_element() {
        let mut table = Table::new(1);
        (0..1_000).for_each(|n| put(&mut table, n));
        let mut rng = SmallRng::seed_from_u64(1);
        let mut seen = HashMap::new();
        for _ in 0..100_000 {
            *seen.entry(table.random(&mut rng).unwrap().0.clone()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 1_000);
        assert!(seen.values().all(|count| (40..220).contains(count)), "{:?}", seen.values().max());
    }
}
