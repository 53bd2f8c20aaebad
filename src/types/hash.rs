//! Hashes: fields, each with a value.
//!
//! | encoding | layout | while |
//! |---|---|---|
//! | `listpack` | fields and values in turn, in order of arrival | at most `hash-max-listpack-entries` fields, no text beyond `hash-max-listpack-value` |
//! | `hashtable` | a [`Table`] of one allocation for field and value | else |
//!
//! The names are those OBJECT ENCODING answers. A hash never goes back to a listpack.
//! Source: Redis 7.2 HSET and its family.

use rand::RngCore;
use std::cell::RefCell;
use std::sync::Arc;

use crate::encoding::listpack::{Element, Listpack};
use crate::encoding::thin::Thin;
use crate::encoding::word::{Either, Form, OddBox};
use crate::frozen::{Frozen, Kept};
use crate::seed::HashSeed;
use crate::set::has_duplicates;
use crate::table::{Keyed, Table, hash_key};

/// When a hash stops being a listpack, and how its table hashes from then on.
#[derive(Clone, Copy, Debug)]
pub struct HashLimits {
    /// `hash-max-listpack-entries`, in fields.
    pub max_listpack_entries: usize,
    /// `hash-max-listpack-value`, in bytes.
    pub max_listpack_value: usize,
    /// The server's secret seed.
    pub hash_seed: HashSeed,
}

/// Fields with values.
#[derive(Clone, Debug)]
pub struct Hash {
    encoding: Encoding,
}

type Encoding = Either<Listpack, OddBox<Fields>, 1>;

/// The fields of a big hash.
#[derive(Debug)]
struct Fields {
    table: Table<Field>,
    /// What the fields have allocated.
    fields_bytes: usize,
    /// The fields as they were at the instant of a snapshot, while that is under way.
    frozen: Option<Box<Frozen<Box<[u8]>>>>,
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash {
    pub fn new() -> Self {
        Self { encoding: Encoding::packed(Listpack::new()) }
    }

    /// Takes over a listpack from a file or a client; `None` when a value is missing or a field is in it twice.
    pub fn from_listpack(fields: Listpack, limits: &HashLimits) -> Option<Self> {
        if !fields.len().is_multiple_of(2) || has_duplicates(fields.iter().step_by(2)) {
            return None;
        }
        let mut hash = Self { encoding: Encoding::packed(fields) };
        if hash.len() > limits.max_listpack_entries {
            hash.make_table(limits);
        }
        Some(hash)
    }

    /// Changes the encoding ahead when the texts about to come in, `len` fields and as many values, do not fit a
    /// listpack.
    pub fn expect<'t>(&mut self, len: usize, mut texts: impl Iterator<Item = &'t [u8]>, limits: &HashLimits) {
        let Form::Packed(fields) = self.encoding.form() else {
            return;
        };
        let mut total_bytes = 0_usize;
        let mut too_long = |text: &[u8]| {
            total_bytes = total_bytes.saturating_add(text.len());
            text.len() > limits.max_listpack_value
        };
        if len > limits.max_listpack_entries || texts.any(&mut too_long) || !fields.has_room_for(total_bytes) {
            self.make_table(limits);
        }
    }

