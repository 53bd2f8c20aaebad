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
//! Hashes are secret and random ([`HashSeed`]), so elements spread evenly. If they do not all the same, the number of
//! segments and the directory's length stay bounded by the number of elements (`Table::may_split`), and elements that
//! find their segment full are kept in order of hash and key instead (`table/overflow.rs`), where they stay until they are
//! removed. A lookup then takes O(log n), an insertion at most one split for each doubling of the table besides.
//!
//! Complexity: O(1) lookup, insertion and removal; growth rehashes at most [`SEGMENT_BUCKETS`] * 7 elements at once.

mod overflow;

use crate::encoding::allocation_class;
use crate::garbage;
use crate::prefetch::prefetch;
use crate::seed::HashSeed;
use overflow::{Overflow, Spot};
use rand::RngCore;

/// What a [`Table`] stores: something that knows its own key.
pub trait Keyed: Send + 'static {
    /// The key, unchanged for as long as the element is in a table.
    fn key(&self) -> &[u8];
    /// Bytes that dropping it gives back, about.
    fn bytes(&self) -> usize {
        self.key().len()
    }
    /// Asks for the memory that `key` will read. Nothing by default.
    fn prefetch(&self) {}
    /// Asks for all of the element, as far as that can be known without looking at it.
    fn prefetch_whole(&self) {
        self.prefetch();
    }
}

/// The hash of `key` under `seed`. The same value picks the shard (bits 8 to 31) and the place in the table.
#[inline]
pub fn hash_key(seed: &HashSeed, key: &[u8]) -> u64 {
    seed.hash(key)
}

/// A set of [`Keyed`] elements. Hashes are computed once by the caller with [`hash_key`] and [`Table::seed`].
/// A large one is freed by the collector (see [`crate::garbage`]).
#[derive(Debug)]
pub struct Table<T: Keyed> {
    seed: HashSeed,
    /// Elements in the segments and in the overflow.
    len: usize,
    /// Directory of 2^depth indexes into `segments`; empty while the table holds nothing.
    directory: Vec<u32>,
    segments: Vec<Segment<T>>,
    depth: u32,
    /// How many segments have this depth; the directory is halved when there is none.
    deepest: u32,
    /// Elements that their segments have no room for; None nearly always.
    overflow: Option<Box<Overflow<T>>>,
}

/// Where an element is, until the table changes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// [`IN_OVERFLOW`], and then the others are a [`Spot`].
    segment: usize,
    bucket: usize,
    slot: usize,
}

impl Place {
    /// Whether the element is in the overflow, and stays there until it is removed.
    #[inline]
    pub fn is_crowded_out(self) -> bool {
        self.segment == IN_OVERFLOW
    }
}

/// No segment has this index.
const IN_OVERFLOW: usize = usize::MAX;

#[derive(Debug)]
struct Segment<T> {
    buckets: Box<[Bucket<T>]>,
    len: u32,
    /// How many top bits of the hash all elements here share.
    depth: u32,
    /// These bits, and zeros below them.
    prefix: u64,
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
/// A full-grown segment grows no fuller than this: beyond it, searches become long.
const SEGMENT_FULL: usize = SEGMENT_BUCKETS * SLOTS * 7 / 8;
/// Two halves that have no more elements together are joined to one segment.
const SPARSE_LEN: u32 = (SEGMENT_BUCKETS * SLOTS / 4) as u32;
/// Segments there may be, and entries of the directory before it is doubled, for each that full ones would do. Random
/// hashes need up to 2 and 1.5; more of either is no use.
const SPARSEST: usize = 8;
/// Elements of the overflow that one step of a scan visits, unless more have one cursor.
const OVERFLOW_A_STEP: usize = 64;
/// Slots that are tried for a random element before the elements are counted.
const TRIES: usize = 64;
/// Whoever goes through all buckets asks for the elements so many buckets ahead.
const AHEAD: usize = 3;
/// Elements whose size stands for that of all.
const SAMPLE: usize = 16;

impl<T: Keyed> Table<T> {
    /// An empty table; allocates nothing.
    pub fn new(seed: &HashSeed) -> Self {
        let (directory, segments) = (Vec::new(), Vec::new());
        Table { seed: *seed, len: 0, directory, segments, depth: 0, deepest: 0, overflow: None }
    }

