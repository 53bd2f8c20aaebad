//! Consumer groups and what is pending in them: XGROUP, XACK, XPENDING.

use super::{changed_group, no_group, no_key_or_group, parse_ids, reply_id};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::commands::help;
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::resp::reply::Reply;
use redstart_types::stream::{Group, Pending, Stream, StreamId};

/// XGROUP without a subcommand that exists.
pub(super) fn xgroup(_ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    Err(args.subcommand_error())
}

/// `XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]`: `+OK`. Source: Redis 7.2 XGROUP CREATE.
pub(super) fn xgroup_create(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name, id) = (args.key()?, args.bytes()?, args.bytes()?);
    let (mut mkstream, mut entries_read) = (false, None);
    let words = args.remaining();
    while !args.is_empty() {
        if args.flag("MKSTREAM") {
            mkstream = true;
        } else {
            entries_read = parse_entries_read(args)?;
        }
    }
    if words > 3 {
        return Err(args.subcommand_error());
    }
    let stream = ctx.db.write_as::<Stream>(key)?;
    if stream.is_none() && !mkstream {
        return Err(NO_KEY);
    }
    let last_id = match id {
        b"$" => stream.as_ref().map_or(StreamId::MIN, |stream| stream.entries.last_id()),
        id => StreamId::parse(id, 0)?,
    };
    let is_new_key = stream.is_none();
    let stream = ctx.db.write_or_insert(key, Stream::new)?;
    if !stream.create_group(name, Group::new(last_id, entries_read)) {
        return Err(CmdError::Text("BUSYGROUP Consumer Group name already exists"));
    }
    ctx.reply.ok();
    if is_new_key {
        ctx.changed(key, KeyspaceEvents::STREAM, "xgroup-create");
    } else {
        announce(ctx, key, "xgroup-create");
    }
    Ok(())
}

/// `XGROUP SETID key group <id | $> [ENTRIESREAD entries-read]`: `+OK`. Source: Redis 7.2 XGROUP SETID.
pub(super) fn xgroup_setid(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name, id) = (args.key()?, args.bytes()?, args.bytes()?);
    let mut entries_read = None;
    let words = args.remaining();
    while !args.is_empty() {
        entries_read = parse_entries_read(args)?;
    }
    if words > 2 {
        return Err(args.subcommand_error());
    }
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(NO_KEY)?;
    let (entries, group) = stream.group_mut(name).ok_or_else(|| no_group(key.bytes, name))?;
    group.last_id = match id {
        b"$" => entries.last_id(),
        id => StreamId::parse_with_extremes(id, 0)?,
    };
    group.entries_read = entries_read;
    ctx.reply.ok();
    announce(ctx, key, "xgroup-setid");
    Ok(())
}

/// `XGROUP DESTROY key group`: integer reply, 1 if there was such a group. Clients that wait to read for the group are
/// told that it is gone. Source: Redis 7.2 XGROUP DESTROY.
pub(super) fn xgroup_destroy(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name) = (args.key()?, args.bytes()?);
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(NO_KEY)?;
    let existed = stream.destroy_group(name);
    ctx.reply.integer(i64::from(existed));
    if existed {
        announce(ctx, key, "xgroup-destroy");
        ctx.db.wake(key);
    }
    Ok(())
}

/// `XGROUP CREATECONSUMER key group consumer`: integer reply, 1 if it is new.
/// Source: Redis 7.2 XGROUP CREATECONSUMER.
pub(super) fn xgroup_createconsumer(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name, consumer) = (args.key()?, args.bytes()?, args.bytes()?);
    let now_ms = ctx.now_ms;
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(NO_KEY)?;
    let (_, group) = stream.group_mut(name).ok_or_else(|| no_group(key.bytes, name))?;
    let is_new = group.create_consumer(consumer, now_ms).is_some();
    ctx.reply.integer(i64::from(is_new));
    if is_new {
        announce(ctx, key, "xgroup-createconsumer");
    }
    Ok(())
}

/// `XGROUP DELCONSUMER key group consumer`: integer reply, how many entries were pending for it and now are for
/// nobody. Source: Redis 7.2 XGROUP DELCONSUMER.
pub(super) fn xgroup_delconsumer(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name, consumer) = (args.key()?, args.bytes()?, args.bytes()?);
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(NO_KEY)?;
    let (_, group) = stream.group_mut(name).ok_or_else(|| no_group(key.bytes, name))?;
    let pending = group.delete_consumer(consumer);
    ctx.reply.len(pending.unwrap_or(0));
    if pending.is_some() {
        announce(ctx, key, "xgroup-delconsumer");
    }
    Ok(())
}

/// `XGROUP HELP`: array of lines. Source: Redis 7.2 XGROUP HELP.
pub(super) fn xgroup_help(ctx: &mut Ctx, _args: &mut Args) -> CmdResult {
    help(
        ctx,
        "XGROUP",
        &[
            ("CREATE <key> <groupname> <id|$> [option]", "Create a new consumer group. Options are:"),
            ("    * MKSTREAM", "  Create the empty stream if it does not exist."),
            ("    * ENTRIESREAD entries_read", "  Set the group's entries_read counter (internal use)."),
            ("CREATECONSUMER <key> <groupname> <consumer>", "Create a new consumer in the specified group."),
            ("DELCONSUMER <key> <groupname> <consumer>", "Remove the specified consumer."),
            ("DESTROY <key> <groupname>", "Remove the specified group."),
            (
                "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
                "Set the current group ID and entries_read counter.",
            ),
        ],
    )
}

