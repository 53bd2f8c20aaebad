//! Strings that are too long to live inside their entry.
//!
//! A string of any length can be changed in place while a snapshot writes it: it is frozen page by page, as a table is
//! element by element (see [`crate::frozen`]). Whoever changes bytes of a page that has not been given out first notes
//! the page as it was, so a change costs the pages it touches, however long the string is.

use crate::encoding::block;
use crate::frozen::Kept;
use crate::garbage::Bulk;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes of one allocation of their own.
#[derive(Debug)]
pub struct LongString {
    bytes: Vec<u8>,
    /// The string as it was at the instant of a snapshot, while that is under way.
    frozen: Option<Box<FrozenBytes>>,
}

/// The bytes of a string at one instant, as far as they have not been given out.
#[derive(Debug)]
pub struct FrozenBytes {
    /// Tells this string from everything else that is frozen.
    id: u64,
    /// How many bytes there were at the instant.
    len: usize,
    /// Pages in front of this one have been given out.
    next_page: usize,
    /// Pages that have changed since, as they were.
    notes: Bulk<BTreeMap<usize, Box<[u8]>>>,
    kept: Arc<Kept>,
    /// What is counted in `kept` for this string.
    noted_bytes: usize,
}

/// Bytes that are noted and given out together.
const PAGE: usize = 4096;
/// What a note takes beside its bytes, about.
const NOTE_BYTES: usize = 64;

impl LongString {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        LongString { bytes, frozen: None }
    }

    /// Lets `edit` change the string. Of the bytes there are now it changes none outside of `touched`; it may append.
    pub fn edit<R>(
        &mut self,
        touched: impl IntoIterator<Item = Range<usize>>,
        edit: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> R {
        if let Some(frozen) = &mut self.frozen {
            touched.into_iter().for_each(|range| frozen.note(&self.bytes, range));
        }
        edit(&mut self.bytes)
    }

    /// Keeps the bytes as they are now, to be given out by [`LongString::frozen_step`]; notes are counted in `kept`.
    pub fn freeze(&mut self, id: u64, kept: &Arc<Kept>) {
        let len = self.bytes.len();
        let frozen = FrozenBytes { id, len, next_page: 0, notes: Bulk::default(), kept: kept.clone(), noted_bytes: 0 };
        self.frozen = Some(Box::new(frozen));
    }

    /// What [`LongString::freeze`] keeps.
    pub fn frozen(&self) -> Option<&FrozenBytes> {
        self.frozen.as_deref()
    }

    /// Gives out the next few bytes as they were; false once all have been. Then the string is no longer frozen.
    pub fn frozen_step(&mut self, visit: impl FnOnce(&[u8])) -> bool {
        let Some(mut frozen) = self.frozen.take() else { return false };
        let more = frozen.step(&self.bytes, visit);
        self.frozen = more.then_some(frozen);
        more
    }

    /// Bytes beside those of the string and room for more.
    pub fn head_bytes(&self) -> usize {
        size_of::<Self>()
    }

    /// Bytes that it points at.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }
}

impl Drop for LongString {
    fn drop(&mut self) {
        block::free_bytes(std::mem::take(&mut self.bytes));
    }
}

impl Deref for LongString {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The copy is not frozen.
impl Clone for LongString {
    fn clone(&self) -> Self {
        LongString::new(self.bytes.clone())
    }
}

impl FrozenBytes {
    /// Tells this string from everything else that is frozen.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Notes the pages of `bytes` that are about to change.
    fn note(&mut self, bytes: &[u8], touched: Range<usize>) {
        let end = touched.end.min(self.len);
        if touched.start >= end {
            return;
        }
        for page in (touched.start / PAGE).max(self.next_page)..end.div_ceil(PAGE) {
            let range = self.page(page);
            let noted = &mut self.noted_bytes;
            let kept = &self.kept;
            self.notes.entry(page).or_insert_with(|| {
                let note = Box::from(&bytes[range]);
                *noted += note_bytes(&note);
                kept.add(note_bytes(&note));
                note
            });
        }
    }