    /// What OBJECT ENCODING answers.
    pub fn encoding_name(&self) -> &'static str {
        match self.encoding.form() {
            Form::Packed(_) => "listpack",
            Form::Big(_) => "hashtable",
        }
    }

    /// The listpack, while it is one.
    pub fn as_listpack(&self) -> Option<&Listpack> {
        if let Form::Packed(fields) = self.encoding.form() { Some(fields) } else { None }
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        match self.encoding.form() {
            Form::Packed(fields) => fields.len() / 2,
            Form::Big(fields) => fields.table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self.encoding.form() {
            Form::Packed(fields) => fields.is_empty(),
            Form::Big(fields) => fields.table.is_empty(),
        }
    }

    /// Bytes allocated, without `size_of::<Self>()`.
    pub fn memory_bytes(&self) -> usize {
        match self.encoding.form() {
            Form::Packed(fields) => fields.memory_bytes(),
            Form::Big(fields) => size_of::<Fields>() + fields.table.memory_bytes() + fields.fields_bytes,
        }
    }

    /// How many allocations a drop frees, about: whether to do it in the background.
    pub fn allocations(&self) -> usize {
        match self.encoding.form() {
            Form::Packed(_) => 1,
            Form::Big(fields) => fields.table.len(),
        }
    }

    /// The value of `field`.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        match self.encoding.form() {
            Form::Packed(fields) => {
                let value = fields.next(fields.find(field, 1)?)?;
                Some(fields.at(value))
            }
            Form::Big(fields) => fields.table.get(fields.hash(field), field).map(|field| Element::Bytes(field.value())),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        match self.encoding.form() {
            Form::Packed(fields) => fields.find(field, 1).is_some(),
            Form::Big(fields) => fields.table.get(fields.hash(field), field).is_some(),
        }
    }

    /// Gives `field` a value and answers whether the field is new.
    pub fn insert(&mut self, field: &[u8], value: &[u8], limits: &HashLimits) -> bool {
        let fields = match self.encoding.form_mut() {
            Form::Packed(fields) => fields,
            Form::Big(fields) => return fields.insert(field, value),
        };
        let fits =
            field.len().max(value.len()) <= limits.max_listpack_value && fields.has_room_for(field.len() + value.len());
        if !fits {
            return self.make_table(limits).insert(field, value);
        }
        if let Some(old) = fields.find(field, 1).and_then(|cursor| fields.next(cursor)) {
            fields.replace(old, value);
            return false;
        }
        if fields.len() / 2 >= limits.max_listpack_entries {
            return self.make_table(limits).insert(field, value);
        }
        fields.push_all_back(&[field.into(), value.into()]);
        true
    }

    /// Takes `field` out and answers whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self.encoding.form_mut() {
            Form::Packed(fields) => {
                let found = fields.find(field, 1);
                found.map(|cursor| fields.remove_many(cursor, 2)).is_some()
            }
            Form::Big(fields) => fields.remove(field),
        }
    }

    /// All fields with their values: in order of arrival in a listpack, in no order in a table.
    pub fn iter(&self) -> impl Iterator<Item = (Element<'_>, Element<'_>)> {
        let (packed, table) = match self.encoding.form() {
            Form::Packed(fields) => (Some(fields), None),
            Form::Big(fields) => (None, Some(fields)),
        };
        let packed = packed.into_iter().flat_map(|fields| {
            let mut elements = fields.iter();
            std::iter::from_fn(move || Some((elements.next()?, elements.next()?)))
        });
        let table = table.into_iter().flat_map(|fields| fields.table.iter());
        packed.chain(table.map(|field| (Element::Bytes(field.key()), Element::Bytes(field.value()))))
    }

    /// A field with its value, each with the same chance.
    pub fn random(&self, rng: &mut impl RngCore) -> Option<(Element<'_>, Element<'_>)> {
        match self.encoding.form() {
            Form::Packed(fields) => {
                let idx = ((u128::from(rng.next_u64()) * (fields.len() / 2) as u128) >> 64) as i64;
                let field = fields.seek(idx * 2)?;
                Some((fields.at(field), fields.at(fields.next(field)?)))
            }
            Form::Big(fields) => {
                let field = fields.table.random(rng)?;
                Some((Element::Bytes(field.key()), Element::Bytes(field.value())))
            }
        }
    }

    /// One step of HSCAN: shows some fields and values to `visit` and returns the next cursor, 0 at the end. Each
    /// field that is there from the first step to the last is shown at least once. A listpack is shown at once.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(Element<'_>, Element<'_>)) -> u64 {
        match self.encoding.form() {
            Form::Packed(_) => {
                self.iter().for_each(|(field, value)| visit(field, value));
                0
            }
            Form::Big(fields) => {
                fields.table.scan(cursor, |field| visit(Element::Bytes(field.key()), Element::Bytes(field.value())))
            }
        }
    }

    /// Keeps the fields of a big hash as they are now, to be given out by [`Hash::frozen_step`]; false if it is a
    /// listpack, and so cheap to copy.
    pub fn freeze(&mut self, id: u64, kept: &Arc<Kept>) -> bool {
        let Form::Big(fields) = self.encoding.form_mut() else { return false };
        fields.frozen = Some(Box::new(Frozen::new(id, fields.table.len(), kept.clone())));
        true
    }

    /// What [`Hash::freeze`] keeps.
    pub fn frozen(&self) -> Option<&Frozen<Box<[u8]>>> {
        let Form::Big(fields) = self.encoding.form() else { return None };
        fields.frozen.as_deref()
    }

    /// Gives out some fields with their values as they were; false once all have been. Then the hash is no longer
    /// frozen.
    pub fn frozen_step(&mut self, visit: impl FnMut(&[u8], &[u8])) -> bool {
        let Form::Big(fields) = self.encoding.form_mut() else { return false };
        let Some(mut frozen) = fields.frozen.take() else { return false };
        let visit = RefCell::new(visit);
        let more = frozen.step(
            &fields.table,
            |field| visit.borrow_mut()(field.key(), field.value()),
            |field, value| visit.borrow_mut()(field, value),
        );
        fields.frozen = more.then_some(frozen);
        more
    }

    fn make_table(&mut self, limits: &HashLimits) -> &mut Fields {
        if let Form::Packed(_) = self.encoding.form() {
            let mut fields = Fields { table: Table::new(&limits.hash_seed), fields_bytes: 0, frozen: None };
            let (mut digits, mut more_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
            for (field, value) in self.iter() {
                fields.insert(field.text(&mut digits), value.text(&mut more_digits));
            }
            self.encoding = Encoding::big(OddBox::new(fields));
        }
        match self.encoding.form_mut() {
            Form::Big(fields) => fields,
            Form::Packed(_) => unreachable!("it has just been made a table"),
        }
    }
}

