//! A small sorted set: a listpack of members and scores in turn, in order. The bytes are Redis's own.
//!
//! ```text
//! [ member, score, member, score, ... ]     a score that is a whole number is stored as an integer
//! ```
//!
//! Everything walks: O(n), over one short piece of memory.

use super::range::{Order, Range};
use super::{Entry, InvalidZSet};
use crate::encoding::listpack::{Cursor, Element, Iter, Listpack};
use crate::encoding::word::Word;
use crate::number::{append_double, parse_double};
use std::cmp::Ordering;

#[derive(Clone, Debug)]
#[repr(transparent)]
pub(super) struct Packed(Listpack);

// SAFETY: a transparent wrapper.
#[allow(unsafe_code)]
unsafe impl Word for Packed {
    const SET: usize = Listpack::SET;
    const CLEAR: usize = Listpack::CLEAR;
}

impl Packed {
    pub(super) fn new() -> Self {
        Self(Listpack::new())
    }

    /// Takes over foreign elements after checking that they are pairs in order, with numbers for scores and no
    /// member twice.
    pub(super) fn from_listpack(listpack: Listpack) -> Result<Self, InvalidZSet> {
        if !listpack.len().is_multiple_of(2) {
            return Err(InvalidZSet("a member without a score"));
        }
        let mut elements = listpack.iter();
        let mut members = Vec::with_capacity(listpack.len() / 2);
        let mut previous: Option<Entry<'_>> = None;
        while let (Some(member), Some(score)) = (elements.next(), elements.next()) {
            let score = parse_score(score).ok_or(InvalidZSet("a score that is no number"))?;
            if previous.is_some_and(|previous| compare(previous, score, &member.to_vec()).is_ge()) {
                return Err(InvalidZSet("members out of order"));
            }
            previous = Some(Entry { member, score });
            members.push(member);
        }
        let mut buffer = itoa::Buffer::new();
        members.sort_unstable_by(|a, b| a.cmp_text(b.text(&mut buffer)));
        if members.windows(2).any(|pair| pair[0].is_text(pair[1].text(&mut buffer))) {
            return Err(InvalidZSet("a member twice"));
        }
        Ok(Self(listpack))
    }

    pub(super) fn listpack(&self) -> &Listpack {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// Where `member` is.
    pub(super) fn find(&self, member: &[u8]) -> Option<Cursor> {
        self.0.find(member, 1)
    }

    /// The score of the member at `cursor`.
    pub(super) fn score_at(&self, cursor: Cursor) -> f64 {
        let mut pair = self.0.iter_from(cursor).skip(1);
        score_of(pair.next().expect("each member is followed by its score"))
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let cursor = self.find(member)?;
        Some((self.0.iter_before(Some(cursor)).count() / 2, self.score_at(cursor)))
    }

    /// Adds a member that is not there yet.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) {
        let place = self.place_for(score, member);
        with_score_element(score, |score| match place {
            Some(cursor) => self.0.insert_all_before(cursor, &[member.into(), score]),
            None => self.0.push_all_back(&[member.into(), score]),
        });
    }

    /// Gives the member at `cursor`, which is `member`, another score and so another place.
    pub(super) fn set_score(&mut self, mut cursor: Cursor, member: &[u8], score: f64) {
        if !self.stays_in_place(cursor, member, score) {
            // The pair itself, with its old score, is on the near side of its new place.
            cursor = self.0.move_before(cursor, 2, self.place_for(score, member));
        }
        let at = self.0.next(cursor).expect("each member is followed by its score");
        with_score_element(score, |element| self.0.replace(at, element));
    }

    /// Takes the member at `cursor` out.
    pub(super) fn remove_at(&mut self, cursor: Cursor) {
        self.0.remove_many(cursor, 2);
    }

    pub(super) fn count(&self, range: &Range<'_>) -> usize {
        match range {
            Range::Ranks(start, end) => end.min(&self.len()).saturating_sub(*start),
            _ => self.entries(range, Order::Ascending, 0, usize::MAX).count(),
        }
    }

    /// Takes all of `range` out; returns how many that were.
    pub(super) fn remove_range(&mut self, range: &Range<'_>) -> usize {
        let count = self.count(range);
        if count > 0 {
            let first = self.forward(range).cursor().expect("a range with elements has a first");
            self.0.remove_many(first, 2 * count);
        }
        count
    }