    /// The seed to give [`hash_key`].
    pub fn seed(&self) -> &HashSeed {
        &self.seed
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
        self.segments.iter().map(|segment| segment.buckets.len() * SLOTS).sum::<usize>() + self.overflow_len()
    }

    /// Bytes allocated by the table itself, without what its elements own.
    pub fn memory_bytes(&self) -> usize {
        let buckets: usize = self.segments.iter().map(|segment| segment.buckets.len() * size_of::<Bucket<T>>()).sum();
        let overflow = self.overflow.as_ref().map_or(0, |overflow| overflow.memory_bytes());
        buckets + self.directory.capacity() * 4 + self.segments.capacity() * size_of::<Segment<T>>() + overflow
    }

    /// The element with this key, or None.
    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&T> {
        self.locate(hash, key).map(|place| self.at(place))
    }

    /// The element with this key, or None. Its key must stay as it is.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut T> {
        self.locate(hash, key).map(|place| self.at_mut(place))
    }

    /// Where the element with this key is, for [`Table::at`] and [`Table::at_mut`] until the next change.
    #[inline]
    pub fn locate(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let segment = self.segment_of(hash)?;
        match self.segments[segment].find(hash, |element| element.key() == key) {
            Some((bucket, slot)) => Some(Place { segment, bucket, slot }),
            None => self.locate_crowded_out(hash, key),
        }
    }

    #[cold]
    fn locate_crowded_out(&self, hash: u64, key: &[u8]) -> Option<Place> {
        let (bucket, slot) = self.overflow.as_ref()?.find(hash, key)?;
        Some(Place { segment: IN_OVERFLOW, bucket, slot })
    }

    /// The element at a place that [`Table::locate`] has just found.
    #[inline]
    pub fn at(&self, place: Place) -> &T {
        let Some(segment) = self.segments.get(place.segment) else {
            return self.overflow.as_ref().expect(STALE).at((place.bucket, place.slot));
        };
        segment.buckets[place.bucket].slots[place.slot].as_ref().expect(STALE)
    }

    /// The same, to change it.
    #[inline]
    pub fn at_mut(&mut self, place: Place) -> &mut T {
        let Some(segment) = self.segments.get_mut(place.segment) else {
            return self.overflow.as_mut().expect(STALE).at_mut((place.bucket, place.slot));
        };
        segment.buckets[place.bucket].slots[place.slot].as_mut().expect(STALE)
    }

    /// The first element in `hash`'s bucket chain that `matches`. Does not look at elements that are
    /// [crowded out](Place::is_crowded_out): there may be very many of one hash.
    pub fn find_by_hash(&self, hash: u64, mut matches: impl FnMut(&T) -> bool) -> Option<&T> {
        let segment = &self.segments[self.segment_of(hash)?];
        let (bucket, slot) = segment.find(hash, &mut matches)?;
        segment.buckets[bucket].slots[slot].as_ref()
    }

    /// Adds an element whose key is not in the table yet (the caller has looked); where it is then.
    pub fn insert(&mut self, hash: u64, element: T) -> Place {
        if self.directory.is_empty() {
            self.directory.push(0);
            self.segments.push(Segment::new(1, 0, 0));
            self.deepest = 1;
        }
        self.len += 1;
        loop {
            let segment = self.directory[self.directory_index(hash)] as usize;
            if !self.segments[segment].is_full() {
                let (bucket, slot) = self.segments[segment].insert(hash, element);
                return Place { segment, bucket, slot };
            }
            if !self.grow(segment) {
                let overflow = self.overflow.get_or_insert_with(|| Box::new(Overflow::new()));
                let (bucket, slot) = overflow.insert(hash, element);
                return Place { segment: IN_OVERFLOW, bucket, slot };
            }
        }
    }

