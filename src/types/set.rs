//! Sets of byte strings.
//!
//! | encoding | layout | while |
//! |---|---|---|
//! | `intset` | sorted integers | all members are integers, at most `set-max-intset-entries` |
//! | `listpack` | members in order of arrival | at most `set-max-listpack-entries`, none beyond `set-max-listpack-value` |
//! | `hashtable` | a [`Table`] of one allocation a member | else |
//!
//! The names are those OBJECT ENCODING answers. A set only ever moves down this list, but for the results of commands
//! ([`Set::compact`], [`Set::rebuild`]).
//! Source: Redis 7.2 SADD and its family.

use rand::RngCore;
use std::cell::RefCell;
use std::sync::Arc;

use crate::encoding::intset::IntSet;
use crate::encoding::listpack::{Element, Listpack};
use crate::encoding::thin::Thin;
use crate::encoding::word::{Either, Form, OddBox};
use crate::frozen::{Frozen, Kept};
use crate::number::parse_int;
use crate::seed::HashSeed;
use crate::table::{Keyed, Table, hash_key};

/// When a set changes its encoding, and how its table hashes from then on.
#[derive(Clone, Copy, Debug)]
pub struct SetLimits {
    /// `set-max-intset-entries`
    pub max_intset_entries: usize,
    /// `set-max-listpack-entries`
    pub max_listpack_entries: usize,
    /// `set-max-listpack-value`, in bytes.
    pub max_listpack_value: usize,
    /// The server's secret seed.
    pub hash_seed: HashSeed,
}

/// A set of byte strings.
#[derive(Clone, Debug)]
pub struct Set {
    word: Either<Small, OddBox<Members>, 1>,
}

type Small = Either<Listpack, IntSet, 2>;

/// A set, or a view of one, by its encoding.
enum Encoding<I, L, T> {
    IntSet(I),
    Listpack(L),
    Table(T),
}

/// The members of a big set.
#[derive(Debug)]
struct Members {
    table: Table<Member>,
    /// What the members have allocated.
    members_bytes: usize,
    /// The members as they were at the instant of a snapshot, while that is under way.
    frozen: Option<Box<Frozen<()>>>,
}

#[derive(Debug)]
struct Member(Thin);

impl Keyed for Member {
    #[inline]
    fn key(&self) -> &[u8] {
        self.0.bytes()
    }

    fn bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    #[inline]
    fn prefetch(&self) {
        self.0.prefetch();
    }
}

/// Redis's intsets end here, whatever the directive says.
const INTSET_ENTRIES: usize = 1 << 30;

impl Set {
    pub fn new_intset() -> Self {
        Self::intset(IntSet::new())
    }

    pub fn new_listpack() -> Self {
        Self::listpack(Listpack::new())
    }

    /// An empty set, in the encoding Redis chooses for one about to receive `len` members, `first` the first.
    pub fn for_members(first: &[u8], len: usize, limits: &SetLimits) -> Self {
        if len <= limits.max_intset_entries && parse_int(first).is_some() {
            Self::new_intset()
        } else if len <= limits.max_listpack_entries {
            Self::new_listpack()
        } else {
            Self::table(Members::new(&limits.hash_seed))
        }
    }

    /// Takes over an intset from a file or a client.
    pub fn from_intset(members: IntSet, limits: &SetLimits) -> Self {
        let mut set = Self::intset(members);
        set.expect_members(set.len(), limits);
        set
    }

    /// Takes over a listpack from a file or a client; `None` when a member is in it twice.
    pub fn from_listpack(members: Listpack, limits: &SetLimits) -> Option<Self> {
        if has_duplicates(members.iter()) {
            return None;
        }
        let mut set = Self::listpack(members);
        set.expect_members(set.len(), limits);
        Some(set)
    }

    /// Changes the encoding ahead when `len` members are about to come in and are too many for it.
    pub fn expect_members(&mut self, len: usize, limits: &SetLimits) {
        let too_many = match self.encoding() {
            Encoding::IntSet(_) => len > limits.max_intset_entries,
            Encoding::Listpack(_) => len > limits.max_listpack_entries,
            Encoding::Table(_) => false,
        };
        if too_many {
            self.make_table(limits);
        }
    }

