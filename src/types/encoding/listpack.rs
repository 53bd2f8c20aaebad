//! Listpack: a list of byte strings and integers in one allocation, walked in both directions.
//!
//! ```text
//! total bytes   count     entry   entry  ...  end
//! u32 LE        u16 LE                        0xFF
//!
//! entry = encoding + data, then its length again ("backlen") for walking back
//!
//! 0xxxxxxx                      integer 0..=127
//! 10xxxxxx data                 string, 6-bit length
//! 110xxxxx xxxxxxxx             integer, 13 bits, two's complement, high bits first
//! 1110xxxx xxxxxxxx data        string, 12-bit length, high bits first
//! 11110000 u32 LE data          string, 32-bit length
//! 11110001 i16 LE               11110010 i24 LE     11110011 i32 LE     11110100 i64 LE
//!
//! backlen = the size of encoding + data, 7 bits a byte, most significant first; every byte but the first
//!           has its high bit set, so that reading from the right stops at the first
//! ```
//!
//! A count of 65535 means "unknown: walk". A string that is the canonical text of an integer is stored as
//! that integer, in the smallest encoding, so equal lists have equal bytes: DUMP and RDB files carry them as
//! they are. Push, pop and insert move the bytes behind them: for small lists only.
//!
//! Invariant: the bytes of a [`Listpack`] are well formed; foreign bytes enter through
//! [`Listpack::from_bytes`] alone, which checks each of them.

use std::fmt;

use super::Malformed;
use super::blob::{Blob, LEN_BYTES};
use super::word::Word;
use crate::number::{append_int, parse_int};

const HEADER_BYTES: usize = 6;
const END: u8 = 0xFF;
const COUNT_UNKNOWN: u16 = u16::MAX;
const MAX_BACKLEN_BYTES: usize = 5;

const STRING_32: u8 = 0xF0;
const INT_16: u8 = 0xF1;
const INT_24: u8 = 0xF2;
const INT_32: u8 = 0xF3;
const INT_64: u8 = 0xF4;

/// The largest listpack Redis builds, in bytes: past this a type must change its encoding.
/// Source: Redis 7.2 LISTPACK_MAX_SAFETY_LIMIT.
pub const MAX_SAFE_BYTES: usize = 1 << 30;

/// A list of byte strings and integers in Redis's listpack bytes.
#[derive(Clone, PartialEq, Eq)]
#[repr(transparent)]
pub struct Listpack {
    /// Its length is the total at the beginning of the bytes.
    blob: Blob<0>,
}

// SAFETY: a transparent wrapper.
#[allow(unsafe_code)]
unsafe impl Word for Listpack {
    const SET: usize = Blob::<0>::SET;
    const CLEAR: usize = Blob::<0>::CLEAR;
}

/// Where an element begins: a byte position, valid until the listpack changes at or before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(usize);