    /// Takes the element with this key out.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<T> {
        let place = self.locate(hash, key)?;
        self.len -= 1;
        if place.is_crowded_out() {
            return self.take_from_overflow((place.bucket, place.slot));
        }
        let segment = &mut self.segments[place.segment];
        let element = segment.take(hash, place.bucket, place.slot);
        if self.len == 0 {
            *self = Table::new(&self.seed);
        } else if segment.is_sparse() {
            self.shrink(place.segment);
        }
        element
    }

    /// Visits some elements, those whose hashes follow `cursor` (0 to start), and returns the next cursor, 0 at the end:
    /// the elements of one bucket, or of a part of one that many overflow from. Every element that is present from the
    /// first call to the last is visited at least once, whatever is inserted or removed between the calls. Cursors
    /// stay below 2^40.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&T)) -> u64 {
        let Some((idx, range)) = self.step(cursor) else { return 0 };
        self.segments[idx].visit(&range, &self.seed, &mut visit);
        if let Some(overflow) = &self.overflow {
            let records = overflow.starting_at(range.first).take_while(|(hash, _)| *hash <= range.last);
            records.for_each(|(_, element)| visit(element));
        }
        range.next_cursor()
    }

    /// [`Table::scan`] that may change the elements, but not their keys.
    pub fn scan_mut(&mut self, cursor: u64, mut visit: impl FnMut(&mut T)) -> u64 {
        let Some((idx, range)) = self.step(cursor) else { return 0 };
        self.segments[idx].visit_mut(&range, &self.seed, &mut visit);
        if let Some(overflow) = &mut self.overflow {
            let records = overflow.starting_at_mut(range.first).take_while(|(hash, _)| *hash <= range.last);
            records.for_each(|(_, element)| visit(element));
        }
        range.next_cursor()
    }

    /// Visits the elements of some bucket, or one that is crowded out, as two random numbers choose: a cheap sample,
    /// perhaps of none.
    pub fn sample(&self, [place, position]: [u64; 2], mut visit: impl FnMut(&T)) {
        if let Some(element) = self.chosen_in_overflow(place) {
            return visit(element);
        }
        if let Some(idx) = self.segment_of(position) {
            let segment = &self.segments[idx];
            segment.visit(&segment.bucket_range(position), &self.seed, &mut visit);
        }
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
            cursor = segment.bucket_range(position).next_cursor();
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
        if let Some(element) = self.chosen_in_overflow(rng.next_u64()) {
            return Some(element);
        }
        for _ in 0..TRIES {
            let segment = &self.segments[below(rng, self.segments.len())];
            let slot = below(rng, segment.buckets.len() * SLOTS);
            if let Some(element) = &segment.buckets[slot / SLOTS].slots[slot % SLOTS] {
                return Some(element);
            }
        }
        self.nth_in_segments(below(rng, self.len - self.overflow_len()))
    }

    /// All elements, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let buckets = self.segments.iter().flat_map(|segment| segment.buckets.iter());
        let overflow = self.overflow.iter().flat_map(|overflow| overflow.iter());
        buckets.flat_map(|bucket| bucket.slots.iter().flatten()).chain(overflow)
    }

    /// All elements, by value.
    pub fn into_elements(mut self) -> impl Iterator<Item = T> {
        let buckets = std::mem::take(&mut self.segments).into_iter().flat_map(|segment| segment.buckets.into_vec());
        let overflow = self.overflow.take().into_iter().flat_map(|overflow| overflow.into_elements());
        buckets.flat_map(|bucket| bucket.slots.into_iter().flatten()).chain(overflow)
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

    /// Makes room in a full segment; false if there are too many segments for so few elements already.
    fn grow(&mut self, idx: usize) -> bool {
        let segment = &mut self.segments[idx];
        if segment.buckets.len() < SEGMENT_BUCKETS {
            segment.resize(segment.buckets.len() * 2, &self.seed);
            return true;
        }
        let may_split = self.may_split(idx);
        if may_split {
            self.split(idx);
        }
        may_split
    }

    /// Whether the number of segments and the directory's length allow for a split: they stay bounded by `len`.
    fn may_split(&self, idx: usize) -> bool {
        let most = SPARSEST * (self.len / SEGMENT_FULL + 1);
        let doubles = self.segments[idx].depth == self.depth;
        self.segments.len() < most && !(doubles && self.directory.len() > most)
    }

    fn split(&mut self, idx: usize) {
        if self.segments[idx].depth == self.depth {
            self.directory = self.directory.iter().flat_map(|segment| [*segment, *segment]).collect();
            self.depth += 1;
            self.deepest = 0;
        }
        let Segment { depth, prefix, .. } = self.segments[idx];
        let (depth, upper_bit) = (depth + 1, 1 << (63 - depth));
        let full = std::mem::replace(&mut self.segments[idx], Segment::new(SEGMENT_BUCKETS, depth, prefix));
        let mut upper = Segment::new(SEGMENT_BUCKETS, depth, prefix | upper_bit);
        full.drain(&self.seed, |hash, element| {
            let half = if hash & upper_bit != 0 { &mut upper } else { &mut self.segments[idx] };
            half.insert(hash, element);
        });
        if depth == self.depth {
            self.deepest += 2;
        }
        self.segments.push(upper);
        self.enter(self.segments.len() - 1);
    }

    /// Lets the directory name the segment at `idx` for all hashes of its prefix.
    fn enter(&mut self, idx: usize) {
        let Segment { depth, prefix, .. } = self.segments[idx];
        let start = self.directory_index(prefix);
        let named = u32::try_from(idx).expect("2^32 segments are more than memory holds");
        self.directory[start..start + (1 << (self.depth - depth))].fill(named);
    }

    /// After a removal left a segment nearly empty: halves it, or joins it with its other half, and that again.
    fn shrink(&mut self, mut idx: usize) {
        while self.segments[idx].depth > 0 {
            let Some(joined) = self.join(idx) else { return };
            idx = joined;
        }
        let segment = &mut self.segments[idx];
        let buckets = segment.buckets.len() / 2;
        if buckets >= 1 && segment.is_sparse() {
            segment.resize(buckets, &self.seed);
        }
    }

    /// Joins a segment with its other half if both have few elements; where it is then.
    fn join(&mut self, idx: usize) -> Option<usize> {
        let Segment { depth, prefix, len, .. } = self.segments[idx];
        let upper_bit = 1 << (64 - depth);
        let buddy = self.directory[self.directory_index(prefix ^ upper_bit)] as usize;
        let joined = len + self.segments[buddy].len;
        if self.segments[buddy].depth != depth || joined > SPARSE_LEN {
            return None;
        }
        let other = std::mem::replace(&mut self.segments[buddy], Segment::new(0, depth, prefix));
        let mine = &mut self.segments[idx];
        (mine.depth, mine.prefix) = (depth - 1, prefix & !upper_bit);
        mine.resize(SEGMENT_BUCKETS, &self.seed);
        other.drain(&self.seed, |hash, element| {
            mine.insert(hash, element);
        });
        self.enter(idx);
        let last = self.segments.len() - 1;
        self.segments.swap_remove(buddy);
        if buddy != last {
            self.enter(buddy);
        }
        if depth == self.depth {
            self.deepest -= 2;
            self.halve_directory();
        }
        Some(if idx == last { buddy } else { idx })
    }

    /// Halves the directory if no segment needs its last bit.
    fn halve_directory(&mut self) {
        if self.deepest == 0 {
            self.directory = self.directory.iter().step_by(2).copied().collect();
            self.depth -= 1;
            self.deepest = self.segments.iter().filter(|segment| segment.depth == self.depth).count() as u32;
        }
    }

    #[inline]
    fn overflow_len(&self) -> usize {
        self.overflow.as_ref().map_or(0, |overflow| overflow.len())
    }

    #[cold]
    fn take_from_overflow(&mut self, spot: Spot) -> Option<T> {
        let overflow = self.overflow.as_mut()?;
        let element = overflow.remove(spot);
        if overflow.len() == 0 {
            self.overflow = None;
        }
        if self.len == 0 {
            *self = Table::new(&self.seed);
        }
        Some(element)
    }

    /// With the chance that an element is in the overflow, one of these.
    #[inline]
    fn chosen_in_overflow(&self, random: u64) -> Option<&T> {
        self.overflow.as_ref()?.nth(scaled(random, self.len))
    }

    fn nth_in_segments(&self, mut nth: usize) -> Option<&T> {
        let segment = self.segments.iter().find(|segment| {
            let is_here = nth < segment.len as usize;
            nth -= if is_here { 0 } else { segment.len as usize };
            is_here
        })?;
        segment.buckets.iter().flat_map(|bucket| bucket.slots.iter().flatten()).nth(nth)
    }

    /// The segment and the hashes that a scan visits next; None at the end.
    #[inline]
    fn step(&self, cursor: u64) -> Option<(usize, HashRange)> {
        if cursor >= 1 << CURSOR_BITS {
            return None;
        }
        let position = cursor << (64 - CURSOR_BITS);
        let idx = self.segment_of(position)?;
        let mut range = self.segments[idx].bucket_range(position).from(position);
        if let Some(overflow) = &self.overflow {
            range.shorten(overflow.starting_at(position).map(|(hash, _)| hash));
        }
        Some((idx, range))
    }
}

