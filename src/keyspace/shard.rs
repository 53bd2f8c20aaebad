//! One shard: its part of every database, and what hangs on its keys.

use crate::clients::Client;
use crate::keyspace::Key;
use crate::keyspace::value::{Entry, Typed};
use crate::keyspace::waiters::Waiters;
use crate::keyspace::walk::Walk;
use crate::util::id_map::IdMap;
use redstart_types::deadlines::Deadlines;
use redstart_types::seed::HashSeed;
use redstart_types::table::{Keyed, Place, Table, hash_key};
use redstart_types::zset::ZSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A shard's part of all databases. Behind one lock.
#[derive(Debug)]
pub struct Shard {
    pub dbs: Vec<ShardDb>,
    /// Waiters whose keys are not all in this shard: serving them takes every lock.
    pub cross_shard_waiters: usize,
    /// Entries of all `watchers`, over all databases. 0: writers need not look.
    pub watched: usize,
}

/// A client that watches a key.
#[derive(Debug)]
pub struct Watcher {
    pub client: Arc<Client>,
    /// The number of its WATCH.
    pub watch: u64,
    /// The key was there but its time was over: its deletion is no change.
    pub was_over: bool,
}

/// A shard's part of one database.
#[derive(Debug)]
pub struct ShardDb {
    /// Changed only by methods of this type, which know of a walk.
    pub keys: Table<Entry>,
    /// (expire_at_ms, hash) of every key that expires, but those below.
    expires: Deadlines,
    /// expire_at_ms and name of those that the table has no room for among the very many of one hash.
    crowded_expires: BTreeSet<(i64, Box<[u8]>)>,
    /// Keys of sorted sets that have, or had, something left to be swept.
    unswept: BTreeSet<Box<[u8]>>,
    /// Clients blocked on keys.
    pub waiters: Waiters,
    /// Who watches which key (WATCH), by client id: no more than clients have named, and each only until it is told.
    pub watchers: BTreeMap<Box<[u8]>, IdMap<Watcher>>,
    /// The mark of entries that no walk has to come to.
    pub(super) epoch: bool,
    /// A snapshot's walk, while one is under way.
    pub(super) walk: Option<Box<Walk>>,
}

impl Shard {
    /// An empty shard of `databases` databases.
    pub fn new(databases: usize, seed: &HashSeed) -> Self {
        let dbs = (0..databases).map(|_| ShardDb::new(seed)).collect();
        Shard { dbs, cross_shard_waiters: 0, watched: 0 }
    }
}

impl ShardDb {
    fn new(seed: &HashSeed) -> Self {
        ShardDb {
            keys: Table::new(seed),
            expires: Deadlines::new(),
            crowded_expires: BTreeSet::new(),
            unswept: BTreeSet::new(),
            waiters: Waiters::default(),
            watchers: BTreeMap::new(),
            epoch: false,
            walk: None,
        }
    }

    /// How many keys expire.
    pub fn expires_len(&self) -> usize {
        self.expires.len() + self.crowded_expires.len()
    }

    /// The key that expires first, and when (Unix ms).
    pub fn first_to_expire(&self) -> Option<(i64, &Entry)> {
        let by_hash = self.expires.first();
        let crowded = self.crowded_expires.first();
        if let Some((at, name)) = crowded
            && by_hash.is_none_or(|(other, _)| *at < other)
        {
            return Some((*at, self.named(name)?));
        }
        let (at, hash) = by_hash?;
        Some((at, self.of_record(at, hash)?))
    }

    /// Up to `limit` keys, those that expire first.
    pub fn expiring_first(&self, limit: usize) -> impl Iterator<Item = &Entry> {
        let by_hash = self.expires.iter().take(limit).filter_map(|(at, hash)| self.of_record(at, hash));
        let left = limit.saturating_sub(self.expires.len());
        by_hash.chain(self.crowded_expires.iter().take(left).filter_map(|(_, name)| self.named(name)))
    }

    /// Sum and number of the times left of up to `limit` keys that expire first, for INFO's avg_ttl.
    pub fn sample_ttl_ms(&self, now_ms: i64, limit: usize) -> (i64, i64) {
        let times = self.expires.iter().map(|(at, _)| at).chain(self.crowded_expires.iter().map(|(at, _)| *at));
        let left = times.take(limit).map(|at| at.saturating_sub(now_ms).max(0));
        left.fold((0_i64, 0), |(sum, count), ttl| (sum.saturating_add(ttl), count + 1))
    }

    /// Adds an entry whose key is not there yet.
    pub fn insert(&mut self, hash: u64, mut entry: Entry) {
        entry.set_marked(self.epoch);
        self.note_arrival(&entry);
        let expire_at_ms = entry.expire_at_ms();
        let place = self.keys.insert(hash, entry);
        if let Some(at) = expire_at_ms {
            self.note_expiry(at, hash, place);
        }
    }

