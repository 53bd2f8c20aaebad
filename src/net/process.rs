//! From bytes to replies: every whole command in a buffer is run, in batches whose keys are asked for ahead.

use crate::command::args::Request;
use crate::command::call::Engine;
use crate::command::session::Session;
use crate::resp::reply::Reply;
use crate::resp::request::{Limits, Parsed, Parser};
use redstart_types::table::hash_key;
use smallvec::SmallVec;

/// Commands whose keys are asked for together: their cache misses overlap.
const BATCH: usize = 16;

/// Where a parsed command's arguments end in the batch's list, and its bytes in the buffer.
struct Bounds {
    argv_end: usize,
    bytes_end: usize,
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
    let mut argv: Vec<&[u8]> = Vec::new();
    loop {
        argv.clear();
        let mut batch: SmallVec<[Bounds; BATCH]> = SmallVec::new();
        let mut position = done;
        let mut inline = None;
        let mut invalid = None;
        // Before authentication one command at a time: the next one's limits depend on it.
        let most = if is_known(engine, session) { BATCH } else { 1 };
        while batch.len() < most {
            match parser.parse(&data[position..], limits(engine, session)) {
                Parsed::Incomplete => break,
                Parsed::Invalid(text) => {
                    invalid = Some(text);
                    break;
                }
                Parsed::Command { used } => {
                    let start = position;
                    position += used;
                    inline = parser.inline_args();
                    argv.extend(parser.args(&data[start..]));
                    parser.next();
                    if inline.is_some() {
                        break;
                    }
                    batch.push(Bounds { argv_end: argv.len(), bytes_end: position });
                }
            }
        }
        engine.server.stats.worker(engine.worker).most_commands_a_batch.raise(batch.len() as u64);
        if batch.len() > 1 {
            prefetch(engine, session, &argv, &batch);
        }
        let mut argv_start = 0;
        for bounds in &batch {
            let argv = &argv[argv_start..bounds.argv_end];
            if hold_back(engine, session, argv) {
                parser.restart();
                return done;
            }
            run(engine, session, reply, Request { argv, encoded: Some(&data[done..bounds.bytes_end]) });
            if session.held_since.is_some() {
                parser.restart();
                return done;
            }
            argv_start = bounds.argv_end;
            done = bounds.bytes_end;
            if is_stopped(session) {
                parser.restart();
                return done;
            }
        }
        if let Some(args) = inline {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            if hold_back(engine, session, &args) {
                return done;
            }
            run(engine, session, reply, Request { argv: &args, encoded: None });
            if session.held_since.is_some() {
                return done;
            }
            done = position;
            if is_stopped(session) {
                return done;
            }
        } else if let Some(text) = invalid {
            reply.error(format!("ERR Protocol error: {text}"));
            session.closing = true;
            return data.len();
        } else if batch.len() < most {
            return done;
        }
    }
}

fn run(engine: &mut Engine, session: &mut Session, reply: &mut Reply, request: Request<'_>) {
    let argv = request.argv;
    // An empty line or `*0` is no command.
    if argv.is_empty() {
        return;
    }
    engine.keep_limits(session, reply);
    let start = reply.buf.len();
    let was_replica = session.replica.is_some();
    engine.execute(session, reply, request);
    if was_replica && reply.buf.len() > start {
        refuse_reply(engine, session, reply, argv, start);
    }
}

/// A replica's connection carries the stream: a reply would be taken for a part of it. Source: Redis 7.2.
fn refuse_reply(engine: &Engine, session: &mut Session, reply: &mut Reply, argv: &[&[u8]], start: usize) {
    let shown = String::from_utf8_lossy(&reply.buf[start..]).into_owned();
    engine.server.log.warning(format_args!(
        "Replica generated a reply to command '{}', disconnecting it: '{}'",
        String::from_utf8_lossy(argv[0]),
        shown.escape_debug()
    ));
    reply.buf.truncate(start);
    session.closing = true;
}

/// Notes in the session that a pause holds this command back, if one does.
fn hold_back(engine: &Engine, session: &mut Session, argv: &[&[u8]]) -> bool {
    session.paused_until_ms = if argv.is_empty() { None } else { engine.paused_until_ms(session, argv) };
    session.paused_until_ms.is_some()
}

fn is_stopped(session: &Session) -> bool {
    session.waiter.is_some() || session.closing
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
/// guess costs a few nanoseconds. First all buckets, then, when those are there, all entries.
fn prefetch(engine: &Engine, session: &Session, argv: &[&[u8]], batch: &[Bounds]) {
    let shards = &engine.server.shards;
    let mut hashes: SmallVec<[u64; BATCH]> = SmallVec::new();
    let mut argv_start = 0;
    for bounds in batch {
        if bounds.argv_end > argv_start + 1 {
            let hash = hash_key(shards.seed(), argv[argv_start + 1]);
            shards.prefetch_bucket(session.db, hash);
            hashes.push(hash);
        }
        argv_start = bounds.argv_end;
    }
    hashes.iter().for_each(|hash| shards.prefetch_entry(session.db, *hash));
}
