//! A large sorted set: a table that owns the members and finds them by their bytes, and a tree that has them in
//! order. Both name the one allocation that holds a member's score and bytes.
//!
//! A long range leaves the tree as whole nodes, in no time, but its members lie anywhere in the table, and to take them
//! out one by one would hold up everybody. They stay there, dead, until [`Big::sweep`] has come by, a few buckets at a
//! time: by the server's cron, and with each insertion. While there are dead members, one in the table is a member of the
//! set only if the tree has it ([`Big::is_alive`]); who looks one up to change it takes a dead one out first
//! ([`Big::bury`]).
//!
//! Invariant: the tree holds a ref of each member in the table that is not dead, with the member's score, and no other ref.
//! The table has more members than the tree exactly while `dead` is there.
//!
//! A frozen set is not swept: its dead members are still to be given out. Those that were dead before are not; they are told
//! by their scores (`Dead::before_freezing`), and so a long range that has such scores goes member by member meanwhile.
#![allow(unsafe_code)]

use super::member::Member;
use super::range::{Order, Range};
use super::tree::{self, Tree};
use super::{Change, Entry};
use crate::encoding::listpack::Element;
use crate::frozen::{Frozen, Kept};
use crate::garbage::{self, Pending};
use crate::seed::HashSeed;
use crate::table::{Table, hash_key};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Big {
    /// Declared, and so dropped, before the table: its refs go before their members.
    tree: Tree,
    table: Table<Member>,
    /// What the members have allocated.
    members_bytes: usize,
    /// The members as they were at the instant of a snapshot, while that is under way.
    frozen: Option<Box<Frozen<f64>>>,
    dead: Option<Box<Dead>>,
}

/// Members that have left the tree, and not yet the table.
#[derive(Debug)]
struct Dead {
    /// The lowest and the highest score they have.
    scores: [f64; 2],
    /// Where in the table sweeping goes on.
    cursor: u64,
    /// What they have allocated, about.
    bytes: Pending,
    /// While the set is frozen: the scores of those that had left the tree before, and of no others.
    before_freezing: Option<[f64; 2]>,
}

impl Dead {
    /// Whether a dead member of this score was dead before the set was frozen.
    fn was_before_freezing(&self, score: f64) -> bool {
        self.before_freezing.is_some_and(|[lowest, highest]| (lowest..=highest).contains(&score))
    }
}

/// So many members are taken out of the table at once: in some 200 microseconds. Tests have few members.
const AT_ONCE: usize = if cfg!(test) { 16 } else { 1024 };
/// Members that are asked for ahead.
const AHEAD: usize = 24;