impl Fields {
    fn hash(&self, field: &[u8]) -> u64 {
        hash_key(self.table.seed(), field)
    }

    /// To be called before a field is set or removed.
    #[inline]
    fn note(&mut self, hash: u64, name: &[u8]) {
        if let Some(frozen) = &mut self.frozen {
            frozen.note(hash, name, || self.table.get(hash, name).map(|field| field.value().into()));
        }
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) -> bool {
        let hash = self.hash(name);
        self.note(hash, name);
        match self.table.get_mut(hash, name) {
            Some(field) => {
                self.fields_bytes -= field.pair.memory_bytes();
                field.set_value(value);
                self.fields_bytes += field.pair.memory_bytes();
                false
            }
            None => {
                let field = Field::new(name, value);
                self.fields_bytes += field.pair.memory_bytes();
                self.table.insert(hash, field);
                true
            }
        }
    }

    fn remove(&mut self, name: &[u8]) -> bool {
        let hash = self.hash(name);
        self.note(hash, name);
        let removed = self.table.remove(hash, name);
        self.fields_bytes -= removed.as_ref().map_or(0, |field| field.pair.memory_bytes());
        removed.is_some()
    }
}

impl Clone for Fields {
    fn clone(&self) -> Self {
        let mut clone = Self { table: Table::new(self.table.seed()), fields_bytes: self.fields_bytes, frozen: None };
        for field in self.table.iter() {
            clone.table.insert(clone.hash(field.key()), Field { pair: field.pair.clone() });
        }
        clone
    }
}

/// A field of a big hash with its value in one allocation.
///
/// ```text
/// field length: 1 byte, or 0xFF and u32 LE | field | value
/// ```
#[derive(Debug)]
struct Field {
    pair: Thin,
}

const LONG: u8 = 0xFF;

impl Field {
    fn new(name: &[u8], value: &[u8]) -> Self {
        let pair = match u8::try_from(name.len()) {
            Ok(len) if len != LONG => Thin::concat(&[&[len], name, value]),
            _ => {
                let len = u32::try_from(name.len()).expect("a field is shorter than 4 GiB");
                Thin::concat(&[&[LONG], &len.to_le_bytes(), name, value])
            }
        };
        Self { pair }
    }

    /// Where the name begins and ends.
    #[inline]
    fn name_range(pair: &[u8]) -> (usize, usize) {
        match pair[0] {
            LONG => {
                let len = u32::from_le_bytes(*pair[1..].first_chunk().expect("`new` wrote four bytes")) as usize;
                (5, 5 + len)
            }
            len => (1, 1 + usize::from(len)),
        }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        let pair = self.pair.bytes();
        &pair[Self::name_range(pair).1..]
    }

    /// In place if the value has the length of the old one.
    fn set_value(&mut self, value: &[u8]) {
        let start = Self::name_range(self.pair.bytes()).1;
        if self.pair.bytes().len() - start == value.len() {
            self.pair.bytes_mut()[start..].copy_from_slice(value);
        } else {
            self.pair = Thin::concat(&[&self.pair.bytes()[..start], value]);
        }
    }
}

impl Keyed for Field {
    #[inline]
    fn key(&self) -> &[u8] {
        let pair = self.pair.bytes();
        let (start, end) = Self::name_range(pair);
        &pair[start..end]
    }