    /// Moves a table's members into a new set, which may be a listpack again. A frozen one stays what it is.
    pub fn rebuild(&mut self, limits: &SetLimits) {
        if matches!(self.encoding(), Encoding::Table(_)) && self.frozen().is_none() {
            let mut rebuilt = Self::new_listpack();
            self.iter().for_each(|member| {
                rebuilt.insert_element(member, limits);
            });
            *self = rebuilt;
        }
    }

    /// Becomes an intset if all members are integers and few enough: for the results of set algebra.
    pub fn compact(&mut self, limits: &SetLimits) {
        if matches!(self.encoding(), Encoding::IntSet(_)) || self.len() > limits.max_intset_entries.min(INTSET_ENTRIES)
        {
            return;
        }
        let mut members = IntSet::new();
        for member in self.iter() {
            match member.to_int() {
                Some(value) => members.insert(value),
                None => return,
            };
        }
        *self = Self::intset(members);
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        match self.encoding() {
            Encoding::IntSet(_) => "intset",
            Encoding::Listpack(_) => "listpack",
            Encoding::Table(_) => "hashtable",
        }
    }

    pub fn as_intset(&self) -> Option<&IntSet> {
        if let Encoding::IntSet(members) = self.encoding() { Some(members) } else { None }
    }

    pub fn as_listpack(&self) -> Option<&Listpack> {
        if let Encoding::Listpack(members) = self.encoding() { Some(members) } else { None }
    }

    pub fn len(&self) -> usize {
        match self.encoding() {
            Encoding::IntSet(members) => members.len(),
            Encoding::Listpack(members) => members.len(),
            Encoding::Table(members) => members.table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self.encoding() {
            Encoding::IntSet(members) => members.is_empty(),
            Encoding::Listpack(members) => members.is_empty(),
            Encoding::Table(members) => members.table.is_empty(),
        }
    }

    /// Bytes allocated, without `size_of::<Self>()`.
    pub fn memory_bytes(&self) -> usize {
        match self.encoding() {
            Encoding::IntSet(members) => members.memory_bytes(),
            Encoding::Listpack(members) => members.memory_bytes(),
            Encoding::Table(members) => size_of::<Members>() + members.table.memory_bytes() + members.members_bytes,
        }
    }

    /// How many allocations a drop frees, about: whether to do it in the background.
    pub fn allocations(&self) -> usize {
        match self.encoding() {
            Encoding::IntSet(_) | Encoding::Listpack(_) => 1,
            Encoding::Table(members) => members.table.len(),
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        match self.encoding() {
            Encoding::IntSet(members) => parse_int(member).is_some_and(|value| members.contains(value)),
            Encoding::Listpack(members) => members.find(member, 0).is_some(),
            Encoding::Table(members) => members.table.get(members.hash(member), member).is_some(),
        }
    }

    /// As [`Self::contains`], for a member of another set.
    pub fn contains_element(&self, member: Element<'_>) -> bool {
        match (self.encoding(), member) {
            (Encoding::IntSet(members), Element::Int(value)) => members.contains(value),
            _ => self.contains(member.text(&mut itoa::Buffer::new())),
        }
    }

    /// Adds `member` and answers whether it is new.
    pub fn insert(&mut self, member: &[u8], limits: &SetLimits) -> bool {
        match self.encoding_mut() {
            Encoding::IntSet(members) => {
                let Some(value) = parse_int(member) else {
                    self.make_room_for_text(member, limits);
                    return self.insert(member, limits);
                };
                let added = members.insert(value);
                if added && members.len() > limits.max_intset_entries.min(INTSET_ENTRIES) {
                    self.make_table(limits);
                }
                added
            }
            Encoding::Listpack(members) => {
                if members.find(member, 0).is_some() {
                    return false;
                }
                let fits = members.len() < limits.max_listpack_entries
                    && member.len() <= limits.max_listpack_value
                    && members.has_room_for(member.len());
                if fits {
                    members.push_back(member);
                } else {
                    self.make_table(limits).insert(member);
                }
                true
            }
            Encoding::Table(members) => members.insert(member),
        }
    }

    /// As [`Self::insert`], for a member of another set.
    pub fn insert_element(&mut self, member: Element<'_>, limits: &SetLimits) -> bool {
        self.insert(member.text(&mut itoa::Buffer::new()), limits)
    }

    /// Takes `member` out and answers whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.encoding_mut() {
            Encoding::IntSet(members) => parse_int(member).is_some_and(|value| members.remove(value)),
            Encoding::Listpack(members) => {
                let found = members.find(member, 0);
                found.map(|cursor| members.remove(cursor)).is_some()
            }
            Encoding::Table(members) => members.remove(member),
        }
    }