impl Big {
    pub(super) fn new(hash_seed: &HashSeed) -> Self {
        Self { tree: Tree::new(), table: Table::new(hash_seed), members_bytes: 0, frozen: None, dead: None }
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(super) fn memory_bytes(&self, samples: usize) -> usize {
        self.members_bytes + self.table.memory_bytes() + self.tree.memory_bytes(samples)
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        let found = self.table.get(self.hash(member), member).filter(|member| self.is_alive(member));
        found.map(Member::score)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.tree.partition(|entry| entry.order(score, member).is_lt()), score))
    }

    pub(super) fn update(&mut self, member: &[u8], choose: impl FnOnce(Option<f64>) -> Option<f64>) -> Change {
        let hash = self.hash(member);
        self.bury(hash, member);
        let Some(found) = self.table.get_mut(hash, member) else {
            let Some(score) = choose(None) else { return Change::None };
            self.insert_hashed(hash, member, score);
            return Change::Added;
        };
        let old = found.score();
        let Some(score) = choose(Some(old)).filter(|score| *score != old) else { return Change::None };
        if let Some(frozen) = &mut self.frozen {
            frozen.note(hash, member, || Some(old));
        }
        let entry = self.tree.remove(old, member).expect("the tree has what the table has");
        found.set_score(score);
        self.tree.insert(tree::Entry { score, ..entry });
        Change::Updated
    }

    /// Adds a member that is not there yet.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) {
        self.insert_hashed(self.hash(member), member, score);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = self.hash(member);
        self.bury(hash, member);
        self.note(hash, member);
        let found = self.table.remove(hash, member)?;
        self.tree.remove(found.score(), member).expect("the tree has what the table has");
        self.members_bytes -= found.memory_bytes();
        Some(found.score())
    }

    /// Takes the members of `range` out; how many. Few are taken out at once, and when few stay it is those that move.
    pub(super) fn remove_range(&mut self, range: &Range<'_>) -> usize {
        let (start, end) = self.ranks(range);
        let (goes, stays) = (end - start, self.len() - (end - start));
        if goes == 0 {
            return 0;
        }
        if goes <= AT_ONCE {
            self.remove_ranks(start, end);
        } else if stays <= AT_ONCE && self.frozen.is_none() {
            self.keep_outside(start, end);
        } else {
            let [lowest, highest] = [start, end - 1].map(|rank| self.score_at(rank));
            let before = self.dead.as_ref().and_then(|dead| dead.before_freezing);
            if before.is_some_and(|before| lowest <= before[1] && before[0] <= highest) {
                self.remove_ranks(start, end);
            } else {
                self.cut_ranks(start, end, [lowest, highest]);
            }
        }
        goes
    }

    fn score_at(&self, rank: usize) -> f64 {
        let (leaf, idx) = self.tree.leaf_at(rank);
        leaf[idx].score
    }

    /// Takes the members of these ranks, and scores, out of the tree; in the table they are dead from now on.
    fn cut_ranks(&mut self, start: usize, end: usize, [lowest, highest]: [f64; 2]) {
        drop(self.tree.cut(start, end));
        let bytes = self.members_bytes / self.table.len() * (end - start);
        let fresh = || Dead { scores: [lowest, highest], cursor: 0, bytes: Pending::new(), before_freezing: None };
        let dead = self.dead.get_or_insert_with(|| Box::new(fresh()));
        dead.bytes.add(bytes);
        dead.scores = [dead.scores[0].min(lowest), dead.scores[1].max(highest)];
    }

    /// Whether a member that is in the table is one of the set.
    #[inline]
    fn is_alive(&self, member: &Member) -> bool {
        let Some(dead) = &self.dead else { return true };
        let (score, [lowest, highest]) = (member.score(), dead.scores);
        score < lowest || score > highest || self.tree.has(score, member.bytes())
    }

    /// Takes a dead member out of the table. To be called before the table is asked for one of this name to change it.
    #[inline]
    fn bury(&mut self, hash: u64, member: &[u8]) {
        if self.dead.is_some() {
            self.bury_dead(hash, member);
        }
    }

    #[cold]
    fn bury_dead(&mut self, hash: u64, member: &[u8]) {
        let Some(score) = self.table.get(hash, member).filter(|found| !self.is_alive(found)).map(Member::score) else {
            return;
        };
        if let (Some(frozen), Some(dead)) = (&mut self.frozen, &self.dead) {
            frozen.note(hash, member, || (!dead.was_before_freezing(score)).then_some(score));
        }
        self.drop_dead(hash, member);
    }

    fn drop_dead(&mut self, hash: u64, member: &[u8]) {
        let found = self.table.remove(hash, member).expect("the table has just been seen to have it");
        self.members_bytes -= found.memory_bytes();
        if self.table.len() == self.tree.len() {
            self.dead = None;
        } else if let Some(dead) = &mut self.dead {
            dead.bytes.sub(found.memory_bytes());
        }
    }

    pub(super) fn has_dead(&self) -> bool {
        self.dead.is_some()
    }

    /// Drops the dead members in the next `buckets` of the table; false when no dead member may be dropped.
    #[inline]
    pub(super) fn sweep(&mut self, buckets: usize) -> bool {
        let may_sweep = self.dead.is_some() && self.frozen.is_none();
        if may_sweep {
            (0..buckets).for_each(|_| self.sweep_bucket());
        }
        may_sweep
    }

    fn sweep_bucket(&mut self) {
        let Some(cursor) = self.dead.as_ref().map(|dead| dead.cursor) else { return };
        let mut names: SmallVec<[SmallVec<[u8; 32]>; 8]> = SmallVec::new();
        let next = self.table.scan(cursor, |member| {
            if !self.is_alive(member) {
                names.push(member.bytes().into());
            }
        });
        for name in names {
            self.drop_dead(self.hash(&name), &name);
        }
        if let Some(dead) = &mut self.dead {
            dead.cursor = next;
            self.table.prefetch_scan(next, AHEAD);
        }
    }

    /// Moves all but the members of these ranks to a new table and a new tree.
    fn keep_outside(&mut self, start: usize, end: usize) {
        let fresh = Self::new(self.table.seed());
        let Self { tree, mut table, .. } = std::mem::replace(self, fresh);
        let mut rank = if start == 0 { end } else { 0 };
        while rank < tree.len() {
            let (leaf, idx) = tree.leaf_at(rank);
            let behind = if rank < start { start - rank } else { usize::MAX };
            let entries = &leaf[idx..idx + behind.min(leaf.len() - idx)];
            entries.iter().for_each(|entry| entry.member.prefetch());
            for entry in entries {
                let hash = self.hash(entry.member.bytes());
                let member = table.remove(hash, entry.member.bytes()).expect("the table has what the tree has");
                self.members_bytes += member.memory_bytes();
                self.tree.insert(*entry);
                self.table.insert(hash, member);
            }
            rank += entries.len();
            if rank == start {
                rank = end;
            }
        }
    }

    fn remove_ranks(&mut self, start: usize, end: usize) {
        let cut = self.tree.cut(start, end);
        let Self { table, members_bytes, frozen, .. } = self;
        let (seed, before) = (*table.seed(), *members_bytes);
        let mut gone = Vec::with_capacity(end - start);
        for entries in cut.leaves() {
            // What a member's removal reads lies anywhere in memory: the cache misses overlap when asked for together.
            entries.iter().for_each(|entry| entry.member.prefetch());
            let hash = |entry: &tree::Entry| {
                let hash = hash_key(&seed, entry.member.bytes());
                table.prefetch_bucket(hash);
                hash
            };
            let hashes: SmallVec<[u64; tree::WIDTH]> = entries.iter().map(hash).collect();
            for (entry, hash) in entries.iter().zip(hashes) {
                let bytes = entry.member.bytes();
                if let Some(frozen) = frozen {
                    frozen.note(hash, bytes, || Some(entry.score));
                }
                let member = table.remove(hash, bytes).expect("the table has what the tree has");
                *members_bytes -= member.memory_bytes();
                gone.push(member);
            }
        }
        if gone.len() > garbage::LARGE_LEN {
            garbage::leave_small(gone.into_iter(), before - *members_bytes);
        }
    }

    pub(super) fn count(&self, range: &Range<'_>) -> usize {
        let (start, end) = self.ranks(range);
        end - start
    }

    pub(super) fn entries(&self, range: &Range<'_>, order: Order, offset: usize, limit: usize) -> BigEntries<'_> {
        let (start, end) = self.ranks(range);
        let offset = offset.min(end - start);
        let remaining = limit.min(end - start - offset);
        let next_rank = match order {
            Order::Ascending => start + offset,
            Order::Descending => end - offset,
        };
        BigEntries { tree: &self.tree, leaf: [].iter(), order, next_rank, remaining }
    }

    pub(super) fn scan(&self, cursor: u64, visit: &mut impl FnMut(Entry<'_>)) -> u64 {
        self.table.scan(cursor, |member| {
            if self.is_alive(member) {
                visit(Entry { member: Element::Bytes(member.bytes()), score: member.score() });
            }
        })
    }

    /// The ranks from the first of `range` up to, without, the second.
    fn ranks(&self, range: &Range<'_>) -> (usize, usize) {
        let (start, end) = match range {
            Range::Ranks(start, end) => (*start, (*end).min(self.len())),
            Range::Scores(..) | Range::Lex(..) => (
                self.tree.partition(|entry| range.is_behind(entry.score, Element::Bytes(entry.member.bytes()))),
                self.tree.partition(|entry| !range.is_past(entry.score, Element::Bytes(entry.member.bytes()))),
            ),
        };
        (start.min(end), end)
    }

    fn insert_hashed(&mut self, hash: u64, bytes: &[u8], score: f64) {
        if let Some(frozen) = &mut self.frozen {
            frozen.note(hash, bytes, || None);
        }
        let member = Member::new(bytes, score);
        self.members_bytes += member.memory_bytes();
        // SAFETY: the ref goes into the tree alone, and whatever takes a member out of the table takes its ref out
        // of the tree before the member is dropped or right after, unused.
        let name = unsafe { member.name() };
        self.tree.insert(tree::Entry { score, member: name });
        self.table.insert(hash, member);
        // Were it left to the cron alone, members could be added and removed faster than it sweeps.
        self.sweep(1);
    }

    /// To be called before a member is removed.
    fn note(&mut self, hash: u64, member: &[u8]) {
        if let Some(frozen) = &mut self.frozen {
            frozen.note(hash, member, || self.table.get(hash, member).map(Member::score));
        }
    }

    /// See [`super::ZSet::freeze`].
    pub(super) fn freeze(&mut self, id: u64, kept: &Arc<Kept>) {
        self.frozen = Some(Box::new(Frozen::new(id, self.len(), kept.clone())));
        if let Some(dead) = &mut self.dead {
            dead.before_freezing = Some(dead.scores);
        }
    }

    pub(super) fn frozen(&self) -> Option<&Frozen<f64>> {
        self.frozen.as_deref()
    }

    pub(super) fn frozen_step(&mut self, visit: &mut dyn FnMut(&[u8], f64)) -> bool {
        let Some(mut frozen) = self.frozen.take() else { return false };
        let was_dead = |member: &Member| {
            self.dead.as_ref().is_some_and(|dead| dead.was_before_freezing(member.score())) && !self.is_alive(member)
        };
        let visit = RefCell::new(visit);
        let more = frozen.step(
            &self.table,
            |member| {
                if !was_dead(member) {
                    visit.borrow_mut()(member.bytes(), member.score());
                }
            },
            |member, score| visit.borrow_mut()(member, *score),
        );
        if more {
            self.frozen = Some(frozen);
        } else if let Some(dead) = &mut self.dead {
            dead.before_freezing = None;
        }
        more
    }

    fn hash(&self, member: &[u8]) -> u64 {
        hash_key(self.table.seed(), member)
    }
}

impl Clone for Big {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.table.seed());
        for entry in self.entries(&Range::ALL, Order::Ascending, 0, usize::MAX) {
            if let Element::Bytes(bytes) = entry.member {
                clone.insert(bytes, entry.score);
            }
        }
        clone
    }
}

