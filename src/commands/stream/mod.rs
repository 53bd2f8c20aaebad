//! Streams: XADD to XTRIM, and consumer groups.
//!
//! - `append`: XADD, XTRIM, XDEL, XSETID, XLEN.
//! - `read`: XRANGE, XREVRANGE, XREAD, XREADGROUP.
//! - `group`: XGROUP, XACK, XPENDING.
//! - `claim`: XCLAIM, XAUTOCLAIM.
//! - `info`: XINFO.
//!
//! What a group delivers or claims reaches the log as XCLAIM commands that name each pending entry in full, so that a
//! replica ends up with the same lists without reading entries or clocks. Source: Redis 7.2.

mod append;
mod claim;
mod group;
mod info;
mod read;
#[cfg(test)]
mod tests;

use crate::command::ctx::Ctx;
use crate::command::error::CmdError;
use crate::command::spec::{
    BLOCKING, Command, DENYOOM, FAST, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_RO, KEY_RW, KEY_UPDATE, KeySpec, LOADING,
    MOVABLEKEYS, READONLY, STALE, WRITE, acl,
};
use crate::config::KeyspaceEvents;
use crate::keyspace::Key;
use crate::resp::reply::Reply;
use redstart_types::stream::{ConsumerIdx, Entry, Group, IdError, Pending, Stream, StreamId};

/// The family's part of the command table.
pub const COMMANDS: &[Command] = &[
    Command::new("xack", -4, group::xack).flags(WRITE | FAST).acl(acl::STREAM).keys(UPDATE).since("5.0.0"),
    Command::new("xadd", -5, append::xadd)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::STREAM)
        .keys(&[KeySpec::at(1)
            .flags(KEY_RW | KEY_UPDATE)
            .notes("UPDATE instead of INSERT because of the optional trimming feature")])
        .tips(VARIES)
        .since("5.0.0"),
    Command::new("xautoclaim", -6, claim::xautoclaim)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(DELETE)
        .tips(VARIES)
        .since("6.2.0"),
    Command::new("xclaim", -6, claim::xclaim)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(UPDATE)
        .tips(VARIES)
        .since("5.0.0"),
    Command::new("xdel", -3, append::xdel).flags(WRITE | FAST).acl(acl::STREAM).keys(DELETE).since("5.0.0"),
    Command::new("xgroup", -2, group::xgroup).subcommands(XGROUP).since("5.0.0"),
    Command::new("xinfo", -2, info::xinfo).subcommands(XINFO).since("5.0.0"),
    Command::new("xlen", 2, append::xlen)
        .flags(READONLY | FAST)
        .acl(acl::STREAM)
        .keys(&[KeySpec::at(1).flags(KEY_RO)])
        .since("5.0.0"),
    Command::new("xpending", -3, group::xpending)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(READ)
        .tips(VARIES)
        .since("5.0.0"),
    Command::new("xrange", -4, read::xrange).flags(READONLY).acl(acl::STREAM).keys(READ).since("5.0.0"),
    Command::new("xread", -4, read::xread)
        .flags(READONLY | BLOCKING | MOVABLEKEYS)
        .acl(acl::STREAM)
        .keys(&[KeySpec::after("STREAMS", 1).range(-1, 1, 2).flags(KEY_RO | KEY_ACCESS)])
        .find_keys(read::stream_keys)
        .since("5.0.0"),
    Command::new("xreadgroup", -7, read::xreadgroup)
        .flags(WRITE | BLOCKING | MOVABLEKEYS)
        .acl(acl::STREAM)
        .keys(&[KeySpec::after("STREAMS", 4).range(-1, 1, 2).flags(KEY_RO | KEY_ACCESS)])
        .find_keys(read::stream_keys)
        .since("5.0.0"),
    Command::new("xrevrange", -4, read::xrevrange).flags(READONLY).acl(acl::STREAM).keys(READ).since("5.0.0"),
    Command::new("xsetid", -3, append::xsetid)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::STREAM)
        .keys(UPDATE)
        .since("5.0.0"),
    Command::new("xtrim", -4, append::xtrim).flags(WRITE).acl(acl::STREAM).keys(DELETE).tips(VARIES).since("5.0.0"),
];

