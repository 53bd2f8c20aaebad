//! A map from numbers to values, for registers that mostly have one client under a name and sometimes very many.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

/// Values by number (a client's id, a waiter's ticket), in ascending order. One entry takes no allocation, and memory comes
/// back as entries go. Every operation on one entry is O(log n).
#[derive(Debug)]
pub enum IdMap<V> {
    /// At most one.
    Few(Option<(u64, V)>),
    /// Two and more.
    Many(BTreeMap<u64, V>),
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        IdMap::Few(None)
    }
}

impl<V> IdMap<V> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            IdMap::Few(one) => usize::from(one.is_some()),
            IdMap::Many(all) => all.len(),
        }
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry unless there is one of this number; whether it did.
    pub fn insert(&mut self, id: u64, value: V) -> bool {
        match self {
            IdMap::Few(Some((known, _))) if *known == id => false,
            IdMap::Few(one) => {
                match one.take() {
                    None => *one = Some((id, value)),
                    Some(first) => *self = IdMap::Many(BTreeMap::from([first, (id, value)])),
                }
                true
            }
            IdMap::Many(all) => match all.entry(id) {
                Entry::Occupied(_) => false,
                Entry::Vacant(place) => {
                    place.insert(value);
                    true
                }
            },
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: u64) -> Option<V> {
        match self {
            IdMap::Few(one) => one.take_if(|(known, _)| *known == id).map(|(_, value)| value),
            IdMap::Many(all) => {
                let gone = all.remove(&id);
                self.give_back();
                gone
            }
        }
    }

    /// Keeps the entries of which `keep` is true. O(n).
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut V) -> bool) {
        match self {
            IdMap::Few(one) => drop(one.take_if(|(id, value)| !keep(*id, value))),
            IdMap::Many(all) => {
                all.retain(|id, value| keep(*id, value));
                self.give_back();
            }
        }
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let (one, all) = match self {
            IdMap::Few(one) => (one.as_ref(), None),
            IdMap::Many(all) => (None, Some(all)),
        };
        let one = one.into_iter().map(|(id, value)| (*id, value));
        one.chain(all.into_iter().flatten().map(|(id, value)| (*id, value)))
    }

    /// The values in order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The first entry behind this number, or the first of all.
    pub fn after(&self, id: Option<u64>) -> Option<(u64, &V)> {
        match self {
            IdMap::Few(one) => {
                one.as_ref().filter(|(known, _)| id.is_none_or(|id| *known > id)).map(|(id, v)| (*id, v))
            }
            IdMap::Many(all) => {
                let from = id.map_or(Bound::Unbounded, Bound::Excluded);
                all.range((from, Bound::Unbounded)).next().map(|(id, value)| (*id, value))
            }
        }
    }

    /// The greatest number.
    pub fn last_id(&self) -> Option<u64> {
        match self {
            IdMap::Few(one) => one.as_ref().map(|(id, _)| *id),
            IdMap::Many(all) => all.last_key_value().map(|(id, _)| *id),
        }
    }

    fn give_back(&mut self) {
        if let IdMap::Many(all) = self
            && all.len() < 2
        {
            *self = IdMap::Few(all.pop_first());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in proptest::collection::vec((0_u8..3, 0_u64..6), 0..60)) {
            let (mut map, mut model) = (IdMap::default(), BTreeMap::new());
            for (kind, id) in steps {
                match kind {
                    0 => {
                        let is_new = !model.contains_key(&id);
                        model.entry(id).or_insert(id * 10);
                        prop_assert_eq!(map.insert(id, id * 10), is_new);
                    }
                    1 => prop_assert_eq!(map.remove(id), model.remove(&id)),
                    _ => {
                        map.retain(|other, _| other % 2 != id % 2);
                        model.retain(|other, _| other % 2 != id % 2);
                    }
                }
                let all: Vec<_> = model.iter().map(|(id, value)| (*id, value)).collect();
                prop_assert_eq!(map.iter().collect::<Vec<_>>(), all);
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(matches!(map, IdMap::Few(_)), model.len() < 2);
                prop_assert_eq!(map.last_id(), model.keys().last().copied());
                let mut at = None;
                for id in model.keys() {
                    at = map.after(at).map(|(id, _)| id);
                    prop_assert_eq!(at, Some(*id));
                }
                prop_assert!(map.after(at).is_none() || at.is_none());
            }
        }
    }
}
