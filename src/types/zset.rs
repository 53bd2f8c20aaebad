//! Sorted sets: members, each with a score, in order of score and then of bytes.
//!
//! | encoding | layout | cost |
//! |---|---|---|
//! | `listpack` | one [`Listpack`] of members and scores in turn | O(n), n small |
//! | `skiplist` | a [`Table`](crate::table::Table) by member and an order-statistic tree by score, which both name one allocation a member | O(log n) |
//!
//! The names are those OBJECT ENCODING answers. A listpack becomes a skiplist when a member too long or one member
//! too many comes in ([`Limits`]), and never goes back. Scores are never NaN: callers refuse it before. As in
//! Redis, -0 equals 0, and a listpack does not keep its sign.
//!
//! Source: Redis 7.2 ZADD and its family.

mod big;
mod member;
mod packed;
mod range;
mod tree;

pub use range::{LexBound, Order, Range, ScoreBound};

use crate::encoding::listpack::{Element, Listpack};
use crate::encoding::word::{Either, Form, OddBox};
use crate::frozen::{Frozen, Kept};
use crate::seed::HashSeed;
use big::{Big, BigEntries};
use packed::{Packed, PackedEntries};
use rand::RngCore;
use std::fmt;
use std::sync::Arc;

/// When a sorted set stops being a listpack, and how its table hashes from then on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `zset-max-listpack-entries`
    pub max_listpack_entries: usize,
    /// `zset-max-listpack-value`, in bytes.
    pub max_listpack_value: usize,
    /// The server's secret seed.
    pub hash_seed: HashSeed,
}

/// A member with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    pub member: Element<'a>,
    pub score: f64,
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The member stayed as it was, or away.
    None,
    Added,
    /// The score is another one now.
    Updated,
}

/// Why foreign bytes are no sorted set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidZSet(pub &'static str);

impl fmt::Display for InvalidZSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidZSet {}

/// A sorted set.
#[derive(Clone, Debug)]
pub struct ZSet(Encoding);

type Encoding = Either<Packed, OddBox<Big>, 1>;

impl ZSet {
    /// An empty set, in the encoding Redis chooses for one about to receive `len` members, the first of them of
    /// `member_bytes`.
    pub fn for_members(len: usize, member_bytes: usize, limits: &Limits) -> Self {
        if len <= limits.max_listpack_entries && member_bytes <= limits.max_listpack_value {
            Self(Encoding::packed(Packed::new()))
        } else {
            Self(Encoding::big(OddBox::new(Big::new(&limits.hash_seed))))
        }
    }

    /// Takes over a listpack from a file or a client.
    pub fn from_listpack(listpack: Listpack, limits: &Limits) -> Result<Self, InvalidZSet> {
        let mut zset = Self(Encoding::packed(Packed::from_listpack(listpack)?));
        zset.expect_members(zset.len(), limits);
        Ok(zset)
    }

    /// Changes the encoding ahead when `len` members are about to come in and are too many for a listpack.
    pub fn expect_members(&mut self, len: usize, limits: &Limits) {
        if len > limits.max_listpack_entries {
            self.make_big(&limits.hash_seed);
        }
    }

