//! The order-statistic tree of a big sorted set: members in order of score, then bytes.
//!
//! A B+-tree whose inner nodes count what lies below each child, so that an element is found by its rank as fast
//! as by its score:
//!
//! ```text
//! inner   [ first, count, node | first, count, node | ... ]     up to 64 children
//! leaf    [ score, ref | score, ref | score, ref | ... ]        up to 64 elements, 16 bytes each
//! ```
//!
//! Every question about a range is a [`Tree::partition`]: how many elements come before it. Everything else works
//! on ranks. JUSTIFICATION of the score beside the reference: a search then reads members only where scores are
//! equal; reading each member on the way costs a cache miss a step, five to six steps a leaf.
//!
//! A leaf that overflows at an end of the whole tree is not halved but left full, so that sets filled in order
//! (time stamps, counters) are packed tight. A node that falls below a quarter joins a neighbour when both fit
//! into three quarters.
//!
//! Complexity: O(log n) for everything but iteration, which is O(log n + 64) once a leaf.
//! Invariants: no node but the root is empty; `first` and `count` of a child are those of its node; all leaves
//! lie equally deep.

use super::member::MemberRef;
use crate::encoding::extrapolate;
use crate::garbage;
use std::cmp::Ordering;

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) score: f64,
    pub(super) member: MemberRef,
}

impl Entry {
    /// Whether it comes before, at or behind the place of `score` and `bytes`. Scores are never NaN; -0 equals 0.
    #[inline]
    pub(super) fn order(&self, score: f64, bytes: &[u8]) -> Ordering {
        match self.score.partial_cmp(&score) {
            Some(Ordering::Equal) | None => self.member.bytes().cmp(bytes),
            Some(unequal) => unequal,
        }
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    root: Node,
    len: usize,
}

#[derive(Debug)]
enum Node {
    Leaf(Vec<Entry>),
    Inner(Vec<Child>),
}

/// Elements that a tree has had: nodes of any depth, in order. Freed by the collector when they are many.
#[derive(Debug)]
pub(super) struct Cut {
    nodes: Vec<Node>,
    len: usize,
}

#[derive(Debug)]
struct Child {
    /// The smallest element below.
    first: Entry,
    /// How many elements are below.
    count: usize,
    node: Node,
}

/// Where in the whole tree a node lies: only the outermost leaves split unevenly.
#[derive(Clone, Copy)]
struct Edges {
    leftmost: bool,
    rightmost: bool,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { root: Node::Leaf(Vec::new()), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts `entry` in its place. The tree must not hold its member yet.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.len += 1;
        let edges = Edges { leftmost: true, rightmost: true };
        if let Some(right) = self.root.insert(entry, edges) {
            let left = std::mem::replace(&mut self.root, Node::Inner(Vec::with_capacity(2)));
            self.root = Node::Inner(vec![Child::of(left), Child::of(right)]);
        }
    }

    /// Takes out the element with this very score and these bytes.
    pub(super) fn remove(&mut self, score: f64, bytes: &[u8]) -> Option<Entry> {
        let removed = self.root.remove(score, bytes)?;
        self.len -= 1;
        self.lower();
        Some(removed)
    }

    /// Whether it has an element with this very score and these bytes.
    pub(super) fn has(&self, score: f64, bytes: &[u8]) -> bool {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => return entries.binary_search_by(|other| other.order(score, bytes)).is_ok(),
                Node::Inner(children) => {
                    let behind = children.partition_point(|child| child.first.order(score, bytes).is_le());
                    let Some(idx) = behind.checked_sub(1) else { return false };
                    node = &children[idx].node;
                }
            }
        }
    }

    /// Cuts out the elements from rank `start` up to, without, `end`, which is at most `len`: O(log n), for whole nodes go
    /// as they are.
    pub(super) fn cut(&mut self, start: usize, end: usize) -> Cut {
        let mut cut = Cut { nodes: Vec::new(), len: end - start };
        self.root.cut(start, end, &mut cut.nodes);
        self.len -= cut.len;
        self.lower();
        cut
    }

    /// The number of elements at the start for which `before` holds; it must hold for no element behind one for
    /// which it does not.
    #[inline]
    pub(super) fn partition(&self, before: impl Fn(&Entry) -> bool) -> usize {
        let mut node = &self.root;
        let mut rank = 0;
        loop {
            match node {
                Node::Leaf(entries) => return rank + entries.partition_point(&before),
                Node::Inner(children) => {
                    let idx = children.partition_point(|child| before(&child.first)).saturating_sub(1);
                    rank += children[..idx].iter().map(|child| child.count).sum::<usize>();
                    node = &children[idx].node;
                }
            }
        }
    }

    /// The leaf that holds the element at `rank`, and its place in there. `rank` must be below `len`.
    pub(super) fn leaf_at(&self, mut rank: usize) -> (&[Entry], usize) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => return (entries, rank),
                Node::Inner(children) => node = &children[child_at(children, &mut rank)].node,
            }
        }
    }

    /// How many bytes the nodes have allocated, judged by the first `samples` leaves.
    pub(super) fn memory_bytes(&self, samples: usize) -> usize {
        let mut left = samples.max(1);
        let (bytes, entries) = self.root.measure(&mut left);
        extrapolate(bytes, entries, self.len)
    }

    /// Makes the tree lower when its root has fewer than two children.
    fn lower(&mut self) {
        while let Node::Inner(children) = &mut self.root {
            match children.len() {
                0 => self.root = Node::Leaf(Vec::new()),
                1 => self.root = children.remove(0).node,
                _ => break,
            }
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.len > garbage::LARGE_LEN {
            leave(vec![std::mem::replace(&mut self.root, Node::Leaf(Vec::new()))], self.len);
        }
    }
}

