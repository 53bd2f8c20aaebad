//! Intset: a sorted set of integers in one allocation.
//!
//! ```text
//! in memory:             len           width     integers, ascending, each `width` bytes LE
//!                        u32 LE        u8        i16 | i32 | i64  ...
//! in DUMP and RDB:       width         count     the same
//!                        u32 LE        u32 LE
//! ```
//!
//! The width, 2, 4 or 8, is that of the widest integer ever added; it never shrinks, as in Redis, so that DUMP and RDB
//! bytes are equal. Lookup is a binary search; insertion and removal move the integers behind.
//!
//! Invariant: the bytes of an [`IntSet`] are well formed; foreign bytes enter through [`IntSet::from_bytes`].

use std::fmt;

use super::Malformed;
use super::blob::{Blob, LEN_BYTES};
use super::word::Word;

/// In front of the integers in memory, and in DUMP and RDB bytes.
const HEADER_BYTES: usize = LEN_BYTES + 1;
const FOREIGN_HEADER_BYTES: usize = 8;

/// A sorted set of integers.
#[derive(Clone, PartialEq, Eq)]
#[repr(transparent)]
pub struct IntSet {
    blob: Blob<2>,
}

// SAFETY: a transparent wrapper.
#[allow(unsafe_code)]
unsafe impl Word for IntSet {
    const SET: usize = Blob::<2>::SET;
    const CLEAR: usize = Blob::<2>::CLEAR;
}

impl Default for IntSet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IntSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl IntSet {
    pub fn new() -> Self {
        Self { blob: Blob::new(&[2]) }
    }

    /// A copy of foreign bytes, after checking width, size and order. An empty set is well formed here; DUMP payloads
    /// never carry one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let fault = |offset, reason| Err(Malformed { offset, reason });
        let (Some(&width), Some(&count)) = (bytes.first_chunk(), bytes.get(4..).and_then(<[u8]>::first_chunk)) else {
            return fault(bytes.len(), "intset shorter than its header");
        };
        let (width, count) = (u32::from_le_bytes(width) as usize, u32::from_le_bytes(count) as usize);
        if !matches!(width, 2 | 4 | 8) {
            return fault(0, "intset of unknown integer width");
        }
        let integers = &bytes[FOREIGN_HEADER_BYTES..];
        if count.checked_mul(width) != Some(integers.len()) {
            return fault(4, "intset size differs from its count");
        }
        let mut set = Self { blob: Blob::new(&[width as u8]) };
        set.blob.gap(HEADER_BYTES, 0, integers.len()).copy_from_slice(integers);
        match (1..count).find(|&idx| set.at(idx - 1) >= set.at(idx)) {
            Some(idx) => fault(FOREIGN_HEADER_BYTES + idx * width, "intset out of order"),
            None => Ok(set),
        }
    }

    /// The bytes that DUMP and RDB files carry.
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.len()).expect("a blob has less than 4 GiB");
        [&(self.width() as u32).to_le_bytes(), &count.to_le_bytes(), self.integers()].concat()
    }

    /// What this set has allocated, in bytes, without `size_of::<Self>()`.
    pub fn memory_bytes(&self) -> usize {
        self.blob.size()
    }

    pub fn len(&self) -> usize {
        (self.blob.len() - HEADER_BYTES) / self.width()
    }

    pub fn is_empty(&self) -> bool {
        self.blob.len() == HEADER_BYTES
    }

    pub fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// The integer at `idx` in ascending order.
    pub fn get(&self, idx: usize) -> Option<i64> {
        (idx < self.len()).then(|| self.at(idx))
    }

    /// All integers, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        (0..self.len()).map(|idx| self.at(idx))
    }

    /// Adds `value` and answers whether it is new.
    pub fn insert(&mut self, value: i64) -> bool {
        if width_of(value) > self.width() {
            // Wider than all others, so smaller or larger than all of them.
            self.widen(width_of(value));
        }
        let Err(idx) = self.search(value) else {
            return false;
        };
        let width = self.width();
        self.blob.gap(HEADER_BYTES + idx * width, 0, width).copy_from_slice(&value.to_le_bytes()[..width]);
        true
    }

    /// Removes `value` and answers whether it was there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(idx) = self.search(value) else {
            return false;
        };
        let width = self.width();
        self.blob.gap(HEADER_BYTES + idx * width, width, 0);
        true
    }

    #[inline]
    fn width(&self) -> usize {
        usize::from(self.blob.bytes()[LEN_BYTES])
    }

    #[inline]
    fn integers(&self) -> &[u8] {
        &self.blob.bytes()[HEADER_BYTES..]
    }

    fn at(&self, idx: usize) -> i64 {
        let integers = self.integers();
        match self.width() {
            2 => i64::from(i16::from_le_bytes(nth(integers, idx))),
            4 => i64::from(i32::from_le_bytes(nth(integers, idx))),
            _ => i64::from_le_bytes(nth(integers, idx)),
        }
    }

    /// Where `value` is, or where it belongs.
    fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        // Ascending additions are the common case.
        if high > 0 && self.at(high - 1) < value {
            return Err(high);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at(middle).cmp(&value) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn widen(&mut self, width: usize) {
        let mut wider = vec![width as u8];
        wider.extend(self.iter().flat_map(|value| value.to_le_bytes().into_iter().take(width)));
        self.blob = Blob::new(&wider);
    }
}