/// One element: what a listpack stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Listpack {
    pub fn new() -> Self {
        Self { blob: Blob::new(&[0, 0, END]) }
    }

    /// A copy of foreign bytes, after checking every header, length, backlen and the count.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        validate(bytes)?;
        Ok(Self { blob: Blob::new(&bytes[LEN_BYTES..]) })
    }

    /// The bytes as DUMP and RDB files carry them.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.blob.bytes()
    }

    /// The size of [`Self::as_bytes`].
    pub fn total_bytes(&self) -> usize {
        self.blob.len()
    }

    /// What this listpack has allocated, in bytes, without `size_of::<Self>()`.
    pub fn memory_bytes(&self) -> usize {
        self.blob.size()
    }

    /// The number of elements: O(1) below 65535 of them, a walk from there.
    pub fn len(&self) -> usize {
        match self.header_count() {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.blob.len() == HEADER_BYTES + 1
    }

    /// Whether `extra_bytes` more of data keep this below the size at which Redis gives up listpacks.
    pub fn has_room_for(&self, extra_bytes: usize) -> bool {
        self.blob.len().checked_add(extra_bytes).is_some_and(|total| total <= MAX_SAFE_BYTES)
    }

    /// The elements from first to last; `rev()` walks back at the same cost.
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: self.as_bytes(), front: HEADER_BYTES, back: self.end() }
    }

    /// The elements from `cursor` to the last.
    pub fn iter_from(&self, cursor: Cursor) -> Iter<'_> {
        Iter { bytes: self.as_bytes(), front: cursor.0, back: self.end() }
    }

    /// The elements before `cursor` (all of them for `None`), to be walked back with `rev()`.
    pub fn iter_before(&self, cursor: Option<Cursor>) -> Iter<'_> {
        let back = cursor.map_or_else(|| self.end(), |cursor| cursor.0);
        Iter { bytes: self.as_bytes(), front: HEADER_BYTES, back }
    }

    pub fn first(&self) -> Option<Cursor> {
        self.cursor_at(HEADER_BYTES)
    }

    pub fn last(&self) -> Option<Cursor> {
        self.before(self.end())
    }

    pub fn next(&self, cursor: Cursor) -> Option<Cursor> {
        self.cursor_at(entry_end(self.as_bytes(), cursor.0))
    }

    pub fn prev(&self, cursor: Cursor) -> Option<Cursor> {
        self.before(cursor.0)
    }

    pub fn at(&self, cursor: Cursor) -> Element<'_> {
        decode(self.as_bytes(), cursor.0).0
    }

    /// The place of the element at `idx`; -1 is the last one. Walks from the nearer end.
    pub fn seek(&self, idx: i64) -> Option<Cursor> {
        let known_len = match self.header_count() {
            COUNT_UNKNOWN => None,
            count => Some(i64::from(count)),
        };
        let (idx, from_back) = match known_len {
            Some(len) => {
                let idx = if idx < 0 { idx + len } else { idx };
                if !(0..len).contains(&idx) {
                    return None;
                }
                if idx > len / 2 { (len - 1 - idx, true) } else { (idx, false) }
            }
            None if idx < 0 => (-1 - idx, true),
            None => (idx, false),
        };
        let (mut cursor, steps) = (if from_back { self.last() } else { self.first() }, idx);
        for _ in 0..steps {
            cursor = if from_back { self.prev(cursor?) } else { self.next(cursor?) };
        }
        cursor
    }

    /// The element at `idx`; -1 is the last one.
    pub fn get(&self, idx: i64) -> Option<Element<'_>> {
        self.seek(idx).map(|cursor| self.at(cursor))
    }

    /// The first element equal to `needle`, looking at one element, then passing over `skip`, and so on:
    /// `skip` is 1 where fields and values take turns.
    pub fn find(&self, needle: &[u8], skip: usize) -> Option<Cursor> {
        self.find_from(self.first()?, needle, skip)
    }

    /// As [`Self::find`], beginning at `cursor`.
    pub fn find_from(&self, cursor: Cursor, needle: &[u8], skip: usize) -> Option<Cursor> {
        let (bytes, end) = (self.as_bytes(), self.end());
        let needle_int = parse_int(needle);
        let mut pos = cursor.0;
        while pos < end {
            let (element, len) = decode(bytes, pos);
            let found = match element {
                Element::Bytes(text) => text == needle,
                Element::Int(value) => needle_int == Some(value),
            };
            if found {
                return Some(Cursor(pos));
            }
            pos += len + backlen_bytes(len);
            for _ in 0..skip {
                if pos >= end {
                    break;
                }
                pos = entry_end(bytes, pos);
            }
        }
        None
    }

    pub fn push_back<'e>(&mut self, element: impl Into<Element<'e>>) {
        self.push_all_back(&[element.into()]);
    }

    /// Pushes several at once, for the price of about one.
    pub fn push_all_back(&mut self, elements: &[Element<'_>]) {
        self.insert_all(self.end(), elements);
    }

    pub fn push_front<'e>(&mut self, element: impl Into<Element<'e>>) {
        self.push_all_front(&[element.into()]);
    }

    /// Puts several in front of all others, the first of them first.
    pub fn push_all_front(&mut self, elements: &[Element<'_>]) {
        self.insert_all(HEADER_BYTES, elements);
    }

    /// Inserts in front of `cursor` and answers where the new element is: at `cursor`.
    pub fn insert_before<'e>(&mut self, cursor: Cursor, element: impl Into<Element<'e>>) -> Cursor {
        self.insert_all_before(cursor, &[element.into()]);
        cursor
    }

    /// Inserts several, one behind the other, in front of `cursor`.
    pub fn insert_all_before(&mut self, cursor: Cursor, elements: &[Element<'_>]) {
        self.insert_all(cursor.0, elements);
    }

    /// Inserts behind `cursor` and answers where the new element is.
    pub fn insert_after<'e>(&mut self, cursor: Cursor, element: impl Into<Element<'e>>) -> Cursor {
        let at = entry_end(self.as_bytes(), cursor.0);
        self.insert_all(at, &[element.into()]);
        Cursor(at)
    }

    /// Puts `element` where `cursor` is; the cursor stays valid.
    pub fn replace<'e>(&mut self, cursor: Cursor, element: impl Into<Element<'e>>) {
        let old_bytes = entry_end(self.as_bytes(), cursor.0) - cursor.0;
        self.put(cursor.0, old_bytes, &[element.into()]);
    }

    /// Moves the `count` elements from `cursor` on (fewer at the end) in front of `target`, which is none of them, or to the
    /// end. Answers where the first of them is then.
    pub fn move_before(&mut self, cursor: Cursor, count: usize, target: Option<Cursor>) -> Cursor {
        let (stop, _) = self.pass_over(cursor, count);
        let target = target.map_or_else(|| self.end(), |target| target.0);
        let (from, len) = (cursor.0, stop - cursor.0);
        let content = self.blob.content_mut();
        if target < from {
            content[target - LEN_BYTES..stop - LEN_BYTES].rotate_right(len);
            return Cursor(target);
        }
        content[from - LEN_BYTES..target - LEN_BYTES].rotate_left(len);
        Cursor(target - len)
    }

    /// Removes the element at `cursor`, which then is the place of the next one, if there is one.
    pub fn remove(&mut self, cursor: Cursor) -> Option<Cursor> {
        self.remove_many(cursor, 1)
    }

    /// Removes up to `count` elements from `cursor` on; answers where the rest begins.
    pub fn remove_many(&mut self, cursor: Cursor, count: usize) -> Option<Cursor> {
        let (stop, removed) = self.pass_over(cursor, count);
        self.blob.gap(cursor.0, stop - cursor.0, 0);
        self.adjust_count(-(removed as i64));
        self.cursor_at(cursor.0)
    }

    /// Removes up to `count` elements from index `start` (-1 is the last) on.
    pub fn remove_range(&mut self, start: i64, count: usize) {
        if let Some(cursor) = self.seek(start) {
            self.remove_many(cursor, count);
        }
    }

    /// Removes the first element and answers whether there was one.
    pub fn pop_front(&mut self) -> bool {
        self.first().map(|cursor| self.remove(cursor)).is_some()
    }

    /// Removes the last element and answers whether there was one.
    pub fn pop_back(&mut self) -> bool {
        self.last().map(|cursor| self.remove(cursor)).is_some()
    }

    /// Appends all elements of `other`.
    pub fn append(&mut self, other: &Self) {
        let entries = &other.as_bytes()[HEADER_BYTES..other.end()];
        self.blob.gap(self.end(), 0, entries.len()).copy_from_slice(entries);
        self.adjust_count(other.len() as i64);
    }

    /// Splits in two: this keeps the elements before `cursor`, the answer has the others.
    pub fn split_off(&mut self, cursor: Cursor) -> Self {
        let kept = self.iter_before(Some(cursor)).count();
        let moved = self.iter_from(cursor).count();
        let mut tail = Self::new();
        let end = self.end();
        tail.blob.gap(HEADER_BYTES, 0, end - cursor.0).copy_from_slice(&self.as_bytes()[cursor.0..end]);
        tail.write_count(moved);
        self.blob.gap(cursor.0, end - cursor.0, 0);
        self.write_count(kept);
        tail
    }

    /// The position of the end byte.
    fn end(&self) -> usize {
        self.blob.len() - 1
    }

    fn cursor_at(&self, pos: usize) -> Option<Cursor> {
        (pos < self.end()).then_some(Cursor(pos))
    }

    fn before(&self, pos: usize) -> Option<Cursor> {
        (pos > HEADER_BYTES).then(|| Cursor(entry_start(self.as_bytes(), pos)))
    }

    fn header_count(&self) -> u16 {
        u16::from_le_bytes([self.as_bytes()[4], self.as_bytes()[5]])
    }

    /// Where up to `count` elements from `cursor` on end, and how many they are.
    fn pass_over(&self, cursor: Cursor, count: usize) -> (usize, usize) {
        let (bytes, end) = (self.as_bytes(), self.end());
        let (mut stop, mut passed) = (cursor.0, 0);
        while passed < count && stop < end {
            stop = entry_end(bytes, stop);
            passed += 1;
        }
        (stop, passed)
    }

    fn insert_all(&mut self, at: usize, elements: &[Element<'_>]) {
        self.put(at, 0, elements);
        self.adjust_count(elements.len() as i64);
    }

    /// Replaces the `old_bytes` at `at` by the encoding of `elements`; leaves the count alone.
    #[inline]
    fn put(&mut self, at: usize, old_bytes: usize, elements: &[Element<'_>]) {
        let new_bytes = elements.iter().map(|element| element.entry_bytes()).sum();
        let mut gap = self.blob.gap(at, old_bytes, new_bytes);
        for element in elements {
            gap = encode(*element, gap);
        }
    }

    fn write_count(&mut self, count: usize) {
        let count = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
        self.blob.content_mut()[..2].copy_from_slice(&count.to_le_bytes());
    }

    /// Keeps the count in the header; once unknown it stays so until a walk finds few elements again.
    fn adjust_count(&mut self, change: i64) {
        let count = match self.header_count() {
            COUNT_UNKNOWN if change > 0 => return,
            COUNT_UNKNOWN => self.iter().count() as i64,
            count => i64::from(count) + change,
        };
        self.write_count(count as usize);
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Element<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// How an element is laid out, for those who look at bytes (DEBUG LISTPACK).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<'a> {
    pub element: Element<'a>,
    /// Where the entry begins in [`Listpack::as_bytes`].
    pub offset: usize,
    /// All of the entry.
    pub bytes: &'a [u8],
    /// How many of its bytes say what follows: of an integer the first, of a string those before its text.
    pub head_len: usize,
    pub backlen_len: usize,
}

impl Listpack {
    /// The elements with their places.
    pub fn layout(&self) -> impl Iterator<Item = Layout<'_>> {
        let mut iter = self.iter();
        std::iter::from_fn(move || {
            let Cursor(offset) = iter.cursor()?;
            let element = iter.next()?;
            let bytes = &self.as_bytes()[offset..iter.front];
            let (_, len) = decode(self.as_bytes(), offset);
            let head_len = match element {
                Element::Bytes(text) => len - text.len(),
                Element::Int(_) => 1,
            };
            Some(Layout { element, offset, bytes, head_len, backlen_len: bytes.len() - len })
        })
    }
}

/// Elements in order, from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl Iter<'_> {
    /// The place of the element that `next()` answers, if there is one.
    pub fn cursor(&self) -> Option<Cursor> {
        (self.front < self.back).then_some(Cursor(self.front))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (element, len) = decode(self.bytes, self.front);
        self.front += len + backlen_bytes(len);
        Some(element)
    }

    /// Passes over `n` elements without decoding them.
    #[inline]
    fn nth(&mut self, n: usize) -> Option<Element<'a>> {
        for _ in 0..n {
            if self.front >= self.back {
                return None;
            }
            self.front = entry_end(self.bytes, self.front);
        }
        self.next()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.back = entry_start(self.bytes, self.back);
        Some(decode(self.bytes, self.back).0)
    }
}

