//! The byte formats Redis keeps small collections in, the same in memory, in DUMP and in RDB files.

use std::fmt;

mod blob;
pub(crate) mod block;
pub mod intset;
pub mod listpack;
pub mod quicklist;
pub(crate) mod thin;
pub(crate) mod word;

/// Why foreign bytes are not of the format they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where in the bytes the fault lies.
    pub offset: usize,
    pub reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}

impl std::error::Error for Malformed {}

/// The size an allocator with four size classes a doubling, 8 bytes apart at the least (jemalloc), gives anyway: growing
/// to it wastes nothing and makes repeated pushes amortized.
#[inline]
pub(crate) fn allocation_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(8);
    bytes.next_multiple_of(step)
}

/// What all parts of a value take, about, when `bytes` is what `seen` of its `all` parts do.
pub(crate) fn extrapolate(bytes: usize, seen: usize, all: usize) -> usize {
    let estimate = bytes as u128 * all as u128 / seen.max(1) as u128;
    usize::try_from(estimate).unwrap_or(usize::MAX)
}