const XGROUP: &[Command] = &[
    Command::new("xgroup|create", -5, group::xgroup_create)
        .flags(WRITE | DENYOOM)
        .acl(acl::STREAM)
        .keys(&[KeySpec::at(2).flags(KEY_RW | KEY_INSERT)])
        .since("5.0.0"),
    Command::new("xgroup|createconsumer", 5, group::xgroup_createconsumer)
        .flags(WRITE | DENYOOM)
        .acl(acl::STREAM)
        .keys(&[KeySpec::at(2).flags(KEY_RW | KEY_INSERT)])
        .since("6.2.0"),
    Command::new("xgroup|delconsumer", 5, group::xgroup_delconsumer)
        .flags(WRITE)
        .acl(acl::STREAM)
        .keys(&[KeySpec::at(2).flags(KEY_RW | KEY_DELETE)])
        .since("5.0.0"),
    Command::new("xgroup|destroy", 4, group::xgroup_destroy)
        .flags(WRITE)
        .acl(acl::STREAM)
        .keys(&[KeySpec::at(2).flags(KEY_RW | KEY_DELETE)])
        .since("5.0.0"),
    Command::new("xgroup|help", 2, group::xgroup_help).flags(LOADING | STALE).acl(acl::STREAM).since("5.0.0"),
    Command::new("xgroup|setid", -5, group::xgroup_setid)
        .flags(WRITE)
        .acl(acl::STREAM)
        .keys(&[KeySpec::at(2).flags(KEY_RW | KEY_UPDATE)])
        .since("5.0.0"),
];

const XINFO: &[Command] = &[
    Command::new("xinfo|consumers", 4, info::xinfo_consumers)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(SECOND_READ)
        .tips(VARIES)
        .since("5.0.0"),
    Command::new("xinfo|groups", 3, info::xinfo_groups)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(SECOND_READ)
        .since("5.0.0"),
    Command::new("xinfo|help", 2, info::xinfo_help).flags(LOADING | STALE).acl(acl::STREAM).since("5.0.0"),
    Command::new("xinfo|stream", -3, info::xinfo_stream)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(SECOND_READ)
        .since("5.0.0"),
];

const READ: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RO | KEY_ACCESS)];
const SECOND_READ: &[KeySpec] = &[KeySpec::at(2).flags(KEY_RO | KEY_ACCESS)];
const UPDATE: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_UPDATE)];
const DELETE: &[KeySpec] = &[KeySpec::at(1).flags(KEY_RW | KEY_DELETE)];
const VARIES: &[&str] = &["nondeterministic_output"];

impl From<IdError> for CmdError {
    fn from(error: IdError) -> Self {
        CmdError::Text(match error {
            IdError::Invalid => "ERR Invalid stream ID specified as stream command argument",
            IdError::NothingAfter => "ERR invalid start ID for the interval",
            IdError::NothingBefore => "ERR invalid end ID for the interval",
        })
    }
}

/// The IDs that make up the rest of the arguments. None is acted on unless all are valid.
fn parse_ids(args: &[&[u8]]) -> Result<Vec<StreamId>, IdError> {
    args.iter().map(|arg| StreamId::parse(arg, 0)).collect()
}

/// An ID as a bulk string.
fn reply_id(reply: &mut Reply, id: StreamId) {
    reply.bulk(&id.text());
}

/// An entry: its ID and an array of names and values.
fn reply_entry(reply: &mut Reply, entry: &Entry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    let fields = entry.fields();
    reply.array(fields.len() * 2);
    let mut digits = itoa::Buffer::new();
    for (name, value) in fields {
        reply.bulk(name.text(&mut digits));
        reply.bulk(value.text(&mut digits));
    }
}

/// An array of entries, as they come.
fn reply_entries<'e>(reply: &mut Reply, entries: impl Iterator<Item = Entry<'e>>) {
    let start = reply.begin();
    let mut len = 0;
    for entry in entries {
        reply_entry(reply, &entry);
        len += 1;
    }
    reply.end_array(start, len);
}