impl<'a> Element<'a> {
    /// The integer, for an element stored as one. A foreign listpack may hold an integer as text: see
    /// [`Self::to_int`].
    pub fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Bytes(_) => None,
        }
    }

    /// The integer this is or spells.
    pub fn to_int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Bytes(text) => parse_int(text),
        }
    }

    /// The bytes a client sees, built in `buffer` when this is an integer.
    #[inline]
    pub fn text<'b>(self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Bytes(text) => text,
            Self::Int(value) => buffer.format(value).as_bytes(),
        }
    }

    pub fn append_to(self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(text) => out.extend_from_slice(text),
            Self::Int(value) => append_int(out, value),
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::new();
        self.append_to(&mut out);
        out
    }

    /// The size of the bytes a client sees.
    pub fn text_len(self) -> usize {
        match self {
            Self::Bytes(text) => text.len(),
            Self::Int(value) => {
                let magnitude = value.unsigned_abs();
                usize::from(value < 0) + magnitude.checked_ilog10().map_or(1, |digits| digits as usize + 1)
            }
        }
    }

    /// Whether a client sees exactly `text`.
    pub fn is_text(self, text: &[u8]) -> bool {
        match self {
            Self::Bytes(bytes) => bytes == text,
            Self::Int(value) => parse_int(text) == Some(value),
        }
    }

    /// Compares by the bytes a client sees, as memcmp does.
    pub fn cmp_text(self, text: &[u8]) -> std::cmp::Ordering {
        self.text(&mut itoa::Buffer::new()).cmp(text)
    }

    /// The size of an entry that holds this, with its backlen.
    pub fn entry_bytes(self) -> usize {
        let len = match self {
            Self::Bytes(text) => text.len() + 1 + usize::from(text.len() > 0x3F) + 3 * usize::from(text.len() > 0xFFF),
            Self::Int(value) => match value {
                0..=0x7F => 1,
                -0x1000..=0xFFF => 2,
                -0x8000..=0x7FFF => 3,
                -0x80_0000..=0x7F_FFFF => 4,
                -0x8000_0000..=0x7FFF_FFFF => 5,
                _ => 9,
            },
        };
        len + backlen_bytes(len)
    }
}

