//! Reading entries: XRANGE, XREVRANGE, XREAD, XREADGROUP.

use super::{
    PendingRecord, changed_group, find_or_create_consumer, propagate_group_id, reply_entries, reply_entry, reply_id,
};
use crate::command::args::Args;
use crate::command::ctx::{Ctx, Origin};
use crate::command::error::{CmdError, CmdResult};
use crate::command::session::Block;
use crate::command::spec::{KEY_ACCESS, KEY_RO};
use crate::keyspace::Key;
use crate::keyspace::value::Kind;
use crate::keyspace::waiters::{TimeoutReply, Wait};
use crate::resp::reply::{Deferred, Reply};
use redstart_types::number;
use redstart_types::stream::{ConsumerIdx, Stream, StreamId};

/// The options and streams of XREAD and XREADGROUP.
#[derive(Debug)]
struct Request<'a> {
    /// How long to wait when there is nothing, 0 for ever; None does not wait.
    block_ms: Option<i64>,
    /// The most entries of each stream, 0 for all.
    count: u64,
    /// GROUP: the group and the consumer.
    group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    keys: &'a [&'a [u8]],
    /// As many as keys.
    ids: &'a [&'a [u8]],
}

/// Which entries of one stream are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// Those behind this ID; for a group, of the consumer's pending ones.
    After(StreamId),
    /// `>`: those that no consumer of the group was given.
    New,
}

/// `XRANGE key start end [COUNT count]`: array of entries. Source: Redis 7.2 XRANGE.
pub(super) fn xrange(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    range(ctx, args, false)
}

/// `XREVRANGE key end start [COUNT count]`: array of entries, the last first. Source: Redis 7.2 XREVRANGE.
pub(super) fn xrevrange(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    range(ctx, args, true)
}

