//! Taking over what is pending for others: XCLAIM, XAUTOCLAIM.

use super::{
    PendingRecord, changed_group, find_or_create_consumer, no_key_or_group, propagate_group_id, reply_entry, reply_id,
};
use crate::command::args::Args;
use crate::command::ctx::Ctx;
use crate::command::error::{CmdError, CmdResult};
use crate::keyspace::Key;
use crate::resp::reply::Reply;
use redstart_types::number;
use redstart_types::stream::{Claim, Claimed, Stream, StreamId};

/// The IDs and options of XCLAIM.
struct ClaimOptions {
    ids: Vec<StreamId>,
    claim: Claim,
    /// LASTID: where the group has at least got to.
    last_id: StreamId,
}

/// `XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-ms] [RETRYCOUNT count] [FORCE]
/// [JUSTID] [LASTID id]`: array of the entries, or with JUSTID the IDs, that now are pending for the consumer. A
/// pending entry that the stream has no longer is dropped.
/// The log gets an XCLAIM for each pending entry changed or dropped. Source: Redis 7.2 XCLAIM.
pub(super) fn xclaim(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, group, consumer) = (args.key()?, args.bytes()?, args.bytes()?);
    check_group(ctx, key, group)?;
    let options = ClaimOptions::parse(ctx, args)?;
    ctx.propagate_nothing();

    let Some((consumer, _)) = find_or_create_consumer(ctx, key, group, consumer) else { return Ok(()) };
    let recording = ctx.db.effects.recording;
    let reply = &mut *ctx.reply;
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else { return Ok(()) };
    let Some((entries, group_of_key)) = stream.group_mut(group) else { return Ok(()) };
    let moves_on = options.last_id > group_of_key.last_id;
    group_of_key.last_id = group_of_key.last_id.max(options.last_id);
    let last_id = group_of_key.last_id;
    let entries_read = group_of_key.entries_read;

    let start = reply.begin();
    let (mut claimed_len, mut changes, mut records) = (0, 0, Vec::new());
    for &id in &options.ids {
        let Some(claimed) = group_of_key.claim(entries, consumer, id, &options.claim) else { continue };
        claimed_len += usize::from(reply_claimed(reply, &claimed, options.claim.just_id));
        changes += 1;
        if recording {
            records.push(PendingRecord::new(claimed.pending(), last_id));
        }
    }
    reply.end_array(start, claimed_len);

    changed_group(ctx, changes);
    for record in records {
        record.propagate(ctx, key.bytes, group);
    }
    if moves_on && changes == 0 {
        changed_group(ctx, 1);
        propagate_group_id(ctx, key.bytes, group, last_id, entries_read);
    }
    Ok(())
}

/// `XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]`: array of three: the ID to go on from
/// (`0-0` at the end), the entries or with JUSTID the IDs claimed, and the IDs dropped since the stream has them no
/// longer. The log gets what XCLAIM puts there. Source: Redis 7.2 XAUTOCLAIM.
pub(super) fn xautoclaim(ctx: &mut Ctx, args: &mut Args) -> CmdResult {
    let (key, group, consumer) = (args.key()?, args.bytes()?, args.bytes()?);
    // The key is looked up first, though it is an error in the arguments that is told first.
    let found = check_group(ctx, key, group);
    let min_idle_ms = min_idle_ms(args, "ERR Invalid min-idle-time argument for XAUTOCLAIM")?;
    let from = StreamId::parse_range_start(args.bytes()?)?;
    let (count, just_id) = parse_auto_claim(args)?;
    found?;
    ctx.propagate_nothing();

    let Some((consumer, _)) = find_or_create_consumer(ctx, key, group, consumer) else { return Ok(()) };
    let (now_ms, recording) = (ctx.now_ms, ctx.db.effects.recording);
    let claim = Claim { now_ms, min_idle_ms, delivery_time_ms: now_ms, retry_count: None, force: false, just_id };
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else { return Ok(()) };
    let Some((entries, group_of_key)) = stream.group_mut(group) else { return Ok(()) };
    let last_id = group_of_key.last_id;
    ctx.reply.array(3);
    let (whole, elements) = (ctx.reply.begin(), ctx.reply.begin());
    let (mut claimed_len, mut deleted, mut records) = (0, Vec::new(), Vec::new());
    let mut changes = 0;
    let next = group_of_key.auto_claim(entries, consumer, from, count, &claim, |claimed| {
        if reply_claimed(ctx.reply, &claimed, just_id) {
            claimed_len += 1;
        } else {
            deleted.push(claimed.pending().id);
        }
        changes += 1;
        if recording {
            records.push(PendingRecord::new(claimed.pending(), last_id));
        }
    });
    ctx.reply.end_array(elements, claimed_len);
    ctx.reply.end_with_bulk(whole, &next.text());
    ctx.reply.array(deleted.len());
    deleted.into_iter().for_each(|id| reply_id(ctx.reply, id));

    changed_group(ctx, changes);
    for record in records {
        record.propagate(ctx, key.bytes, group);
    }
    Ok(())
}