impl<'a> From<&'a [u8]> for Element<'a> {
    /// An integer if `text` is the canonical text of one, as Redis stores it.
    #[inline]
    fn from(text: &'a [u8]) -> Self {
        parse_int(text).map_or(Self::Bytes(text), Self::Int)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Element<'a> {
    fn from(text: &'a [u8; N]) -> Self {
        Self::from(&text[..])
    }
}

impl From<i64> for Element<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// The element at `pos` and the size of its encoding and data.
#[inline]
fn decode(bytes: &[u8], pos: usize) -> (Element<'_>, usize) {
    let entry = &bytes[pos..];
    let kind = entry[0];
    if kind < 0x80 {
        return (Element::Int(i64::from(kind)), 1);
    }
    if kind < 0xC0 {
        let stop = 1 + usize::from(kind & 0x3F);
        return (Element::Bytes(&entry[1..stop]), stop);
    }
    decode_wide(entry)
}

fn decode_wide(entry: &[u8]) -> (Element<'_>, usize) {
    let string = |head: usize, len: usize| (Element::Bytes(&entry[head..head + len]), head + len);
    match entry[0] {
        kind @ 0xC0..=0xDF => {
            let bits = u16::from_be_bytes([kind, entry[1]]) << 3;
            (Element::Int(i64::from(bits as i16 >> 3)), 2)
        }
        kind @ 0xE0..=0xEF => string(2, usize::from(u16::from_be_bytes([kind & 0x0F, entry[1]]))),
        STRING_32 => string(5, u32::from_le_bytes(array(entry)) as usize),
        INT_16 => (Element::Int(i64::from(i16::from_le_bytes(array(entry)))), 3),
        INT_24 => {
            let [low, middle, high] = array(entry);
            (Element::Int(i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)), 4)
        }
        INT_32 => (Element::Int(i64::from(i32::from_le_bytes(array(entry)))), 5),
        INT_64 => (Element::Int(i64::from_le_bytes(array(entry))), 9),
        kind => panic!("a checked listpack has no entry of kind {kind:#x}"),
    }
}

