//! Which shards a command needs.

use crate::command::session::Session;
use crate::command::spec::{Begin, Command, Find, Scope};
use crate::command::table::{CommandRef, key_positions};
use crate::keyspace::lock::{ShardSet, Shards};
use redstart_types::table::hash_key;

/// What must be locked for a command, and the key that was hashed on the way.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    pub shards: ShardSet,
    /// Position and hash of the first key; position 0 when there is none.
    pub first_key: (usize, u64),
}

/// The shards that `argv` needs in this session. `first_hash` is the hash of the first argument, if it is known.
#[inline]
pub fn needed(
    shards: &Shards,
    session: &Session,
    command: CommandRef,
    argv: &[&[u8]],
    first_hash: Option<u64>,
) -> Needed {
    match command.command.scope {
        Scope::Keys => of_keys(shards, command.command, argv, first_hash),
        Scope::AllShards => Needed { shards: shards.all(), first_key: (0, 0) },
        Scope::Queue => Needed { shards: of_queue(shards, session), first_key: (0, 0) },
    }
}

#[inline]
fn of_keys(shards: &Shards, command: &Command, argv: &[&[u8]], first_hash: Option<u64>) -> Needed {
    let mut needed = Needed { shards: ShardSet::NONE, first_key: (0, 0) };
    let mut add = |position: usize| {
        let known = first_hash.filter(|_| position == 1);
        let hash = known.unwrap_or_else(|| hash_key(shards.seed(), argv[position]));
        needed.shards.add(shards.shard_of(hash));
        if needed.first_key.0 == 0 {
            needed.first_key = (position, hash);
        }
    };
    match command.keys {
        [] => {}
        // One key at a fixed place: most commands.
        [spec] if spec.begin == Begin::Index(1) && spec.find == (Find::Range { last: 0, step: 1, limit: 0 }) => add(1),
        _ => key_positions(command, argv, |position, _| add(position)),
    }
    needed
}

/// EXEC: the shards of every queued command and of the watched keys.
fn of_queue(shards: &Shards, session: &Session) -> ShardSet {
    let mut all = ShardSet::NONE;
    for queued in session.multi.iter().flat_map(|multi| &multi.queue) {
        let argv: Vec<&[u8]> = queued.argv.iter().map(|arg| &**arg).collect();
        match queued.command.command.scope {
            Scope::Keys => all.add_all(of_keys(shards, queued.command.command, &argv, None).shards),
            Scope::AllShards | Scope::Queue => return shards.all(),
        }
    }
    for (_, key, _) in session.watch.iter().flat_map(|watch| &watch.keys) {
        all.add(shards.shard_of(hash_key(shards.seed(), key)));
    }
    all
}