    fn bytes(&self) -> usize {
        self.pair.memory_bytes()
    }

    #[inline]
    fn prefetch(&self) {
        self.pair.prefetch();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn limits(max_listpack_entries: usize, max_listpack_value: usize) -> HashLimits {
        HashLimits { max_listpack_entries, max_listpack_value, hash_seed: HashSeed::new([3, 4]) }
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (-9_i64..20).prop_map(|n| n.to_string().into_bytes()),
            4 => "[a-d]{0,2}".prop_map(String::into_bytes),
            1 => prop_oneof![0..90_usize, 250_usize..260].prop_map(|len| vec![b'x'; len]),
        ]
    }

    fn contents(hash: &Hash) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let fields: BTreeMap<_, _> = hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
        assert_eq!((fields.len(), fields.is_empty()), (hash.len(), hash.is_empty()));
        fields
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_map(
            ops in prop::collection::vec((0..4_u8, text(), text()), 0..120),
            max in (0..30_usize, prop_oneof![Just(1000_usize), 0..64_usize]),
        ) {
            let limits = limits(max.0, max.1);
            let (mut hash, mut model) = (Hash::new(), BTreeMap::new());
            for (op, field, value) in ops {
                if op == 0 {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                } else {
                    let is_new = model.insert(field.clone(), value.clone()).is_none();
                    prop_assert_eq!(hash.insert(&field, &value, &limits), is_new);
                }
                prop_assert_eq!(hash.get(&field).map(Element::to_vec), model.get(&field).cloned());
                prop_assert_eq!(hash.contains(&value), model.contains_key(&value));
                prop_assert_eq!(&contents(&hash), &model);
                if let Some(listpack) = hash.as_listpack() {
                    prop_assert!(hash.len() <= max.0);
                    prop_assert!(listpack.iter().all(|element| element.text_len() <= max.1));
                }
            }
            let (mut cursor, mut scanned) = (0, BTreeMap::new());
            loop {
                cursor = hash.scan(cursor, |field, value| drop(scanned.insert(field.to_vec(), value.to_vec())));
                if cursor == 0 {
                    break;
                }
            }
            prop_assert_eq!(&scanned, &model);
            prop_assert_eq!(&contents(&hash.clone()), &model);
            let random = hash.random(&mut SmallRng::seed_from_u64(2));
            let random = random.map(|(field, value)| (field.to_vec(), value.to_vec()));
            prop_assert_eq!(random.is_none(), model.is_empty());
            prop_assert!(random.is_none_or(|(field, value)| model.get(&field) == Some(&value)));
            if let Some(listpack) = hash.as_listpack() {
                let again = Hash::from_listpack(listpack.clone(), &limits).expect("no field twice");
                prop_assert_eq!(&contents(&again), &model);
            }
        }
    }

    #[test]
    fn encodings_change_where_redis_changes_them() {
        let limits = limits(2, 5);
        let mut hash = Hash::new();
        hash.insert(b"a", b"12345", &limits);
        hash.insert(b"b", b"1", &limits);
        hash.insert(b"a", b"1", &limits);
        assert_eq!(hash.encoding_name(), "listpack");
        let mut longer = hash.clone();
        longer.insert(b"a", b"123456", &limits);
        assert_eq!(longer.encoding_name(), "hashtable");
        hash.insert(b"c", b"1", &limits);
        assert_eq!(hash.encoding_name(), "hashtable");
        hash.remove(b"c");
        assert_eq!((hash.encoding_name(), hash.len()), ("hashtable", 2));

        let mut hash = Hash::new();
        hash.expect(2, [&b"a"[..], b"1", b"b", b"2"].into_iter(), &limits);
        assert_eq!(hash.encoding_name(), "listpack");
        hash.expect(3, std::iter::empty(), &limits);
        assert_eq!(hash.encoding_name(), "hashtable");
    }

    #[test]
    fn foreign_listpacks_are_checked() {
        let mut listpack = Listpack::new();
        listpack.push_back(b"a");
        assert!(Hash::from_listpack(listpack.clone(), &limits(9, 9)).is_none());
        listpack.push_back(b"1");
        assert!(Hash::from_listpack(listpack.clone(), &limits(9, 9)).is_some());
        listpack.push_back(b"a");
        listpack.push_back(b"2");
        assert!(Hash::from_listpack(listpack, &limits(9, 9)).is_none());
    }
}
