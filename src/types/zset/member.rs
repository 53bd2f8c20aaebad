//! A member of a big sorted set: its score and its bytes in one allocation.
//!
//! ```text
//! 0        8      12
//! +--------+------+------------
//! | score  | len  | bytes ...      one allocation, aligned to 8
//! +--------+------+------------
//! ```
//!
//! The table owns each [`Member`]; the tree names it by a [`MemberRef`], 8 bytes each. JUSTIFICATION: a million
//! 16-byte members with random scores take 69 bytes a member in all (Redis 7.2.6: 102). Safe references to a shared
//! `Rc<[u8]>` are 16 bytes in table and tree and count in 16 more: some 38 bytes a member on top.
#![allow(unsafe_code)]

use crate::encoding::block;
use crate::prefetch::prefetch;
use crate::table::Keyed;
use std::alloc::{Layout, alloc, handle_alloc_error};
use std::ptr::NonNull;

/// Owns a member's allocation.
#[derive(Debug)]
pub(super) struct Member(NonNull<u8>);

/// Names a member that something else owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemberRef(NonNull<u8>);

// SAFETY: a member is plain bytes that only its owner and the refs the owner's set made of it can reach; sending
// the set sends all of them.
unsafe impl Send for Member {}
// SAFETY: all that `&Member` allows is reading.
unsafe impl Sync for Member {}
// SAFETY: as for `Member`: a ref lives in the tree of the set that owns the member.
unsafe impl Send for MemberRef {}
// SAFETY: all that a ref allows is reading.
unsafe impl Sync for MemberRef {}

impl Member {
    /// Panics when `bytes` are longer than 4 GiB; no client can send such an argument.
    pub(super) fn new(bytes: &[u8], score: f64) -> Self {
        let len = u32::try_from(bytes.len()).expect("a member is shorter than 4 GiB");
        let layout = layout(bytes.len());
        // SAFETY: the layout is at least `BYTES_AT` bytes, so not of size zero.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: `start` is fresh, aligned to 8 and `BYTES_AT + bytes.len()` bytes long: both headers and the bytes
        // lie inside, at aligned places, and nothing else can reach it.
        unsafe {
            start.cast::<f64>().write(score);
            start.add(LEN_AT).cast::<u32>().write(len);
            start.add(BYTES_AT).as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Self(start)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `self` owns the allocation, so it lives as long as the borrow.
        unsafe { bytes_at(self.0) }
    }

    pub(super) fn score(&self) -> f64 {
        // SAFETY: the allocation begins with the score, written by `new`.
        unsafe { self.0.cast::<f64>().read() }
    }

    pub(super) fn set_score(&mut self, score: f64) {
        // SAFETY: as for `score`; no reference to the score exists, it is only ever copied.
        unsafe { self.0.cast::<f64>().write(score) }
    }

    /// A second name of this member.
    ///
    /// # Safety
    /// The ref, and all copies of it, must not be used once the member has been dropped.
    pub(super) unsafe fn name(&self) -> MemberRef {
        MemberRef(self.0)
    }

    /// How many bytes it has allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        layout(self.bytes().len()).size()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let layout = layout(self.bytes().len());
        // SAFETY: `new` allocated with this very layout, and the owner is gone after this.
        unsafe { block::free(self.0, layout) }
    }
}

impl Keyed for Member {
    #[inline]
    fn key(&self) -> &[u8] {
        self.bytes()
    }

    fn bytes(&self) -> usize {
        self.memory_bytes()
    }

    #[inline]
    fn prefetch(&self) {
        prefetch(self.0.as_ptr());
    }
}

impl MemberRef {
    /// The member's bytes. The borrow is not tied to anything: the set hands it out for as long as it is borrowed
    /// itself.
    #[inline]
    pub(super) fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: who made the ref promised that the member outlives every use of it (`Member::name`).
        unsafe { bytes_at(self.0) }
    }

    #[inline]
    pub(super) fn prefetch(self) {
        prefetch(self.0.as_ptr());
    }
}

/// # Safety
/// `start` must be the allocation of a member that lives as long as `'a`.
#[inline]
unsafe fn bytes_at<'a>(start: NonNull<u8>) -> &'a [u8] {
    // SAFETY: `Member::new` wrote the length and as many bytes behind it; nothing writes them again.
    unsafe {
        let len = start.add(LEN_AT).cast::<u32>().read() as usize;
        std::slice::from_raw_parts(start.add(BYTES_AT).as_ptr(), len)
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(BYTES_AT + len, 8).expect("a length of 32 bits fits an address space of 64")
}

const LEN_AT: usize = 8;
const BYTES_AT: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_bytes_and_score() {
        for len in [0, 1, 3, 4, 5, 100, 5000] {
            let bytes = vec![7; len];
            let mut member = Member::new(&bytes, 1.5);
            assert_eq!((member.bytes(), member.score()), (&bytes[..], 1.5));
            member.set_score(-0.0);
            assert_eq!(member.score().to_bits(), (-0.0_f64).to_bits());
            // SAFETY: `member` lives to the end of this block.
            assert_eq!(unsafe { member.name() }.bytes(), &bytes[..]);
            assert_eq!(member.memory_bytes(), 12 + len);
        }
        assert_eq!(size_of::<Option<Member>>(), 8);
    }
}