    /// The name OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        match self.0.form() {
            Form::Packed(_) => "listpack",
            Form::Big(_) => "skiplist",
        }
    }

    /// The listpack, while it is one.
    pub fn as_listpack(&self) -> Option<&Listpack> {
        match self.0.form() {
            Form::Packed(packed) => Some(packed.listpack()),
            Form::Big(_) => None,
        }
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.len(),
            Form::Big(big) => big.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated, without `size_of::<Self>()`, judged by the first `samples` leaves of the tree.
    pub fn memory_bytes(&self, samples: usize) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.listpack().memory_bytes(),
            Form::Big(big) => size_of::<Big>() + big.memory_bytes(samples),
        }
    }

    /// The score of `member`.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.0.form() {
            Form::Packed(packed) => packed.find(member).map(|cursor| packed.score_at(cursor)),
            Form::Big(big) => big.score(member),
        }
    }

    /// The rank of `member`, 0 for the lowest score, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.0.form() {
            Form::Packed(packed) => packed.rank(member),
            Form::Big(big) => big.rank(member),
        }
    }

    /// Keeps the members of a big set as they are now, to be given out by [`ZSet::frozen_step`]; false if it is packed,
    /// and so cheap to copy.
    pub fn freeze(&mut self, id: u64, kept: &Arc<Kept>) -> bool {
        let Form::Big(big) = self.0.form_mut() else { return false };
        big.freeze(id, kept);
        true
    }

    /// What [`ZSet::freeze`] keeps.
    pub fn frozen(&self) -> Option<&Frozen<f64>> {
        let Form::Big(big) = self.0.form() else { return None };
        big.frozen()
    }

    /// Gives out some members with their scores as they were, in no order; false once all have been. Then the set is
    /// no longer frozen.
    pub fn frozen_step(&mut self, mut visit: impl FnMut(&[u8], f64)) -> bool {
        let Form::Big(big) = self.0.form_mut() else { return false };
        big.frozen_step(&mut visit)
    }

    /// Whether members that are gone have left something behind, for [`ZSet::sweep`] to free.
    pub fn has_dead(&self) -> bool {
        matches!(self.0.form(), Form::Big(big) if big.has_dead())
    }

    /// Frees what members that are gone have left in the next `buckets` of the table; false when they have left nothing, or
    /// when it cannot be freed yet, for the set is frozen.
    pub fn sweep(&mut self, buckets: usize) -> bool {
        let Form::Big(big) = self.0.form_mut() else { return false };
        big.sweep(buckets)
    }

    /// Gives `member` a score; returns the one it had.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> Option<f64> {
        let mut old = None;
        self.update(member, limits, |current| {
            old = current;
            Some(score)
        });
        old
    }

    /// Looks `member` up once and gives it the score `choose` makes of the one it has: `None` leaves all as it is.
    pub fn update(
        &mut self,
        member: &[u8],
        limits: &Limits,
        choose: impl FnOnce(Option<f64>) -> Option<f64>,
    ) -> Change {
        let Form::Packed(packed) = self.0.form_mut() else {
            return self.as_big(&limits.hash_seed).update(member, choose);
        };
        if let Some(cursor) = packed.find(member) {
            let old = packed.score_at(cursor);
            let Some(score) = choose(Some(old)).filter(|score| *score != old) else { return Change::None };
            packed.set_score(cursor, member, score);
            return Change::Updated;
        }
        let Some(score) = choose(None) else { return Change::None };
        let fits = packed.len() < limits.max_listpack_entries
            && member.len() <= limits.max_listpack_value
            && packed.listpack().has_room_for(member.len());
        if fits {
            packed.insert(member, score);
        } else {
            self.as_big(&limits.hash_seed).insert(member, score);
        }
        Change::Added
    }

    /// Takes `member` out; returns the score it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match self.0.form_mut() {
            Form::Packed(packed) => {
                let cursor = packed.find(member)?;
                let score = packed.score_at(cursor);
                packed.remove_at(cursor);
                Some(score)
            }
            Form::Big(big) => big.remove(member),
        }
    }

    /// Takes all members of `range` out; returns how many that were. Something of them may be left for [`ZSet::sweep`].
    pub fn remove_range(&mut self, range: &Range<'_>) -> usize {
        match self.0.form_mut() {
            Form::Packed(packed) => packed.remove_range(range),
            Form::Big(big) => big.remove_range(range),
        }
    }

    /// Takes up to `count` members out, the lowest first, or the highest when `order` is descending, showing each
    /// to `visit` before. Returns how many.
    pub fn pop(&mut self, order: Order, count: usize, visit: impl FnMut(Entry<'_>)) -> usize {
        let len = self.len();
        let count = count.min(len);
        let range = match order {
            Order::Ascending => Range::Ranks(0, count),
            Order::Descending => Range::Ranks(len - count, len),
        };
        self.entries(&range, order, 0, usize::MAX).for_each(visit);
        self.remove_range(&range)
    }

    /// The number of members in `range`.
    pub fn count(&self, range: &Range<'_>) -> usize {
        match self.0.form() {
            Form::Packed(packed) => packed.count(range),
            Form::Big(big) => big.count(range),
        }
    }

    /// The members of `range` on the way of `order`: up to `limit` of them, after passing over `offset`.
    pub fn entries<'a>(&'a self, range: &Range<'a>, order: Order, offset: usize, limit: usize) -> Entries<'a> {
        Entries(match self.0.form() {
            Form::Packed(packed) => Walk::Packed(packed.entries(range, order, offset, limit)),
            Form::Big(big) => Walk::Big(big.entries(range, order, offset, limit)),
        })
    }

    /// All members, from the lowest score up.
    pub fn iter(&self) -> Entries<'_> {
        self.entries(&Range::ALL, Order::Ascending, 0, usize::MAX)
    }

    /// The member at `rank`.
    pub fn at(&self, rank: usize) -> Option<Entry<'_>> {
        self.entries(&Range::ALL, Order::Ascending, rank, 1).next()
    }

    /// A member, each with the same chance.
    pub fn random(&self, rng: &mut impl RngCore) -> Option<Entry<'_>> {
        self.at(((u128::from(rng.next_u64()) * self.len() as u128) >> 64) as usize)
    }

    /// One step of ZSCAN: shows some members to `visit` and returns the next cursor, 0 at the end. Each member
    /// that is there from the first step to the last is shown at least once. A listpack is shown at once.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Entry<'_>)) -> u64 {
        match self.0.form() {
            Form::Packed(_) => {
                self.iter().for_each(visit);
                0
            }
            Form::Big(big) => big.scan(cursor, &mut visit),
        }
    }

    /// The big form of this set, made from the listpack if that is what it was.
    fn as_big(&mut self, hash_seed: &HashSeed) -> &mut Big {
        self.make_big(hash_seed);
        match self.0.form_mut() {
            Form::Big(big) => big,
            Form::Packed(_) => unreachable!("it has just been made big"),
        }
    }

    fn make_big(&mut self, hash_seed: &HashSeed) {
        if let Form::Packed(_) = self.0.form() {
            let mut big = Big::new(hash_seed);
            let mut member = Vec::new();
            for entry in self.iter() {
                member.clear();
                entry.member.append_to(&mut member);
                big.insert(&member, entry.score);
            }
            self.0 = Encoding::big(OddBox::new(big));
        }
    }
}

