//! Whole databases at once: FLUSHDB, FLUSHALL, SWAPDB. All shards are locked.

use crate::keyspace::db::Db;
use crate::keyspace::shard::{Shard, ShardDb};
use crate::keyspace::value::{Entry, kind_of};
use redstart_types::table::{Table, hash_key};

impl Db<'_, '_> {
    /// Takes every key out of this database: watchers of keys that were there are told, clients that wait for a
    /// deletion are woken. The keys, shard by shard, for the caller to free.
    pub fn take_all(&mut self) -> Vec<Table<Entry>> {
        let index = self.index;
        let (now_ms, ready) = (self.now_ms, &mut self.effects.ready);
        let take = |shard: &mut Shard| {
            let db = &mut shard.dbs[index];
            tell_watchers(db, None, now_ms);
            let gone: Vec<Box<[u8]>> =
                db.waiters.keys().filter(|name| entry(db, name).is_some()).map(Box::from).collect();
            ready.extend(gone.into_iter().filter(|name| db.waiters.mark_ready(name)).map(|name| (index, name)));
            db.take_keys()
        };
        self.locked.iter_mut().map(|(_, shard)| shard).map(take).collect()
    }

    /// Exchanges the keys of two databases. Watchers of keys that were in either are told; clients blocked on a key
    /// that has come, gone or changed its type are woken.
    pub fn swap(&mut self, one: usize, other: usize) {
        if one == other {
            return;
        }
        for (_, shard) in self.locked.iter_mut() {
            let (low, high) = (one.min(other), one.max(other));
            let (left, right) = shard.dbs.split_at_mut(high);
            let (low_db, high_db) = (&mut left[low], &mut right[0]);
            let concerned = [(&*low_db, &*high_db), (&*high_db, &*low_db)].map(|(db, replacement)| {
                tell_watchers(db, Some(replacement), self.now_ms);
                let kinds = |name: &[u8]| (entry(db, name).map(kind_of), entry(replacement, name).map(kind_of));
                let is_concerned = |name: &&[u8]| {
                    let (before, after) = kinds(name);
                    before != after || after.is_some()
                };
                db.waiters.keys().filter(is_concerned).map(Box::from).collect::<Vec<Box<[u8]>>>()
            });
            for ((index, db), names) in [(low, &mut *low_db), (high, &mut *high_db)].into_iter().zip(concerned) {
                let ready = names.into_iter().filter(|name| db.waiters.mark_ready(name)).map(|name| (index, name));
                self.effects.ready.extend(ready);
            }
            low_db.swap_keys(high_db);
        }
    }
}

/// Raises the flags of those who watch a key that is in `db`, or in what replaces it. A key whose time is over is as
/// good as gone already.
fn tell_watchers(db: &ShardDb, replacement: Option<&ShardDb>, now_ms: i64) {
    for (name, watchers) in &db.watchers {
        let lives =
            |db: &ShardDb| entry(db, name).is_some_and(|entry| entry.expire_at_ms().is_none_or(|at| at > now_ms));
        if lives(db) || replacement.is_some_and(lives) {
            watchers.values().for_each(|watcher| watcher.client.note_change(watcher.watch));
        }
    }
}

fn entry<'a>(db: &'a ShardDb, name: &[u8]) -> Option<&'a Entry> {
    db.keys.get(hash_key(db.keys.seed(), name), name)
}
