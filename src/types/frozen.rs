//! A table as it was at one instant, given out piece by piece while it changes.
//!
//! Whoever changes an element that has not been given out first notes what it was; what is noted is given out in its
//! place. So memory stays near what is changed meanwhile, and nobody copies a table. Pieces follow the table's order in
//! hash space, which no growth or shrinking disturbs; notes are kept in the same order and go as the walk passes them,
//! so that no step has to give out or free many at once.

use crate::garbage::Bulk;
use crate::table::{CURSOR_BITS, Keyed, Table, hash_key, is_before};
use std::borrow::Borrow;
use std::cmp::Ordering as Order;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes of old values a snapshot keeps in memory.
#[derive(Debug, Default)]
pub struct Kept {
    bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

impl Kept {
    /// So many more.
    pub fn add(&self, bytes: usize) {
        let now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak_bytes.fetch_max(now, Ordering::Relaxed);
    }

    /// So many less.
    pub fn sub(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes now.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The most there were since [`Kept::reset_peak`].
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// Forgets how many there were.
    pub fn reset_peak(&self) {
        self.peak_bytes.store(self.bytes(), Ordering::Relaxed);
    }
}

/// What an element has beside its key.
pub trait Beside: Send + 'static {
    /// Bytes that it points at.
    fn bytes(&self) -> usize {
        0
    }
}

impl Beside for () {}

impl Beside for f64 {}

impl Beside for Box<[u8]> {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// An element that is no longer what it was. In order of hash and key: very many may have one hash.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Changed {
    hash: u64,
    key: Box<[u8]>,
}

/// A [`Changed`], or what one is looked up by.
trait InOrder {
    fn place(&self) -> (u64, &[u8]);
}

impl InOrder for Changed {
    fn place(&self) -> (u64, &[u8]) {
        (self.hash, &self.key)
    }
}

impl InOrder for (u64, &[u8]) {
    fn place(&self) -> (u64, &[u8]) {
        *self
    }
}

impl<'a> Borrow<dyn InOrder + 'a> for Changed {
    fn borrow(&self) -> &(dyn InOrder + 'a) {
        self
    }
}

impl Ord for dyn InOrder + '_ {
    fn cmp(&self, other: &Self) -> Order {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for dyn InOrder + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn InOrder + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn InOrder + '_ {}

/// The elements of a table at one instant, as far as they have not been given out. `V` is what an element has beside
/// its key.
#[derive(Debug)]
pub struct Frozen<V: Beside> {
    /// Tells this table from all others that are frozen.
    id: u64,
    /// Elements in front of this scan cursor have been given out.
    cursor: u64,
    /// Elements behind the cursor that have changed, and what they had beside their keys if they were there.
    notes: Bulk<BTreeMap<Changed, Option<V>>>,
    /// How many elements there were at the instant.
    len: usize,
    kept: Arc<Kept>,
    /// What is counted in `kept` for this table.
    bytes: usize,
}

/// Elements that are asked for ahead.
const AHEAD: usize = 24;
/// What a note takes beside its bytes, about.
const NOTE_BYTES: usize = 64;

impl<V: Beside> Frozen<V> {
    /// The instant is now; the table has `len` elements. Notes are counted in `kept`.
    pub fn new(id: u64, len: usize, kept: Arc<Kept>) -> Self {
        Frozen { id, cursor: 0, notes: Bulk::default(), len, kept, bytes: 0 }
    }

    /// Tells this table from all others that are frozen.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many elements there were at the instant.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many elements are noted.
    #[cfg(test)]
    pub(crate) fn noted_len(&self) -> usize {
        self.notes.len()
    }

    /// Notes that the element `key` is about to change; `old` is what it has beside its key, if it is there.
    pub fn note(&mut self, hash: u64, key: &[u8], old: impl FnOnce() -> Option<V>) {
        if is_before(hash, self.cursor) {
            return;
        }
        if has_note(&self.notes, hash, key) {
            return;
        }
        let (changed, old) = (Changed { hash, key: key.into() }, old());
        let bytes = note_bytes(&changed, &old);
        self.notes.insert(changed, old);
        self.bytes += bytes;
        self.kept.add(bytes);
    }

    /// Gives out a few elements: those of the next bucket that are as they were to `live`, what others were to
    /// `noted`. False once all have been given out.
    pub fn step<T: Keyed>(
        &mut self,
        table: &Table<T>,
        mut live: impl FnMut(&T),
        mut noted: impl FnMut(&[u8], &V),
    ) -> bool {
        let notes = &self.notes;
        let next = table.scan(self.cursor, |element| {
            if notes.is_empty() || !has_note(notes, hash_key(table.seed(), element.key()), element.key()) {
                live(element);
            }
        });
        while let Some(first) = self.notes.first_entry()
            && (next == 0 || is_before(first.key().hash, next))
        {
            let (changed, old) = first.remove_entry();
            if let Some(old) = &old {
                noted(&changed.key, old);
            }
            self.forget(note_bytes(&changed, &old));
        }
        self.cursor = if next == 0 { 1 << CURSOR_BITS } else { next };
        table.prefetch_scan(self.cursor, AHEAD);
        next != 0
    }

    fn forget(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.kept.sub(bytes);
    }
}

impl<V: Beside> Drop for Frozen<V> {
    fn drop(&mut self) {
        self.kept.sub(self.bytes);
    }
}

fn has_note<V>(notes: &BTreeMap<Changed, Option<V>>, hash: u64, key: &[u8]) -> bool {
    notes.contains_key(&(hash, key) as &dyn InOrder)
}

fn note_bytes<V: Beside>(changed: &Changed, old: &Option<V>) -> usize {
    NOTE_BYTES + changed.key.len() + old.as_ref().map_or(0, V::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::HashSeed;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[derive(Debug)]
    struct Pair(Box<[u8]>, f64);

    impl Keyed for Pair {
        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    /// Changes a random element of `table` in a random way.
    fn change(rng: &mut SmallRng, table: &mut Table<Pair>, frozen: &mut Frozen<f64>, removes: bool) {
        let key: Box<[u8]> = rng.random_range(0..4000u32).to_string().into_bytes().into();
        let hash = hash_key(table.seed(), &key);
        frozen.note(hash, &key, || table.get(hash, &key).map(|pair| pair.1));
        match (rng.random_range(0..3), table.get_mut(hash, &key)) {
            (0, Some(pair)) if !removes => pair.1 += 1_000_000.0,
            (_, Some(_)) if removes => drop(table.remove(hash, &key)),
            (1, Some(_)) => drop(table.remove(hash, &key)),
            (2, None) => {
                table.insert(hash, Pair(key, 7.0));
            }
            _ => {}
        }
    }

    #[test]
    fn gives_out_the_instant_whatever_happens_meanwhile() {
        for seed in 0..60 {
            let mut rng = SmallRng::seed_from_u64(seed);
            // Every second one with hashes of which very many are equal.
            let hash_seed =
                HashSeed::new([seed, 0]).keeping([u64::MAX, 0, u64::MAX, 7, u64::MAX, 7 << 60][seed as usize % 6]);
            let mut table: Table<Pair> = Table::new(&hash_seed);
            let mut wanted = BTreeMap::new();
            for n in 0..rng.random_range(0..3000u32) {
                let key: Box<[u8]> = n.to_string().into_bytes().into();
                table.insert(hash_key(&hash_seed, &key), Pair(key.clone(), n.into()));
                wanted.insert(key, f64::from(n));
            }
            let kept = Arc::new(Kept::default());
            let mut frozen = Frozen::new(seed, table.len(), kept.clone());
            let mut given = BTreeMap::new();
            loop {
                for _ in 0..rng.random_range(0..30) {
                    // Some tables lose all their segments, some grow.
                    change(&mut rng, &mut table, &mut frozen, seed % 3 == 0);
                }
                let pieces = std::cell::RefCell::new(Vec::new());
                let more = frozen.step(
                    &table,
                    |pair| pieces.borrow_mut().push((pair.0.clone(), pair.1)),
                    |key, value| pieces.borrow_mut().push((key.into(), *value)),
                );
                for (key, value) in pieces.into_inner() {
                    assert_eq!(given.insert(key, value), None, "given out twice, seed {seed}");
                }
                if !more {
                    break;
                }
            }
            assert_eq!(given, wanted, "seed {seed}");
            assert_eq!((frozen.len(), kept.bytes()), (wanted.len(), 0));
            frozen.note(0, b"late", || Some(1.0));
            assert_eq!(kept.bytes(), 0, "nothing is noted after the end");
        }
    }

    #[test]
    fn what_is_given_up_is_no_longer_counted() {
        let kept = Arc::new(Kept::default());
        let mut frozen = Frozen::new(1, 1, kept.clone());
        frozen.note(5, b"key", || Some(Box::from(*b"value")));
        assert_eq!(kept.bytes(), NOTE_BYTES + 8);
        drop(frozen);
        assert_eq!((kept.bytes(), kept.peak_bytes()), (0, NOTE_BYTES + 8));
    }
}