/// Members of a range, in order.
#[derive(Clone)]
pub struct Entries<'a>(Walk<'a>);

#[derive(Clone)]
enum Walk<'a> {
    Packed(PackedEntries<'a>),
    Big(BigEntries<'a>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        match &mut self.0 {
            Walk::Packed(entries) => entries.next(),
            Walk::Big(entries) => entries.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::collections::{HashMap, HashSet};

    const LIMITS: Limits =
        Limits { max_listpack_entries: 128, max_listpack_value: 64, hash_seed: HashSeed::new([5, 6]) };
    const ALWAYS_BIG: Limits = Limits { max_listpack_entries: 0, ..LIMITS };
    const ALWAYS_SMALL: Limits =
        Limits { max_listpack_entries: usize::MAX, max_listpack_value: usize::MAX, hash_seed: HashSeed::new([5, 6]) };

    /// The slow truth: a sorted vector.
    #[derive(Default)]
    struct Model(Vec<(f64, Vec<u8>)>);

    impl Model {
        fn place(&self, score: f64, member: &[u8]) -> usize {
            self.0.partition_point(|(s, m)| *s < score || (*s == score && m.as_slice() < member))
        }

        fn find(&self, member: &[u8]) -> Option<usize> {
            self.0.iter().position(|(_, m)| m == member)
        }

        fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
            let old = self.remove(member);
            self.0.insert(self.place(score, member), (score, member.to_vec()));
            old
        }

        fn remove(&mut self, member: &[u8]) -> Option<f64> {
            self.find(member).map(|idx| self.0.remove(idx).0)
        }

        fn contains(range: &Range<'_>, rank: usize, score: f64, member: &[u8]) -> bool {
            match range {
                Range::Ranks(start, end) => (*start..*end).contains(&rank),
                Range::Scores(min, max) => {
                    (if min.exclusive { score > min.score } else { score >= min.score })
                        && (if max.exclusive { score < max.score } else { score <= max.score })
                }
                Range::Lex(min, max) => {
                    (match min {
                        LexBound::Lowest => true,
                        LexBound::Highest => false,
                        LexBound::Inclusive(bytes) => member >= *bytes,
                        LexBound::Exclusive(bytes) => member > *bytes,
                    }) && (match max {
                        LexBound::Lowest => false,
                        LexBound::Highest => true,
                        LexBound::Inclusive(bytes) => member <= *bytes,
                        LexBound::Exclusive(bytes) => member < *bytes,
                    })
                }
            }
        }

        fn select(&self, range: &Range<'_>, order: Order, offset: usize, limit: usize) -> Vec<(f64, Vec<u8>)> {
            let inside = self.0.iter().enumerate().filter(|(rank, (s, m))| Self::contains(range, *rank, *s, m));
            let mut inside: Vec<_> = inside.map(|(_, entry)| entry.clone()).collect();
            if order == Order::Descending {
                inside.reverse();
            }
            inside.into_iter().skip(offset).take(limit).collect()
        }
    }

    fn listed(entries: Entries<'_>) -> Vec<(f64, Vec<u8>)> {
        entries.map(|entry| (entry.score, entry.member.to_vec())).collect()
    }

    fn member(rng: &mut SmallRng, variety: u32) -> Vec<u8> {
        let number = rng.random_range(0..variety);
        match number % 4 {
            0 => number.to_string().into_bytes(),
            1 => format!("-{number}").into_bytes(),
            2 => format!("member:{number}").into_bytes(),
            _ => number.to_be_bytes().to_vec(),
        }
    }

    fn score(rng: &mut SmallRng) -> f64 {
        match rng.random_range(0..10) {
            0 => f64::INFINITY,
            1 => f64::NEG_INFINITY,
            2 => rng.random_range(-3.0..3.0),
            3 => rng.random_range(0..1_u64 << 60) as f64,
            _ => f64::from(rng.random_range(-5_i32..5)),
        }
    }

    fn range<'a>(rng: &mut SmallRng, len: usize, from: &'a [u8], to: &'a [u8]) -> Range<'a> {
        let mut bound = |bytes: &'a [u8]| match rng.random_range(0..6) {
            0 => LexBound::Lowest,
            1 => LexBound::Highest,
            2 | 3 => LexBound::Inclusive(bytes),
            _ => LexBound::Exclusive(bytes),
        };
        let lex = (bound(from), bound(to));
        match rng.random_range(0..3) {
            0 => Range::Ranks(rng.random_range(0..=len), rng.random_range(0..=len + 2)),
            1 => Range::Scores(
                ScoreBound { score: score(rng), exclusive: rng.random() },
                ScoreBound { score: score(rng), exclusive: rng.random() },
            ),
            _ => Range::Lex(lex.0, lex.1),
        }
    }

    /// Runs random commands on a set and on the model, comparing every answer.
    fn run(limits: &Limits, seed: u64, rounds: u32, variety: u32, one_score: bool) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (mut zset, mut model) = (ZSet::for_members(1, 1, limits), Model::default());
        for round in 0..rounds {
            let context = format!("seed {seed} round {round}");
            let name = member(&mut rng, variety);
            let growing = (round / 2000) % 2 == 0;
            match rng.random_range(0..12) {
                0..=4 => {
                    let score = if one_score { 1.0 } else { score(&mut rng) };
                    assert_eq!(zset.insert(&name, score, limits), model.insert(&name, score), "{context}");
                }
                5 => assert_eq!(zset.score(&name), model.find(&name).map(|idx| model.0[idx].0), "{context}"),
                6 => assert_eq!(zset.rank(&name).map(|found| found.0), model.find(&name), "{context}"),
                7 if !growing || one_score => assert_eq!(zset.remove(&name), model.remove(&name), "{context}"),
                8 if !growing => {
                    let order = if rng.random() { Order::Ascending } else { Order::Descending };
                    let count = rng.random_range(0..3);
                    let expected = model.select(&Range::ALL, order, 0, count);
                    let mut popped = Vec::new();
                    zset.pop(order, count, |entry| popped.push((entry.score, entry.member.to_vec())));
                    expected.iter().for_each(|(_, name)| assert!(model.remove(name).is_some()));
                    assert_eq!(popped, expected, "{context}");
                }
                _ => {
                    let (from, to) = (member(&mut rng, variety), member(&mut rng, variety));
                    let range = range(&mut rng, zset.len(), &from, &to);
                    // By bytes, the order means something only at one score.
                    if matches!(range, Range::Lex(..)) && !one_score {
                        continue;
                    }
                    let order = if rng.random() { Order::Ascending } else { Order::Descending };
                    let offset = if rng.random() { 0 } else { rng.random_range(0..20) };
                    let limit = if rng.random() { usize::MAX } else { rng.random_range(0..20) };
                    let expected = model.select(&range, order, offset, limit);
                    assert_eq!(listed(zset.entries(&range, order, offset, limit)), expected, "{context} {range:?}");
                    let all = model.select(&range, order, 0, usize::MAX);
                    assert_eq!(zset.count(&range), all.len(), "{context} {range:?}");
                    if !growing && (all.len() < 30 || round % 97 == 0) {
                        assert_eq!(zset.remove_range(&range), all.len(), "{context}");
                        all.iter().for_each(|(_, name)| assert!(model.remove(name).is_some()));
                    }
                }
            }
            assert_eq!(zset.len(), model.0.len(), "{context}");
            if round % 500 == 0 {
                assert_eq!(listed(zset.iter()), model.0, "{context}");
                assert_eq!(listed(zset.clone().iter()), model.0, "{context}");
            }
        }
        assert_eq!(listed(zset.iter()), model.0);
    }

    #[test]
    fn a_listpack_behaves_like_a_sorted_vector() {
        run(&ALWAYS_SMALL, 1, 6000, 150, false);
        run(&ALWAYS_SMALL, 2, 6000, 150, true);
    }

    #[test]
    fn a_skiplist_behaves_like_a_sorted_vector() {
        run(&ALWAYS_BIG, 3, 20_000, 3000, false);
        run(&ALWAYS_BIG, 4, 20_000, 3000, true);
        run(&ALWAYS_BIG, 5, 6000, 40, false);
    }

    #[test]
    fn long_ranges_go_at_once_and_the_rest_stays() {
        let ranges = [(0, 5000), (0, 4990), (10, 5000), (100, 4900), (0, 1000), (2000, 4000), (4000, 5000), (7, 7)];
        for (start, end) in ranges {
            for is_frozen in [false, true] {
                let mut zset = ZSet::for_members(0, 0, &ALWAYS_BIG);
                let fill = |zset: &mut ZSet| {
                    (0..5000_u32).for_each(|n| {
                        zset.insert(&n.to_be_bytes(), f64::from(n / 3), &ALWAYS_BIG);
                    });
                };
                fill(&mut zset);
                let kept = Arc::new(Kept::default());
                if is_frozen {
                    zset.freeze(1, &kept);
                }
                let (all, bytes) = (listed(zset.iter()), zset.memory_bytes(usize::MAX));
                assert_eq!(zset.remove_range(&Range::Ranks(start, end)), end - start);
                assert_eq!(listed(zset.iter()), [&all[..start], &all[end..]].concat(), "{start} to {end}");
                for (rank, (score, name)) in all.iter().enumerate() {
                    let expected = (!(start..end).contains(&rank)).then_some(*score);
                    assert_eq!(zset.score(name), expected, "{start} to {end}");
                }
                let mut given = Vec::new();
                while zset.frozen_step(|name, score| given.push((score, name.to_vec()))) {}
                given.sort_by(|a, b| a.1.cmp(&b.1));
                assert_eq!(given, if is_frozen { all.clone() } else { Vec::new() });
                fill(&mut zset);
                assert_eq!(listed(zset.iter()), all);
                assert!(zset.memory_bytes(usize::MAX) < bytes + bytes / 2, "much room is wasted");
            }
        }
    }

    #[test]
    fn a_set_behaves_the_same_across_the_threshold() {
        for seed in 10..20 {
            run(&Limits { max_listpack_entries: 20, ..LIMITS }, seed, 1500, 60, false);
        }
    }

    #[test]
    fn encodings_change_where_redis_changes_them() {
        let mut zset = ZSet::for_members(1, 64, &LIMITS);
        (0..128).for_each(|n| {
            zset.insert(format!("{n}").as_bytes(), 1.0, &LIMITS);
        });
        assert_eq!(zset.encoding_name(), "listpack");
        zset.insert(b"0", 2.0, &LIMITS);
        assert_eq!(zset.encoding_name(), "listpack");
        zset.insert(b"one more", 2.0, &LIMITS);
        assert_eq!(zset.encoding_name(), "skiplist");
        assert_eq!(zset.len(), 129);
        zset.remove_range(&Range::Ranks(0, 128));
        assert_eq!(zset.encoding_name(), "skiplist");

        let mut zset = ZSet::for_members(1, 1, &LIMITS);
        zset.insert(&[b'x'; 64], 1.0, &LIMITS);
        assert_eq!(zset.encoding_name(), "listpack");
        zset.insert(&[b'x'; 65], 1.0, &LIMITS);
        assert_eq!(zset.encoding_name(), "skiplist");
        assert_eq!(ZSet::for_members(129, 1, &LIMITS).encoding_name(), "skiplist");
        assert_eq!(ZSet::for_members(1, 65, &LIMITS).encoding_name(), "skiplist");
    }

    /// Bytes of `DUMP` in Redis 7.2.6 after `ZADD k 1 a 2.5 b 3 100 -0 z inf i 7300000000000000 t 7300000000000001 u 5e18 e`.
    #[test]
    fn a_listpack_has_redis_bytes() {
        let mut zset = ZSet::for_members(8, 1, &LIMITS);
        for (score, member) in [
            (1.0, &b"a"[..]),
            (2.5, b"b"),
            (3.0, b"100"),
            (-0.0, b"z"),
            (f64::INFINITY, b"i"),
            (7_300_000_000_000_000.0, b"t"),
            (7_300_000_000_000_001.0, b"u"),
            (5e18, b"e"),
        ] {
            zset.insert(member, score, &LIMITS);
        }
        let bytes = b"I\0\0\0\x10\0\x81z\x02\0\x01\x81a\x02\x01\x01\x81b\x02\x832.5\x04d\x01\x03\x01\x81t\x02\xf4\0@\xdc\xb2O\xef\x19\
            \0\x09\x81u\x02\xf4\x01@\xdc\xb2O\xef\x19\0\x09\x81e\x02\x855e+18\x06\x81i\x02\x83inf\x04\xff";
        assert_eq!(zset.as_listpack().unwrap().as_bytes(), bytes);
        let again = Listpack::from_bytes(bytes).unwrap();
        assert_eq!(listed(ZSet::from_listpack(again, &LIMITS).unwrap().iter()), listed(zset.iter()));
    }

    #[test]
    fn foreign_listpacks_are_checked() {
        let refused = |elements: &[&[u8]]| {
            let mut listpack = Listpack::new();
            elements.iter().for_each(|element| listpack.push_back(*element));
            ZSet::from_listpack(listpack, &LIMITS).is_err()
        };
        assert!(!refused(&[]));
        assert!(!refused(&[b"a", b"1", b"b", b"1.5"]));
        assert!(refused(&[b"a"]));
        assert!(refused(&[b"a", b"x"]));
        assert!(refused(&[b"a", b"nan"]));
        assert!(refused(&[b"b", b"1", b"a", b"1"]));
        assert!(refused(&[b"a", b"2", b"b", b"1"]));
        assert!(refused(&[b"a", b"1", b"a", b"1"]));
        assert!(refused(&[b"a", b"1", b"b", b"1", b"a", b"2"]));
    }

    #[test]
    fn updates_choose_by_the_current_score() {
        for limits in [LIMITS, ALWAYS_BIG] {
            let mut zset = ZSet::for_members(1, 1, &limits);
            assert_eq!(zset.update(b"a", &limits, |_| None), Change::None);
            assert_eq!(zset.update(b"a", &limits, |old| old.or(Some(1.0))), Change::Added);
            assert_eq!(zset.update(b"a", &limits, |old| old), Change::None);
            assert_eq!(zset.update(b"a", &limits, |old| old.map(|score| score + 1.0)), Change::Updated);
            assert_eq!(zset.score(b"a"), Some(2.0));
            zset.insert(b"z", -0.0, &limits);
            assert_eq!(zset.update(b"z", &limits, |_| Some(0.0)), Change::None);
            let keeps_sign = zset.score(b"z").unwrap().is_sign_negative();
            assert_eq!(keeps_sign, zset.encoding_name() == "skiplist", "as in Redis");
        }
    }

    #[test]
    fn scan_shows_all_and_random_reaches_all() {
        let mut rng = SmallRng::seed_from_u64(9);
        for (limits, len) in [(LIMITS, 100_usize), (LIMITS, 3000)] {
            let mut zset = ZSet::for_members(1, 1, &limits);
            (0..len).for_each(|n| {
                zset.insert(format!("m{n}").as_bytes(), (n % 7) as f64, &limits);
            });
            let (mut seen, mut cursor) = (HashSet::new(), 0);
            loop {
                cursor = zset.scan(cursor, |entry| {
                    seen.insert(entry.member.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen.len(), len);
            let mut drawn = HashMap::new();
            (0..len * 20).for_each(|_| *drawn.entry(zset.random(&mut rng).unwrap().member.to_vec()).or_insert(0) += 1);
            assert!(drawn.len() > len * 99 / 100);
        }
        assert_eq!(ZSet::for_members(0, 0, &LIMITS).random(&mut rng), None);
    }

    #[test]
    fn filling_in_order_packs_the_leaves() {
        let bytes_a_member = |scores: &mut dyn Iterator<Item = u32>| {
            let mut zset = ZSet::for_members(0, 0, &ALWAYS_BIG);
            scores.for_each(|n| {
                zset.insert(format!("{n:016}").as_bytes(), f64::from(n), &ALWAYS_BIG);
            });
            assert!(zset.iter().is_sorted_by(|a, b| a.score < b.score));
            zset.memory_bytes(usize::MAX) / zset.len()
        };
        assert!(bytes_a_member(&mut (0..20_000)) < 64);
        assert!(bytes_a_member(&mut (0..20_000).rev()) < 64);
    }
}
