//! Quicklist: a long list as a row of chunks.
//!
//! ```text
//! VecDeque:   [ listpack ][ listpack ][ plain: one huge element ][ listpack ] ..
//! ```
//!
//! Both ends are O(1) but for the bytes moved inside one chunk; an index is O(chunks), from the nearer end. A
//! chunk takes elements until [`ListLimits`] says it is full; one in the middle that is full is split, and small
//! neighbours are joined again. Chunks are divided as Redis divides its nodes, so that DUMP bytes are equal.
//!
//! Invariants: no chunk is empty; `len` is the sum of their lengths.

use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;

use super::extrapolate;
use super::listpack::{self, Element, Listpack};
use crate::garbage;

/// When a listpack or a chunk is full: the directives a list looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListLimits {
    /// `list-max-listpack-size`: a number of elements, or -1 to -5 for 4, 8, 16, 32, 64 kB.
    pub max_listpack_size: i32,
    /// Elements from this size on have a chunk of their own, outside any listpack.
    pub plain_bytes: usize,
}

impl Default for ListLimits {
    fn default() -> Self {
        Self { max_listpack_size: -2, plain_bytes: 1 << 30 }
    }
}

/// How much Redis guesses an entry costs beyond its bytes. Source: Redis 7.2 SIZE_ESTIMATE_OVERHEAD.
const ENTRY_OVERHEAD_BYTES: usize = 8;
/// The largest chunk of more than one element when elements are what is limited.
const COUNTED_CHUNK_BYTES: usize = 8192;

impl ListLimits {
    /// Whether a listpack of this size is too large.
    pub fn exceeded(&self, bytes: usize, count: usize) -> bool {
        self.exceeded_share(bytes, count, 1) || self.max_listpack_size >= 0 && bytes > COUNTED_CHUNK_BYTES
    }

    /// Whether a listpack of this size is more than half of what is allowed: a quicklist that shrinks waits for
    /// less, so that it does not go to and fro.
    pub(crate) fn half_exceeded(&self, bytes: usize, count: usize) -> bool {
        self.exceeded_share(bytes, count, 2)
    }

    fn exceeded_share(&self, bytes: usize, count: usize, divisor: usize) -> bool {
        match usize::try_from(self.max_listpack_size) {
            Ok(max_count) => count > max_count.max(1) / divisor,
            Err(_) => {
                let level = self.max_listpack_size.unsigned_abs().min(5) - 1;
                bytes > (4096 << level) / divisor
            }
        }
    }

    fn is_plain(&self, value: &[u8]) -> bool {
        value.len() >= self.plain_bytes
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    Packed(Listpack),
    /// One element too large for a listpack.
    Plain(Vec<u8>),
}

impl Chunk {
    fn packed(value: &[u8]) -> Self {
        let mut list = Listpack::new();
        list.push_back(value);
        Self::Packed(list)
    }

    fn new(value: &[u8], limits: &ListLimits) -> Self {
        if limits.is_plain(value) { Self::Plain(value.to_vec()) } else { Self::packed(value) }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Packed(list) => list.len(),
            Self::Plain(_) => 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Packed(list) if list.is_empty())
    }

    /// The listpack, when it has room for `value`.
    fn with_room(&mut self, value: &[u8], limits: &ListLimits) -> Option<&mut Listpack> {
        match self {
            Self::Packed(list) if !limits.is_plain(value) => {
                let bytes = list.total_bytes() + value.len() + ENTRY_OVERHEAD_BYTES;
                (!limits.exceeded(bytes, list.len() + 1)).then_some(list)
            }
            _ => None,
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Packed(list) => list.memory_bytes(),
            Self::Plain(value) => value.capacity(),
        }
    }

