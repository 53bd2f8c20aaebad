//! WATCH of a session: how it begins and ends. Which keys are watched, by whom, is in [`crate::keyspace::watches`].

use crate::command::error::{CmdError, CmdResult};
use crate::command::session::{Session, Watch};
use crate::keyspace::Key;
use crate::keyspace::lock::Locked;
use crate::keyspace::watches::leave;
use crate::server::Server;

/// What WATCH is told inside MULTI.
pub const INSIDE_MULTI: CmdError = CmdError::Text("ERR WATCH inside MULTI is not allowed");

/// Notes that a session watches a key of its database.
pub fn note(session: &mut Session, name: &[u8], lives: bool) {
    let watch = session.watch.get_or_insert_with(Box::<Watch>::default);
    watch.keys.push((session.db, name.into(), lives));
    session.client.keep(name);
}

/// WATCH while a script holds all shards: the end of the script enters it. False, and nothing is noted, when none has been
/// running for long.
pub fn begin_later(server: &Server, session: &mut Session, names: &[&[u8]]) -> CmdResult<bool> {
    if session.multi.is_some() {
        return Err(INSIDE_MULTI);
    }
    let (client, db) = (session.client.clone(), session.db);
    Ok(server.watches.begin_later(&client, db, names, || server.busy.is_busy(), |name| note(session, name, true)))
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
    watch.keys.iter().for_each(|(_, name, _)| client.forget(name));
    let keys = watch.keys.into_iter().map(|(db, name, _)| (db, name)).collect();
    server.watches.end(&server.shards, client, number, keys);
}