/// The `N` bytes behind the kind byte.
fn array<const N: usize>(entry: &[u8]) -> [u8; N] {
    *entry[1..].first_chunk().expect("a checked entry is complete")
}

/// Where the entry behind the one at `pos` begins.
#[inline]
fn entry_end(bytes: &[u8], pos: usize) -> usize {
    let kind = bytes[pos];
    let len = match kind {
        0..=0x7F => 1,
        0x80..=0xBF => 1 + usize::from(kind & 0x3F),
        0xC0..=0xDF => 2,
        _ => decode_wide(&bytes[pos..]).1,
    };
    pos + len + backlen_bytes(len)
}

/// Where the entry that ends in front of `end` begins.
#[inline]
fn entry_start(bytes: &[u8], end: usize) -> usize {
    let (mut len, mut shift, mut pos) = (0, 0, end);
    loop {
        pos -= 1;
        len |= usize::from(bytes[pos] & 0x7F) << shift;
        shift += 7;
        if bytes[pos] & 0x80 == 0 {
            return pos - len;
        }
    }
}

/// Writes the entry of `element` to the beginning of `to`; what is left of that.
#[inline]
fn encode<'t>(element: Element<'_>, to: &'t mut [u8]) -> &'t mut [u8] {
    let mut put = |kind: u8, more: &[u8]| {
        to[0] = kind;
        to[1..=more.len()].copy_from_slice(more);
        1 + more.len()
    };
    let mut len = match element {
        Element::Bytes(text) => match text.len() {
            len @ 0..=0x3F => put(0x80 | len as u8, &[]),
            len @ 0x40..=0xFFF => put(0xE0 | (len >> 8) as u8, &[len as u8]),
            len => put(STRING_32, &(u32::try_from(len).expect("below MAX_SAFE_BYTES")).to_le_bytes()),
        },
        Element::Int(value) => match value {
            0..=0x7F => put(value as u8, &[]),
            -0x1000..=0xFFF => put(0xC0 | (value >> 8) as u8 & 0x1F, &[value as u8]),
            -0x8000..=0x7FFF => put(INT_16, &value.to_le_bytes()[..2]),
            -0x80_0000..=0x7F_FFFF => put(INT_24, &value.to_le_bytes()[..3]),
            -0x8000_0000..=0x7FFF_FFFF => put(INT_32, &value.to_le_bytes()[..4]),
            _ => put(INT_64, &value.to_le_bytes()),
        },
    };
    if let Element::Bytes(text) = element {
        to[len..len + text.len()].copy_from_slice(text);
        len += text.len();
    }
    let backlen_bytes = encode_backlen(len, &mut to[len..]);
    &mut to[len + backlen_bytes..]
}