fn nth<const N: usize>(integers: &[u8], idx: usize) -> [u8; N] {
    *integers[idx * N..].first_chunk().expect("idx is below the count")
}

fn width_of(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => -20_i64..20,
            1 => any::<i16>().prop_map(i64::from),
            1 => any::<i32>().prop_map(i64::from),
            1 => any::<i64>(),
            1 => (14_u32..63, -1_i64..=1).prop_map(|(bits, off)| (1 << bits) + off),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_set(ops in prop::collection::vec((any::<bool>(), value()), 0..200)) {
            let (mut set, mut model) = (IntSet::new(), BTreeSet::new());
            for (add, value) in ops {
                if add {
                    prop_assert_eq!(set.insert(value), model.insert(value));
                } else {
                    prop_assert_eq!(set.remove(value), model.remove(&value));
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert!(set.iter().eq(model.iter().copied()));
                prop_assert_eq!(set.contains(value), model.contains(&value));
            }
            let again = IntSet::from_bytes(&set.to_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&set));
            prop_assert_eq!(set.get(model.len()), None);
        }

        #[test]
        fn foreign_bytes_are_refused_or_safe(mut bytes in prop::collection::vec(any::<u8>(), 0..60), width in 0..9_u8) {
            if let Some(byte) = bytes.first_mut() {
                *byte = width;
            }
            bytes.iter_mut().skip(1).take(3).for_each(|byte| *byte = 0);
            if let Some(count) = bytes.len().checked_sub(8).zip(bytes.get_mut(4..8)) {
                count.1.copy_from_slice(&[(count.0 / usize::from(width.max(1))) as u8, 0, 0, 0]);
            }
            if let Ok(set) = IntSet::from_bytes(&bytes) {
                prop_assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), set.len());
            }
        }
    }

    #[test]
    fn bytes_are_those_of_redis() {
        let mut set = IntSet::new();
        set.insert(2);
        set.insert(-1);
        assert_eq!(set.to_bytes(), b"\x02\0\0\0\x02\0\0\0\xff\xff\x02\0");
        set.insert(40_000);
        assert_eq!(set.to_bytes(), b"\x04\0\0\0\x03\0\0\0\xff\xff\xff\xff\x02\0\0\0\x40\x9c\0\0");
        set.remove(40_000);
        assert_eq!(set.to_bytes(), b"\x04\0\0\0\x02\0\0\0\xff\xff\xff\xff\x02\0\0\0");
    }
}
