//! Who watches which key (WATCH), and what waits for shards that others hold.
//!
//! Each watched key has its watchers beside it, in its shard. While another thread holds that shard, perhaps for a script
//! that never ends, a WATCH is entered later, when that script ends; and watchers of a WATCH that has ended are taken off
//! their keys when the shards are free. Until then they do no harm: a watcher has the number of its WATCH, and speaks only
//! of that one.

use crate::clients::Client;
use crate::keyspace::Key;
use crate::keyspace::lock::{Locked, ShardSet, Shards};
use crate::keyspace::shard::Watcher;
use crate::keyspace::value::Entry;
use crate::util::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What waits for shards that others hold.
#[derive(Debug, Default)]
pub struct Watches {
    /// By client id, what was watched while a script was running: the end of the script enters it, and UNWATCH before that
    /// strikes it off. So there is no more of it than what its clients are watching.
    begun: Mutex<BTreeMap<u64, Part>>,
    /// What is to be taken off its keys: at most what was watched when the shards were last free.
    ended: Mutex<Vec<Part>>,
}

/// Some keys of one WATCH.
#[derive(Debug)]
struct Part {
    client: Arc<Client>,
    /// Its number.
    watch: u64,
    /// With their databases.
    keys: BTreeSet<(usize, Box<[u8]>)>,
}

/// Enters a client among the watchers of a key whose shard is locked. False if it is there already, for this WATCH.
pub fn enter(locked: &mut Locked<'_>, client: &Arc<Client>, watch: u64, db: usize, key: Key<'_>, now_ms: i64) -> bool {
    let shard = locked.shard_mut(key.hash);
    let part = &mut shard.dbs[db];
    let was_over = part.keys.get(key.hash, key.bytes).is_some_and(|entry| is_over(entry, now_ms));
    let watchers = part.watchers.entry(key.bytes.into()).or_default();
    let known = watchers.remove(client.id);
    shard.watched += usize::from(known.is_none());
    let known = known.filter(|known| known.watch == watch);
    let is_new = known.is_none();
    watchers.insert(client.id, known.unwrap_or_else(|| Watcher { client: client.clone(), watch, was_over }));
    is_new
}

/// Whether a key's time has come.
pub fn is_over(entry: &Entry, now_ms: i64) -> bool {
    entry.expire_at_ms().is_some_and(|at| at <= now_ms)
}

/// Takes one client's watcher off a key whose shard is locked.
pub fn leave(locked: &mut Locked<'_>, db: usize, key: Key<'_>, client_id: u64, watch: u64) {
    let shard = locked.shard_mut(key.hash);
    let Some(watchers) = shard.dbs[db].watchers.get_mut(key.bytes) else { return };
    // A client that was told of a change does not watch any more.
    let Some(watcher) = watchers.remove(client_id) else { return };
    if watcher.watch != watch {
        watchers.insert(client_id, watcher);
        return;
    }
    shard.watched -= 1;
    if watchers.is_empty() {
        shard.dbs[db].watchers.remove(key.bytes);
    }
}

impl Watches {
    /// Notes that a client watches these keys of database `db`, for the end of the script that holds all shards; `each` is
    /// told of those that it did not watch yet. False, and nothing is noted, when no script holds them any more.
    pub fn begin_later<'k>(
        &self,
        client: &Arc<Client>,
        db: usize,
        names: &[&'k [u8]],
        is_busy: impl FnOnce() -> bool,
        mut each: impl FnMut(&'k [u8]),
    ) -> bool {
        let mut begun = self.begun.lock();
        // The end of a script looks here after it has ended.
        if !is_busy() {
            return false;
        }
        let new = || Part { watch: client.watch(), client: client.clone(), keys: BTreeSet::new() };
        let part = begun.entry(client.id).or_insert_with(new);
        for name in names {
            if part.keys.insert((db, (*name).into())) {
                each(name);
            }
        }
        true
    }

    /// A client's WATCH of this number is over: takes it off its keys, now or when their shards are free. `keys` are in the
    /// order in which they were watched.
    pub fn end(&self, shards: &Shards, client: &Arc<Client>, watch: u64, mut keys: Vec<(usize, Box<[u8]>)>) {
        let not_entered = self.begun.lock().remove(&client.id).map_or(0, |part| part.keys.len());
        // What has not been entered yet was watched last.
        keys.truncate(keys.len() - not_entered);
        let mut part = Part { client: client.clone(), watch, keys: BTreeSet::new() };
        for (db, name) in keys {
            let key = Key::new(shards.seed(), &name);
            match shards.try_lock(ShardSet::of(shards.shard_of(key.hash))) {
                Some(mut locked) => leave(&mut locked, db, key, client.id, watch),
                None => drop(part.keys.insert((db, name))),
            }
        }
        if !part.keys.is_empty() {
            self.ended.lock().push(part);
        }
    }

    /// A script has ended that has been running for long; its locks are still held. What it may have changed counts as
    /// changed, if it `has_written` at all: when it wrote what is not known.
    pub fn enter_begun(&self, shards: &Shards, now_ms: i64, locked: &mut Locked<'_>, has_written: bool) {
        let begun = std::mem::take(&mut *self.begun.lock());
        for Part { client, watch, keys } in begun.into_values() {
            for (db, name) in &keys {
                enter(locked, &client, watch, *db, Key::new(shards.seed(), name), now_ms);
            }
            if has_written {
                client.note_change(watch);
            }
        }
    }

    /// Takes watchers of WATCHes that have ended off their keys; `lock` locks a shard or gives up.
    pub fn leave_ended<'s>(&self, shards: &'s Shards, lock: impl Fn(ShardSet) -> Option<Locked<'s>>) {
        let ended = std::mem::take(&mut *self.ended.lock());
        for Part { client, watch, mut keys } in ended {
            keys.retain(|(db, name)| {
                let key = Key::new(shards.seed(), name);
                let locked = lock(ShardSet::of(shards.shard_of(key.hash)));
                locked.map(|mut locked| leave(&mut locked, *db, key, client.id, watch)).is_none()
            });
            if !keys.is_empty() {
                self.ended.lock().push(Part { client, watch, keys });
            }
        }
    }
}