/// The size of the backlen of an entry of `len` bytes. From two bytes on, Redis moves to the next size one
/// value early; equal bytes need the same.
#[inline]
fn backlen_bytes(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Writes a backlen to the beginning of `to`; its size.
#[inline]
fn encode_backlen(len: usize, to: &mut [u8]) -> usize {
    let size = backlen_bytes(len);
    for (idx, byte) in to[..size].iter_mut().enumerate() {
        let more = if idx == 0 { 0 } else { 0x80 };
        *byte = (len >> (7 * (size - 1 - idx))) as u8 & 0x7F | more;
    }
    size
}

fn validate(bytes: &[u8]) -> Result<(), Malformed> {
    let fault = |offset, reason| Err(Malformed { offset, reason });
    if bytes.len() < HEADER_BYTES + 1 {
        return fault(bytes.len(), "listpack shorter than its header");
    }
    if usize::try_from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) != Ok(bytes.len()) {
        return fault(0, "listpack size differs from its header");
    }
    let end = bytes.len() - 1;
    if bytes[end] != END {
        return fault(end, "listpack without end byte");
    }
    let (mut pos, mut count) = (HEADER_BYTES, 0_usize);
    while pos < end {
        let Some(len) = checked_entry_bytes(&bytes[pos..end]) else {
            return fault(pos, "listpack entry of unknown kind or beyond the end");
        };
        let mut backlen = [0; MAX_BACKLEN_BYTES];
        let backlen_bytes = encode_backlen(len, &mut backlen);
        if !bytes[pos + len..end].starts_with(&backlen[..backlen_bytes]) {
            return fault(pos + len, "listpack entry with a wrong backward length");
        }
        pos += len + backlen_bytes;
        count += 1;
    }
    let claimed = u16::from_le_bytes([bytes[4], bytes[5]]);
    if claimed != COUNT_UNKNOWN && usize::from(claimed) != count {
        return fault(4, "listpack count differs from its entries");
    }
    Ok(())
}