/// Elements of a range of ranks, one way or the other, a leaf at a time.
#[derive(Clone)]
pub(super) struct BigEntries<'a> {
    tree: &'a Tree,
    /// What is left of the current leaf.
    leaf: std::slice::Iter<'a, tree::Entry>,
    order: Order,
    /// The rank behind the current leaf; going down, the rank of its first element.
    next_rank: usize,
    remaining: usize,
}

impl<'a> Iterator for BigEntries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        if self.leaf.as_slice().is_empty() {
            self.next_leaf();
        }
        let entry = match self.order {
            Order::Ascending => self.leaf.next()?,
            Order::Descending => self.leaf.next_back()?,
        };
        Some(Entry { member: Element::Bytes(entry.member.bytes()), score: entry.score })
    }
}

impl BigEntries<'_> {
    fn next_leaf(&mut self) {
        let leaf = match self.order {
            Order::Ascending => {
                let (leaf, idx) = self.tree.leaf_at(self.next_rank);
                self.next_rank += leaf.len() - idx;
                &leaf[idx..]
            }
            Order::Descending => {
                let (leaf, idx) = self.tree.leaf_at(self.next_rank - 1);
                self.next_rank -= idx + 1;
                &leaf[..=idx]
            }
        };
        // The members of a leaf lie anywhere in memory: their cache misses overlap when asked for together.
        let wanted = leaf.len().min(self.remaining + 1);
        match self.order {
            Order::Ascending => leaf[..wanted].iter().for_each(|entry| entry.member.prefetch()),
            Order::Descending => leaf[leaf.len() - wanted..].iter().for_each(|entry| entry.member.prefetch()),
        }
        self.leaf = leaf.iter();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::garbage::tests::left_by;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::range::ScoreBound;

    type Members = BTreeMap<Vec<u8>, f64>;

    const SEED: HashSeed = HashSeed::new([3, 4]);

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, i8),
        Remove(u8),
        RemoveRanks(usize, usize),
        RemoveScores(i8, i8),
        Sweep(usize),
        Freeze,
        GiveOut(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let score = || -9_i8..9;
        prop_oneof![
            30 => (any::<u8>(), score()).prop_map(|(member, score)| Step::Set(member, score)),
            6 => any::<u8>().prop_map(Step::Remove),
            3 => (0..200_usize, 0..120_usize).prop_map(|(start, len)| Step::RemoveRanks(start, start + len)),
            1 => (score(), score()).prop_map(|(min, max)| Step::RemoveScores(min, max)),
            3 => (1..20_usize).prop_map(Step::Sweep),
            2 => Just(Step::Freeze),
            4 => (1..20_usize).prop_map(Step::GiveOut),
        ]
    }

    fn name(member: u8) -> Vec<u8> {
        format!("member:{member}").into_bytes()
    }

    fn in_order(members: &Members) -> Vec<(f64, Vec<u8>)> {
        let mut listed: Vec<_> = members.iter().map(|(name, score)| (*score, name.clone())).collect();
        listed.sort_by(|a, b| a.partial_cmp(b).expect("no score is NaN"));
        listed
    }

    fn listed(big: &Big) -> Vec<(f64, Vec<u8>)> {
        let entries = big.entries(&Range::ALL, Order::Ascending, 0, usize::MAX);
        entries.map(|entry| (entry.score, entry.member.to_vec())).collect()
    }

    fn scanned(big: &Big) -> BTreeSet<Vec<u8>> {
        let (mut seen, mut cursor) = (BTreeSet::new(), 0);
        loop {
            cursor = big.scan(cursor, &mut |entry| seen.extend([entry.member.to_vec()]));
            if cursor == 0 {
                return seen;
            }
        }
    }

    /// Nothing shows a member that is gone, or leaves one out that is not.
    fn check(big: &Big, members: &Members) {
        let wanted = in_order(members);
        assert_eq!(listed(big), wanted);
        assert_eq!(scanned(big), members.keys().cloned().collect());
        assert_eq!((big.len(), big.count(&Range::ALL)), (wanted.len(), wanted.len()));
        for member in 0..=u8::MAX {
            let name = name(member);
            assert_eq!(big.score(&name), members.get(&name).copied());
            let rank = wanted.iter().position(|(_, other)| *other == name);
            assert_eq!(big.rank(&name).map(|(rank, _)| rank), rank);
        }
        assert_eq!(big.has_dead(), big.table.len() > big.tree.len());
        let allocated = big.table.iter().map(Member::memory_bytes).sum::<usize>();
        assert_eq!(big.members_bytes, allocated);
    }

    /// Gives out up to so many pieces; each must be as it was, and there only once.
    fn give_out(big: &mut Big, frozen: &mut Option<Members>, pieces: usize) {
        let Some(left) = frozen else { return };
        for _ in 0..pieces {
            let more = big.frozen_step(&mut |name, score| assert_eq!(left.remove(name), Some(score)));
            if !more {
                assert_eq!(*left, Members::new(), "not all has been given out");
                *frozen = None;
                return;
            }
        }
    }

    fn remove_range(big: &mut Big, members: &mut Members, range: &Range<'_>, gone: &BTreeSet<Vec<u8>>) {
        assert_eq!(big.remove_range(range), gone.len());
        members.retain(|name, _| !gone.contains(name));
    }

    fn take(big: &mut Big, members: &mut Members, frozen: &mut Option<Members>, step: Step) {
        match step {
            Step::Set(member, score) => {
                let name = name(member);
                let old = members.insert(name.clone(), score.into());
                let choose = |current| {
                    assert_eq!(current, old, "of {member}");
                    Some(score.into())
                };
                big.update(&name, choose);
            }
            Step::Remove(member) => assert_eq!(big.remove(&name(member)), members.remove(&name(member))),
            Step::RemoveRanks(start, end) => {
                let gone = in_order(members).into_iter().take(end).skip(start).map(|(_, name)| name).collect();
                remove_range(big, members, &Range::Ranks(start, end), &gone);
            }
            Step::RemoveScores(min, max) => {
                let [min, max] = [min, max].map(|score| ScoreBound { score: score.into(), exclusive: false });
                let is_inside = |score: &f64| (min.score..=max.score).contains(score);
                let gone = members.iter().filter(|(_, score)| is_inside(score)).map(|(name, _)| name.clone()).collect();
                remove_range(big, members, &Range::Scores(min, max), &gone);
            }
            Step::Sweep(buckets) => assert!(big.sweep(buckets) || frozen.is_some() || !big.has_dead()),
            Step::Freeze if frozen.is_none() => {
                big.freeze(1, &Arc::new(Kept::default()));
                assert_eq!(big.frozen().map(Frozen::len), Some(members.len()));
                *frozen = Some(members.clone());
            }
            Step::Freeze => {}
            Step::GiveOut(pieces) => give_out(big, frozen, pieces),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        /// With dead members, and without, frozen and not.
        #[test]
        fn behaves_like_a_map(
            // Also with hashes of which very many are equal.
            kept_bits in prop_oneof![3 => Just(u64::MAX), 1 => Just(7 << 60), 1 => Just(0_u64)],
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            let (mut big, mut members, mut frozen) = (Big::new(&SEED.keeping(kept_bits)), Members::new(), None);
            for member in 0..200 {
                take(&mut big, &mut members, &mut frozen, Step::Set(member, (member % 11) as i8));
            }
            for (idx, step) in steps.into_iter().enumerate() {
                take(&mut big, &mut members, &mut frozen, step);
                if idx % 16 == 0 {
                    check(&big, &members);
                }
            }
            give_out(&mut big, &mut frozen, usize::MAX);
            check(&big, &members);
            assert_eq!(listed(&big.clone()), in_order(&members));
            // Two rounds would do: the first may have begun anywhere.
            let rounds = (0..1000).take_while(|_| big.sweep(1)).count();
            assert!(rounds < 1000 && !big.has_dead(), "all is swept");
            check(&big, &members);
        }
    }

    fn filled(len: u32) -> Big {
        let mut big = Big::new(&SEED);
        (0..len).for_each(|n| big.insert(&n.to_be_bytes(), n.into()));
        big
    }

    /// However many members go, and however many stay: no member is looked at, the nodes of the tree go as they are.
    #[test]
    fn a_long_range_takes_no_work_for_each_member() {
        for (len, start, end) in [(20_000, 0, 8000), (20_000, 1000, 19_000), (60_000, 100, 40_000)] {
            for is_frozen in [false, true] {
                let mut big = filled(len);
                if is_frozen {
                    big.freeze(1, &Arc::new(Kept::default()));
                }
                let left = left_by(|| assert_eq!(big.remove_range(&Range::Ranks(start, end)), end - start));
                assert_eq!(left.len(), 1, "the nodes");
                assert_eq!(big.table.len(), len as usize, "the table is as it was");
                assert_eq!(big.len(), len as usize - (end - start));
                assert_eq!(big.frozen.as_ref().map_or(0, |frozen| frozen.noted_len()), 0);
            }
        }
    }

    #[test]
    fn sweeping_takes_little_at_a_time_and_insertions_help() {
        let mut big = filled(20_000);
        big.remove_range(&Range::Ranks(0, 8000));
        while big.has_dead() {
            let before = big.table.len();
            assert!(big.sweep(1));
            assert!(before - big.table.len() <= 64);
        }
        assert!(!big.sweep(1), "there is nothing to be done");
        assert_eq!(big.table.len(), 12_000);

        big.remove_range(&Range::Ranks(0, 6000));
        (0..12_000_u32).for_each(|n| big.insert(&(n + 1_000_000).to_be_bytes(), n.into()));
        assert!(!big.has_dead(), "nobody but the insertions has swept");
    }

    /// A set that was swept only in part when it was frozen: other scores may go all the same.
    #[test]
    fn a_frozen_set_loses_long_ranges_at_once_unless_they_have_scores_of_the_dead() {
        let mut big = filled(20_000);
        big.remove_range(&Range::Ranks(5000, 6000));
        let wanted = listed(&big);
        big.freeze(1, &Arc::new(Kept::default()));
        big.remove_range(&Range::Ranks(0, 4000));
        big.remove_range(&Range::Ranks(5000, 9000));
        assert_eq!((big.table.len(), big.frozen.as_ref().map_or(1, |frozen| frozen.noted_len())), (20_000, 0));
        // Ranks 900 to 1100 are on both sides of those that were dead before.
        big.remove_range(&Range::Ranks(900, 1100));
        assert_eq!((big.table.len(), big.frozen.as_ref().map_or(0, |frozen| frozen.noted_len())), (19_800, 200));
        let mut given = Vec::new();
        while big.frozen_step(&mut |name, score| given.push((score, name.to_vec()))) {}
        given.sort_by(|a, b| a.partial_cmp(b).expect("no score is NaN"));
        assert_eq!(given, wanted);
    }

    /// What is left of them counts as waiting to be freed, until it is swept or the set goes.
    #[test]
    fn dead_members_count_as_garbage() {
        let pending = |big: &Big| big.dead.as_ref().map_or(0, |dead| dead.bytes.bytes());
        let mut big = filled(20_000);
        let bytes = big.members_bytes;
        big.remove_range(&Range::Ranks(0, 10_000));
        assert!(pending(&big).abs_diff(bytes as u64 / 2) < 1000);
        while big.table.len() > 15_000 {
            big.sweep(1);
        }
        assert!(pending(&big).abs_diff(bytes as u64 / 4) < 1000);
        (0..1000).for_each(|_| assert!(big.sweep(10) || !big.has_dead()));
        assert_eq!((pending(&big), big.members_bytes), (0, bytes / 2));
    }
}