/// Hashes that one step of a scan visits, first and last included.
struct HashRange {
    first: u64,
    last: u64,
    /// Whether they are all hashes of a bucket.
    is_whole: bool,
}

impl HashRange {
    /// Without those in front of this one.
    #[inline]
    fn from(self, hash: u64) -> Self {
        HashRange { first: hash, is_whole: self.first == hash, ..self }
    }

    #[inline]
    fn has(&self, hash: u64) -> bool {
        (self.first..=self.last).contains(&hash)
    }

    /// The scan cursor behind these hashes, 0 at the end.
    fn next_cursor(&self) -> u64 {
        self.last.wrapping_add(1) >> (64 - CURSOR_BITS)
    }

    /// Leaves out what would make a step too long; hashes of one cursor stay together. `crowded` are hashes in the
    /// overflow, in order, from the first on.
    #[cold]
    fn shorten(&mut self, crowded: impl Iterator<Item = u64>) {
        let mut crowded = crowded.take_while(|hash| *hash <= self.last);
        if let Some(next) = crowded.nth(OVERFLOW_A_STEP) {
            let cursor = next >> (64 - CURSOR_BITS);
            let end = if cursor == self.first >> (64 - CURSOR_BITS) { cursor + 1 } else { cursor };
            let last = (end << (64 - CURSOR_BITS)).wrapping_sub(1);
            self.is_whole &= last == self.last;
            self.last = last;
        }
    }
}