/// The size of encoding and data of the entry `entries` begins with, when it lies within `entries`.
fn checked_entry_bytes(entries: &[u8]) -> Option<usize> {
    let len = match *entries.first()? {
        0..=0x7F => 1,
        kind @ 0x80..=0xBF => 1 + usize::from(kind & 0x3F),
        0xC0..=0xDF => 2,
        kind @ 0xE0..=0xEF => 2 + usize::from(u16::from_be_bytes([kind & 0x0F, *entries.get(1)?])),
        STRING_32 => 5 + u32::from_le_bytes(*entries.get(1..)?.first_chunk()?) as usize,
        INT_16 => 3,
        INT_24 => 4,
        INT_32 => 5,
        INT_64 => 9,
        _ => return None,
    };
    (len <= entries.len()).then_some(len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(list: &Listpack) -> Vec<Vec<u8>> {
        let forward: Vec<_> = list.iter().map(Element::to_vec).collect();
        let mut backward: Vec<_> = list.iter().rev().map(Element::to_vec).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        assert_eq!(forward.len(), list.len());
        validate(list.as_bytes()).expect("own bytes are well formed");
        forward
    }

    /// Texts at every boundary of the encodings, and plain ones.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => "[a-c]{0,3}".prop_map(String::into_bytes),
            3 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
            3 => (0_u32..63, -2_i64..=2, any::<bool>()).prop_map(|(bits, off, minus)| {
                let value = (1_i64 << bits).wrapping_add(off);
                (if minus { value.wrapping_neg() } else { value }).to_string().into_bytes()
            }),
            1 => prop_oneof![60_usize..70, 120_usize..130, 4090_usize..4100, 16370_usize..16390].prop_map(|len| vec![b'x'; len]),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        PushBack(Vec<u8>),
        PushFront(Vec<u8>),
        InsertBefore(usize, Vec<u8>),
        InsertAfter(usize, Vec<u8>),
        Replace(usize, Vec<u8>),
        Remove(usize),
        RemoveRange(i64, usize),
        Append(Vec<Vec<u8>>),
        PushAll(Vec<Vec<u8>>),
        InsertAll(usize, Vec<Vec<u8>>),
        Move(usize, usize, usize),
        SplitOff(usize, bool),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => text().prop_map(Op::PushBack),
            2 => text().prop_map(Op::PushFront),
            1 => (any::<usize>(), text()).prop_map(|(at, text)| Op::InsertBefore(at, text)),
            1 => (any::<usize>(), text()).prop_map(|(at, text)| Op::InsertAfter(at, text)),
            2 => (any::<usize>(), text()).prop_map(|(at, text)| Op::Replace(at, text)),
            2 => any::<usize>().prop_map(Op::Remove),
            1 => (-20_i64..20, 0_usize..4).prop_map(|(at, count)| Op::RemoveRange(at, count)),
            1 => prop::collection::vec(text(), 0..4).prop_map(Op::Append),
            1 => prop::collection::vec(text(), 0..4).prop_map(Op::PushAll),
            1 => (any::<usize>(), prop::collection::vec(text(), 0..4)).prop_map(|(at, texts)| Op::InsertAll(at, texts)),
            2 => (any::<usize>(), 0_usize..4, any::<usize>()).prop_map(|(at, count, to)| Op::Move(at, count, to)),
            1 => (any::<usize>(), any::<bool>()).prop_map(|(at, keep_tail)| Op::SplitOff(at, keep_tail)),
        ]
    }

    fn apply(list: &mut Listpack, model: &mut Vec<Vec<u8>>, op: Op) {
        let place = |at: usize, list: &Listpack| {
            let idx = at % list.len().max(1);
            (idx, list.seek(idx as i64))
        };
        match op {
            Op::PushBack(text) => {
                list.push_back(&text[..]);
                model.push(text);
            }
            Op::PushFront(text) => {
                list.push_front(&text[..]);
                model.insert(0, text);
            }
            Op::InsertBefore(at, text) => {
                if let (idx, Some(cursor)) = place(at, list) {
                    let new = list.insert_before(cursor, &text[..]);
                    assert!(list.at(new).is_text(&text));
                    model.insert(idx, text);
                }
            }
            Op::InsertAfter(at, text) => {
                if let (idx, Some(cursor)) = place(at, list) {
                    let new = list.insert_after(cursor, &text[..]);
                    assert!(list.at(new).is_text(&text));
                    model.insert(idx + 1, text);
                }
            }
            Op::Replace(at, text) => {
                if let (idx, Some(cursor)) = place(at, list) {
                    list.replace(cursor, &text[..]);
                    model[idx] = text;
                }
            }
            Op::Remove(at) => {
                if let (idx, Some(cursor)) = place(at, list) {
                    let rest = list.remove(cursor);
                    model.remove(idx);
                    assert_eq!(rest.map(|cursor| list.at(cursor).to_vec()).as_ref(), model.get(idx));
                }
            }
            Op::RemoveRange(start, count) => {
                list.remove_range(start, count);
                let len = model.len() as i64;
                let start = if start < 0 { start + len } else { start };
                if (0..len).contains(&start) {
                    let start = start as usize;
                    model.drain(start..(start + count).min(model.len()));
                }
            }
            Op::Append(texts) => {
                let mut other = Listpack::new();
                texts.iter().for_each(|text| other.push_back(&text[..]));
                list.append(&other);
                model.extend(texts);
            }
            Op::PushAll(texts) => {
                let elements: Vec<Element<'_>> = texts.iter().map(|text| Element::from(&text[..])).collect();
                list.push_all_back(&elements);
                model.extend(texts);
            }
            Op::InsertAll(at, texts) => {
                if let (idx, Some(cursor)) = place(at, list) {
                    let elements: Vec<Element<'_>> = texts.iter().map(|text| Element::from(&text[..])).collect();
                    list.insert_all_before(cursor, &elements);
                    model.splice(idx..idx, texts);
                }
            }
            Op::Move(at, count, to) => {
                if let (idx, Some(cursor)) = place(at, list) {
                    let count = count.min(model.len() - idx);
                    // In front of one of the others, or to the end.
                    let to = to % (model.len() - count + 1);
                    let target = list.seek((if to < idx { to } else { to + count }) as i64);
                    let moved: Vec<Vec<u8>> = model.drain(idx..idx + count).collect();
                    let first = list.move_before(cursor, count, target);
                    if let Some(text) = moved.first() {
                        assert!(list.at(first).is_text(text));
                    }
                    model.splice(to..to, moved);
                }
            }
            Op::SplitOff(at, keep_tail) => {
                if let (idx, Some(cursor)) = place(at, list) {
                    let tail = list.split_off(cursor);
                    let model_tail = model.split_off(idx);
                    assert_eq!(contents(&tail), model_tail);
                    if keep_tail {
                        assert_eq!(&contents(list), model);
                        (*list, *model) = (tail, model_tail);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_vec(ops in prop::collection::vec(op(), 0..60)) {
            let (mut list, mut model) = (Listpack::new(), Vec::new());
            for op in ops {
                apply(&mut list, &mut model, op);
                prop_assert_eq!(&contents(&list), &model);
            }
            for (idx, text) in model.iter().enumerate() {
                prop_assert!(list.get(idx as i64).is_some_and(|element| element.is_text(text)));
                prop_assert!(list.get(idx as i64 - model.len() as i64).is_some_and(|element| element.is_text(text)));
                let first = model.iter().position(|other| other == text);
                prop_assert_eq!(list.find(text, 0), first.and_then(|first| list.seek(first as i64)));
                let even = model.iter().step_by(2).position(|other| other == text);
                prop_assert_eq!(list.find(text, 1), even.and_then(|even| list.seek(even as i64 * 2)));
            }
            prop_assert_eq!(list.get(model.len() as i64), None);
            prop_assert_eq!(list.get(-1 - model.len() as i64), None);
            let again = Listpack::from_bytes(list.as_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&list));
        }

        #[test]
        fn an_element_knows_its_sizes(text in text()) {
            let element = Element::from(&text[..]);
            prop_assert_eq!(element.text_len(), text.len());
            prop_assert_eq!(element.to_vec(), text.clone());
            let mut list = Listpack::new();
            list.push_back(element);
            prop_assert_eq!(list.total_bytes(), HEADER_BYTES + 1 + element.entry_bytes());
        }

        #[test]
        fn foreign_bytes_are_refused_or_safe(
            texts in prop::collection::vec(text(), 0..12),
            flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            cut in any::<Option<u8>>(),
        ) {
            let mut list = Listpack::new();
            texts.iter().for_each(|text| list.push_back(&text[..]));
            let mut bytes = list.as_bytes().to_vec();
            for (at, byte) in flips {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(bytes.len().saturating_sub(usize::from(cut)));
            }
            if let Ok(list) = Listpack::from_bytes(&bytes) {
                contents(&list);
            }
        }
    }

    #[test]
    fn bytes_are_those_of_redis() {
        let mut list = Listpack::new();
        list.push_back(b"hello");
        list.push_back(b"-1");
        list.push_back(b"4095");
        list.push_back(b"-32768");
        list.push_back(b"8388607");
        assert_eq!(
            list.as_bytes(),
            b"\x1d\0\0\0\x05\0\x85hello\x06\xdf\xff\x02\xcf\xff\x02\xf1\x00\x80\x03\xf2\xff\xff\x7f\x04\xff"
        );
    }

    #[test]
    fn the_count_is_found_again_after_it_was_unknown() {
        let mut list = Listpack::new();
        for _ in 0..65_536 {
            list.push_back(1);
        }
        assert_eq!(list.header_count(), COUNT_UNKNOWN);
        assert_eq!(list.len(), 65_536);
        assert_eq!(list.get(65_535), Some(Element::Int(1)));
        assert_eq!(list.get(65_536), None);
        assert_eq!(list.get(-65_536), Some(Element::Int(1)));
        list.remove_range(10, 100);
        assert_eq!((list.len(), list.header_count()), (65_436, 65_436));
    }

    #[test]
    fn capacity_follows_the_content_down() {
        let mut list = Listpack::new();
        for idx in 0..1000 {
            list.push_back(idx * 100_000);
        }
        assert!(list.memory_bytes() < list.total_bytes() * 5 / 4);
        list.remove_range(0, 990);
        assert!(list.memory_bytes() < 300);
    }
}