    fn iter(&self) -> ChunkIter<'_> {
        match self {
            Self::Packed(list) => ChunkIter::Packed(list.iter()),
            Self::Plain(value) => ChunkIter::Plain(Some(value)),
        }
    }

    /// The elements from index `offset` on.
    fn iter_from(&self, offset: usize) -> ChunkIter<'_> {
        match self {
            Self::Packed(list) => list
                .seek(offset as i64)
                .map_or(ChunkIter::Plain(None), |cursor| ChunkIter::Packed(list.iter_from(cursor))),
            Self::Plain(value) => ChunkIter::Plain((offset == 0).then_some(value)),
        }
    }

    /// The elements in front of index `offset`.
    fn iter_before(&self, offset: usize) -> ChunkIter<'_> {
        match self {
            Self::Packed(list) => ChunkIter::Packed(list.iter_before(list.seek(offset as i64))),
            Self::Plain(value) => ChunkIter::Plain((offset > 0).then_some(value)),
        }
    }
}

/// What an `Arc` puts in front of what it shares.
const ARC_BYTES: usize = 2 * size_of::<usize>();

/// A list in chunks.
#[derive(Clone, Debug, Default)]
pub struct Quicklist {
    /// Shared with clones until either changes one: a snapshot takes a clone of a long list.
    chunks: VecDeque<Arc<Chunk>>,
    len: usize,
}

/// Where an element is: the index of its chunk and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    chunk: usize,
    offset: usize,
}

impl Quicklist {
    /// Takes over chunks as they are; empty ones are left out.
    pub fn from_chunks(chunks: impl IntoIterator<Item = Chunk>) -> Self {
        let chunks: VecDeque<_> = chunks.into_iter().filter(|chunk| !chunk.is_empty()).map(Arc::new).collect();
        let len = chunks.iter().map(|chunk| chunk.len()).sum();
        Self { chunks, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn chunks(&self) -> impl ExactSizeIterator<Item = &Chunk> {
        self.chunks.iter().map(|chunk| &**chunk)
    }

    /// The listpack, when it is all there is and within half of the limits.
    pub(crate) fn take_if_small(&mut self, limits: &ListLimits) -> Option<Listpack> {
        self.take_only(|list, len| !limits.half_exceeded(list.total_bytes(), len))
    }

    /// The listpack, when it is all there is and within the limits.
    pub(crate) fn take_if_fits(&mut self, limits: &ListLimits) -> Option<Listpack> {
        self.take_only(|list, len| !limits.exceeded_share(list.total_bytes(), len, 1))
    }

    fn take_only(&mut self, accept: impl Fn(&Listpack, usize) -> bool) -> Option<Listpack> {
        if self.chunks.len() != 1 {
            return None;
        }
        match &*self.chunks[0] {
            Chunk::Packed(list) if accept(list, self.len) => {
                self.len = 0;
                self.chunks.pop_front().and_then(|chunk| match Arc::unwrap_or_clone(chunk) {
                    Chunk::Packed(list) => Some(list),
                    Chunk::Plain(_) => None,
                })
            }
            _ => None,
        }
    }

    /// Bytes, judged by the first `samples` chunks.
    pub fn memory_bytes(&self, samples: usize) -> usize {
        let chunks = self.chunks.iter().map(|chunk| ARC_BYTES + size_of::<Chunk>() + chunk.memory_bytes());
        let (seen, all) = (self.chunks.len().min(samples), self.chunks.len());
        self.chunks.capacity() * size_of::<Arc<Chunk>>() + extrapolate(chunks.take(samples).sum(), seen, all)
    }

    pub fn push_front(&mut self, value: &[u8], limits: &ListLimits) {
        match self.chunks.front_mut().and_then(|chunk| Arc::make_mut(chunk).with_room(value, limits)) {
            Some(list) => list.push_front(value),
            None => self.chunks.push_front(Arc::new(Chunk::new(value, limits))),
        }
        self.len += 1;
    }

    pub fn push_back(&mut self, value: &[u8], limits: &ListLimits) {
        match self.chunks.back_mut().and_then(|chunk| Arc::make_mut(chunk).with_room(value, limits)) {
            Some(list) => list.push_back(value),
            None => self.chunks.push_back(Arc::new(Chunk::new(value, limits))),
        }
        self.len += 1;
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { front: ChunkIter::Plain(None), middle: self.chunks.iter(), back: ChunkIter::Plain(None) }
    }

    /// The elements from index `idx` on.
    pub fn iter_from(&self, idx: usize) -> Iter<'_> {
        match self.place(idx) {
            Some(Place { chunk, offset }) => Iter {
                front: self.chunks[chunk].iter_from(offset),
                middle: self.chunks.range(chunk + 1..),
                back: ChunkIter::Plain(None),
            },
            None => Iter::default(),
        }
    }

    /// The elements in front of index `idx`.
    pub fn iter_before(&self, idx: usize) -> Iter<'_> {
        match self.place(idx) {
            Some(Place { chunk, offset }) => Iter {
                front: ChunkIter::Plain(None),
                middle: self.chunks.range(..chunk),
                back: self.chunks[chunk].iter_before(offset),
            },
            None => self.iter(),
        }
    }

