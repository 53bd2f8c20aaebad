//! Lists: one listpack while small, a quicklist from `list-max-listpack-size` on, a listpack again at half of it.

use crate::encoding::listpack::{Element, Listpack};
use crate::encoding::quicklist::{self, Iter, Quicklist};
use crate::encoding::word::{Either, Form, OddBox};
use smallvec::SmallVec;

pub use crate::encoding::quicklist::{Chunk, ListLimits};

/// A list of byte strings.
#[derive(Clone, Debug)]
pub struct List {
    encoding: Encoding,
}

type Encoding = Either<Listpack, OddBox<Quicklist>, 1>;

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Head,
    Tail,
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    pub fn new() -> Self {
        Self { encoding: Encoding::packed(Listpack::new()) }
    }

    /// A list of the chunks that an RDB file or a DUMP payload holds.
    pub fn from_chunks(chunks: impl IntoIterator<Item = Chunk>, limits: &ListLimits) -> Self {
        let mut quicklist = Quicklist::from_chunks(chunks);
        let encoding = match quicklist.take_if_fits(limits) {
            Some(listpack) => Encoding::packed(listpack),
            None if quicklist.is_empty() => Encoding::packed(Listpack::new()),
            None => Encoding::big(OddBox::new(quicklist)),
        };
        Self { encoding }
    }

    /// The listpack, when this is all there is.
    pub fn as_listpack(&self) -> Option<&Listpack> {
        match self.encoding.form() {
            Form::Packed(list) => Some(list),
            Form::Big(_) => None,
        }
    }

    /// The chunks, when this is more than one listpack.
    pub fn as_quicklist(&self) -> Option<&Quicklist> {
        match self.encoding.form() {
            Form::Packed(_) => None,
            Form::Big(list) => Some(list),
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        match self.encoding.form() {
            Form::Packed(_) => "listpack",
            Form::Big(_) => "quicklist",
        }
    }

    pub fn len(&self) -> usize {
        match self.encoding.form() {
            Form::Packed(list) => list.len(),
            Form::Big(list) => list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self.encoding.form() {
            Form::Packed(list) => list.is_empty(),
            Form::Big(list) => list.is_empty(),
        }
    }

    /// Bytes allocated, without `size_of::<Self>()`, judged by the first `samples` chunks.
    pub fn memory_bytes(&self, samples: usize) -> usize {
        match self.encoding.form() {
            Form::Packed(list) => list.memory_bytes(),
            Form::Big(list) => size_of::<Quicklist>() + list.memory_bytes(samples),
        }
    }

    /// How many allocations a drop frees, about: whether to do it in the background.
    pub fn allocations(&self) -> usize {
        match self.encoding.form() {
            Form::Packed(_) => 1,
            Form::Big(list) => list.chunks().len(),
        }
    }

    pub fn iter(&self) -> Iter<'_> {
        match self.encoding.form() {
            Form::Packed(list) => list.iter().into(),
            Form::Big(list) => list.iter(),
        }
    }

    /// The elements from index `idx` on, none if there is no such index.
    pub fn iter_from(&self, idx: usize) -> Iter<'_> {
        match self.encoding.form() {
            Form::Packed(list) => {
                list.seek(idx as i64).map_or_else(Iter::default, |cursor| list.iter_from(cursor).into())
            }
            Form::Big(list) => list.iter_from(idx),
        }
    }

    /// The elements in front of index `idx`, all if there is no such index; to be walked back with `rev()`.
    pub fn iter_before(&self, idx: usize) -> Iter<'_> {
        match self.encoding.form() {
            Form::Packed(list) => list.iter_before(list.seek(idx as i64)).into(),
            Form::Big(list) => list.iter_before(idx),
        }
    }

    pub fn get(&self, idx: usize) -> Option<Element<'_>> {
        match self.encoding.form() {
            Form::Packed(list) => list.get(idx as i64),
            Form::Big(list) => list.get(idx),
        }
    }

    /// The element at an end.
    pub fn peek(&self, end: End) -> Option<Element<'_>> {
        match (self.encoding.form(), end) {
            (Form::Packed(list), End::Head) => list.first().map(|cursor| list.at(cursor)),
            (Form::Packed(list), End::Tail) => list.last().map(|cursor| list.at(cursor)),
            (Form::Big(list), End::Head) => list.iter().next(),
            (Form::Big(list), End::Tail) => list.iter().next_back(),
        }
    }

    /// Adds `value` at an end.
    pub fn push(&mut self, end: End, value: &[u8], limits: &ListLimits) {
        self.extend(end, std::iter::once(value), limits);
    }

    /// Adds all `values` at an end, one after the other.
    pub fn extend<'v>(&mut self, end: End, values: impl Iterator<Item = &'v [u8]> + Clone, limits: &ListLimits) {
        let added = values.clone().fold((0, 0), |(bytes, count), value| (bytes + value.len(), count + 1));
        self.make_room(added.0, added.1, limits);
        match (self.encoding.form_mut(), end) {
            (Form::Packed(list), end) => {
                let mut elements: SmallVec<[Element<'_>; 16]> = values.map(Element::from).collect();
                if end == End::Tail {
                    list.push_all_back(&elements);
                } else {
                    // The last one pushed is the first in the list.
                    elements.reverse();
                    list.push_all_front(&elements);
                }
            }
            (Form::Big(list), End::Head) => values.for_each(|value| list.push_front(value, limits)),
            (Form::Big(list), End::Tail) => values.for_each(|value| list.push_back(value, limits)),
        }
    }

    /// Takes the element at an end out.
    pub fn pop(&mut self, end: End, limits: &ListLimits) -> Option<Vec<u8>> {
        let value = self.take(end)?;
        self.shrink(limits);
        Some(value)
    }

    /// As [`Self::pop`], but leaves the encoding as it is: for what is pushed again at once. The caller ends with
    /// [`Self::shrink`].
    pub fn take(&mut self, end: End) -> Option<Vec<u8>> {
        let value = self.peek(end)?.to_vec();
        let idx = if end == End::Head { 0 } else { self.len() - 1 };
        self.remove_without_shrinking(idx, 1);
        Some(value)
    }

    /// Removes up to `count` elements at an end.
    pub fn remove_end(&mut self, end: End, count: usize, limits: &ListLimits) {
        let len = self.len();
        let count = count.min(len);
        match end {
            End::Head => self.remove_range(0, count, limits),
            End::Tail => self.remove_range(len - count, count, limits),
        }
    }

    /// Removes up to `count` elements from index `start` on.
    pub fn remove_range(&mut self, start: usize, count: usize, limits: &ListLimits) {
        self.remove_without_shrinking(start, count);
        self.shrink(limits);
    }

    /// Keeps the `count` elements from index `start` on.
    pub fn trim(&mut self, start: usize, count: usize, limits: &ListLimits) {
        let len = self.len();
        let stop = start.saturating_add(count).min(len);
        self.remove_without_shrinking(stop, len - stop);
        self.remove_without_shrinking(0, start);
        self.shrink(limits);
    }

    /// Replaces the element at `idx` and answers whether there is one.
    pub fn set(&mut self, idx: usize, value: &[u8], limits: &ListLimits) -> bool {
        self.make_room(value.len(), 1, limits);
        let replaced = match self.encoding.form_mut() {
            Form::Packed(list) => list.seek(idx as i64).map(|cursor| list.replace(cursor, value)).is_some(),
            Form::Big(list) => list.set(idx, value, limits),
        };
        if replaced {
            self.shrink(limits);
        }
        replaced
    }

    /// Inserts `value` beside the first element equal to `pivot`, towards `side`; answers whether there is one.
    pub fn insert_beside(&mut self, pivot: &[u8], side: End, value: &[u8], limits: &ListLimits) -> bool {
        self.make_room(value.len(), 1, limits);
        match self.encoding.form_mut() {
            Form::Packed(list) => {
                let found = list.find(pivot, 0);
                if let Some(cursor) = found {
                    match side {
                        End::Head => list.insert_before(cursor, value),
                        End::Tail => list.insert_after(cursor, value),
                    };
                }
                found.is_some()
            }
            Form::Big(list) => {
                let found = list.find(pivot);
                if let Some(place) = found {
                    list.insert(place, side == End::Tail, value, limits);
                }
                found.is_some()
            }
        }
    }

    /// Removes up to `max_count` elements equal to `value`, looking from `end`; answers how many.
    pub fn remove_equal(&mut self, value: &[u8], max_count: usize, end: End, limits: &ListLimits) -> usize {
        let from_tail = end == End::Tail;
        let removed = match self.encoding.form_mut() {
            Form::Packed(list) => quicklist::remove_equal(list, value, max_count, from_tail),
            Form::Big(list) => list.remove_equal(value, max_count, from_tail),
        };
        self.shrink(limits);
        removed
    }

    /// Becomes a quicklist before elements come that are too many or too large for one listpack.
    fn make_room(&mut self, added_bytes: usize, added_count: usize, limits: &ListLimits) {
        if let Form::Packed(list) = self.encoding.form_mut()
            && limits.exceeded(list.total_bytes().saturating_add(added_bytes), list.len() + added_count)
        {
            let quicklist = Quicklist::from_chunks([Chunk::Packed(std::mem::take(list))]);
            self.encoding = Encoding::big(OddBox::new(quicklist));
        }
    }

    fn remove_without_shrinking(&mut self, start: usize, count: usize) {
        match self.encoding.form_mut() {
            Form::Packed(list) => list.remove_range(start as i64, count),
            Form::Big(list) => list.remove_range(start, count),
        }
    }

    /// Becomes a listpack again when little is left. Every removal but [`Self::take`] ends with it.
    pub fn shrink(&mut self, limits: &ListLimits) {
        if let Form::Big(list) = self.encoding.form_mut() {
            if list.is_empty() {
                self.encoding = Encoding::packed(Listpack::new());
            } else if let Some(listpack) = list.take_if_small(limits) {
                self.encoding = Encoding::packed(listpack);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn check(list: &List, model: &VecDeque<Vec<u8>>) {
        assert_eq!(list.len(), model.len());
        assert!(list.iter().map(Element::to_vec).eq(model.iter().cloned()));
        assert!(list.iter().rev().map(Element::to_vec).eq(model.iter().rev().cloned()));
        if let Some(quicklist) = list.as_quicklist() {
            assert!(quicklist.chunks().all(|chunk| !chunk.is_empty()));
            assert_eq!(quicklist.chunks().map(Chunk::len).sum::<usize>(), list.len());
        }
        for idx in [0, 1, model.len() / 3, model.len() / 2, model.len().saturating_sub(1), model.len(), model.len() + 5]
        {
            assert_eq!(list.get(idx).map(Element::to_vec).as_ref(), model.get(idx));
            assert!(list.iter_from(idx).map(Element::to_vec).eq(model.iter().skip(idx).cloned()));
            let before = model.iter().take(idx).rev().cloned();
            assert!(list.iter_before(idx).rev().map(Element::to_vec).eq(before));
        }
    }

    fn end() -> impl Strategy<Value = End> {
        prop_oneof![Just(End::Head), Just(End::Tail)]
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (0..6_u8).prop_map(|n| vec![b'0' + n]),
            2 => "[a-c]{1,3}".prop_map(String::into_bytes),
            1 => (0..150_usize).prop_map(|len| vec![b'x'; len]),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        Extend(End, Vec<Vec<u8>>),
        Pop(End),
        Set(usize, Vec<u8>),
        Insert(Vec<u8>, End, Vec<u8>),
        RemoveEqual(Vec<u8>, usize, End),
        RemoveRange(usize, usize),
        Trim(usize, usize),
        Reload,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (end(), prop::collection::vec(value(), 1..8)).prop_map(|(end, values)| Op::Extend(end, values)),
            3 => end().prop_map(Op::Pop),
            3 => (0..60_usize, value()).prop_map(|(idx, value)| Op::Set(idx, value)),
            4 => (value(), end(), value()).prop_map(|(pivot, side, value)| Op::Insert(pivot, side, value)),
            1 => (value(), 1..4_usize, end()).prop_map(|(value, count, end)| Op::RemoveEqual(value, count, end)),
            1 => (0..60_usize, 0..9_usize).prop_map(|(start, count)| Op::RemoveRange(start, count)),
            1 => (0..5_usize, 5..60_usize).prop_map(|(start, count)| Op::Trim(start, count)),
            1 => Just(Op::Reload),
        ]
    }

    fn apply(list: &mut List, model: &mut VecDeque<Vec<u8>>, op: Op, limits: &ListLimits) {
        match op {
            Op::Extend(end, values) => {
                list.extend(end, values.iter().map(Vec::as_slice), limits);
                values.into_iter().for_each(|value| match end {
                    End::Head => model.push_front(value),
                    End::Tail => model.push_back(value),
                });
            }
            Op::Pop(end) => {
                let expected = if end == End::Head { model.pop_front() } else { model.pop_back() };
                assert_eq!(list.pop(end, limits), expected);
            }
            Op::Set(idx, value) => {
                assert_eq!(list.set(idx, &value, limits), idx < model.len());
                model.get_mut(idx).into_iter().for_each(|element| element.clone_from(&value));
            }
            Op::Insert(pivot, side, value) => {
                let found = model.iter().position(|element| *element == pivot);
                assert_eq!(list.insert_beside(&pivot, side, &value, limits), found.is_some());
                found.into_iter().for_each(|idx| model.insert(idx + usize::from(side == End::Tail), value.clone()));
            }
            Op::RemoveEqual(value, count, end) => {
                let mut places: Vec<_> = (0..model.len()).filter(|&idx| model[idx] == value).collect();
                match end {
                    End::Head => places.truncate(count),
                    End::Tail => drop(places.drain(..places.len().saturating_sub(count))),
                }
                assert_eq!(list.remove_equal(&value, count, end, limits), places.len());
                places.into_iter().rev().for_each(|idx| drop(model.remove(idx)));
            }
            Op::RemoveRange(start, count) => {
                list.remove_range(start, count, limits);
                let start = start.min(model.len());
                model.drain(start..(start + count).min(model.len()));
            }
            Op::Trim(start, count) => {
                list.trim(start, count, limits);
                model.drain(..start.min(model.len()));
                model.truncate(count);
            }
            Op::Reload => {
                let chunks: Vec<_> = match list.as_quicklist() {
                    Some(quicklist) => quicklist.chunks().cloned().collect(),
                    None => list.as_listpack().map(|listpack| Chunk::Packed(listpack.clone())).into_iter().collect(),
                };
                *list = List::from_chunks(chunks, limits);
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_deque(
            ops in prop::collection::vec(op(), 0..60),
            max_listpack_size in prop_oneof![Just(-1), 0..12_i32],
            plain_bytes in prop_oneof![Just(usize::MAX), Just(100)],
        ) {
            let limits = ListLimits { max_listpack_size, plain_bytes };
            let (mut list, mut model) = (List::new(), VecDeque::new());
            for op in ops {
                apply(&mut list, &mut model, op, &limits);
                check(&list, &model);
                if let Some(listpack) = list.as_listpack() {
                    prop_assert!(max_listpack_size < 0 || listpack.len() <= max_listpack_size.max(1) as usize);
                }
            }
            check(&list.clone(), &model);
        }
    }

    #[test]
    fn encodings_change_where_redis_changes_them() {
        let limits = ListLimits { max_listpack_size: 4, ..ListLimits::default() };
        let mut list = List::new();
        (0..4).for_each(|_| list.push(End::Tail, b"v", &limits));
        assert_eq!(list.encoding_name(), "listpack");
        list.push(End::Tail, b"v", &limits);
        assert_eq!(list.encoding_name(), "quicklist");
        list.remove_end(End::Tail, 2, &limits);
        assert_eq!(list.encoding_name(), "quicklist");
        list.remove_end(End::Tail, 1, &limits);
        assert_eq!(list.encoding_name(), "listpack");

        let limits = ListLimits { max_listpack_size: -1, ..ListLimits::default() };
        let mut list = List::new();
        list.push(End::Tail, &[b'x'; 4089], &limits);
        assert_eq!(list.encoding_name(), "listpack");
        list.set(0, &[b'x'; 4090], &limits);
        assert_eq!(list.encoding_name(), "quicklist");
    }

    #[test]
    fn both_ends_of_a_long_list_are_cheap() {
        let limits = ListLimits::default();
        let mut list = List::new();
        for idx in 0..100_000_u32 {
            list.push(End::Tail, idx.to_string().as_bytes(), &limits);
        }
        assert!(list.memory_bytes(usize::MAX) < 700_000, "{}", list.memory_bytes(usize::MAX));
        assert_eq!(list.get(77_777).map(Element::to_vec), Some(b"77777".to_vec()));
        for idx in 0..100_000_u32 {
            assert_eq!(list.pop(End::Head, &limits), Some(idx.to_string().into_bytes()));
        }
        assert_eq!(list.encoding_name(), "listpack");
    }
}
