//! When keys expire: (time, hash) in order, for as many keys as there are.
//!
//! ```text
//! BTreeMap:   (time, hash) of a lower bound  ->  [ ms since that time | hash ] [ .. | .. ] ..   up to 64 records
//!                                                  u32                  u64
//! ```
//!
//! A record takes 12 bytes, and about 15 with its share of the rest, whatever the order the times come in; in a
//! `BTreeSet<(i64, u64)>` it takes 28, or 35 when times only rise, as they do where every key has the same TTL.
//! Where two keys have one time and one hash, which is as good as never, a second map counts the others.
//! Complexity: O(log n + 64).
//!
//! Invariants: no chunk is empty; its records rise, from its bound on, and stay below the bound of the next.

use crate::encoding::allocation_class;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What a record takes, with its share of chunks and tree (measured, as the test below does).
pub const RECORD_BYTES: usize = 15;

const CHUNK_RECORDS: usize = 64;
/// A chunk of fewer is joined with those beside it, where they have room.
const FEW_RECORDS: usize = CHUNK_RECORDS / 4;

/// Unix time in ms, and the hash of a key.
type Deadline = (i64, u64);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Deadlines {
    chunks: BTreeMap<Deadline, Vec<Record>>,
    /// How many more there are of some.
    more: BTreeMap<Deadline, usize>,
    len: usize,
}

/// Milliseconds since the chunk's bound, and the two halves of the hash, high half first: so it takes 12 bytes, and
/// records are in the order of what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record([u32; 3]);

impl Record {
    /// None when the time is too far behind the bound (49 days), or in front of it.
    fn new(bound: Deadline, (at_ms, hash): Deadline) -> Option<Self> {
        let since_ms = u32::try_from(at_ms.checked_sub(bound.0)?).ok()?;
        Some(Self([since_ms, (hash >> 32) as u32, hash as u32]))
    }

    fn deadline(self, bound: Deadline) -> Deadline {
        let [since_ms, high, low] = self.0;
        (bound.0 + i64::from(since_ms), u64::from(high) << 32 | u64::from(low))
    }
}

