//! jemalloc as the server uses it.
//!
//! `.cargo/config.toml` has it built with small size classes 8 bytes apart instead of 16, as Redis builds its own: keys and
//! members of 17 to 24, 33 to 40 and 49 to 56 bytes take 8 less. `malloc` then aligns those to 8 only, while `tikv_jemallocator`
//! takes for granted that anything from 16 bytes on is aligned to 16. Here the size is a multiple of the alignment, and a
//! class for such a size is aligned as much. Right with either build.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use tikv_jemallocator::Jemalloc;

/// The `#[global_allocator]` of the binary and of tests that look at memory.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call goes on to jemalloc, with a size that depends on the caller's layout alone, so the same for an
// allocation's whole life, and at least what the caller asks for. JUSTIFICATION: without it the classes have to stay 16 bytes
// apart: a member of 16 bytes in a big set takes 49 bytes then, 41 so.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise; padding does not make a size 0.
        unsafe { Jemalloc.alloc(padded(layout)) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { Jemalloc.alloc_zeroed(padded(layout)) }
    }

    #[inline]
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above; it was allocated with the same padding.
        unsafe { Jemalloc.dealloc(place, padded(layout)) }
    }

    #[inline]
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let new_size = if layout.align() > MALLOC_ALIGN { new_size.next_multiple_of(layout.align()) } else { new_size };
        // SAFETY: as above; the caller promises that the new size, rounded up to the alignment, does not overflow.
        unsafe { Jemalloc.realloc(place, padded(layout), new_size) }
    }
}

/// What jemalloc's `malloc` aligns everything to, from that size on.
const MALLOC_ALIGN: usize = 8;

#[inline]
fn padded(layout: Layout) -> Layout {
    if layout.align() > MALLOC_ALIGN { layout.pad_to_align() } else { layout }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_allocated_is_aligned_and_holds_what_is_written() {
        for align in [1, 8, 16, 32, 64, 4096] {
            for size in [1, 8, 9, 17, 24, 36, 40, 56, 100, 5000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // Several of a class: one alone may be aligned by chance.
                let places: Vec<*mut u8> = (0..9)
                    .map(|byte| {
                        // SAFETY: the size is not 0, what is written lies within it, and `new_size` is no less.
                        let place = unsafe {
                            let place = Allocator.alloc(layout);
                            place.write_bytes(byte, size);
                            Allocator.realloc(place, layout, size + 20)
                        };
                        assert!(place.addr().is_multiple_of(align), "{size} bytes aligned to {align}: {place:?}");
                        place
                    })
                    .collect();
                let grown = Layout::from_size_align(size + 20, align).unwrap();
                for (byte, place) in (0..9).zip(places) {
                    // SAFETY: allocated above with this layout, and `size` bytes of it written; used no more.
                    unsafe {
                        assert_eq!((place.read(), place.add(size - 1).read()), (byte, byte));
                        Allocator.dealloc(place, grown);
                    }
                }
            }
        }
    }
}
