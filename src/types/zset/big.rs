//! A large sorted set: a table that owns the members and finds them by their bytes, and a tree that has them in
//! order. Both name the one allocation that holds a member's score and bytes.
//!
//! Invariant: the tree holds a ref of each member in the table, with the member's score, and no other ref.
#![allow(unsafe_code)]

use super::member::Member;
use super::range::{Order, Range};
use super::tree::{self, Tree};
use super::{Change, Entry};
use crate::encoding::listpack::Element;
use crate::frozen::{Frozen, Kept};
use crate::garbage;
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
}

impl Big {
    pub(super) fn new(hash_seed: &HashSeed) -> Self {
        Self { tree: Tree::new(), table: Table::new(hash_seed), members_bytes: 0, frozen: None }
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(super) fn memory_bytes(&self, samples: usize) -> usize {
        self.members_bytes + self.table.memory_bytes() + self.tree.memory_bytes(samples)
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.table.get(self.hash(member), member).map(Member::score)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.tree.partition(|entry| entry.order(score, member).is_lt()), score))
    }

    pub(super) fn update(&mut self, member: &[u8], choose: impl FnOnce(Option<f64>) -> Option<f64>) -> Change {
        let hash = self.hash(member);
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
        self.note(hash, member);
        let found = self.table.remove(hash, member)?;
        self.tree.remove(found.score(), member).expect("the tree has what the table has");
        self.members_bytes -= found.memory_bytes();
        Some(found.score())
    }

    /// Takes the members of `range` out; how many. Those that go are freed by the collector when they are many, so that it
    /// is what stays that costs time when that is less.
    pub(super) fn remove_range(&mut self, range: &Range<'_>) -> usize {
        let (start, end) = self.ranks(range);
        let (goes, stays) = (end - start, self.len() - (end - start));
        if goes > garbage::LARGE_LEN && stays < goes / 2 && self.frozen.is_none() {
            self.keep_outside(start, end);
        } else if goes > 0 {
            self.remove_ranks(start, end);
        }
        goes
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
        let Self { tree, table, members_bytes, frozen } = self;
        let (seed, before) = (*table.seed(), *members_bytes);
        let mut gone = Vec::with_capacity(end - start);
        tree.remove_ranks(start, end, &mut |entries| {
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
        });
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
        self.table.scan(cursor, |member| visit(Entry { member: Element::Bytes(member.bytes()), score: member.score() }))
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
    }

    /// To be called before a member is removed.
    fn note(&mut self, hash: u64, member: &[u8]) {
        if let Some(frozen) = &mut self.frozen {
            frozen.note(hash, member, || self.table.get(hash, member).map(Member::score));
        }
    }

    /// See [`super::ZSet::freeze`].
    pub(super) fn freeze(&mut self, id: u64, kept: &Arc<Kept>) {
        self.frozen = Some(Box::new(Frozen::new(id, self.table.len(), kept.clone())));
    }

    pub(super) fn frozen(&self) -> Option<&Frozen<f64>> {
        self.frozen.as_deref()
    }

    pub(super) fn frozen_step(&mut self, visit: &mut dyn FnMut(&[u8], f64)) -> bool {
        let Some(mut frozen) = self.frozen.take() else { return false };
        let visit = RefCell::new(visit);
        let more = frozen.step(
            &self.table,
            |member| visit.borrow_mut()(member.bytes(), member.score()),
            |member, score| visit.borrow_mut()(member, *score),
        );
        self.frozen = more.then_some(frozen);
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