impl Cut {
    /// The elements, a leaf's at a time.
    pub(super) fn leaves(&self) -> impl Iterator<Item = &[Entry]> {
        let mut nodes: Vec<&Node> = self.nodes.iter().rev().collect();
        std::iter::from_fn(move || {
            loop {
                match nodes.pop()? {
                    Node::Leaf(entries) => return Some(entries.as_slice()),
                    Node::Inner(children) => nodes.extend(children.iter().rev().map(|child| &child.node)),
                }
            }
        })
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        if self.len > garbage::LARGE_LEN {
            leave(std::mem::take(&mut self.nodes), self.len);
        }
    }
}

/// Leaves nodes with all below them, `len` elements, to the collector.
fn leave(mut nodes: Vec<Node>, len: usize) {
    let next_leaf = move || {
        let mut node = nodes.pop()?;
        while let Node::Inner(children) = node {
            nodes.extend(children.into_iter().map(|child| child.node));
            node = nodes.pop()?;
        }
        Some(node)
    };
    garbage::leave(std::iter::from_fn(next_leaf), len * size_of::<Entry>());
}

impl Node {
    /// Inserts; returns the right half when the node had to split.
    fn insert(&mut self, entry: Entry, edges: Edges) -> Option<Self> {
        match self {
            Self::Leaf(entries) => insert_into_leaf(entries, entry, edges).map(Self::Leaf),
            Self::Inner(children) => insert_into_inner(children, entry, edges).map(Self::Inner),
        }
    }

    fn remove(&mut self, score: f64, bytes: &[u8]) -> Option<Entry> {
        match self {
            Self::Leaf(entries) => {
                let idx = entries.binary_search_by(|other| other.order(score, bytes)).ok()?;
                Some(entries.remove(idx))
            }
            Self::Inner(children) => remove_from_inner(children, score, bytes),
        }
    }

    /// See [`Tree::cut`]; ranks are those within this node.
    fn cut(&mut self, start: usize, end: usize, nodes: &mut Vec<Node>) {
        match self {
            Self::Leaf(entries) => nodes.push(Self::Leaf(entries.drain(start..end).collect())),
            Self::Inner(children) => cut_from_inner(children, start, end, nodes),
        }
    }