    /// Up to `limit` elements of `range`, after the first `offset` of them.
    pub(super) fn entries<'a>(
        &'a self,
        range: &Range<'a>,
        order: Order,
        offset: usize,
        limit: usize,
    ) -> PackedEntries<'a> {
        let in_ranks = self.count_in_ranks(range).saturating_sub(offset);
        let elements = match order {
            Order::Ascending => self.forward(range),
            Order::Descending => self.backward(range),
        };
        let mut entries = PackedEntries { elements, order, range: *range, remaining: usize::MAX };
        // An offset passes over elements of the range only, so the end is watched here too.
        if offset > 0 {
            entries.nth(offset - 1);
        }
        entries.remaining = limit.min(in_ranks);
        entries
    }

    /// How many elements a range of ranks has; no limit for the other ranges.
    fn count_in_ranks(&self, range: &Range<'_>) -> usize {
        match range {
            Range::Ranks(..) => self.count(range),
            _ => usize::MAX,
        }
    }

    /// The elements from the first pair of `range` to the very last.
    fn forward(&self, range: &Range<'_>) -> Iter<'_> {
        if let Range::Ranks(start, _) = range {
            return match self.seek(*start) {
                Some(cursor) => self.0.iter_from(cursor),
                None => self.0.iter_before(self.0.first()),
            };
        }
        let mut elements = self.0.iter();
        loop {
            let here = elements.clone();
            match (elements.next(), elements.next()) {
                (Some(member), Some(score)) if range.is_behind(score_of(score), member) => {}
                _ => return here,
            }
        }
    }

    /// The elements from the very first to the last pair of `range`.
    fn backward(&self, range: &Range<'_>) -> Iter<'_> {
        if let Range::Ranks(_, end) = range {
            return self.0.iter_before(self.seek(*end));
        }
        let mut elements = self.0.iter();
        loop {
            let here = elements.clone();
            match (elements.next_back(), elements.next_back()) {
                (Some(score), Some(member)) if range.is_past(score_of(score), member) => {}
                _ => return here,
            }
        }
    }

    /// Where the pair at `rank` begins; `None` behind the last.
    fn seek(&self, rank: usize) -> Option<Cursor> {
        if rank == 0 { self.0.first() } else { self.0.seek(i64::try_from(rank.checked_mul(2)?).ok()?) }
    }

    /// The pair to insert in front of; `None` for the end.
    fn place_for(&self, score: f64, member: &[u8]) -> Option<Cursor> {
        // Most sets are filled in order.
        if self.pair_before(None).is_none_or(|last| compare(last, score, member).is_lt()) {
            return None;
        }
        let mut elements = self.0.iter();
        loop {
            let cursor = elements.cursor();
            let pair = Entry { member: elements.next()?, score: score_of(elements.next()?) };
            if compare(pair, score, member).is_gt() {
                return cursor;
            }
        }
    }

    fn stays_in_place(&self, cursor: Cursor, member: &[u8], score: f64) -> bool {
        let mut behind = self.0.iter_from(cursor).skip(2);
        let next = behind.next().zip(behind.next()).map(|(member, score)| Entry { member, score: score_of(score) });
        self.pair_before(Some(cursor)).is_none_or(|previous| compare(previous, score, member).is_lt())
            && next.is_none_or(|next| compare(next, score, member).is_gt())
    }

    /// The pair in front of `cursor`, or the last one.
    fn pair_before(&self, cursor: Option<Cursor>) -> Option<Entry<'_>> {
        let mut elements = self.0.iter_before(cursor);
        let score = score_of(elements.next_back()?);
        Some(Entry { member: elements.next_back()?, score })
    }
}

/// Elements of a range, one way or the other.
#[derive(Clone)]
pub(super) struct PackedEntries<'a> {
    elements: Iter<'a>,
    order: Order,
    range: Range<'a>,
    remaining: usize,
}

impl<'a> Iterator for PackedEntries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let (entry, is_outside) = match self.order {
            Order::Ascending => {
                let member = self.elements.next()?;
                let score = score_of(self.elements.next()?);
                (Entry { member, score }, self.range.is_past(score, member))
            }
            Order::Descending => {
                let score = score_of(self.elements.next_back()?);
                let member = self.elements.next_back()?;
                (Entry { member, score }, self.range.is_behind(score, member))
            }
        };
        if is_outside {
            self.remaining = 0;
            return None;
        }
        Some(entry)
    }
}

/// Whether `entry` comes before, at or behind the place of `score` and `member`.
fn compare(entry: Entry<'_>, score: f64, member: &[u8]) -> Ordering {
    match entry.score.partial_cmp(&score) {
        Some(Ordering::Equal) | None => entry.member.cmp_text(member),
        Some(unequal) => unequal,
    }
}

#[inline]
fn score_of(element: Element<'_>) -> f64 {
    match element {
        Element::Int(whole) => whole as f64,
        Element::Bytes(text) => parse_double(text).expect("the scores were checked on the way in"),
    }
}

fn parse_score(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Int(whole) => Some(whole as f64),
        Element::Bytes(text) => parse_double(text).filter(|score| !score.is_nan()),
    }
}

/// Lends the element Redis stores for `score`.
fn with_score_element<T>(score: f64, store: impl FnOnce(Element<'_>) -> T) -> T {
    let whole = score as i64;
    // Above 2^62 Redis prints floats, and stores an integer only where such a text happens to look like one.
    if whole as f64 == score && whole.unsigned_abs() <= 1 << 62 {
        return store(Element::Int(whole));
    }
    let mut text = Vec::with_capacity(32);
    append_double(&mut text, score);
    store(Element::from(&text[..]))
}