    pub fn get(&self, idx: usize) -> Option<Element<'_>> {
        let Place { chunk, offset } = self.place(idx)?;
        match &*self.chunks[chunk] {
            Chunk::Packed(list) => list.get(offset as i64),
            Chunk::Plain(value) => Some(Element::Bytes(value)),
        }
    }

    /// Walks the chunks from the nearer end.
    pub(crate) fn place(&self, idx: usize) -> Option<Place> {
        if idx >= self.len {
            return None;
        }
        if idx < self.len / 2 {
            let mut offset = idx;
            for (chunk, len) in self.chunks.iter().map(|chunk| chunk.len()).enumerate() {
                match offset.checked_sub(len) {
                    Some(rest) => offset = rest,
                    None => return Some(Place { chunk, offset }),
                }
            }
        } else {
            let mut behind = self.len - 1 - idx;
            for (chunk, len) in self.chunks.iter().map(|chunk| chunk.len()).enumerate().rev() {
                match behind.checked_sub(len) {
                    Some(rest) => behind = rest,
                    None => return Some(Place { chunk, offset: len - 1 - behind }),
                }
            }
        }
        unreachable!("len is the sum of the chunks' lengths")
    }

    /// Replaces the element at `idx`, if there is one.
    pub fn set(&mut self, idx: usize, value: &[u8], limits: &ListLimits) -> bool {
        let Some(place) = self.place(idx) else {
            return false;
        };
        match Arc::make_mut(&mut self.chunks[place.chunk]) {
            Chunk::Packed(list) if !limits.is_plain(value) && list.has_room_for(value.len()) => {
                let cursor = list.seek(place.offset as i64).expect("place is inside");
                list.replace(cursor, value);
            }
            Chunk::Packed(_) => self.set_apart(place, value, limits),
            Chunk::Plain(old) if limits.is_plain(value) => *old = value.to_vec(),
            Chunk::Plain(_) => {
                self.insert(place, true, value, limits);
                self.chunks.remove(place.chunk);
                self.len -= 1;
            }
        }
        true
    }

    /// Replaces an element by one that needs a chunk of its own.
    fn set_apart(&mut self, place: Place, value: &[u8], limits: &ListLimits) {
        self.split(Place { chunk: place.chunk, offset: place.offset + 1 });
        let mut new = place.chunk + 1;
        self.chunks.insert(new, Arc::new(Chunk::new(value, limits)));
        if let Chunk::Packed(list) = Arc::make_mut(&mut self.chunks[place.chunk]) {
            list.pop_back();
        }
        if self.chunks[place.chunk].is_empty() {
            self.chunks.remove(place.chunk);
            new -= 1;
        }
        self.merge_around(new, limits);
    }

    /// Inserts `value` in front of or behind the element at `place`.
    pub(crate) fn insert(&mut self, place: Place, after: bool, value: &[u8], limits: &ListLimits) {
        let Place { chunk, offset } = place;
        self.len += 1;
        if let Some(list) = Arc::make_mut(&mut self.chunks[chunk]).with_room(value, limits) {
            let cursor = list.seek(offset as i64).expect("place is inside");
            if after {
                list.insert_after(cursor, value);
            } else {
                list.insert_before(cursor, value);
            }
            return;
        }
        let at_tail = after && offset + 1 == self.chunks[chunk].len();
        let at_head = !after && offset == 0;
        if at_tail || at_head {
            return self.insert_between(chunk, after, value, limits);
        }
        let right = chunk + 1;
        self.split(Place { chunk, offset: offset + usize::from(after) });
        if limits.is_plain(value) {
            return self.chunks.insert(right, Arc::new(Chunk::new(value, limits)));
        }
        let (side, center) = if after { (right, chunk) } else { (chunk, right) };
        if let Chunk::Packed(list) = Arc::make_mut(&mut self.chunks[side]) {
            if after { list.push_front(value) } else { list.push_back(value) }
        }
        self.merge_around(center, limits);
    }

    /// Puts `value` between the full `chunk` and its neighbour: into the neighbour or a new chunk.
    fn insert_between(&mut self, chunk: usize, after: bool, value: &[u8], limits: &ListLimits) {
        let neighbour = if after { Some(chunk + 1) } else { chunk.checked_sub(1) };
        let neighbour = neighbour.and_then(|idx| self.chunks.get_mut(idx));
        match neighbour.and_then(|neighbour| Arc::make_mut(neighbour).with_room(value, limits)) {
            Some(list) if after => list.push_front(value),
            Some(list) => list.push_back(value),
            None => self.chunks.insert(chunk + usize::from(after), Arc::new(Chunk::new(value, limits))),
        }
    }

    /// Divides a chunk so that `place` begins one, unless it is the end of its chunk.
    fn split(&mut self, place: Place) {
        if let Chunk::Packed(list) = Arc::make_mut(&mut self.chunks[place.chunk])
            && let Some(cursor) = list.seek(place.offset as i64)
        {
            let tail = list.split_off(cursor);
            self.chunks.insert(place.chunk + 1, Arc::new(Chunk::Packed(tail)));
        }
    }

    /// Joins what is small: the two chunks in front of `center`, the two behind it, then those beside it.
    fn merge_around(&mut self, mut center: usize, limits: &ListLimits) {
        if center >= 2 && self.merge_with_next(center - 2, limits) {
            center -= 1;
        }
        self.merge_with_next(center + 1, limits);
        if center >= 1 && self.merge_with_next(center - 1, limits) {
            center -= 1;
        }
        self.merge_with_next(center, limits);
    }

    fn merge_with_next(&mut self, left: usize, limits: &ListLimits) -> bool {
        let packed = |idx| self.chunks.get(idx).map(|chunk| &**chunk);
        let (Some(Chunk::Packed(a)), Some(Chunk::Packed(b))) = (packed(left), packed(left + 1)) else {
            return false;
        };
        if limits.exceeded(a.total_bytes() + b.total_bytes() - Listpack::new().total_bytes(), a.len() + b.len()) {
            return false;
        }
        if let Some(right) = self.chunks.remove(left + 1)
            && let (Chunk::Packed(b), Chunk::Packed(a)) = (&*right, Arc::make_mut(&mut self.chunks[left]))
        {
            a.append(b);
        }
        true
    }

    /// Removes up to `count` elements from index `start` on.
    pub fn remove_range(&mut self, start: usize, count: usize) {
        let Some(Place { mut chunk, mut offset }) = self.place(start) else {
            return;
        };
        let mut rest = count.min(self.len - start);
        self.len -= rest;
        let (first_whole, mut whole) = (chunk + usize::from(offset > 0), 0);
        while rest > 0 {
            let here = rest.min(self.chunks[chunk].len() - offset);
            if here == self.chunks[chunk].len() {
                whole += 1;
            } else if let Chunk::Packed(list) = Arc::make_mut(&mut self.chunks[chunk]) {
                list.remove_range(offset as i64, here);
            }
            rest -= here;
            (chunk, offset) = (chunk + 1, 0);
        }
        leave(self.chunks.drain(first_whole..first_whole + whole).collect());
    }

    /// Removes up to `limit` elements equal to `value`, beginning at the head, or at the tail if `from_tail`.
    pub fn remove_equal(&mut self, value: &[u8], limit: usize, from_tail: bool) -> usize {
        let mut removed = 0;
        let mut order: Box<dyn Iterator<Item = &mut Arc<Chunk>>> =
            if from_tail { Box::new(self.chunks.iter_mut().rev()) } else { Box::new(self.chunks.iter_mut()) };
        while removed < limit {
            let Some(chunk) = order.next() else {
                break;
            };
            if chunk.iter().position(|element| element.is_text(value)).is_none() {
                continue;
            }
            let chunk = Arc::make_mut(chunk);
            removed += match chunk {
                Chunk::Packed(list) => remove_equal(list, value, limit - removed, from_tail),
                Chunk::Plain(element) if *element == value => {
                    *chunk = Chunk::Packed(Listpack::new());
                    1
                }
                Chunk::Plain(_) => 0,
            };
        }
        drop(order);
        if removed > 0 {
            self.len -= removed;
            self.chunks.retain(|chunk| !chunk.is_empty());
        }
        removed
    }

    /// The place of the first element equal to `value`.
    pub(crate) fn find(&self, value: &[u8]) -> Option<Place> {
        let mut places = self.chunks.iter().enumerate();
        places.find_map(|(idx, chunk)| {
            let offset = chunk.iter().position(|element| element.is_text(value))?;
            Some(Place { chunk: idx, offset })
        })
    }
}

