//! Bytes behind one 8-byte pointer that grow and shrink: what a small collection is made of.
//!
//! ```text
//! len (u32 LE, these four bytes included) | content ...          exact: `allocation_class(len)` bytes are allocated
//! len                                     | content ... | size   slack: more are, u32 LE times 8
//! ```
//!
//! The low bits of the pointer are a mark: `MARK`, which tells blobs of different kinds apart ([`super::word`]), and SLACK.
//! Invariant: the first four bytes are the length, and so many bytes are initialized; [`Blob::gap`] alone writes them, and
//! size and SLACK.
//!
//! JUSTIFICATION: a `Vec<u8>` is 24 bytes in each of a million entries, and a `Box<[u8]>` 16; the length is in a
//! listpack's own bytes anyway. A hash of five fields: 192 bytes with a `Vec`, 168 so. Slack after a removal spares a list
//! whose elements are taken one by one an allocation each (550 of 4300 instructions).
#![allow(unsafe_code)]

use crate::garbage::LARGE_BYTES;
use std::alloc::{Layout, alloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

use super::allocation_class;
use super::block;
use super::word::Word;

/// Where the content begins.
pub(super) const LEN_BYTES: usize = 4;
const ALIGN: usize = 8;
const SLACK: usize = 4;
/// An allocation is not made smaller than twice this.
const SMALL: usize = 32;

/// Owned bytes of any length below 4 GiB.
#[repr(transparent)]
pub(super) struct Blob<const MARK: usize>(NonNull<u8>);

// SAFETY: the allocation has no other owner, and all that is in it is bytes.
unsafe impl<const MARK: usize> Send for Blob<MARK> {}
// SAFETY: `&Blob` only reads.
unsafe impl<const MARK: usize> Sync for Blob<MARK> {}
// SAFETY: one pointer; allocations are aligned to 8, and MARK (below SLACK: `marked`), with or without SLACK, is added.
unsafe impl<const MARK: usize> Word for Blob<MARK> {
    const SET: usize = MARK;
    const CLEAR: usize = !MARK & (SLACK - 1);
}

impl<const MARK: usize> Blob<MARK> {
    /// A length and then `content`.
    pub(super) fn new(content: &[u8]) -> Self {
        let len = LEN_BYTES + content.len();
        let layout = layout(allocation_class(len));
        // SAFETY: the layout has room for at least the length.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: the allocation has `len` bytes or more, and nothing else can reach it yet.
        unsafe {
            start.cast::<[u8; LEN_BYTES]>().write(field(len));
            start.add(LEN_BYTES).as_ptr().copy_from_nonoverlapping(content.as_ptr(), content.len());
        }
        Self(Self::marked(start, 0))
    }

    /// The length, with the field that says it.
    #[inline]
    pub(super) fn len(&self) -> usize {
        // SAFETY: an allocation begins with the length; bytes have no alignment.
        u32::from_le_bytes(unsafe { self.start().cast::<[u8; LEN_BYTES]>().read() }) as usize
    }

    /// Length and content.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: as many bytes as `len` says are initialized, and they stay as they are while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len()) }
    }

    /// What is behind the length.
    #[inline]
    pub(super) fn content_mut(&mut self) -> &mut [u8] {
        let content_len = self.len() - LEN_BYTES;
        // SAFETY: the content is initialized and lies behind the length, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start().add(LEN_BYTES).as_ptr(), content_len) }
    }

    /// Makes the `old_bytes` at `at` (counted from the beginning of the length) `new_bytes`, moving what follows, and lends
    /// them to be written: what is in them is not specified.
    pub(super) fn gap(&mut self, at: usize, old_bytes: usize, new_bytes: usize) -> &mut [u8] {
        let (old_len, mut size) = (self.len(), self.size());
        let tail = at + old_bytes;
        assert!(LEN_BYTES <= at && at <= tail && tail <= old_len, "only what is there can be replaced");
        let new_len = old_len - old_bytes + new_bytes;
        let new_field = field(new_len);
        let exact = allocation_class(new_len);
        let mut start = self.start();
        if new_len > size {
            start = reallocate(start, size, exact, old_len);
            size = exact;
        }
        // SAFETY: the allocation has room for the longer of both lengths, and `self` alone can reach it. `old_len` bytes are
        // initialized, and all of `new_len` once those behind have been written.
        unsafe {
            if new_len > old_len {
                start.add(old_len).write_bytes(0, new_len - old_len);
            }
            start.add(tail).copy_to(start.add(at + new_bytes), old_len - tail);
            start.cast::<[u8; LEN_BYTES]>().write(new_field);
        }
        if new_len < old_len && size / 2 > exact.max(SMALL) {
            start = reallocate(start, size, exact, new_len);
            size = exact;
        }
        if size == exact {
            self.0 = Self::marked(start, 0);
        } else {
            // SAFETY: sizes are multiples of 8, so that this one is larger than `new_len` by that much or more.
            unsafe { start.add(new_len).cast::<[u8; LEN_BYTES]>().write(field(size / ALIGN)) };
            self.0 = Self::marked(start, SLACK);
        }
        // SAFETY: initialized above, inside the allocation and behind the length; `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(start.add(at).as_ptr(), new_bytes) }
    }

    /// The size of the allocation.
    #[inline]
    pub(super) fn size(&self) -> usize {
        let len = self.len();
        if self.0.addr().get() & SLACK == 0 {
            return allocation_class(len);
        }
        // SAFETY: `gap` wrote the size behind the content when it set the mark.
        ALIGN * u32::from_le_bytes(unsafe { self.start().add(len).cast::<[u8; LEN_BYTES]>().read() }) as usize
    }

    #[inline]
    fn start(&self) -> NonNull<u8> {
        let start = self.0.as_ptr().map_addr(|address| address & !(ALIGN - 1));
        // SAFETY: without its marks it is the address of an allocation.
        unsafe { NonNull::new_unchecked(start) }
    }

    #[inline]
    fn marked(start: NonNull<u8>, slack: usize) -> NonNull<u8> {
        const { assert!(MARK < SLACK) };
        start.map_addr(|address| address | MARK | slack)
    }
}

