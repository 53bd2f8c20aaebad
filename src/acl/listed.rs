//! The words of a rule set: key patterns, channels, rules, passwords.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

/// Words and what is known of each: found by word in O(log n), shown in the order in which they were added. As many as
/// ACL SETUSER and ACL files have named.
#[derive(Debug, Clone)]
pub(super) struct Listed<W, V> {
    by_word: BTreeMap<W, (u64, V)>,
    /// Words ever added.
    added: u64,
}

impl<W, V> Default for Listed<W, V> {
    fn default() -> Self {
        Listed { by_word: BTreeMap::new(), added: 0 }
    }
}

impl<W: Ord, V> Listed<W, V> {
    /// What is known of a word; where it is not there yet, `value`, and it stands behind the others.
    pub(super) fn add(&mut self, word: W, value: V) -> &mut V {
        match self.by_word.entry(word) {
            Entry::Occupied(known) => &mut known.into_mut().1,
            Entry::Vacant(place) => {
                self.added += 1;
                &mut place.insert((self.added, value)).1
            }
        }
    }

    /// Takes a word out; whether it was there.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, word: &Q) -> bool
    where
        W: std::borrow::Borrow<Q>,
    {
        self.by_word.remove(word).is_some()
    }

    /// Whether a word is there.
    pub(super) fn contains<Q: Ord + ?Sized>(&self, word: &Q) -> bool
    where
        W: std::borrow::Borrow<Q>,
    {
        self.by_word.contains_key(word)
    }

    /// All of them, sorted.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&W, &V)> {
        self.by_word.iter().map(|(word, (_, value))| (word, value))
    }

    /// All of them, in the order in which they were added.
    pub(super) fn in_order(&self) -> Vec<(&W, &V)> {
        let mut all: Vec<_> = self.by_word.iter().collect();
        all.sort_unstable_by_key(|(_, (added, _))| *added);
        all.into_iter().map(|(word, (_, value))| (word, value)).collect()
    }

    /// Takes all out.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<V> Listed<Vec<u8>, V> {
    /// Takes out all words that begin with `begin`.
    pub(super) fn remove_all(&mut self, begin: &[u8]) {
        let found = self.by_word.range::<[u8], _>((Bound::Included(begin), Bound::Unbounded)).map(|(word, _)| word);
        let gone: Vec<Vec<u8>> = found.take_while(|word| word.starts_with(begin)).cloned().collect();
        for word in gone {
            self.by_word.remove(&word);
        }
    }
}