const STALE: &str = "a place is used before the table changes";

impl<T: Keyed> Drop for Table<T> {
    fn drop(&mut self) {
        if self.len > garbage::LARGE_LEN {
            let sample =
                self.iter().take(SAMPLE).map(|element| allocation_class(element.bytes())).sum::<usize>() / SAMPLE;
            let bytes = self.memory_bytes() + sample * self.len;
            let overflow = self.overflow.take().into_iter().flat_map(|overflow| overflow.into_elements());
            let segments = std::mem::take(&mut self.segments).into_iter();
            garbage::leave(segments.map(drop).chain(overflow.map(drop)), bytes);
        }
    }
}

impl<T: Keyed> Segment<T> {
    fn new(buckets: usize, depth: u32, prefix: u64) -> Self {
        let buckets = (0..buckets).map(|_| Bucket { meta: 0, slots: [const { None }; SLOTS] }).collect();
        Segment { buckets, len: 0, depth, prefix }
    }

    /// Whether it might be halved, or joined with its other half.
    #[inline]
    fn is_sparse(&self) -> bool {
        self.len <= SPARSE_LEN && (self.depth > 0 || (self.len as usize) * 8 < self.buckets.len() * SLOTS)
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
        top_bits(hash.checked_shl(self.depth).unwrap_or(0), self.bucket_bits())
    }