impl Drop for Quicklist {
    fn drop(&mut self) {
        leave(std::mem::take(&mut self.chunks));
    }
}

/// Frees chunks, if they are many by the collector.
fn leave(chunks: VecDeque<Arc<Chunk>>) {
    const SAMPLE: usize = 16;
    if chunks.len() > garbage::LARGE_LEN {
        let sample = chunks.iter().take(SAMPLE).map(|chunk| chunk.memory_bytes()).sum::<usize>() / SAMPLE;
        let bytes = sample * chunks.len();
        garbage::leave(chunks.into_iter(), bytes);
    }
}

/// Removes up to `limit` elements equal to `value`, beginning at the head, or at the tail if `from_tail`.
pub(crate) fn remove_equal(list: &mut Listpack, value: &[u8], limit: usize, from_tail: bool) -> usize {
    let mut removed = 0;
    if from_tail {
        let mut cursor = list.last();
        while let Some(at) = cursor.filter(|_| removed < limit) {
            cursor = list.prev(at);
            if list.at(at).is_text(value) {
                list.remove(at);
                removed += 1;
            }
        }
    } else {
        let mut cursor = list.first();
        while let Some(from) = cursor.filter(|_| removed < limit) {
            cursor = list.find_from(from, value, 0).and_then(|at| {
                removed += 1;
                list.remove(at)
            });
        }
    }
    removed
}