/// `XACK key group id [id ...]`: integer reply, how many entries were pending and no longer are.
/// Source: Redis 7.2 XACK.
pub(super) fn xack(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name) = (args.key()?, args.bytes()?);
    let exists = ctx.db.read_as::<Stream>(key)?.is_some_and(|stream| stream.group(name).is_some());
    if !exists {
        ctx.reply.integer(0);
        return Ok(());
    }
    let ids = parse_ids(args.rest())?;
    let acknowledged = match super::group_mut(ctx, key, name) {
        Some(group) => ids.into_iter().filter(|&id| group.ack(id)).count(),
        None => 0,
    };
    changed_group(ctx, acknowledged);
    ctx.reply.len(acknowledged);
    Ok(())
}

/// What XPENDING lists.
struct PendingQuery<'a> {
    start: StreamId,
    end: StreamId,
    count: usize,
    min_idle_ms: i64,
    consumer: Option<&'a [u8]>,
}

/// `XPENDING key group [[IDLE min-idle-time] start end count [consumer]]`: without a range, an array of the number of
/// pending entries, the smallest and the greatest ID, and pairs of consumer and count; with one, an array of ID,
/// consumer, milliseconds since the last delivery and number of deliveries. Source: Redis 7.2 XPENDING.
pub(super) fn xpending(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, name) = (args.key()?, args.bytes()?);
    let query = PendingQuery::parse(args)?;
    let now_ms = ctx.now_ms;
    let group = ctx.db.read_as::<Stream>(key)?.and_then(|stream| stream.group(name));
    let group = group.ok_or_else(|| no_key_or_group(key.bytes, name))?;
    match query {
        Some(query) => query.reply(ctx.reply, group, now_ms),
        None => reply_summary(ctx.reply, group),
    }
    Ok(())
}

fn reply_summary(reply: &mut Reply, group: &Group) {
    reply.array(4);
    reply.len(group.pending_len());
    let Some((first, last)) = group.pending_bounds() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let start = reply.begin();
    let mut len = 0;
    for consumer in group.consumers().filter(|consumer| consumer.pending_len() > 0) {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(consumer.pending_len() as i64);
        len += 1;
    }
    reply.end_array(start, len);
}

impl<'a> PendingQuery<'a> {
    /// Reads the arguments behind the group; None without any.
    fn parse(args: &mut Args<'a>) -> CmdResult<Option<Self>> {
        if args.is_empty() {
            return Ok(None);
        }
        if !(3..=6).contains(&args.remaining()) {
            return Err(CmdError::Syntax);
        }
        let mut min_idle_ms = 0;
        if args.flag("IDLE") {
            min_idle_ms = args.int()?;
            if args.remaining() < 3 {
                return Err(CmdError::Syntax);
            }
        }
        let (start, end) = (args.bytes()?, args.bytes()?);
        let count = usize::try_from(args.int()?.max(0)).unwrap_or(usize::MAX);
        let start = StreamId::parse_range_start(start)?;
        let end = StreamId::parse_range_end(end)?;
        Ok(Some(PendingQuery { start, end, count, min_idle_ms, consumer: args.optional() }))
    }

    fn reply(&self, reply: &mut Reply, group: &Group, now_ms: i64) {
        match self.consumer.map(|name| group.find_consumer(name)) {
            Some(None) => reply.array(0),
            Some(Some(consumer)) => self.reply_some(reply, group.pending_of(consumer, self.start..=self.end), now_ms),
            None => self.reply_some(reply, group.pending(self.start..=self.end), now_ms),
        }
    }

    fn reply_some<'g>(&self, reply: &mut Reply, pending: impl Iterator<Item = Pending<'g>>, now_ms: i64) {
        let idle_ms = |pending: &Pending<'_>| now_ms.saturating_sub(pending.delivery_time_ms);
        let is_idle = |pending: &Pending<'_>| self.min_idle_ms == 0 || idle_ms(pending) >= self.min_idle_ms;
        let start = reply.begin();
        let mut len = 0;
        for pending in pending.filter(is_idle).take(self.count) {
            reply.array(4);
            reply_id(reply, pending.id);
            reply.bulk(pending.consumer);
            reply.integer(idle_ms(&pending).max(0));
            reply.integer(pending.delivery_count.cast_signed());
            len += 1;
        }
        reply.end_array(start, len);
    }
}

/// `ENTRIESREAD n`; -1 means unknown.
fn parse_entries_read(args: &mut Args) -> CmdResult<Option<u64>> {
    if args.remaining() < 2 || !args.flag("ENTRIESREAD") {
        return Err(args.subcommand_error());
    }
    match args.int()? {
        -1 => Ok(None),
        read => Ok(Some(
            u64::try_from(read).map_err(|_| CmdError::Text("ERR value for ENTRIESREAD must be positive or -1"))?,
        )),
    }
}

/// Counts a change of a group and announces it. See [`changed_group`].
fn announce(ctx: &mut Ctx, key: Key<'_>, event: &'static str) {
    changed_group(ctx, 1);
    ctx.db.notify(KeyspaceEvents::STREAM, event, key);
}

const NO_KEY: CmdError = CmdError::Text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option \
     to create an empty stream automatically.",
);
