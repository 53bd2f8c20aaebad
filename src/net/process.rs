//! From bytes to replies: every whole command in a buffer is run, in batches whose keys are asked for ahead.

use crate::command::args::Request;
use crate::command::call::Engine;
use crate::command::session::Session;
use crate::net::cross_protocol;
use crate::resp::reply::{Mark, Reply};
use crate::resp::request::{Limits, Parsed, Parser};
use redstart_types::table::hash_key;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

/// A client that was told LOADING waits for so long with its next command: some ask again at once, for as long as it takes.
const LOADING_PAUSE_MS: i64 = 5;

/// Commands whose keys are asked for together: their cache misses overlap.
const BATCH: usize = 16;

/// Arguments of a batch that need no allocation.
const ARGUMENTS: usize = 4 * BATCH;

/// Commands that were parsed together.
struct Batch<'d> {
    /// The arguments of all of them, one after the other.
    argv: SmallVec<[&'d [u8]; ARGUMENTS]>,
    commands: SmallVec<[Bounds; BATCH]>,
    after: After,
}

/// Where a parsed command's arguments end in the batch's list, and its bytes in the data.
struct Bounds {
    argv_end: usize,
    bytes_end: usize,
}

/// What follows a batch.
enum After {
    /// Perhaps more: the batch is full.
    Full,
    /// At most the beginning of a command.
    Incomplete,
    /// A line of words, and where its bytes end.
    Inline(Vec<Vec<u8>>, usize),
    /// No command: the text of the error.
    Invalid(String),
}

/// Runs the commands in `data`; their replies are appended to `reply`. Returns how many bytes are done with. Stops
/// early when the session blocks or closes.
pub fn process(
    engine: &mut Engine,
    session: &mut Session,
    parser: &mut Parser,
    reply: &mut Reply,
    data: &[u8],
) -> usize {
    let mut done = 0;
    loop {
        let batch = parse(engine, session, parser, data, done);
        engine.server.stats.worker(engine.worker).most_commands_a_batch.raise(batch.commands.len() as u64);
        let (args, commands) = (&*batch.argv, &*batch.commands);
        let hashes = if commands.len() > 1 { prefetch(engine, session, args, commands) } else { SmallVec::new() };
        let mut hashes = hashes.iter().copied();
        let mut argv_start = 0;
        for bounds in commands {
            let argv = &args[argv_start..bounds.argv_end];
            argv_start = bounds.argv_end;
            let first_hash = hashes.next().flatten();
            let request = Request { argv, encoded: Some(&data[done..bounds.bytes_end]), first_hash };
            if !step(engine, session, reply, request, &mut done, bounds.bytes_end) {
                parser.restart();
                return done;
            }
        }
        match batch.after {
            After::Full => {}
            After::Incomplete => return done,
            After::Inline(args, end) => {
                let argv: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                let request = Request { argv: &argv, encoded: None, first_hash: None };
                if !step(engine, session, reply, request, &mut done, end) {
                    return done;
                }
            }
            After::Invalid(text) => {
                reply.error(format!("ERR Protocol error: {text}"));
                session.closing = true;
                return data.len();
            }
        }
    }
}

/// Parses the commands in `data` from `position` on, as many as fit a batch.
fn parse<'d>(
    engine: &Engine,
    session: &Session,
    parser: &mut Parser,
    data: &'d [u8],
    mut position: usize,
) -> Batch<'d> {
    let mut batch = Batch { argv: SmallVec::new(), commands: SmallVec::new(), after: After::Full };
    // Before authentication one command at a time: the next one's limits depend on it.
    let limits = limits(engine, session);
    let most = if limits.authenticated { BATCH } else { 1 };
    while batch.commands.len() < most {
        match parser.parse(&data[position..], limits) {
            Parsed::Incomplete => {
                batch.after = After::Incomplete;
                break;
            }
            Parsed::Invalid(text) => {
                batch.after = After::Invalid(text);
                break;
            }
            Parsed::Command { used } => {
                let start = position;
                position += used;
                let inline = parser.inline_args();
                if inline.is_none() {
                    batch.argv.extend(parser.args(&data[start..]));
                    batch.commands.push(Bounds { argv_end: batch.argv.len(), bytes_end: position });
                }
                parser.next();
                if let Some(args) = inline {
                    batch.after = After::Inline(args, position);
                    break;
                }
            }
        }
    }
    batch
}