#[derive(Clone)]
enum ChunkIter<'a> {
    Packed(listpack::Iter<'a>),
    Plain(Option<&'a Vec<u8>>),
}

impl<'a> ChunkIter<'a> {
    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            Self::Packed(iter) => iter.next(),
            Self::Plain(value) => value.take().map(|value| Element::Bytes(value)),
        }
    }

    #[inline]
    fn next_back(&mut self) -> Option<Element<'a>> {
        match self {
            Self::Packed(iter) => iter.next_back(),
            Self::Plain(value) => value.take().map(|value| Element::Bytes(value)),
        }
    }

    fn position(mut self, mut accept: impl FnMut(Element<'a>) -> bool) -> Option<usize> {
        let mut idx = 0;
        while let Some(element) = self.next() {
            if accept(element) {
                return Some(idx);
            }
            idx += 1;
        }
        None
    }
}

/// Elements in order, from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    front: ChunkIter<'a>,
    middle: vec_deque::Iter<'a, Arc<Chunk>>,
    back: ChunkIter<'a>,
}

impl Default for Iter<'_> {
    fn default() -> Self {
        Self { front: ChunkIter::Plain(None), middle: vec_deque::Iter::default(), back: ChunkIter::Plain(None) }
    }
}

impl<'a> From<listpack::Iter<'a>> for Iter<'a> {
    fn from(iter: listpack::Iter<'a>) -> Self {
        Self { front: ChunkIter::Packed(iter), ..Self::default() }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        loop {
            if let Some(element) = self.front.next() {
                return Some(element);
            }
            match self.middle.next() {
                Some(chunk) => self.front = chunk.iter(),
                None => return self.back.next(),
            }
        }
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(element) = self.back.next_back() {
                return Some(element);
            }
            match self.middle.next_back() {
                Some(chunk) => self.back = chunk.iter(),
                None => return self.front.next_back(),
            }
        }
    }
}
