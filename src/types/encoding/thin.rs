//! Bytes behind one 8-byte pointer: what the table of a big set or hash holds for each member.
//!
//! ```text
//! up to 254 bytes:   len (1 byte) | bytes ...
//! more:              0xFF | len (u32 LE) | bytes ...        one allocation, no alignment
//! ```
//!
//! JUSTIFICATION: a `Box<[u8]>` is 16 bytes, so that only half as many fit into a cache line of the table, and the
//! length of a short member would be known twice. 16-byte members: 25 bytes with the slot, against 32.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, handle_alloc_error};
use std::ptr::NonNull;

use super::block;
use crate::prefetch::prefetch;

/// Owned bytes, immutable in length.
pub(crate) struct Thin(NonNull<u8>);

const LONG: u8 = 0xFF;

// SAFETY: the allocation has no other owner, and all that is in it is bytes.
unsafe impl Send for Thin {}
// SAFETY: `&Thin` only reads.
unsafe impl Sync for Thin {}

impl Thin {
    /// The bytes of all `parts`, one behind the other. Panics when they are 4 GiB or more, beyond what a client can
    /// send in one argument.
    pub(crate) fn concat(parts: &[&[u8]]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let (header, header_bytes) = header(len);
        let layout = layout(header_bytes + len);
        // SAFETY: the size is at least 1, for the header.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let mut at = 0;
        for part in [&header[..header_bytes]].iter().chain(parts) {
            // SAFETY: the allocation has room for the header and all parts, nothing else can reach it yet, and
            // `at` is the sum of what has been written.
            unsafe { start.add(at).as_ptr().copy_from_nonoverlapping(part.as_ptr(), part.len()) };
            at += part.len();
        }
        Self(start)
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let (at, len) = self.extent();
        // SAFETY: `concat` wrote `len` bytes at `at`; they live and stay as they are for as long as `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.0.add(at).as_ptr(), len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let (at, len) = self.extent();
        // SAFETY: as for `bytes`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at).as_ptr(), len) }
    }

    /// The size of the allocation.
    pub(crate) fn memory_bytes(&self) -> usize {
        let (at, len) = self.extent();
        at + len
    }

    /// Asks for the memory that [`Self::bytes`] will read.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(self.0.as_ptr());
    }

    /// Where the bytes begin, and how many they are.
    #[inline]
    fn extent(&self) -> (usize, usize) {
        // SAFETY: `concat` wrote at least one byte.
        match unsafe { self.0.read() } {
            // SAFETY: behind this mark `concat` wrote a length of four bytes, at any alignment.
            LONG => (5, u32::from_le_bytes(unsafe { self.0.add(1).cast::<[u8; 4]>().read() }) as usize),
            len => (1, usize::from(len)),
        }
    }
}

impl Drop for Thin {
    fn drop(&mut self) {
        let layout = layout(self.memory_bytes());
        // SAFETY: `concat` allocated with this very layout, and the owner is gone after this.
        unsafe { block::free(self.0, layout) }
    }
}

impl Clone for Thin {
    fn clone(&self) -> Self {
        Self::concat(&[self.bytes()])
    }
}

impl std::fmt::Debug for Thin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().fmt(f)
    }
}

fn header(len: usize) -> ([u8; 5], usize) {
    match u8::try_from(len) {
        Ok(len) if len != LONG => ([len, 0, 0, 0, 0], 1),
        _ => {
            let [a, b, c, d] = u32::try_from(len).expect("a member is shorter than 4 GiB").to_le_bytes();
            ([LONG, a, b, c, d], 5)
        }
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 1).expect("a length of 32 bits fits an address space of 64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_is_given() {
        for len in [0, 1, 7, 253, 254, 255, 256, 300, 70_000] {
            let bytes: Vec<u8> = (0..len).map(|idx| idx as u8).collect();
            let mut thin = Thin::concat(&[&bytes[..len / 3], &bytes[len / 3..], b""]);
            assert_eq!(thin.bytes(), bytes);
            assert_eq!(thin.memory_bytes(), len + if len < 255 { 1 } else { 5 });
            let copy = thin.clone();
            thin.bytes_mut().fill(1);
            assert_eq!((thin.bytes(), copy.bytes()), (&vec![1; len][..], &bytes[..]));
        }
        assert_eq!(size_of::<Option<Thin>>(), 8);
    }
}