/// Changes the size of an allocation of which `used` bytes matter, which may move it.
fn reallocate(start: NonNull<u8>, old_size: usize, new_size: usize, used: usize) -> NonNull<u8> {
    /// jemalloc moves small allocations whenever their class changes.
    const MOVED: usize = 8192;
    let (old, new) = (layout(old_size), layout(new_size));
    // What a very long one gives up is left to the collector.
    let gives_up_much = old_size >= LARGE_BYTES && new_size < old_size / 2;
    if old_size.max(new_size) > MOVED && !gives_up_much {
        // SAFETY: the caller allocated it with the layout of `old_size`, and uses only what is answered from now on.
        let start = unsafe { realloc(start.as_ptr(), old, new.size()) };
        return NonNull::new(start).unwrap_or_else(|| handle_alloc_error(new));
    }
    // SAFETY: sizes are at least 8.
    let Some(moved) = NonNull::new(unsafe { alloc(new) }) else { handle_alloc_error(new) };
    // SAFETY: `used` is at most both sizes; the old allocation is as above. JUSTIFICATION: `realloc` looks up the size that
    // is known here, which makes it take 350 instructions instead of 110.
    unsafe {
        moved.copy_from_nonoverlapping(start, used);
        block::free(start, old);
    }
    moved
}

impl<const MARK: usize> Drop for Blob<MARK> {
    fn drop(&mut self) {
        let layout = layout(self.size());
        // SAFETY: allocated with this very layout, and the owner is gone after this.
        unsafe { block::free(self.start(), layout) }
    }
}

impl<const MARK: usize> Clone for Blob<MARK> {
    fn clone(&self) -> Self {
        Self::new(&self.bytes()[LEN_BYTES..])
    }
}

impl<const MARK: usize> PartialEq for Blob<MARK> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl<const MARK: usize> Eq for Blob<MARK> {}

fn field(number: usize) -> [u8; LEN_BYTES] {
    u32::try_from(number).expect("a packed collection is below MAX_SAFE_BYTES").to_le_bytes()
}

#[inline]
fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("a length of 32 bits fits an address space of 64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    fn behaves_as_a_vec<const MARK: usize>() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut blob, mut model) = (Blob::<MARK>::new(b"abc"), b"abc".to_vec());
            for round in 0..200 {
                let at = rng.random_range(0..=model.len());
                // Most removals are small, so that there is slack.
                let most = if round % 9 == 0 { model.len() - at } else { 20.min(model.len() - at) };
                let old_bytes = rng.random_range(0..=most);
                let new: Vec<u8> = (0..rng.random_range(0..24)).map(|_| rng.random()).collect();
                blob.gap(LEN_BYTES + at, old_bytes, new.len()).copy_from_slice(&new);
                model.splice(at..at + old_bytes, new);
                if let Some(last) = model.len().checked_sub(1) {
                    blob.content_mut()[last] = b'!';
                    model[last] = b'!';
                }
                assert_eq!(&blob.bytes()[LEN_BYTES..], model, "seed {seed}");
                assert_eq!((blob.len(), blob.bytes().len()), (model.len() + LEN_BYTES, blob.len()));
                let most = 2 * allocation_class(blob.len()).max(SMALL);
                assert!((blob.len()..=most).contains(&blob.size()), "seed {seed}");
                if round % 50 == 0 {
                    assert!(blob == blob.clone() && blob != Blob::new(b"other"));
                    blob = blob.clone();
                    assert_eq!(blob.size(), allocation_class(blob.len()));
                }
            }
        }
    }

    #[test]
    fn behaves_as_a_vec_wherever_it_points() {
        behaves_as_a_vec::<0>();
        behaves_as_a_vec::<2>();
    }

    #[test]
    #[should_panic(expected = "only what is there")]
    fn the_length_cannot_be_replaced() {
        Blob::<0>::new(b"abc").gap(3, 1, 1);
    }
}
