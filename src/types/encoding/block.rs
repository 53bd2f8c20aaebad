//! Freeing of single allocations, which may be very long: a long one is left to the collector (see [`crate::garbage`]),
//! and shrinks there piece by piece, so that its pages do not all go back to the system in one go.
#![allow(unsafe_code)]

use crate::garbage::{self, LARGE_BYTES};
use std::alloc::{Layout, dealloc, realloc};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// An allocation of bytes that nobody uses any more.
struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

/// Bytes that are given back at once.
const PIECE_BYTES: usize = 4 << 20;

// SAFETY: it alone has the allocation (`free`), and what was in there has been given up.
unsafe impl Send for Block {}

/// Frees an allocation.
///
/// # Safety
/// It was allocated with this layout, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn free(start: NonNull<u8>, layout: Layout) {
    if layout.size() < LARGE_BYTES {
        // SAFETY: the caller's promise.
        unsafe { dealloc(start.as_ptr(), layout) }
    } else {
        leave(Block { start, layout });
    }
}

/// Frees bytes.
pub(crate) fn free_bytes(bytes: Vec<u8>) {
    if bytes.capacity() >= LARGE_BYTES {
        let mut bytes = ManuallyDrop::new(bytes);
        let start = NonNull::new(bytes.as_mut_ptr()).expect("a vector's pointer is not null");
        let layout = Layout::array::<u8>(bytes.capacity()).expect("a vector has been allocated with this layout");
        // SAFETY: a `Vec<u8>` of some capacity is allocated so, and it has just been given up.
        unsafe { free(start, layout) }
    }
}

#[cold]
fn leave(block: Block) {
    let bytes = block.layout.size();
    let mut rest = Some(block);
    let next = move || {
        let block = rest.take()?;
        rest = block.shrunk();
        Some(())
    };
    garbage::leave(std::iter::from_fn(next), bytes);
}

impl Block {
    /// Without its last piece; None if that is all of it.
    fn shrunk(self) -> Option<Block> {
        let left = self.layout.size().saturating_sub(PIECE_BYTES);
        if left == 0 {
            return None;
        }
        let block = ManuallyDrop::new(self);
        let layout = Layout::from_size_align(left, block.layout.align()).expect("a smaller layout is valid, too");
        // SAFETY: `block` has the allocation with this layout, and is not used again. The new size is not 0. JUSTIFICATION:
        // 512 MB freed at once keep the thread in the kernel for 60 ms and more.
        let start = unsafe { realloc(block.start.as_ptr(), block.layout, left) };
        Some(Block { start: NonNull::new(start)?, layout })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the allocation is its own (`free`).
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::garbage::tests::left_by;

    #[test]
    fn a_long_block_goes_piece_by_piece_and_a_short_one_at_once() {
        assert!(left_by(|| free_bytes(vec![1; LARGE_BYTES - 1])).is_empty());
        for len in [LARGE_BYTES, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES / 2] {
            let mut left = left_by(|| free_bytes(vec![1; len]));
            assert_eq!((left.len(), left[0].bytes()), (1, len));
            let parts = std::iter::from_fn(|| left[0].free_part().then_some(())).count();
            assert_eq!(parts, len.div_ceil(PIECE_BYTES));
            // What nobody goes on with is freed as well.
            drop(left_by(|| free_bytes(vec![1; len])));
            free_bytes(vec![1; len]);
        }
    }
}
