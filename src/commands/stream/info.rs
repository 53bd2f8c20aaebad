//! XINFO: what a stream, its groups and its consumers look like.

use super::{no_group, reply_count, reply_entries, reply_entry, reply_id, reply_optional};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::commands::help;
use crate::resp::reply::Reply;
use redstart_types::stream::{Consumer, Entries, Group, Pending, Stream, StreamId};

/// XINFO without a subcommand that exists.
pub(super) fn xinfo(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.subcommand_error())
}

/// `XINFO STREAM key [FULL [COUNT count]]`: map of the stream's counters with its first and last entry; FULL has up to
/// `count` (10; 0 for all) entries, and as many pending ones of each group and consumer.
/// Source: Redis 7.2 XINFO STREAM.
pub(super) fn xinfo_stream(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let key = args.key()?;
    let stream = ctx.db.read_as::<Stream>(key)?.ok_or(CmdError::NoSuchKey)?;
    let full = parse_full(args)?;
    let reply = &mut *ctx.reply;
    reply.map(if full.is_some() { 9 } else { 10 });
    reply_counters(reply, &stream.entries);
    match full {
        Some(count) => reply_full(reply, stream, usize::try_from(count).unwrap_or(usize::MAX)),
        None => reply_ends(reply, stream),
    }
    Ok(())
}

/// `XINFO GROUPS key`: array of maps. Source: Redis 7.2 XINFO GROUPS.
pub(super) fn xinfo_groups(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let stream = ctx.db.read_as::<Stream>(args.key()?)?.ok_or(CmdError::NoSuchKey)?;
    let reply = &mut *ctx.reply;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.len(group.consumers().len());
        reply.bulk(b"pending");
        reply.len(group.pending_len());
        reply_progress(reply, &stream.entries, group);
    }
    Ok(())
}

/// `XINFO CONSUMERS key group`: array of maps; times are milliseconds since. Source: Redis 7.2 XINFO CONSUMERS.
pub(super) fn xinfo_consumers(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name) = (args.key()?, args.bytes()?);
    let now_ms = ctx.now_ms;
    let stream = ctx.db.read_as::<Stream>(key)?.ok_or(CmdError::NoSuchKey)?;
    let group = stream.group(name).ok_or_else(|| no_group(key.bytes, name))?;
    let reply = &mut *ctx.reply;
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.len(consumer.pending_len());
        reply.bulk(b"idle");
        reply.integer(now_ms.wrapping_sub(consumer.seen_time_ms).max(0));
        reply.bulk(b"inactive");
        reply.integer(consumer.active_time_ms.map_or(-1, |active| now_ms.wrapping_sub(active)));
    }
    Ok(())
}

/// `XINFO HELP`: array of lines. Source: Redis 7.2 XINFO HELP.
pub(super) fn xinfo_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "XINFO",
        &[
            ("CONSUMERS <key> <groupname>", "Show consumers of <groupname>."),
            ("GROUPS <key>", "Show the stream consumer groups."),
            ("STREAM <key> [FULL [COUNT <count>]", "Show information about the stream."),
        ],
    )
}

/// `[FULL [COUNT count]]`: the count, 0 for all; None without FULL.
fn parse_full(args: &mut Args) -> CmdResult<Option<u64>> {
    if args.is_empty() {
        return Ok(None);
    }
    if !args.flag("FULL") || !matches!(args.remaining(), 0 | 2) {
        return Err(args.subcommand_error());
    }
    if args.is_empty() {
        return Ok(Some(DEFAULT_FULL_COUNT));
    }
    if !args.flag("COUNT") {
        return Err(args.subcommand_error());
    }
    Ok(Some(u64::try_from(args.int()?).unwrap_or(DEFAULT_FULL_COUNT)))
}

/// The seven fields that both forms begin with.
fn reply_counters(reply: &mut Reply, entries: &Entries) {
    reply.bulk(b"length");
    reply_count(reply, entries.len());
    reply.bulk(b"radix-tree-keys");
    reply.len(entries.nodes().len());
    reply.bulk(b"radix-tree-nodes");
    reply_count(reply, entries.rax_nodes());
    reply.bulk(b"last-generated-id");
    reply_id(reply, entries.last_id());
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, entries.max_deleted_id());
    reply.bulk(b"entries-added");
    reply_count(reply, entries.added());
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, entries.first_id());
}

fn reply_ends(reply: &mut Reply, stream: &Stream) {
    reply.bulk(b"groups");
    reply.len(stream.groups().len());
    let first = stream.entries.range(StreamId::MIN, StreamId::MAX).next();
    let last = stream.entries.range_rev(StreamId::MIN, StreamId::MAX).next();
    for (name, entry) in [("first-entry", first), ("last-entry", last)] {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => reply_entry(reply, &entry),
            None => reply.null(),
        }
    }
}

fn reply_full(reply: &mut Reply, stream: &Stream, count: usize) {
    let limit = if count == 0 { usize::MAX } else { count };
    reply.bulk(b"entries");
    reply_entries(reply, stream.entries.range(StreamId::MIN, StreamId::MAX).take(limit));
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        reply_progress(reply, &stream.entries, group);
        reply.bulk(b"pel-count");
        reply.len(group.pending_len());
        reply.bulk(b"pending");
        reply.array(group.pending_len().min(limit));
        for pending in group.pending(..).take(limit) {
            reply.array(4);
            reply_id(reply, pending.id);
            reply.bulk(pending.consumer);
            reply_delivery(reply, &pending);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers().len());
        for consumer in group.consumers() {
            reply_full_consumer(reply, group, consumer, limit);
        }
    }
}

fn reply_full_consumer(reply: &mut Reply, group: &Group, consumer: &Consumer, limit: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_time_ms);
    reply.bulk(b"active-time");
    reply.integer(consumer.active_time_ms.unwrap_or(-1));
    reply.bulk(b"pel-count");
    reply.len(consumer.pending_len());
    reply.bulk(b"pending");
    let start = reply.begin();
    let mut len = 0;
    for pending in consumer.pending_ids().take(limit).filter_map(|id| group.pending_entry(id)) {
        reply.array(3);
        reply_id(reply, pending.id);
        reply_delivery(reply, &pending);
        len += 1;
    }
    reply.end_array(start, len);
}

/// How far a group has got: three fields that XINFO GROUPS and XINFO STREAM FULL share.
fn reply_progress(reply: &mut Reply, entries: &Entries, group: &Group) {
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    reply.bulk(b"entries-read");
    reply_optional(reply, group.entries_read.map(u64::cast_signed));
    reply.bulk(b"lag");
    reply_optional(reply, group.lag(entries));
}

fn reply_delivery(reply: &mut Reply, pending: &Pending<'_>) {
    reply.integer(pending.delivery_time_ms);
    reply.integer(pending.delivery_count.cast_signed());
}

const DEFAULT_FULL_COUNT: u64 = 10;