    /// Takes a key out, to be put in again elsewhere.
    pub fn take(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        let mut entry = self.keys.remove(hash, key)?;
        self.forget_expiry(Key { bytes: key, hash }, entry.expire_at_ms());
        self.preserve_taken(&mut entry);
        Some(entry)
    }

    /// Takes a key out whose value is not wanted any more: None if there is none, else its entry to be freed, unless
    /// a walk has taken it.
    pub fn discard(&mut self, hash: u64, key: &[u8]) -> Option<Option<Entry>> {
        let entry = self.keys.remove(hash, key)?;
        self.forget_expiry(Key { bytes: key, hash }, entry.expire_at_ms());
        Some(self.give_taken(entry))
    }

    /// The entry at a place that has just been found, to change it.
    #[inline]
    pub fn entry_mut(&mut self, place: Place) -> &mut Entry {
        self.preserve(place);
        self.keys.at_mut(place)
    }

    /// The same, to change what does not count as a change: the LRU field.
    #[inline]
    pub fn touched_entry_mut(&mut self, place: Place) -> &mut Entry {
        self.keys.at_mut(place)
    }

    /// Notes that an entry's expiry has changed from `before` to `after` (Unix ms).
    pub fn expiry_changed(&mut self, key: Key<'_>, before: Option<i64>, after: Option<i64>) {
        if before == after {
            return;
        }
        self.forget_expiry(key, before);
        if let Some(at) = after
            && let Some(place) = self.keys.locate(key.hash, key.bytes)
        {
            self.note_expiry(at, key.hash, place);
        }
    }

    /// Tells who watches a key that it has changed. Those who know need not be told again: how many are taken out.
    #[cold]
    pub fn tell_watchers(&mut self, key: Key<'_>) -> usize {
        let Some(watchers) = self.watchers.get_mut(key.bytes) else { return 0 };
        let is_there = self.keys.get(key.hash, key.bytes).is_some();
        let before = watchers.len();
        watchers.retain(|_, watcher| {
            if std::mem::take(&mut watcher.was_over) && !is_there {
                return true;
            }
            watcher.client.note_change(watcher.watch);
            false
        });
        let left = watchers.len();
        if left == 0 {
            self.watchers.remove(key.bytes);
        }
        before - left
    }

    /// Takes everything out, for the caller to free; waiters and watchers stay.
    pub fn take_keys(&mut self) -> Table<Entry> {
        self.expires.clear();
        self.crowded_expires.clear();
        self.unswept.clear();
        let empty = Table::new(self.keys.seed());
        let keys = std::mem::replace(&mut self.keys, empty);
        self.give_all(keys)
    }

    /// Exchanges the keys of two databases; waiters and watchers stay with theirs.
    pub fn swap_keys(&mut self, other: &mut ShardDb) {
        std::mem::swap(&mut self.keys, &mut other.keys);
        std::mem::swap(&mut self.expires, &mut other.expires);
        std::mem::swap(&mut self.crowded_expires, &mut other.crowded_expires);
        std::mem::swap(&mut self.unswept, &mut other.unswept);
        std::mem::swap(&mut self.walk, &mut other.walk);
    }

    /// Notes that the sorted set at a key has something left to be swept ([`ZSet::has_dead`]).
    pub fn sweep_later(&mut self, key: &[u8]) {
        self.unswept.insert(key.into());
    }

    /// Sweeps `buckets` buckets of one of the sorted sets in which dead members are left; false when none has, or may be swept
    /// now. Looks at the names of all of them, each of which stands for more than a thousand members.
    pub fn sweep(&mut self, buckets: usize) -> bool {
        let mut has_swept = false;
        let keys = &mut self.keys;
        self.unswept.retain(|name| {
            if has_swept {
                return true;
            }
            let hash = hash_key(keys.seed(), name);
            let Some(zset) = keys.get_mut(hash, name).and_then(Entry::object_mut).and_then(ZSet::of_mut) else {
                return false;
            };
            has_swept = zset.sweep(buckets);
            zset.has_dead()
        });
        has_swept
    }

    fn note_expiry(&mut self, at: i64, hash: u64, place: Place) {
        if place.is_crowded_out() {
            self.crowded_expires.insert((at, self.keys.at(place).key().into()));
        } else {
            self.expires.insert(at, hash);
        }
    }

    fn forget_expiry(&mut self, key: Key<'_>, at: Option<i64>) {
        let Some(at) = at else { return };
        let is_crowded = !self.crowded_expires.is_empty() && self.crowded_expires.remove(&(at, key.bytes.into()));
        if !is_crowded {
            self.expires.remove(at, key.hash);
        }
    }

    /// A key that a record of `expires` stands for.
    fn of_record(&self, at: i64, hash: u64) -> Option<&Entry> {
        let is_it = |entry: &Entry| entry.expire_at_ms() == Some(at) && hash_key(self.keys.seed(), entry.key()) == hash;
        self.keys.find_by_hash(hash, is_it)
    }

    fn named(&self, name: &[u8]) -> Option<&Entry> {
        self.keys.get(hash_key(self.keys.seed(), name), name)
    }
}