    /// As [`Self::remove`], for a member of another set.
    pub fn remove_element(&mut self, member: Element<'_>) -> bool {
        self.remove(member.text(&mut itoa::Buffer::new()))
    }

    /// All members: ascending in an intset, in order of arrival in a listpack, in no order in a table.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        match self.encoding() {
            Encoding::IntSet(members) => OneOf::A(members.iter().map(Element::Int)),
            Encoding::Listpack(members) => OneOf::B(members.iter()),
            Encoding::Table(members) => OneOf::C(members.table.iter().map(|member| Element::Bytes(member.key()))),
        }
    }

    /// A member, each with the same chance.
    pub fn random(&self, rng: &mut impl RngCore) -> Option<Element<'_>> {
        let below = |rng: &mut dyn RngCore, len: usize| ((u128::from(rng.next_u64()) * len as u128) >> 64) as usize;
        match self.encoding() {
            Encoding::IntSet(members) => members.get(below(rng, members.len())).map(Element::Int),
            Encoding::Listpack(members) => members.get(below(rng, members.len()) as i64),
            Encoding::Table(members) => members.table.random(rng).map(|member| Element::Bytes(member.key())),
        }
    }

    /// Takes a random member out.
    pub fn pop_random(&mut self, rng: &mut impl RngCore) -> Option<Vec<u8>> {
        let member = self.random(rng)?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// One step of SSCAN: shows some members to `visit` and returns the next cursor, 0 at the end. Each member that
    /// is there from the first step to the last is shown at least once. All but a table is shown at once.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Element<'_>)) -> u64 {
        match self.encoding() {
            Encoding::Table(members) => members.table.scan(cursor, |member| visit(Element::Bytes(member.key()))),
            Encoding::IntSet(_) | Encoding::Listpack(_) => {
                self.iter().for_each(visit);
                0
            }
        }
    }

    /// Keeps the members of a big set as they are now, to be given out by [`Set::frozen_step`]; false if it is packed,
    /// and so cheap to copy.
    pub fn freeze(&mut self, id: u64, kept: &Arc<Kept>) -> bool {
        let Encoding::Table(members) = self.encoding_mut() else { return false };
        members.frozen = Some(Box::new(Frozen::new(id, members.table.len(), kept.clone())));
        true
    }

    /// What [`Set::freeze`] keeps.
    pub fn frozen(&self) -> Option<&Frozen<()>> {
        let Encoding::Table(members) = self.encoding() else { return None };
        members.frozen.as_deref()
    }

    /// Gives out some members as they were; false once all have been. Then the set is no longer frozen.
    pub fn frozen_step(&mut self, visit: impl FnMut(&[u8])) -> bool {
        let Encoding::Table(members) = self.encoding_mut() else { return false };
        let Some(mut frozen) = members.frozen.take() else { return false };
        let visit = RefCell::new(visit);
        let more = frozen.step(
            &members.table,
            |member| visit.borrow_mut()(member.key()),
            |member, ()| visit.borrow_mut()(member),
        );
        members.frozen = more.then_some(frozen);
        more
    }

    fn intset(members: IntSet) -> Self {
        Self { word: Either::packed(Small::big(members)) }
    }

    fn listpack(members: Listpack) -> Self {
        Self { word: Either::packed(Small::packed(members)) }
    }

    fn table(members: Members) -> Self {
        Self { word: Either::big(OddBox::new(members)) }
    }

    #[inline]
    fn encoding(&self) -> Encoding<&IntSet, &Listpack, &Members> {
        match self.word.form() {
            Form::Packed(small) => match small.form() {
                Form::Packed(members) => Encoding::Listpack(members),
                Form::Big(members) => Encoding::IntSet(members),
            },
            Form::Big(members) => Encoding::Table(members),
        }
    }

    #[inline]
    fn encoding_mut(&mut self) -> Encoding<&mut IntSet, &mut Listpack, &mut Members> {
        match self.word.form_mut() {
            Form::Packed(small) => match small.form_mut() {
                Form::Packed(members) => Encoding::Listpack(members),
                Form::Big(members) => Encoding::IntSet(members),
            },
            Form::Big(members) => Encoding::Table(members),
        }
    }

    /// Leaves the intset, for a listpack if the integers and `member` may be in one.
    fn make_room_for_text(&mut self, member: &[u8], limits: &SetLimits) {
        let Encoding::IntSet(members) = self.encoding() else {
            return;
        };
        let longest = [members.iter().next(), members.iter().next_back()];
        let longest = longest.into_iter().flatten().map(|value| Element::Int(value).text_len()).max().unwrap_or(0);
        let fits = members.len() < limits.max_listpack_entries
            && member.len().max(longest) <= limits.max_listpack_value
            && Listpack::new().has_room_for(members.len() * 10 + member.len());
        if fits {
            let mut listpack = Listpack::new();
            members.iter().for_each(|value| listpack.push_back(value));
            *self = Self::listpack(listpack);
        } else {
            self.make_table(limits);
        }
    }

    fn make_table(&mut self, limits: &SetLimits) -> &mut Members {
        if !matches!(self.encoding(), Encoding::Table(_)) {
            let mut members = Members::new(&limits.hash_seed);
            let mut buffer = itoa::Buffer::new();
            self.iter().for_each(|member| {
                members.insert(member.text(&mut buffer));
            });
            *self = Self::table(members);
        }
        match self.encoding_mut() {
            Encoding::Table(members) => members,
            _ => unreachable!("it has just been made a table"),
        }
    }
}