    /// The hashes of the bucket that this one belongs to.
    #[inline]
    fn bucket_range(&self, hash: u64) -> HashRange {
        // 0 when the bucket is all there is.
        let width = 1_u64.checked_shl(64 - self.depth - self.bucket_bits()).unwrap_or(0);
        let rest = width.wrapping_sub(1);
        HashRange { first: hash & !rest, last: hash | rest, is_whole: true }
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

    fn insert(&mut self, hash: u64, element: T) -> (usize, usize) {
        let mask = self.buckets.len() - 1;
        let mut idx = self.home(hash);
        loop {
            let bucket = &mut self.buckets[idx];
            if let Some(slot) = bucket.free_slot() {
                bucket.meta |= u64::from(tag(hash)) << (slot * 8);
                bucket.slots[slot] = Some(element);
                self.len += 1;
                return (idx, slot);
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

    fn resize(&mut self, buckets: usize, seed: &HashSeed) {
        let old = std::mem::replace(self, Segment::new(buckets, self.depth, self.prefix));
        old.drain(seed, |hash, element| {
            self.insert(hash, element);
        });
    }

    /// Hands out every element with its hash. The keys of a few buckets are asked for ahead: a split would
    /// otherwise wait for memory once an element.
    fn drain(self, seed: &HashSeed, mut each: impl FnMut(u64, T)) {
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

    fn visit(&self, range: &HashRange, seed: &HashSeed, visit: &mut impl FnMut(&T)) {
        let mut are_all_home = self.are_all_home(range);
        for idx in self.chain(range.first) {
            let bucket = &self.buckets[idx];
            for element in bucket.slots.iter().flatten() {
                if are_all_home || range.has(hash_key(seed, element.key())) {
                    visit(element);
                }
            }
            if bucket.passed() == 0 {
                return;
            }
            are_all_home = false;
        }
    }

    fn visit_mut(&mut self, range: &HashRange, seed: &HashSeed, visit: &mut impl FnMut(&mut T)) {
        let mut are_all_home = self.are_all_home(range);
        for idx in self.chain(range.first) {
            let bucket = &mut self.buckets[idx];
            for element in bucket.slots.iter_mut().flatten() {
                if are_all_home || range.has(hash_key(seed, element.key())) {
                    visit(element);
                }
            }
            if bucket.passed() == 0 {
                return;
            }
            are_all_home = false;
        }
    }

    /// The buckets in which an element of this hash may be, as far as nothing says that there is none further on.
    fn chain(&self, hash: u64) -> impl Iterator<Item = usize> + use<T> {
        let (home, mask) = (self.home(hash), self.buckets.len() - 1);
        (0..=mask).map(move |distance| (home + distance) & mask)
    }

    /// Whether every element in the bucket of these hashes has one of them, as nothing passed the bucket in front of it:
    /// nearly always, and then no key has to be hashed.
    fn are_all_home(&self, range: &HashRange) -> bool {
        let mask = self.buckets.len() - 1;
        range.is_whole && self.buckets[self.home(range.first).wrapping_sub(1) & mask].passed() == 0
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

#[inline]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

#[inline]
fn top_bits(hash: u64, bits: u32) -> usize {
    if bits == 0 { 0 } else { (hash >> (64 - bits)) as usize }
}

fn below(rng: &mut impl RngCore, limit: usize) -> usize {
    scaled(rng.next_u64(), limit)
}

/// Makes a random number one below `limit`.
fn scaled(random: u64, limit: usize) -> usize {
    ((u128::from(random) * limit as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