/// An integer or null.
fn reply_optional(reply: &mut Reply, value: Option<i64>) {
    match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    }
}

/// A count of a stream as an integer reply.
fn reply_count(reply: &mut Reply, count: u64) {
    reply.integer(count.cast_signed());
}

/// `NOGROUP` where the command asks for a key and a group at once.
fn no_key_or_group(key: &[u8], group: &[u8]) -> CmdError {
    CmdError::quoting("NOGROUP No such key '{}' or consumer group '{}'", &[key, group])
}

/// `NOGROUP` where the key is known to be a stream.
fn no_group(key: &[u8], group: &[u8]) -> CmdError {
    CmdError::quoting("NOGROUP No such consumer group '{}' for key name '{}'", &[group, key])
}

/// Counts a change of a group. Redis does not call the key modified by it: neither WATCH nor tracking sees it, and
/// nobody who waits for entries is woken.
fn changed_group(ctx: &mut Ctx, changes: usize) {
    ctx.db.effects.dirty += changes as u64;
}

/// The consumer of this name, made if it is not there; whether it was made. Counts that as a change and announces it.
fn find_or_create_consumer(ctx: &mut Ctx, key: Key<'_>, group: &[u8], name: &[u8]) -> Option<(ConsumerIdx, bool)> {
    let now_ms = ctx.now_ms;
    let group = group_mut(ctx, key, group)?;
    let found = group.find_consumer(name);
    let is_new = found.is_none();
    let consumer = found.or_else(|| group.create_consumer(name, now_ms))?;
    group.consumer_mut(consumer).seen_time_ms = now_ms;
    if is_new {
        changed_group(ctx, 1);
        ctx.db.notify(KeyspaceEvents::STREAM, "xgroup-createconsumer", key);
    }
    Some((consumer, is_new))
}

/// A group to be changed, if key and group exist.
fn group_mut<'c>(ctx: &'c mut Ctx<'_, '_>, key: Key<'_>, group: &[u8]) -> Option<&'c mut Group> {
    let stream = ctx.db.write_as::<Stream>(key).ok()??;
    stream.group_mut(group).map(|(_, group)| group)
}

/// What became pending, to be said in the log: `XCLAIM key group consumer 0 id TIME t RETRYCOUNT n FORCE JUSTID
/// LASTID last-id` makes the same pending entry anywhere, however often it is run.
struct PendingRecord {
    id: StreamId,
    consumer: Box<[u8]>,
    delivery_time_ms: i64,
    delivery_count: u64,
    group_last_id: StreamId,
}

impl PendingRecord {
    fn new(pending: &Pending<'_>, group_last_id: StreamId) -> Self {
        PendingRecord {
            id: pending.id,
            consumer: pending.consumer.into(),
            delivery_time_ms: pending.delivery_time_ms,
            delivery_count: pending.delivery_count,
            group_last_id,
        }
    }

    fn propagate(&self, ctx: &mut Ctx, key: &[u8], group: &[u8]) {
        let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
        ctx.propagate_as(&[
            b"XCLAIM",
            key,
            group,
            &self.consumer,
            b"0",
            &self.id.text(),
            b"TIME",
            time.format(self.delivery_time_ms).as_bytes(),
            b"RETRYCOUNT",
            count.format(self.delivery_count).as_bytes(),
            b"FORCE",
            b"JUSTID",
            b"LASTID",
            &self.group_last_id.text(),
        ]);
    }
}

/// Says in the log how far a group has read, where no pending entry says it.
fn propagate_group_id(ctx: &mut Ctx, key: &[u8], group: &[u8], last_id: StreamId, entries_read: Option<u64>) {
    let entries_read = entries_read.map_or(-1, u64::cast_signed);
    ctx.propagate_as(&[
        b"XGROUP",
        b"SETID",
        key,
        group,
        &last_id.text(),
        b"ENTRIESREAD",
        itoa::Buffer::new().format(entries_read).as_bytes(),
    ]);
}