impl Members {
    fn new(hash_seed: &HashSeed) -> Self {
        Self { table: Table::new(hash_seed), members_bytes: 0, frozen: None }
    }

    fn hash(&self, member: &[u8]) -> u64 {
        hash_key(self.table.seed(), member)
    }

    fn insert(&mut self, member: &[u8]) -> bool {
        let hash = self.hash(member);
        let is_new = self.table.get(hash, member).is_none();
        if is_new {
            if let Some(frozen) = &mut self.frozen {
                frozen.note(hash, member, || None);
            }
            let member = Thin::concat(&[member]);
            self.members_bytes += member.memory_bytes();
            self.table.insert(hash, Member(member));
        }
        is_new
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let hash = self.hash(member);
        if let Some(frozen) = &mut self.frozen {
            frozen.note(hash, member, || self.table.get(hash, member).map(|_| ()));
        }
        let removed = self.table.remove(hash, member);
        self.members_bytes -= removed.as_ref().map_or(0, |member| member.0.memory_bytes());
        removed.is_some()
    }
}

impl Clone for Members {
    fn clone(&self) -> Self {
        let mut clone = Self { table: Table::new(self.table.seed()), members_bytes: self.members_bytes, frozen: None };
        for member in self.table.iter() {
            clone.table.insert(clone.hash(member.key()), Member(member.0.clone()));
        }
        clone
    }
}

/// Whether a text is among `elements` twice, be it as integer or as bytes.
pub(crate) fn has_duplicates<'a>(elements: impl Iterator<Item = Element<'a>>) -> bool {
    let mut texts: Vec<_> = elements.map(|element| element.to_int().map_or(element, Element::Int)).collect();
    texts.sort_unstable_by(|a, b| match (a, b) {
        (Element::Int(a), Element::Int(b)) => a.cmp(b),
        (Element::Bytes(a), Element::Bytes(b)) => a.cmp(b),
        (Element::Int(_), Element::Bytes(_)) => std::cmp::Ordering::Less,
        (Element::Bytes(_), Element::Int(_)) => std::cmp::Ordering::Greater,
    });
    texts.windows(2).any(|pair| pair[0] == pair[1])
}

/// One of three iterators.
enum OneOf<A, B, C> {
    A(A),
    B(B),
    C(C),
}