/// The entry, or its ID alone; false, and nothing appended, if the stream has it no longer.
fn reply_claimed(reply: &mut Reply, claimed: &Claimed<'_>, just_id: bool) -> bool {
    match claimed {
        Claimed::Entry(entry, _) if just_id => reply_id(reply, entry.id),
        Claimed::Entry(entry, _) => reply_entry(reply, entry),
        Claimed::Deleted(_) => return false,
    }
    true
}

impl ClaimOptions {
    /// Reads argv from `min-idle-time` on. The IDs end where an argument is none.
    fn parse(ctx: &Ctx, args: &mut Args) -> CmdResult<ClaimOptions> {
        let now_ms = ctx.now_ms;
        let min_idle_ms = min_idle_ms(args, "ERR Invalid min-idle-time argument for XCLAIM")?;
        let mut claim =
            Claim { now_ms, min_idle_ms, delivery_time_ms: now_ms, retry_count: None, force: false, just_id: false };
        let mut ids = Vec::new();
        while let Some(id) = args.peek().and_then(|arg| StreamId::parse(arg, 0).ok()) {
            ids.push(id);
            args.bytes()?;
        }
        let (mut delivery_time_ms, mut retry_count, mut last_id) = (-1, -1, StreamId::MIN);
        while let Some(option) = args.optional() {
            let has_more = !args.is_empty();
            let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes());
            if is("FORCE") {
                claim.force = true;
            } else if is("JUSTID") {
                claim.just_id = true;
            } else if is("IDLE") && has_more {
                delivery_time_ms = now_ms.wrapping_sub(int(args, "ERR Invalid IDLE option argument for XCLAIM")?);
            } else if is("TIME") && has_more {
                delivery_time_ms = int(args, "ERR Invalid TIME option argument for XCLAIM")?;
            } else if is("RETRYCOUNT") && has_more {
                retry_count = int(args, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
            } else if is("LASTID") && has_more {
                last_id = StreamId::parse(args.bytes()?, 0)?;
            } else {
                return Err(CmdError::quoting("ERR Unrecognized XCLAIM option '{}'", &[option]));
            }
        }
        // A time that makes no sense is one computed from a client's own clock: not worth an error.
        if (0..=now_ms).contains(&delivery_time_ms) {
            claim.delivery_time_ms = delivery_time_ms;
        }
        claim.retry_count = u64::try_from(retry_count).ok();
        Ok(ClaimOptions { ids, claim, last_id })
    }
}

fn parse_auto_claim(args: &mut Args) -> CmdResult<(u64, bool)> {
    let (mut count, mut just_id) = (100, false);
    while !args.is_empty() {
        if args.remaining() > 1 && args.flag("COUNT") {
            count = int(args, BAD_COUNT)?.cast_unsigned();
            if !(1..=MAX_AUTO_CLAIM).contains(&count) {
                return Err(CmdError::Text(BAD_COUNT));
            }
        } else if args.flag("JUSTID") {
            just_id = true;
        } else {
            return Err(CmdError::Syntax);
        }
    }
    Ok((count, just_id))
}

fn check_group(ctx: &mut Ctx, key: Key<'_>, group: &[u8]) -> CmdResult {
    let exists = ctx.db.read_as::<Stream>(key)?.is_some_and(|stream| stream.group(group).is_some());
    if exists { Ok(()) } else { Err(no_key_or_group(key.bytes, group)) }
}

fn min_idle_ms(args: &mut Args, error: &'static str) -> CmdResult<i64> {
    Ok(int(args, error)?.max(0))
}

fn int(args: &mut Args, error: &'static str) -> CmdResult<i64> {
    number::parse_int(args.bytes()?).ok_or(CmdError::Text(error))
}

/// The greatest COUNT that XAUTOCLAIM takes: as many IDs as Redis could remember.
const MAX_AUTO_CLAIM: u64 = i64::MAX as u64 / 16;
const BAD_COUNT: &str = "ERR COUNT must be > 0";