    fn first(&self) -> Option<Entry> {
        match self {
            Self::Leaf(entries) => entries.first().copied(),
            Self::Inner(children) => children.first().map(|child| child.first),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    /// How many elements or children it has itself.
    fn width(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(children) => children.len(),
        }
    }

    /// Moves all of `right`, the next node of the same depth, to the end of this one.
    fn append(&mut self, right: Self) {
        match (self, right) {
            (Self::Leaf(entries), Self::Leaf(mut others)) => entries.append(&mut others),
            (Self::Inner(children), Self::Inner(mut others)) => children.append(&mut others),
            _ => unreachable!("neighbours lie equally deep"),
        }
    }

    /// The bytes of the first `left` leaves with what is above them, and how many elements these have.
    fn measure(&self, left: &mut usize) -> (usize, usize) {
        match self {
            Self::Leaf(entries) => {
                *left -= 1;
                (entries.capacity() * size_of::<Entry>(), entries.len())
            }
            Self::Inner(children) => {
                let (mut bytes, mut entries, mut seen) = (0, 0, 0);
                for child in children {
                    if *left == 0 {
                        break;
                    }
                    let below = child.node.measure(left);
                    (bytes, entries, seen) = (bytes + below.0, entries + below.1, seen + 1);
                }
                (bytes + extrapolate(children.capacity() * size_of::<Child>(), children.len(), seen), entries)
            }
        }
    }
}

impl Child {
    fn of(node: Node) -> Self {
        Self { first: node.first().expect("no node below the root is empty"), count: node.count(), node }
    }
}

fn insert_into_leaf(entries: &mut Vec<Entry>, entry: Entry, edges: Edges) -> Option<Vec<Entry>> {
    let bytes = entry.member.bytes();
    // Sets filled in order append: one comparison instead of a search.
    let appends = entries.last().is_none_or(|last| last.order(entry.score, bytes).is_lt());
    let idx =
        if appends { entries.len() } else { entries.partition_point(|other| other.order(entry.score, bytes).is_lt()) };
    if entries.len() < WIDTH {
        entries.insert(idx, entry);
        return None;
    }
    if appends && edges.rightmost {
        let mut right = Vec::with_capacity(WIDTH);
        right.push(entry);
        return Some(right);
    }
    if idx == 0 && edges.leftmost {
        let mut left = Vec::with_capacity(WIDTH);
        left.push(entry);
        return Some(std::mem::replace(entries, left));
    }
    let mut right = entries.split_off(WIDTH / 2);
    if idx <= WIDTH / 2 {
        entries.insert(idx, entry);
    } else {
        right.insert(idx - WIDTH / 2, entry);
    }
    Some(right)
}

fn insert_into_inner(children: &mut Vec<Child>, entry: Entry, edges: Edges) -> Option<Vec<Child>> {
    let bytes = entry.member.bytes();
    let behind = children.partition_point(|child| child.first.order(entry.score, bytes).is_lt());
    let idx = behind.saturating_sub(1);
    let edges = Edges { leftmost: edges.leftmost && idx == 0, rightmost: edges.rightmost && idx + 1 == children.len() };
    let child = &mut children[idx];
    if behind == 0 {
        child.first = entry;
    }
    child.count += 1;
    let right = Child::of(child.node.insert(entry, edges)?);
    child.count -= right.count;
    children.insert(idx + 1, right);
    if children.len() <= WIDTH {
        return None;
    }
    let keep = if edges.rightmost { WIDTH } else { WIDTH / 2 };
    Some(children.split_off(keep))
}

fn remove_from_inner(children: &mut Vec<Child>, score: f64, bytes: &[u8]) -> Option<Entry> {
    let idx = children.partition_point(|child| child.first.order(score, bytes).is_le()).checked_sub(1)?;
    let child = &mut children[idx];
    let removed = child.node.remove(score, bytes)?;
    child.count -= 1;
    match child.node.first() {
        None => {
            children.remove(idx);
        }
        Some(first) => {
            child.first = first;
            if child.node.width() < WIDTH / 4 {
                join_neighbours(children, idx);
            }
        }
    }
    Some(removed)
}

fn cut_from_inner(children: &mut Vec<Child>, start: usize, end: usize, nodes: &mut Vec<Node>) {
    let mut rank = 0;
    for child in children.iter_mut() {
        let [from, to] = [start, end].map(|at| at.saturating_sub(rank).min(child.count));
        rank += child.count;
        if to - from == child.count {
            nodes.push(std::mem::replace(&mut child.node, Node::Leaf(Vec::new())));
        } else if from < to {
            child.node.cut(from, to, nodes);
            child.first = child.node.first().unwrap_or(child.first);
        }
        child.count -= to - from;
    }
    children.retain(|child| child.count > 0);
    for idx in (0..children.len()).rev() {
        if children.get(idx).is_some_and(|child| child.node.width() < WIDTH / 4) {
            join_neighbours(children, idx);
        }
    }
}

/// Joins the narrow child at `idx` with a neighbour, if both fit well into one.
fn join_neighbours(children: &mut Vec<Child>, idx: usize) {
    let fits = |left: usize| {
        left + 1 < children.len() && children[left].node.width() + children[left + 1].node.width() <= WIDTH * 3 / 4
    };
    let left = if fits(idx) {
        idx
    } else if idx > 0 && fits(idx - 1) {
        idx - 1
    } else {
        return;
    };
    let right = children.remove(left + 1);
    children[left].count += right.count;
    children[left].node.append(right.node);
}

/// The index of the child that holds the element at `rank`, which becomes the rank within that child.
fn child_at(children: &[Child], rank: &mut usize) -> usize {
    let within = children.iter().position(|child| {
        let here = *rank < child.count;
        if !here {
            *rank -= child.count;
        }
        here
    });
    within.unwrap_or(children.len() - 1)
}

/// The most elements of a leaf, and children of an inner node.
pub(super) const WIDTH: usize = 64;