impl Deadlines {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, the earliest first; of equal ones, one.
    pub fn iter(&self) -> impl Iterator<Item = Deadline> + '_ {
        self.chunks.iter().flat_map(|(&bound, chunk)| chunk.iter().map(move |record| record.deadline(bound)))
    }

    /// The earliest.
    pub fn first(&self) -> Option<Deadline> {
        self.iter().next()
    }

    /// Adds one.
    pub fn insert(&mut self, at_ms: i64, hash: u64) {
        let deadline = (at_ms, hash);
        let Some((&bound, chunk)) = self.chunks.range_mut(..=deadline).next_back() else {
            return self.insert_in_front(deadline);
        };
        let Some(record) = Record::new(bound, deadline) else { return self.begin_chunk(deadline) };
        let Err(idx) = chunk.binary_search(&record) else {
            *self.more.entry(deadline).or_default() += 1;
            self.len += 1;
            return;
        };
        if chunk.len() < CHUNK_RECORDS {
            put(chunk, idx, record);
            self.len += 1;
        } else if idx == CHUNK_RECORDS {
            // Times that rise leave full chunks behind.
            self.begin_chunk(deadline);
        } else {
            let upper = chunk.split_off(CHUNK_RECORDS / 2);
            chunk.shrink_to_fit();
            let middle = upper[0].deadline(bound);
            let rebased = rebase(&upper, bound, middle).expect("the new bound is nearer to them than the old one");
            self.chunks.insert(middle, rebased);
            self.insert(at_ms, hash);
        }
    }

    /// Takes one out, if it is there.
    pub fn remove(&mut self, at_ms: i64, hash: u64) {
        let deadline = (at_ms, hash);
        let Some((&bound, chunk)) = self.chunks.range_mut(..=deadline).next_back() else { return };
        let found = Record::new(bound, deadline).and_then(|record| chunk.binary_search(&record).ok());
        let Some(idx) = found else { return };
        self.len -= 1;
        if !self.more.is_empty() && take_one(&mut self.more, deadline) {
            return;
        }
        chunk.remove(idx);
        if chunk.is_empty() {
            self.chunks.remove(&bound);
            return;
        }
        if chunk.capacity() > 2 * chunk.len() {
            chunk.shrink_to_fit();
        }
        if chunk.len() < FEW_RECORDS {
            self.join_next(bound);
            if let Some((&previous, _)) = self.chunks.range(..bound).next_back() {
                self.join_next(previous);
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn begin_chunk(&mut self, deadline: Deadline) {
        let record = Record::new(deadline, deadline).expect("no time is between it and itself");
        let mut chunk = Vec::new();
        put(&mut chunk, 0, record);
        self.chunks.insert(deadline, chunk);
        self.len += 1;
    }

    /// Adds one that is below all bounds.
    fn insert_in_front(&mut self, deadline: Deadline) {
        self.begin_chunk(deadline);
        self.join_next(deadline);
    }

    /// Joins a chunk with the one behind it if that leaves room for more.
    fn join_next(&mut self, bound: Deadline) {
        let Some((&next_bound, next)) = self.chunks.range((Bound::Excluded(bound), Bound::Unbounded)).next() else {
            return;
        };
        let chunk = &self.chunks[&bound];
        if chunk.len() + next.len() >= CHUNK_RECORDS {
            return;
        }
        if let Some(rebased) = rebase(next, next_bound, bound) {
            self.chunks.remove(&next_bound);
            if let Some(chunk) = self.chunks.get_mut(&bound) {
                chunk.reserve_exact(rebased.len());
                chunk.extend(rebased);
            }
        }
    }
}

/// Counts one less of these; whether there was any.
fn take_one(more: &mut BTreeMap<Deadline, usize>, deadline: Deadline) -> bool {
    let Some(count) = more.get_mut(&deadline) else { return false };
    *count -= 1;
    if *count == 0 {
        more.remove(&deadline);
    }
    true
}

/// The same records under another bound; None when that is too far from one of them.
fn rebase(records: &[Record], from: Deadline, to: Deadline) -> Option<Vec<Record>> {
    records.iter().map(|record| Record::new(to, record.deadline(from))).collect()
}

/// Inserts a record; the chunk grows by eight or so.
fn put(chunk: &mut Vec<Record>, idx: usize, record: Record) {
    if chunk.len() == chunk.capacity() {
        let bytes = allocation_class((chunk.len() + 8) * size_of::<Record>());
        chunk.reserve_exact(bytes / size_of::<Record>() - chunk.len());
    }
    chunk.insert(idx, record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    /// How many there are of each.
    type Model = BTreeMap<Deadline, usize>;

    fn check(deadlines: &Deadlines, model: &Model) {
        assert!(deadlines.iter().eq(model.keys().copied()));
        assert_eq!((deadlines.len(), deadlines.first()), (model.values().sum(), model.keys().next().copied()));
        assert!(deadlines.chunks.values().all(|chunk| (1..=CHUNK_RECORDS).contains(&chunk.len())));
    }

    #[test]
    fn behaves_as_a_btree_map_of_counts() {
        const DAY_MS: i64 = 86_400_000;
        for seed in 0..8 {
            let mut rng = SmallRng::seed_from_u64(seed);
            // Few times for many keys; a day; years, so that chunks end before they are full; all there are.
            let (from, to) =
                [(0, 9), (0, DAY_MS), (-900 * DAY_MS, 900 * DAY_MS), (i64::MIN, i64::MAX)][seed as usize % 4];
            let (mut deadlines, mut model) = (Deadlines::new(), Model::new());
            for round in 0..6_000 {
                let removes = (round / 1_500) % 2 == 1;
                if rng.random_bool(if removes { 0.9 } else { 0.1 }) {
                    let some = (rng.random_range(from..=to), rng.random());
                    let (at_ms, hash) = model.range(some..).next().map_or(some, |(deadline, _)| *deadline);
                    deadlines.remove(at_ms, hash);
                    take_one(&mut model, (at_ms, hash));
                } else {
                    let (at_ms, hash) = (rng.random_range(from..=to), rng.random_range(0..u64::MAX / 2) << (round % 2));
                    for _ in 0..[1, 1, 1, 1, 1, 1, 2, 300][round % 8] {
                        deadlines.insert(at_ms, hash);
                        *model.entry((at_ms, hash)).or_default() += 1;
                    }
                }
                if round % 100 == 0 {
                    check(&deadlines, &model);
                }
            }
            for ((at_ms, hash), count) in std::mem::take(&mut model) {
                (0..count).for_each(|_| deadlines.remove(at_ms, hash));
            }
            check(&deadlines, &model);
            assert!(deadlines.chunks.is_empty() && deadlines.more.is_empty());
        }
    }

    /// Bytes a record: the vectors', and 60 of the map for each chunk.
    fn bytes_a_record(deadlines: &Deadlines) -> usize {
        let vectors: usize = deadlines.chunks.values().map(|chunk| chunk.capacity() * size_of::<Record>()).sum();
        (vectors + 60 * deadlines.chunks.len()) / deadlines.len()
    }

    #[test]
    fn a_record_takes_few_bytes_whatever_the_order() {
        const KEYS: i64 = 40_000;
        let times: [fn(i64) -> i64; 4] = [|n| n, |n| -n, |n| n * 7919 % KEYS, |n| (n * 7919 % KEYS) * 50_000];
        for time in times {
            let mut deadlines = Deadlines::new();
            (0..KEYS).for_each(|n| deadlines.insert(time(n), 7));
            assert!(bytes_a_record(&deadlines) <= 16, "{}", bytes_a_record(&deadlines));
            // Nearly all of them go, here and there.
            (0..KEYS).filter(|n| n % 50 != 0).for_each(|n| deadlines.remove(time(n), 7));
            assert!(bytes_a_record(&deadlines) <= 24, "{}", bytes_a_record(&deadlines));
        }
    }
}
