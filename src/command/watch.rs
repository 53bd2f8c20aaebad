//! Watched keys: how a client's WATCH begins and ends.
//!
//! Each watched key has its watchers beside it, in its shard. While another thread holds that shard, perhaps for a script
//! that never ends, WATCH and UNWATCH are answered all the same: a WATCH is entered when that script ends, and watchers of a
//! WATCH that has ended are taken off their keys when the shards are free. Until then they do no harm: a watcher has the
//! number of its WATCH, and speaks only of that one.

use crate::clients::Client;
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::{Session, Watch};
use crate::keyspace::Key;
use crate::keyspace::lock::{Locked, ShardSet};
use crate::keyspace::shard::Watcher;
use crate::keyspace::value::Entry;
use crate::server::Server;
use crate::util::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What WATCH is told inside MULTI.
pub const INSIDE_MULTI: CmdError = CmdError::Text("ERR WATCH inside MULTI is not allowed");

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

/// Notes that a session watches a key of its database.
pub fn note(session: &mut Session, name: &[u8], lives: bool) {
    let watch = session.watch.get_or_insert_with(Box::<Watch>::default);
    watch.keys.push((session.db, name.into(), lives));
    session.client.keep(name);
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

/// Forgets every watched key of a session whose shards are locked.
pub fn end_locked(server: &Server, locked: &mut Locked<'_>, session: &mut Session) {
    let Some(watch) = session.watch.take() else { return };
    let number = session.client.end_watch();
    for (db, name, _) in &watch.keys {
        session.client.forget(name);
        leave(locked, *db, Key::new(server.shards.seed(), name), session.client.id, number);
    }
}

/// Forgets every watched key (UNWATCH, DISCARD, an EXEC that is refused, the end of a connection) and waits for nothing.
pub fn end(server: &Server, session: &mut Session) {
    let Some(watch) = session.watch.take() else { return };
    let client = &session.client;
    let number = client.end_watch();
    let not_entered = server.watches.begun.lock().remove(&client.id).map_or(0, |part| part.keys.len());
    watch.keys.iter().for_each(|(_, name, _)| client.forget(name));
    let mut entered = watch.keys;
    // What has not been entered yet was watched last.
    entered.truncate(entered.len() - not_entered);
    let mut part = Part { client: client.clone(), watch: number, keys: BTreeSet::new() };
    for (db, name, _) in entered {
        let key = Key::new(server.shards.seed(), &name);
        match server.shards.try_lock(ShardSet::of(server.shards.shard_of(key.hash))) {
            Some(mut locked) => leave(&mut locked, db, key, client.id, number),
            None => drop(part.keys.insert((db, name))),
        }
    }
    if !part.keys.is_empty() {
        server.watches.ended.lock().push(part);
    }
}

/// Takes one client's watcher off a key whose shard is locked.
fn leave(locked: &mut Locked<'_>, db: usize, key: Key<'_>, client_id: u64, watch: u64) {
    let shard = locked.shard_mut(key.hash);
    let Some(watchers) = shard.dbs[db].watchers.get_mut(key.bytes) else { return };
    // Who was told of a change is no watcher any more.
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
    /// WATCH while a script holds all shards: the end of the script enters it. False, and nothing is noted, when none has
    /// been running for long.
    pub fn begin_later(&self, server: &Server, session: &mut Session, names: &[&[u8]]) -> CmdResult<bool> {
        if session.multi.is_some() {
            return Err(INSIDE_MULTI);
        }
        let mut begun = self.begun.lock();
        // The end of a script looks here after it has ended.
        if !server.busy.is_busy() {
            return Ok(false);
        }
        let client = session.client.clone();
        let new = || Part { watch: client.watch(), client: client.clone(), keys: BTreeSet::new() };
        let part = begun.entry(client.id).or_insert_with(new);
        for name in names {
            if part.keys.insert((session.db, (*name).into())) {
                note(session, name, true);
            }
        }
        Ok(true)
    }

    /// A script has ended that has been running for long; its locks are still held. What it may have changed counts as
    /// changed, if it `has_written` at all: when it wrote what is not known.
    pub fn enter_begun(&self, server: &Server, locked: &mut Locked<'_>, has_written: bool) {
        let begun = std::mem::take(&mut *self.begun.lock());
        let now_ms = server.clock.now_ms();
        for Part { client, watch, keys } in begun.into_values() {
            for (db, name) in &keys {
                enter(locked, &client, watch, *db, Key::new(server.shards.seed(), name), now_ms);
            }
            if has_written {
                client.note_change(watch);
            }
        }
    }

    /// Takes watchers of WATCHes that have ended off their keys; `lock` locks a shard or gives up.
    pub fn leave_ended<'s>(&self, server: &'s Server, lock: impl Fn(ShardSet) -> Option<Locked<'s>>) {
        let ended = std::mem::take(&mut *self.ended.lock());
        for Part { client, watch, mut keys } in ended {
            keys.retain(|(db, name)| {
                let key = Key::new(server.shards.seed(), name);
                let locked = lock(ShardSet::of(server.shards.shard_of(key.hash)));
                locked.map(|mut locked| leave(&mut locked, *db, key, client.id, watch)).is_none()
            });
            if !keys.is_empty() {
                self.ended.lock().push(Part { client, watch, keys });
            }
        }
    }
}