fn range(ctx: &mut Ctx, args: &mut Args, reverse: bool) -> CmdResult {
    let key = args.key()?;
    let (first, second) = (args.bytes()?, args.bytes()?);
    let (start, end) = if reverse { (second, first) } else { (first, second) };
    let start = StreamId::parse_range_start(start)?;
    let end = StreamId::parse_range_end(end)?;
    let mut count = None;
    while !args.is_empty() {
        if args.remaining() < 2 || !args.flag("COUNT") {
            return Err(CmdError::Syntax);
        }
        count = Some(args.int()?);
    }
    let Some(stream) = ctx.db.read_as::<Stream>(key)? else {
        ctx.reply.array(0);
        return Ok(());
    };
    let limit = match count {
        Some(..=0) => {
            ctx.reply.null_array();
            return Ok(());
        }
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    match reverse {
        true => reply_entries(ctx.reply, stream.entries.range_rev(start, end).take(limit)),
        false => reply_entries(ctx.reply, stream.entries.range(start, end).take(limit)),
    }
    Ok(())
}

/// `XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]`: array of pairs (RESP3 map) of key and
/// entries behind the ID, for each stream that has any; else null, after the wait if one is asked for.
/// Source: Redis 7.2 XREAD.
pub(super) fn xread(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let request = Request::parse(ctx, args, false)?;
    let mut from = Vec::with_capacity(request.keys.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        let stream = ctx.db.read_as::<Stream>(args.as_key(key))?;
        from.push(match *id {
            b"$" => stream.map_or(StreamId::MIN, |stream| stream.entries.last_id()),
            b">" => {
                return Err(CmdError::Text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            id => StreamId::parse(id, 0)?,
        });
    }
    let start = ctx.reply.begin();
    let mut served = 0;
    for (key, after) in request.keys.iter().zip(&from) {
        let Some(stream) = ctx.db.read_as::<Stream>(args.as_key(key))? else { continue };
        let Some(first) = after.next() else { continue };
        let mut entries = stream.entries.range(first, StreamId::MAX).take(request.limit()).peekable();
        if entries.peek().is_some() {
            begin_stream(ctx.reply, key);
            reply_entries(ctx.reply, entries);
            served += 1;
        }
    }
    if served > 0 {
        end_streams(ctx.reply, start, served);
        return Ok(());
    }
    let mut argv = None;
    // A client that waits from `$` on waits for what comes after now, however often it is woken in vain.
    if request.block_ms.is_some() && request.ids.contains(&&b"$"[..]) {
        let before = args.argv().iter().take(args.argv().len() - from.len()).map(|arg| Box::from(*arg));
        argv = Some(before.chain(from.iter().map(|from| Box::from(&*from.text()))).collect());
    }
    wait(ctx, &request, argv)
}

/// `XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]`: as
/// XREAD, with `>` for what the group has not been given yet, which becomes pending for the consumer; with an ID, the
/// consumer's pending entries behind it, fields null where the stream has the entry no longer.
/// The log gets an XCLAIM for each entry delivered, or with NOACK the group's new last ID.
/// Source: Redis 7.2 XREADGROUP.
pub(super) fn xreadgroup(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let request = Request::parse(ctx, args, true)?;
    let (group, consumer) = request.group.ok_or(CmdError::Text("ERR Missing GROUP option for XREADGROUP"))?;
    let mut from = Vec::with_capacity(request.keys.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        let stream = ctx.db.read_as::<Stream>(args.as_key(key))?;
        if stream.is_none_or(|stream| stream.group(group).is_none()) {
            return Err(no_group_to_read(key, group));
        }
        from.push(From::parse(id)?);
    }
    ctx.propagate_nothing();
    let start = ctx.reply.begin();
    let mut served = 0;
    for (key, from) in request.keys.iter().zip(from) {
        // Looked up a second time, as Redis does, which counts.
        ctx.db.inspect(args.as_key(key));
        let delivery = Delivery { key: args.as_key(key), group, consumer, from, request: &request };
        served += usize::from(delivery.serve(ctx));
    }
    if served > 0 {
        end_streams(ctx.reply, start, served);
        return Ok(());
    }
    wait(ctx, &request, None)
}

/// What XREADGROUP does with one stream.
struct Delivery<'r, 'a> {
    key: Key<'a>,
    group: &'a [u8],
    consumer: &'a [u8],
    from: From,
    request: &'r Request<'a>,
}

impl Delivery<'_, '_> {
    /// Appends the stream's part of the reply, if it has one.
    fn serve(&self, ctx: &mut Ctx) -> bool {
        let Some((consumer, is_new)) = find_or_create_consumer(ctx, self.key, self.group, self.consumer) else {
            return false;
        };
        if is_new && self.request.no_ack {
            ctx.propagate_as(&[b"XGROUP", b"CREATECONSUMER", self.key.bytes, self.group, self.consumer]);
        }
        let is_served = match self.from {
            From::After(after) => self.serve_history(ctx, consumer, after),
            From::New => self.serve_new(ctx, consumer),
        };
        if is_served {
            changed_group(ctx, 1);
        }
        is_served
    }

    fn serve_history(&self, ctx: &mut Ctx, consumer: ConsumerIdx, after: StreamId) -> bool {
        let now_ms = ctx.now_ms;
        let reply = &mut *ctx.reply;
        let Ok(Some(stream)) = ctx.db.write_as::<Stream>(self.key) else { return false };
        let Some((entries, group)) = stream.group_mut(self.group) else { return false };
        begin_stream(reply, self.key.bytes);
        let start = reply.begin();
        let mut len = 0;
        group.read_history(entries, consumer, after, self.request.count, now_ms, |id, entry| {
            len += 1;
            match entry {
                Some(entry) => reply_entry(reply, entry),
                None => {
                    reply.array(2);
                    reply_id(reply, id);
                    reply.null_array();
                }
            }
        });
        reply.end_array(start, len);
        true
    }

    fn serve_new(&self, ctx: &mut Ctx, consumer: ConsumerIdx) -> bool {
        let (now_ms, recording) = (ctx.now_ms, ctx.db.effects.recording);
        let reply = &mut *ctx.reply;
        let Ok(Some(stream)) = ctx.db.write_as::<Stream>(self.key) else { return false };
        let Some((entries, group)) = stream.group_mut(self.group) else { return false };
        if entries.last_entry_id().is_none_or(|last| last <= group.last_id) {
            return false;
        }
        begin_stream(reply, self.key.bytes);
        let start = reply.begin();
        let mut records = Vec::new();
        let no_ack = self.request.no_ack;
        let len = group.read_new(entries, consumer, self.request.count, no_ack, now_ms, |entry, pending| {
            reply_entry(reply, entry);
            if let Some(pending) = pending.filter(|_| recording) {
                records.push(PendingRecord::new(&pending, entry.id));
            }
        });
        reply.end_array(start, len as usize);
        let (last_id, entries_read) = (group.last_id, group.entries_read);
        for record in records {
            record.propagate(ctx, self.key.bytes, self.group);
        }
        if no_ack {
            propagate_group_id(ctx, self.key.bytes, self.group, last_id, entries_read);
        }
        true
    }
}

impl<'a> Request<'a> {
    /// Reads argv from behind the name.
    fn parse(ctx: &Ctx, args: &mut Args<'a>, is_group: bool) -> CmdResult<Request<'a>> {
        let argv = args.argv();
        let mut request = Request { block_ms: None, count: 0, group: None, no_ack: false, keys: &[], ids: &[] };
        while !args.is_empty() {
            let has_more = args.remaining() > 1;
            if has_more && args.flag("BLOCK") {
                request.block_ms = Some(block_ms(ctx, argv[0], args.bytes()?)?);
            } else if has_more && args.flag("COUNT") {
                request.count = u64::try_from(args.int()?).unwrap_or(0);
            } else if has_more && args.flag("STREAMS") {
                let streams = args.rest();
                if streams.len() % 2 == 1 {
                    return Err(unbalanced(is_group));
                }
                (request.keys, request.ids) = streams.split_at(streams.len() / 2);
                return Ok(request);
            } else if args.remaining() > 2 && args.flag("GROUP") {
                if !is_group {
                    return Err(group_only("GROUP"));
                }
                request.group = Some((args.bytes()?, args.bytes()?));
            } else if args.flag("NOACK") {
                if !is_group {
                    return Err(group_only("NOACK"));
                }
                request.no_ack = true;
            } else {
                break;
            }
        }
        Err(CmdError::Syntax)
    }

    /// COUNT as the length of an iteration.
    fn limit(&self) -> usize {
        match self.count {
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(usize::MAX),
        }
    }
}

impl From {
    fn parse(id: &[u8]) -> CmdResult<From> {
        match id {
            b"$" => Err(CmdError::Text(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this \
                 consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return \
                 an empty result set.",
            )),
            b">" => Ok(From::New),
            id => match StreamId::parse(id, 0)? {
                StreamId::MAX => Ok(From::New),
                id => Ok(From::After(id)),
            },
        }
    }
}

/// Waits if the request says so, to be run again with `argv` if that is another, else answers null.
fn wait(ctx: &mut Ctx, request: &Request, argv: Option<Vec<Box<[u8]>>>) -> CmdResult {
    let Some(block_ms) = request.block_ms else {
        ctx.reply.null_array();
        return Ok(());
    };
    let keys = request.keys.iter().map(|key| Box::from(*key)).collect();
    let wait = Wait::Keys { keys, kind: Kind::Stream, or_deletion: request.group.is_some() };
    let deadline_ms = (block_ms > 0).then(|| ctx.now_ms + block_ms);
    ctx.block(Block { wait, deadline_ms, on_timeout: TimeoutReply::NullArray, argv, work: None })
}

/// The keys of XREAD and XREADGROUP: the first half of what follows STREAMS, where that is an option and not the name
/// of a group or consumer.
pub(super) fn stream_keys(argv: &[&[u8]], each: &mut dyn FnMut(usize, u16)) {
    let mut at = 1;
    while at < argv.len() {
        let is = |word: &str| argv[at].eq_ignore_ascii_case(word.as_bytes());
        at += match () {
            () if is("STREAMS") => {
                let streams = argv.len() - at - 1;
                if streams.is_multiple_of(2) {
                    (at + 1..at + 1 + streams / 2).for_each(|position| each(position, KEY_RO | KEY_ACCESS));
                }
                return;
            }
            () if is("BLOCK") || is("COUNT") => 2,
            () if is("GROUP") => 3,
            () if is("NOACK") => 1,
            () => return,
        };
    }
}

/// The argument of BLOCK, in milliseconds.
fn block_ms(ctx: &Ctx, command: &[u8], arg: &[u8]) -> CmdResult<i64> {
    if ctx.origin == Origin::Script {
        let text = "ERR {} command is not allowed with BLOCK option from scripts";
        return Err(CmdError::quoting(text, &[command]));
    }
    let block_ms = number::parse_int(arg).ok_or(CmdError::Text("ERR timeout is not an integer or out of range"))?;
    if block_ms < 0 {
        return Err(CmdError::TimeoutNegative);
    }
    ctx.now_ms.checked_add(block_ms).map(|_| block_ms).ok_or(CmdError::TimeoutOutOfRange)
}

/// The head of one stream's part of a reply: a pair, in RESP3 an entry of a map.
fn begin_stream(reply: &mut Reply, key: &[u8]) {
    if !reply.resp3 {
        reply.array(2);
    }
    reply.bulk(key);
}

fn end_streams(reply: &mut Reply, start: Deferred, streams: usize) {
    if reply.resp3 { reply.end_map(start, streams) } else { reply.end_array(start, streams) }
}

fn unbalanced(is_group: bool) -> CmdError {
    let (command, id) = if is_group { ("xreadgroup", '>') } else { ("xread", '$') };
    CmdError::owned(format!(
        "ERR Unbalanced '{command}' list of streams: for each stream key an ID or '{id}' must be specified."
    ))
}

fn group_only(option: &str) -> CmdError {
    CmdError::owned(format!("ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."))
}

fn no_group_to_read(key: &[u8], group: &[u8]) -> CmdError {
    let text = "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option";
    CmdError::quoting(text, &[key, group])
}