    /// Gives out the next page; false if it was the last.
    fn step(&mut self, bytes: &[u8], visit: impl FnOnce(&[u8])) -> bool {
        let page = self.next_page;
        self.next_page += 1;
        match self.notes.remove(&page) {
            Some(note) => {
                visit(&note);
                self.noted_bytes -= note_bytes(&note);
                self.kept.sub(note_bytes(&note));
            }
            None => visit(&bytes[self.page(page)]),
        }
        self.next_page * PAGE < self.len
    }

    /// Where a page was.
    fn page(&self, page: usize) -> Range<usize> {
        page * PAGE..self.len.min((page + 1) * PAGE)
    }
}

impl Drop for FrozenBytes {
    fn drop(&mut self) {
        self.kept.sub(self.noted_bytes);
    }
}

fn note_bytes(note: &[u8]) -> usize {
    NOTE_BYTES + note.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::iter::once;

    #[test]
    fn gives_out_the_instant_whatever_is_written_meanwhile() {
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let len = [1, PAGE - 1, PAGE, PAGE + 1, 10 * PAGE, rng.random_range(1..30 * PAGE)][seed as usize % 6];
            let wanted: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            let kept = Arc::new(Kept::default());
            let mut string = LongString::new(wanted.clone());
            string.freeze(seed, &kept);
            let (mut given, mut now) = (Vec::new(), wanted.clone());
            while string.frozen().is_some_and(|frozen| frozen.id() == seed) {
                for _ in 0..rng.random_range(0..6) {
                    let start = rng.random_range(0..now.len() + 10);
                    let longest = if rng.random_ratio(1, 5) { 3 * PAGE } else { 9 };
                    let end = start + rng.random_range(0..longest);
                    let byte: u8 = rng.random();
                    let write = |bytes: &mut Vec<u8>| {
                        bytes.resize(bytes.len().max(end), 0);
                        bytes[start..end].fill(byte);
                    };
                    write(&mut now);
                    string.edit(once(start..end), write);
                }
                string.frozen_step(|bytes| given.extend_from_slice(bytes));
            }
            assert!(given == wanted, "seed {seed}");
            assert!(*string == *now, "seed {seed}");
            assert_eq!(kept.bytes(), 0, "seed {seed}");
        }
    }

    #[test]
    fn keeps_the_pages_that_are_touched_and_not_yet_given_out() {
        const NOTE: usize = PAGE + NOTE_BYTES;
        let kept = Arc::new(Kept::default());
        let mut string = LongString::new(vec![b'a'; 10 * PAGE]);
        string.freeze(1, &kept);
        let fill = |range: Range<usize>| move |bytes: &mut Vec<u8>| bytes[range].fill(b'b');
        let write = |string: &mut LongString, range: Range<usize>| {
            string.edit(once(range.clone()), fill(range));
            kept.bytes()
        };
        assert_eq!(write(&mut string, 3 * PAGE..3 * PAGE), 0, "nothing is touched");
        assert_eq!(write(&mut string, 3 * PAGE - 1..3 * PAGE), NOTE);
        assert_eq!(write(&mut string, 2 * PAGE..2 * PAGE + 1), NOTE, "the same page");
        assert_eq!(write(&mut string, 4 * PAGE - 1..4 * PAGE + 1), 3 * NOTE);
        assert!(string.frozen_step(|bytes| assert_eq!(bytes, [b'a'; PAGE])));
        assert_eq!(write(&mut string, 0..PAGE), 3 * NOTE, "it has been given out");
        assert_eq!(write(&mut string, 0..2 * PAGE), 4 * NOTE);
        string.edit(once(10 * PAGE..usize::MAX), |bytes| bytes.extend_from_slice(b"more"));
        assert_eq!(kept.bytes(), 4 * NOTE, "what was not there is not kept");
        assert!(string.clone().frozen().is_none());
        drop(string);
        assert_eq!((kept.bytes(), kept.peak_bytes()), (0, 4 * NOTE));
    }
}