impl<T, A, B, C> Iterator for OneOf<A, B, C>
where
    A: Iterator<Item = T>,
    B: Iterator<Item = T>,
    C: Iterator<Item = T>,
{
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            Self::A(iter) => iter.next(),
            Self::B(iter) => iter.next(),
            Self::C(iter) => iter.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn limits(max_intset_entries: usize, max_listpack_entries: usize, max_listpack_value: usize) -> SetLimits {
        SetLimits { max_intset_entries, max_listpack_entries, max_listpack_value, hash_seed: HashSeed::new([11, 12]) }
    }

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            5 => (-30_i64..30).prop_map(|n| n.to_string().into_bytes()),
            1 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            2 => "[a-d]{0,2}".prop_map(String::into_bytes),
            1 => (0..90_usize).prop_map(|len| vec![b'x'; len]),
        ]
    }

    fn contents(set: &Set) -> BTreeSet<Vec<u8>> {
        let members: BTreeSet<_> = set.iter().map(Element::to_vec).collect();
        assert_eq!((members.len(), members.is_empty()), (set.len(), set.is_empty()));
        members
    }

    fn scanned(set: &Set) -> BTreeSet<Vec<u8>> {
        let (mut cursor, mut members) = (0, BTreeSet::new());
        loop {
            cursor = set.scan(cursor, |member| {
                members.insert(member.to_vec());
            });
            if cursor == 0 {
                return members;
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_set(
            ops in prop::collection::vec((0..5_u8, member()), 0..120),
            only_integers in any::<bool>(),
            max in (0..20_usize, 0..30_usize, 2..64_usize),
        ) {
            let limits = limits(max.0, max.1, max.2);
            let (mut set, mut model) = (Set::for_members(b"1", 1, &limits), BTreeSet::new());
            let mut rng = SmallRng::seed_from_u64(1);
            for (op, member) in ops {
                if only_integers && parse_int(&member).is_none() {
                    continue;
                }
                match op {
                    0..=2 => prop_assert_eq!(set.insert(&member, &limits), model.insert(member.clone())),
                    3 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                    _ => match set.pop_random(&mut rng) {
                        Some(member) => prop_assert!(model.remove(&member)),
                        None => prop_assert!(model.is_empty()),
                    },
                }
                prop_assert_eq!(set.contains(&member), model.contains(&member));
                prop_assert_eq!(set.contains_element(Element::from(&member[..])), model.contains(&member));
                prop_assert_eq!(&contents(&set), &model);
            }
            prop_assert_eq!(&scanned(&set), &model);
            let mut copy = set.clone();
            copy.compact(&limits);
            prop_assert_eq!(&contents(&copy), &model);
            let integers = model.iter().all(|member| parse_int(member).is_some());
            prop_assert!(copy.as_intset().is_some() || !integers || model.len() > limits.max_intset_entries);
            if let Some(listpack) = set.as_listpack() {
                let again = Set::from_listpack(listpack.clone(), &limits).expect("no member twice");
                prop_assert_eq!(&contents(&again), &model);
            }
        }
    }

    #[test]
    fn encodings_change_where_redis_changes_them() {
        let limits = limits(3, 4, 5);
        let encoding = |members: &[&str]| {
            let mut set = Set::for_members(members[0].as_bytes(), 1, &limits);
            members.iter().for_each(|member| assert!(set.insert(member.as_bytes(), &limits)));
            set.encoding_name()
        };
        assert_eq!(encoding(&["1", "2", "3"]), "intset");
        assert_eq!(encoding(&["1", "2", "3", "4"]), "hashtable");
        assert_eq!(encoding(&["1", "2", "3", "a"]), "listpack");
        assert_eq!(encoding(&["a", "1", "2", "3", "4"]), "hashtable");
        assert_eq!(encoding(&["a", "abcde"]), "listpack");
        assert_eq!(encoding(&["a", "abcdef"]), "hashtable");
        assert_eq!(encoding(&["123456", "a"]), "hashtable");
        assert_eq!(Set::for_members(b"1", 4, &limits).encoding_name(), "listpack");
        assert_eq!(Set::for_members(b"1", 5, &limits).encoding_name(), "hashtable");
    }

    #[test]
    fn a_listpack_with_a_member_twice_is_refused() {
        let mut listpack = Listpack::new();
        listpack.push_back(5);
        listpack.push_back(Element::Bytes(b"5"));
        assert!(Set::from_listpack(listpack, &limits(3, 4, 5)).is_none());
    }

    #[test]
    fn a_big_set_is_small() {
        let limits = limits(512, 128, 64);
        let mut set = Set::for_members(b"a", 1, &limits);
        for idx in 0..100_000_u32 {
            set.insert(format!("member:{idx:09}").as_bytes(), &limits);
        }
        assert!(set.memory_bytes() < 100_000 * 34, "{}", set.memory_bytes());
        assert_eq!(scanned(&set).len(), 100_000);
        let copy = set.clone();
        assert!(copy.iter().all(|member| set.contains_element(member)));
        assert_eq!(copy.len(), set.len());
    }
}