/// Runs a command, and counts its bytes, which end at `end`, as done. Returns whether the next one may follow; where the
/// command itself is held back, it is not done either.
fn step(
    engine: &mut Engine,
    session: &mut Session,
    reply: &mut Reply,
    request: Request<'_>,
    done: &mut usize,
    end: usize,
) -> bool {
    if cross_protocol::is_http(request.argv) {
        cross_protocol::close(engine, session);
        return false;
    }
    session.paused_until_ms = waits_while_loading(engine, session);
    if session.paused_until_ms.is_some() {
        return false;
    }
    run(engine, session, reply, request);
    if reply.is_too_long() {
        // It is closed for what it is owed: what it has sent beyond that is not run.
        session.closing = true;
    }
    if session.paused_until_ms.is_some() {
        return false;
    }
    *done = end;
    !is_stopped(session)
}

fn run(engine: &mut Engine, session: &mut Session, reply: &mut Reply, request: Request<'_>) {
    let argv = request.argv;
    // An empty line or `*0` is no command.
    if argv.is_empty() {
        return;
    }
    engine.keep_limits(session, reply);
    let start = reply.mark();
    let was_replica = session.replica.is_some();
    engine.execute(session, reply, request);
    if reply.since(start).starts_with(b"-LOADING ") {
        session.asks_again_at_ms = engine.now_ms + LOADING_PAUSE_MS;
    }
    if was_replica && reply.mark() != start {
        refuse_reply(engine, session, reply, argv, start);
    }
}

/// A replica's connection carries the stream: a reply would be taken for a part of it. Source: Redis 7.2.
fn refuse_reply(engine: &Engine, session: &mut Session, reply: &mut Reply, argv: &[&[u8]], start: Mark) {
    let shown = String::from_utf8_lossy(reply.since(start)).into_owned();
    engine.server.log.warning(format_args!(
        "Replica generated a reply to command '{}', disconnecting it: '{}'",
        String::from_utf8_lossy(argv[0]),
        shown.escape_debug()
    ));
    reply.rewind(start);
    session.closing = true;
}

/// Until when a client that was told LOADING waits with its next command, if it does.
fn waits_while_loading(engine: &Engine, session: &Session) -> Option<i64> {
    let is_early = engine.now_ms < session.asks_again_at_ms && engine.server.loading.load(Ordering::Relaxed);
    is_early.then_some(session.asks_again_at_ms)
}

fn is_stopped(session: &Session) -> bool {
    session.waiter.is_some() || session.closing || session.needs_socket()
}

fn limits(engine: &Engine, session: &Session) -> Limits {
    Limits {
        max_bulk_len: usize::try_from(engine.config.proto_max_bulk_len).unwrap_or(usize::MAX),
        authenticated: is_known(engine, session),
    }
}

/// Whether the client need not log in any more.
fn is_known(engine: &Engine, session: &Session) -> bool {
    session.authenticated || !engine.server.acl.requires_auth()
}

/// Asks for the memory of the first argument of each command, as if it were a key: nearly always it is, and a wrong
/// guess costs a few nanoseconds. First all buckets, then, when those are there, all entries. Their hashes, a command each.
fn prefetch(engine: &Engine, session: &Session, args: &[&[u8]], commands: &[Bounds]) -> SmallVec<[Option<u64>; BATCH]> {
    let shards = &engine.server.shards;
    let mut hashes: SmallVec<[Option<u64>; BATCH]> = SmallVec::new();
    let mut argv_start = 0;
    for bounds in commands {
        let first = args[argv_start..bounds.argv_end].get(1);
        let hash = first.map(|first| hash_key(shards.seed(), first));
        if let Some(hash) = hash {
            shards.prefetch_bucket(session.db, hash);
        }
        hashes.push(hash);
        argv_start = bounds.argv_end;
    }
    hashes.iter().flatten().for_each(|hash| shards.prefetch_entry(session.db, *hash));
    hashes
}
