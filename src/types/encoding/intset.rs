//! Intset: a sorted set of integers in one allocation.
//!
//! ```text
//! width         count         integers, ascending, each `width` bytes LE
//! u32 LE        u32 LE        i16 | i32 | i64  ...
//! 2, 4 or 8
//! ```
//!
//! The width is that of the widest integer ever added; it never shrinks, as in Redis, so that DUMP and RDB
//! bytes are equal. Lookup is a binary search; insertion and removal move the integers behind.
//!
//! Invariant: the bytes of an [`IntSet`] are well formed; foreign bytes enter through [`IntSet::from_bytes`].

use std::fmt;

use super::{Malformed, allocation_class};

const HEADER_BYTES: usize = 8;

/// A sorted set of integers in Redis's intset bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct IntSet {
    bytes: Vec<u8>,
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
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0]);
        Self { bytes }
    }

    /// Takes over foreign bytes after checking width, size and order. An empty set is well formed here; DUMP
    /// payloads never carry one.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let fault = |offset, reason| Err(Malformed { offset, reason });
        let (Some(&width), Some(&count)) = (bytes.first_chunk(), bytes.get(4..).and_then(<[u8]>::first_chunk)) else {
            return fault(bytes.len(), "intset shorter than its header");
        };
        let (width, count) = (u32::from_le_bytes(width) as usize, u32::from_le_bytes(count) as usize);
        if !matches!(width, 2 | 4 | 8) {
            return fault(0, "intset of unknown integer width");
        }
        if count.checked_mul(width) != Some(bytes.len() - HEADER_BYTES) {
            return fault(4, "intset size differs from its count");
        }
        let set = Self { bytes };
        match (1..count).find(|&idx| set.at(idx - 1) >= set.at(idx)) {
            Some(idx) => fault(HEADER_BYTES + idx * width, "intset out of order"),
            None => Ok(set),
        }
    }

    /// The bytes as DUMP and RDB files carry them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What this set has allocated, in bytes, without `size_of::<Self>()`.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub fn len(&self) -> usize {
        (self.bytes.len() - HEADER_BYTES) / self.width()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_BYTES
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
        let (width, old_bytes) = (self.width(), self.bytes.len());
        let at = HEADER_BYTES + idx * width;
        if old_bytes + width > self.bytes.capacity() {
            self.bytes.reserve_exact(allocation_class(old_bytes + width) - old_bytes);
        }
        self.bytes.resize(old_bytes + width, 0);
        self.bytes.copy_within(at..old_bytes, at + width);
        self.put(idx, value);
        self.write_count();
        true
    }

    /// Removes `value` and answers whether it was there.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(idx) = self.search(value) else {
            return false;
        };
        let width = self.width();
        let at = HEADER_BYTES + idx * width;
        self.bytes.drain(at..at + width);
        self.write_count();
        let wanted = allocation_class(self.bytes.len());
        if self.bytes.capacity() / 2 > wanted {
            self.bytes.shrink_to(wanted);
        }
        true
    }

    fn width(&self) -> usize {
        usize::from(self.bytes[0])
    }

    fn at(&self, idx: usize) -> i64 {
        let integers = &self.bytes[HEADER_BYTES..];
        match self.width() {
            2 => i64::from(i16::from_le_bytes(nth(integers, idx))),
            4 => i64::from(i32::from_le_bytes(nth(integers, idx))),
            _ => i64::from_le_bytes(nth(integers, idx)),
        }
    }

    fn put(&mut self, idx: usize, value: i64) {
        let width = self.width();
        let at = HEADER_BYTES + idx * width;
        self.bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
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
        let len = self.len();
        let mut bytes = Vec::with_capacity(allocation_class(HEADER_BYTES + (len + 1) * width));
        bytes.extend_from_slice(&self.bytes[..HEADER_BYTES]);
        bytes[0] = width as u8;
        for value in self.iter() {
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        self.bytes = bytes;
    }

    fn write_count(&mut self) {
        let count = u32::try_from(self.len()).expect("2^32 integers never fit below the conversion threshold");
        self.bytes[4..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
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
            let again = IntSet::from_bytes(set.as_bytes().to_vec());
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
            if let Ok(set) = IntSet::from_bytes(bytes) {
                prop_assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), set.len());
            }
        }
    }

    #[test]
    fn bytes_are_those_of_redis() {
        let mut set = IntSet::new();
        set.insert(2);
        set.insert(-1);
        assert_eq!(set.as_bytes(), b"\x02\0\0\0\x02\0\0\0\xff\xff\x02\0");
        set.insert(40_000);
        assert_eq!(set.as_bytes(), b"\x04\0\0\0\x03\0\0\0\xff\xff\xff\xff\x02\0\0\0\x40\x9c\0\0");
        set.remove(40_000);
        assert_eq!(set.as_bytes(), b"\x04\0\0\0\x02\0\0\0\xff\xff\xff\xff\x02\0\0\0");
    }
}
